"""Clients that do everything a client can do, right and wrong, and know what they must be told."""

import collections
import contextlib
import json
import random
import threading
import time
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.flight as flight

from calls import CODES, PATIENCE, act, command, message_of, put, ticket
from tensors import array_of, table_of
from test_bulk import bulk
from watch import MIB

SPACES = [f"soak-{number}" for number in range(8)]
#: Of one-tensor puts in a namespace.
KEYS = 2_000
#: Of rows in a namespace, in groups that are put together.
GROUPS, ROWS, WIDTH = 200, 200, 96
POOL = np.random.default_rng(11).integers(0, 256, 16 * MIB, dtype=np.uint8)


class Wrong(AssertionError):
    """The server gave what it must not."""


def check(holds, what):
    if not holds:
        raise Wrong(what)


def tensor_of(space, key, put_number):
    """Bytes that are this put's of this key alone: its number, then a piece of a pool; 1 KiB to 4 MiB by the key."""
    seed = zlib.crc32(f"{space}/{key}".encode())
    size = (1024 << seed % 12) + seed // 7 % 512
    at = (seed ^ put_number * 7919) % (len(POOL) - size)
    return np.concatenate([np.frombuffer(np.int64(put_number).tobytes(), np.uint8), POOL[at : at + size]])


def is_of(space, key, array):
    put_number = int(array[:8].view(np.int64)[0])
    return array.tobytes() == tensor_of(space, key, put_number).tobytes()


def rows_of(group, generation):
    """A group's rows all carry their key's number, and the generation they were put with."""
    rows = np.empty((ROWS, WIDTH), np.float32)
    rows[:] = np.arange(group * ROWS, (group + 1) * ROWS, dtype=np.float32)[:, None]
    rows[:, 1] = generation
    return [f"{group:04}/{row:04}" for row in range(ROWS)], rows


def ticket_of_rows(space, **members):
    return ticket(namespace=space, dtype="float32", shape=[WIDTH], **members)


def check_rows(keys, tensors):
    """`tensors` is the column; gives the generations met."""
    rows = tensors.combine_chunks() if isinstance(tensors, pa.ChunkedArray) else tensors
    rows = rows.to_numpy_ndarray().reshape(-1, WIDTH)
    numbers = np.array([int(key[:4]) * ROWS + int(key[5:]) for key in keys], np.float32)
    check(len(rows) == len(keys) and np.array_equal(rows[:, 0], numbers), "a row under another's key")
    check((rows[:, 2:] == numbers[:, None]).all(), "a row with foreign bytes")
    return set(rows[:, 1].tolist())


def fill(uri, memory_bytes):
    """Puts more than fits, so that eviction runs from the first operation on."""
    with flight.connect(uri) as client:
        filled = 0
        while filled < memory_bytes * 1.1:
            key = f"fill-{filled:x}"
            array = tensor_of("fill", key, 0)
            put(client, command(namespace="fill", key=key), table_of(array))
            filled += array.nbytes


