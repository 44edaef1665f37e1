"""The explorer of thresholds: its arithmetic against NumPy, then the widget."""

import itertools
import math

import numpy as np
import pytest

from tests import test_site, widget
from tests.book_site import ROOT, site
from tests.notebook import load
from tests.widget import text, violations

pytestmark = test_site.pytestmark
browser = test_site.browser
folder, url, page = widget.folder, widget.url, widget.page
opened, dark_phone = widget.opened, widget.dark_phone

CHAPTER = "11_face_fairness"
PAGE = f"notebooks/{CHAPTER}.html"
TAGS = ("explorer", "explorer-thresholds")
SCRIPT = "thresholdsExplorer"
RATES = ("selection", "recall", "falsePositive", "precision", "accuracy")
BINS = 200

# Of each group: share of class 1, separation; then the share of group A.
DOCUMENT = (((0.249, 2.6), (0.113, 2.6)), 0.5)
SETTINGS = (
    DOCUMENT,
    (((0.18, 2.6), (0.18, 1.6)), 0.5),
    (((0.5, 0.0), (0.01, 4.0)), 0.1),
    (((0.6, 1.3), (0.333, 3.7)), 0.9),
)


def fill(page, name, value):
    """Choose a situation, tick the box, or move a range to a value as its keys would."""
    field = page.locator(f".explorer [name={name}]")
    if name == "situation":
        field.select_option(value)
    elif name == "same":
        field.set_checked(value)
    else:
        field.fill(str(value))


def press(page, name):
    page.get_by_role("button", name=name, exact=True).click()


def thresholds(page):
    names = ("thresholdA", "thresholdB")
    return [
        int(page.locator(f".explorer [name={name}]").input_value()) for name in names
    ]


def together(page):
    return page.locator(".explorer [name=same]").is_checked()


def cells(page):
    return page.locator(".explorer td").evaluate_all(
        "cells => cells.map(c => [c.dataset.name, c.dataset.column ?? null,"
        " c.dataset.value, c.textContent])"
    )


def measured(page):
    """The numbers behind the table, unrounded: {(name, column or None): value}."""
    return {(name, column): float(value) for name, column, value, _ in cells(page)}


SILENT = "Ce que change un réglage s’écrit ici."
STATUS = "document.querySelector('.explorer [role=status]')"


def said(page):
    """The sentence that the explorer writes once the reader has stopped."""
    page.wait_for_function(f"silent => {STATUS}.textContent !== silent", arg=SILENT)
    words = text(page, "[role=status]")
    page.evaluate(f"silent => {{ {STATUS}.textContent = silent; }}", SILENT)
    return words


# --- reference: each group as a table of expected counts, class by prediction -------------------


def crowd(rate, separation):
    """Expected share of each score in a group: (2 classes, 200 bins), of sum 1."""
    scores = (np.arange(BINS, dtype=np.longdouble) + 0.5) / BINS
    rows = []
    for side, share in ((-1, 1 - rate), (1, rate)):
        distance = (scores - 0.5 - side * np.longdouble(separation) / 20) / 0.1
        density = np.exp(-0.5 * distance**2)
        rows.append(share * density / density.sum())
    return np.stack(rows)


def reference(rate, separation, threshold):
    """The rates of a group, by the definitions."""
    people = crowd(rate, separation)
    predicted = np.arange(BINS) >= threshold
    (tn, fp), (fn, tp) = (
        (row[~predicted].sum(), row[predicted].sum()) for row in people
    )
    return {
        "selection": tp + fp,
        "recall": tp / (tp + fn),
        "falsePositive": fp / (fp + tn),
        "precision": tp / (tp + fp) if tp + fp else math.nan,
        "accuracy": tp + tn,
    }


def fair_metric(one, two):
    return np.mean([one["accuracy"], two["accuracy"]]) - 2 * np.abs(
        one["accuracy"] - two["accuracy"]
    )


def whole(share, one, two):
    return share * one["accuracy"] + (1 - share) * two["accuracy"]


def expected(groups, share, chosen):
    """The table of the widget, as `measured` reads it."""
    one, two = (reference(*group, k) for group, k in zip(groups, chosen, strict=True))
    table = {(name, "A"): one[name] for name in RATES}
    table |= {(name, "B"): two[name] for name in RATES}
    table |= {(name, "gap"): one[name] - two[name] for name in RATES}
    table["overall", None] = whole(share, one, two)
    table["metric", None] = fair_metric(one, two)
    absent = [1 - rate for rate, _ in groups]
    table["constant", None] = share * absent[0] + (1 - share) * absent[1]
    return {key: float(value) for key, value in table.items()}


