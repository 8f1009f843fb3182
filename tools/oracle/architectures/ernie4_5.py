"""ernie4_5: Llama with neighbouring features rotated, and biases everywhere or nowhere."""

from generate.declaration import Architecture, Fixture

ARCHITECTURE = Architecture(
    transformers=("Ernie4_5Config", "Ernie4_5ForCausalLM"),
    config={
        "model_type": "ernie4_5",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 12,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0,
        "use_bias": False,
        "tie_word_embeddings": True,
    },
    fixtures=[
        Fixture("ernie4-5", "mlx"),
        Fixture(
            "ernie4-5-biases",
            "mlx",
            config={
                "use_bias": True,
                "tie_word_embeddings": False,
                "head_dim": None,
                "rms_norm_eps": 1e-2,
                "num_key_value_heads": 4,
            },
            dtype="float16",
        ),
        Fixture(
            "ernie4-5-4bit",
            "mlx",
            config={"hidden_size": 64, "intermediate_size": 64, "head_dim": 16},
            quantization={
                "group_size": 32,
                "bits": 4,
                "model.layers.1.self_attn.v_proj": {"group_size": 64, "bits": 8},
            },
        ),
        Fixture("ernie4-5-raw", "raw"),
        Fixture("ernie4-5-raw-biases", "raw", config={"use_bias": True, "tie_word_embeddings": False}, dtype="float32"),
    ],
)
