"""examples/copy_namespace.py as it is: a namespace goes to another server, in parts of one snapshot, and loses nothing."""

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.flight as flight
import pytest

from calls import act, command, get, put
from conftest import EXAMPLES
from tensors import DTYPES, array_of, same, sample, table_of
from test_bulk import bulk

SHAPES = [(), (0,), (7,), (3, 0), (2, 3, 4)]
HOUR_MS = 3_600_000


def entries(client, namespace):
    """All that can be asked about each entry, but what belongs to one server: its version, hits and tier."""
    table = get(client, namespace=namespace, prefix="", layout="opaque", **{"with": ["source_version"]})
    keys = table["key"].to_pylist()
    described = [
        {name: row.get(name) for name in ("key", "dtype", "shape", "bytes", "checksum", "metadata")}
        for start in range(0, len(keys), 10_000)
        for row in act(client, "describe", namespace=namespace, keys=keys[start : start + 10_000])["keys"]
    ]
    return table, described


@pytest.fixture
def filled(client, namespace):
    """An entry of every dtype and of several shapes, some with metadata, some that expire."""
    for name in DTYPES:
        for number, shape in enumerate(SHAPES):
            members = {"metadata": {"of": name, "ü": "ß"}} if number % 2 else {}
            members |= {"ttl_ms": HOUR_MS} if number % 3 == 1 else {}
            where = command(namespace=namespace, key=f"{name}/{shape}", **members)
            put(client, where, table_of(sample(name, shape, seed=number)))
    return namespace


def run(source, target, namespace):
    program = [sys.executable, EXAMPLES / "copy_namespace.py", source.uri, target.uri, namespace]
    done = subprocess.run(program, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def check_copied(client, other, namespace):
    (before, described), (after, again) = entries(client, namespace), entries(other, namespace)
    assert after.equals(before) and again == described
    keys = before["key"].to_pylist()
    for start in range(0, len(keys), 10_000):
        part = keys[start : start + 10_000]
        # It was read a while before it was written, so an expiry is never brought forward; the copy is asked first.
        copies, ours = (act(c, "exists", namespace=namespace, keys=part)["keys"] for c in (other, client))
        for copy, one in zip(copies, ours):
            assert ("ttl_ms" in one) == ("ttl_ms" in copy)
            assert one.get("ttl_ms", 0) <= copy.get("ttl_ms", 0) <= HOUR_MS


def test_every_dtype_shape_metadata_and_expiry(server, fresh, client, fresh_client, filled):
    assert run(server, fresh, filled) == f"{len(DTYPES) * len(SHAPES)} entries copied\n"
    check_copied(client, fresh_client, filled)
    for name in DTYPES:
        for number, shape in enumerate(SHAPES):
            copy = get(fresh_client, namespace=filled, key=f"{name}/{shape}")
            assert same(array_of(copy), sample(name, shape, seed=number))


def test_the_version_of_a_source_goes_with_it(server, fresh, client, fresh_client, namespace):
    table = bulk(["a", "b"], sample("int8", (2, 3)), source_version=pa.array([7, None], pa.int64()))
    put(client, command(namespace=namespace), table)
    for _ in range(2):
        assert run(server, fresh, namespace) == "2 entries copied\n"
        check_copied(client, fresh_client, namespace)
    older = bulk(["a"], sample("int8", (1, 3), seed=1), source_version=pa.array([6], pa.int64()))
    assert put(fresh_client, command(namespace=namespace, mode="replace"), older)["existed"] == 1


def test_again_and_over_what_differs(server, fresh, client, fresh_client, filled):
    run(server, fresh, filled)
    put(client, command(namespace=filled, key="int8/(7,)", mode="replace"), table_of(np.float32(1)))
    run(server, fresh, filled)
    check_copied(client, fresh_client, filled)


def test_many_entries(server, fresh, client, fresh_client, namespace):
    keys, array = [f"{n:06}" for n in range(50_000)], sample("float16", (50_000, 8))
    put(client, command(namespace=namespace), bulk(keys, array), rows_per_batch=10_000)
    assert run(server, fresh, namespace) == "50000 entries copied\n"
    check_copied(client, fresh_client, namespace)


def test_names_of_axes_go_with_the_tensor(server, fresh, client, fresh_client, namespace):
    kind = pa.fixed_shape_tensor(pa.int32(), [2, 3], dim_names=["h", "w"])
    column = pa.ExtensionArray.from_storage(kind, pa.FixedSizeListArray.from_arrays(pa.array(range(12), pa.int32()), 6))
    put(client, flight.FlightDescriptor.for_path(namespace, "named"), pa.table({"x": column}))
    run(server, fresh, namespace)
    check_copied(client, fresh_client, namespace)
    assert fresh_client.get_schema(flight.FlightDescriptor.for_path(namespace, "named")).schema.metadata[b"user.dim_names"]


def test_an_empty_namespace(server, fresh, namespace):
    assert run(server, fresh, namespace) == "0 entries copied\n"
