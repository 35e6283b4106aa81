"""One tensor in, the same tensor out: shapes, memory layouts, slices, batches, row ranges."""

import json

import numpy as np
import pyarrow as pa
import pytest
import xxhash

from calls import PATIENCE, chunks, command, get, path, put, refused
from tensors import array_of, identical, same, sample, storage_of, table_of, values_of

BASE = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)


def round_trip(client, namespace, array, key="a"):
    reply = put(client, path(namespace, key), table_of(array))
    assert reply["stored"] == 1 and reply["existed"] == 0 and reply["errors"] == []
    assert reply["bytes"] == np.asarray(array).nbytes
    table = get(client, namespace=namespace, key=key)
    assert same(array_of(table), array)
    return table


@pytest.mark.parametrize(
    "shape",
    [(0,), (0, 3), (3, 0), (0, 0), (2, 0, 4), (0, 4, 2), (4, 2, 0), (1, 0, 1, 0), (1,), (1, 1), (7,), (7, 1), (1, 7)],
    ids=str,
)
def test_zero_and_one(client, namespace, shape):
    table = round_trip(client, namespace, sample("float32", shape))
    if len(shape) > 1:
        assert table["tensor"].combine_chunks().to_numpy_ndarray().shape == shape


@pytest.mark.parametrize(
    "array",
    [
        np.asfortranarray(BASE),
        BASE.transpose(3, 1, 0, 2),
        BASE[:, ::-1],
        BASE[::-1, :, ::2],
        BASE[1:, 1:3, :, 2],
        BASE[..., 3],
        np.broadcast_to(np.float32(2.5), (3, 4)),
        BASE.swapaxes(0, 3)[2:4],
        BASE.reshape(-1)[5:100:7],
        BASE.astype(">f4").astype("<f4"),
    ],
    ids="fortran transposed negative both-steps sliced last-axis broadcast swapped strided byteswapped".split(),
)
def test_memory_layouts(client, namespace, array):
    round_trip(client, namespace, array)


def test_what_a_get_says_of_the_tensor(client, namespace):
    array = sample("float32", (3, 4))
    table = round_trip(client, namespace, array, key="named")
    (name,) = table.schema.names
    metadata = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    assert name == "tensor" and table.schema.field(0).type == pa.fixed_shape_tensor(pa.float32(), [4])
    assert not table.schema.field(0).nullable
    assert json.loads(metadata["tensor.shape"]) == [3, 4]
    assert metadata["tensor.dtype"] == "float32"
    assert (metadata["tensor.namespace"], metadata["tensor.key"]) == (namespace, "named")
    assert metadata["tensor.version"].isdecimal()
    assert metadata["tensor.checksum"] == xxhash.xxh3_128_hexdigest(array.tobytes())


def test_pyarrow_gives_the_array_back_by_itself(client, namespace):
    column = pa.FixedShapeTensorArray.from_numpy_ndarray(BASE)
    put(client, path(namespace, "a"), pa.table({"any name": column}))
    back = get(client, namespace=namespace, key="a")["tensor"].combine_chunks().to_numpy_ndarray()
    assert same(back, BASE)


def test_the_default_namespace(client):
    put(client, path("test_the_default_namespace"), table_of(BASE))
    assert same(array_of(get(client, key="test_the_default_namespace")), BASE)
    assert same(array_of(get(client, namespace="default", key="test_the_default_namespace")), BASE)


def test_a_get_can_be_put_as_it_is(client, namespace):
    first = put(client, command(namespace=namespace, key="a", metadata={"model": "m1", "ü": "ß"}), table_of(BASE))
    table = get(client, namespace=namespace, key="a")
    second = put(client, path(namespace, "b"), table)
    again = get(client, namespace=namespace, key="b")
    assert second["stored"] == 1 and second["version"] != first["version"]
    ours = (b"tensor.key", b"tensor.version")
    rest = [{k: v for k, v in t.schema.metadata.items() if k not in ours} for t in (table, again)]
    assert rest[0] == rest[1] and identical(table.replace_schema_metadata(), again.replace_schema_metadata())
    assert again.schema.metadata[b"user.model"] == b"m1" and again.schema.metadata["user.ü".encode()] == "ß".encode()


