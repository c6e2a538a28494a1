"""Makes the goldens of chunks that go on from planned actions: `realtime/<case>.safetensors`.

    python tests/golden/realtime.py --out tests/golden/realtime

Networks, parameters and inputs are drawn as generate.py draws them; everything is computed in float64. Each file holds,
for samples that differ in how many actions are planned and how many of these cannot be changed any more,

    x_t, t, e                        a point, and a vector [B, H, A]
    planned, known, delay            the plan [B, H, A] (zeros behind `known`), and the two numbers [B]
    max_weight                       the largest weight of the correction [1]
    expect/velocity, expect/pulled   v(x_t, t), and (dv/dx)^T e by autograd
    expect/guided                    a sample by inference-time real-time chunking (arXiv 2506.07339)
    expect/prefix                    a sample with its first actions given (arXiv 2512.05964), for networks with slots

The guided sample differentiates the denoised action, not the velocity: autograd sees the whole of x -> x + (1 - t) v.
"""

import argparse
import math
from pathlib import Path

import torch
from torch import Tensor

from flow import FlowNetwork, Observation, interpolate
from generate import ADAMW, PI0_TIME, Golden, build, flow, mlp, observed, residual_mlp, save, shake, small, vit

MAX_WEIGHT = 5.0

# Chunks of six actions each, in both conventions.
CASES = {
    "image": small((16, 16), (6, 2), d_model=16, encoder_heads=2, decoder_heads=2, dim_feedforward=24,
                   flow=flow(num_steps=5)),
    "camera": vit(["cam_1"], vit_patch_size=4, vit_heads=2, vit_embed_dim=16, vit_mlp_dim=24, chunk_size=6,
                  n_action_steps=6, action_pos_embed=True, flow=flow(1, num_steps=5, time_law=PI0_TIME)),
    "concat": mlp({"observation.state": 4}, (6, 2), hidden_dim=24, flow=flow(num_steps=5)),
    "residual": residual_mlp({"observation.state": 3}, (6, 2), hidden_dim=16, num_layers=1,
                             time_features={"kind": "sinusoid", "dim": 16, "max_period": 10000},
                             flow=flow(1, num_steps=7)),
}
FIRST_SEED = 100


def soft_mask(slots: int, known: int, delay: int) -> Tensor:
    """Equation 5: 1 for what cannot be changed, then c (e^c - 1) / (e - 1), 0 where nothing is planned."""
    slot = torch.arange(slots, dtype=torch.float64)
    c = ((known - slot) / (known - delay + 1)).clamp(0, 1)
    c = torch.where(slot < delay, torch.ones_like(c), c)
    return c * torch.expm1(c) / (math.e - 1)


def guided(network: FlowNetwork, observation: Observation, noise: Tensor, steps: int, planned: Tensor,
           mask: Tensor, max_weight: float) -> Tensor:
    """noise [B, H, A], planned [B, H, A], mask [B, H] -> a chunk: Euler steps of u + weight (da/dx)^T mask (Y - a)."""
    memory = network.encode(observation)
    x = noise
    for step in range(steps):
        tau = step / steps
        x = x.detach().requires_grad_()
        t = torch.full((len(x),), tau if network.noise_at == 0 else 1 - tau, dtype=torch.float64)
        # u runs from noise to action in both conventions.
        u = network.decode(memory, x, t) * (1 if network.noise_at == 0 else -1)
        action = x + (1 - tau) * u
        error = (planned - action) * mask[..., None]
        pulled, = torch.autograd.grad(action, x, error.detach())
        r2 = (1 - tau) ** 2 / (tau**2 + (1 - tau) ** 2)
        weight = min(max_weight, (1 - tau) / (tau * r2)) if tau > 0 else max_weight
        x = x + (u + weight * pulled) / steps
    return x.detach()


def behind_prefix(network: FlowNetwork, observation: Observation, noise: Tensor, steps: int, planned: Tensor,
                  delay: Tensor) -> Tensor:
    """noise [B, H, A], planned [B, H, A], delay [B] -> a chunk that begins with planned actions."""
    memory = network.encode(observation)
    given = torch.arange(noise.shape[1]) < delay[:, None]
    x = noise
    for step in range(steps):
        tau = step / steps
        x = torch.where(given[..., None], planned, x)
        t = torch.full(given.shape, tau if network.noise_at == 0 else 1 - tau, dtype=torch.float64)
        t = torch.where(given, torch.full_like(t, 1 - network.noise_at), t)
        u = network.decode(memory, x, t) * (1 if network.noise_at == 0 else -1)
        x = x + u / steps
    return torch.where(given[..., None], planned, x)


def make(config: dict, seed: int) -> Golden:
    torch.manual_seed(seed)
    has_slots = config["type"] != "velocity_mlp"
    if has_slots:
        config = config | {"rtc_training_max_delay": 4}
    model = build(config)
    shake(model)
    batch, slots, dims = 4, model.chunk_size, model.action_dim
    known, delay = torch.tensor([6, 4, 3, 1]), torch.tensor([2, 4, 0, 1])

    tensors = {f"param/{name}": p for name, p in model.state_dict().items()}
    for key, feature in config["input_features"].items():
        if feature["type"] == "VISUAL" and "image_size" in config:
            feature = feature | {"shape": [3, *config["image_size"]]}
        tensors[f"obs/{key}"] = observed(feature, batch, config["n_obs_steps"])
    actions = torch.rand(batch, slots, dims) * 2 - 1
    tensors["t"] = torch.rand(batch)
    tensors["x_t"], _ = interpolate(actions, torch.randn(batch, slots, dims), tensors["t"], model.noise_at)
    tensors["e"] = torch.randn(batch, slots, dims)
    tensors["sample_noise"] = torch.randn(batch, slots, dims)
    planned = torch.rand(batch, slots, dims) * 2 - 1
    tensors["planned"] = planned * (torch.arange(slots) < known[:, None])[..., None]
    tensors |= {"known": known, "delay": delay, "max_weight": torch.tensor([MAX_WEIGHT])}

    model = model.double().eval()
    wide = {name: tensor.double() for name, tensor in tensors.items()}
    observation = {key: wide[f"obs/{key}"] for key in config["input_features"]}
    steps = config["flow"]["num_steps"]
    x = wide["x_t"].requires_grad_()
    velocity = model(observation, x, wide["t"])
    tensors["expect/pulled"], = torch.autograd.grad(velocity, x, wide["e"])
    tensors["expect/velocity"] = velocity.detach()
    mask = torch.stack([soft_mask(slots, int(k), int(d)) for k, d in zip(known, delay)])
    noise, planned = wide["sample_noise"], wide["planned"]
    tensors["expect/guided"] = guided(model, observation, noise, steps, planned, mask, MAX_WEIGHT)
    if has_slots:
        with torch.no_grad():
            tensors["expect/prefix"] = behind_prefix(model, observation, noise, steps, planned, delay)
    return Golden(config, {"name": "euler", "steps": steps}, ADAMW, None,
                  {name: tensor.detach() for name, tensor in tensors.items()})


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "realtime", help="folder of the files")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.backends.mha.set_fastpath_enabled(False)
    arguments.out.mkdir(exist_ok=True)
    for seed, (name, config) in enumerate(CASES.items(), start=FIRST_SEED):
        golden = make(config, seed)
        size = save(golden, arguments.out / f"{name}.safetensors")
        moved = (golden.tensors["expect/guided"] - golden.tensors["planned"])[0, :2].abs().max().item()
        print(f"{name:<10} {size / 1024:6.1f} KiB  guided within {moved:.3f} of the plan it cannot change")


if __name__ == "__main__":
    main()
