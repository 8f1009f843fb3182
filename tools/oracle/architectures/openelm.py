"""openelm: layers that grow in heads and width."""

from generate.declaration import ABSENT, Architecture, Fixture

ARCHITECTURE = Architecture(
    config={
        "model_type": "openelm",
        "model_dim": 32,
        "num_transformer_layers": 3,
        "head_dim": 8,
        "vocab_size": 96,
        "num_query_heads": [4, 4, 6],
        "num_kv_heads": [1, 2, 2],
        "ffn_multipliers": [0.5, 1.1, 2.0],
        "ffn_dim_divisor": 16,
        "rms_norm_eps": 1e-6,
        "rope_freq_constant": 10000,
    },
    fixtures=[
        Fixture(
            "openelm",
            "mlx",
            config={"normalize_qk_projections": False, "share_input_output_layers": False, "rms_norm_eps": 1e-2},
        ),
        Fixture(
            "openelm-4bit",
            "mlx",
            config={"model_dim": 64, "head_dim": 16, "ffn_dim_divisor": 64},
            quantization={
                "group_size": 32,
                "bits": 4,
                "transformer.layers.1.ffn.proj_1": {"group_size": 64, "bits": 8},
            },
        ),
        Fixture("openelm-raw", "raw", config={"rms_norm_eps": ABSENT}),
    ],
)
