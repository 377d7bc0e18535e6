"""Files that belong together appear together, and are shown to those whom the umask allows."""

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from regzoo.errors import InvalidError
from regzoo.io import files
from regzoo.io.landmarks import read_points, write_points
from regzoo.world.images import Grid, Image
from regzoo.world.transforms import Transform

GRID = Grid((3, 4, 5), np.diag([1.0, 2, 3, 1]))

WRITER = """
import json, os, sys
from pathlib import Path
from regzoo.io import files

out, text, steps = sys.argv[1], sys.argv[2], int(sys.argv[3])

def counted(method):
    def call(*arguments, **options):
        global steps
        if steps == 0:
            os._exit(9)
        steps -= 1
        return method(*arguments, **options)
    return call

with files.atomic_folder(out, files.LISTING, ["a", "b", "c", "z"]) as folder:
    for name in ("a", "b", "z") if text == "new" else ("a", "b", "c", "z"):
        (folder / name).write_text(text)
    (folder / files.LISTING).write_text(json.dumps({"files": files.digests(folder)}))
    for name in ("replace", "unlink"):
        setattr(Path, name, counted(getattr(Path, name)))
"""


def write(out, text, steps):
    """Writes a result in a process of its own, which kills itself before so many changes of a folder."""
    environment = os.environ | {"PYTHONPATH": str(Path(files.__file__).parents[2])}
    return subprocess.run(
        [sys.executable, "-c", WRITER, out, text, str(steps)], env=environment, check=False
    ).returncode


def is_whole(out):
    """Whether there is a listing of something; that must then be there, nothing else, and all of one time."""
    if not (out / files.LISTING).exists():
        return False
    listed = json.loads((out / files.LISTING).read_text())["files"]
    if not listed:
        return False
    assert listed == {name: value for name, value in files.digests(out).items() if name != files.LISTING}
    assert len({(out / name).read_text() for name in listed}) == 1
    return True


def test_a_kill_at_any_step_never_leaves_a_listing_of_files_that_are_not_those(tmp_path):
    out, ends = tmp_path / "out", []
    for steps in range(20):
        assert write(out, "old", -1) == 0
        assert is_whole(out)
        ends.append((write(out, "new", steps), is_whole(out)))
        if ends[-1][0] == 0:
            break
        shutil.rmtree(out)
    assert ends == [(9, True), *[(9, False)] * (len(ends) - 2), (0, True)]
    assert len(ends) > 6
    assert not (out / "c").exists()


def test_a_new_folder_appears_by_one_rename(tmp_path):
    assert write(tmp_path / "out", "new", 0) == 9
    assert not (tmp_path / "out").exists()
    assert write(tmp_path / "out", "new", 1) == 0
    assert is_whole(tmp_path / "out")


def test_a_rename_that_fails_leaves_no_listing(tmp_path):
    out = tmp_path / "out"
    assert write(out, "old", -1) == 0
    (out / "b").unlink()
    (out / "b" / "in the way").mkdir(parents=True)

    def write_new():
        with files.atomic_folder(out, files.LISTING) as folder:
            for name in ("a", "b", files.LISTING):
                (folder / name).write_text("new")

    with pytest.raises(OSError, match="b"):
        write_new()
    assert json.loads((out / files.LISTING).read_text()) == {"files": {}}


def test_the_files_of_a_folder_that_is_there_are_made_within_it(tmp_path):
    """It may be a mount point, or lie in a folder that nobody may write to."""
    (tmp_path / "out").mkdir()
    with files.atomic_folder(tmp_path / "out") as folder:
        assert folder.parent == tmp_path / "out"
        (folder / "a").write_text("x")
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "a"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows lets few users make links")
@pytest.mark.parametrize("there", [True, False])
def test_links_to_folders_and_files_are_followed(tmp_path, there):
    for name in ("folder", "file"):
        (tmp_path / name).symlink_to(tmp_path / f"real {name}")
    if there:
        (tmp_path / "real folder").mkdir()
        (tmp_path / "real file").write_text("old")
    with files.atomic_folder(tmp_path / "folder") as folder, files.atomic_file(tmp_path / "file") as file:
        (folder / "a").write_text("x")
        file.write_text("new")
    assert (tmp_path / "folder").is_symlink()
    assert (tmp_path / "file").is_symlink()
    assert (tmp_path / "real folder" / "a").read_text() == "x"
    assert (tmp_path / "real file").read_text() == "new"


SHM = Path("/dev/shm")


@pytest.mark.skipif(not os.access(SHM, os.W_OK), reason="there is no second file system at /dev/shm")
def test_a_link_may_lead_to_another_file_system(tmp_path):
    if SHM.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("/dev/shm is the file system of the temporary folder")
    with tempfile.TemporaryDirectory(dir=SHM) as target:
        (tmp_path / "out").symlink_to(target)
        save(tmp_path / "out")
        assert {path.name for path in Path(target).iterdir()} == {*READERS, files.LISTING}


