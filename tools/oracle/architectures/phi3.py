"""phi3: fused projections of queries, keys and values and of gate and up; longrope and a rotation of part of a head."""

from generate.declaration import ABSENT, Architecture, Fixture

SHORT = [1.0, 1.1, 1.5, 2.0]
LONG = [1.0, 1.25, 2.0, 4.0]

ARCHITECTURE = Architecture(
    transformers=("Phi3Config", "Phi3ForCausalLM"),
    config={
        "model_type": "phi3",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "original_max_position_embeddings": 256,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "rope_scaling": None,
        "sliding_window": None,
        "pad_token_id": None,
        "bos_token_id": None,
        "eos_token_id": None,
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture("phi3", "mlx"),
        Fixture(
            "phi3-longrope",
            "mlx",
            config={
                "rope_scaling": {"type": "longrope", "short_factor": SHORT, "long_factor": LONG},
                "original_max_position_embeddings": 16,
                "num_key_value_heads": ABSENT,
                "tie_word_embeddings": True,
                "rms_norm_eps": 1e-2,
            },
            dtype="float16",
            length=24,
        ),
        Fixture(
            "phi3-partial-su",
            "mlx",
            config={
                "rope_scaling": {"type": "su", "short_factor": SHORT[:3], "long_factor": LONG[:3]},
                "partial_rotary_factor": 0.75,
                "original_max_position_embeddings": ABSENT,
                "max_position_embeddings": 8192,
                "num_key_value_heads": 1,
                "tie_word_embeddings": True,
            },
        ),
        Fixture(
            "phi3-linear-traditional",
            "mlx",
            config={
                # mlx-lm asks for long_factor whatever the type.
                "rope_scaling": {"type": "linear", "factor": 2.0, "long_factor": LONG},
                "rope_traditional": True,
                "partial_rotary_factor": 0.5,
                "tie_word_embeddings": True,
            },
            dtype="float32",
        ),
        Fixture(
            "phi3-4bit",
            "mlx",
            config={"hidden_size": 64, "intermediate_size": 64},
            quantization={
                "group_size": 32,
                "bits": 4,
                "model.layers.0.self_attn.qkv_proj": {"group_size": 64, "bits": 8},
                "model.layers.1.mlp.gate_up_proj": {"group_size": 64, "bits": 3},
            },
        ),
        Fixture("phi3-raw", "raw"),
        Fixture(
            "phi3-raw-longrope",
            "raw",
            config={
                "rope_scaling": {"type": "longrope", "short_factor": SHORT[:3], "long_factor": LONG[:3]},
                "partial_rotary_factor": 0.75,
                "original_max_position_embeddings": 16,
                "tie_word_embeddings": True,
            },
            # Longer than the original context: transformers uses the long factors too.
            length=24,
        ),
        Fixture(
            "phi3-raw-longrope-short",
            "raw",
            config={
                "rope_scaling": {
                    "type": "longrope",
                    "short_factor": SHORT[:3],
                    "long_factor": LONG[:3],
                    "factor": 4.0,
                },
                "partial_rotary_factor": 0.75,
            },
            oracle="transformers",
            reason="mlx-lm has the factors of long contexts always",
        ),
        Fixture(
            "phi3-raw-window",
            "raw",
            config={"sliding_window": 8},
            length=30,
            oracle="transformers",
            reason="a sliding_window holds for every layer; mlx-lm does not look at it",
        ),
    ],
)
