"""What the tests of the explorers share.

A module that takes the fixtures says what its explorer is: TAGS, those of its cell, and SCRIPT, the
global object that mounts it.
"""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from tests import test_site
from tests.book_site import ROOT

THEMES = ("pydata_sphinx_theme", "sphinx_book_theme")
SHEETS = ("styles/theme.css", "styles/pydata-sphinx-theme.css")
SHEETS += ("styles/sphinx-book-theme.css", "course.css")
IMAGE = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"


def text(page, selector):
    """Text of a part of the widget, every run of white space as one space."""
    return " ".join(page.locator(f".explorer {selector}").text_content().split())


def violations(page, **options):
    """What axe finds in the widget."""
    from axe_playwright_python.sync_playwright import Axe

    options |= {"preload": False, "resultTypes": ["violations"]}
    return Axe().run(page, context=".explorer", options=options).response["violations"]


def write_page(folder, tags):
    """A page with one tagged cell, dressed and scripted as the book's; returns its address."""
    static = folder / "_static"
    (static / "styles").mkdir(parents=True)
    for theme in THEMES:
        package = Path(importlib.util.find_spec(theme).origin).parent
        for sheet in (package / "theme" / theme / "static/styles").glob("*.css"):
            (static / "styles" / sheet.name).symlink_to(sheet)
    (static / "basic.css").touch()  # Sphinx makes it, the themes import it
    for ours in (ROOT / "book/_static").iterdir():
        (static / ours.name).symlink_to(ours)
    links = "".join(f'<link rel="stylesheet" href="_static/{name}">' for name in SHEETS)
    theme = "matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light'"
    classes = " ".join(f"tag_{tag}" for tag in tags)
    path = folder / "page.html"
    path.write_text(
        f"""<!doctype html><html lang="fr" data-theme="light"><head><meta charset="utf8">
        <meta name="viewport" content="width=device-width, initial-scale=1">
        <title>Essai</title>{links}<script src="_static/course.js"></script></head><body>
        <script>document.documentElement.dataset.theme = {theme};</script>
        <div class="bd-container"><div class="bd-container__inner bd-page-width">
        <main class="bd-main"><div class="bd-content"><div class="bd-article-container">
        <article class="bd-article"><h1>Essai</h1><div class="cell {classes}">
        <div class="cell_output"><img alt="Une animation" width="300" src="{IMAGE}"></div>
        </div></article></div></div></main></div></div></body></html>""",
        encoding="utf8",
    )
    return path.as_uri()


def open_explorer(browser, folder, url, theme="light", viewport=test_site.DESKTOP):
    page = test_site.open_tab(browser, folder.as_uri(), theme, viewport)
    page.goto(url)  # from the disk, where browsers refuse modules
    page.wait_for_selector(".explorer")
    return page


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("explorer")


@pytest.fixture(scope="module")
def url(folder, request):
    return write_page(folder, request.module.TAGS)


@pytest.fixture(scope="module")
def opened(browser, folder, url):
    page = open_explorer(browser, folder, url)
    yield page
    page.context.close()


@pytest.fixture(scope="module")
def dark_phone(browser, folder, url):
    page = open_explorer(browser, folder, url, "dark", test_site.PHONE)
    yield page
    assert page.complaints == []
    page.context.close()


@pytest.fixture
def page(opened, request):
    """A new explorer."""
    opened.emulate_media(media="screen")
    opened.evaluate(
        f"""() => {{
          document.querySelector(".explorer").remove();
          {request.module.SCRIPT}.mount(document.querySelector(".tag_explorer"));
        }}"""
    )
    yield opened
    assert opened.complaints == []


def listen(page):
    """Keep in `spoken`, in the page, what the explorer says to a screen reader."""
    page.evaluate(
        """() => {
          window.spoken = [];
          const status = document.querySelector(".explorer [role=status]");
          new MutationObserver(() => window.spoken.push(status.textContent))
            .observe(status, { childList: true });
        }"""
    )


def heard(page):
    """What was said: nothing while the reader acts, then all at once."""
    assert page.evaluate("spoken") == []
    page.wait_for_function("spoken.length > 0")
    page.wait_for_timeout(300)
    return [" ".join(words.split()) for words in page.evaluate("spoken")]


def luminance(colour):
    levels = np.array(colour[:3]) / 255
    levels = np.where(
        levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4
    )
    return levels @ [0.2126, 0.7152, 0.0722]


def check_shapes(page, paper, shapes):
    """Axe reads text only; a shape needs 3 to 1 on what surrounds it: (part, property) pairs."""
    colours = page.evaluate(
        """parts => parts.map(([selector, name]) => getComputedStyle(document.querySelector(
            `.explorer ${selector}`))[name].match(/[0-9.]+/g).map(Number))""",
        [paper, *shapes],
    )
    around, *drawn = map(luminance, colours)
    for shape, level in zip(shapes, drawn, strict=True):
        low, high = sorted([around, level])
        assert (high + 0.05) / (low + 0.05) >= 3, shape


def overflowing(page, parts):
    """The parts of the explorer that a screen cuts, or that make it scroll."""
    return page.evaluate(
        """parts => {
          const root = document.querySelector(".explorer");
          const edge = root.getBoundingClientRect().right - 4;
          return [root, document.documentElement].filter((e) => e.scrollWidth > e.clientWidth)
            .concat([...root.querySelectorAll(parts)]
              .filter((e) => e.getBoundingClientRect().right > edge))
            .map((e) => e.getAttribute("class") || e.tagName);
        }""",
        parts,
    )


def check_picture_stays(page, browser, url):
    """The chapter's picture is there without JavaScript, and on paper."""
    picture = page.locator(".tag_explorer .cell_output img")
    assert not picture.is_visible()
    page.emulate_media(media="print")
    picture.wait_for(state="visible")
    assert not page.locator(".explorer").is_visible()

    context = browser.new_context(java_script_enabled=False)
    plain = context.new_page()
    plain.goto(url)
    plain.locator(".tag_explorer .cell_output img").wait_for(state="visible")
    assert plain.locator(".explorer").count() == 0
    context.close()
