import itertools
import struct

import numpy as np
import pytest
from worlds import AFFINES, affine, blobs, rotation

from regzoo.images import Grid, Image
from regzoo.registration_result_stub import Result
