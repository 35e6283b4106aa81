"""The buffers that PyArrow hands out lie at 16 bytes, so that NumPy and SIMD code need no copy."""

import pyarrow as pa
import pyarrow.flight as flight
import pytest

from calls import chunks, command, path, put, ticket
from tensors import sample, table_of
from test_bulk import bulk


def address(column):
    return column.buffers()[-1].address


@pytest.mark.parametrize("shape", [(1,), (5,), (1000,), (3, 5), (1, 70_000), (700, 333), (64, 16384)], ids=str)
@pytest.mark.parametrize("name", ["uint8", "float32", "complex128"])
@pytest.mark.parametrize("key", ["k", "k" * 13, "k" * 64])
@pytest.mark.parametrize("layout", ["rows", "flat"])
def test_one_tensor(client, namespace, name, shape, key, layout):
    put(client, path(namespace, key), table_of(sample(name, shape)))
    _, messages = chunks(client, namespace=namespace, key=key, layout=layout, max_message_bytes=1 << 18)
    assert {address(batch.column(0)) % 16 for batch, _ in messages if batch.num_rows} == {0}


@pytest.mark.parametrize("count", [1, 2, 7, 100])
@pytest.mark.parametrize("width", [1, 5, 1000])
def test_many_tensors(client, namespace, count, width):
    keys = [f"key {'x' * (i % 9)}{i}" for i in range(count)]
    put(client, command(namespace=namespace), bulk(keys, sample("float32", (count, width))))
    _, messages = chunks(client, namespace=namespace, keys=keys)
    assert {address(batch.column("tensor")) % 16 for batch, _ in messages if batch.num_rows} == {0}


@pytest.mark.parametrize("count", [1, 7, 1000, 100_000])
def test_a_reader_that_asks_for_more(client, namespace, count):
    """PyArrow copies what does not lie at 64 bytes, for those who must have it so."""
    aligned = pa.ipc.IpcReadOptions(ensure_alignment=pa.ipc.Alignment.At64Byte)
    options = flight.FlightCallOptions(read_options=aligned)
    put(client, path(namespace, "a"), table_of(sample("float32", (count,))))
    table = client.do_get(ticket(namespace=namespace, key="a"), options).read_all()
    assert address(table["tensor"].chunk(0)) % 64 == 0
