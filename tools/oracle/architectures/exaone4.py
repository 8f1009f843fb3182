"""exaone4: norms after the blocks and over each query and key head; with windows, layers that see everything do not rotate."""

from generate.declaration import Architecture, Fixture

ARCHITECTURE = Architecture(
    transformers=("Exaone4Config", "Exaone4ForCausalLM"),
    config={
        "model_type": "exaone4",
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5,
        "rope_theta": 1000000.0,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 16.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
        "sliding_window": 8,
        "sliding_window_pattern": "LLLG",
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture("exaone4", "mlx", length=30),
        Fixture(
            "exaone4-global",
            "mlx",
            config={
                "num_hidden_layers": 2,
                "sliding_window": None,
                "sliding_window_pattern": None,
                "tie_word_embeddings": True,
                "rms_norm_eps": 1e-2,
                "head_dim": 12,
            },
            dtype="float16",
        ),
        Fixture(
            "exaone4-4bit",
            "mlx",
            config={
                "hidden_size": 64,
                "num_hidden_layers": 2,
                "sliding_window_pattern": "LG",
                "intermediate_size": 64,
                "head_dim": 16,
            },
            quantization={"group_size": 32, "bits": 4, "lm_head": {"group_size": 64, "bits": 8}},
            length=30,
        ),
        Fixture(
            "exaone4-raw",
            "raw",
            config={"layer_types": ["sliding_attention", "sliding_attention", "sliding_attention", "full_attention"]},
            length=30,
        ),
        Fixture(
            "exaone4-raw-global",
            "raw",
            config={
                "num_hidden_layers": 2,
                "sliding_window": None,
                "sliding_window_pattern": None,
                "layer_types": ["full_attention", "full_attention"],
            },
            dtype="float32",
        ),
    ],
)
