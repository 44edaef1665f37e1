"""The loaders of the course's data: the real one where it is, else a stand-in with the same fields.

Where the data is looked for and how it is downloaded: `downloads.py`. What each data set is, its
licence and who is pictured: `registry.yml`. The stand-ins: `synthetic.py`; `COURSE_DATA=synthetic`
forces them. Every loader returns a `Dataset`; all of them may raise `DataUnavailable` (French).
"""

import csv
import gzip
import itertools
import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Literal

import keras
import numpy as np
from PIL import Image, ImageSequence
from scipy.io import loadmat

from utils import runtime, synthetic
from utils.downloads import (
    REGISTRY,
    DataUnavailable,
    check,
    data_dir,
    keras_home,
    obtain,
    reading,
    stand_ins_forced,
)

CUBIC, NEAREST = (
    Image.Resampling.BICUBIC,
    Image.Resampling.NEAREST,
)  # cubic: antialiased


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """What every loader returns, with its arrays. `title` and `detail` are French."""

    key: str
    title: str
    source: Literal["real", "synthetic"]
    detail: str


def _about(key: str, detail: str, stand_in: bool = False) -> dict[str, str]:
    detail = (
        f"données de remplacement ({detail})"
        if stand_in
        else f"données réelles ({detail})"
    )
    source = "synthetic" if stand_in else "real"
    return {
        "key": key,
        "title": REGISTRY[key].title,
        "source": source,
        "detail": detail,
    }


@dataclass(frozen=True, kw_only=True, eq=False)
class Garments(Dataset):
    x_train: np.ndarray  # uint8 (60000, 28, 28), 0 black to 255
    y_train: np.ndarray  # int64 (60000,), 0 to 9
    x_test: np.ndarray  # uint8 (10000, 28, 28)
    y_test: np.ndarray  # int64 (10000,)
    class_names: tuple[str, ...]  # the ten names, French


GARMENTS = ("T-shirt/haut", "Pantalon", "Pull", "Robe", "Manteau")
GARMENTS += ("Sandale", "Chemise", "Basket", "Sac", "Bottine")
DIGITS = (
    "zéro",
    "un",
    "deux",
    "trois",
    "quatre",
    "cinq",
    "six",
    "sept",
    "huit",
    "neuf",
)


def garments(seed: int = 0) -> Garments:
    """Fashion-MNIST: 60,000 and 10,000 grey pictures of ten garments, in the official order.

    Stand-in: scikit-learn's digits, 1,400 and 397 pictures split by `seed`, named as digits.
    Source: Xiao, Rasul, Vollgraf, arXiv:1708.07747.
    """
    found = obtain("garments")
    if found is None:
        arrays = synthetic.garments(seed)._asdict()
        about = _about(
            "garments", "chiffres manuscrits de scikit-learn, agrandis", stand_in=True
        )
        return Garments(**about, **arrays, class_names=DIGITS)
    folder, _ = found
    for file in REGISTRY["garments"].files:
        check(folder, file)
    parts = {
        f"{axis}_{split}": _idx(folder / f"{prefix}-{kind}-ubyte.gz")
        for split, prefix in (("train", "train"), ("test", "t10k"))
        for axis, kind in (("x", "images-idx3"), ("y", "labels-idx1"))
    }
    parts |= {
        key: part.astype("int64") for key, part in parts.items() if key.startswith("y")
    }
    sizes = [
        f"{len(parts[axis]):,}".replace(",", " ") for axis in ("x_train", "x_test")
    ]
    detail = f"{sizes[0]} images d'entraînement, {sizes[1]} de test"
    return Garments(**_about("garments", detail), **parts, class_names=GARMENTS)


