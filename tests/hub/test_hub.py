import errno
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from fake_zoo import edit_card, make_entry

from regzoo import hub
from regzoo.errors import InvalidError, MissingError
from regzoo.hub import cards

OLDER = "Others come with other releases of regzoo, or from a hub that keeps them (REGZOO_HUB)."


@pytest.fixture(autouse=True)
def zoo(tmp_path, monkeypatch):
    """A bundled zoo of two models, an empty cache, a fresh working folder, and no network."""
    for name, folder in (("REGZOO_ZOO", "zoo"), ("REGZOO_CACHE", "cache")):
        monkeypatch.setenv(name, str(tmp_path / folder))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(socket, "socket", None)
    make_entry(tmp_path / "zoo" / "lung-ct-ddf")
    make_entry(tmp_path / "zoo" / "brain-mr-dvf", name="brain-mr-dvf", version="1.2")
    return tmp_path / "zoo"


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def leftovers(cache: Path) -> list[str]:
    """What lies in the cache, but for the locks."""
    return sorted(path.name for path in cache.glob("*") if path.suffix != ".lock")


def error_of(call, *args, kind=InvalidError):
    with pytest.raises(kind) as caught:
        call(*args)
    return str(caught.value)


def test_names_versions_and_folders_resolve(zoo, tmp_path):
    assert hub.resolve("lung-ct-ddf") == zoo / "lung-ct-ddf"
    assert hub.resolve("lung-ct-ddf@1") == zoo / "lung-ct-ddf"
    assert hub.resolve("brain-mr-dvf@1.2") == zoo / "brain-mr-dvf"
    run = make_entry(tmp_path / "work" / "runs" / "x", name="my-run")
    assert hub.resolve("runs/x") == Path("runs/x")
    assert hub.resolve(run) == run
    assert hub.find("runs/x").source == "folder"
    assert hub.find("lung-ct-ddf").source == "bundled"


def test_a_folder_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    run = make_entry(tmp_path / "home" / "run", name="my-run")
    assert hub.resolve("~/run") == run


def test_a_name_wins_over_a_folder_of_the_same_name(zoo, tmp_path):
    make_entry(tmp_path / "work" / "lung-ct-ddf", name="mine")
    make_entry(tmp_path / "work" / "mine", name="mine")
    assert hub.resolve("lung-ct-ddf") == zoo / "lung-ct-ddf"
    assert hub.find("./lung-ct-ddf").card.name == "mine"
    assert hub.resolve("mine") == Path("mine")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lung-ct-dff", "Unknown model 'lung-ct-dff'. Did you mean 'lung-ct-ddf'? All names: regzoo list."),
        ("Lung-CT-ddf", "Unknown model 'Lung-CT-ddf'. Did you mean 'lung-ct-ddf'? All names: regzoo list."),
        ("", "Unknown model ''. All names: regzoo list."),
        ("zzz", "Unknown model 'zzz'. All names: regzoo list."),
        ("lung-ct-ddf@2", f"model 'lung-ct-ddf': expected version 1, received '2'. {OLDER}"),
        ("zzz@1", "Unknown model 'zzz'. All names: regzoo list."),
        ("hf://a/b/c", "model: expected hf://owner/repo or hf://owner/repo@revision, received 'hf://a/b/c'."),
    ],
)
def test_unknown_names(name, message):
    assert error_of(hub.resolve, name) == message


@pytest.mark.parametrize(
    "name", ["runs/x", ".runs", "./lung-ct-ddf", "~/no-such-folder-of-mine", "../x", "/no/such/folder"]
)
def test_missing_folders(name):
    message = error_of(hub.resolve, name, kind=MissingError)
    assert message == f"Model folder '{name}' does not exist. All names: regzoo list."


def test_a_file_is_no_model():
    Path("weights.h5").touch()
    message = error_of(hub.resolve, "weights.h5", kind=MissingError)
    assert message == "Model folder 'weights.h5' is not a folder. All names: regzoo list."
    Path("empty").mkdir()
    assert error_of(hub.resolve, "empty", kind=MissingError) == (
        "Folder 'empty' is no model: it has no README.md, which is its card. All names: regzoo list."
    )


def test_a_card_of_another_name_is_refused(zoo):
    shutil.copytree(zoo / "lung-ct-ddf", zoo / "liver-ct-ddf")
    assert error_of(hub.resolve, "liver-ct-ddf").endswith("holds lung-ct-ddf@1, expected liver-ct-ddf@1.")


