"""Breaks a cohort on a Dask cluster in the ways that clusters break, and compares what is left with an unbroken one.

`KERAS_BACKEND=tensorflow python tests/tools/cohorts.py faults HIPPOCAMPUS [PAIRS]`, HIPPOCAMPUS being the data set's
folder with `images` and `labels`, registers so many pairs (200) by hippocampus-mr-dvf three times: by one process; by
`--workers 2`; and on a scheduler with two worker processes, of which one is killed, then the scheduler, each by by
SIGKILL and started again, onto a disk that has room for half of the results (a tmpfs, which takes root) and is then
made larger.
It prints seconds, and how the last two differ from the first.

`KERAS_BACKEND=tensorflow python tests/tools/cohorts.py memory [PAIRS]` prints the memory of the larger of two workers
over pairs of different shapes, for a model and for a method.

`KERAS_BACKEND=tensorflow python tests/tools/cohorts.py cost HIPPOCAMPUS [PAIRS]` prints what a pair takes, of the
processor's time and of the disk, and what a hundred thousand of them would.
"""

import contextlib
import csv
import functools
import itertools
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np

import regzoo
from regzoo.errors import RegzooError
from regzoo.io.files import LISTING, check_listed
from regzoo.world.images import Image

tell = functools.partial(print, flush=True)
MODEL, PORT = "hippocampus-mr-dvf", 8799
ADDRESS = f"tcp://127.0.0.1:{PORT}"
FIELD_MM, GREY = 1e-3, 1e-3
"""What of a field, and of the range of a moved image, two numbers of threads may differ by."""


def main() -> None:
    """Does what the command line says."""
    kind, *rest = sys.argv[1:]
    with tempfile.TemporaryDirectory(prefix="cohorts-") as folder:
        if kind == "cost":
            cost(Path(folder), Path(rest[0]), int(rest[1]) if rest[1:] else 20)
        elif kind == "memory":
            memory(Path(folder), int(rest[0]) if rest else 200)
        else:
            faults(Path(folder), Path(rest[0]), int(rest[1]) if rest[1:] else 200)


def faults(home: Path, data: Path, count: int) -> None:
    """Registers the pairs thrice."""
    table = pairs(home, data, count)
    tell(f"{count} pairs, under {os.environ.get('KERAS_BACKEND')}, load before: {os.getloadavg()[0]:.1f}")
    one = cohort(table, home / "one")
    tell(f"one process: {one}, load {os.getloadavg()[0]:.1f}; {size(home / 'one') / count / 1e6:.2f} MB a pair")
    two = cohort(table, home / "two", "--workers", "2")
    tell(f"two workers: {two}, load {os.getloadavg()[0]:.1f}")
    compare(home / "one", home / "two", count)
    with disk(home / "broken", size(home / "one") // 2) as enlarge, cluster(home) as (worker, scheduler):
        kills = threading.Thread(target=broken, args=(home / "broken", worker, scheduler, count), daemon=True)
        kills.start()
        tell(f"broken: {cohort(table, home / 'broken', '--scheduler', ADDRESS)}")
        told = Counter(why.read_text().split(":")[0].split("]")[0] for why in (home / "broken").glob("*.error.txt"))
        tell(f"  {wholes(home / 'broken')} whole; failures kept: {dict(told)}")
        enlarge()
        tell(f"again, on a larger disk: {cohort(table, home / 'broken', '--scheduler', ADDRESS)}")
        compare(home / "one", home / "broken", count)


def pairs(home: Path, data: Path, count: int) -> Path:
    """Writes a table of pairs of neighbours in the list of images."""
    names = sorted(path.name for path in (data / "images").iterdir())[: count + 1]
    table = home / "pairs.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("fixed", "moving", "fixed_labels", "moving_labels"))
        for fixed, moving in itertools.pairwise(names):
            writer.writerow([data / kind / name for kind in ("images", "labels") for name in (fixed, moving)])
    return table


def cohort(table: Path, output: Path, *options: str) -> str:
    """Runs the command; returns what it told, and the seconds."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "regzoo", "cohort", str(table), "-o", str(output), "-m", MODEL, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    end = done.stderr.splitlines()[-1:] if not done.stdout else []
    return f"{' '.join([done.stdout.strip(), *end])}, exit {done.returncode}, {time.perf_counter() - started:.0f} s"


def size(folder: Path) -> int:
    """Returns the bytes of the blocks that files take."""
    return sum(-(-path.stat().st_size // 4096) * 4096 for path in folder.rglob("*") if path.is_file())


@contextlib.contextmanager
def disk(folder: Path, room: int):
    """Mounts a small disk; gives what makes it large."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={room}", "tmpfs", str(folder)], check=True)
    try:
        yield lambda: subprocess.run(["mount", "-o", f"remount,size={8 * room}", str(folder)], check=True)
    finally:
        subprocess.run(["umount", str(folder)], check=True)


class Kept:
    """A process that is started again when it ends, as a cluster's job system does."""

    def __init__(self, *command: str, log: Path) -> None:
        self.command, self.log, self.wanted, self.starts = command, log, True, 0
        self.process = None
        self.thread = threading.Thread(target=self._keep, daemon=True)
        self.thread.start()

    def _keep(self) -> None:
        while self.wanted:
            with self.log.open("a") as log:
                self.process = subprocess.Popen(self.command, stdout=log, stderr=log)
            self.starts += 1
            self.process.wait()
            time.sleep(1)

    def end(self) -> None:
        """Kills it for good."""
        self.wanted = False
        self.process.kill()
        self.thread.join()


