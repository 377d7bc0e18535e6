"""Calls the command line: in this process, or in one of its own."""

import subprocess
import sys

from typer.testing import CliRunner

from regzoo import cli


def run(*arguments):
    result = CliRunner().invoke(cli.app, arguments, prog_name="regzoo")
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def process(*arguments):
    command = [sys.executable, "-m", "regzoo", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    return done.returncode, done.stdout, done.stderr
