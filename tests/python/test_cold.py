"""What does not fit in memory, by a plain PyArrow client: flush, evict, prewarm, and gets of what is below."""

import json

import pyarrow.flight as flight
import pytest

from calls import PATIENCE, act, command, get, path, put
from server import Server
from tensors import sample
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
