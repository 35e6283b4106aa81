"""Two hours of everything at once at a steady rate, and what the server's memory does meanwhile.

    cargo build --release -p bowstring-server
    tests/.venv/bin/python tests/endurance/soak.py --hours 2 --memory-gib 4 --out soak.csv

Fills a server past its memory, then works on it from threads of PyArrow clients, each operation drawn at random (`kinds.py`), and from
`bowstring bench` over mux. Every answer is checked against what was put. Every ten seconds it writes a line of what is resident, what the
ledger says, descriptors and threads. At the end: the slope of the resident memory after a warm-up, in percent an hour, by least squares, and
whether everything that was lent came back. A panic, a wrong byte, a connection lost, or an answer `internal` or `data_loss` is a failure.
"""

import argparse
import collections
import contextlib
import csv
import json
import pathlib
import subprocess
import sys
import threading
import time

import numpy as np

from watch import AT_REST, MIB, TESTS, counts, cpu_seconds, metrics, resident, start

from kinds import Worker, fill

EVERY_S = 10
#: Of the time, before memory is held to a slope: namespaces, buffers and the index have grown by then.
WARM_UP = 0.2
SLOPE_MAX = 1.0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--memory-gib", type=float, default=4.0)
    parser.add_argument("--server", type=pathlib.Path, default=TESTS.parent / "target" / "release" / "bowstring")
    parser.add_argument("--clients", type=int, default=8, help="threads of PyArrow clients")
    parser.add_argument("--rate", type=float, default=40.0, help="operations a second of all of them")
    parser.add_argument("--mux-rate", type=float, default=300.0, help="operations a second of `bowstring bench`")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("soak.csv"), help="a CSV of every sample")
    said = parser.parse_args()
    seconds, memory = said.hours * 3600, int(said.memory_gib * 1024 * MIB)
    flags = ("--load-idle", "30s", "--load-rollback", "60s")
    with start(said.server, str(memory), *flags) as server:
        fill(server.uri, memory)
        load = ["--via", "mux", "--size", "3KiB:90,64KiB:9,1MiB:1", "--keys", "20000", "--zipf", "0.9", "--read-share", "0.8"]
        load += ["--concurrency", "4", "--rate", str(said.mux_rate), "--duration", f"{seconds:.0f}s", "--json"]
        load += ["--endpoint", server.uri.replace("grpc+tcp", "grpc")]
        with subprocess.Popen([said.server, "bench", *load], stdout=subprocess.PIPE, text=True) as mux:
            over = time.monotonic() + seconds
            workers = [Worker(server.uri, number, said.clients / said.rate, over) for number in range(said.clients)]
            threads = [threading.Thread(target=worker.work) for worker in workers]
            for thread in threads:
                thread.start()
            samples = watched(server, over, said.out)
            for thread in threads:
                thread.join()
            report = json.loads(mux.communicate()[0])
        failures = [f"client {worker.number}: {line}" for worker in workers for line in worker.wrong]
        if mux.returncode or report["wrong"] or report["failed"]:
            failures.append(f"mux ended with {mux.returncode}: {report}")
        failures += at_rest(server)
        failures += sloping(samples)
        done = sum((worker.done for worker in workers), collections.Counter())
        print("PyArrow:", ", ".join(f"{name} {count}" for name, count in sorted(done.items())))
        print("mux:", json.dumps(report))
        ends = metrics(server)
        print("server:", ", ".join(f"{name} {value:.0f}" for name, value in ends.items() if name.endswith("_total") and value))
        print(f"CPU {cpu_seconds(server.process.pid):.0f} s of {seconds:.0f} s; log {len(server.stderr().splitlines())} lines")
        failures += [line for line in server.stderr().splitlines() if "panicked" in line or " ERROR " in line]
    for line in failures[:50]:
        print(f"failed: {line}")
    print(f"{len(failures)} failures")
    sys.exit(bool(failures))


def watched(server, over, out):
    """A sample every ten seconds, each in the file as soon as it is taken."""
    samples, began = [], time.monotonic()
    with out.open("w", newline="") as file:
        writer = None
        while time.monotonic() < over:
            now, pid = metrics(server), server.process.pid
            sample = {"seconds": round(time.monotonic() - began, 1), **resident(pid), **counts(pid)}
            sample |= {"ledger": now["memory_used_bytes"], "entries": now["entries"], "in_flight": now["requests_in_flight"]}
            if writer is None:
                writer = csv.DictWriter(file, sample)
                writer.writeheader()
            writer.writerow(sample)
            file.flush()
            samples.append(sample)
            time.sleep(EVERY_S)
    return samples


def sloping(samples):
    """Sentences for each kind of memory that grows faster than it may."""
    warm = samples[int(len(samples) * WARM_UP) :]
    hours = np.array([sample["seconds"] for sample in warm]) / 3600
    kinds = {"resident": lambda sample: sample["anon"] + sample["shmem"]}
    kinds |= {name: lambda sample, name=name: sample[name] for name in ("anon", "shmem", "files", "threads", "ledger")}
    steep = []
    for name, look in kinds.items():
        values = np.array([look(sample) for sample in warm], float)
        percent = np.polyfit(hours, values, 1)[0] / values.mean() * 100
        scale = 1 if name in ("files", "threads") else MIB
        print(
            f"{name}: {percent:+.2f} % an hour, {values[0] / scale:.0f} at first, {values[-1] / scale:.0f} at the end, "
            f"{values.min() / scale:.0f} to {values.max() / scale:.0f}"
        )
        if name == "resident" and percent >= SLOPE_MAX:
            steep.append(f"{name} grows by {percent:.2f} % an hour, {SLOPE_MAX} are allowed")
    return steep


def at_rest(server):
    """Waits a minute for what was lent to come back."""
    for _ in range(60):
        left = {name: value for name, value in metrics(server).items() if name in AT_REST and value}
        if not left:
            return []
        time.sleep(1)
    return [f"not given back: {left}"]


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
