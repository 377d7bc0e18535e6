"""Runs the checks: style, rooms, and the tests under each backend; what a part took is printed.

`python tests/run.py [--all] [pytest arguments]`: with `--all`, the tests marked slow follow; with
`--slow-within MINUTES` they alone are run, under PyTorch and then JAX, of which none begins later than that; those of
TensorFlow, which train and score every model, may take an hour and are left to `--all`.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
NO_KERAS = ("data", "hub", "io", "points", "schema", "world")
"""Rooms that import no backend, which `lint-imports` checks: their tests are the same under each."""


def run(name: str, *command: str, **environment: str) -> tuple[bool, float, str]:
    """Runs a command and returns whether it passed, its seconds, and what it is called in the table of times."""
    print("$", *(f"{key}={value}" for key, value in environment.items()), *command, flush=True)
    started = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, check=False)
    return done.returncode == 0, time.perf_counter() - started, name


def test(backend: str, chosen: str, rest: list[str]) -> tuple[bool, float, str]:
    """Runs tests under a backend."""
    workers = ("-n", "2", "--dist", "worksteal", "--durations", "10")
    command = (sys.executable, "-m", "pytest", *workers, "-m", chosen, *rest)
    if backend != "torch":
        command += tuple(f"--ignore={Path('tests', room)}" for room in NO_KERAS)
    # JAX spends most of a test on compiling what runs once; TensorFlow's tests become slower by the flag.
    flags = {"XLA_FLAGS": "--xla_backend_optimization_level=0"} if backend == "jax" else {}
    # A worker has a core: with more threads than that, they wait for each other.
    threads = dict.fromkeys(("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"), "1")
    # Without a locale, some library's choice of one would decide how the words of other processes are read.
    return run(f"{backend}, {chosen}", *command, KERAS_BACKEND=backend, PYTHONUTF8="1", **threads, **flags)


def main() -> int:
    started, parser = time.perf_counter(), argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--slow-within", type=float)
    asked, rest = parser.parse_known_args()
    alone, most = asked.slow_within is not None, 60 * (asked.slow_within or 0)
    # What is written without a look at backends runs under torch, which compiles nothing; later under TensorFlow too.
    chosen = {"torch": "not slow", "jax": "backend and not slow", "tensorflow": "backend and not slow"}
    later = {"torch": "slow", "jax": "backend and slow"}
    later |= {"tensorflow": "(backend and slow) or not (backend or slow)"} if asked.all else {}
    parts = []
    if not alone:
        parts += [
            run("style", str(BIN / "ruff"), "check", "."),
            run("format", str(BIN / "ruff"), "format", "--check", "."),
            run("rooms", str(BIN / "lint-imports"), "--no-cache"),
            *(test(*part, rest) for part in chosen.items()),
        ]
    for part in later.items() if asked.all or alone else ():
        if alone and time.perf_counter() - started > most:
            print(f"left out, for there is no time: {', '.join(part)}")
            continue
        parts.append(test(*part, rest))
    for passed, seconds, name in parts:
        print(f"{'passed' if passed else 'FAILED'} {seconds:7.1f} s  {name}")
    print(f"       {sum(seconds for _, seconds, _ in parts):7.1f} s  in all")
    return 0 if all(passed for passed, *_ in parts) else 1


if __name__ == "__main__":
    sys.exit(main())
