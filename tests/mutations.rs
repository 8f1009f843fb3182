//! Checkpoints broken at random: a valid one with a field of its configuration or some bytes of its
//! weights changed either loads and runs, or is refused with a coded error, at once and without the
//! memory that it claims to need. The same mutations are tried every time; `MUTATIONS=20000 cargo
//! test --test mutations` tries more.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nodemlx::error::Result;
use nodemlx::generate::{GenerationOptions, PromptCache, Sequence, SequenceOptions};
use nodemlx::mlx::{self, DeviceKind, memory};
use nodemlx::models::{self, LanguageModel, LoadOptions};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

/// The errors that a broken checkpoint may give.
const CODES: [&str; 4] =
    ["INVALID_CONFIG", "INVALID_WEIGHTS", "UNKNOWN_ARCHITECTURE", "UNSUPPORTED"];

/// More than any fixture needs, and less than any absurd size asks for.
const MEMORY: usize = 64 << 20;

/// Held while memory is measured, and by whatever else takes some: a peak is that of the process.
static MEASURED: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    MEASURED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Random numbers (Steele et al. 2014, "SplitMix").
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn one_of<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }
}

fn cases(by_default: usize) -> usize {
    std::env::var("MUTATIONS").map_or(by_default, |cases| cases.parse().unwrap())
}

/// Every fixture of one file, by the `model_type` of its configuration.
fn fixtures() -> BTreeMap<String, Vec<PathBuf>> {
    let mut fixtures = BTreeMap::<String, Vec<PathBuf>>::new();
    let folders = seeded::names().into_iter().map(|name| seeded::folder(&name));
    for folder in folders.filter(|it| it.join("model.safetensors").is_file()) {
        // Some configurations hold infinities, which JSON does not know.
        let text = fs::read_to_string(folder.join("config.json")).unwrap();
        let Ok(config) = serde_json::from_str::<Value>(&text) else { continue };
        let model_type = config["model_type"].as_str().unwrap().to_owned();
        fixtures.entry(model_type).or_default().push(folder);
    }
    assert!(fixtures.len() > 10, "the fixtures are missing");
    fixtures
}

/// A folder with these two files.
fn folder(config: &[u8], weights: &[u8]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("config.json"), config).unwrap();
    fs::write(dir.path().join("model.safetensors"), weights).unwrap();
    dir
}

/// Loads a folder and, if that works, runs the model on a few tokens.
fn run(dir: &Path) -> Result<()> {
    let options = LoadOptions::default();
    let loaded = models::load(dir, &options, &mut |_| ControlFlow::Continue(()))?;
    let mut caches = loaded.model.make_caches();
    for tokens in [&[0, 0, 0][..], &[0]] {
        let tokens = mlx::from_u32(tokens, &[1, tokens.len() as i32]);
        let run = loaded.model.logits(&tokens, &mut caches);
        mlx::eval(&[&run.unwrap_or_else(|error| panic!("loaded, and does not run: {error}"))])
            .unwrap_or_else(|error| panic!("loaded, and does not run: {error}"));
    }
    Ok(())
}

/// Loads a broken folder; what is wrong with that, if anything.
fn try_out(dir: &Path) -> Option<String> {
    let _alone = alone();
    memory::clear_cache().unwrap();
    memory::reset_peak().unwrap();
    let before = memory::active().unwrap();
    let started = Instant::now();
    let outcome = catch_unwind(AssertUnwindSafe(|| run(dir)));
    let (took, memory) = (started.elapsed(), memory::peak().unwrap().saturating_sub(before));
    match outcome {
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Some(format!("panicked: {}", text.unwrap_or("?")))
        }
        Ok(Err(error)) if !CODES.contains(&error.code()) => {
            Some(format!("{}: {error}", error.code()))
        }
        _ if took > Duration::from_secs(30) => Some(format!("took {took:?}")),
        _ if memory > MEMORY => Some(format!("took {memory} bytes")),
        _ => None,
    }
}

