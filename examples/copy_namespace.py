"""Copies a namespace to another server: `copy_namespace.py FROM TO NAMESPACE`. Entries keep all but their versions."""

import json, sys
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa, pyarrow.flight as flight

from with_retries import put_rows

source, target, namespace = flight.connect(sys.argv[1]), flight.connect(sys.argv[2]), sys.argv[3]
ask = {"namespace": namespace, "layout": "opaque", "with": ["checksum", "metadata", "ttl_ms", "source_version"]}


def copy(ticket):
    """Gives the number of entries that are now there, and the keys that changed before it was their turn."""
    copied, gone = 0, []
    for chunk in source.do_get(ticket):
        if chunk.data.num_rows:
            reply = put_rows(target, pa.Table.from_batches([chunk.data]), namespace=namespace, mode="replace")
            copied += reply["stored"] + reply["existed"]
        if chunk.app_metadata:
            gone += json.loads(chunk.app_metadata.to_pybytes()).get("gone", [])
    return copied, gone


# Parts of one snapshot, four at a time. What is put meanwhile is not among them, what is replaced meanwhile is named.
info = source.get_flight_info(flight.FlightDescriptor.for_command(json.dumps({**ask, "prefix": "", "partitions": 16})))
with ThreadPoolExecutor(4) as pool:
    parts = list(pool.map(copy, [endpoint.ticket for endpoint in info.endpoints]))
changed = [key for _, gone in parts for key in gone]
for start in range(0, len(changed), 10_000):
    parts.append(copy(flight.Ticket(json.dumps({**ask, "keys": changed[start : start + 10_000]}))))
print(sum(copied for copied, _ in parts), "entries copied")
