# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # EfficientNet-B4
#
# > **Objectifs.** À la fin de ce chapitre, vous saurez :
# > - construire EfficientNet bloc par bloc, et prouver qu'il est bien le réseau publié ;
# > - agrandir un réseau en profondeur, en largeur et en résolution, et dire ce que cela coûte ;
# > - l'affiner sur peu d'images, sans le piège de la mise à l'échelle ni celui des normalisations ;
# > - le mettre au service d'une détection, d'une segmentation, d'une recherche d'anomalies ;
# > - mesurer sa mémoire et sa lenteur, et choisir entre lui et ses parents.
#
# | | |
# |:--|:--|
# | **Prérequis** | les chapitres [3](03_architectures.ipynb) à [6](06_pet_segmentation.ipynb) |
# | **Document étudié** | 000, « EfficientNet-B4 » |
# | **Données** | Oxford-IIIT Pet, Fashion-MNIST, visages ORL ; hors ligne, des dessins |
# | **Durée** | trois heures un quart, exercices compris ; exécution rapide : une minute et demie |
#
# > **Plan.** D'abord le réseau et son transfert : de *Les briques* à *Deux phases*. Ensuite les
# > usages, dans l'ordre que l'on veut. Les parents, les limites, les réponses et ce qui est replié
# > peuvent attendre.

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
import itertools
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import layers, ops
from matplotlib.patches import Rectangle
from PIL import Image
from scipy import ndimage
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

from utils import datasets, figures, graphs, runtime, synthetic, zoo
from utils.autodiff import value_and_grad
from utils.downloads import DataUnavailable, keras_home
from utils.execute import experiment
from utils.exercises import Exercise, failure, predict
from utils.figures import number, percent, scientific, spread
from utils.metrics import iou, per_class, verification_curve, wilson
from utils.verdicts import summary, verdict

# %%
runtime.start("08_efficientnet_b4")
SEEDS = runtime.pick(quick=(0,), full=(0, 1, 2))
EAGER = runtime.pick(quick=True, full=False)  # compiler coûte plus que quelques pas

garments = datasets.garments()
pets = datasets.pets(
    size=runtime.pick(quick=32, full=128), limit=runtime.pick(quick=20, full=None)
)
people = datasets.identities()
photographs = datasets.photographs()
runtime.banner(garments, pets, people, photographs)


# %% [markdown]
# ## Ce que le document annonce
#
# Le document présente EfficientNet-B4 comme un réseau de **classification** de Google, « entraîné
# sur le dataset ImageNet ». Il l'explique par un bloc, **MBConv**, et par une façon d'agrandir un
# réseau, la ***mise à l'échelle composée*** (*Compound Scaling*), l'agrandissement composé du
# chapitre 3. Il donne des nombres (19 blocs, 48 canaux à la première couche, des images de
# 380 pixels), six usages, des modèles parents et trois limites. Son code s'arrête à `compile` :
# rien n'est entraîné.

# %% [markdown]
# ## Les briques
#
# Le [chapitre 3](03_architectures.ipynb) a rencontré la convolution par canal, le bloc SE et le
# bloc MBConv. Voici ce que chacun calcule, ce qu'il coûte, et comment le vérifier.
#
# ### Swish
#
# EfficientNet n'emploie pas ReLU, mais ***swish*** (ou SiLU), dont le document ne parle pas :
#
# $$\operatorname{swish}(x) = x \cdot \sigma(x) = \frac{x}{1 + e^{-x}},$$
#
# $$\operatorname{swish}'(x) = \sigma(x)\,\bigl(1 + x\,(1 - \sigma(x))\bigr).$$
#
# Comparons ces deux formules, en NumPy, à l'activation de Keras et à son gradient.


# %%
def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def swish(x):
    return x * sigmoid(x)


def swish_slope(x):
    return sigmoid(x) * (1 + x * (1 - sigmoid(x)))


def summed_swish(x):
    return ops.sum(layers.Activation("swish")(x))


at = np.linspace(-6, 6, 241).astype("float32")
by_keras = ops.convert_to_numpy(layers.Activation("swish")(at))
_, slope_by_keras = value_and_grad(summed_swish, at)
assert np.allclose(by_keras, swish(at), atol=1e-5)
assert np.allclose(slope_by_keras, swish_slope(at), atol=1e-5)
lowest = at[swish(at).argmin()]
print(f"minimum : {number(swish(at).min())}, en x = {number(lowest)}")

# %% tags=["hide-input"] cellView="form"
# @title Dessin : swish et ReLU, leurs valeurs et leurs pentes
fig, axes = plt.subplots(1, 2, figsize=(figures.WIDTH, 3.2))
drawn = (np.maximum(at, 0), swish(at)), ((at > 0) * 1.0, swish_slope(at))
for ax, title, (relu_values, swish_values) in zip(axes, ("valeur", "pente"), drawn):
    ax.plot(at, relu_values, "--", label="ReLU")
    ax.plot(at, swish_values, label="swish")
    ax.set(title=title, xlabel="x")
axes[0].legend()
figures.show(
    fig,
    alt="À gauche, swish suit ReLU loin de zéro, et descend doucement jusqu'à "
    f"{number(swish(at).min())} vers x = {number(lowest, 1)}. À droite, la pente de ReLU saute de "
    f"0 à 1 ; celle de swish varie sans saut, de {number(swish_slope(at).min())} à "
    f"{number(swish_slope(at).max())}.",
)

# %% [markdown]
# Près de zéro, swish n'a pas de coin, et un neurone un peu négatif garde une pente : ReLU l'aurait
# éteint. En échange, il demande une exponentielle, et n'est plus croissant.
#
# ### La convolution séparable
#
# Une multiplication et une addition font une **opération** (la multiplication-addition du
# chapitre 3). Pour chaque position, une convolution ordinaire de côté $k$, de $C$ canaux vers $K$
# filtres, en fait $k^2 C K$. La version séparable filtre chaque canal seul, ce qui en demande
# $k^2 C$, puis mêle les canaux par une convolution 1 × 1, qui en demande $C K$. Le rapport des deux
# est
#
# $$\frac{k^2 C + C K}{k^2 C K} = \frac{1}{K} + \frac{1}{k^2}.$$
#
# Les canaux d'entrée n'y sont pas. Vérifions-le sur de vraies couches : chaque poids d'un noyau
# sert une fois par position de la sortie ; biais et normalisation sont négligés.


# %%
def multiply_adds(model):
    """Opérations pour une image : chaque poids d'un noyau, à chaque position."""
    total = 0
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            total += multiply_adds(layer)
            continue
        kernels = [weight for weight in layer.weights if weight.name.endswith("kernel")]
        if kernels:
            positions = int(np.prod(layer.output.shape[1:-1]))
            total += positions * sum(int(np.prod(kernel.shape)) for kernel in kernels)
    return total


def alone(brick, channels, side=28, **options):
    """Une brique seule, comme petit modèle."""
    inputs = keras.Input((side, side, channels))
    return keras.Model(inputs, brick(inputs, **options))


def standard(x, filters, kernel):
    return layers.Conv2D(filters, kernel, padding="same", use_bias=False)(x)


def separable(x, filters, kernel):
    x = layers.DepthwiseConv2D(kernel, padding="same", use_bias=False)(x)
    return standard(x, filters, 1)


# %%
def pair_tally(channels, filters, kernel):
    """Paramètres et opérations des deux convolutions : (ordinaire, séparable)."""
    options = {"filters": filters, "kernel": kernel}
    models = [alone(brick, channels, **options) for brick in (standard, separable)]
    return [model.count_params() for model in models], [
        multiply_adds(model) for model in models
    ]


# %%
rows, ratios = [], []
for channels, filters, kernel in ((64, 64, 3), (16, 64, 3), (64, 64, 5), (64, 8, 3)):
    parameters, cost = pair_tally(channels, filters, kernel)
    law = 1 / filters + 1 / kernel**2
    assert np.allclose([parameters[1] / parameters[0], cost[1] / cost[0]], law)
    ratios.append(cost[1] / cost[0])
    million = " / ".join(number(value / 1e6, 1) for value in cost)
    few = " / ".join(number(value, 0) for value in parameters)
    rows.append(
        (f"{kernel} × {kernel}, {channels} → {filters}", few, million, number(law, 3))
    )
runtime.show_table(("convolution", "paramètres", "opérations (M)", "rapport"), rows)
verdict("effnet-depthwise-cheaper", max(ratios))

# %% [markdown]
# Dans chaque case, l'ordinaire, puis la séparable. Avec beaucoup de filtres, le rapport tend vers
# $1/k^2$, un neuvième pour un noyau de 3. Le document attribue ce gain aux « convolutions sur
# chaque canal séparément » ; mais la 1 × 1 qui suit garde l'essentiel des opérations restantes,
# sauf quand elle a peu de filtres.
#
# Toutes les convolutions du réseau sont écrites avec deux fonctions : l'une fixe les options (pas
# de biais : la normalisation en a un), l'autre ajoute la normalisation et l'activation.

# %%
KERNEL = {  # un dictionnaire : Keras en fait un initialiseur neuf à chaque couche
    "class_name": "VarianceScaling",
    "config": {"scale": 2.0, "mode": "fan_out", "distribution": "truncated_normal"},
}


# %%
def unit(x, convolution, name, activation=None):
    """Convolution sans biais, normalisation par lot, activation."""
    x = layers.BatchNormalization(name=f"{name}bn")(convolution(x))
    return (
        layers.Activation(activation, name=f"{name}activation")(x) if activation else x
    )


def conv(filters, kernel, strides=1, name=None):
    return layers.Conv2D(
        filters,
        kernel,
        strides,
        padding="same",
        use_bias=False,
        kernel_initializer=KERNEL,
        name=f"{name}conv",
    )


# %% [markdown]
# ### Squeeze-and-excitation
#
# Le bloc SE résume chaque carte par sa moyenne (*squeeze*), passe ce vecteur dans deux couches
# denses, écrites comme des convolutions 1 × 1, et multiplie chaque carte par le coefficient obtenu
# (*excitation*).


# %%
def squeeze_excite(x, reduced, name="", activation="swish"):
    """Multiplie chaque carte par un coefficient de 0 à 1, calculé d'après toutes leurs moyennes."""
    channels = x.shape[-1]
    s = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}se_squeeze")(x)
    options = {"kernel_size": 1, "kernel_initializer": KERNEL}
    s = layers.Conv2D(
        reduced, activation=activation, name=f"{name}se_reduce", **options
    )(s)
    s = layers.Conv2D(
        channels, activation="sigmoid", name=f"{name}se_expand", **options
    )(s)
    return layers.Multiply(name=f"{name}se_excite")([x, s])


# %% tags=["hide-input"] cellView="form"
# @title Dessin : le bloc SE
def caption(layer):
    """Ce qu'on écrit dans la case d'une couche ; None : elle n'est pas dessinée."""
    if isinstance(layer, layers.DepthwiseConv2D):
        return "par canal {}×{}".format(*layer.kernel_size)
    if isinstance(layer, layers.Conv2D):
        groups = f", {layer.groups} groupes" if layer.groups > 1 else ""
        return "conv {}×{}, {}".format(*layer.kernel_size, layer.filters) + groups
    names = {
        layers.InputLayer: "entrée",
        layers.GlobalAveragePooling2D: "moyenne",
        layers.LayerNormalization: "normalisation",
        layers.MultiHeadAttention: "attention",
        layers.Dense: "dense",
        layers.Multiply: "×",
        layers.Dropout: "abandon",
        layers.Add: "+",
    }
    return names.get(type(layer))


CHANNELS, REDUCED = 24, 6
excite = alone(squeeze_excite, CHANNELS, side=8, reduced=REDUCED)
figures.show(
    graphs.layer_graphs({"SE": excite}, caption),
    alt=f"Le bloc SE sur {CHANNELS} canaux : moyenne de chaque carte, convolution 1×1 vers "
    f"{REDUCED} canaux, une autre vers {CHANNELS}, puis produit avec l'entrée, venue par un "
    "raccourci.",
)

# %% [markdown]
# Pour $C$ canaux réduits à $R$, le bloc a $2\,C R + R + C$ paramètres, et $2\,C R$ opérations,
# quelle que soit la taille des cartes. Comparons-le à un calcul indépendant en NumPy, poids et
# biais tirés au hasard : l'écart relatif doit rester sous un millième.


# %%
def excitation(x, layer_weights):
    """Les coefficients du bloc SE, en NumPy : images (n, h, w, c) -> (n, c)."""
    reduce, reduce_bias, expand, expand_bias = layer_weights
    means = x.mean(axis=(1, 2))
    hidden = swish(means @ reduce[0, 0] + reduce_bias)
    return sigmoid(hidden @ expand[0, 0] + expand_bias)


assert excite.count_params() == 2 * CHANNELS * REDUCED + REDUCED + CHANNELS
assert multiply_adds(excite) == 2 * CHANNELS * REDUCED
rng = np.random.default_rng(0)
excite.set_weights([rng.normal(scale=0.3, size=w.shape) for w in excite.get_weights()])
images = rng.normal(1, 2, size=(50, 8, 8, CHANNELS)).astype("float32")
coefficients = excitation(images, excite.get_weights())
by_hand = images * coefficients[:, None, None, :]
gap = (
    np.abs(ops.convert_to_numpy(excite(images)) - by_hand).max() / np.abs(by_hand).max()
)
low, high = coefficients.min(), coefficients.max()
print(f"coefficients de {number(low, 3)} à {number(high, 3)}")
assert gap < 1e-3
assert 0 < low < high < 1

# %% [markdown]
# Réglons maintenant un bloc à la main : il doit éteindre le canal 1 quand le canal 0 est fort. Les
# deux images ne diffèrent que par le canal 0.

# %%
planted = [np.zeros(w.shape) for w in excite.get_weights()]
planted[0][0, 0, 0, 0] = 1  # première couche : lit la moyenne du canal 0
planted[2][0, 0, 0, 1] = -20  # seconde : éteint le canal 1 quand elle est grande
planted[3][:] = 5  # les autres canaux restent ouverts
excite.set_weights(planted)
pair = np.ones((2, 8, 8, CHANNELS), "float32")
pair[0, ..., 0] = 0
passed = ops.convert_to_numpy(excite(pair))[:, 0, 0, 1:3]
rows = [
    (name, number(one, 3), number(two, 3))
    for name, (one, two) in zip(("canal 0 éteint", "canal 0 allumé"), passed)
]
runtime.show_table(("image", "sort du canal 1", "sort du canal 2"), rows)
selective = passed[0].min() > 0.9 and passed[1, 0] < 0.1 and passed[1, 1] > 0.9
verdict("effnet-se-content", bool(selective))

# %% [markdown]
# Le même canal passe ou s'éteint selon l'image : c'est en ce sens qu'on parle d'**attention**. Deux
# limites : le coefficient est le même en tous les points, le bloc ne sait donc pas *où* regarder ;
# et il ne dépasse jamais 1.
#
# ### MBConv, le goulot inversé
#
# Le bloc d'EfficientNet est le bloc résiduel inversé du [chapitre 6](06_pet_segmentation.ipynb),
# plus un bloc SE : il élargit les canaux par une convolution 1 × 1, filtre par canal, recalibre,
# puis projette par une autre 1 × 1, **sans activation** (le *goulot linéaire*). Quand l'entrée et
# la sortie ont la même taille, il les ajoute.


# %%
def mbconv(
    x,
    filters,
    kernel=3,
    strides=1,
    expansion=6,
    drop=0.0,
    se=0.25,
    activation="swish",
    name="",
):
    """Élargir, filtrer par canal, recalibrer, projeter ; ajouter l'entrée si la taille suit."""
    shortcut, channels = x, x.shape[-1]
    if expansion > 1:
        expand = conv(expansion * channels, 1, name=f"{name}expand_")
        x = unit(x, expand, f"{name}expand_", activation)
    depthwise = layers.DepthwiseConv2D(
        kernel,
        strides,
        padding="same",
        use_bias=False,
        depthwise_initializer=KERNEL,
        name=f"{name}dwconv",
    )
    x = unit(x, depthwise, name, activation)
    if se:
        x = squeeze_excite(x, max(1, int(se * channels)), name, activation)
    x = unit(x, conv(filters, 1, name=f"{name}project_"), f"{name}project_")
    if strides == 1 and channels == filters:
        if drop:  # profondeur stochastique : la branche entière s'éteint
            x = layers.Dropout(drop, noise_shape=(None, 1, 1, 1), name=f"{name}drop")(x)
        x = layers.Add(name=f"{name}add")([x, shortcut])
    return x


# %% [markdown]
# Le bloc SE réduit ses moyennes au quart des canaux de l'*entrée* du bloc, non des canaux élargis.
# Dessinons MBConv à côté d'un goulot de ResNet de même largeur : 56 canaux, ceux du troisième étage
# de B4.


# %%
def bottleneck(x, reduced):
    """Le goulot de ResNet : rétrécir, filtrer, élargir."""
    shortcut, channels = x, x.shape[-1]
    x = unit(x, conv(reduced, 1, name="reduce_"), "reduce_", "relu")
    x = unit(x, conv(reduced, 3, name="filter_"), "filter_", "relu")
    x = unit(x, conv(channels, 1, name="widen_"), "widen_")
    return layers.Add()([x, shortcut])


WIDE = 6 * 56
blocks = {
    "goulot": alone(bottleneck, 56, side=48, reduced=14),
    "MBConv": alone(mbconv, 56, side=48, filters=56),
}
figures.show(
    graphs.layer_graphs(blocks, caption),
    alt="Deux blocs à raccourci, de 56 canaux vers 56. Le goulot : conv 1×1 vers 14, conv 3×3, "
    f"conv 1×1 vers 56. MBConv : conv 1×1 vers {WIDE}, 3×3 par canal, bloc SE dont le raccourci "
    "mène à un produit, conv 1×1 vers 56, et la somme avec l'entrée.",
)

# %% [markdown]
# L'un est étroit au milieu, l'autre large : d'où le nom de ***goulot inversé***. Comptons-les, avec
# deux convolutions ordinaires pour comparer.

# %%
models = {
    "conv 3 × 3, 56 canaux": alone(standard, 56, side=48, filters=56, kernel=3),
    "goulot": blocks["goulot"],
    "MBConv": blocks["MBConv"],
    f"conv 3 × 3, {WIDE} canaux": alone(
        standard, WIDE, side=48, filters=WIDE, kernel=3
    ),
}
rows = [
    (name, number(model.count_params(), 0), number(multiply_adds(model) / 1e6, 1))
    for name, model in models.items()
]
runtime.show_table(("bloc", "paramètres", "opérations (M)"), rows)

# %% [markdown]
# MBConv coûte *plus* que la convolution 3 × 3 de même entrée et de même sortie, et bien plus que le
# goulot. Mais il filtre sur 336 canaux, vingt-cinq fois moins cher que la convolution ordinaire de
# cette largeur.
#
# Est-ce bien le bloc de Keras ? Prenons-en quatre dans son EfficientNet-B0 : sans élargissement
# (1a), avec un pas de 2 (2a), avec raccourci (2b), à noyau de 5 (3a). Copions leurs poids, tirés au
# hasard, dans les nôtres, et comparons les sorties.


# %%
def randomised(model, seed=0):
    """Tire au hasard tous les poids, biais et statistiques."""
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        shape = variable.shape
        if "variance" in variable.path or "gamma" in variable.path:
            value = rng.uniform(0.5, 1.5, shape)
        elif "count" in variable.path or "seed" in variable.path:
            continue
        else:
            fan_in = max(1, int(np.prod(shape[:-1])))
            if "depthwise" in variable.path or "dwconv" in variable.path:
                fan_in = shape[0] * shape[1] if len(shape) == 4 else 1
            value = rng.normal(0, fan_in**-0.5 if len(shape) > 1 else 0.1, shape)
        variable.assign(value.astype("float32"))


# %%
def weighted(model):
    return [layer for layer in model.layers if layer.weights]


def copied(source, target):
    """Recopie les poids de `source` dans `target`, couche par couche, dans l'ordre du réseau."""
    for old, new in zip(weighted(source), weighted(target), strict=True):
        for value, weight in zip(old.weights, new.weights, strict=True):
            weight.assign(value)


# %%
def relative_gap(expected, obtained):
    """Plus grand écart, rapporté à la plus grande valeur attendue."""
    a, b = (ops.convert_to_numpy(value) for value in (expected, obtained))
    return float(np.abs(a - b).max() / np.abs(a).max())


def block_gap(network, before, name, **options):
    """Écart entre un bloc de Keras et le nôtre, mêmes poids, même entrée."""
    start = network.get_layer(before).output
    ends = [layer.output for layer in network.layers if layer.name.startswith(name)]
    theirs = keras.Model(start, ends[-1])
    ours = alone(mbconv, start.shape[-1], start.shape[1], **options)
    copied(theirs, ours)
    x = np.random.default_rng(1).normal(size=(2, *start.shape[1:])).astype("float32")
    return relative_gap(theirs(x, training=False), ours(x, training=False))


# %%
def reference_network(side):
    """EfficientNet-B0 de Keras, tous ses poids au hasard, sans softmax."""
    network = keras.applications.EfficientNetB0(
        weights=None, classifier_activation=None, input_shape=(side, side, 3)
    )
    randomised(network)
    return network


reference = reference_network(64)
gaps = {
    "1a": block_gap(reference, "stem_activation", "block1a_", filters=16, expansion=1),
    "2a": block_gap(reference, "block1a_project_bn", "block2a_", filters=24, strides=2),
    "2b": block_gap(reference, "block2a_project_bn", "block2b_", filters=24),
    "3a": block_gap(
        reference, "block2b_add", "block3a_", filters=40, kernel=5, strides=2
    ),
}
wrong = block_gap(
    reference, "block2a_project_bn", "block2b_", filters=24, activation="gelu"
)
rows = [
    (name, scientific(gap)) for name, gap in [*gaps.items(), ("2b, avec GELU", wrong)]
]
runtime.show_table(("bloc", "écart relatif"), rows)
assert max(gaps.values()) < 1e-3 < 1e-2 < wrong

# %% [markdown]
# Aucun écart ; et une activation à peine différente, GELU au lieu de swish, se voit tout de suite.
#
# ### La profondeur stochastique
#
# Dans un bloc à raccourci, une couche d'abandon ([chapitre 2](02_layers_and_training.ipynb)) ne
# tire au sort qu'une fois par image (`noise_shape=(None, 1, 1, 1)`) : la branche passe toute, ou
# disparaît toute, et il ne reste que le raccourci. C'est la ***profondeur stochastique***.
# Voyons-la sur une branche qui vaut 1 partout.

# %%
RATE = 0.2
drop = layers.Dropout(RATE, noise_shape=(None, 1, 1, 1))
ones = np.ones((10_000, 2, 2, 3), "float32")
learning = ops.convert_to_numpy(drop(ones, training=True))
whole = learning.min(axis=(1, 2, 3)) == learning.max(axis=(1, 2, 3))
lost = np.mean(learning[:, 0, 0, 0] == 0)
print("dix images :", " ; ".join(number(value) for value in learning[:10, 0, 0, 0]))
print(
    f"branche entière : {percent(whole.mean())} des images ; perdue : {percent(lost, 1)}"
)
print(f"moyenne : {number(learning.mean(), 3)}")
assert whole.all()
assert abs(lost - RATE) < 0.02
assert abs(learning.mean() - 1) < 0.02
assert np.array_equal(ops.convert_to_numpy(drop(ones, training=False)), ones)

# %% [markdown]
# Une image sur cinq perd sa branche ; pour les autres, elle est multipliée par
# $1/(1 - 0{,}2) = 1{,}25$, si bien que la moyenne ne change pas. Aucun bloc ne peut donc compter
# sur tous les précédents. À l'inférence, rien n'est perdu. Dans EfficientNet, le taux croît de 0 au
# premier bloc à près de 0,2 au dernier.

# %% [markdown]
# ## EfficientNet-B4, bloc par bloc
#
# ### Le plan
#
# Toute la famille a le même plan : une ***tige*** (une convolution 3 × 3 de pas 2), sept **étages**
# de blocs MBConv, une convolution 1 × 1, une moyenne globale, une couche dense. Voici les étages du
# plus petit, B0, et ce qui change d'un membre à l'autre : largeur, profondeur, côté de l'image,
# taux d'abandon avant la dernière couche.


# %%
class Stage(NamedTuple):
    kernel: int
    strides: int
    expansion: int  # facteur d'élargissement
    filters: int
    blocks: int


class Scale(NamedTuple):
    width: float
    depth: float
    side: int  # résolution d'entrée
    dropout: float


# %%
STAGES = (  # EfficientNet-B0
    Stage(3, 1, 1, 16, 1),
    Stage(3, 2, 6, 24, 2),
    Stage(5, 2, 6, 40, 2),
    Stage(3, 2, 6, 80, 3),
    Stage(5, 1, 6, 112, 3),
    Stage(5, 2, 6, 192, 4),
    Stage(3, 1, 6, 320, 1),
)


SCALES = {
    "B0": Scale(1.0, 1.0, 224, 0.2),
    "B1": Scale(1.0, 1.1, 240, 0.2),
    "B2": Scale(1.1, 1.2, 260, 0.3),
    "B3": Scale(1.2, 1.4, 300, 0.3),
    "B4": Scale(1.4, 1.8, 380, 0.4),
    "B5": Scale(1.6, 2.2, 456, 0.4),
    "B6": Scale(1.8, 2.6, 528, 0.5),
    "B7": Scale(2.0, 3.1, 600, 0.5),
}


# %% [markdown]
# La largeur multiplie les canaux, que l'on arrondit à un multiple de 8 ; la profondeur multiplie le
# nombre de blocs d'un étage, que l'on arrondit vers le haut.


