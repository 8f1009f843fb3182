//! Parity of adapters: every folder of `tests/fixtures/adapters` is an adapter of mlx-lm or PEFT for
//! one of the model fixtures, with the logits that its own library computes without and with it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use nodemlx::adapters::{AdapterId, AdapterInfo, Adapters};
use nodemlx::convert::{ConvertOptions, convert};
use nodemlx::error::Result;
use nodemlx::fused::{Device, Precision};
use nodemlx::mlx::{self, Dtype};
use nodemlx::models::{self, LanguageModel, LoadOptions};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

fn fixtures() -> Vec<PathBuf> {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/adapters");
    let mut folders: Vec<_> =
        std::fs::read_dir(all).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    let only = std::env::var("FIXTURES").unwrap_or_default();
    folders.retain(|folder| folder.file_name().unwrap().to_string_lossy().starts_with(&only));
    folders
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/adapters").join(name)
}

/// A model and its adapters.
struct Model {
    model: Box<dyn LanguageModel>,
    adapters: Adapters,
}

impl Model {
    fn load(name: &str, device: Device) -> Self {
        let options = LoadOptions { device, dtype: Some(Dtype::Float32), ..LoadOptions::default() };
        let folder = seeded::folder(name);
        let loaded = models::load(&folder, &options, &mut |_| ControlFlow::Continue(())).unwrap();
        let adapters = Adapters::new(loaded.sites, loaded.activations);
        Self { model: loaded.model, adapters }
    }

    fn adapter(&self, folder: &Path) -> Result<(AdapterId, AdapterInfo)> {
        let id = AdapterId::next();
        Ok((id, self.adapters.load(id, folder)?))
    }

    fn logits(&self, tokens: &[u32], adapter: Option<AdapterId>, kept: usize) -> Vec<f32> {
        let held = adapter.map(|adapter| self.adapters.hold(adapter).unwrap());
        self.adapters.scope(held.as_ref(), || last_logits(&*self.model, tokens, kept))
    }
}

fn last_logits(model: &dyn LanguageModel, tokens: &[u32], kept: usize) -> Vec<f32> {
    let tokens = mlx::from_u32(tokens, &[1, tokens.len() as i32]);
    let logits = model.logits(&tokens, &mut model.make_caches()).unwrap();
    let all = mlx::to_f32_vec(&logits).unwrap();
    all[all.len() - kept..].to_vec()
}

struct Golden {
    model: String,
    tokens: Vec<u32>,
    base: Vec<f32>,
    logits: Vec<f32>,
}

impl Golden {
    fn read(folder: &Path) -> Self {
        let facts = std::fs::read(folder.join("golden.json")).unwrap();
        let facts: Value = serde_json::from_slice(&facts).unwrap();
        let bytes = std::fs::read(folder.join("golden.safetensors")).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let words = |name: &str| -> Vec<[u8; 4]> {
            let data = tensors.tensor(name).unwrap().data();
            data.chunks_exact(4).map(|word| word.try_into().unwrap()).collect()
        };
        let floats = |name| words(name).into_iter().map(f32::from_le_bytes).collect();
        Self {
            model: facts["model"].as_str().unwrap().to_owned(),
            tokens: words("tokens").into_iter().map(u32::from_le_bytes).collect(),
            base: floats("base"),
            logits: floats("logits"),
        }
    }
}

fn relative_error(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let difference = norm(&mut a.iter().zip(b).map(|(&a, &b)| f64::from(a) - f64::from(b)));
    difference / norm(&mut b.iter().map(|&b| f64::from(b)))
}

const TOLERANCE: f64 = 1e-4;

/// An adapter of rank 1 for one matrix, as mlx-lm or PEFT writes it.
fn small_adapter(folder: &Path, is_peft: bool, module: &str, outputs: usize, inputs: usize) {
    let (config, file, names, shapes) = if is_peft {
        let config = json!({
            "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 1, "lora_alpha": 1,
            "target_modules": [module.rsplit('.').next()],
        });
        let names = ["lora_A.weight", "lora_B.weight"]
            .map(|leaf| format!("base_model.model.{module}.{leaf}"));
        (config, "adapter_model.safetensors", names, [[1, inputs], [outputs, 1]])
    } else {
        let config = json!({
            "fine_tune_type": "lora", "num_layers": 2,
            "lora_parameters": { "rank": 1, "dropout": 0.0, "scale": 1.0 },
        });
        let names = ["lora_a", "lora_b"].map(|leaf| format!("{module}.{leaf}"));
        (config, "adapters.safetensors", names, [[inputs, 1], [1, outputs]])
    };
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("adapter_config.json"), config.to_string()).unwrap();
    let data = 0.125_f32.to_le_bytes().repeat(inputs.max(outputs));
    let tensors = names.iter().zip(&shapes).map(|(name, shape)| {
        let bytes = &data[..4 * shape[0] * shape[1]];
        (name, TensorView::new(safetensors::Dtype::F32, shape.to_vec(), bytes).unwrap())
    });
    safetensors::serialize_to_file(tensors, None, &folder.join(file)).unwrap();
}

