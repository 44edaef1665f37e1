"""utils.autodiff on the installed backend, against analytic and numerical gradients.

The same file passes with KERAS_BACKEND=jax and torch (in an environment that has them).
"""

import keras
import numpy as np
import pytest
from keras import layers, ops

from utils.autodiff import (
    compiled,
    input_gradients,
    loss_and_gradients,
    value_and_grad,
)

RNG = np.random.default_rng(0)


def numerical(fn, x, step=1e-2):
    """Central differences of a function of a float32 array."""
    grad = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        ends = [x.copy(), x.copy()]
        ends[0][i] += step
        ends[1][i] -= step
        high, low = (
            float(ops.convert_to_numpy(fn(ops.convert_to_tensor(e)))) for e in ends
        )
        grad[i] = (high - low) / (2 * step)
    return grad


@pytest.mark.parametrize("jit", [False, True])
def test_one_array(jit):
    x = RNG.normal(size=(3, 2)).astype("float32")
    value, grad = value_and_grad(lambda t: ops.sum(t**3), x, jit=jit)
    assert isinstance(value, float)
    assert value == pytest.approx((x**3).sum(), rel=1e-5)
    assert isinstance(grad, np.ndarray)
    assert grad.dtype == np.float32
    assert grad == pytest.approx(3 * x**2, rel=1e-5)


@pytest.mark.parametrize("jit", [False, True])
def test_list_of_arrays(jit):
    a, b = RNG.normal(size=(2, 3)), RNG.normal(size=(3,))
    value, grads = value_and_grad(
        lambda s, t: ops.sum(ops.matmul(s, t)), [a, b], jit=jit
    )
    assert value == pytest.approx((a @ b).sum(), rel=1e-5)
    assert isinstance(grads, list)
    assert grads[0] == pytest.approx(np.tile(b, (2, 1)), rel=1e-5)
    assert grads[1] == pytest.approx(a.sum(axis=0), rel=1e-5)


def test_list_of_one_array_and_a_plain_number():
    value, grads = value_and_grad(lambda t: t * t, [3])
    assert (value, grads[0].shape, float(grads[0])) == (9.0, (), 6.0)
    value, grad = value_and_grad(lambda t: t * t, 3)
    assert (value, grad.shape, float(grad)) == (9.0, (), 6.0)


@pytest.mark.parametrize("jit", [False, True])
def test_through_keras_layers_by_finite_differences(jit):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [layers.Input((4,)), layers.Dense(8, "tanh"), layers.Dense(1)]
    )

    def loss(t):
        return ops.mean(ops.square(model(t, training=False)))

    x = RNG.normal(size=(2, 4)).astype("float32")
    before = [np.array(w) for w in model.get_weights()]
    _, grad = value_and_grad(loss, x, jit=jit)
    assert np.abs(grad).max() > 0.01
    assert grad == pytest.approx(numerical(loss, x), abs=2e-3)
    for old, new in zip(before, model.get_weights(), strict=True):
        assert np.array_equal(old, new)


@pytest.mark.parametrize("jit", [False, True])
def test_a_lookup_gives_a_dense_gradient(jit):
    _, grad = value_and_grad(
        lambda t: ops.sum(ops.take(t, [1, 1, 2], axis=0)), np.zeros((4, 2)), jit
    )
    assert grad.tolist() == [[0, 0], [2, 2], [1, 1], [0, 0]]


@pytest.mark.parametrize("jit", [False, True])
def test_zero_where_nothing_depends_on_the_argument(jit):
    _, (a, b) = value_and_grad(
        lambda s, t: ops.sum(s), [np.ones(2), np.ones(3)], jit=jit
    )
    assert (a.tolist(), b.tolist()) == ([1, 1], [0, 0, 0])
    value, grad = value_and_grad(lambda t: 5.0, np.ones(2), jit=jit)
    assert (value, grad.tolist()) == (5.0, [0, 0])


def test_the_square_root_at_zero_is_not_hidden():
    """Chapter 10's subject: an infinite slope times zero is NaN, and the checker must show it."""
    _, grad = value_and_grad(lambda t: ops.sqrt(ops.sum(ops.square(t))), np.zeros(3))
    assert np.isnan(grad).all()


@pytest.mark.parametrize("jit", [False, True])
def test_a_value_that_is_not_a_scalar_is_refused(jit):
    with pytest.raises(ValueError, match=r"forme \(3,\)"):
        value_and_grad(lambda t: t * 2, np.ones(3), jit=jit)


def test_float64_when_asked_for():
    if keras.backend.backend() == "jax":
        pytest.skip("JAX computes in float64 only where jax_enable_x64 is set")
    x = np.array([1e-9])
    _, grad = value_and_grad(lambda t: ops.sum((1 + t) ** 2), x, dtype="float64")
    assert grad.dtype == np.float64
    assert grad[0] - 2 == pytest.approx(2e-9, rel=1e-3)
    assert value_and_grad(lambda t: ops.sum(t), x)[1].dtype == np.float32


