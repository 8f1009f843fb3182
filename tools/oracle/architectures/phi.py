"""phi: attention and MLP side by side behind one LayerNorm, biases everywhere, a rotation of part of a head."""

from generate.declaration import ABSENT, Architecture, Fixture

ARCHITECTURE = Architecture(
    transformers=("PhiConfig", "PhiForCausalLM"),
    config={
        "model_type": "phi",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "partial_rotary_factor": 0.5,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "layer_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "hidden_act": "gelu_new",
        "qk_layernorm": False,
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture("phi", "mlx"),
        Fixture(
            "phi-grouped",
            "mlx",
            config={
                "num_attention_heads": 2,
                "num_key_value_heads": 1,
                # 6 of 16.
                "partial_rotary_factor": 0.4,
                "layer_norm_eps": 1e-2,
                "rope_theta": ABSENT,
            },
            dtype="float16",
        ),
        Fixture(
            "phi-4bit",
            "mlx",
            config={"hidden_size": 64, "intermediate_size": 64},
            quantization={"group_size": 32, "bits": 4, "lm_head": {"group_size": 64, "bits": 8}},
        ),
        Fixture("phi-raw", "raw"),
        Fixture(
            "phi-raw-null-heads", "raw", config={"num_key_value_heads": None, "rope_theta": 5000.0}, dtype="float32"
        ),
        Fixture(
            "phi-raw-normed",
            "raw",
            config={
                "partial_rotary_factor": ABSENT,
                "hidden_act": "relu",
                "qk_layernorm": True,
                "layer_norm_eps": 1e-2,
                "tie_word_embeddings": True,
            },
            oracle="transformers",
            reason="mlx-lm has no norm over queries and keys, no other activation and no tied head",
        ),
    ],
)
