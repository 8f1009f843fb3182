// Kernels of ours on an NVIDIA card, as nodes of MLX's graph: what the Rust side (src/mlx/gpu.rs)
// sees.
//
// Nothing here needs CUDA to be linked: NVRTC and the driver are those that MLX's CUDA library has
// loaded, and are looked up when they are used.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "mlx/c/array.h"
#include "mlx/c/stream.h"
#include "mlx/c/vector.h"

extern "C" {

/// What the kernels' settings depend on.
struct nodemlx_gpu_card {
  /// The compute capability.
  int major;
  int minor;
  int processors;
  /// Bytes of shared memory that a block may have, and that a processor has.
  int shared_per_block;
  int shared_per_processor;
};

/// The card that MLX uses. Fails where there is none of NVIDIA, or no compiler for it.
int nodemlx_gpu_card_of_mlx(nodemlx_gpu_card* card);

/// The compiler's version.
int nodemlx_gpu_compiler(int* major, int* minor);

/// Compiles CUDA source with options of NVRTC. The image is to be given back with
/// `nodemlx_gpu_free`.
int nodemlx_gpu_compile(
    const char* source,
    const char* const* options,
    size_t option_count,
    void** image,
    size_t* image_size
);
void nodemlx_gpu_free(void* image);

/// A kernel of an image.
struct nodemlx_gpu_kernel;

/// The image's kernel `name`, which no other image may use; with an empty image the one that MLX
/// finds by that name in its folder. Blocks have so many threads and so many bytes of dynamic
/// shared memory.
int nodemlx_gpu_kernel_new(
    nodemlx_gpu_kernel** kernel,
    const char* name,
    const void* image,
    size_t image_size,
    int threads,
    int shared_memory
);
void nodemlx_gpu_kernel_free(nodemlx_gpu_kernel* kernel);

/// An argument that is a number.
struct nodemlx_gpu_number {
  /// Whether it is `real`.
  bool is_real;
  int32_t whole;
  float real;
};

/// Whether `array` is computed, or will be by what has been handed to the device.
bool nodemlx_gpu_is_scheduled(mlx_array array);

/// Where `array` lies in the card's memory, if it is scheduled and contiguous and nobody else has
/// it, so that a kernel may write it where it lies; else 0. Good until it is read by the host.
uint64_t nodemlx_gpu_own_address(mlx_array array);

/// Whether both are the same array.
bool nodemlx_gpu_is_same(mlx_array one, mlx_array other);

/// The array of which `array` will be a slice along the last axis alone, and where that begins;
/// false, and nothing in `whole`, for any other array.
bool nodemlx_gpu_columns(mlx_array* whole, int* first, mlx_array array);

/// Adds a launch to the graph. The kernel's arguments are the inputs, the outputs and the numbers;
/// inputs that are not contiguous are copied first. `shapes` are the outputs' shapes, one after
/// another.
int nodemlx_gpu_run(
    mlx_vector_array* outputs,
    nodemlx_gpu_kernel* kernel,
    int blocks,
    const mlx_array* inputs,
    size_t input_count,
    const int32_t* shapes,
    const size_t* dims,
    const mlx_dtype* dtypes,
    size_t output_count,
    const nodemlx_gpu_number* numbers,
    size_t number_count,
    mlx_stream stream
);
}
