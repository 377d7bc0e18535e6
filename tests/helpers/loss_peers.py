"""MONAI's losses, torch's and SciPy's, in this project's form: channels last, one pair, lower is better, 0 a match.

Each says by what it differs; where a name is absent, none of them has the loss.
"""

import warnings

import numpy as np
import torch
from monai.losses import (
    BendingEnergyLoss,
    DiceLoss,
    DiffusionLoss,
    GlobalMutualInformationLoss,
    LocalNormalizedCrossCorrelationLoss,
    MultiScaleLoss,
)
from scipy import ndimage
from torch.nn import functional


def _torch(array):
    """Returns (1, C, *S), float64."""
    return torch.tensor(np.moveaxis(np.asarray(array, dtype="float64"), -1, 0)[None])


def ssd(fixed, moved):
    return float(functional.mse_loss(_torch(moved), _torch(fixed)))


def lncc(fixed, moved, size=3):
    """MONAI pads with 0 and counts flat windows as 0: summed here, and divided by the windows with content."""
    loss = LocalNormalizedCrossCorrelationLoss(fixed.ndim - 1, kernel_size=size, reduction="sum", smooth_dr=1e-9)
    content = ndimage.binary_dilation((fixed != 0) | (moved != 0), np.ones((size,) * (fixed.ndim - 1) + (1,)))
    return 1 + float(loss(_torch(moved), _torch(fixed))) / content.sum()


def mi(fixed, moved):
    """MONAI takes intensities from 0 to 1, and adds 1e-7 in its logarithm unless told less."""
    return float(GlobalMutualInformationLoss(smooth_nr=1e-12, smooth_dr=1e-12)(_torch(moved), _torch(fixed)))


def _overlap(fixed, moved, scales, kernel, jaccard):
    loss = DiceLoss(jaccard=jaccard, squared_pred=True, smooth_nr=0, smooth_dr=0)
    return float(MultiScaleLoss(loss, list(scales), kernel)(_torch(fixed), _torch(moved)))


def dice(fixed, moved, scales=(0,), kernel="gaussian"):
    return _overlap(fixed, moved, scales, kernel, jaccard=False)


def jaccard(fixed, moved, scales=(0,), kernel="gaussian"):
    return _overlap(fixed, moved, scales, kernel, jaccard=True)


def cross_entropy(fixed, moved):
    """Torch weighs both sides by 1, and bounds the logarithm by -100."""
    return float(functional.binary_cross_entropy(_torch(moved), _torch(fixed))) / 2


def label_ssd(fixed, moved):
    return ssd(fixed, moved)


def centroid(fixed, moved, spacing):
    pairs = zip(np.moveaxis(fixed, -1, 0), np.moveaxis(moved, -1, 0), strict=True)
    gaps = [np.subtract(ndimage.center_of_mass(f), ndimage.center_of_mass(m)) * spacing for f, m in pairs]
    return np.mean([np.linalg.norm(gap) for gap in gaps])


def _of_field(loss, ddf):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Using a non-tuple sequence for multidimensional indexing", UserWarning)
        return float(loss(_torch(ddf)))


def gradient(ddf):
    """MONAI takes central differences of inner voxels, and sums over axes; in voxels."""
    return _of_field(DiffusionLoss(), ddf) / ddf.shape[-1]


def bending(ddf):
    """MONAI takes mixed differences of voxels two apart, and inner voxels only; in voxels."""
    return _of_field(BendingEnergyLoss(), ddf)
