"""Makes the golden files, and checks them.

    python tests/golden/generate.py --out tests/golden           write every <case>.safetensors
    python tests/golden/generate.py --check --out tests/golden   recompute them in float32, then with mistakes put in

Both also write, or check, `spoiled/<mistake>.safetensors`: expectations of a network that has the mistake.

Parameters and inputs are rounded to float32 first and everything is then computed in float64, so that a file's
expectations are exact for the numbers it stores. README.md says what a file holds.
"""

import argparse
import copy
import functools
import json
import math
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from flow import FlowNetwork, Solver, interpolate, loss, sample
from patch_decoder import PURSUIT, PatchDecoder
from velocity_mlp import CONTROLLER, CONTROLLER_FAST, TUTORIAL, VelocityMlp

MIB = 1 << 20
MAX_FILE_BYTES = 5 * MIB
MAX_TOTAL_BYTES = 13 * MIB

FAMILIES = {family.family: family for family in (PatchDecoder, VelocityMlp)}

# --- The cases ------------------------------------------------------------------------------------------------------

ADAMW = {"name": "adamw", "lr": 1e-3, "betas": [0.9, 0.999], "eps": 1e-5, "weight_decay": 0.01, "grad_clip_norm": None}
ADAM = ADAMW | {"name": "adam", "weight_decay": 0.0}

# How many parameters these networks were published with.
PUBLISHED = [(PURSUIT, 287_106), (TUTORIAL, 71_425), (CONTROLLER, 862_976), (CONTROLLER_FAST, 168_832)]
PI0_TIME = {"beta": [1.5, 1.0], "scale": 0.999, "offset": 0.001}


def small(image: tuple[int, int], actions: tuple[int, int], **changes) -> dict:
    """A one-layer network of width 32 over an image (height, width), with `actions` = (steps, dimensions)."""
    base = {
        "chunk_size": actions[0], "n_action_steps": actions[0],
        "input_features": {"observation.image": {"type": "VISUAL", "shape": [3, *image]}},
        "output_features": {"action": {"type": "ACTION", "shape": [actions[1]]}},
        "patch_size": 8, "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "decoder_heads": 4,
        "dim_feedforward": 64, "action_pos_embed": True,
    }
    return PURSUIT | base | changes


def mlp(states: dict[str, int], actions: tuple[int, int], **changes) -> dict:
    """A concat network of width 48 over state vectors (key, width), with `actions` = (steps, dimensions)."""
    kinds = {"observation.state": "STATE", "observation.environment_state": "ENV"}
    base = {
        "chunk_size": actions[0], "n_action_steps": actions[0],
        "input_features": {key: {"type": kinds[key], "shape": [width]} for key, width in states.items()},
        "output_features": {"action": {"type": "ACTION", "shape": [actions[1]]}},
        "hidden_dim": 48,
    }
    return TUTORIAL | base | changes


def residual_mlp(states: dict[str, int], actions: tuple[int, int], **changes) -> dict:
    """A residual network of width 32 and two blocks."""
    time = {"kind": "sinusoid", "dim": 32, "max_period": 10000}
    base = {"layout": "residual", "hidden_dim": 32, "num_layers": 2, "time_features": time}
    return mlp(states, actions, **(base | changes))


def flow(noise_at: int = 0, num_steps: int = 20, time_law="uniform", solver: str = "euler") -> dict:
    return {"noise_at": noise_at, "time_law": time_law, "num_steps": num_steps, "solver": solver}


@dataclass
class Case:
    config: dict
    batch: int = 3
    padded: bool = False  # stores action_is_pad, with steps set in some chunks and not in others
    time_per_slot: bool = False  # t is [B, H], with slots that are already clean
    optimizer: dict = field(default_factory=lambda: ADAMW)
    train_steps: int = 10
    forward_only: bool = False  # no gradients and no weights after training
    guidance: dict | None = None


