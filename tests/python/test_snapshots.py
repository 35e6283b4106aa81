"""A prefix in partitions, each read by a client of its own, beside a writer."""

import json
import threading

import numpy as np
import pyarrow as pa
import pyarrow.flight as flight

from calls import PATIENCE, act, command, put
from test_bulk import bulk


def read(server_uri, endpoint):
    """The table of one endpoint and the keys that are said to have gone."""
    gone, tables = [], []
    with flight.connect(server_uri) as client:
        for chunk in client.do_get(endpoint.ticket, PATIENCE):
            if chunk.app_metadata is not None:
                gone += json.loads(chunk.app_metadata.to_pybytes())["gone"]
            tables.append(chunk.data)
    return pa.Table.from_batches(tables), gone


def test_partitions_are_read_at_once_and_are_one_snapshot(server, client, namespace):
    keys = [f"{i:05}" for i in range(3_000)]
    rows = np.arange(3_000 * 16, dtype=np.float32).reshape(3_000, 16)
    put(client, command(namespace=namespace), bulk(keys, rows))
    info = client.get_flight_info(command(namespace=namespace, prefix="", partitions=4, dtype="float32", shape=[16]))
    assert info.total_records == 3_000 and info.ordered
    assert len(info.endpoints) == 4 and all(endpoint.expiration_time for endpoint in info.endpoints)
    act(client, "delete", namespace=namespace, prefix="029")
    put(client, command(namespace=namespace), bulk(["00000a"], rows[:1]))

    parts = [None] * 4

    def work(at):
        parts[at] = read(server.uri, info.endpoints[at])

    threads = [threading.Thread(target=work, args=(at,)) for at in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    table = pa.concat_tables(part for part, _ in parts)
    gone = [key for _, names in parts for key in names]
    assert table["key"].to_pylist() == keys[:2_900]
    assert gone == keys[2_900:]
    flat = pa.concat_arrays([chunk.storage.flatten() for chunk in table["tensor"].chunks])
    assert np.array_equal(flat.to_numpy().reshape(2_900, 16), rows[:2_900])
