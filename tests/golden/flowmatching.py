"""The `flowmatching` policy in PyTorch and torchvision: the reference that flowgpu's golden files are computed with.

    image [B, 3, h, w] a camera --ImageNet normalisation, ViT--> class token [B, E] --all cameras, linear--> [B, d]
    state [B, S] --zeros to max_state_dim, linear--> [B, d]       [state, cameras] --three linears, ReLU--> cond [B, d]
    x_t [B, H, A] --linear--> [B, H, d], beside time [B, H, d] --linear, SiLU, linear, + slots, + cond-->
        layers over slots --linear--> velocity [B, H, A]

Built from the dictionary of a config.json; the names in `state_dict()` are the tensor names of model.safetensors.
Shapes are written with d hidden_dim, E vit_embed_dim and A max_action_dim; the other letters and the conventions are
those of flow.py. Images are at `image_size` already.
"""

import functools
import math

import torch
from torch import Tensor, nn
from torchvision.models import VisionTransformer

from flow import FlowNetwork, Observation

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
SHORTEST_PERIOD, LONGEST_PERIOD = 4e-3, 4.0

# Seed 001 with one camera, without slot embedding: 169,608,992 parameters.
SEED_001 = {
    "type": "flowmatching", "n_obs_steps": 1, "chunk_size": 50, "n_action_steps": 50,
    "input_features": {
        "observation.images.cam_1": {"type": "VISUAL", "shape": [3, 480, 640]},
        "observation.state": {"type": "STATE", "shape": [14]},
    },
    "output_features": {"action": {"type": "ACTION", "shape": [14]}},
    "normalization_mapping": {"VISUAL": "IDENTITY", "STATE": "MEAN_STD", "ACTION": "MEAN_STD"},
    "max_state_dim": 32, "max_action_dim": 32, "image_size": [224, 224], "empty_cameras": 0,
    "vision_backbone": "vit_b_16", "vit_embed_dim": 768, "vit_patch_size": 16, "vit_layers": 12, "vit_heads": 12,
    "vit_mlp_dim": 3072, "freeze_vision": False, "hidden_dim": 1024, "denoiser_layers": 6, "denoiser_heads": 8,
    "dropout": 0.1, "action_pos_embed": False, "objective": "flow",
    "flow": {"noise_at": 1, "time_law": {"beta": [1.5, 1.0], "scale": 0.999, "offset": 0.001}, "num_steps": 10,
             "solver": "euler"},
}
# The same with two: 170,395,424.
SEED_001_TWO_CAMERAS = SEED_001 | {
    "input_features": {"observation.images.cam_1": {"type": "VISUAL", "shape": [3, 480, 640]},
                       "observation.images.cam_2": {"type": "VISUAL", "shape": [3, 480, 640]},
                       "observation.state": {"type": "STATE", "shape": [14]}},
}


