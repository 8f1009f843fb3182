//! Checkpoints in the formats of other programs: every folder of `tests/fixtures/formats` was
//! packed by the program's own code, and its logits are those of transformers with the weights that
//! it stands for, in float32. `FORMATS=gptq cargo test --test formats` checks those whose names
//! begin so.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use nodemlx::convert::{ConvertOptions, convert};
use nodemlx::error::{Error, Result};
use nodemlx::fused::{Device, Precision};
use nodemlx::mlx::quantized::Mode;
use nodemlx::mlx::{self, Dtype};
use nodemlx::models::{self, LoadOptions, Loaded};
use nodemlx::nn::Step;
use nodemlx::warning::WarningCode;
use safetensors::SafeTensors;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

fn fixtures() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/formats");
    let folders = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let prefix = std::env::var("FORMATS").unwrap_or_default();
    let mut folders: Vec<_> = folders.filter(|path| name(path).starts_with(&prefix)).collect();
    folders.sort();
    assert!(!folders.is_empty());
    folders
}

fn name(folder: &Path) -> String {
    folder.file_name().unwrap().to_str().unwrap().to_owned()
}

fn load(folder: &Path, device: Device, dtype: Option<Dtype>) -> Result<Loaded> {
    mlx::enter(device.kind)?;
    models::load(folder, &LoadOptions { device, dtype, ..LoadOptions::default() }, &mut |_| {
        ControlFlow::Continue(())
    })
}

fn exact() -> Device {
    Device::cpu(None, Precision::Exact)
}