def close(value):
    return pytest.approx(value, rel=1e-9, abs=1e-11, nan_ok=True)


def asked(groups):
    """Groups as the script takes them."""
    return [{"rate": rate, "separation": separation} for rate, separation in groups]


@pytest.mark.parametrize(("groups", "share"), SETTINGS)
def test_rates_are_those_of_numpy(page, groups, share):
    chosen = [(0, 200), (200, 0), (112, 112), (37, 161), (100, 101), (199, 1)]
    found = page.evaluate(
        "([groups, chosen, share]) =>"
        " chosen.map(pair => thresholdsExplorer.evaluate(groups, pair, share))",
        [asked(groups), chosen, share],
    )
    for pair, result in zip(chosen, found, strict=True):
        table = expected(groups, share, pair)
        for column, rates in zip("AB", result["groups"], strict=True):
            for name in RATES:
                value = math.nan if rates[name] is None else rates[name]
                assert value == close(table[name, column]), (pair, name)
        assert result["overall"] == close(table["overall", None])
        assert result["fairMetric"] == close(table["metric", None])


def test_histograms_are_gaussian(page):
    """Their tails, as far as 200 bins and the ends 0 and 1 allow."""
    found = page.evaluate(
        "g => thresholdsExplorer.rates(g)", {"rate": 0.3, "separation": 2.6}
    )
    for k in range(BINS + 1):
        for name, centre in (("falsePositive", 0.37), ("recall", 0.63)):
            tail = math.erfc((k / BINS - centre) / 0.1 / math.sqrt(2)) / 2
            assert found[k][name] == pytest.approx(tail, abs=3e-4)


def losses(goal, groups, start):
    """What a button makes small, for each pair of thresholds it may choose."""
    first, second = (
        [reference(*group, k) for k in range(BINS + 1)] for group in groups
    )
    if goal != "metric":
        one = first[start[0]]
        return {
            (start[0], k): abs(one[goal] - two[goal]) for k, two in enumerate(second)
        }
    pairs = itertools.product(range(BINS + 1), repeat=2)
    return {(i, k): -fair_metric(first[i], second[k]) for i, k in pairs}


@pytest.mark.parametrize("groups", [groups for groups, _ in SETTINGS])
@pytest.mark.parametrize("goal", ["recall", "selection", "metric"])
def test_search_finds_the_best_of_all_thresholds(page, goal, groups):
    search = "c => thresholdsExplorer.search(...c)"
    for start in ((112, 112), (80, 140)):
        found = page.evaluate(search, [goal, asked(groups), start])
        loss = losses(goal, groups, start)
        least = min(loss.values())
        best = [pair for pair, value in loss.items() if value < least + 1e-11]
        assert tuple(found) == best[0]


# --- the widget ---------------------------------------------------------------------------------


def test_opens_on_equal_rates_of_error_and_unequal_accuracies(page):
    assert thresholds(page) == [112, 112]
    assert together(page)
    table = measured(page)
    assert table == close(expected(*DOCUMENT, (112, 112)))
    assert table["recall", "gap"] == table["falsePositive", "gap"] == 0
    assert table["accuracy", "gap"] < -0.02
    assert table["precision", "gap"] > 0.1
    assert text(page, "p.formula") == (
        "Fair Metric = (0,9182 + 0,9472) / 2 − 2 × 0,0290 = 0,875"
    )
    assert text(page, "[role=status]") == SILENT
    assert text(page, ".remark") == ""


@pytest.mark.parametrize(
    ("settings", "groups", "share"),
    [
        ({"situation": "equal"}, ((0.18, 2.6), (0.18, 2.6)), 0.5),
        ({"situation": "blurred", "share": 70}, ((0.18, 2.6), (0.18, 1.6)), 0.7),
        ({"rateB": 60, "separationA": 0}, ((0.249, 0), (0.6, 2.6)), 0.5),
        (
            {"rateA": 1, "separationB": 4, "share": 10},
            ((0.01, 2.6), (0.113, 4)),
            0.1,
        ),
    ],
)
def test_settings_reach_the_results(page, settings, groups, share):
    for name, value in settings.items():
        fill(page, name, value)
    fill(page, "same", False)
    fill(page, "thresholdA", 91)
    fill(page, "thresholdB", 130)
    assert measured(page) == close(expected(groups, share, (91, 130)))
    situation = page.locator(".explorer [name=situation]").input_value()
    assert situation == settings.get("situation", "custom")


