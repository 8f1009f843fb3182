"""cohere: attention and MLP side by side behind one LayerNorm, neighbouring features rotated, logits scaled."""

from generate.declaration import ABSENT, Architecture, Fixture

ARCHITECTURE = Architecture(
    transformers=("CohereConfig", "CohereForCausalLM"),
    config={
        "model_type": "cohere",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "layer_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "logit_scale": 0.0625,
        "use_qk_norm": False,
        "tie_word_embeddings": True,
        "pad_token_id": 0,
    },
    fixtures=[
        Fixture("cohere", "mlx"),
        Fixture(
            "cohere-norms",
            "mlx",
            config={
                "use_qk_norm": True,
                "num_key_value_heads": 2,
                "attention_bias": True,
                "layer_norm_bias": True,
                "layer_norm_eps": 1e-2,
                "rope_theta": 8000000.0,
                "logit_scale": ABSENT,
            },
            dtype="float16",
        ),
        Fixture(
            "cohere-4bit",
            "mlx",
            config={"hidden_size": 64, "intermediate_size": 64},
            quantization={"group_size": 32, "bits": 4, "model.embed_tokens": {"group_size": 64, "bits": 8}},
        ),
        Fixture("cohere-raw", "raw"),
        Fixture(
            "cohere-raw-norms",
            "raw",
            config={"use_qk_norm": True, "num_key_value_heads": 2, "attention_bias": True, "logit_scale": 0.8},
            dtype="float32",
        ),
    ],
)
