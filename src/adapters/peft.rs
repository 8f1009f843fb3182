//! Adapters as PEFT publishes them: `lora_A.weight`, `lora_B.weight` and a magnitude of each module
//! below `base_model.model`, and modules that were trained as a whole.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::config::{AdapterConfig, AdapterKind};
use super::names::{canonical, single_expert};
use super::tensors::AdapterTensors;
use super::update::{LowRank, Module, Update};
use crate::error::Result;
use crate::mlx::Array;

/// Fields that change what an adapter computes in ways that are not known here, and what they do.
const UNSUPPORTED: [(&str, &str); 12] = [
    ("fan_in_fan_out", "has transposed matrices"),
    ("lora_bias", "has biases of its own"),
    ("target_parameters", "changes parameters that are no modules' weights"),
    ("layer_replication", "repeats layers"),
    ("trainable_token_indices", "changes single rows of the embedding"),
    ("megatron_config", "is for a model in Megatron's layout"),
    ("alora_invocation_tokens", "begins in the middle of a prompt"),
    ("use_qalora", "pools its inputs"),
    ("arrow_config", "routes between adapters"),
    ("use_bdlora", "has matrices of blocks"),
    ("kasa_config", "weighs its rank"),
    ("monteclora_config", "draws its matrices"),
];

/// Ways to begin that change the model's own weights.
const CHANGES_BASE: [&str; 5] = ["pissa", "olora", "corda", "loftq", "lora_ga"];

pub(super) fn read(
    config: &AdapterConfig,
    tensors: &AdapterTensors,
) -> Result<(AdapterKind, BTreeMap<String, Module>)> {
    check(config)?;
    let scales = Scales::of(config)?;
    let is_dora = config.says("use_dora");
    let mut parts: BTreeMap<String, Parts> = BTreeMap::new();
    for name in tensors.names() {
        let Some((path, part)) = Part::of(name) else {
            return Err(tensors.error(format!("tensor \"{name}\" is no adapter's")));
        };
        let dims: &[usize] = match part {
            Part::Down | Part::Up | Part::TableDown | Part::TableUp => &[2],
            Part::Magnitude | Part::Bias => &[1],
            Part::Weight => &[1, 2],
        };
        let array = tensors.take(name, dims)?;
        parts.entry(path.to_owned()).or_default().put(part, array);
    }
    let mut modules = BTreeMap::new();
    for (path, parts) in parts {
        let update = parts.update(&path, tensors, &scales, is_dora)?;
        let canonical = canonical(&path);
        match (single_expert(&canonical), update) {
            (Some((stack, expert)), Update::LowRank(low_rank)) => {
                let empty = || Module {
                    name: path.clone(),
                    update: Update::SingleExperts(BTreeMap::new()),
                };
                let module = modules.entry(stack).or_insert_with(empty);
                if let Update::SingleExperts(experts) = &mut module.update {
                    experts.insert(expert, low_rank);
                }
            }
            (_, update) => {
                modules.insert(canonical, Module { name: path, update });
            }
        }
    }
    Ok((if is_dora { AdapterKind::Dora } else { AdapterKind::Lora }, modules))
}

fn check(config: &AdapterConfig) -> Result<()> {
    let kind = config.optional::<String>("peft_type")?.unwrap_or_default();
    if kind != "LORA" {
        return Err(config.unsupported(&format!("an adapter of the type \"{kind}\", not LORA")));
    }
    for (field, what) in UNSUPPORTED {
        if config.says(field) {
            return Err(config.unsupported(&format!("\"{field}\": an adapter that {what}")));
        }
    }
    let begins = config.optional::<Value>("init_lora_weights")?;
    let begins = begins.as_ref().and_then(Value::as_str).unwrap_or_default();
    if CHANGES_BASE.iter().any(|other| begins.starts_with(other)) {
        let message = format!(
            "\"init_lora_weights\" is \"{begins}\", which changed the model itself; save the adapter \
             converted to one of the original model"
        );
        return Err(config.unsupported(&message));
    }
    Ok(())
}

/// What the products of modules are multiplied with.
struct Scales<'a> {
    config: &'a AdapterConfig,
    alpha: f32,
    /// Other numbers for the modules whose paths end so.
    patterns: Vec<(String, f32)>,
    /// The ranks that modules may have; empty where nothing is said.
    ranks: Vec<i32>,
    /// Whether the rank counts by its square root (Kalajdzievski 2023, "rsLoRA").
    rank_stabilized: bool,
}

