"""The explorer of convolution: its arithmetic against the chapter's, then the widget."""

import re

import numpy as np
import pytest

from tests import test_site
from tests.book_site import site
from tests.notebook import load
from tests.widget import text, violations

pytestmark = test_site.pytestmark
address, browser = test_site.address, test_site.browser
desktop, visit = test_site.desktop, test_site.visit

chapter = load("01_convolution")
PAGE = "notebooks/01_convolution.html"
IMAGES = range(6)
PHOTOGRAPH, RANDOM = 4, 5


def open_explorer(browser, address, theme="light", viewport=test_site.DESKTOP):
    """The chapter without its other sections, which axe would read at each inspection."""
    page = test_site.open_tab(browser, address, theme, viewport)
    test_site.go(page, address + PAGE)
    page.wait_for_selector(".explorer")
    others = "article section:not(.explorer, :has(.explorer)), article .cell:not(.tag_explorer)"
    page.locator(others).evaluate_all("parts => parts.forEach(part => part.remove())")
    return page


@pytest.fixture(scope="module")
def opened(browser, address):
    """The chapter, opened once for most tests."""
    page = open_explorer(browser, address)
    yield page
    page.context.close()


@pytest.fixture(scope="module")
def dark_phone(browser, address):
    page = open_explorer(browser, address, viewport=test_site.PHONE, theme="dark")
    yield page
    assert page.complaints == []
    page.context.close()


@pytest.fixture
def page(opened):
    """The chapter with a new explorer."""
    opened.emulate_media(reduced_motion="no-preference", media="screen")
    opened.evaluate(
        """() => {
          document.querySelector(".explorer").remove();
          convolutionExplorer.mount(document.querySelector(".tag_explorer"));
        }"""
    )
    yield opened
    assert opened.complaints == []


def choose(page, **settings):
    for name, value in settings.items():
        page.select_option(f".explorer [name={name}]", str(value))


def press(page, label):
    page.get_by_role("button", name=label, exact=True).click()


def spoken(page):
    return text(page, "[role=status]")


def position(page):
    """(line, column) of the current cell of the output, from 1."""
    return tuple(
        page.locator(".output [aria-selected=true]").evaluate(
            "cell => [cell.parentElement.rowIndex + 1, cell.cellIndex + 1]"
        )
    )


def image(page):
    """The image that is shown, without its padding."""
    cells = page.locator(".input td:not(.padding)").all_text_contents()
    return np.array(cells, dtype=int).reshape(2 * [round(len(cells) ** 0.5)])


def output(page):
    """The cells of the output; NaN where it is not computed yet."""
    rows = page.locator(".output tr").evaluate_all(
        "rows => rows.map(row => [...row.cells].map(cell => cell.dataset.value ?? 'nan'))"
    )
    return np.array(rows, dtype=float)


def type_kernel(page, texts):
    for field, typed in zip(
        page.locator(".kernel input").all(), np.ravel(texts), strict=True
    ):
        field.fill(typed)


# --- arithmetic --------------------------------------------------------------------------------


def random_cases(count=60):
    """Images, kernels (whole or decimal), strides and paddings for which there is an output."""
    rng = np.random.default_rng(1)
    while count:
        shape, kernel_shape = rng.integers(1, 10, size=2), rng.integers(1, 6, size=2)
        stride, padding = int(rng.integers(1, 4)), int(rng.integers(0, 3))
        if (kernel_shape > shape + 2 * padding).any():
            continue
        decimals = int(rng.integers(0, 3))
        pixels = rng.integers(-9, 10, size=shape)
        kernel = rng.uniform(-3, 3, size=kernel_shape).round(decimals)
        yield pixels.tolist(), kernel.tolist(), stride, padding
        count -= 1


def test_convolves_as_the_chapter_does(page):
    cases = list(random_cases())
    computed = page.evaluate(
        "cases => cases.map(c => convolutionExplorer.convolve(...c))", cases
    )
    for case, found in zip(cases, computed, strict=True):
        np.testing.assert_allclose(found, chapter.conv2d(*case), atol=1e-9)


def test_output_size_is_that_of_the_chapter(page):
    cases = [
        (n, f, s, p)
        for n in range(1, 10)
        for f in range(1, 6)
        for s in range(1, 4)
        for p in range(3)
    ]
    sizes = page.evaluate(
        "cases => cases.map(c => convolutionExplorer.outputSize(...c))", cases
    )
    for (n, f, s, p), size in zip(cases, sizes, strict=True):
        expected = chapter.output_size(n, f, s, p) if f <= n + 2 * p else 0
        assert size == expected, (n, f, s, p)


