"""Measures templates of real brains: what `regzoo template` promises, and ANTs beside it.

`KERAS_BACKEND=tensorflow python tests/tools/templates.py BRAIN_MR OUT [WHAT...] [--pairs N]`, BRAIN_MR being the data
set's folder (images, labels, splits-clean.json) and OUT where templates go (those that are there are used again),
prints of the brains of the first N (seven) test pairs

- `mean`: the rounds of a template begun from their mean; its mean displacement when all brains are registered to it
  once more, and that of the maps that came of it;
- `dice`: Dice, both ways, of these pairs and of as many others, so that each brain is once fixed and once moving:
  through the template, from one brain to it and on to the other, and registered directly;
- `starts`: the rounds of a template begun from one of the brains, and how far it is from the other: by registering one
  to the other, and by the maps to each brain, over the anatomy;
- `symmetric`: the rounds with `--symmetric`, and how far its mirror image and that of the other are displaced to them;
- `picture`: nothing, and draws the plain mean of the brains above their template (`picture.png`), as README shows it;
- `ants`: of five brains, seconds and sharpness by regzoo and by ANTs (`build_template`, SyN, three iterations, its own
  sharpening or none), and Dice of their ten pairs through each template.

Without WHAT, all of it. Sharpness is the mean gradient over the anatomy, per mm, of intensities scaled between the 1st
and 99th percentile.
"""

import argparse
import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import regzoo
from regzoo.registration.averages import anatomy
from regzoo.registration.report.picture import page_axes, scaled, show
from regzoo.registration.report.planes import planes
from regzoo.registration.scores import Side, carried_back
from regzoo.registration.template_files import Template
from regzoo.world import metrics
from regzoo.world.images import Grid, Image
from regzoo.world.labels import shared_labels
from regzoo.world.transforms import Transform

MODEL, FEW = "brain-mr-dvf", 5
KINDS = ("mean", "dice", "starts", "symmetric", "picture", "ants")


