"""SQL by the ADBC driver of Flight SQL, and by PyArrow's own client where that is enough."""

import datetime
import signal
import threading

import adbc_driver_flightsql.dbapi as dbapi
import pyarrow as pa
import pyarrow.flight as flight
import pytest

from calls import act, command, put
from tensors import sample
from test_bulk import bulk

ARRAY = sample("float32", (6, 2, 3))
KEYS = ["a", "ab", "abc", "b", "ba", "c"]


@pytest.fixture
def filled(client, namespace):
    put(client, command(namespace=namespace), bulk(KEYS, ARRAY))
    return namespace


@pytest.fixture
def cursor(server):
    with dbapi.connect(server.uri, autocommit=True) as connection, connection.cursor() as cursor:
        yield cursor


def test_rows_come_as_python_has_them(cursor, filled):
    cursor.execute(f"SELECT key, dtype, shape, bytes FROM tensors WHERE namespace = '{filled}' AND key LIKE 'a%'")
    assert cursor.fetchall() == [(key, "float32", [2, 3], 24) for key in ("a", "ab", "abc")]
    assert [column[0] for column in cursor.description] == ["key", "dtype", "shape", "bytes"]


def test_parameters_are_bound(cursor, filled):
    cursor.execute("SELECT key FROM tensors WHERE namespace = ? AND key > ? ORDER BY key LIMIT ?", (filled, "abc", 2))
    assert cursor.fetchall() == [("b",), ("ba",)]


def test_a_tensor_is_read_by_its_value(cursor, filled):
    cursor.execute(f"SELECT value FROM tensors WHERE namespace = '{filled}' AND key = 'abc'")
    (row,) = cursor.fetch_arrow_table()["value"].to_pylist()
    assert (row["dtype"], row["shape"]) == ("float32", [2, 3])
    assert row["data"] == ARRAY[2].tobytes()


def test_the_catalogue_is_there(server):
    with dbapi.connect(server.uri, autocommit=True) as connection:
        assert connection.adbc_get_info()["vendor_name"] == "Bowstring"
        assert set(connection.adbc_get_table_types()) == {"TABLE", "VIEW"}
        objects = connection.adbc_get_objects(depth="tables").read_all().to_pylist()
        (catalog,) = objects
        schemas = {it["db_schema_name"]: it["db_schema_tables"] for it in catalog["catalog_db_schemas"]}
        assert catalog["catalog_name"] == "bowstring"
        assert {"tensors", "namespaces", "stats"} <= {it["table_name"] for it in schemas["cache"]}
        assert "value" in connection.adbc_get_table_schema("tensors").names


def test_what_is_refused_says_why(cursor):
    with pytest.raises(dbapi.Error, match="SQL does not do that here"):
        cursor.execute("DROP TABLE tensors")
        cursor.fetchall()
    with pytest.raises(dbapi.Error, match="invalid_argument"):
        cursor.execute("SELECT nothing FROM tensors")
        cursor.fetchall()


def test_tensors_and_sql_share_a_port(client, filled):
    assert act(client, "exists", namespace=filled, keys=["a"])["keys"][0]["found"]
    with pytest.raises(pa.ArrowInvalid, match="expected a ticket's JSON"):
        client.get_flight_info(flight.FlightDescriptor.for_command(b"garbage"))


def left(client, namespace):
    return [it["key"] for it in act(client, "exists", namespace=namespace, keys=KEYS)["keys"] if it["found"]]


def test_delete_is_run_once_whichever_way_a_driver_does(client, cursor, filled):
    # The driver asks for an answer, whatever the text is.
    cursor.execute(f"DELETE FROM tensors WHERE namespace = '{filled}' AND key LIKE 'ab%'")
    assert cursor.fetchall() == [(2,)]
    assert left(client, filled) == ["a", "b", "ba", "c"]
    cursor.execute("DELETE FROM tensors WHERE namespace = ? AND key = ?", (filled, "b"))
    assert cursor.fetchall() == [(1,)]
    # This is an update, a row of values each time.
    cursor.executemany("DELETE FROM tensors WHERE namespace = ? AND key = ?", [(filled, "ba"), (filled, "x"), (filled, "c")])
    assert cursor.rowcount == 2
    assert left(client, filled) == ["a"]
    cursor.execute("DELETE FROM tensors WHERE false")
    assert cursor.fetchall() == [(0,)]
    cursor.adbc_statement.set_sql_query(f"DELETE FROM tensors WHERE namespace = '{filled}'")
    assert cursor.adbc_statement.execute_update() == 1
    assert left(client, filled) == []


