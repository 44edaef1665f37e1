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
    text,
)
from course_french import NARROW, typography
from markdown_it import MarkdownIt
from mdit_py_plugins.dollarmath import dollarmath_plugin

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
MINUS = "\u2212"


def prose(value: object) -> str:
    """Return text for HTML: escaped, with French spaces; `code` and $mathematics$ kept apart."""
    pieces = re.split(r"(`[^`]+`|\$[^$]+\$)", str(value))
    for i, piece in enumerate(pieces):
        if piece.startswith("`"):
            pieces[i] = f"<code>{escape(piece.strip('`'))}</code>"
        elif piece.startswith("$"):
            pieces[i] = formula(piece.strip("$"))
        else:
            pieces[i] = escape(typography(piece), quote=False)
    return "".join(pieces)


def formula(words: str) -> str:
    """Return a formula for MathJax."""
    return rf'<span class="math notranslate nohighlight">\({escape(words)}\)</span>'


MARKDOWN = MarkdownIt("commonmark", {"html": False}).use(dollarmath_plugin)
MARKDOWN.add_render_rule(
    "math_inline", lambda self, tokens, at, options, env: formula(tokens[at].content)
)


def inline(words: object) -> str:
    """Return inline Markdown (emphasis, links, `code`, $mathematics$) as HTML, in French."""
    (block,) = MARKDOWN.parseInline(str(words).strip())
    for token in block.children:
        if token.type == "text":
            token.content = typography(token.content)
    return MARKDOWN.renderer.render([block], MARKDOWN.options, {})


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
        if "e" in text:
            return power(number, 2)
        return re.sub("^-", MINUS, text.replace(".", ","))
    if isinstance(number, list | tuple):
        return f"{NARROW}; ".join(value(item) for item in number)
    if isinstance(number, dict):
        return f"{NARROW}; ".join(
            f"{key} {value(item)}" for key, item in number.items()
        )
    return prose(number)


EXPONENTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def power(number: float, digits: int = 0) -> str:
    """Return a small or large number as « 1 × 10⁻⁶ »."""
    if 1e-3 <= abs(number) < 1e4 or number == 0:
        return value(number)
    mantissa, exponent = f"{number:.{digits}e}".replace(".", ",").split("e")
    mantissa = re.sub("^-", MINUS, mantissa)
    return f"{mantissa}\u00a0×\u00a010{str(int(exponent)).translate(EXPONENTS)}"


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
                "Les calculs trop lourds pour un processeur ont été réduits : dans les cellules, "
                "`cpu=` donne la taille employée ici, `full=` celle d'une carte graphique.",
            )
        )
    return said


def badge(word: str, count: int | None = None, short: bool = False) -> str:
    """Return a verdict as icon and word: colour alone says nothing.

    A short one shows its icon and its count, and says the word to screen readers only.
    """
    label = word if count is None else f"{count} {_plural(word, count)}"
    if short:
        said = f'<span class="visually-hidden">{_plural(word, count)}</span>'
        label = f"{count} {said}"
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


def badges(counts: Counter[str], short: bool = False) -> str:
    return " ".join(
        badge(word, counts[word], short) for word in VERDICT_WORDS if counts[word]
    )


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


def prepare(
    notebook: Notebook, course: Course, chapter: Chapter, after: str = ""
) -> Notebook:
    """Return the notebook as the book renders it: number, box under the title, anchors.

    ``after`` is HTML for the end of the page.

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
    if after:
        end = {"id": "after", "cell_type": "markdown", "metadata": {}, "source": after}
        notebook["cells"].append(end)
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


def _cells(cells: tuple[tuple[str, str], ...]) -> str:
    """Return table cells that carry their column's name, shown where the table is stacked."""
    return "".join(
        f'<td role="cell" data-label="{escape(label)}"><div>{content}</div></td>'
        for label, content in cells
    )


def table(
    columns: tuple[str, ...], rows: list[tuple[str, ...]], caption: str, kind: str
) -> str:
    """Return a table that stacks on a phone; cells are HTML, columns and caption are text."""
    head = "".join(
        f'<th scope="col" role="columnheader">{prose(name)}</th>' for name in columns
    )
    body = "".join(
        f'<tr role="row">{_cells(tuple(zip(map(typography, columns), row, strict=True)))}</tr>'
        for row in rows
    )
    return (
        f'<table class="course-table {kind}" role="table"><caption>{prose(caption)}</caption>'
        f'<thead role="rowgroup"><tr role="row">{head}</tr></thead>'
        f'<tbody role="rowgroup">{body}</tbody></table>'
    )


