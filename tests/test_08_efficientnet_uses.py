"""The functions of part c of chapter 08: the uses that the document announces."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from scipy.spatial import distance

from tests.notebook import load

chapter = load("08_efficientnet_b4")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


# --- Detection


def test_overlap_of_boxes():
    boxes = [[0, 0, 10, 10], [5, 5, 15, 15], [10, 0, 20, 10]]
    expected = [[1, 25 / 175, 0], [25 / 175, 1, 25 / 175], [0, 25 / 175, 1]]
    np.testing.assert_allclose(chapter.box_overlap(boxes, boxes), expected)


@pytest.mark.parametrize(("kind", "share"), [(0, np.pi / 4), (1, 1), (2, 1 / 2)])
def test_a_shape_fills_its_box(kind, share):
    v, u = (np.mgrid[:400, :400] + 0.5) / 200 - 1
    inside = chapter.filled(kind, u, v)
    assert abs(inside.mean() - share) < 0.01
    assert inside.any(axis=0).mean() > 0.99
    assert inside.any(axis=1).mean() > 0.99


def test_scenes_have_one_to_three_shapes_apart_and_inside():
    counts = set()
    for seed in range(40):
        image, boxes, kinds = chapter.drawn_scene([7, seed])
        assert image.shape == (96, 96, 3)
        assert image.dtype == np.uint8
        assert boxes.min() >= 0
        assert boxes.max() <= 96
        assert len(kinds) == len(boxes)
        overlap = chapter.box_overlap(boxes, boxes) - np.eye(len(boxes))
        assert overlap.max() < 0.02
        counts.add(len(boxes))
    assert counts == {1, 2, 3}
    again = chapter.drawn_scene([7, 0])
    np.testing.assert_array_equal(again[0], chapter.drawn_scene([7, 0])[0])


def test_a_scene_shows_its_shapes_where_it_says():
    """A square is of one colour inside its box: its pixels vary less than those around it."""
    for seed in range(30):
        image, boxes, kinds = chapter.drawn_scene([8, seed], most=1)
        x0, y0, x1, y1 = np.round(boxes[0]).astype(int)
        if kinds[0] == 1 and x1 - x0 > 12:
            inside = image[y0 + 1 : y1 - 1, x0 + 1 : x1 - 1].astype(float)
            assert inside.std(axis=(0, 1)).max() < 20
            wider = image[max(0, y0 - 8) : y1 + 8, max(0, x0 - 8) : x1 + 8].astype(
                float
            )
            assert wider.std(axis=(0, 1)).max() > 25


def test_fast_normalised_fusion(rng):
    maps = [rng.normal(size=(2, 4, 4, 3)).astype("float32") for _ in range(3)]
    fusion = chapter.WeightedSum()
    fusion.build([x.shape for x in maps])
    fusion.w.assign(np.array([2.0, -1.0, 0.5], "float32"))
    expected = np.zeros_like(maps[0])
    for w, x in zip([2.0, 0.0, 0.5], maps, strict=True):
        expected += w / 2.5001 * x
    np.testing.assert_allclose(ops.convert_to_numpy(fusion(maps)), expected, atol=1e-5)


def test_a_saved_fusion_gives_the_same(rng, tmp_path):
    inputs = [keras.Input((4, 4, 3)) for _ in range(2)]
    model = keras.Model(inputs, chapter.WeightedSum()(inputs))
    model.layers[-1].w.assign(np.array([0.2, 0.7], "float32"))
    x = [rng.normal(size=(1, 4, 4, 3)).astype("float32") for _ in range(2)]
    model.save(tmp_path / "fusion.keras")
    again = keras.models.load_model(tmp_path / "fusion.keras")
    first, second = (ops.convert_to_numpy(m(x)) for m in (model, again))
    np.testing.assert_allclose(first, second, atol=1e-6)


def test_every_output_of_the_bifpn_reads_every_input(rng):
    sizes = (8, 4, 2)
    inputs = [keras.Input((side, side, 6)) for side in sizes]
    model = keras.Model(inputs, chapter.bifpn(*inputs, channels=5))
    assert [y.shape[1:] for y in model.outputs] == [(s, s, 5) for s in sizes]
    x = [rng.normal(size=(1, side, side, 6)).astype("float32") for side in sizes]
    before = [ops.convert_to_numpy(y) for y in model(x)]
    for k in range(3):
        changed = [v + (i == k) * rng.normal(size=v.shape) for i, v in enumerate(x)]
        after = [
            ops.convert_to_numpy(y)
            for y in model([v.astype("float32") for v in changed])
        ]
        for a, b in zip(before, after, strict=True):
            assert np.abs(a - b).max() > 1e-4


def as_output(truth):
    """What a perfect head would answer."""
    kinds = chapter.KINDS
    p = truth[..., :kinds].clip(1e-6, 1 - 1e-6)
    return np.concatenate([np.log(p / (1 - p)), truth[..., kinds:-1]], axis=-1)


def test_boxes_written_then_read():
    found, truths = [], []
    for seed in range(40):
        _, boxes, kinds = chapter.drawn_scene([9, seed])
        answer = chapter.boxes_at_peaks(
            as_output(chapter.centre_map(boxes, kinds)), least=0.9
        )
        found.append(answer)
        truths.append((boxes, kinds))
        assert (np.diff(answer[2]) <= 0).all()
    assert chapter.mean_ap(found, truths) > 0.98
    wrong = [(b[:, [1, 0, 3, 2]], k, s) for b, k, s in found]
    assert chapter.mean_ap(wrong, truths) < 0.6


def test_only_peaks_are_read():
    output = np.full((12, 12, 7), -9.0)
    output[..., 3:] = [0.5, 0.5, np.log(2), np.log(3)]
    output[4, 6, 1], output[4, 7, 1], output[9, 2, 0] = 3.0, 2.5, 1.0
    boxes, kinds, scores = chapter.boxes_at_peaks(output)
    assert kinds.tolist() == [1, 0]
    np.testing.assert_allclose(boxes, [[44, 24, 60, 48], [12, 64, 28, 88]])
    np.testing.assert_allclose(scores, 1 / (1 + np.exp([-3.0, -1.0])))


def test_detection_loss_is_that_of_a_loop(rng):
    scenes = [chapter.drawn_scene([10, k]) for k in range(2)]
    truth = np.stack([chapter.centre_map(b, k) for _, b, k in scenes])
    answer = rng.normal(size=(2, 12, 12, 7)).astype("float32")
    expected = []
    for one, guess in zip(truth, answer, strict=True):
        total, objects = 0.0, 0
        for row, column in np.ndindex(12, 12):
            for kind in range(3):
                p = 1 / (1 + np.exp(-float(guess[row, column, kind])))
                heat = float(one[row, column, kind])
                if heat > 0.999:
                    total -= (1 - p) ** 2 * np.log(p)
                else:
                    total -= (1 - heat) ** 4 * p**2 * np.log(1 - p)
            if one[row, column, -1]:
                objects += 1
                total += np.abs(one[row, column, 3:7] - guess[row, column, 3:]).sum()
        expected.append(total / objects)
    found = ops.convert_to_numpy(chapter.detection_loss(truth, answer))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("right", "objects", "expected"),
    [
        ([1, 1], 2, 1),
        ([1, 0], 2, 1 / 2),
        ([0, 1, 1], 2, 2 / 3),
        ([1, 0, 1], 2, 5 / 6),
        ([0, 0], 3, 0),
        ([], 3, 0),
        ([0, 1, 0, 1, 1], 4, 3 / 4 * 3 / 5),
    ],
)
def test_average_precision_by_hand(right, objects, expected):
    found = chapter.average_precision(np.array(right, bool), objects)
    assert found == pytest.approx(expected)


def test_a_hit_is_in_its_own_image_once_and_close_enough():
    box, far = np.array([[0.0, 0, 10, 10]]), np.array([[50.0, 50, 60, 60]])
    none = (np.zeros((0, 4)), np.zeros(0))
    truth = [box, far]
    assert chapter.hits([(box, [0.9]), none], truth).tolist() == [True]
    assert chapter.hits([none, (box, [0.9])], truth).tolist() == [False]
    both = (np.concatenate([box, box]), [0.8, 0.9])
    assert chapter.hits([both, none], truth).tolist() == [True, False]
    thin = np.array([[0.0, 0, 10, 4.9]])
    assert chapter.hits([(thin, [0.9]), none], truth).tolist() == [False]
    mixed = [(far, [0.7]), (far, [0.2])]
    assert chapter.hits(mixed, truth).tolist() == [False, True]


def test_a_wrong_class_counts_for_nothing():
    box = np.array([[0.0, 0, 10, 10]])
    truth = [(box, np.array([1]))]
    assert chapter.mean_ap([(box, np.array([1]), np.array([0.9]))], truth) == 1
    assert chapter.mean_ap([(box, np.array([2]), np.array([0.9]))], truth) == 0


@pytest.mark.parametrize("fusion", ["moyenne seule", "profonde seule", "BiFPN"])
def test_a_detector_answers_for_each_cell(fusion):
    model = chapter.detector(fusion)
    answer = ops.convert_to_numpy(model(np.zeros((1, 96, 96, 3), "float32")))
    assert answer.shape == (1, 12, 12, 7)
    sums = sum(isinstance(layer, chapter.WeightedSum) for layer in model.layers)
    assert sums == {"BiFPN": 3}.get(
        fusion, 2
    )  # the last node of the BiFPN feeds nothing here


# --- A frozen backbone


@pytest.mark.parametrize("kind", ["ImageNet", "au hasard"])
def test_the_random_backbone_has_seen_images(monkeypatch, rng, kind):
    """Its last normalisation gives the mean and deviation it promises, on the tiles it saw."""
    inputs = keras.Input((32, 32, 3))
    x = layers.BatchNormalization()(layers.Conv2D(4, 3)(inputs))
    x = layers.BatchNormalization()(layers.Conv2D(5, 3)(x))
    small = keras.Model(inputs, x)
    before = [np.array(w) for w in small.get_weights()]
    pictures = {k: rng.integers(256, size=(240, 250, 3)).astype("uint8") for k in "ab"}
    monkeypatch.setattr(chapter, "photographs", pictures, raising=False)
    monkeypatch.setattr(
        chapter, "learned_backbone", lambda side: (small, chapter.lite_scale)
    )
    model, prepare = chapter.backbone(kind, 32)
    if kind == "ImageNet":
        assert all(map(np.array_equal, before, model.get_weights()))
        return
    y = ops.convert_to_numpy(model(prepare(chapter.natural_tiles(32)), training=False))
    gamma, beta = (
        ops.convert_to_numpy(w) for w in (model.layers[-1].gamma, model.layers[-1].beta)
    )
    np.testing.assert_allclose(y.mean(axis=(0, 1, 2)), beta, atol=1e-3)
    np.testing.assert_allclose(y.std(axis=(0, 1, 2)), gamma, rtol=2e-2)


def test_any_picture_becomes_rgb(rng):
    grey = rng.integers(256, size=(2, 28, 20)).astype("uint8")
    colours = chapter.as_rgb(grey, 32)
    assert colours.shape == (2, 32, 32, 3)
    assert colours.dtype == np.uint8
    np.testing.assert_array_equal(colours[..., 0], colours[..., 2])


def test_segmenter_learns_its_decoder_only():
    encoder = chapter.lite0(32)
    model = chapter.segmenter(encoder)
    assert model.output_shape == (None, 32, 32, 3)
    fixed = {variable.path for variable in encoder.variables}
    free = {variable.path for variable in model.trainable_variables}
    assert free
    assert not fixed & free
    assert (
        not {v.path for v in model.non_trainable_variables if "bn" not in v.path}
        - fixed
    )
    joins = [layer for layer in model.layers if isinstance(layer, layers.Concatenate)]
    assert [join.output.shape[1] for join in joins] == [2, 4, 8, 16]


# --- Faces


def test_cosine_distances(rng):
    vectors = rng.normal(size=(5, 7))
    expected = [
        distance.cosine(vectors[i], vectors[j])
        for i in range(5)
        for j in range(i + 1, 5)
    ]
    np.testing.assert_allclose(chapter.cosine_distances(vectors), expected)
    vectors[0] = 0  # no direction: no NaN
    assert np.isfinite(chapter.cosine_distances(vectors)).all()


def test_principal_components_are_those_of_the_known(rng):
    known = rng.normal(size=(50, 6)) * [9, 5, 1, 1, 1, 1]
    found = chapter.principal(known, np.eye(6), kept=2)
    assert found.shape == (6, 2)
    assert np.abs(found[0]).argmax() == 0
    assert np.abs(found[1]).argmax() == 1


def test_a_pair_weighs_as_often_as_its_people_are_drawn():
    class Fixed:
        def integers(self, high, size):
            return np.array([0, 0, 2])

    a, b = np.array([0, 0, 0, 1, 2]), np.array([0, 1, 2, 2, 2])
    assert chapter.pair_weights(a, b, Fixed()).tolist() == [2, 0, 2, 0, 1]


# --- Quality


def test_a_restorer_starts_from_the_image_and_takes_any_size(rng):
    model = chapter.restorer()
    for size in ((16, 24), (30, 10)):
        x = rng.random((1, *size, 3)).astype("float32")
        np.testing.assert_allclose(ops.convert_to_numpy(model(x)), x, atol=1e-6)


def test_psnr_by_hand():
    clean = np.full((16, 16, 3), 0.5)
    psnr, ssim = chapter.quality(clean, clean + 0.1)
    assert psnr == pytest.approx(20)
    assert ssim < 1
    assert chapter.quality(clean, clean + 3)[0] == pytest.approx(-10 * np.log10(0.25))


def test_tiles_are_pairs_of_the_same_place(monkeypatch, rng):
    smooth = np.kron(rng.integers(60, 190, (8, 8, 3)), np.ones((8, 8, 1))).astype(
        "uint8"
    )
    monkeypatch.setattr(
        chapter, "photographs", dict.fromkeys(chapter.LEARNED_ON, smooth), raising=False
    )
    bad, good = chapter.restoration_tiles(chapter.with_noise, 12, 24, seed=0)
    assert bad.shape == good.shape == (12, 24, 24, 3)
    assert abs((bad - good).std() - chapter.NOISE) < 0.005
    bad, good = chapter.restoration_tiles(chapter.blurred_twice, 12, 24, seed=0)
    assert 0 < np.abs(bad - good).mean() < 0.05


def test_photographs_that_judge_are_not_learned_on():
    assert not set(chapter.LEARNED_ON) & set(chapter.JUDGED_ON)


def test_a_picture_survives_its_text(rng):
    image = rng.integers(256, size=(64, 64, 3)).astype("uint8")
    again = chapter.from_hex(chapter.as_hex(image / 255))
    np.testing.assert_array_equal(again, image[8:56, 8:56])


# --- Anomalies


def test_mahalanobis_is_that_of_scipy(rng):
    known = rng.normal(size=(200, 4)) @ rng.normal(size=(4, 4)) + 2
    mean, inverse = chapter.gaussian_of(known, ridge=0)
    x = rng.normal(size=(3, 2, 4))
    found = chapter.mahalanobis(x, mean, inverse)
    assert found.shape == (3, 2)
    expected = distance.mahalanobis(
        x[1, 0], known.mean(axis=0), np.linalg.inv(np.cov(known.T))
    )
    assert found[1, 0] == pytest.approx(expected, rel=1e-5)


def test_a_cell_of_pixels_is_that_square(rng):
    images = rng.integers(256, size=(2, 128, 128, 3)).astype("uint8")
    cells = chapter.square_pixels(images)
    assert cells.shape == (2, 16, 16, 192)
    np.testing.assert_allclose(cells[1, 3, 5], images[1, 24:32, 40:48].ravel() / 255)


def test_a_defect_is_where_its_mask_says():
    for seed in range(5):
        image, mask = chapter.cloth([3, seed])
        assert not mask.any()
        image, mask = chapter.cloth([3, seed], "fil manquant")
        assert 0 < mask.mean() < 0.05
        rows, columns = np.nonzero(mask)
        band = image[rows.min() : rows.max() + 1].astype(float).mean(axis=-1)
        inside = np.zeros(128, bool)
        inside[columns.min() : columns.max() + 1] = True
        assert band[:, inside].mean() < 0.9 * band[:, ~inside].mean()


def test_planted_anomalies_are_scored():
    kinds = np.repeat(("normal", *chapter.DEFECTS), 3)
    maps, masks = np.zeros((12, 16, 16)), np.zeros((12, 128, 128), bool)
    maps += np.random.default_rng(0).random(maps.shape)
    maps[3:, 4, 5] = 2
    masks[3:, 32:40, 40:48] = True
    found = chapter.anomaly_scores(maps, masks, kinds)
    assert all(found[kind] == 1 for kind in chapter.DEFECTS)
    assert found["pixels"] == 1
    masks = np.roll(masks, 40, axis=1)
    assert chapter.anomaly_scores(maps, masks, kinds)["pixels"] < 0.8


# --- The exercise


def test_exercise_on_giou():
    exercise = chapter.EXERCISE_GIOU
    assert exercise.diagnose(chapter.giou_solution)
    assert not exercise.diagnose(chapter.my_giou)
    for hint, wrong in exercise.mistakes.items():
        assert exercise.diagnose(wrong).message == hint
