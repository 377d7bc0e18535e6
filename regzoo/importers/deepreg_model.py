"""DeepReg's method and backbone as regzoo's model."""

from collections.abc import Sequence

import numpy as np

from regzoo.errors import invalid
from regzoo.importers.sections import Section

_DEEPEST = 6
"""Of regzoo's resolution levels."""


def model(train: Section, spacing: Sequence[float]) -> dict:
    """Returns the recipe's `model`.

    Args:
        train: The config's section `train`, of version 0.1.1 or 1.0.
        spacing: Millimetres a voxel of the network's grid; DeepReg's control points are voxels apart.

    Raises:
        InvalidError: If the method or the backbone is none of DeepReg's own, or they do not fit.
    """
    while "model" in train:  # 0.1.1
        train.lift("model")
    method = train.choice("method", ("ddf", "dvf", "conditional", "affine"))
    backbone = _backbone(train)
    name = backbone.choice("name", ("local", "unet", "global"))
    if (name == "global" and method not in ("ddf", "affine")) or (name != "global" and method == "affine"):
        raise invalid(train.at("method"), "'ddf' with the backbone 'global', and only with it 'affine'", repr(method))
    levels = backbone.integers("extract_levels", None if name == "local" or "depth" not in backbone else (0,))
    depth = backbone.integer("depth", max(levels))
    found = {"name": name, "channels": _channels(backbone, depth), "pooling": backbone.flag("pooling", True)}
    if name == "unet":
        found["concat_skip"] = backbone.flag("concat_skip", False)
    if name == "local":
        found["use_additive_upsampling"] = backbone.flag("use_additive_upsampling", True)
    output = _output(backbone, "affine" if name == "global" else method, levels, depth, spacing)
    if output["name"] in ("ddf", "dvf") and len(levels) > 1:
        found["extract_levels"] = sorted(set(levels))
    _leave_fixed(backbone, name)
    backbone.close()
    return {"dims": 3, "backbone": found, "output": output}


def _backbone(train: Section) -> Section:
    """Returns the backbone's section; in 0.1.1 its name stood alone, beside sections with the settings of each."""
    if not isinstance(train.peek("backbone"), str):
        return train.section("backbone")
    path, name = train.at("backbone"), train.take("backbone")
    backbone = train.section(name)
    backbone.put("name", name, path)
    train.leave(("local", "unet", "global"), "settings of a backbone that is not used")
    return backbone


def _channels(backbone: Section, depth: int) -> list[int]:
    if not 1 <= depth <= _DEEPEST:
        raise invalid(backbone.at("depth"), f"1 to {_DEEPEST}", depth)
    if "encode_num_channels" in backbone:
        backbone.leave("num_channel_initial", "encode_num_channels are used in its place, as in DeepReg")
        channels = backbone.integers("encode_num_channels")
    else:
        first = backbone.integer("num_channel_initial")
        channels = [first * 2**level for level in range(depth + 1)]
    if len(channels) != depth + 1:
        raise invalid(backbone.at("encode_num_channels"), f"{depth + 1} values", channels)
    if backbone.integers("decode_num_channels", channels) != channels:
        backbone.note("decode_num_channels", "regzoo's decoder has the encoder's channels")
    return channels


def _output(backbone: Section, method: str, levels: list[int], depth: int, spacing: Sequence[float]) -> dict:
    """Returns the recipe's output; DeepReg brings predictions to full resolution before it averages or integrates."""
    points = backbone.take("control_points")
    if points and method == "ddf":
        return _free_form(backbone, points, levels, spacing)
    if points:
        backbone.note("control_points", f"regzoo has control points for a ddf, not with the method '{method}'")
    if method == "affine":
        return {"name": "affine"}
    if method == "conditional":
        if levels != [0]:
            backbone.note("extract_levels", "regzoo's conditional model predicts at level 0")
        return {"name": "conditional"}
    level = min(levels)
    if level == depth:
        backbone.note(
            "extract_levels", f"regzoo predicts at a level above the deepest, {depth}; {level} becomes {level - 1}"
        )
        level -= 1
    return {"name": method, "level": level}


def _free_form(backbone: Section, points: object, levels: list[int], spacing: Sequence[float]) -> dict:
    voxels = points if isinstance(points, list) else [points] * 3
    if len(voxels) != 3 or any(isinstance(each, bool) or not isinstance(each, int | float) for each in voxels):
        raise invalid(backbone.at("control_points"), "a number of voxels, or three", repr(points))
    distances = np.array(voxels) * spacing
    if np.ptp(distances) > 1e-6 * distances.max():
        backbone.note("control_points", f"regzoo's are equally far apart along all axes, {distances.min():g} mm here")
    if levels != [0]:
        backbone.note("extract_levels", "regzoo predicts control points at the level of their distance")
    return {"name": "ffd", "spacing": [float(distances.min())]}


def _leave_fixed(backbone: Section, name: str) -> None:
    """Takes settings of the convolutions that regzoo gives no choice of."""
    kernels = "regzoo's convolutions are 3 wide" + (", the first 7" if name != "unet" else "")
    for key in ("encode_kernel_sizes", "decode_kernel_sizes"):
        value = backbone.take(key, 3)
        if {3} != set(value if isinstance(value, list) else [value]):
            backbone.note(key, kernels)
    backbone.only("strides", 2, "every level of regzoo's has half the resolution of the one before")
    backbone.only("padding", "same", "regzoo's convolutions pad")
    if name != "unet":
        backbone.only("concat_skip", False, f"regzoo's backbone '{name}' adds")
    if name == "global":
        backbone.leave("use_additive_upsampling", "the backbone 'global' has no decoder")
