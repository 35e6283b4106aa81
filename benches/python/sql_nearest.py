#!/usr/bin/env python3
"""The ten nearest of 400,000 vectors of 50 float32, by SQL and by NumPy, in turns in one run.

    cargo build --release -p bowstring-server
    tests/.venv/bin/python benches/python/sql_nearest.py

NumPy has the vectors as one array in its own memory and computes what SQL does: a product, the norms, and the ten best. Its threads
keep their cores busy for a while after that, which the other side waits out. Prints both medians and the median of the ratios of the
pairs.
"""

import argparse
import pathlib
import statistics
import subprocess
import time

import adbc_driver_flightsql.dbapi as dbapi
import numpy as np
import pyarrow as pa
import pyarrow.flight as flight

ROOT = pathlib.Path(__file__).resolve().parents[2]
BATCH = 10_000
SPIN_SECONDS = 0.1


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, default=400_000)
    options.add_argument("--dimensions", type=int, default=50)
    options.add_argument("--repeats", type=int, default=7)
    options.add_argument("--server", default=ROOT / "target" / "release" / "bowstring")
    options = options.parse_args()
    vectors = np.random.default_rng(1).standard_normal((options.rows, options.dimensions), dtype=np.float32)
    keys = [f"w{row:07}" for row in range(options.rows)]

    command = [options.server, "serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--memory", "2GiB"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            uri = server.stdout.readline().removeprefix("flight ").strip()
            load(uri, keys, vectors)
            compare(uri, keys, vectors, options.repeats)
        finally:
            server.terminate()


def load(uri, keys, vectors):
    schema = pa.schema([("key", pa.utf8()), ("tensor", pa.list_(pa.float32(), vectors.shape[1]))])
    descriptor = flight.FlightDescriptor.for_command(b'{"namespace": "glove"}')
    with flight.connect(uri) as client:
        writer, _ = client.do_put(descriptor, schema)
        with writer:
            for start in range(0, len(keys), BATCH):
                part = vectors[start : start + BATCH]
                cells = pa.FixedSizeListArray.from_arrays(pa.array(part.reshape(-1)), vectors.shape[1])
                writer.write_batch(pa.record_batch([pa.array(keys[start : start + BATCH]), cells], schema=schema))


def compare(uri, keys, vectors, repeats):
    times = {"sql": [], "numpy": []}
    with dbapi.connect(uri, autocommit=True) as connection, connection.cursor() as cursor:
        for turn in range(repeats + 1):
            at = turn * 997 % len(keys)
            start = time.perf_counter()
            cursor.execute(
                "SELECT key FROM ns.glove"
                f" ORDER BY cosine_similarity(value, tensor('glove', '{keys[at]}')) DESC LIMIT 10"
            )
            found = [key for (key,) in cursor.fetchall()]
            sql = time.perf_counter() - start

            start = time.perf_counter()
            cosines = vectors @ vectors[at] / (np.linalg.norm(vectors, axis=1) * np.linalg.norm(vectors[at]))
            best = np.argpartition(-cosines, 10)[:10]
            expected = [keys[row] for row in best[np.argsort(-cosines[best])]]
            by_numpy = time.perf_counter() - start

            time.sleep(SPIN_SECONDS)
            assert found == expected, (found, expected)
            # The first turn warms both.
            if turn > 0:
                times["sql"].append(sql)
                times["numpy"].append(by_numpy)
    ratio = statistics.median(sql / by_numpy for sql, by_numpy in zip(times["sql"], times["numpy"]))
    for name, all_times in times.items():
        print(f"{name}: {statistics.median(all_times) * 1000:.0f} ms")
    print(f"sql / numpy: {ratio:.2f}")


if __name__ == "__main__":
    main()
