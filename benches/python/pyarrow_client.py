"""An unmodified PyArrow client, told over standard input what to time: one JSON object a line in, one out.

    {"uri": "grpc://127.0.0.1:1", "work": "get", "bytes": 3072, "ops": 100}  ->  {"seconds": 0.1}

`work`: `get` is a table read whole, `array` goes on to one ndarray of the tensor, `put` sends the table of one batch.
"""

import json
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.flight as flight

CELL = 256
clients = {}
tables = {}
buffers = {}


def client_of(uri):
    if uri not in clients:
        clients[uri] = flight.connect(uri)
    return clients[uri]


def table_of(size):
    if size not in tables:
        array = np.arange(size // 4, dtype=np.float32).reshape(-1, CELL)
        tables[size] = pa.table({"tensor": pa.FixedShapeTensorArray.from_numpy_ndarray(array)})
        buffers[size] = np.zeros_like(array)
    return tables[size]


def get(client, size):
    return client.do_get(flight.Ticket(b'{"key": "t%d"}' % size)).read_all()


def get_array(client, size):
    chunks = get(client, size).column(0).chunks
    if len(chunks) == 1:
        return chunks[0].to_numpy_ndarray()
    # Several messages: joined in a buffer that is warm, as a caller in a loop would have one.
    return np.concatenate([chunk.to_numpy_ndarray() for chunk in chunks], out=buffers[size])


def put(client, size):
    table = table_of(size)
    descriptor = flight.FlightDescriptor.for_command(b'{"key": "t%d", "mode": "replace"}' % size)
    writer, reader = client.do_put(descriptor, table.schema)
    writer.write_table(table)
    writer.done_writing()
    reader.read()
    writer.close()


def main():
    work = {"get": get, "array": get_array, "put": put}
    for line in sys.stdin:
        command = json.loads(line)
        client, size = client_of(command["uri"]), command["bytes"]
        table_of(size)
        run = work[command["work"]]
        start = time.perf_counter()
        for _ in range(command["ops"]):
            result = run(client, size)
        seconds = time.perf_counter() - start
        if command["work"] == "array":
            assert result.nbytes == size and result[-1, -1] == np.float32(size // 4 - 1)
        print(json.dumps({"seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
