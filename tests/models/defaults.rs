//! What configurations leave out is what transformers takes for it, where mlx-lm takes something
//! else.

use std::ops::ControlFlow;
use std::path::Path;

use nodemlx::cache::Cache;
use nodemlx::fused::{Device, Precision};
use nodemlx::mlx::{self, DeviceKind, Dtype};
use nodemlx::models::{self, LoadOptions, Loaded};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::{Golden, logits, relative_error};

/// Fixtures, a field, what it is where nothing is said, and another value for it.
fn cases() -> Vec<(&'static str, &'static str, Value, Value)> {
    let base = |base: f32| (json!(base), json!(3.0 * base));
    let bases = [
        ("aria-text-raw", base(1e4)),
        ("flint-raw", base(1e4)),
        ("kolibri1-raw", base(1e4)),
        ("phimoe-raw", base(1e6)),
        ("qwen2-raw", base(1e4)),
        ("qwen2-moe-raw", base(1e4)),
        ("qwen2-vl-raw", base(1e6)),
        ("qwen3-raw", base(1e4)),
        ("qwen3-vl-raw", base(5e5)),
        ("smollm3-raw", base(2e6)),
        ("starcoder2-raw", base(1e4)),
        ("youtu-llm-raw", base(1e4)),
    ];
    let nested = |base: f32| json!({"rope_theta": base, "partial_rotary_factor": 0.25});
    let bases =
        bases.into_iter().map(|(fixture, (usual, other))| (fixture, "rope_theta", usual, other));
    bases
        .chain([
            ("aria-text-raw", "hidden_act", json!("silu"), json!("gelu")),
            ("aria-text-raw", "moe_topk", json!(2), json!(1)),
            ("aria-text-raw", "rms_norm_eps", json!(1e-6), json!(1e-2)),
            ("cohere-compass-text-raw", "layer_norm_eps", json!(1e-5), json!(1e-2)),
            ("cohere-compass-text-raw", "logit_scale", json!(1.0), json!(0.5)),
            ("ctrl-raw", "layer_norm_epsilon", json!(1e-6), json!(1e-2)),
            ("flint-raw", "norm_topk_prob", json!(true), json!(false)),
            ("flint-raw", "rms_norm_eps", json!(1e-6), json!(1e-2)),
            ("kolibri1-raw", "norm_topk_prob", json!(false), json!(true)),
            ("kolibri1-raw", "rms_norm_eps", json!(1e-6), json!(1e-2)),
            ("modernbert-decoder-raw", "classifier_activation", json!("gelu"), json!("relu")),
            ("modernbert-decoder-raw", "global_rope_theta", json!(160_000.0), json!(500.0)),
            ("modernbert-decoder-raw", "hidden_activation", json!("gelu"), json!("relu")),
            ("modernbert-decoder-raw", "local_attention", json!(128), json!(16)),
            ("modernbert-decoder-raw", "local_rope_theta", json!(10_000.0), json!(500.0)),
            ("qwen2-vl-raw", "rms_norm_eps", json!(1e-5), json!(1e-2)),
            ("qwen3-vl-moe-raw", "norm_topk_prob", json!(true), json!(false)),
            ("phi-raw", "hidden_act", json!("gelu_new"), json!("relu")),
            ("phi-raw", "partial_rotary_factor", json!(0.5), json!(0.25)),
            ("phi3-raw-longrope", "max_position_embeddings", json!(4096), json!(8192)),
            ("qwen3-5-raw", "rope_parameters", nested(1e4), nested(3e4)),
            ("qwen3-next-raw", "norm_topk_prob", json!(true), json!(false)),
            ("recurrent-gemma-raw", "logits_soft_cap", json!(30.0), Value::Null),
        ])
        .collect()
}

/// The logits of a fixture whose configuration has this value for a field, or does not have it.
fn logits_with(fixture: &str, field: &str, value: Option<&Value>) -> Vec<f32> {
    logits_of(fixture, |fields| {
        match value {
            Some(value) => fields.insert(field.to_owned(), value.clone()),
            None => fields.remove(field),
        };
    })
}

/// The logits of a fixture whose language model's configuration is changed.
fn logits_of(fixture: &str, edit: impl FnOnce(&mut Map<String, Value>)) -> Vec<f32> {
    run(edited(fixture, edit).path(), &Golden::read(&seeded::folder(fixture)).tokens)
}

/// A fixture whose language model's configuration is changed.
pub(super) fn edited(fixture: &str, edit: impl FnOnce(&mut Map<String, Value>)) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    seeded::copy(&seeded::folder(fixture), copy.path());
    let path = copy.path().join("config.json");
    let mut config: Map<String, Value> =
        serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let fields = match config.get_mut("text_config") {
        Some(text) => text.as_object_mut().unwrap(),
        None => &mut config,
    };
    edit(fields);
    std::fs::write(&path, serde_json::to_vec(&config).unwrap()).unwrap();
    copy
}

fn run(folder: &Path, tokens: &[u32]) -> Vec<f32> {
    logits(&*load(folder).model, tokens, tokens.len())
}

fn load(folder: &Path) -> Loaded {
    let device = Device::cpu(Some(1), Precision::Exact);
    let options = LoadOptions { device, dtype: Some(Dtype::Float32), ..LoadOptions::default() };
    models::load(folder, &options, &mut |_| ControlFlow::Continue(())).unwrap()
}

