"""The functions of chapter 11: fairness measured, improvements, model card."""

import keras
import numpy as np
import pytest
from keras import ops

from tests.notebook import load
from utils import datasets

chapter = load("11_face_fairness")


@pytest.fixture
def four_cells(monkeypatch):
    """Eight faces, two in each cell of gender and class."""
    monkeypatch.setattr(chapter, "women", np.repeat([True, False], 4), raising=False)
    monkeypatch.setattr(chapter, "target", np.tile([0, 0, 1, 1], 2), raising=False)
    p = np.array([0.1, 0.6, 0.4, 0.9, 0.2, 0.3, 0.7, 0.8])
    return p, np.arange(8)


# --- Question 7


def test_only_one_fraction_gives_each_printed_accuracy():
    found = [f for pair in chapter.FOUND.values() for f in pair]
    assert found == [
        [(14_604, 15_885)],
        [(15_379, 15_884)],
        [(14_413, 15_884)],
        [(14_619, 15_885)],
    ]
    assert chapter.fractions(0.5, range(3, 5)) == [(2, 4)]
    assert chapter.fractions(0.9193578958511354, chapter.SIZES) == []


def test_a_tally_gives_the_fair_metric_of_its_accuracies():
    tally = chapter.Tally(90, 100, 190, 200)
    assert tally.accuracies == (0.9, 0.95)
    assert tally.fair == pytest.approx(0.925 - 0.1)
    assert tally.overall == pytest.approx(280 / 300)


@pytest.mark.parametrize("counts", [(90, 100, 190, 200), (99, 100, 150, 200)])
def test_levelling_down_helps_nobody_and_raises_the_metric(counts):
    tally = chapter.Tally(*counts)
    low = chapter.levelled(tally)
    assert low.accuracies[0] == pytest.approx(low.accuracies[1], abs=0.005)
    assert all(a <= b for a, b in zip(low.accuracies, tally.accuracies, strict=True))
    assert low.fair > tally.fair


def test_a_right_answer_to_a_man_lowers_the_metric_when_women_are_behind():
    tally = chapter.Tally(900, 1_000, 950, 1_000)
    assert tally._replace(men_right=951).fair - tally.fair == pytest.approx(-0.0015)
    assert tally._replace(women_right=901).fair - tally.fair == pytest.approx(0.0025)


def test_skill_is_zero_for_the_constant_answer_and_one_without_error():
    assert chapter.skill(0.75, 0.25) == pytest.approx(0)
    assert chapter.skill(1.0, 0.25) == 1
    assert chapter.skill(0.95, 0.25) == pytest.approx(0.8)


def test_redrawn_tests_have_the_spread_of_a_binomial_law():
    tally = chapter.Tally(900, 1_000, 380, 400)
    draws = chapter.redrawn(tally)
    assert draws.shape == (2, chapter.RESAMPLES)
    np.testing.assert_allclose(draws.mean(axis=1), tally.accuracies, atol=1e-3)
    wanted = [np.sqrt(0.9 * 0.1 / 1_000), np.sqrt(0.95 * 0.05 / 400)]
    np.testing.assert_allclose(draws.std(axis=1), wanted, rtol=0.05)
    low, high = chapter.fair_interval(tally)
    assert low < tally.fair < high
    assert high - low == pytest.approx(
        3.92 * np.hypot(2.5 * wanted[0], 1.5 * wanted[1]), rel=0.1
    )


def test_sweep_counts_each_cell_at_each_threshold(four_cells):
    p, rows = four_cells
    found = chapter.sweep(p, rows, cuts=(0.0, 0.5, 0.95))
    assert np.array(found["hits"]).tolist() == [
        [[2, 2], [2, 2]],
        [[1, 1], [0, 2]],
        [[0, 0], [0, 0]],
    ]
    assert np.array(found["sizes"]).tolist() == [[2, 2], [2, 2]]
    assert chapter.rights(found).tolist() == [[2, 2], [2, 4], [2, 2]]


def test_tallies_agree_with_a_direct_count(four_cells):
    p, rows = four_cells
    found = chapter.sweep(p, rows)
    said = p > 0.5
    right = said == chapter.target
    wanted = (right[:4].sum(), 4, right[4:].sum(), 4)
    assert tuple(chapter.tally_at(found)) == wanted
    apart = chapter.tally_at(found, 0.5, 0.98)
    assert (apart.women_right, apart.men_right) == (2, 2)


# --- Question 10


def test_turning_hues_changes_colours_but_not_lightness():
    yellow = np.full((4, 4, 3), (220, 200, 60), "uint8")
    turned = chapter.recoloured(yellow, 128)
    assert turned[0, 0].argmax() == 2
    assert yellow[0, 0].argmax() == 0
    assert abs(int(turned.max()) - 220) <= 2
    np.testing.assert_allclose(chapter.recoloured(yellow, 0), yellow, atol=1)


