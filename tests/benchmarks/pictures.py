"""Draws the pictures of a model's card from its test pairs: the pair in the middle by score, and the three worst.

    python tests/benchmarks/pictures.py NAME_OR_FOLDER --data FOLDER --output FOLDER

Writes sample.png and worst.png, the pictures that `regzoo register` draws, of pairs that `evaluate --record` scored.
Only for data whose licence allows it.
"""

import argparse
import json
import tempfile
from pathlib import Path

from PIL import Image

import regzoo
from regzoo import cards, datasets, hub
from regzoo.recipe import Recipe

WIDTHS = {cards.SAMPLE: 720, cards.WORST: 480}
"""Pixels of a pair: they stay readable, and three beside each other stay below a megabyte."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    folder = hub.resolve(arguments.model)
    rows = json.loads((folder / cards.SCORES).read_text())["test"]["rows"]
    pairs = datasets.split_pairs(Recipe.read(folder / cards.RECIPE), "test", arguments.data)
    key, sign = ("dice_after", 1) if "dice_after" in rows[0] else ("tre_after", -1)
    order = sorted(range(len(rows)), key=lambda number: sign * rows[number][key])  # the worst first
    model = regzoo.load(arguments.model)
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name, chosen in ((cards.SAMPLE, [order[len(order) // 2]]), (cards.WORST, order[:3])):
        width = WIDTHS[name]
        drawn = [picture(model, pairs[number], width) for number in chosen]
        sheet = Image.new("RGB", (width * len(drawn), max(each.height for each in drawn)), "white")
        for number, each in enumerate(drawn):
            sheet.paste(each, (width * number, 0))
        small(sheet).save(arguments.output / name, optimize=True)
        told = ", ".join(f"{pairs[i].moving.name} -> {pairs[i].fixed.name} {key} {rows[i][key]:.3f}" for i in chosen)
        print(f"{name}: {told}")


def picture(model: object, pair: object, width: int) -> Image.Image:
    with tempfile.TemporaryDirectory() as folder:
        regzoo.register(model=model, **pair.sources()).save(folder)
        image = Image.open(Path(folder) / "report.png").convert("RGB")
    return image.resize((width, round(image.height * width / image.width)), Image.Resampling.LANCZOS)


def small(image: Image.Image) -> Image.Image:
    """Returns a picture with a palette in which rare colours are kept: the Jacobian's bar must not lie."""
    return image.quantize(255, kmeans=2, dither=Image.Dither.NONE)


if __name__ == "__main__":
    main()
