#include "memory.h"

#ifdef __linux__

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <typeinfo>

#include "mlx/allocator.h"

#include "mlx_version.h"

namespace mx = mlx::core;

namespace {

/// A smaller allocation that fails is an error, too, but MLX goes on counting its bytes.
constexpr size_t tried_before = 1 << 20;

/// The virtual functions of an allocator in their order, and what the Itanium C++ ABI (2.5.2) keeps
/// before them.
struct Functions {
  ptrdiff_t offset_to_top;
  const std::type_info* type;
  mx::allocator::Buffer (*malloc)(mx::allocator::Allocator*, size_t);
  /// free, size, make_buffer, release and the two destructors.
  void (*others[6])();
};

/// Those of MLX's own allocator.
Functions original;

/// The same with `malloc` below.
Functions checked;

[[noreturn]] void fail(size_t size) {
  throw std::runtime_error(
      "out of memory: the system has no " + std::to_string(size) + " bytes for an array");
}

mx::allocator::Buffer malloc(mx::allocator::Allocator* self, size_t size) {
  if (size >= tried_before) {
    auto* memory = std::malloc(size + sizeof(size_t));
    if (!memory) {
      fail(size);
    }
    std::free(memory);
  }
  auto buffer = original.malloc(self, size);
  if (!buffer.ptr()) {
    fail(size);
  }
  return buffer;
}

} // namespace

/// MLX's allocator for the CPU gives a null pointer, and no operation looks whether it is one.
/// Those for GPUs throw themselves. There is no place for another allocator in MLX, so the only one
/// there is gets another table of functions.
extern "C" void nodemlx_fail_without_memory() {
  auto& allocator = mx::allocator::allocator();
  if (!std::strstr(typeid(allocator).name(), "CommonAllocator")) {
    return;
  }
  auto*& functions = reinterpret_cast<void*&>(allocator);
  auto* table = static_cast<char*>(functions) - offsetof(Functions, malloc);
  std::memcpy(&original, table, sizeof(Functions));
  checked = original;
  checked.malloc = malloc;
  functions = &checked.malloc;
}

#else

/// Memory that is not there is another matter on a Mac.
extern "C" void nodemlx_fail_without_memory() {}

#endif
