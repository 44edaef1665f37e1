"""The built site in a headless browser: what only a browser can tell."""

import functools
import os
import shutil
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.book_site import course, site

BROWSERS = (
    *("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"),
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)
CHROMIUM = os.environ.get("COURSE_CHROMIUM") or next(
    filter(None, map(shutil.which, BROWSERS)), ""
)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        not CHROMIUM,
        reason="no browser: `sudo apt-get install chromium`, or set COURSE_CHROMIUM to its path",
    ),
]

PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1280, "height": 900}

# Rules of axe that the theme breaks and this book cannot mend: rule -> why. None today.
ALLOWED: dict[str, str] = {}


@pytest.fixture(scope="module")
def address():
    """The site on a port of this machine."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    handler = functools.partial(Handler, directory=site())
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield running
        running.close()


def open_page(browser, address, path, viewport=DESKTOP, theme="light"):
    """Open a page of the site; every complaint of the browser is kept in `page.complaints`."""
    page = browser.new_context(viewport=viewport, color_scheme=theme).new_page()
    page.complaints = []

    def listen(message):
        if message.type in ("error", "warning"):
            page.complaints.append(message.text)

    def check(request):
        if not request.url.startswith((address, "data:", "blob:")):
            page.complaints.append(f"asks another host: {request.url}")

    page.on("console", listen)
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("request", check)
    page.goto(address + path, wait_until="networkidle")
    return page


@pytest.fixture
def visit(browser, address):
    """Open pages of the site, closed at the end of the test."""
    opened = []

    def visit_page(path, **options):
        opened.append(open_page(browser, address, path, **options))
        return opened[-1]

    yield visit_page
    for page in opened:
        page.context.close()


# Theme, screen and rules of axe. Contrast, by far the slowest rule, is the only one that depends on
# the theme.
CONTRAST = "color-contrast"
LOOKS = {
    "light": ("light", DESKTOP, {}),
    "dark": ("dark", DESKTOP, {"runOnly": {"type": "rule", "values": [CONTRAST]}}),
    "phone": ("light", PHONE, {"rules": {CONTRAST: {"enabled": False}}}),
}


@pytest.fixture(scope="module", params=LOOKS)
def inspected(request, browser, address):
    """Every page in one look: {path: (complaints of the browser, violations found by axe)}."""
    from axe_playwright_python.sync_playwright import Axe

    found = {}
    theme, viewport, rules = LOOKS[request.param]
    for path in all_pages():
        page = open_page(browser, address, path, viewport=viewport, theme=theme)
        assert page.evaluate("document.documentElement.dataset.theme") == theme
        violations = (
            Axe().run(page, options={"preload": False, **rules}).response["violations"]
        )
        found[path] = page.complaints, violations
        page.context.close()
    return found


def all_pages():
    return ["index.html", "search.html"] + [
        f"{path.parent.name}/{path.name}"
        for folder in ("book", "notebooks")
        for path in sorted((site() / folder).glob("*.html"))
    ]


def chapter():
    return next(f"{found.docname}.html" for found in course().chapters if found.written)


def test_pages_raise_no_complaint_and_ask_no_other_host(inspected):
    assert {
        path: complaints for path, (complaints, _) in inspected.items() if complaints
    } == {}


def test_pages_are_accessible(inspected):
    faults = [
        f"{path}: {violation['id']}: {violation['help']}\n  {node['html'][:200]}\n  "
        + node["failureSummary"]
        for path, (_, violations) in inspected.items()
        for violation in violations
        if violation["id"] not in ALLOWED
        for node in violation["nodes"]
    ]
    assert not faults, "\n".join(faults)


def test_no_page_scrolls_sideways_on_a_phone(visit):
    widths = (
        "[document.documentElement, document.querySelector('.bd-article-container')]"
    )
    for path in all_pages():
        page = visit(path, viewport=PHONE)
        for width in page.evaluate(f"{widths}.map(e => e.scrollWidth)"):
            assert width <= PHONE["width"], f"{path} is {width} pixels wide"


def test_mathematics_is_drawn(visit):
    page = visit(chapter())
    page.wait_for_function("document.querySelectorAll('mjx-container').length > 0")
    page.wait_for_function("window.MathJax.startup.promise.then(() => true)")
    drawn = page.locator("mjx-container").count()
    assert drawn == page.locator("article .math").count()
    assert page.locator("mjx-merror").count() == 0


@pytest.mark.parametrize(
    "query", ["reseau siamois", "réseau siamois", "RÉSEAUX SIAMOIS"]
)
def test_search_ignores_accents_capitals_and_plural(visit, query):
    page = visit(f"search.html?q={query}")
    page.wait_for_selector("ul.search li")
    page.wait_for_function(
        "document.querySelector('.search-summary').textContent != ''"
    )
    found = page.locator("ul.search li > a").evaluate_all(
        "links => links.map(a => a.href)"
    )
    assert any(chapter() in link for link in found), found
    assert any("book/glossary.html" in link for link in found), found
    marked = page.locator("ul.search mark").all_text_contents()
    assert any(word.lower().startswith("réseau") for word in marked), marked
    assert page.complaints == []


def test_search_finds_nothing_for_a_word_that_is_nowhere(visit):
    page = visit("search.html?q=zygomatique")
    page.wait_for_function(
        "document.querySelector('.search-summary').textContent != ''"
    )
    assert page.locator("ul.search li").count() == 0
    assert "ne correspond" in page.locator(".search-summary").text_content()


def test_search_field_opens_from_the_keyboard(visit):
    page = visit("index.html")
    page.keyboard.press("Control+k")
    page.wait_for_selector("#pst-search-dialog[open]")
    page.keyboard.type("perte contrastive")
    page.keyboard.press("Enter")
    page.wait_for_selector("ul.search li")


def test_theme_changes_with_its_button(visit):
    page = visit("index.html")
    background = "getComputedStyle(document.body).backgroundColor"
    seen = set()
    for _ in range(3):
        page.locator(".theme-switch-button").locator("visible=true").first.click()
        seen.add(
            (
                page.evaluate("document.documentElement.dataset.theme"),
                page.evaluate(background),
            )
        )
    assert {theme for theme, _ in seen} == {"light", "dark"}
    assert len({colour for _, colour in seen}) == 2


def test_solutions_open_from_the_keyboard(visit):
    page = visit(chapter())
    folded = page.locator("article details")
    assert folded.count() > 0
    for i in range(folded.count()):
        assert not folded.nth(i).evaluate("details => details.open")
        folded.nth(i).locator("summary").first.focus()
        page.keyboard.press("Enter")
        assert folded.nth(i).evaluate("details => details.open")


def test_code_is_copied_with_a_french_button(visit):
    page = visit(chapter())
    button = page.locator("button.copybtn").first
    assert button.get_attribute("data-tooltip") == "Copier"


def test_links_between_a_verdict_and_the_registry_reach_their_target(visit):
    page = visit("book/claims.html")
    proof = page.locator("a[href*='#verdict-']").first
    proof.click()
    page.wait_for_url("**#verdict-*")
    assert page.locator(":target").bounding_box()["y"] > 0
    page.locator(":target .registry a").click()
    page.wait_for_url("**#registre-*")
    assert "Voir la preuve" in page.locator(":target").text_content()