def flip(folder):
    (folder / "model.safetensors").write_bytes(b"weightz")
    good, bad = (hashlib.sha256(text).hexdigest()[:12] for text in (b"weights", b"weightz"))
    return f"model.safetensors has sha256 {bad}…, expected {good}…"


def truncate(folder):
    (folder / "model.safetensors").write_bytes(b"weigh")
    return "model.safetensors has 5 bytes, expected 7"


def remove(folder):
    (folder / "scores.json").unlink()
    return "scores.json is missing"


def make_folder(folder):
    (folder / "scores.json").unlink()
    (folder / "scores.json").mkdir()
    return "scores.json is a folder"


def link_out(folder):
    weights = folder / "model.safetensors"
    weights.rename(folder.parent / "elsewhere")
    weights.symlink_to("../elsewhere")
    return "model.safetensors is a link that leaves the folder"


def link_to_itself(folder):
    (folder / "scores.json").unlink()
    (folder / "scores.json").symlink_to("scores.json")
    return "scores.json is missing"


def edit_config(folder):
    path = folder / "config.json"
    path.write_text(path.read_text().replace("3", "2"))
    return "config.json has sha256"


DAMAGES = [flip, truncate, remove, make_folder, link_out, link_to_itself, edit_config]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("call", [hub.resolve, hub.pull])
def test_damage_of_a_bundled_model_is_an_error_and_nothing_is_kept(zoo, cache, damage, call):
    expected = damage(zoo / "lung-ct-ddf")
    message = error_of(call, "lung-ct-ddf", kind=hub.DamagedError)
    assert message.startswith(f"lung-ct-ddf is damaged: {expected}")
    assert message.endswith(" Install regzoo again.")
    assert leftovers(cache) == []


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_in_the_cache_is_mended_by_a_pull(cache, damage):
    kept = hub.pull("lung-ct-ddf")
    expected = damage(kept)
    if kept.is_dir():
        assert expected in error_of(hub.verify, kept, cards.read(kept), kind=hub.DamagedError)
    assert hub.pull("lung-ct-ddf") == kept
    hub.verify(kept, cards.read(kept))


def test_a_damaged_card_in_the_cache_is_mended_by_a_pull(cache):
    edit_card(hub.pull("lung-ct-ddf"), "license:", "licence:")
    assert cards.read(hub.pull("lung-ct-ddf")).license


def test_damage_of_a_version_that_is_in_the_cache_alone(cache, zoo):
    kept = hub.pull("lung-ct-ddf")
    shutil.rmtree(zoo / "lung-ct-ddf")
    (kept / "model.safetensors").write_bytes(b"weightz")
    assert "model.safetensors has sha256" in error_of(hub.pull, "lung-ct-ddf", kind=hub.DamagedError)


def test_a_link_inside_the_folder_is_fine(zoo):
    weights = zoo / "lung-ct-ddf" / "model.safetensors"
    weights.rename(weights.with_name("best.safetensors"))
    weights.symlink_to("best.safetensors")
    kept = hub.pull("lung-ct-ddf")
    assert (kept / "model.safetensors").read_bytes() == b"weights"
    assert not (kept / "model.safetensors").is_symlink()


def test_hostile_names_in_a_manifest_are_refused(zoo, cache):
    for name in ("../x", "/etc/passwd", "a/b", "..", "", ".hidden"):
        folder = make_entry(zoo / "lung-ct-ddf")
        edit_card(folder, "path: scores.json", f"path: '{name}'")
        assert "files[2].path: expected a plain file name inside the folder" in error_of(hub.pull, folder)
    assert leftovers(cache) == []


def test_pull_copies_what_the_card_lists_and_no_more(zoo, cache):
    (zoo / "lung-ct-ddf" / "log.csv").write_text("x")
    kept = hub.pull("lung-ct-ddf")
    assert kept == cache / "lung-ct-ddf@1"
    assert sorted(path.name for path in kept.iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "scores.json",
    ]
    for path in kept.iterdir():
        assert path.read_bytes() == (zoo / "lung-ct-ddf" / path.name).read_bytes()
    assert kept.stat().st_mode & 0o777 == 0o755


def test_a_second_pull_copies_nothing(monkeypatch):
    kept = hub.pull("lung-ct-ddf")
    monkeypatch.setattr(shutil, "copyfile", None)
    assert hub.pull("lung-ct-ddf@1") == kept


