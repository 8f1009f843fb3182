//! Models without their weights: what follows from a configuration and the names, shapes and types
//! of tensors alone. Their graphs are built as those of loaded models are, and never computed.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Map, Value};

use super::config::ConfigFile;
use super::{LanguageModel, MultiTokenPredictor, build, find, room};
use crate::cache::{Cache, CacheLimits, CacheSize};
use crate::error::Result;
use crate::fused::Device;
use crate::mlx::{self, Dtype, GraphsOnly};
use crate::nn::Step;
use crate::weights::{Checkpoint, LoadPlan, Outline, Quantization, TensorOutline, Weights};

/// So many positions tell what states that grow with them take of one: a multiple of the usual
/// sizes of groups, of every one up to 6, and more than the usual windows.
const PROBED: usize = 1920;

/// What the caches of a model within `limits` take: what the graph of a first token, which is never
/// computed, says of one; where states grow with the positions, what graphs of many say.
///
/// # Errors
/// Those of building the graph.
pub fn cache_sizes(model: &dyn LanguageModel, limits: CacheLimits) -> Result<Vec<CacheSize>> {
    let caches = |limits: &CacheLimits| -> Vec<Cache> {
        model.make_caches().into_iter().map(|cache| cache.limited(limits)).collect()
    };
    let begun = begun(model, caches(&limits))?;
    if !begun.iter().any(Cache::has_growing_state) {
        return Ok(begun.iter().flat_map(CacheSize::of).collect());
    }
    // States that stop growing in between would tell too little of a position.
    let mut caches = caches(&CacheLimits { max_size: None, ..limits });
    feed(model, &mut caches, PROBED)?;
    let some = caches.clone();
    feed(model, &mut caches, PROBED)?;
    let all = begun.iter().zip(some.iter().zip(&caches));
    let (probed, most) = (PROBED as i32, limits.max_size);
    Ok(all
        .flat_map(|(it, (some, twice))| CacheSize::of_growing(it, [some, twice], probed, most))
        .collect())
}

/// The same of the caches of a model's own head.
///
/// # Errors
/// Those of building the graph.
pub fn head_cache_sizes(
    model: &dyn LanguageModel,
    head: &dyn MultiTokenPredictor,
    limits: CacheLimits,
) -> Result<Vec<CacheSize>> {
    let caches = head.make_prediction_caches().into_iter();
    let caches = caches.map(|cache| cache.limited(&limits)).collect();
    Ok(head_begun(model, head, caches)?.iter().flat_map(CacheSize::of).collect())
}

/// Empty `caches` of a model after a first token, which is never computed.
///
/// # Errors
/// Those of building the graph.
pub fn begun(model: &dyn LanguageModel, mut caches: Vec<Cache>) -> Result<Vec<Cache>> {
    feed(model, &mut caches, 1)?;
    Ok(caches)
}

/// The same of a model's own head.
///
/// # Errors
/// Those of building the graph.
pub fn head_begun(
    model: &dyn LanguageModel,
    head: &dyn MultiTokenPredictor,
    mut caches: Vec<Cache>,
) -> Result<Vec<Cache>> {
    let first = mlx::from_u32(&[0], &[1, 1]);
    let step = Step::of_one(&first);
    let states = model.states(&step, &mut [&mut model.make_caches()])?;
    head.predict(&step, &states, &mut [&mut caches])?;
    Ok(caches)
}

/// Puts so many tokens into the graphs of caches.
fn feed(model: &dyn LanguageModel, caches: &mut [Cache], tokens: usize) -> Result<()> {
    let tokens = mlx::from_u32(&vec![0; tokens], &[1, tokens as i32]);
    let step = Step::of_one(&tokens).without_logits();
    let abilities = model.abilities();
    match (abilities.writes, abilities.labels) {
        (true, _) => model.forward(&step, &mut [caches]).map(drop),
        (false, Some(_)) => model.classify(&step, &mut [caches]).map(drop),
        (false, None) => model.states(&step, &mut [caches]).map(drop),
    }
}

/// Checks that a checkpoint of these tensors would load. `path` is where messages say that it is.
///
/// # Errors
/// As those of [`super::load`].
pub fn check_tensors(
    path: &Path,
    config: &Map<String, Value>,
    tensors: Vec<TensorOutline>,
) -> Result<()> {
    let config = ConfigFile::of(path, config.clone())?;
    let text = config.text_part_or_whole()?;
    let checkpoint = Checkpoint::outline(path, tensors, Outline::Exact)?;
    outline(&text, &text.quantization()?, &checkpoint, Device::default()).map(drop)
}

/// The paths of the modules of a checkpoint that can be packed: those that adapters can add to.
///
/// # Errors
/// As those of [`super::load`].
pub(super) fn modules(
    text: &ConfigFile,
    quantization: &Quantization,
    checkpoint: &Checkpoint,
) -> Result<BTreeSet<String>> {
    let _graphs = GraphsOnly::new();
    let plan = LoadPlan::new(Device::default().plain(), None);
    let weights = Weights::new(checkpoint, quantization, plan, |_| true);
    build(find(text)?, text, checkpoint, &weights)?;
    let paths = weights.sites().by_path.keys().cloned().collect();
    Ok(paths)
}

/// What is known of a model before its weights are there.
#[derive(Debug, Clone)]
pub struct ModelOutline {
    /// Positions the model is made for.
    pub context_length: Option<usize>,
    /// What the caches of a sequence take.
    pub caches: Vec<CacheSize>,
}

impl ModelOutline {
    /// The outline of a model on a device, by its configuration and what is known of its tensors:
    /// their names say what parts there are, and their types what numbers have.
    ///
    /// # Errors
    /// As those of [`super::load`] about the configuration.
    pub fn new(
        path: &Path,
        tensors: Vec<TensorOutline>,
        device: Device,
        limits: CacheLimits,
    ) -> Result<Self> {
        mlx::enter(device.kind)?;
        let config = ConfigFile::read(path)?;
        let text = config.text_part_or_whole()?;
        text.quantization()?;
        let dtype = declared(&text).unwrap_or(Dtype::Bfloat16);
        let checkpoint = Checkpoint::outline(path, tensors, Outline::Rough(dtype))?;
        let _graphs = GraphsOnly::new();
        let model = outline(&text, &Quantization::default(), &checkpoint, device)?;
        Ok(Self { context_length: room(&config, &text), caches: cache_sizes(&*model, limits)? })
    }
}

fn outline(
    text: &ConfigFile,
    quantization: &Quantization,
    checkpoint: &Checkpoint,
    device: Device,
) -> Result<Box<dyn LanguageModel>> {
    let _graphs = GraphsOnly::new();
    let plan = LoadPlan::new(device.plain(), None);
    let weights = Weights::new(checkpoint, quantization, plan, |_| true);
    build(find(text)?, text, checkpoint, &weights)
}

/// The type that the configuration names.
fn declared(text: &ConfigFile) -> Option<Dtype> {
    let name = ["torch_dtype", "dtype"]
        .into_iter()
        .find_map(|field| text.optional::<String>(field).ok().flatten())?;
    [Dtype::Float16, Dtype::Bfloat16, Dtype::Float32]
        .into_iter()
        .find(|&dtype| mlx::dtype_name(dtype) == name)
}
