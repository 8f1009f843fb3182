//! Broken model folders: each gives a coded error that names the file and what is wrong with it, at
//! once, whatever sizes the file claims.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod architectures;
mod folders;

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use nodemlx::error::Error;
use nodemlx::mlx::{self, DeviceKind, memory};
use nodemlx::models::{self, LoadOptions};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

/// A copy of a fixture, to be broken.
fn copy_of(fixture: &str) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(seeded::folder(fixture)).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    copy
}

/// The error of loading a folder. It must come at once, and without the memory that the folder
/// claims to need.
fn error_of(dir: &Path) -> Error {
    mlx::enter(DeviceKind::Cpu).unwrap();
    let started = Instant::now();
    let result = models::load(dir, &LoadOptions::default(), &mut |_| ControlFlow::Continue(()));
    assert!(started.elapsed() < Duration::from_secs(30), "took {:?}", started.elapsed());
    assert!(memory::peak().unwrap() < 64 << 20, "took {} bytes", memory::peak().unwrap());
    match result {
        Ok(_) => panic!("the folder was loaded"),
        Err(error) => error,
    }
}

#[track_caller]
fn expect(dir: &TempDir, code: &str, words: &[&str]) {
    let error = error_of(dir.path());
    let text = error.to_string();
    assert_eq!(error.code(), code, "{text}");
    for word in words {
        assert!(text.contains(word), "\"{text}\" does not say \"{word}\"");
    }
}

fn edit_config(dir: &TempDir, edit: impl FnOnce(&mut Map<String, Value>)) {
    let path = dir.path().join("config.json");
    let mut config: Map<String, Value> = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    edit(&mut config);
    fs::write(path, serde_json::to_vec(&config).unwrap()).unwrap();
}

/// Rewrites the header of `model.safetensors`; the index, which would notice first, is removed.
fn edit_header(dir: &TempDir, edit: impl FnOnce(&mut Map<String, Value>)) {
    let _ = fs::remove_file(dir.path().join("model.safetensors.index.json"));
    let path = dir.path().join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: Map<String, Value> = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    edit(&mut header);
    let header = serde_json::to_vec(&header).unwrap();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header);
    file.extend(&bytes[8 + length..]);
    fs::write(path, file).unwrap();
}

const NORM: &str = "model.norm.weight";

#[test]
fn a_folder_without_a_config_is_no_model() {
    expect(&tempfile::tempdir().unwrap(), "MODEL_NOT_FOUND", &["config.json"]);
}

#[test]
fn a_folder_without_weights_says_what_was_looked_for() {
    let dir = copy_of("llama");
    fs::remove_file(dir.path().join("model.safetensors")).unwrap();
    fs::remove_file(dir.path().join("model.safetensors.index.json")).unwrap();
    expect(&dir, "MODEL_NOT_FOUND", &["model.safetensors"]);
}

#[test]
fn a_config_that_is_not_json_is_named() {
    for text in ["", "{", "[]", "null", "\u{0}", "{\"model_type\": \"llama\""] {
        let dir = copy_of("llama");
        fs::write(dir.path().join("config.json"), text).unwrap();
        expect(&dir, "INVALID_CONFIG", &["config.json"]);
    }
}

#[test]
fn a_deeply_nested_config_does_not_end_the_process() {
    let dir = copy_of("llama");
    fs::write(dir.path().join("config.json"), "[".repeat(1 << 20)).unwrap();
    expect(&dir, "INVALID_CONFIG", &["config.json"]);
}

#[test]
fn a_missing_field_is_named() {
    // What is usual does not fit the tensors.
    for (field, code) in [
        ("hidden_size", "INVALID_WEIGHTS"),
        ("num_attention_heads", "INVALID_CONFIG"),
        ("vocab_size", "INVALID_WEIGHTS"),
    ] {
        let dir = copy_of("llama");
        edit_config(&dir, |config| {
            config.remove(field);
        });
        expect(&dir, code, &["config.json", field]);
    }
    let dir = copy_of("llama");
    edit_config(&dir, |config| {
        config.remove("model_type");
    });
    expect(&dir, "INVALID_CONFIG", &["model_type"]);
}

