"""doctor, and which device and how many threads a command takes: said to a backend before it is imported."""

import importlib.metadata
import json
import os
import platform
from pathlib import Path
from typing import Annotated

import typer

import regzoo
from regzoo import installed, memory, processors
from regzoo.cache import cache_folder, compiled_folder, expanded
from regzoo.cli.options import Json
from regzoo.cli.output import print_facts, print_json
from regzoo.errors import invalid

commands = typer.Typer()

Device = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="cpu, gpu, or gpu:1 for the second one.", show_default="a GPU, if any"),
]
Threads = Annotated[int | None, typer.Option(metavar="N", min=1, help="Threads of the processor.", show_default="all")]

PACKAGES = ("regzoo", "keras", "numpy", "scipy", "nibabel", *installed.BACKENDS)
_SETTINGS = ("REGZOO_", "KERAS_", "JAX_", "XLA_", "TF_", "CUDA_VISIBLE", "OMP_", "OPENBLAS_", "MKL_", "PYTORCH_", "HF_")
_SECRET = ("TOKEN", "KEY", "SECRET", "PASSWORD")


def take(device: str | None, threads: int | None) -> None:
    """Sets what each backend reads of the environment when it is imported.

    Args:
        device: `"cpu"`, `"gpu"` or `"gpu:N"`; None leaves the choice to the backend.
        threads: Of the processor; None leaves it to the backend.

    Raises:
        InvalidError: If the device has another name, or there is no GPU where one is asked for.
    """
    if threads is not None:
        os.environ.update(processors.threads(threads))
    if device is None:
        return
    kind, _, number = device.partition(":")
    if kind not in ("cpu", "gpu") or not (number.isdecimal() or device == kind) or device.startswith("cpu:"):
        raise invalid("--device", "cpu, gpu or gpu:N", device)
    if kind == "cpu":
        os.environ.update({"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu", "KERAS_TORCH_DEVICE": "cpu"})
        return
    if number:
        os.environ["CUDA_VISIBLE_DEVICES"] = number
    from regzoo import backend

    if backend.device() == "cpu":
        raise invalid("--device", f"a GPU that {backend.NAME} can use", "none", "Leave it out, or run regzoo doctor.")


def warn_of_memory(needed: float, advice: str) -> None:
    """Warns of what will probably not fit into the memory, of which it takes so many bytes."""
    for sentence in memory.doubt(needed, advice):
        typer.echo(f"warning: {sentence}", err=True)


@commands.command()
def doctor(as_json: Json = False) -> None:
    """Print what a report of a bug needs. Versions, backend, devices, threads, cache and settings."""
    found = _software() | _hardware() | {"cache": _cache(), "settings": _settings(), "keras.json": _keras_json()}
    if as_json:
        print_json(found)
        return
    for title, value in found.items():
        lines = value if isinstance(value, dict) else {"": value}
        typer.echo(f"{title}:" if isinstance(value, dict) else f"{title}: {value}")
        if isinstance(value, dict):
            print_facts({f"  {name}": str(each) for name, each in lines.items()})


def _software() -> dict:
    versions = {}
    for name in PACKAGES:
        names = ("tensorflow", "tensorflow-cpu") if name == "tensorflow" else (name,)
        versions[name] = next(filter(None, map(_version, names)), "not installed")
    return {"python": f"{platform.python_version()}, {platform.platform()}", "versions": versions}


def _version(name: str) -> str | None:
    if name == "regzoo":
        return regzoo.__version__
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _hardware() -> dict:
    """Says what Keras runs on, or why it does not: a doctor must not fail where the patient does."""
    facts = {"processor": f"{platform.machine()}, {os.cpu_count()} cores, {processors.processors()} to be used"}
    have = memory.free()
    facts["memory"] = "not told" if have is None else f"{have / 1e9:.1f} GB free"
    try:
        from regzoo import backend

        facts |= {"backend": backend.NAME, "devices": ", ".join(backend.devices()), "threads": backend.threads()}
    except Exception as error:  # noqa: BLE001 - whatever keeps a backend from starting is what is to be told
        facts["backend"] = f"does not start: {' '.join(f'{type(error).__name__}: {error}'.split())}"
    return facts


def _cache() -> dict:
    folder = cache_folder()
    files = [path for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []
    compiled = compiled_folder()
    return {
        "folder": str(folder),
        "bytes": sum(path.stat().st_size for path in files),
        "compiled": str(compiled or os.environ.get("JAX_COMPILATION_CACHE_DIR") or "off"),
    }


def _settings() -> dict:
    """Returns the variables of the environment that change what regzoo does, without secrets."""
    return {
        name: "(set)" if any(each in name for each in _SECRET) else value
        for name, value in sorted(os.environ.items())
        if name.startswith(_SETTINGS)
    }


def _keras_json() -> dict | str:
    """Returns Keras's settings file, which regzoo does not write."""
    path = expanded(Path(os.environ.get("KERAS_HOME", "~/.keras"), "keras.json"))
    try:
        return {"file": str(path)} | dict(json.loads(path.read_text(encoding="utf-8")))
    except OSError:
        return "none"
    except ValueError as error:
        return f"{path}: {error}"
