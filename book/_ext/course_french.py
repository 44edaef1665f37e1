"""A French interface: words that the theme leaves in English, typography, search, bibliography.

The theme's own catalogues are incomplete: ``TEXTS`` comes before them. Three templates whose words
are not translatable are in ``book/_templates``.
"""

from __future__ import annotations

import re
import unicodedata
from gettext import NullTranslations
from typing import Any

from docutils import nodes
from pybtex.plugin import register_plugin
from pybtex.style.formatting.unsrt import Style
from pybtex.style.template import field, href, join, names, optional, sentence, tag
from sphinx.application import Sphinx
from sphinx.locale import translators
from sphinx.search import languages
from sphinx.search.fr import SearchFrench

TEXTS = {
    "Contents": "Sur cette page",
    "By": "Par",
    "Search": "Rechercher",
    "Color mode": "Thème clair ou sombre",
    "Section Navigation": "Plan du cours",
    "next": "suivant",
    "previous": "précédent",
    "next page": "page suivante",
    "previous page": "page précédente",
    "© Copyright %(copyright)s.": "© %(copyright)s.",
}
UNTRANSLATED = {
    ' aria-label="Toggle hidden content"': ""
}  # hides the label that follows it
CATALOGUES = ("sphinx", "booktheme")
NARROW, WIDE = "\u202f", "\u00a0"  # no-break spaces of French punctuation
VERBATIM = (nodes.literal, nodes.literal_block, nodes.math, nodes.math_block, nodes.raw)


class French(NullTranslations):
    """Our texts first, then the catalogue that was registered."""

    def gettext(self, message: str) -> str:
        return TEXTS.get(message) or super().gettext(message)


def put_texts_first(app: Sphinx, *_: object) -> None:
    for catalogue in CATALOGUES:
        ours = French()
        if ("general", catalogue) in translators:
            ours.add_fallback(translators["general", catalogue])
        translators["general", catalogue] = ours
    app.translator = translators["general", "sphinx"]  # the templates' one


def drop_untranslated(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object
) -> None:
    for english, french in UNTRANSLATED.items():
        context["body"] = context.get("body", "").replace(english, french)


def typography(text: str) -> str:
    """Return French text with its no-break spaces and typographic apostrophes."""
    text = re.sub(r" ([;!?])", NARROW + r"\1", text)
    text = re.sub(r" ([:»%])", WIDE + r"\1", text)
    text = text.replace("« ", "«" + WIDE)
    text = re.sub(r"(?<=\d)[ \n](?=\d{3}(?!\d))", NARROW, text)  # 60 000
    text = re.sub(r"(?<=\d) × (?=\d)", f"{WIDE}×{WIDE}", text)
    text = re.sub(r"(?<=\w)'(?=[\w«])", "’", text)
    return re.sub(r"\b([cdjlmnst]|\w*qu)'$", r"\1’", text, flags=re.IGNORECASE)


def set_typography(app: Sphinx, doctree: nodes.document) -> None:
    for node in list(doctree.findall(nodes.Text)):
        parents, parent = [], node.parent
        while parent is not None:
            parents.append(parent)
            parent = parent.parent
        if not any(isinstance(above, VERBATIM) for above in parents):
            better = typography(str(node))
            if better != str(node):
                node.parent.replace(node, nodes.Text(better))


def fold(text: str) -> str:
    """Return lower-case text without accents: « Réseau » and « reseau » are one word."""
    text = text.lower().replace("œ", "oe").replace("æ", "ae")
    return "".join(
        c for c in unicodedata.normalize("NFD", text) if not unicodedata.combining(c)
    )


class FoldedFrench(SearchFrench):
    """French search that ignores accents, in the index and in what readers type."""

    stopwords = SearchFrench.stopwords | {fold(word) for word in SearchFrench.stopwords}
    js_splitter_code = r"""
function fold(text) {
  return text.toLowerCase().replace(/œ/g, "oe").replace(/æ/g, "ae")
    .normalize("NFD").replace(/\p{Mn}/gu, "");
}
function splitQuery(query) {
  return fold(query).split(/[^\p{Letter}\p{Number}_]+/gu).filter(term => term);
}
"""

    def stem(self, word: str) -> str:
        return super().stem(fold(word))


class FrenchBibliography(Style):
    """Authors (year). Title. *Where*. Link: without the English words of the standard styles."""

    def format_entry_line(self, entry: Any, where: str) -> Any:
        authors = names("author", sep=", ", sep2=" et ", last_sep=" et ")
        return join[
            join[authors, " (", field("year"), "). "],
            sentence[field("title")],
            " ",
            optional[sentence[tag("em")[field(where)]], " "],
            self.format_web_refs(entry),
        ]

    def format_url(self, entry: Any) -> Any:
        return href[field("url", raw=True), "en ligne"]

    def get_article_template(self, entry: Any) -> Any:
        return self.format_entry_line(entry, "journal")

    def get_inproceedings_template(self, entry: Any) -> Any:
        return self.format_entry_line(entry, "booktitle")

    def get_misc_template(self, entry: Any) -> Any:
        return self.format_entry_line(entry, "howpublished")


def summarise_results(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object
) -> None:
    if page == "search":
        app.add_js_file("search.js", loading_method="defer")


def setup(app: Sphinx) -> dict[str, bool]:
    languages["fr"] = FoldedFrench
    register_plugin("pybtex.style.formatting", "french", FrenchBibliography)
    app.connect("config-inited", put_texts_first, priority=900)
    app.connect("doctree-read", set_typography, priority=100)
    app.connect("html-page-context", drop_untranslated)
    app.connect("html-page-context", summarise_results)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
