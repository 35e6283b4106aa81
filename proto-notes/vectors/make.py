#!/usr/bin/env python3
"""Golden vectors of the wire contract, made by PyArrow; and a check of those that our Rust code made.

    make.py            writes put/*.arrows, put.json, bulk/*.arrows, bulk.json, mux.json
    make.py --check    compares what is on disk with what would be written, then reads ours:
                       get/*.arrows with get.json, key_hash.json, versions.json

Needs pyarrow, numpy, blake3 and xxhash (tests/python/requirements.txt) and nothing of Bowstring: what
it knows of the contract is written down here a second time, on purpose.

put.json and bulk.json list the streams. `dtype`, `shape` and `data` (hex, C order, complex numbers as
pairs) are what the server must hold after the put; a stream with a `code` must be refused with it, and a
row with a `code` must be in the PutResult's `errors`.

mux.json lists requests and replies of the mux exchange with their `header` (hex) and, where there is a body, the
whole `message`; those with a `code` must be refused with it.
"""

import json
import pathlib
import struct
import sys

import blake3
import numpy as np
import pyarrow as pa
import xxhash

HERE = pathlib.Path(__file__).resolve().parent

#: dtype on the wire: (NumPy dtype of the storage, whether Arrow has the type itself).
DTYPES = {
    name: (np.dtype(name), True)
    for name in "int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64".split()
}
DTYPES |= {
    "bool": (np.dtype("uint8"), False),
    "bfloat16": (np.dtype("uint16"), False),
    "float8_e4m3fn": (np.dtype("uint8"), False),
    "float8_e5m2": (np.dtype("uint8"), False),
    "complex64": (np.dtype("float32"), False),
    "complex128": (np.dtype("float64"), False),
}
SHAPE = (2, 3, 2, 1, 2, 2, 1, 2)


def values(dtype, shape):
    """Storage values that differ from one another where the type allows: a counter's bytes, hashed."""
    storage, _ = DTYPES[dtype]
    shape = tuple(shape) + ((2,) if dtype.startswith("complex") else ())
    count = int(np.prod(shape, dtype=np.int64))
    if dtype == "bool":
        return (np.arange(count) % 3 == 1).astype(np.uint8).reshape(shape)
    random = blake3.blake3(f"{dtype} {list(shape)}".encode()).digest(length=max(count * storage.itemsize, 1))
    return np.frombuffer(random, storage, count).reshape(shape)


class Opened(pa.ExtensionType):
    """An extension type of somebody else's, by its name and metadata."""

    def __init__(self, name, metadata, storage):
        self._metadata = metadata
        super().__init__(storage, name)

    def __arrow_ext_serialize__(self):
        return self._metadata.encode()


def column(storage, kind=None):
    """An Arrow array whose rows are the leading axis."""
    flat = pa.Array.from_buffers(
        pa.from_numpy_dtype(storage.dtype), storage.size, [None, pa.py_buffer(storage.tobytes())]
    )
    if storage.ndim < 2:
        return flat
    cell = int(np.prod(storage.shape[1:], dtype=np.int64))
    lists = pa.FixedSizeListArray.from_buffers(pa.list_(flat.type, cell), len(storage), [None], children=[flat])
    return pa.ExtensionArray.from_storage(kind or pa.fixed_shape_tensor(flat.type, storage.shape[1:]), lists)


def table(array, dtype=None, metadata=None, name="tensor"):
    kept = {"tensor.dtype": dtype} if dtype and not DTYPES[dtype][1] else None
    return pa.table([array], schema=pa.schema([pa.field(name, array.type, metadata=kept)], metadata))


def stream(tab, rows=None, deltas=False):
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=deltas)
    with pa.ipc.new_stream(sink, tab.schema, options=options) as writer:
        for batch in tab.to_batches(max_chunksize=rows):
            writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


