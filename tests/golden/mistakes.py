"""Mistakes that the goldens must catch.

Each puts one mistake into a correct network or its settings, and returns False where there is no place for it. They
exist in memory only, here as in the Rust tests.
"""

import functools
import math
from dataclasses import dataclass
from typing import Callable

import torch
from torch import nn

from flow import FlowNetwork, Solver
from flowmatching import FlowMatching
from patch_decoder import PatchDecoder
from velocity_mlp import VelocityMlp


@dataclass
class Settings:
    """What is computed with, beside the network."""

    optimizer: dict
    solver: Solver
    guidance: dict | None


Spoil = Callable[[FlowNetwork, Settings], bool | None]


def only_in(family: type[FlowNetwork]) -> Callable[[Spoil], Spoil]:
    """A mistake that networks of other families have no place for."""
    def decorate(spoil: Spoil) -> Spoil:
        @functools.wraps(spoil)
        def spoil_if(model: FlowNetwork, settings: Settings):
            return spoil(model, settings) if isinstance(model, family) else False
        return spoil_if
    return decorate


def spoil_weight(model, _):
    """One weight, deep inside, is off by 0.01."""
    if isinstance(model, PatchDecoder):
        layer = model.transformer_encoder.layers[0].self_attn.out_proj
    elif isinstance(model, FlowMatching):
        layer = model.model.denoising_network[0].self_attn.out_proj
    else:
        layer = model.layers[1] if model.layout == "concat" else model.blocks[0][1]
    layer.weight.data[0, 0] += 0.01


@only_in(PatchDecoder)
def spoil_norm_eps(model, _):
    """Layer norms use eps 1e-6, as in a ViT, for 1e-5."""
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-6


@only_in(PatchDecoder)
def spoil_gelu(model, _):
    """The GELU is the tanh approximation."""
    model.patch_embed[1].approximate = "tanh"


@only_in(PatchDecoder)
def spoil_patch_order(model, _):
    """Patches are numbered column by column."""
    rows, columns = model.patch_grid
    model.pos_embed.data = model.pos_embed.data.unflatten(1, (rows, columns)).transpose(1, 2).flatten(1, 2)


@only_in(PatchDecoder)
def spoil_slots(model, _):
    """The slot embedding is forgotten."""
    if model.action_pos_embed is None:
        return False
    model.action_pos_embed.data.zero_()


@only_in(PatchDecoder)
def spoil_pre_norm(model, _):
    """Layer norms stand before the blocks instead of after them."""
    for layer in layers(model):
        layer.norm_first = True


@only_in(PatchDecoder)
def spoil_heads(model, _):
    """Attention is split into twice as many heads of half the width."""
    for module in model.modules():
        if isinstance(module, nn.MultiheadAttention):
            module.num_heads *= 2
            module.head_dim //= 2


def spoil_activation(model, _):
    """The activation between linear layers is GELU, for ReLU or SiLU; ReLU for GELU."""
    if isinstance(model, FlowMatching):
        for layer in model.model.denoising_network:
            layer.activation = nn.functional.relu
        return
    for module in layers(model) if isinstance(model, PatchDecoder) else [model]:
        module.activation = nn.functional.gelu


@only_in(FlowMatching)
def spoil_vit_norm_eps(model, _):
    """The ViT's layer norms use eps 1e-5, as the denoiser's do, for 1e-6."""
    if not model.model.cameras:
        return False
    for module in model.model.vision_encoder.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-5


@only_in(FlowMatching)
def spoil_denoiser_eps(model, _):
    """The denoiser's layer norms use eps 1e-6, as the ViT's do, for 1e-5."""
    for module in model.model.denoising_network.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-6


@only_in(FlowMatching)
def spoil_fm_gelu(model, _):
    """The GELUs are the tanh approximation."""
    for module in model.modules():
        if isinstance(module, nn.GELU):
            module.approximate = "tanh"
    for layer in model.model.denoising_network:
        layer.activation = functools.partial(nn.functional.gelu, approximate="tanh")


@only_in(FlowMatching)
def spoil_pixels(model, _):
    """Pictures stay in [0, 1], without ImageNet's mean and deviation."""
    if not model.model.cameras:
        return False
    model.model.vision_encoder.mean, model.model.vision_encoder.std = (0.0,) * 3, (1.0,) * 3


@only_in(FlowMatching)
def spoil_camera_order(model, _):
    """Cameras are concatenated by name, not in the order of the config."""
    if model.model.cameras == sorted(model.model.cameras):
        return False
    model.model.cameras.sort()


@only_in(FlowMatching)
def spoil_missing_mask(model, _):
    """What the ViT makes of a black picture stands for a missing camera."""
    if not model.model.empty_cameras:
        return False
    model.model.mask_of_missing = 1.0


@only_in(FlowMatching)
def spoil_condition_order(model, _):
    """The condition network is given the cameras first, then the state."""
    if not model.model.cameras:
        return False
    first = model.model.cond_network[0]
    first.weight.data = first.weight.data.roll(first.out_features, dims=1)


@only_in(FlowMatching)
def spoil_fm_slots(model, _):
    """The slot embedding is forgotten."""
    if model.model.action_pos_embed is None:
        return False
    model.model.action_pos_embed.data.zero_()


@only_in(FlowMatching)
def spoil_sinus(model, _):
    """Sines and cosines of time take turns, instead of all sines first."""
    right = model.model.time_embedding
    model.model.time_embedding = lambda t: torch.stack(right(t).chunk(2, dim=-1), dim=-1).flatten(-2)


@only_in(FlowMatching)
def spoil_turns(model, _):
    """Angles are t / period, without the factor 2 pi."""
    right = model.model.time_embedding
    model.model.time_embedding = lambda t: right(t / (2 * math.pi))


