"""granitemoe: granite with experts in every layer."""

from generate.declaration import Architecture, Fixture

ARCHITECTURE = Architecture(
    transformers=("GraniteMoeConfig", "GraniteMoeForCausalLM"),
    config={
        "model_type": "granitemoe",
        "hidden_size": 32,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "embedding_multiplier": 12.0,
        "attention_multiplier": 0.25,
        "residual_multiplier": 0.22,
        "logits_scaling": 6.0,
        "attention_bias": False,
        "num_local_experts": 8,
        "num_experts_per_tok": 4,
        "tie_word_embeddings": True,
    },
    fixtures=[
        Fixture("granitemoe", "mlx", length=24),
        Fixture(
            "granitemoe-4bit",
            "mlx",
            config={
                "hidden_size": 64,
                "intermediate_size": 64,
                "num_local_experts": 4,
                "num_experts_per_tok": 2,
                "tie_word_embeddings": False,
            },
            quantization={"group_size": 32, "bits": 4, "lm_head": {"group_size": 64, "bits": 8}},
            length=24,
        ),
        Fixture("granitemoe-raw", "raw", length=24),
        Fixture(
            "granitemoe-raw-biases",
            "raw",
            config={"attention_bias": True, "tie_word_embeddings": False, "num_experts_per_tok": 2},
            dtype="float32",
            length=24,
        ),
    ],
)
