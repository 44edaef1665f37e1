"""The functions that chapter 02 writes."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from scipy import special, stats

from tests.notebook import load

chapter = load("02_layers_and_training")
rng = np.random.default_rng(0)


# --- activations -------------------------------------------------------------------------------


def test_relu_is_keras_relu():
    x = rng.normal(size=(5, 7)).astype("float32")
    np.testing.assert_array_equal(chapter.relu(x), ops.convert_to_numpy(ops.relu(x)))


@pytest.mark.parametrize("name", ["ReLU", "Leaky ReLU", "ELU", "sigmoïde", "tanh"])
def test_slope_is_the_difference_quotient(name):
    activation = chapter.ACTIVATIONS[name]
    x = np.array([-2.0, -0.5, 0.3, 1.7])
    step = 1e-2
    values = [
        ops.convert_to_numpy(activation(ops.convert_to_tensor(x + s, "float32")))
        for s in (step, -step)
    ]
    quotient = (values[0] - values[1]) / (2 * step)
    np.testing.assert_allclose(chapter.slope(activation, x), quotient, atol=1e-3)


def test_gradient_vanishes_through_sigmoids_only():
    ratios = {
        name: chapter.stack_gradients(*stack, depth=10, units=30)
        for name, stack in chapter.STACKS.items()
    }
    assert ratios["sigmoïde"][-1] > 1e4 * ratios["sigmoïde"][0]
    for name in ("ReLU", "tanh"):
        assert 0.05 < ratios[name][-1] / ratios[name][0] < 20


# --- pooling -----------------------------------------------------------------------------------


def windows_one_by_one(x, size, stride):
    for i in range(0, x.shape[0] - size + 1, stride):
        for j in range(0, x.shape[1] - size + 1, stride):
            yield x[i : i + size, j : j + size]


@pytest.mark.parametrize("kind", ["max", "average", "sum"])
@pytest.mark.parametrize(("size", "stride"), [(1, 1), (2, 2), (3, 1), (3, 2), (2, 3)])
@pytest.mark.parametrize("shape", [(4, 4), (7, 5), (6, 9, 3)])
def test_pool2d_is_a_loop_over_windows(shape, size, stride, kind):
    x = rng.normal(size=shape)
    reduce = {"max": np.max, "average": np.mean, "sum": np.sum}[kind]
    expected = [reduce(w, axis=(0, 1)) for w in windows_one_by_one(x, size, stride)]
    pooled = chapter.pool2d(x, size, stride, kind)
    rows, columns = ((n - size) // stride + 1 for n in shape[:2])
    assert pooled.shape == (rows, columns, *shape[2:])
    np.testing.assert_allclose(pooled.reshape(rows * columns, *shape[2:]), expected)


def test_pool2d_of_the_document():
    rectified = chapter.relu(chapter.MAP)
    assert chapter.pool2d(rectified, 2, 2, "max").tolist() == [[20, 100], [101, 25]]
    assert chapter.pool2d(rectified, 2, 2, "sum").tolist() == [[53, 160], [196, 66]]
    means = chapter.pool2d(rectified, 2, 2, "average")
    assert means.tolist() == [[13.25, 40], [49, 16.5]]
    np.testing.assert_array_equal(chapter.pool2d(rectified), [[20, 100], [101, 25]])


@pytest.mark.parametrize(
    "options",
    [{"kind": "median"}, {"size": 5}, {"size": 0}, {"stride": -1}],
)
def test_pool2d_refuses_in_french(options):
    with pytest.raises(ValueError, match=r"inconnu|impossible"):
        chapter.pool2d(np.zeros((4, 4)), **options)


def test_shift_moves_right_and_fills_with_black():
    images = rng.normal(size=(2, 3, 5, 1))
    moved = chapter.shift(images, 2)
    np.testing.assert_array_equal(moved[:, :, 2:], images[:, :, :3])
    assert not moved[:, :, :2].any()
    np.testing.assert_array_equal(chapter.shift(images, 0), images)


# --- softmax and cross-entropy -----------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.5, 1, 3])
@pytest.mark.parametrize("scale", [1, 1_000])
def test_softmax_is_scipys(scale, temperature):
    z = scale * rng.normal(size=(4, 6))
    expected = special.softmax(z / temperature, axis=-1)
    np.testing.assert_allclose(chapter.softmax(z, temperature), expected, atol=1e-12)


def test_softmax_of_a_list_and_of_large_scores():
    np.testing.assert_allclose(
        chapter.softmax([1000, 999]), special.softmax([1000, 999])
    )
    assert chapter.softmax([-1e9, 0.0]).tolist() == [0, 1]


def test_cross_entropy_of_the_document():
    assert chapter.cross_entropy(chapter.P1, chapter.EARLY) == pytest.approx(
        0.916291, abs=1e-6
    )
    assert chapter.cross_entropy(chapter.P1, chapter.LATE) == pytest.approx(
        0.020203, abs=1e-6
    )


def test_cross_entropy_is_entropy_plus_divergence():
    p, q = rng.dirichlet(np.ones(5), size=(2, 20))
    np.testing.assert_allclose(chapter.divergence(p, q), stats.entropy(p, q, axis=-1))
    np.testing.assert_allclose(
        chapter.cross_entropy(p, q),
        stats.entropy(p, axis=-1) + stats.entropy(p, q, axis=-1),
    )
    np.testing.assert_allclose(chapter.divergence(p, p), 0, atol=1e-12)


def test_cross_entropy_of_an_impossible_event_is_infinite():
    with np.errstate(divide="ignore"):
        assert chapter.cross_entropy(np.array([1, 0]), np.array([0.0, 1.0])) == np.inf


def test_fit_temperature_finds_the_one_that_was_applied():
    z = rng.normal(scale=2, size=(20_000, 5))
    labels = np.array([rng.choice(5, p=q) for q in chapter.softmax(z)])
    assert chapter.fit_temperature(3 * z, labels) == pytest.approx(3, rel=0.05)


# --- calibration -------------------------------------------------------------------------------


def test_reliability_counts_every_image_once():
    q = rng.dirichlet(np.ones(3), size=500)
    labels = rng.integers(3, size=500)
    count, confidence, right = chapter.reliability(q, labels, chapter.EDGES)
    assert sum(count) == 500
    assert np.dot(count, confidence) == pytest.approx(q.max(axis=1).sum())
    assert np.dot(count, right) == pytest.approx((q.argmax(axis=1) == labels).sum())


def test_a_sure_and_right_network_is_calibrated():
    table = chapter.reliability(np.eye(3), np.arange(3), chapter.EDGES)
    assert chapter.calibration_error(*table) == 0
    table = chapter.reliability(np.eye(3), np.array([1, 2, 0]), chapter.EDGES)
    assert chapter.calibration_error(*table) == 1


# --- back-propagation --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("f", "channels", "filters"), [(1, 1, 1), (3, 2, 4), (5, 3, 2)]
)
def test_conv_forward_is_keras(f, channels, filters):
    x, w = (
        rng.normal(size=(2, 7, 8, channels)),
        rng.normal(size=(f, f, channels, filters)),
    )
    b = rng.normal(size=filters)
    theirs = ops.conv(x.astype("float32"), w.astype("float32"), padding="valid")
    expected = ops.convert_to_numpy(theirs) + b
    np.testing.assert_allclose(chapter.conv_forward(x, w, b), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("f", "channels", "filters"), [(1, 1, 1), (2, 1, 3), (3, 2, 4)]
)
def test_conv_backward_is_the_difference_quotient(f, channels, filters):
    arrays = {
        "x": rng.normal(size=(2, 5, 6, channels)),
        "w": rng.normal(size=(f, f, channels, filters)),
        "b": rng.normal(size=filters),
    }
    upstream = rng.normal(size=chapter.conv_forward(**arrays).shape)
    w, b, x = chapter.conv_backward(arrays["x"], arrays["w"], upstream)
    for name, found in {"w": w, "b": b, "x": x}.items():
        for index in np.ndindex(found.shape):
            moved = {key: value.copy() for key, value in arrays.items()}
            moved[name][index] += 1e-4
            up = (chapter.conv_forward(**moved) * upstream).sum()
            moved[name][index] -= 2e-4
            down = (chapter.conv_forward(**moved) * upstream).sum()
            assert found[index] == pytest.approx((up - down) / 2e-4, abs=1e-6), name


def test_backward_descends():
    parameters = chapter.initial_parameters(side=10, f=3)
    x, labels = rng.random(size=(6, 10, 10, 1)), rng.integers(10, size=6)
    before = chapter.mean_loss(parameters, x, labels)
    gradients = chapter.backward(parameters, x, labels)
    moved = {name: value - 1e-3 * gradients[name] for name, value in parameters.items()}
    expected = before - 1e-3 * sum((g**2).sum() for g in gradients.values())
    assert chapter.mean_loss(moved, x, labels) == pytest.approx(expected, rel=1e-3)
    assert chapter.mean_loss(moved, x, labels) < before


@pytest.mark.parametrize("name", ["SGD", "élan", "RMSprop", "Adam"])
def test_rules_are_those_of_keras(name):
    rule, rate, optimizer = chapter.RULES[name]
    ours = chapter.descend(rule, rate, 15)
    theirs = chapter.keras_descend(optimizer(learning_rate=rate), 15)
    np.testing.assert_allclose(ours, theirs, atol=1e-3)


# --- networks ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "parameters"),
    [
        (chapter.lenet5, 61_706),
        (lambda: chapter.lenet5("tanh", layers.AveragePooling2D), 61_706),
        (chapter.best_cnn, 279_722),
        (chapter.plain_cnn, 225_034),
        (lambda: chapter.plain_cnn(dropout=0.5, l2=1e-3, augment=True), 225_034),
    ],
)
def test_network_has_its_parameters_and_reloads(build, parameters, tmp_path):
    model = build()
    assert model.count_params() == parameters
    images = rng.random(size=(3, 28, 28, 1), dtype="float32")
    expected = chapter.scores(model, images)
    assert expected.shape == (3, 10)
    model.save(tmp_path / "model.keras")
    reloaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(chapter.scores(reloaded, images), expected, atol=1e-5)


@pytest.mark.parametrize("reduction", ["max", "average", "strides", "none"])
def test_reduction_changes_no_parameter_before_a_global_average(reduction):
    assert chapter.reducing_cnn(reduction, "average").count_params() == 5_130


def test_scores_and_accuracy_go_through_every_chunk():
    class Fixed:
        def __call__(self, images, training):
            return images[:, 0, :2, 0]

    images = np.zeros((1_100, 1, 2, 1))
    images[:, 0, 1] = 1  # the second class for all
    labels = np.ones(1_100, dtype=int)
    labels[:11] = 0
    assert chapter.scores(Fixed(), images).shape == (1_100, 2)
    assert chapter.accuracy(Fixed(), images, labels) == pytest.approx(0.99)


# --- a photograph of one's own -----------------------------------------------------------------


@pytest.mark.parametrize("size", [(300, 240), (120, 400)])
def test_prepare_gives_the_input_of_the_network(size):
    square = "30,30 60,30 60,60 30,60"
    picture = chapter.draw_picture(square, size=(300, 240)).resize(size[::-1])
    image = chapter.prepare(picture)
    assert image.shape == (1, 28, 28, 1)
    assert image.dtype == np.float32
    assert image.min() >= 0
    assert image.max() <= 1
    assert image[0, 14, 14, 0] > 0.6  # the object is light
    assert chapter.prepare(picture, invert=False)[0, 14, 14, 0] < 0.4
    assert chapter.prepare(picture, scale=False).max() > 100


def test_prepare_keeps_proportions_and_crops():
    tall = "45,10 55,10 55,90 45,90"
    image = chapter.prepare(chapter.draw_picture(tall))[0, ..., 0] > 0.3
    rows, columns = image.any(axis=1).sum(), image.any(axis=0).sum()
    assert rows == 28
    assert columns < 8


def test_shrink_takes_the_central_square():
    photo = np.zeros((60, 100, 3), dtype="uint8")
    photo[:, 20:80] = 255
    small = chapter.shrink(photo)
    assert small.shape == (28, 28)
    assert small.min() == 1
