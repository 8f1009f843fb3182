"""stablelm: LayerNorms, a rotation of part of a head, blocks side by side or one after the other, a norm of its own for each head."""

from generate.declaration import Architecture, Fixture

ARCHITECTURE = Architecture(
    transformers=("StableLmConfig", "StableLmForCausalLM"),
    config={
        "model_type": "stablelm",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "layer_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "partial_rotary_factor": 0.25,
        "use_qkv_bias": True,
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture("stablelm", "mlx"),
        Fixture(
            "stablelm-parallel",
            "mlx",
            config={
                "use_qkv_bias": False,
                "use_parallel_residual": True,
                "qk_layernorm": True,
                "num_key_value_heads": 2,
                "partial_rotary_factor": 0.5,
                "layer_norm_eps": 1e-2,
            },
            dtype="float16",
        ),
        Fixture(
            "stablelm-4bit",
            "mlx",
            config={"hidden_size": 64, "intermediate_size": 64},
            quantization={"group_size": 32, "bits": 4, "lm_head": {"group_size": 64, "bits": 8}},
        ),
        Fixture("stablelm-raw", "raw"),
        Fixture(
            "stablelm-raw-parallel",
            "raw",
            config={
                "use_qkv_bias": False,
                "use_parallel_residual": True,
                "qk_layernorm": True,
                "num_key_value_heads": 2,
            },
            dtype="float32",
        ),
    ],
)
