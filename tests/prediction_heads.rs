//! Heads of models that predict more tokens than the next: every folder of
//! `tests/fixtures/prediction-heads` describes a checkpoint with one, and what transformers computes
//! with it; and drafts of such heads change no text.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::ops::ControlFlow;
use std::path::Path;

use nodemlx::cache::Cache;
use nodemlx::convert::{ConvertOptions, convert};
use nodemlx::fused::{Device, Precision};
use nodemlx::generate::{
    GenerationOptions, Sequence, SequenceOptions, Speculated, SpeculationOptions, Speculator,
    decode, prefill,
};
use nodemlx::mlx::{self, DeviceKind, Dtype};
use nodemlx::models::{self, LanguageModel, LoadOptions, Loaded};
use nodemlx::nn::{Step, StepRow};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;

const KIND: &str = "prediction-heads";

/// ‖a − b‖ / ‖b‖ that float32 arithmetic in another order stays below.
const TOLERANCE: f64 = 1e-4;

/// The configuration of float8 blocks.
const FP8: &str = r#"{
    "quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128],
    "activation_scheme": "dynamic"
}"#;

/// The tokens of an answer.
const COUNT: usize = 24;

fn load(folder: &Path, device: Device) -> Loaded {
    mlx::enter(DeviceKind::Cpu).unwrap();
    let options = LoadOptions {
        device,
        dtype: Some(Dtype::Float32),
        prediction_heads: true,
        ..LoadOptions::default()
    };
    models::load(folder, &options, &mut |_| ControlFlow::Continue(())).unwrap()
}

fn exact() -> Device {
    Device::cpu(Some(1), Precision::Exact)
}

struct Golden {
    tokens: Vec<u32>,
    /// Behind the last tokens but the last.
    logits: Vec<f32>,
    /// What is drafted behind the tokens, and by which logits.
    drafted: Vec<u32>,
    drafted_logits: Vec<f32>,
}

impl Golden {
    fn read(folder: &Path) -> Self {
        let bytes = std::fs::read(folder.join("golden.safetensors")).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let words = |name: &str| -> Vec<[u8; 4]> {
            let data = tensors.tensor(name).unwrap().data();
            data.chunks_exact(4).map(|word| word.try_into().unwrap()).collect()
        };
        let ids = |name| words(name).into_iter().map(u32::from_le_bytes).collect();
        let floats = |name| words(name).into_iter().map(f32::from_le_bytes).collect();
        Self {
            tokens: ids("tokens"),
            logits: floats("logits"),
            drafted: ids("drafted"),
            drafted_logits: floats("drafted_logits"),
        }
    }
}

fn relative_error(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let difference = norm(&mut a.iter().zip(b).map(|(&a, &b)| f64::from(a) - f64::from(b)));
    difference / norm(&mut b.iter().map(|&b| f64::from(b)))
}

/// The head's logits behind all of `tokens` but the last, which it reads in chunks, and those of
/// the tokens that it drafts then.
fn logits(
    model: &dyn LanguageModel,
    tokens: &[u32],
    chunk: usize,
    drafted: &[u32],
) -> [Vec<f32>; 2] {
    let predictor = model.multi_token_predictor().unwrap();
    let (mut caches, mut own) = (model.make_caches(), predictor.make_prediction_caches());
    let (mut all, mut last) = (Vec::new(), None);
    let pairs = tokens[1..].chunks(chunk).zip(tokens.chunks(chunk));
    for (behind, tokens) in pairs {
        let array = |tokens: &[u32]| mlx::from_u32(tokens, &[1, tokens.len() as i32]);
        let read = &tokens[..behind.len()];
        let [_, states] =
            predictor.forward_with_states(&Step::of_one(&array(read)), &mut [&mut caches]).unwrap();
        let [logits, states] =
            predictor.predict(&Step::of_one(&array(behind)), &states, &mut [&mut own]).unwrap();
        all.extend(mlx::to_f32_vec(&logits).unwrap());
        let end = states.dim(1);
        last = Some(mlx::ops::slice_axis(&states, 1, end - 1, end).unwrap());
    }
    let mut of_drafted = all[all.len() - model.vocabulary()..].to_vec();
    for &token in &drafted[..drafted.len() - 1] {
        let token = mlx::from_u32(&[token], &[1, 1]);
        let [logits, states] =
            predictor.predict(&Step::decode(&token), &last.unwrap(), &mut [&mut own]).unwrap();
        of_drafted.extend(mlx::to_f32_vec(&logits).unwrap());
        last = Some(states);
    }
    [all, of_drafted]
}

