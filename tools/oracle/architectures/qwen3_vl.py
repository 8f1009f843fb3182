"""qwen3_vl: Qwen 3 within a model that also sees; with text alone its three positions are one."""

from generate.declaration import Architecture, Fixture
from generate.seeing import nested, tower

TEXT = {
    "model_type": "qwen3_vl_text",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "vocab_size": 96,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-6,
    "rope_theta": 5000000.0,
    "rope_scaling": {"rope_type": "default", "mrope_interleaved": True, "mrope_section": [2, 2, 2]},
    "tie_word_embeddings": True,
}

ARCHITECTURE = Architecture(
    transformers=("Qwen3Config", "Qwen3ForCausalLM"),
    transformers_arguments=lambda config: {**config["text_config"], "rope_scaling": None},
    config={"model_type": "qwen3_vl", "text_config": TEXT},
    fixtures=[
        Fixture("qwen3-vl", "mlx"),
        Fixture(
            "qwen3-vl-4bit",
            "mlx",
            config={
                "text_config": {
                    **TEXT,
                    "hidden_size": 64,
                    "intermediate_size": 64,
                    "head_dim": 16,
                    "tie_word_embeddings": False,
                }
            },
            quantization={"group_size": 32, "bits": 4, "language_model.lm_head": {"group_size": 64, "bits": 8}},
        ),
        Fixture("qwen3-vl-raw", "raw", extra_tensors=tower("model.visual."), published=nested),
        Fixture(
            "qwen3-vl-raw-untied",
            "raw",
            config={"text_config": {**TEXT, "tie_word_embeddings": False}},
            extra_tensors=tower("model.visual."),
            published=nested,
            dtype="float32",
        ),
    ],
)
