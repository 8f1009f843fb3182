// What bindgen reads instead of mlx-c's `half.h`: the half-precision functions are there on every
// architecture, and their arguments are 16 bits wide.
#define MLX_HALF_H
#define HAS_FLOAT16
#define HAS_BFLOAT16
#include <stdint.h>

typedef uint16_t float16_t;
typedef uint16_t bfloat16_t;
