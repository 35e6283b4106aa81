"""Many tensors at a time, Python to Python: plain PyArrow against redis-py with hiredis. One JSON object a line in, one out.

    {"uri": "grpc://127.0.0.1:1", "work": "batch"}  ->  {"seconds": 0.1}

`batch`: 1,000 tensors of 768 float32 by key, some of 10,000, as one ndarray of 1000 × 768. `bulk`: 400,000 of 50 float32 are put. The
keys are Python strings and the tensors rows of one ndarray, for both. `uri` may be `redis://HOST:PORT`.
"""

import json
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.flight as flight

BATCH, COUNT, WIDTH = 1000, 10_000, 768
BULK, BULK_WIDTH = 400_000, 50
BULK_KEYS = [f"word:{i:06}" for i in range(BULK)]
BULK_ROWS = np.arange(BULK * BULK_WIDTH, dtype=np.float32).reshape(BULK, BULK_WIDTH)
KEYS = [f"vector:{i:06}" for i in range(COUNT)]
ROWS = np.arange(COUNT * WIDTH, dtype=np.float32).reshape(COUNT, WIDTH)
# No order, and the same in every run.
PICKED = [int(i) for i in np.random.default_rng(1).permutation(COUNT)[:BATCH]]


class Flight:
    def __init__(self, uri):
        self.client = flight.connect(uri)

    def put(self, keys, rows):
        schema = None
        for start in range(0, len(keys), 20_000):
            part = slice(start, start + 20_000)
            tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(rows[part])
            batch = pa.record_batch({"key": pa.array(keys[part]), "tensor": tensors})
            if schema is None:
                schema = batch.schema
                descriptor = flight.FlightDescriptor.for_command(b'{"mode": "replace"}')
                writer, reader = self.client.do_put(descriptor, schema)
            writer.write_batch(batch)
        writer.done_writing()
        stored = json.loads(reader.read().to_pybytes())
        writer.close()
        assert stored["stored"] == len(keys), stored

    def get(self, keys):
        ticket = flight.Ticket(json.dumps({"keys": keys}).encode())
        chunks = self.client.do_get(ticket).read_all().column("tensor").chunks
        # The last one has no rows, and says which keys are missing.
        chunks = [chunk for chunk in chunks if len(chunk)]
        if len(chunks) == 1:
            return chunks[0].to_numpy_ndarray()
        return np.concatenate([chunk.to_numpy_ndarray() for chunk in chunks])


class Redis:
    def __init__(self, uri):
        import redis

        self.client = redis.Redis.from_url(uri)

    def put(self, keys, rows):
        size = rows.shape[1] * rows.itemsize
        pipeline = self.client.pipeline(transaction=False)
        for start in range(0, len(keys), 1000):
            # One copy of the rows, not a call of NumPy for each.
            blob = rows[start : start + 1000].tobytes()
            pieces = (blob[at : at + size] for at in range(0, len(blob), size))
            pipeline.mset(dict(zip(keys[start : start + 1000], pieces)))
            if start % 20_000 == 19_000:
                pipeline.execute()
        pipeline.execute()

    def get(self, keys):
        return np.frombuffer(b"".join(self.client.mget(keys)), np.float32).reshape(len(keys), -1)


def main():
    clients = {}
    for line in sys.stdin:
        command = json.loads(line)
        uri = command["uri"]
        if uri not in clients:
            clients[uri] = Redis(uri) if uri.startswith("redis:") else Flight(uri)
            clients[uri].put(KEYS, ROWS)
        client = clients[uri]
        picked = [KEYS[i] for i in PICKED]
        start = time.perf_counter()
        if command["work"] == "batch":
            for _ in range(20):
                got = client.get(picked)
            seconds = (time.perf_counter() - start) / 20
            assert np.array_equal(got, ROWS[PICKED])
        else:
            client.put(BULK_KEYS, BULK_ROWS)
            seconds = time.perf_counter() - start
        print(json.dumps({"seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
