"""falcon: blocks beside each other, and few heads of keys and values."""

from generate.declaration import Architecture, Fixture

REASON = "mlx-lm lacks this architecture"

ARCHITECTURE = Architecture(
    transformers=("FalconConfig", "FalconForCausalLM"),
    config={
        "model_type": "falcon",
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "layer_norm_epsilon": 1e-5,
        "rope_theta": 10000.0,
        "multi_query": True,
        "parallel_attn": True,
        "new_decoder_architecture": False,
        "alibi": False,
        "bias": False,
    },
    fixtures=[
        Fixture("falcon-raw", "raw", oracle="transformers", reason=REASON),
        Fixture(
            "falcon-raw-grouped",
            "raw",
            config={
                "new_decoder_architecture": True,
                "num_kv_heads": 2,
                "ffn_hidden_size": 48,
                "layer_norm_epsilon": 1e-2,
                "tie_word_embeddings": False,
            },
            dtype="float16",
            oracle="transformers",
            reason=REASON,
        ),
        Fixture(
            "falcon-raw-sequential",
            "raw",
            config={"parallel_attn": False, "multi_query": False, "bias": True},
            dtype="float16",
            oracle="transformers",
            reason=REASON,
        ),
        Fixture(
            "falcon-raw-alibi",
            "raw",
            # Slopes that are rounded to 16 bits.
            config={
                "hidden_size": 48,
                "num_attention_heads": 6,
                "alibi": True,
                "parallel_attn": False,
                "multi_query": False,
                "bias": True,
            },
            dtype="float16",
            length=40,
            # The plain way adds the biases twice.
            attention="sdpa",
            oracle="transformers",
            reason=REASON,
        ),
    ],
)
