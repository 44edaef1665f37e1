"""A French interface and French typography: what the theme leaves in English, and the search.

The theme's own catalogues are incomplete: ``TEXTS`` comes before them. Three templates whose words
are not translatable are in ``book/_templates``.
"""

from __future__ import annotations

import re
import unicodedata
from gettext import NullTranslations

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.locale import translators
from sphinx.search import languages
from sphinx.search.fr import SearchFrench

TEXTS = {
    # sphinx-book-theme
    "Contents": "Sur cette page",
    "By": "Par",
    # pydata-sphinx-theme and Sphinx
    "Search": "Rechercher",
    "Color mode": "Thème clair ou sombre",
    "next": "suivant",
    "previous": "précédent",
    "© Copyright %(copyright)s.": "© %(copyright)s.",
}
CATALOGUES = ("sphinx", "booktheme")
NARROW, WIDE = "\u202f", "\u00a0"  # no-break spaces of French punctuation
VERBATIM = (nodes.literal, nodes.literal_block, nodes.math, nodes.math_block, nodes.raw)


class French(NullTranslations):
    """Our texts first, then the catalogue that was registered."""

    def gettext(self, message: str) -> str:
        return TEXTS.get(message) or super().gettext(message)


def put_texts_first(app: Sphinx) -> None:
    for catalogue in CATALOGUES:
        ours = French()
        if ("general", catalogue) in translators:
            ours.add_fallback(translators["general", catalogue])
        translators["general", catalogue] = ours


def typography(text: str) -> str:
    """Return French text with its no-break spaces and typographic apostrophes."""
    text = re.sub(r" ([;!?])", NARROW + r"\1", text)
    text = re.sub(r" ([:»%])", WIDE + r"\1", text)
    text = text.replace("« ", "«" + WIDE)
    return re.sub(r"(?<=\w)'(?=[\w«])", "’", text)


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
    return "".join(c for c in unicodedata.normalize("NFD", text) if not unicodedata.combining(c))


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


def setup(app: Sphinx) -> dict[str, bool]:
    languages["fr"] = FoldedFrench
    app.connect("builder-inited", put_texts_first)
    app.connect("doctree-read", set_typography, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
