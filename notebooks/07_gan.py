# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %%
import base64
import zlib
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers, ops
from sklearn.metrics import pairwise_distances

from utils import datasets, runtime, synthetic
from utils.autodiff import (
    compiled,
    input_gradients,
    loss_and_gradients,
)
from utils.execute import experiment

# %% [markdown]
# Toutes les tailles du chapitre sont choisies ici.

# %%
runtime.start("07_gan")
SIDE = 32  # côté des images ; 64 pour le réseau du document
LATENT = 64  # taille du bruit de nos réseaux
SEEDS = runtime.pick(quick=(0,), full=(0, 1, 2))
BATCH = runtime.pick(quick=16, full=64)
FILTERS = runtime.pick(quick=8, full=64, cpu=16)
STEPS = runtime.pick(quick=1, full=2_000, cpu=500)  # mises à jour du générateur
CRITIC_STEPS = runtime.pick(
    quick=1, full=5, cpu=3
)  # du critique, pour une du générateur
SAMPLES = runtime.pick(quick=200, full=10_000, cpu=2_000)  # images jugées
EAGER = runtime.pick(quick=True, full=False)  # compiler coûte plus que quelques pas

garments = datasets.garments()
runtime.banner(garments)


# %%
def framed(images):
    """Octets (n, 28, 28) -> réels de −1 à 1, (n, 32, 32, 1), bordés de noir."""
    wide = np.pad(images, ((0, 0), (2, 2), (2, 2)))[..., None]
    return wide.astype("float32") / 127.5 - 1


x_train, y_train = framed(garments.x_train), garments.y_train
x_test, y_test = framed(garments.x_test), garments.y_test
class_names = garments.class_names

# %% [markdown]
# ## pertes


# %%
@keras.saving.register_keras_serializable(package="vision")
def d_cross_entropy(real, fake):
    """Entropie croisée du discriminateur : étiquette 1 aux vraies images, 0 aux fausses."""
    return ops.mean(ops.softplus(-real)) + ops.mean(ops.softplus(fake))


@keras.saving.register_keras_serializable(package="vision")
def g_saturating(fake):
    """Celle de la formule : log(1 − D(G(z)))."""
    return -ops.mean(ops.softplus(fake))


@keras.saving.register_keras_serializable(package="vision")
def g_non_saturating(fake):
    """Celle du code : étiquette 1 aux fausses images, −log D(G(z))."""
    return ops.mean(ops.softplus(-fake))


# %% [markdown]
# ## GAN


# %%
@contextmanager
def unmoved(network):
    """Laisse passer des images sans toucher aux moyennes des normalisations."""
    kept = [ops.copy(weight) for weight in network.non_trainable_weights]
    yield
    for weight, value in zip(network.non_trainable_weights, kept):
        weight.assign(value)


