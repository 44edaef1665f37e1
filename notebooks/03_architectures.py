# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Les grandes architectures
#
# > **Objectifs.** À la fin de ce chapitre, vous saurez :
# > - compter les paramètres, les opérations et la mémoire d'un réseau, et ne plus les confondre ;
# > - construire LeNet-5, AlexNet, VGG, GoogLeNet, Inception v2, ResNet et DenseNet, chacun d'une
# >   table et d'une boucle ;
# > - prouver qu'un réseau que vous avez écrit *est* celui d'une bibliothèque ;
# > - dire ce que chaque architecture a apporté, et le montrer par une mesure ;
# > - lire un tableau de résultats sur ImageNet en sachant ce qu'il cache.
#
# | | |
# |:--|:--|
# | **Prérequis** | les chapitres [1](01_convolution.ipynb) et [2](02_layers_and_training.ipynb) |
# | **Document étudié** | 004, chapitre 1 : quelques exemples des réseaux à convolution |
# | **Données** | Fashion-MNIST (hors ligne, des chiffres manuscrits) pour les comparaisons |
# | **Durée** | trois heures de lecture et d'exercices ; exécution rapide : deux minutes |
#
# De 1998 à 2019, huit architectures ont marqué la vision par ordinateur. Le document en donne une
# page chacune : une date, un nombre de paramètres, une idée. Nous allons **construire les sept
# premières**, mesurer la huitième, recompter chaque nombre, et mettre chaque idée à l'épreuve.
#
# > **Plan.** Les trois mesures, puis une section par architecture, de LeNet-5 à EfficientNet. La
# > suite du cours se sert de VGG, de la convolution 1 × 1, de la normalisation, de ResNet et de la
# > convolution par canal. À la première lecture, passez les détails du LeNet-5 de 1998, les têtes
# > auxiliaires et la preuve par les poids copiés.

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
import math
import tempfile
from functools import partial
from pathlib import Path
from time import perf_counter

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import layers, ops

from utils import datasets, figures, graphs, runtime, synthetic
from utils.autodiff import value_and_grad
from utils.execute import experiment
from utils.exercises import Exercise, predict
from utils.figures import number, percent, spread
from utils.verdicts import french, summary, verdict

# %% [markdown]
# Les tailles du chapitre sont choisies ici. Les grandes architectures sont toutes construites à
# leur taille d'origine ; ce qu'elles apportent est mesuré sur de petits réseaux, que deux cœurs
# entraînent en quelques minutes.

# %%
SEEDS = runtime.pick(quick=(0,), full=(0, 1, 2))
IMAGES = runtime.pick(quick=128, full=10_000)
VALIDATION = runtime.pick(quick=100, full=5_000)
EPOCHS = runtime.pick(quick=1, full=4)
DEPTHS = runtime.pick(quick=(10,), full=(10, 18, 34))
RATES = runtime.pick(quick=(0.1,), full=(0.01, 0.03, 0.1, 0.3, 1.0, 3.0))
BATCH_SIZE = 128

runtime.start("03_architectures")
garments = datasets.garments()
runtime.banner(garments)


# %%
def to_input(images):
    """Octets (n, h, w) -> réels de 0 à 1, avec un canal : (n, h, w, 1)."""
    return images[..., None].astype("float32") / 255


x_train, y_train = to_input(garments.x_train[:IMAGES]), garments.y_train[:IMAGES]
x_val, y_val = to_input(garments.x_train[-VALIDATION:]), garments.y_train[-VALIDATION:]

# %% [markdown]
# ## Trois façons de mesurer un réseau
#
# « Ce réseau est grand » peut vouloir dire trois choses :
#
# - il a beaucoup de **paramètres** : c'est la place qu'il prend sur le disque ;
# - il fait beaucoup de **multiplications-additions** : c'est, à peu près, son temps de calcul ;
# - il produit beaucoup d'**activations** : c'est sa mémoire de travail, à l'entraînement surtout.
#
# La première se lit dans Keras : `model.count_params()`. La deuxième tient en une phrase. Dans une
# convolution, chaque poids du noyau sert **une fois par position de la sortie** : une sortie de
# $H \times W$ positions et un noyau de $F \times F \times C$ à $K$ filtres font
# $H \, W \times F^2 \, C \, K$ ***multiplications-additions***. Une couche dense est le cas d'une
# seule position. On ne compte ni les biais ni la normalisation, négligeables.


# %%
def kernels(layer):
    """Les noyaux d'une couche : ses poids, sans les biais ni la normalisation."""
    return [weight for weight in layer.weights if weight.name.endswith("kernel")]


def multiply_adds(network):
    """Multiplications-additions d'une couche, ou de toutes celles d'un modèle, pour une image."""
    if isinstance(network, keras.Model):
        return sum(multiply_adds(layer) for layer in network.layers)
    if not kernels(network):
        return 0
    transposed = isinstance(network, layers.Conv2DTranspose)
    positions = (network.input if transposed else network.output).shape[1:-1]
    return math.prod(positions) * sum(math.prod(k.shape) for k in kernels(network))


# %% [markdown]
# La troisième se compte en *neurones* : les sorties des convolutions et des couches denses. (C'est
# un minimum : à l'entraînement, normalisations et fonctions d'activation gardent aussi les leurs.)
# La ***profondeur*** d'un réseau, enfin, est le nombre de couches à poids sur le plus long chemin
# de l'entrée à la sortie.


# %%
def units(model):
    """Nombre de neurones : les sorties des convolutions et des couches denses."""
    return sum(
        math.prod(layer.output.shape[1:]) for layer in model.layers if kernels(layer)
    )


def weighted(operation):
    """Vrai pour une couche à noyau ; faux pour une autre couche, ou une simple opération."""
    return isinstance(operation, layers.Layer) and bool(kernels(operation))


def layer_depth(model):
    """Nombre de couches à poids sur le plus long chemin de l'entrée à la sortie."""
    longest = {}
    for operation in model.operations:  # dans l'ordre du calcul
        inside = not isinstance(operation, layers.InputLayer)
        sources = keras.tree.flatten(operation.input) if inside else []
        before = max((longest[id(source)] for source in sources), default=0)
        longest[id(operation.output)] = before + weighted(operation)
    return max(longest.values())


# %% [markdown]
# Vérifions ces fonctions à la main, sur un réseau de deux couches : une convolution 3 × 3 de deux
# canaux vers quatre, avec un pas de 2 sur une image de 8 × 8, puis une couche dense de 10 neurones.

# %%
inputs = keras.Input((8, 8, 2))
x = layers.Conv2D(4, 3, strides=2, padding="same")(inputs)  # (4, 4, 4)
tiny = keras.Model(inputs, layers.Dense(10)(layers.Flatten()(x)))

assert multiply_adds(tiny) == (4 * 4) * (3 * 3 * 2 * 4) + 64 * 10
assert units(tiny) == 4 * 4 * 4 + 10
assert layer_depth(tiny) == 2

# %% [markdown]
# Une dernière fonction range les couches d'un réseau par ***étages*** : celles dont les cartes ont
# la même taille. C'est ainsi que les articles présentent leurs architectures.


# %%
def stages(model):
    """Lignes [taille des cartes, canaux au plus, couches à poids, paramètres, opérations]."""
    rows = []
    for layer in model.layers:
        *size, channels = layer.output.shape[1:]
        name = " × ".join(map(str, size)) or "dense"
        if layer.weights and (not rows or rows[-1][0] != name):
            rows.append([name, 0, 0, 0, 0])
        if rows and rows[-1][0] == name:
            row = rows[-1]
            row[1] = max(row[1], channels)
            row[2] += bool(kernels(layer))
            row[3] += layer.count_params()
            row[4] += multiply_adds(layer)
    return rows


def show_stages(model):
    """Affiche un réseau étage par étage."""
    header = (
        "cartes",
        "canaux au plus",
        "couches à poids",
        "paramètres",
        "mult.-add. (millions)",
    )
    rows = [
        (size, *map(french, counts), number(cost / 1e6))
        for size, *counts, cost in stages(model)
    ]
    runtime.show_table(header, rows)


# %% [markdown]
# ## ImageNet et son concours
#
# Toutes ces architectures, sauf la première, se sont mesurées sur les mêmes images. ***ImageNet***
# est une collection d'images rangées selon les noms de WordNet ; ***ILSVRC***, le concours annuel
# qui en a tiré mille classes. Le document en donne les nombres. Une exécution ne peut pas recompter
# quatorze millions d'images ; voici ce que disent les sources, citées en fin de chapitre.
#
# | ce qui est compté | le document | les sources |
# |:--|:--|:--|
# | images et catégories | « ~ 14 millions », « 20 000 » | 14 197 122 et 21 841 (état de 2014) |
# | images d'entraînement d'ILSVRC | « 1,2 million » | 1 281 167, et 50 000 de validation |
# | classes d'ILSVRC | « 1000 » | 1000 |
# | le concours | « annuelle », « initiée en 2010 » | de 2010 à 2017 ; il n'a plus lieu |
# | étiquettes | « humaines via Amazon Mturk » | oui, plusieurs votes par image |
#
# Le score du concours est l'***erreur top-5*** : la part des images dont la bonne classe n'est pas
# parmi les cinq premières réponses. Voici celle du vainqueur de chaque année en classification, le
# plus souvent un ensemble de réseaux.

# %%
WINNERS = {  # année : vainqueur, erreur top-5 en pour cent
    2010: ("NEC", 28.2),
    2011: ("XRCE", 25.8),
    2012: ("AlexNet", 16.4),
    2013: ("Clarifai", 11.7),
    2014: ("GoogLeNet", 6.7),
    2015: ("ResNet", 3.6),
    2016: ("Trimps", 3.0),
    2017: ("SENet", 2.3),
}


# %% tags=["hide-input"] cellView="form"
# @title Dessin : les vainqueurs, année par année
def draw_winners(winners):
    """Une barre par année, hachurée avant les réseaux à convolution."""
    fig, axis = plt.subplots()
    for row, (year, (_, error)) in enumerate(winners.items()):
        colour, hatch = ("#BBBBBB", "///") if year < 2012 else (figures.COLOURS[0], "")
        axis.barh(row, error, color=colour, hatch=hatch, edgecolor="white")
        beside = max(error, 5.1) + 0.4  # à droite de la ligne des tirets
        axis.text(beside, row, number(error, 1), va="center", fontsize=12)
    axis.axvline(5.1, color="#555555", lw=1.4, ls=(0, (2, 2)))
    axis.text(9.5, len(winners) - 1, "tirets : un annotateur humain, 5,1", va="center")
    axis.set_yticks(
        range(len(winners)), [f"{y}  {name}" for y, (name, _) in winners.items()]
    )
    axis.set(xlabel="erreur top-5 (%)", xlim=(0, 31))
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)
    return fig


figures.show(
    draw_winners(WINNERS),
    alt="Erreur top-5 du vainqueur d'ILSVRC : "
    + ", ".join(
        f"{number(e, 1)} % en {year} ({name})" for year, (name, e) in WINNERS.items()
    )
    + ". Les deux premiers, hachurés, n'étaient pas des réseaux à convolution. Un tiret marque "
    "l'erreur d'un annotateur humain, 5,1 %, franchie en 2015.",
)

# %% [markdown]
# En sept ans l'erreur a été divisée par douze. La marche de 2012 est celle d'AlexNet ; celle de
# 2015, ResNet, passe sous l'erreur d'un annotateur humain entraîné à la tâche. Ce seuil
# impressionne plus qu'il ne devrait : une erreur top-5 est clémente, un second annotateur s'est
# trompé bien davantage, et les classes sont étranges. Regardons-les, si leur liste est sur cette
# machine (le profil complet la télécharge).

# %%
classes = datasets.imagenet_classes()  # None hors ligne, en profil rapide
if classes is None:
    print("liste des classes absente : profil complet seulement")
else:
    names = [name.lower() for _, name in classes]
    twice = sorted({name for name in names if names.count(name) > 1})
    print(f"{len(classes)} classes")
    print(
        f"nᵒˢ 151 à 268, {268 - 151 + 1} races de chiens : {names[151]} … {names[268]}"
    )
    print("noms portés par deux classes :", ", ".join(twice))
    print("deux classes voisines :", names[836], "et", names[837])
verdict("arch-ilsvrc-classes", classes and len(classes))

# %% [markdown]
# Plus d'une classe sur dix est une race de chien ; *crane* est une grue, l'oiseau, et une grue,
# l'engin ; *cardigan*, un chien et un gilet ; *maillot* désigne deux classes presque impossibles à
# distinguer, comme *sunglass* et *sunglasses*. Un nombre unique, l'exactitude sur ImageNet, cache
# ces bizarreries et d'autres, plus graves :
#
# - **Étiquettes fausses.** Au moins 6 % des étiquettes de validation sont fausses ; s'il y en avait
#   un peu plus, ResNet-18 passerait devant ResNet-50 [(Northcutt et al.,
#   2021)](https://arxiv.org/abs/2103.14749). Parmi les animaux sauvages, 12 % des images sont mal
#   étiquetées [(Luccioni et Rolnick, 2023)](https://arxiv.org/abs/2208.11695).
# - **Une géographie.** Plus de 45 % des images viennent des États-Unis : le monde d'ImageNet est
#   surtout américain et européen [(Shankar et al., 2017)](https://arxiv.org/abs/1711.08536).
# - **Des personnes.** L'arbre des catégories contenait des injures ; ses auteurs en ont retiré une
#   grande part en 2019 [(Yang et al., 2020)](https://arxiv.org/abs/1912.07726).
# - **Un seul tirage.** Sur un nouveau jeu de test recueilli de la même façon, tous les réseaux
#   perdent de 11 à 14 points [(Recht et al., 2019)](https://arxiv.org/abs/1902.10811).
# - **La texture.** Les réseaux entraînés sur ImageNet reconnaissent la texture plus que la forme
#   [(Geirhos et al., 2019)](https://arxiv.org/abs/1811.12231).
#
# ### Les dates
#
# Le document date chaque architecture. L'identifiant d'une prépublication arXiv commence par
# l'année et le mois de son dépôt : 1512.03385 est de décembre 2015. Vérifions les six qui en ont
# un ; LeNet-5 et AlexNet sont datés par leurs articles.

# %%
ARXIV = {
    "vgg": "1409.1556",
    "googlenet": "1409.4842",
    "inception-v2": "1512.00567",
    "resnet": "1512.03385",
    "densenet": "1608.06993",
    "efficientnet": "1905.11946",
}
for name, identifier in ARXIV.items():
    verdict(f"arch-{name}-year", 2000 + int(identifier[:2]))

# %% [markdown]
# ## LeNet-5 : le modèle
#
# Deux convolutions, deux sous-échantillonnages, trois couches denses : tout y est déjà. Le
# [chapitre 2](02_layers_and_training.ipynb) a entraîné la version d'aujourd'hui ; la voici, dans la
# forme que prendront toutes les autres, une table et une boucle.


# %%
def lenet5(input_shape=(28, 28, 1), classes=10):
    """LeNet-5 d'aujourd'hui : ReLU et maximum. Un score par classe."""
    inputs = x = keras.Input(input_shape)
    for filters, padding in ((6, "same"), (16, "valid")):
        x = layers.Conv2D(filters, 5, padding=padding, activation="relu")(x)
        x = layers.MaxPooling2D(2)(x)
    x = layers.Flatten()(x)
    for width in (120, 84):
        x = layers.Dense(width, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(classes)(x), name="lenet5")