impl<'a> Scales<'a> {
    fn of(config: &'a AdapterConfig) -> Result<Self> {
        let alpha = config.optional::<Value>("lora_alpha")?;
        let alpha = alpha.map_or(Ok(8.0), |alpha| config.number("lora_alpha", &alpha))?;
        let patterns = config.optional::<Map<String, Value>>("alpha_pattern")?.unwrap_or_default();
        let patterns = patterns.iter().map(|(pattern, alpha)| {
            // They are regular expressions for the ends of paths, and nearly all of them names.
            let name = pattern.trim_start_matches('^').trim_end_matches('$').replace("\\.", ".");
            let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
            if !name.chars().all(is_name) {
                let message = format!("\"alpha_pattern\": the expression \"{pattern}\" is no name");
                return Err(config.unsupported(&message));
            }
            Ok((name, config.number("alpha_pattern", alpha)?))
        });
        let rank = config.optional::<i32>("r")?;
        let others = config.optional::<BTreeMap<String, i32>>("rank_pattern")?.unwrap_or_default();
        Ok(Self {
            config,
            ranks: rank.map_or_else(Vec::new, |rank| others.into_values().chain([rank]).collect()),
            alpha,
            patterns: patterns.collect::<Result<_>>()?,
            rank_stabilized: config.says("use_rslora"),
        })
    }

    fn of_module(&self, path: &str, rank: i32) -> Result<f32> {
        let fits = |name: &str| {
            path.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        if !self.ranks.is_empty() && !self.ranks.contains(&rank) {
            let message = format!("\"r\" is not the rank of \"{path}\", which is {rank}");
            return Err(self.config.error(message));
        }
        let own = self.patterns.iter().find(|(name, _)| fits(name));
        let alpha = own.map_or(self.alpha, |(_, alpha)| *alpha);
        let rank = rank as f32;
        let scale = alpha / if self.rank_stabilized { rank.sqrt() } else { rank };
        if scale.is_finite() { Ok(scale) } else { Err(self.config.error("the scale is no number")) }
    }
}

/// What a tensor of a module is.
#[derive(Clone, Copy)]
enum Part {
    Down,
    Up,
    TableDown,
    TableUp,
    Magnitude,
    Weight,
    Bias,
}

impl Part {
    /// The module's path, and what the tensor is of it.
    fn of(name: &str) -> Option<(&str, Self)> {
        const PARTS: [(&str, Part); 5] = [
            (".lora_A.", Part::Down),
            (".lora_B.", Part::Up),
            (".lora_embedding_A", Part::TableDown),
            (".lora_embedding_B", Part::TableUp),
            (".lora_magnitude_vector", Part::Magnitude),
        ];
        for (text, part) in PARTS {
            if let Some((path, rest)) = name.split_once(text) {
                // Some programs leave the adapter's name in: `lora_A.default.weight`.
                let is_bias = rest.split('.').any(|part| part == "bias");
                return (!is_bias).then_some((path, part));
            }
        }
        if name.contains("lora_") || name.contains(".base_layer.") {
            return None;
        }
        let path = |leaf| name.strip_suffix(leaf);
        let weight = path(".weight").map(|path| (path, Self::Weight));
        weight.or_else(|| path(".bias").map(|path| (path, Self::Bias)))
    }
}

/// The tensors of a module.
#[derive(Default)]
struct Parts {
    down: Option<Array>,
    up: Option<Array>,
    is_table: bool,
    magnitude: Option<Array>,
    weight: Option<Array>,
    bias: Option<Array>,
}

impl Parts {
    fn put(&mut self, part: Part, array: Array) {
        let place = match part {
            Part::Down | Part::TableDown => &mut self.down,
            Part::Up | Part::TableUp => &mut self.up,
            Part::Magnitude => &mut self.magnitude,
            Part::Weight => &mut self.weight,
            Part::Bias => &mut self.bias,
        };
        *place = Some(array);
        self.is_table |= matches!(part, Part::TableDown | Part::TableUp);
    }

    fn update(
        self,
        path: &str,
        tensors: &AdapterTensors,
        scales: &Scales,
        is_dora: bool,
    ) -> Result<Update> {
        match self {
            Self {
                down: Some(down), up: Some(up), weight: None, bias: None, magnitude, ..
            } => {
                if is_dora != magnitude.is_some() || magnitude.is_some() && self.is_table {
                    let message = format!("\"{path}\": a magnitude where none belongs, or none");
                    return Err(tensors.error(message));
                }
                let scale = scales.of_module(path, down.dim(0))?;
                let [down, up] = tensors.low_rank(path, [down, up], scale)?;
                Ok(Update::LowRank(LowRank { down, up, magnitude, in_head: false }))
            }
            Self { down: None, up: None, magnitude: None, weight: Some(weight), bias, .. } => {
                Ok(Update::Replaced { weight, bias })
            }
            _ => Err(tensors.error(format!("\"{path}\" lacks a matrix, or has one too many"))),
        }
    }
}
