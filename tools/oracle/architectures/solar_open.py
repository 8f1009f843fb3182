"""solar_open: GLM 4.5 that rotates whole heads, with experts in every layer."""

from generate.declaration import ABSENT, Architecture, Fixture
from generate.parameters import positive_corrections

ARCHITECTURE = Architecture(
    adjust=positive_corrections,
    transformers=("SolarOpenConfig", "SolarOpenForCausalLM"),
    drawn_buffers=("e_score_correction_bias",),
    config={
        "model_type": "solar_open",
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "intermediate_size": 48,
        "moe_intermediate_size": 16,
        "head_dim": 12,
        "n_routed_experts": 4,
        "n_shared_experts": 1,
        "num_experts_per_tok": 2,
        "norm_topk_prob": True,
        "routed_scaling_factor": 1.5,
        "first_k_dense_replace": 0,
        "rms_norm_eps": 1e-5,
        "rope_theta": 1000000.0,
        "partial_rotary_factor": 1.0,
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture(
            "solar-open", "mlx", config={"use_qk_norm": True, "first_k_dense_replace": 1, "partial_rotary_factor": 0.5}
        ),
        Fixture(
            "solar-open-4bit",
            "mlx",
            config={
                "hidden_size": 64,
                "moe_intermediate_size": 32,
                "n_group": 2,
                "topk_group": 1,
                "n_routed_experts": 8,
            },
            quantization={
                "group_size": 32,
                "bits": 4,
                "model.layers.1.mlp.shared_experts.up_proj": {"group_size": 64, "bits": 8},
            },
        ),
        Fixture(
            "solar-open-raw",
            "raw",
            config={"intermediate_size": ABSENT, "first_k_dense_replace": ABSENT},
            oracle="transformers",
            reason="mlx-lm wants the size of dense layers, of which there are none",
        ),
    ],
)
