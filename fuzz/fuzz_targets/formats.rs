//! A layer in the format of another program: a text as its `quantization_config` and, behind a zero
//! byte, any bytes as the safetensors file with its tensors. They load and run, or give an error.
#![no_main]

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use nodemlx::mlx::{self, DeviceKind};
use nodemlx::models::{self, LoadOptions};
use serde_json::Value;
use tempfile::TempDir;

/// The model that the layers belong to, and the checkpoint that is made anew each time.
static FOLDERS: LazyLock<(PathBuf, TempDir)> = LazyLock::new(|| {
    let formats = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/formats");
    mlx::enter(DeviceKind::Cpu).expect("the CPU");
    (formats.join("gptq-4bit"), tempfile::tempdir().expect("a temporary folder"))
});

fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let Ok(format) = serde_json::from_slice::<Value>(parts.next().unwrap_or_default()) else {
        return;
    };
    let (model, checkpoint) = &*FOLDERS;
    let config = fs::read(model.join("config.json")).expect("the fixture");
    let mut config: Value = serde_json::from_slice(&config).expect("the fixture");
    config["quantization_config"] = format;
    let dir = checkpoint.path();
    fs::write(dir.join("config.json"), config.to_string()).expect("a temporary file");
    // A new file: the old one may still be mapped.
    let path = dir.join("model.safetensors");
    let _ = fs::remove_file(&path);
    fs::write(&path, parts.next().unwrap_or_default()).expect("a temporary file");
    let loaded = models::load(dir, &LoadOptions::default(), &mut |_| ControlFlow::Continue(()));
    if let Ok(loaded) = loaded {
        let tokens = mlx::from_u32(&[1, 2, 3], &[1, 3]);
        let logits = loaded.model.logits(&tokens, &mut loaded.model.make_caches());
        let _ = logits.and_then(|logits| mlx::to_f32_vec(&logits));
    }
});