/// Tries broken folders, and fails with what was wrong with any.
fn try_all(count: usize, mut broken: impl FnMut(&mut Random) -> (String, TempDir)) {
    mlx::enter(DeviceKind::Cpu).unwrap();
    let mut failures = Vec::new();
    for seed in 0..count {
        let (what, dir) = broken(&mut Random(seed as u64));
        if let Some(failure) = try_out(dir.path()) {
            failures.push(format!("{what}: {failure}"));
        }
    }
    failures.sort();
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n"));
}

/// The paths of all values within one.
fn paths(value: &Value, at: &str, into: &mut Vec<String>) {
    let mut each = |key: &dyn std::fmt::Display, value| {
        let path = format!("{at}/{key}");
        paths(value, &path, into);
        into.push(path);
    };
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| each(key, value)),
        Value::Array(items) => items.iter().enumerate().for_each(|(key, value)| each(&key, value)),
        _ => {}
    }
}

/// Changes one value of a configuration or header, or removes it; says which and how.
fn mutate(root: &mut Value, random: &mut Random) -> String {
    let mut all = Vec::new();
    paths(root, "", &mut all);
    let path = random.one_of(&all).clone();
    let old = root.pointer(&path).unwrap().clone();
    let number = old.as_f64().unwrap_or(1.0);
    let values = [
        json!(0),
        json!(1),
        json!(2),
        json!(3),
        json!(-1),
        json!(7),
        json!(number + 1.0),
        json!((number * 2.0) as i64),
        json!((number / 2.0) as i64),
        json!(i32::MAX),
        json!(1_u64 << 24),
        json!(u64::MAX),
        json!(1e300),
        json!(0.5),
        json!(""),
        json!("silu"),
        json!(true),
        json!(false),
        Value::Null,
        json!([]),
        json!([1, 2]),
        json!({}),
    ];
    if random.below(5) == 0 {
        let (parent, key) = path.rsplit_once('/').unwrap();
        match root.pointer_mut(parent).unwrap() {
            Value::Object(fields) => drop(fields.remove(key)),
            Value::Array(items) => drop(items.remove(key.parse().unwrap())),
            _ => {}
        }
        return format!("{path} {old} removed");
    }
    let value = random.one_of(&values).clone();
    let what = format!("{path} {old} → {value}");
    *root.pointer_mut(&path).unwrap() = value;
    what
}

#[test]
fn a_changed_configuration_runs_or_is_refused() {
    let fixtures: Vec<_> = fixtures().into_values().collect();
    try_all(cases(250), |random| {
        // Every architecture in turn.
        let folders = &fixtures[random.0 as usize % fixtures.len()];
        let source = random.one_of(folders);
        let config = fs::read(source.join("config.json")).unwrap();
        let mut config: Value = serde_json::from_slice(&config).unwrap();
        let what = mutate(&mut config, random);
        let weights = fs::read(source.join("model.safetensors")).unwrap();
        let name = source.file_name().unwrap().display();
        (format!("{name} {what}"), folder(config.to_string().as_bytes(), &weights))
    });
}

#[test]
fn a_changed_header_of_weights_is_refused_or_harmless() {
    let fixtures: Vec<_> = fixtures().into_values().collect();
    try_all(cases(120), |random| {
        let source = random.one_of(&fixtures[random.0 as usize % fixtures.len()]);
        let weights = fs::read(source.join("model.safetensors")).unwrap();
        let length = u64::from_le_bytes(weights[..8].try_into().unwrap()) as usize;
        let header: Map<String, Value> = serde_json::from_slice(&weights[8..8 + length]).unwrap();
        let mut header = Value::Object(header);
        let what = mutate(&mut header, random);
        let header = header.to_string();
        let mut changed = (header.len() as u64).to_le_bytes().to_vec();
        changed.extend(header.as_bytes());
        changed.extend(&weights[8 + length..]);
        let config = fs::read(source.join("config.json")).unwrap();
        let name = source.file_name().unwrap().display();
        (format!("{name} {what}"), folder(&config, &changed))
    });
}

