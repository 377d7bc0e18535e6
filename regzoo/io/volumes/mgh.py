"""FreeSurfer's MGH and MGZ."""

from pathlib import Path

import nibabel

from regzoo.io.volumes.nibabel_file import volume_of
from regzoo.io.volumes.volume import Format, Volume


def _open(path: Path) -> Volume:
    return volume_of(path, nibabel.MGHImage.from_filename(path))


MGH = Format(_open)
