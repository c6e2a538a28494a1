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

from patch_decoder import PURSUIT, PatchDecoder, interpolate, loss, sample

MIB = 1 << 20
MAX_FILE_BYTES = 5 * MIB
MAX_TOTAL_BYTES = 12 * MIB

# --- The cases ------------------------------------------------------------------------------------------------------

ADAMW = {"name": "adamw", "lr": 1e-3, "betas": [0.9, 0.999], "eps": 1e-5, "weight_decay": 0.01, "grad_clip_norm": None}
ADAM = ADAMW | {"name": "adam", "weight_decay": 0.0}

PURSUIT_PARAMETERS = 287_106
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


def flow(noise_at: int = 0, num_steps: int = 20, time_law="uniform") -> dict:
    return {"noise_at": noise_at, "time_law": time_law, "num_steps": num_steps, "solver": "euler"}


@dataclass
class Case:
    config: dict
    batch: int = 3
    padded: bool = False  # stores action_is_pad, with steps set in some chunks and not in others
    time_per_slot: bool = False  # t is [B, H], with slots that are already clean
    optimizer: dict = field(default_factory=lambda: ADAMW)
    train_steps: int = 10


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
}


# --- One golden in memory -------------------------------------------------------------------------------------------

@dataclass
class Golden:
    """A golden file: the metadata, parsed, and the tensors by the names they have in the file."""

    config: dict
    solver: dict
    optimizer: dict
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
    return Golden(*(json.loads(metadata[key]) for key in ("config", "solver", "optimizer")), tensors)


# --- What is computed -----------------------------------------------------------------------------------------------

def make(case: Case, seed: int) -> Golden:
    """Draws a network and its inputs, and computes what is expected of them."""
    torch.manual_seed(seed)
    model = PatchDecoder(case.config)
    shake(model)
    batch, steps, dims = case.batch, model.chunk_size, model.action_dim
    frames = case.config["n_obs_steps"]
    shape = case.config["input_features"]["observation.image"]["shape"]

    tensors = {f"param/{name}": p for name, p in model.state_dict().items()}
    tensors["obs/observation.image"] = images(batch, frames, shape)
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
    if case.padded:
        kept = torch.tensor([steps, 1, steps - 2, 2, steps])[:batch, None]
        tensors["action_is_pad"] = (torch.arange(steps) >= kept).float()

    solver = {"name": "euler", "steps": case.config["flow"]["num_steps"]}
    golden = Golden(case.config, solver, case.optimizer, tensors)
    golden.tensors |= compute(golden, torch.float64, train_steps=case.train_steps)
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


def images(batch: int, frames: int, shape: list[int]) -> Tensor:
    """[B, 3, height, width], or [B, T, 3, height, width] for more frames than one; noise in [0, 1]."""
    return torch.rand(batch, *([frames] if frames > 1 else []), *shape)


def compute(golden: Golden, dtype: torch.dtype, train_steps: int,
            spoil: Callable[[PatchDecoder, dict], None] | None = None) -> dict[str, Tensor]:
    """Every `expect/…` tensor, from the inputs and parameters in `golden`. `spoil` may put a mistake in first."""
    inputs = {name: tensor.to(dtype) for name, tensor in golden.tensors.items()}
    image, actions, noise, t = (inputs[name] for name in ("obs/observation.image", "actions", "noise", "t"))
    is_pad = inputs.get("action_is_pad")

    model = PatchDecoder(golden.config).to(dtype).eval()
    model.load_state_dict(golden.group("param/"))
    optimizer_config = copy.deepcopy(golden.optimizer)
    if spoil:
        spoil(model, optimizer_config)

    expect = {}
    with torch.no_grad():
        expect["velocity"] = model(image, inputs["x_t"], t)
        expect["sample"] = sample(model, image, inputs["sample_noise"], golden.solver["steps"])

    optimizer, clip = make_optimizer(model, optimizer_config)
    losses = []
    for step in range(train_steps):
        optimizer.zero_grad()
        value = loss(model, image, actions, noise, t, is_pad)
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
    """Errors of what was computed, against the golden's expectations."""
    measures = []
    for name, value in computed.items():
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
# Each puts one mistake into a correct network (or its optimiser's configuration) and returns False where the network
# has no place for it. They exist in memory only, here as in the Rust tests.

