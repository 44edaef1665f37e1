# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # L'apprentissage par transfert
#
# > **Objectifs.** À la fin de ce chapitre, vous saurez :
# > - réutiliser un réseau déjà entraîné, de trois façons, et dire ce que chacune coûte ;
# > - éviter quatre pièges : prétraitement oublié, normalisation par lots qui dérive, taux
# >   d'apprentissage trop grand, fuite de données ;
# > - choisir un scénario d'après la taille de vos données et leur ressemblance avec celles du
# >   réseau, mesures à l'appui ;
# > - mettre à l'épreuve ce qu'on dit des réseaux convolutifs, en bien et en mal ;
# > - entraîner le même réseau sur plusieurs appareils.
#
# | | |
# |:--|:--|
# | **Prérequis** | chapitres 1, 2 et [3](03_architectures.ipynb) (ImageNet, normalisation) |
# | **Document étudié** | 004, chapitre 2 : optimiser les réseaux à convolution |
# | **Données** | Fashion-MNIST, ISBI 2012, Oxford-IIIT Pet ; hors ligne, images dessinées |
# | **Durée** | une heure et quart de lecture, autant d'exercices ; exécution rapide : 45 secondes |
#
# > **Plan.** Les cinq premières sections portent la leçon : trois scénarios, quatre pièges, des
# > mesures. Les *cinq avantages* et les *cinq inconvénients* se lisent sans ordre. *Une
# > machine plus grande* ne sert qu'à qui a plusieurs cartes graphiques.
#
# Un réseau entraîné sur une tâche en sait-il assez pour une autre ? C'est la question de
# l'***apprentissage par transfert***. Le document y répond par des listes : trois scénarios, deux
# contraintes, cinq avantages, cinq inconvénients. Nous allons **mettre à l'épreuve** chaque ligne
# que l'on peut exécuter, et dire lesquelles ne le peuvent pas.

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
import inspect
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from time import perf_counter
from typing import NamedTuple

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import layers, ops
from scipy import ndimage, stats
from skimage.feature import hog
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from utils import datasets, figures, runtime, zoo
from utils.autodiff import value_and_grad
from utils.execute import experiment
from utils.exercises import Exercise, predict
from utils.figures import number, percent, spread
from utils.verdicts import french, summary, verdict

# %% [markdown]
# Les principales tailles du chapitre sont choisies ici.

# %%
SEEDS = runtime.pick(quick=(0,), full=(0, 1, 2))
SOURCE_IMAGES = runtime.pick(quick=96, full=12_000)
SIZES = runtime.pick(quick=(32,), full=(20, 100, 1_000, 5_000))
TEST_IMAGES = runtime.pick(quick=100, full=2_000)
UPDATES = runtime.pick(quick=1, full=200)  # en rapide, un lot suffit
EPOCHS = runtime.pick(quick=1, full=6)
SOME = runtime.pick(quick=32, full=1_000)  # images d'une tâche cible
FEW = runtime.pick(quick=32, full=100)
BATCH = 32
EAGER = runtime.pick(quick=True, full=False)  # compiler coûte plus que quelques pas

runtime.start("04_transfer_learning")
garments = datasets.garments()
membranes = datasets.membranes()
pets = datasets.pets(size=96, limit=runtime.pick(quick=30, full=None))
runtime.banner(garments, membranes, pets)

# %% [markdown]
# ## Un réseau, deux tâches nouvelles
#
# Il nous faut un réseau *source*, déjà entraîné, et des tâches *cibles* pour lesquelles il ne l'a
# pas été. Pour tout mesurer plusieurs fois, prenons-le petit : un réseau de cinq convolutions, qui
# apprend six des dix classes de Fashion-MNIST. Le vrai réseau, entraîné sur ImageNet, viendra
# ensuite, et passera par les mêmes fonctions.
#
# - La ***tâche source*** : six classes de vêtements.
# - La cible *semblable* : les quatre autres classes, dans des images de la même collection.
# - La cible *différente* : des tissus nerveux au microscope électronique. Il faut dire si un carré
#   d'image contient peu ou beaucoup de membranes.


# %%
class Task(NamedTuple):
    x: np.ndarray  # (n, h, w, canaux)
    y: np.ndarray  # (n,)
    x_test: np.ndarray
    y_test: np.ndarray

    @property
    def classes(self):
        return len(np.unique(self.y))


def to_input(images):
    """Octets (n, h, w) -> réels de 0 à 1, avec un canal : (n, h, w, 1)."""
    return images[..., None].astype("float32") / 255


# %%
SOURCE_CLASSES, TARGET_CLASSES = (0, 1, 2, 3, 5, 7), (4, 6, 8, 9)


def garment_task(classes, limit=None):
    """Les images de quelques classes, renumérotées à partir de 0."""
    parts = []
    for images, labels, most in (
        (garments.x_train, garments.y_train, limit),
        (garments.x_test, garments.y_test, TEST_IMAGES),
    ):
        kept = np.isin(labels, classes)
        parts += [to_input(images[kept][:most])]
        parts += [np.searchsorted(classes, labels[kept][:most])]
    return Task(*parts)


# %% [markdown]
# Les carrés d'entraînement viennent de vingt coupes, ceux de test des dix autres : deux carrés de
# la même coupe peuvent se recouvrir, et le premier donnerait la réponse du second. Nous y
# reviendrons.


