"""Writes tests/fixtures/vit: one tiny vision transformer under the names of three libraries.

A torchvision VisionTransformer with random weights is loaded, strictly, into timm's and Hugging Face's modules; all
three must compute the same class token from the same picture before anything is written. `positions.safetensors`
holds what torchvision's own interpolate_embeddings makes of its position embeddings.

    python tests/interop/vit_names.py      (torch, torchvision, timm, transformers, safetensors)
"""

import math
from functools import partial
from pathlib import Path

import timm
import torch
import torchvision
import transformers
from safetensors.torch import save_file
from torch import nn
from torchvision.models.vision_transformer import VisionTransformer, interpolate_embeddings

OUT = Path(__file__).parent.parent / "fixtures" / "vit"
IMAGE, PATCH, LAYERS, HEADS, DIM, MLP, CLASSES = 16, 4, 2, 2, 16, 24, 3
EPS = 1e-6


def torchvision_model(image=IMAGE):
    return VisionTransformer(
        image_size=image,
        patch_size=PATCH,
        num_layers=LAYERS,
        num_heads=HEADS,
        hidden_dim=DIM,
        mlp_dim=MLP,
        num_classes=CLASSES,
        norm_layer=partial(nn.LayerNorm, eps=EPS),
    )


def timm_state(state):
    """Torchvision's tensors under timm's names."""
    names = {
        "class_token": "cls_token",
        "encoder.pos_embedding": "pos_embed",
        "conv_proj": "patch_embed.proj",
        "encoder.ln": "norm",
        "heads.head": "head",
    }
    parts = {
        "ln_1": "norm1",
        "ln_2": "norm2",
        "self_attention.in_proj": "attn.qkv",
        "self_attention.out_proj": "attn.proj",
        "mlp.0": "mlp.fc1",
        "mlp.3": "mlp.fc2",
    }
    out = {}
    for name, tensor in state.items():
        if name.startswith("encoder.layers."):
            number, rest = name.removeprefix("encoder.layers.encoder_layer_").split(".", 1)
            rest = rest.replace("in_proj_", "in_proj.")
            part, kind = rest.rsplit(".", 1)
            out[f"blocks.{number}.{parts[part]}.{kind}"] = tensor
        elif name in names:
            out[names[name]] = tensor
        else:
            part, kind = name.rsplit(".", 1)
            out[f"{names[part]}.{kind}"] = tensor
    return out


def huggingface_state(state):
    """Torchvision's tensors under the names of Hugging Face's ViTForImageClassification."""
    names = {
        "class_token": "embeddings.cls_token",
        "encoder.pos_embedding": "embeddings.position_embeddings",
        "conv_proj": "embeddings.patch_embeddings.projection",
        "encoder.ln": "layernorm",
    }
    parts = {
        "ln_1": "layernorm_before",
        "ln_2": "layernorm_after",
        "self_attention.out_proj": "attention.output.dense",
        "mlp.0": "intermediate.dense",
        "mlp.3": "output.dense",
    }
    out = {}
    for name, tensor in state.items():
        if name.startswith("encoder.layers."):
            number, rest = name.removeprefix("encoder.layers.encoder_layer_").split(".", 1)
            layer = f"vit.encoder.layer.{number}"
            if "in_proj_" in rest:
                kind = rest.rsplit("_", 1)[1]
                for part, third in zip(("query", "key", "value"), tensor.chunk(3)):
                    out[f"{layer}.attention.attention.{part}.{kind}"] = third.clone()
            else:
                part, kind = rest.rsplit(".", 1)
                out[f"{layer}.{parts[part]}.{kind}"] = tensor
        elif name in names:
            out[f"vit.{names[name]}"] = tensor
        elif name.startswith("heads.head."):
            out[f"classifier.{name.rsplit('.', 1)[1]}"] = tensor
        else:
            part, kind = name.rsplit(".", 1)
            out[f"vit.{names[part]}.{kind}"] = tensor
    return out


def class_tokens(state, picture):
    """What each of the three modules makes of the picture, f64."""
    ours = torchvision_model().double().eval()
    ours.load_state_dict(state)
    tokens = torch.cat([ours.class_token, ours._process_input(picture)], dim=1)
    yield ours.encoder(tokens)[:, 0]

    theirs = timm.models.vision_transformer.VisionTransformer(
        img_size=IMAGE,
        patch_size=PATCH,
        num_classes=CLASSES,
        embed_dim=DIM,
        depth=LAYERS,
        num_heads=HEADS,
        mlp_ratio=MLP / DIM,
        norm_layer=partial(nn.LayerNorm, eps=EPS),
    )
    theirs = theirs.double().eval()
    theirs.load_state_dict(timm_state(state))
    yield theirs.forward_features(picture)[:, 0]

    config = transformers.ViTConfig(
        hidden_size=DIM,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=MLP,
        layer_norm_eps=EPS,
        image_size=IMAGE,
        patch_size=PATCH,
        num_labels=CLASSES,
    )
    model = transformers.ViTForImageClassification(config).double().eval()
    model.load_state_dict(huggingface_state(state))
    yield model.vit(picture).last_hidden_state[:, 0]


def write(name, tensors):
    made_by = f"torch {torch.__version__}, torchvision {torchvision.__version__}, timm {timm.__version__}, "
    made_by += f"transformers {transformers.__version__}"
    tensors = {key: tensor.contiguous() for key, tensor in tensors.items()}
    save_file(tensors, OUT / f"{name}.safetensors", metadata={"format": "pt", "reference": made_by})
    print(f"{name}: {len(tensors)} tensors, {(OUT / f'{name}.safetensors').stat().st_size} bytes")


def main():
    torch.manual_seed(5)
    OUT.mkdir(parents=True, exist_ok=True)
    # Biases, gains and the head start at constants, which would hide a tensor in another's place.
    state = {name: 0.3 * torch.randn_like(tensor) for name, tensor in torchvision_model().state_dict().items()}
    double = {name: tensor.double() for name, tensor in state.items()}
    with torch.no_grad():
        first, *others = class_tokens(double, torch.randn(1, 3, IMAGE, IMAGE, dtype=torch.float64))
    for other in others:
        difference = (first - other).abs().max().item()
        print(f"class tokens differ by {difference:.1e}, the largest value is {first.abs().max().item():.2f}")
        assert difference < 1e-12

    namings = {"torchvision": state, "timm": timm_state(state), "huggingface": huggingface_state(state)}
    for name, tensors in namings.items():
        write(name, tensors)
    write("timm_f16", {name: tensor.half() for name, tensor in namings["timm"].items()})
    write("huggingface_bf16", {name: tensor.bfloat16() for name, tensor in namings["huggingface"].items()})

    positions = {}
    for side in (2, 3, 6, 7):
        resized = interpolate_embeddings(side * PATCH, PATCH, dict(double))
        positions[f"{side}x{side}"] = resized["encoder.pos_embedding"].float()
    # Torchvision knows squares only; this is its own call with two sides.
    old, grid = double["encoder.pos_embedding"], math.isqrt(double["encoder.pos_embedding"].shape[1] - 1)
    square = old[:, 1:].permute(0, 2, 1).reshape(1, DIM, grid, grid)
    wide = nn.functional.interpolate(square, size=(3, 5), mode="bicubic", align_corners=True)
    wide = wide.reshape(1, DIM, 15).permute(0, 2, 1)
    positions["3x5"] = torch.cat([old[:, :1], wide], dim=1).float()
    write("positions", positions)


if __name__ == "__main__":
    main()
