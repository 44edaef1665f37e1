"""utils.exercises: what a reader is told, for each way of being right or wrong."""

import keras
import numpy as np
import pytest
from keras import ops

from utils import exercises, runtime
from utils.exercises import RIGHT, UNFILLED, Exercise, failure, predict


@pytest.fixture(autouse=True)
def shown(monkeypatch):
    """The Markdown texts displayed."""
    texts = []
    monkeypatch.setattr(runtime, "show_markdown", texts.append)
    return texts


def normalise(x):
    return x / np.sqrt(np.sum(x**2))


EXERCISE = Exercise(
    title="Normaliser un vecteur",
    reference=normalise,
    cases=[(np.array([3.0, 4.0]),), (np.array([1.0, -2.0, 2.0]),)],
    mistakes={
        "Vous divisez par le carré de la norme : il manque la racine.": lambda x: (
            x / np.sum(x**2)
        ),
        "Vous divisez par la somme des composantes.": lambda x: x / np.sum(x),
    },
)


# --- check and diagnose ---------------------------------------------------------------------


def test_right(shown):
    answer = EXERCISE.check(lambda x: x / np.linalg.norm(x))
    assert answer
    assert answer.message == RIGHT
    assert shown == ["✓ **Normaliser un vecteur** — Juste."]


def test_the_reference_comes_with_its_code(shown):
    assert EXERCISE.check(normalise)
    first, code = shown[0].split("\n\n", 1)
    assert first == "✓ **Normaliser un vecteur** — Juste."
    assert code == (
        "```python\ndef normalise(x):\n    return x / np.sqrt(np.sum(x**2))\n```"
    )
    assert Exercise("Racine", np.sqrt, [(4.0,)]).check(np.sqrt)  # it has no source
    assert shown[1] == "✓ **Racine** — Juste."


def stub_raises(x):
    raise NotImplementedError


def stub_passes(x):
    pass


@pytest.mark.parametrize("stub", [None, ..., stub_raises, stub_passes, lambda x: ...])
def test_unfilled_stub(stub, shown):
    answer = EXERCISE.check(stub)
    assert not answer
    assert answer.message == UNFILLED
    assert shown == [f"**Normaliser un vecteur** — {UNFILLED}"]


@pytest.mark.parametrize("hint", EXERCISE.mistakes)
def test_each_known_mistake_has_its_hint(hint, shown):
    assert EXERCISE.check(EXERCISE.mistakes[hint]) == exercises.Answer(False, hint)
    assert shown == [f"✗ **Normaliser un vecteur** — {hint}"]


def test_a_mistake_must_match_on_all_cases():
    def other(x):
        return x / np.sum(x) if x.size == 2 else -x

    message = EXERCISE.diagnose(other).message
    assert (
        message
        == "Avec `[3., 4.]`, on attend `[0.6, 0.8]`, vous obtenez `[0.42857, 0.57143]`."
    )


def test_a_mistake_may_be_an_error():
    exercise = Exercise(
        "Produit",
        reference=lambda a, b: a @ b.T,
        cases=[(np.ones((2, 3)), np.ones((4, 3)))],
        mistakes={"Transposez le second.": lambda a, b: a @ b},
    )
    assert (
        exercise.diagnose(lambda u, v: np.matmul(u, v)).message
        == "Transposez le second."
    )


def test_wrong_shape_says_both():
    message = EXERCISE.diagnose(lambda x: normalise(x)[:, None]).message
    assert "la forme attendue est `(2,)`, la vôtre est `(2, 1)`" in message
    assert "`(3,)`" not in message


def test_broadcasting_does_not_hide_a_wrong_shape():
    exercise = Exercise(
        "Moyenne", reference=lambda x: np.mean(x), cases=[(np.ones(3),)]
    )
    message = exercise.diagnose(lambda x: x).message
    assert "la forme attendue est `()`, la vôtre est `(3,)`" in message


def test_an_exception_is_told_in_one_line():
    def broken(x):
        return undefined_name / x  # noqa: F821

    message = EXERCISE.diagnose(broken).message
    assert message == (
        "Avec `[3., 4.]`, votre fonction s'arrête sur `NameError` : "
        "`name 'undefined_name' is not defined`"
    )


