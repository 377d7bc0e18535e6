"""Losses: two images, two label maps, one field or two in; one value a batch item out, lower is better.

In the examples, `ops` is `keras.ops`, and other names are those of this room.
"""

from regzoo import backend  # noqa: F401 - first, since it keeps start-up chatter away
from regzoo.losses.deformation import bending, elastic, folding, gradient
from regzoo.losses.image import lncc, ncc, ssd
from regzoo.losses.keras_loss import Loss
from regzoo.losses.known import distance
from regzoo.losses.label import centroid, cross_entropy, dice, jaccard, label_ssd
from regzoo.losses.multimodal import mi, mind, nmi
from regzoo.losses.objective import named, weighted_terms

__all__ = [
    "Loss",
    "bending",
    "centroid",
    "cross_entropy",
    "dice",
    "distance",
    "elastic",
    "folding",
    "gradient",
    "jaccard",
    "label_ssd",
    "lncc",
    "mi",
    "mind",
    "named",
    "ncc",
    "nmi",
    "ssd",
    "weighted_terms",
]
