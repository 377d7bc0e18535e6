"""Where training data is and how it is drawn, as data; the dict of its kinds, which has one entry for each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints, field_validator, model_validator

from regzoo.schema.augmentation import Augmentation, LabelValue
from regzoo.schema.card import Line
from regzoo.schema.inputs import Spacing
from regzoo.schema.losses import active
from regzoo.schema.priors import BreathingPrior, MapsPrior, ShapesPrior
from regzoo.schema.registry import Entries, Entry
from regzoo.schema.strict import Strict

if TYPE_CHECKING:
    from regzoo.schema.recipe import Recipe

PathText = Annotated[Line, StringConstraints(min_length=1)]
Folders = Annotated[tuple[PathText, ...], Field(min_length=1, max_length=1024)]


class DataConfig(Strict):
    """What training data are. A subclass has a `kind: Literal[...]` and its settings, and checks the recipe."""

    knows_field: ClassVar[bool] = False
    """Whether the field between the images is known, as that of simulated pairs is."""
    kind: str
    root: PathText = "."

    def check(self, recipe: Recipe) -> None:
        """Checks that the rest of a recipe suits these data.

        Raises:
            ValueError: If it does not; the message begins with the recipe's key.
        """


class _FileData(DataConfig):
    """Image files. A label is a value of an integer map, or a channel, from 1, of a 4-D file."""

    label_values: Annotated[tuple[LabelValue, ...], Field(min_length=1, max_length=1024)] | None = None
    """Labels to train on and to score; null: all that the files have."""
    label_sampling: Literal["one", "all"] | int = "all"
    """Which of the labels that both images of a training pair have: `one`, or a number of them up to 64, at random in
    each draw, or `all`."""

    @field_validator("label_sampling", mode="before")
    @classmethod
    def _how_many(cls, value: object) -> object:
        if value in ("one", "all") or (type(value) is int and 2 <= value <= 64):
            return value
        raise ValueError(f"expected 'one', 'all' or a number from 2 to 64, received {value!r:.40}")


class _Single(_FileData):
    """Single images, which are paired by drawing."""

    in_groups: ClassVar[bool] = False
    """Whether every image has a group."""
    images: PathText = "images"
    labels: PathText | None = None
    splits: PathText = "splits.json"
    """JSON: lists `train`, `valid` and, if given, `test` of names, and `test_pairs` of [moving, fixed] names; an image
    is `images/NAME.nii.gz`, its label map `labels/NAME.nii.gz`. Or CSV: `image,labels,split`, relative to the file."""
    validation_pairs: Annotated[int, Field(ge=1, le=10_000)] = 20
    """How many fixed pairs of validation images the seed draws."""

    def check(self, recipe: Recipe) -> None:
        """Checks that there are labels where a loss compares them."""
        _check_labels(self.labels, recipe)


class _Grouping(_FileData):
    """How pairs are drawn from images in groups, such as a patient's visits; an image's place is its time."""

    intra_group_prob: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of the pairs whose two images are of one group; those of the others are of two groups."""
    intra_group_option: Literal["forward", "backward", "unconstrained"] = "unconstrained"
    """Within a group, `forward`: the moving image comes before the fixed one; `backward`: after it."""
    sample_image_in_group: bool = True
    """Whether all groups are drawn equally often, or all pairs of images, so that large groups count for more."""


class UnpairedData(_Single):
    """Single images from a folder; training pairs any two of them."""

    kind: Literal["unpaired"]


class GroupedData(_Single, _Grouping):
    """Single images in groups, in the order of the splits file: the CSV's column `group`, or GROUP/IMAGE as name."""

    in_groups: ClassVar[bool] = True
    kind: Literal["grouped"]


class PairedData(_FileData):
    """Given pairs, one CSV file per split (see `regzoo.data.tables`)."""

    kind: Literal["pairs"]
    train: PathText
    valid: PathText
    test: PathText | None = None


