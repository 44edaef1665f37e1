# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Les réseaux antagonistes génératifs
#
# > **Objectifs.** À la fin de ce chapitre, vous saurez :
# > - écrire le jeu des deux réseaux, et dire ce que vaut le meilleur discriminateur ;
# > - entraîner les deux tour à tour, et **vérifier** qu'à chaque tour un seul apprend ;
# > - reconnaître une oscillation, un effondrement des modes, un réglage chanceux ;
# > - mesurer un générateur : distance de Fréchet, précision, rappel, plus proches voisins ;
# > - écrire et comparer DCGAN, WGAN, WGAN-GP, un GAN conditionnel et les idées de StyleGAN.
#
# | | |
# |:--|:--|
# | **Prérequis** | l'apprentissage : [chapitre 2](02_layers_and_training.ipynb) |
# | | la normalisation par lots : [chapitre 3](03_architectures.ipynb) |
# | | la convolution transposée : [chapitre 5](05_unet.ipynb) |
# | **Document étudié** | 000, « GAN » |
# | **Données** | Fashion-MNIST ; hors ligne, des chiffres manuscrits ; visages dessinés |
# | **Durée** | une heure et demie de lecture, autant d'exercices ; exécution rapide : une minute |
#
# Le document donne la formule du jeu, deux réseaux et neuf lignes pour les relier. Il s'arrête au
# moment d'entraîner : ni images, ni boucle. Nous irons jusqu'au bout ; avec Keras 3, nous verrons
# que son discriminateur n'apprend **rien**, sans aucune erreur.
#
# Quatre parties :
#
# 1. le jeu, en dimension un, où tout se calcule ;
# 2. les deux réseaux du document, celui qui n'apprend pas, et une boucle juste ;
# 3. mesurer un générateur, puis entraîner : le réseau du document, et un DCGAN ;
# 4. ce qui se dérègle, les variantes, des visages dessinés.
#
# À la première lecture, passez « Les idées de StyleGAN », « Régler le style », « Des visages
# réglés » et « Robustesse ».

# %% cellView="form" tags=["setup", "hide-input"]
# @title Préparation : trouve le dépôt du cours (ou le copie dans Colab)
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = "https://github.com/vision-profonde/cours"

if "COLAB_RELEASE_TAG" in os.environ:
    root = Path("/content/cours")
    if not root.exists():
        copy = subprocess.run(
            ["git", "clone", "--quiet", "--depth", "1", REPOSITORY, str(root)]
        )
        if copy.returncode:
            raise SystemExit(
                "Copie du cours impossible : vérifiez la connexion, puis relancez."
            )
    needed = ("nbclient", "nbformat", "pooch", "skimage", "sklearn", "yaml")
    missing = [name for name in needed if not importlib.util.find_spec(name)]
    if missing:
        subprocess.run(
            [sys.executable, "-m", "pip", "install", "--quiet", *missing], check=True
        )
else:
    folders = [Path.cwd(), *Path.cwd().parents]
    root = next(
        (path for path in folders if (path / "utils" / "runtime.py").exists()), None
    )
    if root is None:
        raise SystemExit(
            f"Ouvrez ce notebook dans une copie du cours : git clone {REPOSITORY}"
        )
sys.path.insert(0, str(root))
_ = importlib.import_module("utils.runtime")  # avant Keras : fait taire ses messages

# %%
import base64
import linecache
import logging
import warnings
import zlib
from contextlib import contextmanager
from functools import cache
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import layers, ops
from scipy.special import rel_entr
from scipy.stats import norm, spearmanr, wasserstein_distance
from sklearn.metrics import pairwise_distances

from utils import datasets, figures, runtime, synthetic
from utils.autodiff import (
    compiled,
    input_gradients,
    loss_and_gradients,
    value_and_grad,
)
from utils.execute import experiment
from utils.exercises import Exercise, predict
from utils.figures import COLOURS, number, percent, spread
from utils.verdicts import summary, verdict

logging.getLogger("tensorflow").setLevel(
    logging.ERROR
)  # il compte nos réseaux jetables


# %% [markdown]
# Les tailles communes sont choisies ici ; celles d'une expérience, juste avant elle. L'exécution
# affichée vient d'un processeur : les réseaux comparés y ont seize filtres de base au lieu de
# soixante-quatre, et leurs parties sont plus courtes.

# %%
runtime.start("07_gan", eager=False)  # en rapide aussi, des milliers de petits appels
SIDE = 32  # côté des images ; 64 pour le réseau du document
LATENT = 64  # taille du bruit de nos réseaux
SEEDS = runtime.pick(quick=(0,), full=(0, 1, 2))
BATCH = runtime.pick(quick=16, full=64)
FILTERS = runtime.pick(quick=8, full=64, cpu=16)
STEPS = runtime.pick(quick=1, full=2_000, cpu=500)  # mises à jour du générateur
CRITIC_STEPS = runtime.pick(
    quick=1, full=5, cpu=3
)  # mises à jour du critique pour une de G
SAMPLES = runtime.pick(quick=100, full=10_000, cpu=2_000)  # images jugées
EAGER = runtime.pick(quick=True, full=False)  # compiler coûte plus que quelques tours

garments = datasets.garments()
runtime.banner(garments)

# %% [markdown]
# Les images sont bordées de noir, jusqu'à 32 pixels de côté, et mises à l'échelle de −1 à 1.


# %%
def framed(images):
    """Octets (n, 28, 28) -> réels de −1 à 1, (n, 32, 32, 1), bordés de noir."""
    wide = np.pad(images, ((0, 0), (2, 2), (2, 2)))[..., None]
    return wide.astype("float32") / 127.5 - 1


x_train, y_train = framed(garments.x_train), garments.y_train
x_test, y_test = framed(garments.x_test), garments.y_test
class_names = garments.class_names

# %% [markdown]
# ## Le jeu
#
# Un ***réseau antagoniste génératif*** (*generative adversarial network*, GAN) réunit deux réseaux.
# Le ***générateur*** $G$ reçoit un vecteur tiré au hasard, le ***bruit latent*** $z$, et dessine
# une image $G(z)$. Le ***discriminateur*** $D$ reçoit une image, vraie ou dessinée, et donne la
# probabilité qu'elle soit vraie. Un faussaire et un expert : l'expert apprend à reconnaître les
# faux, le faussaire apprend ce qui trompe l'expert.
#
# ### La formule
#
# Le document écrit, comme l'article de Goodfellow et ses collègues (2014) :
#
# $$\min_G \max_D V(D, G)$$
#
# $$V(D, G) = \mathbb{E}_{x \sim p_{\text{data}}}[\log D(x)] + \ldots$$
#
# $$\ldots + \mathbb{E}_{z \sim p_z}[\log(1 - D(G(z)))]$$
#
# où $p_{\text{data}}$ est la distribution des vraies images, $\mathbb{E}$ une moyenne, et où $z$
# suit une loi fixée d'avance : la nôtre est la loi normale centrée réduite. Prenons-la d'abord là
# où tout se calcule : en dimension un. Les « vraies images » sont des nombres de densité $p$,
# celles du générateur ont la densité $q$. La valeur du jeu est une intégrale :
#
# $$V = \int \big(p \log D + q \log(1 - D)\big) \, dx$$

# %%
AXIS = np.linspace(-10, 10, 4_001)
p = 0.4 * norm.pdf(AXIS, -1.5, 0.5) + 0.6 * norm.pdf(AXIS, 1.0, 0.8)  # les vraies
q = norm.pdf(AXIS, 0.5, 1.2)  # celles du générateur


def integral(values):
    return float(np.trapezoid(values, AXIS))


def game_value(d):
    """V(D, G) pour un discriminateur donné par ses valeurs sur l'axe."""
    return integral(p * np.log(d) + q * np.log(1 - d))


# %% [markdown]
# ### Le meilleur discriminateur
#
# À chaque $x$, $D(x)$ se choisit seul : il maximise $p \log D + q \log(1 - D)$, dont la dérivée
# $p/D - q/(1 - D)$ s'annule en un seul point, un maximum puisque la fonction est concave :
#
# $$D^*(x) = \frac{p(x)}{p(x) + q(x)}$$
#
# Mettons cette valeur dans $V$. Il reste une quantité qui ne dépend que des deux densités, la
# ***divergence de Jensen-Shannon***, à une constante près :
#
# $$V(D^*, G) = -\log 4 + 2\,\text{JS}(p, q)$$
#
# $$\text{JS} = \tfrac12 \text{KL}(p \Vert m) + \tfrac12 \text{KL}(q \Vert m)$$
#
# où $m = (p + q)/2$, et où $\text{KL}(p \Vert m) = \int p \log(p/m)$ est la divergence de
# Kullback-Leibler.
#
# La divergence de Jensen-Shannon est nulle si et seulement si $p = q$, et vaut au plus $\log 2$.
# Face au meilleur expert, le faussaire minimise donc un écart entre les deux distributions : c'est
# ce qui donne un sens au jeu. Calculons les deux membres séparément, puis essayons mille voisins de
# $D^*$.


# %%
def jensen_shannon(p, q):
    m = (p + q) / 2
    return integral(rel_entr(p, m) + rel_entr(q, m)) / 2


def random_discriminators(n, rng):
    """D* dérangé par des sinus tirés au hasard."""
    waves, phases = rng.normal(0, 2, (2, n, 3, 1))
    heights = rng.normal(0, 0.3, (n, 3, 1))
    moved = np.log(p / q) + (heights * np.sin(waves * AXIS + phases)).sum(axis=1)
    return 1 / (1 + np.exp(-moved))


optimal = p / (p + q)
others = random_discriminators(1_000, np.random.default_rng(0))
best_other = max(game_value(np.clip(d, 1e-9, 1 - 1e-9)) for d in others)
from_divergence = -np.log(4) + 2 * jensen_shannon(p, q)
print(f"V(D*) = {number(game_value(optimal), 6)}")
print(f"−log 4 + 2 JS = {number(from_divergence, 6)}")
print(f"le meilleur de mille voisins : {number(best_other, 6)}")
same = abs(game_value(optimal) - from_divergence) < 1e-6
verdict("gan-value", same and game_value(optimal) > best_other)

# %% [markdown]
# Un vrai réseau trouve-t-il cette formule, à partir d'échantillons seulement ? Entraînons-en un,
# tout petit, à séparer quatre mille nombres de chaque sorte.


# %%
def samples_of_both(n, rng):
    """n nombres tirés de p, puis n tirés de q ; étiquettes 1 et 0."""
    left = rng.random(n) < 0.4
    true = np.where(left, rng.normal(-1.5, 0.5, n), rng.normal(1.0, 0.8, n))
    x = np.concatenate([true, rng.normal(0.5, 1.2, n)])[:, None]
    return x.astype("float32"), np.repeat([1.0, 0.0], n)


x_both, is_true = samples_of_both(4_000, np.random.default_rng(0))
keras.utils.set_random_seed(0)
expert = keras.Sequential(
    [
        keras.Input((1,)),
        layers.Dense(32, activation="tanh"),
        layers.Dense(32, activation="tanh"),
        layers.Dense(1, activation="sigmoid"),
    ]
)
expert.compile(keras.optimizers.Adam(1e-2), "binary_crossentropy")
for _ in range(300):
    expert.train_on_batch(x_both, is_true)
learned = expert.predict(AXIS[:, None].astype("float32"), verbose=0)[:, 0]

# %%
fig, ax = plt.subplots()
ax.fill_between(AXIS, p, color=COLOURS[0], alpha=0.25, lw=0)
ax.plot(AXIS, p, color=COLOURS[0], label="p : les vraies")
ax.plot(AXIS, q, "--", color=COLOURS[1], label="q : le générateur")
ax.plot(AXIS, optimal, "-.", color=COLOURS[2], label="D* = p / (p + q)")
ax.plot(AXIS, learned, ":", color="black", label="D appris")
ax.set(xlabel="x", ylabel="densité, ou D(x)", xlim=(-4, 4))
ax.legend(fontsize=11, loc="upper left", ncols=2)
ax.set_ylim(0, 1.35)
seen = p + q > 0.02
gap = float(np.abs(learned - optimal)[seen].mean())
figures.show(
    fig,
    alt="Deux densités : la vraie a deux bosses, celle du générateur une seule. La courbe de D* "
    "passe au-dessus d'un demi où la vraie domine, au-dessous ailleurs ; celle du réseau la suit, "
    f"à {number(gap, 3)} près en moyenne là où il y a des données.",
)

# %% [markdown]
# Le réseau a retrouvé la formule sans connaître les densités. Ce $D(x)$ est-il, comme le dit le
# document, une probabilité ? Alors, si les vrais et les faux sont en nombre égal, sept sur dix des
# nombres auxquels il donne 0,7 sont vrais. Essayons sur des nombres neufs.

# %%
x_new, is_true_new = samples_of_both(20_000, np.random.default_rng(1))
given = expert.predict(x_new, batch_size=4_000, verbose=0)[:, 0]
tenths = np.clip((10 * given).astype(int), 0, 9)
kept = [k for k in range(10) if np.sum(tenths == k) > 200]
mean_given, share_true = (
    np.array([values[tenths == k].mean() for k in kept])
    for values in (given, is_true_new)
)
runtime.show_table(
    ["D(x)", "moyenne", "part de vrais"],
    [
        (f"{number(k / 10, 1)} à {number((k + 1) / 10, 1)}", number(a), number(b))
        for k, a, b in zip(kept, mean_given, share_true)
    ],
)
calibration_gap = np.abs(mean_given - share_true).mean()
verdict("gan-probability", float(calibration_gap))

