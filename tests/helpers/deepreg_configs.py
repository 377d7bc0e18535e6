"""The settings of DeepReg's training demos, and of the form that configs had before version 1.0."""

import copy

DICE = {"name": "dice", "weight": 1.0, "scales": [0, 1, 2, 4, 8, 16]}
FOLD = "demos/unpaired_us_prostate_cv/dataset/fold"
PART = "demos/paired_mrus_prostate/dataset/part0"
GROUPED = {"intra_group_prob": 1, "intra_group_option": "unconstrained", "sample_image_in_group": True}


def local(channels, deepest):
    return {"name": "local", "num_channel_initial": channels, "extract_levels": list(range(deepest + 1))}


def unet(pooling):
    return {"name": "unet", "num_channel_initial": 16, "depth": 3, "pooling": pooling, "concat_skip": True}


def config(demo, kind, shape, backbone, loss, rate, batch, epochs, period, **changes):
    """A config in the form of 1.0; `changes` are more keys of `dataset`, `method`, `labeled`, `format` and folders."""
    image, label, regularization = loss
    method, labeled, form = (
        changes.pop(key, default) for key, default in (("method", "ddf"), ("labeled", True), ("format", "nifti"))
    )
    home = f"demos/{demo}/dataset"
    folders = {split: changes.pop(split, f"{home}/{split}") for split in ("train", "valid", "test")}
    shapes = {"moving_image_shape": shape, "fixed_image_shape": shape} if kind == "paired" else {"image_shape": shape}
    return {
        "dataset": {
            **{split: {"dir": path, "format": form, "labeled": labeled} for split, path in folders.items()},
            "type": kind,
            **shapes,
            **changes,
        },
        "train": {
            "method": method,
            "backbone": backbone,
            "loss": {"image": image, "label": label, "regularization": regularization},
            "preprocess": {
                "data_augmentation": {"name": "affine"},
                "batch_size": batch,
                "shuffle_buffer_num_batch": 1,
            },
            "optimizer": {"name": "Adam", "learning_rate": rate},
            "epochs": epochs,
            "save_period": period,
        },
    }


def terms(image, ssd, label, regularization, weight, **more):
    return (
        {"name": image, "weight": ssd},
        DICE | {"weight": label},
        {"name": regularization, "weight": weight, **more},
    )


