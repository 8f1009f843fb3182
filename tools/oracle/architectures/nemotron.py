"""nemotron: LayerNorms whose weights are stored less 1, a plain MLP with squared ReLU, a rotation of part of a head."""

from generate.declaration import ABSENT, Architecture, Fixture

ARCHITECTURE = Architecture(
    transformers=("NemotronConfig", "NemotronForCausalLM"),
    config={
        "model_type": "nemotron",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "partial_rotary_factor": 0.5,
        "hidden_act": "relu2",
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture("nemotron", "mlx"),
        Fixture(
            "nemotron-biases",
            "mlx",
            config={
                "attention_bias": True,
                "mlp_bias": True,
                "head_dim": 12,
                "norm_eps": 1e-2,
                "partial_rotary_factor": ABSENT,
                "rope_theta": ABSENT,
                "rope_scaling": {"type": "linear", "factor": 4.0},
                "tie_word_embeddings": True,
            },
            dtype="float16",
        ),
        Fixture(
            "nemotron-4bit",
            "mlx",
            config={"hidden_size": 64, "intermediate_size": 64},
            quantization={"group_size": 32, "bits": 4, "lm_head": {"group_size": 64, "bits": 8}},
        ),
        Fixture("nemotron-raw", "raw"),
        Fixture(
            "nemotron-raw-biases",
            "raw",
            config={"attention_bias": True, "mlp_bias": True, "head_dim": 12, "num_key_value_heads": 4},
            dtype="float32",
        ),
    ],
)
