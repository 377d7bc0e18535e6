import copy
import json

import numpy as np
import pytest
import yaml
from command_line import process, run
from deepreg_configs import DEMOS, DICE, changed, old

from regzoo.errors import InvalidError, MissingError
from regzoo.importers.deepreg import import_deepreg, translate
from regzoo.schema.outputs import AffineConfig, ConditionalConfig, DDFConfig, DVFConfig, FFDConfig
from regzoo.schema.recipe import Recipe
from regzoo.world.images import Image

LUNG = "unpaired_ct_lung"
MM = (1, 1, 1)


def imported(config, steps=5, spacing=MM, **settings):
    return translate(config, "demo", spacing, steps, **settings)


def recipe(config, *_, **settings):
    return imported(config, **settings).recipe


def notes(config, **settings):
    return imported(config, **settings).notes


# Channels, levels that predict, image, label, deformation: name and weight; batch, rate, steps of 5 an epoch.
FACTS = {
    "paired_ct_lung": ((32, 64, 128), (0, 1, 2), ("ssd", 10), 1, ("bending", 2.5), 4, 1e-5, 40_000),
    "unpaired_ct_lung": ((32, 64, 128, 256), (0, 1, 2, 3), ("ssd", 2), 1, ("bending", 1), 4, 1e-5, 25_000),
    "unpaired_ct_abdomen_unsup": ((16, 32, 64, 128), None, ("ssd", 1), 0, ("gradient", 0.3), 4, 1e-4, 25_000),
    "unpaired_ct_abdomen_weakly": ((16, 32, 64, 128), None, ("ssd", 0), 1, ("gradient", 1.5), 4, 1e-4, 25_000),
    "unpaired_ct_abdomen_comb": ((16, 32, 64, 128), None, ("ssd", 1), 0.1, ("gradient", 0.075), 4, 1e-4, 25_000),
    "paired_mrus_prostate": ((16, 32, 64, 128), (0, 1, 2, 3), ("ssd", 0), 1, ("bending", 0.125), 4, 1e-5, 25_000),
    "paired_mrus_brain": ((4, 8, 16, 32), (0, 1, 2, 3), ("ssd", 0.1), None, ("bending", 0.25), 2, 1e-4, 10_000),
    "unpaired_mr_brain": ((16, 32, 64, 128), None, ("ssd", 1), 0.2, ("gradient", 0.3), 4, 1e-5, 1_000),
    "unpaired_us_prostate_cv": ((32, 64, 128, 256), (0, 1, 2, 3), ("ssd", 1), None, ("bending", 0.25), 4, 1e-4, 30_000),
    "grouped_mask_prostate_longitudinal": (
        *((16, 32, 64, 128), (0, 1, 2, 3), ("ssd", 1), None, ("gradient", 0.0075), 4, 1e-5, 25_000),
    ),
    "grouped_mr_heart": (
        (32, 64, 128, 256, 512),
        (0, 1, 2, 3, 4),
        ("mi", 1),
        None,
        ("gradient", 0.75),
        4,
        1e-4,
        20_000,
    ),
}


@pytest.mark.parametrize("name", DEMOS)
def test_the_demos(name):
    found, config = recipe(DEMOS[name]), DEMOS[name]
    channels, levels, (image, weight), label, (deformation, stiffness), batch, rate, steps = FACTS[name]
    assert found.model.backbone.channels == channels
    assert found.model.backbone.extract_levels == levels
    assert found.model.backbone.name == config["train"]["backbone"]["name"]
    assert found.model.output == (DVFConfig(level=0, steps=7) if name == "unpaired_mr_brain" else DDFConfig(level=0))
    assert getattr(found.loss.image, image).weight == weight
    assert getattr(found.loss.deformation, deformation).weight == pytest.approx(stiffness)
    if label is None:
        assert (found.loss.label.dice, found.data.labels) == (None, None)
    else:
        assert (found.loss.label.dice.weight, found.loss.label.dice.scales) == (label, (0, 1, 2, 4, 8, 16))
        assert (found.data.labels, found.data.label_sampling) == ("labels", "one")
    training = found.training
    assert (training.batch_size, training.learning_rate, training.steps) == (batch, rate, steps)
    assert training.steps_per_epoch == 5 * config["train"]["save_period"]
    assert (training.schedule, training.warmup, found.augmentation.affine) == ("constant", 0, 0.1)
    assert (found.data.kind, found.data.layout) == ("folders", config["dataset"]["type"])
    shape = config["dataset"].get("fixed_image_shape") or config["dataset"]["image_shape"]
    assert found.input.shape == tuple(shape)
    assert (found.input.intensity.low, found.input.intensity.high) == (0, 100)
    train = config["dataset"]["train"]["dir"]
    assert found.data.train == tuple(train if isinstance(train, list) else [train])


