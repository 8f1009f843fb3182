// mlx-rs seeds its default random state from `mach_approximate_time`, which only exists on Apple
// systems.
#include <chrono>
#include <cstdint>

extern "C" std::uint64_t mach_approximate_time() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(now).count());
}
