# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Réseaux siamois et perte contrastive
#
# > **Objectifs.** À la fin de ce chapitre, vous saurez :
# > - transformer un jeu d'images étiquetées en paires « même classe » / « classes différentes » ;
# > - construire un réseau siamois et dire pourquoi ses deux branches n'ont qu'un jeu de poids ;
# > - écrire la perte contrastive, calculer son gradient et éviter ses trois pièges silencieux ;
# > - juger un réseau qui compare : distances, courbe ROC, seuil, erreurs par classe ;
# > - expliquer d'où vient le plafond d'exactitude, et le faire bouger.
#
# | | |
# |:--|:--|
# | **Prérequis** | les chapitres [1](01_convolution.ipynb) et [2](02_layers_and_training.ipynb) |
# | **Document étudié** | 003, *Siamese Modele et Contrastive Loss* |
# | **Données** | Fashion-MNIST (70 000 vêtements, 28 × 28) ; hors ligne, des chiffres manuscrits |
# | **Durée** | deux heures de lecture et d'exercices ; exécution rapide : moins d'une minute |
#
# Le document 003 donne treize blocs de code et les explique en quelques lignes. Chaque phrase
# qu'une exécution peut trancher reçoit un **verdict** : *confirmé*, *corrigé* ou *réfuté*.
#
# Trois parties :
#
# 1. les paires, le réseau, la perte, puis l'entraînement du document ;
# 2. ce que son exactitude cache, et d'où vient son plafond ;
# 3. l'espace appris, une autre base, une autre perte, et le document exécuté mot à mot : à garder
#    pour une seconde lecture.

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
import ast
from contextlib import redirect_stdout
from io import StringIO
from tempfile import TemporaryDirectory
from unittest import mock

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import layers, ops
from sklearn.manifold import TSNE
from sklearn.metrics import confusion_matrix
from sklearn.model_selection import train_test_split

from utils import datasets, figures, metrics, runtime
from utils.autodiff import value_and_grad
from utils.execute import experiment
from utils.exercises import Exercise, failure, predict
from utils.figures import number, percent, spread
from utils.verdicts import summary, verdict

# %% [markdown]
# Toutes les tailles du chapitre sont choisies ici.

# %%
SEEDS = runtime.pick(quick=(0,), full=(0, 1, 2))
EPOCHS = runtime.pick(quick=2, full=20)  # celles du document
SHORT_EPOCHS = runtime.pick(quick=1, full=5)  # celles de nos comparaisons
DRAWS = runtime.pick(quick=1, full=5)  # tirages de classes cachées
TRAIN_IMAGES = runtime.pick(quick=600, full=60_000)
BATCH_SIZE = 128

runtime.start("10_siamese")
garments = datasets.garments()
runtime.banner(garments)

# %% [markdown]
# ## Le problème : comparer plutôt que classer
#
# Un classifieur répond à la question « laquelle de ces dix classes ? ». Sa dernière couche a dix
# sorties : une onzième classe oblige à changer cette couche et à réentraîner. Or bien des
# problèmes demandent autre chose : cette signature est-elle de la même main ? ce visage est-il
# celui du passeport ? Les classes y sont innombrables, et chacune n'offre qu'un exemple ou deux.
#
# Un ***réseau siamois*** apprend donc à *comparer*. Le même réseau transforme chaque image en un
# vecteur, son ***plongement*** ; deux images se ressemblent si leurs plongements sont proches :
#
# $$d(a, b) = \lVert f_\theta(a) - f_\theta(b) \rVert_2$$
#
# Il reste à trouver des poids $\theta$ pour lesquels cette distance a le sens voulu. C'est le rôle
# de la ***perte contrastive***.

# %% [markdown]
# ## Les données
#
# Le document charge Fashion-MNIST et divise les pixels par 255. Nous gardons les images en
# octets et divisons au moment de former un lot : quatre fois moins de mémoire, mêmes valeurs.
# Après la taille des ensembles, voici une image de chaque classe.

# %%
x_train, y_train = garments.x_train[:TRAIN_IMAGES], garments.y_train[:TRAIN_IMAGES]
x_test, y_test = garments.x_test, garments.y_test
class_names = garments.class_names
INPUT_SHAPE = (28, 28)


def to_unit(images):
    """Octets 0..255 -> nombres réels 0..1."""
    return images.astype("float32") / 255


print(f"entraînement : {x_train.shape}, test : {x_test.shape}")

# %%
first_of_class = [np.flatnonzero(y_test == k)[0] for k in range(len(class_names))]
fig = figures.grid(x_test[first_of_class], titles=class_names, columns=5)
figures.show(fig, alt=f"Une image de chacune des classes : {', '.join(class_names)}.")

# %%
unit = to_unit(x_test)
verdict("siamese-unit-range", [float(unit.min()), float(unit.max())])

# %% [markdown]
# ## Former des paires
#
# Une ***paire positive*** réunit deux images de la même classe (étiquette 1), une
# ***paire négative*** deux images de classes différentes (étiquette 0). Le document range d'abord
# les indices par classe :
#
# ```python
# def create_indices(y):
#     digit_indices = [np.where(y == i)[0] for i in range(10)]
#     return digit_indices
# ```


# %%
def class_indices(labels):
    """Indices des images de chaque classe : une liste de tableaux."""
    return [np.flatnonzero(labels == k) for k in np.unique(labels)]


indices = class_indices(y_train)
covered = np.sort(np.concatenate(indices))
verdict(
    "siamese-class-indices",
    len(indices) == 10 and np.array_equal(covered, np.arange(len(y_train))),
)

# %% [markdown]
# Puis il forme les paires :
#
# ```python
# def create_pairs(x, digit_indices):
#     pairs = []
#     labels = []
#     n = min([len(digit_indices[d]) for d in range(10)]) - 1
#     for d in range(10):
#         for i in range(n):
#             z1, z2 = digit_indices[d][i], digit_indices[d][i + 1]
#             pairs += [[x[z1], x[z2]]]
#             inc = random.randrange(1, 10)
#             dn = (d + inc) % 10
#             z1, z2 = digit_indices[d][i], digit_indices[dn][i]
#             pairs += [[x[z1], x[z2]]]
#             labels += [1, 0]
#     return np.array(pairs), np.array(labels)
# ```
#
# Nous le transcrivons ligne à ligne, à une différence près : la fonction rend les *numéros* des
# images, pas leurs copies, et reçoit une graine.


