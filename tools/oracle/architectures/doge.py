"""doge: Llama with biases of positions that their values make, and shares of the stream that each layer keeps."""

from generate.declaration import ABSENT, Architecture, Fixture

REASON = "mlx-lm lacks this architecture"

ARCHITECTURE = Architecture(
    transformers=("DogeConfig", "DogeForCausalLM"),
    config={
        "model_type": "doge",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 96,
        "max_position_embeddings": 128,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        # Less than the prompt has; equal tokens have equal scores, whose order is nobody's.
        "keep_window_size": 10,
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture("doge-raw", "raw", oracle="transformers", reason=REASON, length=24),
        Fixture(
            "doge-raw-features",
            "raw",
            config={
                "num_key_value_heads": ABSENT,
                "attention_bias": True,
                "mlp_bias": True,
                "rms_norm_eps": 1e-2,
                "keep_window_size": ABSENT,
                "sliding_window": 8,
                "tie_word_embeddings": True,
            },
            dtype="float16",
            oracle="transformers",
            reason=REASON,
            length=24,
        ),
    ],
)
