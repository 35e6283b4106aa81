#!/usr/bin/env python3
"""Replays traces against our eviction policies and libcachesim's: benches/results/hit_ratio.{md,json,svg}.

    cargo build --release -p bowstring-benches --bin hit_ratio
    benches/python/hit_ratio/run.py TRACE.jsonl.gz TRACE.csv.gz ...

Two more traces are derived from packages, which are fetched by name. What is not there is skipped by name.
"""

import json
import pathlib
import subprocess
import sys
import venv

import traces

ROOT = pathlib.Path(__file__).resolve().parents[3]
WORK = ROOT / "target/hit-ratio"
OUT = ROOT / "benches/results"
OURS = {"lru": "LRU", "s3fifo": "S3FIFO", "sieve": "Sieve", "tinylfu": "WTinyLFU"}
# Online and not learned. LFUDA and Hyperbolic take minutes where many objects have one count: they time out.
THEIRS = [*OURS.values(), "GDSF", "ARC", "LIRS", "TwoQ", "SLRU", "MQ", "Clock2QPlus", "Clock"]
THEIRS += ["LFUDA", "Hyperbolic", "LHD", "Cacheus", "LeCaR"]
COLOURS = {"lru": "#1b6ca8", "s3fifo": "#c0392b", "sieve": "#2e8b57", "tinylfu": "#b8860b", "adaptive": "#222222", "belady": "#999999"}


def main(paths):
    ours, load = [], []
    binary = next((path for path in (ROOT / "target" / kind / "hit_ratio" for kind in ("release", "debug")) if path.exists()), None)
    if binary is None:
        sys.exit("no hit_ratio; build it first: cargo build --release -p bowstring-benches --bin hit_ratio")
    made = [path for _, path in traces.prepare([pathlib.Path(path) for path in paths], WORK)]
    for flags, lines in ((["--load"], load), ([], ours)):
        out = subprocess.run([binary, *flags, *made], check=True, capture_output=True, text=True).stdout
        lines += map(json.loads, out.splitlines())
    described = {line["trace"]: line for line in ours if "requests" in line}
    rows = {}
    for line in (line for line in ours if "policy" in line):
        rows.setdefault((line["trace"], line["percent"]), {})[line["policy"]] = (line["objects"], line["bytes"])
    peers = peer_ratios(described, rows)
    loads = [line for line in load if "policy" in line]
    OUT.mkdir(exist_ok=True)
    (OUT / "hit_ratio.md").write_text(table(described, rows, peers, loads))
    (OUT / "hit_ratio.svg").write_text(plot(rows))
    saved = [{"trace": t, "percent": p, "ours": row, "libcachesim": peers.get((t, p), {})} for (t, p), row in rows.items()]
    (OUT / "hit_ratio.json").write_text(json.dumps({"ratios": saved, "loads": loads}, indent=1) + "\n")


def peer_ratios(described, rows):
    """What libcachesim says, from a virtual environment of its own."""
    python = WORK / "venv/bin/python"
    if not python.exists():
        venv.create(WORK / "venv", with_pip=True)
    if subprocess.run([python, "-c", "import libcachesim, numpy"], capture_output=True).returncode:
        done = subprocess.run([python, "-m", "pip", "install", "-q", "libcachesim==0.3.5", "numpy"], capture_output=True)
        if done.returncode:
            print("skipped: libcachesim cannot be installed", file=sys.stderr)
            return {}
    # The same trace gives the same answer: kept between runs.
    kept = WORK / "libcachesim.json"
    known = json.loads(kept.read_text()) if kept.exists() else {}
    ratios = {}
    for trace, percent in rows:
        cache_bytes = described[trace]["footprint_bytes"] // 100 * percent
        for policy in THEIRS:
            name = f"{trace} {cache_bytes} {policy}"
            if name in known:
                if known[name]:
                    ratios.setdefault((trace, percent), {})[policy] = tuple(known[name])
                continue
            call = [python, pathlib.Path(__file__).with_name("peer.py"), WORK / f"{trace}.trace", policy, str(cache_bytes)]
            try:
                done = subprocess.run(call, capture_output=True, text=True, timeout=40, check=True)
                known[name] = list(map(float, done.stdout.split()[-2:]))
                ratios.setdefault((trace, percent), {})[policy] = tuple(known[name])
            except (subprocess.TimeoutExpired, subprocess.CalledProcessError):
                known[name] = None
                print(f"skipped: {policy} on {trace} at {percent} %: no answer in 40 s", file=sys.stderr)
    kept.write_text(json.dumps(known))
    return ratios


