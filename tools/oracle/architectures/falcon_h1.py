"""falcon_h1: state-space layers and attention side by side, and a factor on most of what is multiplied and added."""

import torch

from generate.declaration import ABSENT, Architecture, Fixture

# As published, but that of attention's input, which is 1 there.
FACTORS = {
    "attention_in_multiplier": 1.5,
    "attention_out_multiplier": 0.9375,
    "embedding_multiplier": 5.656854249492381,
    "key_multiplier": 0.390625,
    "lm_head_multiplier": 0.0390625,
    "mlp_multipliers": [0.8838834764831844, 0.5859375],
    "ssm_in_multiplier": 1.25,
    "ssm_multipliers": [0.3535533905932738, 0.25, 0.75, 0.5, 1.25],
    "ssm_out_multiplier": 0.23570226039551587,
}
# For what is stored in float32.
SMALL = {"vocab_size": 64, "intermediate_size": 32, "head_dim": 8, "mamba_d_ssm": 32, "mamba_n_heads": 4}
WITHOUT_KEYS = "the factors of the keys and of attention's input hold; mlx-lm leaves out the former, and the latter for values"


def converted(tensors: dict[str, torch.Tensor], config: dict) -> dict[str, torch.Tensor]:
    """The tensors as a conversion by mlx-lm leaves them: most factors in the weights, convolutions with their inputs last."""
    gate, down = config["mlp_multipliers"]
    inner, shared = config["mamba_d_ssm"], config["mamba_n_groups"] * config["mamba_d_state"]
    sizes = [inner, inner, shared, shared, config["mamba_n_heads"]]
    rows = [torch.full((size, 1), factor) for size, factor in zip(sizes, config["ssm_multipliers"], strict=True)]
    factors = {
        "embed_tokens.weight": config["embedding_multiplier"],
        "lm_head.weight": config["lm_head_multiplier"],
        "q_proj.weight": config["attention_in_multiplier"],
        "k_proj.weight": config["attention_in_multiplier"],
        "o_proj.weight": config["attention_out_multiplier"],
        "out_proj.weight": config["ssm_out_multiplier"],
        "gate_proj.weight": gate,
        "down_proj.weight": down,
        "in_proj.weight": torch.cat(rows) * config["ssm_in_multiplier"],
    }

    def convert(name: str, tensor: torch.Tensor) -> torch.Tensor:
        if name.endswith("conv1d.weight"):
            return tensor.transpose(1, 2).contiguous()
        end = ".".join(name.split(".")[-2:])
        return tensor * factors[end] if end in factors else tensor

    return {name: convert(name, tensor) for name, tensor in tensors.items()}


ARCHITECTURE = Architecture(
    transformers=("FalconH1Config", "FalconH1ForCausalLM"),
    config={
        "model_type": "falcon_h1",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "attention_bias": False,
        "mlp_bias": False,
        "projectors_bias": False,
        "mamba_d_ssm": 48,
        "mamba_n_heads": 6,
        "mamba_d_head": 8,
        "mamba_d_state": 8,
        "mamba_d_conv": 4,
        "mamba_n_groups": 1,
        "mamba_expand": 2,
        "mamba_chunk_size": 16,
        "mamba_conv_bias": True,
        "mamba_proj_bias": False,
        "mamba_rms_norm": False,
        "mamba_norm_before_gate": False,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5,
        "rope_theta": 100000000000.0,
        "pad_token_id": None,
        "tie_word_embeddings": False,
        **FACTORS,
        # Those that mlx-lm leaves out.
        "attention_in_multiplier": 1.0,
        "key_multiplier": 1.0,
    },
    fixtures=[
        Fixture("falcon-h1", "mlx", length=40),
        Fixture(
            "falcon-h1-norm",
            "mlx",
            config={
                "mamba_rms_norm": True,
                "mamba_conv_bias": False,
                "mamba_d_conv": 3,
                "attention_bias": True,
                "mlp_bias": True,
                "mamba_proj_bias": True,
                "projectors_bias": True,
                "intermediate_size": 32,
                "num_hidden_layers": 3,
                "num_key_value_heads": 1,
                "rope_theta": 5000.0,
                "rms_norm_eps": 1e-2,
                "tie_word_embeddings": True,
            },
            dtype="float16",
            length=30,
        ),
        Fixture(
            "falcon-h1-norm-first",
            "mlx",
            config={
                "mamba_rms_norm": True,
                "mamba_norm_before_gate": True,
                "mlp_multipliers": ABSENT,
                "ssm_multipliers": ABSENT,
            },
        ),
        Fixture(
            "falcon-h1-4bit",
            "mlx",
            config={"hidden_size": 64, "intermediate_size": 64, "mamba_d_ssm": 64, "mamba_n_heads": 8},
            quantization={
                "group_size": 32,
                "bits": 4,
                "model.layers.0.mamba.in_proj": {"group_size": 64, "bits": 8},
                "model.layers.1.self_attn.o_proj": {"group_size": 32, "bits": 6},
            },
            length=40,
        ),
        Fixture("falcon-h1-raw", "raw", config=SMALL, dtype="float32", length=40),
        Fixture(
            "falcon-h1-raw-tied",
            "raw",
            config={**SMALL, "tie_word_embeddings": True, "mamba_rms_norm": True},
            dtype="float32",
        ),
        Fixture("falcon-h1-raw-factors", "raw", config=FACTORS, length=40, oracle="transformers", reason=WITHOUT_KEYS),
        Fixture(
            "falcon-h1-raw-groups",
            "raw",
            config={
                **FACTORS,
                "mamba_n_groups": 2,
                "mamba_rms_norm": True,
                "attention_bias": True,
                "mlp_bias": True,
                "mamba_proj_bias": True,
                "projectors_bias": True,
                "tie_word_embeddings": True,
            },
            dtype="float16",
            length=40,
            oracle="transformers",
            reason="the norm is taken over each group, and factors are those of biases, too; in mlx-lm neither",
        ),
        Fixture(
            "falcon-h1-converted",
            "raw",
            config={**SMALL, **FACTORS, "num_hidden_layers": 1},
            published=converted,
            dtype="float32",
            oracle="transformers",
            reason=WITHOUT_KEYS,
        ),
    ],
)
