import json

import h5py
import numpy as np
import pytest
import tiny_run

from regzoo.data.draws import Files, Grouped, Paired, Unpaired
from regzoo.errors import InvalidError, MissingError
from regzoo.training import recipe_data
from regzoo.world.images import Image

PAIRED = {"kind": "pairs", "root": "blobs", "train": "train.csv", "valid": "valid.csv"}


@pytest.fixture
def home(tmp_path):
    return tiny_run.write_data(tmp_path)


def write_splits(home, **changes):
    splits = {"train": ["a", "b"], "valid": ["v", "w"], "test_pairs": [["c", "d"]]} | changes
    (home / "blobs" / "splits.json").write_text(json.dumps(splits))


def train_draw(recipe, home):
    """The draw of files to train on."""
    return recipe_data.data_of(recipe, home).train_draw()


def names(pairs):
    return [(pair.fixed.name[0], pair.moving.name[0]) for pair in pairs]


def trained(recipe, home):
    """The names of the images that are trained on."""
    return [files.image.name.split(".")[0] for files in train_draw(recipe, home).items]


def test_test_pairs_are_listed_as_moving_and_fixed(home):
    write_splits(home)
    (pair,) = recipe_data.split_pairs(tiny_run.recipe(), "test", home)
    root = home / "blobs"
    assert (pair.fixed, pair.moving) == (root / "images" / "d.nii.gz", root / "images" / "c.nii.gz")
    assert (pair.fixed_labels, pair.moving_labels) == (root / "labels" / "d.nii.gz", root / "labels" / "c.nii.gz")


def test_validation_pairs_are_drawn_by_the_seed(home):
    settings = {"validation_pairs": 12}
    first, again = (recipe_data.split_pairs(tiny_run.recipe(data=settings), "valid", home) for _ in range(2))
    other = recipe_data.split_pairs(tiny_run.recipe(data=settings, seed=4), "valid", home)
    assert first == again
    assert names(first) != names(other)
    assert len(first) == 12
    assert all(fixed != moving and {fixed, moving} <= {"v", "w", "x"} for fixed, moving in names(first + other))


def test_training_images_have_labels_if_a_loss_compares_them(home):
    draw = train_draw(tiny_run.recipe(), home)
    assert isinstance(draw, Unpaired)
    root = home / "blobs"
    assert draw.items == [Files(root / "images" / f"{n}.nii.gz", root / "labels" / f"{n}.nii.gz") for n in "abcd"]
    for recipe in (tiny_run.recipe(loss={"label": {}}), tiny_run.recipe(data={"labels": None}, loss={"label": {}})):
        draw = train_draw(recipe, home)
        assert draw.items == [Files(root / "images" / f"{n}.nii.gz") for n in "abcd"]


@pytest.mark.parametrize("folder", ["images", "labels"])
def test_a_missing_file_is_named(home, folder):
    (home / "blobs" / folder / "c.nii.gz").unlink()
    with pytest.raises(MissingError, match=rf"{folder}/c\.nii\.gz, which the splits file names, does not exist"):
        train_draw(tiny_run.recipe(), home)


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
    for read in (train_draw, lambda recipe, home: recipe_data.split_pairs(recipe, "valid", home)):
        with pytest.raises(InvalidError, match=rf"splits\.json: {message}"):
            read(tiny_run.recipe(), home)


def test_a_split_that_is_not_there_is_an_error(home):
    write_splits(home, test_pairs=[])
    with pytest.raises(InvalidError, match="test: expected at least two images, received 0"):
        recipe_data.split_pairs(tiny_run.recipe(), "test", home)
    with pytest.raises(InvalidError, match=r"data\.test: expected a CSV file of pairs"):
        recipe_data.split_pairs(tiny_run.recipe(data=PAIRED), "test", home)
    with pytest.raises(InvalidError, match="split: expected 'valid' or 'test'"):
        recipe_data.split_pairs(tiny_run.recipe(), "train", home)
    with pytest.raises(MissingError, match=r"none\.csv does not exist"):
        recipe_data.split_pairs(tiny_run.recipe(data=PAIRED | {"valid": "none.csv"}), "valid", home)


