"""Gradients on the three backends of Keras 3, which has no gradient operation of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike

Arrays = ArrayLike | list[ArrayLike]
Function = Callable[..., Any]  # of backend tensors, to a scalar one
Result = tuple[Any, Sequence[Any]]  # value and gradients, backend tensors


def value_and_grad(
    fn: Function, x: Arrays, jit: bool = False, dtype: str | None = None
) -> tuple[float, np.ndarray | list[np.ndarray]]:
    """Value of `fn` at `x`, and its gradient with respect to `x`.

    fn: takes one backend tensor for each array of `x`, positionally (`fn(t)` for an array,
        `fn(t1, t2)` for a list of two), returns a scalar tensor: shape (). It may call Keras
        layers, in inference mode: on JAX a layer cannot update its state here.
    x: a NumPy array (or number), or a list of arrays. Converted to `dtype`.
    jit: compiles `fn` with XLA as Keras does on a GPU: `tf.function(jit_compile=True)`,
        `jax.jit`. PyTorch has no XLA: ignored there.
    dtype: default `keras.config.floatx()`. "float64" gives precise comparisons with finite
        differences (JAX: only after `jax.config.update("jax_enable_x64", True)`).

    Returns (value, gradient): a Python float; an array of the shape of `x`, or the list of them,
    zero where `fn` does not depend on its argument.

    Raises `ValueError` (French) when the value is not a scalar.
    """
    several = isinstance(x, list)
    dtype = dtype or keras.config.floatx()
    tensors = [
        ops.convert_to_tensor(np.asarray(a), dtype) for a in (x if several else [x])
    ]
    value, grads = _BACKENDS[keras.backend.backend()](_scalar(fn), tensors, jit)
    grads = [np.array(ops.convert_to_numpy(g)) for g in grads]
    return float(ops.convert_to_numpy(value)), grads if several else grads[0]


def _scalar(fn: Function) -> Function:
    def checked(*tensors: Any) -> Any:
        value = ops.convert_to_tensor(fn(*tensors))
        if tuple(value.shape) != ():
            raise ValueError(
                "Le gradient se calcule sur une fonction à valeur scalaire (forme ()) : "
                f"la vôtre rend la forme {tuple(value.shape)}. Prenez-en la somme ou la moyenne."
            )
        return value

    return checked


def _tensorflow(fn: Function, tensors: list[Any], jit: bool) -> Result:
    import tensorflow as tf

    def both(*args: Any) -> Result:
        with tf.GradientTape() as tape:
            tape.watch(args)
            value = fn(*args)
        grads = tape.gradient(value, args, unconnected_gradients="zero")
        return value, [
            tf.convert_to_tensor(g) for g in grads
        ]  # a lookup gives IndexedSlices

    return (
        tf.function(both, jit_compile=True, autograph=False)(*tensors)
        if jit
        else both(*tensors)
    )


def _jax(fn: Function, tensors: list[Any], jit: bool) -> Result:
    import jax

    both = jax.value_and_grad(fn, argnums=tuple(range(len(tensors))))
    return (jax.jit(both) if jit else both)(*tensors)


def _torch(fn: Function, tensors: list[Any], jit: bool) -> Result:
    import torch

    tensors = [t.detach().clone().requires_grad_(True) for t in tensors]
    with torch.enable_grad():
        value = fn(*tensors)
    if not value.requires_grad:  # a constant: torch.autograd.grad refuses it
        return value, [torch.zeros_like(t) for t in tensors]
    grads = torch.autograd.grad(
        value, tensors, allow_unused=True, materialize_grads=True
    )
    return value.detach(), grads


_BACKENDS = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}
