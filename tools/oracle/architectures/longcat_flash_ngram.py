"""longcat_flash_ngram: longcat_flash with embeddings of n-grams."""

from generate.declaration import ABSENT, Architecture, Fixture

from .longcat_flash import ARCHITECTURE as PLAIN
from .longcat_flash import prediction_layer


def renamed(tensors, _):
    """The embedding of tokens under the name that it has in most other models, and experts one by one."""
    result = {}
    for name, tensor in tensors.items():
        name = name.replace("model.ngram_embeddings.word_embeddings.", "model.embed_tokens.")
        if ".switch_mlp." not in name:
            result[name] = tensor
            continue
        for index, expert in enumerate(tensor):
            result[name.replace(".switch_mlp.", f".experts.{index}.")] = expert.contiguous()
    return result


ARCHITECTURE = Architecture(
    config={
        **PLAIN.config,
        "model_type": "longcat_flash_ngram",
        "num_layers": 1,
        "ngram_vocab_size_ratio": 3,
        "emb_neighbor_num": 3,
        "emb_split_num": 2,
    },
    fixtures=[
        Fixture("longcat-flash-ngram", "mlx"),
        Fixture(
            "longcat-flash-ngram-defaults",
            "mlx",
            config={
                "hidden_size": 48,
                "ngram_vocab_size_ratio": ABSENT,
                "emb_neighbor_num": ABSENT,
                "emb_split_num": ABSENT,
                "attention_bias": True,
            },
            dtype="float16",
        ),
        Fixture(
            "longcat-flash-ngram-4bit",
            "mlx",
            config={
                "hidden_size": 64,
                "ffn_hidden_size": 64,
                "expert_ffn_hidden_size": 32,
                "q_lora_rank": 32,
                "kv_lora_rank": 32,
                "qk_nope_head_dim": 32,
                "v_head_dim": 16,
                "emb_split_num": 1,
            },
            quantization={
                "group_size": 32,
                "bits": 4,
                "model.ngram_embeddings.embedders.1": {"group_size": 32, "bits": 8},
                "model.layers.0.mlps.1.up_proj": {"group_size": 64, "bits": 8},
            },
        ),
        Fixture("longcat-flash-ngram-raw", "raw", extra_tensors=prediction_layer, published=renamed),
    ],
)