# %%
def membrane_squares(slices, n, side, seed, limits=None):
    """Carrés tirés au hasard : la moitié pauvres en membranes (0), l'autre riches (1).

    `limits` : part de membrane au-dessous et au-dessus de laquelle un carré est pauvre, ou riche ;
    par défaut, les tiers. -> octets (n, side, side), étiquettes (n,), les deux limites.
    """
    rng = np.random.default_rng(seed)
    images, labels = membranes.images[slices], membranes.labels[slices]
    places = rng.integers(
        (len(images), *np.subtract(images.shape[1:], side)), size=(4 * n, 3)
    )
    windows = [
        np.s_[k, row : row + side, column : column + side] for k, row, column in places
    ]
    share = np.array([np.mean(labels[window] == 0) for window in windows])
    limits = np.quantile(share, (1 / 3, 2 / 3)) if limits is None else limits
    kept = [np.flatnonzero(share <= limits[0]), np.flatnonzero(share >= limits[1])]
    order = rng.permutation(np.concatenate([which[: n // 2] for which in kept]))
    squares = np.stack([images[windows[k]] for k in order])
    return squares, (share[order] >= limits[1]).astype(int), limits


# %% [markdown]
# La tâche elle-même, dans des carrés réduits à la taille des vêtements.


# %%
def membrane_task(n, side, prepare):
    """Vingt coupes pour apprendre, dix pour juger."""
    x, y, limits = membrane_squares(slice(0, 20), n, side, seed=0)
    x_test, y_test, _ = membrane_squares(
        slice(20, 30), TEST_IMAGES, side, seed=1, limits=limits
    )
    return Task(prepare(x), y, prepare(x_test), y_test)


def halved(squares):
    """Carrés de 56 points réduits à 28 : la taille des vêtements."""
    n = len(squares)
    return to_input(squares.reshape(n, 28, 2, 28, 2).mean(axis=(2, 4)))


# %%
SOURCE = garment_task(SOURCE_CLASSES, SOURCE_IMAGES)
TASKS = {
    "semblable": garment_task(TARGET_CLASSES),
    "différente": membrane_task(6_000, 56, halved),
}
names = [garments.class_names[k] for k in TARGET_CLASSES]
label_names = {"semblable": names, "différente": ["peu", "beaucoup"]}

# %% [markdown]
# Voici quatre images de chaque tâche.

# %%
shown = [task.x[:4] for task in TASKS.values()]
figures.show(
    figures.grid(
        [image for images in shown for image in images],
        titles=[
            label_names[name][label]
            for name, task in TASKS.items()
            for label in task.y[:4]
        ],
        columns=4,
        row_labels=list(TASKS),
    ),
    alt="Quatre images de chaque tâche. Semblable : "
    + ", ".join(names[k] for k in TASKS["semblable"].y[:4])
    + ". Différente : des tissus gris et bruités, traversés de membranes sombres.",
)

# %% [markdown]
# Un vêtement a une forme, toujours au centre ; un tissu n'est qu'une texture, sans centre ni haut.
#
# Le réseau ne se termine pas par `Flatten` : une moyenne globale ([chapitre
# 2](02_layers_and_training.ipynb)) résume chacune des 64 dernières cartes par un nombre. Ce vecteur
# de 64 caractéristiques est ce que nous réutiliserons. Le réseau qui le calcule est la ***base*** ;
# la couche dense que l'on pose dessus, propre à une tâche, est la ***tête***. Les statistiques de
# la normalisation par lots suivent vite (`momentum=0.9`) : avec la valeur de Keras, 0,99, elles
# auraient du retard après si peu de mises à jour.


# %%
STAGES = ((16, 1), (32, 2), (32, 1), (64, 2), (64, 1))  # filtres, pas


def small_network():
    """La base : image (28, 28, 1) -> 64 caractéristiques."""
    x = inputs = keras.Input((28, 28, 1))
    for k, (filters, strides) in enumerate(STAGES, start=1):
        x = layers.Conv2D(
            filters, 3, strides, padding="same", use_bias=False, name=f"conv{k}"
        )(x)
        x = layers.BatchNormalization(momentum=0.9, name=f"norm{k}")(x)
        x = layers.ReLU(name=f"relu{k}")(x)
    return keras.Model(inputs, layers.GlobalAveragePooling2D()(x), name="small")


def classifier(base, classes):
    """Pose sur une base une couche dense, qui rend des scores : la *tête*."""
    inputs = keras.Input(base.input_shape[1:])
    return keras.Model(inputs, layers.Dense(classes, name="head")(base(inputs)))


# %% [markdown]
# Une seule fonction entraîne tous les réseaux du chapitre. Pour comparer des tailles très
# différentes, elle assure un nombre minimal de mises à jour : vingt images sont vues beaucoup plus
# de fois que cinq mille.


# %%
def fit(model, x, y, rate, updates=UPDATES, batch=BATCH, **options):
    """Entraîne un réseau qui rend des scores : `EPOCHS` époques, `updates` mises à jour au moins.

    Peu nombreuses, les images sont répétées, pour qu'une époque compte une dizaine de lots.
    """
    times = max(1, min(updates, 10) * batch // len(x))
    x, y = np.concatenate([x] * times), np.concatenate([y] * times)
    epochs = -(-updates * batch // len(x))
    if times == 1:
        epochs = max(epochs, EPOCHS)
    model.compile(
        optimizer=keras.optimizers.Adam(rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        run_eagerly=EAGER,
    )
    return model.fit(x, y, batch, epochs, verbose=0, **options).history


def scores(model, x):
    """Sorties d'un réseau, en mode d'inférence, par paquets : (n, ...)."""
    packs = np.array_split(x, len(x) // 500 + 1)
    return np.concatenate(
        [ops.convert_to_numpy(model(pack, training=False)) for pack in packs]
    )


def accuracy(model, x, y):
    """Part des images dont le plus haut score est celui de la bonne classe."""
    return np.mean(scores(model, x).argmax(axis=-1) == y)


# %%
def source_model():
    keras.utils.set_random_seed(0)
    model = classifier(small_network(), SOURCE.classes)
    fit(model, SOURCE.x, SOURCE.y, 1e-3)
    return model


SOURCE_MODEL = source_model()
BASE = SOURCE_MODEL.get_layer("small")
source_accuracy = accuracy(SOURCE_MODEL, SOURCE.x_test, SOURCE.y_test)
print(f"{number(BASE.count_params(), 0)} paramètres dans la base")
print(f"exactitude de test sur les six classes source : {number(source_accuracy, 3)}")

# %% [markdown]
# ## Partir de zéro, geler, affiner
#
# « Plutôt que de former un modèle à partir de zéro, l'apprentissage par transfert consiste à
# utiliser un modèle pré-entraîné sur une tâche similaire comme point de départ, puis à l'adapter à
# une nouvelle tâche spécifique. » Le document en donne trois façons : l'extracteur fixe,
# l'affinage, le modèle publié. Les deux premières d'abord, et leur point de comparaison.
#
# ### À partir de zéro
#
# « L'entraînement d'un réseau à convolution à partir de zéro […] implique l'initialisation du
# réseau avec des poids aléatoires. » La même architecture, donc, sans
# rien de ce que la source a appris. Un réseau non entraîné répond-il vraiment au hasard ?


# %%
def blank_copy(base):
    """La même architecture, de nouveaux poids ; des statistiques de normalisation rapides."""
    copy = keras.models.clone_model(base)
    for layer in copy.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = 0.9
    return copy


def from_scratch(base, x, y, classes, **budget):
    """Tout est à apprendre, base et tête."""
    model = classifier(blank_copy(base), classes)
    fit(model, x, y, 1e-3, **budget)
    return model


target = TASKS["semblable"]
guesses = []
for seed in range(5):
    keras.utils.set_random_seed(seed)
    blank = classifier(blank_copy(BASE), target.classes)
    guesses.append(accuracy(blank, target.x_test, target.y_test))
print("réseaux au hasard :", " ; ".join(number(guess) for guess in guesses))
verdict("transfer-scratch-random", np.mean(guesses))

# %% [markdown]
# En moyenne, une réponse sur quatre est juste : ce que donnerait un dé à quatre faces.
#
# ### Un extracteur de caractéristiques fixe
#
# « On supprime la dernière couche entièrement connectée […], puis on traite le reste du CNN comme
# un extracteur de caractéristiques fixes. » Les poids de la base sont ***gelés***
# (`trainable = False`) ; seule la nouvelle tête apprend. Puisque la base ne change pas, la sortie
# qu'elle donne à une image ne change pas non plus : calculons-la **une fois**, et entraînons la
# tête sur ces vecteurs.


# %%
def duplicate(base):
    """Une copie, poids compris : l'original servira à tous les essais."""
    copy = keras.models.clone_model(base)
    copy.set_weights(base.get_weights())
    return copy


def frozen(base, x, y, classes, **_):
    """Base gelée ; la tête apprend sur des caractéristiques calculées une seule fois."""
    features = scores(base, x)
    inputs = keras.Input(features.shape[1:])
    head = keras.Model(inputs, layers.Dense(classes)(inputs))
    fit(head, features, y, rate=1e-2)
    model = classifier(duplicate(base), classes)
    model.layers[1].trainable = False
    model.layers[-1].set_weights(head.layers[-1].get_weights())
    return model


# %% [markdown]
# Vérifions deux choses : il ne reste que les paramètres de la tête à apprendre ; le réseau complet,
# image en entrée, répond comme la tête sur les vecteurs.

# %%
few_x, few_y = target.x[:SOME], target.y[:SOME]
keras.utils.set_random_seed(0)
model = frozen(BASE, few_x, few_y, target.classes)
learned = sum(np.prod(weight.shape) for weight in model.trainable_weights)
print(f"{learned} paramètres appris sur {number(model.count_params(), 0)}")
kernel, bias = model.layers[-1].get_weights()
by_hand = scores(BASE, target.x_test) @ kernel + bias
assert np.allclose(scores(model, target.x_test), by_hand, atol=1e-3)
print(f"exactitude : {number(accuracy(model, target.x_test, target.y_test), 3)}")

# %% [markdown]
# Continuons l'entraînement, images en entrée cette fois, à travers la base gelée : elle ne doit pas
# bouger d'un bit, statistiques de normalisation comprises. Le document écrit « le transfert
# d'apprentissage (fine-tuning) », comme si transférer voulait dire continuer d'apprendre les poids
# de la base : si elle ne bouge pas, c'est faux.

# %%
fit(model, few_x, few_y, rate=1e-3)
unchanged = all(
    np.array_equal(before, after)
    for before, after in zip(BASE.get_weights(), model.layers[1].get_weights())
)
verdict("transfer-frozen-fixed", unchanged)
verdict("transfer-synonym", not unchanged)

# %% [markdown]
# ### L'affinage
#
# « Affiner les poids du réseau pré-entraîné en poursuivant la rétropropagation. » L'***affinage***
# (*fine-tuning*) part du modèle précédent, base et tête, puis libère les poids et continue, **à
# petit pas** : un taux d'apprentissage dix fois plus petit qu'à partir de zéro. La tête a déjà
# appris : partie du hasard, elle risquerait d'envoyer dans la base de grands gradients sans
# signification. Pour une raison que nous verrons bientôt, les normalisations restent gelées.


# %%
def thaw(base, kept=0):
    """Libère une base, sauf ses `kept` premières couches et toutes ses normalisations."""
    base.trainable = True
    for k, layer in enumerate(base.layers):
        if k < kept or isinstance(layer, layers.BatchNormalization):
            layer.trainable = False


def fine_tuned(base, x, y, classes, rate=1e-4, kept=0, **budget):
    """D'abord la tête seule, puis la base avec elle, à petit pas."""
    model = frozen(base, x, y, classes)
    thaw(model.layers[1], kept)
    fit(model, x, y, rate, **budget)
    return model


# %% [markdown]
# Relisons le document : « il est possible de régler avec précision toutes les couches du CNN,
# **ou** il est possible d'affiner toutes les couches **ou** seulement les couches supérieures ».
# Les deux premières branches sont la même ; la troisième garde fixes les premières couches.
# Gelons-en plus ou moins.

# %%
KEPT = {"aucune": 0, "conv1 à conv2": 7, "conv1 à conv4": 13, "toutes": 17}


def sample(task, size, seed):
    """`size` images tirées au hasard, classes également servies."""
    x, _, y, _ = train_test_split(
        task.x, task.y, train_size=size, stratify=task.y, random_state=seed
    )
    return x, y


def kept_run():
    found = {}
    for name, kept in runtime.pick(quick={"aucune": 0}, full=KEPT).items():
        found[name] = {kind: [] for kind in TASKS}
        for kind, task in TASKS.items():
            for seed in SEEDS:
                keras.utils.set_random_seed(seed)
                x, y = sample(task, SOME, seed)
                model = fine_tuned(BASE, x, y, task.classes, kept=kept)
                found[name][kind].append(accuracy(model, task.x_test, task.y_test))
    return found


tuned = experiment("kept", kept_run)

# %%
shown = tuned.values
rows = [
    (name, *(spread(accuracies) for accuracies in found.values()))
    for name, found in shown.items()
]
runtime.show_table(("couches gelées", *(f"cible {kind}" for kind in TASKS)), rows)

# %%
keras.utils.set_random_seed(0)
changed = {}
for name, kept in (("toutes", 0), ("supérieures", KEPT["conv1 à conv2"])):
    freed = fine_tuned(BASE, few_x[:FEW], few_y[:FEW], target.classes, kept=kept)
    base = freed.layers[1]
    changed[name] = [
        not np.array_equal(base.get_layer(conv).kernel, BASE.get_layer(conv).kernel)
        for conv in (f"conv{k}" for k in range(1, len(STAGES) + 1))
    ]
for name, moved in changed.items():
    print(
        f"couches libérées, {name} : {sum(moved)} convolutions sur {len(moved)} ont changé"
    )
verdict(
    "transfer-fine-tuning-choices",
    changed == {"toutes": [True] * 5, "supérieures": [False] * 2 + [True] * 3},
)

# %% [markdown]
# Avec mille images, plus on libère de couches, mieux on fait ; réapprendre les deux premières ne
# rapporte guère. Sur les vêtements, la dernière couche et les deux du milieu se partagent le gain ;
# sur les membranes, l'essentiel vient du milieu.
#
# ### Va-t-on plus vite ?
#
# Le transfert doit permettre « d'accélérer le processus d'apprentissage ». Suivons l'exactitude
# époque par époque, sur mille images.


# %%
def speed_run():
    task, found = TASKS["semblable"], {"zéro": [], "affiné": []}
    judged = {"validation_data": (task.x_test[:1_000], task.y_test[:1_000])}
    for seed in SEEDS:
        x, y = sample(task, SOME, seed)
        keras.utils.set_random_seed(seed)
        scratch = classifier(blank_copy(BASE), task.classes)
        tuned = frozen(BASE, x, y, task.classes)
        start = accuracy(tuned, *judged["validation_data"])
        thaw(tuned.layers[1])
        for name, model, rate in (("zéro", scratch, 1e-3), ("affiné", tuned, 1e-4)):
            history = fit(model, x, y, rate, 2 * UPDATES, **judged)
            found[name].append(history["val_accuracy"])
        found.setdefault("gelé", []).append(start)
    return found


speed = experiment("speed", speed_run)

# %%
shown = speed.values
fig = figures.curves(
    {name: shown[name] for name in ("zéro", "affiné")},
    xlabel="époque",
    ylabel="exactitude, cible semblable",
    levels={"base gelée": np.mean(shown["gelé"])},
)
means = {name: np.mean(shown[name], axis=0) for name in ("zéro", "affiné")}
figures.show(
    fig,
    alt="Exactitude époque par époque. À partir de zéro, elle passe de "
    f"{number(means['zéro'][0])} à {number(means['zéro'][-1])} ; en affinant, de "
    f"{number(means['affiné'][0])} à {number(means['affiné'][-1])}. Base gelée : "
    f"{number(np.mean(shown['gelé']))}.",
)


# %%
def epochs_to(curve, level):
    """Première époque (à partir de 1) où la courbe atteint un niveau ; sinon, une de plus."""
    return int(np.argmax(curve >= level)) + 1 if max(curve) >= level else len(curve) + 1


full = speed.full
if full:
    curves = {name: np.mean(full[name], axis=0) for name in ("affiné", "zéro")}
    summit = curves["zéro"].max()
    for level in (summit, 0.95 * summit):
        reached = [epochs_to(curve, level) for curve in curves.values()]
        print(
            f"exactitude {number(level, 3)} : à l'époque {reached[0]} en affinant, "
            f"{reached[1]} à partir de zéro"
        )
verdict("transfer-accelerates", full and reached[1] / reached[0])

# %% [markdown]
# Une fois la tête apprise, la première époque d'affinage donne ce que le réseau parti de zéro met
# quatre époques à apprendre. À l'arrivée, l'avance se réduit à une époque ; mais l'affinage
# progresse sans à-coups, et finit plus haut.
#
# ## Quatre pièges
#
# ### Le prétraitement oublié
#
# Une base ne comprend que les images préparées comme à son apprentissage. Donnons à la nôtre des
# pixels de 0 à 255 au lieu de 0 à 1 : aucune erreur n'apparaît, et rien ne va plus.

# %%
forgotten = accuracy(SOURCE_MODEL, 255 * SOURCE.x_test, SOURCE.y_test)
print(f"tâche source : {number(source_accuracy, 3)}, puis {number(forgotten, 3)}")

keras.utils.set_random_seed(0)
relearned = frozen(BASE, 255 * few_x, few_y, target.classes)
rows = [
    ("bonne, bonne", accuracy(model, target.x_test, target.y_test)),
    ("bonne, oubliée", accuracy(model, 255 * target.x_test, target.y_test)),
    ("oubliée, oubliée", accuracy(relearned, 255 * target.x_test, target.y_test)),
]
runtime.show_table(
    ("préparation à l'apprentissage, au test", "cible semblable"),
    [(name, number(value, 3)) for name, value in rows],
)

# %% [markdown]
# L'erreur au test seul se voit : l'exactitude s'effondre. Faite des deux côtés, elle est plus
# sournoise : la tête s'y adapte, l'exactitude paraît plausible, et rien ne dit ce que l'on a perdu.
#
# ### La normalisation par lots qui dérive
#
# « Geler » une base veut dire deux choses : ne plus apprendre ses poids, et ne plus mettre à jour
# les *statistiques* de ses normalisations. `layer.trainable = False` fait les deux. Trois façons de
# s'y tromper :
#
# - ne geler que les poids (`variable.trainable = False`, ou `requires_grad = False` dans PyTorch) :
#   les normalisations restent en mode d'entraînement, et leurs moyennes glissent à chaque lot ;
# - libérer toute la base pour l'affiner, normalisations comprises ;
# - appeler la base avec `training=False`, comme le [guide officiel de
#   Keras](https://keras.io/guides/transfer_learning/) le recommande.
#
# Commençons par la dernière.

# %%
keras.utils.set_random_seed(0)
inputs = keras.Input((28, 28, 1))
trusted = duplicate(BASE)
outputs = layers.Dense(target.classes)(trusted(inputs, training=False))
fit(keras.Model(inputs, outputs), few_x[:FEW], few_y[:FEW], rate=1e-4)
norm, before = trusted.get_layer("norm1"), BASE.get_layer("norm1")
drifted = not np.allclose(norm.get_weights()[2], before.get_weights()[2])
print(f"les moyennes ont bougé malgré training=False : {french(drifted)}")

# %% [markdown]
# Dans la version de Keras employée ici, `fit` appelle le modèle avec `training=True`, et cette
# valeur l'emporte sur celle que l'on a donnée en le construisant ([la remarque a été faite à
# Keras](https://github.com/keras-team/keras/issues/20285)). C'est pourquoi notre fonction `thaw`
# gèle les normalisations une par une. Que coûte chaque erreur, avec cent images ?


# %%
def frozen_weights_only(base, x, y, classes):
    """Le piège : aucun poids de la base n'apprend, mais ses statistiques changent."""
    model = classifier(duplicate(base), classes)
    for variable in model.layers[1].trainable_variables:
        variable.trainable = False
    fit(model, x, y, rate=1e-2)
    return model


def fine_tuned_whole(base, x, y, classes):
    """L'autre piège : affiner sans geler les normalisations."""
    model = frozen(base, x, y, classes)
    model.layers[1].trainable = True
    fit(model, x, y, rate=1e-4)
    return model


# %% [markdown]
# Chaque façon de faire est jugée deux fois : sur la cible, et sur l'ancienne tâche, que la base
# rejoue avec son ancienne tête.

# %%
FREEZING = {
    "gelée": frozen,
    "poids gelés seulement": frozen_weights_only,
    "affinée": fine_tuned,
    "affinée, statistiques libres": fine_tuned_whole,
}


def drift_run():
    found = {kind: {} for kind in TASKS}
    for kind, task in runtime.pick(
        quick={"différente": TASKS["différente"]}, full=TASKS
    ).items():
        for name, strategy in FREEZING.items():
            rows = found[kind][name] = {"target": [], "source": []}
            for seed in SEEDS:
                keras.utils.set_random_seed(seed)
                model = strategy(BASE, *sample(task, FEW, seed), task.classes)
                former = classifier(model.layers[1], SOURCE.classes)
                former.layers[-1].set_weights(SOURCE_MODEL.layers[-1].get_weights())
                for what, network, judge in (
                    ("target", model, task),
                    ("source", former, SOURCE),
                ):
                    rows[what].append(accuracy(network, judge.x_test, judge.y_test))
    return found


drift = experiment("drift", drift_run)

# %%
runtime.show_table(
    ("cible", "base", "exactitude sur la cible", "sur la tâche source, après coup"),
    [
        (kind, name, spread(rows["target"]), spread(rows["source"]))
        for kind, found in drift.values.items()
        for name, rows in found.items()
    ],
)

# %% [markdown]
# Sur la cible semblable, les erreurs ne coûtent rien : tous les vêtements ont à peu près les mêmes
# statistiques. Sur la différente, la base dont seuls les poids étaient gelés ne sait presque plus
# rien de sa tâche source, **sans qu'un seul poids ait changé**. La cible n'en souffre pas ; elle y
# gagne même deux points, puisque les statistiques sont devenues les siennes ([une méthode
# d'adaptation](https://arxiv.org/abs/1603.04779) en est née). (Le tableau vient d'une exécution
# enregistrée ; la base de cette page, réapprise, peut différer de la sienne de quelques points.)
#
# Le danger est donc de croire fixe une base qui ne l'est pas. On ne peut plus la partager entre
# plusieurs têtes, ni calculer ses caractéristiques une fois pour toutes. L'affinage fait lui aussi
# oublier la source ; sur la cible différente, beaucoup moins quand les normalisations restent
# gelées (sur la semblable, c'est l'inverse). Gelez-les donc si la base doit encore servir à autre
# chose.
#
# ### Un taux d'apprentissage trop grand
#
# Une base affinée à grands pas peut oublier ce qu'elle savait. Avec cent images de la cible
# semblable, essayons cinq taux.

# %%
RATES = runtime.pick(quick=(1e-4,), full=(1e-5, 1e-4, 1e-3, 1e-2, 1e-1))


def rates_run():
    task = TASKS["semblable"]
    found = {"rates": RATES, "tuned": [], "frozen": [], "scratch": []}
    for seed in SEEDS:
        x, y = sample(task, FEW, seed)
        for name, strategy in (("frozen", frozen), ("scratch", from_scratch)):
            keras.utils.set_random_seed(seed)
            model = strategy(BASE, x, y, task.classes)
            found[name].append(accuracy(model, task.x_test, task.y_test))
        row = []
        for rate in RATES:
            keras.utils.set_random_seed(seed)
            model = fine_tuned(BASE, x, y, task.classes, rate)
            row.append(accuracy(model, task.x_test, task.y_test))
        found["tuned"].append(row)
    return found


rates = experiment("rates", rates_run)

# %%
shown = rates.values
fig = figures.curves(
    {"base affinée": shown["tuned"]},
    x=shown["rates"],
    xlabel="taux d'apprentissage de l'affinage",
    ylabel="exactitude, cible semblable",
    levels={"base gelée": np.mean(shown["frozen"])},
)
fig.axes[0].set_xscale("log")
means = np.mean(shown["tuned"], axis=0)
figures.show(
    fig,
    alt="Exactitude selon le taux d'apprentissage de l'affinage : "
    + ", ".join(
        f"{number(m)} pour {number(r, -round(np.log10(r)))}"
        for r, m in zip(shown["rates"], means)
    )
    + f". Base gelée : {number(np.mean(shown['frozen']))} ; à partir de zéro : "
    f"{number(np.mean(shown['scratch']))}.",
)

# %% [markdown]
# De 0,0001 à 0,001, l'affinage gagne quatre points sur la base gelée. À 0,01, il tombe au-dessous ;
# à 0,1, deux graines retombent au niveau du réseau parti de zéro, et la troisième au niveau du
# hasard. Le bon taux se choisit sur des images de *validation*, mises de côté pour cela ; nous
# l'avons lu ici sur celles de test, ce qui est une petite fuite, sujet du piège suivant.
#
# ### La fuite de données
#
# Nos carrés de membrane sont tirés de grandes coupes, et se recouvrent. Que se passe-t-il si l'on
# tire *au hasard*, parmi tous les carrés, ceux d'apprentissage et ceux de test ? Un carré de test a
# presque toujours un voisin dans l'apprentissage, décalé de quelques points. Pour que l'effet se
# voie, ne gardons que deux coupes, et comparons l'exactitude **annoncée** avec celle que l'on
# mesure sur des coupes jamais vues.

# %%
CROPS = runtime.pick(quick=60, full=3_000)


def leakage_run():
    found = {"annoncée": [], "mesurée": []}
    for seed in SEEDS:
        squares, labels, limits = membrane_squares(slice(0, 2), CROPS, 56, seed)
        x, x_leaked, y, y_leaked = train_test_split(
            halved(squares), labels, train_size=2 / 3, random_state=seed
        )
        unseen, answers, _ = membrane_squares(
            slice(20, 30), TEST_IMAGES, 56, seed, limits
        )
        keras.utils.set_random_seed(seed)
        model = from_scratch(BASE, x, y, 2, updates=5 * UPDATES)
        found["annoncée"].append(accuracy(model, x_leaked, y_leaked))
        found["mesurée"].append(accuracy(model, halved(unseen), answers))
    return found


leakage = experiment("leakage", leakage_run)

# %%
shown = leakage.values
gap = np.subtract(shown["annoncée"], shown["mesurée"])
runtime.show_table(
    ("exactitude", "moyenne ± écart type"),
    [(name, spread(values)) for name, values in shown.items()]
    + [("écart", spread(gap))],
)

# %% [markdown]
# Plus de vingt points d'écart, en moyenne. Les deux mesures ne répondent pas à la même question :
# « reconnaît-il un carré dont il a vu le voisin ? », et « saura-t-il lire une coupe nouvelle ? ».
# (Une part de l'écart vient aussi de ce que deux coupes en représentent mal dix.) Tout jeu de
# données qui vient par paquets (coupes, patients, vidéos, personnes) se sépare **par paquets**.
# Même ainsi, nos trente coupes viennent d'un seul tissu : la séparation n'est pas parfaite.
#
# Le transfert ouvre une fuite de plus : la base a peut-être déjà vu vos images de test, ou leurs
# classes. Les trois races que nous utiliserons plus loin ont été choisies parce qu'aucune n'est une
# classe d'ImageNet : vérifions-le quand la liste est là.

# %%
BREEDS = ("Abyssinian", "Bengal", "american_bulldog")
classes = datasets.imagenet_classes()
if classes is None:
    print("La liste des classes d'ImageNet n'est pas sur cette machine.")
else:
    known = {name.lower() for _, name in classes}
    seen = sorted(b for b in set(pets.breeds) if b.lower() in known)
    print(f"races dont le nom est aussi une classe d'ImageNet : {len(seen)} au moins")
    print("parmi elles :", ", ".join(seen[:3]))
    shared = known & {breed.lower() for breed in BREEDS}
    print(f"parmi nos trois races : {len(shared)}")
    assert not shared

# %% [markdown]
# ## Le troisième scénario : un modèle publié
#
# « Les chercheurs partagent leurs modèles comme dans Model Zoo. » La page citée, celle de Caffe,
# n'est plus entretenue : Caffe n'a pas eu de version depuis 2017. Aujourd'hui, on prend les modèles
# dans [keras.applications](https://keras.io/api/applications/),
# [torchvision](https://pytorch.org/vision/stable/models.html) ou [Hugging
# Face](https://huggingface.co/models). Que sont devenus ceux que le document cite ?
#
# | Modèle de la liste | Ce qu'il est | Où nous le croisons |
# |:--|:--|:--|
# | Berkeley-trained models | CaffeNet, une variante d'AlexNet, et R-CNN | AlexNet : chapitre 3 |
# | Network in Network | des convolutions 1 × 1 et une moyenne globale | ci-dessous |
# | ResFace101 | ResNet-101, entraîné sur des visages | chapitre 3 ; visages : chapitre 9 |
# | Places-CNN | AlexNet, entraîné sur des scènes | l'idée : tout ce chapitre |
# | GoogLeNet de Princeton | une mise en œuvre de GoogLeNet | chapitre 3 |
# | Fully Convolutional Networks | une tête dense devenue convolution | ci-dessous, chapitre 5 |
# | Cascaded FCN | deux FCN à la suite : l'organe, puis la lésion | segmenter : chapitre 5 |
# | Earth Observation | SegNet sur des images aériennes | segmenter : chapitre 5 |
#
# ### Tel quel
#
# Le plus simple est d'utiliser le modèle tel quel, tête comprise. Prenons un réseau entraîné sur
# ImageNet, s'il est sur cette machine ou peut être téléchargé ; à défaut (profil rapide), notre
# petit réseau, qui ne connaît que des vêtements, passe par le même code. Les classes d'ImageNet ont
# des noms anglais : nous traduisons ceux que nous rencontrerons.


# %%
def to_small(images):
    """Octets (n, h, w, 3) -> ce que lit notre petit réseau, (n, 28, 28, 1)."""
    grey = images.astype("float32").mean(axis=-1, keepdims=True) / 255
    return ops.convert_to_numpy(ops.image.resize(grey, (28, 28), antialias=True))


def square(image, side):
    """Le plus grand carré au centre d'une photographie, en octets (side, side, 3)."""
    height, width, _ = image.shape
    edge = min(height, width)
    top, left = (height - edge) // 2, (width - edge) // 2
    crop = image[top : top + edge, left : left + edge].astype("float32")
    small = ops.image.resize(crop, (side, side), antialias=True)
    return np.clip(ops.convert_to_numpy(small), 0, 255).round().astype("uint8")


WHOLE = zoo.imagenet_classifier() or zoo.Network("notre réseau", SOURCE_MODEL, to_small)
print(f"{WHOLE.title} : {number(WHOLE.model.count_params(), 0)} paramètres")

# %%
FRENCH = {
    "Egyptian_cat": "chat égyptien",
    "espresso": "expresso",
    "missile": "missile",
    "bubble": "bulle",
    "palace": "palais",
    "daisy": "marguerite",
    "pillow": "oreiller",
    "sombrero": "sombrero",
    "lampshade": "abat-jour",
}
SUBJECTS = {"chelsea": "chat", "coffee": "tasse", "pavilion": "pavillon"}

published = WHOLE.model is not SOURCE_MODEL
labels = (
    [FRENCH.get(name, name.replace("_", " ")) for _, name in classes]
    if published
    else [garments.class_names[k] for k in SOURCE_CLASSES]
)
photographs = datasets.photographs()
pictures = {name: square(photographs[name], 224) for name in photographs}

# %%
titles = []
for image in pictures.values():
    answer = scores(WHOLE.model, WHOLE.preprocess(image[None]))[0]
    titles.append(f"{labels[answer.argmax()]}\n{number(answer.max())}")
figures.show(
    figures.grid(list(pictures.values()), titles=titles, columns=3),
    alt="Six photographies (un chat, une tasse, une fusée, des galaxies, un pavillon, une fleur) "
    f"et leur classe selon {WHOLE.title} : {' ; '.join(titles).replace(chr(10), ' ')}.",
)

# %% [markdown]
# EfficientNet-Lite0 nomme le chat, l'expresso dans sa tasse et le palais. La fusée devient un
# missile, le dahlia une marguerite, et un champ de galaxies une bulle : un réseau de mille classes
# répond toujours par l'une des mille.
#
# Le nombre de scores de la dernière couche est celui des classes de la tâche source : mille pour
# ImageNet, dit le document.

# %%
verdict("transfer-imagenet-scores", WHOLE.model.output_shape[-1] if published else None)

# %% [markdown]
# Et si l'on oublie le prétraitement ? Laissons les pixels de 0 à 255, puis divisons-les par 255
# sans les centrer.

# %%
PREPARATIONS = {
    "la bonne": WHOLE.preprocess,
    "aucune": lambda images: images.astype("float32"),
    "de 0 à 1": lambda images: images.astype("float32") / 255,
}
if not published:
    PREPARATIONS = {
        "la bonne": to_small,
        "aucune": lambda images: 255 * to_small(images),
    }
rows = []
for name, subject in SUBJECTS.items():
    row = []
    for prepare in PREPARATIONS.values():
        answer = scores(WHOLE.model, prepare(pictures[name][None]))[0]
        row.append(f"{labels[answer.argmax()]} ({number(answer.max())})")
    rows.append((subject, *row))
runtime.show_table(("photographie", *PREPARATIONS), rows)

# %% [markdown]
# Sans préparation, le chat devient un oreiller. Entre 0 et 1 au lieu de −1 et 1, les réponses
# restent justes et seulement moins sûres : une erreur de préparation ne saute pas toujours aux
# yeux. Lisez la documentation du modèle, et appelez *sa* fonction.
#
# ### *Network in Network* : dense en chaque point
#
# Ce réseau de 2013 glisse, entre deux convolutions, un petit réseau de couches denses, appliqué à
# chaque position : c'est la ***convolution 1 × 1***, que GoogLeNet et ResNet ont reprise. Il finit,
# comme le nôtre, par une moyenne globale. Une couche dense appliquée aux canaux de chaque point et
# une convolution 1 × 1 sont-elles la même fonction ?

# %%
maps = np.random.default_rng(0).normal(size=(2, 7, 7, 32)).astype("float32")
dense, pointwise = layers.Dense(10), layers.Conv2D(10, 1)
at_each_point = ops.convert_to_numpy(dense(maps))
pointwise.build(maps.shape)
pointwise.kernel.assign(dense.kernel[None, None])
difference = np.abs(ops.convert_to_numpy(pointwise(maps)) - at_each_point).max()
print(f"plus grand écart, en millionièmes : {number(1e6 * difference, 1)}")
verdict("transfer-zoo-nin", bool(difference < 1e-5))

# %% [markdown]
# ### FCN : la tête devient une carte
#
# Cette égalité est l'idée des réseaux ***entièrement convolutifs*** (*fully convolutional
# networks*, FCN) : en appliquant la tête *avant* la moyenne, on obtient une décision en chaque
# point, sur une image de taille quelconque. Rien n'est à réapprendre, puisque la moyenne des scores
# est le score de la moyenne.


# %%
def fully_convolutional(model):
    """Le même réseau, tête avant la moyenne : image de côté quelconque -> carte de scores."""
    base, head = model.layers[1], model.layers[-1]
    inputs = keras.Input((None, None, 1))
    x = inputs
    for layer in base.layers[1:-1]:
        x = layer(x)
    pointwise = layers.Conv2D(head.units, 1)
    outputs = pointwise(x)
    kernel, bias = head.get_weights()
    pointwise.set_weights([kernel[None, None], bias])
    return keras.Model(inputs, outputs)


dense_map = fully_convolutional(SOURCE_MODEL)
mean_score = scores(dense_map, SOURCE.x_test[:100]).mean(axis=(1, 2))
gap = np.abs(mean_score - scores(SOURCE_MODEL, SOURCE.x_test[:100])).max()
print(f"écart à la sortie du réseau, en millionièmes : {number(1e6 * gap, 1)}")
verdict("transfer-zoo-fcn", bool(gap < 1e-3))

# %% [markdown]
# Donnons-lui une mosaïque de quatre vêtements, deux fois plus haute et plus large que tout ce qu'il
# a vu. Chaque carte montre, point par point, la probabilité d'une classe ; blanc vaut 1.

# %%
which = [np.flatnonzero(SOURCE.y_test == k)[0] for k in range(4)]
above, below = (
    np.concatenate(list(SOURCE.x_test[pair]), axis=1) for pair in (which[:2], which[2:])
)
mosaic = np.concatenate([above, below])
chances = ops.convert_to_numpy(ops.softmax(scores(dense_map, mosaic[None])[0]))
source_names = [garments.class_names[k] for k in SOURCE_CLASSES]
quarters = {
    name: chances[..., k].reshape(2, 7, 2, 7).mean(axis=(1, 3)).ravel()
    for k, name in enumerate(source_names)
}
corners = ("en haut à gauche", "en haut à droite", "en bas à gauche", "en bas à droite")
figures.show(
    figures.grid(
        [mosaic, *(chances[..., k] for k in range(len(source_names)))],
        titles=["image", *source_names],
        columns=4,
    ),
    alt="Mosaïque de quatre vêtements : "
    + ", ".join(source_names[:4])
    + ". Cartes de probabilité, quart où chacune est la plus forte : "
    + " ; ".join(f"{n}, {corners[q.argmax()]}" for n, q in quarters.items())
    + ".",
)

# %% [markdown]
# Dans l'exécution complète, le pantalon et la robe sont à leur place ; le T-shirt, lui, se partage
# entre plusieurs classes, dont le pull. Chaque point ne voit que son champ réceptif, et rien n'a
# appris à ce réseau à décider point par point : seulement en moyenne. Le chapitre 5 apprendra le
# reste.

# %% [markdown]
# ## Taille et ressemblance : le récapitulatif, mesuré
#
# « Les scénarios d'apprentissage […] dépendent de deux contraintes : la taille de la base de
# données, la similarité de la base de données avec celle des modèles pré-entraînés. » Le conseil
# habituel, [celui du cours CS231n](https://cs231n.github.io/transfer-learning/), remplit les quatre
# cases :
#
# | données | cible semblable | cible différente |
# |:--|:--|:--|
# | **beaucoup d'images** | affiner | affiner, ou partir de zéro |
# | **peu d'images** | base gelée | des couches plus précoces, gelées |
#
# Remplissons-les avec des mesures : quatre tailles, deux ressemblances, trois façons d'entraîner,
# trois graines.

# %%
STRATEGIES = {"zéro": from_scratch, "gelé": frozen, "affiné": fine_tuned}


def trial(strategy, base, task, size, seed, **budget):
    """Un entraînement : exactitude sur ses images et sur celles de test, durée."""
    x, y = sample(task, size, seed)
    keras.utils.set_random_seed(seed)
    begin = perf_counter()
    model = strategy(base, x, y, task.classes, **budget)
    seconds = perf_counter() - begin
    fitted, judged = accuracy(model, x, y), accuracy(model, task.x_test, task.y_test)
    return {"train": fitted, "test": judged, "seconds": seconds}


def grid(base, tasks, sizes, seeds=SEEDS, **budget):
    """Par cible et par scénario : une liste d'essais pour chaque taille."""
    return {
        kind: {
            name: [
                [trial(strategy, base, task, size, seed, **budget) for seed in seeds]
                for size in sizes
            ]
            for name, strategy in STRATEGIES.items()
        }
        for kind, task in tasks.items()
    }


def small_grid_run():
    return {"sizes": SIZES, "found": grid(BASE, TASKS, SIZES)}


small_grid = experiment("small_grid", small_grid_run)


# %%
def measure(found, what="test"):
    """Un nombre par essai : (graines, tailles), pour chaque scénario."""
    return {
        name: np.array([[run[what] for run in runs] for runs in sizes]).T
        for name, sizes in found.items()
    }


def describe_grid(shown):
    return " ; ".join(
        f"cible {kind}, {name} : "
        + ", ".join(number(value) for value in values.mean(axis=0))
        for kind, found in shown["found"].items()
        for name, values in measure(found).items()
    )


# %%
def draw_grid(shown):
    """Exactitude selon le nombre d'images, une figure par cible."""
    fig, axes = plt.subplots(2, 1, figsize=(figures.WIDTH, 7), sharex=True)
    for ax, (kind, found) in zip(axes, shown["found"].items()):
        for k, (name, values) in enumerate(measure(found).items()):
            mean, several = values.mean(axis=0), len(values) > 1
            deviation = values.std(axis=0, ddof=1) if several else np.zeros_like(mean)
            style = {"color": figures.COLOURS[k], "marker": figures.MARKERS[k]}
            ax.plot(shown["sizes"], mean, figures.LINES[k], label=name, **style)
            ax.fill_between(
                shown["sizes"],
                mean - deviation,
                mean + deviation,
                color=figures.COLOURS[k],
                alpha=0.2,
                lw=0,
            )
        ax.set(title=f"cible {kind}", ylabel="exactitude de test", xscale="log")
    axes[0].legend()
    axes[1].set_xlabel("images d'entraînement")
    axes[1].set_xticks(shown["sizes"], [number(n, 0) for n in shown["sizes"]])
    axes[1].minorticks_off()
    return fig


# %%
shown = small_grid.values
figures.show(
    draw_grid(shown),
    alt=f"Exactitude de test pour {', '.join(number(n, 0) for n in shown['sizes'])} images. "
    f"{describe_grid(shown)}.",
)

# %% [markdown]
# Sur la cible semblable, l'affinage gagne plus de dix points avec vingt images ; dès mille, les
# deux se valent presque. La base gelée progresse encore, mais passe sous le réseau parti de zéro
# dès mille images. Sur la cible différente, elle plafonne vers 0,72, et le réseau parti de zéro
# finit devant. Les bandes (un écart type de part et d'autre) montrent qu'il est le moins régulier :
# un seul mauvais essai sur trois déplace sa moyenne de plusieurs points.
#
# ### Le quadrant
#
# Voici les quatre cases, pour la plus petite et la plus grande taille. Un scénario est en gras
# quand il est à moins de deux points du meilleur.


# %%
def draw_quadrant(shown):
    """Les quatre cases du récapitulatif : une barre par scénario."""
    fig, axes = plt.subplots(2, 2, figsize=(figures.WIDTH, 5.4), sharex=True)
    for column, (kind, found) in enumerate(shown["found"].items()):
        means = {name: v.mean(axis=0) for name, v in measure(found).items()}
        for row, k in enumerate((-1, 0)):
            ax, values = axes[row, column], [mean[k] for mean in means.values()]
            best = max(values)
            ax.barh(list(means), values, color=figures.COLOURS[:3])
            for place, value in enumerate(values):
                weight = "bold" if value > best - 0.02 else "normal"
                ax.text(
                    0.03,
                    place,
                    number(value),
                    va="center",
                    weight=weight,
                    bbox={"facecolor": "white", "alpha": 0.85, "lw": 0, "pad": 1.5},
                )
            ax.set(xlim=(0, 1), ylim=(2.6, -0.6))
            ax.set_title(f"{kind}, {number(shown['sizes'][k], 0)} images", fontsize=13)
    for ax in axes[:, 1]:
        ax.set_yticklabels([])
    for ax in axes[1]:
        ax.set_xlabel("exactitude de test")
    return fig


# %%
def ranked(shown):
    """Par case, les scénarios à moins de deux points du meilleur ; le meilleur d'abord."""
    found = {}
    for kind, runs in shown["found"].items():
        means = {name: values.mean(axis=0) for name, values in measure(runs).items()}
        for size, k in (("peu", 0), ("beaucoup", -1)):
            order = sorted(means, key=lambda name: -means[name][k])
            best = means[order[0]][k]
            found[kind, size] = [n for n in order if means[n][k] > best - 0.02]
    return found


def describe_quadrant(good):
    cases = (f"{' '.join(case)}, {', '.join(names)}" for case, names in good.items())
    return f"Quatre cases. À moins de deux points du meilleur : {' ; '.join(cases)}."


good = ranked(shown)
figures.show(draw_quadrant(shown), alt=describe_quadrant(good))

# %% [markdown]
# Avec beaucoup d'images, le conseil tient à peu près : si la cible ressemble à la source, affiner
# devance en moyenne de deux points le réseau parti de zéro, qui l'égale pour deux graines sur trois
# ; si elle en est loin, mieux vaut repartir de zéro. Avec peu d'images d'une cible semblable,
# l'affinage bat la base gelée, contre le conseil, pour les trois graines : nos précautions (tête
# d'abord, petit pas) le rendent peut-être moins fragile qu'on ne le dit. Pour une cible lointaine,
# les trois scénarios se valent : une base qui n'a vu que six vêtements n'a presque rien à offrir à
# la microscopie.
#
# (L'avance de l'affinage tient aussi à notre tête, qui n'apprend que pendant deux cents mises à
# jour : avec mille images, une ***régression logistique***, la même couche dense apprise jusqu'au
# bout, fera cinq points de plus.)
#
# ### Avec ImageNet et de vraies photographies
#
# Passons à la vraie situation du document : « CNN pré-entraîné sur ImageNet ». La cible
# *semblable* : reconnaître trois races d'Oxford-IIIT Pet (Abyssin, Bengal, bouledogue américain),
# absentes d'ImageNet, qui contient cependant d'autres chats et d'autres chiens. La *différente* :
# les membranes, dans des carrés de 96 points. Les fonctions sont les mêmes ; seule la base change.

# %%
SIDE = 96
PHOTOGRAPHS = runtime.pick(quick=(12,), full=(12, 39, 120, 390))
# En profil rapide, la base est le petit réseau, que la grille précédente vient d'essayer.
LARGE_SEEDS = runtime.pick(quick=(), full=SEEDS, cpu=(0,))
LARGE_BUDGET = {"batch": 16, "updates": runtime.pick(quick=1, full=300, cpu=150)}
LARGE = zoo.imagenet_base(SIDE) or zoo.Network("notre réseau", BASE, to_small)
print(f"{LARGE.title} : {number(LARGE.model.count_params(), 0)} paramètres")


# %%
def breed_task():
    """Trois races ; 200 photographies pour juger, les autres pour apprendre."""
    kept = np.isin(pets.breeds, BREEDS)
    if not kept.any():  # les animaux dessinés n'ont que deux « races »
        kept[:] = True
    labels = np.unique(pets.breeds[kept], return_inverse=True)[1]
    x, x_test, y, y_test = train_test_split(
        LARGE.preprocess(pets.images[kept]),
        labels,
        train_size=2 / 3,
        stratify=labels,
        random_state=0,
    )
    return Task(x, y, x_test, y_test)


def in_colour(squares):
    """Carrés gris (n, 96, 96) -> ce que lit la base : (n, 96, 96, 3)."""
    return LARGE.preprocess(np.stack([squares] * 3, axis=-1))


# %%
LARGE_TASKS = {
    "semblable": breed_task(),
    "différente": membrane_task(2 * PHOTOGRAPHS[-1], SIDE, in_colour),
}
LARGE_TASKS = {
    kind: task._replace(x_test=task.x_test[:200], y_test=task.y_test[:200])
    for kind, task in LARGE_TASKS.items()
}
for kind, task in LARGE_TASKS.items():
    print(
        f"{kind} : {len(task.x)} images pour apprendre, {len(task.x_test)} pour juger"
    )


# %%
def large_grid_run():
    return {
        "base": LARGE.title,
        "sizes": PHOTOGRAPHS,
        "updates": LARGE_BUDGET["updates"],
        "found": grid(
            LARGE.model, LARGE_TASKS, PHOTOGRAPHS, LARGE_SEEDS, **LARGE_BUDGET
        ),
    }


large_grid = experiment("large_grid", large_grid_run)

# %%
shown = large_grid.values
figures.show(
    draw_grid(shown),
    alt=f"{shown['base']}, exactitude de test pour "
    f"{', '.join(number(n, 0) for n in shown['sizes'])} images. {describe_grid(shown)}.",
)

# %%
good = ranked(shown)
figures.show(draw_quadrant(shown), alt=f"{shown['base']}. {describe_quadrant(good)}")

# %% [markdown]
# Avec une base qui a vu plus d'un million de photographies, tout change d'échelle : le transfert
# gagne trente points avec quatre images par race, et autant avec cent trente. Les membranes, qui ne
# ressemblent à rien d'ImageNet, en profitent nettement avec 390 images ; en deçà, de sept à neuf
# points, au bord du mesurable.
#
# Deux réserves. L'exécution affichée n'a qu'une graine et deux cents images de test : l'incertitude
# d'une exactitude y est de six points, celle d'un écart entre deux scénarios de neuf environ. Nous
# ne départageons donc pas la base gelée et l'affinage. Et 150 mises à jour sont peu pour un réseau
# parti de zéro : plus longtemps entraîné, il ferait sans doute un peu mieux.
#
# ### Jusqu'où couper ?
#
# Le conseil de la quatrième case, « des couches plus précoces », se mesure d'une seule passe : nous
# calculons la sortie moyenne de chaque étage de la base, et entraînons sur elle un classifieur
# linéaire (une ***sonde***).


# %%
def stages(model):
    """Les activations d'une base, de la première à la dernière."""
    kinds = (layers.ReLU, layers.Activation)
    return [layer for layer in model.layers if isinstance(layer, kinds)]


def probes(base, task, size, seed):
    """Exactitude de test d'une régression logistique sur la sortie moyenne de chaque étage."""
    outputs = [layers.GlobalAveragePooling2D()(s.output) for s in stages(base)]
    reader = keras.Model(base.input, layers.Concatenate()(outputs))
    ends = np.cumsum([output.shape[-1] for output in outputs])[:-1]
    x, y = sample(task, size, seed)
    x, x_test = (np.split(scores(reader, part), ends, 1) for part in (x, task.x_test))
    linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2_000))
    return [linear.fit(a, y).score(b, task.y_test) for a, b in zip(x, x_test)]


def probes_run():
    size = PHOTOGRAPHS[-1]
    return {
        kind: [probes(LARGE.model, task, size, seed) for seed in SEEDS]
        for kind, task in LARGE_TASKS.items()
    }


depths = experiment("probes", probes_run)

# %%
shown = depths.values
places = np.linspace(0, 1, len(shown["semblable"][0]))
fig = figures.curves(
    {f"cible {kind}": values for kind, values in shown.items()},
    x=places,
    xlabel="profondeur de l'étage (0 : entrée ; 1 : sortie)",
    ylabel="exactitude de test",
)
best = {kind: np.mean(values, axis=0).argmax() for kind, values in shown.items()}
figures.show(
    fig,
    alt="Exactitude d'une sonde linéaire selon la profondeur. "
    + " ; ".join(
        f"cible {kind}, de {number(np.mean(values, axis=0)[0])} à "
        f"{number(np.mean(values, axis=0)[-1])}, maximum à {percent(places[best[kind]])} de la "
        "profondeur"
        for kind, values in shown.items()
    )
    + ".",
)
full = depths.full
curves = full and {kind: np.mean(values, axis=0) for kind, values in full.items()}
verdict(
    "transfer-hierarchy", curves and curves["semblable"][-1] - curves["semblable"][0]
)

# %% [markdown]
# Pour les races, l'exactitude monte presque jusqu'au bout : ce sont des objets, comme ceux
# d'ImageNet. Pour les membranes, elle ne monte plus après le premier quart, et les derniers étages
# en reperdent : ils sont spécialisés. Pour une cible lointaine, cette sonde conseille donc de
# couper plus tôt ; mais dans la grille, avec les mêmes 390 carrés, une tête posée sur la base
# **entière** faisait déjà 0,83. La sonde, elle, surapprend quand les canaux deviennent plus
# nombreux que les images. Les deux courbes sont aussi l'indice d'un apprentissage *hiérarchique*,
# du général au particulier.
#
# ### Ce que disent les nombres
#
# Le document donne deux cas où le transfert est utile (« peu de données », « limite des ressources
# matérielles ») et une condition (« une tâche similaire »). Tous se lisent dans les deux grilles.


# %%
def gain(found, size, over="zéro"):
    """Meilleure façon de transférer, moins la référence, en moyenne sur les graines."""
    means = {name: values.mean(axis=0)[size] for name, values in measure(found).items()}
    return max(means["gelé"], means["affiné"]) - means[over]


# %%
full = large_grid.full and small_grid.full
if full:
    grids = {"petit réseau": small_grid.full, large_grid.full["base"]: large_grid.full}
    rows = [
        (title, kind, *(number(gain(g["found"][kind], k), 3) for k in (0, -1)))
        for title, g in grids.items()
        for kind in g["found"]
    ]
    header = ("base", "cible", "gain du transfert, peu d'images", "beaucoup d'images")
    runtime.show_table(header, rows)

# %%
if full:
    large = large_grid.full["found"]
    seconds = {
        name: values.mean(axis=0)[-1]
        for name, values in measure(large["semblable"], "seconds").items()
    }
    print(
        f"durées, {large_grid.full['sizes'][-1]} photographies :",
        " ; ".join(f"{name}, {value:.0f} s" for name, value in seconds.items()),
    )

verdict("transfer-few-data", full and gain(large["semblable"], 0))
verdict("transfer-limited-hardware", full and seconds["zéro"] / seconds["gelé"])
verdict("transfer-preferable", full and gain(large["semblable"], -1))
verdict("transfer-similar-task", full and gain(large["différente"], -1))

# %%
gains = small_grid.full and {
    (kind, k): gain(found, k)
    for kind, found in small_grid.full["found"].items()
    for k in (0, -1)
}
verdict(
    "transfer-depends-on-size", gains and gains["semblable", 0] - gains["semblable", -1]
)
verdict(
    "transfer-depends-on-similarity",
    gains and gains["semblable", 0] - gains["différente", 0],
)

# %% [markdown]
# Avec le petit réseau, le transfert aide d'autant plus que les images sont rares et les tâches
# proches ; avec ImageNet, il aide autant ou plus à 390 images qu'à 12. Il coûte bien moins si la
# base reste gelée, 30 % de moins si on l'affine. La ressemblance n'est pas une condition : une base
# très générale aide même de loin. Une troisième contrainte semble compter, que le document ne nomme
# pas : **l'étendue de ce que la base a vu**. Nos deux grilles ne l'isolent pas, car le réseau et
# les images changent aussi.
#
# ## Cinq avantages à l'épreuve
#
# ### « Adaptation aux données spatiales »
#
# Comme au [chapitre 1](01_convolution.ipynb), mélangeons les pixels de toutes les images **par la
# même permutation** ; cette fois sur nos deux cibles, et avec un réseau dense pour comparaison.


# %%
def dense_network():
    """Un perceptron sans convolution, de taille voisine."""
    inputs = keras.Input((28, 28, 1))
    x = layers.Dense(64, activation="relu")(layers.Flatten()(inputs))
    return keras.Model(inputs, layers.Dense(64, activation="relu")(x))


def shuffled(images):
    """Les mêmes pixels, rangés autrement, de la même façon pour toutes les images."""
    order = np.random.default_rng(0).permutation(28 * 28)
    return images.reshape(len(images), -1)[:, order].reshape(images.shape)


def spatial_run():
    found = {kind: {} for kind in TASKS}
    for kind, task in runtime.pick(
        quick={"différente": TASKS["différente"]}, full=TASKS
    ).items():
        for name, network in (("convolutif", small_network), ("dense", dense_network)):
            for order, arrange in (("intacts", np.asarray), ("mélangés", shuffled)):
                row = found[kind][f"{name}, {order}"] = []
                for seed in SEEDS:
                    x, y = sample(task, SOME, seed)
                    keras.utils.set_random_seed(seed)
                    model = classifier(network(), task.classes)
                    fit(model, arrange(x), y, 1e-3, 2 * UPDATES)
                    row.append(accuracy(model, arrange(task.x_test), task.y_test))
    return found


spatial = experiment("spatial", spatial_run)

# %%
shown = {kind: found for kind, found in spatial.values.items() if found}
runtime.show_table(
    ("réseau, pixels", *(f"cible {kind}" for kind in shown)),
    [
        (name, *(spread(found[name]) for found in shown.values()))
        for name in shown["différente"]
    ],
)
full = spatial.full
intact = full and {
    name: np.mean(full["différente"][f"{name}, intacts"])
    for name in ("convolutif", "dense")
}
verdict("transfer-spatial", intact and intact["convolutif"] - intact["dense"])

# %% [markdown]
# Sur les vêtements, rien : ils sont si bien centrés que chaque pixel a sa place ; le mélange ne
# change pas le résultat, et le réseau dense vaut l'autre. Sur les membranes, dont la place change
# d'une image à l'autre, le réseau dense fait à peine mieux que le hasard, et le convolutif vingt
# points de plus. Mélanger les pixels lui en coûte ensuite sept ou huit en moyenne, très inégalement
# selon la graine : c'est donc moins le voisinage qui compte ici que le *partage des poids*, le même
# filtre partout, puis la moyenne.
#
# ### « Invariance aux translations et déformations »
#
# Une convolution n'est pas invariante mais *équivariante*, le chapitre 1 l'a montré : si l'image se
# déplace, la carte la suit. Vérifions le mot du document sur une image qui ne touche pas les bords.

# %%
shape = np.pad(SOURCE.x_test[:1], [(0, 0), (10, 10), (10, 10), (0, 0)])
convolution = layers.Conv2D(8, 3, padding="same", use_bias=False)
before = ops.convert_to_numpy(convolution(shape))
after = ops.convert_to_numpy(convolution(np.roll(shape, 3, axis=2)))
moves_along = np.allclose(after, np.roll(before, 3, axis=2), atol=1e-5)
stays_put = np.allclose(after, before, atol=1e-5)
print(
    f"la carte suit l'image : {french(moves_along)} ; elle reste la même : {french(stays_put)}"
)
verdict(
    "transfer-invariance-word",
    "équivariance" if moves_along and not stays_put else "invariance",
)

# %% [markdown]
# Et le réseau entier, moyenne globale comprise ? Déplaçons et tournons les images de test. Le
# second réseau a vu, à l'apprentissage, des images déplacées et tournées au hasard : cette
# augmentation de données ([chapitre 2](02_layers_and_training.ipynb)) apprend au réseau ce que son
# architecture ne lui donne pas.

# %%
SHIFTS, ANGLES = (0, 2, 4, 6, 8), (0, 15, 30, 45, 90)


def moved(images, shift=0, angle=0):
    """Images (n, h, w, 1) déplacées vers la droite, tournées ; les bords deviennent noirs."""
    images = ndimage.shift(images, (0, 0, shift, 0), order=1)
    return ndimage.rotate(images, angle, axes=(1, 2), reshape=False, order=1)


def jittered(images, seed):
    """Chaque image déplacée de 6 points au plus, tournée de 45 degrés au plus."""
    rng = np.random.default_rng(seed)
    motions = zip(
        images, rng.integers(-6, 7, len(images)), rng.uniform(-45, 45, len(images))
    )
    return np.concatenate([moved(image[None], *motion) for image, *motion in motions])


# %%
def moving_run():
    found = {}
    for name, copies in runtime.pick(
        quick=(("augmenté", 1),), full=(("ordinaire", 0), ("augmenté", 4))
    ):
        found[name] = {"shift": [], "angle": []}
        for seed in SEEDS:
            x, y = SOURCE.x[:SOME], SOURCE.y[:SOME]
            extra = [jittered(x, [seed, copy]) for copy in range(copies)]
            keras.utils.set_random_seed(seed)
            model = classifier(small_network(), SOURCE.classes)
            x, y = np.concatenate([x, *extra]), np.tile(y, copies + 1)
            fit(model, x, y, 1e-3, 4 * UPDATES)
            for what, steps in (("shift", SHIFTS), ("angle", ANGLES)):
                tests = [moved(SOURCE.x_test[:500], **{what: step}) for step in steps]
                row = [accuracy(model, test, SOURCE.y_test[:500]) for test in tests]
                found[name][what].append(row)
    return found


moving = experiment("moving", moving_run)

# %%
shown = moving.values
for what, steps, label in (
    ("shift", SHIFTS, "déplacement (pixels)"),
    ("angle", ANGLES, "rotation (degrés)"),
):
    fig = figures.curves(
        {name: found[what] for name, found in shown.items()},
        x=steps,
        xlabel=label,
        ylabel="exactitude, tâche source",
    )
    ends = {name: np.mean(found[what], axis=0) for name, found in shown.items()}
    figures.show(
        fig,
        alt=f"Exactitude, {label} : "
        + " ; ".join(
            f"réseau {name}, " + ", ".join(number(v) for v in values)
            for name, values in ends.items()
        )
        + ".",
    )

# %%
full = moving.full
lost = full and {
    what: np.mean(full["ordinaire"][what], axis=0)[0]
    - np.mean(full["ordinaire"][what], axis=0)[1]
    for what in ("shift", "angle")
}
verdict("transfer-invariance-translations", lost and lost["shift"])
verdict("transfer-invariance-deformations", lost and lost["angle"])

# %% [markdown]
# Deux pixels de déplacement coûtent plus de vingt points d'exactitude, quinze degrés presque
# autant. La première courbe est en dents de scie : quatre pixels coûtent moins que deux. Nos deux
# convolutions de pas 2 ne gardent qu'une position sur quatre ; l'équivariance ne tient donc que
# pour les multiples de quatre, et le reste se perd ([Zhang](https://arxiv.org/abs/1904.11486) le
# corrige par un léger flou avant chaque pas). À six et huit pixels, le bord de l'image coupe aussi
# le vêtement. L'augmentation répare une grande partie des dégâts, dans les limites de ce qu'elle a
# montré : à 90 degrés, jamais vus, le réseau augmenté ne sait rien de plus.
#
# ### « Extraction automatique des caractéristiques »
#
# Un même classifieur linéaire, quatre façons de décrire l'image : ses pixels ; un descripteur conçu
# à la main, les HOG du chapitre 1 ; notre base aux poids tirés au hasard ; notre base apprise.


# %%
def histograms(images):
    """HOG : histogrammes des directions du gradient, par carrés de 7 points."""
    cells = {"pixels_per_cell": (7, 7), "cells_per_block": (2, 2)}
    return np.stack([hog(image[..., 0], **cells) for image in images])


def described(task, describe, size, seed):
    """Exactitude de test d'une régression logistique sur une description des images."""
    x, y = sample(task, size, seed)
    linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1_000))
    linear.fit(describe(x), y)
    return linear.score(describe(task.x_test), task.y_test)


def features_run():
    keras.utils.set_random_seed(0)
    blank = keras.models.clone_model(BASE)
    descriptions = {
        "pixels": lambda images: images.reshape(len(images), -1),
        "HOG": histograms,
        "base au hasard": lambda images: scores(blank, images),
        "base apprise": lambda images: scores(BASE, images),
    }
    return {
        name: {
            kind: [described(task, describe, SOME, seed) for seed in SEEDS]
            for kind, task in TASKS.items()
        }
        for name, describe in descriptions.items()
    }


features = experiment("features", features_run)

# %%
runtime.show_table(
    ("description", *(f"cible {kind}" for kind in TASKS)),
    [
        (name, *(spread(found[kind]) for kind in TASKS))
        for name, found in features.values.items()
    ],
)
full = features.full
means = full and {n: np.mean(found["différente"]) for n, found in full.items()}
verdict("transfer-automatic", means and means["base apprise"] - means["HOG"])

# %% [markdown]
# Sur les vêtements, bien centrés, rien ne bat les pixels. Sur les membranes, ils ne valent rien,
# HOG guère plus, et notre base, qui n'en a jamais vu, l'emporte de plus de dix points. Mais la même
# base **aux poids tirés au hasard** fait mieux encore. L'essentiel vient ici de l'architecture, des
# convolutions suivies d'une moyenne, et non de ce qui a été appris sur des vêtements.
#
# ### « Apprentissage hiérarchique »
#
# Les sondes l'ont montré par des nombres. Voyons maintenant ce qui excite un filtre, à trois
# profondeurs : partons d'un bruit gris, et modifions l'image pour augmenter sa réponse. C'est la
# ***maximisation d'activation***. Un léger flou, à chaque pas, écarte les motifs de haute
# fréquence.

# %%
STEPS = runtime.pick(quick=1, full=60)


def exciting(base, layer, filters, steps=STEPS):
    """Une image par filtre, qui excite ce filtre : (k, h, w, canaux), de 0 à 1."""
    reader = keras.Model(base.input, layer.output)
    image = np.random.default_rng(0).normal(
        scale=0.1, size=(len(filters), *base.input_shape[1:])
    )

    def response(x):
        maps = ops.mean(reader(x, training=False), axis=(1, 2))
        chosen = np.eye(maps.shape[-1], dtype="float32")[filters]
        return ops.sum(maps * ops.convert_to_tensor(chosen))

    for _ in range(steps):
        _, slope = value_and_grad(response, image.astype("float32"))
        slope /= np.sqrt(np.mean(slope**2, axis=(1, 2, 3), keepdims=True)) + 1e-8
        image = ndimage.gaussian_filter(image + 0.1 * slope, (0, 0.5, 0.5, 0))
    low, high = (
        np.percentile(image, q, axis=(1, 2, 3), keepdims=True) for q in (1, 99)
    )
    return np.clip((image - low) / (high - low + 1e-8), 0, 1)


# %%
activations = stages(LARGE.model)
chosen = [activations[k] for k in (0, len(activations) // 3, 2 * len(activations) // 3)]
pictures_of = [exciting(LARGE.model, layer, list(range(4))) for layer in chosen]
figures.show(
    figures.grid(
        [image for images in pictures_of for image in images],
        columns=4,
        row_labels=["début", "un tiers", "deux tiers"],
    ),
    alt=f"{LARGE.title} : ce qui excite quatre filtres au début, au tiers et aux deux tiers, "
    f"après {STEPS} pas.",
)

# %% [markdown]
# Avec EfficientNet-Lite0 : au début, des rayures et des aplats d'une couleur, comme les filtres du
# chapitre 1 ; au tiers, des rayures obliques et des taches ; aux deux tiers, une rosace, des
# tracés. Deux de ces derniers filtres n'ont rien donné que le bruit de départ, lissé : il ne les
# excitait pas du tout, et leur gradient est resté nul.
#
# ### « Capacité à gérer de grandes quantités de données »
#
# Le document compte aussi, parmi les inconvénients, le « besoin de grandes quantités de données ».
# L'une dit que le réseau progresse tant qu'on lui donne des images ; l'autre, qu'il échoue quand il
# en manque. La grille du petit réseau répond aux deux.

# %%
full = small_grid.full
curve = full and measure(full["found"]["semblable"])["zéro"].mean(axis=0)
if full:
    for n, value in zip(full["sizes"], curve):
        print(f"{n} images, à partir de zéro : {number(value)}")
verdict("transfer-large-data", full and curve[-1] - curve[1])
verdict("transfer-needs-data", full and curve[-1] - curve[0])

# %% [markdown]
# De 20 à 5000 images, le réseau gagne près de trente points, dont un ou deux seulement après
# mille : le besoin est réel. Le transfert le réduit sans le supprimer : avec vingt images, la
# meilleure façon de transférer reste loin de ce que donnent cinq mille.
#
# ## Cinq inconvénients à l'épreuve
#
# Le cinquième, le besoin de grandes quantités de données, vient d'être mesuré.
#
# ### « Besoin de données étiquetées »
#
# Pour la dernière couche, oui. Pour la base, on peut inventer des étiquettes gratuites : tournons
# chaque image de 0, 90, 180 ou 270 degrés, et demandons de combien. C'est l'***apprentissage
# autosupervisé*** ([Gidaris et al.](https://arxiv.org/abs/1803.07728)). La base n'aura vu que les
# images de la cible, **sans une seule étiquette** ; puis cent images étiquetées entraînent la tête.

# %%
UNLABELLED = runtime.pick(quick=8, full=2_000)


def turned_base(images):
    """Une base qui a appris à dire de combien de quarts de tour une image a été tournée."""
    quarters = np.concatenate([np.rot90(images, k, axes=(1, 2)) for k in range(4)])
    model = classifier(small_network(), 4)
    fit(model, quarters, np.repeat(np.arange(4), len(images)), 1e-3)
    return model.layers[1]


def labels_run():
    task, found = TASKS["semblable"], {"zéro": [], "gelé": [], "affiné": []}
    for seed in SEEDS:
        keras.utils.set_random_seed(seed)
        base = turned_base(task.x[:UNLABELLED])
        for name in found:
            found[name].append(trial(STRATEGIES[name], base, task, FEW, seed)["test"])
    return found


unlabelled = experiment("labels", labels_run)

# %%
shown = unlabelled.values
runtime.show_table(
    (f"{FEW} étiquettes", "exactitude, cible semblable"),
    [
        ("à partir de zéro", spread(shown["zéro"])),
        ("base autosupervisée, gelée", spread(shown["gelé"])),
        ("base autosupervisée, affinée", spread(shown["affiné"])),
    ],
)
full = unlabelled.full
means = full and {name: np.mean(values) for name, values in full.items()}
verdict(
    "transfer-labels", means and max(means["gelé"], means["affiné"]) - means["zéro"]
)

# %% [markdown]
# Affinée, la base autosupervisée ne fait pas mieux que le réseau parti de zéro ; gelée, elle fait
# bien moins. Pour dire si une chaussure est à l'endroit, il suffit d'en regarder le contour : le
# réseau n'en a rien appris d'autre. À une tout autre échelle, l'autosupervision réussit ; à la
# nôtre, le besoin d'étiquettes est confirmé.
#
# ### « Besoin de puissance de calcul »
#
# Un entraînement courant parcourt quatre-vingt-dix fois les 1,28 million d'images d'ImageNet.
# Combien de temps prendrait notre machine ? La grille a chronométré l'entraînement de la base. La
# puissance, 65 watts, est une **hypothèse** sur le processeur, non une mesure : changez-la pour la
# vôtre.

# %%
WATTS, IMAGENET, PASSES = 65, 1_281_167, 90


def energy(seconds, watts=WATTS):
    """Énergie en kilowattheures."""
    return seconds * watts / 3.6e6


# %%
full = large_grid.full
if full:
    durations = {
        name: values.mean(axis=0)[-1]
        for name, values in measure(full["found"]["semblable"], "seconds").items()
    }
    epochs = -(-full["updates"] * LARGE_BUDGET["batch"] // full["sizes"][-1])
    each = durations["zéro"] / (epochs * full["sizes"][-1])
    durations["ImageNet, estimé"] = each * IMAGENET * PASSES
    rows = [
        (
            name,
            f"{number(value, 0)} s"
            if value < 86_400
            else f"{value / 86_400:.0f} jours",
            f"{energy(value):.2g}".replace(".", ","),
        )
        for name, value in durations.items()
    ]
    runtime.show_table(("entraînement", "durée", "kilowattheures"), rows)

# %%
if full:
    small = measure(small_grid.full["found"]["semblable"], "seconds")["zéro"].mean(
        axis=0
    )
    per_image = small[-1] / (EPOCHS * small_grid.full["sizes"][-1])
    print(f"petit réseau, 1000 puis 5000 images : {small[-2]:.0f} s, {small[-1]:.0f} s")
    print(
        f"par image vue : petit réseau {number(1000 * per_image, 1)} ms, "
        f"grand réseau {number(1000 * each, 0)} ms"
    )
verdict(
    "transfer-scratch-intensive",
    full and bool(small[-1] > 1.5 * small[-2] and each > 5 * per_image),
)
verdict("transfer-compute", full and durations["ImageNet, estimé"] / 86_400)

# %% [markdown]
# Deux mois sur cette machine, pour un réseau conçu pour les téléphones et des images de 96 points.
# (La compilation est comprise, et la machine faisait deux calculs à la fois : c'est un ordre de
# grandeur.) Sur une base gelée, la tête s'entraîne en secondes : l'énergie a été dépensée une fois,
# par ceux qui ont publié les poids. C'est l'argument le plus solide en faveur du transfert.
#
# ### « Risque de surapprentissage »
#
# Un réseau peut-il apprendre ce qui n'a aucun sens ? Donnons-lui cinq cents images aux étiquettes
# **tirées au hasard** ([Zhang et al.](https://arxiv.org/abs/1611.03530)). Puis regardons, dans la
# grille, l'écart entre entraînement et test.


# %%
def memory_run():
    task, found = TASKS["semblable"], {"zéro": [], "gelé": []}
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        x = task.x[: runtime.pick(quick=32, full=500)]
        y = rng.integers(task.classes, size=len(x))
        for name in found:
            keras.utils.set_random_seed(seed)
            model = STRATEGIES[name](BASE, x, y, task.classes)
            fit(model, x, y, 1e-3, 3 * UPDATES)
            found[name].append(accuracy(model, x, y))
    return found


memory = experiment("memory", memory_run)

# %%
shown = memory.values
runtime.show_table(
    ("étiquettes au hasard", "exactitude d'entraînement"),
    [
        ("tout le réseau apprend", spread(shown["zéro"])),
        ("la tête seule", spread(shown["gelé"])),
    ],
)
full = small_grid.full
if full:
    header = ("images", *(f"écart, {name}" for name in STRATEGIES))
    found = full["found"]["semblable"]
    gaps = {
        name: (measure(found, "train")[name] - measure(found)[name]).mean(axis=0)
        for name in STRATEGIES
    }
    rows = [
        (number(n, 0), *(number(gap[k], 3) for gap in gaps.values()))
        for k, n in enumerate(full["sizes"])
    ]
    runtime.show_table(header, rows)
verdict("transfer-overfitting", memory.full and np.mean(memory.full["zéro"]))

# %% [markdown]
# Le réseau entier apprend cinq cents étiquettes absurdes sans une faute ; la tête seule, avec 260
# paramètres, ne *peut* pas les retenir. La grille dit la même chose : avec peu d'images, tous
# surapprennent ; à partir de mille, la base gelée presque plus. Geler est aussi un remède.
#
# ### « Interprétabilité limitée »
#
# ***Grad-CAM*** ([Selvaraju et al.](https://arxiv.org/abs/1610.02391)) demande à un réseau où il a
# regardé. On prend les dernières cartes $A^k$, de hauteur $H$ et de largeur $W$, et le gradient du
# score $y_c$ de la classe par rapport à elles. La moyenne de ce gradient dit combien chaque carte
# compte ; on garde la partie positive de la somme pondérée :
#
# $$\alpha_k = \frac{1}{HW} \sum_{i,j} \frac{\partial y_c}{\partial A^k_{ij}},$$
#
# $$L_{ij} = \max\Big(0, \sum_k \alpha_k A^k_{ij}\Big).$$


# %%
def split_at_last_maps(model):
    """Coupe un classifieur en deux : image -> dernières cartes, dernières cartes -> scores."""
    flat = model if len(model.layers) > 3 else inlined(model)
    last = stages(flat)[-1]
    return keras.Model(flat.input, last.output), keras.Model(last.output, flat.output)


def inlined(model):
    """Le classifieur d'un seul tenant : les couches de la base, puis la tête."""
    base, head = model.layers[1:]
    return keras.Model(base.input, head(base.output))


def grad_cam(front, back, image, label=None):
    """Carte de Grad-CAM (h, w), de maximum 1, pour une classe (par défaut, la mieux notée)."""
    maps = scores(front, image[None])
    if label is None:
        label = scores(back, maps)[0].argmax()
    _, slope = value_and_grad(lambda a: back(a, training=False)[0, label], maps)
    weights = slope.mean(axis=(1, 2), keepdims=True)
    heat = np.maximum((weights * maps).sum(axis=-1)[0], 0)
    return heat / (heat.max() + 1e-12)


# %% [markdown]
# Le gradient se prend sur le score, avant le softmax. Le réseau publié se termine par un softmax :
# remplaçons-le par l'identité. Le même code donne la carte d'un réseau **aux poids tirés au
# hasard** : si elle ressemble à la première, la méthode montre l'image et non le réseau ([Adebayo
# et al.](https://arxiv.org/abs/1810.03292)).

# %%
explained = keras.models.clone_model(WHOLE.model)
explained.set_weights(WHOLE.model.get_weights())
explained.layers[-1].activation = keras.activations.linear
keras.utils.set_random_seed(0)
blank = keras.models.clone_model(explained)
NETWORKS = {"appris": explained, "au hasard": blank}
HALVES = {name: split_at_last_maps(model) for name, model in NETWORKS.items()}


def resized(heat, side):
    return ops.convert_to_numpy(ops.image.resize(heat[..., None], (side, side)))[..., 0]


seen, written = [], []
for name in ("chelsea", "coffee"):
    ready = WHOLE.preprocess(pictures[name][None])[0]
    for kind, halves in HALVES.items():
        heat = resized(grad_cam(*halves, ready), 224)
        colour = plt.get_cmap("viridis")(heat)[..., :3]
        seen.append(0.45 * pictures[name] / 255 + 0.55 * colour)
        written.append(f"{SUBJECTS[name]}, poids {kind}")
figures.show(
    figures.grid(seen, titles=written, columns=2),
    alt=f"{WHOLE.title} : cartes de Grad-CAM sur le chat et sur la tasse, avec les poids appris, "
    "puis avec des poids au hasard.",
)

# %% [markdown]
# Le réseau appris regarde un œil et la joue du chat, et le café ; avec des poids au hasard, les
# deux cartes sont vides. Une belle carte n'est pas encore une preuve. Les photographies
# d'Oxford-IIIT Pet viennent avec le contour de l'animal : mesurons quelle part de la carte tombe
# **dans l'animal**, divisée par la part de l'image qu'il occupe. Un réseau qui ne regarderait nulle
# part en particulier aurait 1.

# %%
EXPLAINED = runtime.pick(quick=2, full=100)
outlined = datasets.pets(size=224, limit=EXPLAINED)


def gradcam_run():
    found = {"appris": [], "au hasard": [], "corrélation": [], "deuxième classe": []}
    for image, mask in zip(outlined.images, outlined.masks):
        ready, inside, heats = WHOLE.preprocess(image[None])[0], mask != 1, []
        second, first = scores(explained, ready[None])[0].argsort()[-2:]
        for name, halves in HALVES.items():
            heat = resized(grad_cam(*halves, ready, first), 224)
            share = (heat * inside).sum() / heat.sum() if heat.any() else np.nan
            found[name].append(share / inside.mean())
            heats.append(heat.ravel())
        other = resized(grad_cam(*HALVES["appris"], ready, second), 224).ravel()
        for name, heat in (("corrélation", heats[1]), ("deuxième classe", other)):
            varied = heat.any() and heats[0].any()
            likeness = stats.spearmanr(heats[0], heat).statistic if varied else np.nan
            found[name].append(likeness)
    return found


cams = experiment("gradcam", gradcam_run)

# %%
shown = cams.values
runtime.show_table(
    ("poids", "part de la carte dans l'animal / part de l'image", "cartes vides"),
    [
        (name, number(np.nanmedian(shown[name])), int(np.isnan(shown[name]).sum()))
        for name in HALVES
    ],
)
medians = {
    name: np.nanmedian(shown[name]) for name in ("corrélation", "deuxième classe")
}
print(
    "corrélation avec la carte d'un réseau au hasard :", number(medians["corrélation"])
)
print(
    "corrélation avec celle de la deuxième classe :", number(medians["deuxième classe"])
)
full = cams.full
verdict("transfer-gradcam", full and np.nanmedian(full["deuxième classe"]))

# %% [markdown]
# La carte du réseau appris tombe dans l'animal bien plus que ne le voudrait sa surface, et ne
# ressemble pas à celle du réseau au hasard, qui est parfois vide : Grad-CAM montre donc quelque
# chose du réseau, et non seulement de l'image. Mais pour la classe classée *deuxième*, la carte est
# presque la même : elle dit *où* le réseau regarde, non *pourquoi* il préfère une classe à l'autre.
# L'interprétabilité reste limitée.
#
# ## Une machine plus grande
#
# Sur plusieurs cartes graphiques, on entraîne presque toujours en ***parallélisme de données*** :
# chaque carte reçoit le même réseau et une part du lot ; les gradients sont moyennés avant la mise
# à jour. Le calcul est donc celui d'une seule carte, à l'arrondi près. Keras l'offre de deux
# façons : [`keras.distribution`](https://keras.io/api/distribution/) avec JAX, et
# [`MirroredStrategy`](https://www.tensorflow.org/guide/distributed_training) avec TensorFlow.
#
# Sans carte graphique, un processeur peut se faire passer pour deux. Il faut le demander **avant**
# que la bibliothèque démarre : chaque essai a donc son propre processus. Voici la version JAX.


# %%
def train_with_jax():
    """Le même entraînement sur un appareil, puis sur deux."""
    import os

    os.environ["KERAS_BACKEND"] = "jax"
    os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
    import keras

    alone = train()
    keras.distribution.set_distribution(keras.distribution.DataParallel())
    return len(keras.distribution.list_devices()), alone, train()


# %% [markdown]
# La version TensorFlow. Seule la construction du modèle a besoin d'être « dans » la stratégie ;
# `fit` ne change pas.


# %%
def train_with_tensorflow():
    """Le même entraînement sur un appareil, puis sur deux."""
    import os

    os.environ["KERAS_BACKEND"] = "tensorflow"
    import tensorflow as tf

    processor = tf.config.list_physical_devices("CPU")[0]
    halves = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(processor, halves)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    alone = train()
    with strategy.scope():
        return strategy.num_replicas_in_sync, alone, train()


# %% [markdown]
# Les deux appellent cette fonction : un petit réseau, deux époques, et les poids qu'il en reste.


# %%
def train():
    """Entraîne un petit réseau sur des images tirées au hasard ; rend ses poids, en listes."""
    import keras
    import numpy as np

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(256, 16, 16, 1)), rng.integers(10, size=256)
    keras.utils.set_random_seed(0)
    inputs = keras.Input((16, 16, 1))
    x1 = keras.layers.Conv2D(8, 3, strides=2, activation="relu")(inputs)
    outputs = keras.layers.Dense(10)(keras.layers.Flatten()(x1))
    model = keras.Model(inputs, outputs)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss)
    model.fit(x, y, batch_size=64, epochs=2, shuffle=False, verbose=0)
    return [weight.tolist() for weight in model.get_weights()]


# %% [markdown]
# Chaque essai s'exécute dans son processus, où nous cachons la carte graphique, s'il y en a une.

# %%
HIDDEN = {"CUDA_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu"}  # la carte graphique


def in_a_process(function):
    """Exécute une fonction de ce notebook dans un autre processus ; rend ce qu'elle rend."""
    sources = [inspect.getsource(f) for f in (train, function)]
    program = "\n".join(
        [*sources, f"import json; print(json.dumps({function.__name__}()))"]
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env=os.environ | HIDDEN,
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2_000:])
    return json.loads(done.stdout.splitlines()[-1])


# %%
def distribution_run():
    functions = {"jax": train_with_jax, "tensorflow": train_with_tensorflow}
    found = {}
    for package in runtime.pick(quick=(), full=tuple(functions)):
        if package in functions and find_spec(package):
            devices, alone, shared = in_a_process(functions[package])
            gap = max(np.abs(np.subtract(a, b)).max() for a, b in zip(alone, shared))
            found[package] = {"devices": devices, "gap": gap}
    return found


distribution = experiment("distribution", distribution_run)

# %%
runtime.show_table(
    ("bibliothèque", "appareils", "plus grand écart entre les poids, en millionièmes"),
    [
        (runtime.BACKEND_TITLES[name], found["devices"], number(1e6 * found["gap"], 2))
        for name, found in distribution.values.items()
    ],
)
for found in distribution.here.values():
    assert found["devices"] == 2
    assert found["gap"] < 1e-4

# %% [markdown]
# Deux appareils donnent les poids d'un seul, à l'arrondi près.
#
# <details>
# <summary>Sur une vraie machine à plusieurs cartes</summary>
#
# - retirez les lignes qui fabriquent deux appareils : les cartes sont détectées seules ;
# - multipliez `batch_size` par le nombre de cartes, sans quoi chacune reçoit trop peu d'images ; le
#   taux d'apprentissage suit souvent, après quelques époques d'échauffement ([Goyal et
#   al.](https://arxiv.org/abs/1706.02677)) ;
# - la normalisation par lots calcule ses moyennes sur la part de chaque carte avec
#   `MirroredStrategy` (`synchronized=True` les réunit), sur le lot entier avec JAX ;
# - sur plusieurs *machines*, `keras.distribution.initialize()` avec JAX, ou
#   `MultiWorkerMirroredStrategy` avec TensorFlow, un processus par machine ;
# - avec PyTorch, `keras.distribution` n'est pas disponible : on passe par
#   `DistributedDataParallel` et sa propre boucle ([guide de
#   Keras](https://keras.io/guides/distributed_training_with_torch/)).
#
# </details>

# %% [markdown]
# ## À retenir
#
# - Transférer n'est pas forcément affiner : sur une base gelée, la tête s'entraîne en secondes, et
#   suffit souvent si la base a beaucoup vu.
# - Préparez les images comme à l'apprentissage de la base ; si elle doit resservir, gelez ses
#   normalisations une à une ; choisissez le taux sur une validation ; séparez les données par
#   paquets.
# - Peu d'images, tâche proche : base gelée, ou affinée à petit pas. Tâche lointaine : essayez aussi
#   des couches plus précoces. Beaucoup d'images et tâche lointaine : affinez, ou partez de zéro si
#   la base a peu vu.
# - Une base qui a beaucoup vu aide même de loin.
# - Une convolution est équivariante, à son pas près ; l'invariance s'apprend, par les données.
# - Grad-CAM dit où le réseau regarde, pas pourquoi ; vérifiez toujours avec des poids au hasard.
# - Sur plusieurs appareils, le calcul est le même ; seul le lot est partagé.

# %% [markdown]
# ## Exercices
#
# ### 1. Prédire, puis exécuter
#
# Une base gelée rend 1280 caractéristiques. On lui pose une tête pour les 37 races d'Oxford-IIIT
# Pet. Combien de paramètres reste-t-il à apprendre ? Remplacez `None` par votre réponse.

# %%
my_parameters = None

head = layers.Dense(37)
head.build((None, 1280))
predict("paramètres à apprendre", my_parameters, head.count_params())

# %% [markdown]
# <details>
# <summary>Solution</summary>
#
# Un poids par caractéristique et par race, et un biais par race : $(1280 + 1) \times 37 = 47\,397$.
# La base peut en avoir des millions : gelés, ils ne comptent pas.
#
# </details>

# %% [markdown]
# ### 2. Écrire Grad-CAM
#
# Écrivez la carte à partir des dernières cartes d'activation, de forme (h, w, k), et du gradient du
# score par rapport à elles, de même forme. Rendez un tableau (h, w), sans le ramener à 1.


# %%
def my_cam(maps, slope):
    raise NotImplementedError


# %% tags=["hide-input"] cellView="form"
# @title Vérifier l'exercice 2
def cam_solution(maps, slope):
    weights = np.mean(slope, axis=(0, 1))
    return np.maximum(np.tensordot(maps, weights, axes=1), 0)


def cam_without_relu(maps, slope):
    return np.tensordot(maps, np.mean(slope, axis=(0, 1)), axes=1)


def cam_pointwise(maps, slope):
    return np.maximum(np.sum(np.asarray(maps) * slope, axis=-1), 0)


def cam_channel_mean(maps, slope):
    weights = np.mean(slope, axis=(0, 1))
    return np.maximum(np.mean(np.asarray(maps) * weights, axis=-1), 0)


DRAW = np.random.default_rng(4)
EXERCISE_CAM = Exercise(
    title="Exercice 2",
    reference=cam_solution,
    cases=[
        (np.ones((2, 2, 1)), np.full((2, 2, 1), -1.0)),
        (np.array([[[1.0, 2.0]]]), np.array([[[3.0, -1.0]]])),
        (DRAW.normal(size=(3, 4, 5)), DRAW.normal(size=(3, 4, 5))),
    ],
    mistakes={
        "Ne gardez que la partie positive de la somme.": cam_without_relu,
        "Moyennez d'abord le gradient sur les positions : un poids par carte.": cam_pointwise,
        "La somme pondérée des cartes n'est pas leur moyenne.": cam_channel_mean,
    },
)
EXERCISE_CAM.check(my_cam)

# %% tags=["hide-cell"] cellView="form"
# @title Solution de l'exercice 2
# Un poids par carte, la moyenne de son gradient ; puis la partie positive de la somme.
EXERCISE_CAM.check(cam_solution)

# %% [markdown]
# ### 3. Séparer sans fuite
#
# `groups` dit, pour chaque image, de quelle coupe (ou de quel patient, de quelle vidéo) elle vient.
# Rendez un tableau de booléens, vrai pour les images à garder pour l'apprentissage, quand les
# images d'indices `test` servent au test : aucune image d'apprentissage ne doit venir d'un groupe
# du test.


# %%
def my_training_images(groups, test):
    raise NotImplementedError


# %% tags=["hide-input"] cellView="form"
# @title Vérifier l'exercice 3
def training_images_solution(groups, test):
    groups = np.asarray(groups)
    return ~np.isin(groups, groups[test])


def training_images_not_in_test(groups, test):
    return ~np.isin(np.arange(len(groups)), test)


def training_images_reversed(groups, test):
    groups = np.asarray(groups)
    return np.isin(groups, groups[test])


EXERCISE_SPLIT = Exercise(
    title="Exercice 3",
    reference=training_images_solution,
    cases=[
        (np.array([0, 0, 1, 1, 2]), np.array([0])),
        (np.array([3, 1, 3, 2, 1, 2]), np.array([1, 3])),
        (np.array([5, 6, 7]), np.array([2])),
    ],
    mistakes={
        "Écartez aussi les autres images des groupes du test.": training_images_not_in_test,
        "Vrai pour l'apprentissage, faux pour le test.": training_images_reversed,
    },
)
EXERCISE_SPLIT.check(my_training_images)

# %% tags=["hide-cell"] cellView="form"
# @title Solution de l'exercice 3
# On écarte toute image dont le groupe apparaît dans le test.
EXERCISE_SPLIT.check(training_images_solution)

# %% [markdown]
# ### 4. Expliquer
#
# Pourquoi entraîne-t-on la tête **avant** de libérer la base, plutôt que les deux ensemble ?
#
# <details>
# <summary>Solution</summary>
#
# Une tête tirée au hasard se trompe partout : le gradient qu'elle renvoie à la base est grand, et
# dépend de ses poids, qui n'ont encore aucun sens. Les premières mises à jour défont donc ce que la
# base savait. Une tête déjà entraînée renvoie un petit gradient, qui ne corrige que ses erreurs.
#
# </details>

# %% [markdown]
# ### 5. Pour aller plus loin
#
# Reprenez la grille avec une autre base. Dans Colab, par exemple :
#
# ```python
# resnet = keras.applications.ResNet50(include_top=False, pooling="avg", input_shape=(96, 96, 3))
# prepare = keras.applications.resnet.preprocess_input
# LARGE = zoo.Network("ResNet-50", resnet, lambda images: prepare(images.astype("float32")))
# ```
#
# `EfficientNetB4` se branche de même, avec sa propre préparation. Avant d'exécuter, prédisez : la
# base gelée gagnera-t-elle plus sur les races ou sur les membranes ? Puis remplacez les
# photographies par les vôtres, une vingtaine par classe, et comparez les trois scénarios.

# %% [markdown]
# ## Ce que nous avons vérifié

# %%
summary()

# %% [markdown]
# ## Références
#
# - J. Yosinski, J. Clune, Y. Bengio, H. Lipson, [How transferable are features in deep neural
#   networks?](https://arxiv.org/abs/1411.1792), 2014.
# - S. Kornblith, J. Shlens, Q. V. Le, [Do better ImageNet models transfer
#   better?](https://arxiv.org/abs/1805.08974), 2018.
# - M. Lin, Q. Chen, S. Yan, [Network in Network](https://arxiv.org/abs/1312.4400), 2013.
# - J. Long, E. Shelhamer, T. Darrell, [Fully convolutional networks for semantic
#   segmentation](https://arxiv.org/abs/1411.4038), 2014.
# - R. R. Selvaraju et al., [Grad-CAM: visual explanations from deep networks via gradient-based
#   localization](https://arxiv.org/abs/1610.02391), 2016.
# - J. Adebayo et al., [Sanity checks for saliency maps](https://arxiv.org/abs/1810.03292), 2018.
# - C. Zhang et al., [Understanding deep learning requires rethinking
#   generalization](https://arxiv.org/abs/1611.03530), 2016.
# - S. Gidaris, P. Singh, N. Komodakis, [Unsupervised representation learning by predicting image
#   rotations](https://arxiv.org/abs/1803.07728), 2018.
# - R. Zhang, [Making convolutional networks shift-invariant
#   again](https://arxiv.org/abs/1904.11486), 2019.
# - N. Dalal, B. Triggs, [Histograms of oriented gradients for human
#   detection](https://doi.org/10.1109/CVPR.2005.177), 2005.
# - P. Goyal et al., [Accurate, large minibatch SGD](https://arxiv.org/abs/1706.02677), 2017.
# - O. M. Parkhi et al., [Cats and dogs](https://doi.org/10.1109/CVPR.2012.6248092), 2012.
