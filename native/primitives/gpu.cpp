#include "gpu.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#ifdef __linux__
#include <dlfcn.h>
#endif

#include "mlx/c/error.h"
#include "mlx/c/private/mlx.h"
#include "mlx/fast.h"
#include "mlx/primitives.h"

#include "mlx_version.h"

namespace mx = mlx::core;

namespace {

/// A function of a library that MLX has loaded.
template <typename F>
F* loaded(std::initializer_list<const char*> libraries, const char* name) {
#ifdef __linux__
  for (auto* library : libraries) {
    if (void* handle = dlopen(library, RTLD_LAZY | RTLD_NOLOAD)) {
      auto* function = reinterpret_cast<F*>(dlsym(handle, name));
      dlclose(handle);
      if (function) {
        return function;
      }
    }
  }
#endif
  throw std::runtime_error(std::string("MLX has not loaded a library with ") + name);
}

template <typename F>
F* of_compiler(const char* name) {
  return loaded<F>({"libnvrtc.so.13", "libnvrtc.so.12"}, name);
}

template <typename F>
F* of_driver(const char* name) {
  return loaded<F>({"libcuda.so.1"}, name);
}

/// Types of NVRTC and of the driver, by their published binary interface.
using nvrtcProgram = void*;
using Status = int;

void check(Status status, const char* what) {
  if (status) {
    throw std::runtime_error(std::string(what) + " failed with error " + std::to_string(status));
  }
}

class Program {
 public:
  explicit Program(const char* source) {
    using Create = Status(
        nvrtcProgram*, const char*, const char*, int, const char* const*, const char* const*
    );
    check(
        of_compiler<Create>("nvrtcCreateProgram")(
            &program_, source, "nodemlx.cu", 0, nullptr, nullptr
        ),
        "nvrtcCreateProgram"
    );
  }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;
  ~Program() { of_compiler<Status(nvrtcProgram*)>("nvrtcDestroyProgram")(&program_); }

  void compile(const char* const* options, size_t count) {
    using Compile = Status(nvrtcProgram, int, const char* const*);
    if (of_compiler<Compile>("nvrtcCompileProgram")(program_, static_cast<int>(count), options)) {
      std::string log = text("nvrtcGetProgramLogSize", "nvrtcGetProgramLog");
      throw std::runtime_error("a CUDA kernel does not compile: " + log);
    }
  }

  std::string image() { return text("nvrtcGetCUBINSize", "nvrtcGetCUBIN"); }

 private:
  std::string text(const char* size_of, const char* get) {
    size_t size = 0;
    check(of_compiler<Status(nvrtcProgram, size_t*)>(size_of)(program_, &size), size_of);
    std::string text(size, '\0');
    check(of_compiler<Status(nvrtcProgram, char*)>(get)(program_, text.data()), get);
    return text;
  }

  nvrtcProgram program_ = nullptr;
};

/// Calls that must not throw.
template <typename F>
int guarded(F&& f) {
  try {
    f();
    return 0;
  } catch (const std::exception& error) {
    mlx_error("%s", error.what());
    return 1;
  }
}

/// The stream, blocks, inputs and numbers of a launch.
using LaunchKey = std::tuple<int, int, size_t, std::vector<int32_t>>;

/// The shared description of an array, which is private: an explicit instantiation may name it all
/// the same.
template <auto description>
struct Private {
  friend auto& gpu_description_of(const mx::array& array) { return array.*description; }
};
template struct Private<&mx::array::array_desc_>;
auto& gpu_description_of(const mx::array&);

}  // namespace

struct nodemlx_gpu_kernel {
  std::string name;
  std::string image;
  int threads;
  int shared_memory;
  std::mutex mutex;
  /// Primitives are shared by all launches that are alike, for each holds a copy of the image.
  std::map<LaunchKey, std::shared_ptr<mx::Primitive>> launches;

  /// MLX's primitive for launches like this one.
  std::shared_ptr<mx::Primitive> launch(
      mx::Stream stream,
      int blocks,
      const std::vector<mx::array>& inputs,
      const std::vector<mx::Shape>& shapes,
      const std::vector<mx::Dtype>& dtypes,
      std::vector<mx::fast::ScalarArg> numbers
  ) {
    auto outputs = mx::fast::precompiled_cuda_kernel(
        name,
        image,
        inputs,
        shapes,
        dtypes,
        numbers,
        {blocks * threads, 1, 1},
        {threads, 1, 1},
        shared_memory,
        std::nullopt,
        true,
        stream
    );
    return outputs[0].primitive_ptr();
  }
};

extern "C" int nodemlx_gpu_card_of_mlx(nodemlx_gpu_card* card) {
  return guarded([&] {
    of_compiler<void>("nvrtcCompileProgram");
    auto* get = of_driver<Status(int*, int, int)>("cuDeviceGetAttribute");
    auto attribute = [&](int number, int* value) {
      check(get(value, number, 0), "cuDeviceGetAttribute");
    };
    attribute(75, &card->major);
    attribute(76, &card->minor);
    attribute(16, &card->processors);
    attribute(97, &card->shared_per_block);
    attribute(81, &card->shared_per_processor);
  });
}

