"""One module per kind of fixture, each with `make(out)`. Everything is computed on the CPU."""

import mlx.core as mx

mx.set_default_device(mx.cpu)