def main() -> None:
    """Does what the command line says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("what", nargs="*", default=KINDS)
    parser.add_argument("--pairs", type=int, default=7)
    asked = parser.parse_args()
    study = Brains(asked.data, asked.out, asked.pairs)
    for name in asked.what:
        tell(f"## {name}")
        getattr(study, name)()


def tell(text: str) -> None:
    """Prints a line at once."""
    print(text, flush=True)


class Brains:
    """The brains, and the templates that were made of them.

    Args:
        data: Folder of the data set.
        out: Where templates are.
        count: Of test pairs.
    """

    def __init__(self, data: Path, out: Path, count: int) -> None:
        self.data, self.out = data, out
        out.mkdir(parents=True, exist_ok=True)
        pairs = json.loads((data / "splits-clean.json").read_text())["test_pairs"][:count]
        self.names = [name for pair in pairs for name in pair]
        self.model = regzoo.load(MODEL)

    def path(self, name: str, kind: str = "images") -> Path:
        """Returns the file of an image or a label map."""
        return self.data / kind / f"{name}.nii.gz"

    def side(self, name: str) -> Side:
        """Reads a brain and its labels."""
        return Side(Image.read(self.path(name)), Image.read(self.path(name, "labels"), labels=True))

    def template(self, folder: str, names: list[str], **options: object) -> Template:
        """Returns a template, which is made unless it is there, and tells of its rounds."""
        place, clock = self.out / folder, self.out / f"{folder}.seconds"
        if not (place / "result.json").exists():
            begun = time.perf_counter()
            regzoo.template([self.path(name) for name in names], place, self.model, **options)
            clock.write_text(f"{time.perf_counter() - begun:.1f}")
        facts = json.loads((place / "result.json").read_text())
        made = Template(Image.read(place / "template.nii.gz"), place, facts)
        tell(f"{folder}: {made!r}, {clock.read_text()} s, sharpness {sharpness(made.image):.4f} per mm")
        for number, each in enumerate(facts["rounds"], 1):
            shift, change = each["displacement"], each["change"]
            more = "" if change is None else f"; change {change:.3f} voxels"
            tell(f"  round {number}: {shift['voxels']:.4f} voxels in the mean, {shift['max_mm']:.2f} mm at most{more}")
        return made

    def beyond_the_start(self, fixed: Image, moving: Path | Image) -> np.ndarray:
        """Registers; returns the displacement beyond the start in voxels, over the fixed image's anatomy, (N, 3)."""
        found = regzoo.register(fixed, moving, self.model, error=False)
        apart = found.transform.displacement(fixed.grid) - found.start.displacement(fixed.grid)
        return apart[anatomy(fixed)] / fixed.spacing.mean()

    def mean(self) -> None:
        """A template, and all brains registered to it once more."""
        made = self.template("mean", self.names)
        total = sum(self.beyond_the_start(made.image, self.path(name)) for name in made.names)
        told("registered once more, mean displacement", np.linalg.norm(total / len(made.names), axis=-1))
        grid, inside = made.image.grid, anatomy(made.image)
        beyond = [made.transform(name).displacement(grid)[inside] - self.shift(name, grid) for name in made.names]
        told(
            "mean of the maps, its displacement", np.linalg.norm(np.mean(beyond, axis=0), axis=-1) / grid.spacing.mean()
        )

    def shift(self, name: str, grid: Grid) -> np.ndarray:
        """Returns how far a brain's centre lies from that of a grid: where it was laid at the start."""
        return Image.read(self.path(name)).grid.centre - grid.centre

    def dice(self) -> None:
        """Dice through the template, and directly."""
        made, rows = self.template("mean", self.names), []
        for fixed, moving in zip([*self.names[1:], self.names[0]], self.names, strict=True):
            sides = self.side(fixed), self.side(moving)
            through = dice(made.transform(fixed).inverse().then(made.transform(moving)), *sides)
            rows.append(
                (
                    through,
                    dice(regzoo.register(*(side.image for side in sides), self.model, error=False).transform, *sides),
                )
            )
            tell(f"  {moving} on {fixed}: through {rows[-1][0]:.4f}, directly {rows[-1][1]:.4f}")
        for title, some in {"test": rows[::2], "all": rows}.items():
            means = np.mean(some, axis=0)
            tell(f"Dice of {len(some)} pairs ({title}): through {means[0]:.4f}, directly {means[1]:.4f}")

    def starts(self) -> None:
        """A template begun from one brain, beside that begun from the mean."""
        first = self.template("mean", self.names)
        other = self.template("one", self.names, start=self.path(self.names[3]))
        told("one registered to the other", np.linalg.norm(self.beyond_the_start(first.image, other.image), axis=-1))
        places = first.image.grid.coordinates()[anatomy(first.image)]
        there = places + other.image.grid.centre - first.image.grid.centre  # the images lie centre on centre
        apart = [other.transform(n).apply_points(there) - first.transform(n).apply_points(places) for n in first.names]
        lengths = np.linalg.norm(apart, axis=-1) / first.image.spacing.mean()
        told("between the maps to each brain", lengths)
        inside = anatomy(first.image)
        tell(
            f"correlation {np.corrcoef(first.image.array[inside], other.image.array[inside])[0, 1]:.4f}, voxel by voxel"
        )

    def symmetric(self) -> None:
        """A symmetric template beside the other."""
        for folder, options in {"mean": {}, "symmetric": {"symmetric": True}}.items():
            image = self.template(folder, self.names, **options).image
            mirror = Image(image.array[::-1].copy(), image.affine)  # the data's first axis runs to the right
            told("  its mirror image on it", np.linalg.norm(self.beyond_the_start(image, mirror), axis=-1))
            apart = np.abs(image.array - mirror.array)[anatomy(image)]
            tell(f"  left and right differ by {apart.mean():.4g} in the mean, {apart.max():.4g} at most")

    def picture(self) -> None:
        """The plain mean and the template, three planes each."""
        image = self.template("mean", self.names).image
        brains = [Image.read(self.path(name)).array for name in self.names]  # of one grid, and so centre on centre
        limits = [np.percentile(each, (1, 99)) for each in brains]
        plain = np.mean([(each - low) / (high - low) for each, (low, high) in zip(brains, limits, strict=True)], axis=0)
        views = planes(image.grid, [int(np.median(index)) for index in np.nonzero(anatomy(image))])
        figure, axes = page_axes([view.extent(image.grid) for view in views], 0, ["plain mean", "template"])
        for column, view in enumerate(views):
            axes[0, column].set_title(f"{view.name}\n{view.left} left, {view.right} right", fontsize=10)
            for row, array in enumerate((plain, image.array)):
                show(axes[row, column], scaled(view.cut(array), 0, 1), view, cmap="gray", vmin=0, vmax=1)
        figure.savefig(self.out / "picture.png", dpi=70, bbox_inches="tight")

    def ants(self) -> None:
        """Five brains by regzoo and by ANTs."""
        names, brains = self.names[:FEW], {name: self.side(name) for name in self.names[:FEW]}
        made = self.template("five", names)
        pairs = [*itertools.combinations(names, 2)]
        ours = [dice(made.transform(a).inverse().then(made.transform(b)), brains[a], brains[b]) for a, b in pairs]
        tell(f"regzoo: Dice of {len(pairs)} pairs through it {np.mean(ours):.4f}")
        for title, blending in {"sharpened": 0.75, "not sharpened": None}.items():
            begun = time.perf_counter()
            image, images = ants_template([self.path(name) for name in names], blending)
            seconds = time.perf_counter() - begun
            array = Image(image.numpy(), brains[names[0]].image.affine)
            tell(f"ANTs, {title}: {seconds:.1f} s, sharpness {sharpness(array):.4f} per mm")
        theirs = ants_dice(image, dict(zip(names, images, strict=True)), brains, self.path)
        tell(f"ANTs: Dice of {len(pairs)} pairs through the last one {theirs:.4f}")


