# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Images et convolution
#
# > **Objectifs.** À la fin de ce chapitre, vous saurez :
# > - lire une image comme un tableau, et éviter les pièges des entiers sur huit bits ;
# > - calculer une convolution à la main, puis l'écrire en une dizaine de lignes ;
# > - prévoir la taille d'une carte de caractéristiques, même quand la division ne tombe pas juste ;
# > - dire ce que cherche un filtre, compter les poids d'une couche, mesurer ce qu'elle « voit » ;
# > - comparer honnêtement des caractéristiques faites à la main et un réseau qui les apprend.
#
# | | |
# |:--|:--|
# | **Prérequis** | Python, NumPy, le produit scalaire, la dérivée |
# | **Document étudié** | 004, chapitre 1 : la définition et la couche de convolution |
# | **Données** | Fashion-MNIST (hors ligne, des chiffres manuscrits) ; des photographies |
# | **Durée** | une heure de lecture, autant d'exercices ; exécution rapide : 45 secondes |
#
# > **Plan.** Les premières sections vont de l'image à la taille de la sortie : lisez-les dans
# > l'ordre. *Convolution ou corrélation ?* et *Le champ réceptif* peuvent attendre une deuxième
# > lecture. La dernière section, *À la main, ou par apprentissage ?*, entraîne un premier réseau.
#
# Le cours relit cinq documents, qu'il cite sans les supposer connus. Le 004 est un diaporama : des
# définitions, des formules et de petits calculs. Nous les refaisons tous. Chaque phrase qu'une
# exécution peut trancher reçoit un **verdict** : *confirmé*, *corrigé* ou *réfuté*.

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
import warnings
from time import perf_counter

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import layers, ops
from PIL import Image
from scipy import signal
from skimage.color import rgb2lab
from skimage.feature import hog
from skimage.filters import threshold_otsu
from sklearn.svm import LinearSVC

from utils import datasets, figures, runtime, synthetic
from utils.autodiff import value_and_grad
from utils.execute import experiment
from utils.exercises import Exercise, predict
from utils.figures import number, percent, spread
from utils.verdicts import french, summary, verdict

# %% [markdown]
# Toutes les tailles du chapitre sont choisies ici. Le profil *rapide* suffit pour essayer le code ;
# le profil *complet*, celui de cette page, entraîne les réseaux sur toutes les images.

# %%
SEEDS = runtime.pick(quick=(0,), full=(0, 1, 2))
SIZES = runtime.pick(
    quick=(100, 300), full=(100, 300, 1_000, 3_000, 10_000, 30_000, 60_000)
)
EPOCHS = runtime.pick(quick=2, full=10)  # au moins
MIN_UPDATES = runtime.pick(quick=10, full=1_000)  # mises à jour des poids, au moins
DEEP_EPOCHS = runtime.pick(quick=1, full=15)
DEEP_IMAGES = runtime.pick(quick=120, full=60_000)
SHUFFLED_IMAGES = runtime.pick(quick=120, full=10_000)
BATCH_SIZE = 64

runtime.start("01_convolution")
garments = datasets.garments()
photographs = datasets.photographs()
runtime.banner(garments, photographs)

# %% [markdown]
# ## Que demande-t-on à une image ?
#
# Le document commence par trois applications. À chacune sa question : qu'y a-t-il dans l'image
# (***classification***) ? Où est chaque objet (***détection***) ? À quelle classe appartient chaque
# pixel (***segmentation*** sémantique) ? Voici les trois réponses sur une scène dessinée par le
# cours, qui en connaît donc la vérité.


# %%
def draw_tasks(image, species, box, trimap):
    """La même image avec une étiquette, un cadre, un masque."""
    fig, axes = plt.subplots(1, 3, figsize=(6, 2.5))
    for axis, title in zip(axes, ("classification", "détection", "segmentation")):
        axis.imshow(image)
        axis.set(title=title, xticks=[], yticks=[])
    left, top, right, bottom = box
    axes[0].set_xlabel(f"« {species} »")
    axes[1].add_patch(
        plt.Rectangle(
            (left, top), right - left, bottom - top, fill=False, ec="white", lw=3
        )
    )
    axes[1].set_xlabel(f"{right - left} × {bottom - top} pixels")
    inside = trimap != 1  # 1 : le fond
    axes[2].imshow(np.where(inside[..., None], (0, 0.45, 0.7, 0.6), 0.0))
    axes[2].set_xlabel(f"{inside.sum()} pixels")
    return fig


scene = synthetic.pets(2, size=128, seed=1)
species = ("chat", "chien")[scene.species[1]]
fig = draw_tasks(scene.images[1], species, scene.boxes[1], scene.trimaps[1])
figures.show(
    fig,
    alt=f"Trois fois le même {species} dessiné : avec son nom, dans un cadre, puis recouvert d'un "
    "masque qui suit son contour.",
)

# %% [markdown]
# Un mot ; un mot et un cadre par objet ; une classe par pixel : la sortie change, l'entrée reste la
# même. Les chapitres 1 à 4 traitent de la classification ; [le chapitre 5](05_unet.ipynb) et le
# suivant, de la segmentation. La détection n'est qu'effleurée, aux chapitres 5 et 8.

# %% [markdown]
# ## Une image est un tableau de nombres
#
# ### Pixels et canaux
#
# Le document appelle $N_x$ le nombre de colonnes de l'image et $N_y$ son nombre de lignes. Ouvrons
# une photographie.

# %%
photo = photographs["chelsea"]
n_rows, n_columns, n_channels = photo.shape
n_x, n_y = Image.fromarray(photo).size  # Pillow : largeur, hauteur
print(f"forme {photo.shape}, type {photo.dtype}")
print(f"largeur {n_x}, hauteur {n_y}")

# %% [markdown]
# Un pixel est une mesure ; le « carré » du document n'est que la façon de l'afficher. Les *lignes*
# viennent en premier : le pixel d'abscisse $x$ et d'ordonnée $y$ est `photo[y, x]`. C'est l'ordre
# des matrices, l'inverse de celui des géomètres, et une cause d'erreurs fréquente.
#
# Cinq phrases du document se vérifient d'emblée sur cette photographie.

# %%
verdict("conv-pixels-thousands", photo[..., 0].size)
verdict("conv-pixel-count", photo[..., 0].size == n_x * n_y)

# %%
verdict("conv-three-channels", n_channels)
verdict("conv-rows-columns", all(photo[..., c].shape == (n_y, n_x) for c in range(3)))

# %%
limits = np.iinfo(photo.dtype)
verdict("conv-8-bits", [limits.bits, int(limits.min), int(limits.max)])

# %% [markdown]
# Un octet donne 256 valeurs à chaque canal. Combien de couleurs cela fait-il, et combien de place
# prend cette photographie une fois décompressée ?

# %%
print(f"couleurs possibles : {number(256**3, 0)}")
print(
    f"mémoire : {n_rows} × {n_columns} × {n_channels} = {number(photo.nbytes, 0)} octets"
)

# %% [markdown]
# Grossissons l'œil du chat jusqu'à voir les pixels, puis séparons leurs trois canaux.

# %%
eye, pixels = photo[82:142, 142:202], photo[94:110, 164:180]
panels = [photo[:, 75:375], eye, pixels, *(pixels[..., c] for c in range(3))]
titles = ["l'image", "l'œil", "16 × 16 pixels", "rouge", "vert", "bleu"]
fig = figures.grid(panels, titles=titles, columns=3)
figures.show(
    fig,
    alt="Une tête de chat, son œil, puis un carré de 16 pixels de côté pris dans cet œil, en "
    "couleurs et canal par canal : chaque pixel est un carré d'une seule couleur.",
)

# %% [markdown]
# Les trois canaux se ressemblent : cette partie de l'œil est presque grise. Seul le reflet, bleuté,
# est plus clair dans le canal bleu. Vérifions maintenant que chaque carré de la vue agrandie a bien
# une seule couleur, celle de son pixel.

# %%
ZOOM = 20
side = 16 * ZOOM
zoomed = np.asarray(Image.fromarray(pixels).resize((side, side), Image.NEAREST))
squares = zoomed.reshape(16, ZOOM, 16, ZOOM, 3)
verdict("conv-pixel-one-colour", bool((squares == pixels[:, None, :, None]).all()))

# %% [markdown]
# ### Plus de pixels, plus de détails ?
#
# « Logiquement », dit le document. Réduisons la photographie d'un facteur six, puis rendons-lui sa
# taille. Le nombre de pixels revient ; le détail aussi ? Mesurons-le par l'écart moyen entre un
# pixel et son voisin.


# %%
def detail(image):
    """Écart moyen, en niveaux de 0 à 255, entre un pixel et son voisin de droite."""
    return np.abs(np.diff(image.astype(float), axis=1)).mean()


def resize(image, shape):
    return np.asarray(Image.fromarray(image).resize(shape[1::-1], Image.BICUBIC))