def put_streams():
    """(name, stream, expectation) of puts of one tensor."""

    def good(name, tab, dtype, shape, data, rows=None, **more):
        data = data if isinstance(data, bytes) else np.asarray(data, order="C").tobytes()
        return name, stream(tab, rows), {"dtype": dtype, "shape": list(shape), "data": data.hex(), **more}

    def bad(name, tab, code="invalid_argument"):
        return name, stream(tab), {"code": code}

    for dtype in DTYPES:
        for rank in range(9) if dtype in ("float32", "complex64", "bool") else (0, 1, 3):
            shape = SHAPE[:rank]
            array = values(dtype, shape)
            tab = table(column(array), dtype, {"tensor.shape": "[]"} if rank == 0 else None)
            yield good(f"{dtype}-{rank}", tab, dtype, shape, array)
    for shape in [(0,), (0, 3), (3, 0), (2, 0, 4), (0, 0)]:
        array = values("int32", shape)
        yield good("empty-" + "x".join(map(str, shape)), table(column(array)), "int32", shape, array)

    array = values("int16", (11, 3))
    tab = table(column(array))
    yield good("batches", tab, "int16", (11, 3), array, rows=4)
    yield good("sliced", tab[2:7], "int16", (5, 3), array[2:7])
    yield good("another-name", table(column(array), name="x"), "int16", (11, 3), array)
    yield good("shape-beside", table(column(array), metadata={"tensor.shape": "[33]"}), "int16", (33,), array)
    yield good(
        "user-metadata",
        table(column(array), metadata={"user.model": "m1"}),
        "int16",
        (11, 3),
        array,
        metadata={"model": "m1"},
    )
    ignored = {"tensor.namespace": "x", "tensor.key": "y", "tensor.version": "1", "tensor.checksum": "0" * 32}
    yield good("as-a-get-returned-it", table(column(array), metadata=ignored), "int16", (11, 3), array)

    flat, offsets = pa.array(array.reshape(-1)), range(0, 34, 3)
    yield good("fixed-size-list", table(pa.FixedSizeListArray.from_arrays(flat, 3)), "int16", (11, 3), array)
    nested = pa.FixedSizeListArray.from_arrays(pa.FixedSizeListArray.from_arrays(pa.array(values("int8", (24,))), 3), 4)
    yield good("nested", table(nested), "int8", (2, 4, 3), values("int8", (24,)))
    yield good("list", table(pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), flat)), "int16", (11, 3), array)
    yield good(
        "list-sliced",
        table(pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), flat)[4:9]),
        "int16",
        (5, 3),
        array[4:9],
    )
    yield good(
        "large-list", table(pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), flat)), "int16", (11, 3), array
    )
    ones = pa.Array.from_buffers(pa.int16(), 33, [pa.py_buffer(b"\xff" * 5), flat.buffers()[1]])
    yield good("validity-of-ones", table(ones), "int16", (33,), array)

    bits = values("bool", (21, 5))
    yield good("bits", table(pa.array(bits.reshape(-1).astype(bool))), "bool", (105,), bits)
    yield good(
        "bits-sliced", table(pa.array(bits.reshape(-1).astype(bool))[3:90]), "bool", (87,), bits.reshape(-1)[3:90]
    )
    yield good("bits-batches", table(pa.array(bits.reshape(-1).astype(bool))), "bool", (105,), bits, rows=13)
    yield good(
        "bits-tensor", table(pa.FixedShapeTensorArray.from_numpy_ndarray(bits.astype(bool))), "bool", (21, 5), bits
    )
    odd = pa.ExtensionArray.from_storage(pa.bool8(), pa.array([0, 1, 2, -1], pa.int8()))
    yield good("bool8", table(odd), "bool", (4,), b"\0\1\1\1")

    cells = values("int32", (5, 2, 3, 4))
    for order in [(0, 1, 2), (0, 2, 1), (1, 2, 0), (2, 0, 1), (2, 1, 0)]:
        kind = pa.fixed_shape_tensor(pa.int32(), [2, 3, 4], permutation=order)
        logical = cells.transpose(0, *(axis + 1 for axis in order))
        yield good(
            "permutation-" + "".join(map(str, order)),
            table(column(cells, kind)),
            "int32",
            logical.shape,
            logical,
            rows=2,
        )
    named = pa.fixed_shape_tensor(pa.int32(), [2, 3, 4], dim_names=["a", "b", "c"])
    yield good(
        "dim-names", table(column(cells, named)), "int32", cells.shape, cells, metadata={"dim_names": '["a","b","c"]'}
    )
    yield good(
        "numpy-by-pyarrow", table(pa.FixedShapeTensorArray.from_numpy_ndarray(cells)), "int32", cells.shape, cells
    )

    yield bad("no-null", table(pa.array([1, None, 3])))
    yield bad("no-null-in-a-cell", table(pa.array([[1, 2], [3, None]], pa.list_(pa.int32(), 2))))
    yield bad("no-null-cell", table(pa.array([[1, 2], None], pa.list_(pa.int32(), 2))))
    yield bad("no-uneven-lists", table(pa.array([[1, 2], [3]])))
    yield bad("no-two-in-bool", table(pa.array([0, 1, 2], pa.uint8()), "bool"))
    yield bad("no-wrong-product", table(column(array), metadata={"tensor.shape": "[5, 5]"}))
    yield bad("no-negative-shape", table(column(array), metadata={"tensor.shape": "[-3, -11]"}))
    yield bad("no-bfloat16-in-float32", table(pa.array([1.0], pa.float32()), "bfloat16"))
    for name, other in {
        "text": pa.array(["a"]),
        "binary": pa.array([b"a"]),
        "time": pa.array([1], pa.timestamp("us")),
        "decimal": pa.array([1], pa.decimal128(5)),
        "null-type": pa.nulls(1),
        "dictionary": pa.array([1.0]).dictionary_encode(),
        "struct": pa.array([{"a": 1}]),
        "run-ends": pa.RunEndEncodedArray.from_arrays(pa.array([2], pa.int32()), pa.array([1.0])),
    }.items():
        yield bad(f"no-{name}", table(other))


