//! Who drafts goes on from what was read for sequences before, as they do themselves.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use super::failures::{backend as counts, counting, options};
use super::prediction_head;
use super::speculation::tokens;
use crate::adapters::Adapters;
use crate::cache::prefix_store::PrefixStore;
use crate::cache::{Cache, CacheLimits};
use crate::engine::adapted::AdaptedBackend;
use crate::engine::backend::Backend;
use crate::engine::core::CoreBackend;
use crate::error::Result;
use crate::fused::Device;
use crate::generate::{PrefixCache, SequenceOptions, Speculated, SpeculationOptions};
use crate::mlx::Array;
use crate::models::{self, LanguageModel, LoadOptions};
use crate::nn::{Embedding, Step};

/// A model that counts on, and the positions that it has read.
struct Counted(Box<dyn LanguageModel>, Rc<Cell<usize>>);

impl LanguageModel for Counted {
    fn forward(&self, step: &Step, caches: &mut [&mut [Cache]]) -> Result<Array> {
        self.1.set(self.1.get() + step.tokens().dim(1) as usize);
        self.0.forward(step, caches)
    }

    fn make_caches(&self) -> Vec<Cache> {
        self.0.make_caches()
    }

    fn layers(&self) -> usize {
        self.0.layers()
    }

    fn embedding(&self) -> &Embedding {
        self.0.embedding()
    }

    fn vocabulary(&self) -> usize {
        self.0.vocabulary()
    }

    fn device(&self) -> Device {
        self.0.device()
    }
}

/// A backend whose sequences share what they read, with files in a folder.
fn sharing(core: CoreBackend, folder: &Path) -> AdaptedBackend {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo");
    let loaded = models::load(&demo, &LoadOptions::default(), &mut |_| ControlFlow::Continue(()));
    let loaded = loaded.unwrap();
    let store = Arc::new(PrefixStore::open(folder, 1 << 30, "counting").unwrap());
    store.refresh();
    let prefixes = PrefixCache::new(1 << 30, Vec::new()).with_store(Some(store));
    AdaptedBackend::new(core, Adapters::new(loaded.sites, loaded.activations), Some(prefixes))
}

fn drafting() -> SequenceOptions {
    let speculation = Some(SpeculationOptions { draft_tokens: Some(3), lookup: false });
    SequenceOptions { speculation, ..options() }
}

/// An answer of 20 tokens or a few more, what came of speculation, and how much of the prompt was
/// known.
fn answer(backend: &AdaptedBackend, prompt: &[u32]) -> (Vec<u32>, Speculated, usize) {
    let mut sequence = backend.start(prompt.to_vec(), drafting(), None, &mut None).unwrap();
    while !backend.prefill(&mut [&mut sequence], 64, true).progress[0].as_ref().unwrap().done {}
    let mut made = Vec::new();
    while made.len() < 20 {
        made.extend(tokens(&backend.decode(&mut [&mut sequence]).remove(0).unwrap()));
    }
    let speculated = backend.speculated(&sequence).unwrap();
    let cached = backend.cached_tokens(&sequence);
    backend.keep(sequence);
    (made, speculated, cached)
}

/// A second turn reads only what is new, also by who drafts, whose positions `read` counts; and so
/// does a later load, from files.
fn check_turns(load: &dyn Fn() -> (CoreBackend, Box<dyn Fn() -> usize>)) {
    let folder = tempfile::tempdir().unwrap();
    let (core, read) = load();
    let backend = sharing(core, folder.path());
    let first = vec![0; 60];
    let (made, speculated, cached) = answer(&backend, &first);
    assert_eq!((&made[..20], cached), (&(1..=20).collect::<Vec<_>>()[..], 0));
    assert_eq!(speculated.accepted, speculated.drafted);
    assert!(read() >= 60, "{}", read());

    // It ends with 0 again.
    let second = [&first[..], &made, &[3, 0]].concat();
    let check = |backend: &AdaptedBackend, read: &dyn Fn() -> usize| {
        let before = read();
        let (made, speculated, cached) = answer(backend, &second);
        assert_eq!(made[..20], (1..=20).collect::<Vec<_>>());
        assert!(cached + 8 > second.len(), "{cached} of {}", second.len());
        assert_eq!(speculated.accepted, speculated.drafted);
        assert!(speculated.steps < 8, "{speculated:?}");
        // What is new, the answer, and at most as many wrong guesses.
        assert!(read() - before < 56, "{} positions were read", read() - before);
    };
    check(&backend, &read);
    // Another prompt that begins like both, and goes on as neither.
    let before = read();
    let (made, _, cached) = answer(&backend, &[&first[..50], &[7, 0]].concat());
    assert_eq!((&made[..20], cached), (&(1..=20).collect::<Vec<_>>()[..], 50));
    assert!(read() - before < 56, "{} positions were read", read() - before);

    backend.finish();
    let (core, read) = load();
    let backend = sharing(core, folder.path());
    let fetch = backend.fetch(&second, &drafting(), None).unwrap();
    backend.admit(fetch.run().unwrap());
    check(&backend, &read);
}

#[test]
fn a_draft_model_reads_nothing_twice() {
    check_turns(&|| {
        let read = Rc::new(Cell::new(0));
        let draft: Box<dyn LanguageModel> = Box::new(Counted(counting(), Rc::clone(&read)));
        let core = counts().with_draft(Some((draft, "another".to_owned())));
        (core, Box::new(move || read.get()))
    });
}

#[test]
fn a_head_reads_nothing_twice() {
    check_turns(&|| {
        let (core, head) = prediction_head::backend(usize::MAX, false);
        (core, Box::new(move || head.read.get()))
    });
}

#[test]
fn what_another_draft_model_has_read_is_of_no_use() {
    let folder = tempfile::tempdir().unwrap();
    let load = |name: &str| {
        let core = counts().with_draft(Some((counting(), name.to_owned())));
        sharing(core, folder.path())
    };
    let prompt = vec![0; 60];
    let backend = load("one");
    answer(&backend, &prompt);
    backend.finish();
    for (name, is_known) in [("one", true), ("another", false)] {
        let backend = load(name);
        let restored = backend.fetch(&prompt, &drafting(), None).unwrap().run().unwrap();
        assert_eq!(restored.files() == 2, is_known, "{name}");
    }
}

#[test]
fn the_caches_of_who_drafts_count_as_memory() {
    let draft: Box<dyn LanguageModel> = counting();
    let with_draft = counts().with_draft(Some((draft, String::new())));
    let with_head = prediction_head::backend(usize::MAX, false).0;
    for backend in [with_draft, with_head] {
        let bytes =
            |speculates| backend.cache_bytes(CacheLimits::default(), 300, speculates).unwrap();
        // Both keep the same as the model, keys and values of 64 features in steps of 256.
        assert_eq!([bytes(false), bytes(true)], [512, 1024].map(|of_token| 512 * of_token));
    }
}
