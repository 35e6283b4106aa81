"""`bowstring put`, `load`, `get`, `export`: files that NumPy, PyArrow and safetensors write and read, bit for bit."""

import io
import json
import struct

import ml_dtypes
import numpy
import pyarrow
import pyarrow.feather
import pyarrow.parquet
import pytest

from files import DTYPES, SHAPES, array, bowstring, name_of, same


def get(uri, namespace, key):
    raw = bowstring(uri, "get", "-n", namespace, key)
    return numpy.load(io.BytesIO(raw))


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
def test_npy_of_every_dtype_and_shape(server, namespace, tmp_path, dtype):
    for at, shape in enumerate(SHAPES):
        put = array(dtype, shape, at)
        numpy.save(tmp_path / "a.npy", put)
        flags = ["--dtype", name_of(dtype)] if "float8" in name_of(dtype) else []
        bowstring(server.uri, "put", "-n", namespace, f"k{at}", tmp_path / "a.npy", *flags)
        assert same(get(server.uri, namespace, f"k{at}"), put), shape
        bowstring(server.uri, "get", "-n", namespace, f"k{at}", "-o", tmp_path / "b.npy")
        if name_of(dtype) != "float8_e5m2":  # NumPy does not read what it writes of these
            assert (tmp_path / "b.npy").read_bytes() == (tmp_path / "a.npy").read_bytes(), "what NumPy itself writes"


@pytest.mark.parametrize("dtype", [">f4", ">i8", ">u2", ">f8", ">c8", ">c16"])
def test_npy_of_the_other_byte_order_and_of_fortran(server, namespace, tmp_path, dtype):
    put = array("uint8", (2, 3, 4 * numpy.dtype(dtype).itemsize)).view(dtype)
    for at, other in enumerate([put, numpy.asfortranarray(put), put.T]):
        numpy.save(tmp_path / "a.npy", other)
        bowstring(server.uri, "put", "-n", namespace, f"k{at}", tmp_path / "a.npy")
        ours = numpy.ascontiguousarray(other).astype(other.dtype.newbyteorder("<"))
        assert same(get(server.uri, namespace, f"k{at}"), ours)


def test_npy_from_standard_input_to_standard_output(server, namespace):
    put = array("float32", (300, 50))
    file = io.BytesIO()
    numpy.save(file, put)
    bowstring(server.uri, "put", "-n", namespace, "k", "-", input=file.getvalue())
    assert same(get(server.uri, namespace, "k"), put)
    rows = bowstring(server.uri, "get", "-n", namespace, "k", "--rows", "10:20")
    assert same(numpy.load(io.BytesIO(rows)), put[10:20])
    assert "not_found" in bowstring(server.uri, "get", "-n", namespace, "absent", code=1)


def test_a_matrix_with_keys_is_an_entry_a_row(server, namespace, tmp_path):
    put = array("float16", (1000, 64))
    (tmp_path / "keys.txt").write_text("".join(f"k{row}\n" for row in range(1000)))
    for order in "CF":
        numpy.save(tmp_path / "m.npy", numpy.asarray(put, order=order))
        said = bowstring(server.uri, "load", "-n", namespace, "--prefix", order, "--json", tmp_path / "m.npy", "--keys", tmp_path / "keys.txt")
        assert json.loads(said)["stored"] == 1000
        assert same(get(server.uri, namespace, f"{order}k777"), put[777])
    (tmp_path / "keys.txt").write_text("one\n")
    told = bowstring(server.uri, "load", "-n", namespace, tmp_path / "m.npy", "--keys", tmp_path / "keys.txt", code=5)
    assert "rows=`1000` keys=`1`" in told


@pytest.mark.parametrize("save", [numpy.savez, numpy.savez_compressed])
def test_npz(server, namespace, tmp_path, save):
    arrays = {f"{name_of(dtype)}/{at}": array(dtype, shape, at) for dtype in DTYPES[:15] for at, shape in enumerate(SHAPES)}
    save(tmp_path / "a.npz", **arrays)
    said = bowstring(server.uri, "load", "-n", namespace, "--json", tmp_path / "a.npz")
    assert json.loads(said)["stored"] == len(arrays)
    bowstring(server.uri, "export", "-n", namespace, "-o", tmp_path / "b.npz")
    with numpy.load(tmp_path / "b.npz") as read:
        assert sorted(read.files) == sorted(arrays)
        for key, put in arrays.items():
            assert same(read[key], put), key
    bowstring(server.uri, "load", "-n", namespace, "--prefix", "again/", "-", input=(tmp_path / "b.npz").read_bytes())
    assert same(get(server.uri, namespace, "again/float32/5"), arrays["float32/5"])


