"""qwen2_vl: Qwen 2 within a model that also sees; with text alone its three positions are one."""

from generate.declaration import Architecture, Fixture
from generate.seeing import nested, tower

TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 96,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000.0,
    "rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2]},
    "tie_word_embeddings": False,
}


def without_sections(config: dict) -> dict:
    """The configuration of the language model by itself."""
    return {**config.get("text_config", config), "rope_scaling": None}


ARCHITECTURE = Architecture(
    transformers=("Qwen2Config", "Qwen2ForCausalLM"),
    transformers_arguments=without_sections,
    config={"model_type": "qwen2_vl"},
    fixtures=[
        Fixture("qwen2-vl", "mlx", config=TEXT),
        Fixture(
            "qwen2-vl-4bit",
            "mlx",
            config={"text_config": {**TEXT, "model_type": "qwen2_vl_text", "hidden_size": 64, "intermediate_size": 64}},
            quantization={"group_size": 32, "bits": 4, "language_model.lm_head": {"group_size": 64, "bits": 8}},
        ),
        Fixture("qwen2-vl-raw", "raw", config=TEXT, extra_tensors=tower("visual.")),
        Fixture(
            "qwen2-vl-raw-nested",
            "raw",
            config={
                "model_type": "qwen2_5_vl",
                "text_config": {**TEXT, "model_type": "qwen2_5_vl_text", "tie_word_embeddings": True},
            },
            extra_tensors=tower("model.visual."),
            published=nested,
            dtype="float32",
        ),
    ],
)
