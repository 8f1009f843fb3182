//! Nanbeige 4.2 (Nanbeige 2026): Llama whose layers run several times, each time with caches of
//! their own.

use serde_json::Value;

use crate::cache::Cache;
use crate::error::Result;
use crate::mlx::Array;
use crate::models::config::{ConfigFile, RopeDefaults};
use crate::models::{Architecture, LanguageModel, mlp};
use crate::nn::{Decoder, Embedding, Residual, Step, StepRows};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["nanbeige"], build);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    for field in ["enable_double_loop_split", "loop_share_kv", "enable_depth_attention"] {
        if file.flag(field)? {
            return Err(file.error(format!("\"{field}\" is not supported")));
        }
    }
    // Each loop but the first has a weight, where these are said.
    let weights: Vec<Value> = file.optional("loop_loss_weights")?.unwrap_or_default();
    let loops = match weights.len() {
        0 => file.bounded("num_loops", file.optional("num_loops")?.unwrap_or(1), 1 << 10)?,
        count => file.bounded("loop_loss_weights", count as i64 + 1, 1 << 10)?,
    };
    let decoder = file.decoder(&RopeDefaults::base(10_000.0))?;
    let decoder = decoder.build(w, mlp(file, decoder.attention.dims)?)?;
    let loops = loops.unsigned_abs() as usize;
    Ok(Box::new(Looped { decoder, loops, norm_between: !file.flag("skip_loop_final_norm")? }))
}

/// A decoder whose layers run several times.
struct Looped {
    decoder: Decoder,
    loops: usize,
    /// Whether the last norm stands behind each loop, and not behind the last one alone.
    norm_between: bool,
}

impl LanguageModel for Looped {
    fn forward(&self, step: &Step, caches: &mut [&mut [Cache]]) -> Result<Array> {
        let Self { decoder, loops, norm_between } = self;
        let mut stream = Residual::from(decoder.embed(step.tokens())?);
        let mut rows = StepRows::new(step, caches)?;
        for index in 0..*loops {
            if *norm_between && index > 0 {
                stream = Residual::from(decoder.head_input(&stream)?);
            }
            for (layer, block) in decoder.layers.iter().enumerate() {
                let mut rows = rows.layer(index * decoder.layers.len() + layer)?;
                stream = block.forward(&stream, &mut rows)?;
            }
        }
        decoder.logits(step, &stream)
    }

    fn make_caches(&self) -> Vec<Cache> {
        (0..self.loops).flat_map(|_| self.decoder.make_caches()).collect()
    }

    fn layers(&self) -> usize {
        self.decoder.layers.len()
    }

    fn embedding(&self) -> &Embedding {
        &self.decoder.embedding
    }
}