def test_test_pairs_are_drawn_where_none_are_listed(home):
    write_splits(home, test=["c", "d"], test_pairs=[])
    pairs = names(recipe_data.split_pairs(tiny_run.recipe(data={"validation_pairs": 12}), "test", home))
    assert set(pairs) == {("c", "d"), ("d", "c")}


def test_single_images_from_a_csv(home):
    rows = ["image,labels,split", *(f"images/{n}.nii.gz,labels/{n}.nii.gz,train" for n in "abc")]
    rows += [f"images/{n}.nii.gz,labels/{n}.nii.gz,valid" for n in "vw"]
    (home / "blobs" / "all.csv").write_text("\n".join(rows))
    recipe = tiny_run.recipe(data={"splits": "all.csv", "validation_pairs": 12})
    images = train_draw(recipe, home).items
    assert [each.image.name[0] for each in images] == ["a", "b", "c"]
    assert images[2].labels == home / "blobs" / "labels" / "c.nii.gz"
    assert set(names(recipe_data.split_pairs(recipe, "valid", home))) == {("v", "w"), ("w", "v")}
    (home / "blobs" / "all.csv").write_text("\n".join([*rows, "images/a.nii.gz,,valid"]))
    with pytest.raises(InvalidError, match="is in both train and valid"):
        train_draw(recipe, home)
    (home / "blobs" / "all.csv").write_text("\n".join([*rows, "images/d.nii.gz,,vaild"]))
    with pytest.raises(InvalidError, match=r"Unknown split 'vaild'. Did you mean 'valid'\? .*line 7"):
        train_draw(recipe, home)


def test_paired_data_are_read_from_their_files(home):
    recipe = tiny_run.recipe(data=PAIRED | {"test": "test.csv"})
    tiny_run.write_csv(home / "blobs" / "test.csv", [("x", "v")])
    draw = train_draw(recipe, home)
    assert isinstance(draw, Paired)
    assert [(fixed.image.name[0], moving.image.name[0]) for fixed, moving in draw.pairs] == [("a", "b"), ("c", "d")]
    assert names(recipe_data.split_pairs(recipe, "valid", home)) == [("v", "w")]
    assert names(recipe_data.split_pairs(recipe, "test", home)) == [("x", "v")]


@pytest.mark.parametrize(("split", "pair"), [("valid", ("b", "a")), ("test", ("c", "d"))])
def test_a_pair_in_two_splits_is_refused(home, split, pair):
    recipe = tiny_run.recipe(data=PAIRED | {"test": "test.csv"})
    tiny_run.write_csv(home / "blobs" / f"{split}.csv", [("x", "a"), pair])
    with pytest.raises(InvalidError, match=rf"{min(pair)}\.nii\.gz and .* is in both train and {split}"):
        train_draw(recipe, home)


# --- labels -----------------------------------------------------------------------------------------------------------


def source(recipe, home):
    """What a run trains and validates on."""
    return recipe_data.data_of(recipe, home).examples(recipe.input)


def write_partly(path, *lines):
    path.write_text("\n".join(["fixed,moving,fixed_labels,moving_labels", *lines]))


def test_images_without_labels_are_refused_only_where_nothing_else_can_be_compared(home):
    train = home / "blobs" / "train.csv"
    write_partly(
        train, "images/a.nii.gz,images/b.nii.gz,labels/a.nii.gz,labels/b.nii.gz", "images/c.nii.gz,images/d.nii.gz"
    )
    assert len(source(tiny_run.recipe(data=PAIRED), home).draw.draw.items) == 4
    with pytest.raises(
        InvalidError, match=r"training data: .*, since no image loss is used, received none for .*c\.nii"
    ):
        source(tiny_run.recipe(data=PAIRED, loss={"image": {}}), home)
    write_partly(
        train, "images/a.nii.gz,images/b.nii.gz,labels/a.nii.gz,", "images/c.nii.gz,images/d.nii.gz,,labels/d.nii.gz"
    )
    with pytest.raises(
        InvalidError, match=r"training data: expected a pair with labels, since loss\.label has a weight"
    ):
        source(tiny_run.recipe(data=PAIRED), home)
    rows = [f"images/{name}.nii.gz,{'labels/a.nii.gz' if name == 'a' else ''},train" for name in "abc"]
    rows += ["images/v.nii.gz,,valid", "images/w.nii.gz,,valid"]
    (home / "blobs" / "all.csv").write_text("\n".join(["image,labels,split", *rows]))
    with pytest.raises(InvalidError, match=r"training data: expected a pair with labels"):
        source(tiny_run.recipe(data={"splits": "all.csv"}), home)


