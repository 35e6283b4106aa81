"""After whatever a client did wrong, nothing is stored and every account is back where it was."""

import pathlib
import subprocess
import sys
import urllib.request

import numpy as np
import pyarrow as pa
import pytest
import xxhash

from calls import PATIENCE, act, command, get, path, put, refused, ticket
from tensors import sample, table_of
from test_bulk import bulk

BIG = sample("float32", (256, 16 * 1024))


GAUGES = ("arena_used_bytes", "puts_reserved_bytes", "puts_waiting", "readers_held_bytes", "reads_open", "entries")


def memory(server, client):
    """What is in use. The accounts of the arena and the index are what they have touched and grown to, which stays for
    reuse and grows ahead of need: of them, the gauges tell what is taken."""
    accounts = act(client, "stats")["memory"]["accounts"]
    seen = {name: account["used_bytes"] for name, account in accounts.items() if name not in ("arena", "index")}
    with urllib.request.urlopen(f"{server.http}/metrics") as answer:
        for line in answer.read().decode().splitlines():
            name, _, value = line.removeprefix("bowstring_").partition(" ")
            if name in GAUGES:
                seen[name] = int(value)
    assert set(GAUGES) < set(seen)
    return seen


def settled(server, client, right, tries=2_000):
    """Asks until memory is right: what a broken call held goes back when its task has ended."""
    for _ in range(tries):
        seen = memory(server, client)
        if right(seen):
            break
    return seen


def idle(seen):
    return not any(seen[name] for name in ("puts_reserved_bytes", "puts_waiting", "readers_held_bytes", "reads_open"))


def wrong_checksum(server, client):
    with refused("data_loss"):
        put(client, command(key="a", checksum="0" * 32), table_of(BIG), rows_per_batch=64)


def wrong_shape(server, client):
    with refused("invalid_argument"):
        put(client, path("a"), table_of(BIG, {"tensor.shape": "[3]"}), rows_per_batch=64)


def nulls_at_the_end(server, client):
    table = pa.table({"x": pa.chunked_array([pa.array(np.arange(1 << 20)), pa.array([1, None])])})
    with refused("invalid_argument", "null"):
        put(client, path("a"), table)


def larger_than_memory(server, client):
    with refused("resource_exhausted"):
        writer, replies = client.do_put(path("a"), table_of(BIG).schema, PATIENCE)
        with writer:
            for _ in range(20):
                writer.write_table(table_of(BIG))
            writer.done_writing()
            replies.read()


def size_bytes_larger_than_memory(server, client):
    with refused("resource_exhausted"):
        put(client, command(key="a", size_bytes=1 << 50), table_of(BIG), rows_per_batch=64)


def a_reader_that_leaves(server, client):
    put(client, path("gone"), table_of(BIG))
    reader = client.do_get(ticket(key="gone"), PATIENCE)
    reader.read_chunk()
    reader.cancel()
    del reader
    act(client, "delete", keys=["gone"])


def a_writer_that_is_killed(server, client):
    """A process of its own, that says when half is sent: `del writer` would end the stream in good order."""
    source = f"""
import sys
sys.path.insert(0, {str(pathlib.Path(__file__).parent)!r})
import pyarrow.flight as flight
from calls import command
from tensors import table_of
import test_ledger
writer, _ = flight.connect({server.uri!r}).do_put(command(key="a", size_bytes={BIG.nbytes}), table_of(test_ledger.BIG).schema)
writer.write_table(table_of(test_ledger.BIG[:128]), 64)
print("half", flush=True)
sys.stdin.read()
"""
    with subprocess.Popen([sys.executable, "-c", source], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"half\n"
        process.kill()


def an_exception_within_the_put(server, client):
    """PyArrow's context manager ends the stream in good order, so only what was said before can tell."""
    table = table_of(BIG, {"tensor.shape": str(list(BIG.shape))})
    with refused("invalid_argument", "tensor.shape"):
        writer, _ = client.do_put(path("a"), table.schema, PATIENCE)
        with writer:
            writer.write_table(table[:128])
            raise KeyError("a bug of the user's")


def an_exception_within_a_put_with_a_checksum(server, client):
    checksum = xxhash.xxh3_128_hexdigest(BIG)
    with refused("data_loss", checksum):
        writer, _ = client.do_put(command(key="a", checksum=checksum), table_of(BIG).schema, PATIENCE)
        with writer:
            writer.write_table(table_of(BIG[:128]))
            raise KeyError("a bug of the user's")


def a_bulk_put_of_bad_rows(server, client):
    reply = put(client, command(), bulk([""] * 256, BIG), rows_per_batch=16)
    assert reply["stored"] == 0 and reply["errors_total"] == 256


def an_existing_key(server, client):
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
    a_writer_that_is_killed,
    an_exception_within_the_put,
    an_exception_within_a_put_with_a_checksum,
    a_bulk_put_of_bad_rows,
    an_existing_key,
]


@pytest.mark.parametrize("wrong", WRONGS, ids=lambda wrong: wrong.__name__)
def test_the_ledger_is_back_where_it_was(fresh, fresh_client, wrong):
    put(fresh_client, path("kept"), table_of(BIG))
    # Once before, so that what stays warm for reuse is there in both readings.
    wrong(fresh, fresh_client)
    before = settled(fresh, fresh_client, idle)
    for _ in range(3):
        wrong(fresh, fresh_client)
    assert idle(before) and before["entries"] == 1
    assert settled(fresh, fresh_client, before.__eq__) == before
    with refused("not_found"):
        get(fresh_client, key="a")
