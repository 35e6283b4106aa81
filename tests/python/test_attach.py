"""Files that are served as a namespace without being loaded, as pyarrow writes them."""

import numpy as np
import pyarrow.flight as flight
import pyarrow.parquet as pq
import pytest
from calls import act, get
from server import Server
from test_load_files import words


@pytest.fixture(scope="module")
def client(folder):
    with Server("--load-roots", folder, memory="64MiB") as server, flight.connect(server.uri) as client:
        yield client


@pytest.mark.parametrize("compression", ["none", "snappy", "zstd"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_parquet_of_pyarrow_is_served_by_key(client, folder, compression, version):
    namespace = f"{compression}{version}"
    table, values = words(3000)
    path = folder / f"{namespace}.parquet"
    pq.write_table(table, path, compression=compression, data_page_version=version, row_group_size=1000)
    columns = {"key": "word", "tensor": "vector"}
    attached = act(client, "attach", namespace=namespace, files=[str(path)], columns=columns)
    assert (attached["files"], attached["rows"], attached["bytes"]) == (1, 3000, values.nbytes)
    chosen = np.random.default_rng(5).permutation(3000)[:700]
    got = get(client, namespace=namespace, keys=[f"w{n:05}" for n in chosen])
    stored = got["tensor"].combine_chunks().storage.values.to_numpy()
    assert np.array_equal(stored.reshape(-1, 32), values[chosen])
    got = get(client, namespace=namespace, prefix="", dtype="float32", shape=[32])
    assert got["key"].to_pylist() == table["word"].to_pylist()
    stored = got["tensor"].combine_chunks().storage.values.to_numpy()
    assert np.array_equal(stored.reshape(-1, 32), values)


def test_a_file_that_is_written_anew_is_named(client, folder):
    path = folder / "anew.parquet"
    table, _ = words(200)
    pq.write_table(table, path)
    act(client, "attach", namespace="anew", files=[str(path)], columns={"key": "word", "tensor": "vector"})
    table, values = words(200, seed=3)
    pq.write_table(table, path)
    with pytest.raises(Exception) as caught:
        get(client, namespace="anew", keys=["w00007"])
    assert "anew.parquet" in str(caught.value) and "failed_precondition" in str(caught.value)
    assert act(client, "detach", namespace="anew")["rows"] == 200
    act(client, "attach", namespace="anew", files=[str(path)], columns={"key": "word", "tensor": "vector"})
    got = get(client, namespace="anew", keys=["w00007"])
    stored = got["tensor"].combine_chunks().storage.values.to_numpy()
    assert np.array_equal(stored, values[7])
