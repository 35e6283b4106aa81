"""How long entries stay: expire, pin, unpin, and a put's ttl_ms and pin."""

import time

import pytest

from calls import act, command, get, path, put, refused
from tensors import array_of, same, sample, table_of
from test_bulk import bulk

ARRAY = sample("float32", (3, 4))
KEYS = ["a", "b", "c"]


@pytest.fixture
def filled(client, namespace):
    put(client, command(namespace=namespace), bulk(KEYS, ARRAY))
    return namespace


def seen(client, namespace, key):
    return act(client, "exists", namespace=namespace, keys=[key])["keys"][0]


def test_expire_and_take_the_expiry_away(client, filled):
    reply = act(client, "expire", namespace=filled, keys=["a", "x"], ttl_ms=60_000)
    assert reply == {"keys": [{"key": "a", "found": True}, {"key": "x", "found": False}]}
    assert 0 < seen(client, filled, "a")["ttl_ms"] <= 60_000
    assert 0 < act(client, "describe", namespace=filled, keys=["a"])["keys"][0]["ttl_ms"] <= 60_000
    act(client, "expire", namespace=filled, keys=["a"], ttl_ms=None)
    assert seen(client, filled, "a") == {"key": "a", "found": True}


def test_an_expired_key_is_gone(client, filled):
    act(client, "expire", namespace=filled, keys=["b"], ttl_ms=1)
    while seen(client, filled, "b")["found"]:
        time.sleep(0.01)
    with refused("not_found"):
        get(client, namespace=filled, key="b")
    assert get(client, namespace=filled, prefix="")["key"].to_pylist() == ["a", "c"]


def test_pin_put_replace_unpin(fresh_client):
    put(fresh_client, command(namespace="n", key="k", pin=True), table_of(ARRAY))
    assert seen(fresh_client, "n", "k") == {"key": "k", "found": True, "pinned": True}
    put(fresh_client, command(namespace="n", key="k", mode="replace"), table_of(ARRAY + 1))
    assert act(fresh_client, "describe", namespace="n", keys=["k"])["keys"][0]["pinned"]
    large = sample("uint8", (16 << 20,))
    for n in range(30):
        put(fresh_client, path("n", f"large{n}"), table_of(large))
    assert same(array_of(get(fresh_client, namespace="n", key="k")), ARRAY + 1)
    assert not seen(fresh_client, "n", "large0")["found"]
    assert act(fresh_client, "unpin", namespace="n", keys=["k"]) == {"keys": [{"key": "k", "found": True}]}
    assert seen(fresh_client, "n", "k") == {"key": "k", "found": True}


def test_rows_are_pinned(client, namespace):
    put(client, command(namespace=namespace, pin=True), bulk(KEYS, ARRAY))
    rows = act(client, "exists", namespace=namespace, keys=KEYS)["keys"]
    assert all(row["pinned"] for row in rows)
    act(client, "delete", namespace=namespace, prefix="")


def test_there_is_a_limit_on_pins(fresh_client):
    large = sample("uint8", (16 << 20,))
    keys = [f"k{n}" for n in range(10)]
    for key in keys:
        put(fresh_client, path("n", key), table_of(large))
    with refused("resource_exhausted", "pinned_bytes_max"):
        act(fresh_client, "pin", namespace="n", keys=keys)
    rows = act(fresh_client, "exists", namespace="n", keys=keys)["keys"]
    assert not any(row.get("pinned") for row in rows), "all or none"


@pytest.mark.parametrize(
    "action, body, word",
    [
        ("expire", {"keys": ["a"]}, "ttl_ms"),
        ("expire", {"keys": ["a"], "ttl_ms": 0}, "ttl_ms"),
        ("expire", {"keys": ["a"], "ttl_ms": 1.5}, "ttl_ms"),
        ("pin", {}, "keys"),
        ("unpin", {"keys": ["a"], "prefix": "a"}, "prefix"),
    ],
    ids=str,
)
def test_wrong_requests(client, filled, action, body, word):
    with refused("invalid_argument", word):
        act(client, action, namespace=filled, **body)
