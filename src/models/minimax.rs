//! MiniMax M2 (MiniMax 2025): norms over all queries and all keys, a rotation of the first part of
//! each head, and experts that are chosen by corrected logistic scores.

use crate::error::Result;
use crate::models::config::{ConfigFile, RopeDefaults};
use crate::models::{Architecture, LanguageModel};
use crate::nn::{ExpertNames, Moe, MoeConfig, Norm, QkNorm, Routing, Score};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["minimax", "minimax_m2"], build)
    .with_eps(1e-6)
    .ignoring(|_, tensor| tensor.starts_with("model.mtp"));

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let rope = RopeDefaults { base: Some(5_000_000.0), traditional: false, share: Some(1.0) };
    let mut decoder = file.decoder(&rope)?;
    if file.flag_on("use_qk_norm")? {
        decoder.attention.qk_norm = Some(QkNorm::all_heads(Norm::rms, decoder.eps));
    }
    let experts = file.size("num_local_experts")?;
    let (score, groups, normalize, scale) = (Score::Sigmoid, None, true, 1.0);
    let config = MoeConfig {
        dims: decoder.attention.dims,
        hidden: file.size("intermediate_size")?,
        experts,
        active: file.active_experts(experts, Some(8))?,
        activation: file.activation()?,
        routing: Routing::ScoresThenTop { score, groups, normalize, scale },
    };
    let names = ExpertNames {
        correction: &["e_score_correction_bias"],
        single: ["w1", "w3", "w2"],
        ..ExpertNames::default()
    };
    Ok(Box::new(
        decoder
            .build(w, |_, w| Ok(Box::new(Moe::new(&w.at("block_sparse_moe"), config, names)?)))?,
    ))
}
