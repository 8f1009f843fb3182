"""granitemoeshared: granitemoe with an MLP beside the experts."""

from generate.declaration import Architecture, Fixture

REASON = "mlx-lm lacks this architecture"

ARCHITECTURE = Architecture(
    transformers=("GraniteMoeSharedConfig", "GraniteMoeSharedForCausalLM"),
    config={
        "model_type": "granitemoeshared",
        "hidden_size": 32,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "embedding_multiplier": 12.0,
        "attention_multiplier": 0.25,
        "residual_multiplier": 0.22,
        "logits_scaling": 6.0,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "shared_intermediate_size": 24,
        "tie_word_embeddings": True,
    },
    fixtures=[
        Fixture("granitemoeshared-raw", "raw", length=24, oracle="transformers", reason=REASON),
    ],
)
