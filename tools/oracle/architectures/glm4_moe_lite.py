"""glm4_moe_lite: GLM 4.5's experts behind DeepSeek's latent attention."""

from generate.declaration import ABSENT, Architecture, Fixture
from generate.parameters import positive_corrections

ARCHITECTURE = Architecture(
    adjust=positive_corrections,
    transformers=("Glm4MoeLiteConfig", "Glm4MoeLiteForCausalLM"),
    drawn_buffers=("e_score_correction_bias",),
    config={
        "model_type": "glm4_moe_lite",
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "num_key_value_heads": 3,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "intermediate_size": 48,
        "moe_intermediate_size": 16,
        "n_routed_experts": 4,
        "n_shared_experts": 1,
        "num_experts_per_tok": 2,
        "norm_topk_prob": True,
        "routed_scaling_factor": 1.5,
        "first_k_dense_replace": 1,
        "kv_lora_rank": 16,
        "q_lora_rank": 24,
        "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 12,
        "v_head_dim": 16,
        # What transformers takes for the norms of latent attention in any case.
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0,
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture("glm4-moe-lite", "mlx", config={"rope_theta": 1000000.0, "n_group": 2, "topk_group": 1}),
        Fixture(
            "glm4-moe-lite-4bit",
            "mlx",
            config={
                "hidden_size": 64,
                "intermediate_size": 64,
                "moe_intermediate_size": 32,
                "kv_lora_rank": 32,
                "q_lora_rank": 32,
                "qk_nope_head_dim": 32,
                "v_head_dim": 32,
                "routed_scaling_factor": ABSENT,
            },
            quantization={
                "group_size": 32,
                "bits": 4,
                "model.layers.1.mlp.shared_experts.up_proj": {"group_size": 64, "bits": 8},
            },
        ),
        Fixture("glm4-moe-lite-raw", "raw"),
        Fixture(
            "glm4-moe-lite-raw-epsilon",
            "raw",
            config={"rms_norm_eps": 1e-2, "attention_bias": True},
            oracle="transformers",
            reason="mlx-lm takes the epsilon of the layers for the norms inside of attention, too",
        ),
    ],
)
