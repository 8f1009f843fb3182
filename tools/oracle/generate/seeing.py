"""What a checkpoint that also sees images adds to that of its language model."""

import numpy as np
import torch


def tower(prefix: str):
    """Some tensors of a vision tower under `prefix`, which no language model uses."""

    def tensors(_: dict) -> dict[str, np.ndarray]:
        return {f"{prefix}blocks.0.attn.proj.weight": np.full((8, 8), 0.5, np.float16)}

    return tensors


def nested(tensors: dict[str, torch.Tensor], _: dict) -> dict[str, torch.Tensor]:
    """The language model as transformers 5 nests it: `model.language_model`, with the head outside."""
    return {
        name.replace("model.", "model.language_model.", 1) if not name.startswith("model.visual") else name: tensor
        for name, tensor in tensors.items()
    }


def wrapped(tensors: dict[str, torch.Tensor], _: dict) -> dict[str, torch.Tensor]:
    """The whole language model under `language_model`, beside the tower."""
    towers = ("vision_tower.", "multi_modal_projector.")
    return {name if name.startswith(towers) else f"language_model.{name}": tensor for name, tensor in tensors.items()}
