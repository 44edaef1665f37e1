"""The map of the course: which chapter needs which, what each costs, in which order to read."""

from __future__ import annotations

from typing import Any

from course_data import Chapter, Course, fact, section_words
from course_pages import chapter_link, duration, inline, prose, table
from course_quiz import section_link
from course_teaching import chosen, session_name, sessions, span

ROW, LANE, RADIUS, BEND = 72, 20, 16, 14  # pixels
COLOURS = 6  # of the lines, in pages.css

Edge = tuple[int, int]


def edges(course: Course) -> list[Edge]:
    """Return (row of a chapter, row of one that needs it), in the order of the course."""
    rows = {chapter.slug: row for row, chapter in enumerate(course.chapters)}
    return sorted(
        (rows[name], rows[slug])
        for slug, guide in course.teaching.items()
        for name in guide.get("needs") or []
        if name in rows and slug in rows and rows[name] < rows[slug]
    )


def direct(found: list[Edge]) -> list[Edge]:
    """Return the edges without those that a longer way already says."""
    before: dict[int, set[int]] = {}
    for source, target in sorted(found, key=lambda edge: edge[1]):
        before.setdefault(target, set()).update({source} | before.get(source, set()))
    return [
        (source, target)
        for source, target in found
        if not any(
            source in before.get(other, set())
            for other, reached in found
            if reached == target
        )
    ]


def lanes(found: list[Edge]) -> dict[int, int]:
    """Return {row: lane} of the chapters that a later row than the next one needs.

    The line of a chapter goes down its lane to the last chapter that needs it; two lines of a lane
    never meet, and short lines are nearest to the chapters.
    """
    ends: dict[int, int] = {}
    for source, target in found:
        if target > source + 1:
            ends[source] = max(target, ends.get(source, 0))
    taken: list[list[Edge]] = []
    given = {}
    for source, end in sorted(ends.items(), key=lambda item: (item[1] - item[0], item)):
        free = (
            lane
            for lane, others in enumerate(taken)
            if all(end <= first or last <= source for first, last in others)
        )
        lane = next(free, len(taken))
        if lane == len(taken):
            taken.append([])
        taken[lane].append((source, end))
        given[source] = lane
    return given


def graph(course: Course, base: str = "../") -> str:
    """Return the chapters in order, each linked by a line to those that need it.

    The list says in words what the lines draw, and the needs that lines leave out.
    """
    found = edges(course)
    items = "".join(
        f'<li value="{chapter.number}"><p class="title">{chapter_link(chapter, base)}</p>'
        f'<p class="needs">{_needs(course, row, found)}</p></li>'
        for row, chapter in enumerate(course.chapters)
    )
    return f'<div class="course-map">{_drawing(course, direct(found))}<ol>{items}</ol></div>'


def _needs(course: Course, row: int, found: list[Edge]) -> str:
    numbers = [str(course.chapters[s].number) for s, target in found if target == row]
    if not numbers:
        return "Aucun chapitre avant" if row == 0 else prose("Après : —")
    return prose(
        f"Après {' et '.join(filter(None, [', '.join(numbers[:-1]), numbers[-1]]))}"
    )


def _drawing(course: Course, found: list[Edge]) -> str:
    given = lanes(found)
    column = LANE * (max(given.values(), default=-1) + 1) + RADIUS + 4
    width, height = column + RADIUS + 4, ROW * len(course.chapters)
    arrivals: dict[int, int] = {}
    lines = []
    for source, target in sorted(found, key=lambda edge: (edge[1], -edge[0])):
        start, end = _middle(source), _middle(target)
        if target == source + 1:
            path = f"M{column} {start}V{end - RADIUS - 2}"
        else:
            x = column - RADIUS - 4 - LANE * (given[source] + 1) + LANE // 2
            rank = arrivals[target] = arrivals.get(target, -1) + 1
            start, end = start + 5, end - 5 + 5 * rank
            path = (
                f"M{column} {start}H{x + BEND}Q{x} {start} {x} {start + BEND}"
                f"V{end - BEND}Q{x} {end} {x + BEND} {end}H{column - RADIUS - 1}"
            )
        lines.append(f'<path class="line-{source % COLOURS}" d="{path}"/>')
    dots = "".join(
        f'<circle cx="{column}" cy="{_middle(row)}" r="{RADIUS}"/>'
        f'<text x="{column}" y="{_middle(row)}" dy="0.35em">{chapter.number}</text>'
        for row, chapter in enumerate(course.chapters)
    )
    label = "Chaque trait part d'un chapitre et descend vers ceux qui en ont besoin ; la liste qui "
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{prose(label + "suit le dit en mots.")}" '
        f'style="width:{width / 16}rem;height:{height / 16}rem">{"".join(lines)}{dots}</svg>'
    )


