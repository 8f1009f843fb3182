//! The experts of a mixture (Shazeer et al. 2017): MLPs whose weights are stacked, so that one
//! product serves tokens of different experts.

use super::activation::{Activation, Combine, gated};
use super::adapter::Additions;
use super::cpu;
use super::cuda;
use super::device::{Backend, Device};
use super::linear::{LinearWeights, Matrix, linear};
use super::norm::{AddNorm, add_norm};
use super::router::{RouterParams, route_top_k};
use crate::error::Result;
use crate::mlx::quantized::{self, QuantizedTensor};
use crate::mlx::{Array, DeviceKind, ops};

/// From this many choices on, a GPU gets tokens sorted by expert, so that it reads each expert's
/// weights once. The CPU's kernels sort by themselves.
const SORT_FROM: usize = 64;

/// From this many choices on, CUDA multiplies with unpacked matrices.
const UNPACK_FROM: usize = 1024;

/// A matrix `[outputs, inputs]` for each expert, stacked.
#[derive(Debug)]
pub enum ExpertMatrix {
    /// `[experts, inputs, outputs]`.
    Dense(Array),
    /// With factors of each expert's outputs, `[experts, 1]` or `[experts, outputs]`, where there
    /// are any.
    Quantized(QuantizedTensor, Option<Array>),
}

impl ExpertMatrix {
    /// Matrices `[experts, outputs, inputs]` as they are.
    pub fn dense(stored: &Array) -> Result<Self> {
        ops::swap_axes(stored, -1, -2).map(Self::Dense)
    }
}

/// What an adapter adds to a projection of experts.
#[derive(Debug)]
pub enum ExpertAddition {
    /// x · downᵀ · upᵀ with matrices for each.
    LowRank {
        /// `[experts, rank, inputs]`.
        down: ExpertMatrix,
        /// `[experts, outputs, rank]`, times the adapter's scale.
        up: ExpertMatrix,
    },
    /// x · wᵀ with other matrices in the place of the layer's.
    Replaced(ExpertMatrix),
}

/// x · wᵀ + b with a matrix and a bias for each expert.
#[derive(Debug)]
pub struct ExpertLinear {
    /// The matrices.
    pub matrix: ExpertMatrix,
    /// `[experts, outputs]`.
    pub bias: Option<Array>,
    /// What adapters add.
    pub additions: Additions<ExpertAddition>,
}

impl ExpertLinear {
    /// A layer of these matrices and biases.
    pub fn new(matrix: ExpertMatrix, bias: Option<Array>) -> Self {
        Self { matrix, bias, additions: Additions::default() }
    }

    /// The same with what adapters add.
    pub fn with_additions(self, additions: Additions<ExpertAddition>) -> Self {
        Self { additions, ..self }
    }

    /// The quantized matrices, if they are all there is.
    fn only_quantized(&self) -> Option<&QuantizedTensor> {
        match (&self.matrix, &self.bias) {
            (ExpertMatrix::Quantized(tensor, None), None) if self.additions.is_empty() => {
                Some(tensor)
            }
            _ => None,
        }
    }
}

/// The weights of all experts.
#[derive(Debug)]
pub struct ExpertsWeights {
    /// From features to hidden ones.
    pub hidden: Hidden,
    /// From hidden features back.
    pub down: ExpertLinear,
}

/// What an expert does before its last projection.
#[derive(Debug)]
pub enum Hidden {
    /// act(gate(x)) · up(x).
    Gated([ExpertLinear; 2], Activation),
    /// f(gate(x), up(x)).
    Combined([ExpertLinear; 2], Combine),
    /// act(up(x)).
    Plain(ExpertLinear, Activation),
}

