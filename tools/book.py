"""Build the site from the committed outputs, or check its links: `make book`, `make links`.

Warnings are errors, and every page is read again: a page kept from an earlier build would keep its
warnings to itself.
"""

import argparse
import shutil
from pathlib import Path

from jupyter_book.cli.main import main as jupyter_book

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "_build" / "html"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--links", action="store_true", help="check every link, build no page"
    )
    options = parser.parse_args()
    arguments = ["build", str(ROOT), "--all", "--quiet", "-W", "-n", "--keep-going"]
    if options.links:
        arguments += [
            "--builder",
            "linkcheck",
            "--path-output",
            str(ROOT / "build" / "links"),
        ]
    else:
        shutil.rmtree(
            SITE, ignore_errors=True
        )  # pages that no longer exist must not be tested
    jupyter_book(
        arguments, standalone_mode=False
    )  # exits with Sphinx's status when it fails
    if not options.links:
        print(f"\nLe site est construit. Ouvrez : {(SITE / 'index.html').as_uri()}")


if __name__ == "__main__":
    main()
