//! Parity with mlx-lm: every file of `tests/fixtures/models` describes a checkpoint, with the
//! reference's logits and greedy tokens beside it, computed in float32 on the CPU. Adding a case is
//! adding these files; `FIXTURES=llama cargo test --test models` checks those whose names begin so
//! (or `FIXTURES=llama,phi.json`, where `phi` is the whole name). What passes is what
//! `docs/models.md` says (see `table.rs`).
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod batch;
mod contexts;
mod defaults;
mod long_prompts;
mod outline;
mod reference_batches;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZero;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::thread::available_parallelism;

use nodemlx::cache::Cache;
use nodemlx::error::Result;
use nodemlx::fused::{Device, Precision};
use nodemlx::generate::{
    GenerationOptions, Sequence, SequenceOptions, SpeculationOptions, Speculator, decode,
};
use nodemlx::mlx::{self, DeviceKind, Dtype};
use nodemlx::models::{self, LanguageModel, LoadOptions, Loaded};
use nodemlx::nn::{Step, StepRow};
use safetensors::SafeTensors;
use table::Table;

/// ‖a − b‖ / ‖b‖ of the logits: what float32 arithmetic in another order stays below, and what it
/// stays below with the activations of quantized products rounded to 16 bits.
const TOLERANCES: [(Precision, f64); 2] = [(Precision::Exact, 1e-4), (Precision::Fast, 5e-4)];

/// Checkpoints whose logits move by more with [`Precision::Fast`]: noise of 2⁻¹⁵ at the inputs of
/// their quantized products moves the reference's own by 10⁻³, for what the delta rule gives is
/// normalized, however small it is.
const SENSITIVE: ([&str; 2], f64) = (["qwen3-next-4bit", "qwen3-5-moe-4bit"], 2e-3);

fn fixtures() -> Vec<PathBuf> {
    let mut names = seeded::names();
    if let Ok(prefixes) = std::env::var("FIXTURES") {
        let chosen = |name: &String| {
            let file = format!("{name}.json");
            prefixes.split(',').any(|prefix| file.starts_with(prefix))
        };
        names.retain(chosen);
        assert!(!names.is_empty(), "no fixture is named {prefixes}…");
    }
    names.iter().map(|name| seeded::folder(name)).collect()
}

/// Not only those that `FIXTURES` names.
fn every_fixture() -> bool {
    std::env::var("FIXTURES").is_err()
}

struct Golden {
    tokens: Vec<u32>,
    /// Of the last tokens.
    logits: Vec<f32>,
    logits_cached: Vec<f32>,
    greedy: Vec<u32>,
    /// Whether the logits do not depend on how the tokens are cut into chunks. They do where the
    /// rotation's base grows with the length.
    cached_agrees: bool,
    /// What the reference itself loses in bfloat16: the median of the relative errors of positions.
    /// Noted where it is much.
    bfloat16: Option<f64>,
}

impl Golden {
    fn read(folder: &Path) -> Self {
        let bytes = std::fs::read(folder.join("golden.safetensors")).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let words = |name: &str| -> Vec<[u8; 4]> {
            let data = tensors.tensor(name).unwrap().data();
            data.chunks_exact(4).map(|word| word.try_into().unwrap()).collect()
        };
        let facts = std::fs::read(folder.join("golden.json")).unwrap();
        let facts: serde_json::Value = serde_json::from_slice(&facts).unwrap();
        let ids = |name| words(name).into_iter().map(u32::from_le_bytes).collect();
        let floats = |name| words(name).into_iter().map(f32::from_le_bytes).collect();
        let cached_agrees = facts["cached_agrees"].as_bool().unwrap();
        Self {
            tokens: ids("tokens"),
            logits: floats("logits"),
            logits_cached: floats(if cached_agrees { "logits" } else { "logits_cached" }),
            greedy: ids("greedy"),
            cached_agrees,
            bfloat16: facts["bfloat16"].as_f64(),
        }
    }
}

fn relative_error(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let difference = norm(&mut a.iter().zip(b).map(|(&a, &b)| f64::from(a) - f64::from(b)));
    difference / norm(&mut b.iter().map(|&b| f64::from(b)))
}

