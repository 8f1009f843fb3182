"""Adapters as mlx-lm and PEFT write them, and what each computes with them."""

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import peft
import torch
from mlx.utils import tree_flatten
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.tuner.utils import linear_to_lora_layers, load_adapters
from mlx_lm.utils import load_model
from safetensors.numpy import save_file
from transformers import AutoModelForCausalLM

from . import gathering, seeded
from .checkpoints import versions
from .writing import write_json

LENGTH = 24
KEPT_LOGITS = 8

ATTENTION = [f"self_attn.{name}_proj" for name in "qkvo"]
# Of mlx-lm, by name: the fixture of the model, the kind, and what `lora_parameters` has beside a rank of 4 and no dropout.
MLX_LM = {
    "lora": ("llama", "lora", {"scale": 3.0, "keys": ["self_attn.q_proj", "self_attn.v_proj", "mlp.down_proj"]}),
    "lora-packed": ("llama-4bit-tied", "lora", {"scale": 2.0, "keys": None}),
    "lora-tied-table": ("llama-4bit-tied", "lora", {"scale": 2.0, "keys": ["model.embed_tokens", "self_attn.o_proj"]}),
    "lora-experts": ("qwen3-moe", "lora", {"scale": 2.0, "keys": None}),
    "lora-packed-experts": (
        "qwen3-moe-4bit",
        "lora",
        {"scale": 2.0, "keys": [f"mlp.switch_mlp.{name}_proj" for name in ("gate", "up", "down")]},
    ),
    "lora-reordered": (
        "qwen3-next",
        "lora",
        {"scale": 2.0, "keys": ["linear_attn.in_proj_qkvz", "linear_attn.in_proj_ba", "linear_attn.out_proj"]},
    ),
    "lora-latent": (
        "deepseek-v3",
        "lora",
        {"scale": 2.0, "keys": [f"self_attn.{name}" for name in ("q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "o_proj")]},
    ),
    "lora-parts": ("gemma3", "lora", {"scale": 2.0, "keys": ["self_attn.q_proj", "mlp.up_proj"]}),
    "dora": ("qwen2", "dora", {"scale": 2.0, "keys": [*ATTENTION, "mlp.down_proj"]}),
    "dora-packed": ("llama-4bit-tied", "dora", {"scale": 2.0, "keys": ["self_attn.q_proj", "mlp.gate_proj"]}),
    "dora-reordered": ("qwen3-next", "dora", {"scale": 2.0, "keys": ["linear_attn.in_proj_qkvz"]}),
}
# Of PEFT: the fixture of the model, and arguments of `LoraConfig`.
PEFT = {
    "peft-lora": (
        "llama-raw",
        {
            "r": 4,
            "lora_alpha": 12,
            "target_modules": ["q_proj", "v_proj", "down_proj"],
            "rank_pattern": {"down_proj": 6},
            "alpha_pattern": {"layers.1.self_attn.v_proj": 20},
            "layers_to_transform": None,
            "modules_to_save": ["lm_head"],
        },
    ),
    "peft-layers": ("llama-raw", {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj"], "layers_to_transform": [1]}),
    "peft-rslora": ("qwen2-raw", {"r": 4, "lora_alpha": 6, "target_modules": "all-linear", "use_rslora": True}),
    "peft-dora": ("qwen2-raw", {"r": 4, "lora_alpha": 6, "target_modules": ["q_proj", "v_proj"], "use_dora": True}),
    "peft-fused": ("phi3-raw", {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"}),
    "peft-table": ("llama-raw", {"r": 4, "lora_alpha": 8, "target_modules": ["embed_tokens", "k_proj", "lm_head"]}),
}


def drawn(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers of a tensor that is trained: those of `seeded` around zero."""
    w = seeded.words(name, 1, int(np.prod(shape)))
    u = (w >> np.uint64(40)).astype(np.float64) * 2.0**-24
    return (u - 0.5).astype(np.float32).reshape(shape)


def prompt(vocabulary: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, vocabulary, LENGTH).astype(np.int32)


def mlx_logits(model: nn.Module, tokens: np.ndarray) -> np.ndarray:
    return np.array(model(mx.array(tokens[None]), cache=make_prompt_cache(model))[0])[-KEPT_LOGITS:]


def make_mlx_lm(folder: Path, models: Path, fixture: str, kind: str, parameters: dict) -> dict[str, np.ndarray]:
    """Writes an adapter of mlx-lm; gives the logits without it and with it."""
    with tempfile.TemporaryDirectory() as source:
        path = seeded.materialize(models / fixture, Path(source))
        model, config = load_model(path)
        model.set_dtype(mx.float32)
        tokens = prompt(config.get("text_config", config).get("vocab_size", 96))
        base = mlx_logits(model, tokens)
        parameters = {"rank": 4, "dropout": 0.0, **{key: value for key, value in parameters.items() if value is not None}}
        written = {"fine_tune_type": kind, "num_layers": len(model.layers), "lora_parameters": parameters}
        linear_to_lora_layers(model, written["num_layers"], parameters, use_dora=kind == "dora")
        trained = {
            name: drawn(name, tensor.shape) if not name.endswith(".m") else np.array(tensor) * (1.2 + drawn(name, tensor.shape))
            for name, tensor in tree_flatten(model.parameters())
            if name.rpartition(".")[2] in ("lora_a", "lora_b", "m")
        }
        save_file(trained, folder / "adapters.safetensors")
        write_json(folder / "adapter_config.json", written)
        model, _ = load_model(path)
        model.set_dtype(mx.float32)
        model = load_adapters(model, str(folder))
        return {"tokens": tokens, "base": base, "logits": mlx_logits(model, tokens)}


def make_peft(folder: Path, models: Path, fixture: str, arguments: dict) -> dict[str, np.ndarray]:
    """The same for PEFT."""
    with tempfile.TemporaryDirectory() as source:
        path = seeded.materialize(models / fixture, Path(source))
        load: Callable = lambda: AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="eager")
        model = load()
        tokens = prompt(model.config.vocab_size)

        def logits(model) -> np.ndarray:
            with torch.no_grad():
                return model(torch.tensor(tokens[None].astype(np.int64))).logits[0, -KEPT_LOGITS:].numpy()

        base = logits(model)
        arguments = {key: value for key, value in arguments.items() if value is not None}
        adapted = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", **arguments))
        with torch.no_grad():
            for name, parameter in adapted.named_parameters():
                if "lora_magnitude_vector" in name:
                    parameter.mul_(torch.from_numpy(1.2 + drawn(name, tuple(parameter.shape))))
                elif "lora_" in name or "modules_to_save" in name:
                    parameter.copy_(torch.from_numpy(drawn(name, tuple(parameter.shape))))
        adapted.save_pretrained(folder, save_embedding_layers=False)
        loaded = peft.PeftModel.from_pretrained(load(), folder).eval()
        (folder / "README.md").unlink(missing_ok=True)
        # Where the model was is no part of the adapter.
        config = json.loads((folder / "adapter_config.json").read_text()) | {"base_model_name_or_path": None}
        config["target_modules"] = sorted(config["target_modules"])
        write_json(folder / "adapter_config.json", config)
        return {"tokens": tokens, "base": base, "logits": logits(loaded)}


def make(out: Path) -> None:
    """Writes `adapters` beside the model fixtures under `out`."""
    mx.set_default_device(mx.cpu)
    gathering.install()
    adapters = out / "adapters"
    shutil.rmtree(adapters, ignore_errors=True)
    for cases, write in ((MLX_LM, make_mlx_lm), (PEFT, make_peft)):
        for name, (fixture, *arguments) in cases.items():
            folder = adapters / name
            folder.mkdir(parents=True)
            golden = write(folder, out / "models", fixture, *arguments)
            save_file(golden, folder / "golden.safetensors")
            write_json(folder / "golden.json", {"model": fixture, "versions": versions()})
