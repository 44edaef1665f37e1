"""What several chapters measure: segmentation, verification by distance, accuracy by group.

Every function takes array-likes and returns Python floats, or NumPy arrays where said. Errors
are `ValueError`s in French: a reader may meet them.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike
from scipy.ndimage import binary_erosion, distance_transform_edt
from sklearn.metrics import auc, roc_curve

# --- Segmentation ---------------------------------------------------------------------------


def dice(y_true: ArrayLike, y_pred: ArrayLike) -> float:
    """Dice coefficient 2|A & B| / (|A| + |B|) of two binary masks, in [0, 1].

    Masks: any equal shapes, bool or numbers 0/1 (threshold probabilities before). Two empty masks
    agree: 1. Source: Dice (1945), https://doi.org/10.2307/1932409 .
    """
    true, pred = _masks(y_true, y_pred)
    total = int(true.sum()) + int(pred.sum())
    return 2.0 * int((true & pred).sum()) / total if total else 1.0


def iou(y_true: ArrayLike, y_pred: ArrayLike) -> float:
    """Intersection over union |A & B| / |A or B| (Jaccard) of two binary masks, in [0, 1].

    Same inputs as `dice`, to which it is tied: dice = 2 iou / (1 + iou). Two empty masks: 1.
    """
    true, pred = _masks(y_true, y_pred)
    union = int((true | pred).sum())
    return int((true & pred).sum()) / union if union else 1.0


def per_class(
    metric: Callable[[ArrayLike, ArrayLike], float],
    y_true: ArrayLike,
    y_pred: ArrayLike,
    n_classes: int,
) -> np.ndarray:
    """`metric` (`dice` or `iou`) of each class against the rest: float64 (n_classes,).

    y_true, y_pred: integer label maps of equal shapes, values 0..n_classes-1. A class absent from
    both maps has no value: NaN, so that `np.nanmean` does not count it as a success.
    """
    true, pred = _same_shape(y_true, y_pred)
    low, high = min(true.min(), pred.min()), max(true.max(), pred.max())
    if low < 0 or high >= n_classes:
        raise ValueError(
            f"Les étiquettes vont de {low} à {high} : on attend 0 à {n_classes - 1} "
            f"(n_classes={n_classes})."
        )
    return np.array(
        [
            metric(true == k, pred == k)
            if (true == k).any() or (pred == k).any()
            else np.nan
            for k in range(n_classes)
        ]
    )


def boundary_f1(y_true: ArrayLike, y_pred: ArrayLike, tolerance: float = 2.0) -> float:
    """F1 of the outlines of two binary masks (h, w), in [0, 1]: are edges where they should be?

    An outline is the pixels of a mask that touch its outside, edges of the image left aside.
    Precision: share of the predicted outline at most `tolerance` pixels (Euclidean) from the true
    one; recall: the reverse. Two masks without outline agree: 1; one without: 0. Source: Csurka
    et al. (2013), https://doi.org/10.5244/C.27.32 .
    """
    true, pred = (_outline(mask) for mask in _masks(y_true, y_pred))
    if not true.any() or not pred.any():
        return float(true.any() == pred.any())
    precision = np.mean(distance_transform_edt(~true)[pred] <= tolerance)
    recall = np.mean(distance_transform_edt(~pred)[true] <= tolerance)
    total = precision + recall
    return float(2 * precision * recall / total) if total else 0.0


def pixel_accuracy(y_true: ArrayLike, y_pred: ArrayLike) -> float:
    """Share of equal labels in two integer maps of equal shapes, in [0, 1]."""
    true, pred = _same_shape(y_true, y_pred)
    return float((true == pred).mean())


# --- Verification: « same » when the distance is below a threshold ---------------------------


@dataclass(frozen=True)
class VerificationCurve:
    """ROC of a distance. Arrays float64 (k,), in increasing order of the false-accept rate.

    far: share of different pairs accepted; tar: share of same pairs accepted; thresholds: a pair
    is accepted when distance <= threshold (the first one, -inf, accepts nothing); auc: area, in
    [0, 1], the probability that a same pair is nearer than a different one; eer: equal error
    rate, where far = 1 - tar, by linear interpolation.
    """

    far: np.ndarray
    tar: np.ndarray
    thresholds: np.ndarray
    auc: float
    eer: float


def verification_curve(distances: ArrayLike, same: ArrayLike) -> VerificationCurve:
    """ROC of the score -distance (scikit-learn's `roc_curve`: ties are one point).

    distances: finite floats (n,); same: bool or 0/1 (n,), both values present.
    """
    distances, same = _pairs(distances, same)
    far, tar, scores = roc_curve(same, -distances, drop_intermediate=False)
    gap = far - (1.0 - tar)  # from -1 to 1, never decreasing
    after = int(np.argmax(gap >= 0))
    weight = gap[after] / (gap[after] - gap[after - 1])
    eer = far[after] - weight * (far[after] - far[after - 1])
    return VerificationCurve(far, tar, -scores, float(auc(far, tar)), float(eer))


def accuracy_at(distances: ArrayLike, same: ArrayLike, threshold: float) -> float:
    """Share of pairs decided rightly when « same » means distance < threshold (strictly)."""
    distances, same = _pairs(distances, same, both=False)
    return float(((distances < threshold) == same).mean())


def best_threshold(distances: ArrayLike, same: ArrayLike) -> tuple[float, float]:
    """(threshold, accuracy) of greatest `accuracy_at` on these pairs: choose on validation pairs.

    Exact: the accuracy only changes at a distance, so one threshold in each interval between
    neighbouring distances (its middle), one below all and one above all are enough. Equal
    accuracies: the smallest threshold. Inputs as in `verification_curve`.
    """
    distances, same = _pairs(distances, same)
    levels, level_of = np.unique(distances, return_inverse=True)
    # Accepting one level more gains its same pairs and loses its different ones.
    change = np.bincount(level_of, weights=np.where(same, 1.0, -1.0))
    right = np.count_nonzero(~same) + np.concatenate([[0.0], np.cumsum(change)])
    best = int(np.argmax(right))
    upper = np.append(levels, np.nextafter(levels[-1], np.inf))[best]
    lower = levels[best - 1] if best else levels[0]
    middle = lower + (upper - lower) / 2
    # Neighbouring floats have no middle: `upper` itself then separates them.
    threshold = float(middle if lower < middle or best == 0 else upper)
    return threshold, float(right[best] / same.size)


def tar_at_far(distances: ArrayLike, same: ArrayLike, far: float) -> float:
    """Greatest true-accept rate whose false-accept rate is at most `far` (0 < far <= 1).

    Inputs as in `verification_curve`. With fewer than 1/far different pairs the rate asked for
    cannot be measured: `ValueError`. Usual in face verification (FAR = 0.001).
    """
    if not 0.0 < far <= 1.0:
        raise ValueError(
            f"Le taux de fausse acceptation doit être dans ]0, 1] : {far} reçu."
        )
    different = int(np.count_nonzero(~np.asarray(same).astype(bool)))
    if different * far < 1.0:
        raise ValueError(
            f"{different} paires différentes ne suffisent pas pour mesurer un taux de fausse "
            f"acceptation de {far} : il en faut au moins {int(np.ceil(1 / far))}."
        )
    curve = verification_curve(distances, same)
    return float(curve.tar[curve.far <= far].max())


# --- Groups and seeds -----------------------------------------------------------------------


def wilson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a proportion: (low, high) in [0, 1].

    Unlike p +- z sqrt(p(1-p)/n) it stays in [0, 1] and is not empty at p = 0 or 1. Source:
    Wilson (1927), https://doi.org/10.1080/01621459.1927.10502953 ; formula and recommended use,
    Brown, Cai and DasGupta (2001), https://doi.org/10.1214/ss/1009213286 .
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(
            f"Il faut 0 <= succès <= n et n >= 1 : {successes} et {n} reçus."
        )
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    p = successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * float(np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)))
    return max(0.0, centre - half), min(1.0, centre + half)


@dataclass(frozen=True)
class GroupMetrics:
    """Measures of one group; each rate has its 95 % Wilson interval, NaN when it has no case.

    accuracy: right / n; tpr: true-positive rate (recall of class 1); fpr: false-positive rate;
    positives: share of class 1 in the group, without which an accuracy cannot be read.
    """

    n: int
    accuracy: float
    accuracy_interval: tuple[float, float]
    tpr: float
    tpr_interval: tuple[float, float]
    fpr: float
    fpr_interval: tuple[float, float]
    positives: float


def group_metrics(
    y_true: ArrayLike, y_pred: ArrayLike, groups: ArrayLike
) -> dict[Hashable, GroupMetrics]:
    """Accuracy, true- and false-positive rates of a binary classifier in each group.

    y_true, y_pred: 0/1 or bool (n,); groups: (n,) of any sortable values, the keys of the result.
    """
    true, pred = _masks(y_true, y_pred)
    groups = np.asarray(groups)
    if groups.shape != true.shape:
        raise ValueError(
            f"Un groupe par exemple : {groups.shape} au lieu de {true.shape}."
        )

    def rate(hits: np.ndarray) -> tuple[float, tuple[float, float]]:
        if not hits.size:
            return float("nan"), (float("nan"), float("nan"))
        return float(hits.mean()), wilson(int(hits.sum()), hits.size)

    result = {}
    for group in np.unique(groups).tolist():
        t, p = true[groups == group], pred[groups == group]
        result[group] = GroupMetrics(
            t.size, *rate(t == p), *rate(p[t]), *rate(p[~t]), positives=float(t.mean())
        )
    return result


def fair_metric(accuracy_by_group: Mapping[Hashable, float]) -> float:
    """Document 002's « Fair Metric » of two groups: mean accuracy - 2 |difference|.

    Accuracies in [0, 1]; the result is in [-1.5, 1]. It rewards equality more than rightness: two
    groups at 0.85 beat 0.97 and 0.92.
    """
    if len(accuracy_by_group) != 2:
        raise ValueError(
            f"La formule compare deux groupes : {len(accuracy_by_group)} reçus."
        )
    first, second = accuracy_by_group.values()
    return (first + second) / 2 - 2 * abs(first - second)


# --- Checks ---------------------------------------------------------------------------------


def _same_shape(y_true: ArrayLike, y_pred: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    true, pred = np.asarray(y_true), np.asarray(y_pred)
    if true.shape != pred.shape:
        raise ValueError(
            f"Formes différentes : {true.shape} (vérité), {pred.shape} (prédiction)."
        )
    if not true.size:
        raise ValueError("Aucune valeur à comparer : les tableaux sont vides.")
    return true, pred


def _outline(mask: np.ndarray) -> np.ndarray:
    return mask & ~binary_erosion(mask, border_value=1)


def _binary(values: np.ndarray, name: str) -> np.ndarray:
    if not np.isin(values, (0, 1)).all():
        raise ValueError(
            f"{name} : on attend des 0 et des 1 (appliquez d'abord un seuil)."
        )
    return values.astype(bool)


def _masks(y_true: ArrayLike, y_pred: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    true, pred = _same_shape(y_true, y_pred)
    return _binary(true, "vérité"), _binary(pred, "prédiction")


def _pairs(
    distances: ArrayLike, same: ArrayLike, both: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Checked pairs, distances float64 (n,) and same bool (n,); `both`: needs the two kinds."""
    distances, same = np.asarray(distances, dtype=float), np.asarray(same)
    if distances.ndim != 1 or distances.shape != same.shape or not same.size:
        raise ValueError(
            "On attend deux vecteurs de même longueur, non vides : formes "
            f"{distances.shape} (distances) et {same.shape} (même classe ou non)."
        )
    if not np.isfinite(distances).all():
        raise ValueError("Des distances ne sont pas finies (NaN ou infini).")
    same = _binary(same, "même classe ou non")
    if both and (same.all() or not same.any()):
        kind = "semblables" if same.all() else "différentes"
        raise ValueError(
            f"Il faut des paires semblables et des paires différentes : toutes {kind}."
        )
    return distances, same
