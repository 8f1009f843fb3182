//! What sequences have read is on disk for a later load of the same model.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;

use tempfile::TempDir;

use super::PATIENCE;
use super::prefixes::{
    FIXTURES, ask_model, assert_same, fixture_folder, load_folder, load_request, load_request_of,
    request, text, wait,
};
use crate::cache::{CacheLimits, KvQuantization};
use crate::engine::{LoadRequest, Model, PrefixDisk};

const IN_MEMORY: usize = 1 << 30;
const NO_LIMITS: CacheLimits = CacheLimits { max_size: None, quantization: None };

/// A model's folder and a directory for what is read.
struct Disk {
    folder: TempDir,
    directory: TempDir,
}

impl Disk {
    fn new(name: &str) -> Self {
        Self { folder: fixture_folder(name), directory: tempfile::tempdir().unwrap() }
    }

    fn load(&self) -> Model {
        self.load_with(IN_MEMORY, 1 << 30)
    }

    fn load_with(&self, memory: usize, bytes: u64) -> Model {
        let directory = self.directory.path().to_owned();
        let disk = PrefixDisk { directory, bytes };
        load_folder(self.folder.path(), memory, Some(disk)).unwrap()
    }

    fn plain(&self) -> Model {
        load_folder(self.folder.path(), 0, None).unwrap()
    }

    fn files(&self) -> Vec<PathBuf> {
        let list = |path: &Path| fs::read_dir(path).unwrap().map(|it| it.unwrap().path());
        let folders = list(self.directory.path()).filter(|it| it.is_dir());
        folders.flat_map(|it| list(&it).collect::<Vec<_>>()).collect()
    }
}

fn dispose(model: &Model) {
    let (sender, receiver) = channel();
    model.dispose(Box::new(move |done| sender.send(done).unwrap()));
    receiver.recv_timeout(PATIENCE).unwrap().unwrap();
}

#[test]
fn a_later_load_goes_on_from_what_was_read_for_all_kinds_of_caches() {
    for name in FIXTURES {
        let disk = Disk::new(name);
        let plain = disk.plain();
        for max_size in [None, Some(40)] {
            let limits = CacheLimits { max_size, quantization: None };
            let first = text(1, 150);
            let model = disk.load();
            let answer = ask_model(&model, &first, limits);
            assert_eq!(answer.done.cached_tokens, 0, "{name}, {max_size:?}");
            dispose(&model);
            let grown = [first.as_slice(), &answer.tokens, &text(2, 60)].concat();
            let edited = [first.as_slice(), &answer.tokens, &text(3, 60)].concat();
            let model = disk.load();
            // A turn that grows, another one in its place, and a retry.
            for (prompt, least) in [(&grown, 155), (&edited, 155), (&grown, 215)] {
                let answer = ask_model(&model, prompt, limits);
                assert_same(name, "again", &answer, &ask_model(&plain, prompt, limits));
                let cached = answer.done.cached_tokens;
                assert!(cached >= least, "{name}, {max_size:?}: {cached} of {least}");
            }
            dispose(&model);
            // The first prompt's end was in the middle of a message.
            let model = disk.load();
            let answer = ask_model(&model, &edited, limits);
            assert_same(name, "edited", &answer, &ask_model(&plain, &edited, limits));
            assert_eq!(answer.done.cached_tokens, 215, "{name}, {max_size:?}");
            dispose(&model);
        }
    }
}

#[test]
fn keys_of_short_contexts_are_not_those_of_long_ones() {
    let disk = Disk::new("phi3-raw-longrope-short");
    let load = |context_length: Option<usize>| {
        let files = PrefixDisk { directory: disk.directory.path().to_owned(), bytes: 1 << 30 };
        let request = load_request_of(disk.folder.path(), IN_MEMORY, Some(files));
        load_request(LoadRequest { context_length, ..request }).unwrap()
    };
    let prompt = text(1, 150);
    // The context before the extension has 256 tokens.
    for (context_length, cached) in
        [(Some(256), 0), (Some(200), 149), (None, 0), (Some(257), 149), (Some(256), 149)]
    {
        let model = load(context_length);
        let answer = ask_model(&model, &prompt, NO_LIMITS);
        assert_eq!(answer.done.cached_tokens, cached, "{context_length:?}");
        dispose(&model);
    }
}

#[test]
fn packed_keys_and_values_come_back_packed() {
    let disk = Disk::new("demo");
    let quantization = Some(KvQuantization { group_size: None, bits: 8 });
    for max_size in [None, Some(40)] {
        let limits = CacheLimits { max_size, quantization };
        let model = disk.load();
        let answer = ask_model(&model, &text(1, 150), limits);
        dispose(&model);
        let model = disk.load();
        let grown = [text(1, 150), answer.tokens, text(2, 60)].concat();
        assert_eq!(ask_model(&model, &grown, NO_LIMITS).done.cached_tokens, 0, "{max_size:?}");
        let again = ask_model(&model, &grown, limits);
        assert_eq!(again.done.cached_tokens, 155, "{max_size:?}");
        let other = ask_model(&disk.plain(), &grown, limits);
        let [mine, other] = [&again, &other].map(|it| it.logprobs[0].top[0].logprob);
        assert!((mine - other).abs() < 0.1, "{mine} is not {other}");
        dispose(&model);
        fs::remove_dir_all(disk.directory.path()).unwrap();
    }
}

