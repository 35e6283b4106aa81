"""Large tensors of the cold tier by a plain PyArrow client: through a server that has a quarter of their memory, row ranges,
damage in the middle."""

import threading

import numpy as np
import pyarrow.flight as flight
import pytest

from calls import PATIENCE, act, get, path, put, refused, ticket
from server import Server
from tensors import table_of

MIB = 1 << 20
#: 256 rows of 1 MiB; no row begins where a block of the store's begins in the file.
ARRAY = np.random.default_rng(5).standard_normal((256, 128 * 1024), dtype=np.float64)


def flags(folder):
    return "--cold", f"file://{folder}/store", "--state-dir", folder / "state"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cold")
    with Server(*flags(folder), memory="640MiB") as server, flight.connect(server.uri) as client:
        put(client, path("large"), table_of(ARRAY), rows_per_batch=16)
        assert act(client, "flush") == {"entries": 1}
    return folder


@pytest.fixture
def small(store):
    with Server(*flags(store), memory="64MiB") as server, flight.connect(server.uri) as client:
        yield server, client


def read_bytes(client):
    return act(client, "stats")["cold"]["read_bytes"]


def equal(table, array):
    assert table["tensor"].combine_chunks().to_numpy_ndarray().tobytes() == array.tobytes()


def test_a_tensor_of_four_times_the_memory_is_read(small):
    server, client = small
    table = get(client, key="large")
    equal(table, ARRAY)
    before = read_bytes(client)
    assert before == ARRAY.nbytes
    for rows in ([0, 1], [7, 9], [255, 256], [100, 164], [4, 4]):
        equal(get(client, key="large", rows=rows), ARRAY[slice(*rows)])
    asked = 1 + 2 + 1 + 64
    assert read_bytes(client) - before == asked * MIB, "whole blocks, and no others"
    flat = get(client, key="large", layout="flat", max_message_bytes=100_000)
    assert flat["tensor"].to_numpy().tobytes() == ARRAY.tobytes()
    many = get(client, keys=["large", "missing", "large"], layout="opaque")
    assert [value.as_buffer().to_pybytes() for value in many["data"]] == [ARRAY.tobytes()] * 2
    assert act(client, "describe", keys=["large"])["keys"][0]["tier"] == "cold"


def test_many_at_once_take_turns_and_the_ledger_holds(small):
    server, client = small
    wrong = []

    def read(rows):
        with flight.connect(server.uri) as own:
            reader = own.do_get(ticket(key="large", rows=rows), PATIENCE)
            at = rows[0]
            for chunk in reader:
                here = chunk.data.column(0).to_numpy_ndarray()
                if here.tobytes() != ARRAY[at : at + len(here)].tobytes():
                    wrong.append(at)
                at += len(here)
            if at != rows[1]:
                wrong.append(rows)

    readers = [threading.Thread(target=read, args=([at, 256],)) for at in range(0, 192, 16)]
    for reader in readers:
        reader.start()
    most = 0
    while any(reader.is_alive() for reader in readers):
        memory = act(client, "stats")["memory"]
        assert memory["used_bytes"] <= 64 * MIB
        most = max(most, memory["accounts"]["cold"]["used_bytes"])
    for reader in readers:
        reader.join()
    assert not wrong
    assert 0 < most <= 64 * MIB // 4


def test_a_damaged_block_ends_the_stream_and_the_key(tmp_path):
    array = ARRAY[:24]
    with Server(*flags(tmp_path), memory="64MiB") as server, flight.connect(server.uri) as client:
        put(client, path("k"), table_of(array))
        act(client, "evict", keys=["k"])
        (segment,) = (tmp_path / "store" / "segments").glob("*.arrow")
        start = segment.read_bytes().index(array[0, :16].tobytes())
        with open(segment, "r+b") as file:
            file.seek(start + 17 * MIB + 5)
            byte = file.read(1)[0]
            file.seek(start + 17 * MIB + 5)
            file.write(bytes([byte ^ 1]))
        equal(get(client, key="k", rows=[0, 17]), array[:17])
        with refused("data_loss", f"offset=`{17 * MIB}`"):
            get(client, key="k")
        with refused("not_found"):
            get(client, key="k", rows=[0, 1])
        figures = act(client, "stats")["cold"]
        assert (figures["damaged"], figures["entries"]) == (1, 0)


def test_a_truncated_object_is_a_miss(tmp_path):
    with Server(*flags(tmp_path), memory="64MiB") as server, flight.connect(server.uri) as client:
        for key in ("a", "b"):
            put(client, path(key), table_of(ARRAY[:12]))
            act(client, "evict", keys=[key])
        for segment in (tmp_path / "store" / "segments").glob("*.arrow"):
            with open(segment, "r+b") as file:
                file.truncate(9 * MIB)
        for rows in ([0, 4], [2, 3]):
            equal(get(client, key="a", rows=rows), ARRAY[slice(*rows)])
        with refused("not_found"):
            get(client, key="a", rows=[10, 11])
        with refused("not_found"):
            get(client, key="a", rows=[0, 1])
        with refused("data_loss"):
            get(client, key="b")
        assert act(client, "stats")["cold"]["damaged"] == 2