#[test]
fn logits_agree_with_the_reference() {
    for name in seeded::names_in(KIND) {
        let folder = seeded::folder_in(KIND, &name);
        let golden = Golden::read(&folder);
        for device in [exact(), exact().plain()] {
            let loaded = load(&folder, device);
            assert_eq!(loaded.info.warnings, [], "{name}");
            let vocabulary = loaded.model.vocabulary();
            for chunk in [golden.tokens.len(), 5, 1] {
                let [all, drafted] = logits(&*loaded.model, &golden.tokens, chunk, &golden.drafted);
                let last = &all[all.len() - golden.logits.len()..];
                let errors = [(last, &golden.logits), (&drafted, &golden.drafted_logits)];
                for (actual, expected) in errors {
                    let error = relative_error(actual, expected);
                    assert!(error < TOLERANCE, "{name}, chunks of {chunk}: {error:.2e}");
                }
                let best = |logits: &[f32]| {
                    (0..vocabulary).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap() as u32
                };
                let best: Vec<u32> = drafted.chunks(vocabulary).map(best).collect();
                assert_eq!(best, golden.drafted, "{name}, chunks of {chunk}");
            }
        }
    }
}

/// The logits of rows that a head reads together are those that it gives each alone.
#[test]
fn rows_run_together() {
    for name in seeded::names_in(KIND) {
        let folder = seeded::folder_in(KIND, &name);
        let (golden, loaded) = (Golden::read(&folder), load(&folder, exact()));
        let predictor = loaded.model.multi_token_predictor().unwrap();
        let texts = [&golden.tokens[..9], &golden.tokens[9..12], &golden.tokens[12..]];
        let alone: Vec<f32> = texts
            .iter()
            .flat_map(|text| logits(&*loaded.model, text, text.len(), &[0])[0].clone())
            .collect();
        let row = |text: &&[u32]| StepRow {
            length: text.len() as i32 - 1,
            logits: text.len() as i32 - 1,
        };
        let step = |tokens: Vec<u32>| mlx::from_u32(&tokens, &[1, tokens.len() as i32]);
        let read = step(texts.iter().flat_map(|text| text[..text.len() - 1].to_vec()).collect());
        let behind = step(texts.iter().flat_map(|text| text[1..].to_vec()).collect());
        let run = |tokens: &_, caches: &mut [Vec<Cache>], states: Option<&_>| {
            let mut caches: Vec<&mut [Cache]> = caches.iter_mut().map(Vec::as_mut_slice).collect();
            let step = Step::new(tokens, texts.iter().map(row).collect()).unwrap();
            match states {
                None => predictor.forward_with_states(&step, &mut caches),
                Some(states) => predictor.predict(&step, states, &mut caches),
            }
            .unwrap()
        };
        let [_, states] = run(&read, &mut texts.map(|_| loaded.model.make_caches()), None);
        let mut own = texts.map(|_| predictor.make_prediction_caches());
        let [together, _] = run(&behind, &mut own, Some(&states));
        let error = relative_error(&mlx::to_f32_vec(&together).unwrap(), &alone);
        assert!(error < TOLERANCE, "{name}: {error:.2e}");
    }
}

