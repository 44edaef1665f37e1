"""What ``book/teaching/SLUG.yml`` says to teachers: sessions, plans, answers, misconceptions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from course_data import Chapter, Course, exercises
from course_pages import inline, prose, table

KINDS = ("prédire", "coder", "expliquer")
LONGEST = 120  # minutes of a session
KEYS = {
    "needs": list,
    "read_minutes": int,
    "exercise_minutes": int,
    "session": list,
    "exercises": list,
    "misconceptions": list,
}


@dataclass(frozen=True)
class Session:
    """A class session of a chapter; ``number`` counts from 1 within the chapter."""

    chapter: Chapter
    number: int
    title: str
    steps: tuple[dict[str, Any], ...]

    @property
    def minutes(self) -> int:
        return sum(step["minutes"] for step in self.steps)


def span(minutes: float | None) -> str:
    """Return « 2 h 15 », « 45 min », « — » for what is not known."""
    if minutes is None:
        return "—"
    hours, rest = divmod(round(minutes), 60)
    if not hours:
        return f"{rest} min"
    return f"{hours} h {rest:02d}" if rest else f"{hours} h"


def problems(guide: dict[str, Any], titles: list[str], slugs: list[str]) -> list[str]:
    """Return what is wrong with a guide, in English.

    ``titles`` are the headings of the chapter's exercises, ``slugs`` the other chapters.
    """
    missing = [key for key in KEYS if not isinstance(guide.get(key), KEYS[key])]
    if missing:
        return [f"{key}: missing, or not a {KEYS[key].__name__}" for key in missing]
    found = [f"needs: no chapter {name!r}" for name in set(guide["needs"]) - set(slugs)]
    for session in guide["session"]:
        minutes = sum(step["minutes"] for step in session["steps"])
        if not 0 < minutes <= LONGEST:
            found.append(f"session {session['title']!r}: {minutes} minutes")
    given = [str(entry.get("title")) for entry in guide["exercises"]]
    if len(given) != len(titles):
        found.append(f"{len(given)} exercises, the chapter has {len(titles)}: {titles}")
    for number, (title, heading) in enumerate(zip(given, titles, strict=False), 1):
        if title not in accepted(heading, number):
            found.append(f"exercise {number}: {title!r} is not {heading!r}")
    for entry in guide["exercises"]:
        if entry.get("kind") not in KINDS:
            found.append(f"{entry.get('title')}: kind {entry.get('kind')!r}")
        lacking = [
            key for key in ("minutes", "expected", "grade") if not entry.get(key)
        ]
        found += [f"{entry.get('title')}: no {key}" for key in lacking]
    total = sum(entry.get("minutes") or 0 for entry in guide["exercises"])
    if total != guide["exercise_minutes"]:
        found.append(
            f"exercise_minutes: {guide['exercise_minutes']}, the sum is {total}"
        )
    ideas = guide["misconceptions"]
    if not 2 <= len(ideas) <= 4 or not all(isinstance(idea, str) for idea in ideas):
        found.append(f"{len(ideas)} misconceptions, not 2 to 4 sentences")
    return found


def accepted(heading: str, number: int) -> set[str]:
    """Return the titles by which an exercise may be named: its heading, or its checker's."""
    return {heading, re.sub(r"^\d+\. ", "", heading), f"Exercice {number}"}


def sessions(course: Course) -> list[Session]:
    """Return every session of the course, in the order of the chapters."""
    return [
        Session(chapter, number, found["title"], tuple(found["steps"]))
        for chapter in course.chapters
        for number, found in enumerate(
            course.teaching.get(chapter.slug, {}).get("session") or [], 1
        )
    ]


def chosen(
    available: list[Session], hours: float, preferred: list[str]
) -> list[Session]:
    """Return the sessions that fit in ``hours``, in the order of the course.

    First the first session of each preferred chapter, then their second ones, and so on.
    """
    ranked = sorted(
        (session for session in available if session.chapter.slug in preferred),
        key=lambda s: (s.number, preferred.index(s.chapter.slug)),
    )
    kept, left = [], hours * 60
    for session in ranked:
        follows = session.number == 1 or any(
            (other.chapter, other.number) == (session.chapter, session.number - 1)
            for other in kept
        )
        if session.minutes <= left and follows:
            kept.append(session)
            left -= session.minutes
    return [session for session in available if session in kept]


def session_name(session: Session) -> str:
    """Return a session's title without « Séance 1. », which lists already number."""
    return re.sub(r"^Séance \d+ ?[.:] ?", "", session.title)


