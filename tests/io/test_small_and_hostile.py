"""Small files that would take much memory or time, or show another file's bytes: refused before they do."""

import base64
import time
import zlib

import h5py
import nibabel
import numpy as np
import pytest
import scipy.io

from regzoo.data import tables
from regzoo.errors import InvalidError
from regzoo.io import landmarks, reading
from regzoo.io.landmarks import read_points
from regzoo.io.surfaces import read_surface
from regzoo.io.transforms import step
from regzoo.world.images import Grid, Image
from regzoo.world.transforms import Transform

GRID = Grid((4, 5, 6), np.diag([1.0, 2, 3, 1]))
FIELD = np.random.default_rng(0).normal(size=(*GRID.shape, 3)).astype(np.float32)


def surface(path, points, **changes):
    arrays = [
        nibabel.gifti.GiftiDataArray(np.asarray(points, "float32"), intent="NIFTI_INTENT_POINTSET"),
        nibabel.gifti.GiftiDataArray(np.array([[0, 1, 2]], "int32"), intent="NIFTI_INTENT_TRIANGLE"),
    ]
    nibabel.save(nibabel.gifti.GiftiImage(darrays=arrays), path)
    text = path.read_text()
    for old, new in changes.values():
        assert old in text
        text = text.replace(old, new, 1)
    path.write_text(text)
    return path


def packed(data):
    return base64.b64encode(zlib.compress(data)).decode()


POINTS = [[1, 2, 3], [4, 5, 6], [7, 8, 9.5]]


def test_a_whole_surface_is_read(tmp_path):
    np.testing.assert_array_equal(read_surface(surface(tmp_path / "s.surf.gii", POINTS)).points, POINTS)


def test_a_surface_shows_no_other_file(tmp_path):
    (tmp_path / "secret").write_bytes(np.asarray(POINTS, "float32").tobytes())
    for name in ("secret", str(tmp_path / "secret")):
        external = ('ExternalFileName=""', f'ExternalFileName="{name}"')
        path = surface(
            *(tmp_path / "s.surf.gii", POINTS),
            kind=('Encoding="GZipBase64Binary"', 'Encoding="ExternalFileBinary"'),
            name=external,
        )
        np.testing.assert_array_equal(nibabel.load(path).darrays[0].data, POINTS)  # nibabel follows it
        with pytest.raises(InvalidError, match="is not a readable surface"):
            read_surface(path)


def test_a_surface_that_unpacks_to_more_than_it_tells_of_is_refused(tmp_path, monkeypatch):
    data = packed(np.asarray(POINTS, "float32").tobytes())
    bomb = packed(bytes(10**7))
    with pytest.raises(InvalidError, match="an array unpacks to more than its header tells of"):
        read_surface(surface(tmp_path / "s.surf.gii", POINTS, data=(data, bomb)))
    with pytest.raises(InvalidError, match="takes at most 3221225472 bytes"):
        read_surface(surface(tmp_path / "s.surf.gii", POINTS, dim=('Dim0="3"', 'Dim0="3000000000"')))
    with pytest.raises(InvalidError, match="is not a readable surface"):
        read_surface(
            surface(tmp_path / "s.surf.gii", POINTS, dim=('Dimensionality="2"', 'Dimensionality="2000000000"'))
        )


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_a_header_of_spaces_is_read_at_once(tmp_path, suffix):
    key = {".nrrd": "NRRD0004\nencoding:", ".mha": "ObjectType = Image\nElementDataFile ="}[suffix]
    (tmp_path / f"a{suffix}").write_text(f"{key} raw{' ' * 200_000}x\n\n")
    started = time.perf_counter()
    with pytest.raises(InvalidError):
        Image.read(tmp_path / f"a{suffix}")
    assert time.perf_counter() - started < 10


@pytest.mark.parametrize(
    "field", ["encoding: raw", "type: float", "sizes: 5", "space directions: (1,0,0)", "nonsense: 1"]
)
def test_a_long_field_of_nrrd_by_which_itk_dies_is_refused(tmp_path, field):
    Image(np.arange(120, dtype=np.float32).reshape(GRID.shape), GRID.affine).save(tmp_path / "a.nrrd")
    data = (tmp_path / "a.nrrd").read_bytes()
    (tmp_path / "a.nrrd").write_bytes(data.replace(b"\n", f"\n{field}{' ' * 2000}x\n".encode(), 1))
    with pytest.raises(InvalidError, match="a field of its header has more than 1000 letters"):
        Image.read(tmp_path / "a.nrrd")
    (tmp_path / "a.nrrd").write_bytes(data.replace(b"\n", f"\n# {' ' * 2000}x\nkey:={' ' * 2000}x\n".encode(), 1))
    Image.read(tmp_path / "a.nrrd")


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
@pytest.mark.parametrize("count", ["-1", "0", "1000000000", "three", "3\nNDims = -1\ndimension: -1"])
def test_a_count_of_axes_by_which_itk_never_ends_is_refused(tmp_path, suffix, count):
    Image(np.arange(120, dtype=np.float32).reshape(GRID.shape), GRID.affine).save(tmp_path / f"a{suffix}")
    data = (tmp_path / f"a{suffix}").read_bytes()
    key = {".nrrd": b"dimension: ", ".mha": b"NDims = "}[suffix]
    (tmp_path / f"a{suffix}").write_bytes(data.replace(key + b"3", key + count.encode()))
    with pytest.raises(InvalidError, match="tells of no count of axes, or of another than 1 to 5"):
        Image.read(tmp_path / f"a{suffix}")


