"""The loaders: on tiny copies of the public layouts, on stand-ins, and on the real data."""

import gzip
import hashlib
import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from tests import public_layouts as public
from utils import datasets, runtime, synthetic
from utils.downloads import REGISTRY, DataUnavailable, check

REAL = os.environ.get("COURSE_REAL_DATA_DIR", "")


def needs_real(folder):
    """Skip the test, by name, where the real data is not on this machine."""
    absent = not (REAL and (Path(REAL) / folder).is_dir())
    skip = pytest.mark.skipif(absent, reason=f"no {folder} in COURSE_REAL_DATA_DIR")
    return lambda test: pytest.mark.real_data(skip(test))


@pytest.fixture
def data(monkeypatch, tmp_path):
    """An empty data folder, in quick profile, without any cache."""
    monkeypatch.delenv("COURSE_DATA", raising=False)
    monkeypatch.setenv("COURSE_PROFILE", "quick")
    monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    return tmp_path / "data"


@pytest.fixture
def real(data, monkeypatch):
    monkeypatch.setenv("COURSE_DATA_DIR", REAL)


# --- Garments


@pytest.mark.parametrize(
    "place", ["data/fashion-mnist", "keras/datasets/fashion-mnist"]
)
def test_garments_in_the_data_folder_or_the_cache_of_keras(
    data, tmp_path, monkeypatch, place
):
    files, arrays = public.garments()
    public.register(monkeypatch, "garments", files)
    public.write(tmp_path / place, files)
    found = datasets.garments()
    assert (found.key, found.source, found.title) == (
        "garments",
        "real",
        "Fashion-MNIST",
    )
    for name, expected in arrays.items():
        assert (getattr(found, name) == expected).all()
    assert (found.x_train.dtype, found.y_train.dtype) == ("uint8", "int64")
    assert found.x_train.flags.writeable
    assert "6 images" in found.detail
    assert len(found.class_names) == 10


def test_garments_incomplete_are_not_used(data, monkeypatch):
    files, _ = public.garments()
    public.register(monkeypatch, "garments", files)
    public.write(data / "fashion-mnist", dict(list(files.items())[:3]))
    assert datasets.garments().source == "synthetic"


@pytest.mark.parametrize("damage", ["checksum", "gzip", "shape"])
def test_garments_damaged_are_named(data, monkeypatch, damage):
    """A file that is not the registered one; or is, and cannot be read, or holds too little."""
    files, _ = public.garments()
    name = "t10k-images-idx3-ubyte.gz"
    raw = gzip.decompress(files[name])
    bad = {
        "checksum": gzip.compress(raw[:-1] + bytes([raw[-1] ^ 1])),
        "gzip": files[name][:100],
        "shape": gzip.compress(raw[:-1]),
    }
    local = files | {name: bad[damage]}
    public.register(monkeypatch, "garments", files if damage == "checksum" else local)
    public.write(data / "fashion-mnist", local)
    with pytest.raises(DataUnavailable) as failure:
        datasets.garments()
    assert str(data / "fashion-mnist" / name) in str(failure.value)
    assert "supprimez-le" in str(failure.value)
    assert failure.value.__cause__ is None, "the trace of zlib would be shown"
    assert failure.value.__suppress_context__


def test_garments_stand_in(data):
    found = datasets.garments(seed=1)
    assert found.source == "synthetic"
    assert "remplacement" in found.detail
    assert (found.x_train == synthetic.garments(1).x_train).all()
    assert found.class_names[:2] == ("zéro", "un")


# --- Pets


def write_pets(data, monkeypatch):
    files = public.pets()
    public.register(monkeypatch, "pets", files)
    public.write(data / "pets", files)