def bulk_streams():
    """(name, stream, expectation) of puts of many tensors; the command is `{"namespace": …}` and `command`."""

    def row(key, dtype, array):
        return {
            "key": key,
            "dtype": dtype,
            "shape": list(array.shape),
            "data": np.asarray(array, order="C").tobytes().hex(),
        }

    def bulk(name, keys, tensors, rows, per_batch=None, dtype=None, names=("key", "tensor"), deltas=False, **command):
        kept = {"tensor.dtype": dtype} if dtype and not DTYPES[dtype][1] else None
        schema = pa.schema([pa.field(names[0], keys.type), pa.field(names[1], tensors.type, metadata=kept)])
        return name, stream(pa.table([keys, tensors], schema=schema), per_batch, deltas), {"command": command, "rows": rows}

    for dtype in DTYPES:
        if not dtype.startswith("complex"):
            array = values(dtype, (3, 2, 2))
            yield bulk(
                dtype,
                pa.array(["a", "b", "c"]),
                column(array),
                [row(*of) for of in zip("abc", [dtype] * 3, array)],
                dtype=dtype,
            )
    array = values("float32", (5, 3))
    text = ["ä", "b", "c", "d", "e"]
    rows = [row(key, "float32", cell) for key, cell in zip(text, array)]
    for kind in (pa.utf8(), pa.large_utf8(), pa.string_view()):
        yield bulk(f"key-{kind}", pa.array(text, kind), column(array), rows)
    # Too long for a view to hold.
    long = [f"{key} of many letters" for key in text]
    long_rows = [row(key, "float32", cell) for key, cell in zip(long, array)]
    yield bulk("key-long-views", pa.array(long, pa.string_view()), column(array), long_rows)
    for index, kind in ((pa.int8(), pa.utf8()), (pa.uint64(), pa.large_utf8()), (pa.int32(), pa.string_view())):
        # In another order than the rows, and one that is not used.
        words = pa.DictionaryArray.from_arrays(pa.array([1, 0, 2, 3, 5], index), pa.array(["b", "ä", *"cdxe"], kind))
        yield bulk(f"key-{index}-of-{kind}", words, column(array), rows)
    grown = [(["ä", "b"], [0, 1]), (["ä", "b", "c"], [2]), (["ä", "b", "c", "d", "e"], [3, 4])]
    other = [(["b", "ä"], [1, 0]), (["c"], [0]), (["e", "d"], [1, 0])]
    for name, parts, deltas in (("deltas", grown, True), ("replaced", other, False)):
        words = [pa.DictionaryArray.from_arrays(pa.array(at, pa.int16()), pa.array(of)) for of, at in parts]
        yield bulk(f"key-{name}", pa.chunked_array(words), column(array), rows, deltas=deltas)
    yield bulk("batches", pa.array(text), column(array), rows, per_batch=2)
    yield bulk(
        "renamed",
        pa.array(text),
        column(array),
        rows,
        names=("word", "vector"),
        key_column="word",
        tensor_column="vector",
    )
    numbers = [-1, 0, 1, 2**63 - 1, -(2**63)]
    yield bulk(
        "key-int64",
        pa.array(numbers),
        column(array),
        [row(str(key), "float32", cell) for key, cell in zip(numbers, array)],
    )
    raw = [bytes([i, 255 - i]) for i in range(5)]
    yield bulk(
        "key-binary",
        pa.array(raw, pa.binary(2)),
        column(array),
        [row(key.hex(), "float32", cell) for key, cell in zip(raw, array)],
    )
    yield bulk(
        "scalars",
        pa.array(text),
        pa.array(array[:, 0]),
        [row(key, "float32", cell) for key, cell in zip(text, array[:, 0])],
    )
    for form, kind in {"list": pa.list_, "large-list": pa.large_list}.items():
        yield bulk(form, pa.array(text), pa.array(array.tolist(), kind(pa.float32())), rows)
    views = pa.ListViewArray.from_arrays([6, 0, 3, 12, 9], [3] * 5, pa.array(array[[1, 2, 0, 4, 3]].reshape(-1)))
    yield bulk("list-view", pa.array(text), views, rows)
    cells = values("float32", (5, 2, 3))
    cell_rows = [row(key, "float32", cell) for key, cell in zip(text, cells)]
    for version, kind in (("", pa.list_), ("_v2", pa.large_list)):
        storage = pa.array(cells.reshape(5, 6).tolist(), kind(pa.float32()))
        tensors = Opened(f"ray.data.arrow_tensor{version}", "[2, 3]", storage.type).wrap_array(storage)
        yield bulk(f"ray{version}", pa.array(text), tensors, cell_rows)
    shapes = [(2, 3), (1, 0), (4, 1), (1, 1), (3, 2)]
    cells = [values("int16", shape) for shape in shapes]
    storage = pa.StructArray.from_arrays(
        [pa.array([cell.reshape(-1).tolist() for cell in cells], pa.large_list(pa.int16())), pa.array(map(list, shapes))],
        ["data", "shape"],
    )
    tensors = Opened("ray.data.arrow_variable_shaped_tensor", "2", storage.type).wrap_array(storage)
    cell_rows = [row(key, "int16", cell) for key, cell in zip(text, cells)]
    yield bulk("ray-variable", pa.array(text), tensors, cell_rows)
    lengths = [2, 0, 3, 1, 4]
    flat = values("float32", (sum(lengths), 2))
    ends = np.cumsum([0, *lengths])
    tensors = pa.ListArray.from_arrays(pa.array(ends, pa.int32()), column(flat).storage)
    cell_rows = [row(key, "float32", flat[ends[at] : ends[at + 1]]) for at, key in enumerate(text)]
    yield bulk("ragged", pa.array(text), tensors, cell_rows, ragged=True)
    columns = {
        "key": pa.array(text, pa.string_view()),
        "dtype": pa.array(["int16", "float32", "uint8", "int8", "float64"], pa.string_view()),
        "shape": pa.array([[3], [2, 3], [0], [1, 1], []], pa.large_list(pa.int64())),
    }
    mixed = [values(dtype, shape) for dtype, shape in zip(columns["dtype"].to_pylist(), columns["shape"].to_pylist())]
    columns["data"] = pa.array([cell.tobytes() for cell in mixed], pa.binary_view())
    expected = [row(*of) for of in zip(text, columns["dtype"].to_pylist(), mixed)]
    yield "opaque-views", stream(pa.table(columns)), {"command": {}, "rows": expected}
    uneven = pa.array([None, [1, 2], [3], [4, 5], [6, None]], pa.list_(pa.int32()))
    expected = [row("b", "int32", np.array([1, 2], "i4")), row("d", "int32", np.array([4, 5], "i4"))]
    yield bulk(
        "uneven", pa.array(text), uneven, expected + [{"row": at, "code": "invalid_argument"} for at in (0, 2, 4)]
    )
    keys = pa.array(["ä", None, "", "x" * 1025, "nul\0"])
    yield bulk(
        "bad-keys", keys, column(array), rows[:1] + [{"row": at, "code": "invalid_argument"} for at in (1, 2, 3, 4)]
    )