extern "C" int nodemlx_gpu_compiler(int* major, int* minor) {
  return guarded([&] {
    check(of_compiler<Status(int*, int*)>("nvrtcVersion")(major, minor), "nvrtcVersion");
  });
}

extern "C" int nodemlx_gpu_compile(
    const char* source,
    const char* const* options,
    size_t option_count,
    void** image,
    size_t* image_size
) {
  return guarded([&] {
    Program program(source);
    program.compile(options, option_count);
    auto text = program.image();
    *image_size = text.size();
    *image = std::malloc(text.size());
    if (!*image) {
      throw std::bad_alloc();
    }
    std::memcpy(*image, text.data(), text.size());
  });
}

extern "C" void nodemlx_gpu_free(void* image) { std::free(image); }

extern "C" int nodemlx_gpu_kernel_new(
    nodemlx_gpu_kernel** kernel,
    const char* name,
    const void* image,
    size_t image_size,
    int threads,
    int shared_memory
) {
  return guarded([&] {
    std::string copy(static_cast<const char*>(image), image_size);
    *kernel = new nodemlx_gpu_kernel{name, std::move(copy), threads, shared_memory, {}, {}};
  });
}

extern "C" void nodemlx_gpu_kernel_free(nodemlx_gpu_kernel* kernel) { delete kernel; }

extern "C" bool nodemlx_gpu_is_scheduled(mlx_array array) {
  return mlx_array_get_(array).status() != mx::array::Status::unscheduled;
}

extern "C" uint64_t nodemlx_gpu_own_address(mlx_array array) {
  const auto& own = mlx_array_get_(array);
  if (own.status() == mx::array::Status::unscheduled || !own.flags().row_contiguous ||
      gpu_description_of(own).use_count() != 1) {
    return 0;
  }
  // What MLX's CUDA backend keeps of a buffer begins with its address.
  auto* buffer = static_cast<const uint64_t*>(own.buffer().ptr());
  return buffer ? *buffer + own.offset() : 0;
}

extern "C" bool nodemlx_gpu_is_same(mlx_array one, mlx_array other) {
  return mlx_array_get_(one).id() == mlx_array_get_(other).id();
}

extern "C" bool nodemlx_gpu_columns(mlx_array* whole, int* first, mlx_array array) {
  const auto& own = mlx_array_get_(array);
  if (own.status() != mx::array::Status::unscheduled || !own.has_primitive() ||
      std::strcmp(own.primitive().name(), "Slice") != 0) {
    return false;
  }
  const auto& from = own.inputs()[0];
  auto [starts, ends, strides] = static_cast<const mx::Slice&>(own.primitive()).state();
  size_t last = from.ndim() - 1;
  for (size_t axis = 0; axis <= last; ++axis) {
    bool is_all = starts[axis] == 0 && ends[axis] == from.shape(axis);
    if (strides[axis] != 1 || (axis != last && !is_all)) {
      return false;
    }
  }
  *first = starts[last];
  mlx_array_set_(*whole, from);
  return true;
}

extern "C" int nodemlx_gpu_run(
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
) {
  return guarded([&] {
    std::vector<mx::array> nodes;
    nodes.reserve(input_count);
    for (size_t i = 0; i < input_count; ++i) {
      nodes.push_back(mlx_array_get_(inputs[i]));
    }
    std::vector<mx::Shape> output_shapes;
    std::vector<mx::Dtype> output_dtypes;
    for (size_t i = 0; i < output_count; ++i) {
      output_shapes.emplace_back(shapes, shapes + dims[i]);
      output_dtypes.push_back(mlx_dtype_to_cpp(dtypes[i]));
      shapes += dims[i];
    }
    auto on = mlx_stream_get_(stream);
    std::vector<int32_t> bits;
    bits.reserve(number_count);
    for (size_t i = 0; i < number_count; ++i) {
      int32_t real;
      std::memcpy(&real, &numbers[i].real, sizeof(real));
      bits.push_back(numbers[i].is_real ? real : numbers[i].whole);
    }
    std::lock_guard lock(kernel->mutex);
    auto& launch = kernel->launches[{on.index, blocks, input_count, std::move(bits)}];
    if (!launch) {
      std::vector<mx::fast::ScalarArg> scalars;
      for (size_t i = 0; i < number_count; ++i) {
        if (numbers[i].is_real) {
          scalars.emplace_back(numbers[i].real);
        } else {
          scalars.emplace_back(static_cast<int>(numbers[i].whole));
        }
      }
      launch = kernel->launch(on, blocks, nodes, output_shapes, output_dtypes, std::move(scalars));
    }
    mlx_vector_array_set_(
        *outputs,
        mx::array::make_arrays(std::move(output_shapes), output_dtypes, launch, std::move(nodes))
    );
  });
}