def test_what_a_demo_s_notes_are():
    assert notes(DEMOS["unpaired_ct_abdomen_comb"]) == (
        "train.preprocess.shuffle_buffer_num_batch: regzoo draws every step anew.",
    )
    assert [start_of(note) for note in notes(DEMOS["unpaired_us_prostate_cv"], spacing=None)] == [
        *("dataset.train.dir", "dataset.image_shape", "train.loss.label"),
        "train.preprocess.shuffle_buffer_num_batch",
    ]


def test_the_form_before_1_0_gives_the_same_recipe():
    assert recipe(old()) == recipe(DEMOS["grouped_mr_heart"])
    assert [start_of(note) for note in notes(old())] == [
        *("train.loss.dissimilarity.label", "train.preprocess.shuffle_buffer_num_batch", "train.optimizer.sgd"),
    ]


def walk(value, path=""):
    """Goes through the mappings in a config: (dotted path, mapping)."""
    yield path, value
    for key, inner in value.items():
        at = f"{path}.{key}" if path else key
        if isinstance(inner, dict):
            yield from walk(inner, at)
        elif isinstance(inner, list) and isinstance(inner[0], dict):
            for i, each in enumerate(inner):
                yield from walk(each, f"{at}[{i}]")


def with_each(config, change):
    """Goes through copies of a config, each with one mapping changed at one key: (dotted path of the key, copy)."""
    for i, (path, mapping) in enumerate(walk(config)):
        for key in change(mapping):
            value = copy.deepcopy(config)
            _, inner = list(walk(value))[i]
            inner[key] = change(mapping)[key]
            yield f"{path}.{key}" if path else key, value


def other(value):
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    return value + "x" if isinstance(value, str) else [other(value[0]), *value[1:]]


def leaves(mapping):
    """Returns another value for each key that holds no mappings."""
    inner = {key for key, value in mapping.items() if isinstance(value[0] if isinstance(value, list) else value, dict)}
    return {key: other(value) for key, value in mapping.items() if value is not None and key not in inner}


RICH = copy.deepcopy(DEMOS["paired_mrus_prostate"])
RICH["dataset"]["sample_label"] = "all"
RICH["train"]["backbone"] |= {
    **{"depth": 4, "pooling": False, "use_additive_upsampling": False, "concat_skip": False, "control_points": None},
    **{"encode_kernel_sizes": 3, "decode_kernel_sizes": [3, 3], "strides": 2, "padding": "same"},
    **{"encode_num_channels": [4, 8, 16, 32, 64], "decode_num_channels": [4, 8, 16, 32, 64]},
}
RICH["train"]["loss"] = {
    "image": [
        {"name": "lncc", "weight": 0.5, "kernel_size": 5, "kernel_type": "gaussian", "smooth_nr": 1e-5},
        {"name": "gmi", "weight": 0.25, "num_bins": 30, "sigma_ratio": 0.75},
        {"name": "ssd", "weight": 2},
        {"name": "gncc"},
    ],
    "label": [
        DICE | {"kernel": "cauchy", "binary": False, "background_weight": 0.0, "smooth_nr": 1e-5},
        {"name": "cross-entropy", "background_weight": 0.25, "smooth": 1e-5},
        {"name": "jaccard", "scales": None},
    ],
    "regularization": [{"name": "gradient", "l1": True}, {"name": "bending", "weight": 3}],
}
RICH["train"]["preprocess"]["data_augmentation"] = [
    {"name": "affine", "scale": 0.2},
    {"name": "ddf", "field_strength": 2, "low_res_size": [4, 5, 6]},
]
RICH["train"]["optimizer"] |= {"beta_1": 0.8}
RICH["train"]["update_freq"] = "batch"


