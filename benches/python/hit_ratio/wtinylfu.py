#!/usr/bin/env python3
"""Why libcachesim's W-TinyLFU differs from ours: its rules, replayed, then with one after the other taken from ours.

    benches/python/hit_ratio/wtinylfu.py target/hit-ratio/*.trace

Its rules: a key is counted when it is put, when it is hit outside the window, and when it leaves the window; exactly and for ever, as
counters are sized by the cache's bytes. What is larger than the window, a hundredth, is never kept. While there is
room in the protected segment, newcomers go right there once the probation one, a fifth, is full.
"""

import pathlib
import struct
import sys
from collections import Counter, OrderedDict

# Each column also has the changes of those before it.
CHANGES = ("window_hits_count", "large_is_kept", "newcomers_are_on_probation", "halved_each_ten_an_entry")


class Cache:
    def __init__(self, cache_bytes, changes):
        self.bytes_max, self.changes = cache_bytes, changes
        self.window_max = cache_bytes // 100
        self.main_max = cache_bytes - self.window_max
        # From the oldest to the newest: window, probation, protected.
        self.queues, self.used = [OrderedDict() for _ in range(3)], [0, 0, 0]
        self.share = [0, self.main_max // 5, self.main_max // 5 * 4]
        self.counts, self.counted = Counter(), 0

    def ask(self, key, size):
        at = next((at for at, queue in enumerate(self.queues) if key in queue), None)
        if at is not None:
            self.hit(at, key)
            return True
        if size > self.bytes_max or (size > self.window_max and "large_is_kept" not in self.changes):
            return False
        while sum(self.used) + size > self.bytes_max:
            self.evict()
        self.push(0, key, size)
        self.count(key)
        return False

    def hit(self, at, key):
        if at != 0 or "window_hits_count" in self.changes:
            self.count(key)
        self.push(at if at != 1 else 2, key, self.take(at, key))
        while self.used[2] > self.share[2]:
            self.push(1, *self.take_oldest(2))
            while self.used[1] > self.share[1] and "newcomers_are_on_probation" not in self.changes:
                self.take_oldest(1)

    def evict(self):
        """One goes: of the window, or in its favour of those outside."""
        while self.queues[0]:
            key, size = next(iter(self.queues[0].items()))
            oldest = 1 if self.queues[1] else 2
            has_room = self.used[1] + self.used[2] + size <= self.main_max
            wins = has_room or self.counts[key] > self.counts[next(iter(self.queues[oldest]), None)]
            self.take(0, key)
            if wins:
                if not has_room:
                    self.take_oldest(oldest)
                self.keep(key, size)
            self.count(key)
            if not has_room:
                return
        self.take_oldest(1 if self.queues[1] else 2)

    def keep(self, key, size):
        roomy = [at for at in (1, 2) if self.used[at] + size <= self.share[at]]
        if not roomy:
            while self.used[1] + self.used[2] + size > self.main_max:
                self.take_oldest(1 if self.queues[1] else 2)
        self.push(roomy[0] if roomy and "newcomers_are_on_probation" not in self.changes else 1, key, size)

    def count(self, key):
        self.counts[key] += 1
        self.counted += 1
        entries = sum(map(len, self.queues))
        if "halved_each_ten_an_entry" in self.changes and self.counted >= 10 * max(entries, 64):
            self.counts = Counter({key: count // 2 for key, count in self.counts.items() if count > 1})
            self.counted //= 2

    def push(self, at, key, size):
        self.queues[at][key] = size
        self.used[at] += size

    def take(self, at, key):
        size = self.queues[at].pop(key)
        self.used[at] -= size
        return size

    def take_oldest(self, at):
        key, size = self.queues[at].popitem(last=False)
        self.used[at] -= size
        return key, size


def main(paths):
    print("| trace | cache | its rules | " + " | ".join(f"+ {change}" for change in CHANGES) + " |")
    print("|---" * (3 + len(CHANGES)) + "|")
    for path in map(pathlib.Path, paths):
        requests = list(struct.iter_unpack("<QQ", path.read_bytes()))
        footprint = sum(dict(requests).values())
        for percent in (1, 5, 10, 25):
            cells = []
            for changed in range(len(CHANGES) + 1):
                cache = Cache(footprint // 100 * percent, CHANGES[:changed])
                hits = sum(cache.ask(*request) for request in requests)
                cells.append(f"{100 * hits / len(requests):.2f}")
            print(f"| {path.stem} | {percent} % | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
