"""`bowstring export` and `load` where they are more than a file and back: keys beside an array, what goes meanwhile, large tensors, `--json`."""

import io
import json
import os
import subprocess

import numpy
import pyarrow
import pyarrow.feather
import pyarrow.parquet
import pytest

from files import array, bowstring, same
from server import binary


def load_matrix(uri, namespace, path, put, names):
    numpy.save(path / "m.npy", put)
    (path / "keys.txt").write_text("".join(f"{name}\n" for name in names))
    return bowstring(uri, "load", "-n", namespace, path / "m.npy", "--keys", path / "keys.txt", "--json")


@pytest.mark.parametrize("shape", [(300, 50), (300,), (300, 2, 3, 4), (1, 7)], ids=str)
def test_many_tensors_become_one_npy_with_their_keys_beside_it(server, namespace, tmp_path, shape):
    put = array("float16", shape)
    names = [f"k{row:03}" for row in range(shape[0])]
    load_matrix(server.uri, namespace, tmp_path, put, names)
    said = bowstring(server.uri, "export", "-n", namespace, "-o", tmp_path / "out.npy", "--json")
    said = json.loads(said)
    assert (said["rows"], said["gone"]) == (shape[0], [])
    assert said["files"] == [str(tmp_path / "out.keys.txt"), str(tmp_path / "out.npy")]
    assert same(numpy.load(tmp_path / "out.npy"), put)
    assert (tmp_path / "out.keys.txt").read_text().splitlines() == names
    again = f"{namespace}.2"[-128:]
    bowstring(server.uri, "load", "-n", again, tmp_path / "out.npy", "--keys", tmp_path / "out.keys.txt")
    bowstring(server.uri, "export", "-n", again, "-o", tmp_path / "again.npy")
    assert (tmp_path / "again.npy").read_bytes() == (tmp_path / "out.npy").read_bytes()


def test_what_cannot_be_one_npy_is_told(server, namespace, tmp_path):
    load_matrix(server.uri, namespace, tmp_path, array("float32", (3, 4)), ["a", "b", "c"])
    numpy.save(tmp_path / "d.npy", array("float32", (5,)))
    bowstring(server.uri, "put", "-n", namespace, "d", tmp_path / "d.npy", "--metadata", "a=1")
    told = bowstring(server.uri, "export", "-n", namespace, "-o", tmp_path / "out.npy", code=5)
    assert "key=`d`" in told and "shape=`[5]` expected dtype=`float32` shape=`[4]`" in told
    assert not list(tmp_path.glob("out*")) and not list(tmp_path.glob(".bowstring*"))
    told = bowstring(server.uri, "export", "-n", namespace, "--format", "npy", code=2)
    assert "-o FILE" in told
    bowstring(server.uri, "put", "-n", namespace, "d\ne", tmp_path / "d.npy")
    told = bowstring(server.uri, "export", "-n", namespace, "--prefix", "d", "-o", tmp_path / "out.npy", code=5)
    assert "line break" in told
    bowstring(server.uri, "export", "-n", namespace, "--prefix", "none", "-o", tmp_path / "none.npy")
    assert numpy.load(tmp_path / "none.npy").shape == (0,) and (tmp_path / "none.keys.txt").read_text() == ""


@pytest.mark.parametrize("kind", ["stdin", "crlf", "parquet", "feather", "stream"])
def test_keys_come_from_wherever_they_are(server, namespace, tmp_path, kind):
    put = array("int32", (2000, 8))
    numpy.save(tmp_path / "m.npy", put)
    names = [f"k{row}" for row in range(2000)]
    columns = pyarrow.table({"n": range(2000), "word": pyarrow.array(names).dictionary_encode(), "title": ["t"] * 2000})
    path, text, more = tmp_path / "keys", None, ["--key-column", "word"]
    if kind == "stdin":
        path, text, more = "-", "\n".join(names).encode(), []
    elif kind == "crlf":
        path.write_text("\r\n".join(names))
        more = []
    elif kind == "parquet":
        pyarrow.parquet.write_table(columns, path, row_group_size=300)
    elif kind == "feather":
        pyarrow.feather.write_feather(columns, path)
    else:
        with pyarrow.ipc.new_stream(path, columns.schema) as to:
            to.write_table(columns, max_chunksize=300)
    said = bowstring(server.uri, "load", "-n", namespace, tmp_path / "m.npy", "--keys", path, *more, "--json", input=text)
    assert json.loads(said)["stored"] == 2000
    assert same(numpy.load(io.BytesIO(bowstring(server.uri, "get", "-n", namespace, "k1234"))), put[1234])
    if more:
        told = bowstring(server.uri, "load", "-n", namespace, tmp_path / "m.npy", "--keys", path, code=5)
        assert "candidates=`word, title`" in told


def test_keys_that_cannot_be_read_are_told_of(server, namespace, tmp_path):
    numpy.save(tmp_path / "m.npy", array("int32", (2, 8)))
    told = bowstring(server.uri, "load", "-n", namespace, tmp_path / "m.npy", "--keys", tmp_path / "m.npy", code=5)
    assert "cannot read the keys" in told
    told = bowstring(server.uri, "load", "-n", namespace, "-", "--keys", "-", code=2)
    assert "can be read once" in told
    pyarrow.parquet.write_table(pyarrow.table({"key": ["a", None]}), tmp_path / "keys.parquet")
    told = bowstring(server.uri, "load", "-n", namespace, tmp_path / "m.npy", "--keys", tmp_path / "keys.parquet", code=5)
    assert "a key is null; row=`1`" in told