def test_all_settings():
    found = recipe(RICH, spacing=(1, 1, 2.5))
    loss = found.loss.model_dump(exclude_none=True, exclude_defaults=True)
    assert loss["image"] == {
        "lncc": {"weight": 0.5, "size": 5, "window": "gaussian"},
        "mi": {"weight": 0.25, "num_bins": 30, "sigma_ratio": 0.75},
        "ssd": {"weight": 2},
        "ncc": {},
    }
    assert loss["label"] == {
        "dice": {"scales": (0, 1, 2, 4, 8, 16), "kernel": "cauchy"},
        "cross_entropy": {"background_weight": 0.25},
        "jaccard": {},
    }
    assert loss["deformation"] == {"gradient": {"weight": 3.0, "norm": "l1"}, "bending": {"weight": 3 * 1.5**2}}
    backbone = found.model.backbone
    assert backbone.channels == (4, 8, 16, 32, 64)
    assert (backbone.pooling, backbone.use_additive_upsampling, backbone.extract_levels) == (False, False, (0, 1, 2, 3))
    assert found.data.label_sampling == "all"
    assert found.augmentation.affine == 0.2
    assert found.augmentation.field.strength == pytest.approx(3.0)
    assert found.augmentation.field.smoothness == pytest.approx(47 / 4)


CONFIGS = [RICH, DEMOS["grouped_mr_heart"], old(), changed(LUNG, "train.method", "conditional")]


def is_named(path, found):
    """Says whether a note is about a key, or about a section that holds it."""
    return any(path == start or path.startswith((f"{start}.", f"{start}[")) for start in map(start_of, found))


def start_of(note):
    return note.partition(": ")[0]


@pytest.mark.parametrize("config", CONFIGS)
def test_no_value_is_dropped_silently(config):
    base, count = imported(config), 0
    for path, value in with_each(config, leaves):
        try:
            assert imported(value) != base or is_named(path, base.notes), path
        except InvalidError:
            continue
        count += 1
    assert count > 15