def test_writes_numbers_in_french(page):
    fill(page, "same", False)
    fill(page, "thresholdB", 90)
    for name, column, value, shown in cells(page):
        assert "." not in shown
        assert "-" not in shown
        read = shown.replace("−", "-").replace(",", ".").replace("\u202f", "")
        read = float(read.removesuffix("\u00a0%"))
        scale, tolerance = (1, 0.00051) if name == "metric" else (100, 0.051)
        assert read == pytest.approx(scale * float(value), abs=tolerance)
        assert shown.startswith("+") == (column == "gap" and read > 0)
    labels = page.locator(".explorer label b").all_text_contents()
    assert [label.replace("\u00a0", " ") for label in labels] == [
        *("0,56", "0,45", "24,9 %", "11,3 %"),
        *("2,6 écarts types", "2,6 écarts types", "50 %"),
    ]


def test_one_threshold_or_two(page):
    fill(page, "thresholdB", 120)
    assert thresholds(page) == [120, 120]
    fill(page, "same", False)
    fill(page, "thresholdB", 90)
    assert thresholds(page) == [120, 90]
    assert text(page, ".remark") == (
        "Entre 0,45 et 0,6, la même note est prédite 1 dans le groupe B et 0 dans le groupe A."
    )
    fill(page, "same", True)
    assert thresholds(page) == [120, 120]
    assert text(page, ".remark") == ""


def test_nobody_chosen_has_no_precision(page):
    fill(page, "thresholdA", 200)
    assert math.isnan(measured(page)["precision", "A"])
    shown = {(name, column): written for name, column, _, written in cells(page)}
    for column in ("A", "B", "gap"):
        assert shown["precision", column] == "—"
    assert "dans le groupe A : sa précision n’est pas définie" in text(page, ".remark")
    assert "dans le groupe B : sa précision n’est pas définie" in text(page, ".remark")
    table = measured(page)
    assert table["overall", None] == pytest.approx(table["constant", None])


def test_buttons_reach_what_they_name(page):
    fill(page, "same", False)
    fill(page, "thresholdB", 150)
    press(page, "Mêmes rappels")
    assert thresholds(page) == [112, 112], "same bells: same threshold"

    fill(page, "same", True)
    before = measured(page)
    press(page, "Mêmes taux de sélection")
    after = measured(page)
    assert abs(after["selection", "gap"]) < 0.005 < abs(before["selection", "gap"])
    assert after["falsePositive", "B"] > 2 * before["falsePositive", "B"]
    assert not together(page), "two thresholds are needed"

    press(page, "Réinitialiser")
    press(page, "Meilleure Fair Metric")
    best = measured(page)
    assert best["metric", None] > before["metric", None] + 0.04
    assert best["accuracy", "B"] < before["accuracy", "B"] - 0.02, "levelling down"
    assert best["overall", None] < before["overall", None]
    assert best == close(expected(*DOCUMENT, thresholds(page)))


def test_button_on_blurred_group_moves_its_threshold(page):
    fill(page, "situation", "blurred")
    press(page, "Mêmes rappels")
    assert thresholds(page)[0] == 112
    assert thresholds(page)[1] < 112
    assert abs(measured(page)["recall", "gap"]) < 0.01


def test_reset_brings_everything_back(page):
    start = (thresholds(page), measured(page))
    fill(page, "situation", "blurred")
    fill(page, "share", 30)
    fill(page, "same", False)
    fill(page, "thresholdA", 20)
    assert (thresholds(page), measured(page)) != start
    press(page, "Réinitialiser")
    assert (thresholds(page), measured(page)) == start
    assert together(page)
    assert page.locator(".explorer [name=situation]").input_value() == "document"


