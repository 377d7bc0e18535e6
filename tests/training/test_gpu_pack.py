"""What travels to a machine without a package index."""

import subprocess
from pathlib import Path

import gpu_pack
import pytest
import tiny_run


def test_a_pack_has_what_the_recipe_reads_and_no_test_image(tmp_path, monkeypatch):
    home = tiny_run.write_data(tmp_path / "home")
    for folder in ("images", "labels"):
        (home / "blobs" / folder / "t.nii.gz").write_bytes(b"a test image")
    monkeypatch.setattr(gpu_pack, "wheels", lambda folder, *_: folder.mkdir(parents=True))
    recipe = tmp_path / "recipe.yaml"
    tiny_run.recipe().write(recipe)
    gpu_pack.pack(recipe, tmp_path / "pack", home, "3.12", [], ["jax"])
    found = {
        path.relative_to(tmp_path / "pack").as_posix() for path in (tmp_path / "pack").rglob("*") if path.is_file()
    }
    read = [f"data/blobs/{kind}/{name}.nii.gz" for kind in ("images", "labels") for name in "abcdvwx"]
    tables = [f"data/blobs/{name}" for name in ("splits.json", "train.csv", "valid.csv")]
    assert found <= {"recipe.yaml", "train.sh", *read, *tables}
    assert found >= {"recipe.yaml", "train.sh", *tables, *(each for each in read if not each.endswith("x.nii.gz"))}


def test_the_script_installs_from_the_pack_and_trains_into_the_folder_that_is_named(tmp_path):
    pack = tmp_path / "a pack"
    (pack / "wheels").mkdir(parents=True)
    (pack / "train.sh").write_text(gpu_pack.script(["jax"]))
    python = tmp_path / "python"
    python.write_text(f'#!/bin/bash\necho "$KERAS_BACKEND: $@" >> "{tmp_path}/said"\n')
    python.chmod(0o755)
    environment = {"PATH": "/usr/bin:/bin", "PYTHON": str(python)}
    subprocess.run(["bash", "train.sh", "run"], cwd=pack, env=environment, check=True)
    said = Path(tmp_path / "said").read_text().splitlines()
    assert said == [
        f": -m pip install --quiet --no-index --find-links {pack}/wheels regzoo jax",
        f"jax: -m regzoo finetune {pack}/recipe.yaml --data {pack}/data --output run",
    ]


def test_a_parent_that_does_not_travel_is_refused(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    tiny_run.recipe().write(recipe)
    text = recipe.read_text().replace("parent: null\n", "")
    recipe.write_text(f"{text}parent: runs/base\n")
    with pytest.raises(SystemExit, match=r"parent: expected a bundled model, .*received runs/base"):
        gpu_pack.pack(recipe, tmp_path / "pack", tmp_path, "3.12", [], [])
