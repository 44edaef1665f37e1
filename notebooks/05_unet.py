# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # U-Net et sa famille
#
# > **Objectifs.** À la fin de ce chapitre, vous saurez :
# > - construire U-Net à partir de deux petites fonctions, et dire quelles tailles il accepte ;
# > - l'entraîner avec trente images, et juger une segmentation autrement que par l'exactitude ;
# > - choisir une perte et un seuil quand une classe est rare ;
# > - montrer ce qu'apportent les connexions directes, et ce que coûte chaque division par deux ;
# > - situer ses dérivés et ses concurrents : U-Net 3D, Attention U-Net, DeepLab, Mask R-CNN.
#
# | | |
# |:--|:--|
# | **Prérequis** | les chapitres [1](01_convolution.ipynb) et [2](02_layers_and_training.ipynb) |
# | | la convolution 1 × 1 : [chapitre 3](03_architectures.ipynb) |
# | **Document étudié** | 000, première partie : U-Net |
# | **Données** | ISBI 2012, membranes de neurones ; hors ligne, un tissu dessiné |
# | **Durée** | une heure et quart de lecture, une heure d'exercices (deux avec le dernier) |
# | **Exécution** | rapide : 40 secondes ; complète, sur un processeur : trois heures et demie |
#
# > **Plan.** Trois temps, que l'on peut lire en trois fois :
# > - mesurer une segmentation, puis construire le U (« Une réponse par pixel », « Le U ») ;
# > - l'entraîner, le démonter, le mettre à l'épreuve (les trois sections suivantes) ;
# > - situer sa famille. À la première lecture, passez la section « La famille » et gardez-en le
# >   tableau de résultats de Mask R-CNN, à la fin ; « Le réseau de 2015 » peut attendre aussi.
#
# Jusqu'ici, un réseau donnait une réponse par image. La ***segmentation sémantique*** en demande
# une **par pixel** : à quelle classe appartient-il ? U-Net, né en 2015 pour la microscopie, reste
# un point de départ très courant. Le document en donne la structure, le code, trois limites, deux
# dérivés et deux concurrents. Nous construisons le tout, l'entraînons, et mesurons ce que chaque
# phrase annonce.

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
import warnings
from typing import NamedTuple

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import layers, ops
from matplotlib.patches import Rectangle
from scipy import ndimage
from scipy.optimize import linear_sum_assignment
from skimage.measure import label
from skimage.metrics import adapted_rand_error
from skimage.segmentation import expand_labels

from utils import datasets, figures, runtime
from utils.autodiff import value_and_grad
from utils.execute import experiment
from utils.exercises import Exercise, failure, predict
from utils.figures import number, percent, spread
from utils.metrics import boundary_f1, dice, iou, pixel_accuracy
from utils.verdicts import summary, verdict

# %% [markdown]
# Toutes les tailles du chapitre sont choisies ici.

# %%
runtime.start("05_unet")
AREA = runtime.pick(quick=48, full=512)  # côté des coupes
SIDE, MARGIN = runtime.pick(quick=(32, 8), full=(128, 32))  # tuile, et son bord
FILTERS = runtime.pick(quick=4, full=32, cpu=16)  # du premier étage
UPDATES = runtime.pick(quick=1, full=2_000, cpu=400)
BATCH = 4
FOLDS = runtime.pick(quick=0, full=5)
SEEDS = runtime.pick(quick=(0,), full=(0, 1, 2))
EAGER = runtime.pick(quick=True, full=False)  # compiler coûte plus que deux pas

membranes = datasets.membranes()
runtime.banner(membranes)

# %% [markdown]
# ## Une réponse par pixel
#
# Les données sont celles de l'article : trente coupes d'un tissu nerveux de drosophile, vues au
# microscope électronique. Il faut y trouver les membranes qui séparent les cellules. Nous appelons
# 1 un pixel de membrane, 0 l'intérieur d'une cellule : la classe qui nous intéresse est la plus
# rare.

# %%
IMAGES = membranes.images[:, :AREA, :AREA].astype("float32") / 255
MASKS = membranes.labels[:, :AREA, :AREA] == 0
share = MASKS.mean()
print(f"{len(IMAGES)} coupes, {percent(share)} de membrane")
figures.show(
    figures.overlay(
        IMAGES[0][:256, :256], {"Vérité": MASKS[0][:256, :256]}, ["cellule", "membrane"]
    ),
    alt=f"Un coin de coupe, gris et bruité, puis le même, ses membranes peintes : "
    f"{percent(MASKS[0][:256, :256].mean())} des pixels, un réseau de fines bandes fermées.",
)

# %% [markdown]
# Les membranes forment un réseau fermé, épais de quelques pixels. Des organites, à l'intérieur des
# cellules, sont aussi sombres que les membranes : un simple seuil de gris ne suffirait pas.
#
# ### Pourquoi l'exactitude trompe
#
# Voici le plus paresseux des segmenteurs : il répond « cellule » partout. L'***exactitude par
# pixel*** est la part des pixels bien classés. Le ***coefficient de Dice*** et l'***intersection
# sur union*** ne regardent qu'une classe : si $A$ est le masque vrai et $B$ le masque prédit,
#
# $$\text{Dice} = \frac{2\,|A \cap B|}{|A| + |B|},$$
#
# $$\text{IoU} = \frac{|A \cap B|}{|A \cup B|} = \frac{\text{Dice}}{2 - \text{Dice}}.$$

# %%
nothing = np.zeros_like(MASKS)
rows = [
    ("exactitude par pixel", pixel_accuracy(MASKS, nothing)),
    ("Dice de la classe cellule", dice(~MASKS, ~nothing)),
    ("Dice de la classe membrane", dice(MASKS, nothing)),
    ("IoU de la classe membrane", iou(MASKS, nothing)),
]
runtime.show_table(
    ("« cellule » partout", "valeur"), [(name, number(v, 3)) for name, v in rows]
)

# %% [markdown]
# Près de quatre pixels sur cinq sont justes, et pas une membrane n'est trouvée. Le Dice de la
# classe majoritaire flatte aussi. Nous suivrons donc le Dice **des membranes**. Écrivons-le à la
# main, et vérifions au passage le lien entre Dice et IoU.

# %%
rng = np.random.default_rng(0)
a, b = rng.random((2, 100)) < 0.4
by_hand = 2 * sum(p and q for p, q in zip(a, b)) / (sum(a) + sum(b))
assert np.isclose(dice(a, b), by_hand)
assert np.isclose(iou(a, b), dice(a, b) / (2 - dice(a, b)))
print(f"Dice {number(dice(a, b), 3)}, IoU {number(iou(a, b), 3)}")

# %% [markdown]
# ### Compter les cellules
#
# Un biologiste, lui, veut des **cellules** : un trou d'un pixel dans une membrane en réunit deux,
# et ne change presque pas le Dice. L'***erreur de Rand adaptée*** compare donc deux découpages, par
# paires de pixels. Des paires que la prédiction réunit dans une cellule, quelle part l'est en
# vérité ? et inversement ? L'erreur est 1 moins la moyenne harmonique de ces deux parts : 0 quand
# les découpages s'accordent.
#
# Les cellules prédites sont les morceaux que séparent les membranes, élargis jusqu'à se toucher,
# pour que l'épaisseur des membranes ne compte pas.


# %%
def cells(membrane):
    """Les morceaux que séparent les membranes, numérotés, élargis jusqu'à se toucher."""
    return expand_labels(label(~membrane, connectivity=1), distance=10)


def rand_error(true, predicted):
    """Erreur de Rand adaptée : 0 quand les cellules sont les mêmes. Masques de membranes."""
    return float(adapted_rand_error(label(~true, connectivity=1), cells(predicted))[0])


# %% [markdown]
# Perçons un trou haut de deux pixels dans un mur épais de trois, qui sépare deux cellules.

# %%
wall = np.zeros((40, 40), bool)
wall[:, 18:21] = True
pierced = wall.copy()
pierced[20:22] = False
for name, found in {"mur entier": wall, "mur percé": pierced}.items():
    print(
        f"{name} : Dice {number(dice(wall, found), 3)}, "
        f"erreur de Rand {number(rand_error(wall, found), 3)}"
    )

# %% [markdown]
# Pour le Dice, presque rien n'a changé ; pour l'erreur de Rand, les deux cellules n'en font plus
# qu'une. Gardons les deux mesures.
#
# ## Le U
#
# Voici le code du document, moins ses répétitions :
#
# ```python
# def unet_model(input_size=(128, 128, 1)):
#     inputs = Input(input_size)
#
#     # Encodeur
#     c1 = Conv2D(64, (3, 3), activation='relu', padding='same')(inputs)
#     c1 = Conv2D(64, (3, 3), activation='relu', padding='same')(c1)
#     p1 = MaxPooling2D((2, 2))(c1)
#     # … trois fois encore, avec 128, 256 et 512 filtres …
#
#     # Goulot d'étranglement
#     c5 = Conv2D(1024, (3, 3), activation='relu', padding='same')(p4)
#     c5 = Conv2D(1024, (3, 3), activation='relu', padding='same')(c5)
#
#     # Décodeur
#     u6 = Conv2DTranspose(512, (2, 2), strides=(2, 2), padding='same')(c5)
#     u6 = concatenate([u6, c4])
#     c6 = Conv2D(512, (3, 3), activation='relu', padding='same')(u6)
#     c6 = Conv2D(512, (3, 3), activation='relu', padding='same')(c6)
#     # … trois fois encore, avec 256, 128 et 64 filtres …
#
#     outputs = Conv2D(1, (1, 1), activation='sigmoid')(c9)
#
#     return Model(inputs=[inputs], outputs=[outputs])
# ```
#
# Cinquante lignes, et deux idées répétées quatre fois. Un étage de l'***encodeur*** : deux
# convolutions, puis une division par deux, en gardant de côté la carte d'avant. Un étage du
# ***décodeur*** : une *convolution transposée*, que nous ouvrirons plus bas, double la carte ; on
# lui colle celle de l'encodeur, et deux convolutions mêlent le tout. Cette carte qui saute
# par-dessus le U est une ***connexion directe*** (*skip connection*). À la différence du raccourci
# de ResNet ([chapitre 3](03_architectures.ipynb)), qui additionne à l'intérieur d'un bloc, elle
# concatène, d'un bout à l'autre du réseau.


# %%
def double_conv(x, filters, padding="same"):
    """Deux convolutions 3 × 3, chacune suivie de ReLU."""
    for _ in range(2):
        x = layers.Conv2D(
            filters,
            3,
            padding=padding,
            activation="relu",
            kernel_initializer="he_normal",
        )(x)
    return x


def down_block(x, filters, padding="same"):
    """Un étage de l'encodeur : (h, w) -> (h/2, w/2), et la carte gardée pour le décodeur."""
    skip = double_conv(x, filters, padding)
    return layers.MaxPooling2D(2)(skip), skip


def concatenated(skip, x):
    """La connexion directe du document : les canaux de l'encodeur à côté de ceux du décodeur."""
    return layers.Concatenate()([x, skip])


def up_block(x, skip, filters, padding="same", connect=concatenated):
    """Un étage du décodeur : (h, w) -> (2h, 2w)."""
    x = layers.Conv2DTranspose(filters, 2, strides=2)(x)
    return double_conv(connect(skip, x), filters, padding)


# %% [markdown]
# ### Les tailles qui conviennent
#
# Quatre divisions par deux, puis quatre doublements : si une division ne tombe pas juste, la carte
# qui remonte n'a plus la taille de celle qu'on veut lui coller. Suivons le côté d'une image à
# travers le U ; `lost` est ce que deux convolutions lui retirent (rien avec remplissage, quatre
# pixels sans).


# %%
def output_side(side, depth=4, lost=0):
    """Côté de la sortie d'un U-Net, ou None quand une division par deux ne tombe pas juste."""
    for _ in range(depth):
        side -= lost
        if side < 2 or side % 2:
            return None
        side //= 2
    for _ in range(depth):
        side = 2 * (side - lost)
    return side - lost if side > lost else None


def check_sides(input_shape, depth, lost):
    """Refuse un côté qui ne convient pas, et nomme les plus proches qui conviennent."""
    for side in input_shape[:-1]:
        if side and output_side(side, depth, lost) is None:
            good = [s for s in range(2 * side + 400) if output_side(s, depth, lost)]
            below, above = [s for s in good if s < side], [s for s in good if s > side]
            near = " et ".join(str(s) for s in (*below[-1:], *above[:1]))
            raise ValueError(
                f"Un côté de {side} pixels ne se divise pas {depth} fois par deux : "
                f"les plus proches qui conviennent sont {near}."
            )


# %% [markdown]
# Le réseau entier tient alors en quelques lignes. `scores=True` en ôte la dernière activation : le
# réseau rend alors des *scores*, et la perte applique la sigmoïde elle-même, sans risque de
# logarithme de zéro.


# %%
def unet(
    input_shape=(128, 128, 1),
    classes=1,
    filters=64,
    depth=4,
    padding="same",
    connect=concatenated,
    scores=False,
):
    """U-Net : image (h, w, canaux) -> une probabilité par pixel et par classe."""
    check_sides(input_shape, depth, lost=0 if padding == "same" else 4)
    x = inputs = keras.Input(input_shape)
    skips = []
    for level in range(depth):
        x, skip = down_block(x, filters * 2**level, padding)
        skips.append(skip)
    x = double_conv(x, filters * 2**depth, padding)  # le goulot d'étranglement
    for level in reversed(range(depth)):
        x = up_block(x, skips[level], filters * 2**level, padding, connect)
    activation = None if scores else "sigmoid" if classes == 1 else "softmax"
    outputs = layers.Conv2D(classes, 1, activation=activation)(x)
    return keras.Model(inputs, outputs, name="unet")


# %% [markdown]
# Est-ce bien le réseau du document ? Comptons ses paramètres, puis lisons sa structure **dans le
# graphe** que Keras a construit. (Une seule différence : les poids de départ, à l'échelle de He
# ([chapitre 2](02_layers_and_training.ipynb)), comme dans l'article.)

# %%
model = unet()
verdict("unet-parameters", model.count_params())
verdict("unet-same-size", model.output_shape[1:3])

# %% [markdown]
# ### Dessiné d'après le réseau lui-même
#
# Le dessin suivant ne sait rien de U-Net : il lit dans le modèle la taille des cartes avant chaque
# division par deux, au fond, puis avant chaque doublement.


# %%
def kind(model, *types):
    """Les couches d'un modèle qui sont d'un de ces types, dans l'ordre."""
    return [layer for layer in model.layers if isinstance(layer, types)]


def levels(model):
    """Formes (h, w, canaux) des cartes : celles de l'encodeur, du fond, du décodeur."""
    down = [pool.input.shape[1:] for pool in kind(model, layers.MaxPooling2D)]
    up = [up.input.shape[1:] for up in kind(model, layers.Conv2DTranspose)]
    return [*down, *up, kind(model, layers.Conv2D)[-1].input.shape[1:]]


# %%
def draw_u(model):
    """Le U : hauteur d'une boîte selon le côté de la carte, largeur selon ses canaux."""
    shapes = levels(model)
    depth = len(shapes) // 2
    fig, ax = plt.subplots(figsize=(figures.WIDTH, 5))
    for k, (side, _, channels) in enumerate(shapes):
        row = min(k, 2 * depth - k)
        width = 0.1 * np.log2(channels)
        height = 0.75 * np.sqrt(side / shapes[0][0])
        colour = figures.COLOURS[0 if k < depth else 2 if k == depth else 1]
        ax.add_patch(
            Rectangle((k - width / 2, -row), width, height, color=colour, alpha=0.85)
        )
        text = f"{side}²\n{channels}"
        ax.text(k, -row - 0.06, text, ha="center", va="top", fontsize=13)
        if k < depth:
            end = {"arrowstyle": "->", "color": "#555555", "ls": "--"}
            middle = height / 2 - row
            across = (2 * depth - k - 0.5, middle), (k + 0.5, middle)
            ax.annotate("", *across, arrowprops=end)
    ax.set(xlim=(-0.7, 2 * depth + 0.7), ylim=(-depth - 0.5, 0.85))
    ax.axis("off")
    return fig


