"""Part a: the geometry, the document's loss, the family of heads."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from tests.notebook import load
from utils.autodiff import value_and_grad

chapter = load("09_arcface")
HEADS = {
    "CosineLogits": lambda: chapter.CosineLogits(3, 10.0),
    "ArcFace": lambda: chapter.ArcFace(3, 10.0, 0.4),
    "CosFace": lambda: chapter.CosFace(3, 10.0, 0.2),
    "SphereFace": lambda: chapter.SphereFace(3, 4),
}


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def array(tensor):
    return ops.convert_to_numpy(tensor)


def at_angle(head, degrees):
    """Logits (n, 3) of a sample at some angles of its class, in a space of three dimensions."""
    radians = np.deg2rad(np.atleast_1d(degrees)).astype("float32")
    x = np.stack([np.cos(radians), np.sin(radians), 0 * radians], axis=1)
    chapter.with_kernel(head, 3 * np.eye(3, dtype="float32"))
    return array(head(x, np.zeros(len(x), "int32")))


# --- The geometry


def test_unit_vectors_have_length_one_and_zero_stays_zero(rng):
    x = np.concatenate([rng.normal(size=(5, 4)), np.zeros((1, 4))]).astype("float32")
    found = array(chapter.unit(ops.array(x)))
    assert np.linalg.norm(found, axis=1) == pytest.approx([1] * 5 + [0], abs=1e-6)
    _, gradient = value_and_grad(lambda t: ops.sum(chapter.unit(t)), x)
    assert np.isfinite(gradient).all()
    assert not gradient[-1].any()


# --- The loss of the document


def test_document_loss_has_the_defects_that_the_chapter_shows():
    eye = np.eye(4, dtype="float32")
    best, worst = (float(chapter.document_loss(sign * eye, eye)) for sign in (1, -1))
    assert best == pytest.approx(worst) == pytest.approx(np.log(4), abs=1e-5)
    x, w = chapter.on_circle([0, 1, 2]), chapter.on_circle([20, 23, 26])
    values = [float(chapter.document_loss(x, w, margin=m)) for m in (0.0, 0.5, 3.0)]
    assert np.ptp(values) < 1e-3
    assert values[0] > np.log(3) + 0.01  # and yet it does depend on the angles


def test_best_probability_is_that_of_a_simplex():
    cosines = np.array([1.0] + [-1 / 7] * 7)
    odds = np.exp(16 * cosines)
    assert chapter.best_probability(16, 8) == pytest.approx(odds[0] / odds.sum())


# --- The family


@pytest.mark.parametrize("degrees", [3, 40, 90, 140, 150, 155, 177])
@pytest.mark.parametrize("margin", [0.0, 0.3, 0.5, 1.0])
def test_arcface_adds_the_margin_to_the_angle_of_the_true_class_only(degrees, margin):
    theta = np.deg2rad(degrees)
    expected = np.cos(theta + margin)
    if theta + margin > np.pi:
        expected = np.cos(theta) - margin * np.sin(margin)
    logits = at_angle(chapter.ArcFace(3, 30.0, margin), degrees)[0]
    others = [np.cos(np.pi / 2 - theta), 0]
    assert logits == pytest.approx(30 * np.array([expected, *others]), abs=1e-3)


@pytest.mark.parametrize("margin", [1, 2, 3, 4])
@pytest.mark.parametrize("degrees", [1, 44, 46, 89, 91, 134, 136, 179])
def test_sphereface_multiplies_the_angle(degrees, margin):
    theta = np.deg2rad(degrees)
    k = np.floor(margin * theta / np.pi)
    psi = (-1) ** k * np.cos(margin * theta) - 2 * k
    assert at_angle(chapter.SphereFace(3, margin), degrees)[0, 0] == pytest.approx(
        psi, abs=1e-4
    )
    mixed = at_angle(chapter.SphereFace(3, margin, annealing=5.0), degrees)[0, 0]
    assert mixed == pytest.approx((5 * np.cos(theta) + psi) / 6, abs=1e-4)


def test_sphereface_scales_by_the_length_of_the_embedding(rng):
    x, y = rng.normal(size=(6, 4)).astype("float32"), rng.integers(3, size=6)
    head = chapter.SphereFace(3)
    once = array(head(x, y))
    assert array(head(2.5 * x, y)) == pytest.approx(2.5 * once, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("name", ["ArcFace", "CosFace", "SphereFace"])
def test_heads_equal_the_loop_of_the_chapter(name, rng):
    x, kernel = rng.normal(size=(40, 6)), rng.normal(size=(6, 5))
    labels, margin = rng.integers(5, size=40), 3 if name == "SphereFace" else 0.5
    head = chapter.with_kernel(chapter.make_head(name, 5, 20.0, margin), kernel)
    expected = chapter.logits_by_loop(name, x, kernel, labels, 20.0, margin)
    assert array(head(x.astype("float32"), labels)) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("name", ["ArcFace", "CosFace"])
def test_no_margin_is_the_scaled_softmax(name, rng):
    x, kernel = rng.normal(size=(8, 4)).astype("float32"), rng.normal(size=(4, 3))
    y = rng.integers(3, size=8)
    plain, other = (
        array(chapter.with_kernel(head, kernel)(x, y))
        for head in (chapter.CosineLogits(3, 9.0), getattr(chapter, name)(3, 9.0, 0.0))
    )
    expected = 9 * x @ kernel / np.linalg.norm(x, axis=1)[:, None]
    expected /= np.linalg.norm(kernel, axis=0)
    assert plain == pytest.approx(expected, abs=1e-4)
    assert other == pytest.approx(plain, abs=1e-4)


@pytest.mark.parametrize("name", ["ArcFace", "CosFace", "SphereFace"])
def test_target_never_rises_with_the_angle(name):
    curve = at_angle(HEADS[name](), np.linspace(0, 180, 721))[:, 0]
    assert (np.diff(curve) <= 1e-4).all()


@pytest.mark.parametrize("name", HEADS)
def test_gradients_are_finite_at_zero_pi_and_on_nothing(name):
    head = chapter.with_kernel(HEADS[name](), np.eye(3))
    x = np.float32([[1, 0, 0], [-1, 0, 0], [0, 0, 0], [1, 1e-4, 0], [-1, 1e-4, 0]])
    labels = np.zeros(len(x), "int32")
    value, gradient = value_and_grad(
        lambda t: chapter.cross_entropy(head(t, labels), labels), x
    )
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() < 1e3


@pytest.mark.parametrize("name", HEADS)
def test_heads_reload_with_their_settings_and_one_weight(name, rng):
    base = keras.Sequential([keras.Input((4,)), layers.Dense(6)])
    model = chapter.training_model(base, HEADS[name]())
    batch = rng.normal(size=(5, 4)).astype("float32"), rng.integers(3, size=5)
    again = chapter.reload(model)
    assert array(again(batch)) == pytest.approx(array(model(batch)), abs=1e-5)
    (kernel,) = model.layers[-1].weights
    assert (kernel.shape, kernel.path.rsplit("/", 1)[-1]) == ((6, 3), "kernel")
    assert model.output_shape == (None, 3)
    served = chapter.serving_model(base)
    assert np.linalg.norm(array(served(batch[0])), axis=1) == pytest.approx(1, abs=1e-5)
    assert served.count_params() == base.count_params()


@pytest.mark.parametrize("name", HEADS)
def test_heads_compute_in_float32_under_mixed_precision(name, rng):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        head = HEADS[name]()
        x = rng.normal(size=(4, 5)).astype("float16")
        logits = head(ops.convert_to_tensor(x), np.arange(4) % 3)
    finally:
        keras.config.set_dtype_policy(before)
    assert array(logits).dtype == "float32"
    assert head.kernel.dtype == "float32"


def test_a_new_margin_counts_once_the_model_is_compiled_again(rng):
    base = keras.Sequential([keras.Input((4,)), layers.Dense(6)])
    head = chapter.ArcFace(3, 16.0, 0.0)
    model = chapter.training_model(base, head)
    x, y = rng.normal(size=(8, 4)).astype("float32"), np.arange(8) % 3
    losses = []
    for margin in (0.0, 0.5):
        head.margin = margin
        model.compile("sgd", chapter.ENTROPY)
        losses.append(model.evaluate([x, y], y, verbose=0))
    assert losses[1] > losses[0] + 1


# --- The other two


def test_centres_move_as_in_the_paper(rng):
    centres, x = rng.normal(size=(4, 3)), rng.normal(size=(9, 3))
    labels, expected = rng.integers(3, size=9), centres.copy()  # the last one stays
    for k in range(4):
        own = x[labels == k]
        expected[k] -= 0.5 * (centres[k] - own).sum(axis=0) / (1 + len(own))
    found = chapter.centre_step(
        *map(ops.convert_to_tensor, (centres.astype("float32"), x.astype("float32"))),
        ops.convert_to_tensor(labels),
        0.5,
    )
    assert array(found) == pytest.approx(expected, abs=1e-5)


def test_center_loss_adds_the_pull_and_learns_centres_in_training_only(rng):
    layer = chapter.CenterLoss(2, weight=0.3)
    x, y = np.float32([[3, 0], [0, 4]]), np.array([0, 1])
    assert array(layer(x, y)) == pytest.approx(x)
    assert float(layer.losses[0]) == pytest.approx(0.3 * (9 + 16) / 4)
    assert not array(layer.centres).any()
    layer(x, y, training=True)
    assert array(layer.centres) == pytest.approx(0.5 * x / 2)
    image, label = keras.Input((2,)), keras.Input((), dtype="int32")
    model = keras.Model([image, label], layer(image, label))
    assert array(chapter.reload(model)((x, y))) == pytest.approx(x)


def test_triplet_loss_equals_three_loops(rng):
    x, y = rng.normal(size=(12, 3)).astype("float32"), np.arange(12) % 3
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    away, losses = np.sum((unit[:, None] - unit[None]) ** 2, axis=-1), []
    for a in range(12):
        for p in range(12):
            if a == p or y[a] != y[p]:
                continue
            negatives = [away[a, n] for n in range(12) if y[n] != y[a]]
            beyond = [d for d in negatives if d > away[a, p]]
            chosen = min(beyond) if beyond else max(negatives)
            losses.append(max(away[a, p] - chosen + 0.2, 0))
    assert any(
        loss > 0.2 for loss in losses
    )  # a pair without any negative beyond is met
    assert float(chapter.triplet_loss(y, ops.array(x))) == pytest.approx(
        np.mean(losses), rel=1e-3
    )


def test_triplet_loss_is_zero_without_a_positive_or_a_negative(rng):
    x = rng.normal(size=(6, 3)).astype("float32")
    assert float(chapter.triplet_loss(np.zeros(6, int), ops.array(x))) == 0
    assert float(chapter.triplet_loss(np.arange(6), ops.array(x))) == 0


# --- What the margin does


def test_boundaries_move_by_half_the_margin_for_arcface():
    plain = chapter.boundary(chapter.CosineLogits(2, 1.0), 60)
    with_margin = chapter.boundary(chapter.ArcFace(2, 1.0, 0.3), 60)
    assert plain == pytest.approx(30, abs=0.01)
    assert plain - with_margin == pytest.approx(np.rad2deg(0.3) / 2, abs=0.01)
    assert chapter.boundary(chapter.SphereFace(2, 2), 60) == pytest.approx(20, abs=0.01)


def test_angle_report_measures_known_angles():
    class Same:
        def __call__(self, x, training):
            return ops.array(x)

    x = chapter.on_circle([0, 0, 90, 90])
    data = chapter.Split(
        x, np.array([0, 0, 1, 1]), chapter.on_circle([10, 70, 30]), None
    )
    found = chapter.angle_report(Same(), data._replace(y_test=np.array([0, 1, 1])))
    assert found["within"] == pytest.approx((10 + 20 + 60) / 3, abs=0.01)
    assert found["nearest"] == pytest.approx(90, abs=0.01)
    assert found["ratio"] == pytest.approx(1 / 3, abs=0.01)
    assert found["accuracy"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("loss", ["softmax", "centres", "triplets", "ArcFace"])
def test_every_loss_trains_the_base(loss, monkeypatch, rng):
    monkeypatch.setattr(chapter, "EAGER", True)
    x = rng.normal(size=(8, 28, 23, 1)).astype("float32")
    data = chapter.Split(x, np.arange(8) % 2, x, np.arange(8) % 2)
    base = chapter.train(loss, data, 2, epochs=1, seed=0)
    keras.utils.set_random_seed(0)
    fresh = chapter.small_base(2)
    moved = array(base.layers[-1].kernel) - array(fresh.layers[-1].kernel)
    assert np.abs(moved).max() > 1e-5
