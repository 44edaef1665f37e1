"""Deterministic stand-ins of the course's data: same arrays as the real ones, known ground truth.

Each function makes its data from a seed, in seconds, without network and without touching any
global random state. `datasets.py` serves them where the real data is absent and says so.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage
from scipy.spatial import cKDTree
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from utils.drawn_faces import HAIR_COLOURS, SKIN_TONES, Face, draw


class Garments(NamedTuple):
    x_train: np.ndarray  # uint8 (1400, 28, 28)
    y_train: np.ndarray  # int64 (1400,), 0 to 9
    x_test: np.ndarray  # uint8 (397, 28, 28)
    y_test: np.ndarray


def garments(seed: int = 0) -> Garments:
    """Stand-in of Fashion-MNIST: the 1,797 digits of scikit-learn, resized from 8x8 to 28x28.

    The split is stratified and random by `seed`; no picture is in both parts.
    Source: Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998.
    """
    digits = load_digits()
    small = (digits.images * (255 / 16)).astype("uint8")
    large = [
        Image.fromarray(d).resize((28, 28), Image.Resampling.BICUBIC) for d in small
    ]
    x_train, x_test, y_train, y_test = train_test_split(
        np.stack([np.asarray(image) for image in large]),
        digits.target.astype("int64"),
        train_size=1400,
        stratify=digits.target,
        random_state=seed,
    )
    return Garments(x_train, y_train, x_test, y_test)


def _smooth(rng: np.random.Generator, size: int, scale: float) -> np.ndarray:
    """A smooth random field (size, size) of deviation 1, its details about `scale` pixels wide."""
    coarse = rng.standard_normal((round(size / scale) + 3,) * 2, dtype="float32")
    field = np.asarray(
        Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC)
    )
    return field / field.std()


class Pets(NamedTuple):
    images: np.ndarray  # uint8 (n, size, size, 3)
    trimaps: np.ndarray  # uint8 (n, size, size): 0 pet, 1 background, 2 border
    species: np.ndarray  # int64 (n,): 0 cat, 1 dog
    boxes: (
        np.ndarray
    )  # int64 (n, 4): x_min, y_min, x_max, y_max of the pet, maxima excluded


DARK, PINK = (26, 20, 22), (220, 138, 138)
FURS = (
    (214, 142, 72),
    (92, 88, 92),
    (46, 42, 46),
    (236, 226, 210),
    (128, 86, 54),
    (204, 172, 126),
)


def pets(n: int, size: int = 128, seed: int = 0) -> Pets:
    """Stand-in of Oxford-IIIT Pet: drawn cats and dogs, sitting or standing, in a cluttered place.

    Half of the clutter has the colour of a fur, so that colour alone does not find the animal.
    The border is what lies within `size / 43` pixels of the outline, on both sides of it.
    """
    drawn = [_pet(np.random.default_rng([3, seed, i]), size) for i in range(n)]
    images, trimaps, species, boxes = zip(*drawn, strict=True)
    return Pets(np.stack(images), np.stack(trimaps), np.array(species), np.array(boxes))


def _muted(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Colours of a room or a garden, uint8 (*shape, 3): a grey level and a little tint."""
    grey = rng.uniform(70, 215, (*shape, 1))
    return (grey + rng.uniform(-24, 24, (*shape, 3))).astype("uint8")


