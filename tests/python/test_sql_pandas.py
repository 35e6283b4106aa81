"""pandas, Polars and DuckDB read what a query gives, by the ADBC driver of Flight SQL."""

import adbc_driver_flightsql.dbapi as dbapi
import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from calls import command, put
from test_bulk import bulk

ARRAY = np.arange(24, dtype="float32").reshape(6, 4) / 7
KEYS = ["a", "ab", "abc", "b", "ba", "c"]


@pytest.fixture
def filled(client, namespace):
    put(client, command(namespace=namespace), bulk(KEYS, ARRAY))
    return namespace


@pytest.fixture
def connection(server):
    with dbapi.connect(server.uri, autocommit=True) as connection:
        yield connection


def test_the_page_by_pandas(server, filled):
    address, namespace = server.uri, filled
    # snippet: pandas
    with dbapi.connect(address, autocommit=True) as connection:
        frame = pd.read_sql(
            f"SELECT key, dtype, bytes, created_at FROM tensors WHERE namespace = '{namespace}' ORDER BY key",
            connection,  # pandas has no parameters for ADBC: `cursor.execute` and `fetch_df` have
            index_col="key",
        )
    print(frame["bytes"].sum(), frame["created_at"].max())
    # snippet end
    assert list(frame.index) == KEYS and list(frame["bytes"]) == [16] * 6
    assert set(frame["dtype"]) == {"float32"}
    assert isinstance(frame["created_at"].max(), pd.Timestamp) and str(frame["created_at"].max().tz) == "UTC"


def test_pandas_has_every_column_of_tensors(connection, filled):
    frame = pd.read_sql(f"SELECT * FROM tensors WHERE namespace = '{filled}' ORDER BY key", connection)
    assert frame.shape == (6, 17)
    assert [shape.tolist() for shape in frame["shape"]] == [[4]] * 6
    assert frame["expires_at"].isna().all() and frame["created_at"].notna().all()
    assert frame["rank"].dtype == np.int32 and frame["bytes"].dtype == np.int64
    assert [np.frombuffer(value["data"], "<f4").tolist() for value in frame["value"]] == ARRAY.tolist()
    assert list(frame["metadata"]) == [[]] * 6


def test_pandas_reads_a_namespaces_tensors_as_rows(connection, filled):
    frame = pd.read_sql(f'SELECT key, to_list(value) AS value FROM ns."{filled}" ORDER BY key LIMIT 3 OFFSET 3', connection)
    assert dict(zip(frame["key"], frame["value"].map(list))) == dict(zip(KEYS[3:], ARRAY[3:].astype(float).tolist()))


def test_pandas_is_told_why(connection):
    with pytest.raises(pd.errors.DatabaseError, match="No field named nothing"):
        pd.read_sql("SELECT nothing FROM tensors", connection)


def test_pandas_takes_no_rows(connection):
    frame = pd.read_sql("SELECT key, bytes FROM tensors WHERE false", connection)
    assert list(frame.columns) == ["key", "bytes"] and frame.empty


def test_the_page_by_polars(server, filled):
    address, namespace = server.uri, filled
    # snippet: polars
    with dbapi.connect(address, autocommit=True) as connection:
        frame = pl.read_database(
            "SELECT key, bytes, hits, created_at FROM tensors WHERE namespace = ?",
            connection,
            execute_options={"parameters": (namespace,)},
        )
    print(frame.group_by(pl.col("key").str.head(1)).agg(pl.col("bytes").sum()))
    # snippet end
    assert frame.schema["created_at"] == pl.Datetime("ms", "UTC") and frame.schema["bytes"] == pl.Int64
    assert frame["key"].to_list() == KEYS and frame["bytes"].to_list() == [16] * 6


@pytest.mark.filterwarnings("ignore:Cannot disable autocommit")
def test_polars_reads_by_the_address_alone(server, filled):
    host_and_port, namespace = server.uri.removeprefix("grpc://"), filled
    # snippet: polars-uri
    uri = f"flightsql://{host_and_port}?transport=tcp"
    text = "SELECT key FROM tensors WHERE namespace = ?"
    frame = pl.read_database_uri(text, uri, engine="adbc", execute_options={"parameters": (namespace,)})
    # snippet end
    assert frame["key"].to_list() == KEYS


