import json

import pytest
import tiny_run

from regzoo import datasets
from regzoo.checks import InvalidError, MissingError

PAIRED = {"kind": "pairs", "root": "blobs", "train": "train.csv", "valid": "valid.csv"}


@pytest.fixture
def home(tmp_path):
    return tiny_run.write_data(tmp_path)


def write_splits(home, **changes):
    splits = {"train": ["a", "b"], "valid": ["v", "w"], "test_pairs": [["c", "d"]]} | changes
    (home / "blobs" / "splits.json").write_text(json.dumps(splits))


def names(pairs):
    return [(pair.fixed.name[0], pair.moving.name[0]) for pair in pairs]


def test_test_pairs_are_listed_as_moving_and_fixed(home):
    write_splits(home)
    (pair,) = datasets.split_pairs(tiny_run.recipe(), "test", home)
    root = home / "blobs"
    assert (pair.fixed, pair.moving) == (root / "images" / "d.nii.gz", root / "images" / "c.nii.gz")
    assert (pair.fixed_labels, pair.moving_labels) == (root / "labels" / "d.nii.gz", root / "labels" / "c.nii.gz")


def test_validation_pairs_are_drawn_by_the_seed(home):
    settings = {"validation_pairs": 12}
    first, again = (datasets.split_pairs(tiny_run.recipe(data=settings), "valid", home) for _ in range(2))
    other = datasets.split_pairs(tiny_run.recipe(data=settings, seed=4), "valid", home)
    assert first == again
    assert names(first) != names(other)
    assert len(first) == 12
    assert all(fixed != moving and {fixed, moving} <= {"v", "w", "x"} for fixed, moving in names(first + other))


def test_training_images(home):
    images = datasets.train_images(tiny_run.recipe(), home)
    assert names(images) == [(name, name) for name in "abcd"]
    assert images[1].fixed_labels == home / "blobs" / "labels" / "b.nii.gz"
    assert (
        datasets.train_images(tiny_run.recipe(data={"labels": None}, loss={"label": {}}), home)[1].fixed_labels is None
    )


@pytest.mark.parametrize("folder", ["images", "labels"])
def test_a_missing_file_is_named(home, folder):
    (home / "blobs" / folder / "c.nii.gz").unlink()
    with pytest.raises(MissingError, match=rf"{folder}/c\.nii\.gz, which the splits file names, does not exist"):
        datasets.train_images(tiny_run.recipe(), home)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": None}, "train: expected a list of at least two names"),
        ({"valid": ["v"]}, "valid: expected a list of at least two names"),
        ({"valid": ["v", "v"]}, "valid: expected a list of at least two names"),
        ({"valid": ["v", 3]}, "valid: expected a list of at least two names"),
        ({"train": ["a", "b", "a"]}, "train: a name is listed twice"),
        ({"valid": ["v", "a"]}, "'a' is in both train and valid"),
        ({"test_pairs": [["c", "b"]]}, "'b' is in both train and test"),
        ({"test_pairs": [["w", "d"]]}, "'w' is in both valid and test"),
        ({"test": ["a"]}, "'a' is in both train and test"),
        ({"test": None}, "test: expected a list of names"),
        ({"test_pairs": None}, "test_pairs: expected a list of"),
        ({"test_pairs": [["c"]]}, "test_pairs: expected a list of"),
    ],
)
def test_bad_splits_are_refused(home, changes, message):
    write_splits(home, **changes)
    for read in (datasets.train_images, lambda recipe, home: datasets.split_pairs(recipe, "valid", home)):
        with pytest.raises(InvalidError, match=rf"splits\.json: {message}"):
            read(tiny_run.recipe(), home)


def test_a_split_that_is_not_there_is_an_error(home):
    write_splits(home, test_pairs=[])
    with pytest.raises(InvalidError, match="test: expected at least two images, received 0"):
        datasets.split_pairs(tiny_run.recipe(), "test", home)
    with pytest.raises(InvalidError, match=r"data\.test: expected a CSV file of pairs"):
        datasets.split_pairs(tiny_run.recipe(data=PAIRED), "test", home)
    with pytest.raises(InvalidError, match="split: expected 'valid' or 'test'"):
        datasets.split_pairs(tiny_run.recipe(), "train", home)
    with pytest.raises(MissingError, match=r"none\.csv does not exist"):
        datasets.split_pairs(tiny_run.recipe(data=PAIRED | {"valid": "none.csv"}), "valid", home)


def test_test_pairs_are_drawn_where_none_are_listed(home):
    write_splits(home, test=["c", "d"], test_pairs=[])
    pairs = names(datasets.split_pairs(tiny_run.recipe(data={"validation_pairs": 12}), "test", home))
    assert set(pairs) == {("c", "d"), ("d", "c")}


def test_single_images_from_a_csv(home):
    rows = ["image,labels,split", *(f"images/{n}.nii.gz,labels/{n}.nii.gz,train" for n in "abc")]
    rows += [f"images/{n}.nii.gz,labels/{n}.nii.gz,valid" for n in "vw"]
    (home / "blobs" / "all.csv").write_text("\n".join(rows))
    recipe = tiny_run.recipe(data={"splits": "all.csv", "validation_pairs": 12})
    images = datasets.train_images(recipe, home)
    assert names(images) == [("a", "a"), ("b", "b"), ("c", "c")]
    assert images[2].moving_labels == home / "blobs" / "labels" / "c.nii.gz"
    assert set(names(datasets.split_pairs(recipe, "valid", home))) == {("v", "w"), ("w", "v")}
    (home / "blobs" / "all.csv").write_text("\n".join([*rows, "images/a.nii.gz,,valid"]))
    with pytest.raises(InvalidError, match="is in both train and valid"):
        datasets.train_images(recipe, home)
    (home / "blobs" / "all.csv").write_text("\n".join([*rows, "images/d.nii.gz,,vaild"]))
    with pytest.raises(InvalidError, match=r"Unknown split 'vaild'. Did you mean 'valid'\? .*line 7"):
        datasets.train_images(recipe, home)


def test_paired_data_are_read_from_their_files(home):
    recipe = tiny_run.recipe(data=PAIRED | {"test": "test.csv"})
    tiny_run.write_csv(home / "blobs" / "test.csv", [("x", "v")])
    assert names(datasets.train_pairs(recipe, home)) == [("a", "b"), ("c", "d")]
    assert names(datasets.split_pairs(recipe, "valid", home)) == [("v", "w")]
    assert names(datasets.split_pairs(recipe, "test", home)) == [("x", "v")]


@pytest.mark.parametrize(("split", "pair"), [("valid", ("b", "a")), ("test", ("c", "d"))])
def test_a_pair_in_two_splits_is_refused(home, split, pair):
    recipe = tiny_run.recipe(data=PAIRED | {"test": "test.csv"})
    tiny_run.write_csv(home / "blobs" / f"{split}.csv", [("x", "a"), pair])
    with pytest.raises(InvalidError, match=rf"{min(pair)}\.nii\.gz and .* is in both train and {split}"):
        datasets.train_pairs(recipe, home)
