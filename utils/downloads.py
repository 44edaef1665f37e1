"""The registry of the course's data sets, and how their files reach the disk.

A data set is looked for in `COURSE_DATA_DIR` (default `data/` at the root of the repository), one
folder each, and Fashion-MNIST also in Keras' cache (`KERAS_HOME`, default `~/.keras`). Where it is
not, the full profile downloads it; the quick profile never touches the network.

A file takes its final name only once it is complete and its SHA-256 is right; an archive is
unpacked beside and renamed. What cannot be had or read raises `DataUnavailable`, in French.
"""

import contextlib
import itertools
import os
import shutil
import tarfile
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import requests
import yaml
from tqdm import tqdm

from utils import runtime

with (
    warnings.catch_warnings()
):  # where there are no widgets, Pooch's bar warns before any download
    warnings.simplefilter("ignore")
    import pooch

TIMEOUT = 30  # seconds without one byte before a mirror is given up
UNPACKED = (".jpg", ".png", ".txt")
UNREADABLE = (  # what the libraries raise on a damaged file (SyntaxError: PIL, a broken PNG)
    *(OSError, EOFError, ValueError, KeyError, IndexError, SyntaxError),
    *(zlib.error, zipfile.BadZipFile, tarfile.TarError),
)


class DataUnavailable(RuntimeError):
    """Data that is missing or damaged; the message says in French what to do."""


@dataclass(frozen=True)
class RemoteFile:
    """A file that the public source delivers; without `urls` or `sha256`: never downloaded."""

    name: str  # path inside the folder of its entry
    size: int | None  # bytes
    sha256: str | None
    urls: tuple[str, ...]  # mirrors, in order


@dataclass(frozen=True)
class Entry:
    """What the course knows of a data set: the fields of registry.yml, explained there."""

    title: str
    folder: str
    files: tuple[RemoteFile, ...]
    layouts: dict[str, tuple[str, ...]]
    homepage: str
    licence: str
    citation: str
    people: str
    by_hand: str
    keras_folder: str | None = None


def _entry(files: dict, mirrors: list[str], layouts: dict, **texts: str) -> Entry:
    remote = tuple(
        RemoteFile(
            name,
            size,
            sha256,
            tuple(m + name if m.endswith("/") else m for m in mirrors),
        )
        for name, (size, sha256) in files.items()
    )
    paths = {
        key: tuple(files if value == "files" else value)
        for key, value in layouts.items()
    }
    return Entry(files=remote, layouts=paths, **texts)


REGISTRY: dict[str, Entry] = {
    key: _entry(**fields)
    for key, fields in yaml.safe_load(
        Path(__file__).with_name("registry.yml").read_text(encoding="utf-8")
    ).items()
}


def data_dir() -> Path:
    """The folder of the real data: `COURSE_DATA_DIR`, default `data/` in the repository."""
    return Path(os.environ.get("COURSE_DATA_DIR") or runtime.ROOT / "data").expanduser()


def keras_home() -> Path:
    """Keras' own cache: `KERAS_HOME`, default `~/.keras`."""
    return Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser()


def stand_ins_forced() -> bool:
    """True when `COURSE_DATA=synthetic` asks for the stand-ins whatever the machine holds."""
    return os.environ.get("COURSE_DATA", "").strip().lower() == "synthetic"


def obtain(key: str) -> tuple[Path, str] | None:
    """The folder that holds the data set `key` and its layout; None: the stand-in must serve.

    Unpacks the archives it finds; downloads what is missing in full profile only.
    Raises `DataUnavailable`.
    """
    if stand_ins_forced():
        return None
    entry = REGISTRY[key]
    if found := _find(entry):
        return found
    folder = data_dir() / entry.folder
    missing = [file for file in entry.files if not (folder / file.name).exists()]
    if missing and runtime.profile() == "quick":
        return None
    if missing:
        _download(entry, missing, folder)
    for file in entry.files:
        if file.name.endswith(".tar.gz"):
            check(folder, file)
            _unpack(folder / file.name, folder)
    if found := _find(entry):
        return found
    raise DataUnavailable(
        f"Les archives de « {entry.title} » ne contiennent pas ce que le cours attend.\n"
        + _remedy(entry)
    )


def _find(entry: Entry) -> tuple[Path, str] | None:
    folders = [data_dir() / entry.folder]
    if entry.keras_folder:
        folders.append(keras_home() / entry.keras_folder)
    for folder, (layout, paths) in itertools.product(folders, entry.layouts.items()):
        if all((folder / path).exists() for path in paths):
            return folder, layout
    return None


