"""A tensor of 1 GiB through a server that has 3 GiB."""

import numpy as np
import pyarrow.flight as flight
import pytest
import xxhash

from calls import PATIENCE, act, command, path, put, refused, ticket
from server import Server
from tensors import table_of, values_of

GIB = 1 << 30


@pytest.fixture(scope="module")
def large_client():
    with Server(memory="3GiB") as running, flight.connect(running.uri) as connected:
        yield connected


@pytest.fixture(scope="module")
def array():
    return np.arange(GIB // 8, dtype=np.uint64)


def fetch(client, array, **members):
    """Compares a stream with the array message by message, without holding it twice; gives the sizes."""
    at, sizes = 0, []
    for chunk in client.do_get(ticket(**members), PATIENCE):
        values = values_of(chunk.data.column(0))
        assert np.array_equal(values, array[at : at + len(values)])
        at, sizes = at + len(values), [*sizes, chunk.data.get_total_buffer_size()]
    assert at == len(array)
    return sizes


@pytest.mark.parametrize(
    "shape, rows", [((1 << 17, 1 << 10), 1 << 11), ((1 << 27,), 1 << 21), ((8, 1 << 24), 1)], ids=str
)
def test_in_many_messages(large_client, array, shape, rows):
    reply = put(large_client, command(key="a", mode="replace"), table_of(array.reshape(shape)), rows_per_batch=rows)
    assert reply["bytes"] == GIB
    sizes = fetch(large_client, array, key="a")
    assert len(sizes) >= 8
    assert max(sizes) == 1 << 27 if shape[0] == 8 else max(sizes) <= 16 << 20
    checksum = act(large_client, "describe", keys=["a"])["keys"][0]["checksum"]
    assert checksum == xxhash.xxh3_128_hexdigest(array)


def test_in_one_message(large_client, array):
    put(large_client, command(key="a", mode="replace"), table_of(array.reshape(1, -1)))
    assert fetch(large_client, array, key="a") == [GIB]
    assert max(fetch(large_client, array, key="a", layout="flat")) <= 16 << 20


def test_a_row_above_1_gib_goes_only_flat(large_client, array):
    longer = np.concatenate([array, array[:1]])
    act(large_client, "delete", keys=["a"])
    put(large_client, path("longer"), table_of(longer), rows_per_batch=1 << 24)
    act(large_client, "delete", keys=["longer"])
    table = table_of(longer).replace_schema_metadata({"tensor.shape": f"[1, {len(longer)}]"})
    put(large_client, path("longer"), table, rows_per_batch=1 << 24)
    with refused("failed_precondition", "flat"):
        large_client.do_get(ticket(key="longer"), PATIENCE).read_all()
    fetch(large_client, longer, key="longer", layout="flat")
