"""Networks of one's own: any Keras model that maps two images to a ddf, and the functions that build them."""

from collections.abc import Callable
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
        self.network = network
        self.dims = len(network.inputs[0].shape) - 2
        self.build()

    def field(self, fixed: Tensor, moving: Tensor) -> dict:
        """Returns `ddf`."""
        ddf = self.network([fixed, moving])
        if tuple(getattr(ddf, "shape", ()))[1:] != (*fixed.shape[1:-1], len(fixed.shape) - 2):
            expected = f"a tensor (B, {', '.join(map(str, fixed.shape[1:-1]))}, {len(fixed.shape) - 2}), the ddf"
            raise invalid("output of the network", expected, getattr(ddf, "shape", type(ddf).__name__))
        return {"ddf": ddf}


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
