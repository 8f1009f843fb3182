//! Fields that some architectures have, with values that no model can have.

use std::ops::ControlFlow;

use nodemlx::mlx::{self, DeviceKind};
use nodemlx::models::{self, LoadOptions};
use serde_json::{Value, json};

use super::{copy_of, edit_config, edit_header, expect};

/// Each value of a field must be refused by the configuration's reader, which names the field.
#[track_caller]
fn expect_refusal(fixture: &str, field: &str, values: &[Value]) {
    for value in values {
        let dir = copy_of(fixture);
        edit_config(&dir, |config| {
            let fields = match config.get_mut("text_config") {
                Some(text) => text.as_object_mut().unwrap(),
                None => config,
            };
            fields.insert(field.to_owned(), value.clone());
        });
        expect(&dir, "INVALID_CONFIG", &["config.json", field]);
    }
}

#[test]
fn absurd_numbers_of_experts_are_refused() {
    let absurd = [json!(0), json!(-1), json!(1_u64 << 40), json!("many"), json!(1.5)];
    expect_refusal("deepseek-v3", "n_routed_experts", &absurd);
    expect_refusal("glm4-moe", "n_routed_experts", &absurd);
    expect_refusal("llama4", "num_local_experts", &absurd);
    expect_refusal("mixtral", "num_local_experts", &absurd);
    expect_refusal("qwen3-moe", "num_experts", &absurd);
    expect_refusal("deepseek-v3", "n_shared_experts", &[json!(1 << 23)]);
}

#[test]
fn more_experts_than_were_counted_are_missing() {
    for experts in [5, 1 << 24] {
        let dir = copy_of("glm4-moe-raw-normed");
        edit_config(&dir, |config| {
            config.insert("n_routed_experts".to_owned(), json!(experts));
        });
        expect(&dir, "INVALID_WEIGHTS", &["mlp.gate.weight"]);
    }
}

#[test]
fn a_token_cannot_be_sent_to_more_experts_than_there_are() {
    let absurd = [json!(0), json!(-2), json!(129), json!(1_u64 << 40)];
    for fixture in ["deepseek-v3", "glm4-moe", "mixtral", "gpt-oss", "qwen3-moe", "qwen2-moe"] {
        expect_refusal(fixture, "num_experts_per_tok", &absurd);
    }
    expect_refusal("llama4", "num_experts_per_tok", &[json!(0), json!(2)]);
    expect_refusal("phixtral", "num_experts_per_tok", &[json!(0), json!(5)]);
    expect_refusal("kimi-linear", "num_experts_per_token", &[json!(0), json!(5)]);
    // Of four experts and three that give what they get.
    expect_refusal("longcat-flash", "moe_topk", &[json!(0), json!(8)]);
    expect_refusal("longcat-flash-ngram", "moe_topk", &[json!(0), json!(8)]);
}

#[test]
fn groups_that_do_not_divide_the_experts_are_refused() {
    // Of four experts, in groups of two at least.
    expect_refusal("glm4-moe", "n_group", &[json!(0), json!(-2), json!(3), json!(4), json!(8)]);
    expect_refusal("deepseek-v3", "n_group", &[json!(0), json!(3), json!(1_u64 << 40)]);
    expect_refusal("deepseek-v3", "topk_group", &[json!(0), json!(3)]);
    // One of four groups has two experts, and three are wanted.
    expect_refusal("glm4-moe-groups", "topk_group", &[json!(1)]);
}

#[test]
fn latent_attention_without_features_is_refused() {
    let absurd = [json!(0), json!(-1), json!(1_u64 << 33), json!("wide")];
    let widths =
        ["kv_lora_rank", "q_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"];
    for field in widths {
        expect_refusal("deepseek-v3", field, &absurd);
    }
    expect_refusal("deepseek-v3", "num_attention_heads", &[json!(0), json!(1 << 20)]);
    expect_refusal("deepseek-v3", "moe_layer_freq", &[json!(0)]);
    let dir = copy_of("deepseek-v3");
    edit_config(&dir, |config| {
        config.insert("qk_rope_head_dim".to_owned(), json!(7));
    });
    expect(&dir, "INVALID_CONFIG", &["cannot rotate 7 features"]);
}

