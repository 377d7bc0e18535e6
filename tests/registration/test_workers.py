"""A cohort on several workers is the cohort of one."""

import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from command_line import process, run
from constant_model import constant_model

import regzoo
from regzoo.data.tables import PairFiles
from regzoo.errors import InvalidError, MissingError
from regzoo.registration import workers
from regzoo.registration.pairs import Asked, Pair
from regzoo.world.images import Image

AFFINE = np.array([[0, 2.0, 0, -9], [-1.5, 0, 0, 4], [0, 0, 1, 7], [0, 0, 0, 1]])


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Three images, a table of three pairs, of which one fails, and a model."""
    folder, random = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for name in "abc":
        Image(random.random((12, 10, 8)).astype("float32"), AFFINE).save(folder / f"{name}.nii.gz")
    rows = ("a.nii.gz,b.nii.gz", "b.nii.gz,gone.nii.gz", "c.nii.gz,a.nii.gz")
    (folder / "pairs.csv").write_text("\n".join(("fixed,moving", *rows)))
    constant_model(folder / "model", (4, 0, 0))
    return folder


def lasting(row):
    """Returns what of a row does not hang on the clock."""
    return {key: value for key, value in row.items() if not key.endswith("seconds")}


def test_a_cluster_gives_what_one_process_gives(images, tmp_path, monkeypatch):
    from distributed import LocalCluster

    monkeypatch.chdir(images)
    alone = regzoo.cohort("pairs.csv", tmp_path / "alone", "model")
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None) as cluster:
        found = regzoo.cohort("pairs.csv", tmp_path / "found", "model", scheduler=cluster.scheduler_address)
        again = regzoo.cohort("pairs.csv", tmp_path / "found", "model", scheduler=cluster.scheduler_address)
    assert [row["status"] for row in found.rows] == ["done", "failed", "done"]
    assert [row["fixed"] for row in found.rows] == ["a.nii.gz", "b.nii.gz", "c.nii.gz"]
    told = [lasting(row) | {"message": None} for row in alone.rows]
    assert [lasting(row) | {"message": None} for row in found.rows] == told
    for name in ("b_to_a", "a_to_c"):
        arrays = [Image.read(tmp_path / each / name / "moved.nii.gz").array for each in ("alone", "found")]
        np.testing.assert_array_equal(*arrays)
    assert (found.kept, again.kept) == (0, 2)


@pytest.mark.slow
def test_two_processes_of_this_machine(images, tmp_path):
    call = ("cohort", str(images / "pairs.csv"), "-o", str(tmp_path / "out"), "-m", str(images / "model"))
    code, out, err = process(*call, "--workers", "2")
    assert (code, out) == (1, "2 done, 1 failed\n")
    lines = err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("error: gone_to_b: ")
    assert run(*call)[1] == "2 done, 1 failed; 2 of them before\n"


class Rounds:
    """Stands for `distributed`: in each round, the pairs' fates by name; a client that it refuses fails."""

    CancelledError, gone = KeyError, False

    def __init__(self, *fates):
        self.fates, self.asked, self.restarted = [*fates], [], []

    def Client(self, address, timeout, set_as_default):
        self.asked.append(timeout)
        fates = self.fates.pop(0)
        if fates is None:
            raise OSError("nobody there")
        self.handed = []

        def submit(function, asked, pair, model, pure):
            self.handed.append(pair.name)
            return _Future(fates[pair.name], {"pair": pair.name, "status": "done"})

        def restart_workers(addresses, timeout, raise_for_error):
            if self.gone:
                raise KeyError(addresses[0])
            self.restarted += addresses

        client = SimpleNamespace(submit=submit, loop=None, restart_workers=restart_workers)
        return _Closing(client)

    def as_completed(self, futures, loop):
        return [*futures]


class _Future:
    def __init__(self, status, row):
        self.status, self.row, self.worker = status.replace("grown", "finished"), row, "w" * (status == "grown") or None

    def result(self):
        return self.row, False, self.worker

    def exception(self):
        return MemoryError("x")


class _Closing:
    def __init__(self, client):
        self.client = client

    def __enter__(self):
        return self.client

    def __exit__(self, *_):
        return None


@pytest.fixture
def asked(tmp_path):
    return Asked(tmp_path, None, "rigid", {})


