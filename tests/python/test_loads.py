"""Loads: puts that carry a `load_id` are invisible until it is committed, all at once."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.flight as flight
import pytest

from calls import PATIENCE, act, chunks, command, get, path, put, refused
from server import Server
from tensors import array_of, same, sample, table_of
from test_bulk import bulk

ARRAY = sample("float32", (5, 3))


def begin(client, namespace, **members):
    return act(client, "begin_load", namespace=namespace, **members)["load_id"]


def end(client, how, load):
    return act(client, f"{how}_load", load_id=load)


def keys(client, namespace):
    return get(client, namespace=namespace, prefix="")["key"].to_pylist()


@pytest.fixture
def filled(client, namespace):
    put(client, command(namespace=namespace), bulk(["a", "b", "c"], ARRAY[:3]))
    return namespace


def load_of(client, namespace, **members):
    """A load of `b` and `d`."""
    load = begin(client, namespace, **members)
    reply = put(client, command(namespace=namespace, load_id=load), bulk(["b", "d"], ARRAY[3:]))
    assert (reply["stored"], reply["existed"], reply["errors_total"]) == (2, 0, 0)
    return load


@pytest.mark.parametrize("replace_all", [False, True])
def test_nothing_shows_before_the_commit_and_all_of_it_after(client, filled, replace_all):
    load = load_of(client, filled, replace_all=replace_all)
    assert keys(client, filled) == ["a", "b", "c"]
    assert same(array_of(get(client, namespace=filled, key="b")), ARRAY[1])
    with refused("not_found"):
        get(client, namespace=filled, key="d")
    assert act(client, "exists", namespace=filled, keys=["b", "d"])["leading"] == 1
    assert end(client, "commit", load) == {"load_id": load, "entries": 2, "bytes": 24}
    assert keys(client, filled) == (["b", "d"] if replace_all else ["a", "b", "c", "d"])
    assert same(array_of(get(client, namespace=filled, key="b")), ARRAY[3])
    spaces = {row["namespace"]: row for row in act(client, "namespaces")["namespaces"]}
    assert spaces[filled]["entries"] == (2 if replace_all else 4)
    assert end(client, "commit", load)["entries"] == 2


@pytest.mark.parametrize("replace_all", [False, True])
def test_rollback_restores_what_was_before_and_keeps_what_came_after(client, filled, replace_all):
    load = load_of(client, filled, replace_all=replace_all)
    end(client, "commit", load)
    put(client, path(filled, "e"), table_of(ARRAY))
    act(client, "delete", namespace=filled, keys=["d"])
    end(client, "rollback", load)
    assert keys(client, filled) == ["a", "b", "c", "e"]
    assert same(array_of(get(client, namespace=filled, key="b")), ARRAY[1])
    end(client, "rollback", load)
    with refused("failed_precondition", "rolled back"):
        end(client, "commit", load)


def test_only_the_last_load_can_be_rolled_back(client, filled):
    first, second = (load_of(client, filled, replace_all=True) for _ in range(2))
    end(client, "commit", first)
    end(client, "commit", second)
    with refused("failed_precondition", "not held any more"):
        end(client, "rollback", first)
    end(client, "rollback", second)
    assert keys(client, filled) == ["b", "d"]


def test_abort_leaves_nothing(client, filled):
    load = load_of(client, filled)
    end(client, "abort", load)
    end(client, "abort", load)
    assert keys(client, filled) == ["a", "b", "c"]
    with refused("failed_precondition", "aborted"):
        end(client, "commit", load)
    with refused("failed_precondition", "aborted"):
        put(client, command(namespace=filled, load_id=load, key="x"), table_of(ARRAY))


def test_mode_is_judged_by_the_loads_own_keys(client, filled):
    load = begin(client, filled)
    where = command(namespace=filled, load_id=load, key="a")
    assert put(client, where, table_of(ARRAY))["stored"] == 1
    assert put(client, where, table_of(ARRAY))["existed"] == 1
    with refused("already_exists"):
        put(client, where, table_of(ARRAY[1:]))
    end(client, "commit", load)
    assert same(array_of(get(client, namespace=filled, key="a")), ARRAY)


@pytest.mark.parametrize("how", ["commit", "abort", "rollback"])
def test_ids_that_are_none(client, namespace, how):
    with refused("not_found", "99-12345678"):
        end(client, how, "99-12345678")
    with refused("invalid_argument", "load_id"):
        act(client, f"{how}_load")
    with refused("invalid_argument", "replace_all"):
        act(client, "begin_load", namespace=namespace, replace_all="yes")


def test_a_put_names_the_namespace_of_its_load(client, namespace):
    load = begin(client, namespace)
    with refused("not_found", load):
        put(client, command(namespace="elsewhere", load_id=load), bulk(["a"], ARRAY[:1]))
    with refused("not_found", load):
        put(client, command(namespace="elsewhere", load_id=load, key="a"), table_of(ARRAY))
    end(client, "abort", load)


KILLED = """
import sys
sys.path.insert(0, sys.argv[1])
import os, signal
import pyarrow.flight as flight
from calls import command
from tensors import sample
from test_bulk import bulk
client = flight.connect(sys.argv[2])
table = bulk([str(n) for n in range(1000)], sample("float32", (1000, 8)))
writer, _ = client.do_put(command(namespace=sys.argv[3], load_id=sys.argv[4]), table.schema)
for batch in table.to_batches(max_chunksize=100):
    writer.write_batch(batch)