#[test]
fn blocks_of_no_size_and_other_8_bit_floats_are_refused() {
    let blocks = [json!([0, 128]), json!([128]), json!([-1, 128]), json!(128)];
    for block in blocks {
        let dir = copy_of("deepseek-v3-raw-fp8");
        edit_config(&dir, |config| {
            config["quantization_config"]["weight_block_size"] = block.clone();
        });
        expect(&dir, "INVALID_CONFIG", &["weight_block_size"]);
    }
    let dir = copy_of("deepseek-v3-raw-fp8");
    edit_config(&dir, |config| config["quantization_config"]["fmt"] = json!("e5m2"));
    expect(&dir, "UNSUPPORTED", &["e5m2"]);
}

#[test]
fn blocks_without_their_scales_are_named() {
    let scales = "model.layers.0.self_attn.q_a_proj.weight_scale_inv";
    let dir = copy_of("deepseek-v3-raw-fp8");
    edit_header(&dir, |header| {
        let tensor = header.remove(scales).unwrap();
        header.insert("elsewhere".to_owned(), tensor);
    });
    expect(&dir, "INVALID_WEIGHTS", &[scales, "is missing", "q_a_proj.weight"]);
    let dir = copy_of("deepseek-v3-raw-fp8");
    edit_config(&dir, |config| {
        config["quantization_config"]["weight_block_size"] = json!([8, 8]);
    });
    expect(&dir, "INVALID_WEIGHTS", &["weight_scale_inv", "no grid of blocks"]);
}

#[test]
fn chunks_of_no_size_are_refused() {
    let absurd = [json!(0), json!(-8), json!("all"), json!(1_u64 << 40)];
    for fixture in ["llama4", "llama4-text"] {
        expect_refusal(fixture, "attention_chunk_size", &absurd);
        expect_refusal(fixture, "head_dim", &absurd);
        expect_refusal(fixture, "no_rope_layers", &[json!([1]), json!([1, 1, 1]), json!("none")]);
    }
    expect_refusal("llama4", "interleave_moe_layer_step", &[json!(0)]);
    expect_refusal("llama4", "floor_scale", &[json!(0)]);
}

#[test]
fn a_rotation_of_more_than_a_head_is_refused() {
    let absurd = [json!(0), json!(-0.5), json!(1.5), json!("half")];
    for fixture in ["glm4-moe", "phi", "phi3-partial-su"] {
        expect_refusal(fixture, "partial_rotary_factor", &absurd);
    }
}

#[test]
fn recurrent_heads_that_do_not_fit_are_refused() {
    let absurd = [json!(0), json!(-1), json!(3), json!(1_u64 << 40)];
    expect_refusal("nemotron-h", "n_groups", &absurd);
    expect_refusal("granitemoehybrid", "mamba_n_groups", &absurd);
    expect_refusal("qwen3-next", "linear_num_key_heads", &absurd);
    expect_refusal("qwen3-5", "linear_num_key_heads", &absurd);
    // Of four heads, which together would be too wide.
    expect_refusal("mamba2", "head_dim", &[json!(0), json!(1 << 23)]);
    expect_refusal("qwen3-next", "linear_value_head_dim", &[json!(0), json!(1 << 23)]);
    expect_refusal("mamba2", "time_step_limit", &[json!([0.1]), json!("auto")]);
    expect_refusal("lfm2", "conv_L_cache", &[json!(0), json!(-1)]);
    expect_refusal("recurrent-gemma-raw", "lru_width", &[json!(0), json!(66), json!("wide")]);
    expect_refusal("bamba-raw-biases", "mamba_n_groups", &[json!(0), json!(3)]);
    expect_refusal("plamo2", "mamba_num_heads", &[json!(0), json!(1_u64 << 40)]);
    expect_refusal("plamo2", "mamba_step", &[json!(0)]);
    expect_refusal("rwkv7", "head_dim", &[json!(0), json!(7)]);
    expect_refusal("rwkv7", "a_low_rank_dim", &[json!(0), Value::Null]);
    let heads = |heads: i64| json!({ "kda_layers": [1, 3], "num_heads": heads, "head_dim": 8 });
    let refused = [heads(0), heads(1 << 40)];
    for heads in refused {
        let dir = copy_of("kimi-linear");
        edit_config(&dir, |config| {
            config.insert("linear_attn_config".to_owned(), heads);
        });
        expect(&dir, "INVALID_CONFIG", &["config.json", "linear_num_heads"]);
    }
}

