//! Any checkpoint that loads is converted, into one that loads and computes the same.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::{TOKENS, logits_of, options, relative_error, run};

/// What is wrong with the conversion of a fixture, if anything is: as it is, and to 4 bits.
fn fault_of(fixture: &str) -> Option<String> {
    let source = seeded::folder(fixture);
    let folder = tempfile::tempdir().unwrap();
    let expected = logits_of(&source, &TOKENS);
    for way in ["plain", "4bit"] {
        let target = folder.path().join(way);
        if let Err(error) = run(&source, &target, &options(way)) {
            return Some(format!("{fixture} {way}: {error}"));
        }
        let found = std::panic::catch_unwind(|| logits_of(&target, &TOKENS));
        let Ok(found) = found else { return Some(format!("{fixture} {way}: does not load")) };
        let error = relative_error(&found, &expected);
        // Factors that are multiplied into 16 bits are rounded; 4 bits are not looked at closely.
        let bar = if way == "plain" { 5e-3 } else { 1.5 };
        if error.is_nan() || error > bar {
            return Some(format!("{fixture} {way}: relative error {error:.1e}"));
        }
    }
    None
}

#[test]
fn every_checkpoint_that_loads_converts_and_computes_the_same() {
    let only = std::env::var("FIXTURES").unwrap_or_default();
    let names = seeded::names().into_iter().filter(|name| name.starts_with(&only)).collect();
    let faults = faults_of(names, fault_of);
    assert!(faults.is_empty(), "{} fail:\n{}", faults.len(), faults.join("\n"));
}

/// What is wrong with any of these fixtures, on several threads.
pub fn faults_of(
    names: Vec<String>,
    fault_of: impl Fn(&str) -> Option<String> + Sync,
) -> Vec<String> {
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(2, |it| it.get().min(8));
    std::thread::scope(|scope| {
        let work = || {
            let mut faults = Vec::new();
            while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
                faults.extend(fault_of(name));
            }
            faults
        };
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}