# %%
shapes = levels(model)
figures.show(
    draw_u(model),
    alt="Neuf boîtes en forme de U, les connexions directes en pointillé de gauche à droite : "
    + " ; ".join(f"{side} × {side}, {channels} canaux" for side, _, channels in shapes)
    + ".",
)

# %% [markdown]
# À gauche (bleu), la carte rapetisse et ses canaux se multiplient ; au fond (vert), le « goulot »
# du document, 8 × 8 ; à droite (orange), le chemin inverse. Sous chaque boîte, le côté de la carte
# (128² pour 128 × 128) et ses canaux. Vérifions les phrases du document.

# %%
down, bottom, up = shapes[:4], shapes[4], shapes[5:]
verdict("unet-shape-of-u", [side for side, _, _ in shapes])
verdict("unet-symmetric", [c for *_, c in down] == [c for *_, c in reversed(up)])
pools, ups = kind(model, layers.MaxPooling2D), kind(model, layers.Conv2DTranspose)
verdict("unet-four-blocks", [len(pools), len(ups)])
verdict("unet-halved", sorted({p.output.shape[1] / p.input.shape[1] for p in pools}))
verdict("unet-pooling", sorted({side for p in pools for side in p.pool_size}))
verdict("unet-doubled", sorted({u.output.shape[1] / u.input.shape[1] for u in ups}))

# %%
*body, _ = kind(model, layers.Conv2D)
verdict(
    "unet-filters",
    all(
        c.kernel_size == (3, 3) and c.activation is keras.activations.relu for c in body
    ),
)
sides = [c.output.shape[1] for c in body]  # deux de suite à chaque étage
verdict("unet-two-convolutions", sides == [s for s, *_ in shapes for _ in range(2)])

# %% [markdown]
# Reste le décodeur, où une phrase est à corriger : les cartes que l'on transporte ne sont pas
# celles de « **basse** résolution ».

# %%
joined = kind(model, layers.Concatenate)
skips = [join.input[1].shape for join in joined]
decoder = model.layers[-17:-1]  # quatre étages de quatre couches, avant la dernière
order = [type(layer).__name__ for layer in decoder]
block = ["Conv2DTranspose", "Concatenate", "Conv2D", "Conv2D"]
verdict("unet-transposed-then-regular", order == 4 * block)
verdict(
    "unet-concatenated",
    [join.output.shape[-1] - join.input[0].shape[-1] for join in joined],
)
verdict("unet-skip-resolution", min(s[1] for s in skips) < bottom[0])

# %% [markdown]
# Seules leurs caractéristiques sont de *bas niveau* (des bords, des textures), ce que le document
# écrit plus haut.
#
# ### La convolution transposée, en quatre nombres
#
# Chaque nombre de l'entrée dépose une copie du filtre, multipliée par lui. Filtre de côté 2, pas de
# 2 : les copies se touchent sans se recouvrir, et la carte double exactement. Avec un filtre de
# côté 3, elles se recouvrent.


# %%
def transposed(image, kernel, stride):
    """Convolution transposée d'une image (h, w) : la somme des copies du filtre."""
    h, w = image.shape
    f = len(kernel)
    out = np.zeros((stride * (h - 1) + f, stride * (w - 1) + f))
    for i in range(h):
        for j in range(w):
            window = np.s_[stride * i : stride * i + f, stride * j : stride * j + f]
            out[window] += image[i, j] * kernel
    return out


small = np.array([[1.0, 2.0], [3.0, 4.0]])
for f in (2, 3):
    layer = layers.Conv2DTranspose(1, f, strides=2, kernel_initializer="ones")
    ours = transposed(small, np.ones((f, f)), 2)
    theirs = ops.convert_to_numpy(layer(small[None, ..., None]))[0, ..., 0]
    assert np.allclose(ours, theirs)
    print(ours.astype(int), "\n")

# %% [markdown]
# Ces recouvrements se voient. Donnons aux deux filtres une image unie.

# %%
flat = np.ones((8, 8))
doubled = [transposed(flat, np.ones((f, f)), 2) for f in (2, 3)]
figures.show(
    figures.grid(
        [0.7 * image[1:-1, 1:-1] / image.max() for image in doubled],
        ["filtre de côté 2", "filtre de côté 3"],
        columns=2,
    ),
    alt="À gauche, une image unie ; à droite, un damier, plus clair là où plusieurs "
    "copies du filtre se recouvrent.",
)

# %% [markdown]
# Le damier de droite vient de l'arithmétique du filtre. Un réseau doit apprendre à l'effacer ;
# avec un filtre de côté 2, comme dans U-Net, il n'y en a pas.

# %% [markdown]
# ### Un côté de 100 pixels
#
# La fonction du document prend `input_size` en paramètre ; accepte-t-elle n'importe quelle taille ?
# Reproduisons ce que fait son code avec 100 pixels, puis voyons notre message.


# %%
def document_joins(side):
    """Ce qui arrive, dans le code du document, à une image de ce côté."""
    x, skips = keras.Input((side, side, 1)), []
    for _ in range(4):
        skips.append(x)
        x = layers.MaxPooling2D(2)(x)
    for skip in reversed(skips):
        x = layers.Conv2DTranspose(1, 2, strides=2)(x)
        x = layers.Concatenate()([x, skip])


error = failure(document_joins, 100, expected=ValueError)
verdict("unet-any-size", error is None)
_ = failure(unet, (100, 100, 1), expected=ValueError)

# %% [markdown]
# Il faut un multiple de 16. En pratique, on agrandit l'image par un bord en miroir, et on rogne la
# réponse.
#
# Le document termine par `Model(inputs=[inputs], outputs=[outputs])`. Que dit Keras quand on donne
# à ce modèle un simple tableau ?

# %%
inputs = keras.Input((16, 16, 1))
listed = keras.Model(inputs=[inputs], outputs=[layers.Conv2D(1, 1)(inputs)])
with warnings.catch_warnings(record=True) as heard:
    warnings.simplefilter("always")
    listed(np.zeros((1, 16, 16, 1), "float32"))
verdict("unet-listed-inputs", not any("structure" in str(w.message) for w in heard))

# %% [markdown]
# ### Le réseau de 2015
#
# Dans [l'article](https://arxiv.org/abs/1505.04597), les convolutions sont **sans remplissage** :
# chacune retire deux pixels, et la carte transportée, trop grande, est rognée. Le réseau est le
# même à trois détails près : pas de remplissage, ce rognage, et deux sorties avec softmax.


# %%
def cropped(skip, x):
    """La connexion directe de 2015 : on rogne la carte de l'encodeur à la taille de l'autre."""
    margin = (skip.shape[1] - x.shape[1]) // 2
    return layers.Concatenate()([x, layers.Cropping2D(margin)(skip)])


def unet_2015():
    """U-Net de l'article : 572 × 572 -> 388 × 388, deux classes."""
    return unet((572, 572, 1), classes=2, padding="valid", connect=cropped)


def described(model):
    """Le nombre de paramètres et la forme de la sortie, en une phrase."""
    shape = " × ".join(map(str, model.output_shape[1:]))
    return f"{number(model.count_params(), 0)} paramètres, sortie {shape}"


original = unet_2015()
print(described(original))
verdict("unet-original-size", original.output_shape[1])

# %%
figures.show(
    draw_u(original),
    alt="Le même U, dont les cartes de droite sont plus petites que celles de gauche. Côtés : "
    + ", ".join(str(side) for side, *_ in levels(original))
    + ".",
)

# %% [markdown]
# La sortie de 2015 est **plus petite** que l'image : 92 pixels perdus de chaque côté. C'est un
# choix : sans remplissage, tout pixel prédit a été calculé sur de vrais voisins. Quelles tailles
# d'image conviennent ?

# %%
sides = {s: output_side(s, lost=4) for s in range(170, 256)}
possible = {s: out for s, out in sides.items() if out}
print("sans remplissage :", ", ".join(f"{s} → {out}" for s, out in possible.items()))
print("et l'article :", 572, "→", output_side(572, lost=4))
del original, model

# %% [markdown]
# ### Sigmoïde ou softmax ?
#
# « Pour des tâches de segmentation binaire, la dernière couche utilise une fonction d'activation
# sigmoid, et pour des classes multiples, une softmax. » Avec deux classes, les deux disent la même
# chose : le softmax de deux scores est la sigmoïde de leur différence.

# %%
z = np.random.default_rng(0).normal(size=(1_000, 2)) * 5
softmax = ops.convert_to_numpy(ops.softmax(z))[:, 1]
sigmoid = ops.convert_to_numpy(ops.sigmoid(z[:, 1] - z[:, 0]))
verdict("unet-sigmoid-binary", np.abs(softmax - sigmoid).max())
three = unet((32, 32, 1), classes=3, filters=4, scores=True)(np.ones((1, 32, 32, 1)))
exclusive = ops.convert_to_numpy(ops.sum(ops.softmax(three), axis=-1))
verdict("unet-softmax-many", bool(np.allclose(exclusive, 1, atol=1e-5)))
free_sums = ops.convert_to_numpy(ops.sum(ops.sigmoid(three), axis=-1))
low, high = number(free_sums.min()), number(free_sums.max())
print(f"trois sigmoïdes : leur somme va de {low} à {high}")

# %% [markdown]
# Les trois probabilités du softmax font 1 en chaque pixel : un pixel n'a qu'une classe. Trois
# sigmoïdes ne s'excluent pas, ce qui convient quand un pixel peut en avoir plusieurs.
#
# ## Entraîner avec trente images
#
# ### Séparer par coupe
#
# Deux coupes voisines se ressemblent : elles sont distantes de 50 nanomètres. Tirer les images de
# test au hasard mettrait des jumelles dans l'apprentissage. Découpons donc le volume en cinq blocs
# de six coupes **consécutives** : un bloc pour le test, la moitié du suivant, celle qui le touche,
# pour choisir les seuils, le reste pour apprendre. (Sauf au premier bloc, une coupe d'apprentissage
# touche pourtant le test, de l'autre côté.)