# %% [markdown]
# ### Qui maximise quoi ?
#
# Une phrase du document dit : « L'objectif d'entraînement du GAN est donc de **minimiser l'erreur
# du générateur tout en maximisant celle du discriminateur** ». La formule dit autre chose. $V$ est
# l'opposé de deux fois l'entropie croisée du discriminateur ; en maximisant $V$, $D$ **minimise**
# son erreur. C'est $G$ qui voudrait la voir grande.

# %%
d_error_at_best = -game_value(optimal) / 2
d_error_at_half = -game_value(np.full_like(AXIS, 0.5)) / 2
errors = [number(value, 4) for value in (d_error_at_best, d_error_at_half)]
print(f"erreur de D* : {errors[0]}\nerreur de D = 1/2 : {errors[1]}")
verdict("gan-d-objective", d_error_at_best > d_error_at_half)

# %% [markdown]
# ### Deux pertes pour le générateur
#
# La formule demande à $G$ de minimiser $\log(1 - D(G(z)))$. Le code du document prépare une autre
# perte : il compile `gan` avec l'entropie croisée. Pour tromper $D$ ainsi, on présente les fausses
# images avec l'étiquette 1, et l'on minimise $-\log D(G(z))$. Le but est le même, mais pas la
# pente.
#
# Nous écrirons toutes les pertes sur le **score** $s$ du discriminateur, avant sa sigmoïde
# $\sigma$. Avec $\text{softplus}(s) = \log(1 + e^s)$, on a
# $-\log \sigma(s) = \text{softplus}(-s)$, et jamais le logarithme de zéro.


# %%
@keras.saving.register_keras_serializable(package="vision")
def d_cross_entropy(real, fake):
    """−V : entropies croisées ajoutées, étiquette 1 aux vraies images, 0 aux fausses."""
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
# Au début d'une partie, l'expert gagne : il donne aux faux une probabilité de 0,01, par exemple.
# Quelle pente le générateur reçoit-il, selon la perte ?

# %%
bad = np.log(0.01 / 0.99)  # score d'un faux reconnu : D(G(z)) = 0,01
slopes = {
    name: float(value_and_grad(loss, np.array([bad], "float32"))[1][0])
    for name, loss in (("formule", g_saturating), ("code", g_non_saturating))
}
print(" ; ".join(f"{name} : {number(slope, 2)}" for name, slope in slopes.items()))
scores = np.linspace(-6, 6, 121)
sigmoid = 1 / (1 + np.exp(-scores))
fig = figures.curves(
    {"formule : log(1 − D)": sigmoid, "code : −log D": 1 - sigmoid},
    xlabel="score d'une fausse image",
    ylabel="pente, en valeur absolue",
    x=scores,
)
figures.show(
    fig,
    alt="Pente reçue par le générateur selon le score d'une fausse image. Pour la formule elle "
    "part de zéro et monte ; pour le code elle part de 1 et descend. Quand D vaut 0,01 : "
    f"{number(abs(slopes['formule']))} et {number(abs(slopes['code']))}.",
)

# %% [markdown]
# À gauche, là où le générateur est mauvais et devrait apprendre le plus, la perte de la formule est
# plate : on dit qu'elle **sature**. Celle du code pousse cent fois plus fort. C'est la perte *non
# saturante*, la plus courante ; les auteurs de la formule la recommandaient déjà.
#
# Conséquence : « un jeu à somme nulle », dit le document. C'est vrai de la formule : ce que $D$
# gagne, $G$ le perd. Ce n'est plus vrai du code. Ajoutons les deux pertes, à deux moments d'une
# partie.


# %%
def total(g_loss, on_real, on_fake):
    """Pertes de D et de G ajoutées ; G reçoit aussi la part de V qu'il ne change pas."""
    constant_for_g = -ops.mean(ops.softplus(-on_real))
    return float(d_cross_entropy(on_real, on_fake) + constant_for_g + g_loss(on_fake))


on_real = np.array([2.0, 1.0], "float32")
moments = [np.array(scores, "float32") for scores in ([-1.0, 0.5], [2.0, 3.0])]
sums = {
    name: [total(loss, on_real, on_fake) for on_fake in moments]
    for name, loss in (("formule", g_saturating), ("code", g_non_saturating))
}
runtime.show_table(
    ["perte de G", "premier moment", "second moment"],
    [(name, *(number(value, 3) for value in totals)) for name, totals in sums.items()],
)
verdict("gan-zero-sum", float(np.ptp(sums["code"])) < 1e-5)

# %% [markdown]
# ### Quand les deux distributions ne se touchent pas
#
# La formule a un autre défaut. Éloignons deux gaussiennes l'une de l'autre, et comparons la
# divergence de Jensen-Shannon à la ***distance de Wasserstein***, qui dit de combien il
# faut, en moyenne, déplacer la masse de l'une pour obtenir l'autre.

# %%
distances = np.linspace(0, 3, 31)
pairs = [(norm.pdf(AXIS, 0, 0.25), norm.pdf(AXIS, d, 0.25)) for d in distances]
divergences = [jensen_shannon(a, b) for a, b in pairs]
transport = [wasserstein_distance(AXIS, AXIS, a, b) for a, b in pairs]
fig = figures.curves(
    {"Jensen-Shannon": divergences, "Wasserstein": transport},
    xlabel="distance entre les deux moyennes",
    ylabel="écart",
    x=distances,
    levels={"log 2": float(np.log(2))},
)
figures.show(
    fig,
    alt="La divergence de Jensen-Shannon monte puis reste plate à log 2 dès que les moyennes sont "
    f"distantes de 2 : {number(divergences[20], 3)} à 2, {number(divergences[-1], 3)} à 3. La "
    "distance de Wasserstein croît en ligne droite.",
)

# %% [markdown]
# Dès que les deux bosses sont séparées, la divergence ne change presque plus : elle les dit
# différentes, sans dire de combien. Un générateur qui minimise la **formule** n'apprend alors
# presque rien d'un discriminateur parfait. La distance de Wasserstein, elle, croît régulièrement :
# c'est l'idée de WGAN, plus bas.

# %% [markdown]
# ## Les deux réseaux du document
#
# Les voici, écrits avec l'API fonctionnelle. Les tailles sont celles du document ; `Input` remplace
# `input_dim` et `input_shape`, et `negative_slope` remplace `alpha`, que Keras 3 déconseille.


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
generator, discriminator = build_generator(), build_discriminator()
generator.summary()

# %%
discriminator.summary()

# %% [markdown]
# Le texte du document annonce une petite image de (8, 8, 256) et une sortie de (64, 64, 3). Que
# fait son code ?

# %%
sizes = {
    "entrée de G": generator.input_shape[1:],
    "petite image": generator.layers[2].output.shape[1:],
    "sortie de G": generator.output_shape[1:],
    "entrée de D": discriminator.input_shape[1:],
    "paramètres de G": (generator.count_params(),),
    "paramètres de D": (discriminator.count_params(),),
}
runtime.show_table(
    ["taille", "valeur"],
    [(k, " × ".join(f"{n:_}".replace("_", " ") for n in v)) for k, v in sizes.items()],
)
verdict("gan-noise", list(sizes["entrée de G"]))
verdict("gan-reshape", list(sizes["petite image"]))
verdict("gan-image", list(sizes["sortie de G"]))
verdict("gan-d-image", list(sizes["entrée de D"]))

# %% [markdown]
# Le reste se vérifie : les convolutions transposées du générateur doublent le côté à chaque fois,
# les convolutions du discriminateur le divisent par deux, et la sortie est une probabilité.


# %%
def side_lengths(model, kind):
    return [layer.output.shape[1] for layer in model.layers if type(layer) is kind]


going_up = [8, *side_lengths(generator, layers.Conv2DTranspose)]
going_down = [64, *side_lengths(discriminator, layers.Conv2D)]
for name, lengths in (("générateur", going_up), ("discriminateur", going_down)):
    print(f"côtés, {name} : {', '.join(map(str, lengths))}")
verdict("gan-transposed", bool(np.all(np.diff(going_up) > 0)))
verdict("gan-strides", bool(np.all(np.diff(going_down) < 0)))

# %%
noise = np.random.default_rng(0).standard_normal((16, 100), "float32")
drawn = ops.convert_to_numpy(generator(noise))
judgement = ops.convert_to_numpy(discriminator(drawn))
for name, values in (("images", drawn), ("probabilités", judgement)):
    print(f"{name} : de {number(values.min(), 3)} à {number(values.max(), 3)}")
verdict("gan-output", bool(((judgement >= 0) & (judgement <= 1)).all()))

# %% [markdown]
# La tangente hyperbolique donne des valeurs de −1 à 1 : les vraies images doivent être mises à
# cette échelle, sans quoi le discriminateur reconnaîtrait les fausses à leur seule luminosité. Le
# document n'en dit rien ; `framed` l'a fait.
#
# Le document prête deux qualités au discriminateur. D'abord des « couches de normalisation pour
# stabiliser l'apprentissage » : comptons-les. Ensuite « *Leaky ReLU* pour éviter la suppression des
# gradients » : comptons, à la sortie de la première convolution, les valeurs où la pente de
# l'activation est nulle, avec elle et avec ReLU.

# %%
NORMALISATIONS = (layers.BatchNormalization, layers.LayerNormalization)
normalisations = [x for x in discriminator.layers if isinstance(x, NORMALISATIONS)]
verdict("gan-normalisation", len(normalisations) > 0)

# %%
before = keras.Model(discriminator.input, discriminator.layers[1].output)
maps = ops.convert_to_numpy(before(drawn))
shares = {}
for name, slope in (("ReLU", 0.0), ("LeakyReLU", 0.2)):
    activation = layers.LeakyReLU(negative_slope=slope)
    gradient = value_and_grad(lambda x, f=activation: ops.sum(f(x)), maps)[1]
    shares[name] = float(np.mean(gradient == 0))
for name, share in shares.items():
    print(f"{name} : {percent(share)} de gradients nuls")
verdict("gan-leaky", shares["LeakyReLU"] == 0 < shares["ReLU"])

# %% [markdown]
# ## Qui apprend ?
#
# Voici les dernières lignes du document.
#
# ```python
# discriminator.compile(optimizer="adam", loss="binary_crossentropy", metrics=["accuracy"])
#
# discriminator.trainable = False
# gan_input = tf.keras.Input(shape=(100,))
# generated_img = generator(gan_input)
# gan_output = discriminator(generated_img)
# gan = tf.keras.Model(gan_input, gan_output)
# gan.compile(optimizer="adam", loss="binary_crossentropy")
# ```
#
# L'idée : `discriminator` se compile avec ses poids libres, `gan` avec les mêmes poids gelés. Dans
# Keras 2, `compile` retenait l'état du moment, et cela marchait. Faisons jouer chacun, et mesurons
# de combien les poids ont bougé.


# %%
def weights_of(network):
    return [ops.convert_to_numpy(w).copy() for w in network.weights]


def movements(action, *networks):
    """Plus grand changement d'un poids de chaque réseau pendant une action."""
    before = [weights_of(network) for network in networks]
    action()
    return [
        max(float(np.abs(a - b).max()) for a, b in zip(old, weights_of(network)))
        for old, network in zip(before, networks)
    ]


def stacked(generator, discriminator):
    z = keras.Input(generator.input_shape[1:])
    gan = keras.Model(z, discriminator(generator(z)))
    gan.compile(optimizer="adam", loss="binary_crossentropy")
    return gan


# %%
discriminator.compile(
    optimizer="adam", loss="binary_crossentropy", metrics=["accuracy"]
)
discriminator.trainable = False
gan = stacked(generator, discriminator)

# Du bruit uniforme tient lieu de vraies images : seul compte qui bouge.
real = np.random.default_rng(0).uniform(-1, 1, drawn.shape).astype("float32")
both, labels = np.concatenate([real, drawn]), np.repeat([1.0, 0.0], len(real))[:, None]
with warnings.catch_warnings(record=True) as raised:
    warnings.simplefilter("always")
    (d_moved,) = movements(
        lambda: discriminator.train_on_batch(both, labels), discriminator
    )
ones = np.ones((len(noise), 1))
tricked = float(gan.test_on_batch(noise, ones))
(g_moved,) = movements(
    lambda: [gan.train_on_batch(noise, ones) for _ in range(5)], generator
)
print(f"discriminateur : {number(d_moved, 4)}\ngénérateur : {number(g_moved, 4)}")
for text in {str(w.message) for w in raised if "trainable" in str(w.message)}:
    print("avertissement :", text)
verdict("gan-d-learns", d_moved > 0)
verdict("gan-g-learns", float(gan.test_on_batch(noise, ones)) < tricked)

# %% [markdown]
# Le discriminateur n'a pas bougé. Aucune erreur : un avertissement, en anglais, la première fois
# seulement. Le générateur, lui, apprend, contre un expert qui ne saura jamais rien.
#
# Keras 3 ne retient rien à `compile` : il lit `trainable` au moment d'entraîner (au premier appel,
# une fois pour toutes, avec TensorFlow ; à chaque appel avec JAX et PyTorch). Le discriminateur est
# alors déjà gelé. On lit souvent un remède : « dégelez et recompilez le discriminateur ». Si l'on
# oublie de le geler de nouveau avant le tour du générateur, une panne en remplace une autre.
# Refaisons l'essai, avec de petits réseaux, de trois manières.


# %%
def small_pair():
    keras.utils.set_random_seed(0)
    generator = keras.Sequential([keras.Input((2,)), layers.Dense(8), layers.Dense(2)])
    discriminator = keras.Sequential(
        [keras.Input((2,)), layers.Dense(8, "tanh"), layers.Dense(1, "sigmoid")]
    )
    discriminator.compile(optimizer="adam", loss="binary_crossentropy")
    discriminator.trainable = False
    return generator, discriminator, stacked(generator, discriminator)


