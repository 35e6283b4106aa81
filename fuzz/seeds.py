#!/usr/bin/env python3
"""Writes the golden vectors into corpus/, a folder a target: where a fuzzer begins."""

import json
import pathlib
import struct

HERE = pathlib.Path(__file__).resolve().parent
VECTORS = HERE.parent / "proto-notes" / "vectors"

ACTIONS = [
    '{"namespace": "n", "keys": ["a", "b"]}',
    '{"namespace": "n", "prefix": "a", "if_version": "1-2"}',
    '{"namespace": "n", "keys": ["a"], "ttl_ms": 1000}',
    '{"namespace": "n", "replace_all": true, "size_bytes": 1000}',
    '{"load_id": "1-00000001", "namespace": "n"}',
    '{"namespace": "n", "confirm": true}',
    '{"namespace": "n", "prefix": "a", "limit": 10, "after": "b"}',
    '{"namespace": "n", "settings": {"bytes_max": 1, "default_ttl_ms": 5, "mode": "keep"}, "if_version": "1-2"}',
    '{"exchange": "get", "namespace": "n", "dtype": "float32", "shape": [2, 3]}',
    '{"exchange": "mux"}',
    "",
]

SETTINGS = """
listen = ["127.0.0.1:0", "unix:/run/bowstring.sock"]
memory = "50%"
eviction = "lru"
put_idle = "2s"
streams_max = 2

[namespace."x"]
default_ttl_ms = 1000
bytes_max = 100000
mode = "keep"
"""

# The first byte of a stream: in frames of many bytes.
LARGE_FRAMES = b"\xff"
DATA_HEADER, APP_METADATA, DATA_BODY = 2, 3, 1000


def main():
    texts("ticket", "tickets.json")
    texts("descriptor", "descriptors.json")
    write("action", [body.encode() for body in ACTIONS])
    write("config", [SETTINGS.encode()])
    headers = [bytes.fromhex(header) for header in strings(json.loads((VECTORS / "mux.json").read_text()), "header")]
    write("mux", [LARGE_FRAMES + message([(APP_METADATA, header)]) for header in headers])
    write("cold", cold())
    write("put", [LARGE_FRAMES + put(file.read_bytes()) for folder in ("put", "bulk") for file in sorted((VECTORS / folder).iterdir())])


def cold():
    """Sidecars and records as they are; without their seals, which the target puts behind them; and frames of compressed blocks."""
    files = [file for kind in ("idx", "log", "hot", "hid", "set") for file in sorted(VECTORS.glob(f"cold/*/*.{kind}"))]
    objects = [seed for file in files for seed in (b"\x00" + file.read_bytes(), b"\x01" + file.read_bytes()[:-16])]
    return objects + [b"\x04" + struct.pack("<I", size) + frame for size, frame in frames()]


def frames():
    """Those of the golden segment: each begins with zstd's magic number, and the last one is followed by other columns."""
    file = (VECTORS / "cold" / "1" / "packed.arrow").read_bytes()
    starts = [at for at in range(len(file)) if file.startswith(b"\x28\xb5\x2f\xfd", at)]
    sizes = [1 << 20, 999, 2000]
    return [(size, file[start:end]) for size, start, end in zip(sizes, starts, [*starts[1:], len(file)])]


def texts(target, file):
    write(target, [text.encode() for text in strings(json.loads((VECTORS / file).read_text()), "json")])


def strings(value, name):
    """Every string under this name."""
    if isinstance(value, list):
        return [text for one in value for text in strings(one, name)]
    if isinstance(value, dict):
        own = [value[name]] if isinstance(value.get(name), str) else []
        return own + [text for one in value.values() for text in strings(one, name)]
    return []


def put(arrow):
    """An Arrow stream as the messages of a put."""
    out, at = b"", 0
    while length := struct.unpack_from("<i", arrow, at + 4)[0]:
        header = arrow[at + 8 : at + 8 + length]
        body = body_length(header)
        at += 8 + length
        out += message([(DATA_HEADER, header), (DATA_BODY, arrow[at : at + body])])
        at += body
    return out


def body_length(header):
    """`bodyLength` of a flatbuffer `Message`, its fourth field."""
    table = struct.unpack_from("<I", header, 0)[0]
    slots = table - struct.unpack_from("<i", header, table)[0]
    size = struct.unpack_from("<H", header, slots)[0]
    field = struct.unpack_from("<H", header, slots + 10)[0] if size > 10 else 0
    return struct.unpack_from("<q", header, table + field)[0] if field else 0


def message(fields):
    """A gRPC message of protobuf fields."""
    body = b"".join(varint(number << 3 | 2) + varint(len(value)) + value for number, value in fields)
    return b"\0" + struct.pack(">I", len(body)) + body


def varint(number):
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def write(target, seeds):
    folder = HERE / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds):
        (folder / f"seed-{number:03}").write_bytes(seed)


if __name__ == "__main__":
    main()