def test_numbers_are_read_as_the_french_write_them(page):
    good = {"2": 2, "-1": -1, "−1": -1, "+3": 3, "0,5": 0.5, ".5": 0.5, " 1 ": 1}
    good |= {"-0.25": -0.25, "1/9": 1 / 9, "−1/2": -0.5, "1,5/3": 0.5}
    bad = ["", " ", "a", "1e3", "--1", "1/0", "1/2/3", "1,2,3", "0x1", "1 2", "∞"]
    read = (
        "texts => texts.map(t => convolutionExplorer.parseNumber(t))"
        ".map(v => Number.isNaN(v) ? 'not a number' : v)"
    )
    assert page.evaluate(read, list(good)) == list(good.values())
    assert page.evaluate(read, bad) == ["not a number"] * len(bad)


# --- the widget --------------------------------------------------------------------------------


def test_opens_on_the_example_of_the_document(page):
    assert (image(page) == chapter.TABLE).all()
    assert text(page, ".sum") == (
        "Ligne 1, colonne 1 : 1×1 + 1×0 + 1×1 + 0×0 + 1×1 + 1×0 + 0×1 + 0×0 + 1×1 = 4"
    )
    assert text(page, ".formula") == "Côté de la sortie : ⌊(5 − 3 + 2 × 0) / 1⌋ + 1 = 3"
    assert text(page, ".remark") == text(page, ".error") == ""
    assert np.isnan(output(page)).sum() == 8, "only the first position is computed"
    press(page, "Tout remplir")
    assert output(page).tolist() == [[4, 3, 4], [2, 4, 3], [2, 3, 4]]


@pytest.mark.parametrize(
    ("settings", "decimals"),
    [
        ({"image": 0, "size": 2, "stride": 2, "padding": 1}, 1),
        ({"image": 3, "size": 5, "stride": 3, "padding": 2}, 0),
        ({"image": PHOTOGRAPH, "size": 3, "stride": 2, "padding": 0}, 2),
        ({"image": RANDOM, "size": 4, "stride": 1, "padding": 2}, 2),
    ],
)
def test_fills_the_output_that_the_chapter_computes(page, settings, decimals):
    choose(page, **settings)
    side = settings["size"]
    rng = np.random.default_rng(side)
    kernel = rng.uniform(-3, 3, size=(side, side)).round(decimals)
    texts = np.vectorize(lambda value: f"{value:.{decimals}f}".replace(".", ","))
    type_kernel(page, texts(kernel))
    press(page, "Tout remplir")
    expected = chapter.conv2d(
        image(page), kernel, settings["stride"], settings["padding"]
    )
    np.testing.assert_allclose(output(page), expected, atol=1e-9)
    shown = [
        float(number.replace("−", "-").replace(",", "."))
        for number in page.locator(".output td").all_text_contents()
    ]
    np.testing.assert_allclose(shown, expected.ravel(), atol=0.0051)
    assert page.locator("[name=preset] option:checked").text_content() == "le vôtre"
    ends = re.findall(r"−?[\d,]+", text(page, ".output .range"))
    ends = [float(end.replace("−", "-").replace(",", ".")) for end in ends]
    np.testing.assert_allclose(ends, [expected.min(), expected.max()], atol=0.00051)


def test_kernels_are_those_of_the_document(page):
    mean = np.full((3, 3), 1 / 9)
    expected = {1: [[0, 0, 0], [0, 1, 0], [0, 0, 0]], 2: mean}
    expected[3] = [[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]]
    expected[4] = [[0, -1, 0], [-1, 5, -1], [0, -1, 0]]
    expected[5] = [[-1, -1, -1], [1, 1, 1], [0, 0, 0]]
    expected[6] = [[-1, 1, 0]] * 3
    expected[7] = [[0, 0, 0], [1, 1, 1], [-1, -1, -1]]
    expected[8] = [[0, 1, -1]] * 3
    press(page, "Tout remplir")
    for preset, kernel in expected.items():
        choose(page, preset=preset)  # a full output of the same size stays full
        np.testing.assert_allclose(output(page), chapter.conv2d(chapter.TABLE, kernel))


def test_kernel_keeps_its_centre_when_its_size_changes(page):
    def kernel():
        fields = page.locator(".kernel input").all()
        return [field.input_value() for field in fields]

    type_kernel(page, [*"123456789"])
    choose(page, size=5)
    wide = np.zeros((5, 5), dtype=int)
    wide[1:4, 1:4] = np.arange(1, 10).reshape(3, 3)
    assert kernel() == [str(weight) for weight in wide.ravel()]
    choose(page, size=1)
    assert kernel() == ["5"]


