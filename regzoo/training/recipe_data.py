"""The data of a recipe: the object of their kind, which knows what to train, to validate and to test on."""

from pathlib import Path

from regzoo.data.kinds import Kind
from regzoo.data.tables import PairFiles
from regzoo.errors import invalid
from regzoo.schema.data import KINDS
from regzoo.schema.recipe import Recipe, data_home


def data_of(recipe: Recipe, home: str | Path | None = None) -> Kind:
    """Returns the data of a recipe.

    Args:
        recipe: The recipe.
        home: Folder that `data.root` is relative to; see `data_home`.
    """
    return KINDS[recipe.data.kind].function()(recipe, data_home(home))


def split_pairs(recipe: Recipe, split: str, home: str | Path | None = None) -> list[PairFiles]:
    """Returns the pairs of a split that a recipe's model is scored on.

    Args:
        recipe: Its `data` names the files.
        split: `"valid"` or `"test"`. Of single images, pairs are drawn by the recipe's seed; but test pairs that a
            splits file lists as `test_pairs`, (moving, fixed), are those.
        home: Folder that `data.root` is relative to; see `data_home`.

    Raises:
        RegzooError: If a file is missing, the recipe has no such split, or splits overlap.
    """
    if split not in ("valid", "test"):
        raise invalid("split", "'valid' or 'test'", split)
    return data_of(recipe, home).pairs(split)
