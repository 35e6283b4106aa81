"""create, keep, replace; `if_version`, `unless_version`, `version`; checksums given with a put."""

import numpy as np
import pytest
import xxhash

from calls import PATIENCE, act, command, get, path, put, refused, ticket
from tensors import array_of, same, sample, table_of

ONE, OTHER = sample("float32", (4, 3), 1), sample("float32", (4, 3), 2)


@pytest.fixture
def stored(client, namespace):
    return put(client, command(namespace=namespace, key="a", metadata={"n": "1"}), table_of(ONE))


def value(client, namespace, key="a"):
    return array_of(get(client, namespace=namespace, key=key))


def version(client, namespace, key="a"):
    return get(client, namespace=namespace, key=key).schema.metadata[b"tensor.version"].decode()


def test_a_put_answers_with_the_version(client, namespace, stored):
    assert stored["version"] == version(client, namespace) and stored["version"].isdecimal()


def test_create_again_with_the_same_bytes(client, namespace, stored):
    reply = put(client, command(namespace=namespace, key="a", mode="create", metadata={"n": "2"}), table_of(ONE))
    assert (reply["stored"], reply["existed"], reply["version"]) == (0, 1, stored["version"])
    assert get(client, namespace=namespace, key="a").schema.metadata[b"user.n"] == b"1"


@pytest.mark.parametrize(
    "array",
    [OTHER, ONE.reshape(3, 4), ONE.view("int32"), ONE[:3], ONE.reshape(12)],
    ids=["bytes", "shape", "dtype", "length", "rank"],
)
def test_create_again_with_anything_else(client, namespace, stored, array):
    with refused("already_exists"):
        put(client, path(namespace, "a"), table_of(array))
    assert same(value(client, namespace), ONE) and version(client, namespace) == stored["version"]


def test_keep(client, namespace, stored):
    reply = put(client, command(namespace=namespace, key="a", mode="keep"), table_of(OTHER))
    assert (reply["stored"], reply["existed"]) == (0, 1)
    assert same(value(client, namespace), ONE)
    assert put(client, command(namespace=namespace, key="b", mode="keep"), table_of(OTHER))["stored"] == 1


def test_replace(client, namespace, stored):
    other = sample("int8", (2, 2, 2))
    reply = put(client, command(namespace=namespace, key="a", mode="replace"), table_of(other))
    assert reply["stored"] == 1 and int(reply["version"]) > int(stored["version"])
    assert same(value(client, namespace), other) and version(client, namespace) == reply["version"]
    assert b"user.n" not in get(client, namespace=namespace, key="a").schema.metadata


def test_a_reader_keeps_what_was_replaced_under_it(client, namespace):
    before, after = sample("uint8", (32, 1 << 20), 1), sample("uint8", (32, 1 << 20), 2)
    put(client, path(namespace, "a"), table_of(before), rows_per_batch=4)
    reader = client.do_get(ticket(namespace=namespace, key="a"), PATIENCE)
    first = reader.read_chunk().data
    put(client, command(namespace=namespace, key="a", mode="replace"), table_of(after), rows_per_batch=4)
    rest = reader.read_all()
    rows = np.concatenate([first.column(0).to_numpy_ndarray(), rest["tensor"].combine_chunks().to_numpy_ndarray()])
    assert same(rows, before) and same(value(client, namespace), after)


def test_if_version(client, namespace, stored):
    with refused("failed_precondition", stored["version"]):
        put(client, command(namespace=namespace, key="a", mode="replace", if_version="1"), table_of(OTHER))
    assert same(value(client, namespace), ONE)
    where = command(namespace=namespace, key="a", mode="replace", if_version=stored["version"])
    second = put(client, where, table_of(OTHER))
    assert second["stored"] == 1 and same(value(client, namespace), OTHER)
    with refused("failed_precondition"):
        put(client, where, table_of(ONE))


def test_if_version_of_a_key_that_is_not_there(client, namespace):
    with refused("failed_precondition"):
        put(client, command(namespace=namespace, key="a", mode="replace", if_version="1"), table_of(ONE))
    with refused("not_found"):
        get(client, namespace=namespace, key="a")


def test_unless_version(client, namespace, stored):
    with refused("not_modified"):
        get(client, namespace=namespace, key="a", unless_version=stored["version"])
    assert same(array_of(get(client, namespace=namespace, key="a", unless_version="1")), ONE)
    with refused("not_found"):
        get(client, namespace=namespace, key="b", unless_version="1")


def test_version(client, namespace, stored):
    assert same(array_of(get(client, namespace=namespace, key="a", version=stored["version"])), ONE)
    with refused("failed_precondition", stored["version"]):
        get(client, namespace=namespace, key="a", version="1")


@pytest.mark.parametrize("text", ["", "x", "-1", "1.0", "99999999999999999999999999999999999", 5], ids=str)
def test_what_is_no_version(client, namespace, stored, text):
    with refused("invalid_argument", "version"):
        get(client, namespace=namespace, key="a", version=text)


def test_a_checksum_that_agrees(client, namespace):
    digest = xxhash.xxh3_128_hexdigest(ONE.tobytes())
    put(client, command(namespace=namespace, key="a", checksum=digest), table_of(ONE), rows_per_batch=1)
    assert get(client, namespace=namespace, key="a").schema.metadata[b"tensor.checksum"].decode() == digest


def test_a_checksum_that_does_not(client, namespace):
    digest = xxhash.xxh3_128_hexdigest(OTHER.tobytes())
    with refused("data_loss", digest, xxhash.xxh3_128_hexdigest(ONE.tobytes())):
        put(client, command(namespace=namespace, key="a", checksum=digest), table_of(ONE))
    with refused("not_found"):
        get(client, namespace=namespace, key="a")


def test_a_replace_with_a_wrong_checksum_leaves_the_old_one(client, namespace, stored):
    where = command(namespace=namespace, key="a", mode="replace", checksum="0" * 32)
    with refused("data_loss"):
        put(client, where, table_of(OTHER))
    assert same(value(client, namespace), ONE) and version(client, namespace) == stored["version"]


@pytest.mark.parametrize("digest", ["", "00", "g" * 32, "0" * 33, 7], ids=str)
def test_what_is_no_checksum(client, namespace, digest):
    with refused("invalid_argument", "checksum"):
        put(client, command(namespace=namespace, key="a", checksum=digest), table_of(ONE))


def test_fewer_bytes_than_announced_are_no_tensor(client, namespace):
    """PyArrow ends the stream in good order even when its `with` block is left by an exception."""
    half = command(namespace=namespace, key="a", size_bytes=2 * ONE.nbytes)
    with refused("invalid_argument", "size_bytes"):
        put(client, half, table_of(ONE))
    with refused("not_found"):
        get(client, namespace=namespace, key="a")


def test_size_bytes(client, namespace):
    put(client, command(namespace=namespace, key="a", size_bytes=ONE.nbytes), table_of(ONE), rows_per_batch=1)
    assert same(value(client, namespace), ONE)


def test_a_key_that_was_deleted_can_be_created_anew(client, namespace, stored):
    act(client, "delete", namespace=namespace, keys=["a"])
    again = put(client, path(namespace, "a"), table_of(OTHER))
    assert again["stored"] == 1 and int(again["version"]) > int(stored["version"])