def test_augmentation_acts_in_training_only():
    keras.utils.set_random_seed(0)
    model = chapter.augmented_cnn(32)
    x = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype("float32")
    plain = ops.convert_to_numpy(model.layers[-1](x, training=False))
    np.testing.assert_allclose(
        ops.convert_to_numpy(model(x, training=False)), plain, atol=1e-5
    )
    assert model.count_params() >= chapter.face_cnn(32).count_params()
    assert len(model.trainable_weights) == len(chapter.face_cnn(32).trainable_weights)


def test_the_deeper_network_has_five_convolutions_and_gives_a_probability():
    model = chapter.deeper_cnn(40)
    convolutions = [a for a in model.layers if isinstance(a, keras.layers.Conv2D)]
    assert len(convolutions) == 5
    assert model.output_shape == (None, 1)
    assert model.count_params() < chapter.face_cnn(40).count_params()


def by_loops(y, woman, z, strength):
    """The fair loss, face by face."""
    total, sums = 0.0, {}
    for label, group, score in zip(y, woman, z, strict=True):
        p = 1 / (1 + np.exp(-score))
        total -= np.log(p if label else 1 - p) / len(y)
        sums.setdefault((label, group), []).append(p)
    gap = {c: np.mean(sums[c, 1]) - np.mean(sums[c, 0]) for c in (0, 1)}
    return total + strength * (gap[0] ** 2 + gap[1] ** 2)


@pytest.mark.parametrize("strength", [0.0, 1.0, 30.0])
def test_the_fair_loss_is_what_loops_compute(strength):
    rng = np.random.default_rng(1)
    y, woman = rng.integers(0, 2, (2, 80)).astype("float32")
    z = rng.normal(size=80).astype("float32") + woman * y
    given = chapter.FairLoss(strength)(np.stack([y, woman], axis=1), z[:, None])
    found = float(ops.convert_to_numpy(given))
    assert found == pytest.approx(by_loops(y, woman, z, strength), abs=1e-4)
    if strength:  # a gap of the wrong group or of no class would be seen
        other = np.random.default_rng(2).permutation(woman)
        assert abs(found - by_loops(y, other, z, strength)) > 1e-3


def test_the_fair_loss_stands_an_absent_group_and_extreme_scores():
    pairs = np.array([[1, 1], [0, 1]], "float32")
    scores = np.array([[90.0], [-90.0]], "float32")
    loss = float(ops.convert_to_numpy(chapter.FairLoss(1.0)(pairs, scores)))
    assert np.isfinite(loss)
    copy = keras.losses.deserialize(keras.losses.serialize(chapter.FairLoss(7.0)))
    assert copy.strength == 7.0


def test_rates_and_gaps_are_those_of_the_four_cells(four_cells):
    p, rows = four_cells
    found = chapter.sweep(p, rows)
    np.testing.assert_allclose(chapter.rates_of(found), [[0.5, 0.5], [0.0, 1.0]])
    np.testing.assert_allclose(chapter.rate_gaps(found), [0.5, -0.5])


@pytest.mark.parametrize("common", [True, False])
def test_the_best_cuts_are_those_of_an_exhaustive_search(common, monkeypatch):
    rng = np.random.default_rng(0)
    monkeypatch.setattr(chapter, "women", rng.random(300) < 0.6, raising=False)
    monkeypatch.setattr(
        chapter, "target", (rng.random(300) < 0.3).astype(int), raising=False
    )
    p = np.clip(0.3 + 0.3 * chapter.target + rng.normal(0, 0.2, 300), 0, 1)
    found = chapter.sweep(p, np.arange(300))
    cuts = chapter.best_cuts(found, common)
    best = max(
        chapter.tally_at(found, a, b).fair
        for a in chapter.THRESHOLDS
        for b in ([a] if common else chapter.THRESHOLDS)
    )
    assert chapter.tally_at(found, *cuts).fair == pytest.approx(best)
    assert (cuts[0] == cuts[1]) or not common


# --- Fairness


def test_rates_of_one_model_in_two_groups():
    found = chapter.consequences(0.25, 0.8, 0.04)
    assert found["sélection"] == pytest.approx(0.2 + 0.03)
    assert found["exactitude"] == pytest.approx(0.2 + 0.72)
    assert found["précision"] == pytest.approx(0.2 / 0.23)


def test_gaps_between_groups_are_men_minus_women():
    group = np.repeat([True, False], 4)
    y = np.array([1, 1, 0, 0] * 2, bool)
    answers = np.array([1, 0, 0, 0, 1, 1, 1, 0], bool)
    found = dict(zip(chapter.GAPS, chapter.gaps_of(answers, y, group), strict=True))
    wanted = {"exactitude": 0, "sélection": 0.5, "rappel": 0.5, "faux positifs": 0.5}
    for name, value in wanted.items():
        assert found[name] == pytest.approx(value), name
    assert found["précision"] == pytest.approx(2 / 3 - 1)


