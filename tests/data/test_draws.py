from collections import Counter

import numpy as np
import pytest

from regzoo.data.draws import Files, Grouped, Paired, Unpaired, different
from regzoo.errors import InvalidError

GROUPS = (("a1", "a2", "a3", "a4"), ("b1", "b2"), ("c1", "c2", "c3"))
IMAGES = [image for group in GROUPS for image in group]


def drawn(draw, count=4000, seed=0):
    """How often each (fixed, moving) pair comes, as a share."""
    random = np.random.default_rng(seed)
    return {pair: n / count for pair, n in Counter(draw(random) for _ in range(count)).items()}


def within(pairs):
    return {(fixed, moving) for fixed, moving in pairs if fixed[0] == moving[0]}


def test_unpaired_draws_all_ordered_pairs_of_two_images_and_no_other():
    draw = Unpaired(["a", "b", "c"])
    assert set(drawn(draw, 100)) == {(a, b) for a in "abc" for b in "abc" if a != b} == set(draw.all())
    assert draw.items == ["a", "b", "c"]
    with pytest.raises(InvalidError, match="at least two images, received 1"):
        Unpaired(["a"])


def test_paired_draws_the_given_pairs_only():
    pairs = [("a", "b"), ("c", "b")]
    assert set(drawn(Paired(pairs), 30)) == set(pairs)
    assert Paired(pairs).items == ["a", "b", "c"]
    with pytest.raises(InvalidError, match="at least one pair"):
        Paired([])


@pytest.mark.parametrize("even", [True, False])
@pytest.mark.parametrize(
    ("option", "allowed"),
    [
        ("forward", lambda fixed, moving: moving < fixed),
        ("backward", lambda fixed, moving: moving > fixed),
        ("unconstrained", lambda fixed, moving: True),
    ],
)
def test_forward_means_that_the_moving_image_comes_first(option, allowed, even):
    draw = Grouped(GROUPS, 1.0, option, even)
    expected = {(f, m) for f in IMAGES for m in IMAGES if f[0] == m[0] and f != m and allowed(f[1], m[1])}
    assert set(drawn(draw)) == expected == set(draw.all())


def test_order_is_the_place_in_the_group_and_not_the_name():
    assert set(drawn(Grouped([("z", "a")], 1.0, "forward"), 20)) == {("a", "z")}


@pytest.mark.parametrize(("even", "shares"), [(True, (1 / 3, 1 / 3, 1 / 3)), (False, (12 / 20, 2 / 20, 6 / 20))])
def test_groups_or_pairs_are_drawn_equally_often(even, shares):
    found = drawn(Grouped(GROUPS, 1.0, "unconstrained", even))
    for name, share in zip("abc", shares, strict=True):
        each = [value for (fixed, _), value in found.items() if fixed[0] == name]
        assert sum(each) == pytest.approx(share, abs=0.03)
        assert max(each) - min(each) < 0.05


@pytest.mark.parametrize("even", [True, False])
def test_between_groups(even):
    draw = Grouped(GROUPS, 0.0, "forward", even)
    found = drawn(draw, 8000)
    assert not within(found)
    assert set(found) == set(draw.all()) == {(f, m) for f in IMAGES for m in IMAGES if f[0] != m[0]}
    if even:
        assert sum(value for (fixed, _), value in found.items() if fixed[0] == "b") == pytest.approx(1 / 3, abs=0.03)
    else:
        assert max(found.values()) - min(found.values()) < 0.02


@pytest.mark.parametrize("even", [True, False])
def test_a_share_of_the_pairs_is_of_one_group(even):
    draw = Grouped(GROUPS, 0.3, "forward", even)
    found = drawn(draw)
    assert sum(found[pair] for pair in within(found)) == pytest.approx(0.3, abs=0.03)
    assert all(moving < fixed for fixed, moving in within(found))
    assert set(found) <= set(draw.all())


def test_a_group_of_one_image_is_used_where_it_can_be_and_named_where_not():
    groups = [*GROUPS, (Files("lonely.nii.gz"),)]
    with pytest.raises(InvalidError, match=r"two images in every group, .* received lonely\.nii\.gz"):
        Grouped(groups, 1.0)
    assert any(Files("lonely.nii.gz") in pair for pair in drawn(Grouped(groups, 0.5), 100))
    with pytest.raises(InvalidError, match="a group of at least two images, since intra_group_prob is above 0"):
        Grouped([("a",), ("b",)], 0.5)
    with pytest.raises(InvalidError, match="at least two groups, since intra_group_prob is below 1, received 1"):
        Grouped([("a", "b")], 0.5)


def test_different_pairs_are_drawn_by_the_seed_up_to_all():
    draw = Grouped(GROUPS, 1.0, "forward")
    assert set(different(draw, 50, 1)) == set(draw.all())
    assert len(different(draw, 50, 1)) == 10
    some = different(draw, 6, 1)
    assert len(set(some)) == 6
    assert some == different(draw, 6, 1) != different(draw, 6, 2)
    assert set(some) <= set(draw.all())
