"""The `patch_decoder` policy in PyTorch: the reference that flowgpu's golden files are computed with.

    image [B, 3, height, width] --conv, GELU, + positions--> [B, N, d] --encoder--> memory [B, N, d]
    x_t [B, H, A] --linear, + time, + slots--> [B, H, d] --decoder over memory, linear--> velocity [B, H, A]

Built from the dictionary of a config.json; the names in `state_dict()` are the tensor names of model.safetensors.
Shapes are written with N patches and d model width; the other letters and the conventions are those of flow.py.
"""

import math

import torch
from torch import Tensor, nn

from flow import FlowNetwork, Observation, only

LAYER_NORM_EPS = 1e-5

# The network of seed 000, without slot embedding: 287,106 parameters.
PURSUIT = {
    "type": "patch_decoder", "n_obs_steps": 1, "chunk_size": 8, "n_action_steps": 8,
    "input_features": {"observation.image": {"type": "VISUAL", "shape": [3, 128, 128]}},
    "output_features": {"action": {"type": "ACTION", "shape": [2]}},
    "normalization_mapping": {"VISUAL": "IDENTITY", "STATE": "MEAN_STD", "ACTION": "MIN_MAX"},
    "action_padding": "hold",
    "patch_size": 16, "d_model": 64, "encoder_layers": 2, "encoder_heads": 4, "decoder_layers": 2, "decoder_heads": 2,
    "dim_feedforward": 256, "dropout": 0.1, "action_pos_embed": False, "objective": "flow",
    "flow": {"noise_at": 0, "time_law": "uniform", "num_steps": 20, "solver": "euler"},
}


class PatchDecoder(FlowNetwork):
    family = "patch_decoder"

    def __init__(self, config: dict):
        super().__init__(config)
        self.width = width = config["d_model"]
        self.camera = next(iter(config["input_features"]))
        patch = config["patch_size"]
        channels, image_height, image_width = only(config["input_features"], "VISUAL")["shape"]
        layer_options = dict(
            dim_feedforward=config["dim_feedforward"],
            dropout=config.get("dropout", 0.1),
            activation="relu",
            norm_first=False,
            layer_norm_eps=LAYER_NORM_EPS,
            batch_first=True,
        )

        # Patches are numbered row by row. Frames are stacked by channel, oldest first.
        self.patch_embed = nn.Sequential(
            nn.Conv2d(config["n_obs_steps"] * channels, width, kernel_size=patch, stride=patch),
            nn.GELU(approximate="none"),
        )
        self.patch_grid = (image_height // patch, image_width // patch)
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, math.prod(self.patch_grid), width))
        self.transformer_encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(width, config["encoder_heads"], **layer_options),
            config["encoder_layers"],
            enable_nested_tensor=False,
        )

        self.action_proj = nn.Linear(self.action_dim, width)
        if config.get("action_pos_embed", False):
            self.action_pos_embed = nn.Parameter(0.02 * torch.randn(1, self.chunk_size, width))
        else:
            self.action_pos_embed = None
        self.transformer_decoder = nn.TransformerDecoder(
            nn.TransformerDecoderLayer(width, config["decoder_heads"], **layer_options),
            config["decoder_layers"],
        )
        self.velocity_head = nn.Linear(width, self.action_dim)

    def encode(self, observation: Observation) -> Tensor:
        """image [B, 3, height, width] or [B, T, 3, height, width] -> memory [B, N, d], once for all solver steps."""
        image = observation[self.camera]
        if image.dim() == 5:
            image = image.flatten(1, 2)
        patches = self.patch_embed(image).flatten(2).transpose(1, 2)
        return self.transformer_encoder(patches + self.pos_embed)

    def decode(self, memory: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """memory [B, N, d], x [B, H, A], t [B] or [B, H] -> velocity [B, H, A]. No attention mask anywhere."""
        if t.dim() == 1:
            t = t[:, None]  # one time for all slots
        queries = self.action_proj(x) + time_embedding(t, self.width).to(x.dtype)
        if self.action_pos_embed is not None:
            queries = queries + self.action_pos_embed
        return self.velocity_head(self.transformer_decoder(queries, memory))


def time_embedding(t: Tensor, width: int) -> Tensor:
    """t [...] -> [..., width]: entry 2i is sin(t * 10000^(-2i/width)), entry 2i+1 the cosine. t is not scaled."""
    even = torch.arange(0, width, 2, dtype=t.dtype, device=t.device)
    angle = t[..., None] * 10000.0 ** (-even / width)
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-2)
