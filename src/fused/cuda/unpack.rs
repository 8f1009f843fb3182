//! Dequantizes matrices on an NVIDIA GPU, for products of so many rows that the tensor cores are the
//! limit, and not the memory.

use crate::error::Result;
use crate::mlx::gpu::{Block, Card, Kernel, Number, Source};
use crate::mlx::quantized::{Mode, QuantizedTensor};
use crate::mlx::{Array, Dtype};

const THREADS: usize = 256;
/// Blocks that run on a multiprocessor (SM) at the same time.
const BLOCKS: usize = 8;

/// `[…, outputs, inputs]` of the type of the scales; `None` for what the kernel does not unpack.
pub fn dequantize(card: Card, tensor: &QuantizedTensor) -> Result<Option<Array>> {
    let x = match tensor.scales.dtype() {
        Dtype::Bfloat16 => 0,
        Dtype::Float16 => 1,
        _ => return Ok(None),
    };
    let (bits, group) = (tensor.params.bits, tensor.params.group_size);
    let size = tensor.weight.size() * 32 / bits as usize;
    let (Mode::Affine, Ok(eighths)) = (tensor.params.mode, i32::try_from(size / 8)) else {
        return Ok(None);
    };
    let source = Source {
        text: concat!(include_str!("numbers.cuh"), include_str!("unpack.cu")),
        name: c"nodemlx_unpack",
        settings: vec![("X", x), ("BITS", bits), ("GROUP", group)],
    };
    let kernel = Kernel::of(&source, Block { threads: THREADS, shared_memory: 0 })?;
    let mut shape = tensor.weight.shape().to_vec();
    if let Some(last) = shape.last_mut() {
        *last = *last * 32 / bits;
    }
    let blocks = (eighths as usize).div_ceil(THREADS).min(card.processors() * BLOCKS);
    let inputs: Vec<_> = tensor.arrays().collect();
    let outputs = [(&shape[..], tensor.scales.dtype())];
    let mut arrays = kernel.run(blocks, &inputs, &outputs, &[Number::Whole(eighths)])?;
    Ok(arrays.pop())
}