def test_label_values_are_found_and_training_labels_left_unread_where_no_loss_needs_them(home):
    found = source(tiny_run.recipe(), home)
    assert found.draw.reader.values == (1,)
    assert found.draw.draw.items[0].labels is not None
    found = source(tiny_run.recipe(loss={"label": {}}), home)
    assert found.draw.reader.values == (1,)
    assert {file.labels for file in found.draw.draw.items} == {None}
    assert found.valid.pairs[0][0].labels is not None


def test_label_values_that_no_label_map_has_are_refused(home):
    recipe = tiny_run.recipe(data={"label_values": [1, 9]})
    with pytest.raises(InvalidError, match=r"data\.label_values: .* received 9, which none of their 4 label maps has"):
        source(recipe, home)
    image = Image.read(home / "blobs" / "labels" / "d.nii.gz", labels=True)
    image.array[0, 0, 0] = 9
    Image(image.array, image.affine).save(home / "blobs" / "labels" / "d.nii.gz")
    assert source(recipe, home).draw.reader.values == (1, 9)
    unsupervised = tiny_run.recipe(data={"label_values": [1, 9]}, loss={"label": {}})
    with pytest.raises(InvalidError, match=r"labels that the validation images have, received 9"):
        source(unsupervised, home)


def test_a_missing_label_map_leads_to_a_table_with_empty_cells(home):
    (home / "blobs" / "labels" / "c.nii.gz").unlink()
    with pytest.raises(MissingError, match=r"labels/c\.nii\.gz.* list the images in a CSV file, image,labels,split"):
        source(tiny_run.recipe(), home)


# --- groups -----------------------------------------------------------------------------------------------------------

GROUPED = {"kind": "grouped", "root": "blobs", "labels": "labels"}
TIMES = {"train": ["p/b", "p/a", "q/d", "q/c"], "valid": ["r/w", "r/v", "r/x"]}


def write_groups(home, **changes):
    splits = TIMES | changes
    for name in {name for names in splits.values() for name in names}:
        for folder in ("images", "labels"):
            target = home / "blobs" / folder / f"{name}.nii.gz"
            target.parent.mkdir(exist_ok=True)
            target.write_bytes((home / "blobs" / folder / f"{name[-1]}.nii.gz").read_bytes())
    (home / "blobs" / "splits.json").write_text(json.dumps(splits))


def test_groups_are_in_the_order_of_the_list(home):
    write_groups(home)
    recipe = tiny_run.recipe(data=GROUPED | {"intra_group_option": "forward", "validation_pairs": 9})
    draw = train_draw(recipe, home)
    assert isinstance(draw, Grouped)
    assert [[each.image.name[0] for each in group] for group in draw.groups] == [["b", "a"], ["d", "c"]]
    assert (draw.intra_group_prob, draw.intra_group_option, draw.sample_image_in_group) == (1.0, "forward", True)
    assert set(names(recipe_data.split_pairs(recipe, "valid", home))) == {("v", "w"), ("x", "w"), ("x", "v")}


def test_a_group_is_in_one_split_only_and_every_image_in_a_group(home):
    write_groups(home, valid=["p/v", "p/w"])
    with pytest.raises(InvalidError, match=r"splits\.json: 'p' is in both train and valid"):
        train_draw(tiny_run.recipe(data=GROUPED), home)
    write_groups(home, train=["p/a", "p/b", "c"])
    with pytest.raises(InvalidError, match=r"splits\.json: c: expected a group, in column 'group' or as GROUP/IMAGE"):
        train_draw(tiny_run.recipe(data=GROUPED), home)


