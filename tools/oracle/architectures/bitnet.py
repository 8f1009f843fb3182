"""bitnet: norms in front of the last projection of each block."""

from generate.declaration import ABSENT, Architecture, Fixture

REASON = "mlx-lm has its layers as a kernel for Metal alone"

ARCHITECTURE = Architecture(
    transformers=("BitNetConfig", "BitNetForCausalLM"),
    config={
        "model_type": "bitnet",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0,
        "hidden_act": "relu2",
        "tie_word_embeddings": True,
    },
    fixtures=[
        Fixture(
            "bitnet-raw",
            "raw",
            config={"rms_norm_eps": 1e-2},
            oracle="transformers",
            reason=REASON,
        ),
        Fixture(
            "bitnet-raw-defaults",
            "raw",
            config={
                "hidden_act": ABSENT,
                "rope_theta": ABSENT,
                "attention_bias": True,
                "tie_word_embeddings": False,
            },
            dtype="float16",
            oracle="transformers",
            reason=REASON,
        ),
    ],
)
