"""The functions that chapter 07 writes."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from scipy import linalg

from tests.notebook import load

chapter = load("07_gan")
CUSTOM = ("norme spectrale", "WGAN", "WGAN-GP", "conditionnel")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def numbers(network):
    return [ops.convert_to_numpy(w).copy() for w in network.weights]


def moved(before, network):
    return [
        not np.array_equal(a, b) for a, b in zip(before, numbers(network), strict=True)
    ]


def small(**options):
    generator = chapter.mlp((3,), (2,), (8,))
    return chapter.GAN(generator, chapter.mlp((2,), (1,), (8,)), **options)


# --- The document's networks


def test_the_documents_networks_have_the_audited_sizes():
    generator, discriminator = chapter.build_generator(), chapter.build_discriminator()
    assert generator.count_params() == 1_443_585
    assert discriminator.count_params() == 239_361
    assert generator.output_shape == (None, 64, 64, 1)
    z = np.random.default_rng(0).standard_normal((2, 100), "float32")
    images = ops.convert_to_numpy(generator(z))
    assert np.abs(images).max() <= 1
    answers = ops.convert_to_numpy(discriminator(images))
    assert answers.shape == (2, 1)
    assert ((answers > 0) & (answers < 1)).all()


def test_the_documents_gan_trains_with_the_defaults(rng):
    gan = chapter.GAN(chapter.build_generator(), chapter.build_discriminator())
    gan.compile()
    before = numbers(gan.generator), numbers(gan.discriminator)
    x = rng.uniform(-1, 1, (3, 64, 64, 1)).astype("float32")
    history = gan.fit(x, batch_size=2, epochs=1)
    assert all(moved(before[0], gan.generator))
    assert all(moved(before[1], gan.discriminator))
    assert set(history.history) == {"d_loss", "g_loss", "d_real", "d_fake"}
    assert all(np.isfinite(v).all() for v in history.history.values())


# --- Whose weights move


@pytest.mark.parametrize("eager", [True, False])
@pytest.mark.parametrize("batch", [1, 2, 7])
def test_each_update_moves_its_own_network_only(rng, batch, eager):
    keras.utils.set_random_seed(0)
    rules = chapter.ALL_RULES  # with normalisations in both networks
    gan = chapter.GAN(
        chapter.dcgan_generator(16, 4, latent=8, rules=rules),
        chapter.dcgan_discriminator(16, 4, rules=rules),
    )
    gan.compile(run_eagerly=eager)
    x = rng.uniform(-1, 1, (batch, 16, 16, 1)).astype("float32")
    d_own, g_still, d_still, g_own = chapter.check_turns(gan, x)
    assert (g_still, d_still) == (0, 0)
    assert min(d_own, g_own) > 0


@pytest.mark.parametrize("still", ["d", "g"])
def test_a_rate_of_zero_stops_one_network_only(rng, still):
    gan = small()
    rates = {"d": (0.0, 0.1), "g": (0.1, 0.0)}[still]
    gan.compile(*map(keras.optimizers.SGD, rates))
    before = numbers(gan.generator), numbers(gan.discriminator)
    gan.train_on_batch(rng.standard_normal((5, 2)).astype("float32"))
    assert any(moved(before[0], gan.generator)) == (still == "d")
    assert any(moved(before[1], gan.discriminator)) == (still == "g")


def test_the_guard_sees_a_wrong_update(rng):
    gan = small()
    gan.compile(run_eagerly=True)
    play = gan.play_g

    def wrong(z):
        weight = gan.discriminator.trainable_weights[0]
        weight.assign(weight + 1)
        return play(z)

    gan.play_g = wrong
    with pytest.raises(AssertionError, match="mauvais réseau"):
        chapter.check_turns(gan, rng.standard_normal((5, 2)).astype("float32"))


def test_the_printed_order_trains_no_discriminator_and_the_usual_cure_trains_it_twice():
    own, other, g_own = chapter.who_moves(chapter.as_printed)
    assert own == other == 0 < g_own
    own, other, _ = chapter.who_moves(chapter.unfreeze_and_recompile)
    assert min(own, other) > 0
    own, other, g_own = chapter.who_moves(chapter.toggle)
    assert other == 0 < min(own, g_own)


def test_the_generator_plays_once_in_d_steps(rng):
    gan = small(d_steps=3)
    gan.compile(run_eagerly=True)
    logs = [gan.train_on_batch(rng.standard_normal((4, 2))) for _ in range(6)]
    assert ["g_loss" in found for found in logs] == [False, False, True] * 2
    assert "g_loss" in chapter.means(logs)


def test_a_probability_is_turned_back_into_its_score(rng):
    core = chapter.mlp((2,), (1,), (8,))
    probability = keras.Sequential([core, layers.Activation("sigmoid")])
    x = rng.standard_normal((6, 2)).astype("float32")
    generator = chapter.mlp((3,), (2,), (8,))
    scores = [
        ops.convert_to_numpy(chapter.GAN(generator, d).score(x, ()))
        for d in (core, probability)
    ]
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)


# --- Losses


def test_losses_equal_numpy_on_probabilities(rng):
    real, fake = rng.normal(0, 3, (2, 40))
    p, q = 1 / (1 + np.exp(-real)), 1 / (1 + np.exp(-fake))
    expected = {
        chapter.d_cross_entropy: -np.log(p).mean() - np.log(1 - q).mean(),
        chapter.d_smoothed: -(0.9 * np.log(p) + 0.1 * np.log(1 - p)).mean()
        - np.log(1 - q).mean(),
        chapter.d_wasserstein: fake.mean() - real.mean(),
    }
    for loss, value in expected.items():
        got = loss(real.astype("float32"), fake.astype("float32"))
        assert float(got) == pytest.approx(value, rel=1e-5)
    expected = {
        chapter.g_saturating: np.log(1 - q).mean(),
        chapter.g_non_saturating: -np.log(q).mean(),
        chapter.g_wasserstein: -fake.mean(),
    }
    for loss, value in expected.items():
        assert float(loss(fake.astype("float32"))) == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize("score", [-200.0, 200.0])
def test_losses_are_finite_far_out(score):
    scores = np.full((4, 1), score, "float32")
    for loss in (chapter.d_cross_entropy, chapter.d_smoothed):
        assert np.isfinite(float(loss(scores, scores)))
    for loss in (chapter.g_saturating, chapter.g_non_saturating):
        assert np.isfinite(float(loss(scores)))


@pytest.mark.parametrize(
    "name", [name for name in chapter.ON_RING if name != "deux vitesses"]
)  # once its rates are replaced, that one is the base recipe
def test_no_nan_over_the_stress_grid(monkeypatch, name):
    monkeypatch.setattr(chapter, "EAGER", True)
    for batch, rate in ((1, 1e-2), (8, 1e-5), (64, 1e-2)):
        recipe = chapter.ON_RING[name]._replace(rates=(rate, rate))
        gan = chapter.make_gan(recipe, chapter.ring_networks, seed=0)
        x, y = chapter.ring(batch)
        logs = [gan.train_on_batch(x, y if recipe.classes else None) for _ in range(2)]
        assert all(np.isfinite(list(found.values())).all() for found in logs)
        assert all(np.isfinite(w).all() for w in numbers(gan))


def test_the_penalty_is_the_gap_of_the_slope_to_one(rng):
    gan = chapter.GAN(chapter.mlp((3,), (2,), (4,)), chapter.mlp((2,), (1,), ()))
    kernel = gan.discriminator.trainable_weights[0]
    kernel.assign(np.array([[3.0], [4.0]]))  # slope 5 everywhere
    x = ops.convert_to_tensor(rng.standard_normal((6, 2)).astype("float32"))
    assert float(gan.steepness(x, ())) == pytest.approx(16, rel=1e-5)


# --- Constraints


def test_clip_and_spectral_norm(rng):
    kernel = rng.normal(size=(4, 4, 8, 16)).astype("float32")
    clipped = ops.convert_to_numpy(chapter.Clip(0.1)(ops.convert_to_tensor(kernel)))
    assert clipped == pytest.approx(np.clip(kernel, -0.1, 0.1))
    normal = ops.convert_to_numpy(
        chapter.SpectralNorm(30)(ops.convert_to_tensor(kernel))
    )
    assert np.linalg.norm(normal.reshape(-1, 16), 2) == pytest.approx(1, abs=0.03)


def test_constraints_hold_after_an_update(monkeypatch):
    monkeypatch.setattr(chapter, "EAGER", True)
    gan = chapter.make_gan(chapter.ON_RING["WGAN"], chapter.ring_networks, seed=0)
    gan.train_on_batch(chapter.ring(16)[0])
    for layer in gan.discriminator.layers:
        if isinstance(layer, layers.Dense):
            assert np.abs(ops.convert_to_numpy(layer.kernel)).max() <= 0.05 + 1e-6


# --- DCGAN and the style generator


def test_dcgan_has_the_size_of_the_network_everyone_copies():
    generator = chapter.dcgan_generator(64, 64, 3, latent=100)
    discriminator = chapter.dcgan_discriminator(64, 64, 3)
    trained = [
        sum(int(np.prod(w.shape)) for w in network.trainable_weights)
        for network in (generator, discriminator)
    ]
    assert trained == [3_576_704, 2_765_568]
    assert [n.count_params() for n in (generator, discriminator)] == [
        3_578_624,
        2_767_360,
    ]


@pytest.mark.parametrize("rule", chapter.Rules._fields)
def test_a_rule_taken_away_leaves_a_network_of_the_same_shape(rule):
    rules = chapter.ALL_RULES._replace(**{rule: False})
    generator = chapter.dcgan_generator(32, 4, rules=rules)
    discriminator = chapter.dcgan_discriminator(32, 4, rules=rules)
    assert generator.output_shape == discriminator.input_shape
    kinds = {type(x).__name__ for x in (*generator.layers, *discriminator.layers)}
    assert ("BatchNormalization" in kinds) == (rule != "batch_norm")
    assert ("MaxPooling2D" in kinds) == (rule == "strided")


def test_a_side_that_does_not_fit_is_refused_in_french():
    with pytest.raises(ValueError, match="choisissez 16, 32, 64 ou 128"):
        chapter.dcgan_generator(48)


def test_modulated_convolution_equals_modulated_weights(rng):
    layer = chapter.ModulatedConv2D(5)
    x = rng.standard_normal((2, 6, 6, 3)).astype("float32")
    style = rng.standard_normal((2, 4)).astype("float32")
    got = ops.convert_to_numpy(layer(x, style))
    gains = style @ ops.convert_to_numpy(layer.gains.kernel) + 1
    kernel = ops.convert_to_numpy(layer.kernel)
    for k in range(2):
        weights = kernel * gains[k][:, None]
        weights /= np.sqrt((weights**2).sum(axis=(0, 1, 2)) + 1e-8)
        expected = ops.convert_to_numpy(ops.conv(x[k : k + 1], weights, padding="same"))
        assert got[k] == pytest.approx(expected[0], abs=1e-4)


def test_pixel_noise_is_silent_at_inference_and_as_strong_as_learned(rng):
    layer = chapter.PixelNoise()
    x = np.zeros((2, 8, 8, 3), "float32")
    assert not ops.convert_to_numpy(layer(x)).any()
    layer.gain.assign([0.0, 1.0, 2.0])
    noise = ops.convert_to_numpy(layer(x, training=True))
    assert not noise[..., 0].any()
    assert noise[..., 2] == pytest.approx(2 * noise[..., 1])


def test_mixing_with_its_own_style_changes_nothing(rng):
    generator = chapter.style_generator(32, 4)
    z = rng.standard_normal((3, chapter.LATENT)).astype("float32")
    w = chapter.styles_of(generator, z)
    drawn = chapter.draw(generator, z)
    assert chapter.mixed(generator, w, w, [0, 1]) == pytest.approx(drawn, abs=1e-5)
    assert chapter.truncated(generator, z, 1.0) == pytest.approx(drawn, abs=1e-5)
    same = chapter.truncated(generator, z, 0.0)
    assert same[0] == pytest.approx(same[1], abs=1e-6)


def test_a_style_taken_everywhere_draws_the_other_picture(rng):
    generator = chapter.style_generator(32, 4)
    z = rng.standard_normal((4, chapter.LATENT)).astype("float32")
    w = chapter.styles_of(generator, z)
    every = range(chapter.level_count(generator))
    swapped = chapter.mixed(generator, w[:2], w[2:], every)
    assert swapped == pytest.approx(chapter.draw(generator, z)[2:], abs=1e-5)
    partly = chapter.mixed(generator, w[:2], w[2:], [0])
    assert np.abs(partly - swapped).max() > 1e-3


@pytest.mark.parametrize("name", [*CUSTOM, "à style", "dense"])
def test_a_trained_gan_is_saved_and_read_again(monkeypatch, name):
    monkeypatch.setattr(chapter, "EAGER", True)
    recipe = chapter.ON_IMAGES[name]
    gan = chapter.make_gan(recipe, chapter.image_networks, seed=0)
    x = np.random.default_rng(0).uniform(-1, 1, (4, 32, 32, 1)).astype("float32")
    labels = (np.arange(4),) if recipe.classes else ()
    gan.train_on_batch(x, *labels)
    z = np.random.default_rng(0).standard_normal((4, chapter.LATENT), "float32")
    assert chapter.saved_and_read(gan, z, labels) == pytest.approx(0, abs=1e-6)


def test_a_gan_read_again_keeps_its_game(tmp_path):
    gan = small(d_loss=chapter.d_wasserstein, d_steps=4, penalty=2.0)
    gan.save(tmp_path / "gan.keras")
    again = keras.saving.load_model(tmp_path / "gan.keras")
    assert again.d_loss is chapter.d_wasserstein
    assert (again.d_steps, again.penalty) == (4, 2.0)
    again.compile(run_eagerly=True)
    again.train_on_batch(np.ones((2, 2), "float32"))


# --- Measures


def test_frechet_distance_equals_the_matrix_root(rng):
    a = rng.normal(size=(500, 4)) @ rng.normal(size=(4, 4))
    b = rng.normal(size=(400, 4)) + 1
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    shift = a.mean(axis=0) - b.mean(axis=0)
    root = np.real(linalg.sqrtm(cov_a @ cov_b))
    expected = shift @ shift + np.trace(cov_a + cov_b - 2 * root)
    assert chapter.frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)
    assert chapter.frechet_distance(a, a) == pytest.approx(0, abs=1e-8)


def test_covered_counts_points_within_a_ball(rng):
    support = rng.normal(size=(200, 2))
    assert chapter.covered(support, support) == 1
    assert chapter.covered(support + 100, support) == 0
    half = np.concatenate([support[:50], support[:50] + 100])
    assert chapter.covered(half, support) == 0.5


def test_modes_are_counted(rng):
    points, labels = chapter.ring(2_000)
    found = chapter.reached(points)
    assert found["modes"] == 8
    assert found["good"] > 0.99
    assert chapter.reached(points[labels == 3])["modes"] == 1
    assert chapter.reached(np.zeros((10, 2)))["good"] == 0


def test_images_survive_as_text(rng):
    images = rng.uniform(-1, 1, (3, 8, 8, 1))
    again = chapter.as_images(chapter.as_text(images))
    assert again.dtype == np.uint8
    assert again / 127.5 - 1 == pytest.approx(images, abs=1 / 127)


def test_nearest_finds_the_copy(rng):
    others = rng.normal(size=(20, 4, 4, 1))
    rows, distances = chapter.nearest(others[[7, 3]] + 1e-6, others)
    assert list(rows) == [7, 3]
    assert distances == pytest.approx(0, abs=1e-4)


def test_bilinear_game_goes_away_or_around():
    radii = np.hypot(*chapter.bilinear_game(100).T)
    assert radii == pytest.approx(1.01 ** (np.arange(101) / 2))
    radii = np.hypot(*chapter.bilinear_game(1_000, alternate=True).T)
    assert radii.min() > 0.9
    assert radii.max() < 1.1


def test_the_value_of_the_game_is_a_divergence():
    p, q = chapter.norm.pdf(chapter.AXIS, -1, 0.5), chapter.norm.pdf(chapter.AXIS, 2, 1)
    divergence = chapter.jensen_shannon(p, q)
    assert chapter.jensen_shannon(p, p) == pytest.approx(0, abs=1e-12)
    assert 0 < divergence < np.log(2)
    assert chapter.jensen_shannon(q, p) == pytest.approx(divergence)
