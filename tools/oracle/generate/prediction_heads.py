"""Checkpoints with a head that predicts the token after the next, and what transformers' `MtpLayer` computes with it.

A fixture is a published checkpoint of one layer more, whose last one becomes the head's. Of those for whose heads transformers has no
names, the formula and the names are vLLM's (`mimo_mtp.py`, `mimo_v2_mtp.py`, `qwen3_next_mtp.py`, `exaone_moe_mtp.py`, `hy_v3_mtp.py`,
`nemotron_h_mtp.py`, and Ling 2.5's).
"""

import copy
import importlib
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers.modeling_layers import MtpLayer

from architectures.bailing_moe_v3 import delta_names

from . import seeded
from .checkpoints import NOT_ARGUMENTS, drawn, read_config, write_raw
from .declaration import Fixture, merged
from .writing import write_json

LENGTH = 24
KEPT_LOGITS = 16
DRAFTED = 4
# The two best logits of a drafted token are at least this far apart, relative to the logits' spread.
MARGIN = 2e-2
FILE = "model.safetensors"


@dataclass
class Head:
    """Where a family has the parts of its head; `{layers}` stands for the number of layers."""

    architecture: str
    # The layer in the checkpoint of one layer more, and in the published one; `{number}` is that of several.
    layers: str
    layer: str
    # The norms of the embedding and of the hidden state, the projection, and the norm behind the layer.
    parts: tuple[str, str, str, str]
    # What norms start as.
    start: float = 1.0
    hidden_first: bool = False
    # What differs in the configuration, and in that of one layer more.
    config: dict = field(default_factory=dict)
    longer: dict = field(default_factory=dict)
    # The names of the layer's parts, where they are others than those of a layer.
    names: dict[str, str] = field(default_factory=dict)
    # As those of a fixture.
    published: Callable | None = None
    # How many layers the head has.
    count: int = 1
    # The number of layers, where the one behind those of the architecture's fixtures would be of another kind.
    number: int | None = None


class Layers(torch.nn.Module):
    """Layers one behind the other, whose output is the hidden state alone: GLM 5's also says where it has looked."""

    def __init__(self, layers: torch.nn.ModuleList) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, state: torch.Tensor, **kwargs) -> torch.Tensor:
        for layer in self.layers:
            output = layer(state, **kwargs)
            state = output[0] if isinstance(output, tuple) else output
        return state


LAYER = "model.layers.{layers}."
QWEN_PARTS = ("mtp.pre_fc_norm_embedding", "mtp.pre_fc_norm_hidden", "mtp.fc", "mtp.norm")


def next_layer(architecture: str, norm: str = "shared_head.norm", **fields) -> Head:
    """As DeepSeek V3 has it: a layer behind the last one."""
    parts = tuple(f"{LAYER}{part}" for part in ("enorm", "hnorm", "eh_proj", norm))
    return Head(architecture, LAYER, LAYER, parts, **fields)


def qwen(architecture: str, layers: str) -> Head:
    return Head(architecture, layers, "mtp.layers.0.", QWEN_PARTS, start=0.0, number=3)


