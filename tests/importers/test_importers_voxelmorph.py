import h5py
import numpy as np
import pytest
import voxelmorph_file
from command_line import process, run
from scipy.ndimage import gaussian_filter, zoom
from voxelmorph_file import DECODER, ENCODER, describe

import regzoo
from regzoo.errors import InvalidError, MissingError
from regzoo.hub import cards
from regzoo.importers.voxelmorph import import_voxelmorph, read
from regzoo.schema.backbones import VoxelMorphConfig
from regzoo.schema.outputs import DDFConfig
from regzoo.world.images import Image
from regzoo.world.transforms import Transform

SHAPE = (16, 24, 8)
FILES = ("cvpr2018_vm2_cc.h5", "cvpr2018_vm2_l2.h5")
# Read off the published brain's labels: structures of the left come last along i, the brain stem along j, the
# cerebellum first along k. So the axes run to the left, down and to the front.
LIA = np.array([[-1.0, 0, 0, 80], [0, 0, 1, -112], [0, -1, 0, 96], [0, 0, 0, 1]])


@pytest.fixture
def file(tmp_path):
    return voxelmorph_file.write(tmp_path / "Brain_VM.h5", *describe())


def predicted(model, moving, fixed):
    batch = {"fixed": fixed[None, ..., None], "moving": moving[None, ..., None]}
    return np.asarray(model.predict_on_batch(batch)["ddf"])[0]


@pytest.mark.backend
@pytest.mark.parametrize(
    ("encoder", "decoder"), [(ENCODER, DECODER), ((2, 3, 4), (4, 3, 3, 2, 5)), ((4,), (3, 2, 4, 3))]
)
def test_an_imported_network_gives_the_original_field(tmp_path, encoder, decoder):
    path = voxelmorph_file.write(tmp_path / "net.h5", *describe(encoder, decoder))
    model = regzoo.load(import_voxelmorph(path, tmp_path / "net"))
    fixed, moving = np.random.default_rng(3).random((2, *SHAPE)).astype("float32")
    expected = voxelmorph_file.field(path, moving, fixed, len(encoder))
    assert np.abs(expected).max() > 0.3
    np.testing.assert_allclose(predicted(model, moving, fixed), expected, atol=1e-5)


def test_what_is_read(file):
    network = read(file)
    assert network.config.backbone == VoxelMorphConfig(encoder=ENCODER, decoder=DECODER)
    assert network.config.output == DDFConfig(level=0)
    assert network.shape == SHAPE
    (first, _), *_, (last, _) = voxelmorph_file.convolutions(file)
    np.testing.assert_array_equal(network.arrays["encoder1_conv/kernel"], first[:, :, :, ::-1])
    np.testing.assert_array_equal(network.arrays["field/kernel"], last)


def test_the_card_says_what_is_assumed(file, tmp_path):
    folder = import_voxelmorph(file, tmp_path / "model")
    card = cards.read(folder)
    assert (card.name, card.input.axes, card.input.alignment) == ("brain-vm", "LIA", "world")
    assert (card.input.shape, card.input.intensity.high) == (SHAPE, 255)
    assert card.limits[0].startswith("The file does not say what its images were.")
    assert card.training["imported_from"] == "Brain_VM.h5"
    assert cards.read(import_voxelmorph(file, tmp_path / "other", "brain-mr-ddf")).name == "brain-mr-ddf"
    with pytest.raises(InvalidError, match=r"model holds a model\. Choose another --output, or remove it\."):
        import_voxelmorph(file, folder)


def without(layers, key):
    return [layer for layer in layers if layer["class_name"] != key]


def replaced(layers, name, **settings):
    return [layer | {"config": layer["config"] | settings} if layer["name"] == name else layer for layer in layers]


def rewired(layers, name, sources):
    node = [[[source, 0, 0, {}] for source in sources]]
    return [layer | {"inbound_nodes": node} if layer["name"] == name else layer for layer in layers]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: without(x, "SpatialTransformer"), "layers: expected 23, as in VoxelMorph's networks of 2018"),
        (
            lambda x: rewired(x, "concatenate_126", ["input_52", "input_51"]),
            "layer concatenate_126: expected Concatenate of input_51 and input_52, received Concatenate of",
        ),
        (
            lambda x: rewired(x, "spatial_transformer_27", ["input_52", "flow"]),
            "expected SpatialTransformer of input_51 and flow, received SpatialTransformer of input_52 and flow",
        ),
        (
            lambda x: rewired(x, "concatenate_128", ["leaky_re_lu_245", "up_sampling3d_1"]),
            "layer concatenate_128: expected Concatenate of up_sampling3d_1 and leaky_re_lu_245",
        ),
        (lambda x: replaced(x, "leaky_re_lu_246", alpha=0.3), "leaky_re_lu_246: alpha: expected 0.2, received 0.3"),
        (lambda x: replaced(x, "conv3d_247", activation="relu"), "activation: expected linear, received relu"),
        (lambda x: replaced(x, "conv3d_247", filters=100000), r"convolutions: decoder\[0\]: expected less than or eq"),
        (lambda x: replaced(x, "conv3d_248", strides=[2, 2, 2]), "decoder: expected at least 5 values, received 4"),
        (lambda x: replaced(x, "spatial_transformer_27", indexing="xy"), "indexing: expected ij, received xy"),
        (lambda x: replaced(x, "conv3d_245", filters=4), r"conv3d_245/kernel:0: expected float32 \(3, 3, 3, 2, 4\)"),
        (lambda x: [layer | {"inbound_nodes": layer["inbound_nodes"] * 2} for layer in x], "is used 2 times"),
    ],
)
def test_any_other_network_is_refused(tmp_path, change, message):
    layers, shapes = describe()
    path = voxelmorph_file.write(tmp_path / "net.h5", change(layers), shapes)
    with pytest.raises(InvalidError, match=message):
        read(path)


