"""Runs a command and prints what it took: `python tests/timed.py NAME COMMAND...`; ends as the command did."""

import subprocess
import sys
import time

name, *command = sys.argv[1:]
started = time.perf_counter()
code = subprocess.run(command, check=False).returncode
print(f"{'passed' if code == 0 else 'FAILED'} {time.perf_counter() - started:7.1f} s  {name}", flush=True)
sys.exit(code)
