"""Where the buffers lie that PyArrow hands out, so that NumPy and SIMD code need no copy.

gRPC C++ reads a socket in slices of at most 64 KiB. A message that spans several is joined in memory of its own,
and there our padding puts the body at a multiple of 16; a smaller one may lie within a slice, wherever it came.
"""

import pyarrow as pa
import pyarrow.flight as flight
import pytest

from calls import chunks, command, path, put, ticket
from tensors import sample, table_of
from test_bulk import bulk

JOINED = 65 << 10


def address(column):
    return column.buffers()[-1].address


@pytest.mark.parametrize("rows, columns", [(1, 70_000), (700, 333), (64, 16384), (3, 500_001)])
@pytest.mark.parametrize("name", ["uint8", "float32", "complex128"])
@pytest.mark.parametrize("key", ["k", "k" * 13, "k" * 64])
@pytest.mark.parametrize("layout", ["rows", "flat"])
def test_large_messages(client, namespace, name, rows, columns, key, layout):
    put(client, path(namespace, key), table_of(sample(name, (rows, columns))))
    _, messages = chunks(client, namespace=namespace, key=key, layout=layout, max_message_bytes=1 << 18)
    large = [address(batch.column(0)) % 16 for batch, _ in messages if batch.get_total_buffer_size() > JOINED]
    assert large and set(large) == {0}


@pytest.mark.parametrize("count", [20, 33, 100])
def test_large_messages_of_many_tensors(client, namespace, count):
    keys = [f"key {'x' * (i % 9)}{i}" for i in range(count)]
    put(client, command(namespace=namespace), bulk(keys, sample("float32", (count, 1001))))
    _, messages = chunks(client, namespace=namespace, keys=keys)
    assert {address(batch.column("tensor")) % 16 for batch, _ in messages if batch.num_rows} == {0}


@pytest.mark.parametrize("count", [1, 7, 1000, 10_000])
def test_small_messages_where_pyarrow_is_asked_to_align(client, namespace, count):
    """It copies what lies elsewhere: for readers that cannot live with that."""
    aligned = pa.ipc.IpcReadOptions(ensure_alignment=pa.ipc.Alignment.At64Byte)
    options = flight.FlightCallOptions(read_options=aligned)
    put(client, path(namespace, "a"), table_of(sample("float32", (count,))))
    table = client.do_get(ticket(namespace=namespace, key="a"), options).read_all()
    assert address(table["tensor"].chunk(0)) % 64 == 0
