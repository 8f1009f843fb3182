// Where an array lies: the lower and the upper half of its address.

extern "C" __global__ void NAME(const void* array, unsigned int* out) {
  out[0] = (unsigned int)(size_t)array;
  out[1] = (unsigned int)((size_t)array >> 32);
}
