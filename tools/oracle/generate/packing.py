"""Packed layouts of published checkpoints: rounding to what they can store, and storing it without further loss."""

import numpy as np
import torch

# The values of the codes of float4 e2m1; those with the highest bit are negative.
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)
# Of mxfp4 and mxfp8.
MX_GROUP = 32
# The largest value of float8 e4m3.
E4M3_MAX = 448.0
FP8_BLOCK = 128


def mxfp4_parts(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes `[…, groups, 32]` and exponents `[…, groups]` of weights `[…, in]`.

    A group's largest value becomes 4 or 6 times its power of two, so that doing it again changes nothing.
    """
    groups = weights.reshape(*weights.shape[:-1], -1, MX_GROUP)
    exponents = np.floor(np.log2(np.abs(groups).max(-1))).astype(np.int32) - 2
    scaled = groups / np.exp2(exponents)[..., None]
    codes = np.abs(np.abs(scaled)[..., None] - E2M1).argmin(-1) + 8 * (scaled < 0)
    return codes.astype(np.uint8), exponents


def mxfp4_rounded(weights: np.ndarray) -> np.ndarray:
    codes, exponents = mxfp4_parts(weights)
    values = np.where(codes < 8, 1.0, -1.0) * E2M1[codes % 8] * np.exp2(exponents)[..., None]
    return values.reshape(weights.shape).astype(np.float32)


def mxfp4_packed(weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Blocks `[…, groups, 16]`, two codes to a byte with the first one low, and biased exponents `[…, groups]`, both uint8."""
    codes, exponents = mxfp4_parts(weights.float().numpy())
    blocks = codes[..., ::2] | codes[..., 1::2] << 4
    return torch.from_numpy(blocks), torch.from_numpy((exponents + 127).astype(np.uint8))


def mxfp8_parts(weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """float8 `[…, in]`, and the exponents `[…, groups]` of the powers of two by which each 32 of them are multiplied."""
    groups = weights.float().unflatten(-1, (-1, MX_GROUP))
    exponents = torch.ceil(torch.log2(groups.abs().amax(-1) / E4M3_MAX))
    return (groups / torch.exp2(exponents)[..., None]).flatten(-2).to(torch.float8_e4m3fn), exponents


def mxfp8_rounded(weights: np.ndarray) -> np.ndarray:
    packed, exponents = mxfp8_parts(torch.from_numpy(weights))
    values = packed.float().unflatten(-1, (-1, MX_GROUP)) * torch.exp2(exponents)[..., None]
    return values.flatten(-2).numpy()


def mxfp8_packed(weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """float8 `[…, in]`, and biased exponents `[…, groups]`, uint8."""
    packed, exponents = mxfp8_parts(weights)
    return packed, (exponents + 127).to(torch.uint8)


def fp8_blocks(weights: np.ndarray):
    """The blocks of 128 × 128 of weights `[out, in]`: their slices, and their scales with four significant bits.

    The product of such a scale and a float8 is a bfloat16, so that nothing is lost on the way.
    """
    for rows in range(0, weights.shape[0], FP8_BLOCK):
        for columns in range(0, weights.shape[1], FP8_BLOCK):
            where = (slice(rows, rows + FP8_BLOCK), slice(columns, columns + FP8_BLOCK))
            significand, exponent = np.frexp(np.abs(weights[where]).max() / np.float32(E4M3_MAX))
            yield where, np.float32(np.ldexp(np.ceil(significand * 16) / 16, exponent))


def fp8_rounded(weights: np.ndarray) -> np.ndarray:
    rounded = np.empty_like(weights)
    for where, scale in fp8_blocks(weights):
        block = torch.from_numpy(weights[where] / scale).to(torch.float8_e4m3fn).float().numpy()
        largest = np.unravel_index(np.abs(block).argmax(), block.shape)
        # The scale is found again from the largest value.
        block[largest] = np.copysign(E4M3_MAX, block[largest])
        rounded[where] = block * scale
    return rounded


def fp8_packed(weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """float8 `[out, in]` and the float32 that each block of 128 × 128 is multiplied by."""
    values = weights.float().numpy()
    packed = np.empty_like(values)
    scales = []
    for where, scale in fp8_blocks(values):
        packed[where] = values[where] / scale
        scales.append(scale)
    blocks = -(-values.shape[0] // FP8_BLOCK), -(-values.shape[1] // FP8_BLOCK)
    return torch.from_numpy(packed).to(torch.float8_e4m3fn), torch.from_numpy(np.array(scales).reshape(blocks))
