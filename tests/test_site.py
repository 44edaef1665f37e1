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


# Two thirds of a chapter are the coloured words of its code, spans that have a class and nothing
# more: only their contrast can be at fault. Of those that have the same classes, ancestors'
# included, the longest stays; the others become plain text of their line.
ONE_WORD_OF_CODE_OF_EACH_CLASS = """() => {
  const chains = new Map();
  function chain(element) {
    if (!element) return "";
    if (!chains.has(element)) {
      const own = `${element.tagName}.${element.className}`;
      chains.set(element, `${chain(element.parentElement)} ${own}`);
    }
    return chains.get(element);
  }
  const alike = new Map();
  for (const word of document.querySelectorAll(".highlight span[class]")) {
    if (word.attributes.length > 1) continue;
    const key = `${chain(word.parentElement)} ${word.className}`;
    alike.set(key, [...(alike.get(key) || []), word]);
  }
  for (const words of alike.values()) {
    words.sort((a, b) => b.textContent.trim().length - a.textContent.trim().length);
    words.slice(1).forEach(word => word.replaceWith(...word.childNodes));
  }
}"""

# Contrast, by far the slowest rule, is judged on one text of each look, in both themes: what looks
# alike in everything that contrast depends on has the same contrast. The longest text is kept (axe
# does not judge a single sign), and what holds none of those kept leaves the page.
LOOKS_OF_TEXTS = """() => {
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
  window.looks ??= new Map();
  for (const element of document.body.querySelectorAll("*")) {
    const text = [...element.childNodes].filter(node => node.nodeType === Node.TEXT_NODE)
      .map(node => node.data.trim()).join("");
    if (!text) continue;
    const style = getComputedStyle(element);
    const look = [style.color, style.fontSize, style.fontWeight, style.textShadow,
      element.checkVisibility({visibilityProperty: true}), background(element), element.disabled];
    window.looks.set(element, (window.looks.get(element) || text.length + "|") + look.join());
  }
}"""
ONE_TEXT_OF_EACH_LOOK = """() => {
  const longest = new Map();
  for (const [element, seen] of window.looks) {
    const [length, look] = [parseInt(seen), seen.slice(seen.indexOf("|"))];
    if (!(longest.get(look)?.length >= length)) longest.set(look, {element, length});
  }
  const judged = new Set([...longest.values()].map(({element}) => element));
  const kept = new Set();
  for (const element of judged)
    for (let at = element; at; at = at.parentElement) kept.add(at);
  for (const element of document.body.querySelectorAll("*"))
    if (!kept.has(element) && !judged.has(element.parentElement)) element.remove();
}"""
UNFOLD = (
    "document.querySelectorAll('article details').forEach(part => part.open = true)"
)
WIDTHS = (
    "[document.documentElement, document.querySelector('.bd-article-container')]"
    ".map(element => element.scrollWidth)"
)
CLIPPED_FORMULAS = """[...document.querySelectorAll('article mjx-container:not(.wide, [display])')]
  .filter(formula => formula.getBoundingClientRect().right > innerWidth)
  .map(formula => formula.textContent)"""
CONTRAST = "color-contrast"
CONTRAST_ONLY = {"runOnly": {"type": "rule", "values": [CONTRAST]}}
ALL_BUT_CONTRAST = {"rules": {CONTRAST: {"enabled": False}}}
THEMES = ("light", "dark")


@dataclass
class Inspection:
    """What one page shows."""

    complaints: list  # of the browser
    widths: list  # on a phone, in pixels: the whole page, and the article
    clipped: (
        list  # formulas that pass the edge of a phone, and that nothing lets scroll
    )
    violations: list  # found by axe


def axe(page, options):
    from axe_playwright_python.sync_playwright import Axe

    options = {"preload": False, "resultTypes": ["violations"], **options}
    return Axe().run(page, options=options).response["violations"]


def use_theme(page, theme):
    page.emulate_media(color_scheme=theme)
    page.wait_for_function(f"document.documentElement.dataset.theme === '{theme}'")


def contrast(page):
    """Judge one text of each look, in both themes; the page then serves no other test."""
    page.add_style_tag(content="* { transition: none !important }")
    for theme in THEMES:
        use_theme(page, theme)
        page.evaluate(LOOKS_OF_TEXTS)
    page.evaluate(ONE_TEXT_OF_EACH_LOOK)
    violations = []
    for theme in THEMES:
        use_theme(page, theme)
        violations += axe(page, CONTRAST_ONLY)
    return violations


def inspect(page):
    """Look at a page, loaded once: as a phone shows it, then its contrasts on a large screen."""
    page.evaluate(UNFOLD)
    page.wait_for_function("document.readyState === 'complete'")
    widths = page.evaluate(WIDTHS)
    clipped = page.evaluate(CLIPPED_FORMULAS)
    page.evaluate(ONE_WORD_OF_CODE_OF_EACH_CLASS)
    violations = axe(page, ALL_BUT_CONTRAST)
    page.wait_for_load_state("networkidle")
    # What follows leaves the page's scripts without their elements.
    complaints, page.complaints = page.complaints, []
    page.set_viewport_size(DESKTOP)
    violations += contrast(page)
    page.set_viewport_size(PHONE)
    return Inspection(complaints, widths, clipped, violations)


@pytest.fixture(scope="module")
def inspected(browser, address):
    """Every page: {path: Inspection}."""
    page = open_tab(browser, address, "light", PHONE)
    found = {path: inspect(go(page, address + path)) for path in all_pages()}
    page.context.close()
    return found


def all_pages():
    return ["index.html", "search.html"] + [
        f"{folder}/{path.name}"
        for folder in ("book", "book/quiz", "notebooks")
        for path in sorted((site() / folder).glob("*.html"))
    ]


def test_one_text_of_bad_contrast_among_many_good_ones_is_found(browser):
    page = browser.new_page(viewport=DESKTOP)
    good = "<p>Un texte <b>comme</b> les autres.</p>" * 50
    bad = "<p>Un texte <em style='color: #999'>pâle</em> ici.</p>"
    style = "<style>:root { color-scheme: light dark; background: white; color: black }</style>"
    script = """<script>const dark = matchMedia("(prefers-color-scheme: dark)");
      const set = () => document.documentElement.dataset.theme = dark.matches ? "dark" : "light";
      dark.onchange = set; set()</script>"""
    page.set_content(f"{style}{good}{bad}{good}{script}")
    nodes = [node["html"] for fault in contrast(page) for node in fault["nodes"]]
    assert len(nodes) == 2  # once a theme
    assert "pâle" in nodes[0]
    page.close()


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


def test_no_page_scrolls_sideways_on_a_phone(inspected):
    for path, page in inspected.items():
        for width in page.widths:
            assert width <= PHONE["width"], f"{path} is {width} pixels wide"


def test_no_formula_is_cut_on_a_phone(inspected):
    clipped = {path: page.clipped for path, page in inspected.items()}
    assert {path: found for path, found in clipped.items() if found} == {}


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
