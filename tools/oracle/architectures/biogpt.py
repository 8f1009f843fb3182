"""biogpt: OPT's layers behind scaled embeddings."""

from generate.declaration import Architecture, Fixture

REASON = "mlx-lm lacks this architecture"

ARCHITECTURE = Architecture(
    transformers=("BioGptConfig", "BioGptForCausalLM"),
    config={
        "model_type": "biogpt",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "vocab_size": 96,
        "max_position_embeddings": 128,
        # Which nothing looks at.
        "layer_norm_eps": 1e-2,
        "hidden_act": "gelu",
    },
    fixtures=[
        Fixture("biogpt-raw", "raw", oracle="transformers", reason=REASON),
        Fixture(
            "biogpt-raw-plain",
            "raw",
            config={"scale_embedding": False, "hidden_act": "relu", "tie_word_embeddings": False},
            dtype="float16",
            oracle="transformers",
            reason=REASON,
        ),
    ],
)
