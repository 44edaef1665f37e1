"""utils.figures: what is displayed, how it is encoded, and what the drawings hold."""

import base64
import io
import subprocess
import sys

import numpy as np
import pytest
from matplotlib import pyplot as plt
from PIL import Image

from utils import figures

ALT = "Deux courbes montent, de 0,5 à 0,9, en vingt époques."


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def decode(fig):
    return Image.open(io.BytesIO(figures.png(fig)))


@pytest.fixture
def shell():
    """A running IPython shell whose displayed bundles are captured."""
    from IPython.core.displaypub import CapturingDisplayPublisher
    from IPython.core.interactiveshell import InteractiveShell

    ip = InteractiveShell.instance()
    ip.display_pub = CapturingDisplayPublisher()
    yield ip.display_pub.outputs
    InteractiveShell.clear_instance()


# --- show -----------------------------------------------------------------------------------


def test_show_displays_the_png_and_its_alt_text_then_closes(shell):
    fig = figures.curves({"a": [1, 2]}, "x", "y")
    figures.show(fig, alt=f"  {ALT}\n")
    (output,) = shell
    assert set(output["data"]) == {"image/png", "text/plain"}
    assert output["data"]["text/plain"] == ALT
    assert output["metadata"] == {"image/png": {"alt": ALT}}
    assert not plt.fignum_exists(fig.number)
    image = output["data"]["image/png"]
    assert Image.open(io.BytesIO(image)).size == (600, 380)


def test_the_output_stored_in_a_notebook_has_the_alt_text():
    """Through a real kernel: what nbformat stores is what the book reads."""
    import nbformat
    from nbclient import NotebookClient

    code = (
        "from utils import figures\n"
        "fig, ax = figures.plt.subplots()\n"
        f"figures.show(fig, alt={ALT!r})"
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    NotebookClient(notebook, kernel_name="python3", timeout=60).execute()
    (output,) = notebook.cells[0].outputs  # shown once, not again by the inline backend
    assert output.output_type == "display_data"
    assert output.metadata["image/png"]["alt"] == ALT
    assert output.data["text/plain"] == ALT
    image = Image.open(io.BytesIO(base64.b64decode(output.data["image/png"])))
    assert image.size == (600, 380)  # the course's style, not the inline backend's


@pytest.mark.parametrize("alt", ["", "   \n ", "Une courbe monte."])
def test_show_refuses_a_poor_alt_text(alt, shell):
    with pytest.raises(ValueError, match="Décrivez la figure"):
        figures.show(figures.curves({"a": [1, 2]}, "x", "y"), alt=alt)
    assert shell == []


def test_show_does_nothing_outside_ipython(capsys):
    figures.show(figures.curves({"a": [1, 2]}, "x", "y"), alt=ALT)
    assert capsys.readouterr().out == ""


def test_animate_displays_one_png_that_moves_and_ends_on_its_last_frame(shell):
    figs = [figures.curves({"a": [1, k]}, "x", "y") for k in (1, 2, 3)]
    figures.animate(figs, alt=ALT, seconds=0.5)
    (output,) = shell
    assert output["metadata"] == {"image/png": {"alt": ALT}}
    assert output["data"]["text/plain"] == ALT
    assert not any(plt.fignum_exists(fig.number) for fig in figs)
    image = Image.open(io.BytesIO(output["data"]["image/png"]))
    assert (image.n_frames, image.info["loop"]) == (3, 3)
    frames, lasting = [], []
    for k in range(3):
        image.seek(k)
        frames.append(np.asarray(image.convert("RGB")))
        lasting.append(image.info["duration"])
    assert lasting == [500, 500, 1500]
    assert all((a != b).any() for a, b in zip(frames, frames[1:], strict=False))
    with pytest.raises(ValueError, match="Décrivez la figure"):
        figures.animate([figures.curves({"a": [1, 2]}, "x", "y")], alt="court")


def test_spread_is_the_sample_deviation_in_french():
    assert figures.spread([1.0, 2.0, 4.0], digits=2) == "2,33\u00a0±\u00a01,53"
    assert figures.spread([0.9]) == "0,900 (une graine)"


# --- Encoding -------------------------------------------------------------------------------


def test_line_plot_is_a_faithful_palette_png_on_opaque_white():
    image = decode(
        figures.curves({str(k): np.sin(np.arange(9) + k) for k in range(7)}, "x", "y")
    )
    assert image.mode == "P"
    assert "transparency" not in image.info
    assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)


def test_grey_images_lose_nothing_in_the_palette():
    fig = figures.grid([np.arange(256, dtype=np.uint8).reshape(16, 16)])
    image = decode(fig)
    drawn = io.BytesIO()
    fig.savefig(drawn, dpi=100)
    assert image.mode == "P"
    assert np.array_equal(image.convert("RGB"), Image.open(drawn).convert("RGB"))


