// What includes this depends on more of MLX than its documented interface: how it evaluates a
// graph, which references it keeps meanwhile, how it lays out what it allocates.
#pragma once

#include "mlx/version.h"

static_assert(
    MLX_VERSION_NUMERIC == 32002,
    "read MLX's eval_impl, allocators and CustomKernel again before going to another version");
