"""smollm3: llama without rotation in every fourth layer, or where the configuration says so."""

from generate.declaration import ABSENT, Architecture, Fixture

ARCHITECTURE = Architecture(
    transformers=("SmolLM3Config", "SmolLM3ForCausalLM"),
    config={
        "model_type": "smollm3",
        "hidden_size": 32,
        "intermediate_size": 24,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-6,
        "rope_theta": 5000000.0,
        "no_rope_layer_interval": 4,
        "pad_token_id": None,
        "tie_word_embeddings": True,
    },
    fixtures=[
        Fixture("smollm3", "mlx"),
        Fixture(
            "smollm3-no-rope-layers",
            "mlx",
            config={
                "num_hidden_layers": 3,
                "no_rope_layer_interval": ABSENT,
                # 1 stands for a rotation.
                "no_rope_layers": [0, 1, 0],
                "attention_bias": True,
                "mlp_bias": True,
                "rope_traditional": True,
                "tie_word_embeddings": False,
            },
            dtype="float16",
        ),
        Fixture(
            "smollm3-4bit",
            "mlx",
            config={"hidden_size": 64, "intermediate_size": 64, "no_rope_layer_interval": 2, "num_hidden_layers": 2},
            quantization={"group_size": 64, "bits": 4},
        ),
        Fixture("smollm3-raw", "raw"),
        Fixture(
            "smollm3-raw-no-rope-layers",
            "raw",
            config={
                "num_hidden_layers": 2,
                "no_rope_layers": [1, 0],
                "attention_bias": True,
                "tie_word_embeddings": False,
                "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64},
            },
            dtype="float32",
        ),
    ],
)
