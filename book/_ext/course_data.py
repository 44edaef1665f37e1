"""What the book knows of the course: chapters, claims, executed notebooks.

Plain functions over JSON and YAML files: nothing here imports Sphinx or Keras.
"""

from __future__ import annotations

import hashlib
import json
import re
from base64 import b64decode
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from course_french import fold

VERDICT_MIME = "application/vnd.course.verdict+json"
RUN_MIME = "application/vnd.course.run+json"
VERDICT_WORDS = ("confirmé", "corrigé", "réfuté", "non vérifiable ici", "à décider")

Notebook = dict[str, Any]


@dataclass(frozen=True)
class Chapter:
    """One of the chapters of ``book/chapters.yml``, written or not.

    ``run`` is ``metadata.course`` of its executed notebook (None: never stamped); ``stale`` says
    that its code changed since; ``verdicts`` maps a claim's id to what the run displayed.
    """

    slug: str
    title: str
    summary: str
    documents: tuple[str, ...]
    written: bool = False
    run: dict[str, Any] | None = None
    stale: bool = False
    verdicts: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def number(self) -> int:
        return int(self.slug.split("_")[0])

    @property
    def docname(self) -> str:
        return f"notebooks/{self.slug}"


@dataclass(frozen=True)
class Course:
    """Everything the generated pages show. ``repository`` is its web address, without branch.

    ``quizzes`` and ``teaching`` hold ``book/quiz/SLUG.yml`` and ``book/teaching/SLUG.yml`` by slug,
    ``paths`` holds ``book/paths.yml`` and ``bench`` ``book/bench.json``; each may be missing.
    """

    root: Path
    repository: str
    branch: str
    chapters: tuple[Chapter, ...]
    documents: dict[str, str]
    claims: tuple[dict[str, Any], ...]
    quizzes: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    teaching: dict[str, dict[str, Any]] = field(default_factory=dict)
    paths: dict[str, Any] = field(default_factory=dict)
    bench: dict[str, Any] = field(default_factory=dict)

    def chapter(self, slug: str) -> Chapter | None:
        return next((c for c in self.chapters if c.slug == slug), None)

    def notebook(self, chapter: Chapter) -> Notebook:
        return json.loads((self.root / f"{chapter.docname}.ipynb").read_text("utf-8"))

    def claim(self, claim_id: str) -> dict[str, Any] | None:
        return next((claim for claim in self.claims if claim["id"] == claim_id), None)

    def verdict(self, claim: dict[str, Any]) -> dict[str, Any] | None:
        """Return what the chapter's run displayed for a claim, None where it displayed nothing."""
        chapter = self.chapter(claim["chapter"])
        return chapter.verdicts.get(claim["id"]) if chapter else None

    def counts(self, chapter: Chapter) -> Counter[str]:
        """Count a chapter's claims by the verdict that readers see (undecided: « à décider »)."""
        mine = [claim for claim in self.claims if claim["chapter"] == chapter.slug]
        return Counter(shown_verdict(claim, self.verdict(claim)) for claim in mine)


def shown_verdict(claim: dict[str, Any], found: dict[str, Any] | None) -> str:
    """Return the verdict of a run, else the registered one where no run can decide."""
    if found:
        return found["verdict"]
    return claim["verdict"] if claim.get("reason") else "à décider"


def outputs(notebook: Notebook) -> Iterator[dict[str, Any]]:
    """Yield the displayed outputs (those with a mime bundle) of a notebook."""
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            if "data" in output:
                yield output


def text(value: str | list[str]) -> str:
    """Return the text of a source or of a mime value: nbformat stores a string or its lines."""
    return value if isinstance(value, str) else "".join(value)


def verdicts(notebook: Notebook) -> dict[str, dict[str, Any]]:
    """Return {claim id: verdict} as displayed by an executed notebook."""
    found = (output["data"].get(VERDICT_MIME) for output in outputs(notebook))
    return {verdict["id"]: verdict for verdict in found if verdict}


def figure_alts(notebook: Notebook) -> dict[str, str]:
    """Return {SHA-256 of a PNG output: its alternative text}; myst-nb names files by that hash."""
    alts = {}
    for output in outputs(notebook):
        alt = output.get("metadata", {}).get("image/png", {}).get("alt")
        if alt and "image/png" in output["data"]:
            image = b64decode(text(output["data"]["image/png"]))
            alts[hashlib.sha256(image).hexdigest()] = alt
    return alts


def figure_before(notebook: Notebook, claim_id: str) -> tuple[bytes, str] | None:
    """Return the last figure (PNG, alternative text) displayed before the verdict on a claim."""
    last = None
    for output in outputs(notebook):
        alt = output.get("metadata", {}).get("image/png", {}).get("alt")
        if alt and "image/png" in output["data"]:
            last = b64decode(text(output["data"]["image/png"])), alt
        if output["data"].get(VERDICT_MIME, {}).get("id") == claim_id:
            return last
    return None


