"""The explorer of the losses with a margin: its arithmetic against NumPy, then the widget."""

import math

import numpy as np
import pytest

from tests import test_site, widget
from tests.book_site import ROOT, site
from tests.widget import text, violations

pytestmark = test_site.pytestmark
browser = test_site.browser
folder, url, page = widget.folder, widget.url, widget.page
opened, dark_phone = widget.opened, widget.dark_phone

PAGE = "notebooks/09_arcface.html"
TAGS = ("explorer", "explorer-arcface")
SCRIPT = "arcfaceExplorer"
MARGINS = {
    "softmax": (0,),
    "sphereface": (1, 2, 3, 4),
    "cosface": (0, 0.35, 1),
    "arcface": (0, 0.3, 0.5, 1),
}
CENTRES = ((40, 130), (40, 75), (300, 120), (10, 10))
TURN = np.arange(0, 360, 7.5)  # meets the centres and their opposites


def fill(page, name, value):
    """Choose a loss, or move a range to a value as its keys would."""
    if name == "loss":
        page.select_option(".explorer [name=loss]", value)
    else:
        page.locator(f".explorer [name={name}]").fill(str(value))


def point(page, k):
    return page.locator(f".explorer [data-point='{k}']")


def positions(page):
    return [int(point(page, k).get_attribute("aria-valuenow")) for k in range(3)]


def measured(page):
    """The numbers behind the table, unrounded: {(name, class or None): value}."""
    cells = page.locator(".explorer td").evaluate_all(
        "cells => cells.map(c => [c.dataset.name, c.dataset.class, c.dataset.value])"
    )
    return {
        (name, None if k is None else int(k)): float(value) for name, k, value in cells
    }


def place_on_circle(page, degrees):
    """The point of the screen where the circle shows an angle."""
    box = page.locator(".explorer svg").bounding_box()
    radius = box["width"] * 140 / 424
    return (
        box["x"] + box["width"] / 2 + radius * math.cos(math.radians(degrees)),
        box["y"] + box["height"] / 2 - radius * math.sin(math.radians(degrees)),
    )


# --- reference: unit vectors, written from the papers' formulas ---------------------------------

EXACT = np.longdouble
PI = EXACT("3.14159265358979323846264338327950288")


def unit(degrees):
    angle = EXACT(degrees) * PI / 180
    return np.array([np.cos(angle), np.sin(angle)])


def angle_between(u, v):
    """In 0..pi, accurate at both ends."""
    return np.arctan2(abs(u[0] * v[1] - u[1] * v[0]), u[0] * v[0] + u[1] * v[1])


def with_margin(loss, theta, m):
    if loss == "cosface":
        return np.cos(theta) - m
    if loss == "arcface":
        if theta + m > PI:
            return np.cos(theta) - m * np.sin(EXACT(m))
        return np.cos(theta + m)
    if loss == "sphereface":
        for k in range(m):  # the piece that holds theta
            if k * PI <= m * theta <= (k + 1) * PI + EXACT(1e-15):
                return (-1) ** k * np.cos(m * theta) - 2 * k
        raise AssertionError(theta)
    return np.cos(theta)


def reference(loss, m, s, sample, centres):
    """Angles, logits, probabilities and cross-entropy of one sample; the first class is true."""
    x = unit(sample)
    angles = [angle_between(x, unit(centre)) for centre in centres]
    logits = [s * with_margin(loss, angles[0], m), s * np.cos(angles[1])]
    powers = [np.exp(logit - max(logits)) for logit in logits]
    probabilities = [power / sum(powers) for power in powers]
    entropy = max(logits) + np.log(sum(powers)) - logits[0]
    return angles, logits, probabilities, entropy


def slope(loss, m, s, sample, centres):
    """Central difference of the loss per radian: on an edge, the mean of both sides."""
    step = EXACT("1e-7")
    turn = step * 180 / PI
    after = reference(loss, m, s, EXACT(sample) + turn, centres)[3]
    before = reference(loss, m, s, EXACT(sample) - turn, centres)[3]
    return (after - before) / (2 * step)


