"""What `tests/benchmarks/speed.py --peers` times beside ours: torch's `grid_sample` and MONAI, channels first."""

import warnings

import torch
from monai.losses import BendingEnergyLoss, GlobalMutualInformationLoss, LocalNormalizedCrossCorrelationLoss
from monai.networks.blocks import DVF2DDF, Warp
from monai.networks.nets import VoxelMorphUNet
from torch.nn import functional

warnings.filterwarnings("ignore", "monai.networks.blocks.Warp: Using PyTorch native grid_sample", UserWarning)
warnings.filterwarnings("ignore", "Using a non-tuple sequence for multidimensional indexing", UserWarning)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def tensor(array):
    """Returns (B, C, *S) of (B, *S, C)."""
    return torch.tensor(array).movedim(-1, 1).contiguous().to(DEVICE)


def grid_sample(image, ddf):
    """Warps by `grid_sample`, with the preparation of coordinates that anyone has to make: a grid, scaled, reversed."""
    spatial = ddf.shape[2:]
    steps = torch.meshgrid(*(torch.arange(n, dtype=ddf.dtype, device=ddf.device) for n in spatial), indexing="ij")
    size = torch.tensor(image.shape[2:], dtype=ddf.dtype, device=ddf.device)
    places = ddf.movedim(1, -1) + torch.stack(steps, dim=-1)
    places = (places * (2 / (size - 1)) - 1).flip(-1)
    return functional.grid_sample(image, places, padding_mode="border", align_corners=True)


def with_gradient(function):
    """Returns a function that gives the gradient of `sum(function(x, *others))` with respect to x."""

    def step(x, *others):
        x = x.detach().requires_grad_()
        return torch.autograd.grad(function(x, *others).sum(), x)[0]

    return step


def forward(function):
    def step(*tensors):
        with torch.no_grad():
            return function(*tensors)

    return step


FUNCTIONS = {
    "warp": lambda ddf, image: grid_sample(image, ddf),
    "warp, MONAI": lambda ddf, image: Warp(padding_mode="border")(image, ddf),
    "integrate": lambda velocity: DVF2DDF(padding_mode="border")(velocity),
    "lncc": lambda moved, fixed: LocalNormalizedCrossCorrelationLoss(kernel_size=9)(moved, fixed),
    "mi": lambda moved, fixed: GlobalMutualInformationLoss()(moved, fixed),
    "bending": lambda ddf: BendingEnergyLoss()(ddf),
}


def training_step():
    """Returns a step of VoxelMorph's network of 2018 on a pair: LNCC and bending, Adam."""
    network = VoxelMorphUNet(3, 2, 16, (16, 32, 32, 32, 32, 32), (16, 16), use_maxpool=False).to(DEVICE)
    last = [layer for layer in network.modules() if isinstance(layer, torch.nn.Conv3d)][-1]  # whose output is the field
    for weights in last.parameters():
        torch.nn.init.zeros_(weights)
    optimiser = torch.optim.Adam(network.parameters(), 1e-4)

    def step(fixed, moving):
        ddf = network(torch.cat([fixed, moving], dim=1))
        loss = FUNCTIONS["lncc"](grid_sample(moving, ddf), fixed) + FUNCTIONS["bending"](ddf)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return loss.detach()

    return step