def test_measures_by_group_are_those_of_the_course(monkeypatch):
    from utils.metrics import group_metrics

    rng = np.random.default_rng(0)
    y, answers = rng.integers(0, 2, (2, 200))
    names = np.where(rng.random(200) < 0.5, "femmes", "hommes")
    monkeypatch.setattr(chapter, "target", y, raising=False)
    monkeypatch.setattr(chapter, "BOOT", 20)
    found = chapter.by_group(answers, names)
    for name, ours in group_metrics(y, answers, names).items():
        values = {key: triple[0] for key, triple in found[name].items()}
        assert values["visages"] == ours.n
        assert values["rappel"] == pytest.approx(ours.tpr)
        assert values["faux positifs"] == pytest.approx(ours.fpr)
        assert values["exactitude"] == pytest.approx(ours.accuracy)
        value, low, high = found[name]["exactitude"]
        assert low <= value <= high
        assert high - low < 0.4


def test_the_front_keeps_what_nothing_dominates():
    points = [(0.9, 0.05), (0.95, 0.05), (0.8, 0.0), (0.97, 0.1), (0.96, 0.2)]
    assert chapter.on_front(points) == [2, 1, 3]
    assert chapter.on_front([(0.9, 0.1), (0.9, 0.1)]) == [0, 1]


def test_worlds_differ_by_their_base_rates_only(monkeypatch):
    monkeypatch.setattr(chapter, "WORLD_FACES", 60)
    x, group, truth, labels = chapter.drawn_world((1.0, 0.0), side=4)
    assert x.shape == (60, 48)
    assert x.dtype == "float32"
    assert (truth == group).all()
    assert (labels == truth).all()
    noisy = chapter.drawn_world((1.0, 0.0), side=4, noise={"blond": (0.5, 0.0)})
    assert (noisy[3][~group] == truth[~group]).all()
    assert (noisy[3][group] != truth[group]).any()
    np.testing.assert_array_equal(noisy[0], x)


# --- Model card

FACTS = {
    "modèle": "sonde",
    "étiquette": "blond ou lunettes",
    "données": "CelebA",
    "apprentissage": 6_000,
    "test": 2_000,
    "exactitudes": (0.912, 0.954),
    "note": 0.8492,
    "intervalle": (0.8111, 0.8877),
    "rappels": (0.761, 0.702),
    "faux positifs": (0.043, 0.017),
    "calibration": (0.011, 0.012),
    "pire croisement": "femmes, moins jeunes : 87,0 % (84 à 90), sur 694 visages",
    "exécution": "exécution complète",
}


def test_the_card_says_every_measure():
    card = dict(chapter.model_card(FACTS))
    text = " ".join(card.values())
    for written in (
        "91,2",
        "95,4",
        "0,849",
        "0,811 à 0,888",
        "76,1",
        "70,2",
        "4,3",
        "1,7",
    ):
        assert written in text, written
    assert "694" in text
    assert "CelebA" in text
    assert "Male" in text
    assert card["Usages exclus"]
    for word in ("sans biais", "débiaisé", "impartial", "neutre"):
        assert word not in text.casefold()


@pytest.mark.parametrize("name", list(FACTS))
def test_the_card_refuses_to_be_written_without_a_measure(name):
    with pytest.raises(ValueError, match=name):
        chapter.model_card({**FACTS, name: None})


def test_the_datasheet_gives_licence_consent_and_sizes():
    tables = {
        name: {"visages": [n, n, n], "taux de base": rate}
        for name, n, rate in (("femmes", 5_783, 0.259), ("hommes", 4_217, 0.142))
    }
    sheet = dict(chapter.datasheet(datasets.REGISTRY["faces"], tables))
    assert "non commerciale" in sheet["Licence"]
    assert "consentement" in sheet["Les personnes ont-elles consenti ?"]
    assert "25,9" in sheet["Classe 1"]
    assert "5783" in sheet["Qu'en prenons-nous ?"].replace("\u202f", "")


def test_the_worst_crossing_comes_with_its_size():
    tables = {
        "a": {"exactitude": [0.9, 0.88, 0.92], "visages": [500] * 3},
        "b": {"exactitude": [0.8, 0.7, 0.9], "visages": [60] * 3},
    }
    assert chapter.worst_cross(tables).startswith("b : 80,0")
    assert "60 visages" in chapter.worst_cross(tables)


# --- Exercises


def test_two_cuts_reach_the_recall_asked_for():
    for seed, recall in ((3, 0.8), (4, 0.55)):
        p, y, group = chapter.recall_cuts_case(seed)
        cuts = chapter.recall_cuts_solution(p, y, group, recall)
        for rows, cut in zip((group, ~group), cuts, strict=True):
            ones = p[rows & (y == 1)]
            assert np.mean(ones >= cut) >= recall
            assert np.mean(ones > cut) < recall


def test_the_exercise_tells_each_mistake():
    exercise = chapter.EXERCISE_CUTS
    assert exercise.diagnose(chapter.recall_cuts_solution)
    assert not exercise.diagnose(chapter.my_recall_cuts)
    for hint, wrong in exercise.mistakes.items():
        assert exercise.diagnose(wrong).message == hint
