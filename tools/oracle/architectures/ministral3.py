"""ministral3: Mistral with queries that grow with their position."""

from generate.declaration import Architecture, Fixture
from generate.seeing import tower, wrapped

ROPE = {
    "type": "yarn",
    "rope_type": "yarn",
    "rope_theta": 1000000.0,
    "factor": 16.0,
    "original_max_position_embeddings": 8,
    "max_position_embeddings": 128,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
    "llama_4_scaling_beta": 0.5,
}

TEXT = {
    "model_type": "ministral3",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "vocab_size": 96,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "rope_parameters": ROPE,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "pad_token_id": 0,
}

ARCHITECTURE = Architecture(
    transformers=("Ministral3Config", "Ministral3ForCausalLM"),
    transformers_arguments=lambda config: config.get("text_config", config),
    config=TEXT,
    fixtures=[
        Fixture("ministral3", "mlx", length=30),
        Fixture(
            "ministral3-window",
            "mlx",
            config={
                "layer_types": ["sliding_attention", "full_attention"],
                "sliding_window": 8,
                "tie_word_embeddings": True,
                "rms_norm_eps": 1e-2,
            },
            dtype="float16",
            length=30,
        ),
        Fixture(
            "ministral3-4bit",
            "mlx",
            config={"hidden_size": 64, "intermediate_size": 64, "head_dim": 16},
            quantization={"group_size": 32, "bits": 4, "lm_head": {"group_size": 64, "bits": 8}},
            length=30,
        ),
        Fixture("ministral3-raw", "raw", nested_rope=True, length=30),
        Fixture(
            "ministral3-raw-seeing",
            "raw",
            config={"model_type": "mistral3", "text_config": TEXT},
            extra_tensors=tower("vision_tower."),
            published=wrapped,
            dtype="float32",
            length=30,
        ),
        Fixture(
            "ministral3-raw-tied",
            "raw",
            config={"tie_word_embeddings": True},
            nested_rope=True,
            dtype="float32",
            length=30,
        ),
    ],
)
