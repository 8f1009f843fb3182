"""mimo: Qwen 2 with layers that predict more tokens, which are left out."""

import numpy as np

from generate.declaration import Architecture, Fixture


def predicting(config: dict) -> dict[str, np.ndarray]:
    """Some of a layer that predicts the token after the next."""
    size = config["hidden_size"]
    return {"model.mtp_layers.0.input_proj.weight": np.full((size, 2 * size), 0.5, np.float16)}


ARCHITECTURE = Architecture(
    transformers=("Qwen2Config", "Qwen2ForCausalLM"),
    config={
        "model_type": "mimo",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5,
        "rope_theta": 640000.0,
        "tie_word_embeddings": False,
        "num_nextn_predict_layers": 1,
    },
    fixtures=[
        Fixture("mimo", "mlx"),
        Fixture(
            "mimo-4bit",
            "mlx",
            config={"hidden_size": 64, "intermediate_size": 64, "tie_word_embeddings": True},
            quantization={"group_size": 32, "bits": 4, "model.layers.0.mlp.up_proj": {"group_size": 64, "bits": 8}},
        ),
        Fixture("mimo-raw", "raw", extra_tensors=predicting),
        Fixture(
            "mimo-raw-tied", "raw", config={"tie_word_embeddings": True}, extra_tensors=predicting, dtype="float32"
        ),
    ],
)