def spoil_weight(model, _):
    """One weight, deep inside, is off by 0.01."""
    model.transformer_encoder.layers[0].self_attn.out_proj.weight.data[0, 0] += 0.01


def spoil_norm_eps(model, _):
    """Layer norms use eps 1e-6, as in a ViT, for 1e-5."""
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-6


def spoil_gelu(model, _):
    """The GELU is the tanh approximation."""
    model.patch_embed[1].approximate = "tanh"


def spoil_patch_order(model, _):
    """Patches are numbered column by column."""
    rows, columns = model.patch_grid
    model.pos_embed.data = model.pos_embed.data.unflatten(1, (rows, columns)).transpose(1, 2).flatten(1, 2)


def spoil_slots(model, _):
    """The slot embedding is forgotten."""
    if model.action_pos_embed is None:
        return False
    model.action_pos_embed.data.zero_()


def spoil_pre_norm(model, _):
    """Layer norms stand before the blocks instead of after them."""
    for layer in layers(model):
        layer.norm_first = True


def spoil_activation(model, _):
    """The feed-forward activation is GELU for ReLU."""
    for layer in layers(model):
        layer.activation = nn.functional.gelu


def spoil_heads(model, _):
    """Attention is split into twice as many heads of half the width."""
    for module in model.modules():
        if isinstance(module, nn.MultiheadAttention):
            module.num_heads *= 2
            module.head_dim //= 2


def spoil_reduction(model, _):
    """The loss masks nothing, or masks where nothing is masked."""
    model.loss_reduction = "valid" if model.loss_reduction == "all" else "all"


def spoil_noise_end(model, _):
    """Noise is taken to be at the other end of time."""
    model.noise_at = 1 - model.noise_at


def spoil_decay(_, optimizer):
    """Weight decay is added to the gradient (Adam with L2) instead of taken from the weights (AdamW)."""
    if optimizer["weight_decay"] == 0:
        return False
    optimizer["name"] = "adam"


def spoil_clipping(_, optimizer):
    """Gradients are not clipped."""
    if optimizer["grad_clip_norm"] is None:
        return False
    optimizer["grad_clip_norm"] = None


def layers(model: PatchDecoder) -> list[nn.Module]:
    return [*model.transformer_encoder.layers, *model.transformer_decoder.layers]


# Files whose expectations were computed with a mistake: a correct program must find that they differ.
SPOILED_FILES = {"norm_eps": spoil_norm_eps, "tanh_gelu": spoil_gelu}
SPOILED_CASE = Case(small((32, 32), (8, 2)), batch=3, train_steps=1)
KEPT_IN_SPOILED = ("expect/velocity", "expect/sample", "expect/loss")


def make_spoiled(spoil: Callable, seed: int) -> Golden:
    """A golden of which only the forward results are kept, computed with a mistake."""
    golden = make(SPOILED_CASE, seed)
    expect = compute(golden, torch.float64, train_steps=1, spoil=spoil)
    golden.tensors = {name: t for name, t in golden.tensors.items() if not name.startswith("expect/")}
    golden.tensors |= {name: expect[name] for name in KEPT_IN_SPOILED}
    return golden


