"""Functions of tensors in SQL, and namespaces as tables, against NumPy."""

import adbc_driver_flightsql.dbapi as dbapi
import ml_dtypes
import numpy as np
import pyarrow as pa
import pytest

from calls import command, put
from tensors import sample
from test_bulk import bulk

ROWS, DIMENSIONS = 2_000, 50
KEYS = [f"word {at:04}" for at in range(ROWS)]
VECTORS = np.random.default_rng(11).standard_normal((ROWS, DIMENSIONS), dtype=np.float32)


@pytest.fixture
def cursor(server):
    with dbapi.connect(server.uri, autocommit=True) as connection, connection.cursor() as cursor:
        yield cursor


@pytest.fixture
def glove(client, namespace):
    put(client, command(namespace=namespace), bulk(KEYS, VECTORS))
    return namespace


def column(cursor, statement, parameters=None):
    cursor.execute(statement, parameters)
    return [row[0] for row in cursor.fetchall()]


def nearest(vector):
    cosines = VECTORS @ vector / (np.linalg.norm(VECTORS, axis=1) * np.linalg.norm(vector))
    return [KEYS[at] for at in np.argsort(-cosines)[:10]]


@pytest.mark.parametrize("source", ['ns."{0}"', "tensors WHERE namespace = '{0}'"])
def test_the_ten_nearest_are_those_of_numpy(cursor, glove, source):
    statement = f"""
        SELECT key FROM {source.format(glove)}
        ORDER BY cosine_similarity(value, tensor('{glove}', 'word 0777')) DESC LIMIT 10"""
    assert column(cursor, statement) == nearest(VECTORS[777])


def test_a_vector_may_be_a_list_of_the_statement(cursor, glove):
    vector = np.random.default_rng(5).standard_normal(DIMENSIONS).astype(np.float32)
    numbers = ", ".join(f"{value:.9g}" for value in vector.astype(float))
    statement = f'SELECT key FROM ns."{glove}" ORDER BY cosine_similarity(value, [{numbers}]) DESC LIMIT 10'
    assert column(cursor, statement) == nearest(vector)


def test_the_names_of_a_tensor_may_be_parameters(cursor, glove):
    statement = f'SELECT key FROM ns."{glove}" ORDER BY l2_distance(value, tensor(?, ?)), key LIMIT 1'
    assert column(cursor, statement, (glove, "word 0123")) == ["word 0123"]


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32", "float64", "int8"])
def test_measures_are_those_of_numpy(cursor, client, namespace, name):
    dtype = np.dtype(getattr(ml_dtypes, name, name))
    array = (np.random.default_rng(3).standard_normal((40, 300)) * 20).astype(dtype)
    keys = [f"{at:02}" for at in range(len(array))]
    put(client, command(namespace=namespace), bulk(keys, array))
    exact = array.astype(np.float64)
    one, norms = exact[7], np.linalg.norm(exact, axis=1)
    expected = {
        "cosine_similarity(value, tensor('{0}', '07'))": exact @ one / (norms * norms[7]),
        "l2_distance(value, tensor('{0}', '07'))": np.linalg.norm(exact - one, axis=1),
        "dot(value, tensor('{0}', '07'))": exact @ one,
        "norm(value)": norms,
        "tensor_mean(value)": exact.mean(axis=1),
        "tensor_min(value)": exact.min(axis=1),
        "tensor_max(value)": exact.max(axis=1),
        "argmin(value)": exact.argmin(axis=1),
        "argmax(value)": exact.argmax(axis=1),
        "element(value, 299)": exact[:, 299],
        "norm(slice(value, 10, 20))": np.linalg.norm(exact[:, 10:20], axis=1),
    }
    for source in (f'ns."{namespace}"', f"tensors WHERE namespace = '{namespace}'"):
        for call, values in expected.items():
            found = column(cursor, f"SELECT {call.format(namespace)} FROM {source} ORDER BY key")
            np.testing.assert_allclose(found, values, rtol=1e-5, atol=1e-4, err_msg=f"{call} of {source}")
        counts = column(cursor, f"SELECT histogram(value, 7, -30, 30) FROM {source} ORDER BY key")
        assert counts == [np.histogram(row, bins=7, range=(-30, 30))[0].tolist() for row in exact]
        lists = column(cursor, f"SELECT to_list(value) FROM {source} ORDER BY key LIMIT 1")
        assert lists == [exact[0].tolist()]
        assert column(cursor, f"SELECT to_binary(value) FROM {source} ORDER BY key LIMIT 1") == [array[0].tobytes()]


def test_a_namespace_comes_as_tensors_of_its_shape(cursor, client, namespace):
    array = sample("float32", (5, 2, 3))
    put(client, command(namespace=namespace), bulk(list("abcde"), array))
    cursor.execute(f'SELECT key, value FROM ns."{namespace}"')
    table = cursor.fetch_arrow_table()
    value = table["value"].combine_chunks()
    assert isinstance(value.type, pa.FixedShapeTensorType)
    assert (value.type.shape, value.type.value_type) == ([2, 3], pa.float32())
    assert table["key"].to_pylist() == list("abcde")
    assert value.to_numpy_ndarray().tobytes() == array.tobytes()


def test_a_tensor_that_is_not_there_is_told_by_its_names(cursor, glove):
    with pytest.raises(dbapi.Error, match=f"namespace=`{glove}` key=`nobody`"):
        column(cursor, f"SELECT norm(tensor('{glove}', 'nobody'))")


def test_a_namespace_whose_entries_differ_says_which(cursor, client, namespace):
    put(client, command(namespace=namespace), bulk(["a"], sample("float32", (1, 3))))
    put(client, command(namespace=namespace), bulk(["b"], sample("float32", (1, 4))))
    with pytest.raises(dbapi.Error, match=r"key=`b` dtype=`float32` shape=`\[4\]` expected .* shape=`\[3\]`"):
        column(cursor, f'SELECT value FROM ns."{namespace}"')
