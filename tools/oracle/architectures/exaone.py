"""exaone: Llama by other names."""

from generate.declaration import Architecture, Fixture

ARCHITECTURE = Architecture(
    config={
        "model_type": "exaone",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "layer_norm_epsilon": 1e-5,
        "rope_theta": 500000.0,
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture("exaone", "mlx", config={"layer_norm_epsilon": 1e-2, "attention_bias": True, "mlp_bias": True}),
        Fixture(
            "exaone-4bit",
            "mlx",
            config={"hidden_size": 64, "intermediate_size": 64, "tie_word_embeddings": True},
            quantization={"group_size": 32, "bits": 4, "transformer.h.1.mlp.c_fc_0": {"group_size": 64, "bits": 8}},
        ),
        Fixture("exaone-raw", "raw", dtype="float16"),
    ],
)
