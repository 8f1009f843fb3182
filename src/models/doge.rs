//! Doge (SmallDoge 2024): Llama with biases of positions that their values make, and shares of the
//! stream that each layer keeps.

use super::config::{ConfigFile, RopeDefaults};
use super::{Architecture, LanguageModel, mlp};
use crate::error::Result;
use crate::mlx::from_f32;
use crate::nn::{DynamicMaskAttention, Norms};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["doge"], build).with_eps(1e-6);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    if file.flag("is_moe")? {
        // Their routers mix the scores of tokens that are read at once.
        return Err(file.error("\"is_moe\" is true, which is not supported"));
    }
    let mut decoder = file.decoder(&RopeDefaults::base(10_000.0))?;
    decoder.set_windows(vec![file.window_if_given()?; decoder.layers.len()]);
    let kept = file.size_or("keep_window_size", 2048)?;
    let (config, eps) = (decoder.attention, decoder.eps);
    let mut built = decoder.build_hybrid(
        w,
        |index, w| {
            let (w, layer) = (w.at("self_attn"), decoder.layers[index].clone());
            Ok(Box::new(DynamicMaskAttention::new(&w, config, layer, kept, eps)?))
        },
        mlp(file, config.dims)?,
    )?;
    for (index, layer) in built.layers.iter_mut().enumerate() {
        let Norms::Sequential { mixer, feed_forward } = &mut layer.norms else { continue };
        let w = w.at("model.layers").at(index);
        let shares = |name: &str| -> Result<_> {
            Ok(Some([w.take_f32(name, &[config.dims])?, from_f32(&[1.0], &[1])]))
        };
        mixer.gates = shares("input_residual")?;
        feed_forward.gates = shares("post_attention_residual")?;
    }
    Ok(Box::new(built))
}
