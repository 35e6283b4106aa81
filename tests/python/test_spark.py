"""Spark: arrays are taken as they are; tasks that fail, that are run twice, and jobs that fail do no harm."""

import os
import runpy
import shutil
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.flight as flight
import pytest
from pyspark import TaskContext, cloudpickle
from pyspark.errors import PySparkException
from pyspark.ml.functions import array_to_vector, vector_to_array
from pyspark.sql.datasource import DataSource

import glove
import with_retries
from calls import act, command, get, put, refused
from conftest import EXAMPLES
from frames import KEYS, check_stored, rows_of
from server import Server
from spark_cluster import Cluster
from tensors import DTYPES

pytestmark = pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs Java 17 or newer")

# The executors have no copy of these.
for module in (with_retries, sys.modules[__name__]):
    cloudpickle.register_pickle_by_value(module)

NATIVE = ["int8", "int16", "int32", "int64", "float32", "float64", "bool"]

#: The example's classes, without its job.
Writer = runpy.run_path(str(EXAMPLES / "spark.py"), run_name="example")["Writer"]
Reader = runpy.run_path(str(EXAMPLES / "spark_read.py"), run_name="example")["Bowstring"]


@pytest.fixture(scope="module")
def spark(tmp_path_factory, glove_parquet):
    # The JVM stands where it is started, and the example looks for its file there.
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(glove_parquet)
        cluster = Cluster(tmp_path_factory.mktemp("spark"))
    yield cluster
    cluster.stop()


def save(spark, frame, server, namespace, writer=Writer, mode="append", **options):
    """`frame.write` by the example's writer, or by one made of it."""

    class Source(DataSource):
        @classmethod
        def name(cls):
            return "under_test"

        def writer(self, schema, overwrite):
            return writer(dict(self.options), overwrite)

    spark.session.dataSource.register(Source)
    frame.write.format("under_test").mode(mode).options(endpoint=server.uri, namespace=namespace, **options).save()


def numbers(spark, rows=4_000, partitions=4):
    """Rows with the keys 0, 1, …, each of them that number twice."""
    return spark.session.range(rows, numPartitions=partitions).selectExpr("id AS key", "array(id, id) AS tensor")


def check_numbers(client, namespace, rows=4_000):
    table = get(client, namespace=namespace, prefix="", dtype="int64", shape=[2])
    found = dict(zip(table["key"].to_pylist(), table["tensor"].combine_chunks().storage.to_pylist()))
    assert table.num_rows == rows and found == {str(row): [row, row] for row in range(rows)}


def loads(client):
    counters = act(client, "stats")["counters"]
    return {name: count for name, count in counters.items() if name.startswith("loads_")}


@pytest.fixture(scope="module")
def stored(spark):
    """Both examples as they are, on the cluster that is there; a row of an older load must be gone in the end."""
    with Server(memory="512MiB") as server, flight.connect(server.uri) as client, pytest.MonkeyPatch.context() as patch:
        patch.setenv("BOWSTRING_ENDPOINT", server.uri)
        put(client, command(namespace="glove"), pa.table({"key": ["of an older load"], "tensor": pa.array([1.0])}))
        runpy.run_path(str(EXAMPLES / "spark.py"), run_name="__main__")
        yield client, runpy.run_path(str(EXAMPLES / "spark_read.py"), run_name="__main__")["frame"]


def test_the_example_loads_glove(stored):
    client, _ = stored
    glove.compare(client)
    assert act(client, "namespaces")["namespaces"][0]["entries"] == 400_000


def test_the_example_reads_every_row_once(stored):
    _, frame = stored
    table = frame.toArrow()
    assert sorted(table["key"].to_pylist(), key=str.encode) == [glove.words()[row] for row in glove.order()]
    rows = {word: row for row, word in enumerate(glove.words())}
    places = [rows[word] for word in table["key"].to_pylist()]
    values = table["tensor"].combine_chunks().flatten().to_numpy().reshape(-1, 50)
    assert (values == glove.vectors()[places]).all()


@pytest.mark.parametrize("name", NATIVE)
def test_every_dtype_of_its_own(spark, server, client, namespace, name):
    array = rows_of(name)
    kind = pa.list_(pa.from_numpy_dtype(array.dtype))
    frame = spark.frame(pa.table({"key": KEYS, "tensor": pa.array(array.tolist(), kind)}))
    save(spark, frame, server, namespace)
    check_stored(client, namespace, array)
    source = spark.session.read.format("bowstring").schema(frame.schema)
    spark.session.dataSource.register(Reader)
    back = source.options(endpoint=server.uri, namespace=namespace, dtype=name, shape="[3]").load()
    assert {row.key: row.tensor for row in back.collect()} == dict(zip(KEYS, array.tolist()))


@pytest.mark.parametrize("name", sorted(set(DTYPES) - set(NATIVE)))
def test_other_dtypes_go_as_bytes(spark, server, client, namespace, name):
    array = rows_of(name)
    opaque = {"key": KEYS, "dtype": [name] * 5, "shape": [[3]] * 5, "data": [row.tobytes() for row in array]}
    save(spark, spark.frame(pa.table(opaque)), server, namespace)
    check_stored(client, namespace, array)
    back = spark.session.createDataFrame(get(client, namespace=namespace, keys=KEYS, layout="opaque"))
    assert [bytes(row.data) for row in back.select("data").collect()] == opaque["data"]


