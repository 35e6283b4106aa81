"""Ray Data: its tensor types are taken as they are, and a worker that dies, or a job, does no harm."""

import os
import runpy
import signal
import sys
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.flight as flight
import pytest

# Ray looks at these when it is imported and when it starts; nothing outside this machine is told of it.
os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled", "RAY_DATA_DISABLE_PROGRESS_BARS": "1"}

import ray  # noqa: E402
import ray.data.extensions  # noqa: E402

import glove  # noqa: E402
import with_retries  # noqa: E402
from calls import act, command, get, put, refused  # noqa: E402
from conftest import EXAMPLES  # noqa: E402
from frames import KEYS, NATIVE, check, rows_of  # noqa: E402
from server import Server  # noqa: E402
from tensors import DTYPES, same, storage_of, values_of  # noqa: E402

# The workers have no copy of these.
for module in (with_retries, sys.modules[__name__]):
    ray.cloudpickle.register_pickle_by_value(module)


@pytest.fixture(scope="module", autouse=True)
def cluster(glove_parquet):
    # The workers stand where it is started, and the example looks for its file there.
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(glove_parquet)
        ray.init(num_cpus=4, object_store_memory=200 << 20, include_dashboard=False, log_to_driver=False)
        yield
        ray.shutdown()


def batches(dataset):
    """What a `map_batches` with `batch_format="pyarrow"` is given, schema and all."""
    (table,) = dataset.iter_batches(batch_size=None, batch_format="pyarrow")
    return table


@pytest.mark.parametrize("name", NATIVE)
def test_every_dtype_of_its_own(client, namespace, name):
    """NumPy arrays in a batch become Ray's own tensor type."""
    array = rows_of(name, (2, 3))
    dataset = ray.data.from_arrow(pa.table({"key": KEYS})).map_batches(
        lambda batch: {"key": batch["key"], "tensor": array}, batch_size=None
    )
    table = batches(dataset)
    assert isinstance(table.schema.field("tensor").type, ray.data.extensions.ArrowTensorTypeV2)
    check(client, namespace, table, array)
    back = ray.data.from_arrow(get(client, namespace=namespace, keys=KEYS)).take_batch()
    assert same(back["tensor"], storage_of(array))


@pytest.mark.parametrize("form", ["lists", "fixed lists", "tensors of Arrow", "numbers", "ray's first type", "rows"])
def test_kinds_of_tensor_columns(client, namespace, form):
    array = rows_of("float32")
    flat = pa.array(array.reshape(-1))
    match form:
        case "lists":
            column = pa.array(array.tolist(), pa.list_(pa.float32()))
        case "fixed lists":
            column = pa.FixedSizeListArray.from_arrays(flat, 3)
        case "tensors of Arrow":
            column = pa.FixedShapeTensorArray.from_numpy_ndarray(array)
        case "numbers":
            column, array = flat[:5], array.reshape(-1)[:5]
        case "ray's first type":
            kind = ray.data.extensions.ArrowTensorType((3,), pa.float32())
            column = pa.ExtensionArray.from_storage(kind, pa.array(array.tolist(), kind.storage_type))
        case "rows":
            table = pa.concat_tables(
                ray.data.from_items([{"key": k, "tensor": r} for k, r in zip(KEYS, array)]).iter_batches(batch_format="pyarrow")
            )
            return check(client, namespace, table, array)
    check(client, namespace, batches(ray.data.from_arrow(pa.table({"key": KEYS, "tensor": column}))), array)


def test_tensors_of_different_shapes(client, namespace):
    """Ray's type for those is a struct of data and shape; each row has its own shape."""
    arrays = [rows_of("float32", (n, 2))[0] for n in range(1, 6)]
    dataset = ray.data.from_arrow(pa.table({"key": KEYS})).map_batches(
        lambda batch: {"key": batch["key"], "tensor": np.array([*arrays, None], dtype=object)[:-1]}, batch_size=None
    )
    table = batches(dataset)
    assert isinstance(table.schema.field("tensor").type, ray.data.extensions.ArrowVariableShapedTensorType)
    check(client, namespace, table, arrays)


@pytest.mark.parametrize("name", sorted(set(DTYPES) - set(NATIVE)))
def test_dtypes_that_arrow_has_not_go_as_bytes(client, namespace, name):
    array = rows_of(name)
    rows = [{"key": k, "dtype": name, "shape": [3], "data": row.tobytes()} for k, row in zip(KEYS, array)]
    table = pa.concat_tables(ray.data.from_items(rows).iter_batches(batch_format="pyarrow"))
    check(client, namespace, table, array)
    back = ray.data.from_arrow(get(client, namespace=namespace, keys=KEYS, layout="opaque")).take_all()
    assert [row["data"] for row in back] == [row.tobytes() for row in array]


@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn", "complex64"])
def test_dtypes_that_arrow_has_not_are_cast_to(client, namespace, name):
    array = np.arange(15, dtype="float32").reshape(5, 3)
    dataset = ray.data.from_arrow(pa.table({"key": KEYS}))
    dataset = dataset.map_batches(lambda batch: {"key": batch["key"], "tensor": array}, batch_size=None)
    check(client, namespace, batches(dataset), array.astype(DTYPES[name]), dtype=name)


# snippet: map_batches
class Put:
    """Puts every batch that it is given; Ray starts as many as `concurrency` says, each with a connection of its own."""

    def __init__(self, endpoint, **command):
        self.client, self.command = flight.connect(endpoint), command

    def __call__(self, table):
        reply = with_retries.put_rows(self.client, table, **self.command)
        return pa.table({"stored": [reply["stored"]], "existed": [reply["existed"]]})
# snippet end


