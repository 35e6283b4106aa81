"""What docs/clients/pyarrow.md shows: each snippet is run as it stands there."""

import json
import pathlib
import tempfile

import ml_dtypes
import numpy as np
import pyarrow as pa
import pyarrow.flight as flight
import pytest

from server import Server

ARRAY = np.arange(12, dtype="float32").reshape(3, 4)


# snippet: put_one
def put(client, namespace, key, array, **members):
    """One NumPy array of at least two axes. `members`: mode, ttl_ms, metadata, …"""
    table = pa.table({"tensor": pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(array))})
    command = {"namespace": namespace, "key": key, **members}
    writer, replies = client.do_put(flight.FlightDescriptor.for_command(json.dumps(command)), table.schema)
    with writer:
        writer.write_table(table)
        writer.done_writing()
        return json.loads(replies.read().to_pybytes())
# snippet end


# snippet: get_one
def get(client, **ticket):
    """The NumPy array of `namespace` and `key`, of any dtype and shape."""
    table = client.do_get(flight.Ticket(json.dumps(ticket))).read_all()
    column = table["tensor"].combine_chunks()
    while isinstance(column, (pa.ExtensionArray, pa.FixedSizeListArray)):
        column = column.storage if isinstance(column, pa.ExtensionArray) else column.flatten()
    about = {name.decode(): text.decode() for name, text in table.schema.metadata.items()}
    # bfloat16 and float8 are NumPy's once ml_dtypes is imported; bool and complex are NumPy's own.
    return column.to_numpy().view(np.dtype(about["tensor.dtype"])).reshape(json.loads(about["tensor.shape"]))
# snippet end


def test_one_tensor(client, namespace):
    # snippet: put_one_used
    reply = put(client, namespace, "weights", ARRAY, ttl_ms=3_600_000, metadata={"model": "m1"})
    print(reply["stored"], reply["existed"], reply["version"])
    # snippet end
    assert (reply["stored"], reply["existed"]) == (1, 0)
    # snippet: get_one_used
    whole = get(client, namespace=namespace, key="weights")
    rows = get(client, namespace=namespace, key="weights", rows=[1, 3])
    # snippet end
    assert (whole == ARRAY).all() and whole.dtype == ARRAY.dtype and (rows == ARRAY[1:3]).all()


def test_a_dtype_that_arrow_has_not(client, namespace):
    array = np.arange(6).reshape(2, 3).astype(ml_dtypes.bfloat16)
    # snippet: bfloat16
    storage = pa.FixedShapeTensorArray.from_numpy_ndarray(array.view("uint16"))
    schema = pa.schema([pa.field("tensor", storage.type, metadata={"tensor.dtype": "bfloat16"})])
    table = pa.table([storage], schema=schema)
    # snippet end
    writer, _ = client.do_put(flight.FlightDescriptor.for_path(namespace, "b"), schema)
    with writer:
        writer.write_table(table)
    back = get(client, namespace=namespace, key="b")
    assert back.dtype == array.dtype and (back == array).all()


def test_shapes_that_pyarrow_cannot_say(client, namespace):
    array = np.float64(2.5)
    # snippet: shape
    # A scalar: one row, and the shape beside it. A vector of 768 may be one row likewise, with "[768]".
    table = pa.table({"tensor": [float(array)]}).replace_schema_metadata({"tensor.shape": "[]"})
    # snippet end
    writer, _ = client.do_put(flight.FlightDescriptor.for_path(namespace, "s"), table.schema)
    with writer:
        writer.write_table(table)
    assert get(client, namespace=namespace, key="s").shape == () and get(client, namespace=namespace, key="s") == array


def test_many(client, namespace):
    vectors = np.random.default_rng(1).random((1000, 8), dtype="float32")
    # snippet: bulk
    table = pa.table(
        {
            "key": [f"row {number}" for number in range(1000)],
            "tensor": pa.FixedShapeTensorArray.from_numpy_ndarray(vectors),
        }
    )
    command = {"namespace": namespace, "mode": "replace"}
    writer, replies = client.do_put(flight.FlightDescriptor.for_command(json.dumps(command)), table.schema)
    with writer:
        writer.write_table(table, max_chunksize=16_384)
        writer.done_writing()
        reply = json.loads(replies.read().to_pybytes())
    for error in reply["errors"]:  # the first 100 of `errors_total`
        print(error["row"], error["key"], error["code"], error["message"])
    # snippet end
    assert (reply["stored"], reply["errors_total"]) == (1000, 0)
    # snippet: keys
    ticket = {"namespace": namespace, "keys": ["row 7", "no such row", "row 3"]}
    missing, found = [], {}
    for chunk in client.do_get(flight.Ticket(json.dumps(ticket))):
        if chunk.data.num_rows:
            found |= zip(chunk.data["key"].to_pylist(), chunk.data["tensor"].to_numpy_ndarray())
        if chunk.app_metadata:
            missing += json.loads(chunk.app_metadata.to_pybytes())["missing"]
    # snippet end
    assert missing == ["no such row"] and list(found) == ["row 7", "row 3"] and (found["row 3"] == vectors[3]).all()
    # snippet: prefix
    ticket = {"namespace": namespace, "prefix": "row 99", "dtype": "float32", "shape": [8]}
    table = client.do_get(flight.Ticket(json.dumps(ticket))).read_all()
    names, array = table["key"].to_pylist(), table["tensor"].combine_chunks().to_numpy_ndarray()
    # snippet end
    assert names == ["row 99", *(f"row {n}" for n in range(990, 1000))] and (array[0] == vectors[99]).all()
    # snippet: partitions
    command = {"namespace": namespace, "prefix": "", "dtype": "float32", "shape": [8], "partitions": 4}
    info = client.get_flight_info(flight.FlightDescriptor.for_command(json.dumps(command)))
    parts = [client.do_get(endpoint.ticket) for endpoint in info.endpoints]  # or each in a process of its own
    # snippet end
    assert sum(part.read_all().num_rows for part in parts) == 1000 and len(parts) == 4


