"""Prefixes show both tiers: gets, GetFlightInfo and its partitions over ten times the memory, and what goes meanwhile."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.flight as flight
import pytest

from calls import PATIENCE, act, chunks, command, get, put, ticket
from server import Server
from test_bulk import bulk

MIB = 1 << 20
SMALL = np.random.default_rng(3).standard_normal((3_000, 128), dtype=np.float64)
LARGE = np.random.default_rng(4).standard_normal((20, 2 * MIB // 8), dtype=np.float64)
#: The large ones again and again: 320 MiB.
LARGE_KEYS = [f"l{at:03}" for at in range(160)]
SMALL_KEYS = [f"s{at:04}" for at in range(3_000)]


def flags(folder):
    return "--cold", f"file://{folder}/store", "--state-dir", folder / "state"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cold")
    with Server(*flags(folder), memory="256MiB") as server, flight.connect(server.uri) as client:
        put(client, command(wait="cold"), bulk(SMALL_KEYS, SMALL))
        for at in range(0, 160, 20):
            put(client, command(wait="cold"), bulk(LARGE_KEYS[at : at + 20], LARGE), rows_per_batch=5)
    return folder


@pytest.fixture
def client(store):
    with Server(*flags(store), memory="32MiB") as server, flight.connect(server.uri) as client:
        yield client


def read_through(client, **members):
    """Keys and what the closing batches name; each tensor is compared as it comes."""
    keys, gone = [], []
    reader = client.do_get(ticket(**members), PATIENCE)
    while True:
        try:
            chunk = reader.read_chunk()
        except StopIteration:
            return keys, gone
        if chunk.app_metadata is not None:
            gone += json.loads(chunk.app_metadata.to_pybytes())["gone"]
        for key, data in zip(chunk.data["key"].to_pylist(), chunk.data["data"], strict=True):
            of = LARGE[int(key[1:]) % 20] if key[0] == "l" else SMALL[int(key[1:])]
            assert data.as_buffer().equals(pa.py_buffer(of)), key
            keys.append(key)


def test_a_prefix_of_ten_times_the_memory_is_read(client):
    # Some of it is in memory, so that the two are merged.
    up = act(client, "prewarm", keys=SMALL_KEYS[5:2_000:7])
    assert up["entries"] == len(SMALL_KEYS[5:2_000:7])
    assert read_through(client, prefix="") == (LARGE_KEYS + SMALL_KEYS, [])
    memory = act(client, "stats")["memory"]
    assert memory["used_bytes"] <= 32 * MIB
    rows = get(client, prefix="s1", layout="rows")
    assert rows["key"].to_pylist() == SMALL_KEYS[1_000:2_000]
    assert rows["tensor"].combine_chunks().to_numpy_ndarray().tobytes() == SMALL[1_000:2_000].tobytes()
    shaped = get(client, prefix="", dtype="float64", shape=[128], **{"with": ["version", "checksum"]})
    assert shaped["key"].to_pylist() == SMALL_KEYS
    # A scan brings nothing up, however often.
    promoted = act(client, "stats")["cold"]["promoted"]
    assert promoted == up["entries"]


def test_info_counts_both_and_partitions_are_all_of_it(client):
    act(client, "prewarm", keys=SMALL_KEYS[:10])
    info = client.get_flight_info(command(prefix=""), PATIENCE)
    assert info.total_records == 3_160
    assert info.total_bytes == SMALL.nbytes + 160 * 2 * MIB
    assert "tier" not in json.loads(info.app_metadata)
    below = client.get_flight_info(command(prefix="l"), PATIENCE)
    assert json.loads(below.app_metadata)["tier"] == "cold"
    parts = client.get_flight_info(command(prefix="s", partitions=4), PATIENCE).endpoints
    assert len(parts) == 4
    keys = []
    for part in parts:
        keys += client.do_get(part.ticket, PATIENCE).read_all()["key"].to_pylist()
    assert keys == SMALL_KEYS


def test_what_goes_between_is_named(tmp_path):
    with Server(*flags(tmp_path), memory="64MiB") as server, flight.connect(server.uri) as client:
        put(client, command(), bulk(SMALL_KEYS[:1_000], SMALL[:1_000]))
        act(client, "evict", prefix="s0")
        info = client.get_flight_info(command(prefix="", partitions=2), PATIENCE)
        first, second = info.endpoints
        act(client, "delete", keys=["s0100", "s0900"])
        act(client, "delete", prefix="s08")
        put(client, command(key="s0200", mode="replace"), pa.table({"tensor": SMALL[0]}))
        put(client, command(key="s0000a"), pa.table({"tensor": SMALL[0]}))
        act(client, "evict", keys=["s0200"])
        met, gone = [], []
        for part in (first, second):
            one = client.do_get(part.ticket, PATIENCE)
            while True:
                try:
                    chunk = one.read_chunk()
                except StopIteration:
                    break
                met += chunk.data["key"].to_pylist()
                if chunk.app_metadata is not None:
                    gone += json.loads(chunk.app_metadata.to_pybytes())["gone"]
        went = {"s0100", "s0900", "s0200", *SMALL_KEYS[800:900]}
        assert sorted(gone) == sorted(went)
        assert met == [key for key in SMALL_KEYS[:1_000] if key not in went]
        _, now = chunks(client, prefix="s00")
        assert sum(len(batch) for batch, _ in now) == 101
