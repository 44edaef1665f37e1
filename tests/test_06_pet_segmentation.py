"""The functions that chapter 06 writes."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import layers, ops

from tests.notebook import load

chapter = load("06_pet_segmentation")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def encoder():
    """MobileNetV2 with weights that tell its layers apart."""
    model = chapter.mobilenet_v2((32, 32, 3))
    chapter.randomise(model)
    return model


@pytest.fixture
def animals(monkeypatch):
    """Sixty small pictures of five breeds; the official part of some is not known."""
    rng = np.random.default_rng(1)
    n = 60
    breeds = np.array(["a"] * 25 + ["b"] * 25 + ["c"] * 5 + ["d"] * 4 + ["e"])
    part = np.array(["trainval", "test", ""])[np.arange(n) % 3]
    pets = SimpleNamespace(
        images=rng.integers(256, size=(n, 32, 32, 3)).astype("uint8"),
        masks=rng.integers(3, size=(n, 32, 32)).astype("uint8"),
        breeds=breeds,
        split=part,
        names=np.array([f"pet_{i}" for i in range(n)]),
    )
    monkeypatch.setattr(chapter, "pets", pets, raising=False)
    monkeypatch.setattr(chapter, "PARTS", chapter.split(), raising=False)
    return pets


# --- The networks


@pytest.mark.parametrize(
    ("convs", "expected"),
    [(3, [2_937_027, 2_931_395, 5_632]), (2, [2_058_979, 2_055_203, 3_776])],
)
def test_base_model_has_the_audited_size(convs, expected):
    model = chapter.xception_unet(convs_per_block=convs)
    assert chapter.counts(model) == expected
    assert model.output_shape == (None, 128, 128, 3)


def test_mobilenetv2_unet_has_the_audited_size():
    model = chapter.mobilenetv2_unet()
    assert chapter.counts(model) == [6_504_227, 6_471_395, 32_832]
    assert model.output_shape == (None, 128, 128, 3)
    chapter.set_free(model, chapter.Recipe(), frozen=True)
    assert chapter.counts(model) == [6_504_227, 4_660_323, 1_843_904]
    chapter.set_free(model, chapter.Recipe(fixed_statistics=True), frozen=False)
    assert chapter.counts(model)[2] > 32_832  # gains and offsets are fixed as well
    chapter.set_free(model, chapter.Recipe(momentum=0.9), frozen=False)
    assert model.get_layer("block_3_expand_BN").momentum == 0.9
    assert model.get_layer("up0_norm").momentum == 0.99


@pytest.mark.parametrize(
    ("builder", "side", "near"),
    [
        ("xception_unet", 100, "96 et 112"),
        ("xception_unet", 8, "16"),
        ("mobilenetv2_unet", 100, "96 et 128"),
        ("mobilenetv2_unet", 31, "32"),
    ],
)
def test_a_side_that_does_not_work_is_refused_with_its_neighbours(builder, side, near):
    with pytest.raises(ValueError, match=f"qui conviennent sont {near}\\."):
        getattr(chapter, builder)(input_shape=(64, side, 3))


@pytest.mark.parametrize("builder", ["xception_unet", "mobilenetv2_unet"])
def test_scores_become_probabilities(builder, rng):
    network, other = (
        getattr(chapter, builder)(input_shape=(32, 32, 3), scores=scores)
        for scores in (False, True)
    )
    last = network.layers[-1]
    assert other.layers[-1].activation is keras.activations.linear
    x = rng.normal(size=(1, 32, 32, 3)).astype("float32")
    maps, p = keras.Model(network.input, [last.input, last.output])(x)
    np.testing.assert_allclose(ops.convert_to_numpy(ops.sum(p, -1)), 1, atol=1e-5)
    last.activation = keras.activations.linear
    expected = ops.convert_to_numpy(ops.softmax(last(maps)))
    np.testing.assert_allclose(ops.convert_to_numpy(p), expected, atol=1e-6)


def test_without_connections_nothing_is_concatenated():
    model = chapter.mobilenetv2_unet(input_shape=(32, 32, 3), skips=False)
    assert not any(isinstance(c, layers.Concatenate) for c in model.layers)


def test_weights_of_a_model_reach_the_encoder(encoder, rng):
    model = chapter.mobilenetv2_unet(weights=encoder, input_shape=(32, 32, 3))
    x = rng.normal(size=(1, 32, 32, 3)).astype("float32")
    bottom = "block_16_project"  # where the document leaves the encoder
    ours, theirs = (
        ops.convert_to_numpy(keras.Model(m.input, m.get_layer(bottom).output)(x))
        for m in (model, encoder)
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_a_wrong_activation_would_be_seen(encoder, rng):
    """The comparison with Keras uses weights that tell ReLU6 from ReLU."""
    wrong = keras.models.clone_model(
        encoder,
        clone_function=lambda layer: (
            layers.ReLU(name=layer.name)
            if isinstance(layer, layers.ReLU)
            else layer.__class__.from_config(layer.get_config())
        ),
    )
    chapter.copy_weights(encoder, wrong)
    x = 3 * rng.normal(size=(1, 32, 32, 3)).astype("float32")
    right = encoder(x)
    gap = ops.max(ops.abs(right - wrong(x))) / ops.max(ops.abs(right))
    assert float(gap) > 1e-3


# --- The data


def test_parts_are_disjoint_and_follow_the_official_list(animals):
    parts = chapter.split()
    every = np.concatenate(list(parts.values()))
    assert sorted(every) == list(range(60))
    assert set(animals.split[parts["test"]]) <= {"test", ""}
    for name in ("train", "valid"):
        assert set(animals.split[parts[name]]) <= {"trainval", ""}
    assert np.isin(np.flatnonzero(animals.split == "test"), parts["test"]).all()


def test_rare_breeds_are_one_group(animals):
    assert set(chapter.strata(animals.breeds)) == {"a", "b", "autres"}


def test_pairs_are_scaled_and_repeat_with_their_seed(animals):
    x, y = chapter.pairs("train")
    assert x.dtype == "float32"
    assert (x.min(), x.max()) == (-1, 1)
    assert np.array_equal(y, animals.masks[chapter.PARTS["train"]])
    once, again, other = (
        chapter.pairs("train", chapter.augmented, [0, seed])[0] for seed in (1, 1, 2)
    )
    assert np.array_equal(once, again)
    assert not np.array_equal(once, other)


@pytest.mark.parametrize("seed", range(5))
def test_image_and_mask_move_together(seed):
    """The image is its own mask, one class per channel: both must tell the same story after."""
    rows, columns = np.indices((64, 64))
    mask = ((rows > 20).astype(int) + (columns > 35)).astype("uint8")
    image = np.eye(3, dtype="float32")[mask]
    image, mask = chapter.moved(image, mask, np.random.default_rng(seed))
    assert set(np.unique(mask)) <= {0, 1, 2}
    assert np.mean(image.argmax(axis=-1) == mask) > 0.98


def test_recolouring_keeps_the_range_and_the_place(rng):
    image = rng.uniform(-1, 1, (16, 16, 3)).astype("float32")
    new = chapter.recoloured(image, rng)
    assert new.dtype == "float32"
    assert np.abs(new).max() <= 1
    flat = chapter.recoloured(np.zeros((4, 4, 3), "float32"), rng)
    assert np.ptp(flat) == 0  # no pixel moves


# --- Training


def test_rate_rises_then_falls():
    recipe = chapter.Recipe(rate=2e-3, schedule=True)
    schedule = chapter.make_optimizer(recipe, steps=100)._learning_rate
    rates = [float(schedule(step)) for step in (0, 5, 10, 55, 100)]
    np.testing.assert_allclose(rates, [0, 1e-3, 2e-3, 1e-3, 0], atol=1e-7)


def test_optimizers_are_those_of_the_document():
    kinds = {"adam": keras.optimizers.Adam, "rmsprop": keras.optimizers.RMSprop}
    for name, kind in kinds.items():
        optimizer = chapter.make_optimizer(chapter.Recipe(name), 10)
        assert type(optimizer) is kind
        assert np.isclose(float(optimizer.learning_rate), 1e-3)
    decayed = chapter.make_optimizer(chapter.Recipe(weight_decay=0.01), 10)
    assert isinstance(decayed, keras.optimizers.AdamW)


def test_reactive_model_forgets_fast_everywhere():
    norms = chapter.normalisations(chapter.reactive_model())
    assert len(norms) == 54  # 50 of the encoder, without its last, and 4 of the decoder
    assert {norm.momentum for norm in norms} == {0.9}


def test_draws_are_declared_and_repeat():
    recipes = chapter.drawn(20)
    assert recipes == chapter.drawn(20)
    assert all(2e-4 <= recipe.rate <= 5e-3 for recipe in recipes)
    assert {recipe.weight_decay for recipe in recipes} == {0.0, 0.01}


def test_steps_add_up():
    recipes = list(
        chapter.cumulated({"a": {"rate": 1.0}, "b": {"augment": True}}).values()
    )
    assert [(r.rate, r.augment) for r in recipes] == [(1.0, False), (1.0, True)]


def small_model():
    """Two layers named as an encoder and a decoder."""
    inputs = keras.Input((32, 32, 3))
    x = layers.Conv2D(4, 3, padding="same", name="Conv1")(inputs)
    x = layers.BatchNormalization(momentum=0.999, name="bn_Conv1")(x)
    outputs = layers.Conv2D(3, 1, name="up_scores")(x)
    return keras.Model(inputs, outputs)


def test_trained_goes_through_both_phases(animals, monkeypatch):
    monkeypatch.setattr(chapter, "EAGER", False)
    seen = []

    class Watch(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            seen.append(self.model.get_layer("Conv1").trainable)

    recipe = chapter.Recipe(epochs=3, frozen_epochs=1, augment=True, schedule=True)
    model, curves = chapter.trained(small_model, recipe, callbacks=[Watch()])
    assert seen == [False, True, True]
    assert set(curves) == {"accuracy", "loss", "val_accuracy", "val_loss"}
    assert {len(values) for values in curves.values()} == {3}


def test_recomputed_statistics_are_those_of_the_images(animals, monkeypatch):
    monkeypatch.setattr(chapter, "BATCH", 5)
    model = small_model()
    norm = model.get_layer("bn_Conv1")
    chapter.recomputed(model)
    assert norm.momentum == 0.999
    x, _ = chapter.pairs("train")
    maps = ops.convert_to_numpy(model.get_layer("Conv1")(x))
    parts = np.array_split(maps, -(-len(x) // 5))
    mean = np.mean([part.mean(axis=(0, 1, 2)) for part in parts], axis=0)
    variance = np.mean([part.var(axis=(0, 1, 2)) for part in parts], axis=0)
    np.testing.assert_allclose(
        ops.convert_to_numpy(norm.moving_mean), mean, rtol=1e-3, atol=1e-4
    )
    np.testing.assert_allclose(
        ops.convert_to_numpy(norm.moving_variance), variance, rtol=1e-3
    )


def test_snapshots_keep_the_best_of_each_criterion(monkeypatch):
    found = [
        {"loss": 1.0, "accuracy": 0.6, "mean_iou": 0.2},
        {"loss": 0.5, "accuracy": 0.7, "mean_iou": 0.5},
        {"loss": 0.8, "accuracy": 0.8, "mean_iou": 0.4},
    ]
    monkeypatch.setattr(chapter, "CRITERIA", dict.fromkeys(found[0]))
    results = iter([*found, "a", "b", "c"])
    monkeypatch.setattr(chapter, "measured", lambda model, part="test": next(results))
    model = small_model()
    snapshots = chapter.Snapshots()
    snapshots.set_model(model)
    for epoch in range(3):
        model.get_layer("up_scores").bias.assign([epoch] * 3)
        snapshots.on_epoch_end(epoch)
    epochs = {name: kept["epoch"] for name, kept in snapshots.choices(model).items()}
    assert epochs == {"loss": 2, "accuracy": 3, "mean_iou": 2}
    assert np.allclose(model.get_layer("up_scores").bias, 1)  # set to the last choice


# --- Measures


def test_a_perfect_answer_has_every_mark(rng):
    y = rng.integers(3, size=(2, 16, 16)).astype("uint8")
    found = chapter.score(np.eye(3)[y], y)
    assert found["accuracy"] == found["mean_iou"] == found["boundary"] == 1
    assert np.allclose(found["iou"], 1)
    assert np.isclose(found["loss"], 0)


def test_score_on_a_case_done_by_hand():
    y = np.array([[[0, 0], [1, 2]]])
    p = np.zeros((1, 2, 2, 3)) + 0.1
    p[0, 0, :, 0] = p[0, 1, 0, 1] = p[0, 1, 1, 1] = 0.8  # the last one is wrong
    found = chapter.score(p, y)
    assert found["accuracy"] == 0.75
    assert np.allclose(found["iou"], [1, 0.5, 0])
    assert np.isclose(found["loss"], -(3 * np.log(0.8) + np.log(0.1)) / 4)
    assert np.isclose(found["confidence"], 0.8)


def test_reliability_of_a_forecaster_that_knows_its_chances(rng):
    p = rng.dirichlet([1, 1, 1], size=(1, 200, 200))
    y = (p.cumsum(axis=-1) < rng.random((1, 200, 200, 1))).sum(axis=-1)
    found = chapter.reliability(p, y)
    assert np.isclose(found["share"].sum(), 1)
    assert found["error"] < 0.01
    sure = chapter.reliability(chapter.tempered(p, 0.3), y)
    assert sure["error"] > 0.1


def test_temperature_undoes_what_a_temperature_did(rng):
    p = rng.dirichlet([1, 1, 1], size=(1, 200, 200))
    y = (p.cumsum(axis=-1) < rng.random((1, 200, 200, 1))).sum(axis=-1)
    np.testing.assert_allclose(chapter.tempered(p, 1.0), p, atol=1e-6)
    assert abs(chapter.best_temperature(chapter.tempered(p, 0.5), y) - 2) < 0.1


def test_worst_images_come_first(animals, monkeypatch):
    y = np.zeros((3, 8, 8), "uint8")
    y[:, :4] = 1
    found = y.copy()
    found[1, 4:, :6] = 1  # misses three quarters of the animal
    found[2, 4:, :2] = 1
    monkeypatch.setitem(chapter.PARTS, "test", np.array([7, 8, 9]))
    result = chapter.worst(np.eye(3)[found], y, n=2)
    assert list(result["names"]) == ["pet_8", "pet_9"]
    assert np.allclose(result["each"], [1, 0.25, 0.75])


def test_maps_survive_storage(rng):
    maps = rng.integers(3, size=(2, 5, 4))
    for stored, one in zip(chapter.as_digits(maps), maps, strict=True):
        assert np.array_equal(chapter.as_map(stored), one)


def test_activations_count_every_map():
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, layers.Conv2D(4, 3, strides=2, padding="same")(inputs))
    assert chapter.activations(model) == 4 * (8 * 8 * 3 + 4 * 4 * 4)


def test_a_duration_leaves_out_the_first_call(monkeypatch):
    monkeypatch.setattr(chapter, "REPEATS", 3)
    clock = iter([0, 100, 100, 101, 101, 103, 103, 106])  # calls of 100, 1, 2 and 3
    monkeypatch.setattr(chapter.time, "perf_counter", lambda: next(clock))
    assert chapter.seconds(lambda: None) == 2