def made():
    """Every file that this script makes, by its path."""
    files = {}
    for folder, streams in (("put", put_streams()), ("bulk", bulk_streams())):
        entries = []
        for name, data, expected in streams:
            assert f"{folder}/{name}.arrows" not in files, name
            files[f"{folder}/{name}.arrows"] = data
            entries.append({"file": f"{folder}/{name}.arrows", **expected})
        lines = ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in entries)
        files[f"{folder}.json"] = f"[\n{lines}\n]\n".encode()
    lists = []
    for name, vectors in mux_vectors().items():
        lines = ",\n    ".join(json.dumps(vector, ensure_ascii=False) for vector in vectors)
        lists.append(f'  "{name}": [\n    {lines}\n  ]')
    files["mux.json"] = ("{\n" + ",\n".join(lists) + "\n}\n").encode()
    return files


CODES = (
    "not_found already_exists invalid_argument resource_exhausted failed_precondition not_modified moved "
    "unauthenticated permission_denied unavailable deadline_exceeded cancelled unimplemented data_loss internal"
).split()


def mux_version(text):
    number = int(text)
    return struct.pack("<QI", number >> 32, number & 0xFFFFFFFF)


def mux_checksum(text):
    return bytes.fromhex(text)[::-1]


def mux_request(of):
    """The header of a request, written a second time from mux.md."""
    op = ["get", "exists", "put", "cancel"].index(of["op"]) + 1
    namespace, key = (of.get(name, "").encode() for name in ("namespace", "key"))
    optional = [
        ("rows", lambda rows: struct.pack("<QQ", *rows)),
        ("unless_version", mux_version),
        ("if_version", mux_version),
        ("checksum", mux_checksum),
        ("ttl_ms", lambda ttl: struct.pack("<Q", ttl)),
    ]
    flags = sum(1 << bit for bit, (name, _) in enumerate(optional) if name in of)
    about = bytes(3)
    shape = b""
    if of["op"] == "put":
        mode = ["create", "keep", "replace"].index(of["mode"])
        about = bytes([list(DTYPES).index(of["dtype"]) + 1, mode, len(of["shape"])])
        shape = struct.pack(f"<{len(of['shape'])}Q", *of["shape"])
    fixed = struct.pack("<BBBBIHH3sB", 1, op, flags, 0, of["id"], len(namespace), len(key), about, 0)
    return fixed + b"".join(pack(of[name]) for name, pack in optional if name in of) + shape + namespace + key