def test_pets_public_layout(data, monkeypatch):
    write_pets(data, monkeypatch)
    found = datasets.pets(size=10)
    assert found.names.tolist() == [
        "Abyssinian_1",
        "Bengal_7",
        "american_bulldog_10",
        "beagle_2",
    ]
    assert found.breeds.tolist() == [
        "Abyssinian",
        "Bengal",
        "american_bulldog",
        "beagle",
    ]
    assert found.species.tolist() == [0, 0, 1, 1]
    assert found.split.tolist() == ["test", "trainval", "test", "trainval"]
    assert (found.images.shape, found.images.dtype) == ((4, 10, 10, 3), "uint8")
    grey = found.images.mean(
        axis=(1, 2, 3)
    )  # each photograph has its own, so pairs are checked
    np.testing.assert_allclose(grey, [40, 80, 120, 160], atol=2)
    for i, mask in enumerate(
        found.masks
    ):  # pet, border, background, turned: nothing in between
        assert (mask == np.roll([0, 2, 1], i).repeat([3, 4, 3])).all()
    assert found.masks.dtype == "uint8"


def test_pets_limit_spreads_over_the_names(data, monkeypatch):
    write_pets(data, monkeypatch)
    assert datasets.pets(size=8, limit=2).names.tolist() == ["Abyssinian_1", "beagle_2"]
    assert len(datasets.pets(size=8, limit=99).names) == 4


def test_pets_damaged_or_missing_picture_is_named(data, monkeypatch):
    write_pets(data, monkeypatch)
    datasets.pets(size=8)
    photograph = data / "pets" / "images" / "Bengal_7.jpg"
    photograph.write_bytes(photograph.read_bytes()[:200])
    with pytest.raises(DataUnavailable, match=r"Bengal_7\.jpg"):
        datasets.pets(size=8)
    photograph.unlink()
    with pytest.raises(DataUnavailable, match=r"Bengal_7\.jpg manque"):
        datasets.pets(size=8)


@pytest.mark.parametrize("values", [(0, 1, 2), (1, 2, 4)])
def test_pets_trimap_of_unknown_classes_is_refused(data, monkeypatch, values):
    write_pets(data, monkeypatch)
    datasets.pets(size=8)
    trimap = np.repeat(np.array([values], dtype="uint8"), 4, axis=0)
    (data / "pets/annotations/trimaps/beagle_2.png").write_bytes(public.encoded(trimap))
    with pytest.raises(DataUnavailable, match=r"beagle_2\.png"):
        datasets.pets(size=8)


def test_pets_stand_in(data):
    found = datasets.pets(size=64, limit=10)
    assert found.images.shape == (10, 64, 64, 3)
    assert set(np.unique(found.masks)) == {0, 1, 2}
    assert (found.split == "test").sum() == 2
    assert [breed.removeprefix("drawn_") for breed in found.breeds] == [
        ("cat", "dog")[species] for species in found.species
    ]


# --- Membranes


def slices():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (30, 16, 16)).astype("uint8")
    return images, np.where(images > 100, 255, 0).astype("uint8")


@pytest.mark.parametrize("layout", ["png", "tif"])
def test_membranes_layouts(data, layout):
    images, labels = slices()
    folder = data / "isbi2012-membrane"
    if layout == "png":
        for kind, stack in (("image", images), ("label", labels)):
            files = {
                f"train/{kind}/{i}.png": public.encoded(page)
                for i, page in enumerate(stack)
            }
            public.write(folder, files)
    else:
        folder.mkdir(parents=True)
        for name, stack in (("train-volume.tif", images), ("train-labels.tif", labels)):
            first, *others = [Image.fromarray(page) for page in stack]
            first.save(folder / name, save_all=True, append_images=others)
    found = datasets.membranes()
    assert found.source == "real"
    assert (found.images == images).all()
    assert (found.labels == labels).all()


def test_membranes_stand_in(data):
    found = datasets.membranes()
    assert found.images.shape == found.labels.shape == (30, 256, 256)
    assert set(np.unique(found.labels)) == {0, 255}


# --- Faces

