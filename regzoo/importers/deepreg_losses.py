"""DeepReg's losses as regzoo's terms. DeepReg counts in voxels, and regzoo's deformation losses in millimetres."""

from collections.abc import Callable, Sequence

import numpy as np

from regzoo.importers.sections import Section

Terms = dict[str, dict]
"""Name of regzoo's loss -> its weight and settings."""

_SMOOTH = "regzoo's losses have constants of their own against division by 0"
_LARGEST_SCALE, _LARGEST_WINDOW = 16, 31


def image_terms(loss: Section) -> Terms:
    """Returns the terms of `image`: ssd, lncc, gmi, gncc."""
    return _terms(loss, "image", _IMAGE)


def label_terms(loss: Section) -> Terms:
    """Returns the terms of `label`: dice, jaccard, cross-entropy, ssd."""
    return _terms(loss, "label", _LABEL)


def deformation_terms(loss: Section, spacing: Sequence[float]) -> Terms:
    """Returns the terms of `regularization`: gradient, bending.

    Args:
        loss: The config's losses.
        spacing: Millimetres a voxel of the network's grid, by whose mean weights are scaled.
    """
    found = _terms(loss, "regularization", _DEFORMATION)
    if "gradient" in found:  # DeepReg adds up the derivatives along the three axes, regzoo averages them
        _scale(found["gradient"], 3)
    if "bending" in found:  # a second derivative of mm by mm is that in voxels over the spacing; it counts squared
        _scale(found["bending"], float(np.mean(spacing)) ** 2)
        if np.ptp(spacing) > 0:
            loss.note(
                "regularization", "bending counts in mm, and its weight is scaled by the mean of the three spacings"
            )
    return found


def _scale(term: dict, factor: float) -> None:
    term["weight"] = float(f"{term['weight'] * factor:.12g}")  # 3 * 0.1 is 0.30000000000000004


def _terms(loss: Section, kind: str, readers: dict[str, Callable]) -> Terms:
    sections = loss.sections(kind)
    found: Terms = {}
    for i, section in enumerate(sections):
        _modernise(section, readers)
        name, weight = section.take("name"), section.number("weight", 1.0)
        if name not in readers:
            section.note("name", f"regzoo has no loss '{name}' from DeepReg's {kind} losses, so all of it is left out")
            continue
        new, settings = readers[name](section)
        section.close()
        if weight == 0 and i + 1 < len(sections):
            section.note("weight", "DeepReg leaves out the losses listed after a weight of 0; regzoo trains on them")
        if new not in found:
            found[new] = {"weight": weight, **settings}
        elif found[new] == {"weight": found[new]["weight"], **settings}:
            found[new]["weight"] += weight
        else:
            section.note("name", f"regzoo has one '{new}', so this second one of other settings is left out")
    return found


def _modernise(section: Section, readers: dict[str, Callable]) -> None:
    """Brings a loss of version 0.1.1 to the form of 1.0."""
    if "energy_type" in section:
        kind = section.choice("energy_type", ("bending", "gradient-l1", "gradient-l2"))
        section.put("name", kind.partition("-")[0], section.at("energy_type"))
        if kind != "bending":
            section.put("l1", kind == "gradient-l1", section.at("energy_type"))
    for form in ("multi_scale", "single_scale"):
        if section.peek("name") == form:
            section.take("name")
            section.lift(form, {"loss_type": "name", "loss_scales": "scales"})
    for name, new in (("mean-squared", "ssd"), ("dice_generalized", "dice"), ("generalised_dice", "dice")):
        if section.peek("name") == name:
            section.put("name", new, section.at("name"))
    if section.peek("name") in section:
        section.lift(section.peek("name"))
    section.leave((*readers, "multi_scale", "single_scale"), "settings of a loss that is not used")


def _plain(name: str) -> Callable[[Section], tuple[str, dict]]:
    return lambda section: (name, {})


def _lncc(section: Section) -> tuple[str, dict]:
    size = section.integer("kernel_size", 9)
    window = section.choice("kernel_type", ("rectangular", "triangular", "gaussian"), "rectangular")
    section.leave(("smooth_nr", "smooth_dr"), _SMOOTH)
    fitting = min(max(size + 1 - size % 2, 3), _LARGEST_WINDOW)
    if fitting != size:
        section.note("kernel_size", f"regzoo's windows are odd, from 3 to {_LARGEST_WINDOW}; {size} becomes {fitting}")
    return "lncc", {"size": fitting, "window": "box" if window == "rectangular" else window}


def _gmi(section: Section) -> tuple[str, dict]:
    return "mi", {"num_bins": section.integer("num_bins", 23), "sigma_ratio": section.number("sigma_ratio", 0.5)}


def _gradient(section: Section) -> tuple[str, dict]:
    return "gradient", {"norm": "l1" if section.flag("l1", False) else "l2"}


def _over_scales(name: str) -> Callable[[Section], tuple[str, dict]]:
    def read(section: Section) -> tuple[str, dict]:
        scales = section.take("scales", [0])
        scales = scales if isinstance(scales, list) else [scales]
        kept = [scale for scale in scales if not isinstance(scale, int | float) or scale <= _LARGEST_SCALE]
        if kept != scales:
            left = ", ".join(str(scale) for scale in scales if scale not in kept)
            section.note("scales", f"regzoo's scales go up to {_LARGEST_SCALE} voxels; {left} is left out")
        settings = {"scales": kept, "kernel": section.choice("kernel", ("gaussian", "cauchy"), "gaussian")}
        section.only("binary", False, "regzoo's label losses have no thresholded form, which has no gradient")
        section.leave(("smooth", "smooth_nr", "smooth_dr"), _SMOOTH)
        if name == "cross_entropy":
            old = section.number("neg_weight", 0.0)
            settings["background_weight"] = section.number("background_weight", old)
            if settings["background_weight"] == 0:
                section.note("background_weight", "0, DeepReg's default: too large a moved label costs nothing")
        else:
            section.only("background_weight", 0, f"regzoo's {name} counts the foreground")
            section.only("neg_weight", 0, f"regzoo's {name} counts the foreground")
        return name, settings

    return read


_IMAGE = {"ssd": _plain("ssd"), "lncc": _lncc, "gmi": _gmi, "gncc": _plain("ncc")}
_LABEL = {
    "dice": _over_scales("dice"),
    "jaccard": _over_scales("jaccard"),
    "cross-entropy": _over_scales("cross_entropy"),
    "ssd": _over_scales("ssd"),
}
_DEFORMATION = {"gradient": _gradient, "bending": _plain("bending")}
