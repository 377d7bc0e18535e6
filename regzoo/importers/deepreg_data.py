"""DeepReg's data sets as a recipe's data: folders of given pairs, of single images, or of images in groups."""

import os
from collections.abc import Sequence

import numpy as np

from regzoo.data import folders
from regzoo.errors import InvalidError, MissingError, invalid
from regzoo.importers.sections import Section
from regzoo.schema.data import FolderData
from regzoo.schema.recipe import data_home

_SPLITS = ("train", "valid", "test")
_NO_VALID = "no-validation-images"
"""Folders that nobody has, where a split has none, so that nothing else is taken for its images."""


def read_data(dataset: Section, spacing: Sequence[float] | None) -> tuple[dict, list[int], bool]:
    """Returns the recipe's `data`, the shape of the network's grid, and whether the training images have labels.

    Args:
        dataset: The config's section `dataset`, in the form before or since 1.0; it is closed.
        spacing: Millimetres a voxel of that grid; None: 1 mm, which is noted.
    """
    layout = dataset.choice("type", ("paired", "unpaired", "grouped"))
    paths, labelled = _folders(dataset)
    data = {"kind": "folders", "layout": layout, **paths, "labels": "labels" if any(labelled.values()) else None}
    sampling = dataset.choice("sample_label", ("sample", "all"), "sample")
    if any(labelled.values()):
        data["label_sampling"] = {"sample": "one", "all": "all"}[sampling]
    if layout == "grouped":
        data["intra_group_prob"] = dataset.number("intra_group_prob", 1.0)
        options = ("forward", "backward", "unconstrained")
        data["intra_group_option"] = dataset.choice("intra_group_option", options, "unconstrained")
        data["sample_image_in_group"] = dataset.flag("sample_image_in_group", True)
    grouping = ("intra_group_prob", "intra_group_option", "sample_image_in_group")
    dataset.leave(grouping, f"only grouped data have it, and these are {layout}")
    key = "fixed_image_shape" if layout == "paired" else "image_shape"
    shape = dataset.integers(key)
    if len(shape) != 3:
        raise invalid(dataset.at(key), "three numbers of voxels", shape)
    if layout == "paired" and dataset.integers("moving_image_shape", shape) != shape:
        dataset.note("moving_image_shape", "regzoo shows both images on one grid, the fixed image's")
    if spacing is None:
        dataset.note(key, _NO_SPACING)
    dataset.close()
    return data, shape, labelled["train"]


_NO_SPACING = (
    "DeepReg resizes every image to this shape, and regzoo lays a grid of this shape on every image, of input.spacing "
    "mm a voxel; 1 mm is taken, so set what fits the images"
)


def _folders(dataset: Section) -> tuple[dict[str, list[str]], dict[str, bool]]:
    """Returns the folders of each split, and whether it has labels."""
    if "dir" in dataset:  # the form before 1.0: one format, one answer about labels
        labelled = dict.fromkeys(_SPLITS, dataset.flag("labeled"))
        folder = dataset.section("dir")
        formats = {dataset.choice("format", ("nifti", "h5"))}
        found = {split: (folder, split) for split in _SPLITS}
    else:
        sections = {split: dataset.section(split) for split in _SPLITS}
        labelled = {split: section.flag("labeled", False) for split, section in sections.items()}
        formats = {section.choice("format", ("nifti", "h5"), "nifti") for section in sections.values()}
        found = {split: (section, "dir") for split, section in sections.items()}
    paths = {split: _paths(section, key, split) for split, (section, key) in found.items()}
    for section, _ in found.values():
        section.close()
    _check_apart(paths, found)
    if "h5" in formats:
        section, key = found["train"]
        section.note(key, "HDF5 files hold no spacing; data.spacing is null, which is 1 mm along each axis of an image")
    if labelled["train"] and not all(labelled[split] for split in _SPLITS if paths[split] not in ([], [_NO_VALID])):
        section, _ = found["valid"]
        section.note("labeled", "regzoo uses the labels of every split where those of the training images are used")
    return paths, labelled


def _paths(section: Section, key: str, split: str) -> list[str]:
    value = section.take(key)
    paths = value if isinstance(value, list) else [value]
    if value in (None, "", []):
        if split == "train":
            raise InvalidError(f"{section.at(key)}: the key is missing; expected a folder of training images.")
        if split == "test":
            section.note(key, "no folder is given, so there is nothing to score the model on; data.test is empty")
            return []
        section.note(key, f"no folder is given, and weights are chosen on its images; data.valid says '{_NO_VALID}'")
        return [_NO_VALID]
    if not all(isinstance(path, str) for path in paths):
        raise invalid(section.at(key), "a folder or a list of folders", repr(value))
    return paths


def _check_apart(paths: dict[str, list[str]], found: dict[str, tuple[Section, str]]) -> None:
    """Notes splits that share a folder, which regzoo refuses to train on; shared test images are left out."""
    if set(paths["train"]) & set(paths["valid"]):
        section, key = found["valid"]
        section.note(key, "training images, on which regzoo refuses to choose weights; name another folder")
    for other in ("valid", "train"):
        if set(paths["test"]) & set(paths[other]):
            section, key = found["test"]
            use = {"valid": "validation", "train": "training"}[other]
            key = None if key == "dir" else key  # since 1.0 the split is a section, of which nothing is used
            section.note(key, f"the {use} images, which regzoo keeps apart; data.test is empty")
            paths["test"] = []


def count_samples(source: dict, home: str | os.PathLike | None) -> int:
    """Returns how many pairs DeepReg draws in an epoch, by counting the training images.

    Args:
        source: A recipe's `data`, as `read_data` gives it.
        home: Folder that its folders are relative to; see `data_home`.

    Raises:
        InvalidError: If they are not there.
    """
    try:
        data = FolderData.model_validate(source)
        root = data_home(home)
        read = {"paired": folders.paired, "unpaired": folders.single, "grouped": folders.grouped}[data.layout]
        found = [item for path in data.train for item in read(root / path, folders.Layout(labels=None)).values()]
    except (MissingError, InvalidError) as error:
        raise InvalidError(
            f"train.epochs: passes over the training images, which are not there to be counted: {error} "
            "Say how many steps one pass has by --steps-per-epoch, or where the images are by --data."
        ) from None
    if data.layout == "paired":
        return len(found)
    if data.layout == "unpaired":
        return len(found) // 2
    if data.sample_image_in_group:
        return len(found)
    sizes = np.array([len(group) for group in found])
    if data.intra_group_prob == 0:
        return int(sizes.sum() ** 2 - (sizes**2).sum())
    pairs = int((sizes * (sizes - 1)).sum())
    return pairs if data.intra_group_option == "unconstrained" else pairs // 2
