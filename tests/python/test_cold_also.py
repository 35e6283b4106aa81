"""Another server's prefix (`--cold-also`), by a plain PyArrow client: that server is dead, and ours has never had its keys."""

import contextlib
import pathlib
import time

import numpy as np
import pyarrow as pa
import pyarrow.flight as flight
import pytest

from calls import PATIENCE, act, command, get, put, ticket
from server import Server
from tensors import sample
from test_bulk import bulk

ARRAY = sample("float32", (200, 16))
KEYS = [f"k{at:03}" for at in range(200)]
LARGE = np.random.default_rng(8).standard_normal((3, 1 << 18))


@pytest.fixture(scope="module")
def dead(tmp_path_factory):
    """The store of a server that was killed, and that lies nowhere else."""
    folder = tmp_path_factory.mktemp("dead")
    server = Server("--cold", f"file://{folder}/store", memory="64MiB")
    with flight.connect(server.uri) as client:
        put(client, command(wait="cold"), bulk(KEYS, ARRAY))
        put(client, command(key="large", wait="cold"), pa.table({"tensor": pa.FixedShapeTensorArray.from_numpy_ndarray(LARGE)}))
        act(client, "delete", keys=["k199"])
    server.process.kill()
    server.stop()
    pathlib.Path(server.log.name).unlink()
    return folder / "store"


@contextlib.contextmanager
def ours(folder, dead):
    """A client of a server that reads the dead one's prefix, once all of it is found."""
    flags = ("--cold", f"file://{folder}/store", "--cold-also", f"file://{dead}")
    with Server(*flags, memory="64MiB") as server, flight.connect(server.uri) as client:
        while not (cold := act(client, "stats")["cold"])["ready"] or cold["also_unread"]:
            time.sleep(0.01)
        yield client


def files(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_a_dead_servers_tensors_are_served_by_one_that_never_had_them(tmp_path, dead):
    before = files(dead)
    with ours(tmp_path, dead) as client:
        assert act(client, "exists", keys=KEYS)["leading"] == 199
        table = get(client, keys=KEYS[:199][::-1])
        assert table["key"].to_pylist() == KEYS[:199][::-1]
        assert table["tensor"].combine_chunks().to_numpy_ndarray().tobytes() == ARRAY[:199][::-1].tobytes()
        one = client.do_get(ticket(key="large"), PATIENCE).read_all()
        assert one["tensor"].combine_chunks().to_numpy_ndarray().tobytes() == LARGE.tobytes()
        rows = get(client, prefix="k01", layout="rows")
        assert rows["key"].to_pylist() == KEYS[10:20]
        with pytest.raises(KeyError, match="not_found"):
            get(client, key="k199")
        figures = act(client, "stats")["cold"]
        assert (figures["entries"], figures["also_entries"]) == (0, 200)
        assert figures["also_hits"] >= 200
    assert files(dead) == before, "it is only read"


def test_what_is_deleted_or_replaced_here_stays_so(tmp_path, dead):
    before = files(dead)
    with ours(tmp_path, dead) as client:
        assert act(client, "delete", keys=KEYS[:3])["deleted"] == 3
        put(client, command(key="k003", mode="replace", wait="cold"), pa.table({"tensor": ARRAY[9]}))
        assert act(client, "stats")["cold"]["also_hidden"] >= 3
    with ours(tmp_path, dead) as client:
        found = act(client, "exists", keys=KEYS[:6])["keys"]
        assert [key["found"] for key in found] == [False, False, False, True, True, True]
        assert get(client, key="k003")["tensor"].to_numpy().tobytes() == ARRAY[9].tobytes()
    assert files(dead) == before
