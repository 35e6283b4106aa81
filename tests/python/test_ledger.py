"""After whatever a client did wrong, nothing is stored and every account is back where it was."""

import numpy as np
import pyarrow as pa
import pytest

from calls import PATIENCE, act, command, get, path, put, refused, ticket
from tensors import sample, table_of
from test_bulk import bulk

BIG = sample("float32", (256, 16 * 1024))


def accounts(client):
    return {name: account["used_bytes"] for name, account in act(client, "stats")["memory"]["accounts"].items()}


def settled(client, wanted, tries=10_000):
    """Asks until the accounts are as wanted: what a broken call held goes back when its task has ended."""
    for _ in range(tries):
        seen = accounts(client)
        if seen == wanted:
            return seen
    return seen


def wrong_checksum(client):
    with refused("data_loss"):
        put(client, command(key="a", checksum="0" * 32), table_of(BIG), rows_per_batch=64)


def wrong_shape(client):
    with refused("invalid_argument"):
        put(client, path("a"), table_of(BIG, {"tensor.shape": "[3]"}), rows_per_batch=64)


def nulls_at_the_end(client):
    table = pa.table({"x": pa.chunked_array([pa.array(np.arange(1 << 20)), pa.array([1, None])])})
    with refused("invalid_argument", "null"):
        put(client, path("a"), table)


def larger_than_memory(client):
    with refused("resource_exhausted"):
        writer, replies = client.do_put(path("a"), table_of(BIG).schema, PATIENCE)
        with writer:
            for _ in range(20):
                writer.write_table(table_of(BIG))
            writer.done_writing()
            replies.read()


def size_bytes_larger_than_memory(client):
    with refused("resource_exhausted"):
        put(client, command(key="a", size_bytes=1 << 50), table_of(BIG), rows_per_batch=64)


def a_reader_that_leaves(client):
    put(client, path("gone"), table_of(BIG))
    reader = client.do_get(ticket(key="gone"), PATIENCE)
    reader.read_chunk()
    reader.cancel()
    del reader
    act(client, "delete", keys=["gone"])


def a_writer_that_leaves(client):
    writer, _ = client.do_put(command(key="a", size_bytes=BIG.nbytes * 2), table_of(BIG).schema, PATIENCE)
    writer.write_table(table_of(BIG), 64)
    del writer, _


def a_bulk_put_of_bad_rows(client):
    reply = put(client, command(), bulk([""] * 256, BIG), rows_per_batch=16)
    assert reply["stored"] == 0 and reply["errors_total"] == 256


def an_existing_key(client):
    put(client, path("twice"), table_of(BIG))
    with refused("already_exists"):
        put(client, path("twice"), table_of(-BIG))
    assert put(client, path("twice"), table_of(BIG))["existed"] == 1
    act(client, "delete", keys=["twice"])


WRONGS = [
    wrong_checksum,
    wrong_shape,
    nulls_at_the_end,
    larger_than_memory,
    size_bytes_larger_than_memory,
    a_reader_that_leaves,
    a_writer_that_leaves,
    a_bulk_put_of_bad_rows,
    an_existing_key,
]


@pytest.mark.parametrize("wrong", WRONGS, ids=lambda wrong: wrong.__name__)
def test_the_ledger_is_back_where_it_was(fresh_client, wrong):
    # Once before, so that what stays warm for reuse is there in both readings.
    wrong(fresh_client)
    put(fresh_client, path("kept"), table_of(BIG))
    entries = act(fresh_client, "stats")["entries"]
    before = accounts(fresh_client)
    for _ in range(3):
        wrong(fresh_client)
    assert settled(fresh_client, before) == before
    assert act(fresh_client, "stats")["entries"] == entries
    with refused("not_found"):
        get(fresh_client, key="a")
