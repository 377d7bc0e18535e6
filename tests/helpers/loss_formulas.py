"""The losses as plain formulas in NumPy, voxel by voxel and in float64, without the code under test.

They take one pair or one field without a batch axis: `formula(fixed, moved, ...)` or `formula(ddf, ...)`.
"""

import itertools

import numpy as np

WINDOWS = {
    "box": lambda x, half: 1.0,
    "triangular": lambda x, half: half + 1.0 - abs(x),
    "gaussian": lambda x, half: np.exp(-0.5 * (x / ((2 * half + 1) / 6)) ** 2),
}


def ssd(fixed, moved):
    return ((fixed - moved) ** 2).mean()


def ncc(fixed, moved):
    return 1 - np.corrcoef(fixed.ravel(), moved.ravel())[0, 1] ** 2


def lncc(fixed, moved, size=9, window="box", floor=1e-4):
    """Goes window by window, with variances about the window's own mean."""
    half, terms = size // 2, []
    floors = floor * fixed.var(), floor * moved.var()
    for place in np.ndindex(*fixed.shape[:-1]):
        near = tuple(slice(max(0, p - half), p + half + 1) for p in place)
        offsets = np.moveaxis(np.indices(fixed.shape[:-1]), 0, -1)[near] - place
        w = np.vectorize(lambda x: WINDOWS[window](x, half))(offsets).prod(-1)[..., None]
        w, axes = w / w.sum(), tuple(range(len(place)))
        a, b = fixed[near], moved[near]
        a, b = a - (w * a).sum(axes), b - (w * b).sum(axes)
        for cov, va, vb in zip((w * a * b).sum(axes), (w * a * a).sum(axes), (w * b * b).sum(axes), strict=True):
            if va > floors[0] or vb > floors[1]:
                terms.append(1 - cov**2 / (max(va, floors[0]) * max(vb, floors[1])))
    return np.mean(terms) if terms else 1.0


def joint_histogram(fixed, moved, num_bins=23, sigma_ratio=0.5):
    """Spreads every voxel over the bins by a Gaussian."""
    histogram, centres = np.zeros((num_bins, num_bins)), np.linspace(0, 1, num_bins)
    sigma = sigma_ratio * centres[1]
    scaled = [(image.ravel() - image.min()) / (image.max() - image.min()) for image in (fixed, moved)]
    for f, m in zip(*scaled, strict=True):
        a, b = (np.exp(-((value - centres) ** 2) / (2 * sigma**2)) for value in (f, m))
        histogram += np.outer(a / a.sum(), b / b.sum())
    return histogram / fixed.size


def mi(fixed, moved, **settings):
    p = joint_histogram(fixed, moved, **settings)
    independent = np.outer(p.sum(1), p.sum(0))
    return -(p[p > 0] * np.log(p[p > 0] / independent[p > 0])).sum()


def nmi(fixed, moved, **settings):
    p = joint_histogram(fixed, moved, **settings)
    f, m, both = (-(q[q > 0] * np.log(q[q > 0])).sum() for q in (p.sum(1), p.sum(0), p))
    return 2 - (f + m) / both


def mind(fixed, moved, radius=2, dilation=2, floor=1e-3):
    (f, scale_f), (m, scale_m) = (self_similarity(image, radius, dilation, floor) for image in (fixed, moved))
    content = (scale_f > floor * scale_f.mean()) | (scale_m > floor * scale_m.mean())
    return ((f - m) ** 2).mean(-1)[content].mean()


def self_similarity(image, radius, dilation, floor):
    """Returns the descriptor (*S, C, pairs) and its scale (*S, C), patch by patch."""
    spatial = image.shape[:-1]
    dims = len(spatial)
    steps = [sign * dilation * unit for unit in np.eye(dims, dtype=int) for sign in (-1, 1)]
    pairs = [(p, q) for p, q in itertools.combinations(steps, 2) if (p * q == 0).all() and (abs(p) != abs(q)).any()]
    distance = np.empty((*image.shape, len(pairs)))
    for place in np.ndindex(*spatial):
        patch = [range(max(0, p - radius), min(n, p + radius + 1)) for p, n in zip(place, spatial, strict=True)]
        voxels = np.array(list(itertools.product(*patch)))
        for i, (p, q) in enumerate(pairs):
            a, b = (image[tuple(np.clip(voxels + step, 0, np.array(spatial) - 1).T)] for step in (p, q))
            distance[(*place, slice(None), i)] = ((a - b) ** 2).mean(0)
    distance -= distance.min(-1, keepdims=True)
    scale = distance.mean(-1)
    return np.exp(-distance / np.maximum(scale, floor * scale.mean())[..., None]), scale


def distance(known, ddf, spacing):
    return np.mean([np.hypot.reduce(gap * spacing) for gap in (known - ddf).reshape(-1, known.shape[-1])])