@pytest.mark.parametrize("rows", [1, 2, 7, 64, 1000])
def test_many_batches(client, namespace, rows):
    array = sample("int16", (1000, 3))
    reply = put(client, path(namespace, "a"), table_of(array), rows_per_batch=rows)
    assert reply["bytes"] == array.nbytes
    assert same(array_of(get(client, namespace=namespace, key="a")), array)


def test_batches_without_rows_between_others(client, namespace):
    array = sample("float64", (6, 2))
    (whole,) = table_of(array).to_batches()
    writer, replies = client.do_put(path(namespace, "a"), whole.schema, PATIENCE)
    with writer:
        for start, rows in [(0, 0), (0, 1), (1, 0), (1, 5), (6, 0)]:
            writer.write_batch(whole.slice(start, rows))
        writer.done_writing()
        assert json.loads(replies.read().to_pybytes())["stored"] == 1
    assert same(array_of(get(client, namespace=namespace, key="a")), array)


@pytest.mark.parametrize("shape, metadata", [([], "[]"), ([1], None), ([1, 1, 1], "[1, 1, 1]")], ids=str)
def test_a_shape_beside_the_storage(client, namespace, shape, metadata):
    table = pa.table({"x": pa.array([1.5])}).replace_schema_metadata(metadata and {"tensor.shape": metadata})
    put(client, path(namespace, "a"), table)
    assert same(array_of(get(client, namespace=namespace, key="a")), np.full(shape, 1.5))


def test_one_row_of_768_as_a_vector(client, namespace):
    array = sample("float32", (768,))
    table = table_of(array.reshape(1, 768)).replace_schema_metadata({"tensor.shape": "[768]"})
    put(client, path(namespace, "a"), table)
    assert same(array_of(get(client, namespace=namespace, key="a")), array)


@pytest.mark.parametrize("form", ["nested", "list", "large_list", "list of lists' cell", "sliced", "nullable child"])
def test_other_list_forms(client, namespace, form):
    array = sample("int32", (6, 4))
    flat = pa.array(array.reshape(-1))
    column = {
        "nested": lambda: pa.FixedSizeListArray.from_arrays(pa.FixedSizeListArray.from_arrays(flat, 2), 2),
        "list": lambda: pa.ListArray.from_arrays(pa.array(range(0, 25, 4), pa.int32()), flat),
        "large_list": lambda: pa.LargeListArray.from_arrays(pa.array(range(0, 25, 4), pa.int64()), flat),
        "list of lists' cell": lambda: pa.FixedSizeListArray.from_arrays(flat, 4),
        "sliced": lambda: pa.ListArray.from_arrays(pa.array(range(0, 25, 4), pa.int32()), flat)[2:5],
        "nullable child": lambda: pa.array(array.tolist(), pa.list_(pa.field("item", pa.int32(), True), 4)),
    }[form]()
    expected = {"nested": array.reshape(6, 2, 2), "sliced": array[2:5]}.get(form, array)
    put(client, path(namespace, "a"), pa.table({"x": column}))
    assert same(array_of(get(client, namespace=namespace, key="a")), expected)


@pytest.mark.parametrize("shape", [(9,), (9, 5), (9, 2, 3)], ids=str)
@pytest.mark.parametrize("start, end", [(0, 9), (3, 7), (8, 9), (0, 0), (9, 9), (4, 4)])
def test_row_ranges(client, namespace, shape, start, end):
    array = sample("uint16", shape)
    put(client, path(namespace, "a"), table_of(array))
    table = get(client, namespace=namespace, key="a", rows=[start, end])
    assert same(array_of(table), array[start:end])
    assert b"tensor.checksum" not in table.schema.metadata


