// Arrays over memory that is not MLX's own: what the Rust side (src/mlx/mapped.rs) sees.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "mlx/c/array.h"

extern "C" {

/// An array over memory that MLX's allocator did not give out, without a copy. Where MLX cannot
/// take it as it is, `made` becomes false and nothing else happens.
///
/// Of the memory the 8 bytes before `data` must be readable too. `release` is called once with
/// `payload` when MLX no longer needs the memory, also if this fails; not where `made` is false.
int nodemlx_mapped(
    mlx_array* array,
    bool* made,
    void* data,
    const int32_t* shape,
    size_t dims,
    mlx_dtype dtype,
    void* payload,
    void (*release)(void*));
}
