# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Titre du chapitre
#
# > **Objectifs.** À la fin de ce chapitre, vous saurez :
# > - prévoir la taille de la sortie d'une convolution ;
# > - lire une expérience, sa figure et son verdict.
#
# | | |
# |:--|:--|
# | **Prérequis** | aucun |
# | **Document étudié** | 004 |
# | **Données** | Fashion-MNIST ; hors ligne, des chiffres manuscrits |
# | **Durée** | lecture et exercices : une heure ; exécution rapide : moins d'une minute |
#
# Ce chapitre est un modèle : il montre chaque pièce d'un chapitre, et passe les tests. Remplacez
# son texte, ses cellules et son affirmation par les vôtres.

# %% setup

# %%
import keras
from keras import layers

from utils import datasets, figures, runtime
from utils.execute import experiment
from utils.exercises import Exercise, predict
from utils.verdicts import summary, verdict

# %% [markdown]
# Toutes les tailles sont choisies ici, pour les deux profils.

# %%
EPOCHS = runtime.pick(quick=3, full=10)
IMAGES = runtime.pick(quick=500, full=60_000)

runtime.start("00_template")
garments = datasets.garments()
runtime.banner(garments)

# %% [markdown]
# ## Une affirmation et sa preuve
#
# Le document donne la taille de la sortie d'une convolution sans remplissage : une image de côté
# $N$, un filtre de côté $F$ et un pas $S$ donnent $O = (N - F)/S + 1$. Son exemple prend $N = 5$,
# $F = 3$ et $S = 2$. Construisons cette couche et regardons sa sortie.

# %%
inputs = keras.Input(shape=(5, 5, 1))
outputs = layers.Conv2D(1, 3, strides=2)(inputs)
verdict("template-output-size", outputs.shape[1])

# %% [markdown]
# ## Une expérience
#
# Un entraînement dont le chapitre montre le résultat est une fonction sans argument. Le profil
# complet l'exécute et enregistre ses valeurs ; le profil rapide en exécute une petite version et
# rappelle les valeurs enregistrées.


# %%
def training_run():
    x = garments.x_train[:IMAGES].astype("float32") / 255
    y = garments.y_train[:IMAGES]
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input(shape=(28, 28)),
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(x, y, epochs=EPOCHS, verbose=0)
    return {"accuracy": history.history["accuracy"]}


training = experiment("training", training_run)

# %% [markdown]
# La figure attendue : une courbe qui monte d'époque en époque.

# %%
accuracy = training.values["accuracy"]
fig = figures.curves({"entraînement": accuracy}, xlabel="époque", ylabel="exactitude")
figures.show(
    fig,
    alt=f"Exactitude d'entraînement en {len(accuracy)} époques : elle passe de "
    f"{figures.number(accuracy[0])} à {figures.number(accuracy[-1])}.",
)

# %% [markdown]
# Après chaque figure, une phrase dit ce qu'on y a vu.

# %% [markdown]
# ## À retenir
#
# - Une affirmation, une exécution, un verdict.

# %% [markdown]
# ## Exercices
#
# ### 1. Prédire, puis exécuter
#
# Une image de côté 28, un filtre de côté 5, un pas de 1 : quel est le côté de la sortie ?
# Remplacez `None` par votre réponse.

# %%
my_side = None

predict(
    "côté de la sortie", my_side, layers.Conv2D(1, 5)(keras.Input((28, 28, 1))).shape[1]
)

# %% [markdown]
# <details>
# <summary>Solution</summary>
#
# $(28 - 5)/1 + 1 = 24$.
#
# </details>

# %% [markdown]
# ### 2. Écrire une fonction
#
# Écrivez la fonction qui rend le côté de la sortie, y compris quand le pas ne tombe pas juste.


# %%
def my_output_size(n, f, s):
    raise NotImplementedError


# %% tags=["hide-input"] cellView="form"
# @title Vérifier l'exercice 2
def output_size_solution(n, f, s):
    return (n - f) // s + 1


def output_size_without_floor(n, f, s):
    return (n - f) / s + 1


EXERCISE_SIZE = Exercise(
    title="Exercice 2",
    reference=output_size_solution,
    cases=[(5, 3, 2), (6, 3, 2), (28, 5, 1)],
    mistakes={
        "Une taille est un nombre entier : arrondissez.": output_size_without_floor
    },
)
EXERCISE_SIZE.check(my_output_size)

# %% tags=["hide-cell"] cellView="form"
# @title Solution de l'exercice 2
# Le dernier filtre doit tenir en entier dans l'image : la division est arrondie vers le bas.
EXERCISE_SIZE.check(output_size_solution)

# %% [markdown]
# ### 3. Expliquer
#
# Pourquoi la formule n'a-t-elle pas besoin du nombre de filtres ?
#
# <details>
# <summary>Solution</summary>
#
# Il fixe le nombre de canaux de la sortie ; le côté ne dépend que des positions du filtre.
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
#   learning](https://arxiv.org/abs/1603.07285), 2016.
