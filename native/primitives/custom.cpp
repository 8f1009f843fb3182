#include "custom.h"

#include <atomic>
#include <cstring>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "mlx/allocator.h"
#include "mlx/backend/cpu/encoder.h"
#include "mlx/c/error.h"
#include "mlx/c/private/mlx.h"
#include "mlx/primitives.h"
#include "mlx/scheduler.h"

#include "mlx_version.h"

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

/// Memory of outputs that are gone, for the next ones of the same size: every token needs what the
/// token before needed, and a general allocator, asked by one thread and given back to by another,
/// takes a quarter of the time in which the graph is built.
class Buffers {
 public:
  /// Bytes of an output: those of few tokens.
  static constexpr size_t largest = 512 * 1024;

  /// Never destroyed: threads of streams may give back memory at the very end of the process.
  static Buffers& shared() {
    static auto* buffers = new Buffers;
    return *buffers;
  }

  mx::allocator::Buffer take(size_t size) {
    if (size <= largest) {
      std::lock_guard lock(mutex_);
      auto& same = free_[size];
      if (!same.empty()) {
        auto buffer = same.back();
        same.pop_back();
        kept_ -= size;
        return buffer;
      }
    }
    return mx::allocator::malloc(size);
  }

  void give_back(mx::allocator::Buffer buffer, size_t size) {
    if (size <= largest) {
      std::lock_guard lock(mutex_);
      if (kept_ + size <= most) {
        free_[size].push_back(buffer);
        kept_ += size;
        return;
      }
    }
    mx::allocator::free(buffer);
  }

 private:
  /// Bytes that are kept.
  static constexpr size_t most = 4 * 1024 * 1024;

  std::mutex mutex_;
  std::unordered_map<size_t, std::vector<mx::allocator::Buffer>> free_;
  size_t kept_ = 0;
};

/// Gives memory back.
struct GiveBack {
  size_t size;

  void operator()(mx::allocator::Buffer buffer) const {
    Buffers::shared().give_back(buffer, size);
  }
};

/// Gives back the memory of an array that nodes update, and counts those that have not done so yet.
struct Counted {
  mx::Deleter give_back;
  /// Each of these nodes keeps the memory, besides the array, until its turn on the stream is over.
  std::shared_ptr<std::atomic<int>> unfinished = std::make_shared<std::atomic<int>>(0);

  void operator()(mx::allocator::Buffer buffer) const {
    give_back(buffer);
  }
};

/// The shared description of an array, which is private: an explicit instantiation may name it all
/// the same.
template <auto description>
struct Private {
  friend auto& description_of(const mx::array& array) {
    return array.*description;
  }
};
template struct Private<&mx::array::array_desc_>;
auto& description_of(const mx::array&);

/// Whether nobody but nodes that come before on the same stream uses the memory of `array`, which
/// is counted from then on. To MLX's own `is_donatable` these nodes are users too: every token
/// would copy the cache of a model so small that the graph is ahead of the stream by a token.
bool updatable(const mx::array& array) {
  if (!array.flags().row_contiguous || description_of(array).use_count() != 1) {
    return false;
  }
  const auto& data = description_of(array)->data;
  auto* counted = data->d.template target<Counted>();
  if (!counted) {
    if (data.use_count() != 1) {
      return false;
    }
    data->d = Counted{std::move(data->d)};
    return true;
  }
  // A node whose work is done keeps the memory for a moment longer than it counts.
  for (int attempt = 0; attempt < 1000; ++attempt) {
    // In this order: nodes that are unfinished now were so when the users were counted.
    auto users = data.use_count();
    std::atomic_thread_fence(std::memory_order_acquire);
    if (users <= 1 + counted->unfinished->load()) {
      return true;
    }
  }
  return false;
}