def plans(course: Course, base: str = "../") -> str:
    """Return the programmes, by number of hours, chosen among the sessions."""
    available = sessions(course)
    parts = []
    for plan in course.paths.get("plans", []):
        kept = chosen(
            available, plan["hours"], [c["chapter"] for c in plan["chapters"]]
        )
        parts.append(f"### {plan['title']}\n\n{plan['what']}")
        parts.append(_plan(kept, plan))
    return "\n\n".join(parts) or "Le programme n'est pas encore écrit."


def _plan(kept: list[Session], plan: dict[str, Any]) -> str:
    if not kept:
        return "Les séances ne sont pas encore écrites."
    items = "".join(
        f'<li><span class="what">{inline(session_name(session))}</span> '
        f'<span class="where"><a href="#guide-{session.chapter.number:02d}">chapitre '
        f"{session.chapter.number}</a>, {span(session.minutes)}</span></li>"
        for session in kept
    )
    total = sum(session.minutes for session in kept)
    left = plan["hours"] * 60 - total
    rest = (
        f" Il reste {span(left)} pour un contrôle, dont les quiz donnent la matière, ou un projet."
        if left >= 30
        else ""
    )
    made = f'<ol class="plan">{items}</ol>'
    many = f"{len(kept)} séances" if len(kept) > 1 else "Une séance"
    return f"{made}\n\n**{many}, {span(total)} en classe.**{rest}"


def guides(course: Course, base: str = "../") -> str:
    """Return, folded chapter by chapter, what a teacher needs."""
    return "\n\n".join(
        _guide(course, chapter, course.teaching.get(chapter.slug) or {}, base)
        for chapter in course.chapters
        if chapter.written
    )


def _guide(course: Course, chapter: Chapter, guide: dict[str, Any], base: str) -> str:
    mine = [session for session in sessions(course) if session.chapter == chapter]
    told = [
        ("lecture", guide.get("read_minutes")),
        ("exercices", guide.get("exercise_minutes")),
    ]
    facts = [f"{name} {span(minutes)}" for name, minutes in told if minutes]
    if mine:
        facts.append(f"{len(mine)} séance{'s' if len(mine) > 1 else ''}")
    inside = [
        f'<p class="ways-in"><a href="{base}{chapter.docname}.html">chapitre</a> · '
        f'<a href="{base}{chapter.docname}.html#exercices">exercices</a>'
        + (
            f' · <a href="{base}book/quiz/{chapter.slug}.html">quiz</a>'
            if chapter.slug in course.quizzes
            else ""
        )
        + "</p>",
        *[_steps(session) for session in mine],
        _exercises(course, chapter, guide.get("exercises") or []),
        _misconceptions(guide.get("misconceptions") or []),
    ]
    if not guide:
        inside.append("<p>Le guide de ce chapitre n’est pas encore écrit.</p>")
    return (
        f'<details class="guide"><summary id="guide-{chapter.number:02d}">'
        f"{prose(f'{chapter.number}. {chapter.title}')}"
        f' <span class="facts">{" · ".join(facts)}</span></summary>'
        f"{''.join(inside)}</details>"
    )


def _steps(session: Session) -> str:
    steps = "".join(
        f'<li><span class="minutes">{span(step["minutes"])}</span>'
        f"<span>{inline(step['what'])}</span></li>"
        for step in session.steps
    )
    name = f"Séance {session.number}. {session_name(session)}"
    return (
        f'<p class="label">{inline(name)} ({span(session.minutes)})</p>'
        f'<ol class="steps">{steps}</ol>'
    )


def _exercises(course: Course, chapter: Chapter, entries: list[dict[str, Any]]) -> str:
    if not entries:
        return ""
    known = exercises(course.notebook(chapter))
    rows = []
    for number, entry in enumerate(entries, 1):
        named = known[number - 1] if number <= len(known) else entry["title"]
        heading = named if re.match(r"\d", named) else f"{number}. {named}"
        kind = f"{entry['kind']}, {span(entry['minutes'])}"
        rows.append(
            (
                f"<p><b>{inline(heading)}</b></p><p>{prose(kind)}</p>",
                f"<p>{inline(entry['expected'])}</p>",
                f"<p>{inline(entry['grade'])}</p>",
            )
        )
    made = table(
        ("Exercice", "Réponse attendue", "Ce qu'on note"),
        rows,
        caption=f"Exercices du chapitre {chapter.number}",
        kind="exercises",
    )
    return f'<p class="label">Exercices</p>{made}'


def _misconceptions(entries: list[Any]) -> str:
    if not entries:
        return ""
    items = "".join(f"<li>{inline(entry)}</li>" for entry in entries)
    return (
        f'<p class="label">{prose("Ce que croient les étudiants, et ce qui les détrompe")}</p>'
        f"<ul>{items}</ul>"
    )