/// The sum of the chosen experts' outputs times their weights: `x` is `[batch, length, dims]`, the
/// choice and the weights `[batch, length, active]`.
pub fn moe_mlp(
    device: Device,
    x: &Array,
    chosen: &Array,
    weights: &Array,
    experts: &ExpertsWeights,
) -> Result<Array> {
    if let (Some(card), Some((matrices, activation))) = (device.cuda(), experts.for_kernels())
        && let Some(sum) = cuda::products::moe_mlp(card, x, chosen, weights, matrices, activation)?
    {
        return Ok(sum);
    }
    match (device.backend(x), cpu::experts::MoeMlp::of(x, chosen, weights, experts)) {
        (Backend::Cpu(options), Some(moe)) => moe.build(options),
        _ => weighted_sum(&expert_outputs(device, x, chosen, experts)?, weights),
    }
}

/// The sum of outputs `[batch, length, active, dims]` times their weights `[batch, length, active]`.
pub fn weighted_sum(outputs: &Array, weights: &Array) -> Result<Array> {
    let weighted = ops::multiply(outputs, &ops::expand_dims(weights, -1)?)?;
    // The weights may be more precise than the outputs.
    ops::astype(&ops::squeeze(&ops::sum(&weighted, -2)?, -2)?, outputs.dtype())
}

/// What a router and its experts make of a norm.
pub struct NormMoe {
    /// x + delta.
    pub sum: Array,
    /// Its norm, where it was computed by itself.
    pub normed: Option<Array>,
    /// The sum of the chosen experts' outputs times their weights.
    pub output: Array,
}

/// x + delta, and [`moe_mlp`] of its norm, for which `router` chooses.
pub fn norm_moe_mlp(
    device: Device,
    rows: &AddNorm,
    router: &LinearWeights,
    params: &RouterParams,
    experts: &ExpertsWeights,
) -> Result<NormMoe> {
    if let (Some(card), Some(of_kernels), Some(router)) =
        (device.cuda(), rows.for_kernels(), router.only_matrix().and_then(Matrix::operand))
        && let Some((matrices, activation)) = experts.for_kernels()
        && let Some((sum, output)) =
            cuda::products::norm_moe_mlp(card, &of_kernels, router, params, matrices, activation)?
    {
        return Ok(NormMoe { sum, normed: None, output });
    }
    let [sum, normed] = add_norm(device, rows)?;
    let [chosen, weights] = route_top_k(device, &linear(device, &normed, router)?, params)?;
    let output = moe_mlp(device, &normed, &chosen, &weights, experts)?;
    Ok(NormMoe { sum, normed: Some(normed), output })
}

/// `[batch, length, dims]` and choices `[batch, length, active]` to each choice's output,
/// `[batch, length, active, dims]`.
pub fn expert_outputs(
    device: Device,
    x: &Array,
    chosen: &Array,
    experts: &ExpertsWeights,
) -> Result<Array> {
    let (batch, length, dims) = (x.dim(0), x.dim(1), x.dim(2));
    let active = chosen.dim(2);
    if chosen.size() < SORT_FROM || device.kind == DeviceKind::Cpu {
        let x = ops::reshape(x, &[batch, length, 1, 1, dims])?;
        return ops::squeeze(&run(device, &x, chosen, false, experts)?, -2);
    }
    let flat = ops::reshape(chosen, &[-1])?;
    let order = ops::argsort(&flat, 0)?;
    let tokens = ops::floor_divide(&order, &Array::from_int(active))?;
    let tokens = ops::astype(&tokens, order.dtype())?;
    let x = ops::reshape(x, &[batch * length, 1, dims])?;
    let sorted = ops::take(&x, &tokens, 0)?;
    let outputs = run(device, &sorted, &ops::take(&flat, &order, 0)?, true, experts)?;
    let outputs = ops::take(&outputs, &ops::argsort(&order, 0)?, 0)?;
    ops::reshape(&outputs, &[batch, length, active, dims])
}

fn run(
    device: Device,
    x: &Array,
    chosen: &Array,
    sorted: bool,
    experts: &ExpertsWeights,
) -> Result<Array> {
    let linear =
        |x: &Array, weights: &ExpertLinear| expert_linear(device, x, weights, chosen, sorted);
    let hidden = match &experts.hidden {
        Hidden::Gated([gate, up], activation) => {
            gated(device, *activation, &linear(x, gate)?, &linear(x, up)?)?
        }
        Hidden::Combined([gate, up], combine) => {
            combine.apply(&linear(x, gate)?, &linear(x, up)?)?
        }
        Hidden::Plain(up, activation) => activation.apply(&linear(x, up)?)?,
    };
    linear(&hidden, &experts.down)
}

