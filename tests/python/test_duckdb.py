"""DuckDB: what a query gives in Arrow is taken as it is, and a query reads what a get returns."""

import functools
import json

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from calls import command, get, put, refused
from frames import KEYS, NATIVE, check, rows_of
from tensors import DTYPES, same, storage_of

#: DuckDB has no float16: `"dtype": "float16"` in the command makes it from FLOAT.
TYPES = {"float32": "FLOAT", "float64": "DOUBLE", "bool": "BOOLEAN"} | {
    f"{sign}int{bits}": f"{sign.upper()}{word}"
    for sign in ("", "u")
    for bits, word in [(8, "TINYINT"), (16, "SMALLINT"), (32, "INTEGER"), (64, "BIGINT")]
}


def query(array, select):
    """Runs a query over the rows `key, tensor` of an array, whose tensors are lists."""
    kind = functools.reduce(lambda inner, _: pa.list_(inner), array.shape[1:], pa.from_numpy_dtype(array.dtype))
    source = pa.table({"key": KEYS, "tensor": pa.array(array.tolist(), kind)})
    with duckdb.connect() as connection:
        connection.register("source", source)
        return connection.sql(f"SELECT {select} FROM source").to_arrow_table()


def column(found, name):
    """A column of what a get returned, read by a query."""
    with duckdb.connect() as connection:
        connection.register("found", found)
        return [value for (value,) in connection.sql(f"SELECT {name} FROM found").fetchall()]


def test_its_types_are_all_but_float16():
    assert set(TYPES) == set(NATIVE) - {"float16"}


@pytest.mark.parametrize("kind", ["{}[3]", "{}[]"], ids=["array", "list"])
@pytest.mark.parametrize("name", TYPES)
def test_every_dtype_of_its_own(client, namespace, name, kind):
    array = rows_of(name)
    check(client, namespace, query(array, f"key, tensor::{kind.format(TYPES[name])} AS tensor"), array)
    back = column(get(client, namespace=namespace, keys=KEYS), "tensor")
    assert same(np.array(back, storage_of(array).dtype), storage_of(array))


def test_arrays_of_arrays(client, namespace):
    array = rows_of("float32", (2, 3))
    check(client, namespace, query(array, "key, tensor::FLOAT[3][2] AS tensor"), array)


def test_numbers_alone(client, namespace):
    array = rows_of("float64")
    check(client, namespace, query(array, "key, tensor[1]::DOUBLE AS tensor"), array[:, 0])


@pytest.mark.parametrize(
    "key, expected",
    [
        ("key::ENUM('a', 'b', 'ü', 'd', 'e')", KEYS),
        ("(row_number() OVER ())::BIGINT", list("12345")),
        ("(row_number() OVER ())::UTINYINT", list("12345")),
        ("format('00000000-0000-0000-0000-00000000000{}', row_number() OVER ())::UUID", None),
    ],
    ids=["enum", "bigint", "utinyint", "uuid"],
)
def test_kinds_of_keys(client, namespace, key, expected):
    array = rows_of("float32")
    expected = expected or [f"00000000-0000-0000-0000-00000000000{row}" for row in range(1, 6)]
    check(client, namespace, query(array, f"{key} AS key, tensor::FLOAT[3] AS tensor"), array, keys=expected)


@pytest.mark.parametrize("key", ["1::HUGEINT", "1.5::DOUBLE", "now()"], ids=["hugeint", "double", "timestamp"])
def test_what_is_no_key(client, namespace, key):
    table = query(rows_of("float32"), f"{key} AS key, tensor::FLOAT[3] AS tensor")
    with refused("invalid_argument", "key"):
        put(client, command(namespace=namespace), table)


def test_metadata_is_a_map(client, namespace):
    table = query(rows_of("float32"), "key, tensor::FLOAT[3] AS tensor, MAP {'model': 'm1'} AS metadata")
    check(client, namespace, table, rows_of("float32"))
    assert get(client, namespace=namespace, key="a").schema.metadata[b"user.model"] == b"m1"


def test_a_row_of_another_length_is_named(client, namespace):
    table = duckdb.sql(
        "SELECT i::BIGINT AS key, CASE i WHEN 17 THEN [1] WHEN 18 THEN NULL ELSE [1, 2] END::FLOAT[] AS tensor FROM range(20) t(i)"
    ).to_arrow_table()
    reply = put(client, command(namespace=namespace), table)
    assert reply["stored"] == 18 and [error["row"] for error in reply["errors"]] == [17, 18]


def test_a_stream_of_batches_is_never_whole_in_memory(client, namespace):
    rows = duckdb.sql("SELECT i::BIGINT AS key, [i, -i]::INTEGER[2] AS tensor FROM range(10_000) t(i)")
    where = command(namespace=namespace)
    # snippet: stream
    reader = rows.to_arrow_reader(1_000)
    writer, replies = client.do_put(where, reader.schema)
    with writer:
        for batch in reader:
            writer.write_batch(batch)
        writer.done_writing()
        reply = json.loads(replies.read().to_pybytes())
    # snippet end
    assert (reply["stored"], reply["errors_total"]) == (10_000, 0)
    table = get(client, namespace=namespace, keys=["0", "9999"])
    assert table["tensor"].combine_chunks().to_numpy_ndarray().tolist() == [[0, 0], [9999, -9999]]


def test_a_query_reads_what_a_get_returns(client, namespace):
    array = rows_of("float32")
    put(client, command(namespace=namespace), query(array, "key, tensor::FLOAT[3] AS tensor"))
    found = get(client, namespace=namespace, keys=KEYS)
    with duckdb.connect() as connection:
        connection.register("found", found)
        nearest = "SELECT key FROM found ORDER BY array_distance(tensor, (SELECT tensor FROM found WHERE key = 'b')) LIMIT 1"
        assert connection.sql(nearest).fetchall() == [("b",)]
    assert column(found, "typeof(tensor)") == ["FLOAT[3]"] * 5


@pytest.mark.parametrize("name", sorted(set(DTYPES) - set(TYPES)))
def test_dtypes_that_it_has_not_go_as_bytes(client, namespace, name):
    array = rows_of(name)
    opaque = pa.table({"key": KEYS, "data": [row.tobytes() for row in array]})
    with duckdb.connect() as connection:
        connection.register("source", opaque)
        select = f"SELECT key, '{name}' AS dtype, [3]::BIGINT[] AS shape, data::BLOB AS data FROM source"
        table = connection.sql(select).to_arrow_table()
    check(client, namespace, table, array)
    back = column(get(client, namespace=namespace, keys=KEYS, layout="opaque"), "data")
    assert back == [row.tobytes() for row in array]


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "complex64", "complex128"])
def test_dtypes_that_it_has_not_are_cast_to(client, namespace, name):
    """`"dtype"` in the command: what comes as float32 is stored as something else, rounded to the nearest."""
    array = rows_of("float32") % 8
    check(client, namespace, query(array, "key, tensor::FLOAT[3] AS tensor"), array.astype(DTYPES[name]), dtype=name)
