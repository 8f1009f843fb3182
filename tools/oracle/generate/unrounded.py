"""`mlx.core` for models that round activations to a type of their own, whatever that of the weights: the oracle computes in float32."""

import mlx.core as mx


class Unrounded:
    """`mlx.core` in which the types of 16 bits are float32."""

    def __getattr__(self, name):
        return mx.float32 if name in ("bfloat16", "float16") else getattr(mx, name)
