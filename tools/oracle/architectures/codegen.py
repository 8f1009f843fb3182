"""codegen: GPT-J with one projection of queries, values and keys, cut into four shards."""

from generate.declaration import ABSENT, Architecture, Fixture

REASON = "mlx-lm lacks this architecture"

ARCHITECTURE = Architecture(
    transformers=("CodeGenConfig", "CodeGenForCausalLM"),
    config={
        "model_type": "codegen",
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 4,
        "n_positions": 256,
        "n_ctx": 256,
        "vocab_size": 96,
        "layer_norm_epsilon": 1e-5,
        "rotary_dim": 4,
        "n_inner": None,
        "activation_function": "gelu_new",
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture("codegen-raw", "raw", oracle="transformers", reason=REASON),
        # The head is the embedding, and has a bias all the same.
        Fixture("codegen-raw-tied", "raw", config={"tie_word_embeddings": True}, oracle="transformers", reason=REASON),
        Fixture(
            "codegen-raw-inner",
            "raw",
            # Two heads in each shard.
            config={
                "n_head": 8,
                "n_inner": 48,
                "activation_function": "relu",
                "layer_norm_epsilon": 1e-2,
                "tie_word_embeddings": ABSENT,
            },
            dtype="float16",
            oracle="transformers",
            reason=REASON,
        ),
    ],
)
