"""Names, documents and metadata at their limits and one past them."""

import json

import pyarrow.flight as flight
import pytest

from calls import PATIENCE, act, command, get, path, put, refused
from tensors import array_of, same, sample, table_of

ARRAY = sample("int8", (2, 3))


@pytest.mark.parametrize("key", ["k", "k" * 1024, "é" * 512], ids=["one", "1024", "1024 of two bytes"])
def test_keys(client, namespace, key):
    put(client, path(namespace, key), table_of(ARRAY))
    assert same(array_of(get(client, namespace=namespace, key=key)), ARRAY)
    assert get(client, namespace=namespace, prefix=key)["key"].to_pylist() == [key]


@pytest.mark.parametrize("key", ["", "k" * 1025, "é" * 513, "a\0"], ids=["empty", "1025", "1026", "nul"])
def test_keys_outside(client, namespace, key):
    with refused("invalid_argument", "key"):
        put(client, path(namespace, key), table_of(ARRAY))


@pytest.mark.parametrize("name", ["n", "N" * 128, "a-b_c.9"], ids=["one", "128", "all kinds"])
def test_namespaces(client, name):
    put(client, command(namespace=name, key="test_limits", mode="replace"), table_of(ARRAY))
    assert same(array_of(get(client, namespace=name, key="test_limits")), ARRAY)


@pytest.mark.parametrize(
    "name", ["", "n" * 129, "a b", "a/b", "ä", "a\n"], ids=["empty", "129", "space", "slash", "letter", "line"]
)
def test_namespaces_outside(client, name):
    with refused("invalid_argument", "namespace"):
        put(client, command(namespace=name, key="a"), table_of(ARRAY))


@pytest.mark.parametrize("name", ["../../etc/passwd", "..", "/", "a\\b", "C:", "%2e%2e", "\u202e", "\ud7ff", "\x7f"])
def test_names_are_only_names(client, namespace, name):
    put(client, path(namespace, name), table_of(ARRAY))
    assert get(client, namespace=namespace, prefix="")["key"].to_pylist() == [name]
    assert act(client, "exists", namespace=namespace, keys=[name])["leading"] == 1


def test_a_document_of_16_mib(client, namespace):
    body = {"namespace": namespace, "keys": []}
    text = json.dumps(body).encode()
    exact = text + b" " * ((16 << 20) - len(text))
    (result,) = client.do_action(flight.Action("exists", exact))
    assert json.loads(result.body.to_pybytes())["keys"] == []
    with refused("resource_exhausted", "16777216"):
        list(client.do_action(flight.Action("exists", exact + b" ")))


def test_a_ticket_past_16_mib(client):
    with refused("resource_exhausted", "16777216"):
        client.do_get(flight.Ticket(b'{"key": "a"' + b" " * (16 << 20) + b"}"), PATIENCE).read_all()


def test_metadata(client, namespace):
    metadata = {"a": "x" * 8000, "": "empty name", "ü": ""}
    put(client, command(namespace=namespace, key="a", metadata=metadata), table_of(ARRAY))
    seen = get(client, namespace=namespace, key="a").schema.metadata
    assert {k.decode()[5:]: v.decode() for k, v in seen.items() if k.startswith(b"user.")} == metadata


def test_metadata_past_its_limit(client, namespace):
    with refused("resource_exhausted", "metadata", "16384"):
        put(client, command(namespace=namespace, key="a", metadata={"a": "x" * (17 << 10)}), table_of(ARRAY))


@pytest.mark.parametrize("rank", [8, 16, 31, 32])
def test_ranks_to_32(client, namespace, rank):
    array = sample("int16", (2,) + (1,) * (rank - 3) + (3, 2))
    put(client, path(namespace, "a"), table_of(array))
    assert same(array_of(get(client, namespace=namespace, key="a")), array)
