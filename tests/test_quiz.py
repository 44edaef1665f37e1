"""The quizzes: what they must hold, that what they state is true, and the pages that show them."""

import copy
import json
import math

import numpy as np
import pytest
from bs4 import BeautifulSoup

from tests.book_site import ROOT, course
from tests.notebook import load

import course_data  # isort: skip  (tests.book_site puts book/_ext on the path)
import course_quiz  # isort: skip

SLUGS = [chapter.slug for chapter in course().chapters if chapter.written]


def question(right=0, **changes):
    options = [
        {"text": text, "why": f"Parce que {text}."} for text in ("un", "deux", "trois")
    ]
    options[right]["right"] = True
    asked = {
        "question": "Combien ?",
        "options": options,
        "see": "La taille de la sortie",
    }
    return asked | changes


GOOD = [question(right=i % 3) for i in range(5)]
KNOWN = ["La taille de la sortie"]


def small_course(quiz=None):
    chapter = course_data.Chapter(
        "01_convolution", "Images", "", ("004",), written=True
    )
    return course_data.Course(
        root=ROOT,
        repository="https://github.com/owner/name",
        branch="main",
        chapters=(chapter,),
        documents={},
        claims=(),
        quizzes={"01_convolution": quiz} if quiz else {},
    )


def spoilt(change):
    quiz = copy.deepcopy(GOOD)
    change(quiz)
    return quiz


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda quiz: quiz.pop(), "4 questions"),
        (lambda quiz: quiz.extend(copy.deepcopy(GOOD)), "10 questions"),
        (lambda quiz: quiz[1].update(question=" "), "question 2: no question"),
        (lambda quiz: quiz[1]["options"].pop(0), "question 2: 2 options"),
        (lambda quiz: quiz[0]["options"][0].pop("right"), "question 1: 0 right"),
        (lambda quiz: quiz[0]["options"][1].update(right=True), "question 1: 2 right"),
        (
            lambda quiz: quiz[2]["options"][0].update(why=""),
            "question 3: an option wit",
        ),
        (
            lambda quiz: quiz[2]["options"][0].update(text="deux"),
            "an option given twice",
        ),
        (lambda quiz: quiz[3].update(see="La taile"), "question 4: see: 'La taile'"),
        (lambda quiz: quiz[3].update(hint="cherchez"), "unknown keys ['hint']"),
        (lambda quiz: quiz[3].pop("see"), "see: None"),
    ],
)
def test_a_defect_of_a_quiz_is_named(change, words):
    assert course_quiz.problems(GOOD, KNOWN) == []
    (found,) = course_quiz.problems(spoilt(change), KNOWN)
    assert words in found


def test_the_right_option_may_not_always_be_at_the_same_place():
    (found,) = course_quiz.problems([question(right=1)] * 5, KNOWN)
    assert "same place" in found


def test_a_check_that_is_false_or_fails_is_named():
    quiz = [
        question(check=["1 + 1 == 2", "len([n for n in range(3) if n < limit]) == 2"]),
        question(check=["1 + 1 == 3"]),
        question(check=["nothing == 1"]),
    ]
    found = course_quiz.false_checks(quiz, {"limit": 2})
    assert len(found) == 2
    assert found[0] == "question 2: 1 + 1 == 3 -> False"
    assert found[1].startswith("question 3: nothing == 1 -> NameError")


@pytest.mark.parametrize(
    ("heading", "anchor"),
    [
        ("La taille de la sortie", "la-taille-de-la-sortie"),
        ("La couche `Conv2D` de Keras", "la-couche-conv2d-de-keras"),
        ("Qu'est-ce ?", "quest-ce-"),
        ("Régler $\\beta_1$", "régler-"),
    ],
)
def test_anchors_are_those_of_myst(heading, anchor):
    assert course_quiz.slug(heading) == anchor


