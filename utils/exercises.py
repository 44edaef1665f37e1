"""The checker of exercises, « predict then run », and the display of failures shown on purpose.

What these functions display is one Markdown line in French. Nothing here raises for a reader.
"""

from __future__ import annotations

import copy
import inspect
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from keras import ops

from utils import runtime
from utils.verdicts import french

# Lines of Keras and TensorFlow that come before the cause.
WRAPPERS = (
    "Exception encountered when",
    "Graph execution error",
    "Detected at node",
    "File ",
    "<",
)
UNFILLED = "À vous : la fonction n'est pas encore écrite."
RIGHT = "Juste."
NUMERIC = "biufc"  # kinds of NumPy dtypes that np.allclose compares


@dataclass(frozen=True)
class Answer:
    """Result of a check: true when right. Already displayed: shows nothing more in a cell."""

    right: bool
    message: str

    def __bool__(self) -> bool:
        return self.right

    def _ipython_display_(self) -> None:
        pass


@dataclass(frozen=True)
class Exercise:
    """A function to write, with what is needed to say how a reader's version is wrong.

    title: French name of the exercise, shown before each message.
    reference: the right function.
    cases: tuples of arguments, or a function without argument that makes them (called at each
        check: nothing is computed before). They must tell each mistake from the reference.
    mistakes: {French hint: wrong function}; the hint is displayed when the candidate behaves as
        the wrong function on all cases (equal values, or the same type of exception).
    tolerance: absolute and relative, as in `np.allclose`; NaN equals NaN.

    Values are numbers, strings, arrays, tensors of any backend, or nested tuples, lists and
    dictionaries of them; shapes must be equal, dtypes need not.
    """

    title: str
    reference: Callable[..., Any]
    cases: Sequence[tuple] | Callable[[], Sequence[tuple]]
    mistakes: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    tolerance: float = 1e-6

    def check(self, candidate: Any) -> Answer:
        """Displays and returns what `diagnose` found; never raises for a candidate's fault.

        With the reference itself, as in a solution's cell, its code comes after the answer.
        """
        answer = self.diagnose(candidate)
        mark = "✓ " if answer else "" if answer.message == UNFILLED else "✗ "
        code = _source(candidate) if candidate is self.reference else ""
        runtime.show_markdown(f"{mark}**{self.title}** — {answer.message}{code}")
        return answer

    def diagnose(self, candidate: Any) -> Answer:
        """The first that holds: unfilled, right, a known mistake, a wrong shape, another error."""
        if candidate is None or candidate is ...:
            return Answer(False, UNFILLED)
        if not callable(candidate):
            return Answer(False, f"On attend une fonction, pas `{_short(candidate)}`.")
        cases = list(self.cases() if callable(self.cases) else self.cases)
        expected = [self.reference(*_copy(args)) for args in cases]
        outcomes = [_outcome(candidate, args) for args in cases]
        if any(
            isinstance(o, NotImplementedError) or o is None or o is ...
            for o in outcomes
        ):
            return Answer(False, UNFILLED)
        if all(self._equal(e, o) for e, o in zip(expected, outcomes, strict=True)):
            return Answer(True, RIGHT)
        for hint, wrong in self.mistakes.items():
            theirs = (_outcome(wrong, args) for args in cases)
            if all(self._equal(t, o) for t, o in zip(theirs, outcomes, strict=True)):
                return Answer(False, hint)
        for args, e, o in zip(cases, expected, outcomes, strict=True):
            if not self._equal(e, o):
                return Answer(False, _difference(args, e, o))
        raise AssertionError("unreachable: some case differs")

    def _equal(self, a: Any, b: Any) -> bool:
        if isinstance(a, Exception) or isinstance(b, Exception):
            return type(a) is type(b)
        a, b = _plain(a), _plain(b)
        if isinstance(a, dict) or isinstance(b, dict):
            return (
                isinstance(a, dict)
                and isinstance(b, dict)
                and a.keys() == b.keys()
                and all(self._equal(a[k], b[k]) for k in a)
            )
        if isinstance(a, list) or isinstance(b, list):
            return (
                isinstance(a, list)
                and isinstance(b, list)
                and len(a) == len(b)
                and all(map(self._equal, a, b))
            )
        if a.shape != b.shape:
            return False
        if a.dtype.kind in NUMERIC and b.dtype.kind in NUMERIC:
            return bool(
                np.allclose(a, b, self.tolerance, self.tolerance, equal_nan=True)
            )
        return bool(np.all(a == b))


def predict(
    name: str, guess: float | str | None, measured: float | str, unit: str = ""
) -> None:
    """« Predict then run »: displays how far a guess was from what the run measured.

    name: what is guessed, in French. guess: None until the reader fills it in (an invitation is
    then displayed, and not the answer), a number, or a word. unit: French, after the numbers.
    """
    if guess is None or guess is ...:
        text = (
            "À vous : remplacez `None` par votre prédiction, puis exécutez la cellule."
        )
    elif isinstance(measured, str) or isinstance(guess, str):
        same = str(guess).strip().casefold() == str(measured).strip().casefold()
        text = f"vous aviez prédit « {guess} », l'exécution donne « {measured} » : "
        text += "c'est cela." if same else "à expliquer."
    else:
        values = (np.asarray(v).item() for v in (guess, measured, guess - measured))
        said, found, gap = (f"{french(value)} {unit}".rstrip() for value in values)
        text = f"vous aviez prédit {said}, l'exécution mesure {found} (écart : {gap})."
    runtime.show_markdown(f"**{name}** — {text}")


