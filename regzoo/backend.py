"""The only file that knows which backend Keras runs on: compiling, gradients, device and seed.

On TensorFlow and JAX, warps, fields and losses go through XLA; convolutions on TensorFlow stay outside it, where they
are several times faster on a CPU.
"""

import contextlib
import functools
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias, TypeVar

from regzoo import cache, installed
from regzoo.errors import invalid
from regzoo.hushed import hushed

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # not even its errors: those that matter are raised too

with hushed():  # TensorFlow reports the processor's features whatever its log level
    try:
        import keras
    except ModuleNotFoundError as error:
        raise installed.missing(error) from None

    NAME = keras.backend.backend()
    if NAME not in installed.BACKENDS:
        raise invalid("KERAS_BACKEND", "tensorflow, torch or jax", NAME)
    if NAME == "tensorflow":
        import tensorflow as tf

        tf.zeros(())  # the first operation speaks too
        # Images of many shapes are what a zoo is for, and its user can do nothing about it.
        logging.getLogger("tensorflow").addFilter(lambda record: "tf.function retracing" not in record.getMessage())
        # One of its passes gives small 3-D layers with bias and leaky ReLU a wrong shape (TensorFlow 2.21). On a
        # processor none of them gains, and they take six seconds of a brain's first registration.
        on_gpu = tf.config.list_physical_devices("GPU")
        tf.config.optimizer.set_experimental_options(
            {"remapping": False} if on_gpu else {"disable_meta_optimizer": True}
        )
    elif NAME == "torch":
        import torch
    elif NAME == "jax":
        import jax

        if (folder := cache.compiled_folder()) is not None:
            jax.config.update("jax_compilation_cache_dir", str(folder))

T = TypeVar("T")
Tensor: TypeAlias = Any
"""What a function of tensors takes and gives: a tensor of the running backend, or where one goes in, an array."""


