"""Registration of point sets without known correspondence: iterative closest points and coherent point drift.

All points are (N, 3) in RAS mm. A result maps FIXED points to moving space, as every `Transform` does.
"""

from regzoo.pointsets.closest import icp
from regzoo.pointsets.drift import cpd
from regzoo.pointsets.matrices import PointResult, fit_matrix
from regzoo.pointsets.surfaces import surface

__all__ = ["PointResult", "cpd", "fit_matrix", "icp", "surface"]