CASES = {
    # Goldens never drop out, whatever `dropout` says.
    "seed": Case(PURSUIT | {"loss_reduction": "all", "action_padding": "zero"}, padded=True),
    "default": Case(PURSUIT | {"action_pos_embed": True, "loss_reduction": "valid"}, padded=True),
    "masked": Case(
        small((48, 32), (5, 3), patch_size=16, decoder_layers=3, dim_feedforward=72, loss_reduction="valid"),
        padded=True,
    ),
    "zeroed": Case(
        small((24, 40), (7, 3), loss_reduction="zeroed", action_padding="zero", flow=flow(num_steps=7)),
        batch=5, padded=True,
    ),
    "slot_time": Case(small((32, 32), (6, 2), decoder_layers=2, flow=flow(num_steps=10)), batch=4, time_per_slot=True),
    "noise_at_1": Case(small((32, 32), (8, 4), flow=flow(noise_at=1, num_steps=10, time_law=PI0_TIME)), batch=5),
    "adam_clip": Case(small((32, 24), (8, 2)), optimizer=ADAM | {"grad_clip_norm": 0.05}),
    "two_frames": Case(small((24, 24), (4, 2), n_obs_steps=2), batch=2),
    "head_width_20": Case(small((32, 32), (9, 1), d_model=40, encoder_heads=2, decoder_heads=2), batch=1),
    # x = 0 leaves action_proj.weight without a gradient: with no weight decay either, it must not move at all.
    "regression": Case(
        small((32, 32), (6, 2), objective="regression", flow=flow(noise_at=1)),
        padded=True, optimizer=ADAM,
    ),
    "mip_image": Case(
        small((16, 16), (5, 2), d_model=16, encoder_heads=2, decoder_heads=2, dim_feedforward=32, objective="mip",
              loss_reduction="zeroed", action_padding="zero", flow=flow(noise_at=1)),
        batch=5, padded=True,
    ),
    "mlp_tutorial": Case(TUTORIAL, batch=7, forward_only=True),
    "mlp_concat": Case(mlp({"observation.state": 3}, (1, 1), flow=flow(num_steps=10)), batch=7),
    "mlp_features": Case(
        mlp({"observation.state": 5, "observation.environment_state": 2}, (4, 3),
            time_features={"kind": "harmonics", "dim": 16}),
        batch=5, padded=True,
    ),
    "mlp_two_frames": Case(
        mlp({"observation.state": 4, "observation.environment_state": 3}, (6, 2), n_obs_steps=2, num_layers=2,
            time_features={"kind": "harmonics", "dim": 8}, flow=flow(num_steps=7)),
        batch=1,
    ),
    "mlp_residual": Case(
        residual_mlp({"observation.state": 9}, (4, 5), loss_reduction="all"),
        padded=True, optimizer=ADAMW | {"grad_clip_norm": 0.5},
    ),
    "mlp_rk4": Case(
        residual_mlp({"observation.state": 7}, (4, 3), flow=flow(1, num_steps=5, time_law=PI0_TIME, solver="rk4")),
        batch=5,
    ),
    "mlp_heun": Case(
        mlp({"observation.state": 3}, (1, 1), num_layers=4, flow=flow(num_steps=10, solver="heun")),
        batch=9, forward_only=True,
    ),
    "mlp_midpoint": Case(
        residual_mlp({"observation.state": 6}, (3, 2), flow=flow(num_steps=6, solver="midpoint")),
        forward_only=True,
    ),
    "mlp_guided": Case(
        residual_mlp({"observation.state": 6, "observation.environment_state": 2}, (3, 2),
                     flow=flow(num_steps=8, solver="heun")),
        batch=5, forward_only=True, guidance={"scale": 2.5},
    ),
    # Few frequencies, so that t* = 0.9 may be a float32.
    "mlp_mip": Case(
        mlp({"observation.state": 5}, (4, 2), objective="mip", time_features={"kind": "pow2", "dim": 8}),
        batch=5, padded=True,
    ),
    "mlp_regression": Case(
        residual_mlp({"observation.state": 5}, (4, 2), objective="regression"),
        padded=True, optimizer=ADAM,
    ),
}


# --- One golden in memory -------------------------------------------------------------------------------------------

