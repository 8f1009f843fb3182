#include "mapped.h"

#include <cstring>
#include <memory>

#include "mlx/allocator.h"
#include "mlx/array.h"
#include "mlx/c/error.h"
#include "mlx/c/private/mlx.h"

#include "mlx_version.h"

namespace mx = mlx::core;

namespace {

constexpr size_t header = sizeof(size_t);

/// Whether MLX's allocator is the one for the CPU: a buffer is a pointer to its size, which the
/// memory follows.
///
/// With a mapping there is no size, but whatever lies there. MLX asks for the size of a buffer that
/// it did not allocate only before it uses the memory of an input for an output of the same layout,
/// to see whether that would waste memory; any answer is good.
bool size_precedes_memory() {
  constexpr size_t size = 4096;
  auto buffer = mx::allocator::malloc(size);
  auto start = static_cast<char*>(buffer.ptr());
  auto found = size_t{0};
  auto adjacent = start && buffer.raw_ptr() == start + header;
  if (adjacent) {
    std::memcpy(&found, start, header);
  }
  adjacent = adjacent && found == mx::allocator::allocator().size(buffer) && found >= size;
  mx::allocator::free(buffer);
  return adjacent;
}

} // namespace

extern "C" int nodemlx_mapped(
    mlx_array* array,
    bool* made,
    void* data,
    const int32_t* shape,
    size_t dims,
    mlx_dtype dtype,
    void* payload,
    void (*release)(void*)) {
  try {
    static const bool possible = size_precedes_memory();
    *made = possible;
    if (!possible) {
      return 0;
    }
    // Captured by a function that MLX copies: the last copy releases it.
    std::shared_ptr<void> owner(payload, release);
    mx::allocator::Buffer buffer(static_cast<char*>(data) - header);
    mlx_array_set_(
        *array,
        mx::array(
            buffer,
            mx::Shape(shape, shape + dims),
            mlx_dtype_to_cpp(dtype),
            [owner](mx::allocator::Buffer) {}));
    return 0;
  } catch (const std::exception& error) {
    mlx_error("%s", error.what());
    return 1;
  }
}
