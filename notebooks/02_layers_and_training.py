# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Couches et apprentissage
#
# > **Objectifs.** À la fin de ce chapitre, vous saurez :
# > - dire à quoi sert une fonction d'activation, et ce qui tue un neurone ou efface un gradient ;
# > - calculer un sous-échantillonnage, une couche dense, un softmax et une entropie croisée ;
# > - dériver la rétropropagation d'une convolution, l'écrire avec NumPy et la vérifier ;
# > - régler un entraînement, provoquer un surapprentissage, puis le soigner remède par remède ;
# > - tester honnêtement un réseau, l'enregistrer, et l'employer sur une photographie à vous.
#
# | | |
# |:--|:--|
# | **Prérequis** | le [chapitre 1](01_convolution.ipynb) ; la dérivée d'une fonction composée |
# | **Document étudié** | 004, chapitre 1 : les couches, l'apprentissage, la phase de test |
# | **Données** | Fashion-MNIST (hors ligne, des chiffres manuscrits) ; des photographies |
# | **Durée** | trois heures de lecture et d'exercices ; exécution rapide : une minute |
#
# Le chapitre 1 s'est arrêté à la couche de convolution. Voici tout ce qui l'entoure dans un réseau,
# puis ce qui donne leur valeur aux poids.
#
# > **Plan.** Les couches, puis l'entropie croisée : tout lire. L'apprentissage : à la première
# > lecture, passez la rétropropagation écrite à la main et la surface des quatre optimiseurs.
# > L'entraînement complet et la phase de test : lisez les tableaux, revenez au code plus tard.
#

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
from time import perf_counter

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import layers, ops
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image, ImageDraw, ImageOps
from scipy.optimize import minimize_scalar
from scipy.special import rel_entr, xlogy
from skimage.filters import threshold_otsu
from sklearn.datasets import make_circles
from sklearn.metrics import confusion_matrix, log_loss
from sklearn.neural_network import MLPClassifier

from utils import datasets, figures, runtime
from utils.autodiff import value_and_grad
from utils.execute import experiment
from utils.exercises import Exercise, predict
from utils.figures import number, percent, scientific, spread
from utils.verdicts import french, summary, verdict

# %% [markdown]
# Toutes les tailles du chapitre sont choisies ici. Le profil *rapide* suffit pour lire et modifier
# le code ; le profil *complet* emploie les vraies images, jusqu'aux 55 000 que laisse la
# validation, et répète chaque entraînement avec trois ***graines***, trois départs du hasard.

# %%
SEEDS = runtime.pick(quick=(0,), full=(0, 1, 2))
FEW_IMAGES = runtime.pick(quick=128, full=2_000)  # pour surapprendre
SOME_IMAGES = runtime.pick(quick=128, full=10_000)  # pour comparer des réglages
MANY_IMAGES = runtime.pick(quick=128, full=60_000)  # au plus, pour entraîner vraiment
VALIDATION = runtime.pick(quick=100, full=5_000)
TEST = runtime.pick(quick=200, full=10_000)
SHORT = runtime.pick(quick=1, full=5)  # époques d'une comparaison
LONG = runtime.pick(quick=1, full=12)  # époques de LeNet-5
LONGER = runtime.pick(quick=1, full=20)  # époques du meilleur réseau
OVERFITTING = runtime.pick(quick=1, full=40)  # époques du surapprentissage
DEPTHS = runtime.pick(quick=(2,), full=(2, 5, 10, 20))
BATCH_SIZE = 64

runtime.start("02_layers_and_training")
garments = datasets.garments()
photographs = datasets.photographs()
runtime.banner(garments, photographs)

# %% [markdown]
# Les images deviennent des réels de 0 à 1, avec un canal. Les dernières images d'entraînement sont
# gardées pour la **validation**, qui sert à choisir un réglage ou à arrêter à temps. Celles de
# **test** ne servent qu'à mesurer.


# %%
def to_input(images):
    """Octets (n, h, w) -> réels de 0 à 1, avec un canal : (n, h, w, 1)."""
    return images[..., None].astype("float32") / 255


x_train, x_val = np.split(to_input(garments.x_train), [-VALIDATION])
y_train, y_val = np.split(garments.y_train, [-VALIDATION])
x_test, y_test = to_input(garments.x_test[:TEST]), garments.y_test[:TEST]
sizes = (number(len(images), 0) for images in (x_train, x_val, x_test))
print("{} images d'entraînement, {} de validation, {} de test".format(*sizes))

# %% [markdown]
# ## Les fonctions d'activation
#
# ### ReLU
#
# Une ***fonction d'activation*** s'applique à chaque nombre d'une carte, séparément. La plus
# courante est la ***ReLU*** (*rectified linear unit*) : $f(x) = \max(0, x)$. Appliquons-la à la
# carte de nombres du document.


# %%
def relu(x):
    return np.maximum(0, x)


MAP = np.array(
    [[15, 20, -10, 35], [18, -110, 25, 100], [20, -15, 25, -10], [101, 75, 18, 23]]
)
print(relu(MAP))
verdict("layers-relu-map", relu(MAP).tolist())

# %% [markdown]
# Les négatifs ont disparu ; que sont devenus les autres nombres, zéro compris ?

# %%
line = np.linspace(-5, 5, 101)  # passe par zéro
verdict("layers-relu-negative", bool((relu(line[line < 0]) == 0).all()))
verdict("layers-relu-positive", bool((relu(line[line >= 0]) == line[line >= 0]).all()))

# %% [markdown]
# « Appliquée élément par élément » : chaque sortie ne dépend que de l'entrée qui est à sa place.
# Calculons les dérivées de toutes les sorties par rapport à toutes les entrées. Cette matrice, la
# *jacobienne*, doit être nulle hors de sa diagonale.

# %%
jacobian = [
    value_and_grad(lambda x, k=k: ops.reshape(ops.relu(x), (-1,))[k], MAP)[1].ravel()
    for k in range(MAP.size)
]
verdict("layers-relu-elementwise", bool((np.diag(np.diag(jacobian)) == jacobian).all()))

# %% [markdown]
# ### Pourquoi une fonction non linéaire ?
#
# Deux couches linéaires de suite n'en font qu'une : $W_2 (W_1 x) = (W_2 W_1)\, x$. Empiler
# n'apporte donc rien, tant que rien ne plie l'espace entre deux couches. Essayons sur des points
# qu'aucune droite ne sépare, avec les deux mêmes couches de vingt ***neurones*** (chacun fait une
# somme pondérée de toutes ses entrées), sans activation puis avec ReLU.

# %%
points, ring = make_circles(400, noise=0.08, factor=0.5, random_state=0)
networks = {
    title: MLPClassifier(
        (20, 20), activation, solver="lbfgs", max_iter=1_000, random_state=0
    ).fit(points[:200], ring[:200])
    for title, activation in (("sans activation", "identity"), ("avec ReLU", "relu"))
}


# %%
def draw_regions(networks, points, labels):
    """Pour chaque réseau, les deux régions du plan qu'il sépare."""
    fig, axes = plt.subplots(1, len(networks), figsize=(6, 3.1), sharey=True)
    plane = np.stack(np.meshgrid(*2 * [np.linspace(-1.5, 1.5, 120)]), axis=-1)
    for axis, (title, network) in zip(axes, networks.items()):
        inside = network.predict(plane.reshape(-1, 2)).reshape(120, 120)
        axis.contourf(
            plane[..., 0],
            plane[..., 1],
            inside,
            [-0.5, 0.5, 1.5],
            alpha=0.3,
            colors=["#0072B2", "#E69F00"],
        )
        for label, marker, colour in ((0, "o", "#0072B2"), (1, "^", "#B35900")):
            axis.plot(*points[labels == label].T, marker, ms=3, color=colour)
        axis.set(title=title, xticks=[], yticks=[], aspect="equal")
    return fig


right = {name: net.score(points[200:], ring[200:]) for name, net in networks.items()}
fig = draw_regions(networks, points[200:], ring[200:])
figures.show(
    fig,
    alt="Un anneau de points ronds entoure un amas de triangles. Sans activation, une droite coupe "
    f"le plan : exactitude {number(right['sans activation'])}. Avec ReLU, une frontière fermée "
    f"entoure les triangles : {number(right['avec ReLU'])}.",
)
verdict("layers-relu-nonlinear", right["avec ReLU"] - right["sans activation"])

# %% [markdown]
# Sans activation, deux couches valent une droite : elle ne fait pas mieux que le hasard. Avec
# ReLU, la frontière est une ligne brisée ; ses plis viennent de ceux des neurones.

# %% [markdown]
# ### La famille
#
# Le document cite deux variantes : la ***Leaky ReLU***, $\max(0{,}1\,x,\ x)$, qui laisse fuir un
# dixième des négatifs, et l'***ELU***, $\alpha (e^x - 1)$ du côté négatif. Les activations d'avant
# sont la *sigmoïde*, $\sigma(x) = 1/(1 + e^{-x})$, qui va de 0 à 1, et la *tangente hyperbolique*,
# qui va de −1 à 1. Dessinons-les avec leur dérivée, calculée par ***différentiation automatique***.

# %%
ACTIVATIONS = {
    "ReLU": ops.relu,
    "Leaky ReLU": partial(ops.leaky_relu, negative_slope=0.1),
    "ELU": ops.elu,
    "sigmoïde": ops.sigmoid,
    "tanh": ops.tanh,
}


def slope(activation, x):
    """Dérivée d'une activation en chaque point de `x`."""
    return value_and_grad(lambda t: ops.sum(activation(t)), x)[1]


