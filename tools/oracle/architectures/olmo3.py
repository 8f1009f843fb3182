"""olmo3: OLMo 2 of which most layers see a window, without the extension of their rotation."""

from generate.declaration import ABSENT, Architecture, Fixture

YARN = {
    "rope_type": "yarn",
    "factor": 8.0,
    "original_max_position_embeddings": 32,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "attention_factor": 1.2079441541679836,
}

ARCHITECTURE = Architecture(
    transformers=("Olmo3Config", "Olmo3ForCausalLM"),
    config={
        "model_type": "olmo3",
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-6,
        "rope_theta": 500000.0,
        "rope_scaling": YARN,
        "sliding_window": 8,
        "attention_bias": False,
        "tie_word_embeddings": False,
        "layer_types": ["sliding_attention", "sliding_attention", "sliding_attention", "full_attention"],
    },
    fixtures=[
        Fixture("olmo3", "mlx", length=30),
        Fixture(
            "olmo3-defaults",
            "mlx",
            config={
                "layer_types": ABSENT,
                "num_key_value_heads": ABSENT,
                "rope_scaling": ABSENT,
                "tie_word_embeddings": True,
                "attention_bias": True,
                "head_dim": 12,
                "rms_norm_eps": 1e-2,
                "intermediate_size": 24,
            },
            dtype="float16",
            length=30,
        ),
        Fixture(
            "olmo3-4bit",
            "mlx",
            config={
                "hidden_size": 64,
                "num_hidden_layers": 2,
                "layer_types": ["sliding_attention", "full_attention"],
                "intermediate_size": 64,
            },
            quantization={"group_size": 32, "bits": 4, "lm_head": {"group_size": 64, "bits": 8}},
            length=30,
        ),
        Fixture("olmo3-raw", "raw", length=30),
        Fixture(
            "olmo3-raw-plain",
            "raw",
            config={
                "rope_scaling": None,
                "layer_types": ["full_attention", "sliding_attention", "full_attention", "sliding_attention"],
            },
            dtype="float32",
            length=30,
        ),
    ],
)
