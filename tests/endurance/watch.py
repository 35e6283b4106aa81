"""What a server has and takes: its gauges, and what the kernel charges it."""

import os
import pathlib
import sys
import urllib.request

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS / "python"))

from server import Server  # noqa: E402

MIB = 1 << 20
#: Zero when nobody asks for anything.
AT_REST = ("requests_in_flight", "puts_reserved_bytes", "puts_waiting", "readers_held_bytes", "reads_open")


def start(binary, memory, *flags):
    os.environ["BOWSTRING_BIN"] = str(binary)
    return Server(*flags, memory=memory)


def metrics(server):
    """The samples by name; those with labels also summed under the bare name."""
    samples = {}
    with urllib.request.urlopen(f"{server.http}/metrics", timeout=60) as answer:
        for line in answer.read().decode().splitlines():
            if line.startswith("#"):
                continue
            name, _, value = line.removeprefix("bowstring_").rpartition(" ")
            samples[name] = float(value)
            if "{" in name:
                bare = name.partition("{")[0]
                samples[bare] = samples.get(bare, 0.0) + float(value)
    return samples


def resident(pid):
    """Bytes resident by kind: `anon`, and `shmem`, which is the arena."""
    kinds = {}
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in ("RssAnon", "RssShmem"):
            kinds[name[3:].lower()] = int(value.split()[0]) * 1024
    return kinds


def counts(pid):
    process = pathlib.Path(f"/proc/{pid}")
    return {"files": len(list((process / "fd").iterdir())), "threads": len(list((process / "task").iterdir()))}


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
