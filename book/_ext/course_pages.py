"""What the book generates, as HTML text: provenance boxes, verdict lines, tables of the pages.

Pure functions of ``course_data`` objects. ``base`` is the way back to the site's root ("" or
"../"). HTML stays on lines without blank line: Markdown then leaves it alone.
"""

from __future__ import annotations

import copy
import os
import re
from collections import Counter
from datetime import datetime
from html import escape
from typing import Any

from course_data import (
    RUN_MIME,
    VERDICT_MIME,
    VERDICT_WORDS,
    Chapter,
    Course,
    Notebook,
    figure_before,
    outputs,
    shown_verdict,
    text,
)
from course_french import NARROW, WIDE, typography

MARKS = {
    "confirmé": "✓",
    "corrigé": "✎",
    "réfuté": "✗",
    "non vérifiable ici": "∅",
    "à décider": "…",
}
CLASSES = {
    "confirmé": "confirmed",
    "corrigé": "corrected",
    "réfuté": "refuted",
    "non vérifiable ici": "undecidable",
    "à décider": "pending",
}
MONTHS = (
    *("janvier", "février", "mars", "avril", "mai", "juin"),
    *("juillet", "août", "septembre", "octobre", "novembre", "décembre"),
)
BACKENDS = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}
RELATIONS = {"=": "", ">=": "au moins ", "<=": "au plus "}
MINUS = "\u2212"


def prose(value: object) -> str:
    """Return text for HTML: escaped, with French spaces; `code` and $mathematics$ kept apart."""
    pieces = re.split(r"(`[^`]+`|\$[^$]+\$)", str(value))
    for i, piece in enumerate(pieces):
        if piece.startswith("`"):
            pieces[i] = f"<code>{escape(piece.strip('`'))}</code>"
        elif piece.startswith("$"):
            formula = escape(piece.strip("$"))
            pieces[i] = (
                rf'<span class="math notranslate nohighlight">\({formula}\)</span>'
            )
        else:
            pieces[i] = escape(typography(piece), quote=False)
    return "".join(pieces)


def value(number: Any) -> str:
    """Return a measured or stated value in French, as `utils.verdicts.french` writes it."""
    if number is None:
        return "—"
    if isinstance(number, bool):
        return "oui" if number else "non"
    if isinstance(number, int):
        apart = "," if abs(number) >= 10_000 else ""
        return re.sub("^-", MINUS, f"{number:{apart}}".replace(",", NARROW))
    if isinstance(number, float):
        if number.is_integer():
            return value(int(number))
        text = f"{number:.4g}".replace("nan", "NaN")
        return re.sub("^-", MINUS, text.replace(".", ","))
    if isinstance(number, list | tuple):
        return f"{NARROW}; ".join(value(item) for item in number)
    if isinstance(number, dict):
        return f"{NARROW}; ".join(
            f"{key} {value(item)}" for key, item in number.items()
        )
    return prose(number)


def date(iso: str) -> str:
    day = datetime.fromisoformat(iso)
    return f"{'1er' if day.day == 1 else day.day} {MONTHS[day.month - 1]} {day.year}"


def duration(seconds: float) -> str:
    seconds = round(seconds)
    hours, minutes = seconds // 3600, seconds % 3600 // 60
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {seconds % 60:02d} s" if minutes else f"{seconds} s"


def memory(megabytes: float) -> str:
    if megabytes < 1000:
        return f"{round(megabytes)} Mo"
    return f"{megabytes / 1000:.1f} Go".replace(".", ",")


def profile(run: dict[str, Any]) -> str:
    if run["profile"] == "quick":
        return "profil rapide"
    reduced = ", à l'échelle d'un processeur" if run.get("scale") == "cpu" else ""
    return "profil complet" + reduced


def data_source(run: dict[str, Any]) -> str:
    words = {"real": "données réelles", "synthetic": "données de remplacement"}
    return words.get(run.get("data", "none"), "sans données")


def software(run: dict[str, Any]) -> str:
    version = ".".join(run.get("versions", {}).get(run["backend"], "").split(".")[:2])
    return f"{BACKENDS[run['backend']]} {version}".strip()


