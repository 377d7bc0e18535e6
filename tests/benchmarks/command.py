"""Seconds of processor time and peak memory of a command of regzoo, stage by stage, as a process of its own.

    python tests/benchmarks/command.py [--runs N] register FIXED MOVING --model NAME --no-error ...

All that follows is given to `regzoo` as it is. Of each stage that `result.json` has seconds of: its processor seconds
(of all threads, user and system) and the peak memory of the process when it ended. `begin` is all before the first of
them (Python, Keras and its backend, reading), `rest` what is in none (writing). Beside it what the floor is: the import
of Keras and its backend alone. Medians of N runs; processor time is what other programs on the machine change least.
"""

import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

CHILD = """
import atexit, json, resource, sys, time, types
from regzoo import progress

told, begun = {}, []

def spent():
    return sum(resource.getrusage(resource.RUSAGE_SELF)[:2])

def stage(name):
    told.setdefault("begin", [spent(), peak()])
    begun.append(name)
    sys.modules["regzoo.registration.results"].time = types.SimpleNamespace(perf_counter=read)

def read():
    now = spent()
    if isinstance(begun[-1], str):  # a clock starts
        begun[-1] = (begun[-1], now)
    else:
        name, start = begun.pop()
        told[name] = [told.get(name, [0])[0] + now - start, peak()]
    return now

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

progress.stage = stage
file, sys.argv = sys.argv[1], ["regzoo", *sys.argv[2:]]
atexit.register(lambda: open(file, "w").write(json.dumps(told)))
from regzoo.start import main
main()
"""
FLOOR = "from regzoo import backend"


def main(words: list[str]) -> None:
    runs = 3
    if words[:1] == ["--runs"]:
        runs, words = int(words[1]), words[2:]
    floor = statistics.median(measured([sys.executable, "-c", FLOOR])[0] for _ in range(runs))
    found = [of_command(words) for _ in range(runs)]
    print(f"{'stage':14}{'processor s':>12}{'peak MB':>9}")
    for name in found[0]:
        seconds, memory = (statistics.median(run[name][i] for run in found) for i in range(2))
        print(f"{name:14}{seconds:12.2f}{memory:9.0f}")
    print(f"import of Keras and its backend alone: {floor:.2f} s")


def of_command(words: list[str]) -> dict[str, list[float]]:
    """Returns seconds and peak memory (MB) of each stage and of the whole."""
    with tempfile.TemporaryDirectory() as folder:
        stages, out = Path(folder) / "stages.json", Path(folder) / "out"
        seconds, memory = measured([sys.executable, "-c", CHILD, str(stages), *words, "-o", str(out)])
        told = json.loads(stages.read_text())
    rest = seconds - sum(each[0] for each in told.values())
    return told | {"rest": [rest, memory], "whole": [seconds, memory]}


def measured(command: list[str]) -> tuple[float, float]:
    """Runs a command; returns its processor seconds and its peak memory in MB."""
    quiet = os.open(os.devnull, os.O_WRONLY)
    process = os.posix_spawn(command[0], command, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, quiet, 1)])
    _, status, usage = os.wait4(process, 0)
    if code := os.waitstatus_to_exitcode(status):
        sys.exit(f"{' '.join(command[3:])} ended with {code}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


if __name__ == "__main__":
    main(sys.argv[1:])
