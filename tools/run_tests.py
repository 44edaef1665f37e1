"""Run every test, two programs at a time: what `make test` does once the site is built.

Two programs are pytest on tests/, with and without a browser; each of the others executes a
notebook. Each computes on one thread, so that two of them share two cores without waiting for one
another. What a program says is shown whole when it ends.
"""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
AT_A_TIME = 2  # each may take 3 GB of memory
# Two programs that each want every core lose more than half of it in waiting for one another.
ONE_THREAD = {
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}


def programs():
    """Return {name: arguments of pytest}; the longest first, for the others to go beside it."""
    notebooks = sorted(ROOT.glob("notebooks/[0-9][0-9]_*.ipynb"))
    # Two programs must not write the list of the last failures.
    options = ["-q", "-p", "no:cacheprovider", "--nbmake"]
    return {
        "tests": ["tests", "-m", "not browser and not backends"],
        "tests in a browser": ["tests", "-m", "browser"],
    } | {f"notebooks/{path.name}": [*options, str(path)] for path in notebooks}


def run(commands):
    """Run the commands, {name: command}, and show what they say; return the names of failures."""

    def run_one(command):
        begin = time.monotonic()
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=os.environ | ONE_THREAD,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        return done, time.monotonic() - begin

    failed = []
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        names = {pool.submit(run_one, command): name for name, command in commands}
        try:
            for finished in as_completed(names):
                done, seconds = finished.result()
                name = names[finished]
                text = done.stdout.decode(errors="replace").strip()
                print(f"\n=== {name} ({seconds:.0f} s)\n{text}", flush=True)
                if done.returncode:
                    failed.append(name)
        except KeyboardInterrupt:  # what runs has had it too; what waits must not begin
            pool.shutdown(cancel_futures=True)
            raise
    return failed


def main():
    color = ["--color=yes"] if sys.stdout.isatty() else []
    pytest = [sys.executable, "-m", "pytest", *color]
    failed = run([(name, pytest + options) for name, options in programs().items()])
    if failed:
        sys.exit(f"\nFailed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