model = lenet5()
show_stages(model)
verdict(
    "arch-lenet-dense-end",
    [type(layer).__name__ for layer in filter(kernels, model.layers)],
)

# %% [markdown]
# « LeNet (1990) », dit le document, avec « Pooling : moyenne » et une « fonction d'activation
# softmax ». L'article de 1998 décrit un réseau un peu différent :
#
# - **l'activation** est une tangente hyperbolique agrandie, $1{,}7159 \tanh(2x/3)$, qui vaut ±1 en
#   ±1 ;
# - **le sous-échantillonnage** est une moyenne multipliée par un coefficient *appris*, plus un
#   biais appris, un de chaque par carte ;
# - **la deuxième convolution**, C3, n'est pas complète : chacune de ses 16 cartes ne lit que
#   certaines des 6 cartes précédentes, selon une table ;
# - **la sortie** n'est pas un softmax : pour chaque classe, la distance au carré entre les 84
#   nombres de l'avant-dernière couche, F6, et un modèle fixe, un petit dessin du chiffre de 7 × 12
#   pixels.
#
# Construisons-le. Trois couches manquent à Keras ; voici les deux premières.


# %%
@keras.saving.register_keras_serializable(package="course")
def squash(x):
    """La tangente agrandie de l'article."""
    return 1.7159 * ops.tanh(x * 2 / 3)


@keras.saving.register_keras_serializable(package="course")
class Subsampling(layers.Layer):
    """Moyenne de fenêtres 2 × 2, un coefficient et un biais appris par carte, puis `squash`."""

    def build(self, input_shape):
        channels = input_shape[-1:]
        self.scale = self.add_weight(shape=channels, initializer="ones", name="scale")
        self.bias = self.add_weight(shape=channels, initializer="zeros", name="bias")

    def call(self, x):
        return squash(ops.average_pool(x, 2, 2) * self.scale + self.bias)


# %%
@keras.saving.register_keras_serializable(package="course")
class SquaredDistances(layers.Layer):
    """Distance au carré entre l'entrée et un modèle fixe, de −1 et de 1, par classe."""

    def __init__(self, classes=10, **kwargs):
        super().__init__(**kwargs)
        self.classes = classes

    def build(self, input_shape):
        signs = np.random.default_rng(0).choice(
            [-1.0, 1.0], (self.classes, input_shape[-1])
        )
        self.codes = self.add_weight(
            shape=signs.shape,
            initializer=keras.initializers.Constant(signs),
            trainable=False,
            name="codes",
        )

    def call(self, x):
        return ops.sum(ops.square(x[:, None] - self.codes), axis=-1)

    def get_config(self):
        return super().get_config() | {"classes": self.classes}


# %% [markdown]
# (Nos modèles fixes sont tirés au hasard ; leur nombre est celui de l'article.) La troisième est
# C3 ; sa table donne, pour chaque carte, celles qu'elle lit.

# %%
C3 = [
    *[tuple((k + j) % 6 for j in range(size)) for size in (3, 4) for k in range(6)],
    *[(0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5), tuple(range(6))],
]


@keras.saving.register_keras_serializable(package="course")
class TableConvolution(layers.Layer):
    """Convolution 5 × 5, puis `squash`, dont la carte k ne lit que les cartes `C3[k]`."""

    def build(self, input_shape):
        links = [(source, k) for k, read in enumerate(C3) for source in read]
        self.place = np.zeros((len(links), input_shape[-1], len(C3)), "float32")
        for link, (source, k) in enumerate(links):
            self.place[link, source, k] = 1
        self.kernel = self.add_weight(shape=(5, 5, len(links)), name="kernel")
        self.bias = self.add_weight(shape=(len(C3),), initializer="zeros", name="bias")

    def call(self, x):
        kernel = ops.tensordot(self.kernel, self.place, axes=1)  # (5, 5, 6, 16)
        return squash(ops.conv(x, kernel, padding="valid") + self.bias)


# %% [markdown]
# Le réseau entier : combien de paramètres ?


# %%
def lenet5_1998():
    """LeNet-5 tel que l'article le décrit : image (32, 32, 1) -> dix distances."""
    inputs = keras.Input((32, 32, 1))
    x = layers.Conv2D(6, 5, activation=squash)(inputs)  # C1 : (28, 28, 6)
    x = Subsampling()(x)  # S2 : (14, 14, 6)
    x = TableConvolution()(x)  # C3 : (10, 10, 16)
    x = Subsampling()(x)  # S4 : (5, 5, 16)
    x = layers.Conv2D(120, 5, activation=squash)(x)  # C5 : (1, 1, 120)
    x = layers.Dense(84, activation=squash)(layers.Flatten()(x))  # F6
    return keras.Model(inputs, SquaredDistances()(x), name="lenet5_1998")


original = lenet5_1998()
learned = sum(math.prod(weight.shape) for weight in original.trainable_weights)
fixed = sum(math.prod(weight.shape) for weight in original.non_trainable_weights)
print(f"1998 : {number(learned, 0)} paramètres appris, {fixed} fixes")
print(f"aujourd'hui : {number(model.count_params(), 0)} paramètres appris")
assert learned == 60_000

# %% [markdown]
# Exactement 60 000, le nombre que l'article annonce. Restent deux affirmations du document :

# %%
subsampling = next(layer for layer in original.layers if isinstance(layer, Subsampling))
verdict("arch-lenet-pooling", subsampling.count_params())
outputs = ops.convert_to_numpy(original(np.zeros((1, 32, 32, 1), "float32")))
verdict("arch-lenet-softmax", bool(np.isclose(outputs.sum(), 1)))

# %% [markdown]
# Les deux versions lisent-elles les « chiffres manuscrits » ? Deux fonctions serviront à tous les
# entraînements du chapitre. La première accepte un réseau à plusieurs sorties : nous en aurons
# besoin pour GoogLeNet.


# %%
def train(model, x, y, optimizer=None, epochs=EPOCHS):
    """Entraîne un réseau, dont chaque sortie donne des scores ; rend l'exactitude par époque.

    La perte est celle de la première sortie, plus 0,3 fois celle de chaque autre.
    """
    heads = len(model.outputs)
    model.compile(
        optimizer=optimizer or keras.optimizers.Adam(1e-3),
        loss=[keras.losses.SparseCategoricalCrossentropy(from_logits=True)] * heads,
        loss_weights=[1.0] + [0.3] * (heads - 1),
        metrics=[["accuracy"]] * heads,
    )
    history = model.fit(x, [y] * heads, BATCH_SIZE, epochs, verbose=0).history
    return history["accuracy" if heads == 1 else f"{model.output_names[0]}_accuracy"]


