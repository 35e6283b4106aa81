"""redhare on its own work: blocks of a KV cache, gathered from a buffer a layer and scattered back. One JSON object a line in, one out.

    {"transport": "tcp", "work": "get"}  ->  {"seconds": 0.1}

An object is one block of 16 tokens of a model of 48 layers, 8 KV heads of 128, bfloat16: 48 pieces of 64 KiB, 3 MiB. `put` stores 16
of them, `get` reads 16 back. With `tcp` the reader is another store than the one that holds them, in a process of its own
(this script with the argument `holder`); with `inmemory` it is the same, and a get is a copy within the process. `uri` of
Redis is the first argument. With {"uri": "grpc://…"} the same goes through plain PyArrow: a DoGet or DoPut a block.
"""

import json
import os
import subprocess
import sys
import time

import numpy as np

# redhare logs to standard output, which is for answers here.
ANSWERS = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)

LAYERS, PIECE, BLOCKS = 48, 64 << 10, 16
CAPACITY = 2 << 30


def keys_of(name):
    return [f"{name}:{i:04}" for i in range(BLOCKS)]


class Blocks:
    """A block is one row of 48 pieces; redhare is told the address of each."""

    def __init__(self):
        self.bytes = np.zeros((BLOCKS, LAYERS, PIECE), np.uint8)
        self.addresses = [[int(piece.ctypes.data) for piece in block] for block in self.bytes]
        self.sizes = [[PIECE] * LAYERS for _ in range(BLOCKS)]

    def fill(self):
        self.bytes[:] = np.arange(BLOCKS * LAYERS, dtype=np.uint32).reshape(BLOCKS, LAYERS, 1) % 251


class Redhare:
    def __init__(self, redis, name, transport):
        from redhare import KvStore

        self.store = KvStore(
            redis_url=redis,
            client_id=name,
            data_plane_addr="127.0.0.1:0",
            capacity=CAPACITY,
            transport=transport,
            block_size_bytes=LAYERS * PIECE,
        )

    def put(self, keys, blocks):
        assert not any(self.store.batch_put_from_multi_buffers(keys, blocks.addresses, blocks.sizes))

    def get(self, keys, blocks):
        assert not any(self.store.batch_get_into_multi_buffers(keys, blocks.addresses, blocks.sizes))


class Flight:
    def __init__(self, uri):
        import pyarrow as pa
        import pyarrow.flight as flight

        self.pa, self.flight, self.client = pa, flight, flight.connect(uri)

    def put(self, keys, blocks):
        for key, block in zip(keys, blocks.bytes):
            table = self.pa.table({"tensor": self.pa.FixedShapeTensorArray.from_numpy_ndarray(block)})
            command = json.dumps({"key": key, "mode": "replace"}).encode()
            writer, reader = self.client.do_put(self.flight.FlightDescriptor.for_command(command), table.schema)
            writer.write_table(table)
            writer.done_writing()
            reader.read()
            writer.close()

    def get(self, keys, blocks):
        for key, block in zip(keys, blocks.bytes):
            ticket = self.flight.Ticket(json.dumps({"key": key}).encode())
            chunks = self.client.do_get(ticket).read_all().column(0).chunks
            # Into the buffers, as redhare scatters.
            np.concatenate([chunk.to_numpy_ndarray() for chunk in chunks], out=block)


def holder(redis):
    blocks = Blocks()
    blocks.fill()
    store = Redhare(redis, "holder", "tcp")
    store.put(keys_of("held-tcp"), blocks)
    print("ready", file=ANSWERS)
    sys.stdin.read()


def main(redis):
    kept, got, stores, put, other = Blocks(), Blocks(), {}, [], None
    kept.fill()
    for line in sys.stdin:
        command = json.loads(line)
        name = command.get("uri") or command["transport"]
        if name not in stores:
            stores[name] = Flight(name) if name.startswith("grpc") else Redhare(redis, f"reader-{name}", name)
        store, work = stores[name], command["work"]
        kind = command.get("transport", "flight")
        if work == "get" and name == "tcp" and other is None:
            # What is read over TCP is what another process holds.
            other = subprocess.Popen(
                [sys.executable, __file__, redis, "holder"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            assert b"ready" in other.stdout.readline()
        elif work == "get" and name != "tcp":
            store.put(keys_of(f"held-{kind}"), kept)
        seconds = []
        for _ in range(6):
            # No key is put twice: redhare removes behind the caller's back.
            names = keys_of(f"held-{kind}" if work == "get" else f"put-{len(put)}")
            blocks = got if work == "get" else kept
            start = time.perf_counter()
            getattr(store, work)(names, blocks)
            seconds.append(time.perf_counter() - start)
            if work == "put":
                put.append(names)
        if work == "get":
            assert np.array_equal(got.bytes, kept.bytes)
            got.bytes[:] = 0
        print(json.dumps({"seconds": sorted(seconds[1:])[2]}), file=ANSWERS)
    if other is not None:
        other.stdin.close()
        other.wait()


if __name__ == "__main__":
    holder(sys.argv[1]) if sys.argv[2:] == ["holder"] else main(sys.argv[1])
