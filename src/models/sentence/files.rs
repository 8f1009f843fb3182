//! sentence-transformers' files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{Dense, DenseActivation, Embedder, EmbedderInfo, LabelActivation, Pooling};
use crate::error::{Error, Result};
use crate::fused::activation::Activation;
use crate::nn::Linear;
use crate::warning::{Warning, WarningCode};
use crate::weights::{Checkpoint, LoadPlan, Quantization, Weights};

/// These files are small.
const MAX_BYTES: u64 = 4 << 20;

/// A line of `modules.json`.
#[derive(Deserialize)]
struct Module {
    path: String,
    #[serde(rename = "type")]
    kind: String,
}

/// `config_sentence_transformers.json`
#[derive(Deserialize)]
struct Settings {
    #[serde(default)]
    prompts: Option<BTreeMap<String, String>>,
    #[serde(default)]
    default_prompt_name: Option<String>,
    #[serde(default)]
    truncate_dim: Option<usize>,
}

/// The names of the file with a model's [`Limits`], of which the first one counts.
const LIMITS: [&str; 7] = [
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
];

/// Larger ones stand for no limit at all.
const MOST_TOKENS: f64 = 1e9;

#[derive(Default, Deserialize)]
struct Limits {
    #[serde(default)]
    max_seq_length: Option<usize>,
    #[serde(default)]
    do_lower_case: bool,
}

#[derive(Deserialize)]
struct DenseConfig {
    in_features: i32,
    out_features: i32,
    #[serde(default = "yes")]
    bias: bool,
    #[serde(default)]
    activation_function: Option<String>,
    #[serde(default)]
    use_residual: bool,
    #[serde(default)]
    module_input_name: Option<String>,
}

fn yes() -> bool {
    true
}

/// What the files in `dir` say; without any, what sentence-transformers makes of the configuration.
pub(super) fn read(
    dir: &Path,
    config: &Map<String, Value>,
    plan: LoadPlan,
    features: usize,
    warnings: &mut Vec<Warning>,
) -> Result<Embedder> {
    let mut info = EmbedderInfo {
        pools_prompt: true,
        dimensions: features,
        lower_case: limits(dir)?.do_lower_case,
        ..EmbedderInfo::default()
    };
    let mut dense = Vec::new();
    let Some(modules) = read_json::<Vec<Module>>(&dir.join("modules.json"))? else {
        info.pooling = vec![default_pooling(config)];
        info.max_dimensions = features;
        return Ok(Embedder { info, dense });
    };
    info.is_declared = true;
    for Module { path, kind } in modules {
        let folder = inside(dir, &path)?;
        match kind.rsplit('.').next().unwrap_or_default() {
            "Transformer" if folder == dir => {}
            "Transformer" => {
                let message = format!("has its model in \"{path}\": load that folder");
                return Err(Error::config(dir.join("modules.json"), message));
            }
            "Pooling" => {
                let path = folder.join("config.json");
                if !pooling(&path, &mut info)? {
                    // mlx-lm's conversions leave folders out.
                    info.pooling = vec![default_pooling(config)];
                    let name = info.pooling[0].name();
                    let message = format!("the file is missing; the pooling is \"{name}\"");
                    warnings.push(Warning::new(WarningCode::UnusableFile, &path, message));
                }
                info.dimensions = features * info.pooling.len();
            }
            "Dense" if info.pooling.is_empty() => {
                let message = "has a dense layer in front of the pooling, which is not supported";
                return Err(Error::config(dir.join("modules.json"), message));
            }
            "Dense" => dense.push(take_dense(&folder, plan, &mut info)?),
            "Normalize" => info.normalizes = true,
            // While a model is trained.
            "Dropout" => {}
            other => {
                let message = format!("has a module \"{other}\", which is not supported");
                return Err(Error::config(dir.join("modules.json"), message));
            }
        }
    }
    if info.pooling.is_empty() {
        return Err(Error::config(dir.join("modules.json"), "has no pooling"));
    }
    info.max_dimensions = info.dimensions;
    settings(&dir.join("config_sentence_transformers.json"), &mut info)?;
    Ok(Embedder { info, dense })
}

