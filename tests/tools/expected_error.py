"""Fits how far off a model's registrations are expected to be, on `valid`, and shows on `test` how true that is.

    python tests/tools/expected_error.py fit NAME --data FOLDER [--keep FOLDER]      # zoo_cards/NAME/error.json
    python tests/tools/expected_error.py table NAME --data FOLDER [--keep FOLDER]    # --record: on the card too

NAME is a model, or `affine,dvf`: methods, whose calibration lies beside the code and whose table in docs/guide.md.

Each case is a pair whose truth is known: two subjects with labels, two scans with landmarks, simulated breathing, or an
image and itself under a known smooth map (simulated). Kinds of failure are made of both: turned by 0 to 180 degrees,
mirrored, of another organ, cropped, blank, noisy, of another contrast, with a wrong spacing in the header; and near
misses. What is called wrong is what is: a mean error above 5 mm, or Dice below half of the model's mean. Three kinds
are never fitted on.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from judged import OfMethods, OfModel, subject
from known_truth import MIRRORED, Case, cases
from scipy import ndimage
from scipy.spatial import cKDTree
from scipy.stats import spearmanr

from regzoo.errors import RegzooError
from regzoo.registration.expected.evidence import Evidence
from regzoo.registration.expected.expectation import PAIR, forest_mean, pair_evidence, read, total, voxel_mm
from regzoo.schema.calibration import Calibration, Forest, Looks, PairAmount, Sum, Table, Tree, VoxelAmount
from regzoo.world.images import Image
from regzoo.world.labels import shared_labels
from regzoo.world.matrices import map_points
from regzoo.world.transforms import Transform

HELD_OUT = ("cropped", "organ", "spacing")
"""Kinds that are never fitted on."""
SIDES = "mirror"
"""The evidence for an exchange of the sides, the kind `MIRRORED`, which is no matter of millimetres. An expected error
holds if the sides are right; whether they are is left to the verdict. In one number, an image whose halves are alike,
as those of a template are, would be expected to be off by half of what an exchange of the sides is."""
WRONG, GOOD = 5.0, 2.0  # mm
SAMPLED = 1500  # voxels of a case
TREES = 64  # of a forest
VOXELS = 20_000  # of all cases, that are fitted on
LEAST = 0.05  # mm that are added before a logarithm is taken


def surfaces(labels: Image, random: np.random.Generator) -> dict[int, np.ndarray]:
    """Returns up to 400 points in mm on the surface of each label."""
    found = {}
    for value, box in enumerate(ndimage.find_objects(labels.array.astype(int)), start=1):
        if box is not None:
            where = np.pad(labels.array[box] == value, 1)
            edge = np.argwhere(where & ~ndimage.binary_erosion(where)) - 1 + [side.start for side in box]
            chosen = edge if len(edge) <= 400 else edge[random.choice(len(edge), 400, replace=False)]
            found[value] = map_points(labels.affine, chosen)
    return found


def label_truth(case: Case, transform: Transform) -> tuple[float, float]:
    """Returns the mean distance of the labels' surfaces in mm, both ways, and their mean Dice by the map."""
    fixed, moving = case.fixed_labels, case.moving_labels
    shared = shared_labels(fixed, moving)
    if not shared:
        return np.nan, 0.0
    moved, random = transform.apply_labels(moving, fixed.grid), np.random.default_rng(0)
    most = int(max(fixed.array.max(), moved.array.max())) + 1
    sizes = [np.bincount(each.array.ravel().astype(int), minlength=most) for each in (fixed, moved)]
    both = np.bincount(fixed.array[fixed.array == moved.array].astype(int), minlength=most)
    dice = [2 * both[value] / (sizes[0][value] + sizes[1][value]) for value in shared]
    here, there, distances = surfaces(fixed, random), surfaces(moving, random), []
    for value in shared:
        one, two = transform.apply_points(here[value]), there[value]
        distances.append((cKDTree(two).query(one)[0].mean() + cKDTree(one).query(two)[0].mean()) / 2)
    return float(np.mean(distances)), float(np.mean(dice))