def accuracy(model, x, y):
    """Part des images dont le score le plus haut est celui de la bonne classe."""
    answers = []
    for part in np.array_split(x, len(x) // 500 + 1):
        scores = keras.tree.flatten(model(part, training=False))[0]
        answers.append(ops.convert_to_numpy(scores).argmax(axis=1))
    return np.mean(np.concatenate(answers) == y)


# %% [markdown]
# Prenons mille chiffres de scikit-learn, agrandis. Pour la version de 1998, le score d'une classe
# est le dixième de l'opposé de sa distance, et la perte est celle d'aujourd'hui.

# %%
digits = synthetic.garments()
pixels, unseen = to_input(digits.x_train[:1000]), to_input(digits.x_test)
around = [(0, 0), (2, 2), (2, 2), (0, 0)]  # 28 × 28 -> 32 × 32
reads = {}
for name, network, margin in (
    ("aujourd'hui", lenet5(), [(0, 0)] * 4),
    (
        "1998",
        keras.Model(original.inputs[0], layers.Rescaling(-0.1)(original.outputs[0])),
        around,
    ),
):
    keras.utils.set_random_seed(0)
    train(network, np.pad(pixels, margin), digits.y_train[:1000], epochs=10)
    reads[name] = accuracy(network, np.pad(unseen, margin), digits.y_test)
for name, value in reads.items():
    print(f"{name} : exactitude de test {number(value, 3)}")
verdict("arch-lenet-digits", min(reads.values()))

# %% [markdown]
# ## AlexNet : plus grand
#
# Quatorze ans plus tard, presque la même recette : convolutions, sous-échantillonnages, couches
# denses. Ce qui change est l'échelle, et trois choix : ReLU, l'abandon, et une ***normalisation
# locale***, délaissée après GoogLeNet, qui divise chaque valeur par une puissance de la somme des
# carrés des canaux voisins.


# %%
@keras.saving.register_keras_serializable(package="course")
class LocalResponseNormalization(layers.Layer):
    """x / (k + α Σ x²)^β, la somme portant sur `size` canaux voisins (AlexNet, § 3.3)."""

    def __init__(self, size=5, bias=2.0, alpha=1e-4, beta=0.75, **kwargs):
        super().__init__(**kwargs)
        self.size, self.bias, self.alpha, self.beta = size, bias, alpha, beta

    def call(self, x):
        channels, around = x.shape[-1], self.size // 2
        squares = ops.pad(ops.square(x), [[0, 0]] * 3 + [[around, around]])
        total = sum(squares[..., k : k + channels] for k in range(self.size))
        return x / (self.bias + self.alpha * total) ** self.beta

    def get_config(self):
        own = {
            "size": self.size,
            "bias": self.bias,
            "alpha": self.alpha,
            "beta": self.beta,
        }
        return super().get_config() | own


# %% [markdown]
# Le réseau était réparti sur deux cartes graphiques : les convolutions 2, 4 et 5 ne voient que la
# moitié des canaux, celle de leur carte. C'est ce que Keras appelle `groups=2`.

# %%
ALEXNET = (  # filtres, côté, pas, groupes, normalisation, sous-échantillonnage
    (96, 11, 4, 1, True, True),
    (256, 5, 1, 2, True, True),
    (384, 3, 1, 1, False, False),
    (384, 3, 1, 2, False, False),
    (256, 3, 1, 2, False, True),
)


def alexnet(input_shape=(227, 227, 3), classes=1000):
    """AlexNet, celui de l'article de 2012."""
    inputs = x = keras.Input(input_shape)
    for filters, size, strides, groups, normalise, pool in ALEXNET:
        padding = "same" if strides == 1 else "valid"
        x = layers.Conv2D(
            filters, size, strides, padding=padding, groups=groups, activation="relu"
        )(x)
        x = LocalResponseNormalization()(x) if normalise else x
        x = layers.MaxPooling2D(3, 2)(x) if pool else x
    x = layers.Flatten()(x)
    for _ in range(2):
        x = layers.Dropout(0.5)(layers.Dense(4096, activation="relu")(x))
    return keras.Model(inputs, layers.Dense(classes)(x), name="alexnet")


# %% [markdown]
# L'article annonce des images de 224 × 224. La formule du chapitre 1 le contredit : un noyau de 11,
# un pas de 4 et une sortie de 55 demandent 227.

# %%
for side in (224, 227):
    print(f"côté {side} : ({side} − 11) / 4 + 1 = {french((side - 11) / 4 + 1)}")

model = alexnet()
show_stages(model)
verdict("arch-alexnet-parameters", model.count_params())
verdict("arch-alexnet-units", units(model))
verdict("arch-alexnet-layers", layer_depth(model))

# %% [markdown]
# Dessinons-le à côté de LeNet-5. Une fonction donne à chaque couche son étiquette ; celles qui n'en
# ont pas, comme l'abandon, ne sont pas dessinées.


# %%
POOLING = (layers.MaxPooling2D, layers.AveragePooling2D)


def name_layer(layer):
    """Étiquette d'une couche dans un dessin ; None : on ne la dessine pas."""
    if isinstance(layer, layers.DepthwiseConv2D):
        return "par canal\n{}×{}".format(*layer.kernel_size)
    if isinstance(layer, layers.Conv2D):
        return "conv {}×{}\n{}".format(*layer.kernel_size, layer.filters)
    if isinstance(layer, layers.Dense):
        return f"dense\n{layer.units}"
    if isinstance(layer, POOLING):
        kind = "max" if isinstance(layer, layers.MaxPooling2D) else "moyenne"
        return "{} {}×{}".format(kind, *layer.pool_size)
    names = {
        layers.InputLayer: "entrée",
        layers.GlobalAveragePooling2D: "moyenne",
        layers.Concatenate: "concaténer",
        layers.Add: "+",
        layers.Multiply: "×",
        LocalResponseNormalization: "norm. locale",
    }
    return names.get(type(layer))


def on_one_line(layer):
    """La même étiquette, sur une ligne."""
    return (name_layer(layer) or "").replace("\n", ", ") or None


# %%
figures.show(
    graphs.layer_graphs({"LeNet-5": lenet5(), "AlexNet": model}, on_one_line),
    alt="Deux chaînes de couches. LeNet-5 : deux convolutions 5×5 de 6 et 16 filtres, chacune "
    "suivie d'un maximum 2×2, et trois couches denses de 120, 84 et 10. AlexNet : cinq "
    "convolutions, 11×11 de 96, 5×5 de 256, trois 3×3 de 384, 384 et 256, trois maximums 3×3,"
    " et trois couches denses de 4096, 4096 et 1000.",
)

# %% [markdown]
# La même recette, en plus long. Les deux nombres du document sont justes à 2 % près. Et ses trois
# choix, le maximum, ReLU et l'abandon ?


# %%
def kinds(model, base):
    """Noms des classes des couches d'un modèle qui descendent de `base`, sans répétition."""
    return sorted(
        {type(layer).__name__ for layer in model.layers if isinstance(layer, base)}
    )


verdict("arch-alexnet-pooling", kinds(model, POOLING))
activations = {
    layer.activation.__name__
    for layer in model.layers
    if isinstance(layer, layers.Conv2D)
}
verdict("arch-alexnet-relu", sorted(activations))

dropped = [layer for layer in model.layers if isinstance(layer, layers.Dropout)]
verdict("arch-alexnet-dropout", len(dropped))

# %% [markdown]
# Ces trois verdicts relisent dans notre réseau ce que l'article nous y a fait mettre ; les comptes
# disent qu'il n'y manque rien. Revenez maintenant à la table des étages : qui a les paramètres, qui
# fait les calculs ?


# %%
def dense_shares(model):
    """Parts des couches denses : (des paramètres, des multiplications-additions)."""
    dense = [layer for layer in model.layers if isinstance(layer, layers.Dense)]
    parameters = sum(layer.count_params() for layer in dense) / model.count_params()
    return parameters, sum(map(multiply_adds, dense)) / multiply_adds(model)


parameters, operations = dense_shares(model)
print(
    f"couches denses : {percent(parameters)} des paramètres, {percent(operations)} des calculs"
)
alexnet_size, alexnet_cost = model.count_params(), multiply_adds(model)
del model, dropped  # une seule couche gardée retiendrait tout le graphe, et ses poids

# %% [markdown]
# Les couches denses tiennent presque tous les paramètres et ne font presque aucun calcul ; les
# convolutions, l'inverse.
#
# Deux phrases du document ne se vérifient pas ici. « Accélération 50x sur CPU » ne figure nulle
# part dans l'article. « Entraîné sur deux GPU pendant une semaine » arrondit : l'article dit de
# cinq à six jours.

# %% [markdown]
# ## VGG : plus profond, plus simple
#
# VGG, du nom d'un laboratoire d'Oxford (*Visual Geometry Group*), n'emploie qu'une sorte de
# convolution, 3 × 3 avec un pas de 1, et double les canaux quand le côté est divisé par deux,
# jusqu'à 512. Quatre profondeurs, quatre lignes :

# %%
VGG = {  # profondeur : convolutions de chacun des cinq étages
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}


def vgg_stage(x, filters, repeats):
    """Des convolutions 3 × 3, puis un maximum."""
    for _ in range(repeats):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
    return layers.MaxPooling2D(2)(x)


def vgg(depth, input_shape=(224, 224, 3), classes=1000):
    """VGG-11, 13, 16 ou 19."""
    inputs = x = keras.Input(input_shape)
    for filters, repeats in zip((64, 128, 256, 512, 512), VGG[depth]):
        x = vgg_stage(x, filters, repeats)
    x = layers.Flatten()(x)
    for _ in range(2):
        x = layers.Dense(4096, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(classes)(x), name=f"vgg{depth}")


# %% [markdown]
# Pour dessiner un bloc seul, donnons-lui une entrée.


# %%
def block(function, *arguments, channels=192, side=28):
    """Un bloc isolé, comme petit modèle."""
    inputs = keras.Input((side, side, channels))
    return keras.Model(inputs, function(inputs, *arguments))


drawn = {
    "deuxième étage de VGG-16": block(vgg_stage, 128, 2, channels=64),
    "troisième étage": block(vgg_stage, 256, 3, channels=128),
}
figures.show(
    graphs.layer_graphs(drawn, on_one_line),
    alt="Deux étages de VGG-16 : deux convolutions 3×3 de 128 filtres puis un maximum 2×2 ; trois"
    " convolutions 3×3 de 256 filtres puis un maximum 2×2.",
)

# %% [markdown]
# D'un étage à l'autre, seuls changent les filtres et les répétitions. Le réseau entier :

# %%
model = vgg(16)
show_stages(model)
verdict("arch-vgg-parameters", model.count_params())

# %% [markdown]
# « Environ 500 Mo d'espace de stockage » : enregistrons les poids et regardons le fichier. À quatre
# octets par paramètre, on attend 553 Mo, soit 528 Mio (de $2^{20}$ octets), plus près du document.

# %%
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "vgg16.weights.h5"
    model.save_weights(path)
    size = path.stat().st_size
print(f"{number(size / 1e6, 0)} Mo, {number(size / 2**20, 0)} Mio")
verdict("arch-vgg-size", round(size / 2**20))

# %% [markdown]
# Comptons ce que la page du document dit de la forme du réseau : les sortes de convolution, les
# convolutions suivies d'un sous-échantillonnage, la place des couches denses.

# %%
convolutions = [layer for layer in model.layers if isinstance(layer, layers.Conv2D)]
sizes = sorted({layer.kernel_size[0] for layer in convolutions})
followed = [
    isinstance(after, layers.MaxPooling2D)
    for layer, after in zip(model.layers, model.layers[1:])
    if layer in convolutions
]
print(
    f"{sum(followed)} convolutions sur {len(followed)} suivies d'un sous-échantillonnage"
)
verdict("arch-vgg-filters", sizes)
verdict("arch-vgg-pooled", sum(followed))
verdict(
    "arch-vgg-uniform",
    len({(c.kernel_size, c.strides, c.padding) for c in convolutions}),
)
verdict("arch-vgg-pooling", kinds(model, POOLING))
verdict("arch-vgg-relu", sorted({layer.activation.__name__ for layer in convolutions}))
last = [type(layer).__name__ for layer in model.layers if kernels(layer)][-3:]
verdict("arch-vgg-dense-end", last)

# %% [markdown]
# « Plus coûteuse en termes de ressources computationnelles en raison de son nombre de paramètres
# plus élevé » : VGG-16 calcule bien plus qu'AlexNet. Est-ce la faute de ses paramètres ?

# %%
parameters, operations = dense_shares(model)
print(f"{number(multiply_adds(model) / alexnet_cost, 0)} fois les calculs d'AlexNet")
print(
    f"couches denses : {percent(parameters)} des paramètres, {percent(operations, 1)} des calculs"
)
verdict("arch-vgg-cost", bool(operations > 0.5))
del model, convolutions

# %% [markdown]
# Neuf paramètres sur dix ne servent qu'une fois par image. Les poids des convolutions, huit fois
# moins nombreux, servent une fois par position, jusqu'à 50 176 fois. **Paramètres et temps de
# calcul sont deux choses différentes.**
#
# VGG-19 ne demande pas d'être construit : la table suffit à le compter.


# %%
def vgg_parameters(depth):
    """Paramètres d'un VGG, d'après sa table seule."""
    total, channels = 0, 3
    for filters, repeats in zip((64, 128, 256, 512, 512), VGG[depth]):
        for _ in range(repeats):
            total += (9 * channels + 1) * filters
            channels = filters
    widths = (7 * 7 * 512, 4096, 4096, 1000)
    return total + sum((a + 1) * b for a, b in zip(widths, widths[1:]))


for size in VGG:
    print(f"VGG-{size} : {number(vgg_parameters(size), 0)} paramètres")
verdict("arch-vgg-layers", sum(VGG[19]) + 3)

# %% [markdown]
# ### Pourquoi 3 × 3 ?
#
# Deux convolutions 3 × 3 empilées voient aussi loin qu'une 5 × 5, trois aussi loin qu'une 7 × 7 :
# le [chapitre 1](01_convolution.ipynb) l'a mesuré par le gradient. Avec un pas de 1, chaque noyau
# de côté $F$ ajoute $F - 1$ au champ réceptif. Comptons les poids, de 64 canaux vers 64.


# %%
def stack_parameters(sizes, channels=64):
    """Poids d'un empilement de convolutions sans biais."""
    inputs = x = keras.Input((28, 28, channels))
    for size in sizes:
        x = layers.Conv2D(channels, size, padding="same", use_bias=False)(x)
    return keras.Model(inputs, x).count_params()


STACKS = {"une 5×5": (5,), "deux 3×3": (3, 3), "une 7×7": (7,), "trois 3×3": (3, 3, 3)}
rows = [
    (name, 1 + sum(size - 1 for size in sizes), number(stack_parameters(sizes), 0))
    for name, sizes in STACKS.items()
]
runtime.show_table(("empilement", "champ réceptif", "poids"), rows)

# %% [markdown]
# Même champ, 28 % de poids en moins pour deux, 45 % pour trois, et une non-linéarité de plus par
# convolution ajoutée. La section *Douze briques* dira ce qu'y gagne l'exactitude.

# %% [markdown]
# ## GoogLeNet : plus économe
#
# Que faut-il empiler, du 1 × 1, du 3 × 3, du 5 × 5 ? GoogLeNet répond : tout, côte à côte, et l'on
# *concatène*, c'est-à-dire que l'on met les cartes bout à bout. Le module ***Inception*** a quatre
# branches ; des convolutions 1 × 1 y rétrécissent les canaux avant les noyaux coûteux.


# %%
def conv_relu(x, filters, size, strides=1):
    return layers.Conv2D(filters, size, strides, padding="same", activation="relu")(x)


def inception(x, one, reduce3, three, reduce5, five, project):
    """Module Inception : quatre branches, concaténées."""
    branches = [
        conv_relu(x, one, 1),
        conv_relu(conv_relu(x, reduce3, 1), three, 3),
        conv_relu(conv_relu(x, reduce5, 1), five, 5),
        conv_relu(layers.MaxPooling2D(3, 1, padding="same")(x), project, 1),
    ]
    return layers.Concatenate()(branches)


# %%
module = block(inception, 64, 96, 128, 16, 32, 32)  # le module 3a
figures.show(
    graphs.layer_graphs({"module Inception 3a": module}, name_layer),
    alt="Le module Inception : de l'entrée partent quatre branches, une convolution 1×1 ; une 1×1"
    " puis une 3×3 ; une 1×1 puis une 5×5 ; un maximum 3×3 puis une 1×1. Leurs sorties, de "
    "64, 128, 32 et 32 canaux, sont concaténées.",
)

# %% [markdown]
# En sortie, 64 + 128 + 32 + 32 = 256 canaux.
#
# ### Ce que fait une convolution 1 × 1
#
# Le document lui prête deux effets, à quelques lignes d'écart : « réduire la dimension spatiale des
# caractéristiques », puis « réduire la dimensionnalité des cartes de caractéristiques ». Regardons
# les tailles, puis ce qu'elle calcule : en chaque point, un produit par une matrice, canaux vers
# canaux.

# %%
rng = np.random.default_rng(0)
maps = rng.normal(size=(1, 28, 28, 192)).astype("float32")
pointwise = layers.Conv2D(16, 1, use_bias=False)
reduced = ops.convert_to_numpy(pointwise(maps))
matrix = ops.convert_to_numpy(pointwise.kernel)[0, 0]  # (192, 16)
print(" → ".join(" × ".join(map(str, a.shape[1:])) for a in (maps, reduced)))
assert np.allclose(reduced, maps @ matrix, atol=1e-4)
verdict("arch-googlenet-one-spatial", bool(reduced.shape[1:3] != maps.shape[1:3]))

# %% [markdown]
# C'est le sous-échantillonnage qui réduit l'espace. Le document ajoute que tous deux introduisent
# « une certaine invariance aux translations ». Décalons les cartes d'un point : quelle part des
# sorties ne change pas ?

# %%
moved = np.roll(maps, 1, axis=1)
unchanged = {}
for name, layer in (("1 × 1", pointwise), ("maximum", layers.MaxPooling2D(3, 2))):
    before, after = (ops.convert_to_numpy(layer(x)) for x in (maps, moved))
    unchanged[name] = np.isclose(before, after, atol=1e-5).mean()
    print(f"{name} : {percent(unchanged[name])} des sorties inchangées")
verdict("arch-googlenet-invariance", unchanged["maximum"])

# %% [markdown]
# Le maximum, oui, en partie ; la convolution 1 × 1, qui ne regarde aucun voisin, non. Ce qu'elle
# apporte, c'est l'économie. Sur la branche 5 × 5 du module 3a, avec 192 canaux en entrée, 16 après
# la réduction et 32 en sortie :


# %%
def direct_five(x):
    return conv_relu(x, 32, 5)


def thrifty_five(x):
    return conv_relu(conv_relu(x, 16, 1), 32, 5)


direct, thrifty = block(direct_five), block(thrifty_five)
print(f"directe : {number(multiply_adds(direct), 0)} multiplications-additions")
print(f"réduite : {number(multiply_adds(thrifty), 0)}")
verdict("arch-googlenet-one-cost", multiply_adds(direct) / multiply_adds(thrifty))
verdict("arch-googlenet-one-parameters", direct.count_params() / thrifty.count_params())

# %% [markdown]
# Presque dix fois moins. Voici le réseau entier : neuf modules, une moyenne globale à la place des
# deux grandes couches denses, et deux ***têtes auxiliaires*** que l'on jette après l'entraînement.

# %%
GOOGLENET = {  # 1×1 ; réduction, 3×3 ; réduction, 5×5 ; projection
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


def auxiliary_head(x, classes):
    """Un petit classifieur posé au milieu du réseau."""
    x = conv_relu(layers.AveragePooling2D(5, 3)(x), 128, 1)
    x = layers.Dense(1024, activation="relu")(layers.Flatten()(x))
    return layers.Dense(classes)(layers.Dropout(0.7)(x))


# %%
def googlenet(auxiliary=False, input_shape=(224, 224, 3), classes=1000):
    """GoogLeNet, celui de l'article ; `auxiliary` : rend aussi les scores des deux têtes."""
    inputs = keras.Input(input_shape)
    x = layers.MaxPooling2D(3, 2, padding="same")(conv_relu(inputs, 64, 7, strides=2))
    x = conv_relu(LocalResponseNormalization()(x), 64, 1)
    x = LocalResponseNormalization()(conv_relu(x, 192, 3))
    heads = []
    for name, filters in GOOGLENET.items():
        if name in ("3a", "4a", "5a"):
            x = layers.MaxPooling2D(3, 2, padding="same")(x)
        x = inception(x, *filters)
        if auxiliary and name in ("4a", "4d"):
            heads.append(auxiliary_head(x, classes))
    x = layers.Dropout(0.4)(layers.GlobalAveragePooling2D()(x))
    scores = layers.Dense(classes)(x)
    return keras.Model(
        inputs, [scores, *heads] if auxiliary else scores, name="googlenet"
    )


model = googlenet()
show_stages(model)
print(f"{layer_depth(model)} couches, {number(model.count_params(), 0)} paramètres")
verdict("arch-googlenet-efficiency", alexnet_size / model.count_params())

# %% [markdown]
# Vingt-deux couches, et près de neuf fois moins de paramètres qu'AlexNet.
#
# <details>
# <summary>L'article dit douze fois moins</summary>
#
# Sa table additionne 6 798 K, où K vaut 1 024 : 6,96 millions, à 0,5 % de notre compte. Un article
# suivant des mêmes auteurs dit 5 millions, d'où les douze fois.
#
# </details>
#
# Combien de ses convolutions 1 × 1 réduisent-elles les canaux, et que font ses maximums de pas 2 ?

# %%
pointwise = [
    layer
    for layer in model.layers
    if isinstance(layer, layers.Conv2D) and layer.kernel_size == (1, 1)
]
narrower = [layer.output.shape[-1] < layer.input.shape[-1] for layer in pointwise]
halving = [
    layer.input.shape[1] / layer.output.shape[1]
    for layer in model.layers
    if isinstance(layer, layers.MaxPooling2D) and layer.strides == (2, 2)
]
print(f"{sum(narrower)} convolutions 1 × 1 sur {len(narrower)} réduisent les canaux")
verdict("arch-googlenet-one-channels", np.mean(narrower))
verdict("arch-googlenet-pool-spatial", sorted(set(halving)))

# %% [markdown]
# ### Les têtes auxiliaires
#
# Le document les décrit comme des « blocs […] composés de couches de convolution et de
# sous-échantillonnage ». Que leur manque-t-il ?

# %%
with_heads = googlenet(auxiliary=True)
extra = with_heads.count_params() - model.count_params()
dense = [layer for layer in with_heads.layers if isinstance(layer, layers.Dense)]
print(f"deux têtes : {number(extra, 0)} paramètres, à jeter après l'entraînement")
verdict("arch-googlenet-aux-places", len(with_heads.outputs) - 1)
verdict("arch-googlenet-aux-layers", (len(dense) - 1) // 2)
del model, with_heads, dense, pointwise

# %% [markdown]
# Ce sont donc de vrais classifieurs, avec leur perte. Aident-elles « à la propagation du
# gradient » ? Mesurons, à l'initialisation, le gradient que reçoit la première convolution, quand
# la perte des têtes ne compte pas, puis quand elle compte pour 0,3 chacune. La perte totale vaut
# alors 1,6 fois environ celle de la sortie ; divisons d'autant, sans quoi le résultat serait vrai
# d'avance.


# %%
def kernel_gradients(model, x, y, others=0.3):
    """Moyenne quadratique du gradient de la perte, pour chaque noyau, de l'entrée à la sortie.

    La perte est celle de `train`, sur le lot `x`, `y`, le réseau étant en mode d'entraînement ;
    `others` : le poids des sorties autres que la première.
    """
    frozen = [variable.value for variable in model.non_trainable_variables]
    weights = [1.0] + [others] * (len(model.outputs) - 1)

    def loss(*values):
        outputs, _ = model.stateless_call(values, frozen, x, training=True)
        losses = [
            ops.mean(ops.sparse_categorical_crossentropy(y, scores, from_logits=True))
            for scores in keras.tree.flatten(outputs)
        ]
        return sum(w * value for w, value in zip(weights, losses))

    variables = model.trainable_variables
    start = [ops.convert_to_numpy(variable) for variable in variables]
    _, gradients = value_and_grad(loss, start)
    return {
        variable.path: np.sqrt(np.mean(gradient**2))
        for variable, gradient in zip(variables, gradients)
        if variable.name == "kernel"
    }


# %%
noise = rng.normal(size=(2, 224, 224, 3)).astype("float32")
labels = rng.integers(1000, size=2)
ratios = []
for seed in SEEDS:
    keras.utils.set_random_seed(seed)
    network = googlenet(auxiliary=True)
    first = [
        next(iter(kernel_gradients(network, noise, labels, others).values()))
        for others in (0.0, 0.3)
    ]
    ratios.append(first[1] / first[0] / 1.6)
print("gradient de la première convolution, avec / sans, par unité de perte :")
print(" ; ".join(map(number, ratios)))
verdict("arch-googlenet-aux-gradient", min(ratios))
del network

# %% [markdown]
# Oui, même à perte égale. À l'entraînement, l'effet se voit-il ? Entraînons une chaîne de dix-huit
# convolutions, avec et sans têtes. Voici d'abord la maille de nos petits réseaux (la normalisation
# par lots, qu'elle peut comprendre, est expliquée à la section suivante), puis la boucle de toutes
# les comparaisons du chapitre, enfin la chaîne.


# %%
def unit(x, filters, size=3, strides=1, normalise=True, activate=True):
    """Convolution, puis normalisation par lots, puis ReLU : la maille des petits réseaux."""
    x = layers.Conv2D(
        filters,
        size,
        strides,
        padding="same",
        use_bias=not normalise,
        kernel_initializer="he_normal",
    )(x)
    if normalise:
        x = layers.BatchNormalization(momentum=0.9)(x)
    return layers.ReLU()(x) if activate else x


def classify(inputs, x):
    """Moyenne globale, puis un score par classe."""
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(10)(x))


# %%
def compare(networks, optimizer=lambda: None):
    """Entraîne chaque réseau avec chaque graine.

    `networks` : nom -> fonction qui le construit. Rend, par nom, une ligne par graine.
    """
    found = {}
    for name, build in networks.items():
        found[name] = {"training": [], "fitted": [], "validation": [], "seconds": []}
        for seed in SEEDS:
            keras.utils.set_random_seed(seed)
            model, begin = build(), perf_counter()
            found[name]["training"].append(train(model, x_train, y_train, optimizer()))
            found[name]["seconds"].append(perf_counter() - begin)
            found[name]["fitted"].append(accuracy(model, x_train, y_train))
            found[name]["validation"].append(accuracy(model, x_val, y_val))
        found[name]["multiply_adds"] = multiply_adds(model)
        found[name]["parameters"] = model.count_params()
    return found


# %%
def chain(auxiliary, length=18, filters=24):
    """Longue chaîne de convolutions sans normalisation ; `auxiliary` lui ajoute deux têtes."""
    inputs = keras.Input((28, 28, 1))
    x, taps = unit(inputs, filters, strides=2, normalise=False), []
    for k in range(1, length):
        x = unit(x, filters, normalise=False)
        if auxiliary and k in (length // 3, 2 * length // 3):
            taps.append(x)
    heads = [
        layers.Dense(10)(layers.GlobalAveragePooling2D()(tap)) for tap in [x, *taps]
    ]
    return keras.Model(inputs, heads)


def auxiliary_run():
    return compare(
        runtime.pick(
            quick={"with": partial(chain, True)},
            full={"without": partial(chain, False), "with": partial(chain, True)},
        )
    )


heads = experiment("auxiliary", auxiliary_run)


# %%
shown = heads.values
HEADS = {"without": "sans têtes", "with": "avec deux têtes"}
rows = [
    (title, spread(shown[name]["fitted"]), spread(shown[name]["validation"]))
    for name, title in HEADS.items()
    if name in shown
]
header = ("chaîne de 18 convolutions", "entraînement", "validation")
runtime.show_table(header, rows)

# %% [markdown]
# Non : avec ou sans têtes, la chaîne atteint la même exactitude, à l'entraînement comme en
# validation. Les poids tirés à l'échelle de He (chapitre 2) laissent déjà passer le gradient ; et
# la chaîne ne surapprend pas, il n'y a donc rien à *régulariser*, à retenir d'apprendre par cœur.
# L'article suivant de la même équipe trouve lui aussi que les têtes n'accélèrent pas le début de
# l'entraînement ; il leur prête un effet de régularisation, que nous ne pouvons pas trancher ici.
#
# ## Inception v2 : factoriser et normaliser
#
# Sous le nom d'Inception v2 circulent deux réseaux de 2015 : celui de l'article qui propose la
# normalisation par lots [(Ioffe et Szegedy)](https://arxiv.org/abs/1502.03167), et celui d'un
# second article, qui factorise les convolutions [(Szegedy et
# al.)](https://arxiv.org/abs/1512.00567). Le document mêle les deux. Construisons le premier ; les
# factorisations du second suivent.


# %%
def conv_bn_relu(x, filters, size, strides=1):
    x = layers.Conv2D(filters, size, strides, padding="same")(x)
    return layers.ReLU()(layers.BatchNormalization()(x))


INCEPTION_V2 = {  # 1×1 ; réduction, 3×3 ; réduction, double 3×3 ; projection
    "3a": (64, 64, 64, 64, 96, 32),
    "3b": (64, 64, 96, 64, 96, 64),
    "3c": (0, 128, 160, 64, 96, 0),
    "4a": (224, 64, 96, 96, 128, 128),
    "4b": (192, 96, 128, 96, 128, 128),
    "4c": (160, 128, 160, 128, 160, 128),
    "4d": (96, 128, 192, 160, 192, 128),
    "4e": (0, 128, 192, 192, 256, 0),
    "5a": (352, 192, 320, 160, 224, 128),
    "5b": (352, 192, 320, 192, 224, 128),
}


# %%
def inception_double(x, pool, one, reduce3, three, reduce33, double, project):
    """Module d'Inception v2 ; sans branche 1 × 1, il divise le côté par deux."""
    strides = 1 if one else 2
    double_branch = conv_bn_relu(conv_bn_relu(x, reduce33, 1), double, 3)
    branches = [
        conv_bn_relu(conv_bn_relu(x, reduce3, 1), three, 3, strides),
        conv_bn_relu(double_branch, double, 3, strides),
    ]
    pooled = pool(3, strides, padding="same")(x)
    if one:
        branches = [
            conv_bn_relu(x, one, 1),
            *branches,
            conv_bn_relu(pooled, project, 1),
        ]
    else:
        branches = [*branches, pooled]
    return layers.Concatenate()(branches)


def inception_v2(input_shape=(224, 224, 3), classes=1000):
    """Inception v2, celui de l'article de la normalisation par lots."""
    inputs = keras.Input(input_shape)
    x = conv_bn_relu(inputs, 64, 7, strides=2)
    x = layers.MaxPooling2D(3, 2, padding="same")(x)
    x = conv_bn_relu(conv_bn_relu(x, 64, 1), 192, 3)
    x = layers.MaxPooling2D(3, 2, padding="same")(x)
    for name, filters in INCEPTION_V2.items():
        largest = name in ("3c", "4e", "5b")  # les autres modules font la moyenne
        pool = layers.MaxPooling2D if largest else layers.AveragePooling2D
        x = inception_double(x, pool, *filters)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(classes)(x), name="inception_v2")


# %%
module = block(inception_double, layers.AveragePooling2D, *INCEPTION_V2["3a"])
figures.show(
    graphs.layer_graphs({"module Inception v2, 3a": module}, name_layer),
    alt="Le module d'Inception v2 : quatre branches, une convolution 1×1 ; une 1×1 puis une 3×3 ;"
    " une 1×1 puis deux 3×3 à la place de la 5×5 ; une moyenne 3×3 puis une 1×1 ; puis la "
    "concaténation.",
)

# %% [markdown]
# La 5 × 5 a disparu : deux 3 × 3 la remplacent. Le réseau entier :

# %%
model = inception_v2()
show_stages(model)
learned = sum(math.prod(weight.shape) for weight in model.trainable_weights)
print(f"{layer_depth(model)} couches, {number(learned, 0)} paramètres appris")
assert learned == 11_295_240  # la version portée vers PyTorch (bninception)

# %% [markdown]
# Le compte est celui de la version portée vers PyTorch (*bninception*) ; dans l'article, deux
# lignes de la table se contredisent.
#
# « Des convolutions 1 × 1 pour réduire la dimensionnalité […] avant d'appliquer des convolutions
# plus grandes » : suivons, dans le graphe, ce que lit chaque convolution. La sortie d'un module est
# une concaténation de plusieurs : une 3 × 3 qui la lirait directement aurait plusieurs sources.


# %%
def direct_sources(model):
    """Pour chaque couche à poids, celles dont elle lit directement la sortie, ou l'entrée."""
    origins, sources = {}, {}
    for operation in model.operations:
        if isinstance(operation, layers.InputLayer):
            origins[id(operation.output)] = {operation}
            continue
        inputs = keras.tree.flatten(operation.input)
        read = set().union(*(origins[id(tensor)] for tensor in inputs))
        origins[id(operation.output)] = {operation} if weighted(operation) else read
        if weighted(operation):
            sources[operation] = read
    return sources


unreduced = [
    layer
    for layer, read in direct_sources(model).items()
    if len(read) > 1
    and isinstance(layer, layers.Conv2D)
    and layer.kernel_size == (3, 3)
]
verdict("arch-inception2-one", len(unreduced))
del model

# %% [markdown]
# ### Factoriser
#
# Le document cite « une factorisation de la convolution 3x3 en deux convolutions séquentielles de
# 3x1 et 1x3 ». Comptons les poids, pour un même champ réceptif, et ceux de l'autre factorisation,
# qu'il oublie et que montre le dessin du module : deux 3 × 3 à la place d'une 5 × 5.

# %%
FACTORED = {
    "5×5 → deux 3×3": ((5,), (3, 3)),
    "3×3 → 3×1 puis 1×3": ((3,), ((3, 1), (1, 3))),
    "3×3 → deux 2×2": ((3,), (2, 2)),
}
ratios = {
    name: stack_parameters(after) / stack_parameters(before)
    for name, (before, after) in FACTORED.items()
}
for name, ratio in ratios.items():
    print(f"{name} : {percent(1 - ratio)} de poids en moins")
verdict("arch-inception2-complexity", ratios["5×5 → deux 3×3"])
verdict("arch-inception2-factorised", ratios["3×3 → 3×1 puis 1×3"])

# %% [markdown]
# ### Normaliser
#
# La ***normalisation par lots*** (*batch normalization*) ramène chaque canal, sur les images du
# lot, à une moyenne nulle et une variance de 1, puis lui rend une échelle $\gamma$ et un décalage
# $\beta$ appris :
#
# $$\hat x = \frac{x - \mu_{\text{lot}}}{\sqrt{\sigma_{\text{lot}}^2 + \varepsilon}}, \qquad
# y = \gamma \hat x + \beta.$$
#
# Au test, il n'y a plus de lot : la couche emploie des moyennes accumulées pendant l'entraînement,
# des *moyennes mobiles* dont chacune garde, à chaque lot, une part `momentum` de sa valeur.
# Vérifions les deux modes contre NumPy.

# %%
maps = rng.normal(3, 2, size=(32, 6, 6, 4)).astype("float32")
norm = layers.BatchNormalization(epsilon=1e-3)
trained = ops.convert_to_numpy(norm(maps, training=True))
mean, variance = maps.mean(axis=(0, 1, 2)), maps.var(axis=(0, 1, 2))
assert np.allclose(trained, (maps - mean) / np.sqrt(variance + 1e-3), atol=1e-4)

moving = [ops.convert_to_numpy(w) for w in (norm.moving_mean, norm.moving_variance)]
tested = ops.convert_to_numpy(norm(maps, training=False))
assert np.allclose(tested, (maps - moving[0]) / np.sqrt(moving[1] + 1e-3), atol=1e-4)
print(f"moyennes du lot : {french(mean.round(2).tolist())}")
print(f"moyennes accumulées, après un lot : {french(moving[0].round(3).tolist())}")

# %% [markdown]
# Après un seul lot, les moyennes accumulées n'ont fait qu'un centième du chemin : **un réseau
# normalisé, testé trop tôt, répond n'importe quoi**. C'est pourquoi nos petits réseaux, entraînés
# quelques minutes, emploient `momentum=0.9` (un dixième du chemin à chaque lot).
#
# « Accélérer l'entraînement et stabiliser le processus d'apprentissage » : entraînons le même
# réseau de dix couches, avec et sans normalisation, à six taux d'apprentissage.


# %%
def halve(x, filters):
    """Raccourci sans paramètre : un point sur deux, et des canaux nuls pour compléter."""
    return ops.pad(x[:, ::2, ::2], [[0, 0]] * 3 + [[0, filters - x.shape[-1]]])


def stacked(depth, shortcut, normalise=True, filters=16):
    """Pile de `depth` couches à poids : un tronc, des paires de convolutions, une couche dense."""
    inputs = keras.Input((28, 28, 1))
    x = unit(inputs, filters, strides=2, normalise=normalise)  # (14, 14, 16)
    pairs = (depth - 2) // 2
    for pair in range(pairs):
        width = filters if pair < pairs // 2 else 2 * filters  # (7, 7, 32)
        strides = 1 if x.shape[-1] == width else 2
        carried = x if strides == 1 else halve(x, width)
        x = unit(x, width, strides=strides, normalise=normalise)
        x = unit(x, width, normalise=normalise, activate=False)
        x = layers.ReLU()(layers.Add()([carried, x]) if shortcut else x)
    return classify(inputs, x)


# %%
def normalisation_run():
    found = {"rates": RATES}
    for name, normalise in (("without", False), ("with", True)):
        network = {name: partial(stacked, 10, shortcut=False, normalise=normalise)}
        runs = [compare(network, partial(keras.optimizers.SGD, r))[name] for r in RATES]
        found[name] = {
            key: [run[key] for run in runs] for key in ("training", "validation")
        }
    return found


normalisation = experiment("normalisation", normalisation_run)


# %%
NORMALISED = {"without": "sans normalisation", "with": "avec normalisation"}


def by_rate(runs, name):
    """Exactitude de validation à chaque taux, moyenne des graines."""
    return np.mean(runs[name]["validation"], axis=1)


def at_best_rate(runs, name):
    """Exactitude d'entraînement par époque, au taux qui valide le mieux : (graines, époques)."""
    return np.array(runs[name]["training"][by_rate(runs, name).argmax()])


# %%
shown = normalisation.values
fig = figures.curves(
    {
        title: np.transpose(shown[name]["validation"])
        for name, title in NORMALISED.items()
    },
    x=shown["rates"],
    xlabel="taux d'apprentissage (SGD)",
    ylabel="exactitude de validation",
    levels={"hasard": 0.1},
)
fig.axes[0].set_xscale("log")
fig.axes[0].set_xticks(shown["rates"], map(french, shown["rates"]))
fig.axes[0].minorticks_off()
fig.axes[0].set_ylim(0, 1)
fig.axes[0].legend(loc="upper right")
figures.show(
    fig,
    alt=f"Exactitude de validation aux taux {french(shown['rates'])}. "
    + " ".join(
        f"{title.capitalize()} : "
        + ", ".join(number(v) for v in by_rate(shown, name))
        + "."
        for name, title in NORMALISED.items()
    ),
)

# %%
best = {
    name: french(shown["rates"][by_rate(shown, name).argmax()]) for name in NORMALISED
}
curves = {
    f"{title}, taux {best[name]}": at_best_rate(shown, name)
    for name, title in NORMALISED.items()
}
figures.show(
    figures.curves(curves, xlabel="époque", ylabel="exactitude d'entraînement"),
    alt="Exactitude d'entraînement par époque, chaque réseau à son meilleur taux. "
    + " ".join(
        f"{title.capitalize()} : "
        + ", ".join(number(v) for v in values.mean(axis=0))
        + "."
        for title, values in curves.items()
    ),
)

# %%
full = normalisation.full
first = full and {name: at_best_rate(full, name)[:, 0].mean() for name in NORMALISED}
learning = full and {
    name: int((by_rate(full, name) > 0.5).sum()) for name in NORMALISED
}
verdict("arch-inception2-bn-speed", first and first["with"] - first["without"])
verdict(
    "arch-inception2-bn-stability", learning and learning["with"] - learning["without"]
)

# %% [markdown]
# Sans normalisation, ce réseau de dix couches n'atteint 0,5 à aucun taux, et ne fait pas mieux que
# le hasard à partir de 0,3. Avec, il dépasse 0,5 à cinq taux sur six, et sa première époque, à son
# meilleur taux, dépasse ce que l'autre atteint en quatre. À 3, l'entraînement réussit encore, mais
# la validation varie du simple au double d'une graine à l'autre : les poids bougent tant que les
# moyennes accumulées sont en retard. (Avec Adam, ou un réseau moins profond comme le LeNet-5 du
# chapitre 2, la différence est moins nette.)
#
# *Pourquoi* elle aide est moins clair. L'article invoquait la stabilité de la distribution des
# entrées de chaque couche ; [Santurkar et al. (2018)](https://arxiv.org/abs/1805.11604) ont montré
# que cette stabilité n'y est pas pour grand-chose, et que la normalisation rend surtout la perte
# plus lisse.
#
# ## ResNet : dépasser la profondeur
#
# Un réseau profond devrait faire au moins aussi bien qu'un moins profond, puisque ses couches de
# trop pourraient ne rien faire. Or, au-delà d'une certaine profondeur, l'exactitude baisse, **même
# sur les images d'entraînement**. Le surapprentissage n'y est donc pour rien ; on parle de
# ***dégradation***. Le remède de ResNet est d'apprendre ce qu'il faut *ajouter* à l'entrée,
# $\mathcal{F}(x)$, plutôt que la sortie $\mathcal{H}(x)$ :
#
# $$\mathcal{H}(x) = \mathcal{F}(x) + x.$$
#
# Un ***raccourci*** (*shortcut*, *skip connection*) porte l'entrée jusqu'à l'addition. Ne rien
# faire devient facile : il suffit que $\mathcal{F}$ soit nulle. Voici les blocs de ResNet : le
# simple (18 et 34 couches), et le ***goulot*** (50 et plus), dont la 3 × 3 travaille sur quatre
# fois moins de canaux. Quand la taille ou les canaux changent, une convolution 1 × 1 *projette*
# l'entrée sur le raccourci.

# %%
EPSILON = 1.001e-5  # celui de keras.applications


def conv_bn(x, filters, size, strides=1):
    x = layers.Conv2D(filters, size, strides, padding="same")(x)
    return layers.BatchNormalization(epsilon=EPSILON)(x)


def basic(x, filters, strides=1):
    x = layers.ReLU()(conv_bn(x, filters, 3, strides))
    return conv_bn(x, filters, 3)


def bottleneck(x, filters, strides=1):
    x = layers.ReLU()(conv_bn(x, filters, 1, strides))
    x = layers.ReLU()(conv_bn(x, filters, 3))
    return conv_bn(x, 4 * filters, 1)


def residual_block(x, branch, filters, strides=1):
    """H(x) = F(x) + x, puis ReLU ; le raccourci est projeté quand les formes diffèrent."""
    width = filters * (4 if branch is bottleneck else 1)
    shortcut = x
    if strides > 1 or x.shape[-1] != width:
        shortcut = conv_bn(x, width, 1, strides)
    return layers.ReLU()(layers.Add()([shortcut, branch(x, filters, strides)]))


# %%
drawn = {
    "bloc simple": block(residual_block, basic, 64, channels=64),
    "goulot": block(residual_block, bottleneck, 64, channels=256),
    "goulot projeté": block(residual_block, bottleneck, 128, 2, channels=256),
}
figures.show(
    graphs.layer_graphs(drawn, name_layer),
    alt="Trois blocs résiduels. Le simple : deux convolutions 3×3 de 64 canaux, et un raccourci "
    "qui ajoute l'entrée. Le goulot : une 1×1 de 64, une 3×3 de 64, une 1×1 de 256, et le "
    "même raccourci. Le goulot projeté, où la taille change : une convolution 1×1 sur le "
    "raccourci.",
)

# %% [markdown]
# Le rond + reçoit deux flèches : l'une n'a traversé aucune convolution, sauf dans le bloc projeté,
# où elle n'en traverse qu'une. Le réseau entier est une table des blocs par étage.

# %%
RESNET = {
    18: (basic, (2, 2, 2, 2)),
    34: (basic, (3, 4, 6, 3)),
    50: (bottleneck, (3, 4, 6, 3)),
    101: (bottleneck, (3, 4, 23, 3)),
    152: (bottleneck, (3, 8, 36, 3)),
}


def resnet(depth, input_shape=(224, 224, 3), classes=1000):
    """ResNet-18, 34, 50, 101 ou 152."""
    branch, repeats = RESNET[depth]
    inputs = keras.Input(input_shape)
    x = layers.Conv2D(64, 7, strides=2)(layers.ZeroPadding2D(3)(inputs))
    x = layers.ReLU()(layers.BatchNormalization(epsilon=EPSILON)(x))
    x = layers.MaxPooling2D(3, 2)(layers.ZeroPadding2D(1)(x))
    for stage, count in enumerate(repeats):
        for position in range(count):
            strides = 2 if stage > 0 and position == 0 else 1
            x = residual_block(x, branch, 64 * 2**stage, strides)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(classes)(x), name=f"resnet{depth}")


model = resnet(50)
show_stages(model)

# %% [markdown]
# « ResNet, 152 layers » : la profondeur d'une table se calcule sans construire le réseau. Le tronc
# et la couche dense en font deux ; chaque bloc, deux ou trois. (Les projections sont sur le
# raccourci : elles n'allongent pas le plus long chemin.)

# %%
layers_in = {
    name: 2 + sum(r) * (2 if b is basic else 3) for name, (b, r) in RESNET.items()
}
print("couches :", " ; ".join(f"ResNet-{n}, {found}" for n, found in layers_in.items()))
assert layer_depth(model) == layers_in[50] == 50
verdict("arch-resnet-layers", layers_in[152])

# %% [markdown]
# ### Que transmet le raccourci ?
#
# « Les blocs résiduels utilisent des connexions de saut […] pour transmettre les résidus de
# l'entrée […] », dit le document. Il dit ensuite, comme la formule, qu'ils « ajoutent l'entrée
# d'origine ». Annulons la branche $\mathcal{F}$, en mettant à zéro l'échelle de sa dernière
# normalisation : ce qui reste est ce que le raccourci transmet.

# %%
small = block(residual_block, bottleneck, 16, channels=64, side=8)
features = np.abs(rng.normal(size=(1, 8, 8, 64))).astype("float32")  # après une ReLU
addition = small.layers[-2]
branch, total = (
    ops.convert_to_numpy(keras.Model(small.inputs[0], tensor)(features))
    for tensor in (addition.input[1], addition.output)
)
verdict("arch-resnet-formula", bool(np.allclose(total, branch + features, atol=1e-5)))

norms = [
    layer for layer in small.layers if isinstance(layer, layers.BatchNormalization)
]
norms[-1].gamma.assign(np.zeros(64))
carried = ops.convert_to_numpy(small(features))
verdict(
    "arch-resnet-shortcut",
    "l'entrée" if np.allclose(carried, features) else "le résidu",
)

# %% [markdown]
# L'addition de l'entrée « d'origine » n'est pourtant possible que si les formes s'accordent :
# comptons, dans ResNet-50, les blocs où elle l'est.

# %%
adds = [layer for layer in model.layers if isinstance(layer, layers.Add)]
producers = {id(layer.output): layer for layer in model.layers}
identity = [
    not isinstance(producers[id(add.input[0])], layers.BatchNormalization)
    for add in adds
]
print(
    f"{sum(identity)} raccourcis sans paramètre, {len(adds) - sum(identity)} projetés"
)
verdict("arch-resnet-identity", sum(identity))
del model, adds, producers

# %% [markdown]
# ### La dégradation, en petit
#
# Deux piles ont la même profondeur, les mêmes paramètres et, au bit près, les mêmes poids au
# départ : la seule différence est l'addition. Le raccourci n'a aucun paramètre, même là où la
# taille change (un point sur deux, et des canaux nuls pour compléter, comme l'article sur
# CIFAR-10). Toutes sont normalisées.


# %%
def degradation_run():
    plain = {f"plain {d}": partial(stacked, d, False) for d in DEPTHS}
    residual = {f"residual {d}": partial(stacked, d, True) for d in DEPTHS}
    return {"depths": DEPTHS, **compare(plain | residual)}


degradation = experiment("degradation", degradation_run)


# %%
KINDS = {"plain": "simple", "residual": "résiduel"}


def last_epoch(runs, kind):
    """Exactitude d'entraînement de la dernière époque : (graines, profondeurs)."""
    curves = [runs[f"{kind} {size}"]["training"] for size in runs["depths"]]
    return np.array(curves)[:, :, -1].T


shown = degradation.values
reached = {title: last_epoch(shown, kind) for kind, title in KINDS.items()}
fig = figures.curves(
    reached,
    x=shown["depths"],
    xlabel="couches à poids",
    ylabel="exactitude d'entraînement",
)
fig.axes[0].set_xticks(shown["depths"], shown["depths"])
figures.show(
    fig,
    alt=f"Exactitude d'entraînement à la dernière époque, à {french(shown['depths'])} couches. "
    + " ".join(
        f"Réseau {title} : " + ", ".join(number(v) for v in values.mean(axis=0)) + "."
        for title, values in reached.items()
    ),
)

# %%
rows = [
    (
        size,
        title,
        spread(reached[title][:, k]),
        spread(shown[f"{kind} {size}"]["validation"]),
    )
    for k, size in enumerate(shown["depths"])
    for kind, title in KINDS.items()
]
runtime.show_table(("couches", "réseau", "entraînement", "validation"), rows)

full = degradation.full
means = full and {kind: last_epoch(full, kind).mean(axis=0) for kind in KINDS}
verdict("arch-resnet-degradation", means and means["plain"][0] - means["plain"][-1])
verdict("arch-resnet-overcomes", means and means["residual"][-1] - means["plain"][-1])

# %% [markdown]
# Après quatre époques, de 10 à 34 couches, le réseau simple perd une dizaine de points *sur les
# images qu'il apprend* ; le résiduel en gagne plus de quatre. À dix couches, les deux se valent. Le
# réseau simple progresse encore : nous voyons qu'il apprend bien plus lentement, non où il
# s'arrêterait ; l'article, qui entraîne jusqu'au bout, trouve toujours un écart. En validation, la
# profondeur n'apporte presque rien au réseau résiduel : dix couches suffisent à 10 000 images et
# quatre époques.
#
# ### Le gradient, couche par couche
#
# « Cela facilite le passage du gradient. » Mesurons-le à l'initialisation, dans les piles de 34
# couches : simple sans normalisation, simple, résiduelle.

# %%
batch, answers = x_train[:64], y_train[:64]
PILES = {
    "simple, sans normalisation": (False, False),
    "simple": (False, True),
    "résiduelle": (True, True),
}
gradients = {}
for name, (shortcut, normalise) in PILES.items():
    keras.utils.set_random_seed(0)
    network = stacked(34, shortcut, normalise)
    *convolutions, _ = kernel_gradients(network, batch, answers).values()
    gradients[name] = convolutions

# %%
fig = figures.curves(
    gradients, xlabel="couche, depuis l'entrée", ylabel="gradient des poids"
)
fig.axes[0].set_yscale("log")


def unevenness(values):
    """Rapport entre le plus grand et le plus petit gradient des convolutions."""
    return max(values) / min(values)


ratios = {name: number(unevenness(values), 0) for name, values in gradients.items()}
figures.show(
    fig,
    alt="Gradient des poids de chaque couche, échelle logarithmique. Rapport entre le plus grand "
    "et le plus petit gradient des convolutions : "
    + ", ".join(f"{name}, {ratio}" for name, ratio in ratios.items())
    + ". Dans la pile simple normalisée, il croît vers l'entrée.",
)

# %%
runtime.show_table(
    ("pile de 34 couches", "plus grand / plus petit gradient"), ratios.items()
)
verdict(
    "arch-resnet-gradient",
    bool(unevenness(gradients["résiduelle"]) < unevenness(gradients["simple"])),
)

# %% [markdown]
# La surprise vient de la première ligne : sans normalisation, avec des poids tirés à la bonne
# échelle, le gradient garde sa taille à travers 34 couches. C'est la pile simple *et normalisée*
# qui le déforme : il grandit vers l'entrée, chaque normalisation l'amplifiant un peu. Les
# raccourcis le ramènent à des tailles voisines. À l'initialisation du moins, rien ne disparaît : la
# dégradation a une autre cause que celle du chapitre 2, comme l'écrivait l'article de ResNet.
#
# ## DenseNet : tout garder
#
# ResNet additionne ; DenseNet **concatène**. Dans un ***bloc dense***, chaque couche reçoit les
# cartes de toutes les précédentes et en ajoute un petit nombre, la ***croissance***, ici 32.
# L'ordre est inversé : normalisation, ReLU, puis convolution. Entre deux blocs, une
# ***transition*** divise les canaux et le côté par deux.

# %%
DENSENET = {  # profondeur : couches de chacun des quatre blocs
    121: (6, 12, 24, 16),
    169: (6, 12, 32, 32),
    201: (6, 12, 48, 32),
}


def bn_relu_conv(x, filters, size):
    x = layers.ReLU()(layers.BatchNormalization(epsilon=EPSILON)(x))
    return layers.Conv2D(filters, size, padding="same", use_bias=False)(x)


def dense_layer(x, growth=32):
    """Goulot de 4 × `growth` canaux, puis 3 × 3, concaténée aux cartes reçues."""
    new = bn_relu_conv(bn_relu_conv(x, 4 * growth, 1), growth, 3)
    return layers.Concatenate()([x, new])


def transition(x):
    return layers.AveragePooling2D(2)(bn_relu_conv(x, x.shape[-1] // 2, 1))


# %%
def densenet(depth, input_shape=(224, 224, 3), classes=1000):
    """DenseNet-121, 169 ou 201."""
    inputs = keras.Input(input_shape)
    x = layers.Conv2D(64, 7, strides=2, use_bias=False)(layers.ZeroPadding2D(3)(inputs))
    x = layers.ReLU()(layers.BatchNormalization(epsilon=EPSILON)(x))
    x = layers.MaxPooling2D(3, 2)(layers.ZeroPadding2D(1)(x))
    for stage, count in enumerate(DENSENET[depth]):
        x = transition(x) if stage > 0 else x
        for _ in range(count):
            x = dense_layer(x)
    x = layers.ReLU()(layers.BatchNormalization(epsilon=EPSILON)(x))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(classes)(x), name=f"densenet{depth}")


model = densenet(121)
show_stages(model)
print(f"{layer_depth(model)} couches, {number(model.count_params(), 0)} paramètres")
verdict("arch-densenet-blocks", min(row[2] for row in stages(model)[1:5]))
del model

# %%
drawn = {
    "deux couches d'un bloc": block(lambda x: dense_layer(dense_layer(x)), channels=64),
    "transition": block(transition, channels=256),
}
figures.show(
    graphs.layer_graphs(drawn, on_one_line),
    alt="Deux couches d'un bloc dense : chacune, une convolution 1×1 de 128 canaux puis une 3×3 "
    "de 32, lit la concaténation de l'entrée et des sorties précédentes, et y ajoute la "
    "sienne. La transition : une convolution 1×1 de 128 canaux, puis une moyenne 2×2.",
)

# %% [markdown]
# « Chaque couche est connectée à toutes les couches précédentes » : de tout le réseau ? Suivons les
# sorties des convolutions à travers les concaténations, dans un bloc de six couches.


# %%
def first_block(x):
    for _ in range(DENSENET[121][0]):
        x = dense_layer(x)
    return x


read = direct_sources(block(first_block, channels=64))
sources = [len(names) for layer, names in read.items() if layer.kernel_size == (1, 1)]
inside = [length * (length + 1) // 2 for length in DENSENET[121]]
couples = sum(DENSENET[121]) * (sum(DENSENET[121]) + 1) // 2
print(
    f"lues par les six couches du premier bloc : {french(sources)}, en tout {sum(sources)}"
)
print(f"dans les quatre blocs : {french(inside)}, en tout {sum(inside)}")
print(f"si chaque couche lisait toutes les précédentes : {french(couples)}")
assert sum(sources) == inside[0]
verdict("arch-densenet-connections", sum(inside))
verdict(
    "arch-densenet-concatenated", dense_layer(keras.Input((28, 28, 64))).shape[-1] - 64
)

# %% [markdown]
# À l'intérieur d'un bloc de $L$ couches, oui : $L(L+1)/2$ connexions. D'un bloc à l'autre, non :
# tout passe par la transition. (Une « couche », ici, est la paire 1 × 1 puis 3 × 3.)
#
# ### Les caractéristiques sont-elles réutilisées ?
#
# La connexion existe ; sert-elle ? Entraînons un bloc de huit couches, puis coupons une source à la
# fois : la couche qui suit et le classifieur continuent de la lire, les autres non. Si l'exactitude
# s'effondre, c'est qu'elles s'en servaient.


# %%
def dense_block(links=8, growth=12):
    """Un bloc dense ; ses convolutions sont nommées pour que l'on retrouve leurs poids."""
    inputs = keras.Input((28, 28, 1))
    x = unit(inputs, growth, strides=2)
    for k in range(links):
        new = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
        conv = layers.Conv2D(growth, 3, padding="same", use_bias=False, name=f"link{k}")
        x = layers.Concatenate()([x, conv(new)])
    return classify(inputs, layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x)))


# %%
def severed_accuracy(model, source, links=8, growth=12):
    """Exactitude de validation quand seule la couche suivante lit encore la source."""
    later = [model.get_layer(f"link{k}") for k in range(source + 1, links)]
    kept = [ops.convert_to_numpy(layer.kernel).copy() for layer in later]
    for layer, kernel in zip(later, kept):
        cut = kernel.copy()
        cut[:, :, source * growth : (source + 1) * growth] = 0
        layer.kernel.assign(cut)
    reached = accuracy(model, x_val, y_val)
    for layer, kernel in zip(later, kept):
        layer.kernel.assign(kernel)
    return reached


# %%
def reuse_run():
    found = {"whole": [], "severed": []}
    for seed in SEEDS:
        keras.utils.set_random_seed(seed)
        model = dense_block()
        train(model, x_train, y_train)
        found["whole"].append(accuracy(model, x_val, y_val))
        found["severed"].append(
            [severed_accuracy(model, source) for source in range(7)]
        )
    return found


reuse = experiment("reuse", reuse_run)

# %%
shown = reuse.values
lost = np.array(shown["whole"])[:, None] - np.array(shown["severed"])
fig = figures.curves(
    {"source coupée": 100 * lost},
    x=np.arange(7),
    xlabel="source coupée (0 : l'entrée du bloc)",
    ylabel="points d'exactitude perdus",
)
figures.show(
    fig,
    alt="Points d'exactitude perdus quand on coupe chacune des sept premières sources d'un bloc "
    "dense, sauf pour la couche suivante : "
    + ", ".join(number(v, 1) for v in 100 * lost.mean(axis=0))
    + ".",
)
verdict("arch-densenet-reuse", None if reuse.full is None else lost.mean())

# %% [markdown]
# Oui. Privées de l'entrée du bloc, les couches suivantes perdent une quarantaine de points ; des
# trois sources d'après, de douze à vingt et un ; des dernières, presque rien, mais peu de couches
# les lisent encore. Ce sont donc les caractéristiques les plus anciennes qui servent le plus. (Les
# normalisations, réglées avant la coupure, exagèrent un peu la perte.)
#
# Reste « une propagation du gradient plus fluide ». Comparons un bloc dense de 24 couches à la
# pile simple d'autant de convolutions, à l'initialisation, comme pour ResNet.

# %%
keras.utils.set_random_seed(0)
twins = {"bloc dense": dense_block(24), "pile simple": stacked(26, shortcut=False)}
ratios = {}
for name, twin in twins.items():
    *convolutions, _ = kernel_gradients(twin, batch[:32], answers[:32]).values()
    ratios[name] = unevenness(convolutions)
for name, ratio in ratios.items():
    print(f"{name} : plus grand / plus petit gradient, {number(ratio, 0)}")
verdict("arch-densenet-gradient", bool(ratios["bloc dense"] < ratios["pile simple"]))

# %% [markdown]
# Dans un bloc dense, chaque couche est à une concaténation de la sortie : le gradient l'atteint
# sans traverser les autres. (Une seule graine ; et les deux piles diffèrent aussi par leurs
# canaux.)
#
# ## EfficientNet : tout agrandir ensemble
#
# Le document finit par EfficientNet, que le chapitre 8 construit bloc par bloc. Ses trois
# ingrédients se mesurent dès maintenant ; seul le dernier, l'agrandissement composé (la *mise à
# l'échelle composée* du chapitre 8), est une idée de son article.
#
# ### La convolution par canal
#
# « Les blocs MBConv combinent des convolutions *profondes* et des convolutions à faible coût », dit
# le document. Le mot traduit mal *depthwise* : il s'agit d'une ***convolution par canal***, où
# chaque carte a son propre filtre et ignore les autres. Suivie d'une convolution 1 × 1, qui mêle
# les canaux, elle remplace une convolution ordinaire : c'est la ***convolution séparable***.


# %%
def depthwise(x, size=3):
    x = layers.DepthwiseConv2D(size, padding="same", use_bias=False)(x)
    return layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))


