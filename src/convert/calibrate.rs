//! Bits for each matrix, by how much a text's next tokens depend on it.
//!
//! mlx-lm's dynamic quantization estimates that from gradients. Here it is measured: one matrix
//! after the other is quantized while all others stay as they are, the model reads the text, and
//! KL(p ‖ p̂) of the next tokens, without and with its codes, is what the matrix costs. Small
//! changes of a matrix cost what the square of their size is, so the cost with other bits is that
//! times the ratio of ‖w − ŵ‖². From the fewest bits on, whatever lowers the sum of the costs most
//! for each byte gets more, while the size allows it.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::Path;

use serde_json::{Map, Value};

use super::job::Job;
use super::shards::Output;
use super::{AFFINE_BITS, Progress, config, tell};
use crate::adapters::{AdapterId, canonical};
use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::fused::embedding::EmbeddingAddition;
use crate::fused::experts::{ExpertAddition, ExpertMatrix};
use crate::fused::linear::{LinearAddition, Matrix};
use crate::fused::{Device, Precision};
use crate::mlx::primitive::Failure;
use crate::mlx::quantized::{self, QuantizationParams};
use crate::mlx::{self, Array, Dtype, ops};
use crate::models::{self, LoadOptions, Loaded};
use crate::weights::{Site, Sites};

/// How large a model is to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum TargetSize {
    /// Bits for each of its numbers, scales and what is not quantized included.
    BitsPerWeight(f64),
    /// Bytes of its tensors.
    Bytes(f64),
}

/// What chooses the bits of a model's matrices.
#[derive(Debug, Clone)]
pub struct Calibration {
    /// The text, of which the first [`MAX_TOKENS`] tokens are read.
    pub tokens: Vec<u32>,
    /// How large the model is to be.
    pub size: TargetSize,
}

/// Tokens of a text that are read; more tell little more, and each matrix costs a reading.
pub const MAX_TOKENS: usize = 4096;
/// Tokens that are read together: their logits are in memory at once.
const CHUNK: usize = 64;
/// Chunks that see what is before them.
const CHUNKS_OF_ONE_TEXT: usize = 8;
/// The most likely next tokens that are compared by themselves, and all others together.
const COMPARED: usize = 64;
/// Probabilities below are rounding.
const LEAST: f64 = 1e-6;
/// Numbers of a matrix by which its errors are compared.
const SAMPLE: usize = 1 << 20;

impl TargetSize {
    /// The bytes of a model of so many numbers.
    fn bytes(self, parameters: u64) -> f64 {
        match self {
            Self::BitsPerWeight(bits) => bits * parameters as f64 / 8.0,
            Self::Bytes(bytes) => bytes,
        }
    }

    /// An error about the option that says it.
    fn error(self, which: &str, bytes: u64, parameters: u64) -> Error {
        let bits = bytes as f64 * 8.0 / parameters.max(1) as f64;
        let option = match self {
            Self::BitsPerWeight(_) => "calibrate.bits",
            Self::Bytes(_) => "calibrate.bytes",
        };
        let message = format!(
            "is out of reach: the {which} that the model can be is {bytes} bytes, {bits:.3} bits \
             per weight"
        );
        Error::argument(option, message)
    }
}

/// A matrix whose bits are to be chosen, or those of all experts, which get the same.
struct Candidate {
    /// The path of its module, without the number of an expert.
    path: String,
    /// The places of its matrices among the jobs.
    jobs: Vec<usize>,
    /// Bytes with each of [`AFFINE_BITS`].
    bytes: [u64; AFFINE_BITS.len()],
    /// ‖w − ŵ‖² / ‖w‖² with each of them.
    errors: [f64; AFFINE_BITS.len()],
    /// The place of its bits in [`AFFINE_BITS`].
    chosen: usize,
    /// What it costs for each of these errors.
    cost: f64,
}

impl Candidate {
    fn loss(&self, choice: usize) -> f64 {
        self.cost * self.errors[choice]
    }
}