def told(what: str, lengths: np.ndarray) -> None:
    """Tells of lengths in voxels."""
    tell(
        f"{what}: {lengths.mean():.4f} voxels, 95 % below {np.percentile(lengths, 95):.4f}, at most {lengths.max():.3f}"
    )


def dice(transform: Transform, fixed: Side, moving: Side) -> float:
    """Returns Dice of all labels that both have, mean of both ways."""
    shared = shared_labels(fixed.labels, moving.labels)
    there = transform.apply_labels(moving.labels, fixed.image.grid)
    back, _ = carried_back(transform, fixed.labels, moving.labels)
    ways = ((fixed.labels, there), (moving.labels, back))
    return float(np.mean([overlap(*way, shared) for way in ways]))


def overlap(truth: Image, moved: Image, shared: list[int]) -> float:
    """Returns the mean Dice of labels."""
    return float(np.mean([*metrics.dice(truth.array, moved.array, shared).values()]))


def sharpness(image: Image) -> float:
    """Returns the mean gradient over the anatomy, per mm, of intensities between the 1st and 99th percentile."""
    low, high = np.percentile(image.array, (1, 99))
    slopes = np.gradient((image.array - low) / (high - low), *image.spacing)
    return float(np.linalg.norm(slopes, axis=0)[anatomy(image)].mean())


def ants_template(files: list[Path], blending: float | None) -> tuple:
    """Returns ANTs' template of images scaled between their 1st and 99th percentile, and these images."""
    import ants

    images = [ants.image_read(str(file)) for file in files]
    scaled = [
        (each - float(np.percentile(each.numpy(), 1))) / float(np.ptp(np.percentile(each.numpy(), (1, 99))))
        for each in images
    ]
    return ants.build_template(image_list=scaled, blending_weight=blending), scaled


def ants_dice(template: object, images: dict, brains: dict[str, Side], path: Callable) -> float:
    """Registers each image to a template by ANTs; returns Dice of all pairs through it, the mean of both ways."""
    import ants

    found = {name: ants.registration(template, image, type_of_transform="SyN") for name, image in images.items()}
    scores = []
    for fixed, moving in itertools.permutations(images, 2):
        back, on = found[fixed]["invtransforms"], found[moving]["fwdtransforms"]
        inverted = [each.endswith(".mat") for each in back] + [False] * len(on)
        labels = ants.image_read(str(path(moving, "labels")))
        settings = {"interpolator": "nearestNeighbor", "whichtoinvert": inverted}
        moved = ants.apply_transforms(images[fixed], labels, [*back, *on], **settings).numpy().round().astype("int16")
        truth = brains[fixed].labels
        shared = shared_labels(truth, brains[moving].labels)
        scores.append(overlap(truth, Image(moved, truth.affine), shared))
    return float(np.mean(scores))


if __name__ == "__main__":
    main()
