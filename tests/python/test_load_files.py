"""Files that the server reads, as pyarrow writes them."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.flight as flight
import pyarrow.parquet as pq
import pytest
from calls import PATIENCE, act, get, refused
from server import Server


@pytest.fixture(scope="module")
def client(folder):
    with Server("--load-roots", folder, memory="256MiB") as server, flight.connect(server.uri) as client:
        yield client


def words(rows, dimensions=32, seed=0):
    values = np.random.default_rng(seed).random((rows, dimensions), dtype="float32")
    lists = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), dimensions)
    table = pa.table({"word": [f"w{n:05}" for n in range(rows)], "vector": lists, "count": range(rows)})
    return table, values


def load(client, files, **members):
    """Every answer, to the end."""
    body = json.dumps({"files": [str(file) for file in files], **members}).encode()
    return [json.loads(result.body.to_pybytes()) for result in client.do_action(flight.Action("load", body), PATIENCE)]


@pytest.mark.parametrize("compression", ["none", "snappy", "zstd", "gzip", "lz4", "brotli"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_parquet_of_pyarrow_is_loaded_by_the_server(client, folder, compression, version):
    namespace = f"{compression}{version}"
    table, values = words(3000)
    path = folder / f"{namespace}.parquet"
    pq.write_table(table, path, compression=compression, data_page_version=version, row_group_size=1000)
    last = load(client, [path], namespace=namespace, columns={"key": "word", "tensor": "vector"})[-1]
    assert (last["state"], last["rows"], last["entries"], last["bytes"]) == ("committed", 3000, 3000, values.nbytes)
    got = get(client, namespace=namespace, prefix="", dtype="float32", shape=[32])
    assert got["key"].to_pylist() == table["word"].to_pylist()
    stored = got["tensor"].combine_chunks().storage.values.to_numpy()
    assert np.array_equal(stored.reshape(-1, 32), values)


def test_a_dataset_of_lists_and_of_feather_is_loaded_by_pattern_and_by_folder(client, folder):
    parts = folder / "parts"
    (parts / "day=1").mkdir(parents=True)
    table, values = words(200, 4)
    lists = pa.array(values.tolist(), pa.list_(pa.float32()))
    pq.write_table(pa.table({"key": [f"list{n}" for n in range(200)], "tensor": lists}), parts / "day=1" / "a.parquet")
    keys = pa.array([f"feather{n}" for n in range(200)])
    plain = pa.table({"key": keys, "tensor": table["vector"]})
    feather.write_feather(plain, parts / "b.feather", compression="lz4")
    (parts / "_SUCCESS").touch()
    assert load(client, [parts / "*.feather"], namespace="parts")[-1]["entries"] == 200
    whole = load(client, [parts], namespace="parts", replace_all=True, prefix="x/")[-1]
    assert (whole["files"], whole["files_done"], whole["entries"]) == (2, 2, 400)
    got = get(client, namespace="parts", keys=["x/list7", "x/feather7", "feather7"], dtype="float32", shape=[4])
    assert got["key"].to_pylist() == ["x/list7", "x/feather7"]
    stored = got["tensor"].combine_chunks().storage.values.to_numpy().reshape(2, 4)
    assert np.array_equal(stored, values[[7, 7]])


def test_a_detached_load_is_asked_for_until_it_is_there(client, folder):
    table, _ = words(1000)
    path = folder / "detached.parquet"
    pq.write_table(table, path)
    columns = {"key": "word", "tensor": "vector"}
    (begun,) = load(client, [path], namespace="detached", columns=columns, detach=True)
    while (status := act(client, "load_status", load_id=begun["load_id"]))["state"] == "open":
        pass
    assert (status["state"], status["entries"]) == ("committed", 1000)


def test_what_may_not_be_read_and_what_is_broken_loads_nothing(client, folder):
    with refused("permission_denied", "load_roots"):
        load(client, ["/etc/hostname"], namespace="refused")
    with refused("permission_denied", "load_roots"):
        load(client, [folder / ".." / "x.parquet"], namespace="refused")
    table, _ = words(1000)
    path = folder / "broken.parquet"
    pq.write_table(table, path)
    path.write_bytes(path.read_bytes()[:-100])
    with refused("invalid_argument", "broken.parquet"):
        load(client, [path], namespace="refused")
    odd = pa.table({"key": ["a", "b"], "tensor": [[1.0, 2.0], None]})
    pq.write_table(odd, path)
    with refused("invalid_argument", "row=`1`", "column=`tensor`"):
        load(client, [path], namespace="refused")
    names = [row["namespace"] for row in act(client, "namespaces")["namespaces"] if row["entries"]]
    assert "refused" not in names