def mux_reply(of):
    """The header of a reply's message."""
    kind = ["tensor", "more", "stored", "failed"].index(of["kind"]) + 1
    flags = bool(of.get("more")) * 1 + ("checksum" in of) * 2 + bool(of.get("existed")) * 4
    code = CODES.index(of["failed"]) + 1 if "failed" in of else 0
    head = struct.pack("<BBBBI", 1, kind, flags, code, of["id"])
    if of["kind"] == "tensor":
        head += mux_version(of["version"]) + bytes([list(DTYPES).index(of["dtype"]) + 1, len(of["shape"]), 0, 0])
        head += mux_checksum(of.get("checksum", "00" * 16)) + struct.pack(f"<{len(of['shape'])}Q", *of["shape"])
    if of["kind"] == "stored":
        head += mux_version(of["version"])
    return head + of.get("message", "").encode()


def varint(number):
    more, last = number >> 7, number & 0x7F
    return bytes([last | 0x80]) + varint(more) if more else bytes([last])


def mux_message(header, body):
    """gRPC's prefix, `app_metadata` (field 3), `data_body` (field 1000)."""
    message = varint(3 << 3 | 2) + varint(len(header)) + header
    if body:
        message += varint(1000 << 3 | 2) + varint(len(body)) + body
    return struct.pack(">BI", 0, len(message)) + message


