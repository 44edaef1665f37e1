"""Figures of the course: one way to show them, and the few kinds that several chapters draw.

Every figure is shown with `show(fig, alt=...)`. The functions that draw return a Matplotlib figure
whose `axes` can still be changed; all the words come from the caller, in French. Importing this
module applies `style()`.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from cycler import cycler
from matplotlib import patheffects
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import ScalarFormatter
from numpy.typing import ArrayLike
from PIL import Image

# Okabe and Ito's palette, told apart by colour-blind readers (https://jfly.uni-koeln.de/color/),
# less its yellow, unseen on white; then three of Tol's muted scheme, for ten classes
# (https://sronpersonalpages.nl/~pault/). Colour is never alone: marker, dash or label too.
COLOURS = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"),
    *("#882255", "#999933", "#332288"),
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", "*", ">")
LINES = ("-", "--", "-.", ":")
DPI = 100
WIDTH = 6.0  # inches: 600 pixels, that a phone shows at about 350
MIN_ALT = 20
PALETTE_ERROR = (
    2.5  # root mean square, of 255: line plots reach 1.9, photographs start at 3.7
)
PALETTE_COLOURS = 2**14  # beyond so many colours it is a photograph: not even tried


def style() -> None:
    """Settings for a figure of 600 pixels still read at 350: large type, thick lines."""
    mpl.rc("figure", figsize=(WIDTH, 3.8), dpi=DPI, facecolor="white")
    mpl.rc("figure.constrained_layout", use=True, h_pad=0.06, w_pad=0.06)
    mpl.rc("font", size=13)
    mpl.rc("axes", titlesize=13, labelsize=13, prop_cycle=cycler(color=COLOURS))
    mpl.rc("axes", grid=True, axisbelow=True, facecolor="white")
    mpl.rc("axes.spines", top=False, right=False)
    mpl.rc("grid", color="#DDDDDD", linewidth=0.8)
    mpl.rc(("xtick", "ytick"), labelsize=12)
    mpl.rc("legend", fontsize=12, framealpha=0.9)
    mpl.rc("lines", linewidth=2.2, markersize=6)
    mpl.rc("image", cmap="gray", interpolation="nearest")


style()


def number(value: float, digits: int = 2) -> str:
    """French writing of a number: decimal comma, no-break thin spaces from 10 000 upwards."""
    sep = "," if abs(value) >= 10_000 else ""
    text = f"{value:{sep}.{digits}f}"
    if not text.strip("-0."):
        text = text.removeprefix("-")  # no minus before a zero
    return text.translate({ord(","): "\u202f", ord("."): ",", ord("-"): "\u2212"})


_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def scientific(value: float, digits: int = 0) -> str:
    """French writing of a gap of any size: « 3 × 10⁻⁸ », but « 0,4 », « 13 » and « 0 »."""
    if value == 0 or 0.1 <= abs(value) < 1_000:
        return number(value, 1 if 0 < abs(value) < 10 else 0)
    mantissa, exponent = f"{value:.{digits}e}".split("e")
    power = str(int(exponent)).translate(_SUPERSCRIPTS)
    return f"{number(float(mantissa), digits)}\u00a0×\u00a010{power}"


def percent(share: float, digits: int = 0) -> str:
    """French writing of a share in 0..1: « 91 % », with a no-break space."""
    return f"{number(100 * share, digits)}\u00a0%"


def spread(values: Sequence[float], digits: int = 3) -> str:
    """« 0,907 ± 0,002 »: mean and sample standard deviation (n - 1) of runs that differ by seed."""
    mean = number(np.mean(values), digits)
    if len(values) < 2:
        return f"{mean} (une graine)"
    return f"{mean}\u00a0±\u00a0{number(np.std(values, ddof=1), digits)}"


class _FrenchTicks(ScalarFormatter):
    """Matplotlib's default ticks with a decimal comma."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return super().__call__(x, pos).replace(".", ",")


def show(fig: Figure, alt: str) -> None:
    """Displays `fig` as a PNG with its text alternative, and closes it.

    alt: French, at least 20 characters: what one sees, its numbers taken from variables; else
    `ValueError`. The output is {"image/png", "text/plain": alt} with the metadata
    {"image/png": {"alt": alt}}: where IPython's `Image(alt=...)` writes it, where nbconvert and
    this book's extension read it; VS Code reads text/plain to its users. JupyterLab 4 gives its
    images no alternative at all, and nothing says that Colab and GitHub do. An <img alt> in
    text/html is no way out: beside the PNG it doubles the notebook, alone it hides the picture
    from the book and wherever HTML is not trusted. So the paragraph after each figure must say
    what was seen.

    Axes left with Matplotlib's default ticks get a decimal comma. 100 dpi, opaque white.
    Without IPython's display (a script, a test) nothing is shown.
    """
    _display(png(fig), alt)
    plt.close(fig)