@pytest.mark.parametrize("config", CONFIGS)
def test_an_unknown_key_is_named_wherever_it_stands(config):
    base = notes(config)
    for path, value in with_each(config, lambda mapping: {"wieght": 1}):
        new = [note for note in notes(value) if note not in base]
        assert is_named(path, new or base), path
        assert len(new) <= 1


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("train.optimizer.name", "SGD", "train.optimizer.name: regzoo trains by Adam and not by SGD"),
        ("train.optimizer.beta_1", 0.8, "train.optimizer.beta_1: regzoo's Adam has Keras's own value."),
        ("train.loss.image.wieght", 1, "train.loss.image.wieght: unknown key, left out; nearest is 'weight'."),
        ("train.loss.label.binary", True, "train.loss.label.binary: regzoo's label losses have no thresholded form"),
        ("train.loss.label.scales", [0, 32], "train.loss.label.scales: regzoo's scales go up to 16 voxels; 32 is left"),
        (
            "train.loss.label.background_weight",
            0.1,
            "train.loss.label.background_weight: regzoo's dice counts the fore",
        ),
        (
            "train.loss.image",
            [{"name": "lp_norm"}, {"name": "ssd"}],
            "train.loss.image[0].name: regzoo has no loss 'lp_n",
        ),
        (
            "train.loss.image",
            [{"name": "ssd", "weight": 0}, {"name": "gmi"}],
            "train.loss.image[0].weight: DeepReg leaves",
        ),
        (
            "train.loss.image",
            [{"name": "lncc"}, {"name": "lncc", "kernel_size": 5}],
            "train.loss.image[1].name: regzoo has one 'lncc'",
        ),
        (
            "train.loss.image",
            {"name": "lncc", "kernel_size": 8},
            "train.loss.image.kernel_size: regzoo's windows are odd",
        ),
        ("train.backbone.padding", "valid", "train.backbone.padding: regzoo's convolutions pad; 'valid' is left out."),
        (
            "train.backbone.concat_skip",
            True,
            "train.backbone.concat_skip: regzoo's backbone 'local' adds; True is left",
        ),
        (
            "train.backbone.encode_kernel_sizes",
            [3, 5, 3, 3],
            "train.backbone.encode_kernel_sizes: regzoo's convolutions",
        ),
        ("train.preprocess.data_augmentation.scale", 0.5, "train.preprocess.data_augmentation.scale: 0.5 becomes 0.33"),
        ("dataset.moving_image_shape", [8, 8, 8], "dataset.moving_image_shape: unknown key, left out"),
        ("dataset.intra_group_prob", 1, "dataset.intra_group_prob: only grouped data have it, and these are unpaired."),
        (
            "dataset.valid.dir",
            None,
            "dataset.valid.dir: no folder is given, and weights are chosen on its im",
        ),
        (
            "dataset.valid.dir",
            "demos/unpaired_ct_lung/dataset/train",
            "dataset.valid.dir: training images, on which reg",
        ),
        ("dataset.test.dir", "x", None),
        ("dataset.train.format", "h5", "dataset.train.dir: HDF5 files hold no spacing"),
        ("dataset.valid.labeled", False, "dataset.valid.labeled: regzoo uses the labels of every split"),
        ("other", {"a": 1}, "other: unknown key, left out."),
    ],
)
def test_a_note_says_what_is_not_carried_over_and_why(path, value, expected):
    before = notes(DEMOS[LUNG])
    found = [note for note in notes(changed(LUNG, path, value)) if note not in before]
    if expected is None:
        assert len(before) == 2
        assert found == []
    else:
        assert found[0].startswith(expected)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            "train.backbone.name",
            "efficient_net",
            r"^train\.backbone\.name: expected one of local, unet, global, received '",
        ),
        (
            "train.method",
            "affine",
            r"^train\.method: expected 'ddf' with the backbone 'global', and only with it 'affine'",
        ),
        ("train.backbone.depth", 9, r"^train\.backbone\.depth: expected 1 to 6, received 9\."),
        (
            "train.backbone.num_channel_initial",
            "many",
            r"^train\.backbone\.num_channel_initial: expected an integer, rece",
        ),
        (
            "train.backbone.num_channel_initial",
            300,
            r"^the recipe: model\.backbone\.channels\[1\]: expected less than or e",
        ),
        (
            "train.optimizer.learning_rate",
            "fast",
            r"^train\.optimizer\.learning_rate: expected a number, received 'fast'",
        ),
        (
            "train.loss.regularization",
            3,
            r"^train\.loss\.regularization: expected a mapping of keys to values, received 3",
        ),
        ("train.epochs", None, r"^train\.epochs: the key is missing; expected an integer\."),
        (
            "dataset.type",
            "pared",
            r"^dataset\.type: expected one of paired, .* received 'pared'\. Did you mean 'paired'\?",
        ),
        (
            "dataset.train.dir",
            None,
            r"^dataset\.train\.dir: the key is missing; expected a folder of training images\.",
        ),
        ("dataset.image_shape", [96], r"^dataset\.image_shape: expected three numbers of voxels, received \[96\]"),
        ("train.loss", {}, r"^the recipe: loss: expected an image or label loss with a weight above 0"),
    ],
)
def test_what_cannot_be_a_recipe_is_refused(path, value, message):
    with pytest.raises(InvalidError, match=message):
        recipe(changed(LUNG, path, value))


def test_a_note_cannot_leave_its_line(tmp_path):
    value = changed(LUNG, "train.loss.image", [{"name": "ssd"}, {"name": "a\nname: b\x1b[2J"}])
    imported(value).write(tmp_path / "recipe.yaml")
    assert Recipe.read(tmp_path / "recipe.yaml").name == "demo"
    assert "'a?name: b?[2J'" in notes(value)[1]


