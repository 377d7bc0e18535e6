"""Makes `zoo_cards/NAME` of a finished run, or brings an entry's list of files up to date after a picture was added.

    python tests/tools/update_entry.py NAME [--run FOLDER --recipe FILE] [--half]

The text below the front matter is kept, and so are the scores until `regzoo evaluate zoo_cards/NAME --split test
--record` writes new ones. `--half` keeps the weights in half precision. With REGZOO_ZOO=zoo_noncommercial it is
`zoo_noncommercial/NAME`, of what is in no wheel.
"""

import argparse
import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from regzoo.hub import cards
from regzoo.schema.recipe import Recipe


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("--run", type=Path)
    parser.add_argument("--recipe", type=Path)
    parser.add_argument("--half", action="store_true")
    arguments = parser.parse_args()
    folder = cards.zoo_folder() / arguments.name
    body = cards.read_body(folder) if (folder / cards.README).exists() else f"# {arguments.name}\n"
    if arguments.run:
        folder.mkdir(exist_ok=True)
        for name in (cards.CONFIG, cards.WEIGHTS, cards.SCORES):
            shutil.copyfile(arguments.run / name, folder / name)
        shutil.copyfile(arguments.recipe, folder / cards.RECIPE)
        card = cards.read(arguments.run)
        about = Recipe.read(arguments.recipe)
        card = card.model_copy(update={"name": about.name, "version": about.version, **dict(about.card)})
    else:
        card = cards.read(folder)
    if arguments.half:
        halved = {key: value.astype(np.float16) for key, value in load_file(folder / cards.WEIGHTS).items()}
        save_file(halved, folder / cards.WEIGHTS)
    cards.write(folder, card.model_copy(update={"files": cards.manifest(folder)}), body)


if __name__ == "__main__":
    main()
