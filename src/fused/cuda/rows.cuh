// The rows of a step: sequences with a cache of their own. This text stands before those of the
// kernels.

/// Keys and values of a row, [heads, capacity, features] each.
struct Cache {
  u16 *keys, *values;
};

__device__ __forceinline__ void copy_async(u32 to, const void* from, bool inside) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to),
               "l"(from),
               "r"(inside ? 16 : 0)
               : "memory");
}

/// The row that place `at` belongs to, of up to 32 that begin at the places `x`. All lanes of a warp
/// ask together.
__device__ __forceinline__ int row_at(const int4* rows, int count, int at) {
  const int lane = threadIdx.x & 31;
  return __popc(__ballot_sync(~0u, lane < count && rows[lane].x <= at)) - 1;
}
