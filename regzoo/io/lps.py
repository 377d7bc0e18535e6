"""Between RAS and the LPS of ITK: x and y change their signs."""

import numpy as np

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""RAS to ITK's LPS and back, as a matrix (4, 4)."""
FLIP = np.array([-1, -1, 1], dtype=np.float32)
"""The same for vectors (*S, 3)."""
