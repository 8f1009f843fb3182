//! IQuest LoopCoder (IQuest 2026): Llama whose layers run twice, the second time with gates between
//! the keys and values of both times.

use crate::cache::Cache;
use crate::error::Result;
use crate::mlx::Array;
use crate::models::config::{ConfigFile, RopeDefaults};
use crate::models::{Architecture, LanguageModel, mlp};
use crate::nn::{
    Decoder, Embedding, LoopedAttention, Residual, SecondTime, Step, StepRows, language_model,
};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["iquestloopcoder"], build);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    file.expect_number("loop_num", 2.0)?;
    let decoder = file.decoder(&RopeDefaults::base(500_000.0))?;
    let (window, second) = (file.size_or("loop_window_size", 64)?, SecondTime::default());
    let gates = language_model(w).at("gate_projections");
    let decoder = decoder.build_hybrid(
        w,
        |index, w| {
            let (config, layer) = (&decoder.attention, decoder.layers[index].clone());
            let (w, gates) = (w.at("self_attn"), gates.at(index));
            let second = second.clone();
            Ok(Box::new(LoopedAttention::new(&w, &gates, config, layer, window, second)?))
        },
        mlp(file, decoder.attention.dims)?,
    )?;
    Ok(Box::new(Loops { decoder, window, second }))
}

/// A decoder whose layers run twice, each time with caches of their own.
struct Loops {
    decoder: Decoder,
    window: i32,
    second: SecondTime,
}

impl LanguageModel for Loops {
    fn forward(&self, step: &Step, caches: &mut [&mut [Cache]]) -> Result<Array> {
        let Self { decoder, second, .. } = self;
        let mut stream = Residual::from(decoder.embed(step.tokens())?);
        let mut rows = StepRows::new(step, caches)?;
        for (time, is_second) in [false, true].into_iter().enumerate() {
            second.set(is_second);
            for (layer, block) in decoder.layers.iter().enumerate() {
                let mut rows = rows.layer(time * decoder.layers.len() + layer)?;
                stream = block.forward(&stream, &mut rows)?;
            }
        }
        decoder.logits(step, &stream)
    }

    fn make_caches(&self) -> Vec<Cache> {
        let second = self.decoder.layers.iter().map(|_| Cache::rotating(self.window, 0));
        self.decoder.make_caches().into_iter().chain(second).collect()
    }

    fn layers(&self) -> usize {
        self.decoder.layers.len()
    }

    fn embedding(&self) -> &Embedding {
        &self.decoder.embedding
    }
}
