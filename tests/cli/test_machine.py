import json
import os
import subprocess
import sys

import pytest
import typer
from command_line import process, run
from typer.testing import CliRunner

from regzoo.cache import cache_folder, compiled_folder
from regzoo.cli import machine
from regzoo.cli.door import NO_MEMORY, Door
from regzoo.errors import InvalidError


class ResourceExhaustedError(Exception):
    """As TensorFlow's, which is no RuntimeError."""


def fails_by(error):
    app = typer.Typer(cls=Door, pretty_exceptions_enable=False)

    @app.command()
    def fail():
        raise error

    @app.command()
    def other():
        pass

    return CliRunner().invoke(app, ["fail"])


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 8.00 GiB for an array"),
        RuntimeError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 79 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 68719476736 bytes."),
        ResourceExhaustedError("{{function_node __wrapped__Conv3D}} OOM when allocating tensor with shape[1,512]"),
    ],
)
def test_too_little_memory_is_one_line_with_the_way_out(error):
    result = fails_by(error)
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", f"error: {NO_MEMORY}\n")
    assert "--device cpu" in NO_MEMORY
    assert "batch_size" in NO_MEMORY


def test_other_faults_keep_their_traceback():
    error = RuntimeError("shapes do not match")
    assert fails_by(error).exception is error


def test_doctor_tells_what_a_report_of_a_bug_needs_and_no_secret(monkeypatch, tmp_path):
    monkeypatch.setenv("REGZOO_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    (tmp_path / "keras").mkdir()
    (tmp_path / "keras" / "keras.json").write_text('{"floatx": "float16"}')
    (tmp_path / "model").write_bytes(b"12345")
    code, out, _ = run("doctor", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["backend"] == os.environ.get("KERAS_BACKEND", "tensorflow")
    assert found["versions"]["nibabel"][0].isdigit()
    assert found["devices"]
    assert found["memory"].endswith(" GB free")
    assert found["cache"]["folder"] == str(tmp_path)
    assert found["cache"]["bytes"] == 5 + len('{"floatx": "float16"}')
    assert found["settings"]["HF_TOKEN"] == "(set)"
    assert found["keras.json"]["floatx"] == "float16"
    plain = run("doctor")[1]
    assert "hf_secret" not in out + plain
    assert "floatx" in plain


def test_doctor_does_not_fail_where_keras_does(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "abacus")
    code, out, _ = process("doctor")
    assert code == 0
    assert "backend: does not start" in out
    assert "abacus" in out


def test_device_and_threads_reach_the_backend():
    program = (
        "from regzoo.cli.machine import take; take('cpu', 1); from regzoo import backend; "
        "print(backend.threads(), backend.device())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout.split() == ["1", "cpu"]


@pytest.mark.parametrize("device", ["cuda", "gpu:x", "gpu:", "cpu:1", ""])
def test_a_device_of_another_name_is_refused(device, monkeypatch):
    monkeypatch.setattr(os, "environ", dict(os.environ))
    with pytest.raises(InvalidError, match="--device: expected cpu, gpu or gpu:N, received"):
        machine.take(device, None)


def test_a_gpu_where_there_is_none_is_refused(monkeypatch):
    from regzoo import backend

    monkeypatch.setattr(backend, "device", lambda: "cpu")
    with pytest.raises(InvalidError, match=r"--device: expected a GPU that .* can use, received none"):
        machine.take("gpu", None)


def test_what_jax_compiles_is_kept_unless_switched_off(monkeypatch, tmp_path):
    monkeypatch.setenv("REGZOO_CACHE", str(tmp_path))
    for name in ("JAX_ENABLE_COMPILATION_CACHE", "JAX_COMPILATION_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    assert compiled_folder() == cache_folder() / "compiled" == tmp_path / "compiled"
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/elsewhere")
    assert compiled_folder() is None
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    monkeypatch.setenv("JAX_ENABLE_COMPILATION_CACHE", "False")
    assert compiled_folder() is None
