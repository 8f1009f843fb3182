//! LongCat Flash (Meituan 2025): each layer is two, with latent attention and an MLP each, and
//! experts beside both, some of which give what they get.

use serde_json::json;

use super::config::{ConfigFile, LatentDecoder};
use super::{Architecture, LanguageModel};
use crate::error::Result;
use crate::nn::{
    BlockNorms, Decoder, DecoderLayer, Embedding, ExpertNames, Experts, FeedForward, Head, Mlp,
    Moe, MoeConfig, Norm, Norms, Router, Routing, Score, Shortcut, language_model,
};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture =
    Architecture::new(&["longcat_flash"], build).ignoring(ignores);

/// Whether a tensor is of the part that predicts a token more, or stands for nothing.
pub(super) fn ignores(file: &ConfigFile, tensor: &str) -> bool {
    tensor.starts_with("model.mtp") || is_of_identity(file, tensor)
}

/// Whether a tensor belongs to an expert that gives what it gets: transformers saves some for
/// these, too.
fn is_of_identity(file: &ConfigFile, tensor: &str) -> bool {
    let expert = tensor.split_once(".mlp.experts.").and_then(|(_, rest)| rest.split('.').next());
    let expert = expert.and_then(|expert| expert.parse::<i32>().ok());
    expert.zip(file.size("n_routed_experts").ok()).is_some_and(|(expert, real)| expert >= real)
}

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    Ok(Box::new(decoder(&completed(file), w, "embed_tokens")?))
}

/// With the sizes that a configuration leaves out.
pub(super) fn completed(file: &ConfigFile) -> ConfigFile {
    file.renamed(&[
        ("num_hidden_layers", "num_layers"),
        ("intermediate_size", "ffn_hidden_size"),
        ("moe_intermediate_size", "expert_ffn_hidden_size"),
        ("num_experts_per_tok", "moe_topk"),
    ])
    .with_defaults([
        ("hidden_size", json!(6144)),
        ("intermediate_size", json!(12_288)),
        ("moe_intermediate_size", json!(2048)),
        ("num_hidden_layers", json!(28)),
        ("num_attention_heads", json!(64)),
        ("n_routed_experts", json!(512)),
        ("q_lora_rank", json!(1536)),
        ("kv_lora_rank", json!(512)),
        ("qk_nope_head_dim", json!(128)),
        ("qk_rope_head_dim", json!(64)),
        ("v_head_dim", json!(128)),
        ("vocab_size", json!(131_072)),
        ("tie_word_embeddings", json!(false)),
    ])
}

/// The decoder that a completed configuration describes, with the name of its embedding.
pub(super) fn decoder(file: &ConfigFile, w: &Weights, embedding: &str) -> Result<Decoder> {
    for (field, known) in [("zero_expert_type", "identity"), ("attention_method", "MLA")] {
        if file.optional::<String>(field)?.is_some_and(|value| value != known) {
            return Err(file.error(format!("\"{field}\" is not \"{known}\"")));
        }
    }
    let latent = latent(file)?;
    let (dims, eps) = (latent.attention.dims, latent.decoder.eps);
    let (hidden, activation) = (file.size("intermediate_size")?, file.activation()?);
    let experts = experts(file, dims)?;
    let model = language_model(w);
    let mut layers = Vec::new();
    for index in 0..latent.decoder.layers.len() {
        let w = model.at("layers").at(index);
        let shortcut = Shortcut::default();
        for half in 0..2 {
            let norm = |name: &str| Norm::rms(&w.at(name).at(half), dims, eps).map(Some);
            let mlp = Mlp::new(&w.at("mlps").at(half), dims, hidden, false, activation)?;
            let feed_forward: Box<dyn FeedForward> = match half {
                0 => Box::new(shortcut.from(Box::new(mlp), Box::new(experts(&w.at("mlp"))?))),
                _ => Box::new(shortcut.to(Box::new(mlp))),
            };
            layers.push(DecoderLayer {
                mixer: latent.attention_of(&w.at("self_attn").at(half))?,
                feed_forward,
                norms: Norms::Sequential {
                    mixer: BlockNorms { before: norm("input_layernorm")?, ..BlockNorms::default() },
                    feed_forward: BlockNorms {
                        before: norm("post_attention_layernorm")?,
                        ..BlockNorms::default()
                    },
                },
            });
        }
    }
    let (embedding, vocabulary) = (model.at(embedding), latent.decoder.vocabulary);
    Ok(Decoder {
        embedding: Embedding::new(&embedding, vocabulary, dims)?,
        embedding_projection: None,
        embedding_scale: None,
        embedding_norm: None,
        positions: None,
        layers,
        norm: Some(Norm::rms(&model.at("norm"), dims, eps)?),
        head_projection: None,
        before_head: None,
        head: Head::new(&w.at("lm_head"), &embedding, latent.decoder.tied, dims, vocabulary)?,
        logit_scale: None,
        logit_cap: None,
        unwritten: None,
        prediction: None,
    })
}

/// Latent attention whose compressed queries and latent vectors are as long as features of the
/// residual stream.
fn latent(file: &ConfigFile) -> Result<LatentDecoder> {
    let mut latent = file.latent_decoder(10_000_000.0, true)?;
    let (dims, rank) = (latent.attention.dims as f32, latent.attention.kv_lora_rank);
    let Some(q_rank) = latent.attention.q_lora_rank else {
        return Err(file.error("\"q_lora_rank\" is missing"));
    };
    let factor = |field: &str, rank: i32| -> Result<f32> {
        let scaled = file.flag_on(field)?;
        Ok(if scaled { (dims / rank as f32).sqrt() } else { 1.0 })
    };
    latent.attention.norm_scales =
        [factor("mla_scale_q_lora", q_rank)?, factor("mla_scale_kv_lora", rank)?];
    Ok(latent)
}

/// Takes a layer's experts.
fn experts(file: &ConfigFile, dims: i32) -> Result<impl Fn(&Weights) -> Result<Moe> + use<>> {
    let experts = file.size("n_routed_experts")?;
    let identities = file.optional("zero_expert_num")?.unwrap_or(256_i64);
    let all =
        file.bounded("zero_expert_num", identities.saturating_add(experts.into()), 1 << 24)?;
    let config = MoeConfig {
        dims,
        hidden: file.size("moe_intermediate_size")?,
        experts,
        active: file.active_experts(all, Some(12))?,
        activation: file.activation()?,
        routing: Routing::ScoresThenTop {
            score: Score::Softmax,
            groups: None,
            normalize: file.flag("norm_topk_prob")?,
            scale: file.optional("routed_scaling_factor")?.unwrap_or(6.0),
        },
    };
    let bias = file.flag("router_bias")?;
    Ok(move |w: &Weights| {
        let router = w.at("router");
        let correction = router.take_f32("e_score_correction_bias", &[all])?;
        let of_all = MoeConfig { experts: all, ..config };
        let router = Router::new(&router.at("classifier"), of_all, bias)?;
        let moe = Moe::of(
            router.with_correction(correction),
            Experts::new(w, config, ExpertNames::default())?,
        );
        Ok(moe.with_identities_from(config.experts))
    })
}
