"""What the course asks of Keras and Colab's version, 3.13, does not do; nothing from 3.15 on.

Met by `make colab` with Keras 3.13.2: two refusals that 3.15 no longer makes. The remedies stand
here rather than in the chapters, whose code is written for the current Keras.
"""

import functools
from collections.abc import Callable
from typing import Any

FIXED = (3, 15)


def flat_metrics(compile_model: Callable[..., Any]) -> Callable[..., Any]:
    """`Model.compile` for which ``metrics=[["accuracy"]]`` suits a model of one output too."""

    @functools.wraps(compile_model)
    def compile(self: Any, *args: Any, **kwargs: Any) -> Any:
        match kwargs.get("metrics"):
            case [[*only]]:
                kwargs["metrics"] = only
        return compile_model(self, *args, **kwargs)

    return compile


def used_input(make_input: Callable[..., Any], identity: Callable[[], Any]) -> Callable:
    """`keras.Input` that a model may declare without reading it: something always reads it."""

    @functools.wraps(make_input)
    def new_input(*args: Any, **kwargs: Any) -> Any:
        tensor = make_input(*args, **kwargs)
        identity()(tensor)
        return tensor

    return new_input


def complete(keras: Any) -> bool:
    """Give an older Keras what it lacks; return whether it lacked it."""
    version = tuple(int(part) for part in keras.__version__.split(".")[:2])
    if version >= FIXED:
        return False
    keras.Model.compile = flat_metrics(keras.Model.compile)
    keras.Input = used_input(keras.Input, keras.layers.Identity)
    return True