@keras.saving.register_keras_serializable(package="vision")
class GAN(keras.Model):
    """Deux réseaux, deux optimiseurs ; chaque mise à jour ne déplace qu'un réseau."""

    def __init__(
        self,
        generator,
        discriminator,
        d_loss=d_cross_entropy,
        g_loss=g_non_saturating,
        d_steps=1,
        penalty=0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.generator, self.discriminator = generator, discriminator
        self.d_loss, self.g_loss = d_loss, g_loss
        self.d_steps, self.penalty = d_steps, penalty
        activation = getattr(discriminator.layers[-1], "activation", None)
        self.gives_probability = activation is keras.activations.sigmoid
        self.turn = 0

    def compile(self, d_optimizer=None, g_optimizer=None, run_eagerly=False):
        self.d_optimizer = d_optimizer or keras.optimizers.Adam(2e-4, beta_1=0.5)
        self.g_optimizer = g_optimizer or keras.optimizers.Adam(2e-4, beta_1=0.5)
        self.d_optimizer.build(self.discriminator.trainable_variables)
        self.g_optimizer.build(self.generator.trainable_variables)
        self.rng = np.random.default_rng(np.random.randint(2**31))
        updates = self.d_update, self.g_update
        if not run_eagerly:
            updates = [compiled(update, self.state) for update in updates]
        self.play_d, self.play_g = updates

    @property
    def state(self):
        """Toutes les variables qu'une mise à jour lit ou change."""
        owners = self.generator, self.discriminator, self.d_optimizer, self.g_optimizer
        return [variable for owner in owners for variable in owner.variables]

    def call(self, inputs, training=False):
        return self.generator(inputs, training=training)

    def score(self, images, labels):
        """Score avant la sigmoïde, que prennent toutes les pertes."""
        output = self.discriminator(with_labels(images, labels), training=True)
        if not self.gives_probability:
            return output
        p = ops.clip(output, 1e-7, 1 - 1e-7)
        return ops.log(p) - ops.log1p(-p)

    def d_update(self, real, z, mix, *labels):
        """Un pas du discriminateur : le générateur ne bouge pas."""
        with unmoved(self.generator):
            fake = self.generator(with_labels(z, labels), training=True)
        fake = ops.stop_gradient(fake)

        def objective():
            on_real, on_fake = self.score(real, labels), self.score(fake, labels)
            loss = self.d_loss(on_real, on_fake)
            if self.penalty:
                between = mix * real + (1 - mix) * fake
                loss = loss + self.penalty * self.steepness(between, labels)
            probabilities = [ops.mean(ops.sigmoid(s)) for s in (on_real, on_fake)]
            return loss, (loss, *probabilities)

        weights = self.discriminator.trainable_variables
        (_, logs), gradients = loss_and_gradients(objective, weights, self.state)
        self.d_optimizer.apply(gradients, weights)
        return logs

    def g_update(self, z, *labels):
        """Un pas du générateur : le discriminateur ne bouge pas."""

        def objective():
            fake = self.generator(with_labels(z, labels), training=True)
            with unmoved(self.discriminator):
                loss = self.g_loss(self.score(fake, labels))
            return loss, None

        weights = self.generator.trainable_variables
        (loss, _), gradients = loss_and_gradients(objective, weights, self.state)
        self.g_optimizer.apply(gradients, weights)
        return loss

    def steepness(self, images, labels):
        """Écart à 1 de la pente du critique, au carré : la pénalité de WGAN-GP."""

        def critic(x):
            return self.discriminator(with_labels(x, labels), training=False)

        slopes = ops.reshape(input_gradients(critic, images), (images.shape[0], -1))
        norms = ops.sqrt(ops.sum(ops.square(slopes), axis=1) + 1e-12)
        return ops.mean(ops.square(norms - 1))

    def noise(self, n):
        size = self.generator.inputs[0].shape[-1]
        z = self.rng.standard_normal((n, size), dtype="float32")
        return ops.convert_to_tensor(z)

    def train_on_batch(self, x, y=None):
        """Un tour : le discriminateur joue, puis le générateur (une fois sur `d_steps`)."""
        real = ops.convert_to_tensor(x, "float32")
        labels = () if y is None else (ops.convert_to_tensor(y, "int32"),)
        mix = self.rng.random((len(x),) + (1,) * (x.ndim - 1), dtype="float32")
        logs = self.play_d(
            real, self.noise(len(x)), ops.convert_to_tensor(mix), *labels
        )
        found = dict(zip(("d_loss", "d_real", "d_fake"), map(float, logs)))
        self.turn += 1
        if self.turn % self.d_steps == 0:
            found["g_loss"] = float(self.play_g(self.noise(len(x)), *labels))
        return found

    def fit(self, x, y=None, batch_size=64, epochs=1, callbacks=None, **params):
        watchers = keras.callbacks.CallbackList(
            callbacks, add_history=True, model=self, epochs=epochs, **params
        )
        watchers.on_train_begin()
        for epoch in range(epochs):
            watchers.on_epoch_begin(epoch)
            order, logs = self.rng.permutation(len(x)), []
            for start in range(0, len(x), batch_size):
                rows = order[start : start + batch_size]
                found = self.train_on_batch(x[rows], None if y is None else y[rows])
                watchers.on_train_batch_end(len(logs), found)
                logs.append(found)
            watchers.on_epoch_end(epoch, means(logs))
        watchers.on_train_end()
        return self.history

    def get_config(self):
        parts = ("generator", "discriminator", "d_loss", "g_loss", "d_steps", "penalty")
        save = keras.saving.serialize_keras_object
        return super().get_config() | {
            name: save(getattr(self, name)) for name in parts
        }

    @classmethod
    def from_config(cls, config):
        read = keras.saving.deserialize_keras_object
        return cls(**{name: read(value) for name, value in config.items()})


def with_labels(x, labels):
    return [x, *labels] if labels else x


def means(logs):
    """Moyenne de chaque mesure, sur les tours qui l'ont donnée."""
    names = {name for found in logs for name in found}
    return {n: float(np.mean([f[n] for f in logs if n in f])) for n in sorted(names)}


def summed_up(history, points):
    """Une partie en quelques points : chaque mesure, moyennée sur autant de morceaux."""
    pieces = np.array_split(np.arange(len(history)), min(len(history), points))
    curves = [means([history[k] for k in piece]) for piece in pieces]
    names = ("d_loss", "g_loss", "d_real", "d_fake")
    return {n: [found[n] for found in curves if n in found] for n in names}


# %% [markdown]
# ## jouer


# %%
def play(gan, x, y=None, steps=STEPS, look=None, every=1):
    """`steps` mises à jour du générateur ; `look(tour)` tous les `every` tours."""
    rng, history = np.random.default_rng(0), []
    for turn in range(1, steps * gan.d_steps + 1):
        rows = rng.integers(len(x), size=BATCH)
        history.append(gan.train_on_batch(x[rows], None if y is None else y[rows]))
        if look and turn % every == 0:
            look(turn)
    return history


def draw(generator, z, *labels, size=250):
    """Ce que dessine le générateur, par paquets : un tableau NumPy."""
    pieces = []
    for start in range(0, len(z), size):
        part = slice(start, start + size)
        inputs = with_labels(
            ops.convert_to_tensor(z[part]),
            [ops.convert_to_tensor(label[part], "int32") for label in labels],
        )
        pieces.append(ops.convert_to_numpy(generator(inputs, training=False)))
    return np.concatenate(pieces)


def as_text(images):
    """Images de −1 à 1 -> texte court, pour les résultats enregistrés."""
    levels = np.clip(np.round((images + 1) * 127.5), 0, 255).astype("uint8")
    return {
        "shape": list(levels.shape),
        "bytes": base64.b64encode(zlib.compress(levels.tobytes(), 9)).decode(),
    }


def as_images(text):
    """L'inverse : octets."""
    levels = zlib.decompress(base64.b64decode(text["bytes"]))
    return np.frombuffer(levels, "uint8").reshape(text["shape"])


# %% [markdown]
# ## Mesures


# %%
def classifier_network():
    x = inputs = keras.Input((SIDE, SIDE, 1))
    for filters in (16, 32, 64):
        x = layers.Conv2D(filters, 3, strides=2, padding="same", activation="relu")(x)
    x = layers.Flatten()(x)
    x = layers.Dense(64, activation="relu", name="features")(x)
    return keras.Model(inputs, layers.Dense(10)(x))


CLASSIFIER_EPOCHS = runtime.pick(quick=8, full=6)


@cache
def classifier():
    """Le réseau qui juge : entraîné une fois, sur les vraies images seulement."""
    keras.utils.set_random_seed(0)
    model = classifier_network()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(2e-3), loss)
    model.fit(x_train, y_train, batch_size=128, epochs=CLASSIFIER_EPOCHS, verbose=0)
    features = model.get_layer("features").output
    return keras.Model(model.input, [features, model.output])


