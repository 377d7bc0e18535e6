"""A kind of hub is one entry of one dict: a toy one, added from here, is searched, listed and pulled from."""

import shutil
import socket
import zipfile
from pathlib import Path

import pytest
from fake_zoo import make_entry
from typer.testing import CliRunner

from regzoo import cli, hub
from regzoo.errors import InvalidError
from regzoo.hub import DamagedError, Entry, cards, kinds


class ZipHub:
    """A hub that is one archive, `zip://FILE`: its entries are unpacked beside it."""

    def __init__(self, text):
        self.folder = Path(text.removeprefix("zip://")).with_suffix("")
        with zipfile.ZipFile(text.removeprefix("zip://")) as archive:
            archive.extractall(self.folder)

    def find(self, name, version, *, fresh):
        place = self.folder / name
        return Entry(place, "hub", cards.read(place)) if place.is_dir() else None

    def folders(self):
        yield from sorted(self.folder.iterdir())

    def offered(self):
        return []


@pytest.fixture
def archive(tmp_path, monkeypatch):
    for name in ("ZOO", "CACHE"):
        monkeypatch.setenv(f"REGZOO_{name}", str(tmp_path / name))
    monkeypatch.setattr(socket, "socket", None)
    make_entry(tmp_path / "all" / "lung-ct-ddf")
    make_entry(tmp_path / "all" / "brain-mr-dvf", name="brain-mr-dvf", version="1.2")
    shutil.make_archive(tmp_path / "models", "zip", tmp_path / "all")
    monkeypatch.setitem(kinds.KINDS, "zip", ZipHub)
    monkeypatch.setenv("REGZOO_HUB", f"zip://{tmp_path / 'models.zip'}")
    return tmp_path / "models"


def test_a_toy_kind_of_hub_is_searched_listed_and_pulled_from(archive, tmp_path):
    assert hub.resolve("lung-ct-ddf") == archive / "lung-ct-ddf"
    assert [entry.card.id for entry in hub.models()] == ["brain-mr-dvf@1.2", "lung-ct-ddf@1"]
    assert hub.pull("brain-mr-dvf") == tmp_path / "CACHE" / "brain-mr-dvf@1.2"
    assert hub.find("brain-mr-dvf").source == "cached"
    shown = CliRunner().invoke(cli.app, ["list"])
    assert "lung-ct-ddf" in shown.stdout


@pytest.mark.usefixtures("archive")
def test_a_toy_kind_of_hub_is_no_way_round_the_checks(tmp_path):
    make_entry(tmp_path / "all" / "other", name="lung-ct-ddf")
    (tmp_path / "all" / "lung-ct-ddf" / "model.safetensors").write_bytes(b"weightz")
    shutil.make_archive(tmp_path / "models", "zip", tmp_path / "all")
    with pytest.raises(DamagedError, match=r"lung-ct-ddf is damaged: model\.safetensors has sha256"):
        hub.resolve("lung-ct-ddf")
    with pytest.raises(InvalidError, match=r"model 'other' on zip://.*: expected other@…, received lung-ct-ddf@1"):
        hub.resolve("other")


def test_an_unknown_kind_of_hub_is_named(archive, monkeypatch):
    monkeypatch.setenv("REGZOO_HUB", "ftp://host/owner")
    with pytest.raises(InvalidError, match=r"REGZOO_HUB: expected .*, hf://.*, zip://.* received 'ftp://host/owner'"):
        hub.resolve("lung-ct-ddf")
