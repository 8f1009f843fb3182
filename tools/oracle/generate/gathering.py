"""Experts on the CPU.

Quantized ones: mlx-lm 0.32.2 hands every call of `mx.gather_qmm` an argument that MLX 0.32.2 does not know.

With it no model with quantized experts runs at all, so the oracle adds the argument as MLX documents it for `mx.dequantize`.
Others: MLX multiplies them in float32 alone.
"""

import mlx.core as mx

# The largest values of the scales' type (float8 e4m3) and of the elements (float4 e2m1).
NVFP4_RANGE = 448 * 6

gather_mm = mx.gather_mm
gather_qmm = mx.gather_qmm


def in_float32(a, b, **indices):
    """`gather_mm` whose result alone is rounded."""
    return gather_mm(a.astype(mx.float32), b.astype(mx.float32), **indices).astype(a.dtype)


def with_global_scale(*arguments, rhs_indices, global_scale=None, **options):
    """`gather_qmm` with a scale per expert, `[experts]` float32, that multiplies what the expert gives."""
    product = gather_qmm(*arguments, rhs_indices=rhs_indices, **options)
    if global_scale is None:
        return product
    return product * (global_scale / NVFP4_RANGE)[rhs_indices][..., None, None]


def install() -> None:
    mx.gather_mm = in_float32
    mx.gather_qmm = with_global_scale
