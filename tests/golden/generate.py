"""Makes the golden files, and checks them.

    python tests/golden/generate.py --out tests/golden           write every <case>.safetensors
    python tests/golden/generate.py --check --out tests/golden   recompute them in float32, then with mistakes put in

Both also write, or check, `spoiled/<mistake>.safetensors`: expectations of a network that has the mistake.

Parameters and inputs are rounded to float32 first and everything is then computed in float64, so that a file's
expectations are exact for the numbers it stores. README.md says what a file holds.
"""

import argparse
import copy
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
from torchvision.models import VisionTransformer

from flow import FlowNetwork, Solver, interpolate, loss, sample
from flowmatching import SEED_001, SEED_001_TWO_CAMERAS, FlowMatching
from mistakes import (SPOILS, Settings, Spoil, spoil_gelu, spoil_norm_eps, spoil_stage_time, spoil_time_order,
                      spoil_vit_norm_eps)
from patch_decoder import PURSUIT, PatchDecoder
from velocity_mlp import CONTROLLER, CONTROLLER_FAST, TUTORIAL, VelocityMlp

MIB = 1 << 20
MAX_FILE_BYTES = 5 * MIB
MAX_TOTAL_BYTES = 15 * MIB

FAMILIES = {family.family: family for family in (PatchDecoder, VelocityMlp, FlowMatching)}

# --- The cases ------------------------------------------------------------------------------------------------------

ADAMW = {"name": "adamw", "lr": 1e-3, "betas": [0.9, 0.999], "eps": 1e-5, "weight_decay": 0.01, "grad_clip_norm": None}
ADAM = ADAMW | {"name": "adam", "weight_decay": 0.0}
PI0_ADAMW = ADAMW | {"betas": [0.9, 0.95], "weight_decay": 1e-6}

# How many parameters these networks were published with.
PUBLISHED = [(PURSUIT, 287_106), (TUTORIAL, 71_425), (CONTROLLER, 862_976), (CONTROLLER_FAST, 168_832),
             (SEED_001, 169_608_992), (SEED_001_TWO_CAMERAS, 170_395_424)]
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


