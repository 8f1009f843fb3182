"""plamo2: recurrences of heads and attention by turns, with norms whose weights are stored less a
number of their place."""

from generate.declaration import ABSENT, Architecture, Fixture
from generate.parameters import rounded_norms


def channels_first(tensors, config):
    """Convolutions as they are published."""
    return {
        name: tensor.transpose(1, 2).contiguous() if name.endswith("conv1d.weight") else tensor
        for name, tensor in tensors.items()
    }


ARCHITECTURE = Architecture(
    adjust=rounded_norms,
    config={
        "model_type": "plamo2",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "hidden_size_per_head": 16,
        "attention_window_size": 2048,
        "mamba_d_state": 8,
        "mamba_d_conv": 4,
        "mamba_num_heads": 4,
        "mamba_step": 2,
        "mamba_enabled": True,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": True,
    },
    fixtures=[
        Fixture("plamo2", "mlx", length=40),
        Fixture(
            "plamo2-steps",
            "mlx",
            # Attention in the third of four layers.
            config={
                "num_hidden_layers": 4,
                "mamba_step": 4,
                "mamba_d_conv": 3,
                "num_key_value_heads": 1,
                "rms_norm_eps": 1e-2,
                "tie_word_embeddings": False,
            },
        ),
        Fixture(
            "plamo2-attention",
            "mlx",
            config={"mamba_enabled": False, "num_hidden_layers": 2, "rms_norm_eps": ABSENT},
        ),
        Fixture(
            "plamo2-4bit",
            "mlx",
            config={
                "hidden_size": 64,
                "intermediate_size": 64,
                "hidden_size_per_head": 32,
                "num_hidden_layers": 2,
            },
            quantization={
                "group_size": 32,
                "bits": 4,
                "model.layers.layers.0.mixer.in_proj": {"group_size": 64, "bits": 8},
            },
            length=40,
        ),
        Fixture("plamo2-raw", "raw", published=channels_first, dtype="float16", length=30),
    ],
)
