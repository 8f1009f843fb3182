"""arcee: Llama with a plain MLP."""

from generate.declaration import Architecture, Fixture

REASON = "mlx-lm lacks this architecture"

ARCHITECTURE = Architecture(
    transformers=("ArceeConfig", "ArceeForCausalLM"),
    config={
        "model_type": "arcee",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "head_dim": 12,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64},
        "hidden_act": "relu2",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture("arcee-raw", "raw", oracle="transformers", reason=REASON),
        Fixture(
            "arcee-raw-biases",
            "raw",
            config={"attention_bias": True, "mlp_bias": True, "rms_norm_eps": 1e-2, "rope_scaling": None},
            dtype="float16",
            oracle="transformers",
            reason=REASON,
        ),
    ],
)