class FlowMatching(FlowNetwork):
    """The policy as LeRobot saves one: everything is inside `model`."""

    family = "flowmatching"

    def __init__(self, config: dict):
        super().__init__(config)
        self.action_dim = config["max_action_dim"]
        self.vision_lr_scale = config.get("vision_lr_scale", 1.0)
        self.learns_to_see = not config["freeze_vision"]
        self.model = Model(config)

    def encode(self, observation: Observation) -> Tensor:
        """One tensor a feature, a missing camera absent -> cond [B, d], once for all solver steps."""
        return self.model.encode(observation)

    def decode(self, memory: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """memory [B, d], x [B, H, A], t [B] or [B, H] -> velocity [B, H, A]."""
        return self.model.decode(memory, x, t)

    def parameter_groups(self, lr: float) -> list[dict]:
        """The vision encoder learns at lr times `vision_lr_scale`; frozen parameters are in no group."""
        vision = self.model.vision_encoder
        eyes = {id(p) for p in vision.parameters()} if vision else set()
        learning = [p for p in self.parameters() if p.requires_grad]
        groups = [{"params": [p for p in learning if id(p) not in eyes], "lr": lr},
                  {"params": [p for p in learning if id(p) in eyes], "lr": lr * self.vision_lr_scale}]
        return [group for group in groups if group["params"]]


class Model(nn.Module):
    def __init__(self, config: dict):
        super().__init__()
        width = config["hidden_dim"]
        # The order of the features is the order in the file.
        inputs = config["input_features"]
        self.cameras = [key for key, feature in inputs.items() if feature["type"] == "VISUAL"]
        self.states = [key for key, feature in inputs.items() if feature["type"] in ("STATE", "ENV")]
        self.empty_cameras = config["empty_cameras"]
        self.mask_of_missing = 0.0
        self.max_state_dim = config["max_state_dim"]
        self.time_embedding = functools.partial(time_embedding, width=width)

        self.vision_encoder = self.vision_proj = None
        if self.cameras:
            self.vision_encoder = VisionEncoder(config)
            self.vision_proj = nn.Linear(config["vit_embed_dim"] * len(self.cameras), width)
        self.state_proj = nn.Linear(self.max_state_dim, width)
        self.cond_network = nn.Sequential(
            nn.Linear(2 * width if self.cameras else width, width), nn.ReLU(),
            nn.Linear(width, width), nn.ReLU(),
            nn.Linear(width, width),
        )
        self.action_in_proj = nn.Linear(config["max_action_dim"], width)
        self.action_time_mlp_in = nn.Linear(2 * width, width)
        self.action_time_mlp_out = nn.Linear(width, width)
        if config.get("action_pos_embed", False):
            self.action_pos_embed = nn.Parameter(0.02 * torch.randn(1, config["chunk_size"], width))
        else:
            self.action_pos_embed = None
        self.denoising_network = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, config["denoiser_heads"], dim_feedforward=4 * width, dropout=config.get("dropout", 0.1),
                activation=nn.functional.gelu, batch_first=True, norm_first=False,
            )
            for _ in range(config["denoiser_layers"])
        )
        self.action_out_proj = nn.Linear(width, config["max_action_dim"])

    def encode(self, observation: Observation) -> Tensor:
        state = torch.cat([observation[key] for key in self.states], dim=-1)
        missing = self.max_state_dim - state.shape[-1]
        seen = [self.state_proj(nn.functional.pad(state, (0, missing)))]
        if self.cameras:
            seen.append(self.vision_proj(torch.cat(self.camera_features(observation), dim=-1)))
        return self.cond_network(torch.cat(seen, dim=-1))

    def camera_features(self, observation: Observation) -> list[Tensor]:
        """[B, E] a camera. One that is missing is a black picture whose feature is masked to zero."""
        present = [observation[key] for key in self.cameras if key in observation]
        if len(self.cameras) - len(present) > self.empty_cameras or not present:
            raise ValueError(f"{len(present)} of {len(self.cameras)} cameras, and {self.empty_cameras} may be missing")
        features = []
        for key in self.cameras:
            mask = 1.0 if key in observation else self.mask_of_missing
            features.append(self.vision_encoder(observation.get(key, torch.zeros_like(present[0]))) * mask)
        return features

    def decode(self, memory: Tensor, x: Tensor, t: Tensor) -> Tensor:
        if t.dim() == 1:
            t = t[:, None]  # one time for all slots
        time = self.time_embedding(t).to(x.dtype).expand(*x.shape[:2], -1)
        hidden = self.action_time_mlp_in(torch.cat([self.action_in_proj(x), time], dim=-1))
        hidden = self.action_time_mlp_out(nn.functional.silu(hidden))
        if self.action_pos_embed is not None:
            hidden = hidden + self.action_pos_embed
        hidden = hidden + memory[:, None]
        for layer in self.denoising_network:
            hidden = layer(hidden)
        return self.action_out_proj(hidden)


class VisionEncoder(nn.Module):
    """torchvision's own ViT without its classifier: pictures in [0, 1] -> class tokens."""

    def __init__(self, config: dict):
        super().__init__()
        side, other_side = config["image_size"]
        if side != other_side:
            raise ValueError("torchvision's ViT takes square pictures")
        self.vit_encoder = VisionTransformer(
            image_size=side, patch_size=config["vit_patch_size"], num_layers=config["vit_layers"],
            num_heads=config["vit_heads"], hidden_dim=config["vit_embed_dim"], mlp_dim=config["vit_mlp_dim"],
        )
        self.vit_encoder.heads = nn.Identity()
        self.mean, self.std = IMAGENET_MEAN, IMAGENET_STD
        self.requires_grad_(not config["freeze_vision"])

    def forward(self, image: Tensor) -> Tensor:
        mean, std = (image.new_tensor(values)[:, None, None] for values in (self.mean, self.std))
        return self.vit_encoder((image - mean) / std)


def time_embedding(t: Tensor, width: int) -> Tensor:
    """t [...] -> [..., width]: sines, then cosines, of 2 pi t / period, periods geometric from 4e-3 to 4.

    In float64, because angles reach 1,571 rad.
    """
    fraction = torch.linspace(0, 1, width // 2, dtype=torch.float64)
    periods = SHORTEST_PERIOD * (LONGEST_PERIOD / SHORTEST_PERIOD) ** fraction
    angle = 2 * math.pi * t.double()[..., None] / periods
    return torch.cat([angle.sin(), angle.cos()], dim=-1)
