"""axk1: DeepSeek V3 with a norm behind the experts of each layer."""

import numpy as np

from generate.declaration import ABSENT, Architecture, Fixture
from generate.parameters import positive_corrections

REASON = "mlx-lm lacks this architecture"


def unused(config: dict) -> dict[str, np.ndarray]:
    """The norm that a layer without experts has."""
    return {"model.layers.0.post_mlp_layernorm.weight": np.full(config["hidden_size"], 0.5, np.float16)}


def without_corrections(name: str, value: np.ndarray) -> np.ndarray:
    return np.zeros_like(value) if "e_score_correction_bias" in name else value


ARCHITECTURE = Architecture(
    adjust=positive_corrections,
    transformers=("AXK1Config", "AXK1ForCausalLM"),
    drawn_buffers=("e_score_correction_bias",),
    config={
        "model_type": "axk1",
        "hidden_size": 32,
        "intermediate_size": 48,
        "moe_intermediate_size": 16,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "q_lora_rank": 24,
        "kv_lora_rank": 16,
        "qk_nope_head_dim": 16,
        "qk_rope_head_dim": 8,
        "v_head_dim": 12,
        "n_routed_experts": 8,
        "n_shared_experts": 1,
        "num_experts_per_tok": 2,
        "n_group": 4,
        "topk_group": 2,
        "first_k_dense_replace": 1,
        "routed_scaling_factor": 2.5,
        "norm_topk_prob": True,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture("axk1-raw", "raw", extra_tensors=unused, length=24, oracle="transformers", reason=REASON),
        Fixture(
            "axk1-raw-no-corrections",
            "raw",
            config={
                "mlp_layer_types": ["sparse", "dense"],
                "first_k_dense_replace": ABSENT,
                "num_hidden_layers": 2,
                "n_group": 1,
                "topk_group": 1,
                "rope_interleave": False,
                "norm_topk_prob": False,
                "rms_norm_eps": 1e-2,
            },
            adjust=without_corrections,
            published=lambda tensors, config: {name: it for name, it in tensors.items() if "e_score_correction_bias" not in name},
            dtype="float16",
            length=24,
            oracle="transformers",
            reason=REASON,
        ),
    ],
)