@pytest.mark.parametrize("name", ["uint8", "float16", "bfloat16"])
def test_other_dtypes_are_cast_to(spark, server, client, namespace, name):
    array = np.arange(15).reshape(5, 3)
    frame = spark.frame(pa.table({"key": KEYS, "tensor": pa.array(array.tolist(), pa.list_(pa.float32()))}))
    save(spark, frame, server, namespace, dtype=name)
    check_stored(client, namespace, array.astype(DTYPES[name]))


def test_vectors_of_spark_ml_become_arrays(spark, server, client, namespace):
    """A vector is a struct to Arrow, which is no tensor; `vector_to_array` is Spark's own way out."""
    array = rows_of("float64")
    frame = spark.frame(pa.table({"key": KEYS, "tensor": array.tolist()})).withColumn("tensor", array_to_vector("tensor"))
    # snippet: vectors
    frame = frame.withColumn("tensor", vector_to_array("tensor"))
    # snippet end
    save(spark, frame, server, namespace)
    check_stored(client, namespace, array)


def attempt(writer):
    """Which partition, in which attempt of it; each is noted in a file of its own."""
    context = TaskContext.get()
    place = (context.partitionId(), context.attemptNumber())
    with open(os.path.join(writer.folder, "{}-{}".format(*place)), "w"):
        return place


class FailsOnce(Writer):
    """One task puts all of its rows and fails then; Spark runs it again."""

    def write(self, batches):
        message = super().write(batches)
        if attempt(self) == (1, 0):
            raise RuntimeError("this executor ran out of memory")
        return message


class DiesOnce(Writer):
    """One task's process is killed when the rows are put."""

    def write(self, batches):
        message = super().write(batches)
        if attempt(self) == (1, 0):
            os._exit(1)
        return message


class Straggles(Writer):
    """One task puts all of its rows and then takes so long that Spark runs a copy of it beside it."""

    def write(self, batches):
        message = super().write(batches)
        if attempt(self) == (0, 0):
            time.sleep(60)
        return message


@pytest.mark.parametrize("kind, twice", [(FailsOnce, 1), (DiesOnce, 1), (Straggles, 0)], ids=lambda kind: getattr(kind, "__name__", ""))
def test_a_task_that_runs_twice_does_no_harm(spark, server, client, namespace, tmp_path, kind, twice):
    class Noted(kind):
        folder = str(tmp_path)

    before = loads(client)
    save(spark, numbers(spark), server, namespace, Noted)
    assert (tmp_path / f"{twice}-0").exists() and (tmp_path / f"{twice}-1").exists(), "both attempts have put their rows"
    check_numbers(client, namespace)
    after = loads(client)
    assert (after["loads_committed"] - before["loads_committed"]) == 1, (before, after)


def test_a_job_that_fails_leaves_what_was_there(spark, server, client, namespace, tmp_path):
    put(client, command(namespace=namespace), pa.table({"key": ["old"], "tensor": pa.array([1.0])}))

    class Fails(Writer):
        def write(self, batches):
            message = super().write(batches)
            if TaskContext.get().partitionId() == 1:
                raise RuntimeError("a row that nobody can read")
            (tmp_path / "load").write_text(self.command["load_id"])
            return message

    with pytest.raises(PySparkException, match="a row that nobody can read"):
        save(spark, numbers(spark), server, namespace, Fails, mode="overwrite")
    assert get(client, namespace=namespace, prefix="")["key"].to_pylist() == ["old"]
    with refused("failed_precondition", "aborted"):
        act(client, "commit_load", load_id=(tmp_path / "load").read_text())


def test_append_merges_and_overwrite_replaces(spark, server, client, namespace):
    put(client, command(namespace=namespace), pa.table({"key": ["old", "0"], "tensor": pa.array([1.0, 1.0])}))
    save(spark, numbers(spark, 10), server, namespace)
    assert set(get(client, namespace=namespace, prefix="")["key"].to_pylist()) == {"old", *map(str, range(10))}
    save(spark, numbers(spark, 5), server, namespace, mode="overwrite")
    check_numbers(client, namespace, 5)


def test_foreach_partition(spark, server, client, namespace):
    frame, endpoint = numbers(spark), server.uri

    # snippet: foreach_partition
    def put_partition(rows):
        table = pa.Table.from_pylist([row.asDict() for row in rows])
        if table.num_rows:
            with_retries.put_rows(flight.connect(endpoint), table, namespace=namespace, mode="replace")

    frame.foreachPartition(put_partition)
    # snippet end
    check_numbers(client, namespace)


def test_a_row_of_another_length_is_named_to_the_user(spark, server, client, namespace):
    frame = spark.session.range(20, numPartitions=1).selectExpr(
        "id AS key", "CASE id WHEN 17 THEN array(0f) ELSE array(0f, 1f) END AS tensor"
    )
    with pytest.raises(PySparkException, match=r"1 rows were refused; the first: .*'row': 17, 'key': '17'"):
        save(spark, frame, server, namespace)
    assert get(client, namespace=namespace, prefix="").num_rows == 0


def test_a_server_that_is_away_is_named_to_the_user(spark, namespace, monkeypatch):
    monkeypatch.setattr(with_retries, "WAITS_S", [0.1, 0.1])

    class Away:
        uri = "grpc://127.0.0.1:1"

    with pytest.raises(PySparkException, match="Flight returned unavailable error"):
        save(spark, numbers(spark), Away, namespace)