@pytest.mark.parametrize("rows", [[-1, 2], [3, 2], [0, 10], [10, 10], [9, 10]], ids=str)
def test_row_ranges_outside(client, namespace, rows):
    put(client, path(namespace, "a"), table_of(sample("uint16", (9, 5))))
    with refused("invalid_argument"):
        get(client, namespace=namespace, key="a", rows=rows)


def test_rows_of_a_scalar(client, namespace):
    put(client, path(namespace, "a"), table_of(np.float32(1)))
    with refused("invalid_argument"):
        get(client, namespace=namespace, key="a", rows=[0, 1])


@pytest.mark.parametrize("shape", [(), (0,), (5,), (40, 3), (3, 0), (2, 3, 4)], ids=str)
def test_flat_layout(client, namespace, shape):
    array = sample("float32", shape)
    put(client, path(namespace, "a"), table_of(array))
    table = get(client, namespace=namespace, key="a", layout="flat")
    assert table.schema.field("tensor").type == pa.float32() and table.num_rows == array.size
    assert same(array_of(table), array)


@pytest.mark.parametrize("name", ["int8", "bool", "bfloat16", "complex64"])
@pytest.mark.parametrize("shape", [(), (5,), (3, 0), (2, 3, 4)], ids=str)
def test_opaque_layout(client, namespace, name, shape):
    array = sample(name, shape)
    put(client, path(namespace, "a"), table_of(array))
    table = get(client, namespace=namespace, key="a", layout="opaque")
    assert table.schema.names == ["key", "dtype", "shape", "data"]
    assert table.schema.field("shape").type == pa.list_(table.schema.field("shape").type.value_field)
    assert table.schema.field("shape").type.value_type == pa.int64()
    assert table.schema.field("data").type == pa.large_binary()
    (row,) = table.to_pylist()
    assert row == {"key": "a", "dtype": name, "shape": list(shape), "data": storage_of(array).tobytes()}


@pytest.mark.parametrize(
    "layout, shape", [("rows", (500, 25)), ("flat", (500, 25)), ("flat", (7, 9999)), ("rows", (9999,))]
)
def test_max_message_bytes(client, namespace, layout, shape):
    array, limit = sample("float32", shape), 4096
    put(client, path(namespace, "a"), table_of(array))
    schema, messages = chunks(client, namespace=namespace, key="a", layout=layout, max_message_bytes=limit)
    sizes = [batch.get_total_buffer_size() for batch, _ in messages]
    assert max(sizes) <= limit and len(sizes) >= array.nbytes // limit
    joined = np.concatenate([values_of(batch.column(0)) for batch, _ in messages])
    assert same(joined.reshape(shape), array)


def test_a_row_above_max_message_bytes_comes_whole(client, namespace):
    array = sample("float32", (3, 5000))
    put(client, path(namespace, "a"), table_of(array))
    _, messages = chunks(client, namespace=namespace, key="a", max_message_bytes=4096)
    assert [batch.num_rows for batch, _ in messages] == [1, 1, 1]
    assert same(np.concatenate([values_of(batch.column(0)) for batch, _ in messages]).reshape(3, 5000), array)


def test_without_a_wish_a_message_has_16_mib_for_pyarrow(client, namespace):
    """Others are given 3 MiB, which is below the limit of 4 that stock clients have; PyArrow has none."""
    array = sample("float32", (5000, 1024))
    put(client, path(namespace, "a"), table_of(array), rows_per_batch=1024)
    _, messages = chunks(client, namespace=namespace, key="a")
    sizes = [batch.get_total_buffer_size() for batch, _ in messages]
    assert sizes == [16 << 20, array.nbytes - (16 << 20)]


def test_keys_are_bytes(client, namespace):
    keys = ["ä", "a\u0308", "A", "a", " ", "a/b", "../a", "\n", "🏹", "x" * 1024, "{", '"']
    for number, key in enumerate(keys):
        assert put(client, path(namespace, key), table_of(np.int32(number)))["stored"] == 1
    for number, key in enumerate(keys):
        assert array_of(get(client, namespace=namespace, key=key)) == number