def cases():
    rng = np.random.default_rng(0)
    for loss, margins in MARGINS.items():
        for m in margins:
            for centres in CENTRES:
                for s in (1, 16, 64):
                    for sample in rng.permutation(TURN)[:16]:
                        yield loss, m, s, float(sample), centres
            for own in CENTRES[0]:  # on the true centre and opposite to it, always
                yield loss, m, 16, float(own), CENTRES[0]
                yield loss, m, 16, float(own + 180), CENTRES[0]


EVALUATE = "cases => cases.map(c => arcfaceExplorer.evaluate(...c))"


@pytest.fixture(scope="module")
def evaluated(opened):
    todo = list(cases())
    return list(zip(todo, opened.evaluate(EVALUATE, todo), strict=True))


def test_the_sweep_meets_the_difficult_places(evaluated):
    thetas = [(case, found["angles"][0]) for case, found in evaluated]
    for loss in MARGINS:
        of_loss = [theta for case, theta in thetas if case[0] == loss]
        assert 0 in of_loss
        assert math.pi in of_loss
    past = [theta for case, theta in thetas if theta + case[1] > math.pi]
    assert len(past) > 50


def test_losses_are_those_of_numpy(evaluated):
    for case, found in evaluated:
        angles, logits, probabilities, entropy = reference(*case)
        where = {"rtol": 1e-9, "atol": 1e-11, "err_msg": str(case)}
        np.testing.assert_allclose(found["angles"], np.float64(angles), **where)
        np.testing.assert_allclose(
            found["cosines"], np.float64(np.cos(angles)), **where
        )
        np.testing.assert_allclose(found["logits"], np.float64(logits), **where)
        np.testing.assert_allclose(
            found["probabilities"], np.float64(probabilities), **where
        )
        np.testing.assert_allclose(found["loss"], float(entropy), **where)


def test_gradient_is_the_slope_of_the_loss(evaluated):
    """Also on the true centre, where ArcFace has an edge, and opposite to it."""
    for case, found in evaluated:
        expected = float(slope(*case))
        tolerance = {"rtol": 1e-5, "atol": 1e-4, "err_msg": str(case)}
        np.testing.assert_allclose(found["gradient"], expected, **tolerance)


def test_small_loss_and_far_logits_stay_finite(page):
    far = page.evaluate(EVALUATE, [["sphereface", 4, 64, 220, [40, 220]]])[0]
    assert far["probabilities"] == pytest.approx([0, 1], abs=1e-200)
    assert far["loss"] == pytest.approx(64 * 8)
    sure = page.evaluate(EVALUATE, [["softmax", 0, 64, 40, [40, 220]]])[0]
    assert sure["loss"] == pytest.approx(math.exp(-128), rel=1e-9)


def wins(loss, m, own, other, sample):
    x, true = unit(sample), unit(own)
    return with_margin(loss, angle_between(x, true), m) > np.dot(x, unit(other))


@pytest.mark.parametrize("loss", MARGINS)
def test_boundaries_separate_what_numpy_separates(page, loss):
    asked = [[loss, m, *pair] for m in MARGINS[loss] for pair in CENTRES[:3]]
    asked += [[loss, m, *pair[::-1]] for m in MARGINS[loss] for pair in CENTRES[:3]]
    zones = page.evaluate("cases => cases.map(c => arcfaceExplorer.zones(...c))", asked)
    for case, arcs in zip(asked, zones, strict=True):
        for sample in np.arange(0.123, 360, 1.9):
            inside = any((sample - low) % 360 <= high - low for low, high in arcs)
            assert inside == wins(*case, sample), (case, sample)
        for edge in np.ravel(arcs):  # no wider than a thousandth of a degree
            assert wins(*case, edge - 1e-3) != wins(*case, edge + 1e-3), (case, edge)


