//! Encoders, embedders and cross-encoders against the oracle: the files of sentence-transformers,
//! the states of transformers. Beside them what must be refused.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test fails by panicking")]

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use nodemlx::cache::Cache;
use nodemlx::convert::{ConvertOptions, convert};
use nodemlx::error::{Error, Result};
use nodemlx::fused::Device;
use nodemlx::generate::{EmbeddedText, Segmented, TextPart, classify, embeddings, read_texts};
use nodemlx::mlx::{self, Dtype};
use nodemlx::models::{self, EmbedOptions, LoadOptions, Loaded, Pooling};
use nodemlx::nn::Step;
use serde::Deserialize;
use serde_json::{Value, json};

const TOLERANCE: f32 = 1e-4;

#[derive(Deserialize)]
struct Golden {
    tokens: Vec<Vec<u32>>,
    outputs: Vec<Vec<f32>>,
}

fn golden(folder: &Path) -> Golden {
    serde_json::from_slice(&fs::read(folder.join("golden.json")).unwrap()).unwrap()
}

fn load(folder: &Path, device: Device) -> Result<Loaded> {
    let options = LoadOptions { device, dtype: Some(Dtype::Float32), ..LoadOptions::default() };
    models::load(folder, &options, &mut |_| ControlFlow::Continue(()))
}

fn begin(loaded: &Loaded, options: &EmbedOptions) -> EmbeddedText {
    let pooled = loaded.embedder.as_ref().unwrap().begin(options);
    EmbeddedText { caches: loaded.model.make_caches(), pooled }
}

/// The embeddings of texts that are read together, those of causal models in parts.
fn embed(
    loaded: &Loaded,
    texts: &[Vec<u32>],
    part: usize,
    options: &EmbedOptions,
) -> Vec<Vec<f32>> {
    let mut begun: Vec<EmbeddedText> = texts.iter().map(|_| begin(loaded, options)).collect();
    let longest = texts.iter().map(Vec::len).max().unwrap();
    for start in (0..longest).step_by(part) {
        let mut parts = Vec::new();
        for (tokens, text) in texts.iter().zip(&mut begun) {
            let end = tokens.len().min(start + part);
            if start < end {
                let is_last = end == tokens.len();
                parts.push(TextPart { tokens: &tokens[start..end], is_last, text });
            }
        }
        read_texts(&*loaded.model, &mut parts).unwrap();
    }
    embeddings(loaded.embedder.as_ref().unwrap(), &begun, options).unwrap()
}

fn judge(loaded: &Loaded, texts: &[Vec<u32>]) -> Vec<Vec<f32>> {
    let segmented = texts.iter().map(|tokens| Segmented {
        tokens: tokens.clone(),
        segments: (0..tokens.len()).map(|at| u32::from(at >= tokens.len() / 2)).collect(),
    });
    classify(&*loaded.model, &segmented.collect::<Vec<_>>()).unwrap()
}

fn compare(name: &str, actual: &[Vec<f32>], expected: &[Vec<f32>]) {
    assert_eq!(actual.len(), expected.len(), "{name}");
    for (index, (actual, expected)) in actual.iter().zip(expected).enumerate() {
        assert_eq!(actual.len(), expected.len(), "{name}, text {index}");
        for (a, b) in actual.iter().zip(expected) {
            assert!((a - b).abs() < TOLERANCE, "{name}, text {index}: {a} is not {b}");
        }
    }
}

