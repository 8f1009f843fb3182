"""pixtral: Mistral within a model that also sees; the number of heads is 32 where nothing is said."""

from generate.declaration import Architecture, Fixture
from generate.seeing import tower, wrapped

TEXT = {
    "model_type": "mistral",
    "hidden_size": 32,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "head_dim": 2,
    "vocab_size": 96,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "rope_theta": 1000000000.0,
    "sliding_window": None,
}

ARCHITECTURE = Architecture(
    transformers=("MistralConfig", "MistralForCausalLM"),
    transformers_arguments=lambda config: {"num_attention_heads": 32, **config["text_config"]},
    config={"model_type": "pixtral", "text_config": TEXT},
    fixtures=[
        Fixture("pixtral", "mlx"),
        Fixture("pixtral-raw", "raw", extra_tensors=tower("vision_tower."), published=wrapped, dtype="float32"),
    ],
)
