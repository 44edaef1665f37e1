"""What the tests of the explorers share."""

import importlib.util
from pathlib import Path

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