def animate(figs: Sequence[Figure], alt: str, seconds: float = 1.0) -> None:
    """Displays figures of one size one after the other, as an animated PNG, and closes them.

    Each lasts `seconds`, the last three times as long; the whole is played three times and stops
    on the last. It goes where any PNG goes, with the text alternative that `show` asks for.
    """
    frames = [_drawn(fig) for fig in figs]
    for fig in figs:
        plt.close(fig)
    lasting = [1000 * seconds] * (len(frames) - 1) + [3000 * seconds]
    out = io.BytesIO()
    options = {"append_images": frames[1:], "duration": lasting, "loop": 3}
    frames[0].save(out, format="PNG", save_all=True, **options)
    _display(out.getvalue(), alt)


def _display(data: bytes, alt: str) -> None:
    alt = " ".join(alt.split())
    if len(alt) < MIN_ALT:
        raise ValueError(
            f"Décrivez la figure en au moins {MIN_ALT} caractères (texte de remplacement) : "
            f"« {alt} » reçu."
        )
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.display import display

    if InteractiveShell.initialized():
        bundle = {"image/png": data, "text/plain": alt}
        display(bundle, raw=True, metadata={"image/png": {"alt": alt}})


def _drawn(fig: Figure) -> Image.Image:
    """Return the figure as an RGB image, its axes with French numbers."""
    for axes in fig.axes:
        if axes.images:
            axes.grid(False)
        for axis in (axes.xaxis, axes.yaxis):
            if type(axis.get_major_formatter()) is ScalarFormatter:
                axis.set_major_formatter(_FrenchTicks())
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=DPI, facecolor="white")
    return Image.open(buffer).convert("RGB")


def png(fig: Figure) -> bytes:
    """PNG of a figure: a palette of at most 256 colours, or RGB where that would be seen."""
    image = _drawn(fig)
    if image.getcolors(PALETTE_COLOURS) is not None:
        palette = image.quantize(
            256, method=Image.Quantize.MAXCOVERAGE, kmeans=2, dither=Image.Dither.NONE
        )
        change = np.asarray(palette.convert("RGB"), float) - np.asarray(image, float)
        if np.sqrt((np.abs(change).max(axis=-1) ** 2).mean()) <= PALETTE_ERROR:
            image = palette
    out = io.BytesIO()
    image.save(out, format="PNG", optimize=True)
    return out.getvalue()


def grid(
    images: Sequence[ArrayLike],
    titles: Sequence[str] | None = None,
    columns: int = 5,
    row_labels: Sequence[str] | None = None,
    cmap: str = "gray",
    limits: tuple[float, float] | None = None,
) -> Figure:
    """Images in rows of `columns`; the last row may be short.

    images: n arrays (h, w), (h, w, 1) or (h, w, 3), uint8 or float in 0..1 (clipped); greys keep
    one scale for all: `limits`, else 0..255 or 0..1 by dtype. titles: one above each image, a word
    in 5 columns, a figure or two in 10; row_labels: one at the left of each row.
    """
    images = [np.asarray(image) for image in images]
    if not images:
        raise ValueError("Aucune image à montrer.")
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    for what, given, wanted in (
        ("titres", titles, len(images)),
        ("lignes", row_labels, rows),
    ):
        if given is not None and len(given) != wanted:
            raise ValueError(f"{what} : {len(given)} noms pour {wanted}.")
    size = 12 if columns <= 5 else 10
    lines = max(title.count("\n") + 1 for title in titles) if titles else 0
    ratio = images[0].shape[0] / images[0].shape[1]
    height = rows * (0.95 * WIDTH / columns * ratio + lines * size * 1.3 / 72 + 0.06)
    fig, axes = plt.subplots(rows, columns, figsize=(WIDTH, height), squeeze=False)
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    for i, (ax, image) in enumerate(zip(axes.flat, images, strict=False)):
        _draw(ax, image, cmap, limits)
        if titles:
            ax.set_title(titles[i], fontsize=size, pad=3)
    for ax, label in zip(axes[:, 0], row_labels or (), strict=False):
        ax.set_ylabel(label)
    return fig