small = resize(photo, (n_rows // 6, n_columns // 6))
enlarged = resize(small, photo.shape)
rows = [
    (name, number(image[..., 0].size, 0), number(detail(image)))
    for name, image in (("original", photo), ("réduite puis agrandie", enlarged))
]
runtime.show_table(("photographie", "pixels", "détail"), rows)
verdict("conv-more-pixels", bool(detail(enlarged) >= detail(photo)))

# %%
fig = figures.grid(
    [photo[60:180, 120:270], enlarged[60:180, 120:270]],
    titles=["original", "réduite, puis agrandie"],
    columns=2,
)
figures.show(
    fig,
    alt="Deux vues de l'œil du chat, du même nombre de pixels : la première est nette, la "
    "seconde, réduite puis agrandie, est floue.",
)

# %% [markdown]
# Agrandir ses images fait calculer un réseau davantage, sans rien lui montrer de plus.

# %% [markdown]
# ### Niveaux de gris
#
# Le document propose la moyenne des trois canaux. Mais l'œil n'est pas également sensible aux trois
# couleurs : à intensité égale, il trouve le vert clair et le bleu sombre. La ***luma*** de la
# télévision en tient compte par des poids inégaux, de somme 1.

# %%
LUMA = np.array([0.299, 0.587, 0.114])  # recommandation UIT-R BT.601


def mean_grey(image):
    """Moyenne des canaux : (h, w, 3) -> (h, w), de 0 à 255."""
    return image.mean(axis=-1)


def luma_grey(image):
    """Somme pondérée des canaux : (h, w, 3) -> (h, w), de 0 à 255."""
    return image @ LUMA


# %% [markdown]
# Qui a raison ? Comme arbitre, la *clarté* $L^*$ de la norme CIE, construite sur des mesures de la
# vision humaine : de 0 pour le noir à 100 pour le blanc.

# %%
pure = 255 * np.eye(3)
lightness = rgb2lab(pure / 255)[:, 0]
rows = [
    (name, *(number(value, 0) for value in values))
    for name, *values in zip(
        ("rouge", "vert", "bleu"), mean_grey(pure), luma_grey(pure), lightness
    )
]
runtime.show_table(("couleur pure", "moyenne", "luma", "clarté L*"), rows)
verdict("conv-grey-mean", len(np.unique(mean_grey(pure))))

# %% [markdown]
# La luma range les trois couleurs comme la clarté. Les deux gris s'accordent aux extrémités de
# l'échelle, que le document appelle ***contraste*** :

# %%
black_and_white = np.array([[0, 0, 0], [255, 255, 255]])
assert np.allclose(mean_grey(black_and_white), luma_grey(black_and_white))
verdict("conv-grey-range", [round(grey) for grey in luma_grey(black_and_white)])

# %% [markdown]
# Ces niveaux ne sont pas proportionnels à la lumière : dans le codage habituel des images (sRGB),
# le niveau 128, au milieu de l'échelle, n'en représente qu'un cinquième environ.
#
# Revenons au désaccord. Sur un dessin rouge et vert, il est total.


# %%
def disc(inside, outside, size=64):
    """Un disque d'une couleur sur un fond d'une autre : uint8 (size, size, 3)."""
    y, x = np.mgrid[:size, :size] - size / 2
    return np.where((x**2 + y**2 < (size / 3) ** 2)[..., None], inside, outside).astype(
        "uint8"
    )


sign = disc(inside=(0, 200, 0), outside=(200, 0, 0))
fig = figures.grid(
    [sign, mean_grey(sign) / 255, luma_grey(sign) / 255],
    titles=["couleur", "moyenne", "luma"],
    columns=3,
)
figures.show(
    fig,
    alt="Un disque vert sur fond rouge : la moyenne des canaux donne un gris uniforme, où le "
    "disque a disparu ; la luma le montre clair sur fond sombre.",
)

# %% [markdown]
# Un réseau nourri de la moyenne ne verra jamais ce disque. Sur des photographies, où les couleurs
# sont rarement pures, les deux gris diffèrent peu en moyenne :

# %%
SUBJECTS = {
    "chelsea": "chat",
    "coffee": "café",
    "rocket": "fusée",
    "galaxies": "galaxies",
    "pavilion": "pavillon",
    "flower": "fleur",
}
rows = []
for name, image in photographs.items():
    gap = np.abs(mean_grey(image) - luma_grey(image))
    rows.append((SUBJECTS[name], number(gap.mean(), 1), number(gap.max(), 0)))
runtime.show_table(("photographie", "écart moyen, en niveaux", "au plus"), rows)

# %% [markdown]
# L'essentiel est de garder la même formule à l'entraînement et à l'emploi : Pillow et TensorFlow
# calculent cette luma ; scikit-image prend d'autres poids (0,2125 ; 0,7154 ; 0,0721).
#
# ### Noir et blanc
#
# « Noir et blanc » ne veut pas dire « gris » : il ne reste que deux valeurs. Il faut un
# ***seuil*** ; la méthode d'Otsu choisit celui qui sépare le mieux l'histogramme en deux groupes.

# %%
grey = luma_grey(photo).round().astype("uint8")
threshold = threshold_otsu(grey)
binary = grey > threshold
print(f"{len(np.unique(grey))} niveaux de gris ; seuil d'Otsu : {threshold}")
verdict("conv-binary", len(np.unique(binary)))

# %%
fig = figures.grid(
    [photo, grey, binary.astype(float)],
    titles=["couleur", "niveaux de gris", "noir et blanc"],
    columns=3,
)
figures.show(
    fig,
    alt="La même tête de chat en couleurs, en niveaux de gris, puis en noir et blanc : dans la "
    "dernière il ne reste que deux valeurs et le dessin du pelage.",
)

# %% [markdown]
# ### Les pièges des octets
#
# Un octet va de 0 à 255 ; au-delà, NumPy revient à zéro *sans rien dire*. Trois opérations banales,
# calculées d'abord sur des octets, puis sur des nombres réels :

# %%
OPERATIONS = {
    "200 + 100": lambda a, b: a + b,
    "leur moyenne, (200 + 100) / 2": lambda a, b: (a + b) / 2,
    "100 − 200": lambda a, b: b - a,
}
octets, reals = np.array([[200], [100]], dtype="uint8"), np.array([[200.0], [100.0]])
rows = [
    (name, number(f(*octets)[0], 0), number(f(*reals)[0], 0))
    for name, f in OPERATIONS.items()
]
runtime.show_table(("opération", "en octets", "en réels"), rows)

# %% [markdown]
# Sur une image entière, éclaircie de 80 niveaux :

# %%
brighter = photo + np.uint8(80)
clipped = np.clip(photo.astype(float) + 80, 0, 255).astype("uint8")
wrapped = (brighter < photo).any(axis=-1).mean()
fig = figures.grid(
    [brighter, clipped], titles=["en octets", "en réels, puis borné"], columns=2
)
figures.show(
    fig,
    alt=f"La photographie éclaircie de 80 niveaux : en octets, {percent(wrapped)} des pixels "
    "débordent et prennent des couleurs fausses ; en réels, elle est seulement plus claire.",
)

# %% [markdown]
# À gauche, un pixel sur cinq a débordé : le plus clair y est devenu sombre ou turquoise. D'où la
# règle : **convertir en réels avant de calculer**, arrondir et borner avant de revenir aux octets.

# %% [markdown]
# ## La convolution à une dimension
#
# Un ***filtre*** (ou ***noyau***) est une courte suite de poids. On le pose sur le début de
# l'entrée, on multiplie terme à terme, on additionne ; puis on le décale, et l'on recommence.
# Chaque position donne un nombre de la sortie :
#
# $$y_i = \sum_{k=0}^{F-1} w_k \, x_{iS + k}$$
#
# où $F$ est la taille du filtre et $S$ le ***pas*** (*stride*), le décalage d'une position à la
# suivante. Combien de positions ? Celle de rang $i$ occupe les cases $iS$ à $iS + F - 1$, et la
# dernière doit encore tenir dans l'entrée. Avec $N$ valeurs et $P$ zéros ajoutés de chaque côté (le
# ***remplissage***, *padding*), il faut $iS + F \le N + 2P$ ; en comptant à partir de zéro :
#
# $$O = \left\lfloor \frac{N - F + 2P}{S} \right\rfloor + 1$$


# %%
def output_size(n, f, s=1, p=0):
    """Nombre de positions d'un filtre de taille f sur n valeurs : pas s, p zéros par côté."""
    if f < 1 or s < 1 or p < 0:
        raise ValueError(
            "Le filtre et le pas valent au moins 1, le remplissage au moins 0."
        )
    if f > n + 2 * p:
        raise ValueError(
            f"Le filtre (taille {f}) dépasse l'entrée remplie (taille {n + 2 * p})."
        )
    return (n - f + 2 * p) // s + 1


# %%
def conv1d(x, kernel, stride=1, padding=0):
    """Convolution à une dimension, filtre non retourné : (n,), (f,) -> (o,)."""
    x, kernel = np.asarray(x, dtype=float), np.asarray(kernel, dtype=float)
    output = np.empty(output_size(len(x), len(kernel), stride, padding))
    x = np.pad(x, padding)
    for i in range(len(output)):
        window = x[i * stride : i * stride + len(kernel)]
        output[i] = np.sum(window * kernel)
    return output


# %% [markdown]
# Le document parle d'un « produit scalaire entre le filtre et une fenêtre glissante ». Vérifions-le
# autrement : NumPy donne toutes les fenêtres d'un coup, un produit de matrices fait le reste.

# %%
SIGNAL, SLOPE = [0, 1, 2, -1, 1, -3, 0], [1, 0, -1]  # l'exemple du document

windows = np.lib.stride_tricks.sliding_window_view(SIGNAL, 3)
result = conv1d(SIGNAL, SLOPE)
rows = [(french(list(window)), french(value)) for window, value in zip(windows, result)]
runtime.show_table(("fenêtre", "produit scalaire avec (1 ; 0 ; −1)"), rows)
verdict("conv-dot-product", np.array_equal(windows @ SLOPE, result))

# %% [markdown]
# Ce filtre soustrait au voisin de gauche celui de droite, sans regarder le centre : il est positif
# quand l'entrée descend, négatif quand elle monte, nul sur un plat. C'est une mesure de la *pente*.
# Un filtre cherche quelque chose ; sa réponse dit où il l'a trouvé.
#
# ### Le pas
#
# Avec un pas de 2, on ne garde qu'une position sur deux.

# %%
every = conv1d(SIGNAL, SLOPE, stride=1)
every_other = conv1d(SIGNAL, SLOPE, stride=2)
verdict("conv-stride-meaning", np.array_equal(every_other, every[::2]))

# %% [markdown]
# Le document donne le résultat de cet exemple, sans dire quel pas il prend. Essayons-les tous.

# %%
for stride in (1, 2, 3, 4):
    print(f"pas {stride} : {french(list(conv1d(SIGNAL, SLOPE, stride)))}")
verdict("conv-1d-stride", list(every_other))

# %% [markdown]
# C'est donc un pas de 2. Un autre exemple du document a perdu ses nombres : il n'est *pas
# vérifiable ici*.
#
# ### Le remplissage
#
# Pour un filtre de taille impaire et un pas de 1, ajouter $P = (F-1)/2$ zéros de chaque côté donne
# une sortie aussi longue que l'entrée. Le document l'illustre par ce calcul :
#
# $$\begin{gathered}
# (0 ; -1 ; -2 ; 2 ; 1 ; 2 ; 1 ; -3 ; 0) * (2 ; 1 ; -3) \\
# = (-1 ; -2 ; 2 ; 1 ; 2 ; 1 ; -3)
# \end{gathered}$$
#
# Le résultat a la bonne taille. Est-il juste ?

# %%
PADDED_SIGNAL, WEIGHTS = [-1, -2, 2, 1, 2, 1, -3], [2, 1, -3]

verdict("conv-1d-padding", list(conv1d(PADDED_SIGNAL, WEIGHTS, padding=1)))

# %% [markdown]
# Un filtre de taille 3 pourrait-il rendre l'entrée elle-même ? Ses trois poids doivent vérifier
# sept équations : résolvons-les.

# %%
windows = np.lib.stride_tricks.sliding_window_view(np.pad(PADDED_SIGNAL, 1), 3)
found, _, rank, _ = np.linalg.lstsq(windows, PADDED_SIGNAL)
assert np.allclose(windows @ found, PADDED_SIGNAL)
print(f"filtre : {french([round(w, 6) for w in found])}, rang {rank}")

# %% [markdown]
# C'est le filtre *identité*, qui garde le centre et rien d'autre ; et lui seul, car le rang du
# système égale le nombre d'inconnues.
#
# ### Une matrice, presque vide
#
# Chaque sortie est une somme pondérée des entrées : toute la convolution est donc le produit par
# une matrice, dont la colonne $k$ est la réponse à une entrée nulle partout sauf en $k$.

# %%
matrix = np.stack([conv1d(basis, SLOPE) for basis in np.eye(7)], axis=1)
print(matrix.astype(int))
assert np.array_equal(matrix @ SIGNAL, conv1d(SIGNAL, SLOPE))

# %% [markdown]
# Une matrice quelconque de cette forme aurait trente-cinq poids. Celle-ci n'en a que trois, les
# mêmes à chaque ligne (*partage*), et des zéros partout ailleurs (*localité*).
#
# ## La convolution à deux dimensions
#
# Le filtre devient un petit carré, que l'on promène ligne par ligne. La fonction accepte une image
# en gris `(h, w)`, ou à plusieurs canaux `(h, w, c)` ; le filtre a alors autant de canaux qu'elle.


# %%
def conv2d(image, kernel, stride=1, padding=0):
    """Convolution à deux dimensions, filtre non retourné ; rend une carte (h', w').

    image : (h, w) ou (h, w, c) ; kernel : (f, g) ou (f, g, c).
    """
    image, kernel = np.asarray(image, dtype=float), np.asarray(kernel, dtype=float)
    if image.shape[2:] != kernel.shape[2:]:
        raise ValueError(
            f"Le filtre {kernel.shape} doit avoir les canaux de l'image {image.shape}."
        )
    f, g = kernel.shape[:2]
    n_rows = output_size(image.shape[0], f, stride, padding)
    n_columns = output_size(image.shape[1], g, stride, padding)
    border = [(padding, padding)] * 2 + [(0, 0)] * (image.ndim - 2)
    image, output = np.pad(image, border), np.empty((n_rows, n_columns))
    for i in range(n_rows):
        for j in range(n_columns):
            top, left = i * stride, j * stride
            output[i, j] = np.sum(image[top : top + f, left : left + g] * kernel)
    return output


# %% [markdown]
# ### L'exemple du document, case par case
#
# Une image de 5 × 5, un filtre de 3 × 3 : neuf positions. Voici l'image, le filtre, puis le calcul
# des trois premières positions.

# %%
TABLE = np.array(
    [
        [1, 1, 1, 0, 0],
        [0, 1, 1, 1, 0],
        [0, 0, 1, 1, 1],
        [0, 0, 1, 1, 0],
        [0, 1, 1, 0, 0],
    ]
)
CROSS = np.array([[1, 0, 1], [0, 1, 0], [1, 0, 1]])

print(TABLE, CROSS, sep="\n\n")


# %%
def sum_of_products(window, kernel):
    """« 1 × 1 + 0 × 2 + … = s » : le calcul d'une position, comme on l'écrit à la main."""
    terms = [f"{x} × {w}" for x, w in zip(window.ravel(), kernel.ravel())]
    return f"{' + '.join(terms)} = {np.sum(window * kernel)}"


rows = [(j + 1, sum_of_products(TABLE[:3, j : j + 3], CROSS)) for j in range(3)]
runtime.show_table(("position", "somme des produits"), rows)

# %%
verdict("conv-2d-first", conv2d(TABLE, CROSS)[0, 0])
verdict("conv-2d-table", conv2d(TABLE, CROSS).astype(int).tolist())

# %% [markdown]
# Avec un pas de 2, dans les deux directions, il ne reste que les quatre coins de ce tableau :

# %%
print(conv2d(TABLE, CROSS, stride=2).astype(int))

# %% [markdown]
# L'animation suit la fenêtre sur cet exemple. Dans le livre, un explorateur prend sa place : vous y
# choisissez l'image, le filtre, le pas et le remplissage, et le calcul se fait dans la page.


# %% tags=["explorer", "hide-input"] cellView="form"
# @title Animation : la fenêtre glisse sur l'image
def draw_table(axis, array, title, window):
    """Un tableau de nombres, et le carré (haut, gauche, côté) que l'on y regarde."""
    axis.set(
        title=title, xlim=(-0.1, array.shape[1] + 0.1), ylim=(len(array) + 0.1, -0.1)
    )
    axis.set_aspect("equal")
    axis.axis("off")
    top, left, side = window
    square = {"facecolor": "#FBE3D3", "edgecolor": "#D55E00", "linewidth": 3}
    for (y, x), value in np.ndenumerate(array):
        axis.add_patch(plt.Rectangle((x, y), 1, 1, fill=False, edgecolor="#999999"))
        if np.isfinite(value):
            axis.text(
                x + 0.5, y + 0.5, f"{value:.0f}", ha="center", va="center", zorder=3
            )
    axis.add_patch(plt.Rectangle((left, top), side, side, **square, zorder=2))


def draw_step(image, kernel, step):
    """L'image et sa fenêtre, le filtre, et la sortie remplie jusqu'à la position `step`."""
    output = conv2d(image, kernel)
    i, j = divmod(step, output.shape[1])
    output.flat[step + 1 :] = np.nan
    fig, axes = plt.subplots(1, 3, figsize=(6, 2.7), width_ratios=(5, 3, 3))
    draw_table(axes[0], image, "image", (i, j, len(kernel)))
    draw_table(axes[1], kernel, "filtre", (0, 0, len(kernel)))
    draw_table(axes[2], output, "sortie", (i, j, 1))
    return fig


figures.animate(
    [draw_step(TABLE, CROSS, step) for step in range(9)],
    alt="Animation en neuf étapes : une fenêtre de 3 × 3 glisse sur l'image de 5 × 5 ; à chaque "
    "position, une case de la sortie se remplit, de 4 à 4 en passant par 3, 4, 2, 4, 3, 2 et 3.",
)

# %% [markdown]
# ### Comparaison avec deux bibliothèques
#
# Notre fonction calcule-t-elle la même chose que Keras et que SciPy ? Comparons-les sur des images
# et des filtres tirés au hasard. Keras attend des lots à quatre dimensions :
# `(image, ligne, colonne, canal)` pour les images,
# `(ligne, colonne, canal d'entrée, canal de sortie)` pour les filtres.


# %%
def keras_conv2d(image, kernel, stride=1):
    """La même convolution par Keras, sans remplissage : (h, w, c), (f, g, c) -> (h', w')."""
    images = image[None].astype("float32")
    kernels = kernel[..., None].astype("float32")
    maps = ops.conv(images, kernels, strides=stride, padding="valid")
    return ops.convert_to_numpy(maps)[0, ..., 0]


rng = np.random.default_rng(0)
worst = {"Keras": 0.0, "SciPy": 0.0}
for side, stride in [(3, 1), (5, 1), (4, 2), (3, 3)]:
    image = rng.normal(size=(15, 18, 3))
    kernel = rng.normal(size=(side, side, 3))
    ours = conv2d(image, kernel, stride)
    scipy = signal.correlate(image, kernel, mode="valid")[::stride, ::stride, 0]
    theirs = {"Keras": keras_conv2d(image, kernel, stride), "SciPy": scipy}
    for name, result in theirs.items():
        worst[name] = max(worst[name], np.abs(ours - result).max())
for name, gap in worst.items():
    print(f"plus grand écart avec {name}, en millionièmes : {number(1e6 * gap, 1)}")
    assert gap < 1e-4

# %% [markdown]
# Aux arrondis près (Keras calcule sur 32 bits), c'est la même opération. La vitesse, elle, diffère
# beaucoup. Chronométrons aussi une troisième façon : recopier toutes les fenêtres dans une matrice,
# pour n'avoir plus qu'un produit de matrices à faire.


# %%
def windows_conv2d(image, kernel):
    """La même convolution, sans boucle : une ligne par fenêtre, un produit de matrices."""
    windows = np.lib.stride_tricks.sliding_window_view(image, kernel.shape)
    shape = windows.shape[:2]
    return (windows.reshape(-1, kernel.size) @ kernel.ravel()).reshape(shape)


kernel = rng.normal(size=(3, 3, 3))
expected = windows_conv2d(photo, kernel)
keras_conv2d(photo, kernel)  # un premier appel, pour que Keras se prépare
rows = []
for name, function in (
    ("deux boucles", conv2d),
    ("produit de matrices", windows_conv2d),
    ("Keras", keras_conv2d),
):
    begin = perf_counter()
    result = function(photo, kernel)
    milliseconds = 1000 * (perf_counter() - begin)
    assert np.allclose(result, expected, atol=1e-2)
    rows.append((name, f"{number(milliseconds, 0)} ms"))
runtime.show_table(("façon", f"durée, {n_rows} × {n_columns} pixels"), rows)

# %% [markdown]
# Python paie chaque tour de boucle ; le produit de matrices et Keras font le même travail dans un
# programme compilé.
#
# ### Trois canaux
#
# Pour une image en couleurs, le document prend un filtre par canal et additionne les trois
# résultats. Première position : $30 + 18 + 111 = 159$.

# %%
RED = [
    [11, 23, 14, 0, 0],
    [0, 2, 15, 10, 0],
    [0, 0, 3, 11, 1],
    [0, 0, 1, 1, 0],
    [0, 11, 1, 0, 0],
]
GREEN = [
    [0, 0, 12, 0, 0],
    [0, 20, 18, 11, 0],
    [0, 0, 6, 4, 1],
    [0, 0, 3, 1, 0],
    [0, 90, 0, 0, 0],
]
BLUE = [
    [0, 12, 98, 0, 0],
    [0, 0, 0, 56, 0],
    [3, 0, 10, 11, 16],
    [0, 0, 0, 1, 0],
    [0, 90, 12, 0, 0],
]
FILTER_RED = [[1, 0, 1], [0, 1, 0], [1, 0, 1]]
FILTER_GREEN = [[-1, 1, 1], [0, 0, 0], [1, 0, 1]]
FILTER_BLUE = [[1, 0, 1], [-1, 0, 0], [1, 0, 1]]

rgb = np.stack([RED, GREEN, BLUE], axis=-1)  # (5, 5, 3)
rgb_filter = np.stack([FILTER_RED, FILTER_GREEN, FILTER_BLUE], axis=-1)  # (3, 3, 3)
by_channel = [conv2d(rgb[..., c], rgb_filter[..., c]) for c in range(3)]
verdict("conv-rgb-terms", [int(part[0, 0]) for part in by_channel])

# %%
whole = conv2d(rgb, rgb_filter)
verdict("conv-rgb-sum", whole[0, 0])
print(whole.astype(int))

# %% [markdown]
# La somme des trois cartes est-elle partout la convolution de l'image entière ?

# %%
verdict("conv-rgb-channels", np.array_equal(sum(by_channel), whole))

# %% [markdown]
# Les deux calculs donnent la même carte, mais le document mêle deux vocabulaires : ici trois
# filtres pour une carte, plus loin « 1 filtre = 1 carte en sortie ». Aujourd'hui, on appelle
# *filtre* le bloc entier de 3 × 3 × 3 poids. Keras y joint un ***biais***, un nombre ajouté à
# chaque case de la carte, dont ces pages du document ne parlent pas.

# %%
layer = layers.Conv2D(filters=1, kernel_size=3)
layer.build((None, 5, 5, 3))
kernel_shape = tuple(layer.kernel.shape)
print(
    f"noyau {kernel_shape}, biais {tuple(layer.bias.shape)} : {layer.count_params()} paramètres"
)
verdict("conv-rgb-filter", len(kernel_shape) - 1)

# %% [markdown]
# ## La taille de la sortie
#
# Le document donne trois formules : sans pas ni remplissage, avec un pas, avec un remplissage.
# Commençons par ses exemples.

# %%
verdict("conv-size-example", output_size(7, 3))
verdict("conv-size-stride-example", output_size(5, 3, s=2))
verdict("conv-size-padding-example", output_size(5, 3, s=1, p=1))

# %% [markdown]
# (Dans ces formules, $N$ est le *côté* de l'image, 7, et non « $7 \times 7$ ».)
#
# Trois exemples ne prouvent rien. Essayons toutes les combinaisons de petites tailles, en demandant
# à Keras de *faire* chaque convolution.

# %%
CASES = [
    (n, f, s, p)
    for n in range(1, 8)
    for f in range(1, 6)
    for s in (1, 2, 3)
    for p in (0, 1, 2)
    if f <= n + 2 * p
]


def keras_size(n, f, s, p):
    """Longueur de la sortie que Keras calcule vraiment."""
    x = np.pad(np.ones(n, "float32"), p)[None, :, None]
    y = ops.conv(x, np.ones((f, 1, 1), "float32"), strides=s, padding="valid")
    return y.shape[1]


measured = {case: keras_size(*case) for case in CASES}
print(f"{len(CASES)} combinaisons")
assert all(output_size(*case) == size for case, size in measured.items())

# %% [markdown]
# Notre fonction donne partout la taille de Keras. Et les formules du document, qui n'arrondissent
# pas ?

# %%
plain = [case for case in CASES if case[2:] == (1, 0)]
verdict(
    "conv-size-valid", all(measured[n, f, 1, 0] == n - f + 1 for n, f, _, _ in plain)
)

# %%
broken = [case for case in CASES if (case[0] - case[1] + 2 * case[3]) % case[2]]
print(f"division inexacte dans {len(broken)} cas sur {len(CASES)}")
verdict("conv-size-floor", measured[6, 3, 2, 0])

# %% [markdown]
# Que devient ce qui dépasse ? Changeons la dernière valeur de l'entrée.

# %%
x = np.arange(1.0, 7)
changed = x.copy()
changed[-1] = 1000
for values in (x, changed):
    print(
        f"{french(list(values))} → {french(list(conv1d(values, [1, 1, 1], stride=2)))}"
    )

# %% [markdown]
# La dernière valeur n'est *jamais lue*. Sur une image, ce sont des lignes et des colonnes entières,
# toujours du même côté. La formule avec remplissage souffre du même mal :

# %%
verdict("conv-size-formula-padding", keras_size(6, 3, 2, 1))

# %% [markdown]
# ### Combien de zéros ?
#
# Le document calcule « le nombre de zéros $P$ » : $(F-1)/2$. Avec $F = 3$, combien en a-t-on ajouté
# dans l'exemple de remplissage à une dimension ?

# %%
verdict("conv-padding-count", len(np.pad(PADDED_SIGNAL, 1)) - len(PADDED_SIGNAL))

# %% [markdown]
# La formule trouve-t-elle toujours le remplissage qui garde la taille ? Cherchons-le parmi nos
# combinaisons, avec un pas de 1.

# %%
keeping = {
    f: {
        p
        for n, size, s, p in CASES
        if (size, s) == (f, 1) and measured[n, f, 1, p] == n
    }
    for f in range(1, 6)
}
rows = [
    (f, french((f - 1) / 2), ", ".join(map(str, sorted(found))) or "aucun")
    for f, found in keeping.items()
]
runtime.show_table(("F", "(F − 1) / 2", "remplissages qui gardent la taille"), rows)
verdict(
    "conv-padding-formula", all((f - 1) / 2 in found for f, found in keeping.items())
)

# %% [markdown]
# Et pour une taille impaire, la longueur est-elle toujours gardée ?

# %%
odd = [(n, f, s, p) for n, f, s, p in CASES if s == 1 and f == 2 * p + 1]
verdict("conv-padding-keeps", all(measured[case] == case[0] for case in odd))

# %% [markdown]
# Ajouter des zéros est un choix ; on peut aussi répéter le bord, ou le refléter, pour ne pas
# dessiner autour de l'image un cadre noir que les filtres prendront pour un contour.

# %% [markdown]
# ## Convolution ou corrélation ?
#
# En traitement du signal, la convolution *retourne* le filtre avant de le promener :
#
# $$\begin{aligned}
# (x \star w)_i &= \sum_k w_k \, x_{i+k} \quad\text{(corrélation)} \\
# (x * w)_i &= \sum_k w_k \, x_{i-k} \quad\text{(convolution)}
# \end{aligned}$$
#
# Retourner le filtre, c'est le lire à l'envers : `w[::-1]`, et dans les deux sens pour une image.
# Nos fonctions, avec le filtre retourné, doivent alors donner la convolution de SciPy.

# %%
assert np.array_equal(
    conv1d(SIGNAL, SLOPE[::-1]), signal.convolve(SIGNAL, SLOPE, "valid")
)
for kernel in (CROSS, FILTER_GREEN):
    flipped = np.array(kernel)[::-1, ::-1]
    theirs = signal.convolve(TABLE, kernel, "valid")
    assert np.array_equal(conv2d(TABLE, flipped), theirs)
print("filtre retourné : égal à la convolution de SciPy, à une et à deux dimensions")

# %% [markdown]
# Laquelle des deux le document calcule-t-il ? Comparons sur ses quatre exemples.

# %%
rows = [
    (name, french(list(as_given)), french(list(flipped)))
    for name, as_given, flipped in (
        (
            "1D, pas de 2",
            conv1d(SIGNAL, SLOPE, stride=2),
            conv1d(SIGNAL, SLOPE[::-1], stride=2),
        ),
        (
            "1D, remplissage",
            conv1d(PADDED_SIGNAL, WEIGHTS, padding=1),
            conv1d(PADDED_SIGNAL, WEIGHTS[::-1], padding=1),
        ),
        (
            "2D, première ligne",
            conv2d(TABLE, CROSS)[0],
            conv2d(TABLE, CROSS[::-1, ::-1])[0],
        ),
        (
            "RGB, première ligne",
            conv2d(rgb, rgb_filter)[0],
            conv2d(rgb, rgb_filter[::-1, ::-1])[0],
        ),
    )
]
runtime.show_table(("exemple", "corrélation", "convolution du signal"), rows)
verdict("conv-is-correlation", list(conv1d(SIGNAL, SLOPE[::-1], stride=2)))

# %% [markdown]
# Le document, comme Keras et comme tous les réseaux « à convolution », calcule une ***corrélation
# croisée***. Son exemple 5 × 5 ne pouvait pas le montrer : son filtre est symétrique.
#
# Est-ce grave ? Deux propriétés distinguent la vraie convolution. Elle est *commutative* :
# $x * w = w * x$, aucune des deux fonctions n'est « l'image » ou « le filtre ». Elle est
# *associative* : $(x * a) * b = x * (a * b)$. La corrélation perd l'une et l'autre.


# %%
def commutes(operation):
    a, b = np.array([1.0, 2, 3, 4]), np.array([1.0, 0, -1])
    return np.allclose(operation(a, b, mode="full"), operation(b, a, mode="full"))


for name, operation in (
    ("corrélation", signal.correlate),
    ("convolution", signal.convolve),
):
    print(f"{name} : {'commute' if commutes(operation) else 'ne commute pas'}")

# %% [markdown]
# Deux corrélations de suite n'en font pourtant qu'une, par un filtre qui est la *convolution* des
# deux : $(x \star a) \star b = x \star (a * b)$. Deux couches de convolution sans rien entre elles
# ne font donc rien qu'une seule, plus grande, ne puisse faire ; c'est pourquoi les réseaux y
# intercalent une fonction non linéaire ([chapitre 2](02_layers_and_training.ipynb)).

# %%
first, second = [1, 0, -1], [2, 1, -3]
one_by_one = conv1d(conv1d(SIGNAL, first), second)
at_once = conv1d(SIGNAL, signal.convolve(first, second))
print(f"l'un après l'autre : {french(list(one_by_one))}")
print(f"d'un coup : {french(list(at_once))}")
assert np.allclose(one_by_one, at_once)

# %% [markdown]
# Quand le retournement change-t-il quelque chose ?
#
# - **Il ne change rien** dans un réseau entraîné : les poids sont appris, et le filtre retourné
#   s'apprend aussi bien, tant que l'on garde la même convention.
# - **Il compte** quand le filtre est donné et n'est pas symétrique : pente, filtre d'une
#   bibliothèque de traitement du signal, poids repris d'un autre logiciel. Une pente change alors
#   de signe.
#
# ## Ce que cherche un filtre
#
# ### Détecter les bords, renforcer la netteté
#
# Le document montre deux filtres. Avant toute image, regardons la somme de leurs poids, et leur
# effet sur une marche : une zone sombre (valeur 2), puis une zone claire (valeur 8).

# %%
EDGES = np.array([[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]])
SHARPEN = np.array([[0, -1, 0], [-1, 5, -1], [0, -1, 0]])
STEP = np.tile([2, 2, 2, 2, 8, 8, 8, 8], (3, 1))

rows = [
    (name, kernel.sum(), french(list(conv2d(STEP, kernel)[0])))
    for name, kernel in (("bords", EDGES), ("netteté", SHARPEN))
]
runtime.show_table(("filtre", "somme des poids", "réponse à la marche"), rows)

# %% [markdown]
# Le premier filtre a une somme nulle : il vaut zéro dans une zone uniforme, et répond avec
# deux signes de part et d'autre du bord. Le second a une somme de 1 : il garde les zones uniformes
# et *exagère* le bord, plus sombre d'un côté, plus clair de l'autre.

# %%
response = conv2d(STEP, EDGES)[0]
flat, border = response[[0, 1, 4, 5]], response[[2, 3]]
verdict("conv-edge-kernel", bool((flat == 0).all() and (border != 0).all()))
sharpened = conv2d(STEP, SHARPEN)[0]
unchanged = (sharpened[[0, 1, 4, 5]] == STEP[0, [1, 2, 5, 6]]).all()
verdict("conv-sharpen-kernel", bool(unchanged and np.ptp(sharpened) > np.ptp(STEP)))

# %% [markdown]
# Sur la photographie, maintenant. Dans la carte des bords, le gris moyen vaut zéro ; un bord y est
# plus clair ou plus sombre.


# %%
def fast_conv2d(image, kernel):
    """`conv2d` sur une grande image en gris, par Keras : (h, w), (f, f) -> (h', w')."""
    return keras_conv2d(image[..., None], kernel[..., None])


def signed(response, scale):
    """Réponse signée -> gris de 0 à 1, zéro au milieu."""
    return np.clip(0.5 + response / (2 * scale), 0, 1)


cat = luma_grey(photo)[20:270, 90:390]
edge_map, sharp = fast_conv2d(cat, EDGES), fast_conv2d(cat, SHARPEN)
panels = [cat / 255, signed(edge_map, 120), sharp / 255]
fig = figures.grid(panels, titles=["original", "bords", "netteté"], columns=3)
figures.show(
    fig,
    alt="Une tête de chat en gris ; ses bords, poils et moustaches seuls sur un fond uniforme ; "
    "la même tête aux poils plus contrastés.",
)

# %% [markdown]
# Poils et moustaches ressortent ; les zones floues du fond sont restées grises. Le filtre de
# netteté n'ajoute aucune information : il amplifie les différences, bruit compris.
#
# ### Une banque de filtres
#
# Le document applique quatre filtres à une même image. Leurs réponses sont des ***cartes de
# caractéristiques*** : des images encore, où chaque pixel dit avec quelle force le filtre a répondu
# *à cet endroit*.

# %%
FILTERS = {
    "filtre 1": np.array([[-1, -1, -1], [1, 1, 1], [0, 0, 0]]),
    "filtre 2": np.array([[-1, 1, 0], [-1, 1, 0], [-1, 1, 0]]),
    "filtre 3": np.array([[0, 0, 0], [1, 1, 1], [-1, -1, -1]]),
    "filtre 4": np.array([[0, 1, -1], [0, 1, -1], [0, 1, -1]]),
}
building = luma_grey(photographs["pavilion"])[20:380, 20:420]
maps = {name: fast_conv2d(building, kernel) for name, kernel in FILTERS.items()}
fig = figures.grid(
    [building / 255, *(signed(response, 150) for response in list(maps.values())[:2])],
    titles=["original", "filtre 1", "filtre 2"],
    columns=3,
)
figures.show(
    fig,
    alt="Un pavillon chinois en gris ; le filtre 1 n'en garde que les traits horizontaux, toits et "
    "balcons ; le filtre 2, les traits verticaux, colonnes et arêtes.",
)

# %% [markdown]
# Le filtre 1 garde les toits et les balcons, le filtre 2 les colonnes : l'un cherche les bords
# horizontaux, l'autre les verticaux. À quoi servent le 3 et le 4 ?

# %%
for first, second in (("filtre 1", "filtre 3"), ("filtre 2", "filtre 4")):
    turned = np.array_equal(np.rot90(FILTERS[first], 2), FILTERS[second])
    print(f"{second} = {first} retourné : {'oui' if turned else 'non'}")

# %% [markdown]
# Ces deux paires répondent donc aux mêmes traits avec des signes opposés, à une ligne près : « plus
# clair que le dessus » et « plus clair que le dessous ».

# %%
fig = figures.grid(
    [signed(response, 150)[60:180, 100:220] for response in maps.values()],
    titles=list(maps),
    columns=4,
)
figures.show(
    fig,
    alt="Le même détail du toit vu par les quatre filtres : les cartes 1 et 3 montrent les mêmes "
    "traits horizontaux en valeurs opposées, les cartes 2 et 4 les mêmes traits verticaux.",
)

# %% [markdown]
# Vérifions trois affirmations du document. D'abord, combien de cartes rend une couche de $K$
# filtres : $K$, ou « une carte », comme l'écrit une autre phrase ?

# %%
bank = np.stack(list(FILTERS.values()), axis=-1)[:, :, None].astype("float32")
batch = building[None, ..., None].astype("float32")
feature_maps = ops.conv(batch, bank, padding="valid")
print(f"entrée {batch.shape}")
print(f"filtres {bank.shape}")
print(f"sortie {tuple(feature_maps.shape)}")
verdict("conv-bank-maps", feature_maps.shape[-1])
verdict("conv-layer-maps", feature_maps.shape[-1])

# %% [markdown]
# Ensuite, chaque pixel d'une carte ne répondrait qu'à « une région de l'entrée ». Le ***gradient***
# de ce pixel par rapport à l'image dit, pixel par pixel, de combien il changerait si l'image y
# changeait un peu. La fonction `value_and_grad`, du cours, le calcule. Où est-il différent de
# zéro ?

# %%
thumbnail = building[::40, ::40][None, ..., None].astype("float32")
kernel = bank[..., :1] + 0.5  # aucun poids nul


def one_pixel(image, row=3, column=4):
    return ops.conv(image, kernel, padding="valid")[0, row, column, 0]


_, gradient = value_and_grad(one_pixel, thumbnail)
seen = np.argwhere(gradient[0, ..., 0])
(first_row, first_column), (last_row, last_column) = seen.min(axis=0), seen.max(axis=0)
print(f"lignes {first_row} à {last_row}, colonnes {first_column} à {last_column}")
verdict("conv-local", len(seen))

# %% [markdown]
# Enfin, les cartes sont des « représentations spatiales » : si l'objet se déplace, sa réponse se
# déplace d'autant. C'est l'***équivariance*** par translation.

# %%
SHIFT = 7
moved = np.roll(building, SHIFT, axis=1)
response, moved_response = (fast_conv2d(image, EDGES) for image in (building, moved))
gap = np.abs(moved_response[:, SHIFT + 2 :] - response[:, 2:-SHIFT]).max()
print(f"carte déplacée et carte de l'image déplacée : écart {number(gap, 3)}")
verdict("conv-spatial", bool(gap < 1e-3))

# %% [markdown]
# Deux choses rompent cette égalité : les bords, où le remplissage invente des zéros, et le pas.
# Avec un pas de 2, une réponse ne peut se déplacer que d'un nombre *entier* de cases, donc l'image
# d'un nombre pair de pixels. Mesurons l'écart pour des déplacements de 1 à 4 pixels.


# %%
def equivariance_gap(stride, shift):
    """Écart relatif entre « déplacer, filtrer » et « filtrer, déplacer », loin des bords."""
    moved = np.roll(building, shift, axis=1)
    here, there = (
        keras_conv2d(image[..., None], EDGES[..., None], stride)
        for image in (building, moved)
    )
    cells = shift // stride
    return (
        np.abs(np.roll(here, cells, axis=1) - there)[:, 10:-10].mean()
        / np.abs(here).mean()
    )


rows = [
    (stride, *(number(equivariance_gap(stride, shift)) for shift in (1, 2, 3, 4)))
    for stride in (1, 2, 4)
]
header = ("pas", "1 pixel", *(f"{shift} pixels" for shift in (2, 3, 4)))
runtime.show_table(header, rows)

# %% [markdown]
# Un 0 dit que la réponse a suivi le déplacement ; un 1, que l'écart est aussi grand que la réponse
# elle-même.
#
# L'égalité tient quand le déplacement est un multiple du pas, et seulement alors : avec un pas de
# 2, un seul pixel de décalage change presque tout. Ne confondez pas équivariance (la réponse *suit*
# l'objet) et invariance (la réponse *ne change pas*) : les chapitres
# [2](02_layers_and_training.ipynb) et [4](04_transfer_learning.ipynb) mesureront la seconde.

# %% [markdown]
# ## La couche `Conv2D` de Keras
#
# Le document donne ce bloc :
#
# ```python
# from tensorflow.keras.layers import Conv2D
# Conv2D(filters=32,           # nombre de filtres (noyaux)
#         kernel_size=(3,3),   # taille de chaque filtre
#         strides=(1,1),       # déplacement du filtre (sx,sy)
#         padding='same',   # 'same' (même taille que l'entrée), 'valid' #pas de padding (réduction)
#         activation='relu',    # fonction d'activation
#         input_shape=(28,28,1) # taille de l'entrée (uniquement dans la 1re couche)
# )
# ```
#
# Il s'exécute, mais Keras 3 fait une remarque sur sa dernière ligne.


# %%
def document_layer():
    """La couche du document, et les avertissements que Keras donne en la construisant."""
    with warnings.catch_warnings(record=True) as messages:
        warnings.simplefilter("always")
        layer = layers.Conv2D(
            filters=32,
            kernel_size=(3, 3),
            strides=(1, 1),
            padding="same",
            activation="relu",
            input_shape=(28, 28, 1),
        )
    return layer, [str(message.message).split(".")[0] for message in messages]


layer, messages = document_layer()
print(*messages, sep="\n")
verdict("conv-input-shape", not messages)

# %% [markdown]
# « Ne donnez pas `input_shape` à une couche. » Que rend celle-ci, et combien a-t-elle de
# paramètres ?

# %%
output = layer(keras.Input(shape=(28, 28, 1)))
print(f"sortie {output.shape}, {layer.count_params()} paramètres")
assert layer.count_params() == (3 * 3 * 1 + 1) * 32

# %% [markdown]
# `None` est le nombre d'images, laissé libre. Chaque filtre a $3 \times 3 \times 1$ poids et un
# biais ; il y en a 32. La taille de l'image n'intervient pas : les mêmes poids servent à toutes les
# positions.
#
# ### `strides` : dans quel ordre ?
#
# Le commentaire dit `(sx,sy)`. Donnons deux pas différents : si le premier est celui des $x$, une
# sortie de pas `(1, 2)` aura 28 colonnes et 14 lignes.


# %%
def layer_size(side=28, **options):
    """Lignes et colonnes que rend une couche sur une image carrée."""
    layer = layers.Conv2D(filters=1, **({"kernel_size": 3} | options))
    return list(layer(np.zeros((1, side, side, 1), "float32")).shape[1:3])


verdict("conv-strides-order", layer_size(strides=(1, 2), padding="same"))

# %% [markdown]
# ### `'same'` : même taille que l'entrée ?
#
# Le commentaire de `padding` annonce deux choses : `'valid'` réduit la taille, `'same'` la garde.
# Essayons la seconde avec un pas de 2, sur une image de 5 × 5.

# %%
verdict("conv-valid", layer_size(padding="valid"))
verdict("conv-same", layer_size(side=5, strides=2, padding="same"))

# %% [markdown]
# Vérifions cette règle, avec des filtres pairs et impairs.

# %%
for n in range(1, 10):
    for f in (1, 2, 3, 4):
        for s in (1, 2, 3):
            size = ops.conv(
                np.ones((1, n, 1), "float32"), np.ones((f, 1, 1), "float32"), s, "same"
            ).shape[1]
            assert size == math.ceil(n / s), (n, f, s)
print("'same' rend ⌈N/S⌉ dans tous les cas")

# %% [markdown]
# Pour tenir cette règle, Keras ajoute parfois plus de zéros d'un côté que de l'autre, ce que la
# formule $P = (F-1)/2$ ne sait pas faire. Additionnons des voisins trois par trois, de deux en
# deux :

# %%
line = np.arange(1.0, 7)
same = ops.conv(
    line[None, :, None].astype("float32"), np.ones((3, 1, 1), "float32"), 2, "same"
)
print("Keras, 'same' :", french([float(v) for v in ops.convert_to_numpy(same).ravel()]))
print(
    "un zéro de chaque côté :",
    french(list(conv1d(line, [1, 1, 1], stride=2, padding=1))),
)

# %% [markdown]
# Keras n'a mis qu'un zéro, à droite. PyTorch (`torch.nn.Conv2d(..., padding=1)`) en met un de
# chaque côté : un réseau transcrit de l'un à l'autre sans précaution a des couches décalées d'un
# pixel.
#
# ### La profondeur
#
# L'exemple du document : une image de 32 × 32 × 3, dix filtres de 5 × 5.

# %%
layer = layers.Conv2D(filters=10, kernel_size=5, padding="same")
output = layer(np.zeros((1, 32, 32, 3), "float32"))
verdict("conv-filter-depth", list(layer.kernel.shape[:3]))
verdict("conv-depth-maps", list(output.shape[1:]))

# %%
single = layers.Conv2D(filters=1, kernel_size=5, padding="same")
verdict("conv-one-filter", list(single(np.zeros((1, 32, 32, 3), "float32")).shape[1:]))

# %% [markdown]
# Le document appelle « profondeur » le nombre de filtres, puis le nombre de canaux de l'entrée
# (« Chaque filtre a la même profondeur que l'entrée ») ; ailleurs, on nomme ainsi le nombre de
# couches. Trois sens : mieux vaut dire *filtres*, *canaux* ou *couches*.
#
# Chaque case de la sortie est la somme des produits d'une fenêtre, sur tous les canaux, plus le
# biais de son filtre :
#
# $$y_{ijk} = b_k + \sum_{u, v, c} w_{uvck} \; x_{iS+u,\, jS+v,\, c}$$
#
# Combien de paramètres ? $(F \cdot F \cdot C + 1) \cdot K$. Et si l'on remplaçait cette couche par
# une ***couche dense***, où chaque sortie a son poids pour chaque entrée ?

# %%
convolutional = (5 * 5 * 3 + 1) * 10
assert layer.count_params() == convolutional
n_inputs, n_outputs = 32 * 32 * 3, 32 * 32 * 10
dense = (n_inputs + 1) * n_outputs
print(f"convolution : {number(convolutional, 0)} paramètres")
print(f"couche dense : {number(dense, 0)} paramètres")
verdict("conv-efficient", convolutional < dense)

# %% [markdown]
# Localité et partage font cette économie. Celle du calcul est moindre, car chaque poids resert à
# toutes les positions : combien de multiplications pour une image ?

# %%
print(f"convolution : {number(32 * 32 * 10 * 5 * 5 * 3, 0)} multiplications")
print(f"couche dense : {number(n_inputs * n_outputs, 0)} multiplications")

# %% [markdown]
# Quarante mille fois moins de poids, quarante fois moins de calcul. Encore faut-il que l'image soit
# bien une grille, où les voisins ont un sens : nous le mettrons à l'épreuve.
#
# ## Le champ réceptif
#
# Une case de la première carte voit $F \times F$ pixels. Une case de la deuxième voit $F \times F$
# cases de la première, donc davantage de pixels : son ***champ réceptif***. Une couche de
# taille $f$ y ajoute $f - 1$ cases de la couche précédente ; deux cases voisines de celle-ci sont
# distantes, dans l'image, du produit des pas déjà faits :
#
# $$r_\ell = r_{\ell-1} + (f_\ell - 1) \prod_{i < \ell} s_i, \qquad r_0 = 1$$


# %%
def receptive_field(stack):
    """Côté du champ réceptif d'une pile de couches, données par (taille, pas)."""
    side, step = 1, 1
    for size, stride in stack:
        side += (size - 1) * step
        step *= stride
    return side


# %% [markdown]
# Mesurons-le : le champ réceptif d'une case, ce sont les pixels dont elle dépend, donc ceux où son
# gradient n'est pas nul. Des poids tous positifs évitent qu'il s'annule par hasard.


# %%
def measured_field(stack, image_side=64):
    """Côté du carré de pixels dont dépend la case centrale, par son gradient."""

    def centre(x):
        for size, stride in stack:
            x = ops.conv(x, np.ones((size, size, 1, 1), "float32"), stride, "valid")
        return x[0, x.shape[1] // 2, x.shape[2] // 2, 0]

    _, gradient = value_and_grad(centre, np.zeros((1, image_side, image_side, 1)))
    rows = np.flatnonzero(gradient[0, :, :, 0].any(axis=1))
    return rows[-1] - rows[0] + 1


STACKS = {
    "une 5 × 5": [(5, 1)],
    "deux 3 × 3": [(3, 1)] * 2,
    "trois 3 × 3": [(3, 1)] * 3,
    "3 × 3, pas de 2, deux fois": [(3, 2)] * 2,
    "(3 × 3, réduction par 2), trois fois": [(3, 1), (2, 2)] * 3,
}
rows = [
    (name, receptive_field(stack), measured_field(stack))
    for name, stack in STACKS.items()
]
runtime.show_table(("pile de couches", "formule", "gradient"), rows)
assert all(formula == measure for _, formula, measure in rows)

# %% [markdown]
# Deux convolutions 3 × 3 voient autant qu'une 5 × 5, avec 18 poids au lieu de 25 : c'est l'idée des
# réseaux VGG, au [chapitre 3](03_architectures.ipynb). Et réduire l'image agrandit le champ bien
# plus vite qu'ajouter des couches.
#
# Mais tous les pixels du champ ne comptent pas également : ceux du centre atteignent la sortie par
# bien plus de chemins. Moyennons le gradient de piles de couches 3 × 3 à poids tirés au hasard.


# %%
def random_stack_gradient(seed, depth, channels=8, image_side=33):
    """|gradient| de la case centrale d'une pile de convolutions aléatoires : (côté, côté)."""
    rng = np.random.default_rng(seed)
    inputs = [1] + [channels] * (depth - 1)
    kernels = [
        rng.normal(scale=np.sqrt(2 / (9 * c)), size=(3, 3, c, channels)) for c in inputs
    ]

    def centre(x):
        for kernel in kernels:
            x = ops.relu(ops.conv(x, kernel.astype("float32"), padding="same"))
        return ops.sum(x[0, image_side // 2, image_side // 2])

    image = rng.normal(size=(1, image_side, image_side, 1))
    return np.abs(value_and_grad(centre, image)[1][0, ..., 0])


# %% [markdown]
# Le carré blanc est le champ réceptif théorique ; plus un pixel est clair, plus il compte.

# %%
DEPTHS = (4, 10)
fields = {depth: receptive_field([(3, 1)] * depth) for depth in DEPTHS}
importance = {
    depth: np.mean([random_stack_gradient(seed, depth) for seed in range(20)], axis=0)
    for depth in DEPTHS
}
fig = figures.grid(
    [values / values.max() for values in importance.values()],
    titles=[f"{depth} couches, champ de {fields[depth]}" for depth in DEPTHS],
    columns=2,
    cmap="viridis",
)
for axis, side in zip(fig.axes, fields.values()):
    corner = 16 - side / 2
    square = {"fill": False, "edgecolor": "white", "linewidth": 2}
    axis.add_patch(plt.Rectangle((corner, corner), side, side, **square))
figures.show(
    fig,
    alt=f"Importance de chaque pixel pour une case de la {DEPTHS[0]}e et de la {DEPTHS[1]}e "
    "couche : une tache ronde, plus petite que le champ réceptif théorique, un carré blanc de "
    f"{fields[DEPTHS[0]]} et de {fields[DEPTHS[1]]} pixels.",
)

# %% [markdown]
# Chiffrons-le : quelle part du gradient tombe dans le carré central, moitié moins large ?

# %%
rows = []
for depth, values in importance.items():
    half = fields[depth] // 4
    centre = values[16 - half : 17 + half, 16 - half : 17 + half]
    area = centre.size / fields[depth] ** 2
    share = centre.sum() / values.sum()
    rows.append((depth, percent(share), percent(area)))
runtime.show_table(("couches", "part du gradient", "part de la surface"), rows)

# %% [markdown]
# Le centre reçoit bien plus que sa part, et d'autant plus que la pile est profonde. Le champ
# *effectif* est une tache floue, plus petite que le carré théorique ([Luo et al.,
# 2016](https://arxiv.org/abs/1701.04128)).

# %% [markdown]
# ## À la main, ou par apprentissage ?
#
# ### Apprendre un filtre
#
# Jusqu'ici, les filtres étaient donnés. On peut aussi les *trouver*, à partir d'exemples : voici un
# signal, voici sa sortie par un filtre que l'on nous cache. Partons de zéros et descendons le
# gradient de l'erreur : à chaque mise à jour, déplaçons un peu les poids dans le sens qui la
# réduit.

# %%
entry = np.random.default_rng(1).normal(size=100)
target = ops.convert_to_tensor(conv1d(entry, SLOPE), dtype="float32")
batch = entry[None, :, None].astype("float32")


def squared_error(weights):
    """Erreur quadratique moyenne entre la sortie du filtre et la sortie voulue."""
    output = ops.conv(batch, ops.reshape(weights, (3, 1, 1)), padding="valid")
    return ops.mean(ops.square(output[0, :, 0] - target))


weights, rows = np.zeros(3), []
for update in range(31):
    error, gradient = value_and_grad(squared_error, weights)
    if update % 10 == 0:
        found = french([round(float(w), 2) for w in weights])
        rows.append((update, number(error, 4), found))
    weights = weights - 0.2 * gradient
runtime.show_table(("mises à jour", "erreur", "filtre"), rows)

# %% [markdown]
# En vingt mises à jour, la descente a retrouvé $(1 ; 0 ; -1)$ sans qu'on le lui dise. Un réseau
# fait la même chose pour des milliers de poids à la fois, avec pour seul but de bien classer.
#
# ### La chaîne traditionnelle
#
# Avant 2012, classer une image demandait deux étapes : des ***caractéristiques*** conçues à la
# main, puis un classifieur qui apprend à s'en servir. Parmi les plus célèbres, les ***histogrammes
# de gradients orientés*** (HOG) : dans chaque cellule de l'image, combien de bords dans chaque
# direction ? La première étape est une convolution, par le filtre de pente $(-1 ; 0 ; 1)$ dans les
# deux sens ; rien n'y est appris.

# %%
x_train, y_train = garments.x_train, garments.y_train
x_test, y_test = garments.x_test, garments.y_test
HOG = {"orientations": 9, "pixels_per_cell": (4, 4), "cells_per_block": (2, 2)}

sample = x_test[:4]
larger = [resize(image, (112, 112)) for image in sample]  # le dessin y gagne
drawings = [
    hog(image, **(HOG | {"pixels_per_cell": (16, 16)}), visualize=True)[1]
    for image in larger
]
panels = [image / 255 for image in sample] + [d / d.max() for d in drawings]
fig = figures.grid(panels, columns=4, row_labels=["images", "HOG"])
figures.show(
    fig,
    alt="Quatre images et, dessous, leurs histogrammes de gradients orientés : de petits traits "
    "qui suivent les contours.",
)


# %%
def hog_features(images):
    """Histogrammes de gradients orientés : (n, 28, 28) -> (n, 1296)."""
    return np.stack([hog(image, **HOG) for image in images]).astype("float32")


def to_input(images):
    """Octets (n, h, w) -> réels de 0 à 1, avec un canal : (n, h, w, 1)."""
    return images[..., None].astype("float32") / 255


def raw_pixels(images):
    """Les pixels mêmes, de 0 à 1 : (n, 28, 28) -> (n, 784)."""
    return images.reshape(len(images), -1).astype("float32") / 255


# %% [markdown]
# Le classifieur est une machine à vecteurs de support (SVM) linéaire : pour chaque classe, une
# somme pondérée des caractéristiques, dont les poids laissent la plus grande marge possible entre
# cette classe et les autres. Son réglage `C` dit combien une erreur d'entraînement lui coûte ; nous
# l'avons choisi une fois, sur trois mille images mises de côté, jamais sur celles de test.


# %%
def fit_svm(features, labels):
    return LinearSVC(C=0.1, random_state=0).fit(features, labels)


# %% [markdown]
# ### Le petit réseau
#
# Un ***réseau à convolution*** (*convolutional neural network*, CNN) apprend ses filtres en même
# temps que son classifieur. Le document le décrit ainsi : des couches de convolution « alternées
# avec des couches de sous-échantillonnage », puis une partie de classification. Le chapitre 2
# étudie chacune de ces couches. Ici, il suffit de savoir que `relu` remplace les nombres négatifs
# par zéro, que `MaxPooling2D` garde le maximum de chaque carré de 2 × 2 cases, que `Flatten` met
# les cartes bout à bout, que `Dropout` éteint des valeurs au hasard pendant l'entraînement, et que
# `Dense` donne un score par classe. La réponse du réseau est la classe au plus haut score.


# %%
def small_cnn(input_shape=(28, 28, 1), n_classes=10):
    """Deux convolutions, deux réductions, un classifieur : image -> un score par classe."""
    inputs = keras.Input(shape=input_shape, name="image")
    x = layers.Conv2D(32, kernel_size=5, activation="relu", name="conv1")(inputs)
    x = layers.MaxPooling2D(pool_size=2)(x)  # (24, 24, 32) -> (12, 12, 32)
    x = layers.Conv2D(64, kernel_size=3, activation="relu", name="conv2")(x)
    x = layers.MaxPooling2D(pool_size=2)(x)  # (10, 10, 64) -> (5, 5, 64)
    x = layers.Flatten(name="features")(x)  # (1600,)
    x = layers.Dropout(0.4)(x)
    outputs = layers.Dense(n_classes, name="scores")(x)
    return keras.Model(inputs, outputs, name="small_cnn")


cnn = small_cnn()
cnn.summary(line_length=70)

# %% [markdown]
# Keras sépare les milliers par une virgule. La première couche a
# $(5 \cdot 5 \cdot 1 + 1) \cdot 32 = 832$ paramètres, la deuxième
# $(3 \cdot 3 \cdot 32 + 1) \cdot 64 = 18\,496$, le classifieur $1600 \cdot 10 + 10 = 16\,010$.
#
# « CNN est calculé directement sur les images » : la première couche reçoit-elle l'image même ?

# %%
verdict("conv-on-images", list(cnn.get_layer("conv1").input.shape[1:]))

# %% [markdown]
# « Deux parties », dit le document : l'extraction des caractéristiques et la classification.
# Coupons le réseau à la couche `features` : à gauche, il n'y a que des cartes ; à droite, un
# classifieur linéaire. Les deux morceaux recollés donnent-ils les mêmes scores ?

# %%
extraction = keras.Model(cnn.input, cnn.get_layer("features").output)
classification = keras.Sequential([keras.Input((1600,)), *cnn.layers[-2:]])
batch = to_input(x_test[:16])
two_parts = ops.convert_to_numpy(classification(extraction(batch)))
whole_network = ops.convert_to_numpy(cnn(batch))
verdict("conv-two-parts", bool(np.allclose(two_parts, whole_network, atol=1e-5)))

# %% [markdown]
# ### L'expérience
#
# Les deux méthodes reçoivent les mêmes images, en nombre croissant, et sont jugées sur les mêmes
# images de test par leur ***exactitude*** : la part d'images bien classées. En profil complet, le
# réseau revoit ses images au moins dix fois, et davantage quand elles sont rares, pour faire un
# millier de mises à jour de ses poids ou plus. Chaque essai est refait trois fois, avec d'autres
# tirages au hasard (trois ***graines***) : le tableau donnera la moyenne et, après « ± », l'écart
# type.


# %%
def train(model, images, labels, epochs, learning_rate=1e-3, **options):
    """Entraîne un classifieur d'images en octets avec Adam et l'entropie croisée."""
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model.fit(to_input(images), labels, BATCH_SIZE, epochs, verbose=0, **options)


def scores(model, images):
    """Un score par classe, cinq cents images à la fois : (n, h, w) -> (n, classes)."""
    parts = np.array_split(to_input(images), -(-len(images) // 500))
    outputs = [model(part, training=False) for part in parts]
    return np.concatenate([ops.convert_to_numpy(output) for output in outputs])


def accuracy(model, images, labels):
    """Part des images dont le score le plus haut est celui de la bonne classe."""
    return np.mean(scores(model, images).argmax(axis=1) == labels)


# %%
def curve_run():
    begin = perf_counter()
    hog_test, hog_train = hog_features(x_test), hog_features(x_train[: max(SIZES)])
    hog_seconds = (perf_counter() - begin) / (len(hog_test) + len(hog_train))
    found = {name: [] for name in ("svm", "svm_seconds", "cnn", "cnn_seconds")}
    for seed in SEEDS:
        order = np.random.default_rng(seed).permutation(max(SIZES))
        row = {name: [] for name in found}
        for n in SIZES:
            chosen = order[:n]
            begin = perf_counter()
            svm = fit_svm(hog_train[chosen], y_train[chosen])
            row["svm_seconds"].append(perf_counter() - begin + n * hog_seconds)
            row["svm"].append(np.mean(svm.predict(hog_test) == y_test))
            keras.utils.set_random_seed(seed)
            cnn, begin = small_cnn(), perf_counter()
            epochs = max(EPOCHS, MIN_UPDATES * BATCH_SIZE // n)
            train(cnn, x_train[chosen], y_train[chosen], epochs)
            row["cnn_seconds"].append(perf_counter() - begin)
            row["cnn"].append(accuracy(cnn, x_test, y_test))
        for name, values in row.items():
            found[name].append(values)
    keras.utils.set_random_seed(seed)
    filters = [
        ops.convert_to_numpy(m.get_layer("conv1").kernel) for m in (small_cnn(), cnn)
    ]
    return found | {"sizes": SIZES, "filters": np.squeeze(filters)}


curve = experiment("learning_curve", curve_run)

# %%
shown = curve.values
fig = figures.curves(
    {"HOG + SVM": shown["svm"], "petit réseau": shown["cnn"]},
    x=shown["sizes"],
    xlabel="images d'entraînement",
    ylabel="exactitude de test",
)
axis = fig.axes[0]
axis.set_xscale("log")
ticks = [n for n in shown["sizes"] if n in (100, 1_000, 10_000, 60_000)]
axis.set_xticks(ticks, [number(n, 0) for n in ticks])
axis.minorticks_off()
svm, cnn_accuracy = (np.mean(shown[name], axis=0) for name in ("svm", "cnn"))
figures.show(
    fig,
    alt=f"Exactitude de test selon le nombre d'images, de {number(shown['sizes'][0], 0)} à "
    f"{number(shown['sizes'][-1], 0)} : HOG + SVM passe de {number(svm[0])} à {number(svm[-1])}, "
    f"le petit réseau de {number(cnn_accuracy[0])} à {number(cnn_accuracy[-1])}.",
)


# %%
rows = [
    (
        number(n, 0),
        spread(np.transpose(shown["svm"])[k]),
        spread(np.transpose(shown["cnn"])[k]),
        number(round(100 * (cnn_accuracy - svm)[k], 1) + 0, 1),
    )
    for k, n in enumerate(shown["sizes"])
]
runtime.show_table(("images", "HOG + SVM", "petit réseau", "avance"), rows)

# %% [markdown]
# L'avance, en points, est celle du réseau. Avec toutes les images, les trois essais du SVM sont le
# même calcul : leur écart type est nul.

# %%
decided = curve.full is not None
verdict("conv-unseen-data", svm[-1] if decided else None)
# D'un demi-point au moins, à toutes les tailles ?
ahead = bool((cnn_accuracy - svm > 0.005).all())
verdict("conv-manual-features", ahead if decided else None)

# %% [markdown]
# Jusqu'à dix mille images, les caractéristiques faites à la main font jeu égal ou un peu mieux ;
# au-delà, le réseau prend l'avantage. Et le temps ? Voici, en secondes, l'essai le plus court,
# extraction des HOG comprise.

# %%
rows = [
    (
        number(n, 0),
        number(np.min(shown["svm_seconds"], axis=0)[k], 1),
        number(np.min(shown["cnn_seconds"], axis=0)[k], 1),
    )
    for k, n in enumerate(shown["sizes"])
]
runtime.show_table(("images", "HOG + SVM", "petit réseau"), rows)

# %% [markdown]
# Avec cent images, HOG + SVM apprend en un dixième de seconde, et le réseau, qui fait un millier de
# mises à jour quoi qu'il arrive, met plusieurs centaines de fois plus ; avec soixante mille, les
# deux durées sont du même ordre. Les réseaux à convolution lisaient déjà des chèques dans les
# années 1990 ; pour dominer la discipline, en 2012, il leur a fallu davantage d'images et de
# calcul.

# %% [markdown]
# ### Un réseau plus profond
#
# Voici le même principe, avec six convolutions au lieu de deux et des outils des chapitres
# suivants : retournements au hasard, normalisation par lots, moyenne finale de chaque carte, taux
# d'apprentissage décroissant. Un douzième des images, gardé à part, permet de suivre ses progrès
# pendant l'entraînement.


# %%
def deep_cnn(input_shape=(28, 28, 1), n_classes=10):
    """Trois blocs de deux convolutions 3 × 3 : image -> un score par classe."""
    inputs = keras.Input(shape=input_shape, name="image")
    x = layers.RandomFlip("horizontal")(inputs)
    for filters in (32, 64, 128):
        for _ in range(2):
            x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
            x = layers.BatchNormalization()(x)
            x = layers.ReLU()(x)
        x = layers.MaxPooling2D(pool_size=2)(x)
        x = layers.Dropout(0.2)(x)
    x = layers.GlobalAveragePooling2D()(x)
    outputs = layers.Dense(n_classes, name="scores")(x)
    return keras.Model(inputs, outputs, name="deep_cnn")


def deep_run():
    keras.utils.set_random_seed(0)
    model = deep_cnn()
    n = DEEP_IMAGES * 11 // 12  # le reste sert de validation : 5 000 images sur 60 000
    updates = DEEP_EPOCHS * -(-n // BATCH_SIZE)
    held_out = to_input(x_train[n:DEEP_IMAGES]), y_train[n:DEEP_IMAGES]
    rate = keras.optimizers.schedules.CosineDecay(2e-3, updates)
    history = train(
        model, x_train[:n], y_train[:n], DEEP_EPOCHS, rate, validation_data=held_out
    ).history
    return {
        "train": history["accuracy"],
        "validation": history["val_accuracy"],
        "test": accuracy(model, x_test, y_test),
        "weights": model.count_params(),
    }


deep = experiment("deep_network", deep_run)

# %%
shown = deep.values
rows = [
    ("HOG + SVM", spread(np.transpose(curve.values["svm"])[-1])),
    ("petit réseau", spread(np.transpose(curve.values["cnn"])[-1])),
    ("réseau profond", spread([shown["test"]])),
]
runtime.show_table(("méthode", "exactitude de test"), rows)

# %% [markdown]
# Six convolutions et quelques outils gagnent plus de trois points sur le petit réseau, près de cinq
# sur HOG + SVM. La convolution ne fait pas tout : ce que l'on bâtit avec elle compte autant, et
# c'est l'objet des trois chapitres suivants.

# %% [markdown]
# ### Et si l'image n'était plus une grille ?
#
# Le document dit ces architectures « conçues pour le traitement efficace des données
# structurées » : comprenez *en grille*, comme une image (l'expression désigne d'ordinaire les
# tableaux de chiffres). Détruisons la structure sans perdre d'information : une même permutation,
# tirée au hasard, mélange les pixels de toutes les images. Un classifieur qui ne se sert pas du
# voisinage ne doit rien remarquer.


# %%
def shuffle_pixels(images, seed=0):
    """La même permutation des pixels pour toutes les images."""
    flat = images.reshape(len(images), -1)
    order = np.random.default_rng(seed).permutation(flat.shape[1])
    return flat[:, order].reshape(images.shape)


fig = figures.grid(
    [*x_test[:3], *shuffle_pixels(x_test[:3])],
    columns=3,
    row_labels=["intacts", "mélangés"],
)
figures.show(
    fig,
    alt="Trois images intactes et, dessous, les mêmes aux pixels mélangés : on n'y reconnaît plus "
    "rien.",
)


# %%
def tuned_svm(features, labels):
    """SVM linéaire dont `C` est choisi sur un dixième des images, puis réentraîné sur toutes."""
    n = len(labels) * 9 // 10
    trials = [LinearSVC(C=c, random_state=0) for c in (0.01, 0.1, 1)]
    held_out = [
        svm.fit(features[:n], labels[:n]).score(features[n:], labels[n:])
        for svm in trials
    ]
    return trials[np.argmax(held_out)].fit(features, labels)


def structure_run():
    labels = y_train[:SHUFFLED_IMAGES]
    found = {}
    for name, view in (("intact", np.copy), ("shuffled", shuffle_pixels)):
        images, tests = view(x_train[:SHUFFLED_IMAGES]), view(x_test)
        keras.utils.set_random_seed(0)
        cnn = small_cnn()
        train(cnn, images, labels, EPOCHS)
        found[name] = {"cnn": accuracy(cnn, tests, y_test)}
        for method, features in (("pixels", raw_pixels), ("hog", hog_features)):
            svm = tuned_svm(features(images), labels)
            found[name][method] = svm.score(features(tests), y_test)
    return found


structure = experiment("structure", structure_run)

# %%
intact, shuffled = structure.values["intact"], structure.values["shuffled"]
TITLES = {"pixels": "pixels + SVM", "hog": "HOG + SVM", "cnn": "petit réseau"}
rows = [
    (title, number(intact[name], 3), number(shuffled[name], 3))
    for name, title in TITLES.items()
]
runtime.show_table(("méthode", "images intactes", "pixels mélangés"), rows)
loss = {name: intact[name] - shuffled[name] for name in TITLES}
decided = structure.full is not None
verdict(
    "conv-structured-data",
    loss["cnn"] > abs(loss["pixels"]) + 0.01 if decided else None,
)

# %% [markdown]
# La première colonne dit aussi si l'extraction des caractéristiques est utile : le même SVM, réglé
# de la même façon, reçoit les HOG ou les pixels.

# %%
verdict("conv-two-stages", intact["hog"] - intact["pixels"] if decided else None)

# %% [markdown]
# Un SVM ignore l'ordre de ses entrées : sur les pixels, il ne remarque rien. Les HOG, qui mesurent
# des directions entre voisins, perdent cinq points et tombent au-dessous des pixels. Le réseau en
# perd plus de deux : la moitié environ de son avance sur les pixels venait du voisinage, le reste
# tient à ce qu'il n'est pas linéaire.

# %% [markdown]
# ### Les filtres appris
#
# Que sont devenus les 32 filtres de la première couche du petit réseau ? Voici les huit plus
# marqués, avant l'entraînement (des poids tirés au hasard) et après.

# %%
before, after = np.array(curve.values["filters"])  # (5, 5, 32) chacun
strongest = np.argsort(-np.abs(after).sum(axis=(0, 1)))[:8]
panels = [
    signed(bank[..., k], np.abs(bank[..., k]).max())
    for bank in (before, after)
    for k in strongest
]
fig = figures.grid(panels, columns=8, row_labels=["avant", "après"])
figures.show(
    fig,
    alt="Huit filtres de 5 × 5 poids, en gris, avant puis après l'entraînement.",
)

# %%
moved = (np.abs(after - before).max(axis=(0, 1)) > 1e-3).sum()
verdict("conv-filters-learned", moved)

# %% [markdown]
# Et que répondent, sur une image, les quatre plus marqués ? C'est la banque de filtres du document,
# mais personne n'a choisi ces poids.

# %%
garment = x_test[1] / 255
own_filters = np.array(curve.here["filters"])[1]
own_strongest = np.argsort(-np.abs(own_filters).sum(axis=(0, 1)))[:4]
responses = [conv2d(garment, own_filters[..., k]) for k in own_strongest]
pairs = [own_filters[..., k] for k in own_strongest] + responses
panels = [signed(array, np.abs(array).max()) for array in pairs]
fig = figures.grid(panels, columns=4, row_labels=["filtre", "carte"])
figures.show(
    fig,
    alt="Quatre filtres appris et, dessous, la carte que chacun donne de la même image.",
)

# %% [markdown]
# Le bruit du départ a laissé la place à des motifs plus réguliers, où les poids voisins se
# ressemblent. Dans l'exécution que le livre affiche, certains opposent le haut au bas, ou une bande
# verticale à ses voisines, comme les filtres que le document avait choisis ; d'autres, presque tous
# du même signe, mesurent plutôt la clarté d'un endroit. Avec une autre graine, ce seraient d'autres
# filtres.

# %% [markdown]
# ## À retenir
#
# - Une image est un tableau (lignes, colonnes, canaux) d'octets : convertissez en réels avant tout
#   calcul.
# - Une convolution promène un petit bloc de poids et calcule un produit scalaire par position. Les
#   réseaux ne retournent pas le filtre : c'est une corrélation.
# - Taille de la sortie : $\lfloor (N - F + 2P)/S \rfloor + 1$. `'same'` donne $\lceil N/S \rceil$.
# - Une couche de $K$ filtres sur $C$ canaux a $(F \cdot F \cdot C + 1) K$ poids, quelle que soit la
#   taille de l'image, et rend $K$ cartes.
# - Une carte suit l'objet qui se déplace (équivariance), au pas près. Le champ réceptif grandit
#   avec la profondeur, et bien plus vite quand on réduit l'image.
# - Avec peu d'images, des caractéristiques faites à la main résistent ; avec beaucoup, le réseau
#   qui apprend les siennes l'emporte.

# %% [markdown]
# ## Exercices
#
# ### 1. Prédire, puis exécuter
#
# Une image de 64 × 64 en couleurs, une couche de 16 filtres de 5 × 5, un pas de 2, sans
# remplissage. Quel est le côté d'une carte ? Combien la couche a-t-elle de paramètres, biais
# compris ? Remplacez les `None`.

# %%
my_side = None
my_weights = None

layer = layers.Conv2D(filters=16, kernel_size=5, strides=2)
output = layer(keras.Input(shape=(64, 64, 3)))
predict("côté d'une carte", my_side, output.shape[1])
predict("paramètres de la couche", my_weights, layer.count_params())

# %% [markdown]
# <details>
# <summary>Solution</summary>
#
# Côté : $\lfloor (64 - 5)/2 \rfloor + 1 = \lfloor 29{,}5 \rfloor + 1 = 30$. La dernière ligne et la
# dernière colonne ne sont pas lues. Paramètres : $(5 \times 5 \times 3 + 1) \times 16 = 1\,216$.
#
# </details>

# %% [markdown]
# ### 2. Écrire une couche
#
# Écrivez une couche de convolution entière, en vous servant de `conv2d` : une image `(h, w, c)`,
# des filtres `(f, f, c, k)` et des biais `(k,)` donnent des cartes `(h', w', k)`.


# %%
def my_conv_layer(image, kernels, biases):
    raise NotImplementedError


# %% tags=["hide-input"] cellView="form"
# @title Vérificateur de l'exercice 2
def conv_layer_solution(image, kernels, biases):
    maps = [conv2d(image, kernels[..., k]) + biases[k] for k in range(len(biases))]
    return np.stack(maps, axis=-1)


def conv_layer_without_bias(image, kernels, biases):
    return conv_layer_solution(image, kernels, np.zeros_like(biases))


def conv_layer_maps_first(image, kernels, biases):
    return np.moveaxis(conv_layer_solution(image, kernels, biases), -1, 0)


def conv_layer_flipped(image, kernels, biases):
    return conv_layer_solution(image, kernels[::-1, ::-1], biases)


def conv_layer_cases():
    generator = np.random.default_rng(0)
    return [
        tuple(generator.normal(size=shape) for shape in shapes)
        for shapes in (((6, 7, 3), (3, 3, 3, 4), (4,)), ((5, 5, 1), (2, 2, 1, 2), (2,)))
    ]


EXERCISE_LAYER = Exercise(
    title="Exercice 2",
    reference=conv_layer_solution,
    cases=conv_layer_cases,
    mistakes={
        "Il manque le biais : un nombre par filtre, ajouté à toute sa carte.": (
            conv_layer_without_bias
        ),
        "Les cartes vont sur le *dernier* axe : `np.stack(..., axis=-1)`.": (
            conv_layer_maps_first
        ),
        "Ne retournez pas les filtres : c'est une corrélation.": conv_layer_flipped,
    },
)
EXERCISE_LAYER.check(my_conv_layer)

# %% tags=["hide-cell"] cellView="form"
# @title Solution de l'exercice 2
# Une carte par filtre, son biais ajouté partout, empilées sur le dernier axe ; puis Keras.
EXERCISE_LAYER.check(conv_layer_solution)
image, kernels, biases = conv_layer_cases()[0]
theirs = ops.conv(image[None], kernels, padding="valid")[0] + biases
assert np.allclose(conv_layer_solution(image, kernels, biases), theirs, atol=1e-4)

# %% [markdown]
# ### 3. Écrire la règle de `'same'`
#
# Combien de zéros Keras met-il avant et après, pour une longueur `n`, un filtre `f` et un pas
# `s` ? Il vise $\lceil n/s \rceil$ positions, ajoute ce qu'il faut pour que la dernière tienne,
# jamais un nombre négatif, et, si leur nombre est impair, met le zéro de trop *à la fin*. Rendez
# le couple `(avant, après)`.


# %%
def my_same_padding(n, f, s):
    raise NotImplementedError


# %% tags=["hide-input"] cellView="form"
# @title Vérificateur de l'exercice 3
def same_padding_solution(n, f, s):
    total = max(0, (math.ceil(n / s) - 1) * s + f - n)
    return total // 2, total - total // 2


def same_padding_symmetric(n, f, s):
    return (f - 1) // 2, (f - 1) // 2


def same_padding_odd_first(n, f, s):
    return same_padding_solution(n, f, s)[::-1]


def same_padding_negative(n, f, s):
    total = (math.ceil(n / s) - 1) * s + f - n
    return total // 2, total - total // 2


EXERCISE_SAME = Exercise(
    title="Exercice 3",
    reference=same_padding_solution,
    cases=[(5, 3, 1), (6, 3, 2), (5, 3, 2), (7, 4, 1), (6, 1, 2), (224, 7, 2)],
    mistakes={
        "C'est la formule du document : elle oublie le pas et les filtres pairs.": (
            same_padding_symmetric
        ),
        "Le zéro impair va à la fin.": same_padding_odd_first,
        "Le nombre de zéros ne peut pas être négatif.": same_padding_negative,
    },
)
EXERCISE_SAME.check(my_same_padding)

# %% tags=["hide-cell"] cellView="form"
# @title Solution de l'exercice 3
# La dernière position commence en (⌈n/s⌉ − 1)·s et finit f plus loin : le reste est à ajouter.
EXERCISE_SAME.check(same_padding_solution)

# %% [markdown]
# ### 4. Expliquer
#
# Vous entraînez un réseau à reconnaître des chiffres toujours écrits au centre de l'image. En
# service, ils sont écrits dans un coin, et le réseau échoue. Pourtant « la convolution suit les
# déplacements ». D'où vient l'échec ?
#
# <details>
# <summary>Solution</summary>
#
# Les cartes de caractéristiques suivent bien le chiffre : elles sont *équivariantes*. Mais
# `Flatten`, puis la couche dense, donnent à chaque position ses propres poids ; ceux des coins
# n'ont jamais vu de chiffre. Remèdes : des exemples décalés pendant l'entraînement, ou une moyenne
# de chaque carte sur toute l'image (`GlobalAveragePooling2D`), qui oublie la position.
#
# </details>
#
# ### 5. Pour aller plus loin
#
# Écrivez un filtre qui répond aux diagonales, prédisez sa carte sur le pavillon, puis calculez-la
# par `fast_conv2d(building, my_filter)` et dessinez-la comme celles de la banque ; dans le livre,
# essayez-le aussi sur l'œil de chat de l'explorateur. Et quel filtre, à lui seul, équivaut à deux
# moyennes 3 × 3 successives ?
#
# <details>
# <summary>Solution</summary>
#
# `[[2, -1, -1], [-1, 2, -1], [-1, -1, 2]]`, de somme nulle, répond aux traits qui descendent vers
# la droite. Deux moyennes successives font un filtre 5 × 5, la convolution des deux : chaque poids
# est le produit de deux termes de $(1 ; 2 ; 3 ; 2 ; 1)/9$, décroissants du centre vers les bords.
#
# </details>

# %% [markdown]
# ## Ce que nous avons vérifié

# %%
summary()

# %% [markdown]
# ## Références
#
# - V. Dumoulin, F. Visin, [A guide to convolution arithmetic for deep
#   learning](https://arxiv.org/abs/1603.07285), 2016 : toutes les tailles, en figures.
# - Y. LeCun et al., [Gradient-based learning applied to document
#   recognition](https://doi.org/10.1109/5.726791), 1998 : les réseaux à convolution.
# - N. Dalal, B. Triggs, [Histograms of oriented gradients for human
#   detection](https://doi.org/10.1109/CVPR.2005.177), CVPR 2005 : les HOG.
# - A. Krizhevsky, I. Sutskever, G. Hinton, [ImageNet classification with deep convolutional neural
#   networks](https://doi.org/10.1145/3065386), 2012 : l'année où ils l'emportent.
# - W. Luo et al., [Understanding the effective receptive field in deep convolutional neural
#   networks](https://arxiv.org/abs/1701.04128), NIPS 2016.
# - R. Zhang, [Making convolutional networks shift-invariant
#   again](https://arxiv.org/abs/1904.11486), ICML 2019 : ce que le pas fait à l'équivariance.
# - H. Xiao, K. Rasul, R. Vollgraf, [Fashion-MNIST](https://arxiv.org/abs/1708.07747), 2017.
