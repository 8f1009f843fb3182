//! Any bytes as the configuration of a small checkpoint: it loads, or gives an error.
#![no_main]

use std::fs;
use std::ops::ControlFlow;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use nodemlx::mlx::{self, DeviceKind};
use nodemlx::models::{self, LoadOptions};
use tempfile::TempDir;

static MODEL: LazyLock<TempDir> = LazyLock::new(|| {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let weights = seeded::folder("llama").join("model.safetensors");
    fs::copy(weights, dir.path().join("model.safetensors")).expect("the fixture");
    mlx::enter(DeviceKind::Cpu).expect("the CPU");
    dir
});

fuzz_target!(|data: &[u8]| {
    let dir = MODEL.path();
    fs::write(dir.join("config.json"), data).expect("a temporary file");
    let _ = models::load(dir, &LoadOptions::default(), &mut |_| ControlFlow::Continue(()));
});