#[test]
fn what_is_left_out_is_what_transformers_takes_for_it() {
    mlx::enter(DeviceKind::Cpu).unwrap();
    for (fixture, field, usual, other) in cases() {
        let left_out = logits_with(fixture, field, None);
        let case = format!("{fixture} without {field}");
        assert_eq!(left_out, logits_with(fixture, field, Some(&usual)), "{case}");
        let error = relative_error(&left_out, &logits_with(fixture, field, Some(&other)));
        assert!(error > 1e-4, "{case}: the field changes nothing ({error:.1e})");
    }
}

#[test]
fn an_epsilon_that_is_left_out_is_that_of_the_kind_of_model() {
    mlx::enter(DeviceKind::Cpu).unwrap();
    let logits = |model_type: &str, eps: Option<f64>| {
        logits_of("llama-raw", |fields| {
            fields.insert("model_type".to_owned(), json!(model_type));
            fields.insert("head_dim".to_owned(), json!(8));
            fields.remove("rms_norm_eps");
            fields.extend(eps.map(|eps| ("rms_norm_eps".to_owned(), json!(eps))));
        })
    };
    assert_eq!(logits("llama", None), logits("llama", Some(1e-6)));
    assert_eq!(logits("iquestcoder", None), logits("iquestcoder", Some(1e-5)));
    assert_ne!(logits("iquestcoder", None), logits("llama", None));
}

#[test]
fn a_window_that_is_left_out_is_usual_and_one_that_is_null_is_none() {
    mlx::enter(DeviceKind::Cpu).unwrap();
    let windows = |fixture: &str, used: bool, value: Option<Value>| {
        let folder = edited(fixture, |fields| {
            fields.remove("sliding_window");
            fields.insert("use_sliding_window".to_owned(), json!(used));
            fields.insert("max_window_layers".to_owned(), json!(0));
            fields.extend(value.map(|value| ("sliding_window".to_owned(), value)));
        });
        let caches = load(folder.path()).model.make_caches();
        let window = |cache: &Cache| match cache {
            Cache::Rotating(cache) => Some(cache.window()),
            _ => None,
        };
        caches.iter().map(window).collect::<Vec<_>>()
    };
    for fixture in ["mistral-raw", "qwen2-raw", "qwen3-raw", "gemma3-text-raw"] {
        let usual = windows(fixture, true, None);
        assert!(usual.contains(&Some(4096)), "{fixture}: {usual:?}");
        let (said, none) = (windows(fixture, true, Some(json!(8))), windows(fixture, false, None));
        assert!(said.contains(&Some(8)) && !said.contains(&Some(4096)), "{fixture}: {said:?}");
        if fixture.starts_with("qwen") {
            assert!(none.iter().all(Option::is_none), "{fixture}: {none:?}");
        }
    }
    for fixture in ["mistral-raw", "qwen2-raw", "smollm3-raw"] {
        let none = windows(fixture, true, Some(Value::Null));
        assert!(none.iter().all(Option::is_none), "{fixture}: {none:?}");
    }
}

#[test]
fn a_bound_of_dbrx_that_is_true_is_one() {
    mlx::enter(DeviceKind::Cpu).unwrap();
    let logits =
        |bound: Value| logits_of("dbrx-raw", |fields| fields["attn_config"]["clip_qkv"] = bound);
    assert_eq!(logits(json!(true)), logits(json!(1.0)));
    assert_ne!(logits(json!(true)), logits(json!(0.1)));
}

#[test]
fn a_unified_gemma_4_has_no_inputs_of_each_layer_unless_it_says_so() {
    mlx::enter(DeviceKind::Cpu).unwrap();
    let unified = logits_of("gemma4-raw-moe", |fields| {
        fields.insert("model_type".to_owned(), json!("gemma4_unified_text"));
        fields.remove("hidden_size_per_layer_input");
        fields.remove("num_kv_shared_layers");
    });
    assert_eq!(unified, logits_of("gemma4-raw-moe", |_| {}));
}

#[test]
fn biases_that_no_field_speaks_of_are_those_of_the_checkpoint() {
    mlx::enter(DeviceKind::Cpu).unwrap();
    for (fixture, has_bias) in [("seed-oss-raw", true), ("seed-oss-raw-biases", false)] {
        let left_out = logits_with(fixture, "attention_bias", None);
        let said = logits_with(fixture, "attention_bias", Some(&json!(has_bias)));
        assert_eq!(left_out, said, "{fixture}");
    }
}

#[test]
fn features_of_heads_that_no_field_speaks_of_are_those_of_the_checkpoint() {
    mlx::enter(DeviceKind::Cpu).unwrap();
    for fixture in ["internlm3", "qwen3-5-raw", "qwen3-5-moe-raw"] {
        let left_out = logits_with(fixture, "head_dim", None);
        assert_eq!(left_out, logits_of(fixture, |_| {}), "{fixture}");
    }
}

#[test]
fn queries_grow_by_either_name_of_the_rotation() {
    mlx::enter(DeviceKind::Cpu).unwrap();
    for fixture in ["ministral3", "mistral4"] {
        let renamed = logits_of(fixture, |fields| {
            let rotation = fields.remove("rope_parameters").unwrap();
            fields.insert("rope_scaling".to_owned(), rotation);
        });
        assert_eq!(renamed, logits_of(fixture, |_| {}), "{fixture}");
    }
}
