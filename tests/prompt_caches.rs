//! Prompt-cache files of mlx-lm: read as it reads them, and written as it writes them.
//!
//! `PROMPT_CACHES=folder cargo test --test prompt_caches` leaves what is written in that folder,
//! for `tools/oracle/check.py --prompt-caches folder`, which lets mlx-lm go on from it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use nodemlx::cache::file::{self, CacheBytes};
use nodemlx::cache::{Cache, CacheLimits};
use nodemlx::fused::{Device, Precision};
use nodemlx::generate::PromptCache;
use nodemlx::mlx::{self, DeviceKind, Dtype};
use nodemlx::models::{self, LoadOptions, Loaded};
use safetensors::SafeTensors;
use serde_json::{Value, json};

const FOLDER: &str = "tests/fixtures/prompt-caches";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The fixtures' names, and the logits after the last token as mlx-lm computes them from its own
/// file.
fn golden() -> BTreeMap<String, Vec<f32>> {
    let bytes = std::fs::read(root().join(FOLDER).join("golden.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    tensors
        .iter()
        .map(|(name, view)| {
            let words = view.data().chunks_exact(4);
            let logits = words.map(|word| f32::from_le_bytes(word.try_into().unwrap())).collect();
            (name.to_owned(), logits)
        })
        .collect()
}

fn load(name: &str) -> Loaded {
    mlx::enter(DeviceKind::Cpu).unwrap();
    let demo = root().join("models").join(name);
    let folder = if demo.is_dir() { demo } else { seeded::folder(name) };
    let device = Device::cpu(None, Precision::Exact);
    let options = LoadOptions { device, dtype: Some(Dtype::Float32), ..LoadOptions::default() };
    models::load(&folder, &options, &mut |_| ControlFlow::Continue(())).unwrap()
}

fn tokens(name: &str) -> Vec<u32> {
    let path = root().join("tests/fixtures/models").join(format!("{name}.safetensors"));
    let Ok(bytes) = std::fs::read(path) else {
        // The demo model's are in the oracle's script.
        return (300..312).collect();
    };
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let words = tensors.tensor("tokens").unwrap().data().chunks_exact(4);
    words.map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect()
}

fn path_of(name: &str) -> PathBuf {
    root().join(FOLDER).join(format!("{name}.safetensors"))
}

fn step(loaded: &Loaded, tokens: &[u32], caches: &mut [Cache]) -> Vec<f32> {
    let tokens = mlx::from_u32(tokens, &[1, tokens.len() as i32]);
    let logits = loaded.model.logits(&tokens, caches).unwrap();
    let logits = mlx::to_f32_vec(&logits).unwrap();
    logits[logits.len() - loaded.model.vocabulary()..].to_vec()
}

fn relative_error(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let difference: f32 = a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum();
    (difference / b.iter().map(|b| b * b).sum::<f32>()).sqrt()
}

#[test]
fn a_model_goes_on_from_a_file_of_mlx_lm() {
    for (name, expected) in golden() {
        let loaded = load(&name);
        let tokens = tokens(&name);
        let mut caches = file::read(&path_of(&name)).unwrap().caches;
        assert!(
            caches.iter().all(|cache| cache.offset() as usize == tokens.len() - 1)
                || caches.iter().all(|cache| matches!(cache, Cache::Arrays(_))),
            "{name}"
        );
        let logits = step(&loaded, &tokens[tokens.len() - 1..], &mut caches);
        let error = relative_error(&logits, &expected);
        assert!(error < 1e-4, "{name}: relative error {error}");
        PromptCache::read(&path_of(&name), &*loaded.model, "any").unwrap();
    }
}

/// Tensors' names, types and ranks, and the header's texts.
fn layout(bytes: &[u8]) -> (Vec<String>, BTreeMap<String, String>) {
    let (_, metadata) = SafeTensors::read_metadata(bytes).unwrap();
    let mut tensors: Vec<String> = metadata
        .tensors()
        .iter()
        .map(|(name, info)| format!("{name} {:?} {}", info.dtype, info.shape.len()))
        .collect();
    tensors.sort();
    (tensors, metadata.metadata().clone().unwrap().into_iter().collect())
}

#[test]
fn files_are_laid_out_as_those_of_mlx_lm() {
    let kept = std::env::var_os("PROMPT_CACHES").map(PathBuf::from);
    let folder = tempfile::tempdir().unwrap();
    for name in golden().keys() {
        let loaded = load(name);
        let tokens = tokens(name);
        let theirs = file::read(&path_of(name)).unwrap();
        let limits = CacheLimits::of(&theirs.caches);
        let mut caches: Vec<Cache> =
            loaded.model.make_caches().into_iter().map(|cache| cache.limited(&limits)).collect();
        step(&loaded, &tokens[..tokens.len() - 1], &mut caches);
        let path = kept.as_deref().unwrap_or(folder.path()).join(format!("{name}.safetensors"));
        CacheBytes::of(&caches, &theirs.texts).unwrap().write(&path).unwrap();
        let ours = std::fs::read(&path).unwrap();
        assert_eq!(layout(&ours), layout(&std::fs::read(path_of(name)).unwrap()), "{name}");
        let again = file::read(&path).unwrap().caches;
        let bytes = |caches: &[Cache]| caches.iter().map(Cache::nbytes).sum::<usize>();
        assert_eq!(bytes(&again), bytes(&caches), "{name}");
    }
}

#[test]
fn a_file_of_another_model_is_refused() {
    let loaded = load("llama");
    for name in ["demo", "deepseek-v3", "gemma3-text", "lfm2", "mamba2"] {
        let error = PromptCache::read(&path_of(name), &*loaded.model, "any").unwrap_err();
        assert_eq!(error.code(), "INVALID_PROMPT_CACHE", "{name}: {error}");
    }
}

/// Every file that differs in one byte of its header is read or refused with a code, and what was
/// read can be gone on from or fails with one.
#[test]
fn broken_headers_are_refused_or_harmless() {
    let loaded = load("llama");
    let whole = std::fs::read(path_of("llama")).unwrap();
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("broken.safetensors");
    let mut refused = 0;
    for position in 0..header {
        for change in [b'0', b'9', b'"', 0xff] {
            let mut bytes = whole.clone();
            if position % 3 != usize::from(change) % 3 || bytes[position] == change {
                continue;
            }
            bytes[position] = change;
            std::fs::write(&path, &bytes).unwrap();
            match PromptCache::read(&path, &*loaded.model, "any") {
                Ok(_) => {
                    let mut caches = file::read(&path).unwrap().caches;
                    step(&loaded, &[1], &mut caches);
                }
                Err(error) => {
                    assert_eq!(error.code(), "INVALID_PROMPT_CACHE", "byte {position}: {error}");
                    refused += 1;
                }
            }
        }
    }
    assert!(refused > 100, "{refused}");
}

/// A safetensors file with another header, and perhaps other data.
fn with_header(bytes: &[u8], change: impl FnOnce(&mut Value, &mut Vec<u8>)) -> Vec<u8> {
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let mut data = bytes[8 + length..].to_vec();
    change(&mut header, &mut data);
    let header = header.to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()
}

/// Adds an empty tensor.
fn add_empty(header: &mut Value, name: &str) {
    header[name] = json!({ "dtype": "F32", "shape": [0], "data_offsets": [0, 0] });
}

/// Writes over the number that a cache's field holds.
fn put_number(header: &Value, data: &mut [u8], name: &str, value: [u8; 4]) {
    let from = header[name]["data_offsets"][0].as_u64().unwrap() as usize;
    data[from..from + 4].copy_from_slice(&value);
}

#[test]
fn hostile_files_are_refused() {
    type Change = fn(&mut Value, &mut Vec<u8>);
    let cases: &[(&str, &str, Change)] = &[
        ("llama", "a name of a million dots", |header, _| {
            add_empty(header, &format!("0{}", ".0".repeat(1_000_000)));
        }),
        ("llama", "a name of six dots", |header, _| add_empty(header, "0.0.0.0.0.0.0")),
        ("llama", "a field that lies too deep", |header, _| {
            header["__metadata__"]["2.3.0"] = json!("0".to_owned() + &".0".repeat(1_000_000));
            header["__metadata__"]["2.3.1"] = json!("none");
        }),
        ("llama", "thousands of tensors", |header, _| {
            (0..5000).for_each(|i| add_empty(header, &format!("7.{i}")));
        }),
        ("llama", "whole numbers for keys", |header, _| header["0.0"]["dtype"] = json!("I32")),
        ("llama", "codes for values", |header, _| header["1.1"]["dtype"] = json!("U32")),
        ("llama", "a number that is a float", |header, _| header["0.2"]["dtype"] = json!("F32")),
        ("llama", "a number that is NaN", |header, data| {
            header["0.2"]["dtype"] = json!("F32");
            put_number(header, data, "0.2", f32::NAN.to_le_bytes());
        }),
        ("llama", "more positions than there are", |header, data| {
            put_number(header, data, "0.2", 100_000_i32.to_le_bytes());
        }),
        ("llama", "fewer than no position", |header, data| {
            put_number(header, data, "0.2", (-1_i32).to_le_bytes());
        }),
        ("llama", "fewer positions in one layer", |header, data| {
            put_number(header, data, "1.2", 3_i32.to_le_bytes());
        }),
        ("gemma3-text", "positions at the end of all numbers", |header, data| {
            put_number(header, data, "0.2", i32::MAX.to_le_bytes());
        }),
        ("gemma3-text", "a window wider than the model's", |header, data| {
            put_number(header, data, "0.4", (1_i32 << 29).to_le_bytes());
        }),
        ("llama4", "other chunks", |header, data| {
            put_number(header, data, "0.3", 3_i32.to_le_bytes());
        }),
        ("llama", "an unknown class", |header, _| {
            header["__metadata__"]["1.0"] = json!("x".repeat(100_000));
        }),
        ("llama", "a number that is none", |header, _| {
            header["__metadata__"]["2.1.1"] = json!("NaN")
        }),
        ("mamba2", "keys and values for states", |header, _| {
            header["__metadata__"]["1.0"] = json!("KVCache");
        }),
        ("falcon-h1", "a list in a list", |header, _| {
            header["__metadata__"]["1.0"] = json!("KVCache");
        }),
    ];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hostile.safetensors");
    for (name, what, change) in cases {
        let whole = std::fs::read(path_of(name)).unwrap();
        std::fs::write(&path, with_header(&whole, change)).unwrap();
        let error = PromptCache::read(&path, &*load(name).model, "any").err();
        let error = error.unwrap_or_else(|| panic!("{name} with {what} is read"));
        assert_eq!(error.code(), "INVALID_PROMPT_CACHE", "{name} with {what}: {error}");
        assert!(error.to_string().len() < 1000, "{what}: a message of {}", error.to_string().len());
    }
    let huge = [&(90_u64 << 20).to_le_bytes()[..], &vec![b' '; 90 << 20]].concat();
    for bytes in [&b""[..], b"1234567", &[0xff; 64], &huge] {
        std::fs::write(&path, bytes).unwrap();
        let error = file::read(&path).unwrap_err();
        assert_eq!(error.code(), "INVALID_PROMPT_CACHE", "{error}");
    }
}

#[test]
fn another_precision_is_the_writers_choice() {
    let loaded = load("llama");
    let whole = std::fs::read(path_of("llama")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("same.safetensors");
    std::fs::write(&path, with_header(&whole, |_, _| {})).unwrap();
    PromptCache::read(&path, &*loaded.model, "any").unwrap();
}

#[test]
fn the_limits_of_a_file_are_those_it_was_made_with() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("limited.safetensors");
    for name in ["llama", "gemma3-text", "llama4-text", "gpt-oss", "falcon-h1"] {
        let loaded = load(name);
        for max_size in [None, Some(16)] {
            let limits = CacheLimits { max_size, quantization: None };
            let own = loaded.model.make_caches();
            let mut caches: Vec<Cache> =
                own.into_iter().map(|cache| cache.limited(&limits)).collect();
            step(&loaded, &[1, 2, 3], &mut caches);
            CacheBytes::of(&caches, &Default::default()).unwrap().write(&path).unwrap();
            let read = PromptCache::read(&path, &*loaded.model, "any").unwrap();
            let own = loaded.model.make_caches();
            let remade = |limits: &CacheLimits| {
                own.iter()
                    .map(|cache| format!("{:?}", cache.clone().limited(limits)))
                    .collect::<Vec<_>>()
            };
            assert_eq!(remade(&read.limits()), remade(&limits), "{name} {max_size:?}");
        }
    }
}

#[cfg(unix)]
#[test]
fn a_file_has_the_permissions_of_any_new_file() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let mode = |name: &str| {
        std::fs::metadata(folder.path().join(name)).unwrap().permissions().mode() & 0o777
    };
    std::fs::write(folder.path().join("any"), "").unwrap();
    let caches = [Cache::standard()];
    let bytes = CacheBytes::of(&caches, &Default::default()).unwrap();
    bytes.write(&folder.path().join("cache")).unwrap();
    assert_eq!(mode("cache"), mode("any"));
}
