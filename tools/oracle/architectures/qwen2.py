"""qwen2: biases on q, k and v, none on the output."""

from generate.declaration import Architecture, Fixture

ARCHITECTURE = Architecture(
    transformers=("Qwen2Config", "Qwen2ForCausalLM"),
    config={
        "model_type": "qwen2",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0,
        "sliding_window": 128,
        "use_sliding_window": False,
        "max_window_layers": 2,
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture("qwen2", "mlx"),
        Fixture(
            "qwen2-rope-mrope",
            "mlx",
            config={
                "rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2]},
                "num_key_value_heads": 1,
                "tie_word_embeddings": True,
            },
        ),
        Fixture(
            "qwen2-traditional",
            "mlx",
            config={
                "rope_traditional": True,
                "num_key_value_heads": 4,
                "rope_scaling": {"type": "linear", "factor": 2.0},
                "tie_word_embeddings": True,
            },
            dtype="float32",
        ),
        Fixture(
            "qwen2-8bit",
            "mlx",
            config={"hidden_size": 64, "intermediate_size": 64, "tie_word_embeddings": True},
            quantization={"group_size": 64, "bits": 8},
        ),
        Fixture(
            "qwen2-undeclared",
            "mlx",
            config={"hidden_size": 64, "intermediate_size": 64},
            dtype="float16",
            quantization={
                "group_size": 64,
                "bits": 4,
                "model.layers.0.mlp.down_proj": {"group_size": 32, "bits": 8},
                "model.layers.1.self_attn.q_proj": False,
                "lm_head": {"group_size": 64, "bits": 6},
            },
            undeclared=("model.layers.0.mlp.down_proj", "model.layers.1.self_attn.q_proj", "lm_head"),
        ),
        Fixture("qwen2-raw", "raw", config={"tie_word_embeddings": True}),
        Fixture(
            "qwen2-raw-yarn",
            "raw",
            config={"rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}},
            dtype="float32",
        ),
        Fixture(
            "qwen2-raw-window",
            "raw",
            config={"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1},
            oracle="transformers",
            reason="the layers from max_window_layers on see a window; mlx-lm does not look at it",
        ),
    ],
)
