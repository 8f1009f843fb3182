"""gptj: parallel blocks after one layer norm, and neighbouring features rotated."""

from generate.declaration import Architecture, Fixture

ARCHITECTURE = Architecture(
    transformers=("GPTJConfig", "GPTJForCausalLM"),
    config={
        "model_type": "gptj",
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 4,
        "n_positions": 256,
        "vocab_size": 96,
        "layer_norm_epsilon": 1e-5,
        "rotary_dim": 4,
        "n_inner": None,
        "activation_function": "gelu_new",
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture("gptj", "mlx", config={"rotary_dim": 8, "layer_norm_epsilon": 1e-2}),
        Fixture(
            "gptj-4bit",
            "mlx",
            config={"n_embd": 64},
            quantization={"group_size": 32, "bits": 4, "model.h.1.mlp.fc_in": {"group_size": 64, "bits": 8}},
        ),
        Fixture("gptj-raw", "raw"),
        Fixture(
            "gptj-raw-inner",
            "raw",
            config={"n_inner": 48},
            oracle="transformers",
            reason="mlx-lm takes the MLP for four times as wide",
        ),
    ],
)
