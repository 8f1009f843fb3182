//! How many threads compute changes no bit of a model's logits, in any architecture.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use nodemlx::fused::{Device, Precision};
use nodemlx::mlx::{self, DeviceKind};
use nodemlx::models::{self, LoadOptions};

/// The logits of a prompt that is read in two chunks and of a token after it, bit by bit.
fn logits(folder: &Path, threads: usize, precision: Precision, length: u32) -> Vec<u32> {
    let device = Device::cpu(Some(threads), precision);
    let options = LoadOptions { device, ..LoadOptions::default() };
    let loaded = models::load(folder, &options, &mut |_| ControlFlow::Continue(())).unwrap();
    let mut caches = loaded.model.make_caches();
    let vocabulary = loaded.model.vocabulary() as u32;
    let tokens: Vec<u32> = (0..length).map(|i| i * 7 % vocabulary).collect();
    let (first, second) = tokens.split_at(tokens.len() / 2);
    let steps = [first, second, &[5]].into_iter().flat_map(|tokens| {
        let tokens = mlx::from_u32(tokens, &[1, tokens.len() as i32]);
        mlx::to_f32_vec(&loaded.model.logits(&tokens, &mut caches).unwrap()).unwrap()
    });
    steps.map(f32::to_bits).collect()
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    mlx::enter(DeviceKind::Cpu).unwrap();
    let mut folders = BTreeMap::<String, PathBuf>::new();
    for name in seeded::names() {
        // One of each kind, quantized and not; the precisions take turns.
        let family = name.split("-raw").next().unwrap().to_owned();
        folders.entry(family).or_insert_with(|| seeded::folder(&name));
    }
    for (number, (name, folder)) in folders.into_iter().enumerate() {
        // Enough keys for one of them to be split.
        let length = if name == "llama" { 600 } else { 24 };
        let precision = if number % 2 == 0 { Precision::Fast } else { Precision::Exact };
        let alone = logits(&folder, 1, precision, length);
        assert!(logits(&folder, 7, precision, length) == alone, "{name} {precision:?}");
    }
}