@dataclass
class Golden:
    """A golden file: the metadata, parsed, and the tensors by the names they have in the file."""

    config: dict
    solver: dict
    optimizer: dict
    guidance: dict | None
    tensors: dict[str, Tensor]

    def group(self, prefix: str) -> dict[str, Tensor]:
        return {name[len(prefix):]: tensor for name, tensor in self.tensors.items() if name.startswith(prefix)}


def save(golden: Golden, file: Path) -> int:
    """Writes one file and returns its size. The header is put in order, so that the same golden is the same bytes."""
    metadata = {
        "flowgpu.golden": "1",
        "config": json.dumps(golden.config),
        "solver": json.dumps(golden.solver),
        "optimizer": json.dumps(golden.optimizer),
        **({"guidance": json.dumps(golden.guidance)} if golden.guidance else {}),
        "reference": f"PyTorch {torch.__version__.split('+')[0]} on CPU, float64, stored as float32",
    }
    tensors = {name: tensor.float().contiguous() for name, tensor in golden.tensors.items()}
    data = safetensors.torch.save(tensors, metadata)
    header_len = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + header_len]) | {"__metadata__": metadata}
    header = json.dumps(header, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return file.write_bytes(struct.pack("<Q", len(header)) + header + data[8 + header_len :])


def load(file: Path) -> Golden:
    with safetensors.safe_open(file, framework="pt") as opened:
        metadata = opened.metadata()
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}
    settings = (json.loads(metadata.get(key, "null")) for key in ("config", "solver", "optimizer", "guidance"))
    return Golden(*settings, tensors)


# --- What is computed -----------------------------------------------------------------------------------------------

FORWARD = ("expect/velocity", "expect/sample", "expect/loss")


@dataclass
class Settings:
    """What is computed with, beside the network."""

    optimizer: dict
    solver: Solver
    guidance: dict | None


Spoil = Callable[[FlowNetwork, Settings], bool | None]


def build(config: dict) -> FlowNetwork:
    return FAMILIES[config["type"]](config)


def settings_of(golden: Golden) -> Settings:
    return Settings(copy.deepcopy(golden.optimizer), Solver(**golden.solver), copy.deepcopy(golden.guidance))


def make(case: Case, seed: int) -> Golden:
    """Draws a network and its inputs, and computes what is expected of them."""
    torch.manual_seed(seed)
    model = build(case.config)
    shake(model)
    batch, steps, dims = case.batch, model.chunk_size, model.action_dim

    tensors = {f"param/{name}": p for name, p in model.state_dict().items()}
    for key, feature in case.config["input_features"].items():
        tensors[f"obs/{key}"] = observed(feature, batch, case.config["n_obs_steps"])
    tensors["actions"] = torch.rand(batch, steps, dims) * 2 - 1
    tensors["noise"] = torch.randn(batch, steps, dims)
    tensors["sample_noise"] = torch.randn(batch, steps, dims)
    tensors["t"] = torch.rand(batch, steps) if case.time_per_slot else torch.rand(batch)
    if case.time_per_slot:  # every other chunk has a clean prefix, as real-time chunking holds it
        tensors["t"][::2, :2] = 1 - model.noise_at
    tensors["x_t"], _ = interpolate(tensors["actions"], tensors["noise"], tensors["t"], model.noise_at)
    if model.objective == "regression":
        tensors["t"].fill_(model.noise_at)
        tensors["x_t"].zero_()
    if model.objective == "mip":  # its times are fixed
        tensors["t"].zero_()
    if case.padded:
        kept = torch.tensor([steps, 1, steps - 2, 2, steps])[:batch, None]
        tensors["action_is_pad"] = (torch.arange(steps) >= kept).float()

    solver = {"name": case.config["flow"]["solver"], "steps": case.config["flow"]["num_steps"]}
    golden = Golden(case.config, solver, case.optimizer, case.guidance, tensors)
    expect = compute(golden, torch.float64, train_steps=1 if case.forward_only else case.train_steps)
    golden.tensors |= {name: expect[name] for name in (FORWARD if case.forward_only else expect)}
    return golden