/// mlx-lm multiplies Falcon H1's factors into its matrices: what was trained beside the one form
/// would change the other by other amounts.
#[test]
fn adapters_of_the_other_form_of_falcon_h1_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let module = "model.layers.0.feed_forward.gate_proj";
    for (fixture, taken) in [("falcon-h1-raw", "peft"), ("falcon-h1-converted", "mlx-lm")] {
        let model = Model::load(fixture, Device::cpu(None, Precision::Exact));
        let config = std::fs::read(seeded::folder(fixture).join("config.json")).unwrap();
        let config: Value = serde_json::from_slice(&config).unwrap();
        let size = |field: &str| config[field].as_u64().unwrap() as usize;
        for kind in ["peft", "mlx-lm"] {
            let adapter = folder.path().join(format!("{fixture}-{kind}"));
            let (outputs, inputs) = (size("intermediate_size"), size("hidden_size"));
            small_adapter(&adapter, kind == "peft", module, outputs, inputs);
            let target = folder.path().join(format!("{fixture}-{kind}-fused"));
            let options =
                ConvertOptions { adapter: Some(adapter.clone()), ..ConvertOptions::default() };
            let fused = convert(&seeded::folder(fixture), &target, &options, &mut |_| {
                ControlFlow::Continue(())
            });
            // A fused checkpoint is always in mlx-lm's form.
            let fused = fused.map(|_| ()).map_err(|error| error.code());
            let fuses = if kind == "mlx-lm" { Ok(()) } else { Err("UNSUPPORTED") };
            assert_eq!(fused, fuses, "{fixture} with {kind}, fused");
            let loaded = model.adapter(&adapter).map(|_| ()).map_err(|error| error.code());
            let loads = if kind == taken { Ok(()) } else { Err("UNSUPPORTED") };
            assert_eq!(loaded, loads, "{fixture} with {kind}");
        }
    }
}

#[test]
fn every_adapter_computes_what_its_own_library_does() {
    let exact = Device::cpu(None, Precision::Exact);
    for folder in fixtures() {
        let golden = Golden::read(&folder);
        for device in [exact, exact.plain()] {
            let model = Model::load(&golden.model, device);
            let kept = golden.logits.len();
            let (id, info) = model.adapter(&folder).unwrap();
            let agrees = |adapter, expected: &[f32]| {
                let error = relative_error(&model.logits(&golden.tokens, adapter, kept), expected);
                assert!(error < TOLERANCE, "{}: {error} ({adapter:?})", folder.display());
            };
            agrees(Some(id), &golden.logits);
            // The model itself is what it was.
            agrees(None, &golden.base);
            assert!(relative_error(&golden.logits, &golden.base) > 0.01);
            assert!(info.modules > 0 && info.rank >= 4 && info.parameters > 0);
            // Who holds it goes on with it.
            let held = model.adapters.hold(id).unwrap();
            model.adapters.remove(id);
            let logits = model
                .adapters
                .scope(Some(&held), || last_logits(&*model.model, &golden.tokens, kept));
            assert!(relative_error(&logits, &golden.logits) < TOLERANCE);
            drop(held);
            assert!(model.adapters.hold(id).is_none());
            agrees(None, &golden.base);
        }
    }
}

#[test]
fn several_adapters_of_a_model_do_not_mix() {
    let model = Model::load("llama-4bit-tied", Device::cpu(None, Precision::Exact));
    let names = ["lora-packed", "lora-tied-table", "dora-packed"];
    let loaded = names.map(|name| {
        let (id, _) = model.adapter(&fixture(name)).unwrap();
        (id, Golden::read(&fixture(name)))
    });
    for _ in 0..2 {
        for (id, golden) in &loaded {
            let logits = model.logits(&golden.tokens, Some(*id), golden.logits.len());
            assert!(relative_error(&logits, &golden.logits) < TOLERANCE);
        }
    }
}