# %%
def split(fold):
    """Indices des coupes d'apprentissage, de validation, de test."""
    blocks = np.array_split(np.arange(len(IMAGES)), 5)
    test, after = blocks[fold], blocks[(fold + 1) % 5]
    valid = after[: len(after) // 2]
    train = np.setdiff1d(np.arange(len(IMAGES)), [*test, *valid])
    few = runtime.pick(quick=1, full=None)
    return train, valid[:few], test[:few]


def intervals(slices):
    """Des numéros de coupes consécutives, écrits « 6 à 8 »."""
    parts = np.split(slices, np.flatnonzero(np.diff(slices) > 1) + 1)
    ends = ([part[0], part[-1]][: len(part)] for part in parts)
    return ", ".join(" à ".join(map(str, pair)) for pair in ends)


rows = [(fold + 1, *map(intervals, split(fold))) for fold in range(5)]
runtime.show_table(("bloc", "apprentissage", "validation", "test"), rows)

# %% [markdown]
# ### La déformation élastique
#
# Une coupe tournée, retournée, un peu étirée reste une coupe. L'article déplace au hasard les neuf
# points d'une grille 3 × 3, d'un écart type de dix pixels, et interpole entre eux : la
# *déformation élastique*. (Nos exemples seront des carrés quatre fois plus petits que ses coupes :
# les mêmes dix pixels y déforment davantage.) Image et masque subissent **le même** déplacement ;
# le masque prend la valeur du plus proche voisin, pour rester fait de 0 et de 1.


# %%
def displacement(side, rng, sigma=10.0):
    """Déplacement lisse (2, side, side), interpolé entre neuf vecteurs tirés au hasard."""
    coarse = rng.normal(scale=sigma * side / 128, size=(2, 3, 3))
    return np.stack([ndimage.zoom(axis, side / 3, order=3) for axis in coarse])


def deformed(image, mask, rng):
    """Le même déplacement élastique, le même quart de tour, le même miroir pour les deux."""
    side = len(image)
    at = np.mgrid[:side, :side] + displacement(side, rng)
    turns, mirror = rng.integers(4), 1 - 2 * rng.integers(2)
    return [
        np.rot90(ndimage.map_coordinates(a, at, order=k, mode="reflect"), turns)[
            :, ::mirror
        ]
        for a, k in ((image, 1), (mask, 0))
    ]


# %% [markdown]
# Une grille régulière montre la déformation mieux qu'un tissu.

# %%
side = SIDE
lines = (np.indices((side, side)) % (side // 8) == 0).any(axis=0)
tile, mask = IMAGES[0][:side, :side], MASKS[0][:side, :side]
seeds = (2, 5)
shown = [lines * 1.0, tile, mask * 1.0]
for seed in seeds:
    warped, _ = deformed(lines * 1.0, mask, np.random.default_rng(seed))
    shown += [warped, *deformed(tile, mask * 1.0, np.random.default_rng(seed))]
figures.show(
    figures.grid(
        shown, columns=3, row_labels=["avant", *(f"tirage {s}" for s in seeds)]
    ),
    alt="Trois lignes de trois images : une grille, une tuile de tissu, son masque ; puis deux "
    "déformations, où les droites de la grille ondulent et où le masque suit la tuile.",
)

# %% [markdown]
# Les lignes ondulent sans se croiser : le voisinage est respecté, et les membranes du masque
# suivent celles de l'image. Chaque exemple d'apprentissage est une ***tuile*** prise au hasard dans
# les coupes, puis déformée. D'un réseau à l'autre, les tuiles sont les mêmes, sauf quand ce sont
# elles que l'on compare.


# %%
def tiles(slices, n, seed, augment=True, side=SIDE):
    """Tuiles (n, side, side, 1) et leurs masques, tirés au hasard dans quelques coupes."""
    rng = np.random.default_rng(seed)
    x, y = [], []
    for _ in range(n):
        k = rng.choice(slices)
        row, column = rng.integers(0, AREA - side + 1, size=2)
        window = np.s_[k, row : row + side, column : column + side]
        pair = IMAGES[window], MASKS[window].astype("float32")
        image, mask = deformed(*pair, rng) if augment else pair
        x.append(image)
        y.append(mask)
    return np.stack(x)[..., None], np.stack(y)[..., None]


# %% [markdown]
# ### La perte
#
# Cinq pertes, écrites sur le score $z$ d'un pixel (avant la sigmoïde) et sa classe $y$, 0 ou 1.
# Soit $p = \sigma(z)$ la probabilité prédite, et $p_y$ celle de la vraie classe.
#
# | Perte | Formule | Idée |
# |:--|:--|:--|
# | entropie croisée | $-\ln p_y = \ln(1 + e^z) - yz$ | chaque pixel compte autant |
# | pondérée | $-w_y \ln p_y$, avec $w_1 = 3{,}5$ et $w_0 = 1$ | chaque classe compte autant |
# | focale | $-(1 - p_y)^2 \ln p_y$ | les pixels faciles ne comptent plus |
# | Dice | $1 - 2 \sum p y / (\sum p + \sum y)$ | la mesure elle-même, rendue dérivable |
# | entropie + Dice | leur somme | les deux à la fois |
#
# La seconde écriture de l'entropie croisée n'a jamais à calculer le logarithme de zéro, et
# `softplus` calcule $\ln(1 + e^z)$ sans déborder.


# %%
POSITIVE = 3.5  # 0,78 / 0,22 : les deux classes pèsent autant


@keras.saving.register_keras_serializable(package="vision")
def cross_entropy(y_true, y_pred):
    """Entropie croisée de chaque pixel, à partir du score."""
    return ops.softplus(y_pred) - y_true * y_pred


@keras.saving.register_keras_serializable(package="vision")
def weighted(y_true, y_pred):
    """Une membrane manquée coûte plus cher qu'une fausse."""
    return (1 + (POSITIVE - 1) * y_true) * cross_entropy(y_true, y_pred)


@keras.saving.register_keras_serializable(package="vision")
def focal(y_true, y_pred, gamma=2.0):
    """Les pixels déjà bien classés comptent peu : (1 - p)^gamma, p la probabilité du vrai."""
    pixel = cross_entropy(y_true, y_pred)
    return (-ops.expm1(-pixel)) ** gamma * pixel


@keras.saving.register_keras_serializable(package="vision")
def soft_dice(y_true, y_pred):
    """1 - Dice, avec des probabilités à la place des masques ; tout le lot à la fois."""
    p = ops.sigmoid(y_pred)
    return 1 - 2 * ops.sum(p * y_true) / (ops.sum(p) + ops.sum(y_true) + 1e-7)


@keras.saving.register_keras_serializable(package="vision")
def combined(y_true, y_pred):
    """Entropie croisée et Dice."""
    return ops.mean(cross_entropy(y_true, y_pred)) + soft_dice(y_true, y_pred)


# %%
LOSSES = {
    "entropie croisée": cross_entropy,
    "pondérée": weighted,
    "focale": focal,
    "Dice": soft_dice,
    "entropie + Dice": combined,
}

# %% [markdown]
# Comparons-les à celles de Keras, ou à un calcul NumPy. Puis donnons à une membrane un score de
# −200 : sa probabilité s'arrondit à zéro, et l'entropie croisée calculée à partir d'elle est
# plafonnée.

# %%
rng = np.random.default_rng(0)
y = (rng.random((2, 8, 8, 1)) < 0.2).astype("float32")
z = rng.normal(scale=3, size=y.shape).astype("float32")
p = 1 / (1 + np.exp(-z))
pair = [ops.convert_to_tensor(array) for array in (y, z)]
theirs = {
    cross_entropy: keras.losses.BinaryCrossentropy(from_logits=True)(y, z),
    focal: keras.losses.BinaryFocalCrossentropy(from_logits=True)(y, z),
    soft_dice: keras.losses.Dice()(y, p),
    weighted: np.mean(np.where(y == 1, -POSITIVE * np.log(p), -np.log(1 - p))),
}
for ours, expected in theirs.items():
    assert np.isclose(float(ops.mean(ours(*pair))), float(expected), atol=1e-4)

# %%
far = ops.convert_to_tensor(np.array([[-200.0]], "float32"))
probability = ops.convert_to_numpy(ops.sigmoid(far))  # zéro, en simple précision
safe = float(ops.mean(cross_entropy(1.0, far)))
clipped = float(keras.losses.BinaryCrossentropy()(np.ones((1, 1)), probability))
print(f"à partir du score : {number(safe)} ; de la probabilité : {number(clipped)}")

# %% [markdown]
# ### Prédire une grande image par tuiles
#
# Une coupe entière ne tient pas toujours en mémoire. La stratégie de l'article, la ***tuile à
# recouvrement*** : on prolonge l'image en miroir, on prédit des tuiles qui se chevauchent, et l'on
# ne garde que le centre de chacune, loin des bords où le remplissage a remplacé le tissu.


# %%
def fit(model, x, y, loss=cross_entropy, rate=1e-3):
    """Une passe sur les tuiles."""
    optimizer = keras.optimizers.Adam(rate)
    model.compile(optimizer=optimizer, loss=loss, run_eagerly=EAGER)
    return model.fit(x, y, batch_size=BATCH, verbose=0).history


def probabilities(model, x):
    """Probabilité de membrane de chaque pixel : (n, h, w)."""
    z = model.predict(x, batch_size=16, verbose=0)[..., 0]
    return 1 / (1 + np.exp(-np.clip(z, -30, 30)))


# %%
def overlap_tile(model, image, side=SIDE, margin=MARGIN):
    """Probabilités (h, w) d'une image, par tuiles dont on ne garde que le centre."""
    step = side - 2 * margin
    height, width = image.shape
    padded = np.pad(image, (margin, margin + step), mode="reflect")
    corners = [(r, c) for r in range(0, height, step) for c in range(0, width, step)]
    cut = np.stack([padded[r : r + side, c : c + side] for r, c in corners])
    out = np.empty((height + step, width + step), "float32")
    for (r, c), tile in zip(corners, probabilities(model, cut[..., None])):
        centre = tile[margin : margin + step, margin : margin + step]
        out[r : r + step, c : c + step] = centre
    return out[:height, :width]


# %% [markdown]
# ### Le seuil et les mesures
#
# Au-dessus de quelle probabilité un pixel est-il une membrane ? La réponse se lit sur les coupes de
# **validation**, et dépend de la mesure que l'on vise ; le test ne sert qu'à juger. La dernière
# mesure, la ***F1 des contours***, réunit deux parts par leur moyenne harmonique : celle du contour
# prédit qui passe à deux pixels au plus du vrai (sa *précision*), celle du vrai contour qui passe
# aussi près du prédit (son *rappel*).

# %%
THRESHOLDS = np.linspace(0.1, 0.9, 17)


def by_threshold(measure, maps, truths):
    """Moyenne d'une mesure sur quelques coupes, pour chaque seuil."""
    return np.array(
        [
            np.mean([measure(t, m > level) for m, t in zip(maps, truths)])
            for level in THRESHOLDS
        ]
    )


# %%
def evaluate(model, fold=0):
    """Seuils choisis sur la validation, mesures sur le test."""
    _, valid, test = split(fold)
    maps = [overlap_tile(model, IMAGES[k]) for k in valid]
    dices = by_threshold(dice, maps, MASKS[valid])
    errors = by_threshold(rand_error, maps, MASKS[valid])
    level, rand_level = THRESHOLDS[dices.argmax()], THRESHOLDS[errors.argmin()]
    maps = [overlap_tile(model, IMAGES[k]) for k in test]
    pairs = [(MASKS[k], m > level) for k, m in zip(test, maps)]
    measures = {
        "dice": dice,
        "iou": iou,
        "accuracy": pixel_accuracy,
        "boundary": boundary_f1,
    }
    found = {
        name: np.mean([m(*pair) for pair in pairs]) for name, m in measures.items()
    }
    found["rand"] = np.mean(
        [rand_error(MASKS[k], m > rand_level) for k, m in zip(test, maps)]
    )
    found |= {"threshold": level, "rand_threshold": rand_level}
    found |= {"valid_dice": dices, "valid_rand": errors}
    return found


# %% [markdown]
# ### Le résultat
#
# Un premier réseau, sur la première séparation, servira de référence à tout le chapitre. Dans
# l'exécution du livre, faite sur un processeur, il a seize filtres au premier étage au lieu de
# soixante-quatre. Ses images sont gardées en chiffres de 0 à 9.


# %%
def digits(image):
    """Une carte de probabilités comme lignes de chiffres, 0 à 9 : de quoi la dessiner."""
    return [
        "".join(row) for row in np.rint(9 * np.asarray(image)).astype(int).astype(str)
    ]


def picture(rows):
    """L'inverse de `digits` : (h, w), entre 0 et 1."""
    return np.array([[int(digit) for digit in row] for row in rows]) / 9


# %% [markdown]
# Toutes les comparaisons passeront par la même fonction : un réseau neuf, une graine, des tuiles.


# %%
def trained(
    builder, slices, updates=UPDATES, loss=cross_entropy, augment=True, **options
):
    """Un réseau neuf, entraîné sur des tuiles de quelques coupes."""
    keras.utils.set_random_seed(0)
    model = builder(scores=True, **{"input_shape": (SIDE, SIDE, 1)} | options)
    fit(model, *tiles(slices, BATCH * updates, seed=0, augment=augment), loss)
    return model


# %% [markdown]
# À côté des mesures, l'expérience compare plusieurs largeurs de bord jeté, pour plus bas.

# %%
MARGINS = runtime.pick(quick=(0, 8), full=(0, 16, 32, 48))


def reference_run():
    train, _, test = split(0)
    model = trained(unet, train, input_shape=(None, None, 1), filters=FILTERS)
    image = IMAGES[test[0]]
    whole = overlap_tile(model, image, side=AREA, margin=AREA // 4)
    maps = {m: overlap_tile(model, image, margin=m) for m in MARGINS}
    seams = {str(m): np.abs(found - whole).mean() for m, found in maps.items()}
    views = {"image": digits(image[:192, :192]), "map": digits(whole[:192, :192])}
    views["truth"] = digits(MASKS[test[0]][:192, :192])
    return (
        evaluate(model) | {"seams": seams, "parameters": model.count_params()} | views
    )


reference = experiment("reference", reference_run)

# %%
shown = reference.values
views = [picture(shown[name]) for name in ("image", "truth", "map")]
figures.show(
    figures.grid(views, ["coupe de test", "vérité", "probabilité"], columns=3),
    alt="Un coin d'une coupe de test, ses vraies membranes, et la probabilité du réseau. "
    f"Au seuil de {number(shown['threshold'])}, le Dice moyen des coupes de test est "
    f"{number(shown['dice'])}.",
)

# %% [markdown]
# Les membranes sont là, avec des hésitations : des organites aussi noirs qu'elles, des murs coupés
# en biais, qui paraissent gris. Voyons où placer le seuil.

# %%
shown = reference.values
fig = figures.curves(
    {"Dice": shown["valid_dice"], "erreur de Rand": shown["valid_rand"]},
    x=THRESHOLDS,
    xlabel="seuil de probabilité",
    ylabel="mesure, sur la validation",
)
figures.show(
    fig,
    alt=f"Selon le seuil, de 0,1 à 0,9 : le Dice est le plus haut à {number(shown['threshold'])}, "
    f"l'erreur de Rand la plus basse à {number(shown['rand_threshold'])}.",
)

# %% [markdown]
# Le Dice est le plus haut vers le milieu, et change peu autour. L'erreur de Rand préfère un seuil
# bas : mieux vaut des membranes trop épaisses qu'un seul trou. Au-dessus de 0,6, les cellules
# fusionnent en chaîne.
#
# Le bord des tuiles, maintenant. Comparons une coupe prédite par quatre grandes tuiles de 512
# pixels, dont on jette 128 pixels de bord (le bord n'y change plus rien), et la même prédite par
# petites tuiles, selon la largeur du bord que l'on jette.

# %%
rows = [(f"{m} pixels", number(v, 4)) for m, v in shown["seams"].items()]
runtime.show_table(("bord jeté", "écart moyen de probabilité"), rows)

# %% [markdown]
# Sans bord jeté, le bord des tuiles fausse la probabilité de deux centièmes en moyenne ; avec 16
# pixels, sept fois moins ; avec 32, quarante fois moins. Pour que l'écart soit nul, il faudrait en
# jeter 94, à peu près ceux que perd le réseau de 2015 : sa sortie plus petite est une tuile à
# recouvrement.
#
# ### La validation croisée
#
# Une séparation, c'est six coupes de test : trop peu. La ***validation croisée*** recommence cinq
# fois, chaque bloc servant une fois de test ; donnons-lui deux fois plus de mises à jour.


# %%
def cross_validation_run():
    found = []
    for fold in range(FOLDS):
        model = trained(unet, split(fold)[0], 2 * UPDATES, filters=FILTERS)
        measures = evaluate(model, fold)
        found.append(
            {k: measures[k] for k in ("dice", "iou", "accuracy", "boundary", "rand")}
        )
    return {"folds": found}


cross_validation = experiment("cross_validation", cross_validation_run)

# %%
names = {
    "dice": "Dice",
    "iou": "IoU",
    "accuracy": "exactitude",
    "boundary": "F1 des contours",
    "rand": "erreur de Rand",
}
measures = np.array(
    [[fold[key] for key in names] for fold in cross_validation.values["folds"]]
)
rows = {f"bloc {k + 1}": row for k, row in enumerate(measures)}
if rows:
    rows["moyenne"] = measures.mean(axis=0)
    rows["écart type"] = measures.std(axis=0, ddof=1)
runtime.show_table(
    ("test", *names.values()),
    [(name, *(number(value, 3) for value in row)) for name, row in rows.items()],
)

# %% [markdown]
# Neuf pixels sur dix sont justes, deux pixels de membrane sur dix sont manqués ou inventés, et les
# contours passent à deux pixels près dans quatre cas sur cinq. Le Dice varie peu d'un bloc à
# l'autre, l'erreur de Rand du simple au double : quelques trous de plus ou de moins.
#
# L'article annonce une erreur de Rand de 0,038, et un humain fait 0,002. Son protocole n'est pas le
# nôtre : ses coupes de test sont celles du concours, aux réponses secrètes, et la mesure a changé.
# Mais surtout, son réseau complet a été entraîné dix heures sur une carte graphique, le nôtre
# pendant huit cents mises à jour. Continuons, sur la première séparation seulement.

# %%
LONG_UPDATES = runtime.pick(quick=1, full=6_000, cpu=3_000)


def long_run():
    model = trained(unet, split(0)[0], LONG_UPDATES, filters=FILTERS)
    return evaluate(model) | {"updates": LONG_UPDATES}


longer = experiment("long", long_run)


# %%
def compare(found, header="réseau"):
    """Un tableau : une ligne par réseau, ses mesures de test."""
    rows = [
        (
            name,
            *(number(m[key], 3) for key in ("dice", "accuracy", "boundary", "rand")),
            number(m["threshold"]),
        )
        for name, m in found.items()
    ]
    columns = ("Dice", "exactitude", "F1 des contours", "erreur de Rand", "seuil")
    runtime.show_table((header, *columns), rows)


longest = f"{longer.values['updates']} mises à jour"
compare({"référence": reference.values, longest: longer.values})

# %% [markdown]
# L'erreur de Rand tombe à 0,05 et le Dice gagne près de quatre points : c'est ce qu'obtenait en
# 2012 le vainqueur du concours (0,050), un peu plus que U-Net en 2015. La référence était donc loin
# d'avoir fini d'apprendre ; souvenez-vous-en dans les comparaisons qui suivent, faites en 400 mises
# à jour au plus.
#
# ### Comparer les pertes
#
# Mêmes tuiles, mêmes poids de départ, quatre autres pertes.


# %%
def losses_run():
    train, _, _ = split(0)
    found = {}
    for name, loss in runtime.pick(quick=[], full=LOSSES.items()):
        if name != "entropie croisée":  # c'est la référence
            found[name] = evaluate(trained(unet, train, loss=loss, filters=FILTERS))
    return found


losses = experiment("losses", losses_run)


# %%
compare({"entropie croisée": reference.values} | dict(losses.values), "perte")

# %%
shown = {"entropie croisée": reference.values} | dict(losses.values)
fig = figures.curves(
    {name: measures["valid_dice"] for name, measures in shown.items()},
    x=THRESHOLDS,
    xlabel="seuil de probabilité",
    ylabel="Dice sur la validation",
)
figures.show(
    fig,
    alt="Dice de validation selon le seuil, au mieux : "
    + " ; ".join(
        f"{name}, {number(np.max(m['valid_dice']))} au seuil {number(m['threshold'])}"
        for name, m in shown.items()
    )
    + ".",
)

# %% [markdown]
# Une fois le seuil bien choisi, le Dice de quatre pertes tient en un point et demi : une graine et
# six coupes ne les départagent pas. La focale perd pourtant plus de cinq points sur les contours.
# C'est la forme des courbes qui les distingue. La perte pondérée voit des membranes partout et
# demande un seuil haut ; la focale tasse les probabilités vers le milieu, et presque tout disparaît
# au-dessus de 0,75 ; avec l'entropie croisée et Dice ensemble, la courbe est la plus plate. Le
# seuil de 1/2 n'a donc rien de naturel.
#
# La perte de Dice, seule, s'est effondrée : le réseau répond « membrane » partout. Est-ce la
# graine, ou le taux d'apprentissage ? Recommençons, plus court, avec trois graines et deux taux.

# %%
SHORT_UPDATES = runtime.pick(quick=1, full=100)
TRIALS = ((soft_dice, 1e-3), (soft_dice, 1e-4), (combined, 1e-3))


def saturation_run():
    """Dice et part de pixels prédits membrane, après un court entraînement."""
    train, _, test = split(0)
    x, y = tiles(test, runtime.pick(quick=2, full=16), seed=1, augment=False)
    found = {}
    for loss, rate in runtime.pick(quick=TRIALS[:1], full=TRIALS):
        rows = found[f"{loss.__name__}, {rate}"] = {"dice": [], "share": []}
        for seed in SEEDS:
            keras.utils.set_random_seed(seed)
            model = unet((SIDE, SIDE, 1), filters=FILTERS, scores=True)
            fit(model, *tiles(train, BATCH * SHORT_UPDATES, seed), loss, rate)
            predicted = probabilities(model, x) > 0.5
            rows["dice"].append(dice(y[..., 0] == 1, predicted))
            rows["share"].append(predicted.mean())
    return found


saturation = experiment("saturation", saturation_run)

# %%
french = {"soft_dice": "Dice", "combined": "entropie + Dice"}
rows = []
for name, found in saturation.values.items():
    loss, rate = name.split(", ")
    measures = (" ; ".join(number(v) for v in found[key]) for key in ("dice", "share"))
    rows.append((french[loss], f"{float(rate):g}".replace(".", ","), *measures))
header = ("perte", "taux", "Dice, par graine", "part prédite membrane")
runtime.show_table(header, rows)

# %% [markdown]
# Ni la graine ni le taux : six fois sur six, la perte de Dice mène au même endroit ; avec
# l'entropie croisée en plus, jamais. Au départ, les probabilités sont vers 1/2 et le Dice vers
# 0,3 ; dire « membrane » un peu plus partout l'améliore aussitôt, jusqu'à 0,39. Les premières mises
# à jour vont donc toutes dans ce sens. Mais pourquoi le réseau n'en revient-il pas ?
#
# Regardons le gradient que reçoit un pixel de cellule, pris à tort pour une membrane, selon son
# score, quand les cent pixels d'une image ont le même.


# %%
def pixel_slope(loss, y, score):
    """N fois le gradient par rapport au score du dernier pixel ; les N pixels ont le même."""
    z = np.full(y.shape, score, "float32")
    truth = ops.convert_to_tensor(y)
    _, slope = value_and_grad(lambda z: ops.mean(loss(truth, z)), z)
    return y.size * slope[-1]


y = np.zeros(100, "float32")
y[:22] = 1  # la part des membranes
rows = [
    (score, *(number(pixel_slope(f, y, score), 5) for f in (cross_entropy, soft_dice)))
    for score in (0, 2, 5, 10)
]
runtime.show_table(("score", "entropie croisée", "Dice"), rows)

# %% [markdown]
# Plus le réseau se trompe, plus l'entropie croisée le corrige, jusqu'à un gradient de 1. La perte
# de Dice fait le contraire : son gradient porte le facteur $p(1 - p)$ de la sigmoïde, et s'éteint
# quand le réseau est sûr de lui, même à tort. Si les premières mises à jour le poussent trop loin,
# il n'en revient pas. Ajoutée à l'entropie croisée, dont le gradient ne s'éteint pas, elle n'a plus
# ce défaut.
#
# ### À pleine largeur
#
# Le réseau du document a 64 filtres au premier étage : quatre fois plus que notre référence, donc
# seize fois plus de paramètres, et des mises à jour beaucoup plus lentes. Voici ce qu'il donne en
# peu de mises à jour, et le réseau réduit en autant.

# %%
WIDE_UPDATES = runtime.pick(quick=1, full=2_000, cpu=120)
WIDE_FILTERS = runtime.pick(quick=4, full=64)


def wide_run():
    train, _, _ = split(0)
    model = trained(unet, train, WIDE_UPDATES, filters=WIDE_FILTERS)
    return evaluate(model) | {
        "parameters": model.count_params(),
        "updates": WIDE_UPDATES,
    }


def narrow_run():
    train, _, _ = split(0)
    return evaluate(trained(unet, train, WIDE_UPDATES, filters=FILTERS))


wide = experiment("wide", wide_run)
narrow = experiment("narrow", narrow_run)

# %%
parameters = number(wide.values["parameters"], 0)
print(f"{wide.values['updates']} mises à jour, {parameters} paramètres")
compare({"pleine largeur": wide.values, "réduit": narrow.values})

# %% [markdown]
# À nombre de mises à jour égal, le réseau du document fait moins bien, en dix fois plus de temps.
# Cent vingt mises à jour sont trop peu pour trente et un millions de paramètres : rien ne dit que
# la largeur nuirait à un entraînement plus long.
#
# ## Ce que font les connexions directes
#
# Coupons-les : le décodeur n'a plus que les cartes du fond. Même profondeur, mêmes tuiles, un
# dixième de paramètres en moins.


# %%
def ignored(skip, x):
    """Pas de connexion directe."""
    return x


# %% [markdown]
# Dans la même expérience, des U moins profonds, que nous lirons plus loin.

# %%
VARIANTS = runtime.pick(
    quick={},
    full={
        "sans connexions": {"connect": ignored},
        "1 division": {"depth": 1},
        "2 divisions": {"depth": 2},
        "3 divisions": {"depth": 3},
    },
)
DEEPER = 5


def variants_run():
    train, _, _ = split(0)
    return {
        name: evaluate(trained(unet, train, filters=FILTERS, **options))
        for name, options in VARIANTS.items()
    }


variants = experiment("variants", variants_run)


# %%
def deeper_run():
    train, _, _ = split(0)
    return evaluate(trained(unet, train, filters=FILTERS, depth=DEEPER))


deeper = experiment("deeper", deeper_run)

# %%
shown = {
    "U-Net": reference.values,
    "sans connexions": variants.values["sans connexions"],
}
compare(shown)
full = variants.full and reference.full
lost = full and {
    key: reference.full[key] - variants.full["sans connexions"][key]
    for key in ("dice", "boundary")
}
verdict("unet-skip-details", lost and lost["boundary"])
verdict("unet-skip-quality", lost and lost["dice"])

# %% [markdown]
# Sans connexions directes, le réseau perd dix points de Dice et plus de vingt points de F1 des
# contours : il sait à peu près où sont les membranes, mais plus où passent leurs bords. L'erreur de
# Rand souffre moins : des membranes floues, mais fermées, séparent encore les cellules.
#
# ### Les structures fines
#
# « Il peut parfois manquer des détails très fins ou des petites structures en raison de la perte
# d'information lors du downsampling. » Dessinons des traits d'épaisseur connue dans du bruit, et
# comptons la part de leurs pixels que le réseau retrouve, le ***rappel***, épaisseur par épaisseur.

# %%
WIDTHS = (1, 2, 4, 8)
LINE_IMAGES = runtime.pick(quick=4, full=1_200)
LINE_SIDE = 64


def drawn_lines(n, seed):
    """Traits bruités : images (n, 64, 64, 1) ; épaisseur du trait en chaque pixel, ou 0."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:LINE_SIDE, :LINE_SIDE] - LINE_SIDE / 2
    angles = rng.uniform(0, np.pi, (n, len(WIDTHS), 1, 1))
    offsets = rng.uniform(-20, 20, angles.shape)
    distance = np.abs(x * np.cos(angles) + y * np.sin(angles) - offsets)
    widths = np.zeros((n, LINE_SIDE, LINE_SIDE))
    for k, width in reversed(list(enumerate(WIDTHS))):  # les fins par-dessus
        widths[distance[:, k] <= width / 2] = width
    noisy = 0.5 * (widths > 0) + rng.normal(scale=0.25, size=widths.shape)
    return noisy[..., None].astype("float32"), widths


# %%
x, widths = drawn_lines(3, seed=0)
figures.show(
    figures.grid(
        [*(x[..., 0] + 0.25), *(widths / 8)],
        columns=3,
        row_labels=["image", "épaisseur"],
    ),
    alt="Trois images bruitées, traversées de quatre traits clairs de 1, 2, 4 et 8 pixels "
    "d'épaisseur ; dessous, les mêmes sans bruit, plus clairs quand ils sont plus épais.",
)

# %% [markdown]
# Le trait d'un pixel se devine à peine sous le bruit : un œil le suit parce qu'il est droit.
#
# Quatre profondeurs, avec et sans connexions directes.


# %%
def line_recalls(depth, connect, seed):
    """Rappel par épaisseur, au seuil 1/2, d'un U-Net entraîné à trouver les traits."""
    x, widths = drawn_lines(LINE_IMAGES, seed=[seed, 0])
    keras.utils.set_random_seed(seed)
    shape = (LINE_SIDE, LINE_SIDE, 1)
    model = unet(shape, filters=8, depth=depth, connect=connect, scores=True)
    fit(model, x, (widths > 0).astype("float32")[..., None], combined)
    x, widths = drawn_lines(runtime.pick(quick=4, full=200), seed=[seed, 1])
    found = probabilities(model, x) > 0.5
    return [found[widths == width].mean() for width in WIDTHS]


def lines_run():
    depths = runtime.pick(quick=(1,), full=(1, 2, 3, 4))
    return {
        name: {
            str(depth): [line_recalls(depth, connect, seed) for seed in SEEDS]
            for depth in depths
        }
        for name, connect in (("avec", concatenated), ("sans", ignored))
    }


thin = experiment("lines", lines_run)


# %%
def divisions(depth):
    return f"{depth} division{'s' * (int(depth) > 1)}"


for name, found in thin.values.items():
    fig = figures.curves(
        {divisions(depth): np.array(recalls) for depth, recalls in found.items()},
        x=WIDTHS,
        xlabel="épaisseur du trait (pixels)",
        ylabel="rappel",
        title=f"{name} connexions directes",
    )
    fig.axes[0].set(ylim=(0, 1.03))
    figures.show(
        fig,
        alt=f"Rappel de traits de 1, 2, 4 et 8 pixels, {name} connexions directes : "
        + " ; ".join(
            f"{divisions(depth)}, "
            + ", ".join(number(r) for r in np.mean(recalls, axis=0))
            for depth, recalls in found.items()
        )
        + ".",
    )

# %%
full = thin.full and thin.full["avec"]
finest = full and {
    depth: np.mean(recalls, axis=0)[0] for depth, recalls in full.items()
}
verdict("unet-limit-small", finest and finest["4"])
verdict("unet-limit-small-cause", finest and finest["1"] - finest["4"])

# %% [markdown]
# Avec les connexions directes, la profondeur ne coûte rien : un trait d'un pixel est retrouvé aussi
# bien après quatre divisions qu'après une. S'il en manque plus de 40 %, la profondeur n'y est pour
# rien : le bruit en cache une part, et l'entraînement est court. Sans elles, chaque division
# coûte : après quatre, un trait de deux pixels n'est plus retrouvé qu'au tiers, et il faut huit
# pixels d'épaisseur pour dépasser 90 %.
#
# Le document a donc raison sur le fait et se trompe de coupable : la perte due au
# sous-échantillonnage est réelle, mais, dans ces images, les connexions directes la réparent
# presque entièrement.
#
# ## Les deux autres limites
#
# ### « Une grande quantité de données annotées »
#
# L'article annonce le contraire : un réseau « entraîné de bout en bout à partir de très peu
# d'images ». Entraînons avec une, trois, neuf puis vingt et une coupes, avec et sans déformations,
# en autant de mises à jour.

# %%
COUNTS = runtime.pick(quick=(), full=(1, 3, 9, 21))


def spaced(slices, n):
    """`n` coupes, aussi éloignées les unes des autres que possible."""
    return slices[np.linspace(len(slices) - 1, 0, n).astype(int)]


def images_run():
    train, _, _ = split(0)
    return {
        name: {
            str(n): evaluate(
                trained(unet, spaced(train, n), augment=augment, filters=FILTERS)
            )
            for n in COUNTS
            if n < len(train) or not augment  # toutes, déformées : la référence
        }
        for name, augment in (("déformées", True), ("telles quelles", False))
    }


few = experiment("images", images_run)

# %%
shown = {name: dict(found) for name, found in few.values.items()}
if few.full:
    shown["déformées"]["21"] = reference.full
counts = [int(n) for n in shown["déformées"]]
for key, label_of in (("dice", "Dice des membranes"), ("rand", "erreur de Rand")):
    fig = figures.curves(
        {name: [m[key] for m in found.values()] for name, found in shown.items()},
        x=counts,
        xlabel="coupes d'apprentissage",
        ylabel=label_of,
    )
    fig.axes[0].set_xticks(counts, counts)
    fig.axes[0].set_ylim(0, 1 if key == "dice" else 0.2)
    fig.axes[0].legend(loc="lower right")
    figures.show(
        fig,
        alt=f"{label_of} avec {', '.join(map(str, counts))} coupes : "
        + " ; ".join(
            f"{name}, " + ", ".join(number(m[key]) for m in found.values())
            for name, found in shown.items()
        )
        + ".",
    )
verdict(
    "unet-limit-data",
    few.full and few.full["déformées"]["3"]["dice"] / reference.full["dice"],
)

# %% [markdown]
# **Une seule coupe suffit**, à la précision de nos mesures : le même Dice qu'avec vingt et une. Une
# coupe, il est vrai, c'est plus de deux cent mille pixels annotés. L'article a raison contre le
# document.
#
# Les déformations, elles, n'apportent rien ici ; avec neuf coupes, elles coûtent même trois points.
# En 400 mises à jour, aucun réseau n'a eu le temps d'apprendre ses coupes par cœur : elles rendent
# la tâche plus difficile sans avoir encore de surapprentissage à combattre. Quant à l'erreur de
# Rand, elle change plus d'un essai à l'autre que d'un nombre de coupes à l'autre.
#
# Ce que l'expérience ne dit pas : que deviendraient des entraînements dix fois plus longs (exercice
# 5), des annotations moins soignées, d'autres tissus. Toutes ces coupes viennent du même.
#
# ### « Profondeur limitée »
#
# « La structure initiale du U-Net peut être limitée pour des images très complexes ou de grande
# taille, nécessitant une augmentation de la profondeur du réseau. » Que voit une case du fond ?
# Après chaque division, une convolution porte deux fois plus loin.


# %%
def field(depth):
    """Champ réceptif du fond d'un U-Net : deux convolutions 3 × 3 par étage, puis on divise."""
    side, step = 1, 1
    for level in range(depth + 1):
        side += 2 * 2 * step  # deux convolutions
        if level < depth:
            side += step  # la division par deux
            step *= 2
    return side


# %%
names = {divisions(depth): depth for depth in (1, 2, 3)}
shown = {names[name]: m for name, m in variants.values.items() if name in names}
shown |= {4: reference.values, DEEPER: deeper.values}
networks = {depth: unet(filters=16, depth=depth) for depth in shown}
verdict("unet-scales", [field(depth) for depth in range(5)])
verdict("unet-context", field(4) >= 128 and networks[4].output_shape[1] == 128)
rows = [
    (
        depth,
        field(depth),
        number(networks[depth].count_params(), 0),
        *(number(m[key], 3) for key in ("dice", "boundary", "rand")),
    )
    for depth, m in shown.items()
]
names = ("Dice", "F1", "erreur de Rand")
runtime.show_table(("divisions", "champ réceptif", "paramètres", *names), rows)
full = deeper.full and reference.full
verdict("unet-limit-depth", full and deeper.full["dice"] - reference.full["dice"])

# %% [markdown]
# D'une à quatre divisions, tout progresse, et l'erreur de Rand diminue de moitié. La cinquième
# n'apporte rien au Dice ni aux contours ; l'erreur de Rand, seule, y gagne deux centièmes, moins
# que son écart d'un bloc à l'autre. Une case du fond voit déjà 140 pixels, et une membrane se
# reconnaît de plus près. Pour des objets de plusieurs centaines de pixels, la réponse serait
# peut-être autre : ces coupes n'en disent rien. Chaque division multiplie aussi les paramètres par
# quatre.
#
# ## La famille
#
# ### Attention U-Net
#
# [Attention U-Net](https://arxiv.org/abs/1804.03999) garde le U et filtre ce que les connexions
# directes transportent. Une ***porte d'attention*** donne à chaque pixel un nombre entre 0 et 1, à
# partir de la carte transportée $s$ et de celle qui remonte $g$, et multiplie $s$ par lui :
#
# $$\alpha = \sigma\big(\psi \cdot \mathrm{ReLU}(W_s\, s + W_g\, g)\big),$$
#
# $$s' = \alpha\, s.$$
#
# Les trois produits sont des convolutions 1 × 1, avec un biais que la formule omet. Notre `unet`
# n'a pas à changer : la porte n'est qu'une autre façon de connecter. (Dans l'article, $g$ est la
# carte d'avant le doublement, et la porte est interpolée ; nous prenons la variante courante, à la
# même taille.)


# %%
def attention_gate(skip, x):
    """Une porte par pixel, entre 0 et 1, qui multiplie la carte de l'encodeur."""
    filters = skip.shape[-1] // 2
    of_skip, of_x = (layers.Conv2D(filters, 1)(source) for source in (skip, x))
    both = layers.ReLU()(layers.Add()([of_skip, of_x]))
    gate = layers.Conv2D(1, 1, activation="sigmoid", name=f"gate_{filters}")(both)
    return layers.Multiply()([skip, gate])


def gated(skip, x):
    """La connexion directe d'Attention U-Net."""
    return concatenated(attention_gate(skip, x), x)


def attention_unet(input_shape=(128, 128, 1), classes=1, filters=64, **options):
    return unet(input_shape, classes, filters, connect=gated, **options)


def gate_size(channels):
    """Paramètres d'une porte entre deux cartes de ce nombre de canaux."""
    skip, x = (keras.Input((8, 8, channels)) for _ in range(2))
    return keras.Model([skip, x], attention_gate(skip, x)).count_params()


extra = sum(gate_size(channels) for channels in (64, 128, 256, 512))
print(f"{number(extra, 0)} paramètres de plus pour quatre portes")

# %% [markdown]
# ### DeepLab et les convolutions à trous
#
# Une ***convolution à trous*** (*atrous*, ou dilatée) écarte ses neuf poids : de deux pixels, de
# quatre… Elle voit plus loin sans un poids de plus, et sans diviser la carte. En une dimension, le
# filtre $(1, 1, 1)$ au taux 2 additionne trois valeurs, prises une sur deux.

# %%
signal = np.arange(8.0)[None, :, None]
atrous = layers.Conv1D(1, 3, dilation_rate=2, kernel_initializer="ones")
found = ops.convert_to_numpy(atrous(signal))[0, :, 0].astype(int)
print(", ".join(map(str, found)), ": 0 + 2 + 4, puis 1 + 3 + 5…")

# %% [markdown]
# Mesurons le champ réceptif : les pixels par rapport auxquels le gradient de la case centrale n'est
# pas nul. Tous les poids valent 1, pour que rien ne s'annule.


# %%
def conv_stack(rates):
    """Des convolutions 3 × 3 à la suite, chacune à son taux."""
    x = inputs = keras.Input((63, 63, 1))
    for rate in rates:
        x = layers.Conv2D(
            1, 3, padding="same", dilation_rate=rate, kernel_initializer="ones"
        )(x)
    return keras.Model(inputs, x)


def measured_field(model):
    """Côté du plus petit carré qui contient les pixels dont dépend la case centrale."""
    _, slope = value_and_grad(
        lambda x: model(x)[0, 31, 31, 0], np.ones((1, 63, 63, 1), "float32")
    )
    return int(np.ptp(np.flatnonzero(slope[0].any(axis=(0, 2)))) + 1)


stacks = {"1, 1, 1": (1, 1, 1), "1, 2, 4": (1, 2, 4), "2, 4, 8": (2, 4, 8)}
rows = []
for name, rates in stacks.items():
    model = conv_stack(rates)
    rows += [(name, model.count_params(), measured_field(model), 1 + 2 * sum(rates))]
header = ("taux", "paramètres", "champ réceptif mesuré", "1 + 2 × somme des taux")
runtime.show_table(header, rows)
verdict("unet-deeplab-context", rows[1][2] - rows[0][2])

# %% [markdown]
# Mêmes poids, un champ deux fois plus large. Aux taux 2, 4 et 8, tous pairs, un pixel sur deux
# seulement compte : d'où le 1 qui commence d'ordinaire la suite.
#
# DeepLab ([v3](https://arxiv.org/abs/1706.05587)) termine son encodeur par l'***ASPP*** (*atrous
# spatial pyramid pooling*) : plusieurs taux côte à côte, plus une moyenne de toute la carte. Il n'a
# pas de décodeur : une interpolation ramène la réponse à la taille de l'image.


# %%
def aspp(x, filters, rates=(6, 12, 18)):
    """Convolution 1 × 1, convolutions à trous et moyenne globale, puis un mélange."""
    options = {
        "padding": "same",
        "activation": "relu",
        "kernel_initializer": "he_normal",
    }
    branches = [layers.Conv2D(filters, 1, **options)(x)]
    branches += [
        layers.Conv2D(filters, 3, dilation_rate=rate, **options)(x) for rate in rates
    ]
    pooled = layers.GlobalAveragePooling2D(keepdims=True)(x)
    pooled = layers.Conv2D(filters, 1, **options)(pooled)
    branches += [layers.UpSampling2D(x.shape[1:3])(pooled)]
    return layers.Conv2D(filters, 1, **options)(layers.Concatenate()(branches))


def deeplab(input_shape=(128, 128, 1), classes=1, filters=16, scores=False):
    """Un petit DeepLab : deux divisions par deux, des taux 2 et 4, l'ASPP."""
    x = inputs = keras.Input(input_shape)
    for level in range(2):
        x, _ = down_block(x, filters * 2**level)
    for rate in (1, 2, 4):
        x = layers.Conv2D(
            4 * filters, 3, padding="same", dilation_rate=rate, activation="relu"
        )(x)
    x = aspp(x, 4 * filters)
    x = layers.Conv2D(classes, 1)(x)
    x = layers.UpSampling2D(4, interpolation="bilinear")(x)
    if not scores:
        x = layers.Activation("sigmoid" if classes == 1 else "softmax")(x)
    return keras.Model(inputs, x, name="deeplab")


# %% [markdown]
# Les deux réseaux apprennent sur les mêmes tuiles que U-Net.

# %%
FAMILY = {"Attention U-Net": attention_unet, "DeepLab": deeplab}


def gates(model, x):
    """Les portes d'un Attention U-Net pour une tuile, de la plus fine à la plus grossière."""
    found = [layer.output for layer in model.layers if layer.name.startswith("gate")]
    return keras.Model(model.input, found[::-1]).predict(x, verbose=0)


def family_run():
    train, _, test = split(0)
    found = {}
    for name, builder in FAMILY.items():
        model = trained(builder, train, filters=FILTERS)
        found[name] = evaluate(model) | {"parameters": model.count_params()}
        if builder is attention_unet:
            x, y = tiles(test, runtime.pick(quick=2, full=16), seed=1, augment=False)
            fine, coarse, *_ = gates(model, x)
            found["on"], found["off"] = fine[y == 1].mean(), fine[y == 0].mean()
            views = {"tile": x[0], "fine": fine[0], "coarse": coarse[0]}
            found["views"] = {key: digits(view[..., 0]) for key, view in views.items()}
    return found


family = experiment("family", family_run)

# %%
shown = family.values
views = [picture(rows) for rows in shown["views"].values()]
figures.show(
    figures.grid(views, ["tuile de test", "porte fine", "porte suivante"], columns=3),
    alt="Une tuile de test et deux portes d'attention, plus claires là où la carte de l'encodeur "
    f"passe : la porte fine vaut {number(shown['on'])} en moyenne sur les membranes, "
    f"{number(shown['off'])} ailleurs.",
)

# %%
shown = {"U-Net": reference.values} | {name: family.values[name] for name in FAMILY}
for name, measures in shown.items():
    print(f"{name} : {number(measures['parameters'], 0)} paramètres")
compare(shown)
full = family.full
verdict("unet-attention", full and full["on"] - full["off"])
verdict(
    "unet-localisation",
    full and reference.full["boundary"] - full["DeepLab"]["boundary"],
)

# %% [markdown]
# Les trois réseaux se valent presque. Attention U-Net ne gagne rien de mesurable. Sa porte la plus
# fine distingue bien les membranes du reste, mais **à l'envers** : elle est plus fermée sur elles.
# Une porte n'est qu'une multiplication parmi d'autres, et ce qu'elle laisse passer n'est pas une
# explication. (Nos membranes sont partout dans l'image ; dans l'article, il fallait trouver un
# pancréas.)
#
# DeepLab, avec huit fois moins de paramètres, perd un point de Dice et trois de F1 des contours :
# il n'a que des cartes de 32 × 32 à agrandir. Sur des cartes si petites, beaucoup des poids de taux
# 12 et 18 tombent dans le remplissage, défaut que l'article signale. Tout cela avec une graine :
# entre les deux U-Net, l'ordre ne prouve rien.
#
# ### U-Net en trois dimensions
#
# Un volume (IRM, scanner) est une pile de coupes. [U-Net 3D](https://arxiv.org/abs/1606.06650)
# remplace chaque opération par celle à trois dimensions : filtres 3 × 3 × 3, division et doublement
# dans les trois directions. Il n'a que trois divisions, et double les canaux **avant** chacune.


# %%
def double_conv_3d(x, first, second, padding):
    for filters in (first, second):
        x = layers.Conv3D(filters, 3, padding=padding, activation="relu")(x)
    return x


def cropped_3d(skip, x):
    margins = [(a - b) // 2 for a, b in zip(skip.shape[1:4], x.shape[1:4])]
    return layers.Concatenate()([x, layers.Cropping3D(margins)(skip)])


# %%
def unet_3d(
    input_shape=(132, 132, 116, 3),
    classes=3,
    filters=32,
    depth=3,
    padding="valid",
    scores=False,
):
    """U-Net 3D, par défaut celui de l'article : 132 × 132 × 116 -> 44 × 44 × 28."""
    check_sides(input_shape, depth, lost=0 if padding == "same" else 4)
    x = inputs = keras.Input(input_shape)
    skips = []
    for level in range(depth):
        width = filters * 2**level
        x = double_conv_3d(x, width, 2 * width, padding)
        skips.append(x)
        x = layers.MaxPooling3D(2)(x)
    width = filters * 2**depth
    x = double_conv_3d(x, width, 2 * width, padding)
    for level in reversed(range(depth)):
        width = filters * 2 ** (level + 1)
        x = layers.Conv3DTranspose(2 * width, 2, strides=2, use_bias=False)(x)
        x = double_conv_3d(cropped_3d(skips[level], x), width, width, padding)
    activation = None if scores else "sigmoid" if classes == 1 else "softmax"
    return keras.Model(inputs, layers.Conv3D(classes, 1, activation=activation)(x))


# %%
model = unet_3d()
print(described(model))
del model

# %% [markdown]
# L'article imprime 19 069 955 paramètres : les voilà (sans les normalisations par lots, qu'il
# ajoute et ne compte pas).
#
# À quoi sert la troisième dimension ? Dessinons des **tubes** (à trouver) et des **boules** (à
# laisser). Sur une coupe, un tube coupé en travers et une boule sont le même disque.

# %%
VOLUME_SIDE = runtime.pick(quick=16, full=24)
VOLUMES = runtime.pick(quick=1, full=400)
SKIPPED = 4  # une coupe sur quatre : déjà six fois plus de pas que le réseau 3D


def drawn_volumes(n, seed):
    """Volumes bruités (n, s, s, s, 1) et le masque de leurs tubes, de même forme."""
    rng = np.random.default_rng(seed)
    grid = np.mgrid[:VOLUME_SIDE, :VOLUME_SIDE, :VOLUME_SIDE] + 0.5
    x, y = [], []
    for _ in range(n):
        tubes, balls = np.zeros((2, *grid.shape[1:]), bool)
        for k in range(2 + 10):  # deux tubes, dix boules
            away = grid - rng.uniform(3, VOLUME_SIDE - 3, (3, 1, 1, 1))
            # presque perpendiculaire aux coupes
            along = rng.normal(size=3) * (4, 1, 1)
            along /= np.linalg.norm(along)
            distance = np.linalg.norm(away, axis=0)
            if k < 2:
                distance = np.sqrt(distance**2 - np.tensordot(along, away, 1) ** 2)
                tubes |= distance < rng.uniform(2, 3)
            else:
                balls |= distance < rng.uniform(2.5, 4)
        x.append((tubes | balls) + rng.normal(scale=0.3, size=tubes.shape))
        y.append(tubes)
    return np.stack(x)[..., None].astype("float32"), np.stack(y)[..., None].astype(
        "float32"
    )


# %%
x, y = drawn_volumes(1, seed=3)
middle = VOLUME_SIDE // 2
pick = range(middle - 3, middle + 3, 2)
figures.show(
    figures.grid(
        [*(0.2 + 0.6 * x[0, pick, ..., 0]), *y[0, pick, ..., 0]],
        [f"coupe {k}" for k in pick] + [""] * 3,
        columns=3,
        row_labels=["volume", "tubes"],
    ),
    alt="Trois coupes voisines d'un volume bruité, pleines de disques et de bandes clairs ; "
    "dessous, les tubes seuls : certains disques en sont, d'autres non.",
)

# %% [markdown]
# Sur une coupe, rien ne distingue les deux sortes de disques ; d'une coupe à l'autre, un tube
# continue, une boule disparaît.
#
# Deux réseaux de même profondeur, aux mêmes canaux à chaque étage : l'un reçoit le volume, l'autre
# ses coupes, une par une. (Le premier a plus de poids, le second six fois plus de mises à jour.)


# %%
def volume_run():
    found = {"3D": [], "coupe par coupe": []}
    shape = (VOLUME_SIDE, VOLUME_SIDE, VOLUME_SIDE, 1)
    for seed in SEEDS:
        x, y = drawn_volumes(VOLUMES, [seed, 0])
        x_test, y_test = drawn_volumes(runtime.pick(quick=1, full=30), [seed, 1])

        keras.utils.set_random_seed(seed)
        model = unet_3d(shape, 1, filters=4, depth=2, padding="same", scores=True)
        fit(model, x, y, combined, rate=4e-3)
        z = model.predict(x_test, batch_size=2, verbose=0)
        found["3D"].append(dice(y_test > 0.5, z > 0))

        keras.utils.set_random_seed(seed)
        model = unet(shape[1:], filters=8, depth=2, scores=True)
        slices = [a.reshape(-1, *shape[1:])[::SKIPPED] for a in (x, y)]
        fit(model, *slices, combined, rate=4e-3)
        z = model.predict(x_test.reshape(-1, *shape[1:]), verbose=0)
        found["coupe par coupe"].append(dice(y_test > 0.5, z.reshape(y_test.shape) > 0))
    return found


volume = experiment("volume", volume_run)

# %%
found = volume.values
rows = [(name, spread(v), *(number(one, 3) for one in v)) for name, v in found.items()]
header = (
    "Dice des tubes",
    "moyenne",
    *(f"graine {k}" for k in range(len(found["3D"]))),
)
runtime.show_table(header, rows)
full = volume.full
verdict("unet-3d", full and np.mean(full["3D"]) - np.mean(full["coupe par coupe"]))

# %% [markdown]
# Le réseau 3D gagne six points en moyenne, mais perd de peu avec une graine sur trois : en cent
# mises à jour, il n'a pas fini d'apprendre, quand l'autre en a fait six cents.
#
# ### Mask R-CNN : compter les objets
#
# Une carte de classes ne dit pas combien il y a d'objets : deux disques qui se touchent n'y font
# qu'une tache. La ***segmentation d'instances*** demande un masque par objet. [Mask
# R-CNN](https://arxiv.org/abs/1703.06870) la fait en deux étages : le premier propose des boîtes où
# il y a **quelque chose** ; le second, pour chaque boîte, dit **quoi**, ajuste la boîte, et dessine
# le masque. Construisons-le en petit.
#
# C'est le passage le plus long du chapitre. Pour n'en garder que l'idée, lisez « Des boîtes » et
# « RoIAlign », puis allez au tableau qui suit « Le jugement ».

# %%
SHAPE_SIDE, STRIDE = 64, 4  # côté des images ; pixels par case de la carte
SHAPE_CLASSES = ("fond", "disque", "carré")
DISC, SQUARE = 1, 2
SHAPE_IMAGES = runtime.pick(quick=4, full=1_000)
SHAPE_TESTS = runtime.pick(quick=2, full=200)
SHAPE_EPOCHS = runtime.pick(quick=1, full=8)
SHAPE_BATCH = 16

# %% [markdown]
# Les images d'abord. Les deux premiers objets de chacune ont la même classe et le même gris, et se
# touchent : rien, dans un pixel, ne dit où finit l'un et où commence l'autre. Le code qui les
# dessine est replié : il n'apprend rien sur les réseaux.


# %%
class Shapes(NamedTuple):
    """Images dessinées et ce qu'il faut y trouver ; les objets 0 et 1 se touchent."""

    images: np.ndarray  # float32 (n, côté, côté, 1), de 0 à 1
    semantic: np.ndarray  # classe de chaque pixel, int32 (n, côté, côté)
    masks: list  # n tableaux bool (k, côté, côté), sans recouvrement
    boxes: list  # n tableaux float32 (k, 4) : y0, x0, y1, x1, en pixels
    classes: list  # n tableaux int32 (k,)


class Shape(NamedTuple):
    """Une forme à dessiner : sa classe, le coin haut gauche et le côté de sa boîte."""

    label: int
    y: float
    x: float
    size: int


# %% tags=["hide-input"] cellView="form"
# @title Placer les formes : la seconde contre la première, les autres à l'écart
def fits(form, side):
    return min(form.y, form.x) >= 1 and max(form.y, form.x) + form.size < side


def apart(a, b, gap=3):
    """Les boîtes de deux formes sont à plus de `gap` pixels l'une de l'autre."""
    y = max(a.y, b.y) - min(a.y + a.size, b.y + b.size)
    x = max(a.x, b.x) - min(a.x + a.size, b.x + b.size)
    return max(y, x) > gap


def free(rng, label, side):
    """Une forme de 12 à 24 pixels, n'importe où dans l'image."""
    size = int(rng.integers(12, 25))
    y, x = rng.integers(1, side - size, 2)
    return Shape(label, int(y), int(x), size)


def neighbour(rng, first):
    """Une forme de même classe, qui touche la première."""
    size = int(rng.integers(12, 25))
    if first.label == DISC:  # à un pixel de moins que la somme des rayons
        angle, reach = rng.uniform(0, 2 * np.pi), (first.size + size) / 2 - 1
        middle = (first.size - size) / 2
        y, x = reach * np.sin(angle) + middle, reach * np.cos(angle) + middle
    else:  # côte à côte, au moins 5 pixels de frontière
        slide = int(rng.integers(5 - size, first.size - 4))
        step = first.size if rng.random() < 0.5 else -size
        y, x = (slide, step) if rng.random() < 0.5 else (step, slide)
    return Shape(first.label, first.y + y, first.x + x, size)


def scene(rng, side):
    """De 2 à 4 formes : une paire qui se touche, puis d'autres, à l'écart."""
    first, second = free(rng, int(rng.integers(1, 3)), side), None
    while second is None or not fits(second, side):
        first = free(rng, first.label, side)
        second = neighbour(rng, first)
    forms, wanted = [first, second], rng.integers(2, 5)
    for _ in range(40):
        other = free(rng, int(rng.integers(1, 3)), side)
        if len(forms) < wanted and all(apart(other, form) for form in forms):
            forms.append(other)
    return forms


# %% tags=["hide-input"] cellView="form"
# @title Peindre les formes : masques, boîtes, images
def silhouettes(forms, side):
    """Masques bool (k, côté, côté) ; une forme cache celles qui la précèdent."""
    category, y, x, size = np.array(forms, float).T[:, :, None, None]
    rows, columns = np.mgrid[:side, :side] + 0.5  # centres des pixels
    rows = 2 * (rows - y) / size - 1  # de -1 à 1 d'un bord de la forme à l'autre
    columns = 2 * (columns - x) / size - 1
    disc = rows**2 + columns**2 < 1
    square = np.maximum(abs(rows), abs(columns)) < 1
    masks = np.where(category == DISC, disc, square)
    hidden = np.cumsum(masks[::-1], axis=0)[::-1] - masks
    return masks & (hidden == 0)


def tight_box(mask):
    """Plus petite boîte y0, x0, y1, x1 autour d'un masque."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return np.array([rows[0], columns[0], rows[-1] + 1, columns[-1] + 1], "float32")


def drawn_shapes(n, side=SHAPE_SIDE, seed=0):
    """`n` images de formes. Les deux qui se touchent ont le même gris."""
    rng = np.random.default_rng(seed)
    images = np.empty((n, side, side), "float32")
    semantic = np.empty((n, side, side), "int32")
    masks, boxes, classes = [], [], []
    for i in range(n):
        forms = scene(rng, side)
        seen = silhouettes(forms, side)
        labels = np.array([form.label for form in forms], "int32")
        greys = rng.uniform(0.5, 0.9, len(forms))
        greys[1] = greys[0]
        images[i] = rng.uniform(0.1, 0.3) * ~seen.any(0) + np.tensordot(greys, seen, 1)
        semantic[i] = np.tensordot(labels, seen, 1)
        masks.append(seen)
        boxes.append(np.stack([tight_box(mask) for mask in seen]))
        classes.append(labels)
    images += rng.normal(0, 0.05, images.shape)
    return Shapes(images.clip(0, 1)[..., None], semantic, masks, boxes, classes)


# %%
drawn = drawn_shapes(4, seed=4)
found = [len(masks) for masks in drawn.masks]
figures.show(
    figures.grid(
        [*drawn.images, *(drawn.semantic / 2)],
        columns=4,
        row_labels=["image", "classes"],
    ),
    alt=f"Quatre images de disques et de carrés gris, {', '.join(map(str, found))} objets ; dans "
    "chacune, deux formes de même gris se touchent. Dessous, la classe de chaque pixel.",
)

# %% [markdown]
# #### Des boîtes
#
# Le réseau ne rend pas des coordonnées absolues. Il part d'***ancres***, des boîtes de référence
# posées sur chaque case de sa carte, et dit de combien les déplacer et les étirer.


# %%
def anchors(grid, stride, sides, ratios=(1.0,)):
    """Boîtes de référence, centrées sur les cases d'une carte : float32 (grid² a, 4).

    À chaque case, une par côté et par rapport hauteur / largeur, à aire constante.
    """
    centre = (np.arange(grid) + 0.5) * stride
    y, x, side, ratio = np.meshgrid(centre, centre, sides, ratios, indexing="ij")
    height, width = side * np.sqrt(ratio), side / np.sqrt(ratio)
    corners = [y - height / 2, x - width / 2, y + height / 2, x + width / 2]
    return np.stack(corners, axis=-1).reshape(-1, 4).astype("float32")


GRID = SHAPE_SIDE // STRIDE
ANCHORS = anchors(GRID, STRIDE, sides=(14, 22))  # nos formes font 12 à 24 pixels
print(f"{len(ANCHORS)} ancres, deux par case d'une carte de {GRID} × {GRID}")

# %% [markdown]
# Une ancre qui recouvre assez un objet (une IoU d'au moins 1/2 ; 0,7 dans l'article) doit le
# trouver. Les écarts sont ceux de l'article : le centre, en tailles d'ancre ; le logarithme du
# rapport des tailles.


# %%
def box_iou(a, b):
    """Intersection sur union de toutes les paires de boîtes : (n, 4), (m, 4) -> (n, m)."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    common = np.prod(np.maximum(high - low, 0), axis=-1)
    area_a, area_b = (np.prod(box[:, 2:] - box[:, :2], axis=-1) for box in (a, b))
    return common / (area_a[:, None] + area_b - common)


# %%
def encode(boxes, anchors):
    """Écarts de boîtes à leurs ancres : centres en tailles d'ancre, logarithmes de tailles."""
    size, anchor_size = (
        boxes[..., 2:] - boxes[..., :2],
        anchors[..., 2:] - anchors[..., :2],
    )
    shift = (boxes[..., 2:] + boxes[..., :2] - anchors[..., 2:] - anchors[..., :2]) / 2
    return np.concatenate([shift / anchor_size, np.log(size / anchor_size)], axis=-1)


def decode(deltas, anchors):
    """Inverse de `encode` : les boîtes, de leurs écarts aux ancres."""
    anchor_size = anchors[..., 2:] - anchors[..., :2]
    centre = anchors[..., :2] + anchor_size / 2 + deltas[..., :2] * anchor_size
    half = anchor_size * np.exp(deltas[..., 2:]) / 2
    return np.concatenate([centre - half, centre + half], axis=-1)


# %% [markdown]
# Plusieurs ancres trouvent le même objet. La ***suppression des non-maxima*** garde la meilleure
# boîte, élimine celles qui la recouvrent trop, et recommence.


# %%
def nms(boxes, scores, threshold):
    """Suppression des non-maxima : indices gardés, du meilleur score au moins bon.

    Gloutonne : la meilleure boîte restante élimine celles qui la recouvrent trop.
    """
    overlaps = box_iou(boxes, boxes)
    order, kept = np.argsort(-np.asarray(scores), kind="stable"), []
    while len(order):
        best, *_ = order
        kept.append(best)
        order = order[overlaps[best, order] <= threshold]
        order = order[order != best]
    return np.array(kept, int)


# %%
three = np.array([[0, 0, 10, 10], [0, 1, 10, 11], [0, 20, 10, 30]])
assert np.isclose(box_iou(three, three)[0, 1], 90 / 110)
assert np.allclose(decode(encode(three, three[::-1]), three[::-1]), three)
kept = nms(three, scores=[0.8, 0.9, 0.5], threshold=0.5)
print("gardées :", " et ".join(f"boîte {k + 1}" for k in kept))

# %% [markdown]
# La deuxième boîte élimine la première, qui la recouvre à 90/110.
#
# #### RoIAlign
#
# Le second étage regarde chaque boîte à travers une grille de taille fixe, ici 7 × 7, prise dans la
# carte de caractéristiques. Une boîte ne tombe presque jamais sur des cases entières. L'arrondir,
# comme le faisait RoIPool, décale tout d'un pixel ou deux ; ***RoIAlign*** lit la carte **entre**
# les cases, par interpolation bilinéaire.
#
# En une dimension, la valeur au point $p$ est $\sum_h f_h \max(0, 1 - |p - h|)$ : cette « fonction
# chapeau » n'est pas nulle sur les deux cases voisines, et elles seules comptent. En deux, on
# interpole les lignes, puis les colonnes. (L'article moyenne quatre points par case de la grille ;
# nous n'en prenons qu'un, en son centre.)


# %%
def bilinear(start, stop, size, length):
    """Poids d'interpolation de `size` points, centres de bacs égaux de `start` à `stop`.

    start, stop : (...), en cases ; la case h est centrée en h + 1/2. Rend (..., size, length) :
    la fonction chapeau max(0, 1 - |point - h|), non nulle sur les deux cases voisines.
    """
    steps = (ops.arange(size, dtype="float32") + 0.5) / size
    points = start[..., None] + steps * (stop - start)[..., None] - 0.5
    points = ops.clip(points, 0, length - 1)  # au bord de la carte, la valeur du bord
    cells = ops.arange(length, dtype="float32")
    return ops.maximum(0.0, 1.0 - ops.abs(points[..., None] - cells))


def roi_align(features, boxes, size, stride):
    """Extrait de chaque boîte une grille size x size : (b, h, w, c), (b, k, 4) -> (b, k, s, s, c).

    Boîtes en pixels, jamais arrondies ; un point par bac, en son centre.
    """
    features, boxes = ops.convert_to_tensor(features), ops.convert_to_tensor(boxes)
    height, width = features.shape[1:3]
    y0, x0, y1, x1 = ops.unstack(boxes / stride, axis=-1)
    rows = bilinear(y0, y1, size, height)
    columns = bilinear(x0, x1, size, width)
    lines = ops.einsum("bkih,bhwc->bkiwc", rows, features)
    return ops.einsum("bkjw,bkiwc->bkijc", columns, lines)


# %% [markdown]
# La même chose à la main, point par point, avec les quatre cases voisines.


# %%
def interpolate(image, y, x):
    """Valeur d'une image (h, w, c) en un point, de ses quatre voisins (centres entiers)."""
    y, x = np.clip(y, 0, image.shape[0] - 1), np.clip(x, 0, image.shape[1] - 1)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, image.shape[0] - 1), min(left + 1, image.shape[1] - 1)
    down, across = y - top, x - left
    above = (1 - across) * image[top, left] + across * image[top, right]
    below = (1 - across) * image[bottom, left] + across * image[bottom, right]
    return (1 - down) * above + down * below


def roi_align_by_hand(features, boxes, size, stride):
    """La même chose en boucles, point par point."""
    crops = np.zeros((*boxes.shape[:2], size, size, features.shape[-1]), "float32")
    for b, k, i, j in np.ndindex(crops.shape[:4]):
        y0, x0, y1, x1 = boxes[b, k] / stride
        y = y0 + (i + 0.5) * (y1 - y0) / size - 0.5
        x = x0 + (j + 0.5) * (x1 - x0) / size - 0.5
        crops[b, k, i, j] = interpolate(features[b], y, x)
    return crops


# %%
rng = np.random.default_rng(0)
features = rng.normal(size=(2, GRID, GRID, 3)).astype("float32")
low = rng.uniform(-5, 50, (2, 6, 2))
boxes = np.concatenate([low, low + rng.uniform(5, 30, low.shape)], axis=-1).astype(
    "float32"
)
ours = ops.convert_to_numpy(roi_align(features, boxes, 7, STRIDE))
gap = np.abs(ours - roi_align_by_hand(features, boxes, 7, STRIDE)).max()
assert gap < 1e-4
print(
    "douze boîtes, dont certaines débordent de l'image : les deux calculs s'accordent"
)

# %% [markdown]
# Que coûte l'arrondi ? Sur une carte où chaque case vaut son abscisse, on sait ce qu'il faut lire.


# %%
def roi_pool(features, boxes, size, stride, pool=np.max):
    """RoIPool : boîte arrondie à des cases entières, bacs arrondis, maximum de chacun."""
    crops = np.zeros((*boxes.shape[:2], size, size, features.shape[-1]), "float32")
    for b, k, i, j in np.ndindex(crops.shape[:4]):
        y0, x0, y1, x1 = np.floor(boxes[b, k] / stride + 0.5).astype(int)
        height, width = max(y1 - y0, 1), max(x1 - x0, 1)
        top, bottom = y0 + i * height // size, y0 - (-(i + 1) * height // size)
        left, right = x0 + j * width // size, x0 - (-(j + 1) * width // size)
        crops[b, k, i, j] = pool(features[b, top:bottom, left:right], axis=(0, 1))
    return crops


# %%
def ramp(grid, stride):
    """Carte dont chaque case vaut l'abscisse de son centre, en pixels : (1, grid, grid, 1)."""
    x = (np.arange(grid, dtype="float32") + 0.5) * stride
    return np.broadcast_to(x[:, None], (1, grid, grid, 1))


def ramp_errors(size=4, count=50, seed=0):
    """Erreur moyenne, en pixels, de RoIAlign et de RoIPool sur une rampe.

    RoIPool y prend des moyennes, sans erreur sur une rampe : il ne reste que les arrondis.
    """
    rng = np.random.default_rng(seed)
    low = rng.uniform(4, 28, (1, count, 2))
    boxes = np.concatenate([low, low + rng.uniform(16, 30, low.shape)], axis=-1)
    boxes = boxes.astype("float32")
    x0, x1 = boxes[..., 1:2], boxes[..., 3:4]
    centres = x0 + (np.arange(size) + 0.5) / size * (x1 - x0)
    exact = centres[:, :, None, :, None]
    features = ramp(GRID, STRIDE)
    aligned = ops.convert_to_numpy(roi_align(features, boxes, size, STRIDE))
    pooled = roi_pool(features, boxes, size, STRIDE, pool=np.mean)
    return float(abs(aligned - exact).mean()), float(abs(pooled - exact).mean())


aligned, pooled = ramp_errors()
print(f"RoIAlign : {number(aligned)} pixel d'erreur ; RoIPool : {number(pooled)}")

# %% [markdown]
# #### Premier étage : proposer
#
# Quatre convolutions donnent une carte de 16 × 16. Le ***réseau de propositions*** (*RPN*) y met,
# pour chaque ancre, un score (« il y a un objet ») et quatre écarts.


# %%
def relu_conv(filters, kernel=3, **options):
    return layers.Conv2D(
        filters,
        kernel,
        padding="same",
        activation="relu",
        kernel_initializer="he_normal",
        **options,
    )


def backbone():
    """Quatre convolutions, deux réductions : une carte de pas 4, 64 canaux."""
    return keras.Sequential(
        [
            keras.Input((SHAPE_SIDE, SHAPE_SIDE, 1)),
            relu_conv(16),
            layers.MaxPooling2D(),
            relu_conv(32),
            layers.MaxPooling2D(),
            relu_conv(64),
            relu_conv(64),
        ],
        name="backbone",
    )


# %%
def rpn(backbone):
    """À chaque ancre, un score (« il y a un objet ») et quatre écarts."""
    images = keras.Input((SHAPE_SIDE, SHAPE_SIDE, 1))
    per_cell = len(ANCHORS) // GRID**2
    x = relu_conv(64)(backbone(images))
    objectness = layers.Conv2D(per_cell, 1)(x)
    deltas = layers.Conv2D(4 * per_cell, 1)(x)
    outputs = {
        "objectness": layers.Reshape((-1,))(objectness),
        "deltas": layers.Reshape((-1, 4))(deltas),
    }
    return keras.Model(images, outputs, name="rpn")


# %% [markdown]
# Les cibles : une ancre doit dire oui, non, ou n'est pas comptée (IoU entre 0,3 et 0,5). Les écarts
# ne sont jugés que là où il y a un objet : une cinquième colonne le dit à la perte.


# %%
def assign(boxes):
    """Pour chaque ancre : 1 (objet), 0 (fond) ou -1 (ignorée), et l'objet le plus proche."""
    overlaps = box_iou(ANCHORS, boxes)
    best, nearest = overlaps.max(axis=1), overlaps.argmax(axis=1)
    labels = np.where(best >= 0.5, 1, np.where(best < 0.3, 0, -1))
    favourite = overlaps.argmax(axis=0)  # sa meilleure ancre, même sous 0,5
    labels[favourite], nearest[favourite] = 1, np.arange(len(boxes))
    return labels, nearest


def rpn_targets(boxes):
    """Cibles du RPN ; une cinquième colonne dit quels écarts comptent."""
    objectness, deltas = [], []
    for instance_boxes in boxes:
        labels, nearest = assign(instance_boxes)
        objectness.append(labels)
        deltas.append(marked(encode(instance_boxes[nearest], ANCHORS), labels == 1))
    return {
        "objectness": np.array(objectness, "float32"),
        "deltas": np.array(deltas, "float32"),
    }


def marked(deltas, positive):
    return np.concatenate([deltas, positive[..., None]], axis=-1)


# %% [markdown]
# La perte des écarts est ***L1 lissée*** : carrée près de zéro, valeur absolue au-delà, pour qu'une
# boîte très fausse ne domine pas les autres.


# %%
BETA = 0.1  # avec 1, des écarts déjà petits n'auraient presque plus de gradient


def mean_where(values, kept):
    """Moyenne des valeurs retenues (0 s'il n'y en a pas)."""
    kept = ops.cast(kept, values.dtype)
    return ops.sum(values * kept) / ops.maximum(ops.sum(kept), 1.0)


def objectness_loss(y_true, scores):
    """Les objets pour moitié, le fond pour moitié ; les ancres à -1 ne comptent pas."""
    values = cross_entropy(y_true, scores)
    return (mean_where(values, y_true == 1) + mean_where(values, y_true == 0)) / 2


def smooth_l1(error):
    """Carrée près de zéro, valeur absolue au-delà de BETA."""
    error = ops.abs(error)
    return ops.where(error < BETA, error**2 / (2 * BETA), error - BETA / 2)


def deltas_loss(y_true, y_pred):
    """Perte L1 lissée des écarts, pour les boîtes d'objets seulement."""
    values = ops.sum(smooth_l1(y_true[..., :4] - y_pred), axis=-1)
    return mean_where(values, y_true[..., 4])


# %%
def train_rpn(drawn):
    """Le premier étage seul."""
    model = rpn(backbone())
    model.compile(
        keras.optimizers.Adam(1e-3),
        loss={"objectness": objectness_loss, "deltas": deltas_loss},
        run_eagerly=EAGER,
    )
    targets = rpn_targets(drawn.boxes)
    model.fit(drawn.images, targets, SHAPE_BATCH, SHAPE_EPOCHS, verbose=0)
    return model


# %% [markdown]
# À l'***inférence***, c'est-à-dire une fois l'entraînement fini, on garde les meilleures boîtes de
# chaque image, sans doublons, et toujours le même nombre, pour que le second étage reçoive un
# tableau.


# %%
ROIS = 12  # régions par image, à l'entraînement comme à l'inférence
CANDIDATES = 60  # ancres examinées par la suppression des non-maxima


def clip_boxes(boxes):
    """Boîtes ramenées dans l'image, d'un pixel au moins."""
    low = boxes[..., :2].clip(0, SHAPE_SIDE - 1)
    return np.concatenate([low, np.clip(boxes[..., 2:], low + 1, SHAPE_SIDE)], axis=-1)


def proposals(model, images):
    """Les ROIS meilleures boîtes du RPN dans chaque image : float32 (n, ROIS, 4)."""
    outputs = model.predict(images, verbose=0)
    found = []
    for scores, deltas in zip(outputs["objectness"], outputs["deltas"], strict=True):
        best = np.argsort(-scores)[:CANDIDATES]
        boxes = clip_boxes(decode(deltas[best], ANCHORS[best]))
        kept = nms(boxes, scores[best], threshold=0.7)
        found.append(
            boxes[np.resize(kept, ROIS)]
        )  # s'il en manque, les mêmes à nouveau
    return np.array(found, "float32")


# %% [markdown]
# #### Second étage : classer, ajuster, découper
#
# Trois ***têtes*** lisent la grille de chaque région. Le masque est prédit **pour chaque classe
# séparément**, par des sigmoïdes : c'est la tête de classe qui dira lequel regarder.


# %%
@keras.saving.register_keras_serializable(package="vision")
class RoIAlign(layers.Layer):
    """`roi_align` en couche : elle n'a rien à apprendre."""

    def __init__(self, size, stride, **options):
        super().__init__(**options)
        self.size, self.stride = size, stride

    def call(self, features, boxes):
        return roi_align(features, boxes, self.size, self.stride)

    def compute_output_shape(self, features_shape, boxes_shape):
        return (*boxes_shape[:2], self.size, self.size, features_shape[-1])

    def get_config(self):
        return super().get_config() | {"size": self.size, "stride": self.stride}


# %%
ROI_SIZE, MASK_SIZE = 7, 14


def heads(backbone):
    """Trois têtes sur chaque région : classe, écarts (communs aux classes), masque par classe."""
    images, boxes = keras.Input((SHAPE_SIDE, SHAPE_SIDE, 1)), keras.Input((ROIS, 4))
    regions = RoIAlign(ROI_SIZE, STRIDE)(backbone(images), boxes)
    # Chaque région devient une image, le temps des trois têtes.
    x = ops.reshape(regions, (-1, *regions.shape[2:]))
    x = relu_conv(64)(x)
    flat = layers.Dense(128, activation="relu")(layers.Flatten()(x))
    up = layers.Conv2DTranspose(32, 2, strides=2, activation="relu")(relu_conv(64)(x))
    outputs = {
        "classes": layers.Dense(len(SHAPE_CLASSES))(flat),
        "deltas": layers.Dense(4)(flat),
        "masks": layers.Conv2D(len(SHAPE_CLASSES) - 1, 1)(up),
    }
    outputs = {
        name: ops.reshape(output, (-1, ROIS, *output.shape[1:]))
        for name, output in outputs.items()
    }
    return keras.Model([images, boxes], outputs, name="heads")


# %% [markdown]
# Pour apprendre, le second étage a besoin de bonnes boîtes. On mêle donc aux propositions des
# boîtes vraies, un peu bougées.


# %%
JITTER = 0.1  # écart type du tremblement des boîtes vraies, en tailles de boîte
TRUE_ROIS = 4  # régions d'entraînement tirées des boîtes vraies


def training_regions(proposed, boxes, seed=0):
    """Les propositions, dont les dernières cèdent la place à des boîtes vraies, bougées."""
    rng = np.random.default_rng(seed)
    regions = proposed.copy()
    for region, true in zip(regions, boxes, strict=True):
        drawn = true[np.resize(rng.permutation(len(true)), TRUE_ROIS)]
        region[-TRUE_ROIS:] = clip_boxes(
            decode(rng.normal(0, JITTER, drawn.shape), drawn)
        )
    return regions


# %% [markdown]
# La cible d'un masque est le masque vrai, lu à travers la même grille que les caractéristiques.


# %%
def mask_targets(regions, masks, labels, nearest):
    """Masque de l'objet, vu de sa région ; -1 (ignoré) pour les autres classes et le fond."""
    views = masks[nearest].astype("float32")[..., None]
    crops = roi_align(views, regions[:, None], MASK_SIZE, stride=1)
    crops = ops.convert_to_numpy(crops)[:, 0] >= 0.5
    own = labels[:, None, None, None] == np.arange(1, len(SHAPE_CLASSES))
    return np.where(own, crops, -1)


def heads_targets(regions, drawn):
    """Cibles des trois têtes : la classe d'une région est celle de l'objet qu'elle couvre."""
    targets = {"classes": [], "deltas": [], "masks": []}
    known = zip(regions, drawn.boxes, drawn.masks, drawn.classes)
    for region, boxes, masks, classes in known:
        overlaps = box_iou(region, boxes)
        nearest = overlaps.argmax(axis=1)
        labels = np.where(overlaps.max(axis=1) >= 0.5, classes[nearest], 0)
        targets["classes"].append(labels)
        targets["deltas"].append(marked(encode(boxes[nearest], region), labels > 0))
        targets["masks"].append(mask_targets(region, masks, labels, nearest))
    return {name: np.array(values, "float32") for name, values in targets.items()}


# %%
def masks_loss(y_true, scores):
    """Entropie croisée binaire, pixel par pixel, du masque de la vraie classe seulement."""
    return mean_where(cross_entropy(y_true, scores), y_true >= 0)


# %% [markdown]
# L'entraînement suit les deux premières étapes de celui de Faster R-CNN : d'abord le réseau de
# propositions ; puis les têtes, sur ses propositions fixées, avec leur propre base, qui part des
# poids du premier étage. (L'article réunit ensuite les deux bases, pour n'en calculer qu'une.)


# %%
def train_heads(first_stage, drawn):
    """Les têtes, sur les propositions du RPN."""
    base = keras.models.clone_model(first_stage.get_layer("backbone"))
    base.set_weights(first_stage.get_layer("backbone").get_weights())
    model = heads(base)
    model.compile(
        keras.optimizers.Adam(1e-3),
        loss={
            "classes": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            "deltas": deltas_loss,
            "masks": masks_loss,
        },
        loss_weights={"classes": 1.0, "deltas": 2.0, "masks": 1.0},
        run_eagerly=EAGER,
    )
    regions = training_regions(proposals(first_stage, drawn.images), drawn.boxes)
    targets = heads_targets(regions, drawn)
    model.fit([drawn.images, regions], targets, SHAPE_BATCH, SHAPE_EPOCHS, verbose=0)
    return model


# %% [markdown]
# #### L'inférence
#
# Proposer, classer, ajuster, supprimer les doublons, puis recoller chaque petit masque de 14 × 14 à
# sa place dans l'image. `stretch` est la fonction chapeau de `bilinear` dans l'autre sens, de la
# grille vers l'image, en NumPy : rien n'a plus à être dérivé.


# %%
class Instance(NamedTuple):
    """Un objet trouvé."""

    label: int
    score: float
    box: np.ndarray | None
    mask: np.ndarray  # bool (côté, côté)


def stretch(size, low, high, side):
    """Poids (side, size) qui étirent `size` valeurs de `low` à `high` sur `side` pixels."""
    inside = (np.arange(side) + 0.5 - low) / (high - low)  # de 0 à 1 dans la boîte
    points = np.clip(inside * size - 0.5, 0, size - 1)
    hats = np.maximum(0, 1 - abs(points[:, None] - np.arange(size)))
    return hats * ((inside > 0) & (inside < 1))[:, None]


def paste(mask, box, side=SHAPE_SIDE):
    """Remet un petit masque de probabilités à sa place dans l'image : bool (side, side)."""
    rows = stretch(len(mask), box[0], box[2], side)
    columns = stretch(len(mask), box[1], box[3], side)
    return rows @ mask @ columns.T >= 0.5


# %%
SCORE = 0.5  # une détection moins sûre n'est pas rendue


def softmax(scores):
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def select(boxes, classes, masks):
    """Détections d'une image : seuil, suppression par classe, masque de la classe trouvée."""
    found = []
    for category in range(1, len(SHAPE_CLASSES)):
        sure = np.flatnonzero(classes[:, category] > SCORE)
        for k in sure[nms(boxes[sure], classes[sure, category], threshold=0.3)]:
            chances = 1 / (1 + np.exp(-masks[k, :, :, category - 1]))
            mask = paste(chances, boxes[k])
            found.append(
                Instance(category, float(classes[k, category]), boxes[k], mask)
            )
    return found


def detect(first_stage, second_stage, images):
    """Inférence complète : une liste d'`Instance` par image."""
    regions = proposals(first_stage, images)
    outputs = second_stage.predict([images, regions], verbose=0)
    boxes = clip_boxes(decode(outputs["deltas"], regions))
    classes = softmax(outputs["classes"])
    return [select(*parts) for parts in zip(boxes, classes, outputs["masks"])]


# %% [markdown]
# #### Le rival
#
# Un U-Net à trois classes (softmax, donc), dont chaque tache d'un seul tenant compte pour un objet.
# L'article de 2015 sépare des cellules qui se touchent en pesant davantage les pixels du mince fond
# laissé entre elles ; entre nos formes, il n'y en a pas.


# %%
def train_semantic(drawn):
    """U-Net, fond, disque ou carré pour chaque pixel."""
    shape = (SHAPE_SIDE, SHAPE_SIDE, 1)
    model = unet(shape, len(SHAPE_CLASSES), filters=16, depth=2, scores=True)
    model.compile(
        keras.optimizers.Adam(1e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        run_eagerly=EAGER,
    )
    model.fit(drawn.images, drawn.semantic, SHAPE_BATCH, SHAPE_EPOCHS, verbose=0)
    return model


# %%
SMALLEST = 20  # une composante plus petite est du bruit


def components(maps):
    """Une instance par composante connexe de chaque classe, dans des cartes de classes."""
    found = []
    for labels in maps:
        found.append([])
        for category in range(1, len(SHAPE_CLASSES)):
            parts, count = ndimage.label(labels == category)
            masks = (parts == k for k in range(1, count + 1))
            found[-1] += [
                Instance(category, 1.0, None, m) for m in masks if m.sum() >= SMALLEST
            ]
    return found


def semantic_maps(model, images):
    return model.predict(images, verbose=0).argmax(axis=-1)


# %% [markdown]
# #### Le jugement
#
# Chaque objet vrai est apparié à un objet trouvé, au mieux ; la paire compte si l'IoU de leurs
# masques atteint 1/2. Pour savoir ce qu'un U-Net ferait au mieux, donnons aussi aux taches les
# classes **vraies** de chaque pixel.


# %%
def mask_iou(a, b):
    """Intersection sur union de toutes les paires de masques : (n, h, w), (m, h, w) -> (n, m)."""
    a, b = (np.reshape(masks, (len(masks), -1)).astype(float) for masks in (a, b))
    common = a @ b.T
    return common / np.maximum(a.sum(axis=1)[:, None] + b.sum(axis=1) - common, 1)


def matched(true, found, threshold=0.5):
    """Paires (vraie, trouvée) de masques appariés au mieux, et leurs IoU, au-dessus du seuil."""
    if not len(true) or not len(found):
        return np.zeros((0, 2), int), np.zeros(0)
    overlaps = mask_iou(true, found)
    rows, columns = linear_sum_assignment(overlaps, maximize=True)
    good = overlaps[rows, columns] >= threshold
    return np.stack([rows, columns], axis=1)[good], overlaps[rows, columns][good]


# %%
def report(drawn, found, threshold=0.5):
    """Précision, rappel, IoU des paires, nombres exacts, paires séparées, classes justes."""
    overlaps, exact, separated, named, predicted = [], [], [], [], 0
    for masks, classes, instances in zip(drawn.masks, drawn.classes, found):
        pairs, values = matched(masks, [found.mask for found in instances], threshold)
        overlaps += values.tolist()
        predicted += len(instances)
        exact.append(len(instances) == len(masks))
        separated.append({0, 1} <= set(pairs[:, 0]))  # les deux qui se touchent
        named += [classes[i] == instances[j].label for i, j in pairs]
    return {
        "precision": len(overlaps) / max(predicted, 1),
        "recall": len(overlaps) / sum(len(masks) for masks in drawn.masks),
        "iou": float(np.mean(overlaps)) if overlaps else 0.0,
        "exact_count": float(np.mean(exact)),
        "separated": float(np.mean(separated)),
        "class_accuracy": float(np.mean(named)) if named else 0.0,
    }


# %%
def instance_map(found):
    """Objets trouvés -> numéro de l'objet en chaque pixel, en lignes de chiffres."""
    numbered = np.zeros((SHAPE_SIDE, SHAPE_SIDE), int)
    for k, instance in enumerate(found, start=1):
        numbered[instance.mask] = k
    return ["".join(row) for row in numbered.clip(0, 9).astype(str)]


def instances_run():
    """Les deux méthodes, entraînées sur les mêmes images, jugées sur d'autres."""
    keras.utils.set_random_seed(0)
    drawn, test = drawn_shapes(SHAPE_IMAGES, seed=0), drawn_shapes(SHAPE_TESTS, seed=1)
    first_stage = train_rpn(drawn)
    second_stage = train_heads(first_stage, drawn)
    semantic = train_semantic(drawn)
    found = {
        "U-Net": components(semantic_maps(semantic, test.images)),
        "classes parfaites": components(test.semantic),
        "Mask R-CNN": detect(first_stage, second_stage, test.images),
    }
    return {
        "report": {name: report(test, instances) for name, instances in found.items()},
        "image": digits(test.images[0, ..., 0]),
        "maps": {name: instance_map(instances[0]) for name, instances in found.items()},
    }


instances = experiment("instances", instances_run)

# %%
shown = instances.values
maps = {
    name: (9 * picture(rows)).round()
    for name, rows in shown["maps"].items()
    if name != "classes parfaites"
}
counts = {name: int(numbered.max()) for name, numbered in maps.items()}
figures.show(
    figures.overlay(
        picture(shown["image"]),
        maps,
        ["fond", *(f"objet {k + 1}" for k in range(max(counts.values())))],
    ),
    alt="Une image de test, ce qu'y trouve un U-Net, où chaque tache est un objet, et ce qu'y "
    "trouve Mask R-CNN. Objets trouvés : "
    + " ; ".join(f"{n}, {c}" for n, c in counts.items())
    + ".",
)

# %%
names = {
    "precision": "précision",
    "recall": "rappel",
    "iou": "IoU des paires",
    "exact_count": "nombre exact",
    "separated": "paires séparées",
    "class_accuracy": "classe juste",
}
shown = instances.values["report"]
runtime.show_table(
    ("mesure", *shown),
    [
        (name, *(number(found[key], 3) for found in shown.values()))
        for key, name in names.items()
    ],
)
full = instances.full and instances.full["report"]
verdict(
    "unet-mask-rcnn",
    full and full["Mask R-CNN"]["separated"] - full["U-Net"]["separated"],
)

# %% [markdown]
# Le U-Net trouve les pixels, pas les objets : aucune paire n'est séparée, et il n'y pouvait rien,
# car les classes **parfaites** donnent presque les mêmes nombres. Sa précision le flatte : une
# tache qui réunit deux objets recouvre encore le plus gros des deux à plus de moitié. Mask R-CNN
# sépare toutes les paires, et compte juste 99 fois sur 100. Ce ne sont que des disques et des
# carrés, et une graine ; mais la différence vient du mécanisme : une boîte, donc une réponse, par
# objet.
#
# ## À retenir
#
# - U-Net : un encodeur qui comprend, un décodeur qui localise, et des connexions directes qui
#   rendent au second les détails que le premier a perdus. Les côtés de l'image doivent être des
#   multiples de 16 ; sans remplissage, comme en 2015, la sortie est plus petite.
# - L'exactitude par pixel flatte la classe fréquente. Suivez le Dice de la classe rare, et une
#   mesure de ce que vous voulez vraiment : des contours, des cellules.
# - Le seuil se choisit sur la validation, pour la mesure visée ; deux mesures, deux seuils.
# - Bien des pertes se valent une fois le seuil choisi. La perte de Dice seule peut s'éteindre :
#   ajoutez-lui l'entropie croisée.
# - Une grande image se prédit par tuiles qui se recouvrent, dont on ne garde que le centre.
# - Peu d'images suffisent souvent ; séparez-les par coupe, par patient, jamais par pixel.
# - Une carte de classes ne compte pas les objets : pour séparer ceux qui se touchent, il faut des
#   boîtes, ou une autre idée de l'instance.

# %% [markdown]
# ## Exercices
#
# ### 1. Prédire, puis exécuter
#
# Un U-Net de trois divisions, à 32 filtres, reçoit une image de 96 × 96. Quelle est la forme de la
# carte au fond du U (côté, côté, canaux) ? Donnez le nombre de valeurs qu'elle contient, et
# remplacez `None`.

# %%
my_values = None

bottom = levels(unet((96, 96, 1), filters=32, depth=3))[3]
predict("valeurs au fond", my_values, int(np.prod(bottom)))

# %% [markdown]
# <details>
# <summary>Solution</summary>
#
# Trois divisions : $96 / 2^3 = 12$ points de côté ; trois doublements de canaux : $32 \times 2^3 =
# 256$. La carte a $12 \times 12 \times 256 = 36\,864$ valeurs, quatre fois plus que l'image.
#
# </details>

# %% [markdown]
# ### 2. Écrire une mesure
#
# L'***indice de Tversky*** pèse séparément les pixels inventés (faux positifs, poids `a`) et les
# pixels manqués (faux négatifs, poids `b`) :
#
# $$T = \frac{|A \cap B|}{|A \cap B| + a\,|B \setminus A| + b\,|A \setminus B|}.$$
#
# Écrivez-le pour deux tableaux de booléens, $A$ la vérité (`true`) et $B$ la prédiction (`found`).
# Deux masques vides s'accordent : rendez 1.


# %%
def my_tversky(true, found, a, b):
    raise NotImplementedError


# %% tags=["hide-input"] cellView="form"
# @title Vérifier l'exercice 2
def tversky_solution(true, found, a, b):
    both = np.sum(true & found)
    total = both + a * np.sum(found & ~true) + b * np.sum(true & ~found)
    return both / total if total else 1.0


def tversky_swapped(true, found, a, b):
    return tversky_solution(true, found, b, a)


def tversky_unweighted(true, found, a, b):
    return tversky_solution(true, found, 1, 1)


A_MASK = np.array([[1, 1, 0], [0, 1, 0]], bool)
B_MASK = np.array([[1, 0, 0], [1, 1, 1]], bool)
EXERCISE_TVERSKY = Exercise(
    title="Exercice 2",
    reference=tversky_solution,
    cases=[
        (A_MASK, B_MASK, 0.5, 0.5),
        (A_MASK, B_MASK, 0.3, 0.7),
        (A_MASK & ~A_MASK, B_MASK & ~B_MASK, 0.5, 0.5),
    ],
    mistakes={
        "Un pixel inventé pèse `a`, un pixel manqué pèse `b`.": tversky_swapped,
        "Les poids `a` et `b` multiplient les deux sortes d'erreurs.": tversky_unweighted,
    },
)
EXERCISE_TVERSKY.check(my_tversky)

# %% tags=["hide-cell"] cellView="form"
# @title Solution de l'exercice 2
# Avec a = b = 1/2, c'est le Dice ; avec a = b = 1, l'IoU.
EXERCISE_TVERSKY.check(tversky_solution)

# %% [markdown]
# ### 3. Préparer une image de taille quelconque
#
# Écrivez la fonction qui agrandit une image (h, w) en miroir, sans répéter le bord
# (`mode="reflect"` de NumPy), en bas et à droite seulement, jusqu'à ce que ses deux côtés soient
# des multiples de `step`. Une image qui convient déjà ne change pas.


# %%
def my_padded(image, step):
    raise NotImplementedError


# %% tags=["hide-input"] cellView="form"
# @title Vérifier l'exercice 3
def padded_solution(image, step):
    return np.pad(image, [(0, -side % step) for side in image.shape], mode="reflect")


def padded_too_much(image, step):
    more = [(0, step - side % step) for side in image.shape]
    return np.pad(image, more, mode="reflect")


def padded_repeating_edge(image, step):
    return np.pad(image, [(0, -side % step) for side in image.shape], mode="symmetric")


def padded_with_zeros(image, step):
    return np.pad(image, [(0, -side % step) for side in image.shape])


EXERCISE_PADDING = Exercise(
    title="Exercice 3",
    reference=padded_solution,
    cases=[
        (np.arange(35.0).reshape(5, 7), 4),
        (np.arange(64.0).reshape(8, 8), 4),
        (np.arange(27.0).reshape(3, 9), 2),
    ],
    mistakes={
        "Un côté déjà multiple de `step` ne doit pas grandir.": padded_too_much,
        "Prolongez en miroir, pas par des zéros.": padded_with_zeros,
        "Ne répétez pas le dernier pixel : c'est le mode « reflect ».": padded_repeating_edge,
    },
)
EXERCISE_PADDING.check(my_padded)

# %% tags=["hide-cell"] cellView="form"
# @title Solution de l'exercice 3
# Le reste de −côté par step est ce qui manque : zéro quand rien ne manque.
EXERCISE_PADDING.check(padded_solution)

# %% [markdown]
# ### 4. Expliquer
#
# Une image de 1 000 × 1 000 contient une tumeur de 10 × 10, que le réseau manque entièrement.
# Quelle est l'exactitude par pixel ? le Dice de la classe tumeur ? Que devient la perte d'entropie
# croisée moyenne si elle met une probabilité de 0,01 partout ?
#
# <details>
# <summary>Solution</summary>
#
# 100 pixels faux sur un million : l'exactitude est de 99,99 %, le Dice de 0. L'entropie croisée
# vaut $-0{,}0001 \ln 0{,}01 - 0{,}9999 \ln 0{,}99$, soit environ $0{,}0005 + 0{,}0100$ : la tumeur
# entière n'y pèse que le vingtième. La perte de Dice, elle, vaut presque 1.
#
# </details>

# %% [markdown]
# ### 5. Pour aller plus loin
#
# Dans Colab, avec une carte graphique, entraînez un réseau sur **une** coupe pendant 4 000 mises à
# jour, avec puis sans déformations (`augment=False`) : laquelle des deux courbes de Dice finit par
# redescendre ? Ensuite, prédisez la même coupe dans ses quatre orientations : la moyenne des quatre
# cartes, remises à l'endroit, vaut-elle mieux qu'une seule ?

# %% [markdown]
# ## Ce que nous avons vérifié
#
# Trois phrases du document ne se vérifient pas ici : l'origine biomédicale de U-Net, son usage en
# IRM et en tomodensitométrie, sa place de « choix de référence ». La page *Ce que les documents
# disent, ce que l'exécution montre* dit pourquoi. Voici les autres.

# %%
summary()

# %% [markdown]
# ## Références
#
# - O. Ronneberger, P. Fischer, T. Brox, [U-Net: convolutional networks for biomedical image
#   segmentation](https://arxiv.org/abs/1505.04597), 2015.
# - I. Arganda-Carreras et al., [Crowdsourcing the creation of image segmentation algorithms for
#   connectomics](https://doi.org/10.3389/fnana.2015.00142), 2015 : le concours ISBI 2012 et ses
#   mesures.
# - A. Cardona et al., [An integrated micro- and macroarchitectural analysis of the *Drosophila*
#   brain](https://doi.org/10.1371/journal.pbio.1000502), 2010 : les images.
# - Ö. Çiçek et al., [3D U-Net: learning dense volumetric segmentation from sparse
#   annotation](https://arxiv.org/abs/1606.06650), 2016.
# - O. Oktay et al., [Attention U-Net](https://arxiv.org/abs/1804.03999), 2018.
# - L.-C. Chen et al., [Rethinking atrous convolution for semantic image
#   segmentation](https://arxiv.org/abs/1706.05587), 2017.
# - S. Ren et al., [Faster R-CNN](https://arxiv.org/abs/1506.01497), 2015 ; K. He et al., [Mask
#   R-CNN](https://arxiv.org/abs/1703.06870), 2017.
# - T.-Y. Lin et al., [Focal loss for dense object detection](https://arxiv.org/abs/1708.02002),
#   2017 ; F. Milletari et al., [V-Net](https://arxiv.org/abs/1606.04797), 2016 : la perte de Dice.
# - G. Csurka et al., [What is a good evaluation measure for semantic
#   segmentation?](https://doi.org/10.5244/C.27.32), 2013 : la F1 des contours.
# - A. Odena et al., [Deconvolution and checkerboard
#   artifacts](https://doi.org/10.23915/distill.00003), 2016.
# - F. Isensee et al., [nnU-Net](https://doi.org/10.1038/s41592-020-01008-z), 2021.