/// The logits of `tokens`, fed in chunks of the given size through one set of caches. Each chunk is
/// queued as its graph is made, and waits for nobody but the one before.
fn logits(model: &dyn LanguageModel, tokens: &[u32], chunk: usize) -> Vec<f32> {
    let mut caches: Vec<Cache> = model.make_caches();
    let mut parts = Vec::new();
    for part in tokens.chunks(chunk) {
        let part = mlx::from_u32(part, &[1, part.len() as i32]);
        let logits = model.logits(&part, &mut caches).unwrap();
        mlx::async_eval(&[&logits]).unwrap();
        parts.push(logits);
    }
    let all = parts.iter().flat_map(|logits| mlx::to_f32_vec(logits).unwrap()).collect();
    assert!(caches.iter().all(|cache| cache.offset() == tokens.len() as i32));
    all
}

fn greedy(model: &dyn LanguageModel, prompt: &[u32], count: usize, chunk: usize) -> Vec<u32> {
    let mut sequence =
        Sequence::new(model, prompt.to_vec(), options(count, chunk, None), None).unwrap();
    while !sequence.prefill(model).unwrap().done {}
    (0..count).map(|_| sequence.step(model).unwrap().token).collect()
}

fn options(count: usize, chunk: usize, max_kv_size: Option<i32>) -> SequenceOptions {
    let generation = GenerationOptions {
        temperature: Some(0.0),
        max_tokens: Some(count),
        max_kv_size,
        ..GenerationOptions::default()
    };
    SequenceOptions::new(generation, chunk)
}

/// As the reference does it: the whole prompt at once, then each token by itself.
fn greedy_by_hand(model: &dyn LanguageModel, prompt: &[u32], count: usize) -> Vec<u32> {
    let mut caches = model.make_caches();
    let mut next = prompt.to_vec();
    let mut step = || {
        let logits = model.logits(&mlx::from_u32(&next, &[1, next.len() as i32]), &mut caches);
        let best = mlx::ops::argmax(&logits.unwrap(), -1).unwrap();
        next = vec![*mlx::to_u32_vec(&best).unwrap().last().unwrap()];
        next[0]
    };
    (0..count).map(|_| step()).collect()
}

/// The model, and the largest error of its logits.
fn check(folder: &Path, device: Device, tolerance: f64) -> Result<(Loaded, f64), String> {
    let golden = Golden::read(folder);
    let options = LoadOptions { device, dtype: Some(Dtype::Float32), ..LoadOptions::default() };
    let loaded = models::load(folder, &options, &mut |_| ControlFlow::Continue(()))
        .map_err(|error| error.to_string())?;
    let model = &*loaded.model;
    let length = golden.tokens.len();
    let mut largest = 0.0_f64;
    let mut expect = |what: &str, actual: &[f32], expected: &[f32]| {
        let error = relative_error(&actual[actual.len() - expected.len()..], expected);
        largest = largest.max(error);
        if error < tolerance { Ok(()) } else { Err(format!("{what}: relative error {error:.2e}")) }
    };
    expect("full pass", &logits(model, &golden.tokens, length), &golden.logits)?;
    expect("token by token", &logits(model, &golden.tokens, 1), &golden.logits_cached)?;
    if golden.cached_agrees {
        for chunk in [3, length / 2 + 1] {
            let actual = logits(model, &golden.tokens, chunk);
            expect(&format!("chunks of {chunk}"), &actual, &golden.logits)?;
        }
    }
    let count = golden.greedy.len();
    let tokens = match golden.cached_agrees {
        true => greedy(model, &golden.tokens, count, 5),
        false => greedy_by_hand(model, &golden.tokens, count),
    };
    match tokens == golden.greedy {
        true => Ok((loaded, largest)),
        false => Err(format!("greedy tokens {tokens:?}, expected {:?}", golden.greedy)),
    }
}

