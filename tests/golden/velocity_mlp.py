"""The `velocity_mlp` policy in PyTorch: the reference that flowgpu's golden files are computed with.

    layout "concat"    [x_t, time, observation] --linear, SiLU, linear, SiLU, ..., linear--> velocity
    layout "residual"  linear(x_t) + linear(observation) + time --blocks--> linear --> velocity
                       a block is x + silu(linear(silu(linear(x))))

Built from the dictionary of a config.json; the names in `state_dict()` are the tensor names of model.safetensors.
x_t and the velocity are whole chunks, [B, H, A] flattened to [B, H A], step by step. The other letters and the
conventions are those of flow.py.
"""

import math

import torch
from torch import Tensor, nn

from flow import FlowNetwork, Observation

# Seed 002, the pendulum: 71,425 parameters.
TUTORIAL = {
    "type": "velocity_mlp", "layout": "concat", "n_obs_steps": 1, "chunk_size": 1, "n_action_steps": 1,
    "input_features": {"observation.state": {"type": "STATE", "shape": [3]}},
    "output_features": {"action": {"type": "ACTION", "shape": [1]}},
    "normalization_mapping": {"STATE": "IDENTITY", "ENV": "IDENTITY", "ACTION": "IDENTITY"},
    "hidden_dim": 256, "num_layers": 3, "activation": "silu", "time_features": {"kind": "pow2", "dim": 16},
    "objective": "flow", "loss_reduction": "valid", "dropout": 0.0,
    "flow": {"noise_at": 0, "time_law": "uniform", "num_steps": 20, "solver": "euler"},
}

# Seed 004's defaults: 862,976 parameters; and its fast preset: 168,832.
CONTROLLER = TUTORIAL | {
    "layout": "residual", "chunk_size": 8, "n_action_steps": 8,
    "input_features": {"observation.state": {"type": "STATE", "shape": [287]}},
    "output_features": {"action": {"type": "ACTION", "shape": [64]}},
    "num_layers": 4, "time_features": {"kind": "sinusoid", "dim": 256, "max_period": 10000},
}
CONTROLLER_FAST = CONTROLLER | {
    "chunk_size": 4, "n_action_steps": 4, "hidden_dim": 128, "num_layers": 2,
    "time_features": {"kind": "sinusoid", "dim": 128, "max_period": 10000},
}


class VelocityMlp(FlowNetwork):
    family = "velocity_mlp"

    def __init__(self, config: dict):
        super().__init__(config)
        self.layout, width, depth = config["layout"], config["hidden_dim"], config["num_layers"]
        self.activation = {"silu": nn.functional.silu}[config["activation"]]
        self.frequencies = frequencies(**config["time_features"])
        time_width = 2 * len(self.frequencies)
        # The order of the features is the order in the file.
        inputs = {key: feature for key, feature in config["input_features"].items()
                  if feature["type"] in ("STATE", "ENV")}
        self.observed = list(inputs)
        self.n_obs_steps = config["n_obs_steps"]
        observed = self.n_obs_steps * sum(feature["shape"][0] for feature in inputs.values())
        chunk = self.chunk_size * self.action_dim

        if self.layout == "concat":
            widths = [chunk + time_width + observed, *[width] * (depth - 1), chunk]
            self.layers = nn.ModuleList(nn.Linear(*pair) for pair in zip(widths, widths[1:]))
        elif self.layout == "residual" and time_width == width:
            self.x_embed = nn.Linear(chunk, width)
            self.obs_embed = nn.Linear(observed, width)
            self.blocks = nn.ModuleList(
                nn.ModuleList([nn.Linear(width, width), nn.Linear(width, width)]) for _ in range(depth)
            )
            self.velocity_proj = nn.Linear(width, chunk)
        else:
            raise ValueError(f"no layout {self.layout!r} of width {width} with {time_width} time features")

    def encode(self, observation: Observation) -> Tensor:
        """[B, S] or [B, T, S] per feature -> [B, T sum(S)]: the features of a frame, frame by frame, oldest first."""
        return torch.cat([observation[key] for key in self.observed], dim=-1).flatten(1)

    def decode(self, memory: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """memory as from `encode`, x [B, H, A], t [B] -> velocity [B, H, A]."""
        time = self.time_features(t).to(x.dtype)
        if self.layout == "concat":
            hidden = torch.cat([x.flatten(1), time, memory], dim=-1)
            for layer in self.layers[:-1]:
                hidden = self.activation(layer(hidden))
            return self.layers[-1](hidden).view_as(x)
        hidden = self.x_embed(x.flatten(1)) + self.obs_embed(memory) + time
        for block in self.blocks:
            hidden = hidden + self.residual(block, hidden)
        return self.velocity_proj(hidden).view_as(x)

    def residual(self, block: nn.ModuleList, hidden: Tensor) -> Tensor:
        first, second = block
        return self.activation(second(self.activation(first(hidden))))

    def time_features(self, t: Tensor) -> Tensor:
        """t [B] -> [B, dim]: all sines, then all cosines. In float64, because angles reach 804 rad."""
        angle = t.double()[:, None] * self.frequencies
        return torch.cat([angle.sin(), angle.cos()], dim=-1)


def frequencies(kind: str, dim: int, max_period: float | None = None) -> Tensor:
    """dim / 2 angular frequencies.

    "pow2"      2 pi 2^k
    "harmonics" 2 pi (k + 1) / 4: k + 1 quarter turns over t in [0, 1]
    "sinusoid"  max_period^(-k / (dim / 2)), as transformers have it; t is not scaled
    """
    if dim % 2 != 0:
        raise ValueError(f"{dim} time features are no pairs of sine and cosine")
    k = torch.arange(dim // 2, dtype=torch.float64)
    if kind == "pow2":
        return 2 * math.pi * 2**k
    if kind == "harmonics":
        return 2 * math.pi * (k + 1) / 4
    if kind == "sinusoid":
        return torch.exp(-math.log(max_period) * k / (dim // 2))
    raise ValueError(f"unknown time features {kind!r}")