def test_a_line_of_spaces_before_landmarks_is_read_at_once(tmp_path):
    (tmp_path / "p.fcsv").write_text(f"# CoordinateSystem = LPS{' ' * 200_000}x\n# columns = x,y,z\n1,2,3\n")
    started = time.perf_counter()
    with pytest.raises(InvalidError, match="CoordinateSystem: expected RAS or LPS"):
        read_points(tmp_path / "p.fcsv")
    assert time.perf_counter() - started < 10


def test_tables_of_more_rows_than_anybody_has_are_refused_while_they_are_read(tmp_path, monkeypatch):
    for module in (landmarks, tables):
        monkeypatch.setattr(module, "ROWS_LIMIT", 3)
    (tmp_path / "p.csv").write_text("x,y,z\n" + "1,2,3\n" * 3)
    assert len(read_points(tmp_path / "p.csv")) == 3
    (tmp_path / "p.csv").write_text("x,y,z\n" + "1,2,3\n" * 4)
    with pytest.raises(InvalidError, match=r"p\.csv: expected at most 3 rows, received more"):
        read_points(tmp_path / "p.csv")
    (tmp_path / "pairs.csv").write_text("fixed,moving\n" + "a,b\n" * 4)
    with pytest.raises(InvalidError, match="expected at most 3 lines below the header"):
        tables.read_pairs(tmp_path / "pairs.csv", must_exist=False)
    (tmp_path / "pairs.csv").write_text("fixed,moving\n" + "a,b\n" * 3)
    assert len(tables.read_pairs(tmp_path / "pairs.csv", must_exist=False)) == 3


def chained(path, names, fields):
    with h5py.File(path, "w") as file:
        file.attrs["Format"] = "X5"
        for place in range(fields):
            group = file.create_group(f"TransformGroup/{place}")
            group.attrs.update({"Type": "nonlinear", "SubType": "densefield", "Representation": "displacements"})
            group.create_dataset("Transform", data=FIELD, compression=1)
            group["Domain/Size"], group["Domain/Mapping"] = GRID.shape, GRID.affine
        file["TransformChain/0"] = "/".join(names)
    return path


def test_one_field_many_times_in_a_chain_is_read_once(tmp_path):
    found = Transform.load(chained(tmp_path / "t.x5", ["0"] * 50, 1))
    assert len(found.steps) == 50
    assert len({id(each.steps[0].vectors.base) for each in found.steps}) == 1
    with pytest.raises(InvalidError, match="it has more than 100 transforms"):
        Transform.load(chained(tmp_path / "t.x5", ["0"] * 101, 1))


def test_the_fields_of_a_file_count_together(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "BYTES_LIMIT", 3 * FIELD.nbytes - 1)
    Transform.load(chained(tmp_path / "t.x5", ["0"], 1))
    with pytest.raises(InvalidError, match="a file that takes at most"):
        Transform.load(chained(tmp_path / "t.x5", ["0", "1", "2"], 3))
    Transform.from_field(FIELD, GRID).save(tmp_path / "t.h5")
    with h5py.File(tmp_path / "t.h5", "a") as file:
        file.copy("TransformGroup/0", "TransformGroup/1")
        file.copy("TransformGroup/0", "TransformGroup/2")
    with pytest.raises(InvalidError, match="a file that takes at most"):
        Transform.load(tmp_path / "t.h5")


def test_more_transforms_than_anybody_composes_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(step, "_MOST", 3)
    one = "Transform: IdentityTransform_double_3_3\nParameters:\nFixedParameters:\n"
    for count, suffix in ((3, "tfm"), (4, "tfm"), (3, "h5"), (4, "h5")):
        path = tmp_path / f"t.{suffix}"
        if suffix == "tfm":
            path.write_text("#Insight Transform File V1.0\n" + one * count)
        else:
            Transform.linear(np.eye(4)).save(path)
            with h5py.File(path, "a") as file:
                for place in range(1, count):
                    file.copy("TransformGroup/0", f"TransformGroup/{place}")
        if count == 3:
            assert len(Transform.load(path).steps) == 3
        else:
            with pytest.raises(InvalidError, match="it has more than 3 transforms"):
                Transform.load(path)


def test_matlabs_packed_files_are_refused(tmp_path):
    values = {"AffineTransform_double_3_3": np.ones((12, 1)), "fixed": np.zeros((3, 1))}
    scipy.io.savemat(tmp_path / "t.mat", values, format="5", do_compression=True)
    with pytest.raises(
        InvalidError, match=r"t\.mat: expected MATLAB's version 4, as ITK writes it, received a later one"
    ):
        Transform.load(tmp_path / "t.mat")
