"""persimmon: layer norms, also over each query and key head, and a plain MLP."""

from generate.declaration import Architecture, Fixture

REASON = "mlx-lm lacks this architecture"

ARCHITECTURE = Architecture(
    transformers=("PersimmonConfig", "PersimmonForCausalLM"),
    config={
        "model_type": "persimmon",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "layer_norm_eps": 1e-5,
        "rope_theta": 25000.0,
        "partial_rotary_factor": 0.5,
        "hidden_act": "relu2",
        "qk_layernorm": True,
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture("persimmon-raw", "raw", oracle="transformers", reason=REASON),
        Fixture(
            "persimmon-raw-plain",
            "raw",
            config={"qk_layernorm": False, "layer_norm_eps": 1e-2},
            dtype="float16",
            oracle="transformers",
            reason=REASON,
        ),
    ],
)
