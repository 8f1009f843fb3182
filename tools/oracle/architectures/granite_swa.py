"""granite_swa: granite, most of whose layers see a window, with scores for looking at nothing and rotations of each layer."""

import numpy as np

from generate.declaration import ABSENT, Architecture, Fixture

REASON = "mlx-lm lacks this architecture"


def lively(name: str, value: np.ndarray) -> np.ndarray:
    """Sinks that matter."""
    return value * 4 if name.endswith("sinks") else value


ARCHITECTURE = Architecture(
    adjust=lively,
    transformers=("GraniteSWAConfig", "GraniteSWAForCausalLM"),
    config={
        "model_type": "granite_swa",
        "hidden_size": 32,
        "intermediate_size": 16,
        "num_hidden_layers": 5,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "embedding_multiplier": 12.0,
        "attention_multiplier": 0.25,
        "residual_multiplier": 0.22,
        "logits_scaling": 6.0,
        "sliding_window": 6,
    },
    fixtures=[
        Fixture("granite-swa-raw", "raw", length=24, oracle="transformers", reason=REASON),
        Fixture(
            "granite-swa-raw-bases",
            "raw",
            config={
                "num_hidden_layers": 3,
                "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
                "layer_rope_theta": [300.0, 0, 50000.0],
                "rms_norm_eps": ABSENT,
                "attention_bias": True,
                "tie_word_embeddings": False,
            },
            dtype="float16",
            length=24,
            oracle="transformers",
            reason=REASON,
        ),
    ],
)
