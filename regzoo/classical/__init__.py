"""Registration of one pair by optimisation, without a network."""

from regzoo import backend  # noqa: F401 - first, since it keeps start-up chatter away
from regzoo.classical.guidance import IMAGE_LOSSES, Guidance
from regzoo.classical.methods import METHODS, coarse_affine, optimise, refine

__all__ = ["IMAGE_LOSSES", "METHODS", "Guidance", "coarse_affine", "optimise", "refine"]