# %% [markdown]
# Elles diffèrent par ce qu'elles font avant chaque appel.


# %%
def as_printed(discriminator, free):
    """Comme dans le document : on n'y touche plus."""


def unfreeze_and_recompile(discriminator, free):
    if free and not discriminator.trainable:
        discriminator.trainable = True
        discriminator.compile(optimizer="adam", loss="binary_crossentropy")


def toggle(discriminator, free):
    """Avant chaque appel, dire qui est libre."""
    discriminator.trainable = free


# %% [markdown]
# On mesure qui bouge, au tour de chacun.


# %%
def who_moves(prepare):
    """Mouvements : D à son tour ; D au tour de G ; G à son tour."""
    generator, discriminator, gan = small_pair()
    x, z = np.random.default_rng(0).standard_normal((2, 32, 2), "float32")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        prepare(discriminator, free=True)
        ones = np.ones((len(x), 1))
        (own,) = movements(lambda: discriminator.train_on_batch(x, ones), discriminator)
        prepare(discriminator, free=False)
        other, g_own = movements(
            lambda: gan.train_on_batch(z, ones), discriminator, generator
        )
    return own, other, g_own


ORDERS = {
    "tel qu'imprimé": as_printed,
    "jamais regelé": unfreeze_and_recompile,
    "dit à chaque appel": toggle,
}
orders = {name: who_moves(prepare) for name, prepare in ORDERS.items()}
runtime.show_table(
    ["ordre", "D, tour de D", "D, tour de G", "G, tour de G"],
    [(name, *(number(m, 4) for m in moves)) for name, moves in orders.items()],
)

# %% [markdown]
# La deuxième ligne est la plus traîtresse : tout bouge, mais au tour du générateur **le
# discriminateur bouge aussi**, et dans le mauvais sens, puisqu'on lui apprend alors à prendre les
# faux pour des vrais. Seule la troisième est juste ; elle s'appuie pourtant sur un détail que la
# documentation de `compile` dément. Nous préférons écrire la boucle.
#
# Une dernière ligne du document, au passage. Son code affiche deux fois :
#
# ```
# super().__init__(activity_regularizer=activity_regularizer, **kwargs)
# ```
#
# Ce sont les restes de deux avertissements, un par réseau : Keras 3 demande une couche `Input` au
# lieu de `input_dim` et `input_shape`.


# %%
def printed_first_layers():
    layers.Dense(128 * 8 * 8, activation="relu", input_dim=100)
    layers.Conv2D(64, (5, 5), strides=(2, 2), padding="same", input_shape=(64, 64, 1))


with warnings.catch_warnings(record=True) as raised:
    warnings.simplefilter("always")
    printed_first_layers()
residue = "super().__init__(activity_regularizer=activity_regularizer, **kwargs)"
shown = [linecache.getline(w.filename, w.lineno).strip() for w in raised]
print(raised[0].message)
verdict("gan-residue", shown.count(residue))

# %% [markdown]
# ## Une boucle qui ne se trompe pas de réseau
#
# L'idée : calculer le gradient d'une perte **par rapport aux poids d'un seul réseau**, et ne donner
# à l'optimiseur que ceux-là. L'autre réseau sert au calcul, mais ses poids ne sont pas dans la
# liste. Plus besoin de geler. En abrégé, les deux tours sont ceux-ci :
#
# ```python
# def d_update(real, z):  # le discriminateur joue
#     fake = ops.stop_gradient(generator(z))
#     loss = d_loss(score(real), score(fake))
#     d_optimizer.apply(gradients(loss, d_weights), d_weights)
#
# def g_update(z):  # le générateur joue
#     loss = g_loss(score(generator(z)))
#     g_optimizer.apply(gradients(loss, g_weights), g_weights)
# ```
#
# Keras 3 n'a pas d'opération pour le gradient ; `utils.autodiff` cache les trois façons de le
# demander (TensorFlow, JAX, PyTorch). `loss_and_gradients(loss, weights, state)` rend la perte et
# ses gradients ; `compiled` compile chacune des deux mises à jour.
#
# Reste un détail : les normalisations par lots. Pour dessiner, le générateur est appelé en mode
# entraînement, et ses moyennes mobiles changeraient au tour de l'autre. `unmoved` les remet en
# place. Les deux autres fonctions joignent une classe à une entrée, et moyennent des mesures.


# %%
@contextmanager
def unmoved(network):
    """Laisse passer des images sans toucher aux moyennes des normalisations."""
    kept = [ops.copy(weight) for weight in network.non_trainable_weights]
    yield
    for weight, value in zip(network.non_trainable_weights, kept):
        weight.assign(value)


def with_labels(x, labels):
    return [x, *labels] if labels else x


def means(logs):
    """Moyenne de chaque mesure, sur les tours qui l'ont donnée."""
    names = {name for found in logs for name in found}
    return {n: float(np.mean([f[n] for f in logs if n in f])) for n in sorted(names)}


# %% [markdown]
# La classe `GAN` réunit le tout, en treize méthodes courtes. Les voici dans l'ordre de la cellule ;
# à la première lecture, ne suivez que les trois en gras.
#
# - `__init__`, `compile`, `state`, `call` : les deux réseaux et leurs pertes, un optimiseur pour
#   chacun (Adam, réglé comme DCGAN), la liste des variables à compiler ;
# - `score` : la réponse du discriminateur, ramenée avant sa sigmoïde s'il en a une ;
# - **`d_update`** et **`g_update`** : les deux tours ci-dessus ; `labels` ne sert qu'au GAN
#   conditionnel ;
# - `steepness` : la pénalité de WGAN-GP, expliquée plus bas ; `penalty` et `mix` ne servent qu'à
#   elle ;
# - `noise`, puis **`train_on_batch`** : des bruits, et un tour de chacun ; `d_steps` donne
#   plusieurs tours à $D$ pour un de $G$ ;
# - `fit`, `get_config`, `from_config` : des époques, enregistrer, relire, comme tout modèle de
#   Keras.


# %%
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
        """Une mise à jour du discriminateur : le générateur ne bouge pas."""
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
        """Une mise à jour du générateur : le discriminateur ne bouge pas."""

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


# %% [markdown]
# Le reste est de l'intendance : jouer une partie, dessiner par paquets, résumer les courbes.


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


# %%
def summed_up(history, points):
    """Une partie en quelques points : chaque mesure, moyennée sur autant de morceaux."""
    pieces = np.array_split(np.arange(len(history)), min(len(history), points))
    curves = [means([history[k] for k in piece]) for piece in pieces]
    names = ("d_loss", "g_loss", "d_real", "d_fake")
    return {n: [found[n] for found in curves if n in found] for n in names}


# %% [markdown]
# ### La preuve, tour par tour
#
# Faisons jouer séparément les deux joueurs, sur des lots d'une, de deux et de sept images, avec les
# réseaux du document. À chaque tour, un seul doit bouger : la cellule s'arrête si l'autre a bougé
# d'un rien. (Ces réseaux n'ont pas de normalisation par lots : `unmoved` sera éprouvé plus bas,
# avec chaque variante.)


# %%
def turns_of(gan, x, labels=()):
    """Mouvements de (D, G) au tour de D, puis au tour de G."""
    n = len(x)
    x, mix = ops.convert_to_tensor(x), ops.ones((n,) + (1,) * (x.ndim - 1))
    turns = (
        lambda: gan.play_d(x, gan.noise(n), mix, *labels),
        lambda: gan.play_g(gan.noise(n), *labels),
    )
    return [movements(turn, gan.discriminator, gan.generator) for turn in turns]


def check_turns(gan, x, labels=()):
    (d_own, g_still), (d_still, g_own) = turns_of(gan, x, labels)
    if g_still or d_still or not d_own or not g_own:
        raise AssertionError(
            "Un tour a déplacé le mauvais réseau, ou n'a rien déplacé."
        )
    return d_own, g_still, d_still, g_own


keras.utils.set_random_seed(0)
loop = GAN(build_generator(), build_discriminator())
loop.compile(run_eagerly=EAGER)
moves = {n: check_turns(loop, real[:n]) for n in (1, 2, 7)}
runtime.show_table(
    ["images", "D à son tour", "G au tour de D", "D au tour de G", "G à son tour"],
    [(n, *(number(m, 5) if m else "0" for m in row)) for n, row in moves.items()],
)
verdict("gan-alternate", all(row[1] == row[2] == 0 for row in moves.values()))

# %% [markdown]
# ## Mesurer un générateur
#
# La perte du générateur dit s'il trompe **ce** discriminateur, à ce moment-là. Pour juger, il faut
# un regard extérieur. Notre juge est un petit classifieur, entraîné sur les vraies images
# seulement ; les soixante-quatre sorties de son avant-dernière couche décrivent une image.


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


# %%
def seen_by_judge(images, size=500):
    """Caractéristiques (n, 64) et classe reconnue (n,) de chaque image."""
    parts = [images[k : k + size] for k in range(0, len(images), size)]
    seen = [classifier()(part, training=False) for part in parts]
    features, scores = (
        np.concatenate([np.asarray(ops.convert_to_numpy(s)) for s in part])
        for part in zip(*seen)
    )
    return features, scores.argmax(axis=1)


# %% [markdown]
# ### La distance de Fréchet
#
# On décrit les vraies images et les fausses par ces soixante-quatre nombres, on ajuste une
# gaussienne à chaque nuage, et on mesure l'écart entre les deux gaussiennes :
#
# $$d^2 = \lVert \mu_a - \mu_b \rVert^2 + t$$
#
# $$t = \operatorname{tr}(\Sigma_a + \Sigma_b) - 2 \operatorname{tr}\,(\Sigma_a \Sigma_b)^{1/2}$$
#
# $\mu$ et $\Sigma$ sont la moyenne et la matrice de covariance de chaque nuage ; la trace de la
# racine est la somme des racines des valeurs propres de $\Sigma_a \Sigma_b$. C'est le carré de la
# ***distance de Fréchet***, et c'est lui que l'on donne : plus il est petit, mieux c'est. Les
# articles l'appellent *FID* quand le juge est Inception-v3, entraîné sur ImageNet ; nos valeurs ne
# se comparent donc qu'entre elles.


# %%
def frechet_distance(a, b):
    """Distance de Fréchet entre les gaussiennes ajustées à deux nuages (n, d) et (m, d)."""
    shift = a.mean(axis=0) - b.mean(axis=0)
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    eigenvalues = np.linalg.eigvals(np.atleast_2d(cov_a @ cov_b)).real
    cross = np.sqrt(np.clip(eigenvalues, 0, None)).sum()
    return float(shift @ shift + np.trace(cov_a) + np.trace(cov_b) - 2 * cross)


# %% [markdown]
# Vérifions-la là où l'on connaît la réponse. Deux gaussiennes de matrices diagonales : l'écart vaut
# $\sum [(\mu_a - \mu_b)^2 + (\sigma_a - \sigma_b)^2]$.

# %%
rng = np.random.default_rng(0)
spread_a, spread_b = np.array([1.0, 2.0, 0.5]), np.array([2.0, 1.0, 0.5])
cloud_a = rng.normal(0, spread_a, (200_000, 3))
cloud_b = rng.normal([1, 0, -1], spread_b, (200_000, 3))
expected = 2 + np.sum((spread_a - spread_b) ** 2)
found = frechet_distance(cloud_a, cloud_b)
print(f"formule : {number(expected)}\ndeux cent mille points : {number(found)}")

# %% [markdown]
# ### Précision et rappel
#
# Un seul nombre confond deux défauts : des images laides, ou toujours les mêmes. On entoure donc
# chaque vraie image d'une boule qui va jusqu'à sa troisième voisine. La **précision** d'un
# générateur est la part de ses images qui tombent dans une boule (sont-elles plausibles ?). Son
# **rappel** est la part des vraies images qui tombent dans les boules des fausses (les sait-il
# toutes faire ?).


# %%
def covered(points, support, k=3):
    """Part des points qui tombent dans une boule du support (rayon : son k-ième voisin)."""
    radii = np.sort(pairwise_distances(support), axis=1)[:, k]
    inside = pairwise_distances(points, support) <= radii
    return float(inside.any(axis=1).mean())


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
# Jugeons le juge : son exactitude, la distance entre deux lots de vraies images, et celle d'un
# bruit uniforme.


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
def measures_row(name, runs):
    """Une ligne de tableau : moyenne et écart type des mesures d'un générateur."""
    runs = [runs] if isinstance(runs, dict) else runs
    fid = (
        spread([run["fid"] for run in runs], 1)
        if len(runs) > 1
        else number(runs[0]["fid"], 1)
    )
    shares = [
        percent(np.mean([run[key] for run in runs])) for key in ("precision", "recall")
    ]
    rarest = percent(np.mean([min(run["classes"]) for run in runs]), 1)
    return (name, fid, *shares, rarest)


MEASURES = ("images", "Fréchet", "précision", "rappel", "classe rare")

# %% [markdown]
# Le tableau ajoute la « classe rare » : la part de la classe que le juge voit le moins, 10 % au
# mieux.

# %%
floor, noise_score = bias.values["train"], bias.values["noise"]
print(f"exactitude du juge : {percent(bias.values['accuracy'], 1)}")
runtime.show_table(
    MEASURES,
    [measures_row("vraies", floor), measures_row("bruit", noise_score)],
)

# %% [markdown]
# Le bruit obtient une excellente précision, et un rappel nul. C'est un défaut connu de la mesure
# ([Naeem et al., 2020](https://arxiv.org/abs/2002.09797)) : une seule boule suffit, et celle d'une
# vraie image isolée peut être immense. La précision ne se lit jamais sans le rappel et la distance
# de Fréchet.
#
# Et cette distance, de combien d'images a-t-elle besoin ?

