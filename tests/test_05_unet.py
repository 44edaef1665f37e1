"""The functions that chapter 05 writes."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from scipy import ndimage

from tests.notebook import load
from utils.autodiff import value_and_grad

chapter = load("05_unet")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def tissue(rng, monkeypatch):
    """Thirty smooth images whose mask is what exceeds one half."""
    images = ndimage.gaussian_filter(rng.random((30, 64, 64)), (0, 3, 3))
    images = ((images - images.min()) / np.ptp(images)).astype("float32")
    monkeypatch.setattr(chapter, "IMAGES", images, raising=False)
    monkeypatch.setattr(chapter, "MASKS", images > 0.5, raising=False)
    return images


# --- The networks


@pytest.mark.parametrize(
    ("shape", "parameters"), [((128, 128, 1), 31_030_593), ((128, 128, 3), 31_031_745)]
)
def test_unet_has_the_audited_size(shape, parameters):
    model = chapter.unet(shape)
    assert model.count_params() == parameters
    assert model.output_shape == (None, 128, 128, 1)


def test_the_family_has_the_published_sizes():
    assert chapter.attention_unet().count_params() == 31_380_197
    original = chapter.unet_2015()
    assert original.count_params() == 31_030_658
    assert original.output_shape == (None, 388, 388, 2)
    volume = chapter.unet_3d()
    assert volume.count_params() == 19_069_955  # printed in the paper
    assert volume.output_shape == (None, 44, 44, 28, 3)


@pytest.mark.parametrize(
    ("shape", "named"),
    [((100, 100, 1), "96 et 112"), ((128, 200, 1), "192 et 208"), ((8, 16, 1), "16")],
)
def test_a_side_that_does_not_work_is_refused_with_its_neighbours(shape, named):
    with pytest.raises(
        ValueError, match=f"les plus proches qui conviennent sont {named}"
    ):
        chapter.unet(shape, filters=1)


@pytest.mark.parametrize(("padding", "lost"), [("same", 0), ("valid", 4)])
def test_output_side_is_that_of_the_built_network(padding, lost):
    for side in range(44, 80):
        expected = chapter.output_side(side, depth=2, lost=lost)
        if expected is None:
            with pytest.raises(ValueError, match="pixels ne se divise"):
                chapter.unet((side, side, 1), filters=1, depth=2, padding=padding)
            continue
        connect = chapter.cropped if lost else chapter.concatenated
        model = chapter.unet(
            (side, side, 1), filters=1, depth=2, padding=padding, connect=connect
        )
        assert model.output_shape[1:3] == (expected, expected)


def test_scores_become_probabilities(rng):
    x = rng.random((2, 32, 32, 1)).astype("float32")
    for classes, activation in ((1, ops.sigmoid), (3, ops.softmax)):
        keras.utils.set_random_seed(0)
        network = chapter.unet((32, 32, 1), classes, filters=2)
        keras.utils.set_random_seed(0)
        scores = chapter.unet((32, 32, 1), classes, filters=2, scores=True)
        expected = ops.convert_to_numpy(activation(scores(x)))
        np.testing.assert_allclose(
            ops.convert_to_numpy(network(x)), expected, atol=1e-6
        )


def test_without_connections_nothing_is_concatenated():
    model = chapter.unet((32, 32, 1), filters=2, connect=chapter.ignored)
    assert not chapter.kind(model, layers.Concatenate)


def test_levels_reads_any_depth():
    found = chapter.levels(chapter.unet((64, 64, 1), filters=2, depth=2))
    assert found == [(64, 64, 2), (32, 32, 4), (16, 16, 8), (32, 32, 4), (64, 64, 2)]


def test_transposed_convolution_is_that_of_keras(rng):
    image, kernel = rng.normal(size=(4, 5)), rng.normal(size=(3, 3))
    layer = layers.Conv2DTranspose(1, 3, strides=2)
    layer.build((None, 4, 5, 1))
    layer.set_weights([kernel[..., None, None], np.zeros(1)])
    theirs = ops.convert_to_numpy(layer(image[None, ..., None].astype("float32")))
    ours = chapter.transposed(image, kernel, 2)
    np.testing.assert_allclose(ours, theirs[0, ..., 0], atol=1e-5)


def test_receptive_field_is_that_of_chapter_one():
    formula = load("01_convolution").receptive_field
    for depth in range(5):
        stack = [(3, 1), (3, 1), (2, 2)] * depth + [(3, 1), (3, 1)]
        assert chapter.field(depth) == formula(stack)


def test_gates_lie_between_zero_and_one_and_multiply_the_skip(rng):
    skip, x = (keras.Input((8, 8, channels)) for channels in (4, 6))
    model = keras.Model([skip, x], chapter.attention_gate(skip, x))
    inputs = [rng.normal(size=(1, 8, 8, c)).astype("float32") for c in (4, 6)]
    gate = ops.convert_to_numpy(model(inputs)) / inputs[0]
    assert ((gate > 0) & (gate < 1)).all()
    np.testing.assert_allclose(gate, gate[..., :1].repeat(4, axis=-1), rtol=1e-4)


def test_gates_come_from_the_finest():
    model = chapter.attention_unet((32, 32, 1), filters=2)
    found = chapter.gates(model, np.zeros((1, 32, 32, 1), "float32"))
    assert [gate.shape[1] for gate in found] == [32, 16, 8, 4]


def test_deeplab_keeps_the_size_and_has_no_transposed_convolution():
    model = chapter.deeplab((64, 64, 1), filters=2)
    assert model.output_shape == (None, 64, 64, 1)
    assert not chapter.kind(model, layers.Conv2DTranspose)
    rates = {conv.dilation_rate[0] for conv in chapter.kind(model, layers.Conv2D)}
    assert rates == {1, 2, 4, 6, 12, 18}


# --- Data


def test_split_keeps_blocks_apart(tissue):
    for fold in range(5):
        train, valid, test = chapter.split(fold)
        assert not set(train) & set(valid)
        assert not set(test) & (set(train) | set(valid))
        assert len(train) == 21
    tests = [k for fold in range(5) for k in chapter.split(fold)[2]]
    assert len(set(tests)) == len(tests)


def test_deformation_moves_image_and_mask_together(rng):
    x = ndimage.gaussian_filter(rng.random((96, 96)), 6)
    x = (x - x.min()) / np.ptp(x)
    image, mask = chapter.deformed(x, (x > 0.5) * 1.0, np.random.default_rng(3))
    assert set(np.unique(mask)) <= {0, 1}
    assert np.mean((image > 0.5) == (mask == 1)) > 0.98
    assert np.abs(image - x).mean() > 0.02  # it did move


def test_displacement_has_the_scale_of_the_paper():
    found = np.array(
        [chapter.displacement(128, np.random.default_rng(k)) for k in range(40)]
    )
    corners = found[
        :, :, [0, 0, -1, -1], [0, -1, 0, -1]
    ]  # grid points, not interpolated
    assert corners.std() == pytest.approx(10, rel=0.15)
    assert np.abs(np.diff(found, axis=-1)).max() < 2  # smooth


def test_tiles_come_from_the_slices_asked_for(tissue):
    x, y = chapter.tiles([4, 7], 6, seed=0, augment=False, side=16)
    assert x.shape == y.shape == (6, 16, 16, 1)
    np.testing.assert_array_equal(x > 0.5, y == 1)
    windows = np.lib.stride_tricks.sliding_window_view(tissue[[4, 7]], (16, 16), (1, 2))
    for tile in x[..., 0]:
        assert (windows == tile).all(axis=(-1, -2)).any()


def test_spaced_slices_are_distinct_and_far_apart():
    found = chapter.spaced(np.arange(9, 30), 3)
    assert sorted(found) == [9, 19, 29]
    assert list(chapter.spaced(np.arange(9, 30), 1)) == [29]


def test_lines_have_the_announced_widths():
    x, widths = chapter.drawn_lines(20, seed=0)
    assert x.shape == (20, 64, 64, 1)
    assert set(np.unique(widths)) == {0, 1, 2, 4, 8}
    assert x[..., 0][widths > 0].mean() - x[..., 0][
        widths == 0
    ].mean() == pytest.approx(0.5, abs=0.02)


def test_tubes_cross_the_volume_and_balls_do_not(monkeypatch):
    monkeypatch.setattr(chapter, "VOLUME_SIDE", 24)
    x, y = chapter.drawn_volumes(4, seed=0)
    assert x.shape == y.shape == (4, 24, 24, 24, 1)
    assert 0.02 < y.mean() < 0.2
    assert y.any(axis=(2, 3, 4)).mean() > 0.75  # tubes cross most slices


# --- Losses


@pytest.fixture
def pixels(rng):
    y = (rng.random((2, 6, 6, 1)) < 0.3).astype("float32")
    return y, rng.normal(scale=3, size=y.shape).astype("float32")


def test_losses_by_loops(pixels):
    y, z = pixels
    total = dict.fromkeys(("cross_entropy", "weighted", "focal"), 0.0)
    both = union = 0.0
    for label, score in zip(y.ravel(), z.ravel(), strict=True):
        p = 1 / (1 + np.exp(-float(score)))
        of_truth = p if label else 1 - p
        total["cross_entropy"] -= np.log(of_truth)
        total["weighted"] -= (chapter.POSITIVE if label else 1) * np.log(of_truth)
        total["focal"] -= (1 - of_truth) ** 2 * np.log(of_truth)
        both += p * label
        union += p + label
    y_true, y_pred = (ops.convert_to_tensor(array) for array in pixels)
    for name, expected in total.items():
        found = float(ops.mean(getattr(chapter, name)(y_true, y_pred)))
        assert found == pytest.approx(expected / y.size, rel=1e-4)
    expected = 1 - 2 * both / union
    assert float(chapter.soft_dice(y_true, y_pred)) == pytest.approx(expected, rel=1e-4)
    expected += total["cross_entropy"] / y.size
    assert float(chapter.combined(y_true, y_pred)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("loss", chapter.LOSSES.values())
@pytest.mark.parametrize("score", [-200.0, 0.0, 200.0])
def test_losses_and_gradients_stay_finite(loss, score):
    for label in (0.0, 1.0):
        y = np.full((1, 2, 2, 1), label, "float32")
        truth = ops.convert_to_tensor(y)
        value, slope = value_and_grad(
            lambda z, truth=truth: ops.mean(loss(truth, z)), y * 0 + score
        )
        assert np.isfinite(value)
        assert np.isfinite(slope).all()


def test_a_trained_network_is_saved_with_its_loss(tmp_path, rng):
    model = chapter.unet((16, 16, 1), filters=1, depth=1, scores=True)
    x = rng.random((4, 16, 16, 1)).astype("float32")
    chapter.fit(model, x, (x > 0.5).astype("float32"), chapter.combined)
    model.save(tmp_path / "unet.keras")
    loaded = keras.saving.load_model(tmp_path / "unet.keras")
    np.testing.assert_allclose(
        loaded.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-6
    )


# --- Predicting and measuring


@pytest.mark.parametrize(("side", "margin"), [(16, 0), (16, 4), (32, 10)])
def test_overlap_tile_puts_every_pixel_back(side, margin, rng, monkeypatch):
    monkeypatch.setattr(chapter, "probabilities", lambda model, x: x[..., 0])
    image = rng.random((50, 70)).astype("float32")
    found = chapter.overlap_tile(None, image, side, margin)
    np.testing.assert_array_equal(found, image)


def test_overlap_tile_equals_the_whole_image_when_the_margin_covers_the_field(rng):
    keras.utils.set_random_seed(0)
    model = chapter.unet((None, None, 1), filters=2, depth=1, scores=True)
    image = rng.random((64, 64)).astype("float32")
    whole = chapter.overlap_tile(model, image, side=128, margin=32)
    tiled = chapter.overlap_tile(model, image, side=64, margin=16)
    np.testing.assert_allclose(tiled, whole, atol=1e-5)
    seams = chapter.overlap_tile(model, image, side=32, margin=0)
    assert np.abs(seams - whole).max() > 1e-4


def test_rand_error_sees_a_pierced_wall_that_dice_does_not():
    wall = np.zeros((40, 40), bool)
    wall[:, 18:21] = True
    pierced = wall.copy()
    pierced[20:22] = False
    assert chapter.rand_error(wall, wall) == 0
    assert chapter.rand_error(wall, pierced) > 0.3
    thick = ndimage.binary_dilation(wall, iterations=2)
    assert chapter.rand_error(wall, thick) < 0.02  # thickness does not count


def test_by_threshold_is_a_mean_over_slices():
    maps = [np.full((2, 2), 0.3), np.full((2, 2), 0.7)]
    truths = [np.ones((2, 2), bool)] * 2
    found = chapter.by_threshold(chapter.dice, maps, truths)
    expected = [np.mean([t < 0.3, t < 0.7]) for t in chapter.THRESHOLDS]
    np.testing.assert_allclose(found, expected)


def test_pictures_survive_as_digits(rng):
    image = rng.random((3, 5))
    assert (
        np.abs(chapter.picture(chapter.digits(image)) - image).max() <= 0.5 / 9 + 1e-9
    )


# --- Instances


@pytest.fixture(scope="module")
def drawn():
    return chapter.drawn_shapes(60, seed=3)


def random_boxes(rng, shape, side):
    low = rng.uniform(0, 0.7 * side, (*shape, 2))
    high = np.minimum(low + rng.uniform(2, side, low.shape), side)
    return np.concatenate([low, high], axis=-1).astype("float32")


# --- Drawings ---------------------------------------------------------------------------------


def test_shapes_have_the_announced_types(drawn):
    assert drawn.images.shape == (60, 64, 64, 1)
    assert drawn.images.dtype == np.float32
    assert drawn.images.min() >= 0
    assert drawn.images.max() <= 1
    assert {len(masks) for masks in drawn.masks} == {2, 3, 4}
    assert {int(label) for labels in drawn.classes for label in labels} == {1, 2}


def test_masks_do_not_overlap_and_make_the_semantic_map(drawn):
    for masks, classes, semantic in zip(
        drawn.masks, drawn.classes, drawn.semantic, strict=True
    ):
        assert masks.sum(axis=0).max() == 1
        np.testing.assert_array_equal(np.tensordot(classes, masks, 1), semantic)


def test_boxes_are_tight(drawn):
    for masks, boxes in zip(drawn.masks, drawn.boxes, strict=True):
        for mask, (y0, x0, y1, x1) in zip(masks, boxes.astype(int), strict=True):
            window = mask[y0:y1, x0:x1]
            assert window.sum() == mask.sum()
            assert window[0].any()
            assert window[-1].any()
            assert window[:, 0].any()
            assert window[:, -1].any()


def test_first_two_objects_touch_and_only_they_do(drawn):
    for masks, classes in zip(drawn.masks, drawn.classes, strict=True):
        contact = ndimage.binary_dilation(masks[0]) & masks[1]
        assert contact.sum() >= 3
        assert classes[0] == classes[1]
        for k in range(2, len(masks)):
            others = np.delete(masks, k, axis=0).any(axis=0)
            assert not (ndimage.binary_dilation(masks[k], iterations=2) & others).any()


def test_objects_keep_most_of_their_area(drawn):
    """A disc bitten by its neighbour still looks like a disc."""
    for masks, boxes, classes in zip(
        drawn.masks, drawn.boxes, drawn.classes, strict=True
    ):
        areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
        share = masks.sum(axis=(1, 2)) / areas
        assert (share[classes == chapter.DISC] > 0.7).all()
        assert (share[classes == chapter.SQUARE] == 1).all()


def test_same_seed_same_shapes():
    one, two = chapter.drawn_shapes(3, seed=5), chapter.drawn_shapes(3, seed=5)
    np.testing.assert_array_equal(one.images, two.images)
    assert not np.array_equal(one.images, chapter.drawn_shapes(3, seed=6).images)


# --- Boxes ------------------------------------------------------------------------------------


def test_box_iou_by_hand():
    a = [[0, 0, 10, 10], [0, 0, 4, 4]]
    b = [[0, 0, 10, 10], [0, 5, 10, 15], [20, 20, 30, 30]]
    expected = [[1, 50 / 150, 0], [16 / 100, 0, 0]]
    np.testing.assert_allclose(chapter.box_iou(a, b), expected)


def test_anchors_are_centred_and_keep_their_area():
    boxes = chapter.anchors(2, 4, sides=(8,), ratios=(1.0, 4.0))
    assert boxes.shape == (8, 4)
    np.testing.assert_allclose(boxes[0], [-2, -2, 6, 6])
    np.testing.assert_allclose(boxes[1], [-6, 0, 10, 4])  # 16 high, 4 wide
    np.testing.assert_allclose(boxes[2], [-2, 2, 6, 10])  # next cell to the right


def test_encode_by_hand():
    anchor, box = np.array([[0.0, 0, 10, 20]]), np.array([[5.0, 0, 15, 40]])
    np.testing.assert_allclose(chapter.encode(box, anchor), [[0.5, 0.5, 0, np.log(2)]])


def test_decode_is_the_inverse_of_encode():
    rng = np.random.default_rng(0)
    boxes, anchors = random_boxes(rng, (2, 50), 64).astype(float)
    back = chapter.decode(chapter.encode(boxes, anchors), anchors)
    np.testing.assert_allclose(back, boxes, atol=1e-9)


def test_nms_by_hand():
    boxes = np.array([[0, 0, 10, 10], [0, 1, 10, 11], [0, 20, 10, 30], [0, 2, 10, 12]])
    scores = [0.8, 0.9, 0.5, 0.7]
    assert chapter.nms(boxes, scores, 0.5).tolist() == [1, 2]
    assert chapter.nms(boxes, scores, 0.95).tolist() == [1, 0, 3, 2]
    assert chapter.nms(boxes[:0], [], 0.5).tolist() == []


def test_nms_spares_what_only_a_removed_box_covers():
    """Greedy: a box removed removes nothing."""
    boxes = np.array([[0, 0, 10, 10], [0, 4, 10, 14], [0, 8, 10, 18]])
    assert chapter.nms(boxes, [0.9, 0.8, 0.7], 0.3).tolist() == [0, 2]


def test_every_object_has_an_anchor(drawn):
    for boxes in drawn.boxes:
        labels, nearest = chapter.assign(boxes)
        assert set(nearest[labels == 1]) == set(range(len(boxes)))
        assert set(labels) <= {-1, 0, 1}


# --- RoIAlign ---------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 5])
def test_roi_align_equals_its_loops(size):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(2, 9, 11, 3)).astype("float32")
    boxes = random_boxes(rng, (2, 6), 36)
    boxes[0, 0] = [0, 0, 36, 44]  # the whole map
    boxes[0, 1] = [-6, -3, 10, 50]  # beyond its edges
    boxes[1, 0] = [34, 40, 36, 44]  # half of the last cell
    found = ops.convert_to_numpy(chapter.roi_align(features, boxes, size, 4))
    expected = chapter.roi_align_by_hand(features, boxes, size, 4)
    assert found.shape == (2, 6, size, size, 3)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_roi_align_of_whole_cells_is_a_crop():
    features = np.random.default_rng(0).normal(size=(1, 8, 8, 2)).astype("float32")
    boxes = np.array([[[8, 4, 24, 20]]], "float32")
    found = ops.convert_to_numpy(chapter.roi_align(features, boxes, 4, 4))
    np.testing.assert_allclose(found[0, 0], features[0, 2:6, 1:5], atol=1e-6)


def test_roi_pool_of_whole_cells_takes_maxima():
    features = np.arange(64, dtype="float32").reshape(1, 8, 8, 1)
    boxes = np.array([[[8, 4, 24, 20]]], "float32")
    found = chapter.roi_pool(features, boxes, 2, 4)[0, 0, :, :, 0]
    np.testing.assert_array_equal(found, [[26, 28], [42, 44]])


def test_roi_align_is_exact_on_a_ramp_and_rounding_is_not():
    aligned, pooled = chapter.ramp_errors()
    assert aligned < 1e-4
    assert pooled > 0.3


def test_the_layer_is_saved_and_loaded(tmp_path):
    features, boxes = keras.Input((8, 8, 2)), keras.Input((3, 4))
    model = keras.Model([features, boxes], chapter.RoIAlign(5, 4)(features, boxes))
    assert model.output_shape == (None, 3, 5, 5, 2)
    model.save(tmp_path / "align.keras")
    loaded = keras.saving.load_model(tmp_path / "align.keras")
    rng = np.random.default_rng(0)
    inputs = [
        rng.normal(size=(1, 8, 8, 2)).astype("float32"),
        random_boxes(rng, (1, 3), 32),
    ]
    np.testing.assert_array_equal(
        ops.convert_to_numpy(model(inputs)), ops.convert_to_numpy(loaded(inputs))
    )


# --- Targets, masks, losses -------------------------------------------------------------------


def test_pasting_the_target_mask_gives_the_object_back(drawn):
    """What the network is asked for is enough to find each object."""
    for masks, boxes, classes in zip(
        drawn.masks, drawn.boxes, drawn.classes, strict=True
    ):
        targets = chapter.mask_targets(boxes, masks, classes, np.arange(len(boxes)))
        for target, box, label, mask in zip(
            targets, boxes, classes, masks, strict=True
        ):
            assert (np.delete(target, label - 1, axis=-1) == -1).all()
            pasted = chapter.paste(target[..., label - 1], box)
            assert chapter.mask_iou([pasted], [mask])[0, 0] > 0.85


def test_losses_ignore_what_is_marked():
    def tensor(values):
        return ops.convert_to_tensor(np.array(values, "float32"))

    loss = chapter.objectness_loss(tensor([[1, 0, -1]]), tensor([[0, 0, 99]]))
    assert float(loss) == pytest.approx(np.log(2))
    deltas = tensor([[[0, 0, 0.05, 0.5, 1], [9, 9, 9, 9, 0]]])
    loss = chapter.deltas_loss(deltas, tensor(np.zeros((1, 2, 4))))
    assert float(loss) == pytest.approx(0.0125 + 0.45)
    nothing = chapter.masks_loss(tensor([[-1, -1]]), tensor([[1, 1]]))
    assert float(nothing) == 0


# --- Evaluation -------------------------------------------------------------------------------


def test_matched_by_hand():
    strip = np.arange(12)
    true = np.array([strip < 4, (strip >= 4) & (strip < 8)])[:, None]
    found = np.array([(strip >= 4) & (strip < 7), strip < 8, strip > 9])[:, None]
    pairs, overlaps = chapter.matched(true, found)
    assert pairs.tolist() == [[0, 1], [1, 0]]
    np.testing.assert_allclose(overlaps, [0.5, 0.75])
    pairs, overlaps = chapter.matched(true, found, threshold=0.6)
    assert pairs.tolist() == [[1, 0]]
    assert len(chapter.matched(true, [])[0]) == 0


def test_perfect_instances_have_perfect_scores(drawn):
    found = [
        [
            chapter.Instance(label, 1.0, None, mask)
            for label, mask in zip(labels, masks, strict=True)
        ]
        for labels, masks in zip(drawn.classes, drawn.masks, strict=True)
    ]
    assert set(chapter.report(drawn, found).values()) == {1.0}


def test_components_of_the_true_map_never_separate_the_pair(drawn):
    """The point of the section: even a perfect semantic map is not enough."""
    scores = chapter.report(drawn, chapter.components(drawn.semantic))
    assert scores["separated"] == 0
    assert scores["exact_count"] == 0
