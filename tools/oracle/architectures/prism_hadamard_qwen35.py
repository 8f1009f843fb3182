"""prism_hadamard_qwen35: Qwen 3.5 with matrices of two bits, whose inputs are rotated in blocks."""

import numpy as np
from generate.declaration import Architecture, Fixture
from generate.unrounded import Unrounded
from mlx_lm.models import prism_hadamard_qwen35

TEXT = {
    "model_type": "qwen3_5_text",
    "hidden_size": 512,
    "intermediate_size": 1024,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 32,
    "linear_value_head_dim": 32,
    "linear_conv_kernel_dim": 3,
    "full_attention_interval": 2,
    "vocab_size": 96,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-6,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5},
    "tie_word_embeddings": False,
}
QUANTIZATION = {"bits": 2, "group_size": 128, "mode": "affine"}
# Inputs of the layers' projections, and whether the pack rotates them.
BLOCKS = {
    "model.embed_tokens": 512,
    "model.layers.0.linear_attn.in_proj_qkv": 512,
    "model.layers.0.linear_attn.in_proj_z": 512,
    "model.layers.0.linear_attn.out_proj": 0,
    "model.layers.0.mlp.gate_proj": 512,
    "model.layers.0.mlp.up_proj": 512,
    "model.layers.0.mlp.down_proj": 1024,
    "model.layers.1.self_attn.q_proj": 512,
    "model.layers.1.self_attn.k_proj": 512,
    "model.layers.1.self_attn.v_proj": 512,
    "model.layers.1.self_attn.o_proj": 0,
    "model.layers.1.mlp.down_proj": 512,
    "lm_head": 512,
}


def modules(blocks: dict[str, int]) -> list[dict]:
    return [
        {"path": path, "block": block, "embedding": path.endswith("embed_tokens"), "dtype": "float16"}
        for path, block in blocks.items()
    ]


def pack(name, value):
    """Signs, scales that keep the size of what passes through, and outputs of which none is too large."""
    if name.endswith(".signs"):
        return np.where(value < 1, np.float32(-1), np.float32(1))
    return value * np.float32(0.04) if name.endswith(".scales") else value


def unrounded(_) -> None:
    prism_hadamard_qwen35.mx = Unrounded()


TIED = {path: block for path, block in BLOCKS.items() if path != "lm_head"}

ARCHITECTURE = Architecture(
    adjust=pack,
    mend=unrounded,
    config={
        "model_type": "prism_hadamard_qwen35",
        "schema_version": 1,
        "tensor_namespace": "mlx-lm-text",
        "gdn_activation_layout": "grouped",
        "quantization": QUANTIZATION,
        "modules": modules(BLOCKS),
        "text_config": TEXT,
    },
    fixtures=[
        Fixture("prism-hadamard-qwen35", "mlx", dtype="float16", length=24),
        Fixture(
            "prism-hadamard-qwen35-tied",
            "mlx",
            config={
                "schema_version": 2,
                "tensor_namespace": "mlx-vlm-qwen3_5",
                "modules": modules(TIED),
                "text_config": {**TEXT, "tie_word_embeddings": True},
            },
            length=24,
        ),
    ],
)
