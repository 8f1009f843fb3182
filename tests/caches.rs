//! Parity of the caches with mlx-lm's: what each update returns, in which order, under which mask.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::ops::ControlFlow;
use std::path::Path;

use nodemlx::cache::{Cache, CacheLimits, KvQuantization};
use nodemlx::mlx::fast::Mask;
use nodemlx::mlx::{self, Array, DeviceKind, Dtype};
use nodemlx::models::{self, LoadOptions};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct Fixture {
    rotating: Vec<Case>,
    standard: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    max_size: Option<i32>,
    #[serde(default)]
    keep: i32,
    window_size: Option<i32>,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    update: Option<i32>,
    #[serde(default)]
    mask: Value,
    returned: Option<Vec<f32>>,
    returned_length: Option<i32>,
    offset: i32,
    buffer_length: Option<i32>,
    is_trimmable: Option<bool>,
    trim: Option<i32>,
    trimmed: Option<i32>,
}

/// Token p has keys of p and values of −p in both heads.
fn tokens(from: i32, count: i32, sign: f32) -> Array {
    let row: Vec<f32> = (from..from + count).map(|p| sign * p as f32).collect();
    mlx::from_f32(&[row.clone(), row].concat(), &[1, 2, count, 1])
}

/// The mask over the keys at `positions` for queries from `first` on, where it is an array.
fn window_mask(positions: &[f32], first: i32, count: i32, size: i32, keep: i32) -> Vec<String> {
    let seen = |query: f32, key: f32| {
        // Kept positions stay visible, and the others fill what is left of the ring. The reference
        // masks kept positions away within a chunk.
        key <= query && (query - key < (size - keep) as f32 || key < keep as f32)
    };
    let row = |query: i32| {
        positions.iter().map(|&key| if seen(query as f32, key) { '1' } else { '0' }).collect()
    };
    (first..first + count).map(row).collect()
}

fn check_step(name: &str, case: &Case, step: &Step, cache: &mut Cache) {
    if let Some(count) = step.trim {
        assert_eq!(Some(cache.trim(count)), step.trimmed, "{name}");
    }
    if let Some(count) = step.update {
        let first = cache.offset();
        let mask = cache.mask(count, case.window_size).unwrap();
        let positions = mlx::to_f32_vec(&cache.positions(count).unwrap()).unwrap();
        let (keys, values) =
            cache.update(&tokens(first, count, 1.0), &tokens(first, count, -1.0)).unwrap();
        assert_eq!(Some(keys.dim(2)), step.returned_length, "{name}");
        let keys = mlx::to_f32_vec(&keys).unwrap();
        let (head, other) = keys.split_at(keys.len() / 2);
        assert_eq!(head, other, "{name}: both heads hold the same tokens");
        assert_eq!(head, positions, "{name}");
        let negated: Vec<f32> = mlx::to_f32_vec(&values).unwrap().iter().map(|v| -v).collect();
        assert_eq!(keys, negated, "{name}");
        let expected = step.returned.as_ref().unwrap();
        if head.len() == expected.len() {
            assert_eq!(head, expected, "{name}");
        } else {
            assert_eq!([head[0], head[head.len() - 1]], expected[..], "{name}");
        }
        match (&mask, &step.mask) {
            (Mask::None, Value::Null) => {}
            (Mask::Causal, Value::String(mode)) if mode == "causal" => {}
            (Mask::Array(array), Value::Array(rows)) => {
                let size = case.max_size.or(case.window_size).unwrap();
                let bits = mlx::to_u32_vec(array).unwrap();
                let actual: Vec<String> = bits
                    .chunks(head.len())
                    .map(|row| row.iter().map(u32::to_string).collect())
                    .collect();
                assert_eq!(actual, window_mask(head, first, count, size, case.keep), "{name}");
                if case.keep == 0 {
                    assert_eq!(
                        actual,
                        rows.iter().map(|row| row.as_str().unwrap()).collect::<Vec<_>>()
                    );
                }
            }
            (mask, expected) => panic!("{name}: mask {mask:?}, expected {expected}"),
        }
    }
    assert_eq!(cache.offset(), step.offset, "{name}");
    if let Some(trimmable) = step.is_trimmable {
        assert_eq!(cache.is_trimmable(), trimmable, "{name}");
    }
    if let Some(length) = step.buffer_length {
        let actual = cache.arrays()[0].dim(2);
        match cache {
            Cache::Rotating(_) => assert_eq!(actual, length, "{name}"),
            // The reference's buffer loses its alignment when it grows in the middle of a step.
            Cache::Standard(_) => assert_eq!(actual, (length + 255) / 256 * 256, "{name}"),
            Cache::Chunked(_) | Cache::Arrays(_) | Cache::List(_) => {
                panic!("{name}: not a cache of keys and values")
            }
        }
    }
}

