"""minicpm: Llama with factors on embeddings, residuals and logits."""

from generate.declaration import Architecture, Fixture

ARCHITECTURE = Architecture(
    config={
        "model_type": "minicpm",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "scale_emb": 12,
        "scale_depth": 1.4,
        "dim_model_base": 8,
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture(
            "minicpm", "mlx", config={"rms_norm_eps": 1e-2, "scale_emb": 3, "scale_depth": 0.7, "dim_model_base": 16}
        ),
        Fixture(
            "minicpm-4bit",
            "mlx",
            config={"hidden_size": 64, "intermediate_size": 64},
            quantization={"group_size": 32, "bits": 4, "model.layers.1.mlp.up_proj": {"group_size": 64, "bits": 8}},
        ),
        Fixture("minicpm-raw", "raw"),
    ],
)
