"""Downloads, against a local server that misbehaves: nothing half-written is ever used."""

import shutil
import socket
import time
from dataclasses import replace

import pooch
import pytest

from tests import public_layouts as public
from tests.http_server import FileServer
from utils import datasets, downloads
from utils.downloads import REGISTRY, DataUnavailable

FAILURES = {  # mode of the server -> what the message says
    "wrong": "somme de contrôle",
    "cut": "connexion coupée",
    "silent cut": "somme de contrôle",
    "stall": "trop lent",
    "missing": "404",
}


@pytest.fixture
def data(monkeypatch, tmp_path):
    """An empty data folder, in full profile, without any cache."""
    monkeypatch.delenv("COURSE_DATA", raising=False)
    monkeypatch.setenv("COURSE_PROFILE", "full")
    monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path / "données"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "données"


@pytest.fixture
def server():
    server = FileServer()
    yield server
    server.close()


@pytest.fixture
def no_network(monkeypatch):
    """Any connection, even to this machine, is a failure."""

    def refuse(*_):
        raise AssertionError("a connection was attempted")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def contents(folder):
    """The files under `folder`, hidden ones included."""
    paths = folder.rglob("*") if folder.exists() else ()
    return sorted(
        path.relative_to(folder).as_posix() for path in paths if path.is_file()
    )


def garments_on(monkeypatch, *servers):
    files, arrays = public.garments()
    for server in servers:
        server.files = files
    public.register(monkeypatch, "garments", files, [server.url for server in servers])
    return files, arrays


@pytest.mark.parametrize("mode", ["right", "slow"])
def test_downloads_once(data, server, monkeypatch, mode):
    files, arrays = garments_on(monkeypatch, server)
    server.mode = mode
    found = datasets.garments()
    assert found.source == "real"
    for name, expected in arrays.items():
        assert (getattr(found, name) == expected).all()
    assert contents(data) == sorted(f"fashion-mnist/{name}" for name in files)
    assert sorted(server.requests) == sorted(files)
    datasets.garments()
    assert len(server.requests) == len(files)


@pytest.mark.parametrize("mode", FAILURES)
def test_failure_leaves_nothing_and_second_try_succeeds(
    data, server, monkeypatch, mode
):
    files, arrays = garments_on(monkeypatch, server)
    server.mode = mode
    if mode == "stall":
        monkeypatch.setattr(downloads, "TIMEOUT", 0.5)
    start = time.monotonic()
    with pytest.raises(DataUnavailable) as failure:
        datasets.garments()
    assert time.monotonic() - start < 5, "a silent server was waited for"
    message = str(failure.value)
    assert FAILURES[mode] in message
    assert "Que faire" in message
    assert REGISTRY["garments"].homepage in message
    assert str(data / "fashion-mnist") in message
    assert contents(data) == []
    server.mode = "right"
    monkeypatch.setattr(downloads, "TIMEOUT", 30)
    assert (datasets.garments().x_train == arrays["x_train"]).all()


@pytest.mark.parametrize("mode", FAILURES)
def test_second_mirror_serves_when_the_first_fails(data, server, monkeypatch, mode):
    broken = FileServer()
    files, _ = garments_on(monkeypatch, broken, server)
    broken.mode = mode
    if mode == "stall":
        monkeypatch.setattr(downloads, "TIMEOUT", 1)
    *kept, asked = files
    public.write(data / "fashion-mnist", {name: files[name] for name in kept})
    assert datasets.garments().source == "real"
    assert broken.requests == server.requests == [asked]
    broken.close()


def test_second_mirror_serves_when_nobody_listens(data, server, monkeypatch):
    dead = FileServer()
    garments_on(monkeypatch, dead, server)
    dead.close()
    assert datasets.garments().source == "real"


def test_downloads_only_what_is_missing(data, server, monkeypatch):
    files, _ = garments_on(monkeypatch, server)
    kept = dict(list(files.items())[:3])
    public.write(data / "fashion-mnist", kept)
    datasets.garments()
    assert server.requests == [name for name in files if name not in kept]


