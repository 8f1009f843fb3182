//! The real mlx-lm loads what is converted, and computes the same.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::calibrated::calibrated;
use crate::{TOKENS, golden, logits_of, options, run, write_golden};

/// What mlx-lm computes otherwise than the code that a model was published with, converted or not
/// (docs/differences.md); what it cannot compute of its own conversion, whose embedding it
/// multiplies with as if it were not packed; and packs of other bits than it takes.
const OTHERWISE: [&str; 8] = [
    "jamba-raw@plain",
    "mellum-raw@plain",
    "minicpm3-raw@plain",
    "minicpm3-raw@4bit",
    "llama4-text-raw@4bit",
    "phi3small-raw@plain",
    "phi3small-raw@4bit",
    "prism-hadamard-qwen35@4bit",
];

/// Models whose bits a text chooses: a dense one, and one of experts.
const CALIBRATED: [&str; 2] = ["qwen2-raw", "qwen3-moe-raw"];

/// A fixture of each type of model that mlx-lm has, and the ways in which it is converted.
fn cases() -> Vec<(String, Vec<&'static str>)> {
    let mut types = BTreeSet::new();
    let mut cases = Vec::new();
    let only = std::env::var("FIXTURES").unwrap_or_default();
    for (fixture, ways) in golden().cases.into_iter().filter(|(name, _)| name.starts_with(&only)) {
        let config = std::fs::read_to_string(seeded::folder(&fixture).join("config.json")).unwrap();
        // Python's numbers, which JSON lacks.
        let config = ["-Infinity", "Infinity", "NaN"]
            .iter()
            .fold(config, |config, number| config.replace(number, "null"));
        let config: Value = serde_json::from_str(&config).unwrap();
        let kind = (config["model_type"].to_string(), config["architectures"].to_string());
        if ways.contains_key("plain") && types.insert(kind) {
            let ways = ["plain", "4bit"].into_iter().filter(|way| ways.contains_key(*way));
            cases.push((fixture, ways.collect()));
        }
    }
    cases
}

#[test]
fn mlx_lm_computes_the_same_of_what_is_converted() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let found = Command::new("node").arg(root.join("scripts/mlx-lm.mjs")).output().unwrap();
    assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
    let python = String::from_utf8(found.stdout).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for (fixture, ways) in cases() {
        let source = seeded::folder(&fixture);
        for way in ways {
            let name = format!("{fixture}@{way}");
            if OTHERWISE.contains(&name.as_str()) {
                continue;
            }
            let target = folder.path().join(name);
            run(&source, &target, &options(way)).unwrap();
            // Of a conversion that only names tensors anew the source says what it is to compute.
            let of = if way == "plain" { &source } else { &target };
            write_golden(&target, &logits_of(of, &TOKENS));
        }
    }
    for fixture in CALIBRATED {
        let target = folder.path().join(format!("{fixture}@calibrated"));
        calibrated(&seeded::folder(fixture), &target).unwrap().unwrap();
        write_golden(&target, &logits_of(&target, &TOKENS));
    }
    let script = root.join("tools/oracle/converted.py");
    let checked = Command::new(python).arg(script).arg(folder.path()).output().unwrap();
    let faults = String::from_utf8_lossy(&checked.stdout).into_owned();
    let said = String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success(), "{faults}\n{said}");
}
