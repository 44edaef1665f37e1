"""Make a virtual environment from exact pins: `make book` and `make test` call this.

    python3 tools/venv.py .venv
    python3 tools/venv.py .venv-jax --without tensorflow --add jax

Runs on any Python 3 (to say which one is needed), with the standard library only. Uses uv when it
is on PATH, else pip. The environment is whole when `installed.txt` is there: it is written last,
and holds what was asked.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

OLDEST, NEWEST = (3, 11), (3, 13)
TORCH_CPU = "https://download.pytorch.org/whl/cpu"
PYTHON = Path("Scripts/python.exe" if os.name == "nt" else "bin/python")


def check_python():
    """Stop with the remedy, in French then English, where this Python is not supported."""
    if OLDEST <= sys.version_info[:2] <= NEWEST:
        return
    found = ".".join(map(str, sys.version_info[:3]))
    sys.exit(
        f"Python 3.11, 3.12 ou 3.13 est nécessaire ; {sys.executable} est un Python {found}.\n"
        "Installez l'un des trois, puis donnez son chemin : make book PYTHON=/chemin/python3.12\n"
        f"Python 3.11, 3.12 or 3.13 is needed; {sys.executable} is Python {found}.\n"
        "Install one of them, then give its path: make book PYTHON=/path/to/python3.12"
    )


def requirements(pins, without, add):
    """Return the text to install: the pins, less some packages, and more."""
    lines = pins.splitlines()
    for name in without:
        lines = [
            line for line in lines if not re.match(rf"{re.escape(name)}(-cpu)?==", line)
        ]
    return "\n".join([*lines, *add]) + "\n"


def run(*command):
    """Run a command; where it fails, say in two languages that the environment is not whole."""
    result = subprocess.run([str(part) for part in command])
    if result.returncode:
        sys.exit(
            "L'installation a échoué (voir ci-dessus) ; relancez la même commande pour réessayer.\n"
            "The installation failed (see above); run the same command again to retry."
        )


def create(folder, uv):
    """Make an empty environment in the place of whatever an interrupted installation left."""
    if folder.exists():
        shutil.rmtree(str(folder))
    if uv:
        run(uv, "venv", "--quiet", "--seed", "--python", sys.executable, folder)
        return
    try:
        import ensurepip  # noqa: F401 - absent from Debian's python3 without python3-venv
    except ImportError:
        sys.exit(
            "Le module venv de Python est incomplet : sudo apt install python3-venv\n"
            "Python's venv module is not complete: sudo apt install python3-venv"
        )
    run(sys.executable, "-m", "venv", folder)


def torch_index():
    """Return pip's options for the CPU build of PyTorch (Linux), none where it is out of reach."""
    if not sys.platform.startswith("linux"):
        return []
    try:
        urllib.request.urlopen(TORCH_CPU + "/torch/", timeout=10).close()
    except OSError as error:
        print(
            f"{TORCH_CPU}: {error}; taking PyTorch from the default index, CUDA included"
        )
        return []
    return ["--extra-index-url", TORCH_CPU]


def main():
    check_python()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--without", nargs="*", default=[], help="packages to leave out"
    )
    parser.add_argument(
        "--add", nargs="*", default=[], help="requirements to add, with pip only"
    )
    parser.add_argument(
        "--pins", type=Path, default="requirements.txt", help="what to install"
    )
    options = parser.parse_args()
    folder = options.folder
    python, stamp, asked = (
        folder / PYTHON,
        folder / "installed.txt",
        folder / "asked.txt",
    )

    pins = options.pins.read_text(encoding="utf8")
    wanted = requirements(pins, options.without, options.add)
    uv = (
        None if options.add else shutil.which("uv")
    )  # uv brings gigabytes of CUDA with PyTorch
    works = python.exists() and subprocess.run([str(python), "-c", ""]).returncode == 0
    if stamp.exists() and works:
        if stamp.read_text(encoding="utf8") == wanted:
            stamp.touch()
            return
        stamp.unlink()  # from here to the end, an interruption means starting again
    else:
        create(folder, uv)
    asked.write_text(wanted, encoding="utf8")
    print(
        f"Installation dans {folder} (quelques minutes) / Installing into {folder} (minutes)..."
    )
    if uv:
        run(uv, "pip", "install", "--python", python, "--compile-bytecode", "-r", asked)
    else:
        index = (
            torch_index()
            if any(item.startswith("torch") for item in options.add)
            else []
        )
        quiet = ["--quiet", "--disable-pip-version-check"]
        run(python, "-m", "pip", "install", *quiet, *index, "-r", asked)
    asked.replace(stamp)


if __name__ == "__main__":
    main()
