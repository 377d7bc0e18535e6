"""Pull from olah, a self-hosted hub that others wrote, as a hospital without internet would run it."""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fake_zoo import make_entry
from typer.testing import CliRunner

from regzoo import cli, hub
from regzoo.errors import MissingError
from regzoo.hub import cards

CONFIG = """
[basic]
host = "127.0.0.1"
port = {port}
repos-path = "{folder}/cache"
mirrors-path = ["{folder}/mirrors"]

[accessibility]
offline = true
"""


def git(folder, *arguments):
    identity = ["-c", "user.name=lab", "-c", "user.email=lab@example.org", "-c", "init.defaultBranch=main"]
    command = ["git", *identity, *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def answers(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """The repository lab/lung-ct-ddf on a running olah."""
    program = shutil.which("olah-cli", path=os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])))
    if program is None:
        pytest.skip("olah-cli is not found: it runs on Linux alone, pip install '.[dev]'")
    if shutil.which("git") is None:
        pytest.skip("git is not found, and olah serves git repositories")
    repository = make_entry(tmp_path / "mirrors" / "models" / "lab" / "lung-ct-ddf", weights=os.urandom(2_000_000))
    git(repository, "init", "--quiet")
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "--message", "lung-ct-ddf@1")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (tmp_path / "config.toml").write_text(CONFIG.format(port=port, folder=tmp_path.as_posix()))
    monkeypatch.setenv("REGZOO_HUB", f"http://127.0.0.1:{port}/lab")
    monkeypatch.setenv("REGZOO_CACHE", str(tmp_path / "pulled"))
    monkeypatch.setenv("REGZOO_ZOO", str(tmp_path / "zoo"))
    log = (tmp_path / "olah.log").open("w")
    process = subprocess.Popen([program, "-c", "config.toml"], cwd=tmp_path, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while not answers(port):
            assert process.poll() is None, (tmp_path / "olah.log").read_text()
            assert time.monotonic() < deadline, "olah does not answer"
            time.sleep(0.1)
        yield repository
    finally:
        process.terminate()
        process.wait(30)
        log.close()


@pytest.mark.slow
def test_pull(lab):
    commit = git(lab, "rev-parse", "HEAD")
    started = time.perf_counter()
    folder = hub.pull("lung-ct-ddf")
    print(f"pulled 2 MB from olah in {time.perf_counter() - started:.2f} s")
    assert folder.name == commit
    for file in cards.read(lab).files:
        assert (folder / file.path).read_bytes() == (lab / file.path).read_bytes()
    assert hub.pull(f"hf://lab/lung-ct-ddf@{commit}") == hub.pull("hf://lab/lung-ct-ddf@main") == folder
    with pytest.raises(MissingError, match="the hub "):
        hub.pull("hf://lab/none")
    told = CliRunner().invoke(cli.app, ["list"], prog_name="regzoo")  # olah does not list what it holds
    assert (told.exit_code, "lung-ct-ddf" in told.stdout, "Traceback" in told.stderr) == (0, True, False)
