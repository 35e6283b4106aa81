"""What does not fit in memory, by a plain PyArrow client: flush, evict, prewarm, and gets of what is below."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.flight as flight
import pytest

from calls import PATIENCE, act, command, get, path, put
from server import Server
from tensors import array_of, same, sample, table_of
from test_bulk import bulk

ARRAY = sample("float32", (200, 16))
KEYS = [f"k{at:03}" for at in range(200)]


@pytest.fixture
def cold(tmp_path):
    flags = ("--cold", f"file://{tmp_path}/store", "--state-dir", tmp_path / "state")
    with Server(*flags, memory="64MiB") as running, flight.connect(running.uri) as client:
        put(client, command(), bulk(KEYS, ARRAY))
        yield client


def tiers(client, keys):
    return [key["tier"] for key in act(client, "describe", keys=keys)["keys"]]


def test_what_was_evicted_is_got_by_one_key_and_by_many(cold):
    assert act(cold, "flush") == {"entries": 200}
    reply = act(cold, "evict", keys=[*KEYS[:3], "x"])
    assert reply["entries"] == 3
    assert [key["found"] for key in reply["keys"]] == [True, True, True, False]
    assert tiers(cold, KEYS[:4]) == ["cold", "cold", "cold", "hot"]
    assert act(cold, "evict", prefix="") == {"entries": 197}
    info = cold.get_flight_info(path("k007"), PATIENCE)
    assert json.loads(info.app_metadata)["tier"] == "cold"
    one = cold.do_get(info.endpoints[0].ticket, PATIENCE).read_all()
    assert one["tensor"].to_numpy().tobytes() == ARRAY[7].tobytes()
    table = get(cold, keys=KEYS[::-1])
    assert table["key"].to_pylist() == KEYS[::-1]
    got = table["tensor"].combine_chunks().to_numpy_ndarray()
    assert got.tobytes() == ARRAY[::-1].tobytes()


def test_a_namespace_that_is_compressed(tmp_path):
    """On the wire nothing of it is seen; in the store the tensors are blobs that say so, which PyArrow reads."""
    arrays = {"zeros": np.zeros((3, 1 << 20), "uint8"), "counts": np.arange(5000, dtype="int64"), "noise": ARRAY}
    flags = ("--cold", f"file://{tmp_path}/store", "--state-dir", tmp_path / "state")
    with Server(*flags, memory="64MiB") as running, flight.connect(running.uri) as client:
        act(client, "namespace_set", settings={"compression": "zstd"})
        for key, array in arrays.items():
            put(client, path(key), table_of(array))
        assert act(client, "flush") == {"entries": 3}
        assert act(client, "evict", prefix="")["entries"] == 3
        for key, array in arrays.items():
            assert same(array_of(get(client, key=key)), array)
        figures = act(client, "stats")["cold"]
        assert figures["compressed_bytes"] == (3 << 20) + 40_000
        assert figures["compressed_stored_bytes"] < figures["compressed_bytes"] / 4
    found = {}
    for file in (tmp_path / "store").rglob("*.arrow"):
        table = pa.ipc.open_file(file).read_all()
        if "encoding" in table.column_names:
            found.update(zip(table["key"].to_pylist(), zip(table["encoding"].to_pylist(), table["data"].to_pylist())))
    assert {found[key][0] for key in ("zeros", "counts")} == {"zstd"}
    for key in ("zeros", "counts"):
        data = arrays[key].tobytes()
        assert pa.decompress(found[key][1], decompressed_size=len(data), codec="zstd", asbytes=True) == data


def test_prewarm_brings_keys_back(cold):
    act(cold, "evict", prefix="")
    assert act(cold, "exists", keys=KEYS)["leading"] == 200
    listed = cold.list_flights(json.dumps({"prefix": "k19"}).encode(), PATIENCE)
    assert [info.descriptor.path[-1].decode() for info in listed] == KEYS[190:]
    assert act(cold, "prewarm", prefix="k19") == {"entries": 10}
    assert tiers(cold, KEYS[188:192]) == ["cold", "cold", "hot", "hot"]
    assert act(cold, "prewarm", keys=KEYS[188:192])["entries"] == 2
    figures = act(cold, "stats")["cold"]
    assert (figures["entries"], figures["promoted"]) == (200, 12)