def test_text_of_a_number_counts():
    assert recipe(changed(LUNG, "train.optimizer.learning_rate", "1e-4")).training.learning_rate == 1e-4
    assert recipe(changed(LUNG, "train.optimizer", {"name": "adam"})).training.learning_rate == 1e-3


@pytest.mark.parametrize(("name", "epsilon"), [("Adam", 1e-3), ("RMSprop", 1e-7)])
def test_epsilon_is_kept_for_adam_alone(name, epsilon):
    optimizer = {"name": name, "learning_rate": 1e-4, "epsilon": 1e-3}
    assert recipe(changed(LUNG, "train.optimizer", optimizer)).training.epsilon == epsilon


def test_equal_losses_add_up():
    value = changed(LUNG, "train.loss.image", [{"name": "ssd", "weight": 1}, {"name": "ssd", "weight": 0.5}])
    assert recipe(value).loss.image.ssd.weight == 1.5


def test_other_methods_and_outputs():
    affine = {"name": "global", "num_channel_initial": 4, "depth": 4}
    for method in ("ddf", "affine"):
        found = recipe(changed(changed(LUNG, "train.method", method), "train.backbone", affine)).model
        assert (found.backbone.channels, found.output) == ((4, 8, 16, 32, 64), AffineConfig())
    value = changed(LUNG, "train.method", "conditional")
    found = imported(value)
    assert found.recipe.model.output == ConditionalConfig()
    assert found.recipe.loss.image.ssd is found.recipe.loss.deformation.bending is None
    assert [start_of(note) for note in found.notes][1:4] == [
        *("train.backbone.extract_levels", "train.loss.image", "train.loss.regularization"),
    ]
    value = changed(LUNG, "train.backbone.control_points", [8, 8, 4])
    found = imported(value, spacing=(1.5, 1.5, 2.5))
    assert found.recipe.model.output == FFDConfig(spacing=(10.0,))
    assert found.notes[1].startswith(
        "train.backbone.control_points: regzoo's are equally far apart along all axes, 10 mm"
    )
    value = changed(changed(LUNG, "train.method", "dvf"), "train.backbone.control_points", 8)
    assert recipe(value).model.output == DVFConfig(level=0)
    assert "train.backbone.control_points: regzoo has control points for a ddf" in " ".join(notes(value))
    value = changed(LUNG, "train.backbone.extract_levels", [1, 2])
    assert (recipe(value).model.output.level, recipe(value).model.backbone.extract_levels) == (1, (1, 2))


def test_augmentation_may_be_off_and_is_affine_by_default():
    assert recipe(changed(LUNG, "train.preprocess.data_augmentation", None)).augmentation.affine == 0
    value = copy.deepcopy(DEMOS[LUNG])
    del value["train"]["preprocess"]["data_augmentation"]
    assert recipe(value).augmentation.affine == 0.1


@pytest.mark.backend
@pytest.mark.parametrize(("name", "more"), [("gradient", {"l1": False}), ("gradient", {"l1": True}), ("bending", {})])
@pytest.mark.parametrize("mm", [1.0, 2.0])
def test_a_smooth_field_costs_what_it_costs_in_deepreg(name, more, mm):
    from tensors import array, tensor

    from regzoo.losses import weighted_terms

    x, y, z = np.indices((24, 20, 22)) / 12
    field = np.stack([np.sin(x + y), 0.7 * np.cos(y - z), 0.4 * np.sin(2 * z + x * y)], axis=-1)
    first = np.gradient(field, axis=(0, 1, 2))
    if name == "gradient":
        cost = sum(np.mean(np.abs(part) if more["l1"] else part**2) for part in first)
    else:
        cost = sum(np.mean(part**2) for each in first for part in np.gradient(each, axis=(0, 1, 2)))
    value = changed(LUNG, "train.loss.regularization", {"name": name, "weight": 0.5, **more})
    loss = recipe(value, spacing=(mm, mm, mm)).loss.model_dump(exclude_none=True, include={"deformation"})
    ((_, _, function, weight),) = weighted_terms(loss, (mm, mm, mm))
    found = weight * float(array(function(tensor(field[None])))[0])
    assert found == pytest.approx(0.5 * cost, rel=0.1)


