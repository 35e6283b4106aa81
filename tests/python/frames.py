"""What the tests of data frame libraries share: a put of rows, and a look at every one of them."""

import numpy as np

from calls import command, get, put
from tensors import array_of, same, sample

#: What a column of numbers or booleans can be in each of the libraries; the others come as casts or as bytes.
NATIVE = [f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)] + ["float16", "float32", "float64", "bool"]
KEYS = ["e", "d", "ü", "b", "a"]


def rows_of(name, cell=(3,)):
    """Five tensors of a dtype: random bits, but no NaNs, which some libraries make one of."""
    array = sample(name, (len(KEYS), *cell))
    return array if array.dtype.kind not in "fc" else np.nan_to_num(array, posinf=1, neginf=-1)


def check(client, namespace, table, array, keys=KEYS, **members):
    """Puts a table and finds each row of the array under its key."""
    reply = put(client, command(namespace=namespace, **members), table)
    assert (reply["stored"], reply["errors_total"]) == (len(keys), 0), reply
    check_stored(client, namespace, array, keys)


def check_stored(client, namespace, array, keys=KEYS):
    """Each row of the array must be there under its key, in dtype, shape and every bit."""
    for key, row in zip(keys, array):
        assert same(array_of(get(client, namespace=namespace, key=key)), np.asarray(row))
