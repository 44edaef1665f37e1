"""The functions that chapter 10 writes."""

import keras
import numpy as np
import pytest
from keras import ops

from tests.notebook import load

chapter = load("10_siamese")
LABELS = np.random.default_rng(0).integers(0, 7, size=200)


def test_load_runs_nothing_else():
    assert chapter.BATCH_SIZE == 128
    assert not hasattr(chapter, "garments"), "a cell that loads data was run"
    assert not hasattr(chapter, "document"), "an experiment was run"


# --- pairs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", ["make_pairs", "document_pairs"])
def test_pairs_are_labelled_rightly_and_never_join_an_image_to_itself(make):
    pairs, same = getattr(chapter, make)(LABELS, seed=3)
    assert pairs.shape == (len(same), 2)
    assert same.mean() == 0.5
    assert ((LABELS[pairs[:, 0]] == LABELS[pairs[:, 1]]) == (same == 1)).all()
    assert (pairs[:, 0] != pairs[:, 1]).all()


def test_pairs_follow_the_seed():
    first, again, other = (chapter.make_pairs(LABELS, seed)[0] for seed in (0, 0, 1))
    assert (first == again).all()
    changed = (first != other).any(axis=1).reshape(2, -1).mean(axis=1)
    assert (changed > 0.8).all(), (
        "positive and negative pairs must both be drawn at random"
    )


def test_every_image_is_the_first_of_one_pair_of_each_kind():
    pairs, same = chapter.make_pairs(LABELS, seed=0)
    for kind in (0, 1):
        assert sorted(pairs[same == kind, 0]) == list(range(len(LABELS)))


def test_pairs_of_two_images_of_a_class():
    pairs, same = chapter.make_pairs(np.array([0, 1, 0, 1]), seed=0)
    assert pairs[same == 1].tolist() == [[0, 2], [1, 3], [2, 0], [3, 1]]


def document_pairs_by_copy(labels, seed):
    """The document's own loop, on indices."""
    digit_indices = [np.where(labels == i)[0] for i in range(7)]
    pairs = []
    n = min([len(digit_indices[d]) for d in range(7)]) - 1
    for d in range(7):
        for i in range(n):
            pairs += [[digit_indices[d][i], digit_indices[d][i + 1]]]
    return np.array(pairs)


def test_document_pairs_are_those_of_the_document():
    pairs, same = chapter.document_pairs(LABELS, seed=0)
    assert (pairs[same == 1] == document_pairs_by_copy(LABELS, 0)).all()
    rank = {
        i: r for members in chapter.class_indices(LABELS) for r, i in enumerate(members)
    }
    assert all(rank[a] == rank[b] for a, b in pairs[same == 0])


# --- network -----------------------------------------------------------------------------------


def test_network_shapes_and_counts():
    base = chapter.base_network((28, 28))
    siamese = chapter.siamese_network((28, 28))
    assert base.output_shape == (None, 128)
    assert siamese.output_shape == (None, 1)
    assert base.count_params() == siamese.count_params() == 133_504
    assert abs(chapter.convolutional_base((28, 28)).count_params() / 133_504 - 1) < 0.05


def test_distance_equals_numpy_and_has_a_gradient_at_zero():
    from utils.autodiff import value_and_grad

    layer = chapter.EuclideanDistance()
    a, b = np.random.default_rng(0).normal(size=(2, 6, 5)).astype("float32")
    expected = np.linalg.norm(a - b, axis=1, keepdims=True)
    np.testing.assert_allclose(ops.convert_to_numpy(layer(a, b)), expected, rtol=1e-5)
    for jit in (False, True):
        _, gradient = value_and_grad(lambda t: ops.sum(layer(t, a)), a, jit=jit)
        assert (gradient == 0).all()


def test_identical_negative_pair_does_not_break_training():
    keras.utils.set_random_seed(0)
    model = chapter.siamese_network(
        (28, 28), chapter.base_network((28, 28), dropout=0.0)
    )
    model.compile(optimizer="rmsprop", loss=chapter.contrastive_loss)
    image = np.zeros((4, 28, 28), "float32")
    model.fit([image, image], np.zeros(4, "float32"), epochs=2, verbose=0)
    assert all(
        np.isfinite(ops.convert_to_numpy(weight)).all() for weight in model.weights
    )


