"""Drawings of small Keras models, layer by layer: the blocks of the architectures.

The figure is shown with `figures.show`, like any other; its words come from the caller, in French.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import keras
import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse, FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path

from utils.figures import COLOURS, WIDTH

BESIDE, BELOW = 14, 20  # points between the boxes of `layer_graphs`


def layer_graphs(
    models: Mapping[str, keras.Model],
    label: Callable[[keras.layers.Layer], str | None],
) -> Figure:
    """Small functional models side by side, read downwards: boxes are layers, arrows tensors.

    models: {title: model of 3 to 14 boxes}. label: the text of a layer's box, or None: it is not
    drawn, and its sources feed what it fed. A layer of several inputs is an orange oval; branches
    stand in the order of its inputs. Type is of 12 points, less where the page is too narrow.
    """
    fig = plt.figure(layout="none")
    panels = [_boxes(fig, model, label) for model in models.values()]
    step = max(box.height for boxes in panels for box in boxes) + BELOW
    for boxes in panels:
        _place(boxes, step)
    arrows, limits = zip(*(_arrows(boxes, step) for boxes in panels), strict=True)
    titles = np.array([_size(fig, title, 13) for title in models])
    widths = np.maximum(np.ptp(limits, axis=1), titles[:, 0]) + BESIDE
    page = max(72 * WIDTH, widths.sum())
    widths += (page - widths.sum()) / len(widths)
    scale = 72 * WIDTH / page
    height = step * (1 + max(box.row for boxes in panels for box in boxes))
    top = height / (height + titles[:, 1].max() + BELOW / 2)
    fig.set_size_inches(WIDTH, scale * height / top / 72)
    margins = {"left": 0, "right": 1, "bottom": 0, "top": top, "wspace": 0}
    layout = {"width_ratios": widths, "gridspec_kw": margins, "squeeze": False}
    axes = fig.subplots(1, len(models), **layout).flat
    for k, (ax, title) in enumerate(zip(axes, models, strict=True)):
        left, right = np.mean(limits[k]) + widths[k] * np.array([-0.5, 0.5])
        ax.set(xlim=(left, right), ylim=(height, 0))
        ax.set_title(title, fontsize=13 * scale, pad=0)
        ax.axis("off")
        _draw_graph(ax, panels[k], arrows[k], scale)
    return fig


@dataclass(eq=False)
class _Box:
    """A drawn layer; sizes in points, y downwards."""

    text: str
    width: float
    height: float
    sources: list[_Box]
    merges: bool
    row: int
    x: float = 0.0  # of the centre
    y: float = 0.0


def _size(fig: Figure, text: str, fontsize: float) -> np.ndarray:
    """Width and height of a text, in points."""
    drawn = fig.text(0, 0, text, fontsize=fontsize)
    size = drawn.get_window_extent().size
    drawn.remove()
    return 72 * size / fig.dpi


def _boxes(
    fig: Figure,
    model: keras.Model,
    label: Callable[[keras.layers.Layer], str | None],
) -> list[_Box]:
    """The drawn layers, one branch after the other, each layer after its sources."""
    flatten = keras.tree.flatten
    makers = {id(out): op for op in model.operations for out in flatten(op.output)}
    boxes, ends = [], {}  # ends: {operation: the boxes that its output comes from}

    def visit(tensor: keras.KerasTensor) -> list[_Box]:
        op = makers[id(tensor)]
        if op not in ends:
            inputs = flatten(op.input)
            ends[op] = list(dict.fromkeys(box for one in inputs for box in visit(one)))
            text = label(op) if isinstance(op, keras.layers.Layer) else None
            if text is not None:
                merges = len(inputs) > 1
                size = _size(fig, text, 12)
                width, height = np.sqrt(2) * size + 2 if merges else size + 10
                row = max((box.row + 1 for box in ends[op]), default=0)
                width = max(width, height)
                boxes.append(_Box(text, width, height, ends[op], merges, row))
                ends[op] = boxes[-1:]
        return ends[op]

    for output in model.outputs:
        visit(output)
    return boxes


def _place(boxes: Sequence[_Box], step: float) -> None:
    """Boxes of one source spread out under it; a merge stands in the middle of its branches."""
    plain = [box for box in boxes if not box.merges]
    inner = [box.width for box in plain if box.sources]  # an input may be larger
    for box in plain:
        box.width = max([box.width, *inner])
        box.height = step - BELOW
    rows = [box.row for box in boxes]
    widest = max((box.width for box in boxes if rows.count(box.row) > 1), default=0)
    heirs = {box: [heir for heir in boxes if heir.sources == [box]] for box in boxes}
    columns, above = {}, {}
    for box in reversed(boxes):
        columns[box] = max(1, sum(columns[heir] for heir in heirs[box]))

    def spread(line: Sequence[_Box], middle: float) -> None:
        ends = (widest + BESIDE) * np.cumsum([0, *(columns[box] for box in line)])
        for box, left, right in zip(line, ends, ends[1:], strict=False):
            box.x = middle + (left + right - ends[-1]) / 2

    spread([box for box in boxes if not box.sources], 0)
    for box in boxes:
        box.y = (box.row + 0.5) * step
        shortcuts = set().union(*(above[source] for source in box.sources))
        above[box] = shortcuts.union(box.sources)
        if len(box.sources) > 1:
            box.x = np.mean([s.x for s in box.sources if s not in shortcuts])
        spread(heirs[box], box.x)


def _arrows(
    boxes: Sequence[_Box], step: float
) -> tuple[list[list[tuple[float, float]]], tuple[float, float]]:
    """Corners of each arrow, down its source's column or around the boxes there; left and right."""
    reach = {side: {} for side in (-1, 1)}  # {row: how far it extends on that side}
    for side, box in itertools.product(reach, boxes):
        edge = side * box.x + box.width / 2
        reach[side][box.row] = max(edge, reach[side].get(box.row, edge))
    arrows = []
    links = [(source, box) for box in boxes for source in box.sources]
    for source, box in sorted(links, key=lambda link: link[1].row - link[0].row):
        start = (source.x, source.y + source.height / 2)
        passed = [b for b in boxes if source.row < b.row < box.row]
        if any(abs(b.x - source.x) < b.width / 2 + 3 for b in passed):
            side = -1 if source.x < 0 else 1
            rows = range(source.row + 1, box.row + 1)
            lane = max(reach[side][row] for row in rows) + BESIDE
            reach[side] |= dict.fromkeys(rows, lane)
            turn = (source.row + 1) * step
            corners = [(source.x, turn), (side * lane, turn), (side * lane, box.y)]
            end = (box.x + side * box.width / 2, box.y)
        else:
            turn = box.row * step
            corners = [(source.x, turn), (box.x, turn)] if source.x != box.x else []
            end = (box.x, box.y - box.height / 2)
        arrows.append([start, *corners, end])
    return arrows, (-max(reach[-1].values()), max(reach[1].values()))