#[test]
fn changed_bytes_are_refused_or_harmless() {
    let fixtures: Vec<_> = fixtures().into_values().collect();
    try_all(cases(120), |random| {
        let source = random.one_of(&fixtures[random.0 as usize % fixtures.len()]);
        let mut config = fs::read(source.join("config.json")).unwrap();
        let mut weights = fs::read(source.join("model.safetensors")).unwrap();
        let length = u64::from_le_bytes(weights[..8].try_into().unwrap()) as usize;
        let (file, end) = match random.below(4) {
            0 => (&mut config, usize::MAX),
            _ => (&mut weights, 8 + length),
        };
        let at = random.below(file.len().min(end));
        let what = match random.below(4) {
            0 => {
                file[at] ^= 1 << random.below(8);
                "a bit flipped"
            }
            1 => {
                file[at] = random.next() as u8;
                "a byte changed"
            }
            2 => {
                file.truncate(at);
                "cut off"
            }
            _ => {
                let copied = file[at..file.len().min(at + 1 + random.below(16))].to_vec();
                file.splice(at..at, copied);
                "bytes doubled"
            }
        };
        let name = source.file_name().unwrap().display();
        (format!("{name} {what} at {at}"), folder(&config, &weights))
    });
}

/// The prompt-cache files of the fixtures, each with its model's folder.
fn prompt_caches() -> Vec<(PathBuf, PathBuf)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let entries = fs::read_dir(root.join("tests/fixtures/prompt-caches")).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.retain(|file| file.file_stem().unwrap() != "golden");
    let model = |file: &Path| {
        let name = file.file_stem().unwrap().to_str().unwrap();
        let demo = root.join("models").join(name);
        if demo.is_dir() { demo } else { seeded::folder(name) }
    };
    files.into_iter().map(|file| (file.clone(), model(&file))).collect()
}

/// Goes on from a prompt-cache file for a few tokens, to its end and back.
fn go_on(model: &dyn LanguageModel, path: &Path) -> Result<()> {
    let cache = PromptCache::read(path, model, "any")?;
    let run = |cache| -> Result<PromptCache> {
        let greedy = GenerationOptions {
            temperature: Some(0.0),
            max_tokens: Some(3),
            ..GenerationOptions::default()
        };
        let options = SequenceOptions::new(greedy, 4);
        let mut sequence = Sequence::new(model, vec![1, 2, 3, 4, 5, 6], options, Some(cache))?;
        while !sequence.prefill(model)?.done {}
        for _ in 0..3 {
            sequence.step(model)?;
        }
        Ok(sequence.into_prompt_cache(model))
    };
    let outcome = run(cache).and_then(run);
    match outcome {
        Ok(_) => Ok(()),
        // Numbers that are none are the file's right; all else is not.
        Err(error) if error.code() == "INVALID_LOGITS" => Ok(()),
        Err(error) => panic!("read, and does not run: {error}"),
    }
}

