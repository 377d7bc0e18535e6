"""Which models are made for which images, by their cards."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from regzoo import hub
from regzoo.errors import invalid
from regzoo.registration.sides import read_images
from regzoo.schema.card import Card
from regzoo.schema.inputs import InputConfig
from regzoo.world.images import Image, Source

_BELOW_ZERO = -100.0
_TWICE = 2.0
_STRIPPED = "skull-stripped"  # so a card says it
_BRAIN = 2.0
"""Litres that are brighter than a tenth of an image's range: 1.09 to 1.92 of 175 brains without skull, 2.06 to 2.55 of
ten heads with it."""
_HEAD = 6.0
"""Litres, the same way, from which on it is no head alone either."""
_FEWEST = 3.5
"""Slices of a stack of thick ones, of which there may be few: a grid has room for the most."""


def candidates(
    fixed: Source,
    moving: Source,
    cards: Iterable[Card] | None = None,
    *,
    spacing: Sequence[float] | None = None,
) -> list[tuple[Card, list[str]]]:
    """Returns the models, those that fit these images best first, and what speaks against each.

    Of models of which as little is amiss, one that finds its organ in the images itself comes first, for it refuses
    images without; one for any anatomy comes late, and one that knows a single subject last.

    A card says which modality, spacing and size a model was made for, and images do not tell which organ they show: the
    choice among those that fit is the user's.

    Args:
        fixed: File, `Image`, nibabel image or array.
        moving: The same.
        cards: Which models; None: all that are bundled or in the cache. Those that register nothing are left out.
        spacing: Millimetres along the axes of images that are arrays; see `register`.

    Returns:
        Rows of a card and what speaks against the model, one sentence each.

    Raises:
        RegzooError: If an image cannot be used.

    Example:
        >>> import numpy as np
        >>> import regzoo
        >>> scan = np.linspace(-1000, 200, 90 * 80 * 90).reshape(90, 80, 90)  # in Hounsfield units
        >>> fitting = [card.name for card, misfits in regzoo.candidates(scan, scan, spacing=(3, 3, 3)) if not misfits]
        >>> "lung-ct-ddf" in fitting, "brain-mr-dvf" in fitting
        (True, False)
    """
    cards = [entry.card for entry in hub.models()] if cards is None else cards
    if isinstance(cards, str) or not isinstance(cards, Iterable) or not all(isinstance(c, Card) for c in cards):
        raise invalid("cards", "cards of models", repr(cards))
    images = read_images(fixed, moving, spacing)
    found = [(card, misfits(card, *images, heads=card.input.strip is not None)) for card in cards if card.registers]
    return sorted(found, key=lambda each: (len(each[1]), *_rank(each[0])))


def _rank(card: Card) -> tuple[bool, bool, bool]:
    single = bool(card.data) and sum(source.subjects or 0 for source in card.data) == 1
    return single, card.anatomy == "any", card.input.around != "lungs"


def misfits(card: Card, fixed: Image, moving: Image, heads: bool = False) -> list[str]:
    """Says where an image is not what a model was made for.

    Args:
        card: The model's.
        fixed: Fixed image.
        moving: Moving image.
        heads: Whether images may be whole heads, of which `register` shows the model the brain alone.

    Returns:
        One sentence for each thing that is amiss, as `fixed: size ...`: intensities, spacing, size or slices.
    """
    found = []
    kind = card.modality.upper().split(" ")[0]
    trained = np.array(card.input.spacing)
    if card.input.around == "extent":
        sizes = [np.ptp(image.grid.box(), axis=0) for image in (fixed, moving)]
        if np.any(sizes[1] > _TWICE * sizes[0]) or np.any(sizes[0] > _TWICE * sizes[1]):
            found.append(
                f"moving: size {_size(sizes[1].round())}, the fixed image {_size(sizes[0].round())}, while {card.name} "
                "was made for two images of the same part of the body."
            )
    for name, image in (("fixed", fixed), ("moving", moving)):
        if kind in ("CT", "MR") and kind != _kind(image):
            why = f"intensities from {image.array.min():g} look like {_kind(image)}"
            found.append(f"{name}: {why}, while {card.name} was made for {card.modality}.")
        bright = _bright_litres(image) if _STRIPPED in card.summary.lower() or card.input.strip else 0.0
        is_head = heads and _BRAIN < bright <= _HEAD
        if bright > _BRAIN and not is_head:
            found.append(
                f"{name}: skull or neck are still there ({bright:.1f} l are bright, of a brain at most {_BRAIN:g} l), "
                f"while {card.name} was made for {_STRIPPED} ones."
            )
        if card.input.around == "extent":  # it sees each image whole, whatever its size
            continue
        if len(card.input.shape) == 2 and image.shape[2] > 1 and image.spacing[2] < 2 * image.spacing[:2].max():
            found.append(
                f"{name}: slices {image.spacing[2]:.4g} mm apart are a volume, while {card.name} registers each alone."
            )
        spacing, extent = _geometry(image, card.input)
        if np.any(spacing > 2 * trained) or np.any(spacing < trained / 4):
            found.append(
                f"{name}: spacing {_size(image.spacing)} is far from {_size(trained)}, which {card.name} was made for."
            )
        field = trained * card.input.shape
        if card.input.around == "lungs" or is_head:  # looked for, in a wide image too
            continue
        if np.any(extent > 1.5 * field):
            found.append(
                f"{name}: size {_size(extent.round())}, while {card.name} sees {_size(field.round())} "
                "around its centre; beyond, the field is only continued."
            )
        elif np.any(extent < np.where(trained > 2 * trained.min(), _FEWEST * trained, 0.4 * field)):
            found.append(
                f"{name}: size {_size(extent.round())} is far less than the {_size(field.round())} "
                f"that {card.name} was made for."
            )
    return found


def _bright_litres(image: Image) -> float:
    low, high = np.percentile(image.array, (1, 99))
    share = float((image.array > low + 0.1 * (high - low)).mean())
    return share * float(np.prod(image.spacing * image.shape)) / 1e6


def _kind(image: Image) -> str:
    """Guesses the modality: only CT in HU has air well below 0."""
    return "CT" if image.array.min() < _BELOW_ZERO else "MR"


def _geometry(image: Image, inputs: InputConfig) -> tuple[np.ndarray, np.ndarray]:
    """Returns an image's spacing and extent in mm along the axes of a network's grid, near enough."""
    if len(inputs.shape) == 2:
        return image.spacing[:2], image.spacing[:2] * image.shape[:2]
    order = [max("RAS".find(axis), "LPI".find(axis)) for axis in inputs.axes]
    return np.abs(image.affine[:3, :3]).sum(axis=1)[order], np.ptp(image.grid.box(), axis=0)[order]


def _size(values: np.ndarray) -> str:
    return " x ".join(f"{value:.4g}" for value in values) + " mm"
