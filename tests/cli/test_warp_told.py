"""What `warp` says of images that lie elsewhere, and what stands around the volumes of a series."""

import h5py
import nibabel
import numpy as np
from command_line import run

from regzoo.world.images import Image
from regzoo.world.transforms import Transform


def files(folder, shift):
    array = np.random.default_rng(0).random((6, 5, 4)).astype("float32")
    Image(array, np.eye(4)).save(folder / "a.nii.gz")
    matrix = np.eye(4)
    matrix[0, 3] = shift
    Transform.linear(matrix).save(folder / "t.tfm")
    return [
        "--transform",
        str(folder / "t.tfm"),
        "--reference",
        str(folder / "a.nii.gz"),
        "-o",
        str(folder / "o.nii.gz"),
    ]


def test_an_image_of_which_nothing_is_shown(tmp_path):
    options = files(tmp_path, 500)
    code, _, err = run("warp", str(tmp_path / "a.nii.gz"), *options)
    assert (code, err.count("\n")) == (0, 1)
    assert err.startswith("warning: no voxel of a.nii.gz shows anything of a.nii.gz. Is this transform, in this direct")
    assert run("warp", str(tmp_path / "a.nii.gz"), *files(tmp_path, 1))[2] == ""


def test_a_dataset_of_hdf5_says_nothing_of_millimetres(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.random.default_rng(0).random((6, 5, 4)).astype("float32")
    code, _, err = run("warp", str(tmp_path / "a.h5" / "x"), *files(tmp_path, 0))
    assert (code, err.count("\n")) == (0, 1)
    assert "x: an HDF5 dataset says nothing of millimetres. regzoo takes 1 mm a voxel, the axes to" in err
    assert Image.read(tmp_path / "a.h5" / "x", spacing=(1, 2, 3)).remark == ""


def test_around_each_volume_of_a_series_stands_its_own_lowest_value(tmp_path):
    options = files(tmp_path, 2.5)
    lowest = np.array([-150, 7, -300.5], "float32")
    array = np.random.default_rng(1).random((6, 5, 4, 3)).astype("float32") + lowest
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), tmp_path / "series.nii.gz")
    assert run("warp", str(tmp_path / "series.nii.gz"), *options)[0] == 0
    series = Image.read(tmp_path / "o.nii.gz", series=True).array
    for volume in range(3):
        assert run("warp", str(tmp_path / "series.nii.gz"), "--volume", str(volume), *options)[0] == 0
        np.testing.assert_allclose(series[..., volume], Image.read(tmp_path / "o.nii.gz").array, atol=1e-4)