#[test]
fn embeddings_and_labels_agree_with_the_reference() {
    let mut count = 0;
    for name in seeded::names_in("embedders") {
        let folder = seeded::folder_in("embedders", &name);
        let Golden { tokens, outputs } = golden(&folder);
        for device in [Device::default(), Device::default().plain()] {
            let loaded = load(&folder, device).unwrap_or_else(|error| panic!("{name}: {error}"));
            let abilities = loaded.model.abilities();
            if abilities.labels.is_some() {
                assert_eq!(abilities.labels, Some(outputs[0].len()), "{name}");
                compare(&name, &judge(&loaded, &tokens), &outputs);
                assert!(loaded.embedder.is_none() && !abilities.writes, "{name}");
                continue;
            }
            let info = loaded.embedder.as_ref().unwrap().info();
            assert_eq!(info.dimensions, outputs[0].len(), "{name}");
            assert_eq!(loaded.info.max_text_tokens, Some(48), "{name}");
            assert_eq!(info.prompts["query"], "find: ", "{name}");
            let options = EmbedOptions::default();
            compare(&name, &embed(&loaded, &tokens, 1000, &options), &outputs);
            let alone: Vec<_> = tokens
                .iter()
                .flat_map(|text| embed(&loaded, std::slice::from_ref(text), 1000, &options))
                .collect();
            compare(&name, &alone, &outputs);
            if !abilities.reads_whole {
                compare(&name, &embed(&loaded, &tokens, 4, &options), &outputs);
            }
        }
        count += 1;
    }
    assert!(count >= 12, "{count} fixtures");
}

#[test]
fn options_stand_for_what_the_files_say() {
    let folder = seeded::folder_in("embedders", "bert");
    let loaded = load(&folder, Device::default()).unwrap();
    let Golden { tokens, outputs } = golden(&folder);
    let length = |row: &[f32]| row.iter().map(|x| x * x).sum::<f32>().sqrt();
    let short = EmbedOptions { dimensions: Some(5), ..EmbedOptions::default() };
    for (row, whole) in embed(&loaded, &tokens, 1000, &short).iter().zip(&outputs) {
        let scale = length(&whole[..5]);
        let expected: Vec<f32> = whole[..5].iter().map(|x| x / scale).collect();
        compare("short", std::slice::from_ref(row), &[expected]);
    }
    let raw = EmbedOptions { normalize: Some(false), ..EmbedOptions::default() };
    let raw = embed(&loaded, &tokens, 1000, &raw);
    assert!((length(&raw[0]) - 1.0).abs() > 0.1);
    // The dense layer belongs to the pooling of the files.
    let other = EmbedOptions { pooling: Some(Pooling::First), ..EmbedOptions::default() };
    assert_eq!(embed(&loaded, &tokens, 1000, &other)[0].len(), 32);
    let most = EmbedOptions { dimensions: Some(25), ..EmbedOptions::default() };
    let text = begin(&loaded, &most);
    let embedder = loaded.embedder.as_ref().unwrap();
    assert!(embedder.finish(&[&text.pooled], &most).is_err());
}

#[test]
fn what_embeds_writes_nothing() {
    for name in ["bert", "gemma3", "modernbert", "qwen3", "xlm-roberta-judge"] {
        let loaded = load(&seeded::folder_in("embedders", name), Device::default()).unwrap();
        assert!(!loaded.model.abilities().writes, "{name}");
        let tokens = mlx::from_u32(&[5, 6], &[1, 2]);
        let mut caches = loaded.model.make_caches();
        let error = loaded.model.logits(&tokens, &mut caches).unwrap_err();
        assert_eq!(error.code(), "UNSUPPORTED", "{name}: {error}");
    }
}

#[test]
fn a_text_that_is_seen_as_a_whole_is_not_read_in_parts() {
    let loaded = load(&seeded::folder_in("embedders", "bert"), Device::default()).unwrap();
    let mut caches: Vec<Cache> = loaded.model.make_caches();
    let tokens = mlx::from_u32(&[5, 6], &[1, 2]);
    loaded.model.states(&Step::of_one(&tokens), &mut [&mut caches]).unwrap();
    let error = loaded.model.states(&Step::of_one(&tokens), &mut [&mut caches]).unwrap_err();
    assert_eq!(error.code(), "UNSUPPORTED");
}

/// A copy of a fixture one of whose files was changed.
fn changed(name: &str, file: &str, change: impl Fn(&mut Value)) -> tempfile::TempDir {
    let source = seeded::folder_in("embedders", name);
    let folder = tempfile::tempdir().unwrap();
    seeded::copy(&source, folder.path());
    let path = folder.path().join(file);
    let mut content: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut content);
    fs::write(&path, content.to_string()).unwrap();
    folder
}

/// The error of loading such a copy.
fn refused(name: &str, file: &str, change: impl Fn(&mut Value)) -> Error {
    let folder = changed(name, file, change);
    load(folder.path(), Device::default()).err().unwrap_or_else(|| panic!("{file} was taken"))
}

