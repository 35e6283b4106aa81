"""`permutation` and `dim_names` of `arrow.fixed_shape_tensor` on a put: logical axis i is physical axis permutation[i]."""

import itertools

import numpy as np
import pyarrow as pa
import pytest

from calls import get, path, put
from tensors import array_of, same, sample


def physical(array, permutation, dim_names=None):
    """A column whose cells lie in memory as they are in `array` and mean `array` with its axes permuted."""
    kind = pa.fixed_shape_tensor(pa.from_numpy_dtype(array.dtype), array.shape[1:], dim_names, permutation)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(array.reshape(-1)), int(np.prod(array.shape[1:])))
    return pa.table({"x": pa.ExtensionArray.from_storage(kind, lists)})


@pytest.mark.parametrize("permutation", list(itertools.permutations(range(3))), ids=str)
def test_every_order_of_three_axes(client, namespace, permutation):
    array = sample("int32", (5, 2, 3, 4))
    put(client, path(namespace, "a"), physical(array, permutation), rows_per_batch=2)
    expected = array.transpose(0, *(axis + 1 for axis in permutation))
    table = get(client, namespace=namespace, key="a")
    assert same(array_of(table), expected)
    assert same(table["tensor"].combine_chunks().to_numpy_ndarray(), np.ascontiguousarray(expected))


@pytest.mark.parametrize("name", ["uint8", "float16", "float64"])
@pytest.mark.parametrize("permutation", [(1, 2, 3, 0), (3, 0, 1, 2), (2, 3, 1, 0), (1, 0, 3, 2)], ids=str)
def test_four_axes(client, namespace, name, permutation):
    array = sample(name, (3, 2, 3, 4, 5))
    put(client, path(namespace, "a"), physical(array, permutation))
    expected = array.transpose(0, *(axis + 1 for axis in permutation))
    assert same(array_of(get(client, namespace=namespace, key="a")), expected)


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 1, 3, 2), (0, 2, 1, 3), (0, 3, 2, 1)], ids=str)
def test_what_pyarrow_makes_of_a_transposed_array(client, namespace, order):
    """PyArrow 26 writes the inverse of what the format means, so only orders that are their own inverse are safe."""
    array = sample("float32", (5, 2, 3, 4)).transpose(order)
    put(client, path(namespace, "a"), pa.table({"x": pa.FixedShapeTensorArray.from_numpy_ndarray(array)}))
    assert same(array_of(get(client, namespace=namespace, key="a")), array)


def test_a_contiguous_copy_is_always_safe(client, namespace):
    array = np.ascontiguousarray(sample("float32", (5, 2, 3, 4)).transpose(0, 2, 3, 1))
    put(client, path(namespace, "a"), pa.table({"x": pa.FixedShapeTensorArray.from_numpy_ndarray(array)}))
    assert same(array_of(get(client, namespace=namespace, key="a")), array)


def test_names_of_axes_are_kept(client, namespace):
    put(client, path(namespace, "a"), physical(sample("int32", (2, 3, 4)), (0, 1), ["height", "width"]))
    table = get(client, namespace=namespace, key="a")
    assert table["tensor"].type == pa.fixed_shape_tensor(pa.int32(), [3, 4])
    assert any(b"height" in text and b"width" in text for text in table.schema.metadata.values())
