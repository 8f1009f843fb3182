"""cohere_compass: Command R7B's parallel blocks with the halves of heads rotated, by kinds of layers; within a model that also sees."""

from generate.declaration import ABSENT, Architecture, Fixture
from generate.seeing import nested, tower

REASON = "mlx-lm lacks this architecture"

TEXT = {
    "model_type": "cohere_compass_text",
    "hidden_size": 48,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 96,
    "max_position_embeddings": 256,
    "layer_norm_eps": 1e-5,
    "sliding_window": 8,
    "layer_types": ["sliding_attention", "sliding_attention", "sliding_attention", "full_attention"],
    "rope_parameters": {
        "sliding_attention": {"rope_type": "default", "rope_theta": 50000.0, "mrope_section": [2, 2, 2]},
        "full_attention": None,
    },
    "logit_scale": 0.25,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}

ARCHITECTURE = Architecture(
    transformers=("CohereCompassTextConfig", "CohereCompassForCausalLM"),
    transformers_arguments=lambda config: config.get("text_config", config),
    config=TEXT,
    fixtures=[
        Fixture("cohere-compass-text-raw", "raw", length=30, oracle="transformers", reason=REASON),
        Fixture(
            "cohere-compass-text-raw-features",
            "raw",
            config={
                "num_hidden_layers": 2,
                "num_key_value_heads": ABSENT,
                "layer_types": ["full_attention", "sliding_attention"],
                "rope_parameters": {
                    "full_attention": {"rope_type": "linear", "rope_theta": 20000.0, "factor": 2.0, "mrope_section": [2, 2, 2]},
                    "sliding_attention": {"rope_type": "default", "rope_theta": 500.0, "mrope_section": [2, 2, 2]},
                },
                "hidden_act": "gelu",
                "attention_bias": True,
                "layer_norm_eps": 1e-2,
                "logit_scale": ABSENT,
                "tie_word_embeddings": False,
            },
            dtype="float16",
            length=30,
            oracle="transformers",
            reason=REASON,
        ),
        Fixture(
            "cohere-compass-raw",
            "raw",
            config={
                **{field: ABSENT for field in TEXT},
                "model_type": "cohere_compass",
                # A dangling entry, as it was published.
                "text_config": {**TEXT, "rope_parameters": {**TEXT["rope_parameters"], "rope_theta": 10000.0}},
                "tie_word_embeddings": True,
            },
            extra_tensors=tower("model.visual."),
            published=nested,
            length=30,
            oracle="transformers",
            reason=REASON,
        ),
    ],
)