def test_arrays_are_read_from_the_file_alone(file, tmp_path):
    other = voxelmorph_file.write(tmp_path / "other.h5", *describe())
    with h5py.File(file, "a") as open_file:
        group = open_file["model_weights/flow"]
        bias = group["flow_33/bias:0"][()]
        del group["flow_33/bias:0"]
        group["flow_33/bias:0"] = h5py.ExternalLink(str(other), "model_weights/flow/flow_33/bias:0")
    with pytest.raises(InvalidError, match="flow: expected an array in this file, received a link out of it"):
        read(file)
    with h5py.File(file, "a") as open_file:
        group = open_file["model_weights/flow"]
        del group["flow_33/bias:0"]
        group["flow_33/bias:0"] = bias.astype("float64")
    with pytest.raises(InvalidError, match=r"flow_33/bias:0: expected float32 \(3,\), received float64 \(3,\)"):
        read(file)


def test_other_files_are_named(tmp_path):
    with pytest.raises(MissingError, match=r"nothing\.h5 does not exist"):
        read(tmp_path / "nothing.h5")
    (tmp_path / "text.h5").write_text("no model")
    with pytest.raises(InvalidError, match=r"^text\.h5 is not a readable Keras 2 model in HDF5, or it is damaged"):
        read(tmp_path / "text.h5")
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        file["a"] = 1
    with pytest.raises(InvalidError, match=r"^weights\.h5 holds weights without a model\."):
        read(tmp_path / "weights.h5")


@pytest.mark.parametrize("call", [run, pytest.param(process, marks=pytest.mark.slow)])
def test_import_on_the_command_line(file, tmp_path, call):
    folder = tmp_path / "model"
    code, out, err = call("import", "voxelmorph", str(file), "-o", str(folder))
    assert (code, out) == (0, f"{folder}\n")
    assert err.startswith("warning: The file does not say what its images were.")
    assert len(err.splitlines()) == 1
    code, out, err = call("import", "voxelmorph", str(file), "-o", str(folder))
    assert (code, out, err) == (1, "", f"error: {folder} holds a model. Choose another --output, or remove it.\n")


def brain(data_home):
    """Returns the published brain as FreeSurfer scales it, and its 46 label values (0 is background)."""
    folder = data_home / "voxelmorph-weights"
    image, labels = (np.load(folder / f"subject_1_{kind}.npz")["vol_data"] for kind in ("vol", "seg"))
    return (255 * image).astype("float32"), labels.astype("uint8")


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.backend
@pytest.mark.parametrize("name", FILES)
def test_the_published_networks_give_their_original_field(data_home, tmp_path, name):
    path = data_home / "voxelmorph-weights" / name
    model = regzoo.load(import_voxelmorph(path, tmp_path / "model"))
    assert model.count_params() == 300_547
    image, _ = brain(data_home)
    moving, fixed = image[48:112, 64:144, 64:160] / 255, image[50:114, 63:143, 65:161] / 255
    expected = voxelmorph_file.field(path, moving, fixed, 4)
    assert np.abs(expected).max() > 2
    np.testing.assert_allclose(predicted(model, moving, fixed), expected, atol=1e-4)


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_the_published_networks_find_a_known_warp_of_the_brain(data_home, tmp_path, name):
    moving, moving_labels = (Image(values, LIA) for values in brain(data_home))
    assert len(np.unique(moving_labels.array)) == 46
    random = np.random.default_rng(0)
    coarse = [gaussian_filter(random.normal(size=(20, 24, 28)), 2) for _ in range(3)]
    voxels = np.stack([zoom(values, 8, order=1) for values in coarse], axis=-1)
    known = Transform.from_voxel_ddf((2 * voxels / voxels.std()).astype("float32"), moving.grid)
    fixed, fixed_labels = known.apply_image(moving, moving.grid), known.apply_labels(moving_labels, moving.grid)
    folder = import_voxelmorph(data_home / "voxelmorph-weights" / name, tmp_path / "model")
    labels = {"fixed_labels": fixed_labels, "moving_labels": moving_labels}
    found = regzoo.register(fixed, moving, folder, **labels, error=False)
    before, after = found.facts["scores"]["before"], found.facts["scores"]["after"]
    print(f"{name}: Dice {before['mean_dice']:.3f} before, {after['mean_dice']:.3f} after")
    inside = fixed_labels.array > 0
    truth = known.displacement(fixed.grid)[inside]
    errors = [each.displacement(fixed.grid)[inside] - truth for each in (found.start, found.transform)]
    unregistered, registered = (np.sqrt((error**2).sum(-1).mean()) for error in errors)
    print(f"{name}: displacement error {unregistered:.2f} mm before, {registered:.2f} mm after")
    assert before["mean_dice"] < 0.6
    assert after["mean_dice"] > before["mean_dice"] + 0.15
    assert after["ncc"] > 0.98
    assert registered < 0.6 * unregistered
