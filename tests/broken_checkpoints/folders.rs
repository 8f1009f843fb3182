//! Folders whose files do not fit together, or are not what their names say.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;

use nodemlx::error::Result;
use nodemlx::mlx::quantized::Mode;
use nodemlx::mlx::{self, DeviceKind};
use nodemlx::models::{self, Info, LoadOptions};
use nodemlx::warning::WarningCode;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{NORM, copy_of, edit_config, edit_header, expect};

fn load(dir: &TempDir) -> Result<Info> {
    mlx::enter(DeviceKind::Cpu).unwrap();
    let options = LoadOptions::default();
    let loaded = models::load(dir.path(), &options, &mut |_| ControlFlow::Continue(()))?;
    Ok(loaded.info)
}

/// Loads a folder whose index is stale; it must be told.
#[track_caller]
fn expect_stale(dir: &TempDir) {
    let info = load(dir).unwrap();
    let codes: Vec<_> = info.warnings.iter().map(|warning| warning.code).collect();
    assert_eq!(codes, [WarningCode::StaleIndex], "{:?}", info.warnings);
    assert!(info.warnings[0].message.contains("model.safetensors.index.json"));
}

fn write_index(dir: &TempDir, index: &Value) {
    fs::write(dir.path().join("model.safetensors.index.json"), index.to_string()).unwrap();
}