# %%
STYLES = ("-", "--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)))


def draw_activations(x):
    """Les activations à gauche, leurs dérivées à droite."""
    fig, axes = plt.subplots(1, 2, figsize=(6, 3.4))
    for (name, activation), style in zip(ACTIVATIONS.items(), STYLES):
        values = ops.convert_to_numpy(activation(ops.convert_to_tensor(x)))
        axes[0].plot(x, values, ls=style, label=name)
        axes[1].plot(x, slope(activation, x), ls=style)
    axes[0].set(title="fonction", xlabel="x", ylim=(-1.2, 3))
    axes[1].set(title="dérivée", xlabel="x")
    fig.legend(loc="outside lower center", ncols=3)
    return fig


x = np.linspace(-4, 4, 201).astype("float32")
steepest = {
    name: slope(activation, x).max() for name, activation in ACTIVATIONS.items()
}
figures.show(
    draw_activations(x),
    alt="Cinq activations et leurs dérivées. À gauche de zéro, la dérivée de ReLU est nulle, celle "
    "de Leaky ReLU vaut 0,1, celle d'ELU décroît doucement. Celle de la sigmoïde ne dépasse "
    f"jamais {number(steepest['sigmoïde'])}.",
)

# %% [markdown]
# Retenez deux détails du dessin de droite : du côté négatif, ReLU n'a plus de pente du tout ; la
# pente de la sigmoïde ne dépasse pas un quart. Ils décident de la suite. Les formules du document
# sont-elles celles de Keras ?

# %%
written = np.maximum(0.1 * x, x)
theirs = layers.LeakyReLU(negative_slope=0.1)(x)
verdict("layers-leaky-slope", bool(np.allclose(written, theirs, atol=1e-6)))
default = layers.LeakyReLU().negative_slope
print(f"Leaky ReLU de Keras, sans argument : pente {french(default)}")

# %%
elu = np.where(x >= 0, x, np.expm1(x))  # expm1(x) = eˣ − 1 ; α = 1
verdict("layers-elu", bool(np.allclose(elu, layers.ELU(alpha=1.0)(x), atol=1e-6)))

# %% [markdown]
# L'article qui a proposé Leaky ReLU prenait encore une autre pente, 0,01.
#
# ### Un calcul rapide
#
# ReLU est une comparaison ; la sigmoïde et la tangente demandent une exponentielle. Chronométrons
# dix mille nombres, qui tiennent dans la mémoire cache : le meilleur essai sur mille, sur 64 bits
# puis sur 32.


# %%
def fastest(function, x, repeats=1_000):
    """Durée du plus rapide de plusieurs essais, en secondes."""
    durations = []
    for _ in range(repeats):
        begin = perf_counter()
        function(x)
        durations.append(perf_counter() - begin)
    return min(durations)


FORMULAS = {"ReLU": relu, "sigmoïde": lambda x: 1 / (1 + np.exp(-x)), "tanh": np.tanh}
numbers = np.random.default_rng(0).normal(size=10_000)
seconds = {
    bits: {
        name: fastest(f, numbers.astype(f"float{bits}")) for name, f in FORMULAS.items()
    }
    for bits in (64, 32)
}
rows = [
    (name, *(f"{number(1e6 * seconds[bits][name], 1)} µs" for bits in (64, 32)))
    for name in FORMULAS
]
runtime.show_table(("dix mille nombres", "64 bits", "32 bits"), rows)
verdict("layers-relu-fast", seconds[64]["ReLU"] < seconds[64]["sigmoïde"])

# %% [markdown]
# ReLU devance la sigmoïde. Face à la tangente, l'ordre dépend du processeur et de la bibliothèque :
# lisez le tableau, surtout sur 32 bits, la précision des réseaux. L'avantage compte peu de toute
# façon, car l'essentiel des opérations d'un réseau est dans les sommes pondérées. La pente, elle, a
# une conséquence plus grave.
#
# ### Le gradient qui s'évanouit
#
# Pour corriger les poids, on calcule le gradient de la ***perte***, le nombre qui mesure l'erreur
# du réseau, de la sortie vers l'entrée : c'est la rétropropagation, détaillée plus bas. À chaque
# couche traversée, il est multiplié par la dérivée de l'activation. Avec une sigmoïde, il devrait
# donc fondre d'un facteur quatre au moins par couche.
#
# Mesurons-le, dans une pile de vingt couches denses à l'initialisation. Les poids sont tirés au
# hasard, à l'échelle qui garde leur taille aux valeurs : variance $1/n$ pour $n$ entrées (tirage de
# Glorot, couche carrée), $2/n$ pour ReLU, qui en annule la moitié (tirage de He).


# %%
def stack_gradients(activation, gain, depth=20, units=100):
    """Moyenne quadratique du gradient des poids de chaque couche : (depth,)."""
    rng = np.random.default_rng(0)
    entry, labels = rng.normal(size=(64, units)), rng.integers(0, units, size=64)
    scale = math.sqrt(gain / units)  # gain : 1 (Glorot) ou 2 (He)

    def loss(*weights):
        x = ops.convert_to_tensor(entry, "float32")
        for weight in weights[:-1]:
            x = activation(ops.matmul(x, weight))
        z = ops.matmul(x, weights[-1])
        return ops.mean(
            ops.sparse_categorical_crossentropy(labels, z, from_logits=True)
        )

    weights = [rng.normal(scale=scale, size=(units, units)) for _ in range(depth)]
    return [np.sqrt(np.mean(g**2)) for g in value_and_grad(loss, weights)[1]]


STACKS = {"ReLU": (ops.relu, 2), "tanh": (ops.tanh, 1), "sigmoïde": (ops.sigmoid, 1)}
gradients = {name: stack_gradients(*stack) for name, stack in STACKS.items()}

# %%
fig = figures.curves(
    gradients, xlabel="couche, depuis l'entrée", ylabel="gradient des poids"
)
fig.axes[0].set_yscale("log")
lost = {name: values[-1] / values[0] for name, values in gradients.items()}
figures.show(
    fig,
    alt="Gradient des poids selon la couche, échelle logarithmique. Pour ReLU et tanh il garde à "
    "peu près sa taille ; pour la sigmoïde il est divisé par 10 puissance "
    f"{math.log10(lost['sigmoïde']):.0f} entre la dernière couche et la première.",
)

# %%
rows = [(name, scientific(value)) for name, value in lost.items()]
runtime.show_table(("activation", "gradient, dernière couche / première"), rows)

# %% [markdown]
# Avec la sigmoïde, la première couche ne reçoit presque plus rien : un facteur quatre par couche,
# répété dix-neuf fois. C'est la ***disparition du gradient***. ReLU et la tangente, dont la pente
# atteint 1 et dont les poids sont tirés à la bonne échelle, laissent passer.
#
# L'effet se voit-il à l'entraînement ? Trois fonctions serviront dans tout le chapitre. La perte
# (l'entropie croisée) et l'optimiseur (Adam) ont chacun leur section plus bas ; il suffit ici de
# savoir que l'entraînement diminue la première, par petits pas que choisit le second.


# %%
def train(
    model, images, labels, epochs, optimizer=None, batch_size=BATCH_SIZE, **options
):
    """Compile un classifieur, dont les sorties sont des scores, puis l'entraîne."""
    model.compile(
        optimizer=optimizer or keras.optimizers.Adam(1e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model.fit(images, labels, batch_size, epochs, verbose=0, **options)


def scores(model, images):
    """Un score par classe, cinq cents images à la fois : (n, h, w, 1) -> (n, 10)."""
    starts = range(0, len(images), 500)
    parts = [model(images[k : k + 500], training=False) for k in starts]
    return np.concatenate([ops.convert_to_numpy(part) for part in parts])


def accuracy(model, images, labels):
    """Part des images dont le score le plus haut est celui de la bonne classe."""
    return np.mean(scores(model, images).argmax(axis=1) == labels)


# %%
def dense_stack(depth, activation, units=100):
    """`depth` couches denses de même largeur : image -> un score par classe."""
    start = "he_normal" if activation == "relu" else "glorot_normal"
    inputs = keras.Input(shape=(28, 28, 1))
    x = layers.Flatten()(inputs)
    for _ in range(depth):
        x = layers.Dense(units, activation=activation, kernel_initializer=start)(x)
    return keras.Model(inputs, layers.Dense(10)(x))


def depth_run():
    found = {}
    for activation in ("relu", "tanh", "sigmoid"):
        found[activation] = []
        for seed in SEEDS:
            row = []
            for depth in DEPTHS:
                keras.utils.set_random_seed(seed)
                model = dense_stack(depth, activation)
                train(model, x_train[:SOME_IMAGES], y_train[:SOME_IMAGES], SHORT)
                row.append(accuracy(model, x_val, y_val))
            found[activation].append(row)
    return found | {"depths": DEPTHS}


depth = experiment("depth", depth_run)

# %%
shown = depth.values
NAMES = {"relu": "ReLU", "tanh": "tanh", "sigmoid": "sigmoïde"}
fig = figures.curves(
    {name: shown[key] for key, name in NAMES.items()},
    x=shown["depths"],
    xlabel="couches cachées",
    ylabel="exactitude de validation",
    levels={"hasard": 0.1},
)
fig.axes[0].set_xticks(shown["depths"], shown["depths"])
deepest = {key: np.mean(shown[key], axis=0)[-1] for key in NAMES}
figures.show(
    fig,
    alt=f"Exactitude de validation selon la profondeur, jusqu'à {shown['depths'][-1]} couches, où "
    f"ReLU garde {number(deepest['relu'])}, tanh {number(deepest['tanh'])} et la sigmoïde "
    f"{number(deepest['sigmoid'])}.",
)

# %%
print(f"à {shown['depths'][-1]} couches cachées :")
for key, name in NAMES.items():
    print(f"{name} : {spread(np.transpose(shown[key])[-1])}")

# %% [markdown]
# À dix couches, le réseau à sigmoïdes n'apprend presque rien ; à vingt, rien du tout. ReLU et tanh
# perdent quelques points avec la profondeur, pour d'autres raisons, que le [chapitre
# 3](03_architectures.ipynb) traite. (Le nombre qui suit ± est l'*écart type* des trois graines, ici
# et dans tout le chapitre ; la bande colorée d'une courbe le montre aussi.)
#
# ### Sparsité et neurones morts
#
# Le document range parmi les qualités de ReLU la ***sparsité*** (ou parcimonie) : beaucoup de
# sorties exactement nulles. Et parmi ses limites « la disparition du gradient pour les valeurs
# négatives » : la pente y serait nulle d'un seul coup, quelle que soit la profondeur.

# %%
verdict("layers-relu-vanishing", float(slope(ops.relu, line[line < 0]).max()))

# %% [markdown]
# Un neurone dont l'entrée est négative *pour toutes les images* a donc une sortie et un gradient
# nuls partout. On parle de ***neurone mort***. Fabriquons-en un, avec un biais très négatif, et
# cherchons le plus grand gradient de ses poids.

# %%
inputs = ops.convert_to_tensor(x_val[:64].reshape(64, -1))
target = ops.ones(64)


def unit_loss(weights, bias, activation=ops.relu):
    """Erreur quadratique d'un seul neurone."""
    output = activation(ops.matmul(inputs, weights) + bias)
    return ops.mean(ops.square(output - target))


weights = np.random.default_rng(0).normal(scale=0.05, size=784)
dead_gradient = {}
for bias in (0.0, -100.0):
    _, (gradient, _) = value_and_grad(unit_loss, [weights, np.array(bias)])
    dead_gradient[bias] = np.abs(gradient).max()
    largest = french(round(float(dead_gradient[bias]), 3))
    print(f"biais {french(bias)} : plus grand gradient {largest}")
verdict("layers-dead-no-update", dead_gradient[-100.0])

# %% [markdown]
# Zéro exactement : tant que ses entrées ne changent pas, aucune descente de gradient ne le
# réveillera. Dans un vrai réseau, un neurone meurt quand une mise à jour trop grande l'envoie loin
# du côté négatif. Augmentons donc le ***taux d'apprentissage***, la longueur des mises à jour, d'un
# réseau de trois couches cachées, avec ReLU puis avec ses deux variantes. Dans le premier, comptons
# les neurones dont l'entrée est négative pour toutes les images de validation.


# %%
SLOPES = {"ReLU": 0.0, "Leaky ReLU": 0.1, "ELU": None}
DEADLY_RATES = runtime.pick(quick=(0.1,), full=(0.001, 0.01, 0.03, 0.1))


def probed_stack(slope):
    """Trois couches cachées ; avec le réseau, un modèle par couche donne sa sortie brute."""
    inputs = keras.Input(shape=(28, 28, 1))
    x, before = layers.Flatten()(inputs), []
    for _ in range(3):
        before.append(layers.Dense(128)(x))
        x = (layers.ELU() if slope is None else layers.LeakyReLU(slope))(before[-1])
    model = keras.Model(inputs, layers.Dense(10)(x))
    return model, [keras.Model(inputs, sums) for sums in before]


# %%
def dying_run():
    found = {}
    for name, slope in SLOPES.items():
        found[name] = {"accuracy": [], "negative": [], "always": []}
        for rate in DEADLY_RATES:
            rows = []
            for seed in SEEDS:
                keras.utils.set_random_seed(seed)
                model, probes = probed_stack(slope)
                optimizer = keras.optimizers.Adam(rate)
                train(
                    model,
                    x_train[:SOME_IMAGES],
                    y_train[:SOME_IMAGES],
                    SHORT,
                    optimizer,
                )
                before = np.concatenate(
                    [scores(layer, x_val) for layer in probes], axis=1
                )
                negative = before <= 0
                values = accuracy(model, x_val, y_val), negative.mean()
                rows.append((*values, negative.all(axis=0).mean()))
            for key, column in zip(found[name], np.transpose(rows)):
                found[name][key].append(column)
    return found | {"rates": DEADLY_RATES}


dying = experiment("dying_units", dying_run)

# %%
shown = dying.values
rows = [
    (
        french(rate),
        percent(np.mean(shown["ReLU"]["always"][k])),
        *(spread(shown[name]["accuracy"][k], 2) for name in SLOPES),
    )
    for k, rate in enumerate(shown["rates"])
]
runtime.show_table(("taux", "neurones morts, ReLU", *SLOPES), rows)
last = {name: np.mean(shown[name]["accuracy"][-1]) for name in SLOPES}
decided = dying.full is not None
verdict("layers-dead-stops-learning", last["ReLU"] if decided else None)
survivors = bool(min(last["Leaky ReLU"], last["ELU"]) > last["ReLU"] + 0.1)
verdict("layers-variants", survivors if decided else None)

# %% [markdown]
# Au plus petit taux, les trois réseaux se valent. Au plus grand, neuf neurones sur dix sont morts
# dans le réseau à ReLU, dont l'exactitude tombe au-dessous de 0,2. Leaky ReLU et ELU apprennent
# encore, moins bien qu'à un taux modéré, et inégalement d'une graine à l'autre. À 0,03, avec deux
# tiers de neurones morts, ReLU ne perd pourtant que sept points. Les variantes atténuent le mal ;
# un taux raisonnable l'évite.
#
# Reste la sparsité. Un réseau bien réglé en a-t-il, et lui doit-il quelque chose ?

# %%
zeros = np.mean(shown["ReLU"]["negative"][0])
print(f"sorties nulles, ReLU : {percent(zeros)}")
verdict("layers-relu-sparsity", zeros)

# %% [markdown]
# La moitié des sorties sont nulles : la sparsité est là. Mais Leaky ReLU et ELU, qui n'annulent
# rien, font jeu égal à ce taux, sur la première ligne du tableau ; sur ces images, rien ne montre
# que l'exactitude lui doive quelque chose.

# %% [markdown]
# ## Le sous-échantillonnage
#
# ### Maximum, moyenne, somme
#
# Une couche de ***sous-échantillonnage*** (*pooling*) promène une fenêtre sur chaque carte, comme
# une convolution, mais sans poids : elle garde le maximum, la moyenne ou la somme de ce qu'elle
# voit. Écrivons les trois.

# %%
REDUCTIONS = {"max": np.max, "average": np.mean, "sum": np.sum}


def pool2d(x, size=2, stride=None, kind="max"):
    """Sous-échantillonne une carte (h, w) ou des cartes (h, w, c) par fenêtres de côté `size`.

    `stride` : le pas, `size` par défaut ; `kind` : "max", "average" ou "sum".
    """
    x, stride = np.asarray(x), stride or size
    if kind not in REDUCTIONS:
        raise ValueError(
            f"Sous-échantillonnage inconnu : {kind!r}. Choix : {list(REDUCTIONS)}."
        )
    if not 1 <= size <= min(x.shape[:2]) or stride < 1:
        raise ValueError(
            f"Fenêtre de {size}, pas de {stride} : impossible sur {x.shape[:2]}."
        )
    windows = sliding_window_view(x, (size, size), axis=(0, 1))[::stride, ::stride]
    return REDUCTIONS[kind](windows, axis=(-2, -1))


# %% [markdown]
# Sur la carte du document, après ReLU, par fenêtres de 2 × 2 et un pas de 2 :

# %%
rectified = relu(MAP)
pooled = {kind: pool2d(rectified, 2, 2, kind) for kind in REDUCTIONS}


# %% tags=["hide-input"] cellView="form"
# @title Dessin : la carte et ses trois réductions
def draw_pooling(table, pooled):
    """La carte, dont chaque fenêtre a sa couleur, puis une case par fenêtre."""
    colours = np.array(["#CFE8F5", "#FBE3D3", "#D5EFE3", "#F3D9E8"]).reshape(2, 2)
    panels = {"carte": table, "maximum": pooled["max"], "moyenne": pooled["average"]}
    panels["somme"] = pooled["sum"]
    fig, axes = plt.subplots(1, 4, figsize=(6, 2.2), width_ratios=(4, 2.6, 2.6, 2.6))
    for axis, (title, array) in zip(axes, panels.items()):
        axis.set(
            title=title, xlim=(0, len(array)), ylim=(len(array), 0), aspect="equal"
        )
        axis.axis("off")
        for (i, j), value in np.ndenumerate(array):
            colour = colours[i * 2 // len(array), j * 2 // len(array)]
            axis.add_patch(plt.Rectangle((j, i), 1, 1, fc=colour, ec="#555555"))
            axis.text(
                j + 0.5,
                i + 0.5,
                french(float(value)),
                ha="center",
                va="center",
                fontsize=11,
            )
    return fig


figures.show(
    draw_pooling(rectified, pooled),
    alt="La carte de 4 × 4 nombres, en quatre fenêtres de couleur, et ce qu'il en reste : "
    + ", ".join(
        f"{name} {french(pooled[kind].ravel().tolist())}"
        for name, kind in (
            ("maximums", "max"),
            ("moyennes", "average"),
            ("sommes", "sum"),
        )
    )
    + ".",
)

# %% [markdown]
# Notre fonction et Keras s'accordent-ils, sur des cartes tirées au hasard ? Le document donne le
# code de deux des trois types ; son troisième bloc répète le premier, là où l'on attend la somme.
# Keras n'a pas de couche pour elle ; nous la comparons à la moyenne multipliée par l'aire de la
# fenêtre.

# %%
rng = np.random.default_rng(0)
KERAS_POOLING = {"max": ops.max_pool, "average": ops.average_pool}
for size, stride in ((2, 2), (3, 1), (3, 2), (2, 3)):
    maps = rng.normal(size=(1, 9, 11, 4)).astype("float32")
    for kind, pooling in KERAS_POOLING.items():
        theirs = ops.convert_to_numpy(pooling(maps, size, stride, padding="valid"))
        assert np.allclose(pool2d(maps[0], size, stride, kind), theirs[0], atol=1e-6)
    total = size**2 * ops.average_pool(maps, size, stride, padding="valid")[0]
    assert np.allclose(pool2d(maps[0], size, stride, "sum"), total, atol=1e-5)
verdict("layers-three-poolings", len(pooled))

# %% [markdown]
# La somme grandit avec la fenêtre ; la moyenne garde l'échelle de la carte, c'est pourquoi on la
# préfère. Voici maintenant les blocs de code du document, cités à l'importation et à la mise en
# forme près, appliqués à la carte de 4 × 4.

# %%
quoted_max = layers.MaxPooling2D(
    pool_size=(2, 2),  # taille de la fenêtre
    strides=(2, 2),  # déplacement (souvent égal à pool_size)
    padding="valid",
)  # 'valid' (réduction), 'same' (taille conservée)
quoted_average = layers.AveragePooling2D(
    pool_size=(2, 2), strides=(2, 2), padding="valid"
)
batch = rectified[None, ..., None].astype("float32")
verdict(
    "layers-code-max",
    ops.convert_to_numpy(quoted_max(batch))[0, ..., 0].astype(int).tolist(),
)
verdict(
    "layers-code-average",
    ops.convert_to_numpy(quoted_average(batch))[0, ..., 0].tolist(),
)

# %% [markdown]
# Le pas et la taille annoncés dans les commentaires sont-ils ceux de Keras ?

# %%
verdict("layers-pool-stride", layers.MaxPooling2D(pool_size=(2, 2)).strides == (2, 2))
verdict("layers-pool-valid", int(quoted_max(batch).shape[1]))

# %% [markdown]
# ### La taille de la sortie
#
# C'est la formule d'une convolution sans remplissage ([chapitre 1](01_convolution.ipynb)), avec le
# même oubli : quand la division ne tombe pas juste, il faut l'arrondir vers le bas.

# %%
example = pool2d(np.zeros((4, 4)), 2, 2)
verdict("layers-pool-size-example", list(example.shape))
verdict("layers-pool-size-formula", pool2d(np.zeros((5, 5)), 2, 2).shape[0])

# %% [markdown]
# Le commentaire du code dit que `'same'` conserve la taille. Sur une carte de 4 × 4, avec le pas de
# deux qu'il emploie ?

# %%
same = layers.MaxPooling2D(pool_size=(2, 2), strides=(2, 2), padding="same")
for side in (4, 5, 6, 7):
    print(f"côté {side} : {same(np.zeros((1, side, side, 1))).shape[1]}")
verdict("layers-pool-same", same(batch).shape[1])

# %% [markdown]
# ### Moins de paramètres ?
#
# Le document dit que cette couche « réduit le nombre de paramètres ». Comptons ceux d'un réseau,
# avec elle et sans elle.


# %%
def reducing_cnn(reduction="max", head="average"):
    """Deux convolutions, chacune suivie d'une réduction, et un classifieur."""
    inputs = keras.Input(shape=(28, 28, 1))
    x = inputs
    for filters in (16, 32):
        step = 2 if reduction == "strides" else 1
        x = layers.Conv2D(filters, 3, strides=step, padding="same", activation="relu")(
            x
        )
        if reduction == "max":
            x = layers.MaxPooling2D(pool_size=2)(x)
        elif reduction == "average":
            x = layers.AveragePooling2D(pool_size=2)(x)
    x = layers.Flatten()(x) if head == "flatten" else layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(10)(x))


def activations(model):
    """Nombres que les couches rendent pour une image."""
    return sum(math.prod(layer.output.shape[1:]) for layer in model.layers[1:])


# %% [markdown]
# Quatre réseaux : avec ou sans sous-échantillonnage ; puis, pour finir, `Flatten` ou la moyenne de
# chaque carte, dite ***moyenne globale***. Comptons aussi leurs *activations*, les nombres que
# rendent les couches : elles font la mémoire et le calcul.

# %%
designs = {
    f"{title}, {head_title}": reducing_cnn(reduction, head)
    for title, reduction in (("sans réduction", "none"), ("maximum", "max"))
    for head_title, head in (("moyenne globale", "average"), ("Flatten", "flatten"))
}
rows = [
    (name, number(model.count_params(), 0), number(activations(model), 0))
    for name, model in designs.items()
]
runtime.show_table(("réseau", "paramètres", "activations"), rows)
parameters = {name: model.count_params() for name, model in designs.items()}
saved = (
    parameters["sans réduction, moyenne globale"]
    - parameters["maximum, moyenne globale"]
)
verdict("layers-pool-parameters", bool(saved > 0))

# %% [markdown]
# Le réseau que décrit le document finit par `Flatten` : sa couche dense reçoit alors un vecteur
# plus court, et le nôtre a ici douze fois moins de paramètres. Et « réduit la dimensionnalité de
# chaque carte » ?

# %%
verdict("layers-pool-downsamples", rectified.size // pooled["max"].size)

# %% [markdown]
# ### Un petit décalage
#
# On attend aussi du sous-échantillonnage une ***invariance*** : que la sortie ne change pas si
# l'objet bouge d'un pixel. Décalons des images de validation et mesurons de combien change la
# sortie : la somme des écarts, divisée par celle des valeurs.


# %%
def shift(images, pixels):
    """Décale (n, h, w, 1) vers la droite ; le bord se remplit de noir."""
    moved = np.roll(images, pixels, axis=2)
    moved[:, :, :pixels] = 0
    return moved


def change(pooling, images, pixels):
    """Écart entre les sorties avant et après décalage, relatif à la première."""
    before, after = (
        ops.convert_to_numpy(pooling(x)) for x in (images, shift(images, pixels))
    )
    return np.abs(after - before).sum() / np.abs(before).sum()


sample = x_val[:200]
POOLINGS = {"image": ops.convert_to_tensor}
POOLINGS |= {
    f"maximum {size} × {size}": partial(ops.max_pool, pool_size=size, strides=size)
    for size in (2, 4, 7)
}
pixels = range(1, 8)
moved = {name: [change(f, sample, p) for p in pixels] for name, f in POOLINGS.items()}
fig = figures.curves(
    moved, x=pixels, xlabel="décalage (pixels)", ylabel="changement relatif"
)
fig.axes[0].set_ylim(0, 1.1)  # de la place pour la légende
figures.show(
    fig,
    alt="Changement relatif de la sortie selon le décalage : pour un pixel, "
    f"{percent(moved['image'][0])} pour l'image même, {percent(moved['maximum 7 × 7'][0])} après "
    "un maximum par fenêtres de 7.",
)

# %% [markdown]
# Plus la fenêtre est grande, mieux la sortie résiste. Mais rien ne s'annule : c'est une
# *tolérance*, non une invariance, et elle se paie, puisqu'on ne sait plus où, dans la fenêtre, se
# trouvait le maximum.
#
# Et le réseau entier ? Comparons quatre façons de réduire deux fois les cartes (maximum, moyenne,
# convolution de pas 2, rien) et deux façons de finir : `Flatten`, qui garde la place de chaque
# case, ou la moyenne globale, qui l'oublie. Chaque réseau est jugé sur les images de validation,
# intactes puis décalées.

# %%
VARIANTS = {
    "maximum, Flatten": ("max", "flatten"),
    "moyenne, Flatten": ("average", "flatten"),
    "pas de 2, Flatten": ("strides", "flatten"),
    "sans réduction, Flatten": ("none", "flatten"),
    "maximum, moyenne globale": ("max", "average"),
    "sans réduction, moyenne globale": ("none", "average"),
}
SHIFTS = (0, 1, 2, 4, 6)


def pooling_run():
    found = {}
    for name in list(VARIANTS)[:: runtime.pick(quick=6, full=1)]:
        rows, seconds = [], []
        for seed in SEEDS:
            keras.utils.set_random_seed(seed)
            model, begin = reducing_cnn(*VARIANTS[name]), perf_counter()
            train(model, x_train[:SOME_IMAGES], y_train[:SOME_IMAGES], SHORT)
            seconds.append(perf_counter() - begin)
            rows.append([accuracy(model, shift(x_val, p), y_val) for p in SHIFTS])
        found[name] = {"accuracy": rows, "seconds": min(seconds)}
    return found


pooling = experiment("pooling", pooling_run)

# %%
shown = pooling.values
rows = [
    (
        name,
        *(
            spread(np.transpose(found["accuracy"])[SHIFTS.index(p)], 2)
            for p in (0, 1, 4)
        ),
    )
    for name, found in shown.items()
]
runtime.show_table(("réseau", "intactes", "décalées de 1", "de 4 pixels"), rows)
costs = [
    (
        name,
        number(reducing_cnn(*VARIANTS[name]).count_params(), 0),
        number(found["seconds"], 0),
    )
    for name, found in shown.items()
]
runtime.show_table(("réseau", "paramètres", "secondes"), costs)

# %% [markdown]
# Qu'a perdu le maximum ? Comparons, avec `Flatten`, les images intactes. Puis voyons, décalage par
# décalage, les deux façons de finir.

# %%
centred = {name: np.mean(found["accuracy"], axis=0)[0] for name, found in shown.items()}
decided = pooling.full is not None
kept = centred["maximum, Flatten"] - centred.get("sans réduction, Flatten", np.nan)
verdict("layers-pool-keeps-information", kept if decided else None)

# %%
fig = figures.curves(
    {name: found["accuracy"] for name, found in shown.items() if "maximum" in name},
    x=SHIFTS,
    xlabel="décalage des images (pixels)",
    ylabel="exactitude de validation",
)
ends = {name: np.mean(found["accuracy"], axis=0) for name, found in shown.items()}
figures.show(
    fig,
    alt="Exactitude selon le décalage. De 0 à 6 pixels : "
    + " ; ".join(
        f"{name}, de {number(values[0])} à {number(values[-1])}"
        for name, values in ends.items()
        if "maximum" in name
    )
    + ".",
)

# %% [markdown]
# Sur des images bien centrées, `Flatten` l'emporte nettement : la place de chaque motif est une
# information, et il la garde. La moyenne globale ne laisse que 32 nombres au classifieur. Mais elle
# résiste mieux : à quatre pixels de décalage, elle passe devant. Aucune ne résiste tout à fait,
# puisque le vêtement remplit l'image et que le décalage en coupe une partie.
#
# Relisez le premier tableau : avec la moyenne globale, le maximum fait gagner une dizaine de
# points. Une convolution de pas 2, plus rapide, tolère moins bien un décalage d'un pixel.

# %% [markdown]
# ## Du tableau au vecteur
#
# ### La couche Flatten
#
# `Flatten` met les cartes bout à bout dans un vecteur. Dans quel ordre ? Numérotons les cases de
# deux cartes de 2 × 3.

# %%
maps = np.arange(12).reshape(1, 2, 3, 2)  # (image, ligne, colonne, carte)
flat = ops.convert_to_numpy(layers.Flatten()(maps))[0]
print("première carte :\n", maps[0, ..., 0])
print("seconde carte :\n", maps[0, ..., 1])
print("le vecteur :", flat)
verdict("layers-flatten-vector", list(flat.shape))

# %% [markdown]
# L'ordre est celui de la mémoire : au premier pixel, la valeur de chaque carte ; puis au deuxième.
# Le document ajoute que l'on passe d'une information locale à « une représentation linéaire
# globale ». `Flatten` mélange-t-il quoi que ce soit ? Essayons de revenir en arrière, puis
# cherchons de combien d'entrées dépend une de ses sorties.


# %%
def dependencies(function, x):
    """Combien d'entrées influencent la première sortie."""
    _, gradient = value_and_grad(lambda t: ops.reshape(function(t), (-1,))[0], x)
    return int((gradient != 0).sum())


assert (flat.reshape(maps.shape) == maps).all()  # rien n'est perdu
keras.utils.set_random_seed(0)
dense = layers.Dense(4)
local = dependencies(layers.Flatten(), maps.astype("float32"))
everywhere = dependencies(dense, flat.astype("float32")[None])
print(
    f"une sortie de Flatten dépend de {local} entrée, une sortie de Dense de {everywhere}"
)
verdict("layers-flatten-global", local > 1)
verdict("layers-dense-all", everywhere)

# %% [markdown]
# ### La couche dense
#
# Chaque neurone d'une ***couche dense*** calcule $y = w \cdot x + b$ : une somme pondérée de toutes
# les entrées, plus un ***biais***. Voici nos deux cartes, leur vecteur, et une couche de quatre
# neurones.


# %% tags=["hide-input"] cellView="form"
# @title Dessin : deux cartes, leur vecteur, une couche dense
def draw_flatten(maps, n_neurons):
    """Deux cartes, le vecteur qu'en fait Flatten, et des neurones reliés à toutes ses cases."""
    fig, axis = plt.subplots(figsize=(6, 4.4))
    axis.set(xlim=(0, 11), ylim=(0, 12), aspect="equal")
    axis.axis("off")

    def cell(x, y, value, k):
        colour = ("#CFE8F5", "#FBE3D3")[k]
        axis.add_patch(plt.Rectangle((x, y), 1, 1, fc=colour, ec="#555555"))
        axis.text(x + 0.5, y + 0.5, value, ha="center", va="center", fontsize=11)

    for (i, j, k), value in np.ndenumerate(maps):
        cell(j, (8.4, 4)[k] - i, value, k)
        cell(5, 11 - value, value, k)
    for neuron in range(n_neurons):
        y = 6 + 2.2 * ((n_neurons - 1) / 2 - neuron)
        for value in range(maps.size):
            axis.plot((6, 9.5), (11.5 - value, y), color="#999999", lw=0.6, zorder=0)
        axis.add_patch(plt.Circle((10, y), 0.5, fc="#D5EFE3", ec="#555555"))
    for x, title in ((1.5, "cartes"), (5.5, "Flatten"), (10, "Dense")):
        axis.text(x, 12.1, title, ha="center", va="bottom")
    axis.annotate("", (4.7, 6), (3.3, 6), arrowprops={"arrowstyle": "->", "lw": 2})
    return fig


figures.show(
    draw_flatten(maps[0], 4),
    alt="Deux cartes de 2 × 3 cases, bleue et orange, mises bout à bout dans un vecteur de douze "
    "cases où les couleurs alternent ; chacun des quatre neurones de la couche dense est relié aux "
    "douze cases.",
)

# %% [markdown]
# Douze traits et un biais par neurone : $(12 + 1) \times 4 = 52$ paramètres. Refaisons le calcul à
# la main.

# %%
weights, bias = (ops.convert_to_numpy(variable) for variable in dense.weights)
bias = bias + np.array([1, -1, 2, 0], dtype="float32")  # Keras part de biais nuls
dense.set_weights([weights, bias])
by_hand = flat @ weights + bias
theirs = ops.convert_to_numpy(dense(flat[None].astype("float32")))[0]
print("à la main :", french(by_hand.round(2).tolist()))
print("Keras :    ", french(theirs.round(2).tolist()))
verdict("layers-dense-affine", bool(np.allclose(theirs, flat @ weights, atol=1e-4)))
assert np.allclose(theirs, by_hand, atol=1e-4)

# %% [markdown]
# Le neurone serait « suivi d'une fonction d'activation » : Keras en met-il une de lui-même ?

# %%
verdict("layers-dense-activation", dense.activation is not keras.activations.linear)

# %% [markdown]
# ## Des scores aux probabilités
#
# ### Le softmax
#
# La dernière couche rend un score par classe : n'importe quels réels. Le ***softmax*** en fait des
# probabilités :
#
# $$\mathrm{softmax}(z)_i = \frac{e^{z_i}}{\sum_l e^{z_l}}.$$
#
# Écrite telle quelle, la formule déborde : $e^{1000}$ n'est pas représentable, et le quotient de
# deux infinis devient `nan` (*not a number*). Or retrancher un même nombre $m$ à tous les scores ne
# change pas le résultat, puisque le facteur $e^{-m}$ se simplifie. On retranche donc le plus
# grand : il devient zéro et plus rien ne déborde.


# %%
def literal_softmax(z):
    return np.exp(z) / np.exp(z).sum(axis=-1, keepdims=True)


def softmax(z, temperature=1.0):
    """Probabilités (..., k) à partir de scores (..., k), sans débordement."""
    z = np.asarray(z, dtype=float) / temperature
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


z = np.array([2.0, 1.0, -1.0])
with np.errstate(over="ignore", invalid="ignore"):
    for scale in (1, 1_000):
        print(f"scores {french((scale * z).tolist())}")
        print("  la formule :", french(literal_softmax(scale * z).round(3).tolist()))
        print("  la nôtre :  ", french(softmax(scale * z).round(3).tolist()))
verdict("layers-softmax-formula", bool(np.allclose(softmax(z), literal_softmax(z))))
assert np.allclose(softmax(1000 * z), ops.softmax(1000 * z))

# %% [markdown]
# Le document donne le softmax en exemple d'une fonction « appliquée à la sortie de chaque
# neurone ». Non : la somme du dénominateur les réunit tous. Changeons un seul score, le premier,
# et regardons les autres probabilités ; puis appliquons le softmax à un neurone seul.

# %%
raised = softmax(z + np.array([1, 0, 0]))
print("avant :", french(softmax(z).round(3).tolist()))
print("après :", french(raised.round(3).tolist()))
print("un neurone seul :", french(softmax(z[:1]).tolist()))
verdict("layers-softmax-each-neuron", bool(np.allclose(raised[1:], softmax(z)[1:])))

# %% [markdown]
# C'est la division par cette somme qui fait des sorties des probabilités, positives et de somme 1.
#
# ### Ce que le softmax ne fait pas
#
# Le document dit d'une activation, dont le softmax est son exemple, qu'elle « introduit de la
# non-linéarité dans le modèle et permet de capturer des relations complexes ». C'est vrai entre
# deux couches. Du softmax final ? Il est courbe, mais il garde l'ordre des scores : la plus grande
# probabilité est toujours celle du plus grand score. Sur des scores tirés au hasard, combien de
# décisions change-t-il ?

# %%
random_scores = np.random.default_rng(0).normal(scale=5, size=(10_000, 10))
changed = (softmax(random_scores).argmax(axis=1) != random_scores.argmax(axis=1)).sum()
verdict("layers-softmax-complex", bool(changed > 0))

# %% [markdown]
# Aucune. Un softmax final ne plie donc aucune frontière entre les classes : le réseau « sans
# activation » du début se terminait par une sigmoïde, c'est-à-dire un softmax à deux classes, et ne
# traçait qu'une droite. Les relations complexes viennent des couches cachées.
#
# ### La température
#
# Divisons les scores par une ***température*** $T$ avant le softmax, pour cinq classes dont les
# scores vont de 3 à −1.

# %%
TEMPERATURES = (0.2, 0.5, 1, 2, 5, 20)
z = np.array([3.0, 2.0, 1.0, 0.0, -1.0])
heated = np.array([softmax(z, t) for t in TEMPERATURES])
fig = figures.curves(
    {f"score {french(float(score))}": heated[:, k] for k, score in enumerate(z)},
    x=TEMPERATURES,
    xlabel="température",
    ylabel="probabilité",
)
fig.axes[0].set_xscale("log")
fig.axes[0].set_xticks(TEMPERATURES, [french(t) for t in TEMPERATURES])
fig.axes[0].minorticks_off()
figures.show(
    fig,
    alt="Probabilités de cinq classes selon la température : la première vaut "
    f"{number(heated[0, 0])} à {french(TEMPERATURES[0])}, puis toutes se rapprochent de 0,2 ; à "
    f"{TEMPERATURES[-1]} elle ne vaut plus que {number(heated[-1, 0])}.",
)

# %% [markdown]
# Froid, le softmax choisit ; chaud, il hésite ; l'ordre des classes, lui, ne change jamais. Une
# température corrigera plus bas un réseau trop sûr de lui.

# %% [markdown]
# ## L'entropie croisée
#
# ### Les deux exemples du document
#
# Cinq animaux, une étiquette par animal : un vecteur de zéros avec un seul 1 (*one-hot*).

# %%
ANIMALS = ("chien", "renard", "cheval", "aigle", "écureuil")
one_hot = keras.utils.to_categorical(range(5)).astype(int)
for name, label in zip(ANIMALS, one_hot):
    print(f"{name} : {label.tolist()}")
verdict("layers-one-hot", one_hot.tolist())

# %% [markdown]
# L'***entropie croisée*** de la vérité $P$ et de la prédiction $Q$ est $H(P, Q) = -\sum_i P(i)
# \log Q(i)$, avec le logarithme népérien ; l'unité est alors le *nat*. Le second exemple du
# document écrit $0 \log 0$ : que donne le calcul pris à la lettre ?

# %%
P1 = np.array([1, 0, 0, 0, 0])
EARLY = np.array([0.4, 0.3, 0.05, 0.05, 0.2])
LATE = np.array([0.98, 0.01, 0, 0, 0.01])
with np.errstate(divide="ignore", invalid="ignore"):
    literal = -(P1 * np.log(LATE)).sum()
print("à la lettre :", literal)
verdict("layers-ce-literal", bool(np.isfinite(literal)))

# %% [markdown]
# Pour l'ordinateur, $0 \times (-\infty)$ n'a pas de valeur. La fonction `xlogy` de SciPy applique
# la convention $0 \log 0 = 0$.


# %%
def cross_entropy(p, q):
    """H(p, q) = −Σ p log q, en nats, avec 0 log q = 0 : (..., k) et (..., k) -> (...)."""
    return -xlogy(p, q).sum(axis=-1)


print(f"avant l'entraînement : {french(round(float(cross_entropy(P1, EARLY)), 4))}")
print(f"après l'entraînement : {french(round(float(cross_entropy(P1, LATE)), 4))}")
verdict("layers-ce-early", float(cross_entropy(P1, EARLY)))
verdict("layers-ce-late", float(cross_entropy(P1, LATE)))

# %% [markdown]
# Avec une étiquette certaine, il ne reste qu'un terme : $-\log$ de la probabilité donnée à la bonne
# classe. C'est la « perte de log-vraisemblance » que calcule aussi scikit-learn.

# %%
theirs = log_loss([0], EARLY[None], labels=range(5))
verdict("layers-ce-log-likelihood", bool(np.isclose(cross_entropy(P1, EARLY), theirs)))

# %% [markdown]
# Le document appelle pourtant $H$ « validation croisée ». La *validation* croisée est autre chose :
# entraîner plusieurs fois, en gardant chaque fois une autre partie des données pour mesurer.
#
# La première prédiction est « pas très précise ou confiante ». Chiffrons cette hésitation :
# l'exponentielle de l'entropie, la ***perplexité***, dit entre combien de classes également
# probables on hésiterait autant.

# %%
for name, q in (("première", EARLY), ("seconde", LATE)):
    perplexity = np.exp(cross_entropy(q, q))
    print(f"{name} prédiction : perplexité {number(perplexity, 1)}")
verdict("layers-ce-not-confident", float(np.exp(cross_entropy(EARLY, EARLY))))

# %% [markdown]
# ### Une divergence, nulle si la prédiction est parfaite ?
#
# Avec une étiquette certaine, oui. Prenons maintenant une vérité partagée : une image que la
# moitié des gens nomme chien, l'autre renard. Et la prédiction parfaite, $Q = P$.

# %%
half = np.array([0.5, 0.5, 0, 0, 0])
perfect = cross_entropy(half, half)
print(f"prédiction parfaite d'une étiquette partagée : {number(perfect, 3)}")
verdict("layers-ce-zero-if-perfect", float(cross_entropy(P1, P1)))


# %%
def divergence(p, q):
    """Divergence de Kullback-Leibler, Σ p log(p/q) : nulle si et seulement si q = p."""
    return rel_entr(p, q).sum(axis=-1)


guesses = np.linspace(0.02, 0.98, 49)
predictions = np.array([[g, 1 - g, 0, 0, 0] for g in guesses])
fig = figures.curves(
    {
        "étiquette certaine": cross_entropy(P1, predictions),
        "étiquette partagée": cross_entropy(half, predictions),
        "divergence, étiquette partagée": divergence(half, predictions),
    },
    x=guesses,
    xlabel="probabilité donnée à « chien »",
    ylabel="nats",
)
figures.show(
    fig,
    alt="Trois courbes selon la probabilité prédite. L'entropie croisée d'une étiquette certaine "
    "descend presque jusqu'à zéro à droite ; celle d'une étiquette partagée a son minimum au "
    f"milieu, à {number(perfect)} ; sa divergence de Kullback-Leibler y vaut zéro.",
)

# %% [markdown]
# L'entropie croisée se décompose : $H(P, Q) = H(P) + \mathrm{KL}(P \,\|\, Q)$. Le premier terme,
# l'*entropie* de la vérité, ne dépend pas du réseau ; le second, la ***divergence de
# Kullback-Leibler***, est nul quand la prédiction est parfaite. Minimiser l'une, c'est donc
# minimiser l'autre. Elles se confondent si les étiquettes sont certaines, puisqu'alors $H(P) =
# 0$ : c'est le cas du document, pas celui d'étiquettes adoucies ou d'annotateurs en désaccord.
# Vérifions sur mille couples de distributions tirées au hasard.

# %%
rng = np.random.default_rng(0)
p, q = rng.dirichlet(np.ones(5), size=1_000), rng.dirichlet(np.ones(5), size=1_000)
assert np.allclose(cross_entropy(p, q), cross_entropy(p, p) + divergence(p, q))
verdict(
    "layers-ce-divergence", bool(np.allclose(cross_entropy(p, q), divergence(p, q)))
)

# %% [markdown]
# Une dernière prudence. Si le réseau donne *zéro* à la bonne classe, l'entropie croisée est
# infinie. Keras borne les probabilités ; mieux vaut lui donner les scores, qu'il appelle *logits*
# (`from_logits=True`) : il calcule le logarithme du softmax sans jamais former de probabilité
# nulle. Voici des scores extrêmes, 0 pour la bonne classe et 1000 pour l'autre.

# %%
z, truth = np.array([[0.0, 1000.0]]), np.array([[1.0, 0.0]])
with np.errstate(divide="ignore"):
    infinite = cross_entropy(truth, softmax(z))[0]
bounded = ops.categorical_crossentropy(truth, softmax(z))
exact = ops.categorical_crossentropy(truth, z, from_logits=True)
rows = [
    ("nos probabilités", "infinie" if np.isinf(infinite) else number(infinite)),
    ("Keras, probabilités", number(float(bounded[0]))),
    ("Keras, scores", number(float(exact[0]), 0)),
]
runtime.show_table(("à partir de", "entropie croisée"), rows)

# %% [markdown]
# Seuls les scores donnent la vraie perte, 1000. Bornées à $10^{-7}$, les probabilités la plafonnent
# à 16,12 ; les nôtres, nulles, la rendent infinie.

# %% [markdown]
# ## L'apprentissage
#
# ### Époques, lots, mises à jour
#
# Une ***époque*** est un passage sur toutes les données d'entraînement. Mais le réseau n'attend pas
# la fin pour apprendre : les images passent par ***lots***, et chaque lot fait une passe avant (les
# scores et la perte), une passe arrière (les gradients) et une mise à jour des poids.


# %% tags=["hide-input"] cellView="form"
# @title Dessin : la passe avant et la passe arrière
def draw_passes():
    """Le chemin d'un lot : les valeurs vers la droite, les gradients vers la gauche."""
    fig, axis = plt.subplots(figsize=(6, 2))
    axis.set(xlim=(-0.45, 4.45), ylim=(-1, 1))
    axis.axis("off")
    box = {"boxstyle": "round,pad=0.5", "fc": "#F2F2F2", "ec": "#555555"}
    for k, name in enumerate(("lot", "convolution", "ReLU", "dense", "perte")):
        axis.text(k, 0, name, ha="center", va="center", fontsize=11, bbox=box)
        for y, tail, head, colour, first in (
            (0.5, -0.88, -0.12, "#0072B2", 1),
            (-0.5, -0.12, -0.88, "#B34700", 2),
        ):
            if k >= first:
                arrow = {"arrowstyle": "->", "lw": 2, "color": colour}
                axis.annotate("", (k + head, y), (k + tail, y), arrowprops=arrow)
    axis.text(
        2, 0.6, "passe avant : les valeurs", color="#0072B2", ha="center", va="bottom"
    )
    axis.text(
        2.5,
        -0.6,
        "passe arrière : les gradients",
        color="#B34700",
        ha="center",
        va="top",
    )
    return fig


figures.show(
    draw_passes(),
    alt="Un lot traverse la convolution, ReLU et la couche dense jusqu'à la perte : c'est la passe "
    "avant. La passe arrière ramène les gradients de la perte jusqu'à la convolution.",
)

# %% [markdown]
# Comptons les mises à jour, avec cent images par lots de 32.


# %%
def tiny_network():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((28, 28, 1)), layers.Flatten(), layers.Dense(10)]
    )
    model.compile(
        optimizer=keras.optimizers.SGD(0.1),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return model


class Witness(keras.callbacks.Callback):
    """Note le nombre de mises à jour depuis le début, à la fin de chaque époque."""

    def __init__(self):
        super().__init__()
        self.updates = []

    def on_epoch_end(self, epoch, logs=None):
        self.updates.append(int(ops.convert_to_numpy(self.model.optimizer.iterations)))


# %%
model, witness = tiny_network(), Witness()
model.fit(
    x_train[:100],
    y_train[:100],
    batch_size=32,
    epochs=3,
    verbose=0,
    callbacks=[witness],
)
runtime.show_table(
    ("époque", "mises à jour depuis le début"), enumerate(witness.updates, start=1)
)
verdict("layers-one-pass-per-epoch", witness.updates[-1] // 3)

# %% [markdown]
# Quatre par époque, $\lceil 100/32 \rceil$ ; le dernier lot n'a que quatre images. « L'ensemble
# complet » est-il vraiment passé ? Comptons les lectures de chaque image. Keras lit une fois de
# plus le premier lot, pour connaître les formes : comparons donc trois époques à une seule.


# %%
class CountingReader(keras.utils.PyDataset):
    """Les cent premières images par lots de 32, en comptant leurs lectures."""

    def __init__(self):
        super().__init__()
        self.reads = np.zeros(100, dtype=int)

    def __len__(self):
        return math.ceil(100 / 32)

    def __getitem__(self, index):
        rows = np.arange(100)[32 * index : 32 * (index + 1)]
        self.reads[rows] += 1
        return x_train[rows], y_train[rows]


def reads(epochs):
    reader = CountingReader()
    tiny_network().fit(reader, epochs=epochs, shuffle=False, verbose=0)
    return reader.reads


more = reads(3) - reads(1)
assert more.min() == more.max()
verdict("layers-epoch-is-all", int(more.max()))

# %% [markdown]
# Le document place l'initialisation des poids « dans » la passe avant. Faisons deux passes avant :
# les poids ont-ils bougé ? Sont-ils tous tirés au hasard ?

# %%
model = tiny_network()
before = [ops.convert_to_numpy(weight).copy() for weight in model.weights]
model(x_train[:8])
model(x_train[8:16])
after = [ops.convert_to_numpy(weight) for weight in model.weights]
unchanged = all((b == a).all() for b, a in zip(before, after))
print(f"plus grand biais de départ : {french(float(np.abs(before[1]).max()))}")
verdict("layers-initialised-in-forward", not unchanged)

# %% [markdown]
# La passe avant lit les poids, la mise à jour les écrit.
#
# ### Ce que l'on minimise
#
# « Minimiser l'erreur de classification », dit le document, « (fonction de perte) ». Ce n'est pas
# la même chose. Entraînons un peu ce réseau, faisons varier *un* de ses poids et traçons les deux.


# %%
def sweep(model, images, labels, moves, row=400, column=0):
    """Perte et taux d'erreur quand un poids de la couche dense s'écarte de sa valeur."""
    weights, bias = (ops.convert_to_numpy(w) for w in model.weights)
    losses, errors = [], []
    for move in moves:
        moved = weights.copy()
        moved[row, column] += move
        z = images.reshape(len(images), -1) @ moved + bias
        truth = np.eye(10)[labels]
        losses.append(cross_entropy(truth, softmax(z)).mean())
        errors.append(np.mean(z.argmax(axis=1) != labels))
    return np.array(losses), np.array(errors)


model.fit(x_train[:200], y_train[:200], epochs=5, verbose=0)
moves = np.linspace(-4, 4, 161)
losses, errors = sweep(model, x_train[:200], y_train[:200], moves)
fig, axes = plt.subplots(2, 1, figsize=(6, 4.6), sharex=True)
for axis, values, title in zip(
    axes, (losses, errors), ("entropie croisée", "taux d'erreur")
):
    axis.plot(moves, values, color="#0072B2")
    axis.set_ylabel(title)
axes[1].set_xlabel("déplacement d'un poids")
levels = len(np.unique(errors))
figures.show(
    fig,
    alt="La perte et le taux d'erreur quand un poids se déplace de −4 à 4 : la perte est une "
    f"courbe lisse, le taux d'erreur un escalier à {levels} niveaux, plat presque partout.",
)
flat_share = np.mean(np.diff(errors) == 0)
print(f"part des pas où le taux d'erreur ne bouge pas : {percent(flat_share)}")
verdict("layers-minimise-error", bool(flat_share < 0.5))

# %% [markdown]
# Un gradient nul ne dit pas où aller : on minimise la perte, en espérant que l'erreur suive. Elle
# suit d'ordinaire, pas toujours : nous verrons plus bas une perte de validation remonter de plus de
# moitié sans que l'exactitude bouge, ou presque.
#
# ### La rétropropagation
#
# La ***rétropropagation*** est la règle de la chaîne, appliquée de la sortie vers l'entrée. Chaque
# couche reçoit $G$, le gradient de la perte par rapport à sa sortie ; elle en tire le gradient de
# ses poids, et celui de son entrée, qu'elle passe à la couche précédente.
#
# **Softmax et entropie croisée.** Soit $q = \mathrm{softmax}(z)$. Puisque $\sum_i p_i = 1$, la
# perte s'écrit $H = -\sum_i p_i z_i + \log \sum_l e^{z_l}$. On dérive : $\partial H / \partial z_i
# = q_i - p_i$, la prédiction moins la vérité.
#
# **Couche dense.** Le poids $W_{ij}$ n'agit que sur $y_j = \sum_i x_i W_{ij} + b_j$, où il
# multiplie $x_i$ : son gradient est $x_i\, G_j$, celui du biais $G_j$. L'entrée $x_i$ agit sur tous
# les $y_j$, et reçoit $\sum_j G_j W_{ij}$. Pour un lot, en matrices : $x^\top G$, la somme des
# lignes de $G$, et $G\, W^\top$.
#
# **ReLU.** Le gradient passe là où l'entrée était positive ; ailleurs, zéro.
#
# **Convolution.** Sa sortie est $y_{ij} = \sum_{a,b} x_{i+a,\,j+b}\, w_{ab}$, plus un biais. Le
# poids $w_{ab}$ sert à chaque position, où il multiplie $x_{i+a,\,j+b}$ :
#
# $$\frac{\partial L}{\partial w_{ab}} = \sum_{i,j} G_{ij}\, x_{i+a,\,j+b},$$
#
# la corrélation de l'entrée par $G$. Et le pixel $x_{uv}$ sert à toutes les sorties $(i, j)$ telles
# que $i + a = u$ et $j + b = v$ :
#
# $$\frac{\partial L}{\partial x_{uv}} = \sum_{a,b} G_{u-a,\,v-b}\, w_{ab},$$
#
# la convolution, *retournée cette fois*, de $G$ par le filtre : le signe moins des indices est le
# retournement que le chapitre 1 avait écarté. $G$ vaut zéro hors de ses bords : c'est le
# remplissage de $f - 1$ du code. Avec un lot, plusieurs canaux et plusieurs filtres, on somme en
# plus, sur les images pour les poids, sur les filtres pour l'entrée.


# %%
def windows(images, f):
    """Toutes les fenêtres de côté f : (n, h, w, c) -> (n, h − f + 1, w − f + 1, f, f, c)."""
    return np.moveaxis(sliding_window_view(images, (f, f), axis=(1, 2)), 3, -1)


def conv_forward(x, w, b):
    """Sans remplissage, de pas 1 : (n, h, w, c) et (f, f, c, k) -> (n, h', w', k)."""
    return np.tensordot(windows(x, len(w)), w, axes=3) + b


def conv_backward(x, w, grad):
    """Gradients par rapport aux filtres, aux biais et à l'entrée."""
    f = len(w)
    over_positions = (0, 1, 2), (0, 1, 2)
    grad_w = np.tensordot(windows(x, f), grad, axes=over_positions)
    around = np.pad(grad, ((0, 0), (f - 1, f - 1), (f - 1, f - 1), (0, 0)))
    grad_x = np.tensordot(
        windows(around, f), w[::-1, ::-1], axes=((3, 4, 5), (0, 1, 3))
    )
    return grad_w, grad.sum(axis=(0, 1, 2)), grad_x


def dense_backward(x, w, grad):
    """Gradients par rapport aux poids, aux biais et à l'entrée."""
    return x.T @ grad, grad.sum(axis=0), grad @ w.T


# %% [markdown]
# Assemblons un réseau complet avec ces morceaux : huit filtres de 5 × 5, ReLU, une couche dense.
# La passe avant garde ce dont la passe arrière aura besoin.


# %%
def initial_parameters(seed=0, filters=8, f=5, side=28, classes=10):
    rng = np.random.default_rng(seed)
    inputs = (side - f + 1) ** 2 * filters
    return {
        "filters": rng.normal(scale=np.sqrt(2 / f**2), size=(f, f, 1, filters)),
        "filter_biases": np.zeros(filters),
        "weights": rng.normal(scale=np.sqrt(1 / inputs), size=(inputs, classes)),
        "biases": np.zeros(classes),
    }


def forward(parameters, x):
    """Scores, et les valeurs intermédiaires : cartes avant ReLU, vecteur d'après."""
    maps = conv_forward(x, parameters["filters"], parameters["filter_biases"])
    flat = relu(maps).reshape(len(x), -1)
    return flat @ parameters["weights"] + parameters["biases"], maps, flat


def mean_loss(parameters, x, labels):
    z, *_ = forward(parameters, x)
    return cross_entropy(np.eye(10)[labels], softmax(z)).mean()


def backward(parameters, x, labels):
    """Gradient de la perte moyenne par rapport à chaque paramètre, couche par couche."""
    z, maps, flat = forward(parameters, x)
    grad = (softmax(z) - np.eye(10)[labels]) / len(x)
    weights, biases, grad = dense_backward(flat, parameters["weights"], grad)
    grad = grad.reshape(maps.shape) * (maps > 0)
    filters, filter_biases, _ = conv_backward(x, parameters["filters"], grad)
    return {
        "filters": filters,
        "filter_biases": filter_biases,
        "weights": weights,
        "biases": biases,
    }


# %% [markdown]
# Un réseau dont le gradient est faux apprend souvent quand même, un peu moins bien : il faut
# vérifier. D'abord contre sa définition, $\frac{L(\theta + \varepsilon) - L(\theta -
# \varepsilon)}{2\varepsilon}$, un nombre à la fois, pour huit nombres tirés dans chaque tableau ;
# puis contre la différentiation automatique de Keras. Une précaution : avec des biais nuls, le fond
# noir des images tombe exactement sur le coin de ReLU, où la dérivée n'existe pas ; nous donnons
# donc 0,1 aux biais de la convolution.


# %%
def numerical_gradient(parameters, name, index, x, labels, step=1e-7):
    """Différence centrée de la perte, pour un seul nombre de `parameters[name]`."""
    values = []
    for sign in (1, -1):
        moved = parameters[name].copy()
        moved[index] += sign * step
        values.append(mean_loss(parameters | {name: moved}, x, labels))
    return (values[0] - values[1]) / (2 * step)


def keras_loss(x, labels):
    """La même perte, écrite avec Keras, comme fonction des quatre paramètres."""

    def loss(filters, filter_biases, weights, biases):
        maps = ops.conv(ops.convert_to_tensor(x, "float32"), filters, padding="valid")
        flat = ops.reshape(ops.relu(maps + filter_biases), (len(x), -1))
        z = ops.matmul(flat, weights) + biases
        return ops.mean(
            ops.sparse_categorical_crossentropy(labels, z, from_logits=True)
        )

    return loss


parameters = initial_parameters()
parameters["filter_biases"] += 0.1  # hors du pli de ReLU
x, labels = x_train[:16].astype(float), y_train[:16]
ours = backward(parameters, x, labels)
_, theirs = value_and_grad(keras_loss(x, labels), list(parameters.values()))

# %%
rows, gaps = [], []
rng = np.random.default_rng(0)
for name, automatic in zip(parameters, theirs):
    places = [tuple(rng.integers(size) for size in ours[name].shape) for _ in range(8)]
    numerical = [
        numerical_gradient(parameters, name, place, x, labels) for place in places
    ]
    exact = np.array([ours[name][place] for place in places])
    scale = np.abs(ours[name]).max()
    gaps.append(
        [
            np.abs(exact - numerical).max() / scale,
            np.abs(ours[name] - automatic).max() / scale,
        ]
    )
    rows.append(
        (f"`{name}`", str(ours[name].shape), *(scientific(gap) for gap in gaps[-1]))
    )
header = ("paramètre", "forme", "différences finies", "Keras")
runtime.show_table(header, rows)
verdict("layers-backpropagation", bool(np.max(gaps) < 1e-4))

# %% [markdown]
# Les écarts, rapportés au plus grand gradient, sont ceux des arrondis (Keras calcule sur 32 bits).
# Le gradient par rapport à l'entrée n'a pas servi ici, la convolution étant la première couche ;
# vérifions-le aussi, retournement compris.

# %%
filters, upstream = parameters["filters"], rng.normal(size=(2, 6, 6, 8))
image = rng.normal(size=(2, 10, 10, 1))
*_, exact = conv_backward(image, filters, upstream)


def weighted_output(image):
    output = ops.conv(image, ops.convert_to_tensor(filters, "float32"), padding="valid")
    return ops.sum(output * ops.convert_to_tensor(upstream, "float32"))


_, automatic = value_and_grad(weighted_output, image)
gap = np.abs(exact - automatic).max() / np.abs(exact).max()
print(f"écart avec Keras : {scientific(gap)}")
assert np.allclose(exact, automatic, atol=1e-3)

# %% [markdown]
# ### La boucle d'entraînement
#
# Voici la boucle entière, sans bibliothèque : un lot, une passe avant, une passe arrière, une mise
# à jour dans le sens opposé au gradient.


# %%
def sgd_epoch(parameters, images, labels, rate, rng, batch_size=32):
    """Une époque de descente de gradient ; rend les nouveaux paramètres et les pertes."""
    losses = []
    order = rng.permutation(len(images))
    for rows in np.array_split(order, math.ceil(len(images) / batch_size)):
        losses.append(mean_loss(parameters, images[rows], labels[rows]))
        gradients = backward(parameters, images[rows], labels[rows])
        parameters = {
            name: value - rate * gradients[name] for name, value in parameters.items()
        }
    return parameters, losses


def hand_accuracy(parameters, images, labels):
    return np.mean(forward(parameters, images)[0].argmax(axis=1) == labels)


rng = np.random.default_rng(0)
some = runtime.pick(quick=200, full=1000)
parameters, images, labels = initial_parameters(), x_train[:some], y_train[:some]
start = hand_accuracy(initial_parameters(), x_val[:500], y_val[:500])
loss_by_update = []
for _ in range(3):
    parameters, losses = sgd_epoch(parameters, images, labels, 0.05, rng)
    loss_by_update += losses
reached = hand_accuracy(parameters, x_val[:500], y_val[:500])
print(
    f"exactitude de validation : {number(start)} au départ, {number(reached)} après 3 époques"
)

# %%
fig = figures.curves(
    {"perte": loss_by_update}, xlabel="mise à jour", ylabel="perte du lot"
)
figures.show(
    fig,
    alt=f"Perte de chaque lot pendant {len(loss_by_update)} mises à jour : elle descend de "
    f"{number(loss_by_update[0])} à {number(np.mean(loss_by_update[-10:]))}, en tremblant.",
)

# %% [markdown]
# Une soixantaine de lignes de NumPy apprennent à classer, avec mille images. La perte tremble parce
# que chaque lot donne son propre gradient, une estimation de celui de toutes les images.
#
# « Selon une méthode de ***descente de gradient*** » : un pas contre le gradient fait-il vraiment
# baisser la perte ? Essayons quatre longueurs de pas sur un même lot.

# %%
parameters, x, labels = initial_parameters(), x_train[:64], y_train[:64]
initial = mean_loss(parameters, x, labels)
gradients = backward(parameters, x, labels)
after_step = {}
for rate in (0.001, 0.01, 0.03, 0.3):
    moved = {name: value - rate * gradients[name] for name, value in parameters.items()}
    with np.errstate(divide="ignore"):
        after_step[rate] = mean_loss(moved, x, labels)
    print(
        f"pas {french(rate)} : la perte passe de {number(initial)} à {number(after_step[rate])}"
    )
verdict("layers-gradient-descent", after_step[0.01] < initial)

# %% [markdown]
# Le gradient ne promet rien au-delà d'un petit pas. La longueur du pas, le taux d'apprentissage,
# est le premier réglage d'un entraînement.
#
# ### Quatre optimiseurs sur une surface
#
# Regardons la descente sur une surface à deux paramètres, une vallée cent fois plus courbée dans un
# sens que dans l'autre : $L(u, v) = (u^2 + 100\, v^2)/2$. Quatre règles, appelées
# ***optimiseurs***, avec $g$ le gradient et $\eta$ le taux d'apprentissage :
#
# > **SGD** (*stochastic gradient descent*, descente stochastique, parce que le lot est tiré au
# > hasard) : $\theta \leftarrow \theta - \eta\, g$.
# >
# > **Élan** (*momentum*) : $d \leftarrow \beta d - \eta\, g$, puis
# > $\theta \leftarrow \theta + d$. La vitesse $d$ s'accumule là où les gradients s'accordent.
# >
# > **RMSprop** : $s \leftarrow \rho s + (1 - \rho)\, g^2$, puis
# > $\theta \leftarrow \theta - \eta\, g/\sqrt{s + \epsilon}$. Chaque paramètre a son échelle.
# >
# > **Adam** : $m \leftarrow \beta_1 m + (1 - \beta_1)\, g$ et
# > $s \leftarrow \beta_2 s + (1 - \beta_2)\, g^2$, puis
# > $\theta \leftarrow \theta - \eta\, \hat m/(\sqrt{\hat s} + \epsilon)$, où
# > $\hat m = m/(1 - \beta_1^t)$ et $\hat s = s/(1 - \beta_2^t)$ corrigent le départ à zéro.
#
# Carrés et racines se prennent paramètre par paramètre.


# %%
def sgd(gradient, memory, rate):
    return -rate * gradient, memory


def momentum(gradient, memory, rate, beta=0.9):
    velocity = beta * memory.get("velocity", 0) - rate * gradient
    return velocity, {"velocity": velocity}


def rmsprop(gradient, memory, rate, rho=0.9, epsilon=1e-7):
    square = rho * memory.get("square", 0) + (1 - rho) * gradient**2
    return -rate * gradient / np.sqrt(square + epsilon), {"square": square}


def adam(gradient, memory, rate, beta1=0.9, beta2=0.999, epsilon=1e-7):
    t = memory.get("t", 0) + 1
    mean = beta1 * memory.get("mean", 0) + (1 - beta1) * gradient
    square = beta2 * memory.get("square", 0) + (1 - beta2) * gradient**2
    step = rate * mean / (1 - beta1**t) / (np.sqrt(square / (1 - beta2**t)) + epsilon)
    return -step, {"t": t, "mean": mean, "square": square}


# %%
CURVATURE = np.array([1.0, 100.0])


def surface(theta):
    return (CURVATURE * np.square(theta)).sum(axis=-1) / 2


def descend(rule, rate, updates, start=(-4.0, 1.0)):
    """Suite des positions : (updates + 1, 2)."""
    path, memory = [np.array(start)], {}
    for _ in range(updates):
        step, memory = rule(CURVATURE * path[-1], memory, rate)
        path.append(path[-1] + step)
    return np.array(path)


RULES = {
    "SGD": (sgd, 0.018, keras.optimizers.SGD),
    "élan": (momentum, 0.006, partial(keras.optimizers.SGD, momentum=0.9)),
    "RMSprop": (rmsprop, 0.15, keras.optimizers.RMSprop),
    "Adam": (adam, 0.3, keras.optimizers.Adam),
}


# %%
def draw_paths(paths, seen):
    """Les lignes de niveau de la surface et le début de chaque chemin."""
    fig, axis = plt.subplots(figsize=(6, 3.6))
    u, v = np.meshgrid(np.linspace(-4.5, 2, 90), np.linspace(-1.2, 1.2, 60))
    levels = np.geomspace(0.05, 60, 10)
    axis.contour(
        u, v, surface(np.stack([u, v], axis=-1)), levels, colors="#BBBBBB", linewidths=1
    )
    for (name, path), marker, colour in zip(paths.items(), "os^D", figures.COLOURS):
        axis.plot(
            *path[: seen + 1].T,
            "-",
            marker=marker,
            ms=4,
            lw=1.2,
            color=colour,
            label=name,
        )
    axis.plot(0, 0, "*", ms=14, color="black")
    axis.set(
        xlabel="u",
        ylabel="v",
        xlim=(-4.5, 2),
        ylim=(-1.2, 1.2),
        title=f"mises à jour : {seen}",
    )
    fig.legend(loc="outside lower center", ncols=4)
    return fig


# %%
SEEN = runtime.pick(quick=(1, 40), full=(1, 2, 3, 5, 8, 12, 18, 26, 40))
paths = {name: descend(rule, rate, 40) for name, (rule, rate, _) in RULES.items()}
figures.animate(
    [draw_paths(paths, seen) for seen in SEEN],
    alt="Animation : quatre chemins partent du même point vers le fond d'une vallée étroite, une "
    "étoile. SGD zigzague, l'élan dépasse et revient, RMSprop descend en biais puis suit la "
    "vallée, Adam la dépasse et y revient. "
    "Hauteur restante après 40 mises à jour : "
    + ", ".join(
        f"{number(surface(path[-1]), 3)} ({name})" for name, path in paths.items()
    )
    + ".",
)

# %% [markdown]
# SGD zigzague dans le sens raide et avance à peine dans l'autre : la plus forte courbure borne son
# taux. L'élan prend de la vitesse au fond de la vallée. RMSprop et Adam donnent à chaque paramètre
# sa propre échelle : ils avancent d'abord du même pas dans les deux sens ; Adam, qui a aussi de
# l'élan, dépasse le fond avant d'y revenir. Les taux ont été choisis pour que chacun montre son
# allure ; aucun de ces optimiseurs n'est le meilleur partout.
#
# Nos quatre règles sont-elles celles de Keras, à la place de $\epsilon$ près ? Descendons avec lui
# la même surface.


# %%
def keras_descend(optimizer, updates, start=(-4.0, 1.0)):
    theta = keras.Variable(np.array(start, dtype="float32"))
    path = [np.array(start)]
    for _ in range(updates):
        gradient = ops.convert_to_tensor((CURVATURE * path[-1]).astype("float32"))
        optimizer.apply([gradient], [theta])
        path.append(ops.convert_to_numpy(theta).astype(float))
    return np.array(path)


rows = []
for name, (_, rate, optimizer) in RULES.items():
    theirs = keras_descend(optimizer(learning_rate=rate), 40)
    assert np.allclose(paths[name], theirs, atol=1e-2), name
    rows.append((name, scientific(np.abs(paths[name] - theirs).max())))
runtime.show_table(("optimiseur", "plus grand écart en 40 mises à jour"), rows)

# %% [markdown]
# ### Le taux d'apprentissage
#
# Sur cette surface, SGD multiplie $v$ par $1 - 100\,\eta$ à chaque mise à jour : $v$ tend vers
# zéro si ce facteur est entre −1 et 1, donc si $\eta < 2/100 = 0{,}02$, et diverge au-delà ; $u$
# suit, lentement. Vérifions de part et d'autre, après cent mises à jour.

# %%
rows = []
for rate in (0.001, 0.018, 0.019, 0.021):
    u, v = descend(sgd, rate, 100)[-1]
    rows.append((french(rate), number(u), scientific(abs(v))))
runtime.show_table(("taux", "u", "valeur absolue de v"), rows)
assert abs(descend(sgd, 0.019, 100)[-1, 1]) < 1e-3
assert abs(descend(sgd, 0.021, 100)[-1, 1]) > 1e3

# %% [markdown]
# Un vrai réseau n'a pas une courbure mais des milliers, que personne ne connaît : on essaie. Voici
# LeNet-5, le réseau de la suite du chapitre, dans sa version d'aujourd'hui, avec ReLU et maximum
# (le [chapitre 3](03_architectures.ipynb) construit celle de 1998).


# %%
def lenet5(activation="relu", pooling=layers.MaxPooling2D):
    """LeNet-5 pour des images (28, 28, 1) : un score pour chacune des dix classes."""
    inputs = keras.Input(shape=(28, 28, 1), name="image")
    x = layers.Conv2D(6, 5, padding="same", activation=activation, name="C1")(inputs)
    x = pooling(pool_size=2, name="S2")(x)  # (14, 14, 6)
    x = layers.Conv2D(16, 5, activation=activation, name="C3")(x)  # (10, 10, 16)
    x = pooling(pool_size=2, name="S4")(x)  # (5, 5, 16)
    x = layers.Flatten(name="flatten")(x)  # (400,)
    x = layers.Dense(120, activation=activation, name="C5")(x)
    x = layers.Dense(84, activation=activation, name="F6")(x)
    outputs = layers.Dense(10, name="scores")(x)
    return keras.Model(inputs, outputs, name="lenet5")


lenet5().summary(line_length=70)

# %% [markdown]
# Avec SGD, quatre taux, chacun dix fois le précédent :

# %%
RATES = (0.001, 0.01, 0.1, 1.0)
TUNING = runtime.pick(quick=1, full=8)  # époques d'un réglage


def tune(optimizer, batch_size=BATCH_SIZE):
    """Perte d'entraînement par époque, exactitude de validation, durée en secondes."""
    keras.utils.set_random_seed(0)
    model, begin = lenet5(), perf_counter()
    images, labels = x_train[:SOME_IMAGES], y_train[:SOME_IMAGES]
    history = train(model, images, labels, TUNING, optimizer, batch_size).history
    seconds = perf_counter() - begin
    return {
        "loss": history["loss"],
        "accuracy": accuracy(model, x_val, y_val),
        "seconds": seconds,
    }


def rates_run():
    rates = RATES[:: runtime.pick(quick=4, full=1)]
    return {str(rate): tune(keras.optimizers.SGD(rate)) for rate in rates}


rates = experiment("learning_rates", rates_run)

# %%
shown = rates.values
fig = figures.curves(
    {f"taux {french(float(rate))}": found["loss"] for rate, found in shown.items()},
    xlabel="époque",
    ylabel="perte d'entraînement",
)
fig.axes[0].set_ylim(0, 2.6)
figures.show(
    fig,
    alt="Perte d'entraînement par époque selon le taux. "
    + " ; ".join(
        f"{french(float(rate))} : {number(found['loss'][0])} puis {number(found['loss'][-1])}"
        for rate, found in shown.items()
    )
    + ".",
)
for rate, found in shown.items():
    print(f"taux {french(float(rate))} : exactitude {number(found['accuracy'], 3)}")

# %% [markdown]
# À 0,001, la perte descend trop lentement : 1,47 encore après huit époques. À 0,1, elle descend le
# plus vite. À 1, elle ne bouge plus et reste proche de $\log 10 \approx 2{,}30$, celle d'un réseau
# qui donne la même probabilité aux dix classes : ses neurones sont sans doute morts.
#
# ### Quel optimiseur ?
#
# Les quatre règles, chacune au meilleur de trois taux : comparer des optimiseurs au même taux n'a
# pas de sens.

# %%
CANDIDATES = {
    "SGD": (keras.optimizers.SGD, (0.03, 0.1, 0.3)),
    "élan": (partial(keras.optimizers.SGD, momentum=0.9), (0.003, 0.01, 0.03)),
    "RMSprop": (keras.optimizers.RMSprop, (0.0003, 0.001, 0.003)),
    "Adam": (keras.optimizers.Adam, (0.0003, 0.001, 0.003)),
}


def optimizers_run():
    found = {}
    for name, (optimizer, candidates) in runtime.pick(
        quick=[("Adam", CANDIDATES["Adam"])], full=CANDIDATES.items()
    ):
        tried = candidates[:: runtime.pick(quick=3, full=1)]
        trials = {rate: tune(optimizer(learning_rate=rate)) for rate in tried}
        best = max(trials, key=lambda rate: trials[rate]["accuracy"])
        found[name] = trials[best] | {"rate": best}
    return found


optimizers = experiment("optimizers", optimizers_run)

# %%
shown = optimizers.values
fig = figures.curves(
    {name: found["loss"] for name, found in shown.items()},
    xlabel="époque",
    ylabel="perte d'entraînement",
)
figures.show(
    fig,
    alt="Perte d'entraînement par époque de quatre optimiseurs, chacun à son meilleur taux : elle "
    "finit à "
    + ", ".join(
        f"{number(found['loss'][-1])} ({name})" for name, found in shown.items()
    )
    + ".",
)
rows = [
    (name, french(found["rate"]), number(found["accuracy"], 3))
    for name, found in shown.items()
]
runtime.show_table(("optimiseur", "meilleur taux", "exactitude de validation"), rows)

# %% [markdown]
# Les quatre tiennent en deux points et demi ; une seule graine, et des exactitudes mesurées sur les
# images qui ont servi à choisir le taux, ne suffisent pas à les classer. SGD et Adam retiennent
# d'ailleurs le plus grand taux essayé : il faudrait élargir la recherche. Mais comparez ces taux :
# celui de SGD est cent fois celui d'Adam. Un taux d'apprentissage n'a de sens que pour un
# optimiseur donné.
#
# ### La taille des lots
#
# Avec Adam, au taux de 0,001, ne changeons que la taille des lots.

# %%
BATCHES = (16, 64, 256, 1024)


def batches_run():
    sizes = BATCHES[:: runtime.pick(quick=4, full=1)]
    trials = {str(size): tune(keras.optimizers.Adam(1e-3), size) for size in sizes}
    return {"trials": trials, "images": SOME_IMAGES}


batches = experiment("batch_sizes", batches_run)

# %%
shown = batches.values
rows = [
    (
        size,
        number(len(found["loss"]) * math.ceil(shown["images"] / int(size)), 0),
        number(found["loss"][-1]),
        number(found["accuracy"], 3),
        number(found["seconds"], 0),
    )
    for size, found in shown["trials"].items()
]
header = (
    "lot",
    "mises à jour",
    "perte d'entraînement",
    "exactitude de validation",
    "secondes",
)
runtime.show_table(header, rows)

# %% [markdown]
# À nombre d'époques égal, un grand lot fait moins de mises à jour et apprend moins, mais en moins
# de temps. De 64 à 16, le lot plus petit double la durée sans gain net d'exactitude. Qui agrandit
# ses lots compense d'ordinaire en augmentant le taux, ou en entraînant plus longtemps.

# %% [markdown]
# ## Un entraînement complet
#
# ### LeNet-5 sur Fashion-MNIST
#
# Toutes les images d'entraînement, Adam, et un taux qui décroît de 0,002 à zéro en suivant un
# cosinus : de grands pas d'abord, de petits pour finir. Nous entraînons deux versions, l'une
# proche de l'original (tangente, moyennes), l'autre d'aujourd'hui (ReLU, maximum).

# %%
VERSIONS = {
    "tanh et moyenne": ("tanh", layers.AveragePooling2D),
    "ReLU et maximum": ("relu", layers.MaxPooling2D),
}


def cosine(epochs, images, rate=2e-3):
    """Adam, dont le taux décroît en cosinus jusqu'à la fin de l'entraînement."""
    updates = epochs * math.ceil(len(images) / BATCH_SIZE)
    return keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(rate, updates))


# %% [markdown]
# Outre l'exactitude, nous garderons de quoi juger les probabilités du réseau. La ***confiance***
# est celle qu'il donne à la classe qu'il choisit ; par tranche de confiance, on compare ce qu'il
# annonce et ce qui arrive. On cherche aussi la température qui convient le mieux aux images de
# validation.


# %%
def reliability(probabilities, labels, edges):
    """Par tranche de confiance : nombre d'images, confiance moyenne, exactitude."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    slot = np.clip(np.digitize(confidence, edges) - 1, 0, len(edges) - 2)
    count = np.bincount(slot, minlength=len(edges) - 1)
    totals = [np.bincount(slot, v, minlength=len(count)) for v in (confidence, right)]
    return [count, *(total / np.maximum(count, 1) for total in totals)]


EDGES = np.linspace(0, 1, 11)  # dix tranches de confiance
LOOKED_AT = 10  # les erreurs les plus sûres d'elles-mêmes


def fit_temperature(z, labels):
    """Température qui minimise l'entropie croisée de scores (n, k)."""
    truth = np.eye(z.shape[1])[labels]

    def loss(temperature):
        return cross_entropy(truth, np.maximum(softmax(z, temperature), 1e-12)).mean()

    return minimize_scalar(loss, bounds=(0.2, 10), method="bounded").x


# %% [markdown]
# L'expérience : deux versions, trois graines ; le dernier réseau entraîné fournit le détail.


# %%
def lenet_run():
    found, images, labels = {}, x_train[:MANY_IMAGES], y_train[:MANY_IMAGES]
    for name, version in VERSIONS.items():
        found[name] = {"test": [], "train": [], "validation": []}
        for seed in SEEDS:
            keras.utils.set_random_seed(seed)
            model, adam = lenet5(*version), cosine(LONG, images)
            options = {"validation_data": (x_val, y_val), "validation_batch_size": 500}
            history = train(model, images, labels, LONG, adam, **options).history
            found[name]["train"].append(history["accuracy"])
            found[name]["validation"].append(history["val_accuracy"])
            found[name]["test"].append(accuracy(model, x_test, y_test))
    z, warm = scores(model, x_test), fit_temperature(scores(model, x_val), y_val)
    q, predicted = softmax(z), z.argmax(axis=1)
    surest = np.argsort(-q.max(axis=1) * (predicted != y_test))[:LOOKED_AT]
    return {
        "versions": found,
        "temperature": warm,
        "confusion": confusion_matrix(y_test, predicted, labels=range(10)),
        "reliability": [reliability(softmax(z, t), y_test, EDGES) for t in (1, warm)],
        "errors": {
            "rows": surest,
            "said": predicted[surest],
            "q": q.max(axis=1)[surest],
        },
    }


lenet = experiment("lenet5", lenet_run)

# %%
shown = lenet.values
rows = [(name, spread(found["test"])) for name, found in shown["versions"].items()]
runtime.show_table(("LeNet-5", "exactitude de test"), rows)

# %%
modern = shown["versions"]["ReLU et maximum"]
fig = figures.curves(
    {"entraînement": modern["train"], "validation": modern["validation"]},
    xlabel="époque",
    ylabel="exactitude",
)
ends = {key: np.mean(modern[key], axis=0)[-1] for key in ("train", "validation")}
figures.show(
    fig,
    alt=f"Exactitude de LeNet-5 en {len(modern['train'][0])} époques : elle finit à "
    f"{number(ends['train'], 3)} sur les images d'entraînement, {number(ends['validation'], 3)} "
    "sur celles de validation.",
)
agreement = ends["validation"] - np.mean(modern["test"])
decided = lenet.full is not None
verdict("layers-test-generalisation", agreement if decided else None)

# %% [markdown]
# La version d'aujourd'hui gagne un point et demi sur l'autre, sans un paramètre de plus :
# l'activation et le sous-échantillonnage comptent, même si cette comparaison ne dit pas la part de
# chacun. L'exactitude d'entraînement dépasse déjà celle de validation de plusieurs points : le
# réseau commence à apprendre par cœur.
#
# ### Quelles erreurs ?
#
# L'exactitude est une moyenne. La ***matrice de confusion*** dit qui est pris pour qui : une ligne
# par vraie classe, une colonne par réponse. Voici celle du dernier réseau entraîné, ReLU et
# maximum.

# %%
class_names = datasets.GARMENTS if decided else garments.class_names
matrix = np.array(shown["confusion"])
fig = figures.confusion(matrix, class_names, "réponse", "vraie classe", normalise=True)
recall = np.diag(matrix) / matrix.sum(axis=1)
worst, safest = np.argmin(recall), np.argmax(recall)
figures.show(
    fig,
    alt="Matrice de confusion, en pour cent de chaque ligne. La diagonale va de "
    f"{percent(recall[worst])} ({class_names[worst]}) à {percent(recall[safest])} "
    f"({class_names[safest]}).",
)

# %%
off_diagonal = matrix - np.diag(np.diag(matrix))
pairs = off_diagonal + off_diagonal.T
order = sorted(
    ((i, j) for j in range(10) for i in range(j)), key=lambda pair: -pairs[pair]
)
rows = [
    (
        f"{class_names[i]} et {class_names[j]}",
        pairs[i, j],
        percent(pairs[i, j] / off_diagonal.sum()),
    )
    for i, j in order[:5]
]
runtime.show_table(("confusion", "erreurs", "part du total"), rows)

# %% [markdown]
# Le ***rappel*** d'une classe est la part de ses images retrouvées, sur la diagonale. Regardons
# maintenant les erreurs dont le réseau est le plus sûr.

# %%
errors = shown["errors"]
same_data = not decided or runtime.data_source() == "real"
if same_data:
    titles = [
        f"{class_names[y_test[row]]}\n« {class_names[said]} »\n{percent(q, 1)}"
        for row, said, q in zip(errors["rows"], errors["said"], errors["q"])
    ]
    fig = figures.grid([x_test[row] for row in errors["rows"]], titles=titles)
    figures.show(
        fig,
        alt="Dix images de test mal classées avec une grande confiance ; au-dessus de chacune, la "
        "vraie classe, la réponse du réseau et la probabilité qu'il lui donne.",
    )
else:
    print("Ces images sont celles de Fashion-MNIST, absent de cette machine.")

# %% [markdown]
# Les quatre confusions les plus fréquentes, presque deux erreurs sur trois, opposent des vêtements
# à manches, et trois d'entre elles la chemise. Parmi les erreurs les plus assurées, certaines se
# défendent : une bottine ouverte comme une sandale, un sac en forme d'animal, des chemises qui
# ressemblent à des pulls. D'autres étiquettes sont discutables : aucun réseau n'atteindra 100 %.
#
# ### Peut-on croire ses probabilités ?
#
# Un réseau est *calibré* si, parmi les images où il annonce 80 %, il a raison huit fois sur dix.
# L'erreur de ***calibration*** est l'écart absolu moyen entre confiance et exactitude, tranche par
# tranche, pondéré par le nombre d'images de test. Nous recommencerons après avoir divisé les scores
# par une température, celle qui minimise l'entropie croisée de validation.


# %%
def calibration_error(count, confidence, right):
    count, confidence, right = map(np.array, (count, confidence, right))
    return (count * np.abs(confidence - right)).sum() / count.sum()


def draw_reliability(tables, titles):
    """Exactitude selon la confiance annoncée, avant et après correction."""
    fig, axes = plt.subplots(1, 2, figsize=(6, 3.3), sharey=True)
    for axis, (count, confidence, right), title in zip(axes, tables, titles):
        used = np.array(count) > 0
        axis.plot([0, 1], [0, 1], ls=":", color="#555555")
        axis.plot(
            np.array(confidence)[used], np.array(right)[used], "o-", color="#0072B2"
        )
        axis.set(title=title, xlabel="confiance annoncée", xlim=(0, 1), ylim=(0, 1))
    axes[0].set_ylabel("exactitude")
    return fig


cold, warm = (calibration_error(*table) for table in shown["reliability"])
temperature = number(shown["temperature"])
figures.show(
    draw_reliability(shown["reliability"], ("tel quel", f"température {temperature}")),
    alt="Exactitude selon la confiance annoncée, à côté de la diagonale d'un réseau calibré. "
    f"Erreur de calibration : {percent(cold, 1)} tel quel, {percent(warm, 1)} à la température "
    f"{temperature}.",
)
print(f"erreur de calibration : {percent(cold, 1)}, puis {percent(warm, 1)}")

# %% [markdown]
# Tel quel, le réseau est trop sûr de lui : entre 80 et 90 % de confiance annoncée, il a raison
# moins de huit fois sur dix. Une seule température, choisie sur la validation, divise l'erreur de
# calibration par cinq environ, sans changer une seule réponse ([Guo et al.,
# 2017](https://arxiv.org/abs/1706.04599)).

# %% [markdown]
# ### Surapprendre exprès
#
# Un réseau qui a bien plus de paramètres que d'images d'entraînement peut les apprendre par cœur,
# et réussir sur elles mieux que sur de nouvelles : c'est le ***surapprentissage***. Provoquons-le
# avec 225 034 paramètres pour deux mille images, puis essayons les remèdes **un par un**, tout le
# reste égal :
#
# - l'***abandon*** (*dropout*) met à zéro au hasard la moitié des valeurs, à l'entraînement
#   seulement ;
# - l'***augmentation de données*** retourne et décale chaque image au hasard ;
# - la ***pénalité L2*** ajoute à la perte la somme des carrés des poids, multipliée par un petit
#   nombre, ici 0,001 ;
# - l'***arrêt anticipé*** (*early stopping*) garde les poids de l'époque où la perte de validation
#   était la plus basse ;
# - dix fois plus d'images, pour le même nombre de mises à jour.


# %%
def plain_cnn(dropout=0.0, l2=0.0, augment=False):
    """Deux convolutions et une couche dense, avec ou sans remèdes."""
    penalty = {"kernel_regularizer": keras.regularizers.L2(l2) if l2 else None}
    inputs = keras.Input(shape=(28, 28, 1))
    x = inputs
    if augment:
        x = layers.RandomFlip("horizontal")(x)
        x = layers.RandomTranslation(0.06, 0.06, fill_mode="constant")(x)
    for filters in (32, 64):
        x = layers.Conv2D(filters, 3, activation="relu", **penalty)(x)
        x = layers.MaxPooling2D(pool_size=2)(x)
    x = layers.Flatten()(x)
    x = layers.Dropout(dropout)(x)
    x = layers.Dense(128, activation="relu", **penalty)(x)
    x = layers.Dropout(dropout)(x)
    return keras.Model(inputs, layers.Dense(10, **penalty)(x))


# %%
CURES = {
    "aucun": {},
    "abandon": {"dropout": 0.5},
    "augmentation": {"augment": True},
    "pénalité L2": {"l2": 1e-3},
    "arrêt anticipé": {},
    "dix fois plus d'images": {},
}


# %% [markdown]
# Un essai : un remède, une graine. Les mesures finales se font après l'entraînement, sans abandon
# ni augmentation.


# %%
def cured(name, seed):
    """Un entraînement avec un remède : courbes, puis mesures sur des images fixées."""
    keras.utils.set_random_seed(seed)
    model, many = (
        plain_cnn(**CURES[name]),
        10 if name == "dix fois plus d'images" else 1,
    )
    images, labels = x_train[: many * FEW_IMAGES], y_train[: many * FEW_IMAGES]
    stop = keras.callbacks.EarlyStopping(patience=5, restore_best_weights=True)
    history = train(
        model,
        images,
        labels,
        max(1, OVERFITTING // many),
        validation_data=(x_val, y_val),
        validation_batch_size=500,
        callbacks=[stop] if name == "arrêt anticipé" else [],
    ).history
    z = scores(model, x_test)
    return {
        "curves": {
            key: history[key]
            for key in ("loss", "accuracy", "val_loss", "val_accuracy")
        },
        "train": accuracy(model, images, labels),
        "test": np.mean(z.argmax(axis=1) == y_test),
        "test_loss": cross_entropy(
            np.eye(10)[y_test], np.maximum(softmax(z), 1e-12)
        ).mean(),
    }


# %%
def overfitting_run():
    tried = list(CURES)[:: runtime.pick(quick=4, full=1)]
    return {name: [cured(name, seed) for seed in SEEDS] for name in tried}


overfitting = experiment("overfitting", overfitting_run)

# %%
shown = overfitting.values
curves = {
    key: [run["curves"][key] for run in shown["aucun"]] for key in ("loss", "val_loss")
}
fig = figures.curves(
    {"entraînement": curves["loss"], "validation": curves["val_loss"]},
    xlabel="époque",
    ylabel="perte",
)
validation = np.mean(curves["val_loss"], axis=0)
turn = int(validation.argmin()) + 1
figures.show(
    fig,
    alt="Perte sans remède : celle d'entraînement descend vers zéro ; celle de validation descend "
    f"jusqu'à {number(validation.min())}, à l'époque {turn}, puis remonte à "
    f"{number(validation[-1])}.",
)

# %%
val_accuracy = np.mean(
    [run["curves"]["val_accuracy"] for run in shown["aucun"]], axis=0
)
rows = [
    (epoch, number(validation[epoch - 1]), number(val_accuracy[epoch - 1], 3))
    for epoch in (turn, len(validation))
]
runtime.show_table(("époque", "perte de validation", "exactitude"), rows)
decided = overfitting.full is not None
falls = np.mean(curves["loss"], axis=0)[-1] < 0.5 * np.mean(curves["loss"], axis=0)[0]
verdict("layers-ce-decreases", bool(falls) if decided else None)
gap = np.mean([run["train"] - run["test"] for run in shown["aucun"]])
verdict("layers-test-detects-overfitting", gap if decided else None)

# %% [markdown]
# Passé l'époque où la perte de validation est la plus basse, celle d'entraînement continue de
# descendre et celle de validation remonte de plus de moitié. L'exactitude de validation, elle, ne
# bouge presque pas : le réseau ne se trompe guère plus souvent, il se trompe avec plus d'assurance.
# C'est l'écart entre entraînement et validation qui trahit le surapprentissage. Et les remèdes ?


# %%
def validation_accuracy(name, curves):
    """Celle des poids gardés : la meilleure époque pour l'arrêt anticipé, sinon la dernière."""
    kept = np.argmin(curves["val_loss"]) if name == "arrêt anticipé" else -1
    return curves["val_accuracy"][kept]


rows = [
    (
        name,
        spread([validation_accuracy(name, run["curves"]) for run in runs]),
        spread([run["test"] for run in runs]),
    )
    for name, runs in shown.items()
]
runtime.show_table(("remède", "validation", "test"), rows)
rows = [
    (
        name,
        number(np.mean([len(run["curves"]["loss"]) for run in runs]), 0),
        spread([run["train"] for run in runs]),
        spread([run["test_loss"] for run in runs], 2),
    )
    for name, runs in shown.items()
]
runtime.show_table(("remède", "époques", "entraînement", "perte de test"), rows)

# %%
fig = figures.curves(
    {
        name: [run["curves"]["val_loss"] for run in runs]
        for name, runs in shown.items()
        if name in ("aucun", "abandon", "augmentation")
    },
    xlabel="époque",
    ylabel="perte de validation",
)
last = {
    name: np.mean([run["curves"]["val_loss"][-1] for run in runs])
    for name, runs in shown.items()
    if name in ("aucun", "abandon", "augmentation")
}
figures.show(
    fig,
    alt="Perte de validation par époque, selon le remède. Elle finit à "
    + ", ".join(f"{number(value)} ({name})" for name, value in last.items())
    + ".",
)

# %% [markdown]
# L'abandon gagne deux points et divise presque la perte par deux ; l'augmentation, un peu moins ;
# l'arrêt anticipé, un point, mais en deux fois moins d'époques. La pénalité L2, à ce réglage, fait
# baisser la perte sans gain net d'exactitude. Aucun remède ne vaut des images en plus : cinq
# points, pour le même nombre de mises à jour. La validation range les remèdes comme le test : c'est
# d'après elle que l'on choisit.
#
# La pénalité L2 ne figure pas sur le dessin : Keras l'ajoute à la perte qu'il affiche, même sur la
# validation, et les courbes ne se compareraient pas. La perte de test du tableau ne contient que
# l'entropie croisée.
#
# ### Le meilleur réseau du chapitre
#
# Réunissons ce que nous avons appris : toutes les images, cinq convolutions avec ReLU, des
# sous-échantillonnages par le maximum, de l'abandon, des retournements, Adam et un taux en cosinus.
# Une moyenne globale, que ses 128 cartes rendent cette fois assez riche, le termine, et la
# *normalisation par lots*, que le [chapitre 3](03_architectures.ipynb) explique, le stabilise.


# %%
def best_cnn():
    """Cinq convolutions 3 × 3 en trois étages : image -> un score par classe."""
    inputs = keras.Input(shape=(28, 28, 1), name="image")
    x = layers.RandomFlip("horizontal")(inputs)
    for filters, repeats in ((32, 1), (64, 2), (128, 2)):
        for _ in range(repeats):
            x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
            x = layers.BatchNormalization()(x)
            x = layers.ReLU()(x)
        x = layers.MaxPooling2D(pool_size=2)(x)
        x = layers.Dropout(0.2)(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(10, name="scores")(x), name="best_cnn")


def best_run():
    keras.utils.set_random_seed(0)
    model = best_cnn()
    images, labels = x_train[:MANY_IMAGES], y_train[:MANY_IMAGES]
    options = {"validation_data": (x_val, y_val), "validation_batch_size": 500}
    adam = cosine(LONGER, images)
    history = train(model, images, labels, LONGER, adam, **options).history
    return {
        "train": history["accuracy"],
        "validation": history["val_accuracy"],
        "test": accuracy(model, x_test, y_test),
        "parameters": model.count_params(),
    }


best = experiment("best_network", best_run)

# %%
shown = best.values
fig = figures.curves(
    {"entraînement": shown["train"], "validation": shown["validation"]},
    xlabel="époque",
    ylabel="exactitude",
)
figures.show(
    fig,
    alt=f"Exactitude du réseau à cinq convolutions en {len(shown['train'])} époques : elle finit à "
    f"{number(shown['train'][-1], 3)} sur les images d'entraînement, "
    f"{number(shown['validation'][-1], 3)} sur celles de validation.",
)

# %%
lenet_parameters = lenet5().count_params()
tests = {
    "LeNet-5, tanh et moyenne": lenet.values["versions"]["tanh et moyenne"]["test"],
    "LeNet-5, ReLU et maximum": modern["test"],
    "cinq convolutions": [shown["test"]],
}
rows = [
    (
        name,
        number(shown["parameters"] if "cinq" in name else lenet_parameters, 0),
        spread(test),
    )
    for name, test in tests.items()
]
runtime.show_table(("réseau", "paramètres", "exactitude de test"), rows)

# %% [markdown]
# Deux points et demi de plus que LeNet-5, pour quatre à cinq fois plus de paramètres et bien plus
# de calcul ; mais une seule graine. La validation saute tant que le taux est grand, puis se
# stabilise quand il décroît. L'écart entre les deux courbes est moitié moindre que celui de
# LeNet-5 ; l'abandon et les retournements, actifs à l'entraînement, y abaissent la première
# (exercice 4).
#
# Un aveu : un premier essai, plus court, restait un peu au-dessous de 93 % au test alors que sa
# validation montait encore, et nous l'avons prolongé. C'est le seul choix du chapitre fait après
# avoir vu le test.

# %% [markdown]
# ## La phase de test
#
# ### Des images jamais vues
#
# Les données de test doivent être « indépendantes », des exemples que le réseau « n'a pas encore
# rencontrés ». Cela se vérifie : y a-t-il, parmi les images de test, la copie exacte d'une image
# d'entraînement ?

# %%
known = {image.tobytes() for image in garments.x_train}
copies = sum(image.tobytes() in known for image in garments.x_test)
verdict("layers-test-unseen", copies)

# %% [markdown]
# Aucune copie au pixel près ; ce contrôle ne verrait pas deux photographies du même vêtement. Mais
# un jeu de test s'use aussi autrement : chaque fois qu'on s'en sert pour *choisir*. Prenons cent
# « réseaux » qui répondent au hasard à cinq cents images, gardons le meilleur, et mesurons-le sur
# cinq cents autres.

# %%
rng = np.random.default_rng(0)
truth, answers = rng.integers(10, size=1000), rng.integers(10, size=(100, 1000))
right = answers == truth
first, second = right[:, :500].mean(axis=1), right[:, 500:].mean(axis=1)
chosen = first.argmax()
print(f"le meilleur sur cent : {percent(first[chosen], 1)}")
print(f"le même, sur d'autres images : {percent(second[chosen], 1)}")

# %% [markdown]
# Le hasard, choisi parmi cent, paraît meilleur que le hasard. C'est pourquoi les réglages de ce
# chapitre sont choisis d'après la validation, à l'exception avouée plus haut.
#
# ### Enregistrer et relire
#
# Entraînons un LeNet-5 ici même, quelques époques, pour le mettre à l'épreuve. Après
# l'apprentissage, dit le document, le réseau est « déterminé » : prédire le change-t-il ?

# %%
keras.utils.set_random_seed(0)
network = lenet5()
few_epochs = runtime.pick(quick=3, full=4)
images, labels = x_train[:MANY_IMAGES], y_train[:MANY_IMAGES]
train(network, images, labels, few_epochs, cosine(few_epochs, images))
print(f"exactitude de validation : {number(accuracy(network, x_val, y_val), 3)}")

before = [ops.convert_to_numpy(weight).copy() for weight in network.weights]
probabilities = softmax(scores(network, x_test))
after = [ops.convert_to_numpy(weight) for weight in network.weights]
verdict("layers-test-fixed", all((b == a).all() for b, a in zip(before, after)))

# %% [markdown]
# « Le modèle est sauvegardé pour être utilisé dans la phase de test. » Le format `.keras` réunit
# l'architecture, les poids et l'état de l'optimiseur dans un fichier. Relu, donne-t-il les mêmes
# sorties ?

# %%
with tempfile.TemporaryDirectory() as folder:
    path = f"{folder}/lenet5.keras"
    network.save(path)
    reloaded = keras.models.load_model(path)
gap = np.abs(scores(reloaded, x_test) - scores(network, x_test)).max()
verdict("layers-test-saved", float(gap))

# %% [markdown]
# Les mêmes, au bit près. Le fichier ne contient pas ce qui vient *avant* le réseau : la conversion
# en gris, l'échelle, le cadrage. C'est là que l'on se trompe.
#
# ### Une photographie à vous
#
# Le réseau n'a vu que des objets **clairs sur fond noir**, cadrés au plus près, en réels de 0 à 1.
# Voici des « photographies » ordinaires : couleurs, fond clair, éclairage inégal, grain. Nous les
# dessinons, pour n'emprunter celles de personne. Pour essayer la vôtre, un objet sombre sur un fond
# clair et uni, ajoutez avant la dernière ligne de la cellule `pictures = {"la mienne":
# Image.open("mon_image.jpg")}`.

# %%
OUTLINES = {  # coins x,y en centièmes du côté
    "T-shirt/haut": "30,12 42,12 50,17 58,12 70,12 95,32 84,46 73,38 73,92 27,92 27,38 16,46 5,32",
    "Pantalon": "32,5 68,5 73,95 55,95 50,35 45,95 27,95",
    "un": "45,8 57,8 57,92 43,92 43,28 32,34 32,22",
    "sept": "20,8 80,8 80,22 50,92 34,92 62,24 20,24",
}


def draw_picture(outline, seed=0, size=(300, 240)):
    """Un objet bleu sur un mur clair, éclairé de la gauche, avec du grain : image Pillow."""
    height, width = size
    points = [map(int, corner.split(",")) for corner in outline.split()]
    canvas = Image.new("RGB", (width, height), (226, 220, 208))
    corners = [(40 + 1.6 * x, 60 + 1.8 * y) for x, y in points]
    ImageDraw.Draw(canvas).polygon(corners, fill=(40, 60, 120))
    light = np.linspace(1.05, 0.85, width)[None, :, None]
    grain = np.random.default_rng(seed).normal(scale=6, size=(height, width, 1))
    return Image.fromarray(
        np.clip(np.asarray(canvas) * light + grain, 0, 255).astype("uint8")
    )


pictures = {
    name: draw_picture(outline)
    for name, outline in OUTLINES.items()
    if name in garments.class_names
}
picture = next(iter(pictures.values()))


# %%
def prepare(picture, invert=True, crop=True, scale=True):
    """Photographie d'un objet sombre sur fond clair -> l'entrée du réseau (1, 28, 28, 1)."""
    grey = np.asarray(picture.convert("L"), dtype=float)
    mask = grey < threshold_otsu(grey)  # l'objet
    if invert:
        grey = np.where(mask, 255 - grey, 0)  # clair, sur un fond vraiment noir
    if crop:
        rows = np.flatnonzero(mask.any(axis=1))
        columns = np.flatnonzero(mask.any(axis=0))
        grey = grey[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    side = max(grey.shape)
    missing = [(side - length) // 2 for length in grey.shape]
    around = [(m, side - length - m) for m, length in zip(missing, grey.shape)]
    square = np.pad(grey, around, constant_values=0 if invert else 255)
    small = np.asarray(
        Image.fromarray(square.astype("uint8")).resize((28, 28), Image.LANCZOS)
    )
    return small[None, ..., None].astype("float32") / (255 if scale else 1)


# %% [markdown]
# Une préparation juste, et trois qui oublient chacune une étape :

# %%
TRAPS = {
    "bien préparée": {},
    "non inversée": {"invert": False},
    "non cadrée": {"crop": False},
    "de 0 à 255": {"scale": False},
}
prepared = {name: prepare(picture, **options) for name, options in TRAPS.items()}
views = [
    np.asarray(ImageOps.fit(picture, (240, 240))),
    *(image[0] / image.max() for image in prepared.values()),
]
fig = figures.grid(
    views, titles=["la photo", *(name.replace(" ", "\n", 1) for name in TRAPS)]
)
figures.show(
    fig,
    alt="La photographie, un objet bleu sur fond clair, puis ce qu'en reçoit le réseau : clair sur "
    "noir et bien cadré ; non inversée, sombre sur fond blanc ; non cadrée, petite au milieu ; et "
    "dans la mauvaise échelle, d'aspect identique à la première.",
)

# %%
rows = []
for wanted, picture in pictures.items():
    for name, options in TRAPS.items():
        q = softmax(scores(network, prepare(picture, **options)))[0]
        rows.append((wanted, name, garments.class_names[q.argmax()], percent(q.max())))
runtime.show_table(("objet", "préparation", "réponse", "probabilité"), rows)

# %% [markdown]
# Bien préparées, les photographies sont reconnues. Non inversées, elles ne le sont plus. Non
# cadrées, elles le sont encore, mais le réseau hésite. De 0 à 255, la réponse est encore juste et
# le défaut passe inaperçu : des scores 255 fois trop grands, ou presque, donnent des probabilités
# proches de 100 %, méritées ou non, comme le ferait une température trop basse. Aucun de ces
# défauts n'interrompt le programme.
#
# ### Une image d'aucune classe
#
# Que répond le réseau à ce qu'il n'a jamais appris ? Un chat, une tasse de café, une fleur, du
# bruit, une image noire.


# %%
def shrink(photo):
    """Carré central d'une photographie, en gris, (28, 28) de 0 à 1."""
    grey = Image.fromarray(photo).convert("L")
    side = min(grey.size)
    left, top = ((length - side) // 2 for length in grey.size)
    small = grey.crop((left, top, left + side, top + side)).resize(
        (28, 28), Image.LANCZOS
    )
    return np.asarray(small, dtype="float32") / 255


strangers = {
    "chat": shrink(photographs["chelsea"]),
    "tasse": shrink(photographs["coffee"]),
    "fleur": shrink(photographs["flower"]),
    "bruit": np.random.default_rng(0).random((28, 28), dtype="float32"),
    "noir": np.zeros((28, 28), dtype="float32"),
}
z = scores(network, np.stack(list(strangers.values()))[..., None])
warm = fit_temperature(scores(network, x_val), y_val)
q, cooled = softmax(z), softmax(z, warm)
titles = [
    f"{name}\n« {garments.class_names[answer]} »\n{percent(row.max())}"
    for name, answer, row in zip(strangers, q.argmax(axis=1), q)
]
fig = figures.grid(list(strangers.values()), titles=titles, columns=3)
figures.show(
    fig,
    alt="Cinq images d'aucune classe et la réponse du réseau : "
    + ", ".join(
        f"{name} : « {garments.class_names[answer]} », {percent(row.max())}"
        for name, answer, row in zip(strangers, q.argmax(axis=1), q)
    )
    + ".",
)

# %%
known_confidence = probabilities.max(axis=1)
rows = [
    ("de test (médiane)", percent(np.median(known_confidence))),
    ("ces cinq images (moyenne)", percent(q.max(axis=1).mean())),
    (f"les mêmes, température {number(warm)}", percent(cooled.max(axis=1).mean())),
]
runtime.show_table(("images", "confiance"), rows)

# %% [markdown]
# Le softmax répartit la probabilité entre les dix classes connues : « aucune d'elles » n'existe
# pas. Le réseau répond donc même à une image noire, par ses seuls biais. Sa confiance est ici plus
# basse que sur la plupart des vêtements, et un seuil écarterait une partie de ces intruses, pas
# toutes : pour ce réseau, le chat est une sandale. La température n'y change presque rien : ce
# réseau peu entraîné est déjà presque calibré, la sienne est proche de 1.

# %% [markdown]
# ## À retenir
#
# - Sans activation non linéaire, empiler des couches ne sert à rien. ReLU est simple et laisse
#   passer le gradient ; un taux d'apprentissage trop grand peut tuer ses neurones.
# - La disparition du gradient vient de la profondeur et des activations de faible pente ; les
#   neurones morts, du côté négatif de ReLU.
# - Le sous-échantillonnage n'a pas de paramètre : il divise les activations, et donne une petite
#   tolérance aux décalages. Sa taille de sortie est $\lfloor (N - F)/S \rfloor + 1$.
# - Le softmax agit sur le vecteur entier des scores. Retranchez le maximum, ou donnez les scores à
#   la perte (`from_logits=True`).
# - $H(P, Q) = H(P) + \mathrm{KL}(P \,\|\, Q)$ : l'entropie croisée ne s'annule que si l'étiquette
#   est certaine et la prédiction parfaite.
# - Une mise à jour par *lot*, non par époque. Le taux d'apprentissage se règle d'abord.
# - Un gradient se vérifie, par différences finies ou par différentiation automatique.
# - On choisit sur la validation ; le test ne sert qu'à mesurer.
# - Un réseau répond toujours, même à une image qui n'est d'aucune classe.

# %% [markdown]
# ## Exercices
#
# ### 1. Prédire, puis exécuter
#
# Trente-deux cartes de 16 × 16 traversent `MaxPooling2D(pool_size=3, strides=2)`, puis `Flatten`,
# puis une couche dense de 10 neurones. Quel est le côté d'une carte après le
# sous-échantillonnage ? Combien la couche dense a-t-elle de paramètres, biais compris ? Remplacez
# les `None`.

# %%
my_side = None
my_parameters = None

maps = layers.MaxPooling2D(pool_size=3, strides=2)(keras.Input((16, 16, 32)))
dense = layers.Dense(10)
dense(layers.Flatten()(maps))
predict("côté d'une carte", my_side, maps.shape[1])
predict("paramètres de la couche dense", my_parameters, dense.count_params())

# %% [markdown]
# <details>
# <summary>Solution</summary>
#
# Côté : $\lfloor (16 - 3)/2 \rfloor + 1 = \lfloor 6{,}5 \rfloor + 1 = 7$. Le vecteur a
# $7 \times 7 \times 32 = 1568$ nombres, la couche $1568 \times 10 + 10 = 15\,690$ paramètres.
#
# </details>

# %% [markdown]
# ### 2. Rétropropager un maximum
#
# Le sous-échantillonnage par le maximum, fenêtres de 2 × 2 et pas de 2, reçoit une carte `x` de
# forme `(h, w)`, `h` et `w` pairs, et le gradient `grad` de sa sortie, `(h/2, w/2)`. Rendez le
# gradient par rapport à `x` : chaque nombre de `grad` revient à la case du maximum, et à elle
# seule. S'il y a égalité, à la première dans l'ordre de lecture.


# %%
def my_max_backward(x, grad):
    raise NotImplementedError


# %% tags=["hide-input"] cellView="form"
# @title Vérificateur de l'exercice 2
def max_backward_solution(x, grad):
    result = np.zeros(x.shape)
    for (i, j), g in np.ndenumerate(grad):
        window = x[2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
        a, b = np.unravel_index(window.argmax(), (2, 2))
        result[2 * i + a, 2 * j + b] = g
    return result


def fill_windows(table):
    """Chaque case devient un carré de 2 × 2 cases égales."""
    return np.kron(table, np.ones((2, 2)))


def max_backward_cases():
    generator = np.random.default_rng(0)
    ties = relu(generator.normal(size=(4, 6)) - 1)
    return [
        (generator.normal(size=(4, 4)), generator.normal(size=(2, 2))),
        (ties, generator.normal(size=(2, 3))),
    ]


EXERCISE_MAX = Exercise(
    title="Exercice 2",
    reference=max_backward_solution,
    cases=max_backward_cases,
    mistakes={
        "Le gradient ne revient qu'à la case du maximum, pas à toute la fenêtre.": (
            lambda x, grad: fill_windows(grad)
        ),
        "C'est le gradient de la *moyenne* : chaque case y reçoit un quart.": (
            lambda x, grad: fill_windows(grad) / 4
        ),
        "S'il y a égalité, une seule case reçoit le gradient, la première.": (
            lambda x, grad: fill_windows(grad) * (x == fill_windows(pool2d(x)))
        ),
    },
)
EXERCISE_MAX.check(my_max_backward)

# %% tags=["hide-cell"] cellView="form"
# @title Solution de l'exercice 2
# Le maximum est une fonction de la seule case gagnante : les autres ont une dérivée nulle.
EXERCISE_MAX.check(max_backward_solution)
x, grad = max_backward_cases()[0]


def weighted_maximum(x):
    pooled = ops.max_pool(ops.reshape(x, (1, 4, 4, 1)), 2, 2)
    return ops.sum(pooled[0, ..., 0] * ops.convert_to_tensor(grad, "float32"))


assert np.allclose(
    max_backward_solution(x, grad), value_and_grad(weighted_maximum, x)[1], atol=1e-5
)

# %% [markdown]
# ### 3. L'entropie croisée à partir des scores
#
# Écrivez l'entropie croisée moyenne d'un lot, en nats : des scores `z` de forme `(n, k)` et des
# étiquettes entières `(n,)`. Elle doit rester finie pour des scores de plusieurs milliers.


# %%
def my_loss_from_scores(z, labels):
    raise NotImplementedError


# %% tags=["hide-input"] cellView="form"
# @title Vérificateur de l'exercice 3
def loss_solution(z, labels):
    z = z - z.max(axis=1, keepdims=True)
    log_q = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    return -log_q[np.arange(len(z)), labels].mean()


def loss_through_probabilities(z, labels):
    with np.errstate(divide="ignore"):
        return -np.log(softmax(z)[np.arange(len(z)), labels]).mean()


def loss_literal(z, labels):
    with np.errstate(over="ignore", invalid="ignore"):
        return -np.log(literal_softmax(z)[np.arange(len(z)), labels]).mean()


def loss_cases():
    generator = np.random.default_rng(0)
    gentle = generator.normal(size=(5, 4)), generator.integers(4, size=5)
    extreme = np.array([[5000.0, 0.0], [0.0, 3000.0]]), np.array([1, 1])
    return [gentle, extreme]


EXERCISE_LOSS = Exercise(
    title="Exercice 3",
    reference=loss_solution,
    cases=loss_cases,
    mistakes={
        "Une probabilité devient nulle et son logarithme infini : passez par log-softmax, "
        "z − max − log Σ exp(z − max).": loss_through_probabilities,
        "L'exponentielle déborde : retranchez d'abord le plus grand score.": loss_literal,
        "C'est la somme du lot : on attend la moyenne.": (
            lambda z, labels: loss_solution(z, labels) * len(z)
        ),
        "Logarithme népérien, non en base deux.": (
            lambda z, labels: loss_solution(z, labels) / np.log(2)
        ),
    },
)
EXERCISE_LOSS.check(my_loss_from_scores)

# %% tags=["hide-cell"] cellView="form"
# @title Solution de l'exercice 3
# log softmax = z − log Σ exp z ; retrancher le maximum n'y change rien, et plus rien ne déborde.
EXERCISE_LOSS.check(loss_solution)
z, labels = loss_cases()[0]
theirs = ops.mean(ops.sparse_categorical_crossentropy(labels, z, from_logits=True))
assert np.isclose(loss_solution(z, labels), ops.convert_to_numpy(theirs), atol=1e-5)

# %% [markdown]
# ### 4. Expliquer
#
# Pendant l'entraînement d'un réseau avec abandon, l'exactitude affichée sur les images
# d'entraînement est plus *basse* que celle de validation. Le réseau réussit-il mieux sur ce qu'il
# n'a jamais vu ?
#
# <details>
# <summary>Solution</summary>
#
# Non. L'exactitude d'entraînement est mesurée pendant l'époque, avec la moitié des valeurs mises à
# zéro et des poids encore en train de changer ; celle de validation l'est à la fin, sans abandon.
# Remesurée après coup, sans abandon, celle d'entraînement est d'ordinaire la plus haute : c'est ce
# que fait la colonne « entraînement » des remèdes.
#
# </details>
#
# ### 5. Pour aller plus loin
#
# Réunissez deux remèdes dans `plain_cnn` (l'abandon et l'augmentation, par exemple) : leurs gains,
# mesurés sur la validation, s'ajoutent-ils ? Puis changez `SEEDS` : l'écart entre deux remèdes
# dépasse-t-il celui entre deux graines ?
#
# <details>
# <summary>Solution</summary>
#
# Ajoutez à `CURES` la ligne `"abandon et augmentation": {"dropout": 0.5, "augment": True}` et
# relancez l'expérience. Un réseau que l'on retient de deux façons apprend plus lentement :
# donnez-lui plus d'époques avant de juger. Et un écart plus petit que l'écart type entre graines ne
# prouve rien avec trois graines.
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
#   recognition](https://doi.org/10.1109/5.726791), 1998 : LeNet-5.
# - X. Glorot, A. Bordes, Y. Bengio, [Deep sparse rectifier neural
#   networks](https://proceedings.mlr.press/v15/glorot11a.html), AISTATS 2011 : ReLU et sparsité.
# - X. Glorot, Y. Bengio, [Understanding the difficulty of training deep feedforward neural
#   networks](https://proceedings.mlr.press/v9/glorot10a.html), AISTATS 2010 : le tirage des poids.
# - A. Maas, A. Hannun, A. Ng, [Rectifier nonlinearities improve neural network acoustic
# models](https://ai.stanford.edu/~amaas/papers/relu_hybrid_icml2013_final.pdf), 2013 : Leaky ReLU.
# - K. He et al., [Delving deep into rectifiers](https://arxiv.org/abs/1502.01852), ICCV 2015 : le
#   tirage des poids pour ReLU.
# - D.-A. Clevert, T. Unterthiner, S. Hochreiter, [Fast and accurate deep network learning by
#   exponential linear units](https://arxiv.org/abs/1511.07289), ICLR 2016 : ELU.
# - D. Kingma, J. Ba, [Adam: a method for stochastic optimization](https://arxiv.org/abs/1412.6980),
#   ICLR 2015.
# - N. Srivastava et al., [Dropout](https://jmlr.org/papers/v15/srivastava14a.html), JMLR 2014.
# - C. Guo et al., [On calibration of modern neural networks](https://arxiv.org/abs/1706.04599),
#   ICML 2017 : la température.
# - D. Rumelhart, G. Hinton, R. Williams, [Learning representations by back-propagating
#   errors](https://doi.org/10.1038/323533a0), *Nature*, 1986.
# - H. Xiao, K. Rasul, R. Vollgraf, [Fashion-MNIST](https://arxiv.org/abs/1708.07747), 2017.