def mux_vectors():
    version = "496457007082963048857600007"
    sums = {"checksum": xxhash.xxh3_128_hexdigest(bytes(24))}
    put = {"op": "put", "key": "k", "dtype": "float32", "shape": [2, 3], "mode": "create"}
    requests = [
        {"id": 0, "op": "get", "key": "a"},
        {"id": 4294967295, "op": "get", "namespace": "embeddings-v2", "key": "schlüssel/🏹"},
        {"id": 7, "op": "get", "key": "a", "rows": [2, 1 << 40]},
        {"id": 8, "op": "get", "key": "a", "unless_version": version},
        {"id": 9, "op": "get", "namespace": "n", "key": "a", "rows": [0, 0], "unless_version": "1"},
        {"id": 256, "op": "get", "namespace": "n" * 128, "key": "k" * 1024},
        {"id": 10, "op": "exists", "key": "a"},
        {"id": 11, "op": "cancel"},
        {"id": 12, **put, "body": bytes(24).hex()},
        {"id": 13, **put, "dtype": "bool", "shape": [], "mode": "keep", "ttl_ms": 3600000, "body": "01"},
        {"id": 14, **put, "mode": "replace", "if_version": version, **sums, "ttl_ms": 1, "body": bytes(24).hex()},
        {"id": 15, **put, "dtype": "complex128", "shape": [4, 0]},
    ] + [{"id": 16, **put, "dtype": dtype, "shape": [0]} for dtype in DTYPES]
    replies = [
        {"id": 1, "kind": "tensor", "version": version, "dtype": "float32", "shape": [2, 3], **sums},
        {"id": 2, "kind": "tensor", "version": "0", "dtype": "int8", "shape": [], "body": "7f", "more": False},
        {"id": 3, "kind": "tensor", "version": "1", "dtype": "uint8", "shape": [1 << 20], "more": True, **sums},
        {"id": 3, "kind": "more", "more": True, "body": "0102"},
        {"id": 3, "kind": "more", "more": False, "body": "03" * 200},
        {"id": 4, "kind": "stored", "version": version},
        {"id": 5, "kind": "stored", "version": "2", "existed": True},
    ] + [{"id": 6, "kind": "failed", "failed": code, "message": f"a sentence, {code}=`ü`"} for code in CODES]
    for vectors, encode in ((requests, mux_request), (replies, mux_reply)):
        for vector in vectors:
            header, body = encode(vector), bytes.fromhex(vector.get("body", ""))
            vector["header"] = header.hex()
            if body:
                vector["wire"] = mux_message(header, body).hex()
    good = mux_request(requests[0])
    refused = [
        {"header": header.hex(), "code": code}
        for header, code in [
            (b"", "invalid_argument"),
            (good[:7], "invalid_argument"),
            (good[:15], "invalid_argument"),
            (good[:-1], "invalid_argument"),
            (good + b"x", "invalid_argument"),
            (b"\2" + good[1:], "unimplemented"),
            (good[:1] + b"\5" + good[2:], "unimplemented"),
            (good[:2] + b"\x80" + good[3:], "unimplemented"),
            (good[:2] + b"\4" + good[3:], "unimplemented"),
            (good[:3] + b"\1" + good[4:], "invalid_argument"),
            (good[:12] + b"\1" + good[13:], "invalid_argument"),
            (good[:-1] + b"\xff", "invalid_argument"),
            (mux_request({"id": 1, "op": "get", "key": ""}), "invalid_argument"),
            (mux_request({"id": 1, "op": "cancel", "key": "a"}), "invalid_argument"),
            (mux_request({"id": 1, **put, "shape": [1] * 33}), "invalid_argument"),
            (mux_request({"id": 1, **put, "shape": [1 << 63]}), "invalid_argument"),
            (mux_request({"id": 1, **put, "ttl_ms": 0}), "invalid_argument"),
        ]
    ]
    return {"requests": requests, "replies": replies, "refused": refused}


