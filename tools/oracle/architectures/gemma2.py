"""gemma2: norms before and behind attention and MLP, (1 + weight) each; soft-caps on scores and logits."""

from generate.declaration import ABSENT, Architecture, Fixture

ARCHITECTURE = Architecture(
    transformers=("Gemma2Config", "Gemma2ForCausalLM"),
    config={
        "model_type": "gemma2",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "attn_logit_softcapping": 2.0,
        "final_logit_softcapping": 20.0,
        "query_pre_attn_scalar": 12,
        "hidden_activation": "gelu_pytorch_tanh",
        "sliding_window": 4096,
        "tie_word_embeddings": True,
    },
    fixtures=[
        Fixture("gemma2", "mlx"),
        Fixture("gemma2-wide", "mlx", config={"head_dim": 64}, length=40),
        Fixture(
            "gemma2-defaults",
            "mlx",
            config={
                "attn_logit_softcapping": ABSENT,
                "final_logit_softcapping": ABSENT,
                "query_pre_attn_scalar": 144.0,
                "rope_theta": ABSENT,
                "rope_traditional": True,
                "head_dim": 12,
                "num_key_value_heads": 4,
                "rms_norm_eps": 1e-2,
            },
            dtype="float16",
        ),
        Fixture(
            "gemma2-4bit",
            "mlx",
            config={"hidden_size": 64, "intermediate_size": 64, "num_key_value_heads": 1, "head_dim": 16},
            quantization={"group_size": 64, "bits": 4, "model.embed_tokens": {"group_size": 64, "bits": 6}},
        ),
        Fixture("gemma2-raw", "raw"),
        Fixture(
            "gemma2-raw-window",
            "raw",
            config={"sliding_window": 8, "num_hidden_layers": 3, "intermediate_size": 32},
            length=30,
            oracle="transformers",
            reason="every other layer, beginning with the first, has a sliding window; mlx-lm does not look at it",
        ),
        Fixture(
            "gemma2-raw-layer-types",
            "raw",
            config={
                "sliding_window": 6,
                "layer_types": ["full_attention", "sliding_attention"],
                "final_logit_softcapping": None,
            },
            oracle="transformers",
            reason="mlx-lm looks neither at layer_types nor at a bound that is null",
        ),
    ],
)
