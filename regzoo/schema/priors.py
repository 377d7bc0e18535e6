"""What simulated pairs are drawn from."""

from typing import Annotated

from pydantic import Field, model_validator

from regzoo.schema.strict import Strict

Millimetres = Annotated[float, Field(ge=0, le=100)]
Share = Annotated[float, Field(ge=0, le=1)]


class BreathingPrior(Strict):
    """What simulated breathing is drawn from; 0 switches a part off.

    The defaults are broader than real breathing: `tests/benchmarks/breathing.py` compares them with the landmarks of
    quiet breathing (DIR-Lab 4DCT) and of forced breathing (DIR-Lab COPD).
    """

    diaphragm: Millimetres = 40.0
    """Largest motion of the diaphragm along S, in mm, up or down."""
    wall: Share = 0.25
    """Largest motion of the breastbone along A, as a share of the diaphragm's; the sides move half as much."""
    local: Share = 0.45
    """Largest standard deviation of smooth random motion at the diaphragm, as a share of the diaphragm's."""
    jitter: Millimetres = 2.3
    """Largest standard deviation of smooth random motion in mm, whatever the diaphragm does."""
    pleura: Millimetres = 8.0
    """Largest width of the band along ribs and spine over which the motion inside them dies away, in mm."""
    position: Millimetres = 4.0
    """Standard deviation of the patient's shift between the scans along each axis, in mm, and of the turn about each
    axis, in quarter degrees. It moves everything, bones and table too."""
    anatomy: Share = 0.15
    """Largest relative change of the chest's size before both scans; tilts, shapes, shifts and mirrors go with it."""
    appearance: Share = 1.0
    """Strength of noise, blur, artefacts, calibration shifts and cropped fields of view."""
    measured: Share = 0.5
    """Share of the pairs whose breathing is, in part, that of a patient in whom it was measured, if there are any (see
    `data.motions`)."""
    still: Share = 0.0
    """Share of the pairs that hardly move: their breathing and its random motion stay below 2 mm."""
    rotation: Annotated[float, Field(ge=0, le=90)] = 0.0
    """Largest turn of the patient between the scans about any axis, in degrees, in every second pair."""
    travel: Millimetres = 0.0
    """Largest shift of the patient between the scans along each axis, in mm, in the pairs that are turned too."""
    cut: Millimetres = 0.0
    """Most that is missing of one end of one of the scans, in mm, in every third pair, beside what `appearance` does.
    """


class ShapesPrior(Strict):
    """What maps of random shapes and their images are drawn from."""

    shapes: Annotated[int, Field(ge=2, le=64)] = 24
    """Shapes in a map."""
    size: tuple[Annotated[float, Field(ge=2, le=500)], Annotated[float, Field(ge=2, le=500)]] = (12.0, 48.0)
    """Least and largest distance between the control points of the maps that shapes come from, mm."""
    detail: Annotated[float, Field(ge=0, le=2)] = 0.5
    """How much of maps of half that distance is added."""
    black: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Probability that one shape lies around all others and is 0 in both images, as around a brain without skull."""
    body: tuple[Annotated[float, Field(gt=0, le=2)], Annotated[float, Field(gt=0, le=2)]] = (0.6, 1.0)
    """Where that shape begins: least and largest distance from the centre, in half sizes of the grid."""
    cut: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Probability that an image ends within the grid and is 0 beyond, on each side by up to a sixth of the size."""
    related: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Probability that the contrast of the second image is nearly that of the first, or its reverse."""
    texture: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Largest standard deviation, about, of a smooth pattern within shapes; intensities of shapes span 1."""
    blur: Annotated[float, Field(ge=0, le=20)] = 2.0
    """Largest standard deviation of the blur, mm."""

    @model_validator(mode="after")
    def _grows(self) -> "ShapesPrior":
        if self.size[0] > self.size[1]:
            raise ValueError(f"size: expected the smaller first, received {self.size}")
        return self


class MapsPrior(ShapesPrior):
    """What images of label maps, and maps of random shapes beside them, are drawn from."""

    size: tuple[Annotated[float, Field(ge=2, le=500)], Annotated[float, Field(ge=2, le=500)]] = (16.0, 64.0)
    spread: Share = 0.3
    """Largest standard deviation of the intensities of the labels of one tissue."""
    stripped: Share = 0.5
    """Probability that an image is without the outer layers (`data.layers`)."""
    slices: Annotated[float, Field(ge=0, le=50)] = 12.0
    """Thickest slices along one of the axes, mm."""
    sliced: Share = 0.3
    """Probability that an image has thick slices."""
