"""Whatever a client does wrong: the code, a sentence with what was wrong and what was expected, the trailers."""

import numpy as np
import pyarrow as pa
import pyarrow.flight as flight
import pytest

from calls import PATIENCE, act, command, get, message_of, path, put, refused
from tensors import sample, table_of
from test_bulk import bulk

ARRAY = sample("float32", (4, 3))


class Heard(flight.ClientMiddlewareFactory):
    """Collects the headers and trailers of every answer."""

    def __init__(self):
        self.headers = {}

    def start_call(self, info):
        factory = self

        class Middleware(flight.ClientMiddleware):
            def received_headers(self, headers):
                factory.headers.update(headers)

        return Middleware()


@pytest.fixture
def heard(server):
    factory = Heard()
    with flight.connect(server.uri, middleware=[factory]) as client:
        yield client, factory.headers


TICKETS = [
    (b"", "invalid_argument", []),
    (b"{", "invalid_argument", []),
    (b"{}", "invalid_argument", ["key", "keys", "prefix"]),
    (b'{"key": "a"} ', "not_found", []),
    (b'{"key": "a"}x', "invalid_argument", []),
    (b'{"key": 5}', "invalid_argument", ["key"]),
    (b'{"key": null}', "invalid_argument", ["key"]),
    (b'{"key": ""}', "invalid_argument", ["key"]),
    (b'{"key": "a\\u0000b"}', "invalid_argument", ["key"]),
    (b'{"key": "a", "keys": ["b"]}', "invalid_argument", ["key", "keys"]),
    (b'{"key": "a", "prefix": "b"}', "invalid_argument", ["prefix"]),
    (b'{"key": "a", "key": "b"}', "invalid_argument", ["key"]),
    (b'{"key": "a", "colour": "red"}', "invalid_argument", ["colour"]),
    (b'{"namespace": "", "key": "a"}', "invalid_argument", ["namespace"]),
    (b'{"namespace": "a/b", "key": "a"}', "invalid_argument", ["namespace", "a/b"]),
    (b'{"namespace": "' + b"n" * 129 + b'", "key": "a"}', "invalid_argument", ["namespace", "128"]),
    (b'{"key": "' + b"k" * 1025 + b'"}', "invalid_argument", ["key", "1024"]),
    (b'{"key": "\xff"}', "invalid_argument", []),
    (b'{"key": "a", "rows": [1]}', "invalid_argument", ["rows"]),
    (b'{"key": "a", "rows": [0.5, 1]}', "invalid_argument", ["rows"]),
    (b'{"keys": ["a"], "rows": [0, 1]}', "invalid_argument", ["rows"]),
    (b'{"keys": "a"}', "invalid_argument", ["keys"]),
    (b'{"keys": ["a", ""]}', "invalid_argument", ["key"]),
    (b'{"key": "a", "layout": "columns"}', "invalid_argument", ["layout", "columns"]),
    (b'{"prefix": "a", "dtype": "float32"}', "invalid_argument", ["shape"]),
    (b'{"prefix": "a", "shape": [1]}', "invalid_argument", ["dtype"]),
    (b'{"prefix": "a", "dtype": "float99", "shape": [1]}', "invalid_argument", ["float99"]),
    (b'{"prefix": "a", "dtype": "int8", "shape": [-1]}', "invalid_argument", ["shape"]),
    (b'{"prefix": "a", "dtype": "int8", "shape": [9007199254740993, 9007199254740993]}', "invalid_argument", []),
    (b'{"keys": ["a"], "missing": "maybe"}', "invalid_argument", ["missing", "maybe"]),
    (b'{"keys": ["a"], "with": ["colour"]}', "invalid_argument", ["with", "colour"]),
    (b'{"key": "a", "max_message_bytes": 0}', "invalid_argument", ["max_message_bytes"]),
    (b'{"key": "a", "max_message_bytes": -5}', "invalid_argument", ["max_message_bytes"]),
    (b'{"key": "a", "tenant": "other"}', "invalid_argument", ["tenant"]),
    (b'{"key": "nobody has this"}', "not_found", ["nobody has this"]),
    (b"[" * 100_000, "invalid_argument", ["SQL"]),
    (b'{"key": ' + b"[" * 100_000, "invalid_argument", []),
    (b"hello", "invalid_argument", ["SQL"]),
    (b"\x0a\x05hello", "unimplemented", ["hello"]),
]