NAMES = ["000001.jpg", "000002.jpg", "000003.jpg"]
SMILING, GLASSES = [1, 0, 1], [0, 0, 1]


def write_faces(data, layout, pictures):
    folder = data / "celeba"
    folder.mkdir(parents=True)
    small = layout == "small"
    archive = folder / ("faces_80x80.zip" if small else "img_align_celeba.zip")
    with zipfile.ZipFile(archive, "w") as out:
        for name, picture in zip(NAMES, pictures, strict=True):
            out.writestr(name if small else f"img_align_celeba/{name}", picture)
    rows = zip(NAMES, SMILING, GLASSES, strict=True)
    if small:
        lines = ["image,Smiling,Eyeglasses", *(f"{n},{s},{g}" for n, s, g in rows)]
        (folder / "attributes.csv").write_text("\n".join(lines))
    else:
        lines = ["3", "Smiling Eyeglasses "]
        lines += [f"{n} {2 * s - 1:2d} {2 * g - 1:2d}" for n, s, g in rows]
        (folder / "list_attr_celeba.txt").write_text("\n".join(lines))


def test_faces_small_layout(data):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 80, 80, 3)).astype("uint8")
    write_faces(data, "small", [public.encoded(p) for p in pixels])
    found = datasets.faces()
    assert (found.images == pixels).all()
    assert {k: v.tolist() for k, v in found.attributes.items()} == {
        "Smiling": SMILING,
        "Eyeglasses": GLASSES,
    }
    assert found.attributes["Smiling"].dtype == "uint8"


def test_faces_official_layout_is_cropped_and_reduced(data):
    """The rows kept are 20 to 197 of 218, all columns: what the small layout was made of."""
    picture = np.zeros((218, 178, 3), dtype="uint8")
    picture[:20, :, 0] = picture[198:, :, 0] = 255  # red: outside the crop
    picture[20:198, :89, 1] = 200  # green: the left half of it
    write_faces(data, "official", [public.encoded(picture)] * 3)
    found = datasets.faces()
    assert found.images.shape == (3, 80, 80, 3)
    assert found.images[..., 0].max() == 0
    assert (found.images[:, :, :36, 1] == 200).all()
    assert (found.images[:, :, 44:, 1] == 0).all()
    assert found.attributes["Eyeglasses"].tolist() == GLASSES


@pytest.mark.parametrize("layout", ["small", "official"])
def test_faces_decodes_only_what_is_asked(data, layout):
    face = public.encoded(np.zeros((80, 80, 3), dtype="uint8"))
    write_faces(data, layout, [face, face, b"not a picture"])
    found = datasets.faces(limit=2)
    assert found.images.shape == (2, 80, 80, 3)
    assert found.attributes["Smiling"].tolist() == SMILING[:2]
    with pytest.raises(DataUnavailable, match=r"\.zip"):
        datasets.faces()


def test_faces_damaged_archive_is_named(data):
    face = public.encoded(
        np.random.default_rng(0).integers(0, 256, (80, 80, 3)).astype("uint8")
    )
    write_faces(data, "small", [face] * 3)
    archive = data / "celeba" / "faces_80x80.zip"
    whole = archive.read_bytes()
    archive.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataUnavailable, match=r"faces_80x80\.zip"):
        datasets.faces()
    middle = len(whole) // 2
    archive.write_bytes(
        whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :]
    )
    with pytest.raises(DataUnavailable, match=r"faces_80x80\.zip"):
        datasets.faces()


def test_faces_stand_in(data):
    found = datasets.faces(limit=200)
    assert found.source == "synthetic"
    assert found.images.shape == (200, 80, 80, 3)
    male, blond, no_beard = (
        found.attributes[k] for k in ("Male", "Blond_Hair", "No_Beard")
    )
    assert 60 < male.sum() < 140
    assert blond[male == 1].mean() < blond[male == 0].mean()
    assert no_beard[male == 0].all()
    assert not no_beard[male == 1].all()


# --- Identities