def test_sentence_says_what_changed(page):
    fill(page, "same", False)
    press(page, "Mêmes taux de sélection")
    now = thresholds(page)[1]
    old, new = (expected(*DOCUMENT, (112, k)) for k in (112, now))
    gain = {key: new[key] - old[key] for key in new}

    def written(value, form):
        return format(value, form).replace("-", "−").replace(".", ",")

    def points(key):
        return f"{written(100 * new[key], '.1f')} % ({written(100 * gain[key], '.1f')} points)"

    threshold = written(now / BINS, "g")
    assert said(page) == (
        f"Mêmes taux de sélection. Seuil, groupe B : {threshold} au lieu de 0,56. "
        f"Exactitude : groupe A 91,8 % (inchangée), groupe B {points(('accuracy', 'B'))} ; "
        f"ensemble {points(('overall', None))}. Fair Metric : "
        f"{written(new['metric', None], '.3f')} ({written(gain['metric', None], '.3f')})."
    )
    press(page, "Mêmes taux de sélection")
    assert said(page) == "Mêmes taux de sélection. Rien ne change."
    press(page, "Réinitialiser")
    assert said(page).startswith(
        f"Réglages de départ. Seuil, groupe B : 0,56 au lieu de {threshold}."
    )
    fill(page, "thresholdA", 100)
    assert said(page).startswith("Seuil commun : 0,5 au lieu de 0,56. Exactitude :")


def test_sentence_waits_until_the_reader_stops(page):
    widget.listen(page)
    page.focus(".explorer [name=thresholdB]")
    for _ in range(6):
        page.keyboard.press("ArrowLeft")
    heard = widget.heard(page)
    assert len(heard) == 1
    assert heard[0].startswith("Seuil commun")


def test_everything_is_reached_from_the_keyboard(page):
    page.focus(".explorer [name=situation]")
    reached = []
    while page.evaluate("document.activeElement.closest('.explorer') !== null"):
        reached.append(
            page.evaluate(
                "(({ name, dataset }) => name || dataset.action)(document.activeElement)"
            )
        )
        assert page.evaluate(
            "getComputedStyle(document.activeElement).outlineStyle == 'solid'"
        )
        page.keyboard.press("Tab")
    actions = ["recall", "selection", "metric", "reset"]
    groups = ["rateA", "rateB", "separationA", "separationB", "share"]
    firsts = ["situation", "same", "thresholdA", "thresholdB"]
    assert reached == [*firsts, *actions, *groups]

    page.focus(".explorer [name=thresholdA]")
    for key, value in {
        "ArrowRight": 113,
        "ArrowLeft": 112,
        "End": 200,
        "Home": 0,
    }.items():
        page.keyboard.press(key)
        assert thresholds(page) == [value, value], key
    page.focus(".explorer [name=same]")
    page.keyboard.press("Space")
    assert not together(page)
    page.focus(".explorer [data-action=metric]")
    page.keyboard.press("Enter")
    assert measured(page)["metric", None] > 0.9
    page.focus(".explorer [data-action=reset]")
    page.keyboard.press("Space")
    assert thresholds(page) == [112, 112]


def test_sliders_are_named(page):
    for letter in "AB":
        for name, value in {
            "Seuil": "0,56",
            "Classe 1": "24,9\u00a0%" if letter == "A" else "11,3\u00a0%",
            "Séparation": "2,6 écarts types",
        }.items():
            slider = page.get_by_role("slider", name=f"{name}, groupe {letter}")
            assert slider.count() == 1
            assert slider.get_attribute("aria-valuetext") == value
    drawing = page.get_by_role("img", name="Histogramme des notes du groupe B")
    fill(page, "thresholdB", 90)
    assert drawing.get_attribute("aria-label").endswith(
        "classe 0 autour de 0,37, classe 1 autour de 0,63\u00a0; seuil 0,45"
    )


def drawn(page, letter, name):
    """The points of a path, in the drawing's units."""
    path = page.locator(f".explorer [aria-labelledby$={letter}] path.{name}")
    box = path.evaluate(
        "p => { const b = p.getBBox(); return [b.x, b.y, b.width, b.height]; }"
    )
    return dict(zip(("x", "y", "width", "height"), box, strict=True))


