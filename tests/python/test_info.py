"""GetFlightInfo, GetSchema and ListFlights say beforehand what DoGet will send."""

import json

import pyarrow.flight as flight
import pytest

from calls import PATIENCE, act, command, get, path, put, refused
from tensors import array_of, identical, same, sample, table_of
from test_bulk import bulk

ARRAY = sample("float32", (6, 2, 3))
KEYS = ["a", "ab", "abc", "b", "ba", "c"]


@pytest.fixture
def filled(client, namespace):
    put(client, command(namespace=namespace), bulk(KEYS, ARRAY))
    put(client, command(namespace=namespace, key="big", metadata={"m": "1"}), table_of(sample("int16", (100, 4))))
    return namespace


def follow(client, info):
    """The streams of all endpoints, each as a reader."""
    return [client.do_get(endpoint.ticket, PATIENCE) for endpoint in info.endpoints]


def said(info):
    return json.loads(info.app_metadata)


TICKETS = [
    {"key": "big"},
    {"key": "big", "rows": [3, 50]},
    {"key": "big", "layout": "flat"},
    {"key": "big", "layout": "opaque"},
    {"keys": ["a", "c", "x"]},
    {"keys": ["a", "x", "c"], "missing": "null"},
    {"keys": ["a", "big"], "layout": "opaque"},
    {"keys": ["x"]},
    {"keys": ["a"], "with": ["version", "checksum"]},
    {"prefix": ""},
    {"prefix": "a", "dtype": "float32", "shape": [2, 3]},
]


@pytest.mark.parametrize("ask", TICKETS, ids=json.dumps)
def test_the_schema_is_the_one_that_is_sent(client, filled, ask):
    info = client.get_flight_info(command(namespace=filled, **ask))
    (reader,) = follow(client, info)
    table = reader.read_all()
    asked = client.do_get(flight.Ticket(json.dumps({"namespace": filled, **ask}).encode()), PATIENCE)
    result = client.get_schema(command(namespace=filled, **ask))
    for schema in (info.schema, asked.schema, result.schema):
        assert schema.equals(reader.schema, check_metadata=True)
        assert schema.serialize().equals(reader.schema.serialize())
    assert identical(asked.read_all(), table)
    assert info.total_records == table.num_rows


def test_a_path(client, filled):
    info = client.get_flight_info(path(filled, "big"))
    assert (info.total_records, info.total_bytes) == (100, 800)
    assert info.descriptor == path(filled, "big")
    told = said(info)
    assert (told["dtype"], told["shape"], told["metadata"]) == ("int16", [100, 4], {"m": "1"})
    assert told["version"] == get(client, namespace=filled, key="big").schema.metadata[b"tensor.version"].decode()
    (reader,) = follow(client, info)
    assert same(array_of(reader.read_all()), sample("int16", (100, 4)))


def test_one_node_gives_no_other_location(client, filled):
    (endpoint,) = client.get_flight_info(path(filled, "big")).endpoints
    assert all(location.uri.startswith(b"arrow-flight-reuse-connection") for location in endpoint.locations)


def test_a_minted_ticket_carries_the_version(client, filled):
    info = client.get_flight_info(path(filled, "big"))
    (endpoint,) = info.endpoints
    assert json.loads(endpoint.ticket.ticket)["version"] == said(info)["version"]
    put(client, command(namespace=filled, key="big", mode="replace"), table_of(sample("int8", (2,))))
    with refused("failed_precondition"):
        client.do_get(endpoint.ticket, PATIENCE).read_all()


def test_a_minted_ticket_for_many_keeps_its_schema_though_all_keys_go(client, filled):
    info = client.get_flight_info(command(namespace=filled, keys=["a", "c"]))
    act(client, "delete", namespace=filled, prefix="")
    (reader,) = follow(client, info)
    assert reader.schema.equals(info.schema, check_metadata=True)
    assert len(reader.read_all()) == 0


def test_a_missing_key(client, namespace):
    for ask in (client.get_flight_info, client.get_schema):
        with refused("not_found", "nothing-here"):
            ask(path(namespace, "nothing-here"))


@pytest.mark.parametrize(
    "descriptor",
    [
        flight.FlightDescriptor.for_path(),
        path("a", "b", "c"),
        path("bad namespace", "k"),
        command(key="a", prefix="b"),
        command(),
    ],
    ids=str,
)
def test_descriptors_that_are_none(client, descriptor):
    for ask in (client.get_flight_info, client.get_schema):
        with refused("invalid_argument"):
            ask(descriptor)


def listed(client, **criteria):
    infos = list(client.list_flights(json.dumps(criteria).encode() if criteria else b""))
    return [info.descriptor.path for info in infos], infos


def test_list_flights_in_key_order(client, filled):
    paths, infos = listed(client, namespace=filled)
    assert paths == [[filled.encode(), key.encode()] for key in [*KEYS[:5], "big", "c"]]
    for info, key in zip(infos, [*KEYS[:5], "big", "c"]):
        (reader,) = follow(client, info)
        table = reader.read_all()
        assert info.schema.equals(reader.schema, check_metadata=True)
        assert (info.total_records, said(info)["version"]) == (
            table.num_rows,
            table.schema.metadata[b"tensor.version"].decode(),
        )
        assert table.schema.metadata[b"tensor.key"].decode() == key


@pytest.mark.parametrize(
    "criteria, expected",
    [
        ({"prefix": "a"}, ["a", "ab", "abc"]),
        ({"prefix": "zz"}, []),
        ({"limit": 2}, ["a", "ab"]),
        ({"after": "abc", "limit": 2}, ["b", "ba"]),
        ({"prefix": "a", "after": "a"}, ["ab", "abc"]),
    ],
    ids=json.dumps,
)
def test_list_flights_by_criteria(client, filled, criteria, expected):
    assert [key.decode() for _, key in listed(client, namespace=filled, **criteria)[0]] == expected


def test_list_flights_without_criteria(fresh_client):
    put(fresh_client, path("a"), table_of(ARRAY))
    paths, _ = listed(fresh_client)
    assert [b"a"] in [found[-1:] for found in paths]


@pytest.mark.parametrize(
    "criteria", [b"{", b"[]", b'{"frobnicate": 1}', b'{"limit": 0}', b'{"limit": -1}', b"x"], ids=str
)
def test_criteria_that_are_none(client, criteria):
    with refused("invalid_argument"):
        list(client.list_flights(criteria))