def _draw_graph(
    ax: plt.Axes,
    boxes: Sequence[_Box],
    arrows: Sequence[Sequence[tuple[float, float]]],
    scale: float,
) -> None:
    line = {"arrowstyle": "-|>", "mutation_scale": 11 * scale, "lw": 1.4 * scale}
    for points in arrows:
        path = _rounded(points)
        ax.add_patch(FancyArrowPatch(path=path, color="#444444", **line))
    for box in boxes:
        if box.merges:
            patch = Ellipse((box.x, box.y), box.width, box.height)
        else:
            corner = (box.x - box.width / 2, box.y - box.height / 2)
            style = "round,pad=0,rounding_size=3"
            patch = FancyBboxPatch(corner, box.width, box.height, style)
        colour = COLOURS[1 if box.merges else 0]
        light = 0.85 + 0.15 * np.array(mpl.colors.to_rgb(colour))
        patch.set(facecolor=light, edgecolor=colour, linewidth=1.4 * scale)
        ax.add_patch(patch)
        text = ax.text(box.x, box.y, box.text, fontsize=12 * scale)
        text.set(ha="center", va="center")


def _rounded(points: Sequence[tuple[float, float]], radius: float = 6) -> Path:
    """The line through points, its corners rounded."""
    vertices, codes = [points[0]], [Path.MOVETO]
    for corner, *ends in zip(points[1:], points, points[2:], strict=False):
        ways = [np.subtract(end, corner) for end in ends]
        sizes = [np.hypot(*way) for way in ways]
        enter, leave = (
            corner + way * min(radius / size, 0.5)
            for way, size in zip(ways, sizes, strict=True)
        )
        vertices += [enter, corner, leave]
        codes += [Path.LINETO, Path.CURVE3, Path.CURVE3]
    return Path([*vertices, points[-1]], [*codes, Path.LINETO])
