"""What killed processes left goes when the next one writes there; what others still write, or may, stays."""

import os
import subprocess
import sys
import time

import pytest

from regzoo.io import files, remnants

LONG_AGO = time.time() - 2 * remnants._OLD


@pytest.fixture(scope="module")
def dead():
    """The number of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def made(place, name, old=True):
    folder = place / name
    folder.mkdir(parents=True)
    (folder / "half.nii.gz").write_bytes(b"x")
    if old:
        for path in (folder / "half.nii.gz", folder):
            os.utime(path, (LONG_AGO, LONG_AGO))
    return folder


def named(pid, of="regzoo", machine=None):
    return f".{of}-{machine or remnants.machine()}-{pid}-abcd_fg1"


def write_file(home):
    with files.atomic_file(home / "out" / "a.txt") as path:
        path.write_text("x")


def write_folder(home):
    with files.atomic_folder(home / "out") as path:
        (path / "a.txt").write_text("x")


@pytest.mark.parametrize("write", [write_file, write_folder])
def test_the_next_one_to_write_there_removes_what_a_killed_one_left(tmp_path, dead, write):
    out = tmp_path / "out"
    gone = [made(out, named(dead)), made(out, named(dead, "other"))]
    kept = [
        made(out, named(dead).replace("abcd", "efgh"), old=False),
        made(out, named(os.getpid())),
        made(out, named(dead, machine="0123abcd")),
        made(out, ".regzoo-abcd_fg1"),  # nobody knows whose
        made(out, ".other"),
        made(out, "regzoo-0123abcd-1-abcd_fg1"),
    ]
    write(tmp_path)
    assert [path for path in gone if path.exists()] == []
    assert [path for path in kept if not path.exists()] == []
    assert (out / "a.txt").read_text() == "x"


def test_a_folder_that_never_appeared_is_removed_by_the_next_beside_it(tmp_path, dead):
    gone = made(tmp_path, named(dead, "out"))
    write_folder(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert not gone.exists()


def test_a_folder_in_which_something_was_written_lately_stays(tmp_path, dead):
    kept = made(tmp_path, named(dead))
    os.utime(kept / "half.nii.gz")
    write_file(tmp_path)
    assert kept.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows lets few users make links")
def test_a_link_of_that_name_leads_to_nothing_that_is_removed(tmp_path, dead):
    target = made(tmp_path, "precious")
    (tmp_path / named(dead)).symlink_to(target)
    write_file(tmp_path)
    assert (target / "half.nii.gz").exists()


def test_a_temporary_folder_is_known_by_its_own_process_as_one_that_lives(tmp_path):
    with files.atomic_file(tmp_path / "a.txt") as path:
        path.write_text("x")
        assert remnants._NAME.fullmatch(path.parent.name)["pid"] == str(os.getpid())
        assert list(remnants.left(tmp_path)) == []
    with files.atomic_folder(tmp_path / "new") as path:
        assert remnants._NAME.fullmatch(path.name)["of"] == "new"


def test_those_of_one_name_are_told_from_those_of_another(tmp_path, dead):
    mine = made(tmp_path, named(dead, "a_to_b"))
    made(tmp_path, named(dead, "a_to_b-2"))
    assert list(remnants.left(tmp_path, "a_to_b")) == [mine]