# %%
def round_filters(filters, width, divisor=8):
    """Nombre de canaux élargi, arrondi au multiple de 8 le plus proche, jamais 10 % plus bas."""
    wanted = filters * width
    rounded = max(divisor, int(wanted + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * wanted else rounded


def round_blocks(blocks, depth):
    return int(np.ceil(blocks * depth))


# %% [markdown]
# Empilons les étages. Les noms de couches suivent ceux de Keras, pour pouvoir reprendre une carte
# intermédiaire.


# %%
def features(
    x, width=1.0, depth=1.0, stages=STAGES, drop=0.2, head=1280, stem=32, **options
):
    """Du pixel aux cartes de caractéristiques : tige, blocs, dernière convolution 1 × 1."""
    activation = options.get("activation", "swish")
    x = unit(x, conv(round_filters(stem, width), 3, 2, "stem_"), "stem_", activation)
    counts = [round_blocks(stage.blocks, depth) for stage in stages]
    done = 0
    for level, (stage, count) in enumerate(zip(stages, counts), start=1):
        for k in range(count):
            x = mbconv(
                x,
                round_filters(stage.filters, width),
                stage.kernel,
                stage.strides if k == 0 else 1,
                stage.expansion,
                drop=drop * done / sum(counts),
                name=f"block{level}{chr(97 + k)}_",
                **options,
            )
            done += 1
    return unit(x, conv(round_filters(head, width), 1, name="top_"), "top_", activation)


# %%
def efficientnet(variant="B0", classes=1000, side=None, activation="softmax", top=True):
    """Octets (n, côté, côté, 3) -> probabilités ; `top=False` : cartes de caractéristiques."""
    scale = SCALES[variant]
    side = side or scale.side
    inputs = keras.Input((side, side, 3))
    x = layers.Rescaling(1 / 255, name="rescaling")(inputs)
    x = layers.Normalization(axis=-1, name="normalization")(x)
    x = features(x, scale.width, scale.depth)
    if top:
        x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
        x = layers.Dropout(scale.dropout, name="top_dropout")(x)
        x = layers.Dense(classes, activation=activation, name="predictions")(x)
    return keras.Model(inputs, x, name=f"efficientnet_{variant.lower()}")


# %% [markdown]
# Le réseau attend des **octets**, de 0 à 255 : sa première couche les divise par 255. La suivante,
# `Normalization`, centre et réduit les trois couleurs.
#
# ### Les comptes
#
# Construisons B4, et comparons ses paramètres à ceux de Keras, tableau par tableau.

# %%
b4 = efficientnet("B4")
learnable = sum(int(np.prod(weight.shape)) for weight in b4.trainable_weights)
published = keras.applications.EfficientNetB4(weights=None)
print(
    f"{number(b4.count_params(), 0)} paramètres, dont {number(learnable, 0)} à apprendre"
)
print(
    f"ceux de Keras : {number(published.count_params(), 0)} ; entrée {published.input_shape[1:]}"
)
assert [w.shape for w in b4.weights] == [w.shape for w in published.weights]
assert b4.get_layer("normalization").count_params() == 7
verdict("effnet-resolution", published.input_shape[1:])

# %% [markdown]
# Les comptes sont égaux. Sept paramètres sont ceux de la normalisation des couleurs, que d'autres
# bibliothèques ne comptent pas.
#
# Suivons une image à travers le réseau.


# %%
def stage_of(layer):
    """Le nom de l'étage d'une couche : « tige », « 1 » à « 7 », « sommet », « tête »."""
    name = layer.name
    if name.startswith("block"):
        return name[5]
    if name.startswith("top_") and name != "top_dropout":
        return "sommet"
    return "tige" if name.startswith(("stem", "resc", "norm")) else "tête"


def stage_table(model):
    """Par étage : blocs, carte de sortie, paramètres."""
    table = {}
    for layer in model.layers[1:]:
        row = table.setdefault(stage_of(layer), [0, None, 0])
        row[0] += isinstance(layer, layers.DepthwiseConv2D)
        row[1] = layer.output.shape[1:]
        row[2] += layer.count_params()
    return table


# %%
table = stage_table(b4)
rows = [
    (name, count or "–", " × ".join(number(n, 0) for n in shape), number(parameters, 0))
    for name, (count, shape, parameters) in table.items()
]
runtime.show_table(("étage", "blocs MBConv", "sortie", "paramètres"), rows)

# %% [markdown]
# Comptons les blocs par leurs convolutions par canal, et les blocs SE par leurs produits.

# %%
kinds = (layers.DepthwiseConv2D, layers.Multiply)
found, excited = (sum(isinstance(layer, kind) for layer in b4.layers) for kind in kinds)
repeats = [table[str(k)][0] for k in range(1, 8)]
verdict("effnet-blocks", found)
print("blocs par étage :", ", ".join(map(str, repeats)))
verdict("effnet-levels", len(repeats) > 1 < min(repeats))
verdict("effnet-se-share", "tous" if excited == found else "presque tous")

# %% [markdown]
# Le document dit aussi : « La première couche commence avec 48 canaux, et ce nombre augmente
# progressivement. »

# %%
channels = [shape[-1] for name, (_, shape, _) in table.items() if name != "tête"]
print(" → ".join(number(n, 0) for n in channels))
verdict("effnet-stem", channels[0])
verdict("effnet-channels-grow", bool(np.all(np.diff(channels) > 0)))

# %% [markdown]
# À l'intérieur de chaque bloc, dit encore le document, les canaux montent puis redescendent.


# %%
def block_widths(model, name):
    """Canaux d'un bloc MBConv : à l'entrée, au filtre par canal, à la sortie."""
    first = next(layer for layer in model.layers if layer.name.startswith(f"{name}_"))
    later = [
        model.get_layer(f"{name}_{part}").output for part in ("dwconv", "project_conv")
    ]
    return [x.shape[-1] for x in (first.input, *later)]


filters = [layer for layer in b4.layers if isinstance(layer, layers.DepthwiseConv2D)]
widths = [block_widths(b4, layer.name.removesuffix("_dwconv")) for layer in filters]
for k in (0, 2, 31):
    print(f"bloc {k + 1} :", " → ".join(map(str, widths[k])))
verdict(
    "effnet-inverted", sum(before < middle > after for before, middle, after in widths)
)

# %% [markdown]
# ### Où vont les opérations ?
#
# Rangeons-les, avec les paramètres, par genre de couche.


# %%
def kind_of(layer):
    """À quoi sert une couche à noyau."""
    for part, kind in (
        ("dwconv", "par canal"),
        ("se_", "SE"),
        ("expand_", "élargir"),
        ("project", "projeter"),
        ("stem", "tige"),
        ("top", "sommet"),
    ):
        if part in layer.name:
            return kind
    return "dense"


def by_kind(model):
    """{genre de couche: [paramètres, opérations]}"""
    shares = {}
    for layer in model.layers:
        if any(weight.name.endswith("kernel") for weight in layer.weights):
            row = shares.setdefault(kind_of(layer), [0, 0])
            row[0] += layer.count_params()
            row[1] += multiply_adds(keras.Model(layer.input, layer.output))
    return shares


# %%
total = multiply_adds(b4)
shares = by_kind(b4)
assert sum(cost for _, cost in shares.values()) == total
rows = [
    (kind, percent(parameters / b4.count_params(), 1), percent(cost / total, 1))
    for kind, (parameters, cost) in shares.items()
]
print(f"{number(total / 1e9)} milliards d'opérations")
runtime.show_table(("couches", "paramètres", "opérations"), rows)
print(f"de plus que les 4,2 milliards de l'article : {percent(total / 4.2e9 - 1, 1)}")
in_blocks = sum(shares[kind][1] for kind in ("élargir", "par canal", "SE", "projeter"))
verdict("effnet-central-block", in_blocks / total)

# %% [markdown]
# Torchvision compte comme nous 4,39 milliards. Les convolutions par canal, celles qui *regardent*
# autour d'un point, n'en font qu'une petite part : les 1 × 1 font presque tout. Les blocs SE ne
# pèsent que dans les paramètres.
#
# ### Est-ce le réseau de Keras ?
#
# Pour le prouver, tirons au hasard tous les poids du réseau de Keras, copions-les dans le nôtre, et
# comparons les scores, *avant* le softmax, qui écrase les écarts. Mais d'abord, donnons deux images
# très différentes au B0 de Keras, tiré au hasard plus haut.


# %%
def proof_images(side, count=2):
    """Des images de bruit, de couleurs et de contrastes différents."""
    rng = np.random.default_rng(1)
    noise = rng.uniform(0, 255, size=(count, side, side, 3))
    return (noise * rng.uniform(0.2, 1, size=(count, 1, 1, 3))).astype("float32")


def image_gap(network, images):
    """Écart relatif entre les réponses à deux images."""
    first, second = ops.convert_to_numpy(network(images, training=False))
    return relative_gap(first, second)


# %%
images = proof_images(64)
blind = image_gap(reference, images)
print(f"écart entre les réponses à deux images : {scientific(blind)}")
assert blind < 1e-3

# %% [markdown]
# Les deux réponses sont les mêmes, à la précision des calculs. Swish et SE réduisent le signal de
# couche en couche, et les normalisations, aux statistiques tirées au hasard, ne le rétablissent
# pas : il ne reste que la somme des biais. La comparaison passerait, et ne prouverait rien.
#
# Donnons donc aux normalisations les statistiques de ce qu'elles reçoivent : une inertie nulle, et
# un seul passage en mode d'entraînement suffit. La couche `Normalization`, elle, ne lit ses
# statistiques qu'à l'appel de `finalize_state`.


# %%
def finalised(network):
    """Fait lire à la normalisation des couleurs les statistiques qu'on vient de lui donner."""
    for layer in network.layers:
        if isinstance(layer, layers.Normalization):
            layer.finalize_state()


def calibrated(network, images):
    """Donne à chaque normalisation par lots les statistiques de ce qu'elle reçoit."""
    finalised(network)
    for layer in network.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = 0.0
    network(images, training=True)


# %%
calibrated(reference, images)
seeing = image_gap(reference, images)
print(f"écart entre les réponses à deux images : {number(seeing)}")
assert seeing > 1e-2

# %% [markdown]
# Le réseau distingue maintenant les images : comparons. Pour être sûrs que la comparaison peut
# échouer, remplaçons ensuite une seule activation par une GELU : la première, la plus difficile à
# voir.


# %%
def dropped(network):
    """Les taux d'abandon et leurs formes : l'inférence ne les voit pas."""
    kept = [layer for layer in network.layers if isinstance(layer, layers.Dropout)]
    return [(round(layer.rate, 6), layer.noise_shape) for layer in kept]


def proof(theirs, ours, images):
    """Écart entre le réseau de Keras et le nôtre ; le même, une GELU plantée dans la tige."""
    copied(theirs, ours)
    finalised(ours)
    assert dropped(ours) == dropped(theirs)
    expected = theirs(images, training=False)
    same = relative_gap(expected, ours(images, training=False))
    ours.get_layer("stem_activation").activation = keras.activations.gelu
    return same, relative_gap(expected, ours(images, training=False))


# %%
b0 = efficientnet("B0", side=64, activation=None)
gaps = {"B0": proof(reference, b0, images)}
if runtime.profile() == "full":  # B4, au côté de 380 pixels : une demi-minute
    for network in (published, b4):
        network.layers[-1].activation = keras.activations.linear  # au lieu du softmax
    randomised(published)
    images = proof_images(SCALES["B4"].side)
    calibrated(published, images)
    gaps["B4"] = proof(published, b4, images)
rows = [(name, *map(scientific, pair)) for name, pair in gaps.items()]
runtime.show_table(("réseau", "écart relatif", "avec une GELU plantée"), rows)
assert all(same < 1e-3 < 1e-2 < wrong for same, wrong in gaps.values())
del reference, b0, b4

# %% [markdown]
# Notre B0 et notre B4 calculent la même fonction que ceux de Keras.
#
# ### Le même code fait Lite0
#
# EfficientNet-**Lite0** est un B0 pour les téléphones : sans bloc SE, avec ReLU6 (ReLU plafonnée
# à 6) au lieu de swish. Nos données contiennent ses poids appris sur ImageNet : tout le transfert
# les emploiera. Construisons-le avec le même code, et comparons-le à celui de `utils/zoo.py`, qui
# lit ces poids.


# %%
def lite0(side):
    """EfficientNet-Lite0 : le même code, sans SE, avec ReLU6 ; entrée déjà mise à l'échelle."""
    inputs = keras.Input((side, side, 3))
    x = features(inputs, drop=0.0, se=0, activation="relu6")
    return keras.Model(inputs, x, name="efficientnet_lite0")


# %%
known = zoo.efficientnet_lite0(64, top=False)  # rend déjà la moyenne des cartes
randomised(known)
images = proof_images(64) / 128 - 1
calibrated(known, images)
light = lite0(64)
copied(known, light)
maps = ops.convert_to_numpy(light(images, training=False))
gap = relative_gap(known(images, training=False), maps.mean(axis=(1, 2)))
print(f"{number(light.count_params(), 0)} paramètres ; écart {scientific(gap)}")
assert gap < 1e-3
assert image_gap(known, images) > 1e-2
del known, light

# %% [markdown]
# ### Le code du document
#
# Voici son code (les deux appels coupés pour la page) :
#
# ```python
# # Charger le modèle EfficientNet-B4 pré-entrainé
# base_model = EfficientNetB4(weights="imagenet", include_top=False,
#                             input_shape=(380, 380, 3))
#
# # Ajouter des couches finales
# x = base_model.output
# x = GlobalAveragePooling2D()(x)
# x = Dense(1024, activation="relu")(x)
# output = Dense(10, activation="softmax")(x)  # Pour une classification de 10 classes
#
# # Modèle final
# model = Model(inputs=base_model.input, outputs=output)
# model.compile(optimizer="adam", loss="categorical_crossentropy",
#               metrics=["accuracy"])
# ```
#
# Sans les poids d'ImageNet, sa base est le réseau de Keras que nous venons de comparer, moins sa
# tête : reprenons-le, et exécutons la suite.

# %%
base_model = keras.Model(published.input, published.get_layer("top_activation").output)
x = base_model.output
x = layers.GlobalAveragePooling2D()(x)
x = layers.Dense(1024, activation="relu")(x)
output = layers.Dense(10, activation="softmax")(x)
model = keras.Model(inputs=base_model.input, outputs=output)
model.compile(optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"])
print(f"{number(model.count_params(), 0)} paramètres")
assert model.count_params() == 19_520_105
verdict("effnet-code-classes", model.output_shape[-1])

maps, vector = base_model.output_shape[1:], model.layers[-3].output.shape[1:]
print(f"{maps} → {vector}")
verdict("effnet-code-features", maps)
verdict("effnet-code-pooling", int(np.prod(maps) / np.prod(vector)))

# %% [markdown]
# Gelons la base, ce que le document ne fait pas : il ne reste à apprendre que la tête, dix fois
# moins de paramètres.

# %%
base_model.trainable = False
free = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
print(f"{number(free, 0)} paramètres appris")
assert free == 1792 * 1024 + 1024 + 1024 * 10 + 10 == 1_846_282
verdict("effnet-code-head", free + base_model.count_params() == model.count_params())

# %% [markdown]
# La perte `categorical_crossentropy` attend des étiquettes **un parmi dix** : un vecteur de dix
# nombres, un seul 1. Des étiquettes entières l'arrêtent ; il leur faudrait
# `sparse_categorical_crossentropy`. Le document ne montre aucune donnée.

# %%
labels = np.array([3, 7])
answers = np.full((2, 10), 0.1, "float32")
loss = keras.losses.get(model.loss)
_ = failure(loss, labels, answers)
one_hot = keras.utils.to_categorical(labels, 10)
print(f"une étiquette : {one_hot[0].astype(int)}")
print(f"perte : {number(float(ops.mean(loss(one_hot, answers))), 3)} = ln 10")

# %% [markdown]
# Reste sa dernière ligne, le journal du téléchargement : « 71686520/71686520 ». Est-ce la taille
# des poids, à quatre octets par paramètre ?

# %%
bare = 4 * base_model.count_params()
verdict("effnet-log-size", bare)
print(f"le journal, de plus que les poids : {percent(71_686_520 / bare - 1, 1)}")
del base_model, model, output, published, x
keras.utils.clear_session()

# %% [markdown]
# ## La mise à l'échelle composée
#
# ### La formule
#
# B4 est un B0 agrandi. De combien, et dans quel sens ? Le document écrit :
#
# > $\text{Resolution} = \alpha^k$, $\quad\text{Width} = \beta^k$, $\quad\text{Depth} = \gamma^k$
#
# « où $\alpha$, $\beta$ et $\gamma$ sont des constantes définies pour maintenir un équilibre entre
# ces trois paramètres ». Il n'en donne ni la valeur, ni la contrainte. Dans
# [l'article](https://arxiv.org/abs/1905.11946) (2019), les rôles sont autres :
#
# $$d = \alpha^\varphi, \qquad w = \beta^\varphi, \qquad r = \gamma^\varphi,$$
#
# $$\alpha\,\beta^2\,\gamma^2 \approx 2, \qquad \alpha, \beta, \gamma \ge 1,$$
#
# où $d$ multiplie la profondeur, $w$ la largeur, $r$ le côté de l'image, avec $\alpha = 1{,}2$,
# $\beta = 1{,}1$ et $\gamma = 1{,}15$. Le coût croît comme $d\,w^2 r^2$ ; augmenter $\varphi$ de 1
# devrait donc le doubler.
#
# ### Compter sans construire
#
# Pour étudier des réseaux agrandis, le plan suffit. Voici le compte d'un bloc, puis du réseau, en
# arithmétique seule.


# %%
def block_tally(channels, filters, stage, before, after):
    """Paramètres et opérations d'un bloc MBConv ; côtés des cartes avant et après son filtre."""
    wide, reduced = stage.expansion * channels, max(1, channels // 4)
    expand = channels * wide if stage.expansion > 1 else 0
    filtering = (stage.kernel**2 + filters) * wide  # par canal, puis projection
    excite = 2 * wide * reduced
    norms = 4 * (wide + filters) + (4 * wide if expand else 0)
    parameters = expand + filtering + excite + wide + reduced + norms
    return parameters, before**2 * expand + after**2 * filtering + excite


def tally(width, depth, side, classes=1000):
    """Blocs, paramètres et opérations d'un EfficientNet, sans le construire."""
    blocks, side, channels = 0, -(-side // 2), round_filters(32, width)
    parameters, cost = 7 + 31 * channels, side**2 * 27 * channels  # couleurs, tige
    for stage in STAGES:
        filters = round_filters(stage.filters, width)
        for k in range(round_blocks(stage.blocks, depth)):
            after = -(-side // stage.strides) if k == 0 else side
            more = block_tally(channels, filters, stage, side, after)
            parameters, cost, blocks = parameters + more[0], cost + more[1], blocks + 1
            channels, side = filters, after
    head = round_filters(1280, width)
    parameters += (channels + 4) * head + (head + 1) * classes
    return blocks, parameters, cost + (side**2 * channels + classes) * head


# %%
blocks, parameters, cost = tally(*SCALES["B4"][:3])
print(
    f"B4 : {blocks} blocs, {number(parameters, 0)} paramètres, {number(cost, 0)} opérations"
)
assert (blocks, parameters, cost) == (found, 19_466_823, total)

# %% [markdown]
# Ce sont les nombres du réseau construit plus haut. Le profil complet le vérifie sur les huit
# réseaux, les nôtres et ceux de Keras.

# %%
FAMILY = runtime.pick(quick=(), full=tuple(SCALES))


def family_run():
    """Pour chaque membre : notre compte, notre réseau, celui de Keras."""
    rows = {}
    for variant in FAMILY:
        blocks, parameters, cost = tally(*SCALES[variant][:3])
        ours = efficientnet(variant)
        theirs = getattr(keras.applications, f"EfficientNet{variant}")(weights=None)
        filters = [isinstance(layer, layers.DepthwiseConv2D) for layer in theirs.layers]
        shapes = [[w.shape for w in model.weights] for model in (ours, theirs)]
        rows[variant] = {
            "blocks": [blocks, sum(filters)],
            "parameters": [parameters, ours.count_params(), theirs.count_params()],
            "cost": [cost, multiply_adds(ours), multiply_adds(theirs)],
            "same_shapes": shapes[0] == shapes[1],
        }
        del ours, theirs
        keras.utils.clear_session()
    return rows


family = experiment("family", family_run)

# %%
for variant, row in family.values.items():
    for values in (row["blocks"], row["parameters"], row["cost"]):
        assert len(set(values)) == 1, variant
    assert row["same_shapes"], variant
print("comptés, construits et de Keras, tous égaux :", ", ".join(family.values))

# %% [markdown]
# ### La loi de coût
#
# Doublons la profondeur de B0, ou multiplions sa largeur ou son côté par $\sqrt 2$ à peu près.
# Ajoutons le pas que prescrit la formule, $\varphi = 1$ : les trois à la fois, par leurs
# constantes.

# %%
ALPHA, BETA, GAMMA = 1.2, 1.1, 1.15
larger = {  # largeur, profondeur, côté
    "B0": (1.0, 1.0, 224),
    "profondeur": (1.0, 2.0, 224),
    "largeur": (1.4, 1.0, 224),
    "côté": (1.0, 1.0, 320),
    "φ = 1": (BETA, ALPHA, round(224 * GAMMA)),
}
base_cost = tally(*larger["B0"])[2]
rows = []
for name, (width, depth, side) in larger.items():
    blocks, _, cost = tally(width, depth, side)
    wanted, ratio = depth * width**2 * (side / 224) ** 2, cost / base_cost
    rows.append((name, blocks, number(cost / 1e6, 0), number(wanted), number(ratio)))
    assert name == "φ = 1" or abs(ratio / wanted - 1) < 0.1
runtime.show_table(("agrandir", "blocs", "opérations (M)", "d w² r²", "compté"), rows)

# %% [markdown]
# La loi tient à quelques centièmes. Mais $\varphi = 1$ fait plus que doubler B0, à cause des
# arrondis : 23 blocs au lieu de 19, des cartes de 9 points au lieu de 8.
#
# Voici les huit membres de la famille, comptés de la même façon.

# %%
rows = []
for variant, scale in SCALES.items():
    blocks, parameters, cost = tally(*scale[:3])
    plan = f"{number(scale.width, 1)} ; {number(scale.depth, 1)} ; {scale.side}"
    rows.append(
        (variant, plan, blocks, number(parameters / 1e6, 1), number(cost / 1e9))
    )
header = ("réseau", "w ; d ; côté", "blocs", "paramètres (M)", "opérations (G)")
runtime.show_table(header, rows)
versions = {
    tuple(round_filters(stage.filters, scale.width) for stage in STAGES)
    + tuple(round_blocks(stage.blocks, scale.depth) for stage in STAGES)
    for scale in SCALES.values()
}
verdict("effnet-versions-differ", len(versions))
b0, b4 = SCALES["B0"], SCALES["B4"]
grown = [large > small for large, small in zip(b4[:3], b0[:3])]
verdict("effnet-b4-larger", all(grown))

# %% [markdown]
# ### Des puissances, vraiment ?
#
# Chaque coefficient publié devrait être une puissance de sa constante, avec le *même* exposant
# $\varphi$ pour les trois. Calculons l'exposant que chacun suppose :
# $\varphi = \ln d / \ln \alpha$, et de même pour les autres.


# %%
def exponents(scale, depth=ALPHA, width=BETA, side=GAMMA):
    """L'exposant que suppose chaque coefficient publié : profondeur, largeur, côté."""
    ratios = np.array([scale.depth, scale.width, scale.side / SCALES["B0"].side])
    return np.log(ratios) / np.log([depth, width, side])


rows = [
    (variant, *(number(value) for value in exponents(scale)))
    for variant, scale in SCALES.items()
    if variant != "B0"
]
runtime.show_table(("réseau", "φ de d", "φ de w", "φ de r"), rows)

# %% [markdown]
# Les trois exposants ne s'accordent que pour B2, qui est le $\varphi = 1$ de l'article. Ensuite, la
# profondeur prend du retard : « $\varphi = 4$ pour B4 » est une idée commode, et fausse.
#
# Jugeons maintenant la version du document. Il y a six façons d'attribuer les trois constantes aux
# trois dimensions ; la bonne accorde le mieux les exposants, de B2 à B7.


# %%
def disagreement(constants):
    """Écart type des trois exposants, rapporté à leur moyenne, de B2 à B7."""
    found = [exponents(SCALES[f"B{k}"], *constants) for k in range(2, 8)]
    return float(np.mean([np.std(row) / np.mean(row) for row in found]))


GREEK = {ALPHA: "α", BETA: "β", GAMMA: "γ"}
readings = {
    ", ".join(f"{role} = {GREEK[value]}" for role, value in zip("dwr", constants)): (
        constants[0] * constants[1] ** 2 * constants[2] ** 2,
        disagreement(constants),
    )
    for constants in itertools.permutations((ALPHA, BETA, GAMMA))
}
rows = [(name, number(law), percent(gap)) for name, (law, gap) in readings.items()]
runtime.show_table(("attribution", "d w² r²", "désaccord"), rows)
verdict("effnet-compound-formula", min(readings, key=lambda name: readings[name][1]))

# %% [markdown]
# L'attribution de l'article l'emporte nettement. Celle du document, la dernière ligne, respecte
# pourtant mieux la contrainte : 2,00 au lieu de 1,92. Comparons les réseaux qu'elles donnent.

# %%
rows = []
for name, depth, side in (("article", ALPHA, GAMMA), ("document", GAMMA, ALPHA)):
    for phi in (1, 4):
        pixels = round(224 * side**phi)
        blocks, parameters, cost = tally(BETA**phi, depth**phi, pixels)
        size = f"{number(parameters / 1e6, 1)} ; {number(cost / 1e9, 1)}"
        rows.append((f"{name}, φ = {phi}", f"{pixels} px", blocks, size))
blocks, parameters, cost = tally(*SCALES["B4"][:3])
size = f"{number(parameters / 1e6, 1)} ; {number(cost / 1e9, 1)}"
rows.append(("B4 publié", f"{SCALES['B4'].side} px", blocks, size))
runtime.show_table(("réseau", "côté", "blocs", "paramètres (M) ; opérations (G)"), rows)

# %% [markdown]
# Avec $\varphi = 4$, la formule du document demande des images de 464 pixels, au lieu de 380, et
# moitié plus d'opérations que B4. Le nombre de paramètres, par hasard, en est tout proche : compter
# ne suffit pas.
#
# ### D'où viennent les constantes ?
#
# L'article les a **cherchées**, sur B0 : une grille de $(\alpha, \beta, \gamma)$ qui doublent le
# coût, un entraînement pour chaque point, et l'on garde le plus exact. Puis $\varphi$ seul varie.
# Rejouons cette recherche en petit : un réseau de deux étages MBConv, sur des vêtements réduits à
# 10 pixels de côté.


# %%
def small_network(blocks, filters, side):
    """Deux étages de `blocks` blocs MBConv, de `filters` puis deux fois `filters` canaux."""
    inputs = keras.Input((side, side, 1))
    x = unit(inputs, conv(filters, 3, name="stem_"), "stem_", "swish")
    for stage in (1, 2):
        for k in range(blocks):
            strides = 2 if stage == 2 and k == 0 else 1
            name = f"block{stage}{chr(97 + k)}_"
            x = mbconv(x, stage * filters, strides=strides, expansion=4, name=name)
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, layers.Dense(10)(x))
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = 0.9  # l'entraînement est court
    return model


def small_cost(blocks, filters, side):
    """Les opérations de ce réseau, sans le construire : le modèle de coût de la recherche."""
    cost, channels = side**2 * 9 * filters + 20 * filters, filters
    for level in (1, 2):
        for k in range(blocks):
            stage = Stage(3, level if k == 0 else 1, 4, level * filters, 1)
            after = -(-side // stage.strides)
            cost += block_tally(channels, stage.filters, stage, side, after)[1]
            channels, side = stage.filters, after
    return cost


# %%
BASE = (3, 10, 10)  # blocs par étage, filtres, côté


def relative_cost(blocks, filters, side):
    return small_cost(blocks, filters, side) / small_cost(*BASE)


def fitted(blocks, side, budget):
    """Le nombre de filtres qui approche le mieux un coût, rapporté à celui de la base."""
    gaps = {
        filters: abs(relative_cost(blocks, filters, side) - budget)
        for filters in range(BASE[1], 40)
    }
    return min(gaps, key=gaps.get)


def doubled():
    """Les réseaux d'une grille qui doublent le coût de la base, à 10 % près."""
    sizes = itertools.product((3, 4, 6), (10, 11, 14))
    plans = [(blocks, fitted(blocks, side, 2), side) for blocks, side in sizes]
    return [plan for plan in plans if abs(relative_cost(*plan) - 2) <= 0.2]


SEARCHED = doubled()
grown = [sum(new > old for new, old in zip(plan, BASE)) for plan in SEARCHED]
several = sum(count > 1 for count in grown)
print(f"{len(SEARCHED)} réseaux doublent le coût, à 10 % près")
print(f"{several} agrandissent plusieurs dimensions, {len(grown) - several} une seule")
assert {1, 2, 3} <= set(grown)

# %% [markdown]
# Entraînons-les plusieurs fois : seuls changent le tirage des poids et l'ordre des images. Des
# images d'apprentissage mises de côté les jugent : le test ne choisit rien.

# %%
SMALL_IMAGES = runtime.pick(quick=16, full=20_000, cpu=2_000)
SMALL_TESTED = runtime.pick(quick=16, full=10_000, cpu=3_000)
SMALL_EPOCHS = runtime.pick(quick=1, full=10, cpu=4)


def shrunk(images, side):
    """Vêtements en octets (n, 28, 28) -> valeurs de 0 à 1, (n, side, side, 1)."""
    x = images[..., None].astype("float32") / 255
    return ops.convert_to_numpy(ops.image.resize(x, (side, side), antialias=True))


def held_out():
    """Les derniers vêtements d'apprentissage : ils servent à choisir."""
    return garments.x_train[-SMALL_TESTED:], garments.y_train[-SMALL_TESTED:]


def test_garments():
    return garments.x_test[:SMALL_TESTED], garments.y_test[:SMALL_TESTED]


# %%
def small_accuracy(plan, seed, judged):
    """Exactitude, sur les vêtements `judged`, d'un petit réseau entraîné sur d'autres."""
    keras.utils.set_random_seed(seed)
    model, side = small_network(*plan), plan[-1]
    model.compile(
        optimizer=keras.optimizers.Adam(3e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        run_eagerly=EAGER,
    )
    x, y = (
        shrunk(garments.x_train[:SMALL_IMAGES], side),
        garments.y_train[:SMALL_IMAGES],
    )
    model.fit(x, y, batch_size=32, epochs=SMALL_EPOCHS, verbose=0)
    images, y = judged
    scores = model.predict(shrunk(images, side), batch_size=500, verbose=0)
    keras.utils.clear_session()
    return float(np.mean(scores.argmax(axis=-1) == y))


# %%
SEARCH_PLANS = runtime.pick(quick=[(1, 4, 10)], full=SEARCHED)
SEARCH_SEEDS = runtime.pick(quick=(0,), full=(0, 1, 2), cpu=(0, 1))


def search_run():
    """Chaque réseau de coût double : α, β, γ, son coût, ses exactitudes sans le test."""
    rows = []
    for plan in SEARCH_PLANS:
        constants = [value / base for value, base in zip(plan, BASE)]
        runs = [small_accuracy(plan, seed, held_out()) for seed in SEARCH_SEEDS]
        rows.append(
            {"constants": constants, "cost": relative_cost(*plan), "accuracy": runs}
        )
    return {"plans": rows}


search = experiment("search", search_run)

# %%
rows = [
    (
        " ; ".join(number(value) for value in row["constants"]),
        number(row["cost"]),
        spread(row["accuracy"]),
    )
    for row in sorted(search.values["plans"], key=lambda row: -np.mean(row["accuracy"]))
]
runtime.show_table(("α ; β ; γ", "coût", "exactitude, sans le test"), rows)

# %% [markdown]
# Élargir seulement donne la meilleure moyenne, approfondir seulement la pire, et leurs graines ne
# se croisent pas ; les quatre autres se recouvrent. La recherche ne retrouve donc pas les
# constantes de l'article : un réseau si petit manquait de canaux plus que de couches. Et quand les
# écarts sont d'un ou deux points, il faut bien plus que nos deux graines.
#
# ### Une dimension, ou les trois ?
#
# Le document oppose aux méthodes qui « augmentent soit la profondeur, la largeur, soit la
# résolution de manière isolée » une règle qui « ajuste simultanément les trois dimensions ».
# Comparons-les, pour un coût de quatre fois celui de la base, à 10 % près. La version composée suit
# les constantes de l'article, avec $\varphi = 2$ : la profondeur et le côté, multipliés par 1,44 et
# 1,32, sont arrondis à 4 blocs par étage et 13 pixels ; la largeur fait le compte.

# %%
SCALED = {  # blocs par étage, filtres, côté
    "base": BASE,
    "profondeur": (12, 10, 10),
    "largeur": (3, fitted(3, 10, 4), 10),
    "résolution": (3, 10, 20),
    "les trois": (4, fitted(4, 13, 4), 13),
}
assert all(
    name == "base" or abs(relative_cost(*plan) / 4 - 1) < 0.1
    for name, plan in SCALED.items()
)


# %%
def compound_run():
    """Exactitudes de test de chaque façon d'agrandir, graine par graine."""
    names = runtime.pick(quick=(), full=tuple(SCALED))
    return {
        name: [small_accuracy(SCALED[name], seed, test_garments()) for seed in SEEDS]
        for name in names
    }


compound = experiment("compound", compound_run)

# %%
rows = []
for name, runs in sorted(compound.values.items(), key=lambda item: -np.mean(item[1])):
    blocks, filters, side = SCALED[name]
    plan = f"{2 * blocks} blocs, {filters} filtres, {side} px"
    rows.append((name, plan, number(relative_cost(*SCALED[name])), spread(runs)))
runtime.show_table(("agrandir", "réseau", "coût", "exactitude"), rows)
means = [np.mean(runs) for runs in compound.values.values()]
noise = max(np.ptp(runs) for runs in compound.values.values())
print(f"de la meilleure moyenne à la pire : {number(np.ptp(means), 3)}")
print(f"d'une graine à l'autre du même réseau : jusqu'à {number(noise, 3)}")

# %% [markdown]
# C'est une **égalité** : les moyennes tiennent en deux points, moins que ce qui sépare deux graines
# du même réseau, et la base, quatre fois moins chère, n'est même pas dernière. Quatre époques de
# deux mille images ne suffisent sans doute pas à employer ce qu'on ajoute : notre mesure ne donne
# ni tort ni raison au document. Sur ImageNet, l'article attribue à l'agrandissement composé jusqu'à
# 2,5 points de plus qu'à celui d'une seule dimension.

# %% [markdown]
# ## Transférer ce que le réseau sait
#
# Le [chapitre 4](04_transfer_learning.ipynb) a montré le cas général : base gelée, affinage, taux
# d'apprentissage, fuites. Voici ce qui est propre à EfficientNet : son entrée, ses normalisations,
# sa résolution, sa précision de calcul.
#
# ### Quels poids pour quelle mesure
#
# Apprendre sur ImageNet coûte des jours de carte graphique. Ce cours emporte les poids publiés de
# Lite0 ; donc :
#
# - **B4** porte l'architecture, les coûts et la mémoire ; ses poids sont tirés au hasard ;
# - **Lite0** porte tout ce qui demande d'avoir appris : le transfert et les usages.
#
# Ce que nous mesurons de l'un ne dit pas le niveau de l'autre. En profil rapide, sans le fichier,
# Lite0 reçoit des poids au hasard : ses exactitudes ne veulent rien dire.


# %%
def to_float(images):
    """Ce qu'EfficientNet attend : des pixels de 0 à 255."""
    return images.astype("float32")


def lite_scale(images):
    """Ce que Lite0 attend : de −1 à 1, environ."""
    return (images.astype("float32") - 127) / 128


# %%
def same_input(source, target):
    """Donne à `target` la mise à l'échelle de `source`.

    Keras y ajoute, avec les poids d'ImageNet, une seconde couche `Rescaling`, qui corrige une
    racine carrée de trop : https://github.com/tensorflow/tensorflow/issues/49930.
    """
    norm = target.get_layer("normalization")
    rescalings = [a for a in source.layers if isinstance(a, layers.Rescaling)]
    if len(rescalings) > 1:
        scale = ops.convert_to_tensor(rescalings[1].scale, "float32")
        norm.adapt_variance.assign(norm.adapt_variance / scale**2)
    norm.finalize_state()  # Keras garde une copie de la moyenne et de la variance


def downloaded_b0(missing):
    """B0 et ses poids d'ImageNet, téléchargés par Keras ; sans Internet, l'erreur `missing`."""
    keras_home().mkdir(parents=True, exist_ok=True)
    try:
        return keras.applications.EfficientNetB0(include_top=False)
    except Exception:  # noqa: BLE001 - Keras ne documente pas ses erreurs de téléchargement
        raise missing from None


# %%
def learned_backbone(side):
    """Nos couches, des poids appris sur ImageNet : (réseau, préparation de ses images).

    Le réseau rend des cartes (n, side / 32, side / 32, 1280) ; la préparation part d'octets.
    """
    try:
        path = datasets.pretrained(zoo.LITE0.format("_no_top"))
    except (
        DataUnavailable
    ) as missing:  # pas de fichier : Keras fournit B0, si Internet répond
        model, source = efficientnet("B0", side=side, top=False), downloaded_b0(missing)
        copied(source, model)
        same_input(source, model)
        return model, to_float
    model = lite0(side)
    if path:
        known = zoo.efficientnet_lite0(side, top=False)
        known.load_weights(path)
        copied(known, model)
    return model, lite_scale


# %% [markdown]
# Ce que ces poids apportent se mesure contre le même réseau à poids au hasard, ses normalisations
# réglées sur des carrés de nos photographies.

# %%
TILES_SEEN = runtime.pick(quick=8, full=64)


def as_rgb(images, side):
    """Octets, gris ou en couleurs -> octets (n, side, side, 3)."""
    pictures = [Image.fromarray(image).convert("RGB") for image in images]
    return np.stack([np.asarray(picture.resize((side, side))) for picture in pictures])


def natural_tiles(side):
    """Des carrés pris au hasard dans les photographies, en octets (n, side, side, 3)."""
    rng = np.random.default_rng(0)
    tiles = []
    for name in rng.choice(list(photographs), TILES_SEEN):
        image = photographs[str(name)]
        top, left = (int(rng.integers(n - 200)) for n in image.shape[:2])
        tiles.append(image[top : top + 200, left : left + 200])
    return as_rgb(tiles, side)


def backbone(kind, side):
    """Le réseau d'« ImageNet » ou le même « au hasard », et sa préparation."""
    model, prepare = learned_backbone(side)
    if kind == "au hasard":
        randomised(model)
        calibrated(model, prepare(natural_tiles(side)))
    return model, prepare


backbone = cache(backbone)  # bâtir un réseau prend une seconde : on le garde


# %% [markdown]
# Ce réseau accepte tout côté multiple de 32, et rend 1 280 caractéristiques par photographie.

# %%
SIDE = runtime.pick(quick=32, full=128)
FEATURES = 1280  # caractéristiques que rend B0, comme Lite0
PACK = 64  # images par lot, hors apprentissage


@cache
def feature_reader(side, kind):
    """La base et sa moyenne globale, (n, side, side, 3) -> (n, 1280), et sa préparation."""
    model, prepare = backbone(kind, side)
    averages = layers.GlobalAveragePooling2D()(model.output)
    return keras.Model(model.input, averages), prepare


def predicted(model, x):
    """Les sorties d'un réseau, compilé, lot par lot."""
    model.run_eagerly = EAGER
    return model.predict(x, PACK, verbose=0)


def described(images, side=SIDE, kind="ImageNet"):
    """Images de 0 à 255 -> leurs caractéristiques (n, 1280)."""
    reader, prepare = feature_reader(side, kind)
    return predicted(reader, prepare(images))


# %% [markdown]
# Deux tâches. *Races* : les trois races du chapitre 4. *Espèces* : chat ou chien, toutes races. La
# moitié des photographies sert à apprendre, 15 % à choisir (la validation), 35 % à juger.


# %%
class PetTask(NamedTuple):
    rows: np.ndarray  # (n,) : ses photographies, dans `pets`
    labels: np.ndarray  # (n,) : leur classe
    train: np.ndarray  # indices dans `rows`
    valid: np.ndarray
    test: np.ndarray

    @property
    def classes(self):
        return len(np.unique(self.labels))


def pet_task(rows, labels, seed=0):
    """Sépare en 50 %, 15 % et 35 %, en gardant les proportions des classes."""
    options = {"random_state": seed}
    train, rest = train_test_split(
        np.arange(len(rows)), train_size=0.5, stratify=labels, **options
    )
    valid, test = train_test_split(
        rest, train_size=0.3, stratify=labels[rest], **options
    )
    return PetTask(rows, labels, train, valid, test)


# %%
BREEDS = ("Abyssinian", "Bengal", "american_bulldog")
MOST = runtime.pick(quick=36, full=8_000, cpu=1_000)


def breed_task():
    if min(np.sum(pets.breeds == breed) for breed in BREEDS) < 6:  # profil rapide
        return pet_task(np.arange(len(pets.species)), pets.species)
    rows = np.flatnonzero(np.isin(pets.breeds, BREEDS))
    return pet_task(rows, np.unique(pets.breeds[rows], return_inverse=True)[1])


def species_task():
    rows = np.random.default_rng(0).permutation(len(pets.species))[:MOST]
    return pet_task(rows, pets.species[rows])


PET_TASKS = {"races": breed_task(), "espèces": species_task()}
for name, task in PET_TASKS.items():
    sizes = [len(part) for part in task[2:]]
    print(f"{name} : {sizes[0]} pour apprendre, {sizes[1]} et {sizes[2]}")

# %% [markdown]
# Une sonde juge ces caractéristiques : une régression logistique, sur des vecteurs ramenés à la
# **longueur 1** (la section *Peu d'images* dira pourquoi). Dans les tableaux, une exactitude est
# suivie de son intervalle de Wilson à 95 % : les valeurs que ce nombre d'images n'exclut pas.


# %%
@cache
def pets_at(side):
    """Les photographies de `pets`, lues à un autre côté, dans le même ordre."""
    if side == pets.images.shape[1]:
        return pets.images
    return datasets.pets(size=side, limit=len(pets.images)).images


@cache
def pet_features(name, side, kind):
    return described(pets_at(side)[PET_TASKS[name].rows], side, kind)


def new_probe():
    """Une sonde linéaire, à entraîner sur des caractéristiques ramenées à la longueur 1."""
    return make_pipeline(Normalizer(), LogisticRegression(C=10, max_iter=2_000))


def probe(x, y):
    return new_probe().fit(x, y)


def probed(x, task):
    """Exactitude de test d'une sonde, pour les caractéristiques de toute une tâche."""
    y = task.labels
    return probe(x[task.train], y[task.train]).score(x[task.test], y[task.test])


def with_interval(share, n):
    """« 91 % (88 à 94) » : une exactitude et son intervalle de Wilson à 95 %."""
    low, high = (100 * bound for bound in wilson(round(share * n), n))
    return f"{percent(share)} ({number(low, 0)} à {number(high, 0)})"


# %% [markdown]
# « Classifier des images de chiens, chats », propose le document. Nos photographies viennent
# surtout de trois races : la sonde apprend-elle l'espèce, ou ces races ? Deux autres sondes jugent
# des races **jamais vues** : l'une a appris sur les trois races, l'autre sur les autres races,
# chacune étant tout entière dans l'apprentissage, ou tout entière dans le test.


# %%
def across_breeds(x, y, breeds):
    """Part de réponses justes sur des races jamais vues ; chaque race sert une fois de test."""
    groups = breeds if len(set(breeds)) >= 5 else np.arange(len(breeds))
    answers = cross_val_predict(new_probe(), x, y, groups=groups, cv=GroupKFold(5))
    return np.mean(answers == y)


def species_run():
    task, x = PET_TASKS["espèces"], pet_features("espèces", SIDE, "ImageNet")
    y, breeds = task.labels, pets.breeds[task.rows]
    known = np.isin(breeds, BREEDS)
    if len(np.unique(y[known])) < 2:  # profil rapide
        known = np.arange(len(y)) % 2 == 0
    return {
        "n": len(task.test),
        "largest": np.mean(y[task.test] == 0),
        "accuracy": probed(x, task),
        "n_new": int((~known).sum()),
        "n_known": int(known.sum()),
        "three": probe(x[known], y[known]).score(x[~known], y[~known]),
        "many": across_breeds(x[~known], y[~known], breeds[~known]),
    }


species = experiment("species", species_run)

# %%
shown = species.values
runtime.show_table(
    ("chat ou chien : appris sur", "jugé sur", "exactitude (95 %)"),
    [
        ("rien : toujours « chat »", "toutes les races", percent(shown["largest"])),
        (
            "toutes les races",
            "les mêmes",
            with_interval(shown["accuracy"], shown["n"]),
        ),
        ("trois races", "les autres", with_interval(shown["three"], shown["n_new"])),
        (
            "beaucoup de races",
            "d'autres encore",
            with_interval(shown["many"], shown["n_new"]),
        ),
    ],
)
print(f"trois races : {shown['n_known']} images ; les autres : {shown['n_new']}")
verdict("effnet-use-classification", species.full and species.full["accuracy"])

# %% [markdown]
# La deuxième sonde n'a appris, avec 599 photographies, qu'à séparer deux races de chats d'un
# bouledogue : sur d'autres races, elle tombe à 71 %. La troisième, avec moins de 80 photographies
# mais une vingtaine de races, atteint 94 % chez des races inconnues : il manquait de la **variété**
# aux exemples. La suite emploie les trois races, plus difficiles à distinguer.
#
# ### La préparation : diviser deux fois
#
# Bien des tutoriels divisent les pixels par 255. EfficientNet, dans Keras, le fait **lui-même** :
# ses deux premières couches sont `Rescaling` et `Normalization`. Donnons à la seconde la moyenne et
# l'écart type d'ImageNet, et regardons ce qu'elles rendent.

# %%
inputs = keras.Input((64, 64, 3))
norm = layers.Normalization(
    mean=[0.485, 0.456, 0.406], variance=np.square([0.229, 0.224, 0.225])
)
entrance = keras.Model(inputs, norm(layers.Rescaling(1 / 255)(inputs)))
picture = photographs["chelsea"][:256, 100:356].astype("float32")
picture = ops.convert_to_numpy(ops.image.resize(picture, (64, 64)))[None]

rows, seen, contrast = [], {}, {}
for name, given in (("octets", picture), ("divisés par 255", picture / 255)):
    seen[name] = ops.convert_to_numpy(entrance(given))
    low, high = seen[name].min(), seen[name].max()
    contrast[name] = seen[name].std(axis=(1, 2)).mean()  # dans chaque couleur
    rows.append((name, number(low), number(high), number(contrast[name], 4)))
runtime.show_table(("entrée", "minimum", "maximum", "écart type par couleur"), rows)
assert contrast["divisés par 255"] < 0.01 < 0.1 < contrast["octets"]

# %% tags=["hide-input"] cellView="form"
# @title Dessin : ce que voit la première convolution
figures.show(
    figures.grid(
        [(image[0] + 2.2) / 5 for image in seen.values()],
        titles=list(seen),
        columns=2,
    ),
    alt="La même photographie de chat, telle que la voit la première convolution. À gauche, "
    "l'image ordinaire ; à droite, divisée deux fois, elle est presque noire : écart type de "
    f"{number(contrast['octets'])} contre {number(contrast['divisés par 255'], 4)}.",
)

# %% [markdown]
# Divisée deux fois, toute photographie devient un rectangle noir, et aucune erreur ne le signale.
# Avec Lite0, c'est **l'inverse** : son réseau ne contient pas de mise à l'échelle, il faut la
# faire. Lisez la consigne du vôtre.
#
# Que coûte l'erreur, faite partout, puis au test seulement ?


# %%
def preparations(prepare):
    """Trois façons de préparer des octets : la bonne, et deux erreurs."""

    def twice(images):
        return prepare(images.astype("float32") / 255)

    return {"la bonne": prepare, "divisée par 255 avant": twice, "oubliée": to_float}


def scaling_run():
    task = PET_TASKS["races"]
    images, y = pets_at(SIDE)[task.rows], task.labels
    reader, prepare = feature_reader(SIDE, "ImageNet")
    good = probe(pet_features("races", SIDE, "ImageNet")[task.train], y[task.train])
    found = {"n": len(task.test), "both": {}, "test": {}}
    for name, ready in preparations(prepare).items():
        x = predicted(reader, ready(images))
        found["both"][name] = probed(x, task)
        found["test"][name] = good.score(x[task.test], y[task.test])
    return found


scaling = experiment("scaling", scaling_run)

# %%
shown = scaling.values
runtime.show_table(
    ("préparation", "partout", "au test seulement"),
    [
        (name, with_interval(shown["both"][name], shown["n"]), percent(share))
        for name, share in shown["test"].items()
    ],
)

# %% [markdown]
# Faite partout, l'erreur est en partie compensée par la sonde. Au test seulement, la double
# division ramène au hasard. L'oubli est plus sournois : 73 % passe pour l'exactitude d'une tâche
# difficile. Avant d'accuser le réseau, regardez le minimum et le maximum de ce qu'il reçoit.
#
# ### Deux phases
#
# La recette est celle du chapitre 4 : la tête apprend seule sur une base gelée, puis la fin de la
# base se libère, à petit pas, ses normalisations restant gelées. Et si les **normalisations** se
# libéraient aussi ? Que vaut la tête du **document** ?
#
# Coupons Lite0 après son cinquième étage. Le début reste gelé : ses cartes se calculent une fois.

# %%
CUT = "block5c_add"


@cache
def halves():
    """La base coupée en deux modèles : le début, qui reste gelé, et la fin."""
    model, prepare = learned_backbone(SIDE)
    middle = model.get_layer(CUT).output
    front = keras.Model(model.input, middle)
    return front, keras.Model(middle, model.output), prepare


def front_maps(images):
    """Octets -> cartes au point de coupe, (n, side / 16, side / 16, 112)."""
    front, _, prepare = halves()
    return predicted(front, prepare(images))


front, tail, _ = halves()
total = front.count_params() + tail.count_params()
print(f"dans la fin : {percent(tail.count_params() / total)} des paramètres")

# %%
HEADS = {"linéaire": (), "du document": (1024,)}  # neurones cachés


def new_head(classes, hidden=()):
    """Caractéristiques (n, 1280) -> scores (n, classes)."""
    x = inputs = keras.Input((FEATURES,))
    for units in hidden:
        x = layers.Dense(units, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(classes)(x))


def assembled(base, head):
    """Base, moyenne globale, tête : un seul réseau, qui rend des scores."""
    inputs = keras.Input(base.input_shape[1:])
    x = layers.GlobalAveragePooling2D()(base(inputs))
    return keras.Model(inputs, head(x))


def duplicate(model):
    """Une copie, poids compris : l'original resservira."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


def freeze_norms(model):
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.trainable = False


# %%
def trained(model, x, y, judged, rate, epochs):
    """Entraîne un réseau qui rend des scores -> exactitude de validation, époque par époque."""
    model.compile(
        optimizer=keras.optimizers.Adam(rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        run_eagerly=EAGER,
    )
    run = model.fit(x, y, 32, epochs, validation_data=judged, verbose=0)
    return run.history["val_accuracy"]


def outputs(model, x):
    """Sorties en mode d'inférence, par paquets (`predict` compilerait chaque copie)."""
    packs = [x[k : k + PACK] for k in range(0, len(x), PACK)]
    return np.concatenate(
        [ops.convert_to_numpy(model(pack, training=False)) for pack in packs]
    )


def accuracy(model, x, y):
    return np.mean(outputs(model, x).argmax(axis=-1) == y)


# %%
HEAD_EPOCHS = runtime.pick(quick=1, full=20)
TUNED_EPOCHS = runtime.pick(quick=1, full=12, cpu=4)


def first_phase(x, y, judged, classes, hidden=(), epochs=HEAD_EPOCHS):
    """Base gelée, tête neuve : apprend sur des caractéristiques -> (réseau, sa courbe)."""
    tail = duplicate(halves()[1])
    head = new_head(classes, hidden)
    reader = assembled(tail, layers.Identity())
    features, seen = (outputs(reader, part) for part in (x, judged[0]))
    curve = trained(head, features, y, (seen, judged[1]), 1e-3, epochs)
    return assembled(tail, head), curve


def second_phase(model, x, y, judged, free_norms=False, epochs=TUNED_EPOCHS):
    """Libère la fin de la base, à petit pas -> la courbe."""
    if not free_norms:
        freeze_norms(model.layers[1])
    return trained(model, x, y, judged, 1e-4, epochs)


# %%
VARIANTS = {  # tête, normalisations libres
    "recette": ("linéaire", False),
    "normalisations libres": ("linéaire", True),
    "tête du document": ("du document", False),
}


TRIED_VARIANTS = runtime.pick(quick=("recette",), full=tuple(VARIANTS))


def two_phases_run():
    task = PET_TASKS["races"]
    x, y = front_maps(pets_at(SIDE)[task.rows]), task.labels
    judged = (x[task.valid], y[task.valid])
    found = {"n": len(task.test), "runs": {}}
    for name in TRIED_VARIANTS:
        head, free = VARIANTS[name]
        rows = {key: [] for key in ("first", "second", "frozen", "tuned")}
        for seed in SEEDS:
            keras.utils.set_random_seed(seed)
            learn = (x[task.train], y[task.train], judged)
            model, curve = first_phase(*learn, task.classes, HEADS[head])
            rows["first"].append(curve)
            rows["frozen"].append(accuracy(model, x[task.test], y[task.test]))
            rows["second"].append(second_phase(model, *learn, free))
            rows["tuned"].append(accuracy(model, x[task.test], y[task.test]))
        found["runs"][name] = rows
    return found


phases = experiment("two_phases", two_phases_run)

# %% tags=["hide-input"] cellView="form"
# @title Dessin : les deux phases, époque par époque
shown = phases.values["runs"]
joined = {
    name: np.concatenate([rows["first"], rows["second"]], axis=1)
    for name, rows in shown.items()
}
fig = figures.curves(joined, xlabel="époque", ylabel="exactitude de validation")
step = len(shown["recette"]["first"][0])
fig.axes[0].axvline(step + 0.5, color="#555555", lw=1.2)
fig.axes[0].set_title("à droite du trait : la fin de la base est libre")
figures.show(
    fig,
    alt="Exactitude de validation, époque par époque, des deux phases. "
    + " ; ".join(
        f"{name} : {number(np.mean(rows['first'], axis=0)[-1])} à la fin de la première, "
        f"{number(np.mean(rows['second'], axis=0)[-1])} à la fin de la seconde"
        for name, rows in shown.items()
    )
    + ".",
)

# %%
n = phases.values["n"]
runtime.show_table(
    ("variante", "après la phase 1", "après la phase 2"),
    [
        (name, *(with_interval(np.mean(rows[key]), n) for key in ("frozen", "tuned")))
        for name, rows in shown.items()
    ],
)
gains = np.subtract(shown["recette"]["tuned"], shown["recette"]["frozen"])
print("gain de la seconde phase, par graine :", " ; ".join(number(g, 3) for g in gains))

# %% [markdown]
# La tête seule fait presque tout. La seconde phase de la recette apporte un point à chaque graine :
# deux images de plus. Libérer les normalisations n'y ajoute rien ; la tête du document, trois cents
# fois plus lourde que l'autre, y perd un peu. Mais l'intervalle compte quatre points de part et
# d'autre : deux cents images de test ne départagent pas les variantes. Avec trois cents images pour
# apprendre, la base gelée suffit.
#
# ### Et si l'on suivait le document jusqu'au bout ?
#
# Ajoutons au code du document la ligne qui lui manque : `fit`. Toute la base est libre,
# normalisations comprises ; la tête part du hasard ; Adam garde son taux, 0,001. Comparons avec le
# **même** réseau parti de poids au hasard (ses normalisations suivent alors plus vite,
# `momentum=0.9`).

# %%
WHOLE_EPOCHS = runtime.pick(quick=1, full=30, cpu=6)
STARTS = runtime.pick(quick=(), full=("poids d'ImageNet", "poids au hasard"))
WHOLE_SEEDS = runtime.pick(quick=(0,), full=(0, 1, 2), cpu=(0,))


def whole_network(classes, learned=True):
    """Lite0 entier et la tête du document, tout à apprendre."""
    base, _ = learned_backbone(SIDE)
    base = duplicate(base) if learned else keras.models.clone_model(base)
    for layer in base.layers:
        if isinstance(layer, layers.BatchNormalization) and not learned:
            layer.momentum = 0.9
    return assembled(base, new_head(classes, HEADS["du document"]))


def whole_run():
    task, (_, prepare) = PET_TASKS["races"], feature_reader(SIDE, "ImageNet")
    x, y = prepare(pets_at(SIDE)[task.rows]), task.labels
    judged = (x[task.valid], y[task.valid])
    found = {"n": len(task.test), "runs": {}}
    for name in STARTS:
        rows = found["runs"][name] = {"curve": [], "test": []}
        for seed in WHOLE_SEEDS:
            keras.utils.set_random_seed(seed)
            model = whole_network(task.classes, name == "poids d'ImageNet")
            learn = (x[task.train], y[task.train], judged)
            rows["curve"].append(trained(model, *learn, 1e-3, WHOLE_EPOCHS))
            rows["test"].append(accuracy(model, x[task.test], y[task.test]))
    return found


whole = experiment("whole_network", whole_run)

# %% tags=["hide-input"] cellView="form"
# @title Dessin : tout le réseau apprend
shown = whole.values["runs"]
recipe = np.mean(phases.values["runs"]["recette"]["second"], axis=0)[-1]
fig = figures.curves(
    {name: rows["curve"] for name, rows in shown.items()},
    xlabel="époque",
    ylabel="exactitude de validation",
    levels={"recette": recipe},
)
figures.show(
    fig,
    alt="Exactitude de validation quand tout le réseau apprend, à la façon du document : "
    + " ; ".join(
        f"{name}, de {number(np.mean(rows['curve'], axis=0)[0])} à "
        f"{number(np.mean(rows['curve'], axis=0)[-1])}"
        for name, rows in shown.items()
    )
    + f" ; à la fin de la recette, trait de repère : {number(recipe)}.",
)
runtime.show_table(
    ("départ", "exactitude de test (95 %)"),
    [
        (name, with_interval(np.mean(rows["test"]), whole.values["n"]))
        for name, rows in shown.items()
    ],
)

# %% [markdown]
# Les poids d'ImageNet donnent ainsi 84 % ; la recette, bien moins chère, 92. La première époque est
# la meilleure : la suite défait ce qu'ImageNet avait appris. À partir de zéro, 47 %, pour un hasard
# d'un tiers : six époques de trois cents images ne suffisent pas à trois millions de paramètres.
# (Une graine de chaque.)
#
# ### La résolution : ce qu'elle coûte, ce qu'elle rapporte
#
# La mise à l'échelle composée agrandit aussi l'image. Mesurons cette dimension seule : la même
# sonde, à cinq côtés, avec les opérations et le temps, par lots de 32.


# %%
REPEATS = runtime.pick(quick=1, full=3)


def milliseconds(model, x):
    """Durée d'une image, par lots de 32, une fois le modèle compilé : la plus courte de trois."""
    durations = []
    for _ in range(1 + REPEATS):  # la première compile
        begin = time.perf_counter()
        model.predict(x, 32, verbose=0)
        durations.append(time.perf_counter() - begin)
    return 1_000 * min(durations[1:]) / len(x)


# %%
SIDES = runtime.pick(quick=(32,), full=(64, 96, 128, 160, 224))
TIMED_PHOTOGRAPHS = runtime.pick(quick=2, full=64)


def resolution_run():
    task = PET_TASKS["races"]
    found = {"n": len(task.test), "rows": []}
    for side in SIDES:
        reader, prepare = feature_reader(side, "ImageNet")
        images = prepare(pets_at(side)[task.rows[:TIMED_PHOTOGRAPHS]])
        found["rows"].append(
            {
                "side": side,
                "accuracy": probed(pet_features("races", side, "ImageNet"), task),
                "millions": multiply_adds(reader) / 1e6,
                "milliseconds": milliseconds(reader, images),
            }
        )
    return found


resolution = experiment("resolution", resolution_run)

# %%
shown = resolution.values
runtime.show_table(
    ("côté", "exactitude (95 %)", "opérations (M)", "ms par image"),
    [
        (
            row["side"],
            with_interval(row["accuracy"], shown["n"]),
            number(row["millions"], 0),
            number(row["milliseconds"], 1),
        )
        for row in shown["rows"]
    ],
)

# %% [markdown]
# Le coût croît comme la surface. Le gain s'épuise : quatorze points de 64 à 128 pixels, trois de
# 128 à 224, moins que l'incertitude. Deux réserves : nos photographies ont au plus 160 pixels de
# côté ; Lite0 a appris à 224 pixels, et attend des objets de cette taille. La résolution se choisit
# **sur vos images**, par une sonde, avant tout entraînement.
#
# ### Des vêtements agrandis
#
# Fashion-MNIST est loin d'ImageNet : des images grises, de 28 pixels de côté, que nous
# agrandissons. Comparons trois descriptions : les pixels ; la sortie de Lite0, moyennée ; ses
# cartes au point de coupe, **sans** moyenne. (Cette dernière lecture a été choisie sur des images
# d'apprentissage mises de côté.)

# %%
GARMENT_PIXELS = runtime.pick(quick=32, full=96)
GARMENTS = runtime.pick(quick=(60, 30), full=(5_000, 2_000), cpu=(2_000, 1_000))


def enlarged(images, side):
    """Gris (n, 28, 28) -> (n, side, side, 3), de 0 à 255."""
    large = ops.image.resize(images[..., None].astype("float32"), (side, side))
    return np.repeat(ops.convert_to_numpy(large), 3, axis=-1)


def garment_images():
    """Les vêtements employés : (apprentissage, test)."""
    return garments.x_train[: GARMENTS[0]], garments.x_test[: GARMENTS[1]]


def garment_labels():
    return garments.y_train[: GARMENTS[0]], garments.y_test[: GARMENTS[1]]


# %%
@cache
def garment_features():
    """Par description : les caractéristiques des vêtements (apprentissage, test)."""
    model, prepare = learned_backbone(GARMENT_PIXELS)
    end = layers.GlobalAveragePooling2D()(model.output)
    cut = layers.Flatten()(model.get_layer(CUT).output)
    reader = keras.Model(model.input, [end, cut])
    parts = []
    for images in garment_images():
        packs = [
            predicted(reader, prepare(enlarged(pack, GARMENT_PIXELS)))
            for pack in np.array_split(images, -(-len(images) // 1_000))
        ]
        parts.append([np.concatenate(pieces) for pieces in zip(*packs)])
    pixels = [images.reshape(len(images), -1) / 255 for images in garment_images()]
    ends, cuts = zip(*parts)
    return {"pixels": pixels, "sortie moyennée": ends, "cartes à la coupe": cuts}


def garments_run():
    y, y_test = garment_labels()
    return {
        "n": len(y_test),
        "train": len(y),
        "accuracy": {
            name: probe(x, y).score(x_test, y_test)
            for name, (x, x_test) in garment_features().items()
        },
    }


large_garments = experiment("large_garments", garments_run)

# %%
shown = large_garments.values
runtime.show_table(
    ("sonde sur", "exactitude (95 %)"),
    [
        (name, with_interval(share, shown["n"]))
        for name, share in shown["accuracy"].items()
    ],
)
print(f"{shown['train']} images pour apprendre, {shown['n']} pour juger")

# %% [markdown]
# Moyennées à la sortie, les caractéristiques ne gagnent que quatre points sur les pixels. Coupé
# plus tôt, le même réseau en gagne plus de neuf : sa fin est spécialisée, et la moyenne globale
# efface les positions, qui comptent dans des images toutes cadrées de la même façon.
#
# ### Peu d'images
#
# « Le modèle est réutilisé pour des tâches spécifiques avec un faible nombre d'images. » Combien
# faible ? Donnons à la sonde une, deux, cinq… images par classe, tirées au hasard plusieurs fois,
# et trois descriptions : les caractéristiques de Lite0, celles du **même réseau à poids au
# hasard**, et les pixels. Une quatrième courbe reprend la première avec la sonde du chapitre 4, qui
# centre et réduit.

# %%
SHOTS = runtime.pick(quick=(1, 2), full=(1, 2, 5, 10, 20, 50))
DRAWS = runtime.pick(quick=2, full=20, cpu=10)


def few_rows(labels, shots, rng):
    """`shots` indices par classe, tirés au hasard."""
    classes = [np.flatnonzero(labels == k) for k in np.unique(labels)]
    return np.concatenate([rng.choice(rows, shots, replace=False) for rows in classes])


def scaled_probe():
    """La sonde du chapitre 4 : caractéristiques centrées et réduites."""
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=2_000))


def shots_curve(x, y, x_test, y_test, make=new_probe):
    """Exactitude de test d'une sonde : une ligne par tirage, une colonne par nombre d'images."""
    found = []
    for draw in range(DRAWS):
        rng = np.random.default_rng(draw)  # les mêmes tirages pour chaque description
        chosen = [few_rows(y, shots, rng) for shots in SHOTS]
        found.append([make().fit(x[k], y[k]).score(x_test, y_test) for k in chosen])
    return found


# %%
def small_pixels(images, side=32):
    """Les pixels des photographies, réduites à `side` points de côté."""
    small = ops.image.resize(images.astype("float32"), (side, side), antialias=True)
    return ops.convert_to_numpy(small).reshape(len(images), -1) / 255


def few_images_run():
    task, x = PET_TASKS["races"], pet_features("races", SIDE, "ImageNet")
    pool, test, y = task.train, task.test, task.labels
    answers = (y[pool], x[test], y[test])
    races = {
        "Lite0, ImageNet": shots_curve(x[pool], *answers),
        "Lite0, centré et réduit": shots_curve(x[pool], *answers, scaled_probe),
    }
    for name, x in (
        ("Lite0, au hasard", pet_features("races", SIDE, "au hasard")),
        ("pixels", small_pixels(pets_at(SIDE)[task.rows])),
    ):
        races[name] = shots_curve(x[pool], y[pool], x[test], y[test])
    y, y_test = garment_labels()
    clothes = {
        name: shots_curve(x, y, x_test, y_test)
        for name, (x, x_test) in garment_features().items()
    }
    return {"shots": SHOTS, "races": races, "vêtements": clothes}


few = experiment("few_images", few_images_run)


# %% tags=["hide-input"] cellView="form"
# @title Dessin : l'exactitude selon le nombre d'images
def shots_figure(shots, found, title):
    fig = figures.curves(
        found,
        x=shots,
        xlabel="images par classe",
        ylabel="exactitude de test",
        title=title,
    )
    fig.axes[0].set_xscale("log")
    fig.axes[0].set_xticks(shots, [str(n) for n in shots])
    fig.axes[0].minorticks_off()
    return fig


def shots_alt(shots, found):
    """Les moyennes de chaque courbe, en mots."""
    return " ; ".join(
        f"{name}, " + ", ".join(number(value) for value in np.mean(curve, axis=0))
        for name, curve in found.items()
    )


shown = few.values
for name in ("races", "vêtements"):
    figures.show(
        shots_figure(shown["shots"], shown[name], name),
        alt=f"Exactitude de test, {name}, pour {', '.join(map(str, shown['shots']))} images par "
        f"classe ; bandes d'un écart type entre tirages. {shots_alt(shown['shots'], shown[name])}.",
    )


# %%
def at_shots(found, shots, domain):
    """Exactitude moyenne de chaque description, pour un nombre d'images par classe."""
    column = list(found["shots"]).index(shots)
    return {
        name: np.mean(curve, axis=0)[column] for name, curve in found[domain].items()
    }


full = few.full
races = full and at_shots(full, 10, "races")
clothes = full and at_shots(full, 10, "vêtements")
verdict("effnet-few-examples", full and races["Lite0, ImageNet"])
verdict("effnet-few-images", full and races["Lite0, ImageNet"] - races["pixels"])
verdict(
    "effnet-from-imagenet",
    full and races["Lite0, ImageNet"] - races["Lite0, au hasard"],
)
verdict("effnet-new-domains", full and clothes["cartes à la coupe"] - clothes["pixels"])

# %% [markdown]
# Sur les races, avec **une** image par classe, la sonde sur Lite0 fait déjà bien mieux que les
# pixels avec cinquante. L'architecture seule n'y est pour rien : à poids au hasard, elle reste près
# du hasard.
#
# Centrer et réduire demande la moyenne et l'écart type de 1 280 caractéristiques ; sur trois
# images, ils ne veulent rien dire, et l'on perd 28 points. Ramener chaque vecteur à la longueur 1
# n'estime rien. Dès dix images par classe, les deux se valent.
#
# Sur les vêtements, à dix images par classe, la sortie moyennée ne devance les pixels que de trois
# points ; les cartes, coupées plus tôt, de plus de huit. « Vers de nouveaux domaines » : oui, et
# d'autant moins qu'ils sont lointains.
#
# ### Augmenter
#
# Une couche d'augmentation ([chapitre 2](02_layers_and_training.ipynb)) fabrique d'autres vues des
# mêmes images, à l'entraînement seulement. Elle prend ici des pixels de 0 à 255, *avant* la
# préparation.

# %%
COPIES = runtime.pick(quick=1, full=8, cpu=4)


def augmented(images, seed):
    """Une autre vue de chaque image : miroir, rotation et zoom légers ; (n, h, w, 3)."""
    views = keras.Sequential(
        [
            layers.RandomFlip("horizontal", seed=seed),
            layers.RandomRotation(0.04, seed=seed + 1),  # en tours : ± 14°
            layers.RandomZoom((-0.2, 0.1), seed=seed + 2),  # négatif : on s'approche
        ]
    )
    return ops.convert_to_numpy(views(images.astype("float32"), training=True))


picture = pets.images[PET_TASKS["races"].rows[0]]
views = [augmented(picture[None], seed)[0] for seed in (0, 10, 20)]
figures.show(
    figures.grid(
        [picture / 255, *(view / 255 for view in views)],
        titles=["originale", "vue 1", "vue 2", "vue 3"],
        columns=4,
    ),
    alt="Une photographie d'animal et trois vues augmentées : parfois retournées, tournées de "
    "quelques degrés, un peu rapprochées.",
)

# %% [markdown]
# Calculons quelques vues par image, une fois, puis reprenons la recette, à nombre de mises à jour à
# peu près **égal** : cinq fois plus d'images, cinq fois moins d'époques. À côté, la sonde, avec dix
# images par classe.


# %%
def with_views(images, labels, seed):
    """Les images et leurs vues : (1 + COPIES) fois plus, étiquettes comprises."""
    views = [augmented(images, 100 * seed + 10 * k) for k in range(COPIES)]
    return np.concatenate([images, *views]), np.tile(labels, 1 + COPIES)


def augmentation_run():
    task, shots = PET_TASKS["races"], SHOTS[-3:][0]
    images, y = pets_at(SIDE)[task.rows], task.labels
    plain, x = pet_features("races", SIDE, "ImageNet"), front_maps(images)
    judged = (x[task.valid], y[task.valid])
    epochs = [
        max(1, round(count / (1 + COPIES))) for count in (HEAD_EPOCHS, TUNED_EPOCHS)
    ]
    found = {"n": len(task.test), "shots": shots, "epochs": epochs}
    few_plain, few_views, tuned = [], [], []
    for seed in SEEDS:
        keras.utils.set_random_seed(seed)
        kept = task.train[few_rows(y[task.train], shots, np.random.default_rng(seed))]
        few_x, few_y = with_views(images[kept], y[kept], seed)
        for scores, data in (
            (few_plain, (plain[kept], y[kept])),
            (few_views, (described(few_x), few_y)),
        ):
            scores.append(probe(*data).score(plain[task.test], y[task.test]))
        more, labels = with_views(images[task.train], y[task.train], seed)
        learn = (front_maps(more), labels, judged)
        model, _ = first_phase(*learn, task.classes, epochs=epochs[0])
        second_phase(model, *learn, epochs=epochs[1])
        tuned.append(accuracy(model, x[task.test], y[task.test]))
    return found | {"few_plain": few_plain, "few_views": few_views, "tuned": tuned}


augmentation = experiment("augmentation", augmentation_run)

# %%
shown = augmentation.values
runtime.show_table(
    ("méthode", "sans augmentation", "avec"),
    [
        (
            f"sonde, {shown['shots']} images par classe",
            spread(shown["few_plain"]),
            spread(shown["few_views"]),
        ),
        (
            "recette, toutes les images",
            spread(phases.values["runs"]["recette"]["tuned"]),
            spread(shown["tuned"]),
        ),
    ],
)

# %% [markdown]
# Rien ne bouge au-delà du bruit. Sans doute la base gelée a-t-elle déjà appris, sur ImageNet, à
# être insensible à ces vues.
#
# ### La précision mixte
#
# Un nombre en `float32` prend quatre octets. La ***précision mixte*** calcule sur deux octets, et
# garde les **variables** sur quatre, sans quoi les mises à jour, trop petites, se perdraient. Deux
# formats courants : `float16`, précis mais de faible étendue ; `bfloat16`, de l'étendue de
# `float32`, avec deux à trois chiffres significatifs. Dans Keras, une ligne suffit, **avant** de
# construire le réseau. Essayons-la sur un bloc MBConv.

# %%
POLICIES = ("float32", "mixed_float16", "mixed_bfloat16")
COMPARED = runtime.pick(quick=1, full=3)  # politiques


def under_policy(policy, build, *args):
    """Construit un réseau sous une politique de précision, puis rétablit la précédente."""
    former = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        return build(*args)
    finally:
        keras.config.set_dtype_policy(former)


def activation_bytes(model):
    """Octets que prennent, pour une image, les sorties de toutes les couches."""
    inside = [a for a in model.layers if not isinstance(a, layers.InputLayer)]
    widths = [4 if a.compute_dtype == "float32" else 2 for a in inside]
    return sum(int(np.prod(a.output.shape[1:])) * n for a, n in zip(inside, widths))


# %%
rows, sizes = [], []
for policy in POLICIES[:2]:
    model = under_policy(policy, partial(alone, mbconv, filters=24), 24, 56)
    layer = model.get_layer("project_conv")
    sizes.append(activation_bytes(model))
    megabytes = number(sizes[-1] / 2**20, 1)
    rows.append((policy, layer.kernel.dtype, layer.compute_dtype, megabytes))
runtime.show_table(("politique", "variables en", "calcule en", "Mio par image"), rows)
assert sizes[0] == 2 * sizes[1]
assert keras.config.dtype_policy().name == "float32"

# %% [markdown]
# Les activations prennent deux fois moins de place (`bfloat16` aussi) ; les poids, autant qu'avant.
#
# En `float16`, un nombre au-dessous de 0,00000003 devient zéro : une probabilité, dont la perte
# prend le logarithme, ou un gradient. Les **sorties** restent donc en `float32`. Et l'on multiplie
# la perte par un grand nombre avant la rétropropagation, pour diviser ensuite les gradients : c'est
# la ***mise à l'échelle de la perte***, dont Keras se charge à la compilation.

# %%
guarded = under_policy("mixed_float16", layers.Activation, "softmax")
safe = layers.Activation("softmax", dtype="float32")
print(f"softmax sous mixed_float16 : calcule en {guarded.compute_dtype}")
print(f"softmax avec dtype='float32' : calcule en {safe.compute_dtype}")
small = under_policy("mixed_float16", new_head, 3)
small.compile(optimizer="adam", loss="sparse_categorical_crossentropy")
gradient, scale = 1e-8, small.optimizer.initial_scale
lost = np.float32(np.float16(gradient))
saved = np.float32(np.float16(gradient * scale)) / scale
print(f"gradient : {scientific(gradient)}")
print(f"en float16 : {scientific(lost)} ; mis à l'échelle : {scientific(saved)}")
assert lost == 0
assert abs(saved - gradient) < 1e-3 * gradient

# %% [markdown]
# Que change la précision aux réponses, et au temps ? Donnons à Lite0, sous trois politiques, les
# mêmes poids et les mêmes images de test ; la sonde a été entraînée en `float32`.

# %%
PRECISE_IMAGES = runtime.pick(quick=2, full=210, cpu=64)


def precise_reader():
    """La base et sa moyenne globale ; celle-ci toujours en float32."""
    keras.utils.set_random_seed(0)  # sans fichier : les mêmes poids au hasard
    model, prepare = learned_backbone(SIDE)
    outputs = layers.GlobalAveragePooling2D(dtype="float32")(model.output)
    return keras.Model(model.input, outputs), prepare


def precision_run():
    task, found = PET_TASKS["races"], {}
    images = pets_at(SIDE)[task.rows[task.test[:PRECISE_IMAGES]]]
    linear = probe(
        pet_features("races", SIDE, "ImageNet")[task.train], task.labels[task.train]
    )
    for policy in POLICIES[:COMPARED]:
        reader, prepare = under_policy(policy, precise_reader)
        x = prepare(images)
        features = predicted(reader, x)
        if policy == "float32":
            exact = features
        found[policy] = {
            "gap": np.linalg.norm(features - exact) / np.linalg.norm(exact),
            "same": np.mean(linear.predict(features) == linear.predict(exact)),
            "milliseconds": milliseconds(reader, x),
        }
    return {"n": len(images), "rows": found}


precision = experiment("precision", precision_run)

# %%
shown = precision.values
runtime.show_table(
    ("politique", "écart relatif", "mêmes réponses", "ms par image"),
    [
        (
            name,
            percent(row["gap"], 2),
            percent(row["same"]),
            number(row["milliseconds"], 1),
        )
        for name, row in shown["rows"].items()
    ],
)
print(f"{shown['n']} images de {SIDE} pixels")

# %% [markdown]
# Aucune réponse ne change, même quand les caractéristiques bougent de cinq pour cent. Ce processeur
# **perd** du temps : le gain de vitesse est affaire de carte graphique ; celui de mémoire vaut
# partout.
#
# ### Des images inhabituelles
#
# Le document prévient : « Sur des jeux de données très spécialisés ou très différents d'ImageNet,
# l'architecture peut nécessiter des ajustements. » Abîmons les photographies de cinq façons.


# %%
def noisy(images, deviation=40):
    rng = np.random.default_rng(0)
    noise = rng.normal(0, deviation, images.shape).astype("float32")
    return np.clip(images + noise, 0, 255)


def blurred(images, deviation=2):
    smooth = (0, deviation, deviation, 0)
    return ndimage.gaussian_filter(images.astype("float32"), smooth)


def inverted(images):
    return 255 - images.astype("float32")


def greyed(images):
    grey = images.astype("float32").mean(axis=-1, keepdims=True)
    return np.repeat(grey, 3, axis=-1)


def dimmed(images):
    return images.astype("float32") / 5


CORRUPTIONS = {
    "aucune": to_float,
    "bruit": noisy,
    "flou": blurred,
    "couleurs inversées": inverted,
    "gris": greyed,
    "pénombre": dimmed,
}

# %% tags=["hide-input"] cellView="form"
# @title Dessin : les cinq façons d'abîmer une image
picture = photographs["chelsea"][:256, 100:356].astype("float32")
picture = ops.convert_to_numpy(ops.image.resize(picture, (96, 96), antialias=True))
figures.show(
    figures.grid(
        [spoil(picture[None])[0] / 255 for spoil in CORRUPTIONS.values()],
        titles=list(CORRUPTIONS),
        columns=3,
    ),
    alt="Un chat, six fois : intact, couvert de bruit, flou, en couleurs inversées, en gris, et "
    "dans la pénombre.",
)

# %% [markdown]
# La sonde apprend sur des photographies intactes, et juge des photographies abîmées. Puis deux
# ajustements, sur les images d'apprentissage abîmées :
#
# - **refaire les statistiques** des normalisations, sans étiquettes ([Li et
#   al.](https://arxiv.org/abs/1603.04779)). La sonde est d'abord la même, puis une sonde
#   **assortie**, apprise sur les photographies intactes lues par un réseau aux statistiques
#   refaites sur elles ;
# - **réapprendre la tête**, avec les étiquettes.


# %%
def restated(model, x, batch=32):
    """Copie d'un réseau dont les normalisations ont pour statistiques celles de `x`."""
    copy = duplicate(model)
    norms = [a for a in copy.layers if isinstance(a, layers.BatchNormalization)]
    for k, start in enumerate(range(0, len(x) - batch + 1, batch)):
        for norm in norms:
            norm.momentum = k / (k + 1)  # la moyenne des lots déjà vus
        copy(x[start : start + batch], training=True)
    return copy


# %%
STATISTICS_BATCH = runtime.pick(quick=8, full=32)  # images par lot
SPOILED = runtime.pick(quick=(), full=tuple(CORRUPTIONS))


def corruptions_run():
    task, (reader, prepare) = PET_TASKS["races"], feature_reader(SIDE, "ImageNet")
    images, y = pets_at(SIDE)[task.rows], task.labels
    clean = probe(pet_features("races", SIDE, "ImageNet")[task.train], y[task.train])
    intact = prepare(images[task.train])
    adapted = outputs(restated(reader, intact, STATISTICS_BATCH), intact)
    matched = probe(adapted, y[task.train])
    found = {"n": len(task.test), "rows": {}}
    for name in SPOILED:
        spoil = CORRUPTIONS[name]
        train, test = (prepare(spoil(images[part])) for part in (task.train, task.test))
        seen, x = (predicted(reader, part) for part in (train, test))
        other = outputs(restated(reader, train, STATISTICS_BATCH), test)
        found["rows"][name] = {
            "before": clean.score(x, y[task.test]),
            "statistics": clean.score(other, y[task.test]),
            "matched": matched.score(other, y[task.test]),
            "head": probe(seen, y[task.train]).score(x, y[task.test]),
        }
    return found


corruptions = experiment("corruptions", corruptions_run)

# %%
shown = corruptions.values
runtime.show_table(
    ("image", "rien", "statistiques", "sonde assortie", "tête réapprise"),
    [(name, *map(percent, row.values())) for name, row in shown["rows"].items()],
)


# %%
def worst(found):
    """La corruption la plus coûteuse, et ce qu'elle coûte."""
    rows = found["rows"]
    name = min(rows, key=lambda kind: rows[kind]["before"])
    return name, rows["aucune"]["before"] - rows[name]["before"]


def recovered(found):
    """Gain moyen de la tête réapprise, là où plus de cinq points sont perdus ; ou None."""
    rows = found["rows"].values()
    start = found["rows"]["aucune"]["before"]
    hurt = [row for row in rows if start - row["before"] > 0.05]
    return (
        float(np.mean([row["head"] - row["before"] for row in hurt])) if hurt else None
    )


full = corruptions.full
verdict("effnet-non-standard", full and worst(full)[1])
verdict("effnet-adjustments", full and recovered(full))

# %% [markdown]
# Le bruit coûte 23 points, le flou 19 ; le reste, deux au plus. Refaire les statistiques **aggrave
# tout**, même sur des photographies intactes : la sonde ne reconnaît plus ses caractéristiques.
# Assortie, elle y perd encore dix points : les statistiques d'un million de photographies variées
# conviennent mieux à ces poids que celles de trois cents images de trois races.
#
# Réapprendre la tête rend dix points sur le bruit, six sur le flou, et n'en coûte qu'un au plus
# ailleurs. Le document a raison de prévenir ; mais l'**architecture** n'a pas bougé : il fallait
# ajuster la tête.

# %% [markdown]
# ## Les usages que le document annonce
#
# Le document énumère six usages. Le transfert vient d'être mesuré ; voici les cinq autres. Tous
# emploient nos blocs, ceux de Lite0 ou ceux d'un tout petit réseau : les verdicts portent sur la
# **famille**, pas sur B4.
#
# ### Classer
#
# « Il a été entraîné sur le dataset ImageNet, contenant plus de 1000 classes d'objets variés. »
# Comptons les identifiants différents dans la liste d'ImageNet.

# %%
catalogue = datasets.imagenet_classes()
labels_known = len({identifier for identifier, _ in catalogue}) if catalogue else None
if catalogue:
    names = Counter(name for _, name in catalogue)
    twice = [name for name, count in names.items() if count > 1]
    print(f"{len(names)} noms différents ; deux fois : {', '.join(twice)}")
verdict("effnet-use-classes", labels_known)

# %% [markdown]
# Les noms sont un peu moins nombreux : *crane*, comme « grue », est un oiseau et une machine.
#
# ### Détecter
#
# « En combinaison avec des techniques de détection (comme **EfficientDet**, qui est une extension
# d'EfficientNet pour la détection d'objets), EfficientNet peut être utilisé pour localiser et
# classifier plusieurs objets dans une même image. »
#
# EfficientDet ajoute au réseau un **BiFPN**, qui mélange ses cartes de toutes tailles, et une tête,
# qui lit le mélange. Construisons les deux, en petit, pour des scènes dessinées : d'un à trois
# disques, carrés ou triangles, de 7 à 46 pixels de côté, sur un fond flou et bruité.


# %%
SHAPES = ("disque", "carré", "triangle")
SCENE = 96  # côté d'une scène, en pixels


def box_overlap(a, b):
    """IoU de chaque boîte de `a` (n, 4) avec chaque boîte de `b` (m, 4) : (n, m)."""
    a, b = np.reshape(a, (-1, 1, 4)), np.reshape(b, (1, -1, 4))
    low, high = np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])
    common = np.prod(np.maximum(high - low, 0), axis=-1)
    areas = [np.prod(boxes[..., 2:] - boxes[..., :2], axis=-1) for boxes in (a, b)]
    return common / (areas[0] + areas[1] - common)


def filled(kind, u, v):
    """Les points d'une forme inscrite dans le carré de −1 à 1."""
    if kind == 0:
        return u**2 + v**2 <= 1
    if kind == 1:
        return np.maximum(np.abs(u), np.abs(v)) <= 1
    return (np.abs(v) <= 1) & (np.abs(u) <= (v + 1) / 2)  # la pointe en haut


# %% tags=["hide-input"] cellView="form"
# @title Dessin : des formes au hasard, qui ne se touchent pas
def free_box(rng, taken):
    """Une boîte (x0, y0, x1, y1) qui ne touche presque pas les autres, ou rien."""
    for _ in range(20):
        half = rng.uniform(4, 22) * rng.uniform(0.85, 1.15, 2)
        half = np.minimum(half, 23)
        centre = rng.uniform(half, SCENE - half)
        box = np.concatenate([centre - half, centre + half])
        if not taken or box_overlap(box, taken).max() < 0.02:
            return box
    return None


def drawn_scene(seed, most=3):
    """Une image en octets, ses boîtes (k, 4) et leurs classes (k,) ; k va de 1 à `most`."""
    rng = np.random.default_rng(seed)
    image = ndimage.zoom(rng.uniform(80, 175, (6, 6, 3)), (16, 16, 1), order=1)
    y, x = np.mgrid[:SCENE, :SCENE] + 0.5
    boxes, kinds = [], []
    for _ in range(rng.integers(1, most + 1)):
        box = free_box(rng, boxes)
        if box is None:
            continue
        centre, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
        kind = int(rng.integers(len(SHAPES)))
        inside = filled(kind, (x - centre[0]) / half[0], (y - centre[1]) / half[1])
        image[inside] = rng.choice([40, 215], 3) + rng.normal(0, 12, 3)
        boxes.append(box)
        kinds.append(kind)
    image += rng.normal(0, 14, image.shape)
    return np.clip(image, 0, 255).astype("uint8"), np.array(boxes), np.array(kinds)


# %% tags=["hide-input"] cellView="form"
# @title Dessin : trois scènes et leurs boîtes
def outlined(ax, image, boxes, kinds, scores=None):
    """L'image et ses boîtes : la couleur et l'initiale disent la classe."""
    ax.imshow(image)
    ax.axis("off")
    for k, (x0, y0, x1, y1) in enumerate(boxes):
        colour = figures.COLOURS[(4, 6, 3)[kinds[k]]]
        style = {"fill": False, "edgecolor": colour, "lw": 2.2}
        ax.add_patch(Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, **style))
        text = SHAPES[kinds[k]][0].upper()
        if scores is not None:
            text += f" {number(scores[k])}"
        back = {"facecolor": "white", "alpha": 0.85, "lw": 0, "pad": 1}
        ax.text(x0, y0 - 2, text, color=colour, fontsize=10, weight="bold", bbox=back)


fig, axes = plt.subplots(1, 3, figsize=(figures.WIDTH, 2.2))
shown = [drawn_scene([0, seed]) for seed in range(3)]
for ax, example in zip(axes, shown):
    outlined(ax, *example)
contents = [", ".join(SHAPES[kind] for kind in kinds) for _, _, kinds in shown]
figures.show(
    fig,
    alt="Trois scènes dessinées sur fond flou, chaque forme dans sa boîte : "
    + " ; ".join(contents)
    + ".",
)

# %% [markdown]
# #### Fondre des cartes de tailles différentes
#
# Les premières cartes d'un réseau savent **où**, les dernières, plus petites, savent **quoi**. Un
# [FPN](https://arxiv.org/abs/1612.03144) (*feature pyramid network*) agrandit les secondes et les
# remonte vers les premières. Un ***BiFPN*** fait le chemin dans les deux sens ; à chaque nœud,
# chaque carte $x_i$ reçoit un poids appris $w_i$ :
#
# $$y = \sum_i \frac{w_i}{\varepsilon + \sum_j w_j}\, x_i$$
#
# avec $w_i \geq 0$, grâce à une ReLU, et $\varepsilon = 0{,}0001$, qui évite de diviser par zéro :
# c'est la ***fusion normalisée rapide***.


# %%
@keras.saving.register_keras_serializable("effnet")
class WeightedSum(layers.Layer):
    """Fusion normalisée rapide de cartes de même forme : des poids positifs, de somme presque 1."""

    def build(self, input_shape):
        self.w = self.add_weight(shape=(len(input_shape),), initializer="ones")

    def shares(self):
        w = ops.relu(self.w)
        return w / (ops.sum(w) + 1e-4)

    def call(self, inputs):
        shares = self.shares()
        return sum(shares[k] * x for k, x in enumerate(inputs))

    def compute_output_shape(self, input_shape):
        return input_shape[0]


# %% [markdown]
# Comparons-la à un calcul NumPy. Un poids négatif doit compter pour zéro.

# %%
rng = np.random.default_rng(0)
three = [rng.normal(size=(2, 6, 6, 4)).astype("float32") for _ in range(3)]
fusion = WeightedSum()
fusion.build([x.shape for x in three])
fusion.w.assign(np.array([0.5, -2.0, 1.5], "float32"))
expected = (0.5 * three[0] + 1.5 * three[2]) / (0.5 + 1.5 + 0.0001)
gap = np.abs(ops.convert_to_numpy(fusion(three)) - expected).max()
parts = ops.convert_to_numpy(fusion.shares())
print("parts :", " · ".join(number(part, 4) for part in parts))
print(f"somme {number(parts.sum(), 5)}, écart avec NumPy {scientific(gap)}")
assert gap < 1e-5
assert (parts >= 0).all()

# %% [markdown]
# Une couche de BiFPN, sur trois cartes aux pas de 4, 8 et 16 pixels, les ramène d'abord au même
# nombre de canaux. La carte profonde monte vers la moyenne, puis vers la fine ; la fine redescend
# vers la moyenne, puis vers la profonde. La moyenne reçoit ainsi **trois** entrées.


# %%
def lateral(x, channels):
    """Ramène une carte à `channels` canaux."""
    return layers.BatchNormalization()(layers.Conv2D(channels, 1, use_bias=False)(x))


def node(maps, channels):
    """Un nœud du BiFPN : fondre, swish, convolution séparable, normaliser."""
    x = WeightedSum()(maps)
    x = layers.Activation("swish")(x)
    x = layers.SeparableConv2D(channels, 3, padding="same", use_bias=False)(x)
    return layers.BatchNormalization()(x)


def bifpn(fine, middle, deep, channels=32):
    """Une couche de BiFPN : trois cartes, chacune deux fois plus petite que la précédente."""
    fine, middle, deep = (lateral(x, channels) for x in (fine, middle, deep))
    rising = node([middle, layers.UpSampling2D(2)(deep)], channels)
    fine = node([fine, layers.UpSampling2D(2)(rising)], channels)
    falling = layers.MaxPooling2D(3, 2, padding="same")(fine)
    middle = node([middle, rising, falling], channels)
    falling = layers.MaxPooling2D(3, 2, padding="same")(middle)
    return fine, middle, node([deep, falling], channels)


# %% [markdown]
# EfficientDet empile de trois à huit de ces couches ; une seule suffira.
#
# #### Une tête sans ancre
#
# EfficientDet part d'***ancres*** ([chapitre 5](05_unet.ipynb)). Prenons plus simple, l'idée de
# [CenterNet](https://arxiv.org/abs/1904.07850) : sur une grille de 12 × 12 cases de 8 pixels, la
# tête donne pour chaque case trois scores, « le centre d'un objet de cette classe est ici », et
# quatre nombres : la place du centre dans la case, le logarithme de la largeur et de la hauteur. La
# vérité des scores est une ***carte de centres*** : 1 au centre, et une petite cloche autour, pour
# ne pas trop punir la case d'à côté.


# %%
STRIDE = 8
CELLS = SCENE // STRIDE
KINDS = len(SHAPES)


def centre_map(boxes, kinds):
    """La vérité, case par case (12, 12, 8) : 3 cloches, 2 décalages, 2 tailles, « objet ici »."""
    grid = np.zeros((CELLS, CELLS, KINDS + 5), "float32")
    rows, columns = np.mgrid[:CELLS, :CELLS]
    for box, kind in zip(boxes, kinds):
        centre, size = (box[:2] + box[2:]) / 2 / STRIDE, (box[2:] - box[:2]) / STRIDE
        column, row = centre.astype(int)
        width = max(0.4, size.mean() / 6)
        bell = np.exp(-((columns - column) ** 2 + (rows - row) ** 2) / (2 * width**2))
        grid[..., kind] = np.maximum(grid[..., kind], bell)
        grid[row, column, KINDS:] = [*(centre - (column, row)), *np.log(size), 1]
    return grid


# %% [markdown]
# À l'inverse, une boîte se lit à chaque **sommet** de la carte des scores : une case qui dépasse
# ses huit voisines. C'est ce qui remplace la suppression des non-maxima du chapitre 5.


# %%
def boxes_at_peaks(output, keep=10, least=0.05):
    """Sortie de la tête (12, 12, 7) -> boîtes (k, 4), classes (k,), scores (k,) décroissants."""
    p = sigmoid(output[..., :KINDS])
    p = np.where(p == ndimage.maximum_filter(p, size=(3, 3, 1)), p, 0)
    best = np.argsort(-p, axis=None)[:keep]
    rows, columns, kinds = np.unravel_index(best, p.shape)
    scores = p[rows, columns, kinds]
    places = output[rows, columns, KINDS : KINDS + 2]
    centres = (np.stack([columns, rows], axis=-1) + places) * STRIDE
    halves = np.exp(output[rows, columns, KINDS + 2 : KINDS + 4]) * STRIDE / 2
    boxes = np.concatenate([centres - halves, centres + halves], axis=-1)
    return boxes[scores >= least], kinds[scores >= least], scores[scores >= least]


# %% [markdown]
# La perte a deux morceaux, divisés par le nombre d'objets : une **perte focale** sur les scores
# (chapitre 5), adoucie sur les cloches, et l'écart absolu des quatre nombres, aux centres
# seulement.


# %%
def detection_loss(y_true, y_pred):
    """Une perte par image ; `y_true` (n, 12, 12, 8), `y_pred` (n, 12, 12, 7)."""
    heat, place, centre = ops.split(y_true, [KINDS, KINDS + 4], axis=-1)
    scores, guess = ops.split(y_pred, [KINDS], axis=-1)
    p = ops.sigmoid(scores)
    peak = ops.cast(heat > 0.999, scores.dtype)
    found = peak * (1 - p) ** 2 * ops.softplus(-scores)
    quiet = (1 - peak) * (1 - heat) ** 4 * p**2 * ops.softplus(scores)
    total = ops.sum(found + quiet, axis=(1, 2, 3))
    total = total + ops.sum(centre * ops.abs(place - guess), axis=(1, 2, 3))
    return total / ops.maximum(ops.sum(centre, axis=(1, 2, 3)), 1.0)


# %% [markdown]
# Le réseau : la tige et quatre étages de nos MBConv, en petit. Pour savoir ce qu'apporte le BiFPN,
# la tête lit la carte moyenne seule, ou la carte profonde agrandie, ou le mélange des trois.

# %%
DETECTOR_STAGES = (
    Stage(3, 1, 1, 8, 1),
    Stage(3, 2, 3, 24, 1),
    Stage(3, 2, 3, 40, 2),
    Stage(3, 2, 3, 64, 1),
)
LEVELS = ("block2a_project_bn", "block3b_add", "top_activation")  # pas de 4, 8, 16
FUSIONS = ("moyenne seule", "profonde seule", "BiFPN")


def gathered(fusion, fine, middle, deep):
    """La carte de 12 × 12 que la tête va lire."""
    if fusion == "BiFPN":
        return bifpn(fine, middle, deep)[1]
    x = lateral(middle if fusion == "moyenne seule" else deep, 32)
    if fusion == "profonde seule":
        x = layers.UpSampling2D(2)(x)
    return node([node([x], 32)], 32)


# %%
def detector(fusion="BiFPN"):
    """Image en octets (n, 96, 96, 3) -> scores et boîtes de chaque case (n, 12, 12, 7)."""
    inputs = keras.Input((SCENE, SCENE, 3))
    x = layers.Rescaling(1 / 127.5, -1)(inputs)
    x = features(x, stages=DETECTOR_STAGES, drop=0.0, head=64, stem=8)
    trunk = keras.Model(inputs, x)
    x = gathered(fusion, *(trunk.get_layer(name).output for name in LEVELS))
    x = layers.SeparableConv2D(64, 3, padding="same", activation="swish")(x)
    rare = keras.initializers.Constant(-2.2)  # au départ, p = 0,1 partout
    scores = layers.Conv2D(KINDS, 1, bias_initializer=rare)(x)
    places = layers.Conv2D(4, 1)(x)
    outputs = layers.Concatenate()([scores, places])
    return keras.Model(inputs, outputs, name="detector")


print(f"à BiFPN : {number(detector().count_params(), 0)} paramètres")

# %% [markdown]
# #### La précision moyenne
#
# Une détection est juste si elle recouvre un objet de sa classe, pas encore pris, avec une IoU d'au
# moins un demi. Rangeons-les, classe par classe, de la plus sûre à la moins sûre : après chacune,
# un rappel et une précision. L'aire sous cette courbe, où chaque précision est remplacée par la
# plus haute à rappel au moins égal, est la ***précision moyenne*** (AP) ; sa moyenne sur les
# classes, la mAP@.5.


# %%
def hits(found, truth, threshold=0.5):
    """Détections d'une classe, triées : vrai si l'objet le plus recouvert et libre l'est assez.

    `found` et `truth` : une entrée par image ; boîtes (k, 4) et scores (k,), puis boîtes (m, 4).
    """
    every = [(s, i, box) for i, (b, p) in enumerate(found) for box, s in zip(b, p)]
    free = [np.ones(len(boxes), bool) for boxes in truth]
    right = []
    for _, i, box in sorted(every, key=score_first, reverse=True):
        overlaps = box_overlap(box, truth[i])[0] * free[i] if len(truth[i]) else [0.0]
        best = int(np.argmax(overlaps))
        right.append(bool(overlaps[best] >= threshold))
        if right[-1]:
            free[i][best] = False
    return np.array(right, bool)


def score_first(detection):
    return detection[0]


def average_precision(right, objects):
    """AP, d'après les détections triées (vrai, faux…) et le nombre d'objets à trouver."""
    if not len(right):
        return 0.0
    recall = np.cumsum(right) / objects
    precision = np.cumsum(right) / np.arange(1, len(right) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0) * precision))


# %% [markdown]
# Essayons sur deux objets à trouver.

# %%
TWO = [np.array([[0.0, 0, 10, 10], [20, 20, 30, 30]])]
FIRST, SECOND = TWO[0]
NOWHERE = np.array([50.0, 50, 60, 60])
CASES = {
    "les deux": ([FIRST, SECOND], 1),
    "un seul": ([FIRST], 1 / 2),
    "le même deux fois": ([FIRST, FIRST], 1 / 2),
    "une invention, puis les deux": ([NOWHERE, FIRST, SECOND], 2 / 3),
    "les deux autour d'une invention": ([FIRST, NOWHERE, SECOND], 5 / 6),
}
for name, (boxes, by_hand) in CASES.items():
    found = [(boxes, np.linspace(0.9, 0.5, len(boxes)))]
    ap = average_precision(hits(found, TWO), 2)
    print(f"{name} : {number(ap, 3)}")
    assert abs(ap - by_hand) < 1e-9

# %% [markdown]
# Compter deux fois le même objet ne rapporte rien ; une invention ne coûte que si elle précède une
# bonne réponse. Ajoutons un témoin : des boîtes de taille moyenne, posées au hasard.


# %%
def mean_ap(found, truth):
    """mAP@.5 ; par image : (boîtes, classes, scores) trouvés, (boîtes, classes) vrais."""
    per_kind = []
    for kind in range(KINDS):
        ours = [(b[k == kind], s[k == kind]) for b, k, s in found]
        real = [b[k == kind] for b, k in truth]
        objects = sum(map(len, real))
        if objects:
            per_kind.append(average_precision(hits(ours, real), objects))
    return float(np.mean(per_kind)) if per_kind else 0.0


def guessed_boxes(truth, seed=0, count=3):
    """Trois boîtes par image, de taille moyenne, n'importe où : que vaut le hasard ?"""
    rng = np.random.default_rng(seed)
    every = np.concatenate([boxes for boxes, _ in truth])
    half = (every[:, 2:] - every[:, :2]).mean(axis=0) / 2
    answers = []
    for _ in truth:
        centres = rng.uniform(half, SCENE - half, (count, 2))
        boxes = np.concatenate([centres - half, centres + half], axis=1)
        answers.append((boxes, rng.integers(KINDS, size=count), rng.random(count)))
    return answers


# %% [markdown]
# Comparons les trois variantes sur des scènes neuves : la mAP, partout puis à plusieurs objets, et,
# selon la taille, la part des objets retrouvés avec un score d'au moins 0,3.

# %%
TRIED = runtime.pick(quick=FUSIONS[-1:], full=FUSIONS)
SCENES = runtime.pick(quick=4, full=6000, cpu=1200)
TEST_SCENES = runtime.pick(quick=4, full=1000, cpu=400)
DETECTION_EPOCHS = runtime.pick(quick=1, full=30, cpu=10)
DETECTION_SEEDS = runtime.pick(quick=(0,), full=(0, 1, 2), cpu=(0,))


def drawn_scenes(count, seed):
    """Images (n, 96, 96, 3), cartes de centres (n, 12, 12, 8), et les (boîtes, classes)."""
    drawn = [drawn_scene([seed, k]) for k in range(count)]
    truth = [(boxes, kinds) for _, boxes, kinds in drawn]
    images = np.stack([image for image, _, _ in drawn])
    return images, np.stack([centre_map(*one) for one in truth]), truth


def trained_detector(fusion, images, maps, seed):
    keras.utils.set_random_seed(seed)
    model = detector(fusion)
    steps = DETECTION_EPOCHS * -(-len(images) // 16)
    rate = keras.optimizers.schedules.CosineDecay(3e-3, steps)
    optimizer = keras.optimizers.Adam(rate)
    model.compile(optimizer, loss=detection_loss, run_eagerly=EAGER)
    model.fit(images, maps, batch_size=16, epochs=DETECTION_EPOCHS, verbose=0)
    return model


# %%
def detections(model, images):
    outputs = model.predict(images, verbose=0)
    return [boxes_at_peaks(output) for output in outputs]


def only(found, truth, chosen):
    """Les images où `chosen` est vrai."""
    pairs = [pair for pair, kept in zip(zip(found, truth), chosen) if kept]
    return [a for a, _ in pairs], [b for _, b in pairs]


def detection_scores(found, truth):
    """mAP@.5 partout, et à plusieurs objets ; par taille, part retrouvée à 0,3 ou plus."""
    several = [len(boxes) > 1 for boxes, _ in truth]
    taken, sizes = [], []
    for (boxes, kinds, scores), (real, classes) in zip(found, truth):
        good = (box_overlap(real, boxes) >= 0.5) & (classes[:, None] == kinds)
        taken.extend((good & (scores >= 0.3)).any(axis=1))
        sizes.extend(np.sqrt(np.prod(real[:, 2:] - real[:, :2], axis=1)))
    taken, sizes = np.array(taken), np.array(sizes)
    groups = {
        "small": sizes < 16,
        "medium": (sizes >= 16) & (sizes < 30),
        "large": sizes >= 30,
    }
    recalls = {k: float(taken[g].mean()) if g.any() else 0.0 for k, g in groups.items()}
    every = {
        "map": mean_ap(found, truth),
        "several": mean_ap(*only(found, truth, several)),
    }
    return every | recalls


# %%
def detection_run():
    images, maps, _ = drawn_scenes(SCENES, seed=2)
    test, _, truth = drawn_scenes(TEST_SCENES, seed=3)
    results = {"hasard": [detection_scores(guessed_boxes(truth), truth)]}
    for fusion in TRIED:
        results[fusion] = []
        for seed in DETECTION_SEEDS:
            model = trained_detector(fusion, images, maps, seed)
            found = detections(model, test)
            results[fusion].append(detection_scores(found, truth))
        if fusion == "BiFPN":
            examples = [[part.tolist() for part in one] for one in found[:6]]
            nodes = [layer for layer in model.layers if isinstance(layer, WeightedSum)]
            weights = [ops.convert_to_numpy(one.shares()).tolist() for one in nodes]
    return {"scores": results, "found": examples, "weights": weights}


detection = experiment("detection", detection_run)


# %%
def over_runs(runs, key, digits=3):
    """Moyenne et écart type d'une mesure ; le nombre seul s'il n'y a qu'une graine."""
    values = [run[key] for run in runs]
    return spread(values, digits) if len(values) > 1 else number(values[0], digits)


results = detection.values["scores"]
rows = [
    (name, over_runs(runs, "map"), over_runs(runs, "several"))
    for name, runs in results.items()
]
runtime.show_table(("la tête lit…", "mAP@.5", "scènes à plusieurs objets"), rows)
rows = [
    (
        name,
        *(
            percent(np.mean([run[key] for run in runs]))
            for key in ("small", "medium", "large")
        ),
    )
    for name, runs in results.items()
]
runtime.show_table(
    ("objets retrouvés", "moins de 16 px", "16 à 30 px", "30 px et plus"), rows
)
full = detection.full and detection.full["scores"]["BiFPN"]
verdict(
    "effnet-use-detection", full and float(np.mean([run["several"] for run in full]))
)

# %% [markdown]
# Voici trois scènes neuves, et les réponses du réseau à BiFPN de score au moins 0,3.

# %% tags=["hide-input"] cellView="form"
# @title Dessin : les boîtes trouvées
fig, axes = plt.subplots(1, 3, figsize=(figures.WIDTH, 2.2))
counts = []
for k, (ax, one) in enumerate(zip(axes, detection.values["found"])):
    image, real, _ = drawn_scene([3, k])
    boxes, kinds, scores = (np.array(part) for part in one)
    sure = scores >= 0.3
    outlined(ax, image, boxes[sure], kinds[sure], scores[sure])
    counts.append(f"{sum(sure)} pour {len(real)}")
figures.show(
    fig,
    alt="Trois scènes de test et les boîtes trouvées, avec l'initiale de la classe et le score. "
    "Boîtes trouvées et objets présents, scène par scène : " + ", ".join(counts) + ".",
)

# %% [markdown]
# Voici enfin les poids appris par les trois nœuds dont la tête dépend.

# %%
NODES = {
    "vers la moyenne": ("moyenne", "profonde"),
    "vers la fine": ("fine", "qui monte"),
    "sortie lue": ("moyenne", "qui monte", "qui descend"),
}
rows = [
    (
        name,
        ", ".join(
            f"{source} {number(share)}" for source, share in zip(sources, shares)
        ),
    )
    for (name, sources), shares in zip(NODES.items(), detection.values["weights"])
]
runtime.show_table(("nœud", "part de chaque carte"), rows)

# %% [markdown]
# Ce petit réseau, parti de zéro, trouve presque tous les objets de plus de 16 pixels. Une petite
# forme sur cinq lui échappe : elle ne couvre qu'une case ou deux. Lire la seule carte profonde
# coûte vingt-quatre points de mAP. Mais la carte moyenne seule fait jeu égal avec le BiFPN (une
# graine, deux millièmes d'écart), et les poids appris restent proches du partage égal : sur ces
# scènes, il suffit de lire une carte assez fine. Pour des piétons ou des panneaux, il faudrait de
# vraies photographies annotées : nous n'en jugeons pas.
# %% [markdown]
# ### Segmenter
#
# « En intégrant EfficientNet-B4 dans des architectures de segmentation (comme **U-Net** ou **FPN**
# avec EfficientNet comme backbone), il est possible de segmenter des images, c'est-à-dire de
# classifier chaque pixel d'une image. »
#
# Les usages suivants lisent les cartes d'un réseau **gelé** : avec des poids d'ImageNet, puis avec
# des poids au hasard, qui diront ce que valent les premiers. À cet encodeur, greffons le décodeur
# du chapitre 5. Les connexions directes partent des cartes que le premier bloc d'un étage vient
# d'élargir, juste avant le pas de 2 qui réduit leur côté : ce sont les plus riches à leur
# résolution.

# %%
SKIP_LAYERS = [f"block{stage}a_expand_activation" for stage in (6, 4, 3, 2)]


def segmenter(encoder, classes=3, filters=(96, 64, 48, 32)):
    """U-Net : l'encodeur, gelé, et un décodeur léger -> scores (h, w, classes)."""
    encoder.trainable = False
    x = encoder.output
    for level, (name, count) in enumerate(zip(SKIP_LAYERS, filters)):
        skip = encoder.get_layer(name).output
        step = f"skip{level}_"
        skip = unit(skip, conv(count, 1, name=step), step, "relu")
        x = layers.Conv2DTranspose(count, 2, 2)(x)
        x = layers.Concatenate()([x, skip])
        step = f"up{level}_"
        x = unit(x, conv(count, 3, name=step), step, "relu")
    x = layers.Conv2DTranspose(16, 2, 2, activation="relu")(x)
    outputs = layers.Conv2D(classes, 3, padding="same")(x)
    return keras.Model(encoder.input, outputs, name="segmenter")


# %% [markdown]
# Les images et les trimaps sont celles du chapitre 6, avec leur séparation officielle. Seul le
# décodeur apprend, sans augmentation.

# %%
SEGMENT_SIDE = runtime.pick(quick=32, full=128, cpu=64)
SEGMENT_EPOCHS = runtime.pick(quick=1, full=20, cpu=8)
SEGMENT_SEEDS = runtime.pick(quick=(0,), full=(0, 1, 2), cpu=(0, 1))
WEIGHTS = runtime.pick(quick=("ImageNet",), full=("au hasard", "ImageNet"))


def pet_parts():
    """(images, trimaps) d'entraînement, puis de test, au côté voulu."""
    step = pets.masks.shape[1] // SEGMENT_SIDE
    images = as_rgb(pets.images, SEGMENT_SIDE)
    masks = pets.masks[:, step // 2 :: step, step // 2 :: step]
    test = pets.split == "test"
    return (images[~test], masks[~test]), (images[test], masks[test])


def trained_segmenter(model, x, y):
    steps = SEGMENT_EPOCHS * -(-len(x) // 16)
    rate = keras.optimizers.schedules.CosineDecay(3e-3, steps)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss=loss, run_eagerly=EAGER)
    model.fit(x, y, batch_size=16, epochs=SEGMENT_EPOCHS, verbose=0)


# %%
def segmentation_run():
    (x, y), (x_test, y_test) = pet_parts()
    found = {"background": per_class(iou, y_test, np.ones_like(y_test), 3).tolist()}
    for weights in WEIGHTS:
        found[weights], found[f"{weights}, cartes"] = [], []
        encoder, prepare = backbone(weights, SEGMENT_SIDE)
        for seed in SEGMENT_SEEDS:
            keras.utils.set_random_seed(seed)
            model = segmenter(encoder)
            trained_segmenter(model, prepare(x), y)
            maps = predicted(model, prepare(x_test)).argmax(axis=-1)
            found[weights].append(per_class(iou, y_test, maps, 3).tolist())
        shown = maps[:: max(1, len(maps) // 3)][:3]
        rows = [["".join(map(str, row)) for row in one] for one in shown.tolist()]
        found[f"{weights}, cartes"] = rows
    return found


segmentation = experiment("segmentation", segmentation_run)


# %%
def average_iou(runs):
    """L'IoU moyenne de chaque graine ; `runs` : graines, puis classes."""
    return [float(np.nanmean(ious)) for ious in runs]


found = segmentation.values
pet, _, border = found["background"]
(average,) = average_iou([found["background"]])
rows = [("« fond » partout", number(average, 3), number(pet), number(border))]
for weights in WEIGHTS:
    pet, _, border = np.mean(found[weights], axis=0)
    averages = spread(average_iou(found[weights]))
    rows.append((f"gelé, {weights}", averages, number(pet), number(border)))
runtime.show_table(("encodeur", "IoU moyenne", "animal", "bordure"), rows)
full = segmentation.full and average_iou(segmentation.full["ImageNet"])
verdict("effnet-use-segmentation", full and float(np.mean(full)))

# %% tags=["hide-input"] cellView="form"
# @title Dessin : trois images et leurs segmentations
here = segmentation.here
_, (x_test, y_test) = pet_parts()
every = max(1, len(x_test) // 3)
tones = np.array([0.45, 0.15, 1.0])  # animal, fond, bordure
views = []
for k, (image, mask) in enumerate(zip(x_test[::every][:3], y_test[::every][:3])):
    views += [image / 255, tones[mask]]
    for weights in WEIGHTS:
        rows = here[f"{weights}, cartes"][k]
        views.append(tones[[[int(digit) for digit in row] for row in rows]])
titles = ["image", "trimap", *WEIGHTS]
scores = [f"{weights} {number(np.nanmean(here[weights]))}" for weights in WEIGHTS]
figures.show(
    figures.grid(views, titles * 3, columns=len(titles)),
    alt="Trois images de test, leurs trimaps, et ce que rend le décodeur sur un encodeur gelé. "
    f"IoU moyenne selon les poids de l'encodeur : {', '.join(scores)}.",
)

# %% [markdown]
# Les poids d'ImageNet font passer l'IoU moyenne de 0,38 à 0,60, celle de la bordure de 0,04 à
# 0,27 ; entre les deux graines, l'écart est de deux centièmes. Au chapitre 6, MobileNetV2 gelé,
# avec un décodeur bien plus gros, atteint 0,60 au même côté de 64 pixels, et 0,68 une fois affiné
# et réglé.
#
# ### Reconnaître des visages
#
# « En tant qu'extracteur de caractéristiques performant, EfficientNet peut être utilisé pour
# extraire des représentations de visages qui permettent de reconnaître et de différencier les
# individus. »
#
# La **vérification** demande si deux images montrent la même personne : oui, si le cosinus de leurs
# représentations les met à une distance inférieure à un seuil. Quand le seuil varie, la part des
# vraies paires acceptées, selon celle des fausses, trace la ***courbe ROC*** ; son aire, l'**AUC**,
# est la probabilité qu'une vraie paire soit plus proche qu'une fausse (0,5 : le hasard). Le ***taux
# d'égale erreur*** est l'erreur au seuil où les deux sortes d'erreur sont égales.
#
# Deux jeux : les quarante personnes d'ORL, que ce livre ne montre pas, et des personnes dessinées.
# En voici trois.

# %%
drawn_people = synthetic.identities(n_people=3, n_each=3, seed=8)
figures.show(
    figures.grid(
        list(drawn_people.images), columns=3, row_labels=["n° 1", "n° 2", "n° 3"]
    ),
    alt="Trois personnes dessinées, trois images de chacune : la pose, la lumière, le fond et le "
    "sourire changent, pas les traits.",
)

# %% [markdown]
# Quatre représentations : les pixels d'une vignette ; leurs composantes principales (ACP ; *PCA* en
# anglais et dans le code), c'est-à-dire leurs coordonnées sur les soixante directions où les
# visages connus varient le plus ([*eigenfaces*](https://doi.org/10.1162/jocn.1991.3.1.71), 1991) ;
# le réseau au hasard ; le réseau d'ImageNet. La première moitié des personnes donne une moyenne à
# retrancher et les directions de l'ACP ; on juge sur les autres.

# %%
PEOPLE = runtime.pick(quick=4, full=40)
FACE_SIDE = runtime.pick(quick=32, full=128)
FAR = np.logspace(-3, 0, 25)  # où lire la courbe
RESAMPLES = runtime.pick(quick=5, full=200, cpu=100)


def principal(known, vectors, kept=60):
    """Les `kept` premières composantes principales de `known`, appliquées à `vectors`."""
    _, _, axes = np.linalg.svd(known, full_matrices=False)
    return vectors @ axes[:kept].T


def face_vectors(images, known, networks):
    """Chaque représentation (n, d), moins sa moyenne sur les personnes connues."""
    thumbs = as_rgb(images, 32)[..., 0].reshape(len(images), -1) / 255
    large = as_rgb(images, FACE_SIDE)
    vectors = {"pixels": thumbs}
    for weights, (model, prepare) in networks.items():
        vectors[weights] = predicted(model, prepare(large)).mean(axis=(1, 2))
    vectors = {name: v - v[known].mean(axis=0) for name, v in vectors.items()}
    pixels = vectors["pixels"]
    return {"pixels": pixels, "PCA": principal(pixels[known], pixels)} | vectors


# %% [markdown]
# Vingt personnes, c'est peu. Pour savoir ce qui tient à elles, retirons les **personnes** au sort,
# avec remise, cent fois ou plus (***bootstrap***) : une paire compte autant de fois que ses
# personnes sont tirées. Retirer les paires donnerait des intervalles trop étroits, car une même
# personne est dans près de deux mille paires.


# %%
def cosine_distances(vectors):
    """1 − cosinus de chaque paire, dans l'ordre de `np.triu_indices`."""
    units = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return (1 - units @ units.T)[np.triu_indices(len(units), k=1)]


def pair_weights(people_a, people_b, rng):
    """Combien de fois chaque paire est tirée, si l'on tire les personnes avec remise."""
    count = people_b.max() + 1
    times = np.zeros(count, int)
    while np.count_nonzero(times) < 2:  # il faut au moins deux personnes
        times = np.bincount(rng.integers(count, size=count), minlength=count)
    same = people_a == people_b
    return np.where(same, times[people_a], times[people_a] * times[people_b])


def face_scores(vectors, labels):
    """AUC, taux d'égale erreur, points de la courbe, et AUC de chaque tirage de personnes."""
    a, b = np.triu_indices(len(labels), k=1)
    people_a, people_b = labels[a], labels[b]
    same, distances = people_a == people_b, cosine_distances(vectors)
    curve = verification_curve(distances, same)
    rng = np.random.default_rng(0)
    draws = [pair_weights(people_a, people_b, rng) for _ in range(RESAMPLES)]
    aucs = [roc_auc_score(same, -distances, sample_weight=draw) for draw in draws]
    tar = np.interp(FAR, curve.far, curve.tar)
    return {"auc": curve.auc, "eer": curve.eer, "tar": tar.tolist(), "draws": aucs}


# %%
def faces_run():
    groups = {"dessinés": synthetic.identities(PEOPLE, seed=1), "ORL": people}
    networks = {weights: backbone(weights, FACE_SIDE) for weights in WEIGHTS}
    found = {}
    for name, group in groups.items():
        chosen = group.labels < PEOPLE
        images, labels = group.images[chosen], group.labels[chosen]
        known = labels < PEOPLE // 2
        vectors = face_vectors(images, known, networks)
        judged = labels[~known] - PEOPLE // 2
        found[name] = {k: face_scores(v[~known], judged) for k, v in vectors.items()}
    return found


faces = experiment("faces", faces_run)


# %%
def interval(draws):
    """Les quantiles à 2,5 et 97,5 %."""
    low, high = np.quantile(draws, [0.025, 0.975])
    return f"{number(low, 3)} à {number(high, 3)}"


FRENCH = {"PCA": "ACP"}
SHOWN_FACES = {"dessinés": "visages dessinés", "ORL": "visages d'ORL"}
if not faces.full and people.source != "real":
    SHOWN_FACES["ORL"] = "remplaçants d'ORL"
for group, found in faces.values.items():
    rows = [
        (
            FRENCH.get(name, name),
            number(one["auc"], 3),
            interval(one["draws"]),
            percent(one["eer"], 1),
        )
        for name, one in found.items()
    ]
    runtime.show_table(
        (SHOWN_FACES[group], "AUC", "intervalle à 95 %", "égale erreur"), rows
    )

# %% tags=["hide-input"] cellView="form"
# @title Dessin : les courbes ROC
found = faces.values["ORL"]
fig = figures.curves(
    {FRENCH.get(name, name): one["tar"] for name, one in found.items()},
    "fausses acceptations",
    "vraies acceptations",
    x=FAR,
)
fig.axes[0].set_xscale("log")
areas = ", ".join(
    f"{FRENCH.get(name, name)} {number(one['auc'], 3)}" for name, one in found.items()
)
figures.show(
    fig,
    alt=f"Courbes ROC de la vérification ({SHOWN_FACES['ORL']}), fausses acceptations en échelle "
    f"logarithmique. Aires : {areas}.",
)

# %%
found = faces.full and faces.full["ORL"]
gain = None
if found:
    gain = np.array(found["ImageNet"]["draws"]) - found["pixels"]["draws"]
    print(f"ORL, ImageNet moins pixels, AUC : {interval(gain)}")
verdict("effnet-use-faces", found and found["ImageNet"]["auc"])

# %% [markdown]
# Sans avoir jamais appris de visage, le réseau d'ImageNet sépare les personnes mieux que les
# pixels : sur ORL, le taux d'égale erreur tombe de 18 à 7 %, et l'intervalle de la différence est
# loin de zéro.
#
# Mais une erreur sur quinze, sur des portraits posés et bien éclairés, ne fait pas un « système de
# sécurité » : le [chapitre 9](09_arcface.ipynb) apprend pour de bon à reconnaître. L'autre exemple
# du document, « identification d'empreintes digitales ou d'iris », ne se vérifie pas ici, faute
# d'images que l'on puisse distribuer.
# %% [markdown]
# ### Améliorer une image
#
# « Certaines applications utilisent EfficientNet-B4 pour améliorer la qualité d'images (en
# super-résolution, réduction de bruit) ou pour détecter des anomalies. »
#
# B4 ramène 380 pixels à 12 cases de côté : il jette ce qu'il faudrait garder. Mais sans pas, un
# MBConv garde la taille. Empilons-en quatre, entre deux convolutions, et ajoutons leur sortie à
# l'image reçue : le réseau n'a qu'à apprendre la **correction**. Pas de bloc SE : sa moyenne
# changerait avec la taille de l'image, et nous apprenons sur des tuiles. La dernière convolution
# part de zéro : le réseau rend d'abord l'image telle quelle.


# %%
def restorer(blocks=4, channels=24):
    """Image (h, w, 3) dans [0, 1] -> la même, corrigée ; h et w quelconques."""
    inputs = keras.Input((None, None, 3))
    x = layers.Conv2D(channels, 3, padding="same")(inputs)
    for k in range(blocks):
        x = mbconv(x, channels, expansion=2, se=0, name=f"block{k}_")
    x = layers.Conv2D(3, 3, padding="same", kernel_initializer="zeros")(x)
    return keras.Model(inputs, layers.Add()([inputs, x]), name="restorer")


picture = photographs["coffee"][None, 100:148, 200:248] / 255
unchanged = ops.convert_to_numpy(restorer()(picture.astype("float32")))
assert np.abs(unchanged - picture).max() < 1e-6
print(f"{number(restorer().count_params(), 0)} paramètres")

# %% [markdown]
# Deux tâches, apprises à part. La **super-résolution** : l'image est réduite de moitié, puis
# agrandie par interpolation **bicubique**, le point de comparaison. Le **bruit** : un bruit
# gaussien d'écart type 25 sur 255, comparé à un filtre médian et à un filtre gaussien de largeur
# choisie sur les tuiles d'entraînement. Quatre photographies pour apprendre, deux autres pour
# juger.

# %%
LEARNED_ON = ("chelsea", "rocket", "galaxies", "flower")
JUDGED_ON = ("coffee", "pavilion")
NOISE = 25 / 255
BLURS = (0.5, 0.75, 1.0, 1.25, 1.5)


def bicubic(image, size):
    """Octets (h, w, 3) -> octets de la taille (hauteur, largeur) voulue."""
    picture = Image.fromarray(image).resize(size[::-1], Image.Resampling.BICUBIC)
    return np.asarray(picture)


def blurred_twice(image, rng):
    """Réduite de moitié, puis agrandie."""
    height, width, _ = image.shape
    return bicubic(bicubic(image, (height // 2, width // 2)), (height, width)) / 255


def with_noise(image, rng):
    return image / 255 + rng.normal(0, NOISE, image.shape)


DAMAGES = {"super-résolution": blurred_twice, "bruit": with_noise}


# %%
def restoration_tiles(damage, count, side, seed):
    """Des tuiles abîmées et intactes (n, side, side, 3), prises au hasard."""
    rng = np.random.default_rng(seed)
    sources = [photographs[name] for name in LEARNED_ON]
    pairs = [(damage(image, rng), image / 255) for image in sources]
    tiles = []
    for k in range(count):
        bad, good = pairs[k % len(pairs)]
        top, left = (int(rng.integers(n - side + 1)) for n in good.shape[:2])
        window = slice(top, top + side), slice(left, left + side)
        tiles.append((bad[window], good[window]))
    return [np.stack(arrays).astype("float32") for arrays in zip(*tiles)]


def trained_restorer(x, y, seed):
    keras.utils.set_random_seed(seed)
    model = restorer()
    steps = RESTORE_EPOCHS * -(-len(x) // 16)
    rate = keras.optimizers.schedules.CosineDecay(2e-3, steps)
    model.compile(keras.optimizers.Adam(rate), loss="mse", run_eagerly=EAGER)
    model.fit(x, y, batch_size=16, epochs=RESTORE_EPOCHS, verbose=0)
    return model


# %% [markdown]
# Deux mesures. Le ***PSNR***, en décibels, est l'erreur quadratique moyenne (EQM) sur une échelle
# logarithmique :
#
# $$\text{PSNR} = -10 \log_{10} \text{EQM},$$
#
# pour des valeurs de 0 à 1 : trois décibels de plus, deux fois moins d'erreur. La ***SSIM***
# compare les moyennes, les contrastes et les structures de petites fenêtres ; elle vaut 1 pour deux
# images égales.

# %%
RESTORE_EPOCHS = runtime.pick(quick=1, full=30, cpu=10)
TILES = runtime.pick(quick=4, full=8000, cpu=2400)
TILE_SIDE = runtime.pick(quick=16, full=48, cpu=32)
RESTORE_SEEDS = runtime.pick(quick=(0,), full=(0, 1, 2), cpu=(0,))
CROP = runtime.pick(quick=48, full=256)


def quality(clean, restored):
    """PSNR et SSIM d'une image de valeurs dans [0, 1]."""
    restored = np.clip(restored, 0, 1)
    psnr = peak_signal_noise_ratio(clean, restored, data_range=1.0)
    ssim = structural_similarity(clean, restored, channel_axis=2, data_range=1.0)
    return [float(psnr), float(ssim)]


def judged_pair(name, damage):
    """Le carré du milieu d'une photographie de test, abîmé et intact."""
    image = photographs[name]
    top, left = ((n - CROP) // 2 for n in image.shape[:2])
    image = image[top : top + CROP, left : left + CROP]
    return damage(image, np.random.default_rng(5)), image / 255


def best_blur(x, y):
    """La largeur du filtre gaussien qui abîme le moins les tuiles d'entraînement."""
    errors = [
        np.mean((ndimage.gaussian_filter(x, (0, s, s, 0)) - y) ** 2) for s in BLURS
    ]
    return BLURS[int(np.argmin(errors))]


# %%
def simple_answers(task, bad, blur):
    """Ce que l'on sait faire sans apprendre."""
    if task == "super-résolution":
        return {"bicubique": bad}
    smooth = ndimage.gaussian_filter(bad, (blur, blur, 0))
    return {
        "rien": bad,
        "gaussien": smooth,
        "médian": ndimage.median_filter(bad, (3, 3, 1)),
    }


def quality_run():
    found = {}
    for task, damage in DAMAGES.items():
        x, y = restoration_tiles(damage, TILES, TILE_SIDE, seed=4)
        blur = best_blur(x[:200], y[:200])
        models = [trained_restorer(x, y, seed) for seed in RESTORE_SEEDS]
        found[task] = {"blur": blur}
        for name in JUDGED_ON:
            bad, clean = judged_pair(name, damage)
            answers = simple_answers(task, bad, blur)
            scores = {way: [quality(clean, image)] for way, image in answers.items()}
            restored = [predicted(m, bad[None].astype("float32"))[0] for m in models]
            scores["réseau"] = [quality(clean, image) for image in restored]
            found[task][name] = scores
            found[task][f"{name}, image"] = as_hex(restored[0])
    return found


# %%
def zoomed(image):
    """Un carré de 48 pixels, à montrer de près."""
    corner = (image.shape[0] - 48) // 2
    return image[corner : corner + 48, corner : corner + 48]


def as_hex(image):
    """Ce carré en texte."""
    return np.round(255 * np.clip(zoomed(image), 0, 1)).astype("uint8").tobytes().hex()


def from_hex(text):
    return np.frombuffer(bytes.fromhex(text), "uint8").reshape(48, 48, 3)


restored = experiment("quality", quality_run)

# %%
for task in DAMAGES:
    found = restored.values[task]
    rows = []
    for way in found[JUDGED_ON[0]]:
        runs = [found[name][way] for name in JUDGED_ON]
        psnrs = [[psnr for psnr, _ in run] for run in runs]
        cells = [spread(one, 2) if len(one) > 1 else number(*one) for one in psnrs]
        rows.append(
            (way, *cells, number(np.mean([ssim for run in runs for _, ssim in run]), 3))
        )
    runtime.show_table((f"{task}, en dB", *JUDGED_ON, "SSIM moyenne"), rows)


# %%
def best_simple(scores):
    return max(run[0][0] for way, run in scores.items() if way != "réseau")


gains = restored.full and [
    min(
        np.mean([psnr for psnr, _ in restored.full[task][name]["réseau"]])
        - best_simple(restored.full[task][name])
        for name in JUDGED_ON
    )
    for task in DAMAGES
]
verdict("effnet-use-quality", gains and [bool(gain > 0) for gain in gains])

# %% tags=["hide-input"] cellView="form"
# @title Dessin : un détail, avant et après
views, titles = [], []
for task, damage in DAMAGES.items():
    bad, clean = judged_pair("pavilion", damage)
    here = from_hex(restored.here[task]["pavilion, image"])
    views += [zoomed(clean), np.clip(zoomed(bad), 0, 1), here / 255]
    titles += ["originale", "bicubique" if task != "bruit" else "bruitée", "réseau"]
psnrs = [number(restored.here[task]["pavilion"]["réseau"][0][0], 1) for task in DAMAGES]
figures.show(
    figures.grid(views, titles, columns=3),
    alt="Un détail d'une photographie de test, de près : l'original, l'agrandissement bicubique et "
    f"celui du réseau ({psnrs[0]} dB) ; dessous, l'original, l'image bruitée et celle que rend le "
    f"réseau ({psnrs[1]} dB).",
)

# %% [markdown]
# Le réseau devance l'agrandissement bicubique d'un décibel sur *coffee*, d'un tiers sur
# *pavilion* ; et les filtres, de trois et de quatre décibels et demi. Mais « utiliser
# EfficientNet-B4 » n'est pas le bon mot : nous n'avons repris que son bloc.
#
# ### Détecter des anomalies
#
# La même phrase parle d'anomalies, par exemple « dans des images industrielles pour la maintenance
# prédictive ». On a beaucoup d'images **normales**, et peu de défauts : apprenons le normal, et
# mesurons l'écart. En chaque point des cartes du réseau gelé, un vecteur ; tous les vecteurs
# normaux donnent une moyenne $\mu$ et une covariance $\Sigma$ ; l'anomalie d'un point est sa
# ***distance de Mahalanobis*** :
#
# $$d(x)^2 = (x - \mu)^\top\, \Sigma^{-1}\, (x - \mu)$$
#
# Une direction où le normal varie beaucoup compte peu. [PaDiM](https://arxiv.org/abs/2011.08785)
# fait ainsi, avec une gaussienne par position ; notre tissu est le même partout, une seule suffit.


# %%
def gaussian_of(vectors, ridge=1e-4):
    """Moyenne et inverse de la covariance, un peu régularisée, de vecteurs (n, d)."""
    mean = vectors.mean(axis=0)
    covariance = np.cov(vectors, rowvar=False)
    covariance += (ridge * np.trace(covariance) / len(mean) + 1e-9) * np.eye(len(mean))
    return mean, np.linalg.inv(covariance)


def mahalanobis(vectors, mean, inverse):
    """Distance (…) de vecteurs (…, d) à la gaussienne."""
    gap = vectors - mean
    return np.sqrt(np.maximum(np.sum((gap @ inverse) * gap, axis=-1), 0))


# %% [markdown]
# Voici un tissu dessiné et trois défauts discrets : une tache à peine plus sombre, un fil manquant,
# un accroc qui déforme la trame.

# %% tags=["hide-input"] cellView="form"
# @title Dessin : la trame et ses défauts
CLOTH = 128  # côté d'une image de tissu
DEFECTS = ("tache", "fil manquant", "accroc")


def woven(x, y, period):
    """Des fils croisés, l'un au-dessus, l'autre au-dessous, en alternance : valeurs de 0 à 1."""
    across, along = (
        np.abs(np.cos(np.pi * y / period)),
        np.abs(np.cos(np.pi * x / period)),
    )
    above = (np.floor(x / period + 0.5) + np.floor(y / period + 0.5)) % 2 == 0
    return np.where(above, across, along)


def defect_at(kind, x, y, rng):
    """Décalage de la trame (dx, dy), assombrissement, et masque d'un défaut."""
    cx, cy = rng.uniform(24, CLOTH - 24, 2)
    bump = np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * 7.0**2))
    if kind == "tache":
        return 0 * bump, 0.2 * bump, bump > 0.3
    if kind == "accroc":
        return 3.5 * bump * np.sign(x - cx), 0 * bump, bump > 0.3
    band = (np.abs(y - cy) < 2.5) & (np.abs(x - cx) < 22)
    return 0 * bump, 0.4 * band, band


# %% tags=["hide-input"] cellView="form"
# @title Dessin : quatre carrés de tissu
def cloth(seed, kind=None):
    """Une image de tissu en octets (128, 128, 3) et le masque de son défaut, s'il en a un."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:CLOTH, :CLOTH].astype(float)
    tilt, period = rng.normal(0, 0.005), rng.uniform(8.9, 9.1)
    light = 1 + rng.uniform(-0.1, 0.1) * (x / CLOTH - 0.5) + rng.uniform(-0.04, 0.04)
    phases = rng.uniform(0, 50, 2)
    shift, dark, mask = 0.0, np.zeros((CLOTH, CLOTH)), np.zeros((CLOTH, CLOTH), bool)
    if kind:
        shift, dark, mask = defect_at(kind, x, y, rng)
    u, v = x + tilt * y + phases[0] + shift, y - tilt * x + phases[1]
    grey = (0.45 + 0.4 * woven(u, v, period)) * light
    absorbed = np.multiply.outer(dark, [0.6, 0.8, 1.0])
    image = grey[..., None] * np.array([0.85, 0.95, 1.0]) * (1 - absorbed)
    image += rng.normal(0, 0.02, image.shape)
    return np.clip(255 * image, 0, 255).astype("uint8"), mask


shown = [cloth([0, k], kind) for k, kind in enumerate((None, *DEFECTS))]
figures.show(
    figures.grid([image for image, _ in shown], ["normal", *DEFECTS], columns=4),
    alt="Quatre carrés de tissu gris bleu aux fils croisés : un normal, un qui porte une tache "
    "un peu plus sombre, un où un bout de fil est plus sombre, un dont la trame est déformée.",
)

# %% [markdown]
# Le réseau est lu au pas de 16 pixels. Points de comparaison : le réseau au hasard, et les pixels,
# en carrés de 8 × 8. Une image vaut son point le plus anormal ; la **localisation** se juge pixel
# par pixel.

# %%
NORMAL = runtime.pick(quick=4, full=400, cpu=80)
DEFECTIVE = runtime.pick(
    quick=2, full=200, cpu=40
)  # par sorte de défaut ; autant de normales
ANOMALY_LAYER = "block6a_expand_activation"
GRID = CLOTH // 8


def square_pixels(images):
    """Des carrés de 8 × 8 pixels, un vecteur chacun : (n, 16, 16, 192)."""
    parts = images.reshape(-1, GRID, 8, GRID, 8, 3) / 255
    return parts.transpose(0, 1, 3, 2, 4, 5).reshape(-1, GRID, GRID, 192)


def local_vectors(weights, images):
    """Un vecteur par case : (n, 16, 16, 192) pour les pixels, (n, 8, 8, 672) pour un réseau."""
    if weights == "pixels":
        return square_pixels(images)
    model, prepare = backbone(weights, CLOTH)
    inner = keras.Model(model.input, model.get_layer(ANOMALY_LAYER).output)
    return predicted(inner, prepare(images))


# %%
def enlarged_map(maps):
    """Des cartes (n, h, h) à la taille des images : chaque case devient un carré."""
    step = CLOTH // maps.shape[1]
    return np.kron(maps, np.ones((1, step, step)))


def anomaly_scores(maps, masks, kinds):
    """AUC par défaut (image contre image normale), et AUC pixel par pixel."""
    worst = maps.max(axis=(1, 2))
    normal = worst[kinds == "normal"]
    found = {}
    for kind in DEFECTS:
        bad = worst[kinds == kind]
        truth = np.repeat([0, 1], [len(normal), len(bad)])
        found[kind] = roc_auc_score(truth, np.concatenate([normal, bad]))
    large = enlarged_map(maps[kinds != "normal"])
    found["pixels"] = roc_auc_score(masks[kinds != "normal"].ravel(), large.ravel())
    return found


# %%
def anomalies_run():
    normal = np.stack([cloth([11, k])[0] for k in range(NORMAL)])
    kinds = np.repeat(("normal", *DEFECTS), DEFECTIVE)
    drawn = [
        cloth([12, k], kind if kind in DEFECTS else None)
        for k, kind in enumerate(kinds)
    ]
    images, masks = (np.stack(arrays) for arrays in zip(*drawn))
    found = {}
    for weights in ("pixels", *WEIGHTS):
        vectors = local_vectors(weights, np.concatenate([normal, images]))
        known = vectors[:NORMAL].reshape(-1, vectors.shape[-1])
        maps = mahalanobis(vectors[NORMAL:], *gaussian_of(known))
        found[weights] = anomaly_scores(maps, masks, kinds)
        picked = [int(np.flatnonzero(kinds == kind)[0]) for kind in DEFECTS]
        found[f"{weights}, cartes"] = np.round(maps[picked] / maps.max(), 3).tolist()
    return found | {"picked": picked}


anomalies = experiment("anomalies", anomalies_run)

# %%
rows = [
    (name, *(number(anomalies.values[name][kind], 3) for kind in (*DEFECTS, "pixels")))
    for name in ("pixels", *WEIGHTS)
]
runtime.show_table(("AUC", *DEFECTS, "localisation"), rows)

# %% tags=["hide-input"] cellView="form"
# @title Dessin : les défauts et leurs cartes de distances
found = anomalies.values
views, titles = [], []
for k, kind in zip(found["picked"], DEFECTS):
    image, mask = cloth([12, k], kind)
    heat = np.array(found["ImageNet, cartes"][DEFECTS.index(kind)])
    heat = (heat - heat.min()) / (heat.max() - heat.min())
    views += [image, mask.astype(float), enlarged_map(heat[None])[0]]
    titles += [kind, "vérité", "distance"]
where = number(found["ImageNet"]["pixels"], 3)
figures.show(
    figures.grid(views, titles, columns=3),
    alt="Trois tissus à défaut, le masque du défaut, et la carte des distances, plus claire là où "
    f"le réseau d'ImageNet trouve la trame anormale. AUC pixel par pixel : {where}.",
)

# %% [markdown]
# Avec les poids d'ImageNet, le fil manquant se voit à coup sûr, et la tache mieux que dans les
# pixels. Mais l'accroc se voit mieux dans les **pixels**, et ce sont eux qui localisent le mieux
# (leur grille est deux fois plus fine).
#
# Recommençons avec de vraies images. Une classe de vêtements est la norme, les neuf autres sont des
# anomalies ; le réseau ne voit que deux cents images normales. Un seul vecteur par image : la
# moyenne des dernières cartes.

# %%
GARMENT_SIDE = runtime.pick(quick=32, full=128, cpu=64)
KNOWN = runtime.pick(quick=6, full=200)  # images normales par classe
JUDGED = runtime.pick(quick=2, full=100)  # images de test par classe
NORMS = runtime.pick(quick=(0, 1), full=range(10))  # les classes prises pour norme


def first_of_each(images, labels, count):
    """Les premières images de chaque classe, rangées par classe."""
    which = [np.flatnonzero(labels == k)[:count] for k in range(10)]
    return images[np.concatenate(which)]


def outliers_run():
    known = first_of_each(garments.x_train, garments.y_train, KNOWN)
    judged = first_of_each(garments.x_test, garments.y_test, JUDGED)
    pixels = np.concatenate([known, judged]).reshape(-1, 28 * 28) / 255
    large = as_rgb(np.concatenate([known, judged]), GARMENT_SIDE)
    truth = np.repeat(np.arange(10), JUDGED)
    found = {}
    for weights in ("pixels", *WEIGHTS):
        vectors = pixels
        if weights != "pixels":
            model, prepare = backbone(weights, GARMENT_SIDE)
            vectors = predicted(model, prepare(large)).mean(axis=(1, 2))
        found[weights] = []
        for k in NORMS:
            normal = gaussian_of(vectors[k * KNOWN : (k + 1) * KNOWN])
            far = mahalanobis(vectors[10 * KNOWN :], *normal)
            found[weights].append(roc_auc_score(truth != k, far))
    return found


outliers = experiment("outliers", outliers_run)

# %%
rows = [
    (
        name,
        number(np.mean(v), 3),
        number(min(v), 3),
        garments.class_names[int(np.argmin(v))],
    )
    for name, v in outliers.values.items()
]
runtime.show_table(("AUC", "moyenne", "la pire classe", "laquelle"), rows)
lowest = None
if anomalies.full and outliers.full:
    aucs = [anomalies.full["ImageNet"][kind] for kind in DEFECTS]
    lowest = float(min(*aucs, np.mean(outliers.full["ImageNet"])))
verdict("effnet-use-anomalies", lowest)

# %% [markdown]
# Égalité, à moins d'un centième : ces vêtements sont loin d'ImageNet, et leur silhouette suffit
# souvent. On **peut** donc détecter des anomalies avec ces caractéristiques ; mais comparez
# toujours aux pixels, qui ne coûtent rien. Quant à la « maintenance prédictive », elle demande de
# prévoir une panne : rien ici ne l'a essayé.

# %% [markdown]
# ## Les parents et les concurrents
#
# « VGG, ResNet, et MobileNet sont parmi les prédécesseurs », dit le document : le chapitre 3 les a
# construits. Il cite aussi, « parmi les modèles de la même époque ou de même objectif », ResNeXt,
# RegNet et les *Vision Transformers*. Les voici.
#
# ### ResNeXt : des chemins plutôt que des canaux
#
# Un goulot de ResNet réduit les canaux, filtre, puis les rétablit. ResNeXt en fait 32 à la fois,
# très étroits, et additionne leurs sorties :
#
# $$y = x + \sum_{i=1}^{32} T_i(x)$$
#
# Le nombre de chemins est la ***cardinalité***. Au lieu de 96 petites convolutions, on en fait
# trois grandes, grâce à la ***convolution par groupes*** : chaque filtre ne lit que les canaux de
# son groupe. Un seul groupe, c'est la convolution ordinaire ; autant de groupes que de canaux, la
# convolution par canal de MBConv.


# %%
def grouped_block(x, middle, filters, groups, strides=1, name=""):
    """1 × 1, 3 × 3 par groupes, 1 × 1 ; plus l'entrée, projetée si la forme change."""
    shortcut = x
    if strides > 1 or x.shape[-1] != filters:
        shortcut = unit(x, conv(filters, 1, strides, f"{name}skip_"), f"{name}skip_")
    x = unit(x, conv(middle, 1, name=f"{name}reduce_"), f"{name}reduce_", "relu")
    grouped = layers.Conv2D(
        middle,
        3,
        strides,
        padding="same",
        groups=groups,
        use_bias=False,
        kernel_initializer=KERNEL,
        name=f"{name}groupconv",
    )
    x = unit(x, grouped, f"{name}group_", "relu")
    x = unit(x, conv(filters, 1, name=f"{name}expand_"), f"{name}expand_")
    x = layers.Add(name=f"{name}add")([x, shortcut])
    return layers.Activation("relu", name=f"{name}out")(x)


# %% [markdown]
# Calculons cette somme chemin par chemin, avec les mêmes noyaux, sans les normalisations.


# %%
def path_by_path(x, reduce, group, expand, paths):
    """La somme des chemins : chacun réduit, filtre et rétablit avec sa part des noyaux."""
    width = reduce.shape[-1] // paths
    total = 0
    for k in range(paths):
        part = slice(k * width, (k + 1) * width)
        y = ops.relu(ops.conv(x, reduce[..., part]))
        y = ops.relu(ops.conv(y, group[..., part], padding="same"))
        total = total + ops.conv(y, expand[:, :, part])
    return total


def all_at_once(x, reduce, group, expand):
    """La même chose en trois convolutions : celle du milieu est par groupes."""
    y = ops.relu(ops.conv(x, reduce))
    y = ops.relu(ops.conv(y, group, padding="same"))  # (3, 3, 4, 128) : 32 groupes de 4
    return ops.conv(y, expand)


# %%
rng = np.random.default_rng(0)
x = rng.normal(size=(2, 8, 8, 256)).astype("float32")
shapes = ((1, 1, 256, 128), (3, 3, 4, 128), (1, 1, 128, 256))
parts = [rng.normal(0, 0.1, shape).astype("float32") for shape in shapes]
together = all_at_once(x, *parts)
gap = relative_gap(together, path_by_path(x, *parts, paths=32))
parts[1] = np.roll(parts[1], 1, axis=-1)  # un filtre lit les canaux du chemin voisin
wrong = relative_gap(together, path_by_path(x, *parts, paths=32))
print(
    f"écart relatif : {scientific(gap)} ; noyaux décalés d'un filtre : {scientific(wrong)}"
)
assert gap < 5e-3 < wrong

# %% [markdown]
# C'est la même fonction, aux arrondis près. Le réseau entier est une suite de ces blocs, en quatre
# étages. Avec un seul groupe et un milieu deux fois plus étroit, le même code donne ResNet-50.


# %%
def grouped_stages(x, plan):
    """plan : (blocs, canaux du milieu, canaux de sortie, groupes, pas) de chaque étage."""
    for stage, (blocks, middle, filters, groups, strides) in enumerate(plan, start=1):
        for k in range(blocks):
            step = strides if k == 0 else 1
            name = f"stage{stage}{chr(97 + k)}_"
            x = grouped_block(x, middle, filters, groups, step, name)
    return x


def answered(inputs, x, classes, name):
    """La tête commune : moyenne de chaque carte, puis une couche dense."""
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dense(classes, activation="softmax")(x)
    return keras.Model(inputs, x, name=name)


def resnext50(side=224, groups=32, middle=128, classes=1000):
    """ResNeXt-50 32x4d ; avec groups=1 et middle=64, ResNet-50."""
    inputs = keras.Input((side, side, 3))
    x = unit(inputs, conv(64, 7, 2, "stem_"), "stem_", "relu")
    x = layers.MaxPooling2D(3, 2, padding="same")(x)
    plan = [
        (blocks, middle * 2**k, 256 * 2**k, groups, 1 if k == 0 else 2)
        for k, blocks in enumerate((3, 4, 6, 3))
    ]
    return answered(inputs, grouped_stages(x, plan), classes, "resnext50")


# %% [markdown]
# Comptons les paramètres entraînables des deux :
# [torchvision](https://pytorch.org/vision/stable/models.html) annonce les mêmes.


# %%
def trainable(model):
    """Nombre de paramètres entraînables."""
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


def convolutions(model):
    return [layer for layer in model.layers if isinstance(layer, layers.Conv2D)]


GROUPED = {
    "ResNet-50": (25_557_032, {"groups": 1, "middle": 64}),
    "ResNeXt-50": (25_028_904, {}),
}
rows = []
for name in runtime.pick(quick=("ResNeXt-50",), full=tuple(GROUPED)):
    stated, options = GROUPED[name]
    model = resnext50(side=32, **options)
    groups = max(layer.groups for layer in convolutions(model))
    assert trainable(model) == stated
    rows.append((name, len(convolutions(model)), groups, number(stated, 0)))
    del model
runtime.show_table(("réseau", "convolutions", "groupes", "paramètres"), rows)
verdict("effnet-resnext", groups)

# %% [markdown]
# Grouper coûte si peu qu'à budget égal, le milieu du bloc a doublé de largeur
# ([l'article](https://arxiv.org/abs/1611.05431)).
#
# ### RegNet : une droite
#
# « RegNet : Utilisé par Facebook, optimise les hyperparamètres pour des architectures simples et
# efficaces. » [Ses auteurs](https://arxiv.org/abs/2003.13678) ont entraîné des centaines de petits
# réseaux tirés au hasard, puis resserré l'espace où ils les tiraient. Il leur est resté une règle.
# La largeur du bloc $j$ suit une droite, $u_j = w_0 + w_a \, j$, arrondie à une puissance de $w_m$
# fois $w_0$, pour que des blocs voisins aient la même largeur et forment un étage :
#
# $$k_j = \mathrm{arrondi}\left(\log_{w_m} \frac{u_j}{w_0}\right),$$
#
# $$w_j = w_0 \, w_m^{\,k_j}.$$
#
# Enfin, chaque largeur est ramenée à un multiple de 8, puis de la taille d'un groupe.


# %%
class Rule(NamedTuple):
    """Les nombres qui décrivent un RegNetX."""

    start: float  # w_0
    slope: float  # w_a
    ratio: float  # w_m
    depth: int
    group: int


def rule_widths(rule):
    """La largeur de chaque bloc : sur la droite, puis quantifiée."""
    line = rule.start + rule.slope * np.arange(rule.depth)
    powers = np.round(np.log(line / rule.start) / np.log(rule.ratio))
    steps = 8 * np.round(rule.start * rule.ratio**powers / 8)
    return line, [round_filters(width, 1.0, rule.group) for width in steps]


def rule_stages(rule):
    """Largeurs et nombres de blocs des étages."""
    widths, blocks = np.unique(rule_widths(rule)[1], return_counts=True)
    return widths.tolist(), blocks.tolist()


# %% [markdown]
# Essayons la règle sur trois réseaux de l'article.

# %%
RULES = {
    "RegNetX-200MF": Rule(24, 36.44, 2.49, 13, 8),
    "RegNetX-800MF": Rule(56, 35.73, 2.28, 16, 16),
    "RegNetX-1.6GF": Rule(80, 34.01, 2.25, 18, 24),
}
PRINTED = {  # dans l'article : largeurs, puis nombres de blocs
    "RegNetX-200MF": ([24, 56, 152, 368], [1, 1, 4, 7]),
    "RegNetX-800MF": ([64, 128, 288, 672], [1, 3, 7, 5]),
    "RegNetX-1.6GF": ([72, 168, 408, 912], [2, 4, 10, 2]),
}
rows = []
for name, rule in RULES.items():
    widths, blocks = rule_stages(rule)
    found = (widths, blocks) == PRINTED[name]
    rows.append((name, *(", ".join(map(str, v)) for v in (widths, blocks)), found))
runtime.show_table(
    ("réseau", "largeurs", "blocs", "comme l'article"),
    [(*row[:-1], "oui" if row[-1] else "non") for row in rows],
)
verdict("effnet-regnet", all(row[-1] for row in rows))

# %% tags=["hide-input"] cellView="form"
# @title Dessin : la droite et l'escalier de RegNet
line, widths = rule_widths(RULES["RegNetX-800MF"])
fig = figures.curves(
    {"droite": line, "largeur du bloc": widths},
    x=np.arange(len(line)),
    xlabel="bloc",
    ylabel="canaux",
)
figures.show(
    fig,
    alt=f"Largeur des {len(line)} blocs de RegNetX-800MF : une droite de {number(line[0], 0)} à "
    f"{number(line[-1], 0)} canaux, et les largeurs en escalier, "
    f"{', '.join(map(str, dict.fromkeys(widths)))}, qui la suivent.",
)

# %% [markdown]
# Cinq nombres décrivent tout le réseau. Le bloc est celui de ResNeXt, sans rétrécissement au
# milieu ; la tige, une seule convolution.


# %%
def regnet(rule, side=224, classes=1000):
    """Un RegNetX : une tige de 32 canaux, puis des étages de pas 2, de largeurs réglées."""
    inputs = keras.Input((side, side, 3))
    x = unit(inputs, conv(32, 3, 2, "stem_"), "stem_", "relu")
    plan = [
        (blocks, width, width, width // rule.group, 2)
        for width, blocks in zip(*rule_stages(rule))
    ]
    return answered(inputs, grouped_stages(x, plan), classes, "regnet")


# %% [markdown]
# ### ViT : une image est une suite de carreaux
#
# Le *Vision Transformer* découpe l'image en carreaux de 16 × 16 pixels. Chacun, mis à plat et
# multiplié par une matrice, devient un vecteur : un ***jeton***. Le document parle d'une « approche
# sans convolutions ». Pourtant, la plupart des codes font ce premier pas par une convolution, de
# noyau 16 et de pas 16. Comparons-la à une couche dense appliquée aux carreaux.


# %%
def tiles(images, patch):
    """Images (n, h, w, c) -> carreaux mis à plat (n, carreaux, patch · patch · c)."""
    n, height, width, channels = images.shape
    cut = images.reshape(n, height // patch, patch, width // patch, patch, channels)
    return cut.transpose(0, 1, 3, 2, 4, 5).reshape(n, -1, patch * patch * channels)


images = rng.random((2, 64, 64, 3)).astype("float32")
strided, dense = layers.Conv2D(24, 16, strides=16), layers.Dense(24)
from_convolution = ops.reshape(strided(images), (2, -1, 24))
dense.build((None, 16 * 16 * 3))
dense.kernel.assign(ops.reshape(strided.kernel, (-1, 24)))
gap = relative_gap(from_convolution, dense(tiles(images, 16)))
wrong = relative_gap(from_convolution, dense(tiles(images[:, ::-1], 16)))
print(f"écart relatif : {scientific(gap)} ; image renversée : {scientific(wrong)}")
verdict("effnet-vit", bool(gap < 5e-3 < wrong))

# %% [markdown]
# Aux arrondis près, c'est la même chose : les carreaux ne se recouvrent pas, rien ne glisse.
#
# Deux choses s'ajoutent aux jetons : un vecteur appris, le *jeton de classe*, mis en tête, que lira
# la dernière couche ; et, pour chaque jeton, un vecteur appris de **position**, sans lequel le
# réseau ne distinguerait pas une image de la même aux carreaux mélangés.


# %%
@keras.saving.register_keras_serializable("effnet")
class Tokens(layers.Layer):
    """Met le jeton de classe en tête, puis ajoute à chaque jeton sa position ; tout est appris."""

    def build(self, shape):
        _, count, width = shape
        self.first = self.add_weight((1, 1, width), "zeros", name="token")
        self.position = self.add_weight(
            (1, count + 1, width),
            keras.initializers.RandomNormal(stddev=0.02),
            name="position",
        )

    def call(self, x):
        first = ops.zeros_like(x[:, :1]) + self.first
        return ops.concatenate([first, x], axis=1) + self.position

    def compute_output_shape(self, shape):
        return (shape[0], shape[1] + 1, shape[2])


# %% [markdown]
# Puis des blocs tous pareils. L'***attention à plusieurs têtes*** laisse chaque jeton lire tous les
# autres, avec des poids calculés d'après leur contenu ; deux couches denses transforment ensuite
# chaque jeton, seul. Les deux moitiés sont résiduelles.


# %%
def attention_block(x, heads):
    """Attention entre jetons, puis deux couches denses par jeton, avec leurs raccourcis."""
    width = x.shape[-1]
    y = layers.LayerNormalization(epsilon=1e-6)(x)
    y = layers.MultiHeadAttention(heads, width // heads)(y, y)
    x = layers.Add()([x, y])
    y = layers.LayerNormalization(epsilon=1e-6)(x)
    y = layers.Dense(4 * width, activation="gelu")(y)
    y = layers.Dense(width)(y)
    return layers.Add()([x, y])


def vit(width, depth, heads, patch=16, side=224, channels=3, classes=1000):
    """Vision Transformer : octets (n, side, side, channels) -> un score par classe."""
    inputs = keras.Input((side, side, channels))
    x = layers.Rescaling(1 / 127.5, -1)(inputs)
    x = layers.Conv2D(width, patch, strides=patch, name="tiles")(x)
    x = layers.Reshape((-1, width))(x)
    x = Tokens(name="tokens")(x)
    for _ in range(depth):
        x = attention_block(x, heads)
    x = layers.LayerNormalization(epsilon=1e-6)(x)
    x = layers.Dense(classes, name="scores")(x[:, 0])  # le jeton de classe
    return keras.Model(inputs, x, name="vit")


# %% [markdown]
# Dessinons côte à côte le bloc de ResNeXt, sans ses normalisations, et celui de ViT.


# %%
tokens = keras.Input((197, 384))
drawn = {
    "ResNeXt": alone(grouped_block, 256, side=14, middle=128, filters=256, groups=32),
    "ViT": keras.Model(tokens, attention_block(tokens, heads=6)),
}
figures.show(
    graphs.layer_graphs(drawn, caption),
    alt="Deux blocs. ResNeXt : convolution 1 × 1, 3 × 3 en 32 groupes, 1 × 1, puis une somme avec "
    "l'entrée. ViT : normalisation, attention, somme avec l'entrée ; puis normalisation, deux "
    "couches denses, somme.",
)

# %% [markdown]
# Les deux produits de l'attention (comparer les jetons deux à deux, puis moyenner leurs valeurs)
# n'ont pas de noyau : pour $N$ jetons de largeur $d$, ils font $2 N^2 d$ opérations par bloc. Et
# comme $N$ croît avec le carré du côté de l'image, leur coût croît avec sa puissance quatre.


# %%
def attention_products(model):
    """Opérations des deux produits de l'attention, dans tout le modèle."""
    shapes = [
        layer.output.shape
        for layer in model.layers
        if isinstance(layer, layers.MultiHeadAttention)
    ]
    return sum(2 * tokens**2 * width for _, tokens, width in shapes)


def cost(model):
    """Toutes les opérations, pour une image."""
    return multiply_adds(model) + attention_products(model)


# %% [markdown]
# ### Le tableau, calculé
#
# Chaque réseau est pris à sa résolution. VGG, ResNet, MobileNet et Inception viennent de
# `keras.applications`, les autres de notre code.


# %%
class Relative(NamedTuple):
    year: int
    side: int
    build: Callable  # du côté de l'image au réseau
    top1: float  # exactitude publiée, en pour cent
    source: str


def in_keras(name):
    """Le constructeur d'un réseau de keras.applications, pour un côté donné."""

    def build(side):
        network = getattr(keras.applications, name)
        return network(weights=None, input_shape=(side, side, 3))

    return build


def of_family(variant):
    """De même pour un EfficientNet, avec notre code."""

    def build(side):
        return efficientnet(variant, side=side)

    return build


# %%
def vit_small(side=224):
    return vit(384, 12, 6, side=side)


def vit_base(side=224):
    return vit(768, 12, 12, side=side)


def lite0_classifier(side):
    """Lite0 et sa tête de mille classes."""
    base = lite0(side)
    return answered(base.input, base.output, 1000, "lite0")


# %%
REGNET = partial(regnet, RULES["RegNetX-800MF"])
RELATIVES = {
    "VGG-16": Relative(2014, 224, in_keras("VGG16"), 71.3, "Keras"),
    "Inception v3": Relative(2015, 299, in_keras("InceptionV3"), 77.9, "Keras"),
    "ResNet-50": Relative(2015, 224, in_keras("ResNet50"), 74.9, "Keras"),
    "ResNeXt-50": Relative(2016, 224, resnext50, 77.6, "torchvision"),
    "MobileNetV2": Relative(2018, 224, in_keras("MobileNetV2"), 71.3, "Keras"),
    "RegNetX-800MF": Relative(2020, 224, REGNET, 75.2, "torchvision"),
    "ViT-S/16": Relative(2020, 224, vit_small, 79.8, "DeiT"),
    "ViT-B/16": Relative(2020, 224, vit_base, 81.1, "torchvision"),
    "Lite0": Relative(2020, 224, lite0_classifier, 75.1, "dépôt"),
    "EfficientNet-B0": Relative(2019, 224, of_family("B0"), 77.1, "Keras"),
    "EfficientNet-B2": Relative(2019, 260, of_family("B2"), 80.1, "Keras"),
    "EfficientNet-B4": Relative(2019, 380, of_family("B4"), 82.9, "Keras"),
}


# %%
LISTED = runtime.pick(quick=(), full=tuple(RELATIVES))


def census_run():
    found = {}
    for name in LISTED:
        model = RELATIVES[name].build(RELATIVES[name].side)
        found[name] = {"parameters": trainable(model), "operations": cost(model)}
        del model
        keras.utils.clear_session()
    return found


census = experiment("census", census_run)

# %%
known = census.values
runtime.show_table(
    ("réseau", "côté", "poids (M)", "op. (G)", "top-1 (%)"),
    [
        (
            f"{name}, {RELATIVES[name].year}",
            RELATIVES[name].side,
            number(found["parameters"] / 1e6, 1),
            number(found["operations"] / 1e9, 2),
            number(RELATIVES[name].top1, 1),
        )
        for name, found in known.items()
    ],
)

# %% [markdown]
# « Poids » compte les paramètres entraînables, « op. » les opérations, « top-1 » l'exactitude
# publiée par [Keras](https://keras.io/api/applications/), sauf pour ResNeXt, RegNet et ViT-B
# ([torchvision](https://pytorch.org/vision/stable/models.html), premiers poids), ViT-S
# ([DeiT](https://arxiv.org/abs/2012.12877)) et Lite0 ([son
# dépôt](https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite)). Les
# recettes d'entraînement diffèrent, et comptent pour plusieurs points : lisez les grands écarts.
#
# Vérifions les comptes que les sources donnent au paramètre près, puis ce que dit le document :
# « les EfficientNets se distinguent par leur usage optimisé des convolutions et leur architecture à
# faible coût ». B0 est-il moins coûteux que VGG-16, que ResNet-50, que MobileNetV2 ?

# %%
STATED = {  # paramètres entraînables
    "VGG-16": 138_357_544,
    "ResNeXt-50": 25_028_904,
    "RegNetX-800MF": 7_259_656,
    "ViT-S/16": 22_050_664,
    "ViT-B/16": 86_567_656,
    "Lite0": 4_652_008,
    "EfficientNet-B0": 5_288_548,
    "EfficientNet-B4": 19_341_616,
}
for name in STATED.keys() & known.keys():
    assert known[name]["parameters"] == STATED[name], name


def cheaper(name, others):
    """Moins de paramètres et d'opérations que chacun des autres ? None sans profil complet."""
    counts = census.full
    if not counts:
        return None
    keys = ("parameters", "operations")
    return [all(counts[name][k] < counts[other][k] for k in keys) for other in others]


ancestors = ("VGG-16", "ResNet-50", "MobileNetV2")
verdict("effnet-distinct", cheaper("EfficientNet-B0", ancestors))


# %% tags=["hide-input"] cellView="form"
# @title Dessin : l'exactitude selon les opérations
def draw_relatives(known):
    """Exactitude publiée selon les opérations ; l'aire d'une marque est le nombre de paramètres."""
    fig, axis = plt.subplots(figsize=(figures.WIDTH, 5.0))
    for name, found in known.items():
        ours = name.startswith("EfficientNet") or name == "Lite0"
        at = found["operations"] / 1e9, RELATIVES[name].top1
        axis.scatter(
            *at,
            s=4 * found["parameters"] / 1e6,
            marker="o" if ours else "s",
            color=figures.COLOURS[0 if ours else 1],
            alpha=0.6,
        )
        beside = 4 + np.sqrt(found["parameters"] / 1e6)
        below = -12 if name == "ResNeXt-50" else 4  # Inception v3 est juste au-dessus
        axis.annotate(
            name, at, (beside, below), textcoords="offset points", fontsize=10
        )
    axis.margins(0.22, 0.08)
    axis.set(
        xscale="log",
        xlabel="milliards d'opérations",
        ylabel="exactitude top-1 publiée (%)",
    )
    return fig


figures.show(
    draw_relatives(known),
    alt="Exactitude publiée selon les opérations, l'aire d'une marque étant le nombre de "
    "paramètres : "
    + ", ".join(
        f"{name} {number(found['operations'] / 1e9, 2)} G et "
        f"{number(RELATIVES[name].top1, 1)} %"
        for name, found in known.items()
    )
    + ".",
)

# %% [markdown]
# Les EfficientNet (ronds) bordent le nuage en haut à gauche : à opérations égales, les autres
# (carrés) sont au-dessous.
#
# ### Ce que la convolution apporte
#
# Une convolution suppose que les pixels voisins vont ensemble, et qu'un motif vaut partout. Un ViT
# doit l'apprendre. Que coûte cette liberté quand les images sont rares ? Entraînons sur les
# vêtements deux petits réseaux de même taille, avec de plus en plus d'images et le même nombre de
# mises à jour.


# %%
TINY = (Stage(3, 1, 1, 16, 1), Stage(3, 2, 6, 24, 1), Stage(3, 2, 6, 40, 2))


def tiny_mbconv(classes=10):
    """Des blocs MBConv pour des vêtements de 28 × 28."""
    inputs = keras.Input((28, 28, 1))
    x = layers.Rescaling(1 / 127.5, -1)(inputs)
    x = features(x, stages=TINY, drop=0.0, head=256, stem=16)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(classes)(x))


def tiny_vit(classes=10):
    """Un ViT à peu près de même taille : 49 carreaux de 4 × 4."""
    return vit(48, 2, 4, patch=4, side=28, channels=1, classes=classes)


CONTENDERS = {"MBConv": tiny_mbconv, "ViT": tiny_vit}
sizes = [
    f"{name}, {number(trainable(build()), 0)}" for name, build in CONTENDERS.items()
]
print("paramètres :", " ; ".join(sizes))

# %% [markdown]
# Une seconde mesure : des vêtements dont les carreaux ont été mélangés, toujours de la même façon.
# Pour le ViT, qui apprend la position de chaque carreau, rien ne change.


# %%
def scrambled(images, patch=4, seed=0):
    """Images (n, h, w, 1) dont les carreaux sont permutés, la même permutation pour toutes."""
    n, height, width, _ = images.shape
    cut = tiles(images, patch)
    cut = cut[:, np.random.default_rng(seed).permutation(cut.shape[1])]
    cut = cut.reshape(n, height // patch, width // patch, patch, patch, 1)
    return cut.transpose(0, 1, 3, 2, 4, 5).reshape(images.shape)


def taught(build, x, y, updates):
    """Entraîne un petit réseau de classification ; le même nombre de mises à jour pour tous."""
    model = build()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, run_eagerly=EAGER)
    rng = np.random.default_rng(0)
    rounds = [rng.permutation(len(x)) for _ in range(1 + 32 * updates // len(x))]
    which = np.concatenate(rounds)[: 32 * updates]
    model.fit(x[which], y[which], batch_size=32, shuffle=False, verbose=0)
    return model


# %%
AMOUNTS = runtime.pick(quick=(32,), full=(200, 2_000, 20_000, 60_000), cpu=(200, 2_000))
STEPS = runtime.pick(quick=1, full=5_000, cpu=500)
ASKED = runtime.pick(quick=64, full=10_000, cpu=2_000)
TRIALS = runtime.pick(
    quick=(("scrambled", "ViT", AMOUNTS),),
    full=tuple(
        (kind, name, AMOUNTS if kind == "plain" else AMOUNTS[-1:])
        for kind in ("plain", "scrambled")
        for name in ("MBConv", "ViT")
    ),
)


# %%
def vit_run():
    found = {"amounts": AMOUNTS, "plain": {}, "scrambled": {}}
    order = np.random.default_rng(0).permutation(len(garments.x_train))
    for kind, name, amounts in TRIALS:
        prepare = scrambled if kind == "scrambled" else np.asarray
        x_test, y_test = (
            prepare(garments.x_test[:ASKED, ..., None]),
            garments.y_test[:ASKED],
        )
        rows = found[kind][name] = []
        for seed in SEEDS[:2]:
            rows.append([])
            for amount in amounts:
                keras.utils.set_random_seed(seed)
                which = order[:amount]
                x = prepare(garments.x_train[which, ..., None])
                model = taught(CONTENDERS[name], x, garments.y_train[which], STEPS)
                scores = model.predict(x_test, batch_size=500, verbose=0)
                rows[-1].append(float(np.mean(scores.argmax(axis=1) == y_test)))
    return found


priors = experiment("vit", vit_run)

# %%
shown = priors.values
fig = figures.curves(
    shown["plain"],
    x=shown["amounts"],
    xlabel="images d'entraînement",
    ylabel="exactitude de test",
)
fig.axes[0].set_xscale("log")
fig.axes[0].set_xticks(shown["amounts"], [number(n, 0) for n in shown["amounts"]])
fig.axes[0].minorticks_off()
means = {name: np.mean(rows, axis=0) for name, rows in shown["plain"].items()}
figures.show(
    fig,
    alt="Exactitude de test selon le nombre d'images d'entraînement : "
    + " ; ".join(
        f"{name}, " + ", ".join(number(value, 3) for value in values)
        for name, values in means.items()
    )
    + ", pour "
    + ", ".join(number(amount, 0) for amount in shown["amounts"])
    + " images.",
)
# %%
runtime.show_table(
    ("carreaux", "réseau", f"exactitude, {number(shown['amounts'][-1], 0)} images"),
    [
        (
            "mélangés" if kind == "scrambled" else "en place",
            name,
            spread([row[-1] for row in rows]),
        )
        for kind in ("plain", "scrambled")
        for name, rows in shown[kind].items()
    ],
)

# %% [markdown]
# Avec 200 images, le réseau de convolution devance le ViT de sept points ; avec 2 000, de quatre et
# demi. Mélanger les carreaux lui coûte moins de deux points, et rien au ViT : son avance ne tient
# donc qu'en partie au voisinage des carreaux. À la taille des réseaux du tableau, il faut des
# millions d'images, ou une recette qui les remplace, pour que le ViT passe devant.


# %% [markdown]
# ## Les limites, mesurées
#
# ### La mémoire
#
# « EfficientNet-B4 reste coûteux en mémoire et difficile à déployer sur des systèmes aux ressources
# limitées. » Comptons, sur le graphe, ce qu'il faut garder, à quatre octets par nombre.
#
# À l'entraînement, la rétropropagation a besoin de ce que chaque couche a produit : tout est gardé
# jusqu'au retour, avec les paramètres, leur gradient et les deux moyennes que tient Adam. À
# l'inférence, une carte peut être jetée dès que la dernière couche qui la lit a fini : seul compte
# le pire moment.


# %%
def weight_of(tensor):
    """Octets d'un tenseur du graphe, pour une image."""
    return 4 * int(np.prod(tensor.shape[1:]))


def sources_of(operation):
    """Les tenseurs que lit un nœud du graphe."""
    if isinstance(operation, layers.InputLayer):
        return []
    return keras.tree.flatten(operation.input)


def kept(model):
    """Octets gardés pour la rétropropagation, par image : la sortie de chaque nœud."""
    return sum(weight_of(operation.output) for operation in model.operations)


def alive(model):
    """Octets des tenseurs vivants au pire moment d'une inférence, par image."""
    left = Counter(
        id(t) for operation in model.operations for t in sources_of(operation)
    )
    now = worst = 0
    for operation in model.operations:  # dans l'ordre du calcul
        now += weight_of(operation.output)
        worst = max(worst, now)
        for tensor in sources_of(operation):
            left[id(tensor)] -= 1
            if not left[id(tensor)]:
                now -= weight_of(tensor)
    return worst


# %%
def footprint(model):
    """Octets fixes et par image, à l'entraînement avec Adam et à l'inférence."""
    parameters, free = 4 * model.count_params(), 4 * trainable(model)
    return {
        "training": (parameters + 3 * free, kept(model)),
        "inference": (parameters, alive(model)),
    }


MEMORY_SIDE = runtime.pick(quick=64, full=380)


def memory_run():
    found = {}
    for variant in runtime.pick(quick=(), full=("B0", "B4")):
        found[variant] = footprint(efficientnet(variant, side=MEMORY_SIDE))
        keras.utils.clear_session()
    return found


memory = experiment("memory", memory_run)

# %%
GIB = 2**30


def total_bytes(found, phase, batch):
    """Mémoire d'un lot : ce qui est fixe, plus ce que coûte chaque image."""
    fixed, per_image = found[phase]
    return fixed + batch * per_image


BATCHES = (1, 4, 16, 32)
columns = [(v, phase) for phase in ("training", "inference") for v in memory.values]
PHASES = {"training": "entraînement", "inference": "inférence"}
runtime.show_table(
    ("lot", *(f"{v}, {PHASES[phase]} (Gio)" for v, phase in columns)),
    [
        (
            batch,
            *(
                number(total_bytes(memory.values[v], phase, batch) / GIB)
                for v, phase in columns
            ),
        )
        for batch in BATCHES
    ],
)
for variant, phase in columns:
    fixed, each = (number(size / 2**20, 0) for size in memory.values[variant][phase])
    print(f"{variant}, {PHASES[phase]} : {fixed} Mio, et {each} par image")

# %% [markdown]
# Entraîner B4 sur des lots de 32 images demande plus de 20 Gio ; une carte T4 en a 16. Une seule
# image demande plus d'activations que les paramètres, leur gradient et ce que tient Adam réunis.
#
# Confrontons ce compte à la mémoire d'un vrai processus, qui entraîne B0 sur des lots de plus en
# plus grands. Les deux derniers donnent ce qu'ajoute chaque image.

# %%
CHILD = """
import resource, sys
import keras
import numpy as np

def peak():
    if sys.platform == "linux":  # la mémoire du seul processus, sans celle de son parent
        lines = open("/proc/self/status").read().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

side, *batches = map(int, sys.argv[1:])
model = keras.applications.EfficientNetB0(weights=None, input_shape=(side, side, 3))
model.compile("adam", "sparse_categorical_crossentropy")
for batch in batches:
    images = np.zeros((batch, side, side, 3), "float32")
    for _ in range(3):
        model.train_on_batch(images, np.zeros(batch, "int32"))
    print("peak", peak())
"""

# %%
HIDDEN = {
    "CUDA_VISIBLE_DEVICES": "-1",
    "JAX_PLATFORMS": "cpu",
}  # pas de carte graphique
CHILD_SIDE = 128
CHILD_BATCHES = runtime.pick(quick=(), full=(2, 4, 16, 48))


def measured_memory_run():
    """Le plus haut de la mémoire d'un processus, après des lots de plus en plus grands."""
    if not CHILD_BATCHES:
        return {"batches": [], "peaks": []}
    command = [sys.executable, "-c", CHILD, *map(str, (CHILD_SIDE, *CHILD_BATCHES))]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | HIDDEN, check=True
    )
    peaks = [
        int(s.split()[1]) for s in done.stdout.splitlines() if s.startswith("peak")
    ]
    counted = kept(efficientnet("B0", side=CHILD_SIDE))
    return {"batches": CHILD_BATCHES, "peaks": peaks, "counted": counted}


process = experiment("measured_memory", measured_memory_run)

# %%
if process.values["batches"]:
    found = process.values
    (*_, before, after), (*_, small, large) = found["peaks"], found["batches"]
    slope = (after - before) / (large - small)
    print(f"mesuré : {number(slope / 2**20, 1)} Mio par image de {CHILD_SIDE} pixels")
    print(f"compté : {number(found['counted'] / 2**20, 1)} Mio")
    print(f"rapport : {number(slope / found['counted'])}")

# %% [markdown]
# Le compte est bon, à 5 % près. Ce qu'il ignore est fixe : la bibliothèque et ses tampons de calcul
# prennent plus d'un gibioctet, dès le premier lot.


# %%
def b4_bytes(phase, batch):
    return memory.full and total_bytes(memory.full["B4"], phase, batch)


training_bytes, single_bytes = b4_bytes("training", 32), b4_bytes("inference", 1)
verdict("effnet-memory", training_bytes and training_bytes / GIB)
verdict("effnet-deploy", single_bytes and bool(single_bytes > GIB / 2))

# %% [markdown]
# ### Le temps de réponse
#
# La ***latence*** est le temps d'une réponse pour une seule image : ici, la médiane de plusieurs
# réponses, une fois le modèle compilé, sur la machine de cette page.


# %%
def response(model, repeats):
    """Médiane du temps de réponse pour une image, en millisecondes."""
    image = np.random.default_rng(0).uniform(0, 255, (1, *model.input_shape[1:]))
    image = image.astype("float32")
    for _ in range(3):  # la première réponse compile le modèle
        model.predict_on_batch(image)
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        model.predict_on_batch(image)
        times.append(time.perf_counter() - begin)
    return 1e3 * float(np.median(times))


# %%
B4_SIDES = (128, 224, 300, 380)
TIMED = runtime.pick(
    quick=(),
    full=(
        ("ResNet-50", 224),
        ("Inception v3", 299),
        ("Inception v3", 224),
        ("MobileNetV2", 224),
        ("ViT-S/16", 224),
        ("EfficientNet-B0", 224),
        *(("EfficientNet-B4", side) for side in B4_SIDES),
    ),
)
TIMINGS = runtime.pick(quick=1, full=30, cpu=15)


def latency_run():
    found = []
    for name, side in TIMED:
        model = RELATIVES[name].build(side)
        row = {"name": name, "side": side, "operations": cost(model)}
        found.append(row | {"ms": response(model, TIMINGS)})
        del model
        keras.utils.clear_session()
    return {"rows": found}


latency = experiment("latency", latency_run)

# %%
timed = latency.values["rows"]
runtime.show_table(
    ("réseau", "côté", "opérations (G)", "réponse (ms)", "ms par G"),
    [
        (
            row["name"],
            row["side"],
            number(row["operations"] / 1e9),
            number(row["ms"], 0),
            number(1e9 * row["ms"] / row["operations"], 0),
        )
        for row in timed
    ],
)

# %% [markdown]
# Si les opérations disaient le temps, la dernière colonne serait constante. Or une opération de B0
# ou de MobileNetV2 y prend trois à quatre fois le temps d'une opération de ResNet-50 ou de ViT. À
# 224 pixels, B4 répond un peu plus vite que ResNet-50 ; à 380, le sien, il devient le plus lent.
#
# Pourquoi ? Aller chercher des nombres en mémoire prend du temps. L'***intensité arithmétique***
# est le rapport des opérations aux nombres lus et écrits. Pour $C$ canaux, une convolution 1 × 1
# fait $C^2$ opérations par point, et touche $2C$ nombres : son intensité est $C/2$. Une convolution
# par canal 3 × 3 n'en fait que $9C$ pour autant de nombres : son intensité n'est que de 4,5.
# Chronométrons les deux, et une convolution 3 × 3 ordinaire : huit couches pareilles à la suite.


# %%
def chain(make, count=8, side=56, channels=96):
    """Un modèle de `count` couches pareilles, qui gardent la forme des cartes."""
    inputs = keras.Input((side, side, channels))
    x = inputs
    for _ in range(count):
        x = make()(x)
    return keras.Model(inputs, x)


SAME = {"padding": "same", "use_bias": False}
LAYER_KINDS = {
    "3 × 3 ordinaire": partial(layers.Conv2D, 96, 3, **SAME),
    "1 × 1": partial(layers.Conv2D, 96, 1, **SAME),
    "3 × 3 par canal": partial(layers.DepthwiseConv2D, 3, **SAME),
}
CHAIN = runtime.pick(quick={"count": 1, "side": 14}, full={"count": 8, "side": 56})


def layer_times_run():
    found = {}
    for name, make in LAYER_KINDS.items():
        model = chain(make, **CHAIN)
        operations = multiply_adds(model)
        touched = 2 * sum(weight_of(layer.output) // 4 for layer in model.layers[1:])
        found[name] = {"intensity": operations / touched, "operations": operations}
        found[name]["ms"] = response(model, TIMINGS)
    return found


layer_times = experiment("layer_times", layer_times_run)

# %%
runtime.show_table(
    ("couche", "intensité", "opérations (M)", "temps (ms)", "G par seconde"),
    [
        (
            name,
            number(found["intensity"], 1),
            number(found["operations"] / 1e6, 0),
            number(found["ms"], 1),
            number(found["operations"] / found["ms"] / 1e6, 1),
        )
        for name, found in layer_times.values.items()
    ],
)

# %% [markdown]
# La convolution par canal fait dix fois moins d'opérations que la 1 × 1, et ne va pas plus vite :
# la machine attend ses nombres. Les EfficientNet, qui lui confient tout leur travail dans l'espace,
# ont donc moins d'opérations, mais plus lentes.
#
# ### Plus grand, plus lent
#
# « Les images d'entrée plus grandes exigent davantage de puissance de traitement et peuvent
# ralentir l'inférence en temps réel. » Cherchons l'exposant $p$ pour lequel le coût croît comme
# $r^{\,p}$, où $r$ est le côté : c'est une pente, sur une échelle logarithmique.


# %%
def exponent(rows, key):
    """La pente de log(mesure) selon log(côté), pour les lignes de B4."""
    b4 = [row for row in rows if row["name"] == "EfficientNet-B4"]
    sides = np.log([row["side"] for row in b4])
    return float(np.polyfit(sides, np.log([row[key] for row in b4]), 1)[0])


if latency.full:
    rows = latency.full["rows"]
    b4 = {row["side"]: row["ms"] for row in rows if row["name"] == "EfficientNet-B4"}
    print(f"exposant des opérations : {number(exponent(rows, 'operations'))}")
    print(f"exposant du temps : {number(exponent(rows, 'ms'))}")
    for side, ms in b4.items():
        print(f"{side} pixels : {number(1e3 / ms, 1)} images par seconde")
verdict("effnet-larger", latency.full and exponent(latency.full["rows"], "operations"))
verdict("effnet-real-time", latency.full and exponent(latency.full["rows"], "ms"))

# %% [markdown]
# À 380 pixels, cette machine ne suivrait pas une vidéo ; à 128, elle s'en approche.
#
# ### Moins coûteux que ResNet ou Inception ?
#
# Reste la phrase du début : B4 atteindrait « une très haute précision tout en étant moins coûteux
# en ressources par rapport à d'autres modèles comme ResNet ou Inception ». Jugeons-la contre
# ResNet-50 et Inception v3, chacun à sa résolution : paramètres, opérations, temps.


# %%
def b4_is_cheaper():
    """[paramètres, opérations, temps] : B4 est-il sous ResNet-50 et Inception v3 ?"""
    if not (census.full and latency.full):
        return None
    others = ("ResNet-50", "Inception v3")
    found = [
        all(census.full["EfficientNet-B4"][key] < census.full[o][key] for o in others)
        for key in ("parameters", "operations")
    ]
    ms = {}  # le plus grand côté de chaque réseau est le sien
    for row in sorted(latency.full["rows"], key=lambda row: row["side"]):
        ms[row["name"]] = row["ms"]
    return [*found, all(ms["EfficientNet-B4"] < ms[o] for o in others)]


verdict("effnet-cheaper", b4_is_cheaper())

# %% [markdown]
# La phrase reste juste **à exactitude égale** : un ResNet de 2015, même bien plus gros,
# n'atteignait pas celle de B4 ; [son article](https://arxiv.org/abs/1905.11946) met en face SENet
# et NASNet-A, de 146 et 89 millions de paramètres.
#
# ## Des réponses
#
# ### Prendre plus petit
#
# Relisez les dernières lignes du tableau des parents : de B4 à B0, onze fois moins d'opérations
# pour six points. Sur une tâche qui n'a pas mille classes, l'écart est souvent moindre : commencez
# petit, et n'agrandissez que si la validation le demande.

# %% [markdown]
# ### Quantifier
#
# La seconde réponse est d'écrire les poids sur huit bits : c'est la ***quantification***. On
# choisit une échelle $s$ telle que le plus grand poids devienne 127, et l'on arrondit :
#
# $$s = \frac{\max |w|}{127}, \qquad q = \mathrm{arrondi}\left(\frac{w}{s}\right)$$
#
# Le réseau calcule avec $\hat w = s\,q$. Une échelle pour tout le noyau, ou une **par canal** de
# sortie ?


# %%
def quantised(kernel, axis=None, bits=8):
    """Entiers et échelles d'un noyau : une échelle par tranche de l'axe, une seule sans axe."""
    others = None
    if axis is not None:
        others = tuple(k for k in range(kernel.ndim) if k != axis % kernel.ndim)
    largest = np.abs(kernel).max(axis=others, keepdims=True)
    scale = np.maximum(largest, 1e-12) / (2 ** (bits - 1) - 1)
    return np.round(kernel / scale).astype("int8"), scale.astype("float32")


def channel_axis(layer):
    """L'axe des canaux de sortie d'un noyau."""
    return -2 if isinstance(layer, layers.DepthwiseConv2D) else -1


kernel = np.array([[0.5, 20.0], [-1.0, 127.0]])  # deux canaux, en colonnes
rows = [("poids", "0,5 et −1", "20 et 127")]
for axis, name in ((None, "une échelle"), (-1, "une par canal")):
    integers, scale = quantised(kernel, axis)
    scales = np.broadcast_to(scale, (1, 2))[0]
    cells = (
        " et ".join(number(value, 0) for value in column)
        + f", fois {number(step, 4 if step < 1 else 0)}"
        for column, step in zip(integers.T, scales)
    )
    rows.append((name, *cells))
runtime.show_table(("échelles", "petit canal", "grand canal"), rows)

# %% [markdown]
# Avec une seule échelle, le petit canal n'a presque plus de valeurs. Cela arrive-t-il dans un vrai
# réseau ? Avant de déployer, on **replie** chaque normalisation dans la convolution qui la
# précède : à l'inférence, ce n'est qu'un gain et un décalage par canal (exercice 7). Les gains
# diffèrent beaucoup d'un canal à l'autre, et les poids avec eux.


# %%
def convolutions_and_norms(model):
    """Les paires (convolution, normalisation qui la suit)."""
    makers = {id(layer.output): layer for layer in model.layers}
    norms = [x for x in model.layers if isinstance(x, layers.BatchNormalization)]
    return [(makers[id(norm.input)], norm) for norm in norms]


def fold(model):
    """Met le gain de chaque normalisation dans les poids qui la précèdent : même réseau."""
    for convolution, norm in convolutions_and_norms(model):
        gamma, beta, mean, variance = (
            ops.convert_to_numpy(weight)
            for weight in (
                norm.gamma,
                norm.beta,
                norm.moving_mean,
                norm.moving_variance,
            )
        )
        gain = gamma / np.sqrt(variance + norm.epsilon)
        per_channel = gain[:, None] if channel_axis(convolution) == -2 else gain
        convolution.kernel.assign(convolution.kernel * per_channel)
        norm.beta.assign(beta - mean * gain)
        norm.gamma.assign(np.ones_like(gamma))
        norm.moving_mean.assign(np.zeros_like(mean))
        norm.moving_variance.assign(np.full_like(variance, 1 - norm.epsilon))


# %% [markdown]
# Quantifions les poids de Lite0, non ses activations. La sonde, apprise sur les caractéristiques du
# réseau exact, reçoit celles du réseau quantifié, sans réapprendre.


# %%
def kernels_of(model):
    """Les couches à noyau."""
    return [layer for layer in model.layers if hasattr(layer, "kernel")]


def quantise(model, exact, bits, per_channel):
    """Donne aux couches leurs poids quantifiés, puis rendus aux nombres à virgule."""
    for layer, kernel in zip(kernels_of(model), exact, strict=True):
        axis = channel_axis(layer) if per_channel else None
        integers, scale = quantised(kernel, axis, bits)
        layer.kernel.assign(integers * scale)


def stored_bytes(model, bits, per_channel):
    """Place des poids repliés : entiers, échelles et décalages."""
    total = 0
    for layer in kernels_of(model):
        size, channels = int(np.prod(layer.kernel.shape)), layer.output.shape[-1]
        scales = 0 if bits == 32 else channels if per_channel else 1
        total += size * bits / 8 + 4 * (scales + channels)
    return total


# %%
BITS = runtime.pick(quick=(8,), full=(8, 6, 5, 4, 3))


def quantisation_run():
    task = PET_TASKS["races"]
    model, prepare = learned_backbone(pets.images.shape[1])
    fold(model)
    images, answers = prepare(pets.images[task.rows]), task.labels
    exact = [ops.convert_to_numpy(layer.kernel) for layer in kernels_of(model)]
    wanted = predicted(model, images).mean(axis=(1, 2))
    judge = probe(wanted[task.train], answers[task.train])
    given = judge.predict(wanted[task.test])
    found = {
        "n": len(given),
        "float": np.mean(given == answers[task.test]),
        "bytes": stored_bytes(model, 32, False),
        "rows": [],
    }
    for bits in BITS:
        for per_channel in (False, True):
            quantise(model, exact, bits, per_channel)
            seen = predicted(model, images).mean(axis=(1, 2))
            row = {"bits": bits, "per_channel": per_channel}
            row["bytes"] = stored_bytes(model, bits, per_channel)
            row["error"] = np.linalg.norm(seen - wanted) / np.linalg.norm(wanted)
            row["accuracy"] = judge.score(seen[task.test], answers[task.test])
            row["changed"] = int(np.sum(judge.predict(seen[task.test]) != given))
            found["rows"].append(row)
    return found


quantisation = experiment("quantisation", quantisation_run)

# %%
shown = quantisation.values
runtime.show_table(
    ("poids", "Mio", "écart", "exactitude", "réponses changées"),
    [
        (
            "32 bits",
            number(shown["bytes"] / 2**20, 1),
            "0",
            number(shown["float"], 3),
            "0",
        )
    ]
    + [
        (
            f"{row['bits']} bits, {'par canal' if row['per_channel'] else 'une échelle'}",
            number(row["bytes"] / 2**20, 1),
            percent(row["error"], 1),
            number(row["accuracy"], 3),
            row["changed"],
        )
        for row in shown["rows"]
    ],
)
print(f"{shown['n']} images de test")

# %% [markdown]
# Huit bits par canal divisent la place par près de quatre et changent deux réponses sur 210. Avec
# une seule échelle par noyau, l'exactitude ne bouge pas, mais douze réponses ont changé, autant en
# bien qu'en mal. À six bits, elle tombe au hasard (un tiers), quand l'échelle par canal garde
# 91 % : c'est elle que conseille [un guide de 2018](https://arxiv.org/abs/1806.08342). Sous cinq
# bits, il faudrait réapprendre.
#
# Pour aller plus vite sur un téléphone, les activations doivent elles aussi passer sur huit bits
# ([un article de 2017](https://arxiv.org/abs/1712.05877) en donne la méthode) ; ReLU6, qui les
# borne, a été mise dans Lite0 pour cela.
#
# Keras sait quantifier un modèle d'un appel, `model.quantize("int8")`. Mais quelles couches ?

# %%
model = keras.Sequential(
    [keras.Input((8, 8, 3)), layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(5)]
)
convolution, dense = model.layers[0], model.layers[-1]
dense.quantize("int8")
print("Dense :", dense.kernel.dtype)
_ = failure(convolution.quantize, "int8", expected=NotImplementedError)

# %% [markdown]
# Les couches denses seulement (et quelques-unes de leurs parentes) : dans un ViT, presque tout ;
# dans Lite0, la tête, un quart des poids. Pour des convolutions, on passe par un outil de
# déploiement, comme [LiteRT](https://ai.google.dev/edge/litert) ou [ONNX
# Runtime](https://onnxruntime.ai/), qui calcule vraiment en entiers.

# %% [markdown]
# ## À retenir
#
# - Un bloc MBConv élargit, filtre canal par canal, recalibre par squeeze-and-excitation, puis
#   projette sans activation. B4 en a 32, et 19,3 millions de paramètres entraînables.
# - Deux réseaux ne sont égaux que si leurs sorties le sont, tous poids tirés au hasard et les
#   normalisations réglées sur des images.
# - L'article règle la profondeur, la largeur et la résolution par un seul nombre $\varphi$, que les
#   réseaux publiés ne suivent qu'à peu près.
# - Pour transférer : ne préparez pas deux fois les pixels, gelez les normalisations, choisissez la
#   résolution selon ce qu'elle coûte. Dix images par race suffisent à une sonde pour en reconnaître
#   90 %.
# - Le même réseau, sans sa tête, sert à détecter, segmenter, comparer des visages ou repérer une
#   anomalie. Comparez toujours aux pixels : il gagne nettement sur les visages, et pas du tout sur
#   les vêtements hors norme.
# - Les opérations ne disent pas le temps : une convolution par canal en fait peu, mais attend la
#   mémoire. Sur notre machine, B4 répond en 168 ms, ResNet-50 en 100.
# - Entraîner B4 sur 32 images de 380 pixels demande plus de 20 Gio ; une inférence, moins de 120
#   Mio. Avant de renoncer : un membre plus petit de la famille, et des poids sur huit bits, une
#   échelle par canal.

# %% [markdown]
# ## Exercices
#
# ### 1. Agrandir l'image, prédire le coût
#
# Donnons à B4 des images de 760 pixels au lieu de 380. Par combien le nombre de paramètres et celui
# des opérations sont-ils multipliés ? Remplacez les `None`.

# %%
my_parameter_ratio = None
my_cost_ratio = None
_, usual_parameters, usual_cost = tally(*SCALES["B4"][:3])
_, more_parameters, more_cost = tally(*SCALES["B4"][:2], 760)
predict("paramètres", my_parameter_ratio, more_parameters / usual_parameters)
predict("opérations", my_cost_ratio, more_cost / usual_cost)

# %% [markdown]
# <details>
# <summary>Solution</summary>
#
# Les paramètres ne changent pas : les noyaux ne savent rien de la taille des cartes, et la moyenne
# globale rend toujours un vecteur de même taille. Les opérations sont multipliées par 4 à très peu
# près : quatre fois plus de positions. L'écart vient des côtés impairs, arrondis vers le haut (380
# donne 190, 95, 48…), et des blocs SE et de la couche dense, qui ne dépendent pas de la taille.
#
# </details>

# %% [markdown]
# ### 2. La profondeur stochastique, à la main
#
# Écrivez la profondeur stochastique en NumPy, à l'entraînement. `shortcut` et `branch` sont deux
# lots d'images, de forme `(n, h, w, c)`. Pour chaque image, `draws` contient un nombre au hasard de
# 0 à 1 : la branche est perdue quand il est plus petit que `rate`. Rendez la sortie du bloc : le
# raccourci, plus ce qui reste de la branche, dont la moyenne ne doit pas changer.


# %%
def my_stochastic_depth(shortcut, branch, draws, rate):
    raise NotImplementedError


# %% tags=["hide-input"] cellView="form"
# @title Exercice 2 : la solution et les fautes que le vérificateur reconnaît
def stochastic_depth(shortcut, branch, draws, rate):
    kept = (draws >= rate)[:, None, None, None]
    return shortcut + branch * kept / (1 - rate)


def depth_without_scale(shortcut, branch, draws, rate):
    return shortcut + branch * (draws >= rate)[:, None, None, None]


def depth_of_the_sum(shortcut, branch, draws, rate):
    return (shortcut + branch) * (draws >= rate)[:, None, None, None] / (1 - rate)


def depth_reversed(shortcut, branch, draws, rate):
    return shortcut + branch * (draws < rate)[:, None, None, None] / (1 - rate)


def depth_scaled_by_rate(shortcut, branch, draws, rate):
    return shortcut + branch * (draws >= rate)[:, None, None, None] / rate


def depth_at_inference(shortcut, branch, draws, rate):
    return shortcut + branch


# %% tags=["hide-input"] cellView="form"
# @title Vérifier l'exercice 2
def depth_cases():
    rng = np.random.default_rng(0)
    cases = []
    for rate in (0.2, 0.7):
        pair = rng.normal(size=(2, 6, 3, 3, 2))
        cases.append((*pair, np.array([0.05, 0.3, 0.95, 0.6, 0.1, 0.8]), rate))
    return cases


EXERCISE_DEPTH = Exercise(
    title="Exercice 2",
    reference=stochastic_depth,
    cases=depth_cases,
    mistakes={
        "Divisez ce qui reste par la part gardée, sinon la moyenne baisse.": depth_without_scale,
        "Seule la branche disparaît : le raccourci passe toujours.": depth_of_the_sum,
        "C'est l'inverse : une image dont le nombre est plus petit que `rate` *perd* sa branche.": (
            depth_reversed
        ),
        "La part gardée est `1 - rate`, non `rate`.": depth_scaled_by_rate,
        "C'est la règle de l'inférence : à l'entraînement, des branches disparaissent.": (
            depth_at_inference
        ),
    },
)
EXERCISE_DEPTH.check(my_stochastic_depth)

# %% tags=["hide-cell"] cellView="form"
# @title Solution de l'exercice 2
# Un coefficient par image, étendu aux trois autres axes : 0, ou 1 / (1 − taux).
EXERCISE_DEPTH.check(stochastic_depth)

# %% [markdown]
# ### 3. Expliquer : pourquoi ne pas activer la projection ?
#
# La dernière convolution d'un bloc MBConv n'a pas d'activation. Que perdrait-on à lui mettre ReLU,
# qu'un goulot de ResNet place pourtant après la somme ? Et que deviendrait le raccourci ?
#
# <details>
# <summary>Solution</summary>
#
# La sortie du bloc est étroite : 24 canaux, pour 144 au milieu. ReLU y mettrait à zéro des valeurs
# que rien d'autre ne garde : dans 144 canaux redondants, la perte se rattrape ; dans 24, non. La
# branche ne pourrait de plus qu'ajouter au raccourci, jamais en retrancher. Dans ResNet, la sortie
# du bloc est la partie *large* : l'activation y est moins coûteuse.
#
# </details>

# %% [markdown]
# ### 4. Geler ce qu'il faut
#
# `names` donne les noms des couches de la base, dans l'ordre du réseau ; `cut`, celui de la
# dernière couche qui reste gelée. Rendez la liste des noms des couches à libérer pour la seconde
# phase : celles qui viennent **après** `cut`, sauf les normalisations, dont le nom finit par `bn`.


# %%
def my_freed_layers(names, cut):
    raise NotImplementedError


# %% tags=["hide-input"] cellView="form"
# @title Exercice 4 : la solution et les fautes que le vérificateur reconnaît
def freed_layers_solution(names, cut):
    after = names[names.index(cut) + 1 :]
    return [name for name in after if not name.endswith("bn")]


def freed_layers_with_norms(names, cut):
    return names[names.index(cut) + 1 :]


def freed_layers_with_cut(names, cut):
    return [name for name in names[names.index(cut) :] if not name.endswith("bn")]


def freed_layers_before(names, cut):
    before = names[: names.index(cut) + 1]
    return [name for name in before if not name.endswith("bn")]


# %% tags=["hide-input"] cellView="form"
# @title Vérifier l'exercice 4
LAYER_NAMES = [
    *("stem_conv", "stem_bn", "block1a_dwconv"),
    *("block1a_bn", "top_conv", "top_bn"),
]
EXERCISE_FREED = Exercise(
    title="Exercice 4",
    reference=freed_layers_solution,
    cases=[(LAYER_NAMES, cut) for cut in ("stem_conv", "block1a_dwconv", "block1a_bn")],
    mistakes={
        "Les normalisations restent gelées.": freed_layers_with_norms,
        "La couche de coupe reste gelée : commencez à la suivante.": freed_layers_with_cut,
        "Ce sont les couches d'après la coupe qui se libèrent.": freed_layers_before,
    },
)
EXERCISE_FREED.check(my_freed_layers)

# %% tags=["hide-cell"] cellView="form"
# @title Solution de l'exercice 4
# Les couches qui suivent la coupe, moins les normalisations.
EXERCISE_FREED.check(freed_layers_solution)

# %% [markdown]
# ### 5. Expliquer
#
# Un collègue charge `EfficientNetB4` de Keras, divise ses images par 255 « comme toujours », et
# obtient une exactitude médiocre, sans message d'erreur. Le lendemain, il charge Lite0, ne divise
# plus rien, et n'obtient pas mieux. Que s'est-il passé, et quelle vérification d'une minute
# l'aurait averti les deux fois ?
#
# <details>
# <summary>Solution</summary>
#
# EfficientNet, dans Keras, commence par `Rescaling(1/255)` : divisées d'avance, ses images le sont
# deux fois, et deviennent presque noires. Lite0 n'a pas cette couche : sans division, ses entrées
# sont cent fois trop grandes. Dans les deux cas, les formes et les types sont justes : rien ne
# s'arrête.
#
# La vérification : regarder ce qui **sort** de la préparation. Le minimum, le maximum et l'écart
# type de l'entrée de la première convolution doivent être de l'ordre de −2, 2 et 1. Ou donner au
# réseau complet une image dont on connaît la réponse.
#
# </details>

# %% [markdown]
# ### 6. Deux boîtes qui ne se touchent pas
#
# L'IoU de deux boîtes disjointes vaut zéro, qu'elles soient voisines ou aux deux bouts de l'image :
# employée comme perte, elle ne dirait pas au réseau de les rapprocher. L'IoU **généralisée**
# ([GIoU](https://arxiv.org/abs/1902.09630)) retire à l'IoU la part de vide dans $E$, la plus petite
# boîte qui contient les deux :
#
# $$\text{GIoU} = \text{IoU} - \frac{|E| - |A \cup B|}{|E|}.$$
#
# Écrivez-la pour deux boîtes `(x0, y0, x1, y1)`. Elle va de 1, boîtes égales, à presque −1.


# %%
def my_giou(a, b):
    raise NotImplementedError


# %% tags=["hide-input"] cellView="form"
# @title Exercice 6 : la solution et les fautes que le vérificateur reconnaît
def box_area(box):
    return (box[2] - box[0]) * (box[3] - box[1])


def giou_solution(a, b):
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]))
    common = width * height
    union = box_area(a) + box_area(b) - common
    around = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return common / union - (around - union) / around


def giou_only_iou(a, b):
    return float(box_overlap(a, b)[0, 0])


def giou_negative_sides(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    union = box_area(a) + box_area(b) - width * height
    around = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return width * height / union - (around - union) / around


def giou_counted_twice(a, b):
    iou = giou_only_iou(a, b)
    union = box_area(a) + box_area(b)
    around = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return iou - (around - union) / around


# %% tags=["hide-input"] cellView="form"
# @title Vérifier l'exercice 6
EXERCISE_GIOU = Exercise(
    title="Exercice 6",
    reference=giou_solution,
    cases=[
        ((0, 0, 10, 10), (0, 0, 10, 10)),
        ((0, 0, 10, 10), (5, 5, 15, 15)),
        ((0, 0, 10, 10), (30, 40, 34, 46)),
        ((0, 0, 10, 10), (12, 0, 20, 10)),
    ],
    mistakes={
        "C'est l'IoU : il reste à retirer la part de vide.": giou_only_iou,
        "Boîtes disjointes : bornez à zéro la largeur et la hauteur communes.": giou_negative_sides,
        "Dans le vide aussi, ce qui est commun ne compte qu'une fois.": giou_counted_twice,
    },
)
EXERCISE_GIOU.check(my_giou)

# %% tags=["hide-cell"] cellView="form"
# @title Solution de l'exercice 6
# Plus les boîtes s'éloignent, plus E grandit, et plus la GIoU baisse : la pente ne s'annule pas.
EXERCISE_GIOU.check(giou_solution)

# %% [markdown]
# ### 7. Replier une normalisation
#
# Une convolution a un noyau $w$, de forme (hauteur, largeur, entrées, sorties), et un biais $b$, un
# nombre par sortie. La normalisation qui la suit donne
#
# $$\gamma\, \frac{y - m}{\sqrt{v + \varepsilon}} + \beta.$$
#
# Rendez le noyau et le biais d'**une seule** convolution, qui calcule les deux à la fois.


# %%
def my_folded(kernel, bias, gamma, beta, mean, variance, epsilon):
    raise NotImplementedError


# %% tags=["hide-input"] cellView="form"
# @title Exercice 7 : la solution et les fautes que le vérificateur reconnaît
def folded_solution(kernel, bias, gamma, beta, mean, variance, epsilon):
    gain = gamma / np.sqrt(variance + epsilon)
    return kernel * gain, (bias - mean) * gain + beta


def folded_bias_untouched(kernel, bias, gamma, beta, mean, variance, epsilon):
    gain = gamma / np.sqrt(variance + epsilon)
    return kernel * gain, bias - mean * gain + beta


def folded_mean_untouched(kernel, bias, gamma, beta, mean, variance, epsilon):
    gain = gamma / np.sqrt(variance + epsilon)
    return kernel * gain, bias * gain - mean + beta


def folded_by_variance(kernel, bias, gamma, beta, mean, variance, epsilon):
    gain = gamma / (variance + epsilon)
    return kernel * gain, (bias - mean) * gain + beta


def folded_by_input(kernel, bias, gamma, beta, mean, variance, epsilon):
    gain = gamma / np.sqrt(variance + epsilon)
    return kernel * gain[:, None], (bias - mean) * gain + beta


# %% tags=["hide-input"] cellView="form"
# @title Vérifier l'exercice 7
def fold_cases():
    rng = np.random.default_rng(8)
    cases = []
    for side, epsilon in ((1, 1e-3), (3, 0.5)):
        kernel = rng.normal(size=(side, side, 4, 4))
        bias, beta, mean = rng.normal(size=(3, 4))
        gamma, variance = rng.uniform(0.5, 2, size=(2, 4))
        cases.append((kernel, bias, gamma, beta, mean, variance, epsilon))
    return cases


EXERCISE_FOLDED = Exercise(
    title="Exercice 7",
    reference=folded_solution,
    cases=fold_cases,
    mistakes={
        "Le biais de la convolution est multiplié, lui aussi.": folded_bias_untouched,
        "La moyenne est retranchée avant la multiplication.": folded_mean_untouched,
        "Divisez par l'écart type : il manque une racine carrée.": folded_by_variance,
        "Le gain est celui d'une sortie : le dernier axe, non le troisième.": folded_by_input,
    },
)
EXERCISE_FOLDED.check(my_folded)

# %% tags=["hide-cell"] cellView="form"
# @title Solution de l'exercice 7
# Le gain multiplie tout ce qui entre dans la normalisation : le noyau, le biais, la moyenne.
EXERCISE_FOLDED.check(folded_solution)

# %% [markdown]
# ### 8. Expliquer
#
# Un collègue remplace ResNet-50 par EfficientNet-B0 : dix fois moins d'opérations, cinq fois moins
# de paramètres. Sur sa machine, la réponse ne va pas dix fois plus vite, et la mémoire
# d'entraînement n'est pas divisée par cinq, loin de là. Pourquoi ?
#
# <details>
# <summary>Solution</summary>
#
# Le temps : une bonne part va aux convolutions par canal, aux normalisations et aux activations,
# qui comptent peu d'opérations mais lisent et écrivent beaucoup. Elles attendent la mémoire, et
# chaque couche a son coût fixe : B0 en a plus que ResNet-50.
#
# La mémoire : à l'entraînement, ce sont les activations qui la remplissent, non les paramètres. Or
# un bloc MBConv *élargit* six fois avant de filtrer : ses cartes sont larges, et chaque couche,
# même peu coûteuse, garde la sienne pour la rétropropagation.
#
# </details>

# %% [markdown]
# ## Ce que nous avons vérifié

# %%
summary()

# %% [markdown]
# ## Références
#
# - M. Tan, Q. V. Le, [EfficientNet: rethinking model scaling for convolutional neural
#   networks](https://arxiv.org/abs/1905.11946), 2019.
# - M. Sandler et al., [MobileNetV2: inverted residuals and linear
#   bottlenecks](https://arxiv.org/abs/1801.04381), 2018.
# - J. Hu et al., [Squeeze-and-excitation networks](https://arxiv.org/abs/1709.01507), 2017.
# - G. Huang et al., [Deep networks with stochastic depth](https://arxiv.org/abs/1603.09382), 2016.
# - P. Ramachandran, B. Zoph, Q. V. Le, [Searching for activation
#   functions](https://arxiv.org/abs/1710.05941), 2017 (swish).
# - M. Tan, R. Pang, Q. V. Le, [EfficientDet: scalable and efficient object
#   detection](https://arxiv.org/abs/1911.09070), 2019.
# - T.-Y. Lin et al., [Feature pyramid networks for object
#   detection](https://arxiv.org/abs/1612.03144), 2016 (FPN).
# - X. Zhou, D. Wang, P. Krähenbühl, [Objects as points](https://arxiv.org/abs/1904.07850), 2019
#   (CenterNet).
# - H. Rezatofighi et al., [Generalized intersection over union: a metric and a loss for bounding
#   box regression](https://arxiv.org/abs/1902.09630), 2019 (GIoU).
# - M. Turk, A. Pentland, [Eigenfaces for
#   recognition](https://doi.org/10.1162/jocn.1991.3.1.71), 1991.
# - T. Defard et al., [PaDiM: a patch distribution modeling framework for anomaly detection and
#   localization](https://arxiv.org/abs/2011.08785), 2020.
# - P. Micikevicius et al., [Mixed precision training](https://arxiv.org/abs/1710.03740), 2017.
# - B. Jacob et al., [Quantization and training of neural networks for efficient
#   integer-arithmetic-only inference](https://arxiv.org/abs/1712.05877), 2017.
# - R. Krishnamoorthi, [Quantizing deep convolutional networks for efficient inference: a
#   whitepaper](https://arxiv.org/abs/1806.08342), 2018.
# - S. Xie et al., [Aggregated residual transformations for deep neural
#   networks](https://arxiv.org/abs/1611.05431), 2016 (ResNeXt).
# - I. Radosavovic et al., [Designing network design spaces](https://arxiv.org/abs/2003.13678), 2020
#   (RegNet).
# - A. Dosovitskiy et al., [An image is worth 16x16 words: transformers for image recognition at
#   scale](https://arxiv.org/abs/2010.11929), 2020 (ViT).
# - H. Touvron et al., [Training data-efficient image transformers and distillation through
#   attention](https://arxiv.org/abs/2012.12877), 2020 (DeiT).
