//! Bits that a text chooses: the size that is wanted is kept, and what comes out loads.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::Path;

use nodemlx::convert::{Calibration, ConvertOptions, Progress, Report, TargetSize, convert};
use nodemlx::error::{Error, Result};
use nodemlx::mlx::quantized::Mode;

use crate::every::faults_of;
use crate::{TOKENS, logits_of, quantized, relative_error, run};

fn options(size: TargetSize) -> ConvertOptions {
    let mut options = quantized(Mode::Affine, 4, 32);
    let quantize = options.quantize.as_mut().unwrap();
    quantize.calibration = Some(Calibration { tokens: TOKENS.to_vec(), size });
    options
}

/// Converts a model to a size between those of 2 and of 8 bits; `None` where nothing of it can be
/// quantized.
pub fn calibrated(source: &Path, target: &Path) -> Result<Option<(Report, u64)>> {
    let folder = tempfile::tempdir().unwrap();
    let [few, many] = [2, 8].map(|bits| {
        let mut options = quantized(Mode::Affine, bits, 32);
        options.quantize.as_mut().unwrap().must_change = true;
        run(source, &folder.path().join(bits.to_string()), &options)
    });
    let (few, many) = match (few, many) {
        (Err(Error::Unsupported(_)), _) => return Ok(None),
        (few, many) => (few?.bytes, many?.bytes),
    };
    let wanted = few.midpoint(many);
    let report = run(source, target, &options(TargetSize::Bytes(wanted as f64)))?;
    Ok(Some((report, wanted)))
}

fn fault_of(fixture: &str) -> Option<String> {
    let source = seeded::folder(fixture);
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("calibrated");
    let (report, wanted) = match calibrated(&source, &target) {
        Ok(Some(found)) => found,
        Ok(None) => return None,
        Err(error) => return Some(format!("{fixture}: {error}")),
    };
    if report.bytes > wanted || (report.bytes as f64) < 0.8 * wanted as f64 {
        return Some(format!("{fixture}: {} bytes instead of {wanted}", report.bytes));
    }
    let found = std::panic::catch_unwind(|| logits_of(&target, &TOKENS));
    let Ok(found) = found else { return Some(format!("{fixture}: does not load")) };
    let error = relative_error(&found, &logits_of(&source, &TOKENS));
    (error.is_nan() || error > 1.5).then(|| format!("{fixture}: relative error {error:.1e}"))
}

#[test]
fn every_checkpoint_of_numbers_gets_bits_by_a_text() {
    let only = std::env::var("FIXTURES").unwrap_or_default();
    let names = seeded::names().into_iter().filter(|name| name.starts_with(&only));
    // Of each architecture one of numbers, unless some are asked for.
    let mut families = BTreeSet::new();
    let family = |name: &str| name.split("-raw").next().unwrap_or(name).to_owned();
    let names = names.filter(|name| !only.is_empty() || families.insert(family(name))).collect();
    let faults = faults_of(names, fault_of);
    assert!(faults.is_empty(), "{} fail:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn a_size_that_no_choice_has_is_refused_with_those_that_there_are() {
    let folder = tempfile::tempdir().unwrap();
    let source = seeded::folder("qwen2-raw");
    for (size, option, which) in [
        (TargetSize::BitsPerWeight(0.5), "calibrate.bits", "smallest"),
        (TargetSize::Bytes(1e12), "calibrate.bytes", "largest"),
    ] {
        let target = folder.path().join(which);
        let error = run(&source, &target, &options(size)).unwrap_err();
        let Error::InvalidArgument { option: found, message, .. } = error else {
            panic!("{error}")
        };
        assert_eq!(found, option);
        assert!(message.contains(which), "{message}");
        assert!(!target.exists());
    }
}

#[test]
fn an_abort_while_matrices_are_measured_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("aborted");
    let source = seeded::folder("qwen2-raw");
    let mut reports = 0;
    let mut progress = |step| match step {
        Progress::Calibration { measured_bytes, total_bytes } if measured_bytes < total_bytes => {
            reports += 1;
            if reports > 5 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }
        _ => ControlFlow::Continue(()),
    };
    let options = options(TargetSize::BitsPerWeight(9.0));
    let error = convert(&source, &target, &options, &mut progress).unwrap_err();
    assert!(matches!(error, Error::Aborted(_)), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