# %%
fig = figures.curves(
    {"deux lots de vraies images": np.transpose(bias.values["distances"])},
    xlabel="images dans chaque lot",
    ylabel="distance de Fréchet",
    x=bias.values["sizes"],
)
fig.axes[0].set(xscale="log", yscale="log")
fig.axes[0].set_xticks((100, 1_000), ("100", "1000"))
fig.axes[0].set_yticks((1, 10), ("1", "10"))
first, last = (float(np.mean(bias.values["distances"][k])) for k in (0, -1))
figures.show(
    fig,
    alt="Distance de Fréchet entre deux lots de vraies images, selon leur nombre, en échelles "
    f"logarithmiques : elle descend de {number(first)} avec {bias.values['sizes'][0]} images à "
    f"{number(last)} avec {number(bias.values['sizes'][-1], 0)}.",
)

# %% [markdown]
# La distance entre deux lots de **vraies** images devrait être nulle : elle ne s'en approche
# qu'avec beaucoup d'images. C'est un biais vers le haut : deux générateurs ne se comparent qu'avec
# le même nombre d'images.

# %% [markdown]
# ## DCGAN
#
# DCGAN (2015) est la première recette convolutive qui s'entraîne sans trop de peine. Cinq règles :
#
# 1. des convolutions à pas, transposées dans le générateur, et aucune couche de
#    sous-échantillonnage (*pooling*) ;
# 2. une normalisation par lots dans les deux réseaux, sauf à la sortie de $G$ et à l'entrée de
#    $D$ ;
# 3. aucune couche dense cachée ;
# 4. ReLU dans le générateur, tangente hyperbolique à sa sortie ;
# 5. LeakyReLU dans le discriminateur.
#
# S'y ajoutent des poids tirés d'une gaussienne d'écart type 0,02, et Adam à 0,0002 avec
# $\beta_1 = 0{,}5$. Chaque règle est ici un interrupteur, pour l'essayer seule plus loin.

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


# %%
def convolution(filters, transposed=False, **options):
    kind = layers.Conv2DTranspose if transposed else layers.Conv2D
    return kind(filters, 4, padding="same", kernel_initializer=NORMAL, **options)


def g_unit(x, rules, last=False):
    if rules.batch_norm and not last:
        x = layers.BatchNormalization(momentum=0.9)(x)
    return layers.Activation("relu" if rules.relu and not last else "tanh")(x)


# %% [markdown]
# Le générateur part d'une carte de 4 × 4, et double son côté jusqu'à celui de l'image. `classes` ne
# servira qu'au GAN conditionnel.


# %%
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
        last = width == channels  # la sortie : autant de cartes que de couleurs
        if rules.strided:
            x = convolution(width, True, strides=2, use_bias=bias and not last)(x)
        else:
            x = layers.UpSampling2D()(x)
            x = convolution(width, use_bias=bias and not last)(x)
        x = g_unit(x, rules, last)
    return keras.Model(inputs if classes else z, x, name="generator")


# %% [markdown]
# Le discriminateur fait le chemin inverse, et rend un score.


# %%
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


# %% [markdown]
# À 64 pixels, en couleurs, avec un bruit de cent nombres, on doit retrouver le nombre de poids du
# réseau le plus souvent copié, celui du tutoriel de PyTorch : 3 576 704 et 2 765 568.

# %%
classic = dcgan_generator(64, 64, 3, latent=100), dcgan_discriminator(64, 64, 3)
counts = [
    sum(int(np.prod(w.shape)) for w in model.trainable_weights) for model in classic
]
print("paramètres appris :", " et ".join(number(n, 0) for n in counts))

# %% [markdown]
# > **Un piège de Keras 3.** Un initialiseur écrit comme un objet, sans graine, tire la sienne à sa
# > création, et rend ensuite les mêmes valeurs à chaque appel. `NORMAL` donne donc à tous les DCGAN
# > de ce chapitre les **mêmes** poids de départ : nos graines ne changent que les bruits et l'ordre
# > des images. Un nom, comme `"he_normal"`, ou une graine par couche l'évitent.

# %%
first_call, second_call = (ops.convert_to_numpy(NORMAL((2, 3))) for _ in range(2))
same = np.array_equal(first_call, second_call)
print("deux appels, mêmes valeurs :", "oui" if same else "non")

# %% [markdown]
# ## Entraîner le réseau du document
#
# Le document s'arrête à `compile`. Continuons : Fashion-MNIST, agrandi à soixante-quatre pixels.
# Deux réglages : l'Adam par défaut du document (un taux d'apprentissage de 0,001), puis celui de
# DCGAN. Un DCGAN joue autant de tours et sert de repère. Pour le juge, les images sont
# réduites à 32 pixels. Vingt-cinq bruits fixes, dessinés en chemin, montrent le progrès.


# %%
def adam(rate, beta_1=0.5):
    return keras.optimizers.Adam(rate, beta_1=beta_1)


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


# %%
DOCUMENT_STEPS = runtime.pick(quick=1, full=6_000, cpu=600)
DOCUMENT_IMAGES = runtime.pick(quick=32, full=20_000)
LOOKS = runtime.pick(quick=1, full=6)  # regards portés pendant un entraînement


def doubled(images):
    """Images deux fois plus grandes, lissées : 32 -> 64 pixels."""
    return ops.convert_to_numpy(ops.image.resize(images, (64, 64), "bilinear"))


def halved(images):
    return images.reshape(len(images), SIDE, 2, SIDE, 2, 1).mean(axis=(2, 4))


# %%
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
    for name in ("document", "DCGAN"):
        del found[name]["grids"]  # celles du réseau réglé suffisent
    return found


document = experiment("document", document_run)


