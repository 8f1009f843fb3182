//! Feed-forward blocks.

use std::fmt::Debug;

use super::linear::{Linear, Projections};
use super::norm::Norm;
use super::residual::Input;
use crate::error::Result;
use crate::fused::Device;
use crate::fused::activation::{Activation, Combine};
use crate::fused::mlp::{Gate, MlpWeights};
use crate::mlx::{Array, eval, from_u32, ops, scalar};
use crate::weights::Weights;

/// What a layer does to each position by itself.
pub trait FeedForward: Debug {
    /// `[batch, length, dims]` to the same shape.
    fn forward(&self, x: &Input) -> Result<Array>;

    /// Whether nothing of another layer, which is of all positions of a step, is added to it.
    fn is_of_one_layer(&self) -> bool {
        true
    }
}

impl FeedForward for Linear {
    fn forward(&self, x: &Input) -> Result<Array> {
        Self::forward(self, x.array()?)
    }
}

/// down(act(gate(x)) · up(x)) (Shazeer 2020).
#[derive(Debug)]
pub struct Mlp {
    weights: MlpWeights,
    device: Device,
}

impl Mlp {
    /// Takes `gate_proj`, `up_proj` and `down_proj`.
    pub fn new(
        w: &Weights,
        dims: i32,
        hidden: i32,
        bias: bool,
        activation: Activation,
    ) -> Result<Self> {
        Self::named(w, ["gate_proj", "up_proj", "down_proj"], dims, hidden, bias, activation)
    }

    /// Takes the projections of the gate, up and down by these names.
    pub fn named(
        w: &Weights,
        [gate, up, down]: [&str; 3],
        dims: i32,
        hidden: i32,
        bias: bool,
        activation: Activation,
    ) -> Result<Self> {
        let gate_up = vec![
            (Linear::new(&w.at(gate), dims, hidden, bias)?, hidden),
            (Linear::new(&w.at(up), dims, hidden, bias)?, hidden),
        ];
        let gate_up = Projections::new(w, gate_up)?;
        let down = Linear::new(&w.at(down), hidden, dims, bias)?;
        Ok(Self::of(w, gate_up, down, activation))
    }

    /// Takes one projection of the gate and up, whose outputs follow each other, and that of down
    /// by these names.
    pub fn fused(
        w: &Weights,
        names: [&str; 2],
        dims: i32,
        hidden: i32,
        bias: bool,
        activation: Activation,
    ) -> Result<Self> {
        Self::of_fused(w, names, dims, hidden, bias, activation, Ok)
    }

    /// [`Mlp::fused`] of a projection that gives up before the gate, without biases.
    pub fn fused_up_first(
        w: &Weights,
        names: [&str; 2],
        dims: i32,
        hidden: i32,
        activation: Activation,
    ) -> Result<Self> {
        let rows = (hidden..2 * hidden).chain(0..hidden);
        let ordered = |gate_up| with_rows(gate_up, rows);
        Self::of_fused(w, names, dims, hidden, false, activation, ordered)
    }

    /// [`Mlp::fused`] of a projection whose outputs are of the gate and of up by turns.
    pub fn fused_by_turns(
        w: &Weights,
        names: [&str; 2],
        dims: i32,
        hidden: i32,
        bias: bool,
        activation: Activation,
    ) -> Result<Self> {
        let rows = (0..hidden).map(|row| 2 * row);
        let rows = rows.clone().chain(rows.map(|row| row + 1));
        let ordered = |gate_up| with_rows(gate_up, rows);
        Self::of_fused(w, names, dims, hidden, bias, activation, ordered)
    }

    /// Takes the projection of the gate and up, which `ordered` brings into this order.
    fn of_fused(
        w: &Weights,
        [gate_up, down]: [&str; 2],
        dims: i32,
        hidden: i32,
        bias: bool,
        activation: Activation,
        ordered: impl FnOnce(Linear) -> Result<Linear>,
    ) -> Result<Self> {
        let gate_up = ordered(Linear::new(&w.at(gate_up), dims, 2 * hidden, bias)?)?;
        let gate_up = Projections::stacked(gate_up, &[hidden, hidden]);
        let down = Linear::new(&w.at(down), hidden, dims, bias)?;
        Ok(Self::of(w, gate_up, down, activation))
    }

    fn of(w: &Weights, gate_up: Projections, down: Linear, activation: Activation) -> Self {
        let (gate_up, down) = (gate_up.into_weights(), down.into_weights());
        let gate = Gate::Plain;
        let weights = MlpWeights { gate_up, down, activation, gate, hidden_norm: None };
        Self { weights, device: w.device() }
    }

    /// The same with act(factor · gate(x)) for its gate.
    pub fn with_gate_scale(mut self, factor: f32) -> Self {
        self.weights.gate = Gate::Scaled(factor);
        self
    }

    /// The same whose hidden features are what this makes of the gate and up.
    pub fn combined(mut self, combine: Combine) -> Self {
        self.weights.gate = Gate::Combined(combine);
        self
    }

    /// The same with a norm in front of the last projection (Wang et al. 2022, "Magneto").
    pub fn with_hidden_norm(mut self, norm: Norm) -> Self {
        self.weights.hidden_norm = Some(norm.into_params());
        self
    }

    /// Lets only the largest gates through, all but about this share (above 0, below 1) of them:
    /// what is above mean + Φ⁻¹(share) · deviation, as gates of a normal distribution would be (You
    /// et al. 2025, "Spark Transformer").
    pub fn with_sparsity(mut self, share: f32) -> Result<Self> {
        let quantile = ops::erfinv(&scalar(2.0 * share - 1.0))?;
        let cutoff = ops::multiply(&quantile, &scalar(std::f32::consts::SQRT_2))?;
        eval(&[&cutoff])?;
        self.weights.gate = Gate::Sparse(cutoff);
        Ok(self)
    }
}

fn with_rows(linear: Linear, rows: impl Iterator<Item = i32>) -> Result<Linear> {
    let rows: Vec<_> = rows.map(i32::unsigned_abs).collect();
    linear.with_rows(&from_u32(&rows, &[rows.len() as i32]))
}

impl FeedForward for Mlp {
    fn forward(&self, x: &Input) -> Result<Array> {
        x.mlp(self.device, &self.weights)
    }
}

/// out(act(in(x))).
#[derive(Debug)]
pub struct PlainMlp {
    input: Linear,
    output: Linear,
    activation: Activation,
}

impl PlainMlp {
    /// An MLP of these projections.
    pub fn of(input: Linear, output: Linear, activation: Activation) -> Self {
        Self { input, output, activation }
    }

    /// Takes the two projections, input and output, by their names.
    pub fn new(
        w: &Weights,
        names: [&str; 2],
        dims: i32,
        hidden: i32,
        bias: bool,
        activation: Activation,
    ) -> Result<Self> {
        Ok(Self {
            input: Linear::new(&w.at(names[0]), dims, hidden, bias)?,
            output: Linear::new(&w.at(names[1]), hidden, dims, bias)?,
            activation,
        })
    }
}

impl FeedForward for PlainMlp {
    fn forward(&self, x: &Input) -> Result<Array> {
        self.output.forward(&self.activation.apply(&self.input.forward(x.array()?)?)?)
    }
}