#[test]
fn layers_of_unknown_kinds_are_refused() {
    let patterns = [json!("M*X"), json!(["M", "mixer"]), json!(5)];
    expect_refusal("nemotron-h", "hybrid_override_pattern", &patterns);
    expect_refusal(
        "granitemoehybrid",
        "layer_types",
        &[json!(["mamba"]), json!(["mamba", "conv"])],
    );
    expect_refusal(
        "qwen3-5",
        "layer_types",
        &[json!(["full_attention"]), json!(["conv", "conv", "conv"])],
    );
    expect_refusal("lfm2-layer-types", "layer_types", &[json!(["conv"]), json!("conv")]);
    expect_refusal("recurrent-gemma", "block_types", &[json!([]), json!(["conv"]), json!("all")]);
    expect_refusal("olmo-hybrid", "layer_types", &[json!(["full_attention"]), json!("all")]);
    expect_refusal("kimi-linear", "layer_types", &[json!(["full_attention"])]);
}

#[test]
fn a_layer_that_is_said_to_attend_must_have_the_tensors() {
    let dir = copy_of("qwen3-next");
    edit_config(&dir, |config| {
        let kinds = json!(["full_attention", "linear_attention", "linear_attention"]);
        config.insert("layer_types".to_owned(), kinds);
    });
    expect(&dir, "INVALID_WEIGHTS", &["layers.0.self_attn"]);
}

#[test]
fn a_rotation_that_is_not_understood_is_refused() {
    // Of an architecture that rotates whole heads, a rule's field that no rule has, and rotations
    // that differ between layers where all have the same.
    expect_refusal("llama", "partial_rotary_factor", &[json!(0.5)]);
    for rope in [
        json!({ "rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": 0.5 }),
        json!({ "rope_type": "default", "rope_theta": 10_000.0, "llama_4_scaling_beta": 0.1 }),
        json!({ "rope_type": "dynamic", "factor": 2.0, "alpha": 1000.0 }),
        json!({ "full_attention": { "rope_theta": 1e6 }, "sliding_attention": { "rope_theta": 1e4 } }),
        json!("default"),
    ] {
        for field in ["rope_parameters", "rope_scaling"] {
            let dir = copy_of("llama");
            edit_config(&dir, |config| {
                config.insert(field.to_owned(), rope.clone());
            });
            expect(&dir, "INVALID_CONFIG", &["config.json"]);
        }
    }
}

#[test]
fn heads_of_single_layers_are_refused_where_they_are_not_known() {
    expect_refusal("llama", "per_layer_config", &[json!({ "1": { "head_dim": 12 } })]);
    let unknown = json!({ "1": { "intermediate_size": 12 } });
    expect_refusal("gemma4-text-raw", "per_layer_config", &[unknown, json!({ "one": {} })]);
    expect_refusal("gemma4-text-raw", "per_layer_config", &[json!({ "1": { "head_dim": 12 } })]);
}

