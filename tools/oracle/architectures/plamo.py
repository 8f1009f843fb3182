"""plamo: parallel blocks, and queries that share keys and values in turn."""

from generate.declaration import ABSENT, Architecture, Fixture


ARCHITECTURE = Architecture(
    config={
        "model_type": "plamo",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "n_shared_head": 2,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-6,
    },
    fixtures=[
        Fixture("plamo", "mlx"),
        Fixture(
            "plamo-traditional",
            "mlx",
            config={
                "hidden_size": 48,
                "num_attention_heads": 6,
                "n_shared_head": 3,
                "rope_theta": 500.0,
                "rope_traditional": True,
                "rms_norm_eps": 1e-2,
            },
            dtype="float16",
        ),
        Fixture(
            "plamo-4bit",
            "mlx",
            config={"hidden_size": 64, "intermediate_size": 64},
            quantization={
                "group_size": 32,
                "bits": 4,
                "model.layers.layers.1.self_attn.q_proj": {"group_size": 64, "bits": 8},
            },
        ),
        Fixture(
            "plamo-raw",
            "raw",
            config={"num_attention_heads": 8, "n_shared_head": ABSENT},
            dtype="float16",
        ),
    ],
)