def check_made():
    files = made()
    for name, data in files.items():
        assert (HERE / name).read_bytes() == data, f"{name} is not what {pathlib.Path(__file__).name} makes"
    for folder in ("put", "bulk"):
        for found in (HERE / folder).iterdir():
            assert f"{folder}/{found.name}" in files, f"{folder}/{found.name} is left over"
    return len(files)


def check_key_hash():
    """The first 16 bytes of BLAKE3 over the parts, each behind its length as u32 little-endian."""
    vectors = json.loads((HERE / "key_hash.json").read_text())
    for vector in vectors:
        parts = [vector[part].encode() for part in ("tenant", "namespace", "key")]
        framed = b"".join(struct.pack("<I", len(part)) + part for part in parts)
        assert blake3.blake3(framed).digest()[:16].hex() == vector["key_hash"], vector
    return len(vectors)


def check_versions():
    """48 bits of milliseconds, 16 of counter, 32 drawn at the start, as one decimal number."""
    vectors = json.loads((HERE / "versions.json").read_text())["versions"]
    for vector in vectors:
        number = vector["ms"] << 48 | vector["counter"] << 32 | vector["start"]
        assert str(number) == vector["version"], vector
    return len(vectors)


def check_get(entry):
    """One stream that our codec made, as PyArrow reads it."""
    with pa.ipc.open_stream((HERE / entry["file"]).read_bytes()) as reader:
        tab = reader.read_all()
    data, dtype, shape = bytes.fromhex(entry["data"]), entry["dtype"], entry["shape"]
    if entry["layout"] == "opaque":
        assert tab.to_pylist() == [{"key": entry["key"], "dtype": dtype, "shape": shape, "data": data}], entry["file"]
        return
    metadata = {name.decode(): text.decode() for name, text in tab.schema.metadata.items()}
    assert (metadata["tensor.key"], metadata["user.model"]) == (entry["key"], "m1"), entry["file"]
    assert (metadata["tensor.dtype"], json.loads(metadata["tensor.shape"])) == (dtype, shape), entry["file"]
    assert metadata["tensor.checksum"] == xxhash.xxh3_128_hexdigest(data), entry["file"]
    storage, native = DTYPES[dtype]
    stored = shape + ([2] if dtype.startswith("complex") else [])
    field = tab.schema.field("tensor")
    assert not field.nullable and (field.metadata or {}).get(b"tensor.dtype", b"").decode() == ("" if native else dtype)
    array = tab["tensor"].combine_chunks()
    if entry["layout"] == "rows" and len(stored) > 1:
        assert field.type == pa.fixed_shape_tensor(pa.from_numpy_dtype(storage), stored[1:]), entry["file"]
        back = array.to_numpy_ndarray()
        assert back.shape == tuple(stored)
    else:
        assert field.type == pa.from_numpy_dtype(storage), entry["file"]
        back = array.to_numpy()
    assert back.tobytes() == data, entry["file"]


def check_gets():
    entries = json.loads((HERE / "get.json").read_text())
    for entry in entries:
        check_get(entry)
    return len(entries)


def main():
    if "--check" in sys.argv[1:]:
        print(f"{check_made()} files as PyArrow makes them, {check_gets()} streams of ours read")
        print(f"{check_key_hash()} key hashes, {check_versions()} versions")
        return
    for folder in ("put", "bulk"):
        (HERE / folder).mkdir(exist_ok=True)
        for old in (HERE / folder).iterdir():
            old.unlink()
    for name, data in made().items():
        (HERE / name).write_bytes(data)


if __name__ == "__main__":
    main()