def test_a_wrong_local_file_is_named_not_replaced(data, server, monkeypatch):
    files, _ = garments_on(monkeypatch, server)
    name = "train-images-idx3-ubyte.gz"
    public.write(data / "fashion-mnist", {name: b"something of the reader"})
    with pytest.raises(DataUnavailable, match=name):
        datasets.garments()
    assert (data / "fashion-mnist" / name).read_bytes() == b"something of the reader"


def test_interruption_leaves_nothing(data, server, monkeypatch):
    garments_on(monkeypatch, server)

    def interrupted(self, url, output_file, *_):
        with open(output_file, "wb") as out:
            out.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        datasets.garments()
    assert contents(data) == []


def test_says_when_the_folder_cannot_be_written(data, server, monkeypatch):
    garments_on(monkeypatch, server)
    data.write_text("a file where the folder should be")
    with pytest.raises(DataUnavailable, match="écriture impossible"):
        datasets.garments()


@pytest.mark.usefixtures("no_network")
def test_quick_profile_never_opens_a_socket(data, monkeypatch):
    monkeypatch.setenv("COURSE_PROFILE", "quick")
    loaders = {
        "garments": datasets.garments,
        "pets": lambda: datasets.pets(size=32, limit=4),
        "membranes": datasets.membranes,
        "faces": lambda: datasets.faces(limit=4),
        "identities": datasets.identities,
        "photographs": datasets.photographs,
    }
    sources = {key: load().source for key, load in loaders.items()}
    assert sources.pop("photographs") == "real"
    assert set(sources.values()) == {"synthetic"}
    assert datasets.pretrained("some.weights.h5") is None
    assert not data.exists()


@pytest.mark.usefixtures("no_network")
def test_no_network_when_the_cache_of_keras_has_it(data, tmp_path, monkeypatch):
    files, arrays = public.garments()
    public.register(monkeypatch, "garments", files)
    public.write(tmp_path / "keras" / "datasets" / "fashion-mnist", files)
    assert (datasets.garments().y_train == arrays["y_train"]).all()


@pytest.mark.usefixtures("no_network")
def test_says_what_cannot_be_downloaded(data):
    with pytest.raises(DataUnavailable) as failure:
        datasets.faces()
    for expected in (
        "img_align_celeba.zip",
        "list_attr_celeba.txt",
        str(data / "celeba"),
    ):
        assert expected in str(failure.value)


def test_archives_are_unpacked(data, server, monkeypatch):
    server.files = public.pets()
    public.register(monkeypatch, "pets", server.files, [server.url])
    found = datasets.pets(size=8)
    assert found.names.tolist() == sorted(public.PETS)
    unpacked = {f"images/{name}.jpg" for name in public.PETS}
    assert unpacked <= set(contents(data / "pets"))
    assert "images/beagle_2.mat" not in contents(data / "pets")
    datasets.pets(size=8)
    assert len(server.requests) == 2


@pytest.mark.usefixtures("no_network")
def test_archives_in_place_are_unpacked_in_quick_profile(data, monkeypatch):
    monkeypatch.setenv("COURSE_PROFILE", "quick")
    files = public.pets()
    public.register(monkeypatch, "pets", files)
    public.write(data / "pets", files)
    assert datasets.pets(size=8).source == "real"


@pytest.mark.parametrize(
    "evil", ["../evil.txt", "images/../../evil.txt", "{outside}/evil.txt"]
)
def test_archive_that_would_leave_its_folder_is_refused(
    data, tmp_path, monkeypatch, evil
):
    outside = tmp_path / "outside"
    outside.mkdir()
    files = public.pets(extra=[(evil.format(outside=outside), b"evil")])
    public.register(monkeypatch, "pets", files)
    public.write(data / "pets", files)
    with pytest.raises(DataUnavailable, match=r"refusée.*evil\.txt"):
        datasets.pets()
    assert not list(tmp_path.rglob("evil.txt"))
    assert contents(data / "pets") == sorted(files)


