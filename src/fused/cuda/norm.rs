//! The norm of rows, behind a sum, on an NVIDIA card, however many they are: norm_rows.cu.

use crate::error::Result;
use crate::fused::norm::AddRmsNorm;
use crate::mlx::gpu::{Block, Kernel, Number, Source};
use crate::mlx::{Array, Dtype};

/// x + delta and its norm, of the type of `x`; `None` for what the kernel does not take.
pub fn add_norm(rows: &AddRmsNorm) -> Result<Option<[Array; 2]>> {
    let AddRmsNorm { x, delta, weight, eps } = *rows;
    let alike = |other: &Array| other.dtype() == x.dtype();
    let is_half = matches!(x.dtype(), Dtype::Bfloat16 | Dtype::Float16);
    if !is_half || x.size() == 0 || !delta.into_iter().chain(weight).all(alike) {
        return Ok(None);
    }
    let dims = x.dim(-1) as usize;
    let source = Source {
        text: concat!(include_str!("numbers.cuh"), include_str!("norm_rows.cu")),
        name: c"nodemlx_norm_rows",
        settings: vec![
            ("X", i32::from(x.dtype() == Dtype::Float16)),
            ("DELTA", i32::from(delta.is_some())),
            ("WEIGHT", i32::from(weight.is_some())),
        ],
    };
    // A thread keeps up to four pairs of numbers.
    let threads = (32 * dims.div_ceil(256)).clamp(32, 1024);
    let kernel = Kernel::of(&source, Block { threads, shared_memory: 0 })?;
    let arrays: Vec<_> = [x].into_iter().chain(delta).chain(weight).collect();
    let numbers = [Number::Whole(dims as i32), Number::Real(eps)];
    let result = (x.shape(), x.dtype());
    let results = [result; 2];
    let results = &results[..if delta.is_some() { 2 } else { 1 }];
    let mut results = kernel.run(x.size() / dims, &arrays, results, &numbers)?;
    let normed = results.swap_remove(0);
    Ok(Some([results.pop().unwrap_or_else(|| x.clone()), normed]))
}