#[test]
fn the_experts_of_peft_are_those_of_mlx_lm() {
    let source = fixture("lora-experts");
    let golden = Golden::read(&source);
    let bytes = std::fs::read(source.join("adapters.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut made: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
    for (name, view) in tensors.tensors() {
        let (path, leaf) = name.rsplit_once('.').unwrap();
        let part = if leaf == "lora_a" { "lora_A" } else { "lora_B" };
        let shape = view.shape();
        if let &[experts, rows, columns] = shape {
            let each = view.data().len() / experts;
            for expert in 0..experts {
                let path = path.replace("switch_mlp.", &format!("experts.{expert}."));
                let data = view.data()[expert * each..(expert + 1) * each].to_vec();
                let name = format!("base_model.model.{path}.{part}.default.weight");
                made.push((name, vec![rows, columns], data));
            }
        } else {
            // mlx-lm has the matrices of linear layers transposed.
            let (rows, columns) = (shape[0], shape[1]);
            let words: Vec<_> = view.data().chunks_exact(4).collect();
            let turned = (0..columns).flat_map(|column| {
                let words = &words;
                (0..rows).flat_map(move |row| words[row * columns + column].to_vec())
            });
            let name = format!("base_model.model.{path}.{part}.weight");
            made.push((name, vec![columns, rows], turned.collect()));
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let views: Vec<_> = made
        .iter()
        .map(|(name, shape, data)| {
            let dtype = safetensors::Dtype::F32;
            let view = safetensors::tensor::TensorView::new(dtype, shape.clone(), data).unwrap();
            (name.clone(), view)
        })
        .collect();
    let bytes = safetensors::serialize(views, None).unwrap();
    std::fs::write(folder.path().join("adapter_model.safetensors"), bytes).unwrap();
    // The scale is 2.
    let config = json!({ "peft_type": "LORA", "r": 4, "lora_alpha": 8 });
    std::fs::write(folder.path().join("adapter_config.json"), config.to_string()).unwrap();
    let model = Model::load(&golden.model, Device::cpu(None, Precision::Exact));
    let (id, _) = model.adapter(folder.path()).unwrap();
    let logits = model.logits(&golden.tokens, Some(id), golden.logits.len());
    assert!(relative_error(&logits, &golden.logits) < TOLERANCE);
}

/// A copy of a fixture, with another configuration.
fn with_config(name: &str, change: impl FnOnce(&mut Value)) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(fixture(name)).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    let path = folder.path().join("adapter_config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut config);
    std::fs::write(path, config.to_string()).unwrap();
    folder
}

#[test]
fn what_cannot_be_added_is_refused_by_name() {
    let model = Model::load("llama-raw", Device::cpu(None, Precision::Exact));
    let refused = |folder: &Path, code: &str, words: &str| {
        let error = model.adapter(folder).unwrap_err();
        assert!(error.code() == code && error.to_string().contains(words), "{error}");
    };
    let set =
        |name: &str, field: &str, value: Value| with_config(name, |config| config[field] = value);
    // Of another model, in its sizes and in its layers.
    refused(&fixture("lora-packed"), "INVALID_ADAPTER", "[4, 48]");
    refused(&fixture("lora-latent"), "INVALID_ADAPTER", "kv_a_proj_with_mqa");
    for (field, value) in [
        ("peft_type", json!("IA3")),
        ("fan_in_fan_out", json!(true)),
        ("target_parameters", json!(["mlp.experts.gate_up_proj"])),
        ("trainable_token_indices", json!([1, 2])),
        ("layer_replication", json!([[0, 1]])),
        ("init_lora_weights", json!("pissa_niter_4")),
        ("alpha_pattern", json!({ "(q|v)_proj": 3 })),
        ("lora_bias", json!(true)),
    ] {
        let name = if field == "peft_type" { "IA3" } else { field };
        refused(set("peft-lora", field, value).path(), "UNSUPPORTED", name);
    }
    for (field, value) in [
        ("lora_alpha", json!("much")),
        ("lora_alpha", json!(1e300)),
        ("use_dora", json!(true)),
        ("alpha_pattern", json!({ "q_proj": [] })),
        ("r", json!(8)),
    ] {
        refused(set("peft-lora", field, value).path(), "INVALID_ADAPTER", "");
    }
    for (field, value) in [
        ("fine_tune_type", json!("sparse")),
        ("lora_parameters", json!({ "rank": 4, "alpha": 3 })),
        ("lora_parameters", json!(4)),
        ("lora_parameters", json!({ "rank": 0, "scale": 1.0 })),
        ("fine_tune_type", json!("dora")),
    ] {
        refused(set("lora", field, value).path(), "INVALID_ADAPTER", "");
    }
    let folder = tempfile::tempdir().unwrap();
    refused(folder.path(), "INVALID_ADAPTER", "adapter_config.json");
    std::fs::write(folder.path().join("adapter_config.json"), r#"{"peft_type":"LORA"}"#).unwrap();
    refused(folder.path(), "INVALID_ADAPTER", "adapter_model.safetensors");
    std::fs::write(folder.path().join("adapter_model.bin"), "").unwrap();
    refused(folder.path(), "INVALID_ADAPTER", "pickle");
    let golden = Golden::read(&fixture("peft-lora"));
    let logits = model.logits(&golden.tokens, None, golden.base.len());
    assert!(relative_error(&logits, &golden.base) < TOLERANCE);
}

#[test]
fn a_broken_file_is_an_error_and_nothing_worse() {
    let model = Model::load("llama-raw", Device::cpu(None, Precision::Exact));
    let whole = std::fs::read(fixture("peft-lora").join("adapter_model.safetensors")).unwrap();
    let folder = with_config("peft-lora", |_| {});
    let path = folder.path().join("adapter_model.safetensors");
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let cuts = [0, 7, 8, 9, header - 1, header, header + 1, whole.len() - 1];
    for cut in cuts {
        std::fs::write(&path, &whole[..cut]).unwrap();
        model.adapter(folder.path()).unwrap_err();
    }
    let mut state = 1_u32;
    for _ in 0..300 {
        let mut bytes = whole.clone();
        for _ in 0..3 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let place = state as usize % header;
            bytes[place] = (state >> 16) as u8;
        }
        std::fs::write(&path, &bytes).unwrap();
        if let Ok((id, _)) = model.adapter(folder.path()) {
            model.adapters.remove(id);
        }
    }
}