def test_corridor_between_the_classes_is_the_margin(page):
    """ArcFace: the margin itself, as its paper says; CosFace: by the angles' formula."""
    corridor = "c => arcfaceExplorer.corridor(...c)"
    for m in (0, 0.3, 0.5):
        found = page.evaluate(corridor, ["arcface", m, [60, 150]])
        assert found == pytest.approx(math.degrees(m), abs=1e-6)
        assert page.evaluate(corridor, ["arcface", m, [10, 280]]) == pytest.approx(
            math.degrees(m), abs=1e-6
        )
    # cos t - m = cos(90 degrees - t), so that sqrt(2) cos(t + 45 degrees) = m
    held = math.degrees(math.acos(0.35 / math.sqrt(2))) - 45
    found = page.evaluate(corridor, ["cosface", 0.35, [60, 150]])
    assert found == pytest.approx(90 - 2 * held, abs=1e-6)


# --- the widget ---------------------------------------------------------------------------------


def test_opens_on_a_sample_that_the_margin_takes_from_its_class(page):
    assert positions(page) == [60, 150, 95]
    _, logits, probabilities, entropy = reference("arcface", 0.5, 16, 95, (60, 150))
    plain = reference("softmax", 0, 16, 95, (60, 150))[2][0]
    assert probabilities[0] < 0.5 < plain
    found = measured(page)
    for k in (0, 1):
        assert found["logit", k] == pytest.approx(float(logits[k]))
        assert found["probability", k] == pytest.approx(float(probabilities[k]))
    assert found["loss", None] == pytest.approx(float(entropy))
    assert found["plain", None] == pytest.approx(float(plain))
    assert text(page, "p.formula") == (
        "logit 1 = s cos(θ₁ + m) = 16 × cos(35° + 28,6°) = 7,102"
    )
    assert "couloir de 28,6°" in text(page, ".boundaries")
    assert text(page, ".remark") == text(page, "[role=status]") == ""


def test_writes_numbers_in_french(page):
    fill(page, "loss", "sphereface")
    shown = page.locator(".explorer td").all_text_contents()
    assert not any("." in number or "-" in number for number in shown), shown
    read = dict(zip(measured(page).items(), shown, strict=True))
    for ((name, _), value), number in read.items():
        if "≈" in number:
            assert min(abs(value), abs(1 - value)) < 5e-4
            continue
        number = float(number.strip("°").replace("−", "-").replace(",", "."))
        if name == "angle":
            value = math.degrees(value)
        assert number == pytest.approx(value, abs=0.00051)


def test_each_loss_has_its_margins(page):
    margin = page.locator(".explorer [name=margin]")
    expected = {
        "softmax": ("0", "0", "0", "aucune"),
        "sphereface": ("1", "4", "4", "4"),
        "cosface": ("0", "1", "0.35", "0,35"),
        "arcface": ("0", "1", "0.5", "0,5 rad, soit 28,6°"),
    }
    for loss, (low, high, usual, written) in expected.items():
        fill(page, "loss", loss)
        ends = [margin.get_attribute(name) for name in ("min", "max")]
        assert [*ends, margin.input_value()] == [low, high, usual]
        assert margin.get_attribute("aria-valuetext") == written
        assert text(page, ".settings b.margin") == written
        assert margin.is_disabled() == (loss == "softmax")


@pytest.mark.parametrize(
    ("loss", "m", "s"),
    [("arcface", 0.8, 64), ("cosface", 0.2, 1), ("sphereface", 3, 4)],
)
def test_settings_reach_the_results(page, loss, m, s):
    scales = [1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64]
    fill(page, "loss", loss)
    fill(page, "margin", m)
    fill(page, "scale", scales.index(s))
    expected = float(reference(loss, m, s, 95, (60, 150))[3])
    assert measured(page)["loss", None] == pytest.approx(expected)
    expected = float(slope(loss, m, s, 95, (60, 150)))
    assert measured(page)["gradient", None] == pytest.approx(expected, rel=1e-5)


