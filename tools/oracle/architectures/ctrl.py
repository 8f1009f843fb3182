"""ctrl: layer norms, biases everywhere, a plain MLP, and waves of positions behind scaled embeddings."""

from generate.declaration import ABSENT, Architecture, Fixture

REASON = "mlx-lm lacks this architecture"

ARCHITECTURE = Architecture(
    transformers=("CTRLConfig", "CTRLLMHeadModel"),
    config={
        "model_type": "ctrl",
        "n_embd": 32,
        "dff": 48,
        "n_layer": 2,
        "n_head": 4,
        "n_positions": 128,
        "vocab_size": 96,
        "layer_norm_epsilon": 1e-6,
    },
    fixtures=[
        Fixture("ctrl-raw", "raw", oracle="transformers", reason=REASON),
        Fixture(
            "ctrl-raw-features",
            "raw",
            config={"n_head": 2, "layer_norm_epsilon": 1e-2, "n_positions": ABSENT, "tie_word_embeddings": False},
            dtype="float16",
            oracle="transformers",
            reason=REASON,
        ),
    ],
)
