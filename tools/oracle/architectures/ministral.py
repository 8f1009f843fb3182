"""ministral: Mistral with windows by kinds of layers."""

from generate.declaration import Architecture, Fixture

REASON = "mlx-lm lacks this architecture"

ARCHITECTURE = Architecture(
    transformers=("MinistralConfig", "MinistralForCausalLM"),
    config={
        "model_type": "ministral",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "head_dim": 12,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500.0,
        "sliding_window": 6,
        "layer_types": ["sliding_attention", "full_attention"],
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture(
            "ministral-raw",
            "raw",
            length=24,
            oracle="transformers",
            reason=REASON,
        ),
    ],
)