def shake(model: nn.Module):
    """Moves every parameter off PyTorch's initial values, among which zeros and ones would hide mistakes.

    Norm weights around 0.3 keep the variance small that the next norm sees, so that its eps matters; larger linear
    weights make attention sharper than the near-mean of a fresh network, so that its keys and queries matter.
    """
    for p in model.parameters():
        p.data += 0.05 * torch.randn_like(p)
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.weight.data *= 0.3


def observed(feature: dict, batch: int, frames: int) -> Tensor:
    """[B, *shape], or [B, T, *shape] for more frames than one. Images are noise in [0, 1], states are normal."""
    draw = torch.rand if feature["type"] == "VISUAL" else torch.randn
    return draw(batch, *([frames] if frames > 1 else []), *feature["shape"])


def compute(golden: Golden, dtype: torch.dtype, train_steps: int, spoil: Spoil | None = None) -> dict[str, Tensor]:
    """Every `expect/…` tensor, from the inputs and parameters in `golden`. `spoil` may put a mistake in first."""
    inputs = {name: tensor.to(dtype) for name, tensor in golden.tensors.items()}
    observation = {key: inputs[f"obs/{key}"] for key in golden.config["input_features"]}
    actions, noise, t = (inputs[name] for name in ("actions", "noise", "t"))
    is_pad = inputs.get("action_is_pad")

    model = build(golden.config).to(dtype).eval()
    model.load_state_dict(golden.group("param/"))
    settings = settings_of(golden)
    if spoil:
        spoil(model, settings)

    expect = {}
    with torch.no_grad():
        expect["velocity"] = model(observation, inputs["x_t"], t)
        expect["sample"] = sample(model, observation, inputs["sample_noise"], settings.solver, settings.guidance)

    optimizer, clip = make_optimizer(model, settings.optimizer)
    losses = []
    for step in range(train_steps):
        optimizer.zero_grad()
        value = loss(model, observation, actions, noise, t, is_pad)
        value.backward()
        losses.append(value.detach())
        if step == 0:
            expect["loss"] = value.detach()[None]
            expect |= {f"grad/{name}": p.grad.clone() for name, p in model.named_parameters()}
        clip()
        optimizer.step()
    expect["losses"] = torch.stack(losses)
    expect |= {f"param_after/{name}": p.detach() for name, p in model.named_parameters()}
    return {f"expect/{name}": tensor for name, tensor in expect.items()}


def make_optimizer(model: nn.Module, config: dict) -> tuple[torch.optim.Optimizer, Callable[[], None]]:
    """The optimiser, and a function that clips the gradients (to max_norm / (norm + 1e-6), where that is below 1)."""
    kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[config["name"]]
    options = {key: config[key] for key in ("lr", "betas", "eps", "weight_decay")}
    max_norm = config["grad_clip_norm"]

    def clip():
        if max_norm is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm)

    return kind(model.parameters(), **options), clip


# --- The bounds, as `flowgpu verify` has them -----------------------------------------------------------------------

@dataclass
class Measure:
    """One quantity compared: `error` may be as large as `bound`."""

    name: str
    error: float
    bound: float

    @property
    def ratio(self) -> float:
        """How much of the bound is used; not a number where the error is not."""
        if self.bound == 0:
            return 0.0 if self.error == 0 else math.inf
        return self.error / self.bound

    @property
    def passes(self) -> bool:
        return self.error <= self.bound


def compare(golden: Golden, computed: dict[str, Tensor]) -> list[Measure]:
    """Errors of what was computed, against the expectations that the golden has."""
    measures = []
    for name, value in computed.items():
        if name not in golden.tensors:
            continue
        name = name.removeprefix("expect/")
        ref = golden.tensors[f"expect/{name}"].double()
        error = value.double() - ref
        squares, largest = error.square().sum().item(), error.abs().max().item()
        energy, peak = ref.square().sum().item(), ref.abs().max().item()
        if name in ("velocity", "sample"):
            measures.append(Measure(name, squares / energy, 1e-11))
            measures.append(Measure(f"{name}, largest", largest / peak, 1e-4))
        elif name in ("loss", "losses"):
            measures.append(Measure(name, (error / ref).abs().max().item(), 1e-6))
        elif name.startswith("grad/"):
            if peak < 1e-9:
                measures.append(Measure(name, largest, 1e-6))
            else:
                measures.append(Measure(name, squares / energy, 1e-10))
        else:
            moved = ref - golden.tensors[f"param/{name.removeprefix('param_after/')}"].double()
            measures.append(Measure(name, squares, 1e-7 * moved.square().sum().item()))
    return measures