/// How far the logits are from those that the fixture has, as ‖a − b‖ / ‖b‖.
fn error_of(folder: &Path, loaded: &Loaded) -> Result<f64> {
    let bytes = std::fs::read(folder.join("golden.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let words = |name: &str| tensors.tensor(name).unwrap().data().as_chunks::<4>().0.to_vec();
    let tokens: Vec<_> = words("tokens").into_iter().map(u32::from_le_bytes).collect();
    let expected: Vec<_> = words("logits").into_iter().map(f32::from_le_bytes).collect();
    let tokens = mlx::from_u32(&tokens, &[1, tokens.len() as i32]);
    let mut caches = loaded.model.make_caches();
    let logits = loaded.model.forward(&Step::of_one(&tokens), &mut [&mut caches])?;
    let logits = mlx::to_f32_vec(&logits)?;
    let logits = &logits[logits.len() - expected.len()..];
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|it| it * it).sum::<f64>().sqrt();
    let pairs = logits.iter().zip(&expected);
    let difference = norm(&mut pairs.map(|(&a, &b)| f64::from(a) - f64::from(b)));
    Ok(difference / norm(&mut expected.iter().map(|&b| f64::from(b))))
}

fn failures(device: Device, dtype: Option<Dtype>, tolerance: f64) -> Vec<String> {
    let check = |folder: &PathBuf| {
        let error = load(folder, device, dtype).and_then(|loaded| error_of(folder, &loaded));
        match error {
            Err(error) => Some(format!("{}: {error}", name(folder))),
            Ok(error) if error < tolerance => None,
            Ok(error) => Some(format!("{}: {error:.1e}", name(folder))),
        }
    };
    fixtures().iter().filter_map(check).collect()
}

#[test]
fn logits_are_those_of_the_weights_that_the_tensors_stand_for() {
    let failures = failures(exact(), Some(Dtype::Float32), 1e-4);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn logits_are_near_with_16_bits_and_composed() {
    // Numbers of 8 bits behind the point, in which weights that are no MLX format are loaded.
    let failures_by_default = failures(Device::cpu(None, Precision::Fast), None, 2e-2);
    assert!(failures_by_default.is_empty(), "{}", failures_by_default.join("\n"));
    let composed = failures(exact().plain(), Some(Dtype::Float32), 1e-4);
    assert!(composed.is_empty(), "{}", composed.join("\n"));
    for dtype in [Dtype::Bfloat16, Dtype::Float16] {
        let mut failures = failures(exact(), Some(dtype), 6e-2);
        // Its experts are numbers, and MLX multiplies such ones on a CPU in 32 bits alone.
        failures.retain(|failure| !failure.starts_with("gptq-experts-act-order"));
        assert!(failures.is_empty(), "{dtype:?}:\n{}", failures.join("\n"));
    }
}

/// What is packed stays so, and what cannot be is told.
#[test]
fn matrices_stay_packed_where_mlx_has_a_format_for_them() {
    for folder in fixtures() {
        let info = load(&folder, exact(), None).unwrap().info;
        let found = info.quantization.map(|params| (params.mode, params.bits));
        let name = name(&folder);
        let expected = match name.as_str() {
            "gptq-experts-act-order" => Some((Mode::Affine, 4)),
            "bitsandbytes-nf4" | "bitsandbytes-fp4" | "fp8-uneven-blocks" => None,
            name if name.contains("nvfp4") => Some((Mode::Nvfp4, 4)),
            name if name.contains("mxfp4") => Some((Mode::Mxfp4, 4)),
            name if name.contains("fp8") || name.contains("e8m0") => Some((Mode::Mxfp8, 8)),
            name if name.starts_with("bitnet") || name.contains("2bit") => Some((Mode::Affine, 2)),
            name if name.contains("3bit") || name.contains("int3") => Some((Mode::Affine, 3)),
            name if name.contains("8") || name.contains("bytes") => Some((Mode::Affine, 8)),
            _ => Some((Mode::Affine, 4)),
        };
        assert_eq!(found, expected, "{name}");
        let told = info.warnings.iter().any(|it| it.code == WarningCode::Dequantized);
        // Matrices of one block in a row are packed beside those that are not.
        let partly = ["gptq-experts-act-order", "compressed-fp8-block", "fp8-block"];
        assert_eq!(told, found.is_none() || partly.contains(&name.as_str()), "{name}");
    }
}

/// Converted, they compute the same: packed where mlx-lm has the format, else as numbers. With
/// `CONVERTED=folder` what is written stays there, for `tools/oracle/check.py --converted folder`.
#[test]
fn converted_checkpoints_compute_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let kept = std::env::var_os("CONVERTED").map(PathBuf::from);
    let mut failures = Vec::new();
    for fixture in fixtures() {
        let name = name(&fixture);
        let target = kept.as_deref().unwrap_or(folder.path()).join(&name);
        let options = ConvertOptions { dtype: Some(Dtype::Float32), ..ConvertOptions::default() };
        let error = convert(&fixture, &target, &options, &mut |_| ControlFlow::Continue(()))
            .and_then(|_| load(&target, exact(), Some(Dtype::Float32)))
            .and_then(|loaded| error_of(&fixture, &loaded));
        match error {
            // Numbers that were codes are rounded to the 16 bits that their scales have.
            Ok(error) if error < 1e-2 => {}
            other => failures.push(format!("{name}: {other:?}")),
        }
        if kept.is_some() && target.is_dir() {
            let golden = "golden.safetensors";
            std::fs::copy(fixture.join(golden), target.join(golden)).unwrap();
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn header_of(fixture: &Path) -> Map<String, Value> {
    let bytes = std::fs::read(fixture.join("model.safetensors")).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    serde_json::from_slice(&bytes[8..8 + length]).unwrap()
}

/// A copy of a fixture whose tensors and their header are changed.
fn changed(fixture: &Path, change: impl Fn(&mut Map<String, Value>)) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(fixture).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    let path = copy.path().join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header = header_of(fixture);
    change(&mut header);
    let header = serde_json::to_vec(&header).unwrap();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header);
    file.extend(&bytes[8 + length..]);
    std::fs::write(path, file).unwrap();
    copy
}

/// The tensors of one layer of a fixture without those that may be absent.
fn needed(fixture: &Path) -> Vec<String> {
    let header = header_of(fixture);
    let optional = ["g_idx", "input_scale", "weight_format", "weight_zero_point"];
    let names = header.keys().filter(|name| {
        let layer = ["k_proj", "experts.1.up_proj"].iter().any(|layer| name.contains(layer));
        layer && !optional.iter().any(|end| name.ends_with(end))
    });
    names.cloned().collect()
}

/// Whichever tensor of a layer is missing, of another type or of another shape: it or the one that
/// needs it is named, with the file.
#[test]
fn broken_layers_are_named() {
    for folder in fixtures() {
        for tensor in needed(&folder) {
            let refused = |dir: &TempDir, what: &str| {
                let name = name(&folder);
                match load(dir.path(), exact(), None) {
                    Err(error @ Error::Weights { .. }) => {
                        let text = error.to_string();
                        let layer = &tensor[..tensor.find("_proj").unwrap()];
                        let is_named = text.contains(layer) && text.contains("model.safetensors");
                        assert!(is_named, "{name}, {tensor} {what}: {text}");
                    }
                    Err(error) => panic!("{name}, {tensor} {what}: {error}"),
                    Ok(_) => panic!("{name}: {tensor} {what} is not noticed"),
                }
            };
            // The bytes still belong to something.
            let rename = |header: &mut Map<String, Value>| {
                let entry = header.remove(&tensor).unwrap();
                header.insert("model.layers.0.k_scale".to_owned(), entry);
            };
            // Without this factor, or this scale of scales, it is a valid layer of another kind.
            if !tensor.ends_with("weight_global_scale") && !tensor.contains("nested_absmax") {
                refused(&changed(&folder, rename), "left out");
            }
            let is_number = |header: &Map<String, Value>| {
                let shape = header[&tensor]["shape"].as_array().unwrap();
                shape.iter().all(|dim| dim == 1)
            };
            // Lists, of which the number of elements counts.
            let is_list = tensor.ends_with("weight_shape")
                || ["bitsandbytes-nf4", "bitsandbytes-fp4"].contains(&name(&folder).as_str());
            if is_list || is_number(&header_of(&folder)) {
                continue;
            }
            refused(
                &changed(&folder, |header| {
                    let shape = header[&tensor]["shape"].as_array_mut().unwrap();
                    shape.insert(0, json!(1));
                    shape.push(json!(1));
                }),
                "of another shape",
            );
        }
    }
}

/// Whatever a header says of the tensors' shapes and types: an error, or a model.
#[test]
fn headers_that_say_anything_never_end_the_process() {
    const TYPES: [&str; 8] = ["F16", "BF16", "F32", "I8", "U8", "I32", "F8_E4M3", "F8_E8M0"];
    let mut random = 1_u64;
    let mut next = move |count: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 33) as usize % count
    };
    for folder in fixtures() {
        let tensors = needed(&folder);
        for _ in 0..12 {
            let (tensor, new_type, split) = (next(tensors.len()), next(TYPES.len()), next(7) + 1);
            let copy = changed(&folder, |header| {
                let entry = &mut header[&tensors[tensor]];
                let ends = entry["data_offsets"].as_array().unwrap();
                let bytes = ends[1].as_u64().unwrap() - ends[0].as_u64().unwrap();
                let size = [2, 2, 4, 1, 1, 4, 1, 1][new_type];
                entry["dtype"] = json!(TYPES[new_type]);
                entry["shape"] = json!([split, bytes / size / split as u64]);
            });
            let _ = load(copy.path(), exact(), None).and_then(|it| error_of(&folder, &it));
        }
    }
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    let cases = [
        (json!({ "quant_method": "hqq" }), "\"hqq\""),
        (json!({ "quant_method": "aqlm" }), "\"aqlm\""),
        (json!({ "quant_method": "gptq", "checkpoint_format": "marlin" }), "marlin"),
        (json!({ "quant_method": "awq", "version": "gemv_fast" }), "gemv_fast"),
        (json!({ "quant_method": "awq", "bits": 3 }), "3 bits"),
        (json!({ "quant_method": "fp8", "fmt": "e5m2" }), "e5m2"),
        (json!({ "quant_method": "compressed-tensors", "format": "marlin-24" }), "marlin-24"),
        (
            json!({
                "quant_method": "compressed-tensors", "format": "dense",
                "sparsity_config": { "format": "sparse-24-bitmask" }
            }),
            "sparse-24-bitmask",
        ),
        (json!({ "quant_method": "modelopt", "quant_algo": "NVFP4_AWQ" }), "NVFP4_AWQ"),
        (json!({ "quant_method": "bitnet", "quantization_mode": "online" }), "online"),
        (json!({ "bits": 4 }), "quant_method"),
    ];
    for (config, word) in cases {
        let copy = changed(&fixtures()[0], |_| ());
        let path = copy.path().join("config.json");
        let mut values: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        values["quantization_config"] = config;
        std::fs::write(&path, values.to_string()).unwrap();
        let error = models::architecture_of(copy.path()).unwrap_err();
        assert_eq!(error.code(), "UNSUPPORTED", "{error}");
        assert!(error.to_string().contains(word), "{error}");
    }
}
