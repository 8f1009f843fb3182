"""iquestloopcoder: layers that run twice, the second time with gates between the keys and values
of both times."""

from generate.declaration import ABSENT, Architecture, Fixture

ARCHITECTURE = Architecture(
    config={
        "model_type": "iquestloopcoder",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "loop_num": 2,
        "loop_window_size": 8,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0,
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture("iquestloopcoder", "mlx", length=40),
        Fixture(
            "iquestloopcoder-biases",
            "mlx",
            config={
                "attention_bias": True,
                "mlp_bias": True,
                "num_key_value_heads": 4,
                "head_dim": 12,
                "loop_window_size": ABSENT,
                "rope_scaling": {"type": "linear", "factor": 2.0},
                "rms_norm_eps": 1e-2,
                "tie_word_embeddings": True,
            },
            dtype="float16",
        ),
        Fixture(
            "iquestloopcoder-4bit",
            "mlx",
            config={"hidden_size": 64, "intermediate_size": 64, "head_dim": 16},
            quantization={
                "group_size": 32,
                "bits": 4,
                "model.layers.0.self_attn.q_proj": {"group_size": 64, "bits": 8},
            },
        ),
        Fixture(
            "iquestloopcoder-raw", "raw", config={"rope_theta": ABSENT}, dtype="float16", length=30
        ),
    ],
)
