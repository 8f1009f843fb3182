"""gpt_oss: attention sinks, windows in every other layer, clipped SwiGLU with biases, soft-max over the chosen experts; mxfp4 as published."""

import numpy as np
import torch

from generate.declaration import ABSENT, Architecture, Fixture
from generate.packing import mxfp4_packed, mxfp4_rounded

# `truncate: false` keeps the fractions of the ramp's ends.
YARN = {
    "rope_type": "yarn",
    "factor": 32.0,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "original_max_position_embeddings": 4096,
}
EXPERTS = ("experts.gate_up_proj", "experts.down_proj")


def rounded(name: str, value: np.ndarray) -> np.ndarray:
    """Experts, `[experts, in, out]`, as mxfp4 stores them along `in`."""
    if not name.endswith(EXPERTS):
        return value
    return np.ascontiguousarray(mxfp4_rounded(value.swapaxes(1, 2)).swapaxes(1, 2))


def blocks_and_scales(tensors: dict[str, torch.Tensor], _: dict) -> dict[str, torch.Tensor]:
    """Experts as `[experts, out, in]` in blocks."""
    published = {}
    for name, tensor in tensors.items():
        if name.endswith(EXPERTS):
            blocks, scales = mxfp4_packed(tensor.transpose(1, 2).contiguous())
            published |= {f"{name}_blocks": blocks, f"{name}_scales": scales}
        else:
            published[name] = tensor
    return published


ARCHITECTURE = Architecture(
    transformers=("GptOssConfig", "GptOssForCausalLM"),
    config={
        "model_type": "gpt_oss",
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5,
        "rope_theta": 150000.0,
        "rope_scaling": YARN,
        "sliding_window": 8,
        "layer_types": ["sliding_attention", "full_attention"],
        "pad_token_id": None,
        "tie_word_embeddings": False,
    },
    # Some values within the experts pass the clip's limit of seven.
    adjust=lambda name, value: (
        value * 5 if name.endswith(("gate_up_proj_bias", "gate_proj.bias", "up_proj.bias")) else value
    ),
    fixtures=[
        Fixture("gpt-oss", "mlx", length=40),
        Fixture("gpt-oss-wide", "mlx", config={"head_dim": 64, "num_key_value_heads": 1, "sliding_window": 128}, length=40),
        Fixture(
            "gpt-oss-plain-rope",
            "mlx",
            config={
                "rope_scaling": ABSENT,
                "layer_types": ["full_attention", "sliding_attention", "full_attention"],
                "num_hidden_layers": 3,
                "intermediate_size": 16,
                "num_experts_per_tok": 3,
                "num_key_value_heads": 1,
                "head_dim": 8,
                "rope_theta": ABSENT,
                "rms_norm_eps": 1e-2,
            },
            dtype="float16",
            length=30,
        ),
        Fixture(
            "gpt-oss-mxfp4",
            "mlx",
            config={"hidden_size": 64, "layer_types": ABSENT},
            quantization={
                "group_size": 32,
                "bits": 4,
                "mode": "mxfp4",
                "model.embed_tokens": {"group_size": 64, "bits": 8, "mode": "affine"},
                "model.layers.0.mlp.router": {"group_size": 64, "bits": 8, "mode": "affine"},
                "model.layers.1.mlp.router": {"group_size": 64, "bits": 8, "mode": "affine"},
                "model.layers.1.self_attn.o_proj": False,
                "lm_head": False,
            },
            length=40,
        ),
        Fixture(
            "gpt-oss-4bit",
            "mlx",
            config={"hidden_size": 64},
            quantization={"group_size": 32, "bits": 4, "lm_head": {"group_size": 64, "bits": 6}},
            length=30,
        ),
        Fixture(
            "gpt-oss-raw",
            "raw",
            config={"quantization_config": {"quant_method": "mxfp4"}},
            adjust=rounded,
            published=blocks_and_scales,
            length=40,
        ),
        Fixture(
            "gpt-oss-raw-untruncated",
            "raw",
            config={"quantization_config": {"quant_method": "mxfp4"}, "rope_scaling": {**YARN, "truncate": False}},
            adjust=rounded,
            published=blocks_and_scales,
            length=30,
            oracle="transformers",
            reason="truncate: false keeps the fractions of YaRN's ramp; mlx-lm always rounds its ends",
        ),
        Fixture(
            "gpt-oss-raw-unpacked",
            "raw",
            length=30,
            oracle="transformers",
            reason="mlx-lm refuses experts that are not packed: [experts, in, out], gate and up in turn",
        ),
    ],
)
