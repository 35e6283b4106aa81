"""Namespaces: namespace_set, their limits, clear, and what namespaces says of them."""

import pyarrow.flight as flight
import pytest

from calls import act, command, get, path, put, refused
from server import Server
from tensors import array_of, same, sample, table_of
from test_bulk import bulk

ARRAY = sample("float32", (4, 3))


def change(client, namespace, **settings):
    return act(client, "namespace_set", namespace=namespace, settings=settings)


def described(client, namespace):
    rows = act(client, "namespaces", limit=10_000)["namespaces"]
    return next(row for row in rows if row["namespace"] == namespace)


def test_settings_are_what_a_put_does_not_say(client, namespace):
    reply = change(client, namespace, mode="replace", default_ttl_ms=60_000)
    assert reply["settings"] == {"mode": "replace", "default_ttl_ms": 60_000}
    put(client, path(namespace, "a"), table_of(ARRAY))
    put(client, path(namespace, "a"), table_of(ARRAY + 1))
    assert same(array_of(get(client, namespace=namespace, key="a")), ARRAY + 1)
    assert act(client, "exists", namespace=namespace, keys=["a"])["keys"][0]["ttl_ms"] <= 60_000
    assert change(client, namespace, mode=None)["settings"] == {"default_ttl_ms": 60_000}
    with refused("already_exists"):
        put(client, path(namespace, "a"), table_of(ARRAY))


def test_settings_are_changed_if_version(client, namespace):
    first = change(client, namespace, entries_max=5)["version"]
    with refused("failed_precondition", first):
        act(client, "namespace_set", namespace=namespace, settings={"entries_max": 6}, if_version="0")
    second = act(client, "namespace_set", namespace=namespace, settings={"entries_max": 6}, if_version=first)
    assert second["settings"] == {"entries_max": 6} and second["version"] != first
    assert change(client, namespace) == second, "no change says what is set"


def test_a_namespace_at_its_limit_lets_its_own_go(client, namespace):
    change(client, namespace, entries_max=3)
    for n in range(10):
        put(client, path(namespace, f"k{n}"), table_of(ARRAY))
    seen = described(client, namespace)
    assert (seen["entries"], seen["evicted"], seen["settings"]) == (3, 7, {"entries_max": 3})
    change(client, namespace, entries_max=None, bytes_max=100)
    with refused("resource_exhausted", "bytes_max"):
        put(client, path(namespace, "large"), table_of(sample("uint8", (101,))))


def test_a_bulk_put_past_the_limit_keeps_the_latest(client, namespace):
    change(client, namespace, entries_max=2)
    reply = put(client, command(namespace=namespace), bulk(["a", "b", "c", "d"], ARRAY))
    assert reply["stored"] == 4 and described(client, namespace)["entries"] == 2


def test_clear(client, namespace):
    put(client, command(namespace=namespace), bulk(["a", "b", "c", "d"], ARRAY))
    with refused("invalid_argument", "confirm"):
        act(client, "clear", namespace=namespace)
    with refused("invalid_argument", "namespace"):
        act(client, "clear", confirm=True)
    assert act(client, "clear", namespace=namespace, confirm=True) == {"deleted": 4}
    assert get(client, namespace=namespace, prefix="").num_rows == 0
    assert act(client, "clear", namespace=namespace, confirm=True) == {"deleted": 0}


def test_the_settings_file_wins(tmp_path):
    settings = tmp_path / "bowstring.toml"
    settings.write_text('[namespace."n"]\nbytes_max = 1000\n')
    with Server("--config", str(settings)) as running, flight.connect(running.uri) as client:
        assert described(client, "n")["settings"] == {"bytes_max": 1000}
        with refused("failed_precondition", "settings file"):
            change(client, "n", bytes_max=2000)


def test_namespaces_come_a_page_at_a_time(fresh_client):
    for n in range(5):
        put(fresh_client, path(f"n{n}", "a"), table_of(ARRAY))
    page = act(fresh_client, "namespaces", limit=3)
    assert [row["namespace"] for row in page["namespaces"]] == ["n0", "n1", "n2"] and page["more"]
    page = act(fresh_client, "namespaces", limit=3, after="n2")
    assert [row["namespace"] for row in page["namespaces"]] == ["n3", "n4"] and "more" not in page


@pytest.mark.parametrize(
    "settings, code, word",
    [
        ({"colour": 1}, "invalid_argument", "colour"),
        ({"entries_max": 0}, "invalid_argument", "entries_max"),
        ({"default_ttl_ms": -1}, "invalid_argument", "default_ttl_ms"),
        ({"mode": 5}, "invalid_argument", "mode"),
        ({"write_policy": "write_back"}, "unimplemented", "write_policy"),
        ({"compression": "lz4"}, "unimplemented", "compression"),
    ],
    ids=str,
)
def test_wrong_settings(client, namespace, settings, code, word):
    with refused(code, word):
        change(client, namespace, **settings)
