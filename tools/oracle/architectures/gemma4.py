"""gemma4: gemma4_text within a model that also sees; its vision tower is left out."""

from generate.declaration import ABSENT, Architecture, Fixture

from .gemma4_text import LARGE, SMALL

ARCHITECTURE = Architecture(
    transformers=("Gemma4Config", "Gemma4ForConditionalGeneration"),
    drawn_buffers=("layer_scalar",),
    config={
        "model_type": "gemma4",
        "text_config": SMALL,
        "vision_config": {
            "model_type": "gemma4_vision",
            "hidden_size": 8,
            "intermediate_size": 8,
            "num_hidden_layers": 1,
            "num_attention_heads": 1,
            "num_key_value_heads": 1,
            "head_dim": 8,
            "global_head_dim": 8,
            "patch_size": 2,
            "position_embedding_size": 4,
            "pooling_kernel_size": 1,
        },
        "audio_config": None,
        "vocab_size": 96,
        "tie_word_embeddings": True,
    },
    fixtures=[
        Fixture("gemma4", "mlx", length=30),
        Fixture(
            "gemma4-4bit",
            "mlx",
            config={
                "text_config": {
                    **SMALL,
                    **LARGE,
                    "hidden_size": 64,
                    "moe_intermediate_size": 32,
                    "intermediate_size": 32,
                    "num_hidden_layers": 2,
                    "layer_types": ["sliding_attention", "full_attention"],
                    "head_dim": 16,
                    "global_head_dim": 16,
                }
            },
            quantization={
                "group_size": 32,
                "bits": 4,
                "language_model.model.layers.1.experts.switch_glu.up_proj": {"group_size": 32, "bits": 6},
            },
            length=40,
        ),
        Fixture("gemma4-raw", "raw", length=30),
        Fixture(
            "gemma4-raw-moe",
            "raw",
            config={"text_config": {**SMALL, **LARGE}, "tie_word_embeddings": ABSENT},
            length=40,
        ),
    ],
)
