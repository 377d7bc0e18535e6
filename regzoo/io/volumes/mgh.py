"""FreeSurfer's MGH and MGZ."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import nibabel

from regzoo.io.volumes.nibabel_file import read_by, volume_of
from regzoo.io.volumes.volume import Format, Volume


@contextlib.contextmanager
def _open(path: Path) -> Iterator[Volume]:
    with read_by(nibabel.MGHImage, image=path) as image:
        yield volume_of(image, path)


MGH = Format(_open)
