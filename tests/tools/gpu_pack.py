"""Packs what a training needs for a machine with a GPU and without a package index.

`python tests/tools/gpu_pack.py RECIPE PACK --data FOLDER [--python 3.12] [--there numpy scipy ...] [--with jax]`, or
`make gpu-pack RECIPE=... PACK=... DATA=...`, writes the folder PACK:

    wheels/      regzoo and what it needs, for that Python on Linux, but for what is `--there`; backends by `--with`
    data/        the images and labels that the recipe trains and validates on; none of the test images
    recipe.yaml
    train.sh     `bash PACK/train.sh RUN` installs the wheels, trains, and leaves the run folder at RUN

One command sends it by ssh, trains there and brings the run folder back:

    tar c PACK | ssh HOST 'tar x && bash PACK/train.sh run >&2; tar c run' | tar x

Called there again, `train.sh` goes on where it was stopped.
"""

import argparse
import itertools
import shutil
import subprocess
import sys
from pathlib import Path

from regzoo.data.draws import Files, sides
from regzoo.schema.recipe import Recipe
from regzoo.training.recipe_data import data_of

ROOT = Path(__file__).parents[2]
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
BACKENDS = ("torch", "jax", "tensorflow-cpu")

TRAIN = """#!/bin/bash
# bash train.sh RUN: trains recipe.yaml on data/ and leaves the run folder at RUN. The wheels go where PYTHON (python3)
# has its packages, beside those that it has; KERAS_BACKEND is BACKEND unless it is set.
set -eu
pack=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
PIP_BREAK_SYSTEM_PACKAGES=1 "$python" -m pip install --quiet --no-index --find-links "$pack/wheels" NAMES
export KERAS_BACKEND="${KERAS_BACKEND:-BACKEND}"
"$python" -m regzoo finetune "$pack/recipe.yaml" --data "$pack/data" --output "$1"
"""


def wheels(folder: Path, python: str, there: list[str], backends: list[str]) -> None:
    """Writes the wheels of regzoo, of all that it needs, but for what is there, and of backends."""
    pip = [sys.executable, "-m", "pip"]
    subprocess.run([*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT], check=True)
    platforms = [f"--platform=manylinux_2_{minor}_x86_64" for minor in (28, 27, 17)]
    target = [*platforms, "--platform=manylinux2014_x86_64", f"--python-version={python}", "--only-binary=:all:"]
    (own,) = folder.glob("regzoo-*.whl")
    subprocess.run([*pip, "download", "--quiet", *target, "--dest", folder, own, *backends], check=True)
    for path in folder.glob("*.whl"):
        if path.name.split("-")[0].lower() in {name.replace("-", "_").lower() for name in there}:
            path.unlink()


def used(recipe: Recipe, data: Path) -> list[Path]:
    """Returns the files in the recipe's folder that training and validation read, and its tables."""
    root, kind = data / recipe.data.root, data_of(recipe, data)
    if not hasattr(kind, "train_draw"):
        return [path for path in root.rglob("*") if path.is_file()]
    files = itertools.chain(kind.train_draw().items, *map(sides, kind.pairs("valid")))
    tables = [path for path in root.iterdir() if path.suffix in (".json", ".csv")] if root.is_dir() else []
    return [*dict.fromkeys(path for each in files for path in paths(each)), *tables]


def paths(files: Files) -> list[Path]:
    """Returns an image and, if it has some, its labels."""
    return [path for path in (files.image, files.labels) if path is not None]


def script(backends: list[str]) -> str:
    """Returns `train.sh`, which trains under the first of the backends in the pack, or else under torch."""
    backend, names = backends[0].split("-")[0] if backends else "torch", " ".join(["regzoo", *backends])
    return TRAIN.replace("NAMES", names).replace("is BACKEND", f"is {backend}").replace("-BACKEND", f"-{backend}")


def pack(recipe: Path, folder: Path, data: Path, python: str, there: list[str], backends: list[str]) -> None:
    """Writes the pack; see above."""
    if folder.exists():
        raise SystemExit(f"{folder} exists. Remove it, or name another.")
    read = Recipe.read(recipe)
    parents = (read.parent,) if isinstance(read.parent, str) else read.parent or ()
    if elsewhere := [each for each in parents if each and "/" in each]:
        raise SystemExit(f"parent: expected a bundled model, which is in regzoo's wheel, received {elsewhere[0]}")
    files = used(read, data)
    wheels(folder / "wheels", python, there, backends)
    for path in files:
        place = folder / "data" / path.relative_to(data)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
    shutil.copyfile(recipe, folder / "recipe.yaml")
    (folder / "train.sh").write_text(script(backends), encoding="utf-8")
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{folder}: {size / 2**20:.1f} MiB. There: bash {folder.name}/train.sh RUN")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--python", default=PYTHON, help="version there")
    parser.add_argument("--there", nargs="*", default=[], metavar="NAME", help="packages that the machine has")
    parser.add_argument("--with", dest="backends", choices=BACKENDS, nargs="*", default=[], help="backends not there")
    args = parser.parse_args()
    pack(args.recipe, args.folder, args.data, args.python, args.there, args.backends)


if __name__ == "__main__":
    main()
