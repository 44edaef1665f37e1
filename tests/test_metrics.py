"""utils.metrics against independent loops and published values."""

import itertools

import numpy as np
import pytest

from utils import metrics

RNG = np.random.default_rng(0)


# --- Segmentation ---------------------------------------------------------------------------


def test_dice_and_iou_by_counting():
    for _ in range(20):
        a, b = RNG.random((2, 5, 6)) < 0.4
        both = sum(x and y for x, y in zip(a.flat, b.flat, strict=True))
        either = sum(x or y for x, y in zip(a.flat, b.flat, strict=True))
        assert metrics.dice(a, b) == pytest.approx(2 * both / (a.sum() + b.sum()))
        assert metrics.iou(a, b) == pytest.approx(both / either)


def test_masks_equal_disjoint_and_empty():
    full, empty = np.ones((3, 3), int), np.zeros((3, 3), int)
    for metric in (metrics.dice, metrics.iou):
        assert metric(full, full) == 1.0
        assert metric(full, empty) == 0.0
        assert metric(empty, empty) == 1.0
    assert metrics.dice([1, 1, 0, 0], [0, 1, 0, 0]) == pytest.approx(2 / 3)
    assert metrics.iou([1, 1, 0, 0], [0, 1, 0, 0]) == pytest.approx(1 / 2)


@pytest.mark.parametrize(
    ("true", "pred", "message"),
    [
        ([[0, 1]], [0, 1], "Formes différentes"),
        ([], [], "vides"),
        ([0, 1], [0.2, 0.9], "seuil"),
        ([0, 2], [0, 1], "des 0 et des 1"),
    ],
)
def test_masks_refused(true, pred, message):
    with pytest.raises(ValueError, match=message):
        metrics.dice(true, pred)


def outline_by_hand(mask):
    inside = set(map(tuple, np.argwhere(mask)))
    rows, columns = mask.shape
    return [
        (i, j)
        for i, j in inside
        for k, m in ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1))
        if 0 <= k < rows and 0 <= m < columns and (k, m) not in inside
    ]


@pytest.mark.parametrize("tolerance", [0, 1, 2.5])
def test_boundary_f1_by_loops(tolerance):
    for _ in range(5):
        true, pred = RNG.random((2, 9, 11)) < 0.3
        a, b = (set(outline_by_hand(mask)) for mask in (true, pred))
        near = [
            np.mean(
                [min(np.hypot(i - k, j - m) for k, m in q) <= tolerance for i, j in p]
            )
            for p, q in ((b, a), (a, b))
        ]
        expected = 2 * near[0] * near[1] / sum(near) if sum(near) else 0
        assert metrics.boundary_f1(true, pred, tolerance) == pytest.approx(expected)


def test_boundary_f1_of_a_shift_and_of_no_outline():
    square = np.zeros((20, 20), bool)
    square[5:15, 5:15] = True
    assert metrics.boundary_f1(square, np.roll(square, 2, axis=0)) == 1.0
    assert metrics.boundary_f1(square, np.roll(square, 4, axis=0)) < 0.8
    nothing = np.zeros_like(square)
    assert metrics.boundary_f1(nothing, nothing) == 1.0
    assert metrics.boundary_f1(~nothing, nothing) == 1.0  # neither has an outline
    assert metrics.boundary_f1(square, nothing) == 0.0
    assert metrics.boundary_f1(nothing, square) == 0.0


def test_per_class_leaves_out_absent_classes():
    true, pred = [0, 0, 1, 1, 3], [0, 1, 1, 1, 0]
    got = metrics.per_class(metrics.iou, true, pred, 4)
    assert got == pytest.approx([1 / 3, 2 / 3, np.nan, 0.0], nan_ok=True)
    assert metrics.pixel_accuracy(true, pred) == pytest.approx(3 / 5)
    with pytest.raises(ValueError, match="0 à 2"):
        metrics.per_class(metrics.iou, true, pred, 3)


# --- Verification ---------------------------------------------------------------------------