def title(notebook: Notebook) -> str | None:
    """Return the first level-one heading of a notebook."""
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            for line in text(cell["source"]).splitlines():
                if line.startswith("# "):
                    return line[2:].strip()
    return None


def headings(notebook: Notebook) -> list[tuple[int, str]]:
    """Return the headings of a notebook's prose, in order: (level, text)."""
    found = []
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            prose = re.sub(r"^```.*?^```", "", text(cell["source"]), flags=re.M | re.S)
            found += re.findall(r"^(#+) +(.+?) *$", prose, re.M)
    return [(len(marks), words) for marks, words in found]


def exercises(notebook: Notebook) -> list[str]:
    """Return the headings of the exercises of a chapter, in order."""
    inside, found = False, []
    for level, words in headings(notebook):
        if level <= 2:
            inside = words == "Exercices"
        elif inside and level == 3:
            found.append(words)
    return found


def fact(notebook: Notebook, label: str) -> str:
    """Return a row of the table under a chapter's objectives (« Données »), "" without it."""
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            row = rf"^\| *\*\*{label}\*\* *\| *(.+?) *\|$"
            found = re.search(row, text(cell["source"]), re.M)
            if found:
                return found[1]
    return ""


def section_words(notebook: Notebook) -> dict[str, int]:
    """Return {heading of level two: words of its prose and code}; "" is what precedes the first."""
    counts, section = {"": 0}, ""
    for cell in notebook["cells"]:
        for line in text(cell["source"]).splitlines():
            if cell["cell_type"] == "markdown" and line.startswith("## "):
                section = line[3:].strip()
            counts[section] = counts.get(section, 0) + len(line.split())
    return counts


def term_key(term: str) -> str:
    """Return a term as the glossary looks it up: without accents, capitals or plural."""
    words = re.findall(r"\w+", fold(term))
    return " ".join(re.sub(r"(?<=\w{3})[sx]$", "", word) for word in words)


def glossary(page: Path) -> dict[str, str]:
    """Return {key: entry} of the terms of ``book/glossary.md`` (the unindented lines)."""
    entries = re.search(
        r"^```\{glossary\}$(.*?)^```$", page.read_text("utf-8"), re.M | re.S
    )
    lines = entries[1].splitlines() if entries else []
    return {term_key(line): line for line in lines if line and line[0] not in " :"}


def is_stale(notebook: Notebook) -> bool:
    """True when the code cells are not those whose hash was stamped by the displayed run."""
    run = notebook["metadata"].get("course")
    if not run:
        return False
    from utils import provenance

    return run["code_hash"] != provenance.code_hash(
        text(cell["source"])
        for cell in notebook["cells"]
        if cell["cell_type"] == "code"
        and "setup" not in cell["metadata"].get("tags", [])
    )


def load(root: Path, repository: str, branch: str = "main") -> Course:
    """Read the registry of chapters, the claims and the executed notebooks under ``root``.

    A chapter without notebook and a claim without chapter are normal: the course is being written.
    """
    registry = yaml.safe_load((root / "book/chapters.yml").read_text("utf-8"))
    claims_file = root / "book/claims.yml"
    claims = (
        yaml.safe_load(claims_file.read_text("utf-8")) if claims_file.exists() else []
    )
    chapters = []
    for entry in registry["chapters"]:
        known = Chapter(
            slug=entry["slug"],
            title=entry["title"],
            summary=entry["summary"],
            documents=tuple(entry["documents"]),
        )
        path = root / f"notebooks/{known.slug}.ipynb"
        chapters.append(_with_run(known, path) if path.exists() else known)
    return Course(
        root=root,
        repository=repository.rstrip("/"),
        branch=branch,
        chapters=tuple(chapters),
        documents=registry["documents"],
        claims=tuple(claims or []),
        quizzes=_by_slug(root / "book/quiz"),
        teaching=_by_slug(root / "book/teaching"),
        paths=_optional(root / "book/paths.yml"),
        bench=_optional(root / "book/bench.json", json.loads),
    )


def _optional(path: Path, read: Callable[[str], Any] = yaml.safe_load) -> Any:
    """Return what a file holds, {} without it."""
    if not path.exists():
        return {}
    try:
        return read(path.read_text("utf-8")) or {}
    except (yaml.YAMLError, json.JSONDecodeError) as error:
        raise ValueError(f"{path.name} cannot be read: {error}") from None


def _by_slug(folder: Path) -> dict[str, Any]:
    return {path.stem: _optional(path) for path in sorted(folder.glob("*.yml"))}


def _with_run(known: Chapter, path: Path) -> Chapter:
    notebook = json.loads(path.read_text("utf-8"))
    return Chapter(
        slug=known.slug,
        title=title(notebook) or known.title,
        summary=known.summary,
        documents=known.documents,
        written=True,
        run=notebook["metadata"].get("course"),
        stale=is_stale(notebook),
        verdicts=verdicts(notebook),
    )