def _pet(
    rng: np.random.Generator, size: int
) -> tuple[np.ndarray, np.ndarray, int, list[int]]:
    species, side = int(rng.integers(2)), 2 * size
    fur, spots = (
        np.array(FURS[k], dtype=float) for k in rng.choice(len(FURS), 2, replace=False)
    )

    scene = Image.fromarray(_muted(rng, (3, 3))).resize(
        (side, side), Image.Resampling.BICUBIC
    )
    clutter = ImageDraw.Draw(scene, "RGBA")
    for _ in range(rng.integers(8, 16)):
        corner, extent = (
            rng.uniform(-0.1, 1.0, 2) * side,
            rng.uniform(0.05, 0.4, 2) * side,
        )
        colour = rng.choice(FURS) if rng.random() < 0.5 else _muted(rng, ())
        shape = clutter.rectangle if rng.random() < 0.5 else clutter.ellipse
        fill = (*colour.tolist(), int(rng.integers(120, 255)))
        shape((*corner, *(corner + extent)), fill=fill)

    zoom, turn, mirror = (
        rng.uniform(0.30, 0.42) * side,
        rng.uniform(-0.15, 0.15),
        rng.choice([-1, 1]),
    )
    c, s = np.cos(turn) * zoom, np.sin(turn) * zoom
    turned = np.array([[mirror * c, mirror * s], [-s, c]])
    shift = (rng.uniform(-0.08, 0.08, 2) + [0.5, 0.52]) * side

    def place(points) -> list[float]:
        return (np.asarray(points) @ turned + shift).ravel().tolist()

    parts, face = _animal(rng, species)
    mask, tone = Image.new("L", (side, side)), Image.new("L", (side, side), 200)
    for points, shade in parts:
        ImageDraw.Draw(mask).polygon(place(points), fill=255)
        ImageDraw.Draw(tone).polygon(place(points), fill=shade)

    hairs = ndimage.gaussian_filter(rng.normal(size=(side, side)), (2.5, 0.7))
    coat = _smooth(rng, side, side / rng.uniform(6, 12)) - rng.uniform(0.2, 1.4)
    if rng.random() < 0.3:  # striped
        coat = np.sin(np.arange(side) / side * rng.uniform(60, 110) + 1.2 * coat)
        spots = 0.5 * fur + 0.5 * spots
    patched = np.clip(4 * coat, 0, 1)[..., None]
    texture = fur * (1 - patched) + spots * patched
    shaded = ndimage.gaussian_filter(np.asarray(tone, dtype=float), 1.5) / 200
    texture = texture * (shaded * (1 + 0.45 * hairs))[..., None]
    scene.paste(Image.fromarray(np.clip(texture, 0, 255).astype("uint8")), mask=mask)
    pencil = ImageDraw.Draw(scene, "RGBA")
    for points, colour in face:
        pencil.polygon(place(points), fill=colour)

    light = rng.uniform(0.85, 1.1) + rng.uniform(-0.25, 0.25) * np.linspace(-1, 1, size)
    pixels = np.asarray(scene.reduce(2)) * light[None, :, None]
    pixels = np.clip(pixels + rng.normal(scale=5, size=pixels.shape), 0, 255).astype(
        "uint8"
    )
    inside = np.asarray(mask.reduce(2)) > 127
    depth = ndimage.distance_transform_edt(inside) - ndimage.distance_transform_edt(
        ~inside
    )
    trimap = np.where(np.abs(depth) <= size / 43, 2, np.where(inside, 0, 1)).astype(
        "uint8"
    )
    rows, columns = (
        np.flatnonzero(inside.any(axis=1)),
        np.flatnonzero(inside.any(axis=0)),
    )
    box = [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]
    return pixels, trimap, species, box


def _oval(x: float, y: float, rx: float, ry: float, tilt: float = 0.0) -> np.ndarray:
    t, c, s = np.arange(32) * np.pi / 16, np.cos(tilt), np.sin(tilt)
    u, v = rx * np.cos(t), ry * np.sin(t)
    return np.stack([x + u * c - v * s, y + u * s + v * c], axis=1)


