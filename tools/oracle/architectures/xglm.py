"""xglm: OPT's layers behind waves of positions."""

from generate.declaration import ABSENT, Architecture, Fixture

REASON = "mlx-lm lacks this architecture"

ARCHITECTURE = Architecture(
    transformers=("XGLMConfig", "XGLMForCausalLM"),
    config={
        "model_type": "xglm",
        "d_model": 32,
        "ffn_dim": 48,
        "num_layers": 2,
        "attention_heads": 4,
        "vocab_size": 96,
        "max_position_embeddings": 128,
        "activation_function": "gelu",
        "scale_embedding": True,
    },
    fixtures=[
        Fixture("xglm-raw", "raw", oracle="transformers", reason=REASON),
        Fixture(
            "xglm-raw-features",
            "raw",
            config={
                "activation_function": "relu",
                "scale_embedding": False,
                "tie_word_embeddings": False,
                "max_position_embeddings": ABSENT,
            },
            dtype="float16",
            oracle="transformers",
            reason=REASON,
        ),
    ],
)