def _draw(
    ax: plt.Axes,
    image: np.ndarray,
    cmap: str = "gray",
    limits: tuple[float, float] | None = None,
) -> None:
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[..., 0]
    if image.ndim == 2:
        low, high = limits or ((0, 255) if image.dtype == np.uint8 else (0, 1))
        ax.imshow(image, cmap=cmap, vmin=low, vmax=high)
    else:
        ax.imshow(image if image.dtype == np.uint8 else np.clip(image, 0, 1))


def curves(
    series: Mapping[str, ArrayLike],
    xlabel: str,
    ylabel: str,
    x: ArrayLike | Mapping[str, ArrayLike] | None = None,
    levels: Mapping[str, float] | None = None,
    title: str | None = None,
) -> Figure:
    """Lines told apart by colour, marker and dash.

    series: {name: values}; values (k,), or (runs, k), drawn as the mean over the runs with a band
    of +- one sample standard deviation. x: (k,) for all, or {name: (k,)}; default 1, 2, ... k.
    levels: {name: y} of horizontal reference lines, named on the line.
    """
    outside = len(series) > 4
    fig, ax = plt.subplots(
        figsize=(WIDTH, 3.8 + (0.13 * len(series) if outside else 0))
    )
    for i, (name, values) in enumerate(series.items()):
        runs = np.atleast_2d(np.asarray(values, dtype=float))
        colour = COLOURS[i % len(COLOURS)]
        mean = runs.mean(axis=0)
        at = x[name] if isinstance(x, Mapping) else x
        at = np.arange(1, mean.size + 1) if at is None else np.asarray(at, dtype=float)
        ax.plot(
            at,
            mean,
            LINES[i % len(LINES)],
            color=colour,
            marker=MARKERS[i % len(MARKERS)],
            markevery=max(1, mean.size // 10),
            label=name,
        )
        if len(runs) > 1:
            spread = runs.std(axis=0, ddof=1)
            ax.fill_between(
                at, mean - spread, mean + spread, color=colour, alpha=0.2, lw=0
            )
    for name, level in (levels or {}).items():
        ax.axhline(level, color="#555555", lw=1.4, ls=(0, (2, 2)))
        side = {"transform": ax.get_yaxis_transform(), "ha": "right", "va": "bottom"}
        side["bbox"] = {"facecolor": "white", "alpha": 0.75, "lw": 0, "pad": 1}
        ax.text(1, level, name, fontsize=12, color="#333333", **side)
    ax.set(xlabel=xlabel, ylabel=ylabel, title=title)
    if x is None:
        ax.xaxis.get_major_locator().set_params(integer=True)
    if outside:
        fig.legend(loc="outside lower center", ncols=2)
    elif len(series) > 1:
        ax.legend()
    return fig


def overlay(
    image: ArrayLike,
    masks: Mapping[str, ArrayLike],
    class_names: Sequence[str],
    title: str = "Image",
    alpha: float = 0.45,
) -> Figure:
    """The image, then the same under each mask: tinted and outlined classes, and a legend.

    image as in `grid`; masks: {title: integers (h, w)}; class 0 is the background, left clear.
    """
    image = np.asarray(image)
    panels = {title: None, **masks}
    height = 0.95 * WIDTH / len(panels) * image.shape[0] / image.shape[1] + 0.9
    fig, axes = plt.subplots(1, len(panels), figsize=(WIDTH, height), squeeze=False)
    classes = list(zip(class_names, (None, *COLOURS), strict=False))
    for ax, (name, mask) in zip(axes.flat, panels.items(), strict=True):
        _draw(ax, image)
        ax.set_title(name)
        ax.axis("off")
        for k, (_, colour) in enumerate(
            classes[1:] if mask is not None else (), start=1
        ):
            inside = np.asarray(mask).squeeze() == k
            ax.imshow(
                np.where(inside[..., None], mpl.colors.to_rgba(colour, alpha), 0.0)
            )
            if inside.any() and not inside.all():
                ax.contour(inside, [0.5], colors=[colour], linewidths=1.8)
    handles = [
        mpl.patches.Patch(color=colour, label=name) for name, colour in classes[1:]
    ]
    fig.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return fig


def confusion(
    matrix: ArrayLike,
    class_names: Sequence[str],
    xlabel: str,
    ylabel: str,
    normalise: bool = False,
) -> Figure:
    """Confusion matrix: counts (n, n), rows the true classes; `normalise`: percent of each row."""
    counts = np.asarray(matrix, dtype=float)
    total = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, total, where=total > 0, out=np.zeros_like(counts))
    return heatmap(shares, class_names, xlabel, ylabel, None if normalise else counts)


