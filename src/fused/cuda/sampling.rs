//! Drawing tokens on an NVIDIA card.

use crate::cpu::sampling::SamplingOptions;
use crate::error::Result;
use crate::fused::sampling::{DrawnTokens, RowDraw};
use crate::mlx::gpu::{Block, Kernel, Number, Source};
use crate::mlx::{Array, Dtype, from_u32, ops, random};

const THREADS: usize = 1024;
/// Logits of a row that the kernel has bins for.
const MOST_LOGITS: i32 = 1 << 21;
/// Rows of a launch.
const MOST_ROWS: usize = 64;

/// `Settings` of draw.cu; `None` for filters that it does not have.
pub fn settings(options: &SamplingOptions) -> Option<Array> {
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
    } = *options;
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
    Some(from_u32(&[temperature.to_bits(), top_p.to_bits(), reach.to_bits(), top_k], &[4]))
}

/// A token of each row of logits, `[rows, vocabulary]`; `None` for what the kernel does not do.
pub fn draw(logits: &Array, rows: &[RowDraw]) -> Result<Option<DrawnTokens>> {
    let x = match logits.dtype() {
        Dtype::Bfloat16 => 0,
        Dtype::Float16 => 1,
        Dtype::Float32 => 2,
        _ => return Ok(None),
    };
    let settings: Option<Vec<_>> = rows.iter().map(|row| row.sampling.settings()).collect();
    let fits = (1..=MOST_LOGITS).contains(&logits.dim(-1));
    let Some(settings) = settings.filter(|_| fits) else { return Ok(None) };
    if rows.len() <= MOST_ROWS {
        return launch(x, logits, rows, &settings).map(Some);
    }
    let (mut tokens, mut told) = (Vec::new(), Vec::new());
    let parts = rows.chunks(MOST_ROWS).zip(settings.chunks(MOST_ROWS));
    for (part, (rows, settings)) in parts.enumerate() {
        let start = (part * MOST_ROWS) as i32;
        let logits = ops::slice_axis(logits, 0, start, start + rows.len() as i32)?;
        let drawn = launch(x, &logits, rows, settings)?;
        tokens.push(drawn.tokens);
        told.extend(drawn.told);
    }
    let tokens = ops::concatenate(&tokens.iter().collect::<Vec<_>>(), 0)?;
    Ok(Some(DrawnTokens { tokens, told }))
}

fn launch(x: i32, logits: &Array, rows: &[RowDraw], settings: &[&Array]) -> Result<DrawnTokens> {
    let vocabulary = logits.dim(-1);
    let given = rows.len().next_power_of_two();
    let wide = i32::from(vocabulary % 8 == 0);
    let source = Source {
        text: concat!(include_str!("logits.cuh"), include_str!("draw.cu")),
        name: c"nodemlx_draw",
        settings: vec![("X", x), ("WIDE", wide), ("ROWS", given as i32)],
    };
    let kernel = Kernel::of(&source, Block { threads: THREADS, shared_memory: 0 })?;
    let uniforms: Vec<_> = rows
        .iter()
        .map(|row| {
            let uniform = random::bits(row.draw.seed, row.draw.numbers()[0]);
            from_u32(&[(uniform >> 32) as u32, uniform as u32], &[2])
        })
        .collect();
    let mut inputs = vec![logits];
    for row in 0..given {
        let row = row.min(rows.len() - 1);
        inputs.extend([settings[row], &uniforms[row]]);
    }
    let count = [rows.len() as i32];
    let mut outputs = vec![(&count[..], Dtype::Uint32)];
    outputs.extend(vec![(&[2][..], Dtype::Uint32); given]);
    let mut told = kernel.run(rows.len(), &inputs, &outputs, &[Number::Whole(vocabulary)])?;
    let tokens = told.remove(0);
    told.truncate(rows.len());
    Ok(DrawnTokens { tokens, told })
}