/// The last token of a model that was made to continue texts, as that alone has seen all others.
fn default_pooling(config: &Map<String, Value>) -> Pooling {
    let class = config.get("architectures").and_then(|it| it.get(0)).and_then(Value::as_str);
    let continues = class.is_some_and(|it| it.ends_with("ForCausalLM"));
    let sees_all = config.get("is_causal").and_then(Value::as_bool) == Some(false);
    if continues && !sees_all { Pooling::Last } else { Pooling::Mean }
}

fn settings(path: &Path, info: &mut EmbedderInfo) -> Result<()> {
    let Some(settings) = read_json::<Settings>(path)? else { return Ok(()) };
    info.prompts = settings.prompts.unwrap_or_default();
    info.default_task = settings.default_prompt_name;
    if let Some(name) = info.default_task.as_ref().filter(|it| !info.prompts.contains_key(*it)) {
        let message = format!("\"default_prompt_name\" \"{name}\" is none of its prompts");
        return Err(Error::config(path, message));
    }
    if let Some(dimensions) = settings.truncate_dim {
        if !(1..=info.dimensions).contains(&dimensions) {
            let message = format!("\"truncate_dim\" is {dimensions}, of {}", info.dimensions);
            return Err(Error::config(path, message));
        }
        info.dimensions = dimensions;
    }
    Ok(())
}

fn limits(dir: &Path) -> Result<Limits> {
    for name in LIMITS {
        if let Some(limits) = read_json(&dir.join(name))? {
            return Ok(limits);
        }
    }
    Ok(Limits::default())
}

/// The most tokens of a text that the model in `dir` is to embed or to judge, where a file limits
/// them.
///
/// # Errors
/// [`Error::Config`] for a broken one.
pub fn max_tokens(dir: &Path) -> Result<Option<usize>> {
    if let Some(tokens) = limits(dir)?.max_seq_length {
        return Ok(Some(tokens));
    }
    let tokenizer: Option<Map<String, Value>> = read_json(&dir.join("tokenizer_config.json"))?;
    let tokens = tokenizer.as_ref().and_then(|it| it.get("model_max_length")?.as_f64());
    Ok(tokens.filter(|it| (1.0..MOST_TOKENS).contains(it)).map(|it| it as usize))
}

/// A module's folder, which is one of the model's.
fn inside(dir: &Path, path: &str) -> Result<PathBuf> {
    let is_plain = Path::new(path)
        .components()
        .all(|part| matches!(part, std::path::Component::Normal(_) | std::path::Component::CurDir));
    if is_plain {
        return Ok(if path.is_empty() { dir.to_owned() } else { dir.join(path) });
    }
    let message = format!("\"path\" \"{path}\" leads out of the model's folder");
    Err(Error::config(dir.join("modules.json"), message))
}

/// Reads how states are pooled; `false` without the file.
fn pooling(path: &Path, info: &mut EmbedderInfo) -> Result<bool> {
    let Some(config) = read_json::<Map<String, Value>>(path)? else { return Ok(false) };
    let flag = |name: &str| config.get(name).and_then(Value::as_bool);
    info.pooling = match config.get("pooling_mode") {
        Some(Value::String(name)) => vec![named(path, name)?],
        Some(Value::Array(names)) => {
            let name = |name: &Value| named(path, name.as_str().unwrap_or_default());
            names.iter().map(name).collect::<Result<_>>()?
        }
        _ => {
            let legacy = [
                ("pooling_mode_cls_token", Pooling::First),
                ("pooling_mode_max_tokens", Pooling::Max),
                ("pooling_mode_mean_tokens", Pooling::Mean),
                ("pooling_mode_mean_sqrt_len_tokens", Pooling::MeanSqrt),
                ("pooling_mode_weightedmean_tokens", Pooling::WeightedMean),
                ("pooling_mode_lasttoken", Pooling::Last),
            ];
            let on = legacy.into_iter().filter(|(name, _)| flag(name) == Some(true));
            on.map(|(_, pooling)| pooling).collect()
        }
    };
    if info.pooling.is_empty() {
        info.pooling = vec![Pooling::Mean];
    }
    info.pools_prompt = flag("include_prompt").unwrap_or(true);
    Ok(true)
}