def test_pandas_takes_what_a_cursor_fetched(connection, filled):
    with connection.cursor() as cursor:
        cursor.execute("SELECT key, bytes FROM tensors WHERE namespace = ? AND key > ?", (filled, "b"))
        frame = cursor.fetch_df()
    assert frame.to_dict("list") == {"key": ["ba", "c"], "bytes": [16, 16]}


def test_polars_takes_batches_and_every_column(connection, filled):
    text = f"SELECT * FROM tensors WHERE namespace = '{filled}' ORDER BY key"
    with connection.cursor() as cursor:
        frame = pl.read_database(text, cursor)
        assert frame.shape == (6, 17)
        assert frame["shape"].to_list() == [[4]] * 6
        assert frame["expires_at"].to_list() == [None] * 6
        assert [np.frombuffer(value["data"], "<f4").tolist() for value in frame["value"]] == ARRAY.tolist()
        batches = list(pl.read_database(text, cursor, iter_batches=True, batch_size=2))
        assert pl.concat(batches)["key"].to_list() == KEYS


def test_polars_reads_a_namespaces_tensors_as_arrays(connection, filled):
    frame = pl.read_database(f'SELECT key, value FROM ns."{filled}" ORDER BY key', connection)
    column = frame["value"]
    column = column.ext.storage() if isinstance(column.dtype, pl.BaseExtension) else column
    assert column.to_list() == ARRAY.tolist()


def test_the_page_by_duckdb(server, filled):
    address, namespace = server.uri, filled
    # snippet: duckdb
    labels = duckdb.sql("SELECT * FROM (VALUES ('a', 'first'), ('c', 'last')) AS labels(key, label)")
    with dbapi.connect(address, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT key, bytes, to_list(value) AS value FROM tensors WHERE namespace = ?", (namespace,))
        found = duckdb.from_arrow(cursor.fetch_record_batch())  # read as the query below asks for it
        joined = found.join(labels, "key").order("key").fetchall()
    print(joined)
    # snippet end
    assert [(key, size, label) for key, size, _, label in joined] == [("a", 16, "first"), ("c", 16, "last")]
    assert [value for _, _, value, _ in joined] == [ARRAY[0].tolist(), ARRAY[5].tolist()]


def test_duckdb_reads_many_batches_and_every_column(connection, filled):
    with connection.cursor() as cursor:
        cursor.execute("SELECT value AS n FROM generate_series(1, 300000)")
        numbers = duckdb.from_arrow(cursor.fetch_record_batch())
        assert numbers.aggregate("count(*), sum(n)").fetchall() == [(300_000, 45_000_150_000)]
        cursor.execute(f"SELECT * FROM tensors WHERE namespace = '{filled}' ORDER BY key")
        reader = cursor.fetch_record_batch()
        with duckdb.connect() as duck:
            duck.register("found", reader)
            columns = "key, shape, expires_at, metadata, value.dtype, value.data, typeof(created_at)"
            rows = duck.sql(f"SELECT {columns} FROM found").fetchall()
    assert [row[:4] for row in rows] == [(key, [4], None, {}) for key in KEYS]
    assert [np.frombuffer(data, "<f4").tolist() for *_, data, _ in rows] == ARRAY.tolist()
    assert {(dtype, kind) for *_, dtype, _, kind in rows} == {("float32", "TIMESTAMP WITH TIME ZONE")}


def test_a_frame_of_keys_is_deleted_by_one_call(connection, client, filled):
    """Rows of values as Arrow has them: a frame's column is the parameter of a DELETE."""
    old = pl.DataFrame({"namespace": [filled] * 3, "key": ["a", "none", "c"]})
    with connection.cursor() as cursor:
        cursor.executemany("DELETE FROM tensors WHERE namespace = ? AND key = ?", old.to_arrow())
        assert cursor.rowcount == 2
        cursor.execute("SELECT key FROM tensors WHERE namespace = ?", pa.record_batch({"1": [filled]}))
        assert [key for (key,) in cursor.fetchall()] == ["ab", "abc", "b", "ba"]
