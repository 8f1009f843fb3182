//! How much host time the graph of one decode token takes to build, against mlx-lm in Python in the
//! same run. Nothing is evaluated.
//!
//!     cargo bench --bench graph [-- --rounds 3] [--repeats 300]
//!
//! The shape is that of Llama 3.2 1B with a vocabulary of 32000. The weights are a sparse file of
//! zeros: building a graph does not look at values. Both sides build for the CPU. Ours once as a
//! model is loaded there (activations in float32, whose norms and rotations are single operations
//! of our own), once with activations in bfloat16, where MLX takes them apart as it does for
//! mlx-lm.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::panic, reason = "a benchmark")]

mod common;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use common::{Checkpoint, HEAD_DIM, KV_HEADS, median, number};
use nodemlx::generate::{Sampler, SamplingOptions};
use nodemlx::mlx::{self, Array, DeviceKind, Dtype, ops};
use nodemlx::models::{self, LanguageModel, LoadOptions, Loaded};
use serde_json::Value;

/// Tokens in the cache.
const CACHED: i32 = 500;

/// Median microseconds to build the graph of a token, and to drop it.
fn measure(
    model: &dyn LanguageModel,
    dtype: Dtype,
    temperature: f32,
    repeats: usize,
) -> (f64, f64) {
    let options = SamplingOptions { temperature, ..SamplingOptions::default() };
    let sampler = Sampler::new(options, 1, model.device());
    let mut filled = model.make_caches();
    let shape = [1, KV_HEADS as i32, CACHED, HEAD_DIM as i32];
    for cache in &mut filled {
        let zeros = || ops::zeros(&shape, dtype).unwrap();
        cache.update(&zeros(), &zeros()).unwrap();
        mlx::eval(&cache.arrays()).unwrap();
    }
    let token = mlx::from_u32(&[1], &[1, 1]);
    let mut built = Vec::new();
    let mut dropped = Vec::new();
    for index in 0..repeats {
        let mut caches = filled.clone();
        let start = Instant::now();
        let all = model.logits(&token, &mut caches).unwrap();
        let logits = ops::reshape(&all, &[1, all.dim(-1)]).unwrap();
        // Both sides normalize, although the most likely token does not need it.
        let norm = ops::logsumexp(&logits, -1).unwrap();
        let logprobs = ops::subtract(&logits, &norm).unwrap();
        let sampled: Array = sampler.sample(&logprobs, index as u64).unwrap();
        let middle = Instant::now();
        drop((all, logits, norm, logprobs, sampled, caches));
        built.push(middle.duration_since(start).as_secs_f64() * 1e6);
        dropped.push(middle.elapsed().as_secs_f64() * 1e6);
    }
    // The first rounds warm the allocator up.
    (median(built.split_off(repeats / 10)), median(dropped.split_off(repeats / 10)))
}

/// What mlx-lm takes for the same, in the same units.
fn reference(repeats: usize) -> Option<Value> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/oracle/bench_graph.py");
    let output = Command::new("python3")
        .arg(script)
        .args(["--repeats", &repeats.to_string(), "--tokens", &CACHED.to_string()])
        .output()
        .ok()?;
    serde_json::from_slice(&output.stdout).ok()
}

fn main() {
    let (rounds, repeats) = (number("--rounds", 3), number("--repeats", 300));
    let root = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("graph");
    mlx::enter(DeviceKind::Cpu).unwrap();
    let mut cases = Vec::new();
    for (weights, bits) in [("bfloat16", 0), ("4bit", 4)] {
        let dir = root.join(weights);
        Checkpoint { bits, experts: false }.write(&dir, true);
        for dtype in [None, Some(Dtype::Bfloat16)] {
            let options = LoadOptions { dtype, ..LoadOptions::default() };
            let loaded = models::load(&dir, &options, &mut |_| ControlFlow::Continue(())).unwrap();
            cases.push((weights, loaded));
        }
    }
    println!("host time to build the graph of one token, median of {repeats} in microseconds");
    println!(
        "{:>24} {:>12} {:>10} {:>10} {:>8} {:>8}",
        "weights, sampling", "activations", "mlx-lm", "nodemlx", "ratio", "drop"
    );
    for _ in 0..rounds {
        let reference = reference(repeats);
        for (weights, Loaded { model, info, .. }) in &cases {
            for (sampling, temperature) in [("greedy", 0.0), ("temperature", 0.7)] {
                let name = format!("{weights}, {sampling}");
                let (built, dropped) = measure(&**model, info.dtype, temperature, repeats);
                let theirs = reference
                    .as_ref()
                    .and_then(|it| it["results"][&name]["build"]["median"].as_f64());
                let (theirs, ratio) = match theirs {
                    Some(theirs) => (format!("{theirs:.1}"), format!("{:.2}", theirs / built)),
                    None => ("–".to_owned(), "–".to_owned()),
                };
                println!(
                    "{name:>24} {:>12} {theirs:>10} {built:>10.1} {ratio:>8} {dropped:>8.1}",
                    mlx::dtype_name(info.dtype)
                );
            }
        }
    }
    std::fs::remove_dir_all(root).unwrap();
}
