// New buffers of a layer's cache: the positions that the old ones hold, and room behind them. The
// room is filled with zeros, as attention that is not ours may multiply what lies there with 0.
//
// Settings, defined before this text:
//   NAME  of the kernel
//   HELD  1: there are old buffers

extern "C" __global__ void NAME(
    // [heads of all rows, old capacity, features]
#if HELD
    const uint4* __restrict__ held_keys,
    const uint4* __restrict__ held_values,
#endif
    // [heads of all rows, capacity, features]
    uint4* __restrict__ keys,
    uint4* __restrict__ values,
    int heads,
    // Of a position, 16 bytes each.
    int parts,
    int held_capacity,
    int capacity,
    int positions
) {
  const size_t of_head = (size_t)capacity * parts, all = heads * of_head;
  const size_t begin = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
  for (size_t to = begin; to < all; to += (size_t)gridDim.x * blockDim.x) {
    uint4 key = make_uint4(0, 0, 0, 0), value = key;
#if HELD
    const size_t head = to / of_head, part = to % of_head;
    if (part < (size_t)positions * parts) {
      const size_t from = head * held_capacity * parts + part;
      key = held_keys[from];
      value = held_values[from];
    }
#endif
    keys[to] = key;
    values[to] = value;
  }
}
