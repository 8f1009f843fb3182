//! Any bytes as the weights of a small checkpoint: they load, or give an error.
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
    let config = seeded::folder("llama").join("config.json");
    fs::copy(config, dir.path().join("config.json")).expect("the fixture");
    mlx::enter(DeviceKind::Cpu).expect("the CPU");
    dir
});

fuzz_target!(|data: &[u8]| {
    let dir = MODEL.path();
    // A new file: the old one may still be mapped.
    let path = dir.join("model.safetensors");
    let _ = fs::remove_file(&path);
    fs::write(&path, data).expect("a temporary file");
    let _ = models::load(dir, &LoadOptions::default(), &mut |_| ControlFlow::Continue(()));
});