class Worker:
    """One thread's operations, `every` seconds apart, until `over`.

    `done` counts what was done and how it ended, `wrong` has a sentence for each thing that must not be.
    """

    def __init__(self, uri, number, every, over):
        self.uri, self.every, self.over = uri, every, over
        self.random = random.Random(number)
        self.number, self.puts = number, 0
        self.client = flight.connect(uri)
        self.done, self.wrong = collections.Counter(), []
        self.kinds = {name[3:]: getattr(self, name) for name in dir(self) if name.startswith("do_")}
        self.weights = [self.WEIGHTS.get(name, 1) for name in self.kinds]

    WEIGHTS = {"put": 20, "get": 30, "put_rows": 8, "get_keys": 12, "get_prefix": 3, "stall": 0.02, "everything": 0.1}

    def work(self):
        due = time.monotonic()
        while time.monotonic() < self.over:
            self.once()
            due = max(due + self.every * self.random.expovariate(1), time.monotonic() - 10)
            time.sleep(max(0, min(due, self.over) - time.monotonic()))
        self.client.close()

    def once(self):
        (name,) = self.random.choices(list(self.kinds), self.weights)
        try:
            self.kinds[name](self.random.choice(SPACES))
            ended = "ok"
        except Wrong as error:
            ended = "wrong"
            self.wrong.append(f"{name}: {error}")
        except (pa.ArrowException, flight.FlightError, OSError, KeyError) as error:
            message = message_of(error)
            ended = message.partition(":")[0]
            if ended not in CODES:
                ended = type(error).__name__
            if ended in ("internal", "data_loss", "unavailable") or ended not in CODES:
                self.wrong.append(f"{name}: {message[:300]}")
        self.done[f"{name} {ended}"] += 1

    def key(self):
        return str(int(self.random.paretovariate(0.7)) % KEYS)

    def group(self):
        return self.random.randrange(GROUPS)

    def act(self, action, **body):
        return act(self.client, action, **body)

    # What is right.

    def do_put(self, space):
        key = self.key()
        self.puts += 1
        array = tensor_of(space, key, self.number << 32 | self.puts)
        ttl = {"ttl_ms": self.random.randrange(1, 60_000)} if self.random.random() < 0.2 else {}
        put(self.client, command(namespace=space, key=key, mode="replace", **ttl), table_of(array))

    def do_get(self, space):
        key = self.key()
        array = array_of(self.client.do_get(ticket(namespace=space, key=key), PATIENCE).read_all())
        check(is_of(space, key, array), f"bytes of another put, {space}/{key}")

    def do_put_rows(self, space):
        keys, rows = rows_of(self.group(), self.random.randrange(1_000))
        reply = put(self.client, command(namespace=space, mode="replace"), bulk(keys, rows))
        check(reply["stored"] + reply["errors_total"] == ROWS, f"a reply that does not add up: {reply}")

    def do_get_keys(self, space):
        group = self.group()
        asked = [f"{group:04}/{self.random.randrange(ROWS + 20):04}" for _ in range(100)]
        asked = list(dict.fromkeys(asked))
        table = self.client.do_get(ticket_of_rows(space, keys=asked), PATIENCE).read_all()
        keys = table["key"].to_pylist()
        check(set(keys) <= set(asked) and len(set(keys)) == len(keys), "keys that nobody asked for")
        if keys:
            check_rows(keys, table["tensor"])

    def do_get_prefix(self, space):
        self.read_prefix(self.client, ticket_of_rows(space, prefix=f"{self.group():04}"[:3]))

    def do_everything(self, space):
        self.read_prefix(self.client, ticket_of_rows(space, prefix="0"))

    def read_prefix(self, client, what):
        last = ""
        for chunk in client.do_get(what, PATIENCE):
            keys = chunk.data["key"].to_pylist()
            if keys:
                check(last < keys[0] and keys == sorted(set(keys)), "keys out of order")
                last = keys[-1]
                check_rows(keys, chunk.data["tensor"])

    def do_partitions(self, space):
        """Reads some of the partitions, each over a connection of its own, and forgets the others."""
        members = dict(namespace=space, prefix="", partitions=4, dtype="float32", shape=[WIDTH])
        info = self.client.get_flight_info(command(**members))
        for endpoint in info.endpoints[: self.random.randrange(5)]:
            with flight.connect(self.uri) as client:
                self.read_prefix(client, endpoint.ticket)

    def do_exchange(self, space):
        writer, reader = self.client.do_exchange(
            command(exchange="get", namespace=space, dtype="float32", shape=[WIDTH]), PATIENCE
        )
        schema = pa.schema([("key", pa.utf8())])
        with writer:
            writer.begin(schema)
            for _ in range(3):
                group = self.group()
                asked = [f"{group:04}/{row:04}" for row in range(50)]
                writer.write_batch(pa.record_batch([asked], schema=schema))
                chunk = reader.read_chunk()
                missing = json.loads(chunk.app_metadata.to_pybytes())["missing"]
                keys = chunk.data["key"].to_pylist()
                check(sorted(keys + missing) == asked, "neither found nor missing")
                if keys:
                    check_rows(keys, chunk.data["tensor"])
            writer.done_writing()

    def do_delete(self, space):
        self.act("delete", namespace=space, keys=[self.key() for _ in range(5)])

    def do_delete_prefix(self, space):
        self.act("delete", namespace=space, prefix=f"{self.group():04}/")

    def do_expire(self, space):
        self.act("expire", namespace=space, keys=[self.key()], ttl_ms=self.random.randrange(1, 30_000))

    def do_pin_and_unpin(self, space):
        keys = [self.key(), self.key()]
        self.act("pin", namespace=space, keys=keys)
        self.act("unpin", namespace=space, keys=keys)

    def do_ask(self, space):
        self.act("describe", namespace=space, keys=[self.key()])
        self.act("exists", namespace=space, keys=[self.key()])
        self.act("stats")
        self.act("namespaces")
        list(self.client.list_flights())

    def do_load(self, space):
        """A load of some groups, which is committed, rolled back, aborted or forgotten; each group has one generation."""
        space = f"load-{self.number}"
        load = self.act("begin_load", namespace=space, replace_all=self.random.random() < 0.5)["load_id"]
        generation = self.random.randrange(1_000)
        for group in range(5):
            keys, rows = rows_of(group, generation)
            put(self.client, command(namespace=space, load_id=load), bulk(keys, rows))
        for end in self.random.choice([["commit"], ["commit"], ["commit", "rollback"], ["abort"], []]):
            self.act(f"{end}_load", load_id=load)
        table = self.client.do_get(ticket_of_rows(space, keys=rows_of(0, 0)[0]), PATIENCE).read_all()
        if len(table):
            check(len(check_rows(table["key"].to_pylist(), table["tensor"])) == 1, "a mix of generations")

    def do_connect(self, space):
        self.client.close()
        self.client = flight.connect(self.uri)

    # What is wrong, or breaks off.

    def do_nonsense(self, space):
        """Whatever these are, they are not requests."""
        words = self.random.randbytes(self.random.randrange(200))
        with contextlib.suppress(flight.FlightError, pa.ArrowException, OSError):
            self.client.do_get(flight.Ticket(words), PATIENCE).read_all()
            raise Wrong("nonsense was answered")

    def do_break_off_a_get(self, space):
        reader = self.client.do_get(ticket_of_rows(space, prefix="0"), PATIENCE)
        with contextlib.suppress(StopIteration):
            reader.read_chunk()
        reader.cancel()

    def do_break_off_a_put(self, space):
        array = tensor_of(space, "3", 0).repeat(64).reshape(64, -1)
        table = table_of(array, {"tensor.shape": json.dumps(array.shape)})
        writer, _ = self.client.do_put(command(namespace=space, key="broken"), table.schema, PATIENCE)
        writer.write_batch(table.to_batches(max_chunksize=8)[0])
        with contextlib.suppress(pa.ArrowException, flight.FlightError):
            writer.close()
            raise Wrong("half a put was taken")

    def do_stall(self, space):
        """Leaves large answers unread for half a minute, and goes away."""
        client, space = flight.connect(self.uri), "stalled"
        array = np.broadcast_to(np.float32(self.number), (32 * MIB // 4,))
        put(client, command(namespace=space, key=str(self.number)), table_of(array))
        readers = [client.do_get(ticket(namespace=space, key=str(self.number)), PATIENCE) for _ in range(3)]

        def leave():
            for reader in readers:
                reader.cancel()
            client.close()

        threading.Timer(30, leave).start()
