"""The functions that chapter 04 writes."""

import importlib.util
import math
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import layers, ops

from tests.notebook import load

chapter = load("04_transfer_learning")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def images(rng):
    return rng.uniform(size=(40, 28, 28, 1)).astype("float32")


@pytest.fixture
def base():
    keras.utils.set_random_seed(0)
    return chapter.small_network()


def flat_network():
    """A base without convolution, where only the number of updates matters."""
    inputs = keras.Input((28, 28, 1))
    return keras.Model(inputs, layers.Flatten()(inputs))


def gradient_steps(model):
    return int(ops.convert_to_numpy(model.optimizer.iterations))


# --- Tasks


def test_garment_task_keeps_and_renumbers_its_classes(rng, monkeypatch):
    labels = rng.integers(10, size=200)
    pixels = rng.integers(256, size=(200, 28, 28)).astype("uint8")
    pixels[:, 0, 0] = labels
    garments = SimpleNamespace(
        x_train=pixels, y_train=labels, x_test=pixels, y_test=labels
    )
    monkeypatch.setattr(chapter, "garments", garments, raising=False)
    task = chapter.garment_task((4, 6, 8, 9), limit=30)
    assert task.x.shape == (30, 28, 28, 1)
    assert task.x.dtype == "float32"
    assert 0 <= task.x.min() < task.x.max() <= 1
    assert task.classes == 4
    original = np.rint(255 * task.x[:, 0, 0, 0])
    np.testing.assert_array_equal(original, np.array((4, 6, 8, 9))[task.y])