def pairs(n=60, ties=False):
    same = RNG.random(n) < 0.4
    distances = np.where(same, RNG.gamma(2, 0.2, n), RNG.gamma(5, 0.2, n))
    return (np.round(distances, 1) if ties else distances), same


@pytest.mark.parametrize("ties", [False, True])
def test_auc_is_the_share_of_ordered_couples(ties):
    distances, same = pairs(ties=ties)
    near, far = distances[same], distances[~same]
    wins = sum((a < b) + 0.5 * (a == b) for a, b in itertools.product(near, far))
    curve = metrics.verification_curve(distances, same)
    assert curve.auc == pytest.approx(wins / (near.size * far.size))


def test_curve_points_are_the_rates_at_their_thresholds():
    distances, same = pairs(ties=True)
    curve = metrics.verification_curve(distances, same.astype(int))
    assert curve.thresholds[0] == -np.inf
    assert len(curve.thresholds) == 1 + len(set(distances))
    for far, tar, threshold in zip(curve.far, curve.tar, curve.thresholds, strict=True):
        assert far == pytest.approx(np.mean(distances[~same] <= threshold))
        assert tar == pytest.approx(np.mean(distances[same] <= threshold))


def test_equal_error_rate():
    # far, tar = (0, .5), (.5, .5), (.5, 1), (1, 1): both errors are .5 at the second point.
    assert metrics.verification_curve([1, 2, 3, 4], [1, 0, 1, 0]).eer == pytest.approx(
        0.5
    )
    assert metrics.verification_curve([1, 2, 3, 4], [1, 1, 0, 0]).eer == pytest.approx(
        0.0
    )
    assert metrics.verification_curve([4, 3, 2, 1], [1, 1, 0, 0]).eer == pytest.approx(
        1.0
    )
    # All equal distances: the chord from (0, 0) to (1, 1), where far = 1 - tar at .5.
    assert metrics.verification_curve([2, 2, 2], [1, 0, 0]).eer == pytest.approx(0.5)
    # Between (0, 2/3) and (1/2, 2/3): 1 - tar = 1/3 = far.
    assert metrics.verification_curve(
        [1, 2, 3, 4, 5], [1, 1, 0, 1, 0]
    ).eer == pytest.approx(1 / 3)


def test_accuracy_at_is_strict():
    assert metrics.accuracy_at([0.5, 0.4, 0.6], [0, 1, 0], 0.5) == 1.0
    assert metrics.accuracy_at([0.5, 0.4, 0.6], [1, 1, 0], 0.5) == pytest.approx(2 / 3)
    assert (
        metrics.accuracy_at([0.1, 0.2], [1, 1], 0.5) == 1.0
    )  # one kind is enough here


@pytest.mark.parametrize("ties", [False, True])
def test_best_threshold_beats_every_other(ties):
    for _ in range(20):
        distances, same = pairs(30, ties)
        same[:2] = True, False
        threshold, accuracy = metrics.best_threshold(distances, same)
        assert metrics.accuracy_at(distances, same, threshold) == pytest.approx(
            accuracy
        )
        around = np.concatenate([distances - 1e-9, distances, distances + 1e-9])
        brute = max(np.mean((distances < t) == same) for t in around)
        assert accuracy == pytest.approx(brute)


def test_best_threshold_lies_in_the_middle_of_the_gap():
    assert metrics.best_threshold([1, 2, 4, 5], [1, 1, 0, 0]) == (3.0, 1.0)


@pytest.mark.parametrize(
    ("distances", "same"),
    [
        ([1.0, np.nextafter(1.0, 2.0)], [1, 0]),  # no float between them
        ([1.0, 2.0, 2.0], [0, 1, 1]),  # accept all
        ([1.0, 1.0, 2.0], [0, 0, 1]),  # reject all
        ([1.0, 1.0], [0, 1]),
        ([0.0, 0.0, 0.0], [1, 1, 0]),
    ],
)
def test_best_threshold_gives_the_accuracy_it_announces(distances, same):
    threshold, accuracy = metrics.best_threshold(distances, same)
    assert metrics.accuracy_at(distances, same, threshold) == accuracy >= 0.5


