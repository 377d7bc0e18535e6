"""What --help says: nothing of options that are not there, nothing cut off."""

import re

import pytest
import typer
from command_line import run

from regzoo import cli

COMMANDS = {
    tuple(filter(None, (group, name))): command
    for group, commands in [("", typer.main.get_command(cli.app).commands)]
    for name, command in commands.items()
}
COMMANDS |= {
    (*path, name): inner
    for path, command in list(COMMANDS.items())
    for name, inner in getattr(command, "commands", {}).items()
}


def test_no_summary_is_cut_off(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    out = run("--help")[1]
    assert "register" in out
    assert "..." not in out.replace("COMMAND [ARGS]...", "")


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_speaks_of_options_that_the_command_has(path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    code, out, _ = run(*path, "--help")
    assert code == 0
    known = {name for parameter in COMMANDS[path].params for name in parameter.opts} | {"--help"}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", out)) <= known


def test_help_tells_what_is_so():
    assert "synthetic" not in run("demo", "--help")[1]
    assert "two brains that come with regzoo" in " ".join(run("demo", "--help")[1].split())
    assert "--alignment" not in run("register", "--help")[1]
    assert "moments" in run("register", "--help")[1]


def test_the_old_name_of_a_start_gives_the_new_one():
    for command in ("register", "cohort", "evaluate"):
        code, _, said = run(command, "a", "b", "--alignment", "center")
        assert code == 2
        assert "No such option: --alignment. Its name is --start now." in said
