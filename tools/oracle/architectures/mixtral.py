"""mixtral: soft-max over the experts that top-k kept, experts named w1, w2 and w3 in published checkpoints."""

from generate.declaration import ABSENT, Architecture, Fixture

ARCHITECTURE = Architecture(
    transformers=("MixtralConfig", "MixtralForCausalLM"),
    config={
        "model_type": "mixtral",
        "hidden_size": 32,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5,
        "rope_theta": 1000000.0,
        "sliding_window": None,
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture("mixtral", "mlx", length=40),
        Fixture(
            "mixtral-traditional",
            "mlx",
            config={
                "rope_traditional": True,
                "rope_theta": ABSENT,
                "num_experts_per_tok": ABSENT,
                "num_local_experts": 3,
                "num_key_value_heads": 4,
                "tie_word_embeddings": True,
                "rms_norm_eps": 1e-2,
            },
            dtype="float16",
        ),
        Fixture(
            "mixtral-4bit",
            "mlx",
            config={"hidden_size": 64, "intermediate_size": 32, "num_key_value_heads": 1},
            quantization={
                "group_size": 32,
                "bits": 4,
                "model.layers.0.block_sparse_moe.gate": {"group_size": 64, "bits": 8},
                "model.layers.1.block_sparse_moe.switch_mlp.up_proj": {"group_size": 32, "bits": 2},
            },
            length=40,
        ),
        # The experts of a layer lie in several files.
        Fixture("mixtral-raw", "raw", shard_bytes=20_000, length=40),
        Fixture(
            "mixtral-raw-window",
            "raw",
            config={"sliding_window": 8, "tie_word_embeddings": True},
            dtype="float16",
            length=30,
            oracle="transformers",
            reason="a sliding_window holds for every layer; mlx-lm does not look at it",
        ),
    ],
)
