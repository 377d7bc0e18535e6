"""What mypy reads: every public name, used as its hints say; it is never run. `test_typing.py` says what that proves.

An `ignore` marks a wrong use. mypy is told to complain where an `ignore` is not needed, so that each must be found.
"""

from collections.abc import Callable
from pathlib import Path
from typing import assert_type

import numpy as np

import regzoo
from regzoo.hub.address import Address
from regzoo.models.outputs.output import Output
from regzoo.points.registration import PointRegistration
from regzoo.registration.cohort import Cohort
from regzoo.registration.evaluation import Evaluation
from regzoo.registration.results import Result
from regzoo.registration.template_files import Template
from regzoo.schema.card import Card
from regzoo.schema.outputs import DDFConfig
from regzoo.world.images import Grid

array = np.zeros((4, 6, 5), np.float32)
mask = array > 0


def registering() -> None:
    image = regzoo.Image(array, np.eye(4))
    result = regzoo.register("fixed.nii.gz", Path("moving.nii.gz"), model="brain-mr-dvf", refine=50)
    assert_type(result, Result)
    regzoo.register(image, array, method=["affine", "dvf"], spacing=(1.0, 1.0, 2.0), start="mass")
    regzoo.register(image, image, regzoo.load("brain-mr-dvf"), fixed_points=np.zeros((2, 3)))
    regzoo.register(image)  # type: ignore[call-arg]
    regzoo.register(image, image, start="centre")  # type: ignore[arg-type]
    regzoo.register(image, image, model=3)  # type: ignore[arg-type]
    if result.moved is not None and result.transform is not None:
        result.moved.save("moved.nii.gz")
        assert_type(result.transform.apply_points([[1.0, 2.0, 3.0]]), np.ndarray)
    assert_type(result.save("out"), Path)
    assert_type(regzoo.network_input(image, image, {"shape": (8, 8, 8)}), dict[str, np.ndarray])
    assert_type(regzoo.candidates(image, image), list[tuple[Card, list[str]]])
    assert_type(regzoo.register_points("fixed.csv", array, "cpd-affine", outliers=0.1), PointRegistration)


def world() -> None:
    image = regzoo.Image.read("labels.nii.gz", labels=True)
    assert_type(image.grid, Grid)
    transform = regzoo.Transform.load("transform.nii.gz").then(regzoo.Transform.linear(np.eye(4)))
    assert_type(transform.inverse().apply_image(image, image.grid, order=0), regzoo.Image)
    transform.apply_image(image, image)  # type: ignore[arg-type]


def metrics() -> None:
    assert_type(regzoo.metrics.dice([1, 0, 2], [1, 1, 2]), dict[int, float])
    assert_type(regzoo.metrics.jaccard(array, array, labels=[1]), dict[int, float])
    assert_type(regzoo.metrics.soft_dice(array, array), float)
    assert_type(regzoo.metrics.hd95(mask, mask, (1.0, 1.0, 2.0)), float)
    assert_type(regzoo.metrics.surfaces(array, (1.0, 1.0, 2.0)), dict[int, np.ndarray])
    assert_type(regzoo.metrics.hausdorff95(array, array), float)
    assert_type(regzoo.metrics.centroids(array, np.eye(4)), dict[int, np.ndarray])
    assert_type(regzoo.metrics.centroid_distance(mask, mask, np.eye(4)), float)
    assert_type(regzoo.metrics.tre(array, array, regzoo.Transform()), np.ndarray)
    regzoo.metrics.tre(array, array, np.eye(4))  # type: ignore[arg-type]


def training() -> None:
    folder = regzoo.finetune("recipe.yaml", data="data")
    assert_type(folder, Path)
    regzoo.finetune(regzoo.Recipe.read("recipe.yaml"))
    scores = regzoo.evaluate(folder, [{"fixed": "a.nii.gz", "moving": Path("b.nii.gz")}])
    assert_type(scores, Evaluation)
    assert_type(scores.summary(), dict[str, dict[str, float]])
    regzoo.evaluate("brain-mr-dvf", "pairs.csv", start="world")
    regzoo.evaluate("brain-mr-dvf", 3)  # type: ignore[arg-type]
    assert_type(regzoo.cohort("pairs.csv", "out", method="affine", workers=2), Cohort)
    regzoo.cohort("pairs.csv", "out", "brain-mr-dvf", index="1")  # type: ignore[arg-type]
    made = regzoo.template(["a.nii.gz", Path("b.nii.gz")], "out", "brain-mr-dvf", start="mean", spacing=1.0)
    assert_type(made, Template)
    assert_type(made.transform("a"), regzoo.Transform)
    regzoo.template("a.nii.gz", "out", method="rigid", symmetric=3)  # type: ignore[arg-type]


def building() -> None:
    model = regzoo.models.build({"backbone": {"name": "unet"}, "output": {"name": "dvf"}}, (1.0, 1.0, 2.0))
    assert_type(model, regzoo.models.RegistrationModel)
    model.supervise({"image": {"lncc": {"size": 5}}}, (1.0, 1.0, 2.0), symmetric=True)
    regzoo.models.NETWORKS["mine"] = lambda features=4: model
    assert_type(regzoo.save(model, "mine", {"name": "mine", "input": {"shape": (4, 6, 5)}}), Path)
    assert_type(regzoo.models.output_of(DDFConfig(), 3, (1.0, 1.0, 1.0)), Output)
    regzoo.models.Exported({"output": {"name": "ddf"}}, spacing=(1.0, 1.0, 1.0)).save("model.keras")
    regzoo.models.OwnModel(network=model).field(array, array)
    regzoo.models.build("unet")  # type: ignore[arg-type]
    regzoo.save("mine")  # type: ignore[call-arg]