def test_wrong_number_of_arguments_is_an_exception_like_another():
    assert "`TypeError`" in EXERCISE.diagnose(lambda: None).message


def test_the_first_case_that_differs_is_shown():
    message = EXERCISE.diagnose(lambda x: normalise(x) if x.size == 2 else x).message
    assert message.startswith("Avec `[ 1., -2., 2.]`")
    assert "on attend `[ 0.33333, -0.66667, 0.66667]`" in message


def test_something_that_is_not_a_function():
    assert (
        EXERCISE.diagnose(np.zeros(2)).message
        == "On attend une fonction, pas `[0., 0.]`."
    )


def test_a_candidate_cannot_damage_the_cases():
    def in_place(x):
        x /= np.linalg.norm(x)
        return x

    assert EXERCISE.diagnose(in_place)
    assert EXERCISE.cases[0][0].tolist() == [3, 4]
    assert EXERCISE.diagnose(normalise)


def test_cases_may_be_made_at_the_last_moment():
    calls = []
    exercise = Exercise(
        "Double", lambda x: 2 * x, lambda: calls.append(1) or [(1,), (2,)]
    )
    assert calls == []
    assert exercise.diagnose(lambda x: x + x)
    assert not exercise.diagnose(lambda x: x + 1)
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("reference", "candidate", "right"),
    [
        (1.0, 1.0 + 5e-7, True),
        (1.0, 1.01, False),
        (1, 1.0, True),
        (np.nan, np.nan, True),
        (np.nan, 0.0, False),
        (True, np.True_, True),
        ("chat", "chat", True),
        ("chat", "chien", False),
        ((np.ones(2), 3), [np.ones(2), 3.0], True),
        ((np.ones(2), np.ones(3)), (np.ones(2), np.ones(3)), True),
        ((np.ones(2), np.ones(3)), (np.ones(2), np.zeros(3)), False),
        ((np.ones(2), np.ones(3)), (np.ones(2),), False),
        ({"a": [1, 2]}, {"a": np.array([1, 2])}, True),
        ({"a": 1}, {"b": 1}, False),
        ({"a": 1}, 1, False),
        ([1, 2, 3], (1, 2, 3), True),
        (np.zeros((2, 0)), np.zeros((0, 2)), False),
        (1.0, "1.0", False),
        (("1", 1), ("1", 1.0), True),
        (("1", 1), (1, 1), False),
        ((1.0, {"a": 2}), (1.0, {"a": 3}), False),
    ],
)
def test_values_of_all_kinds(reference, candidate, right):
    exercise = Exercise("Valeur", lambda: reference, [()])
    assert bool(exercise.diagnose(lambda: candidate)) is right


def test_tensors_and_arrays_are_alike():
    exercise = Exercise("Somme", lambda x: ops.sum(x, axis=0), [(ops.ones((3, 2)),)])
    assert exercise.diagnose(lambda x: ops.convert_to_numpy(x).sum(axis=0))
    assert "[3., 3.]" in exercise.diagnose(lambda x: ops.zeros(2)).message


def test_an_answer_shows_nothing_more_at_the_end_of_a_cell():
    from IPython.core.interactiveshell import InteractiveShell

    formatter = InteractiveShell().display_formatter
    assert formatter.format(EXERCISE.check(normalise)) == ({}, {})
    assert formatter.format(failure(int, "x")) == ({}, {})


# --- predict --------------------------------------------------------------------------------


def test_predict_invites_then_compares(shown):
    predict("exactitude", None, 0.906)
    assert "0,906" not in shown[0]
    assert "remplacez `None`" in shown[0]
    predict("exactitude", 0.95, 0.906)
    assert "prédit 0,95, l'exécution mesure 0,906 (écart : 0,044)" in shown[1]
    predict("durée", 3, 60.0, unit="s")
    assert "prédit 3 s, l'exécution mesure 60 s (écart : −57 s)" in shown[2]


def test_predict_a_word(shown):
    predict("la perte", "Monte ", "monte")
    predict("la perte", "descend", "monte")
    assert shown[0].endswith("c'est cela.")
    assert shown[1].endswith("à expliquer.")


