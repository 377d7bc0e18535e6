"""Draws the pictures of a model's card from its test pairs: the pair in the middle by score, and the three worst.

    python tests/benchmarks/pictures.py NAME_OR_FOLDER --data FOLDER --output FOLDER

Writes sample.png and worst.png, the pictures that `regzoo register` draws, of pairs that `evaluate --record` scored.
Only for data whose licence allows it. With `--chest CT LUNGS`, files whose licence does, sample.png alone, of two
simulated states of breathing of that chest as it is: neither mirrored nor of another size.
"""

import argparse
import json
import tempfile
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw

import regzoo
from regzoo import hub
from regzoo.hub import cards
from regzoo.schema.recipe import Recipe
from regzoo.simulation import motion
from regzoo.simulation.breathing import breathing_pair
from regzoo.simulation.chests import prepare
from regzoo.training import recipe_data
from regzoo.world import images

WIDTHS = {cards.SAMPLE: 720, cards.WORST: 480}
"""Pixels of a pair: they stay readable, and three beside each other stay below a megabyte."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--chest", nargs=2, type=Path)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    model = regzoo.load(arguments.model)
    if arguments.chest:
        drawn = picture(model, simulated(model, *arguments.chest), WIDTHS[cards.SAMPLE])
        small(drawn).save(arguments.output / cards.SAMPLE, optimize=True)
        return
    folder = hub.resolve(arguments.model)
    rows = json.loads((folder / cards.SCORES).read_text())["test"]["rows"]
    pairs = recipe_data.split_pairs(Recipe.read(folder / cards.RECIPE), "test", arguments.data)
    key, sign = ("dice_after", 1) if "dice_after" in rows[0] else ("tre_after", -1)
    order = sorted(range(len(rows)), key=lambda number: sign * rows[number][key])  # the worst first
    for name, chosen in ((cards.SAMPLE, [order[len(order) // 2]]), (cards.WORST, order[:3])):
        width = WIDTHS[name]
        drawn = [picture(model, pairs[number].sources(), width) for number in chosen]
        if name == cards.WORST:
            drawn = [titled(each, pairs[number]) for each, number in zip(drawn, chosen, strict=True)]
        sheet = Image.new("RGB", (width * len(drawn), max(each.height for each in drawn)), "white")
        for number, each in enumerate(drawn):
            sheet.paste(each, (width * number, 0))
        small(sheet).save(arguments.output / name, optimize=True)
        told = ", ".join(f"{pairs[i].moving.name} -> {pairs[i].fixed.name} {key} {rows[i][key]:.3f}" for i in chosen)
        print(f"{name}: {told}")


def simulated(model: object, ct: Path, lungs: Path) -> dict:
    prior = motion.BreathingPrior(anatomy=0)
    inputs = model.card.input
    chest = prepare(images.Image.read(ct), images.Image.read(lungs, labels=True), inputs.spacing, inputs.shape)
    pair = breathing_pair(chest, 0, prior)
    labels = {f"{name}_labels": getattr(pair, f"{name}_mask") for name in ("fixed", "moving")}
    return {"fixed": pair.fixed, "moving": pair.moving, **labels}


def picture(model: object, sources: dict, width: int) -> Image.Image:
    with tempfile.TemporaryDirectory() as folder:
        regzoo.register(model=model, **sources).save(folder)
        image = Image.open(Path(folder) / "report.png").convert("RGB")
    return image.resize((width, round(image.height * width / image.width)), Image.Resampling.LANCZOS)


def titled(image: Image.Image, pair: object) -> Image.Image:
    """Returns a picture under a line that names its pair."""
    sheet = Image.new("RGB", (image.width, image.height + 22), "white")
    sheet.paste(image, (0, 22))
    name, other = (each.name.split(".")[0] for each in (pair.moving, pair.fixed))
    ImageDraw.Draw(sheet).text((image.width / 2, 12), f"{name} onto {other}", "black", anchor="mm", font_size=14)
    return sheet


def small(image: Image.Image) -> Image.Image:
    """Returns a picture with a palette that holds the colours of the Jacobian's bar, which must not lie."""
    bar = 255 * matplotlib.colormaps["PuOr"](np.linspace(0, 1, 64))[:, :3]
    fixed = np.concatenate([bar, [[255, 0, 0], [255, 255, 0], [0, 255, 255]]]).round().astype(int)
    others = image.quantize(256 - len(fixed), kmeans=2, dither=Image.Dither.NONE).getpalette("RGB")
    palette = Image.new("P", (1, 1))
    palette.putpalette([*fixed.ravel().tolist(), *others])
    return image.quantize(palette=palette, dither=Image.Dither.NONE)


if __name__ == "__main__":
    main()