def heatmap(
    shares: ArrayLike,
    class_names: Sequence[str],
    xlabel: str,
    ylabel: str,
    written: ArrayLike | None = None,
) -> Figure:
    """Shares (n, n) in 0..1 of pairs of classes: darker is more; each cell says its percentage.

    written: numbers (n, n) to write in the cells instead.
    """
    values = 100 * np.asarray(shares, dtype=float)
    shown = values if written is None else np.asarray(written, dtype=float)
    n = len(class_names)
    side = max(4.2, 0.42 * n + 2)
    fig, ax = plt.subplots(figsize=(WIDTH, side * 0.95))
    ax.imshow(values, cmap="Blues", vmin=0, vmax=100)
    for i in range(n):
        for j in range(n):
            rgb = plt.get_cmap("Blues")(values[i, j] / 100)[:3]
            ink = "white" if np.dot(rgb, (0.2126, 0.7152, 0.0722)) < 0.5 else "black"
            text = ax.text(
                j, i, number(shown[i, j], 0), color=ink, fontsize=13 if n <= 6 else 11
            )
            text.set(ha="center", va="center")
    slanted = (
        {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if n > 3 else {}
    )
    ax.set_xticks(range(n), class_names, **slanted)
    ax.set_yticks(range(n), class_names)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    return fig


def histograms(
    groups: Mapping[str, ArrayLike],
    xlabel: str,
    ylabel: str,
    threshold: float | None = None,
    threshold_label: str = "seuil",
    bins: int = 40,
) -> Figure:
    """Distributions on common bins, in percent of each group, told apart by fill and hatching."""
    fig, ax = plt.subplots(figsize=(WIDTH, 3.6))
    values = {name: np.asarray(v, dtype=float).ravel() for name, v in groups.items()}
    edges = np.histogram_bin_edges(np.concatenate(list(values.values())), bins=bins)
    for i, (name, v) in enumerate(values.items()):
        ax.hist(
            v,
            bins=edges,
            weights=np.full(v.size, 100 / max(1, v.size)),
            histtype="stepfilled",
            alpha=0.55,
            facecolor=COLOURS[i],
            edgecolor=COLOURS[i],
            hatch=("", "///", "...", "\\\\\\")[i % 4],
            label=name,
        )
    if threshold is not None:
        label = f"{threshold_label} : {number(threshold)}"
        ax.axvline(threshold, color="black", ls="--", label=label)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.legend()
    return fig


def scatter(
    points: ArrayLike, labels: ArrayLike, names: Sequence[str], xlabel: str, ylabel: str
) -> Figure:
    """Points of the plane (n, 2) by class: colour, marker, and the name at the class's median.

    labels: integers (n,), indices in `names`.
    """
    points, labels = np.asarray(points), np.asarray(labels)
    fig, ax = plt.subplots(figsize=(WIDTH, 5.0))
    texts = []
    for k, name in enumerate(names):
        of_class = points[labels == k]
        if not len(of_class):
            continue
        colour = COLOURS[k % len(COLOURS)]
        ax.plot(*of_class.T, MARKERS[k % 10], ms=4, color=colour, alpha=0.5, mew=0)
        outline = [patheffects.withStroke(linewidth=3, foreground="white")]
        text = ax.text(*np.median(of_class, axis=0), name, path_effects=outline)
        darker = 0.6 * np.array(mpl.colors.to_rgb(colour))
        text.set(ha="center", va="center", weight="bold", color=darker)
        texts.append(text)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    _spread(fig, texts)
    return fig


def _spread(fig: Figure, texts: Sequence[Text]) -> None:
    """Moves centred texts up or down until none covers another."""
    fig.draw_without_rendering()
    boxes = [text.get_window_extent() for text in texts]
    sizes = np.array([(box.width + 4, box.height + 1) for box in boxes])
    centres = np.array(
        [((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2) for box in boxes]
    )
    for _ in range(100):
        for i in range(len(texts)):
            for j in range(i):
                gap = np.abs(centres[i] - centres[j]) - (sizes[i] + sizes[j]) / 2
                if (gap < 0).all():
                    up = 1 if centres[i, 1] >= centres[j, 1] else -1
                    centres[i, 1] -= up * gap[1] / 2
                    centres[j, 1] += up * gap[1] / 2
    for text, centre in zip(texts, centres, strict=True):
        text.set_position(text.axes.transData.inverted().transform(centre))