def separable(x, filters):
    return unit(depthwise(x), filters, 1)


# %%
image = rng.normal(size=(1, 9, 9, 3)).astype("float32")
by_channel = layers.DepthwiseConv2D(3, use_bias=False)
together = ops.convert_to_numpy(by_channel(image))
alone = []
for c in range(3):
    filter_c = ops.convert_to_numpy(by_channel.kernel)[:, :, c : c + 1]  # (3, 3, 1, 1)
    alone.append(ops.convert_to_numpy(ops.conv(image[..., c : c + 1], filter_c)))
assert np.allclose(together, np.concatenate(alone, axis=-1), atol=1e-5)

# %% [markdown]
# Puis le coût, de 64 canaux vers 64 :

# %%
standard = block(
    lambda x: layers.Conv2D(64, 3, padding="same", use_bias=False)(x), channels=64
)
cheap = block(separable, 64, channels=64)
saving = multiply_adds(standard) / multiply_adds(cheap)
print(f"ordinaire : {number(multiply_adds(standard), 0)} multiplications-additions")
print(f"séparable : {number(multiply_adds(cheap), 0)}, {number(saving, 1)} fois moins")
verdict("arch-efficientnet-depthwise", saving)

# %% [markdown]
# ### Le bloc MBConv
#
# Le bloc MBConv (*mobile inverted bottleneck*) élargit les canaux (×6 dans EfficientNet, ×4 dans
# notre petite version), filtre par canal, recalibre, puis rétrécit, avec un raccourci d'un bout à
# l'autre : c'est le goulot de ResNet à l'envers. La recalibration est le ***bloc
# squeeze-and-excitation*** (SE) : il résume chaque carte par sa moyenne, en tire un coefficient de
# 0 à 1 par canal, et multiplie.


