"""Make a chapter that already passes the tests, to be rewritten: `make new NB=12_name`.

Writes notebooks/NB.py from tools/chapter_template.py and its executed pair, its quiz and its guide
for teachers, and registers it: in the table of contents, in the list of chapters (unless it is
planned there) and, for its one example, in the claims.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
TEMPLATE = Path(__file__).with_name("chapter_template.py")
SETUP = Path(__file__).with_name("setup_cell.py")
QUIZ = Path(__file__).with_name("quiz_template.yml")
GUIDE = Path(__file__).with_name("teaching_template.yml")


def planned(root):
    """Return {slug: title} of the chapters of book/chapters.yml."""
    registry = yaml.safe_load((root / "book/chapters.yml").read_text(encoding="utf8"))
    return {chapter["slug"]: chapter["title"] for chapter in registry["chapters"]}


def check(root, name):
    """Raise ValueError unless `name` can be the name of a new chapter."""
    if not re.fullmatch(r"\d\d_[a-z][a-z0-9_]*", name):
        raise ValueError(
            f"{name!r}: a name is two digits and a slug, as in 12_attention"
        )
    if (root / f"notebooks/{name}.py").exists():
        raise ValueError(f"notebooks/{name}.py exists")
    for other in planned(root):
        if other != name and other[:2] == name[:2]:
            raise ValueError(f"number {name[:2]} is that of {other}")


def claim_id(name):
    return f"{name[3:].replace('_', '-')}-output-size"


def script(name, title):
    """Return the chapter's script: the template, with the setup cell that all chapters share."""
    setup = f'# %% cellView="form" tags=["setup", "hide-input"]\n{SETUP.read_text(encoding="utf8")}'
    text = TEMPLATE.read_text(encoding="utf8")
    for before, after in (
        ("# %% setup\n", setup),
        ("00_template", name),
        ("template-output-size", claim_id(name)),
        ("# # Titre du chapitre\n", f"# # {title}\n"),
    ):
        assert before in text, before
        text = text.replace(before, after)
    return text


def with_toc_entry(text, name):
    """Add the chapter and its quiz, after the last chapter of a smaller number (else first)."""
    lines = text.splitlines(keepends=True)
    entries = [
        i
        for i, line in enumerate(lines)
        if re.match(r" *- file: notebooks/\d\d_", line)
    ]
    indent = re.match(" *", lines[entries[0]])[0]
    before = [i for i in entries if lines[i].split("notebooks/")[1].strip() < name]
    at = before[-1] + 1 if before else entries[0]
    if before:  # after its own sections
        while at < len(lines) and lines[at].startswith(f"{indent} "):
            at += 1
    added = [
        f"- file: notebooks/{name}\n",
        "  sections:\n",
        f"    - file: book/quiz/{name}\n",
    ]
    return "".join([*lines[:at], *[indent + line for line in added], *lines[at:]])


def chapter_entry(name, title):
    return (
        f'  - slug: {name}\n    title: {title}\n    documents: ["004"]\n'
        "    summary: Un chapitre à écrire.\n"
    )


def claim_entry(name):
    return (
        f'\n- id: {claim_id(name)}\n  document: "004"\n  chapter: {name}\n'
        '  quote: "La taille de la sortie est calculée par $O = (N - F)/S + 1$ ; N = 5, F = 3, '
        'S = 2"\n  stated: 2\n  verdict: confirmé\n'
    )


def add(root, name):
    """Write the script of a new chapter and register it; the pair is made by its execution."""
    check(root, name)
    known = planned(root)
    title = known.get(name, name[3:].replace("_", " ").capitalize())
    quiz = f"# Quiz du chapitre {int(name[:2])}\n\n<!-- course: quiz {name} -->\n"
    for path, text in (
        (f"notebooks/{name}.py", script(name, title)),
        (f"book/quiz/{name}.md", quiz),
        (f"book/quiz/{name}.yml", QUIZ.read_text(encoding="utf8")),
        (f"book/teaching/{name}.yml", GUIDE.read_text(encoding="utf8")),
    ):
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf8")
    for path, extended in (
        ("_toc.yml", lambda text: with_toc_entry(text, name)),
        (
            "book/chapters.yml",
            lambda text: text + ("" if name in known else chapter_entry(name, title)),
        ),
        ("book/claims.yml", lambda text: text + claim_entry(name)),
    ):
        file = root / path
        file.write_text(extended(file.read_text(encoding="utf8")), encoding="utf8")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", help="two digits and a slug, as in 12_attention")
    name = parser.parse_args().name
    try:
        add(ROOT, name)
    except ValueError as error:
        sys.exit(f"make new: {error}")
    command = [sys.executable, "-m", "utils.execute", name, "--profile", "quick"]
    subprocess.run(command, cwd=ROOT, check=True)
    print(
        f"Write your chapter in notebooks/{name}.py, its claims in book/claims.yml, its summary in "
        f"book/chapters.yml, book/quiz/{name}.yml and book/teaching/{name}.yml; "
        f"then: make run NB={name} PROFILE=full, and make test."
    )


if __name__ == "__main__":
    main()