HEADS = {
    "deepseek-v3": next_layer("deepseek_v3"),
    "deepseek-v32": next_layer("deepseek_v32"),
    "glm4-moe": next_layer("glm4_moe"),
    "glm4-moe-lite": next_layer("glm4_moe_lite"),
    "glm-moe-dsa": next_layer("glm_moe_dsa"),
    "hy-v3": next_layer("hy_v3", "final_layernorm"),
    "bailing-moe-v3": next_layer("bailing_moe_v3", "final_layernorm", number=3, published=delta_names),
    "mellum": Head(
        "mellum",
        LAYER,
        "mtp.layers.0.",
        QWEN_PARTS,
        longer={"layer_types": ["sliding_attention", "full_attention", "sliding_attention"]},
    ),
    "exaone-moe": Head(
        "exaone_moe",
        LAYER,
        "mtp.layers.0.",
        QWEN_PARTS,
        config={"mlp_layer_types": ["dense", *["sparse"] * 3]},
        longer={
            "layer_types": [*["sliding_attention", "full_attention"] * 2, "full_attention"],
            "mlp_layer_types": ["dense", *["sparse"] * 3, "dense"],
        },
    ),
    "exaone-moe-window": Head(
        "exaone_moe",
        LAYER,
        "mtp.layers.0.",
        QWEN_PARTS,
        config={
            "mlp_layer_types": ["dense", *["sparse"] * 3],
            "mtp_layer_types": ["sliding_attention"],
            "mtp_sliding_windows": [8],
        },
        longer={
            "layer_types": [*["sliding_attention", "full_attention"] * 2, "sliding_attention"],
            "mlp_layer_types": ["dense", *["sparse"] * 3, "dense"],
        },
    ),
    "nemotron-h": Head(
        "nemotron_h",
        "backbone.layers.{layers}.",
        "mtp.layers.{number}.",
        ("mtp.layers.0.enorm", "mtp.layers.0.hnorm", "mtp.layers.0.eh_proj", "mtp.layers.1.final_layernorm"),
        config={"mtp_hybrid_override_pattern": "*E", "num_nextn_predict_layers": 1},
        longer={"hybrid_override_pattern": "M*-E*E"},
        count=2,
    ),
    "qwen3-next": qwen("qwen3_next", LAYER),
    "qwen3-5": qwen("qwen3_5", "model.language_model.layers.{layers}."),
    "qwen3-5-moe": qwen("qwen3_5_moe", "model.language_model.layers.{layers}."),
    "mimo": Head(
        "mimo",
        LAYER,
        "model.mtp_layers.0.",
        tuple(
            f"model.mtp_layers.0.{part}"
            for part in ("token_layernorm", "hidden_layernorm", "input_proj", "final_layernorm")
        ),
        hidden_first=True,
    ),
    "mimo-v2-flash": Head(
        "mimo_v2_flash",
        LAYER,
        "model.mtp.layers.0.",
        tuple(f"model.mtp.layers.0.{part}" for part in ("enorm", "hnorm", "eh_proj", "final_layernorm")),
        config={"sliding_window_size": 8},
        longer={"hybrid_layer_pattern": [0, 1, 1, 1], "moe_layer_freq": [0, 1, 1, 0]},
        names={"post_attention_layernorm": "pre_mlp_layernorm"},
    ),
}


def renamed(
    tensors: dict[str, torch.Tensor], old: list[str], new: list[str], names: dict[str, str]
) -> dict[str, torch.Tensor]:
    """The tensors of layers below other names, their parts called otherwise."""

    def of_layer(name: str) -> str:
        for before, after in zip(old, new):
            if name.startswith(before):
                part, _, rest = name.removeprefix(before).partition(".")
                return f"{after}{names.get(part, part)}.{rest}"
        return name

    return {of_layer(name): tensor for name, tensor in tensors.items()}


def text_part(config: dict) -> dict:
    return config.get("text_config", config)


def make_head(name: str, head: Head, out: Path, folder: Path) -> None:
    """Makes a fixture in `folder`; `out` is the path of its files without an ending."""
    architecture = importlib.import_module(f"architectures.{head.architecture}").ARCHITECTURE
    plain = merged(architecture, Fixture(name, "raw", config=head.config))
    layers = head.number or text_part(plain)["num_hidden_layers"]
    text_part(plain)["num_hidden_layers"] = layers
    old, new = (
        [prefix.format(layers=layers + number, number=number) for number in range(head.count)]
        for prefix in (head.layers, head.layer)
    )
    parts = [part.format(layers=layers) for part in head.parts]
    longer = {**copy.deepcopy(plain), **head.longer}
    text_part(longer)["num_hidden_layers"] = layers + head.count
    size = text_part(plain)["hidden_size"]
    with tempfile.TemporaryDirectory() as temporary:
        whole = Path(temporary)
        write_raw(architecture, Fixture(name, "raw", config=longer, published=head.published), whole, 0)
        tensors = renamed(load_file(whole / FILE), old, new, head.names)
        dtype = next(iter(tensors.values())).dtype
        for part in parts:
            shape = (size, 2 * size) if part == parts[2] else (size,)
            start = torch.full(shape, head.start).numpy()
            value = torch.from_numpy(drawn(f"{part}.norm.weight", shape, start, architecture))
            tensors[f"{part}.weight"] = value.to(dtype)
        save_file(tensors, folder / FILE, metadata={"format": "pt"})
        rules = seeded.redraw(folder, 0)
        tensors = load_file(folder / FILE)
        own = {part: tensors.pop(f"{part}.weight").float() for part in parts}
        back = {new_name: old_name for old_name, new_name in head.names.items()}
        save_file(renamed(tensors, new, old, back), whole / FILE, metadata={"format": "pt"})
        config_class, model_class = (getattr(transformers, it) for it in architecture.transformers)
        # Not that of the folder, which transformers does not read of all as it is published.
        arguments = architecture.transformers_arguments(longer)
        own_config = config_class(**{k: v for k, v in arguments.items() if k not in NOT_ARGUMENTS})
        options = {"config": own_config, "dtype": torch.float32, "attn_implementation": "eager"}
        model = model_class.from_pretrained(whole, **options).eval()
        published = {**read_config(whole), **plain}
    write_json(folder / "config.json", published, infinite=True)
    save_file(golden(model, layers, own, parts, head), folder / seeded.GOLDEN)
    seeded.store(folder, out, rules, 0)