print("written", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_writer_leaves_the_load_open_and_what_shows_as_it_was(client, server, filled):
    load = load_of(client, filled, replace_all=True)
    here = os.path.dirname(os.path.abspath(__file__))
    killed = subprocess.run([sys.executable, "-c", KILLED, here, server.uri, filled, load], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL and "written" in killed.stdout, killed.stderr
    assert keys(client, filled) == ["a", "b", "c"]
    end(client, "abort", load)
    assert keys(client, filled) == ["a", "b", "c"]


def test_a_forgotten_load_goes_and_one_that_is_too_late_for_a_rollback():
    with Server("--load-idle", "500ms", "--load-rollback", "200ms", memory="256MiB") as server:
        with flight.connect(server.uri) as client:
            put(client, command(namespace="n"), bulk(["a", "b", "c"], ARRAY[:3]))
            forgotten = load_of(client, "n")
            committed = load_of(client, "n")
            end(client, "commit", committed)
            while act(client, "stats")["counters"]["loads_expired"] < 1:
                time.sleep(0.05)
            with refused("not_found", forgotten):
                end(client, "commit", forgotten)
            with refused("not_found", forgotten):
                put(client, command(namespace="n", load_id=forgotten), bulk(["x"], ARRAY[:1]))
            with pytest.raises((pa.ArrowException, flight.FlightError, KeyError)) as late:
                end(client, "rollback", committed)
            assert "not_found" in str(late.value) or "failed_precondition" in str(late.value)
            assert keys(client, "n") == ["a", "b", "c", "d"]
            assert act(client, "stats")["entries"] == 4


def test_readers_see_one_generation_or_the_other(server, client, namespace):
    """Each generation has one value in all of its keys; no multi-get and no prefix get has two."""
    names = [f"k{n:02}" for n in range(40)]
    generation = lambda value: bulk(names, np.full((len(names), 4), value, dtype="float32"))  # noqa: E731
    load = begin(client, namespace, replace_all=True)
    put(client, command(namespace=namespace, load_id=load), generation(0))
    end(client, "commit", load)
    reader = subprocess.Popen(
        [sys.executable, "-c", READER, os.path.dirname(os.path.abspath(__file__)), server.uri, namespace, json.dumps(names)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert reader.stdout.readline() == "begun\n"
    for value in range(1, 40):
        load = begin(client, namespace, replace_all=value % 2 == 0)
        put(client, command(namespace=namespace, load_id=load), generation(value))
        end(client, "commit", load)
        if value % 3 == 0:
            end(client, "rollback", load)
    reader.stdin.close()
    said = reader.stdout.read()
    assert reader.wait() == 0 and said.startswith("never mixed"), said


READER = """
import sys
sys.path.insert(0, sys.argv[1])
import json, threading
import pyarrow.flight as flight
from calls import get
from tensors import array_of
client, namespace, names = flight.connect(sys.argv[2]), sys.argv[3], json.loads(sys.argv[4])
ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
print("begun", flush=True)
rounds, mixed = 0, []
while not ended.is_set() or rounds < 3:
    for which in ({"keys": names}, {"prefix": "", "dtype": "float32", "shape": [4]}):
        table = get(client, namespace=namespace, **which)
        values = {row[0] for row in table["tensor"].combine_chunks().storage.to_pylist()}
        if len(values) > 1:
            mixed.append(values)
    rounds += 1
print("never mixed" if not mixed else f"mixed {mixed}", rounds)
"""
