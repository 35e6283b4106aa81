"""NumPy arrays to and from the Arrow streams of the wire contract: all that a client has to know."""

import json

import ml_dtypes
import numpy as np
import pyarrow as pa

#: Every element type by its name on the wire, as NumPy sees it.
DTYPES = {
    **{f"{kind}{bits}": np.dtype(f"{kind}{bits}") for kind in ("int", "uint") for bits in (8, 16, 32, 64)},
    **{f"float{bits}": np.dtype(f"float{bits}") for bits in (16, 32, 64)},
    "bool": np.dtype(bool),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float8_e4m3fn": np.dtype(ml_dtypes.float8_e4m3fn),
    "float8_e5m2": np.dtype(ml_dtypes.float8_e5m2),
    "complex64": np.dtype(np.complex64),
    "complex128": np.dtype(np.complex128),
}

#: The types that Arrow has no storage of its own for, and what they are kept in.
STORAGE = {
    "bool": np.uint8,
    "bfloat16": np.uint16,
    "float8_e4m3fn": np.uint8,
    "float8_e5m2": np.uint8,
    "complex64": np.float32,
    "complex128": np.float64,
}


def name_of(dtype):
    return next(name for name, known in DTYPES.items() if known == dtype)


def sample(name, shape, seed=7):
    """An array of random bits (so with NaNs and denormals where there are any) of a dtype by name."""
    dtype, count = DTYPES[name], int(np.prod(shape, dtype=np.int64))
    random = np.random.default_rng(seed)
    if name == "bool":
        return random.integers(0, 2, shape).astype(bool)
    return np.frombuffer(random.bytes(count * dtype.itemsize), dtype).reshape(shape)


def storage_of(array):
    """The array in the element type that Arrow keeps it in, in C order; complex gets a last axis of 2."""
    array = np.asarray(array, order="C")
    name = name_of(array.dtype)
    if name not in STORAGE:
        return array
    storage = np.dtype(STORAGE[name])
    shape = array.shape + ((2,) if name.startswith("complex") else ())
    return array.reshape(-1).view(storage).reshape(shape)


def column_of(storage):
    """One Arrow array whose rows are the leading axis."""
    flat = pa.Array.from_buffers(
        pa.from_numpy_dtype(storage.dtype), storage.size, [None, pa.py_buffer(storage.reshape(-1))]
    )
    if storage.ndim < 2:
        return flat
    kind = pa.fixed_shape_tensor(flat.type, storage.shape[1:])
    cell = int(np.prod(storage.shape[1:], dtype=np.int64))
    lists = pa.FixedSizeListArray.from_buffers(pa.list_(flat.type, cell), storage.shape[0], [None], children=[flat])
    return pa.ExtensionArray.from_storage(kind, lists)


def field_of(array, name="tensor"):
    kind = column_of(storage_of(array)[:0] if np.ndim(array) else storage_of(array)).type
    dtype = name_of(np.asarray(array).dtype)
    return pa.field(name, kind, False, {"tensor.dtype": dtype} if dtype in STORAGE else None)


def table_of(array, metadata=None):
    """One tensor as a table of one column, ready to be put."""
    array = np.asarray(array)
    metadata = dict(metadata or {})
    if array.ndim == 0:
        metadata["tensor.shape"] = "[]"
    schema = pa.schema([field_of(array)], metadata)
    return pa.Table.from_arrays([column_of(storage_of(array))], schema=schema)


def values_of(column):
    """The elements of one column as a flat NumPy array, uncopied where it is one chunk."""
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    while isinstance(column, pa.ExtensionArray):
        column = column.storage
    while pa.types.is_fixed_size_list(column.type):
        column = column.flatten()
    return column.to_numpy(zero_copy_only=True)


def array_of(table):
    """The tensor that a get of one key returned."""
    metadata = {name.decode(): text.decode() for name, text in table.schema.metadata.items()}
    values = values_of(table["tensor"])
    return values.view(DTYPES[metadata["tensor.dtype"]]).reshape(json.loads(metadata["tensor.shape"]))


def same(left, right):
    """Equal in dtype, in shape and in every bit: NaNs are equal to themselves, 0.0 is not -0.0."""
    left, right = np.asarray(left), np.asarray(right)
    return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()


def identical(left, right):
    """Two tables with the same schema and the same rows, NaNs included, however they are cut into batches."""

    def stream(table):
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table.combine_chunks())
        return sink.getvalue()

    return left.schema.equals(right.schema, check_metadata=True) and stream(left).equals(stream(right))
