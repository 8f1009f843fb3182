//! Gated activations of many rows on an NVIDIA card: gate_rows.cu.

use super::product::gated as code;
use crate::error::Result;
use crate::fused::activation::Activation;
use crate::mlx::gpu::{Block, Card, Kernel, Number, Source, columns};
use crate::mlx::{Array, Dtype};

const THREADS: usize = 256;
/// Blocks that run on a multiprocessor (SM) at the same time.
const BLOCKS: usize = 8;
/// Features that a thread takes at a time.
const FEATURES: usize = 8;

/// act(gate) · up; `None` for what the kernel does not take.
pub fn gated(
    card: Card,
    activation: Activation,
    gate: &Array,
    up: &Array,
) -> Result<Option<Array>> {
    let (dtype, width) = (gate.dtype(), gate.dim(-1));
    let is_half = matches!(dtype, Dtype::Bfloat16 | Dtype::Float16);
    let alike = up.dtype() == dtype && up.shape() == gate.shape();
    let (Some(code), true) = (code(Some(activation)), is_half && alike && gate.size() > 0) else {
        return Ok(None);
    };
    let source = Source {
        text: concat!(
            include_str!("numbers.cuh"),
            include_str!("activation.cuh"),
            include_str!("gate_rows.cu")
        ),
        name: c"nodemlx_gate_rows",
        settings: vec![("X", i32::from(dtype == Dtype::Float16)), ("GATED", code)],
    };
    let kernel = Kernel::of(&source, Block { threads: THREADS, shared_memory: 0 })?;
    let [gates, ups] = [gate, up].map(columns);
    let rows = gate.size() / width as usize;
    let numbers = [rows as i32, width, gates.first, gates.stride, ups.first, ups.stride];
    let blocks = gate.size().div_ceil(THREADS * FEATURES).min(card.processors() * BLOCKS);
    let inputs = [&gates.array, &ups.array];
    let outputs = [(gate.shape(), dtype)];
    let mut outputs = kernel.run(blocks, &inputs, &outputs, &numbers.map(Number::Whole))?;
    Ok(outputs.pop())
}
