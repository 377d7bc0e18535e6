"""A network that is shown what is like what in each image, and not how bright it is."""

from collections.abc import Mapping

from keras import ops

from regzoo import backend
from regzoo.backend import Tensor
from regzoo.models.base import RegistrationModel
from regzoo.ops.descriptors import self_similarity


class Described(RegistrationModel):
    """Shows a network MIND descriptors of both images, which hardly change where bright becomes dark.

    Args:
        network: Model with a field, of images with `regzoo.schema.networks.DESCRIPTORS` channels each.

    Source: Heinrich et al., Towards realtime multimodal fusion for image-guided interventions using self-similarities,
    2013.
    """

    def __init__(self, network: RegistrationModel, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.network, self.invertible = network, network.invertible
        self.build()

    def field(self, fixed: Tensor, moving: Tensor) -> dict:
        """Returns the network's field."""
        described = backend.compiled(patch_descriptors)
        return self.network.field(described(fixed), described(moving))

    def inverse(self, prediction: Mapping[str, Tensor]) -> dict:
        """Returns the network's inverse."""
        return self.network.inverse(prediction)


def patch_descriptors(image: Tensor) -> Tensor:
    """Returns descriptors of patches of three voxels, one voxel away, shape (B, *S, channels); 0 where it is flat."""
    # An earlier network learns from where the later ones end, not from what they saw.
    found, content = self_similarity(ops.stop_gradient(image), radius=1, dilation=1, floor=1e-2)
    return ops.stop_gradient((found * content[..., None, :])[..., 0])
