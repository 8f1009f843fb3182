//! Parity with `mlx_lm.convert`: `tests/fixtures/conversions.json` has a digest of every way in
//! which it converts the fixtures of `tests/fixtures/models`, of all names, types, shapes and bytes.
//! `CONVERTED=folder cargo test --test conversions every_byte` leaves all of them there, with the
//! logits that are computed of them, for `tools/oracle/check.py --converted folder`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod calibrated;
mod every;
mod mlx_lm;
mod packed_experts;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use nodemlx::convert::{ConvertOptions, Pattern, QuantizeOptions, Recipe, Report, convert};
use nodemlx::error::Result;
use nodemlx::fused::{Device, Precision};
use nodemlx::mlx::quantized::{Mode, QuantizationParams};
use nodemlx::mlx::{self, Dtype};
use nodemlx::models::{self, LoadOptions};
use safetensors::tensor::TensorView;
use safetensors::{SafeTensors, View};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Golden {
    cases: BTreeMap<String, BTreeMap<String, String>>,
}

/// Σ mix(word + (i + 1) · 0x9e3779b97f4a7c15), as in `tools/oracle/generate/conversions.py`.
fn mixed(bytes: &[u8]) -> u64 {
    bytes.chunks(8).zip(1_u64..).fold(0, |sum, (chunk, i)| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        let z = u64::from_le_bytes(word).wrapping_add(i.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        sum.wrapping_add(z ^ (z >> 31))
    })
}

