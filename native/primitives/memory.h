// Memory that there is not: what the Rust side (src/mlx/memory.rs) sees.
#pragma once

extern "C" {

/// Lets MLX's allocator for the CPU fail with an error where the system has no more memory. Once,
/// before anything is allocated.
void nodemlx_fail_without_memory();
}
