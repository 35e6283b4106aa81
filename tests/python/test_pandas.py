"""pandas: a column of NumPy arrays is taken as PyArrow makes lists of it, and what a get returns becomes a frame."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from calls import command, get, put
from frames import KEYS, NATIVE, check, rows_of
from tensors import DTYPES, same, storage_of


def frame_of(array, keys=KEYS):
    return pd.DataFrame({"key": keys, "tensor": list(array)})


@pytest.mark.parametrize("name", NATIVE)
def test_every_dtype_of_its_own(client, namespace, name):
    array = rows_of(name)
    check(client, namespace, pa.Table.from_pandas(frame_of(array), preserve_index=False), array)
    back = get(client, namespace=namespace, keys=KEYS).to_pandas()
    assert same(np.stack(back["tensor"]), storage_of(array))


@pytest.mark.parametrize("form", ["strings", "objects", "categories", "arrow strings", "index", "range index", "sorted"])
def test_kinds_of_keys(client, namespace, form):
    array = rows_of("float32")
    frame, preserve = frame_of(array), None
    match form:
        case "objects":
            frame["key"] = frame["key"].astype(object)
        case "categories":
            frame["key"] = frame["key"].astype("category")
        case "arrow strings":
            frame["key"] = frame["key"].astype(pd.ArrowDtype(pa.string()))
        case "index":
            frame = frame.set_index("key")
        case "sorted":
            # The index is then no range, and would be a column of the table.
            frame, preserve = frame.sort_values("key"), False
    check(client, namespace, pa.Table.from_pandas(frame, preserve_index=preserve), array)


def test_numbers_alone(client, namespace):
    array = rows_of("int64")
    check(client, namespace, pa.Table.from_pandas(frame_of(array[:, 0]), preserve_index=False), array[:, 0])


def test_arrays_of_more_axes_are_stacked(client, namespace):
    """PyArrow makes lists of arrays of one axis only: it is told so, and what it takes instead is a tensor column."""
    frame, array = frame_of(rows_of("float32", (2, 3))), rows_of("float32", (2, 3))
    with pytest.raises(pa.ArrowInvalid, match="1-dimensional"):
        pa.Table.from_pandas(frame)
    # snippet: stack
    tensor = pa.FixedShapeTensorArray.from_numpy_ndarray(np.stack(frame["tensor"]))
    table = pa.table({"key": pa.array(frame["key"]), "tensor": tensor})
    # snippet end
    check(client, namespace, table, array)


@pytest.mark.parametrize("name", sorted(set(DTYPES) - set(NATIVE)))
def test_dtypes_that_arrow_has_not_go_as_bytes(client, namespace, name):
    array = rows_of(name)
    frame = pd.DataFrame({"key": KEYS, "dtype": name, "shape": [[3]] * 5, "data": [row.tobytes() for row in array]})
    check(client, namespace, pa.Table.from_pandas(frame, preserve_index=False), array)
    back = get(client, namespace=namespace, keys=KEYS, layout="opaque").to_pandas()
    assert [bytes(data) for data in back["data"]] == [storage_of(row).tobytes() for row in array]


def test_a_row_of_another_length_is_named(client, namespace):
    rows = [np.ones(2)] * 20
    rows[17], rows[18] = np.ones(1), None
    table = pa.Table.from_pandas(frame_of(rows, range(20)), preserve_index=False)
    reply = put(client, command(namespace=namespace), table)
    assert reply["stored"] == 18 and [error["row"] for error in reply["errors"]] == [17, 18]


def test_tensors_become_a_frame(client, namespace):
    array = rows_of("float32")
    put(client, command(namespace=namespace), pa.Table.from_pandas(frame_of(array), preserve_index=False))
    found = get(client, namespace=namespace, keys=[*KEYS, "none"], missing="null").to_pandas()
    assert found["key"].tolist() == [*KEYS, "none"] and found["tensor"][5] is None
    assert same(np.stack(found["tensor"][:5]), array)
