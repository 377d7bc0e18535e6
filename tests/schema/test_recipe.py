import pytest
import yaml

from regzoo.data.tables import PairFiles, pair_records, read_pairs
from regzoo.errors import InvalidError, MissingError
from regzoo.schema.augmentation import Augmentation
from regzoo.schema.backbones import UNetConfig
from regzoo.schema.losses import active
from regzoo.schema.outputs import DVFConfig
from regzoo.schema.recipe import Recipe, data_home

TEXT = """
name: hippocampus-mr-dvf
version: "1"
parent: null
seed: 1
model: {dims: 3, backbone: {name: unet, channels: [16, 32, 48, 64]}, output: {name: dvf, level: 1, steps: 7}}
input: {spacing: [1,1,1], shape: [48,64,48], intensity: {name: percentiles, low: 1, high: 99}, alignment: center}
data:
  kind: unpaired
  root: hippocampus-mr
  images: images
  labels: labels
  splits: splits.json
  label_values: [1, 2]
  validation_pairs: 20
loss:
  image: {lncc: {weight: 1.0, size: 7}, ssd: {weight: 0}}
  label: {dice: {weight: 1.0}}
  deformation: {gradient: {weight: 0.1, norm: l1}}
augmentation: {affine: 0.1}
training:
  steps: 12000
  batch_size: 2
  learning_rate: 6e-4
  warmup: 200
  schedule: cosine
  clip_norm: 1.0
  precision: float32
  steps_per_epoch: 250
card:
  summary: A summary
  license: cc-by-sa-4.0
  data: [{name: Hippocampus, license: CC-BY-SA-4.0}]
  limits: [Not for clinical use.]
"""


def write(tmp_path, *changes):
    """A recipe file, changed by replacing old text by new."""
    text = TEXT
    for old, new in changes:
        if old not in text:
            raise ValueError(old)
        text = text.replace(old, new, 1)
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return path


def test_recipe_is_read(tmp_path):
    recipe = Recipe.read(write(tmp_path))
    assert recipe.training.learning_rate == 6e-4  # PyYAML reads it as text
    assert recipe.model.backbone == UNetConfig(channels=(16, 32, 48, 64))
    assert recipe.model.output == DVFConfig(level=1, steps=7)
    assert recipe.input.shape == (48, 64, 48)
    assert recipe.data.label_values == (1, 2)
    assert recipe.card.data[0].license == "CC-BY-SA-4.0"
    assert {name: term.weight for name, term in active(recipe.loss.deformation).items()} == {"gradient": 0.1}
    assert active(recipe.loss.deformation)["gradient"].norm == "l1"


def test_recipe_round_trips(tmp_path):
    path, copy = (
        write(tmp_path, ("6e-4", "1e-07"), ("weight: 0.1", "weight: 0.30000000000000004")),
        tmp_path / "new" / "copy.yaml",
    )
    recipe = Recipe.read(path)
    recipe.write(copy)
    assert Recipe.read(copy) == recipe
    assert Recipe.read(copy).training.learning_rate == 1e-07
    text = copy.read_text()
    Recipe.read(copy).write(copy)
    assert copy.read_text() == text
    assert list(yaml.safe_load(text))[:3] == ["name", "version", "seed"]


def test_a_weight_of_zero_switches_exactly_that_term_off(tmp_path):
    recipe = Recipe.read(write(tmp_path))
    assert list(active(recipe.loss.image)) == ["lncc"]
    assert recipe.loss.image.ssd.weight == 0
    recipe = Recipe.read(write(tmp_path, ("dice: {weight: 1.0}", "dice: {weight: 0}"), ("  labels: labels\n", "")))
    assert active(recipe.loss.label) == {}
    assert recipe.data.labels is None


