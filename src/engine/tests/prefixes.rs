//! What generations share: fixtures of every kind of cache give the same tokens and probabilities
//! as without a prefix cache, and read nothing twice that they need not.

use std::fs;
use std::iter;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{PATIENCE, collect, first_token};
use crate::cache::{CacheLimits, KvQuantization};
use crate::engine::{
    Finished, GenerateRequest, Generation, LoadRequest, Model, PrefixDisk, Prompt, TokenLogprob,
    load,
};
use crate::error::Result;
use crate::fused::Precision;
use crate::generate::GenerationOptions;
use crate::mlx::{DeviceKind, Dtype};

/// Their caches: of every position, latent, of windows, of windows and every position, chunks,
/// arrays, arrays and every position, both as parts of a list, arrays beside such lists, arrays that
/// grow, and layers that share.
pub(super) const FIXTURES: [&str; 11] = [
    "llama",
    "deepseek-v3",
    "mistral-raw-window",
    "gemma3",
    "llama4-text",
    "mamba2",
    "qwen3-next",
    "falcon-h1",
    "zamba2-raw",
    "deepseek-v41",
    "gemma3n",
];

/// What no state can be cut in.
const RECURRENT: [&str; 5] = ["mamba2", "qwen3-next", "falcon-h1", "zamba2-raw", "deepseek-v41"];

const ENOUGH: usize = 1 << 30;

/// A model, and the folder that its weights are mapped from.
pub(super) struct Fixture {
    pub(super) model: Model,
    _folder: TempDir,
}

/// A fixture with a longer context, and room for so many bytes of what was read.
pub(super) fn load_fixture(name: &str, prefix_cache_bytes: usize) -> Fixture {
    let folder = fixture_folder(name);
    let model = load_folder(folder.path(), prefix_cache_bytes, None).unwrap();
    Fixture { model, _folder: folder }
}

/// A copy of a fixture with a longer context.
pub(super) fn fixture_folder(name: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo");
    let source = if name == "demo" { demo } else { seeded::folder(name) };
    for file in fs::read_dir(source).unwrap() {
        let path = file.unwrap().path();
        fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    let path = folder.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for at in ["/max_position_embeddings", "/text_config/max_position_embeddings"] {
        if let Some(length) = config.pointer_mut(at) {
            *length = json!(10_000);
        }
    }
    fs::write(&path, config.to_string()).unwrap();
    folder
}

/// The model of a folder with room for so many bytes of what was read, in memory and on disk.
pub(super) fn load_folder(
    folder: &Path,
    prefix_cache_bytes: usize,
    prefix_disk: Option<PrefixDisk>,
) -> Result<Model> {
    load_request(load_request_of(folder, prefix_cache_bytes, prefix_disk))
}

pub(super) fn load_request_of(
    folder: &Path,
    prefix_cache_bytes: usize,
    prefix_disk: Option<PrefixDisk>,
) -> LoadRequest {
    LoadRequest {
        path: folder.to_owned(),
        device: Some(DeviceKind::Cpu),
        dtype: Some(Dtype::Float32),
        threads: None,
        // Chunks of other lengths go through other kernels, which round otherwise.
        precision: Some(Precision::Exact),
        max_sequences: None,
        max_stall_ms: None,
        memory_bytes: None,
        prefix_cache_bytes: Some(prefix_cache_bytes),
        prefix_disk,
        draft: None,
        prediction_heads: true,
        context_length: None,
    }
}

pub(super) fn load_request(request: LoadRequest) -> Result<Model> {
    let (sender, receiver) = channel();
    load(request, Box::new(|_| {}), Box::new(move |model| sender.send(model).unwrap()));
    receiver.recv_timeout(PATIENCE).unwrap()
}

fn with_and_without(name: &str) -> (Fixture, Fixture) {
    (load_fixture(name, ENOUGH), load_fixture(name, 0))
}

/// Tokens without a meaning, others for each seed.
pub(super) fn text(seed: u32, length: usize) -> Vec<u32> {
    let mut state = seed;
    let mut token = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) % 90 + 3
    };
    (0..length).map(|_| token()).collect()
}