/// Copies the elements from `at`, in elements, along the axes from `axis`, each of `size` bytes,
/// one behind the other; gives the end of what was written.
char* gather(const nodemlx_view& from, size_t axis, int64_t at, size_t size, char* to) {
  bool whole = axis == 0 && from.contiguous;
  if (whole || axis == from.dims) {
    size_t count = 1;
    for (size_t i = axis; i < from.dims; ++i) {
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

/// Inputs that are there already and need not be part of the graph: most are weights, and it is by
/// its edges that the time goes in which a graph is evaluated.
struct Given {
  std::vector<mx::array> arrays;
  /// Which of all inputs they are.
  std::vector<bool> places;
};

/// A run of a kernel, and what it needs: arrays themselves may be gone by then, or point elsewhere.
/// MLX keeps the memory of those in the graph until then.
class Task {
 public:
  Task(std::shared_ptr<Kernel> kernel, std::shared_ptr<Given> given)
      : kernel_(std::move(kernel)), given_(std::move(given)) {}

  /// Makes room for the views of arrays.
  void reserve(size_t arrays, size_t axes) {
    views_.reserve(arrays);
    shapes_.reserve(axes);
    strides_.reserve(axes);
  }

  /// The next input or output, for which there is room.
  void view(const mx::array& array) {
    const auto* shape = shapes_.data() + shapes_.size();
    const auto* strides = strides_.data() + strides_.size();
    shapes_.insert(shapes_.end(), array.shape().begin(), array.shape().end());
    strides_.insert(strides_.end(), array.strides().begin(), array.strides().end());
    views_.push_back(
        {const_cast<char*>(array.data<char>()),
         shape,
         strides,
         array.ndim(),
         mlx_dtype_to_c(array.dtype()),
         array.flags().row_contiguous});
  }

  /// Input `index`, whose elements are of `size` bytes, is to be copied into the output with its
  /// number.
  void copy(size_t index, size_t size) {
    copied_.emplace_back(index, size);
  }

  /// Counts this run among those that are unfinished until it is gone.
  void count(const std::shared_ptr<std::atomic<int>>& unfinished) {
    ++*unfinished;
    counted_.push_back(unfinished);
  }

  Task(const Task&) = delete;
  Task& operator=(const Task&) = delete;
  ~Task() {
    for (auto& unfinished : counted_) {
      --*unfinished;
    }
  }

  void run() const {
    auto input_count = given_->places.size();
    for (auto [index, size] : copied_) {
      gather(views_[index], 0, 0, size, static_cast<char*>(views_[input_count + index].data));
    }
    kernel_->run(views_, input_count);
  }

 private:
  std::shared_ptr<Kernel> kernel_;
  std::shared_ptr<Given> given_;
  std::vector<nodemlx_view> views_;
  std::vector<int32_t> shapes_;
  std::vector<int64_t> strides_;
  std::vector<std::pair<size_t, size_t>> copied_;
  std::vector<std::shared_ptr<std::atomic<int>>> counted_;
};

class Custom : public mx::Primitive {
 public:
  Custom(mx::Stream stream, std::shared_ptr<Kernel> kernel, Given given, size_t updated)
      : mx::Primitive(stream),
        kernel_(std::move(kernel)),
        given_(std::make_shared<Given>(std::move(given))),
        updated_(updated) {}

  void eval_cpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) override {
    auto task = std::make_shared<Task>(kernel_, given_);
    auto axes = [](const std::vector<mx::array>& arrays) {
      size_t sum = 0;
      for (const auto& array : arrays) {
        sum += array.ndim();
      }
      return sum;
    };
    task->reserve(
        given_->places.size() + outputs.size(),
        axes(given_->arrays) + axes(inputs) + axes(outputs));
    auto given = given_->arrays.begin();
    auto computed = inputs.begin();
    for (bool is_given : given_->places) {
      task->view(is_given ? *given++ : *computed++);
    }
    // Every output holds the inputs, until the evaluation of one of them lets go of all. As long as
    // others do, no input can be updated in its place.
    auto evaluated = [&](mx::array& output) { return &output.inputs() == &inputs; };
    for (auto& output : outputs) {
      if (updated_ && !output.is_tracer() && !evaluated(output)) {
        output.inputs().clear();
      }
    }
    size_t bytes = 0;
    // Of these those of outputs that are not updated inputs.
    size_t fresh = 0;
    for (size_t i = 0; i < outputs.size(); ++i) {
      auto& output = outputs[i];
      auto size = output.nbytes();
      bytes += size;
      if (i >= updated_) {
        fresh += size;
        output.set_data(Buffers::shared().take(size), GiveBack{size});
      } else if (updatable(inputs[i])) {
        output.copy_shared_buffer(inputs[i]);
      } else {
        task->copy(i, output.itemsize());
        output.set_data(Buffers::shared().take(size), Counted{GiveBack{size}});
      }
      // MLX keeps the memory of all outputs but that of the one which it evaluates.
      auto* counted = output.data_shared_ptr()->d.target<Counted>();
      if (counted && !evaluated(output)) {
        task->count(counted->unfinished);
      }
      task->view(output);
    }
    if (bytes == 0) {
      return;
    }
    auto run = [task = std::move(task)] { task->run(); };
    if (fresh <= Buffers::largest) {
      // MLX does not let the graph be more than so many tasks ahead of the stream, and wakes its
      // thread for each that is done, which costs the kernels time. What it adds to every node
      // itself is enough to be counted.
      mx::scheduler::enqueue(stream(), std::move(run));
    } else {
      mx::cpu::get_command_encoder(stream()).dispatch(std::move(run));
    }
  }

  void eval_gpu(const std::vector<mx::array>&, std::vector<mx::array>&) override {
    throw std::runtime_error(std::string(kernel_->name()) + " runs on the CPU only");
  }

  const char* name() const override {
    return kernel_->name();
  }

 private:
  std::shared_ptr<Kernel> kernel_;
  std::shared_ptr<Given> given_;
  size_t updated_;
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
    size_t updated,
    mlx_stream stream) {
  try {
    auto kernel = std::make_shared<Kernel>(raw);
    std::vector<mx::array> nodes;
    Given given;
    given.arrays.reserve(input_count);
    given.places.reserve(input_count);
    for (size_t i = 0; i < input_count; ++i) {
      const auto& input = mlx_array_get_(inputs[i]);
      bool is_given = i >= updated && !input.has_primitive() && input.is_available();
      (is_given ? given.arrays : nodes).push_back(input);
      given.places.push_back(is_given);
    }
    std::vector<mx::Shape> output_shapes;
    std::vector<mx::Dtype> output_dtypes;
    for (size_t i = 0; i < output_count; ++i) {
      output_shapes.emplace_back(shapes, shapes + dims[i]);
      output_dtypes.push_back(mlx_dtype_to_cpp(dtypes[i]));
      shapes += dims[i];
    }
    auto primitive = std::make_shared<Custom>(
        mlx_stream_get_(stream), std::move(kernel), std::move(given), updated);
    mlx_vector_array_set_(
        *outputs, mx::array::make_arrays(output_shapes, output_dtypes, primitive, nodes));
    return 0;
  } catch (const std::exception& error) {
    mlx_error("%s", error.what());
    return 1;
  }
}
