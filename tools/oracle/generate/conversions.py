"""What `mlx_lm.convert` makes of the model fixtures: a digest of every tensor, and the configuration's formats."""

import importlib
import json
import tempfile
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten
from mlx_lm.utils import load_model, save_config, save_model

from . import seeded
from .checkpoints import versions
from .writing import write_json

# The module: the package exports its function under the same name.
convert = importlib.import_module("mlx_lm.convert")

# Arguments of `mlx_lm.convert.convert` by the name of a way to convert.
WAYS = {
    "plain": {},
    "float16": {"dtype": "float16"},
    "4bit": {"quantize": True, "q_bits": 4, "q_group_size": 32},
    "3bit": {"quantize": True, "q_bits": 3, "q_group_size": 32},
    "8bit": {"quantize": True, "q_bits": 8, "q_group_size": 64},
    "mxfp4": {"quantize": True, "q_mode": "mxfp4"},
    "mxfp8": {"quantize": True, "q_mode": "mxfp8"},
    "nvfp4": {"quantize": True, "q_mode": "nvfp4"},
    "dequantized": {"dequantize": True},
    # Of what "dequantized" gives.
    "again": {"quantize": True, "q_bits": 4, "q_group_size": 32},
    **{
        recipe: {"quantize": True, "q_group_size": 32, "quant_predicate": recipe}
        for recipe in convert.QUANT_RECIPES
    },
}
# Checkpoints that are converted in more ways than those of all.
PACKED = ("bit", "mxfp4", "mxfp8", "nvfp4", "mixed")
EXAMPLES = ["llama-raw", "qwen3-moe-raw", "deepseek-v3-raw", "gemma3-raw", "llama-raw-shards"]
# mlx-lm leaves the matrices of single heads packed and takes their format off the configuration, and leaves the factors of experts out.
NOT_DEQUANTIZED = [
    "deepseek-v3-4bit",
    "deepseek-v3-mxfp4",
    "deepseek-v32-4bit",
    "glm4-moe-lite-4bit",
    "kimi-k3-4bit",
    "kimi-linear-4bit",
    "longcat-flash-4bit",
    "longcat-flash-ngram-4bit",
    "mistral4-4bit",
    "qwen3-moe-nvfp4",
]
# Fixtures in mlx-lm's layout of architectures that have no other.
UNPUBLISHED = ["kimi-k25", "kimi-vl", "minimax", "prism-hadamard-qwen35", "prism-hadamard-qwen35-tied"]
# Factors that belong to biases, too, are left out of these.
WRONG = ["falcon-h1-raw-groups"]
# mlx-lm keeps them and takes their configuration away.
UNUSED = "model.vision_"
TYPES = {mx.uint32: "U32", mx.uint8: "U8", mx.float32: "F32", mx.float16: "F16", mx.bfloat16: "BF16"}


# What mlx-lm says of recipes for models without MLPs, of routers in groups of 64, and of AFM 7's layers, which know no modes.
REFUSED = [
    "expected keys for mixed quant",
    "needs to be divisible by the quantization group size",
    "to_quantized() got an unexpected keyword argument 'mode'",
]


class NotRead(Exception):
    """mlx-lm does not read the layout."""


def ways(fixture: str) -> list[str]:
    if fixture in WRONG:
        return []
    if fixture in EXAMPLES:
        return [way for way in WAYS if way not in ("dequantized", "again")]
    if "-raw" in fixture:
        return ["plain", "4bit"]
    if fixture in NOT_DEQUANTIZED:
        return ["8bit"]
    if fixture in UNPUBLISHED:
        return ["plain", "4bit"]
    return ["dequantized", "again", "8bit"] if fixture.endswith(PACKED) else []


def mixed(data: np.ndarray) -> int:
    """Σ mix(word + (i + 1) · 0x9e3779b97f4a7c15) modulo 2⁶⁴ over the words of 64 bits, mix as in `seeded`; what is missing of the last is zero."""
    data = np.concatenate([data, np.zeros(-len(data) % 8, np.uint8)]).view(np.uint64)
    with np.errstate(over="ignore"):
        z = data + np.arange(1, len(data) + 1, dtype=np.uint64) * seeded.GOLDEN_RATIO
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return int((z ^ (z >> np.uint64(31))).sum(dtype=np.uint64))


def described(name: str, tensor: mx.array) -> str:
    """A line of a tensor: its name, type, shape and the digest of its bytes."""
    data = np.array(mx.contiguous(tensor).reshape(-1).view(mx.uint8)) if tensor.size else np.zeros(0, np.uint8)
    return f"{name} {TYPES[tensor.dtype]} {'x'.join(map(str, tensor.shape))} {mixed(data):016x}"


def saved(folder: Path, way: str) -> tuple[nn.Module, dict]:
    """The model and the configuration that `mlx_lm.convert` would write."""
    saved = {}

    def save(_path, _source, model, _tokenizer, config):
        saved.update(model=model, config=config)

    def load(path, **_):
        try:
            model, config = load_model(Path(path), lazy=True)
        except (AttributeError, KeyError, SystemExit, TypeError, ValueError) as error:
            raise NotRead from error
        return model, None, config

    convert.load, convert.save = load, save
    convert.convert(str(folder), str(folder / "no-such-folder"), **WAYS[way])
    return saved["model"], saved["config"]


def converted(folder: Path, way: str) -> list[str]:
    """A line for each tensor, and last what the configuration says of their formats."""
    if way == "again":
        model, config = saved(folder, "dequantized")
        folder = folder.with_name("dequantized")
        save_model(folder, model)
        save_config(config, folder / "config.json")
    model, config = saved(folder, way)
    tensors = [(name, tensor) for name, tensor in tree_flatten(model.parameters()) if not name.startswith(UNUSED)]
    lines = sorted(described(name, tensor) for name, tensor in tensors)
    quantization = config.get("quantization")
    for entry in (quantization or {}).values():
        if isinstance(entry, dict):
            # What MLX takes where none is given.
            entry.setdefault("group_size", 64)
    return [*lines, json.dumps(quantization, sort_keys=True, separators=(",", ":"))]


def make(out: Path) -> None:
    """Writes `conversions.json` for the fixtures under `out`."""
    mx.set_default_device(mx.cpu)
    cases = {}
    for fixture in (out / "models" / name for name in seeded.names(out / "models")):
        for way in ways(fixture.name):
            with tempfile.TemporaryDirectory() as folder:
                try:
                    lines = converted(seeded.materialize(fixture, Path(folder) / "source"), way)
                except NotRead:
                    continue
                except (TypeError, ValueError) as error:
                    if not any(reason in str(error) for reason in REFUSED):
                        raise
                    continue
            text = "\n".join(lines).encode()
            cases.setdefault(fixture.name, {})[way] = f"{mixed(np.frombuffer(text, np.uint8)):016x}"
    write_json(out / "conversions.json", {"versions": versions(), "cases": cases})
