"""What every policy's reference has in common: the path, the losses, the solvers and guidance.

A network is a `FlowNetwork`: `encode(observation)` gives what is computed once per chunk, `decode(memory, x, t)` the
velocity. An observation is a dictionary of normalised tensors by feature key. Shapes are written with B batch,
T observation frames, H action steps (chunk_size), A action dimensions. The velocity is dx/dt for increasing t,
whichever end the noise is at; under the objectives `regression` and `mip` the network's output is the action itself.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

Observation = dict[str, Tensor]

# The two-pass policy (MIP, arXiv 2512.01809): its second pass stands 0.9 of the way from noise to action.
MIP_SIGNAL, MIP_NOISE = 0.9, 0.1
MIP_LOSS_SCALE = 0.1


class FlowNetwork(nn.Module):
    """What the functions below read from a network, whatever its family."""

    family: str  # `type` in config.json

    def __init__(self, config: dict):
        super().__init__()
        self.chunk_size = config["chunk_size"]
        # Chunks may be wider than the robot's action; what stands beyond counts as padding in the loss "valid".
        self.action_dim = self.real_action_dim = only(config["output_features"], "ACTION")["shape"][0]
        self.objective = config.get("objective", "flow")
        self.loss_reduction = config.get("loss_reduction", "valid")
        self.noise_at = config["flow"]["noise_at"]
        if config["type"] != self.family or self.objective not in ("flow", "regression", "mip"):
            raise ValueError(f"{self.family} is no {config['type']!r} with objective {self.objective!r}")

    def forward(self, observation: Observation, x: Tensor, t: Tensor) -> Tensor:
        """x [B, H, A], t [B] (or [B, H] where the family has slots) -> velocity [B, H, A]."""
        return self.decode(self.encode(observation), x, t)

    def parameter_groups(self, lr: float) -> list[dict]:
        """What an optimiser is given."""
        return [{"params": list(self.parameters()), "lr": lr}]

    def encode(self, observation: Observation) -> Tensor:
        raise NotImplementedError

    def decode(self, memory: Tensor, x: Tensor, t: Tensor) -> Tensor:
        raise NotImplementedError


def interpolate(actions: Tensor, noise: Tensor, t: Tensor, noise_at: int) -> tuple[Tensor, Tensor]:
    """The straight path from noise to actions: the point x_t and its velocity dx/dt. t is [B] or [B, H]."""
    start, end = (noise, actions) if noise_at == 0 else (actions, noise)
    t = t.reshape(*t.shape, *[1] * (actions.dim() - t.dim()))
    return (1 - t) * start + t * end, end - start


def reduce_loss(squared: Tensor, is_pad: Tensor | None, reduction: str, real_dims: int) -> Tensor:
    """Mean of squared errors [B, H, A]. `is_pad` [B, H] marks steps past the episode's end.

    "valid"  sum over unpadded steps and the first `real_dims` dimensions, divided by how many values that are
    "zeroed" padded steps count as zero, divided by everything
    "all"    nothing is masked
    """
    if reduction == "all":
        return squared.mean()
    keep = torch.ones_like(squared)
    if is_pad is not None:
        keep = keep * ~is_pad.bool()[..., None]
    if reduction == "valid":
        keep[..., real_dims:] = 0
        return (squared * keep).sum() / keep.sum().clamp(min=1)
    if reduction == "zeroed":
        return (squared * keep).mean()
    raise ValueError(f"unknown loss_reduction {reduction!r}")


def loss(network: FlowNetwork, observation: Observation, actions: Tensor, noise: Tensor, t: Tensor,
         is_pad: Tensor | None = None) -> Tensor:
    """The training loss on normalised actions [B, H, A]. A regression uses neither `noise` nor `t`, a MIP no `t`."""
    def mean_square(error: Tensor) -> Tensor:
        return reduce_loss(error.square(), is_pad, network.loss_reduction, network.real_action_dim)

    if network.objective == "regression":
        return mean_square(first_guess(network, observation) - actions)
    if network.objective == "mip":
        first = mean_square(first_guess(network, observation) - actions)
        second = mean_square(second_guess(network, observation, actions + MIP_NOISE * noise) - actions)
        return MIP_LOSS_SCALE * (first / MIP_SIGNAL**2 + second / MIP_NOISE**2)
    x_t, velocity = interpolate(actions, noise, t, network.noise_at)
    return mean_square(network(observation, x_t, t) - velocity)


def first_guess(network: FlowNetwork, observation: Observation) -> Tensor:
    """The action [B, H, A] in one pass, at x = 0 and the noisy end of time."""
    batch = len(next(iter(observation.values())))
    x = next(network.parameters()).new_zeros(batch, network.chunk_size, network.action_dim)
    return network(observation, x, same_time(x, network.noise_at))


def second_guess(network: FlowNetwork, observation: Observation, x: Tensor) -> Tensor:
    """The action [B, H, A] from an almost clean one, x [B, H, A], at t = 0.9 (0.1 if the noise is at 1)."""
    return network(observation, x, same_time(x, MIP_SIGNAL if network.noise_at == 0 else MIP_NOISE))


def same_time(x: Tensor, t: float) -> Tensor:
    """One time for the whole batch, [B]. In float64: high frequencies would show its rounding."""
    return torch.full((len(x),), t, dtype=torch.float64)


# Explicit solvers whose stages each start from the one before: k_j = v(x + c_j h k_(j-1), t + c_j h), and then
# x += h sum(w_j k_j). By name: the nodes c and the weights w.
TABLEAUS = {
    "euler": ([0], [1]),
    "heun": ([0, 1], [1 / 2, 1 / 2]),
    "midpoint": ([0, 1 / 2], [0, 1]),
    "rk4": ([0, 1 / 2, 1 / 2, 1], [1 / 6, 1 / 3, 1 / 3, 1 / 6]),
}


@dataclass
class Solver:
    """`steps` equal steps from the noisy end of time to the other."""

    name: str
    steps: int

    def progress(self, step: int, node: float) -> float:
        """The part of the way that a stage stands at: 0 at the noise, 1 at the action."""
        return (step + node) / self.steps


def sample(network: FlowNetwork, observation: Observation, noise: Tensor, solver: Solver,
           guidance: dict | None = None) -> Tensor:
    """noise [B, H, A] -> a chunk of normalised actions [B, H, A]. Only a flow uses the noise.

    Guidance of scale g follows v_u + g (v_c - v_u); v_u is the velocity for an observation of zeros.
    """
    if network.objective == "regression":
        return first_guess(network, observation)
    if network.objective == "mip":
        return second_guess(network, observation, first_guess(network, observation))

    memory = network.encode(observation)
    if guidance is not None:
        nothing_seen = network.encode({key: torch.zeros_like(seen) for key, seen in observation.items()})
    direction = 1 if network.noise_at == 0 else -1
    h = direction / solver.steps
    nodes, weights = TABLEAUS[solver.name]

    def velocity(x: Tensor, progress: float) -> Tensor:
        t = same_time(x, network.noise_at + direction * progress)
        conditional = network.decode(memory, x, t)
        if guidance is None:
            return conditional
        unconditional = network.decode(nothing_seen, x, t)
        return unconditional + guidance["scale"] * (conditional - unconditional)

    x = noise
    for step in range(solver.steps):
        k, total = 0, 0
        for node, weight in zip(nodes, weights):
            k = velocity(x + node * h * k, solver.progress(step, node))
            total = total + weight * k
        x = x + h * total
    return x


def only(features: dict, kind: str) -> dict:
    """The one feature of this kind."""
    found = [feature for feature in features.values() if feature["type"] == kind]
    if len(found) != 1 or len(features) != 1:
        raise ValueError(f"expected exactly one feature, of type {kind}, not {list(features)}")
    return found[0]
