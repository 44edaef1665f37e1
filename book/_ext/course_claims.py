"""The claims page, its filters, and the totals of the landing page."""

from __future__ import annotations

from collections import Counter
from html import escape
from typing import Any

from course_data import VERDICT_WORDS, Chapter, Course, shown_verdict
from course_french import WIDE, typography
from course_pages import CLASSES, anchor, badge, badges, prose, value

RELATIONS = {"=": "", ">=": "au moins ", "<=": "au plus "}


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
        f"au registre</strong> {badges(everything)}</p>",
        _filters(course),
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


# Filters of the claims page: name in the address, label. Their values are those of `claims.js`.
FILTERS = {"document": "Document", "chapitre": "Chapitre", "verdict": "Verdict"}


def _filters(course: Course) -> str:
    """Return the choices of the claims page, hidden until `claims.js` is there to obey them."""
    chapters = [
        chapter
        for chapter in course.chapters
        if any(claim["chapter"] == chapter.slug for claim in course.claims)
    ]
    shown = {shown_verdict(claim, course.verdict(claim)) for claim in course.claims}
    values = {
        "document": [
            (name, f"{name} : {course.documents[name]}")
            for name in sorted({claim["document"] for claim in course.claims})
        ],
        "chapitre": [(f"{c.number:02d}", f"{c.number}. {c.title}") for c in chapters],
        "verdict": [(CLASSES[word], word) for word in VERDICT_WORDS if word in shown],
    }
    choices = "".join(
        f'<div><label for="filtre-{name}">{label}</label>'
        f'<select id="filtre-{name}" name="{name}"><option value="">Tous</option>'
        + "".join(
            f'<option value="{key}">{prose(words)}</option>'
            for key, words in values[name]
        )
        + "</select></div>"
        for name, label in FILTERS.items()
    )
    return (
        '<form class="claim-filters" role="search" aria-label="Filtrer les affirmations" hidden>'
        f'{choices}<p><span role="status" aria-live="polite"></span> '
        '<button type="reset">Tout afficher</button></p>'
        "</form>"
    )


def filtered(base: str, **choices: str) -> str:
    """Return the address of the claims page with some of its ``FILTERS`` set."""
    return f"{base}book/claims.html?" + "&amp;".join(
        f"{name}={key}" for name, key in choices.items()
    )


def totals(course: Course, base: str = "") -> str:
    """Return how many claims got each verdict, in all and by document, as links to them."""
    if not course.claims:
        return ""
    counts = {"": course.claims} | {
        name: [claim for claim in course.claims if claim["document"] == name]
        for name in sorted({claim["document"] for claim in course.claims})
    }
    rows = [_total(course, name, claims, base) for name, claims in counts.items()]
    return f'<ul class="totals">{"".join(rows)}</ul>'


def _total(
    course: Course, document: str, claims: tuple[dict[str, Any], ...], base: str
) -> str:
    counts = Counter(shown_verdict(claim, course.verdict(claim)) for claim in claims)
    only = {"document": document} if document else {}
    name = (
        f"Document {document} : {course.documents[document]}"
        if document
        else (
            "Les cinq documents" if len(course.documents) == 5 else "Tous les documents"
        )
    )
    links = " ".join(
        f'<a href="{filtered(base, **only, verdict=CLASSES[word])}">{badge(word, counts[word])}</a>'
        for word in VERDICT_WORDS
        if counts[word]
    )
    bar = "".join(
        f'<i class="{CLASSES[word]}" style="flex-grow:{counts[word]}"></i>'
        for word in VERDICT_WORDS
        if counts[word]
    )
    kind = "" if document else ' class="all"'
    return (
        f'<li{kind}><p class="name">{prose(name)}</p>'
        f'<p class="bar" aria-hidden="true">{bar}</p><p class="verdicts">{links}</p></li>'
    )


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
        f'{heading}\n\n<table class="course-table claims" role="table" '
        f'data-document="{rows[0]["document"]}" data-chapitre="{chapter.number:02d}">'
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
        "".join(  # on a phone, the style sheet names their columns: 498 rows stay light
            f'<td role="cell">{content}</td>'
            for content in (badge(shown_verdict(claim, found)), said, shown)
        )
    )
    return f'<tr role="row" id="registre-{escape(claim["id"])}">{cells}</tr>'


def _fact(label: str, fact: Any, before: str = "", after: str = "") -> str:
    """Return « Mesuré : 0,908 »; nothing for yes and no, which the verdict already says."""
    if fact is None or isinstance(fact, bool):
        return ""
    return f'<p class="fact">{label}{WIDE}: {before}<b>{value(fact)}</b>{after}</p>'