def notes(chapter: Chapter) -> list[tuple[str, str]]:
    """Return what a student must know of the outputs displayed: (class, French sentence)."""
    run = chapter.run
    if run is None:
        return [
            (
                "alert",
                "Ce chapitre n'a pas encore été exécuté de bout en bout : les sorties qu'il "
                "affiche, s'il y en a, n'ont pas de provenance connue.",
            )
        ]
    said = []
    if chapter.stale:
        said.append(
            (
                "alert",
                "Le code a changé depuis cette exécution : les sorties affichées sont celles de "
                "la version précédente.",
            )
        )
    if run.get("data") == "synthetic":
        said.append(
            (
                "alert",
                "Les données de remplacement sont dessinées par le programme : elles font tourner "
                "le code, elles ne disent rien des vraies images.",
            )
        )
    if run["profile"] == "quick":
        said.append(
            (
                "plain",
                "Le profil rapide entraîne peu, pour vérifier que tout tourne : ses nombres ne se "
                "citent pas. Ceux du profil complet, quand ils existent, sont rappelés à côté.",
            )
        )
    elif run.get("scale") == "cpu":
        said.append(
            (
                "plain",
                "Les calculs trop lourds pour un processeur ont été réduits ; le chapitre dit "
                "lesquels.",
            )
        )
    return said


def badge(word: str, count: int | None = None) -> str:
    """Return a verdict as icon and word: colour alone says nothing."""
    label = word if count is None else f"{count} {_plural(word, count)}"
    return (
        f'<span class="verdict-badge {CLASSES[word]}">'
        f'<span aria-hidden="true">{MARKS[word]}</span> {label}</span>'
    )


def _plural(word: str, count: int) -> str:
    if count < 2 or word == "à décider":
        return word
    return (
        word.replace("confirmé", "confirmés")
        .replace("corrigé", "corrigés")
        .replace("réfuté", "réfutés")
        .replace("vérifiable", "vérifiables")
    )


def badges(counts: Counter[str]) -> str:
    return " ".join(badge(word, counts[word]) for word in VERDICT_WORDS if counts[word])


def links(course: Course, chapter: Chapter) -> dict[str, str]:
    """Return the addresses of a chapter outside the site, all derived from the repository's."""
    repository, branch = course.repository, course.branch
    name = repository.removeprefix("https://github.com/")
    path = chapter.docname
    return {
        "colab": f"https://colab.research.google.com/github/{name}/blob/{branch}/{path}.ipynb",
        "source": f"{repository}/blob/{branch}/{path}.py",
        "edit": f"{repository}/edit/{branch}/{path}.py",
    }


def provenance_box(course: Course, chapter: Chapter, base: str = "../") -> str:
    """Return the box under a chapter's title: how the run displayed was made, and where to go."""
    run = chapter.run
    if run:
        facts = [
            profile(run),
            data_source(run),
            software(run),
            run["device"],
            date(run["date"]),
            duration(run["duration_s"]),
            memory(run["peak_memory_mb"]),
        ]
        first = f"<strong>Exécution affichée</strong>{prose(' : ' + ' · '.join(facts))}"
    else:
        first = "<strong>Aucune exécution enregistrée</strong>"
    said = "".join(
        f'<p class="note {kind}">{prose(note)}</p>' for kind, note in notes(chapter)
    )
    counts = course.counts(chapter)
    verdicts = (
        f'<p class="counts">{badges(counts)} '
        f'<a href="{base}book/claims.html#{anchor(chapter)}">'
        f"Voir ces verdicts</a></p>"
        if counts
        else ""
    )
    out = links(course, chapter)
    downloads = f"{base}_sources/{chapter.docname}"
    return (
        '<aside class="provenance" aria-label="Provenance des résultats">'
        f"<p>{first}</p>{said}{verdicts}"
        '<p class="actions">'
        f'<a href="{out["colab"]}"><i class="fa-solid fa-play" aria-hidden="true"></i> '
        "Ouvrir dans Colab</a> "
        f'<a href="{downloads}.ipynb" download>'
        '<i class="fa-solid fa-download" aria-hidden="true"></i> Notebook (.ipynb)</a> '
        f'<a href="{downloads}.py" download>'
        '<i class="fa-solid fa-download" aria-hidden="true"></i> Script (.py)</a>'
        "</p></aside>"
    )


