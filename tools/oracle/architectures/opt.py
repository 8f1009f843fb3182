"""opt: layer norms, embeddings of positions, biases everywhere."""

from generate.declaration import Architecture, Fixture

REASON = "mlx-lm lacks this architecture"

ARCHITECTURE = Architecture(
    transformers=("OPTConfig", "OPTForCausalLM"),
    config={
        "model_type": "opt",
        "hidden_size": 32,
        "ffn_dim": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "vocab_size": 96,
        "max_position_embeddings": 128,
        "word_embed_proj_dim": 32,
        "do_layer_norm_before": True,
        "activation_function": "relu",
    },
    fixtures=[
        Fixture("opt-raw", "raw", oracle="transformers", reason=REASON),
        Fixture(
            "opt-raw-no-biases",
            "raw",
            config={"enable_bias": False, "activation_function": "gelu", "tie_word_embeddings": False},
            dtype="float16",
            oracle="transformers",
            reason=REASON,
        ),
    ],
)