def _animal(rng: np.random.Generator, species: int) -> tuple[list, list]:
    """Silhouette (polygon, shade) and face (polygon, colour) of a cat (0) or a dog (1).

    Units: the animal stands between y = -1.2 (ears) and y = 1 (feet).
    """
    cat = species == 0
    t = np.linspace(0, 1, 16)
    if rng.random() < 0.55:  # sitting, seen from the front
        head = np.array([0.0, -0.55])
        curve = np.stack(
            [0.45 + 0.55 * np.sin(2.4 * t), 0.85 - (1.3 if cat else 0.6) * t**1.5], 1
        )
        parts = [(_oval(0, 0.42, 0.50, 0.62), 190), (_oval(0, 0.1, 0.36, 0.5), 205)]
        parts += [(_oval(s * 0.42, 0.72, 0.2, 0.28), 180) for s in (-1, 1)]
        parts += [(_oval(s * 0.16, 0.62, 0.12, 0.42), 212) for s in (-1, 1)]
    else:  # standing, seen from the side
        head = np.array([-0.85, -0.42])
        curve = np.stack([0.85 + 0.5 * t, -0.05 - (0.9 if cat else 0.6) * t**1.7], 1)
        parts = [(_oval(x, 0.6, 0.11, 0.42), 170) for x in (-0.42, 0.8)]
        parts += [
            (_oval(0.12, 0.15, 0.92, 0.38), 200),
            (_oval(-0.62, -0.1, 0.3, 0.4, -0.5), 205),
        ]
        parts += [(_oval(x, 0.6, 0.12, 0.42), 205) for x in (-0.62, 0.62)]
    half = np.outer(0.10 - 0.05 * t if cat else 0.09 - 0.06 * t, [1, 0.4])
    parts.insert(
        0, (np.concatenate([curve - half, (curve + half)[::-1]]), 180)
    )  # the tail

    face = []
    for s in (-1, 1):
        if cat:
            ear = head + np.array(
                [[s * 0.42, -0.05], [s * 0.40, -0.66], [s * 0.08, -0.34]]
            )
            parts.append((ear, 190))
            face.append((head + (ear - head) * 0.5 + [s * 0.13, -0.17], PINK))
        else:
            parts.append(
                (_oval(head[0] + s * 0.42, head[1] + 0.02, 0.15, 0.4, -s * 0.3), 135)
            )
    parts.append((_oval(*head, 0.44, 0.38) if cat else _oval(*head, 0.38, 0.42), 215))
    if not cat:
        parts.append((_oval(head[0], head[1] + 0.22, 0.24, 0.24), 235))
        for s in (-1, 1):
            parts.append(
                (_oval(head[0] + s * 0.37, head[1] + 0.02, 0.13, 0.36, -s * 0.25), 135)
            )
    muzzle = head + np.array([0, 0.12])
    iris = ((120, 180, 70), (220, 170, 50))[rng.integers(2)] if cat else (90, 60, 36)
    face.append(
        (
            _oval(*muzzle, *((0.06, 0.04) if cat else (0.11, 0.08))),
            PINK if cat else DARK,
        )
    )
    for s in (-1, 1):
        x, y = head[0] + s * 0.18, head[1] - 0.06
        face.append((_oval(x, y, 0.10, 0.10 if cat else 0.08), iris))
        face.append((_oval(x, y, 0.04 if cat else 0.06, 0.08 if cat else 0.06), DARK))
        face.append((_oval(x - 0.03, y - 0.04, 0.025, 0.025), (255, 255, 255)))
        face.append(
            (_oval(muzzle[0] + s * 0.07, muzzle[1] + 0.12, 0.08, 0.02, s * -0.5), DARK)
        )
        for k in range(3 if cat else 0):  # whiskers
            whisker = [[0.12, 0.06], [0.55, 0.1 * k - 0.04], [0.55, 0.1 * k - 0.02]]
            face.append((muzzle + np.array(whisker) * [s, 1], (250, 250, 250, 200)))
    return parts, face


class Membranes(NamedTuple):
    images: np.ndarray  # uint8 (n, size, size)
    labels: np.ndarray  # uint8 (n, size, size): 0 membrane, 255 inside of a cell


def membranes(n: int, size: int = 256, seed: int = 0) -> Membranes:
    """Stand-in of ISBI 2012: textured Voronoi cells, dark membranes, dark organelles inside.

    Mitochondria and vesicles are dark too and labelled 255, and the grey level of cells and of
    light varies, so that a threshold is wrong about as often as on the real slices.
    """
    drawn = [_tissue(np.random.default_rng([4, seed, i]), size) for i in range(n)]
    images, labels = zip(*drawn, strict=True)
    return Membranes(np.stack(images), np.stack(labels))