def test_saved_network_reloads_to_equal_outputs(tmp_path):
    model = chapter.siamese_network((28, 28))
    model.compile(optimizer="rmsprop", loss=chapter.contrastive_loss)
    a, b = np.random.default_rng(0).random((2, 3, 28, 28), dtype="float32")
    model.save(tmp_path / "siamese.keras")
    reloaded = keras.models.load_model(tmp_path / "siamese.keras")
    np.testing.assert_allclose(
        *(ops.convert_to_numpy(m([a, b], training=False)) for m in (model, reloaded)),
        rtol=1e-6,
    )
    assert reloaded.loss is chapter.contrastive_loss


# --- losses ------------------------------------------------------------------------------------


@pytest.mark.parametrize("margin", [0.5, 1.0, 2.0])
def test_contrastive_loss_equals_a_loop(margin):
    rng = np.random.default_rng(0)
    d, y = rng.random(50) * 3, rng.integers(0, 2, 50)
    loop = [
        di**2 if yi else max(0.0, margin - di) ** 2 for di, yi in zip(d, y, strict=True)
    ]
    for labels in (y, y[:, None], y.astype("float32")):
        for distances in (d, d[:, None]):
            value = chapter.contrastive_loss(
                labels, ops.cast(distances, "float32"), margin
            )
            assert float(value) == pytest.approx(np.mean(loop), rel=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_triplet_loss_equals_its_loops(seed):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(20, 6)).astype("float32")
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    labels = rng.integers(0, 3, size=20)
    value = float(
        chapter.semi_hard_triplet_loss(labels, ops.convert_to_tensor(vectors), 0.3)
    )
    assert value == pytest.approx(
        chapter.triplet_by_loops(labels, vectors, 0.3), abs=1e-5
    )


def test_triplet_loss_of_separated_classes_is_zero():
    vectors = np.repeat(np.eye(3, dtype="float32"), 4, axis=0)
    assert float(chapter.semi_hard_triplet_loss(np.repeat([0, 1, 2], 4), vectors)) == 0


# --- measures ----------------------------------------------------------------------------------


def test_expected_accuracy_from_the_matrix_of_class_pairs():
    same_rate = np.array([[0.9, 0.3, 0.0], [0.3, 0.8, 0.1], [0.0, 0.1, 1.0]])
    assert chapter.expected_accuracy(same_rate, 2) == pytest.approx(
        (0.9 + 1 - 0.8 / 6) / 2
    )
    assert chapter.expected_accuracy(same_rate, 1) == pytest.approx(
        (0.9 + 1 - 0.7 / 3) / 2
    )


def test_same_rate_of_perfect_embeddings_is_the_identity():
    labels = np.repeat([0, 1, 2], 20)
    rates = chapter.same_rate_by_class(
        np.eye(3)[labels], labels, threshold=0.5, n_pairs=50
    )
    np.testing.assert_array_equal(rates, np.eye(3))


def test_one_shot_accuracy_of_perfect_and_useless_features():
    labels = np.repeat([0, 1, 2, 3], 20)
    assert chapter.one_shot_accuracy(np.eye(4)[labels], labels, [1, 2, 3]) == 1.0
    noise = np.random.default_rng(0).normal(size=(80, 4))
    assert chapter.one_shot_accuracy(noise, labels, [1, 2, 3]) == pytest.approx(
        1 / 3, abs=0.1
    )


def test_sequence_gives_every_pair_once_an_epoch():
    images = np.arange(200, dtype="uint8").reshape(200, 1, 1)
    pairs, same = chapter.make_pairs(LABELS, seed=0)
    sequence = chapter.PairSequence(images, pairs, same, seed=0)

    def epoch():
        batches = [sequence[i] for i in range(len(sequence))]
        columns = [
            np.concatenate([b[0][side].ravel() for b in batches]) for side in (0, 1)
        ]
        return np.round(255 * np.stack(columns, axis=1)).astype(int)

    first = epoch()
    sequence.on_epoch_end()
    second = epoch()
    assert (
        sorted(map(tuple, first))
        == sorted(map(tuple, pairs))
        == sorted(map(tuple, second))
    )
    assert (first != second).any()


# --- exercises ---------------------------------------------------------------------------------


@pytest.mark.parametrize("y", [0, 1])
@pytest.mark.parametrize("margin", [0.4, 2.0])
def test_gradient_solution_is_the_derivative_of_the_loss(y, margin):
    from utils.autodiff import value_and_grad

    a, b = np.float32([0.3, -0.2, 0.5]), np.float32([0.1, 0.4, 0.2])

    def loss(t):
        distance = chapter.EuclideanDistance()(t[None], b[None])
        return chapter.contrastive_loss(np.float32([y]), distance, margin)

    _, gradient = value_and_grad(loss, a)
    np.testing.assert_allclose(
        chapter.gradient_solution(a, b, y, margin), gradient, rtol=1e-4, atol=1e-6
    )
