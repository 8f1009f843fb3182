"""mpt: biases of the scores in place of a rotation, and no other biases."""

from generate.declaration import Architecture, Fixture

REASON = "mlx-lm lacks this architecture"

ARCHITECTURE = Architecture(
    transformers=("MptConfig", "MptForCausalLM"),
    config={
        "model_type": "mpt",
        "d_model": 32,
        "n_layers": 2,
        "n_heads": 4,
        "expansion_ratio": 4,
        "max_seq_len": 256,
        "vocab_size": 96,
        "no_bias": True,
        "logit_scale": None,
    },
    fixtures=[
        Fixture("mpt-raw", "raw", oracle="transformers", reason=REASON),
        Fixture(
            "mpt-raw-clipped",
            "raw",
            config={
                "d_model": 48,
                "n_heads": 6,
                "layer_norm_epsilon": 1e-2,
                "tie_word_embeddings": False,
                # transformers does not look at "alibi_bias_max".
                "attn_config": {"alibi": True, "clip_qkv": 0.5, "softmax_scale": 0.2},
            },
            dtype="float16",
            length=40,
            oracle="transformers",
            reason=REASON,
        ),
    ],
)
