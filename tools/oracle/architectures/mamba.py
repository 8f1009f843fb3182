"""mamba: nothing but recurrent layers."""

from generate.declaration import Architecture, Fixture

ARCHITECTURE = Architecture(
    transformers=("MambaConfig", "MambaForCausalLM"),
    config={
        "model_type": "mamba",
        "hidden_size": 32,
        "intermediate_size": 64,
        "state_size": 8,
        "num_hidden_layers": 2,
        "conv_kernel": 4,
        "use_bias": False,
        "use_conv_bias": True,
        "time_step_rank": 4,
        "layer_norm_epsilon": 1e-5,
        "vocab_size": 96,
    },
    fixtures=[
        Fixture("mamba", "mlx", config={"use_bias": True, "use_conv_bias": False, "tie_word_embeddings": False}),
        Fixture(
            "mamba-4bit",
            "mlx",
            config={"hidden_size": 64, "intermediate_size": 128, "time_step_rank": 32},
            quantization={
                "group_size": 32,
                "bits": 4,
                "backbone.layers.1.mixer.out_proj": {"group_size": 64, "bits": 8},
            },
        ),
        Fixture("mamba-raw", "raw"),
        Fixture(
            "mamba-raw-epsilon",
            "raw",
            config={"layer_norm_epsilon": 1e-2},
            oracle="transformers",
            reason="mlx-lm has one epsilon for all models",
        ),
    ],
)