#[test]
fn what_an_architecture_is_not_written_for_is_refused() {
    expect_refusal("gpt-oss", "swiglu_limit", &[json!(5.0)]);
    expect_refusal("gpt-oss", "swiglu_alpha", &[json!(1.5)]);
    expect_refusal("laguna", "moe_router_score_func", &[json!("softmax")]);
    expect_refusal("nanbeige", "loop_share_kv", &[json!(true)]);
    expect_refusal("iquestloopcoder", "loop_num", &[json!(1), json!(3)]);
    expect_refusal("iquestloopcoder", "loop_window_size", &[json!(0), json!(-1)]);
    expect_refusal("nanbeige", "num_loops", &[json!(0), json!(1 << 20)]);
    expect_refusal("gemma4-text", "use_bidirectional_attention", &[json!("all")]);
    expect_refusal("codegen-raw", "n_head", &[json!(2), json!(0)]);
    expect_refusal("ctrl-raw", "n_embd", &[json!(33), json!(0)]);
    expect_refusal("modernbert-decoder-raw", "local_attention", &[json!(0), json!(1)]);
    expect_refusal("kolibri1-raw", "sliding_window", &[Value::Null, json!(0)]);
    expect_refusal("aria-text-raw", "moe_num_shared_experts", &[json!(0), json!(1_u64 << 40)]);
    expect_refusal("aria-text-raw", "moe_topk", &[json!(0), json!(5)]);
    let absurd = [json!(0), json!(-1), json!(65)];
    expect_refusal("gpt-neox-japanese-raw", "intermediate_multiple_size", &absurd);
    expect_refusal("kimi-linear", "moe_router_activation_func", &[json!("tanh")]);
    expect_refusal("longcat-flash", "zero_expert_type", &[json!("drop")]);
    expect_refusal("longcat-flash", "attention_method", &[json!("MHA")]);
    expect_refusal("longcat-flash", "zero_expert_num", &[json!(-8), json!(1_u64 << 40)]);
    expect_refusal("longcat-flash-ngram", "emb_neighbor_num", &[json!(1), json!(0)]);
    expect_refusal("longcat-flash-ngram", "emb_split_num", &[json!(0), json!(1000)]);
    let absurd = [json!(0), json!(1_u64 << 40)];
    expect_refusal("longcat-flash-ngram", "ngram_vocab_size_ratio", &absurd);
    expect_refusal("deepseek-v41", "engram_layer_ids", &[json!([1])]);
    expect_refusal("deepseek-v41", "scoring_func", &[json!("tanh")]);
    expect_refusal("deepseek-v41", "o_groups", &[json!(3), json!(0)]);
    expect_refusal("deepseek-v41", "index_head_dim", &[json!(4), json!(-1)]);
    expect_refusal("deepseek-v41", "compress_ratios", &[json!([0, 4, 2]), json!([0, -4, -4])]);
    expect_refusal("deepseek-v41-plain", "index_source_layer_ids", &[json!([0])]);
    expect_refusal("deepseek-v41-plain", "compress_ratios", &[json!([2, 3, 1])]);
    expect_refusal("deepseek-v41", "hc_mult", &[json!(0), json!(1 << 20)]);
    expect_refusal("muse-spark", "num_shared_experts", &[json!(1)]);
    expect_refusal("doge-raw", "is_moe", &[json!(true)]);
    expect_refusal("doge-raw", "keep_window_size", &absurd);
    expect_refusal("phi3small", "blocksparse_block_size", &absurd);
    expect_refusal("phi3small", "blocksparse_vert_stride", &absurd);
    expect_refusal("phi3small", "dense_attention_every_n_layers", &[json!(-1)]);
    expect_refusal("plamo-traditional", "n_shared_head", &[json!(0), json!(-1)]);
    expect_refusal("spark2-5", "gate_attn_act_mode", &[json!("tanh")]);
    expect_refusal("spark2-5", "headwise_attn_output_gate", &[json!(false)]);
    expect_refusal("baichuan-m1", "conv_window", &[json!(3)]);
    expect_refusal("mpt-raw", "logit_scale", &[json!(0.5), json!("inv_sqrt_d_model")]);
    for field in ["qk_ln", "prefix_lm"] {
        let dir = copy_of("mpt-raw");
        edit_config(&dir, |config| {
            config.insert("attn_config".to_owned(), json!({ field: true }));
        });
        expect(&dir, "INVALID_CONFIG", &["config.json", field]);
    }
}

