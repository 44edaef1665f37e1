"""The quiz of each chapter: ``book/quiz/SLUG.yml``, its page and the links to it.

An option is a native ``<details>``: the keyboard, screen readers, phones and printers know it, no
script. An open one stays open beside the others, to be compared.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from course_data import Chapter, Course, Notebook, headings
from course_pages import inline, prose

LETTERS = "ABCD"
QUESTIONS, OPTIONS = range(5, 9), range(3, 5)
ANCHORED = 3  # myst_heading_anchors of _config.yml


def problems(quiz: list[dict[str, Any]], known: list[str]) -> list[str]:
    """Return what is wrong with a quiz, in English; ``known`` are the headings of its chapter."""
    found = []
    if len(quiz) not in QUESTIONS:
        found.append(f"{len(quiz)} questions, not 5 to 8")
    for number, question in enumerate(quiz, 1):
        unknown = set(question) - {"question", "options", "see", "check"}
        options = question.get("options") or []
        faults = [
            (unknown, f"unknown keys {sorted(unknown)}"),
            (not str(question.get("question") or "").strip(), "no question"),
            (len(options) not in OPTIONS, f"{len(options)} options, not 3 or 4"),
            (len(_right(question)) != 1, f"{len(_right(question))} right options"),
            (
                not all(option.get("text") and option.get("why") for option in options),
                "an option without text or why",
            ),
            (
                len({str(option.get("text")) for option in options}) < len(options),
                "an option given twice",
            ),
            (
                question.get("see") not in known,
                f"see: {question.get('see')!r} is no heading of the chapter",
            ),
        ]
        found += [f"question {number}: {words}" for wrong, words in faults if wrong]
    places = {place for question in quiz for place in _right(question)}
    if len(quiz) > 1 and len(places) == 1:
        found.append("the right option is always at the same place")
    return found


def _right(question: dict[str, Any]) -> list[int]:
    options = question.get("options") or []
    return [i for i, option in enumerate(options) if option.get("right") is True]


def false_checks(quiz: list[dict[str, Any]], names: dict[str, Any]) -> list[str]:
    """Return the ``check`` expressions that are not true, with what they give."""
    found = []
    for number, question in enumerate(quiz, 1):
        for expression in question.get("check") or []:
            try:
                # one namespace: a comprehension sees it too
                value = eval(str(expression), dict(names))
            except Exception as error:  # noqa: BLE001 (whatever an expression raises is its fault)
                value = f"{type(error).__name__}: {error}"
            if isinstance(value, str) or not value:
                found.append(f"question {number}: {expression} -> {value}")
    return found


def slug(heading: str) -> str:
    """Return the anchor that MyST gives a heading."""
    words = re.sub(r"\$[^$]*\$|`", "", heading)
    return re.sub(r"[^\w\u4e00-\u9fff\- ]", "", words.lower().replace(" ", "-"))


def anchors(notebook: Notebook) -> dict[str, str]:
    """Return {heading: anchor}; MyST gives none below level three, nor twice the same."""
    found: dict[str, str] = {}
    counts: Counter[str] = Counter()
    above = ""
    for level, words in headings(notebook):
        if level <= ANCHORED:
            above = name = slug(words)
            if counts[name]:
                above = f"{name}-{counts[name]}"
            counts[name] += 1
        found.setdefault(words, above)
    return found


def section_link(course: Course, chapter: Chapter, heading: str, base: str) -> str:
    """Return a Markdown link to a section, its words alone where there is no such heading."""
    known = anchors(course.notebook(chapter)) if chapter.written else {}
    if heading not in known:
        return heading
    return f"[{heading}]({base}{chapter.docname}.ipynb#{known[heading]})"


def page(course: Course, base: str, name: str) -> str:
    """Return the Markdown of a quiz, under its title."""
    chapter = course.chapter(name)
    back = f"[{chapter.title}]({base}{chapter.docname}.ipynb)"
    quiz = course.quizzes.get(name)
    if not quiz:
        return f"Ce quiz n'est pas encore écrit. Retour au chapitre {back}."
    parts = [
        f"{len(quiz)} questions pour vérifier que vous avez compris {back}. Choisissez une "
        "réponse : elle s'ouvre et dit si elle est juste, et pourquoi. Rien n'est noté, et vous "
        "pouvez ouvrir les autres ensuite : une réponse fausse apprend souvent plus que la juste."
    ]
    for number, question in enumerate(quiz, 1):
        parts.append(f"## Question {number}")
        parts.append(_question(number, question))
        if question.get("see"):
            link = section_link(course, chapter, question["see"], base)
            parts.append(f"Où c'est expliqué : {link}.")
    parts.append(
        f'<p class="quiz-end">{prose("Fini.")} '
        f'<a href="{base}{chapter.docname}.html">{prose("Revenir au chapitre")}</a></p>'
    )
    return "\n\n".join(parts)


def _question(number: int, question: dict[str, Any]) -> str:
    options = "".join(
        _option(letter, option)
        for letter, option in zip(LETTERS, question["options"], strict=False)
    )
    return (
        f'<div class="quiz"><p class="asked" id="enonce-{number}">'
        f"{inline(question['question'])}</p>"
        f'<div role="group" aria-labelledby="enonce-{number}">{options}</div></div>'
    )


def _option(letter: str, option: dict[str, Any]) -> str:
    kind, mark, word = (
        ("right", "✓", "Juste.") if option.get("right") else ("wrong", "✗", "Faux.")
    )
    return (
        f'<details class="{kind}"><summary>'
        f'<span class="letter" aria-hidden="true">{letter}</span>'
        f"{_label(str(option['text']))}</summary>"
        f'<p class="why"><strong><span aria-hidden="true">{mark}</span> {word}</strong> '
        f"{inline(option['why'])}</p></details>"
    )


def _label(words: str) -> str:
    """Return the text of an option; MathJax draws formulas that no screen reader can say."""
    if "$" not in words:
        return f'<span class="text">{inline(words)}</span>'
    return (
        f'<span class="text" aria-hidden="true">{inline(words)}</span>'
        f'<span class="visually-hidden">{prose(spoken(words))}</span>'
    )


SPOKEN = {
    r"\times": " × ",
    r"\cdot": " × ",
    r"\lfloor": "partie entière de ",
    r"\lceil": "arrondi supérieur de ",
    r"\sqrt": "racine de ",
    r"\le": " inférieur ou égal à ",
    r"\ge": " supérieur ou égal à ",
    r"\ne": " différent de ",
    "^": " puissance ",
    "_": " indice ",
}
SILENT = (r"\rfloor", r"\rceil", r"\left", r"\right", r"\text", r"\mathrm")


def spoken(words: str) -> str:
    """Return Markdown with formulas as plain words: « $2^{10}$ » is « 2 puissance 10 »."""

    def say(match: re.Match[str]) -> str:
        formula = re.sub(r"\\frac\{([^{}]*)\}\{([^{}]*)\}", r"\1 / \2", match[1])
        formula = re.sub(r"\\[,;! ]", " ", formula.replace("{,}", ","))
        tokens = re.split(r"(\\[a-zA-Z]+|[\^_])", formula)
        said = "".join(
            "" if token in SILENT else SPOKEN.get(token, token.lstrip("\\"))
            for token in tokens
        )
        return re.sub(r" +", " ", re.sub(r"[{}\\]", "", said)).strip()

    return re.sub(r"\$([^$]+)\$", say, words).replace("`", "").replace("**", "")


def invitation(course: Course, chapter: Chapter, base: str = "../") -> str:
    """Return the way from the end of a chapter to its quiz, "" until it is written."""
    quiz = course.quizzes.get(chapter.slug)
    if not quiz:
        return ""
    words = prose(f"Quiz du chapitre {chapter.number} : {len(quiz)} questions")
    return (
        f'<p class="quiz-invitation"><a href="{base}book/quiz/{chapter.slug}.html">'
        f"{words}</a> {prose('pour vérifier que vous avez compris.')}</p>"
    )
