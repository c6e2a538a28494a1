"""Makes `vision/resize.safetensors` and `vision/positions.safetensors`: what PyTorch's resizing does.

    python tests/golden/resize.py --out tests/golden/vision

resize     `<from>_to_<to>/{input,expect}`, [3, H, W] in [0, 1]: `torch.nn.functional.interpolate`, bilinear,
           align_corners false, no antialias; names are heights and widths
positions  `<from>_to_<to>/{input,expect}`, [1, 1 + N, 8]: torchvision's `interpolate_embeddings`, bicubic with
           align_corners true over a square of patches; the class token's stays

Inputs are float32 numbers, and everything is computed from them in float64.
"""

import argparse
from collections import OrderedDict
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from torchvision.models.vision_transformer import interpolate_embeddings

SIZES = [  # down, up, one way each, to and from a point, as it is, an exact half, a camera's ratio
    ((17, 23), (8, 9)), ((5, 7), (13, 16)), ((9, 31), (14, 10)), ((7, 5), (1, 1)), ((1, 1), (4, 3)),
    ((1, 6), (5, 2)), ((11, 13), (11, 13)), ((12, 18), (6, 9)), ((48, 64), (32, 32)),
]
SQUARES = [(14, 8), (4, 7), (3, 1), (5, 5)]  # patches a side
POSITION_WIDTH = 8


def resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    """[3, H, W] -> [3, *size]."""
    return torch.nn.functional.interpolate(image[None], size=size, mode="bilinear", align_corners=False)[0]


def interpolate_positions(positions: Tensor, side: int) -> Tensor:
    """[1, 1 + N, E] -> [1, 1 + side², E]. torchvision is told a patch of one pixel."""
    state = OrderedDict({"encoder.pos_embedding": positions})
    return interpolate_embeddings(image_size=side, patch_size=1, model_state=state)["encoder.pos_embedding"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "vision", help="folder of the files")
    out = parser.parse_args().out
    out.mkdir(exist_ok=True)
    torch.manual_seed(0)

    images = {}
    for (height, width), size in SIZES:
        name = f"{height}x{width}_to_{size[0]}x{size[1]}"
        images[f"{name}/input"] = torch.rand(3, height, width)
        images[f"{name}/expect"] = resize(images[f"{name}/input"].double(), size)
    write(images, out / "resize.safetensors")

    positions = {}
    for old, new in SQUARES:
        positions[f"{old}_to_{new}/input"] = torch.randn(1, 1 + old * old, POSITION_WIDTH)
        positions[f"{old}_to_{new}/expect"] = interpolate_positions(positions[f"{old}_to_{new}/input"].double(), new)
    write(positions, out / "positions.safetensors")


def write(tensors: dict[str, Tensor], file: Path):
    save_file({name: tensor.float().contiguous() for name, tensor in tensors.items()}, file)
    largest = max(tensor.abs().max().item() for tensor in tensors.values())
    print(f"{file.name:<24} {len(tensors) // 2:>3} sizes  {file.stat().st_size / 1024:6.1f} KiB  largest {largest:.3f}")


if __name__ == "__main__":
    main()