def test_small_recipe_and_parent(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text(
        "name: x\nparent: lung-ct-ddf@1\ndata: {kind: pairs, train: a.csv, valid: b.csv}\n"
        "loss: {image: {ncc: {}}}\naugmentation: {affine: null}\ntraining: {steps: 10}\n"
    )
    recipe = Recipe.read(path)
    assert (recipe.model, recipe.input, recipe.data.test) == (None, None, None)
    assert (recipe.version, recipe.seed, recipe.augmentation.affine) == ("1", 1, 0.0)
    assert recipe.loss.image.ncc.weight == 1.0
    recipe.write(path)
    assert Recipe.read(path) == recipe


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("parent: null", "parent: 5", "parent: expected a valid string, received 5. Put it in quotes."),
        ("parent: null", "parent: [a, 5]", "parent[1]: expected a valid string, received 5. Put it in quotes."),
        (
            "learning_rate: 6e-4",
            "learning_rat: 6e-4",
            "training.learning_rat: unknown key. Did you mean 'learning_rate'?",
        ),
        ("lncc: {", "lcc: {", "loss.image.lcc: unknown key. Did you mean 'lncc'?"),
        ("size: 7", "width: 7", "loss.image.lncc.width: unknown key. Known: floor, size, weight, window."),
        ("images: images", "image: images", "data.image: unknown key. Did you mean 'images'?"),
        (
            "kind: unpaired",
            "kind: unpared",
            "data.kind: expected 'unpaired', 'grouped', 'pairs', 'folders', 'breathing', 'shapes', 'maps', "
            "received 'unpared'.",
        ),
        ("kind: unpaired", "root: x", "'root' is given twice."),
        ("  kind: unpaired\n", "", "data.kind: the key is missing."),
        ("channels: [16", "channels: [1000000000", "model.backbone.channels[0]: expected less than or equal to 512"),
        ("steps: 7}", "step: 7}", "model.output.step: unknown key. Did you mean 'steps'?"),
        ("alignment: center", "axes: RLS", "input.axes: expected one of R and L, one of A and P, one of S and I, rec"),
        ("alignment: center", "axes: ras", "input.axes: expected text to match pattern"),
        (
            "name: unet, channels: [16, 32, 48, 64]",
            "name: voxelmorph, encoder: [4, 5], decoder: [4, 4, 4]",
            "model.backbone: decoder: expected at least 4 values, received 3.",
        ),
        ("shape: [48,64,48]", "shape: [48,64]", "input: spacing and shape: expected as many values"),
        ("steps: 12000", "steps: 0", "training.steps: expected greater than or equal to 1, received 0."),
        (
            "steps: 12000",
            "steps: many",
            "training.steps: expected a valid integer, unable to parse string as an integer, received 'many'.",
        ),
        (
            "batch_size: 2",
            "batch_size: 1000",
            "training.batch_size: expected less than or equal to 256, received 1000.",
        ),
        (
            "learning_rate: 6e-4",
            "learning_rate: .nan",
            "training.learning_rate: expected a finite number, received nan.",
        ),
        (
            "learning_rate: 6e-4",
            "learning_rate: 1e999",
            "training.learning_rate: expected a finite number, received '1e999'.",
        ),
        ("learning_rate: 6e-4", "learning_rate: 0", "training.learning_rate: expected greater than 0, received 0."),
        ("warmup: 200", "warmup: 12000", "training: warmup (12000) must be below steps (12000)."),
        ("steps: 12000", "minutes: 0", "training.minutes: expected greater than 0, received 0."),
        ("steps: 12000", "steps: null", "training: expected steps or minutes, received neither. Give one."),
        (
            "steps: 12000",
            "steps: 12000\n  minutes: 5",
            "training: expected steps or minutes, received both. Give one.",
        ),
        (
            "steps: 12000",
            "minutes: 5\n  stop_after: 7",
            "training: stop_after: expected null in a run of minutes, received 7.",
        ),
        (
            "precision: float32",
            "precision: float16",
            "training.precision: expected 'float32' or 'mixed_bfloat16', received 'float16'.",
        ),
        (
            "weight: 0.1",
            "weight: -1",
            "loss.deformation.gradient.weight: expected greater than or equal to 0, received -1.",
        ),
        ("norm: l1", "norm: l3", "loss.deformation.gradient.norm: expected 'l1' or 'l2', received 'l3'."),
        ("size: 7", "size: 6", "loss.image.lncc.size: expected an odd number, received 6."),
        ("affine: 0.1", "affine: 2", "augmentation.affine: expected less than or equal to 0.33, received 2."),
        ("label_values: [1, 2]", "label_values: []", "data.label_values: Tuple should have at least 1 item"),
        (
            "label_values: [1, 2]",
            "label_values: [0]",
            "data.label_values[0]: expected greater than or equal to 1, received 0.",
        ),
        (
            "validation_pairs: 20",
            "validation_pairs: 0",
            "data.validation_pairs: expected greater than or equal to 1, received 0.",
        ),
        ("seed: 1", "seed: -1", "seed: expected greater than or equal to 0, received -1."),
        ("name: hippocampus-mr-dvf", "name: ../x", "name: expected text to match pattern"),
        ('version: "1"', "version: 1.10", "version: expected a valid string, received 1.1. Put it in quotes."),
        ("  labels: labels\n", "", "data.labels: expected a folder, since loss.label has a weight above 0."),
        ("model: {", "x: {", "x: unknown key."),
        ("loss:\n", "loss: 3\nx:\n", "x: unknown key."),
        ("limits: [", "limitz: [", "card.limitz: unknown key. Did you mean 'limits'?"),
        ("\nseed", "\n\tseed", "not valid YAML, line 5: found"),
    ],
)
def test_a_bad_recipe_is_refused_by_path(tmp_path, old, new, expected):
    path = write(tmp_path, (old, new))
    with pytest.raises(InvalidError) as caught:
        Recipe.read(path)
    assert str(caught.value).startswith(str(path))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