#[test]
fn an_impossible_value_is_named() {
    for (field, value) in [
        ("hidden_size", json!("wide")),
        ("hidden_size", json!(-32)),
        ("hidden_size", json!(0)),
        ("hidden_size", json!(1_u64 << 40)),
        ("num_attention_heads", json!(0)),
        ("num_key_value_heads", json!(3)),
        ("num_hidden_layers", json!(0)),
        ("num_hidden_layers", json!(1_000_000_000_u64)),
        ("vocab_size", json!(2_000_000_000)),
        ("rope_theta", json!(-1.0)),
        ("rope_theta", json!("big")),
        ("rms_norm_eps", json!(-1e-5)),
    ] {
        let dir = copy_of("llama");
        edit_config(&dir, |config| {
            config.insert(field.to_owned(), value.clone());
        });
        let error = error_of(dir.path());
        assert_eq!(error.code(), "INVALID_CONFIG", "{field} = {value}: {error}");
    }
}

#[test]
fn a_window_that_is_no_size_is_named() {
    for window in [json!("far"), json!(0), json!(-8)] {
        let dir = copy_of("mistral-raw-window");
        edit_config(&dir, |config| {
            config.insert("sliding_window".to_owned(), window.clone());
        });
        expect(&dir, "INVALID_CONFIG", &["sliding_window"]);
    }
}

#[test]
fn an_unknown_architecture_is_named() {
    let dir = copy_of("llama");
    edit_config(&dir, |config| {
        config.insert("model_type".to_owned(), json!("perceptron"));
    });
    expect(&dir, "UNKNOWN_ARCHITECTURE", &["perceptron"]);
}

#[test]
fn an_unknown_rope_rule_is_named() {
    let dir = copy_of("llama");
    edit_config(&dir, |config| {
        config.insert("rope_scaling".to_owned(), json!({ "type": "spiral", "factor": 2.0 }));
    });
    expect(&dir, "INVALID_CONFIG", &["spiral"]);
}

#[test]
fn a_missing_shard_is_named() {
    let dir = copy_of("llama-raw-shards");
    fs::remove_file(dir.path().join("model-00002-of-00003.safetensors")).unwrap();
    expect(&dir, "INVALID_WEIGHTS", &["model-00002-of-00003.safetensors", "missing"]);
}

#[test]
fn an_index_that_leads_out_of_the_folder_is_refused() {
    for name in ["../model.safetensors", "/etc/passwd", "a/b.safetensors", ""] {
        let dir = copy_of("llama");
        let index = json!({ "weight_map": { NORM: name } });
        fs::write(dir.path().join("model.safetensors.index.json"), index.to_string()).unwrap();
        expect(&dir, "INVALID_WEIGHTS", &["not the name of a shard"]);
    }
}

#[test]
fn a_file_cut_off_anywhere_is_refused() {
    let whole = copy_of("llama");
    let bytes = fs::read(whole.path().join("model.safetensors")).unwrap();
    for length in [0, 1, 7, 8, 9, 100, bytes.len() / 2, bytes.len() - 1] {
        let dir = copy_of("llama");
        fs::write(dir.path().join("model.safetensors"), &bytes[..length]).unwrap();
        expect(&dir, "INVALID_WEIGHTS", &["model.safetensors"]);
    }
}

#[test]
fn a_header_that_claims_more_than_the_file_is_refused_without_allocating_it() {
    for length in [u64::MAX, u64::MAX - 7, 1 << 62, 1 << 40, 100_000_001] {
        let dir = copy_of("llama");
        let path = dir.path().join("model.safetensors");
        let mut bytes = fs::read(&path).unwrap();
        bytes[..8].copy_from_slice(&length.to_le_bytes());
        fs::write(path, bytes).unwrap();
        expect(&dir, "INVALID_WEIGHTS", &["model.safetensors"]);
    }
}

