//! Klear (Kwai 2025): Qwen 3 MoE with experts chosen by corrected logistic scores, weighed against
//! one that sees every token.

use crate::error::Result;
use crate::models::config::{ConfigFile, RopeDefaults};
use crate::models::qwen::{experts, sparse_layers};
use crate::models::{Architecture, LanguageModel, mlp};
use crate::nn::{ExpertNames, Linear, Moe, MoeConfig, Norm, QkNorm, Routing, Score};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["Klear"], build);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let mut decoder = file.decoder(&RopeDefaults::base(500_000.0))?;
    decoder.attention.qk_norm = Some(QkNorm::each_head(Norm::rms, decoder.eps));
    let dims = decoder.attention.dims;
    let config = MoeConfig {
        routing: Routing::ScoresThenTop {
            score: Score::Sigmoid,
            groups: None,
            normalize: file.flag("norm_topk_prob")?,
            scale: 1.0,
        },
        ..experts(file, dims)?
    };
    let shared = i64::from(config.hidden) * i64::from(file.size_or("n_shared_experts", 1)?);
    let shared = file.bounded("n_shared_experts", shared, 1 << 24)?;
    let names = ExpertNames {
        correction: &["expert_bias"],
        stacked: ["experts.gate_proj", "experts.up_proj", "experts.down_proj"],
        ..ExpertNames::default()
    };
    let (sparse, dense) = (sparse_layers(file)?, mlp(file, dims)?);
    Ok(Box::new(decoder.build(w, |index, layer| {
        if !sparse(index) {
            return dense(index, layer);
        }
        let w = layer.at("mlp");
        let moe =
            Moe::new(&w, config, names)?.with_shared_mlp(&w.at("shared_experts"), shared, false)?;
        Ok(Box::new(moe.weighed_by(Linear::new(&w.at("coefficient"), dims, 2, true)?)))
    })?))
}