#[test]
fn without_files_pooling_is_that_of_sentence_transformers() {
    let cases = [
        ("bert", json!({}), Pooling::Mean),
        ("qwen3", json!({ "architectures": ["Qwen3Model"] }), Pooling::Mean),
        ("qwen3", json!({ "architectures": ["Qwen3ForCausalLM"] }), Pooling::Last),
        (
            "qwen3",
            json!({ "architectures": ["Qwen3ForCausalLM"], "is_causal": false }),
            Pooling::Mean,
        ),
    ];
    for (name, fields, pooling) in cases {
        let folder = changed(name, "config.json", |config| {
            config.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        });
        fs::remove_file(folder.path().join("modules.json")).unwrap();
        let loaded = load(folder.path(), Device::default()).unwrap();
        let info = loaded.embedder.as_ref().unwrap().info();
        assert_eq!((&*info.pooling, info.is_declared), (&[pooling][..], false), "{name} {fields}");
        assert_eq!((info.dimensions, info.normalizes), (32, false));
        let tokens = golden(folder.path()).tokens;
        let given = EmbedOptions { pooling: Some(pooling), ..EmbedOptions::default() };
        let expected = embed(&loaded, &tokens, 1000, &given);
        compare(name, &embed(&loaded, &tokens, 1000, &EmbedOptions::default()), &expected);
    }
}

#[test]
fn a_file_can_limit_tokens_and_dimensions() {
    let folder = changed("xlm-roberta", "config_sentence_transformers.json", |it| {
        it["truncate_dim"] = json!(8);
    });
    fs::remove_file(folder.path().join("sentence_bert_config.json")).unwrap();
    let limit = |limit: Value| {
        let content = json!({ "model_max_length": limit }).to_string();
        fs::write(folder.path().join("tokenizer_config.json"), content).unwrap();
        load(folder.path(), Device::default()).unwrap().info.max_text_tokens
    };
    assert_eq!(limit(json!(40)), Some(40));
    // What transformers writes where it knows of no limit.
    assert_eq!(limit(json!(1e30)), None);
    assert_eq!(limit(Value::Null), None);
    let content = json!({ "max_seq_length": 30 }).to_string();
    fs::write(folder.path().join("sentence_xlm-roberta_config.json"), content).unwrap();
    let loaded = load(folder.path(), Device::default()).unwrap();
    assert_eq!(loaded.info.max_text_tokens, Some(30));
    let info = loaded.embedder.as_ref().unwrap().info();
    assert_eq!((info.dimensions, info.max_dimensions), (8, 32));
    let tokens = golden(folder.path()).tokens;
    let rows = |options: &EmbedOptions| embed(&loaded, &tokens, 1000, options);
    assert_eq!(rows(&EmbedOptions::default())[0].len(), 8);
    let more = EmbedOptions { dimensions: Some(20), ..EmbedOptions::default() };
    assert_eq!(rows(&more)[0].len(), 20);
}

#[test]
fn a_pooling_that_a_conversion_left_out_is_that_without_files() {
    let folder = changed("qwen3", "config.json", |it| {
        it["architectures"] = json!(["Qwen3ForCausalLM"]);
    });
    fs::remove_dir_all(folder.path().join("1_Pooling")).unwrap();
    let loaded = load(folder.path(), Device::default()).unwrap();
    assert!(loaded.info.warnings.iter().any(|it| it.message.contains("\"lasttoken\"")));
    let Golden { tokens, outputs } = golden(folder.path());
    compare("qwen3", &embed(&loaded, &tokens, 1000, &EmbedOptions::default()), &outputs);
}

#[test]
fn a_conversion_keeps_the_modules() {
    for name in ["qwen3", "gemma3"] {
        let source = seeded::folder_in("embedders", name);
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("converted");
        let dtype = Some(Dtype::Float32);
        let options = ConvertOptions { dtype, ..ConvertOptions::default() };
        convert(&source, &target, &options, &mut |_| ControlFlow::Continue(())).unwrap();
        let loaded = load(&target, Device::default()).unwrap();
        let Golden { tokens, outputs } = golden(&source);
        compare(name, &embed(&loaded, &tokens, 1000, &EmbedOptions::default()), &outputs);
    }
}

