//! Gated activations.

use std::ffi::CStr;

use super::{CpuKernel, NodeOptions};
use crate::cpu::ExecOptions;
use crate::cpu::activation::{self, Activation};
use crate::error::Result;
use crate::mlx::Array;
use crate::mlx::primitive::{Input, Output};

/// The kernels' word for an activation; `None` for one that they do not have.
pub fn of(activation: super::super::activation::Activation) -> Option<Activation> {
    use super::super::activation::Activation as All;
    match activation {
        All::Silu => Some(Activation::Silu),
        All::Gelu => Some(Activation::Gelu),
        All::GeluTanh => Some(Activation::GeluTanh),
        All::Relu => Some(Activation::Relu),
        All::ReluSquared => None,
    }
}

struct Gate(Activation);

impl CpuKernel for Gate {
    const NAME: &'static CStr = c"GatedActivation";

    fn run(&self, inputs: &[Input], outputs: &mut [Output], exec: ExecOptions) -> Result<()> {
        let (gate, up) = (inputs[0].values()?, inputs[1].values()?);
        Ok(activation::gated(self.0, &gate, &up, outputs[0].slice()?, exec.isa)?)
    }
}

/// activation(gate) · up.
pub fn gated(
    options: NodeOptions,
    activation: Activation,
    gate: &Array,
    up: &Array,
) -> Result<Array> {
    options.build_one(Gate(activation), &[gate, up], gate.shape())
}
