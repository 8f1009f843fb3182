"""glm4: norms before and after each block, gate and up in one projection, neighbouring features of a part of each head rotated."""

from generate.declaration import ABSENT, Architecture, Fixture

ARCHITECTURE = Architecture(
    transformers=("Glm4Config", "Glm4ForCausalLM"),
    config={
        "model_type": "glm4",
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
        "partial_rotary_factor": 0.5,
        "attention_bias": True,
        "pad_token_id": 0,
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture("glm4", "mlx"),
        Fixture("glm4-wide", "mlx", config={"head_dim": 64}, length=40),
        Fixture(
            "glm4-halves",
            "mlx",
            config={
                "attention_bias": False,
                "rope_traditional": False,
                "partial_rotary_factor": 1.0,
                "rms_norm_eps": 1e-2,
                "num_key_value_heads": 1,
                "tie_word_embeddings": ABSENT,
            },
            dtype="float16",
        ),
        Fixture(
            "glm4-4bit",
            "mlx",
            config={"hidden_size": 64, "intermediate_size": 64, "head_dim": 16},
            quantization={"group_size": 32, "bits": 4, "lm_head": {"group_size": 64, "bits": 8}},
        ),
        Fixture("glm4-raw", "raw"),
        Fixture("glm4-raw-plain", "raw", config={"attention_bias": False, "num_key_value_heads": 4}, dtype="float32"),
    ],
)
