"""Many keys in one stream: by keys, by prefix, in rows and opaque."""

import pyarrow as pa
import pytest

from calls import PATIENCE, chunks, command, get, path, put, refused
from tensors import DTYPES, field_of, identical, name_of, same, sample, storage_of, table_of, values_of
from test_bulk import bulk

ARRAY = sample("float32", (6, 2, 3))
KEYS = ["a", "ab", "abc", "b", "ba", "c"]


@pytest.fixture
def filled(client, namespace):
    put(client, command(namespace=namespace), bulk(KEYS, ARRAY))
    return namespace


def closing(messages):
    """The rows of a stream, and what its closing batches say; those have no rows."""
    assert all(batch.num_rows == 0 for batch, said in messages if said)
    told = {}
    for _, said in messages:
        for name, keys in (said or {}).items():
            told.setdefault(name, []).extend(keys)
    return [batch for batch, said in messages if not said], told


def rows(schema, batches):
    table = pa.Table.from_batches(batches, schema)
    return table["key"].to_pylist(), table


def test_in_the_order_asked_and_found_keys_only(client, filled):
    schema, messages = chunks(client, namespace=filled, keys=["c", "no", "a", "b", "nor this"])
    assert schema.names == ["key", "tensor"]
    assert schema.field("key").type == pa.utf8() and not schema.field("tensor").nullable
    assert schema.field("tensor").type == pa.fixed_shape_tensor(pa.float32(), [2, 3])
    batches, told = closing(messages)
    keys, table = rows(schema, batches)
    assert keys == ["c", "a", "b"] and told == {"missing": ["no", "nor this"]}
    assert same(table["tensor"].combine_chunks().to_numpy_ndarray(), ARRAY[[5, 0, 3]])


def test_the_closing_batch_comes_though_nothing_is_missing(client, filled):
    _, messages = chunks(client, namespace=filled, keys=["a"])
    assert messages[-1][0].num_rows == 0 and messages[-1][1] == {"missing": []}


@pytest.mark.parametrize("shape", [(), (4,), (4, 0), (1, 2, 2)], ids=str)
def test_the_tensor_column_by_rank(client, namespace, shape):
    array = sample("int16", (3, *shape))
    put(client, command(namespace=namespace), bulk(["x", "y", "z"], array))
    table = get(client, namespace=namespace, keys=["z", "x"])
    expected = pa.fixed_shape_tensor(pa.int16(), shape) if shape else pa.int16()
    assert table.schema.field("tensor").type == expected
    assert same(values_of(table["tensor"]).reshape(2, *shape), array[[2, 0]])


@pytest.mark.parametrize("name", DTYPES)
def test_every_dtype(client, namespace, name):
    array = sample(name, (4, 3))
    put(client, command(namespace=namespace), bulk(["a", "b", "c", "d"], array))
    table = get(client, namespace=namespace, keys=["d", "b"])
    assert same(values_of(table["tensor"]), storage_of(array[[3, 1]]).reshape(-1))
    assert (table.schema.field("tensor").metadata or {}) == (field_of(array).metadata or {})


@pytest.mark.parametrize("name", DTYPES)
def test_every_dtype_by_prefix(client, namespace, name):
    array, other = sample(name, (4, 3)), sample("int64" if name != "int64" else "int8", (1, 3))
    put(client, command(namespace=namespace), bulk(["a", "b", "c", "d"], array))
    put(client, command(namespace=namespace), bulk(["bb"], other))
    table = get(client, namespace=namespace, prefix="", dtype=name, shape=[3])
    assert table["key"].to_pylist() == ["a", "b", "c", "d"]
    assert same(values_of(table["tensor"]), storage_of(array).reshape(-1))
    mixed = get(client, namespace=namespace, prefix="b").to_pylist()
    assert [(row["dtype"], row["data"]) for row in mixed] == [
        (name, array[1].tobytes()),
        (name_of(other.dtype), other[0].tobytes()),
    ]


def test_nothing_found(client, namespace):
    schema, messages = chunks(client, namespace=namespace, keys=["x", "y"])
    assert schema.equals(pa.schema([pa.field("key", pa.utf8(), False), pa.field("tensor", pa.null())])) or (
        schema.field("key").type == pa.utf8() and schema.field("tensor").type == pa.null()
    )
    assert closing(messages)[1] == {"missing": ["x", "y"]}


def test_nothing_found_but_the_schema_is_fixed(client, namespace):
    schema, messages = chunks(client, namespace=namespace, keys=["x"], dtype="float32", shape=[7])
    assert schema.field("tensor").type == pa.fixed_shape_tensor(pa.float32(), [7])
    assert closing(messages) == ([], {"missing": ["x"]})


def test_missing_null(client, filled):
    schema, messages = chunks(client, namespace=filled, keys=["c", "no", "a"], missing="null")
    table = pa.Table.from_batches([batch for batch, _ in messages], schema)
    assert schema.field("tensor").nullable and not any(said for _, said in messages)
    assert table["key"].to_pylist() == ["c", "no", "a"]
    assert table["tensor"].is_null().to_pylist() == [False, True, False]
    assert same(values_of(table["tensor"].drop_null()).reshape(2, 2, 3), ARRAY[[5, 0]])