#[test]
fn nomic_is_read_as_it_is_published() {
    let folder = changed("nomic-bert", "config.json", |config| {
        *config = json!({
            "activation_function": "swiglu",
            "architectures": ["NomicBertModel"],
            "causal": false,
            "layer_norm_epsilon": 1e-2,
            "max_trained_positions": 2048,
            "mlp_fc1_bias": false,
            "mlp_fc2_bias": false,
            "model_type": "nomic_bert",
            "n_embd": 32,
            "n_head": 4,
            "n_inner": 48,
            "n_layer": 2,
            "n_positions": 64,
            "prenorm": false,
            "qkv_proj_bias": false,
            "rotary_emb_base": 1000,
            "rotary_emb_fraction": 1.0,
            "rotary_emb_interleaved": false,
            "rotary_emb_scale_base": null,
            "rotary_scaling_factor": null,
            "type_vocab_size": 2,
            "use_rms_norm": false,
            "vocab_size": 64
        });
    });
    let loaded = load(folder.path(), Device::default()).unwrap();
    assert_eq!(loaded.info.context_length, Some(64));
    let Golden { tokens, outputs } = golden(folder.path());
    compare("nomic", &embed(&loaded, &tokens, 1000, &EmbedOptions::default()), &outputs);
}

#[test]
fn a_model_that_writes_needs_no_files_that_embed() {
    let name = "qwen3";
    let folder = changed(name, "modules.json", |it| it[1]["type"] = json!("a.LogitScore"));
    let path = folder.path().join("config.json");
    let error = load(folder.path(), Device::default()).err().unwrap();
    assert!(error.to_string().contains("LogitScore"), "{error}");
    // With a head it can do something else.
    let source = seeded::folder("qwen3");
    fs::copy(source.join("config.json"), path).unwrap();
    fs::copy(source.join("model.safetensors"), folder.path().join("model.safetensors")).unwrap();
    let loaded = load(folder.path(), Device::default()).unwrap();
    assert!(loaded.embedder.is_none() && loaded.model.abilities().writes);
    let warning = loaded.info.warnings.iter().find(|it| it.message.contains("LogitScore")).unwrap();
    assert_eq!(warning.code.as_str(), "UNUSABLE_FILE");
}

#[test]
fn files_that_ask_for_what_is_not_known_are_refused() {
    type Change = fn(&mut Value);
    let cases: [(&str, Change, &str); 14] = [
        ("modules.json", |it| it[0]["path"] = json!("0_Transformer"), "load that folder"),
        ("modules.json", |it| *it = json!([it[0]]), "no pooling"),
        (
            "config_sentence_transformers.json",
            |it| it["truncate_dim"] = json!(25),
            "\"truncate_dim\" is 25, of 24",
        ),
        ("modules.json", |it| it[1]["type"] = json!("a.WordWeights"), "\"WordWeights\""),
        ("modules.json", |it| it[1]["path"] = json!("../1_Pooling"), "leads out"),
        ("modules.json", |it| it[1]["path"] = json!("/etc"), "leads out"),
        ("modules.json", |it| it[0]["path"] = json!(5), "invalid type"),
        ("1_Pooling/config.json", |it| it["pooling_mode"] = json!("median"), "\"median\""),
        ("2_Dense/config.json", |it| it["activation_function"] = json!("a.Sine"), "\"a.Sine\""),
        ("2_Dense/config.json", |it| it["in_features"] = json!(16), "has 16 inputs, and gets 32"),
        ("2_Dense/config.json", |it| it["out_features"] = json!(-1), "-1 outputs"),
        ("2_Dense/config.json", |it| it["use_residual"] = json!(true), "use_residual"),
        (
            "config_sentence_transformers.json",
            |it| it["default_prompt_name"] = json!("nothing"),
            "\"nothing\" is none",
        ),
        ("config.json", |it| it["position_embedding_type"] = json!("relative_key"), "relative_key"),
    ];
    for (file, change, part) in cases {
        let error = refused("bert", file, change);
        assert_eq!(error.code(), "INVALID_CONFIG", "{file}: {error}");
        assert!(error.to_string().contains(part), "{file}: {error}");
    }
}
