"""Puts and actions that are tried again where that helps; copy it beside your own. The examples for pipelines import it."""

import json, random, time

import pyarrow as pa, pyarrow.flight as flight

WAITS_S = [0.1, 0.5, 2, 8]
BATCH_BYTES = 4 << 20
TIMEOUT_S = 300


def put_rows(client, table, **command):
    """Puts each row as an entry; gives the server's answer. Safe to repeat: a row that has arrived counts as `existed`."""
    where = flight.FlightDescriptor.for_command(json.dumps(command))
    rows = max(1, BATCH_BYTES * table.num_rows // max(1, table.nbytes))

    def put():
        writer, replies = client.do_put(where, table.schema, flight.FlightCallOptions(timeout=TIMEOUT_S))
        with writer:
            writer.write_table(table, max_chunksize=rows)
            writer.done_writing()
            reply = json.loads(replies.read().to_pybytes())
        if reply["errors_total"]:
            raise ValueError(f"{reply['errors_total']} rows were refused; the first: {reply['errors'][0]}")
        return reply

    return retried(put)


def act(client, action, **body):
    """One action: JSON in, JSON out."""
    request, options = (action, json.dumps(body).encode()), flight.FlightCallOptions(timeout=TIMEOUT_S)
    (result,) = retried(lambda: list(client.do_action(request, options)))
    return json.loads(result.body.to_pybytes())


def retried(call):
    """Tries again while the server is away (`unavailable`) or has no room (`resource_exhausted`)."""
    for wait_s in [*WAITS_S, None]:
        try:
            return call()
        except (pa.ArrowException, ValueError) as error:
            if wait_s is None or not any(code in str(error) for code in ("unavailable", "resource_exhausted")):
                raise
            time.sleep(wait_s * random.uniform(0.5, 1.5))
