//! Our CPU kernels as nodes of MLX's graph.

mod attention;
mod experts;
mod gathered;
mod products;
mod recurrence;
mod sampling;

use std::cell::Cell;
use std::ffi::CStr;

use half::{bf16, f16};

use super::primitive::{Input, Kernel, Output, custom_each, custom_one};
use super::{Array, Dtype, is_float, on_gpu};
use crate::cpu::activation::{Activation, gated};
use crate::cpu::{Exec, Floats, Isa, Precision, norm};
use crate::error::{Error, Result};

pub(super) use attention::{attention, cached_attention, rope, takes_attention, takes_positions};
pub(super) use experts::{choose_experts, weighted_experts};
pub(super) use gathered::{gather_matmul, gather_quantized_matmul, takes_stack};
pub(super) use products::{
    gated_products, linear, normed_matmuls, normed_mlp, quantized_matmuls, quantized_rows,
    takes_weight,
};
pub(super) use recurrence::{causal_conv, recurrence};
pub(super) use sampling::{draw, log_probabilities, most_likely, penalize};

thread_local! {
    static PRECISION: Cell<Precision> = const { Cell::new(Precision::Fast) };
}

/// Chooses the precision of the products on this thread's CPU from now on.
pub fn set_precision(precision: Precision) {
    PRECISION.set(precision);
}

/// The precision of the products on this thread's CPU.
pub fn precision() -> Precision {
    PRECISION.get()
}

/// Whether an operation on `x` is ours: on the CPU, in `f32`.
pub(super) fn take(x: &Array) -> bool {
    !on_gpu() && x.dtype() == Dtype::Float32
}

fn exec() -> Exec {
    Exec { isa: Isa::best(), precision: precision() }
}

/// Whether an array has one of the types of [`Floats`].
fn readable(array: &Array) -> bool {
    is_float(array.dtype()) && array.dtype() != Dtype::Float64
}

/// The memory of an input of any float type, from its first to its last element.
fn float_span<'a>(input: &Input<'a>) -> Result<Floats<'a>> {
    match input.dtype() {
        Dtype::Float32 => input.span().map(Floats::F32),
        Dtype::Float16 => input.span::<f16>().map(Floats::F16),
        Dtype::Bfloat16 => input.span::<bf16>().map(Floats::Bf16),
        other => Err(Error::Mlx(format!("{other:?} instead of floating-point numbers"))),
    }
}

/// The elements of an input of any float type.
fn floats<'a>(input: &Input<'a>) -> Result<Floats<'a>> {
    if !input.contiguous() {
        return Err(Error::Mlx("a contiguous array was expected".to_owned()));
    }
    float_span(input)
}

struct RmsNorm {
    eps: f32,
}

impl Kernel for RmsNorm {
    const NAME: &'static CStr = c"RmsNorm";

    fn run(&self, inputs: &[Input], outputs: &mut [Output]) -> Result<()> {
        norm_rows(&inputs[0], inputs.get(1), self.eps, outputs[0].slice()?)
    }
}

fn norm_rows(x: &Input, weight: Option<&Input>, eps: f32, normed: &mut [f32]) -> Result<()> {
    let dims = x.shape().last().map_or(0, |&dim| dim as usize);
    let weight = weight.map(floats).transpose()?;
    norm::rms_norm(&x.values()?, None, weight, dims, eps, normed, Isa::best())
}

/// Root-mean-square norm over the last axis.
pub(super) fn rms_norm(x: &Array, weight: Option<&Array>, eps: f32) -> Result<Array> {
    let inputs: Vec<_> = [x].into_iter().chain(weight).collect();
    custom_one(RmsNorm { eps }, &inputs, x.shape(), Dtype::Float32)
}

struct AddRmsNorm {
    eps: f32,
}

impl Kernel for AddRmsNorm {
    const NAME: &'static CStr = c"AddRmsNorm";

    fn run(&self, inputs: &[Input], outputs: &mut [Output]) -> Result<()> {
        let [sum, normed] = outputs else {
            return Err(Error::Mlx(format!("{} outputs", outputs.len())));
        };
        let weight = inputs.get(2);
        add_and_norm(&inputs[0], &inputs[1], weight, self.eps, sum.slice()?, normed.slice()?)
    }
}

fn add_and_norm(
    x: &Input,
    delta: &Input,
    weight: Option<&Input>,
    eps: f32,
    sum: &mut [f32],
    normed: &mut [f32],
) -> Result<()> {
    let dims = x.shape().last().map_or(0, |&dim| dim as usize);
    let weight = weight.map(floats).transpose()?;
    sum.copy_from_slice(&x.values()?);
    norm::rms_norm(&delta.values()?, Some(sum), weight, dims, eps, normed, Isa::best())
}

/// x + delta, and its root-mean-square norm over the last axis.
pub(super) fn add_rms_norm(
    x: &Array,
    delta: &Array,
    weight: Option<&Array>,
    eps: f32,
) -> Result<[Array; 2]> {
    let inputs: Vec<_> = [x, delta].into_iter().chain(weight).collect();
    custom_each(AddRmsNorm { eps }, &inputs, [(x.shape(), Dtype::Float32); 2])
}

struct Gate(Activation);

impl Kernel for Gate {
    const NAME: &'static CStr = c"GatedActivation";

    fn run(&self, inputs: &[Input], outputs: &mut [Output]) -> Result<()> {
        let (gate, up) = (inputs[0].values()?, inputs[1].values()?);
        gated(self.0, &gate, &up, outputs[0].slice()?, Isa::best())
    }
}

/// activation(gate) · up.
pub(super) fn gate(activation: Activation, gate: &Array, up: &Array) -> Result<Array> {
    custom_one(Gate(activation), &[gate, up], gate.shape(), Dtype::Float32)
}

#[cfg(test)]
mod tests;
