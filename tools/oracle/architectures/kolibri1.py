"""kolibri1: norms around the blocks, most layers within a window, and experts chosen by corrected logits."""

from generate.declaration import ABSENT, Architecture, Fixture

REASON = "mlx-lm lacks this architecture"

ARCHITECTURE = Architecture(
    transformers=("Kolibri1Config", "Kolibri1ForCausalLM"),
    drawn_buffers=("e_score_correction_bias",),
    config={
        "model_type": "kolibri1",
        "hidden_size": 32,
        "num_hidden_layers": 5,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 12,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-6,
        "rope_theta": 500000.0,
        "sliding_window": 8,
        "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 24,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture("kolibri1-raw", "raw", length=30, oracle="transformers", reason=REASON),
        Fixture(
            "kolibri1-raw-normalized",
            "raw",
            config={
                "num_hidden_layers": 2,
                "layer_types": ["full_attention", "sliding_attention"],
                "norm_topk_prob": True,
                "hidden_act": "gelu",
                "rms_norm_eps": 1e-2,
                "rope_theta": ABSENT,
                "tie_word_embeddings": True,
            },
            dtype="float16",
            length=30,
            oracle="transformers",
            reason=REASON,
        ),
        # No layer has a window, and none rotates.
        Fixture(
            "kolibri1-raw-full",
            "raw",
            config={"num_hidden_layers": 2, "layer_types": ["full_attention"] * 2},
            oracle="transformers",
            reason=REASON,
        ),
    ],
)
