"""A file format is one entry of one dict: toy ones, added from here, are read and written like all others."""

import contextlib

import numpy as np
import pytest

from regzoo.errors import InvalidError
from regzoo.io import transforms, volumes
from regzoo.world.images import Grid, Image
from regzoo.world.transforms import Transform

AFFINE = np.array([[0, -2.0, 0, 5], [1.5, 0, 0, -7], [0, 0, 3, 11], [0, 0, 0, 1]])
ARRAY = np.arange(3 * 4 * 5, dtype=np.float32).reshape(3, 4, 5)


def write_volume(array, affine, path):
    with path.open("wb") as file:
        np.save(file, array)
        np.save(file, affine)


@contextlib.contextmanager
def open_volume(path):
    with path.open("rb") as file:
        array, affine = np.load(file), np.load(file)
    yield volumes.Volume(
        array.shape, array.dtype, affine, lambda volume: array if volume is None else array[..., volume]
    )


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.setitem(volumes.FORMATS, ".toy", volumes.Format(open_volume, write_volume))


@pytest.mark.usefixtures("toy")
def test_a_toy_format_of_images_is_read_and_written(tmp_path):
    Image(ARRAY, AFFINE).save(tmp_path / "a.toy")
    again = Image.read(tmp_path / "a.toy")
    np.testing.assert_array_equal(again.array, ARRAY)
    np.testing.assert_array_equal(again.affine, AFFINE)
    assert Grid.read(tmp_path / "a.toy").same_as(again.grid)
    Image((ARRAY > 7).astype(int), AFFINE).save(tmp_path / "labels.TOY")
    np.testing.assert_array_equal(Image.read(tmp_path / "labels.TOY", labels=True).array, ARRAY > 7)


@pytest.mark.usefixtures("toy")
def test_a_toy_format_has_volumes_checks_and_damage_like_all_others(tmp_path):
    write_volume(np.stack([ARRAY, 2 * ARRAY], axis=-1), AFFINE, tmp_path / "series.toy")
    np.testing.assert_array_equal(Image.read(tmp_path / "series.toy", volume=1).array, 2 * ARRAY)
    with pytest.raises(InvalidError, match="choose one volume"):
        Image.read(tmp_path / "series.toy")
    data = (tmp_path / "series.toy").read_bytes()
    (tmp_path / "cut.toy").write_bytes(data[:-200])
    with pytest.raises(InvalidError, match=r"cut.toy is not a readable image, or it is damaged"):
        Image.read(tmp_path / "cut.toy")
    (tmp_path / "a.other").write_bytes(data)
    with pytest.raises(InvalidError, match=r"in one of .*\.toy, received '\.other'"):
        Image.read(tmp_path / "a.other")


def test_a_format_without_a_writer_is_only_read(tmp_path, monkeypatch):
    monkeypatch.setitem(volumes.FORMATS, ".toy", volumes.Format(open_volume))
    with pytest.raises(InvalidError, match=r"a name ending in \.nii or .* or \.nrrd, received '.*a\.toy'"):
        Image(ARRAY, AFFINE).save(tmp_path / "a.toy")


def test_a_toy_format_of_transforms_is_read_and_written(tmp_path, monkeypatch):
    toy = transforms.Format(
        lambda path: [np.loadtxt(path)], write_matrix=lambda matrix, path: np.savetxt(path, matrix, fmt="%.17g")
    )
    monkeypatch.setitem(transforms.FORMATS, ".toy", toy)
    matrix = AFFINE @ np.diag([0.5, 0.7, 0.3, 1])
    Transform.linear(matrix).save(tmp_path / "t.toy")
    points = np.array([[1.0, 2, 3], [-4, 5, 60]])
    expected = points @ matrix[:3, :3].T + matrix[:3, 3]
    np.testing.assert_allclose(Transform.load(tmp_path / "t.toy").apply_points(points), expected, rtol=1e-12)
    grid = Grid((3, 4, 5), AFFINE)
    with pytest.raises(InvalidError, match=r"name ending in \.nii, \.nii\.gz, \.h5, \.x5, \.mha or \.nrrd, to write"):
        Transform.from_field(np.ones((3, 4, 5, 3)), grid).save(tmp_path / "f.toy")


def test_a_toy_kind_of_transform_in_an_itk_file_is_read(tmp_path, monkeypatch):
    from regzoo.io.transforms import itk_kinds

    monkeypatch.setitem(itk_kinds.KINDS, "ToyTransform", lambda parameters, fixed: np.diag([*parameters, 1.0]))
    text = "#Insight Transform File V1.0\nTransform: ToyTransform_double_3_3\nParameters: 2 3 4\nFixedParameters:\n"
    (tmp_path / "t.tfm").write_text(text)
    np.testing.assert_array_equal(Transform.load(tmp_path / "t.tfm").apply_points(np.ones((1, 3))), [[2, 3, 4]])