def test_everything_is_reached_from_the_keyboard(page):
    page.focus(".explorer [name=loss]")
    reached = []
    while page.evaluate("document.activeElement.closest('.explorer') !== null"):
        reached.append(
            page.evaluate(
                "(({ name, dataset }) => name || dataset.action || dataset.point)"
                "(document.activeElement)"
            )
        )
        page.keyboard.press("Tab")
    assert reached == ["loss", "margin", "scale", "0", "1", "2", "reset"]

    keys = {"ArrowRight": 1, "ArrowUp": 1, "ArrowLeft": -1, "ArrowDown": -1}
    keys |= {"PageUp": 15, "PageDown": -15}
    for k in range(3):
        point(page, k).focus()
        for key, step in keys.items():
            before = positions(page)
            page.keyboard.press(key)
            before[k] += step
            assert positions(page) == before, key
        page.keyboard.press("Home")
        assert positions(page)[k] == 0
        page.keyboard.press("ArrowLeft")
        assert positions(page)[k] == 359, "the circle has no end"
        page.keyboard.press("ArrowRight")
        assert positions(page)[k] == 0
        page.keyboard.press("End")
        assert positions(page)[k] == 359
    halo = "getComputedStyle(document.activeElement.querySelector('.halo')).stroke"
    assert page.evaluate(halo) != "none"

    page.focus(".explorer [name=margin]")
    page.keyboard.press("ArrowRight")
    assert text(page, ".settings b.margin").startswith("0,55 rad")


def test_points_are_named_sliders(page):
    names = ["Centre de la classe 1, la vraie", "Centre de la classe 2"]
    names += ["Échantillon x"]
    for k, name in enumerate(names):
        slider = page.get_by_role("slider", name=name, exact=True)
        assert slider.get_attribute("data-point") == str(k)
        assert slider.get_attribute("aria-valuetext") == f"{positions(page)[k]}°"


def test_points_follow_the_mouse(page):
    page.locator(".explorer svg").scroll_into_view_if_needed()
    for k, target in enumerate((20, 215, 300)):
        box = point(page, k).locator(".shape").bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.mouse.down()
        page.mouse.move(*place_on_circle(page, target - 40))
        page.mouse.move(*place_on_circle(page, target))
        page.mouse.up()
        page.mouse.move(*place_on_circle(page, target + 50))  # released: it stays
        assert positions(page)[k] == target
    expected = reference("arcface", 0.5, 16, 300, (20, 215))
    assert measured(page)["loss", None] == pytest.approx(float(expected[3]))


def test_points_follow_a_finger(dark_phone):
    dark_phone.locator(".explorer svg").scroll_into_view_if_needed()
    dark_phone.locator(".explorer [data-action=reset]").evaluate("b => b.click()")
    finger = dark_phone.context.new_cdp_session(dark_phone)

    def touch(kind, *place):
        points = [{"x": place[0], "y": place[1]}] if place else []
        event = {"type": kind, "touchPoints": points}
        finger.send("Input.dispatchTouchEvent", event)

    top = dark_phone.evaluate("scrollY")
    touch("touchStart", *place_on_circle(dark_phone, 95))
    for angle in (120, 180, 250):
        touch("touchMove", *place_on_circle(dark_phone, angle))
    touch("touchEnd")
    assert positions(dark_phone) == [60, 150, 250]
    assert dark_phone.evaluate("scrollY") == top, "the page does not scroll"


def test_reset_brings_everything_back(page):
    start = (positions(page), measured(page))
    fill(page, "loss", "cosface")
    fill(page, "margin", 0.9)
    fill(page, "scale", 2)
    for k in range(3):
        point(page, k).press("PageUp")
    assert (positions(page), measured(page)) != start
    page.get_by_role("button", name="Réinitialiser").click()
    assert (positions(page), measured(page)) == start
    assert page.locator(".explorer [name=loss]").input_value() == "arcface"


