"""Chapter 11, first part: the network, its cost, splits, stopping, balance, attributes."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import layers, ops
from sklearn.metrics import roc_auc_score

from tests.notebook import load
from utils import synthetic

chapter = load("11_face_fairness")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def people(rng, monkeypatch):
    """200 made-up people: 120 women, 30 and 10 % of class 1."""
    women = np.arange(200) < 120
    target = np.where(women, np.arange(200) % 10 < 3, np.arange(200) % 10 < 1).astype(
        int
    )
    monkeypatch.setattr(chapter, "women", women, raising=False)
    monkeypatch.setattr(chapter, "target", target, raising=False)
    return SimpleNamespace(women=women, target=target)


# --- The network and its cost


def test_the_document_network_has_its_size_and_takes_bytes():
    model = chapter.face_cnn()
    assert model.count_params() == 4_288_577
    assert model.output_shape == (None, 1)
    entrance = keras.Model(model.input, model.layers[1].output)
    white = np.full((1, 80, 80, 3), 255, "uint8")
    np.testing.assert_allclose(ops.convert_to_numpy(entrance(white)), 1, rtol=1e-6)


def test_a_score_is_the_probability_before_the_sigmoid(rng):
    images = rng.integers(0, 256, (4, 32, 32, 3)).astype("uint8")
    scores, chances = (
        chapter.face_cnn(32, dense=16, activation=a) for a in (None, "sigmoid")
    )
    chances.set_weights(scores.get_weights())
    z = ops.convert_to_numpy(scores(images, training=False))
    p = ops.convert_to_numpy(chances(images, training=False))
    np.testing.assert_allclose(p, 1 / (1 + np.exp(-z)), rtol=1e-4, atol=1e-6)
    assert np.ptp(z) > 0


@pytest.mark.parametrize(
    "options",
    [
        {"side": 40},
        {"side": 40, "depth": 1, "dense": 8},
        {"side": 40, "depth": 5, "padding": "same"},
        {"side": 41, "depth": 2, "padding": "same", "dense": 7},
    ],
)
def test_cost_counts_what_keras_counts(options):
    model = chapter.face_cnn(**options)
    cost = chapter.cost(**options)
    assert cost.parameters == model.count_params()
    products = 0
    for layer in model.layers:
        if isinstance(layer, layers.Conv2D):
            products += int(np.prod(layer.kernel.shape)) * layer.output.shape[1] ** 2
        elif isinstance(layer, layers.Dense):
            products += int(np.prod(layer.kernel.shape))
    assert cost.products == products
    maps = [layer for layer in model.layers if isinstance(layer, layers.MaxPooling2D)]
    assert cost.last == maps[-1].output.shape[1]


def test_cost_without_pooling_and_with_large_filters():
    inputs = keras.Input((14, 14, 3))
    x = layers.Conv2D(64, 5)(layers.Conv2D(32, 5)(inputs))
    x = layers.Dense(1)(layers.Dense(6)(layers.Flatten()(x)))
    expected = keras.Model(inputs, x).count_params()
    assert (
        chapter.cost(14, depth=2, kernel=5, pooling=1, dense=6).parameters == expected
    )
    assert chapter.cost(pooling=1).parameters == 358_969_409


def test_fields_follow_the_pixels_backwards():
    for depth in range(1, 6):
        low, high = 0, 0  # one output of the last convolution
        for level in range(depth):
            high += 2
            if level < depth - 1:
                low, high = 2 * low, 2 * high + 1
        assert chapter.fields(depth)[-1] == high - low + 1


def test_the_averaged_network_has_no_dense_layer():
    model = chapter.averaged_cnn(32)
    assert [type(a).__name__ for a in model.layers].count("Dense") == 1
    assert model.count_params() == 896 + 18_496 + 73_856 + 129


def test_first_gradient_of_a_linear_model(rng):
    x = rng.normal(size=(8, 3)).astype("float32")
    y = np.arange(8) % 2
    model = keras.Sequential([keras.Input((3,)), layers.Dense(1)])
    z = x @ model.get_weights()[0][:, 0]
    slope = ((1 / (1 + np.exp(-z)) - y)[:, None] * x).mean(axis=0)
    expected = np.sqrt(np.mean(slope**2))
    assert chapter.first_gradient(model, x, y) == pytest.approx(expected, rel=1e-4)


def test_sigmoid_lets_less_gradient_through(rng):
    images, y = rng.integers(0, 256, (8, 32, 32, 3)), np.arange(8) % 2
    keras.utils.set_random_seed(0)
    relu, sigmoid = (
        chapter.first_gradient(chapter.hidden_cnn(name), images, y)
        for name in ("relu", "sigmoid")
    )
    assert relu > 10 * sigmoid > 0


# --- The data and the training


def test_fair_metric_of_the_document():
    notes = [chapter.fair_metric(*pair) for pair in chapter.ANNOUNCED.values()]
    assert notes == pytest.approx([0.8460842370986938, 0.8880244493484497], abs=1e-9)
    assert chapter.fair_metric(0.85, 0.85) == pytest.approx(0.85)
    assert chapter.fair_metric(0.8, 0.9) == chapter.fair_metric(0.9, 0.8)


def test_shrunk_keeps_the_mean_colour(rng):
    images = rng.integers(0, 256, (3, 16, 16, 3)).astype("uint8")
    small = chapter.shrunk(images, 4)
    assert small.shape == (3, 4, 4, 3)
    assert small.dtype == np.uint8
    assert chapter.shrunk(images, 16) is images
    assert np.abs(small.mean(axis=(1, 2)) - images.mean(axis=(1, 2))).max() < 12


def test_split_keeps_the_four_groups(people):
    parts = chapter.split_of(people.women, people.target)
    assert [len(part) for part in parts] == [120, 40, 40]
    assert sorted(np.concatenate(parts)) == list(range(200))
    groups = 2 * people.women + people.target
    for part in parts:
        shares = np.bincount(groups[part], minlength=4) / len(part)
        np.testing.assert_allclose(shares, np.bincount(groups) / 200, atol=0.02)
    again = chapter.split_of(people.women, people.target)
    assert all(np.array_equal(a, b) for a, b in zip(parts, again, strict=True))
    other = chapter.split_of(people.women, people.target, seed=1)
    assert set(parts.test) != set(other.test)


def dotted(side):
    """A network small enough for a test."""
    inputs = keras.Input((side, side, 3))
    x = layers.Flatten()(layers.Rescaling(1 / 255)(inputs))
    return keras.Model(inputs, layers.Dense(1, activation="sigmoid")(x))


def test_fitted_returns_the_best_epoch(rng):
    """Judged on the opposite labels, the first epoch is the best."""
    keras.utils.set_random_seed(0)
    x = rng.integers(0, 256, (16, 4, 4, 3)).astype("uint8")
    y, opposite = np.arange(16) % 2, 1 - np.arange(16) % 2
    options = {"patience": 9, "epochs": 5, "build": dotted, "rate": 0.05, "batch": 16}
    model, log = chapter.fitted(x, y, (x, opposite), **options)
    p = np.clip(chapter.probabilities(model, x), 1e-7, 1 - 1e-7)
    loss = -np.mean(np.log(np.where(opposite == 1, p, 1 - p)))
    assert len(log["val_loss"]) == 5
    assert loss == pytest.approx(min(log["val_loss"]), rel=1e-3)
    assert loss < log["val_loss"][-1]


def test_an_example_of_weight_zero_teaches_nothing(rng):
    x = rng.integers(0, 256, (32, 4, 4, 3)).astype("uint8")
    y = np.arange(32) % 2
    options = {"epochs": 2, "patience": 9, "build": dotted}
    _, log = chapter.fitted(x, y, (x, y), weights=np.zeros(32), **options)
    assert log["loss"] == [0, 0]
    assert log["val_loss"][0] == log["val_loss"][1] > 0


# --- Early stopping


@pytest.mark.parametrize("patience", [1, 2, 3])
@pytest.mark.parametrize(
    "losses", [[0.9, 0.7, 0.8, 0.6, 0.65, 0.66, 0.5], [0.85, 0.85, 0.73, 0.72, 0.73]]
)
def test_the_callback_replays_a_journal(losses, patience):
    stopped, best = chapter.stop_solution(losses, patience)
    assert chapter.replayed(losses, patience=patience) == (stopped, stopped)
    kept = chapter.replayed(losses, patience=patience, restore=True)
    assert kept == (stopped, best)


def test_accuracy_is_watched_upwards():
    accuracies = chapter.LOGGED["val_accuracy"]
    assert chapter.replayed(accuracies, "val_accuracy", restore=True) == (5, 4)


def test_patience_cost_is_the_loss_missed():
    losses = [0.9, 0.7, 0.8, 0.6]
    assert chapter.patience_cost(losses, 1) == (pytest.approx(0.1), 3)
    assert chapter.patience_cost(losses, 2) == (0, 4)
    assert chapter.last_gap({"val_loss": [1, 0.7], "loss": [1, 0.4]}) == pytest.approx(
        0.3
    )


def test_each_mistake_on_early_stopping_gets_its_hint():
    exercise = chapter.EXERCISE_STOP
    assert exercise.diagnose(chapter.stop_solution)
    assert not exercise.diagnose(chapter.my_stop)
    for hint, wrong in exercise.mistakes.items():
        assert exercise.diagnose(wrong).message == hint


# --- Balance


def test_rates_are_deduced_from_two_tables():
    before = {"femmes": 1000, "hommes": 500, "classe 0": 1250, "classe 1": 250}
    after = {"femmes": 500, "hommes": 500, "classe 0": 850, "classe 1": 150}
    assert chapter.deduced_rates(before, after) == pytest.approx((0.2, 0.1))
    assert chapter.deduced_rates(chapter.BEFORE, chapter.AFTER) == pytest.approx(
        (0.2486, 0.1135), abs=1e-4
    )


def test_inverse_frequency_gives_every_group_the_same_weight(rng):
    groups = rng.choice(3, 100, p=(0.7, 0.2, 0.1))
    weights = chapter.inverse_frequency(groups)
    assert weights.mean() == pytest.approx(1)
    totals = np.bincount(groups, weights)
    np.testing.assert_allclose(totals, totals[0])


@pytest.mark.parametrize(
    ("strategy", "women", "men"),
    [
        ("tels quels", 120, 80),
        ("majorité réduite", 80, 80),
        ("minorité répétée", 120, 120),
        ("minorité retournée", 120, 120),
        ("poids par genre", 120, 80),
    ],
)
def test_rebalanced_rows(people, rng, strategy, women, men):
    train = np.arange(200)
    rows = chapter.rebalanced(train, strategy, rng)
    assert people.women[rows].sum() == women
    assert (~people.women[rows]).sum() == men
    if strategy == "majorité réduite":
        assert len(set(rows)) == len(rows)
    else:
        np.testing.assert_array_equal(rows[:200], train)
        assert not people.women[rows[200:]].any()


def test_weights_balance_what_they_name(people):
    rows = np.arange(200)
    weights = chapter.balancing_weights(rows, "poids genre × classe")
    groups = 2 * people.women + people.target
    np.testing.assert_allclose(np.bincount(groups, weights), 50)
    by_class = chapter.balancing_weights(rows, "poids par classe")
    np.testing.assert_allclose(np.bincount(people.target, by_class), 100)
    assert chapter.balancing_weights(rows, "tels quels") is None


def test_mixed_rows_has_the_share_asked(people, rng):
    for share in (0, 0.3, 1):
        rows = chapter.mixed_rows(np.arange(200), share, 40, rng)
        assert len(set(rows)) == 40
        assert people.women[rows].mean() == pytest.approx(share)


def test_group_rates_by_counting(people, rng):
    p, rows = rng.random(200), rng.permutation(200)[:150]
    p = p[rows]
    found = chapter.group_rates(p, rows)
    for measured, inside in zip(
        found, (people.women[rows], ~people.women[rows]), strict=True
    ):
        y, said = people.target[rows][inside], p[inside] > 0.5
        right = sum(int(a == b) for a, b in zip(y, said, strict=True)) / len(y)
        assert measured == pytest.approx(
            [right, said[y == 1].mean(), said[y == 0].mean()]
        )
    pair = chapter.group_accuracies(p, people.target[rows], people.women[rows])
    assert pair == pytest.approx([group[0] for group in found])


# --- Attributes


def test_a_toggle_changes_only_its_attribute():
    spec = synthetic.faces(1, seed=2).specs[0]
    without, with_it = chapter.toggled(spec, "lunettes")
    moved = chapter.changed(without, with_it)
    assert not chapter.changed(without, without).any()
    assert 0.005 < moved.mean() < 0.15
    assert not moved[60:].any()  # neither the mouth nor the shoulders
    assert chapter.changed(with_it, without).sum() == moved.sum()


def test_read_auc_of_what_is_written_and_of_noise(rng):
    y = np.arange(400) % 2
    noise = rng.normal(size=(400, 5))
    assert chapter.read_auc(noise + 5 * y[:, None], y) > 0.99
    assert 0.35 < chapter.read_auc(noise, y) < 0.65


def test_probe_obeys_its_weights(rng):
    x, y = rng.normal(size=(300, 2)), np.arange(300) % 2
    x[:, 0] += y
    plain, heavy = chapter.probe(x, y), chapter.probe(x, y, np.where(y, 10, 1))
    assert roc_auc_score(y, plain.predict_proba(x)[:, 1]) > 0.6
    assert heavy.predict(x).mean() > plain.predict(x).mean() + 0.2


def test_labels_at_odds(monkeypatch):
    monkeypatch.setattr(chapter, "target", np.zeros(4, int), raising=False)
    found = chapter.at_odds(
        {
            "Blond_Hair": np.array([1, 1, 0, 0]),
            "Brown_Hair": np.array([1, 0, 0, 1]),
            "Goatee": np.array([0, 0, 1, 0]),
            "No_Beard": np.array([1, 1, 1, 1]),
        }
    )
    assert found["blonds et bruns"] == 0.25
    assert found["sans barbe, mais un bouc"] == 0.25
    assert found["raides et ondulés"] == 0
    assert found["plusieurs couleurs de cheveux"] == 0.25
    assert found["aucune couleur de cheveux"] == 0.25
    assert found["blonds, parmi eux d'une autre couleur"] == 0.5
