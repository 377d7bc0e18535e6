"""A loss with its parameters for `compile(loss=...)`, which a compiled model is saved and loaded with."""

import inspect

import keras

from regzoo.backend import Tensor
from regzoo.errors import checked_spacing, invalid, unknown
from regzoo.losses.objective import named
from regzoo.schema.losses import LOSSES
from regzoo.schema.strict import validate

_TENSORS = ("fixed", "moved", "mask", "ddf", "known")
"""What a loss compares, which are no settings."""


@keras.saving.register_keras_serializable("regzoo")
class Loss(keras.losses.Loss):
    """One of regzoo's losses with its parameters: `compile(loss=Loss("lncc", size=7))`.

    The target is the fixed image, label map or known field; a loss of a field alone, as `gradient`, looks at the
    output only.

    Args:
        function: Name of a function of `regzoo.losses`, or of an entry of `regzoo.schema.losses.LOSSES`.
        settings: Its parameters, such as `size` or `spacing`.

    Raises:
        InvalidError: If there is no such loss, it has no such parameter, or a value is out of range.

    Example:
        >>> loss = Loss("ssd")  # with parameters: Loss("lncc", size=7)
        >>> float(loss(keras.ops.ones((1, 4, 4, 1)), 3 * keras.ops.ones((1, 4, 4, 1))))
        4.0
    """

    def __init__(self, function: str, **settings: object) -> None:
        if not isinstance(function, str):
            raise invalid("function", "the name of a loss", repr(function), "A function itself goes into compile.")
        own = {key: settings.pop(key) for key in ("name", "reduction", "dtype") if key in settings}
        super().__init__(**{"name": function, "dtype": "float32"} | own)
        added = {name: each for kind in LOSSES for name, each in named(kind).items()}
        known = added | {each.__name__: each for each in added.values()}
        if function not in known:
            raise unknown("loss", function, known)
        parameters = inspect.signature(known[function]).parameters
        for key in settings:
            if key not in parameters or key in _TENSORS:
                raise unknown(f"parameter of {function}", key, [each for each in parameters if each not in _TENSORS])
        if "spacing" in settings:
            checked_spacing(settings["spacing"])
        for entry in (each for kind in LOSSES.values() for each in kind.values() if each.function() is known[function]):
            said = {key: value for key, value in settings.items() if key in entry.config.model_fields}
            validate(entry.config, said, function)
        self.function, self.settings = function, settings
        self._loss, self._of_pairs = known[function], next(iter(parameters)) != "ddf"

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Returns one value a batch item."""
        given = (y_true, y_pred) if self._of_pairs else (y_pred,)
        return self._loss(*given, **self.settings)

    def get_config(self) -> dict:
        """Returns what makes this loss again."""
        return super().get_config() | {"function": self.function} | self.settings
