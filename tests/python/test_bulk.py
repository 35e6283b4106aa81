"""Bulk puts: many tensors as the rows of one table, with every kind of key and tensor column."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.flight as flight
import pytest
import xxhash

from calls import PATIENCE, act, command, get, put, refused
from tensors import DTYPES, array_of, column_of, field_of, same, sample, storage_of, table_of

ARRAY = sample("float32", (5, 3))
KEYS = ["e", "d", "c", "b", "a"]


def bulk(keys, array, **columns):
    """A table of a key column and a tensor column (and others), a row for each row of the array."""
    keys = keys if isinstance(keys, (pa.Array, pa.ExtensionArray)) else pa.array(keys, pa.utf8())
    fields = [pa.field("key", keys.type), field_of(array)]
    others = [pa.field(name, column.type) for name, column in columns.items()]
    return pa.table([keys, column_of(storage_of(array)), *columns.values()], schema=pa.schema(fields + others))


def test_stores_a_tensor_a_row(client, namespace):
    reply = put(client, command(namespace=namespace), bulk(KEYS, ARRAY))
    assert (reply["stored"], reply["existed"], reply["bytes"]) == (5, 0, ARRAY.nbytes)
    assert (reply["errors"], reply["errors_total"]) == ([], 0)
    for key, row in zip(KEYS, ARRAY):
        assert same(array_of(get(client, namespace=namespace, key=key)), row)


@pytest.mark.parametrize("cell", [(), (4,), (2, 3), (2, 0), (2, 1, 3)], ids=str)
@pytest.mark.parametrize("name", DTYPES)
def test_every_dtype(client, namespace, name, cell):
    array = sample(name, (4, *cell))
    put(client, command(namespace=namespace), bulk(["a", "b", "c", "d"], array))
    for key, row in zip("abcd", array):
        assert same(array_of(get(client, namespace=namespace, key=key)), np.asarray(row))
    table = get(client, namespace=namespace, keys=["d", "a"])
    assert table["key"].to_pylist() == ["d", "a"]


@pytest.mark.parametrize(
    "keys, expected",
    [
        (pa.array(["x", "y", "z"], pa.utf8()), ["x", "y", "z"]),
        (pa.array(["x", "y", "z"], pa.large_utf8()), ["x", "y", "z"]),
        (pa.array([-1, 0, 7], pa.int8()), ["-1", "0", "7"]),
        (pa.array([2**63 - 1, 0, -(2**63)], pa.int64()), [str(2**63 - 1), "0", str(-(2**63))]),
        (pa.array([2**64 - 1, 0, 7], pa.uint64()), [str(2**64 - 1), "0", "7"]),
        (pa.array([b"\x00\xff", b"ab", b"\x10\x01"], pa.binary(2)), ["00ff", "6162", "1001"]),
        (pa.array(["x", "a long key for a view", "z"], pa.string_view()), ["x", "a long key for a view", "z"]),
        *(
            (pa.array(["x", "y", "z"], kind).dictionary_encode().cast(pa.dictionary(index, kind)), ["x", "y", "z"])
            for index in (pa.int8(), pa.uint16(), pa.int32(), pa.int64())
            for kind in (pa.utf8(), pa.large_utf8())
        ),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_kinds_of_keys(client, namespace, keys, expected):
    array = sample("int32", (3, 2))
    assert put(client, command(namespace=namespace), bulk(keys, array))["stored"] == 3
    for key, row in zip(expected, array):
        assert same(array_of(get(client, namespace=namespace, key=key)), row)


@pytest.mark.parametrize(
    "form", ["fixed list", "nested", "list", "large_list", "primitive", "bits", "bits in lists", "sliced"]
)
def test_kinds_of_tensor_columns(client, namespace, form):
    array = sample("int64", (5, 4))
    flat, bits = pa.array(array.reshape(-1)), array > 0
    column, rows = {
        "fixed list": lambda: (pa.FixedSizeListArray.from_arrays(flat, 4), array),
        "nested": lambda: (
            pa.FixedSizeListArray.from_arrays(pa.FixedSizeListArray.from_arrays(flat, 2), 2),
            array.reshape(5, 2, 2),
        ),
        "list": lambda: (pa.array(array.tolist(), pa.list_(pa.int64())), array),
        "large_list": lambda: (pa.array(array.tolist(), pa.large_list(pa.int64())), array),
        "primitive": lambda: (flat[:5], array.reshape(-1)[:5]),
        "bits": lambda: (pa.array(bits[:, 0]), bits[:, 0]),
        "bits in lists": lambda: (pa.FixedSizeListArray.from_arrays(pa.array(bits.reshape(-1)), 4), bits),
        "sliced": lambda: (pa.FixedSizeListArray.from_arrays(flat, 4)[2:4], array[2:4]),
    }[form]()
    keys = pa.array([f"k{i}" for i in range(len(column))])
    reply = put(client, command(namespace=namespace), pa.table({"key": keys, "tensor": column}))
    assert reply["stored"] == len(rows)
    for key, row in zip(keys.to_pylist(), rows):
        assert same(array_of(get(client, namespace=namespace, key=key)), np.asarray(row))


class Opened(pa.ExtensionType):
    """An extension type by its name and metadata, as Ray Data writes its own."""

    def __init__(self, name, metadata, storage):
        self._metadata = metadata
        super().__init__(storage, name)

    def __arrow_ext_serialize__(self):
        return self._metadata.encode()


@pytest.mark.parametrize("name, kind", [("arrow_tensor", pa.list_), ("arrow_tensor_v2", pa.large_list)])
@pytest.mark.parametrize("dtype", ["float32", "uint8", "bool"])
def test_tensors_of_ray(client, namespace, name, kind, dtype):
    array = sample(dtype, (5, 2, 3))
    storage = pa.array(array.reshape(5, 6).tolist(), kind(pa.from_numpy_dtype(array.dtype)))
    column = Opened(f"ray.data.{name}", "[2, 3]", storage.type).wrap_array(storage)
    assert put(client, command(namespace=namespace), pa.table({"key": KEYS, "tensor": column}))["stored"] == 5
    for key, row in zip(KEYS, array):
        assert same(array_of(get(client, namespace=namespace, key=key)), row)
    # One column is one tensor, as of any type.
    put(client, command(namespace=namespace, key="all"), pa.table({"tensor": column}))
    assert same(array_of(get(client, namespace=namespace, key="all")), array)


def test_tensors_of_ray_that_differ_in_shape(client, namespace):
    arrays = [sample("float64", shape) for shape in [(2, 3), (1, 1), (0, 4)]]
    values = pa.array([array.reshape(-1).tolist() for array in arrays], pa.large_list(pa.float64()))
    shapes = pa.array([list(array.shape) for array in arrays])
    storage = pa.StructArray.from_arrays([values, shapes], ["data", "shape"])
    column = Opened("ray.data.arrow_variable_shaped_tensor", "2", storage.type).wrap_array(storage)
    table = pa.table({"key": ["a", "b", "c"], "tensor": column})
    assert put(client, command(namespace=namespace), table)["stored"] == 3
    for key, array in zip("abc", arrays):
        assert np.array_equal(array_of(get(client, namespace=namespace, key=key)), array, equal_nan=True)
    with refused("invalid_argument", "beside"):
        put(client, command(namespace=namespace, key="all"), pa.table({"tensor": column}))


def test_ragged(client, namespace):
    arrays = [sample("float16", (rows, 3)) for rows in (2, 0, 5)]
    lists = pa.FixedSizeListArray.from_arrays(pa.array(np.concatenate(arrays).reshape(-1)), 3)
    column = pa.ListArray.from_arrays(pa.array([0, 2, 2, 7], pa.int32()), lists)
    table = pa.table({"key": ["a", "b", "c"], "tensor": column})
    assert put(client, command(namespace=namespace, ragged=True), table)["stored"] == 3
    for key, array in zip("abc", arrays):
        assert same(array_of(get(client, namespace=namespace, key=key)), array)
    with refused("invalid_argument", "lists"):
        put(client, command(namespace=namespace, ragged=True), bulk(KEYS, ARRAY))


@pytest.mark.parametrize("kind", [pa.list_view, pa.large_list_view], ids=["list_view", "large_list_view"])
def test_list_views(client, namespace, kind):
    array = sample("int32", (5, 4))
    column = pa.array(array.tolist(), kind(pa.int32()))
    assert put(client, command(namespace=namespace), pa.table({"key": KEYS, "tensor": column}))["stored"] == 5
    assert same(array_of(get(client, namespace=namespace, key="c")), array[2])


def test_what_another_program_made_of_an_opaque_get(client, namespace):
    arrays = {"a": sample("float32", (2, 3)), "b": sample("bfloat16", (4,)), "c": sample("uint8", (0, 2))}
    for key, array in arrays.items():
        put(client, command(namespace=namespace, key=key, metadata={"of": key}), table_of(array))
    table = get(client, namespace=namespace, prefix="", **{"with": ["metadata", "checksum", "version", "ttl_ms"]})
    pairs = [[{"key": name, "value": text} for name, text in row.as_py()] for row in table["metadata"]]
    pair = pa.struct([("key", pa.string_view()), ("value", pa.string_view())])
    kinds = {
        "key": pa.string_view(),
        "dtype": pa.dictionary(pa.int32(), pa.large_utf8()),
        "shape": pa.large_list(pa.int64()),
        "data": pa.binary_view(),
        "checksum": pa.string_view(),
    }
    columns = {name: table[name].combine_chunks() for name in table.column_names}
    for name, kind in kinds.items():
        encode = pa.types.is_dictionary(kind)
        column = columns[name].cast(kind.value_type).dictionary_encode() if encode else columns[name].cast(kind)
        columns[name] = column
    columns["metadata"] = pa.array(pairs, pa.large_list(pair))
    assert put(client, command(namespace=f"{namespace}-copy"), pa.table(columns))["stored"] == 3
    for key, array in arrays.items():
        copied = get(client, namespace=f"{namespace}-copy", key=key)
        assert same(array_of(copied), array) and copied.schema.metadata[b"user.of"] == key.encode()


@pytest.mark.parametrize("rows", [1, 7, 100, 1000])
def test_many_batches(client, namespace, rows):
    array, keys = sample("float16", (1000, 6)), [f"{i:04}" for i in range(1000)]
    reply = put(client, command(namespace=namespace), bulk(keys, array), rows_per_batch=rows)
    assert (reply["stored"], reply["bytes"]) == (1000, array.nbytes)
    table = get(client, namespace=namespace, prefix="", dtype="float16", shape=[6])
    assert table["key"].to_pylist() == keys
    assert same(table["tensor"].combine_chunks().to_numpy_ndarray(), array)


def test_no_rows(client, namespace):
    reply = put(client, command(namespace=namespace), bulk(KEYS, ARRAY)[:0])
    assert (reply["stored"], reply["existed"], reply["bytes"], reply["errors_total"]) == (0, 0, 0, 0)


def test_columns_by_other_names_and_in_another_order(client, namespace):
    table = bulk(KEYS, ARRAY).rename_columns(["word", "vector"]).select(["vector", "word"])
    where = command(namespace=namespace, key_column="word", tensor_column="vector")
    assert put(client, where, table)["stored"] == 5
    assert same(array_of(get(client, namespace=namespace, key="c")), ARRAY[2])


def test_a_missing_column(client, namespace):
    with refused("invalid_argument", "key"):
        put(client, command(namespace=namespace), bulk(KEYS, ARRAY).rename_columns(["word", "tensor"]))
    with refused("invalid_argument", "tensor"):
        put(client, command(namespace=namespace), bulk(KEYS, ARRAY).rename_columns(["key", "vector"]))


def test_extra_columns_are_refused_by_name(client, namespace):
    table = bulk(KEYS, ARRAY, price=pa.array(range(5)))
    with refused("invalid_argument", "price"):
        put(client, command(namespace=namespace), table)
    with refused("not_found"):
        get(client, namespace=namespace, key="a")
    assert put(client, command(namespace=namespace, extra_columns="ignore"), table)["stored"] == 5


@pytest.mark.parametrize("mode", ["keep", "create", "replace"])
def test_the_newest_of_a_source_wins(client, namespace, mode):
    def sourced(keys, rows, versions):
        table = bulk(keys, ARRAY[rows], source_version=pa.array(versions, pa.int64()))
        reply = put(client, command(namespace=namespace, mode=mode), table)
        assert reply["errors"] == []
        return reply["stored"], reply["existed"]

    assert sourced(["a", "b", "c"], [0, 0, 0], [5, -(2**63), None]) == (3, 0)
    assert sourced(["a", "b", "c"], [1, 1, 1], [5, 7, 0]) == (2, 1)
    assert sourced(["a", "b", "a", "a"], [2, 2, 3, 4], [4, 6, 9, 8]) == (1, 3)
    for key, row in (("a", 3), ("b", 1), ("c", 1)):
        assert same(array_of(get(client, namespace=namespace, key=key)), ARRAY[row])
    table = get(client, namespace=namespace, prefix="", **{"with": ["source_version"]})
    assert table["source_version"].to_pylist() == [9, 7, 0]
    # It comes along with what is copied, and decides there as well.
    assert put(client, command(namespace=namespace), table)["existed"] == 3
    assert put(client, command(namespace=f"{namespace}-copy"), table)["stored"] == 3
    older = bulk(["a"], ARRAY[:1], source_version=pa.array([8]))
    assert put(client, command(namespace=f"{namespace}-copy", mode="replace"), older)["existed"] == 1


def test_a_source_version_in_a_load(client, namespace):
    def sourced(row, version, **members):
        table = bulk(["a"], ARRAY[row : row + 1], source_version=pa.array([version]))
        reply = put(client, command(namespace=namespace, **members), table)
        return reply["stored"], reply["existed"]

    assert sourced(0, 10) == (1, 0)
    load_id = act(client, "begin_load", namespace=namespace)["load_id"]
    # Judged by the load's own keys; at the commit the load wins.
    assert sourced(1, 5, load_id=load_id) == (1, 0)
    assert sourced(2, 4, load_id=load_id) == (0, 1)
    assert sourced(3, 6, load_id=load_id) == (1, 0)
    act(client, "commit_load", load_id=load_id)
    table = get(client, namespace=namespace, keys=["a"], **{"with": ["source_version"]})
    assert table["source_version"].to_pylist() == [6]
    assert same(array_of(get(client, namespace=namespace, key="a")), ARRAY[3])
    assert sourced(4, 6) == (0, 1) and sourced(4, 7) == (1, 0)


def between(low, high, count):
    """Numbers of every size from 2**low to 2**high, of both signs."""
    random = np.random.default_rng(3)
    return np.exp2(random.uniform(low, high, count)) * random.choice([-1, 1], count)


@pytest.mark.parametrize("given", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("wanted", ["float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"])
def test_floats_are_cast_to_the_nearest(client, namespace, given, wanted):
    # As far as all of them reach, and into what is too small for most. What float32 has no place for is only cast to it:
    # NumPy rounds the rest twice.
    array = np.append(between(-20, 8, 999), [0.0])
    array = array if wanted == "float32" else array.astype("float32")
    array = array.astype(DTYPES[given]).reshape(100, 10)
    expected = array.astype("float32").astype(DTYPES[wanted])
    keys = [f"{at:03}" for at in range(100)]
    reply = put(client, command(namespace=namespace, dtype=wanted), bulk(keys, array))
    assert (reply["stored"], reply["errors"], reply["bytes"]) == (100, [], expected.nbytes)
    assert same(array_of(get(client, namespace=namespace, key="042")), expected[42])
    # Of one tensor, in batches.
    put(client, command(namespace=namespace, key="all", dtype=wanted), table_of(array), rows_per_batch=7)
    assert same(array_of(get(client, namespace=namespace, key="all")), expected)


@pytest.mark.parametrize(
    "given, wanted, values, fine",
    [
        ("float32", "float16", [1.0, 65520.0, np.inf, np.nan], [True, False, True, True]),
        ("float64", "float32", [1e38, 1e39, -np.inf], [True, False, True]),
        ("float32", "float8_e4m3fn", [448.0, 464.0, 465.0, np.inf], [True, True, False, False]),
        ("float32", "int8", [127.0, 128.0, 0.5, np.nan, -128.0], [True, False, False, False, True]),
        ("int64", "uint8", [255, 256, -1, 0], [True, False, False, True]),
        ("uint64", "int64", [2**63 - 1, 2**63], [True, False]),
        ("int32", "bool", [0, 1, 2, -1], [True, True, False, False]),
        ("bool", "float16", [False, True], [True, True]),
        ("int16", "complex64", [-7, 300], [True, True]),
        ("complex64", "complex128", [[1 + 2j], [-3j]], [True, True]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_value_that_does_not_fit_is_its_rows_error(client, namespace, given, wanted, values, fine):
    array = np.array(values, DTYPES[given])
    keys = [f"k{at}" for at in range(len(values))]
    reply = put(client, command(namespace=namespace, dtype=wanted), bulk(keys, array))
    assert reply["stored"] == sum(fine)
    assert [error["row"] for error in reply["errors"]] == [at for at, fits in enumerate(fine) if not fits]
    for key, value, fits in zip(keys, array, fine):
        if fits:
            got, expected = array_of(get(client, namespace=namespace, key=key)), value.astype(DTYPES[wanted])
            assert got.dtype == expected.dtype and np.array_equal(got.astype("c16"), expected.astype("c16"), equal_nan=True)
    where = command(namespace=namespace, key="all", dtype=wanted)
    if all(fine):
        put(client, where, table_of(array))
        assert same(array_of(get(client, namespace=namespace, key="all")), array.astype(DTYPES[wanted]))
    else:
        with refused("invalid_argument", "does not fit"):
            put(client, where, table_of(array))


def test_casts_that_there_are_none_of(client, namespace):
    array = sample("complex64", (3, 2))
    with refused("invalid_argument", "complex"):
        put(client, command(namespace=namespace, dtype="float32"), bulk(["a", "b", "c"], array))
    with refused("invalid_argument", "complex"):
        put(client, command(namespace=namespace, key="a", dtype="int8"), table_of(array))


def test_opaque_rows_and_bits_are_cast(client, namespace):
    arrays = {"a": np.arange(6, dtype="int32").reshape(2, 3), "b": np.array([True, False]), "c": np.float64(1.5)}
    for key, array in arrays.items():
        put(client, command(namespace=namespace, key=key), table_of(array))
    table = get(client, namespace=namespace, prefix="", **{"with": ["metadata"]})
    assert put(client, command(namespace=f"{namespace}-copy", dtype="float16"), table)["stored"] == 3
    for key, array in arrays.items():
        assert same(array_of(get(client, namespace=f"{namespace}-copy", key=key)), np.asarray(array).astype("float16"))
    bits = pa.FixedSizeListArray.from_arrays(pa.array([True, False, True, True]), 2)
    put(client, command(namespace=namespace, dtype="uint8"), pa.table({"key": ["x", "y"], "tensor": bits}))
    assert same(array_of(get(client, namespace=namespace, key="y")), np.array([1, 1], "uint8"))


def test_extra_columns_as_metadata(client, namespace):
    extra = {
        "language": pa.array(["de", None, "de", "en", "fr"]).dictionary_encode(),
        "price": pa.array([1, 2, 3, 4, None], pa.int16()),
        "weight": pa.array([0.5, 1.0, 1e300, 4.0, 5.0]),
        "good": pa.array([True, False, None, True, False]),
        "nothing": pa.nulls(5),
    }
    reply = put(client, command(namespace=namespace, extra_columns="metadata"), bulk(KEYS, ARRAY, **extra))
    assert reply["stored"] == 5
    e, d, c, _, a = act(client, "describe", namespace=namespace, keys=KEYS)["keys"]
    assert e["metadata"] == {"language": "de", "price": "1", "weight": "0.5", "good": "true"}
    assert d["metadata"] == {"price": "2", "weight": "1.0", "good": "false"}
    assert c["metadata"] == {"language": "de", "price": "3", "weight": "1e300"}
    assert a["metadata"] == {"language": "fr", "weight": "5.0", "good": "false"}
    with refused("invalid_argument", "when"):
        table = bulk(KEYS, ARRAY, when=pa.array(range(5)).cast(pa.timestamp("us")))
        put(client, command(namespace=namespace, extra_columns="metadata"), table)


def test_progress_tells_each_batch(client, namespace):
    where = command(namespace=namespace, progress=True)
    table = bulk([*KEYS[:4], ""], ARRAY)
    writer, replies = client.do_put(where, table.schema, PATIENCE)
    with writer:
        # One after the other: what is told of a batch does not wait for the next one.
        for at, (stored, errors) in enumerate([(1, 0), (2, 0), (3, 0), (4, 0), (4, 1)]):
            writer.write_batch(table[at : at + 1].to_batches()[0])
            now = json.loads(replies.read().to_pybytes())
            assert (now["stored"], now["errors_total"], now["errors"]) == (stored, errors, [])
            assert now["bytes"] == stored * ARRAY[0].nbytes
        writer.done_writing()
        last = json.loads(replies.read().to_pybytes())
        assert (last["stored"], last["errors_total"], len(last["errors"])) == (4, 1, 1)
        assert replies.read() is None


def test_progress_of_one_tensor(client, namespace):
    table = table_of(ARRAY)
    writer, replies = client.do_put(command(namespace=namespace, key="a", progress=True), table.schema, PATIENCE)
    with writer:
        for rows in (2, 5):
            writer.write_batch(table[0 if rows == 2 else 2 : rows].to_batches()[0])
            now = json.loads(replies.read().to_pybytes())
            assert (now["stored"], now["bytes"]) == (0, rows * ARRAY[0].nbytes)
        writer.done_writing()
        assert json.loads(replies.read().to_pybytes())["stored"] == 1


def test_progress_that_nobody_reads_holds_up_nothing(client, namespace):
    rows = 5_000
    table = bulk([f"{at:05}" for at in range(rows)], sample("int8", (rows, 1)))
    writer, replies = client.do_put(command(namespace=namespace, progress=True), table.schema, PATIENCE)
    with writer:
        for batch in table.to_batches(max_chunksize=1):
            writer.write_batch(batch)
        writer.done_writing()
        told = []
        while (reply := replies.read()) is not None:
            told.append(json.loads(reply.to_pybytes())["stored"])
    assert told == sorted(told) and told[-1] == rows and len(told) <= rows + 1


def test_keep_is_the_default(client, namespace):
    put(client, command(namespace=namespace), bulk(KEYS, ARRAY))
    reply = put(client, command(namespace=namespace), bulk([*KEYS[:2], "new"], -ARRAY[:3]))
    assert (reply["stored"], reply["existed"], reply["errors_total"]) == (1, 2, 0)
    assert same(array_of(get(client, namespace=namespace, key="e")), ARRAY[0])
    assert same(array_of(get(client, namespace=namespace, key="new")), -ARRAY[2])


def test_replace(client, namespace):
    put(client, command(namespace=namespace), bulk(KEYS, ARRAY))
    reply = put(client, command(namespace=namespace, mode="replace"), bulk(KEYS, -ARRAY))
    assert (reply["stored"], reply["errors_total"]) == (5, 0)
    assert same(array_of(get(client, namespace=namespace, key="b")), -ARRAY[3])


def test_create_names_the_rows_that_differ(client, namespace):
    put(client, command(namespace=namespace), bulk(KEYS, ARRAY))
    changed = ARRAY.copy()
    changed[3] += 1
    reply = put(
        client, command(namespace=namespace, mode="create"), bulk([*KEYS, "new"], np.vstack([changed, ARRAY[:1]]))
    )
    assert (reply["stored"], reply["existed"], reply["errors_total"]) == (1, 4, 1)
    (error,) = reply["errors"]
    assert (error["row"], error["key"], error["code"]) == (3, "b", "already_exists")
    assert same(array_of(get(client, namespace=namespace, key="b")), ARRAY[3])


def test_the_same_key_twice_in_one_put(client, namespace):
    put(client, command(namespace=namespace), bulk(["a", "a"], ARRAY[:2]))
    assert same(array_of(get(client, namespace=namespace, key="a")), ARRAY[0])


def test_bad_rows_do_not_lose_the_others(client, namespace):
    keys = pa.array(["a", None, "", "x" * 1025, "nul\0", "ok"])
    reply = put(client, command(namespace=namespace), bulk(keys, sample("int8", (6, 2))))
    assert (reply["stored"], reply["errors_total"]) == (2, 4)
    assert [error["row"] for error in reply["errors"]] == [1, 2, 3, 4]
    assert {error["code"] for error in reply["errors"]} == {"invalid_argument"}
    assert all(error["message"] for error in reply["errors"])
    assert same(array_of(get(client, namespace=namespace, key="ok")), sample("int8", (6, 2))[5])


def test_a_row_number_counts_over_batches(client, namespace):
    keys = [f"k{i}" for i in range(9)] + [""]
    reply = put(client, command(namespace=namespace), bulk(keys, sample("int8", (10, 2))), rows_per_batch=4)
    assert reply["stored"] == 9 and [error["row"] for error in reply["errors"]] == [9]


def test_at_most_100_errors_are_listed(client, namespace):
    reply = put(client, command(namespace=namespace), bulk([""] * 250 + ["a"], sample("int8", (251, 2))))
    assert (reply["stored"], len(reply["errors"]), reply["errors_total"]) == (1, 100, 250)


@pytest.mark.parametrize("kind", [pa.list_(pa.int32()), pa.large_list(pa.int32())], ids=str)
def test_lists_of_another_length_are_that_rows_error(client, namespace, kind):
    column = pa.array([None, [1, 2], [3], [4, 5], [6, None], []], kind)
    reply = put(client, command(namespace=namespace), pa.table({"key": list("abcdef"), "tensor": column}))
    assert reply["stored"] == 2 and [error["row"] for error in reply["errors"]] == [0, 2, 4, 5]
    assert same(array_of(get(client, namespace=namespace, key="d")), np.array([4, 5], "int32"))


def test_a_null_tensor_is_that_rows_error(client, namespace):
    column = pa.array([[1, 2], None, [3, 4], [5, None]], pa.list_(pa.int32(), 2))
    reply = put(client, command(namespace=namespace), pa.table({"key": list("abcd"), "tensor": column}))
    assert reply["stored"] == 2 and [error["row"] for error in reply["errors"]] == [1, 3]


def test_one_version_format_for_all(client, namespace):
    put(client, command(namespace=namespace), bulk(KEYS, ARRAY))
    versions = {key: get(client, namespace=namespace, key=key).schema.metadata[b"tensor.version"] for key in KEYS}
    assert all(version.isdigit() for version in versions.values())


def test_rows_of_a_whole_batch_are_visible_before_the_end(client, namespace):
    table = bulk(KEYS, ARRAY)
    writer, replies = client.do_put(command(namespace=namespace), table.schema, PATIENCE)
    with writer:
        writer.write_batch(table.to_batches()[0])
        # The server tells when the put has ended, and this one has not: ask until they are there.
        for _ in range(100_000):
            if act(client, "exists", namespace=namespace, keys=KEYS)["leading"] == 5:
                break
        assert same(array_of(get(client, namespace=namespace, key="a")), ARRAY[4])
        writer.done_writing()
        assert json.loads(replies.read().to_pybytes())["stored"] == 5


def test_metadata_and_expiry_columns(client, namespace):
    table = bulk(
        ["a", "b"],
        ARRAY[:2],
        ttl_ms=pa.array([None, 3_600_000], pa.int64()),
        metadata=pa.array([[("model", "m1")], None], pa.map_(pa.utf8(), pa.utf8())),
    )
    assert put(client, command(namespace=namespace), table)["stored"] == 2
    assert get(client, namespace=namespace, key="a").schema.metadata[b"user.model"] == b"m1"
    assert not any(name.startswith(b"user.") for name in get(client, namespace=namespace, key="b").schema.metadata)


def test_one_large_row_beside_small_keys(client, namespace):
    array = sample("uint8", (3, 1 << 20))
    assert put(client, command(namespace=namespace), bulk(["a", "b", "c"], array), rows_per_batch=1)["stored"] == 3
    assert same(array_of(get(client, namespace=namespace, key="b")), array[1])


def test_a_checksum_column_is_checked_row_by_row(client, namespace):
    sums = [xxhash.xxh3_128_hexdigest(row.tobytes()) for row in ARRAY]
    sums[1], sums[3] = sums[0], None
    reply = put(client, command(namespace=namespace), bulk(KEYS, ARRAY, checksum=pa.array(sums)))
    assert reply["stored"] == 4
    assert [(error["row"], error["key"], error["code"]) for error in reply["errors"]] == [(1, "d", "data_loss")]
    assert act(client, "exists", namespace=namespace, keys=KEYS)["leading"] == 1


def test_a_time_to_live(client, namespace):
    hour = 3_600_000
    table = bulk(["a", "b"], ARRAY[:2], ttl_ms=pa.array([hour, None], pa.int64()))
    put(client, command(namespace=namespace), table)
    put(client, command(namespace=namespace, key="c", ttl_ms=hour), table_of(ARRAY))
    a, b, c = act(client, "describe", namespace=namespace, keys=["a", "b", "c"])["keys"]
    assert 0 < a["ttl_ms"] <= hour and "ttl_ms" not in b and 0 < c["ttl_ms"] <= hour
    left = get(client, namespace=namespace, keys=["a", "b"], **{"with": ["ttl_ms"]})["ttl_ms"].to_pylist()
    assert 0 < left[0] <= hour and left[1] is None


@pytest.mark.parametrize("ttl_ms", [0, -1])
def test_a_time_to_live_that_is_none(client, namespace, ttl_ms):
    with refused("invalid_argument", "ttl_ms"):
        put(client, command(namespace=namespace, key="a", ttl_ms=ttl_ms), table_of(ARRAY))
    table = bulk(["a", "b"], ARRAY[:2], ttl_ms=pa.array([ttl_ms, None], pa.int64()))
    assert [error["row"] for error in put(client, command(namespace=namespace), table)["errors"]] == [0]


@pytest.mark.parametrize("deltas", [True, False], ids=["deltas", "replaced"])
def test_a_dictionary_that_changes_from_batch_to_batch(client, namespace, deltas):
    grown = [(["a", "b"], [1, 0]), (["a", "b", "c"], [2, 0]), (["a", "b", "c", "d"], [3])]
    if not deltas:
        grown.append((["y", "x"], [1, 0]))
    words = [pa.DictionaryArray.from_arrays(pa.array(at, pa.int32()), pa.array(of)) for of, at in grown]
    keys = pa.chunked_array(words)
    array = sample("int32", (len(keys), 2))
    options = flight.FlightCallOptions(
        timeout=240, write_options=pa.ipc.IpcWriteOptions(emit_dictionary_deltas=deltas)
    )
    table = pa.table({"key": keys, "tensor": column_of(array)})
    writer, replies = client.do_put(command(namespace=namespace, mode="replace"), table.schema, options)
    with writer:
        writer.write_table(table)
        writer.done_writing()
        assert json.loads(replies.read().to_pybytes())["stored"] == len(keys)
    for key, row in dict(zip(keys.to_pylist(), array)).items():
        assert same(array_of(get(client, namespace=namespace, key=key)), row)


def test_a_column_of_words_that_nobody_reads(client, namespace):
    table = bulk(KEYS, ARRAY, language=pa.array(["de", "en", "de", "fr", "de"]).dictionary_encode())
    assert put(client, command(namespace=namespace, extra_columns="ignore"), table)["stored"] == 5


@pytest.mark.parametrize("kind", [pa.float64(), pa.bool_(), pa.timestamp("us")], ids=str)
def test_what_is_no_key(client, namespace, kind):
    with refused("invalid_argument", "key"):
        put(client, command(namespace=namespace), bulk(pa.array([1, 0]).cast(kind), ARRAY[:2]))
