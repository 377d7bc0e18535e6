"""The guide's Python runs as it stands there, and its links lead somewhere."""

import re
from pathlib import Path

import pytest

GUIDE = Path(__file__).resolve().parents[1] / "docs" / "guide.md"


@pytest.mark.backend
def test_the_guide_runs(tmp_path, monkeypatch):
    from regzoo.models import NETWORKS

    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(NETWORKS, "my-net", None)
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 4
    names: dict = {}
    for block in blocks:
        exec(compile(block, str(GUIDE), "exec"), names)
    assert (tmp_path / "mine" / "model.safetensors").is_file()


def test_links_of_the_guide_lead_somewhere():
    links = re.findall(r"\]\(([^)#]+)", GUIDE.read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if "://" not in link and not (GUIDE.parent / link).exists()] == []