@pytest.fixture
def membranes(rng, monkeypatch):
    labels = np.where(rng.random((6, 64, 64)) < np.linspace(0, 0.8, 64), 0, 255)
    found = SimpleNamespace(images=(labels // 2).astype("uint8"), labels=labels)
    monkeypatch.setattr(chapter, "membranes", found, raising=False)
    return found


def test_membrane_squares_are_labelled_by_their_share(membranes):
    squares, labels, limits = chapter.membrane_squares(slice(0, 4), 60, 16, 0)
    assert squares.shape == (60, 16, 16)
    assert np.bincount(labels).tolist() == [30, 30]
    share = np.mean(squares == 0, axis=(1, 2))
    assert limits[0] < limits[1]
    assert share[labels == 0].max() <= limits[0]
    assert share[labels == 1].min() >= limits[1]
    given = (0.1, 0.5)
    squares, labels, kept = chapter.membrane_squares(slice(4, 6), 20, 16, 1, given)
    assert kept == given
    share = np.mean(squares == 0, axis=(1, 2))
    assert ((share >= 0.5) == (labels == 1)).all()
    assert ((share <= 0.1) == (labels == 0)).all()


def test_halved_squares_are_means(rng):
    squares = rng.integers(256, size=(3, 56, 56)).astype("uint8")
    small = chapter.halved(squares)
    assert small.shape == (3, 28, 28, 1)
    assert small[1, 2, 3, 0] == pytest.approx(squares[1, 4:6, 6:8].mean() / 255, 1e-5)


def test_sample_serves_the_classes_equally():
    y = np.repeat([0, 1], [90, 30])
    task = chapter.Task(np.arange(120.0), y, None, None)
    x, labels = chapter.sample(task, 40, seed=1)
    assert np.bincount(labels).tolist() == [30, 10]
    np.testing.assert_array_equal(y[x.astype(int)], labels)
    assert len(set(x)) == 40


# --- Training


@pytest.mark.parametrize(
    ("n", "updates", "batch", "expected"),
    [(20, 30, 32, 30), (320, 25, 32, 30), (640, 1, 32, 20), (40, 15, 16, 16)],
)
def test_fit_makes_the_updates_it_promises(images, n, updates, batch, expected):
    x = np.resize(images, (n, 28, 28, 1))
    model = chapter.classifier(flat_network(), 3)
    chapter.fit(model, x, np.arange(n) % 3, 1e-3, updates, batch)
    steps = gradient_steps(model)
    assert steps >= updates
    assert steps == pytest.approx(expected, abs=5)


def test_scores_in_packs_are_the_scores(base, images):
    x = np.resize(images, (1100, 28, 28, 1))
    whole = ops.convert_to_numpy(base(x, training=False))
    np.testing.assert_allclose(chapter.scores(base, x), whole, atol=1e-5)


def test_frozen_leaves_the_base_and_learns_the_head(base, images):
    y = (images.mean(axis=(1, 2, 3)) > 0.5).astype(int)
    before = base.get_weights()
    model = chapter.frozen(base, images, y, 2)
    for ours, copied, kept in zip(
        base.get_weights(), model.layers[1].get_weights(), before, strict=True
    ):
        np.testing.assert_array_equal(ours, kept)
        np.testing.assert_array_equal(copied, kept)
    assert [w.shape for w in model.trainable_weights] == [(64, 2), (2,)]
    kernel, bias = model.layers[-1].get_weights()
    assert np.abs(bias).max() > 0  # it has learned
    expected = chapter.scores(base, images) @ kernel + bias
    np.testing.assert_allclose(chapter.scores(model, images), expected, atol=1e-4)


@pytest.mark.parametrize("kept", [0, 7])
def test_fine_tuned_moves_what_it_must(base, images, kept):
    y = np.arange(40) % 2
    model = chapter.fine_tuned(base, images, y, 2, kept=kept, updates=2)
    for k, pair in enumerate(zip(base.layers, model.layers[1].layers, strict=True)):
        ours, theirs = pair
        pairs = list(zip(ours.get_weights(), theirs.get_weights(), strict=True))
        moved = [not np.array_equal(a, b) for a, b in pairs]
        if k < kept or isinstance(ours, layers.BatchNormalization):
            assert not any(moved)
        elif moved:
            assert all(moved)


def test_fit_overrides_training_false(base, images):
    """Why `thaw` freezes the normalisations: the official guide relies on `training=False`."""
    inputs = keras.Input((28, 28, 1))
    head = layers.Dense(2)(base(inputs, training=False))
    before = base.get_layer("norm1").get_weights()[2]
    chapter.fit(keras.Model(inputs, head), images, np.arange(40) % 2, 1e-4, updates=2)
    assert not np.allclose(base.get_layer("norm1").get_weights()[2], before)


def test_from_scratch_starts_from_other_weights(base):
    copy = chapter.blank_copy(base)
    norms = [w for w in copy.layers if isinstance(w, layers.BatchNormalization)]
    assert {norm.momentum for norm in norms} == {0.9}
    same = [
        np.array_equal(a, b)
        for a, b in zip(copy.get_weights(), base.get_weights(), strict=True)
        if a.ndim > 1
    ]
    assert not any(same)


def test_frozen_weights_only_lets_the_statistics_drift(base, images):
    model = chapter.frozen_weights_only(base, images, np.arange(40) % 2, 2)
    copy = model.layers[1]
    assert copy.trainable_variables == []
    for ours, theirs in zip(base.layers, copy.layers, strict=True):
        if isinstance(ours, layers.BatchNormalization):
            gamma, beta, mean, variance = (
                np.array_equal(a, b)
                for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True)
            )
            assert gamma
            assert beta
            assert not mean
            assert not variance
        else:
            for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
                np.testing.assert_array_equal(a, b)


# --- The grid


FOUND = {
    "semblable": {
        "zéro": [[{"test": 0.4, "seconds": 4}], [{"test": 0.9, "seconds": 8}]],
        "gelé": [[{"test": 0.7, "seconds": 1}], [{"test": 0.8, "seconds": 2}]],
        "affiné": [[{"test": 0.69, "seconds": 5}], [{"test": 0.95, "seconds": 9}]],
    }
}


def test_measure_ranked_and_gain():
    found = FOUND["semblable"]
    assert chapter.measure(found)["zéro"].tolist() == [[0.4, 0.9]]
    assert chapter.measure(found, "seconds")["gelé"].tolist() == [[1, 2]]
    good = chapter.ranked({"found": FOUND})
    assert good == {
        ("semblable", "peu"): ["gelé", "affiné"],
        ("semblable", "beaucoup"): ["affiné"],
    }
    assert chapter.gain(found, 0) == pytest.approx(0.3)
    assert chapter.gain(found, -1) == pytest.approx(0.05)


def test_epochs_to():
    assert chapter.epochs_to(np.array([0.2, 0.5, 0.9]), 0.5) == 2
    assert chapter.epochs_to(np.array([0.2, 0.5]), 0.6) == 3


def test_energy():
    assert chapter.energy(3600, watts=1000) == 1


# --- Looking inside


def test_fully_convolutional_is_the_classifier_point_by_point(base, images):
    model = chapter.classifier(base, 3)
    dense = chapter.fully_convolutional(model)
    maps = chapter.scores(dense, images)
    assert maps.shape == (40, 7, 7, 3)
    np.testing.assert_allclose(
        maps.mean(axis=(1, 2)), chapter.scores(model, images), atol=1e-4
    )
    assert chapter.scores(dense, np.zeros((1, 56, 84, 1), "float32")).shape[1:3] == (
        14,
        21,
    )


def test_probes_read_every_stage(base, rng):
    y = np.arange(60) % 2
    x = rng.normal(scale=0.1, size=(60, 28, 28, 1)).astype("float32")
    x += y[:, None, None, None]
    task = chapter.Task(x[:40], y[:40], x[40:], y[40:])
    found = chapter.probes(base, task, 20, 0)
    assert len(found) == len(chapter.stages(base)) == 5
    assert found[0] == 1


def test_moved_shifts_and_turns():
    image = np.zeros((1, 28, 28, 1), "float32")
    image[0, 14, 10, 0] = 1
    assert chapter.moved(image, shift=5)[0, 14, 15, 0] == pytest.approx(1, abs=1e-5)
    turned = chapter.moved(image, angle=90)
    row, column = np.unravel_index(turned.argmax(), turned.shape)[1:3]
    assert math.hypot(row - 13.5, column - 13.5) == pytest.approx(
        math.hypot(0.5, 3.5), abs=0.8
    )
    assert abs(column - 13.5) < 1.5


def test_shuffled_is_one_permutation(images):
    mixed = chapter.shuffled(images)
    np.testing.assert_array_equal(
        np.sort(mixed.reshape(40, -1)), np.sort(images.reshape(40, -1))
    )
    assert not np.array_equal(mixed, images)
    np.testing.assert_array_equal(mixed[3:4], chapter.shuffled(images[3:4]))


def test_exciting_images_excite(base):
    layer = base.get_layer("relu2")
    reader = keras.Model(base.inputs, layer.output)

    def response(picture):
        maps = chapter.scores(reader, picture.astype("float32"))
        return maps.mean(axis=(1, 2))[np.arange(3), [0, 5, 9]]

    start = chapter.exciting(base, layer, [0, 5, 9], steps=0)
    found = chapter.exciting(base, layer, [0, 5, 9], steps=15)
    assert found.shape == (3, 28, 28, 1)
    assert found.min() >= 0
    assert found.max() <= 1
    assert (response(found) > response(start)).sum() >= 2


def test_grad_cam_of_an_average_and_a_dense_layer(base, images):
    """There the gradient is known: the kernel of the class, divided by the positions."""
    model = chapter.classifier(base, 3)
    front, back = chapter.split_at_last_maps(model)
    maps = chapter.scores(front, images[:1])
    np.testing.assert_allclose(
        chapter.scores(back, maps), chapter.scores(model, images[:1]), atol=1e-4
    )
    kernel, _ = model.layers[-1].get_weights()
    for label in range(3):
        expected = np.maximum(maps[0] @ kernel[:, label], 0)
        found = chapter.grad_cam(front, back, images[0], label)
        assert found.shape == (7, 7)
        np.testing.assert_allclose(
            found, expected / (expected.max() + 1e-12), atol=1e-4
        )


# --- Several devices


@pytest.mark.parametrize("package", ["jax", "tensorflow"])
def test_two_devices_train_like_one(package):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"no {package} here")
    function = getattr(chapter, f"train_with_{package}")
    devices, alone, shared = chapter.in_a_process(function)
    assert devices == 2
    for one, two in zip(alone, shared, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-5)


def test_a_process_that_fails_says_why():
    def train_with_nothing():
        raise ValueError("rien à entraîner")

    with pytest.raises(RuntimeError):
        chapter.in_a_process(train_with_nothing)
