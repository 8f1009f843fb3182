"""nanbeige: Llama whose layers run several times."""

from generate.declaration import ABSENT, Architecture, Fixture

ARCHITECTURE = Architecture(
    config={
        "model_type": "nanbeige",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 12,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5,
        "rope_theta": 70000000.0,
        "num_loops": 2,
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture("nanbeige", "mlx", config={"rms_norm_eps": 1e-2}),
        Fixture(
            "nanbeige-skip",
            "mlx",
            config={
                "loop_loss_weights": [0.5, 0.5],
                "skip_loop_final_norm": True,
                "attention_bias": True,
                "mlp_bias": True,
                "head_dim": ABSENT,
                "tie_word_embeddings": True,
            },
            dtype="float16",
        ),
        Fixture(
            "nanbeige-4bit",
            "mlx",
            config={"hidden_size": 64, "intermediate_size": 64},
            quantization={
                "group_size": 32,
                "bits": 4,
                "model.layers.1.mlp.up_proj": {"group_size": 64, "bits": 8},
            },
        ),
        Fixture("nanbeige-raw", "raw", config={"num_loops": 3}),
    ],
)