class TestWritable:
    @pytest.mark.parametrize("name", ["out", "new/new/out", "there"])
    def test_what_can_be_written_is_let_pass_and_left_as_it_was(self, tmp_path, name):
        (tmp_path / "there").mkdir()
        files.check_writable(tmp_path / name, folder=True)
        files.check_writable(tmp_path / name / "x.nii.gz", folder=False)
        assert [path.name for path in tmp_path.rglob("*")] == ["there"]

    def test_a_file_is_no_folder_and_a_folder_no_file(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(InvalidError, match="file': expected a folder to write to, received a file"):
            files.check_writable(tmp_path / "file", folder=True)
        with pytest.raises(InvalidError, match="expected a file to write to, received a folder"):
            files.check_writable(tmp_path, folder=False)

    @pytest.mark.parametrize("folder", [True, False])
    def test_nothing_is_written_beneath_a_file(self, tmp_path, folder):
        (tmp_path / "file").touch()
        with pytest.raises(InvalidError, match=r"file.out' cannot be written \(.+\)\. Choose another place\."):
            files.check_writable(tmp_path / "file" / "out", folder=folder)

    @pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no /proc, where not even root can write")
    @pytest.mark.parametrize("folder", [True, False])
    def test_a_place_that_cannot_be_written_is_refused(self, folder):
        with pytest.raises(InvalidError, match="cannot be written"):
            files.check_writable("/proc/out", folder=folder)

    @pytest.mark.skipif(not hasattr(os, "geteuid"), reason="there are no such folders")
    def test_a_file_of_another_user_in_a_folder_for_all_is_refused(self, tmp_path, monkeypatch):
        (tmp_path / "file").touch()
        monkeypatch.setattr(os, "geteuid", lambda: 65534)
        files.check_writable(tmp_path / "file", folder=False)
        tmp_path.chmod(0o1777)
        with pytest.raises(InvalidError, match=r"file' cannot be written \(a file of another user"):
            files.check_writable(tmp_path / "file", folder=False)
        files.check_writable(tmp_path / "another", folder=False)


def save(folder):
    """Writes a result of an image, a transform and points."""
    with files.atomic_folder(folder, files.LISTING) as path:
        Image(np.arange(60, dtype=np.float32).reshape(GRID.shape), GRID.affine).save(path / "moved.nii.gz")
        Transform.from_field(np.ones((*GRID.shape, 3)), GRID).save(path / "transform.nii.gz")
        write_points(path / "moved.csv", np.ones((2, 3)))
        (path / files.LISTING).write_text(json.dumps({"files": files.digests(path)}))


READERS = {"moved.nii.gz": Image.read, "transform.nii.gz": Transform.load, "moved.csv": read_points}


@pytest.mark.parametrize("name", READERS)
def test_a_file_of_another_result_is_refused(tmp_path, name):
    save(tmp_path / "out")
    READERS[name](tmp_path / "out" / name)
    Image(np.ones(GRID.shape, int), GRID.affine).save(tmp_path / "out" / "moved.nii.gz")
    Transform.from_field(np.zeros((*GRID.shape, 3)), GRID).save(tmp_path / "out" / "transform.nii.gz")
    write_points(tmp_path / "out" / "moved.csv", np.zeros((2, 3)))
    with pytest.raises(
        InvalidError, match=r"is not the file that result\.json beside it lists\. Write the result again"
    ):
        READERS[name](tmp_path / "out" / name)


@pytest.mark.parametrize("text", [None, "{}", '{"files": {"other": "x"}}'])
def test_a_listing_of_other_files_or_of_none_is_no_hindrance(tmp_path, text):
    save(tmp_path / "out")
    (tmp_path / "out" / files.LISTING).unlink()
    if text is not None:
        (tmp_path / "out" / files.LISTING).write_text(text)
    for name, read in READERS.items():
        read(tmp_path / "out" / name)


@pytest.mark.parametrize(
    "text", ["no JSON", "[]", "7", '{"files": 3}', '{"files": {}}', "[" * 5000, '{"a": 1, "a": 2}']
)
def test_beside_a_damaged_or_unfinished_listing_no_file_of_a_result_is_read(tmp_path, text):
    save(tmp_path / "out")
    (tmp_path / "out" / files.LISTING).write_text(text)
    for name, read in READERS.items():
        with pytest.raises(
            InvalidError, match=r"result\.json beside it is damaged, or was not written to its end\. Write"
        ):
            read(tmp_path / "out" / name)
        other = tmp_path / "out" / f"other-{name}"
        shutil.copy(tmp_path / "out" / name, other)
        read(other)


def test_a_file_without_a_digest_in_its_listing_is_not_the_one_that_is_listed(tmp_path):
    save(tmp_path / "out")
    (tmp_path / "out" / files.LISTING).write_text('{"files": {"moved.nii.gz": null}}')
    with pytest.raises(InvalidError, match="is not the file that"):
        Image.read(tmp_path / "out" / "moved.nii.gz")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no umask for others")
@pytest.mark.parametrize(
    ("umask", "file", "folder"), [(0o077, 0o600, 0o700), (0o022, 0o644, 0o755), (0o027, 0o640, 0o750)]
)
def test_the_umask_is_respected(tmp_path, umask, file, folder):
    before = os.umask(umask)
    try:
        save(tmp_path / "out")
        save(tmp_path / "out")  # into a folder that is there
        Image(np.ones(GRID.shape, int), GRID.affine).save(tmp_path / "new" / "a.nii.gz")
    finally:
        os.umask(before)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in [*tmp_path.rglob("*")]}
    assert {mode for path, mode in modes.items() if path.is_file()} == {file}
    assert {mode for path, mode in modes.items() if path.is_dir()} == {folder}
