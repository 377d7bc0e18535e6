"""Makes a hub's folder of the versions that the models of the zoo had before: `FOLDER/NAME@VERSION`.

    python tests/tools/older_versions.py FOLDER
    REGZOO_HUB=FOLDER regzoo register ... --model NAME@VERSION

They are read from the repository's history, each as the last commit of its card left it, and every byte is held against
that card. What FOLDER holds already is left as it is.
"""

import io
import subprocess
import sys
import tarfile
from pathlib import Path

from regzoo import hub
from regzoo.hub import cards
from regzoo.io.files import atomic_folder

ROOT = Path(__file__).resolve().parents[2]


def git(*arguments: str) -> bytes:
    return subprocess.run(["git", "-C", str(ROOT), *arguments], check=True, capture_output=True).stdout


def version_of(commit: str, card: str) -> str:
    lines = git("show", f"{commit}:{card}").decode().splitlines()
    return next(line.split("'")[1] for line in lines if line.startswith("version: "))


def main(folder: Path) -> None:
    """Writes every older version of every model, and prints its name."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, place in cards.bundled().items():
        card = f"zoo_cards/{name}/{cards.README}"
        done = {cards.read(place).version}
        for commit in git("log", "--diff-filter=AM", "--format=%H", "--", card).decode().split():
            version = version_of(commit, card)
            if version in done:
                continue
            done.add(version)
            target = folder / f"{name}@{version}"
            if not target.exists():
                files = git("-c", "core.autocrlf=false", "archive", f"{commit}:zoo_cards/{name}")
                with atomic_folder(target) as made, tarfile.open(fileobj=io.BytesIO(files)) as archive:
                    archive.extractall(made, filter="data")
                    hub.resolve(made)
            print(target.name)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
