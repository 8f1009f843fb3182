"""Writes a trained model as a 4-bit checkpoint in the layout that mlx-lm saves.

    python export.py weights/demo.safetensors demo ../../models/demo
"""

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from model import SIZES, Config, Qwen3
from quantize import packed


def checkpoint(model: Qwen3) -> dict[str, torch.Tensor]:
    """The tensors of model.safetensors: matrices packed, norms in bfloat16, no head of its own (it is tied)."""
    tensors = {}
    for name, p in model.state_dict().items():
        if p.ndim == 2:
            tensors |= {name.removesuffix("weight") + part: t.contiguous() for part, t in packed(p.detach().cpu(), model.c.group_size).items()}
        else:
            tensors[name] = p.detach().cpu().bfloat16().contiguous()
    return tensors


def write(model: Qwen3, folder: Path):
    """config.json, generation_config.json and model.safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(checkpoint(model), str(folder / "model.safetensors"), metadata={"format": "mlx"})
    (folder / "model.safetensors").chmod(0o644)
    (folder / "config.json").write_text(json.dumps(model.c.to_json(), indent=2) + "\n")
    generation = {"bos_token_id": None, "eos_token_id": [2, 0], "pad_token_id": 0, "do_sample": True, "temperature": 0.3, "top_p": 0.9}
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")


def load(weights: Path, config: Config) -> Qwen3:
    """A model from the float32 weights that training wrote."""
    model = Qwen3(config)
    model.load_state_dict(load_file(str(weights)))
    return model


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("size", choices=SIZES)
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    write(load(args.weights, SIZES[args.size]), args.folder)