def anchor(chapter: Chapter) -> str:
    return f"chapitre-{chapter.number:02d}"


def prepare(notebook: Notebook, course: Course, chapter: Chapter) -> Notebook:
    """Return the notebook as the book renders it: number, box under the title, anchors.

    The file on disk, which readers download and Colab opens, is left as it is.
    """
    notebook = copy.deepcopy(notebook)
    for key in ("course", "jupytext"):
        notebook["metadata"].pop(key, None)
    for output in outputs(notebook):
        _wrap(output, chapter)
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            _title_to_prompt(cell)
    box = provenance_box(course, chapter)
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            source, found = re.subn(
                r"^# (.+)$",
                lambda match: f"# {chapter.number}. {match[1]}\n\n{box}\n",
                text(cell["source"]),
                count=1,
                flags=re.MULTILINE,
            )
            if found:
                cell["source"] = source
                break
    return notebook


def _wrap(output: dict[str, Any], chapter: Chapter) -> None:
    """Give a verdict its anchor and its way to the registry, and a run banner its class."""
    bundle = output["data"]
    verdict, run = bundle.pop(VERDICT_MIME, None), bundle.pop(RUN_MIME, None)
    if verdict:
        name, word = escape(verdict["id"]), verdict["verdict"]
        stored = " stored" if verdict["stored"] else ""
        opening = f'<div class="verdict {CLASSES[word]}{stored}" id="verdict-{name}">'
        closing = (
            f'<div class="registry"><a href="../book/claims.html#registre-{name}" '
            'title="Cette affirmation au registre" aria-label="Cette affirmation au registre">'
            '<i class="fa-solid fa-table-list" aria-hidden="true"></i></a></div></div>'
        )
    elif run:
        opening, closing = '<div class="run-banner">', "</div>"
    else:
        return
    bundle["text/markdown"] = (
        f"{opening}\n\n{text(bundle['text/markdown'])}\n\n{closing}"
    )


def _title_to_prompt(cell: dict[str, Any]) -> None:
    """Use Colab's « #@title … » as the label of a folded cell, and hide the line itself."""
    first, _, rest = text(cell["source"]).partition("\n")
    title = re.match(r"# ?@title\s+(.*?)\s*(\{.*\})?\s*$", first)
    if title:
        cell["source"] = rest.lstrip("\n")
        options = cell["metadata"].setdefault("mystnb", {})
        options["code_prompt_show"] = options["code_prompt_hide"] = typography(title[1])


# --- Pages --------------------------------------------------------------------------------------


def claims_page(course: Course, base: str = "../") -> str:
    """Return the Markdown of « Ce que les documents disent, ce que l'exécution montre »."""
    everything = Counter(
        shown_verdict(claim, course.verdict(claim)) for claim in course.claims
    )
    if not course.claims:
        return "Aucune affirmation n'est encore au registre."
    total = len(course.claims)
    parts = [
        f'<p class="counts summary"><strong>{total} affirmation{"s" if total > 1 else ""} '
        f"au registre</strong> {badges(everything)}</p>"
    ]
    for document in sorted({claim["document"] for claim in course.claims}):
        parts.append(f"## Document {document} : {course.documents[document]}")
        mine = [claim for claim in course.claims if claim["document"] == document]
        for slug in sorted({claim["chapter"] for claim in mine}):
            chapter = course.chapter(slug)
            if chapter is None:
                raise ValueError(f"book/claims.yml: unknown chapter {slug!r}")
            rows = [claim for claim in mine if claim["chapter"] == slug]
            parts.append(_claims_table(course, chapter, rows, base))
    return "\n\n".join(parts)


