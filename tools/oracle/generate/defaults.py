"""The sizes, and the parts of a model, that configurations may leave out: `src/models/config/defaults.json`, by `model_type`.

They are what mlx-lm's arguments have, and transformers' configuration classes for what these require.
"""

import dataclasses
import importlib
import inspect
import json
import re
from pathlib import Path

from transformers import CONFIG_MAPPING
ROOT = Path(__file__).parents[3]
FILE = ROOT / "src/models/config/defaults.json"

# What transformers knows as a part of a model that sees.
VISION = {"pixtral"}
# Numbers of features, heads, layers, experts and tokens, and which parts there are, by the names that architectures give them.
FIELDS = {
    "attention_bias",
    "block_auto_adjust_ff_dim",
    "conv_kernel",
    "d_model",
    "expert_ffn_hidden_size",
    "ffn_dim",
    "ffn_hidden_size",
    "head_dim",
    "hidden_dim",
    "hidden_size",
    "index_n_heads",
    "intermediate_size",
    "intermediate_size_mlp",
    "kv_lora_rank",
    "linear_conv_kernel_dim",
    "linear_key_head_dim",
    "linear_num_key_heads",
    "linear_num_value_heads",
    "linear_value_head_dim",
    "mamba_d_conv",
    "mamba_d_head",
    "mamba_d_state",
    "mamba_head_dim",
    "mamba_n_groups",
    "mamba_n_heads",
    "mamba_num_heads",
    "moe_intermediate_size",
    "moe_k",
    "moe_num_experts",
    "moe_shared_expert_intermediate_size",
    "moe_topk",
    "n_embd",
    "n_groups",
    "n_head",
    "n_heads",
    "n_layer",
    "n_layers",
    "n_routed_experts",
    "n_shared_experts",
    "num_attention_heads",
    "num_experts",
    "num_experts_per_tok",
    "num_experts_per_token",
    "num_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "num_kv_heads",
    "num_layers",
    "num_local_experts",
    "num_shared_experts",
    "num_transformer_layers",
    "num_vocab",
    "q_lora_rank",
    "qk_nope_head_dim",
    "qk_rope_head_dim",
    "shared_expert_intermediate_size",
    "shared_intermediate_size",
    "share_expert_dim",
    "ssm_state_size",
    "state_size",
    "use_conv_bias",
    "v_head_dim",
    "vocab_size",
}
# Rotations that are extended count from it. transformers' own goes first: mlx-lm has numbers of its own, or none.
POSITIONS = "max_position_embeddings"


def of_transformers(model_type: str) -> dict | None:
    """The defaults of the class that reads the language model's configuration."""
    for name in (f"{model_type}_text", model_type):
        try:
            found = CONFIG_MAPPING[name]
        except KeyError:
            continue
        found = (getattr(found, "sub_configs", None) or {}).get("text_config", found)
        parameters = inspect.signature(found.__init__).parameters.values()
        return {it.name: it.default for it in parameters}
    return None


def of_mlx(model_type: str) -> dict:
    try:
        module = importlib.import_module(f"mlx_lm.models.{model_type}")
    # A module may end the program where a package of its own is missing.
    except (ImportError, SystemExit):
        return {}
    arguments = next((getattr(module, it) for it in ("TextArgs", "TextConfig", "TextModelArgs", "ModelArgs") if hasattr(module, it)), None)
    return {it.name: it.default for it in dataclasses.fields(arguments)} if arguments else {}


def found(model_type: str) -> dict[str, int]:
    theirs, ours = of_transformers(model_type) or {}, of_mlx(model_type)
    # What mlx-lm reads as the absence of a part (null or 0), or derives of other fields, is left to the architecture.
    both = {**theirs, **{name: value for name, value in ours.items() if value is not dataclasses.MISSING}}
    positions = {POSITIONS: theirs.get(POSITIONS) or both.get(POSITIONS)}
    kept = {name: value for name, value in sorted((both | positions).items()) if name in FIELDS | {POSITIONS}}
    return {name: value for name, value in kept.items() if isinstance(value, int) and value}


def make(_: Path) -> None:
    documented = re.findall(r"^\| \S+ \| (`.*?`) \|", (ROOT / "docs/models.md").read_text(), re.MULTILINE)
    model_types = {name for names in documented for name in re.findall(r"`(.+?)`", names)}
    fields = {model_type: found(model_type) for model_type in sorted(model_types - VISION)}
    lines = [f"{json.dumps(model_type)}: {json.dumps(defaults)}" for model_type, defaults in fields.items() if defaults]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