def test_a_pulled_run_has_a_name(tmp_path, cache):
    make_entry(tmp_path / "work" / "runs" / "x", name="my-run", version="2")
    assert hub.pull("runs/x") == cache / "my-run@2"
    shutil.rmtree("runs")
    assert hub.resolve("my-run") == cache / "my-run@2"
    assert hub.find("my-run@2").source == "cached"
    assert hub.pull("my-run") == cache / "my-run@2"
    (cache / "my-run@2" / "model.safetensors").write_bytes(b"weightz")
    assert error_of(hub.resolve, "my-run").endswith("Pull it again: regzoo pull my-run.")


def test_the_newest_pulled_version_is_the_default_but_a_bundled_one_wins(tmp_path, cache):
    for version in ("9", "10", "2.1"):
        hub.pull(make_entry(tmp_path / version, name="my-run", version=version))
        hub.pull(make_entry(tmp_path / version, name="lung-ct-ddf", version=version))
    assert hub.resolve("my-run") == cache / "my-run@10"
    assert hub.resolve("my-run@2.1") == cache / "my-run@2.1"
    assert hub.find("lung-ct-ddf").source == "bundled"
    assert hub.resolve("lung-ct-ddf@9") == cache / "lung-ct-ddf@9"
    assert error_of(hub.resolve, "my-run@3") == (
        f"model 'my-run': expected version 10 or 9 or 2.1, received '3'. {OLDER}"
    )


def test_a_folder_as_hub_keeps_older_versions_beside_the_newest(tmp_path, cache, monkeypatch):
    shelf = tmp_path / "shelf"
    monkeypatch.setenv("REGZOO_HUB", str(shelf))
    for folder, name, version in (
        ("lung-ct-ddf@0.9", "lung-ct-ddf", "0.9"),
        ("other-ddf", "other-ddf", "2"),
        ("other-ddf@1", "other-ddf", "1"),
    ):
        make_entry(shelf / folder, name=name, version=version)
    assert hub.find("lung-ct-ddf").source == "bundled"
    assert hub.resolve("lung-ct-ddf@0.9") == shelf / "lung-ct-ddf@0.9"
    assert hub.resolve("other-ddf") == hub.resolve("other-ddf@2") == shelf / "other-ddf"
    assert hub.pull("other-ddf@1") == cache / "other-ddf@1"
    assert {"other-ddf@1", "other-ddf@2", "lung-ct-ddf@0.9"} < {entry.card.id for entry in hub.models()}
    assert "expected other-ddf@3, received other-ddf@2" in error_of(hub.resolve, "other-ddf@3")
    make_entry(shelf / "other-ddf@1.5", name="other-ddf", version="1.4")
    assert "expected other-ddf@1.5, received other-ddf@1.4" in error_of(hub.resolve, "other-ddf@1.5")


def test_weights_behind_a_name_and_version_never_change(tmp_path, cache):
    kept = hub.pull("lung-ct-ddf")
    other = make_entry(tmp_path / "x", weights=b"retrain")
    assert "holds other weights than this lung-ct-ddf@1. Give the new ones a new version." in error_of(hub.pull, other)
    assert (kept / "model.safetensors").read_bytes() == b"weights"


def test_a_better_card_for_the_same_weights_replaces_the_old_one(zoo):
    kept = hub.pull("lung-ct-ddf")
    edit_card(zoo / "lung-ct-ddf", "anatomy: lung", "anatomy: lungs")
    assert hub.pull("lung-ct-ddf") == kept
    assert cards.read(kept).anatomy == "lungs"


def test_new_scores_of_the_same_weights_replace_the_old_ones(zoo):
    kept = hub.pull("lung-ct-ddf")
    scores = zoo / "lung-ct-ddf" / "scores.json"
    scores.write_text("[]")
    edit_card(zoo / "lung-ct-ddf", hashlib.sha256(b"{}").hexdigest(), hashlib.sha256(b"[]").hexdigest())
    assert hub.pull("lung-ct-ddf") == kept
    assert (kept / "scores.json").read_text() == "[]"


def test_a_byte_that_turns_during_the_copy_is_noticed(cache, monkeypatch):
    copy = shutil.copyfile

    def bad(source, target):
        copy(source, target)
        if Path(target).name == "model.safetensors":
            Path(target).write_bytes(b"weightz")

    monkeypatch.setattr(shutil, "copyfile", bad)
    message = error_of(hub.pull, "lung-ct-ddf", kind=hub.DamagedError)
    assert message.endswith("Nothing was kept; try again.")
    assert leftovers(cache) == []


