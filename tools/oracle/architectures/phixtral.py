"""phixtral: Phi 2's parallel blocks with plain MLPs as experts."""

from generate.declaration import ABSENT, Architecture, Fixture


def expert_by_expert(tensors, config):
    """Experts one by one, as they are published."""
    published = {}
    for name, tensor in tensors.items():
        block, found, rest = name.partition(".switch_mlp.")
        if not found:
            published[name] = tensor
            continue
        for index, expert in enumerate(tensor):
            published[f"{block}.mlp.{index}.{rest}"] = expert.contiguous()
    return published


ARCHITECTURE = Architecture(
    config={
        "model_type": "phixtral",
        "num_vocab": 96,
        "vocab_size": 96,
        "model_dim": 32,
        "num_heads": 4,
        "num_layers": 2,
        "rotary_dim": 4,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
    },
    fixtures=[
        Fixture("phixtral", "mlx"),
        Fixture(
            "phixtral-4bit",
            "mlx",
            config={"model_dim": 64, "num_local_experts": 3, "num_experts_per_tok": ABSENT},
            quantization={
                "group_size": 32,
                "bits": 4,
                "transformer.h.1.moe.switch_mlp.fc1": {"group_size": 64, "bits": 8},
            },
        ),
        Fixture(
            "phixtral-raw", "raw", config={"num_layers": 1, "num_local_experts": 3}, published=expert_by_expert, dtype="float16"
        ),
    ],
)
