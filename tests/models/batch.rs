//! Rows of unequal length in one step, which join and leave: every architecture gives each of them
//! the logits that it gets alone.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use nodemlx::cache::{Cache, CacheLimits, KvQuantization};
use nodemlx::error::Result;
use nodemlx::fused::{Device, Precision};
use nodemlx::mlx::{self, DeviceKind, Dtype};
use nodemlx::models::{self, LanguageModel, LoadOptions};
use nodemlx::nn::{Step, StepRow};

use super::{Golden, fixtures, logits, model_type, relative_error};

const TOLERANCE: f64 = 1e-4;

/// How many positions each row has in each step; 0 where it is not there.
const STEPS: [[usize; 3]; 7] =
    [[5, 9, 0], [1, 1, 0], [1, 1, 7], [1, 1, 1], [0, 1, 1], [0, 4, 1], [3, 0, 1]];

/// The tokens of a row; the longest has 18.
fn tokens(golden: &Golden, row: usize) -> Vec<u32> {
    golden.tokens.iter().copied().cycle().skip(3 * row).take(18).collect()
}

fn caches(model: &dyn LanguageModel, limits: CacheLimits) -> Vec<Cache> {
    model.make_caches().into_iter().map(|cache| cache.limited(&limits)).collect()
}

/// The logits of each row, alone.
fn alone(model: &dyn LanguageModel, golden: &Golden, limits: CacheLimits) -> Result<Vec<Vec<f32>>> {
    let of_row = |row| {
        let (tokens, mut start) = (tokens(golden, row), 0);
        let (mut caches, mut all) = (caches(model, limits), Vec::new());
        for length in STEPS.map(|step| step[row]).into_iter().filter(|&length| length > 0) {
            let part = mlx::from_u32(&tokens[start..start + length], &[1, length as i32]);
            let logits = model.logits(&part, &mut caches)?;
            all.extend(mlx::to_f32_vec(&logits).unwrap());
            start += length;
        }
        Ok(all)
    };
    (0..3).map(of_row).collect()
}

/// The same in one step each for all rows that are there.
fn together(model: &dyn LanguageModel, golden: &Golden, limits: CacheLimits) -> [Vec<f32>; 3] {
    let texts = [0, 1, 2].map(|row| tokens(golden, row));
    let mut all = [const { Vec::new() }; 3];
    let (mut starts, mut rows) = ([0; 3], [0, 1, 2].map(|_| caches(model, limits)));
    for lengths in STEPS {
        let present: Vec<usize> = (0..3).filter(|&row| lengths[row] > 0).collect();
        let parts = present.iter().map(|&row| &texts[row][starts[row]..starts[row] + lengths[row]]);
        let packed: Vec<u32> = parts.flatten().copied().collect();
        let packed = mlx::from_u32(&packed, &[1, packed.len() as i32]);
        let of_step =
            |&row: &usize| StepRow { length: lengths[row] as i32, logits: lengths[row] as i32 };
        let step = Step::new(&packed, present.iter().map(of_step).collect()).unwrap();
        let there = rows.iter_mut().enumerate().filter(|(row, _)| lengths[*row] > 0);
        let mut there: Vec<&mut [Cache]> = there.map(|(_, caches)| &mut caches[..]).collect();
        let logits = mlx::to_f32_vec(&model.forward(&step, &mut there).unwrap()).unwrap();
        let mut logits = logits.chunks(model.vocabulary());
        for row in present {
            all[row].extend(logits.by_ref().take(lengths[row]).flatten());
            starts[row] += lengths[row];
        }
    }
    all
}

/// What is wrong with the logits of rows that run together.
fn check(name: &str, device: Device, limits: CacheLimits) -> Option<String> {
    let folder = seeded::folder(name);
    let options = LoadOptions { device, dtype: Some(Dtype::Float32), ..LoadOptions::default() };
    let loaded = models::load(&folder, &options, &mut |_| ControlFlow::Continue(())).unwrap();
    let golden = Golden::read(&folder);
    let expected = match alone(&*loaded.model, &golden, limits) {
        Ok(expected) => expected,
        // Heads of a few features cannot be quantized.
        Err(_) if limits.quantization.is_some() => return None,
        Err(error) => return Some(format!("{name}: {error}")),
    };
    let actual = together(&*loaded.model, &golden, limits);
    let errors = actual.iter().zip(&expected).map(|(a, b)| relative_error(a, b));
    let largest = errors.fold(0.0, f64::max);
    (largest > TOLERANCE).then(|| format!("{name}, {device:?}, {limits:?}: {largest:.2e}"))
}

/// Positions with equal biases are chosen among by their order alone, not by how a text is cut.
#[test]
fn repeated_tokens_are_looked_at_alike_however_they_are_read() {
    mlx::enter(DeviceKind::Cpu).unwrap();
    let options = LoadOptions {
        device: Device::cpu(Some(1), Precision::Exact),
        dtype: Some(Dtype::Float32),
        ..LoadOptions::default()
    };
    let folder = seeded::folder("doge-raw");
    let loaded = models::load(&folder, &options, &mut |_| ControlFlow::Continue(())).unwrap();
    // Three tokens over and over, of whose positions ten are looked at. Products of a few rows and of
    // many round otherwise.
    let tokens: Vec<u32> = (0..60).map(|index| [5, 9, 5, 7][index % 4]).collect();
    let whole = logits(&*loaded.model, &tokens, tokens.len());
    for chunk in [1, 2, 3, 5, 13] {
        let error = relative_error(&logits(&*loaded.model, &tokens, chunk), &whole);
        assert!(error < TOLERANCE, "chunks of {chunk}: {error:.2e}");
    }
}

fn names() -> Vec<String> {
    let name = |folder: &std::path::PathBuf| folder.file_name().unwrap().display().to_string();
    fixtures().iter().map(name).collect()
}

#[test]
fn rows_that_run_together_have_the_logits_that_they_have_alone() {
    mlx::enter(DeviceKind::Cpu).unwrap();
    let device = Device::cpu(Some(1), Precision::Exact);
    let check = |name: &String| check(name, device, CacheLimits::default());
    let failures: Vec<_> = names().iter().filter_map(check).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// One checkpoint stands for an architecture: with caches of other kinds, and with MLX's own
/// operations.
#[test]
fn rows_run_together_with_every_kind_of_cache_and_in_plain_compositions() {
    mlx::enter(DeviceKind::Cpu).unwrap();
    let mut seen = BTreeSet::new();
    let names = names().into_iter().filter(|name| seen.insert(model_type(&seeded::folder(name))));
    let exact = Device::cpu(Some(1), Precision::Exact);
    let quantization = Some(KvQuantization { group_size: None, bits: 8 });
    let failures: Vec<_> = names
        .flat_map(|name| {
            let limited = CacheLimits { max_size: Some(8), quantization: None };
            let packed = CacheLimits { max_size: None, quantization };
            let plain = (exact.plain(), CacheLimits::default());
            [plain, (exact, limited), (exact, packed)]
                .map(|(device, limits)| check(&name, device, limits))
        })
        .flatten()
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