def numbers(rows):
    """Rows with the keys 0, 1, …, each of them that number twice."""
    return ray.data.range(rows, override_num_blocks=4).map_batches(
        lambda batch: {"key": batch["id"], "tensor": np.stack([batch["id"], batch["id"]], axis=1)}, batch_size=None
    )


def check_numbers(client, namespace, rows):
    table = get(client, namespace=namespace, prefix="", dtype="int64", shape=[2])
    found = dict(zip(table["key"].to_pylist(), table["tensor"].combine_chunks().storage.to_pylist()))
    assert table.num_rows == rows and found == {str(row): [row, row] for row in range(rows)}


def test_map_batches(server, client, namespace):
    endpoint = server.uri
    dataset = numbers(10_000)
    # snippet: map_batches_used
    replies = dataset.map_batches(
        Put,
        fn_constructor_args=[endpoint],
        fn_constructor_kwargs={"namespace": namespace},
        batch_format="pyarrow",
        batch_size=1_000,
        concurrency=2,
    ).take_all()  # once: every `sum` or `count` of a dataset that is not kept puts all of it again
    print(sum(reply["stored"] for reply in replies), "rows were new")
    # snippet end
    assert sum(reply["stored"] for reply in replies) == 10_000
    assert sum(reply["existed"] for reply in replies) == 0
    check_numbers(client, namespace, 10_000)


def dies_once(marker):
    """Kills the worker that it runs in, the first time: with what was put on the server, and unknown to Ray."""
    if not os.path.exists(marker):
        open(marker, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("kind", ["task", "actor"])
def test_a_worker_that_is_killed_has_its_rows_put_again(server, client, namespace, tmp_path, kind):
    marker, endpoint = str(tmp_path / "killed"), server.uri

    class Killed(Put):
        def __call__(self, table):
            reply = super().__call__(table)
            if "777" in map(str, table["key"].to_pylist()):
                dies_once(marker)
            return reply

    def killed(table):
        return Killed(endpoint, namespace=namespace)(table)

    how = {"task": {"fn": killed}, "actor": {"fn": Killed, "fn_constructor_args": [endpoint], "concurrency": 2}}[kind]
    if kind == "actor":
        how["fn_constructor_kwargs"] = {"namespace": namespace}
    replies = numbers(4_000).map_batches(**how, batch_format="pyarrow", batch_size=500).take_all()
    assert os.path.exists(marker)
    assert sum(reply["stored"] + reply["existed"] for reply in replies) == 4_000
    assert sum(reply["existed"] for reply in replies) >= 500, "what the dead worker had put was put again"
    check_numbers(client, namespace, 4_000)


@pytest.fixture(scope="module")
def example():
    """The example as it is, on the cluster that is there; a row of an older load must be gone in the end."""
    with Server(memory="512MiB") as server, flight.connect(server.uri) as client, pytest.MonkeyPatch.context() as patch:
        patch.setenv("BOWSTRING_ENDPOINT", server.uri)
        put(client, command(namespace="glove"), pa.table({"key": ["of an older load"], "tensor": pa.array([1.0])}))
        names = runpy.run_path(str(EXAMPLES / "ray_data.py"), run_name="__main__")
        yield SimpleNamespace(client=client, **names)


def test_the_example_loads_glove(example):
    glove.compare(example.client)
    assert act(example.client, "namespaces")["namespaces"][0]["entries"] == 400_000


def test_the_example_reads_every_row_once(example):
    dataset = example.tickets.map_batches(example.read, batch_size=1, batch_format="pyarrow")
    # Blocks come in the order in which they were ready.
    table = pa.concat_tables(ray.get(dataset.to_arrow_refs())).sort_by("key")
    assert table["key"].to_pylist() == [glove.words()[row] for row in glove.order()]
    assert same(values_of(table["tensor"]).reshape(-1, 50), glove.vectors()[glove.order()])


def test_a_sink_whose_worker_is_killed_commits_every_row(server, client, namespace, example, tmp_path):
    marker = str(tmp_path / "killed")

    class Killed(example.Bowstring):
        def write(self, blocks, ctx):
            replies = super().write(blocks, ctx)
            dies_once(marker)
            return replies

    numbers(4_000).write_datasink(Killed(server.uri, namespace=namespace))
    assert os.path.exists(marker)
    check_numbers(client, namespace, 4_000)


def test_a_sink_that_fails_leaves_what_was_there(server, client, namespace, example):
    put(client, command(namespace=namespace), pa.table({"key": ["old"], "tensor": pa.array([1.0])}))

    class Fails(example.Bowstring):
        def write(self, blocks, ctx):
            super().write(blocks, ctx)
            raise RuntimeError("the disk of this worker is full")

    sink = Fails(server.uri, namespace=namespace)
    with pytest.raises(Exception, match="the disk of this worker is full"):
        numbers(4_000).write_datasink(sink)
    assert get(client, namespace=namespace, prefix="")["key"].to_pylist() == ["old"]
    with refused("failed_precondition", "aborted"):
        act(client, "commit_load", load_id=sink.command["load_id"])


def test_a_row_of_another_length_is_named_to_the_user(server, client, namespace):
    rows = [{"key": str(row), "tensor": [1.0] if row == 17 else [1.0, 2.0]} for row in range(20)]
    dataset = ray.data.from_arrow(pa.Table.from_pylist(rows))
    with pytest.raises(Exception, match=r"1 rows were refused; the first: .*'row': 17, 'key': '17'"):
        dataset.map_batches(
            Put,
            fn_constructor_args=[server.uri],
            fn_constructor_kwargs={"namespace": namespace},
            batch_format="pyarrow",
            concurrency=1,
        ).take_all()