/// Chooses the bits of the jobs whose modules are among `free`, and says so in the configuration.
/// The model of the folder `source` is loaded for that.
///
/// # Errors
/// [`Error::InvalidArgument`] for a size that no choice has; those of loading and running the model.
pub(super) fn choose(
    jobs: &mut [Job],
    free: &[String],
    calibration: &Calibration,
    quantization: &mut Map<String, Value>,
    source: &Path,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<()> {
    let mut candidates = Vec::<Candidate>::new();
    let (mut rest, mut parameters) = (0, 0);
    for (at, job) in jobs.iter().enumerate() {
        parameters += job.parameters();
        match job {
            Job::Quantize { path, array, params } if free.contains(path) => {
                let bytes = AFFINE_BITS.map(|bits| {
                    let params = QuantizationParams { bits, ..*params };
                    size(&Job::Quantize { path: path.clone(), array: array.clone(), params })
                });
                let path = without_expert(path);
                match candidates.iter_mut().find(|it| it.path == path) {
                    Some(candidate) => {
                        candidate.jobs.push(at);
                        candidate.bytes.iter_mut().zip(bytes).for_each(|(all, one)| *all += one);
                    }
                    None => candidates.push(Candidate {
                        path,
                        jobs: vec![at],
                        bytes,
                        errors: [0.0; AFFINE_BITS.len()],
                        chosen: 0,
                        cost: 0.0,
                    }),
                }
            }
            _ => rest += size(job),
        }
    }
    let uniform = |choice: usize| candidates.iter().map(|it| it.bytes[choice]).sum::<u64>() + rest;
    let wanted = calibration.size.bytes(parameters);
    let (least, most) = (uniform(0), uniform(AFFINE_BITS.len() - 1));
    if wanted < least as f64 {
        return Err(calibration.size.error("smallest", least, parameters));
    }
    // What a caller was told was rounded.
    if wanted > most as f64 * (1.0 + 1e-6) {
        return Err(calibration.size.error("largest", most, parameters));
    }
    let fitting = (0..AFFINE_BITS.len()).rev().find(|&choice| uniform(choice) as f64 <= wanted);
    // With one bit less than all can have, what is measured is well above the rounding.
    let probe = fitting.unwrap_or(0).saturating_sub(1);
    measure(jobs, &mut candidates, AFFINE_BITS[probe], calibration, source, progress)?;
    distribute(&mut candidates, (wanted as u64).saturating_sub(rest));
    for candidate in &candidates {
        for &job in &candidate.jobs {
            let Job::Quantize { path, params, .. } = &mut jobs[job] else { continue };
            params.bits = AFFINE_BITS[candidate.chosen];
            quantization.insert(path.clone(), config::format(*params));
        }
    }
    Ok(())
}

/// The path of a module without the number of the expert that it is of: experts are computed
/// together, so what is packed of one is packed so of all.
fn without_expert(path: &str) -> String {
    let mut parts: Vec<&str> = path.split('.').collect();
    let is_number = |part: &&str| part.parse::<usize>().is_ok();
    let number = parts.iter().position(|part| *part == "experts").map(|at| at + 1);
    if let Some(at) = number.filter(|&at| parts.get(at).is_some_and(is_number)) {
        parts.remove(at);
    }
    parts.join(".")
}

fn size(job: &Job) -> u64 {
    job.outputs().iter().map(|output: &Output| output.bytes() as u64).sum()
}

/// Gives more bits where they help most, while the sum of bytes allows it.
fn distribute(candidates: &mut [Candidate], bytes: u64) {
    let mut left = bytes.saturating_sub(candidates.iter().map(|it| it.bytes[it.chosen]).sum());
    loop {
        let mut best: Option<(f64, usize, usize)> = None;
        for (at, candidate) in candidates.iter().enumerate() {
            let now = candidate.chosen;
            for choice in now + 1..AFFINE_BITS.len() {
                let more = candidate.bytes[choice] - candidate.bytes[now];
                let gain = (candidate.loss(now) - candidate.loss(choice)) / more.max(1) as f64;
                if more <= left && best.is_none_or(|(most, ..)| gain > most) {
                    best = Some((gain, at, choice));
                }
            }
        }
        let Some((_, at, choice)) = best else { return };
        let candidate = &mut candidates[at];
        left -= candidate.bytes[choice] - candidate.bytes[candidate.chosen];
        candidate.chosen = choice;
    }
}

/// Finds out what each matrix costs with `bits`.
fn measure(
    jobs: &[Job],
    candidates: &mut [Candidate],
    bits: i32,
    calibration: &Calibration,
    source: &Path,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<()> {
    let arrays = |candidate: &Candidate| {
        let arrays = candidate.jobs.iter().filter_map(|&job| match &jobs[job] {
            Job::Quantize { array, params, .. } => Some((array, *params)),
            _ => None,
        });
        arrays.collect::<Vec<_>>()
    };
    let sum = |candidate: &Candidate, of: fn(&Array) -> usize| {
        arrays(candidate).iter().map(|(array, _)| of(array)).sum::<usize>()
    };
    let total_bytes = candidates.iter().map(|it| sum(it, Array::nbytes) as u64).sum();
    let (mut done, mut costs) = (0, Vec::new());
    let mut measured =
        |measured_bytes| tell(progress, Progress::Calibration { measured_bytes, total_bytes });
    measured(0)?;
    let device = Device::cpu(None, Precision::Exact);
    let options = LoadOptions { device, ..LoadOptions::default() };
    let loaded = models::load(source, &options, &mut |_| match measured(0) {
        Ok(()) => ControlFlow::Continue(()),
        Err(_) => ControlFlow::Break(()),
    })?;
    let tokens = &calibration.tokens[..calibration.tokens.len().min(MAX_TOKENS)];
    let reader = Reader::new(loaded, tokens)?;
    let expected = reader.expect(&mut || measured(0))?;
    for candidate in candidates.iter_mut() {
        let matrices = arrays(candidate);
        let Some(&(first, params)) = matrices.first() else { continue };
        let array = &match matrices.len() {
            1 => first.clone(),
            _ => stack(matrices.iter().map(|(array, _)| *array))?,
        };
        mlx::eval(&[array])?;
        candidate.errors = errors(array, params)?;
        let probe = AFFINE_BITS.iter().position(|it| *it == bits).unwrap_or(0);
        let params = QuantizationParams { bits, ..params };
        if let Some(adapter) = reader.quantize(&candidate.path, array, params)? {
            let cost = reader.cost(adapter, &expected, &mut || measured(done));
            reader.sites.remove(adapter);
            // What the text does not need still gets bits, by its errors.
            let cost = cost?.max(1e-12);
            candidate.cost = cost / candidate.errors[probe].max(1e-12);
            costs.push(candidate.cost / array.size() as f64);
        }
        done += array.nbytes() as u64;
        measured(done)?;
        mlx::memory::clear_cache()?;
    }
    // What could not be measured is taken for what is usual.
    costs.sort_by(f64::total_cmp);
    let usual = costs.get(costs.len() / 2).copied().unwrap_or(1.0);
    for candidate in candidates {
        if candidate.cost == 0.0 {
            candidate.cost = usual * sum(candidate, Array::size) as f64;
        }
    }
    Ok(())
}

/// Matrices of one shape along a new first axis.
fn stack<'a>(arrays: impl Iterator<Item = &'a Array>) -> Result<Array> {
    let arrays = arrays.map(|array| ops::expand_dims(array, 0)).collect::<Result<Vec<_>>>()?;
    ops::concatenate(&arrays.iter().collect::<Vec<_>>(), 0)
}

/// ‖w − ŵ‖² / ‖w‖² of some rows with each number of bits.
fn errors(array: &Array, params: QuantizationParams) -> Result<[f64; AFFINE_BITS.len()]> {
    let inputs = array.dim(-1);
    let rows = ops::reshape(array, &[-1, inputs])?;
    let (count, wanted) = (rows.dim(0), (SAMPLE / inputs.max(1) as usize).max(1) as i32);
    let step = (count / wanted).max(1);
    let places: Vec<u32> = (0..count).step_by(step as usize).map(|row| row as u32).collect();
    let rows = ops::take(&rows, &mlx::from_u32(&places, &[places.len() as i32]), 0)?;
    let exact = ops::astype(&rows, Dtype::Float32)?;
    let squares = |array: &Array| -> Result<f64> {
        let sum = ops::sum(&ops::reshape(&ops::square(array)?, &[-1])?, 0)?;
        Ok(mlx::to_f32_vec(&sum)?.first().copied().map_or(0.0, f64::from))
    };
    let whole = squares(&exact)?.max(f64::MIN_POSITIVE);
    let mut errors = [0.0; AFFINE_BITS.len()];
    for (error, bits) in errors.iter_mut().zip(AFFINE_BITS) {
        let tensor = quantized::quantize(&rows, QuantizationParams { bits, ..params })?;
        let codes = ops::astype(&quantized::dequantize(&tensor)?, Dtype::Float32)?;
        *error = squares(&ops::subtract(&exact, &codes)?)? / whole;
    }
    Ok(errors)
}

/// A model that reads a text.
struct Reader<'a> {
    loaded: Loaded,
    sites: Sites,
    /// Sites by the canonical paths of their modules.
    paths: HashMap<String, String>,
    chunks: Vec<&'a [u32]>,
}

