//! RWKV 7 (Peng et al. 2025), "Goose": nothing but recurrent layers, each with a block that mixes
//! times and one that mixes channels.

use super::config::ConfigFile;
use super::{Architecture, LanguageModel};
use crate::error::Result;
use crate::nn::{
    Backbone, Block, ChannelMixing, Embedding, FirstValues, Head, Norm, Rwkv7Config, TimeMixing,
};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["rwkv7"], build);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let (dims, head_dim) = (file.size("hidden_size")?, file.size_or("head_dim", 64)?);
    if dims % head_dim != 0 {
        return Err(file.error(format!("\"hidden_size\" {dims} is not a multiple of \"head_dim\"")));
    }
    let config = Rwkv7Config {
        dims,
        head_dim,
        hidden: file.size_or("intermediate_size", dims.saturating_mul(4))?,
        decay_rank: file.size("decay_low_rank_dim")?,
        rate_rank: file.size("a_low_rank_dim")?,
        value_rank: file.size("v_low_rank_dim")?,
        gate_rank: file.size("gate_low_rank_dim")?,
    };
    let (model, eps, first) = (w.at("model"), file.eps()?, FirstValues::default());
    let mut layers = Vec::new();
    for index in 0..file.layers()? {
        let w = model.at("layers").at(index);
        let times = TimeMixing::new(&w.at("attn"), config, first.clone(), index == 0)?;
        let norm = |name: &str| Norm::layer(&w.at(name), dims, eps);
        layers.push((norm("attn_norm")?, Block::Mixer(Box::new(times))));
        let channels = ChannelMixing::new(&w.at("ffn"), config)?;
        layers.push((norm("ffn_norm")?, Block::Continued(Box::new(channels))));
    }
    let (embedding, vocabulary) = (model.at("embeddings"), file.size("vocab_size")?);
    let tied = file.optional("tie_word_embeddings")?;
    Ok(Box::new(Backbone {
        embedding: Embedding::new(&embedding, vocabulary, dims)?,
        embedding_norm: Some(Norm::layer(&model.at("layers.0.pre_norm"), dims, eps)?),
        layers,
        norm: Norm::layer(&model.at("norm"), dims, eps)?,
        head: Head::new(&w.at("lm_head"), &embedding, tied, dims, vocabulary)?,
        prediction: None,
    }))
}
