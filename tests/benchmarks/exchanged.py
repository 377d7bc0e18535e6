"""What of a model's overlap is left when its velocity must be the same for both directions of a pair.

    python tests/benchmarks/exchanged.py --model NAME --data FOLDER [--split valid]

Scores a model of output dvf as it is, and with half the difference of what it predicts for a pair and for the pair
exchanged: a network that draws labels together, whichever image is the fixed one, loses what it gained by it.
"""

import argparse

import regzoo
from regzoo import hub
from regzoo.hub import cards
from regzoo.models.network import Network
from regzoo.schema.outputs import DVFConfig
from regzoo.schema.recipe import Recipe
from regzoo.training import recipe_data


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--split", default="valid")
    arguments = parser.parse_args()
    recipe = Recipe.read(hub.resolve(arguments.model) / cards.RECIPE)
    pairs = recipe_data.split_pairs(recipe, arguments.split, arguments.data)
    for symmetric in (False, True):
        model = regzoo.load(arguments.model)
        for part in model._flatten_layers():
            if isinstance(part, Network) and isinstance(part.meaning.config, DVFConfig):
                part.meaning.config = part.meaning.config.model_copy(update={"symmetric": symmetric})
        found = regzoo.evaluate(model, pairs).summary()
        figures = {key: f"{found[key]['mean']:.4f} ± {found[key]['sd']:.4f}" for key in ("dice_after", "sdlogj")}
        print(f"{arguments.model} symmetric {symmetric}, {len(pairs)} pairs: {figures}", flush=True)


if __name__ == "__main__":
    main()