def test_deep_and_repeated_headings_have_the_anchor_that_is_there():
    source = "# Titre\n\n## Une part\n\n#### Un détail\n\n## Une autre\n\n### Une part"
    cell = {"cell_type": "markdown", "source": source}
    found = course_quiz.anchors({"cells": [cell]})
    assert found["Un détail"] == "une-part"
    assert found["Une autre"] == "une-autre"
    twice = {"cell_type": "markdown", "source": "## Une part\n\n#### Encore"}
    assert course_quiz.anchors({"cells": [cell, twice]})["Encore"] == "une-part-2"


def test_page_says_right_and_wrong_in_words_and_links_to_the_chapter():
    page = course_quiz.page(small_course(GOOD), "../../", "01_convolution")
    assert page.count("## Question ") == 5
    options = BeautifulSoup(page, "html.parser").select("details")
    assert len(options) == 15
    first, second, *_ = options
    assert "Juste." in first.select_one(".why").text
    assert "Faux." in second.select_one(".why").text
    link = "../../notebooks/01_convolution.ipynb"
    assert f"[La taille de la sortie]({link}#la-taille-de-la-sortie)" in page


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (r"$(2 ; 2)$", "(2 ; 2)"),
        (r"$15{,}5 \times 2^{10}$ **pixels**", "15,5 × 2 puissance 10 pixels"),
        (r"`a` ou $\lfloor \frac{n}{2} \rfloor$", "a ou partie entière de n / 2"),
        (r"$e^{-\alpha_1}$", "e puissance -alpha indice 1"),
    ],
)
def test_a_formula_is_said_to_those_who_do_not_see_it(written, said):
    assert course_quiz.spoken(written) == said
    label = BeautifulSoup(course_quiz._label(written), "html.parser")
    assert label.select_one(".text")["aria-hidden"] == "true"
    assert (
        course_quiz._label("sans formule") == '<span class="text">sans formule</span>'
    )


def test_a_section_that_is_not_there_breaks_no_link():
    quiz = spoilt(lambda quiz: quiz[0].update(see="La section perdue"))
    page = course_quiz.page(small_course(quiz), "../../", "01_convolution")
    assert "La section perdue." in page
    assert "perdue](" not in page


def test_a_quiz_not_written_yet_is_said_and_not_proposed():
    empty = small_course()
    assert "pas encore écrit" in course_quiz.page(empty, "../../", "01_convolution")
    assert course_quiz.invitation(empty, empty.chapters[0]) == ""
    full = small_course(GOOD)
    proposed = course_quiz.invitation(full, full.chapters[0])
    assert "../book/quiz/01_convolution.html" in proposed
    assert "5 questions" in proposed


# --- The quizzes of the course ------------------------------------------------------------------


@pytest.fixture(params=SLUGS)
def slug(request):
    return request.param


def quiz_of(slug):
    quiz = course().quizzes.get(slug)
    assert quiz, f"book/quiz/{slug}.yml is missing: five to eight questions"
    return quiz


def test_every_chapter_has_a_sound_quiz(slug):
    notebook = course().notebook(course().chapter(slug))
    known = [words for _, words in course_data.headings(notebook)]
    assert course_quiz.problems(quiz_of(slug), known) == []


def test_what_a_quiz_states_is_true(slug):
    quiz = quiz_of(slug)
    stored = ROOT / f"book/results/{slug}.json"
    found = json.loads(stored.read_text("utf8")) if stored.exists() else {}
    results = {
        name: result["values"] for name, result in found.get("experiments", {}).items()
    }
    names = vars(load(slug)) | {"np": np, "math": math, "results": results}
    assert course_quiz.false_checks(quiz, names) == []


def test_every_quiz_has_its_page_under_its_chapter(slug):
    number = course().chapter(slug).number
    page = (ROOT / f"book/quiz/{slug}.md").read_text("utf8")
    assert page == f"# Quiz du chapitre {number}\n\n<!-- course: quiz {slug} -->\n"
    entry = f"- file: notebooks/{slug}\n        sections:\n          - file: book/quiz/{slug}\n"
    assert entry in (ROOT / "_toc.yml").read_text("utf8")