def test_groups_in_a_csv(home):
    rows = [("b", "p", "train"), ("d", "q", "train"), ("a", "p", "train"), ("c", "q", "train")]
    rows += [("v", "r", "valid"), ("w", "r", "valid")]
    lines = ["image,group,split", *(f"images/{name}.nii.gz,{group},{split}" for name, group, split in rows)]
    (home / "blobs" / "all.csv").write_text("\n".join(lines))
    recipe = tiny_run.recipe(data=GROUPED | {"splits": "all.csv", "intra_group_option": "backward"})
    draw = train_draw(recipe, home)
    assert [[each.image.name[0] for each in group] for group in draw.groups] == [["b", "a"], ["d", "c"]]
    assert names(recipe_data.split_pairs(recipe, "valid", home)) == [("v", "w")]


# --- DeepReg's folders ------------------------------------------------------------------------------------------------

FOLDERS = {"kind": "folders", "root": "deepreg"}


def write_folder(home, folder, *keys, prefixes=("",)):
    """An HDF5 file of random images, and of masks as labels."""
    root = home / "deepreg" / folder
    root.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for prefix in prefixes:
        with (
            h5py.File(root / f"{prefix}images.h5", "w") as images,
            h5py.File(root / f"{prefix}labels.h5", "w") as masks,
        ):
            for key in keys:
                images[key] = random.random((5, 6, 7), dtype="float32")
                masks[key] = np.ones((5, 6, 7), "uint8")


@pytest.fixture
def folds(home):
    for number in range(4):
        write_folder(home, f"fold{number}", f"group-1{number}-1", f"group-1{number}-2", f"group-1{number}-3")
    return home


@pytest.mark.parametrize(("layout", "kind", "pairs"), [("unpaired", Unpaired, 6), ("grouped", Grouped, 3)])
def test_folders_are_folds(folds, layout, kind, pairs):
    settings = {
        "layout": layout,
        "train": ["fold0", "fold1"],
        "valid": ["fold2"],
        "test": ["fold3"],
        "spacing": [1, 2, 3],
    }
    option = {"intra_group_option": "forward"} if layout == "grouped" else {}
    recipe = tiny_run.recipe(data=FOLDERS | settings | option)
    draw = train_draw(recipe, folds)
    assert isinstance(draw, kind)
    assert [each.image.name for each in draw.items] == [f"group-1{i}-{j}" for i in (0, 1) for j in (1, 2, 3)]
    assert draw.items[0].spacing == (1, 2, 3)
    if layout == "grouped":
        assert [len(group) for group in draw.groups] == [3, 3]
    found = recipe_data.split_pairs(recipe, "test", folds)
    assert len(set(found)) == pairs
    assert {pair.fixed.parent.parent.name for pair in found} == {"fold3"}
    sources = found[0].sources()
    assert isinstance(sources["fixed"], Image)
    np.testing.assert_allclose(sources["moving_labels"].spacing, (1, 2, 3))
    assert "spacing" not in sources


def test_folders_of_pairs(home):
    for folder, keys in (("train", "ab"), ("valid", "cd")):
        write_folder(home, folder, *keys, prefixes=("moving_", "fixed_"))
    recipe = tiny_run.recipe(
        data=FOLDERS | {"layout": "paired", "train": ["train"], "valid": ["valid"], "test": ["no"]}
    )
    draw = train_draw(recipe, home)
    assert isinstance(draw, Paired)
    root = home / "deepreg" / "train"
    assert draw.pairs[1] == tuple(
        Files(root / f"{s}_images.h5" / "b", root / f"{s}_labels.h5" / "b") for s in ("fixed", "moving")
    )
    found = recipe_data.split_pairs(recipe, "valid", home)
    assert [(pair.fixed.name, pair.moving.name) for pair in found] == [("c", "c"), ("d", "d")]
    assert found[0].sources()["fixed"] == home / "deepreg" / "valid" / "fixed_images.h5" / "c"
    with pytest.raises(MissingError, match="no images in a folder 'fixed_images'"):
        recipe_data.split_pairs(recipe, "test", home)