DATA = TEXT[TEXT.index("data:") : TEXT.index("loss:")]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("kind: folders, layout: paired, labels: null", "data.labels: expected a folder, since loss.label"),
        ("kind: folders, layout: pairs", "data.layout: expected 'paired', 'unpaired' or 'grouped', received 'pairs'."),
        ("kind: folders", "data.layout: the key is missing."),
        ("kind: folders, layout: paired, train: []", "data.train: Tuple should have at least 1 item"),
        (
            "kind: folders, layout: grouped, intra_group_opt: 1",
            "data.intra_group_opt: unknown key. Did you mean 'intra_g",
        ),
        (
            "kind: folders, layout: grouped, intra_group_prob: 2",
            "data.intra_group_prob: expected less than or equal to 1, received 2.",
        ),
        (
            "kind: folders, layout: unpaired, intra_group_option: forward",
            "data: intra_group_option: the layout 'unpaired' has no use for it.",
        ),
        (
            "kind: folders, layout: paired, validation_pairs: 3",
            "data: validation_pairs: the layout 'paired' has no use for it.",
        ),
        ("kind: folders, layout: paired, spacing: [1, 1]", "data.spacing[2]: the key is missing."),
        (
            "kind: folders, layout: paired, spacing: [1, 1, 0]",
            "data.spacing[2]: expected greater than 0.01, received 0.",
        ),
        ("kind: unpaired, labels: x, intra_group_prob: 0.5", "data.intra_group_prob: unknown key."),
        ("kind: grouped", "data.labels: expected a folder, since loss.label has a weight above 0."),
        (
            "kind: grouped, labels: x, label_sampling: some",
            "data.label_sampling: expected 'one', 'all' or a number from 2 to 64, received 'some'.",
        ),
        (
            "kind: grouped, labels: x, label_sampling: 1",
            "data.label_sampling: expected 'one', 'all' or a number from 2 to 64, received 1.",
        ),
    ],
)
def test_bad_data_are_refused_by_path(tmp_path, data, expected):
    path = write(tmp_path, (DATA, f"data: {{{data}}}\n"))
    with pytest.raises(InvalidError) as caught:
        Recipe.read(path)
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    "data",
    [
        "kind: grouped, labels: x, splits: all.csv, intra_group_prob: 0.5, intra_group_option: backward",
        "kind: folders, layout: paired, root: prostate-mrus, splits: splits.json, label_sampling: one",
        "kind: folders, layout: unpaired, train: [fold0, fold1], valid: [fold2], test: [fold3], spacing: [1, 2, 3]",
        "kind: folders, layout: grouped, images: data, labels: data, splits: groups.json, intra_group_option: forward",
        "kind: folders, layout: grouped, intra_group_prob: 0, sample_image_in_group: false, validation_pairs: 5",
    ],
)
def test_data_of_all_kinds_round_trip(tmp_path, data):
    recipe = Recipe.read(write(tmp_path, (DATA, f"data: {{{data}}}\n")))
    recipe.write(tmp_path / "copy.yaml")
    assert Recipe.read(tmp_path / "copy.yaml") == recipe
    assert next(iter(yaml.safe_load((tmp_path / "copy.yaml").read_text())["data"])) == "kind"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ("noise: -0.1", "augmentation.noise: expected greater than or equal to 0, received -0.1."),
        ("gamma: 3", "augmentation.gamma: expected less than or equal to 2, received 3."),
        ("field: {strength: 5}", "augmentation.field.smoothness: the key is missing."),
        (
            "field: {strength: 5, smoothness: 12}",
            "augmentation.field: strength: expected at most 0.4 x smoothness, or it may fold, received 5.0.",
        ),
        ("flip: {swap: [[1, 2], [2, 3]]}", "augmentation.flip: swap: a label is listed twice."),
        ("flip: {swap: [[1]]}", "augmentation.flip.swap[0][1]: the key is missing."),
        ("flip: {probability: 0}", "augmentation.flip.probability: expected greater than 0, received 0."),
        ("blur: 1", "augmentation.blur: unknown key."),
    ],
)
def test_bad_augmentation_is_refused_by_path(tmp_path, changes, expected):
    path = write(tmp_path, ("augmentation: {affine: 0.1}", f"augmentation: {{{changes}}}"))
    with pytest.raises(InvalidError) as caught:
        Recipe.read(path)
    assert expected in str(caught.value)


