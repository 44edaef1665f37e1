"""The stand-ins: deterministic, of the promised shape, true to their labels, and learnable."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import layers, ops
from scipy import ndimage
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from utils import synthetic
from utils.drawn_faces import Face, draw

MAKERS = {
    "garments": lambda seed: synthetic.garments(seed),
    "pets": lambda seed: synthetic.pets(3, 64, seed),
    "membranes": lambda seed: synthetic.membranes(2, 96, seed),
    "faces": lambda seed: synthetic.faces(6, seed),
    "identities": lambda seed: synthetic.identities(3, 2, seed),
}
NAMES = list(synthetic.RATES)
PLAIN = Face(
    identity=5,
    scene=3,
    woman=True,
    hair="brown",
    long_hair=False,
    glasses=False,
    beard=False,
    skin=1,
)


@pytest.fixture
def undrawn(monkeypatch):
    """`faces` without its drawing: thousands of attributes in no time."""
    monkeypatch.setattr(
        synthetic, "draw", lambda spec, size: np.zeros((1, 1, 3), dtype="uint8")
    )


def close(share: float, rate: float, n: int) -> bool:
    """Whether a share of n draws is compatible with a rate: four standard deviations."""
    return abs(share - rate) <= 4 * np.sqrt(rate * (1 - rate) / n) + 1e-12


def changed(one: Face, other: Face) -> np.ndarray:
    """Where two drawn faces differ: bool (80, 80)."""
    return (np.abs(draw(one).astype(int) - draw(other)) > 3).any(axis=-1)


# --- Determinism and shapes ---------------------------------------------------------------------


@pytest.mark.parametrize("name", MAKERS)
def test_same_seed_same_data_other_seed_other_data(name):
    np.random.seed(0)
    before = np.random.get_state()[1].copy()
    first, again, other = (MAKERS[name](seed) for seed in (0, 0, 1))
    assert np.array_equal(np.random.get_state()[1], before), (
        "the global random state was used"
    )
    assert len(first[0]) == len(other[0])
    assert not np.array_equal(first[0], other[0])
    for field, values in first._asdict().items():
        repeated = getattr(again, field)
        if isinstance(values, dict):
            assert values.keys() == repeated.keys()
            assert all(np.array_equal(values[key], repeated[key]) for key in values), (
                field
            )
        else:
            assert np.array_equal(values, repeated), field


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("garments", (1400, 28, 28)),
        ("pets", (3, 64, 64, 3)),
        ("membranes", (2, 96, 96)),
        ("faces", (6, 80, 80, 3)),
        ("identities", (6, 112, 92)),
    ],
)
def test_images_have_the_shape_and_type_of_the_real_ones(name, shape):
    images = MAKERS[name](0)[0]
    assert images.shape == shape
    assert images.dtype == np.uint8
    assert images.flags.c_contiguous
    assert images.min() < 60
    assert images.max() > 180


def test_a_longer_set_starts_with_the_shorter_one():
    assert np.array_equal(
        synthetic.pets(3, 48).images, synthetic.pets(5, 48).images[:3]
    )
    assert np.array_equal(
        synthetic.membranes(1, 96).labels, synthetic.membranes(2, 96).labels[:1]
    )


# --- Ground truth -------------------------------------------------------------------------------


def test_garments_split_is_stratified_and_shares_no_image():
    data = synthetic.garments()
    train, test = (
        {image.tobytes() for image in part} for part in (data.x_train, data.x_test)
    )
    assert len(train) == 1400
    assert len(test) == 397
    assert not train & test
    assert data.y_train.dtype == data.y_test.dtype == np.int64
    per_class = np.bincount(data.y_train), np.bincount(data.y_test)
    assert np.allclose(per_class[0] / 1400, per_class[1] / 397, atol=0.005)


def test_pet_trimap_border_surrounds_the_pet_and_the_box_holds_it():
    data = synthetic.pets(20, 96, seed=3)
    assert set(np.unique(data.species)) == {0, 1}
    for trimap, (x_min, y_min, x_max, y_max) in zip(
        data.trimaps, data.boxes, strict=True
    ):
        pet, background = trimap == 0, trimap == 1
        assert set(np.unique(trimap)) == {0, 1, 2}
        assert 0.04 < pet.mean() < 0.6
        assert not (ndimage.binary_dilation(pet, iterations=2) & background).any()
        # The outline is in the middle of the band: the pet is well inside the box, the outer half
        # of the band out of it, except where the edge of the picture cuts the animal.
        rows, columns = np.nonzero(pet)
        assert x_min + 2 <= columns.min() or x_min == 0
        assert y_min + 2 <= rows.min() or y_min == 0
        assert columns.max() + 1 <= x_max - 2 or x_max == 96
        assert rows.max() + 1 <= y_max - 2 or y_max == 96
        rows, columns = np.nonzero(~background)
        outer = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        expected = np.clip([x_min - 2, y_min - 2, x_max + 2, y_max + 2], 0, 96)
        assert np.array_equal(outer, expected)


def test_membranes_are_dark_lines_and_organelles_are_dark_too():
    data = synthetic.membranes(3, 192, seed=1)
    for image, label in zip(data.images, data.labels, strict=True):
        assert set(np.unique(label)) == {0, 255}
        assert 0.1 < (label == 0).mean() < 0.35
        assert image[label == 255].mean() - image[label == 0].mean() > 35
        far = ndimage.distance_transform_edt(label) > 6  # well inside the cells
        smooth = ndimage.gaussian_filter(image.astype(float), 1)
        organelles = far & (smooth < np.median(smooth[label == 0]) + 10)
        assert organelles.sum() > 40
        depth = ndimage.distance_transform_edt(label == 0)
        assert np.percentile(depth[label == 0], 95) < 8, "blobs rather than lines"


@pytest.mark.parametrize("skin", range(6))
def test_glasses_change_the_pixels_around_the_eyes_and_no_others(skin):
    """And are as visible on every skin, with every frame (three, by the scene)."""
    for scene in range(3):
        bare = replace(PLAIN, scene=scene, skin=skin)
        worn = replace(bare, glasses=True)
        rows, columns = np.nonzero(changed(bare, worn))
        assert rows.min() >= 30
        assert rows.max() <= 50
        assert columns.min() >= 18
        assert columns.max() <= 62
        difference = np.abs(draw(bare).astype(int) - draw(worn)).max(axis=-1)
        assert (difference > 40).sum() > 90


def test_a_beard_changes_the_lower_face_and_hair_the_rest_of_the_head():
    rows, _ = np.nonzero(changed(PLAIN, replace(PLAIN, beard=True)))
    assert len(rows) > 200
    assert rows.min() >= 38
    rows, _ = np.nonzero(changed(PLAIN, replace(PLAIN, hair="blond")))
    assert (rows < 30).sum() > 300
    where = changed(PLAIN, replace(PLAIN, long_hair=True))
    assert where[45:, :24].sum() > 60
    assert where[45:, 56:].sum() > 60
    assert where[45:, 32:48].sum() < 20
    assert changed(PLAIN, replace(PLAIN, woman=False))[50:60, 30:50].any()  # lips


def test_light_skin_and_pose_do_what_they_say():
    def mean(face, columns):
        return draw(face)[30:60, columns].mean()

    left, right = slice(24, 38), slice(42, 56)
    assert (
        mean(replace(PLAIN, light=-1.0), left)
        > mean(replace(PLAIN, light=-1.0), right) + 30
    )
    assert (
        mean(replace(PLAIN, light=1.0), right)
        > mean(replace(PLAIN, light=1.0), left) + 30
    )
    tones = [mean(replace(PLAIN, skin=k), slice(30, 50)) for k in range(6)]
    assert np.all(np.diff(tones) < -5)
    lips = [
        np.nonzero(
            changed(replace(PLAIN, yaw=yaw), replace(PLAIN, yaw=yaw, woman=False))[
                52:62
            ]
        )
        for yaw in (-0.4, 0.4)
    ]
    assert lips[1][1].mean() - lips[0][1].mean() > 6


def test_an_identity_keeps_its_face_in_other_scenes():
    """The same person in another scene is nearer than another person in the same scene."""
    centre = np.s_[28:60, 25:55]
    same, different = [], []
    for k in range(8):
        face = replace(PLAIN, identity=k)
        picture = draw(face)[centre].astype(float)
        same.append(np.abs(picture - draw(replace(face, scene=k + 50))[centre]).mean())
        different.append(
            np.abs(picture - draw(replace(face, identity=k + 50))[centre]).mean()
        )
    assert max(same) < min(different)
    shared = synthetic.faces(40, people=4)
    assert len(set(shared.attributes["identity"])) == 4
    assert len(set(synthetic.faces(40).attributes["identity"])) == 40


def test_attributes_describe_what_was_drawn():
    data = synthetic.faces(12, seed=4, noise={"beard": 0.5})
    for i, spec in enumerate(data.specs):
        assert np.array_equal(data.images[i], draw(spec))
        assert all(
            data.attributes[name][i] == value for name, value in vars(spec).items()
        )
        assert data.attributes["blond"][i] == (spec.hair == "blond")


# --- Bias and noise of the faces ----------------------------------------------------------------


def test_factors_are_independent_by_default(undrawn):
    draws = [synthetic.faces(4000, seed).attributes for seed in range(6)]
    truth = {name: np.concatenate([draw[name] for draw in draws]) for name in draws[0]}
    n = len(truth["woman"])
    for name, rate in synthetic.RATES.items():
        assert close(truth[name].mean(), rate, n), name
    numbers = [*NAMES, "skin", "light", "exposure", "yaw", "pitch", "roll", "smile"]
    table = np.stack([truth[name].astype(float) for name in numbers])
    between = np.corrcoef(table)[np.triu_indices(len(numbers), 1)]
    assert np.abs(between).max() < 4 / np.sqrt(n)


def test_rates_tie_an_attribute_to_the_style_and_nothing_else(undrawn):
    n = 4000
    rates = {"woman": 0.6, "blond": (0.8, 0.1), "glasses": 0.05}
    truth = synthetic.faces(n, seed=2, rates=rates).attributes
    woman = truth["woman"]
    assert close(woman.mean(), 0.6, n)
    assert close(truth["blond"][woman].mean(), 0.8, woman.sum())
    assert close(truth["blond"][~woman].mean(), 0.1, (~woman).sum())
    assert close(truth["glasses"].mean(), 0.05, n)
    plain = synthetic.faces(n, seed=2).attributes
    for name in truth.keys() - {"woman", "blond", "glasses", "hair"}:
        assert np.array_equal(truth[name], plain[name]), name


def test_noise_flips_the_labels_asked_and_only_those(undrawn):
    n = 4000
    data = synthetic.faces(n, seed=2, noise={"glasses": 0.2, "blond": (0.3, 0.0)})
    wrong = {name: data.labels[name] != data.attributes[name] for name in NAMES}
    woman = data.attributes["woman"]
    assert close(wrong["glasses"].mean(), 0.2, n)
    assert close(wrong["glasses"][data.attributes["glasses"]].mean(), 0.2, n * 0.3)
    assert close(wrong["blond"][woman].mean(), 0.3, woman.sum())
    assert not wrong["blond"][~woman].any()
    assert not any(wrong[name].any() for name in ("woman", "long_hair", "beard"))
    clean = synthetic.faces(n, seed=2)
    assert all(
        np.array_equal(clean.labels[name], data.attributes[name]) for name in NAMES
    )


@pytest.mark.parametrize(
    ("controls", "message"),
    [
        ({"rates": {"moustache": 0.1}}, "inconnu : moustache"),
        ({"noise": {"skin": 0.1}}, "inconnu : skin"),
        ({"rates": {"blond": 1.2}}, "entre 0 et 1"),
        ({"noise": {"blond": (0.1, -0.1)}}, "entre 0 et 1"),
        ({"rates": {"woman": (0.4, 0.6)}}, "woman"),
    ],
)
def test_impossible_controls_are_refused(controls, message):
    with pytest.raises(ValueError, match=message):
        synthetic.faces(2, **controls)


# --- Learnable: the smallest model of the chapter finds what there is to find ---------------------


def iou(truth: np.ndarray, guess: np.ndarray) -> float:
    return (truth & guess).sum() / (truth | guess).sum()


def pixel_network(side: int, channels: int, classes: int) -> keras.Model:
    """A small encoder and decoder with one skip connection, linear outputs."""

    def convolution(x, filters, dilation=1):
        x = layers.Conv2D(
            filters=filters,
            kernel_size=3,
            dilation_rate=dilation,
            padding="same",
            use_bias=False,
        )(x)
        return layers.ReLU()(layers.BatchNormalization(momentum=0.8)(x))

    x = inputs = keras.Input(shape=(side, side, channels))
    x = layers.Rescaling(1 / 127.5, offset=-1)(x)
    x = skip = convolution(x, 8)
    x = convolution(layers.MaxPooling2D()(x), 24)
    x = convolution(layers.MaxPooling2D()(x), 32)
    x = convolution(x, 32, dilation=2)
    x = layers.Conv2D(filters=8, kernel_size=1)(x)
    x = layers.Concatenate()([layers.UpSampling2D(size=4)(x), skip])
    x = convolution(x, 8)
    x = layers.Conv2D(filters=classes, kernel_size=1)(x)
    model = keras.Model(inputs=inputs, outputs=x)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.Adam(4e-3), loss=loss)
    return model


def test_garments_are_learnt_by_a_siamese_network():
    keras.utils.set_random_seed(0)
    data = synthetic.garments()
    rng = np.random.default_rng(0)

    def pairs(images, labels, n):
        a, b = rng.integers(len(labels), size=(2, n))
        match = [rng.choice(np.flatnonzero(labels == labels[i])) for i in a[: n // 2]]
        b[: n // 2] = match
        x = images.reshape(len(images), -1) / 255
        return [x[a], x[b]], (labels[a] == labels[b]).astype("float32")[:, None]

    base = keras.Sequential(
        [layers.Dense(units=64, activation="relu") for _ in range(2)]
    )
    left, right = keras.Input(shape=(784,)), keras.Input(shape=(784,))
    squared = ops.sum(ops.square(base(left) - base(right)), axis=1, keepdims=True)
    model = keras.Model([left, right], ops.sqrt(ops.maximum(squared, 1e-7)))

    def contrastive(y, d):
        return ops.mean(y * ops.square(d) + (1 - y) * ops.square(ops.maximum(1 - d, 0)))

    model.compile(optimizer="rmsprop", loss=contrastive)
    model.fit(
        *pairs(data.x_train, data.y_train, 6000), batch_size=128, epochs=4, verbose=0
    )
    x, same = pairs(data.x_test, data.y_test, 1500)
    raw = np.linalg.norm(x[0] - x[1], axis=1)
    learnt = roc_auc_score(same, -model.predict(x, verbose=0))
    assert learnt > 0.93
    assert learnt > roc_auc_score(same, -raw) + 0.02


def test_pets_are_found_better_than_by_their_usual_place():
    keras.utils.set_random_seed(0)
    data = synthetic.pets(300, size=64)
    train, test = slice(0, 240), slice(240, None)
    model = pixel_network(64, channels=3, classes=3)
    model.fit(
        data.images[train], data.trimaps[train], batch_size=16, epochs=3, verbose=0
    )
    guess = ops.convert_to_numpy(model.predict(data.images[test], verbose=0)).argmax(
        axis=-1
    )
    pet = data.trimaps == 0
    place = np.broadcast_to(pet[train].mean(axis=0) > 0.4, guess.shape)
    assert iou(pet[test], guess == 0) > iou(pet[test], place) + 0.12


def test_membranes_are_found_better_than_by_a_threshold():
    keras.utils.set_random_seed(0)
    data = synthetic.membranes(60, size=96)
    train, test = slice(0, 48), slice(48, None)
    wall = data.labels == 0
    model = pixel_network(96, channels=1, classes=2)
    model.fit(
        data.images[train, ..., None], wall[train], batch_size=4, epochs=8, verbose=0
    )
    guess = model.predict(data.images[test, ..., None], verbose=0).argmax(axis=-1) == 1
    smooth = ndimage.gaussian_filter(data.images[test].astype(float), (0, 1, 1))
    best = max(iou(wall[test], smooth < level) for level in range(80, 140, 4))
    assert iou(wall[test], guess) > best + 0.1


def test_attributes_of_faces_are_learnt():
    keras.utils.set_random_seed(0)
    data = synthetic.faces(800)
    names = ("blond", "glasses", "beard", "woman")
    truth = np.stack([data.attributes[name] for name in names], axis=1)
    x = inputs = keras.Input(shape=(80, 80, 3))
    x = layers.Rescaling(1 / 127.5, offset=-1)(x)
    for filters in (16, 24, 32):
        x = layers.Conv2D(filters, kernel_size=3, strides=2, activation="relu")(x)
    x = layers.Flatten()(x)
    x = layers.Dense(units=len(names), activation="sigmoid")(x)
    model = keras.Model(inputs=inputs, outputs=x)
    model.compile(optimizer=keras.optimizers.Adam(2e-3), loss="binary_crossentropy")
    model.fit(
        data.images[:640],
        truth[:640].astype("float32"),
        batch_size=16,
        epochs=10,
        verbose=0,
    )
    guess = model.predict(data.images[640:], verbose=0) > 0.5
    for k, name in enumerate(names):
        assert balanced_accuracy_score(truth[640:, k], guess[:, k]) > 0.75, name


def test_people_are_recognised_by_a_linear_classifier():
    keras.utils.set_random_seed(0)
    data = synthetic.identities(20, 10)
    x = data.images.reshape(200, -1) / np.float32(255)
    x = (x - x.mean(axis=1, keepdims=True)) / x.std(axis=1, keepdims=True)
    test = np.arange(200) % 10 >= 7
    model = keras.Sequential([layers.Dense(units=20)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.Adam(1e-4), loss=loss)
    model.fit(x[~test], data.labels[~test], batch_size=16, epochs=20, verbose=0)
    guess = model.predict(x[test], verbose=0).argmax(axis=1)
    assert (guess == data.labels[test]).mean() > 0.5  # chance: 0.05
