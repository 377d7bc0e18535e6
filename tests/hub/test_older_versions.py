"""The tool that makes a hub's folder of what the zoo held before."""

import shutil

import older_versions
import pytest
from fake_zoo import edit_card, make_entry

from regzoo import hub


@pytest.fixture
def history(tmp_path, monkeypatch):
    """A repository whose model had the version 1, of which the card was mended, and has the version 2."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed, and what is tested reads a history")
    place = tmp_path / "repository"
    monkeypatch.setattr(older_versions, "ROOT", place)
    monkeypatch.setenv("REGZOO_ZOO", str(place / "zoo_cards"))
    monkeypatch.setenv("REGZOO_CACHE", str(tmp_path / "cache"))
    place.mkdir()
    who = ("-c", "user.name=a", "-c", "user.email=a@b")

    def commit():
        for command in (("add", "."), (*who, "commit", "-q", "-m", "x")):
            older_versions.git(*command)

    older_versions.git("init", "-q")
    entry = make_entry(place / "zoo_cards" / "lung-ct-ddf", version="1")
    commit()
    edit_card(entry, "anatomy: lung", "anatomy: lungs")
    commit()
    shutil.rmtree(entry)
    make_entry(entry, version="2", weights=b"better")
    commit()
    return tmp_path


def test_older_versions_are_those_of_their_last_commit(history, monkeypatch, capsys):
    for _ in range(2):  # the second time, all is there
        older_versions.main(history / "shelf")
        assert capsys.readouterr().out == "lung-ct-ddf@1\n"
    assert [path.name for path in (history / "shelf").iterdir()] == ["lung-ct-ddf@1"]
    monkeypatch.setenv("REGZOO_HUB", str(history / "shelf"))
    old = hub.resolve("lung-ct-ddf@1")
    assert (old / "model.safetensors").read_bytes() == b"weights"
    assert hub.find("lung-ct-ddf@1").card.anatomy == "lungs"
    assert (hub.resolve("lung-ct-ddf") / "model.safetensors").read_bytes() == b"better"


def test_what_is_damaged_is_not_kept(history):
    entry = history / "repository" / "zoo_cards" / "lung-ct-ddf"
    commit = ("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-a", "-m", "x")
    (entry / "model.safetensors").write_bytes(b"weightz")
    edit_card(entry, "anatomy: lung", "anatomy: lungs")
    older_versions.git(*commit)
    make_entry(entry, version="3")
    older_versions.git(*commit)
    with pytest.raises(hub.DamagedError):
        older_versions.main(history / "shelf")
    assert list((history / "shelf").iterdir()) == []