PAIRS = [Pair(name, PairFiles(Path(f"{name}.nii"), Path("m.nii"))) for name in "xyz"]


def test_what_a_scheduler_forgot_is_asked_of_the_next_one(asked, monkeypatch):
    cluster = Rounds({"x": "finished", "y": "cancelled", "z": "error"}, {"y": "cancelled"}, {"y": "finished"})
    monkeypatch.setattr(workers, "_distributed", lambda: cluster)
    rows = [row for row, _ in workers.on_workers(asked, PAIRS, None, 1, "tcp://here")]
    assert [(row["pair"], row["status"], row["fixed"]) for row in rows] == [
        ("x", "done", "x.nii"),
        ("z", "failed", "z.nii"),
        ("y", "done", "y.nii"),
    ]
    assert rows[1]["message"] == "MemoryError: x"
    assert cluster.handed == ["y"]
    assert cluster.asked == [workers.PATIENCE / 10, workers.PATIENCE, workers.PATIENCE]


def test_a_worker_that_has_grown_is_restarted_and_what_died_with_it_asked_for_again(asked, monkeypatch):
    monkeypatch.setattr(workers, "_local", lambda *_: nullcontext("tcp://here"))
    for scheduler, restarted in {None: ["w"], "tcp://there": []}.items():  # whose workers are others' too
        fates = {"x": "grown", "y": "error" if restarted else "finished", "z": "finished"}
        cluster = Rounds(fates, {"y": "grown"})
        monkeypatch.setattr(workers, "_distributed", lambda cluster=cluster: cluster)
        rows = [row for row, _ in workers.on_workers(asked, PAIRS, None, 1, scheduler)]
        assert {(row["pair"], row["status"]) for row in rows} == {("x", "done"), ("z", "done"), ("y", "done")}
        assert cluster.restarted == restarted  # not after the last pair


def test_a_worker_that_is_gone_before_its_restart_stops_nothing(asked, monkeypatch):
    cluster = Rounds({"x": "grown", "y": "finished", "z": "finished"})
    cluster.gone = True
    monkeypatch.setattr(workers, "_distributed", lambda: cluster)
    monkeypatch.setattr(workers, "_local", lambda *_: nullcontext("tcp://here"))
    assert len([*workers.on_workers(asked, PAIRS, None, 1, None)]) == 3


def test_a_scheduler_that_does_not_answer(asked, monkeypatch):
    monkeypatch.setattr(workers, "_distributed", lambda: Rounds(None))
    with pytest.raises(InvalidError, match=r"scheduler that answers, received tcp://here\. What is done stays done"):
        [*workers.on_workers(asked, PAIRS, None, 1, "tcp://here")]


def test_without_dask_the_line_that_installs_it(asked, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingError, match=r"Run pip install 'regzoo\[cluster\]'"):
        [*workers.on_workers(asked, PAIRS, None, 2, None)]


def test_a_worker_that_finds_another_model_by_the_name_says_so(images, tmp_path, monkeypatch):
    model = {"name": "constant-ddf", "version": "3", "sha256": "0" * 64}
    asked = Asked(tmp_path, model, None, {"refine": 0})
    pair = Pair("b_to_a", PairFiles(images / "a.nii.gz", images / "b.nii.gz"))
    monkeypatch.setattr("distributed.get_worker", lambda: SimpleNamespace(nanny=None))
    row, *_ = workers.register_here(asked, pair, str(images / "model"))
    assert row["status"] == "failed"
    assert row["message"].startswith("model: expected constant-ddf 3 0000")


@pytest.mark.parametrize(
    ("nanny", "growth", "told"), [("tcp://n", -1, True), (None, -1, False), ("tcp://n", 2**40, False)]
)
def test_a_worker_says_when_it_has_grown(monkeypatch, nanny, growth, told):
    monkeypatch.setattr(workers, "GROWTH", growth)
    assert workers.grown(SimpleNamespace(nanny=nanny, address="tcp://w")) == ("tcp://w" if told else None)


@pytest.mark.parametrize(
    ("given", "told"),
    [({"workers": 0}, "workers: expected a number"), ({"workers": 2, "scheduler": "tcp://x"}, "one of the two")],
)
def test_numbers_of_workers(images, tmp_path, given, told):
    with pytest.raises(InvalidError, match=told):
        regzoo.cohort(images / "pairs.csv", tmp_path / "out", method="rigid", **given)