def table(described, rows, peers, loads):
    out = ["# Hit ratios", ""]
    for name, trace in described.items():
        out.append(f"- `{name}`: {trace['requests']:,} requests, {trace['objects']:,} objects, {trace['footprint_bytes'] / 2**20:,.0f} MiB; {trace['repeated']} % are repeats")
    for index, what in enumerate(("Objects", "Bytes")):
        out += ["", f"## {what} hit, % (in brackets: libcachesim's)", ""]
        out += ["| trace | cache | " + " | ".join(OURS) + " | adaptive | to the best of the four | best of libcachesim | to it | belady | belady-size |"]
        out += ["|---|---|" + "---|" * (len(OURS) + 6)]
        for (trace, percent), row in rows.items():
            theirs = peers.get((trace, percent), {})
            cells = [cell(row[ours][index], theirs.get(name, (None, None))[index]) for ours, name in OURS.items()]
            adaptive, four = row["adaptive"][index], max(row[ours][index] for ours in OURS)
            best = max(theirs.items(), key=lambda item: item[1][index], default=None)
            vs = [f"{best[0]} {best[1][index]:.2f}", f"{adaptive - best[1][index]:+.2f}"] if best else ["", ""]
            oracle = [f"{row[name][index]:.2f}" if name in row else "" for name in ("belady", "belady-size")]
            out.append(f"| {trace} | {percent} % | " + " | ".join([*cells, f"**{adaptive:.2f}**", f"{adaptive - four:+.2f}", *vs, *oracle]) + " |")
    out += ["", "## A bulk load of twice the cache in the middle of a trace", ""]
    out += ["Objects hit in the second half without it, %, and the points that it costs.", ""]
    out += ["| trace | cache | policy | quiet | on probation | hot |", "|---|---|---|---|---|---|"]
    for line in loads:
        out.append(f"| {line['trace']} | {line['percent']} % | {line['policy']} | {line['quiet']:.2f} | {line['lost_probation']:.2f} | {line['lost_hot']:.2f} |")
    return "\n".join(out) + "\n"


def cell(ours, theirs):
    return f"{ours:.2f}" + ("" if theirs is None else f" ({theirs:.2f})")


def plot(rows):
    """Object hit ratio over cache size, a panel a trace."""
    names = list(dict.fromkeys(trace for trace, _ in rows))
    width, height, gap = 220, 220, 60
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {50 + (width + gap) * len(names)} 340" font-family="sans-serif" font-size="12">', '<rect width="100%" height="100%" fill="white"/>']
    for number, name in enumerate(names):
        left, sizes = 50 + (width + gap) * number, [percent for trace, percent in rows if trace == name]
        out.append(f'<text x="{left}" y="24">{name}: objects hit, %</text>')
        x = lambda percent: left + width * (sizes.index(percent) + 0.5) / len(sizes)
        top = max(max(ratio[0] for ratio in rows[name, size].values()) for size in sizes)
        y = lambda ratio: 40 + height * (1 - ratio / top)
        for step in range(5):
            value = top * step / 4
            out.append(f'<path d="M{left} {y(value):.1f}H{left + width}" stroke="#ddd"/><text x="{left - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.0f}</text>')
        out += [f'<text x="{x(size):.1f}" y="{height + 58}" text-anchor="middle">{size} %</text>' for size in sizes]
        for policy, colour in COLOURS.items():
            points = " ".join(f"{x(size):.1f},{y(rows[name, size][policy][0]):.1f}" for size in sizes if policy in rows[name, size])
            out.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{3 if policy == "adaptive" else 1.5}"/>')
    for number, (policy, colour) in enumerate(COLOURS.items()):
        out.append(f'<rect x="{50 + 110 * number}" y="310" width="14" height="4" fill="{colour}"/><text x="{70 + 110 * number}" y="316">{policy}</text>')
    return "\n".join([*out, "</svg>\n"])


if __name__ == "__main__":
    main(sys.argv[1:])