def test_augmentation_is_off_by_default_and_by_null(tmp_path):
    off = Augmentation()
    assert not any(value for _, value in off)
    text = "augmentation: {affine: null, field: null, flip: null, gamma: null, noise: 0, bias: null}"
    assert Recipe.read(write(tmp_path, ("augmentation: {affine: 0.1}", text))).augmentation == off


@pytest.mark.parametrize(("key", "absent"), [("model", "model"), ("input", "input")])
def test_a_run_without_parent_needs_model_and_input(tmp_path, key, absent):
    value = yaml.safe_load(TEXT) | {key: None}
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(value))
    with pytest.raises(
        InvalidError, match=f"recipe.yaml: {absent}: expected a value, since parent is null or a list\\.$"
    ):
        Recipe.read(path)
    path.write_text(yaml.safe_dump(value | {"parent": "lung-ct-ddf"}))
    assert getattr(Recipe.read(path), key) is None


def test_something_must_be_compared(tmp_path):
    path = write(tmp_path, ("lncc: {weight: 1.0", "lncc: {weight: 0"), ("dice: {weight: 1.0}", "dice: {weight: 0}"))
    with pytest.raises(InvalidError, match="loss: expected an image or label loss with a weight above 0"):
        Recipe.read(path)


def test_missing_oversized_and_empty_recipes(tmp_path):
    with pytest.raises(MissingError, match=r"no\.yaml does not exist"):
        Recipe.read(tmp_path / "no.yaml")
    with pytest.raises(InvalidError, match="expected a file, received a folder"):
        Recipe.read(tmp_path)
    path = write(tmp_path)
    path.write_text("#" * 70_000)
    with pytest.raises(InvalidError, match="expected at most 64 KiB, received 68 KiB"):
        Recipe.read(path)
    path.write_text("")
    with pytest.raises(InvalidError, match="expected a mapping of keys to values, received NoneType"):
        Recipe.read(path)


def test_a_recipe_is_frozen(tmp_path):
    recipe = Recipe.read(write(tmp_path))
    with pytest.raises(ValueError, match="frozen"):
        recipe.training.steps = 1


