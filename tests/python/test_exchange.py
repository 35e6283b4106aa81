"""DoExchange `get` by PyArrow: batches of keys out, batches of tensors back."""

import json

import numpy as np
import pyarrow as pa
import pytest

from calls import PATIENCE, command, put, refused
from tensors import DTYPES, same, sample, storage_of, values_of
from test_bulk import bulk

ARRAY = sample("float32", (4, 2, 3))
SCHEMA = pa.schema([("key", pa.utf8())])


@pytest.fixture
def filled(client, namespace):
    put(client, command(namespace=namespace), bulk(["a", "b", "c", "d"], ARRAY))
    return namespace


def exchange(client, batches, schema=SCHEMA, **members):
    """Asks batch by batch, and waits for each answer before the next question."""
    writer, reader = client.do_exchange(command(exchange="get", **members), PATIENCE)
    answers = []
    with writer:
        writer.begin(schema)
        for keys in batches:
            writer.write_batch(pa.record_batch([pa.array(keys, schema.field(0).type)], schema=schema))
            chunk = reader.read_chunk()
            answers.append((chunk.data, json.loads(chunk.app_metadata.to_pybytes())))
        writer.done_writing()
        with pytest.raises(StopIteration):
            reader.read_chunk()
    return answers


def test_one_for_one(client, filled):
    asked = [["c", "no", "a"], ["nor"], [], ["d", "d"]]
    answers = exchange(client, asked, namespace=filled, dtype="float32", shape=[2, 3])
    assert [said["missing"] for _, said in answers] == [["no"], ["nor"], [], []]
    assert [batch["key"].to_pylist() for batch, _ in answers] == [["c", "a"], [], [], ["d", "d"]]
    tensors = answers[0][0]["tensor"]
    assert tensors.type == pa.fixed_shape_tensor(pa.float32(), [2, 3])
    assert same(tensors.to_numpy_ndarray(), ARRAY[[2, 0]])


@pytest.mark.parametrize("name", DTYPES)
def test_every_dtype(client, namespace, name):
    array = sample(name, (4, 3))
    put(client, command(namespace=namespace), bulk(["a", "b", "c", "d"], array))
    ((batch, _),) = exchange(client, [["d", "b"]], namespace=namespace, dtype=name, shape=[3])
    assert same(values_of(batch["tensor"]), storage_of(array[[3, 1]]).reshape(-1))
    ((batch, _),) = exchange(client, [["c"]], namespace=namespace)
    assert batch.to_pylist() == [{"key": "c", "dtype": name, "shape": [3], "data": array[2].tobytes()}]


def test_without_a_shape_the_answers_are_opaque(client, filled):
    ((batch, said),) = exchange(client, [["b", "x"]], namespace=filled)
    assert batch.schema.names == ["key", "dtype", "shape", "data"] and said == {"missing": ["x"]}
    row = batch.to_pylist()[0]
    assert same(np.frombuffer(row["data"], row["dtype"]).reshape(row["shape"]), ARRAY[1])


@pytest.mark.parametrize(
    "kind, keys",
    [
        (pa.large_utf8(), ["7"]),
        (pa.string_view(), ["7"]),
        (pa.dictionary(pa.int8(), pa.utf8()), ["7"]),
        (pa.int16(), [7]),
        (pa.binary(1), [b"\x07"]),
    ],
    ids=str,
)
def test_kinds_of_keys(client, namespace, kind, keys):
    name = "07" if kind == pa.binary(1) else "7"
    put(client, command(namespace=namespace), bulk([name], ARRAY[:1]))
    schema = pa.schema([("id", kind)])
    ((batch, said),) = exchange(client, [keys], schema, namespace=namespace, key_column="id")
    assert batch["key"].to_pylist() == [name] and said == {"missing": []}


def test_no_question_at_all(client, filled):
    assert exchange(client, [], namespace=filled) == []


def test_ten_thousand_keys_in_one_batch(client, namespace):
    array = sample("float32", (10_000, 4))
    keys = [f"{at:05}" for at in range(10_000)]
    put(client, command(namespace=namespace), bulk(keys, array))
    ((batch, said),) = exchange(client, [keys], namespace=namespace, dtype="float32", shape=[4])
    assert said == {"missing": []} and same(batch["tensor"].to_numpy_ndarray(), array)


@pytest.mark.parametrize(
    "code, fragment, keys, members",
    [
        ("failed_precondition", "float32", ["a"], {"dtype": "int8", "shape": [2, 3]}),
        ("invalid_argument", "null", [None], {}),
        ("invalid_argument", "empty", [""], {}),
        ("invalid_argument", "frobnicate", ["a"], {"frobnicate": 1}),
        ("resource_exhausted", "max_message_bytes", ["a", "b"], {"max_message_bytes": 30}),
    ],
    ids=str,
)
def test_refusals(client, filled, code, fragment, keys, members):
    with refused(code, fragment):
        exchange(client, [keys], namespace=filled, **members)


def test_what_is_not_ours(client, namespace):
    with refused("unimplemented", "exchange"):
        writer, reader = client.do_exchange(command(namespace=namespace), PATIENCE)
        with writer:
            writer.begin(SCHEMA)
            reader.read_chunk()
