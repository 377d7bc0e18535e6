"""Registration of point sets without known correspondence: iterative closest points and coherent point drift.

All points are (N, 3) in RAS mm. A result maps FIXED points to moving space, as every `Transform` does.
"""

from regzoo.points.closest_points import icp
from regzoo.points.coherent_drift import cpd
from regzoo.points.matrices import PointResult, fit_matrix
from regzoo.points.surfaces import surface

__all__ = ["PointResult", "cpd", "fit_matrix", "icp", "surface"]