def test_actions(client, namespace):
    put(client, namespace, "a", ARRAY)
    # snippet: act
    def act(action, **body):
        (result,) = client.do_action((action, json.dumps(body).encode()))
        return json.loads(result.body.to_pybytes())

    about = act("describe", namespace=namespace, keys=["a", "b"])["keys"]
    print([row["key"] for row in about if not row["found"]])
    act("expire", namespace=namespace, keys=["a"], ttl_ms=60_000)
    act("delete", namespace=namespace, keys=["a", "b"])
    # snippet end
    assert [row["found"] for row in about] == [True, False]
    assert not act("exists", namespace=namespace, keys=["a"])["leading"]


def test_a_load(client, namespace):
    def act(action, **body):
        (result,) = client.do_action((action, json.dumps(body).encode()))
        return json.loads(result.body.to_pybytes())

    put(client, namespace, "old", ARRAY)
    # snippet: load
    load = act("begin_load", namespace=namespace, replace_all=True)["load_id"]
    try:
        put(client, namespace, "new", ARRAY, load_id=load)  # invisible; from any number of processes
        act("commit_load", load_id=load)  # all at once: "new" is there, "old" is gone
    except BaseException:
        act("abort_load", load_id=load)
        raise
    # snippet end
    found = act("exists", namespace=namespace, keys=["old", "new"])["keys"]
    assert [row["found"] for row in found] == [False, True]


def test_errors(client, namespace):
    # snippet: errors
    def code_of(error):
        """The code that the server's sentence begins with; PyArrow puts words of its own before it."""
        text = str(error)
        return (text.partition("with message: ")[2] or text).partition(":")[0]

    try:
        get(client, namespace=namespace, key="nobody has this")
    except (pa.ArrowException, flight.FlightError) as error:
        if code_of(error) != "not_found":
            raise
    # snippet end
    with pytest.raises(pa.ArrowException) as caught:
        get(client, namespace=namespace, key="")
    assert code_of(caught.value) == "invalid_argument"
    put(client, namespace, "a", ARRAY)
    with pytest.raises(pa.ArrowException) as caught:
        put(client, namespace, "a", ARRAY + 1)
    assert code_of(caught.value) == "already_exists"


def test_a_deadline(client, namespace):
    put(client, namespace, "a", ARRAY)
    ticket = flight.Ticket(json.dumps({"namespace": namespace, "key": "a"}))
    # snippet: deadline
    table = client.do_get(ticket, flight.FlightCallOptions(timeout=30)).read_all()
    # snippet end
    assert table.num_rows == 3


def test_an_exchange(client, namespace):
    put(client, namespace, "a", ARRAY)
    # snippet: exchange
    command = {"exchange": "get", "namespace": namespace, "dtype": "float32", "shape": [3, 4]}
    writer, reader = client.do_exchange(flight.FlightDescriptor.for_command(json.dumps(command)))
    with writer:
        writer.begin(pa.schema([("key", pa.string())]))
        for keys in (["a", "b"], ["a"]):
            writer.write_batch(pa.record_batch({"key": keys}))
            answer = reader.read_chunk()  # one for one, in order
            missing = json.loads(answer.app_metadata.to_pybytes())["missing"]
            print(answer.data["tensor"].to_numpy_ndarray().shape, missing)
        writer.done_writing()
    # snippet end
    assert missing == [] and (answer.data["tensor"].to_numpy_ndarray()[0] == ARRAY).all()


def test_a_unix_socket():
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "s"
        with Server(listen=[f"unix:{path}"], memory="64MiB"):
            # snippet: unix
            client = flight.connect(f"grpc+unix://{path}", generic_options=[("grpc.default_authority", "localhost")])
            # snippet end
            assert put(client, "n", "a", ARRAY)["stored"] == 1