def test_the_array_given_is_left_alone():
    x = np.ones(3, "float32")
    _, grad = value_and_grad(lambda t: ops.sum(t * t), x)
    grad += 1
    assert x.tolist() == [1, 1, 1]


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="XLA differs on TensorFlow"
)
def test_jit_really_compiles_with_xla():
    """A string operation runs without XLA and cannot be compiled by it."""
    import tensorflow as tf

    def fn(t):
        length = tf.strings.length(tf.strings.as_string(tf.round(t[0])))
        return ops.sum(t) + tf.cast(tf.stop_gradient(length), t.dtype)

    assert value_and_grad(fn, np.ones(2))[1].tolist() == [1, 1]
    with pytest.raises(Exception, match="XLA|compile|Unsupported|unsupported"):
        value_and_grad(fn, np.ones(2), jit=True)


# --- A training step of one's own


def network():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(4),
            layers.Activation("tanh"),
            layers.BatchNormalization(),
            layers.Dropout(0.5),
            layers.Dense(1),
        ]
    )


def numbers(variables):
    return [ops.convert_to_numpy(v).copy() for v in variables]


def test_gradients_of_some_variables_only():
    model, x = network(), RNG.normal(size=(8, 3)).astype("float32")
    chosen = model.layers[0].trainable_variables

    def loss():
        y = ops.sum(ops.square(model.layers[0](x)))
        return y, {"twice": 2 * y}

    (value, aux), (kernel, bias) = loss_and_gradients(loss, chosen, model.variables)
    y = x @ ops.convert_to_numpy(chosen[0]) + ops.convert_to_numpy(chosen[1])
    assert float(value) == pytest.approx((y**2).sum(), rel=1e-4)
    assert float(aux["twice"]) == pytest.approx(2 * float(value), rel=1e-5)
    assert ops.convert_to_numpy(kernel) == pytest.approx(
        2 * x.T @ y, rel=1e-3, abs=1e-3
    )
    assert ops.convert_to_numpy(bias) == pytest.approx(
        2 * y.sum(axis=0), rel=1e-3, abs=1e-3
    )


def test_a_variable_that_does_not_count_has_a_zero_gradient():
    model = network()
    last = model.layers[-1].trainable_variables
    x = ops.ones((2, 3))
    _, gradients = loss_and_gradients(
        lambda: (ops.sum(model.layers[0](x)), None), last, model.variables
    )
    assert all(not ops.convert_to_numpy(g).any() for g in gradients)


@pytest.mark.parametrize("compile_it", [True, False])
def test_a_step_trains_updates_statistics_and_draws_again(compile_it):
    model, optimizer = network(), keras.optimizers.Adam(0.01)
    optimizer.build(model.trainable_variables)
    state = [*model.variables, *optimizer.variables]
    x = RNG.normal(size=(16, 3)).astype("float32")

    def step(x):
        def loss():
            y = ops.mean(ops.square(model(x, training=True) - 1))
            return y, None

        (value, _), gradients = loss_and_gradients(
            loss, model.trainable_variables, state
        )
        optimizer.apply(gradients, model.trainable_variables)
        return value

    run = compiled(step, state) if compile_it else step
    before = numbers(model.weights)
    values = [float(run(ops.convert_to_tensor(x))) for _ in range(30)]
    assert all(
        (a != b).any() for a, b in zip(before, numbers(model.weights), strict=True)
    )
    assert int(optimizer.iterations) == 30
    assert np.mean(values[-5:]) < values[0]
    assert len(set(values)) > 25  # dropout draws again at each step


def test_a_compiled_step_stays_compiled_where_quick_runs_are_eager():
    config = pytest.importorskip("tensorflow").config
    traced = []

    def step(x):
        traced.append(config.functions_run_eagerly())
        return x + 1

    run, before = compiled(step, []), config.functions_run_eagerly()
    try:
        config.run_functions_eagerly(True)
        for _ in range(3):
            run(ops.ones(2))
        assert config.functions_run_eagerly()
    finally:
        config.run_functions_eagerly(before)
    assert traced == [False]


def test_input_gradients_can_be_differentiated_again():
    dense = layers.Dense(1, use_bias=False)
    dense.build((None, 2))
    dense.kernel.assign([[3.0], [4.0]])
    x = ops.convert_to_tensor(RNG.normal(size=(5, 2)).astype("float32"))

    def loss():
        slopes = input_gradients(dense, x)
        return ops.mean(ops.sum(ops.square(slopes), axis=1)), slopes

    (value, slopes), (gradient,) = loss_and_gradients(
        loss, dense.trainable_variables, dense.variables
    )
    assert ops.convert_to_numpy(slopes) == pytest.approx(np.tile([3.0, 4.0], (5, 1)))
    assert float(value) == pytest.approx(25)
    assert ops.convert_to_numpy(gradient) == pytest.approx(np.array([[6.0], [8.0]]))