@pytest.mark.parametrize("layout", ["paired", "unpaired", "grouped"])
def test_folders_that_share_images_are_refused(folds, layout):
    for fold in ("fold1", "fold2", "fold3"):
        write_folder(folds, fold, f"group-{fold}-1", f"group-{fold}-2", prefixes=("", "moving_", "fixed_"))
    for valid, test in ((["fold2", "fold1"], ["fold3"]), (["fold2"], ["fold1"])):
        settings = {"layout": layout, "train": ["fold1"], "valid": valid, "test": test}
        split = "valid" if "fold1" in valid else "test"
        with pytest.raises(InvalidError, match=rf"fold1.* is in both train and {split}"):
            train_draw(tiny_run.recipe(data=FOLDERS | settings), folds)


def test_groups_of_one_name_are_one_subject(folds):
    write_folder(folds, "later", "group-11-4", "group-11-5")
    settings = {"layout": "grouped", "train": ["fold0", "fold1"], "valid": ["later"], "test": ["fold3"]}
    with pytest.raises(InvalidError, match="'group 11' is in both train and valid"):
        train_draw(tiny_run.recipe(data=FOLDERS | settings), folds)


def test_a_splits_file_names_groups_images_or_pairs(home):
    keys = [f"group-{i}-{j}" for i in (1, 2, 3, 10) for j in (1, 2)]
    write_folder(home, ".", *keys, prefixes=("", "fixed_", "moving_"))
    path = home / "deepreg" / "splits.json"
    path.write_text(json.dumps({"train": ["10", "1"], "valid": ["3"], "test": ["2"]}))
    recipe = tiny_run.recipe(data=FOLDERS | {"layout": "grouped", "splits": "splits.json"})
    assert trained(recipe, home) == ["group-1-1", "group-1-2", "group-10-1", "group-10-2"]
    assert {pair.fixed.name for pair in recipe_data.split_pairs(recipe, "test", home)} == {"group-2-1", "group-2-2"}
    path.write_text(json.dumps({"train": keys[:3], "valid": keys[4:6]}))
    for layout in ("unpaired", "paired"):
        recipe = tiny_run.recipe(data=FOLDERS | {"layout": layout, "splits": "splits.json"})
        assert trained(recipe, home)[:: 2 if layout == "paired" else 1] == keys[:3]
        with pytest.raises(InvalidError, match=r"splits\.json: test: expected a list of names, received none"):
            recipe_data.split_pairs(recipe, "test", home)
    path.write_text(json.dumps({"train": [*keys[:3], "lost"], "valid": keys[4:6]}))
    with pytest.raises(MissingError, match=r"splits\.json: train: 'lost' is not in \."):
        train_draw(recipe, home)


def test_what_cannot_be_paired_names_its_split(folds):
    settings = {"train": ["fold0"], "valid": ["single"], "test": ["fold3"]}
    write_folder(folds, "single", "group-5-1")
    for layout, message in (
        ("unpaired", "at least two images, received 1"),
        ("grouped", "in every group, .*group-5-1"),
    ):
        with pytest.raises(InvalidError, match=rf"valid: expected .*{message}"):
            recipe_data.split_pairs(tiny_run.recipe(data=FOLDERS | settings | {"layout": layout}), "valid", folds)


# --- real data --------------------------------------------------------------------------------------------------------


@pytest.mark.data
def test_prostate_pairs(data_home):
    data = {"kind": "folders", "layout": "paired", "root": "prostate-mrus", "splits": "splits.json"}
    recipe = tiny_run.recipe(data=data)
    draw = train_draw(recipe, data_home)
    assert len(draw.pairs) == 64
    assert all(fixed.image.name == moving.image.name for fixed, moving in draw.pairs)
    assert [len(recipe_data.split_pairs(recipe, split, data_home)) for split in ("valid", "test")] == [8, 18]


@pytest.mark.data
def test_the_tutorials_files_are_read(data_home):
    path = data_home / "tutorial" / "headneck-ct.h5"
    with h5py.File(path) as file:
        image, labels = file["image"][()], file["label"][()]
    found = Image.read(path / "image", spacing=(1.0, 1.0, 3.0))
    np.testing.assert_array_equal(found.array, image)
    np.testing.assert_allclose(found.spacing, (1, 1, 3))
    np.testing.assert_array_equal(Image.read(path / "label", labels=True).array, labels)
