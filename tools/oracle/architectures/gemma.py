"""gemma: norms stored less 1, embeddings scaled, a gated MLP with GELU."""

from generate.declaration import ABSENT, Architecture, Fixture

ARCHITECTURE = Architecture(
    transformers=("GemmaConfig", "GemmaForCausalLM"),
    config={
        "model_type": "gemma",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "head_dim": 12,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        # What mlx-lm computes, whatever is said here.
        "hidden_activation": "gelu",
    },
    fixtures=[
        Fixture("gemma", "mlx"),
        Fixture("gemma-wide", "mlx", config={"head_dim": 256, "num_key_value_heads": 1}, length=40),
        Fixture(
            "gemma-traditional",
            "mlx",
            config={"rope_traditional": True, "rope_theta": ABSENT, "num_key_value_heads": 4, "rms_norm_eps": 1e-2},
            dtype="float16",
        ),
        Fixture(
            "gemma-4bit",
            "mlx",
            config={"hidden_size": 64, "intermediate_size": 64, "head_dim": 16},
            quantization={"group_size": 32, "bits": 4, "model.embed_tokens": {"group_size": 64, "bits": 8}},
        ),
        Fixture(
            "gemma-raw",
            "raw",
            config={"hidden_act": "gelu", "hidden_activation": None, "pad_token_id": 0},
            dtype="float32",
            oracle="transformers",
            reason="mlx-lm takes GELU for its approximation",
        ),
        Fixture(
            "gemma-raw-grouped",
            "raw",
            config={
                "hidden_act": "gelu_pytorch_tanh",
                "hidden_activation": ABSENT,
                "num_key_value_heads": 2,
                "pad_token_id": 0,
            },
            dtype="float32",
            oracle="transformers",
            reason="mlx-lm takes GELU for its approximation",
        ),
    ],
)
