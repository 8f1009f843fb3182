"""jais2: Llama with layer norms, biases and a plain MLP."""

from generate.declaration import Architecture, Fixture

REASON = "mlx-lm lacks this architecture"

ARCHITECTURE = Architecture(
    transformers=("Jais2Config", "Jais2ForCausalLM"),
    config={
        "model_type": "jais2",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "layer_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture(
            "jais2-raw",
            "raw",
            oracle="transformers",
            reason=REASON,
        ),
        Fixture(
            "jais2-raw-plain",
            "raw",
            config={
                "head_dim": 12,
                "layer_norm_eps": 1e-2,
                "hidden_act": "gelu",
                "attention_bias": False,
                "mlp_bias": False,
                "tie_word_embeddings": True,
            },
            dtype="float16",
            oracle="transformers",
            reason=REASON,
        ),
    ],
)
