"""The first cell of every notebook: in Colab, in a copy of the course, and elsewhere."""

import os
import subprocess
import sys

import pytest

from utils import runtime

CELL = (runtime.ROOT / "tools" / "setup_cell.py").read_text(encoding="utf8")
ADDRESS = CELL.split('REPOSITORY = "')[1].split('"')[0]
SHOW = "\nimport utils\nprint(Path(utils.__file__).parents[1])\n"


def run(folder, code=CELL + SHOW, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )


@pytest.fixture
def course(tmp_path):
    """A copy of the course, as far as the cell looks: `utils/runtime.py`, without Keras."""
    root = tmp_path / "course"
    for folder in ("utils", "notebooks"):
        (root / folder).mkdir(parents=True)
    for name in ("__init__.py", "runtime.py"):
        (root / "utils" / name).write_text("")
    return root


@pytest.fixture
def published(course):
    """A repository that answers at the course's address, with one commit."""
    git = [
        "git",
        "-C",
        str(course),
        "-c",
        "user.name=t",
        "-c",
        "user.email=t@example.org",
    ]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "course"]):
        subprocess.run([*git, *command], check=True)
    return {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{course.as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": ADDRESS,
    }


def in_colab(tmp_path):
    return {"COLAB_RELEASE_TAG": "release-colab"}, (CELL + SHOW).replace(
        "/content/cours", str(tmp_path / "cours")
    )


def test_copies_the_course_into_colab_once(tmp_path, published):
    environment, code = in_colab(tmp_path)
    first = run(tmp_path, code, **environment, **published)
    assert first.stdout.strip() == str(tmp_path / "cours"), first.stderr
    again = run(tmp_path, code, **environment)  # nothing answers now: the copy serves
    assert again.stdout.strip() == str(tmp_path / "cours"), again.stderr


def test_says_in_french_that_the_copy_failed_and_leaves_nothing(tmp_path):
    environment, code = in_colab(tmp_path)
    nowhere = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{(tmp_path / 'nowhere').as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": ADDRESS,
    }
    result = run(tmp_path, code, **environment, **nowhere)
    assert "Copie du cours impossible : vérifiez la connexion" in result.stderr
    assert not (tmp_path / "cours").exists()


@pytest.mark.parametrize("folder", ["notebooks", "."])
def test_finds_the_copy_it_lies_in(course, folder):
    result = run(course / folder)
    assert result.stdout.strip() == str(course), result.stderr
    assert (runtime.ROOT / "utils" / "runtime.py").is_file(), "as in a true copy"


def test_says_what_to_do_elsewhere(tmp_path):
    assert f"git clone {ADDRESS}" in run(tmp_path).stderr


def test_installs_neither_keras_nor_tensorflow():
    needed = CELL.split("needed = ")[1].split("\n")[0]
    assert "keras" not in needed
    assert "tensorflow" not in needed
    assert "requirements" not in CELL
