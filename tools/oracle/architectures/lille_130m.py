"""lille-130m: Llama by other names, with the norms in the blocks."""

from generate.declaration import Architecture, Fixture

ARCHITECTURE = Architecture(
    config={
        "model_type": "lille-130m",
        "n_embd": 96,
        "n_layer": 2,
        "n_head": 4,
        "n_kv_heads": 2,
        "block_size": 256,
        "vocab_size": 96,
        "layer_norm_eps": 1e-5,
        "rope_theta": 10000.0,
    },
    fixtures=[
        Fixture("lille-130m", "mlx", config={"layer_norm_eps": 1e-2, "n_head": 2, "n_kv_heads": 1}),
        Fixture(
            "lille-130m-4bit",
            "mlx",
            config={"n_embd": 128},
            quantization={
                "group_size": 32,
                "bits": 4,
                "transformer.layers.1.feed_forward.up_proj": {"group_size": 64, "bits": 8},
            },
        ),
        Fixture("lille-130m-raw", "raw", dtype="float16"),
    ],
)
