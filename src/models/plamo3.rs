//! PLaMo 3 (Preferred Networks 2025): PLaMo 2's norms around attention, most of which sees a window
//! and rotates with a base of its own.

use serde_json::json;

use super::config::ConfigFile;
use super::plamo2::{completed, decoder};
use super::{Architecture, LanguageModel};
use crate::error::Result;
use crate::nn::{Activation, Mlp, Norm, QkNorm};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["plamo3"], build).with_eps(1e-6);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file = &completed(file);
    let mut decoder = decoder(file, 1_000_000.0)?;
    decoder.attention.qk_norm = Some(QkNorm::each_head(Norm::rms_plus_one, decoder.eps));
    let base = file.optional("rope_local_theta")?.unwrap_or(10_000.0);
    let plain = file.without_rope_scaling().with([("rope_theta", json!(base))]);
    let plain = plain.without("rope_parameters");
    let local = plain.rope(decoder.attention.head_dim, Some(base), false)?;
    // The token itself is seen, too.
    let window = match file.window_if_given()? {
        Some(window) => window,
        None => file.size_or("window_size", 2048)?,
    };
    let every = file.size_or("sliding_window_pattern", 8)?.unsigned_abs() as usize;
    for (index, layer) in decoder.layers.iter_mut().enumerate() {
        if !(index + 1).is_multiple_of(every) {
            layer.span = Some(window.saturating_add(1)).into();
            layer.rope = Some(local.clone());
        }
    }
    let (dims, hidden) = (decoder.attention.dims, file.size("intermediate_size")?);
    Ok(Box::new(decoder.build(w, |_, w| {
        let names = ["gate_up_proj", "down_proj"];
        Ok(Box::new(Mlp::fused(&w.at("mlp"), names, dims, hidden, false, Activation::Silu)?))
    })?))
}
