//! Tokens per second of a whole model on the CPU, and what share of the memory's bandwidth its decoding uses.
//!
//!     cargo bench --bench throughput [-- --bits 4] [--experts 1] [--prompt 256] [--tokens 32] [--batch 1] [--rounds 3]
//!
//! The weights are random; 0 bits means bfloat16. A plain read of as many bytes, by the same threads and between the rounds, is the measure. `--write FOLDER` only
//! writes the checkpoint, `--bandwidth ROUNDS` only measures the memory.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark")]

mod common;

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use common::{Checkpoint, VOCABULARY, argument, median, number, read, seconds};
use nodemlx::mlx::{self, Array, DeviceKind, ops};
use nodemlx::models::{self, LanguageModel, LoadOptions};

/// Seconds of the prompt and of a step after it, of `batch` equal sequences.
fn generate(model: &dyn LanguageModel, batch: usize, prompt: usize, steps: usize) -> (f64, f64) {
    let mut caches = model.make_caches();
    // As the engine does it: in pieces, and each step is queued before the one before is waited for.
    let mut queue = |tokens: &Array| {
        let logits = model.forward(tokens, &mut caches).unwrap();
        let last = ops::slice_axis(&logits, 1, logits.dim(1) - 1, logits.dim(1)).unwrap();
        let token = ops::argmax(&last, -1).unwrap();
        mlx::async_eval(&[&token]).unwrap();
        token
    };
    let words: Vec<u32> = (0..prompt as u32).map(|i| i * 37 % VOCABULARY as u32).collect();
    let mut last = mlx::from_u32(&[], &[0]);
    let prefill = seconds(|| {
        for chunk in words.chunks(CHUNK) {
            last = queue(&mlx::from_u32(&chunk.repeat(batch), &[batch as i32, chunk.len() as i32]));
            mlx::eval(&[&last]).unwrap();
        }
    });
    let mut step = || {
        let next = queue(&last);
        mlx::eval(&[&last]).unwrap();
        last = next;
    };
    // The first one waits for nothing.
    step();
    let times = (0..steps).map(|_| seconds(&mut step)).collect();
    (prefill, median(times))
}

/// Tokens of a prompt that are read at a time.
const CHUNK: usize = 256;

/// What the process has in memory: pages of its own, and of files.
fn resident() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let lines = status.lines().filter(|line| line.starts_with("Rss"));
    lines
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect::<Vec<_>>()
        .join(", ")
}

fn main() {
    if let Some(rounds) = argument("--bandwidth") {
        let plain = vec![1_u64; 600_000_000 / 8];
        let times = (0..rounds.parse().unwrap()).map(|_| seconds(|| read(&plain))).collect();
        return println!("{:.1}", 0.6 / median(times));
    }
    let checkpoint = Checkpoint { bits: number("--bits", 4), experts: number("--experts", 0) > 0 };
    if let Some(dir) = argument("--write") {
        return checkpoint.write(Path::new(&dir), false);
    }
    let (prompt, tokens) = (number("--prompt", 256), number("--tokens", 32));
    let (batch, rounds) = (number("--batch", 1), number("--rounds", 3));
    let dir = tempfile::tempdir().unwrap();
    checkpoint.write(dir.path(), false);
    let bytes = checkpoint.bytes_per_token();
    mlx::enter(DeviceKind::Cpu).unwrap();
    let options = LoadOptions::default();
    let start = Instant::now();
    let loaded = models::load(dir.path(), &options, &mut |_| ControlFlow::Continue(())).unwrap();
    let (first, _) = generate(&*loaded.model, 1, 16, 1);
    println!(
        "loaded and 16 tokens in {:.2} s, of these {first:.2} s for the tokens; {}",
        start.elapsed().as_secs_f64(),
        resident()
    );
    let plain = vec![1_u64; bytes / 8];
    let (mut reads, mut prefills, mut steps) = (vec![], vec![], vec![]);
    for _ in 0..rounds {
        reads.extend((0..3).map(|_| seconds(|| read(&plain))));
        let (prefill, step) = generate(&*loaded.model, batch, prompt, tokens);
        prefills.push(prefill);
        steps.push(step);
    }
    let (read, prefill, step) = (median(reads), median(prefills), median(steps));
    println!("memory: {:.1} GB/s", bytes as f64 / read / 1e9);
    println!("prefill of {batch} × {prompt}: {:.1} tokens/s", (batch * prompt) as f64 / prefill);
    println!(
        "decode: {:.1} tokens/s, {:.1} GB/s, {:.0} % of a plain read",
        batch as f64 / step,
        bytes as f64 / step / 1e9,
        100.0 * read / step
    );
}
