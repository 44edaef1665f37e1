"""The functions of chapter 11: label noise, prediction files, pretrained inputs, hidden rule."""

import keras
import numpy as np
import pytest
from keras import ops

from tests.notebook import load

chapter = load("11_face_fairness")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def sigmoid(scores):
    return 1 / (1 + np.exp(-scores))


# --- Question 5: losses


def mean_loss(name, labels, scores):
    y, s = (
        ops.convert_to_tensor(a[:, None].astype("float32")) for a in (labels, scores)
    )
    return float(ops.mean(chapter.LOSSES[name](y, s)))


def by_hand(name, y, s):
    """One example at a time, in plain Python."""
    p = sigmoid(s)
    given = p if y == 1 else 1 - p

    def cross_entropy(wanted):
        return -wanted * np.log(p) - (1 - wanted) * np.log(1 - p)

    return {
        "entropie croisée": -np.log(given),
        "focale, γ = 5": -((1 - given) ** 5) * np.log(given),
        "lissage": cross_entropy(0.9 if y == 1 else 0.1),
        "amorçage": cross_entropy(0.8 * y + 0.2 * (p > 0.5)),
        "généralisée": (1 - given**0.7) / 0.7,
    }[name]


@pytest.mark.parametrize(
    "name", ["entropie croisée", "focale, γ = 5", "lissage", "amorçage", "généralisée"]
)
def test_loss_is_the_formula(name, rng):
    labels, scores = rng.integers(2, size=20), rng.normal(size=20) * 2
    expected = np.mean(
        [by_hand(name, y, s) for y, s in zip(labels, scores, strict=True)]
    )
    assert mean_loss(name, labels, scores) == pytest.approx(expected, abs=1e-4)


def test_keras_ignores_alpha_unless_asked():
    assert chapter.focal(alpha=0.25) == chapter.focal(alpha=0.9)
    assert chapter.focal() == pytest.approx(0.1502791, abs=1e-6)
    active = [
        chapter.focal(alpha=a, apply_class_balancing=True) for a in (0.25, 0.5, 0.9)
    ]
    np.testing.assert_allclose(active, [0.057805, 0.0751395, 0.1028747], atol=1e-6)


def test_pulls_are_slopes():
    p = np.array([0.05, 0.3, 0.6, 0.9])
    np.testing.assert_allclose(
        chapter.pulls(chapter.LOSSES["focale, γ = 5"], p),
        chapter.focal_pull(p, 5),
        atol=1e-5,
    )
    np.testing.assert_allclose(
        chapter.pulls(chapter.LOSSES["entropie croisée"], p), 1 - p, atol=1e-5
    )
    np.testing.assert_allclose(
        chapter.pulls(chapter.LOSSES["généralisée"], p), p**0.7 * (1 - p), atol=1e-4
    )
    assert chapter.focal_pull(0.05, 5) / chapter.focal_pull(0.6, 5) == pytest.approx(
        66.4, abs=0.1
    )


# --- Question 5: noise and confident learning


def test_noise_has_the_announced_rate(rng):
    y = (rng.random(20_000) < 0.2).astype(int)
    wrong = chapter.flipped(y, 0.3, 1) != y
    assert wrong[y == 0].mean() == pytest.approx(0.3, abs=0.02)
    assert wrong[y == 1].mean() == pytest.approx(0.3, abs=0.03)
    lost = chapter.forgotten(y, 0.4, 1)
    assert not lost[y == 0].any()
    assert lost[y == 1].mean() == pytest.approx(0.6, abs=0.03)
    assert (chapter.flipped(y, 0.3, 1) != chapter.flipped(y, 0.3, 2)).any()


def test_suspects_are_those_of_cleanlab(rng):
    for bias in (-1.0, 0.0, 1.5):
        truth = rng.integers(2, size=500)
        p = sigmoid(2.0 * (2 * truth - 1) + rng.normal(size=500) * 1.5 + bias)
        given = chapter.flipped(truth, 0.25, 3)
        accused = chapter.suspects(given, p)
        np.testing.assert_array_equal(accused, chapter.library_suspects(given, p))
        assert (given != truth)[accused].mean() > (given != truth).mean() + 0.2


def test_suspects_follow_the_thresholds_of_each_class():
    y = np.array([0, 0, 0, 1, 1, 1])
    p = np.array([0.1, 0.2, 0.9, 0.8, 0.7, 0.05])
    assert chapter.suspects(y, p).tolist() == [False, False, True, False, False, True]


# --- Question 6


def test_prediction_rows_use_the_convention_of_the_file():
    rows = chapter.prediction_rows(["a", "b", "c"], [0.2, 0.5, 0.7])
    assert rows == [("a", -1), ("b", -1), ("c", 1)]
    assert chapter.prediction_rows(["a"], [0.5], threshold=0.4) == [("a", 1)]
    for names, p in ((["a"], [0.1, 0.2]), (["a", "a"], [0.1, 0.2])):
        with pytest.raises(ValueError):
            chapter.prediction_rows(names, p)


def test_batches_are_shuffled_by_default_and_complete():
    images = np.arange(70.0)[:, None]
    default, ordered = (
        chapter.ImageBatches(images),
        chapter.ImageBatches(images, shuffle=False),
    )
    served = [
        np.concatenate([b[k] for k in range(len(b))])[:, 0] for b in (default, ordered)
    ]
    assert sorted(served[0]) == list(range(70))
    assert served[0].tolist() != list(range(70))
    assert served[1].tolist() == list(range(70))