class FolderData(_Grouping):
    """DeepReg's folders, of NIfTI files or with one HDF5 file in the place of each (see `regzoo.data.folders`)."""

    kind: Literal["folders"]
    layout: Literal["paired", "unpaired", "grouped"]
    train: Folders = (".",)
    """Folders, relative to `root`, each with `images` (paired: `moving_images` and `fixed_images`), labels likewise."""
    valid: Folders = (".",)
    test: Annotated[tuple[PathText, ...], Field(max_length=64)] = (".",)
    """Empty: there are no test images."""
    images: PathText = "images"
    labels: PathText | None = "labels"
    """Null, or a name that no folder has: there are no labels."""
    splits: PathText | None = None
    """JSON: lists `train`, `valid` and, if given, `test` of the names (grouped: of groups) to take of the folders."""
    spacing: tuple[Spacing, Spacing, Spacing] | None = None
    """Millimetres along i, j, k in HDF5 files, which hold no geometry; null: 1 mm. Axes are taken to run R, A, S."""
    validation_pairs: Annotated[int, Field(ge=1, le=10_000)] = 20
    """How many different pairs of validation images, and of test images, the seed draws, unless they are paired."""

    def check(self, recipe: Recipe) -> None:
        """Checks that there are labels where a loss compares them."""
        _check_labels(self.labels, recipe)

    @model_validator(mode="after")
    def _every_key_counts(self) -> FolderData:
        unused = [] if self.layout == "grouped" else list(_Grouping.__annotations__)
        for name in unused + ["validation_pairs"] * (self.layout == "paired"):
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name}: the layout '{self.layout}' has no use for it")
        return self


def _check_labels(folder: str | None, recipe: Recipe) -> None:
    if folder is None and active(recipe.loss.label):
        raise ValueError("data.labels: expected a folder, since loss.label has a weight above 0")


class TestPair(Strict):
    """The files of a pair to score on, relative to `root`."""

    fixed: PathText
    moving: PathText
    fixed_points: PathText | None = None
    moving_points: PathText | None = None


class BreathingData(DataConfig):
    """Pairs that are simulated from single chest CTs; the field between them is known.

    See `regzoo.simulation.breathing`.
    """

    knows_field: ClassVar[bool] = True
    kind: Literal["breathing"]
    train: Annotated[tuple[PathText, ...], Field(min_length=1, max_length=1024)]
    """Chest CTs in HU, relative to `root`."""
    valid: Annotated[tuple[PathText, ...], Field(min_length=1, max_length=64)]
    test: Annotated[tuple[TestPair, ...], Field(max_length=1024)] = ()
    """Real pairs, never simulated ones."""
    mask_suffix: PathText | None = None
    """What names of lung masks add before the ending, as `_lungmask`; null: lungs are found by `regzoo.world.lungs`."""
    motions: PathText | None = None
    """Folder, relative to `root`, of measured breathing: CSV files of keypoints as Learn2Reg's LungCT has them."""
    prior: BreathingPrior = BreathingPrior()
    validation_pairs: Annotated[int, Field(ge=1, le=1000)] = 12

    def check(self, recipe: Recipe) -> None:
        """Checks that the network looks at lungs in HU, and that nothing but the prior changes the pairs."""
        wanted = ("lungs", "window")
        if recipe.input and (recipe.input.around, recipe.input.intensity.name) != wanted:
            raise ValueError(
                "input: expected around: lungs and an intensity window in HU, since data.kind is breathing"
            )
        if recipe.augmentation != Augmentation():
            raise ValueError("augmentation: expected none, since data.prior says how simulated pairs vary")