@torch.no_grad()
def golden(model, layers: int, own: dict[str, torch.Tensor], parts: list[str], head: Head) -> dict[str, torch.Tensor]:
    """What the head computes behind each token of a text, and behind those that it then drafts."""
    decoder = model.get_decoder()
    embedding = decoder.get_input_embeddings()
    config = copy.deepcopy(decoder.config)
    config.mtp_hidden_states_first = head.hidden_first
    if not hasattr(config, "rms_norm_eps"):
        config.rms_norm_eps = config.layer_norm_epsilon
    norm = decoder.norm if hasattr(decoder, "norm") else decoder.norm_f
    layer = MtpLayer(config, type(decoder.layers[layers]), type(norm), layers).eval()
    layer.mtp_block = Layers(decoder.layers[layers:])
    for module, part in zip((layer.enorm, layer.hnorm, layer.eh_proj, layer.post_norm), parts):
        module.weight.copy_(own[part])
    decoder.layers = decoder.layers[:layers]
    if head.count == 1:
        decoder.config.num_hidden_layers = layers
    vocabulary = embedding.num_embeddings
    for seed in range(100):
        tokens = torch.randint(0, vocabulary, (1, LENGTH), generator=torch.Generator().manual_seed(seed))
        states = decoder(tokens, use_cache=False).last_hidden_state[:, :-1]
        behind, drafted, logits, margins = tokens[:, 1:], [], [], []
        for _ in range(DRAFTED):
            length = behind.shape[1]
            embedded, positions = embedding(behind), torch.arange(length)[None]
            mask = torch.full((length, length), torch.finfo(torch.float32).min).triu(1)
            kinds, of_layer = getattr(config, "layer_types", None), {}
            rotary = getattr(decoder, "rotary_emb", None)
            if kinds and kinds[layers] == "sliding_attention":
                mask += torch.full_like(mask, torch.finfo(torch.float32).min).tril(-config.sliding_window)
                of_layer = {"layer_type": kinds[layers]} if isinstance(rotary.rope_type, dict) else {}
            output = layer(
                embedded,
                states,
                position_embeddings=rotary and rotary(embedded, position_ids=positions, **of_layer),
                attention_mask=mask[None, None],
                position_ids=positions,
                past_key_values=None,
            )
            logits.append(model.lm_head(output)[0])
            best = logits[-1][-1].topk(2).values
            margins.append(float((best[0] - best[1]) / logits[-1][-1].std()))
            drafted.append(int(logits[-1][-1].argmax()))
            behind = torch.cat([behind, torch.tensor([[drafted[-1]]])], 1)
            states = torch.cat([states, output[:, -1:]], 1)
        if min(margins) > MARGIN:
            break
    else:
        raise ValueError("every text has a drafted token that is nearly a tie")
    return {
        "tokens": tokens[0].int(),
        "logits": logits[0][-KEPT_LOGITS:].contiguous(),
        "drafted": torch.tensor(drafted, dtype=torch.int32),
        "drafted_logits": torch.stack([of_token[-1] for of_token in logits]),
    }


def make(out: Path) -> None:
    root = out / "prediction-heads"
    shutil.rmtree(root, ignore_errors=True)
    for name, head in HEADS.items():
        with tempfile.TemporaryDirectory() as folder:
            make_head(name, head, root / name, Path(folder))
