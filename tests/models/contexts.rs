//! LongRoPE has factors of its own for contexts that are not longer than the one before its
//! extension.

use std::ops::ControlFlow;
use std::path::Path;

use nodemlx::fused::{Device, Precision};
use nodemlx::mlx::{self, DeviceKind, Dtype};
use nodemlx::models::{self, LoadOptions, Loaded};
use serde_json::json;

use super::defaults::edited;
use super::{Golden, logits, relative_error};

fn load(folder: &Path, context_length: Option<usize>) -> Loaded {
    let device = Device::cpu(Some(1), Precision::Exact);
    let dtype = Some(Dtype::Float32);
    let options = LoadOptions { device, dtype, context_length, ..LoadOptions::default() };
    models::load(folder, &options, &mut |_| ControlFlow::Continue(())).unwrap()
}

#[test]
fn contexts_that_stay_short_have_the_factors_of_short_ones() {
    mlx::enter(DeviceKind::Cpu).unwrap();
    // The reference's whole contexts are short.
    for (fixture, original) in [
        ("phi3-raw-longrope-short", 256),
        ("llama-raw-longrope-short", 256),
        ("phimoe-raw-longrope-short", 64),
    ] {
        let extended = edited(fixture, |fields| {
            fields.insert("max_position_embeddings".to_owned(), json!(4 * original));
        });
        let golden = Golden::read(&seeded::folder(fixture));
        let error = |loaded: &Loaded| {
            let all = logits(&*loaded.model, &golden.tokens, golden.tokens.len());
            relative_error(&all[all.len() - golden.logits.len()..], &golden.logits)
        };
        let of = |context| load(extended.path(), context);
        let [short, shorter] = [original, original / 2].map(|context| of(Some(context)));
        for loaded in [&short, &shorter] {
            let error = error(loaded);
            assert!(error < 1e-4, "{fixture}: {error:.1e}");
        }
        let [long, longer, longest] = [Some(original + 1), None, Some(8 * original)].map(of);
        for loaded in [&long, &longer, &longest] {
            let error = error(loaded);
            assert!(error > 1e-2, "{fixture}: {error:.1e}");
        }
        let lengths = [&short, &shorter, &long, &longer, &longest].map(|it| it.info.context_length);
        let expected = [original, original / 2, original + 1, 4 * original, 4 * original];
        assert_eq!(lengths, expected.map(Some), "{fixture}");
        // What tells keys and values in caches apart.
        let fingerprints = |models: &[&Loaded]| {
            let mut all: Vec<_> = models.iter().map(|it| it.info.fingerprint.clone()).collect();
            all.dedup();
            all
        };
        assert_eq!(fingerprints(&[&short, &shorter]).len(), 1, "{fixture}");
        assert_eq!(fingerprints(&[&long, &longer, &longest]).len(), 1, "{fixture}");
        assert_eq!(fingerprints(&[&short, &long]).len(), 2, "{fixture}");
    }
}

#[test]
fn a_shorter_context_changes_no_other_model() {
    mlx::enter(DeviceKind::Cpu).unwrap();
    let folder = seeded::folder("llama");
    let [short, whole] = [Some(16), None].map(|context| load(&folder, context));
    assert_eq!(short.info.fingerprint, whole.info.fingerprint);
    assert_eq!(short.info.context_length, Some(16));
    // A recurrence has no longest context of its own.
    let folder = seeded::folder("mamba");
    let [short, whole] = [Some(16), None].map(|context| load(&folder, context));
    assert_eq!((short.info.context_length, whole.info.context_length), (Some(16), None));
}