def test_update_takes_times_and_truth_values(client, cursor, filled):
    soon = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)
    cursor.execute("UPDATE tensors SET expires_at = ?, pinned = ? WHERE namespace = ? AND key < 'b'", (soon, True, filled))
    assert cursor.fetchall() == [(3,)]
    seen = act(client, "exists", namespace=filled, keys=["a", "b"])["keys"]
    assert seen[0]["pinned"] and 3_500_000 < seen[0]["ttl_ms"] <= 3_600_000
    assert not seen[1].get("pinned") and seen[1].get("ttl_ms") is None
    cursor.execute(f"UPDATE tensors SET expires_at = NULL, pinned = false WHERE namespace = '{filled}'")
    assert cursor.fetchall() == [(6,)]
    seen = act(client, "exists", namespace=filled, keys=["a"])["keys"]
    assert not seen[0].get("pinned") and seen[0].get("ttl_ms") is None


def test_changes_that_are_refused_say_why(client, cursor, filled):
    for text, words in [
        ("DELETE FROM tensors", "WHERE true"),
        (f"DELETE FROM tensors WHERE namespace = '{filled}' LIMIT 1", "LIMIT"),
        (f"DELETE FROM tensors WHERE namespace = '{filled}' AND key IN (SELECT key FROM tensors)", "a subquery"),
        ("UPDATE tensors SET checksum = NULL WHERE true", "checksum"),
    ]:
        with pytest.raises(dbapi.Error, match=words):
            cursor.execute(text)
            cursor.fetchall()
    assert left(client, filled) == KEYS


ENDLESS = "SELECT count(*) FROM generate_series(1, 1000000000000)"


def test_a_query_is_cancelled_from_another_thread(fresh):
    with dbapi.connect(fresh.uri, autocommit=True) as connection, connection.cursor() as cursor:
        cancel = threading.Timer(0.5, cursor.adbc_cancel)
        cancel.start()
        with pytest.raises(dbapi.Error, match="(?i)cancel"):
            cursor.execute(ENDLESS)
            cursor.fetchall()
        cancel.join()
        # Its turn is another's: more than run at one time.
        for _ in range(5):
            cursor.execute("SELECT 1")
            assert cursor.fetchall() == [(1,)]


def test_flight_cancels_what_runs_by_its_info(fresh_client):
    # `CommandStatementQuery`, and `Any` around it: a field of a short text each.
    def field(number, text):
        length, varint = len(text), b""
        while length > 127:
            varint, length = varint + bytes([length & 127 | 128]), length >> 7
        return bytes([number << 3 | 2]) + varint + bytes([length]) + text

    name = b"type.googleapis.com/arrow.flight.protocol.sql.CommandStatementQuery"
    command = field(1, name) + field(2, field(1, ENDLESS.encode()))
    info = fresh_client.get_flight_info(flight.FlightDescriptor.for_command(command))
    reader = fresh_client.do_get(info.endpoints[0].ticket)
    request = flight.Action("CancelFlightInfo", field(1, info.serialize()))
    (answer,) = fresh_client.do_action(request)
    assert answer.body.to_pybytes() == b"\x08\x01", "cancelled"
    # PyArrow makes a Ctrl-C of what was cancelled, where Python listens for one.
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with pytest.raises(flight.FlightCancelledError, match="cancel"):
            reader.read_all()
    finally:
        signal.signal(signal.SIGINT, handler)
    (answer,) = fresh_client.do_action(request)
    assert answer.body.to_pybytes() == b"\x08\x03", "there is nothing to cancel"


def test_options_of_a_session(server, client, filled):
    cookies = {"adbc.flight.sql.rpc.with_cookie_middleware": "true"}
    with dbapi.connect(server.uri, db_kwargs=cookies, autocommit=True) as connection, connection.cursor() as cursor:
        connection.adbc_connection.set_options(
            **{
                "adbc.flight.sql.session.option.schema": "ns",
                "adbc.flight.sql.session.option.sql_rows_max": 3,
            }
        )
        cursor.execute(f'SELECT key FROM "{filled}" LIMIT 3')
        assert len(cursor.fetchall()) == 3
        with pytest.raises(dbapi.Error, match="sql_rows_max"):
            cursor.execute(f'SELECT key FROM "{filled}"')
            cursor.fetchall()
        options = connection.adbc_connection.get_option("adbc.flight.sql.session.options")
        assert '"schema"' in options and "ns" in options
        with pytest.raises(dbapi.Error, match="(?i)invalid"):
            connection.adbc_connection.set_options(**{"adbc.flight.sql.session.option.colour": "red"})
        connection.adbc_connection.set_options(**{"adbc.connection.db_schema": "cache"})
        cursor.execute("SELECT count(*) FROM tensors WHERE namespace = ?", (filled,))
        assert cursor.fetchall() == [(6,)]
    with dbapi.connect(server.uri, autocommit=True) as connection, connection.cursor() as cursor:
        with pytest.raises(dbapi.Error, match="invalid_argument"):
            cursor.execute(f'SELECT key FROM "{filled}"')
