//! Tokens per second of a whole model on the CPU, and what share of the memory's bandwidth its
//! decoding uses.
//!
//!     cargo bench --bench throughput [-- --bits 4] [--experts 1] [--prompt 256] [--tokens 8] \
//!         [--batch 1] [--rounds 12] [--precision fast]
//!
//! The weights are random; 0 bits means bfloat16. What a token must read, the weights and the keys
//! and values before it, is compared with a plain read of the same file by the same threads, just
//! before and after each round; sequences that are decoded as a batch are compared with a single
//! one in turns. `--rounds 0` only reads the prompt, `--write FOLDER` only writes the checkpoint,
//! `--bandwidth ROUNDS` only measures the memory.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark")]

mod common;

use std::fs::File;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use common::{Checkpoint, VOCABULARY, argument, median, number, read, seconds};
use nodemlx::cache::Cache;
use nodemlx::fused::sampling::{Draw, RowDraw, Sampling, SamplingOptions, draw_tokens};
use nodemlx::fused::{Device, Precision};
use nodemlx::mlx::{self, Array, DeviceKind, MappedFile, ops};
use nodemlx::models::{self, LanguageModel, LoadOptions};

/// `batch` equal sequences.
struct Sequences<'a> {
    model: &'a dyn LanguageModel,
    caches: Vec<Cache>,
    batch: usize,
    last: Array,
    /// Positions that each of them has.
    positions: usize,
}

impl<'a> Sequences<'a> {
    /// Reads the prompt, and says how many seconds that took.
    fn begin(model: &'a dyn LanguageModel, batch: usize, prompt: usize) -> (Self, f64) {
        let caches = model.make_caches();
        let last = mlx::from_u32(&[], &[0]);
        let mut sequences = Self { model, caches, batch, last, positions: 0 };
        let words: Vec<u32> = (0..prompt as u32).map(|i| i * 37 % VOCABULARY as u32).collect();
        let prefill = seconds(|| {
            for chunk in words.chunks(CHUNK) {
                let tokens =
                    mlx::from_u32(&chunk.repeat(batch), &[batch as i32, chunk.len() as i32]);
                sequences.last = sequences.queue(&tokens);
                mlx::eval(&[&sequences.last]).unwrap();
            }
        });
        (sequences, prefill)
    }

    /// Starts the step that follows `tokens`.
    fn queue(&mut self, tokens: &Array) -> Array {
        self.positions += tokens.dim(-1) as usize;
        let logits = self.model.logits(tokens, &mut self.caches).unwrap();
        let last = ops::slice_axis(&logits, 1, logits.dim(1) - 1, logits.dim(1)).unwrap();
        let last = ops::squeeze(&last, 1).unwrap();
        let greedy = Sampling::new(SamplingOptions { temperature: 0.0, ..Default::default() });
        let row = RowDraw { sampling: &greedy, draw: Draw { seed: 0, index: 0 } };
        let drawn = draw_tokens(self.model.device(), &last, &vec![row; self.batch]).unwrap();
        mlx::async_eval(&[&drawn.tokens]).unwrap();
        ops::expand_dims(&drawn.tokens, -1).unwrap()
    }

    /// Seconds of a step, the median of `steps`, each queued before the one before is waited for,
    /// as the engine does it.
    fn steps(&mut self, steps: usize) -> f64 {
        let last = self.last.clone();
        let mut waiting = self.queue(&last);
        let times = (0..steps).map(|_| {
            seconds(|| {
                let next = self.queue(&waiting.clone());
                mlx::eval(&[&waiting]).unwrap();
                waiting = next;
            })
        });
        let step = median(times.collect());
        mlx::eval(&[&waiting]).unwrap();
        self.last = waiting;
        step
    }

    fn tokens_per_second(&self, step: f64) -> f64 {
        self.batch as f64 / step
    }
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
        let plain = vec![1; 600_000_000];
        let times = (0..rounds.parse().unwrap()).map(|_| seconds(|| read(&plain))).collect();
        return println!("{:.1}", 0.6 / median(times));
    }
    let checkpoint = Checkpoint { bits: number("--bits", 4), experts: number("--experts", 0) > 0 };
    if let Some(dir) = argument("--write") {
        return checkpoint.write(Path::new(&dir), false);
    }
    let (prompt, tokens) = (number("--prompt", 256), number("--tokens", 8));
    let (batch, rounds) = (number("--batch", 1), number("--rounds", 12));
    let dir = tempfile::tempdir().unwrap();
    checkpoint.write(dir.path(), false);
    let bytes = checkpoint.bytes_per_token();
    mlx::enter(DeviceKind::Cpu).unwrap();
    let precision = match argument("--precision").as_deref() {
        Some("exact") => Precision::Exact,
        Some("fastest") => Precision::Fastest,
        _ => Precision::Fast,
    };
    let options = LoadOptions { device: Device::cpu(None, precision), ..Default::default() };
    let start = Instant::now();
    let loaded = models::load(dir.path(), &options, &mut |_| ControlFlow::Continue(())).unwrap();
    let (_, first) = Sequences::begin(&*loaded.model, 1, 16);
    println!(
        "loaded and 16 tokens in {:.2} s, of these {first:.2} s for the tokens; {}",
        start.elapsed().as_secs_f64(),
        resident()
    );
    // The same pages that the model reads.
    let file = File::open(dir.path().join("model.safetensors")).unwrap();
    let file = MappedFile::map(&file).unwrap();
    let read = || seconds(|| read(&file.bytes()[..bytes]));
    read();
    let (mut one, prefill) = Sequences::begin(&*loaded.model, 1, prompt);
    println!("prefill of {prompt}: {:.1} tokens/s", prompt as f64 / prefill);
    if rounds == 0 {
        return;
    }
    let mut many = (batch > 1).then(|| Sequences::begin(&*loaded.model, batch, prompt).0);
    let (mut reads, mut steps, mut gains) = (vec![], vec![], vec![]);
    let (mut rates, mut shares) = (vec![], vec![]);
    let mut before = read();
    for _ in 0..rounds {
        let must = bytes + checkpoint.cache_bytes(one.positions + tokens / 2);
        let step = one.steps(tokens);
        let after = read();
        rates.push(must as f64 / step);
        shares.push(must as f64 / step / (bytes as f64 / ((before + after) / 2.0)));
        if let Some(many) = &mut many {
            let together = many.steps(tokens);
            gains.push(many.tokens_per_second(together) / one.tokens_per_second(step));
        }
        steps.push(step);
        reads.push(after);
        before = read();
    }
    println!("memory: {:.1} GB/s", bytes as f64 / median(reads) / 1e9);
    let (share, step) = (median(shares), median(steps));
    println!(
        "decode: {:.1} tokens/s, {:.1} GB/s, {:.0} % of a plain read",
        one.tokens_per_second(step),
        median(rates) / 1e9,
        100.0 * share
    );
    if batch > 1 {
        println!("decode of {batch} together: {:.2} times as many tokens", median(gains));
    }
}
