//! Any bytes as a prompt-cache file of a small model: they are refused with a code, or the model
//! goes on from them.
#![no_main]

use std::cell::LazyCell;
use std::fs;
use std::ops::ControlFlow;

use libfuzzer_sys::fuzz_target;
use nodemlx::generate::{GenerationOptions, PromptCache, Sequence, SequenceOptions};
use nodemlx::mlx::{self, DeviceKind};
use nodemlx::models::{self, LoadOptions, Loaded};
use tempfile::TempDir;

thread_local! {
    static MODEL: LazyCell<(TempDir, Loaded)> = LazyCell::new(|| {
        mlx::enter(DeviceKind::Cpu).expect("the CPU");
        let folder = seeded::folder("llama");
        let loaded = models::load(&folder, &LoadOptions::default(), &mut |_| ControlFlow::Continue(()));
        (tempfile::tempdir().expect("a temporary folder"), loaded.expect("the fixture"))
    });
}

fuzz_target!(|data: &[u8]| {
    MODEL.with(|model| {
        let (dir, loaded) = &**model;
        let model = &*loaded.model;
        let path = dir.path().join("cache.safetensors");
        // A new file: the old one may still be mapped.
        let _ = fs::remove_file(&path);
        fs::write(&path, data).expect("a temporary file");
        let cache = match PromptCache::read(&path, model, "any") {
            Ok(cache) => cache,
            Err(error) => return assert_eq!(error.code(), "INVALID_PROMPT_CACHE", "{error}"),
        };
        let greedy = GenerationOptions {
            temperature: Some(0.0),
            max_tokens: Some(2),
            ..GenerationOptions::default()
        };
        let options = SequenceOptions::new(greedy, 4);
        let prompt = vec![1, 2, 3, 4, 5, 6];
        let mut sequence = Sequence::new(model, prompt, options, Some(cache)).expect("a sequence");
        let outcome = (|| {
            while !sequence.prefill(model)?.done {}
            sequence.step(model)?;
            sequence.step(model)
        })();
        if let Err(error) = outcome {
            assert_eq!(error.code(), "INVALID_LOGITS", "{error}");
        }
        let _ = sequence.into_prompt_cache(model);
    });
});