def _claims_table(
    course: Course, chapter: Chapter, rows: list[dict[str, Any]], base: str
) -> str:
    name = f"Chapitre {chapter.number} : {chapter.title}"
    heading = (
        f"({anchor(chapter)})=\n### {name}"
        if not chapter.written
        else f"({anchor(chapter)})=\n### [{name}](../{chapter.docname}.ipynb)"
    )
    head = "".join(
        f'<th scope="col" role="columnheader">{cell}</th>'
        for cell in (
            "Verdict",
            "Ce que dit le document",
            typography("Ce que l'exécution montre"),
        )
    )
    body = "".join(
        _claim_row(claim, course.verdict(claim), chapter, base) for claim in rows
    )
    return (
        f'{heading}\n\n<table class="course-table claims" role="table">'
        f"<caption>{prose(f'Affirmations du chapitre {chapter.number}')}</caption>"
        f'<thead role="rowgroup"><tr role="row">{head}</tr></thead>'
        f'<tbody role="rowgroup">{body}</tbody></table>'
    )


def _claim_row(
    claim: dict[str, Any], found: dict[str, Any] | None, chapter: Chapter, base: str
) -> str:
    said = f"<p>{prose('« ' + claim['quote'] + ' »')}</p>"
    relation = RELATIONS[claim.get("relation", "=")]
    said += _fact("Annoncé", claim.get("stated"), before=relation)
    shown = ""
    if found:
        after = " (profil complet)" if found["stored"] else ""
        shown += _fact("Mesuré", found["measured"], after=after)
    else:
        shown += _fact("Valeur juste", claim.get("corrected"))
    for key in ("reason", "note"):
        if claim.get(key):
            shown += f"<p>{prose(claim[key])}</p>"
    if found:
        href = f"{base}{chapter.docname}.html#verdict-{escape(claim['id'])}"
        shown += f'<p><a href="{href}">Voir la preuve</a></p>'
    elif not chapter.written:
        shown += "<p>Chapitre à venir.</p>"
    cells = (
        ("Verdict", badge(shown_verdict(claim, found))),
        ("Ce que dit le document", said),
        ("Ce que l’exécution montre", shown),
    )
    return f'<tr role="row" id="registre-{escape(claim["id"])}">{_cells(cells)}</tr>'


def _fact(label: str, fact: Any, before: str = "", after: str = "") -> str:
    """Return « Mesuré : 0,908 »; nothing for yes and no, which the verdict already says."""
    if fact is None or isinstance(fact, bool):
        return ""
    return f'<p class="fact">{label}{WIDE}: {before}<b>{value(fact)}</b>{after}</p>'


def _cells(cells: tuple[tuple[str, str], ...]) -> str:
    """Return table cells that carry their column's name, shown where the table is stacked."""
    return "".join(
        f'<td role="cell" data-label="{escape(label)}"><div>{content}</div></td>'
        for label, content in cells
    )


def status_table(course: Course, base: str = "../") -> str:
    """Return the table of « État du cours »: a row a chapter, written or not."""
    columns = (
        "Chapitre",
        "Exécution affichée",
        "Machine",
        "Durée et mémoire",
        "Verdicts",
    )
    head = "".join(
        f'<th scope="col" role="columnheader">{name}</th>' for name in columns
    )
    rows = "".join(
        _status_row(course, chapter, columns, base) for chapter in course.chapters
    )
    return (
        '<table class="course-table status" role="table">'
        "<caption>Les chapitres et leur dernière exécution</caption>"
        f'<thead role="rowgroup"><tr role="row">{head}</tr></thead>'
        f'<tbody role="rowgroup">{rows}</tbody></table>'
    )


def _status_row(
    course: Course, chapter: Chapter, columns: tuple[str, ...], base: str
) -> str:
    run, name = chapter.run, chapter_link(chapter, base)
    if not chapter.written:
        cells = [name, '<span class="upcoming">à venir</span>', "—", "—", "—"]
    elif run is None:
        cells = [
            name,
            "jamais exécuté",
            "—",
            "—",
            badges(course.counts(chapter)) or "—",
        ]
    else:
        stale = '<p class="note">code modifié depuis</p>' if chapter.stale else ""
        cells = [
            name,
            f"<p>{date(run['date'])}</p><p>{prose(profile(run))}</p><p>{data_source(run)}</p>{stale}",
            f"<p>{software(run)}</p><p>{prose(run['device'])}</p>",
            f"<p>{duration(run['duration_s'])}</p><p>{memory(run['peak_memory_mb'])}</p>",
            badges(course.counts(chapter)) or "—",
        ]
    return f'<tr role="row">{_cells(tuple(zip(columns, cells, strict=True)))}</tr>'


