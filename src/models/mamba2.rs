//! Mamba 2 (Dao and Gu 2024): nothing but recurrent layers.

use super::config::{ConfigFile, Mamba2Fields};
use super::{Architecture, LanguageModel};
use crate::error::Result;
use crate::nn::{Backbone, BackboneConfig, Block, Mamba2};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["mamba2"], build);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let own_state = file.optional::<i32>("ssm_state_size")?.is_some();
    file.expect_silu("hidden_act")?;
    let mixer = file.mamba2(&Mamba2Fields {
        heads: "num_heads",
        head_dim: "head_dim",
        state: if own_state { "ssm_state_size" } else { "state_size" },
        groups: "n_groups",
        kernel: "conv_kernel",
        conv_bias: "use_conv_bias",
        projection_bias: "use_bias",
    })?;
    let config = BackboneConfig {
        vocabulary: file.size("vocab_size")?,
        dims: mixer.dims,
        layers: file.layers()?,
        eps: mixer.eps,
        tied: file.optional("tie_word_embeddings")?,
    };
    Ok(Box::new(Backbone::new(w, config, |_, w| {
        Ok(Block::Mixer(Box::new(Mamba2::new(w, mixer)?)))
    })?))
}
