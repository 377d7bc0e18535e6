import h5py
import numpy as np
import pytest

from regzoo.data import folders
from regzoo.data.draws import Files
from regzoo.data.folders import Layout
from regzoo.data.tables import PairFiles
from regzoo.errors import InvalidError, MissingError
from regzoo.world.images import Image

ARRAY = np.arange(24, dtype="float32").reshape(2, 3, 4)


def nifti(folder, *names):
    for name in names:
        Image(ARRAY, np.eye(4)).save(folder / f"{name}.nii.gz")


def hdf5(path, *keys):
    with h5py.File(path, "w") as file:
        for key in keys:
            file[key] = ARRAY


def write(root, kind, name, *images):
    """Writes images of any content to the folder or the HDF5 file `name`."""
    (root / name).mkdir(parents=True) if kind == "nifti" else hdf5(root / f"{name}.h5", *images)
    if kind == "nifti":
        nifti(root / name, *images)


def where(root, kind, name, image):
    return root / name / f"{image}.nii.gz" if kind == "nifti" else root / f"{name}.h5" / image


@pytest.mark.parametrize("kind", ["nifti", "h5"])
def test_pairs_are_matched_by_name(tmp_path, kind):
    for name in ("moving_images", "fixed_images", "fixed_labels"):
        write(tmp_path, kind, name, "b", "a10", "a9")
    write(tmp_path, kind, "moving_labels", "a9")
    found = folders.paired(tmp_path, Layout())
    assert list(found) == ["a9", "a10", "b"]
    names = ("fixed_images", "moving_images", "fixed_labels", "moving_labels")
    assert found["a9"] == PairFiles(*(where(tmp_path, kind, name, "a9") for name in names))
    assert found["b"].moving_labels is None
    assert found["b"].fixed_labels is not None
    np.testing.assert_array_equal(Image.read(found["b"].moving).array, ARRAY)


@pytest.mark.parametrize("kind", ["nifti", "h5"])
@pytest.mark.parametrize(("alone", "other"), [("moving", "fixed"), ("fixed", "moving")])
def test_an_image_without_a_partner_is_named(tmp_path, kind, alone, other):
    write(tmp_path, kind, f"{alone}_images", "a", "b")
    write(tmp_path, kind, f"{other}_images", "a")
    with pytest.raises(InvalidError, match=rf"{alone}_images.*b.* has no partner .* in .*{other}_images\.$"):
        folders.paired(tmp_path, Layout())


@pytest.mark.parametrize("kind", ["nifti", "h5"])
def test_single_images_and_some_of_their_labels(tmp_path, kind):
    write(tmp_path, kind, "images", "x2", "x10", "x1")
    assert {each.labels for each in folders.single(tmp_path, Layout()).values()} == {None}
    write(tmp_path, kind, "labels", "x10")
    found = folders.single(tmp_path, Layout())
    assert list(found) == ["x1", "x2", "x10"]
    assert found["x10"] == Files(where(tmp_path, kind, "images", "x10"), where(tmp_path, kind, "labels", "x10"))
    assert found["x1"].labels is None
    assert {each.labels for each in folders.single(tmp_path, Layout(labels=None)).values()} == {None}
    (tmp_path / "more").mkdir()
    write(tmp_path / "more", kind, "images", "x1")
    write(tmp_path / "more", kind, "labels", "x1", "x3")
    with pytest.raises(InvalidError, match=r"x3.*: no image of the same name in .*images"):
        folders.single(tmp_path / "more", Layout())


def test_the_masks_of_a_file_may_be_images_and_labels(tmp_path):
    hdf5(tmp_path / "data.h5", "group-1-1", "group-1-2")
    found = folders.grouped(tmp_path, Layout("data", "data", (1.0, 1.0, 2.0)))
    path = tmp_path / "data.h5" / "group-1-2"
    assert found["1"][1] == Files(path, path, (1.0, 1.0, 2.0))


def test_groups_are_folders_in_the_order_of_time(tmp_path):
    nifti(tmp_path / "images", "p2/visit-10", "p2/visit-9", "p10/b", "p10/a", "site/p1/a")
    found = folders.grouped(tmp_path, Layout())
    assert list(found) == ["p2", "p10", "site/p1"]
    assert [each.image.name for each in found["p2"]] == ["visit-9.nii.gz", "visit-10.nii.gz"]
    nifti(tmp_path / "images", "astray")
    with pytest.raises(InvalidError, match=r"astray\.nii\.gz: expected an image in a folder of its group"):
        folders.grouped(tmp_path, Layout())


def test_groups_in_hdf5_keys(tmp_path):
    hdf5(tmp_path / "images.h5", "group-2-10", "group-2-9", "group-11-1", "group-1-3")
    found = folders.grouped(tmp_path, Layout())
    names = {group: [each.image.name for each in files] for group, files in found.items()}
    assert names == {"1": ["group-1-3"], "2": ["group-2-9", "group-2-10"], "11": ["group-11-1"]}
    hdf5(tmp_path / "images.h5", "group-2-10", "patient-1")
    with pytest.raises(InvalidError, match=r"images\.h5: key: expected group-X-Y, received patient-1"):
        folders.grouped(tmp_path, Layout())


def test_what_is_not_an_image_is_passed_over(tmp_path):
    nifti(tmp_path / "images", "a", "._a", ".hidden/b")
    (tmp_path / "images" / "notes.txt").touch()
    (tmp_path / "images" / "b.nii.json").touch()
    assert list(folders.single(tmp_path, Layout())) == ["a"]


def test_folders_that_cannot_be_read_as_they_are(tmp_path):
    with pytest.raises(MissingError, match=r"no images in a folder 'images' or a file 'images\.h5'"):
        folders.single(tmp_path, Layout())
    nifti(tmp_path / "images", "a")
    with pytest.raises(InvalidError, match=r"data\.spacing: expected null, since the NIfTI files"):
        folders.single(tmp_path, Layout(spacing=(1.0, 1.0, 1.0)))
    (tmp_path / "images" / "a.nii").write_bytes(b"")
    with pytest.raises(InvalidError, match=r"a\.nii(\.gz)? and a\.nii(\.gz)? have the same name"):
        folders.single(tmp_path, Layout())
    hdf5(tmp_path / "images.h5", "a")
    with pytest.raises(InvalidError, match=r"the folder 'images' or the file 'images\.h5', received both"):
        folders.single(tmp_path, Layout())
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "images.h5").write_bytes(b"nothing")
    with pytest.raises(InvalidError, match=r"images\.h5 is not a readable HDF5 file"):
        folders.single(tmp_path / "bad", Layout())
    with h5py.File(tmp_path / "bad" / "images.h5", "w") as file:
        file.create_group("nested")
    with pytest.raises(InvalidError, match=r"images\.h5: nested: expected an array, received a Group"):
        folders.single(tmp_path / "bad", Layout())