# %%
def montage(images, columns):
    """Des images en une seule, rangées par lignes."""
    n, h, w, c = images.shape
    rows = images.reshape(n // columns, columns, h, w, c).swapaxes(1, 2)
    return rows.reshape(n // columns * h, columns * w, c)


def picture(image, title=None):
    """Une grande image, sans axes."""
    height = figures.WIDTH * image.shape[0] / image.shape[1] + (0.3 if title else 0)
    fig, ax = plt.subplots(figsize=(figures.WIDTH, height))
    ax.imshow(image if image.shape[-1] == 3 else image[..., 0], vmin=0, vmax=255)
    ax.set_axis_off()
    ax.set_title(title or "")
    return fig


# %%
own = document.here["réglé"]
steps = np.arange(LOOKS + 1) * max(1, DOCUMENT_STEPS // LOOKS)
chosen = [0, 1, 3, 6] if LOOKS == 6 else [0, 1]
figures.animate(
    [
        picture(
            montage(as_images(own["grids"])[k], 5),
            f"après {steps[k]} tours" if k else "avant le premier tour",
        )
        for k in chosen
    ],
    alt=f"Vingt-cinq images du générateur du document, toujours les mêmes bruits, en {len(chosen)} "
    "étapes"
    + (" : du gris, puis des taches, puis des silhouettes." if document.full else "."),
)

# %% [markdown]
# En six cents tours, le gris devient taches, puis silhouettes de vêtements, à peine
# reconnaissables. Ce sont les réglages de DCGAN. Avec ceux du document, l'histoire est tout autre.

# %%
fig, axes = plt.subplots(1, 2, figsize=(figures.WIDTH, 3.2), sharey=True)
for ax, key, title in zip(
    axes, ("document", "réglé"), ("taux de 0,001", "taux de 0,0002")
):
    found = document.values[key]["curves"]
    at = np.linspace(0, DOCUMENT_STEPS, len(found["d_real"]))
    ax.plot(at, found["d_real"], label="D(x)")
    ax.plot(at, found["d_fake"], "--", label="D(G(z))")
    ax.set(title=title, xlabel="tour")
axes[0].set_ylabel("probabilité moyenne")
axes[0].legend()
ends = {
    key: document.values[key]["curves"]["d_fake"][-1] for key in ("document", "réglé")
}
figures.show(
    fig,
    alt="Probabilités moyennes que le discriminateur donne aux vraies et aux fausses images, à "
    f"deux réglages. D(G(z)) finit à {number(ends['document'])} avec le taux du document, à "
    f"{number(ends['réglé'])} avec celui de DCGAN.",
)

# %%
runtime.show_table(
    MEASURES,
    [
        measures_row(name, document.values[key])
        for key, name in (
            ("document", "document, Adam 0,001"),
            ("réglé", "document, Adam 0,0002"),
            ("DCGAN", "DCGAN, 64 px"),
        )
    ],
)

# %% [markdown]
# Au taux de 0,001, la partie s'arrête : le discriminateur finit par répondre 1 à toutes les images,
# vraies ou fausses. Sa sigmoïde est saturée, la perte du générateur est nulle, plus rien ne bouge.
# Sa précision de 83 % ne vaut pas mieux que celle du bruit, plus haut.
#
# Cinq fois plus lent, le même réseau apprend : les deux probabilités se rapprochent d'un demi, et
# la distance de Fréchet est presque trois fois plus petite. Son rappel reste faible : six cents
# tours, c'est peu. Le DCGAN, réduit à seize filtres de base, est encore en retard.

# %% [markdown]
# ## Entraîner un DCGAN
#
# ### Une longue partie
#
# Jouons assez longtemps pour que les images méritent un regard : DCGAN, 32 pixels, trente-deux
# filtres de base. L'expérience garde des images tirées sans tri, leurs classes, leurs plus proches
# voisines, des chemins entre deux bruits.

# %%
LONG_STEPS = runtime.pick(quick=300, full=12_000, cpu=6_000)
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


# %%
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
    del found["grids"]
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

# %% [markdown]
# Le progrès est-il mesurable ? La distance de Fréchet doit être au moins divisée par deux, même
# dans la courte partie du profil rapide : la cellule s'arrête sinon.

# %%
FALL = 2
for run in (long.here, long.values):
    if run["fid"] * FALL > run["before"]:
        raise AssertionError(
            "Le générateur n'a rien appris : la distance n'a pas baissé de moitié."
        )
start, end = (number(long.values[key], 1) for key in ("before", "fid"))
print(f"distance de Fréchet : {start} avant, {end} après")
runtime.show_table(
    MEASURES, [measures_row("DCGAN", long.values), measures_row("vraies", floor)]
)

# %% [markdown]
# Voici cinquante de ces images, puis la part de chaque classe d'après le juge.

# %%
samples = as_images(long.here["samples"])
recognised = [class_names[k] for k in np.unique(long.here["seen_as"])]
figures.show(
    picture(montage(samples, 10)),
    alt="Cinquante images du générateur, tirées sans tri. Le juge y voit : "
    + ", ".join(recognised)
    + ".",
)

# %%
shares = np.array(long.values["classes"])
fig, ax = plt.subplots()
ax.bar(range(10), 100 * shares, color=COLOURS[0])
ax.axhline(10, color="#555555", lw=1.4, ls=(0, (2, 2)))
ax.set_xticks(range(10), class_names, rotation=45, ha="right")
ax.set_ylabel("part des images (%)")
figures.show(
    fig,
    alt="Part de chaque classe parmi les images du générateur, d'après le juge : de "
    f"{percent(shares.min(), 1)} à {percent(shares.max(), 1)}, pour dix pour cent attendus.",
)
verdict("gan-all-classes", long.full and long.full["before"] / long.full["fid"])

# %% [markdown]
# Les dix classes sont là, en parts inégales : le juge voit près de quatre fois plus de manteaux que
# de sandales. De loin, les images sont bonnes ; de près, beaucoup sont tachées ou déformées. La
# distance de Fréchet est cinquante fois plus petite qu'au départ, et encore cinq fois au-dessus de
# celle de deux lots de vraies images.

# %% [markdown]
# ### Apprend-il par cœur ?
#
# « De nouvelles données », promet le document. Un générateur pourrait recopier ses images
# d'entraînement. Cherchons, pour deux cents images dessinées, la plus proche des images
# d'entraînement (en voici huit, leur voisine dessous) ; et comparons cette distance à celle d'une
# vraie image de **test**, que personne n'a recopiée.

# %%
figures.show(
    picture(montage(as_images(long.here["neighbours"]).reshape(-1, SIDE, SIDE, 1), 8)),
    alt="En haut, huit images dessinées ; dessous, l'image d'entraînement la plus proche : "
    f"même genre de vêtement, à une distance d'au moins {number(min(long.here['to_train']))}.",
)
to_train, of_test = (
    float(np.median(long.values[key])) for key in ("to_train", "of_test")
)
print(f"distance médiane à l'entraînement, images dessinées : {number(to_train)}")
print(f"distance médiane à l'entraînement, images de test : {number(of_test)}")
full = long.full
verdict(
    "gan-new-data",
    full and float(np.median(full["to_train"]) / np.median(full["of_test"])),
)

# %% [markdown]
# Les images dessinées sont un peu plus loin de l'entraînement que de vraies images neuves : ce ne
# sont pas des copies, en général. La médiane ne dit rien d'une copie isolée ; et une distance pixel
# à pixel ne reconnaît pas une copie décalée.

# %% [markdown]
# ### Entre deux bruits
#
# Parcourons le segment qui joint deux bruits. Si le générateur avait appris par cœur, l'image
# passerait brusquement d'une image apprise à une autre.

# %%
figures.show(
    picture(montage(as_images(long.here["path"]), 8)),
    alt="Trois lignes de huit images : sur chacune, un vêtement se change en un autre, peu à peu.",
)

# %% [markdown]
# Un sac devient une chaussure, une robe un pantalon, en passant par des vêtements qui n'existent
# pas : les états intermédiaires ne sont pas tous crédibles, mais le passage, parfois rapide, ne se
# fait jamais d'un souvenir net à un autre.

# %% [markdown]
# ### Les cinq règles, une à une
#
# Retirons chaque règle, seule, à budget égal. La partie est courte : le taux d'apprentissage est
# cinq fois celui de l'article.

# %%
RULE_STEPS = runtime.pick(quick=1, full=2_000, cpu=600)
RULE_RATE = 1e-3
RULE_NAMES = {
    "strided": "sans pas",
    "batch_norm": "sans normalisation",
    "no_dense": "avec couches denses",
    "relu": "sans ReLU",
    "leaky": "sans LeakyReLU",
}
RULES_TRIED = runtime.pick(quick=("",), full=("", *RULE_NAMES))


# %%
def rules_run():
    """DCGAN, puis chaque règle retirée, seule ; même budget."""
    classifier()
    z = np.random.default_rng(1).standard_normal((SAMPLES, LATENT), "float32")
    found = {}
    for name in RULES_TRIED:
        rules = ALL_RULES._replace(**({name: False} if name else {}))
        found[RULE_NAMES.get(name, "DCGAN")] = runs = []
        for seed in SEEDS:
            keras.utils.set_random_seed(seed)
            gan = GAN(dcgan_generator(rules=rules), dcgan_discriminator(rules=rules))
            gan.compile(adam(RULE_RATE), adam(RULE_RATE), run_eagerly=EAGER)
            play(gan, x_train, steps=RULE_STEPS)
            runs.append(judged(draw(gan.generator, z)))
    return found


rules_found = experiment("rules", rules_run)

# %%
rules_shown = [measures_row(name, runs) for name, runs in rules_found.values.items()]
runtime.show_table(MEASURES, rules_shown)

# %% [markdown]
# - **Deux règles se défendent seules.** Sans normalisation par lots, le rappel est nul (sans doute
#   à cause des petits poids de départ, comme nous le verrons avec les critiques de WGAN). Avec
#   une couche dense cachée, à chaque graine, presque toutes les images sont de la même classe.
# - **Deux ne se voient pas.** Sans ReLU, deux graines sur trois restent dans la dispersion de la
#   recette entière ; sans LeakyReLU, le réseau fait aussi bien.
# - **Une coûte.** Sans pas (agrandir puis convoluer, convoluer puis sous-échantillonner), il fait
#   mieux, au prix de quatre fois plus de calcul.

# %% [markdown]
# ## Ce qui se dérègle
#
# ### Deux joueurs qui se tournent autour
#
# Le plus petit jeu du monde : $V(x, y) = xy$. Un joueur choisit $x$ et veut $V$ petit, l'autre
# choisit $y$ et veut $V$ grand. L'équilibre est en $(0, 0)$. Que donne la descente de gradient ?


# %%
def bilinear_game(turns=200, rate=0.1, alternate=False):
    """Trajectoire (turns + 1, 2) de x et y, partis de (1, 0)."""
    x, y = 1.0, 0.0
    path = [(x, y)]
    for _ in range(turns):
        new_y = y + rate * x
        x = x - rate * (new_y if alternate else y)
        y = new_y
        path.append((x, y))
    return np.array(path)


# %%
together, in_turn = bilinear_game(), bilinear_game(alternate=True)
fig, axes = plt.subplots(1, 2, figsize=(figures.WIDTH, 3.2))
for ax, path_of, name in zip(
    axes, (together, in_turn), ("en même temps", "tour à tour")
):
    ax.plot(*path_of.T, lw=1.2)
    ax.plot(0, 0, "*", color=COLOURS[1], ms=12)
    ax.set(title=name, xlabel="x", ylabel="y", aspect="equal")
radius = float(np.hypot(*together[-1]))
figures.show(
    fig,
    alt="Deux trajectoires dans le plan. En même temps : une spirale qui s'éloigne de l'équilibre, "
    f"jusqu'à {number(radius)} après deux cents tours. Tour à tour : une boucle fermée.",
)


# %%
def sign_changes(path):
    """Combien de fois la valeur du jeu, x y, change de signe."""
    return int((np.diff(np.sign(path[1:].prod(axis=1))) != 0).sum())


verdict("gan-oscillation", min(sign_changes(together), sign_changes(in_turn)))

# %% [markdown]
# Aucune des deux façons n'atteint l'équilibre. En même temps, la distance à l'équilibre est
# multipliée par $\sqrt{1 + \eta^2}$ à chaque tour, où $\eta$ est le taux d'apprentissage (ici
# 0,1) : elle grandit toujours. Tour à tour, comme le demande le document, elle ne diverge pas, mais
# ne converge pas non plus. Les pertes d'un GAN oscillent en partie pour cette raison. Une perte qui
# ne descend pas n'est pas un échec, une perte qui descend n'est pas une réussite.
#
# ### L'anneau
#
# L'***effondrement des modes*** (*mode collapse*) : le générateur ne sait plus faire que quelques
# sortes d'images. Pour le voir, prenons des « images » de deux nombres : huit gaussiennes sur un
# cercle. Un bon générateur doit atteindre les huit ***modes***, c'est-à-dire les huit bosses, de
# cette distribution. Un mode est *atteint* s'il reçoit au moins 1 % des points, à moins de quatre
# écarts types de son centre.

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


# %%
def reached(points):
    """Modes atteints (1 % des points au moins) et part des points à moins de 4 sigmas."""
    distances = pairwise_distances(points, centres())
    good = distances.min(axis=1) < 4 * RING_SIGMA
    share = np.bincount(distances[good].argmin(axis=1), minlength=MODES) / len(points)
    return {"modes": int((share >= 0.01).sum()), "good": float(good.mean())}


# %% [markdown]
# ## Les variantes
#
# Nous allons comparer neuf recettes sur l'anneau, douze sur les images. Définissons-les d'abord.
#
# ### Quatre remèdes de praticien
#
# - **Étiquettes lissées** : 0,9 au lieu de 1 pour les vraies images, pour que $D$ ne soit jamais
#   sûr de lui.
# - **Bruit d'instance** : un bruit gaussien sur tout ce que voit $D$ ; les deux distributions se
#   recouvrent alors toujours.
# - **Norme spectrale** : après chaque mise à jour, chaque noyau de $D$, mis en matrice, est divisé
#   par sa plus grande valeur singulière, ce qui borne la pente de $D$ (l'article le fait à chaque
#   appel).
# - **Deux vitesses** : $D$ apprend quatre fois plus vite que $G$.
#
# ### WGAN
#
# La distance de Wasserstein a une forme duale : c'est le plus grand écart de moyennes qu'une
# fonction $f$, de pente au plus 1 partout, puisse faire entre les deux distributions.
#
# $$W(p, q) = \max_f \big(\mathbb{E}_{p}[f(x)] - \mathbb{E}_{q}[f(x)]\big)$$
#
# Le discriminateur devient un ***critique*** : plus de sigmoïde, un score. Il joue plusieurs tours
# pour un du générateur. Deux façons de borner sa pente :
#
# - **WGAN** rogne ses poids (`Clip`). La pente est bornée, mais pas par 1 : la distance n'est
#   estimée qu'à un facteur près. (L'article rogne à 0,01 et emploie RMSprop ; nous rognons à 0,05
#   et gardons Adam.)
# - **WGAN-GP** ajoute à sa perte une ***pénalité de gradient***, prise en des points $x$ entre
#   vraies et fausses images : la méthode `steepness` de notre classe. Son coefficient $\lambda$
#   vaut 10 dans l'article.
#
# $$\lambda\,\mathbb{E}\big[(\lVert \nabla_x f(x) \rVert_2 - 1)^2\big]$$


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


# %%
@keras.saving.register_keras_serializable(package="vision")
class Clip(keras.constraints.Constraint):
    """Ramène chaque poids entre −limit et limit."""

    def __init__(self, limit=0.01):
        self.limit = limit

    def __call__(self, weight):
        return ops.clip(weight, -self.limit, self.limit)

    def get_config(self):
        return {"limit": self.limit}


# %%
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
# Comparons toutes ces pertes à un calcul indépendant, avec NumPy et les probabilités.

# %%
scores_real = np.random.default_rng(0).normal(1, 2, 50)
scores_fake = np.random.default_rng(1).normal(-1, 2, 50)
p_real, p_fake = (1 / (1 + np.exp(-s)) for s in (scores_real, scores_fake))
EXPECTED = {
    "entropie croisée": -np.log(p_real).mean() - np.log(1 - p_fake).mean(),
    "lissée": -(0.9 * np.log(p_real) + 0.1 * np.log(1 - p_real)).mean()
    - np.log(1 - p_fake).mean(),
    "saturante": np.log(1 - p_fake).mean(),
    "non saturante": -np.log(p_fake).mean(),
    "critique": scores_fake.mean() - scores_real.mean(),
    "générateur de WGAN": -scores_fake.mean(),
}
real32, fake32 = scores_real.astype("float32"), scores_fake.astype("float32")
COMPUTED = (
    d_cross_entropy(real32, fake32),
    d_smoothed(real32, fake32),
    g_saturating(fake32),
    g_non_saturating(fake32),
    d_wasserstein(real32, fake32),
    g_wasserstein(fake32),
)
gaps = [abs(float(a) - b) for a, b in zip(COMPUTED, EXPECTED.values())]
print(f"{len(gaps)} pertes, plus grand écart : {number(1e6 * max(gaps))} millionième")

# %% [markdown]
# ### Un GAN conditionnel
#
# Le GAN conditionnel donne la classe aux deux réseaux : une table (`Embedding`) la change en
# nombres, collés au bruit pour $G$, à l'image pour $D$. On peut alors *demander* une robe.
#
# ### Les idées de StyleGAN
#
# StyleGAN change le générateur de quatre façons. Un **réseau de correspondance** change le bruit
# $z$ en un ***style*** $w$. Le dessin part d'une constante apprise, et non du bruit. À chaque
# niveau, du plus grossier au plus fin, le style multiplie chaque canal, puis la sortie est ramenée
# à une force constante : c'est la ***convolution modulée*** de StyleGAN2. Enfin, un bruit par
# pixel, d'amplitude apprise, donne les détails de hasard ; nous ne l'ajoutons que pendant
# l'entraînement.


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


# %%
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


# %%
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


# %% [markdown]
# Le réseau de correspondance, puis le réseau qui dessine : un style par niveau, de 4 pixels de côté
# à 32.


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
# ### Les recettes
#
# Chaque variante ne change que quelques réglages ; tout le reste est commun.


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


# %%
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
    "à style": Recipe(network="style", batch_norm=False, beta_1=0.0, penalty=1.0),
    "dense": Recipe(network="dense"),
    "générateur pressé": Recipe(rates=(2e-4, 5e-3)),
}


# %% [markdown]
# Trois recettes de plus, sur les images : le générateur à style, un GAN tout en couches denses
# (celui de 2014), et un générateur vingt-cinq fois plus pressé que son discriminateur, dont nous
# attendons un effondrement. Le générateur à style reçoit, comme dans ses articles, un
# discriminateur sans normalisation par lots et une pénalité de gradient. Sur l'anneau, la pénalité
# de WGAN-GP vaut 1 au lieu de 10 : ce coefficient dépend de l'échelle des données.
#
# Les points de l'anneau, et le GAN de 2014, se contentent de couches denses.


# %%
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


# %% [markdown]
# Sans normalisation par lots, les petits poids de DCGAN (écart type 0,02) éteindraient le signal,
# couche après couche. Les critiques prennent donc l'initialisation de He
# ([chapitre 2](02_layers_and_training.ipynb)).


# %%
def critic_network(filters=FILTERS, channels=1, constraint=None):
    """Les convolutions du discriminateur de DCGAN, sans normalisation par lot."""
    x = image = keras.Input((SIDE, SIDE, channels), name="image")
    for multiple in reversed(sides(SIDE)):
        x = layers.Conv2D(
            filters * multiple,
            4,
            strides=2,
            padding="same",
            kernel_initializer="he_normal",
            kernel_constraint=constraint,
        )(x)
        x = layers.LeakyReLU(negative_slope=0.2)(x)
    score = layers.Dense(1, kernel_constraint=constraint)(layers.Flatten()(x))
    return keras.Model(image, score, name="discriminator")


# %% [markdown]
# De combien les scores s'éteignent-ils, avant tout apprentissage ?

# %%
keras.utils.set_random_seed(0)
bare = dcgan_discriminator(rules=Rules(batch_norm=False))
outputs = {
    name: ops.convert_to_numpy(network(x_train[:64]))
    for name, network in (("DCGAN (0,02)", bare), ("He", critic_network()))
}
runtime.show_table(
    ["poids de départ", "écart type des scores"],
    [(name, number(scores.std(), 4)) for name, scores in outputs.items()],
)

# %% [markdown]
# D'une recette, on fait les deux réseaux, puis la partie prête à jouer.


# %%
def image_networks(recipe):
    if recipe.network == "dense":
        shape = (SIDE, SIDE, 1)
        return mlp((LATENT,), shape, (256, 512)), mlp(shape, (1,), (512, 256))
    style = recipe.network == "style"
    generator = style_generator() if style else dcgan_generator(classes=recipe.classes)
    if not recipe.batch_norm:
        return generator, critic_network(constraint=recipe.constraint)
    return generator, dcgan_discriminator(classes=recipe.classes, noise=recipe.noise)


def make_gan(recipe, networks, seed, faster=1):
    keras.utils.set_random_seed(seed)
    gan = GAN(*networks(recipe), *recipe.losses, recipe.d_steps, recipe.penalty)
    optimizers = [adam(faster * rate, recipe.beta_1) for rate in recipe.rates]
    gan.compile(*optimizers, run_eagerly=EAGER)
    return gan


# %% [markdown]
# Avant de jouer, le garde-fou : dans chaque recette, chaque tour ne déplace que son réseau.

# %%
IMAGE_NAMES = runtime.pick(
    quick=("de base", "WGAN-GP", "conditionnel"), full=tuple(ON_IMAGES)
)

few = slice(4)
for name in IMAGE_NAMES:
    recipe = ON_IMAGES[name]
    labels = (ops.convert_to_tensor(y_train[few], "int32"),) if recipe.classes else ()
    gan = make_gan(recipe, image_networks, seed=0)
    check_turns(gan, x_train[few], labels)
count = len(IMAGE_NAMES)
print(f"{count} recettes, {2 * count} tours : un seul réseau bouge à chaque fois")

# %% [markdown]
# ### Sur l'anneau
#
# Chaque recette joue trois parties, une par graine. Le tableau donne les modes atteints à chacune,
# puis des moyennes ; les nuages sont ceux de la première graine, avec leur nombre de modes.


# %%
def ring_networks(recipe):
    generator = mlp((LATENT,), (2,), (64, 64), classes=recipe.classes)
    return generator, mlp(
        (2,), (1,), (64, 64), recipe.constraint, recipe.noise, recipe.classes
    )


def ring_game(recipe, seed, steps=RING_STEPS):
    """Une partie sur l'anneau : mesures finales, et les trois derniers nuages sur douze."""
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


# %%
def ring_run():
    return {
        name: [ring_game(recipe, seed) for seed in SEEDS]
        for name, recipe in ON_RING.items()
    }


on_ring = experiment("ring", ring_run)


# %%
def ring_row(name, games):
    modes = " ; ".join(str(game["modes"]) for game in games)
    good = percent(np.mean([game["good"] for game in games]))
    return name, modes, good, spread([game["frechet"] for game in games], 2)


games = on_ring.values


def rank(name):
    return [-np.mean([game[key] for game in games[name]]) for key in ("modes", "good")]


ranked = sorted(games, key=rank)
runtime.show_table(
    ["variante", "modes", "bien placés", "Fréchet"],
    [ring_row(name, games[name]) for name in ranked],
)


# %%
def scatter(ax, points, title):
    ax.plot(*np.transpose(points), ".", ms=3, color=COLOURS[1])
    ax.plot(*centres().T, "o", ms=9, mfc="none", color=COLOURS[0])
    ax.set(
        title=title, xlim=(-3, 3), ylim=(-3, 3), xticks=[], yticks=[], aspect="equal"
    )
    ax.title.set_fontsize(11)


shown = (
    "de base",
    "deux vitesses",
    "norme spectrale",
    "WGAN",
    "WGAN-GP",
    "conditionnel",
)
fig, axes = plt.subplots(2, 3, figsize=(figures.WIDTH, 4.4))
for ax, name in zip(axes.flat, shown):
    game = games[name][0]
    scatter(ax, game["clouds"][-1], f"{name} : {game['modes']}")
figures.show(
    fig,
    alt="Six nuages de points dessinés, sur huit cercles qui marquent les modes. Modes atteints : "
    + ", ".join(f"{name}, {games[name][0]['modes']}" for name in shown)
    + ".",
)

# %%
fig = figures.curves(
    {
        name: [game["modes_path"] for game in games[name]]
        for name in ("de base", "norme spectrale", "WGAN-GP")
    },
    xlabel="douzième de la partie",
    ylabel="modes atteints",
)
figures.show(
    fig,
    alt="Modes atteints au fil de la partie, en moyenne sur les graines : la recette de base en "
    "gagne puis en perd, la norme spectrale et WGAN-GP les gardent.",
)

# %% [markdown]
# Trois phrases du document se décident ici : le GAN conditionnel obéit-il, un générateur peut-il
# s'effondrer, la distance de Wasserstein y remédie-t-elle ?


# %%
def obedience(cloud):
    """Part des points à moins de quatre écarts types du mode demandé."""
    asked = centres()[np.arange(len(cloud)) % MODES]
    return float(np.mean(np.linalg.norm(cloud - asked, axis=1) < 4 * RING_SIGMA))


full = on_ring.full
obeyed = full and [obedience(game["clouds"][-1]) for game in full["conditionnel"]]
verdict("gan-conditional", obeyed and float(np.mean(obeyed)))
verdict(
    "gan-collapse",
    full and min(g["modes"] for g in full["de base"] + full["deux vitesses"]),
)
modes = {
    name: np.mean([game["modes"] for game in runs])
    for name, runs in (full or {}).items()
}
verdict("gan-wgan", full and float(modes["WGAN-GP"] - modes["de base"]))

# %% [markdown]
# La recette de base perd deux modes sur huit à chaque graine, et « deux vitesses » jusqu'à sept.
# Donner de l'avance au discriminateur, remède souvent conseillé, fait ici le contraire de ce que
# l'on attend. La norme spectrale et WGAN-GP atteignent les huit modes à chaque graine, mais près de
# la moitié de leurs points sont à côté ; WGAN et ses poids rognés les posent presque tous à côté.
# Le GAN conditionnel fait tout juste, parce qu'on lui dit quel mode viser.
#
# Aucun nombre ne suffit. Un nuage étalé au hasard « atteint » les huit modes, avec un point sur
# neuf bien placé : WGAN ne fait guère mieux. La distance de Fréchet ne voit que la moyenne et la
# covariance du nuage : elle ne distingue pas l'anneau d'une tache de même étendue.

# %% [markdown]
# ### Le réglage
#
# Trois taux d'apprentissage, trois valeurs de $\beta_1$, la recette de base. Dans chaque case : les
# modes atteints sur huit, en moyenne sur les graines, et la part des points bien placés.

# %%
RATES = runtime.pick(quick=(2e-4,), full=(1e-5, 2e-4, 4e-3))
BETAS = runtime.pick(quick=(0.5, 0.9), full=(0.0, 0.5, 0.9))


# %%
def sensitivity_run():
    """Neuf réglages de la recette de base : modes atteints, points bien placés."""
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
def cell_text(games):
    modes, good = (np.mean([game[key] for game in games]) for key in ("modes", "good"))
    return f"{number(modes, 1)} ({percent(good)})"


cells = sensitivity.values["cells"]
rates, betas = (sorted({c[key] for c in cells}) for key in ("rate", "beta_1"))
rows = [
    [
        number(5 * rate, 5).rstrip("0"),
        *(cell_text(c["games"]) for c in cells if c["rate"] == rate),
    ]
    for rate in rates
]
runtime.show_table(["taux", *(f"β₁ = {number(b, 1)}" for b in betas)], rows)
averages = [np.mean([game["modes"] for game in cell["games"]]) for cell in cells]
full = sensitivity.full
verdict("gan-sensitivity", full and float(max(averages) - min(averages)))

# %% [markdown]
# Trop lent, les points sont encore étalés partout : presque tous les modes sont « atteints », mais
# un point sur neuf seulement est à sa place. Trop rapide, il ne reste qu'un à trois modes, avec
# la plupart des points ou presque aucun : la partie s'effondre, ou diverge. Entre les deux, le taux
# de l'article de DCGAN (multiplié par cinq pour ces petits réseaux) est le moins mauvais, et
# $\beta_1$ compte moins que lui. La valeur 0,9, que l'article déconseille, y atteint même les huit
# modes.

# %% [markdown]
# ### Sur les images
#
# Chaque recette joue le même nombre de tours du générateur ; les critiques de WGAN et de WGAN-GP en
# jouent donc plusieurs fois plus. « De base » est le DCGAN. Les taux d'apprentissage sont
# multipliés par cinq, comme sur l'anneau.

# %%
IMAGE_STEPS = runtime.pick(quick=1, full=4_000, cpu=800)
FASTER = 5


def image_game(recipe, seed):
    gan = make_gan(recipe, image_networks, seed, FASTER)
    play(gan, x_train, y_train if recipe.classes else None, IMAGE_STEPS)
    z = np.random.default_rng(1).standard_normal((SAMPLES, LATENT), "float32")
    asked = (np.arange(SAMPLES, dtype="int32") % 10,) if recipe.classes else ()
    images = draw(gan.generator, z, *asked)
    return judged(images, *asked), images[:20]


def images_run():
    classifier()
    found = {}
    for name in IMAGE_NAMES:
        games = [image_game(ON_IMAGES[name], seed) for seed in SEEDS]
        found[name] = {
            "games": [measures for measures, _ in games],
            "images": as_text(games[0][1]),
        }
    return found


on_images = experiment("images", images_run)

# %%
found = on_images.values
by_distance = sorted(
    found, key=lambda name: np.mean([g["fid"] for g in found[name]["games"]])
)
runtime.show_table(
    MEASURES, [measures_row(name, found[name]["games"]) for name in by_distance]
)

# %% [markdown]
# Dix images de chaque variante, à la première graine, dans l'ordre du tableau :

# %%
here = on_images.here
drawn_names = [name for name in by_distance if name in here]
fig, axes = plt.subplots(len(here), 1, figsize=(figures.WIDTH, 0.88 * len(here)))
for ax, name in zip(axes, drawn_names):
    row = montage(as_images(here[name]["images"])[:10], 10)[..., 0]
    ax.imshow(row, vmin=0, vmax=255, interpolation="nearest")
    ax.set_title(name, loc="left", fontsize=12, pad=2)
    ax.set_axis_off()
figures.show(
    fig,
    alt="Dix images par variante, une ligne chacune. Distance de Fréchet de la première partie : "
    + ", ".join(
        f"{name}, {number(here[name]['games'][0]['fid'], 0)}" for name in drawn_names
    )
    + ".",
)

# %% [markdown]
# L'effondrement se lit dans les classes. Pour chaque variante, la partie la plus effondrée des
# trois : la part de chaque classe parmi les images dessinées, d'après le juge.

# %%
worst = {
    name: max((game["classes"] for game in found[name]["games"]), key=max)
    for name in by_distance
}
fig, ax = plt.subplots(figsize=(figures.WIDTH, 4.2))
shares = 100 * np.array(list(worst.values()))
heat = ax.imshow(shares, vmin=0, vmax=40, cmap="cividis", aspect="auto")
ax.set_xticks(range(10), class_names, rotation=45, ha="right", fontsize=11)
ax.set_yticks(range(len(worst)), worst, fontsize=11)
fig.colorbar(heat, label="part des images (%)", extend="max")
figures.show(
    fig,
    alt="Part de chaque classe, variante par variante. Classe la plus fréquente : "
    + ", ".join(f"{name}, {percent(max(shares))}" for name, shares in worst.items())
    + ".",
)

# %% [markdown]
# Deux mesures encore : l'obéissance du GAN conditionnel, et ce que gagnent les convolutions.

# %%
full = on_images.full
asked = found["conditionnel"]["games"]
obeyed = percent(np.mean([game["asked"] for game in asked]))
print(f"conditionnel : {obeyed} des images sont de la classe demandée, d'après le juge")


def mean_fid(name):
    return float(np.mean([game["fid"] for game in full[name]["games"]]))


verdict("gan-dcgan", full and mean_fid("dense") - mean_fid("de base"))

# %% [markdown]
# Huit cents tours, seize filtres, un taux d'apprentissage élevé : des parties courtes, mais où l'on
# reconnaît des vêtements, sauf avec la perte saturante (à cette graine) et avec WGAN.
#
# - **WGAN-GP** arrive premier : plus proche, plus varié, aucune classe oubliée. Son critique joue
#   trois fois plus de tours : à calcul égal, l'écart serait sans doute moindre.
# - **WGAN** et ses poids rognés arrivent derniers : des classes entières manquent. Même perte, même
#   critique : c'est la façon de borner la pente qui change tout.
# - Lisser les étiquettes ne change rien de mesurable. Le bruit d'instance, la norme spectrale et
#   « deux vitesses » font moins bien que la recette de base : ces remèdes ralentissent sans doute,
#   et la partie est courte. Sur l'anneau, la norme spectrale atteignait les huit modes.
# - Le générateur pressé, dont nous attendions l'effondrement, fait aussi bien que la base. Notre
#   attente était fausse : il encaisse un taux d'apprentissage de 0,025.
# - La perte saturante apprend, mais une graine sur trois reste loin derrière les deux autres :
#   c'est la pente plate de la première section.
# - Le GAN tout en couches denses est près de trente points derrière le DCGAN, et son rappel est
#   presque nul : sur ce point, le document a raison.
# - Le GAN conditionnel obéit sept fois sur dix (sur l'anneau, presque toujours), mais son rappel
#   n'est que de 13 %.
# - Le générateur à style apprend moins vite que DCGAN ; nous lui donnerons plus de tours.
#
# Un classement n'est donc vrai que pour un budget, des données et des réseaux : celui de l'anneau
# n'était pas le même.

# %% [markdown]
# ### La perte du critique dit-elle la qualité ?
#
# L'article de WGAN promet une perte que l'on puisse lire : l'opposé de la perte du critique estime
# une distance, qui devrait baisser quand les images s'améliorent. Traçons sa valeur absolue. Les
# parties se lisent de droite à gauche.


# %%
def followed(recipe):
    """Perte du discriminateur et distance de Fréchet, dix fois en chemin."""
    classifier()
    z = np.random.default_rng(1).standard_normal((SAMPLES, LATENT), "float32")
    gan, distances = make_gan(recipe, image_networks, seed=0, faster=FASTER), []

    def look(turn):
        distances.append(judged(draw(gan.generator, z))["fid"])

    every = max(1, IMAGE_STEPS * gan.d_steps // 10)
    history = play(gan, x_train, None, IMAGE_STEPS, look, every)
    return {"loss": summed_up(history, 10)["d_loss"], "fid": distances}


def critic_run():
    """WGAN-GP et GAN de base : la perte suit-elle la qualité ?"""
    return {name: followed(RECIPES[name]) for name in ("de base", "WGAN-GP")}


critic = experiment("critic", critic_run)

# %%
runs = critic.values
correlations = {
    name: float(spearmanr(np.abs(run["loss"]), run["fid"]).statistic)
    if len(run["fid"]) > 2
    else float("nan")
    for name, run in runs.items()
}
for name, correlation in correlations.items():
    print(f"{name} : corrélation de rang {number(correlation)}")
fig, axes = plt.subplots(1, 2, figsize=(figures.WIDTH, 3.2))
for ax, (name, run) in zip(axes, runs.items()):
    ax.plot(run["fid"], np.abs(run["loss"]), "o-")
    ax.set(title=name, xlabel="distance de Fréchet")
axes[0].set_ylabel("perte, en valeur absolue")
figures.show(
    fig,
    alt="Perte du discriminateur contre distance de Fréchet, dix points d'une même partie. "
    "Corrélation de rang : "
    + ", ".join(f"{name}, {number(c)}" for name, c in correlations.items())
    + ".",
)

# %% [markdown]
# Les deux réseaux s'améliorent. La perte du discriminateur de base ne le montre pas : elle baisse
# au début, quand les images sont mauvaises, puis remonte quand elles deviennent bonnes. Celle du
# critique, en valeur absolue, descend avec la distance de Fréchet, presque sans exception : sur ce
# point, la promesse de l'article est tenue. (Cette perte contient aussi la pénalité, et nous
# n'avons joué qu'une partie.)

# %% [markdown]
# ### Régler le style
#
# Un générateur à style se laisse régler de deux façons. La ***troncature*** rapproche chaque style
# du style moyen $\bar w$ :
#
# $$w' = \bar w + \psi\,(w - \bar w).$$
#
# Le ***mélange de styles*** donne à certains niveaux le style d'une image, et aux autres celui
# d'une autre.


# %%
def styles_of(generator, z):
    """Les styles w de plusieurs bruits."""
    return ops.convert_to_numpy(generator.get_layer("mapping")(z))


def from_styles(generator, styles):
    return draw(generator.get_layer("synthesis"), styles)


def level_count(generator):
    return generator.get_layer("synthesis").input_shape[1]


def truncated(generator, z, psi):
    """Rapproche chaque style du style moyen, puis dessine."""
    w = styles_of(generator, z)
    w = w.mean(axis=0) + psi * (w - w.mean(axis=0))
    return from_styles(generator, np.repeat(w[:, None], level_count(generator), axis=1))


def mixed(generator, w_a, w_b, levels):
    """Les styles de A, sauf à certains niveaux, où ce sont ceux de B."""
    styles = np.repeat(w_a[:, None], level_count(generator), axis=1)
    styles[:, levels] = w_b[:, None]
    return from_styles(generator, styles)


# %% [markdown]
# Entraînons-le plus longtemps que dans le classement. Puis, pour chaque $\psi$, les mesures
# habituelles ; et pour chaque niveau, ce que change le style d'une autre image : la part des
# vêtements qui changent de classe, d'après le juge, et l'écart moyen entre les pixels.

# %%
STYLE_STEPS = runtime.pick(quick=1, full=8_000, cpu=1_800)
PSIS = (0.3, 0.5, 0.7, 1.0, 1.3)


def swap_effects(generator, w_a, w_b):
    """Niveau par niveau : classes changées, écart entre les pixels."""
    plain = mixed(generator, w_a, w_a, [0])
    classes, found = seen_by_judge(plain)[1], []
    for level in range(level_count(generator)):
        after = mixed(generator, w_a, w_b, [level])
        found.append(
            {
                "classes": float(np.mean(seen_by_judge(after)[1] != classes)),
                "pixels": float(np.abs(after - plain).mean()),
            }
        )
    return found


# %%
def style_run():
    """Le générateur à style : la troncature, et ce que règle chaque niveau."""
    classifier()
    gan = make_gan(ON_IMAGES["à style"], image_networks, seed=0, faster=FASTER)
    play(gan, x_train, None, STYLE_STEPS)
    z = np.random.default_rng(1).standard_normal((SAMPLES, LATENT), "float32")
    w_a, w_b = np.split(styles_of(gan.generator, z), 2)
    drawn = {psi: truncated(gan.generator, z, psi) for psi in PSIS}
    return {
        "psi": {str(psi): judged(images) for psi, images in drawn.items()},
        "images": as_text(np.concatenate([images[:8] for images in drawn.values()])),
        "levels": swap_effects(gan.generator, w_a, w_b),
    }


style = experiment("style", style_run)

# %%
runtime.show_table(
    MEASURES,
    [
        measures_row(f"ψ = {number(float(psi), 1)}", m)
        for psi, m in style.values["psi"].items()
    ],
)

# %% [markdown]
# Les mêmes huit bruits, une ligne par valeur de $\psi$, de la plus petite à la plus grande :

# %%
figures.show(
    picture(montage(as_images(style.here["images"]), 8)),
    alt="Cinq lignes de huit vêtements, les mêmes bruits sur chacune : ψ vaut "
    f"{number(PSIS[0], 1)} en haut, où les images se ressemblent, et {number(PSIS[-1], 1)} en bas, "
    "où elles sont variées.",
)

# %% [markdown]
# De haut en bas, les vêtements s'éloignent les uns des autres ; tout en haut, ils tendent vers une
# même chose vague, l'image du style moyen. Le rappel dit la même chose : il tombe de 17 % à 1 %.
# L'article promet en échange de plus belles images. Pas ici : la précision ne monte pas quand
# $\psi$ baisse, et la distance de Fréchet est cinq fois plus grande à 0,3 qu'à 1,3. Le style moyen
# de beaucoup de visages est un visage ordinaire ; celui de dix sortes de vêtements n'est pas un
# vêtement.
#
# Et que règle chaque niveau ?

# %%
by_level = style.values["levels"]
runtime.show_table(
    ["niveau", "changent de classe", "écart des pixels"],
    [
        (f"{4 * 2**k} px", percent(found["classes"]), number(found["pixels"], 3))
        for k, found in enumerate(by_level)
    ],
)

# %% [markdown]
# Les niveaux grossiers décident : avec le style d'une autre image au niveau de 8 pixels, trois
# vêtements sur quatre changent de classe. Le plus fin en change encore un sur quatre, et déplace
# moins les pixels. Le réglage n'est donc pas *séparé* : aucun niveau ne s'occupe d'une chose, et
# d'elle seule.

# %% [markdown]
# ## Des visages, dessinés
#
# Les GAN sont connus pour leurs visages. Dans ce cours, aucun visage réel n'est publié : les nôtres
# sont dessinés par un programme, avec leur coupe et leur couleur de cheveux, leur teint, parfois
# des lunettes ou une barbe. Le même DCGAN, en couleurs, apprend à en dessiner d'autres.

# %%
FACES = runtime.pick(quick=64, full=20_000, cpu=3_000)
FACE_STEPS = runtime.pick(quick=1, full=8_000, cpu=2_000)
FACE_FILTERS = runtime.pick(quick=8, full=64, cpu=32)


def faces_run():
    """Le même DCGAN, en couleurs, sur des visages dessinés."""
    x = synthetic.faces(FACES, size=SIDE).images.astype("float32") / 127.5 - 1
    keras.utils.set_random_seed(0)
    gan = GAN(
        dcgan_generator(filters=FACE_FILTERS, channels=3),
        dcgan_discriminator(filters=FACE_FILTERS, channels=3),
    )
    gan.compile(run_eagerly=EAGER)
    play(gan, x, steps=FACE_STEPS)
    z = np.random.default_rng(1).standard_normal((24, LATENT), "float32")
    return {
        "real": as_text(x[:24]),
        "samples": as_text(draw(gan.generator, z)),
        "path": as_text(path(gan)),
    }


faces = experiment("faces", faces_run)

# %%
real_faces, samples = (as_images(faces.here[key])[:16] for key in ("real", "samples"))
figures.show(
    picture(
        montage(np.concatenate([real_faces, samples]), 8),
        "deux lignes du programme, puis deux du générateur",
    ),
    alt="Deux lignes de visages dessinés par le programme du cours ; dessous, deux lignes de "
    "visages dessinés par le générateur"
    + (
        ", un peu brouillés : cheveux, lunettes, col et fond se reconnaissent."
        if faces.full
        else "."
    ),
)

# %%
figures.show(
    picture(montage(as_images(faces.here["path"]), 8)),
    alt="Trois lignes de huit visages dessinés par le générateur : sur chacune, le premier "
    "devient peu à peu le dernier.",
)

# %% [markdown]
# À deux mille tours, les visages se tiennent : cheveux, lunettes, col, fond. Les détails (yeux,
# bouche) sont brouillés, et des attributs se mélangent. Entre deux bruits, la couleur des cheveux,
# celle du fond et la forme de la coupe changent peu à peu.

# %% [markdown]
# ### Des visages réglés
#
# Le générateur à style apprend les mêmes visages. Donnons aux niveaux grossiers (4 et 8 pixels) le
# style d'un visage B, et gardons aux niveaux fins celui d'un visage A ; puis l'inverse.

# %%
STYLE_FACE_STEPS = runtime.pick(quick=1, full=10_000, cpu=1_800)


def changes(before, after):
    """Ce qui a changé : la teinte moyenne, et le dessin (en gris, à clarté moyenne égale)."""
    tint = np.abs(after.mean(axis=(1, 2)) - before.mean(axis=(1, 2))).mean()
    grey = [images.mean(axis=3) for images in (before, after)]
    shape = [g - g.mean(axis=(1, 2), keepdims=True) for g in grey]
    return float(tint), float(np.abs(shape[1] - shape[0]).mean())


# %%
def style_faces_run():
    """Le générateur à style sur les visages dessinés : mélanges, et ce que change chaque niveau."""
    x = synthetic.faces(FACES, size=SIDE).images.astype("float32") / 127.5 - 1
    keras.utils.set_random_seed(0)
    generator = style_generator(channels=3)
    gan = GAN(generator, critic_network(channels=3), penalty=1.0)
    gan.compile(adam(1e-3, 0.0), adam(1e-3, 0.0), run_eagerly=EAGER)
    play(gan, x, steps=STYLE_FACE_STEPS)
    z = np.random.default_rng(1).standard_normal(
        (runtime.pick(quick=16, full=400), LATENT), "float32"
    )
    w_a, w_b = np.split(styles_of(generator, z), 2)
    plain = mixed(generator, w_a, w_a, [0])
    count = level_count(generator)
    coarse, fine = range(count // 2), range(count // 2, count)
    boards = {
        name: np.stack([mixed(generator, w_a[:6], w_b[[k]], levels) for k in range(3)])
        for name, levels in (("coarse", coarse), ("fine", fine))
    }
    swaps = [mixed(generator, w_a, w_b, [level]) for level in range(count)]
    return {
        "a": as_text(plain[:6]),
        "b": as_text(mixed(generator, w_b[:3], w_b[:3], [0])),
        "changes": [changes(plain, swap) for swap in swaps],
    } | {name: as_text(board) for name, board in boards.items()}


style_faces = experiment("style-faces", style_faces_run)


# %%
def mixing_board(values, key):
    """En haut, les visages A ; à gauche, les visages B ; au croisement, leurs mélanges."""
    mixes = as_images(values[key])
    blank = np.full((1, SIDE, SIDE, 3), 255, "uint8")
    rows = [np.concatenate([blank, as_images(values["a"])])]
    for b, row in zip(as_images(values["b"]), mixes):
        rows.append(np.concatenate([b[None], row]))
    return montage(np.concatenate(rows), 7)


# %%
for key, what in (("coarse", "grossiers"), ("fine", "fins")):
    figures.show(
        picture(
            mixing_board(style_faces.here, key),
            f"niveaux {what} : ceux de la colonne de gauche",
        ),
        alt=f"Un tableau de visages dessinés. En haut, six visages A ; à gauche, trois visages B ; "
        f"au croisement, A avec les niveaux {what} de B.",
    )

# %%
runtime.show_table(
    ["niveau", "teinte", "dessin", "part du dessin"],
    [
        (
            f"{4 * 2**k} px",
            number(tint, 3),
            number(shape, 3),
            percent(shape / (tint + shape)),
        )
        for k, (tint, shape) in enumerate(style_faces.values["changes"])
    ],
)

# %% [markdown]
# Presque tous les mélanges restent des visages, souvent très brouillés. Avec les niveaux grossiers
# de B (premier tableau), la silhouette et la coupe viennent de B, et les couleurs de A ; avec ses
# niveaux fins (second), le visage garde à peu près la coupe de A, et prend le fond, l'habit et la
# clarté de B. Mais ce n'est qu'une tendance : au plus grossier des niveaux, le dessin fait 73 % du
# changement ; aux deux plus fins, un peu moins des deux tiers. Le « contrôle précis » du document
# demande des réseaux bien plus grands.

# %% [markdown]
# ### De vrais visages ?
#
# Un réseau du même genre, bien plus gros, entraîné sur des photographies, dessine des personnes
# qui n'existent pas, et que l'on distingue mal des vraies. Les mêmes outils servent aux
# hypertrucages (*deepfakes*) : prêter à quelqu'un un visage, une voix, un acte. Trois repères.
#
# - **Consentement.** L'image d'une personne est une donnée à caractère personnel dès qu'on peut la
#   reconnaître : s'en servir pour entraîner un réseau demande une base légale
#   ([RGPD](https://eur-lex.europa.eu/eli/reg/2016/679/oj), articles 4 et 6). En France, porter à la
#   connaissance d'autrui, sans l'accord de la personne, un montage de son image ou un contenu
#   généré par un algorithme qui la représente est un délit, si son origine n'est ni évidente ni
#   annoncée (code pénal, article 226-8) ; à caractère sexuel, c'en est un même annoncé (article
#   226-8-1).
# - **Transparence.** Le règlement européen sur l'intelligence artificielle
#   ([2024/1689](https://eur-lex.europa.eu/eli/reg/2024/1689/oj), article 50) demande au fournisseur
#   de marquer les images produites, de façon lisible par une machine, et à qui publie un
#   hypertrucage de le dire.
# - **Détection.** Un détecteur entraîné sur un générateur reconnaît souvent aussi les images
#   d'autres réseaux convolutifs ([Wang et al., 2020](https://arxiv.org/abs/1912.11035)), pas
#   toutes ; c'est encore un discriminateur, et tout discriminateur peut servir à entraîner un
#   meilleur faussaire.

# %% [markdown]
# ## Robustesse
#
# ### Une grille de mauvais traitements
#
# Sur l'anneau, un lot d'un seul point au taux de 0,05, un lot de soixante-quatre au taux de
# 0,00005 : une perte peut être mauvaise, jamais `nan`.

# %%
HARSH = ((1, 1e-2), (64, 1e-5))  # points par lot, cinquième du taux d'apprentissage


def worst_treatments(recipe):
    """Pertes de deux tours : un seul point au grand taux, puis soixante-quatre au petit."""
    found = []
    for batch, rate in HARSH:
        harsh = recipe._replace(rates=(rate, rate), d_steps=1)
        gan = make_gan(harsh, ring_networks, seed=0)
        x, y = ring(batch)
        labels = y if recipe.classes else None
        found += [gan.train_on_batch(x, labels)["d_loss"] for _ in range(2)]
    return found


TREATED = runtime.pick(
    quick=("perte saturante", "WGAN-GP"),
    full=("perte saturante", "étiquettes lissées", "WGAN", "WGAN-GP"),
)  # toutes les pertes
losses = {name: worst_treatments(ON_RING[name]) for name in TREATED}
if not all(np.isfinite(values).all() for values in losses.values()):
    raise AssertionError("Une perte n'est plus un nombre.")
print(f"{sum(map(len, losses.values()))} pertes, toutes finies")

# %% [markdown]
# ### Enregistrer, relire
#
# Les recettes, couches maison comprises, doivent se relire et rendre les mêmes images ; leurs poids
# de départ suffisent à l'essai.


# %%
def saved_and_read(gan, z, labels=()):
    """Plus grand écart entre les images d'un GAN et celles de sa copie relue."""
    gan(with_labels(z, labels))  # un modèle se construit à son premier appel
    with TemporaryDirectory() as folder:
        gan.save(f"{folder}/gan.keras")
        again = keras.saving.load_model(f"{folder}/gan.keras")
    return float(
        np.abs(
            draw(gan.generator, z, *labels) - draw(again.generator, z, *labels)
        ).max()
    )


z = np.random.default_rng(0).standard_normal((4, LATENT), "float32")
kept = {}
for name in runtime.pick(
    quick=("norme spectrale", "à style"),
    full=("norme spectrale", "WGAN-GP", "conditionnel", "à style"),
):
    labels = (np.arange(4),) if ON_IMAGES[name].classes else ()
    kept[name] = saved_and_read(
        make_gan(ON_IMAGES[name], image_networks, seed=0), z, labels
    )
gap = max(kept.values())
print(f"{len(kept)} recettes relues, plus grand écart : {number(gap, 7) if gap else 0}")

# %% [markdown]
# ## À retenir
#
# - Face au meilleur discriminateur, $D^* = p/(p+q)$, le jeu mesure une divergence de
#   Jensen-Shannon. Le discriminateur **minimise** son erreur ; le générateur la veut grande.
# - La perte de la formule sature quand le générateur est mauvais ; celle que l'on emploie ne sature
#   pas, et le jeu n'est alors plus à somme nulle.
# - Avec Keras 3, l'ordre « compiler, geler, empiler » n'entraîne pas le discriminateur. Calculez le
#   gradient par rapport aux poids d'un seul réseau, et vérifiez qu'un seul bouge.
# - La perte d'un GAN ordinaire ne dit pas la qualité ; celle du critique de WGAN-GP l'a suivie.
#   Distance de Fréchet, précision, rappel, plus proches voisins : aucun ne suffit seul.
# - Un remède n'en est un que mesuré, sur vos données et à votre budget : la norme spectrale évite
#   l'effondrement sur l'anneau et ralentit tout sur les images ; « deux vitesses » fait moins bien
#   que la base sur l'un et sur les autres ; la pénalité de gradient gagne des deux côtés.

# %% [markdown]
# ## Exercices
#
# ### 1. Prédire, puis exécuter
#
# En un point $x$, la densité des vraies images vaut 0,3 et celle du générateur 0,1. Que répond le
# meilleur discriminateur ? Et que vaut $V(D^*, G)$ quand les deux distributions sont égales ?
# Remplacez les `None`.

# %%
my_answer = None
my_value = None

predict("réponse de D", my_answer, 0.3 / (0.3 + 0.1))
predict("V à l'équilibre", my_value, -2 * np.log(2))

# %% [markdown]
# <details>
# <summary>Solution</summary>
#
# $D^* = 0{,}3 / 0{,}4 = 0{,}75$. À l'équilibre $D^*$ vaut un demi partout : $V = 2 \log \tfrac12 =
# -\log 4 \approx -1{,}386$. Un discriminateur à 50 % n'est donc pas un mauvais signe en soi, s'il
# est le meilleur possible ; un discriminateur paresseux donne la même valeur.
#
# </details>

# %% [markdown]
# ### 2. La perte à charnière
#
# SAGAN et BigGAN emploient la *perte à charnière* : le discriminateur veut un score d'au moins 1
# pour les vraies images et d'au plus −1 pour les fausses, et ne se soucie plus de celles qui y
# sont.
#
# $$L_D = \mathbb{E}[(1 - r)_+] + \mathbb{E}[(1 + f)_+]$$
#
# où $r$ est le score d'une vraie image (`real`), $f$ celui d'une fausse (`fake`), et $(x)_+$ le
# plus grand de 0 et de $x$.
#
# Écrivez-la, avec NumPy ou `ops`.


# %%
def my_hinge(real, fake):
    raise NotImplementedError


# %% tags=["hide-input"] cellView="form"
# @title Vérifier l'exercice 2
def hinge_solution(real, fake):
    return ops.mean(ops.relu(1 - real)) + ops.mean(ops.relu(1 + fake))


def hinge_same_side(real, fake):
    return ops.mean(ops.relu(1 - real)) + ops.mean(ops.relu(1 - fake))


def hinge_no_margin(real, fake):
    return ops.mean(ops.relu(-real)) + ops.mean(ops.relu(fake))


def hinge_sum(real, fake):
    return ops.sum(ops.relu(1 - real)) + ops.sum(ops.relu(1 + fake))


EXERCISE_HINGE = Exercise(
    title="Exercice 2",
    reference=hinge_solution,
    cases=[
        (np.array([2.0, 0.5, -1.0], "float32"), np.array([-2.0, 0.0, 3.0], "float32")),
        (np.array([0.0, 1.0], "float32"), np.array([-0.5, -3.0], "float32")),
    ],
    mistakes={
        "Les fausses images doivent descendre sous −1 : leur signe change.": hinge_same_side,
        "Il manque la marge de 1.": hinge_no_margin,
        "La perte est une moyenne, pas une somme.": hinge_sum,
    },
)
EXERCISE_HINGE.check(my_hinge)

# %% tags=["hide-cell"] cellView="form"
# @title Solution de l'exercice 2
# relu(x) est max(0, x) ; une vraie image de score 2 ne compte plus.
EXERCISE_HINGE.check(hinge_solution)

# %% [markdown]
# ### 3. Compter les classes
#
# Écrivez la fonction qui compte les classes atteintes par un générateur : `classes` est un tableau,
# la classe (un entier) que le juge donne à chaque image ; `least`, la part minimale pour qu'une
# classe compte comme atteinte. La fonction rend un entier.


# %%
def my_reached_classes(classes, least=0.02):
    raise NotImplementedError


# %% tags=["hide-input"] cellView="form"
# @title Vérifier l'exercice 3
def reached_solution(classes, least=0.02):
    shares = np.bincount(classes) / len(classes)
    return int((shares >= least).sum())


def reached_any(classes, least=0.02):
    return len(np.unique(classes))


def reached_strict(classes, least=0.02):
    return int((np.bincount(classes) / len(classes) > least).sum())


EXERCISE_CLASSES = Exercise(
    title="Exercice 3",
    reference=reached_solution,
    cases=[
        (np.repeat([0, 3, 7], [60, 39, 1]),),
        (np.repeat([1, 2], [50, 50]), 0.6),
        (np.repeat([0, 1], [98, 2]),),
        (np.arange(100) % 10,),
    ],
    mistakes={
        "Une seule image ne suffit pas : comparez la part de chaque classe à `least`.": reached_any,
        "« Au moins » comprend l'égalité.": reached_strict,
    },
)
EXERCISE_CLASSES.check(my_reached_classes)

# %% tags=["hide-cell"] cellView="form"
# @title Solution de l'exercice 3
# bincount compte, la division donne les parts, la comparaison choisit.
EXERCISE_CLASSES.check(reached_solution)

# %% [markdown]
# ### 4. Expliquer
#
# Un camarade vous montre un GAN dont la perte du générateur baisse régulièrement depuis une heure,
# et dont le discriminateur ne dépasse plus 50 % de réussite. Il en conclut que l'équilibre est
# proche. Que lui demandez-vous de mesurer ?
#
# <details>
# <summary>Solution</summary>
#
# Trois choses. Le discriminateur apprend-il encore (ses poids bougent-ils) ? Avec le code du
# document, il ne bouge jamais, et le générateur gagne contre un expert figé. Ensuite la qualité,
# par un juge extérieur : distance de Fréchet et précision. Enfin la variété : rappel, ou classes
# atteintes. Un générateur effondré sur une image qui trompe un discriminateur affaibli a une perte
# excellente.
#
# </details>

# %% [markdown]
# ### 5. Pour aller plus loin
#
# Sur l'anneau, la recette « deux vitesses » fait perdre des modes. Essayez l'inverse : un
# générateur quatre fois plus rapide que le discriminateur. Combien de modes restent ?
#
# ```python
# EAGER, BATCH = False, 64  # utile en profil rapide : des tours compilés, de vrais lots
# game = ring_game(Recipe(rates=(1e-4, 4e-4)), seed=0, steps=3_000)
# print(game["modes"], game["good"])
# ```
#
# Puis donnez au discriminateur des paquets de deux points au lieu d'un seul (l'idée de *PacGAN*) :
# que devient l'effondrement ?
#
# <details>
# <summary>Piste</summary>
#
# Ce générateur plus rapide atteint les huit modes à chacune de nos trois graines, mieux que la
# recette de base : tout dépend de qui a la vitesse. Pour les paquets, une couche au début du
# discriminateur suffit : `ops.reshape(x, (-1, 4))` change un lot de points en deux fois moins de
# paires. Un générateur effondré donne alors deux points voisins, ce qui se voit. Jouez plusieurs
# graines, et comptez aussi les points bien placés.
#
# </details>

# %% [markdown]
# ## Ce que nous avons vérifié

# %%
summary()

# %% [markdown]
# ## Références
#
# - I. Goodfellow et al., [Generative adversarial networks](https://arxiv.org/abs/1406.2661), 2014.
# - A. Radford et al., [Unsupervised representation learning with deep convolutional
#   GANs](https://arxiv.org/abs/1511.06434), 2015 : DCGAN.
# - M. Arjovsky et al., [Wasserstein GAN](https://arxiv.org/abs/1701.07875), 2017 ; I. Gulrajani et
#   al., [Improved training of Wasserstein GANs](https://arxiv.org/abs/1704.00028), 2017.
# - M. Mirza, S. Osindero, [Conditional generative adversarial
#   nets](https://arxiv.org/abs/1411.1784), 2014.
# - T. Karras et al., [A style-based generator architecture](https://arxiv.org/abs/1812.04948),
#   2019, et [Analyzing and improving the image quality of
#   StyleGAN](https://arxiv.org/abs/1912.04958), 2020.
# - T. Salimans et al., [Improved techniques for training GANs](https://arxiv.org/abs/1606.03498),
#   2016 : étiquettes lissées ; C. K. Sønderby et al., [Amortised MAP
#   inference](https://arxiv.org/abs/1610.04490), 2017 : bruit d'instance.
# - T. Miyato et al., [Spectral normalization](https://arxiv.org/abs/1802.05957), 2018.
# - M. Heusel et al., [GANs trained by a two time-scale update
#   rule](https://arxiv.org/abs/1706.08500), 2017 : deux vitesses, et la distance de Fréchet.
# - T. Kynkäänniemi et al., [Improved precision and recall](https://arxiv.org/abs/1904.06991), 2019.
# - H. Zhang et al., [SAGAN](https://arxiv.org/abs/1805.08318), 2018, et A. Brock et al.,
#   [BigGAN](https://arxiv.org/abs/1809.11096), 2018 : la perte à charnière.
# - L. Mescheder et al., [Which training methods for GANs do actually
#   converge?](https://arxiv.org/abs/1801.04406), 2018 : les oscillations.
# - Z. Lin et al., [PacGAN](https://arxiv.org/abs/1712.04086), 2018.