def _frozen(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def compiled(function: Callable, **static: object) -> Callable:
    """Returns `function` compiled for the running backend, with the keyword arguments `static` fixed.

    The compiled form of a top-level function is kept, so that asking twice costs nothing; that of a local one or of a
    partial, which would never be asked for again, is not: it would hold on to all that the function does.

    Args:
        function: Takes tensors (or nests of tensors) by position.
        static: Hashable settings, compiled in.

    Returns:
        A function of the tensors. TensorFlow: XLA, one compilation a shape. JAX: `jax.jit`. PyTorch: eager.
    """
    compiler = _compiled if "<locals>" in getattr(function, "__qualname__", "<locals>") else _kept
    return compiler(function, tuple(sorted((key, _frozen(value)) for key, value in static.items())))


def _compiled(function: Callable, static: tuple) -> Callable:
    fixed = functools.partial(function, **dict(static))
    if NAME == "tensorflow":
        return tf.function(fixed, jit_compile=True, autograph=False)
    if NAME == "jax":
        return jax.jit(fixed)
    return fixed


_kept = functools.lru_cache(maxsize=256)(_compiled)


def repeat(step: Callable, times: int, x: Tensor, *constants: Tensor) -> Tensor:
    """Applies `x = step(x, *constants)` a fixed number of times, each step compiled by itself.

    In one piece, XLA would fuse each step into the next and compute it again for every voxel that the next one reads:
    seven compositions took 0.4 s that take 0.01 s in steps. JAX compiles the caller whole, so there it is a loop.

    Args:
        step: A top-level function of tensors.
        times: How often, at least 0.
        x: First argument of the first step.
        constants: Further arguments of every step.
    """
    if NAME == "jax":
        return compiled(_loop, step=step, times=times)(x, *constants)
    step = compiled(step)
    for _ in range(times):
        x = step(x, *constants)
    return x


def _loop(x: Tensor, *constants: Tensor, step: Callable, times: int) -> Tensor:
    return jax.lax.fori_loop(0, times, lambda _, y: step(y, *constants), x)


def each(step: Callable, places: Sequence[tuple[int, ...]], *constants: Tensor) -> Tensor:
    """Returns `step(place, *constants)` of each place, stacked along a new last axis; not compiled in one piece.

    XLA takes seconds over what is done 27 times: half of a brain's first registration. JAX has it in a loop.

    Args:
        step: A top-level function of a place and of tensors.
        places: Whole numbers.
        constants: The further arguments, the same for all.
    """
    if NAME == "jax":
        return compiled(_mapped, step=step, places=tuple(places))(*constants)
    return keras.ops.stack([step(place, *constants) for place in places], axis=-1)


def _mapped(*constants: Tensor, step: Callable, places: tuple) -> Tensor:
    found = jax.lax.map(lambda place: step(place, *constants), jax.numpy.array(places))
    return jax.numpy.moveaxis(found, 0, -1)


def only_if(wanted: Tensor, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Returns `function(x)` where a scalar is true, and else `x`, without the work.

    ONNX files, whose graph cannot depend on a value, do the work always.
    """
    if NAME == "torch" and torch.compiler.is_exporting():
        return torch.where(wanted, function(x), x)
    return keras.ops.cond(wanted, lambda: function(x), lambda: x)


def value_and_grad(function: Callable) -> Callable:
    """Returns a function that gives the scalar `function(x)` and its gradient with respect to the tensor `x`."""
    if NAME == "jax":
        return jax.value_and_grad(function)

    def tensorflow(x: Tensor) -> tuple:
        x = tf.convert_to_tensor(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = function(x)
        return value, tape.gradient(value, x)

    def pytorch(x: Tensor) -> tuple:
        x = keras.ops.convert_to_tensor(x).detach().requires_grad_()
        value = function(x)
        return value, torch.autograd.grad(value, x)[0]

    return tensorflow if NAME == "tensorflow" else pytorch


def has_sampler(image: Tensor) -> bool:
    """Tells whether the backend samples an image (B, *S, C) by itself, faster than eight gathers and a sum.

    PyTorch does, 2-D and 3-D images.
    """
    return NAME == "torch" and image.ndim in (4, 5)


def linear_sample(image: Tensor, coordinates: Tensor, boundary: str) -> Tensor:
    """Samples linearly by `torch.nn.functional.grid_sample`; arguments and result are those of `warping.sample`."""
    dims = image.ndim - 2
    dtype = torch.promote_types(image.dtype, torch.float32)
    batch = max(image.shape[0], coordinates.shape[0])
    coordinates = coordinates.to(dtype)
    if boundary == "zero":  # two voxels outside is as good as anywhere; `grid_sample` makes NaN of infinity
        coordinates = coordinates.clamp(-2, max(image.shape[1:-1]) + 1)
    # Edge to edge is -1 to 1 (for an axis of one voxel has no other length), and the last axis comes first.
    size = torch.tensor(image.shape[1:-1], dtype=dtype, device=coordinates.device)
    places = ((coordinates * 2 + 1) / size - 1).flip(-1)
    flat = places.reshape(places.shape[0], -1, *(1,) * (dims - 1), dims).expand(batch, *(-1,) * (dims + 1))
    source = image.to(dtype).movedim(-1, 1).expand(batch, *(-1,) * (dims + 1))
    padding = {"edge": "border", "zero": "zeros"}[boundary]
    found = torch.nn.functional.grid_sample(source, flat, padding_mode=padding, align_corners=False)
    return found.reshape(batch, image.shape[-1], *coordinates.shape[1:-1]).movedim(1, -1).to(image.dtype)


def sent(arrays: dict) -> dict:
    """Sends arrays to the device, without waiting until it has done what it was told before.

    PyTorch's own way, and so Keras's, waits; the others' do not.
    """
    if NAME == "torch" and device() == "gpu":
        return {
            name: torch.from_numpy(each).pin_memory().to("cuda", non_blocking=True) for name, each in arrays.items()
        }
    return arrays


def inference(function: Callable[..., T], *args: object) -> T:
    """Calls `function` without keeping what gradients need."""
    if NAME == "torch":
        with torch.no_grad():
            return function(*args)
    return function(*args)


def device() -> str:
    """Returns what the running backend computes on, such as `"cpu"` or `"gpu"`."""
    if NAME == "tensorflow":
        return "gpu" if tf.config.list_physical_devices("GPU") else "cpu"
    if NAME == "jax":
        return jax.default_backend()
    return torch.get_default_device().type if not torch.cuda.is_available() else "gpu"


def devices() -> list[str]:
    """Returns all devices that the running backend can use, in its own words."""
    if NAME == "tensorflow":
        return [each.name for each in tf.config.list_physical_devices()]
    if NAME == "jax":
        return [f"{each} {each.device_kind}" for each in jax.devices()]
    return ["cpu", *(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))]


def versions() -> dict[str, str]:
    """Returns the versions of regzoo, Keras, NumPy and the running backend."""
    return {name: sys.modules[name].__version__ for name in ("regzoo", "keras", "numpy", NAME)}


def threads() -> str:
    """Returns how many threads of the processor the running backend takes, where it tells."""
    if NAME == "torch":
        return str(torch.get_num_threads())
    variable = {"tensorflow": "TF_NUM_INTRAOP_THREADS", "jax": "NPROC"}[NAME]
    return os.environ.get(variable, "one a core")


@contextlib.contextmanager
def float32() -> Iterator[None]:
    """Has Keras work in float32, as its optimizers do in no other way, whatever its settings say; also a decorator."""
    kept = keras.config.floatx()
    keras.config.set_floatx("float32")
    try:
        yield
    finally:
        keras.config.set_floatx(kept)


def seed(value: int) -> None:
    """Seeds Python, NumPy and the backend."""
    keras.utils.set_random_seed(value)


def write_onnx(model: keras.Model, batch: dict, names: list[str], path: str | os.PathLike) -> None:
    """Writes a model as an ONNX file, by PyTorch's exporter.

    Args:
        model: Takes a dictionary like `batch` and returns one.
        batch: Name -> array; the file takes arrays of these names and shapes.
        names: Outputs, in order.
        path: The file.
    """

    class Positional(torch.nn.Module):
        """Takes and returns tensors in an order, which is what the exporter gives names to."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *tensors: Tensor) -> tuple:
            prediction = self.model(dict(zip(batch, tensors, strict=True)))
            return tuple(prediction[name] for name in names)

    tensors = tuple(torch.from_numpy(value) for value in batch.values())
    settings = {"input_names": list(batch), "output_names": names, "verbose": False}
    # The exporter's own translation of the sampler is of ONNX 16, which has none of volumes.
    settings |= {"opset_version": 20, "custom_translation_table": {torch.ops.aten.grid_sampler.default: _sampler()}}
    settings["optimize"] = False  # of a pyramid it did not end in ten minutes: each rule looks at all nodes anew
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it speaks of packages that the model does not use
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its own code
            program = torch.onnx.export(Positional().eval(), tensors, dynamo=True, **settings)
            _simplify(program.model)
            program.save(path, external_data=False)
    finally:
        logger.setLevel(level)


def _sampler() -> Callable:
    """Returns what makes ONNX's own sampler of `grid_sample`."""
    from onnxscript import opset20

    def sampler(image: Tensor, grid: Tensor, method: int, padding: int, align_corners: bool) -> Tensor:
        names = {"mode": ("linear", "nearest", "cubic")[method], "padding_mode": ("zeros", "border")[padding]}
        return opset20.GridSample(image, grid, align_corners=int(align_corners), **names)

    return sampler


def _simplify(program: object) -> None:
    """Computes what is constant in an ONNX program and takes the biases away that the exporter adds to convolutions."""
    from onnxscript import optimizer, rewriter
    from onnxscript.rewriter.rules.common import remove_optional_bias_from_conv_rule

    optimizer.fold_constants(program)
    rewriter.rewrite(program, [remove_optional_bias_from_conv_rule])
