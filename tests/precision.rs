//! What it costs to round the activations of quantized products, and the keys and values that are
//! kept: the demo model's logits and perplexity as it runs by default and exactly.
//!
//! `tests/fixtures/conversations.txt` are held-out conversations of the generator in
//! tools/demo-model, seed 20. The figures in docs/benchmarks.md are what this test prints (`cargo
//! test --test precision -- --nocapture`).
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that shows its figures")]

use std::ops::ControlFlow;
use std::path::Path;

use nodemlx::fused::{Device, Precision};
use nodemlx::mlx::{self, DeviceKind};
use nodemlx::models::{self, LoadOptions};
use nodemlx::text::Tokenizer;

/// The mean of −ln p of each next token.
fn cross_entropy(logits: &[f32], tokens: &[u32]) -> f64 {
    let vocabulary = logits.len() / tokens.len();
    let losses = logits.chunks(vocabulary).zip(&tokens[1..]).map(|(row, &next)| {
        let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = row.iter().map(|&x| f64::from(x - most).exp()).sum();
        sum.ln() - f64::from(row[next as usize] - most)
    });
    losses.sum::<f64>() / (tokens.len() - 1) as f64
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|value| value * value).sum::<f64>().sqrt()
}

#[test]
fn speed_leaves_logits_and_perplexity_as_they_are() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = root.join("models/demo");
    let text = std::fs::read_to_string(root.join("tests/fixtures/conversations.txt")).unwrap();
    let tokenizer = Tokenizer::from_dir(&folder).unwrap().unwrap();
    let mut tokens = tokenizer.encode(&text, false).unwrap();
    // Without optimization the kernels take a hundred times as long.
    if cfg!(debug_assertions) {
        tokens.truncate(300);
    }
    mlx::enter(DeviceKind::Cpu).unwrap();
    let logits = [Precision::Exact, Precision::Fast, Precision::Fastest].map(|precision| {
        let device = Device::cpu(None, precision);
        let options = LoadOptions { device, ..LoadOptions::default() };
        let loaded = models::load(&folder, &options, &mut |_| ControlFlow::Continue(())).unwrap();
        let shape = [1, tokens.len() as i32];
        let mut caches = loaded.model.make_caches();
        let logits = loaded.model.logits(&mlx::from_u32(&tokens, &shape), &mut caches).unwrap();
        mlx::to_f32_vec(&logits).unwrap()
    });
    let [exact, rounded @ ..] = &logits;
    let perplexity = |logits: &[f32]| cross_entropy(logits, &tokens).exp();
    let expected = perplexity(exact);
    // Questions count too, which nobody could foresee; still, a model that knows nothing would be
    // at 4096.
    assert!(expected < 1000.0, "{expected}");
    println!("{} tokens: perplexity {expected:.6} exact", tokens.len());
    let bounds = [("fast", 1e-3, 1e-4), ("fastest", 3e-2, 1e-2)];
    for (logits, (name, most_error, most_change)) in rounded.iter().zip(bounds) {
        let difference = norm(exact.iter().zip(logits).map(|(a, b)| f64::from(*a) - f64::from(*b)));
        let error = difference / norm(exact.iter().map(|x| f64::from(*x)));
        let found = perplexity(logits);
        let change = found / expected - 1.0;
        println!("{name}: logits differ by {error:.2e}, perplexity {found:.6}: {change:+.1e}");
        assert!(error < most_error, "{name}: {error}");
        assert!(change.abs() < most_change, "{name}: {found} instead of {expected}");
    }
}
