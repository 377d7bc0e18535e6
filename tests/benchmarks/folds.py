"""Prints the golden values of tests/world/test_jacobians.py: what digital-diffeomorphism says of its fields.

pip install digital-diffeomorphism==1.1.1        # asks for NumPy 1, but runs under NumPy 2 (--no-deps)
PYTHONPATH=tests/world:tests/helpers python tests/benchmarks/folds.py
"""

import numpy as np
from digital_diffeomorphism.core import nda, ndv
from digital_diffeomorphism.jacobian_calculator_torch import calc_jacdets_2d, calc_jacdets_3d
from digital_diffeomorphism.utils import identity_grid_like
from test_jacobians import GOLDEN, field

for shape, scale, *_ in GOLDEN:
    voxels = field(shape, scale)
    determinants, volume = (calc_jacdets_3d, ndv) if len(shape) == 3 else (calc_jacdets_2d, nda)
    found = determinants(voxels + identity_grid_like(voxels), "cpu")
    strict = np.any([values <= 0 for name, values in found.items() if "0" not in name], axis=0)
    central = found["0" * len(shape)][(slice(1, -1),) * len(shape)] <= 0
    print(shape, scale, strict.sum(), volume(voxels, is_disp=True)[0], central.sum())