SAFETENSORS = {
    "bool": "BOOL", "int8": "I8", "int16": "I16", "int32": "I32", "int64": "I64", "uint8": "U8", "uint16": "U16", "uint32": "U32",
    "uint64": "U64", "float16": "F16", "float32": "F32", "float64": "F64", "complex64": "C64",
    "bfloat16": "BF16", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2",
}


def safetensors(arrays, metadata=None):
    """The format by its description: eight bytes of length, JSON, and the bytes of all tensors."""
    header, body = ({"__metadata__": metadata} if metadata else {}), b""
    for key, put in arrays.items():
        raw = put.tobytes()
        header[key] = {"dtype": SAFETENSORS[put.dtype.name], "shape": list(put.shape), "data_offsets": [len(body), len(body) + len(raw)]}
        body += raw
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def read_safetensors(raw):
    length, = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    body = raw[8 + length :]
    metadata = header.pop("__metadata__", {})
    return {key: (about["dtype"], about["shape"], body[slice(*about["data_offsets"])]) for key, about in header.items()}, metadata


def test_safetensors(server, namespace, tmp_path):
    dtypes = [dtype for dtype in DTYPES if name_of(dtype) in SAFETENSORS]
    arrays = {f"{name_of(dtype)}.{at}": array(dtype, shape, at) for dtype in dtypes for at, shape in enumerate(SHAPES)}
    (tmp_path / "a.safetensors").write_bytes(safetensors(arrays, {"format": "pt", "ü": "1"}))
    said = bowstring(server.uri, "load", "-n", namespace, "--json", tmp_path / "a.safetensors")
    assert json.loads(said)["stored"] == len(arrays)
    raw = bowstring(server.uri, "export", "-n", namespace, "-o", "-", "--format", "safetensors")
    read, metadata = read_safetensors(raw)
    assert metadata == {"format": "pt", "ü": "1"}
    assert read == {key: (SAFETENSORS[put.dtype.name], list(put.shape), put.tobytes()) for key, put in arrays.items()}
    bowstring(server.uri, "load", "-n", namespace, "--prefix", "again/", "-", input=raw)
    assert same(get(server.uri, namespace, "again/complex64.5"), arrays["complex64.5"])


def table(rows, dtype="float32", size=50):
    values = array(dtype, (rows, size))
    flat = pyarrow.array(values.reshape(-1))
    return values, {
        "fixed": pyarrow.FixedSizeListArray.from_arrays(flat, size),
        "list": pyarrow.ListArray.from_arrays(numpy.arange(rows + 1, dtype="int32") * size, flat),
        "large": pyarrow.LargeListArray.from_arrays(numpy.arange(rows + 1, dtype="int64") * size, flat),
        "tensor": pyarrow.ExtensionArray.from_storage(
            pyarrow.fixed_shape_tensor(flat.type, [size]), pyarrow.FixedSizeListArray.from_arrays(flat, size)
        ),
    }


@pytest.mark.parametrize("kind", ["fixed", "list", "large", "tensor"])
@pytest.mark.parametrize("write", ["parquet", "feather", "feather-lz4", "feather-zstd", "stream"])
def test_tables(server, namespace, tmp_path, kind, write):
    values, columns = table(5000)
    words = pyarrow.array([f"w{row}" for row in range(5000)])
    rows = pyarrow.table({"n": numpy.arange(5000), "word": words, "vector": columns[kind]})
    path = tmp_path / "a"
    if write == "parquet":
        pyarrow.parquet.write_table(rows, path, row_group_size=1300)
    elif write == "stream":
        with pyarrow.ipc.new_stream(path, rows.schema) as to:
            to.write_table(rows, max_chunksize=900)
    else:
        pyarrow.feather.write_feather(rows, path, compression=write.partition("-")[2] or "uncompressed", chunksize=900)
    said = bowstring(server.uri, "load", "-n", namespace, "--json", path)
    assert json.loads(said)["stored"] == 5000
    assert same(get(server.uri, namespace, "w4321"), values[4321])
    for extension, read in [
        ("parquet", pyarrow.parquet.read_table),
        ("arrow", lambda path: pyarrow.ipc.open_file(path).read_all()),
        ("arrows", lambda path: pyarrow.ipc.open_stream(path).read_all()),
    ]:
        bowstring(server.uri, "export", "-n", namespace, "-o", tmp_path / f"b.{extension}", "--plain")
        back = read(tmp_path / f"b.{extension}").combine_chunks().sort_by("key")
        order = numpy.argsort(words.to_pylist())
        assert back["key"].to_pylist() == [f"w{row}" for row in order]
        tensor = back["tensor"].chunk(0)
        storage = tensor.storage if isinstance(tensor, pyarrow.ExtensionArray) else tensor
        assert storage.flatten().to_numpy().tobytes() == values[order].tobytes()


