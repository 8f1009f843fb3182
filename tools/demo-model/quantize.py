"""MLX's affine quantization: groups along a row, w ≈ scale · q + bias with q of 4 bits.

The rule is MLX's (`mx.quantize`, mode "affine"): the group's end that lies farther from zero is hit exactly, and zero stays zero
where the range allows it. Scale and bias are rounded to bfloat16 before the numbers q are chosen, since that is how they are stored;
so training that looks through `dequantized` weights sees the values that the checkpoint holds.
"""

import torch

BITS = 4
LEVELS = 2**BITS - 1


def affine(w: torch.Tensor, group_size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The numbers q, scales and biases of a matrix `[rows, columns]`: `[rows, groups, group_size]` and twice `[rows, groups, 1]`."""
    g = w.float().unflatten(-1, (-1, group_size))
    low, high = g.amin(-1, keepdim=True), g.amax(-1, keepdim=True)
    low_is_edge = low.abs() > high.abs()
    scale = ((high - low) / LEVELS).clamp_min(1e-7)
    scale = torch.where(low_is_edge, scale, -scale)
    edge = torch.where(low_is_edge, low, high)
    steps = torch.round(edge / scale)
    at_zero = steps == 0
    scale = torch.where(at_zero, scale, edge / torch.where(at_zero, torch.ones_like(steps), steps))
    bias = torch.where(at_zero, torch.zeros_like(edge), edge)
    scale, bias = scale.bfloat16().float(), bias.bfloat16().float()
    q = torch.round((g - bias) / scale).clamp(0, LEVELS)
    return q, scale, bias


def dequantized(w: torch.Tensor, group_size: int) -> torch.Tensor:
    """What 4 bits leave of a matrix."""
    q, scale, bias = affine(w, group_size)
    return (q * scale + bias).flatten(-2)


def packed(w: torch.Tensor, group_size: int) -> dict[str, torch.Tensor]:
    """The three tensors of a checkpoint: eight numbers of 4 bits in a uint32, the first in the lowest bits."""
    q, scale, bias = affine(w, group_size)
    numbers = q.to(torch.int64).reshape(w.shape[0], -1, 32 // BITS)
    words = (numbers << (torch.arange(32 // BITS) * BITS)).sum(-1)
    return {"weight": words.to(torch.uint32), "scales": scale.squeeze(-1).bfloat16(), "biases": bias.squeeze(-1).bfloat16()}


def unpacked(tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    """The float32 matrix that `packed` tensors stand for."""
    words = tensors["weight"].to(torch.int64)
    numbers = (words[..., None] >> (torch.arange(32 // BITS) * BITS)) & LEVELS
    scales, biases = tensors["scales"].float()[..., None], tensors["biases"].float()[..., None]
    q = numbers.flatten(-2).unflatten(-1, (scales.shape[-2], -1)).float()
    return (q * scales + biases).flatten(-2)
