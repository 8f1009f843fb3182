"""starcoder2: LayerNorms, a plain MLP and biases everywhere."""

from generate.declaration import Architecture, Fixture

ARCHITECTURE = Architecture(
    transformers=("Starcoder2Config", "Starcoder2ForCausalLM"),
    config={
        "model_type": "starcoder2",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "norm_epsilon": 1e-5,
        "rope_theta": 999999.4420358813,
        # What mlx-lm computes, whatever is said here.
        "hidden_act": "gelu",
        "use_bias": True,
    },
    fixtures=[
        Fixture("starcoder2", "mlx"),
        Fixture(
            "starcoder2-untied",
            "mlx",
            config={
                "tie_word_embeddings": False,
                "norm_epsilon": 1e-2,
                "num_key_value_heads": 4,
                "rope_theta": 100000.0,
            },
            dtype="float16",
        ),
        Fixture(
            "starcoder2-4bit",
            "mlx",
            config={"hidden_size": 64, "intermediate_size": 64},
            quantization={"group_size": 32, "bits": 4, "model.layers.1.mlp.c_proj": {"group_size": 64, "bits": 8}},
        ),
        Fixture("starcoder2-raw", "raw", config={"sliding_window": None}),
        Fixture(
            "starcoder2-raw-window",
            "raw",
            config={"hidden_act": "gelu_pytorch_tanh", "sliding_window": 8, "use_bias": False},
            length=30,
            oracle="transformers",
            reason="mlx-lm has biases always, takes GELU for its approximation, and does not look at the window",
        ),
    ],
)