def blurred(labels, sigma, kernel):
    """Sums over all pairs of voxels along one axis after the other; what lies outside is 0."""
    reach = int({"gaussian": 3, "cauchy": 5}[kernel] * sigma)
    if sigma == 0:
        return labels
    x = np.arange(-reach, reach + 1) / sigma
    weights = np.exp(-(x**2) / 2) if kernel == "gaussian" else 1 / (1 + x**2)
    for axis in range(labels.ndim - 1):
        labels = np.moveaxis(labels, axis, 0)
        padded = np.concatenate([np.zeros((reach, *labels.shape[1:]))] * 2)
        padded = np.concatenate([padded[:reach], labels, padded[reach:]])
        labels = sum(w / weights.sum() * padded[i : i + len(labels)] for i, w in enumerate(weights))
        labels = np.moveaxis(labels, 0, axis)
    return labels


def over_labels(score, fixed, moved, scales=(0,), kernel="gaussian"):
    values = [
        np.mean([score(blurred(fixed, s, kernel)[..., c], blurred(moved, s, kernel)[..., c]) for s in scales])
        for c in range(fixed.shape[-1])
        if fixed[..., c].any() or moved[..., c].any()
    ]
    return np.mean(values) if values else 0.0


def dice(fixed, moved, **settings):
    return over_labels(lambda f, m: 1 - 2 * (f * m).sum() / ((f**2).sum() + (m**2).sum()), fixed, moved, **settings)


def jaccard(fixed, moved, **settings):
    def score(f, m):
        return 1 - (f * m).sum() / ((f**2).sum() + (m**2).sum() - (f * m).sum())

    return over_labels(score, fixed, moved, **settings)


def cross_entropy(fixed, moved, background_weight=0.5, **settings):
    def score(f, m):
        inside, outside = f * np.log((m + 1e-4) / 1.0001), (1 - f) * np.log((1 - m + 1e-4) / 1.0001)
        return -((1 - background_weight) * inside + background_weight * outside).mean()

    return over_labels(score, fixed, moved, **settings)


def label_ssd(fixed, moved, **settings):
    return over_labels(ssd, fixed, moved, **settings)


def centroid(fixed, moved, spacing=None):
    mm = np.array(spacing or [1.0] * (fixed.ndim - 1))
    places = np.moveaxis(np.indices(fixed.shape[:-1]), 0, -1) * mm
    distances = []
    for f, m in zip(np.moveaxis(fixed, -1, 0), np.moveaxis(moved, -1, 0), strict=True):
        if f.any() and m.any():
            a, b = ((places * label[..., None]).reshape(-1, len(mm)).sum(0) / label.sum() for label in (f, m))
            distances.append(np.linalg.norm(a - b))
    return np.mean(distances) if distances else 0.0


def _in_mm(ddf, spacing):
    mm = np.array(spacing or [1.0] * ddf.shape[-1])
    return ddf * mm, mm


def gradient(ddf, spacing=None, norm="l2"):
    u, mm = _in_mm(ddf, spacing)
    power = np.abs if norm == "l1" else np.square
    parts = [np.diff(u, axis=axis) / mm[axis] for axis in range(len(mm))]
    return sum(power(part).mean() for part in parts if part.size) / len(mm)


def bending(ddf, spacing=None):
    u, mm = _in_mm(ddf, spacing)
    total = 0.0
    for a, b in itertools.product(range(len(mm)), repeat=2):
        part = np.diff(np.diff(u, axis=a), axis=b) / (mm[a] * mm[b])
        total += (part**2).mean() if part.size else 0.0
    return total


def slopes_at_corners(ddf, spacing=None):
    """Goes corner by corner of every cell; each gives du/dx, D by D, of the edges that meet there."""
    u, mm = _in_mm(ddf, spacing)
    shape, dims = ddf.shape[:-1], len(mm)
    for cell in np.ndindex(*(max(n - 1, 1) for n in shape)):
        for corner in itertools.product(*(range(min(n, 2)) for n in shape)):
            here, slope = np.add(cell, corner), np.zeros((dims, dims))
            for axis in range(dims):
                if shape[axis] > 1:
                    there = here.copy()
                    there[axis] += 1 - 2 * corner[axis]
                    rise = u[tuple(there)] - u[tuple(here)]
                    slope[:, axis] = rise / ((there - here)[axis] * mm[axis])
            yield slope


def elastic(ddf, spacing=None, mu=1.0, lam=1.0):
    strains = [(slope + slope.T) / 2 for slope in slopes_at_corners(ddf, spacing)]
    return np.mean([mu * (e * e).sum() + lam / 2 * np.trace(e) ** 2 for e in strains])


def folding(ddf, margin=0.0):
    dets = [np.linalg.det(np.eye(ddf.shape[-1]) + slope) for slope in slopes_at_corners(ddf)]
    return np.mean(np.maximum(0, margin - np.array(dets)))