@contextlib.contextmanager
def cluster(home: Path):
    """Starts a scheduler and two workers of one thread each; gives one of the workers and the scheduler."""
    for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ[name] = "1"
    run = (sys.executable, "-m", "distributed.cli.dask_scheduler", "--port", str(PORT), "--no-dashboard")
    work = (sys.executable, "-m", "distributed.cli.dask_worker", ADDRESS, "--no-nanny", "--nthreads", "1")
    work = (*work, "--memory-limit", "0", "--no-dashboard", "--local-directory", str(home))
    kept = [Kept(*run, log=home / "scheduler.log"), *(Kept(*work, log=home / f"worker{i}.log") for i in range(2))]
    try:
        yield kept[1], kept[0]
    finally:
        for each in reversed(kept):
            each.end()


def broken(output: Path, worker: Kept, scheduler: Kept, count: int) -> None:
    """Kills a worker after a tenth of the pairs, and the scheduler after a quarter."""
    for share, process, name in ((10, worker, "a worker"), (4, scheduler, "the scheduler")):
        while wholes(output) < max(1, count // share):
            time.sleep(0.2)
        process.process.kill()
        tell(f"  {name} killed at {wholes(output)} results")


def wholes(output: Path) -> int:
    """Counts the results that are listed."""
    return sum(1 for _ in output.glob(f"*/{LISTING}"))


def compare(one: Path, other: Path, count: int) -> None:
    """Prints how the results differ, which are not whole, and what else lies there."""
    field = grey = damaged = 0.0
    for folder in sorted(path for path in one.iterdir() if path.is_dir()):
        for path in (other / folder.name).iterdir():
            try:
                check_listed(path)
            except RegzooError:
                damaged += 1
        moved = [Image.read(each / folder.name / "moved.nii.gz").array for each in (one, other)]
        grids = [Image.read(each / folder.name / "moved.nii.gz").grid for each in (one, other)]
        fields = [
            regzoo.Transform.load(each / folder.name / "transform.nii.gz").displacement(grid)
            for each, grid in zip((one, other), grids, strict=True)
        ]
        field = max(field, float(np.abs(fields[0] - fields[1]).max()))
        grey = max(grey, float(np.abs(moved[0] - moved[1]).max() / np.ptp(moved[0])))
    hidden = [path for path in other.rglob(".*") if path.is_dir()]
    errors = [*other.glob("*.error.txt")]
    tell(
        f"  {wholes(other)} of {count} results, {damaged:.0f} damaged files, {len(hidden)} leftovers, "
        f"{len(errors)} kept errors; fields differ by {field:.1e} mm at most, moved images by {grey:.1e} of their range"
    )
    assert field <= FIELD_MM and grey <= GREY and wholes(other) == count and not damaged  # noqa: PT018


def cost(home: Path, data: Path, count: int) -> None:
    """Prints the processor's seconds of the start and of a pair (the median but for the first), and its bytes."""
    marks = [time.process_time()]  # of all threads; what else the machine does hardly changes it
    regzoo.cohort(pairs(home, data, count), home / "out", MODEL, progress=lambda _: marks.append(time.process_time()))
    each = float(np.median(np.diff(marks[1:])))
    room = size(home / "out") / count
    tell(f"{count} pairs by {MODEL}: {marks[1]:.1f} CPU s to the end of the first, then {each:.2f} a pair (median)")
    tell(f"{room / 1e6:.2f} MB a pair; {len([*(home / 'out').glob('*/*')]) / count:.0f} files")
    tell(f"100,000 pairs: {1e5 * each / 3600:.0f} CPU hours, {1e5 * room / 1e9:.0f} GB")


def memory(home: Path, count: int) -> None:
    """Prints the memory of the larger of two workers over pairs of random shapes."""
    draw, shapes = random.Random(0), []
    for number in range(count):
        shapes.append(tuple(draw.randint(24, 48) for _ in range(3)))
        values = np.random.default_rng(number).random(shapes[-1]).astype("float32")
        Image(values, np.eye(4)).save(home / f"{number}.nii.gz")
    table = [{"fixed": home / f"{n}.nii.gz", "moving": home / f"{(n + 1) % count}.nii.gz"} for n in range(count)]
    for name, how in {"model": {"model": MODEL}, "method": {"method": "affine,dvf", "iterations": 2}}.items():
        seen = []
        regzoo.cohort(table, home / name, workers=2, progress=lambda _, seen=seen: seen.append(resident()), **how)
        marks = [max(seen[i : i + count // 10]) for i in range(0, count, count // 10)]
        tell(f"{name}: MB at most in each tenth of {count} pairs: {' '.join(f'{mark:.0f}' for mark in marks)}")


def resident() -> float:
    """Returns how many MB of memory the largest of this process's own has."""
    import psutil

    found = [0.0]
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            found.append(process.memory_info().rss / 1e6)
    return max(found)


if __name__ == "__main__":
    main()
