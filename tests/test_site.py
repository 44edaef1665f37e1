"""The built site in a headless browser: what only a browser can tell."""

import functools
import os
import shutil
import threading
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.book_site import course, site

import course_data  # isort: skip  (tests.book_site puts book/_ext on the path)

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


def open_tab(browser, address, theme, viewport):
    """Open a tab: it costs a second, so that a test goes from page to page in one tab."""
    page = browser.new_context(color_scheme=theme, viewport=viewport).new_page()
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
    return page


def go(page, url):
    """Show a page; every complaint of the browser is kept in `page.complaints`."""
    page.complaints = []
    page.goto(url)
    page.evaluate("window.MathJax?.startup.promise.then(() => true)")
    return page


@pytest.fixture(scope="module")
def desktop(browser, address):
    page = open_tab(browser, address, "light", DESKTOP)
    yield page
    page.context.close()


@pytest.fixture
def visit(desktop, address):
    """Show a page of the site, as on a first visit."""
    yield lambda path: go(desktop, address + path)
    desktop.evaluate("localStorage.clear()")


# Theme, screen and rules of axe. Contrast, by far the slowest rule, is the only one that depends on
# the theme.
CONTRAST = "color-contrast"
LOOKS = {
    "light": ("light", DESKTOP, {}),
    "dark": ("dark", DESKTOP, {"runOnly": {"type": "rule", "values": [CONTRAST]}}),
    "phone": ("light", PHONE, {"rules": {CONTRAST: {"enabled": False}}}),
}

# Two thirds of a chapter are the coloured words of its code, spans that have a class and nothing
# more: only their contrast can be at fault. Among those that look alike in everything that contrast
# depends on, the longest text is kept (axe does not judge a single sign); the others become plain
# text of their line. Four times faster.
MERGE_WORDS_OF_CODE = """() => {
  const behind = new Map();
  function background(element) {
    if (!element) return "";
    if (!behind.has(element)) {
      const style = getComputedStyle(element);
      const own = [style.backgroundColor, style.backgroundImage, style.opacity];
      behind.set(element, [background(element.parentElement), ...own, style.filter].join());
    }
    return behind.get(element);
  }
  const alike = new Map();
  for (const word of document.querySelectorAll(".highlight span[class]")) {
    if (word.attributes.length > 1) continue;
    const style = getComputedStyle(word);
    const look = [style.color, style.fontSize, style.fontWeight, style.textShadow,
      word.checkVisibility(), background(word)].join();
    alike.set(look, [...(alike.get(look) || []), word]);
  }
  for (const words of alike.values()) {
    words.sort((a, b) => b.textContent.trim().length - a.textContent.trim().length);
    words.slice(1).forEach(word => word.replaceWith(...word.childNodes));
  }
}"""
UNFOLD = (
    "document.querySelectorAll('article details').forEach(part => part.open = true)"
)
WIDTHS = (
    "[document.documentElement, document.querySelector('.bd-article-container')]"
    ".map(element => element.scrollWidth)"
)


@dataclass
class Inspection:
    """What one page shows in one look."""

    complaints: list  # of the browser
    widths: list  # in pixels: the whole page, and the article
    violations: list  # found by axe


def inspect(page, rules):
    from axe_playwright_python.sync_playwright import Axe

    page.evaluate(UNFOLD)
    widths = page.evaluate(WIDTHS)
    page.evaluate(MERGE_WORDS_OF_CODE)
    options = {"preload": False, "resultTypes": ["violations"], **rules}
    violations = Axe().run(page, options=options).response["violations"]
    page.wait_for_load_state("networkidle")  # late complaints count
    return Inspection(page.complaints, widths, violations)


@pytest.fixture(scope="module", params=LOOKS)
def inspected(request, browser, address):
    """Every page in one look: {path: Inspection}."""
    theme, viewport, rules = LOOKS[request.param]
    page = open_tab(browser, address, theme, viewport)
    found = {}
    for path in all_pages():
        go(page, address + path)
        assert page.evaluate("document.documentElement.dataset.theme") == theme
        found[path] = inspect(page, rules)
    page.context.close()
    return found


def all_pages():
    return ["index.html", "search.html"] + [
        f"{folder}/{path.name}"
        for folder in ("book", "book/quiz", "notebooks")
        for path in sorted((site() / folder).glob("*.html"))
    ]