/// The likeliest next tokens at each position of a chunk, by the model as it is.
struct Expected {
    /// `[positions, compared]`.
    tokens: Array,
    /// The logarithms of their probabilities, one position behind the other.
    logarithms: Vec<f32>,
}

impl<'a> Reader<'a> {
    fn new(loaded: Loaded, tokens: &'a [u32]) -> Result<Self> {
        if !loaded.model.abilities().writes {
            let message = "the model writes nothing, so no text says what its matrices are worth";
            return Err(Error::argument("calibrate", message));
        }
        let sites = loaded.sites.clone();
        let paths = sites.by_path.keys().map(|path| (canonical(path), path.clone())).collect();
        Ok(Self { loaded, sites, paths, chunks: tokens.chunks(CHUNK).collect() })
    }

    /// Puts codes in the place of a module's numbers, for steps that select the adapter; `None`
    /// where the model has no such module by itself.
    fn quantize(
        &self,
        path: &str,
        array: &Array,
        params: QuantizationParams,
    ) -> Result<Option<AdapterId>> {
        let site = self.paths.get(&canonical(path)).and_then(|path| self.sites.by_path.get(path));
        let id = AdapterId::next();
        let codes = |numbers: &Array| quantized::quantize(numbers, params);
        match site {
            Some(Site::Linear(linear)) if array.shape() == [linear.outputs, linear.inputs] => {
                // In the order in which the rows stand in the loaded model.
                let numbers = ops::astype(&linear.place().numbers()?, array.dtype())?;
                let matrix = Matrix::Quantized(codes(&numbers)?);
                linear.additions.insert(id, LinearAddition::Matrix(matrix));
            }
            Some(Site::Experts { additions, experts, inputs, outputs })
                if array.shape() == [*experts, *outputs, *inputs] =>
            {
                let matrices = ExpertMatrix::Quantized(codes(array)?, None);
                additions.insert(id, ExpertAddition::Replaced(matrices));
            }
            Some(Site::Embedding { additions, vocabulary, dims })
                if array.shape() == [*vocabulary, *dims] =>
            {
                let table = Matrix::Quantized(codes(array)?);
                additions.insert(id, EmbeddingAddition::Replaced(table));
            }
            _ => return Ok(None),
        }
        Ok(Some(id))
    }

