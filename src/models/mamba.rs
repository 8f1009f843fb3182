//! Mamba (Gu and Dao 2023) and Falcon Mamba: nothing but recurrent layers.

use serde_json::{Value, json};

use crate::error::Result;
use crate::models::config::ConfigFile;
use crate::models::{Architecture, LanguageModel};
use crate::nn::{Backbone, BackboneConfig, Block, Mamba, MambaConfig, Norm};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["mamba", "falcon_mamba"], build);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file = &with_older_names(file);
    let dims = file.size("hidden_size")?;
    let inner = match file.optional::<i64>("intermediate_size")? {
        Some(_) => file.size("intermediate_size")?,
        None => dims.saturating_mul(file.size_or("expand", 2)?),
    };
    let rank = match file.optional::<Value>("time_step_rank")? {
        Some(Value::Number(_)) => file.size("time_step_rank")?,
        _ => (dims + 15) / 16,
    };
    file.expect_silu("hidden_act")?;
    let normed = file.flag("use_bcdt_rms")? || file.model_type()? == "falcon_mamba";
    let eps = file.optional("mixer_rms_eps")?.unwrap_or(1e-6);
    let config = MambaConfig {
        dims,
        inner: file.bounded("intermediate_size", inner.into(), 1 << 22)?,
        state: file.bounded("state_size", file.require("state_size")?, 1 << 10)?,
        kernel: file.size("conv_kernel")?,
        rank,
        conv_bias: file.flag_on("use_conv_bias")?,
        projection_bias: file.flag("use_bias")?,
        norm: normed.then_some((Norm::unweighted, eps)),
    };
    let backbone = BackboneConfig {
        vocabulary: file.size("vocab_size")?,
        dims,
        layers: file.layers()?,
        eps: file.eps()?,
        tied: file.optional("tie_word_embeddings")?,
    };
    Ok(Box::new(Backbone::new(w, backbone, |_, w| {
        Ok(Block::Mixer(Box::new(Mamba::new(w, config)?)))
    })?))
}

/// The names of the first configurations, and what may be left out.
fn with_older_names(file: &ConfigFile) -> ConfigFile {
    let names = &[
        ("hidden_size", "d_model"),
        ("intermediate_size", "d_inner"),
        ("state_size", "d_state"),
        ("num_hidden_layers", "n_layer"),
        ("conv_kernel", "d_conv"),
    ];
    let older = file.optional::<i64>("d_model").is_ok_and(|size| size.is_some());
    let file = if older { file.renamed(names) } else { file.clone() };
    file.with_defaults([("state_size", json!(16)), ("conv_kernel", json!(4))])
}