@pytest.mark.parametrize(
    "text, code, fragments", TICKETS, ids=lambda value: str(value)[:60] if isinstance(value, bytes) else ""
)
def test_tickets(client, text, code, fragments):
    with refused(code, *fragments) as caught:
        client.do_get(flight.Ticket(text), PATIENCE).read_all()
    assert len(caught.message) <= 1100


def test_a_flight_sql_ticket(client):
    any_message = b"type.googleapis.com/arrow.flight.protocol.sql.TicketStatementQuery"
    with refused("invalid_argument", "SQL"):
        client.do_get(flight.Ticket(b"\x0a" + bytes([len(any_message)]) + any_message), PATIENCE).read_all()


COMMANDS = [
    ({}, "key"),
    ({"key": ""}, "key"),
    ({"key": "a", "mode": "overwrite"}, "overwrite"),
    ({"key": "a", "colour": "red"}, "colour"),
    ({"key": "a", "namespace": ""}, "namespace"),
    ({"key": "a", "metadata": "x"}, "metadata"),
    ({"key": "a", "metadata": {"x": {"y": 1}}}, "metadata"),
    ({"key": "a", "size_bytes": -1}, "size_bytes"),
    ({"key": "a", "if_version": "x"}, "version"),
    ({"key": "a", "key_column": "k"}, "key_column"),
    ({"key": "a", "wait": "forever"}, "wait"),
    ({"key": "a", "admit": "maybe"}, "admit"),
]


@pytest.mark.parametrize("members, fragment", COMMANDS, ids=str)
def test_put_commands(client, namespace, members, fragment):
    with refused("invalid_argument", fragment):
        put(client, command(**{"namespace": namespace, **members}), table_of(ARRAY))