def test_data_home(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("REGZOO_DATA", raising=False)
    assert data_home().samefile(tmp_path / "data")
    monkeypatch.setenv("REGZOO_DATA", str(tmp_path))
    assert data_home() == tmp_path
    assert data_home(tmp_path / "data") == tmp_path / "data"
    with pytest.raises(InvalidError, match=r"data home: expected a folder, received 'nowhere'\. Name it by --data"):
        data_home("nowhere")


HEADER = "fixed,moving,fixed_labels,moving_labels,fixed_points,moving_points"


@pytest.fixture
def pairs(tmp_path):
    """Writes a CSV beside the files a, b, c and `d, e` and returns its path."""
    for name in ("a", "b", "c", "d, e"):
        (tmp_path / name).touch()

    def write_csv(text, encoding="utf-8"):
        (tmp_path / "pairs.csv").write_bytes(text.encode(encoding))
        return tmp_path / "pairs.csv"

    return write_csv


def test_pairs_are_read(pairs, tmp_path):
    rows = read_pairs(pairs(f"{HEADER}\na,b,,c,,\nb,{tmp_path}/a,c,c,c,c\n"))
    a, b, c = (tmp_path / name for name in "abc")
    assert rows == [PairFiles(a, b, None, c, None, None), PairFiles(b, a, c, c, c, c)]


@pytest.mark.parametrize(
    "text",
    [
        "fixed,moving\r\na,b\r\n",
        "moving,fixed\nb,a",
        "\n\nfixed,moving\n\na,b\n\n,\n  \n",
        " fixed , moving \n a , b \n",
        '"fixed","moving"\n"a","b"\n',
        "fixed,moving,fixed_labels\na,b\n",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_spreadsheets_of_all_kinds(pairs, tmp_path, text, encoding):
    assert read_pairs(pairs(text, encoding)) == [PairFiles(tmp_path / "a", tmp_path / "b")]


def test_a_comma_in_a_file_name(pairs, tmp_path):
    assert read_pairs(pairs('fixed,moving\n"d, e",b\n'))[0].fixed == tmp_path / "d, e"


@pytest.mark.parametrize(
    ("text", "kind", "expected"),
    [
        ("fixed,moving\na,b\n\na,x.nii\n", MissingError, "pairs.csv, line 4: moving file {}/x.nii does not exist."),
        ("fixed,moving\na,.\n", MissingError, "pairs.csv, line 2: moving file {} does not exist."),
        (
            "fixed,moving\na,~no-such-user-of-regzoo/x\n",
            MissingError,
            "line 2: moving file {}/~no-such-user-of-regzoo/x does not exist.",
        ),
        ("fixed,moving,fixed_label\n", InvalidError, "Unknown column 'fixed_label'. Did you mean 'fixed_labels'?"),
        ("fixed;moving\na;b\n", InvalidError, "Unknown column 'fixed;moving'."),
        ("fixed\na\n", InvalidError, "pairs.csv: expected a column 'moving', received fixed."),
        ("fixed,moving,fixed\na,b,a\n", InvalidError, "column 'fixed' is given twice"),
        ("fixed,moving\na,\n", InvalidError, "line 2: expected a value in column 'moving', received an empty cell."),
        ("fixed,moving\na,b,c\n", InvalidError, "line 2: expected 2 cells, received 3."),
        ("fixed,moving\n", InvalidError, "expected at least one line below the header, received none."),
        ("", InvalidError, "expected a column 'fixed', received an empty file."),
        ('fixed,moving\na,"b\n', InvalidError, "pairs.csv, line 2: not valid CSV: unexpected end of data."),
    ],
)
def test_bad_pairs_name_the_line(pairs, tmp_path, text, kind, expected):
    with pytest.raises(kind) as caught:
        read_pairs(pairs(text))
    assert expected.format(tmp_path) in str(caught.value)


def test_a_pair_of_a_user_who_is_not_there(tmp_path):
    with pytest.raises(MissingError, match=r"pair 1: fixed file ~no-such-user-of-regzoo/x does not exist\."):
        pair_records([{"fixed": "~no-such-user-of-regzoo/x", "moving": tmp_path}])


def test_pairs_in_another_encoding_or_absent(pairs, tmp_path):
    with pytest.raises(InvalidError, match="expected UTF-8 text"):
        read_pairs(pairs("fixed,moving\na,\xe9\n", "latin-1"))
    with pytest.raises(MissingError, match=r"no\.csv does not exist"):
        read_pairs(tmp_path / "no.csv")


@pytest.mark.parametrize("spacing", ["8", "[8]", "8.0"])
def test_one_spacing_of_control_points_may_be_a_number(tmp_path, spacing):
    change = "output: {name: dvf, level: 1, steps: 7}", f"output: {{name: ffd, spacing: {spacing}}}"
    assert Recipe.read(write(tmp_path, change)).model.output.spacing == (8.0,)
