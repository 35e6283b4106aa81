"""exists, delete, describe, stats, namespaces, and the list of all."""

import pyarrow.flight as flight
import pytest
import xxhash

from calls import act, command, get, path, put, refused
from tensors import array_of, same, sample, table_of
from test_bulk import bulk

ARRAY = sample("float32", (5, 3))
KEYS = ["a", "ab", "b", "c", "d"]


@pytest.fixture
def filled(client, namespace):
    put(client, command(namespace=namespace), bulk(KEYS, ARRAY))
    return namespace


def found(reply):
    return [(row["key"], row["found"]) for row in reply["keys"]]


def test_exists_in_the_order_asked(client, filled):
    reply = act(client, "exists", namespace=filled, keys=["c", "x", "a", "c"])
    assert found(reply) == [("c", True), ("x", False), ("a", True), ("c", True)]


@pytest.mark.parametrize(
    "keys, leading", [(["a", "b", "x", "c"], 2), (["x", "a"], 0), (["a", "c"], 2), ([], 0)], ids=str
)
def test_exists_counts_the_leading_ones(client, filled, keys, leading):
    assert act(client, "exists", namespace=filled, keys=keys)["leading"] == leading


def test_delete_by_keys(client, filled):
    reply = act(client, "delete", namespace=filled, keys=["b", "x"])
    assert found(reply) == [("b", True), ("x", False)] and reply["deleted"] == 1
    with refused("not_found"):
        get(client, namespace=filled, key="b")
    assert get(client, namespace=filled, prefix="")["key"].to_pylist() == ["a", "ab", "c", "d"]
    assert found(act(client, "delete", namespace=filled, keys=["b"])) == [("b", False)]


def test_delete_by_prefix(client, filled):
    assert act(client, "delete", namespace=filled, prefix="a") == {"deleted": 2}
    assert get(client, namespace=filled, prefix="")["key"].to_pylist() == ["b", "c", "d"]


def test_delete_if_version(client, filled):
    version = get(client, namespace=filled, key="a").schema.metadata[b"tensor.version"].decode()
    with refused("failed_precondition", version):
        act(client, "delete", namespace=filled, keys=["a"], if_version="1")
    assert same(array_of(get(client, namespace=filled, key="a")), ARRAY[0])
    assert found(act(client, "delete", namespace=filled, keys=["a"], if_version=version)) == [("a", True)]
    assert found(act(client, "delete", namespace=filled, keys=["a"], if_version=version)) == [("a", False)]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"keys": ["a"], "prefix": "a"},
        {"keys": ["a", "b"], "if_version": "1"},
        {"keys": "a"},
        {"keys": [1]},
        {"key": "a"},
    ],
    ids=str,
)
def test_delete_takes_keys_or_a_prefix(client, filled, body):
    with refused("invalid_argument"):
        act(client, "delete", namespace=filled, **body)
    assert len(get(client, namespace=filled, prefix="")) == 5


def test_describe(client, namespace):
    array = sample("bfloat16", (3, 4))
    reply = put(client, command(namespace=namespace, key="a", metadata={"m": "1"}), table_of(array))
    seen, missing = act(client, "describe", namespace=namespace, keys=["a", "x"])["keys"]
    assert (seen["key"], seen["found"], seen["dtype"], seen["shape"]) == ("a", True, "bfloat16", [3, 4])
    assert (seen["bytes"], seen["version"], seen["metadata"], seen["tier"], seen["hits"]) == (
        array.nbytes,
        reply["version"],
        {"m": "1"},
        "hot",
        0,
    )
    assert seen["checksum"] == xxhash.xxh3_128_hexdigest(array.tobytes())
    assert missing == {"key": "x", "found": False}


def test_stats_counts_what_is_there(fresh_client):
    before = act(fresh_client, "stats")
    put(fresh_client, command(namespace="n"), bulk(KEYS, ARRAY))
    put(fresh_client, path("n", "big"), table_of(sample("uint8", (1 << 20,))))
    get(fresh_client, namespace="n", key="a")
    with refused("not_found"):
        get(fresh_client, namespace="n", key="x")
    after = act(fresh_client, "stats")
    assert (before["entries"], after["entries"]) == (0, 6)
    assert (before["bytes"], after["bytes"]) == (0, ARRAY.nbytes + (1 << 20))
    assert after["wire"] == 1 and after["server"] and after["counters"]


def test_the_accounts_stay_under_the_budget(fresh_client):
    memory = act(fresh_client, "stats")["memory"]
    accounts = memory["accounts"].values()
    assert memory["limit_bytes"] == 256 << 20
    assert 0 < memory["used_bytes"] <= memory["limit_bytes"]
    assert memory["used_bytes"] == sum(account["used_bytes"] for account in accounts)
    assert all(account["used_bytes"] <= account["peak_bytes"] for account in accounts)


def test_namespaces(fresh_client):
    put(fresh_client, command(namespace="one"), bulk(KEYS, ARRAY))
    put(fresh_client, path("two", "a"), table_of(ARRAY))
    rows = {row["namespace"]: row for row in act(fresh_client, "namespaces")["namespaces"]}
    assert (rows["one"]["entries"], rows["two"]["entries"]) == (5, 1)
    assert (rows["one"]["bytes"], rows["two"]["bytes"]) == (ARRAY.nbytes, ARRAY.nbytes)


ACTIONS = (
    "exists delete expire pin unpin describe stats namespaces namespace_set clear flush evict prewarm load load_status attach detach "
    "begin_load commit_load abort_load rollback_load"
).split()


def test_list_actions_describes_each(client):
    listed = {action.type: action.description for action in client.list_actions()}
    assert set(listed) == set(ACTIONS)
    assert all(listed.values())
    assert "keys" in listed["delete"] and "prefix" in listed["delete"] and "if_version" in listed["delete"]


def test_an_unknown_action(client):
    with refused("unimplemented", "dance"):
        act(client, "dance")


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize(
    "body, fragment",
    [
        (b"[]", ""),
        (b"{", ""),
        (b"\xff", ""),
        (b'{"frobnicate": 1}', "frobnicate"),
        (b'{"keys": [], "keys": []}', "keys"),
    ],
    ids=str,
)
def test_bodies_that_are_no_body(client, action, body, fragment):
    with refused("invalid_argument", fragment):
        list(client.do_action(flight.Action(action, body)))
