"""The drawings of Keras models: rows, columns, arrows and type."""

import itertools

import keras
import numpy as np
import pytest
from keras import layers, ops
from matplotlib import patches

from tests.test_figures import close_figures, decode  # noqa: F401 - a fixture
from utils import graphs


def block(build):
    """The model of `build(x, box)`, where box(x, name, ...) chains layers of these names."""

    def box(x, *names):
        for name in names:
            x = layers.ReLU()(layers.Identity(name=name)(x))
        return x

    inputs = keras.Input((4, 4, 1), name="in")
    return keras.Model(inputs, build(inputs, box))


def inception(x, box):
    branches = [box(x, "a"), box(x, "b", "B"), box(x, "c", "C"), box(x, "d", "D")]
    return layers.Concatenate(name="concat")(branches)


def residual(x, box):
    return layers.ReLU()(layers.Add(name="add")([x, box(x, "a", "b")]))


def sliced(x, box):  # the shortcut goes through operations that are not layers
    return layers.Add(name="add")([ops.relu(x[:, ::2]), box(x[:, ::2], "a", "b")])


def projected(x, box):
    wide = box(x, "a", "b")
    wide = layers.Multiply(name="times")([wide, box(wide, "c", "d")])
    return layers.Add(name="add")([wide, box(x, "p", "q", "r")])


def dense(x, box):
    one = layers.Concatenate(name="concat")([x, box(x, "a")])
    return layers.Concatenate(name="last concat")([x, one, box(one, "b")])


def mbconv(x, box):
    wide = box(x, "expand", "depthwise")
    wide = layers.Multiply(name="times")([wide, box(wide, "mean", "fewer", "more")])
    return layers.Add(name="add")([x, box(wide, "project")])


def mixed(x, box):
    both = layers.Concatenate(name="concat")([box(x, "a"), box(x, "b", "B")])
    return layers.Add(name="add")([x, box(both, "c")])


def split(x, box):  # a branch that splits again, beside a branch with a shortcut
    parted = box(x, "b")
    halves = [box(parted, "B"), box(parted, "C")]
    inner = layers.Add(name="add")([x, box(x, "d", "D")])
    return layers.Concatenate(name="concat")([box(x, "a"), *halves, inner])


BLOCKS = (inception, residual, sliced, projected, dense, mbconv, mixed, split)


def name_of(layer):
    return None if isinstance(layer, layers.ReLU) else layer.name


def draw(*builds, label=name_of):
    fig = graphs.layer_graphs({f.__name__: block(f) for f in builds}, label)
    fig.draw_without_rendering()
    return fig


def boxes_of(ax):
    """{text: extent in pixels of its box}."""
    kinds = (patches.FancyBboxPatch, patches.Ellipse)
    shapes = [patch for patch in ax.patches if isinstance(patch, kinds)]
    return {
        text.get_text(): shape.get_window_extent()
        for text, shape in zip(ax.texts, shapes, strict=True)
    }


def arrows_of(ax):
    """{(source, target): points in pixels along the arrow}, found from where it ends."""
    found = {}
    for patch in ax.patches:
        if not isinstance(patch, patches.FancyArrowPatch):
            continue
        corners = patch.get_transform().transform(patch._path_original.vertices)
        ends = [
            next(
                text
                for text, box in boxes_of(ax).items()
                if box.padded(1).contains(*corners[k])
            )
            for k in (0, -1)
        ]
        line = patch.get_transform().transform_path(patch._path_original)
        found[tuple(ends)] = line.interpolated(50).vertices
    return found