def seen_by_judge(images, size=500):
    """Caractéristiques (n, 64) et classe reconnue (n,) de chaque image."""
    parts = [images[k : k + size] for k in range(0, len(images), size)]
    seen = [classifier()(part, training=False) for part in parts]
    features, scores = (
        np.concatenate([np.asarray(ops.convert_to_numpy(s)) for s in part])
        for part in zip(*seen)
    )
    return features, scores.argmax(axis=1)


def frechet_distance(a, b):
    """Distance de Fréchet entre les gaussiennes ajustées à deux nuages (n, d) et (m, d)."""
    shift = a.mean(axis=0) - b.mean(axis=0)
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    eigenvalues = np.linalg.eigvals(np.atleast_2d(cov_a @ cov_b)).real
    cross = np.sqrt(np.clip(eigenvalues, 0, None)).sum()
    return float(shift @ shift + np.trace(cov_a) + np.trace(cov_b) - 2 * cross)


def covered(points, support, k=3):
    """Part des points qui tombent dans une boule du support (rayon : son k-ième voisin)."""
    radii = np.sort(pairwise_distances(support), axis=1)[:, k]
    inside = pairwise_distances(points, support) <= radii
    return float(inside.any(axis=1).mean())


# %%
@cache
def reference():
    """Les vraies images de test, vues par le juge."""
    return seen_by_judge(x_test[:SAMPLES])[0]


def judged(images, labels=None):
    """Fréchet, précision, rappel, classes ; exactitude quand une classe était demandée."""
    features, classes = seen_by_judge(images)
    few = slice(min(len(images), 2_000))
    found = {
        "fid": frechet_distance(features, reference()),
        "precision": covered(features[few], reference()[few]),
        "recall": covered(reference()[few], features[few]),
        "classes": np.bincount(classes, minlength=10) / len(classes),
    }
    if labels is not None:
        found["asked"] = float(np.mean(classes == labels))
    return found


# %% [markdown]
# ## DCGAN

# %%
NORMAL = keras.initializers.RandomNormal(0.0, 0.02)


