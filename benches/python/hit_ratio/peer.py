"""One trace through one policy of libcachesim (GPL: called, never linked): prints object and byte hit ratio in hundredths.

    peer.py TRACE POLICY BYTES
"""

import pathlib
import sys

import libcachesim
import numpy


def main(trace, policy, cache_bytes):
    requests = numpy.fromfile(trace, dtype="<u8").reshape(-1, 2)
    form = [("time", "<u4"), ("object", "<u8"), ("bytes", "<u4"), ("next", "<i8")]
    rows = numpy.zeros(len(requests), dtype=form)
    rows["object"], rows["bytes"] = requests[:, 0], requests[:, 1]
    rows["time"] = numpy.arange(len(rows)) // 1_000
    rows["next"] = -1
    path = pathlib.Path(trace).with_suffix(".oracle")
    if not path.exists():
        rows.tofile(path)
    reader = libcachesim.TraceReader(str(path), trace_type=libcachesim.TraceType.ORACLE_GENERAL_TRACE)
    cache = getattr(libcachesim, policy)(cache_size=int(cache_bytes))
    objects, in_bytes = cache.process_trace(reader)
    print(round(100 * (1 - objects), 2), round(100 * (1 - in_bytes), 2))


if __name__ == "__main__":
    main(*sys.argv[1:])
