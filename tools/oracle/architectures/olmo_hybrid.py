"""olmo_hybrid: gated delta nets behind norms, and attention in front of them; rates up to 2."""

import torch

from generate.declaration import ABSENT, Architecture, Fixture


def own_convolutions(tensors, config):
    """The convolutions of queries, keys and values, which transformers cuts into thirds."""
    published = dict(tensors)
    for name in [name for name in tensors if name.endswith("q_conv1d.weight")]:
        parts = [name.replace("q_conv1d", f"{part}_conv1d") for part in "qkv"]
        keys = tensors[name.replace("q_conv1d", "q_proj")].shape[0]
        joined = torch.cat([tensors[part] for part in parts])
        for part, channels in zip(parts, joined.split([keys, keys, len(joined) - 2 * keys])):
            published[part] = channels.contiguous()
    return published


def names_of_mlx(tensors, config):
    """The names that mlx-lm knows; transformers saves others and reads both."""
    tensors = own_convolutions(tensors, config)
    return {
        name.replace("attention_layer_norm", "input_layernorm").replace(
            "feedforward_layer_norm", "post_attention_layernorm"
        ): tensor
        for name, tensor in tensors.items()
    }


ARCHITECTURE = Architecture(
    transformers=("OlmoHybridConfig", "OlmoHybridForCausalLM"),
    config={
        "model_type": "olmo_hybrid",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "layer_types": ["linear_attention", "full_attention", "linear_attention"],
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 6,
        "linear_conv_kernel_dim": 4,
        "linear_allow_neg_eigval": True,
        "attention_bias": False,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-6,
        "rope_theta": 500000.0,
        "pad_token_id": None,
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture("olmo-hybrid", "mlx", length=40),
        Fixture(
            "olmo-hybrid-positive",
            "mlx",
            config={
                "layer_types": ABSENT,
                "num_hidden_layers": 4,
                "linear_allow_neg_eigval": False,
                "linear_num_value_heads": 2,
                "linear_conv_kernel_dim": 3,
                "attention_bias": True,
                "rms_norm_eps": 1e-2,
                # Positions are not looked at.
                "rope_theta": None,
                "tie_word_embeddings": True,
            },
            dtype="float16",
        ),
        Fixture(
            "olmo-hybrid-4bit",
            "mlx",
            config={"hidden_size": 64, "intermediate_size": 64, "linear_value_head_dim": 8},
            quantization={
                "group_size": 32,
                "bits": 4,
                "model.layers.0.linear_attn.g_proj": {"group_size": 64, "bits": 8},
            },
            length=40,
        ),
        Fixture(
            "olmo-hybrid-raw",
            "raw",
            config={
                "rope_theta": ABSENT,
                "rope_parameters": {"rope_theta": None, "rope_type": "default"},
            },
            published=names_of_mlx,
            length=40,
        ),
        Fixture(
            "olmo-hybrid-raw-defaults",
            "raw",
            config={
                "layer_types": ABSENT,
                "linear_num_key_heads": ABSENT,
                "linear_num_value_heads": None,
                "linear_key_head_dim": None,
                "linear_value_head_dim": ABSENT,
                "linear_conv_kernel_dim": ABSENT,
                "linear_allow_neg_eigval": ABSENT,
                "num_key_value_heads": ABSENT,
                "rope_theta": ABSENT,
            },
            dtype="float16",
            published=own_convolutions,
            oracle="transformers",
            reason="mlx-lm wants most fields, and other names of norms",
        ),
    ],
)
