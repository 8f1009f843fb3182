"""nanochat: norms without weights everywhere, a rotation the other way round, bounded logits."""

from generate.declaration import ABSENT, Architecture, Fixture

ARCHITECTURE = Architecture(
    transformers=("NanoChatConfig", "NanoChatForCausalLM"),
    config={
        "model_type": "nanochat",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "hidden_act": "relu2",
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture("nanochat", "mlx", config={"rms_norm_eps": ABSENT}),
        Fixture(
            "nanochat-4bit",
            "mlx",
            config={"hidden_size": 64, "intermediate_size": 64, "rms_norm_eps": ABSENT},
            quantization={"group_size": 32, "bits": 4, "transformer.h.1.mlp.c_fc": {"group_size": 64, "bits": 8}},
        ),
        Fixture(
            "nanochat-raw",
            "raw",
            config={"rms_norm_eps": 1e-2, "final_logit_softcapping": 5.0},
            oracle="transformers",
            reason="mlx-lm has other names",
        ),
    ],
)
