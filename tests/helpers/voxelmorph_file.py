"""A VoxelMorph network of 2018 as Keras 2 wrote it, and what it computes, in NumPy and apart from the package."""

import json

import h5py
import numpy as np

ENCODER, DECODER = (3, 4), (5, 4, 3, 3, 2)


def describe(encoder=ENCODER, decoder=DECODER, shape=(16, 24, 8)):
    """Returns the layers as Keras 2's JSON has them, and for each convolution its name and its kernel's shape."""
    layers, shapes = [], []

    def add(kind, name, *sources, **settings):
        nodes = [[[source, 0, 0, {}] for source in sources]] if sources else []
        layers.append({"class_name": kind, "name": name, "config": {"name": name, **settings}, "inbound_nodes": nodes})
        return name

    def step(x, width, filters, stride=1):
        name = f"conv3d_{len(shapes) + 245}"
        shapes.append((name, (3, 3, 3, width, filters)))
        same = {"kernel_size": [3] * 3, "padding": "same", "use_bias": True, "activation": "linear"}
        add("Conv3D", name, x, filters=filters, strides=[stride] * 3, data_format="channels_last", **same)
        return add("LeakyReLU", name.replace("conv3d", "leaky_re_lu"), name, alpha=0.20000000298023224)

    for name in ("input_51", "input_52"):
        add("InputLayer", name, batch_input_shape=[None, *shape, 1])
    x = add("Concatenate", "concatenate_126", "input_51", "input_52", axis=-1)
    skips, width = [(x, 2)], 2
    for filters in encoder:
        x, width = step(x, width, filters, stride=2), filters
        skips.append((x, width))
    depth, left = len(encoder), list(decoder)
    skips.pop()
    for level in range(depth, -1, -1):
        if level < depth:
            skip, more = skips.pop()
            up = add("UpSampling3D", f"up_sampling3d_{level}", x, size=[2, 2, 2], data_format="channels_last")
            x, width = add("Concatenate", f"concatenate_{127 + level}", up, skip, axis=-1), width + more
        for _ in range({0: len(left), 1: 2}.get(level, 1)):
            filters = left.pop(0)
            x, width = step(x, width, filters), filters
    shapes.append(("flow", (3, 3, 3, width, 3)))
    settings = layers[-2]["config"] | {"name": "flow", "filters": 3, "strides": [1, 1, 1]}
    add("Conv3D", "flow", x, **{key: value for key, value in settings.items() if key != "name"})
    add("SpatialTransformer", "spatial_transformer_27", "input_51", "flow")
    return layers, shapes


def write(path, layers, shapes, seed=0):
    """Writes the file with random weights."""
    random = np.random.default_rng(seed)
    with h5py.File(path, "w") as file:
        model = {"layers": layers, "input_layers": [], "output_layers": []}
        file.attrs["model_config"] = np.bytes_(json.dumps({"class_name": "Model", "config": model}).encode())
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = [layer["name"].encode() for layer in layers]
        for layer in layers:
            group.create_group(layer["name"]).attrs["weight_names"] = np.array([], "S")
        for name, shape in shapes:
            # A layer called flow keeps its arrays under the number of its building, as in the published files.
            inner = f"{name}_33" if name == "flow" else name
            group[name].attrs["weight_names"] = [f"{inner}/kernel:0".encode(), f"{inner}/bias:0".encode()]
            scale = 1 / np.sqrt(14 * shape[3])
            group[name][f"{inner}/kernel:0"] = random.normal(0, scale, shape).astype("float32")
            group[name][f"{inner}/bias:0"] = random.normal(0, 0.1, shape[-1:]).astype("float32")
    return path


def convolutions(path):
    """Returns (kernel, bias) of every convolution, in the file's order."""
    found = []
    with h5py.File(path) as file:
        group = file["model_weights"]
        for name in group.attrs["layer_names"]:
            names = group[name].attrs["weight_names"]
            if len(names):
                found.append([group[name][each][()] for each in names])
    return found


def field(path, moving, fixed, depth):
    """Returns the field (*S, 3) that the network of a file gives for two volumes (*S,)."""
    weights = iter(convolutions(path))

    def step(x, stride=1, slope=0.2):
        kernel, bias = next(weights)
        sizes = [n // stride for n in x.shape[:3]]
        # Three voxels wide: one is padded on both sides; with stride 2 and even sizes, TensorFlow pads behind alone.
        x = np.pad(x, [(1, 1) if stride == 1 else (0, 1)] * 3 + [(0, 0)])
        total = np.zeros((*sizes, len(bias)), "float32") + bias
        for place in np.ndindex(3, 3, 3):
            cut = tuple(slice(start, start + stride * n, stride) for start, n in zip(place, sizes, strict=True))
            total += x[cut] @ kernel[place]
        return np.where(total > 0, total, slope * total)

    x = pair = np.stack([moving, fixed], axis=-1).astype("float32")
    skips = [pair]
    for _ in range(depth):
        x = step(x, stride=2)
        skips.append(x)
    skips.pop()
    x = step(step(x)) if depth == 1 else step(x)
    while skips:
        for axis in range(3):
            x = x.repeat(2, axis=axis)
        x = step(np.concatenate([x, skips.pop()], axis=-1))
        x = step(x) if len(skips) == 1 else x
    for _ in range(len(convolutions(path)) - 2 * depth - 3):
        x = step(x)
    return step(x, slope=1.0)
