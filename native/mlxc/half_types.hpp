// Force-included into every file of mlx-c. On x86-64 mlx-c leaves its half-precision functions out,
// on arm64 it takes the compiler's own types; mlx-rs needs the functions everywhere. This stands in
// for mlx-c's `half.h` (hence its include guard) and uses MLX's types on both.
#pragma once
#define MLX_HALF_H
#define HAS_FLOAT16
#define HAS_BFLOAT16
#include "format_shim.hpp"
#include "mlx/types/half_types.h"

using float16_t = mlx::core::float16_t;
using bfloat16_t = mlx::core::bfloat16_t;
