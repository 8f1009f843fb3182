"""modernbert-decoder: ModernBERT's layers with queries, keys and values apart, which look back alone, and its head."""

from generate.declaration import ABSENT, Architecture, Fixture

REASON = "mlx-lm lacks this architecture"

ARCHITECTURE = Architecture(
    transformers=("ModernBertDecoderConfig", "ModernBertDecoderForCausalLM"),
    config={
        "model_type": "modernbert-decoder",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "local_attention": 16,
        "norm_eps": 1e-5,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "cls_token_id": 1,
        "eos_token_id": 2,
        "sep_token_id": 2,
    },
    fixtures=[
        Fixture("modernbert-decoder-raw", "raw", length=30, oracle="transformers", reason=REASON),
        Fixture(
            "modernbert-decoder-raw-features",
            "raw",
            config={
                "num_hidden_layers": 2,
                "layer_types": ["sliding_attention", "full_attention"],
                "global_rope_theta": 20000.0,
                "local_rope_theta": 500.0,
                "hidden_activation": "silu",
                "classifier_activation": "relu",
                "norm_eps": 1e-2,
                "norm_bias": True,
                "attention_bias": True,
                "mlp_bias": True,
                "classifier_bias": True,
                "decoder_bias": False,
                "tie_word_embeddings": False,
            },
            dtype="float16",
            length=30,
            oracle="transformers",
            reason=REASON,
        ),
        # As it was published first.
        Fixture(
            "modernbert-decoder-raw-pattern",
            "raw",
            config={"global_attn_every_n_layers": 2, "norm_eps": ABSENT, "local_attention": 10},
            length=30,
            oracle="transformers",
            reason=REASON,
        ),
    ],
)
