import pytest

from regzoo.errors import InvalidError
from regzoo.schema.losses import Loss, active
from regzoo.schema.strict import validate

EVERYTHING = {
    "image": {
        "ssd": {},
        "ncc": {"weight": 0.5},
        "lncc": {"size": 5, "window": "triangular", "floor": 1e-3},
        "mi": {"num_bins": 32, "sigma_ratio": 1},
        "nmi": {},
        "mind": {"radius": 1, "dilation": 3},
    },
    "label": {
        "dice": {"scales": [0, 1, 2, 4, 8, 16]},
        "jaccard": {"scales": [2.5], "kernel": "cauchy"},
        "cross_entropy": {"background_weight": 0},
        "ssd": {"weight": 0},
        "centroid": {"weight": 0.05},
    },
    "deformation": {"gradient": {"norm": "l1"}, "bending": {}, "elastic": {"mu": 0}, "folding": {"margin": 0.1}},
    "known": {"distance": {"outside": 0.5}},
}


def test_every_term_is_read_and_written():
    loss = validate(Loss, EVERYTHING, "recipe")
    assert loss.label.dice.scales == (0, 1, 2, 4, 8, 16)
    assert list(active(loss.label)) == ["dice", "jaccard", "cross_entropy", "centroid"]
    assert validate(Loss, loss.model_dump(mode="json", exclude_none=True), "recipe") == loss
    assert not loss.symmetric
    with pytest.raises(InvalidError, match="symmetric: expected false, since the inverse of a known field"):
        validate(Loss, EVERYTHING | {"symmetric": True}, "recipe")


@pytest.mark.parametrize(
    ("kind", "name", "settings", "expected"),
    [
        ("image", "lncc", {"window": "gauss"}, "image.lncc.window: expected 'box', 'triangular' or 'gaussian'"),
        ("image", "lncc", {"floor": 0}, "image.lncc.floor: expected greater than 0, received 0."),
        ("image", "mi", {"num_bins": 2}, "image.mi.num_bins: expected greater than or equal to 4, received 2."),
        ("image", "nmi", {"sigma_ratio": 9}, "image.nmi.sigma_ratio: expected less than or equal to 4, received 9."),
        ("image", "mind", {"radius": 0}, "image.mind.radius: expected greater than or equal to 1, received 0."),
        ("image", "ncc", {"size": 7}, "image.ncc.size: unknown key. Known: weight."),
        ("label", "dice", {"scales": []}, "label.dice.scales: Tuple should have at least 1 item"),
        ("label", "dice", {"scales": [0, 17]}, "label.dice.scales[1]: expected less than or equal to 16, received 17."),
        ("label", "jaccard", {"kernel": "box"}, "label.jaccard.kernel: expected 'gaussian' or 'cauchy'"),
        ("label", "cross_entropy", {"background_weight": 2}, "background_weight: expected less than or equal to 1"),
        ("label", "centroid", {"scales": [1]}, "label.centroid.scales: unknown key. Known: weight."),
        ("deformation", "elastic", {"mu": 0, "lam": 0}, "deformation.elastic: expected mu or lam above 0."),
        ("deformation", "folding", {"margin": 1}, "deformation.folding.margin: expected less than 1, received 1."),
        ("deformation", "elastic", {"lambda": 1}, "deformation.elastic.lambda: unknown key."),
    ],
)
def test_bad_settings_are_refused_by_path(kind, name, settings, expected):
    with pytest.raises(InvalidError) as caught:
        validate(Loss, {"image": {"ssd": {}}, kind: {name: settings}}, "recipe")
    assert expected in str(caught.value)
