"""Pull and push with the real huggingface_hub against a hub on loopback, whole, failing and hostile."""

import errno
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import hub_server
import pytest
from fake_zoo import FACTS, edit_card, make_entry
from filelock import FileLock
from huggingface_hub.utils import close_session
from typer.testing import CliRunner

from regzoo import cli, hub
from regzoo.errors import InvalidError, MissingError, RegzooError
from regzoo.hub import DamagedError, TransportError, cards, remote
from regzoo.hub.push import EVAL_RESULTS, package, push
from regzoo.schema.card import ENTRY_LIMIT

NAME, REPO = "hf://lab/lung-ct-ddf", "lab/lung-ct-ddf"


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A hub of one model, an empty cache, no bundled models, no token."""
    for name, folder in (("REGZOO_ZOO", "zoo"), ("REGZOO_CACHE", "cache")):
        monkeypatch.setenv(name, str(tmp_path / folder))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr(remote, "WAITS", (0.01, 0.01))
    monkeypatch.chdir(tmp_path)
    with hub_server.running() as running:
        monkeypatch.setenv("REGZOO_HUB", f"{running.url}/lab")
        running.commit(REPO, make_entry(tmp_path / "entry"))
        yield running


@pytest.fixture
def offline(monkeypatch):
    return lambda: monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def place(server):
    """What the cache keeps of this server."""
    return hub.cache_folder() / "hub" / f"http___127.0.0.1_{server.http.server_port}"


def run(*arguments):
    result = CliRunner().invoke(cli.app, arguments, prog_name="regzoo")
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def leftovers(tmp_path):
    """What a failed pull left, but for locks and empty folders."""
    return [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.suffix != ".lock"]


def fails(kind, message, name=NAME):
    with pytest.raises(kind) as caught:
        hub.pull(name)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def commit_of(server, revision="main"):
    return server.refs[REPO][revision]


class TestPull:
    def test_fresh(self, server, tmp_path):
        folder = hub.pull(NAME)
        assert folder == place(server) / "lab" / "lung-ct-ddf" / commit_of(server)
        assert folder.is_relative_to(tmp_path / "cache" / "hub")
        for path in (tmp_path / "entry").iterdir():
            assert (folder / path.name).read_bytes() == path.read_bytes()
        assert sorted(path.name for path in folder.iterdir()) == sorted(server.files(REPO, "main"))

    def test_only_what_the_card_lists_is_fetched(self, server):
        server.commit(REPO, server.files(REPO, "main") | {"evil.py": b"x", "model.pkl": b"x"})
        folder = hub.pull(NAME)
        assert not {"evil.py", "model.pkl"} & {path.name for path in folder.iterdir()}
        assert not {"evil.py", "model.pkl"} & {path for _, path in server.requests}

    def test_cached_asks_the_server_once_and_a_commit_or_a_load_never(self, server):
        folder = hub.pull(NAME)
        server.requests.clear()
        assert hub.pull(NAME) == folder
        assert [kind for kind, _ in server.requests] == ["info"]
        server.requests.clear()
        for name in (NAME, f"{NAME}@{commit_of(server)}", "lung-ct-ddf"):
            assert hub.resolve(name) == folder
        assert hub.pull(f"{NAME}@{commit_of(server)}") == folder
        assert server.requests == []

    def test_load_pulls_what_is_not_here(self, server):
        assert hub.resolve(NAME) == hub.pull(NAME)

    def test_a_moved_branch(self, server, tmp_path):
        first, old = hub.pull(NAME), commit_of(server)
        server.commit(REPO, make_entry(tmp_path / "entry", version="2", weights=b"retrain"))
        assert hub.resolve(NAME) == first
        assert hub.pin(NAME) == f"{NAME}@{old}:{sha256(b'weights')}"
        second = hub.pull(NAME)
        assert (second / "model.safetensors").read_bytes() == b"retrain"
        assert hub.resolve(NAME) == second
        assert hub.resolve(f"{NAME}@{old}") == first
        assert (first / "model.safetensors").read_bytes() == b"weights"

    def test_a_pin_finds_out_a_hub_that_gives_other_weights_under_a_commit(self, server, tmp_path, monkeypatch):
        commit = commit_of(server)
        pin = hub.pin(NAME)
        assert hub.find(pin).pin == pin
        assert str(hub.find(pin).address) == f"{NAME}@{commit}"
        other = server.commit(REPO, make_entry(tmp_path / "entry", weights=b"evil wt"))
        server.commits[REPO][commit] = server.commits[REPO][other]
        monkeypatch.setenv("REGZOO_CACHE", str(tmp_path / "cache" / "fresh"))
        told = (
            f"is lung-ct-ddf@1 with weights of sha256 {sha256(b'evil wt')[:12]}…, expected {sha256(b'weights')[:12]}…"
        )
        fails(DamagedError, told, pin)
        assert not [path for path in leftovers(tmp_path) if path.is_relative_to(tmp_path / "cache" / "fresh")]
        assert (hub.pull(f"{NAME}@{commit}") / "model.safetensors").read_bytes() == b"evil wt"  # as it says it is
        for call in (hub.pull, hub.resolve):
            with pytest.raises(DamagedError, match="Who pinned it had another model"):
                call(pin)

    def test_damage_beside_the_commits_is_mended_by_a_pull(self, server):
        folder = hub.pull(NAME)
        (folder.parent / "refs.json").unlink()
        (folder.parent / "refs.json").mkdir()
        shutil.rmtree(folder)
        folder.symlink_to("nowhere")
        assert [str(error) for error in hub.survey()[1]] == [f"{folder / 'README.md'} does not exist."]
        assert hub.pull(NAME) == folder
        assert (folder.parent / "refs.json").is_file()
        hub.verify(folder, cards.read(folder))

    def test_a_kept_model_is_found_on_a_read_only_cache(self, server, monkeypatch):
        import filelock

        def refuse(*_, **__):
            raise OSError(errno.EROFS, "Read-only file system")

        folder = hub.pull(NAME)
        monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
        monkeypatch.setattr(remote, "atomic_file", refuse)
        for name in (NAME, f"{NAME}@{commit_of(server)}"):
            assert hub.pull(name) == hub.resolve(name) == folder

    def test_branches_and_tags(self, server, tmp_path):
        server.commit(REPO, make_entry(tmp_path / "entry", version="2"), "v2")
        assert cards.read(hub.pull(f"{NAME}@v2")).version == "2"
        assert cards.read(hub.pull(NAME)).version == "1"

    @pytest.mark.parametrize("name", ["hf://lab/none", f"{NAME}@v9", f"{NAME}@{'0' * 40}"])
    def test_not_there(self, server, tmp_path, name):
        fails(MissingError, f"{name}: the hub ", name)
        assert leftovers(tmp_path) == []

    def test_no_card(self, server):
        server.commit(REPO, {"config.json": b"{}"})
        fails(MissingError, "lacks a file that its card lists, or the card")

    def test_private_says_how_to_log_in(self, server, monkeypatch):
        server.private.add(REPO)
        fails(MissingError, "If it is private, log in with 'hf auth login' or set HF_TOKEN.")
        monkeypatch.setenv("HF_TOKEN", hub_server.TOKEN)
        assert hub.pull(NAME).is_dir()

    @pytest.mark.parametrize("kind", ["info", "head", "get", "cdn"])
    def test_a_failing_server_is_asked_again(self, server, kind):
        answers = [503, 500]
        server.fault = lambda handler, now, path: bool(now == kind and answers and not handler.refuse(answers.pop()))
        assert hub.verify(hub.pull(NAME), cards.read("entry")) is None
        assert answers == []

    @pytest.mark.parametrize("kind", ["info", "cdn"])
    def test_a_server_that_goes_on_failing(self, server, tmp_path, kind):
        server.fault = lambda handler, now, path: now == kind and not handler.refuse(503)
        fails(TransportError, f"{server.url} answered 503 refused. Try again later.")
        assert leftovers(tmp_path) == []

    def test_cut_off_in_the_middle_is_resumed(self, server, tmp_path):
        data = os.urandom(24_000_000)  # huggingface_hub writes 10 MiB at a time
        server.commit(REPO, make_entry(tmp_path / "entry", weights=data))
        ranges = []

        def cut(handler, kind, path):
            if kind != "cdn":
                return False
            ranges.append(handler.headers.get("Range"))
            if len(ranges) > 1:
                return False
            handler.reply(200, data[:15_000_000], Content_Length=len(data))
            handler.close_connection = True
            return True

        server.fault = cut
        assert (hub.pull(NAME) / "model.safetensors").read_bytes() == data
        assert ranges == [None, f"bytes={10 * 2**20}-"]

    def test_slow(self, server, monkeypatch):
        monkeypatch.setattr(remote, "TIMEOUT", 0.2)
        server.fault = lambda *_: time.sleep(0.6)
        fails(TransportError, "did not answer (ReadTimeout). Try again later.")

    def test_no_server(self, server):
        kept = hub.pull(NAME)
        server.http.shutdown()
        server.http.server_close()
        close_session()  # which would go on with the open connection
        fails(TransportError, f"did not answer (ConnectError). What was pulled before is {NAME}@{kept.name}.")

    def test_what_one_server_sent_is_not_taken_for_what_another_has(self, server, monkeypatch):
        mirrored = hub.pull(NAME)
        monkeypatch.setenv("REGZOO_HUB", server.url.replace("127.0.0.1", "localhost") + "/lab")
        server.cdn = server.cdn.replace("localhost", "127.0.0.1")
        assert hub.models() == []
        assert [entry.folder for entry in hub.cached()] == [mirrored]
        own = hub.pull(NAME)
        assert own != mirrored
        assert [entry.folder for entry in hub.models()] == [own]
        assert hub.remove(NAME) == [own, mirrored]

    def test_tampered_bytes_of_the_same_size_under_the_good_etag(self, server, tmp_path):
        good = hashlib.sha256(b"weights").hexdigest()

        def tamper(handler, kind, path):
            return kind == "cdn" and not handler.reply(200, b"weightz", ETag=f'"{good}"')

        server.fault = tamper
        fails(DamagedError, "lung-ct-ddf is damaged: model.safetensors has sha256")
        assert leftovers(tmp_path) == []
        server.fault = lambda *_: False
        assert (hub.pull(NAME) / "model.safetensors").read_bytes() == b"weights"

    def test_wrong_size_is_refused_before_it_is_fetched(self, server, tmp_path):
        server.commit(REPO, server.files(REPO, "main") | {"model.safetensors": b"weights and more"})
        fails(DamagedError, "model.safetensors has 16 bytes, expected 7. Nothing was kept; tell lab/lung-ct-ddf.")
        assert server.count("cdn") == 0
        assert leftovers(tmp_path) == []

    def test_a_size_that_the_server_lies_about(self, server, tmp_path):
        server.fault = lambda handler, kind, path: kind == "cdn" and not handler.reply(200, b"weights and more")
        fails(DamagedError, "has more than 7 bytes. Nothing was kept.")
        assert leftovers(tmp_path) == []

    def test_a_file_that_ends_too_soon(self, server, tmp_path):
        server.fault = lambda handler, kind, path: kind == "cdn" and not handler.reply(200, b"weig")
        fails(DamagedError, "arrived incomplete. Nothing was kept; try again.")
        assert leftovers(tmp_path) == []

    def test_a_file_without_end_does_not_fill_the_disk(self, server, tmp_path, monkeypatch):
        sent = []

        def endless(handler, kind, path):
            if kind != "cdn":
                return False
            handler.send_response(200)
            handler.send_header("Content-Length", str(10**12))
            handler.end_headers()
            while True:  # until the other side hangs up
                handler.wfile.write(b"x" * 2**20)
                sent.append(2**20)

        server.fault = endless
        fails(DamagedError, "has more than 7 bytes. Nothing was kept.")
        assert sum(sent) < 100 * 2**20
        assert leftovers(tmp_path) == []

    def test_an_entry_weighs_what_a_model_can_weigh(self, server, tmp_path):
        edit_card(tmp_path / "entry", "bytes: 7", f"bytes: {2**35}")
        server.commit(REPO, tmp_path / "entry")
        fails(InvalidError, f"files: expected files of at most {ENTRY_LIMIT} bytes in all, received")
        assert (server.count("cdn"), leftovers(tmp_path)) == (0, [])

    def test_room_on_the_disk_is_looked_for_before(self, server, tmp_path, monkeypatch):
        usage = shutil.disk_usage(tmp_path)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=2**26))
        fails(InvalidError, "and 67.1 MB are free at ")
        assert (server.count("cdn"), leftovers(tmp_path)) == (0, [])
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=2**26 + 10**5))
        assert hub.pull(NAME).is_dir()

    def test_wrong_sha256_in_the_card(self, server, tmp_path):
        edit_card(tmp_path / "entry", hashlib.sha256(b"weights").hexdigest(), "a" * 64)
        server.commit(REPO, tmp_path / "entry")
        fails(DamagedError, "expected aaaaaaaaaaaa…")
        assert leftovers(tmp_path) == []

    def test_a_card_without_end(self, server, tmp_path):
        server.commit(REPO, server.files(REPO, "main") | {"README.md": b"-" * (cards.CARD_LIMIT + 1)})
        fails(InvalidError, "expected a card of at most 256 KiB")
        assert server.count("get") == 0

    @pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/b", "..", "a\\b", "C:x", "README.md", ".hidden"])
    def test_hostile_names_in_the_card(self, server, tmp_path, name):
        edit_card(tmp_path / "entry", "path: scores.json", f"path: '{name}'")
        server.commit(REPO, server.files(REPO, "main") | {"README.md": (tmp_path / "entry/README.md").read_bytes()})
        fails(InvalidError, f"{NAME}@{commit_of(server)}: README.md: files[2].path: ")
        assert leftovers(tmp_path) == []

    @pytest.mark.parametrize("name", ["../x", "/etc/passwd", "../../config.json"])
    def test_hostile_names_in_the_repository_are_never_written(self, server, tmp_path, name):
        server.commit(REPO, server.files(REPO, "main") | {name: b"x"})
        before = {path for path in tmp_path.rglob("*") if "cache" not in path.parts}
        folder = hub.pull(NAME)
        assert sorted(path.name for path in folder.iterdir()) == sorted(set(server.files(REPO, "main")) - {name})
        assert {path for path in tmp_path.rglob("*") if "cache" not in path.parts} == before

    @pytest.mark.skipif(os.name == "nt", reason="links need rights there")
    def test_a_link_in_the_cache_is_refused(self, server, tmp_path):
        folder = hub.pull(NAME)
        (folder / "model.safetensors").rename(tmp_path / "elsewhere")
        (folder / "model.safetensors").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(DamagedError, match="is a link that leaves the folder"):
            hub.resolve(NAME)

    def test_a_redirect_to_a_server_that_is_not_there(self, server, tmp_path):
        with socket.create_server(("127.0.0.1", 0)) as closed:
            server.cdn = f"http://localhost:{closed.getsockname()[1]}/cdn"
        remote_retries = "huggingface_hub.file_download.time.sleep"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(remote_retries, lambda _: None)
            fails(TransportError, "did not answer (ConnectError)")
        assert leftovers(tmp_path) == []

    def test_offline(self, server, offline, tmp_path):
        folder = hub.pull(NAME)
        offline()
        server.requests.clear()
        assert hub.pull(NAME) == hub.resolve(NAME) == folder
        assert hub.resolve("lung-ct-ddf") == folder
        assert server.requests == []
        fails(MissingError, "has not been pulled, and HF_HUB_OFFLINE is set", "hf://lab/other")

    def test_damage_in_the_cache_is_mended_by_a_pull(self, server):
        (hub.pull(NAME) / "model.safetensors").write_bytes(b"weightz")
        with pytest.raises(DamagedError, match=f"Pull it again: regzoo pull {NAME}@"):
            hub.resolve(NAME)
        assert (hub.pull(NAME) / "model.safetensors").read_bytes() == b"weights"

    @pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), KeyboardInterrupt()])
    def test_a_full_disk_or_ctrl_c_leaves_nothing(self, server, tmp_path, monkeypatch, fault):
        def fail(*_, **__):
            raise fault

        with monkeypatch.context() as patch:
            patch.setattr("huggingface_hub.file_download.http_get", fail)
            with pytest.raises(type(fault)):
                hub.pull(NAME)
        assert leftovers(tmp_path) == []
        assert hub.pull(NAME).is_dir()

    def test_damage_in_the_cache_offline(self, server, offline):
        (hub.pull(NAME) / "model.safetensors").write_bytes(b"weightz")
        offline()
        fails(DamagedError, "Pull it again with a network.")

    def test_what_killed_pulls_left_is_removed_by_the_next_of_any_model(self, server, tmp_path):
        hub.pull("entry")
        here, cache = place(server) / "lab" / "x", tmp_path / "cache"
        for remnant, target in (
            (here / f".{'a' * 40}-abcd_fg1", f".{'a' * 40}"),  # as older versions of regzoo named it
            (here / f".{'a' * 40}-0123abcd-77-abcd_fg1", f".{'a' * 40}"),
            (cache / ".x-y@1.0-removed", ".x-y@1.0"),
            (cache / ".x-y@1.0-0123abcd-77-abcd_fg1", ".x-y@1.0"),
        ):
            (remnant / "deep").mkdir(parents=True)
            with FileLock(remnant.parent / f"{target}.lock"):  # one that is under way
                hub.pull("entry")
                assert remnant.is_dir()
            hub.pull("entry")
            assert not remnant.exists()

    @pytest.mark.parametrize(
        ("url", "sent"),
        [
            ("https://hub.example.org", True),
            ("http://localhost:9", True),
            ("http://127.0.0.1:9", True),
            ("http://[::1]:9", True),
            ("http://hub.example.org", False),
            ("http://10.0.0.7:8090", False),
            ("http://127.0.0.1.example.org", False),
        ],
    )
    def test_a_token_is_not_sent_where_others_can_read_it(self, server, monkeypatch, url, sent):
        monkeypatch.setenv("REGZOO_HUB", f"{url}/lab")
        monkeypatch.setenv("HF_TOKEN", hub_server.TOKEN)
        headers = remote.client()._build_hf_headers()
        assert ("authorization" in headers) == sent

    def test_a_private_model_where_no_token_is_sent(self, server, monkeypatch):
        server.private.add(REPO)
        monkeypatch.setattr(remote, "may_have_token", lambda url: False)
        monkeypatch.setenv("HF_TOKEN", hub_server.TOKEN)
        fails(MissingError, f"If it is private: a token is sent over https only, and the server is {server.url}.")

    def test_a_warning_of_the_client_stays_away(self, server, capfd):
        hub.pull(NAME)
        assert capfd.readouterr() == ("", "")


PULL = """
import signal, sys
from regzoo import hub
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background of a shell ignores it
sys.stdin.readline()
print(hub.pull(sys.argv[1]))
"""


def start(count=1):
    command = [sys.executable, "-W", "error", "-c", PULL, NAME]
    found = [subprocess.Popen(command, stdin=-1, stdout=-1, stderr=-1, text=True) for _ in range(count)]
    for process in found:
        process.stdin.write("go\n")
        process.stdin.flush()
    return found


class TestProcesses:
    def test_two_at_once_end_with_one_good_copy(self, server, tmp_path):
        server.commit(REPO, make_entry(tmp_path / "entry", weights=os.urandom(8_000_000)))
        for process in start(2):
            out, error = process.communicate(timeout=120)
            assert (process.returncode, error) == (0, "")
            hub.verify(out.strip(), cards.read("entry"))
        assert server.count("cdn") == 1

    @pytest.mark.skipif(os.name == "nt", reason="no such signals there")
    @pytest.mark.parametrize("kind", ["SIGKILL", "SIGINT"])
    def test_a_killed_pull_leaves_nothing_under_the_final_name(self, server, tmp_path, kind):
        data = os.urandom(4_000_000)
        commit = server.commit(REPO, make_entry(tmp_path / "entry", weights=data))
        reached = []

        def stall(handler, now, path):
            if now != "cdn" or reached:
                return False
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(data)))
            handler.end_headers()
            handler.wfile.write(data[:2_000_000])
            handler.wfile.flush()
            reached.append(path)
            time.sleep(1)
            handler.close_connection = True
            return True

        server.fault = stall
        (process,) = start()
        while not reached:
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        time.sleep(0.2)
        process.send_signal(getattr(signal, kind))
        process.communicate(timeout=60)
        assert not (place(server) / "lab/lung-ct-ddf" / commit).exists()
        assert hub.cached() == []
        assert (hub.pull(NAME) / "model.safetensors").read_bytes() == data
        assert {path.parent.name for path in leftovers(tmp_path)} == {commit, "lung-ct-ddf"}

    @pytest.mark.skipif(sys.platform != "linux", reason="a limit on file sizes stands for a full disk")
    def test_a_full_disk(self, server, tmp_path):
        server.commit(REPO, make_entry(tmp_path / "entry", weights=os.urandom(4_000_000)))
        limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))\n"
        command = [sys.executable, "-c", limit + "from regzoo.cli import main; main()", "pull", NAME]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert (done.returncode, done.stdout) == (1, "")
        assert "File too large" in done.stderr
        assert done.stderr.count("\n") == 1
        assert leftovers(tmp_path) == []
        assert hub.pull(NAME).is_dir()

    def test_offline_by_the_environment(self, server):
        command = [sys.executable, "-m", "regzoo", "pull", NAME]
        environment = os.environ | {"HF_HUB_OFFLINE": "1"}
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)
        assert (
            done.stderr
            == f"error: {NAME} has not been pulled, and HF_HUB_OFFLINE is set. Pull it once with a network.\n"
        )
        folder = hub.pull(NAME)
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)
        assert (done.stdout, done.stderr) == (f"{folder}\n", "")


class TestConfiguredHub:
    def test_plain_names(self, server):
        assert hub.resolve("lung-ct-ddf@1") == hub.pull(NAME)
        assert hub.pull("lung-ct-ddf") == hub.pull(NAME)
        with pytest.raises(InvalidError, match=r"expected lung-ct-ddf@2, received lung-ct-ddf@1"):
            hub.pull("lung-ct-ddf@2")
        with pytest.raises(
            MissingError, match=r"Unknown model 'liver-ct-ddf'\. On http.*: the hub shows no such repository"
        ):
            hub.pull("liver-ct-ddf")

    def test_a_repository_of_another_name(self, server, tmp_path):
        server.commit("lab/liver-ct-ddf", tmp_path / "entry")
        with pytest.raises(InvalidError, match="expected liver-ct-ddf@…, received lung-ct-ddf@1"):
            hub.pull("liver-ct-ddf")

    def test_a_stranger_never_takes_a_name(self, server, monkeypatch, tmp_path):
        server.commit("stranger/x", make_entry(tmp_path / "x", version="99"))
        hub.pull("hf://stranger/x")
        monkeypatch.delenv("REGZOO_HUB")
        with pytest.raises(InvalidError, match="Unknown model 'lung-ct-ddf'"):
            hub.resolve("lung-ct-ddf@99")

    def test_a_folder(self, server, tmp_path, monkeypatch):
        make_entry(tmp_path / "share" / "brain-mr-ddf", name="brain-mr-ddf")
        monkeypatch.setenv("REGZOO_HUB", str(tmp_path / "share"))
        assert hub.resolve("brain-mr-ddf@1") == tmp_path / "share" / "brain-mr-ddf"
        assert [entry.source for entry in hub.models()] == ["hub"]
        assert hub.pull("brain-mr-ddf") == tmp_path / "cache" / "brain-mr-ddf@1"
        assert [entry.source for entry in hub.models()] == ["cached"]

    @pytest.mark.parametrize("text", ["hf://a/b", "ftp://host/x", "https://host", "hf://", "http://host/a b"])
    def test_what_is_no_hub(self, server, monkeypatch, text):
        monkeypatch.setenv("REGZOO_HUB", text)
        with pytest.raises(InvalidError, match=r"REGZOO_HUB: expected .*hf://"):
            hub.pull(NAME)

    def test_a_folder_that_is_not_there(self, server, monkeypatch):
        monkeypatch.setenv("REGZOO_HUB", "nowhere")
        with pytest.raises(MissingError, match="REGZOO_HUB names the folder 'nowhere', which does not exist"):
            hub.models()

    @pytest.mark.parametrize("name", ["hf://a", "hf://a/b/c", "hf://a/..", "hf://../b", "hf://a/b@", "hf://a/b@../x"])
    def test_what_is_no_repository(self, server, name):
        fails(InvalidError, f"model: expected hf://owner/repo or hf://owner/repo@revision, received '{name}'.", name)
        assert server.requests == []

    def test_list(self, server):
        folder = hub.pull(NAME)
        models = json.loads(run("list", "--json")[1])
        assert [model["source"] for model in models] == [f"{NAME}@{folder.name}", NAME]
        assert "dice 0.852 ± 0.020" in run("list")[1].splitlines()[-2]

    def test_of_a_listing_no_more_is_looked_at_than_was_asked_for(self, monkeypatch):
        class Endless:
            def json(self):
                return [{}] * 5000

        seen = []
        monkeypatch.setattr(remote, "asked", lambda *asked, **options: Endless())
        monkeypatch.setattr(remote, "parse", lambda text: seen.append(text) or (_ for _ in ()).throw(InvalidError("")))
        assert remote.listing("lab") == []
        assert len(seen) == 1000

    def test_a_listing_that_does_not_come(self, server, monkeypatch):
        hub.pull(NAME)
        monkeypatch.setattr(remote, "TIMEOUT", 0.3)
        monkeypatch.setattr(server, "slow", 1.0)
        code, out, err = run("list")
        assert (code, "lung-ct-ddf" in out) == (0, True)
        assert "did not answer (ReadTimeout)" in err

    def test_list_without_the_server(self, server, monkeypatch):
        monkeypatch.setattr(remote, "listing", lambda owner: (_ for _ in ()).throw(TransportError("no answer")))
        assert run("list") == (0, "", "warning: no answer\nNo models.\n")


# huggingface_hub 2.4 gives its HTTP client a file in the place of bytes.
@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
class TestPush:
    @pytest.fixture(autouse=True)
    def token(self, server, monkeypatch):
        monkeypatch.setenv("HF_TOKEN", hub_server.TOKEN)

    def test_weights_go_to_the_store_of_large_files_once(self, server, tmp_path):
        weights = (tmp_path / "entry" / "model.safetensors").read_bytes()
        digest = hashlib.sha256(weights).hexdigest()
        push(package("entry", "hf://lab/new"), private=False)
        assert server.objects[digest] == weights == server.files("lab/new", "main")["model.safetensors"]
        assert [path for kind, path in server.requests if kind == "put"] == [digest]
        push(package("entry", "hf://lab/other"), private=False)  # the store has it
        assert server.count("put") == 1

    def test_an_upload_that_fails_is_reported_and_nothing_committed(self, server):
        server.fault = lambda handler, kind, path: kind == "put" and (handler.refuse(403) or True)
        with pytest.raises(RegzooError) as caught:
            push(package("entry", "hf://lab/new"), private=False)
        assert "\n" not in str(caught.value)
        assert "hf://lab/new" in str(caught.value)
        assert server.refs["lab/new"] == {}

    def test_what_is_pushed_is_pulled(self, server, tmp_path):
        ready = package("entry", "hf://lab/new")
        address = push(ready, private=True)
        assert server.private == {"lab/new"}
        folder = hub.pull(str(address))
        for name in ("config.json", "model.safetensors", "scores.json"):
            assert (folder / name).read_bytes() == (tmp_path / "entry" / name).read_bytes()
        assert (
            (folder / "README.md").read_bytes()
            == ready.files["README.md"]
            == server.files("lab/new", "main")["README.md"]
        )
        assert cards.read(folder) == cards.read("entry")
        assert package(folder, "hf://lab/new").files["README.md"] == ready.files["README.md"]

    def test_a_push_that_does_not_end(self, server, monkeypatch):
        monkeypatch.setattr("regzoo.hub.push._PATIENCE", 0.3)
        monkeypatch.setattr(server, "slow", 1.0)
        with pytest.raises(TransportError, match=r"did not answer \(ReadTimeout\)"):
            push(package("entry", "hf://lab/new"), private=False)

    def test_a_card_that_the_hub_does_not_take_makes_no_repository(self, server, monkeypatch):
        problem = {"errors": [{"message": '"license" must be one of these'}], "warnings": [{"message": "a"}]}
        monkeypatch.setattr(server, "opinion", (400, problem))
        with pytest.raises(InvalidError, match='hf://lab/new: the hub does not take this card: "license" must be one'):
            push(package("entry", "hf://lab/new"), private=False)
        assert "lab/new" not in server.refs
        monkeypatch.setattr(server, "opinion", (200, {"errors": [], "warnings": [{"message": "a"}]}))
        push(package("entry", "hf://lab/new"), private=False)  # a warning is none that stops it, nor is it printed

    def test_a_push_beside_another_is_refused(self, server, tmp_path, monkeypatch):
        first = push(package("entry", "hf://lab/new"), private=False)
        make_entry(tmp_path / "entry", version="2", weights=b"retrain")
        ready = package("entry", "hf://lab/new")
        monkeypatch.setattr(remote, "read_card", lambda address: (cards.read("entry"), first))
        server.commit("lab/new", server.files("lab/new", "main") | {"notes.txt": b"x"})
        with pytest.raises(TransportError, match="answered 412"):
            push(ready, private=False)

    def test_another_model_is_not_overwritten(self, server, tmp_path):
        push(package("entry", "hf://lab/new"), private=False)
        make_entry(tmp_path / "other", name="brain-mr-dvf")
        with pytest.raises(InvalidError, match=r"holds another model, lung-ct-ddf@1\. Choose another repository"):
            push(package("other", "hf://lab/new"), private=False)

    def test_a_parent_that_is_shared_alike_is_not_relicensed(self, server, tmp_path):
        make_entry(tmp_path / "zoo" / "brain-mr-dvf", name="brain-mr-dvf", license="cc-by-sa-4.0")
        for parent in ("brain-mr-dvf", ["brain-mr-dvf@1#0", None]):
            make_entry(tmp_path / "entry", training={"parent": parent}, license="cc-by-4.0")
            with pytest.raises(
                InvalidError, match=r"license: expected for the parent brain-mr-dvf.* cc-by-sa-4\.0, or"
            ):
                package("entry", "hf://lab/new")
            make_entry(tmp_path / "entry", training={"parent": parent}, license="cc-by-sa-4.0")
            assert package("entry", "hf://lab/new").remarks == ()
        make_entry(tmp_path / "entry", training={"parent": ["runs/gone", "brain-mr-dvf"]}, license="cc-by-sa-4.0")
        told = "Its parent runs/gone is not found: see that its licence allows cc-by-sa-4.0."
        assert package("entry", "hf://lab/new").remarks == (told,)
        assert run("push", "entry", "hf://lab/new", "--dry-run")[2].startswith(f"warning: {told}\n")
        make_entry(tmp_path / "zoo" / "brain-mr-dvf", name="brain-mr-dvf", license="unknown")
        make_entry(tmp_path / "entry", training={"parent": "brain-mr-dvf"}, license="mit")
        assert package("entry", "hf://lab/new").remarks == (
            "The licence of its parent brain-mr-dvf is unknown: ask its authors.",
        )

    def test_a_second_push_is_a_second_commit(self, server, tmp_path):
        first = push(package("entry", "hf://lab/new"), private=False)
        make_entry(tmp_path / "entry", version="2", weights=b"retrain")
        second = push(package("entry", "hf://lab/new"), private=False)
        assert cards.read(hub.pull(str(first))).version == "1"
        assert cards.read(hub.pull("hf://lab/new")).version == "2"
        assert f"{second}:{sha256(b'retrain')}" == hub.pin("hf://lab/new")

    def test_other_weights_under_the_same_version_are_refused(self, server, tmp_path):
        push(package("entry", "hf://lab/new"), private=False)
        make_entry(tmp_path / "entry", weights=b"retrain")
        with pytest.raises(InvalidError, match="holds other weights than this lung-ct-ddf@1"):
            push(package("entry", "hf://lab/new"), private=False)

    def test_the_card_is_a_model_card(self, server):
        from huggingface_hub import ModelCard, parse_eval_result_entries
        from yaml import safe_load

        ready = package("entry", "hf://lab/new")
        data = ModelCard(ready.files["README.md"].decode()).data
        assert (data.library_name, data.pipeline_tag, data.license) == ("keras", "image-to-image", "cc-by-4.0")
        assert data.datasets == ["lab/made-up"]
        (result,) = data.eval_results
        assert (result.metric_type, result.metric_value, result.dataset_name) == ("dice", 0.8521, "made up")
        (entry,) = parse_eval_result_entries(safe_load(ready.files[EVAL_RESULTS]))
        assert (entry.dataset_id, entry.task_id, entry.value) == ("lab/made-up", "dice", 0.8521)
        assert "regzoo evaluate" in entry.notes

    def test_data_that_no_hub_has_get_no_identifier_of_one(self, server, tmp_path):
        score = FACTS["scores"][0] | {"data": "\u5fc3\u810f"}
        own = {"name": "Made up", "license": "CC0"}
        make_entry(tmp_path / "entry", data=[own], scores=[{key: score[key] for key in score if key != "dataset"}])
        ready = package("entry", "hf://lab/new")
        assert EVAL_RESULTS not in ready.files
        readme = ready.files["README.md"].decode()
        assert "datasets:" not in readme
        assert "type: data\n" in readme

    def test_base_model(self, server, tmp_path):
        parent = f"{NAME}@{'a' * 40}"
        make_entry(tmp_path / "entry", training={"parent": parent})
        assert "base_model: lab/lung-ct-ddf\n" in package("entry", "hf://lab/new").files["README.md"].decode()
        make_entry(tmp_path / "row", training={"parent": [parent, None, "bundled", "hf://lab/other"]})
        readme = package("row", "hf://lab/new").files["README.md"].decode()
        assert "base_model:\n- lab/lung-ct-ddf\n- lab/other\n" in readme

    @pytest.mark.parametrize(("field", "empty"), [("license", None), ("data", ()), ("scores", ()), ("limits", ())])
    def test_an_incomplete_card_is_refused(self, server, tmp_path, field, empty):
        make_entry(tmp_path / "entry", **{field: empty})
        with pytest.raises(InvalidError, match=f"cannot be pushed: its card lacks {field}"):
            package("entry", "hf://lab/new")

    def test_dry_run_sends_nothing(self, server):
        code, out, err = run("push", "entry", "hf://lab/new", "--dry-run")
        assert (code, err) == (0, "Nothing was uploaded to hf://lab/new.\n")
        assert "model.safetensors" in out
        assert server.requests == []

    def test_command(self, server):
        code, out, err = run("push", "entry", "hf://lab/new")
        assert (code, out, err) == (0, f"hf://lab/new@{server.refs['lab/new']['main']}\n", "")

    def test_without_a_token(self, server, monkeypatch):
        monkeypatch.delenv("HF_TOKEN")
        code, _, err = run("push", "entry", "hf://lab/new")
        assert code == 1
        assert err.startswith("error: hf://lab/new: the hub ")
        assert "hf auth login" in err

    def test_a_revision_is_refused(self, server):
        with pytest.raises(InvalidError, match="without a revision"):
            package("entry", f"{NAME}@main")


class TestCommands:
    def test_cache(self, server):
        assert run("cache") == (0, "", "No models.\n")
        folder, copy = hub.pull(NAME), hub.pull("entry")
        out = run("cache")[1]
        assert str(folder) in out
        assert str(copy) in out
        assert run("cache", "--remove", NAME, "--remove", "lung-ct-ddf") == (
            *(0, "", f"Removed {folder}.\nRemoved {copy}.\n"),
        )
        assert not folder.exists()
        assert run("cache") == (0, "", "No models.\n")
        assert run("cache", "--remove", "lung-ct-ddf")[::2] == (
            1,
            f"error: The cache {hub.cache_folder()} is empty.\n",
        )
        assert hub.pull(NAME) == folder

    def test_verify(self, server):
        folder, copy = hub.pull(NAME), hub.pull("entry")
        assert run("verify") == (0, f"ok lung-ct-ddf@1 {copy}\nok lung-ct-ddf@1 {folder}\n", "")
        (folder / "model.safetensors").write_bytes(b"weightz")
        code, out, err = run("verify")
        assert (code, out) == (1, f"ok lung-ct-ddf@1 {copy}\n")
        assert err.startswith("error: lung-ct-ddf is damaged: model.safetensors has sha256")
        assert run("verify", "lung-ct-ddf")[0] == 0

    def test_show(self, server, tmp_path):
        make_entry(tmp_path / "entry")
        assert "picture" not in run("show", "entry")[1]
        shutil.copy("entry/scores.json", "entry/sample.png")
        assert str(Path("entry/sample.png")) in run("show", "entry")[1]
        assert f"{NAME}@" in run("show", NAME)[1]

    def test_errors_are_one_line(self, server):
        code, out, err = run("pull", "hf://lab/none")
        assert (code, out) == (1, "")
        assert err == (
            "error: hf://lab/none: the hub shows no such repository (401). "
            "If it is private, log in with 'hf auth login' or set HF_TOKEN.\n"
        )
        assert issubclass(TransportError, RegzooError)


class TestOneBadThing:
    """A card, a reply or a setting that is wrong is told of, and does not take the rest away."""

    def test_a_card_that_cannot_be_read_hides_no_other_and_can_be_removed(self, server, tmp_path):
        hub.pull(NAME)
        bad = hub.pull(make_entry(tmp_path / "other", name="brain-mr-dvf"))
        (bad / "README.md").write_text("garbage")
        code, out, err = run("list")
        assert (code, "lung-ct-ddf" in out, "brain-mr-dvf@1" in err) == (0, True, True)
        assert err.startswith("warning: ")
        code, out, err = run("verify")
        assert (code, out.startswith("ok lung-ct-ddf"), "expected front matter" in err) == (1, True, True)
        assert run("cache", "--remove", "brain-mr-dvf")[0] == 0
        assert run("list")[2] == run("verify")[2] == ""

    @pytest.mark.parametrize(
        "reply", ["[]", '"x"', "{}", '{"siblings": 5}', '{"siblings": [{}]}', '{"sha": 5}', "[" * 9000, "<html>", ""]
    )
    def test_what_is_no_answer_of_a_hub(self, server, reply):
        server.fault = lambda handler, kind, path: kind == "info" and (handler.reply(200, reply.encode()) or True)
        fails(TransportError, f"{NAME}: ")
        assert leftovers(Path.cwd()) == []

    @pytest.mark.parametrize(
        "reply", ["<html>", '["x"]', "[{}]", '[{"id": "lab/x", "cardData": "str"}]', '[{"id": "lab/x", "siblings": 5}]']
    )
    def test_a_listing_that_is_none_leaves_what_is_here(self, server, reply, monkeypatch):
        hub.pull(NAME)
        monkeypatch.setattr(server, "listing", reply.encode())
        code, out, err = run("list")
        assert (code, "lung-ct-ddf" in out) == (0, True)
        assert "Traceback" not in err

    def test_list_offline(self, server, offline):
        hub.pull(NAME)
        offline()
        code, out, err = run("list")
        assert (code, "lung-ct-ddf" in out, err) == (0, True, "")

    @pytest.mark.parametrize("variable", ["REGZOO_HUB", "REGZOO_CACHE"])
    def test_a_user_who_is_not(self, server, variable, monkeypatch):
        monkeypatch.setenv(variable, "~nosuchuser/x")
        assert run("show", "~nosuchuser/y")[0] == 1
        assert run("list")[0] in (0, 1)

    def test_a_gated_model_is_asked_for_on_its_page(self, server):
        def gated(handler, kind, path):
            return kind == "info" and (handler.refuse(403, "GatedRepo") or True)

        server.fault = gated
        fails(MissingError, "gives access on request only")

    @pytest.mark.parametrize("text", ["{", "[]", '{"main": 5}', '{"main": "zz"}'])
    def test_a_damaged_list_of_revisions_is_written_anew(self, server, text):
        folder = hub.pull(NAME)
        (folder.parent / "refs.json").write_text(text)
        assert hub.resolve(NAME) == hub.pull(NAME) == folder
        assert json.loads((folder.parent / "refs.json").read_text()) == {"main": folder.name}

    def test_what_a_hubs_editor_adds_to_a_card_is_no_fault(self, server):
        added = b"---\nlanguage: en\nlicense_name: x\nthumbnail: y.png\nmetrics: [dice]\nextra_gated_prompt: z\n"
        readme = server.files(REPO, "main")["README.md"].replace(b"---\n", added, 1)
        server.commit(REPO, server.files(REPO, "main") | {"README.md": readme})
        assert cards.read(hub.pull(NAME)).name == "lung-ct-ddf"

    def test_a_repository_with_a_readme_of_its_own(self, server, monkeypatch):
        monkeypatch.setenv("HF_TOKEN", hub_server.TOKEN)
        server.commit("lab/web", {"README.md": b"---\nlicense: mit\n---\n# web\n"})
        with pytest.raises(InvalidError, match=r"hf://lab/web holds a README.md that is no card of a model: .* Remove"):
            push(package("entry", "hf://lab/web"), private=False)

    def test_a_branch_with_two_hyphens(self, server):
        server.commit(REPO, server.files(REPO, "main"), "feature--x")
        assert hub.pull(f"{NAME}@feature--x").is_dir()
