"""The figures of one registration under flat names, as tables have them."""

from collections.abc import Mapping

VOLUME = ("folds", "folded_volume", "sdlogj", "sdlogj_l2r", "squeezed", "stretched")
"""What the field does to volume."""


def _ways(name: str) -> tuple[str, ...]:
    """Names a figure, which is the mean of both ways, or for points that of the map; and the figure each way."""
    return name, f"{name}_forward", f"{name}_inverse"


def figures(facts: Mapping) -> dict[str, float]:
    """Returns the figures of one registration, of what `result.json` holds, under flat names."""
    row: dict[str, float] = {}
    for when in ("before", "after"):
        scores = facts["scores"][when]
        if "ncc" in scores:
            row[f"ncc_{when}"] = scores["ncc"]
        for name in ("dice", "hd95", "centroid"):
            row |= {f"{way}_{when}": scores[f"mean_{way}"] for way in _ways(name) if way in scores}
            row |= {f"{name}_{label}_{when}": value for label, value in scores.get(name, {}).items()}
        row |= {f"{way}_{when}": scores[way]["mean"] for way in _ways("tre") if way in scores}
    row |= {key: value for key, value in facts.get("jacobian", {}).items() if key in VOLUME}
    if "inverse_residual" in scores:
        row |= {"inverse_residual": scores["inverse_residual"]["mean"]}
    error = facts.get("error")
    row |= {"error": error["mean"], "error_bound": error["bound"]} if error else {}
    seconds = facts["seconds"]
    row |= {f"{step}_seconds": seconds[step] for step in ("network", "warp") if step in seconds}
    return row | {"warnings": " ".join(facts["warnings"])}
