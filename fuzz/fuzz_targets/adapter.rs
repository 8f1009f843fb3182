//! Any bytes as the tensors of an adapter, behind a zero byte and any text as its configuration: it
//! loads and runs, or gives an error.
#![no_main]

use std::cell::RefCell;
use std::fs;
use std::ops::ControlFlow;

use libfuzzer_sys::fuzz_target;
use nodemlx::adapters::{AdapterId, Adapters};
use nodemlx::mlx::{self, DeviceKind};
use nodemlx::models::{self, LanguageModel, LoadOptions};
use tempfile::TempDir;

thread_local! {
    static MODEL: RefCell<Option<(Box<dyn LanguageModel>, Adapters, TempDir)>> =
        const { RefCell::new(None) };
}

fn make() -> (Box<dyn LanguageModel>, Adapters, TempDir) {
    mlx::enter(DeviceKind::Cpu).expect("the CPU");
    let folder = seeded::folder("llama-raw");
    let loaded =
        models::load(&folder, &LoadOptions::default(), &mut |_| ControlFlow::Continue(()));
    let loaded = loaded.expect("the fixture");
    let adapters = Adapters::new(loaded.sites, loaded.activations);
    (loaded.model, adapters, tempfile::tempdir().expect("a temporary folder"))
}

fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let config = parts.next().unwrap_or_default();
    let tensors = parts.next().unwrap_or_default();
    MODEL.with_borrow_mut(|model| {
        let (model, adapters, folder) = model.get_or_insert_with(make);
        let file = |name: &str, content: &[u8]| {
            // A new file: the old one may still be mapped.
            let path = folder.path().join(name);
            let _ = fs::remove_file(&path);
            fs::write(path, content).expect("a temporary file");
        };
        file("adapter_config.json", config);
        file("adapters.safetensors", tensors);
        file("adapter_model.safetensors", tensors);
        let id = AdapterId::next();
        if adapters.load(id, folder.path()).is_ok() {
            let tokens = mlx::from_u32(&[1, 2, 3], &[1, 3]);
            let held = adapters.hold(id);
            let logits = adapters
                .scope(held.as_ref(), || model.logits(&tokens, &mut model.make_caches()))
                .and_then(|logits| mlx::to_f32_vec(&logits));
            assert!(logits.is_ok());
            adapters.remove(id);
        }
    });
});
