"""mistral3: Mistral within a model that also sees."""

from generate.declaration import Architecture, Fixture
from generate.seeing import tower, wrapped

TEXT = {
    "model_type": "mistral",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "vocab_size": 96,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "rope_theta": 1000000000.0,
    "sliding_window": None,
}

ARCHITECTURE = Architecture(
    transformers=("MistralConfig", "MistralForCausalLM"),
    transformers_arguments=lambda config: config["text_config"],
    config={"model_type": "mistral3", "text_config": TEXT},
    fixtures=[
        Fixture("mistral3", "mlx"),
        Fixture(
            "mistral3-4bit",
            "mlx",
            config={"text_config": {**TEXT, "hidden_size": 64, "intermediate_size": 64, "head_dim": 16}},
            quantization={"group_size": 32, "bits": 4, "language_model.lm_head": {"group_size": 64, "bits": 8}},
        ),
        Fixture("mistral3-raw", "raw", extra_tensors=tower("vision_tower."), published=wrapped),
        Fixture(
            "mistral3-raw-llava",
            "raw",
            config={"model_type": "llava"},
            extra_tensors=tower("multi_modal_projector."),
            published=wrapped,
            dtype="float32",
        ),
    ],
)