    /// What the model as it is expects. `go_on` fails where nobody wants to know any more.
    fn expect(&self, go_on: &mut dyn FnMut() -> Result<()>) -> Result<Vec<Expected>> {
        let mut caches = Vec::new();
        let expected = self.chunks.iter().enumerate().map(|(at, chunk)| {
            go_on()?;
            if at % CHUNKS_OF_ONE_TEXT == 0 {
                caches = self.loaded.model.make_caches();
            }
            let logarithms = self.logarithms(None, chunk, &mut caches)?;
            let vocabulary = logarithms.dim(-1);
            let compared = (COMPARED as i32).min(vocabulary);
            let order = ops::argpartition(&logarithms, vocabulary - compared, -1)?;
            let tokens = ops::slice_axis(&order, 1, vocabulary - compared, vocabulary)?;
            let logarithms = ops::take_along(&logarithms, &tokens, -1)?;
            let logarithms = mlx::to_f32_vec(&logarithms)?;
            Ok(Expected { tokens, logarithms })
        });
        expected.collect()
    }

    /// The mean of KL(p ‖ p̂) over all positions, of the model as it is and with an adapter.
    fn cost(
        &self,
        adapter: AdapterId,
        expected: &[Expected],
        go_on: &mut dyn FnMut() -> Result<()>,
    ) -> Result<f64> {
        let (mut sum, mut positions) = (0.0, 0);
        let mut caches = Vec::new();
        for (at, (chunk, expected)) in self.chunks.iter().zip(expected).enumerate() {
            go_on()?;
            if at % CHUNKS_OF_ONE_TEXT == 0 {
                caches = self.loaded.model.make_caches();
            }
            let found = self.logarithms(Some(adapter), chunk, &mut caches)?;
            let found = mlx::to_f32_vec(&ops::take_along(&found, &expected.tokens, -1)?)?;
            let compared = found.len() / chunk.len();
            let rows = expected.logarithms.chunks(compared).zip(found.chunks(compared));
            sum += rows.map(|(before, after)| divergence(before, after)).sum::<f64>();
            positions += chunk.len();
        }
        Ok(sum / positions.max(1) as f64)
    }

