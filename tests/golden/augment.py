"""Makes `augment.json`: what torchvision's colour changes and a resized crop do to a small picture.

    python tests/golden/augment.py > tests/golden/augment.json

Keys are those of `Golden` in src/data/augment.rs. Pictures are bytes / 255 as float32, computed in float64 and rounded to
seven digits; crops are resized as PyTorch's `interpolate` does (bilinear, align_corners false, no antialias).
"""

import json

import torch
import torchvision.transforms.functional as change

SHAPE = (3, 5, 7)


def rounded(picture: torch.Tensor) -> list[float]:
    return [round(value, 7) for value in picture.flatten().tolist()]


def crop(picture: torch.Tensor, top: int, left: int, height: int, width: int) -> torch.Tensor:
    window = picture[None, :, top:top + height, left:left + width]
    return torch.nn.functional.interpolate(window, SHAPE[1:], mode="bilinear", align_corners=False)[0]


def main():
    generator = torch.Generator().manual_seed(0)
    picture = torch.randint(0, 256, SHAPE, generator=generator, dtype=torch.uint8)
    picture[:, 0, 0] = torch.tensor([90, 90, 90])  # grey, black, white, two equal channels: hue's corners
    picture[:, 0, 1], picture[:, 0, 2] = 0, 255
    picture[:, 0, 3], picture[:, 0, 4] = torch.tensor([200, 200, 10]), torch.tensor([10, 200, 200])
    levels = picture.double() / 255
    cases = {
        "brightness": (change.adjust_brightness, [0.0, 0.7, 1.6]),
        "contrast": (change.adjust_contrast, [0.0, 0.6, 1.8]),
        "saturation": (change.adjust_saturation, [0.0, 0.5, 2.0]),
        "hue": (change.adjust_hue, [-0.5, -0.17, 0.08, 0.4]),
    }
    golden = {"shape": SHAPE, "picture": picture.flatten().tolist()}
    for name, (adjust, factors) in cases.items():
        golden[name] = [(factor, rounded(adjust(levels, factor))) for factor in factors]
    windows = [(0, 0, 4, 6), (1, 2, 4, 5), (2, 3, 1, 1)]
    golden["crop"] = [(window, rounded(crop(levels, *window))) for window in windows]
    window = (1, 0, 4, 6)
    every = change.adjust_hue(change.adjust_brightness(crop(levels, *window), 1.2), -0.3)
    every = change.adjust_contrast(change.adjust_saturation(every, 0.4), 1.5)
    golden["all"] = (window, rounded(every))
    print(json.dumps(golden))


if __name__ == "__main__":
    main()
