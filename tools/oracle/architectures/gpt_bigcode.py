"""gpt_bigcode: GPT-2 whose query heads mostly share one head of keys and values."""

from generate.declaration import Architecture, Fixture

ARCHITECTURE = Architecture(
    transformers=("GPTBigCodeConfig", "GPTBigCodeForCausalLM"),
    config={
        "model_type": "gpt_bigcode",
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 4,
        "n_positions": 128,
        "vocab_size": 96,
        "layer_norm_epsilon": 1e-5,
        "n_inner": 48,
        "multi_query": True,
        # What mlx-lm computes, whatever is said here.
        "activation_function": "gelu",
    },
    fixtures=[
        Fixture(
            "gpt-bigcode",
            "mlx",
            config={
                "layer_norm_epsilon": 1e-2,
                "tie_word_embeddings": False,
                "attention_bias": False,
                "mlp_bias": False,
            },
        ),
        Fixture(
            "gpt-bigcode-4bit",
            "mlx",
            config={"n_embd": 64, "n_inner": 64},
            quantization={"group_size": 32, "bits": 4, "transformer.h.1.mlp.c_fc": {"group_size": 64, "bits": 8}},
        ),
        Fixture("gpt-bigcode-raw", "raw"),
        Fixture(
            "gpt-bigcode-raw-heads",
            "raw",
            config={"multi_query": False, "activation_function": "gelu_pytorch_tanh", "n_inner": None},
            oracle="transformers",
            reason="mlx-lm has another order of the projections where heads have keys of their own, and takes GELU for exact",
        ),
    ],
)