def test_a_key_asked_twice(client, filled):
    assert get(client, namespace=filled, keys=["a", "a"])["key"].to_pylist() == ["a", "a"]


def test_different_shapes_in_one_get(client, filled):
    put(client, path(filled, "odd"), table_of(sample("float32", (7,))))
    with refused("failed_precondition", "odd"):
        get(client, namespace=filled, keys=["a", "odd"])
    table = get(client, namespace=filled, keys=["a", "odd"], layout="opaque")
    assert [row["shape"] for row in table.to_pylist()] == [[2, 3], [7]]


def test_different_dtypes_in_one_get(client, filled):
    put(client, path(filled, "odd"), table_of(sample("int32", (2, 3))))
    with refused("failed_precondition", "odd"):
        get(client, namespace=filled, keys=["a", "odd"])


@pytest.mark.parametrize(
    "prefix, expected", [("", KEYS), ("a", KEYS[:3]), ("ab", KEYS[1:3]), ("b", KEYS[3:5]), ("x", [])]
)
def test_prefix(client, filled, prefix, expected):
    schema, messages = chunks(client, namespace=filled, prefix=prefix)
    assert schema.names == ["key", "dtype", "shape", "data"]
    keys, table = rows(schema, closing(messages)[0])
    assert keys == expected
    for row in table.to_pylist():
        assert (row["dtype"], row["shape"]) == ("float32", [2, 3])
        assert row["data"] == ARRAY[KEYS.index(row["key"])].tobytes()


def test_prefix_with_dtype_and_shape_selects(client, filled):
    put(client, path(filled, "abd"), table_of(sample("float32", (7,))))
    put(client, path(filled, "abe"), table_of(sample("int32", (2, 3))))
    schema, messages = chunks(client, namespace=filled, prefix="ab", dtype="float32", shape=[2, 3])
    keys, table = rows(schema, closing(messages)[0])
    assert keys == ["ab", "abc"]
    assert same(table["tensor"].combine_chunks().to_numpy_ndarray(), ARRAY[1:3])


def test_keys_come_in_the_order_of_their_bytes(client, namespace):
    keys = ["é", "z", "Z", "a\u0301", "🏹", "~", "0", "\x7f", "zz"]
    put(client, command(namespace=namespace), bulk(keys, sample("int8", (9, 1))))
    assert get(client, namespace=namespace, prefix="")["key"].to_pylist() == sorted(keys, key=str.encode)


def test_an_opaque_get_can_be_put_as_it_is(client, filled, namespace):
    put(client, path(filled, "odd"), table_of(sample("complex64", (2, 0, 3))))
    table = get(client, namespace=filled, prefix="")
    other = f"copy.{namespace}"[:128]
    reply = put(client, command(namespace=other), table)
    assert reply["stored"] == 7 and reply["errors"] == []
    assert identical(get(client, namespace=other, prefix=""), table)


def test_a_multi_get_can_be_put_as_it_is(client, filled, namespace):
    table = get(client, namespace=filled, keys=KEYS)
    other = f"copy.{namespace}"[:128]
    assert put(client, command(namespace=other), table)["stored"] == 6
    assert identical(get(client, namespace=other, keys=KEYS), table)


@pytest.mark.parametrize(
    "ask", [{"keys": KEYS}, {"prefix": ""}, {"prefix": "", "dtype": "float32", "shape": [2, 3]}], ids=str
)
def test_columns_beside(client, filled, ask):
    put(client, command(namespace=filled, key="a", mode="replace", metadata={"m": "1"}), table_of(ARRAY[0]))
    plain = get(client, namespace=filled, key="a").schema.metadata
    table = get(client, namespace=filled, **{"with": ["version", "checksum", "metadata", "ttl_ms"]}, **ask)
    row = (
        table.slice(0, 1)
        .drop_columns([name for name in ("tensor", "data") if name in table.schema.names])
        .to_pylist()[0]
    )
    assert row["key"] == "a" and row["version"] == plain[b"tensor.version"].decode()
    assert row["checksum"] == plain[b"tensor.checksum"].decode()
    assert dict(row["metadata"]) == {"m": "1"} and row["ttl_ms"] is None


def test_max_message_bytes(client, namespace):
    array = sample("float32", (500, 16))
    put(client, command(namespace=namespace), bulk([f"{i:05}" for i in range(500)], array))
    for ask in ({"keys": [f"{i:05}" for i in range(500)]}, {"prefix": ""}):
        schema, messages = chunks(client, namespace=namespace, max_message_bytes=4096, **ask)
        batches, _ = closing(messages)
        assert len(batches) > 7 and max(batch.get_total_buffer_size() for batch in batches) <= 4096
        assert rows(schema, batches)[0] == [f"{i:05}" for i in range(500)]