def test_photograph_keeps_its_colours_in_an_rgb_png():
    from skimage import data

    assert decode(figures.grid([data.coffee()])).mode == "RGB"  # too many colours
    small = np.asarray(Image.fromarray(data.coffee()).resize((40, 40)))
    tiles = [np.roll(small, k, axis=2) for k in range(3)] + [
        small.swapaxes(0, 1),
        255 - small,
    ]
    assert (
        decode(figures.grid(tiles)).mode == "RGB"
    )  # fewer than 2**14, badly approximated


def test_default_ticks_get_a_decimal_comma_and_images_no_grid_lines():
    fig, (left, right) = plt.subplots(1, 2)
    left.plot([0, 0.5], [0, 0.001])
    right.imshow(np.zeros((3, 3)))
    figures.png(fig)
    written = [t.get_text() for t in left.get_xticklabels()]
    assert "0,2" in written
    assert not any("." in text for text in written)
    assert not any(line.get_visible() for line in right.get_xgridlines())
    assert any(line.get_visible() for line in left.get_xgridlines())


@pytest.mark.parametrize(
    ("value", "digits", "written"),
    [
        (0.9063, 3, "0,906"),
        (-1.5, 1, "−1,5"),
        (-0.0004, 3, "0,000"),
        (60000, 0, "60\u202f000"),
        (5999, 0, "5999"),
    ],
)
def test_number_is_written_in_french(value, digits, written):
    assert figures.number(value, digits) == written


@pytest.mark.parametrize(
    ("value", "digits", "written"),
    [
        (3.2e-8, 0, "3\u00a0×\u00a010⁻⁸"),
        (-1.5e6, 1, "\u22121,5\u00a0×\u00a010⁶"),
        (0.4, 0, "0,4"),
        (13.2, 0, "13"),
        (0.0, 0, "0"),
    ],
)
def test_gaps_are_written_with_powers_of_ten(value, digits, written):
    assert figures.scientific(value, digits) == written


# --- Drawings -------------------------------------------------------------------------------


def test_grid_of_seven_in_rows_of_three():
    images = [np.full((4, 4), k / 7) for k in range(7)]
    fig = figures.grid(
        images, [f"n° {k}" for k in range(7)], columns=3, row_labels=["a", "b", "c"]
    )
    assert len(fig.axes) == 9
    assert [len(ax.images) for ax in fig.axes] == [1] * 7 + [0] * 2
    assert [ax.get_title() for ax in fig.axes[:7]] == [f"n° {k}" for k in range(7)]
    assert [fig.axes[k].get_ylabel() for k in (0, 3, 6)] == ["a", "b", "c"]
    for k in range(7):
        (shown,) = fig.axes[k].images
        assert np.array_equal(shown.get_array(), images[k])
        assert shown.get_clim() == (0, 1)  # one scale for all, not each its own


def test_grid_takes_bytes_and_floats_grey_and_colour(caplog):
    byte = np.full((4, 6), 200, np.uint8)
    colour = np.full((4, 6, 3), 1.7)
    fig = figures.grid(
        [byte, byte[..., None], colour, np.dstack([byte] * 3)], columns=4
    )
    assert fig.axes[0].images[0].get_clim() == (0, 255)
    assert fig.axes[1].images[0].get_array().shape == (4, 6)
    assert fig.axes[2].images[0].get_array().max() == 1.0
    assert not caplog.records  # Matplotlib would warn the reader of a clipping


@pytest.mark.parametrize(
    "arguments",
    [
        {"images": []},
        {"images": [np.zeros((2, 2))] * 3, "titles": ["a"]},
        {"images": [np.zeros((2, 2))] * 3, "columns": 2, "row_labels": ["a", "b", "c"]},
    ],
)
def test_grid_refuses_missing_images_or_names(arguments):
    with pytest.raises(ValueError, match="Aucune image|noms pour"):
        figures.grid(**arguments)


def test_curves_draws_the_mean_over_runs_with_a_band_of_one_deviation():
    runs = np.array([[1.0, 2.0, 4.0], [3.0, 2.0, 8.0]])
    fig = figures.curves({"trois graines": runs, "une": [0, 1, 2]}, "époque", "perte")
    (ax,) = fig.axes
    first, second = ax.lines
    assert first.get_xdata().tolist() == [1, 2, 3]
    assert first.get_ydata().tolist() == [2, 2, 6]
    (band,) = ax.collections
    edges = band.get_paths()[0].vertices
    root2 = np.sqrt(2)
    assert {
        (1.0, round(2 - root2, 6)),
        (1.0, round(2 + root2, 6)),
        (3.0, round(6 + 2 * root2, 6)),
    } <= {(x, round(y, 6)) for x, y in edges}
    assert first.get_marker() != second.get_marker()
    assert first.get_linestyle() != second.get_linestyle()
    assert first.get_color() != second.get_color()
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("époque", "perte")
    assert [t.get_text() for t in ax.get_legend().get_texts()] == [
        "trois graines",
        "une",
    ]


