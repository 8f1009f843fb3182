//! The gated MLP, down(act(gate(x)) · up(x)) (Shazeer 2020).

use super::activation::{Activation, Combine, gated};
use super::cpu;
use super::cuda::{self, product::Operand};
use super::device::{Backend, Device};
use super::linear::{LinearWeights, Matrix, Projections, linear, project};
use super::math::scaled;
use super::norm::{AddNorm, NormParams, add_norm, norm};
use crate::error::Result;
use crate::mlx::quantized::QuantizedTensor;
use crate::mlx::{Array, ops};

/// The weights of an MLP.
#[derive(Debug)]
pub struct MlpWeights {
    /// Gate and up.
    pub gate_up: Projections,
    /// From hidden features back.
    pub down: LinearWeights,
    /// Of the gate.
    pub activation: Activation,
    /// What is done to the gate before its activation.
    pub gate: Gate,
    /// The norm of the hidden features.
    pub hidden_norm: Option<NormParams>,
}

/// What is done to a gate before its activation.
#[derive(Debug)]
pub enum Gate {
    /// Nothing.
    Plain,
    /// It is multiplied.
    Scaled(f32),
    /// Nothing, as it is what makes hidden features of it and of up.
    Combined(Combine),
    /// max(gate − mean − cutoff · deviation, 0) (You et al. 2025, "Spark Transformer").
    Sparse(Array),
}

impl Gate {
    fn apply(&self, gate: &Array) -> Result<Array> {
        match self {
            Self::Plain | Self::Combined(_) => Ok(gate.clone()),
            Self::Scaled(factor) => scaled(gate, *factor),
            Self::Sparse(cutoff) => {
                let distance = ops::standard_deviation(gate, -1)?;
                let distance = ops::multiply(&distance, &ops::astype(cutoff, gate.dtype())?)?;
                let cut = ops::subtract(gate, &ops::add(&ops::mean(gate, -1)?, &distance)?)?;
                Activation::Relu.apply(&cut)
            }
        }
    }
}

/// Gate and up, their activation, and down, as the kernels take them.
struct KernelWeights<'a> {
    gate_up: [&'a QuantizedTensor; 2],
    down: Option<&'a QuantizedTensor>,
    activation: crate::cpu::activation::Activation,
}

impl MlpWeights {
    /// What the kernels are told for rows like `x`; `None` for what they do not do at once.
    fn for_kernels(&self, x: &Array) -> Option<KernelWeights<'_>> {
        let activation = cpu::activation::of(self.activation).filter(|_| self.is_plain())?;
        match self.gate_up.only_quantized().as_deref() {
            Some(&[gate, up]) if cpu::products::gated_at_once(x, [gate, up]) => {
                let down = self.down.only_quantized();
                Some(KernelWeights { gate_up: [gate, up], down, activation })
            }
            _ => None,
        }
    }
}

impl MlpWeights {
    /// Whether its hidden features are act(gate(x)) · up(x).
    fn is_plain(&self) -> bool {
        matches!(self.gate, Gate::Plain) && self.hidden_norm.is_none()
    }

    /// The matrix of gate and up, if they are projections of one matrix and nothing else.
    fn plain_halves(&self) -> Option<Operand<'_>> {
        let halves = self.gate_up.only_halves().filter(|_| self.is_plain());
        halves.and_then(Matrix::operand)
    }
}

/// down(act(gate(x)) · up(x)).
pub fn mlp(device: Device, x: &Array, weights: &MlpWeights) -> Result<Array> {
    if let (Some(card), Some(gate_up)) = (device.cuda(), weights.plain_halves())
        && let Some(hidden) = cuda::products::matmul(card, x, gate_up, Some(weights.activation))?
    {
        return linear(device, &hidden, &weights.down);
    }
    let hidden = match (device.backend(x), weights.for_kernels(x)) {
        (Backend::Cpu(options), Some(KernelWeights { gate_up, activation, .. })) => {
            cpu::products::gated_matmuls(options, x, gate_up, activation)?
        }
        _ => {
            let gate_up = project(device, x, &weights.gate_up)?;
            let gate = weights.gate.apply(&gate_up[0])?;
            match weights.gate {
                Gate::Combined(combine) => combine.apply(&gate, &gate_up[1])?,
                _ => gated(device, weights.activation, &gate, &gate_up[1])?,
            }
        }
    };
    match &weights.hidden_norm {
        Some(hidden_norm) => linear(device, &norm(device, &hidden, hidden_norm)?, &weights.down),
        None => linear(device, &hidden, &weights.down),
    }
}

/// x + delta, and the [`mlp`] of its norm.
pub fn norm_mlp(device: Device, rows: &AddNorm, weights: &MlpWeights) -> Result<(Array, Array)> {
    if let (Some(card), Some(rows), Some(gate_up)) =
        (device.cuda(), rows.for_kernels(), weights.plain_halves())
        && let Some((sum, hidden)) =
            cuda::products::norm_matmul(card, &rows, gate_up, Some(weights.activation))?
    {
        return Ok((sum, linear(device, &hidden, &weights.down)?));
    }
    match (device.backend(rows.x), rows.for_kernels(), weights.for_kernels(rows.x)) {
        (
            Backend::Cpu(options),
            Some(rows),
            Some(KernelWeights { gate_up, down: Some(down), activation }),
        ) if cpu::products::follows(down, gate_up[0]) => {
            cpu::products::norm_mlp(options, &rows, gate_up, down, activation)
        }
        _ => {
            let [sum, normed] = add_norm(device, rows)?;
            Ok((sum, mlp(device, &normed, weights)?))
        }
    }
}
