"""gemma3n: alternating updates of several streams, learned residuals, sparse activations, embeddings for every layer, and layers at the end
that attend to an earlier layer's keys and values."""

import numpy as np
import torch

from generate.declaration import Architecture, Fixture

TEXT = {
    "model_type": "gemma3n_text",
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "full_attention"],
    "num_kv_shared_layers": 2,
    "sliding_window": 8,
    "vocab_size": 96,
    # Tokens from here on share the first row.
    "vocab_size_per_layer_input": 80,
    "hidden_size_per_layer_input": 8,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000.0,
    "rope_local_base_freq": 10000.0,
    "rope_scaling": None,
    "final_logit_softcapping": 30.0,
    "activation_sparsity_pattern": [0.95, 0.6, 0.0, 0.0],
    "altup_num_inputs": 3,
    "altup_active_idx": 0,
    "altup_coef_clip": 120.0,
    "altup_correct_scale": True,
    "laurel_rank": 6,
}


def unused(config: dict) -> dict[str, np.ndarray]:
    """Some of what sees and hears, and the projections that published checkpoints have in layers without use for them."""
    text = config["text_config"]
    size, width = text["hidden_size"], text["num_key_value_heads"] * text["head_dim"]
    tensors = {
        "model.vision_tower.timm_model.conv_stem.conv.weight": (8, 3, 3, 3),
        "model.audio_tower.conformer.0.attention.post.weight": (8, 8),
        "model.embed_audio.embedding_projection.weight": (size, 8),
        "model.embed_vision.embedding_projection.weight": (size, 8),
    }
    for layer in range(text["num_hidden_layers"] - text["num_kv_shared_layers"], text["num_hidden_layers"]):
        attention = f"model.language_model.layers.{layer}.self_attn"
        tensors |= {f"{attention}.{part}_proj.weight": (width, size) for part in ("k", "v")}
        tensors[f"{attention}.k_norm.weight"] = (text["head_dim"],)
    return {name: np.full(shape, 0.5, np.float16) for name, shape in tensors.items()}


def within_wrapper(tensors: dict[str, torch.Tensor], config: dict) -> dict[str, torch.Tensor]:
    """The text model as part of one that also sees and hears."""
    others = tuple(unused(config))
    return {
        name if name in others else name.replace("model.", "model.language_model.", 1): tensor
        for name, tensor in tensors.items()
    }


ARCHITECTURE = Architecture(
    transformers=("Gemma3nTextConfig", "Gemma3nForCausalLM"),
    transformers_arguments=lambda config: config["text_config"],
    config={"model_type": "gemma3n", "text_config": TEXT},
    fixtures=[
        Fixture("gemma3n", "mlx", length=30),
        Fixture(
            "gemma3n-plain",
            "mlx",
            config={
                "text_config": {
                    **TEXT,
                    "num_hidden_layers": 3,
                    "layer_types": ["full_attention", "sliding_attention", "full_attention"],
                    "num_kv_shared_layers": 0,
                    "intermediate_size": [16, 24, 32],
                    "activation_sparsity_pattern": None,
                    "altup_coef_clip": None,
                    "altup_correct_scale": False,
                    "altup_active_idx": 1,
                    "altup_num_inputs": 2,
                    "final_logit_softcapping": None,
                    "num_key_value_heads": 1,
                    "rms_norm_eps": 1e-2,
                }
            },
            dtype="float16",
            length=30,
        ),
        Fixture(
            "gemma3n-4bit",
            "mlx",
            config={
                "text_config": {**TEXT, "hidden_size_per_layer_input": 32, "laurel_rank": 32, "altup_num_inputs": 2}
            },
            quantization={
                "group_size": 32,
                "bits": 4,
                "model.language_model.embed_tokens_per_layer": {"group_size": 64, "bits": 6},
                "model.language_model.per_layer_model_projection": {"group_size": 32, "bits": 8},
            },
            length=30,
        ),
        Fixture("gemma3n-raw", "raw", extra_tensors=unused, published=within_wrapper, length=30),
        Fixture(
            "gemma3n-raw-lean",
            "raw",
            published=within_wrapper,
            length=30,
            oracle="transformers",
            reason="mlx-lm asks for keys and values in layers that use those of others, and refuses checkpoints without them",
        ),
    ],
)
