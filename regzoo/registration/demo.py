"""The demonstration: a bundled model registers a real pair, and figures before and after are printed."""

from collections.abc import Iterator
from pathlib import Path

from regzoo.errors import MissingError
from regzoo.io.yaml_json import parse_json, read_text
from regzoo.registration.register import register
from regzoo.registration.report.words import sentences

MODEL, MODEL_OF_DATA = "brain-mr-dvf", "hippocampus-mr-dvf"
IMAGES = Path(__file__).resolve().parent / "demo_images"
"""Two brains that may be given to others, each under its own notice."""


def run(output: Path, data: Path | None = None, command: str | None = None) -> Iterator[str]:
    """Registers a pair and writes the result.

    Args:
        output: Folder for images, transform, picture and figures.
        data: Folder that holds `hippocampus-mr` with its `splits.json`: its first test pair is registered. None: one
            person's brain (Colin27, moving) to an average of 152 (MNI152, fixed), which come with regzoo.
        command: The command line as typed, for result.json.

    Yields:
        Lines to print.

    Raises:
        MissingError: If `data` has no such data set.
    """
    if data is None:
        yield "Real pair: the brain of one person, Colin27 (moving), to the average of 152, MNI152 (fixed), at 2 mm."
        yield f"They come with regzoo under the notices in {IMAGES / 'NOTICE.md'}."
        result = register(IMAGES / "mni152.nii.gz", IMAGES / "colin27.nii.gz", MODEL)
    else:
        fixed, moving, fixed_labels, moving_labels = real_files(data)
        yield f"Real pair: {moving.name} (moving) to {fixed.name} (fixed), the first test pair of hippocampus-mr."
        result = register(fixed, moving, MODEL_OF_DATA, fixed_labels=fixed_labels, moving_labels=moving_labels)
    before, after, facts = result.facts["scores"]["before"], result.facts["scores"]["after"], result.facts
    yield f"correlation of the images: {before['ncc']:.3f} before, {after['ncc']:.3f} after"
    if "mean_dice" in after:
        yield f"Dice of the labels: {before['mean_dice']:.3f} before, {after['mean_dice']:.3f} after, the mean of"
        yield f"    by the map {after['mean_dice_forward']:.3f} and by its inverse {after['mean_dice_inverse']:.3f}"
    seconds = facts["seconds"]["network"]
    yield f"folds: {100 * facts['jacobian']['folds']:.4f} % of voxels; network {seconds:.2f} s, with its compilation"
    yield from (f"warning: {text}" for text in facts["warnings"])
    yield from sentences(facts)
    result.facts["command"] = command
    result.save(output)
    yield f"To look at: {output / 'report.html'}, in a browser; everything else is beside it."


def real_files(data: Path) -> list[Path]:
    """Returns the files of the first hippocampus test pair: fixed, moving, fixed labels, moving labels."""
    folder = data / "hippocampus-mr"
    if not (folder / "splits.json").exists():
        raise MissingError(f"{folder} has no splits.json. Leave --data out for the pair that comes with regzoo.")
    moving, fixed = parse_json(read_text(folder / "splits.json", 2**24), "splits.json")["test_pairs"][0]
    return [folder / kind / f"{name}.nii.gz" for kind in ("images", "labels") for name in (fixed, moving)]
