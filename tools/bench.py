"""Time and peak memory of each notebook in the quick profile, on stand-ins: `make bench`.

A report, not a test: the numbers are those of this machine, whatever else it is doing.
"""

import argparse
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils import execute

SECONDS, MEMORY_MB = 60, 3_000
LARGE = {
    "03_architectures": 120,
    "08_efficientnet_b4": 120,
}  # they build large networks


def measure(name):
    """Run a notebook; return (seconds, MB). The peak is that of the process's children so far."""
    os.environ["COURSE_DATA"] = "synthetic"
    _, stamp = execute.run(name, "quick")
    return stamp["duration_s"], stamp["peak_memory_mb"]


def line(name, seconds, megabytes):
    """Write one row of the report, with a mark where a budget is exceeded."""
    budget = LARGE.get(name, SECONDS)
    over = [
        what
        for what, yes in (("time", seconds > budget), ("memory", megabytes > MEMORY_MB))
        if yes
    ]
    mark = f"  over budget: {' and '.join(over)}" if over else ""
    return f"{name:<24}{seconds:6.0f} s of {budget:3} s{megabytes:7.0f} MB of {MEMORY_MB} MB{mark}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "names", nargs="*", help="notebooks, as in notebooks/NAME.py; default: all"
    )
    names = parser.parse_args().names or execute.names()
    with ProcessPoolExecutor(max_workers=1, max_tasks_per_child=1) as pool:
        for name, (seconds, megabytes) in zip(
            names, pool.map(measure, names), strict=True
        ):
            print(line(name, seconds, megabytes), flush=True)


if __name__ == "__main__":
    main()