def test_threshold_is_the_best_and_nearest_to_half(rng):
    p = np.array([0.1, 0.2, 0.3, 0.35, 0.9])
    y = np.array([0, 0, 1, 1, 1])
    t = chapter.best_threshold(p, y)
    assert 0.2 <= t < 0.3
    assert chapter.best_threshold(
        np.array([0.1, 0.9]), np.array([0, 1])
    ) == pytest.approx(0.5)
    p, y = rng.random(300), rng.random(300) < 0.2
    best = chapter.accuracy_at(p, y, chapter.best_threshold(p, y))
    assert best == max(np.mean((p > u) == y) for u in chapter.THRESHOLDS)
    assert chapter.balanced_at(np.zeros(10), np.arange(10) < 3, 0.5) == 0.5


@pytest.mark.parametrize(("gamma", "output"), [(0, 0.9), (2, 0.694), (5, 0.597)])
def test_focal_optimum_is_no_probability(gamma, output):
    assert chapter.focal_optimum(0.9, gamma) == pytest.approx(output, abs=1e-3)


@pytest.mark.parametrize("gamma", [0, 1, 2, 5])
def test_correction_undoes_the_focal_loss(gamma):
    for truth in (0.05, 0.3, 0.5, 0.8):
        output = chapter.focal_optimum(truth, gamma)
        assert chapter.corrected(output, gamma) == pytest.approx(truth, abs=1e-3)


def test_calibration_gap_of_known_outputs():
    p = np.repeat([0.25, 0.85], 100)
    y = np.r_[np.arange(100) < 25, np.arange(100) < 65].astype(int)
    table = chapter.reliability_table(p, y)
    assert sum(table[0]) == 200
    assert chapter.calibration_gap(table) == pytest.approx(0.1)
    assert chapter.reliability_table(np.array([1.0]), np.array([1]))[0][-1] == 1


# --- Question 9


def test_document_head_has_the_size_of_its_second_half():
    assert chapter.document_head(1280).count_params() == 1280 * 512 + 512 + 513


def test_preparations_of_a_base():
    class Base:
        preprocess = staticmethod(chapter.unit_range)

    images = np.array([0, 255], "uint8")[:, None, None, None] * np.ones(
        (1, 2, 2, 3), "uint8"
    )
    extremes = {
        name: (prepare(images).min(), prepare(images).max())
        for name, prepare in chapter.preparations(Base).items()
    }
    assert extremes["la bonne"] == pytest.approx((-0.992, 1.0), abs=1e-2)
    assert extremes["de 0 à 1"] == (0, 1)
    assert extremes["255ᵉ du contraste"] == pytest.approx((0, 1 / 128))
    assert extremes["les octets"] == (0, 255)


def test_freezing_is_compared_with_the_right_input():
    inputs = {"la bonne": {"accuracy": 0.9}, "255ᵉ du contraste": {"accuracy": 0.8}}
    assert not chapter.freezing_matters_more(inputs, {"frozen": [0.9], "tuned": [0.95]})
    assert chapter.freezing_matters_more(inputs, {"frozen": [0.7], "tuned": [0.95]})


def test_fine_tuning_leaves_normalisations_alone(rng):
    inputs = keras.Input((4, 4, 2))
    x = keras.layers.Conv2D(3, 3)(inputs)
    x = keras.layers.BatchNormalization()(x)
    tail = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))
    maps = rng.normal(size=(12, 4, 4, 2)).astype("float32")
    before = [ops.convert_to_numpy(w) for w in tail.layers[2].weights]
    kernel = ops.convert_to_numpy(tail.layers[1].kernel)
    pair = chapter.tuned_once(0, maps, np.arange(12) % 2, 8, tail)
    assert np.shape(pair) == (2, 4)
    assert all(0 <= value <= 1 for value in np.ravel(pair))
    for was, now in zip(before, tail.layers[2].weights, strict=True):
        np.testing.assert_array_equal(was, ops.convert_to_numpy(now))
    assert np.abs(kernel - ops.convert_to_numpy(tail.layers[1].kernel)).max() > 0


# --- Question 11


def test_correlation_and_information_of_known_tables():
    a = np.array([0, 0, 1, 1])
    assert chapter.correlation(a, a) == pytest.approx(1)
    assert chapter.correlation(a, 1 - a) == pytest.approx(-1)
    assert chapter.correlation(a, np.zeros(4)) == 0
    assert chapter.mutual_information(a, a) == pytest.approx(1)
    assert chapter.mutual_information(a, 1 - a) == pytest.approx(1)
    assert chapter.mutual_information(a, np.array([0, 1, 0, 1])) == pytest.approx(0)
    quarter = chapter.mutual_information(a, np.array([0, 0, 0, 1]))
    assert quarter == pytest.approx(0.311278, abs=1e-5)


def test_three_leaves_find_a_noisy_rule(rng):
    values = (rng.random((4_000, 8)) < 0.2).astype(int)
    rule = values[:, 2] | values[:, 5]
    noisy = chapter.flipped(rule, 0.2, 0)
    tree = chapter.grown(values, noisy)
    np.testing.assert_array_equal(tree.predict(values), rule)
    assert tree.get_n_leaves() == 3
    names = [f"attribut {k}" for k in range(8)]
    text = "\n".join(chapter.written(tree, names))
    assert "attribut 2 : oui" in text
    assert "attribut 5 : non" in text
    assert text.count("classe 1") == 2
    assert text.count("classe 0") == 1
    assert chapter.two_best(chapter.correlation, names, values, noisy) == {
        names[2],
        names[5],
    }


def test_enough_waits_for_lasting_success():
    assert chapter.enough([10, 20, 40], [0.95, 0.5, 1.0]) == "40"
    assert chapter.enough([10, 20, 40], [0.2, 0.9, 1.0]) == "20"
    assert chapter.enough([10, 20], [0.2, 0.3]).startswith("plus de")
