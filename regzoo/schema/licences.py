"""What a model's licence asks of the models that start from it: to share alike, to stay non-commercial, or none."""

import re

UNKNOWN = (None, "unknown", "other")
_COPYLEFT = re.compile(r"((a|l)?gpl|osl|eupl)(-|$)|.*rail|.*-sa(-|$)")
"""Licences that a model made from one must have itself, or a later version of it."""


def expected(parent: str | None, licence: str | None) -> str:
    """Says what licence is expected of a model that starts from another one.

    Args:
        parent: The licence of the other one, as Hugging Face writes it: `cc-by-sa-4.0`.
        licence: That of the model; None as long as it has none.

    Returns:
        What is expected, in words; empty if the licence allows it, or if the parent's is not known.
    """
    if parent in UNKNOWN:
        return ""
    parent, asked = parent.lower(), parent.lower().split("-")
    if "nd" in asked:
        return f"no model that starts from it, since {parent} allows none"
    if licence is None:
        return ""
    licence = licence.lower()
    (family, version), (mine, later) = _version(parent), _version(licence)
    if _COPYLEFT.match(parent) and not (mine == family and later >= version):
        return f"{parent}, or a later version of it, by which it is shared alike"
    if "nc" in asked and "nc" not in licence.split("-"):
        return f"a licence that is non-commercial (nc), as {parent} is"
    return ""


def _version(licence: str) -> tuple[str, tuple[int, ...]]:
    """Splits `cc-by-sa-4.0` into family and version."""
    match = re.fullmatch(r"(.*?)-?(\d+(?:\.\d+)*)?(-only|-or-later)?", licence)
    return match[1], tuple(map(int, (match[2] or "0").split(".")))
