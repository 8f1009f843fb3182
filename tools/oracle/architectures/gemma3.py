"""gemma3: gemma3_text within a model that also sees; its vision tower is left out."""

from generate.declaration import Architecture, Fixture

from .gemma3_text import ROUNDED

TEXT = {
    "model_type": "gemma3_text",
    "hidden_size": 48,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "query_pre_attn_scalar": 12,
    "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
    "sliding_window": 8,
    "sliding_window_pattern": 2,
}
# The heads are 8 and 4 where the wrapper's configuration leaves them out, unlike gemma3_text's 4 and 1.
SPARSE = {
    "model_type": "gemma3_text",
    "hidden_size": 64,
    "intermediate_size": 8,
    "num_hidden_layers": 2,
    "head_dim": 8,
    "sliding_window": 8,
    "sliding_window_pattern": 2,
}

ARCHITECTURE = Architecture(
    transformers=("Gemma3Config", "Gemma3ForConditionalGeneration"),
    config={
        "model_type": "gemma3",
        "text_config": TEXT,
        "vision_config": {
            "model_type": "siglip_vision_model",
            "hidden_size": 8,
            "intermediate_size": 8,
            "num_hidden_layers": 1,
            "num_attention_heads": 1,
            "image_size": 8,
            "patch_size": 4,
            "vision_use_head": False,
        },
        "vocab_size": 96,
        "mm_tokens_per_image": 1,
    },
    transformers_arguments=lambda config: {
        **config,
        "text_config": {
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
            **config["text_config"],
            "vocab_size": config["vocab_size"],
        },
    },
    fixtures=[
        Fixture("gemma3", "mlx", length=30),
        Fixture("gemma3-sparse-config", "mlx", config={"text_config": SPARSE}, dtype="float16"),
        Fixture(
            "gemma3-4bit",
            "mlx",
            config={"text_config": {**TEXT, "hidden_size": 64, "intermediate_size": 64, "head_dim": 16}},
            quantization={
                "group_size": 32,
                "bits": 4,
                "language_model.model.embed_tokens": {"group_size": 64, "bits": 8},
                "language_model.model.layers.0.mlp.down_proj": {"group_size": 32, "bits": 6},
            },
            length=30,
        ),
        Fixture("gemma3-raw", "raw", length=30, transformers_differs=ROUNDED),
        Fixture("gemma3-raw-sparse-config", "raw", config={"text_config": SPARSE}, length=30),
        Fixture(
            "gemma3-raw-extended",
            "raw",
            config={"text_config": {**SPARSE, "rope_scaling": {"rope_type": "yarn", "factor": 4.0}}},
            length=30,
            oracle="transformers",
            reason="mlx-lm takes 4096 positions where the length before the extension is not said",
        ),
    ],
)
