"""A namespace of every dtype and rank, copied from one server to another by an opaque get and a put: nothing is lost."""

import itertools
import json

import numpy as np
import pyarrow as pa
import pyarrow.flight as flight
import pytest

from calls import PATIENCE, act, command, get, put, ticket
from server import Server
from tensors import DTYPES, array_of, same, sample

#: Every rank, and axes of no length at the beginning, in the middle and at the end.
SHAPES = [(2,) * (rank % 5) + (1,) * (rank - rank % 5) for rank in range(33)]
SHAPES += [(0,), (0, 3), (3, 0), (2, 0, 4), (0,) * 32, (1,) * 31 + (0,), (300, 7), (70_000,)]
WITH = ["metadata", "ttl_ms", "checksum", "source_version", "version"]
HOUR = 3_600_000


@pytest.fixture(scope="module")
def other():
    with Server() as running, flight.connect(running.uri) as client:
        yield client


def entries():
    """Key, array, metadata, time to live and source version: each there or not."""
    kinds = itertools.cycle(itertools.product([{}, {"model": "m", "ä": "ö\n"}], [None, HOUR], [None, -5, 2**62]))
    for (name, shape), (metadata, ttl_ms, source) in zip(itertools.product(DTYPES, SHAPES), kinds):
        yield f"{name} {list(shape)}", sample(name, shape), metadata, ttl_ms, source


def opaque(rows):
    """The columns that an opaque get returns."""
    columns = zip(*((key, array, list(metadata.items()), ttl, source) for key, array, metadata, ttl, source in rows))
    keys, arrays, metadata, ttl_ms, source = map(list, columns)
    return pa.table(
        {
            "key": keys,
            "dtype": [next(name for name, kind in DTYPES.items() if kind == array.dtype) for array in arrays],
            "shape": pa.array([list(array.shape) for array in arrays], pa.list_(pa.int64())),
            "data": pa.array([array.tobytes() for array in arrays], pa.large_binary()),
            "metadata": pa.array(metadata, pa.map_(pa.utf8(), pa.utf8())),
            "ttl_ms": pa.array(ttl_ms, pa.int64()),
            "source_version": pa.array(source, pa.int64()),
        }
    )


def copy(source, target, namespace, **members):
    """Batch by batch, so that no more than one is held."""
    reader = source.do_get(ticket(namespace=namespace, prefix="", layout="opaque", **{"with": WITH}), PATIENCE)
    writer, replies = target.do_put(command(namespace=namespace, **members), reader.schema, PATIENCE)
    with writer:
        for chunk in reader:
            writer.write_batch(chunk.data)
        writer.done_writing()
        reply = json.loads(replies.read().to_pybytes())
    assert reply["errors"] == []
    return reply


def test_nothing_is_lost(client, other, namespace):
    rows = list(entries())
    assert put(client, command(namespace=namespace), opaque(rows))["stored"] == len(rows)
    assert copy(client, other, namespace)["stored"] == len(rows)
    first, second = (
        get(one, namespace=namespace, prefix="", **{"with": WITH}).sort_by("key") for one in (client, other)
    )
    assert len(second) == len(rows)
    for column in ("key", "dtype", "shape", "data", "metadata", "checksum", "source_version"):
        assert first[column].equals(second[column]), column
    expected = {key: (array, metadata, ttl_ms) for key, array, metadata, ttl_ms, _ in rows}
    for key, metadata, ttl_ms in zip(*(second[name].to_pylist() for name in ("key", "metadata", "ttl_ms"))):
        assert dict(metadata) == expected[key][1]
        assert ttl_ms is None if expected[key][2] is None else 0 < ttl_ms <= HOUR
    for key, (array, metadata, _) in expected.items():
        got = get(other, namespace=namespace, key=key)
        assert same(array_of(got), array), key
        kept = {n[5:].decode(): v.decode() for n, v in got.schema.metadata.items() if n.startswith(b"user.")}
        assert kept == metadata


def test_a_copy_that_is_made_again_changes_nothing(client, other, namespace):
    rows = [row for row in entries() if row[1].size < 10]
    put(client, command(namespace=namespace), opaque(rows))
    copy(client, other, namespace)
    before = get(other, namespace=namespace, prefix="", **{"with": ["version"]})["version"]
    for mode in ("create", "keep"):
        assert copy(client, other, namespace, mode=mode)["existed"] == len(rows)
    assert get(other, namespace=namespace, prefix="", **{"with": ["version"]})["version"].equals(before)


def test_a_copy_in_a_load_shows_all_at_once(client, other, namespace):
    rows = [row for row in entries() if row[1].size < 10]
    put(client, command(namespace=namespace), opaque(rows))
    load_id = act(other, "begin_load", namespace=namespace, replace_all=True)["load_id"]
    copy(client, other, namespace, load_id=load_id)
    assert len(get(other, namespace=namespace, prefix="")) == 0
    act(other, "commit_load", load_id=load_id)
    assert len(get(other, namespace=namespace, prefix="")) == len(rows)


def test_scalars_and_arrays_in_one_dtype_are_copied_as_rows(client, other, namespace):
    array = sample("bfloat16", (4, 2, 3))
    rows = [(f"k{at}", row, {"n": str(at)}, HOUR, at) for at, row in enumerate(array)]
    put(client, command(namespace=namespace), opaque(rows))
    asked = {"prefix": "", "dtype": "bfloat16", "shape": [2, 3], "with": WITH}
    table = get(client, namespace=namespace, **asked)
    assert put(other, command(namespace=namespace), table)["stored"] == 4
    for key, row, metadata, _, _ in rows:
        got = get(other, namespace=namespace, key=key)
        assert same(array_of(got), np.asarray(row)) and got.schema.metadata[b"user.n"] == metadata["n"].encode()