def measured(
    of: OfModel | OfMethods, split: str, keep: Path, share: float, near: int, leave: Sequence[str]
) -> dict[str, np.ndarray]:
    """Returns evidence and truth of the cases of a split, but of kinds to leave out.

    What was measured before is kept in a folder, a file a case. Cases that `register` refuses, which is no verdict, are
    counted and left out.
    """
    folder = keep / f"{of.name}-{split}"
    folder.mkdir(parents=True, exist_ok=True)
    rows, refused = [], 0
    for key, make in (*of.breaths(split, share), *cases(of.pairs(split), split, of.data, of.flat, share, near)):
        if key.partition("-")[0] in leave:
            continue
        file = folder / f"{key}.npz"
        if not file.exists():
            try:
                case = make()
                found, transform = of.judged(case)
                row = _row(case, found, transform, of.usual_dice(case))
                told = f"error {row['error']:.2f} mm, Dice {row['dice']:.3f}, wrong {bool(row['wrong'])}"
            except RegzooError as error:
                row, told = {"refused": str(error)}, f"refused: {error}"
            print(key, told, flush=True)
            np.savez_compressed(file, **row)
        with np.load(file) as kept:
            row = dict(kept)
        refused += "refused" in row
        if "refused" not in row:
            rows.append(row)
    each = ("kind", "subject", "error", "dice", "wrong", "known", "pair", "looks")
    table = {key: np.array([row[key] for row in rows]) for key in each}
    table |= {key: np.concatenate([row[key] for row in rows]) for key in ("voxel_error", "voxel_values")}
    table["voxel_case"] = np.concatenate([np.full(len(row["voxel_error"]), i) for i, row in enumerate(rows)])
    return table | {key: rows[0][key] for key in ("names", "voxel_names")} | {"refused": np.array(refused)}


def _row(case: Case, found: Evidence, transform: Transform, usual: float) -> dict:
    """Returns the evidence of a case beside its truth."""
    error, dice, voxel_error = np.nan, np.nan, np.zeros(0)
    values = np.zeros((0, len(found.voxels)), "float32")
    if case.goal:
        random, grid = np.random.default_rng(0), found.asked.fixed.grid
        inside = np.argwhere(found.asked.inside)
        if case.marked is None:
            chosen = inside[random.choice(len(inside), min(SAMPLED, len(inside)), replace=False)]
            points = map_points(grid.affine, chosen)
        else:
            points = case.marked
            chosen = inside[cKDTree(inside).query(map_points(np.linalg.inv(grid.affine), points))[1]]
        kept = case.fixed.grid.covers(points)
        chosen, points = chosen[kept], points[kept]
        goal = case.goal(points)
        voxel_error = np.linalg.norm(transform.apply_points(points) - goal, axis=1)
        values = np.stack([each[tuple(chosen.T)] for each in found.voxels.values()], axis=1).astype("float32")
        error = float(voxel_error.mean())
    elif case.moving_labels is not None and not case.hopeless:
        error, dice = label_truth(case, transform)
    wrong = case.hopeless or error > WRONG or dice < usual / 2
    if case.hopeless:
        error, voxel_error, values = np.nan, np.zeros(0), values[:0]
    return {
        "kind": case.kind,
        "subject": case.subject,
        "error": error,
        "dice": dice,
        "wrong": wrong,
        "known": case.goal is not None and not case.hopeless,
        "pair": np.array(list(found.pair.values())),
        "looks": found.looks,
        "voxel_error": voxel_error,
        "voxel_values": values,
        "names": np.array(list(found.pair)),
        "voxel_names": np.array(list(found.voxels)),
    }


