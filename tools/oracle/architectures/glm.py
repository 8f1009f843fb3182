"""glm: gate and up in one projection, and neighbouring features rotated."""

from generate.declaration import ABSENT, Architecture, Fixture

ARCHITECTURE = Architecture(
    transformers=("GlmConfig", "GlmForCausalLM"),
    config={
        "model_type": "glm",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 12,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1.5625e-7,
        "rope_theta": 10000.0,
        # mlx-lm rotates whole heads, whatever is said here.
        "partial_rotary_factor": 1.0,
        "attention_bias": True,
        "pad_token_id": 0,
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture("glm", "mlx"),
        Fixture(
            "glm-tied",
            "mlx",
            config={
                "attention_bias": ABSENT,
                "rope_theta": ABSENT,
                "tie_word_embeddings": True,
                "rms_norm_eps": 1e-2,
                "num_key_value_heads": 1,
            },
            dtype="float16",
        ),
        Fixture(
            "glm-4bit",
            "mlx",
            config={"hidden_size": 64, "intermediate_size": 64, "head_dim": 16},
            quantization={
                "group_size": 32,
                "bits": 4,
                "model.layers.0.mlp.gate_up_proj": {"group_size": 64, "bits": 8},
            },
        ),
        Fixture("glm-raw", "raw"),
        Fixture(
            "glm-raw-partial",
            "raw",
            config={"partial_rotary_factor": 0.5},
            dtype="float32",
            oracle="transformers",
            reason="mlx-lm rotates whole heads",
        ),
    ],
)
