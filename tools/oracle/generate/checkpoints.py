"""Writes the tiny checkpoints that the declarations describe."""

import contextlib
import copy
import importlib.metadata
import json
import os
import zlib
from pathlib import Path

import mlx.core as mx
import numpy as np
import torch
import transformers
import transformers.utils.logging
from mlx.utils import tree_flatten, tree_map_with_path, tree_unflatten
from mlx_lm import utils as mlx_lm
from safetensors.torch import load_file, save_file

from . import seeded
from .declaration import Architecture, Fixture, merged
from .writing import write_json

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()


# Of a configuration: what its class knows by itself, and what would pack the weights anew.
NOT_ARGUMENTS = ("model_type", "quantization_config")


def drawn(name: str, shape: tuple[int, ...], start: np.ndarray, architecture: Architecture) -> np.ndarray:
    """Random values for a parameter, from a seed that only its name decides: `seeded.redraw` keeps their spread.

    Norms and biases are moved away from where they start, so that leaving one out shows. Matrices keep the size of what
    passes through them.
    """
    generator = np.random.default_rng(zlib.crc32(name.encode()))
    noise = generator.standard_normal(shape).astype(np.float32)
    if len(shape) < 2:
        # Norms start as all ones or all zeros; what starts at random would not be the same twice.
        value = 0.25 * noise + (start if np.ptp(start) == 0 else 0.0)
    else:
        value = noise * (1.6 / np.sqrt(shape[-1]))
    # Latent attention has matrices for each head that are named so too.
    if "embed" in name and len(shape) == 2:
        value = noise * 0.7
    return architecture.adjust(name, value.astype(np.float32))


def parameter(name: str, value: mx.array, architecture: Architecture) -> mx.array:
    """Random values for a parameter of mlx-lm; of packed ones, any bits."""
    if value.dtype == mx.uint32:
        generator = np.random.default_rng(zlib.crc32(name.encode()))
        return mx.array(generator.integers(0, 2**32, value.shape, dtype=np.uint32))
    return mx.array(drawn(name, value.shape, np.array(value.astype(mx.float32)), architecture))


def write_mlx(architecture: Architecture, fixture: Fixture, folder: Path, seed: int) -> tuple[None, dict]:
    """A checkpoint as mlx-lm saves it, quantized where the fixture says so. Returns the rules of its tensors."""
    config = merged(architecture, fixture)
    model_class, arguments_class = mlx_lm._get_classes(config)
    # A copy: some models write defaults into what they read.
    model = model_class(arguments_class.from_dict(copy.deepcopy(config)))
    parameters = [(name, parameter(name, value, architecture)) for name, value in tree_flatten(model.parameters())]
    model.update(tree_unflatten(parameters))
    dtype, casts = getattr(mx, fixture.dtype), getattr(model, "cast_predicate", lambda _: True)
    model.update(
        tree_map_with_path(
            lambda path, value: value.astype(dtype) if value.dtype != mx.uint32 and casts(path) else value,
            model.parameters(),
        )
    )
    if fixture.quantization:
        config = quantized(model, config, fixture)
    else:
        config["torch_dtype"] = fixture.dtype
    mlx_lm.save_model(folder, model)
    mlx_lm.save_config(config, folder / "config.json")
    return None, seeded.redraw(folder, seed)


def quantized(model, config: dict, fixture: Fixture) -> dict:
    """Quantizes in place and returns the configuration with its `quantization`.

    Layers that the fixture does not name are quantized as the model itself wishes it (8-bit routers).
    """
    wanted = copy.deepcopy(fixture.quantization)
    whole = {key: wanted[key] for key in ("group_size", "bits")}
    mode, global_scale = wanted.get("mode", "affine"), wanted.pop("global_scale", False)
    single = {path: entry for path, entry in wanted.items() if path not in ("group_size", "bits", "mode")}
    own = getattr(model, "quant_predicate", None) or (lambda *_: True)

    def predicate(path, module):
        return single.pop(path) if path in single else own(path, module)

    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        _, config = mlx_lm.quantize_model(
            model, config, **whole, mode=mode, global_scale=global_scale, quant_predicate=predicate
        )
    if single:
        raise ValueError(f"{fixture.name}: nothing to quantize at {', '.join(single)}")
    entries = {**wanted, **config["quantization"], **wanted}
    entries = {path: entry for path, entry in entries.items() if path not in fixture.undeclared}
    config["quantization"] = {"mode": mode, **entries}
    return config


def write_raw(architecture: Architecture, fixture: Fixture, folder: Path, seed: int):
    """A checkpoint as Hugging Face publishes it. Returns transformers' model in float32 with the values as stored, and the rules of
    the tensors. Without a class of transformers it is what mlx-lm saves under the names that `published` gives."""
    if architecture.transformers is None:
        other, rules = write_mlx(architecture, fixture, folder, seed)
        add_published(fixture, folder, read_config(folder))
        return other, rules
    config = merged(architecture, fixture)
    config_class, model_class = (getattr(transformers, name) for name in architecture.transformers)
    arguments = {k: v for k, v in architecture.transformers_arguments(config).items() if k not in NOT_ARGUMENTS}
    model = model_class(config_class(**arguments, attn_implementation=fixture.attention))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            start = parameter.float().numpy()
            value = drawn(name, tuple(parameter.shape), start, architecture)
            parameter.copy_(torch.from_numpy(fixture.adjust(name, value)))
        for name, buffer in model.named_buffers():
            if name.endswith(architecture.drawn_buffers):
                start = buffer.float().numpy()
                value = drawn(name, tuple(buffer.shape), start, architecture)
                buffer.copy_(torch.from_numpy(fixture.adjust(name, value)))
    model = model.to(getattr(torch, fixture.dtype)).eval()
    sharding = {"max_shard_size": fixture.shard_bytes} if fixture.shard_bytes else {}
    model.save_pretrained(folder, **sharding)
    (folder / "generation_config.json").unlink(missing_ok=True)
    rules = seeded.redraw(folder, seed, fixture.adjust)
    # Loaded anew: casting in place would round the rotary tables too.
    options = {"dtype": torch.float32, "attn_implementation": fixture.attention}
    loaded = model_class.from_pretrained(folder, **options).eval()
    if not fixture.nested_rope:
        published = {"architectures": [architecture.transformers[1]], **config, "torch_dtype": fixture.dtype}
        write_json(folder / "config.json", published, infinite=True)
    add_published(fixture, folder, config)
    return loaded, rules


def add_published(fixture: Fixture, folder: Path, config: dict) -> None:
    """Adds the tensors that no model uses, and names and packs all as they are published."""
    path = folder / "model.safetensors"
    if fixture.extra_tensors:
        extra = {name: torch.from_numpy(value) for name, value in fixture.extra_tensors(config).items()}
        save_file({**load_file(path), **extra}, path, metadata={"format": "pt"})
    if fixture.published:
        save_file(fixture.published(load_file(path), config), path, metadata={"format": "pt"})


def versions() -> dict:
    return {name: importlib.metadata.version(name) for name in ("mlx-lm", "mlx", "transformers")}


def read_config(folder: Path) -> dict:
    return json.loads((folder / "config.json").read_text())
