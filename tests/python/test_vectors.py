"""The golden vectors: PyArrow's are put into a real server, and what our codec made is read by PyArrow."""

import importlib.util
import json

import numpy as np
import pyarrow as pa
import pyarrow.flight as flight
import pytest

from calls import PATIENCE, command, get, path, put, refused
from server import REPOSITORY
from tensors import array_of, storage_of, table_of

VECTORS = REPOSITORY / "proto-notes" / "vectors"

spec = importlib.util.spec_from_file_location("make", VECTORS / "make.py")
make = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make)


def entries(name):
    return json.loads((VECTORS / f"{name}.json").read_text())


def table(entry):
    return pa.ipc.open_stream((VECTORS / entry["file"]).read_bytes()).read_all()


def stored(client, namespace, key):
    """A tensor as the vectors write it down: dtype, shape, bytes, the entry's own metadata."""
    back = get(client, namespace=namespace, key=key)
    metadata = {k.decode(): v.decode() for k, v in back.schema.metadata.items()}
    return {
        "dtype": metadata["tensor.dtype"],
        "shape": json.loads(metadata["tensor.shape"]),
        "data": storage_of(array_of(back)).tobytes().hex(),
    }, {k[5:]: v for k, v in metadata.items() if k.startswith("user.")}


def test_the_vectors_are_what_pyarrow_makes():
    assert make.check_made() > 100


def test_key_hashes_by_another_implementation():
    assert make.check_key_hash() > 10


def test_versions_by_another_implementation():
    assert make.check_versions() > 10


@pytest.mark.parametrize("entry", entries("get"), ids=lambda entry: entry["file"])
def test_our_streams_are_read_by_pyarrow(entry):
    make.check_get(entry)


@pytest.mark.parametrize("entry", entries("put"), ids=lambda entry: entry["file"])
def test_put(client, namespace, entry):
    if "code" in entry:
        with refused(entry["code"]):
            put(client, path(namespace, "a"), table(entry))
        with refused("not_found"):
            get(client, namespace=namespace, key="a")
        return
    put(client, path(namespace, "a"), table(entry))
    tensor, metadata = stored(client, namespace, "a")
    assert tensor == {name: entry[name] for name in tensor}
    assert entry.get("metadata", {}).items() <= metadata.items()


@pytest.mark.parametrize("entry", entries("bulk"), ids=lambda entry: entry["file"])
def test_bulk(client, namespace, entry):
    reply = put(client, command(namespace=namespace, **entry["command"]), table(entry))
    good = [row for row in entry["rows"] if "code" not in row]
    bad = [row for row in entry["rows"] if "code" in row]
    assert [{name: error[name] for name in ("row", "code")} for error in reply["errors"]] == bad
    assert (reply["stored"], reply["errors_total"]) == (len(good), len(bad))
    for row in good:
        tensor, _ = stored(client, namespace, row["key"])
        assert tensor == {name: row[name] for name in tensor}


def ours(name):
    """The refused ones that begin as ours do; what begins otherwise is taken for Flight SQL's."""
    return [entry for entry in entries(name)["refused"] if entry["json"].startswith("{")]


@pytest.mark.parametrize("entry", ours("tickets"), ids=lambda entry: entry["json"][:60])
def test_tickets_that_are_refused(client, entry):
    with refused(entry["code"], *entry["says"]):
        client.do_get(flight.Ticket(entry["json"].encode()), PATIENCE).read_all()


@pytest.mark.parametrize("entry", ours("descriptors"), ids=lambda entry: entry["json"][:60])
def test_commands_that_are_refused(client, entry):
    with refused(entry["code"], *entry["says"]):
        put(client, flight.FlightDescriptor.for_command(entry["json"].encode()), table_of(np.float32(1)))
