"""qwen3_next: the gated delta rule with short convolutions, and in every fourth layer attention behind a sigmoid gate; experts and a shared one."""

import numpy as np

from generate.declaration import Architecture, Fixture
from generate.parameters import rounded_norms


def prediction_layer(config: dict) -> dict[str, np.ndarray]:
    """Some of the part that predicts a token more."""
    size = config["hidden_size"]
    return {
        "mtp.fc.weight": np.full((size, 2 * size), 0.5, np.float16),
        "mtp.norm.weight": np.full(size, 0.5, np.float16),
        "mtp.layers.0.input_layernorm.weight": np.full(size, 0.5, np.float16),
    }


ARCHITECTURE = Architecture(
    adjust=rounded_norms,
    transformers=("Qwen3NextConfig", "Qwen3NextForCausalLM"),
    config={
        "model_type": "qwen3_next",
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "full_attention_interval": 2,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 6,
        "linear_conv_kernel_dim": 4,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 8,
        "shared_expert_intermediate_size": 16,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "norm_topk_prob": True,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000000.0,
        "partial_rotary_factor": 0.25,
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture("qwen3-next", "mlx", length=40),
        Fixture(
            "qwen3-next-biases",
            "mlx",
            config={
                "attention_bias": True,
                "tie_word_embeddings": True,
                "norm_topk_prob": False,
                "partial_rotary_factor": 0.5,
                "rope_scaling": {"rope_type": "linear", "factor": 2.0},
                "linear_num_value_heads": 2,
                "linear_conv_kernel_dim": 3,
                "num_attention_heads": 4,
                "num_key_value_heads": 2,
                "head_dim": 8,
                # The middle one of three layers has experts, the others have none.
                "decoder_sparse_step": 2,
                "full_attention_interval": 3,
                "rms_norm_eps": 1e-2,
            },
            dtype="float16",
        ),
        Fixture(
            "qwen3-next-4bit",
            "mlx",
            config={
                "hidden_size": 64,
                "num_hidden_layers": 2,
                "moe_intermediate_size": 32,
                "shared_expert_intermediate_size": 32,
                "linear_value_head_dim": 8,
                "linear_conv_kernel_dim": 2,
                "mlp_only_layers": [0],
            },
            quantization={
                "group_size": 32,
                "bits": 4,
                "model.layers.0.linear_attn.in_proj_ba": {"group_size": 64, "bits": 8},
                "model.layers.1.mlp.switch_mlp.up_proj": {"group_size": 32, "bits": 6},
            },
            length=40,
        ),
        Fixture("qwen3-next-raw", "raw", extra_tensors=prediction_layer, length=40),
        Fixture(
            "qwen3-next-raw-biases",
            "raw",
            config={
                "attention_bias": True,
                "tie_word_embeddings": True,
                "mlp_only_layers": [1],
                "num_hidden_layers": 2,
            },
            dtype="float16",
        ),
    ],
)