def pair_values(table: dict, looks: Looks) -> dict[str, np.ndarray]:
    """Returns the evidence of every case, name -> values."""
    rows = []
    for values, seen in zip(table["pair"], table["looks"], strict=True):
        pair = dict(zip(table["names"].tolist(), values.tolist(), strict=True))
        rows.append(pair_evidence(pair, seen, looks))
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def boosted(values: dict[str, np.ndarray], y: np.ndarray, least: int = 200) -> Sum:
    """Fits stumps that only rise, by gradient boosting, and writes the sum of each kind of evidence as a table.

    Args:
        values: Evidence, name -> (N,).
        y: What to fit, (N,).
        least: Cases beside each step.
    """
    from sklearn.ensemble import HistGradientBoostingRegressor

    x = np.stack(list(values.values()), axis=1)
    settings = {"max_leaf_nodes": 2, "learning_rate": 0.1, "max_iter": 120, "min_samples_leaf": least}
    settings |= {"l2_regularization": 1.0, "monotonic_cst": [1] * x.shape[1], "early_stopping": False, "max_bins": 64}
    predict = HistGradientBoostingRegressor(**settings).fit(x, y).predict
    offset, tables = float(predict(x[:1])[0]), {}
    for column, name in enumerate(values):
        knots = np.unique(np.quantile(x[:, column], np.linspace(0, 1, 41)).round(5))
        trial = np.repeat(x[:1], len(knots), axis=0)
        trial[:, column] = knots
        at = np.maximum.accumulate(predict(trial))
        if np.ptp(at) > 1e-3:
            own = np.interp(x[0, column], knots, at)
            tables[name] = Table(x=knots.tolist(), y=(at - own).round(5).tolist())
    return Sum(offset=round(offset, 5), tables=tables)


def grown(values: dict[str, np.ndarray], y: np.ndarray) -> Forest:
    """Grows a forest, of a logarithm or, for integers, of the share that is 1, were half of all.

    On valid pairs of hippocampi, foretold from other subjects, the AUROC is .96; of sums of tables that rise .91.
    """
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    x = np.stack(list(values.values()), axis=1)
    settings = {"n_estimators": TREES, "min_samples_leaf": 3, "random_state": 0}
    if y.dtype.kind == "i":
        model = RandomForestClassifier(class_weight="balanced", **settings).fit(x, y)
    else:
        model = RandomForestRegressor(max_features=0.4, **settings).fit(x, y)
    return Forest(trees=[_tree(each.tree_, list(values)) for each in model.estimators_])


def _tree(tree: object, names: list[str]) -> Tree:
    ends, said = tree.children_left < 0, tree.value[:, 0, -1]  # of two classes the second, of one value that
    return Tree(
        asks=[None if end else names[i] for end, i in zip(ends, tree.feature, strict=True)],
        at=np.where(ends, said, tree.threshold).round(5).tolist(),
        below=np.where(ends, 0, tree.children_left).tolist(),
        above=np.where(ends, 0, tree.children_right).tolist(),
    )


def said(fitted: Forest | Sum, values: dict[str, np.ndarray]) -> np.ndarray:
    """Returns what a forest or a sum says of cases."""
    if isinstance(fitted, Sum):
        return total(fitted, values)
    return np.array(
        [forest_mean(fitted, dict(zip(values, row, strict=True))) for row in zip(*values.values(), strict=True)]
    )