#[test]
fn caches_agree_with_the_reference() {
    mlx::enter(DeviceKind::Cpu).unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/caches.json");
    let fixture: Fixture = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let mut checked = 0;
    for case in fixture.rotating.iter().chain(&fixture.standard) {
        let mut cache = match case.max_size {
            // A rotating cache is its own window.
            Some(size) if case.window_size.is_some_and(|window| window < size) => continue,
            Some(size) => Cache::rotating(size, case.keep),
            None => Cache::standard(),
        };
        for (index, step) in case.steps.iter().enumerate() {
            check_step(&format!("{}, step {index}", case.name), case, step, &mut cache);
        }
        checked += 1;
    }
    assert!(checked >= 20, "only {checked} cases");
}

/// The logits of the demo model for `tokens`, in chunks, and the bytes of its caches after them.
fn demo_logits(tokens: &[u32], limits: &CacheLimits) -> (Vec<f32>, usize) {
    demo_logits_in(None, tokens, limits)
}

/// The same, loaded in this type.
fn demo_logits_in(dtype: Option<Dtype>, tokens: &[u32], limits: &CacheLimits) -> (Vec<f32>, usize) {
    mlx::enter(DeviceKind::Cpu).unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo");
    let options = LoadOptions { dtype, ..LoadOptions::default() };
    let model = models::load(&folder, &options, &mut |_| ControlFlow::Continue(())).unwrap().model;
    let mut caches: Vec<Cache> =
        model.make_caches().into_iter().map(|cache| cache.limited(limits)).collect();
    let mut logits = Vec::new();
    for chunk in tokens.chunks(24) {
        let chunk = mlx::from_u32(chunk, &[1, chunk.len() as i32]);
        logits = mlx::to_f32_vec(&model.logits(&chunk, &mut caches).unwrap()).unwrap();
    }
    (logits, caches.iter().map(Cache::nbytes).sum())
}

/// ‖a − b‖ / ‖b‖.
fn relative_error(a: &[f32], b: &[f32]) -> f32 {
    let norm = |values: &mut dyn Iterator<Item = f32>| values.map(|v| v * v).sum::<f32>().sqrt();
    norm(&mut a.iter().zip(b).map(|(a, b)| a - b)) / norm(&mut b.iter().copied())
}

#[test]
fn what_is_kept_of_a_checkpoint_in_16_bits_has_16_bits() {
    let tokens: Vec<u32> = (0..60).map(|n| (n * 37) % 1000 + 300).collect();
    let limits = CacheLimits::default();
    let (half, less) = demo_logits(&tokens, &limits);
    let (single, bytes) = demo_logits_in(Some(Dtype::Float32), &tokens, &limits);
    assert_eq!(2 * less, bytes);
    let error = relative_error(&half, &single);
    assert!(error > 0.0 && error < 1e-3, "relative error {error}");
}

#[test]
fn packed_keys_and_values_take_less_memory_and_change_little() {
    let tokens: Vec<u32> = (0..60).map(|n| (n * 37) % 1000 + 300).collect();
    let (exact, bytes) = demo_logits(&tokens, &CacheLimits::default());
    for (bits, max_size, bound, part) in
        [(8, None, 0.01, 0.54), (8, Some(1000), 0.01, 0.54), (4, None, 0.25, 0.29)]
    {
        let quantization = Some(KvQuantization { group_size: None, bits });
        let (packed, less) = demo_logits(&tokens, &CacheLimits { max_size, quantization });
        let error = relative_error(&packed, &exact);
        assert!(error > 0.0 && error < bound, "{bits} bits: relative error {error}");
        assert!((less as f32) < part * bytes as f32, "{less} of {bytes} bytes");
    }
}

#[test]
fn a_window_of_packed_keys_and_values_is_the_window_packed() {
    let tokens: Vec<u32> = (0..80).map(|n| (n * 41) % 1000 + 300).collect();
    let window = |quantization| CacheLimits { max_size: Some(32), quantization };
    let (exact, bytes) = demo_logits(&tokens, &window(None));
    let (packed, less) =
        demo_logits(&tokens, &window(Some(KvQuantization { group_size: None, bits: 8 })));
    let largest = |values: &[f32]| {
        values
            .chunks(4096)
            .map(|row| (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap())
            .collect::<Vec<_>>()
    };
    let (same, all) = (largest(&exact), largest(&packed));
    let agreeing = same.iter().zip(&all).filter(|(a, b)| a == b).count();
    assert!(agreeing * 10 >= all.len() * 9, "{agreeing} of {} likeliest tokens agree", all.len());
    assert!(less * 9 < bytes * 5, "{less} of {bytes} bytes");
}

#[test]
fn heads_that_cannot_be_packed_are_refused() {
    mlx::enter(DeviceKind::Cpu).unwrap();
    let limits = CacheLimits {
        max_size: None,
        quantization: Some(KvQuantization { group_size: Some(64), bits: 8 }),
    };
    let mut cache = Cache::standard().limited(&limits);
    let keys = mlx::from_f32(&[0.5; 96], &[1, 1, 1, 96]);
    let error = cache.update(&keys, &keys).unwrap_err();
    assert_eq!(error.code(), "UNSUPPORTED");
    assert!(error.to_string().contains("kvGroupSize that divides 96"), "{error}");
}