#[test]
fn what_leaves_the_memory_is_found_on_disk() {
    for (name, memory) in [("llama", 0), ("gemma3", 0), ("qwen3-next", 0), ("llama", 150_000)] {
        let disk = Disk::new(name);
        let (model, plain) = (disk.load_with(memory, 1 << 30), disk.plain());
        let prompts: Vec<Vec<u32>> = (1..6).map(|seed| text(seed, 300)).collect();
        for prompt in &prompts {
            assert_eq!(ask_model(&model, prompt, NO_LIMITS).done.cached_tokens, 0, "{name}");
        }
        // A conversation whose file is on its way is written before the next one is looked for.
        for prompt in &prompts {
            let grown = [prompt.as_slice(), &text(9, 20)].concat();
            let answer = ask_model(&model, &grown, NO_LIMITS);
            let cached = answer.done.cached_tokens;
            assert!(cached >= 299, "{name}, {memory}: {cached}");
            assert_same(name, "again", &answer, &ask_model(&plain, &grown, NO_LIMITS));
        }
    }
}

#[test]
fn broken_files_and_other_models_cost_the_hit_alone() {
    let disk = Disk::new("qwen3-next");
    let (prompt, plain) = (text(1, 200), disk.plain());
    let expected = ask_model(&plain, &prompt, NO_LIMITS);
    let round = |cached: usize, what: &str| {
        let model = disk.load();
        let answer = ask_model(&model, &prompt, NO_LIMITS);
        assert_same("qwen3-next", what, &answer, &expected);
        assert_eq!(answer.done.cached_tokens, cached, "{what}");
        dispose(&model);
    };
    round(0, "at first");
    round(199, "again");
    type Damage = fn(&mut Vec<u8>);
    let damages: [(&str, Damage); 4] = [
        ("cut off", |bytes| bytes.truncate(bytes.len() / 2)),
        ("a bit of its end", |bytes| *bytes.last_mut().unwrap() ^= 1),
        ("a bit of its header", |bytes| bytes[100] ^= 1),
        ("empty", Vec::clear),
    ];
    for (what, damage) in damages {
        for file in disk.files() {
            let mut bytes = fs::read(&file).unwrap();
            damage(&mut bytes);
            fs::write(&file, bytes).unwrap();
        }
        round(0, what);
        round(199, what);
    }
    // The same names, other weights.
    let weights = disk.folder.path().join("model.safetensors");
    let modified = fs::metadata(&weights).unwrap().modified().unwrap();
    let file = fs::File::options().write(true).open(&weights).unwrap();
    file.set_modified(modified + std::time::Duration::from_secs(1)).unwrap();
    round(0, "another time");
    file.set_modified(modified).unwrap();
    round(199, "the first time");
}

#[test]
fn what_is_forgotten_on_demand_is_forgotten_on_disk() {
    let disk = Disk::new("llama");
    let model = disk.load_with(0, 1 << 30);
    ask_model(&model, &text(1, 200), NO_LIMITS);
    ask_model(&model, &text(2, 200), NO_LIMITS);
    let (sender, receiver) = channel();
    model.clear_prefix_cache(Box::new(move |done| sender.send(done).unwrap()));
    receiver.recv_timeout(PATIENCE).unwrap().unwrap();
    assert!(disk.files().is_empty());
    assert_eq!(ask_model(&model, &text(1, 200), NO_LIMITS).done.cached_tokens, 0);
}

#[test]
fn files_stay_within_their_limit_and_short_beginnings_have_none() {
    let disk = Disk::new("llama");
    let model = disk.load();
    ask_model(&model, &text(1, 20), NO_LIMITS);
    dispose(&model);
    assert!(disk.files().is_empty());
    let model = disk.load();
    ask_model(&model, &text(1, 200), NO_LIMITS);
    dispose(&model);
    let size = fs::metadata(&disk.files()[0]).unwrap().len();
    let model = disk.load_with(IN_MEMORY, 3 * size);
    for seed in 2..9 {
        ask_model(&model, &text(seed, 200), NO_LIMITS);
    }
    dispose(&model);
    let bytes: u64 = disk.files().iter().map(|it| fs::metadata(it).unwrap().len()).sum();
    assert!(bytes <= 3 * size && disk.files().len() >= 2, "{bytes}");
    let model = disk.load();
    assert_eq!(ask_model(&model, &text(8, 200), NO_LIMITS).done.cached_tokens, 199, "used last");
}

#[test]
fn two_loads_share_a_directory_and_what_depends_on_nobody_does_not_use_it() {
    let disk = Disk::new("llama");
    let (one, other) = (disk.load(), disk.load());
    let prompt = text(1, 200);
    ask_model(&one, &prompt, NO_LIMITS);
    dispose(&one);
    let mut alone = request(&prompt, NO_LIMITS);
    alone.options.deterministic = true;
    assert_eq!(wait(&other.generate(alone).unwrap()).done.cached_tokens, 0);
    assert_eq!(ask_model(&other, &prompt, NO_LIMITS).done.cached_tokens, 199);
}

#[test]
fn a_directory_that_cannot_be_used_is_refused() {
    let disk = Disk::new("llama");
    let directory = disk.directory.path().join("file");
    fs::write(&directory, "").unwrap();
    let disk = PrefixDisk { directory, bytes: 1 << 20 };
    let folder = fixture_folder("llama");
    let error = load_folder(folder.path(), 0, Some(disk)).err().unwrap();
    assert_eq!(error.code(), "INVALID_ARGUMENT");
    assert!(error.to_string().contains("prefixCache.directory"), "{error}");
}