# --- failure --------------------------------------------------------------------------------


def raise_error(message, kind=ValueError):
    raise kind(message)


def test_failure_shows_and_returns_the_exception(shown):
    error = failure(raise_error, "formes (2,) et (3,) incompatibles")
    assert shown == [
        "> **Erreur attendue** — `ValueError` : `formes (2,) et (3,) incompatibles`"
    ]
    assert type(error) is ValueError
    assert error.__traceback__ is None


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("", "sans message"),
        ("\n\n  first  line\nsecond", "first line"),
        (
            "Exception encountered when calling Lambda.call().\n\n\x1b[1mBad shape.\x1b[0m\n",
            "Bad shape.",
        ),
        (
            "{{function_node __wrapped__Sub_/job:localhost}} Sizes differ [Op:Sub] name: ",
            "Sizes differ",
        ),
        (f"No file {runtime.ROOT}/data/x.npz here", "No file x.npz here"),
        ("Bad '/home/someone/.keras/models/m.keras'", "Bad 'm.keras'"),
        ("A failed.\n\nconfig={}\n\nException encountered: B missing.", "B missing."),
        (f"Bad ({runtime.ROOT}/.venv/lib/layers.py)", "Bad (layers.py)"),
        (r"Bad C:\Users\someone\m.keras", "Bad m.keras"),
        ("Expected a/b, got 1/2 of y = x / z", "Expected a/b, got 1/2 of y = x / z"),
        ("m" * 500, "m" * 239 + "…"),
        ("A sentence. " + "m" * 500, "A sentence. …"),
    ],
)
def test_failure_keeps_the_first_meaningful_line(message, line, shown):
    failure(raise_error, message)
    assert shown == [f"> **Erreur attendue** — `ValueError` : `{line}`"]


def test_failure_writes_backquotes_safely(shown):
    failure(raise_error, "Argument `x` is *bad* $y$")
    assert shown[0].endswith("`` Argument `x` is *bad* $y$ ``")


class MisshapenProduct(keras.layers.Layer):
    """Fails inside Keras' own wrapping of errors."""

    def call(self, x):
        return ops.matmul(x, ops.ones((9, 9)))


def test_failure_of_real_libraries_stays_on_one_clean_line(shown):
    failure(lambda: ops.matmul(ops.ones((2, 3)), ops.ones((2, 3))))
    failure(
        lambda: keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(2)])(
            np.ones((1, 5))
        )
    )
    failure(open, "/absent/file.txt")
    failure(MisshapenProduct(), np.ones((2, 3)))
    for text in shown:
        assert text.startswith("> **Erreur attendue**")
        assert "\n" not in text
        assert "\x1b" not in text
        assert "device" not in text
        assert "Exception encountered" not in text
        assert "/absent" not in text
    assert (
        "`FileNotFoundError` : `[Errno 2] No such file or directory: 'file.txt'`"
        in shown[2]
    )


def test_no_failure_is_told_and_raises_only_in_strict_mode(shown, monkeypatch):
    monkeypatch.setattr(runtime, "strict", lambda: True)
    with pytest.raises(AssertionError):
        failure(lambda: 1)
    monkeypatch.setattr(runtime, "strict", lambda: False)
    assert failure(lambda: 1) is None
    assert [text.startswith("> **Aucune erreur**") for text in shown] == [True, True]


def test_another_failure_than_the_expected_one(shown, monkeypatch):
    monkeypatch.setattr(runtime, "strict", lambda: True)
    assert isinstance(
        failure(raise_error, "a", expected=(ValueError, KeyError)), ValueError
    )
    with pytest.raises(NameError, match="undefined_name"):
        failure(lambda: undefined_name, expected=ValueError)  # noqa: F821
    monkeypatch.setattr(runtime, "strict", lambda: False)
    assert isinstance(failure(raise_error, "a", expected=TypeError), ValueError)
    assert [text.split("**")[1] for text in shown] == [
        "Erreur attendue",
        "Autre erreur que celle attendue",
        "Autre erreur que celle attendue",
    ]