def check(folder: Path, file: RemoteFile) -> None:
    """Raise `DataUnavailable` unless the local file has the SHA-256 registered for it, if any."""
    path = folder / file.name
    with reading(path):
        if file.sha256 and pooch.file_hash(str(path), alg="sha256") != file.sha256:
            raise ValueError("somme de contrôle SHA-256 inattendue")


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what libraries raise on a missing or damaged file into a French `DataUnavailable`."""
    try:
        yield
    except UNREADABLE as error:
        raise DataUnavailable(
            f"Le fichier {path} manque ou est abîmé ({type(error).__name__} : {error}).\n"
            "Que faire : supprimez-le et relancez cette cellule en profil complet "
            "(COURSE_PROFILE=full), qui télécharge ce qui manque là où c'est permis ; ou remettez "
            "à sa place une copie intacte. Sans elle, COURSE_DATA=synthetic donne des données de "
            "remplacement."
        ) from None


def _remedy(entry: Entry) -> str:
    return (
        f"Que faire : ouvrez {entry.homepage} ; {entry.by_hand} ; placez le tout dans "
        f"{data_dir() / entry.folder} (COURSE_DATA_DIR change ce dossier) et relancez cette "
        "cellule. Sans ces données, COURSE_DATA=synthetic donne des données de remplacement."
    )


def _download(entry: Entry, files: list[RemoteFile], folder: Path) -> None:
    """Download `files` into `folder`; each takes its name once complete and verified."""
    if not all(file.urls and file.sha256 for file in files):
        raise DataUnavailable(
            f"« {entry.title} » ne se télécharge pas sans vous ({entry.licence}).\n"
            + _remedy(entry)
        )
    pooch.get_logger().setLevel("WARNING")
    size = sum(file.size or 0 for file in files) / 1e6
    print(
        f"Téléchargement de « {entry.title} »" + (f" ({size:.0f} Mo)" if size else "")
    )
    few = len(files) < 10  # then a progress bar each, else one for all
    for file in tqdm(files, desc=entry.title, unit="fichier", disable=few):
        failures = []
        for url in file.urls:
            try:
                pooch.retrieve(
                    url,
                    known_hash=f"sha256:{file.sha256}",
                    fname=file.name,
                    path=folder,
                    downloader=pooch.HTTPDownloader(
                        progressbar=few,
                        chunk_size=2**16,
                        timeout=TIMEOUT,
                        headers={
                            "Accept-Encoding": "identity"
                        },  # the bytes as they are stored
                    ),
                )
                break
            except (requests.RequestException, ValueError) as error:
                failures.append(f"- {url} : {_reason(error)}")
            except OSError as error:  # the disk's fault, not the mirror's
                failures = [
                    f"- écriture impossible dans {folder} ({error.strerror or error})"
                ]
                raise _failed(entry, failures) from None
        else:
            raise _failed(entry, failures)


def _failed(entry: Entry, failures: list[str]) -> DataUnavailable:
    lines = [
        f"« {entry.title} » n'a pas pu être téléchargé :",
        *failures,
        _remedy(entry),
    ]
    return DataUnavailable("\n".join(lines))


def _reason(error: Exception) -> str:
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"le serveur répond {error.response.status_code}"
    if isinstance(error, requests.RequestException):
        return "serveur injoignable ou trop lent, ou connexion coupée"
    return "le contenu reçu n'est pas celui attendu (somme de contrôle SHA-256)"


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack the regular .jpg, .png and .txt files of a tar archive into `folder`, all or nothing.

    An archive with a member that would leave the folder is refused; links are never made.
    """
    with (
        reading(archive),
        tempfile.TemporaryDirectory(dir=folder, prefix=".unpacking-") as temporary,
        tarfile.open(archive) as tar,
    ):
        root = Path(temporary).resolve()
        for member in tqdm(tar, desc=archive.name, unit="fichier"):
            target = (root / member.name).resolve()
            if not target.is_relative_to(root):
                raise DataUnavailable(
                    f"L'archive {archive} est refusée : son membre « {member.name} » sortirait du "
                    "dossier. Supprimez-la et prenez-la sur sa page officielle."
                )
            if member.isfile() and target.suffix in UNPACKED:
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("wb") as out:
                    shutil.copyfileobj(tar.extractfile(member), out)
        for part in root.iterdir():
            if not (folder / part.name).exists():
                part.replace(folder / part.name)
