// A node of MLX's lazy graph whose work is done by a kernel of ours: what the Rust side
// (src/mlx/primitive.rs) sees.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "mlx/c/array.h"
#include "mlx/c/stream.h"
#include "mlx/c/vector.h"

extern "C" {

/// The memory of an input or output at the time the kernel runs.
struct nodemlx_view {
  void* data;
  const int32_t* shape;
  /// In elements.
  const int64_t* strides;
  size_t dims;
  mlx_dtype dtype;
  /// Whether the elements follow one another without gaps, the last axis fastest.
  bool contiguous;
};

/// A kernel, and what can be done with it.
struct nodemlx_kernel {
  void* self;
  const char* name;
  /// Writes all outputs; they are contiguous and do not overlap the inputs (but see `updated`).
  /// Returns 0, or another number after writing a message with its final NUL into `error`. Must not
  /// throw. Called on the stream's thread.
  int (*run)(
      void* self,
      const nodemlx_view* inputs,
      size_t input_count,
      const nodemlx_view* outputs,
      size_t output_count,
      char* error,
      size_t error_size);
  void (*drop)(void* self);
};

/// Adds `kernel` to the graph, on a stream of the CPU. It is owned from then on, also when this
/// fails; dropped when the last of the outputs and of the pending runs are gone. `shapes` are the
/// outputs' shapes, one after another. The first `updated` outputs have the shapes and types of as
/// many first inputs and begin with their elements: in the same memory if nobody else uses that,
/// which the kernel must then not read as an input.
int nodemlx_custom(
    mlx_vector_array* outputs,
    nodemlx_kernel kernel,
    const mlx_array* inputs,
    size_t input_count,
    const int32_t* shapes,
    const size_t* dims,
    const mlx_dtype* dtypes,
    size_t output_count,
    size_t updated,
    mlx_stream stream);
}