@pytest.mark.parametrize("extension", ["parquet", "arrow", "arrows"])
def test_what_was_exported_comes_back_with_all_that_there_was(server, namespace, tmp_path, extension):
    for at, dtype in enumerate(DTYPES):
        numpy.save(tmp_path / "a.npy", array(dtype, SHAPES[at % 6], at))
        flags = ["--dtype", name_of(dtype)] if "float8" in name_of(dtype) else []
        flags += ["--metadata", f"a={at}", "--metadata", "ü=🏹"] if at % 2 else []
        bowstring(server.uri, "put", "-n", namespace, name_of(dtype), tmp_path / "a.npy", *flags)
    path, again = tmp_path / f"a.{extension}", tmp_path / f"b.{extension}"
    bowstring(server.uri, "export", "-n", namespace, "-o", path)
    bowstring(server.uri, "load", "-n", f"{namespace}.2"[-128:], path)
    bowstring(server.uri, "export", "-n", f"{namespace}.2"[-128:], "-o", again)
    assert path.read_bytes() == again.read_bytes()


def test_nested_columns_and_columns_that_must_be_named(server, namespace, tmp_path):
    cube = array("float64", (100, 2, 3))
    rows = pyarrow.table({
        "id": pyarrow.array(numpy.arange(100)),
        "word": pyarrow.array([f"w{row}" for row in range(100)]).dictionary_encode(),
        "title": pyarrow.array(["t"] * 100),
        "deep": pyarrow.array(cube.tolist()),
        "in": pyarrow.array([{"vector": [float(row)] * 4} for row in range(100)]),
    })
    pyarrow.parquet.write_table(rows, tmp_path / "a.parquet")
    told = bowstring(server.uri, "load", "-n", namespace, tmp_path / "a.parquet", code=5)
    assert "candidates=`word, title`" in told
    bowstring(server.uri, "load", "-n", namespace, tmp_path / "a.parquet", "--key-column", "word", "--tensor-column", "deep")
    assert numpy.array_equal(get(server.uri, namespace, "w42"), cube[42], equal_nan=True)
    bowstring(server.uri, "load", "-n", namespace, tmp_path / "a.parquet", "--key-column", "id", "--tensor-column", "in.vector")
    assert get(server.uri, namespace, "42").tolist() == [42.0] * 4


def test_bad_rows_are_written_down_and_can_be_tried_again(server, namespace, tmp_path):
    lists = [[float(row)] * (4 if row % 3 else 5) for row in range(1, 1000)]
    lists[499] = None
    keys = [f"k{row}" if row != 700 else None for row in range(1, 1000)]
    pyarrow.parquet.write_table(pyarrow.table({"key": keys, "tensor": lists}), tmp_path / "a.parquet")
    bad = tmp_path / "bad.jsonl"
    told = bowstring(server.uri, "load", "-n", namespace, tmp_path / "a.parquet", "--bad-rows", bad, code=6)
    lines = [json.loads(line) for line in bad.read_text().splitlines()]
    expected = sorted({row - 1 for row in range(1, 1000) if row % 3 == 0} | {499, 699})
    assert [line["row"] for line in lines] == expected, told
    assert {line["code"] for line in lines} == {"invalid_argument"}
    assert lines[0]["key"] == "k3" and "shape=`[5]`" in lines[0]["message"] and lines[0]["file"] == str(tmp_path / "a.parquet")
    fixed = [[float(row)] * 4 for row in range(1, 1000)]
    pyarrow.parquet.write_table(pyarrow.table({"key": [f"k{row}" for row in range(1, 1000)], "tensor": fixed}), tmp_path / "a.parquet")
    said = bowstring(server.uri, "load", "-n", namespace, tmp_path / "a.parquet", "--retry", bad, "--json")
    assert json.loads(said)["stored"] == len(expected)
    assert get(server.uri, namespace, "k3").tolist() == [3.0] * 4
    told = bowstring(server.uri, "load", "-n", f"{namespace}-none"[-128:], tmp_path / "a.parquet", "--key-column", "tensor", code=5)
    assert "cannot be keys" in told


