"""Tables of embeddings that a client puts by `adbc_ingest`, and INSERT."""

import time

import adbc_driver_flightsql.dbapi as dbapi
import numpy as np
import pyarrow as pa
import pyarrow.flight as flight
import pytest

from calls import act, command, get, put
from server import Server
from tensors import array_of, same
from test_bulk import bulk

PATIENCE_S = 60
ROWS, WIDTH = 10_000, 50
VECTORS = np.random.default_rng(7).standard_normal((ROWS, WIDTH), dtype=np.float32)
WORDS = [f"word-{n:05}" for n in range(ROWS)]


@pytest.fixture
def cursor(server):
    with dbapi.connect(server.uri, autocommit=True) as connection, connection.cursor() as cursor:
        yield cursor


def vectors(array):
    return pa.FixedSizeListArray.from_arrays(pa.array(array.ravel()), array.shape[1])


def table(words=WORDS, array=VECTORS, key="key", value="value"):
    return pa.table({key: pa.array(words), value: vectors(array)})


def ingest(cursor, namespace, rows, mode, schema="ns"):
    return cursor.adbc_ingest(namespace, rows, mode=mode, db_schema_name=schema)


def keys(client, namespace):
    return get(client, namespace=namespace, prefix="")["key"].to_pylist()


def no_load_is_left(cursor):
    """A client that broke off has no answer to wait for."""
    until = time.monotonic() + PATIENCE_S
    count = None
    while count != 0:
        assert time.monotonic() < until, f"{count} open loads"
        cursor.execute("SELECT count(*) FROM loads WHERE state = 'open'")
        (count,) = cursor.fetchone()


def test_embeddings_are_there_by_flight_and_by_sql(client, cursor, namespace):
    assert ingest(cursor, namespace, table(), "create") == ROWS
    for n in (0, 1, 4_711, ROWS - 1):
        assert same(array_of(get(client, namespace=namespace, key=WORDS[n])), VECTORS[n])
    found = get(client, namespace=namespace, keys=WORDS[::1000])
    assert same(found["tensor"].combine_chunks().to_numpy_ndarray(), VECTORS[::1000])
    cursor.execute(f"SELECT count(*), sum(elements), min(dtype) FROM tensors WHERE namespace = '{namespace}'")
    assert cursor.fetchall() == [(ROWS, ROWS * WIDTH, "float32")]
    likeness = f'cosine_similarity(value, tensor(\'{namespace}\', \'{WORDS[42]}\'))'
    cursor.execute(f'SELECT key FROM ns."{namespace}" ORDER BY {likeness} DESC LIMIT 1')
    assert cursor.fetchone() == (WORDS[42],)


def test_each_mode_is_what_it_says(client, cursor, namespace):
    first, second = table(WORDS[:5], VECTORS[:5]), table(WORDS[3:9], -VECTORS[3:9])
    with pytest.raises(dbapi.Error, match="not_found"):
        ingest(cursor, namespace, first, "append")
    assert ingest(cursor, namespace, first, "create_append") == 5
    with pytest.raises(dbapi.Error, match="already_exists"):
        ingest(cursor, namespace, second, "create")
    assert keys(client, namespace) == WORDS[:5]
    assert ingest(cursor, namespace, second, "append") == 6
    assert keys(client, namespace) == WORDS[:9]
    assert same(array_of(get(client, namespace=namespace, key=WORDS[3])), -VECTORS[3])
    assert ingest(cursor, namespace, first, "replace") == 5
    assert keys(client, namespace) == WORDS[:5]
    assert same(array_of(get(client, namespace=namespace, key=WORDS[3])), VECTORS[3])
    # Of a table without rows the driver sends nothing at all.
    with pytest.raises(dbapi.Error, match="ended before its schema"):
        ingest(cursor, namespace, first.slice(0, 0), "replace")
    assert keys(client, namespace) == WORDS[:5]


@pytest.mark.parametrize(
    ("key", "wanted"),
    [
        (pa.array(["a", "b"], pa.large_string()), ["a", "b"]),
        (pa.array(["a", "b"], pa.string_view()), ["a", "b"]),
        (pa.array([-7, 12], pa.int64()), ["-7", "12"]),
        (pa.array([7, 12], pa.uint16()), ["12", "7"]),
    ],
)
def test_kinds_of_keys(client, cursor, namespace, key, wanted):
    rows = pa.table({"key": key, "embedding": vectors(VECTORS[:2])})
    assert ingest(cursor, namespace, rows, "create", None) == 2
    assert keys(client, namespace) == wanted


def test_a_big_table_comes_in_batches(client, cursor, namespace):
    # 80 MB, in batches of 16 MB and of a row.
    wide = np.arange(2_000 * 10_000, dtype=np.float32).reshape(2_000, 10_000)
    rows = table(WORDS[:2_000], wide)
    batches = [*rows.slice(0, 1_999).to_batches(400), *rows.slice(1_999).to_batches()]
    reader = pa.RecordBatchReader.from_batches(rows.schema, iter(batches))
    assert ingest(cursor, namespace, reader, "create") == 2_000
    for n in (0, 399, 400, 1_999):
        assert same(array_of(get(client, namespace=namespace, key=WORDS[n])), wide[n])