def centre(box):
    return (box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2


def test_four_branches_have_four_columns_in_the_order_of_the_inputs_of_their_merge():
    (ax,) = draw(inception).axes
    at = {text: centre(box) for text, box in boxes_of(ax).items()}
    columns = [at[name][0] for name in "abcd"]
    steps = np.diff(columns)
    assert steps.min() > 50
    np.testing.assert_allclose(steps, steps[0])
    assert len({round(at[name][1]) for name in "abcd"}) == 1
    np.testing.assert_allclose([at[name][0] for name in "BCD"], columns[1:])
    middle = pytest.approx(np.mean(columns))
    assert at["in"][0] == middle
    assert at["concat"][0] == middle
    heights = [at[name][1] for name in ("in", "a", "B", "concat")]
    assert heights == sorted(heights, reverse=True)
    assert len(set(heights)) == 4


def test_a_merge_stands_under_its_branch_not_beside_its_shortcut():
    left, right = draw(residual, projected).axes
    at = {text: centre(box)[0] for text, box in boxes_of(left).items()}
    assert at["add"] == at["b"] == at["a"] == at["in"]
    at = {text: centre(box)[0] for text, box in boxes_of(right).items()}
    assert at["times"] == pytest.approx(at["d"])
    assert at["add"] == pytest.approx((at["times"] + at["r"]) / 2)
    (ax,) = draw(split).axes
    at = {text: centre(box)[0] for text, box in boxes_of(ax).items()}
    assert at["add"] == at["D"] == at["d"]
    assert at["b"] == pytest.approx((at["B"] + at["C"]) / 2)
    steps = np.diff([at[name] for name in "aBCd"])
    np.testing.assert_allclose(steps, steps[0])


def test_arrows_are_the_tensors_and_skip_what_has_no_text():
    one, other = draw(residual, sliced).axes
    links = {("in", "a"), ("a", "b"), ("b", "add"), ("in", "add")}
    assert arrows_of(one).keys() == arrows_of(other).keys() == links
    (ax,) = draw(residual, label=lambda x: "+" if "add" in x.name else None).axes
    assert (list(boxes_of(ax)), arrows_of(ax)) == (["+"], {})
    links = {("in", "a"), ("a", "concat"), ("in", "concat"), ("concat", "b")}
    links |= {("b", "last concat"), ("concat", "last concat"), ("in", "last concat")}
    assert arrows_of(draw(dense).axes[0]).keys() == links


@pytest.mark.parametrize("build", BLOCKS)
def test_no_arrow_goes_behind_a_box(build):
    (ax,) = draw(build).axes
    for link, points in arrows_of(ax).items():
        for text, box in boxes_of(ax).items():
            inner = box.padded(-2)
            assert not any(inner.contains(*point) for point in points), (link, text)


def test_shortcuts_bow_in_lanes_of_their_own_on_the_outer_side():
    fig = draw(mbconv, projected)
    right, left = (arrows_of(ax) for ax in fig.axes)
    reach = {link: points[:, 0].max() for link, points in right.items()}
    edge = max(box.x1 for box in boxes_of(fig.axes[0]).values())
    assert edge + 10 < reach["depthwise", "times"] < reach["in", "add"] - 10
    reach = {link: points[:, 0].min() for link, points in left.items()}
    edge = min(box.x0 for box in boxes_of(fig.axes[1]).values())
    assert reach["b", "times"] < edge - 10
    (ax,) = draw(dense).axes
    reach = {link: points[:, 0].max() for link, points in arrows_of(ax).items()}
    inner = (reach["in", "concat"], reach["concat", "last concat"])
    assert max(inner) < reach["in", "last concat"] - 10


@pytest.mark.parametrize(
    "builds", [*itertools.product(BLOCKS), (residual, mbconv), (inception, mixed)]
)
def test_texts_are_legible_and_inside_boxes_that_do_not_touch(builds):
    fig = draw(*builds)
    for ax in fig.axes:
        boxes, arrows = boxes_of(ax), arrows_of(ax).values()
        assert all(fig.bbox.contains(*point) for line in arrows for point in line)
        for text in ax.texts:
            assert text.get_fontsize() >= 10
            extent, box = text.get_window_extent(), boxes[text.get_text()]
            assert all(box.padded(-2).contains(*corner) for corner in extent.corners())
        for one, other in itertools.combinations(boxes.values(), 2):
            assert not one.padded(5).overlaps(other)
        title = ax.title.get_window_extent()
        assert not any(box.overlaps(title) for box in boxes.values())
        assert all(fig.bbox.contains(*corner) for corner in title.corners())


def test_type_shrinks_with_the_boxes_when_the_texts_are_too_wide():
    fig = draw(inception, label=lambda layer: f"un nom trop long : {layer.name}")
    (ax,) = fig.axes
    (size,) = {text.get_fontsize() for text in ax.texts}
    assert 5 < size < 10
    for text in ax.texts:
        extent, box = text.get_window_extent(), boxes_of(ax)[text.get_text()]
        box = box.padded(3)  # small type is hinted to whole pixels
        assert all(box.contains(*corner) for corner in extent.corners())
        assert fig.bbox.x0 <= box.x0 <= box.x1 <= fig.bbox.x1


def test_panels_stand_side_by_side_with_their_titles_on_rows_of_one_height():
    fig = draw(residual, mbconv)
    one, other = fig.axes
    assert [ax.get_title() for ax in fig.axes] == ["residual", "mbconv"]
    assert not any(ax.axison for ax in fig.axes)
    assert one.bbox.x1 <= other.bbox.x0 + 1e-6
    assert boxes_of(one)["a"].y0 == pytest.approx(boxes_of(other)["expand"].y0)
    image = decode(fig).convert("RGB")
    assert image.width == 600
    assert image.getpixel((0, 0)) == image.getpixel((599, 5)) == (255, 255, 255)
    assert decode(draw(residual)).height < image.height


def test_a_merge_differs_by_its_shape_and_its_colour():
    (ax,) = draw(residual).axes
    ovals = [patch for patch in ax.patches if isinstance(patch, patches.Ellipse)]
    plain = [p for p in ax.patches if isinstance(p, patches.FancyBboxPatch)]
    assert (len(ovals), len(plain)) == (1, 3)
    assert ovals[0].get_facecolor() not in {patch.get_facecolor() for patch in plain}
    x, y = centre(boxes_of(ax)["add"])
    assert ovals[0].contains_point((x, y))
