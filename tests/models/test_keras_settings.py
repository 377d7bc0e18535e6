"""What a user's keras.json or precision policy says changes no result."""

import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.backend

PROGRAM = """
import sys, numpy as np, regzoo
from regzoo import backend, classical
from regzoo.models import build
from regzoo.schema.networks import ModelConfig
keras = backend.keras
if sys.argv[1] != "none":
    keras.config.set_dtype_policy(sys.argv[1])
unet = {"name": "unet", "channels": [2, 3], "convolutions": 1}
local = {"name": "local", "channels": [2, 4]}
velocity = {"backbone": unet, "output": {"name": "dvf", "level": 0, "steps": 2}, "flow": True}
configs = {
    "ffd": {"backbone": local, "output": {"name": "ffd", "spacing": 4.0}},
    "affine": {"backbone": local | {"name": "global"}, "output": {"name": "affine"}},
    "keypoints": {"backbone": unet | {"pooling": False}, "output": {"name": "keypoints", "points": 4, "level": 0}},
    "voxelmorph": {"backbone": {"name": "voxelmorph", "encoder": [2], "decoder": [2, 2, 2]}, "output": {"name": "ddf"}},
    "row": {"before": [velocity | {"output": {"name": "fitted"}}], "descriptor": "mind", "shrink": 2} | velocity,
}
random = np.random.default_rng(0)
pair = {name: random.normal(size=(1, 12, 8, 10, 1)).astype("float32") for name in ("fixed", "moving")}
for name, config in configs.items():
    model = build(ModelConfig.model_validate(config), (1.0, 2.0, 1.5))
    for variable in model.variables:
        variable.assign(0.2 * random.normal(size=variable.shape))
    found = model.predict_on_batch(pair)["ddf"]
    print(name, found.dtype, *found.reshape(-1, 3)[::97].ravel().round(5))
model = build(ModelConfig.model_validate(configs["row"]), (1.0, 2.0, 1.5))
for variable in model.variables:
    variable.assign(0.2 * random.normal(size=variable.shape))
model.supervise({"image": {"lncc": {"size": 3}}, "deformation": {"gradient": {}}}, (1.0, 2.0, 1.5))


class Pairs(keras.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, index):
        return (pair,)


with backend.float32():  # as finetune does
    model.compile(keras.optimizers.Adam(1e-2))
    history = model.fit(Pairs(), verbose=0).history
images = [regzoo.Image(random.random((12, 10, 8)).astype("float32"), np.eye(4)) for _ in range(2)]
found, _ = classical.optimise(*images, regzoo.Transform(), ["affine", "dvf"], classical.Guidance(iterations=3))
found, _ = classical.refine(*images, found, classical.Guidance(iterations=3))
print("method", *found.displacement(images[0].grid)[::5, ::5, ::5].ravel().round(4))
print("fit", *(round(float(value[-1]), 4) for value in history.values()))
"""


def printed(tmp_path, settings, policy):
    (tmp_path / "keras.json").write_text(json.dumps(settings | {"backend": os.environ["KERAS_BACKEND"]}))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, policy],
        capture_output=True,
        text=True,
        timeout=600,
        env=os.environ | {"KERAS_HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    return printed(tmp_path_factory.mktemp("keras"), {}, "none")


@pytest.mark.parametrize(
    ("settings", "policy"),
    [
        ({"image_data_format": "channels_first", "floatx": "float16", "epsilon": 1e-2}, "none"),
        ({"floatx": "float64"}, "none"),
        ({}, "mixed_bfloat16"),
    ],
    ids=lambda value: str(value),
)
@pytest.mark.slow
def test_settings_of_keras_change_no_result(tmp_path, expected, settings, policy):
    assert len(expected) == 7
    assert printed(tmp_path, settings, policy) == expected