/// A line for each tensor, and last the configuration's formats.
fn lines(folder: &Path) -> Vec<String> {
    let bytes = std::fs::read(folder.join("model.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut lines: Vec<_> = tensors
        .tensors()
        .iter()
        .map(|(name, view)| {
            let shape = view.shape().iter().map(ToString::to_string).collect::<Vec<_>>().join("x");
            format!("{name} {} {shape} {:016x}", View::dtype(view), mixed(view.data()))
        })
        .collect();
    lines.sort();
    let config = std::fs::read(folder.join("config.json")).unwrap();
    let config: Value = serde_json::from_slice(&config).unwrap();
    let mut quantization = config["quantization"].clone();
    for entry in quantization.as_object_mut().into_iter().flat_map(|entries| entries.values_mut()) {
        if let Some(entry) = entry.as_object_mut() {
            // What MLX takes where none is given.
            entry.entry("group_size").or_insert(json!(64));
        }
    }
    quantization.sort_all_objects();
    lines.push(quantization.to_string());
    lines
}

fn quantized(mode: Mode, bits: i32, group_size: i32) -> ConvertOptions {
    let params = QuantizationParams { mode, group_size, bits };
    let quantize = QuantizeOptions {
        params,
        recipe: None,
        layers: Vec::new(),
        calibration: None,
        must_change: false,
    };
    ConvertOptions { quantize: Some(quantize), ..ConvertOptions::default() }
}

fn options(way: &str) -> ConvertOptions {
    match way {
        "plain" => ConvertOptions::default(),
        "float16" => ConvertOptions { dtype: Some(Dtype::Float16), ..ConvertOptions::default() },
        "dequantized" => ConvertOptions { dequantize: true, ..ConvertOptions::default() },
        "3bit" => quantized(Mode::Affine, 3, 32),
        "4bit" | "again" => quantized(Mode::Affine, 4, 32),
        "8bit" => quantized(Mode::Affine, 8, 64),
        "mxfp4" => quantized(Mode::Mxfp4, 4, 32),
        "mxfp8" => quantized(Mode::Mxfp8, 8, 32),
        "nvfp4" => quantized(Mode::Nvfp4, 4, 16),
        recipe => {
            let mut options = quantized(Mode::Affine, 4, 32);
            let recipe = Recipe::ALL.into_iter().find(|other| other.name() == recipe).unwrap();
            options.quantize.as_mut().unwrap().recipe = Some(recipe);
            options
        }
    }
}

fn run(source: &Path, target: &Path, options: &ConvertOptions) -> Result<Report> {
    convert(source, target, options, &mut |_| ControlFlow::Continue(()))
}

/// The lines of a fixture that is converted in this way.
fn converted(fixture: &str, way: &str, folder: &Path) -> Vec<String> {
    let mut source = seeded::folder(fixture);
    if way == "again" {
        let dequantized = folder.join("dequantized");
        run(&source, &dequantized, &options("dequantized")).unwrap();
        source = dequantized;
    }
    let kept = std::env::var_os("CONVERTED").map(|kept| match way {
        // The fixture has logits of its own.
        "plain" => Path::new(&kept).join(fixture),
        _ => Path::new(&kept).join(format!("{fixture}@{way}")),
    });
    let target = kept.clone().unwrap_or(folder.join("target"));
    run(&source, &target, &options(way)).unwrap();
    if kept.is_some() && way != "plain" {
        write_golden(&target, &logits_of(&target, &TOKENS));
    }
    lines(&target)
}

/// Leaves the logits of [`TOKENS`] that a checkpoint gives beside it.
fn write_golden(folder: &Path, logits: &[f32]) {
    let tokens = TOKENS.to_vec();
    let words = |values: Vec<[u8; 4]>| values.concat();
    let tokens = words(tokens.iter().map(|token| token.to_le_bytes()).collect());
    let shape = vec![TOKENS.len(), logits.len() / TOKENS.len()];
    let logits = words(logits.iter().map(|logit| logit.to_le_bytes()).collect());
    let view = |dtype, shape, bytes| TensorView::new(dtype, shape, bytes).unwrap();
    let tensors = [
        ("tokens", view(safetensors::Dtype::I32, vec![TOKENS.len()], &tokens)),
        ("logits", view(safetensors::Dtype::F32, shape, &logits)),
    ];
    safetensors::serialize_to_file(tensors, None, &folder.join("golden.safetensors")).unwrap();
}

fn golden() -> Golden {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/conversions.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn every_byte_is_as_mlx_lm_writes_it() {
    let golden = golden();
    let only = std::env::var("FIXTURES").unwrap_or_default();
    let mut wrong = Vec::new();
    for (fixture, ways) in golden.cases.iter().filter(|(name, _)| name.starts_with(&only)) {
        for (way, digest) in ways {
            let folder = tempfile::tempdir().unwrap();
            let text = converted(fixture, way, folder.path()).join("\n");
            if format!("{:016x}", mixed(text.as_bytes())) != *digest {
                wrong.push(format!("{fixture} {way}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ: {}", wrong.len(), wrong.join(", "));
}

const TOKENS: [u32; 12] = [5, 10, 15, 20, 25, 30, 1, 2, 3, 28, 14, 7];

/// The logits of some tokens.
fn logits(folder: &Path) -> Vec<f32> {
    logits_of(folder, &(1..20).map(|token| token * 5 % 90).collect::<Vec<_>>())
}

fn logits_of(folder: &Path, tokens: &[u32]) -> Vec<f32> {
    let device = Device::cpu(None, Precision::Exact);
    let options = LoadOptions { device, dtype: Some(Dtype::Float32), ..LoadOptions::default() };
    let loaded = models::load(folder, &options, &mut |_| ControlFlow::Continue(())).unwrap();
    let tokens = mlx::from_u32(tokens, &[1, tokens.len() as i32]);
    let logits = loaded.model.logits(&tokens, &mut loaded.model.make_caches()).unwrap();
    mlx::to_f32_vec(&logits).unwrap()
}

fn relative_error(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let difference = norm(&mut a.iter().zip(b).map(|(&a, &b)| f64::from(a) - f64::from(b)));
    difference / norm(&mut b.iter().map(|&b| f64::from(b)))
}

#[test]
fn the_converted_model_computes_the_same() {
    let folder = tempfile::tempdir().unwrap();
    for fixture in [
        // Layouts that mlx-lm does not read as they are published.
        "deepseek-v3-raw-plain-queries",
        "gemma3n-raw-lean",
        "gpt-oss-raw-unpacked",
        "llama4-text-raw-no-rope",
        "qwen2-moe-raw-sparse-steps",
        "qwen3-5-moe-raw-unstacked",
        "starcoder2-raw-window",
        // And some that it does.
        "deepseek-v3-raw-fp8",
        "gpt-oss-raw",
        "gptj-raw",
        "llama-raw-spare-head",
        "mamba2-raw",
    ] {
        let source = seeded::folder(fixture);
        let target = folder.path().join(fixture);
        run(&source, &target, &ConvertOptions::default()).unwrap();
        let error = relative_error(&logits(&target), &logits(&source));
        assert!(error < 1e-5, "{fixture}: {error}");
    }
}

#[test]
fn codes_and_the_numbers_that_they_stand_for_compute_the_same() {
    let folder = tempfile::tempdir().unwrap();
    for (fixture, way) in [
        ("qwen3-moe-nvfp4", "8bit"),
        ("deepseek-v3-4bit", "8bit"),
        ("llama-raw", "4bit"),
        ("gemma3-raw", "mxfp8"),
    ] {
        let packed = folder.path().join(format!("{fixture}-{way}"));
        let mut convert = options(way);
        convert.dtype = Some(Dtype::Float32);
        run(&seeded::folder(fixture), &packed, &convert).unwrap();
        let numbers = folder.path().join(format!("{fixture}-numbers"));
        let mut convert = options("dequantized");
        convert.dtype = Some(Dtype::Float32);
        run(&packed, &numbers, &convert).unwrap();
        let error = relative_error(&logits(&numbers), &logits(&packed));
        assert!(error < 1e-4, "{fixture}: {error}");
    }
}

fn llama_with(layers: &[(&str, Option<i32>)], folder: &Path) -> Result<Report> {
    let mut convert = options("4bit");
    convert.overwrite = true;
    let pattern = |text: &&str| Pattern::parse(text).unwrap();
    convert.quantize.as_mut().unwrap().layers =
        layers.iter().map(|(text, bits)| (pattern(text), *bits)).collect();
    run(&seeded::folder("llama-raw"), folder, &convert)
}

#[test]
fn patterns_choose_the_bits_of_modules_and_the_last_wins() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("target");
    let layers = [("self_attn", Some(8)), ("layers.1", Some(3)), ("embed_tokens", None)];
    let report = llama_with(&layers, &target).unwrap();
    let bits: BTreeMap<_, _> =
        report.layers.iter().map(|layer| (layer.path.as_str(), layer.params.bits)).collect();
    assert_eq!(bits.get("model.layers.0.self_attn.q_proj"), Some(&8));
    assert_eq!(bits.get("model.layers.1.self_attn.q_proj"), Some(&3));
    assert_eq!(bits.get("model.layers.0.mlp.up_proj"), Some(&4));
    assert_eq!(bits.get("model.embed_tokens"), None);
    for layer in &report.layers {
        let expected = [0.4, 0.2, 0.1, 0.05, 0.03, 0.0, 0.01][layer.params.bits as usize - 2];
        assert!(layer.error > 0.0 && layer.error < expected, "{layer:?}");
    }
    let bytes = std::fs::metadata(target.join("model.safetensors")).unwrap().len();
    assert!(report.bytes < bytes && bytes < report.bytes + 8192);
    // What other layers are quantized with is told from the configuration, and loads.
    assert!(logits(&target).iter().all(|logit| logit.is_finite()));
    let error = llama_with(&[("no_such_module", Some(8))], &target).unwrap_err();
    assert!(error.to_string().contains("no_such_module"), "{error}");
}

#[test]
fn a_conversion_that_is_aborted_or_fails_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let (source, target) = (seeded::folder("llama-raw"), folder.path().join("target"));
    let mut steps = 0;
    let error = convert(&source, &target, &options("4bit"), &mut |_| {
        steps += 1;
        if steps > 5 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!(error.unwrap_err().code(), "ABORTED");
    run(&folder.path().join("nowhere"), &target, &options("4bit")).unwrap_err();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_target_that_is_there_is_kept_unless_it_is_a_model_and_may_be_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let (source, target) = (seeded::folder("llama-raw"), folder.path().join("target"));
    let mut options = options("4bit");
    run(&source, &target, &options).unwrap();
    let error = run(&source, &target, &options).unwrap_err();
    assert_eq!((error.code(), error.option()), ("INVALID_ARGUMENT", Some("target")));
    options.overwrite = true;
    // What the source has, too, and what checkpoints consist of.
    for name in ["golden.json", "vocab.json", "model-00002-of-00002.safetensors"] {
        std::fs::copy(source.join("golden.json"), target.join(name)).unwrap();
    }
    run(&source, &target, &options).unwrap();
    assert!(target.join("golden.json").exists() && !target.join("vocab.json").exists());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    // Neither what is no model, nor the source, nor what it lies in.
    let other = folder.path().join("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("letter.txt"), "").unwrap();
    for place in [&other, &target, folder.path(), &target.join("within"), &other.join("letter.txt")]
    {
        let error = run(&target, place, &options).unwrap_err();
        assert_eq!(error.option(), Some("target"), "{error}");
    }
    assert!(!target.join("within").exists());
    assert!(other.join("letter.txt").exists() && target.join("config.json").exists());
}

/// A folder as tools write them that is no model's, and what it must still hold.
fn application(folder: &Path) -> impl Fn() -> bool + use<> {
    let folder = folder.to_owned();
    std::fs::create_dir_all(folder.join("src")).unwrap();
    std::fs::write(folder.join("config.json"), r#"{"port": 80}"#).unwrap();
    std::fs::write(folder.join("src/app.js"), "").unwrap();
    move || folder.join("config.json").exists() && folder.join("src/app.js").exists()
}

#[test]
fn what_no_conversion_writes_is_never_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let (source, target) = (seeded::folder("llama-raw"), folder.path().join("target"));
    let mut options = options("4bit");
    options.overwrite = true;
    let is_whole = application(&folder.path().join("project"));
    run(&source, &folder.path().join("project"), &options).unwrap_err();
    assert!(is_whole());
    run(&source, &target, &options).unwrap();
    let write = |name: &str| {
        let path = target.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "mine").unwrap();
    };
    let mine = [
        "notes.txt",
        "adapters.safetensors",
        ".git/HEAD",
        "src/app.js",
        "1_Pooling/notes.txt",
        "additional_chat_templates/notes.txt",
        "golden.json",
    ];
    for name in mine {
        write(name);
        let error = run(&source, &target, &options).unwrap_err();
        let first = name.split('/').next().unwrap();
        assert!(error.to_string().contains(first), "{name}: {error}");
        assert_eq!(std::fs::read(target.join(name)).unwrap(), b"mine");
        if first == name {
            std::fs::remove_file(target.join(name)).unwrap();
        } else {
            std::fs::remove_dir_all(target.join(first)).unwrap();
        }
    }
    run(&source, &target, &options).unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn what_comes_to_the_target_meanwhile_stays() {
    let folder = tempfile::tempdir().unwrap();
    let (source, target) = (seeded::folder("llama-raw"), folder.path().join("target"));
    for overwrite in [false, true] {
        let mut options = options("4bit");
        options.overwrite = overwrite;
        let error = convert(&source, &target, &options, &mut |_| {
            assert!(application(&target)());
            ControlFlow::Continue(())
        });
        assert_eq!(error.unwrap_err().option(), Some("target"));
        assert!(application(&target)());
        std::fs::remove_dir_all(&target).unwrap();
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    // An empty folder is none that anybody misses.
    std::fs::create_dir(&target).unwrap();
    run(&source, &target, &options("4bit")).unwrap();
}

#[test]
fn of_two_conversions_to_one_target_the_second_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (source, target) = (seeded::folder("llama-raw"), folder.path().join("target"));
    let mut options = options("4bit");
    options.overwrite = true;
    let mut second = None;
    convert(&source, &target, &options, &mut |_| {
        second.get_or_insert_with(|| run(&source, &target, &options).unwrap_err());
        ControlFlow::Continue(())
    })
    .unwrap();
    let second = second.unwrap();
    assert_eq!((second.code(), second.option()), ("INVALID_ARGUMENT", Some("target")));
    assert!(logits(&target).iter().all(|logit| logit.is_finite()));
}

#[test]
fn what_a_killed_conversion_left_is_cleared_by_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let (source, target) = (seeded::folder("llama-raw"), folder.path().join("target"));
    let left = folder.path().join(".target.incomplete");
    std::fs::create_dir(&left).unwrap();
    std::fs::write(left.join("model-00001-of-00009.safetensors"), "").unwrap();
    run(&source, &target, &options("4bit")).unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    assert!(!target.join("model-00001-of-00009.safetensors").exists());
    // Somebody's own folder of that name is none.
    let is_whole = application(&left);
    let other = folder.path().join("target/../target");
    std::fs::remove_dir_all(&target).unwrap();
    run(&source, &other, &options("4bit")).unwrap_err();
    assert!(is_whole());
}

/// Copies a fixture with another header of its weights.
fn with_header(fixture: &str, folder: &Path, edit: impl Fn(&mut serde_json::Map<String, Value>)) {
    for entry in std::fs::read_dir(seeded::folder(fixture)).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
        }
    }
    let path = folder.join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    edit(&mut header);
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    let length = (header.len() as u64).to_le_bytes();
    let all = [
        &length[..],
        &header,
        &bytes[8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize..],
    ];
    std::fs::write(&path, all.concat()).unwrap();
}

#[test]
fn nothing_is_written_that_would_not_load() {
    type Edit = fn(&mut serde_json::Map<String, Value>, &str);
    let folder = tempfile::tempdir().unwrap();
    let embedding = "model.embed_tokens.weight";
    let cases: [(&str, &str, Edit); 2] = [
        ("missing", embedding, |header, name| {
            let tensor = header.remove(name).unwrap();
            header.insert("elsewhere.weight".to_owned(), tensor);
        }),
        ("foreign", "model.somewhere.weight", |header, name| {
            let end = header.values().filter_map(|it| it["data_offsets"][1].as_u64()).max();
            let tensor = json!({ "dtype": "F32", "shape": [0], "data_offsets": [end, end] });
            header.insert(name.to_owned(), tensor);
        }),
    ];
    for (case, name, edit) in cases {
        let source = folder.path().join(case);
        std::fs::create_dir(&source).unwrap();
        with_header("llama-raw", &source, |header| edit(header, name));
        let target = folder.path().join("target");
        let mut steps = 0;
        let error = convert(&source, &target, &options("4bit"), &mut |_| {
            steps += 1;
            ControlFlow::Continue(())
        });
        let error = error.unwrap_err();
        assert_eq!((error.code(), steps), ("INVALID_WEIGHTS", 0), "{error}");
        assert!(error.to_string().contains(name), "{error}");
        assert!(!target.exists());
    }
}

#[test]
fn numbers_that_have_no_codes_are_named() {
    let folder = tempfile::tempdir().unwrap();
    with_header("llama-raw", folder.path(), |_| {});
    let path = folder.path().join("model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let name = "model.layers.0.mlp.up_proj.weight";
    let at = {
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        tensors.tensor(name).unwrap().data().as_ptr() as usize - bytes.as_ptr() as usize
    };
    bytes[at..at + 4].fill(0xff);
    std::fs::write(&path, bytes).unwrap();
    let target = folder.path().with_extension("4bit");
    let error = run(folder.path(), &target, &options("4bit")).unwrap_err();
    assert!(error.code() == "INVALID_WEIGHTS" && error.to_string().contains(name), "{error}");
    assert!(!target.exists());
}

#[test]
fn an_adapter_in_the_weights_computes_what_it_does_beside_them() {
    let adapters = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/adapters");
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(adapters).unwrap() {
        let adapter = entry.unwrap().path();
        let name = adapter.file_name().unwrap().to_string_lossy().into_owned();
        let facts = std::fs::read(adapter.join("golden.json")).unwrap();
        let facts: Value = serde_json::from_slice(&facts).unwrap();
        let source = seeded::folder(facts["model"].as_str().unwrap());
        let target = folder.path().join(&name);
        let options = ConvertOptions {
            adapter: Some(adapter.clone()),
            dequantize: true,
            dtype: Some(Dtype::Float32),
            ..ConvertOptions::default()
        };
        run(&source, &target, &options).unwrap();
        let bytes = std::fs::read(adapter.join("golden.safetensors")).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let words = |name: &str| -> Vec<[u8; 4]> {
            let data = tensors.tensor(name).unwrap().data();
            data.chunks_exact(4).map(|word| word.try_into().unwrap()).collect()
        };
        let expected: Vec<f32> = words("logits").into_iter().map(f32::from_le_bytes).collect();
        let tokens: Vec<u32> = words("tokens").into_iter().map(u32::from_le_bytes).collect();
        let logits = logits_of(&target, &tokens);
        let error = relative_error(&logits[logits.len() - expected.len()..], &expected);
        assert!(error < 1e-4, "{name}: {error}");
    }
}

#[test]
fn a_packed_model_with_an_adapter_in_it_is_packed_again() {
    let adapters = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/adapters");
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("target");
    let adapter = Some(adapters.join("lora-packed"));
    let options = ConvertOptions { adapter, ..ConvertOptions::default() };
    let report = run(&seeded::folder("llama-4bit-tied"), &target, &options).unwrap();
    assert!(report.layers.iter().any(|layer| layer.path == "model.layers.0.self_attn.q_proj"));
    assert!(report.layers.iter().all(|layer| layer.params.bits == 4 && layer.error < 0.2));
    // With the same shapes, in the same format.
    let shapes = |folder: &Path| {
        // All but the digests; the formats are a line of their own.
        let kept = |line: String| match line.rsplit_once(' ') {
            Some((kept, _)) => kept.to_owned(),
            None => line,
        };
        lines(folder).into_iter().map(kept).collect::<Vec<_>>()
    };
    assert_eq!(shapes(&target), shapes(&seeded::folder("llama-4bit-tied")));
}

/// A checkpoint of zeros, whose largest matrix, its embedding, has so many bytes.
fn zeros(folder: &Path, largest: usize) {
    let (dims, hidden, layers) = (256, 512, 4);
    let rows = largest / (2 * dims);
    let config = serde_json::json!({
        "model_type": "llama", "hidden_size": dims, "intermediate_size": hidden,
        "num_attention_heads": 4, "num_key_value_heads": 4, "num_hidden_layers": layers,
        "rms_norm_eps": 1e-5, "vocab_size": rows, "tie_word_embeddings": false,
        "torch_dtype": "bfloat16",
    });
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let mut shapes = vec![
        ("model.embed_tokens".to_owned(), vec![rows, dims]),
        ("lm_head".to_owned(), vec![rows, dims]),
        ("model.norm".to_owned(), vec![dims]),
    ];
    for layer in 0..layers {
        let mut add = |name: &str, shape: &[usize]| {
            shapes.push((format!("model.layers.{layer}.{name}"), shape.to_vec()));
        };
        add("input_layernorm", &[dims]);
        add("post_attention_layernorm", &[dims]);
        for name in ["q", "k", "v", "o"] {
            add(&format!("self_attn.{name}_proj"), &[dims, dims]);
        }
        add("mlp.gate_proj", &[hidden, dims]);
        add("mlp.up_proj", &[hidden, dims]);
        add("mlp.down_proj", &[dims, hidden]);
    }
    let bytes = vec![0; largest];
    let views = shapes.iter().map(|(name, shape)| {
        let length = shape.iter().product::<usize>() * 2;
        let dtype = safetensors::Dtype::BF16;
        let view = safetensors::tensor::TensorView::new(dtype, shape.clone(), &bytes[..length]);
        (format!("{name}.weight"), view.unwrap())
    });
    safetensors::serialize_to_file(views, None, &folder.join("model.safetensors")).unwrap();
}

#[test]
fn memory_holds_little_more_than_one_matrix() {
    const LARGEST: usize = 64 << 20;
    let folder = tempfile::tempdir().unwrap();
    let (source, target) = (folder.path().join("source"), folder.path().join("target"));
    std::fs::create_dir(&source).unwrap();
    zeros(&source, LARGEST);
    let mut most = 0;
    let mut convert_in = |options: &ConvertOptions| {
        convert(&source, &target, options, &mut |_| {
            most = most.max(mlx::memory::active().unwrap() + mlx::memory::cache().unwrap());
            ControlFlow::Continue(())
        })
        .unwrap();
    };
    let options = ConvertOptions { overwrite: true, ..options("4bit") };
    convert_in(&options);
    convert_in(&ConvertOptions { dtype: Some(Dtype::Float32), ..options });
    // What is mapped counts as well, here.
    let mapped = std::fs::metadata(source.join("model.safetensors")).unwrap().len() as usize;
    assert!(most < mapped + 4 * LARGEST, "{most}");
}