def test_identities_folders_in_numeric_order(data):
    for who in range(1, 41):
        for shot in range(1, 11):
            pixels = np.full((14, 12), who, dtype="uint8")
            pixels[:7] = shot
            content = public.encoded(pixels, "PPM")
            public.write(data / "orl-faces", {f"s{who}/{shot}.pgm": content})
    found = datasets.identities()
    assert found.images.shape == (400, 14, 12)
    assert (found.images[:, 0, 0] == np.tile(np.arange(1, 11), 40)).all()
    assert (found.images[:, -1, 0] == found.labels + 1).all()
    (data / "orl-faces" / "s7" / "3.pgm").unlink()
    with pytest.raises(DataUnavailable, match=r"3\.pgm"):
        datasets.identities()


def test_identities_downloaded_file(data, monkeypatch):
    """As scikit-learn reads it: a face is a column, made of the columns of the picture."""
    pictures = np.random.default_rng(0).integers(0, 256, (400, 64, 64)).astype("uint8")
    columns = np.stack([picture.ravel(order="F") for picture in pictures], axis=1)
    stream = io.BytesIO()
    savemat(stream, {"faces": columns})
    files = {"olivettifaces.mat": stream.getvalue()}
    public.register(monkeypatch, "identities", files)
    public.write(data / "orl-faces", files)
    found = datasets.identities()
    assert (found.images == pictures).all()
    assert np.bincount(found.labels).tolist() == [10] * 40
    assert found.images.dtype == "uint8"


def test_identities_stand_in(data):
    found = datasets.identities()
    assert found.images.shape == (400, 112, 92)
    assert np.bincount(found.labels).tolist() == [10] * 40


# --- Photographs and weights


def test_photographs_show_nobody(data):
    found = datasets.photographs()
    assert set(found) == {
        "chelsea",
        "coffee",
        "rocket",
        "galaxies",
        "pavilion",
        "flower",
    }
    assert not {"astronaut", "camera", "lfw_subset", "grace_hopper"} & set(found)
    for image in found.values():
        assert image.dtype == "uint8"
        assert image.shape[2] == 3
        assert min(image.shape[:2]) >= 300
    assert (found["chelsea"].shape, found.source) == ((300, 451, 3), "real")


@pytest.mark.parametrize("place", ["data/pretrained", "keras/models"])
def test_pretrained(data, tmp_path, monkeypatch, place):
    assert datasets.pretrained("net.weights.h5") is None
    monkeypatch.setenv("COURSE_PROFILE", "full")
    with pytest.raises(DataUnavailable, match=r"net\.weights\.h5.*introuvables"):
        datasets.pretrained("net.weights.h5")
    public.write(tmp_path / place, {"net.weights.h5": b"weights"})
    assert datasets.pretrained("net.weights.h5") == tmp_path / place / "net.weights.h5"
    monkeypatch.setenv("COURSE_DATA", "synthetic")
    assert datasets.pretrained("net.weights.h5") is None


@pytest.mark.parametrize("place", ["data/pretrained", "keras/models"])
def test_imagenet_classes(data, tmp_path, monkeypatch, place):
    assert datasets.imagenet_classes() is None
    index = tmp_path / place / "imagenet_class_index.json"
    index.parent.mkdir(parents=True)
    index.write_text('{"1": ["n2", "chien"], "0": ["n1", "chat"]}', encoding="utf8")
    assert datasets.imagenet_classes() == [("n1", "chat"), ("n2", "chien")]
    index.write_text("{", encoding="utf8")
    with pytest.raises(DataUnavailable, match="abîmé"):
        datasets.imagenet_classes()