def test_everything_is_reached_from_the_keyboard(page):
    page.focus(".explorer [name=image]")
    reached = []
    while page.evaluate("document.activeElement.closest('.explorer') !== null"):
        reached.append(
            page.evaluate(
                "(({ name, ariaLabel, dataset, tagName }) =>"
                " name || ariaLabel || dataset.action || tagName)(document.activeElement)"
            )
        )
        page.keyboard.press("Tab")
    weights = [f"Noyau, ligne {i}, colonne {j}" for i in (1, 2, 3) for j in (1, 2, 3)]
    settings = ["image", "preset", "size", "stride", "padding"]
    actions = ["previous", "next", "toggle", "fill", "restart"]
    assert reached == [*settings, *weights, "TABLE", *actions]

    page.focus(".explorer [data-action=next]")
    page.keyboard.press("Enter")
    assert position(page) == (1, 2)
    assert spoken(page) == (
        "Ligne 1, colonne 2 : 3. "
        "1×1 + 1×0 + 0×1 + 1×0 + 1×1 + 1×0 + 0×1 + 1×0 + 1×1 = 3"
    )
    page.focus(".explorer .output table")
    assert page.evaluate(
        "getComputedStyle(document.activeElement).outlineStyle == 'solid'"
    )
    moves = [("ArrowDown", (2, 2)), ("ArrowRight", (2, 3)), ("ArrowRight", (2, 3))]
    moves += [("ArrowUp", (1, 3)), ("ArrowUp", (1, 3)), ("ArrowLeft", (1, 2))]
    moves += [("End", (3, 3)), ("ArrowDown", (3, 3)), ("Home", (1, 1))]
    for key, expected in moves:
        page.keyboard.press(key)
        assert position(page) == expected, key
        active = page.locator(".output table").get_attribute("aria-activedescendant")
        assert (
            page.locator(f"#{active}").get_attribute("data-value")
            == (re.search(r" : (\d)\.", spoken(page))[1])
        )


def test_click_on_a_cell_goes_there(page):
    page.locator(".output td").nth(5).click()
    assert position(page) == (2, 3)
    press(page, "Position précédente")
    assert position(page) == (2, 2)
    assert output(page)[1].tolist()[1:] == [4, 3]
    press(page, "Recommencer")
    assert position(page) == (1, 1)
    assert np.isnan(output(page)).sum() == 8


def test_outlines_the_window_that_gives_the_current_value(page):
    """The numbers inside the outline are those of the sum, whatever the stride and the padding."""
    page.emulate_media(reduced_motion="reduce")
    choose(page, image=3, stride=2, padding=1)
    page.locator(".output td").nth(5).click()
    inside = page.evaluate(
        """() => {
          const box = document.querySelector(".input .spot").getBoundingClientRect();
          const within = (x, y) => x > box.left && x < box.right && y > box.top && y < box.bottom;
          return [...document.querySelectorAll(".input td")].filter((cell) => {
            const { x, y, width, height } = cell.getBoundingClientRect();
            return within(x + width / 2, y + height / 2);
          }).map((cell) => cell.textContent);
        }"""
    )
    assert inside == re.findall(r"(\d)×", text(page, ".sum"))


def test_wrong_weight_is_explained_and_the_output_stays(page):
    press(page, "Tout remplir")
    before = output(page)
    field = page.get_by_label("Noyau, ligne 1, colonne 2")
    field.fill("abc")
    page.keyboard.press("Tab")
    assert text(page, "[role=alert]") == (
        "Noyau, ligne 1, colonne 2 : « abc » n’est pas un nombre. "
        "Écrivez par exemple 2, −1, 0,5 ou 1/9. En attendant, le calcul garde 0."
    )
    assert field.get_attribute("aria-invalid") == "true"
    assert (output(page) == before).all()
    field.fill("")
    page.keyboard.press("Tab")
    assert "il manque un nombre" in text(page, "[role=alert]")
    field.fill("-0,5")
    assert text(page, "[role=alert]") == ""
    assert field.get_attribute("aria-invalid") is None
    kernel = [[1, -0.5, 1], [0, 1, 0], [1, 0, 1]]
    np.testing.assert_allclose(output(page), chapter.conv2d(chapter.TABLE, kernel))
    assert "1×(−0,5)" in text(page, ".sum")


def test_says_what_the_sizes_imply(page):
    choose(page, size=2, stride=2)
    assert text(page, ".formula").endswith("⌊(5 − 2 + 2 × 0) / 2⌋ + 1 = 2")
    assert text(page, ".remark") == (
        "La division 3 / 2 ne tombe pas juste : aucune fenêtre n’atteint la dernière ligne et la "
        "dernière colonne de l’image (cases barrées)."
    )
    assert page.locator(".input .unread").count() == 9
    choose(page, size=1, stride=3)
    assert "saute des cases" in text(page, ".remark")
    assert page.locator(".input .unread").count() == 25 - 4
    choose(page, size=3, stride=1)
    assert text(page, ".remark") == ""

    choose(page, image=RANDOM, size=5)
    too_large = "Le noyau 5 × 5 est plus grand que l’image 4 × 4"
    assert text(page, ".remark").startswith(too_large)
    assert too_large in spoken(page)
    assert output(page).size == 0
    assert page.locator(".explorer button:disabled").count() == 5
    choose(page, padding=1)
    assert text(page, ".remark") == ""
    assert output(page).shape == (2, 2)