def _middle(row: int) -> int:
    return ROW * row + ROW // 2


# --- Costs --------------------------------------------------------------------------------------


def costs(course: Course, base: str = "../") -> str:
    """Return the table of what each chapter takes: time, machine, data."""
    return table(
        ("Chapitre", "Lecture", "Exercices", "Exécution rapide", "Exécution affichée"),
        [
            _cost(course, chapter, base)
            for chapter in course.chapters
            if chapter.written
        ],
        caption="Ce que demande chaque chapitre",
        kind="costs",
    )


def _cost(course: Course, chapter: Chapter, base: str) -> tuple[str, ...]:
    guide, run = course.teaching.get(chapter.slug) or {}, chapter.run or {}
    quick = (course.bench.get("notebooks") or {}).get(chapter.slug) or {}
    seconds, shown = quick.get("seconds"), run.get("duration_s")
    data = fact(course.notebook(chapter), "Données")
    told = [inline(f"Données : {data}")] if data else []
    if run.get("device"):
        reduced = ", calculs réduits" if run.get("scale") == "cpu" else ""
        told.append(prose(f"Affichée sur : {run['device']}{reduced}"))
    notes = "".join(f'<p class="note">{words}</p>' for words in told)
    return (
        f"<p>{chapter_link(chapter, base)}</p>{notes}",
        span(guide.get("read_minutes")),
        span(guide.get("exercise_minutes")),
        duration(seconds) if seconds else "—",
        span(shown / 60) if shown else "—",
    )


# --- Reading paths ------------------------------------------------------------------------------


def minutes(course: Course, step: dict[str, Any], exercises: bool) -> float | None:
    """Return how long a step takes: a chapter, or its sections by their share of its words."""
    guide = course.teaching.get(step["chapter"]) or {}
    reading = guide.get("read_minutes")
    if reading is None:
        return None
    if "sections" in step:
        words = section_words(course.notebook(course.chapter(step["chapter"])))
        share = sum(words.get(name, 0) for name in step["sections"]) / sum(
            words.values()
        )
        return max(5, 5 * round(reading * share / 5))
    return reading + (guide.get("exercise_minutes", 0) if exercises else 0)


def total(durations: list[float | None]) -> float | None:
    return None if None in durations else sum(durations)


def paths(course: Course, base: str = "../") -> str:
    """Return the reading paths, durations computed, and the teachers' shortest programme."""
    parts = []
    for path in course.paths.get("paths", []):
        parts.append(f"### {path['title']}\n\n{path['what']}")
        for goal in path["goals"]:
            parts.append(_goal(course, goal, path.get("exercises", False), base))
    return "\n\n".join([*parts, _teacher(course, base)])


def _goal(course: Course, goal: dict[str, Any], exercises: bool, base: str) -> str:
    durations = [minutes(course, step, exercises) for step in goal["steps"]]
    lines = [
        f"{number}. {_step(course, step, spent, base)} \\\n   {step['why']}"
        for number, (step, spent) in enumerate(
            zip(goal["steps"], durations, strict=True), 1
        )
    ]
    title = goal.get("title", "En tout")
    return f"**{title} : {span(total(durations))}**\n\n" + "\n".join(lines)


def _step(course: Course, step: dict[str, Any], spent: float | None, base: str) -> str:
    chapter = course.chapter(step["chapter"])
    name = f"[{chapter.title}]({base}{chapter.docname}.ipynb)"
    said = f"**{name}** (chapitre {chapter.number}, {span(spent)})"
    found = [
        section_link(course, chapter, words, base) for words in step.get("sections", [])
    ]
    return f"{said} : {' ; '.join(found)}." if found else said


def _teacher(course: Course, base: str) -> str:
    """Return the shortest programme as a path, with why each session is there."""
    plans = sorted(course.paths.get("plans", []), key=lambda plan: plan["hours"])
    if not plans:
        return ""
    whys = {entry["chapter"]: entry["why"] for entry in plans[0]["chapters"]}
    kept = chosen(sessions(course), plans[0]["hours"], list(whys))
    lines = [
        f"{number}. **[{session_name(s)}]({base}{s.chapter.docname}.ipynb)** (chapitre "
        f"{s.chapter.number}, {span(s.minutes)}) \\\n   {whys[s.chapter.slug]}"
        for number, s in enumerate(kept, 1)
    ]
    return "\n\n".join(
        [
            f"### Enseignant, en séances de deux heures\n\n{plans[0]['what']} Le déroulé de chaque "
            "séance, et un programme de trente heures, sont dans [Pour enseigner](teachers.md).",
            f"**En tout : {span(sum(s.minutes for s in kept) or None)}**",
            "\n".join(lines),
        ]
    )