def failure(
    fn: Callable[..., Any],
    *args: Any,
    expected: type[Exception] | tuple[type[Exception], ...] = Exception,
) -> Exception | None:
    """Runs `fn(*args)`, which must fail, and displays its error as a quote: nothing is raised.

    Returns the exception, without its traceback. `expected` narrows what counts as the failure
    announced (types may differ between backends). Where nothing fails, or something else does,
    says so, and raises in strict mode: the lesson would be wrong.
    """
    try:
        fn(*args)
    except Exception as error:
        announced = isinstance(error, expected)
        title = "Erreur attendue" if announced else "Autre erreur que celle attendue"
        runtime.show_markdown(
            f"> **{title}** — `{type(error).__name__}` : {_code(_line(error))}"
        )
        if not announced and runtime.strict():
            raise
        error.with_traceback(None)  # it holds every frame, with its arrays
        error._ipython_display_ = lambda: (
            None
        )  # as a cell's last value it would show again
        return error
    runtime.show_markdown(
        "> **Aucune erreur** : celle que la leçon annonce n'a pas eu lieu ici."
    )
    if runtime.strict():
        raise AssertionError("failure(): the announced error did not happen")
    return None


def _source(fn: Callable[..., Any]) -> str:
    """The code of a function as a Markdown block; nothing where it cannot be found."""
    try:
        return f"\n\n```python\n{inspect.getsource(fn).rstrip()}\n```"
    except (OSError, TypeError):
        return ""


def _outcome(fn: Callable[..., Any], args: tuple) -> Any:
    """What `fn` returns, or the exception it raises."""
    try:
        return fn(*_copy(args))
    except Exception as error:  # noqa: BLE001 - whatever a reader's function raises
        return error


def _copy(args: tuple) -> tuple:
    """Arguments that a function may modify without harm to the next one."""
    return tuple(
        copy.deepcopy(a) if isinstance(a, np.ndarray | list | dict) else a for a in args
    )


def _plain(value: Any) -> Any:
    """NumPy array, or list or dictionary of what is to be compared piece by piece."""
    if isinstance(value, dict):
        return value
    if isinstance(value, tuple | list):
        pieces = [_plain(piece) for piece in value]
        arrays = all(
            isinstance(p, np.ndarray) and p.dtype.kind in NUMERIC for p in pieces
        )
        same = arrays and len({p.shape for p in pieces}) == 1
        return np.stack(pieces) if same else pieces
    if ops.is_tensor(value):
        value = ops.convert_to_numpy(value)
    return np.asarray(value)


def _difference(args: tuple, expected: Any, obtained: Any) -> str:
    call = f"Avec `{_short(args[0] if len(args) == 1 else args)}`"
    if isinstance(obtained, Exception):
        name = type(obtained).__name__
        return (
            f"{call}, votre fonction s'arrête sur `{name}` : {_code(_line(obtained))}"
        )
    shapes = [getattr(_plain(v), "shape", None) for v in (expected, obtained)]
    if None not in shapes and shapes[0] != shapes[1]:
        return (
            f"{call}, la forme attendue est `{shapes[0]}`, la vôtre est `{shapes[1]}`."
        )
    return f"{call}, on attend {_code(_short(expected))}, vous obtenez {_code(_short(obtained))}."


def _short(value: Any, width: int = 100) -> str:
    """One line for a value."""
    plain = value if isinstance(value, tuple) else _plain(value)
    if isinstance(plain, np.ndarray):
        text = np.array2string(
            plain, precision=5, threshold=12, edgeitems=3, separator=", "
        )
    elif isinstance(plain, list | tuple):
        text = "(" + ", ".join(_short(v, 60) for v in plain) + ")"
    else:
        text = repr(plain)
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 1] + "…"


def _line(error: Exception, width: int = 240) -> str:
    """First meaningful line of a message, without colours, machine paths or device names."""
    cause = str(error).rsplit("Exception encountered: ", 1)[
        -1
    ]  # Keras: a layer in a model
    text = re.sub(r"\x1b\[[0-9;]*m", "", cause)
    text = re.sub(r"\{\{function_node[^}]*\}\}", "", text)
    text = re.sub(r"\s*\[Op:[^\]]*\].*", "", text)
    machine = (str(runtime.ROOT), sys.prefix, sys.base_prefix)
    for folder in machine:  # it may hold spaces
        text = text.replace(folder, "")
    text = re.sub(
        r"(?<![\w/\\.])(?:[A-Za-z]:)?[/\\](?:[^\s'\"<>:,;()]*[/\\])+", "", text
    )
    lines = (" ".join(line.split()) for line in text.splitlines())
    line = next((s for s in lines if s and not s.startswith(WRAPPERS)), "sans message")
    if len(line) <= width:
        return line
    sentence = line[:width].rfind(". ")
    return line[: sentence + 1] + " …" if sentence > 0 else line[: width - 1] + "…"


def _code(text: str) -> str:
    """Markdown code span, whatever backquotes the text holds."""
    return f"`` {text} ``" if "`" in text else f"`{text}`"
