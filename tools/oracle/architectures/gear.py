"""gear: Gemma 3's layers, some of which have gated convolutions in place of attention."""

import numpy as np

from generate.declaration import ABSENT, Architecture, Fixture
from generate.parameters import rounded_norms


def published(tensors, _):
    """Convolutions with a channel's one input before the positions."""
    return {
        name: tensor.transpose(1, 2).contiguous() if name.endswith("_conv.weight") else tensor
        for name, tensor in tensors.items()
    }


def scale(config: dict) -> dict[str, np.ndarray]:
    """The factor of the embeddings, which models compute themselves."""
    return {"model.embed_tokens.embed_scale": np.full((1,), config["hidden_size"] ** 0.5, np.float32)}


ARCHITECTURE = Architecture(
    adjust=rounded_norms,
    config={
        "model_type": "gear",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 12,
        "vocab_size": 96,
        "rms_norm_eps": 1e-6,
        "layer_types": ["conv_mixer", "sliding_attention", "full_attention"],
        "max_position_embeddings": 256,
        "hidden_activation": "gelu_pytorch_tanh",
        "attention_bias": False,
        "query_pre_attn_scalar": 20,
        "sliding_window": 8,
        "conv_L_cache": 3,
        "rope_theta": 1000000.0,
        "rope_local_base_freq": 10000.0,
        "tie_word_embeddings": True,
    },
    fixtures=[
        Fixture("gear", "mlx", config={"rms_norm_eps": 1e-2}, length=24),
        Fixture(
            "gear-bounds",
            "mlx",
            config={
                "layer_types": ["full_attention", "sliding_attention", "conv_mixer"],
                "hidden_activation": "silu",
                "attention_bias": True,
                "query_pre_attn_scalar": ABSENT,
                "conv_L_cache": 4,
                "rope_scaling": {"rope_type": "linear", "factor": 4.0},
                "final_logit_softcapping": 5.0,
                "attn_logit_softcapping": 2.0,
                "tie_word_embeddings": False,
            },
            dtype="float16",
            length=24,
        ),
        Fixture(
            "gear-4bit",
            "mlx",
            config={"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 16,
                    "layer_types": ["conv_mixer", "full_attention"]},
            quantization={
                "group_size": 32,
                "bits": 4,
                "model.layers.0.local_mixer.q_proj": {"group_size": 64, "bits": 8},
            },
        ),
        Fixture(
            "gear-raw",
            "raw",
            config={
                "hidden_activation": ABSENT,
                "conv_L_cache": ABSENT,
                "rope_theta": ABSENT,
                "rope_local_base_freq": ABSENT,
                "tie_word_embeddings": ABSENT,
            },
            published=published,
            extra_tensors=scale,
            length=24,
        ),
    ],
)
