"""glm4_moe: experts chosen by sigmoid scores with a correction, within the best groups; a rotation of half of a head."""

import numpy as np

from generate.declaration import Architecture, Fixture
from generate.parameters import negative_corrections, positive_corrections


def prediction_layer(config: dict) -> dict[str, np.ndarray]:
    """Some of the layer behind the last one, that predicts a token more."""
    layer, size = f"model.layers.{config['num_hidden_layers']}", config["hidden_size"]
    return {
        f"{layer}.eh_proj.weight": np.full((size, 2 * size), 0.5, np.float16),
        f"{layer}.enorm.weight": np.full(size, 0.5, np.float16),
        f"{layer}.mlp.experts.0.up_proj.weight": np.full((config["moe_intermediate_size"], size), 0.5, np.float16),
    }


ARCHITECTURE = Architecture(
    adjust=positive_corrections,
    transformers=("Glm4MoeConfig", "Glm4MoeForCausalLM"),
    drawn_buffers=("e_score_correction_bias",),
    config={
        "model_type": "glm4_moe",
        "hidden_size": 32,
        "intermediate_size": 32,
        "moe_intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "n_group": 2,
        "topk_group": 1,
        "n_routed_experts": 4,
        "n_shared_experts": 1,
        "num_experts_per_tok": 2,
        "norm_topk_prob": True,
        "routed_scaling_factor": 1.5,
        "first_k_dense_replace": 1,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5,
        "rope_theta": 1000000.0,
        "rope_scaling": None,
        "partial_rotary_factor": 0.5,
        "use_qk_norm": False,
        "attention_bias": True,
        "pad_token_id": None,
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture("glm4-moe", "mlx", length=40),
        Fixture(
            "glm4-moe-ungrouped",
            "mlx",
            config={
                "n_group": 1,
                "n_routed_experts": 3,
                "norm_topk_prob": False,
                "n_shared_experts": 2,
                "first_k_dense_replace": 0,
                "use_qk_norm": True,
                "attention_bias": False,
                "partial_rotary_factor": 1.0,
                "head_dim": 12,
                "num_key_value_heads": 1,
                "rms_norm_eps": 1e-2,
            },
            dtype="float16",
        ),
        Fixture(
            "glm4-moe-groups",
            "mlx",
            config={
                "n_group": 4,
                "topk_group": 2,
                "n_routed_experts": 8,
                "n_shared_experts": None,
                "num_experts_per_tok": 3,
                "use_qk_norm": True,
                "moe_intermediate_size": 8,
            },
            length=30,
        ),
        Fixture(
            "glm4-moe-4bit",
            "mlx",
            config={"hidden_size": 64, "intermediate_size": 64, "moe_intermediate_size": 32, "head_dim": 16},
            quantization={
                "group_size": 32,
                "bits": 4,
                "model.layers.1.mlp.switch_mlp.down_proj": {"group_size": 32, "bits": 6},
                "model.layers.1.mlp.shared_experts.up_proj": {"group_size": 64, "bits": 8},
            },
            length=40,
        ),
        Fixture("glm4-moe-raw", "raw", extra_tensors=prediction_layer, length=40),
        Fixture(
            "glm4-moe-raw-normed",
            "raw",
            config={
                "use_qk_norm": True,
                "attention_bias": False,
                "n_group": 1,
                "first_k_dense_replace": 0,
                "norm_topk_prob": False,
                "head_dim": 16,
            },
            dtype="float16",
        ),
        Fixture(
            "glm4-moe-raw-negative-scores",
            "raw",
            adjust=negative_corrections,
            oracle="transformers",
            reason="no expert of another group is ever chosen; mlx-lm sets their scores to zero, which is more than a negative one",
        ),
    ],
)
