"""qwen: Llama by other names, with biases on queries, keys and values."""

from generate.declaration import Architecture, Fixture

ARCHITECTURE = Architecture(
    config={
        "model_type": "qwen",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "kv_channels": 8,
        "layer_norm_epsilon": 1e-6,
        "no_bias": True,
        "rotary_emb_base": 10000,
    },
    fixtures=[
        Fixture("qwen", "mlx", config={"layer_norm_epsilon": 1e-2}),
        Fixture(
            "qwen-4bit",
            "mlx",
            config={"hidden_size": 64, "intermediate_size": 128, "kv_channels": 16},
            quantization={"group_size": 32, "bits": 4, "transformer.h.1.mlp.w1": {"group_size": 64, "bits": 8}},
        ),
        Fixture("qwen-raw", "raw", dtype="float16"),
    ],
)