pub(super) fn request(prompt: &[u32], limits: CacheLimits) -> GenerateRequest {
    let options = GenerationOptions {
        max_tokens: Some(6),
        temperature: Some(0.0),
        seed: Some(1),
        logprobs: Some(3),
        ignore_end_tokens: true,
        max_kv_size: limits.max_size,
        kv_bits: limits.quantization.map(|it| it.bits),
        kv_group_size: limits.quantization.and_then(|it| it.group_size),
        ..GenerationOptions::default()
    };
    GenerateRequest { options, ..GenerateRequest::new(Prompt::Tokens(prompt.to_vec())) }
}

fn longer(mut request: GenerateRequest, max_tokens: usize) -> GenerateRequest {
    request.options.max_tokens = Some(max_tokens);
    request
}

pub(super) struct Answer {
    pub(super) tokens: Vec<u32>,
    pub(super) logprobs: Vec<TokenLogprob>,
    pub(super) done: Arc<Finished>,
}

pub(super) fn wait(generation: &Generation) -> Answer {
    let (mut tokens, mut logprobs) = (Vec::new(), Vec::new());
    loop {
        let batch = generation.wait_next().unwrap();
        tokens.extend(batch.tokens);
        logprobs.extend(batch.logprobs);
        if let Some(done) = batch.done {
            return Answer { tokens, logprobs, done };
        }
    }
}

fn ask(fixture: &Fixture, prompt: &[u32], limits: CacheLimits) -> Answer {
    ask_model(&fixture.model, prompt, limits)
}

pub(super) fn ask_model(model: &Model, prompt: &[u32], limits: CacheLimits) -> Answer {
    wait(&model.generate(request(prompt, limits)).unwrap())
}

pub(super) fn assert_same(name: &str, what: &str, with: &Answer, without: &Answer) {
    assert_eq!(without.done.cached_tokens, 0, "{name}, {what}");
    assert_eq!(with.tokens, without.tokens, "{name}, {what}");
    for (with, without) in with.logprobs.iter().zip(&without.logprobs) {
        for (with, without) in with.top.iter().zip(&without.top) {
            let difference = (with.logprob - without.logprob).abs();
            assert!(difference < 1e-4, "{name}, {what}: {difference}");
        }
    }
}