def test_plays_and_pauses(page):
    page.wait_for_timeout(700)
    assert position(page) == (1, 1), "never starts by itself"
    choose(page, image=2)
    silent = spoken(page)
    press(page, "Lecture")
    page.wait_for_selector(".output td:nth-child(3)[aria-selected=true]")
    assert spoken(page) == silent, "nothing is announced while it plays"
    press(page, "Pause")
    paused = position(page)
    assert spoken(page).startswith(f"Ligne {paused[0]}, colonne {paused[1]} :")
    page.wait_for_timeout(700)
    assert position(page) == paused
    choose(page, image=0, size=4)
    press(page, "Lecture")
    page.wait_for_selector(
        ".output tr:nth-child(2) td:nth-child(2)[aria-selected=true]"
    )
    assert not np.isnan(output(page)).any()
    assert page.get_by_role("button", name="Lecture").is_visible(), "stops at the end"


def test_moves_without_transition_where_motion_is_reduced(page):
    duration = "getComputedStyle(document.querySelector('.spot')).transitionDuration"
    assert page.evaluate(duration) != "0s"
    page.emulate_media(reduced_motion="reduce")
    assert page.evaluate(duration) == "0s"


def show_every_message(page):
    choose(page, image=3, stride=3, padding=1, preset=2, size=2)
    press(page, "Tout remplir")
    page.locator(".kernel input").first.fill("abc")
    page.locator(".kernel input").first.blur()
    for part in (".unread", ".padding", ".error", ".remark"):
        assert page.locator(f".explorer {part}").first.is_visible()


def test_is_accessible_in_its_other_states(page):
    """The first one is inspected with the whole page, in test_site.py."""
    show_every_message(page)
    assert violations(page) == []
    choose(page, image=RANDOM, padding=0, size=5)
    assert violations(page) == []
    choose(page, image=PHOTOGRAPH)
    assert violations(page, rules={test_site.CONTRAST: {"enabled": False}}) == []


def test_contrasts_in_the_dark(dark_phone):
    assert dark_phone.evaluate("document.documentElement.dataset.theme") == "dark"
    show_every_message(dark_phone)
    contrast = {"type": "rule", "values": [test_site.CONTRAST]}
    assert violations(dark_phone, runOnly=contrast) == []


# Choose the settings given as the reader does, fill the output, list the parts that overflow.
OVERFLOW = """(settings) => {
  const root = document.querySelector(".explorer");
  for (const [name, value] of Object.entries(settings)) {
    const field = root.querySelector(`[name=${name}]`);
    field.value = value;
    field.dispatchEvent(new Event("change", { bubbles: true }));
  }
  root.querySelector("[data-action=fill]").click();
  const edge = root.getBoundingClientRect().right - 4;
  return [root, document.documentElement].filter((e) => e.scrollWidth > e.clientWidth)
    .concat([...root.querySelectorAll("p:not(.spoken), div:not(.spot), table, select, button")]
      .filter((e) => e.getBoundingClientRect().right > edge))
    .map((e) => e.className || e.tagName);
}"""


def test_fits_a_phone(dark_phone):
    for image in IMAGES:
        for padding, size, preset in ((2, 1, 3), (2, 5, 2)):
            settings = {"image": image, "padding": padding, "preset": preset}
            assert dark_phone.evaluate(OVERFLOW, settings | {"size": size}) == [], (
                settings
            )


# --- around the widget --------------------------------------------------------------------------


def test_animation_is_there_without_javascript_and_on_paper(page, browser, address):
    animation = page.locator(".tag_explorer .cell_output img")
    assert animation.count() == 1
    assert not animation.is_visible()
    page.emulate_media(media="print")
    animation.wait_for(state="visible")
    assert not page.locator(".explorer").is_visible()

    context = browser.new_context(java_script_enabled=False)
    plain = context.new_page()
    plain.goto(address + PAGE)
    plain.locator(".tag_explorer .cell_output img").wait_for(state="visible")
    assert plain.locator(".explorer").count() == 0
    context.close()


def test_works_in_a_page_opened_from_the_disk(browser):
    context = browser.new_context()
    page = context.new_page()
    page.goto((site() / PAGE).as_uri(), wait_until="commit")
    page.wait_for_selector(".explorer")
    assert "= 4" in text(page, ".sum")
    context.close()


def test_is_loaded_only_where_a_cell_asks_for_it(visit):
    page = visit("index.html")
    assert (
        page.locator(
            "script[src*=explorer], script[src*=convolution], .explorer"
        ).count()
        == 0
    )