# --- Mistakes that the goldens must catch ---------------------------------------------------------------------------
# Each puts one mistake into a correct network or its settings, and returns False where there is no place for it. They
# exist in memory only, here as in the Rust tests.

def only_in(family: type[FlowNetwork]) -> Callable[[Spoil], Spoil]:
    """A mistake that networks of the other family have no place for."""
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
    """The activation between linear layers is GELU, for ReLU or SiLU."""
    for module in layers(model) if isinstance(model, PatchDecoder) else [model]:
        module.activation = nn.functional.gelu


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


# Files whose expectations were computed with a mistake: a correct program must find that they differ. They hold the
# forward results only.
SPOILED_IMAGE = Case(small((32, 32), (8, 2)), forward_only=True)
SPOILED_STATE = Case(
    mlp({"observation.state": 4}, (3, 2), hidden_dim=32, flow=flow(num_steps=6, solver="heun")), forward_only=True,
)
SPOILED_FILES = {
    "norm_eps": (spoil_norm_eps, SPOILED_IMAGE), "tanh_gelu": (spoil_gelu, SPOILED_IMAGE),
    "time_order": (spoil_time_order, SPOILED_STATE), "heun_old_time": (spoil_stage_time, SPOILED_STATE),
}
FIRST_SPOILED_SEED = 10


def make_spoiled(spoil: Spoil, case: Case, seed: int) -> Golden:
    """A golden whose expectations are computed with a mistake."""
    golden = make(case, seed)
    expect = compute(golden, torch.float64, train_steps=1, spoil=spoil)
    golden.tensors |= {name: expect[name] for name in FORWARD}
    return golden


# A mistake, and the quantity that must fail for it.
SPOILS = {
    spoil_weight: "velocity", spoil_norm_eps: "velocity", spoil_gelu: "velocity", spoil_patch_order: "velocity",
    spoil_slots: "velocity", spoil_pre_norm: "velocity", spoil_heads: "velocity", spoil_activation: "velocity",
    spoil_last_activation: "velocity", spoil_time_order: "velocity", spoil_frequencies: "velocity",
    spoil_feature_order: "velocity", spoil_frame_order: "velocity", spoil_chunk_order: "velocity",
    spoil_noise_end: "sample", spoil_second_pass: "sample", spoil_solver: "sample", spoil_stage_time: "sample",
    spoil_guidance: "sample", spoil_reduction: "loss", spoil_decay: "param_after", spoil_clipping: "param_after",
}


# --- Commands -------------------------------------------------------------------------------------------------------

def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder of the .safetensors files")
    parser.add_argument("--check", action="store_true", help="check the files instead of writing them")
    parser.add_argument("cases", nargs="*", metavar="CASE", default=list(CASES),
                        help=f"all, or some of {', '.join(CASES)}")
    arguments = parser.parse_args()

    # One thread and no fused inference layer, so that the same bytes come out again.
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.backends.mha.set_fastpath_enabled(False)
    for config, published in PUBLISHED:
        parameters = sum(p.numel() for p in build(config).parameters())
        assert parameters == published, f"{config['type']}: {parameters} parameters for {published}"
    if arguments.check:
        raise SystemExit(0 if check(arguments.out, arguments.cases) else 1)
    generate(arguments.out, arguments.cases)