def test_summary_waits_until_the_reader_stops(page):
    widget.listen(page)
    for _ in range(10):
        point(page, 2).press("ArrowLeft")
    heard = widget.heard(page)
    _, _, (own, _), entropy = reference("arcface", 0.5, 16, 85, (60, 150))
    gradient = float(slope("arcface", 0.5, 16, 85, (60, 150)))
    own, entropy, gradient = (
        f"{value:.3f}".replace(".", ",") for value in (own, entropy, gradient)
    )
    said = (
        f"Probabilité de la vraie classe : {own}. Perte : {entropy}. "
        f"Gradient : {gradient}."
    )
    assert heard == [said]


def test_says_what_the_positions_imply(page):
    assert "sens des aiguilles d’une montre : il se rapproche du centre 1" in text(
        page, "p.descent"
    )
    point(page, 2).press("Home")
    for _ in range(18):
        point(page, 2).press("PageDown")
    for _ in range(12):
        point(page, 2).press("PageUp")  # 270: opposite to neither
    assert positions(page)[2] == 270
    assert "θ₁ + m dépasse" not in text(page, ".remark")
    point(page, 2).press("PageDown")
    assert "θ₁ + m dépasse 180°" in text(page, ".remark")
    assert "s (cos θ₁ − m sin m)" in text(page, "p.formula")

    for _ in range(5):
        point(page, 1).press("PageDown")  # 75: 15° from the first, less than m
    assert "trop proches pour cette marge" in text(page, ".remark")
    point(page, 1).press("PageDown")
    assert "confondus : avec une marge" in text(page, ".remark")
    assert "Aucune frontière" in text(page, ".boundaries")
    fill(page, "loss", "softmax")
    assert "les deux logits sont égaux partout" in text(page, ".remark")


STATES = (
    {},
    {"loss": "softmax", "scale": 0},
    {"loss": "sphereface", "scale": 12},
    {"loss": "cosface", "margin": 1},
)


def show_state(page, settings):
    for name, value in settings.items():
        fill(page, name, value)
    point(page, 2).press("PageDown")


def test_is_accessible(page):
    assert violations(page) == []
    for settings in STATES:
        show_state(page, settings)
    point(page, 1).press("Home")
    assert violations(page) == []


def test_contrasts_in_the_dark(dark_phone):
    assert dark_phone.evaluate("document.documentElement.dataset.theme") == "dark"
    contrast = {"type": "rule", "values": [test_site.CONTRAST]}
    assert violations(dark_phone, runOnly=contrast) == []


@pytest.mark.parametrize("theme", ["opened", "dark_phone"])
def test_drawing_contrasts_with_the_paper(request, theme):
    page = request.getfixturevalue(theme)
    shapes = [(f"[data-point='{k}'] .shape", "fill") for k in range(3)]
    for part in (".won.one", ".won.two", "svg .descent", ".ends", "svg .circle"):
        shapes.append((part, "stroke"))
    widget.check_shapes(page, ("svg .circle", "fill"), shapes)


PARTS = "p:not(.spoken), table, td, svg, .point, label, button"


def test_fits_a_phone(dark_phone):
    for settings in STATES:
        show_state(dark_phone, settings)
        for k in (0, 1):
            point(dark_phone, k).press("Home")  # both handles at the right edge
        assert widget.overflowing(dark_phone, PARTS) == [], settings


# --- around the widget --------------------------------------------------------------------------


def test_animation_is_there_without_javascript_and_on_paper(page, browser, url):
    widget.check_picture_stays(page, browser, url)


def test_takes_its_place_in_the_chapter(browser):
    if not (ROOT / "notebooks/09_arcface.py").exists() or not (site() / PAGE).exists():
        pytest.skip("chapter 09 is not in the book yet")
    context = browser.new_context()
    page = context.new_page()
    page.goto((site() / PAGE).as_uri(), wait_until="commit")
    page.wait_for_selector(".explorer.arcface")
    assert positions(page) == [60, 150, 95]
    assert page.locator(".tag_explorer .cell_output img.explored").count() == 1
    context.close()