def test_more_bad_rows_than_an_answer_spells_out(server, namespace, tmp_path):
    keys = ["k" * 2000 if row % 2 else f"k{row}" for row in range(5000)]
    pyarrow.parquet.write_table(pyarrow.table({"key": keys, "tensor": [[1.0]] * 5000}), tmp_path / "a.parquet")
    bad = tmp_path / "bad.jsonl"
    bowstring(server.uri, "load", "-n", namespace, tmp_path / "a.parquet", "--bad-rows", bad, code=6)
    assert [json.loads(line)["row"] for line in bad.read_text().splitlines()] == list(range(1, 5000, 2))
    told = bowstring(server.uri, "load", "-n", f"{namespace}-atomic"[-128:], "--atomic", tmp_path / "a.parquet", code=6)
    assert "nothing was loaded" in told
    assert "not_found" in bowstring(server.uri, "get", "-n", f"{namespace}-atomic"[-128:], "k0", code=1)


def test_all_or_nothing(server, namespace, tmp_path):
    one, two = tmp_path / "one.parquet", tmp_path / "two.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"key": ["a", "b"], "tensor": [[1.0], [2.0]]}), one)
    pyarrow.parquet.write_table(pyarrow.table({"key": ["b", "c"], "tensor": [[3.0], [4.0]]}), two)
    bowstring(server.uri, "load", "-n", namespace, "--atomic", one)
    bowstring(server.uri, "load", "-n", namespace, "--replace-all", two)
    assert get(server.uri, namespace, "b").tolist() == [3.0]
    assert "not_found" in bowstring(server.uri, "get", "-n", namespace, "a", code=1)


def broken():
    """Files that lie, and what is said of them."""
    file = io.BytesIO()
    numpy.save(file, array("float32", (100, 50)))
    npy = file.getvalue()
    file = io.BytesIO()
    numpy.savez_compressed(file, a=array("float32", (100, 50)))
    npz = file.getvalue()
    tensors = safetensors({"a": array("float32", (100, 50))})
    rows = pyarrow.table({"key": ["a"] * 100, "tensor": [[1.0, 2.0]] * 100})
    file = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(rows, file)
    parquet = file.getvalue().to_pybytes()
    file = pyarrow.BufferOutputStream()
    pyarrow.feather.write_feather(rows, file, compression="lz4")
    feather = file.getvalue().to_pybytes()
    yield "empty", b""
    yield "text", b"key,vector\na,1"
    yield "feather-1", b"FEA1" + bytes(100)
    yield "npy-huge", npy.replace(b"(100, 50)", b"(9" + b"9" * 11 + b",)")
    for name, whole in [("npy", npy), ("npz", npz), ("safetensors", tensors), ("parquet", parquet), ("feather", feather)]:
        for part in [9, len(whole) // 3, len(whole) - 9]:
            yield f"{name}-cut-{part}", whole[:part]
    yield "safetensors-long", struct.pack("<Q", 1 << 26) + b"{" + bytes(100)
    yield "safetensors-hole", safetensors({"a": array("float32", (4,))}).replace(b"[0, 16]", b"[4, 20]") + bytes(4)
    # The length that a compressed buffer says it will have.
    generator = numpy.random.default_rng(1)
    for name, whole in [("npz", npz), ("parquet", parquet), ("feather", feather), ("safetensors", tensors)]:
        for seed in range(12):
            raw = bytearray(whole)
            for at in generator.integers(4, len(raw), 20):
                raw[at] = generator.integers(0, 256)
            yield f"{name}-noise-{seed}", bytes(raw)


@pytest.mark.parametrize("raw", [pytest.param(raw, id=name) for name, raw in broken()])
def test_broken_files_are_told_of(server, namespace, tmp_path, raw, request):
    path = tmp_path / "broken"
    path.write_bytes(raw)
    noise = "noise" in request.node.name
    for code in ([0, 5, 6, 3] if noise else [5]):
        try:
            told = bowstring(server.uri, "load", "-n", namespace, path, code=code)
            break
        except AssertionError as error:
            if not noise or f"exit code {code}" in str(error) or "panicked" in str(error) or code == 3:
                raise
    if code == 5:
        assert str(path) in told and "cannot read" in told