#[test]
fn packs_with_rotations_that_cannot_be_are_refused() {
    let fixture = "prism-hadamard-qwen35";
    let module = |block: i32| json!([{ "path": "model.embed_tokens", "block": block }]);
    expect_refusal(fixture, "modules", &[module(3), module(-512), module(256), json!(1)]);
    expect_refusal(fixture, "schema_version", &[json!(2), json!(3)]);
    expect_refusal(fixture, "gdn_activation_layout", &[json!("flat")]);
    let twice = copy_of(fixture);
    edit_config(&twice, |config| {
        let modules = config["modules"].as_array_mut().unwrap();
        modules.push(modules[0].clone());
    });
    expect(&twice, "INVALID_CONFIG", &["modules", "twice"]);
    let wide = copy_of(fixture);
    edit_config(&wide, |config| config["modules"][0]["block"] = json!(1024));
    expect(&wide, "INVALID_WEIGHTS", &["embed_tokens.signs", "blocks of 1024"]);
    let unnamed = copy_of(fixture);
    edit_config(&unnamed, |config| {
        config["modules"].as_array_mut().unwrap().remove(0);
    });
    expect(&unnamed, "INVALID_WEIGHTS", &["embed_tokens.signs"]);
}

#[test]
fn activations_that_mixers_do_not_have_are_refused() {
    for fixture in ["mamba", "mamba2", "bamba-raw", "falcon-h1", "granitemoehybrid", "jamba"] {
        expect_refusal(fixture, "hidden_act", &[json!("gelu"), json!("sine")]);
    }
    for fixture in ["bailing-moe-v3", "kimi-linear", "olmo-hybrid", "qwen3-5", "qwen3-next"] {
        expect_refusal(fixture, "hidden_act", &[json!("gelu"), json!("sine")]);
    }
    expect_refusal("nemotron-h", "mamba_hidden_act", &[json!("gelu")]);
}

/// The language model of Kimi K3 has another `model_type`, which is that of a smaller model, too.
#[test]
fn sizes_that_a_part_does_not_say_are_those_of_the_whole() {
    for (whole, size) in [("kimi_k3", "7168"), ("kimi_linear", "2304")] {
        let dir = copy_of("kimi-k3");
        edit_config(&dir, |config| {
            config.insert("model_type".to_owned(), json!(whole));
            let text = config["text_config"].as_object_mut().unwrap();
            text.retain(|field, _| !["hidden_size", "hidden_act"].contains(&field.as_str()));
        });
        expect(&dir, "INVALID_WEIGHTS", &["embed_tokens", size]);
    }
}

#[test]
fn heads_of_an_odd_number_of_features_are_fine_where_nothing_is_rotated() {
    mlx::enter(DeviceKind::Cpu).unwrap();
    for (fixture, heads) in [
        ("biogpt-raw", "num_attention_heads"),
        ("bloom-raw", "n_head"),
        ("ctrl-raw", "n_head"),
        ("gpt-neo-raw", "num_heads"),
        ("gpt2-raw", "n_head"),
        ("mpt-raw", "n_heads"),
        ("openai-gpt-raw", "n_head"),
        ("opt-raw", "num_attention_heads"),
        ("xglm-raw", "attention_heads"),
    ] {
        let dir = copy_of(fixture);
        edit_config(&dir, |config| {
            config.insert(heads.to_owned(), json!(32));
        });
        let options = LoadOptions::default();
        let loaded = models::load(dir.path(), &options, &mut |_| ControlFlow::Continue(()));
        let model = loaded.unwrap_or_else(|error| panic!("{fixture}: {error}")).model;
        let tokens = mlx::from_u32(&[1, 2, 3], &[1, 3]);
        let logits = model.logits(&tokens, &mut model.make_caches()).unwrap();
        assert!(mlx::to_f32_vec(&logits).unwrap().iter().all(|it| it.is_finite()), "{fixture}");
    }
}
