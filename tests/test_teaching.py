"""The map, the reading paths and the teachers' page: their data, and what is computed from it."""

import copy

import pytest
from bs4 import BeautifulSoup

from tests.book_site import ROOT, course

import course_data  # isort: skip  (tests.book_site puts book/_ext on the path)
import course_map  # isort: skip
import course_teaching  # isort: skip

SLUGS = [chapter.slug for chapter in course().chapters if chapter.written]
TITLES = ["1. Prédire, puis exécuter", "2. Écrire une couche"]


def entry(title, **changes):
    return {
        "title": title,
        "kind": "coder",
        "minutes": 15,
        "expected": "30.",
        "grade": "5 points.",
    } | changes


def guide(needs=(), minutes=(30, 60), sessions=1, **changes):
    steps = [{"minutes": each, "what": "Lire $x$."} for each in minutes]
    return {
        "needs": list(needs),
        "read_minutes": 60,
        "exercise_minutes": 30,
        "session": [
            {"title": f"Séance {i + 1}. Voir", "steps": steps} for i in range(sessions)
        ],
        "exercises": [entry(title) for title in TITLES],
        "misconceptions": ["Une idée.", "Une autre."],
    } | changes


def small_course(**guides):
    chapters = tuple(
        course_data.Chapter(slug, f"Chapitre {slug}", "", (), written=False)
        for slug in guides
    )
    return course_data.Course(
        root=ROOT,
        repository="",
        branch="main",
        chapters=chapters,
        documents={},
        claims=(),
        teaching={slug: found for slug, found in guides.items() if found},
    )


# --- Guides -------------------------------------------------------------------------------------


def spoilt(change):
    changed = copy.deepcopy(guide(needs=["01_a"]))
    change(changed)
    return changed


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda g: g.pop("needs"), "needs: missing"),
        (lambda g: g.update(read_minutes="une heure"), "read_minutes: missing, or not"),
        (lambda g: g["needs"].append("02_unknown"), "needs: no chapter '02_unknown'"),
        (lambda g: g["session"][0]["steps"][0].update(minutes=61), "121 minutes"),
        (
            lambda g: g["exercises"][1].update(title="Écrire"),
            "'Écrire' is not '2. Écrire",
        ),
        (lambda g: g["exercises"].reverse(), "is not"),
        (lambda g: g["exercises"][0].update(kind="lire"), "kind 'lire'"),
        (lambda g: g["exercises"][0].update(grade=""), "no grade"),
        (lambda g: g["exercises"][0].update(minutes=20), "the sum is 35"),
        (lambda g: g["misconceptions"].pop(), "1 misconceptions"),
    ],
)
def test_a_defect_of_a_guide_is_named(change, words):
    assert course_teaching.problems(guide(needs=["01_a"]), TITLES, ["01_a"]) == []
    found = course_teaching.problems(spoilt(change), TITLES, ["01_a"])
    assert any(words in problem for problem in found), found


def test_an_exercise_that_is_not_listed_is_named():
    found = course_teaching.problems(guide(), [*TITLES, "3. Expliquer"], [])
    assert found == [f"2 exercises, the chapter has 3: {[*TITLES, '3. Expliquer']}"]


def test_exercises_are_the_headings_of_their_section():
    cells = [
        {"cell_type": "markdown", "source": "## Cours\n\n### 1. Une partie"},
        {"cell_type": "markdown", "source": "## Exercices\n\n### 1. Prédire\n\nTexte."},
        {"cell_type": "code", "source": "### pas un titre"},
        {"cell_type": "markdown", "source": ["### 2. Coder\n", "```\n### non\n```"]},
        {"cell_type": "markdown", "source": "## Références\n\n### Autre"},
    ]
    found = course_data.exercises({"cells": cells})
    assert found == ["1. Prédire", "2. Coder"]


@pytest.mark.parametrize(
    ("minutes", "written"),
    [(45, "45 min"), (60, "1 h"), (125, "2 h 05"), (0, "0 min"), (None, "—")],
)
def test_spans(minutes, written):
    assert course_teaching.span(minutes) == written


