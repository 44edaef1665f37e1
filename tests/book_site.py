"""The built book that test_book.py and test_site.py read."""

import functools
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "book" / "_ext"))

import course_data  # noqa: E402
import course_offline  # noqa: E402

BUILD = "from jupyter_book.cli.main import main; main()"


@functools.cache
def course() -> course_data.Course:
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf8"))
    repository = config["repository"]
    return course_data.load(ROOT, repository["url"], repository["branch"])


@functools.cache
def site() -> Path:
    """Return the folder of the site: COURSE_SITE_DIR (`make test` sets it), else built here."""
    if os.environ.get("COURSE_SITE_DIR"):
        return Path(os.environ["COURSE_SITE_DIR"])
    if not (ROOT / course_offline.VENDOR / course_offline.FOLDER).is_dir():
        pytest.skip(
            "the tests have no network and MathJax is not here yet: run `make book` once"
        )
    folder = tempfile.mkdtemp(prefix="course-site-")
    command = [
        sys.executable,
        "-c",
        BUILD,
        "build",
        str(ROOT),
        "--all",
        "-q",
        "-W",
        "-n",
    ]
    done = subprocess.run(
        [*command, "--keep-going", "--path-output", folder],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return Path(folder) / "_build" / "html"