#[test]
fn a_changed_prompt_cache_is_refused_or_harmless() {
    mlx::enter(DeviceKind::Cpu).unwrap();
    let count = cases(30);
    let mut failures = Vec::new();
    for (file, folder) in prompt_caches() {
        let _alone = alone();
        let options = LoadOptions::default();
        let loaded = models::load(&folder, &options, &mut |_| ControlFlow::Continue(())).unwrap();
        let whole = fs::read(&file).unwrap();
        let length = u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("changed.safetensors");
        for seed in 0..count {
            let random = &mut Random(seed as u64);
            let mut data = whole[8 + length..].to_vec();
            let mut header: Value = serde_json::from_slice(&whole[8..8 + length]).unwrap();
            let what = if seed % 3 == 0 {
                // The numbers, which are as likely to lie anywhere.
                let numbers: Vec<_> = header
                    .as_object()
                    .unwrap()
                    .values()
                    .filter(|it| it["dtype"] == "I32")
                    .collect();
                if numbers.is_empty() {
                    continue;
                }
                let at = random.one_of(&numbers)["data_offsets"][0].as_u64().unwrap() as usize;
                let value = *random.one_of(&[-1, 0, 1, 2, 7, 64, 1000, 1 << 20, 1 << 30, i32::MAX]);
                data[at..at + 4].copy_from_slice(&value.to_le_bytes());
                format!("the number at {at} is {value}")
            } else {
                mutate(&mut header, random)
            };
            let header = header.to_string();
            let length = (header.len() as u64).to_le_bytes();
            fs::write(&path, [&length[..], header.as_bytes(), &data].concat()).unwrap();
            let outcome = catch_unwind(AssertUnwindSafe(|| go_on(&*loaded.model, &path)));
            let name = file.file_stem().unwrap().display();
            match outcome {
                Ok(Ok(())) => {}
                Ok(Err(error)) if error.code() == "INVALID_PROMPT_CACHE" => {}
                Ok(Err(error)) => failures.push(format!("{name} {what}: {error}")),
                Err(panic) => {
                    let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
                    failures.push(format!("{name} {what}: panicked: {text}"));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n"));
}

/// Weights that are no numbers are told of, in every architecture and however tokens are drawn.
#[test]
fn weights_that_are_no_numbers_are_told_of() {
    mlx::enter(DeviceKind::Cpu).unwrap();
    let mut failures = Vec::new();
    for folders in fixtures().into_values() {
        let _alone = alone();
        let source = &folders[0];
        let mut weights = fs::read(source.join("model.safetensors")).unwrap();
        let length = u64::from_le_bytes(weights[..8].try_into().unwrap()) as usize;
        let header: Map<String, Value> = serde_json::from_slice(&weights[8..8 + length]).unwrap();
        let is_any = |name: &str, of: &[&str]| of.iter().any(|part| name.contains(part));
        // Some have norms without weights.
        let kinds: [&[&str]; 2] = [&["norm", ".ln_"], &["embed", "wte"]];
        let kind = kinds.iter().find(|kind| header.keys().any(|name| is_any(name, kind))).unwrap();
        for (_, tensor) in header.iter().filter(|(name, _)| is_any(name, kind)) {
            let offset =
                |i: usize| 8 + length + tensor["data_offsets"][i].as_u64().unwrap() as usize;
            let bytes = &mut weights[offset(0)..offset(1)];
            match tensor["dtype"].as_str() {
                Some("F32") => bytes.as_chunks_mut().0.fill(f32::NAN.to_le_bytes()),
                Some("BF16") => bytes.as_chunks_mut().0.fill([0xc0, 0x7f]),
                Some("F16") => bytes.as_chunks_mut().0.fill([0, 0x7e]),
                _ => {}
            }
        }
        let config = fs::read(source.join("config.json")).unwrap();
        let dir = folder(&config, &weights);
        let options = LoadOptions::default();
        let loaded = models::load(dir.path(), &options, &mut |_| ControlFlow::Continue(()));
        let name = source.file_name().unwrap().display().to_string();
        let Ok(loaded) = loaded else { continue };
        for (temperature, logprobs, top_p) in
            [(0.0, None, 1.0), (0.0, Some(3), 1.0), (0.7, None, 1.0), (1.0, Some(3), 0.9)]
        {
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                let generation = GenerationOptions {
                    temperature: Some(temperature),
                    top_p: Some(top_p),
                    min_p: Some(0.1),
                    repetition_penalty: Some(1.1),
                    penalty_context_size: Some(20),
                    max_tokens: Some(3),
                    logprobs,
                    ..GenerationOptions::default()
                };
                let options = SequenceOptions::new(generation, 4);
                let mut sequence =
                    Sequence::new(&*loaded.model, vec![1, 2, 3, 4, 5, 6], options, None)?;
                while !sequence.prefill(&*loaded.model)?.done {}
                sequence.step(&*loaded.model)
            }));
            match outcome {
                Ok(Err(error)) if error.code() == "INVALID_LOGITS" => {}
                Ok(Err(error)) => failures.push(format!("{name}: {error}")),
                Ok(Ok(output)) => failures.push(format!("{name}: token {}", output.token)),
                Err(_) => failures.push(format!("{name}: panicked")),
            }
        }
    }
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n"));
}