/// An index of every tensor of `model.safetensors`, which names another file.
fn write_index_of(dir: &TempDir, name: &str) {
    let bytes = fs::read(dir.path().join("model.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let map: BTreeMap<_, _> = tensors.names().into_iter().map(|tensor| (tensor, name)).collect();
    write_index(dir, &json!({ "weight_map": map }));
}

#[test]
fn an_index_of_files_that_are_not_there_is_left_out() {
    let dir = copy_of("llama");
    write_index_of(&dir, "model-00001-of-00002.safetensors");
    expect_stale(&dir);
    // Of other tensors, too: experts that were stacked since.
    write_index(&dir, &json!({ "weight_map": { "expert.0": "model-00001-of-00002.safetensors" } }));
    expect_stale(&dir);
}

#[test]
fn an_index_of_pointers_is_left_out() {
    let dir = copy_of("llama");
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n";
    fs::write(dir.path().join("model-00001-of-00001.safetensors"), pointer).unwrap();
    write_index_of(&dir, "model-00001-of-00001.safetensors");
    expect_stale(&dir);
}

#[test]
fn an_index_that_is_none_is_left_out() {
    for text in
        ["", "{}", "{\"weight_map\": []}", "{\"weight_map\": {\"a\": 1}}", "{\"weight_map\": {}}"]
    {
        let dir = copy_of("llama");
        fs::write(dir.path().join("model.safetensors.index.json"), text).unwrap();
        expect_stale(&dir);
        fs::remove_file(dir.path().join("model.safetensors")).unwrap();
        expect(&dir, "INVALID_WEIGHTS", &["model.safetensors.index.json"]);
    }
}

#[test]
fn an_index_of_a_tensor_that_no_file_holds_is_left_out() {
    let dir = copy_of("llama");
    write_index(&dir, &json!({ "weight_map": { "ghost.weight": "model.safetensors" } }));
    expect_stale(&dir);
    assert!(load(&dir).unwrap().warnings[0].message.contains("ghost.weight"));
    // What the model needs is missed all the same.
    edit_header(&dir, |header| drop(header.remove(NORM)));
    write_index(&dir, &json!({ "weight_map": { NORM: "model.safetensors" } }));
    let error = load(&dir).unwrap_err();
    assert_eq!(error.code(), "INVALID_WEIGHTS", "{error}");
}

#[test]
fn every_missing_shard_is_named() {
    let dir = copy_of("llama-raw-shards");
    for shard in ["model-00002-of-00003.safetensors", "model-00003-of-00003.safetensors"] {
        fs::remove_file(dir.path().join(shard)).unwrap();
    }
    let words = ["model-00002-of-00003", "model-00003-of-00003", "missing", "2 of 3", ".weight"];
    expect(&dir, "INVALID_WEIGHTS", &words);
}

#[test]
fn the_same_weights_twice_are_read_once() {
    let dir = copy_of("llama");
    let _ = fs::remove_file(dir.path().join("model.safetensors.index.json"));
    let bytes = load(&dir).unwrap().bytes;
    for name in ["consolidated.safetensors", "model-00001-of-00001.safetensors"] {
        fs::copy(dir.path().join("model.safetensors"), dir.path().join(name)).unwrap();
        assert_eq!(load(&dir).unwrap().bytes, bytes, "{name}");
    }
}

#[test]
fn shards_without_an_index_are_all_read() {
    let dir = copy_of("llama-raw-shards");
    fs::remove_file(dir.path().join("model.safetensors.index.json")).unwrap();
    assert!(load(&dir).unwrap().warnings.is_empty());
}

#[test]
fn a_file_that_is_no_safetensors_file_is_named_for_what_it_is() {
    for (content, words) in [
        (&b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"[..], "Git LFS pointer"),
        (b"<!doctype html><html><head><title>Sign in</title></head></html>", "web page"),
        (b"", "empty"),
        (b"Entry not found", "\"Entry not found\""),
        (b"GGUF\x03\0\0\0\x01\0\0\0\0\0\0\0\0", "GGUF"),
        (b"PK\x03\x04\x14\0\0\0\0\0\0\0\0\0", "zip archive"),
        (b"\x80\x02}q\0X\x05\0\0\0weig", "pickle"),
        (b"\x40\x42\x0f\0\0\0\0\0{\"__metadata__\":{}", "incomplete"),
        (b"\x41\0\0\0\0\0\0\0{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}          ", "incomplete"),
    ] {
        let dir = copy_of("llama");
        fs::write(dir.path().join("model.safetensors"), content).unwrap();
        expect(&dir, "INVALID_WEIGHTS", &["model.safetensors", words]);
    }
}

#[test]
fn a_configuration_that_was_not_downloaded_is_named() {
    for (content, words) in [
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "Git LFS pointer"),
        ("<html></html>", "web page"),
        ("", "empty"),
    ] {
        let dir = copy_of("llama");
        fs::write(dir.path().join("config.json"), content).unwrap();
        expect(&dir, "INVALID_CONFIG", &["config.json", words]);
    }
}

#[test]
fn floats_of_e5m2_are_refused_by_name() {
    let dir = copy_of("deepseek-v3-raw-fp8");
    let name = "model.layers.0.self_attn.q_a_proj.weight";
    edit_header(&dir, |header| header[name]["dtype"] = json!("F8_E5M2"));
    expect(&dir, "INVALID_WEIGHTS", &[name, "e5m2", "e4m3"]);
    edit_header(&dir, |header| header[name]["dtype"] = json!("F8_E8M0"));
    expect(&dir, "INVALID_WEIGHTS", &[name, "e8m0", "e4m3"]);
    let dir = copy_of("gpt-oss-mxfp4");
    let mut scales = String::new();
    edit_header(&dir, |header| {
        let is_scales = |(name, tensor): &(&String, &Value)| {
            name.ends_with(".scales") && tensor["dtype"] == "U8"
        };
        scales = header.iter().find(is_scales).unwrap().0.clone();
        header[&scales]["dtype"] = json!("F8_E5M2");
    });
    expect(&dir, "INVALID_WEIGHTS", &[&scales, "e5m2"]);
}

/// Adds a copy of the embedding under the name of an output head.
fn add_head(dir: &TempDir, embedding: &str, head: &str) {
    let path = dir.path().join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let copy = tensors.tensor(embedding).unwrap();
    let mut all = tensors.tensors();
    all.retain(|(name, _)| name != head);
    all.push((head.to_owned(), copy));
    let _ = fs::remove_file(dir.path().join("model.safetensors.index.json"));
    fs::write(path, safetensors::serialize(all, None).unwrap()).unwrap();
}

#[test]
fn a_copy_of_a_tied_head_is_left_aside_in_every_architecture() {
    for (fixture, embedding) in [
        ("gemma-raw", "model.embed_tokens.weight"),
        ("gemma2-raw", "model.embed_tokens.weight"),
        ("gemma4-text-raw", "model.embed_tokens.weight"),
        ("gemma4-raw", "model.language_model.embed_tokens.weight"),
        ("gemma3n-raw", "model.language_model.embed_tokens.weight"),
        ("cohere-raw", "model.embed_tokens.weight"),
        ("cohere2-raw", "model.embed_tokens.weight"),
        ("lfm2-raw", "model.embed_tokens.weight"),
        ("granitemoehybrid-raw-dense", "model.embed_tokens.weight"),
        ("qwen3-5-raw-tied", "model.language_model.embed_tokens.weight"),
        ("qwen3-moe-raw-tied", "model.embed_tokens.weight"),
        ("mamba2-raw-tied", "backbone.embeddings.weight"),
    ] {
        let dir = copy_of(fixture);
        let untied = load(&dir).unwrap();
        add_head(&dir, embedding, "lm_head.weight");
        let info = load(&dir).unwrap_or_else(|error| panic!("{fixture}: {error}"));
        assert!(info.warnings.is_empty(), "{fixture}: {:?}", info.warnings);
        assert_eq!(info.parameters, untied.parameters, "{fixture}");
    }
}

#[test]
fn another_head_of_a_tied_model_is_used() {
    let dir = copy_of("llama-raw-spare-head");
    let tied = load(&dir).unwrap();
    assert!(tied.warnings.is_empty(), "{:?}", tied.warnings);
    let path = dir.path().join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let embedding = tensors.tensor("model.embed_tokens.weight").unwrap();
    let other: Vec<u8> = embedding.data().iter().rev().copied().collect();
    let other = TensorView::new(embedding.dtype(), embedding.shape().to_vec(), &other).unwrap();
    let mut all = tensors.tensors();
    all.retain(|(name, _)| name != "lm_head.weight");
    all.push(("lm_head.weight".to_owned(), other));
    fs::write(path, safetensors::serialize(all, None).unwrap()).unwrap();
    let info = load(&dir).unwrap();
    let codes: Vec<_> = info.warnings.iter().map(|warning| warning.code).collect();
    assert_eq!(codes, [WarningCode::UnusableField], "{:?}", info.warnings);
    assert!(info.warnings[0].message.contains("\"lm_head\""));
    assert!(info.parameters > tied.parameters);
}

#[test]
fn what_is_said_of_a_quantization_is_what_the_tensors_are() {
    let dir = copy_of("mistral-4bit");
    let found = load(&dir).unwrap().quantization.unwrap();
    assert_eq!((found.mode, found.bits), (Mode::Affine, 4));
    edit_config(&dir, |config| {
        config.insert("quantization".to_owned(), json!({ "group_size": 64, "bits": 8 }));
        config.remove("quantization_config");
    });
    assert_eq!(load(&dir).unwrap().quantization.unwrap(), found);
    let dir = copy_of("llama");
    edit_config(&dir, |config| {
        config.insert("quantization".to_owned(), json!({ "group_size": 64, "bits": 4 }));
    });
    let info = load(&dir).unwrap();
    assert_eq!((info.quantization, info.mixed_quantization), (None, false));
}

#[test]
fn a_quantization_is_read_under_either_name() {
    for fixture in ["mistral-4bit", "llama-mixed", "gpt-oss-mxfp4", "lfm2-nvfp4", "phi-4bit"] {
        let dir = copy_of(fixture);
        let expected = load(&dir).unwrap();
        edit_config(&dir, |config| {
            let own = config.remove("quantization").unwrap();
            config.insert("quantization_config".to_owned(), own);
            config.insert("quantization".to_owned(), Value::Null);
        });
        let info = load(&dir).unwrap_or_else(|error| panic!("{fixture}: {error}"));
        assert_eq!(info.quantization, expected.quantization, "{fixture}");
        assert_eq!(info.mixed_quantization, expected.mixed_quantization, "{fixture}");
    }
    let dir = copy_of("llama");
    edit_config(&dir, |config| {
        let foreign = json!({ "quant_method": "hqq", "bits": 4, "group_size": 128 });
        config.insert("quantization_config".to_owned(), foreign);
    });
    expect(&dir, "UNSUPPORTED", &["\"hqq\"", "convert the original"]);
}

#[test]
fn other_weights_and_other_configurations_have_other_fingerprints() {
    let dir = copy_of("llama");
    let fingerprint = load(&dir).unwrap().fingerprint;
    edit_config(&dir, |config| {
        config.insert("transformers_version".to_owned(), json!("5.0.0"));
    });
    assert_eq!(load(&dir).unwrap().fingerprint, fingerprint);
    edit_config(&dir, |config| {
        config.insert("rope_theta".to_owned(), json!(20_000));
    });
    assert_ne!(load(&dir).unwrap().fingerprint, fingerprint);
    let dir = copy_of("llama");
    let path = dir.path().join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(path, bytes).unwrap();
    assert_ne!(load(&dir).unwrap().fingerprint, fingerprint);
}

#[test]
fn sizes_may_be_written_as_floats() {
    let dir = copy_of("llama");
    let expected = load(&dir).unwrap().parameters;
    edit_config(&dir, |config| {
        config.insert("hidden_size".to_owned(), json!(32.0));
        config.insert("head_dim".to_owned(), Value::Null);
    });
    assert_eq!(load(&dir).unwrap().parameters, expected);
}