class ShapesData(DataConfig):
    """Pairs of random shapes in random contrasts (see `regzoo.simulation.shapes`); no image is read for training.

    Both images show one map of shapes, each in its own contrast; what `augmentation` says moves it in the fixed one.
    """

    knows_field: ClassVar[bool] = True
    kind: Literal["shapes"]
    test: PathText | None = None
    """CSV of real pairs to score on, relative to `root`."""
    prior: ShapesPrior = ShapesPrior()
    label_sampling: Annotated[int, Field(ge=1, le=64)] = 8
    """How many of the shapes are labels in each draw."""
    validation_pairs: Annotated[int, Field(ge=1, le=1000)] = 12

    def check(self, recipe: Recipe) -> None:
        """Checks that something moves the shapes."""
        if not recipe.augmentation.moves_apart:
            wanted = "affine, rotation, shift or field"
            raise ValueError(f"augmentation: expected {wanted}, since only they move shapes of data.kind shapes")
        if recipe.augmentation.together:
            raise ValueError("augmentation.together: expected null, since data.kind shapes moves the fixed image alone")


LabelGroups = Annotated[tuple[Annotated[tuple[LabelValue, ...], Field(min_length=1)], ...], Field(max_length=64)]
Zoom = Annotated[float, Field(ge=0.1, le=4)]


class MapsData(DataConfig):
    """Label maps, such as those of heads, and random shapes, painted in contrasts that are drawn anew for each image.

    A pair shows two maps, or one twice, each turned, bent and painted by itself; labels tell what belongs together.
    See `regzoo.simulation.painting`.
    """

    kind: Literal["maps"]
    splits: PathText = "splits.json"
    """JSON: lists `train` and `valid` of names; a map is `NAME.nii.gz`, relative to `root`. Maps of one spacing."""
    tissues: LabelGroups = ()
    """Labels that are alike in an image, up to `prior.spread`; a label in no group is like no other one."""
    layers: LabelGroups = ()
    """Labels around what is of interest, such as skull and skin, outermost layer first; an image may be without the
    first of them, or the first two, and so on."""
    same: Annotated[float, Field(ge=0, le=1)] = 0.3
    """Share of the pairs of maps that show one map twice."""
    zoom: tuple[Zoom, Zoom] = (0.5, 1.4)
    """Least and largest part of a map that the grid covers, 1: as large as `input` says. Smaller ones lie anywhere."""
    shapes: Annotated[int, Field(ge=1, le=10_000)] = 100
    """How many maps of random shapes are drawn once, at the start."""
    share: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of the batches that show random shapes, the same in both images of a pair."""
    test: PathText | None = None
    """CSV of real pairs to score on, relative to `root`."""
    prior: MapsPrior = MapsPrior()
    label_sampling: Annotated[int, Field(ge=1, le=64)] = 16
    """How many channels of labels a pair has, of those that both images show: half of them a label each, the others a
    random half of the labels together."""
    validation_pairs: Annotated[int, Field(ge=1, le=1000)] = 8

    def check(self, recipe: Recipe) -> None:
        """Checks that something moves the maps, in three dimensions."""
        if not recipe.augmentation.moves_apart:
            wanted = "affine, rotation, shift or field"
            raise ValueError(f"augmentation: expected {wanted}, since one map may be shown twice")
        if recipe.input and len(recipe.input.shape) != 3:
            raise ValueError("input.shape: expected three values, since label maps are volumes")

    @model_validator(mode="after")
    def _grows(self) -> MapsData:
        if self.zoom[0] > self.zoom[1]:
            raise ValueError(f"zoom: expected the smaller first, received {self.zoom}")
        return self


KINDS: Entries = {
    "unpaired": Entry(UnpairedData, "regzoo.data.drawn_pairs:UnpairedImages"),
    "grouped": Entry(GroupedData, "regzoo.data.drawn_pairs:GroupedImages"),
    "pairs": Entry(PairedData, "regzoo.data.given_pairs:GivenPairs"),
    "folders": Entry(FolderData, "regzoo.data.folder_pairs:folder_pairs"),
    "breathing": Entry(BreathingData, "regzoo.simulation.breathing_pairs:BreathingPairs"),
    "shapes": Entry(ShapesData, "regzoo.simulation.shape_pairs:ShapePairs"),
    "maps": Entry(MapsData, "regzoo.simulation.map_pairs:MapPairs"),
}
"""Kind -> what a recipe says of it; what makes a `regzoo.data.kinds.Kind` of a recipe and the folder of the data."""