# %%
def document_pairs(labels, seed):
    """Paires du document 003 : positives consécutives, négatives de même rang.

    Rend les numéros d'images (n, 2) et les étiquettes (n,), 1 pour une paire positive.
    """
    rng = np.random.default_rng(seed)
    by_class = class_indices(labels)
    n_classes = len(by_class)
    n = min(len(members) for members in by_class) - 1
    pairs = []
    for d in range(n_classes):
        for i, other in enumerate(rng.integers(1, n_classes, size=n)):
            pairs.append((by_class[d][i], by_class[d][i + 1]))
            pairs.append((by_class[d][i], by_class[(d + other) % n_classes][i]))
    return np.array(pairs), np.tile(np.float32([1, 0]), len(pairs) // 2)


pairs, same = document_pairs(y_train, seed=0)
print(f"{number(len(pairs), 0)} paires, dont {percent(same.mean())} positives")

# %% [markdown]
# Combien de mémoire le document prend-il ? Il copie les deux images de chaque paire, en réels de
# quatre octets. Les numéros suffisent.

# %%
copied = pairs.size * np.prod(INPUT_SHAPE) * 4
print(f"images copiées : {number(copied / 2**20)} Mio")
print(f"numéros : {number(pairs.nbytes / 2**20)} Mio")

# %% [markdown]
# Trois phrases accompagnent ce bloc et se vérifient : sur les étiquettes, sur le nombre de paires
# et sur le hasard.

# %%
agree = (y_train[pairs[:, 0]] == y_train[pairs[:, 1]]) == (same == 1)
verdict("siamese-pair-labels", float(agree.mean()))

# %%
n_used = len(pairs) // (2 * len(indices))
n_smallest = min(len(members) for members in indices)
verdict("siamese-pair-count", n_used - n_smallest)

# %%
again, _ = document_pairs(y_train, seed=1)
for value, name in ((1, "positives"), (0, "négatives")):
    changed = (pairs[same == value] != again[same == value]).any(axis=1).mean()
    print(f"paires {name} qui changent avec la graine : {percent(changed)}")
positive_changed = (pairs[same == 1] != again[same == 1]).any()
verdict("siamese-random-pairs", bool(positive_changed))

# %% [markdown]
# Les paires positives ne doivent rien au hasard : chaque image n'est comparée qu'à ses deux
# voisines de liste. Combien de paires positives existent, et quelle part le document en voit-il ?

# %%
possible = sum(len(members) * (len(members) - 1) // 2 for members in indices)
seen = int(same.sum())
print(
    f"{number(seen, 0)} paires positives sur {number(possible, 0)} possibles, "
    f"soit {percent(seen / possible, 3)}"
)

# %% [markdown]
# Notre version donne à chaque image deux partenaires tirés au hasard, l'un de sa classe, l'autre
# d'ailleurs. Elle accepte un nombre quelconque de classes, de tailles inégales.


# %%
def make_pairs(labels, seed):
    """Une paire positive et une négative par image, partenaires tirés au hasard.

    labels : entiers (n,). Rend les numéros (2n, 2) et les étiquettes (2n,), 1 pour positive.
    """
    rng = np.random.default_rng(seed)
    labels = np.asarray(labels)
    anchors = np.arange(len(labels))
    partners = np.empty((2, len(labels)), dtype=int)
    for members in class_indices(labels):
        shift = rng.integers(1, len(members), size=len(members))
        partners[0, members] = members[(np.arange(len(members)) + shift) % len(members)]
        others = np.flatnonzero(labels != labels[members[0]])
        partners[1, members] = rng.choice(others, size=len(members))
    pairs = np.stack([np.tile(anchors, 2), partners.ravel()], axis=1)
    return pairs, np.repeat(np.float32([1, 0]), len(labels))


# %% [markdown]
# Une paire de test ne contient aucune image d'entraînement, sauf si une même image figure dans les
# deux ensembles. Comptons.

# %%
train_images = {image.tobytes() for image in garments.x_train}
shared = [i for i, image in enumerate(x_test) if image.tobytes() in train_images]
print(f"images de test présentes aussi dans l'entraînement : {len(shared)}")

# %% [markdown]
# ### Voir les paires
#
# Le document dessine dix paires sur une grille de deux lignes et cinq colonnes :
#
# ```python
# for i in range(10):
#     plt.subplot(2, 5, i + 1)
#     plt.imshow(pairs[i][0].reshape(28, 28))
#     plt.title('Pair %d' % (i + 1))
#     plt.subplot(2, 5, i + 1 + 5)
# ```
#
# Dix paires font vingt images, la grille n'a que dix cases. Exécutons ces lignes.


# %%
def document_grid():
    plt.figure(figsize=(10, 4))
    for i in range(10):
        plt.subplot(2, 5, i + 1)
        plt.subplot(2, 5, i + 1 + 5)


error = failure(document_grid, expected=ValueError)
plt.close("all")
verdict("siamese-plot-pairs", error is None)

# %% [markdown]
# La boucle s'arrête à la sixième paire : la case 11 n'existe pas. De plus, la première image de ces
# dix paires est toujours de la classe 0. Voici huit des nôtres, tirées au hasard : une paire par
# colonne.


# %%
def plot_pairs(images, pairs, same, seed=0):
    """Huit paires au hasard : la première image de chacune en haut, la seconde en bas."""
    chosen = np.random.default_rng(seed).choice(len(pairs), size=8, replace=False)
    titles = ["même" if same[i] else "autre" for i in chosen] + [""] * 8
    return figures.grid(images[pairs[chosen].T.ravel()], titles=titles, columns=8)


pairs, same = make_pairs(y_train, seed=0)
figures.show(
    plot_pairs(x_train, pairs, same),
    alt="Huit paires d'images, l'une au-dessus de l'autre ; le mot « même » ou « autre » "
    "dit si les deux images sont de la même classe.",
)

# %% [markdown]
# ## Le réseau
#
# Le réseau de base du document a trois couches denses de 128 neurones, séparées par un abandon de
# 10 % ([chapitre 2](02_layers_and_training.ipynb)). Nous le réécrivons avec les noms actuels de
# Keras.


# %%
def base_network(input_shape, dropout=0.1):
    """Réseau de base du document 003 : image -> plongement de 128 nombres."""
    inputs = keras.Input(shape=input_shape, name="image")
    x = layers.Flatten(name="flatten")(inputs)  # (28, 28) -> (784,)
    x = layers.Dense(128, activation="relu")(x)
    x = layers.Dropout(dropout)(x)
    x = layers.Dense(128, activation="relu")(x)
    x = layers.Dropout(dropout)(x)
    x = layers.Dense(128, activation="relu", name="embedding")(x)
    return keras.Model(inputs, x, name="base")


base = base_network(INPUT_SHAPE)
rows = [
    (
        type(layer).__name__,
        " × ".join(map(str, layer.output.shape[1:])),
        number(layer.count_params(), 0),
    )
    for layer in base.layers
]
runtime.show_table(("couche", "sortie", "poids"), rows)

# %%
flat = base.get_layer("flatten").output
verdict("siamese-flatten", [len(flat.shape[1:]), flat.shape[-1]])

# %% [markdown]
# Selon le document, « `Model` compile le modèle ». Un modèle qui vient d'être construit est-il
# compilé ?

# %%
verdict("siamese-model-compiles", bool(base.compiled))

# %% [markdown]
# ### La distance, et le zéro
#
# Le document calcule la distance euclidienne ainsi :
#
# ```python
# def euclidean_distance(vects):
#     x, y = vects
#     return K.sqrt(K.sum(K.square(x - y), axis=1, keepdims=True))
# ```
#
# Traduit avec `keras.ops`, qui remplace l'ancien module `K`, ce code donne bien une colonne de
# distances :


# %%
def document_distance(a, b):
    squared = ops.square(ops.subtract(a, b))
    return ops.sqrt(ops.sum(squared, axis=1, keepdims=True))


rng = np.random.default_rng(0)
a, b = rng.normal(size=(2, 5, 128)).astype("float32")
expected = np.linalg.norm(a - b, axis=1, keepdims=True)
measured = ops.convert_to_numpy(document_distance(a, b))
verdict("siamese-distance-value", bool(np.allclose(measured, expected, rtol=1e-5)))


# %% [markdown]
# Le document écrit aussi, à part, la forme de ce résultat. Dit-elle vrai ?


# %%
def eucl_dist_output_shape(shapes):
    shape1, shape2 = shapes
    return (shape1[0], 1)


announced = eucl_dist_output_shape([a.shape, b.shape])
assert announced == measured.shape
verdict("siamese-distance-shape", list(announced))

# %% [markdown]
# L'entraînement a besoin d'une dérivée. Celle de $\sqrt{s}$ est $1 / (2\sqrt{s})$ : infinie
# en zéro. Par la règle de la chaîne, elle multiplie la dérivée de $s = \lVert a - b \rVert^2$, soit
# $2(a - b)$, qui est nulle : $\infty \times 0$. Que devient le gradient d'une paire de plongements
# *égaux* ?

# %%
one = np.ones((1, 4), dtype="float32")
_, gradient = value_and_grad(lambda t: ops.sum(document_distance(t, one)), one)
print("gradient en un point de distance nulle :", *gradient[0])
verdict("siamese-zero-distance", bool(np.isfinite(gradient).all()))

# %% [markdown]
# Ni l'infini ni zéro : $\infty \times 0$ n'est pas un nombre (*NaN*). Une seule paire négative aux
# plongements égaux suffit à perdre le réseau, comme nous le verrons. Le remède est un plancher sous
# la racine : au-dessous, le gradient vaut exactement zéro. En contrepartie, une paire négative à
# distance nulle n'est plus repoussée.
#
# Nous en faisons une *couche* : le modèle enregistré se relira plus facilement.


# %%
@keras.saving.register_keras_serializable("vision_profonde")
class EuclideanDistance(layers.Layer):
    """Distance euclidienne entre deux lots de plongements : (n, k), (n, k) -> (n, 1)."""

    def build(self, a_shape, b_shape):
        self.built = True

    def call(self, a, b):
        squared = ops.sum(ops.square(a - b), axis=1, keepdims=True)
        return ops.sqrt(ops.maximum(squared, 1e-7))

    def compute_output_shape(self, a_shape, b_shape):
        return (a_shape[0], 1)


value, gradient = value_and_grad(lambda t: ops.sum(EuclideanDistance()(t, one)), one)
print(f"distance : {number(value, 5)} ; gradient :", *map(number, gradient[0]))

# %% [markdown]
# ### Deux branches, un seul jeu de poids
#
# Les deux entrées traversent le *même* objet `base`. Keras le sait : ses poids ne sont comptés
# qu'une fois.


# %%
def siamese_network(input_shape, base=None):
    """Réseau siamois : deux images -> la distance de leurs plongements, (n, 1)."""
    base = base_network(input_shape) if base is None else base
    input_a = keras.Input(shape=input_shape, name="image_a")
    input_b = keras.Input(shape=input_shape, name="image_b")
    distance = EuclideanDistance(name="distance")(base(input_a), base(input_b))
    return keras.Model([input_a, input_b], distance, name="siamese")


siamese = siamese_network(INPUT_SHAPE, base)
for name, model in (("base", base), ("réseau siamois", siamese)):
    print(f"{name} : {number(model.count_params(), 0)} poids")
verdict("siamese-shared-weights", siamese.count_params())

# %% [markdown]
# Le partage rend la distance symétrique : échanger les deux images n'y change rien.

# %%
left, right = to_unit(x_test[:64]), to_unit(x_test[64:128])
there = ops.convert_to_numpy(siamese([left, right]))
back = ops.convert_to_numpy(siamese([right, left]))
print(f"plus grand écart entre d(a, b) et d(b, a) : {number(abs(there - back).max())}")

# %% [markdown]
# ### Enregistrer, relire
#
# Le document passe la distance, et sa forme, à une couche `Lambda`, qui appelle une fonction
# quelconque. Le modèle s'enregistre sans message ; essayons de le relire.


# %%
def euclidean_distance(vects):
    x, y = vects
    return document_distance(x, y)


def lambda_network(input_shape):
    """Réseau siamois du document : la distance est une fonction dans une `Lambda`."""
    base = base_network(input_shape)
    input_a, input_b = keras.Input(shape=input_shape), keras.Input(shape=input_shape)
    distance = layers.Lambda(euclidean_distance, output_shape=eucl_dist_output_shape)
    return keras.Model([input_a, input_b], distance([base(input_a), base(input_b)]))


def reload(model, custom_objects=None):
    """Enregistre le modèle dans un fichier provisoire et le relit."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "siamese.keras"
        model.save(path)
        return keras.models.load_model(path, custom_objects, compile=False)


error = failure(reload, lambda_network(INPUT_SHAPE))
verdict("siamese-lambda", error is None)

# %% [markdown]
# Une `Lambda` n'enregistre que le *nom* des fonctions du document : à la relecture, il faut les
# redonner à Keras. Notre couche, déclarée par `register_keras_serializable`, se relit seule, pourvu
# que le code qui la définit soit importé.

# %%
given = {f.__name__: f for f in (euclidean_distance, eucl_dist_output_shape)}
reload(lambda_network(INPUT_SHAPE), given)
reloaded = reload(siamese)
gap = np.abs(ops.convert_to_numpy(reloaded([left, right])) - there).max()
print(f"écart entre notre modèle relu et l'original : {number(gap)}")

# %% [markdown]
# ## La perte contrastive
#
# Soit $d$ la distance d'une paire et $y$ son étiquette. Le document écrit :
#
# ```python
# def contrastive_loss(y_true, y_pred):
#     margin = 1
#     return K.mean(y_true * K.square(y_pred)
#                   + (1 - y_true) * K.square(K.maximum(0., margin - y_pred)))
# ```
#
# soit, pour une paire,
#
# $$\ell(y, d) = y\, d^2 + (1 - y)\, \max(0, m - d)^2$$
#
# - **Paire positive** ($y = 1$) : un ressort attire les deux plongements, d'autant plus fort
#   qu'ils sont loin.
# - **Paire négative** ($y = 0$) : un ressort les repousse, mais seulement à l'intérieur de la
#   ***marge*** $m$. Au-delà, la perte est nulle : inutile d'éloigner ce qui est déjà assez loin.
#
# Sans la marge, rien n'arrêterait l'écartement ; sans les paires négatives, tout se réduirait à un
# seul point.

# %% [markdown]
# ### Un piège de forme
#
# Les étiquettes ont la forme `(n,)`, les distances `(n, 1)`. Leur produit est une matrice
# `(n, n)` : chaque étiquette rencontre *toutes* les distances. Comparons, sur quatre paires, la
# fonction du document appelée telle quelle à la moyenne paire par paire.


# %%
def document_loss(y_true, y_pred, margin=1):
    similar = y_true * ops.square(y_pred)
    different = (1 - y_true) * ops.square(ops.maximum(0.0, margin - y_pred))
    return ops.mean(similar + different)


labels = np.float32([1, 1, 0, 0])
distances = np.float32([[0.3], [0.8], [0.4], [1.7]])
by_hand = np.mean([0.3**2, 0.8**2, (1 - 0.4) ** 2, 0.0])
as_written = document_loss(*map(ops.convert_to_tensor, (labels, distances)))
print(f"paire par paire : {number(by_hand, 4)}")
print(f"appel direct : {number(float(as_written), 4)}")

# %% [markdown]
# Appelée à la main, la fonction se trompe en silence. Le document, lui, ne l'appelle que dans
# `fit`, où Keras donne d'abord aux étiquettes la forme des distances. La moyenne y est-elle juste ?

# %%
identity = keras.Sequential([keras.Input((1,)), layers.Identity()])
identity.compile(loss=document_loss)
in_fit = identity.evaluate(distances, labels, verbose=0)
verdict("siamese-loss-mean", bool(np.isclose(in_fit, by_hand)))

# %% [markdown]
# Autre piège du même ordre : `create_pairs` rend des étiquettes *entières*. Dans `fit`, elles sont
# converties ; à la main, avec TensorFlow, multiplier des entiers par des réels échoue.


# %%
def integer_labels_work():
    integers, reals = map(ops.convert_to_tensor, ([1, 1, 0, 0], distances))
    return failure(document_loss, integers, reals) is None


verdict("siamese-integer-labels", integer_labels_work, backend="tensorflow")

# %% [markdown]
# Notre version donne aux deux arguments la même forme et le même type : elle sert dans `fit` comme
# à la main. Trois écritures des mêmes étiquettes doivent donner la même perte.


# %%
@keras.saving.register_keras_serializable("vision_profonde")
def contrastive_loss(y_true, y_pred, margin=1.0):
    """Perte contrastive moyenne ; y_true vaut 1 pour une paire positive, 0 sinon."""
    d = ops.reshape(y_pred, (-1,))
    y = ops.cast(ops.reshape(y_true, (-1,)), d.dtype)
    return ops.mean(
        y * ops.square(d) + (1 - y) * ops.square(ops.maximum(margin - d, 0))
    )


for given in (labels, labels[:, None], labels.astype("int64")):
    value = float(contrastive_loss(given, ops.convert_to_tensor(distances)))
    print(f"étiquettes {given.dtype}, forme {given.shape} : {number(value, 4)}")
    assert np.isclose(value, by_hand)

# %% [markdown]
# ### Deux images noires
#
# Revenons à la distance nulle. Deux images noires ont le même plongement, quel que soit l'abandon :
# tout y est nul. Entraînons un seul pas sur de telles paires, étiquetées « différentes », avec le
# réseau et la perte du document, puis avec les nôtres.


# %%
def finite_weights(model, loss):
    """Part des poids qui restent des nombres après un pas sur des paires d'images noires."""
    model.compile(optimizer="rmsprop", loss=loss)
    black = np.zeros((4, *INPUT_SHAPE), "float32")
    model.fit([black, black], np.zeros((4, 1), "float32"), verbose=0)
    weights = [ops.convert_to_numpy(weight).ravel() for weight in model.weights]
    return np.isfinite(np.concatenate(weights)).mean()


of_document = finite_weights(lambda_network(INPUT_SHAPE), document_loss)
ours = finite_weights(siamese_network(INPUT_SHAPE), contrastive_loss)
print(
    f"poids encore finis : document {percent(of_document)}, les nôtres {percent(ours)}"
)

# %% [markdown]
# Un seul pas, et le réseau du document est perdu, sans message d'erreur. De telles paires sont
# rares dans Fashion-MNIST ; les doublons ne le sont pas dans des données recueillies sans soin.
#
# Et pour une paire *positive* ? La perte élève la distance au carré, et l'on attend un gradient
# nul. La réponse dépend de XLA, le compilateur que Keras emploie sur un processeur graphique.


# %%
def positive_at_zero(jit):
    """Gradient de la perte du document pour une paire positive de plongements égaux."""
    _, gradient = value_and_grad(
        lambda t: ops.sum(document_distance(t, one) ** 2), one, jit=jit
    )
    return gradient[0]


for jit in (False, True):
    name = "compilé" if jit else "non compilé"
    print(f"{name} :", *map(number, positive_at_zero(jit)))

# %% [markdown]
# Un même code peut donc s'entraîner sur un ordinateur portable et s'effondrer sur un serveur. Le
# plancher de `EuclideanDistance` règle les deux cas.

# %% [markdown]
# ### La perte et son gradient
#
# En dérivant par rapport à la distance :
#
# $$\frac{\partial \ell}{\partial d} = 2\, y\, d - 2\,(1 - y) \max(0, m - d)$$
#
# Écrivons cette dérivée, puis demandons-la à la différentiation automatique.


# %%
def slope(y, d):
    """Dérivée de la perte d'une paire par rapport à sa distance."""
    return 2 * y * d - 2 * (1 - y) * np.maximum(0, 1 - d)


def slope_by_autodiff(y, distances):
    labels = np.full(distances.shape, y, "float32")
    _, gradient = value_and_grad(lambda d: contrastive_loss(labels, d), distances)
    return gradient * len(distances)  # la perte est une moyenne


dots = np.linspace(0.05, 1.55, 16, dtype="float32")
worst = max(np.abs(slope_by_autodiff(y, dots) - slope(y, dots)).max() for y in (0, 1))
print(f"plus grand écart entre les deux : {number(1e6 * worst, 1)} millionième")

# %% [markdown]
# La perte est dessinée au-dessus, sa dérivée au-dessous : les courbes viennent de la formule, les
# points de la différentiation automatique.

# %%
line = np.linspace(0, 1.6, 81, dtype="float32")
fig, (above, below) = plt.subplots(2, 1, figsize=(6, 6), sharex=True)
for y, name, style in ((1, "positive (y = 1)", "-"), (0, "négative (y = 0)", "--")):
    loss = y * line**2 + (1 - y) * np.maximum(0, 1 - line) ** 2
    above.plot(line, loss, style, label=f"paire {name}")
    (drawn,) = below.plot(line, slope(y, line), style)
    below.plot(
        dots, slope_by_autodiff(y, dots), "o", color=drawn.get_color(), markersize=5
    )
for axis, label in ((above, "perte"), (below, "dérivée")):
    axis.axvline(1, color="0.5", linestyle=":")
    axis.set_ylabel(label)
above.text(1.02, 2.2, "marge m = 1", color="0.3")
above.legend()
below.set_xlabel("distance d")
figures.show(
    fig,
    alt="En haut, la perte en fonction de la distance : une parabole croissante pour une paire "
    "positive, décroissante jusqu'à la marge puis nulle pour une négative. En bas, les dérivées ; "
    "les points, par différentiation automatique, sont sur les lignes de la formule.",
)

# %% [markdown]
# La dérivée d'une paire négative est la plus forte près de zéro, et nulle au-delà de la marge : ces
# paires déjà séparées n'apprennent plus rien au réseau. C'est bien ce que le document appelle
# « marge de séparation ».

# %%
beyond = slope_by_autodiff(0, np.float32([1.01, 1.5, 3.0]))
within = slope_by_autodiff(0, np.float32([0.2, 0.5, 0.99]))
verdict("siamese-margin", bool((beyond == 0).all() and (within < 0).all()))

# %% [markdown]
# ### Une autre convention circule
#
# L'article de Hadsell, Chopra et LeCun (2006) note $Y = 1$ une paire *différente*, et divise la
# perte par deux :
#
# $$2\,\ell_{2006} = (1 - Y)\, d^2 + Y \max(0, m - d)^2$$
#
# À ce facteur et à cet échange près, c'est la même fonction. Mille distances au hasard le
# confirment.


# %%
def hadsell_loss(y_different, d, margin=1.0):
    similar, different = 0.5 * d**2, 0.5 * np.maximum(0, margin - d) ** 2
    return np.mean((1 - y_different) * similar + y_different * different)


d = np.abs(rng.normal(size=1000)).astype("float32")
y = rng.integers(0, 2, size=1000).astype("float32")
ours = float(contrastive_loss(y, ops.convert_to_tensor(d)))
print(f"notre perte : {number(ours, 6)}")
print(f"deux fois celle de 2006 : {number(2 * hadsell_loss(1 - y, d), 6)}")
assert np.isclose(ours, 2 * hadsell_loss(1 - y, d), rtol=1e-5)

# %% [markdown]
# Mélanger les deux conventions ne provoque aucune erreur. Nous en verrons l'effet plus bas.

# %% [markdown]
# ## L'entraînement du document
#
# Le document entraîne avec RMSprop, par lots de 128 paires, pendant 20 époques :
#
# ```python
# model.compile(loss=contrastive_loss, optimizer=RMSprop())
# model.fit([tr_pairs[:, 0], tr_pairs[:, 1]], tr_y, batch_size=128, epochs=20)
# ```
#
# Pour ne pas copier les images, un `PyDataset`, la classe de Keras qui produit des lots à la
# demande, les forme à partir des numéros.


# %%
class PairSequence(keras.utils.PyDataset):
    """Lots ((images a, images b), étiquettes) ; l'ordre est tiré à chaque époque."""

    def __init__(self, images, pairs, same, seed):
        super().__init__()
        self.images, self.pairs, self.same = images, pairs, same
        self.rng = np.random.default_rng(seed)
        self.order = self.rng.permutation(len(pairs))

    def __len__(self):
        return -(-len(self.pairs) // BATCH_SIZE)

    def __getitem__(self, index):
        chosen = self.order[index * BATCH_SIZE : (index + 1) * BATCH_SIZE]
        a, b = self.pairs[chosen].T
        return (to_unit(self.images[a]), to_unit(self.images[b])), self.same[chosen]

    def on_epoch_end(self):
        self.rng.shuffle(self.order)


(batch_a, batch_b), batch_same = PairSequence(x_train, pairs, same, seed=0)[0]
print(f"images a {batch_a.shape}, images b {batch_b.shape}")
print(f"étiquettes {batch_same.shape}")

# %% [markdown]
# Pour évaluer, il suffit de calculer *une* fois le plongement de chaque image, puis les distances
# des paires voulues. L'***exactitude*** du document compte les paires bien jugées au
# ***seuil*** 0,5 : « même » au-dessous, « autre » au-dessus.


# %%
def embed(model, images):
    """Sorties (n, k) d'un réseau pour des images en octets, mille à la fois."""
    parts = np.array_split(images, -(-len(images) // 1000))
    outputs = [model(to_unit(part), training=False) for part in parts]
    return np.concatenate([ops.convert_to_numpy(output) for output in outputs])


def pair_distances(embeddings, pairs):
    """Distance euclidienne des plongements de chaque paire : (n,)."""
    return np.linalg.norm(embeddings[pairs[:, 0]] - embeddings[pairs[:, 1]], axis=1)


def pair_accuracy(base, images, pairs, same, threshold=0.5):
    return metrics.accuracy_at(
        pair_distances(embed(base, images), pairs), same, threshold
    )


# %% [markdown]
# L'entraînement lui-même tient en quatre lignes. Une fonction de rappel (*callback*) mesure
# l'exactitude après chaque époque.


# %%
def train_siamese(base, images, pairs, same, seed, epochs, callbacks=()):
    """Entraîne le réseau siamois construit sur `base`, comme le document."""
    model = siamese_network(images.shape[1:], base)
    model.compile(optimizer=keras.optimizers.RMSprop(), loss=contrastive_loss)
    data = PairSequence(images, pairs, same, seed)
    return model.fit(data, epochs=epochs, verbose=0, callbacks=list(callbacks))


class PairAccuracy(keras.callbacks.Callback):
    """Mesure l'exactitude sur des paires à la fin de chaque époque."""

    def __init__(self, base, images, pairs, same):
        super().__init__()
        self.base, self.images, self.pairs, self.same = base, images, pairs, same
        self.values = []

    def on_epoch_end(self, epoch, logs=None):
        self.values.append(pair_accuracy(self.base, self.images, self.pairs, self.same))


# %% [markdown]
# L'expérience est celle du document, avec ses propres paires, refaite avec plusieurs graines. Elle
# mesure l'exactitude sur les paires de test et sur autant de paires d'entraînement.


# %%
def document_run():
    runs = {"loss": [], "train_accuracy": [], "test_accuracy": []}
    test_pairs, test_same = document_pairs(y_test, seed=1)
    for seed in SEEDS:
        keras.utils.set_random_seed(seed)
        base = base_network(INPUT_SHAPE)
        pairs, same = document_pairs(y_train, seed)
        part = np.random.default_rng(0).permutation(len(pairs))[: len(test_pairs)]
        on_train = PairAccuracy(base, x_train, pairs[part], same[part])
        on_test = PairAccuracy(base, x_test, test_pairs, test_same)
        history = train_siamese(
            base, x_train, pairs, same, seed, EPOCHS, [on_train, on_test]
        )
        runs["loss"].append(history.history["loss"])
        runs["train_accuracy"].append(on_train.values)
        runs["test_accuracy"].append(on_test.values)
    final = [run[-1] for run in runs["test_accuracy"]]
    return runs | {"final": final, "epochs": EPOCHS, "batch_size": BATCH_SIZE}


document = experiment("document", document_run)

# %%
shown = document.values
fig = figures.curves(
    {"entraînement": shown["train_accuracy"], "test": shown["test_accuracy"]},
    xlabel="époque",
    ylabel="exactitude au seuil 0,5",
)
gap = np.mean(shown["train_accuracy"], axis=0)[-1] - np.mean(shown["final"])
figures.show(
    fig,
    alt="Exactitude par époque : la courbe d'entraînement continue de monter, celle de test "
    f"s'arrête à {number(np.mean(shown['final']), 3)} ; écart final {number(gap, 3)}.",
)

# %%
best_epoch = np.mean(shown["test_accuracy"], axis=0).argmax() + 1
runtime.show_table(
    ("mesure", "valeur"),
    [
        ("exactitude de test, dernière époque", spread(shown["final"])),
        ("meilleure époque sur le test", best_epoch),
        ("écart final entre entraînement et test", number(gap, 3)),
    ],
)

# %% [markdown]
# De la cinquième à la vingtième époque, la courbe de test ne bouge presque plus, alors que celle
# d'entraînement monte encore. Nous chercherons pourquoi.

# %% [markdown]
# ### Et avec l'étiquette à l'envers ?
#
# Même réseau, mêmes paires, mais les étiquettes suivent la convention de 2006 (1 = différentes)
# tandis que la perte garde celle du document. Une seconde mesure, l'***aire sous la courbe*** ROC
# (AUC ; la courbe vient plus bas), est la probabilité qu'une paire positive soit plus proche qu'une
# négative : 1 pour un réseau parfait, 0,5 au hasard, 0 pour un réseau qui range tout à l'envers.


# %%
def convention_run():
    test_pairs, test_same = make_pairs(y_test, seed=1)
    found = {}
    for name in ("right", "swapped"):
        keras.utils.set_random_seed(0)
        base = base_network(INPUT_SHAPE)
        pairs, same = make_pairs(y_train, seed=0)
        given = same if name == "right" else 1 - same
        history = train_siamese(base, x_train, pairs, given, 0, SHORT_EPOCHS)
        distances = pair_distances(embed(base, x_test), test_pairs)
        found[name] = {
            "loss": history.history["loss"][-1],
            "accuracy": metrics.accuracy_at(distances, test_same, 0.5),
            "auc": metrics.verification_curve(distances, test_same).auc,
        }
    return found


convention = experiment("convention", convention_run)
titles = {"right": "même convention", "swapped": "étiquettes à l'envers"}
rows = [
    (titles[name], *(number(row[key], 3) for key in ("loss", "accuracy", "auc")))
    for name, row in convention.values.items()
]
runtime.show_table(("étiquettes", "perte", "exactitude", "AUC"), rows)

# %% [markdown]
# Aucune erreur, aucun avertissement, et pourtant rien n'est appris : l'exactitude et l'AUC restent
# au niveau du hasard. On demande l'impossible. « Se ressembler » se transmet, par l'inégalité
# triangulaire $d(a, c) \le d(a, b) + d(b, c)$ ; « différer » ne se transmet pas. Rapprocher toutes
# les images de classes différentes rapproche donc *tout*, même les images d'une même classe, que
# cette perte demande de séparer.
#
# Le meilleur compromis est une distance constante, qui coûte
# $\tfrac12 d^2 + \tfrac12 (1 - d)^2$, au mieux $\tfrac14$ en $d = \tfrac12$ ; l'abandon, qui agite
# les plongements, la laisse un peu au-dessus. Une perte contrastive figée près de 0,25 doit faire
# soupçonner une convention inversée, ou un réseau qui ignore ses images.

# %% [markdown]
# ## Ce que l'exactitude cache
#
# L'exactitude du document est un seul nombre, à un seul seuil, pour une seule façon de former les
# paires. Pour choisir un autre seuil sans regarder le test, il faut un jeu de validation
# ([chapitre 2](02_layers_and_training.ipynb)). Le document n'en a pas ; nous prenons une image
# d'entraînement sur dix, classe par classe.


# %%
def train_validation_split(labels):
    """Numéros d'entraînement et de validation, 9/1, mêmes proportions de classes."""
    everything = np.arange(len(labels))
    return train_test_split(everything, test_size=0.1, stratify=labels, random_state=0)


fit_part, val_part = train_validation_split(y_train)
assert not set(fit_part) & set(val_part)
parts = {"apprendre": fit_part, "choisir": val_part, "mesurer": x_test}
for name, part in parts.items():
    print(f"images pour {name} : {number(len(part), 0)}")

# %% [markdown]
# Une autre mesure détaille l'exactitude : pour chaque couple de classes, la part des paires
# jugées « même ».


# %%
def same_rate_by_class(embeddings, labels, threshold, n_pairs=400, seed=0):
    """Part des paires (classe i, classe j) jugées « même » : matrice carrée, 0..1."""
    rng = np.random.default_rng(seed)
    by_class = class_indices(labels)
    rates = np.empty((len(by_class), len(by_class)))
    for i, first in enumerate(by_class):
        for j, second in enumerate(by_class):
            chosen = np.stack(
                [rng.choice(first, n_pairs), rng.choice(second, n_pairs)], axis=1
            )
            chosen = chosen[chosen[:, 0] != chosen[:, 1]]
            rates[i, j] = (pair_distances(embeddings, chosen) < threshold).mean()
    return rates


# %% [markdown]
# L'expérience : apprendre, choisir le seuil sur la validation, tout mesurer sur le test.


# %%
def measure_run():
    val_pairs, val_same = make_pairs(y_train[val_part], seed=1)
    test_pairs, test_same = make_pairs(y_test, seed=1)
    consecutive, consecutive_same = document_pairs(y_test, seed=1)
    measures = (
        "threshold",
        "at_half",
        "at_best",
        "consecutive",
        "auc",
        "eer",
        "same_rate",
    )
    runs = {name: [] for name in measures}
    for seed in SEEDS:
        keras.utils.set_random_seed(seed)
        base = base_network(INPUT_SHAPE)
        images, labels = x_train[fit_part], y_train[fit_part]
        train_siamese(base, images, *make_pairs(labels, seed), seed, EPOCHS)
        val_distances = pair_distances(embed(base, x_train[val_part]), val_pairs)
        threshold, _ = metrics.best_threshold(val_distances, val_same)
        embeddings = embed(base, x_test)
        distances = pair_distances(embeddings, test_pairs)
        curve = metrics.verification_curve(distances, test_same)
        runs["threshold"].append(threshold)
        runs["at_half"].append(metrics.accuracy_at(distances, test_same, 0.5))
        runs["at_best"].append(metrics.accuracy_at(distances, test_same, threshold))
        by_document = pair_distances(embeddings, consecutive)
        runs["consecutive"].append(
            metrics.accuracy_at(by_document, consecutive_same, 0.5)
        )
        runs["auc"].append(curve.auc)
        runs["eer"].append(curve.eer)
        runs["same_rate"].append(same_rate_by_class(embeddings, y_test, 0.5))
    levels = np.linspace(0, 1, 201)
    bins = np.linspace(0, 2.5, 51)
    return runs | {
        "names": class_names,
        "far": levels,
        "tar": np.interp(levels, curve.far, curve.tar),
        "bins": bins,
        "positive": np.histogram(distances[test_same == 1], bins)[0],
        "negative": np.histogram(distances[test_same == 0], bins)[0],
    }


# %%
measure = experiment("measure", measure_run)
shown = measure.values

# %% [markdown]
# ### Les distances

# %%
fig, axis = plt.subplots(figsize=(6, 3.6))
middles = (np.array(shown["bins"][1:]) + shown["bins"][:-1]) / 2
for key, name, hatch in (
    ("positive", "même classe", "//"),
    ("negative", "classes différentes", None),
):
    share = 100 * np.array(shown[key]) / np.sum(shown[key])
    axis.bar(
        middles,
        share,
        width=middles[1] - middles[0],
        alpha=0.6,
        label=name,
        hatch=hatch,
    )
axis.axvline(0.5, color="black", linestyle="--", label="seuil 0,5")
axis.set_xlabel("distance des deux plongements")
axis.set_ylabel("paires de test (%)")
axis.legend()
above = np.sum(np.array(shown["positive"])[middles > 0.5]) / np.sum(shown["positive"])
below = np.sum(np.array(shown["negative"])[middles < 0.5]) / np.sum(shown["negative"])
figures.show(
    fig,
    alt="Histogrammes des distances : les paires de même classe se pressent près de zéro, les "
    f"autres s'étalent jusqu'au-delà de la marge ; {percent(above)} des premières dépassent "
    "le seuil 0,5 et "
    f"{percent(below)} des secondes restent au-dessous.",
)
print(f"paires de même classe au-dessus du seuil : {percent(above, 1)}")
print(f"paires de classes différentes au-dessous : {percent(below, 1)}")

# %% [markdown]
# À ce seuil, les deux sortes d'erreur ont à peu près la même fréquence. La perte demandait aux
# paires positives une distance nulle ; leur histogramme garde une longue queue.

# %% [markdown]
# ### Tous les seuils à la fois
#
# La ***courbe ROC*** fait varier le seuil : à chaque valeur, la part des paires positives acceptées
# (à maximiser) contre celle des négatives acceptées à tort (à minimiser). Ce sont le TAR et le FAR
# du [chapitre 9](09_arcface.ipynb). Le ***taux d'égale erreur*** est la valeur commune des deux
# sortes d'erreur, au seuil qui les rend égales.

# %%
fig, axis = plt.subplots(figsize=(5, 4.2))
axis.plot(shown["far"], shown["tar"])
axis.plot([0, 1], [0, 1], ":", color="0.5")
axis.text(0.55, 0.47, "au hasard", color="0.3", rotation=40)
axis.set_xlabel("part des négatives acceptées (FAR)")
axis.set_ylabel("part des positives acceptées (TAR)")
figures.show(
    fig,
    alt="Courbe ROC du réseau siamois, très au-dessus de la diagonale du hasard : aire "
    f"{number(np.mean(shown['auc']), 3)}, taux d'égale erreur {number(np.mean(shown['eer']), 3)}.",
)
print(f"AUC {spread(shown['auc'])} ; taux d'égale erreur {spread(shown['eer'])}")

# %% [markdown]
# Le seuil 0,5 du document est le milieu de la marge, pas un choix fait sur des données. Celui de la
# validation fait-il mieux ?

# %%
runtime.show_table(
    ("seuil", "valeur", "exactitude de test"),
    [
        ("celui du document", "0,5", spread(shown["at_half"])),
        (
            "choisi sur la validation",
            spread(shown["threshold"]),
            spread(shown["at_best"]),
        ),
    ],
)
best = measure.decided("threshold")
verdict("siamese-threshold", best and float(np.mean(best)))

# %% [markdown]
# ### Quels vêtements sont confondus ?
#
# Ligne *i*, colonne *j* : la part des paires (classe *i*, classe *j*) jugées « même ». Idéalement,
# 100 sur la diagonale et 0 ailleurs.

# %%
same_rate = np.mean(shown["same_rate"], axis=0)
names = shown["names"]
fig = figures.heatmap(
    same_rate,
    names,
    xlabel="classe de la seconde image",
    ylabel="classe de la première",
)
weak = int(np.argmin(np.diag(same_rate)))
upper = np.triu(same_rate + same_rate.T, k=1) / 2
i, j = np.unravel_index(np.argmax(upper), upper.shape)
figures.show(
    fig,
    alt="Pourcentage de paires jugées « même » par couple de classes. Diagonale la plus faible : "
    f"{names[weak]}, {percent(same_rate[weak, weak])}. Confusion la plus forte : {names[i]} et "
    f"{names[j]}, {percent(upper[i, j])}.",
)
print(
    f"classe la moins bien reconnue : {names[weak]} ({percent(same_rate[weak, weak])})"
)
print(
    f"classes les plus confondues : {names[i]} et {names[j]} ({percent(upper[i, j])})"
)

# %% [markdown]
# ### La question posée fait l'exactitude
#
# Le même réseau, au même seuil, face à d'autres paires de test. Celles du document et les nôtres
# sont mesurées. La matrice permet aussi de *prévoir*, sans nouvelle mesure, ce que donnent des
# négatives tirées de toutes les classes, puis des trois classes que le réseau confond le plus avec
# chacune : des négatives **difficiles**.


# %%
def expected_accuracy(same_rate, n_nearest):
    """Exactitude prévue, moitié positives, moitié négatives des `n_nearest` classes voisines."""
    others = same_rate[~np.eye(len(same_rate), dtype=bool)].reshape(len(same_rate), -1)
    nearest = np.sort(others, axis=1)[:, -n_nearest:]
    return (np.diag(same_rate).mean() + 1 - nearest.mean()) / 2


easy = expected_accuracy(same_rate, len(same_rate) - 1)
runtime.show_table(
    ("paires de test", "exactitude au seuil 0,5"),
    [
        ("du document (mesure)", spread(shown["consecutive"])),
        ("au hasard (mesure)", spread(shown["at_half"])),
        ("au hasard (prévision)", number(easy, 3)),
        (
            "négatives difficiles (prévision)",
            number(expected_accuracy(same_rate, 3), 3),
        ),
    ],
)

# %% [markdown]
# Les paires du document et les nôtres donnent la même mesure, et la prévision tombe juste. Avec des
# négatives difficiles, l'exactitude baisse de près de sept points sans qu'un poids ait changé :
# seule la question a changé. Une exactitude sur des paires ne se lit jamais sans la façon de les
# former.

# %% [markdown]
# ## Pourquoi l'exactitude s'arrête-t-elle là ?
#
# La courbe de test s'aplatit très tôt. Trois suspects : l'abandon, les paires positives toujours
# pareilles, ou la capacité du réseau à distinguer les vêtements. Pour les deux premiers, il faut
# des paires renouvelées à chaque époque.


# %%
class FreshPairs(PairSequence):
    """Comme `PairSequence`, avec des partenaires tirés de nouveau à chaque époque."""

    def __init__(self, images, labels, seed):
        super().__init__(images, *make_pairs(labels, seed), seed)
        self.labels = labels

    def on_epoch_end(self):
        super().on_epoch_end()
        self.pairs, self.same = make_pairs(self.labels, int(self.rng.integers(2**31)))


# %% [markdown]
# Quatre variantes du même entraînement, avec les mêmes graines :


# %%
VARIANTS = {
    "document": "paires du document",
    "random": "paires au hasard",
    "fresh": "paires renouvelées à chaque époque",
    "no_dropout": "paires au hasard, sans abandon",
}


def variant_data(name, labels, seed):
    if name == "fresh":
        return FreshPairs(x_train, labels, seed)
    scheme = document_pairs if name == "document" else make_pairs
    return PairSequence(x_train, *scheme(labels, seed), seed)


# %%
def variants_run():
    test_pairs, test_same = make_pairs(y_test, seed=1)
    runs = {name: {"train": [], "test": []} for name in VARIANTS}
    for name in VARIANTS:
        for seed in SEEDS:
            keras.utils.set_random_seed(seed)
            base = base_network(
                INPUT_SHAPE, dropout=0.0 if name == "no_dropout" else 0.1
            )
            data = variant_data(name, y_train, seed)
            part = np.random.default_rng(0).permutation(len(data.pairs))[
                : len(test_pairs)
            ]
            pairs, same = data.pairs[part], data.same[part]
            model = siamese_network(INPUT_SHAPE, base)
            model.compile(optimizer=keras.optimizers.RMSprop(), loss=contrastive_loss)
            model.fit(data, epochs=SHORT_EPOCHS, verbose=0)
            runs[name]["train"].append(pair_accuracy(base, x_train, pairs, same))
            runs[name]["test"].append(
                pair_accuracy(base, x_test, test_pairs, test_same)
            )
    return runs


variants = experiment("variants", variants_run)

# %%
rows = [
    (
        title,
        spread(variants.values[name]["train"]),
        spread(variants.values[name]["test"]),
    )
    for name, title in VARIANTS.items()
]
runtime.show_table(("variante", "entraînement", "test"), rows)


# %% [markdown]
# Le choix des paires n'est pas en cause : consécutives, tirées une fois ou renouvelées à chaque
# époque, elles mènent à la même exactitude de test, à la dispersion près. L'abandon, lui, tient la
# promesse du document : l'écart entre entraînement et test est plus petit avec que sans.


# %%
def overfitting(runs):
    """Écart moyen entre l'exactitude d'entraînement et celle de test."""
    return np.mean(runs["train"]) - np.mean(runs["test"])


full = variants.full
helps = full and bool(overfitting(full["random"]) < overfitting(full["no_dropout"]))
verdict("siamese-dropout", helps)

# %% [markdown]
# Mais sans abandon, l'exactitude *de test* est un peu meilleure aussi : en cinq époques, ce réseau
# manque surtout d'apprentissage.

# %% [markdown]
# ### Le troisième suspect : ce que le réseau sait distinguer
#
# Entraînons le *même* réseau de base comme un classifieur ordinaire (dix sorties, entropie
# croisée), puis posons-lui la question des paires : « même » si les deux classes prédites sont
# égales. Reconnaître une paire positive demande alors d'avoir raison *deux fois*, ou de se tromper
# deux fois de la même façon. Si $C_{ck}$ est la part des images de classe $c$ rangées en $k$ (la
# matrice de confusion), la part des paires positives reconnues est donc
#
# $$P = \tfrac1{10} \sum_c \sum_k C_{ck}^2$$
#
# C'est bien moins que l'exactitude sur les images.


# %%
def classifier(base, n_classes):
    """Le réseau de base suivi d'une couche de classes (sorties linéaires)."""
    logits = layers.Dense(n_classes)(base.output)
    model = keras.Model(base.input, logits)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.RMSprop(), loss=loss)
    return model


# %% [markdown]
# L'expérience compare la prévision tirée de la matrice à la mesure, sur les mêmes paires.


# %%
def ceiling_run():
    test_pairs, test_same = make_pairs(y_test, seed=1)
    runs = {"accuracy": [], "pairs": [], "predicted_same": [], "measured_same": []}
    for seed in SEEDS:
        keras.utils.set_random_seed(seed)
        model = classifier(base_network(INPUT_SHAPE), len(class_names))
        model.fit(
            to_unit(x_train), y_train, batch_size=BATCH_SIZE, epochs=EPOCHS, verbose=0
        )
        predicted = embed(model, x_test).argmax(axis=1)
        rates = confusion_matrix(y_test, predicted, normalize="true")
        answer = predicted[test_pairs[:, 0]] == predicted[test_pairs[:, 1]]
        runs["accuracy"].append((predicted == y_test).mean())
        runs["pairs"].append((answer == test_same).mean())
        runs["predicted_same"].append((rates**2).sum(axis=1).mean())
        runs["measured_same"].append(answer[test_same == 1].mean())
    return runs


# %%
ceiling = experiment("ceiling", ceiling_run)
shown = ceiling.values
runtime.show_table(
    ("mesure", "valeur"),
    [
        ("classifieur, exactitude sur les images", spread(shown["accuracy"])),
        (
            "classifieur, paires positives reconnues : prévision",
            spread(shown["predicted_same"]),
        ),
        (
            "classifieur, paires positives reconnues : mesure",
            spread(shown["measured_same"]),
        ),
        ("classifieur, exactitude sur les paires", spread(shown["pairs"])),
        (
            "réseau siamois, exactitude sur les paires",
            spread(variants.values["random"]["test"]),
        ),
    ],
)

# %% [markdown]
# La prévision tombe juste. Et le réseau siamois dépasse le classifieur de deux points, à nombre
# égal d'images vues : une époque de paires en montre quatre par image d'entraînement.
#
# Où se trompe-t-il encore ? Revoyez la matrice des paires : un pull et un manteau y sont jugés
# « même » presque aussi souvent que deux pulls. Le réseau les a *fusionnés*. Une hypothèse : parmi
# les négatives d'un pull, une sur neuf seulement est un manteau ; les confondre coûte peu.
# L'exercice 5 la met à l'épreuve. Combien de l'erreur vient de là ? Prenons les quatre classes les
# plus confondues avec d'autres.

# %%
false_same = same_rate * (1 - np.eye(len(names)))
confused = false_same.sum(axis=1).argsort()[-4:]
among = false_same[np.ix_(confused, confused)].sum() / false_same.sum()
print(f"classes : {', '.join(names[k] for k in sorted(confused))}")
print(f"part des « même » donnés à tort qui les oppose entre elles : {percent(among)}")

# %% [markdown]
# Et que deviendrait l'exactitude, sans réentraîner, si l'on ne demandait plus ces classes ?


# %%
def accuracy_without(excluded):
    """Exactitude prévue, sans réentraîner, quand certaines classes ne sont plus demandées."""
    kept = np.setdiff1d(np.arange(len(names)), excluded)
    return expected_accuracy(same_rate[np.ix_(kept, kept)], len(kept) - 1)


runtime.show_table(
    ("classes demandées", "exactitude prévue"),
    [
        ("toutes", number(accuracy_without([]), 3)),
        (f"sans {names[weak]}", number(accuracy_without([weak]), 3)),
        ("sans ces quatre-là", number(accuracy_without(confused), 3)),
    ],
)

# %% [markdown]
# Sans ces quatre vêtements à manches, l'erreur prévue tombe de près de moitié. Est-ce la base qui
# ne les distingue pas, ou la perte qui ne le lui demande pas ? « Une autre base, une autre perte »
# essaie les deux.

# %% [markdown]
# ## L'espace appris
#
# Un réseau siamois vaut par ses plongements. Entraînons-en un, et regardons-les de trois façons :
# une carte, les ***plus proches voisins*** d'une image, une classe jamais vue.


# %%
def space_run():
    keras.utils.set_random_seed(0)
    base = base_network(INPUT_SHAPE)
    train_siamese(base, x_train, *make_pairs(y_train, 0), 0, SHORT_EPOCHS)
    embeddings = embed(base, x_test)
    shown = np.random.default_rng(0).choice(
        len(x_test), size=min(800, len(x_test)), replace=False
    )
    points = TSNE(perplexity=30, init="pca", random_state=0).fit_transform(
        embeddings[shown]
    )
    queries = [np.flatnonzero(y_test == k)[1] for k in range(0, len(class_names), 2)]
    neighbours = [
        np.linalg.norm(embeddings - embeddings[q], axis=1).argsort()[1:6]
        for q in queries
    ]
    return {
        "points": points,
        "labels": y_test[shown],
        "queries": queries,
        "neighbours": neighbours,
    }


space = experiment("space", space_run)

# %% [markdown]
# ### La carte
#
# La méthode t-SNE projette les 128 dimensions dans le plan en gardant proches les points voisins.
# Les distances entre groupes éloignés n'y ont pas de sens.

# %%
fig = figures.scatter(
    space.here["points"],
    space.here["labels"],
    class_names,
    xlabel="première dimension",
    ylabel="seconde dimension",
)
fig.axes[0].margins(x=0.12)  # de la place pour les noms
figures.show(
    fig,
    alt=f"Projection t-SNE de {len(space.here['points'])} plongements de test : les classes "
    "forment des groupes, les uns isolés, les autres mêlés à leurs voisins.",
)

# %% [markdown]
# Les classes bien jugées forment des îlots ; celles que la matrice confond s'étirent l'une vers
# l'autre. La carte vient d'un réseau moins entraîné que celui de la matrice : comparez l'allure,
# pas les détails.

# %% [markdown]
# ### Les voisins d'une image
#
# Chaque ligne : une image de test, puis ses cinq plus proches voisines parmi toutes les autres.

# %%
rows = np.column_stack([space.here["queries"], space.here["neighbours"]])
right = (y_test[rows[:, 1:]] == y_test[rows[:, :1]]).mean()
titles = ["image", *(f"n° {rank}" for rank in range(1, 6))] + [""] * (rows.size - 6)
fig = figures.grid(x_test[rows.ravel()], titles=titles, columns=6)
figures.show(
    fig,
    alt="Cinq images de test, chacune suivie de ses cinq plus proches voisines ; "
    f"{percent(right)} des voisines sont de la même classe.",
)

# %% [markdown]
# Un voisin d'une autre classe a presque toujours la même silhouette : pour le réseau, la forme
# compte plus que le nom. Cinq images ne font pas une mesure ; la matrice en est une.

# %% [markdown]
# ### Une classe jamais vue
#
# On entraîne sans trois des dix classes ; puis, pour ces trois-là, on donne *une seule* image de
# chacune et l'on range les autres avec la plus proche. C'est l'***apprentissage en un exemple***
# (*one-shot*). Au hasard : une chance sur trois. Deux concurrents : la distance entre pixels, et la
# dernière couche cachée d'un classifieur ordinaire entraîné sur les mêmes sept classes. Il n'a pas
# de sortie pour une classe nouvelle, mais ses caractéristiques se comparent.


# %%
def one_shot_accuracy(features, labels, classes, episodes=400, seed=0):
    """Part des épisodes où l'image requête est plus proche de l'exemple de sa classe."""
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(labels == c) for c in classes]
    right = 0
    for _ in range(episodes):
        truth = rng.integers(len(classes))
        support = [rng.choice(of_class) for of_class in members]
        query = rng.choice(members[truth][members[truth] != support[truth]])
        distances = np.linalg.norm(features[support] - features[query], axis=1)
        right += int(distances.argmin() == truth)
    return right / episodes


# %% [markdown]
# L'expérience refait l'épreuve pour plusieurs tirages de classes cachées.


# %%
def one_shot_run():
    runs = {"pixels": [], "classifier": [], "siamese": [], "hidden": []}
    for seed in range(DRAWS):
        keras.utils.set_random_seed(seed)
        hidden = np.random.default_rng(seed).choice(
            len(class_names), size=3, replace=False
        )
        seen = ~np.isin(y_train, hidden)
        known, codes = np.unique(y_train[seen], return_inverse=True)
        plain = base_network(INPUT_SHAPE)
        model = classifier(plain, len(known))
        model.fit(
            to_unit(x_train[seen]),
            codes,
            batch_size=BATCH_SIZE,
            epochs=SHORT_EPOCHS,
            verbose=0,
        )
        base = base_network(INPUT_SHAPE)
        train_siamese(base, x_train[seen], *make_pairs(codes, seed), seed, SHORT_EPOCHS)
        features = {
            "pixels": to_unit(x_test).reshape(len(x_test), -1),
            "classifier": embed(plain, x_test),
            "siamese": embed(base, x_test),
        }
        for name, values in features.items():
            runs[name].append(one_shot_accuracy(values, y_test, hidden))
        runs["hidden"].append([class_names[k] for k in hidden])
    return runs


# %%
one_shot = experiment("one_shot", one_shot_run)
shown = one_shot.values
methods = ("pixels", "classifier", "siamese")
rows = [
    (", ".join(hidden), *(number(shown[name][draw]) for name in methods))
    for draw, hidden in enumerate(shown["hidden"])
]
rows.append(("**tous les tirages**", *(spread(shown[name], 2) for name in methods)))
runtime.show_table(("classes cachées", "pixels", "classifieur", "réseau siamois"), rows)

# %% [markdown]
# Résultat décevant : sur des vêtements cachés, le réseau siamois ne fait pas mieux, en moyenne, que
# la distance entre pixels. L'écart entre deux tirages de classes est bien plus grand que l'écart
# entre deux méthodes : un seul tirage aurait permis d'annoncer le résultat que l'on voulait. Sept
# classes n'ont pas suffi à lui apprendre à comparer autre chose qu'elles. Les réseaux qui
# réussissent cette épreuve en ont vu bien davantage : FaceNet, des millions de personnes.

# %% [markdown]
# ## Une autre base, une autre perte
#
# Deux changements, séparément puis ensemble : une base à convolutions d'à peu près autant de poids,
# et une ***perte par triplets***.


# %%
def convolutional_base(input_shape):
    """Deux convolutions et une couche dense, pour environ autant de poids que la base dense."""
    inputs = keras.Input(shape=input_shape, name="image")
    x = layers.Reshape((*input_shape, 1))(inputs)  # (28, 28, 1)
    x = layers.Conv2D(16, 3, padding="same", activation="relu")(x)
    x = layers.MaxPooling2D()(x)  # (14, 14, 16)
    x = layers.Conv2D(32, 3, padding="same", activation="relu")(x)
    x = layers.MaxPooling2D()(x)  # (7, 7, 32)
    x = layers.Flatten()(x)
    x = layers.Dropout(0.1)(x)
    x = layers.Dense(80, activation="relu", name="embedding")(x)
    return keras.Model(inputs, x, name="base")


dense, convolutional = base_network(INPUT_SHAPE), convolutional_base(INPUT_SHAPE)
for name, model in (("dense", dense), ("à convolutions", convolutional)):
    print(f"base {name} : {number(model.count_params(), 0)} poids")

# %% [markdown]
# La perte contrastive juge chaque paire seule : elle veut *toutes* les positives à zéro. Un
# ***triplet*** (ancre $a$, positive $p$, négative $n$) ne demande qu'un ordre, avec une marge :
#
# $$\ell = \max\bigl(0,\; d(a, p)^2 - d(a, n)^2 + m\bigr)$$
#
# La plupart des triplets au hasard sont déjà satisfaits et n'apprennent rien. L'article de FaceNet
# (Schroff et al., 2015) retient les négatives ***semi-difficiles*** : plus loin que la positive,
# mais de moins que la marge. Nous prenons, comme les bibliothèques usuelles, la plus proche de
# celles qui sont plus loin que la positive ; à défaut, la négative la plus lointaine.
#
# Les plongements sont normés : $d(a, b)^2 = 2 - 2\, a \cdot b$, et un seul produit de matrices
# donne toutes les distances du lot. Les tableaux ont ensuite trois axes : ancre, positive,
# négative.


# %%
@keras.saving.register_keras_serializable("vision_profonde")
def semi_hard_triplet_loss(y_true, embeddings, margin=0.2):
    """Perte par triplets semi-difficiles ; y_true : classes (n,), plongements (n, k) normés."""
    y = ops.reshape(y_true, (-1,))
    same = ops.equal(y[:, None], y[None, :])
    squared = ops.maximum(2 - 2 * ops.matmul(embeddings, ops.transpose(embeddings)), 0)
    d_ap, d_an = squared[:, :, None], squared[:, None, :]  # ancre, positive, négative
    negative = ops.logical_not(same)[:, None, :]
    farther = ops.where(ops.logical_and(negative, d_an > d_ap), d_an, np.inf)
    semi_hard = ops.min(farther, axis=2)
    farthest = ops.max(ops.where(negative, d_an, 0.0), axis=2)
    chosen = ops.where(semi_hard < np.inf, semi_hard, farthest)
    positive = ops.cast(same, embeddings.dtype)
    positive = positive - ops.eye(
        ops.shape(y)[0], dtype=embeddings.dtype
    )  # sauf soi-même
    losses = ops.maximum(squared - chosen + margin, 0) * positive
    return ops.sum(losses) / ops.maximum(ops.sum(positive), 1)


# %% [markdown]
# Un code aussi compact se vérifie contre la définition, écrite naïvement avec des boucles.


# %%
def triplet_by_loops(y, embeddings, margin=0.2):
    squared = ((embeddings[:, None] - embeddings[None]) ** 2).sum(axis=2)
    losses = []
    for a in range(len(y)):
        for p in range(len(y)):
            if p != a and y[p] == y[a]:
                negatives = squared[a, y != y[a]]
                farther = negatives[negatives > squared[a, p]]
                chosen = farther.min() if len(farther) else negatives.max()
                losses.append(max(squared[a, p] - chosen + margin, 0))
    return np.mean(losses)


vectors = rng.normal(size=(24, 8)).astype("float32")
vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
codes = rng.integers(0, 4, size=24)
by_ops = float(semi_hard_triplet_loss(codes, ops.convert_to_tensor(vectors)))
by_loops = triplet_by_loops(codes, vectors)
print(f"opérations sur tableaux : {number(by_ops, 6)}")
print(f"boucles : {number(by_loops, 6)}")
assert np.isclose(by_ops, by_loops, atol=1e-5)

# %% [markdown]
# Quatre concurrents : chacune des deux bases, avec chacune des deux pertes. Pour voir autant
# d'images, les triplets font quatre époques quand les paires en font une. Ils font aussi deux fois
# plus de mises à jour, et leurs plongements sont normés : leur avantage n'est pas celui de la seule
# perte. Chacun choisit son seuil sur la validation.

# %%
CONTENDERS = {
    "dense": "dense, contrastive",
    "convolution": "convolutions, contrastive",
    "dense_triplet": "dense, triplets",
    "triplet": "convolutions, triplets",
}


def train_triplet(base, images, labels, epochs):
    """Entraîne `base`, suivie d'une normalisation, sur des triplets semi-difficiles."""
    unit = layers.UnitNormalization()(base.output)
    model = keras.Model(base.input, unit)
    model.compile(optimizer=keras.optimizers.RMSprop(), loss=semi_hard_triplet_loss)
    model.fit(
        to_unit(images), labels, batch_size=BATCH_SIZE, epochs=4 * epochs, verbose=0
    )
    return model


def contender_base(name, seed):
    """Base entraînée d'un concurrent."""
    images, labels = x_train[fit_part], y_train[fit_part]
    base = (
        base_network(INPUT_SHAPE)
        if name.startswith("dense")
        else convolutional_base(INPUT_SHAPE)
    )
    if name.endswith("triplet"):
        return train_triplet(base, images, labels, SHORT_EPOCHS)
    train_siamese(base, images, *make_pairs(labels, seed), seed, SHORT_EPOCHS)
    return base


# %% [markdown]
# L'expérience donne à tous les mêmes paires de validation et de test.


# %%
def contenders_run():
    val_pairs, val_same = make_pairs(y_train[val_part], seed=1)
    test_pairs, test_same = make_pairs(y_test, seed=1)
    runs = {name: {"accuracy": [], "auc": []} for name in CONTENDERS}
    for name in CONTENDERS:
        for seed in SEEDS:
            keras.utils.set_random_seed(seed)
            base = contender_base(name, seed)
            val_distances = pair_distances(embed(base, x_train[val_part]), val_pairs)
            threshold, _ = metrics.best_threshold(val_distances, val_same)
            distances = pair_distances(embed(base, x_test), test_pairs)
            runs[name]["accuracy"].append(
                metrics.accuracy_at(distances, test_same, threshold)
            )
            runs[name]["auc"].append(
                metrics.verification_curve(distances, test_same).auc
            )
    return runs


contenders = experiment("contenders", contenders_run)

# %%
shown = contenders.values
fig, axis = plt.subplots(figsize=(6, 3.2))
for row, name in enumerate(CONTENDERS):
    values = shown[name]["accuracy"]
    axis.plot(values, [row] * len(values), "o", markersize=9, alpha=0.7)
    axis.text(np.mean(values), row + 0.22, number(np.mean(values), 3), ha="center")
axis.set_yticks(range(len(CONTENDERS)), CONTENDERS.values())
axis.set_ylim(-0.5, len(CONTENDERS) - 0.3)
axis.margins(x=0.12)
axis.set_xlabel("exactitude sur les paires de test")
best = max(CONTENDERS, key=lambda name: np.mean(shown[name]["accuracy"]))
figures.show(
    fig,
    alt="Exactitude de chaque concurrent, un point par graine. Le meilleur : "
    f"{CONTENDERS[best]}, {number(np.mean(shown[best]['accuracy']), 3)}.",
)
rows = [
    (title, spread(shown[name]["accuracy"]), spread(shown[name]["auc"]))
    for name, title in CONTENDERS.items()
]
runtime.show_table(("base, perte", "exactitude", "AUC"), rows)

# %% [markdown]
# La base compte plus que la perte. Sur la base dense, passer aux convolutions fait gagner à peu
# près deux fois plus que passer aux triplets ; avec les convolutions, les triplets n'ajoutent rien
# de net. Le plafond venait donc surtout de ce que le réseau savait voir.
#
# Pour l'AUC, la perte contrastive l'emporte avec les deux bases. Une explication possible : un
# triplet ne compare que des distances à une même ancre. Rien n'oblige « près » à valoir la même
# chose autour de deux ancres, alors que la courbe ROC compare toutes les paires entre elles.

# %% [markdown]
# ## Le document, mot à mot
#
# Reste à exécuter les treize blocs du document tels qu'ils sont écrits, dans l'ordre, sur les 2000
# premières images. Ils demandent TensorFlow. Les deux cellules suivantes ne contiennent que la
# citation ; dépliez-les pour la lire.

# %% tags=["hide-input"] cellView="form"
# @title Citation : document 003, blocs 1 à 5
QUOTED_MODEL = [
    """import tensorflow as tf
from tensorflow.keras.models import Model
from tensorflow.keras.layers import Input, Flatten, Dense, Dropout, Lambda
from tensorflow.keras.optimizers import RMSprop
from tensorflow.keras.datasets import fashion_mnist
from tensorflow.python.keras.utils.vis_utils import plot_model
from tensorflow.keras import backend as K

import numpy as np
import matplotlib.pyplot as plt
from PIL import Image, ImageFont, ImageDraw
import random""",
    """def contrastive_loss(y_true, y_pred):
    margin = 1
    return K.mean(y_true * K.square(y_pred) + (1 - y_true) * K.square(K.maximum(0., margin - y_pred)))""",  # noqa: E501
    """def create_base_network(input_shape):
    input = Input(shape=input_shape)
    x = Flatten()(input)
    x = Dense(128, activation='relu')(x)
    x = Dropout(0.1)(x)
    x = Dense(128, activation='relu')(x)
    x = Dropout(0.1)(x)
    x = Dense(128, activation='relu')(x)
    return Model(input, x)""",
    """def create_siamese_network(input_shape):
    base_network = create_base_network(input_shape)

    input_a = Input(shape=input_shape)
    input_b = Input(shape=input_shape)

    processed_a = base_network(input_a)
    processed_b = base_network(input_b)

    distance = Lambda(euclidean_distance, output_shape=eucl_dist_output_shape)([processed_a, processed_b])

    model = Model([input_a, input_b], distance)

    return model""",  # noqa: E501
    """def euclidean_distance(vects):
    x, y = vects
    return K.sqrt(K.sum(K.square(x - y), axis=1, keepdims=True))

def eucl_dist_output_shape(shapes):
    shape1, shape2 = shapes
    return (shape1[0], 1)""",
]

# %% tags=["hide-input"] cellView="form"
# @title Citation : document 003, blocs 6 à 13
QUOTED_RUN = [
    """(x_train, y_train), (x_test, y_test) = fashion_mnist.load_data()
x_train = x_train.astype('float32') / 255
x_test = x_test.astype('float32') / 255""",
    """def create_pairs(x, digit_indices):
    pairs = []
    labels = []
    n = min([len(digit_indices[d]) for d in range(10)]) - 1
    for d in range(10):
        for i in range(n):
            z1, z2 = digit_indices[d][i], digit_indices[d][i + 1]
            pairs += [[x[z1], x[z2]]]
            inc = random.randrange(1, 10)
            dn = (d + inc) % 10
            z1, z2 = digit_indices[d][i], digit_indices[dn][i]
            pairs += [[x[z1], x[z2]]]
            labels += [1, 0]
    return np.array(pairs), np.array(labels)""",
    """def create_indices(y):
    digit_indices = [np.where(y == i)[0] for i in range(10)]
    return digit_indices""",
    """digit_indices = create_indices(y_train)
tr_pairs, tr_y = create_pairs(x_train, digit_indices)

digit_indices = create_indices(y_test)
te_pairs, te_y = create_pairs(x_test, digit_indices)""",
    """input_shape = x_train.shape[1:]
model = create_siamese_network(input_shape)
model.compile(loss=contrastive_loss, optimizer=RMSprop())
model.fit([tr_pairs[:, 0], tr_pairs[:, 1]], tr_y, batch_size=128, epochs=20)""",
    """pred = model.predict([te_pairs[:, 0], te_pairs[:, 1]])""",
    """def compute_accuracy(predictions, labels):
    return np.mean(np.equal(predictions.ravel() < 0.5, labels))

accuracy = compute_accuracy(pred, te_y)
print('* Accuracy on test set: %0.2f%%' % (100 * accuracy))""",
    """def plot_pairs(pairs, labels, title):
    plt.figure(figsize=(10, 4))
    for i in range(10):
        plt.subplot(2, 5, i + 1)
        plt.imshow(pairs[i][0].reshape(28, 28))
        plt.title('Pair %d' % (i + 1))
        plt.subplot(2, 5, i + 1 + 5)
        plt.imshow(pairs[i][1].reshape(28, 28))
        plt.title('Label: %d' % labels[i])
    plt.suptitle(title)
    plt.show()

plot_pairs(tr_pairs[:10], tr_y[:10], 'Training Pairs')
plot_pairs(te_pairs[:10], te_y[:10], 'Test Pairs')""",
]

# %% [markdown]
# Le chargement est remplacé par nos images, et ce que les blocs affichent est mis de côté. Lesquels
# s'exécutent ?


# %%
def run_block(source, namespace):
    """Exécute un bloc cité ; rend l'erreur (ou None) et le nombre de figures ouvertes."""
    plt.close("all")
    try:
        with redirect_stdout(StringIO()):
            exec(source, namespace)
        return None, len(plt.get_fignums())
    except Exception as error:  # noqa: BLE001 (toute erreur est un résultat)
        return error, len(plt.get_fignums())
    finally:
        plt.close("all")


def run_document(blocks):
    """Exécute les blocs dans l'ordre, sur peu d'images ; rend l'espace de noms et les issues."""
    # Les paires se forment d'après les étiquettes : peu d'étiquettes, peu de paires.
    few = (
        (
            garments.x_train[:2000],
            garments.y_train[: runtime.pick(quick=500, full=2000)],
        ),
        (x_test[:2000], y_test[:2000]),
    )
    namespace, outcomes = {"__name__": "document_003"}, []
    with (
        mock.patch("keras.datasets.fashion_mnist.load_data", return_value=few),
        mock.patch(
            "tensorflow.keras.datasets.fashion_mnist.load_data", return_value=few
        ),
    ):
        for block in blocks:
            outcomes.append(run_block(block, namespace))
    return namespace, outcomes


# %%
if runtime.backend() == "tensorflow":
    said, outcomes = run_document(QUOTED_MODEL + QUOTED_RUN)
    rows = [
        (block, f"`{type(error).__name__}` : {error}", drawn)
        for block, (error, drawn) in enumerate(outcomes, start=1)
        if error
    ]
    print(f"{len(outcomes) - len(rows)} blocs sur {len(outcomes)} s'exécutent")
    runtime.show_table(("bloc arrêté", "erreur", "figures"), rows)
else:
    runtime.show_markdown(
        "*Cette exécution n'emploie pas TensorFlow : les blocs sont omis.*"
    )

# %% [markdown]
# Seul s'arrête le dernier, dont nous avons vu la grille trop petite. L'entraînement annoncé a-t-il
# eu lieu ?

# %%
verdict(
    "siamese-epochs", lambda: len(said["model"].history.epoch), backend="tensorflow"
)

# %% [markdown]
# Le bloc 12, annoncé comme « Visualisation des résultats », dessine-t-il quelque chose ?

# %%
verdict("siamese-results-shown", lambda: outcomes[11][1] > 0, backend="tensorflow")

# %% [markdown]
# Les importations réussissent ; toutes servent-elles ? Cherchons, dans les autres blocs, les noms
# que le premier importe.


# %%
def names_used(blocks, module):
    """Noms que le bloc d'importation tire de `module` et qu'un autre bloc emploie."""
    imported = [
        alias.asname or alias.name
        for node in ast.walk(ast.parse(blocks[0]))
        if isinstance(node, ast.ImportFrom | ast.Import)
        for alias in node.names
        if module in (getattr(node, "module", None), alias.name)
    ]
    rest = ast.walk(ast.parse("\n".join(blocks[1:])))
    used = {node.id for node in rest if isinstance(node, ast.Name)}
    return sorted(set(imported) & used)


blocks = QUOTED_MODEL + QUOTED_RUN
verdict("siamese-import-pil", len(names_used(blocks, "PIL")) > 0)
verdict("siamese-import-random", len(names_used(blocks, "random")) > 0)

# %% [markdown]
# `plot_model` vient d'un module interne (`tensorflow.python.keras`), vestige de Keras 2. L'import
# réussit encore, mais un modèle de Keras 3 ne peut pas lui être donné :


# %%
def old_plot_model_works():
    return failure(said["plot_model"], said["model"], "model.png") is None


verdict("siamese-import-plot-model", old_plot_model_works, backend="tensorflow")

# %% [markdown]
# Le remède est `keras.utils.plot_model`, qui demande en plus `pydot` et Graphviz.

# %% [markdown]
# ## À retenir
#
# - Un réseau siamois est *un* réseau appliqué deux fois : un seul jeu de poids, une distance
#   symétrique. Il apprend à comparer ; sept classes n'ont pas suffi pour en comparer de nouvelles.
# - La perte contrastive tire les paires positives vers zéro et pousse les négatives au-delà de la
#   marge, jamais plus loin.
# - Trois pièges silencieux : la racine en zéro (NaN), la forme `(n,)` contre `(n, 1)` (mauvaise
#   moyenne), la convention des étiquettes (rien n'est appris).
# - Une exactitude sur des paires dépend de la façon de les former et du seuil : donnez les deux, et
#   la courbe ROC.
# - Quand l'exactitude plafonne, cherchez *quelles* paires échouent avant de changer la perte.

# %% [markdown]
# ## Exercices
#
# ### 1. Prédire, puis exécuter
#
# Combien de poids aurait le réseau siamois si ses deux branches *ne* les partageaient *pas* ? Et de
# combien la perte d'une paire négative à la distance 0,3 change-t-elle si la marge passe de 1 à 2 ?
# Remplacez les `None`.

# %%
my_weights = None
my_change = None

unshared = siamese_network(INPUT_SHAPE).count_params() + base.count_params()
predict("poids sans partage", my_weights, unshared)
predict("variation de la perte", my_change, (2 - 0.3) ** 2 - (1 - 0.3) ** 2)

# %% [markdown]
# <details>
# <summary>Solution</summary>
#
# Deux bases distinctes : deux fois 133 504 poids, soit 267 008 ; la distance n'en a aucun. La
# perte passe de $(1 - 0{,}3)^2 = 0{,}49$ à $(2 - 0{,}3)^2 = 2{,}89$ : elle augmente de 2,40. Une
# marge plus grande tire plus fort *et* plus loin.
#
# </details>

# %% [markdown]
# ### 2. Écrire le gradient
#
# L'entraînement ne déplace pas des distances mais des plongements. Écrivez le gradient de la perte
# d'une paire par rapport au plongement `a` : deux vecteurs NumPy différents `a` et `b`, l'étiquette
# `y`, une marge quelconque.


# %%
def my_gradient(a, b, y, margin):
    raise NotImplementedError


# %% tags=["hide-input"] cellView="form"
# @title Vérificateur de l'exercice 2
def gradient_solution(a, b, y, margin):
    d = np.linalg.norm(a - b)
    return (2 * y - 2 * (1 - y) * max(0, margin - d) / d) * (a - b)


def gradient_without_hinge(a, b, y, margin):
    d = np.linalg.norm(a - b)
    return (2 * y - 2 * (1 - y) * (margin - d) / d) * (a - b)


def gradient_without_unit_direction(a, b, y, margin):
    return np.linalg.norm(a - b) * gradient_solution(a, b, y, margin)


CLOSE = np.array([0.3, 0.1]), np.array([0.0, 0.5])
FAR = np.array([1.0, 2.0]), np.zeros(2)
EXERCISE_GRADIENT = Exercise(
    title="Exercice 2",
    reference=gradient_solution,
    cases=[(*CLOSE, 1, 1.0), (*CLOSE, 0, 1.0), (*FAR, 0, 1.0), (*FAR, 0, 3.0)],
    mistakes={
        "Au-delà de la marge, une paire négative ne pousse plus.": gradient_without_hinge,
        "Le signe : c'est le gradient de la perte, pas le sens du déplacement.": (
            lambda *pair: -gradient_solution(*pair)
        ),
        "La dérivée de $d$ est le vecteur *unitaire* $(a - b)/d$.": (
            gradient_without_unit_direction
        ),
    },
)
EXERCISE_GRADIENT.check(my_gradient)

# %% tags=["hide-cell"] cellView="form"
# @title Solution de l'exercice 2
# La dérivée par rapport à d, fois celle de d par rapport à a : le vecteur unitaire (a - b) / d.
EXERCISE_GRADIENT.check(gradient_solution)

# %% [markdown]
# ### 3. Écrire la perte par triplets
#
# Écrivez, en NumPy, la perte moyenne par triplets pour trois tableaux `(n, k)` de plongements :
# ancres, positives, négatives. Les distances sont élevées au carré.


# %%
def my_triplet_loss(anchors, positives, negatives, margin):
    raise NotImplementedError


# %% tags=["hide-input"] cellView="form"
# @title Vérificateur de l'exercice 3
def squared_distance(a, b):
    return ((a - b) ** 2).sum(axis=1)


def triplet_solution(anchors, positives, negatives, margin):
    gaps = squared_distance(anchors, positives) - squared_distance(anchors, negatives)
    return np.maximum(0, gaps + margin).mean()


def triplet_without_hinge(anchors, positives, negatives, margin):
    gaps = squared_distance(anchors, positives) - squared_distance(anchors, negatives)
    return (gaps + margin).mean()


def triplet_not_squared(anchors, positives, negatives, margin):
    near, far = (squared_distance(anchors, x) ** 0.5 for x in (positives, negatives))
    return np.maximum(0, near - far + margin).mean()


def triplet_cases():
    """Triplets dont certains respectent déjà la marge."""
    anchors, near, far = np.random.default_rng(0).normal(size=(3, 12, 4))
    near = anchors + 0.3 * near
    far = anchors + np.linspace(0.1, 2, 12)[:, None] * far
    return [(anchors, near, far, 0.2), (anchors, near, far, 1.0)]


EXERCISE_TRIPLET = Exercise(
    title="Exercice 3",
    reference=triplet_solution,
    cases=triplet_cases,
    mistakes={
        "Les rôles sont inversés : la positive doit être la plus proche.": (
            lambda a, p, n, margin: triplet_solution(a, n, p, margin)
        ),
        "Un triplet satisfait doit coûter zéro, pas un nombre négatif.": triplet_without_hinge,
        "Les distances doivent être élevées au carré.": triplet_not_squared,
    },
)
EXERCISE_TRIPLET.check(my_triplet_loss)

# %% tags=["hide-cell"] cellView="form"
# @title Solution de l'exercice 3
# L'écart des carrés des distances, plus la marge, jamais négatif ; puis la moyenne.
EXERCISE_TRIPLET.check(triplet_solution)

# %% [markdown]
# ### 4. Expliquer
#
# Un collègue annonce 97 % d'exactitude avec un réseau siamois, sur des paires dont une sur dix
# est positive. Le vôtre fait 91 % sur des paires moitié-moitié. Lequel est le meilleur ? Que lui
# demandez-vous ?
#
# <details>
# <summary>Solution</summary>
#
# On ne peut pas le dire. Répondre toujours « différentes » donnerait déjà 90 % sur ses paires, et
# 50 % sur les vôtres. Il faut comparer sur les mêmes paires, ou donner des mesures qui ne dépendent
# pas de leur proportion : taux de positives acceptées et de négatives acceptées à tort, courbe ROC
# et son aire. Et demander comment les négatives sont tirées : au hasard, elles sont faciles.
#
# </details>
#
# ### 5. Pour aller plus loin
#
# Modifiez `make_pairs` pour que les négatives d'une image viennent des trois classes qui lui
# ressemblent le plus, réentraînez, et redessinez la matrice. Que devient la fusion ? Que deviennent
# l'exactitude sur des négatives au hasard et sur des négatives difficiles ? Prédisez avant
# d'exécuter.
#
# <details>
# <summary>Piste</summary>
#
# Les colonnes de `same_rate`, hors de la diagonale, donnent les trois classes voisines de chacune ;
# tirez-y `partners[1, members]`. La fusion recule nettement : pull et manteau ne sont plus jugés
# « même » presque à chaque fois. L'exactitude monte sur les négatives difficiles, et baisse sur des
# négatives au hasard : la chemise, entourée de voisines, se reconnaît moins bien elle-même.
# L'hypothèse tient. On y gagne ce que l'on demande, et rien de plus.
#
# </details>

# %% [markdown]
# ### 6. Choisir la négative
#
# La perte semi-difficile ne garde que la *distance* de la négative choisie ; pour afficher
# l'image, il faut son numéro. Vous recevez le carré `d_ap` de la distance entre une ancre et une
# positive, et le tableau NumPy `d_an` des carrés des distances de l'ancre aux négatives. Rendez
# l'indice, dans `d_an`, de la négative que retient la règle de la section « Une autre base, une
# autre perte ».


# %%
def my_negative(d_ap, d_an):
    raise NotImplementedError


# %% tags=["hide-input"] cellView="form"
# @title Vérificateur de l'exercice 6
def negative_solution(d_ap, d_an):
    if (d_an > d_ap).any():
        return np.argmin(np.where(d_an > d_ap, d_an, np.inf))
    return np.argmax(d_an)


def negative_filtered(d_ap, d_an):
    return np.argmin(d_an[d_an > d_ap])


def negative_renumbered(d_ap, d_an):
    if (d_an > d_ap).any():
        return negative_filtered(d_ap, d_an)
    return np.argmax(d_an)


EXERCISE_NEGATIVE = Exercise(
    title="Exercice 6",
    reference=negative_solution,
    cases=[  # dans le dernier, aucune négative n'est plus loin que la positive
        (0.5, np.array([0.2, 0.9, 0.6, 1.4])),
        (0.1, np.array([1.3, 0.9, 0.4, 1.2])),
        (0.8, np.array([0.3, 0.1, 0.7, 0.2])),
    ],
    mistakes={
        "Une négative plus proche que la positive n'est pas semi-difficile.": (
            lambda d_ap, d_an: np.argmin(d_an)
        ),
        "La plus lointaine ne sert qu'à défaut : son triplet est souvent déjà satisfait.": (
            lambda d_ap, d_an: np.argmax(d_an)
        ),
        "Un tableau filtré a d'autres indices, et peut être vide.": negative_filtered,
        "Un tableau filtré n'a plus les indices de `d_an`.": negative_renumbered,
        "Que rend votre fonction quand aucune négative n'est plus loin que la positive ?": (
            lambda d_ap, d_an: np.argmin(np.where(d_an > d_ap, d_an, np.inf))
        ),
        "On attend un indice, pas une distance.": (
            lambda d_ap, d_an: d_an[negative_solution(d_ap, d_an)]
        ),
    },
)
EXERCISE_NEGATIVE.check(my_negative)

# %% tags=["hide-cell"] cellView="form"
# @title Solution de l'exercice 6
# Les négatives trop proches sont mises à l'infini, ce qui garde leurs places ; puis le minimum.
EXERCISE_NEGATIVE.check(negative_solution)

# %% [markdown]
# ## Ce que nous avons vérifié

# %%
summary()

# %% [markdown]
# ## Références
#
# - J. Bromley et al., [Signature verification using a « Siamese » time delay neural
#   network](https://doi.org/10.1142/S0218001493000339), 1993 : les premiers réseaux siamois.
# - R. Hadsell, S. Chopra, Y. LeCun, [Dimensionality reduction by learning an invariant
#   mapping](https://doi.org/10.1109/CVPR.2006.100), CVPR 2006 : la perte contrastive.
# - F. Schroff, D. Kalenichenko, J. Philbin, [FaceNet](https://arxiv.org/abs/1503.03832), CVPR
#   2015 : triplets et extraction semi-difficile.
# - H. Xiao, K. Rasul, R. Vollgraf, [Fashion-MNIST](https://arxiv.org/abs/1708.07747), 2017.
# - K. Musgrave, S. Belongie, S.-N. Lim, [A metric learning reality
#   check](https://arxiv.org/abs/2003.08505), ECCV 2020 : à budget égal, les pertes se valent.