def test_curves_takes_an_abscissa_for_each_series_and_reference_levels():
    x = {"a": [0, 0.5, 1], "b": [0, 1]}
    fig = figures.curves(
        {"a": [1, 2, 3], "b": [5, 6]}, "x", "y", x=x, levels={"hasard": 0.5}
    )
    (ax,) = fig.axes
    assert [list(line.get_xdata()) for line in ax.lines[:2]] == [[0, 0.5, 1], [0, 1]]
    assert ax.lines[2].get_ydata() == [0.5, 0.5]
    assert [t.get_text() for t in ax.texts] == ["hasard"]


def test_many_curves_have_their_legend_outside_the_axes():
    fig = figures.curves({str(k): [k, k + 1] for k in range(6)}, "x", "y")
    assert fig.axes[0].get_legend() is None
    assert [t.get_text() for t in fig.legends[0].get_texts()] == list("012345")


def test_overlay_tints_each_class_but_the_background():
    mask = np.zeros((4, 4), int)
    mask[0, 0], mask[3, 3] = 1, 2
    fig = figures.overlay(
        np.zeros((4, 4, 3)), {"vérité": mask}, ["fond", "animal", "bord"]
    )
    plain, over = fig.axes
    assert len(plain.images) == 1
    tints = [np.asarray(image.get_array())[..., 3] for image in over.images[1:]]
    assert np.array_equal(tints[0] > 0, mask == 1)
    assert np.array_equal(tints[1] > 0, mask == 2)
    assert [t.get_text() for t in fig.legends[0].get_texts()] == ["animal", "bord"]


def test_confusion_writes_counts_or_row_percentages_legibly():
    matrix = [[90, 10], [1, 3]]
    counts = figures.confusion(matrix, ["non", "oui"], "prédite", "réelle").axes[0]
    assert [t.get_text() for t in counts.texts] == ["90", "10", "1", "3"]
    rates = figures.confusion(
        matrix, ["non", "oui"], "prédite", "réelle", normalise=True
    ).axes[0]
    assert [t.get_text() for t in rates.texts] == ["90", "10", "25", "75"]
    assert [t.get_color() for t in rates.texts] == ["white", "black", "black", "white"]
    assert (rates.get_xlabel(), rates.get_ylabel()) == ("prédite", "réelle")
    assert [t.get_text() for t in rates.get_yticklabels()] == ["non", "oui"]


def test_heatmap_writes_and_shades_each_share_by_itself():
    (ax,) = figures.heatmap([[1.0, 0.2], [0.2, 0.4]], ["a", "b"], "x", "y").axes
    assert [text.get_text() for text in ax.texts] == ["100", "20", "20", "40"]
    np.testing.assert_allclose(ax.images[0].get_array(), [[100, 20], [20, 40]])


def test_confusion_accepts_a_class_without_example():
    (ax,) = figures.confusion(
        [[0, 0], [2, 2]], ["a", "b"], "x", "y", normalise=True
    ).axes
    assert [t.get_text() for t in ax.texts] == ["0", "0", "50", "50"]


def test_histograms_share_bins_and_sum_to_one_hundred_percent():
    groups = {"semblables": [0, 0.2, 0.4], "différentes": np.linspace(0.5, 1, 50)}
    (ax,) = figures.histograms(
        groups, "distance", "part (%)", threshold=0.5, bins=10
    ).axes
    one, other = ax.patches
    for patch in (one, other):
        heights = patch.get_xy()
        steps = [
            (b[0] - a[0]) * a[1] for a, b in zip(heights, heights[1:], strict=False)
        ]
        top = sum(s for s in steps if s > 0)
        assert top == pytest.approx(100 * 0.1)  # bins of width 0.1 over 0..1
    assert one.get_hatch() != other.get_hatch()
    labels = [t.get_text() for t in ax.get_legend().get_texts()]
    assert labels == ["semblables", "différentes", "seuil : 0,50"]


def test_scatter_names_each_class_at_its_median_and_parts_the_names():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(60, 2)) + np.repeat(
        [[0, 0], [0, 0.1], [9, 9]], 20, axis=0
    )
    labels = np.repeat([0, 1, 2], 20)
    fig = figures.scatter(
        points, labels, ["robe", "manteau", "sac", "absente"], "x", "y"
    )
    (ax,) = fig.axes
    assert [t.get_text() for t in ax.texts] == ["robe", "manteau", "sac"]
    assert ax.texts[2].get_position() == pytest.approx(
        np.median(points[40:], axis=0), abs=0.05
    )
    fig.draw_without_rendering()
    one, other = (t.get_window_extent() for t in ax.texts[:2])
    assert not one.overlaps(other)
    assert len({line.get_marker() for line in ax.lines}) == 3


def test_percent_is_french():
    assert figures.percent(0.9136, 1) == "91,4\u00a0%"
    assert figures.percent(0.5) == "50\u00a0%"


def test_figures_do_not_import_keras():
    code = "import sys; from utils import figures; sys.exit('keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