def vit(cameras: list[str], **changes) -> dict:
    """A `flowmatching` network of width 16 with one layer of each kind; a state of 5 and an action of 3."""
    base = {
        "chunk_size": 5, "n_action_steps": 5,
        "input_features": {f"observation.images.{name}": {"type": "VISUAL", "shape": [3, 48, 64]} for name in cameras}
        | {"observation.state": {"type": "STATE", "shape": [5]}},
        "output_features": {"action": {"type": "ACTION", "shape": [3]}},
        "max_state_dim": 6, "max_action_dim": 5, "image_size": [16, 16],
        "vit_embed_dim": 24, "vit_patch_size": 8, "vit_layers": 1, "vit_heads": 3, "vit_mlp_dim": 40,
        "hidden_dim": 16, "denoiser_layers": 1, "denoiser_heads": 2,
    }
    return SEED_001 | base | changes


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
    missing: tuple[str, ...] = ()  # cameras whose picture is not there


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
    # The order of the keys is not that of the alphabet.
    "fm_cameras": Case(
        vit(["wrist", "top", "side"], chunk_size=6, n_action_steps=6, empty_cameras=1,
            output_features={"action": {"type": "ACTION", "shape": [4]}}, max_state_dim=7, max_action_dim=6,
            image_size=[32, 32], vit_embed_dim=32, vit_layers=2, vit_heads=4, vit_mlp_dim=64,
            hidden_dim=32, denoiser_layers=2, denoiser_heads=4, action_pos_embed=True, loss_reduction="valid"),
        padded=True, optimizer=PI0_ADAMW, missing=("side",),
    ),
    "fm_zeroed": Case(vit(["cam_1"], loss_reduction="zeroed"), batch=5, padded=True, optimizer=PI0_ADAMW),
    "fm_frozen": Case(
        vit(["top", "front"], freeze_vision=True, action_pos_embed=True, loss_reduction="all", vit_patch_size=4),
        optimizer=PI0_ADAMW | {"weight_decay": 0.01, "grad_clip_norm": 0.5},
    ),
    "fm_slow_vision": Case(
        vit(["cam_1"], vision_lr_scale=0.5, action_pos_embed=True, vit_patch_size=4, vit_heads=2),
        padded=True, optimizer=PI0_ADAMW | {"weight_decay": 0.01},
    ),
    "fm_no_camera": Case(
        vit([], hidden_dim=24, denoiser_heads=3, action_pos_embed=True,
            flow=flow(1, num_steps=4, time_law=PI0_TIME, solver="heun")),
        batch=1, padded=True, optimizer=PI0_ADAMW,
    ),
    "fm_slot_time": Case(
        vit(["cam_1"], action_pos_embed=True, vit_patch_size=4), batch=4, time_per_slot=True, forward_only=True,
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
        if feature["type"] == "VISUAL" and "image_size" in case.config:
            feature = feature | {"shape": [3, *case.config["image_size"]]}
        if key.rpartition(".")[2] not in case.missing:
            tensors[f"obs/{key}"] = observed(feature, batch, case.config["n_obs_steps"])
    tensors["actions"] = torch.rand(batch, steps, dims) * 2 - 1
    tensors["actions"][..., model.real_action_dim :] = 0
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
    for module in model.modules():
        if isinstance(module, VisionTransformer):
            shake_vit(module)


def shake_vit(vit: VisionTransformer):
    """A ViT's norms stand before its blocks: what its blocks add is made small as well, and its attention sharp."""
    small = [vit.class_token, vit.encoder.pos_embedding, *vit.conv_proj.parameters()]
    for block in vit.encoder.layers:
        small += [*block.self_attention.out_proj.parameters(), *block.mlp[3].parameters()]
        block.self_attention.in_proj_weight.data *= 3
    for p in small:
        p.data *= 0.1


def observed(feature: dict, batch: int, frames: int) -> Tensor:
    """[B, *shape], or [B, T, *shape] for more frames than one. Images are noise in [0, 1], states are normal."""
    draw = torch.rand if feature["type"] == "VISUAL" else torch.randn
    return draw(batch, *([frames] if frames > 1 else []), *feature["shape"])


def compute(golden: Golden, dtype: torch.dtype, train_steps: int, spoil: Spoil | None = None) -> dict[str, Tensor]:
    """Every `expect/…` tensor, from the inputs and parameters in `golden`. `spoil` may put a mistake in first."""
    inputs = {name: tensor.to(dtype) for name, tensor in golden.tensors.items()}
    observation = {key: inputs[f"obs/{key}"] for key in golden.config["input_features"] if f"obs/{key}" in inputs}
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
            learning = {name: p for name, p in model.named_parameters() if p.requires_grad}
            expect |= {f"grad/{name}": p.grad.clone() for name, p in learning.items()}
        clip()
        optimizer.step()
    expect["losses"] = torch.stack(losses)
    expect |= {f"param_after/{name}": p.detach() for name, p in model.named_parameters()}
    return {f"expect/{name}": tensor for name, tensor in expect.items()}


def make_optimizer(model: FlowNetwork, config: dict) -> tuple[torch.optim.Optimizer, Callable[[], None]]:
    """The optimiser, and a function that clips the gradients (to max_norm / (norm + 1e-6), where that is below 1)."""
    kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[config["name"]]
    options = {key: config[key] for key in ("betas", "eps", "weight_decay")}
    max_norm = config["grad_clip_norm"]

    def clip():
        if max_norm is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm)

    return kind(model.parameter_groups(config["lr"]), **options), clip


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


# --- Spoiled files ---------------------------------------------------------------------------------------------------

# Files whose expectations were computed with a mistake: a correct program must find that they differ. They hold the
# forward results only.
SPOILED_IMAGE = Case(small((32, 32), (8, 2)), forward_only=True)
SPOILED_STATE = Case(
    mlp({"observation.state": 4}, (3, 2), hidden_dim=32, flow=flow(num_steps=6, solver="heun")), forward_only=True,
)
SPOILED_VIT = Case(vit(["cam_1"], vit_patch_size=4), forward_only=True)
SPOILED_FILES = {
    "norm_eps": (spoil_norm_eps, SPOILED_IMAGE), "tanh_gelu": (spoil_gelu, SPOILED_IMAGE),
    "time_order": (spoil_time_order, SPOILED_STATE), "heun_old_time": (spoil_stage_time, SPOILED_STATE),
    "vit_norm_eps": (spoil_vit_norm_eps, SPOILED_VIT),
}
FIRST_SPOILED_SEED = 10


def make_spoiled(spoil: Spoil, case: Case, seed: int) -> Golden:
    """A golden whose expectations are computed with a mistake."""
    golden = make(case, seed)
    expect = compute(golden, torch.float64, train_steps=1, spoil=spoil)
    golden.tensors |= {name: expect[name] for name in FORWARD}
    return golden


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