# %%
def squeeze_excite(x, ratio=4):
    """Multiplie chaque carte par un coefficient de 0 à 1, calculé d'après toutes leurs moyennes."""
    channels = x.shape[-1]
    s = layers.GlobalAveragePooling2D(keepdims=True)(x)  # (1, 1, canaux)
    s = layers.Conv2D(channels // ratio, 1, activation="relu")(s)
    s = layers.Conv2D(channels, 1, activation="sigmoid")(s)
    return layers.Multiply()([x, s])


def mbconv(x, filters, expansion=4):
    wide = depthwise(unit(x, expansion * filters, 1))
    branch = unit(squeeze_excite(wide), filters, 1, activate=False)
    return layers.Add()([x, branch])


# %%
drawn = {
    "séparable": block(separable, 24, channels=24),
    "SE": block(squeeze_excite, channels=96),
    "MBConv": block(mbconv, 24, channels=24),
}
figures.show(
    graphs.layer_graphs(drawn, on_one_line),
    alt="Trois blocs. La convolution séparable : une 3×3 par canal, puis une 1×1. Le bloc SE : la"
    " moyenne de chaque carte, deux convolutions 1×1, et une multiplication par l'entrée. "
    "MBConv : une 1×1 qui élargit de 24 à 96 canaux, une 3×3 par canal, le bloc SE, une 1×1 "
    "qui ramène à 24, et un raccourci qui ajoute l'entrée.",
)

# %% [markdown]
# Les 96 canaux ne servent qu'au milieu : le raccourci relie deux cartes de 24. Comptons les blocs
# d'EfficientNet-B0, et les côtés de leurs noyaux.

# %%
b0 = keras.applications.EfficientNetB0(weights=None)
by_channel = [layer for layer in b0.layers if isinstance(layer, layers.DepthwiseConv2D)]
print(
    f"EfficientNet-B0 : {len(by_channel)} blocs MBConv, {number(b0.count_params(), 0)} paramètres"
)
verdict(
    "arch-efficientnet-scales", sorted({layer.kernel_size[0] for layer in by_channel})
)
verdict("arch-efficientnet-mbconv", len(by_channel))
del b0

# %% [markdown]
# ### L'agrandissement composé
#
# Pour agrandir un réseau, on peut l'approfondir, l'élargir, ou lui donner des images plus fines. Le
# calcul croît comme la profondeur $d$, comme le *carré* de la largeur $w$, et comme le *carré* de
# la résolution $r$. EfficientNet propose de tout agrandir ensemble, selon un seul nombre
# $\varphi$ :
#
# $$d = \alpha^\varphi, \quad w = \beta^\varphi, \quad r = \gamma^\varphi,$$
#
# où $\alpha\,\beta^2\,\gamma^2 \approx 2$.
#
# Le document écrit « des coefficients de mise à l'échelle ($\varphi$) » : les coefficients sont
# $\alpha = 1{,}2$, $\beta = 1{,}1$, $\gamma = 1{,}15$ ; $\varphi$ est un nombre unique, le budget.

# %%
ALPHA, BETA, GAMMA = 1.2, 1.1, 1.15
print(f"α β² γ² = {number(ALPHA * BETA**2 * GAMMA**2)}")

# %% [markdown]
# Multiplions par quatre environ le coût d'un petit réseau résiduel, de quatre façons.


# %%
SCALES = {  # paires par étage, filtres, côté de l'image
    "base": (2, 8, 14),
    "profondeur": (8, 8, 14),
    "largeur": (2, 16, 14),
    "résolution": (2, 8, 28),
    "les trois": (3, 10, 18),
}


def scaled(pairs, filters, side):
    """Réseau résiduel de deux étages, qui rapetisse d'abord l'image."""
    inputs = keras.Input((28, 28, 1))
    x = layers.Resizing(side, side)(inputs)
    x = unit(x, filters)
    for width in (filters, 2 * filters):
        if width > filters:
            x = unit(layers.MaxPooling2D(2)(x), width, 1)
        for _ in range(pairs):
            x = shortcut_pair(x, width)
    return classify(inputs, x)


def shortcut_pair(x, filters):
    branch = unit(unit(x, filters), filters, activate=False)
    return layers.ReLU()(layers.Add()([x, branch]))


def scaling_run():
    names = runtime.pick(quick=("base",), full=tuple(SCALES))
    return compare({name: partial(scaled, *SCALES[name]) for name in names})


scaling = experiment("scaling", scaling_run)


# %%
shown = scaling.values
rows = []
for name, runs in shown.items():
    pairs, filters, side = SCALES[name]
    law = (pairs / 2) * (filters / 8) ** 2 * (side / 14) ** 2
    ratio = runs["multiply_adds"] / shown["base"]["multiply_adds"]
    rows.append(
        (
            name,
            f"{2 * pairs}, {filters}, {side}",
            number(law, 1),
            number(ratio, 1),
            spread(runs["validation"]),
        )
    )
header = (
    "agrandir",
    "paires, filtres, côté",
    "d w² r²",
    "coût mesuré",
    "validation",
)
runtime.show_table(header, rows)

# %% [markdown]
# La loi de coût se vérifie. L'exactitude, elle, ne suit pas tout à fait l'article : à coût voisin,
# élargir gagne trois points, tout agrandir ensemble deux, approfondir un seul ; affiner l'image en
# perd. D'une graine à l'autre, « les trois » varient de quatre points : l'ordre entre voisins n'est
# pas sûr.
#
# Un réseau de huit filtres manque d'abord de canaux ; une image deux fois plus fine lui demande un
# champ réceptif qu'il n'a pas. Les coefficients d'EfficientNet ont été cherchés pour un réseau déjà
# bien proportionné, sur ImageNet : l'équilibre est une recette à régler, non une loi. Le [chapitre
# 8](08_efficientnet_b4.ipynb) y revient.
#
# ## Nos réseaux sont-ils les vrais ?
#
# Un compte de paramètres juste ne prouve pas qu'un réseau est le bon : une activation oubliée, un
# pas mal placé, un ordre inversé ne changent aucun compte. La preuve est la **fonction** calculée.
# Prenons trois réseaux de `keras.applications`, copions leurs poids dans les nôtres, et comparons
# les sorties.
#
# Un piège : dans un réseau qui vient d'être construit, biais nuls et normalisations neutres cachent
# les erreurs. Tirons donc *tout* au hasard d'abord.


# %%
def randomise(model, seed=0):
    """Tire au hasard noyaux, biais, échelles et statistiques, à une taille raisonnable."""
    generator = np.random.default_rng(seed)
    for weight in model.weights:
        if weight.name == "kernel":
            values = generator.standard_normal(weight.shape, dtype="float32")
            values /= math.sqrt(math.prod(weight.shape[:-1]))
        elif weight.name in ("gamma", "moving_variance"):
            values = generator.uniform(0.5, 1.5, weight.shape)
        else:  # biais, beta, moving_mean
            values = generator.normal(scale=0.1, size=weight.shape)
        weight.assign(values)


def transplant(source, target):
    """Copie les poids, couche par couche, dans l'ordre du calcul."""
    pairs = [
        [layer for layer in model.layers if layer.weights] for model in (source, target)
    ]
    for theirs, ours in zip(*pairs, strict=True):
        for value, variable in zip(theirs.weights, ours.weights, strict=True):
            variable.assign(ops.convert_to_numpy(value))


def relative_error(reference, model, seed=1):
    """Plus grand écart entre deux réseaux sur une image au hasard, rapporté au plus grand score."""
    image = np.random.default_rng(seed).normal(size=(1, *reference.input_shape[1:]))
    a, b = (
        ops.convert_to_numpy(network(image.astype("float32"), training=False))
        for network in (reference, model)
    )
    return float(np.abs(a - b).max() / np.abs(a).max())


# %% [markdown]
# Et pour être sûr que la comparaison *peut* échouer, plantons une erreur : une seule ReLU, au
# milieu du réseau, devient une GELU, une activation de forme voisine.


# %%
def plant_gelu(model):
    """Remplace l'activation de la couche à ReLU du milieu par une GELU."""
    rectified = [
        layer
        for layer in model.layers
        if isinstance(layer, layers.ReLU)
        or getattr(layer, "activation", None) is keras.activations.relu
    ]
    middle = rectified[len(rectified) // 2]
    if isinstance(middle, layers.ReLU):
        middle.call = keras.activations.gelu
    else:
        middle.activation = keras.activations.gelu


# %%
PROOF_SHAPE = runtime.pick(quick=(32, 32, 3), full=(224, 224, 3))
REFERENCES = {
    "VGG-16": (keras.applications.VGG16, partial(vgg, 16)),
    "ResNet-50": (keras.applications.ResNet50, partial(resnet, 50)),
    "DenseNet-121": (keras.applications.DenseNet121, partial(densenet, 121)),
}
compared = runtime.pick(quick=("VGG-16",), full=tuple(REFERENCES))
errors = {}
for name in compared:
    theirs, ours = REFERENCES[name]
    reference = theirs(
        weights=None, classifier_activation=None, input_shape=PROOF_SHAPE
    )
    randomise(reference)
    model = ours(input_shape=PROOF_SHAPE)
    transplant(reference, model)
    same = relative_error(reference, model)
    plant_gelu(model)
    errors[name] = same, relative_error(reference, model)
    assert same < 1e-5 < errors[name][1], name
    del reference, model
rows = [
    (name, number(1e6 * same, 1), percent(planted, 1))
    for name, (same, planted) in errors.items()
]
header = ("réseau", "écart relatif, en millionièmes", "avec une GELU plantée")
runtime.show_table(header, rows)

# %% [markdown]
# Les réseaux sont ceux de la bibliothèque, à la précision des réels de 32 bits. Et une seule
# mauvaise activation, parmi quinze (VGG-16) à cent vingt et une (DenseNet-121), se voit. La
# comparaison se fait en mode de test : elle ne voit pas l'abandon, que notre VGG omet comme celui
# de Keras. AlexNet, GoogLeNet et Inception v2 ne sont pas dans Keras : pour eux, nous n'avons que
# les comptes.

# %% [markdown]
# ## Douze briques, un squelette
#
# Chaque architecture a apporté une brique. Pour les comparer, posons-les dans le même squelette :
# un tronc, deux briques, une réduction, deux briques, une moyenne globale. Toutes emploient
# convolution, normalisation et ReLU ; le nombre de canaux est le même à l'entrée et à la sortie.


# %%
def pair(x, filters):
    return unit(unit(x, filters), filters)


def factorised(x, filters):
    return unit(unit(x, filters, (3, 1)), filters, (1, 3))


def reduced_five(x, filters):
    return unit(unit(x, filters // 4, 1), filters, 5)


def narrow(x, filters):
    return unit(unit(unit(x, filters // 4, 1), filters // 4), filters, 1)


def parallel(x, filters):
    quarter = filters // 4
    branches = [
        unit(x, quarter, 1),
        unit(unit(x, quarter, 1), quarter, 3),
        unit(unit(x, quarter, 1), quarter, 5),
        unit(layers.MaxPooling2D(3, 1, padding="same")(x), quarter, 1),
    ]
    return layers.Concatenate()(branches)


# %%
def dense_pair(x, filters):
    for _ in range(2):
        x = layers.Concatenate()([x, unit(x, filters // 2)])
    return unit(x, filters, 1)


def recalibrated_pair(x, filters):
    return squeeze_excite(pair(x, filters))


# %%
BRICKS = {
    "3×3": unit,
    "5×5": partial(unit, size=5),
    "deux 3×3": pair,
    "3×1 puis 1×3": factorised,
    "1×1 puis 5×5": reduced_five,
    "1×1, 3×3, 1×1": narrow,
    "Inception": parallel,
    "deux 3×3 + raccourci": shortcut_pair,
    "deux 3×3 denses": dense_pair,
    "séparable": separable,
    "deux 3×3 + SE": recalibrated_pair,
    "MBConv": mbconv,
}


def skeleton(brick, filters=24):
    """Le même réseau pour toutes les briques : deux briques, une réduction, deux briques."""
    inputs = keras.Input((28, 28, 1))
    x = unit(inputs, filters, strides=2)  # (14, 14, 24)
    x = brick(brick(x, filters), filters)
    x = unit(layers.MaxPooling2D(2)(x), 2 * filters, 1)  # (7, 7, 48)
    x = brick(brick(x, 2 * filters), 2 * filters)
    return classify(inputs, x)


# %%
def bricks_run():
    names = runtime.pick(quick=("3×3",), full=tuple(BRICKS))
    return compare({name: partial(skeleton, BRICKS[name]) for name in names})


bricks = experiment("bricks", bricks_run)


# %%
shown = bricks.values
rows = [
    (
        name,
        number(runs["parameters"], 0),
        number(runs["multiply_adds"] / 1e6, 1),
        spread(runs["validation"]),
    )
    for name, runs in sorted(
        shown.items(), key=lambda item: -np.mean(item[1]["validation"])
    )
]
header = ("brique", "paramètres", "mult.-add. (millions)", "validation")
runtime.show_table(header, rows)


# %% [markdown]
# Le même tableau en image, de la brique la moins coûteuse à la plus coûteuse. Les traits donnent
# l'écart type des trois graines.


# %%
def draw_bricks(runs):
    """Une ligne par brique, de la moins coûteuse à la plus coûteuse : coût, exactitude."""
    order = sorted(runs, key=lambda name: runs[name]["multiply_adds"])
    values = [runs[name]["validation"] for name in order]
    deviations = [np.std(v, ddof=1) if len(v) > 1 else 0 for v in values]
    fig, axes = plt.subplots(1, 2, figsize=(6, 4.6), sharey=True)
    rows = np.arange(len(order))
    cost = [runs[name]["multiply_adds"] / 1e6 for name in order]
    axes[0].barh(rows, cost, color=figures.COLOURS[0])
    means = [np.mean(v) for v in values]
    axes[1].errorbar(means, rows, xerr=deviations, fmt="s", color=figures.COLOURS[1])
    axes[0].set_yticks(rows, order)
    axes[0].set(xlabel="mult.-add.\n(millions)")
    axes[1].set(xlabel="exactitude\nde validation")
    return fig


# %%
best = max(shown, key=lambda name: np.mean(shown[name]["validation"]))
figures.show(
    draw_bricks(shown),
    alt="Exactitude de validation de chaque brique selon son coût : "
    + ", ".join(
        f"{name}, {number(runs['multiply_adds'] / 1e6, 1)} millions, "
        f"{number(np.mean(runs['validation']), 3)}"
        for name, runs in shown.items()
    )
    + f". La meilleure : {best}.",
)


# %%
def brick_gap(name, reference):
    """Exactitude moyenne d'une brique, moins celle d'une autre ; None sans profil complet."""
    runs = bricks.full
    return runs and np.mean(runs[name]["validation"]) - np.mean(
        runs[reference]["validation"]
    )


verdict("arch-googlenet-one-performance", brick_gap("1×1 puis 5×5", "5×5"))
verdict("arch-inception2-representation", brick_gap("3×1 puis 1×3", "3×3"))

# %% [markdown]
# Ce que le tableau confirme : deux 3 × 3 valent une 5 × 5, pour un quart de calcul en moins ;
# MBConv rejoint les meilleures pour la moitié du prix.
#
# Ce qu'il ne montre pas : ni le raccourci ni SE ne se distinguent de deux 3 × 3, à l'écart type
# près. Dans un réseau de onze couches, le raccourci n'a pas de dégradation à réparer.
#
# Ce qu'il contredit : rétrécir coûte. La réduction 1 × 1 devant la 5 × 5 perd plus de deux points,
# pour presque quatre fois moins de calcul ; 3 × 1 puis 1 × 3 autant, pour un tiers de moins ; la
# séparable, trois points et demi, pour six fois moins ; le goulot, qui n'a plus que six ou douze
# canaux au milieu, plus de dix.
#
# Ces briques ont été faites pour de grands réseaux, aux canaux redondants, où l'on dépense ailleurs
# ce qu'elles épargnent. À nombre de canaux égal, comme ici, elles sont désavantagées : l'exercice 5
# compare à budget égal.
#
# ## Le tableau d'ensemble
#
# Construisons toute la famille, une architecture à la fois, et mesurons ce qui se mesure : les
# paramètres, les opérations, la mémoire des activations d'une image (quatre octets par neurone), et
# le temps de réponse pour une image, sur la machine de cette page. EfficientNet vient de
# `keras.applications`.

# %%
NETWORKS = {
    "LeNet-5": lenet5,
    "AlexNet": alexnet,
    "VGG-16": partial(vgg, 16),
    "VGG-19": partial(vgg, 19),
    "GoogLeNet": googlenet,
    "Inception v2": inception_v2,
    **{f"ResNet-{d}": partial(resnet, d) for d in (18, 34, 50, 101, 152)},
    **{f"DenseNet-{d}": partial(densenet, d) for d in (121, 169, 201)},
    **{
        f"EfficientNet-B{k}": partial(
            getattr(keras.applications, f"EfficientNetB{k}"), weights=None
        )
        for k in range(8)
    },
}


# %%
def measure(build):
    """Ce qui se mesure d'un réseau ; temps de la plus rapide de cinq réponses, en secondes."""
    model = build()
    image = np.zeros((1, *model.input_shape[1:]), "float32")
    model.predict_on_batch(image)  # la première fois, le réseau est compilé
    seconds = []
    for _ in range(5):
        begin = perf_counter()
        model.predict_on_batch(image)
        seconds.append(perf_counter() - begin)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.weights.h5"
        model.save_weights(path)
        size = path.stat().st_size
    return {
        "side": model.input_shape[1],
        "stem": next(filter(kernels, model.layers)).output.shape[-1],
        "depth": layer_depth(model),
        "parameters": model.count_params(),
        "multiply_adds": multiply_adds(model),
        "units": units(model),
        "bytes": size,
        "seconds": min(seconds),
    }


# %%
def census_run():
    names = runtime.pick(quick=("LeNet-5",), full=tuple(NETWORKS))
    return {name: measure(NETWORKS[name]) for name in names}


census = experiment("census", census_run)

# %% [markdown]
# L'exactitude sur ImageNet, elle, est celle que publient les sources : nous n'avons pas les images.
# C'est l'exactitude ordinaire, dite *top-1* : la première réponse est la bonne. La liste dit d'où
# vient chacune. « Dix cadrages » : les réponses à dix découpes de chaque image sont moyennées, ce
# qui avantage.

# %%
PUBLISHED = {  # année, exactitude top-1 en pour cent, source
    "LeNet-5": (1998, None, ""),
    "AlexNet": (2012, 59.3, "article, dix cadrages"),
    "VGG-16": (2014, 71.3, "Keras"),
    "VGG-19": (2014, 71.3, "Keras"),
    "GoogLeNet": (2014, 69.8, "torchvision, une variante"),
    "Inception v2": (2015, 74.8, "article, BN-x30"),
    "ResNet-18": (2015, 69.8, "torchvision"),
    "ResNet-34": (2015, 73.3, "torchvision"),
    "ResNet-50": (2015, 74.9, "Keras"),
    "ResNet-101": (2015, 76.4, "Keras"),
    "ResNet-152": (2015, 76.6, "Keras"),
    "DenseNet-121": (2016, 75.0, "Keras"),
    "DenseNet-169": (2016, 76.2, "Keras"),
    "DenseNet-201": (2016, 77.3, "Keras"),
    "EfficientNet-B0": (2019, 77.1, "Keras"),
    "EfficientNet-B1": (2019, 79.1, "Keras"),
    "EfficientNet-B2": (2019, 80.1, "Keras"),
    "EfficientNet-B3": (2019, 81.6, "Keras"),
    "EfficientNet-B4": (2019, 82.9, "Keras"),
    "EfficientNet-B5": (2019, 83.6, "Keras"),
    "EfficientNet-B6": (2019, 84.0, "Keras"),
    "EfficientNet-B7": (2019, 84.3, "Keras"),
}


# %%
def rounded(value, digits):
    """« 0,72 » ; « < 0,01 » quand l'arrondi ne laisserait que des zéros."""
    least = 10**-digits
    return number(value, digits) if value >= least else f"< {number(least, digits)}"


shown = census.values
rows = []
for name, found in shown.items():
    _, top1, _ = PUBLISHED[name]
    rows.append(
        (
            name,
            number(found["parameters"] / 1e6, 2),
            rounded(found["multiply_adds"] / 1e9, 2),
            rounded(4 * found["units"] / 2**20, 1),
            rounded(1e3 * found["seconds"], 0),
            number(top1, 1) if top1 else "—",
        )
    )
header = (
    "réseau",
    "paramètres (M)",
    "mult.-add. (G)",
    "activations (Mio)",
    "réponse (ms)",
    "top-1 (%)",
)
runtime.show_table(header, rows)


# %%
def draw_census(shown):
    """Top-1 publié selon le coût ; l'aire d'une marque est le nombre de paramètres."""
    families = sorted({name.split("-")[0] for name in shown} - {"LeNet"})
    fig, axis = plt.subplots(figsize=(6, 5.2))
    for k, family in enumerate(families):
        members = [n for n in shown if n.split("-")[0] == family]
        cost = [shown[n]["multiply_adds"] / 1e9 for n in members]
        top1 = [PUBLISHED[n][1] for n in members]
        area = [4 * shown[n]["parameters"] / 1e6 for n in members]
        axis.plot(cost, top1, color=figures.COLOURS[k], lw=1, ls="--")
        axis.scatter(
            cost,
            top1,
            s=area,
            marker=figures.MARKERS[k],
            color=figures.COLOURS[k],
            alpha=0.6,
            label=family,
        )
    axis.set(
        xscale="log",
        xlabel="milliards de multiplications-additions",
        ylabel="exactitude top-1 publiée (%)",
    )
    legend = fig.legend(loc="outside lower center", ncols=2)
    for handle in legend.legend_handles:
        handle.set_sizes([60])
    return fig


# %%
figures.show(
    draw_census(shown),
    alt="Exactitude top-1 publiée selon le coût ; l'aire d'une marque est le nombre de "
    "paramètres : "
    + ", ".join(
        f"{name} ({number(found['multiply_adds'] / 1e9, 1)} G, {number(PUBLISHED[name][1], 1)} %)"
        for name, found in shown.items()
        if PUBLISHED[name][1]
    )
    + ".",
)


# %%
def sizes(name):
    """Couches, filtres de la première convolution, côté de l'image ; None sans profil complet."""
    runs = census.full
    return runs and np.array([runs[name][key] for key in ("depth", "stem", "side")])


smallest, largest = sizes("EfficientNet-B0"), sizes("EfficientNet-B7")
decided = census.full is not None
verdict(
    "arch-efficientnet-joint", bool((largest > smallest).all()) if decided else None
)

# %% [markdown]
# De B0 à B7, tout grandit ensemble. Quel nombre $\varphi$ explique chacune des trois dimensions ?

# %%
if decided:
    phi = np.log(largest / smallest) / np.log([ALPHA, BETA, GAMMA])
    print(f"φ de B7 : {french(phi.round(1).tolist())} (couches, filtres, côté)")
verdict("arch-efficientnet-cost", phi.mean() if decided else None)

# %% [markdown]
# Les trois donnent presque le même $\varphi$, autour de 7, le numéro du réseau : un seul nombre
# règle bien la famille, aux arrondis près.
#
# Relisez maintenant le tableau en entier. D'AlexNet à EfficientNet-B0, dix-huit points
# d'exactitude, pour onze fois moins de paramètres et moitié moins d'opérations : en sept ans, on a
# surtout appris à les placer. DenseNet-121 égale ResNet-50 avec trois fois moins de paramètres.
# Quant aux exactitudes, elles viennent de recettes d'entraînement différentes : un ResNet-50
# entraîné aujourd'hui dépasse 80 %.
#
# Mais les colonnes ne se remplacent pas. Le temps suit à peu près les opérations à l'intérieur
# d'une famille, pas de l'une à l'autre : EfficientNet-B4 et ResNet-50 en font à peu près autant, et
# le premier met plus de temps, car une convolution par canal déplace beaucoup de mémoire pour peu
# de calcul. B7 a moitié moins de paramètres que VGG-16, et vingt fois plus d'activations.
#
# Nos comptes d'opérations sont-ils ceux des articles ?

# %%
PAPERS = {  # milliards de multiplications-additions annoncés
    "VGG-16": 15.3,
    "VGG-19": 19.6,
    "GoogLeNet": 1.5,
    "ResNet-18": 1.8,
    "ResNet-34": 3.6,
    "ResNet-50": 3.8,
    "ResNet-101": 7.6,
    "ResNet-152": 11.3,
    "EfficientNet-B0": 0.39,
    "EfficientNet-B1": 0.70,
    "EfficientNet-B2": 1.0,
    "EfficientNet-B3": 1.8,
    "EfficientNet-B4": 4.2,
    "EfficientNet-B5": 9.9,
    "EfficientNet-B6": 19,
    "EfficientNet-B7": 37,
}
rows = []
for name, printed in PAPERS.items():
    if name in shown:
        counted = shown[name]["multiply_adds"] / 1e9
        rows.append(
            (name, french(printed), number(counted), percent(counted / printed - 1, 1))
        )
        assert abs(counted / printed - 1) < 0.06, name
runtime.show_table(("réseau", "article", "compté", "écart"), rows)

# %% [markdown]
# Oui, à moins de 6 % près. GoogLeNet est le plus loin : la table de son article compte 34 millions
# pour la première convolution, qui en fait 118.

# %% [markdown]
# ## À retenir
#
# - Paramètres, multiplications-additions et activations sont trois mesures différentes : les
#   couches denses de VGG tiennent neuf paramètres sur dix et moins d'un centième du calcul.
# - Chaque poids d'une convolution sert une fois par position de la sortie.
# - Deux 3 × 3 voient aussi loin qu'une 5 × 5, avec 28 % de poids en moins.
# - Une convolution 1 × 1 mêle les canaux et en change le nombre ; avec un pas de 1, elle ne touche
#   pas à l'espace.
# - La normalisation par lots élargit la plage des taux d'apprentissage utilisables ; au test, elle
#   emploie des moyennes qu'il faut avoir eu le temps d'accumuler.
# - Un réseau simple se dégrade avec la profondeur, même à l'entraînement ; un raccourci, qui
#   transmet l'entrée elle-même, l'évite.
# - ResNet additionne, DenseNet concatène, et seulement à l'intérieur d'un bloc.
# - Une convolution par canal, puis une 1 × 1, coûtent huit fois moins qu'une 3 × 3 à 64 canaux.
# - Le nombre de paramètres ne prouve pas qu'un réseau est le bon : comparez les sorties, tous poids
#   tirés au hasard.
# - À petite échelle, les briques économes coûtent en exactitude, et élargir vaut au moins tout
#   agrandir : une architecture se juge à l'échelle pour laquelle elle est faite.
# - Une exactitude sur ImageNet dépend des étiquettes, du cadrage et de la recette d'entraînement.

# %% [markdown]
# ## Exercices
#
# ### 1. Prédire, puis exécuter
#
# Une carte de 14 × 14 et 512 canaux traverse un goulot : une convolution 1 × 1 vers 128 canaux, une
# 3 × 3 vers 128, une 1 × 1 vers 512, sans biais. Combien de milliers de poids ? Et combien de fois
# moins de multiplications-additions que deux convolutions 3 × 3 de 512 canaux ? Remplacez les
# `None`.

# %%
my_thousands = None
my_ratio = None


def three_convolutions(x):
    x = layers.Conv2D(128, 1, use_bias=False)(x)
    x = layers.Conv2D(128, 3, padding="same", use_bias=False)(x)
    return layers.Conv2D(512, 1, use_bias=False)(x)


def two_convolutions(x):
    for _ in range(2):
        x = layers.Conv2D(512, 3, padding="same", use_bias=False)(x)
    return x


thin, thick = (
    block(function, channels=512, side=14)
    for function in (three_convolutions, two_convolutions)
)
predict("poids du goulot", my_thousands, thin.count_params() / 1e3, "milliers")
predict("rapport des calculs", my_ratio, multiply_adds(thick) / multiply_adds(thin))

# %% [markdown]
# <details>
# <summary>Solution</summary>
#
# $512 \times 128 + 9 \times 128 \times 128 + 128 \times 512 = 278\,528$ poids. Les deux
# convolutions en ont $2 \times 9 \times 512 \times 512 = 4\,718\,592$. Toutes les sorties ont
# $14 \times 14$ positions : le rapport des calculs est celui des poids, $16{,}9$.
#
# </details>

# %% [markdown]
# ### 2. Compter une convolution
#
# Écrivez le nombre de multiplications-additions d'une convolution sur une carte carrée de côté
# `side` à `channels` canaux : `filters` filtres de côté `size`, un pas `stride`, un remplissage
# « same », `groups` groupes de canaux. Sans les biais.


# %%
def my_cost(side, channels, filters, size, stride=1, groups=1):
    raise NotImplementedError


# %% tags=["hide-input"] cellView="form"
# @title Vérificateur de l'exercice 2
def cost_solution(side, channels, filters, size, stride=1, groups=1):
    out = math.ceil(side / stride)
    return out**2 * size**2 * (channels // groups) * filters


COST_CASES = [(28, 8, 16, 3), (14, 6, 6, 1), (15, 4, 8, 5, 2), (13, 4, 8, 3, 1, 2)]
EXERCISE_COST = Exercise(
    title="Exercice 2",
    reference=cost_solution,
    cases=COST_CASES,
    mistakes={
        "Comptez les positions de la *sortie* : le pas les réduit.": (
            lambda side, c, k, f, s=1, g=1: cost_solution(side, c, k, f, 1, g)
        ),
        "Avec des groupes, un filtre ne lit que `channels / groups` canaux.": (
            lambda side, c, k, f, s=1, g=1: cost_solution(side, c, k, f, s)
        ),
        "Les biais ne sont pas des multiplications.": (
            lambda side, c, k, f, s=1, g=1: (
                math.ceil(side / s) ** 2 * (f**2 * (c // g) + 1) * k
            )
        ),
        "Ce sont les poids : chacun sert une fois par position.": (
            lambda side, c, k, f, s=1, g=1: f**2 * (c // g) * k
        ),
        "Avec « same », le côté est arrondi vers le haut.": (
            lambda side, c, k, f, s=1, g=1: (side // s) ** 2 * f**2 * (c // g) * k
        ),
    },
)
EXERCISE_COST.check(my_cost)

# %% tags=["hide-cell"] cellView="form"
# @title Solution de l'exercice 2
# Positions de la sortie × poids d'un filtre × filtres.
EXERCISE_COST.check(cost_solution)
for side, channels, filters, size, *rest in COST_CASES:
    stride, groups = (*rest, *(1, 1)[len(rest) :])
    inputs = keras.Input((side, side, channels))
    x = layers.Conv2D(filters, size, stride, padding="same", groups=groups)(inputs)
    assert multiply_adds(keras.Model(inputs, x)) == cost_solution(
        side, channels, filters, size, *rest
    )

# %% [markdown]
# ### 3. Les canaux d'un DenseNet
#
# Rendez la liste des canaux de la carte que produit chaque bloc d'un DenseNet, *avant* sa
# transition : `growth` est la croissance, `blocks` le nombre de couches de chaque bloc, `first` les
# canaux à l'entrée du premier. Une transition divise les canaux par deux, arrondis vers le bas.


# %%
def my_channels(growth, blocks, first=64):
    raise NotImplementedError


# %% tags=["hide-input"] cellView="form"
# @title Vérificateur de l'exercice 3
def channels_solution(growth, blocks, first=64):
    found, channels = [], first
    for count in blocks:
        channels += growth * count
        found.append(channels)
        channels //= 2
    return found


def channels_without_transition(growth, blocks, first=64):
    return [first + growth * sum(blocks[: k + 1]) for k in range(len(blocks))]


def channels_without_entry(growth, blocks, first=64):
    return [growth * count for count in blocks]


def channels_after_transition(growth, blocks, first=64):
    return [channels // 2 for channels in channels_solution(growth, blocks, first)]


EXERCISE_CHANNELS = Exercise(
    title="Exercice 3",
    reference=channels_solution,
    cases=[(32, (6, 12, 24, 16)), (12, (4, 4), 24), (5, (3, 2, 1), 7)],
    mistakes={
        "La transition divise les canaux par deux avant le bloc suivant.": (
            channels_without_transition
        ),
        "Un bloc dense garde aussi les canaux qu'il reçoit.": channels_without_entry,
        "Rendez les canaux avant la transition, non après.": channels_after_transition,
    },
)
EXERCISE_CHANNELS.check(my_channels)

# %% tags=["hide-cell"] cellView="form"
# @title Solution de l'exercice 3
# Chaque couche ajoute `growth` canaux ; chaque transition divise par deux.
EXERCISE_CHANNELS.check(channels_solution)
print(f"DenseNet-121 : {french(channels_solution(32, DENSENET[121]))}")

# %% [markdown]
# ### 4. Expliquer
#
# On initialise souvent à zéro l'échelle $\gamma$ de la dernière normalisation de chaque bloc
# résiduel. Que calcule alors le réseau au départ ? Le bloc peut-il encore apprendre ?
#
# <details>
# <summary>Solution</summary>
#
# Toutes les branches valent zéro : chaque bloc rend ReLU de son raccourci, l'entrée ou sa
# projection, et le réseau se comporte comme un réseau peu profond, facile à entraîner. Le gradient
# par rapport à $\gamma$ n'est pas nul : il vaut la somme des produits du gradient de la sortie et
# de la valeur normalisée. Au premier pas, seuls $\gamma$ et $\beta$ bougent dans la branche ; dès
# le second, les convolutions aussi.
#
# </details>
#
# ### 5. Pour aller plus loin
#
# Inventez une treizième brique : ajoutez un raccourci à `separable`, ou SE à `shortcut_pair`.
# Prédisez sa place dans le tableau avant de l'entraîner. Puis donnez à toutes les briques le même
# budget : réglez `filters` pour que leurs multiplications-additions s'accordent à 10 % près. Le
# classement change-t-il ?
#
# <details>
# <summary>Solution</summary>
#
# Ajoutez à `BRICKS` une fonction `(x, filters)` qui rend autant de canaux que `filters`, puis
# relancez l'expérience en profil complet. À budget égal, les briques économes peuvent être plus
# larges. Regardez l'écart type entre graines avant de conclure.
#
# </details>

# %% [markdown]
# ## Ce que nous avons vérifié

# %%
summary()

# %% [markdown]
# ## Références
#
# - Y. LeCun et al., [Gradient-based learning applied to document
#   recognition](https://doi.org/10.1109/5.726791), *Proceedings of the IEEE*, 1998 : LeNet-5.
# - A. Krizhevsky, I. Sutskever, G. Hinton, [ImageNet classification with deep convolutional neural
#   networks](https://doi.org/10.1145/3065386), 2012 : AlexNet.
# - K. Simonyan, A. Zisserman, [Very deep convolutional networks for large-scale image
#   recognition](https://arxiv.org/abs/1409.1556), 2014 : VGG.
# - C. Szegedy et al., [Going deeper with convolutions](https://arxiv.org/abs/1409.4842), 2014 :
#   GoogLeNet.
# - M. Lin, Q. Chen, S. Yan, [Network in network](https://arxiv.org/abs/1312.4400), 2013 : la
#   convolution 1 × 1 et la moyenne globale.
# - S. Ioffe, C. Szegedy, [Batch normalization](https://arxiv.org/abs/1502.03167), 2015 ; C. Szegedy
#   et al., [Rethinking the Inception architecture](https://arxiv.org/abs/1512.00567), 2015 :
#   Inception v2.
# - S. Santurkar et al., [How does batch normalization help
#   optimization?](https://arxiv.org/abs/1805.11604), 2018.
# - K. He, X. Zhang, S. Ren, J. Sun, [Deep residual learning for image
#   recognition](https://arxiv.org/abs/1512.03385), 2015 : ResNet.
# - G. Huang, Z. Liu, L. van der Maaten, K. Weinberger, [Densely connected convolutional
#   networks](https://arxiv.org/abs/1608.06993), 2016 : DenseNet.
# - F. Chollet, [Xception](https://arxiv.org/abs/1610.02357), 2016 : la convolution séparable.
# - J. Hu et al., [Squeeze-and-excitation networks](https://arxiv.org/abs/1709.01507), 2017.
# - M. Sandler et al., [MobileNetV2](https://arxiv.org/abs/1801.04381), 2018 : le goulot inversé.
# - M. Tan, Q. Le, [EfficientNet](https://arxiv.org/abs/1905.11946), 2019 (nombres de la version 5).
# - O. Russakovsky et al., [ImageNet large scale visual recognition
#   challenge](https://doi.org/10.1007/s11263-015-0816-y), 2015 : le concours et ses vainqueurs,
#   jusqu'en 2014 ; 2016, [la page des
#   résultats](https://image-net.org/challenges/LSVRC/2016/results).
# - Exactitudes publiées : [Keras Applications](https://keras.io/api/applications/) et
#   [torchvision](https://docs.pytorch.org/vision/stable/models.html), consultées en 2026.