def test_a_card_that_changes_during_the_copy_is_noticed(cache, monkeypatch):
    copy = shutil.copyfile

    def bad(source, target):
        copy(source, target)
        if Path(target).name == "README.md":
            edit_card(Path(target).parent, "anatomy: lung", "anatomy: heart")

    monkeypatch.setattr(shutil, "copyfile", bad)
    assert "changed while it was copied" in error_of(hub.pull, "lung-ct-ddf", kind=hub.DamagedError)
    assert leftovers(cache) == []


@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), KeyboardInterrupt(), MemoryError()])
@pytest.mark.parametrize("after", [0, 2])
def test_an_interrupted_copy_leaves_nothing_and_the_next_pull_succeeds(cache, monkeypatch, fault, after):
    copy, count = shutil.copyfile, []

    def failing(source, target):
        count.append(target)
        if len(count) > after:
            Path(target).write_bytes(b"half")
            raise fault
        copy(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", failing)
        with pytest.raises(type(fault)):
            hub.pull("lung-ct-ddf")
    assert leftovers(cache) == []
    assert hub.resolve(hub.pull("lung-ct-ddf")) == cache / "lung-ct-ddf@1"


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("REGZOO_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(InvalidError, match=r"^'.*cache' cannot be written \(Not a directory\), .* Set REGZOO_CACHE"):
        hub.pull("lung-ct-ddf")
    assert hub.resolve("lung-ct-ddf")  # the bundled model needs no cache


def test_remnants_of_a_killed_pull_are_unseen_and_swept(cache):
    remnant = cache / ".lung-ct-ddf@1-abcd_123"
    remnant.mkdir(parents=True)
    (remnant / "README.md").write_text("half")
    assert [entry.source for entry in hub.models()] == ["bundled", "bundled"]
    hub.pull("lung-ct-ddf")
    assert leftovers(cache) == ["lung-ct-ddf@1"]


PULL = "import sys, time; from regzoo import hub; sys.stdin.readline(); print(hub.pull('lung-ct-ddf'))"


def test_processes_that_pull_at_once_end_with_one_good_copy(zoo, cache):
    make_entry(zoo / "lung-ct-ddf", weights=os.urandom(8_000_000))
    command = [sys.executable, "-c", PULL]
    pulls = [subprocess.Popen(command, stdin=-1, stdout=-1, stderr=-1, text=True) for _ in range(4)]
    for process in pulls:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in pulls:
        out, error = process.communicate(timeout=60)
        assert (process.returncode, out, error) == (0, f"{cache / 'lung-ct-ddf@1'}\n", "")
    assert leftovers(cache) == ["lung-ct-ddf@1"]
    hub.verify(cache / "lung-ct-ddf@1", cards.read(zoo / "lung-ct-ddf"))


def test_a_second_puller_waits_and_does_not_copy(monkeypatch):
    copy, started, go, copies = shutil.copyfile, threading.Event(), threading.Event(), []

    def slow(source, target):
        started.set()
        go.wait(10)
        copies.append(Path(target).name)
        copy(source, target)

    monkeypatch.setattr(shutil, "copyfile", slow)
    first, second = (threading.Thread(target=hub.pull, args=("lung-ct-ddf",)) for _ in range(2))
    first.start()
    assert started.wait(10)
    second.start()
    second.join(0.3)
    assert second.is_alive()
    go.set()
    for thread in (first, second):
        thread.join(10)
    assert sorted(copies) == ["README.md", "config.json", "model.safetensors", "scores.json"]


def test_models_lists_bundled_and_pulled_once(tmp_path):
    hub.pull("lung-ct-ddf")
    hub.pull(make_entry(tmp_path / "x", name="a-run", version="10"))
    hub.pull(make_entry(tmp_path / "x", name="a-run", version="9"))
    assert [(entry.card.id, entry.source) for entry in hub.models()] == [
        ("a-run@9", "cached"),
        ("a-run@10", "cached"),
        ("brain-mr-dvf@1.2", "bundled"),
        ("lung-ct-ddf@1", "bundled"),
    ]


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {}, "home/.cache/regzoo"),
        ("linux", {"XDG_CACHE_HOME": "/xdg"}, "/xdg/regzoo"),
        ("darwin", {"XDG_CACHE_HOME": "/xdg"}, "home/Library/Caches/regzoo"),
        ("win32", {}, "home/AppData/Local/regzoo/Cache"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/regzoo/Cache"),
        ("linux", {"REGZOO_CACHE": "~/mine"}, "home/mine"),
    ],
)
def test_cache_folder(tmp_path, monkeypatch, platform, variables, expected):
    for name in ("REGZOO_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    assert hub.cache_folder() == tmp_path / expected


def test_a_pin_names_the_version(zoo):
    assert hub.pin("lung-ct-ddf") == hub.pin("lung-ct-ddf@1") == "lung-ct-ddf@1"
    assert hub.pin(str(zoo / "lung-ct-ddf")) == str(zoo / "lung-ct-ddf")


def test_an_entry_is_hashed_once(monkeypatch):
    from regzoo.hub import store

    hashed, sha256, read = [], store.sha256, store.read
    monkeypatch.setattr(store, "sha256", lambda path: hashed.append(path) or sha256(path))
    monkeypatch.setattr(store, "read", lambda *rest: hashed.append(rest) or read(*rest))
    found = hub.models()[0]
    assert not found.verified
    taken = hub.take(found)
    assert (len(hashed), taken.verified) == (len(found.card.files), True)
    assert hub.take(taken) is taken
    taken.config()
    taken.weights()
    assert len(hashed) == len(found.card.files)


def test_what_is_loaded_are_the_bytes_that_were_verified(zoo):
    taken, found = hub.take("lung-ct-ddf"), hub.find("lung-ct-ddf")
    (zoo / "lung-ct-ddf" / "model.safetensors").write_bytes(b"weightz")
    (zoo / "lung-ct-ddf" / "config.json").write_text("{}")
    assert taken.weights() == b"weights"
    assert taken.config().output.name == "ddf"
    for read in (found.weights, found.config):
        with pytest.raises(hub.DamagedError, match=r"has (sha256 .*, expected .*|2 bytes, expected \d+)\.$"):
            read()


def test_a_file_that_the_card_does_not_list_is_not_read(zoo):
    (zoo / "lung-ct-ddf" / "recipe.yaml").write_text("steps: 1")
    assert (
        error_of(hub.take("lung-ct-ddf").text, "recipe.yaml", 100)
        == "lung-ct-ddf has no recipe.yaml that its card lists."
    )


def test_a_file_is_not_read_beyond_the_limit(zoo):
    message = error_of(hub.find("lung-ct-ddf").read, "model.safetensors", 6)
    assert message == "lung-ct-ddf: model.safetensors: expected at most 6 bytes, received 7."


def dangling(folder):
    folder.symlink_to("nowhere")


def leading_out(folder):
    make_entry(folder.parent / "elsewhere", weights=b"others!")
    edit_card(folder.parent / "elsewhere", "sha256: ", "sha256: 0")
    folder.symlink_to("elsewhere")


def a_file(folder):
    folder.write_text("")


def without_a_card(folder):
    folder.mkdir()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows lets few users make links")
@pytest.mark.parametrize("damage", [dangling, leading_out, a_file, without_a_card])
def test_what_is_no_folder_of_a_model_in_the_cache_is_mended_by_a_pull(cache, damage):
    cache.mkdir()
    damage(cache / "lung-ct-ddf@1")
    kept = hub.pull("lung-ct-ddf")
    assert not kept.is_symlink()
    hub.verify(kept, cards.read(kept))
    assert damage is not leading_out or (cache / "elsewhere" / "README.md").exists()  # what a link leads to is not ours


@pytest.mark.skipif(sys.platform == "win32", reason="Windows lets few users make links")
@pytest.mark.parametrize("damage", [dangling, a_file, without_a_card])
def test_what_is_no_folder_of_a_model_in_the_cache_is_named_and_can_be_removed(tmp_path, cache, damage):
    hub.pull(make_entry(tmp_path / "x", name="my-run"))
    shutil.rmtree(cache / "my-run@1")
    damage(cache / "my-run@1")
    assert [str(error) for error in hub.survey()[1]] == [f"{cache / 'my-run@1' / 'README.md'} does not exist."]
    assert hub.remove("my-run") == [cache / "my-run@1"]
    assert leftovers(cache) == []
    assert hub.survey()[1] == []


def test_a_kept_model_is_found_on_a_read_only_cache(cache, monkeypatch):
    import filelock

    kept = hub.pull("lung-ct-ddf")
    before = leftovers(cache)

    def refuse(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    (cache / ".lung-ct-ddf@1-abcdefgh").mkdir()  # what a process that was killed left
    assert hub.pull("lung-ct-ddf") == kept
    (cache / ".lung-ct-ddf@1-abcdefgh").rmdir()
    assert leftovers(cache) == before
