"""cwm: Llama most of whose layers see a window."""

from generate.declaration import ABSENT, Architecture, Fixture

REASON = "mlx-lm lacks this architecture"

ARCHITECTURE = Architecture(
    transformers=("CwmConfig", "CwmForCausalLM"),
    config={
        "model_type": "cwm",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "head_dim": 12,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500.0,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 16,
        },
        "sliding_window": 6,
        "layer_types": ["sliding_attention", "full_attention"],
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture(
            "cwm-raw",
            "raw",
            config={"num_hidden_layers": 5, "layer_types": None, "rope_theta": ABSENT, "rope_scaling": ABSENT},
            length=24,
            oracle="transformers",
            reason=REASON,
        ),
        Fixture(
            "cwm-raw-layer-types",
            "raw",
            config={"hidden_act": "gelu", "rms_norm_eps": 1e-2, "tie_word_embeddings": True},
            dtype="float16",
            length=24,
            oracle="transformers",
            reason=REASON,
        ),
    ],
)
