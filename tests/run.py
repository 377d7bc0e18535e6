"""Runs the checks: style, rooms, and the tests under each backend.

`python tests/run.py [--all] [pytest arguments]`: without `--all`, tests marked slow are left out.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent


def run(*command: str, **environment: str) -> tuple[bool, float, str]:
    """Runs a command and returns whether it passed, its seconds, and how it is called in the table of times."""
    print("$", *(f"{key}={value}" for key, value in environment.items()), *command, flush=True)
    started = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, check=False)
    name = " ".join([environment.get("KERAS_BACKEND", ""), Path(command[0]).stem, *command[1:3]])
    return done.returncode == 0, time.perf_counter() - started, name.strip()


def main(arguments: list[str]) -> int:
    everything = "--all" in arguments
    rest = [each for each in arguments if each != "--all"]
    parts = [
        run(str(BIN / "ruff"), "check", "."),
        run(str(BIN / "ruff"), "format", "--check", "."),
        run(str(BIN / "lint-imports"), "--no-cache"),
    ]
    # What touches no tensor does not change with the backend: it runs once.
    for backend, marker in (("torch", "backend"), ("jax", "backend"), ("tensorflow", "(backend or not backend)")):
        chosen = marker if everything else f"{marker} and not slow"
        command = (sys.executable, "-m", "pytest", "-n", "2", "--dist", "loadfile", "-m", chosen, *rest)
        # JAX spends most of a test on compiling what runs once; TensorFlow's tests become slower by the flag.
        flags = {"XLA_FLAGS": "--xla_backend_optimization_level=0"} if backend == "jax" else {}
        parts.append(run(*command, KERAS_BACKEND=backend, **flags))
    for passed, seconds, name in parts:
        print(f"{'passed' if passed else 'FAILED'} {seconds:7.1f} s  {name}")
    return 0 if all(passed for passed, *_ in parts) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