def test_files_are_merged_in_order(tmp_path):
    first, second = tmp_path / "Lung CT.yaml", tmp_path / "more.yaml"
    first.write_text(yaml.safe_dump(DEMOS[LUNG]))
    second.write_text("train:\n  method: dvf\n  loss: {image: {weight: 3}}\n")
    found = import_deepreg([first, second], spacing=MM, steps_per_epoch=5).recipe
    assert (found.name, found.model.output) == ("lung-ct", DVFConfig(level=0))
    assert found.loss.image.ssd.weight == 3
    assert import_deepreg([first], spacing=MM, steps_per_epoch=5).recipe.loss.image.ssd.weight == 2
    with pytest.raises(MissingError, match=r"none\.yaml does not exist"):
        import_deepreg([first, tmp_path / "none.yaml"])


def write_images(folder, names):
    for name in names:
        Image(np.zeros((4, 4, 4), np.float32), np.eye(4)).save(folder / f"{name}.nii.gz")


@pytest.mark.parametrize(
    ("layout", "folders", "changes", "steps"),
    [
        ("unpaired", {"images": "abcdefghi"}, {}, 2),  # 4 pairs, 2 a step
        ("paired", {"fixed_images": "abcdef", "moving_images": "abcdef"}, {}, 3),
        ("grouped", {"images": ["g/1", "g/2", "g/3", "h/1", "h/2"]}, {}, 1),
        ("grouped", {"images": ["g/1", "g/2", "g/3", "h/1", "h/2"]}, {"sample_image_in_group": False}, 4),
        (
            *("grouped", {"images": ["g/1", "g/2", "g/3", "h/1", "h/2"]}),
            *({"sample_image_in_group": False, "intra_group_option": "forward"}, 2),
        ),
        (
            *("grouped", {"images": ["g/1", "g/2", "g/3", "h/1", "h/2"]}),
            *({"sample_image_in_group": False, "intra_group_prob": 0}, 6),
        ),
    ],
)
def test_training_images_are_counted(tmp_path, layout, folders, changes, steps):
    for folder, names in folders.items():
        write_images(tmp_path / "here" / folder, names)
    name = {"unpaired": LUNG, "paired": "paired_ct_lung", "grouped": "grouped_mr_heart"}[layout]
    value = changed(changed(name, "dataset.train.dir", "here"), "train.preprocess.batch_size", 2)
    value["dataset"] |= changes
    found = translate(value, "demo", MM, data=tmp_path).recipe.training
    assert found.steps == steps * value["train"]["epochs"]


def test_without_images_the_steps_must_be_given(tmp_path):
    with pytest.raises(
        InvalidError, match=r"^train\.epochs: passes over .* by --steps-per-epoch, or where .* by --data\."
    ):
        translate(DEMOS[LUNG], "demo", data=tmp_path)


@pytest.mark.parametrize("call", [run, process])
def test_import_on_the_command_line(tmp_path, call):
    source, output = tmp_path / "deepreg.yaml", tmp_path / "recipe.yaml"
    source.write_text(json.dumps(DEMOS[LUNG]))  # JSON is YAML
    arguments = ("recipe", "import", str(source), "-o", str(output), "--steps-per-epoch", "5")
    code, out, err = call(*arguments, "--spacing", "3,3,2.5", "--name", "lung-ct-ddf")
    assert (code, out) == (0, f"{output}\n")
    found = imported(DEMOS[LUNG], spacing=(3, 3, 2.5))
    assert Recipe.read(output) == found.recipe.model_copy(update={"name": "lung-ct-ddf"})
    assert err.splitlines() == [f"warning: {note}" for note in found.notes]
    assert output.read_text().splitlines()[: 1 + len(found.notes)] == [
        "# Imported from DeepReg.",
        *(f"# {note}" for note in found.notes),
    ]
    code, out, err = call(*arguments, "--spacing", "3,3")
    assert code == 2
    assert "expected three numbers such as 1,1,2.5, received '3,3'" in " ".join(err.split())