def hub() -> None:
    assert_type(regzoo.list(), list[regzoo.hub.Entry])
    assert_type(regzoo.hub.models(), list[regzoo.hub.Entry])
    assert_type(regzoo.hub.bundled() + regzoo.hub.cached(), list[regzoo.hub.Entry])
    assert_type(regzoo.hub.offered(), list[tuple[Card, Address]])
    try:
        assert_type(regzoo.hub.pull("hf://owner/repo"), Path)
    except (regzoo.hub.DamagedError, regzoo.hub.TransportError):
        regzoo.hub.remove("mine@1")
    entry = regzoo.hub.take(regzoo.hub.find("mine"))
    regzoo.hub.verify(regzoo.hub.resolve(entry.folder), entry.card)
    assert_type(regzoo.hub.pin("mine"), str)
    assert_type(regzoo.hub.cache_folder(), Path)
    assert_type([str(error) for error in regzoo.hub.survey()[1]], list[str])
    regzoo.hub.pull(entry)  # type: ignore[arg-type]


def layers() -> None:
    regzoo.layers.Warp(boundary="zero", method="nearest").call([array, array])
    regzoo.layers.Integrate(steps=5).call(array)
    regzoo.layers.Warp(boundary="reflect")  # type: ignore[arg-type]
    regzoo.layers.Integrate(steps="7")  # type: ignore[arg-type]


def losses() -> None:
    two: list[Callable] = [regzoo.losses.ssd, regzoo.losses.ncc, regzoo.losses.mi, regzoo.losses.nmi]
    two += [regzoo.losses.dice, regzoo.losses.jaccard, regzoo.losses.cross_entropy, regzoo.losses.label_ssd]
    two += [regzoo.losses.centroid, regzoo.losses.distance]
    for loss in two:
        loss(array, array)
    regzoo.losses.lncc(array, array, size=5, window="gaussian")
    regzoo.losses.lncc(array, array, window="round")  # type: ignore[arg-type]
    regzoo.losses.mind(array, array, radius=1, dilation=2)
    regzoo.losses.gradient(array, spacing=(1.0, 1.0, 2.0), norm="l1")
    regzoo.losses.gradient(array, norm="l3")  # type: ignore[arg-type]
    regzoo.losses.bending(array, spacing=(1.0, 1.0, 2.0))
    regzoo.losses.elastic(array, mu=0.5)
    regzoo.losses.folding(array, margin=0.1)
    regzoo.losses.Loss("lncc", size=5)
    assert_type(regzoo.losses.named("image"), dict[str, Callable])
    assert_type(regzoo.losses.weighted_terms({"image": {"ssd": {}}}, (1.0, 1.0)), list[tuple])


def ops(tensor: regzoo.ops.Tensor) -> regzoo.ops.Tensor:
    matrix = regzoo.ops.random_affine(0, (4, 6, 5), scale=0.1)
    assert_type(regzoo.ops.about_centre(matrix, (4, 6, 5)), np.ndarray)
    regzoo.ops.affine_grid(regzoo.ops.inverse_matrix(matrix), (4, 6, 5))
    regzoo.ops.inverse_linear(regzoo.ops.linear_matrix(tensor, "rigid", (4, 6, 5), (1.0, 1.0, 2.0)))
    regzoo.ops.linear_matrix(tensor, "bent", (4, 6, 5), (1.0, 1.0, 2.0))  # type: ignore[arg-type]
    assert_type(regzoo.ops.identity_grid((4, 6, 5)), np.ndarray)
    assert_type(regzoo.ops.millimetres((1.0, 2.0), 2), list[float])
    smooth = regzoo.ops.smooth(regzoo.ops.blur(tensor, sigma=1.5, kernel="cauchy"), 3, window="triangular")
    regzoo.ops.along_axes(smooth, [regzoo.ops.blur_matrix(4, 1.0), regzoo.ops.window_matrix(6, 3), None])
    regzoo.ops.along_axes(smooth, [regzoo.ops.interpolation_matrix(regzoo.ops.control_positions(4, 2.0), 4)])
    regzoo.ops.difference(regzoo.ops.shift(regzoo.ops.forward_difference(tensor, 1), 1, 1), 1)
    field = regzoo.ops.resize_field(regzoo.ops.compose(tensor, regzoo.ops.integrate(tensor, steps=5)), (4, 6, 5))
    inverse, residual = regzoo.ops.invert(field, iterations=5)
    regzoo.ops.bspline_field(inverse, (4, 6, 5), (2.0, 2.0, 2.0))
    regzoo.ops.mean(regzoo.ops.standardised(regzoo.ops.jacobian_determinant(field)), mask=residual)
    regzoo.ops.determinant([tensor, tensor])
    regzoo.ops.map_places(regzoo.ops.inverse_matrix(matrix), regzoo.ops.identity_grid((4, 6, 5)))
    assert_type(regzoo.ops.cubic_bspline(np.zeros(3)), np.ndarray)
    regzoo.ops.self_similarity(tensor, 1, 2, 1e-3)
    regzoo.ops.sample(tensor, regzoo.ops.identity_grid((4, 6, 5)), "zero", "nearest")
    regzoo.ops.warp(tensor, field, "reflect")  # type: ignore[arg-type]
    return regzoo.ops.warp(tensor, field, boundary="zero")


def names() -> None:
    assert_type(regzoo.__version__, str)
    regzoo.registre("fixed.nii.gz", "moving.nii.gz")  # type: ignore[attr-defined]
    regzoo.losses.lnc(array, array)  # type: ignore[attr-defined]