def chapter_link(chapter: Chapter, base: str) -> str:
    label = f"{chapter.number}. {prose(chapter.title)}"
    return (
        f'<a href="{base}{chapter.docname}.html">{label}</a>'
        if chapter.written
        else label
    )


def chapters_table(course: Course, base: str = "") -> str:
    """Return the landing page's list of chapters."""
    items = []
    for chapter in course.chapters:
        state = (
            badges(course.counts(chapter))
            or '<span class="upcoming">sans verdict</span>'
            if chapter.written
            else '<span class="upcoming">à venir</span>'
        )
        title = prose(chapter.title)
        if chapter.written:
            title = f'<a href="{base}{chapter.docname}.html">{title}</a>'
        items.append(
            f'<li class="{"written" if chapter.written else "planned"}" value="{chapter.number}">'
            f'<div><p class="title">{title}</p>'
            f'<p class="summary">{prose(chapter.summary)}</p></div>'
            f'<p class="state">{state}</p></li>'
        )
    return f'<ol class="chapters">{"".join(items)}</ol>'


def start(course: Course, base: str = "") -> str:
    """Return the landing page's ways in: the first written chapter, the verdicts, the usage."""
    first = next((chapter for chapter in course.chapters if chapter.written), None)
    ways = [
        ("book/claims.html", "Voir ce qui a été vérifié"),
        ("book/usage.html", "Utiliser le cours"),
    ]
    if first:
        ways.insert(0, (f"{first.docname}.html", f"Commencer : {first.title}"))
    items = "".join(
        f'<a href="{base}{href}">{prose(label)}</a>' for href, label in ways
    )
    return f'<p class="ways">{items}</p>'


def downloads(course: Course, base: str = "../") -> str:
    """Return the links to the copies to take away, which `make offline` puts into the site."""
    if not os.environ.get("COURSE_DOWNLOADS"):
        return prose(
            "Dans une copie du dépôt, `make offline` les fabrique et les pose dans le site."
        )
    ways = (
        ("vision-profonde.zip", "Le site entier (.zip)"),
        ("vision-profonde.pdf", "Toutes les pages en un document (.pdf)"),
    )
    items = "".join(
        f'<a href="{base}{file}" download>{prose(label)}</a>' for file, label in ways
    )
    return f'<p class="ways">{items}</p>'


HERO_IMAGE = "_images/hero.png"


def proof_figure(course: Course, claim_id: str) -> tuple[bytes, str] | None:
    """Return the figure that the run showed before its verdict, None where there is none yet."""
    claim = course.claim(claim_id)
    chapter = course.chapter(claim["chapter"]) if claim else None
    if chapter is None or claim_id not in chapter.verdicts:
        return None
    return figure_before(course.notebook(chapter), claim_id)


def hero(course: Course, base: str, claim_id: str) -> str:
    """Return the landing page's picture: a statement, the figure of the run, the verdict.

    Empty until the chapter of that claim has been executed. The image file is `HERO_IMAGE`.
    """
    figure = proof_figure(course, claim_id)
    if figure is None:
        return ""
    claim = course.claim(claim_id)
    chapter = course.chapter(claim["chapter"])
    ran = f", exécution du {date(chapter.run['date'])}" if chapter.run else ""
    caption = f"Document {claim['document']}, chapitre {chapter.number}{ran}."
    proof = f"{base}{chapter.docname}.html#verdict-{escape(claim_id)}"
    return (
        '<figure class="hero">'
        '<div class="said"><p class="label">Un document dit</p>'
        f"<p>{prose('« ' + claim['quote'] + ' »')}</p></div>"
        '<div class="shown"><p class="label">Une exécution montre</p>'
        f'<img src="{base}{HERO_IMAGE}" alt="{escape(typography(figure[1]))}"></div>'
        '<div class="decided"><p class="label">Un verdict tombe</p>'
        f"<p>{badge(course.verdict(claim)['verdict'])}</p>"
        f'<p class="note">{prose(claim.get("note", ""))}</p></div>'
        f'<figcaption>{prose(caption)} <a href="{proof}">Voir la preuve</a></figcaption></figure>'
    )
