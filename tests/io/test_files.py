"""Files that belong together appear together, and are shown to those whom the umask allows."""

import json
import os
import stat
import subprocess
import sys
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
    """Whether there is a listing; what it lists must then be there, nothing else, and all of one time."""
    if not (out / files.LISTING).exists():
        return False
    listed = json.loads((out / files.LISTING).read_text())["files"]
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
        for path in out.iterdir():
            path.unlink()
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
    assert not (out / files.LISTING).exists()


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


@pytest.mark.parametrize("text", ["{}", "no JSON", '{"files": 3}', '{"files": {"other": "x"}}', "[]"])
def test_a_listing_that_says_nothing_is_no_hindrance(tmp_path, text):
    save(tmp_path / "out")
    (tmp_path / "out" / files.LISTING).write_text(text)
    for name, read in READERS.items():
        read(tmp_path / "out" / name)


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
