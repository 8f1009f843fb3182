"""qwen3_5: qwen3_next's layers with projections of their own, within a model that also sees; its vision tower is left out."""

import numpy as np

from generate.declaration import ABSENT, Architecture, Fixture
from generate.parameters import rounded_norms

ROPE = {
    "rope_type": "default",
    "rope_theta": 10000000.0,
    "partial_rotary_factor": 0.25,
    "mrope_section": [1, 1, 0],
    "mrope_interleaved": True,
}
TEXT = {
    "model_type": "qwen3_5_text",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "full_attention_interval": 2,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 6,
    "linear_conv_kernel_dim": 4,
    "vocab_size": 96,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-6,
    "rope_parameters": ROPE,
    "tie_word_embeddings": False,
}
VISION = {
    "depth": 1,
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_heads": 1,
    "out_hidden_size": 32,
    "patch_size": 4,
    "spatial_merge_size": 1,
    "temporal_patch_size": 1,
    "num_position_embeddings": 4,
}


def prediction_layer(config: dict) -> dict[str, np.ndarray]:
    """Some of the part that predicts a token more."""
    size = config["text_config"]["hidden_size"]
    return {
        "mtp.fc.weight": np.full((size, 2 * size), 0.5, np.float16),
        "mtp.norm.weight": np.full(size, 0.5, np.float16),
    }


ARCHITECTURE = Architecture(
    adjust=rounded_norms,
    transformers=("Qwen3_5Config", "Qwen3_5ForConditionalGeneration"),
    config={
        "model_type": "qwen3_5",
        "text_config": TEXT,
        "vision_config": VISION,
        "tie_word_embeddings": False,
        "image_token_id": 95,
        "video_token_id": 94,
        "vision_start_token_id": 93,
        "vision_end_token_id": 92,
    },
    fixtures=[
        Fixture("qwen3-5", "mlx"),
        Fixture(
            "qwen3-5-flat",
            "mlx",
            # The text model's configuration by itself.
            config={
                **TEXT,
                "model_type": "qwen3_5",
                "text_config": ABSENT,
                "vision_config": ABSENT,
                "rope_parameters": {
                    "type": "linear",
                    "factor": 2.0,
                    "rope_theta": 5000.0,
                    "partial_rotary_factor": 0.5,
                },
                "attention_bias": True,
                "tie_word_embeddings": True,
                "head_dim": ABSENT,
                "linear_num_value_heads": 2,
                "linear_conv_kernel_dim": 3,
                "full_attention_interval": 3,
                "rms_norm_eps": 1e-2,
            },
            dtype="float16",
        ),
        Fixture(
            "qwen3-5-4bit",
            "mlx",
            config={
                "text_config": {
                    **TEXT,
                    "hidden_size": 64,
                    "intermediate_size": 64,
                    "num_hidden_layers": 2,
                    "linear_value_head_dim": 8,
                }
            },
            quantization={
                "group_size": 32,
                "bits": 4,
                "language_model.model.layers.0.linear_attn.in_proj_qkv": {"group_size": 64, "bits": 8},
                "language_model.model.layers.0.linear_attn.in_proj_a": False,
                "language_model.lm_head": {"group_size": 64, "bits": 6},
            },
        ),
        Fixture("qwen3-5-raw", "raw", extra_tensors=prediction_layer),
        Fixture(
            "qwen3-5-raw-tied",
            "raw",
            config={
                "text_config": {**TEXT, "attention_bias": True, "tie_word_embeddings": True, "linear_num_key_heads": 4},
                "tie_word_embeddings": True,
            },
            dtype="float16",
        ),
    ],
)