def _idx(path: Path) -> np.ndarray:
    """Read a gzipped IDX file of bytes: four bytes (the last: axes), the axes, the values."""
    with reading(path):
        raw = gzip.decompress(path.read_bytes())
        axes = raw[3]
        shape = np.frombuffer(raw, dtype=">i4", count=axes, offset=4)
        return (
            np.frombuffer(raw, dtype="uint8", offset=4 + 4 * axes).reshape(shape).copy()
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Pets(Dataset):
    images: np.ndarray  # uint8 (n, size, size, 3)
    masks: (
        np.ndarray
    )  # uint8 (n, size, size): 0 pet, 1 background, 2 border (not classified)
    names: np.ndarray  # str (n,), as in the official lists: "Abyssinian_1"
    breeds: np.ndarray  # str (n,): "Abyssinian"
    species: np.ndarray  # int64 (n,): 0 cat, 1 dog
    split: np.ndarray  # str (n,): "trainval", "test", or "" where it is not known
    class_names: tuple[str, ...] = ("animal", "fond", "bordure")


def pets(size: int = 128, limit: int | None = None, seed: int = 0) -> Pets:
    """Oxford-IIIT Pet: 7,349 cats and dogs of 37 breeds with their trimaps, sorted by name.

    size: side of the square that images (antialiased) and masks (nearest neighbour, so classes
        stay classes) are resized to; the official values 1, 2, 3 become 0, 1, 2.
    limit: at most so many, spread evenly over the sorted names, hence over the breeds.

    Stand-in: drawn cats and dogs, `limit` (default 400) of them, the last fifth as test.
    Source: Parkhi et al., Cats and Dogs, CVPR 2012.
    """
    found = obtain("pets")
    if found is None:
        n = limit or 400
        drawn = synthetic.pets(n, size, seed)
        return Pets(
            **_about("pets", "chats et chiens dessinés", stand_in=True),
            images=drawn.images,
            masks=drawn.trimaps,
            names=np.array([f"drawn_{i}" for i in range(n)]),
            breeds=np.array(["drawn_cat", "drawn_dog"])[drawn.species],
            species=drawn.species,
            split=np.where(np.arange(n) < n * 4 // 5, "trainval", "test"),
        )
    folder, layout = found
    rows = sorted((_pets_table if layout == "table" else _pets_lists)(folder))
    if limit is not None and limit < len(rows):
        rows = [
            rows[i] for i in np.linspace(0, len(rows) - 1, limit).round().astype(int)
        ]
    trimaps = folder / ("trimaps" if layout == "table" else "annotations/trimaps")

    def pair(name: str) -> tuple[np.ndarray, np.ndarray]:
        photograph, trimap = folder / "images" / f"{name}.jpg", trimaps / f"{name}.png"
        with reading(photograph), Image.open(photograph) as image:
            picture = np.asarray(image.convert("RGB").resize((size, size), CUBIC))
        with reading(trimap), Image.open(trimap) as image:
            mask = np.asarray(image.resize((size, size), NEAREST)) - 1
            if mask.max() > 2:
                raise ValueError("valeurs attendues : 1, 2 et 3")
        return picture, mask

    images = np.empty((len(rows), size, size, 3), dtype="uint8")
    masks = np.empty((len(rows), size, size), dtype="uint8")
    with ThreadPoolExecutor(
        os.cpu_count()
    ) as pool:  # PIL decodes outside the interpreter's lock
        for i, (image, mask) in enumerate(pool.map(pair, (row[0] for row in rows))):
            images[i], masks[i] = image, mask
    names, breeds, species, split = (
        np.array(column) for column in zip(*rows, strict=True)
    )
    detail = f"{len(rows)} photographies de {len(set(breeds))} races, {size} × {size}"
    return Pets(
        **_about("pets", detail),
        images=images,
        masks=masks,
        names=names,
        breeds=breeds,
        species=species,
        split=split,
    )


def _pets_table(folder: Path) -> list[tuple[str, str, int, str]]:
    """Name, breed, species (0 cat, 1 dog) and split of each row of pets.csv."""
    with reading(folder / "pets.csv"), (folder / "pets.csv").open(newline="") as file:
        return [
            (
                row["name"],
                row["breed"],
                int(row["species"] == "dog"),
                row["official_split"],
            )
            for row in csv.DictReader(file)
        ]


def _pets_lists(folder: Path) -> list[tuple[str, str, int, str]]:
    """The same from the official lists, whose lines are: name, breed, species (1 or 2), number."""
    rows = []
    for split in ("trainval", "test"):
        path = folder / "annotations" / f"{split}.txt"
        with reading(path):
            for line in path.read_text().splitlines():
                name, _, species, _ = line.split()
                rows.append((name, name.rsplit("_", 1)[0], int(species) - 1, split))
    return rows


@dataclass(frozen=True, kw_only=True, eq=False)
class Membranes(Dataset):
    images: np.ndarray  # uint8 (30, 512, 512)
    labels: np.ndarray  # uint8 (30, 512, 512): 0 membrane, 255 inside of a cell


def membranes(seed: int = 0) -> Membranes:
    """ISBI 2012: thirty slices of neural tissue in electron microscopy, with their labels.

    Stand-in: drawn tissue, 30 slices of 256x256.
    Source: Cardona et al., PLoS Biology 8(10), 2010.
    """
    found = obtain("membranes")
    if found is None:
        arrays = synthetic.membranes(30, seed=seed)._asdict()
        return Membranes(
            **_about("membranes", "tissu dessiné", stand_in=True), **arrays
        )
    folder, layout = found
    if layout == "tif":
        images, labels = (
            _stack([folder / name]) for name in ("train-volume.tif", "train-labels.tif")
        )
    else:
        images, labels = (
            _stack([folder / "train" / kind / f"{i}.png" for i in range(30)])
            for kind in ("image", "label")
        )
    detail = f"{len(images)} coupes de {images.shape[1]} × {images.shape[2]}"
    return Membranes(**_about("membranes", detail), images=images, labels=labels)


def _stack(paths: list[Path]) -> np.ndarray:
    """Grey images of equal sizes, uint8 (n, height, width); a file may hold several pages."""
    pages = []
    for path in paths:
        with reading(path), Image.open(path) as image:
            pages += [
                np.asarray(page.convert("L")) for page in ImageSequence.Iterator(image)
            ]
    with reading(paths[0].parent):
        return np.stack(pages)


@dataclass(frozen=True, kw_only=True, eq=False)
class Faces(Dataset):
    images: np.ndarray  # uint8 (n, 80, 80, 3)
    attributes: dict[
        str, np.ndarray
    ]  # CelebA's name ("Blond_Hair") -> uint8 (n,), 1 has it


def faces(limit: int = 10_000, seed: int = 0) -> Faces:
    """CelebA: the first `limit` aligned faces (of 202,599) at 80x80 and their 40 attributes.

    The 178x218 pictures of the public archive are cropped to their rows 20 to 197 (a square), then
    reduced; only those asked for are decoded. Never publish one of these faces.

    Stand-in: at most 1,500 drawn faces with Male, Blond_Hair, Eyeglasses and No_Beard; blond and
    beard go with gender, as in CelebA.
    Source: Liu et al., Deep Learning Face Attributes in the Wild, ICCV 2015.
    """
    found = obtain("faces")
    if found is None:
        biased = {"blond": (0.24, 0.02), "beard": (0.0, 0.4)}
        drawn = synthetic.faces(min(limit, 1500), seed, rates=biased)
        given = {name: values.astype("uint8") for name, values in drawn.labels.items()}
        attributes = {
            "Male": 1 - given["woman"],
            "Blond_Hair": given["blond"],
            "Eyeglasses": given["glasses"],
            "No_Beard": 1 - given["beard"],
        }
        about = _about("faces", "visages dessinés", stand_in=True)
        return Faces(**about, images=drawn.images, attributes=attributes)
    folder, layout = found
    archive, table = (folder / name for name in REGISTRY["faces"].layouts[layout])
    with reading(table), table.open(newline="") as file:
        if layout == "small":
            rows = csv.reader(file)
            columns = next(rows)[1:]
        else:  # the number of pictures, the columns, then a row each: name, and 1 or -1
            file.readline()
            columns = file.readline().split()
            rows = (line.split() for line in file)
        names, values = zip(
            *((row[0], row[1:]) for row in itertools.islice(rows, limit)), strict=True
        )
        has = (np.array(values) == "1").astype("uint8")
        attributes = dict(zip(columns, np.ascontiguousarray(has.T), strict=True))
    images = np.empty((len(names), 80, 80, 3), dtype="uint8")
    with reading(archive), zipfile.ZipFile(archive) as pictures:
        members = {PurePosixPath(name).name: name for name in pictures.namelist()}
        for i, name in enumerate(names):
            with pictures.open(members[name]) as file, Image.open(file) as image:
                images[i] = _small_face(image)
    detail = f"{len(images)} visages alignés, 80 × 80, {len(attributes)} attributs"
    return Faces(**_about("faces", detail), images=images, attributes=attributes)


def _small_face(image: Image.Image) -> np.ndarray:
    """An aligned face, 80x80 already or the official 178x218, as uint8 (80, 80, 3)."""
    if image.size != (80, 80):
        width, height = image.size
        top = round(height * 10 / 109)
        image = image.crop((0, top, width, top + width))
        image = image.resize((80, 80), Image.Resampling.LANCZOS)
    return np.asarray(image.convert("RGB"))


@dataclass(frozen=True, kw_only=True, eq=False)
class Identities(Dataset):
    images: np.ndarray  # uint8 (400, 112, 92), grey; (400, 64, 64) when downloaded
    labels: np.ndarray  # int64 (400,), 0 to 39: who it is


def identities(seed: int = 0) -> Identities:
    """ORL: 40 people, ten grey pictures each, in order, from the folders s1 to s40.

    What the course downloads is the 64x64 crop of the same pictures that scikit-learn distributes
    (fetch_olivetti_faces). Never publish one of these faces.

    Stand-in: 40 drawn people, ten pictures of 112x92 each.
    Source: Samaria and Harter, Workshop on Applications of Computer Vision, 1994.
    """
    found = obtain("identities")
    if found is None:
        arrays = synthetic.identities(seed=seed)._asdict()
        return Identities(
            **_about("identities", "visages dessinés", stand_in=True), **arrays
        )
    folder, layout = found
    if layout == "pgm":
        people = (folder / f"s{who}" for who in range(1, 41))
        images = _stack(
            [person / f"{shot}.pgm" for person in people for shot in range(1, 11)]
        )
    else:
        (file,) = REGISTRY["identities"].files
        check(folder, file)
        with reading(
            folder / file.name
        ):  # a face is a column, itself made of the image's columns
            columns = loadmat(folder / file.name)["faces"]
            images = (
                np.rint(columns.T)
                .astype("uint8")
                .reshape(400, 64, 64)
                .transpose(0, 2, 1)
            )
    height, width = images.shape[1:]
    detail = f"{len(images)} images de 40 personnes, {height} × {width}"
    return Identities(
        **_about("identities", detail), images=images, labels=np.arange(400) // 10
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Photographs(Dataset, Mapping[str, np.ndarray]):
    """A mapping: name -> uint8 (height, width, 3)."""

    images: dict[str, np.ndarray]

    def __getitem__(self, name: str) -> np.ndarray:
        return self.images[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.images)

    def __len__(self) -> int:
        return len(self.images)


PHOTOGRAPHS = {  # name -> (package, file in its wheel); nobody is pictured
    "chelsea": ("skimage.data", "chelsea.png"),  # a cat
    "coffee": ("skimage.data", "coffee.png"),
    "rocket": ("skimage.data", "rocket.jpg"),
    "galaxies": ("skimage.data", "hubble_deep_field.jpg"),
    "pavilion": ("sklearn.datasets.images", "china.jpg"),
    "flower": ("sklearn.datasets.images", "flower.jpg"),
}


def photographs() -> Photographs:
    """Six colour photographs that the wheels of scikit-image and scikit-learn carry."""
    images = {}
    for name, (package, file) in PHOTOGRAPHS.items():
        with resources.files(package).joinpath(file).open("rb") as stream:
            images[name] = np.asarray(Image.open(stream).convert("RGB"))
    about = _about("photographs", "fournies avec scikit-image et scikit-learn")
    return Photographs(**about, images=images)


def pretrained(name: str) -> Path | None:
    """The file of weights called `name`, in `COURSE_DATA_DIR/pretrained` or Keras' cache `models`.

    Not there: None in quick profile (or `COURSE_DATA=synthetic`), `DataUnavailable` in full. The
    weights of `keras.applications` are downloaded by Keras itself: `weights="imagenet"`.
    """
    if stand_ins_forced():
        return None
    for folder in (data_dir() / "pretrained", keras_home() / "models"):
        if (folder / name).is_file():
            return folder / name
    if runtime.profile() == "quick":
        return None
    raise DataUnavailable(
        f"Les poids « {name} » sont introuvables.\nQue faire : avec un réseau, "
        f"{REGISTRY['pretrained'].by_hand} ; sinon placez le fichier dans "
        f"{data_dir() / 'pretrained'}. En profil rapide (COURSE_PROFILE=quick), le chapitre s'en "
        "passe et le dit."
    )


CLASS_INDEX = (  # the list that keras.applications downloads, and its MD5 there
    "https://storage.googleapis.com/download.tensorflow.org/data/imagenet_class_index.json",
    "c2c37ea517e94d9795004a39431a14cb",
)


def imagenet_classes() -> list[tuple[str, str]] | None:
    """The 1,000 classes of ILSVRC, in the order of the networks' outputs: (WordNet id, name).

    Looked for like the weights (`pretrained`). Not there: None in quick profile; in full, Keras
    downloads it to its cache, or `DataUnavailable` says what to do.
    """
    url, md5 = CLASS_INDEX
    name = url.rsplit("/", 1)[-1]
    try:
        path = pretrained(name)
    except DataUnavailable as missing:
        keras_home().mkdir(parents=True, exist_ok=True)  # else get_file writes in /tmp
        try:
            path = keras.utils.get_file(
                name, url, cache_subdir="models", cache_dir=keras_home(), file_hash=md5
            )
        except Exception:  # noqa: BLE001 - what get_file raises is not documented
            raise missing from None
    if path is None:
        return None
    with reading(Path(path)):
        index = json.loads(Path(path).read_text(encoding="utf8"))
        return [tuple(index[str(k)]) for k in range(len(index))]
