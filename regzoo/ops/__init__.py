"""Tensors in voxels, by keras.ops: grids, warps, fields, filters; 2-D and 3-D, any batch and channel count."""
