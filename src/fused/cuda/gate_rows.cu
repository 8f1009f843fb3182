// act(gate) · up for columns of arrays, which may be the same one: [rows, width].
//
// Settings, defined before this text, besides those of numbers.cuh and activation.cuh:
//   NAME  of the kernel

extern "C" __global__ void NAME(
    const u16* __restrict__ gates,
    const u16* __restrict__ ups,
    u16* __restrict__ out,
    int rows,
    int width,
    int gate_first,
    int gate_stride,
    int up_first,
    int up_stride
) {
  gates += gate_first;
  ups += up_first;
  const size_t begin = blockIdx.x * blockDim.x + threadIdx.x, step = gridDim.x * blockDim.x;
  auto gated = [](u32 gate, u32 up) {
    return (u32)from_float(activated(to_float(gate & 0xffffu)) * to_float(up & 0xffffu));
  };
  // Arrays may begin anywhere, as parts of others do.
  const size_t places = (size_t)gates | (size_t)ups | (size_t)out;
  if ((places | 2 * (width | gate_stride | up_stride)) % 16 == 0) {
    const size_t parts = width / 8;
    for (size_t i = begin; i < rows * parts; i += step) {
      const size_t row = i / parts, feature = i % parts * 8;
      const uint4 gate = *(const uint4*)(gates + row * gate_stride + feature);
      const uint4 up = *(const uint4*)(ups + row * up_stride + feature);
      auto two = [&](u32 g, u32 u) { return gated(g, u) | gated(g >> 16, u >> 16) << 16; };
      *(uint4*)(out + i * 8) = {two(gate.x, up.x), two(gate.y, up.y), two(gate.z, up.z),
                                two(gate.w, up.w)};
    }
    return;
  }
  for (size_t i = begin; i < (size_t)rows * width; i += step) {
    const size_t row = i / width, feature = i % width;
    out[i] = gated(gates[row * gate_stride + feature], ups[row * up_stride + feature]);
  }
}
