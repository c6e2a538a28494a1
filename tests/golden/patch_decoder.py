"""The `patch_decoder` policy in PyTorch: the reference that flowgpu's golden files are computed with.

    image [B, 3, height, width] --conv, GELU, + positions--> [B, N, d] --encoder--> memory [B, N, d]
    x_t [B, H, A] --linear, + time, + slots--> [B, H, d] --decoder over memory, linear--> velocity [B, H, A]

Built from the dictionary of a config.json; the names in `state_dict()` are the tensor names of model.safetensors.
Shapes are written with B batch, T observation frames, N patches, H action steps (chunk_size), A action dimensions,
d model width. The velocity is dx/dt for increasing t, whichever end the noise is at.
"""

import math

import torch
from torch import Tensor, nn

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


class PatchDecoder(nn.Module):
    def __init__(self, config: dict):
        super().__init__()
        self.width = width = config["d_model"]
        self.chunk_size = config["chunk_size"]
        self.action_dim = only(config["output_features"], "ACTION")["shape"][0]
        self.objective = config.get("objective", "flow")
        self.loss_reduction = config.get("loss_reduction", "valid")
        self.noise_at = config["flow"]["noise_at"]
        if config["type"] != "patch_decoder" or self.objective not in ("flow", "regression"):
            raise ValueError(f"this reference has no {config['type']!r} with objective {self.objective!r}")

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

    def forward(self, image: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """image as in `encode`, x [B, H, A], t [B] or [B, H] -> velocity [B, H, A]."""
        return self.decode(self.encode(image), x, t)

    def encode(self, image: Tensor) -> Tensor:
        """image [B, 3, height, width] or [B, T, 3, height, width] -> memory [B, N, d], once for all solver steps."""
        if image.dim() == 5:
            image = image.flatten(1, 2)
        patches = self.patch_embed(image).flatten(2).transpose(1, 2)
        return self.transformer_encoder(patches + self.pos_embed)

    def decode(self, memory: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """memory [B, N, d], x [B, H, A], t [B] or [B, H] -> velocity [B, H, A]. No attention mask anywhere."""
        if t.dim() == 1:
            t = t[:, None]  # one time for all slots
        queries = self.action_proj(x) + time_embedding(t, self.width)
        if self.action_pos_embed is not None:
            queries = queries + self.action_pos_embed
        return self.velocity_head(self.transformer_decoder(queries, memory))


def time_embedding(t: Tensor, width: int) -> Tensor:
    """t [...] -> [..., width]: entry 2i is sin(t * 10000^(-2i/width)), entry 2i+1 the cosine. t is not scaled."""
    even = torch.arange(0, width, 2, dtype=t.dtype, device=t.device)
    angle = t[..., None] * 10000.0 ** (-even / width)
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-2)


def interpolate(actions: Tensor, noise: Tensor, t: Tensor, noise_at: int) -> tuple[Tensor, Tensor]:
    """The straight path from noise to actions: the point x_t and its velocity dx/dt. t is [B] or [B, H]."""
    start, end = (noise, actions) if noise_at == 0 else (actions, noise)
    t = t.reshape(*t.shape, *[1] * (actions.dim() - t.dim()))
    return (1 - t) * start + t * end, end - start


def reduce_loss(squared: Tensor, is_pad: Tensor | None, reduction: str) -> Tensor:
    """Mean of squared errors [B, H, A]. `is_pad` [B, H] marks steps past the episode's end.

    "valid"  sum over unpadded steps, divided by how many values that are
    "zeroed" padded steps count as zero, divided by everything
    "all"    nothing is masked
    """
    if is_pad is None or reduction == "all":
        return squared.mean()
    keep = (~is_pad.bool()).to(squared.dtype)[..., None].expand_as(squared)
    if reduction == "valid":
        return (squared * keep).sum() / keep.sum().clamp(min=1)
    if reduction == "zeroed":
        return (squared * keep).mean()
    raise ValueError(f"unknown loss_reduction {reduction!r}")


def loss(model: PatchDecoder, image: Tensor, actions: Tensor, noise: Tensor, t: Tensor,
         is_pad: Tensor | None = None) -> Tensor:
    """The training loss on normalised actions [B, H, A]. A regression uses neither `noise` nor `t`."""
    if model.objective == "regression":
        error = regress(model, image) - actions
    else:
        x_t, velocity = interpolate(actions, noise, t, model.noise_at)
        error = model(image, x_t, t) - velocity
    return reduce_loss(error.square(), is_pad, model.loss_reduction)


def sample(model: PatchDecoder, image: Tensor, noise: Tensor, steps: int) -> Tensor:
    """noise [B, H, A] -> a chunk of normalised actions [B, H, A], by `steps` Euler steps from the noisy end of time."""
    if model.objective == "regression":
        return regress(model, image)
    memory = model.encode(image)
    direction = 1 if model.noise_at == 0 else -1
    x = noise
    for i in range(steps):
        t = x.new_full((len(x),), model.noise_at + direction * i / steps)
        x = x + direction / steps * model.decode(memory, x, t)
    return x


def regress(model: PatchDecoder, image: Tensor) -> Tensor:
    """One pass at x = 0 and t = noise_at is the action itself, [B, H, A]."""
    x = image.new_zeros(len(image), model.chunk_size, model.action_dim)
    return model(image, x, x.new_full((len(x),), float(model.noise_at)))


def only(features: dict, kind: str) -> dict:
    """The one feature of this kind; this reference knows one camera and one action."""
    found = [feature for feature in features.values() if feature["type"] == kind]
    if len(found) != 1 or len(features) != 1:
        raise ValueError(f"expected exactly one feature, of type {kind}, not {list(features)}")
    return found[0]
