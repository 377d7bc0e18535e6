"""What a template is, and how it is written to a folder."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from regzoo.errors import MissingError, RegzooError
from regzoo.io.files import LISTING, atomic_folder, digests
from regzoo.io.yaml_json import parse_json, read_text
from regzoo.registration.averages import MeanImage, anatomy, laid
from regzoo.registration.report.average import picture
from regzoo.registration.results import clock, plain
from regzoo.registration.rounds import Round, Study, each, read
from regzoo.world.images import Image
from regzoo.world.transforms import Transform

UNFINISHED = "unfinished.nii.gz"
"""The average so far, in the folder, during the work."""
_IMAGE, _PICTURE = "template.nii.gz", "template.png"
_TRANSFORM, _MOVED = "_to_template.h5", "_moved.nii.gz"
_LISTING_LIMIT = 2**24
_SHOWN = 3  # images beside the template in the picture


@dataclass(frozen=True)
class Made:
    """What became of the rounds.

    Args:
        before: The mean of the images as they lay at the start.
        last: The last round.
        rounds: Facts of each round.
        settled: Whether the last one changed little.
    """

    before: MeanImage
    last: Round
    rounds: tuple[dict, ...]
    settled: bool


@dataclass(frozen=True)
class Template:
    """An average of images, in a folder with the map from it to each of them.

    Args:
        image: The average, float32.
        folder: Where its files are.
        facts: What `result.json` says, without the files; see `regzoo.schema.result.TemplateResult`.
    """

    image: Image
    folder: Path
    facts: dict

    def __repr__(self) -> str:
        rounds, count = self.facts["rounds"], len(self.facts["subjects"])
        change = rounds[-1]["change"]
        told = f"of {count} images: {len(rounds)} rounds" + ("" if change is None else f", change {change:.3f} voxels")
        return f"<Template {self.image.grid.text()}, {told}>"

    @property
    def names(self) -> list[str]:
        """The names of the images."""
        return [*self.facts["subjects"]]

    def transform(self, name: str) -> Transform:
        """Returns the transform from the template's points to those of an image, by its name.

        Raises:
            MissingError: If there is no such image.
        """
        if name not in self.facts["subjects"]:
            raise MissingError(f"The template has no image {name}. It has: {', '.join(self.names)}.")
        return Transform.load(self.folder / f"{name}{_TRANSFORM}")

    def files(self) -> list[str]:
        """Returns the names of the files that were written."""
        return [*self.facts["files"], LISTING]


def write(study: Study, made: Made, facts: dict, folder: Path, moved: bool) -> Template:
    """Writes a template; all files appear once all of them are written, `result.json` last.

    Args:
        study: What it was made of.
        made: What came of it.
        facts: What is known of it beside that.
        folder: Where to.
        moved: Whether images are written as they were averaged.
    """
    image, inside, subjects, shown = made.last.image, anatomy(made.last.image), {}, {}
    with atomic_folder(folder, LISTING, _of_before(folder)) as path:
        with clock(facts["seconds"], "warp"):
            for subject in each(study):
                own = study.kept.of(subject.name)
                transform = own.then(subject.away)
                values, seen = laid(read(subject), transform, study.grid, study.matched)
                transform.within(study.grid).save(path / f"{subject.name}{_TRANSFORM}")
                if moved:
                    Image(values, study.grid.affine).save(path / f"{subject.name}{_MOVED}")
                if len(shown) < _SHOWN:
                    shown[subject.name] = Image(values, study.grid.affine)
                subjects[subject.name] = _told(own, values, image, seen & inside, inside)
        facts |= {"rounds": made.rounds, "settled": made.settled, "subjects": subjects}
        facts |= {"intensities": "matched" if study.matched else "kept", "warnings": _warnings(made, facts["options"])}
        image.save(path / _IMAGE)
        with clock(facts["seconds"], "picture"):
            picture(made, shown, facts, path / _PICTURE)
        facts = plain(facts)
        facts["files"] = digests(path)
        (path / LISTING).write_text(json.dumps(facts, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return Template(image, folder, facts)


def _told(own: Transform, values: np.ndarray, image: Image, seen: np.ndarray, inside: np.ndarray) -> dict:
    """Returns how far the template is displaced to an image, in mm, and how alike both are, in the anatomy."""
    lengths = np.linalg.norm(own.displacement(image.grid)[inside], axis=-1)
    alike = float(np.corrcoef(values[seen], image.array[seen])[0, 1])
    return {"displacement": {"mean": float(lengths.mean()), "max": float(lengths.max())}, "correlation": alike}


def _warnings(made: Made, options: dict) -> list[str]:
    doubts = list(made.last.doubts)
    if not made.settled:
        told = f"After {len(made.rounds)} rounds the template still changes by more than {options['tolerance']} voxels"
        doubts.append(f"{told}; --start OUT/template.nii.gz goes on from it.")
    shift = made.rounds[-1]["displacement"]["voxels"]
    if made.settled and shift > options["tolerance"]:
        doubts.append(
            f"Registered to the template, the images lie off by {shift:.2f} voxels in the mean, alike in each round: "
            "so far errs the registration to an average. It is taken out of their maps, whose mean moves nothing."
        )
    return doubts


def _of_before(folder: Path) -> list[str]:
    """Returns the files that an earlier template may have left in a folder."""
    try:
        listed = parse_json(read_text(folder / LISTING, _LISTING_LIMIT), LISTING).get("files", {})
        ours = [name for name in listed if name.endswith((_TRANSFORM, _MOVED)) and Path(name).name == name]
    except (RegzooError, OSError, AttributeError, TypeError):
        ours = []
    return [UNFINISHED, *ours]
