#!/usr/bin/env python3
"""What SQL costs over many entries, and what it costs the gets beside it.

    cargo build --release -p bowstring-server
    tests/.venv/bin/python benches/python/sql_beside.py
    tests/.venv/bin/python benches/python/sql_beside.py --entries 10_000_000 --memory 8GiB

Medians of a server over so many entries of 16 bytes: `count(*) GROUP BY namespace` and a look-up of a key, with the processor time of the
server's process for each. Then gets of 3 KiB over mux, in turns alone and beside ten connections that each run again and again one of these: a `GROUP BY` of all, a look-up of a key,
the ten nearest of 400,000 x 50; every get's bytes are compared by the load generator. Prints the medians of both and of the ratios of the pairs.

Those who ask are on the same machine, where they would not be: they are at idle priority, and a plain client of Arrow Flight, which needs a tenth of the processor
of a driver.
"""

import argparse
import json
import multiprocessing
import os
import pathlib
import statistics
import subprocess
import threading
import time

import adbc_driver_flightsql.dbapi as dbapi
import numpy as np
import pyarrow as pa
import pyarrow.flight as flight

ROOT = pathlib.Path(__file__).resolve().parents[2]
BATCH = 50_000
NAMESPACES = 10
VECTORS, WIDTH = 400_000, 50
QUERIES = [
    "SELECT namespace, count(*), sum(bytes) FROM tensors GROUP BY 1",
    "SELECT bytes FROM tensors WHERE namespace = 'n3' AND key = '000000000003'",
    "SELECT key FROM ns.vectors ORDER BY cosine_similarity(value, tensor('vectors', '000000000003')) DESC LIMIT 10",
]


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--entries", type=int, default=1_000_000)
    options.add_argument("--memory", default="2GiB")
    options.add_argument("--repeats", type=int, default=7)
    options.add_argument("--seconds", type=int, default=5)
    options.add_argument("--server", default=ROOT / "target" / "release" / "bowstring")
    options = options.parse_args()

    command = [options.server, "serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--memory", options.memory]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            uri = server.stdout.readline().removeprefix("flight ").strip()
            for number in range(NAMESPACES):
                load(uri, f"n{number}", range(number, options.entries, NAMESPACES), 4)
            with dbapi.connect(uri, autocommit=True) as connection, connection.cursor() as cursor:
                costs(cursor, server.pid, options)
            load(uri, "vectors", range(VECTORS), WIDTH)
            beside(uri, options)
        finally:
            server.terminate()


def load(uri, namespace, rows, width):
    schema = pa.schema([("key", pa.utf8()), ("tensor", pa.list_(pa.float32(), width))])
    descriptor = flight.FlightDescriptor.for_command(json.dumps({"namespace": namespace}).encode())
    random = np.random.default_rng(width)
    with flight.connect(uri) as client:
        writer, _ = client.do_put(descriptor, schema)
        with writer:
            for start in range(0, len(rows), BATCH):
                part = rows[start : start + BATCH]
                keys = pa.array([f"{row:012}" for row in part])
                numbers = random.random(len(part) * width, dtype=np.float32)
                cells = pa.FixedSizeListArray.from_arrays(pa.array(numbers), width)
                writer.write_batch(pa.record_batch([keys, cells], schema=schema))


def costs(cursor, pid, options):
    one = f"{options.entries // 2:012}"
    asked = {
        "GROUP BY": ("SELECT namespace, count(*) FROM tensors GROUP BY namespace", NAMESPACES),
        "key": (f"SELECT bytes FROM tensors WHERE namespace = 'n{int(one) % NAMESPACES}' AND key = '{one}'", 1),
    }
    for name, (query, rows) in asked.items():
        took, used = [], []
        for _ in range(options.repeats + 1):
            began, before = time.perf_counter(), processor(pid)
            cursor.execute(query)
            found = cursor.fetchall()
            took.append(time.perf_counter() - began)
            used.append(processor(pid) - before)
            assert len(found) == rows, found
        assert name == "key" or sum(count for _, count in found) == options.entries
        # The first one warms.
        median = statistics.median
        print(f"{name}: {median(took[1:]) * 1000:.1f} ms, {median(used[1:]) * 1000:.0f} ms of processor, {options.entries} entries", flush=True)


def processor(pid):
    """Seconds of processor that a process has used."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def beside(uri, options):
    """Gets alone, and beside ten connections that ask all the time."""
    alone, among = [], []
    gets(options, uri, load=True)
    for _ in range(options.repeats):
        alone.append(gets(options, uri))
        with Asking(uri, 10) as asking:
            among.append(gets(options, uri))
        asking.check()
    for name, results in (("alone", alone), ("beside ten queries", among)):
        rates, tails = zip(*results)
        print(f"gets {name}: {statistics.median(rates):.0f} a second, p99.9 {statistics.median(tails):.0f} us", flush=True)
    rate = statistics.median(b[0] / a[0] for a, b in zip(alone, among))
    tail = statistics.median(b[1] / a[1] for a, b in zip(alone, among))
    print(f"beside / alone: {rate:.2f} x the gets, {tail:.2f} x the p99.9")


def gets(options, uri, load=False):
    command = [options.server, "bench", "--endpoint", uri, "--json", "--duration", f"{options.seconds}s"]
    done = subprocess.run(command + ([] if load else ["--no-load"]), check=True, stdout=subprocess.PIPE, text=True)
    result = json.loads(done.stdout)
    assert result["wrong"] == result["failed"] == result["missed"] == 0, result
    return result["get"]["per_second"], result["get"]["p99_9_us"]


class Asking:
    """A process whose connections ask one query after the other."""

    def __init__(self, uri, count):
        start = multiprocessing.get_context("spawn")
        self.over, self.begun, self.done = start.Event(), start.Barrier(2), start.Value("q", 0)
        self.process = start.Process(target=ask, args=(uri, count, self.begun, self.over, self.done))

    def __enter__(self):
        self.process.start()
        self.begun.wait(60)
        return self

    def __exit__(self, *_):
        self.over.set()
        self.process.join()

    def check(self):
        assert self.process.exitcode == 0, self.process.exitcode
        assert self.done.value > 0, "no query ended"


def ask(uri, count, begun, over, done):
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    failed = []
    threads = [threading.Thread(target=ask_one, args=(uri, QUERIES[nth % len(QUERIES)], over, done, failed)) for nth in range(count)]
    for thread in threads:
        thread.start()
    begun.wait()
    for thread in threads:
        thread.join()
    assert not failed, failed


def ask_one(uri, query, over, done, failed):
    try:
        descriptor = flight.FlightDescriptor.for_command(statement(query))
        with flight.connect(uri) as client:
            while not over.is_set():
                info = client.get_flight_info(descriptor)
                assert client.do_get(info.endpoints[0].ticket).read_all().num_rows
                with done.get_lock():
                    done.value += 1
    except Exception as error:
        failed.append(error)


def statement(query):
    """The message of Flight SQL that asks it, within a protobuf `Any`."""
    kind = b"type.googleapis.com/arrow.flight.protocol.sql.CommandStatementQuery"
    return field(1, kind) + field(2, field(1, query.encode()))


def field(number, content):
    size, rest = b"", len(content)
    while rest > 127:
        size, rest = size + bytes([rest & 127 | 128]), rest >> 7
    return bytes([number << 3 | 2]) + size + bytes([rest]) + content


if __name__ == "__main__":
    main()
