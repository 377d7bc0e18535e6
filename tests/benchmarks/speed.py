"""Measures a bundled model on one pair. `python tests/benchmarks/speed.py [--data FOLDER] [--model NAME]`.

Prints the seconds of network + field + warp with the model loaded (median of 20 calls), and the seconds and the peak
memory of `regzoo register` as a whole process (median of 3).
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from regzoo import backend  # first: it keeps the backend's start-up chatter away
from regzoo.models import zoo
from regzoo.registration import demo
from regzoo.registration.register import register
from regzoo.simulation import synthetic
from regzoo.world.images import Image

CHILD = """
import os, subprocess, sys
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
print(usage.ru_maxrss // 1024)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default=demo.MODEL)
    parser.add_argument("--data", type=Path, help="folder with hippocampus-mr; without it: the synthetic pair")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = _files(Path(folder), arguments.data)
        loaded, images = zoo.load(arguments.model), [Image.read(file) for file in files]
        times = [_seconds(loaded, *images) for _ in range(21)][1:]
        print(f"{arguments.model}, {backend.NAME}, fixed {images[0].shape}, moving {images[1].shape}")
        print(f"network + field + warp, loaded: median {statistics.median(times):.3f} s of {len(times)}")
        command = [
            sys.executable,
            "-c",
            CHILD,
            str(Path(sys.executable).with_name("regzoo")),
            "register",
            *map(str, files),
        ]
        command += ["--model", arguments.model, "--output", str(Path(folder) / "out")]
        runs = [_process(command) for _ in range(3)]
    seconds, memory = statistics.median(run[0] for run in runs), max(run[1] for run in runs)
    print(f"regzoo register, whole process: median {seconds:.1f} s of {len(runs)}, peak {memory} MB")


def _files(folder: Path, data: Path | None) -> tuple[Path, Path]:
    if data is not None:
        return demo.real_files(data)[:2]
    for name, image in zip(("fixed", "moving"), synthetic.synthetic_pair(), strict=False):
        image.save(folder / f"{name}.nii.gz")
    return folder / "fixed.nii.gz", folder / "moving.nii.gz"


def _seconds(model, fixed, moving) -> float:
    seconds = register(fixed, moving, model).facts["seconds"]
    return seconds["network"] + seconds["warp"]


def _process(command: list[str]) -> tuple[float, int]:
    start = time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return time.perf_counter() - start, int(done.stdout)


if __name__ == "__main__":
    main()