def test_imagenet_classes_without_network(data, monkeypatch):
    monkeypatch.setenv("COURSE_PROFILE", "full")

    def refused(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr(datasets.keras.utils, "get_file", refused)
    with pytest.raises(DataUnavailable, match="Que faire"):
        datasets.imagenet_classes()


def test_imagenet_classes_downloaded(data, tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_PROFILE", "full")
    index = tmp_path / "index.json"
    index.write_text('{"0": ["n1", "chat"]}', encoding="utf8")
    digest = hashlib.md5(index.read_bytes()).hexdigest()
    monkeypatch.setattr(datasets, "CLASS_INDEX", (index.as_uri(), digest))
    assert datasets.imagenet_classes() == [("n1", "chat")]
    monkeypatch.setattr(datasets, "CLASS_INDEX", (index.as_uri(), "0" * 32))
    (tmp_path / "keras/models/index.json").unlink()
    with pytest.raises(DataUnavailable):
        datasets.imagenet_classes()


def test_default_folder_is_in_the_repository(data, monkeypatch):
    monkeypatch.delenv("COURSE_DATA_DIR")
    assert datasets.data_dir() == runtime.ROOT / "data"


# --- The real data

FASHION_MD5 = {  # as its authors publish them
    "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}


@needs_real("fashion-mnist")
def test_real_garments(real):
    found = datasets.garments()
    assert found.source == "real"
    assert found.x_train.shape == (60000, 28, 28)
    assert found.x_test.shape == (10000, 28, 28)
    assert found.x_train.mean() / 255 == pytest.approx(0.2860405969887955, abs=1e-12)
    assert (found.x_train / 255).std() == pytest.approx(0.3530242445149226, abs=1e-6)
    assert np.bincount(found.y_train).tolist() == [6000] * 10
    assert np.bincount(found.y_test).tolist() == [1000] * 10
    assert found.class_names[found.y_train[0]] == "Bottine"
    for name, md5 in FASHION_MD5.items():
        content = (Path(REAL) / "fashion-mnist" / name).read_bytes()
        assert hashlib.md5(content).hexdigest() == md5


@needs_real("pets")
def test_real_pets(real):
    found = datasets.pets(size=64)
    assert found.images.shape == (692, 64, 64, 3)
    assert np.bincount(found.species).tolist() == [444, 248]
    assert np.isin(found.split, ["trainval", "test"]).sum() == 598
    assert set(found.split) == {"trainval", "test", ""}
    assert len(set(found.breeds)) == 32
    assert set(np.unique(found.masks)) == {0, 1, 2}
    shares = np.bincount(found.masks.ravel()) / found.masks.size
    assert shares[1] > shares[0] > shares[2]  # background, pet, border
    centre = (found.masks[:, 24:40, 24:40] == 0).mean()
    assert centre > 0.6  # the pet is in the middle of its photograph


@needs_real("isbi2012-membrane")
def test_real_membranes(real):
    found = datasets.membranes()
    assert found.images.shape == found.labels.shape == (30, 512, 512)
    assert set(np.unique(found.labels)) == {0, 255}
    assert (
        found.images[found.labels == 0].mean()
        < found.images[found.labels == 255].mean() - 30
    )
    for file in REGISTRY["membranes"].files:
        check(Path(REAL) / "isbi2012-membrane", file)


@needs_real("celeba")
def test_real_faces(real):
    found = datasets.faces()
    assert found.images.shape == (10000, 80, 80, 3)
    counts = {key: int(values.sum()) for key, values in found.attributes.items()}
    assert len(counts) == 40
    expected = {"Blond_Hair": 1452, "Eyeglasses": 674, "Male": 4217, "Smiling": 4822}
    assert {key: counts[key] for key in expected} == expected


@needs_real("orl-faces")
def test_real_identities(real):
    found = datasets.identities()
    assert found.images.shape == (400, 112, 92)
    assert np.bincount(found.labels).tolist() == [10] * 40
    assert len(np.unique(found.images.reshape(400, -1), axis=0)) == 400


@needs_real("pretrained")
def test_real_weights(real):
    path = datasets.pretrained("mobilenet_v2_1.0_160_no_top.weights.h5")
    assert path.stat().st_size > 9e6
