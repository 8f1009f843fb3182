"""opt: layer norms, embeddings of positions, biases everywhere; embeddings of another width, and norms behind the sums."""

from generate.declaration import Architecture, Fixture

REASON = "mlx-lm lacks this architecture"


def without_prefix(tensors, config):
    """The names of the first checkpoints."""
    return {name.removeprefix("model."): tensor for name, tensor in tensors.items()}


ARCHITECTURE = Architecture(
    transformers=("OPTConfig", "OPTForCausalLM"),
    config={
        "model_type": "opt",
        "hidden_size": 32,
        "ffn_dim": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "vocab_size": 96,
        "max_position_embeddings": 128,
        "word_embed_proj_dim": 32,
        "do_layer_norm_before": True,
        "activation_function": "relu",
    },
    fixtures=[
        Fixture("opt-raw", "raw", oracle="transformers", reason=REASON),
        Fixture(
            "opt-raw-no-biases",
            "raw",
            config={"enable_bias": False, "activation_function": "gelu", "tie_word_embeddings": False},
            dtype="float16",
            oracle="transformers",
            reason=REASON,
        ),
        Fixture(
            "opt-raw-narrow",
            "raw",
            config={"word_embed_proj_dim": 16, "do_layer_norm_before": False},
            dtype="float16",
            published=without_prefix,
            oracle="transformers",
            reason=REASON,
        ),
        Fixture(
            "opt-raw-plain-norms",
            "raw",
            config={
                "layer_norm_elementwise_affine": False,
                "_remove_final_layer_norm": True,
                "word_embed_proj_dim": 48,
                "tie_word_embeddings": False,
            },
            oracle="transformers",
            reason=REASON,
        ),
    ],
)
