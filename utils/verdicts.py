"""The registry of claims (``book/claims.yml``) and ``verdict``, which confronts one with a run."""

import functools
import numbers
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from utils import execute, provenance, runtime
from utils.figures import scientific

CLAIMS = runtime.ROOT / "book" / "claims.yml"
VERDICT_MIME = "application/vnd.course.verdict+json"
CONFIRMED, CORRECTED, REFUTED = "confirmé", "corrigé", "réfuté"
NOT_DECIDABLE, PENDING = "non vérifiable ici", "à décider"
YAML = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C, ten times faster
MARKS = {CONFIRMED: "✓", CORRECTED: "✎", REFUTED: "✗", NOT_DECIDABLE: "∅", PENDING: "…"}
RELATIONS: dict[str, Callable[[float, float], bool]] = {
    ">=": lambda measured, stated: measured >= stated,
    "<=": lambda measured, stated: measured <= stated,
}

_made: dict[str, dict[str, Any]] = {}  # verdicts of the running notebook, in order


class VerdictMismatch(AssertionError):
    """A run does not give the registered verdict."""


@dataclass(frozen=True)
class Claim:
    """One decidable statement of a document; the fields are those of ``book/claims.yml``.

    ``stated`` is what the document says and ``corrected`` what is right (verdict *corrigé*):
    numbers, compared within ``tolerance`` (absolute), or booleans, strings and lists, compared
    exactly. ``relation`` turns ``stated`` into a bound: ``>=`` or ``<=``.
    """

    id: str
    document: str
    chapter: str
    quote: str
    verdict: str
    stated: Any = None
    tolerance: float = 0.0
    relation: str = "="
    corrected: Any = None
    decided: str = "quick"
    backend: str | None = None
    note: str = ""
    reason: str = ""

    def holds(self, measured: Any) -> bool:
        """Tell whether the measure agrees with what the document states."""
        return self._agrees(measured, self.stated)

    def gives(self, measured: Any) -> str:
        """Return the verdict of a measure.

        A measure that contradicts the document is *corrigé* when it is the registered correction,
        else *réfuté*.
        """
        if self.holds(measured):
            return CONFIRMED
        corrected = self.corrected is not None and _equal(
            measured, self.corrected, self.tolerance
        )
        return CORRECTED if corrected else REFUTED

    def _agrees(self, measured: Any, stated: Any) -> bool:
        if self.relation in RELATIONS:
            return RELATIONS[self.relation](measured, stated)
        return _equal(measured, stated, self.tolerance)


def _equal(measured: Any, stated: Any, tolerance: float) -> bool:
    if _number(measured) and _number(stated):
        return abs(measured - stated) <= tolerance
    same_kind = isinstance(measured, bool | np.bool_) == isinstance(stated, bool)
    return same_kind and provenance.plain(measured) == provenance.plain(stated)


def _number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_)


@functools.cache  # a notebook decides some forty claims, and reading them takes 50 ms
def load_claims(path: Path = CLAIMS) -> dict[str, Claim]:
    """Read the registry, once in a process.

    Raises
    ------
    ValueError
        An id is used twice, a verdict or relation is unknown, or a claim that is not decidable
        gives no reason.
    """
    found: dict[str, Claim] = {}
    for entry in yaml.load(path.read_text(encoding="utf8"), YAML):
        claim = Claim(**entry)
        if claim.id in found:
            raise ValueError(f"{path.name}: {claim.id} is registered twice")
        if claim.verdict not in (CONFIRMED, CORRECTED, REFUTED, NOT_DECIDABLE):
            raise ValueError(
                f"{path.name}: {claim.id} has the unknown verdict {claim.verdict!r}"
            )
        if claim.relation not in ("=", *RELATIONS):
            raise ValueError(
                f"{path.name}: {claim.id} has the unknown relation {claim.relation!r}"
            )
        if (claim.verdict == NOT_DECIDABLE) != bool(claim.reason):
            raise ValueError(
                f"{path.name}: {claim.id}: a reason goes with {NOT_DECIDABLE!r} only"
            )
        found[claim.id] = claim
    return found


