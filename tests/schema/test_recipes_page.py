"""The page that explains recipes: its example is a recipe, and no key of a recipe is left unsaid."""

import re
from pathlib import Path

import update_readme
import yaml
from pydantic import BaseModel

from regzoo.schema.recipe import Recipe
from regzoo.schema.strict import records_of

PAGE = (Path(__file__).parents[2] / "recipes" / "README.md").read_text(encoding="utf-8")


def test_the_example_is_a_recipe():
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    recipe = Recipe.model_validate(yaml.safe_load(block))
    assert recipe.model.before[0].output.name == "affine"
    assert recipe.loss.symmetric


def test_the_defaults_are_those_of_the_schemas():
    text = update_readme.RECIPES.read_text(encoding="utf-8")
    assert update_readme.updated(text, update_readme.defaults()) == text, "run: python tests/tools/update_readme.py"
    assert "| `model.backbone` *unet* | channels [16, 32, 48, 64], convolutions 2, pooling true," in text
    assert "| `data.prior` *breathing* | diaphragm 40, wall 0.25," in text


def test_every_key_is_on_the_page():
    seen, todo = set(), [Recipe]
    while todo:
        record = todo.pop()
        if record not in seen:
            seen.add(record)
            todo += [held for field in record.model_fields.values() for held in records_of(field)]
    ours = [each for each in seen if each.__module__ not in ("regzoo.schema.card", "regzoo.schema.recipe")]
    assert all(issubclass(each, BaseModel) for each in ours)
    assert len(ours) > 20
    told = PAGE.partition("## Defaults")[0]
    absent = {name for each in ours for name in each.model_fields if not re.search(rf"\b{name}\b", told)}
    assert absent == set()
