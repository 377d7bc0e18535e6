"""The progress bar: on a terminal alone, with the time left of each stage, and nothing of it stays."""

import re
import time

import pytest
from command_line import run
from terminal import lines, terminal
from worlds import AFFINES, blobs

from regzoo import progress
from regzoo.cli.bar import shown
from regzoo.registration.results import clock
from regzoo.world.images import Grid


def work():
    """Three stages, the second of which knows how far it is."""
    seconds = {}
    with clock(seconds, "load"):
        time.sleep(0.3)
    with clock(seconds, "optimisation"):
        for level in range(2):
            with progress.part(level, 2):
                for step in range(1, 11):
                    progress.step(step, 10)
                    time.sleep(0.05)
    with clock(seconds, "picture"):
        time.sleep(0.3)


def test_a_terminal_shows_each_stage_and_the_time_left(monkeypatch):
    with terminal(monkeypatch) as screen, shown(quiet=False):
        work()
    text = screen[0]
    found = lines(text)
    assert any(re.fullmatch(r"loading the model .* \d:\d\d:\d\d *", line) for line in found)
    assert any(re.fullmatch(r"drawing .* \d:\d\d:\d\d *", line) for line in found)
    assert not any(re.fullmatch(r"drawing .*:.*:.*:.*", line) for line in found)  # of this one the end is not known
    assert any(re.fullmatch(r"optimising .* \d:\d\d:\d\d left 0:00:0\d *", line) for line in found)
    assert max(map(len, found)) < 80
    assert text.endswith("\x1b[2K")  # the line is empty again


@pytest.mark.parametrize("quiet", [True, False])
def test_no_bar_where_it_is_not_wanted_or_nobody_sees_it(monkeypatch, capsys, quiet):
    if quiet:
        with terminal(monkeypatch) as screen, shown(quiet=True):
            work()
        assert screen == [""]
    else:
        with shown(quiet=False):
            work()
        assert capsys.readouterr() == ("", "")


def test_parts_of_parts_add_up_to_the_whole():
    heard = []
    with progress.heard_by(lambda name, share: heard.append((name, share))):
        progress.stage("x")
        for i in range(2):
            with progress.part(i, 2):
                for j in range(3):
                    with progress.part(j, 3):
                        progress.step(1, 2)
    assert heard == [("x", None), *((None, pytest.approx((2 * k + 1) / 12)) for k in range(6))]
    progress.stage("nobody hears this")
    progress.step(1, 2)


@pytest.mark.backend
@pytest.mark.parametrize("method", ["rigid,dvf", "demons", "convex"])
@pytest.mark.slow_under("jax", "tensorflow")
def test_every_method_tells_how_far_it_is(method):
    import regzoo

    image, heard = blobs(Grid((12, 14, 10), AFFINES["RAS"])), []
    with progress.heard_by(lambda name, share: heard.append((name, share))):
        regzoo.register(image, image, method=method, iterations=3)
    names = [name for name, _ in heard if name]
    assert names == ["load", "read", "start", "optimisation", "orientation", "warp", "scores"]
    stop = heard.index(("orientation", None))
    shares = [share for _, share in heard[:stop] if share is not None]
    assert len(shares) >= 4
    assert shares == sorted(shares)
    assert 0 <= shares[0] < 0.5 < shares[-1] <= 1


def test_quiet_leaves_the_result_alone(tmp_path, monkeypatch):
    import regzoo

    class Made:
        def __init__(self):
            self.facts = {"scores": {"before": {}, "after": {}}, "seconds": {"load": 1.0}, "warnings": ["look"]}

        def save(self, folder, gif=False, html=True):
            pass

        def files(self, gif=False, html=True):
            return ["x", "y"]

    monkeypatch.chdir(tmp_path)
    blobs(Grid((12, 14, 10), AFFINES["RAS"])).save("a.nii.gz")
    monkeypatch.setattr(regzoo, "register", lambda *_, **__: Made(), raising=False)
    arguments = ("register", "a.nii.gz", "a.nii.gz", "--method", "rigid")
    assert run(*arguments, "--quiet") == (0, "seconds load 1.00\n", "warning: look\n")
    assert run(*arguments) == (0, "seconds load 1.00\n", "warning: look\nWritten to out: x, y\n")
