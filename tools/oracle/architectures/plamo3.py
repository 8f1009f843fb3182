"""plamo3: attention within a window and to all positions, with a base of the rotation each, between
PLaMo 2's norms."""

from generate.declaration import ABSENT, Architecture, Fixture
from generate.parameters import rounded_norms


ARCHITECTURE = Architecture(
    adjust=rounded_norms,
    config={
        "model_type": "plamo3",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        # mlx-lm's cache has one position less than its mask shows.
        "window_size": 128,
        "sliding_window_pattern": 2,
        "rope_theta": 1000000.0,
        "rope_local_theta": 500.0,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": True,
    },
    fixtures=[
        Fixture("plamo3", "mlx", length=40),
        Fixture(
            "plamo3-untied",
            "mlx",
            config={
                "sliding_window": 100,
                "window_size": ABSENT,
                "rope_local_theta": ABSENT,
                "rms_norm_eps": 1e-2,
                "num_key_value_heads": 1,
                "tie_word_embeddings": False,
            },
            dtype="float16",
        ),
        Fixture(
            "plamo3-4bit",
            "mlx",
            config={"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2},
            quantization={
                "group_size": 32,
                "bits": 4,
                "model.layers.layers.1.mixer.qkv_proj": {"group_size": 64, "bits": 8},
            },
        ),
        Fixture("plamo3-raw", "raw", config={"rope_theta": ABSENT}, dtype="float16"),
    ],
)