def test_many_missing_keys_pass_in_several_closing_batches(client, namespace):
    keys = [f"{i:0100}" for i in range(300)]
    _, messages = chunks(client, namespace=namespace, keys=keys, max_message_bytes=8192)
    assert closing(messages)[1] == {"missing": keys}


def test_ten_thousand_keys_and_one_more(client, namespace):
    array = sample("int32", (10_000, 1))
    keys = [str(i) for i in range(10_000)]
    put(client, command(namespace=namespace), bulk(keys, array))
    table = get(client, namespace=namespace, keys=keys)
    assert same(values_of(table["tensor"]), array.reshape(-1))
    with refused("invalid_argument", "10000"):
        get(client, namespace=namespace, keys=[*keys, "x"])


def test_small_and_large_rows_mix(client, namespace):
    """Rows below the gathering threshold and above it, in one stream."""
    for width in (1, 100, 16_384, 16_385, 300_000):
        array = sample("float32", (5, width))
        space = f"{namespace}.{width}"[-128:]
        put(client, command(namespace=space), bulk(list("abcde"), array), rows_per_batch=2)
        table = get(client, namespace=space, keys=list("edcba"))
        assert same(values_of(table["tensor"]).reshape(5, width), array[::-1])


#: Every column that can be asked for beside key and tensor, in an order of its own.
WITH = ["ttl_ms", "source_version", "version", "metadata", "checksum"]
LAYOUTS = {
    "rows": {"layout": "rows"},
    "of a shape": {"dtype": "float32", "shape": [2, 3]},
    "opaque": {"layout": "opaque"},
}


@pytest.mark.parametrize("missing", [None, "null"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_with_and_missing_in_every_layout(client, filled, layout, missing):
    source = bulk(["a"], -ARRAY[:1], source_version=pa.array([-3]), ttl_ms=pa.array([3_600_000]))
    put(client, command(namespace=filled, metadata={"m": "1"}), source)
    said = {"missing": missing} if missing else {}
    ask = {"namespace": filled, "keys": ["a", "no", "b"], "with": WITH, **LAYOUTS[layout], **said}
    schema, messages = chunks(client, **ask)
    assert schema.names[-5:] == WITH
    table = pa.Table.from_batches([batch for batch, _ in messages], schema)
    assert table["key"].to_pylist() == (["a", "no", "b"] if missing else ["a", "b"])
    assert [said for _, said in messages if said] == ([] if missing else [{"missing": ["no"]}])
    a, *no, b = table.select(WITH).to_pylist()
    assert 0 < a["ttl_ms"] <= 3_600_000 and a["source_version"] == -3 and a["metadata"] == [("m", "1")]
    assert (b["ttl_ms"], b["source_version"], b["metadata"]) == (None, None, [])
    assert all(len(row["checksum"]) == 32 and row["version"].isdigit() for row in (a, b))
    assert no == ([dict.fromkeys(WITH)] if missing else [])
    tensors = table["data" if layout == "opaque" else "tensor"]
    assert tensors.null_count == len(no)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_with_in_every_layout_of_a_prefix_and_of_its_partitions(client, filled, layout):
    ask = {"namespace": filled, "prefix": "", "with": WITH, **LAYOUTS[layout]}
    whole = get(client, **ask)
    assert whole["key"].to_pylist() == KEYS and whole.schema.names[-5:] == WITH
    info = client.get_flight_info(command(partitions=3, **ask))
    parts = [client.do_get(endpoint.ticket, PATIENCE).read_all() for endpoint in info.endpoints]
    assert len(parts) == 3 and all(part.num_rows for part in parts)
    assert identical(pa.concat_tables(parts), whole) and info.schema.equals(whole.schema, check_metadata=True)


@pytest.mark.parametrize("ask", [{"keys": KEYS}, {"prefix": ""}], ids=str)
def test_what_with_adds_can_be_put_as_it_is(client, filled, namespace, ask):
    where = command(namespace=filled, key="a", mode="replace", metadata={"m": "1"}, ttl_ms=3_600_000)
    put(client, where, table_of(ARRAY[0]))
    table = get(client, namespace=filled, **{"with": ["metadata", "checksum", "version", "ttl_ms"]}, **ask)
    other = f"copy.{namespace}"[:128]
    reply = put(client, command(namespace=other), table)
    assert (reply["stored"], reply["errors"]) == (6, [])
    fixed = {"with": ["metadata", "checksum"]}
    assert identical(get(client, namespace=other, **fixed, **ask), get(client, namespace=filled, **fixed, **ask))


def test_missing_null_opaque(client, filled):
    ask = {"keys": ["a", "x"], "missing": "null", "layout": "opaque", "with": ["version", "metadata"]}
    a, x = get(client, namespace=filled, **ask).to_pylist()
    assert (a["key"], a["shape"], a["data"]) == ("a", [2, 3], ARRAY[0].tobytes())
    assert x == {"key": "x", "dtype": None, "shape": None, "data": None, "version": None, "metadata": None}