def sides(side):
    """Multiples du nombre de filtres, du plus petit côté au plus grand : 32 -> [4, 2, 1]."""
    count = int(np.log2(side // 4))
    if side != 4 * 2**count:
        raise ValueError(f"Côté de {side} pixels : choisissez 16, 32, 64 ou 128.")
    return [2**k for k in reversed(range(count))]


class Rules(NamedTuple):
    """Les cinq règles de DCGAN, chacune débrayable."""

    strided: bool = True  # des pas, et ni sous-échantillonnage ni agrandissement
    batch_norm: bool = True
    no_dense: bool = True  # pas de couche dense cachée
    relu: bool = True  # ReLU dans le générateur ; sinon tanh partout
    leaky: bool = True  # LeakyReLU dans le discriminateur ; sinon ReLU


ALL_RULES = Rules()


def convolution(filters, transposed=False, **options):
    kind = layers.Conv2DTranspose if transposed else layers.Conv2D
    return kind(filters, 4, padding="same", kernel_initializer=NORMAL, **options)


def g_unit(x, rules, last=False):
    if rules.batch_norm and not last:
        x = layers.BatchNormalization(momentum=0.9)(x)
    return layers.Activation("relu" if rules.relu and not last else "tanh")(x)


def dcgan_generator(
    side=SIDE, filters=FILTERS, channels=1, latent=LATENT, classes=0, rules=ALL_RULES
):
    multiples = sides(side)
    x = z = keras.Input((latent,), name="noise")
    inputs = [z]
    if classes:
        label = keras.Input((), dtype="int32", name="label")
        inputs.append(label)
        x = layers.Concatenate()([x, layers.Embedding(classes, latent)(label)])
    if not rules.no_dense:
        x = layers.Dense(256, activation="relu")(x)
    bias = not rules.batch_norm
    top = 4 * 4 * filters * multiples[0]
    x = layers.Dense(top, use_bias=bias, kernel_initializer=NORMAL)(x)
    x = layers.Reshape((4, 4, filters * multiples[0]))(x)
    x = g_unit(x, rules)
    for width in [filters * m for m in multiples[1:]] + [channels]:
        last = width == channels
        if rules.strided:
            x = convolution(width, True, strides=2, use_bias=bias and not last)(x)
        else:
            x = layers.UpSampling2D()(x)
            x = convolution(width, use_bias=bias and not last)(x)
        x = g_unit(x, rules, last)
    return keras.Model(inputs if classes else z, x, name="generator")


def dcgan_discriminator(
    side=SIDE,
    filters=FILTERS,
    channels=1,
    classes=0,
    rules=ALL_RULES,
    constraint=None,
    noise=0.0,
):
    x = image = keras.Input((side, side, channels), name="image")
    inputs = [image]
    if classes:
        label = keras.Input((), dtype="int32", name="label")
        inputs.append(label)
        plane = layers.Embedding(classes, side * side)(label)
        plane = layers.Reshape((side, side, 1))(plane)
        x = layers.Concatenate()([x, plane])
    x = layers.GaussianNoise(noise)(x) if noise else x
    for k, multiple in enumerate(reversed(sides(side))):
        normal = rules.batch_norm and k > 0
        options = {"use_bias": not rules.batch_norm, "kernel_constraint": constraint}
        x = convolution(
            filters * multiple, strides=2 if rules.strided else 1, **options
        )(x)
        x = layers.BatchNormalization(momentum=0.9)(x) if normal else x
        x = layers.LeakyReLU(negative_slope=0.2 if rules.leaky else 0.0)(x)
        x = x if rules.strided else layers.MaxPooling2D()(x)
    x = layers.Flatten()(x)
    if not rules.no_dense:
        x = layers.LeakyReLU(negative_slope=0.2)(layers.Dense(256)(x))
    score = layers.Dense(
        1, use_bias=False, kernel_initializer=NORMAL, kernel_constraint=constraint
    )(x)
    return keras.Model(inputs if classes else image, score, name="discriminator")


def adam(rate, beta_1=0.5):
    return keras.optimizers.Adam(rate, beta_1=beta_1)


# %% [markdown]
# ## document 64 px


# %%
def build_generator():
    """Le générateur du document."""
    x = z = keras.Input((100,))
    x = layers.Dense(128 * 8 * 8, activation="relu")(x)
    x = layers.Reshape((8, 8, 128))(x)
    x = layers.Conv2DTranspose(128, 5, strides=2, padding="same")(x)
    x = layers.LeakyReLU(negative_slope=0.2)(x)
    x = layers.Conv2DTranspose(64, 5, strides=2, padding="same")(x)
    x = layers.LeakyReLU(negative_slope=0.2)(x)
    x = layers.Conv2DTranspose(1, 5, strides=2, padding="same", activation="tanh")(x)
    return keras.Model(z, x, name="generator")


def build_discriminator():
    """Le discriminateur du document."""
    x = image = keras.Input((64, 64, 1))
    x = layers.Conv2D(64, 5, strides=2, padding="same")(x)
    x = layers.LeakyReLU(negative_slope=0.2)(x)
    x = layers.Dropout(0.3)(x)
    x = layers.Conv2D(128, 5, strides=2, padding="same")(x)
    x = layers.LeakyReLU(negative_slope=0.2)(x)
    x = layers.Dropout(0.3)(x)
    x = layers.Flatten()(x)
    x = layers.Dense(1, activation="sigmoid")(x)
    return keras.Model(image, x, name="discriminator")


# %%
DOCUMENT_STEPS = runtime.pick(quick=1, full=6_000, cpu=600)
DOCUMENT_IMAGES = runtime.pick(quick=32, full=20_000)
LOOKS = runtime.pick(quick=1, full=6)  # regards portés pendant un entraînement


def doubled(images):
    """Images deux fois plus grandes, lissées : 32 -> 64 pixels."""
    return ops.convert_to_numpy(ops.image.resize(images, (64, 64), "bilinear"))


def halved(images):
    return images.reshape(len(images), SIDE, 2, SIDE, 2, 1).mean(axis=(2, 4))


def watched(gan, x, steps, shown=25, shrink=lambda images: images):
    """Joue une partie en regardant toujours les mêmes bruits ; la juge en chemin."""
    z = np.random.default_rng(1).standard_normal(
        (SAMPLES, gan.noise(1).shape[1]), "float32"
    )
    grids, distances = [draw(gan.generator, z[:shown])], []

    def look(turn):
        images = draw(gan.generator, z)
        grids.append(images[:shown])
        distances.append(judged(shrink(images))["fid"])

    history = play(gan, x, steps=steps, look=look, every=max(1, steps // LOOKS))
    final = judged(shrink(draw(gan.generator, z)))
    return final | {
        "curves": summed_up(history, 60),
        "distances": distances,
        "grids": as_text(np.stack(grids)),
    }


# %%
def document_run():
    """Le réseau du document, avec ses réglages puis ceux de DCGAN ; et un DCGAN."""
    classifier()
    x = doubled(x_train[:DOCUMENT_IMAGES])
    found = {}
    for name, rate, beta_1 in (("document", 1e-3, 0.9), ("réglé", 2e-4, 0.5)):
        keras.utils.set_random_seed(0)
        gan = GAN(build_generator(), build_discriminator())
        gan.compile(adam(rate, beta_1), adam(rate, beta_1), run_eagerly=EAGER)
        found[name] = watched(gan, x, DOCUMENT_STEPS, shrink=halved)
    keras.utils.set_random_seed(0)
    gan = GAN(dcgan_generator(64), dcgan_discriminator(64))
    gan.compile(run_eagerly=EAGER)
    found["DCGAN"] = watched(gan, x, DOCUMENT_STEPS, shrink=halved)
    return found


document = experiment("document", document_run)

# %%
LONG_STEPS = runtime.pick(quick=150, full=12_000, cpu=6_000)
LONG_FILTERS = runtime.pick(quick=8, full=64, cpu=32)


def path(gan, n=3, points=8):
    """Des images le long d'un segment entre deux bruits."""
    ends = np.random.default_rng(2).standard_normal((2, n, LATENT), "float32")
    at = np.linspace(0, 1, points, dtype="float32")[None, :, None]
    z = (1 - at) * ends[0][:, None] + at * ends[1][:, None]
    return draw(gan.generator, z.reshape(-1, LATENT))


def nearest(images, others):
    """Rang et distance, pixel à pixel, de l'image la plus proche parmi d'autres."""
    flat = [group.reshape(len(group), -1) for group in (images, others)]
    distances = pairwise_distances(*flat)
    return distances.argmin(axis=1), distances.min(axis=1)


def long_run():
    """DCGAN, le temps qu'il faut ; puis tout ce que l'on veut savoir de lui."""
    classifier()
    keras.utils.set_random_seed(0)
    generator = dcgan_generator(filters=LONG_FILTERS)
    gan = GAN(generator, dcgan_discriminator(filters=LONG_FILTERS))
    gan.compile()
    z = np.random.default_rng(3).standard_normal((SAMPLES, LATENT), "float32")
    before = judged(draw(generator, z))["fid"]
    found = watched(gan, x_train, LONG_STEPS, shown=50)
    images = draw(generator, z)
    few = images[: min(len(images), 200)]
    rows, to_train = nearest(few, x_train)
    _, of_test = nearest(x_test[: len(few)], x_train)
    return found | {
        "before": before,
        "path": as_text(path(gan)),
        "neighbours": as_text(np.stack([few[:8], x_train[rows[:8]]])),
        "to_train": to_train,
        "of_test": of_test,
        "samples": as_text(images[:50]),
        "seen_as": seen_by_judge(images[:50])[1],
    }


long = experiment("long", long_run)

# %%
RULE_NAMES = {
    "strided": "sans pas",
    "batch_norm": "sans normalisation",
    "no_dense": "avec couches denses",
    "relu": "sans ReLU",
    "leaky": "sans LeakyReLU",
}


def rules_run():
    """DCGAN, puis chaque règle retirée, seule ; même budget."""
    classifier()
    z = np.random.default_rng(1).standard_normal((SAMPLES, LATENT), "float32")
    found = {}
    for name in ("", *RULE_NAMES):
        rules = ALL_RULES._replace(**({name: False} if name else {}))
        found[RULE_NAMES.get(name, "DCGAN")] = runs = []
        for seed in SEEDS:
            keras.utils.set_random_seed(seed)
            gan = GAN(dcgan_generator(rules=rules), dcgan_discriminator(rules=rules))
            gan.compile(run_eagerly=EAGER)
            play(gan, x_train)
            runs.append(judged(draw(gan.generator, z)))
    return found


rules_found = experiment("rules", rules_run)


# %%
@keras.saving.register_keras_serializable(package="vision")
def d_smoothed(real, fake):
    """Étiquette 0,9 aux vraies images."""
    return d_cross_entropy(real, fake) + 0.1 * ops.mean(real)


@keras.saving.register_keras_serializable(package="vision")
def d_wasserstein(real, fake):
    return ops.mean(fake) - ops.mean(real)


@keras.saving.register_keras_serializable(package="vision")
def g_wasserstein(fake):
    return -ops.mean(fake)


@keras.saving.register_keras_serializable(package="vision")
class Clip(keras.constraints.Constraint):
    """Ramène chaque poids entre −limit et limit."""

    def __init__(self, limit=0.01):
        self.limit = limit

    def __call__(self, weight):
        return ops.clip(weight, -self.limit, self.limit)

    def get_config(self):
        return {"limit": self.limit}


@keras.saving.register_keras_serializable(package="vision")
class SpectralNorm(keras.constraints.Constraint):
    """Divise un noyau par sa plus grande valeur singulière (méthode de la puissance)."""

    def __init__(self, iterations=10):
        self.iterations = iterations

    def __call__(self, kernel):
        matrix = ops.reshape(kernel, (-1, kernel.shape[-1]))
        start = np.random.default_rng(0).standard_normal(
            (kernel.shape[-1], 1), "float32"
        )
        v = ops.convert_to_tensor(start)
        for _ in range(self.iterations):
            u = ops.matmul(matrix, v)
            u = u / (ops.norm(u) + 1e-12)
            v = ops.matmul(ops.transpose(matrix), u)
            sigma = ops.norm(v)
            v = v / (sigma + 1e-12)
        return kernel / (sigma + 1e-12)

    def get_config(self):
        return {"iterations": self.iterations}


# %% [markdown]
# ## StyleGAN


# %%
@keras.saving.register_keras_serializable(package="vision")
class ModulatedConv2D(layers.Layer):
    """Convolution 3 × 3 dont un style règle chaque canal d'entrée, puis renormalisée."""

    def __init__(self, filters, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters

    def build(self, x_shape, style_shape):
        channels = x_shape[-1]
        self.gains = layers.Dense(channels, bias_initializer="ones", name="gains")
        self.gains.build(style_shape)
        self.kernel = self.add_weight(
            shape=(3, 3, channels, self.filters), initializer="he_normal", name="kernel"
        )
        self.bias = self.add_weight(
            shape=(self.filters,), initializer="zeros", name="bias"
        )

    def call(self, x, style):
        gains = self.gains(style)  # (n, canaux)
        y = ops.conv(x * gains[:, None, None, :], self.kernel, padding="same")
        power = ops.matmul(ops.square(gains), ops.sum(ops.square(self.kernel), (0, 1)))
        return y * ops.rsqrt(power + 1e-8)[:, None, None, :] + self.bias

    def compute_output_shape(self, x_shape, style_shape):
        return (*x_shape[:-1], self.filters)

    def get_config(self):
        return super().get_config() | {"filters": self.filters}


@keras.saving.register_keras_serializable(package="vision")
class PixelNoise(layers.Layer):
    """Ajoute à chaque pixel un bruit dont l'amplitude s'apprend, par canal."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seed = keras.random.SeedGenerator()

    def build(self, shape):
        self.gain = self.add_weight(
            shape=(shape[-1],), initializer="zeros", name="gain"
        )

    def call(self, x, training=False):
        if not training:
            return x
        noise = keras.random.normal((*ops.shape(x)[:-1], 1), seed=self.seed)
        return x + self.gain * noise


@keras.saving.register_keras_serializable(package="vision")
class LearnedConstant(layers.Layer):
    """Le point de départ du dessin : une carte apprise, la même pour toutes les images."""

    def __init__(self, shape, **kwargs):
        super().__init__(**kwargs)
        self.shape_of_one = tuple(shape)

    def build(self, shape):
        self.map = self.add_weight(
            shape=(1, *self.shape_of_one), initializer="random_normal", name="map"
        )

    def call(self, w):
        return ops.repeat(self.map, ops.shape(w)[0], axis=0)

    def compute_output_shape(self, shape):
        return (shape[0], *self.shape_of_one)

    def get_config(self):
        return super().get_config() | {"shape": self.shape_of_one}


# %%
def mapping_network(latent=LATENT, depth=3):
    """z -> w : le bruit, ramené sur une sphère, devient un style."""
    x = z = keras.Input((latent,))
    x = layers.UnitNormalization()(x) * latent**0.5
    for _ in range(depth):
        x = layers.Dense(latent, kernel_initializer="he_normal")(x)
        x = layers.LeakyReLU(negative_slope=0.2)(x)
    return keras.Model(z, x, name="mapping")


def synthesis_network(side=SIDE, filters=FILTERS, channels=1, latent=LATENT):
    """Un style par niveau, du plus grossier au plus fin -> une image."""
    multiples = sides(2 * side)
    styles = keras.Input((len(multiples), latent))
    x = LearnedConstant((4, 4, filters * multiples[0]))(styles)
    for level, multiple in enumerate(multiples):
        x = layers.UpSampling2D(interpolation="bilinear")(x) if level else x
        x = ModulatedConv2D(filters * multiple // 2 or 1)(x, styles[:, level])
        x = PixelNoise()(x)
        x = layers.LeakyReLU(negative_slope=0.2)(x)
    image = layers.Conv2D(channels, 1, activation="tanh")(x)
    return keras.Model(styles, image, name="synthesis")


def style_generator(side=SIDE, filters=FILTERS, channels=1, latent=LATENT):
    synthesis = synthesis_network(side, filters, channels, latent)
    z = keras.Input((latent,), name="noise")
    w = mapping_network(latent)(z)
    styles = layers.RepeatVector(synthesis.input_shape[1])(w)
    return keras.Model(z, synthesis(styles), name="generator")


# %% [markdown]
# ## recettes


# %%
class Recipe(NamedTuple):
    """Ce qui change d'une variante à l'autre ; le reste est commun."""

    losses: tuple = (d_cross_entropy, g_non_saturating)
    network: str = "convolutions"  # ou « dense », « style »
    rates: tuple = (2e-4, 2e-4)  # discriminateur, générateur
    beta_1: float = 0.5
    constraint: Any = None  # sur les noyaux du discriminateur
    batch_norm: bool = True  # dans le discriminateur
    noise: float = 0.0  # ajouté à ce que voit le discriminateur
    penalty: float = 0.0
    d_steps: int = 1
    classes: int = 0


WASSERSTEIN = (d_wasserstein, g_wasserstein)
RECIPES = {
    "perte saturante": Recipe(losses=(d_cross_entropy, g_saturating)),
    "de base": Recipe(),
    "étiquettes lissées": Recipe(losses=(d_smoothed, g_non_saturating)),
    "bruit d'instance": Recipe(noise=0.2),
    "norme spectrale": Recipe(constraint=SpectralNorm(), batch_norm=False),
    "deux vitesses": Recipe(rates=(4e-4, 1e-4)),
    "WGAN": Recipe(
        losses=WASSERSTEIN,
        constraint=Clip(0.05),
        batch_norm=False,
        d_steps=CRITIC_STEPS,
    ),
    "WGAN-GP": Recipe(
        losses=WASSERSTEIN, penalty=10.0, batch_norm=False, d_steps=CRITIC_STEPS
    ),
    "conditionnel": Recipe(classes=10),
}
ON_RING = RECIPES | {"WGAN-GP": RECIPES["WGAN-GP"]._replace(penalty=1.0)}
ON_IMAGES = RECIPES | {
    "à style": Recipe(network="style", rates=(2e-4, 1e-3)),
    "dense": Recipe(network="dense"),
    "générateur pressé": Recipe(rates=(2e-4, 5e-3)),
}


def mlp(inputs, outputs, widths, constraint=None, noise=0.0, classes=0, name=None):
    """Couches denses : pour les points, et le GAN de 2014 sur les images."""
    x = first = keras.Input(inputs)
    entries = [first]
    x = layers.Flatten()(x)
    if classes:
        label = keras.Input((), dtype="int32")
        entries.append(label)
        x = layers.Concatenate()([x, layers.Embedding(classes, 16)(label)])
    x = layers.GaussianNoise(noise)(x) if noise else x
    for width in widths:
        x = layers.Dense(width, kernel_constraint=constraint)(x)
        x = layers.LeakyReLU(negative_slope=0.2)(x)
    x = layers.Dense(int(np.prod(outputs)), kernel_constraint=constraint)(x)
    if len(outputs) == 3:
        x = layers.Activation("tanh")(layers.Reshape(outputs)(x))
    return keras.Model(entries if classes else first, x, name=name)


def image_networks(recipe):
    if recipe.network == "dense":
        shape = (SIDE, SIDE, 1)
        return mlp((LATENT,), shape, (256, 512)), mlp(shape, (1,), (512, 256))
    style = recipe.network == "style"
    generator = style_generator() if style else dcgan_generator(classes=recipe.classes)
    return generator, dcgan_discriminator(
        classes=recipe.classes,
        rules=Rules(batch_norm=recipe.batch_norm),
        constraint=recipe.constraint,
        noise=recipe.noise,
    )


def make_gan(recipe, networks, seed, faster=1):
    keras.utils.set_random_seed(seed)
    gan = GAN(*networks(recipe), *recipe.losses, recipe.d_steps, recipe.penalty)
    optimizers = [adam(faster * rate, recipe.beta_1) for rate in recipe.rates]
    gan.compile(*optimizers, run_eagerly=EAGER)
    return gan


# %% [markdown]
# ### anneau

# %%
MODES = 8
RING_STEPS = runtime.pick(quick=2, full=3_000)
RING_SIGMA = 0.1


def centres():
    angles = 2 * np.pi * np.arange(MODES) / MODES
    return 2 * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def ring(n, seed=0):
    """Points de huit gaussiennes sur un cercle de rayon 2, et leur numéro."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(MODES, size=n)
    points = centres()[labels] + RING_SIGMA * rng.standard_normal((n, 2))
    return points.astype("float32"), labels.astype("int32")


def ring_networks(recipe):
    generator = mlp((LATENT,), (2,), (64, 64), classes=recipe.classes)
    return generator, mlp(
        (2,), (1,), (64, 64), recipe.constraint, recipe.noise, recipe.classes
    )


def reached(points):
    """Modes atteints (1 % des points au moins) et part des points à moins de 4 sigmas."""
    distances = pairwise_distances(points, centres())
    good = distances.min(axis=1) < 4 * RING_SIGMA
    share = np.bincount(distances[good].argmin(axis=1), minlength=MODES) / len(points)
    return {"modes": int((share >= 0.01).sum()), "good": float(good.mean())}


def ring_game(recipe, seed, steps=RING_STEPS):
    """Une partie sur l'anneau : mesures finales, et quatre nuages pris en chemin."""
    gan = make_gan(recipe, ring_networks, seed, faster=5)
    x, y = ring(20_000)
    labels = y if recipe.classes else None
    z = np.random.default_rng(1).standard_normal((2_000, LATENT), "float32")
    asked = (np.arange(2_000, dtype="int32") % MODES,) if recipe.classes else ()
    clouds = []

    def look(turn):
        clouds.append(draw(gan.generator, z, *asked, size=2_000))

    history = play(gan, x, labels, steps, look, max(1, steps * gan.d_steps // 12))
    return {
        **reached(clouds[-1]),
        "frechet": frechet_distance(clouds[-1], ring(10_000, seed=5)[0]),
        "modes_path": [reached(cloud)["modes"] for cloud in clouds],
        "drift": [float(np.abs(a - b).mean()) for a, b in zip(clouds, clouds[1:])],
        "d_loss": summed_up(history, 50)["d_loss"],
        "clouds": [np.round(cloud[:300], 2) for cloud in clouds[-3:]],
    }


def ring_run():
    return {
        name: [ring_game(recipe, seed) for seed in SEEDS]
        for name, recipe in ON_RING.items()
    }


on_ring = experiment("ring", ring_run)

# %%
RATES = (1e-5, 2e-4, 4e-3)
BETAS = (0.0, 0.5, 0.9)


def sensitivity_run():
    """Succès : six modes au moins, neuf points sur dix bien placés."""
    found = []
    for rate in RATES:
        for beta_1 in BETAS:
            recipe = Recipe(rates=(rate, rate), beta_1=beta_1)
            games = [ring_game(recipe, seed) for seed in SEEDS]
            kept = ("modes", "good", "frechet")
            games = [{key: game[key] for key in kept} for game in games]
            found.append({"rate": rate, "beta_1": beta_1, "games": games})
    return {"cells": found}


sensitivity = experiment("sensitivity", sensitivity_run)


# %%
def image_game(recipe, seed):
    gan = make_gan(recipe, image_networks, seed)
    play(gan, x_train, y_train if recipe.classes else None)
    z = np.random.default_rng(1).standard_normal((SAMPLES, LATENT), "float32")
    asked = (np.arange(SAMPLES, dtype="int32") % 10,) if recipe.classes else ()
    images = draw(gan.generator, z, *asked)
    return judged(images, *asked), images[:20]


def images_run():
    classifier()
    found = {}
    for name, recipe in ON_IMAGES.items():
        games = [image_game(recipe, seed) for seed in SEEDS]
        found[name] = {
            "games": [measures for measures, _ in games],
            "images": as_text(games[0][1]),
        }
    return found


on_images = experiment("images", images_run)


# %%
def followed(recipe):
    """Perte du discriminateur et distance de Fréchet, dix fois en chemin."""
    classifier()
    z = np.random.default_rng(1).standard_normal((SAMPLES, LATENT), "float32")
    gan, distances = make_gan(recipe, image_networks, seed=0), []

    def look(turn):
        distances.append(judged(draw(gan.generator, z))["fid"])

    every = max(1, STEPS * gan.d_steps // 10)
    history = play(gan, x_train, look=look, every=every)
    return {"loss": summed_up(history, 10)["d_loss"], "fid": distances}


def critic_run():
    """WGAN-GP et GAN de base : la perte suit-elle la qualité ?"""
    return {name: followed(RECIPES[name]) for name in ("de base", "WGAN-GP")}


critic = experiment("critic", critic_run)


# %%
def bias_run():
    """Le juge ; et la distance entre deux tirages de vraies images, selon leur nombre."""
    features, classes = seen_by_judge(x_test)
    sizes = [
        n for n in (50, 100, 200, 500, 1_000, 2_000, 5_000) if 2 * n <= len(x_test)
    ]
    rng = np.random.default_rng(0)

    def between_halves(n):
        rows = rng.permutation(len(features))[: 2 * n]
        return frechet_distance(features[rows[:n]], features[rows[n:]])

    noise = rng.uniform(-1, 1, x_test[:SAMPLES].shape).astype("float32")
    return {
        "accuracy": float(np.mean(classes == y_test)),
        "sizes": sizes,
        "distances": [[between_halves(n) for _ in range(5)] for n in sizes],
        "train": judged(x_train[:SAMPLES]),
        "noise": judged(noise),
    }


bias = experiment("bias", bias_run)

# %%
STYLE_STEPS = runtime.pick(quick=1, full=6_000, cpu=1_500)
PSIS = (0.3, 0.5, 0.7, 1.0, 1.3)


def styles_of(generator, z):
    """Les styles w de plusieurs bruits."""
    return ops.convert_to_numpy(generator.get_layer("mapping")(z))


def from_styles(generator, styles):
    return draw(generator.get_layer("synthesis"), styles)


def truncated(generator, z, psi):
    """Rapproche chaque style du style moyen."""
    w = styles_of(generator, z)
    w = w.mean(axis=0) + psi * (w - w.mean(axis=0))
    levels = generator.get_layer("synthesis").input_shape[1]
    return from_styles(generator, np.repeat(w[:, None], levels, axis=1))


def truncation_run():
    """Un StyleGAN réduit sur les vêtements : ce que coûte et rapporte la troncature."""
    classifier()
    gan = make_gan(ON_IMAGES["à style"], image_networks, seed=0)
    play(gan, x_train, steps=STYLE_STEPS)
    z = np.random.default_rng(1).standard_normal((SAMPLES, LATENT), "float32")
    found = {str(psi): judged(truncated(gan.generator, z, psi)) for psi in PSIS}
    images = [truncated(gan.generator, z, psi)[:8] for psi in PSIS]
    return {"psi": found, "images": as_text(np.stack(images))}


truncation = experiment("truncation", truncation_run)

# %%
FACES = runtime.pick(quick=64, full=20_000, cpu=3_000)
FACE_STEPS = runtime.pick(quick=1, full=8_000, cpu=2_000)


def mixed(generator, w_a, w_b, levels):
    """Les styles de A, sauf à certains niveaux, où ce sont ceux de B."""
    count = generator.get_layer("synthesis").input_shape[1]
    styles = np.repeat(w_a[:, None], count, axis=1)
    styles[:, levels] = w_b[:, None]
    return from_styles(generator, styles)


def changes(before, after):
    """Ce qui a changé : la teinte moyenne, et le dessin (gris, à teinte égale)."""
    tint = np.abs(after.mean(axis=(1, 2)) - before.mean(axis=(1, 2))).mean()
    grey = [images.mean(axis=3) for images in (before, after)]
    shape = [g - g.mean(axis=(1, 2), keepdims=True) for g in grey]
    return float(tint), float(np.abs(shape[1] - shape[0]).mean())


def faces_run():
    """Le même réseau, en couleurs, sur des visages dessinés."""
    x = synthetic.faces(FACES, size=SIDE).images.astype("float32") / 127.5 - 1
    keras.utils.set_random_seed(0)
    generator = style_generator(filters=2 * FILTERS, channels=3)
    gan = GAN(generator, dcgan_discriminator(filters=2 * FILTERS, channels=3))
    gan.compile(adam(2e-4), adam(1e-3), run_eagerly=EAGER)
    play(gan, x, steps=FACE_STEPS)
    z = np.random.default_rng(1).standard_normal((400, LATENT), "float32")
    w = styles_of(generator, z)
    count = generator.get_layer("synthesis").input_shape[1]
    plain = mixed(generator, w[:200], w[:200], [0])
    swaps = [mixed(generator, w[:200], w[200:], [level]) for level in range(count)]
    mixes = [
        mixed(generator, w[:6], w[k : k + 1], range(count // 2))
        for k in (200, 201, 202)
    ]
    fine = [
        mixed(generator, w[:6], w[k : k + 1], range(count // 2, count))
        for k in (200, 201, 202)
    ]
    return {
        "real": as_text(x[:12]),
        "samples": as_text(plain[:24]),
        "changes": [changes(plain, swap) for swap in swaps],
        "coarse": as_text(np.stack(mixes)),
        "fine": as_text(np.stack(fine)),
        "sources": as_text(
            from_styles(generator, np.repeat(w[200:203, None], count, axis=1))
        ),
        "psi": as_text(np.stack([truncated(generator, z, psi)[:6] for psi in PSIS])),
    }


faces = experiment("faces", faces_run)