STATUS_COLUMNS = (
    "Chapitre",
    "Exécution affichée",
    "Machine, durée, mémoire",
    "Exécution rapide",
    "Verdicts",
)


def status_table(course: Course, base: str = "../") -> str:
    """Return the table of « État du cours »: a row a chapter, written or not."""
    rows = [_status_row(course, chapter, base) for chapter in course.chapters]
    made = table(
        STATUS_COLUMNS,
        rows,
        caption="Les chapitres et leur dernière exécution",
        kind="status",
    )
    return "\n\n".join(filter(None, [legend(course), made, bench_note(course.bench)]))


def _status_row(course: Course, chapter: Chapter, base: str) -> tuple[str, ...]:
    run, name = chapter.run, chapter_link(chapter, base)
    if not chapter.written:
        return name, '<span class="upcoming">à venir</span>', "—", "—", "—"
    counts = badges(course.counts(chapter), short=True) or "—"
    quick = quick_run(course, chapter)
    if run is None:
        return name, "jamais exécuté", "—", quick, counts
    stale = '<p class="note">code modifié depuis</p>' if chapter.stale else ""
    return (
        name,
        f"<p>{date(run['date'])}</p><p>{prose(profile(run))}</p><p>{data_source(run)}</p>{stale}",
        f"<p>{software(run)}</p><p>{prose(run['device'])}</p>"
        f"<p>{duration(run['duration_s'])}</p><p>{memory(run['peak_memory_mb'])}</p>",
        quick,
        counts,
    )


def quick_run(course: Course, chapter: Chapter) -> str:
    """Return what `book/bench.json` says of a quick run: time, memory, twice the same or not."""
    found = (course.bench.get("notebooks") or {}).get(chapter.slug) or {}
    facts = []
    if found.get("seconds") is not None:
        facts.append(duration(found["seconds"]))
    if found.get("memory_mb") is not None:
        facts.append(memory(found["memory_mb"]))
    if found.get("twice") == "identical":
        facts.append("deux fois : nombres identiques")
    elif found.get("twice"):
        spread, where = found["twice"].get("spread"), found["twice"].get("where")
        gap = "écart" if spread is None else f"écart {power(spread)}"
        facts.append(f"deux fois : {gap}" + (f" ({where})" if where else ""))
    return "".join(f"<p>{prose(fact)}</p>" for fact in facts) or "—"


def bench_note(bench: dict[str, Any]) -> str:
    """Return when and where the quick runs were measured, as Markdown; "" where they were not."""
    if not bench.get("notebooks"):
        return ""
    where = f" sur {bench['machine']}" if bench.get("machine") else ""
    when = f" le {date(bench['date'])}" if bench.get("date") else ""
    said = [
        f"Les exécutions rapides ont été mesurées{where}{when}, sur des données de remplacement. "
        "« Deux fois » compare tous les nombres affichés par deux exécutions de suite."
    ]
    costs = [
        f"{what} {duration(bench[key])}"
        for key, what in (
            ("suite_seconds", "tous les chapitres et tous les tests prennent"),
            ("book_seconds", "la construction du site prend"),
        )
        if bench.get(key)
    ]
    if costs:
        said.append(f"Sur cette machine, {' ; '.join(costs)}.")
    return " ".join(said)


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
            badges(course.counts(chapter), short=True)
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
    return f'{legend(course)}<ol class="chapters">{"".join(items)}</ol>'


def legend(course: Course) -> str:
    """Return what the icons of short badges mean."""
    known = sum((course.counts(chapter) for chapter in course.chapters), Counter())
    words = " ".join(badge(word) for word in VERDICT_WORDS if known[word])
    return f'<p class="legend">{prose("Verdicts :")} {words}</p>' if words else ""


def start(course: Course, base: str = "") -> str:
    """Return the landing page's ways in: the first chapter, the map, teachers, the verdicts."""
    first = next((chapter for chapter in course.chapters if chapter.written), None)
    ways = [
        ("book/map.html", "Plan du cours"),
        ("book/teachers.html", "Pour enseigner"),
        ("book/claims.html", "Ce qui a été vérifié"),
    ]
    if first:
        ways.insert(0, (f"{first.docname}.html", "Commencer"))
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
