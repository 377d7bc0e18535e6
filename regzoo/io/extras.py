"""Packages that are no part of every installation: imported where a file needs them, or their extra is named."""

import importlib
from types import ModuleType

from regzoo.errors import MissingError


def needed(package: str, extra: str, advice: str = "or use NIfTI") -> ModuleType:
    """Returns a package.

    Args:
        package: Its name.
        extra: The extra of regzoo that brings it.
        advice: What else helps where it is not installed.

    Raises:
        MissingError: If it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError:
        raise MissingError(f"{package} is not installed. Run pip install 'regzoo[{extra}]', {advice}.") from None
