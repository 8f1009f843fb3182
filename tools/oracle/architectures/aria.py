"""aria: Llama with experts that are stored inputs first, beside some that see every token; within a model that also sees."""

from generate.declaration import ABSENT, Architecture, Fixture
from generate.seeing import tower, wrapped

REASON = "mlx-lm lacks this architecture"

TEXT = {
    "model_type": "aria_text",
    "hidden_size": 32,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 96,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-6,
    "rope_theta": 5000000.0,
    "moe_num_experts": 4,
    "moe_topk": 2,
    "moe_num_shared_experts": 2,
    "tie_word_embeddings": False,
}

ARCHITECTURE = Architecture(
    transformers=("AriaTextConfig", "AriaTextForCausalLM"),
    transformers_arguments=lambda config: config.get("text_config", config),
    config=TEXT,
    fixtures=[
        Fixture("aria-text-raw", "raw", oracle="transformers", reason=REASON),
        Fixture(
            "aria-text-raw-features",
            "raw",
            config={
                "head_dim": 12,
                "num_key_value_heads": ABSENT,
                "moe_topk": ABSENT,
                "moe_num_shared_experts": 1,
                "hidden_act": "gelu",
                "attention_bias": True,
                "mlp_bias": True,
                "rms_norm_eps": 1e-2,
                "rope_theta": ABSENT,
                "tie_word_embeddings": True,
            },
            dtype="float16",
            oracle="transformers",
            reason=REASON,
        ),
        Fixture(
            "aria-raw",
            "raw",
            config={**{field: ABSENT for field in TEXT}, "model_type": "aria", "text_config": TEXT},
            extra_tensors=tower("multi_modal_projector."),
            published=wrapped,
            oracle="transformers",
            reason=REASON,
        ),
    ],
)