/// A copy of a checkpoint whose layers add nothing, so that the next token follows from the one
/// before, and whose head says so too: all that it drafts is right.
fn foreseeable(folder: &Path, copy: &Path) {
    std::fs::copy(folder.join("config.json"), copy.join("config.json")).unwrap();
    let bytes = std::fs::read(folder.join("model.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let ends = |name: &str, ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
    let (_, last_norm) = tensors
        .iter()
        .find(|(name, _)| {
            let names =
                ["model.norm.weight", "model.language_model.norm.weight", "backbone.norm_f.weight"];
            names.contains(name)
        })
        .unwrap();
    // Qwen's checkpoints store the norms less 1.
    let config = std::fs::read_to_string(folder.join("config.json")).unwrap();
    let is_less = config.contains("qwen3_next") || config.contains("qwen3_5");
    let one = half::bf16::from_f32(if is_less { 0.0 } else { 1.0 }).to_le_bytes();
    let changed = |name: &str, tensor: &TensorView| -> Vec<u8> {
        let size = tensor.data().len();
        let outputs =
            ["o_proj.weight", "out_proj.weight", "down_proj.weight", "down_proj", ".dense.weight"];
        if ends(name, &outputs) {
            return vec![0; size];
        }
        if ends(name, &["enorm.weight", "norm_embedding.weight", "token_layernorm.weight"]) {
            return one.repeat(size / 2);
        }
        if ends(name, &["shared_head.norm.weight", "mtp.norm.weight", "final_layernorm.weight"]) {
            return last_norm.data().to_vec();
        }
        if ends(name, &["eh_proj.weight", "mtp.fc.weight", "input_proj.weight"]) {
            let [rows, columns] = tensor.shape() else { panic!("{name} is no matrix") };
            let first = if name.ends_with("input_proj.weight") { *rows } else { 0 };
            let element = |row, column| match column == first + row {
                true => half::bf16::ONE,
                false => half::bf16::ZERO,
            };
            let row = |row| (0..*columns).flat_map(move |it| element(row, it).to_le_bytes());
            return (0..*rows).flat_map(row).collect();
        }
        tensor.data().to_vec()
    };
    let made = tensors.iter().map(|(name, tensor)| {
        (name.to_owned(), tensor.dtype(), tensor.shape().to_vec(), changed(name, &tensor))
    });
    save(copy, &made.collect::<Vec<_>>());
}

/// A tensor's name, type, shape and bytes.
type Tensor = (String, safetensors::Dtype, Vec<usize>, Vec<u8>);

fn save(folder: &Path, tensors: &[Tensor]) {
    let views = tensors.iter().map(|(name, dtype, shape, data)| {
        (name, TensorView::new(*dtype, shape.clone(), data).unwrap())
    });
    safetensors::serialize_to_file(views, None, &folder.join("model.safetensors")).unwrap();
}

fn sequence(
    model: &dyn LanguageModel,
    prompt: &[u32],
    draft_tokens: Option<usize>,
    generation: &GenerationOptions,
) -> Sequence {
    let speculation = draft_tokens.map(|length| SpeculationOptions {
        draft_tokens: (length > 0).then_some(length),
        lookup: false,
    });
    let options = SequenceOptions { speculation, ..SequenceOptions::new(generation.clone(), 7) };
    Sequence::new(model, prompt.to_vec(), options, None).unwrap()
}

/// The tokens of sequences that run together, and what came of their drafts.
fn run(
    model: &dyn LanguageModel,
    mut sequences: Vec<Sequence>,
) -> Vec<(Vec<u32>, Option<Speculated>)> {
    let mut all: Vec<&mut Sequence> = sequences.iter_mut().collect();
    while !prefill(model, &mut all, 11, false).progress.iter().all(|it| it.as_ref().unwrap().done) {
    }
    let mut tokens = vec![Vec::new(); all.len()];
    let mut speculator = Speculator::default();
    while tokens.iter().any(|tokens| tokens.len() < COUNT) {
        let (places, mut going_on): (Vec<_>, Vec<_>) = all
            .iter_mut()
            .enumerate()
            .filter(|(index, _)| tokens[*index].len() < COUNT)
            .map(|(index, sequence)| (index, &mut **sequence))
            .unzip();
        for (place, outputs) in
            places.into_iter().zip(decode(model, &mut speculator, &mut going_on))
        {
            tokens[place].extend(outputs.unwrap().iter().map(|output| output.token));
        }
    }
    tokens.into_iter().zip(all).map(|(tokens, it)| (tokens, it.speculated())).collect()
}

fn generations() -> [GenerationOptions; 4] {
    let greedy = GenerationOptions {
        temperature: Some(0.0),
        max_tokens: Some(COUNT),
        ..GenerationOptions::default()
    };
    [
        greedy.clone(),
        GenerationOptions { temperature: Some(0.8), seed: Some(3), ..greedy.clone() },
        GenerationOptions { repetition_penalty: Some(1.3), ..greedy.clone() },
        GenerationOptions { max_kv_size: Some(16), ..greedy },
    ]
}

/// Whether all that is drafted is right or hardly anything.
#[test]
fn drafts_change_no_text() {
    for name in seeded::names_in(KIND) {
        let folder = seeded::folder_in(KIND, &name);
        let copy = tempfile::tempdir().unwrap();
        foreseeable(&folder, copy.path());
        let prompt = Golden::read(&folder).tokens;
        for (folder, is_foreseeable) in [(&*folder, false), (copy.path(), true)] {
            let loaded = load(folder, exact());
            let model = &*loaded.model;
            for generation in generations() {
                let prompts = [&prompt[..], &prompt[..1], &prompt[5..14]];
                let plain =
                    run(model, prompts.map(|it| sequence(model, it, None, &generation)).into());
                assert!(plain.iter().all(|(_, speculated)| speculated.is_none()));
                for length in [3, 0] {
                    let sequences =
                        prompts.map(|it| sequence(model, it, Some(length), &generation));
                    let drafted = run(model, sequences.into());
                    for ((tokens, speculated), (expected, _)) in drafted.iter().zip(&plain) {
                        let speculated = speculated.unwrap();
                        assert_eq!(tokens, expected, "{name}, {length}, {generation:?}");
                        if length > 0 {
                            assert!(speculated.drafted >= COUNT / 2 - 1, "{name}: {speculated:?}");
                            assert_eq!(speculated.steps + speculated.accepted, COUNT);
                        }
                        if length > 0 && is_foreseeable && generation.seed.is_none() {
                            let wrong = speculated.drafted - speculated.accepted;
                            assert!(wrong < 3, "{name}, {length}, {generation:?}: {speculated:?}");
                        }
                    }
                }
            }
        }
    }
}

/// Sequences that speculate run beside such that do not, and read each other's steps.
#[test]
fn some_speculate_and_others_do_not() {
    let folder = seeded::folder_in(KIND, "glm4-moe");
    let copy = tempfile::tempdir().unwrap();
    foreseeable(&folder, copy.path());
    let loaded = load(copy.path(), exact());
    let model = &*loaded.model;
    let prompt = Golden::read(&folder).tokens;
    let [greedy, ..] = generations();
    let prompts = [&prompt[..], &prompt[3..], &prompt[..2], &prompt[7..9]];
    let begin = |lengths: [Option<usize>; 4]| -> Vec<Sequence> {
        let both = prompts.iter().zip(lengths);
        both.map(|(prompt, length)| sequence(model, prompt, length, &greedy)).collect()
    };
    let plain = run(model, begin([None; 4]));
    let mixed = run(model, begin([Some(2), None, Some(5), None]));
    for ((tokens, speculated), (expected, _)) in mixed.iter().zip(&plain) {
        assert_eq!(tokens, expected);
        assert!(speculated.is_none_or(|it| it.accepted > COUNT / 2));
    }
}

#[test]
fn what_is_in_the_caches_is_a_beginning_that_the_head_does_not_know() {
    for name in ["glm4-moe", "qwen3-5"] {
        let folder = seeded::folder_in(KIND, name);
        let copy = tempfile::tempdir().unwrap();
        foreseeable(&folder, copy.path());
        let loaded = load(copy.path(), exact());
        let model = &*loaded.model;
        let prompt = Golden::read(&folder).tokens;
        let [greedy, ..] = generations();
        let plain = run(model, vec![sequence(model, &prompt, None, &greedy)]).remove(0).0;
        let mut first = sequence(model, &prompt[..12], None, &greedy);
        while !first.prefill(model).unwrap().done {}
        let cache = first.into_prompt_cache(model);
        let speculation = Some(SpeculationOptions { draft_tokens: Some(2), lookup: false });
        let options = SequenceOptions { speculation, ..SequenceOptions::new(greedy, 7) };
        let behind = Sequence::new(model, prompt, options, Some(cache)).unwrap();
        assert_eq!(behind.cached_tokens(), 12, "{name}");
        let (tokens, speculated) = run(model, vec![behind]).remove(0);
        assert_eq!(tokens, plain, "{name}");
        assert!(speculated.unwrap().accepted > COUNT / 2, "{name}: {speculated:?}");
    }
}

/// A checkpoint without some of a head's tensors runs without the head, and says so.
#[test]
fn a_head_that_is_not_whole_is_left_out() {
    let folder = seeded::folder_in(KIND, "mimo");
    let copy = tempfile::tempdir().unwrap();
    std::fs::copy(folder.join("config.json"), copy.path().join("config.json")).unwrap();
    let bytes = std::fs::read(folder.join("model.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let rest = tensors.iter().filter(|(name, _)| !name.ends_with("final_layernorm.weight"));
    safetensors::serialize_to_file(rest, None, &copy.path().join("model.safetensors")).unwrap();
    let loaded = load(copy.path(), exact());
    assert!(loaded.model.multi_token_predictor().is_none());
    let [warning] = &*loaded.info.warnings else { panic!("{:?}", loaded.info.warnings) };
    assert_eq!(warning.code.as_str(), "UNUSED_HEAD");
    assert!(warning.message.contains("mtp_layers.0.final_layernorm.weight"), "{}", warning.message);
    let whole = load(&folder, exact());
    assert_eq!(loaded.info.parameters, whole.info.parameters, "heads are not counted");
    let [greedy, ..] = generations();
    let speculating = sequence(&*loaded.model, &[1, 2, 3], Some(3), &greedy);
    let (tokens, speculated) = run(&*loaded.model, vec![speculating]).remove(0);
    let plain = vec![sequence(&*whole.model, &[1, 2, 3], None, &greedy)];
    assert_eq!(tokens, run(&*whole.model, plain).remove(0).0);
    assert_eq!(speculated.unwrap().drafted, 0);
}

/// DeepSeek publishes the projections of its layers, the head's included, as blocks of float8, but
/// for that of the head itself.
#[test]
fn a_head_of_float8_blocks_computes_the_same() {
    let folder = seeded::folder_in(KIND, "deepseek-v3");
    let bytes = std::fs::read(folder.join("model.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let is_packed = |name: &str| {
        name.contains(".layers.") && name.contains("_proj") && !name.contains("eh_proj")
    };
    let (mut plain, mut packed): (Vec<Tensor>, Vec<Tensor>) = (Vec::new(), Vec::new());
    for (name, tensor) in tensors.iter() {
        let (dtype, shape) = (tensor.dtype(), tensor.shape().to_vec());
        let mut values = tensor.data().to_vec();
        if is_packed(name) {
            // ±2⁻² and ±2⁻³, which both types have.
            let mut codes = Vec::new();
            for value in values.chunks_exact_mut(2) {
                let number = half::bf16::from_le_bytes([value[0], value[1]]).to_f32();
                let (rounded, code) = if number.abs() > 0.2 { (0.25, 0x28) } else { (0.125, 0x20) };
                let sign = number.is_sign_negative();
                let rounded = half::bf16::from_f32(if sign { -rounded } else { rounded });
                value.copy_from_slice(&rounded.to_le_bytes());
                codes.push(code | u8::from(sign) << 7);
            }
            packed.push((name.to_owned(), safetensors::Dtype::F8_E4M3, shape.clone(), codes));
            let one = 1_f32.to_le_bytes().to_vec();
            packed.push((format!("{name}_scale_inv"), safetensors::Dtype::F32, vec![1, 1], one));
        } else {
            packed.push((name.to_owned(), dtype, shape.clone(), values.clone()));
        }
        plain.push((name.to_owned(), dtype, shape, values));
    }
    assert!(packed.iter().any(|(name, ..)| name.starts_with("model.layers.2.mlp.experts.3.")));
    let config = std::fs::read(folder.join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_slice(&config).unwrap();
    let golden = Golden::read(&folder);
    let logits = [(plain, serde_json::Value::Null), (packed, FP8.parse().unwrap())].map(
        |(tensors, quantization)| {
            let copy = tempfile::tempdir().unwrap();
            config["quantization_config"] = quantization;
            std::fs::write(copy.path().join("config.json"), config.to_string()).unwrap();
            save(copy.path(), &tensors);
            let loaded = load(copy.path(), exact());
            logits(&*loaded.model, &golden.tokens, golden.tokens.len(), &golden.drafted)
        },
    );
    for (packed, plain) in logits[1].iter().zip(&logits[0]) {
        let error = relative_error(packed, plain);
        assert!(error < TOLERANCE, "{error:.2e}");
    }
}

#[test]
fn heads_are_loaded_on_demand() {
    mlx::enter(DeviceKind::Cpu).unwrap();
    for name in seeded::names_in(KIND) {
        let options = LoadOptions { device: exact(), ..LoadOptions::default() };
        let folder = seeded::folder_in(KIND, &name);
        let loaded = models::load(&folder, &options, &mut |_| ControlFlow::Continue(())).unwrap();
        assert!(loaded.model.multi_token_predictor().is_none(), "{name}");
        assert_eq!(loaded.info.warnings, [], "{name}");
    }
}

/// As mlx-lm leaves them out.
#[test]
fn conversions_leave_heads_out() {
    let names = [
        "glm4-moe",
        "qwen3-next",
        "mimo",
        "mimo-v2-flash",
        "hy-v3",
        "bailing-moe-v3",
        "mellum",
        "exaone-moe",
        "nemotron-h",
    ];
    for name in names {
        let (source, parent) = (seeded::folder_in(KIND, name), tempfile::tempdir().unwrap());
        let target = parent.path().join("converted");
        let go_on = &mut |_| ControlFlow::Continue(());
        convert(&source, &target, &ConvertOptions::default(), go_on).unwrap();
        let loaded = load(&target, exact());
        assert!(loaded.model.multi_token_predictor().is_none(), "{name}");
        assert_eq!(loaded.info.warnings, [], "{name}");
        let tokens = mlx::from_u32(&Golden::read(&source).tokens, &[1, 24]);
        let [converted, published] = [loaded, load(&source, exact())].map(|loaded| {
            let mut caches = loaded.model.make_caches();
            mlx::to_f32_vec(&loaded.model.logits(&tokens, &mut caches).unwrap()).unwrap()
        });
        let error = relative_error(&converted, &published);
        assert!(error < TOLERANCE, "{name}: {error:.2e}");
    }
}