def chapter():
    return next(f"{found.docname}.html" for found in course().chapters if found.written)


def test_pages_raise_no_complaint_and_ask_no_other_host(inspected):
    faults = {path: page.complaints for path, page in inspected.items()}
    assert {path: found for path, found in faults.items() if found} == {}


def test_pages_are_accessible(inspected):
    faults = [
        f"{path}: {violation['id']}: {violation['help']}\n  {node['html'][:200]}\n  "
        + node["failureSummary"]
        for path, page in inspected.items()
        for violation in page.violations
        if violation["id"] not in ALLOWED
        for node in violation["nodes"]
    ]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("inspected", ["phone"], indirect=True)
def test_no_page_scrolls_sideways_on_a_phone(inspected):
    for path, page in inspected.items():
        for width in page.widths:
            assert width <= PHONE["width"], f"{path} is {width} pixels wide"


@pytest.mark.parametrize(
    "path",
    [
        "notebooks/01_convolution.html",
        "book/claims.html",
        "book/quiz/01_convolution.html",
    ],
)
def test_mathematics_is_drawn(visit, path):
    page = visit(path)
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
    assert any("notebooks/10_siamese.html" in link for link in found), found
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


def test_answers_of_a_quiz_open_from_the_keyboard(visit):
    page = visit("book/quiz/01_convolution.html")
    answers = page.locator(".quiz").first.locator("details")
    for i in range(answers.count()):
        why = answers.nth(i).locator(".why")
        assert not why.is_visible()
        answers.nth(i).locator("summary").focus()
        page.keyboard.press("Enter")
        assert why.is_visible()
        right = "right" in answers.nth(i).get_attribute("class")
        assert ("Juste" if right else "Faux") in why.text_content()


SHOWN = "rows => rows.filter(row => row.checkVisibility()).map(row => row.id)"


def shown_claims(page):
    return page.locator("table.claims tbody tr").evaluate_all(SHOWN)


def expected_claims(keep):
    return sorted(f"registre-{claim['id']}" for claim in course().claims if keep(claim))


def refuted(claim):
    return course_data.shown_verdict(claim, course().verdict(claim)) == "réfuté"


def test_claims_are_filtered_counted_and_kept_in_the_address(visit):
    page = visit("book/claims.html")
    everything = shown_claims(page)
    assert len(everything) == len(course().claims)
    page.get_by_label("Document", exact=True).select_option("003")
    page.get_by_label("Verdict", exact=True).select_option("refuted")
    wanted = expected_claims(lambda c: c["document"] == "003" and refuted(c))
    assert sorted(shown_claims(page)) == wanted
    assert wanted
    said = page.locator(".claim-filters [role=status]").text_content()
    assert said.startswith(f"{len(wanted)} affirmation")
    assert page.url.endswith("claims.html?document=003&verdict=refuted")
    empty = (
        "all => all.filter(part => part.checkVisibility() && !part.querySelector('tr'))"
    )
    assert page.locator("article section section").evaluate_all(empty) == []
    page.get_by_role("button", name="Tout afficher").click()
    page.wait_for_function("location.search === ''")
    assert shown_claims(page) == everything


def test_a_filter_can_be_linked(visit):
    page = visit("index.html")
    link = page.locator(".totals a[href*='document=004'][href*='refuted']")
    said = int(link.text_content().split()[1])
    link.click()
    page.wait_for_url("**document=004&verdict=refuted")
    wanted = expected_claims(lambda c: c["document"] == "004" and refuted(c))
    assert sorted(shown_claims(page)) == wanted
    assert len(wanted) == said


def test_a_filter_does_not_hide_the_claim_that_is_asked_for(visit):
    kept = next(claim["id"] for claim in course().claims if not refuted(claim))
    page = visit(f"book/claims.html?verdict=refuted#registre-{kept}")
    assert page.locator(f"#registre-{kept}").is_visible()
    page = visit("book/claims.html?verdict=nonsense")
    assert len(shown_claims(page)) == len(course().claims)


def test_every_claim_is_shown_without_script(browser, address):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address + "book/claims.html?verdict=refuted")
    assert page.locator("table.claims tbody tr").count() == len(course().claims)
    assert not page.locator(".claim-filters").is_visible()
    assert page.locator("table.claims tbody tr").last.is_visible()
    context.close()
