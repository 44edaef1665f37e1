"""Gradients on the three backends of Keras 3, which has no gradient operation of its own.

`value_and_grad` is for one gradient with respect to arrays. For a training loop of one's own:
`loss_and_gradients` (with respect to Keras variables), `input_gradients` (inside a loss, and itself
differentiable), `compiled` (the whole step as the backend's compiler likes it).
"""

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


def loss_and_gradients(
    loss: Function, variables: Sequence[Any], state: Sequence[Any] = ()
) -> tuple[tuple[Any, Any], list[Any]]:
    """What `loss()` returns, and the gradients of its first part with respect to variables.

    loss: no argument, returns (scalar tensor, whatever else is to be kept). It may call layers in
        training mode: what they update (batch statistics, seeds) is updated.
    variables: the ones to differentiate; none but them, even where `loss` reads other trainable
        ones. A gradient is zero where `loss` does not depend on the variable.
    state: every variable that `loss` reads or updates, `variables` included or not. JAX, which has
        no side effects, needs to be told; the others ignore it.

    Inside `compiled` or outside. The optimizer's turn: `optimizer.apply(gradients, variables)`.
    """
    return _OF_VARIABLES[keras.backend.backend()](loss, list(variables), list(state))


def input_gradients(fn: Function, x: Any) -> Any:
    """Gradients of the sum of `fn(x)` with respect to `x`, differentiable in their turn.

    For each sample its own gradient, where `fn` treats samples apart (no batch normalisation).
    x: a backend tensor; the result has its shape. On JAX `fn` cannot update a layer's state: call
    the layers with `training=False`. Source of the use: Gulrajani et al., arXiv:1704.00028.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        x = tf.convert_to_tensor(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            total = ops.sum(fn(x))
        return tape.gradient(total, x)
    if backend == "jax":
        import jax

        return jax.grad(lambda t: ops.sum(fn(t)))(x)
    import torch

    x = x if x.requires_grad else x.detach().requires_grad_(True)
    return torch.autograd.grad(ops.sum(fn(x)), x, create_graph=True)[0]


def compiled(step: Function, state: Sequence[Any]) -> Function:
    """`step` as the backend compiles it: `tf.function`, `jax.jit`, or as it is on PyTorch.

    step: takes arrays, returns tensors (any nesting of tuples and dictionaries); it may read and
        assign Keras variables that exist already, all of them in `state` (optimizers built).
    Compiled once for each shape of the arguments.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        return _graph(step, reduce_retracing=False)
    if backend == "torch":
        return lambda *arrays: step(*map(ops.convert_to_tensor, arrays))
    import jax

    @jax.jit
    def pure(values: list[Any], *arrays: Any) -> tuple[Any, list[Any]]:
        with keras.StatelessScope(zip(state, values, strict=True)):
            out = step(*arrays)
            return out, [variable.value for variable in state]

    def with_side_effects(*arrays: Any) -> Any:
        out, values = pure([variable.value for variable in state], *arrays)
        for variable, value in zip(state, values, strict=True):
            variable.assign(value)
        return out

    return with_side_effects


def _graph(function: Function, **options: Any) -> Function:
    """`tf.function`, which stays one where `runtime.start` makes quick runs eager."""
    import tensorflow as tf

    graph = tf.function(function, autograph=False, **options)

    def call(*tensors: Any) -> Any:
        eager = tf.config.functions_run_eagerly()
        tf.config.run_functions_eagerly(False)
        try:
            return graph(*tensors)
        finally:
            tf.config.run_functions_eagerly(eager)

    return call


def _tensorflow_variables(
    loss: Function, variables: list[Any], state: list[Any]
) -> tuple[tuple[Any, Any], list[Any]]:
    import tensorflow as tf

    with tf.GradientTape() as tape:
        value, aux = loss()
    wanted = [variable.value for variable in variables]
    gradients = tape.gradient(value, wanted, unconnected_gradients="zero")
    return (value, aux), gradients


def _jax_variables(
    loss: Function, variables: list[Any], state: list[Any]
) -> tuple[tuple[Any, Any], list[Any]]:
    import jax

    chosen = {id(variable) for variable in variables}
    others = [variable for variable in state if id(variable) not in chosen]

    def of(values: list[Any]) -> tuple[Any, tuple[Any, list[Any]]]:
        seen = [(variable, variable.value) for variable in others]
        seen += zip(variables, values, strict=True)
        with keras.StatelessScope(seen):
            value, aux = loss()
            return value, (aux, [variable.value for variable in others])

    start = [variable.value for variable in variables]
    (value, (aux, updated)), gradients = jax.value_and_grad(of, has_aux=True)(start)
    for variable, new in zip(others, updated, strict=True):
        variable.assign(new)
    return (value, aux), gradients


def _torch_variables(
    loss: Function, variables: list[Any], state: list[Any]
) -> tuple[tuple[Any, Any], list[Any]]:
    import torch

    with torch.enable_grad():
        value, aux = loss()
    wanted = [variable.value for variable in variables]
    gradients = torch.autograd.grad(
        value, wanted, allow_unused=True, materialize_grads=True
    )
    aux = keras.tree.map_structure(
        lambda x: x.detach() if torch.is_tensor(x) else x, aux
    )
    return (value.detach(), aux), list(gradients)


_OF_VARIABLES = {
    "tensorflow": _tensorflow_variables,
    "jax": _jax_variables,
    "torch": _torch_variables,
}


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

    return (_graph(both, jit_compile=True) if jit else both)(*tensors)


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
