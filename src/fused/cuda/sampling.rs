//! Drawing tokens on an NVIDIA card.

use crate::cpu::sampling::SamplingOptions;
use crate::error::Result;
use crate::fused::sampling::RowDraw;
use crate::mlx::gpu::{Block, Kernel, Number, Source};
use crate::mlx::{Array, Dtype, from_u32, random};

const THREADS: usize = 1024;
/// Logits of a row that the kernel has bins for.
const MOST_LOGITS: i32 = 1 << 21;
/// `Settings` of draw.cu.
const SETTINGS: usize = 6;

/// What draw.cu wants to know of a row; `None` for filters that it does not have.
fn settings(row: &RowDraw) -> Option<[u32; SETTINGS]> {
    let SamplingOptions {
        temperature,
        dynamic_temperature_range,
        dynamic_temperature_exponent: _,
        top_n_sigma,
        typical_p,
        top_p,
        min_p,
        min_tokens_to_keep,
        top_k,
        xtc_probability,
        xtc_threshold: _,
        xtc_special_tokens: _,
    } = *row.options;
    let has_others = dynamic_temperature_range != 0.0
        || top_n_sigma > 0.0
        || typical_p < 1.0
        || xtc_probability > 0.0
        || (min_p > 0.0 && min_tokens_to_keep > 1);
    if has_others && temperature > 0.0 {
        return None;
    }
    let top_p = if top_p > 0.0 { top_p } else { 1.0 };
    let reach = if min_p > 0.0 { -min_p.ln() } else { f32::INFINITY };
    let uniform = random::bits(row.draw.seed, row.draw.numbers()[0]);
    let [high, low] = [(uniform >> 32) as u32, uniform as u32];
    Some([temperature.to_bits(), top_p.to_bits(), reach.to_bits(), top_k, high, low])
}

/// A token of each row of logits, `[rows, vocabulary]`, and what [`largest_logit`] says of it,
/// `[rows]` each; `None` for what the kernel does not do.
///
/// [`largest_logit`]: crate::fused::sampling::largest_logit
pub fn draw(logits: &Array, rows: &[RowDraw]) -> Result<Option<[Array; 2]>> {
    let x = match logits.dtype() {
        Dtype::Bfloat16 => 0,
        Dtype::Float16 => 1,
        Dtype::Float32 => 2,
        _ => return Ok(None),
    };
    let vocabulary = logits.dim(-1);
    let settings: Option<Vec<_>> = rows.iter().map(settings).collect();
    let Some(settings) = settings.filter(|_| (1..=MOST_LOGITS).contains(&vocabulary)) else {
        return Ok(None);
    };
    let source = Source {
        text: include_str!("draw.cu"),
        name: c"nodemlx_draw",
        settings: vec![("X", x), ("WIDE", i32::from(vocabulary % 8 == 0))],
    };
    let kernel = Kernel::of(&source, Block { threads: THREADS, shared_memory: 0 })?;
    let count = rows.len() as i32;
    let settings = from_u32(settings.as_flattened(), &[count, SETTINGS as i32]);
    let outputs = [(&[count][..], Dtype::Uint32), (&[count], Dtype::Float32)];
    let mut arrays =
        kernel.run(rows.len(), &[logits, &settings], &outputs, &[Number::Whole(vocabulary)])?;
    let largest = arrays.swap_remove(1);
    Ok(Some([arrays.swap_remove(0), largest]))
}