def verdict(claim_id: str, measured: Any, backend: str | None = None) -> None:
    """Confront a statement of the documents with what a run measured, in one French line.

    ``measured`` is a value, or a function that measures it. ``None`` says that only a full run,
    not made yet, decides. With ``backend``, the function is called on that backend only; elsewhere
    the stored measure is shown.

    Raises
    ------
    VerdictMismatch
        In tests and CI, when the run does not give the registered verdict; a reader gets a warning.
    KeyError
        The claim is not registered.
    """
    claim = load_claims()[claim_id]
    foreign = backend is not None and backend != runtime.backend()
    if foreign:
        stored = provenance.load_results(runtime.notebook())["verdicts"].get(
            claim_id, {}
        )
        measured = stored.get("measured")
    elif callable(measured):
        measured = measured()
    measured = provenance.plain(measured)
    given = PENDING if measured is None else claim.gives(measured)
    matches = given in (claim.verdict, PENDING)
    if backend and not foreign and runtime.profile() == "full":
        record = {"measured": measured, **runtime.environment(), "date": execute.now()}
        provenance.store_result(runtime.notebook(), "verdicts", claim_id, record)
    fact = {
        "id": claim_id,
        "measured": measured,
        "verdict": given,
        "matches": matches,
        "stored": foreign or (claim.decided == "full" and runtime.profile() != "full"),
    }
    _made[claim_id] = fact
    if not matches and runtime.strict():
        raise VerdictMismatch(
            f"{claim_id}: registered {claim.verdict!r}, this run gives {given!r} "
            f"(stated {claim.stated!r}, measured {measured!r})"
        )
    runtime.show_bundle(
        _line(claim, fact, backend if foreign else None), VERDICT_MIME, fact
    )


def _line(claim: Claim, fact: Mapping[str, Any], backend: str | None) -> str:
    given = fact["verdict"]
    parts = [
        f"> {MARKS[given]} **{given.capitalize()}** — le document {claim.document} dit :"
    ]
    parts.append(f"« {claim.quote.removesuffix('.')} ».")
    if fact["measured"] is None:
        parts.append("Décidé en profil complet, pas encore exécuté.")
    elif not isinstance(fact["measured"], bool):
        parts.append(f"Mesuré : **{french(fact['measured'])}**.")
    if fact["measured"] is not None and backend:
        parts.append(
            f"(Décidé avec {runtime.BACKEND_TITLES[backend]} : résultat enregistré.)"
        )
    elif fact["measured"] is not None and fact["stored"]:
        parts.append("(Décidé en profil complet : résultat enregistré.)")
    if claim.note:
        parts.append(claim.note)
    if not fact["matches"]:
        parts.append(
            f"**Attention : votre exécution contredit le verdict du cours ({claim.verdict}).**"
        )
    return " ".join(parts)


def french(value: Any) -> str:
    """Write a measure in French: ``133 504``, ``0,906``, ``2,22 × 10⁻¹⁶``, ``oui``."""
    value = provenance.plain(value)
    if isinstance(value, bool):
        return "oui" if value else "non"
    if isinstance(value, list):
        return f"({' ; '.join(french(item) for item in value)})"
    if isinstance(value, int | float):
        value += 0  # no negative zero
        sep = "," if abs(value) >= 10_000 else ""
        whole = isinstance(value, int) or value.is_integer()
        text = f"{value:{sep}}" if whole else f"{value:{sep}.4g}"
        if "e" in text:
            return scientific(value, 2)
        return text.removesuffix(".0").translate({44: "\u202f", 45: "\u2212", 46: ","})
    return str(value)


def summary() -> None:
    """Display the verdicts of this run as a table: the chapter's *Ce que nous avons vérifié*."""
    claims = load_claims()
    rows = []
    for fact in _made.values():
        claim, given = claims[fact["id"]], fact["verdict"]
        shown = "…" if fact["measured"] is None else french(fact["measured"])
        rows.append(
            (f"{MARKS[given]} {given}", f"« {claim.quote} »", f"{shown}. {claim.note}")
        )
    runtime.show_table(
        ("Verdict", "Ce que dit le document", "Ce que montre l'exécution"), rows
    )
