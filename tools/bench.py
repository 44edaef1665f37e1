"""What the course costs, and whether it repeats itself: `make bench`.

Each notebook is executed twice in the quick profile, on stand-ins, alone: time, peak memory, and
whether the second run displays what the first did. Without a name, the site is then built and the
whole suite run. The record, `book/bench.json`, is what the page « État du cours » shows.

The times are those of this machine, whatever else it is doing: a report, not a test.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils import execute, provenance, runtime

RECORD = runtime.ROOT / "book" / "bench.json"
SITE = runtime.ROOT / "_build" / "html"
SECONDS, MEMORY_MB = 60, 3_000
LARGE = {
    "03_architectures": 120,
    "08_efficientnet_b4": 120,
}  # they build large networks
SUITE_SECONDS, BOOK_SECONDS, PAGE_BYTES = 600, 60, 2_000_000
# Stored files and times differ from run to run; everything else must not.
TIMED = ("exécution rapide ici", " ms pour ", " ms |", " µs |")
NUMBER = re.compile(r"-?\d+(?:[.,]\d+)?(?:e[+-]?\d+)?")


def displayed(notebook):
    """Return the lines of text and the pictures that the cells display, less what is timed."""
    found = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {"text/plain": output.get("text")})
            found += [
                str(data[key]) for key in ("text/markdown", "image/png") if key in data
            ]
            found += [str(data["text/plain"])] if len(data) == 1 else []
    lines = "\n".join(found).splitlines()  # how a stream is cut into outputs varies
    return [line for line in lines if line and not any(mark in line for mark in TIMED)]


def spread(first, second):
    """Compare two runs' lines: "identical", else the largest relative gap and the line it is in.

    The gap is None where it is not one of numbers: another count of lines, another picture.
    """
    if first == second:
        return "identical"
    if len(first) != len(second):
        return {"spread": None, "where": f"{len(first)} lines, then {len(second)}"}
    worst = {"spread": 0.0, "where": ""}
    for before, after in zip(first, second, strict=True):
        numbers = [
            [float(text.replace(",", ".")) for text in NUMBER.findall(line)]
            for line in (before, after)
        ]
        if NUMBER.sub("#", before) != NUMBER.sub("#", after) or len(before) > 5_000:
            if before != after:
                return {"spread": None, "where": before[:80]}
            continue
        for a, b in zip(*numbers, strict=True):
            gap = abs(a - b) / max(abs(a), abs(b), 1e-12)
            if gap > worst["spread"]:
                worst = {"spread": gap, "where": before[:80]}
    return worst


def measure(name):
    """Run a notebook twice; return its entry of the record. The peak is that of both runs."""
    os.environ["COURSE_DATA"] = "synthetic"
    runs = [execute.run(name, "quick") for _ in range(2)]
    return {
        "seconds": min(stamp["duration_s"] for _, stamp in runs),
        "memory_mb": max(stamp["peak_memory_mb"] for _, stamp in runs),
        "twice": spread(*(displayed(notebook) for notebook, _ in runs)),
    }


def timed(*command):
    """Run a command, what it says shown; return its seconds. Stop where it fails."""
    begin = time.perf_counter()
    environment = os.environ | {"COURSE_SITE_DIR": str(SITE)}
    done = subprocess.run([sys.executable, *command], cwd=runtime.ROOT, env=environment)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: failed")
    return round(time.perf_counter() - begin, 1)


def page_sizes():
    """Return {page: bytes} of the built site's pages, images not counted: they load lazily."""
    return {
        page.relative_to(SITE).with_suffix("").as_posix(): page.stat().st_size
        for page in sorted(SITE.rglob("*.html"))
    }


def line(name, entry):
    """Write one row of the report, with a mark where a budget is exceeded."""
    budget = LARGE.get(name, SECONDS)
    seconds, megabytes, twice = entry["seconds"], entry["memory_mb"], entry["twice"]
    over = [
        what
        for what, yes in (("time", seconds > budget), ("memory", megabytes > MEMORY_MB))
        if yes
    ]
    mark = f"  over budget: {' and '.join(over)}" if over else ""
    again = twice if isinstance(twice, str) else f"differs: {twice}"
    return (
        f"{name:<24}{seconds:6.0f} s of {budget:3} s"
        f"{megabytes:7.0f} MB of {MEMORY_MB} MB  {again}{mark}"
    )


def whole(record):
    """Write the rows of what concerns the whole course."""
    largest = max(record["pages"], key=record["pages"].get)
    rows = (
        ("whole suite", record["suite_seconds"], SUITE_SECONDS, "s"),
        ("site", record["book_seconds"], BOOK_SECONDS, "s"),
        (largest, record["pages"][largest], PAGE_BYTES, "bytes"),
    )
    return "\n".join(
        f"{name:<24}{value:9.0f} of {budget} {unit}"
        + ("  over budget" if value > budget else "")
        for name, value, budget, unit in rows
    )


def load():
    return (
        json.loads(RECORD.read_text("utf8")) if RECORD.exists() else {"notebooks": {}}
    )


def save(record):
    machine = f"{os.cpu_count()} cœurs"
    record |= {"date": execute.now(), "machine": machine}
    provenance.write_text(
        RECORD, json.dumps(record, ensure_ascii=False, indent=1) + "\n"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "names", nargs="*", help="notebooks, as in notebooks/NAME.py; default: all"
    )
    parser.add_argument(
        "--whole", action="store_true", help="only the site and the whole suite"
    )
    options = parser.parse_args()
    record = load()
    with ProcessPoolExecutor(max_workers=1, max_tasks_per_child=1) as pool:
        names = [] if options.whole else options.names or execute.names()
        for name, entry in zip(names, pool.map(measure, names), strict=True):
            record["notebooks"][name] = entry
            save(record)
            print(line(name, entry), flush=True)
    if not options.names:
        record["book_seconds"] = timed("tools/book.py")
        record["pages"] = page_sizes()
        record["suite_seconds"] = timed("tools/run_tests.py")
        save(record)
        print(whole(record))


if __name__ == "__main__":
    main()
