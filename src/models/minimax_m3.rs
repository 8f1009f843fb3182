//! MiniMax M3 (MiniMax 2026): Gemma's norms, a clipped activation, experts beside one that sees
//! every token, and layers that look at the blocks of positions which an indexer chooses.

use serde_json::{Map, Value, json};

use super::config::{ConfigFile, RopeDefaults};
use super::{Architecture, LanguageModel};
use crate::error::Result;
use crate::nn::{
    Activation, BlockIndexerConfig, BlockSparseAttention, Combine, ExpertNames, Experts, Mlp, Moe,
    Norm, QkNorm, clipped_swiglu,
};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["minimax_m3_vl"], build)
    .with_eps(1e-6)
    .ignoring(|_, tensor| tensor.starts_with("mtp.") || tensor.contains(".mtp."));

const NAMES: ExpertNames = ExpertNames {
    router: "gate",
    correction: &["e_score_correction_bias"],
    single: ["w1", "w3", "w2"],
    stacked: ["switch_mlp.gate_proj", "switch_mlp.up_proj", "switch_mlp.down_proj"],
    fused: ["experts.gate_up_proj", "experts.down_proj"],
};

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let mut file = with_defaults(file)?;
    // A share wins over a number, as in transformers.
    if file.says_rope_field("partial_rotary_factor")? {
        file = file.without("rotary_dim");
    }
    let file = &file;
    let share = Some(0.5);
    let rope = RopeDefaults { base: Some(5_000_000.0), traditional: false, share };
    let mut decoder = file.decoder(&rope)?;
    let eps = decoder.eps;
    let norm = match file.flag_on("use_gemma_norm")? {
        true => Norm::rms_plus_one,
        false => Norm::rms,
    };
    decoder.norm = norm;
    if file.flag_on("use_qk_norm")? {
        decoder.attention.qk_norm = Some(QkNorm::each_head(norm, eps));
    }
    let (dims, heads, head_dim) =
        (decoder.attention.dims, decoder.attention.heads, decoder.attention.head_dim);
    let limit = file.optional("swiglu_limit")?.unwrap_or(7.0);
    let alpha = file.optional("swiglu_alpha")?.unwrap_or(1.702);
    let combine = Combine { function: clipped_swiglu, numbers: [limit, alpha] };
    let [dense, shared] =
        [file.size("dense_intermediate_size")?, file.size("shared_intermediate_size")?];
    // Its name for the activation is not one of others.
    let layers = file.without("hidden_act").sparse_layers(dims)?;
    let rotated = match file.optional("rotary_dim")? {
        Some(rotated) => file.bounded("rotary_dim", rotated, head_dim.into())?,
        None => (head_dim as f32 * file.rotated_share(share)?) as i32,
    };
    let index_head = |field: &str| file.bounded(field, file.require(field)?, 1 << 14);
    let index_dim = index_head("index_head_dim")?;
    let indexer = BlockIndexerConfig {
        dims,
        heads: index_head("index_n_heads")?,
        head_dim: index_dim,
        query_heads: heads,
        block: file.size("index_block_size")?,
        top_k: file.size("index_topk_blocks")?,
        local: file.optional("index_local_blocks")?.unwrap_or(1),
        norm,
        eps,
        rope: file.rope(rotated.min(index_dim), rope.base, false)?,
    };
    let mlp = |w: &Weights, hidden: i32| -> Result<_> {
        Ok(Mlp::new(w, dims, hidden, false, Activation::Silu)?.combined(combine))
    };
    Ok(Box::new(decoder.build_hybrid(
        w,
        |index, w| {
            let w = w.at("self_attn");
            let attention = decoder.attention.build(&w, decoder.layers[index].clone())?;
            // Which layers have an indexer is said by fields of many names, or not at all.
            let indexer = w.at("index_q_proj").has("weight").then(|| indexer.clone());
            if let Some(heads_of_index) = indexer.as_ref().map(|it| it.heads)
                && heads % heads_of_index != 0
            {
                let message =
                    format!("\"index_n_heads\" {heads_of_index} does not divide {heads} heads");
                return Err(file.error(message));
            }
            Ok(Box::new(BlockSparseAttention::new(&w, attention, indexer)?))
        },
        |index, w| {
            let block = w.at("block_sparse_moe");
            if let (true, Some(config)) = (layers.sparse[index], layers.experts) {
                let experts = Experts::combining(&block, config, NAMES, combine)?;
                let moe = Moe::of(NAMES.router(&block, config)?, experts);
                return Ok(Box::new(moe.with_shared(mlp(&block.at("shared_experts"), shared)?)));
            }
            let is_there = block.at("gate_proj").has("weight");
            Ok(Box::new(mlp(&if is_there { block } else { w.at("mlp") }, dense)?))
        },
    )?))
}

/// The defaults of fields, with those of `sparse_attention_config` beside the others.
fn with_defaults(file: &ConfigFile) -> Result<ConfigFile> {
    const INDEX: [(&str, &str); 5] = [
        ("index_n_heads", "sparse_num_index_heads"),
        ("index_head_dim", "sparse_index_dim"),
        ("index_block_size", "sparse_block_size"),
        ("index_topk_blocks", "sparse_topk_blocks"),
        ("index_local_blocks", "sparse_local_block"),
    ];
    let mut file = file.clone();
    let own: Map<String, Value> = file.optional("sparse_attention_config")?.unwrap_or_default();
    for (field, name) in INDEX {
        // Null where no layer has an indexer.
        if !file.says(field) {
            file = file.without(field);
        }
        if let Some(value) = own.get(name).filter(|value| !value.is_null()) {
            file = file.with([(field, value.clone())]);
        }
    }
    let hidden: i64 = file.optional("intermediate_size")?.unwrap_or(3072);
    Ok(file.with_defaults([
        ("hidden_size", json!(6144)),
        ("intermediate_size", json!(hidden)),
        ("moe_intermediate_size", json!(hidden)),
        ("dense_intermediate_size", json!(12288)),
        ("shared_intermediate_size", json!(3072)),
        ("num_attention_heads", json!(64)),
        ("num_key_value_heads", json!(4)),
        ("num_hidden_layers", json!(60)),
        ("num_local_experts", json!(128)),
        ("num_experts_per_tok", json!(4)),
        ("head_dim", json!(128)),
        ("vocab_size", json!(200_064)),
        ("routed_scaling_factor", json!(2.0)),
        ("index_n_heads", json!(4)),
        ("index_head_dim", json!(128)),
        ("index_block_size", json!(128)),
        ("index_topk_blocks", json!(16)),
    ]))
}
