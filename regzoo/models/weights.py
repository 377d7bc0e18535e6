"""Weights on disk: safetensors keyed by Keras variable path; names, shapes and dtypes must match exactly."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from keras import ops
from safetensors import SafetensorError
from safetensors.numpy import load as parse
from safetensors.numpy import save_file

from regzoo.errors import InvalidError, RegzooError, invalid
from regzoo.io.files import atomic_file
from regzoo.io.reading import BYTES_LIMIT, check_file
from regzoo.schema.card import WEIGHTS

Source = str | os.PathLike | bytes


def arrays(variables: list, prefix: str = "") -> dict[str, np.ndarray]:
    """Returns the values of Keras variables by path, each path after `prefix`."""
    found = {prefix + variable.path: ops.convert_to_numpy(variable.value) for variable in variables}
    if len(found) != len(variables):
        raise invalid("variables", "a different path for each", [variable.path for variable in variables])
    return found


def save(path: str | os.PathLike, values: Mapping[str, np.ndarray], facts: Mapping[str, object] | None = None) -> None:
    """Writes arrays to a safetensors file, whole or not at all.

    Args:
        path: File to write.
        values: Arrays by name.
        facts: JSON facts for the file's header.
    """
    contiguous = {name: np.asarray(value, order="C") for name, value in values.items()}  # keeps scalars scalar
    text = json.dumps(dict(facts or {}))
    try:
        with atomic_file(path) as temporary:
            save_file(contiguous, temporary, metadata={"facts": text, "sha256": _digest(contiguous, text)})
    except SafetensorError as error:  # of a full disk, for example
        raise RegzooError(f"{path} cannot be written: {error}. An older file of this name is as it was.") from error


def read(source: Source, prefix: str = "", name: str = WEIGHTS) -> tuple[dict[str, np.ndarray], dict]:
    """Reads the arrays whose names begin with `prefix`, and the facts, of a safetensors file.

    Args:
        source: The file, or the bytes of one.
        prefix: What the names begin with.
        name: What to call bytes in an error.

    Raises:
        InvalidError: If it is not a whole safetensors file, or has a digest that is not its own.
    """
    name = name if isinstance(source, bytes) else Path(source).name
    if not isinstance(source, bytes):
        check_file(Path(source))
        if Path(source).stat().st_size > BYTES_LIMIT:
            raise invalid(name, f"at most {BYTES_LIMIT} bytes", Path(source).stat().st_size)
    try:
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
        values, told = parse(data), _metadata(data)
        facts = json.loads(told.get("facts", "{}"))
        if not isinstance(facts, dict):
            raise TypeError(f"its facts are a {type(facts).__name__}")
    # The last four: what a hostile header makes of the types and of the facts.
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InvalidError(f"{name} is not a readable safetensors file: {error}") from error
    # Files of regzoo 0.1 have no digest, and other programs write "format" alone; a name that is neither is damage.
    digest = _digest(values, told.get("facts", "{}"))
    if told.keys() - {"facts", "sha256", "format"} or told.get("sha256", digest) != digest:
        raise InvalidError(f"{name} is damaged: its values or facts are not the ones that were written.")
    return {name: value for name, value in values.items() if name.startswith(prefix)}, facts


def _metadata(data: bytes) -> dict[str, str]:
    """Returns what the header of a safetensors file, which was found to be one, tells beside the arrays."""
    size = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + size]).get("__metadata__") or {}


def _digest(values: Mapping[str, np.ndarray], facts: str) -> str:
    """Returns the sha256 of facts and arrays with their names, types and shapes."""
    total = hashlib.sha256(facts.encode())
    for name in sorted(values):
        value = np.ascontiguousarray(values[name])
        total.update(repr((name, str(value.dtype), np.shape(values[name]))).encode())
        total.update(value.data)
    return total.hexdigest()


def assign(variables: list, values: Mapping[str, np.ndarray], prefix: str = "", source: str = "weights") -> None:
    """Sets Keras variables from arrays by path.

    Args:
        variables: Variables to set, all of them.
        values: Arrays by `prefix` + path; half precision is widened.
        prefix: Only names that start with it count.
        source: Name for messages.

    Raises:
        ValueError: If a name is missing or left over, a shape or dtype does not match, or a value is not
            finite.
    """
    given = {name: value for name, value in values.items() if name.startswith(prefix)}
    wanted = {prefix + variable.path: variable for variable in variables}
    if given.keys() != wanted.keys():
        missing, extra = sorted(wanted.keys() - given.keys())[:3], sorted(given.keys() - wanted.keys())[:3]
        raise InvalidError(f"{source} do not fit the model: missing {missing}, not in the model {extra}.")
    for name, variable in wanted.items():
        value = given[name]
        if tuple(value.shape) != tuple(variable.shape):
            raise invalid(f"{source}: {name}", f"shape {tuple(variable.shape)}", tuple(value.shape))
        if str(value.dtype) not in (variable.dtype, "float16"):
            raise invalid(f"{source}: {name}", f"dtype {variable.dtype} or float16", value.dtype)
        if not np.isfinite(value).all():
            raise invalid(f"{source}: {name}", "finite values", "NaN or infinite ones")
    for name, variable in wanted.items():
        variable.assign(given[name].astype(variable.dtype))


def load(model: object, source: Source) -> None:
    """Sets all weights of a model from a file or the bytes of one; see `assign` for what must match.

    What is larger than the model's weights in single precision and 1 MiB of header is refused before it is parsed.
    """
    name = WEIGHTS if isinstance(source, bytes) else Path(source).name
    limit = 4 * sum(int(np.prod(variable.shape)) for variable in model.variables) + 2**20
    size = len(source) if isinstance(source, bytes) else Path(source).stat().st_size
    if size > limit:
        raise invalid(name, f"at most {limit} bytes for this model", size)
    assign(model.variables, read(source)[0], source=name)
