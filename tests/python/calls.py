"""The verbs, two lines each, on a plain `pyarrow.flight` client."""

import contextlib
import json
import re

import pyarrow as pa
import pyarrow.flight as flight
import pytest

#: Nothing is judged by its time: a call that hangs becomes a failure of its own test, no more.
PATIENCE = flight.FlightCallOptions(timeout=240)

CODES = (
    "not_found already_exists invalid_argument resource_exhausted failed_precondition not_modified moved "
    "unauthenticated permission_denied unavailable deadline_exceeded cancelled unimplemented data_loss internal"
).split()


def path(*parts):
    return flight.FlightDescriptor.for_path(*parts)


def command(**members):
    return flight.FlightDescriptor.for_command(json.dumps(members))


def ticket(**members):
    return flight.Ticket(json.dumps(members).encode())


def put(client, where, table, rows_per_batch=None):
    """Puts a table and gives the one `PutResult` as a dictionary."""
    writer, replies = client.do_put(where, table.schema, PATIENCE)
    with writer:
        for batch in table.to_batches(max_chunksize=rows_per_batch):
            writer.write_batch(batch)
        writer.done_writing()
        reply, after = replies.read(), replies.read()
    assert after is None, "one PutResult, at the end"
    return json.loads(reply.to_pybytes())


def get(client, **members):
    return client.do_get(ticket(**members), PATIENCE).read_all()


def chunks(client, **members):
    """The stream message by message: pairs of a record batch and its `app_metadata`, or None."""
    reader = client.do_get(ticket(**members), PATIENCE)
    pairs = []
    with contextlib.suppress(StopIteration):
        while True:
            chunk = reader.read_chunk()
            pairs.append((chunk.data, chunk.app_metadata and json.loads(chunk.app_metadata.to_pybytes())))
    return reader.schema, pairs


def act(client, action, **body):
    """One action: JSON in, one JSON out."""
    (result,) = client.do_action(flight.Action(action, json.dumps(body).encode()), PATIENCE)
    return json.loads(result.body.to_pybytes())


def message_of(error):
    """The server's own sentence: PyArrow puts its words before and gRPC's behind it."""
    text = str(error).partition("with message: ")[2] or str(error)
    return re.split(r"\. (?:Detail|gRPC client debug context|Client context): ", text)[0]


@contextlib.contextmanager
def refused(code, *fragments):
    """The body must be refused with this code at the start of the message, and with these words in it."""
    assert code in CODES
    with pytest.raises((pa.ArrowException, flight.FlightError, OSError, KeyError)) as caught:
        yield caught
    message = message_of(caught.value)
    assert message.partition(":")[0] == code, f"expected {code}, got {message!r}"
    for fragment in fragments:
        assert fragment in message, f"expected {fragment!r} in {message!r}"
    caught.message = message
