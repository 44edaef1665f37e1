"""The exercises of every chapter: stub, solution and typical mistakes, through their checker."""

import ast

import pytest

from tests.notebook import NOTEBOOKS, load
from utils import execute
from utils.exercises import Exercise


def checks(name):
    """Return the (exercise, function) names of the calls `EXERCISE_X.check(function)`."""
    tree = ast.parse((NOTEBOOKS / f"{name}.py").read_text(encoding="utf8"))
    calls = [node.value for node in tree.body if isinstance(node, ast.Expr)]
    return [
        (call.func.value.id, call.args[0].id)
        for call in calls
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr == "check"
    ]


EXERCISES = [
    (name, exercise)
    for name in execute.names()
    for exercise in sorted({exercise for exercise, _ in checks(name)})
]


def test_every_exercise_of_a_chapter_is_checked():
    defined = [
        (name, key)
        for name in execute.names()
        for key, value in vars(load(name)).items()
        if isinstance(value, Exercise)
    ]
    assert sorted(defined) == sorted(EXERCISES)


@pytest.mark.parametrize(("name", "exercise"), EXERCISES)
def test_stub_is_refused_clearly_and_solution_accepted(name, exercise):
    checker = getattr(load(name), exercise)
    stub, solution = (
        getattr(load(name), function)
        for checked, function in checks(name)
        if checked == exercise
    )
    assert "pas encore écrite" in checker.diagnose(stub).message
    assert not checker.diagnose(stub)
    assert checker.diagnose(solution)


@pytest.mark.parametrize(("name", "exercise"), EXERCISES)
def test_each_typical_mistake_gets_its_own_hint(name, exercise):
    checker = getattr(load(name), exercise)
    assert checker.mistakes
    for hint, mistake in checker.mistakes.items():
        answer = checker.diagnose(mistake)
        assert not answer
        assert answer.message == hint
