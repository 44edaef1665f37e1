"""The functions that chapter 09 writes to train, to measure and to compare."""

import math
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import layers, ops

from tests.notebook import load
from utils import metrics

chapter = load("09_arcface")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def unit_rows(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def crowd(rng):
    """Ten people, four noisy vectors of each."""
    labels = np.arange(40) // 4
    return unit_rows(np.eye(10)[labels] + 0.4 * rng.normal(size=(40, 10))), labels


@pytest.fixture
def faces(rng):
    """Four people told apart by their grey; eight pictures of each."""
    labels = np.repeat(np.arange(4), 8)
    side = chapter.SIDE
    noise = rng.integers(0, 20, size=(32, side, side, 1))
    return (noise + 60 * labels[:, None, None, None]).astype("uint8"), labels


# --- The document's network


def test_embedder_has_the_audited_size():
    model = chapter.embedder(keras.applications.ResNet50)
    assert model.count_params() == 24_636_800
    assert model.output_shape == (None, 512)


def test_multiply_adds_by_hand():
    inputs = keras.Input((8, 8, 2))
    x = layers.Conv2D(4, 3, strides=2, padding="same")(inputs)
    x = layers.BatchNormalization()(x)
    tiny = keras.Model(inputs, layers.Dense(10)(layers.Flatten()(x)))
    assert chapter.multiply_adds(tiny) == (4 * 4) * (3 * 3 * 2 * 4) + 64 * 10


# --- Data


def test_nobody_is_in_two_parts(rng):
    labels = np.repeat(np.arange(12), 3)
    parts = chapter.split_people(labels.copy(), labels, (6, 2, 3), seed=1)
    people = [set(images.tolist()) for images, _ in parts]
    assert [len(some) for some in people] == [6, 2, 3]
    assert len(people[0] | people[1] | people[2]) == 11
    for images, renumbered in parts:
        assert sorted(set(renumbered)) == list(range(len(set(images))))
        assert len(set(zip(images, renumbered, strict=True))) == len(set(images))
    others = chapter.split_people(labels, labels, (6, 2, 3), seed=2)
    assert set(others[0][0]) != people[0]


def test_keep_shots_takes_the_first_of_each():
    labels = np.repeat(np.arange(3), 4)
    images = np.arange(12)
    kept, who = chapter.keep_shots((images, labels), 2)
    assert kept.tolist() == [0, 1, 4, 5, 8, 9]
    assert who.tolist() == [0, 0, 1, 1, 2, 2]
    kept, _ = chapter.keep_shots((images, labels), np.array([1, 3, 2]))
    assert kept.tolist() == [0, 4, 5, 6, 8, 9]


def test_shrink_keeps_the_order_and_the_grey():
    images = np.stack([np.full((112, 92), grey, "uint8") for grey in (10, 200)])
    small = chapter.shrink(images)
    assert small.shape == (2, chapter.SIDE, chapter.SIDE, 1)
    assert small[0].max() == small[0].min() == 10
    assert small[1].max() == small[1].min() == 200


def test_batches_are_reproducible_and_keep_labels_with_images(faces):
    images, labels = faces
    x, y = chapter.face_batches(images, labels, 3, seed=5)
    assert len(x) == len(y) == 3 * chapter.BATCH
    assert (x.min(axis=(1, 2, 3)) // 60 == y).all()
    again, other = (chapter.face_batches(images, labels, 3, seed=s)[0] for s in (5, 6))
    assert (again == x).all()
    assert (other != x).any()


def test_half_of_a_batch_is_flipped_and_the_originals_are_not(faces):
    images, labels = faces
    images = np.tile(np.arange(chapter.SIDE, dtype="uint8"), (32, chapter.SIDE, 1))[
        ..., None
    ]
    before = images.copy()
    x, _ = chapter.face_batches(images, labels, 20, seed=0)
    flipped = x[:, 0, 0, 0] > 0
    assert 0.25 < flipped.mean() < 0.75
    assert (images == before).all()


def test_triplet_batches_give_every_anchor_a_positive(faces):
    _, y = chapter.face_batches(*faces, 2, seed=0, shots=chapter.BATCH_SHOTS)
    for batch in np.split(y, 2):
        assert (np.unique(batch, return_counts=True)[1] == chapter.BATCH_SHOTS).all()


# --- Training


@pytest.mark.parametrize("loss", ["softmax", *chapter.SETTINGS])
def test_every_loss_moves_the_base(loss, faces, rng):
    images = rng.integers(256, size=faces[0].shape).astype("uint8")  # nothing is easy
    keras.utils.set_random_seed(0)
    fresh = chapter.face_base().trainable_weights
    before = [ops.convert_to_numpy(w).copy() for w in fresh]
    setting = chapter.SETTINGS.get(loss)
    model = chapter.trained(loss, (images, faces[1]), 0, setting, steps=1)
    base = model.get_layer("base")
    after = [ops.convert_to_numpy(w) for w in base.trainable_weights]
    assert any(np.abs(a - b).max() > 1e-5 for a, b in zip(after, before, strict=True))
    vectors = chapter.embed(base, faces[0])
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_the_seed_decides(faces):
    first, second, third = (
        chapter.embed(
            chapter.trained("softmax", faces, seed, steps=1).get_layer("base"), faces[0]
        )
        for seed in (0, 0, 1)
    )
    assert np.allclose(first, second, atol=1e-5)
    assert not np.allclose(first, third, atol=1e-2)


def test_deeper_base_costs_more():
    plain, deep = chapter.face_base(), chapter.face_base(chapter.WIDTHS, 2)
    assert chapter.multiply_adds(deep) > chapter.multiply_adds(plain)
    assert plain.output_shape == deep.output_shape == (None, 128)


def test_partial_head_keeps_the_classes_of_the_batch(rng):
    embeddings = rng.normal(size=(4, 8)).astype("float32")
    labels = np.array([3, 7, 7, 20])
    head = chapter.PartialArcFace(400, 16.0, 0.3, share=0.1)
    logits = ops.convert_to_numpy(head(embeddings, labels))
    kept = logits[0] > -1e3
    assert kept[[3, 7, 20]].all()
    assert 15 < kept.sum() < 75
    full = chapter.ArcFace(400, 16.0, 0.3)
    full.build((4, 8), (4,))
    full.kernel.assign(head.kernel)
    expected = ops.convert_to_numpy(full(embeddings, labels))
    assert np.allclose(logits[:, kept], expected[:, kept], atol=1e-4)
    again = ops.convert_to_numpy(head(embeddings, labels))[0] > -1e3
    assert (again != kept).any()
    whole = chapter.PartialArcFace(400, 16.0, 0.3, share=1.1)
    assert ops.convert_to_numpy(whole(embeddings, labels)).min() > -1e3
    assert chapter.PartialArcFace.from_config(head.get_config()).share == 0.1


# --- Measures


def test_pairs_by_loops(crowd):
    vectors, labels = crowd
    pairs = chapter.all_pairs(vectors, labels)
    expected = [
        (1 - vectors[i] @ vectors[j], labels[i] == labels[j], labels[i], labels[j])
        for i in range(40)
        for j in range(i + 1, 40)
    ]
    for column, wanted in zip(pairs, zip(*expected, strict=True), strict=True):
        assert np.allclose(column, wanted)


def test_rates_need_enough_pairs(crowd):
    pairs = chapter.all_pairs(*crowd)  # 720 different pairs
    assert chapter.rate_at(pairs, 0.01) == metrics.tar_at_far(
        pairs.distances, pairs.same, 0.01
    )
    assert math.isnan(chapter.rate_at(pairs, 0.001))


def test_threshold_is_the_greatest_allowed(crowd):
    pairs = chapter.all_pairs(*crowd)
    limit = chapter.threshold_at(pairs, 0.05)
    strangers = np.sort(pairs.distances[~pairs.same])
    assert np.mean(strangers <= limit) <= 0.05
    beyond = pairs.distances[pairs.distances > limit].min()
    assert np.mean(strangers <= beyond) > 0.05


def test_rank_one_and_open_set_by_hand():
    angles = np.deg2rad([0, 5, 90, 60, 180, 170])  # two pictures of three people
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    labels = np.array([0, 0, 1, 1, 2, 2])
    assert chapter.rank_one(vectors, labels) == 1
    moved = vectors.copy()
    moved[3] = vectors[1]  # a picture of 1 that looks like 0
    assert chapter.rank_one(moved, labels) == pytest.approx(2 / 3)


def test_open_set_perfect_and_blind(rng):
    labels = np.repeat(np.arange(20), 5)
    perfect = np.eye(20)[labels]
    assert chapter.open_set(perfect, labels) == 1
    blind = unit_rows(rng.normal(size=(100, 20)))
    assert chapter.open_set(blind, labels) < 0.1
    noisy = unit_rows(np.eye(20)[labels] + 0.4 * rng.normal(size=(100, 20)))
    strict, lax = (chapter.open_set(noisy, labels, far) for far in (0.01, 0.9))
    assert strict < lax - 0.1  # the threshold counts, not the name alone


def test_bootstrap_weights(crowd):
    pairs = chapter.by_distance(chapter.all_pairs(*crowd))
    far, tar = chapter.weighted_roc(pairs, np.ones(10, int))
    curve = metrics.verification_curve(pairs.distances, pairs.same)
    assert np.trapezoid(tar, far) == pytest.approx(curve.auc)
    # Someone who is not drawn counts for nothing: the ROC of the nine others.
    times = np.ones(10, int)
    times[3] = 0
    far, tar = chapter.weighted_roc(pairs, times)
    kept = crowd[1] != 3
    others = chapter.all_pairs(crowd[0][kept], crowd[1][kept])
    curve = metrics.verification_curve(others.distances, others.same)
    assert np.trapezoid(tar, far) == pytest.approx(curve.auc)
    # Twice: pairs with others count twice.
    times = np.ones(10, int)
    times[0] = 2
    far, _ = chapter.weighted_roc(pairs, times)
    both = (pairs.left == 0) | (pairs.right == 0)
    weight = np.where(pairs.same, 0, np.where(both, 2, 1))
    assert np.allclose(far[1:], np.cumsum(weight) / weight.sum())


def test_bootstrap_interval_holds_the_measure(crowd):
    pairs = chapter.all_pairs(*crowd)
    low, high = chapter.bootstrap(pairs)["auc"]
    auc = metrics.verification_curve(pairs.distances, pairs.same).auc
    assert low < auc < high
    shuffled = np.random.default_rng(1).permutation(len(pairs.same))
    assert chapter.bootstrap(chapter.Pairs(*(c[shuffled] for c in pairs)))["auc"] == [
        pytest.approx(low),
        pytest.approx(high),
    ]


def test_paired_interval():
    mean, half = chapter.paired([1.0, 2.0, 3.0])
    assert mean == 2
    assert half == pytest.approx(4.302653 / math.sqrt(3), rel=1e-5)
    assert chapter.paired([1.0, 2.0, 3.0], 0.75)[1] > half
    assert chapter.paired([1.0])[1] == math.inf
    assert chapter.beyond_noise([5.0, 5.1, 5.2], [1.0, 1.0, 1.0])
    assert not chapter.beyond_noise([1.0, 9.0, 2.0], [1.0, 1.0, 1.0])
    assert not chapter.beyond_noise([1.0, 1.0, 1.0], [5.0, 5.1, 5.2])


def test_alike_pairs_are_different_people(rng):
    images = rng.integers(256, size=(40, 8, 8, 1)).astype("uint8")
    labels = np.arange(40) // 4
    alike = chapter.alike_pairs(images, labels)
    pairs = chapter.all_pairs(chapter.pixel_vectors(images), labels)
    assert not (alike & pairs.same).any()
    assert alike.sum() == pytest.approx(0.1 * (~pairs.same).sum(), abs=2)
    rest = ~alike & ~pairs.same
    assert pairs.distances[alike].max() <= pairs.distances[rest].min()


def test_stacked():
    runs = [{"a": {"auc": 1}, "b": {"auc": 2}}, {"a": {"auc": 3}, "b": {"auc": 4}}]
    assert chapter.stacked(runs) == {"a": {"auc": [1, 3]}, "b": {"auc": [2, 4]}}


# --- The descriptor and the limits


def test_framed_crops_where_it_says():
    image = np.zeros((100, 50), "uint8")
    image[50:] = 255
    assert chapter.framed(image, (0, 0.6, 1, 1)).min() == 255
    assert chapter.framed(image, (0, 0, 1, 0.4)).max() == 0
    assert chapter.framed(image, (0, 0, 1, 1)).shape == (150, 150)


def test_euclidean_pairs(rng):
    vectors, labels = rng.normal(size=(12, 5)), np.arange(12) // 3
    pairs = chapter.euclidean_pairs(vectors, labels)
    i, j = np.triu_indices(12, 1)
    assert np.allclose(pairs.distances, np.linalg.norm(vectors[i] - vectors[j], axis=1))
    assert (pairs.same == (labels[i] == labels[j])).all()


def test_a_missing_descriptor_is_not_an_error(monkeypatch):
    assert chapter.descriptor_path() is None
    assert chapter.descriptor_run() == {}

    def missing(name):
        raise chapter.DataUnavailable("absent")

    monkeypatch.setattr(chapter, "datasets", SimpleNamespace(pretrained=missing))
    assert chapter.descriptor_path() is None


def test_balanced_and_unbalanced_have_as_many_images():
    balanced, other = chapter.shares(True), chapter.shares(False)
    assert balanced.sum() == other.sum()
    assert np.ptp(balanced) <= 1
    assert set(other) == {chapter.RARE, chapter.SHOTS}


def test_closed_accuracy_tells_frequent_from_rare(rng, monkeypatch):
    shots = chapter.SHOTS
    labels = np.repeat(np.arange(4), shots + 2)
    images = np.eye(4)[labels]
    kernel = np.eye(4)
    kernel[:, 1] = kernel[:, 0]  # person 1, a rare one, is taken for 0
    head = SimpleNamespace(kernel=kernel.astype("float32"))
    model = SimpleNamespace(get_layer={"head": head, "base": None}.get)
    monkeypatch.setattr(chapter, "embed", lambda _, x: x)
    found = chapter.closed_accuracy(model, (images, labels), cosine=False)
    assert found == {"frequent": 1.0, "rare": 0.5}


def test_head_cost():
    weights, work, memory, scores = chapter.head_cost(10**6)
    assert weights == work == 512_000_000
    assert memory == 4 * 4 * weights
    assert scores == 4 * 512 * 10**6


def test_exercise_tar():
    exercise = chapter.EXERCISE_TAR
    assert exercise.diagnose(chapter.tar_solution)
    for hint, wrong in exercise.mistakes.items():
        answer = exercise.diagnose(wrong)
        assert not answer
        assert hint in answer.message
    assert not exercise.diagnose(chapter.my_tar)
    for distances, same, far in exercise.cases():
        curve = metrics.verification_curve(distances, same)
        expected = curve.tar[curve.far <= far].max()
        assert chapter.tar_solution(distances, same, far) == pytest.approx(expected)
