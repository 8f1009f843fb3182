#include "custom.h"

#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "mlx/allocator.h"
#include "mlx/backend/cpu/encoder.h"
#include "mlx/c/error.h"
#include "mlx/c/private/mlx.h"
#include "mlx/primitives.h"

namespace mx = mlx::core;

namespace {

/// Owns a kernel.
class Kernel {
 public:
  explicit Kernel(nodemlx_kernel raw) : raw_(raw) {}
  Kernel(const Kernel&) = delete;
  Kernel& operator=(const Kernel&) = delete;
  ~Kernel() {
    raw_.drop(raw_.self);
  }

  const char* name() const {
    return raw_.name;
  }

  void run(const std::vector<nodemlx_view>& views, size_t input_count) const {
    char error[512] = "";
    auto outputs = views.data() + input_count;
    auto output_count = views.size() - input_count;
    if (raw_.run(
            raw_.self, views.data(), input_count, outputs, output_count, error, sizeof(error))) {
      throw std::runtime_error(std::string(raw_.name) + ": " + error);
    }
  }

 private:
  nodemlx_kernel raw_;
};

/// A view that owns its shape and strides: the array itself may be gone, or point elsewhere, when the kernel runs. Its memory is kept by MLX until then.
struct View {
  explicit View(const mx::array& array)
      : data(const_cast<char*>(array.data<char>())),
        shape(array.shape()),
        strides(array.strides()),
        dtype(mlx_dtype_to_c(array.dtype())),
        contiguous(array.flags().row_contiguous) {}

  nodemlx_view raw() const {
    return {data, shape.data(), strides.data(), shape.size(), dtype, contiguous};
  }

  void* data;
  mx::Shape shape;
  mx::Strides strides;
  mlx_dtype dtype;
  bool contiguous;
};

/// Copies the elements from `at`, in elements, along the axes from `axis`, each of `size` bytes, one behind the other; gives the end of what was written.
char* gather(const View& from, size_t axis, int64_t at, size_t size, char* to) {
  bool whole = axis == 0 && from.contiguous;
  if (whole || axis == from.shape.size()) {
    size_t count = 1;
    for (size_t i = axis; i < from.shape.size(); ++i) {
      count *= from.shape[i];
    }
    std::memcpy(to, static_cast<const char*>(from.data) + at * size, count * size);
    return to + count * size;
  }
  for (int i = 0; i < from.shape[axis]; ++i) {
    to = gather(from, axis + 1, at + i * from.strides[axis], size, to);
  }
  return to;
}

class Custom : public mx::Primitive {
 public:
  Custom(mx::Stream stream, std::shared_ptr<Kernel> kernel, bool updates)
      : mx::Primitive(stream), kernel_(std::move(kernel)), updates_(updates) {}

  void eval_cpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) override {
    std::vector<View> views;
    views.reserve(inputs.size() + outputs.size());
    for (const auto& input : inputs) {
      views.emplace_back(input);
    }
    size_t bytes = 0;
    bool in_place = updates_ && inputs[0].is_donatable() && inputs[0].flags().row_contiguous;
    for (auto& output : outputs) {
      if (in_place) {
        output.copy_shared_buffer(inputs[0]);
      } else {
        output.set_data(mx::allocator::malloc(output.nbytes()));
      }
      bytes += output.nbytes();
      views.emplace_back(output);
    }
    if (bytes == 0) {
      return;
    }
    size_t copied = updates_ && !in_place ? inputs[0].itemsize() : 0;
    auto task = [kernel = kernel_, views = std::move(views), input_count = inputs.size(), copied] {
      if (copied) {
        gather(views[0], 0, 0, copied, static_cast<char*>(views[input_count].data));
      }
      std::vector<nodemlx_view> raw;
      raw.reserve(views.size());
      for (const auto& view : views) {
        raw.push_back(view.raw());
      }
      kernel->run(raw, input_count);
    };
    mx::cpu::get_command_encoder(stream()).dispatch(std::move(task));
  }

  void eval_gpu(const std::vector<mx::array>&, std::vector<mx::array>&) override {
    throw std::runtime_error(std::string(kernel_->name()) + " runs on the CPU only");
  }

  const char* name() const override {
    return kernel_->name();
  }

 private:
  std::shared_ptr<Kernel> kernel_;
  bool updates_;
};

} // namespace

extern "C" int nodemlx_custom(
    mlx_vector_array* outputs,
    nodemlx_kernel raw,
    const mlx_array* inputs,
    size_t input_count,
    const int32_t* shapes,
    const size_t* dims,
    const mlx_dtype* dtypes,
    size_t output_count,
    bool updates,
    mlx_stream stream) {
  try {
    auto kernel = std::make_shared<Kernel>(raw);
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
    auto primitive = std::make_shared<Custom>(mlx_stream_get_(stream), std::move(kernel), updates);
    mlx_vector_array_set_(
        *outputs, mx::array::make_arrays(output_shapes, output_dtypes, primitive, nodes));
    return 0;
  } catch (const std::exception& error) {
    mlx_error("%s", error.what());
    return 1;
  }
}
