"""A BIDS app: each subject's image registered to a template, as BIDS derivatives; and the table of a group."""

import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import regzoo
from regzoo.cache import expanded
from regzoo.errors import InvalidError, MissingError, RegzooError, invalid
from regzoo.io.bids_names import describe_xfm, write_json
from regzoo.io.files import LISTING, atomic_file, atomic_folder, check_writable
from regzoo.io.tsv import write_tsv
from regzoo.io.yaml_json import parse_json, read_text
from regzoo.models import zoo
from regzoo.registration.figures import figures
from regzoo.registration.pairs import Row, in_words
from regzoo.registration.register import register
from regzoo.registration.results import Result

VERSION = "1.10.0"
"""Of BIDS."""
_NOT_OF_BIDS = "*.html\n*_xfm.h5\n*_xfm.json\ngroup_*.tsv\n"
"""What a derivatives' folder has beside files that BIDS has rules for: transforms are a proposal (BEP 14) so far."""
_README = """\
Images registered to a template by regzoo: of each image, in its subject's folder, the image as it lies on the template
(space-LABEL_desc-moved), the transform that moves it there (from-SUFFIX_to-LABEL_mode-image_xfm.h5, a file of ITK that
ANTs reads too) with what was done and how well it fits in the JSON file beside it, and here a page to look at it
(sub-LABEL_SUFFIX.html).
"""
_FACTS_LIMIT = 2**24
_SUFFIX = re.compile(r"[A-Za-z0-9]+")


def participants(
    dataset: str | os.PathLike,
    output: str | os.PathLike,
    template: str | os.PathLike,
    labels: Sequence[str] = (),
    *,
    suffix: str = "T1w",
    model: zoo.Model | None = None,
    method: str | None = None,
    command: str | None = None,
    progress: Callable[[Row], None] | None = None,
) -> list[Row]:
    """Registers the images of subjects to a template, and writes BIDS derivatives.

    Of `sub-01/anat/sub-01_T1w.nii.gz` they are `sub-01_space-LABEL_desc-moved_T1w.nii.gz`, the transform
    `sub-01_from-T1w_to-LABEL_mode-image_xfm.h5` as ITK and ANTs apply it to the image, a JSON file beside each, and the
    report `sub-01_T1w.html` in the output folder. A subject that fails does not stop the others.

    Args:
        dataset: A BIDS dataset; images are `sub-*/[ses-*/]anat/*_SUFFIX.nii.gz`.
        output: The derivatives' folder.
        template: An image, or the name of a template that TemplateFlow has brought to this machine.
        labels: Subjects, with or without `sub-`; none: all.
        suffix: Kind of image.
        model: Name or folder of a zoo entry, or what `regzoo.load` gave.
        method: Instead of a model, as in `register`.
        command: What the JSON files keep as the command.
        progress: Called with a row for each image: `file`, `status`, `message`.

    Returns:
        The rows.

    Raises:
        RegzooError: If the dataset, a subject, the template or the model cannot be used.
    """
    dataset, output = Path(dataset), Path(output)
    images = find_images(dataset, labels, suffix)
    target, space = find_template(template, suffix)
    check_writable(output, folder=True)
    loaded = None if model is None else zoo.load(model)
    _describe(dataset, output)
    rows = []
    for image in images:
        row: Row = {"file": image.name, "status": "done", "message": None}
        try:
            result = register(target, image, loaded, method=method)
            result.facts["command"] = command
            _write(result, dataset, image.relative_to(dataset), output, suffix, space)
        except Exception as error:  # noqa: BLE001 - whatever it is, the other subjects are to be registered
            row |= {"status": "failed", "message": in_words(error)}
        rows.append(row)
        if progress:
            progress(row)
    return rows


def find_images(dataset: Path, labels: Sequence[str], suffix: str) -> list[Path]:
    """Returns the images of subjects, sorted.

    Raises:
        MissingError: If there is no such subject, or one that is named has no such image.
        InvalidError: If the suffix is none, or the dataset has no such image.
    """
    if not _SUFFIX.fullmatch(suffix):
        raise invalid("suffix", "letters and digits, such as T1w", f"'{suffix}'")
    subjects = sorted(path.name for path in dataset.glob("sub-*") if path.is_dir())
    if not subjects:
        raise MissingError(f"{dataset} has no folder sub-*. Give the folder of a BIDS dataset.")
    wanted = list(dict.fromkeys(f"sub-{label.removeprefix('sub-')}" for label in labels)) or subjects
    found: list[Path] = []
    for subject in wanted:
        if subject not in subjects:
            raise MissingError(f"{dataset} has no {subject}. It has: {', '.join(subjects)}.")
        here = [path for form in ("", "ses-*/") for path in _images(dataset / subject, form, suffix)]
        if not here and labels:
            raise MissingError(f"{dataset / subject} has no image anat/*_{suffix}.nii.gz.")
        found += here
    if not found:
        raise InvalidError(f"{dataset} has no image sub-*/anat/*_{suffix}.nii.gz. --suffix names another kind.")
    return found


def _images(subject: Path, form: str, suffix: str) -> list[Path]:
    forms = [f"{form}anat/{subject.name}*_{suffix}{end}" for end in (".nii.gz", ".nii")]
    return sorted(path for each in forms for path in subject.glob(each))