def test_a_plan_takes_first_sessions_first_and_stays_in_its_hours():
    small = small_course(
        **{"01_a": guide(sessions=2), "02_b": guide(sessions=2), "03_c": guide()}
    )
    every = course_teaching.sessions(small)  # each lasts an hour and a half

    def names(hours, *preferred):
        kept = course_teaching.chosen(every, hours, list(preferred))
        return [(s.chapter.slug[:2], s.number) for s in kept]

    assert names(3, "03_c", "02_b", "01_a") == [("02", 1), ("03", 1)]
    assert names(4.5, "02_b", "01_a") == [("01", 1), ("02", 1), ("02", 2)]
    assert names(100, "01_a") == [("01", 1), ("01", 2)]
    assert names(1, "01_a") == []


# --- Map ----------------------------------------------------------------------------------------


def test_lines_follow_the_needs_and_never_share_a_lane():
    needs = {"01_a": [], "02_b": ["01_a"], "03_c": ["01_a"], "04_d": ["01_a", "02_b"]}
    small = small_course(**{slug: guide(needs=found) for slug, found in needs.items()})
    found = course_map.edges(small)
    assert found == [(0, 1), (0, 2), (0, 3), (1, 3)]
    assert course_map.lanes(found) == {1: 0, 0: 1}
    page = BeautifulSoup(course_map.graph(small), "html.parser")
    assert len(page.select("path")) == 3  # 1 to 4 goes by 2
    assert [item.text for item in page.select(".needs")] == [
        "Aucun chapitre avant",
        "Après 1",
        "Après 1",
        "Après 1 et 2",
    ]


def test_lines_that_a_longer_way_says_are_left_out():
    found = [(0, 1), (0, 3), (1, 2), (2, 3), (1, 4)]
    assert course_map.direct(found) == [(0, 1), (1, 2), (2, 3), (1, 4)]
    assert course_map.direct([]) == []


def test_lanes_are_used_again_below_the_end_of_a_line():
    assert course_map.lanes([(0, 2), (2, 4)]) == {0: 0, 2: 0}
    assert sorted(course_map.lanes([(0, 3), (1, 4)]).values()) == [0, 1]
    assert course_map.lanes([(0, 1), (1, 2)]) == {}


def test_a_chapter_without_guide_is_on_the_map_without_line():
    small = small_course(**{"01_a": guide(), "02_b": None})
    page = BeautifulSoup(course_map.graph(small), "html.parser")
    assert len(page.select("li")) == 2
    assert page.select("path") == []


def test_the_duration_of_a_step_is_computed():
    known = course()
    words = course_data.section_words(known.notebook(known.chapters[0]))
    section = max(words, key=words.get)
    small = course_data.Course(
        **(vars(known) | {"teaching": {SLUGS[0]: guide(read_minutes=100)}})
    )
    step = {"chapter": SLUGS[0]}
    assert course_map.minutes(small, step, exercises=True) == 130
    assert course_map.minutes(small, step, exercises=False) == 100
    part = course_map.minutes(small, step | {"sections": [section]}, exercises=True)
    assert part == pytest.approx(100 * words[section] / sum(words.values()), abs=3)
    assert course_map.minutes(small, {"chapter": SLUGS[1]}, exercises=True) is None
    assert course_map.total([10, None]) is None


# --- The guides of the course -------------------------------------------------------------------


@pytest.mark.parametrize("slug", SLUGS)
def test_every_chapter_has_a_sound_guide(slug):
    found = course().teaching.get(slug)
    assert found, f"book/teaching/{slug}.yml is missing"
    titles = course_data.exercises(course().notebook(course().chapter(slug)))
    assert len(titles) >= 3
    others = [
        name for name in SLUGS if name < slug
    ]  # a chapter needs earlier ones only
    assert course_teaching.problems(found, titles, others) == []


def test_paths_name_chapters_and_sections_that_exist():
    plans = [plan["chapters"] for plan in course().paths["plans"]]
    goals = [
        goal["steps"] for path in course().paths["paths"] for goal in path["goals"]
    ]
    for step in sum(plans + goals, []):
        chapter = course().chapter(step["chapter"])
        assert chapter, step
        headings = course_data.headings(course().notebook(chapter))
        for section in step.get("sections", []):
            assert (2, section) in headings, (
                f"book/paths.yml: {chapter.slug}: {section}"
            )


def test_programmes_fit_in_their_hours_and_leave_little():
    for plan in course().paths["plans"]:
        preferred = [step["chapter"] for step in plan["chapters"]]
        kept = course_teaching.chosen(
            course_teaching.sessions(course()), plan["hours"], preferred
        )
        spent = sum(session.minutes for session in kept)
        assert 0.8 * plan["hours"] * 60 <= spent <= plan["hours"] * 60, plan["title"]
