"""Runs every check: style, rooms, and the tests under each backend. `python tests/run.py [pytest arguments]`."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent


def run(*command: str, **environment: str) -> bool:
    print("$", *(f"{key}={value}" for key, value in environment.items()), *command, flush=True)
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, check=False).returncode == 0


def main(arguments: list[str]) -> int:
    passed = [
        run(str(BIN / "ruff"), "check", "."),
        run(str(BIN / "ruff"), "format", "--check", "."),
        run(str(BIN / "lint-imports"), "--no-cache"),
    ]
    # What touches no tensor does not change with the backend: it runs once.
    for backend, marker in (("torch", "backend"), ("jax", "backend"), ("tensorflow", "backend or not backend")):
        command = (sys.executable, "-m", "pytest", "-n", "2", "--dist", "loadfile", "-m", marker, *arguments)
        # JAX spends most of a test on compiling what runs once; TensorFlow's tests become slower by the flag.
        flags = {"XLA_FLAGS": "--xla_backend_optimization_level=0"} if backend == "jax" else {}
        passed.append(run(*command, KERAS_BACKEND=backend, **flags))
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