#[test]
fn logits_and_greedy_tokens_agree_with_the_reference() {
    let cases: Vec<_> = TOLERANCES
        .iter()
        .flat_map(|&limit| fixtures().into_iter().map(move |it| (it, limit)))
        .collect();
    let (next, failures, table) = (AtomicUsize::new(0), Mutex::default(), Mutex::default());
    let run = || {
        mlx::enter(DeviceKind::Cpu).unwrap();
        while let Some((folder, (precision, tolerance))) =
            cases.get(next.fetch_add(1, Ordering::Relaxed))
        {
            let name = folder.file_name().unwrap().display().to_string();
            let device = Device::cpu(Some(1), *precision);
            let sensitive = *precision == Precision::Fast && SENSITIVE.0.contains(&name.as_str());
            match check(folder, device, if sensitive { SENSITIVE.1 } else { *tolerance }) {
                Ok((loaded, error)) => {
                    let mut table: MutexGuard<'_, Table> = table.lock().unwrap();
                    table.add(folder, &loaded, *precision, error);
                }
                Err(message) => {
                    let mut failures: MutexGuard<'_, Vec<String>> = failures.lock().unwrap();
                    failures.push(format!("{name}, {precision:?}: {message}"));
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..available_parallelism().map_or(1, NonZero::get) {
            scope.spawn(run);
        }
    });
    let (failures, table) = (failures.into_inner().unwrap(), table.into_inner().unwrap());
    let write = std::env::var("WRITE_DOCS").is_ok();
    if every_fixture() && write {
        table.write();
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    if every_fixture() && !write {
        table.check();
    }
}

/// The kernels of a GPU and MLX's compute the same but for the rounding of products. With TF32 MLX
/// multiplies numbers of 32 bits with 11 of them, and a router with a near tie (`mistral4-4bit`)
/// chooses another expert.
#[test]
#[ignore = "takes a GPU: MLX_ENABLE_TF32=0 cargo test --test models on_a_gpu -- --ignored"]
fn logits_agree_with_the_reference_on_a_gpu() {
    const TOLERANCE: f64 = 2e-2;
    mlx::enter(DeviceKind::Gpu).unwrap();
    let mut failures = Vec::new();
    for folder in fixtures() {
        let name = folder.file_name().unwrap().display().to_string();
        let golden = Golden::read(&folder);
        for dtype in [Dtype::Float32, Dtype::Bfloat16] {
            let error_on = |chunks: &[usize]| -> Result<f64> {
                let options = LoadOptions {
                    device: Device::gpu(),
                    dtype: Some(dtype),
                    ..LoadOptions::default()
                };
                let loaded = models::load(&folder, &options, &mut |_| ControlFlow::Continue(()))?;
                let errors = in_rows(&*loaded.model, &golden, chunks)?;
                // Numbers of 16 bits have 8 of them, which lets a router choose another expert for
                // some positions.
                Ok(median(errors))
            };
            let tolerance = match dtype {
                Dtype::Float32 => TOLERANCE,
                // As much again as the reference's own rounding does.
                _ => golden.bfloat16.map_or(8.0 * TOLERANCE, |error| 2.0 * error),
            };
            // Kernels differ for one row, a few and many, and for one position and several.
            for chunks in [&[1][..], &[1; 3], &[1; 12], &[7, 3, 1]] {
                match error_on(chunks) {
                    Ok(error) if error < tolerance => {}
                    Ok(error) => failures.push(format!(
                        "{name}, {dtype:?}, chunks {chunks:?}: relative error {error:.2e}"
                    )),
                    Err(error) => {
                        failures.push(format!("{name}, {dtype:?}, chunks {chunks:?}: {error}"));
                    }
                }
            }
        }
    }
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n"));
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The relative errors of all positions of rows that read the same tokens, each so many in a step,
/// and begin one after the other.
fn in_rows(model: &dyn LanguageModel, golden: &Golden, chunks: &[usize]) -> Result<Vec<f64>> {
    let tokens = &golden.tokens;
    let mut caches: Vec<_> = chunks.iter().map(|_| model.make_caches()).collect();
    let mut logits = vec![Vec::new(); chunks.len()];
    let mut read = vec![0; chunks.len()];
    for step in 0.. {
        let next: Vec<_> = chunks
            .iter()
            .zip(&read)
            .enumerate()
            .map(|(row, (chunk, &read))| match step < row {
                true => &tokens[..0],
                false => &tokens[read..tokens.len().min(read + chunk)],
            })
            .collect();
        let lengths = next.iter().map(|tokens| tokens.len() as i32).filter(|&length| length > 0);
        let lengths: Vec<_> = lengths.map(|length| StepRow { length, logits: length }).collect();
        if lengths.is_empty() {
            break;
        }
        let all = next.concat();
        let all = mlx::from_u32(&all, &[1, all.len() as i32]);
        let active = caches.iter_mut().zip(&next).filter(|(_, tokens)| !tokens.is_empty());
        let mut active: Vec<&mut [Cache]> = active.map(|(caches, _)| &mut caches[..]).collect();
        let made = model.forward(&Step::new(&all, lengths)?, &mut active)?;
        let made = mlx::to_f32_vec(&mlx::ops::astype(&made, Dtype::Float32)?)?;
        let vocabulary = made.len() / all.size();
        let mut made = made.chunks(vocabulary);
        for ((own, read), next) in logits.iter_mut().zip(&mut read).zip(&next) {
            own.extend(made.by_ref().take(next.len()).flatten());
            *read += next.len();
        }
    }
    let expected = &golden.logits_cached;
    let vocabulary = logits[0].len() / tokens.len();
    let own = logits.iter().flat_map(|all| {
        let positions = all[all.len() - expected.len()..].chunks(vocabulary);
        positions.zip(expected.chunks(vocabulary))
    });
    Ok(own.map(|(actual, expected)| relative_error(actual, expected)).collect())
}

/// The plain compositions of all operations are what the kernels compute: MLX's own operations on
/// the CPU are slow, so one checkpoint stands for an architecture.
#[test]
fn plain_compositions_agree_with_the_reference() {
    mlx::enter(DeviceKind::Cpu).unwrap();
    let device = Device::cpu(Some(1), Precision::Exact).plain();
    let mut seen = BTreeSet::new();
    let failures: Vec<_> = fixtures()
        .iter()
        .filter(|folder| seen.insert(model_type(folder)))
        .filter_map(|folder| {
            let name = folder.file_name()?.display().to_string();
            check(folder, device, TOLERANCES[0].1).err().map(|message| format!("{name}: {message}"))
        })
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn model_type(folder: &Path) -> String {
    let config = std::fs::read_to_string(folder.join("config.json")).unwrap();
    let (_, rest) = config.split_once("\"model_type\": \"").unwrap();
    rest.split('"').next().unwrap().to_owned()
}

/// transformers 5 saves the configuration of a published checkpoint under other names and in other
/// places.
#[test]
fn configurations_as_transformers_5_saves_them_mean_the_same() {
    mlx::enter(DeviceKind::Cpu).unwrap();
    let device = Device::cpu(Some(1), Precision::Exact);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/configurations.json");
    let saved = std::fs::read(path).unwrap();
    let saved: BTreeMap<String, serde_json::Value> = serde_json::from_slice(&saved).unwrap();
    assert!(saved.len() > 100, "the fixtures are missing");
    let mut failures = Vec::new();
    for (name, config) in saved {
        let copy = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(seeded::folder(&name)).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
        }
        std::fs::write(copy.path().join("config.json"), config.to_string()).unwrap();
        if let Err(message) = check(copy.path(), device, TOLERANCES[0].1) {
            failures.push(format!("{name}: {message}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// A checkpoint that also sees images runs whatever architecture its language model has, wherever
/// its tensors lie.
#[test]
fn the_text_part_of_any_checkpoint_finds_its_architecture() {
    mlx::enter(DeviceKind::Cpu).unwrap();
    let device = Device::cpu(Some(1), Precision::Exact);
    for name in ["qwen3-raw", "gemma2-raw", "olmoe-raw"] {
        let (source, copy) = (seeded::folder(name), tempfile::tempdir().unwrap());
        let bytes = std::fs::read(source.join("model.safetensors")).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let text: serde_json::Value =
            serde_json::from_slice(&std::fs::read(source.join("config.json")).unwrap()).unwrap();
        let config = serde_json::json!({"model_type": "newest_seeing", "text_config": text});
        std::fs::write(copy.path().join("config.json"), config.to_string()).unwrap();
        for golden in ["golden.safetensors", "golden.json"] {
            std::fs::copy(source.join(golden), copy.path().join(golden)).unwrap();
        }
        for (model, head, vision) in [
            ("language_model.model.", "language_model.lm_head.", "vision_tower."),
            ("model.language_model.", "lm_head.", "model.visual."),
            ("model.text_model.", "lm_head.", "model.connector."),
        ] {
            let place = |name: &str| match name.strip_prefix("model.") {
                Some(rest) => format!("{model}{rest}"),
                None => name.replacen("lm_head.", head, 1),
            };
            let mut parts: Vec<_> =
                tensors.iter().map(|(name, tensor)| (place(name), tensor)).collect();
            let other = parts[0].1.clone();
            parts.push((format!("{vision}blocks.0.weight"), other));
            let path = copy.path().join("model.safetensors");
            safetensors::serialize_to_file(parts, None, &path).unwrap();
            if let Err(message) = check(copy.path(), device, TOLERANCES[0].1) {
                panic!("{name} below {model}: {message}");
            }
        }
        let other =
            serde_json::json!({"model_type": "qwen3_vl", "text_config": {"model_type": "x"}});
        std::fs::write(copy.path().join("config.json"), other.to_string()).unwrap();
        assert!(check(copy.path(), device, 1.0).is_err_and(|error| error.contains("\"x\"")));
    }
}

/// Drafts that are wrong are taken back from every kind of cache, and those that are right stay.
#[test]
fn every_architecture_goes_on_as_without_drafts() {
    mlx::enter(DeviceKind::Cpu).unwrap();
    // Groups of positions leave a limited cache one after the other within a step with drafts.
    let more = |folder: &Path| folder.file_name().is_some_and(|it| it == "deepseek-v41-plain");
    let mut seen = BTreeSet::new();
    let (mut drafted, mut accepted) = (0, 0);
    for folder in fixtures().iter().filter(|folder| seen.insert(model_type(folder)) || more(folder))
    {
        let golden = Golden::read(folder);
        if !golden.cached_agrees {
            continue;
        }
        let device = Device::cpu(Some(1), Precision::Exact);
        let load = LoadOptions { device, dtype: Some(Dtype::Float32), ..LoadOptions::default() };
        let loaded = models::load(folder, &load, &mut |_| ControlFlow::Continue(())).unwrap();
        let model = &*loaded.model;
        // Twice the same, so that there is something to look up.
        let prompt = golden.tokens.repeat(2);
        for max_kv_size in [None, Some(16)] {
            let [(plain, _), (with_drafts, speculated)] = [None, Some(3)].map(|length| {
                let speculation = length
                    .map(|length| SpeculationOptions { draft_tokens: Some(length), lookup: true });
                let options = SequenceOptions { speculation, ..options(24, 8, max_kv_size) };
                let mut sequence = Sequence::new(model, prompt.clone(), options, None).unwrap();
                while !sequence.prefill(model).unwrap().done {}
                let (mut speculator, mut tokens) = (Speculator::default(), Vec::new());
                while tokens.len() < 24 {
                    let outputs = decode(model, &mut speculator, &mut [&mut sequence]).remove(0);
                    tokens.extend(outputs.unwrap().iter().map(|output| output.token));
                }
                (tokens, sequence.speculated().unwrap_or_default())
            });
            drafted += speculated.drafted;
            accepted += speculated.accepted;
            assert_eq!(with_drafts, plain, "{}, {max_kv_size:?}", folder.display());
        }
    }
    if every_fixture() {
        assert!(drafted > 2 * accepted && accepted > 50, "{accepted} of {drafted}");
    }
}

/// Every architecture goes on within a limit, and takes no more memory from there on.
#[test]
fn a_limited_cache_stops_growing_in_every_architecture() {
    const LIMIT: i32 = 16;
    mlx::enter(DeviceKind::Cpu).unwrap();
    for folder in fixtures() {
        let name = folder.file_name().unwrap().display().to_string();
        let device = Device { threads: 1, ..Device::default() };
        let load = LoadOptions { device, dtype: Some(Dtype::Float32), ..LoadOptions::default() };
        let loaded = models::load(&folder, &load, &mut |_| ControlFlow::Continue(())).unwrap();
        let prompt = Golden::read(&folder).tokens;
        let mut sequence =
            Sequence::new(&*loaded.model, prompt, options(64, 8, Some(LIMIT)), None).unwrap();
        while !sequence.prefill(&*loaded.model).unwrap().done {}
        let mut bytes = Vec::new();
        for _ in 0..40 {
            sequence.step(&*loaded.model).unwrap();
            bytes.push(sequence.caches().iter().map(Cache::nbytes).sum::<usize>());
        }
        assert_eq!(bytes[bytes.len() / 2], bytes[bytes.len() - 1], "{name}");
    }
}