def test_tar_at_far_by_sweep():
    distances, same = pairs(200)
    for far in (0.02, 0.1, 0.5, 1.0):
        brute = max(
            np.mean(distances[same] <= t)
            for t in [-1.0, *distances]
            if np.mean(distances[~same] <= t) <= far
        )
        assert metrics.tar_at_far(distances, same, far) == pytest.approx(brute)
    assert (
        metrics.tar_at_far([1, 2, 3, 4], [1, 0, 1, 0], 0.5) == 1.0
    )  # a rate of exactly 0.5
    with pytest.raises(ValueError, match="au moins 1000"):
        metrics.tar_at_far(distances, same, 0.001)
    with pytest.raises(ValueError, match="taux de fausse acceptation"):
        metrics.tar_at_far(distances, same, 0.0)


@pytest.mark.parametrize(
    ("distances", "same", "message"),
    [
        ([1, 2], [1, 1], "toutes semblables"),
        ([1, 2], [0, 0], "toutes différentes"),
        ([1, np.nan], [0, 1], "pas finies"),
        ([[1], [2]], [0, 1], "même longueur"),
        ([], [], "non vides"),
        ([1, 2], [0, 3], "des 0 et des 1"),
    ],
)
@pytest.mark.parametrize(
    "function", [metrics.verification_curve, metrics.best_threshold]
)
def test_pairs_refused(function, distances, same, message):
    with pytest.raises(ValueError, match=message):
        function(distances, same)


# --- Groups and seeds -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        # Newcombe (1998), Statistics in Medicine 17:857-872, table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval_has_the_published_values(successes, n, low, high):
    assert metrics.wilson(successes, n) == pytest.approx((low, high), abs=5e-5)
    assert metrics.wilson(n - successes, n) == pytest.approx(
        (1 - high, 1 - low), abs=5e-5
    )


def test_wilson_solves_its_equation():
    """Its ends are the proportions p where |k/n - p| is z standard errors of p."""
    for end in metrics.wilson(7, 50, confidence=0.9):
        assert abs(7 / 50 - end) == pytest.approx(
            1.6448536 * np.sqrt(end * (1 - end) / 50)
        )


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (3, 2), (-1, 5)])
def test_wilson_refuses(successes, n):
    with pytest.raises(ValueError, match="succès"):
        metrics.wilson(successes, n)


def test_group_metrics_by_counting():
    true = [1, 1, 0, 0, 1, 0, 0, 0]
    pred = [1, 0, 0, 1, 1, 0, 0, 0]
    groups = ["f", "f", "f", "f", "h", "h", "h", "h"]
    got = metrics.group_metrics(true, pred, groups)
    assert list(got) == ["f", "h"]
    f, h = got["f"], got["h"]
    assert (f.n, f.accuracy, f.tpr, f.fpr, f.positives) == (4, 0.5, 0.5, 0.5, 0.5)
    assert (h.n, h.accuracy, h.tpr, h.fpr, h.positives) == (4, 1.0, 1.0, 0.0, 0.25)
    assert f.accuracy_interval == metrics.wilson(2, 4)
    assert h.tpr_interval == metrics.wilson(1, 1)
    assert h.fpr_interval == metrics.wilson(0, 3)


def test_group_without_positive_has_no_true_positive_rate():
    got = metrics.group_metrics([0, 0], [0, 1], [7, 7])[7]
    assert np.isnan(got.tpr)
    assert np.isnan(got.tpr_interval).all()
    assert got.fpr == 0.5
    with pytest.raises(ValueError, match="Un groupe par exemple"):
        metrics.group_metrics([0, 1], [0, 1], [1])


def test_fair_metric():
    assert metrics.fair_metric({"f": 0.85, "h": 0.85}) == 0.85
    assert metrics.fair_metric({"f": 0.92, "h": 0.97}) == pytest.approx(0.945 - 0.1)
    assert metrics.fair_metric({"f": 1.0, "h": 0.0}) == -1.5
    with pytest.raises(ValueError, match="deux groupes"):
        metrics.fair_metric({"f": 0.5})
