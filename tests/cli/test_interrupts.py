"""Ctrl-C ends a command, also where a library swallows it."""

import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from regzoo import cli
from regzoo.cli import interrupts
from regzoo.stopping import stop

ONCE = (
    "import contextlib, sys, time\n"
    "from regzoo import cli, hub\n"
    "from regzoo.cli import interrupts\n"
    "interrupts.PATIENCE = 0.4\n"
    "def survey():\n"
    "    print('ready', flush=True)\n"
    "    {swallow}\n"
    "    return [], []\n"
    "hub.survey = survey\n"
    "sys.argv = ['regzoo', 'list']\n"
    "cli.main()\n"
)
SLEEP = "time.sleep(20)"
SWALLOWED = [
    SLEEP,
    f"\n    with contextlib.suppress(BaseException): {SLEEP}\n    {SLEEP}",
    f"\n    for _ in range(3):\n        with contextlib.suppress(BaseException): {SLEEP}",
    f"\n    try: {SLEEP}\n    except KeyboardInterrupt: raise ImportError('half imported')",
    f"\n    with contextlib.suppress(KeyboardInterrupt): {SLEEP}",  # and the command goes on to its end
]


@pytest.mark.skipif(sys.platform == "win32", reason="a process is not sent Ctrl-C alone on Windows")
@pytest.mark.parametrize("swallow", SWALLOWED)
def test_ctrl_c_is_never_swallowed(swallow):
    environment = os.environ | {"PYTHONPATH": str(Path(cli.__file__).parents[2])}
    code = ONCE.format(swallow=swallow)
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        start = time.monotonic()
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err in ("stopped\n", "No models.\nstopped\n")  # the last ones go on to their end
    assert time.monotonic() - start < 15


@pytest.mark.skipif(sys.platform == "win32", reason="a process is not sent Ctrl-C alone on Windows")
def test_while_a_backend_is_imported_ctrl_c_ends_the_process_at_once():
    environment = os.environ | {"PYTHONPATH": str(Path(cli.__file__).parents[2])}
    half = "import types, os\n    sys.modules['regzoo.backend'] = types.ModuleType('x')"
    half += "\n    os.dup2(os.open(os.devnull, 1), 2)"
    code = ONCE.format(swallow=f"\n    {half}\n    try: {SLEEP}\n    finally: print('left half-way', flush=True)")
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60) == ("", "stopped\n")
    assert process.returncode == 130


WAY_IN = (
    "import sys, time\n"
    "class Slow:\n"
    "    def find_spec(self, name, *_):\n"
    "        if name == '{slow}':\n"
    "            print('ready', flush=True)\n"
    "            time.sleep(20)\n"
    "sys.meta_path.insert(0, Slow())\n"
    "sys.argv = ['regzoo', 'list']\n"
    "from regzoo.start import main\n"
    "main()\n"
)


@pytest.mark.skipif(sys.platform == "win32", reason="a process is not sent Ctrl-C alone on Windows")
@pytest.mark.parametrize("slow", ["regzoo.cli", "typer", "regzoo.cli.registering"])
def test_while_the_command_line_is_imported_ctrl_c_ends_it_in_one_line(slow):
    environment = os.environ | {"PYTHONPATH": str(Path(cli.__file__).parents[2])}
    with subprocess.Popen(
        [sys.executable, "-c", WAY_IN.format(slow=slow)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60) == ("", "stopped\n")
    assert process.returncode == 130


def test_the_script_and_the_module_go_in_where_ctrl_c_is_answered():
    project = tomllib.loads((Path(cli.__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["scripts"] == {"regzoo": "regzoo.start:main"}
    environment = os.environ | {"PYTHONPATH": str(Path(cli.__file__).parents[2])}
    command = [sys.executable, "-m", "regzoo", "--version"]
    assert subprocess.check_output(command, env=environment, text=True).startswith("regzoo ")


def test_within_a_command_that_was_begun_so_ctrl_c_is_an_interrupt_and_after_it_the_end_again(monkeypatch):
    monkeypatch.setattr(interrupts, "_backend_is_loading", lambda: False)
    before = signal.signal(signal.SIGINT, stop)
    try:
        with pytest.raises(KeyboardInterrupt), interrupts.insistent():
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is stop
    finally:
        signal.signal(signal.SIGINT, before)


def test_without_ctrl_c_nothing_is_changed():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ValueError, match="x"), interrupts.insistent():
        raise ValueError("x")
    assert signal.getsignal(signal.SIGINT) is before
    with interrupts.insistent():
        pass
    assert signal.getsignal(signal.SIGINT) is before


def test_what_is_cleaned_up_behind_an_interrupt_is_not_interrupted(monkeypatch):
    monkeypatch.setattr(interrupts, "PATIENCE", 0.8)
    cleaned = []

    def work():
        with interrupts.insistent():
            try:
                signal.raise_signal(signal.SIGINT)
            finally:
                time.sleep(0.4)
                cleaned.append(True)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert cleaned