#[test]
fn tensors_that_overlap_leave_holes_or_overflow_are_refused() {
    for offsets in [json!([0, 0]), json!([8, 4]), json!([u64::MAX - 1, u64::MAX]), json!([1])] {
        let dir = copy_of("llama");
        edit_header(&dir, |header| {
            header[NORM]["data_offsets"] = offsets.clone();
        });
        expect(&dir, "INVALID_WEIGHTS", &["model.safetensors"]);
    }
}

#[test]
fn shapes_that_do_not_fit_their_bytes_are_refused() {
    for shape in [json!([64]), json!([u64::MAX, 2]), json!([-1]), json!([1_u64 << 33, 0])] {
        let dir = copy_of("llama");
        edit_header(&dir, |header| {
            header[NORM]["shape"] = shape.clone();
        });
        expect(&dir, "INVALID_WEIGHTS", &["model.safetensors"]);
    }
}

#[test]
fn an_unknown_type_is_refused() {
    let dir = copy_of("llama");
    edit_header(&dir, |header| {
        header[NORM]["dtype"] = json!("Q4_K");
    });
    expect(&dir, "INVALID_WEIGHTS", &["model.safetensors"]);
}

#[test]
fn a_tensor_of_the_wrong_type_is_named() {
    let dir = copy_of("llama");
    edit_header(&dir, |header| {
        header[NORM]["dtype"] = json!("I16");
    });
    expect(&dir, "INVALID_WEIGHTS", &[NORM, "int16"]);
}

#[test]
fn a_missing_tensor_is_named_with_its_shape() {
    let dir = copy_of("llama");
    edit_header(&dir, |header| {
        let tensor = header.remove(NORM).unwrap();
        header.insert("model.norm.weigth".to_owned(), tensor);
    });
    expect(&dir, "INVALID_WEIGHTS", &["\"model.norm.weight\" is missing", "[32]"]);
}

#[test]
fn a_tensor_of_another_shape_is_named_with_both_shapes() {
    let dir = copy_of("llama");
    edit_config(&dir, |config| {
        config.insert("intermediate_size".to_owned(), json!(47));
    });
    expect(&dir, "INVALID_WEIGHTS", &["gate_proj.weight", "[48, 32]", "[47, 32]"]);
}

#[test]
fn tensors_that_nobody_takes_are_named() {
    let dir = copy_of("llama");
    edit_config(&dir, |config| {
        config.insert("num_hidden_layers".to_owned(), json!(1));
    });
    expect(&dir, "INVALID_WEIGHTS", &["belong to no part", "model.layers.1."]);
}

#[test]
fn a_quantization_that_fits_no_shape_is_refused() {
    for quantization in [
        json!({ "group_size": 64, "bits": 7 }),
        json!({ "group_size": 0, "bits": 4 }),
        json!({ "group_size": -64, "bits": 4 }),
        json!({ "group_size": "64", "bits": 4 }),
        json!(4),
    ] {
        let dir = copy_of("mistral-4bit");
        edit_config(&dir, |config| {
            config.insert("quantization".to_owned(), quantization.clone());
        });
        expect(&dir, "INVALID_CONFIG", &["quantization"]);
    }
    let dir = copy_of("mistral-4bit");
    edit_config(&dir, |config| {
        config.remove("quantization");
        config.remove("quantization_config");
    });
    expect(&dir, "INVALID_WEIGHTS", &["scales"]);
}

#[test]
fn a_layer_whose_declared_format_is_not_its_own_is_named() {
    let dir = copy_of("mistral-4bit");
    edit_config(&dir, |config| {
        config["quantization"]["model.layers.0.self_attn.q_proj"] =
            json!({ "group_size": 64, "bits": 8 });
    });
    expect(&dir, "INVALID_WEIGHTS", &["model.layers.0.self_attn.q_proj"]);
}

#[test]
fn loading_stops_when_it_is_told_to() {
    mlx::enter(DeviceKind::Cpu).unwrap();
    let dir = copy_of("llama");
    let result = models::load(dir.path(), &LoadOptions::default(), &mut |progress| {
        assert!(progress.loaded_bytes <= progress.total_bytes);
        ControlFlow::Break(())
    });
    assert_eq!(result.err().map(|error| error.code()), Some("ABORTED"));
}
