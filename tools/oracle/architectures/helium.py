"""helium: Llama with neighbouring features rotated."""

from generate.declaration import Architecture, Fixture

ARCHITECTURE = Architecture(
    transformers=("HeliumConfig", "HeliumForCausalLM"),
    config={
        "model_type": "helium",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "head_dim": 8,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-8,
        "rope_theta": 100000.0,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture("helium", "mlx"),
        Fixture(
            "helium-biases",
            "mlx",
            config={"attention_bias": True, "mlp_bias": True, "num_key_value_heads": 2, "rms_norm_eps": 1e-2},
            dtype="float16",
        ),
        Fixture(
            "helium-4bit",
            "mlx",
            config={"hidden_size": 64, "intermediate_size": 64, "head_dim": 16},
            quantization={"group_size": 32, "bits": 4, "lm_head": {"group_size": 64, "bits": 8}},
        ),
        Fixture("helium-raw", "raw"),
        Fixture("helium-raw-biases", "raw", config={"attention_bias": True, "mlp_bias": True}, dtype="float32"),
    ],
)