def foretold(learn: Callable, values: dict, y: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Returns what is said of each case by what was learned on the other subjects."""
    from sklearn.model_selection import GroupKFold

    found = np.zeros(len(y))
    for train, test in GroupKFold(5).split(y, y, groups):
        fitted = learn({k: v[train] for k, v in values.items()}, y[train])
        found[test] = said(fitted, {k: v[test] for k, v in values.items()})
    return found


def amount(told: np.ndarray, error: np.ndarray) -> dict[str, Table]:
    """Returns tables from what was foretold to the mean of the true error and to what 9 of 10 do not exceed."""
    from sklearn.isotonic import IsotonicRegression

    order = np.argsort(told)
    groups = np.array_split(order, max(3, min(12, len(order) // 20)))
    x = np.maximum.accumulate([float(np.median(told[each])) for each in groups])
    mean = IsotonicRegression().fit(told, error).predict(x)
    high = np.maximum.accumulate([np.quantile(error[each], min(1, 0.9 * (1 + 1 / len(each)))) for each in groups])
    table = {"expected": mean, "bound": np.maximum(high, mean)}
    return {k: Table(x=x.round(5).tolist(), y=np.asarray(v).round(4).tolist()) for k, v in table.items()}


def fit(of: str, table: dict, data: str, command: str) -> Calibration:
    """Fits a calibration."""
    plain = np.isin(table["kind"], ("plain", "breath", "known"))
    seen = table["looks"][plain].reshape(-1, table["looks"].shape[-1])
    spread = np.maximum(seen.std(axis=0), 0.02)
    looks = Looks(middle=np.median(seen, axis=0).round(5).tolist(), spread=spread.round(5).tolist())
    values, subjects = pair_values(table, looks), table["subject"]
    wrong = table["wrong"].astype(int)
    risk = foretold(grown, values, wrong, subjects)
    sides = table["kind"] != MIRRORED
    finite = np.isfinite(table["error"]) & sides
    some, error = {k: each[finite] for k, each in values.items() if k != SIDES}, table["error"][finite]
    told = np.full(len(finite), np.nan)
    told[finite] = foretold(grown, some, np.log(error + LEAST), subjects[finite])
    pair = PairAmount(log=grown(some, np.log(error + LEAST)), **amount(told[finite], error))
    few = np.flatnonzero(sides[table["voxel_case"]])[:: max(1, len(table["voxel_error"]) // VOXELS)]
    voxels = dict(zip(table["voxel_names"].tolist(), table["voxel_values"][few].T, strict=True))
    voxels[PAIR] = told[table["voxel_case"][few]]
    true, groups = table["voxel_error"][few], subjects[table["voxel_case"][few]]
    log = np.log(true + LEAST)
    voxel = VoxelAmount(log=boosted(voxels, log), **amount(foretold(boosted, voxels, log, groups), true))
    good = (wrong == 0) & ~(table["error"] > GOOD)
    failed_from = max(0.5, float(np.quantile(risk[good], 0.965)))
    look_from = min(float(np.quantile(risk[wrong == 1], 0.02)), failed_from)
    return Calibration(
        form=1,
        of=of,
        data=data,
        command=command,
        cases=len(wrong),
        failed=int(wrong.sum()),
        looks=looks,
        usual={
            key: tuple(np.quantile(array[wrong == 0], (0.5, 0.95)).round(4).tolist()) for key, array in values.items()
        },
        voxel=voxel,
        pair=pair,
        risk=grown(values, wrong),
        look_from=round(look_from, 3),
        failed_from=round(failed_from, 3),
    )


def auroc(wrong: np.ndarray, right: np.ndarray) -> float:
    """Returns how often a wrong case has a higher risk than a right one."""
    if not len(wrong) or not len(right):
        return np.nan
    return float(np.mean((wrong[:, None] > right) + 0.5 * (wrong[:, None] == right)))


@dataclass(frozen=True)
class Held:
    """What a calibration says of cases, held against their truth."""

    table: dict
    calibration: Calibration

    def __post_init__(self) -> None:
        """Asks the calibration."""
        table, known = self.table, self.calibration
        values = pair_values(table, known.looks)
        log = said(known.pair.log, values)
        mean = read(known.pair.expected, log)
        voxels = dict(zip(table["voxel_names"].tolist(), table["voxel_values"].T, strict=True))
        voxels[PAIR] = log[table["voxel_case"]]
        found = {"mean": mean, "bound": np.maximum(mean, read(known.pair.bound, log))}
        found |= {"risk": said(known.risk, values), "wrong": table["wrong"].astype(bool)}
        found |= {"voxel_mean": voxel_mm(voxels, known.voxel), "voxel_bound": voxel_mm(voxels, known.voxel, bound=True)}
        self.__dict__.update(found)

    def amounts(self) -> Iterator[tuple[str, str, str]]:
        """Yields what is said of millimetres: what, the figure, what is wanted."""
        error, known, sides = self.table["error"], self.table["known"].astype(bool), self.table["kind"] != MIRRORED
        finite, seen = np.isfinite(error) & sides, sides[self.table["voxel_case"]]
        true, mean, high = (each[seen] for each in (self.table["voxel_error"], self.voxel_mean, self.voxel_bound))
        marked = self.table["kind"] == "marked"
        kinds = {"known maps": finite & known & ~marked, "landmarks": finite & marked}
        kinds["two subjects, distance of the label surfaces"] = finite & ~known
        for name, chosen in kinds.items():
            if chosen.sum() > 2:
                alike = np.ptp(self.mean[chosen]) == 0
                rank = "all expected alike" if alike else f"{spearmanr(self.mean[chosen], error[chosen])[0]:.2f}"
                yield f"Spearman over pairs: {name} ({chosen.sum()})", rank, "0.8"
        rank = spearmanr(mean, true)[0]
        yield f"Spearman over voxels of known maps, all pairs together ({len(true)})", f"{rank:.2f}", "0.5"
        case = self.table["voxel_case"][seen]
        differing = [i for i in np.unique(case) if np.ptp(mean[case == i])]
        each = [spearmanr(mean[case == i], true[case == i])[0] for i in differing]
        yield "Spearman over voxels within one pair, median over pairs", f"{np.nanmedian(each):.2f}", ""
        for name, bound, truth in (
            ("pairs", self.bound[finite], error[finite]),
            ("voxels", high, true),
        ):
            share = np.mean(truth <= bound)
            constant = np.quantile(truth, share)
            yield f"share of {name} below the 90 % bound", f"{share:.2f}", "0.85 to 0.95"
            told = f"{bound.mean():.2f} beside {constant:.2f} mm"
            yield f"mean of the bound beside a constant one with this share, {name}", told, "a fifth less"

    def verdicts(self) -> Iterator[tuple[str, str, str]]:
        """Yields what is said of what is wrong."""
        risk, wrong, kind = self.risk, self.wrong, self.table["kind"]
        error = self.table["error"]
        yield f"AUROC for wrong ({wrong.sum()} of {len(wrong)})", f"{auroc(risk[wrong], risk[~wrong]):.3f}", "0.95"
        failed, look = (risk >= each for each in (self.calibration.failed_from, self.calibration.look_from))
        look = look | failed | (self.bound > WRONG)
        for name in dict.fromkeys(kind.tolist()):
            chosen = (kind == name) & wrong
            if chosen.any():
                held = ", never fitted on" if name in HELD_OUT else ""
                told = f"{auroc(risk[chosen], risk[~wrong]):.3f}"
                called = f"called failed {failed[chosen].mean():.2f}, failed or look {look[chosen].mean():.2f}"
                yield f"AUROC for {name}{held} ({chosen.sum()} wrong of {(kind == name).sum()}); {called}", told, "0.85"
        good = ~wrong & ~(error > GOOD)
        yield (
            f"good pairs (error at most {GOOD:g} mm; {good.sum()}) called failed",
            f"{failed[good].mean():.3f}",
            "0.05",
        )
        yield f"the same, called look ({good.sum()})", f"{(look & ~failed)[good].mean():.3f}", ""
        yield f"wrong pairs ({wrong.sum()}) called good", f"{(~look)[wrong].mean():.3f}", ""
        told = f"{failed[~wrong].mean():.3f}"
        yield f"pairs that are not wrong ({(~wrong).sum()}), near misses too, called failed", told, ""


def report(table: dict, calibration: Calibration) -> Iterator[str]:
    """Yields the lines of a table that shows how true a calibration is."""
    error = table["error"]
    simulated = table["known"].astype(bool) & (table["kind"] != "marked")
    near = int((simulated & (error >= 2) & (error <= 8)).sum())
    held = Held(table, calibration)
    yield "| what | found | wanted |"
    yield "|---|---|---|"
    yield f"| cases; of them near misses, known maps with a true error of 2 to 8 mm | {len(error)}; {near} | 50 near |"
    yield f"| cases beside these that `register` refused, or foretold nothing of | {table['refused']} | |"
    for row in (*held.amounts(), *held.verdicts()):
        yield f"| {' | '.join(row)} |"


SECTION = """## How well it knows when it fails

What `error.nii.gz`, the expected error and the verdict of `regzoo register` are worth, on `test`, printed by
`{command}`.
The truth is a simulated smooth map of one image onto itself, or the labels of two subjects. Real anatomy of two
subjects differs more than under a simulated map, and what lies within a label is not seen by its surface.
"Wrong" is a mean error above 5 mm, or Dice below half of the model's mean by the map; the AUROC of a kind holds what is
wrong of it against all that is not wrong. What is said in millimetres holds if left and right are not exchanged: it is
neither fitted nor shown on mirrored images, which are the verdict's. Fitted on {cases} cases of `valid`, of which
{failed} are wrong, never on the kinds {held}.

{table}"""


def section(calibration: Calibration, command: str, lines: list[str]) -> str:
    """Returns the section of a card."""
    held, table = ", ".join(HELD_OUT), "\n".join(lines)
    cases, failed = calibration.cases, calibration.failed
    return SECTION.format(command=command, cases=cases, failed=failed, held=held, table=table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("cases", "fit", "table"))
    parser.add_argument("name")
    parser.add_argument("--data", required=True)
    parser.add_argument("--split", default="valid", help="of `cases`, which only measures")
    parser.add_argument("--record", action="store_true", help="write the table into the card, or the guide")
    parser.add_argument("--share", type=float, default=1.0, help="of the cases but near misses, only so many")
    parser.add_argument("--near", type=int, default=60, help="near misses")
    parser.add_argument("--keep", type=Path, default=Path("expected-error"), help="folder of what was measured")
    parser.add_argument("--pairs", help="list in FOLDER to fit on, where a recipe simulates what it validates on")
    arguments = parser.parse_args()
    sizes = f" --share {arguments.share:g} --near {arguments.near}"
    sizes += f" --pairs {arguments.pairs}" if arguments.pairs else ""
    split = {"fit": "valid", "table": "test"}.get(arguments.what, arguments.split)
    leave = HELD_OUT if arguments.what == "fit" else ()
    of = subject(arguments.name, arguments.data, arguments.pairs)
    table = measured(of, split, arguments.keep, arguments.share, arguments.near, leave)
    if arguments.what == "fit":
        truths = {"plain": "two subjects with labels", "breath": "simulated breathing"}
        shown = [told for kind, told in truths.items() if kind in table["kind"]]
        said = f"{of.source}: {', '.join([*shown, 'images under simulated maps'])}, but not {', '.join(HELD_OUT)}"
        command = f"python tests/tools/expected_error.py fit {of.name} --data FOLDER{sizes}"
        of.write(json.dumps(fit(of.of, table, said, command).model_dump(mode="json")) + "\n")
    if arguments.what == "table":
        found = of.read()
        lines = [*report(table, found)]
        print("\n".join(lines))
        if arguments.record:
            of.record(
                section(found, f"python tests/tools/expected_error.py table {of.name} --data FOLDER{sizes}", lines)
            )


if __name__ == "__main__":
    main()