ABDOMEN = ([77, 64, 102], unet(True))
VAL = "demos/{}/dataset/val"
DEMOS = {
    "paired_ct_lung": config(
        *("paired_ct_lung", "paired", [96, 96, 104], local(32, 2), terms("ssd", 10.0, 1.0, "bending", 2.5)),
        *(1e-5, 4, 8000, 1000),
    ),
    "unpaired_ct_lung": config(
        *("unpaired_ct_lung", "unpaired", [96, 96, 104], local(32, 3), terms("ssd", 2.0, 1.0, "bending", 1.0)),
        *(1e-5, 4, 5000, 500),
        valid="demos/unpaired_ct_lung/dataset/test",
    ),
    "unpaired_ct_abdomen_unsup": config(
        *("unpaired_ct_abdomen", "unpaired", *ABDOMEN, terms("ssd", 1, 0, "gradient", 0.1), 1e-4, 4, 5000, 500),
        valid=VAL.format("unpaired_ct_abdomen"),
    ),
    "unpaired_ct_abdomen_weakly": config(
        *("unpaired_ct_abdomen", "unpaired", *ABDOMEN, terms("ssd", 0, 1, "gradient", 0.5), 1e-4, 4, 5000, 500),
        valid=VAL.format("unpaired_ct_abdomen"),
    ),
    "unpaired_ct_abdomen_comb": config(
        *("unpaired_ct_abdomen", "unpaired", *ABDOMEN, terms("ssd", 1, 0.1, "gradient", 0.025), 1e-4, 4, 5000, 500),
        valid=VAL.format("unpaired_ct_abdomen"),
    ),
    "paired_mrus_prostate": config(
        *("paired_mrus_prostate", "paired", [69, 69, 64], local(16, 3), terms("ssd", 0, 1.0, "bending", 0.125)),
        *(1e-5, 4, 5000, 1000),
        fixed_image_shape=[47, 63, 44],
        train=[f"{PART}{i}" for i in range(8)],
        valid=[f"{PART}8"],
        test=[f"{PART}9", PART.removesuffix("0") + "10"],
    ),
    "paired_mrus_brain": config(
        *("paired_mrus_brain", "paired", [256, 256, 288], local(4, 3), terms("ssd", 0.1, 1.0, "bending", 0.25)),
        *(1e-4, 2, 2000, 50),
        labeled=False,
        valid="demos/paired_mrus_brain/dataset/test",
    ),
    "unpaired_mr_brain": config(
        *("unpaired_mr_brain", "unpaired", [64, 64, 64], unet(False), terms("ssd", 1.0, 0.2, "gradient", 0.1)),
        *(1e-5, 4, 200, 2),
        method="dvf",
        valid="demos/unpaired_mr_brain/dataset/test",
    ),
    "unpaired_us_prostate_cv": config(
        *("unpaired_us_prostate_cv", "unpaired", [64, 100, 100], local(32, 3), terms("ssd", 1.0, 1.0, "bending", 0.25)),
        *(1e-4, 4, 6000, 1000),
        labeled=False,
        format="h5",
        train=[f"{FOLD}{i}" for i in range(8)],
        valid=f"{FOLD}8",
        test=f"{FOLD}9",
    ),
    "grouped_mask_prostate_longitudinal": config(
        *("grouped_mask_prostate_longitudinal", "grouped", [128, 128, 32], local(16, 3)),
        *(terms("ssd", 1.0, 0.0, "gradient", 0.0025, l1=False), 1e-5, 4, 5000, 1000),
        labeled=False,
        valid=VAL.format("grouped_mask_prostate_longitudinal"),
        format="h5",
        **GROUPED,
    ),
    "grouped_mr_heart": config(
        *("grouped_mr_heart", "grouped", [128, 128, 28], local(32, 4)),
        *(terms("gmi", 1.0, 0.0, "gradient", 0.25, l1=False), 1e-4, 4, 4000, 1000),
        labeled=False,
        valid=VAL.format("grouped_mr_heart"),
        **GROUPED,
    ),
}


def old():
    """The heart's settings in the form of 0.1.1."""
    new = copy.deepcopy(DEMOS["grouped_mr_heart"])
    dataset = new["dataset"]
    splits = {split: dataset.pop(split) for split in ("train", "valid", "test")}
    dataset |= {"dir": {split: each["dir"] for split, each in splits.items()}, "format": "nifti", "labeled": False}
    backbone = new["train"].pop("backbone")
    own = {key: backbone[key] for key in ("num_channel_initial", "extract_levels")}
    label = {"weight": 0.0, "name": "multi_scale", "single_scale": {"loss_type": "cross-entropy"}}
    label["multi_scale"] = {"loss_type": "dice", "loss_scales": DICE["scales"]}
    new["train"] |= {
        "model": {"method": new["train"].pop("method"), "backbone": "local", "local": own},
        "loss": {
            "dissimilarity": {"image": {"name": "gmi", "weight": 1.0}, "label": label},
            "regularization": {"weight": 0.25, "energy_type": "gradient-l2"},
        },
        "optimizer": {"name": "adam", "adam": {"learning_rate": 1e-4}, "sgd": {"learning_rate": 1e-4, "momentum": 0.9}},
    }
    del new["train"]["preprocess"]["data_augmentation"]
    return new


def changed(name, path, value):
    """A demo's config with another value at a dotted path."""
    new = copy.deepcopy(DEMOS[name] if isinstance(name, str) else name)
    *parents, last = path.split(".")
    inner = new
    for key in parents:
        inner = inner.setdefault(key, {})
    inner[last] = value
    return new