def find_template(template: str | os.PathLike, suffix: str) -> tuple[Path, str]:
    """Returns the file of a template, and the label of its space.

    Args:
        template: A file, whose name without what follows the first dot or `_` gives the label (`tpl-LABEL` of
            TemplateFlow's names, else its letters and digits); or a label of TemplateFlow.
        suffix: Kind of image.

    Raises:
        MissingError: If there is neither.
    """
    file = expanded(template)
    if file.is_file():
        named = re.match(r"tpl-([A-Za-z0-9]+)", file.name)
        return file, named[1] if named else re.sub("[^A-Za-z0-9]", "", re.split(r"[._]", file.name)[0]) or "template"
    home = Path(os.environ.get("TEMPLATEFLOW_HOME", Path.home() / ".cache" / "templateflow"))
    name = f"tpl-{template}"
    found = [home / name / f"{name}{each}_{suffix}.nii.gz" for each in ("_res-01", "")]
    for path in found:
        if path.is_file():
            return path, str(template)
    raise MissingError(f"template {template}: no such file, and no {found[0].name} in {found[0].parent}. Give a file.")


def _describe(dataset: Path, output: Path) -> None:
    facts = {
        "Name": "Images registered to a template by regzoo",
        "BIDSVersion": VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "regzoo", "Version": regzoo.__version__}],
        "DatasetLinks": {"raw": dataset.absolute().as_uri()},
    }
    write_json(output / "dataset_description.json", facts)
    for name, text in {".bidsignore": _NOT_OF_BIDS, "README": _README}.items():
        if not (output / name).exists():  # one may be its owner's
            with atomic_file(output / name) as file:
                file.write_text(text, encoding="utf-8", newline="\n")


def _about(dataset: Path, image: Path, suffix: str, space: str) -> dict[str, object]:
    """Returns what BIDS wants to be told of a moved image; its skull is there unless a JSON file of its own says so.

    That is the one beside it or, as BIDS has it inherit, one of its suffix alone in a folder above.
    """
    names = [image.with_name(f"{image.name.partition('.')[0]}.json")]
    names += [folder / f"{suffix}.json" for folder in image.parents]
    stripped = [told["SkullStripped"] for name in names if "SkullStripped" in (told := _told(dataset / name))]
    words = f"{image.name}, sampled once on the grid of {space}"
    return {"Description": words, "SkullStripped": stripped[:1] == [True]}


def _told(sidecar: Path) -> dict:
    """Returns what a JSON file says; nothing if it cannot be read, for the image can."""
    try:
        return parse_json(read_text(sidecar, _FACTS_LIMIT), str(sidecar))
    except RegzooError:
        return {}


def _write(result: Result, dataset: Path, image: Path, output: Path, suffix: str, space: str) -> None:
    """Writes what belongs to an image; the JSON file of the transform comes last: with it, the others are there."""
    if result.transform is None:
        raise InvalidError("A conditional model gives no transform. Choose a model that does.")
    stem = image.name.partition(".")[0].removesuffix(f"_{suffix}")
    moved, xfm = f"{stem}_space-{space}_desc-moved_{suffix}", f"{stem}_from-{suffix}_to-{space}_mode-image_xfm"
    common = {"Sources": [f"bids:raw:{image.as_posix()}"], "SpatialReference": space}
    with tempfile.TemporaryDirectory(prefix="regzoo-") as folder:
        kept = result.save(Path(folder) / "result")
        facts = parse_json(read_text(kept / LISTING, _FACTS_LIMIT), LISTING)
        with atomic_file(output / f"{stem}_{suffix}.html") as page:
            page.write_bytes((kept / "report.html").read_bytes())
        with atomic_folder(output / image.parent, f"{xfm}.json") as path:
            (path / f"{moved}.nii.gz").write_bytes((kept / "moved.nii.gz").read_bytes())
            result.transform.save(path / f"{xfm}.h5")
            write_json(path / f"{moved}.json", common | _about(dataset, image, suffix, space))
            del facts["files"]  # their names are others here
            describe_xfm(path / f"{xfm}.h5", common | {"Regzoo": facts})


def group(output: str | os.PathLike, suffix: str = "T1w") -> list[Row]:
    """Gathers what is known of the images of a derivatives' folder in its `group_SUFFIX.tsv`.

    Returns:
        The rows.

    Raises:
        MissingError: If the folder has no transform of such images.
    """
    output = Path(output)
    rows = [*_rows(output, suffix)]
    if not rows:
        raise MissingError(f"{output} has no sub-*_from-{suffix}_to-*_mode-image_xfm.json. First: participant.")
    write_tsv(output / f"group_{suffix}.tsv", rows)
    return rows


def _rows(output: Path, suffix: str) -> Iterator[Row]:
    for path in sorted(output.glob(f"sub-*/**/anat/*_from-{suffix}_to-*_mode-image_xfm.json")):
        facts = parse_json(read_text(path, _FACTS_LIMIT), str(path))
        told = facts.get("Regzoo")
        if not isinstance(told, dict):
            raise InvalidError(f"{path} is not from regzoo.")
        if "scores" not in told:  # converted by `regzoo transform`
            continue
        stem = path.name.partition(f"_from-{suffix}_")[0]
        row: Row = {"bids_name": f"{stem}_{suffix}", "participant_id": stem.partition("_")[0]}
        row |= {"space": facts.get("To"), "warnings": len(told["warnings"])}
        row |= {"seconds": round(sum(told["seconds"].values()), 3)}
        yield row | {key: value for key, value in figures(told).items() if key not in row}
