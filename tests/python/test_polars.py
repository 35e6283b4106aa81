"""Polars: what its frames become in Arrow is taken as it is, and what a get returns becomes a frame."""

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from calls import command, get, put, refused
from frames import KEYS, NATIVE, check, check_stored, rows_of
from tensors import DTYPES, same, storage_of

FRAME = pl.DataFrame({"key": KEYS, "tensor": rows_of("float32")})


@pytest.mark.parametrize("name", NATIVE)
def test_every_dtype_of_its_own(client, namespace, name):
    array = rows_of(name)
    check(client, namespace, pl.DataFrame({"key": KEYS, "tensor": array}).to_arrow(), array)
    back = pl.from_arrow(get(client, namespace=namespace, keys=KEYS)).select(pl.col("tensor").ext.storage())
    assert same(back["tensor"].to_numpy(), storage_of(array))


@pytest.mark.parametrize("form", ["array", "array of arrays", "list", "numbers", "booleans", "chunks", "filtered"])
def test_kinds_of_tensor_columns(client, namespace, form):
    array = rows_of("float32", (2, 3)) if form == "array of arrays" else rows_of("float32")
    frame = pl.DataFrame({"key": KEYS, "tensor": array})
    match form:
        case "list":
            frame = frame.with_columns(pl.col("tensor").arr.to_list())
        case "numbers":
            frame, array = frame.with_columns(pl.col("tensor").arr.first()), array[:, 0]
        case "booleans":
            frame, array = frame.with_columns(pl.col("tensor").arr.eval(pl.element() > 0)), array > 0
        case "chunks":
            frame = pl.concat([frame[:2], frame[2:]], rechunk=False)
        case "filtered":
            more = pl.DataFrame({"key": ["x", "y"], "tensor": -array[:2]})
            frame = pl.concat([more[:1], frame, more[1:]]).filter(~pl.col("key").is_in(["x", "y"]))
    check(client, namespace, frame.to_arrow(), array)


@pytest.mark.parametrize("kind", [pl.String, pl.Categorical, pl.Enum(KEYS)], ids=str)
@pytest.mark.parametrize("way", ["to_arrow", "views"])
def test_kinds_of_keys(client, namespace, kind, way):
    """`pa.table(frame)` hands over what Polars has in memory, which is views; `to_arrow` makes large strings of them."""
    frame = FRAME.with_columns(pl.col("key").cast(kind))
    table = frame.to_arrow() if way == "to_arrow" else pa.table(frame)
    assert pa.types.is_string_view(table["key"].type) == (way == "views" and kind == pl.String)
    check(client, namespace, table, rows_of("float32"))


def test_keys_that_are_numbers(client, namespace):
    frame = FRAME.with_columns(key=pl.Series([3, -1, 0, 2**40, 7]))
    check(client, namespace, frame.to_arrow(), rows_of("float32"), keys=["3", "-1", "0", str(2**40), "7"])


def test_a_row_of_another_length_is_named(client, namespace):
    lists = [[1.0, 2.0]] * 20
    lists[17] = [1.0]
    lists[18] = None
    reply = put(client, command(namespace=namespace), pl.DataFrame({"key": range(20), "tensor": lists}).to_arrow())
    assert reply["stored"] == 18 and [error["row"] for error in reply["errors"]] == [17, 18]


def test_a_time_to_live(client, namespace):
    frame = FRAME.with_columns(ttl_ms=pl.Series([None, 3_600_000, None, None, None], dtype=pl.Int64))
    check(client, namespace, frame.to_arrow(), rows_of("float32"))
    left = get(client, namespace=namespace, keys=KEYS, **{"with": ["ttl_ms"]})["ttl_ms"].to_pylist()
    assert [ttl is None for ttl in left] == [True, False, True, True, True]


def test_a_column_that_is_no_tensor(client, namespace):
    with refused("invalid_argument", "tensor"):
        put(client, command(namespace=namespace), FRAME.with_columns(tensor=pl.col("key")).to_arrow())


def test_tensors_become_a_frame(client, namespace):
    """A cell of more axes comes as a flat array: `fixed_shape_tensor` is stored so."""
    array = rows_of("float32", (2, 3))
    put(client, command(namespace=namespace), pl.DataFrame({"key": KEYS, "tensor": array}).to_arrow())
    found = pl.from_arrow(get(client, namespace=namespace, keys=KEYS)).with_columns(pl.col("tensor").ext.storage())
    assert found.schema == {"key": pl.String, "tensor": pl.Array(pl.Float32, 6)}
    assert same(found["tensor"].reshape((5, 2, 3)).to_numpy(), array)


@pytest.mark.parametrize("way", ["to_arrow", "views"])
@pytest.mark.parametrize("name", sorted(set(DTYPES) - set(NATIVE)))
def test_dtypes_that_it_has_not_go_as_bytes(client, namespace, name, way):
    arrays = rows_of(name)
    # snippet: opaque
    frame = pl.DataFrame(
        {
            "key": KEYS,
            "dtype": [name] * 5,
            "shape": [list(array.shape) for array in arrays],
            "data": [array.tobytes() for array in arrays],
        }
    )
    # snippet end
    check(client, namespace, frame.to_arrow() if way == "to_arrow" else pa.table(frame), arrays)
    back = pl.from_arrow(get(client, namespace=namespace, keys=KEYS, layout="opaque"))
    assert back.equals(frame)
    assert same(np.frombuffer(back["data"][0], DTYPES[name]), arrays[0])


def test_further_columns_are_kept_as_metadata(client, namespace):
    frame = FRAME.with_columns(price=pl.Series([1.5, None, 2.0, 0.0, -1.0]), lang=pl.Series(["de"] * 5, dtype=pl.Categorical))
    with refused("invalid_argument", "price"):
        put(client, command(namespace=namespace), frame.to_arrow())
    check(client, namespace, pa.table(frame), rows_of("float32"), extra_columns="metadata")
    first, second = (get(client, namespace=namespace, key=key).schema.metadata for key in KEYS[:2])
    assert (first[b"user.price"], first[b"user.lang"]) == (b"1.5", b"de")
    assert b"user.price" not in second and second[b"user.lang"] == b"de"


def test_the_newest_of_a_source_wins_in_whatever_order(client, namespace):
    newer = FRAME.with_columns(source_version=pl.Series([2] * 5))
    older = newer.with_columns(source_version=pl.Series([1] * 5), tensor=pl.Series(-rows_of("float32")))
    check(client, namespace, newer.to_arrow(), rows_of("float32"))
    reply = put(client, command(namespace=namespace, mode="replace"), older.to_arrow())
    assert (reply["stored"], reply["existed"]) == (0, 5)
    check_stored(client, namespace, rows_of("float32"))


@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn", "float8_e5m2", "complex64", "complex128"])
def test_dtypes_that_it_has_not_are_cast_to(client, namespace, name):
    """`"dtype"` in the command: what comes as float32 is stored as something else, rounded to the nearest."""
    array = rows_of("float32") % 8
    check(client, namespace, pl.DataFrame({"key": KEYS, "tensor": array}).to_arrow(), array.astype(DTYPES[name]), dtype=name)