fn named(path: &Path, name: &str) -> Result<Pooling> {
    Pooling::named(name)
        .ok_or_else(|| Error::config(path, format!("\"pooling_mode\" \"{name}\" is not supported")))
}

fn take_dense(folder: &Path, plan: LoadPlan, info: &mut EmbedderInfo) -> Result<Dense> {
    let path = folder.join("config.json");
    let config: DenseConfig =
        read_json(&path)?.ok_or_else(|| Error::config(&path, "the file is missing"))?;
    let DenseConfig { in_features, out_features, bias, .. } = config;
    let sizes = 1..=1 << 20;
    if !sizes.contains(&in_features) || !sizes.contains(&out_features) {
        let message = format!("has {in_features} inputs and {out_features} outputs");
        return Err(Error::config(&path, message));
    }
    if info.dimensions != in_features.unsigned_abs() as usize {
        let message = format!("has {in_features} inputs, and gets {}", info.dimensions);
        return Err(Error::config(&path, message));
    }
    let plain_input = config.module_input_name.as_deref().unwrap_or("sentence_embedding");
    if config.use_residual || plain_input != "sentence_embedding" {
        let message = "is no plain layer (use_residual, module_input_name), which is not supported";
        return Err(Error::config(path, message));
    }
    let activation = match config.activation_function.as_deref() {
        Some(name) => match name.rsplit('.').next().unwrap_or_default() {
            "Identity" => DenseActivation::Identity,
            "Tanh" => DenseActivation::Tanh,
            "GELU" => DenseActivation::Other(Activation::Gelu),
            "ReLU" => DenseActivation::Other(Activation::Relu),
            "SiLU" => DenseActivation::Other(Activation::Silu),
            _ => {
                let message = format!("\"activation_function\" \"{name}\" is not supported");
                return Err(Error::config(path, message));
            }
        },
        None => DenseActivation::Tanh,
    };
    let checkpoint = Checkpoint::open(folder)?;
    let quantization = Quantization::default();
    let weights = Weights::new(&checkpoint, &quantization, plan, |_| true);
    let linear = Linear::new(&weights.at("linear"), in_features, out_features, bias)?;
    weights.finish(|_| false)?;
    info.dimensions = out_features.unsigned_abs() as usize;
    Ok(Dense { linear, activation })
}

/// What becomes of the logit of a judge in `dir`, whose configuration is `config`:
/// sentence-transformers notes it there, or in a file of its own.
///
/// # Errors
/// [`Error::Config`] for a function that is not known.
pub fn label_activation(dir: &Path, config: &Map<String, Value>) -> Result<LabelActivation> {
    let path = dir.join("config_sentence_transformers.json");
    let own: Option<Map<String, Value>> = read_json(&path)?;
    let name = own
        .as_ref()
        .and_then(|own| own.get("activation_fn"))
        .or_else(|| config.get("sentence_transformers")?.get("activation_fn"))
        .or_else(|| config.get("sbert_ce_default_activation_function"))
        .and_then(Value::as_str);
    match name.and_then(|name| name.rsplit('.').next()) {
        None | Some("Sigmoid") => Ok(LabelActivation::Sigmoid),
        Some("Identity") => Ok(LabelActivation::Identity),
        Some(other) => {
            let message = format!("the activation \"{other}\" of its labels is not supported");
            Err(Error::config(dir.join("config.json"), message))
        }
    }
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let Some(text) = crate::files::read(path, MAX_BYTES)? else { return Ok(None) };
    if let Some(problem) = crate::files::placeholder(&text) {
        return Err(Error::config(path, problem));
    }
    let value: Value = crate::json::parse(&text)
        .map_err(|error| Error::config(path, format!("not valid JSON: {error}")))?;
    serde_json::from_value(value).map(Some).map_err(|error| Error::config(path, error.to_string()))
}