    /// The logarithms of the probabilities of all next tokens, `[positions, vocabulary]`.
    fn logarithms(
        &self,
        adapter: Option<AdapterId>,
        chunk: &[u32],
        caches: &mut [Cache],
    ) -> Result<Array> {
        let tokens = mlx::from_u32(chunk, &[1, chunk.len() as i32]);
        let failure = Failure::default();
        let logits = failure.scope(|| {
            self.sites.selection.scope(adapter, || self.loaded.model.logits(&tokens, caches))
        })?;
        let logits = ops::astype(&ops::squeeze(&logits, 0)?, Dtype::Float32)?;
        let logarithms = ops::subtract(&logits, &ops::logsumexp(&logits, -1)?)?;
        mlx::eval(&[&logarithms])?;
        failure.check()?;
        Ok(logarithms)
    }
}

/// KL(p ‖ p̂) of some tokens and of all others as one, by the logarithms of their probabilities.
fn divergence(before: &[f32], after: &[f32]) -> f64 {
    let (mut sum, mut rest) = (0.0, [1.0, 1.0]);
    for (&before, &after) in before.iter().zip(after) {
        let [p, q] = [before, after].map(|it| f64::from(it).exp());
        sum += p * (f64::from(before) - f64::from(after));
        rest = [rest[0] - p, rest[1] - q];
    }
    let [p, q] = rest.map(|it| it.max(LEAST));
    sum + p * (p / q).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(cost: f64, numbers: u64) -> Candidate {
        Candidate {
            path: String::new(),
            jobs: Vec::new(),
            bytes: AFFINE_BITS.map(|bits| numbers * bits.unsigned_abs() as u64),
            errors: AFFINE_BITS.map(|bits| 0.25_f64.powi(bits)),
            chosen: 0,
            cost,
        }
    }

    #[test]
    fn what_costs_more_gets_more_bits_and_the_size_is_kept() {
        let mut candidates = [candidate(1.0, 100), candidate(1000.0, 100), candidate(1.0, 10)];
        let bytes =
            |candidates: &[Candidate]| candidates.iter().map(|it| it.bytes[it.chosen]).sum::<u64>();
        for wanted in [420, 500, 800, 1000, 1500, 1680, 5000] {
            candidates.iter_mut().for_each(|it| it.chosen = 0);
            distribute(&mut candidates, wanted);
            assert!(bytes(&candidates) <= wanted, "{wanted}");
            let [first, second, small] = [0, 1, 2].map(|at| candidates[at].chosen);
            assert!(first <= second && first <= small, "{wanted}: {first} {second} {small}");
        }
        assert!(candidates.iter().all(|it| AFFINE_BITS[it.chosen] == 8));
    }

    #[test]
    fn experts_are_one_module() {
        for (path, name) in [
            ("blocks.0.ffn.experts.12.w1", "blocks.0.ffn.experts.w1"),
            ("layers.0.mlp.experts.gate_proj", "layers.0.mlp.experts.gate_proj"),
            ("layers.1.mlp.down_proj", "layers.1.mlp.down_proj"),
            ("layers.1.experts", "layers.1.experts"),
        ] {
            assert_eq!(without_expert(path), name);
        }
    }

    #[test]
    fn the_divergence_is_none_of_equals_and_grows_with_the_difference() {
        let logarithms = |of: &[f32]| of.iter().map(|p| p.ln()).collect::<Vec<_>>();
        let before = logarithms(&[0.7, 0.2]);
        assert!(divergence(&before, &before).abs() < 1e-7);
        let [near, far] = [[0.6, 0.3], [0.3, 0.6]].map(|it| divergence(&before, &logarithms(&it)));
        assert!(0.0 < near && near < far);
        // 0.7 ln(0.7 / 0.6) + 0.2 ln(0.2 / 0.3) + 0.1 ln(0.1 / 0.1)
        assert!((near - 0.026_812).abs() < 1e-5, "{near}");
    }
}
