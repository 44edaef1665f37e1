"""The functions of chapter 08 on transfer."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import layers, ops

from tests.notebook import load
from utils.downloads import DataUnavailable

chapter = load("08_efficientnet_b4")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def small_base(side=16):
    """A base of two blocks, named as the real one where it is cut."""
    x = inputs = keras.Input((side, side, 3))
    x = layers.Conv2D(4, 3, 2, padding="same", name="stem_conv")(x)
    x = layers.BatchNormalization(name="stem_bn")(x)
    x = layers.Activation("relu", name=chapter.CUT)(x)
    x = layers.Conv2D(chapter.FEATURES, 1, name="top_conv")(x)
    x = layers.BatchNormalization(name="top_bn")(x)
    x = layers.Activation("relu", name="top_activation")(x)
    return keras.Model(inputs, x)


@pytest.fixture
def base(monkeypatch):
    """A small base in the place of the learned one; nothing stays in the caches."""
    caches = (chapter.halves, chapter.feature_reader)
    keras.utils.set_random_seed(0)
    model = small_base()
    found = (model, chapter.lite_scale)
    monkeypatch.setattr(chapter, "learned_backbone", lambda side: found)
    for one in caches:
        one.cache_clear()
    yield model
    for one in caches:
        one.cache_clear()


# --- The learned network and its input


def test_lite_scale_centres_bytes():
    found = chapter.lite_scale(np.array([0, 127, 255], "uint8"))
    np.testing.assert_allclose(found, [-127 / 128, 0, 1])


def test_backbone_keeps_names_and_shapes():
    model, prepare = chapter.learned_backbone(32)
    assert model.output_shape == (None, 1, 1, chapter.FEATURES)
    for stage in "2346":
        assert model.get_layer(f"block{stage}a_expand_activation")
    assert prepare is chapter.lite_scale


def entrance(correction=None):
    """The first layers of EfficientNet as Keras writes them, and one convolution."""
    x = inputs = keras.Input((8, 8, 3))
    x = layers.Rescaling(1 / 255)(x)
    x = layers.Normalization(name="normalization")(x)
    if correction:
        x = layers.Rescaling(correction)(x)
    return keras.Model(inputs, layers.Conv2D(2, 1)(x))


def test_backbone_from_keras_gives_its_outputs(monkeypatch, rng):
    """With ImageNet weights Keras adds a layer, which corrects the normalisation."""
    deviation = np.array([0.229, 0.224, 0.225])
    published, ours = entrance(list(deviation**-0.5)), entrance()
    norm = published.get_layer("normalization")
    norm.adapt_mean.assign([0.485, 0.456, 0.406])
    norm.adapt_variance.assign(deviation)
    norm.finalize_state()

    def missing(name):
        raise DataUnavailable(name)

    monkeypatch.setattr(chapter.datasets, "pretrained", missing)
    monkeypatch.setattr(
        keras.applications, "EfficientNetB0", lambda include_top: published
    )
    monkeypatch.setattr(chapter, "efficientnet", lambda variant, side, top: ours)
    model, prepare = chapter.learned_backbone(8)
    assert prepare is chapter.to_float
    x = rng.uniform(0, 255, (2, 8, 8, 3)).astype("float32")
    kernel, bias = published.layers[-1].get_weights()
    expected = (x / 255 - [0.485, 0.456, 0.406]) / deviation @ kernel[0, 0] + bias
    for network in (published, model):
        assert chapter.relative_gap(expected, network(x)) < 1e-3


def test_backbone_says_what_is_missing_without_internet(monkeypatch):
    def missing(name):
        raise DataUnavailable(name)

    def offline(**options):
        raise OSError("URL fetch failure")

    monkeypatch.setattr(chapter.datasets, "pretrained", missing)
    monkeypatch.setattr(keras.applications, "EfficientNetB0", offline)
    monkeypatch.setattr(chapter, "efficientnet", lambda variant, side, top: None)
    with pytest.raises(DataUnavailable):
        chapter.learned_backbone(8)


# --- Splits and probes


def test_pet_task_is_a_partition_with_equal_shares():
    labels = np.repeat([0, 1, 2], 40)
    task = chapter.pet_task(np.arange(120) + 7, labels)
    parts = np.concatenate([task.train, task.valid, task.test])
    assert sorted(parts) == list(range(120))
    assert [len(part) for part in task[2:]] == [60, 18, 42]
    for part in task[2:]:
        assert len(set(np.bincount(labels[part]))) == 1
    assert task.classes == 3


@pytest.mark.parametrize("fewest", [1, 12])
def test_breed_task_falls_back_on_species(monkeypatch, fewest):
    """A small sample of the official archive has about one photograph of each breed."""
    counts = [fewest, 12, 12, 6, 6]
    breeds = np.repeat([*chapter.BREEDS, "pug", "Birman"], counts)
    species = np.isin(breeds, ["pug", "american_bulldog"]).astype(int)
    found = SimpleNamespace(breeds=breeds, species=species)
    monkeypatch.setattr(chapter, "pets", found, raising=False)
    task = chapter.breed_task()
    assert task.classes == (2 if fewest == 1 else 3)
    assert len(task.rows) == (37 if fewest == 1 else 36)
    if fewest > 1:
        assert set(breeds[task.rows]) == set(chapter.BREEDS)


def test_probed_learns_on_train_and_judges_on_test():
    labels = np.repeat([0, 1], 40)
    task = chapter.pet_task(np.arange(80), labels)
    x = np.column_stack([labels, 1 - labels]).astype(float)
    assert chapter.probed(x, task) == 1
    x[task.train] = 1 - x[task.train]  # learned the wrong way round
    assert chapter.probed(x, task) == 0


def test_with_interval_writes_wilson():
    assert chapter.with_interval(0.9, 100).replace("\xa0", " ") == "90 % (83 à 94)"


def test_few_rows_takes_as_many_of_each_class(rng):
    labels = np.repeat([0, 1, 2], [30, 10, 5])
    rows = chapter.few_rows(labels, 4, rng)
    assert len(set(rows)) == 12
    assert list(np.bincount(labels[rows])) == [4, 4, 4]


def test_at_shots_reads_the_right_column():
    curves = {"Lite0, ImageNet": [[0.5, 0.9], [0.7, 0.8]], "pixels": [[0.4, 0.6]]}
    found = {"shots": [1, 10], "races": curves}
    ten = chapter.at_shots(found, 10, "races")
    assert ten == pytest.approx({"Lite0, ImageNet": 0.85, "pixels": 0.6})
    assert chapter.at_shots(found, 1, "races")["pixels"] == pytest.approx(0.4)


def test_across_breeds_never_judges_a_breed_it_learned(rng):
    """Each breed has its own mark, and half of each species: only the mark could help."""
    breeds = np.repeat(np.arange(10), 6)
    x = np.eye(10)[breeds]
    y = breeds % 2
    assert chapter.across_breeds(x, y, breeds.astype(str)) < 0.7
    assert chapter.across_breeds(x, y, np.array(["a", "b"])[y]) > 0.9  # too few breeds


# --- Preparations


def test_preparations_differ_as_they_say():
    images = np.full((1, 2, 2, 3), 200, "uint8")
    ready = chapter.preparations(chapter.lite_scale)
    assert ready["la bonne"](images).max() == pytest.approx((200 - 127) / 128)
    twice = ready["divisée par 255 avant"](images).max()
    assert twice == pytest.approx((200 / 255 - 127) / 128)
    assert ready["oubliée"](images).max() == 200


# --- Two phases


def test_both_halves_make_the_whole(base, rng):
    images = rng.integers(256, size=(3, 16, 16, 3)).astype("uint8")
    _, tail, _ = chapter.halves()
    found, expected = tail(chapter.front_maps(images)), base(chapter.lite_scale(images))
    assert chapter.relative_gap(expected, found) < 1e-3


@pytest.mark.parametrize("free", [False, True])
def test_statistics_move_only_when_free(base, rng, free):
    x = rng.normal(1, 2, (12, 8, 8, 4)).astype("float32")
    y = np.arange(12) % 2
    model, _ = chapter.first_phase(x, y, (x, y), 2)
    tail = model.layers[1]
    before = [np.array(w) for w in tail.get_weights()]
    original = chapter.halves()[1].get_weights()
    assert all(map(np.array_equal, before, original))  # the first phase: head only
    chapter.second_phase(model, x, y, (x, y), free, epochs=1)
    norm = ops.convert_to_numpy(tail.get_layer("top_bn").moving_mean)
    assert np.any(norm) == free  # the mean of the base is still zero
    kernel = ops.convert_to_numpy(tail.get_layer("top_conv").kernel)
    assert not np.array_equal(kernel, before[0])
    assert all(map(np.array_equal, original, chapter.halves()[1].get_weights()))


def test_document_head_has_1024_units():
    head = chapter.new_head(10, chapter.HEADS["du document"])
    assert head.count_params() == (1280 + 1) * 1024 + (1024 + 1) * 10
    assert chapter.new_head(10).count_params() == 1281 * 10


# --- Precision


def test_policy_is_restored_even_after_an_error():
    def build():
        assert keras.config.dtype_policy().name == "mixed_float16"
        raise RuntimeError

    with pytest.raises(RuntimeError):
        chapter.under_policy("mixed_float16", build)
    assert keras.config.dtype_policy().name == "float32"


def test_activation_bytes_of_a_known_network():
    inputs = keras.Input((4, 4, 3))
    model = keras.Model(inputs, layers.Conv2D(2, 1)(inputs))
    assert chapter.activation_bytes(model) == 4 * 4 * 2 * 4


# --- Garments, views, corruptions


def test_enlarged_keeps_greys():
    images = np.zeros((1, 28, 28), "uint8")
    images[:, 14:] = 200
    found = chapter.enlarged(images, 56)
    assert found.shape == (1, 56, 56, 3)
    assert found[0, 0, 0].tolist() == [0, 0, 0]
    assert found[0, -1, 0].tolist() == [200, 200, 200]


def test_views_keep_labels_in_order(monkeypatch):
    monkeypatch.setattr(chapter, "COPIES", 2)
    monkeypatch.setattr(chapter, "augmented", lambda images, seed: images + seed + 1)
    images, labels = np.arange(3.0), np.array([5, 6, 7])
    more, answers = chapter.with_views(images, labels, seed=0)
    assert more.tolist() == [0, 1, 2, 1, 2, 3, 11, 12, 13]
    assert answers.tolist() == [5, 6, 7] * 3


def test_augmented_changes_images_within_range(rng):
    images = rng.integers(256, size=(2, 16, 16, 3)).astype("uint8")
    first, same, other = (chapter.augmented(images, seed) for seed in (0, 0, 50))
    assert first.shape == images.shape
    np.testing.assert_allclose(first, same)
    assert not np.allclose(first, other)
    assert first.min() >= 0
    assert first.max() <= 255


def test_corruptions(rng):
    images = rng.integers(256, size=(2, 8, 8, 3)).astype("uint8")
    assert np.array_equal(chapter.inverted(images), 255.0 - images)
    grey = chapter.greyed(images)
    assert np.ptp(grey, axis=-1).max() == 0
    assert grey[0, 0, 0, 0] == pytest.approx(images[0, 0, 0].mean())
    soft = chapter.blurred(images)
    assert soft[0].std() < images[0].std()
    flat = np.stack([np.zeros((8, 8, 3)), np.full((8, 8, 3), 200)]).astype("uint8")
    assert np.ptp(chapter.blurred(flat), axis=(1, 2, 3)).max() == 0  # images not mixed
    noise = chapter.noisy(images)
    assert 0 <= noise.min() <= noise.max() <= 255


def test_restated_statistics_are_those_of_the_images(rng):
    model = small_base()
    x = rng.normal(3, 2, (64, 16, 16, 3)).astype("float32")
    found = chapter.restated(model, x)
    stem = keras.Model(model.input, model.get_layer("stem_conv").output)
    expected = ops.convert_to_numpy(stem(x)).mean(axis=(0, 1, 2))
    moved = ops.convert_to_numpy(found.get_layer("stem_bn").moving_mean)
    np.testing.assert_allclose(moved, expected, atol=1e-3)
    assert not np.any(ops.convert_to_numpy(model.get_layer("stem_bn").moving_mean))


def test_worst_and_recovered():
    rows = {
        "aucune": {"before": 0.9, "head": 0.9},
        "gris": {"before": 0.88, "head": 0.5},
        "bruit": {"before": 0.5, "head": 0.7},
    }
    name, lost = chapter.worst({"rows": rows})
    assert name == "bruit"
    assert lost == pytest.approx(0.4)
    assert chapter.recovered({"rows": rows}) == pytest.approx(0.2)
    del rows["bruit"]
    assert chapter.recovered({"rows": rows}) is None


# --- Exercise


def test_freed_layers_exercise():
    exercise = chapter.EXERCISE_FREED
    assert exercise.diagnose(chapter.freed_layers_solution)
    assert not exercise.diagnose(chapter.my_freed_layers)
    for hint, wrong in exercise.mistakes.items():
        assert exercise.diagnose(wrong).message == hint