/// A conversation that grows, a retry of its last turn, another last turn, a beginning of it, and
/// what has only a part in common with it.
fn turns(answer: &[u32]) -> [(&'static str, Vec<u32>); 5] {
    let first = text(1, 150);
    let grown = [first.as_slice(), answer, text(2, 60).as_slice()].concat();
    let edited = [first.as_slice(), answer, text(3, 60).as_slice()].concat();
    let other = [&first[..100], text(4, 40).as_slice()].concat();
    [
        ("grown", grown.clone()),
        ("retried", grown),
        ("edited", edited),
        ("a beginning", first[..120].to_vec()),
        ("a part", other),
    ]
}

#[test]
fn answers_are_the_same_with_and_without_for_all_kinds_of_caches() {
    for name in FIXTURES {
        let (with, without) = with_and_without(name);
        for limits in [None, Some(40)] {
            let limits = CacheLimits { max_size: limits, quantization: None };
            let first = text(1, 150);
            let (mine, other) = (ask(&with, &first, limits), ask(&without, &first, limits));
            // Nothing is shared across limits.
            assert_eq!(mine.done.cached_tokens, 0, "{name}");
            assert_same(name, "first", &mine, &other);
            for (what, prompt) in turns(&mine.tokens) {
                let (mine, other) = (ask(&with, &prompt, limits), ask(&without, &prompt, limits));
                assert_same(name, what, &mine, &other);
                let cached = mine.done.cached_tokens;
                let least = match what {
                    "retried" => prompt.len() - 1,
                    // The last token of an answer is not read any more.
                    "grown" | "edited" => 155,
                    _ => 0,
                };
                assert!(cached >= least, "{name}, {what}, {limits:?}: {cached} of {least}");
            }
        }
    }
}

#[test]
fn keys_and_values_of_every_position_serve_every_beginning() {
    for name in ["llama", "deepseek-v3"] {
        let fixture = load_fixture(name, ENOUGH);
        let limits = CacheLimits::default();
        let answer = ask(&fixture, &text(1, 150), limits).tokens;
        let cached = turns(&answer).map(|(_, prompt)| ask(&fixture, &prompt, limits));
        assert_eq!(cached.map(|it| it.done.cached_tokens), [155, 215, 156, 119, 100], "{name}");
    }
}

#[test]
fn packed_keys_and_values_are_shared_packed() {
    // Its heads are large enough to be packed.
    let name = "demo";
    let quantization = Some(KvQuantization { group_size: None, bits: 8 });
    let (shared, plain) = with_and_without(name);
    for max_size in [None, Some(40)] {
        let limits = CacheLimits { max_size, quantization };
        let answer = ask(&shared, &text(1, 150), limits);
        for (what, prompt) in turns(&answer.tokens) {
            let answer = ask(&shared, &prompt, limits);
            // How a prompt is cut into chunks decides which keys are packed when, and packing moves
            // these by 0.01 to 0.09.
            let other = ask(&plain, &prompt, limits);
            let [mine, other] = [&answer, &other].map(|it| it.logprobs[0].top[0].logprob);
            assert!((mine - other).abs() < 0.1, "{what}: {mine} is not {other}");
            assert!(what.starts_with("a ") || answer.done.cached_tokens >= 155, "{what}");
        }
    }
}

#[test]
fn states_are_kept_every_so_many_tokens_and_where_prompts_part() {
    for name in RECURRENT {
        let (shared, plain) = with_and_without(name);
        let limits = CacheLimits::default();
        let beginning = text(1, 700);
        let cached = (5..9).map(|seed| {
            let prompt = [beginning.clone(), text(seed, 50)].concat();
            let answer = ask(&shared, &prompt, limits);
            assert_same(name, "a branch", &answer, &ask(&plain, &prompt, limits));
            answer.done.cached_tokens
        });
        assert_eq!(cached.collect::<Vec<_>>(), [0, 512, 700, 700], "{name}");
    }
}

#[test]
fn a_beginning_that_is_being_read_is_read_once() {
    for name in FIXTURES {
        let (shared, plain) = with_and_without(name);
        let limits = CacheLimits::default();
        let beginning = text(1, 600);
        let prompts: Vec<Vec<u32>> =
            (0..8).map(|seed| [beginning.clone(), text(10 + seed, 20)].concat()).collect();
        // The engine's thread waits until all are there.
        let (open, gate) = channel::<()>();
        shared.model.clear_prefix_cache(Box::new(move |_| {
            let _ = gate.recv();
        }));
        let running: Vec<Generation> =
            prompts.iter().map(|it| shared.model.generate(request(it, limits)).unwrap()).collect();
        open.send(()).unwrap();
        let answers: Vec<Answer> = running.iter().map(wait).collect();
        let cached: Vec<usize> = answers.iter().map(|it| it.done.cached_tokens).collect();
        assert_eq!(cached, [0, 600, 600, 600, 600, 600, 600, 600], "{name}");
        for (answer, prompt) in answers.iter().zip(&prompts) {
            assert_same(name, "at once", answer, &ask(&plain, prompt, limits));
        }
    }
}

#[test]
fn who_comes_while_another_answers_shares_what_that_one_has_read() {
    for name in FIXTURES {
        let (shared, plain) = with_and_without(name);
        let limits = CacheLimits::default();
        let beginning = text(1, 300);
        let long = longer(request(&beginning, limits), 200);
        let running = shared.model.generate(long.clone()).unwrap();
        first_token(&running);
        let prompt = [beginning, text(2, 50)].concat();
        let answer = ask(&shared, &prompt, limits);
        assert!(answer.done.cached_tokens >= 299, "{name}: {}", answer.done.cached_tokens);
        assert_same(name, "beside it", &answer, &ask(&plain, &prompt, limits));
        let rest = collect(&running).unwrap().0;
        let alone = collect(&plain.model.generate(long).unwrap()).unwrap().0;
        assert!(alone.ends_with(&rest), "{name}: whose caches were shared goes on as before");
    }
}

#[test]
fn aborts_leave_what_was_read() {
    for name in FIXTURES {
        let (shared, plain) = with_and_without(name);
        let limits = CacheLimits::default();
        let prompt = text(1, 400);
        let endless = longer(request(&prompt, limits), 5000);
        let running = shared.model.generate(endless).unwrap();
        first_token(&running);
        running.abort();
        collect(&running).unwrap();
        let answer = ask(&shared, &prompt, limits);
        assert_eq!(answer.done.cached_tokens, 399, "{name}");
        assert_same(name, "again", &answer, &ask(&plain, &prompt, limits));
        // In the middle of the prompt.
        let prompt = text(2, 1000);
        let running = shared.model.generate(request(&prompt, limits)).unwrap();
        while running.wait_next().unwrap().prefill.is_none() {}
        running.abort();
        collect(&running).unwrap();
        let again = shared.model.generate(request(&prompt, limits)).unwrap();
        let told = iter::from_fn(|| again.wait_next().ok()).find_map(|it| it.prefill).unwrap();
        let (_, done) = collect(&again).unwrap();
        assert_eq!(told.cached, done.cached_tokens, "{name}");
        assert!(told.processed > told.cached && told.total == 1000, "{name}: {told:?}");
        let answer = ask(&shared, &prompt, limits);
        assert!(answer.done.cached_tokens >= 128, "{name}: {}", answer.done.cached_tokens);
        assert_same(name, "after a part", &answer, &ask(&plain, &prompt, limits));
    }
}

#[test]
fn nothing_is_kept_beyond_the_limit_or_where_it_is_off_or_asked_to_be_forgotten() {
    let limits = CacheLimits::default();
    let prompt = text(1, 200);
    for (bytes, cached) in [(ENOUGH, 199), (1000, 0), (0, 0)] {
        let fixture = load_fixture("llama", bytes);
        ask(&fixture, &prompt, limits);
        assert_eq!(ask(&fixture, &prompt, limits).done.cached_tokens, cached, "{bytes}");
        let (sender, receiver) = channel();
        fixture.model.clear_prefix_cache(Box::new(move |done| sender.send(done).unwrap()));
        receiver.recv_timeout(PATIENCE).unwrap().unwrap();
        assert_eq!(ask(&fixture, &prompt, limits).done.cached_tokens, 0, "{bytes}");
    }
}

#[test]
fn what_depends_on_nobody_and_prompt_caches_share_nothing() {
    let fixture = load_fixture("llama", ENOUGH);
    let limits = CacheLimits::default();
    let prompt = text(1, 200);
    ask(&fixture, &prompt, limits);
    let cached = |request: &GenerateRequest| {
        wait(&fixture.model.generate(request.clone()).unwrap()).done.cached_tokens
    };
    let mut alone = request(&prompt, limits);
    alone.options.deterministic = true;
    assert_eq!([cached(&alone), cached(&alone)], [0, 0]);
    let cache = fixture.model.prompt_cache(limits);
    let explicit = GenerateRequest { prompt_cache: Some(cache.id()), ..request(&prompt, limits) };
    assert_eq!([cached(&explicit), cached(&explicit)], [0, 199]);
}
