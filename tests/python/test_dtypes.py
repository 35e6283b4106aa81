"""Every element type of the contract, at every rank from 0 to 8, and the other forms a put may use."""

import json

import numpy as np
import pyarrow as pa
import pytest

from calls import get, path, put, refused
from tensors import DTYPES, STORAGE, array_of, same, sample, table_of

SHAPE = (2, 3, 2, 1, 2, 2, 1, 3)


@pytest.mark.parametrize("rank", range(9))
@pytest.mark.parametrize("name", DTYPES)
def test_round_trip(client, namespace, name, rank):
    array = sample(name, SHAPE[:rank])
    reply = put(client, path(namespace, "a"), table_of(array))
    assert reply["stored"] == 1 and reply["bytes"] == array.nbytes
    table = get(client, namespace=namespace, key="a")
    assert same(array_of(table), array)
    field = table.schema.field("tensor")
    assert json.loads(table.schema.metadata[b"tensor.shape"]) == list(array.shape)
    assert table.schema.metadata[b"tensor.dtype"].decode() == name
    assert (field.metadata or {}).get(b"tensor.dtype", b"").decode() == (name if name in STORAGE else "")
    storage_rank = rank + name.startswith("complex")
    assert isinstance(field.type, pa.FixedShapeTensorType) == (storage_rank >= 2)


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0)], ids=str)
def test_no_elements(client, namespace, name, shape):
    put(client, path(namespace, "a"), table_of(sample(name, shape)))
    assert same(array_of(get(client, namespace=namespace, key="a")), sample(name, shape))


BITS = np.random.default_rng(1).integers(0, 2, (21, 5)).astype(bool)


@pytest.mark.parametrize(
    "form",
    [
        "bits",
        "bits, sliced",
        "bits in lists",
        "bits in tensors",
        "bits in a tensor of tensors",
        "bool8",
        "bool8 of other numbers",
    ],
)
def test_ways_to_put_booleans(client, namespace, form):
    flat = pa.array(BITS.reshape(-1))
    column, expected = {
        "bits": lambda: (flat, BITS.reshape(-1)),
        "bits, sliced": lambda: (flat[3:90], BITS.reshape(-1)[3:90]),
        "bits in lists": lambda: (pa.FixedSizeListArray.from_arrays(flat, 5), BITS),
        "bits in tensors": lambda: (pa.FixedShapeTensorArray.from_numpy_ndarray(BITS), BITS),
        "bits in a tensor of tensors": lambda: (
            pa.FixedShapeTensorArray.from_numpy_ndarray(BITS.reshape(7, 3, 5)),
            BITS.reshape(7, 3, 5),
        ),
        "bool8": lambda: (flat.cast(pa.bool8()), BITS.reshape(-1)),
        "bool8 of other numbers": lambda: (
            pa.ExtensionArray.from_storage(pa.bool8(), pa.array([0, 1, 2, -1, 0], pa.int8())),
            np.array([False, True, True, True, False]),
        ),
    }[form]()
    put(client, path(namespace, "a"), pa.table({"x": column}))
    assert same(array_of(get(client, namespace=namespace, key="a")), expected)


@pytest.mark.parametrize("rows", [1, 3, 8, 13])
def test_bits_over_many_batches(client, namespace, rows):
    table = pa.table({"x": pa.array(BITS.reshape(-1))})
    put(client, path(namespace, "a"), table, rows_per_batch=rows)
    assert same(array_of(get(client, namespace=namespace, key="a")), BITS.reshape(-1))


def test_a_byte_that_is_no_boolean(client, namespace):
    schema = pa.schema([pa.field("x", pa.uint8(), False, {"tensor.dtype": "bool"})])
    with refused("invalid_argument", "bool"):
        put(client, path(namespace, "a"), pa.table([pa.array([0, 1, 2], pa.uint8())], schema=schema))
    with refused("not_found"):
        get(client, namespace=namespace, key="a")


@pytest.mark.parametrize(
    "storage, name",
    [
        (pa.float32(), "bfloat16"),
        (pa.uint8(), "bfloat16"),
        (pa.uint16(), "bool"),
        (pa.float32(), "complex128"),
        (pa.uint8(), "float7"),
    ],
    ids=str,
)
def test_a_dtype_on_the_wrong_storage(client, namespace, storage, name):
    schema = pa.schema([pa.field("x", storage, False, {"tensor.dtype": name})])
    with refused("invalid_argument", name):
        put(client, path(namespace, "a"), pa.table([pa.array([1, 2], storage)], schema=schema))


def test_complex_without_a_last_axis_of_two(client, namespace):
    schema = pa.schema([pa.field("x", pa.list_(pa.float32(), 3), False, {"tensor.dtype": "complex64"})])
    with refused("invalid_argument", "complex64"):
        put(client, path(namespace, "a"), pa.table([pa.array([[1, 2, 3]], pa.list_(pa.float32(), 3))], schema=schema))


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["a"]),
        pa.array([b"a"]),
        pa.array([1], pa.timestamp("us")),
        pa.array([1], pa.date32()),
        pa.array([1], pa.decimal128(5)),
        pa.array([None], pa.null()),
        pa.array(["a"]).dictionary_encode(),
        pa.array([{"a": 1}]),
        pa.array([[["a"]]]),
        pa.RunEndEncodedArray.from_arrays(pa.array([2], pa.int32()), pa.array([1.0])),
    ],
    ids=lambda column: str(column.type)[:24],
)
def test_what_is_no_tensor(client, namespace, column):
    with refused("invalid_argument"):
        put(client, path(namespace, "a"), pa.table({"x": column}))
    with refused("not_found"):
        get(client, namespace=namespace, key="a")


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1, None, 3]),
        pa.array([[1, 2], [3, None]], pa.list_(pa.int32(), 2)),
        pa.array([[1, 2], None], pa.list_(pa.int32(), 2)),
        pa.array([[1, 2], None], pa.list_(pa.int32())),
        pa.array([True, None]),
    ],
    ids=["primitive", "child", "fixed list", "list", "bits"],
)
def test_nulls(client, namespace, column):
    with refused("invalid_argument", "null"):
        put(client, path(namespace, "a"), pa.table({"x": column}))


def test_a_validity_buffer_of_ones_is_no_null(client, namespace):
    values = pa.array([1, 2, 3], pa.int64())
    column = pa.Array.from_buffers(pa.int64(), 3, [pa.py_buffer(b"\x07"), values.buffers()[1]], null_count=-1)
    put(client, path(namespace, "a"), pa.table({"x": column}))
    assert same(array_of(get(client, namespace=namespace, key="a")), np.array([1, 2, 3]))


def test_lists_of_different_lengths(client, namespace):
    with refused("invalid_argument", "length"):
        put(client, path(namespace, "a"), pa.table({"x": pa.array([[1, 2], [3]], pa.list_(pa.int32()))}))
