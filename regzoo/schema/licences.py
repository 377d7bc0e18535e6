"""What a model's licence asks of the models that start from it: to share alike, to stay non-commercial, or none."""

import re

UNKNOWN = (None, "unknown", "other")
_FAMILIES = "a?gpl|lgpl(lr|-lr)?|gfdl|osl|nposl|eupl|mpl|epl|cpl|ipl|cddl|apsl|rpl|rpsl|sspl|cecill(-c)?|ms-[pr]l|ofl"
_OTHERS = "odbl|cdla-sharing|lal|cal|cern-ohl(-[sw])?|tapr-ohl|liliq-r(plus)?|copyleft-next|parity|sleepycat|qpl|.*-sa"
_COPYLEFT = re.compile(rf"({_FAMILIES}|{_OTHERS})(-\d.*|$)|.*rail")
"""Licences that a model made from one must have itself, or a later version of it: what is share-alike or copyleft of
the names of Hugging Face and SPDX, also file by file, for weights that were trained on are a file that was changed."""
_UNVERSIONED = ("gfdl", "odbl")
"""Families that Hugging Face knows by no version."""
_INTO = {"lgpl": ("gpl",), "mpl": ("gpl", "lgpl", "agpl")}
"""Families that a family's own words allow instead, of no earlier a first number, but where an exception is written."""
_NON_COMMERCIAL = re.compile(r"(.*-)?nc(-|$)|.*(noncommercial|research)|apple-amlr|deepfloyd")


def expected(parent: str | None, licence: str | None) -> str:
    """Says what licence is expected of a model that starts from another one.

    Args:
        parent: The licence of the other one, as Hugging Face or SPDX writes it: `cc-by-sa-4.0`.
        licence: That of the model; None as long as it has none.

    Returns:
        What is expected, in words; empty if the licence allows it, or if the parent's is not known.
    """
    if parent in UNKNOWN:
        return ""
    parent = parent.lower()
    if "nd" in parent.split("-"):
        return f"no model that starts from it, since {parent} allows none"
    if licence is None:
        return ""
    licence = licence.lower()
    if _COPYLEFT.match(parent) and not _alike(parent, licence):
        later = "" if parent.endswith("-only") else ", or a later version of it"
        return f"{parent}{later}, by which it is shared alike"
    if non_commercial(parent) and not non_commercial(licence):
        return f"a licence that is non-commercial (nc), as {parent} is"
    return ""


def non_commercial(licence: str | None) -> bool:
    """Tells whether a licence, as Hugging Face or SPDX writes it, allows no commercial use.

    Example:
        >>> non_commercial("cc-by-nc-sa-4.0"), non_commercial("cc-by-sa-4.0"), non_commercial(None)
        (True, False, False)
    """
    return bool(licence and _NON_COMMERCIAL.match(licence.lower()))


def _alike(parent: str, licence: str) -> bool:
    """Tells whether a licence is that of the parent, a later version of it, or one that it allows instead."""
    (family, version), (mine, later) = _version(parent), _version(licence)
    if mine in _INTO.get(family, ()):
        return later[:1] >= version[:1] and not parent.endswith("-no-copyleft-exception")
    late = later == version if parent.endswith("-only") else later >= version
    return mine == family and (late or (not later and family in _UNVERSIONED))


def _version(licence: str) -> tuple[str, tuple[int, ...]]:
    """Splits `cc-by-sa-3.0-igo` into family and version; `gpl` has none, which is before all others."""
    family, version = re.fullmatch(r"(.*?)(?:-?(\d+(?:\.\d+)*)(?:-[a-z-]+)?)?", licence).groups()
    return family, tuple(map(int, version.split("."))) if version else ()
