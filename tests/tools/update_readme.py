"""Writes the model table of README from the cards of the bundled models. `python tests/tools/update_readme.py`."""

from pathlib import Path

from regzoo.hub import cards

README = Path(__file__).resolve().parents[2] / "README.md"


def table() -> str:
    return cards.model_table(cards.read(folder) for folder in cards.bundled().values())


def updated(text: str) -> str:
    """Returns a README with the table between its two markers replaced."""
    start, rest = text.split("<!-- models -->", 1)
    end = rest.split("<!-- /models -->", 1)[1]
    return start + table() + end


if __name__ == "__main__":
    README.write_text(updated(README.read_text(encoding="utf-8")), encoding="utf-8", newline="\n")
