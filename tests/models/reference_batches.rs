//! Rows of unequal lengths that join and leave, against what mlx-lm computes in batches of its own:
//! every file of `tests/fixtures/batches` has sequences of the model fixture of its name.

use std::ops::ControlFlow;
use std::path::Path;

use nodemlx::cache::Cache;
use nodemlx::fused::{Device, Precision};
use nodemlx::mlx::{self, DeviceKind, Dtype};
use nodemlx::models::{self, LanguageModel, LoadOptions};
use nodemlx::nn::{Step, StepRow};
use safetensors::SafeTensors;

use super::{fixtures, relative_error};

const TOLERANCE: f64 = 1e-4;

struct Sequence {
    /// The step with which it joins.
    start: usize,
    prompt: Vec<u32>,
    /// What mlx-lm chooses behind the prompt.
    tokens: Vec<u32>,
    /// The logarithms of the probabilities by which it does, one row after the other.
    logprobs: Vec<f32>,
}

fn read(path: &Path) -> Vec<Sequence> {
    let bytes = std::fs::read(path).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let words = |name: &str| -> Vec<[u8; 4]> {
        let data = tensors.tensor(name).unwrap().data();
        data.chunks_exact(4).map(|word| word.try_into().unwrap()).collect()
    };
    let ids =
        |name: &str| -> Vec<u32> { words(name).into_iter().map(u32::from_le_bytes).collect() };
    let sequence = |(place, start): (usize, u32)| Sequence {
        start: start as usize,
        prompt: ids(&format!("prompt.{place}")),
        tokens: ids(&format!("tokens.{place}")),
        logprobs: words(&format!("logprobs.{place}")).into_iter().map(f32::from_le_bytes).collect(),
    };
    ids("starts").into_iter().enumerate().map(sequence).collect()
}

/// The logits by which each sequence chooses its tokens, all in one step each.
fn logits(model: &dyn LanguageModel, sequences: &[Sequence]) -> Vec<Vec<f32>> {
    let mut caches: Vec<Vec<Cache>> = sequences.iter().map(|_| model.make_caches()).collect();
    let mut all = vec![Vec::new(); sequences.len()];
    let mut made = vec![0; sequences.len()];
    let mut turn = 0;
    while made.iter().zip(sequences).any(|(made, it)| *made < it.tokens.len()) {
        let is_there = |row: &usize| {
            sequences[*row].start <= turn && made[*row] < sequences[*row].tokens.len()
        };
        let rows: Vec<usize> = (0..sequences.len()).filter(is_there).collect();
        let part = |&row: &usize| match made[row] {
            0 => &sequences[row].prompt[..],
            count => &sequences[row].tokens[count - 1..count],
        };
        let packed: Vec<u32> = rows.iter().flat_map(part).copied().collect();
        let packed = mlx::from_u32(&packed, &[1, packed.len() as i32]);
        let of_step = |row| StepRow { length: part(row).len() as i32, logits: 1 };
        let step = Step::new(&packed, rows.iter().map(of_step).collect()).unwrap();
        let there = caches.iter_mut().enumerate().filter(|(row, _)| rows.contains(row));
        let mut there: Vec<&mut [Cache]> = there.map(|(_, caches)| &mut caches[..]).collect();
        let logits = mlx::to_f32_vec(&model.forward(&step, &mut there).unwrap()).unwrap();
        for (row, logits) in rows.into_iter().zip(logits.chunks(model.vocabulary())) {
            all[row].extend_from_slice(logits);
            made[row] += 1;
        }
        turn += 1;
    }
    all
}

/// Rows less their means: probabilities leave a constant of the logits open.
fn centered(rows: &[f32], vocabulary: usize) -> Vec<f32> {
    let of_row = |row: &[f32]| -> Vec<f32> {
        let mean = row.iter().sum::<f32>() / row.len() as f32;
        row.iter().map(|value| value - mean).collect()
    };
    rows.chunks(vocabulary).flat_map(of_row).collect()
}

#[test]
fn rows_that_run_together_have_the_logits_of_the_references_batches() {
    mlx::enter(DeviceKind::Cpu).unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/batches");
    let exact = Device::cpu(Some(1), Precision::Exact);
    let mut seen = 0;
    for fixture in fixtures() {
        let name = fixture.file_name().unwrap().display().to_string();
        let path = folder.join(format!("{name}.safetensors"));
        if !path.exists() {
            continue;
        }
        seen += 1;
        let sequences = read(&path);
        for device in [exact, exact.plain()] {
            let dtype = Some(Dtype::Float32);
            let options = LoadOptions { device, dtype, ..LoadOptions::default() };
            let go_on = &mut |_| ControlFlow::Continue(());
            let model = models::load(&fixture, &options, go_on).unwrap().model;
            let vocabulary = model.vocabulary();
            for (logits, expected) in logits(&*model, &sequences).iter().zip(&sequences) {
                let (a, b) = (logits, &expected.logprobs);
                let error = relative_error(&centered(a, vocabulary), &centered(b, vocabulary));
                let start = expected.start;
                assert!(error < TOLERANCE, "{name}, from step {start}, {device:?}: {error:.2e}");
            }
        }
    }
    assert!(seen > 0 || std::env::var("FIXTURES").is_ok());
}
