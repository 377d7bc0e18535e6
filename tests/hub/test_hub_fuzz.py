"""Nothing hostile does more than be refused: 10,000 inputs in a process of their own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from fake_zoo import make_entry
from typer.testing import CliRunner

from regzoo import cli
from regzoo.errors import InvalidError
from regzoo.schema.networks import ModelConfig
from regzoo.schema.strict import validate

pytestmark = pytest.mark.slow


@pytest.mark.skipif(sys.platform != "linux", reason="memory is counted otherwise there")
def test_hostile_inputs():
    command = [sys.executable, str(Path(__file__).parents[1] / "tools" / "fuzz.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=2400, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    report = json.loads(done.stdout)
    print(report)
    assert report["inputs"] == 10_000
    assert report["commands"] > 4000
    assert set(report["errors"]) == {"card", "config", "weights", "recipe", "nifti", "nifti.gz"}
    assert sum(report["loads"].values()) > 100
    assert report["slowest"] < 10
    assert report["peak_gib"] < 2


@pytest.mark.parametrize("channels", [[10**9, 16], [512] * 7, [16, 16, 512, 512, 512]])
def test_a_huge_network_is_refused_before_memory_is_touched(channels):
    with pytest.raises(InvalidError, match="channels"):
        validate(ModelConfig, {"backbone": {"name": "unet", "channels": channels, "convolutions": 4}}, "config.json")


@pytest.mark.parametrize(
    "front", ["{" * 10_000, "name: &a [*a]", "name: !!python/object/apply:os.system [id]", "name: \x00", "\ud800"]
)
def test_at_the_command_line_a_hostile_card_is_one_line(tmp_path, front):
    folder = make_entry(tmp_path / "x")
    (folder / "README.md").write_bytes(f"---\n{front}\n---\n".encode("utf-8", "surrogatepass"))
    result = CliRunner().invoke(cli.app, ["show", str(folder)], prog_name="regzoo")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