def _tissue(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    # Cells: Voronoi regions of uneven density, their outlines bent by a smooth displacement.
    density = _smooth(rng, size, 90)
    candidates = rng.uniform(-30, size + 30, ((size + 60) ** 2 // 600, 2))
    row, column = np.clip(candidates, 0, size - 1).astype(int).T
    nuclei = candidates[
        rng.random(len(row)) < 0.12 + 0.5 * (density[row, column] > 0.6)
    ]
    pixel = np.mgrid[:size, :size]
    bent = [axis + 6 * _smooth(rng, size, 32) + _smooth(rng, size, 7) for axis in pixel]
    distance, owner = cKDTree(nuclei).query(np.stack(bent, axis=-1), k=2)
    gap = np.linalg.norm(nuclei[owner[..., 0]] - nuclei[owner[..., 1]], axis=-1)
    to_wall = (distance[..., 1] ** 2 - distance[..., 0] ** 2) / (2 * gap)
    thick = 2.6 + 0.7 * np.clip(_smooth(rng, size, 60), -1, 3)

    cell_grey = rng.normal(scale=11, size=len(nuclei))[owner[..., 0]]
    grey = 160 + 16 * np.clip(_smooth(rng, size, 70), -2, 2) + cell_grey
    grey -= (82 + 11 * _smooth(rng, size, 20)) / (1 + np.exp((to_wall - thick) / 0.8))
    for _ in range(size * size // 600):  # organelles, where there is room for them
        at = rng.integers(0, size, 2)
        room = to_wall[*at] - thick[*at] - 2
        large = room > 12 and rng.random() < 0.5
        radius = rng.uniform(0.5, 0.9) * room if large else rng.uniform(2, 4)
        angle, flat = rng.uniform(0, np.pi), rng.uniform(0.5, 0.9) if large else 1.0
        if radius > room:
            continue
        around = tuple(
            slice(max(0, k - int(radius) - 6), k + int(radius) + 7) for k in at
        )
        y, x = (axis[around] - k for axis, k in zip(pixel, at, strict=True))
        u = x * np.cos(angle) + y * np.sin(angle)
        v = (y * np.cos(angle) - x * np.sin(angle)) / flat
        out = np.hypot(u, v) - radius  # pixels outside its edge
        if large:  # a mitochondrion: dark, striped by its cristae
            grey[around] -= (48 + 16 * np.sin(1.3 * v)) / (1 + np.exp(out))
        grey[around] -= (30 if large else 50) * np.exp(-((out / 1.2) ** 2))
    noisy = ndimage.gaussian_filter(grey + rng.normal(scale=40, size=grey.shape), 0.7)
    labels = np.where(to_wall < thick, 0, 255).astype("uint8")
    return np.clip(noisy, 0, 255).astype("uint8"), labels


# How often each yes/no attribute is true: one rate for all, or (woman-coded, man-coded).
Rate = float | tuple[float, float]
RATES: dict[str, Rate]
RATES = {"woman": 0.5, "blond": 0.25, "long_hair": 0.5, "glasses": 0.3, "beard": 0.3}


class Faces(NamedTuple):
    images: np.ndarray  # uint8 (n, size, size, 3)
    attributes: dict[
        str, np.ndarray
    ]  # the truth: "blond" and each field of `Face`, (n,)
    labels: dict[
        str, np.ndarray
    ]  # bool (n,): the names of RATES, some flipped by `noise`
    specs: tuple[
        Face, ...
    ]  # what was drawn; draw(replace(spec, glasses=True)) adds glasses


def faces(
    n: int,
    seed: int = 0,
    *,
    size: int = 80,
    people: int | None = None,
    rates: Mapping[str, Rate] | None = None,
    noise: Mapping[str, Rate] | None = None,
) -> Faces:
    """Stand-in of CelebA: drawn faces with every true attribute, about 300 a second.

    people: how many identities share the pictures; None: each picture has its own.
    rates: replaces some of RATES. One number: the attribute is independent of the style. A pair:
        `{"blond": (0.24, 0.02)}` draws 24 % of blond among the woman-coded, 2 % among the others.
        Without pairs all factors are independent. Changing a rate changes no other factor.
    noise: the probability that a label is flipped, `{"glasses": 0.1}`, or (woman, man) as above:
        `labels` then differs from `attributes`, never the picture.
    ValueError (French) for an unknown attribute or a rate out of [0, 1].
    """
    rates, noise = {**RATES, **(rates or {})}, dict(noise or {})
    if unknown := (rates.keys() | noise.keys()) - RATES.keys():
        raise ValueError(
            f"Attribut inconnu : {', '.join(unknown)}. Connus : {', '.join(RATES)}."
        )
    if isinstance(rates["woman"], tuple):
        raise ValueError(
            "Le taux de « woman » est un nombre : il ne dépend pas de lui-même."
        )

    rng = np.random.default_rng([5, seed])
    who = rng.integers(2**31, size=people or n)
    who = who[rng.integers(people, size=n)] if people else who
    scene, skin, other_hair = (
        rng.integers(k, size=n) for k in (2**31, len(SKIN_TONES), 4)
    )
    pose = rng.uniform(-1, 1, (4, n)) * [[1], [0.4], [0.15], [0.12]]
    chance, flip = rng.random((2, len(RATES), n))  # drawn whatever the rates are

    truth: dict[str, np.ndarray] = {}
    for name, u in zip(RATES, chance, strict=True):
        truth[name] = u < _per_picture(
            rates[name], truth.get("woman", np.zeros(n, dtype=bool))
        )
    labels = {
        name: truth[name] ^ (u < _per_picture(noise.get(name, 0.0), truth["woman"]))
        for name, u in zip(RATES, flip, strict=True)
    }
    others = np.array([colour for colour in HAIR_COLOURS if colour != "blond"])
    columns = {
        "identity": who,
        "scene": scene,
        "hair": np.where(truth["blond"], "blond", others[other_hair]),
        "skin": skin,
        **dict(zip(("light", "yaw", "pitch", "roll"), pose, strict=True)),
        "exposure": rng.uniform(0.75, 1.08, n),
        "smile": rng.uniform(0, 1, n),
        **{name: values for name, values in truth.items() if name != "blond"},
    }
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    specs = tuple(Face(**dict(zip(columns, row, strict=True))) for row in rows)
    images = np.stack([draw(spec, size) for spec in specs])
    return Faces(images, columns | truth, labels, specs)


def _per_picture(rate: Rate, woman: np.ndarray) -> np.ndarray:
    """The probability of an attribute for each picture, by its style."""
    pair = rate if isinstance(rate, tuple) else (rate, rate)
    if not all(0 <= p <= 1 for p in pair):
        raise ValueError(f"Un taux est compris entre 0 et 1, pas {rate}.")
    return np.where(woman, *pair)


class Identities(NamedTuple):
    images: np.ndarray  # uint8 (n_people * n_each, 112, 92), grey
    labels: np.ndarray  # int64 (n_people * n_each,), 0 to n_people - 1, in order


def identities(n_people: int = 40, n_each: int = 10, seed: int = 0) -> Identities:
    """Stand-in of ORL (AT&T): grey drawn faces, `n_each` of each person.

    A person keeps geometry, hair, skin, beard, glasses and style; pose, light, smile, backdrop
    and clothes change with each picture.
    """
    rng = np.random.default_rng([6, seed])
    images = []
    for person in faces(n_people, seed, rates={"beard": (0.0, 0.5)}).specs:
        for _ in range(n_each):
            light, yaw, pitch, roll = (
                rng.uniform(-1, 1, 4) * [0.5, 0.4, 0.15, 0.1]
            ).tolist()
            pose = {"light": light, "yaw": yaw, "pitch": pitch, "roll": roll}
            scene, smile = int(rng.integers(2**31)), rng.random()
            colour = draw(
                replace(person, scene=scene, smile=smile, exposure=1.0, **pose), 128
            )
            images.append(colour[6:118, 18:110] @ [0.299, 0.587, 0.114])
    labels = np.repeat(np.arange(n_people), n_each)
    return Identities(np.stack(images).astype("uint8"), labels)
