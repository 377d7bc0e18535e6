"""The guide's Python runs as it stands there."""

import re
from pathlib import Path

import pytest

GUIDE = Path(__file__).resolve().parents[1] / "docs" / "guide.md"


@pytest.mark.backend
@pytest.mark.slow_under("jax", "tensorflow")
def test_the_guide_runs(tmp_path, monkeypatch):
    from regzoo.models import NETWORKS
    from regzoo.schema.losses import LOSSES

    monkeypatch.chdir(tmp_path)
    for added, name in ((NETWORKS, "my-net"), (LOSSES["image"], "robust")):
        monkeypatch.setitem(added, name, None)  # to be taken away when the test ends
        del added[name]
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 9
    names: dict = {}
    for block in blocks:
        exec(compile(block, str(GUIDE), "exec"), names)
    assert (tmp_path / "mine" / "model.safetensors").is_file()
    assert LOSSES["image"]["robust"].made_by is names["robust"]
