"""Networks of one's own: any Keras model that maps two images to a ddf, and the functions that build them."""

from collections.abc import Callable, Mapping
from importlib.metadata import entry_points

import keras

from regzoo.backend import Tensor
from regzoo.errors import InvalidError, RegzooError, invalid
from regzoo.models.base import RegistrationModel
from regzoo.schema.own import OwnConfig

NETWORKS: dict[str, Callable[..., keras.Model]] = {}
"""Name -> function that builds the network, from its settings; a user's entries, which zoo entries name."""
GROUP = "regzoo.networks"
"""The entry points by which an installed package adds such functions, also for the command line."""


class OwnModel(RegistrationModel):
    """A Keras model of two inputs, `[fixed, moving]`, whose output is the ddf, as a registration model.

    Args:
        network: From two (B, *S, 1) to (B, *S, D), in voxels.

    Example:
        >>> fixed, moving = keras.Input((8, 6, 1)), keras.Input((8, 6, 1))
        >>> both = keras.layers.Concatenate()([fixed, moving])
        >>> network = keras.Model([fixed, moving], keras.layers.Conv2D(2, 3, padding="same")(both))
        >>> image = keras.ops.ones((1, 8, 6, 1))
        >>> tuple(OwnModel(network)({"fixed": image, "moving": image})["ddf"].shape)
        (1, 8, 6, 2)
    """

    def __init__(self, network: keras.Model, **kwargs: object) -> None:
        super().__init__(**kwargs)
        if not isinstance(network, keras.Model) or len(getattr(network, "inputs", None) or ()) != 2:
            expected = "a Keras model of two inputs, [fixed, moving]"
            raise invalid("network", expected, f"a {type(network).__name__}")
        if len(network.outputs) != 1:
            raise invalid(
                "network", "one output, the ddf", f"{len(network.outputs)} outputs", "Give keras.Model(inputs, ddf)."
            )
        self.network = network
        self.dims = len(network.inputs[0].shape) - 2
        self._check_ddf(network.inputs[0].shape, network.outputs[0].shape)
        self.build()

    def __call__(self, inputs: Mapping[str, Tensor], *args: object, **kwargs: object) -> dict:
        """Calls the network and checks its output, here since Keras wraps an error of `call` in lines of its own."""
        prediction = super().__call__(inputs, *args, **kwargs)
        self._check_ddf(inputs["fixed"].shape, prediction["ddf"].shape)
        return prediction

    def field(self, fixed: Tensor, moving: Tensor) -> dict:
        """Returns `ddf`."""
        (ddf,) = keras.tree.flatten(self.network([fixed, moving]))
        return {"ddf": ddf}

    def _check_ddf(self, image: tuple, found: tuple) -> None:
        if tuple(found)[1:] != (*image[1:-1], self.dims):
            expected = f"a tensor (B, {', '.join(map(str, image[1:-1]))}, {self.dims}), the ddf"
            raise invalid("output of the network", expected, tuple(found))


def build_own(config: OwnConfig) -> OwnModel:
    """Builds a network of one's own by its function.

    Args:
        config: Its name in `NETWORKS`, or among the entry points `regzoo.networks`; and its settings.

    Returns:
        The model, with new weights.

    Raises:
        InvalidError: If nobody has said which function builds it.
    """
    try:
        network = _function(config.network)(**config.settings)
    except RegzooError:
        raise
    except Exception as error:  # whatever a stranger's package or function raises
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise InvalidError(f"The network '{config.network}' cannot be built by its function: {reason}.") from error
    return OwnModel(network, name="own")


def _function(name: str) -> Callable[..., keras.Model]:
    if name in NETWORKS:
        return NETWORKS[name]
    for point in entry_points(group=GROUP, name=name):
        return point.load()
    raise InvalidError(
        f"The network '{name}' is not known here, and a zoo entry holds no code. Say first, in Python, which function "
        f"builds it: regzoo.models.NETWORKS['{name}'] = function; or install the package that has it among its entry "
        f"points '{GROUP}'."
    )
