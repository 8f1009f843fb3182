//! Prompt-cache files of mlx-lm: read as it reads them, and written as it writes them.
//!
//! `PROMPT_CACHES=folder cargo test --test prompt_caches` leaves what is written in that folder, for
//! `tools/oracle/check.py --prompt-caches folder`, which lets mlx-lm go on from it.
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

const FOLDER: &str = "tests/fixtures/prompt-caches";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The fixtures' names, and the logits after the last token as mlx-lm computes them from its own file.
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
    let options = LoadOptions { device, dtype: Some(Dtype::Float32) };
    models::load(&folder, &options, &mut |_| ControlFlow::Continue(())).unwrap()
}

fn tokens(name: &str) -> Vec<u32> {
    let path = root().join("tests/fixtures/models").join(name).join("golden.safetensors");
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
    let logits = loaded.model.forward(&tokens, caches).unwrap();
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

/// Every file that differs in one byte of its header is read or refused with a code, and what was read can
/// be gone on from or fails with one.
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