def generate(out: Path, cases: list[str]):
    sizes = {}
    for seed, (name, case) in enumerate(CASES.items()):
        if name in cases:
            golden = make(case, seed)
            parameters = sum(p.numel() for p in golden.group("param/").values())
            sizes[name] = save(golden, out / f"{name}.safetensors")
            value = golden.tensors["expect/loss"].item()
            print(f"{name:<14} {parameters:>7} parameters  {sizes[name] / MIB:5.2f} MiB  loss {value:.6f}")
    (out / "spoiled").mkdir(exist_ok=True)
    for seed, (name, (spoil, case)) in enumerate(SPOILED_FILES.items(), start=FIRST_SPOILED_SEED):
        sizes[name] = save(make_spoiled(spoil, case, seed), out / "spoiled" / f"{name}.safetensors")
        print(f"{'spoiled/' + name:<34} {sizes[name] / MIB:5.2f} MiB")
    total = sum(sizes.values())
    print(f"{'total':<14} {total / MIB:26.2f} MiB")
    assert max(sizes.values()) <= MAX_FILE_BYTES and total <= MAX_TOTAL_BYTES


def check(out: Path, cases: list[str]) -> bool:
    """Float32 must pass and every mistake must fail somewhere. Prints the share of each bound that is used."""
    goldens = {name: load(out / f"{name}.safetensors") for name in cases}
    print("float32 against the goldens: the worst error as a part of its bound\n")
    good = check_goldens(goldens)
    print("\nfloat32 with a mistake: the worst error as a multiple of its bound (above 1 it is caught)")
    for family in FAMILIES:
        good &= check_mistakes({name: golden for name, golden in goldens.items() if golden.config["type"] == family})
    print("\nfloat32 without a mistake against the spoiled files: as a multiple of the bound (above 1 it is caught)\n")
    for name in SPOILED_FILES:
        ratio = max(m.ratio for m in measure(load(out / "spoiled" / f"{name}.safetensors")))
        good &= ratio > 1
        print(f"{name:<18}{ratio:14.1e}" + ("" if ratio > 1 else "  NOT CAUGHT"))
    print("\n" + ("all as it should be" if good else "SOMETHING IS WRONG"))
    return good


def check_goldens(goldens: dict[str, Golden]) -> bool:
    groups = ["velocity", "sample", "loss", "grad", "param_after"]
    print(f"{'':<14}" + "".join(f"{group:>12}" for group in groups))
    good = True
    for name, golden in goldens.items():
        measures = measure(golden)
        cells = [worst(measures, group) for group in groups]
        failed = [m.name for m in measures if not m.passes]
        good &= not failed
        print(f"{name:<14}" + "".join(f"{figure(cell):>12}" for cell in cells)
              + (f"  FAIL {failed}" if failed else "  pass"))
    return good


def check_mistakes(goldens: dict[str, Golden]) -> bool:
    """For goldens of one family: a line a mistake that has a place in any of them."""
    if goldens:
        print(f"\n{'':<18}" + "".join(f"{name:>15}" for name in goldens))
    good = True
    for spoil, quantity in SPOILS.items():
        ratios = [worst_with(spoil, quantity, golden) for golden in goldens.values()]
        applies = [ratio for ratio in ratios if ratio is not None]
        if applies:
            caught = any(not ratio <= 1 for ratio in applies)
            good &= caught
            label = spoil.__name__.removeprefix("spoil_")
            print(f"{label:<18}" + "".join(f"{figure(ratio):>15}" for ratio in ratios)
                  + ("" if caught else "  NOT CAUGHT"))
    return good


def figure(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.1e}"


def measure(golden: Golden, spoil: Spoil | None = None) -> list[Measure]:
    train_steps = len(golden.tensors.get("expect/losses", [1]))
    return compare(golden, compute(golden, torch.float32, train_steps, spoil))


def worst(measures: list[Measure], quantity: str) -> float | None:
    """The largest ratio of this quantity, or None where the golden does not hold it."""
    return max((m.ratio for m in measures if m.name.startswith(quantity)), default=None)


def worst_with(spoil: Spoil, quantity: str, golden: Golden) -> float | None:
    """The largest ratio of this quantity with a mistake in, or None where the mistake has no place."""
    if spoil(build(golden.config), settings_of(golden)) is False:
        return None
    return worst(measure(golden, spoil), quantity)


if __name__ == "__main__":
    main()
