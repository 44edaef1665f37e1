"""Tiny copies of what the public sources deliver, and their registration in the registry."""

import gzip
import hashlib
import io
import struct
import tarfile
from dataclasses import replace

import numpy as np
from PIL import Image

from utils.downloads import REGISTRY, RemoteFile

PETS = {
    "Abyssinian_1": 1,
    "Bengal_7": 1,
    "american_bulldog_10": 2,
    "beagle_2": 2,
}  # 1 cat, 2 dog


def register(monkeypatch, key, files, mirrors=()):
    """Make `files` (name -> bytes) the files of the entry `key`, with their checksums."""
    entry = REGISTRY[key]
    whole = {name: tuple(file.name for file in entry.files) for name in entry.layouts}
    layouts = {
        name: tuple(files) if paths == whole[name] else paths
        for name, paths in entry.layouts.items()
    }
    remote = tuple(
        RemoteFile(
            name,
            len(content),
            hashlib.sha256(content).hexdigest(),
            tuple(mirror + name for mirror in mirrors),
        )
        for name, content in files.items()
    )
    monkeypatch.setitem(REGISTRY, key, replace(entry, files=remote, layouts=layouts))


def write(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def encoded(pixels, kind="PNG", **options):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


def garments():
    """The four archives of Fashion-MNIST, with six and three pictures; and their arrays."""
    rng = np.random.default_rng(0)
    files, arrays = {}, {}
    for prefix, split, n in (("train", "train", 6), ("t10k", "test", 3)):
        x = rng.integers(0, 256, (n, 28, 28)).astype("uint8")
        y = rng.integers(0, 10, n).astype("uint8")
        images = bytes([0, 0, 8, 3]) + struct.pack(">3i", n, 28, 28) + x.tobytes()
        labels = bytes([0, 0, 8, 1]) + struct.pack(">i", n) + y.tobytes()
        files[f"{prefix}-images-idx3-ubyte.gz"] = gzip.compress(images, mtime=0)
        files[f"{prefix}-labels-idx1-ubyte.gz"] = gzip.compress(labels, mtime=0)
        arrays[f"x_{split}"], arrays[f"y_{split}"] = x, y
    return files, arrays


def archive(members):
    """A .tar.gz of `members`: (name, bytes) for a file, (name, "-> target") for a link."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            if isinstance(content, str):
                member.type, member.linkname = (
                    tarfile.SYMTYPE,
                    content.removeprefix("-> "),
                )
                tar.addfile(member)
            else:
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def pets(extra=()):
    """images.tar.gz and annotations.tar.gz: each photograph has its own grey level.

    The trimaps are three bands: 1, 3, 2 (pet, border, background) for the first picture, then
    2, 1, 3, then 3, 2, 1, and so on.
    `extra`: more members of images.tar.gz.
    """
    images, annotations = [], []
    for i, name in enumerate(PETS):
        photograph = np.full((20, 30, 3), 40 * (i + 1), dtype="uint8")
        bands = np.roll(np.array([1, 3, 2], dtype="uint8"), i)
        trimap = np.tile(bands.repeat(10), (20, 1))
        images.append((f"images/{name}.jpg", encoded(photograph, "JPEG")))
        annotations.append((f"annotations/trimaps/{name}.png", encoded(trimap)))
        annotations.append(
            (f"annotations/trimaps/._{name}.png", b"junk that macOS leaves")
        )
    names = list(PETS)
    for split, chosen in (("trainval", names[1::2]), ("test", names[::2])):
        lines = [f"{name} {i} {PETS[name]} {i}\n" for i, name in enumerate(chosen, 1)]
        annotations.append((f"annotations/{split}.txt", "".join(lines).encode()))
    return {
        "images.tar.gz": archive(
            [*images, ("images/beagle_2.mat", b"not an image"), *extra]
        ),
        "annotations.tar.gz": archive(annotations),
    }