@pytest.mark.parametrize(
    "descriptor, fragment",
    [
        (path(), ""),
        (path(""), "key"),
        (path("a b", "k"), "namespace"),
        (path("a", "b", "c"), "path"),
        (path("n", "k" * 1025), "1024"),
        (flight.FlightDescriptor.for_command(b"{"), ""),
        (flight.FlightDescriptor.for_command(b'{"key": "a", "key": "b"}'), "key"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_put_descriptors(client, descriptor, fragment):
    with refused("invalid_argument", fragment):
        put(client, descriptor, table_of(ARRAY))


@pytest.mark.parametrize(
    "text, code", [(b"", "invalid_argument"), (b"PUT a", "invalid_argument"), (b"\x0a\x05hello", "unimplemented")], ids=str
)
def test_commands_that_are_not_ours(client, text, code):
    with refused(code):
        put(client, flight.FlightDescriptor.for_command(text), table_of(ARRAY))


@pytest.mark.parametrize(
    "shape, fragment",
    [
        ("[5, 5]", "25"),
        ("[-4, -3]", "tensor.shape"),
        ("[4, 3", "tensor.shape"),
        ("{}", "tensor.shape"),
        ("[1.5]", "tensor.shape"),
        ("[4294967296, 4294967296, 4294967296]", "9223372036854775807"),
        ("[" + "1, " * 32 + "12]", "32"),
    ],
    ids=lambda value: value[:24],
)
def test_shapes_that_do_not_agree(client, namespace, shape, fragment):
    with refused("invalid_argument", fragment):
        put(client, path(namespace, "a"), table_of(ARRAY, {"tensor.shape": shape}))
    with refused("not_found"):
        get(client, namespace=namespace, key="a")


def test_a_rank_above_32(client, namespace):
    kind = pa.fixed_shape_tensor(pa.int8(), [1] * 32)
    lists = pa.FixedSizeListArray.from_arrays(pa.array([1], pa.int8()), 1)
    with refused("invalid_argument", "32"):
        put(client, path(namespace, "a"), pa.table({"x": pa.ExtensionArray.from_storage(kind, lists)}))


def test_a_table_of_several_columns_put_as_one_tensor(client, namespace):
    with refused("invalid_argument"):
        put(client, path(namespace, "a"), bulk(["x"], ARRAY[:1]))


def test_one_column_put_in_bulk(client, namespace):
    with refused("invalid_argument", "key"):
        put(client, command(namespace=namespace), table_of(ARRAY))


def test_no_column(client, namespace):
    with refused("invalid_argument"):
        put(client, path(namespace, "a"), pa.table({}))


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_compressed_batches(client, namespace, compression):
    table = table_of(np.zeros((1000, 10), "float32"))
    options = flight.FlightCallOptions(write_options=pa.ipc.IpcWriteOptions(compression=compression))
    with refused("unimplemented", "compress"):
        writer, replies = client.do_put(path(namespace, "a"), table.schema, options)
        with writer:
            writer.write_table(table)
            writer.done_writing()
            replies.read()
    with refused("not_found"):
        get(client, namespace=namespace, key="a")


def test_the_code_is_in_a_trailer_and_the_wire_in_a_header(heard):
    client, headers = heard
    with refused("not_found"):
        get(client, key="nobody has this")
    assert headers["bowstring-code"] == ["not_found"] and headers["bowstring-wire"] == ["1"]


@pytest.mark.parametrize("verb", ["get", "put", "info", "list", "action", "actions"])
def test_every_answer_carries_the_wire(heard, namespace, verb):
    client, headers = heard
    {
        "get": lambda: (
            put(client, path(namespace, "a"), table_of(ARRAY)),
            headers.clear(),
            get(client, namespace=namespace, key="a"),
        ),
        "put": lambda: put(client, path(namespace, "a"), table_of(ARRAY)),
        "info": lambda: (
            put(client, path(namespace, "a"), table_of(ARRAY)),
            headers.clear(),
            client.get_flight_info(path(namespace, "a")),
        ),
        "list": lambda: list(client.list_flights(b"")),
        "action": lambda: act(client, "namespaces"),
        "actions": lambda: list(client.list_actions()),
    }[verb]()
    assert headers["bowstring-wire"] == ["1"] and "bowstring-code" not in headers


@pytest.mark.parametrize(
    "code, kind, ask",
    [
        ("not_found", KeyError, lambda client: get(client, key="nobody has this")),
        ("invalid_argument", pa.ArrowInvalid, lambda client: get(client, key="")),
        ("unimplemented", NotImplementedError, lambda client: act(client, "attach to nothing")),
    ],
)
def test_the_classes_that_pyarrow_makes_of_them(heard, code, kind, ask):
    client, headers = heard
    with pytest.raises(kind) as caught:
        ask(client)
    assert message_of(caught.value).startswith(f"{code}: ") and headers["bowstring-code"] == [code]


def test_to_wait_for_a_tier_that_is_not_there(client, namespace):
    with refused("failed_precondition", "--cold"):
        put(client, command(namespace=namespace, key="a", wait="cold"), table_of(ARRAY))
    with refused("not_found"):
        get(client, namespace=namespace, key="a")


def test_compressed_messages(server, namespace):
    GZIP = 2
    with flight.connect(server.uri, generic_options=[("grpc.default_compression_algorithm", GZIP)]) as client:
        with refused("unimplemented", "compress"):
            put(client, path(namespace, "a"), table_of(np.zeros((1000, 10), "float32")))


def test_a_handshake_is_not_built_yet(client):
    with refused("unimplemented", "Handshake"):
        client.authenticate_basic_token("user", "password")
