"""Change the repository's address everywhere it is written: `make repository URL=...`.

_config.yml (`repository.url`) says what the address is now; its owner/name is replaced in every
text file that git knows, whatever it stands in: links, Colab links, first cells, Pages address.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
ADDRESS = re.compile(
    r"https://github\.com/([A-Za-z0-9][A-Za-z0-9-]{0,38})/([A-Za-z0-9._-]{1,100})"
)


def parse(url):
    """Return (owner, name) of a GitHub address; ValueError for anything else."""
    found = ADDRESS.fullmatch(url.rstrip("/").removesuffix(".git"))
    if not found:
        raise ValueError(
            f"{url!r} is not an address of the form https://github.com/owner/name"
        )
    return found[1], found[2]


def replace(text, old, new):
    """Replace an (owner, name) pair by another: as owner/name, and as owner.github.io/name."""
    for form in ("{}/{}", "{}.github.io/{}"):
        before = re.escape(form.format(*old))
        text = re.sub(rf"(?<![\w.-]){before}(?![\w-])", form.format(*new), text)
    return text


def change(root, url):
    """Replace the address of the repository at `root`; return the files that changed."""
    new = parse(url)
    config = yaml.safe_load((root / "_config.yml").read_text(encoding="utf8"))
    old = parse(config["repository"]["url"])
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(
        command, cwd=root, capture_output=True, check=True
    ).stdout.decode()
    changed = []
    for path in sorted({root / name for name in listed.split("\0") if name}):
        if not path.is_file():
            continue
        try:
            text = path.read_bytes().decode("utf8")
        except UnicodeDecodeError:  # an image, not a text
            continue
        replaced = replace(text, old, new)
        if replaced != text:
            path.write_bytes(replaced.encode("utf8"))
            changed.append(path)
    return changed


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url", help="https://github.com/owner/name")
    try:
        changed = change(ROOT, parser.parse_args().url)
    except ValueError as error:
        sys.exit(f"make repository: {error}")
    for path in changed:
        print(path.relative_to(ROOT))
    print(f"{len(changed)} file(s) changed")


if __name__ == "__main__":
    main()
