"""Run the notebooks as Colab would: `make colab`, in an environment with Colab's own versions.

Each notebook starts in an empty folder, knows nothing of this one, and its first cell clones the
course, from this repository's last commit, and installs what is missing. Then everything runs in
the quick profile, without data.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).resolve().parents[1]
COPY = "/content/cours"  # where the first cell puts the course


def environment():
    """Return the variables of a Colab machine whose `git clone` is answered by this repository."""
    cell = (ROOT / "tools" / "setup_cell.py").read_text(encoding="utf8")
    address = cell.split('REPOSITORY = "')[1].split('"')[0]
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("COURSE_")
    }
    return kept | {
        "COLAB_RELEASE_TAG": "release-colab",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{ROOT.as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": address,
        "COURSE_STRICT": "1",
        "COURSE_PROFILE": "quick",
    }


def in_folder(notebook, folder):
    """Return the notebook with its copy of the course in a folder of ours, not in /content."""
    setup = next(cell for cell in notebook.cells if cell.cell_type == "code")
    assert COPY in setup.source, "the first code cell does not clone the course"
    setup.source = setup.source.replace(COPY, str(folder / "cours"))
    return notebook


def run(path, folder):
    """Run one notebook in an empty folder; return its seconds."""
    notebook = in_folder(nbformat.read(path, as_version=4), folder)
    begin = time.perf_counter()
    NotebookClient(
        notebook,
        timeout=None,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
    ).execute(env=environment())
    copied = folder / "cours" / "utils" / "runtime.py"
    assert copied.is_file(), "the notebook did not use its own copy of the course"
    return time.perf_counter() - begin


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="notebooks; default: all")
    paths = [ROOT / f"notebooks/{name}.ipynb" for name in parser.parse_args().names]
    failed = []
    for path in paths or sorted(ROOT.glob("notebooks/[0-9][0-9]_*.ipynb")):
        with tempfile.TemporaryDirectory(prefix="colab-") as folder:
            try:
                print(f"{path.stem:<24}{run(path, Path(folder)):6.0f} s", flush=True)
            except CellExecutionError as error:
                failed.append(path.stem)
                print(f"{path.stem}: failed\n{error}", flush=True)
    if failed:
        sys.exit(f"failed in Colab's environment: {', '.join(failed)}")


if __name__ == "__main__":
    main()
