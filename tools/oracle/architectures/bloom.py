"""bloom: biases of the scores in place of a rotation, layer norms with one behind the embedding,
biases everywhere."""

from generate.declaration import Architecture, Fixture

REASON = "mlx-lm lacks this architecture"


def without_prefix(tensors, config):
    """The names of the first checkpoints."""
    return {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}


ARCHITECTURE = Architecture(
    transformers=("BloomConfig", "BloomForCausalLM"),
    config={
        "model_type": "bloom",
        "hidden_size": 32,
        "n_layer": 2,
        "n_head": 4,
        "vocab_size": 96,
        "layer_norm_epsilon": 1e-5,
        "apply_residual_connection_post_layernorm": False,
        "pad_token_id": 3,
        "pretraining_tp": 2,
    },
    fixtures=[
        Fixture("bloom-raw", "raw", published=without_prefix, oracle="transformers", reason=REASON),
        Fixture(
            "bloom-raw-uneven",
            "raw",
            # Neither a power of two nor close to one.
            config={
                "hidden_size": 48,
                "n_head": 6,
                "layer_norm_epsilon": 1e-2,
                "tie_word_embeddings": False,
            },
            dtype="float16",
            length=40,
            oracle="transformers",
            reason=REASON,
        ),
        Fixture(
            "bloom-raw-normed-stream",
            "raw",
            config={"apply_residual_connection_post_layernorm": True},
            dtype="float16",
            oracle="transformers",
            reason=REASON,
        ),
    ],
)
