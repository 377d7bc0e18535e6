"""Whether what is about to be done fits into memory is said before it, with a way out."""

import numpy as np
import pytest
from command_line import run

from regzoo import memory
from regzoo.schema.inputs import InputConfig
from regzoo.schema.networks import ModelConfig
from regzoo.world.images import Image

UNET = ModelConfig.model_validate({"backbone": {"name": "unet", "channels": [16, 32]}, "output": {"name": "ddf"}})


def test_memory_is_told_of_the_machine_or_of_its_share_of_it(monkeypatch, tmp_path):
    assert memory.free() > 2**20
    limit, used, kinds = tmp_path / "max", tmp_path / "used", tmp_path / "stat"
    kinds.write_text("anon 150\ninactive_file 50\ntotal_inactive_file 50\n")
    monkeypatch.setattr(memory, "_GROUPS", ((limit, used, kinds),))
    monkeypatch.setattr(memory, "_of_machine", lambda: 10**9)
    assert memory.free() == 10**9  # no such group
    used.write_text("300\n")
    for told, free in (("max\n", 10**9), ("1000\n", 750), ("100\n", 0)):
        limit.write_text(told)
        assert memory.free() == free
    monkeypatch.setattr(memory, "_of_machine", lambda: None)
    limit.unlink()
    assert memory.free() is None


def test_where_the_free_memory_is_not_told_all_that_there_is_counts(monkeypatch):
    monkeypatch.setattr(memory.Path, "read_text", lambda *_, **__: "MemTotal: 5 kB")
    installed = memory._installed()
    assert memory._of_machine() == installed


def test_what_does_not_fit_is_said_with_a_way_out(monkeypatch):
    monkeypatch.setattr(memory, "free", lambda: 2 * 10**9)
    assert memory.doubt(1.9e9, "Crop it.") == []
    assert memory.doubt(7e9, "Crop it.") == ["This takes about 7.0 GB of memory, and 2.0 GB are free. Crop it."]
    monkeypatch.setattr(memory, "free", lambda: None)
    assert memory.doubt(7e9, "Crop it.") == []


def test_a_network_takes_more_for_more_pairs_and_more_for_its_training():
    grid = InputConfig(shape=(32, 32, 32))
    one = grid.memory(UNET, 1)
    assert one == 6 * 4 * 16 * 32**3
    assert grid.memory(UNET, 3) == 3 * one
    assert grid.memory(UNET, 1, trained=True) == 5 * one
    assert InputConfig(shape=(64, 32, 32)).memory(UNET, 1) == 2 * one


@pytest.mark.parametrize("free", [1, 10**12])
def test_register_warns_before_the_run(monkeypatch, tmp_path, free):
    monkeypatch.chdir(tmp_path)
    for name in ("fixed", "moving"):
        Image(np.random.default_rng(0).random((6, 5, 4)).astype("float32"), np.eye(4)).save(f"{name}.nii.gz")
    monkeypatch.setattr(memory, "free", lambda: free)
    code, _, err = run("register", "fixed.nii.gz", "moving.nii.gz", "--method", "rigid", "--iterations", "1")
    assert code == 0
    assert ("GB are free. Crop the images, or resample them" in err) == (free == 1)
