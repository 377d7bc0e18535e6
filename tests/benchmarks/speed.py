"""Measures a bundled model on one pair. `python tests/benchmarks/speed.py [--data FOLDER] [--model NAME]`.

Prints the seconds of network + field + warp with the model loaded (median of 20 calls), and the seconds and the peak
memory of `regzoo register` as a whole process (median of 3).

With `--beside NAME...`: network, field and warp of the model and of others, such as the folders of older versions, in
turn in one process: the first call, with its compilation, and the best of five; `--pair FIXED MOVING`: on these images.

With `--peers`: the milliseconds of warp, integrate, the slow losses and a training step beside torch's `grid_sample`
and MONAI's, on whatever device is there. Both are called in turn, so that what else the machine does hits both; the
ratios are of the fastest calls, and of the processor time of all calls (of all threads), which what else the machine
does changes least. Only ratios can be compared between machines.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from regzoo import backend  # first: it keeps the start-up chatter of the backend away
from regzoo.losses.objective import named
from regzoo.models import build, zoo
from regzoo.ops import fields, warping
from regzoo.registration import demo
from regzoo.registration.network import NetworkPair
from regzoo.registration.register import register
from regzoo.registration.sides import read_side
from regzoo.schema.networks import ModelConfig
from regzoo.simulation import synthetic
from regzoo.world.images import Image

sys.path.append(str(Path(__file__).parents[1] / "helpers"))

CHILD = """
import os, subprocess, sys
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
print(usage.ru_maxrss // 1024)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=demo.MODEL)
    parser.add_argument("--data", type=Path, help="folder with hippocampus-mr; without it: the synthetic pair")
    parser.add_argument("--pair", nargs=2, type=Path, help="with --beside: the images; without it: the synthetic pair")
    parser.add_argument("--beside", nargs="+", default=[], help="models to measure in turn with --model")
    parser.add_argument("--peers", action="store_true", help="operations beside those of torch and MONAI")
    parser.add_argument("--only", default="", help="with --peers: rows whose name starts so")
    arguments = parser.parse_args()
    if arguments.peers:
        beside_peers(arguments.only)
        return
    with tempfile.TemporaryDirectory() as folder:
        if arguments.beside:
            side_by_side([arguments.model, *arguments.beside], arguments.pair or _files(Path(folder), arguments.data))
            return
        files = _files(Path(folder), arguments.data)
        loaded, images = zoo.load(arguments.model), [Image.read(file) for file in files]
        times = [_seconds(loaded, *images) for _ in range(21)][1:]
        print(f"{arguments.model}, {backend.NAME}, fixed {images[0].shape}, moving {images[1].shape}")
        print(f"network + field + warp, loaded: median {statistics.median(times):.3f} s of {len(times)}")
        command = [
            sys.executable,
            "-c",
            CHILD,
            str(Path(sys.executable).with_name("regzoo")),
            "register",
            *map(str, files),
        ]
        command += ["--model", arguments.model, "--output", str(Path(folder) / "out")]
        runs = [_process(command) for _ in range(3)]
    seconds, memory = statistics.median(run[0] for run in runs), max(run[1] for run in runs)
    print(f"regzoo register, whole process: median {seconds:.1f} s of {len(runs)}, peak {memory} MB")


def _files(folder: Path, data: Path | None) -> tuple[Path, Path]:
    if data is not None:
        return demo.real_files(data)[:2]
    for name, image in zip(("fixed", "moving"), synthetic.synthetic_pair(), strict=False):
        image.save(folder / f"{name}.nii.gz")
    return folder / "fixed.nii.gz", folder / "moving.nii.gz"


def _seconds(model, fixed, moving) -> float:
    seconds = register(fixed, moving, model).facts["seconds"]
    return seconds["network"] + seconds["warp"]


def _process(command: list[str]) -> tuple[float, int]:
    start = time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return time.perf_counter() - start, int(done.stdout)


def side_by_side(names: list[str], files: tuple[Path, Path]) -> None:
    sides = [read_side(name, Image.read(file), None) for name, file in zip(("fixed", "moving"), files, strict=True)]
    models = {name: zoo.load(name) for name in names}
    batches = {name: NetworkPair(model, *sides, None, {}).batch() for name, model in models.items()}
    times = {name: [] for name in names}
    for _ in range(6):
        for name, model in models.items():
            start = time.perf_counter()
            ddf = model.predict_on_batch(batches[name])["ddf"]
            np.asarray(backend.compiled(warping.warp)(batches[name]["moving"], ddf))
            times[name].append(time.perf_counter() - start)
    for name, (first, *rest) in times.items():
        print(f"{name}, {backend.NAME}: first {first:.1f} s, then best of {len(rest)} {min(rest):.2f} s")


OURS = {
    "warp": lambda ddf, image: warping.warp(image, ddf),
    "integrate": fields.integrate,
    "lncc": lambda moved, fixed: named("image")["lncc"](fixed, moved, size=9),
    "mi": lambda moved, fixed: named("image")["mi"](fixed, moved),
    "bending": named("deformation")["bending"],
}


def beside_peers(only: str) -> None:
    import speed_peers

    print(f"{backend.NAME} on {backend.device()}, peers: torch on {speed_peers.DEVICE}; milliseconds")
    print(f"{'':26}{'regzoo':>10}{'peer':>10}{'ratio':>8}{'processor':>11}  first call (s)")
    for name, tensors, ours, peer in _operations(speed_peers):
        if name.startswith(only):
            _print_row(name, tensors, ours, peer, speed_peers)


def _operations(peers):
    """Yields name, arrays (the one with the gradient first), our function of them, the peer's."""
    random = np.random.default_rng(0)
    field = fields.resize_field(random.normal(0, 3, (1, 12, 12, 12, 3)), (96, 96, 96))
    field = np.array(backend.keras.ops.convert_to_numpy(field))
    volume = random.uniform(size=(1, 96, 96, 96, 3)).astype("float32")
    pair = [random.uniform(size=(2, 48, 64, 48, 1)).astype("float32") for _ in range(2)]
    cases = {"warp": [field, volume], "warp, MONAI": [field, volume], "integrate": [field], "lncc": pair, "mi": pair}
    for name, tensors in (cases | {"bending": [np.repeat(field[:, :48, :64, :48], 2, axis=0)]}).items():
        ours, peer = OURS[name.split(",")[0]], peers.FUNCTIONS[name]
        step = ours if name == "integrate" else backend.compiled(ours)  # integrate compiles its steps
        yield f"{name}, forward", tensors, step, peers.forward(peer)
        yield f"{name}, gradient", tensors, _with_gradient(ours, name != "integrate"), peers.with_gradient(peer)
    pair = [random.uniform(size=(1, 64, 64, 64, 1)).astype("float32") for _ in range(2)]
    yield "training step 64^3", pair, _training_step(), peers.training_step()


def _with_gradient(function, whole: bool):
    ops = backend.keras.ops

    def step(x, *others):
        return backend.value_and_grad(lambda x: ops.sum(function(x, *others)))(x)[1]

    return backend.compiled(step) if whole else step


def _training_step():
    """Returns a step of the network that `speed_peers.training_step` trains, by `fit`'s own step."""
    backbone = {"name": "voxelmorph", "encoder": (16, 32, 32, 32, 32, 32)}
    backbone["decoder"] = (32, 32, 32, 32, 32, 32, 16, 16, 16)
    model = build(ModelConfig.model_validate({"backbone": backbone, "output": {"name": "ddf"}}))
    model.supervise({"image": {"lncc": {"weight": 1.0}}, "deformation": {"bending": {"weight": 1.0}}}, (1, 1, 1))
    model.compile(backend.keras.optimizers.Adam(1e-4), jit_compile=False)
    to_numpy = backend.keras.ops.convert_to_numpy

    def step(fixed, moving):
        batch = {"fixed": to_numpy(fixed), "moving": to_numpy(moving)}
        return backend.keras.ops.convert_to_tensor(model.train_on_batch(batch, return_dict=True)["loss"])

    return step


def _print_row(name: str, arrays: list, ours, peer, peers) -> None:
    mine, other = [backend.keras.ops.convert_to_tensor(array) for array in arrays], list(map(peers.tensor, arrays))
    first, _ = _timed(ours, mine)
    _timed(peer, other)
    times = np.array([[_timed(ours, mine), _timed(peer, other)] for _ in range(11)])  # calls, sides, clocks
    (a, b), spent = 1000 * times[..., 0].min(axis=0), times[..., 1].sum(axis=0)
    print(f"{name:26}{a:10.1f}{b:10.1f}{a / b:8.3f}{spent[0] / spent[1]:11.3f}  {first:.1f}", flush=True)


def _timed(function, tensors) -> tuple[float, float]:
    """Returns the seconds of a call by the clock, and of the processor."""
    start, spent = time.perf_counter(), time.process_time()
    found = function(*tensors)
    found.reshape(-1)[:1].tolist() if hasattr(found, "reshape") else found.numpy()  # waits for the device
    return time.perf_counter() - start, time.process_time() - spent


if __name__ == "__main__":
    main()