def test_drawing_is_that_of_the_numbers(page):
    """Heights in proportion of the people, the same scale in both groups; the line at the score."""
    fill(page, "same", False)
    fill(page, "thresholdB", 60)
    heights = [
        [drawn(page, letter, name)["height"] for name in ("zero", "one")]
        for letter in "AB"
    ]
    people = np.stack([crowd(*group).max(axis=1) for group in DOCUMENT[0]])
    scale = np.array(heights) / np.float64(people)
    np.testing.assert_allclose(scale, scale[0, 0], rtol=0.01)
    for letter, k in (("A", 112), ("B", 60)):
        line = drawn(page, letter, "threshold")
        assert line["x"] == pytest.approx(8 + 304 * k / BINS, abs=0.01)
    wrong = drawn(page, "B", "wrong")  # false positives: from the threshold on
    assert wrong["height"] == pytest.approx(heights[1][0], rel=0.01)
    fill(page, "thresholdB", 130)
    assert drawn(page, "B", "wrong")["height"] < 0.2 * heights[1][0]


STATES = (
    {},
    {"situation": "blurred"},
    {"same": False, "thresholdA": 0, "thresholdB": 200},
    {"separationA": 0, "separationB": 4, "rateA": 1, "rateB": 60},
)


def show_state(page, settings):
    for name, value in settings.items():
        fill(page, name, value)


def test_is_accessible(page):
    assert violations(page) == []
    for settings in STATES:
        show_state(page, settings)
    said(page)
    press(page, "Meilleure Fair Metric")
    assert said(page)
    assert violations(page) == []


def test_contrasts_in_the_dark(dark_phone):
    assert dark_phone.evaluate("document.documentElement.dataset.theme") == "dark"
    fill(dark_phone, "thresholdA", 200)
    contrast = {"type": "rule", "values": [test_site.CONTRAST]}
    assert violations(dark_phone, runOnly=contrast) == []


@pytest.mark.parametrize("theme", ["opened", "dark_phone"])
def test_drawing_contrasts_with_the_paper(request, theme):
    page = request.getfixturevalue(theme)
    lines = ("path.zero", "path.one", "path.threshold", "pattern path", ".axis")
    names = ("svg .name.zero", "svg .name.one", "svg .side")
    shapes = [(part, "stroke") for part in lines] + [(part, "fill") for part in names]
    widget.check_shapes(page, (".paper", "fill"), shapes)


PARTS = "p:not(.spoken), table, th, td, .group, .group svg, text, label, button, input, select"


def test_fits_a_phone(dark_phone):
    press(dark_phone, "Réinitialiser")
    for settings in STATES:
        show_state(dark_phone, settings)
        assert widget.overflowing(dark_phone, PARTS) == [], settings
        small = "e => parseFloat(getComputedStyle(e).fontSize) * e.getCTM().a"
        texts = dark_phone.locator(".explorer svg text").all()
        assert min(label.evaluate(small) for label in texts) >= 12


# --- around the widget --------------------------------------------------------------------------


def test_figure_is_there_without_javascript_and_on_paper(page, browser, url):
    widget.check_picture_stays(page, browser, url)


def chapter_file():
    path = ROOT / f"notebooks/{CHAPTER}.py"
    if not path.exists() or "explorer-thresholds" not in path.read_text("utf8"):
        pytest.skip("chapter 11 has no explorer yet")
    return path


def test_computes_what_the_chapter_computes(page):
    chapter_file()
    chapter = load(CHAPTER)
    for groups, _ in SETTINGS:
        found = page.evaluate(
            "groups => groups.map(thresholdsExplorer.rates)", asked(groups)
        )
        for group, of_widget in zip(groups, found, strict=True):
            of_chapter = chapter.threshold_rates(*group)
            assert list(of_chapter) == [*RATES[:2], "false_positive", *RATES[3:]]
            for name, values in zip(RATES, of_chapter.values(), strict=True):
                ours = [math.nan if r[name] is None else r[name] for r in of_widget]
                np.testing.assert_allclose(ours, values, atol=1e-11)
        for goal in ("recall", "selection", "metric"):
            start = (112, 112)
            pair = page.evaluate(
                "c => thresholdsExplorer.search(...c)",
                [goal, asked(groups), start],
            )
            assert chapter.best_thresholds(goal, groups, start) == tuple(pair)


def test_takes_its_place_in_the_chapter(browser):
    chapter_file()
    if not (site() / PAGE).exists():
        pytest.skip("chapter 11 is not in the book yet")
    context = browser.new_context()
    page = context.new_page()
    page.goto((site() / PAGE).as_uri(), wait_until="commit")
    page.wait_for_selector(".explorer.thresholds")
    assert thresholds(page) == [112, 112]
    assert page.locator(".tag_explorer .cell_output img.explored").count() == 1
    context.close()