def test_what_is_gone_before_its_turn_is_named(fresh, namespace, tmp_path):
    names = [f"k{row:04}" for row in range(1500)]
    put = array("uint8", (1500, 65_536))
    load_matrix(fresh.uri, namespace, tmp_path, put, names)
    words = [binary(), "export", "--endpoint", fresh.uri, "-n", namespace, "--plain", "-o", "-"]
    # A reader that waits: the stream stands still with a part of the tensors in it.
    with subprocess.Popen([str(word) for word in words], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as export:
        first = os.read(export.stdout.fileno(), 1 << 16)
        bowstring(fresh.uri, "rm", "-n", namespace, "--prefix", "", "--yes")
        rest, told = export.communicate(timeout=120)
    assert export.returncode == 6, told
    there = pyarrow.ipc.open_stream(first + rest).read_all()
    told = told.decode()
    gone = 1500 - there.num_rows
    assert 0 < gone < 1500 and f"gone=`{gone}`" in told
    keys = there["key"].to_pylist()
    assert keys == sorted(set(keys)) and set(keys) <= set(names)
    assert told.count("gone before its turn") == min(gone, 10)


def test_tensors_of_8_mib_and_more_go_by_themselves(server, namespace, tmp_path):
    arrays = {"small/1": array("float32", (10,)), "large/1": array("uint8", (9 << 20,)), "small/2": array("int8", (3, 3))}
    arrays |= {"large/2": array("float16", (5, 1 << 20)), "small/3": array("bool", (7,))}
    numpy.savez(tmp_path / "a.npz", **arrays)
    said = bowstring(server.uri, "load", "-n", namespace, "--json", tmp_path / "a.npz")
    assert json.loads(said)["stored"] == len(arrays)
    said = bowstring(server.uri, "load", "-n", namespace, "--json", tmp_path / "a.npz")
    assert json.loads(said)["existed"] == len(arrays), "kept, one by one and together"
    bowstring(server.uri, "export", "-n", namespace, "-o", tmp_path / "b.npz")
    with numpy.load(tmp_path / "b.npz") as back:
        assert sorted(back.files) == sorted(arrays)
        for key, put in arrays.items():
            assert same(back[key], put), key


def test_json_for_programs(server, namespace, tmp_path):
    put = array("float32", (4, 5))
    numpy.save(tmp_path / "a.npy", put)
    done = json.loads(bowstring(server.uri, "put", "-n", namespace, "--json", "k", tmp_path / "a.npy"))
    version = done["version"]
    assert done == {"key": "k", "stored": 1, "existed": 0, "bytes": 80, "version": version, "errors": [], "errors_total": 0}
    assert int(version) > 0
    again = json.loads(bowstring(server.uri, "put", "-n", namespace, "--json", "--mode", "keep", "k", tmp_path / "a.npy"))
    assert (again["stored"], again["existed"], again["version"]) == (0, 1, version)
    for name in ["b.npy", "b.parquet", "b.safetensors"]:
        done = json.loads(bowstring(server.uri, "get", "-n", namespace, "--json", "k", "-o", tmp_path / name))
        assert done == {"key": "k", "version": version, "bytes": 80, "file": str(tmp_path / name)}
    done = json.loads(bowstring(server.uri, "export", "-n", namespace, "--json", "-o", tmp_path / "b.npz"))
    assert done.pop("seconds") >= 0
    assert done == {"rows": 1, "gone": [], "files": [str(tmp_path / "b.npz")]}
    for words in [("get", "k"), ("export",)]:
        assert "-o FILE" in bowstring(server.uri, *words, "-n", namespace, "--json", code=2)


@pytest.mark.parametrize(
    "dtype, how",
    [
        ("float64", {"data_page_version": "2.0"}),
        ("int64", {"use_dictionary": False, "column_encoding": {"v.list.element": "DELTA_BINARY_PACKED"}}),
        ("float32", {"use_dictionary": False, "column_encoding": {"v.list.element": "BYTE_STREAM_SPLIT"}}),
        ("int32", {"compression": "zstd", "data_page_size": 500}),
        ("float32", {"compression": "gzip", "write_statistics": False, "row_group_size": 700}),
    ],
    ids=["v2", "delta", "split", "small-pages", "no-statistics"],
)
def test_lists_of_a_parquet_file_however_they_are_written(server, namespace, tmp_path, dtype, how):
    put = numpy.arange(30_000).reshape(3000, 10).astype(dtype)
    names = [f"k{row:04}" for row in range(3000)]
    pyarrow.parquet.write_table(pyarrow.table({"key": names, "v": list(put)}), tmp_path / "a.parquet", **how)
    bowstring(server.uri, "load", "-n", namespace, tmp_path / "a.parquet")
    bowstring(server.uri, "export", "-n", namespace, "-o", tmp_path / "b.npy")
    assert same(numpy.load(tmp_path / "b.npy"), put)
    # Without a column of keys, they are the only column that is read.
    pyarrow.parquet.write_table(pyarrow.table({"v": list(put)}), tmp_path / "c.parquet", **how)
    again = f"{namespace}.2"[-128:]
    bowstring(server.uri, "load", "-n", again, tmp_path / "c.parquet", "--keys", tmp_path / "b.keys.txt")
    bowstring(server.uri, "export", "-n", again, "-o", tmp_path / "d.npy")
    assert (tmp_path / "d.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()