def test_links_of_an_archive_are_not_made(data, tmp_path, monkeypatch):
    evil = [
        ("images/door.jpg", f"-> {tmp_path}"),
        ("images/door.jpg/evil.txt", b"evil"),
    ]
    files = public.pets(extra=evil)
    public.register(monkeypatch, "pets", files)
    public.write(data / "pets", files)
    datasets.pets(size=8)
    assert not (tmp_path / "evil.txt").exists()
    assert not (data / "pets" / "images" / "door.jpg").is_symlink()


def test_interrupted_unpacking_is_not_taken_for_the_whole(data, monkeypatch):
    files = public.pets()
    public.register(monkeypatch, "pets", files)
    public.write(data / "pets", files)
    copy, calls = shutil.copyfileobj, []

    def interrupted(source, target):
        calls.append(source)
        if len(calls) == 3:
            raise KeyboardInterrupt
        copy(source, target)

    monkeypatch.setattr(downloads.shutil, "copyfileobj", interrupted)
    with pytest.raises(KeyboardInterrupt):
        datasets.pets()
    assert contents(data / "pets") == sorted(files)
    monkeypatch.setattr(downloads.shutil, "copyfileobj", copy)
    assert datasets.pets(size=8).source == "real"


@pytest.mark.parametrize("damage", ["truncated", "wrong checksum"])
def test_damaged_archive_is_named(data, monkeypatch, damage):
    files = public.pets()
    if damage == "truncated":  # and registered as such: what tarfile says
        local = {
            name: content[: len(content) * 2 // 3] for name, content in files.items()
        }
        public.register(monkeypatch, "pets", local)
    else:  # an archive that can be read, but not the registered one
        local = public.pets(extra=[("images/more.jpg", b"more")])
        public.register(monkeypatch, "pets", files)
    public.write(data / "pets", local)
    with pytest.raises(DataUnavailable, match=r"images\.tar\.gz.*abîmé") as failure:
        datasets.pets()
    assert "Que faire" in str(failure.value)
    assert contents(data / "pets") == sorted(files)


def test_archives_without_the_expected_files(data, monkeypatch):
    files = {
        name: public.archive([("readme.txt", b"nothing")]) for name in public.pets()
    }
    public.register(monkeypatch, "pets", files)
    public.write(data / "pets", files)
    with pytest.raises(DataUnavailable, match="ne contiennent pas"):
        datasets.pets()


@pytest.mark.usefixtures("no_network")
def test_forced_stand_in_wins_over_real_data(data, monkeypatch):
    files, _ = public.garments()
    public.register(monkeypatch, "garments", files)
    public.write(data / "fashion-mnist", files)
    monkeypatch.setenv("COURSE_DATA", "synthetic")
    assert datasets.garments().source == "synthetic"


@pytest.mark.parametrize("key", REGISTRY)
def test_registry_is_complete(key):
    entry = REGISTRY[key]
    for text in (
        entry.title,
        entry.licence,
        entry.citation,
        entry.people,
        entry.by_hand,
    ):
        assert text.strip()
    assert entry.homepage.startswith("https://")
    for file in entry.files:
        assert file.sha256 is None or len(bytes.fromhex(file.sha256)) == 32
        assert file.size is None or file.size > 0
        assert all(
            url.startswith("http") and not url.endswith("/") for url in file.urls
        )
        assert file.sha256 or not file.urls, "an address without a checksum"


def test_a_file_without_checksum_is_not_downloaded(data, server, monkeypatch):
    files, _ = garments_on(monkeypatch, server)
    entry = REGISTRY["garments"]
    unknown = tuple(replace(file, sha256=None) for file in entry.files)
    monkeypatch.setitem(REGISTRY, "garments", replace(entry, files=unknown))
    with pytest.raises(DataUnavailable, match="ne se télécharge pas"):
        datasets.garments()
    assert server.requests == []
