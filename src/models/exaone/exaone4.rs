//! EXAONE 4 (LG AI Research 2025): norms after the blocks and over each query and key head. The
//! larger models have layers within a window, beside which those that see all positions do not look
//! at them.

use crate::error::Result;
use crate::models::config::{ConfigFile, RopeDefaults};
use crate::models::{Architecture, LanguageModel, mlp};
use crate::nn::{Norm, NormLayout, QkNorm};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["exaone4"], build);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let mut decoder = file.decoder(&RopeDefaults::base(10_000.0))?;
    decoder.layout = NormLayout::POST;
    decoder.attention.qk_norm = Some(QkNorm::each_head(Norm::rms, decoder.eps));
    if file.unless_null("sliding_window", 4096)?.is_some() {
        for (layer, window) in decoder.layers.iter_mut().zip(file.windows(4096, 4)?) {
            layer.span = window.into();
            layer.rope = layer.rope.take().filter(|_| window.is_some());
        }
    }
    Ok(Box::new(decoder.build(w, mlp(file, decoder.attention.dims)?)?))
}
