"""A synthetic data set of shifted blobs and a recipe that trains on it in a second; nothing here is from a patient."""

import csv
import json
import struct

import numpy as np

from regzoo.schema.recipe import Recipe
from regzoo.training.recipe_data import split_pairs
from regzoo.world.images import Image

SIZE = 16
TRAIN, VALID = ("a", "b", "c", "d"), ("v", "w", "x")
SHIFTS = {"a": (-2, 0, 0), "b": (2, 0, 0), "c": (0, 2, 0), "d": (0, -2, 1), "v": (-2, 1, 0), "w": (2, -1, 0)}
AFFINE = np.array([[-1.0, 0, 0, 7], [0, 1.0, 0, -8], [0, 0, 1.0, 3], [0, 0, 0, 1]])


def blob(shift):
    """A ball with a soft rim at the centre plus a shift in voxels, in arbitrary units, and its label map."""
    places = np.moveaxis(np.indices((SIZE, SIZE, SIZE)), 0, -1) - (SIZE - 1) / 2 - np.array(shift)
    distance = np.sqrt((places**2).sum(-1))
    return (300 / (1 + np.exp(2 * (distance - 4)))).astype("float32"), (distance < 4).astype("uint8")


def write_data(home):
    """Writes `home/blobs`: images, labels, splits.json, and train.csv and valid.csv with the same images as pairs."""
    root = home / "blobs"
    for name in TRAIN + VALID:
        image, labels = blob(SHIFTS.get(name, (0, 0, -1)))
        Image(image, AFFINE).save(root / "images" / f"{name}.nii.gz")
        Image(labels, AFFINE).save(root / "labels" / f"{name}.nii.gz")
    splits = {"train": TRAIN, "valid": VALID, "test_pairs": [["t", "u"]]}
    (root / "splits.json").write_text(json.dumps(splits))
    write_csv(root / "train.csv", [("a", "b"), ("c", "d")])
    write_csv(root / "valid.csv", [("v", "w")])
    return home


def write_csv(path, pairs, labels=True):
    """Writes a CSV of (fixed, moving) names."""
    columns = ["fixed", "moving", "fixed_labels", "moving_labels"]
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(columns)
        for pair in pairs:
            table.writerow([f"images/{name}.nii.gz" for name in pair] + [f"labels/{n}.nii.gz" * labels for n in pair])


def recipe(**changes):
    """The tiny recipe; `training`, `data` and `loss` are merged into the defaults, other keys replace them."""
    value = {
        "name": "tiny-run",
        "seed": 3,
        "model": {"backbone": {"name": "unet", "channels": [2, 4], "convolutions": 1}, "output": {"name": "ddf"}},
        "input": {"shape": [SIZE] * 3, "intensity": {"name": "window", "low": 0, "high": 300}},
        "data": {"kind": "unpaired", "root": "blobs", "labels": "labels", "validation_pairs": 2},
        "loss": {"image": {"ssd": {}}, "label": {"dice": {}}, "deformation": {"gradient": {"weight": 0.1}}},
        "augmentation": {"affine": 0.05},
        "training": {"steps": 6, "steps_per_epoch": 2, "batch_size": 1, "learning_rate": 1e-2, "warmup": 2},
        "card": {"summary": "Blobs.", "license": "CC0-1.0"},
    }
    for key, change in changes.items():
        merge = key in ("training", "loss") or (key == "data" and "kind" not in change)
        value[key] = value[key] | change if merge else change
    return Recipe.model_validate(value)


def read_events(folder):
    """Reads all TensorBoard scalars of a folder: (tag, step) -> value. A record is length, crc, bytes, crc."""
    from tensorboardX.proto.event_pb2 import Event

    found = {}
    for path in sorted(folder.glob("events.out.tfevents.*")):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            event = Event.FromString(data[at + 12 : at + 12 + length])
            at += 16 + length
            for value in event.summary.value:
                if (value.tag, event.step) in found:
                    raise ValueError(f"{value.tag} is written twice for step {event.step}")
                found[value.tag, event.step] = value.simple_value
    return found


def read_log(folder):
    """Reads log.csv."""
    with (folder / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def unregistered_dice(value, home):
    """The validation Dice of a recipe's pairs without any registration, computed apart from the package."""
    scores = []
    for pair in split_pairs(value, "valid", home):
        fixed, moving = (Image.read(path, labels=True).array > 0 for path in (pair.fixed_labels, pair.moving_labels))
        scores.append(2 * (fixed & moving).sum() / (fixed.sum() + moving.sum()))
    return float(np.mean(scores))
