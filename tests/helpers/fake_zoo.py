"""Tiny zoo entries for tests of names and files; the weights are arbitrary bytes."""

import json
from pathlib import Path

from regzoo.hub import cards

SOURCE = {"name": "Made up", "url": "https://example.org", "dataset": "lab/made-up", "license": "CC0", "subjects": 3}
FACTS = {
    "summary": "Registers [brackets] and | bars.",
    "anatomy": "lung",
    "modality": "CT",
    "license": "cc-by-4.0",
    "data": [SOURCE | {"use": "train"}],
    "limits": ["Only for tests."],
    "scores": [
        {
            "metric": "dice",
            "value": 0.8521,
            "sd": 0.02,
            "data": "made up",
            "dataset": "lab/made-up",
            "pairs": 20,
            "command": "regzoo evaluate lung-ct-ddf --pairs pairs.csv",
            "baseline": {"unregistered": 0.56, "other": None},
        }
    ],
}


def make_entry(
    folder: Path, name: str = "lung-ct-ddf", version: str = "1", weights: bytes = b"weights", **facts
) -> Path:
    """Writes a whole zoo entry and returns its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"dims": 3, "output": {"name": "ddf"}}))
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "scores.json").write_text("{}")
    values = FACTS | {"name": name, "version": version, "input": {"shape": [48, 64, 48]}} | facts
    values.setdefault("files", cards.manifest(folder))
    cards.write(folder, cards.Card.model_validate(values), f"# {name}\n\nA *made up* model.")
    return folder


def edit_card(folder: Path, old: str, new: str) -> None:
    """Changes the text of a card behind its back."""
    path = folder / "README.md"
    text = path.read_text(encoding="utf-8")
    if old not in text:
        raise ValueError(f"{old!r} is not in the card")
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
