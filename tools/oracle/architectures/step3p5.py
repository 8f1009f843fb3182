"""step3p5: gates of each head, heads and a rotation of their own in windows, bounded experts."""

import torch

from generate.declaration import ABSENT, Architecture, Fixture
from generate.parameters import positive_corrections, rounded_norms

NAMES = [
    (".mlp.switch_mlp.", ".moe."),
    (".mlp.gate.gate.", ".moe.gate."),
    (".mlp.gate.router_bias", ".moe.router_bias"),
    (".mlp.share_expert.", ".share_expert."),
]


def published(tensors, _):
    """Other names, and norms less 1."""
    result = {}
    for name, tensor in tensors.items():
        if name.endswith("norm.weight"):
            tensor = tensor - 1
        for old, new in NAMES:
            name = name.replace(old, new)
        result[name] = tensor
    width = tensors["model.norm.weight"].shape[0]
    return {**result, "model.layers.3.enorm.weight": torch.full((width,), 0.5, dtype=torch.float16)}


def adjusted(name, value):
    value = positive_corrections(name, rounded_norms(name, value))
    # Bounds are small here, so that they matter.
    return value * 4 if "gate_proj" in name or "up_proj" in name else value


ARCHITECTURE = Architecture(
    adjust=adjusted,
    config={
        "model_type": "step3p5",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_attention_groups": 2,
        "head_dim": 8,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5,
        "rope_theta": [5000000.0, 10000.0, 10000.0, 5000000.0],
        "partial_rotary_factors": [0.5, 1.0, 1.0, 0.5],
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 2.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 32.0,
            "original_max_position_embeddings": 64,
        },
        "yarn_only_types": ["full_attention"],
        "sliding_window": 8,
        "layer_types": [
            "full_attention",
            "sliding_attention",
            "sliding_attention",
            "full_attention",
        ],
        "attention_other_setting": {
            "attention_type": "sliding_attention",
            "num_attention_heads": 6,
            "num_attention_groups": 3,
            "head_dim": 8,
        },
        "use_head_wise_attn_gate": True,
        "moe_num_experts": 4,
        "moe_top_k": 2,
        "moe_intermediate_size": 16,
        "share_expert_dim": 24,
        "moe_layers_enum": "1,2",
        "moe_router_scaling_factor": 3.0,
        "norm_expert_weight": True,
        "swiglu_limits": [0.0, 0.0, 0.5, 0.0],
        "swiglu_limits_shared": [0.0, 0.5, 0.0, 0.0],
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture("step3p5", "mlx", config={"rms_norm_eps": 1e-2}, length=30),
        Fixture(
            "step3p5-defaults",
            "mlx",
            config={
                "num_hidden_layers": 2,
                "rope_theta": 10000.0,
                "partial_rotary_factors": ABSENT,
                "rope_scaling": ABSENT,
                "yarn_only_types": ABSENT,
                "layer_types": ABSENT,
                "attention_other_setting": ABSENT,
                "use_head_wise_attn_gate": False,
                "moe_layers_enum": ABSENT,
                "moe_router_scaling_factor": ABSENT,
                "norm_expert_weight": False,
                "swiglu_limits": ABSENT,
                "swiglu_limits_shared": [0.5, 0.0],
            },
            dtype="float16",
            length=30,
        ),
        Fixture(
            "step3p5-4bit",
            "mlx",
            config={
                "hidden_size": 64,
                "intermediate_size": 64,
                "moe_intermediate_size": 32,
                "share_expert_dim": 32,
                "num_hidden_layers": 2,
                "attention_other_setting": {"num_attention_heads": 8, "num_attention_groups": 4},
            },
            quantization={
                "group_size": 32,
                "bits": 4,
                "model.layers.1.mlp.switch_mlp.up_proj": {"group_size": 64, "bits": 8},
            },
        ),
        Fixture("step3p5-raw", "raw", published=published, length=30),
    ],
)
