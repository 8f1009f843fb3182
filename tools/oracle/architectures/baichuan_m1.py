"""baichuan_m1: keys and values mixed with those of the position before, windows with other heads,
a head of rows of length 1."""

from generate.declaration import Architecture, Fixture

ARCHITECTURE = Architecture(
    config={
        "model_type": "baichuan_m1",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "num_swa_attention_heads": 2,
        "num_swa_key_value_heads": 1,
        "sliding_window": 8,
        "sliding_window_layers": [1],
        "conv_window": 2,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture("baichuan-m1", "mlx", length=40),
        Fixture(
            "baichuan-m1-alike",
            "mlx",
            config={
                "num_swa_attention_heads": None,
                "num_swa_key_value_heads": None,
                "sliding_window_layers": [0, 2],
                "rope_theta": 500.0,
                "rms_norm_eps": 1e-2,
            },
            dtype="float16",
            length=30,
        ),
        Fixture(
            "baichuan-m1-4bit",
            "mlx",
            config={"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2},
            quantization={
                "group_size": 32,
                "bits": 4,
                "model.layers.0.self_attn.W_pack": {"group_size": 64, "bits": 8},
            },
        ),
        Fixture("baichuan-m1-raw", "raw", config={"sliding_window_layers": []}, dtype="float16"),
    ],
)