# A mistake, and the quantity that must fail for it.
SPOILS = {
    spoil_weight: "velocity", spoil_norm_eps: "velocity", spoil_gelu: "velocity", spoil_patch_order: "velocity",
    spoil_slots: "velocity", spoil_pre_norm: "velocity", spoil_activation: "velocity", spoil_heads: "velocity",
    spoil_noise_end: "sample", spoil_reduction: "loss", spoil_decay: "param_after", spoil_clipping: "param_after",
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
    if arguments.check:
        raise SystemExit(0 if check(arguments.out, arguments.cases) else 1)
    generate(arguments.out, arguments.cases)


def generate(out: Path, cases: list[str]):
    sizes = {}
    for seed, (name, case) in enumerate(CASES.items()):
        if name in cases:
            golden = make(case, seed)
            parameters = sum(p.numel() for p in golden.group("param/").values())
            assert name != "seed" or parameters == PURSUIT_PARAMETERS, parameters
            sizes[name] = save(golden, out / f"{name}.safetensors")
            value = golden.tensors["expect/loss"].item()
            print(f"{name:<14} {parameters:>7} parameters  {sizes[name] / MIB:5.2f} MiB  loss {value:.6f}")
    (out / "spoiled").mkdir(exist_ok=True)
    for seed, (name, spoil) in enumerate(SPOILED_FILES.items(), start=len(CASES)):
        sizes[name] = save(make_spoiled(spoil, seed), out / "spoiled" / f"{name}.safetensors")
        print(f"{'spoiled/' + name:<34} {sizes[name] / MIB:5.2f} MiB")
    total = sum(sizes.values())
    print(f"{'total':<14} {total / MIB:26.2f} MiB")
    assert max(sizes.values()) <= MAX_FILE_BYTES and total <= MAX_TOTAL_BYTES


def check(out: Path, cases: list[str]) -> bool:
    """Float32 must pass and every mistake must fail somewhere. Prints the share of each bound that is used."""
    goldens = {name: load(out / f"{name}.safetensors") for name in cases}
    groups = ["velocity", "sample", "loss", "grad", "param_after"]
    print("float32 against the goldens: the worst error as a part of its bound\n")
    print(f"{'':<14}" + "".join(f"{group:>12}" for group in groups))
    good = True
    for name, golden in goldens.items():
        measures = measure(golden)
        cells = [max(m.ratio for m in measures if m.name.startswith(group)) for group in groups]
        failed = [m.name for m in measures if not m.passes]
        good &= not failed
        verdict = f"FAIL {failed}" if failed else "pass"
        print(f"{name:<14}" + "".join(f"{cell:12.1e}" for cell in cells) + f"  {verdict}")

    print("\nfloat32 with a mistake: the worst error as a multiple of its bound (above 1 it is caught)\n")
    print(f"{'':<18}" + "".join(f"{name:>14}" for name in goldens))
    for spoil, quantity in SPOILS.items():
        ratios = [worst(golden, spoil, quantity) for golden in goldens.values()]
        applies = [ratio for ratio in ratios if ratio is not None]
        caught = not applies or any(not ratio <= 1 for ratio in applies)
        good &= caught
        label = spoil.__name__.removeprefix("spoil_")
        print(f"{label:<18}" + "".join(f"{'-' if ratio is None else format(ratio, '.1e'):>14}" for ratio in ratios)
              + ("" if caught else "  NOT CAUGHT"))
    print("\nfloat32 without a mistake against the spoiled files: error as a multiple of the bound (above 1 it is caught)\n")
    for name in SPOILED_FILES:
        golden = load(out / "spoiled" / f"{name}.safetensors")
        computed = compute(golden, torch.float32, train_steps=1)
        ratio = max(m.ratio for m in compare(golden, {name: computed[name] for name in KEPT_IN_SPOILED}))
        good &= ratio > 1
        print(f"{name:<18}{ratio:14.1e}" + ("" if ratio > 1 else "  NOT CAUGHT"))
    print("\n" + ("all as it should be" if good else "SOMETHING IS WRONG"))
    return good


def measure(golden: Golden, spoil=None) -> list[Measure]:
    train_steps = len(golden.tensors["expect/losses"])
    return compare(golden, compute(golden, torch.float32, train_steps, spoil))


def worst(golden: Golden, spoil, quantity: str) -> float | None:
    """The largest ratio of this quantity with a mistake in, or None where the mistake has no place."""
    if spoil(PatchDecoder(golden.config), copy.deepcopy(golden.optimizer)) is False:
        return None
    return max(m.ratio for m in measure(golden, spoil) if m.name.startswith(quantity))


if __name__ == "__main__":
    main()