def test_what_fails_leaves_nothing(client, cursor, namespace):
    nulls = pa.array([None if n == 9_000 else list(row) for n, row in enumerate(VECTORS)], pa.list_(pa.float32(), WIDTH))
    with pytest.raises(dbapi.Error, match="word-09000"):
        ingest(cursor, namespace, pa.table({"key": WORDS, "value": nulls}), "create")
    lists = pa.array([[1.0] * (2 if n == 9_000 else 3) for n in range(ROWS)])
    with pytest.raises(dbapi.Error, match="word-09000"):
        ingest(cursor, namespace, pa.table({"key": WORDS, "value": lists}), "create")
    with pytest.raises(dbapi.Error, match="column `key` and one more"):
        ingest(cursor, namespace, table().append_column("a", pa.array(WORDS)).rename_columns(["key", "b", "a"]), "create")
    with pytest.raises(dbapi.Error, match="expected column=`key`"):
        ingest(cursor, namespace, table(key="word"), "create")

    def breaks():
        yield from table().to_batches(1_000)[:5]
        raise ValueError("the source broke")

    with pytest.raises(Exception, match="the source broke"):
        ingest(cursor, namespace, pa.RecordBatchReader.from_batches(table().schema, breaks()), "create")
    assert keys(client, namespace) == []
    no_load_is_left(cursor)


def test_what_is_not_a_table_is_refused(server, namespace):
    for words, rows in [
        ("schema=`cache` table=`stats`", {"table_name": "stats", "db_schema_name": "cache"}),
        ("no such catalog", {"table_name": namespace, "catalog_name": "other"}),
        ("no temporary tables", {"table_name": namespace, "temporary": True}),
        ("no/name", {"table_name": "no/name"}),
        ("always there", {"table_name": "tensors"}),
    ]:
        # A cursor remembers schema and catalog.
        with dbapi.connect(server.uri, autocommit=True) as connection, connection.cursor() as cursor:
            with pytest.raises(dbapi.Error, match=words):
                cursor.adbc_ingest(data=table(WORDS[:2], VECTORS[:2]), mode="create", **rows)


def test_the_table_of_all_tensors_takes_what_a_query_of_it_gives(client, cursor, namespace):
    put(client, command(namespace=namespace), bulk(["a", "b"], VECTORS[:2].reshape(2, 5, 10)))
    put(client, command(namespace=namespace), bulk(["c"], VECTORS[2:3]))
    cursor.execute(f"SELECT namespace || '-2' AS namespace, key, value FROM tensors WHERE namespace = '{namespace}'")
    rows = cursor.fetch_arrow_table()
    assert ingest(cursor, "tensors", rows, "append", "cache") == 3
    assert same(array_of(get(client, namespace=f"{namespace}-2", key="b")), VECTORS[1].reshape(5, 10))
    assert same(array_of(get(client, namespace=f"{namespace}-2", key="c")), VECTORS[2])
    # And a table of `ns` does.
    assert ingest(cursor, f"{namespace}-3", rows.drop_columns(["namespace"]), "create") == 3
    assert same(array_of(get(client, namespace=f"{namespace}-3", key="a")), VECTORS[0].reshape(5, 10))
    bad = rows.set_column(1, "key", pa.array(["x", "y", None]))
    with pytest.raises(dbapi.Error, match="a key is null"):
        ingest(cursor, "tensors", bad, "append", "cache")
    assert keys(client, f"{namespace}-3") == ["a", "b", "c"]
    no_load_is_left(cursor)


def test_an_insert_says_how_many_and_takes_parameters(client, cursor, namespace):
    put(client, command(namespace=namespace), bulk(WORDS[:100], VECTORS[:100]))
    cursor.execute(f"INSERT INTO tensors SELECT '{namespace}-2', key, value FROM tensors WHERE namespace = '{namespace}'")
    assert cursor.rowcount == 100 or cursor.fetchall() == [(100,)]
    assert same(array_of(get(client, namespace=f"{namespace}-2", key=WORDS[7])), VECTORS[7])
    rows = pa.table({"0": [f"{namespace}-3"] * 3, "1": WORDS[:3], "2": pa.array(VECTORS[:3].tolist(), pa.list_(pa.float32()))})
    cursor.executemany("INSERT INTO tensors (namespace, key, value) VALUES (?, ?, ?)", rows)
    found = get(client, namespace=f"{namespace}-3", keys=WORDS[:3])
    assert same(found["tensor"].combine_chunks().to_numpy_ndarray(), VECTORS[:3])
    spaces = {row["namespace"]: row for row in act(client, "namespaces")["namespaces"]}
    assert spaces[f"{namespace}-3"]["entries"] == 3


def test_what_lies_below_memory_is_seen_and_does_not_come_back(tmp_path):
    flags = ("--cold", f"file://{tmp_path}/store", "--state-dir", tmp_path / "state")
    with Server(*flags, memory="64MiB") as running, flight.connect(running.uri) as client:
        put(client, command(namespace="a"), bulk(WORDS[:10], VECTORS[:10]))
        act(client, "flush")
        assert act(client, "evict", namespace="a", prefix="")["entries"] == 10
        with dbapi.connect(running.uri, autocommit=True) as connection, connection.cursor() as cursor:
            with pytest.raises(dbapi.Error, match="already_exists"):
                ingest(cursor, "a", table(WORDS[:5], -VECTORS[:5]), "create")
            assert ingest(cursor, "a", table(WORDS[:5], -VECTORS[:5]), "append") == 5
            cursor.execute("INSERT INTO ns.a (key, value) SELECT key, value FROM ns.a WHERE key = ?", (WORDS[7],))
            cursor.execute("INSERT INTO tensors SELECT 'b', key, value FROM tensors WHERE namespace = 'a'")
            assert cursor.fetchall() == [(10,)]
        act(client, "flush")
        act(client, "evict", namespace="a", prefix="")
        wanted = np.concatenate([-VECTORS[:5], VECTORS[5:10]])
        for namespace in ("a", "b"):
            found = get(client, namespace=namespace, keys=WORDS[:10])
            assert same(found["tensor"].combine_chunks().to_numpy_ndarray(), wanted)
