"""gpt_neo: GPT-2 with scores that are not scaled, and every second layer within a window."""

from generate.declaration import Architecture, Fixture

REASON = "mlx-lm lacks this architecture"

ARCHITECTURE = Architecture(
    transformers=("GPTNeoConfig", "GPTNeoForCausalLM"),
    config={
        "model_type": "gpt_neo",
        "hidden_size": 32,
        "num_layers": 3,
        "num_heads": 4,
        "intermediate_size": None,
        "vocab_size": 96,
        "max_position_embeddings": 128,
        "window_size": 8,
        "attention_types": [[["global", "local"], 1], [["local"], 1]],
        "layer_norm_epsilon": 1e-5,
        "activation_function": "gelu_new",
    },
    fixtures=[
        Fixture("gpt-neo-raw", "raw", length=30, oracle="transformers", reason=REASON),
        Fixture(
            "gpt-neo-raw-inner",
            "raw",
            config={"intermediate_size": 48, "layer_norm_epsilon": 1e-2, "activation_function": "relu"},
            dtype="float16",
            oracle="transformers",
            reason=REASON,
        ),
    ],
)