/// The outputs of the experts that `chosen`, of `x`'s shape but for its last two axes, names;
/// `sorted` promises that `chosen` ascends.
pub fn expert_linear(
    device: Device,
    x: &Array,
    weights: &ExpertLinear,
    chosen: &Array,
    sorted: bool,
) -> Result<Array> {
    let of = |matrix, x| gather_matmul(device, x, matrix, chosen, sorted);
    let product = match weights.additions.current().as_deref() {
        Some(ExpertAddition::Replaced(matrix)) => of(matrix, x)?,
        Some(ExpertAddition::LowRank { down, up }) => {
            let (product, added) = (of(&weights.matrix, x)?, of(up, &of(down, x)?)?);
            ops::add(&product, &ops::astype(&added, product.dtype())?)?
        }
        None => of(&weights.matrix, x)?,
    };
    match &weights.bias {
        Some(bias) => {
            let bias = ops::expand_dims(&ops::take(bias, chosen, 0)?, -2)?;
            ops::add(&product, &bias)
        }
        None => Ok(product),
    }
}

fn gather_matmul(
    device: Device,
    x: &Array,
    matrix: &ExpertMatrix,
    chosen: &Array,
    sorted: bool,
) -> Result<Array> {
    match matrix {
        ExpertMatrix::Dense(weight) => match device.backend(x) {
            Backend::Cpu(options) if cpu::gathered::reads(weight) => {
                cpu::gathered::gather_matmul(options, x, weight, chosen)
            }
            Backend::Cpu(_) | Backend::Mlx => ops::gather_matmul(x, weight, chosen, sorted),
            Backend::Plain => ops::matmul(x, &ops::take(weight, chosen, 0)?),
        },
        ExpertMatrix::Quantized(tensor, factors) => {
            let product = match device.backend(x) {
                Backend::Cpu(options) => {
                    cpu::gathered::gather_quantized_matmul(options, x, tensor, chosen)?
                }
                Backend::Mlx => match unpacked(device, tensor, chosen, sorted)? {
                    Some(matrices) => ops::gather_matmul(x, &matrices, chosen, sorted)?,
                    None => quantized::gather_matmul(x, tensor, chosen, sorted)?,
                },
                Backend::Plain => {
                    let matrices = ops::swap_axes(&quantized::dequantize(tensor)?, -1, -2)?;
                    ops::matmul(x, &ops::take(&matrices, chosen, 0)?)?
                }
            };
            let Some(factors) = factors else { return Ok(product) };
            let factors = ops::expand_dims(&ops::take(factors, chosen, 0)?, -2)?;
            ops::multiply(&product, &ops::astype(&factors, product.dtype())?)
        }
    }
}

/// `[experts, inputs, outputs]` as numbers where a card multiplies those faster, as
/// benches/cuda found it.
fn unpacked(
    device: Device,
    tensor: &QuantizedTensor,
    chosen: &Array,
    sorted: bool,
) -> Result<Option<Array>> {
    match device.cuda() {
        Some(card) if sorted && chosen.size() >= UNPACK_FROM => {
            let matrices = cuda::unpack::dequantize(card, tensor)?;
            matrices.map(|matrices| ops::swap_axes(&matrices, -1, -2)).transpose()
        }
        _ => Ok(None),
    }
}

impl ExpertsWeights {
    /// Gate, up and down and the activation, as the kernels take them.
    pub(super) fn for_kernels(&self) -> Option<([&QuantizedTensor; 3], Activation)> {
        let Hidden::Gated([gate, up], activation) = &self.hidden else { return None };
        let matrices = [gate.only_quantized()?, up.only_quantized()?, self.down.only_quantized()?];
        Some((matrices, *activation))
    }
}