@only_in(FlowMatching)
def spoil_fm_pre_norm(model, _):
    """The denoiser's layer norms stand before its blocks instead of after them."""
    for layer in model.model.denoising_network:
        layer.norm_first = True


@only_in(FlowMatching)
def spoil_real_dims(model, _):
    """The loss counts the padding of the actions where it should not, or leaves it out where it counts."""
    if model.loss_reduction != "valid" or model.real_action_dim == model.action_dim:
        return False
    model.real_action_dim = model.action_dim


@only_in(FlowMatching)
def spoil_vision_lr(model, _):
    """The vision encoder learns at the rate of everything else."""
    if model.vision_lr_scale == 1:
        return False
    model.vision_lr_scale = 1.0


@only_in(FlowMatching)
def spoil_frozen(model, _):
    """A frozen vision encoder learns."""
    if not model.model.cameras or model.learns_to_see:
        return False
    model.model.vision_encoder.requires_grad_()


@only_in(VelocityMlp)
def spoil_last_activation(model, _):
    """A residual block ends with its second linear layer."""
    if model.layout != "residual":
        return False
    model.residual = lambda block, hidden: block[1](model.activation(block[0](hidden)))


@only_in(VelocityMlp)
def spoil_time_order(model, _):
    """Sines and cosines take turns, instead of all sines first."""
    right = model.time_features
    model.time_features = lambda t: torch.stack(right(t).chunk(2, dim=-1), dim=-1).flatten(1)


@only_in(VelocityMlp)
def spoil_frequencies(model, _):
    """Each frequency is one further down the list, as when counting from 1 for 0 or from 0 for 1."""
    model.frequencies = model.frequencies.roll(1)


@only_in(VelocityMlp)
def spoil_feature_order(model, _):
    """State vectors are concatenated by name, not in the order of the config."""
    if len(model.observed) == 1:
        return False
    model.observed.sort()


@only_in(VelocityMlp)
def spoil_frame_order(model, _):
    """Of two frames, all of one feature comes before the next feature."""
    if model.n_obs_steps == 1 or len(model.observed) == 1:
        return False
    model.encode = lambda observation: torch.cat([observation[key].flatten(1) for key in model.observed], dim=-1)


@only_in(VelocityMlp)
def spoil_chunk_order(model, _):
    """Chunks are flattened dimension by dimension, not step by step."""
    if model.chunk_size == 1 or model.action_dim == 1:
        return False
    right = model.decode
    model.decode = lambda memory, x, t: right(memory, x.transpose(1, 2), t).transpose(1, 2)


def spoil_reduction(model, _):
    """The loss masks nothing, or masks where nothing is masked."""
    model.loss_reduction = "valid" if model.loss_reduction == "all" else "all"


def spoil_noise_end(model, _):
    """Noise is taken to be at the other end of time."""
    model.noise_at = 1 - model.noise_at


def spoil_second_pass(model, _):
    """A MIP samples in one pass."""
    if model.objective != "mip":
        return False
    model.objective = "regression"


def spoil_solver(model, settings):
    """Every solver is Euler."""
    if model.objective != "flow" or settings.solver.name == "euler":
        return False
    settings.solver.name = "euler"


def spoil_stage_time(model, settings):
    """All stages of a step stand at its first time: Heun's k2 at the old one."""
    if model.objective != "flow" or settings.solver.name == "euler":
        return False
    right = settings.solver.progress
    settings.solver.progress = lambda step, node: right(step, 0)


def spoil_guidance(_, settings):
    """Guidance of scale g is v_c + g (v_c - v_u)."""
    if settings.guidance is None:
        return False
    settings.guidance["scale"] += 1


def spoil_decay(_, settings):
    """Weight decay is added to the gradient (Adam with L2) instead of taken from the weights (AdamW)."""
    if settings.optimizer["weight_decay"] == 0:
        return False
    settings.optimizer["name"] = "adam"


def spoil_clipping(_, settings):
    """Gradients are not clipped."""
    if settings.optimizer["grad_clip_norm"] is None:
        return False
    settings.optimizer["grad_clip_norm"] = None


def layers(model: PatchDecoder) -> list[nn.Module]:
    return [*model.transformer_encoder.layers, *model.transformer_decoder.layers]


# A mistake, and the quantity that must fail for it.
SPOILS = {
    spoil_weight: "velocity", spoil_norm_eps: "velocity", spoil_gelu: "velocity", spoil_patch_order: "velocity",
    spoil_slots: "velocity", spoil_pre_norm: "velocity", spoil_heads: "velocity", spoil_activation: "velocity",
    spoil_last_activation: "velocity", spoil_time_order: "velocity", spoil_frequencies: "velocity",
    spoil_feature_order: "velocity", spoil_frame_order: "velocity", spoil_chunk_order: "velocity",
    spoil_vit_norm_eps: "velocity", spoil_denoiser_eps: "velocity", spoil_fm_gelu: "velocity",
    spoil_pixels: "velocity", spoil_camera_order: "velocity", spoil_missing_mask: "velocity",
    spoil_condition_order: "velocity", spoil_fm_slots: "velocity", spoil_sinus: "velocity", spoil_turns: "velocity",
    spoil_fm_pre_norm: "velocity", spoil_real_dims: "loss", spoil_vision_lr: "param_after",
    spoil_frozen: "param_after", spoil_noise_end: "sample", spoil_second_pass: "sample", spoil_solver: "sample", spoil_stage_time: "sample",
    spoil_guidance: "sample", spoil_reduction: "loss", spoil_decay: "param_after", spoil_clipping: "param_after",
}
