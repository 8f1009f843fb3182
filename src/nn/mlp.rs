//! Feed-forward blocks.

use std::fmt::Debug;

use super::activation::Activation;
use super::decoder::scaled;
use super::linear::{Linear, Projections};
use super::norm::Norm;
use super::residual::Residual;
use crate::error::Result;
use crate::mlx::{Array, eval, ops, scalar};
use crate::weights::Weights;

/// What a layer does to each position by itself.
pub trait FeedForward: Debug {
    /// `[batch, length, dims]` to the same shape.
    fn forward(&self, x: &Array) -> Result<Array>;

    /// The stream to which [`FeedForward::forward`] of its norm is added.
    fn add_to(&self, stream: &Residual, norm: &Norm) -> Result<Residual> {
        stream.add(norm, |normed| self.forward(normed))
    }
}

/// down(act(gate(x)) · up(x)) (Shazeer 2020).
#[derive(Debug)]
pub struct Mlp {
    gate_up: Projections,
    down: Linear,
    activation: Activation,
    /// Multiplies the gate before its activation; `None` for 1.
    gate_scale: Option<f32>,
    /// How many standard deviations above its mean a gate is cut off; `None` does not.
    cutoff: Option<Array>,
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
        let gate_up = Projections::new(vec![
            (Linear::new(&w.at(gate), dims, hidden, bias)?, hidden),
            (Linear::new(&w.at(up), dims, hidden, bias)?, hidden),
        ])?;
        let down = Linear::new(&w.at(down), hidden, dims, bias)?;
        Ok(Self { gate_up, down, activation, gate_scale: None, cutoff: None })
    }

    /// Takes one projection of the gate and up, whose outputs follow each other, and that of down by these
    /// names.
    pub fn fused(
        w: &Weights,
        [gate_up, down]: [&str; 2],
        dims: i32,
        hidden: i32,
        bias: bool,
        activation: Activation,
    ) -> Result<Self> {
        let gate_up = Linear::new(&w.at(gate_up), dims, 2 * hidden, bias)?;
        let gate_up = Projections::stacked(gate_up, &[hidden, hidden]);
        let down = Linear::new(&w.at(down), hidden, dims, bias)?;
        Ok(Self { gate_up, down, activation, gate_scale: None, cutoff: None })
    }

    /// The same with act(factor · gate(x)) for its gate.
    pub fn with_gate_scale(self, factor: f32) -> Self {
        Self { gate_scale: Some(factor), ..self }
    }

    /// Lets only the largest gates through, all but about this share (above 0, below 1) of them: what is
    /// above mean + Φ⁻¹(share) · deviation, as gates of a normal distribution would be (You et al. 2025,
    /// "Spark Transformer").
    pub fn with_sparsity(self, share: f32) -> Result<Self> {
        let quantile = ops::erfinv(&scalar(2.0 * share - 1.0))?;
        let cutoff = ops::multiply(&quantile, &scalar(std::f32::consts::SQRT_2))?;
        eval(&[&cutoff])?;
        Ok(Self { cutoff: Some(cutoff), ..self })
    }

    /// Whether the gate is what the projection gives.
    fn is_plain(&self) -> bool {
        self.gate_scale.is_none() && self.cutoff.is_none()
    }
}

impl FeedForward for Mlp {
    fn forward(&self, x: &Array) -> Result<Array> {
        if self.is_plain()
            && let Some(hidden) = self.gate_up.gated(x, self.activation)?
        {
            return self.down.forward(&hidden);
        }
        let mut gate_up = self.gate_up.forward(x)?;
        if let Some(factor) = self.gate_scale {
            gate_up[0] = scaled(&gate_up[0], factor)?;
        }
        if let Some(cutoff) = &self.cutoff {
            let gate = &gate_up[0];
            let reach = ops::standard_deviation(gate, -1)?;
            let reach = ops::multiply(&reach, &ops::astype(cutoff, gate.dtype())?)?;
            let cut = ops::subtract(gate, &ops::add(&ops::mean(gate, -1)?, &reach)?)?;
            gate_up[0] = Activation::Relu.apply(&cut)?;
        }
        self.down.forward(&self.activation.gated(&gate_up[0], &gate_up[1])?)
    }

    fn add_to(&self, stream: &Residual, norm: &Norm) -> Result<Residual> {
        if self.is_plain()
            && let Some(rows) = stream.before(norm)
            && let Some((x, y)) = self.gate_up.normed_mlp(&rows, &self.down, self.activation)?
        {
            return Ok(Residual::sum(x, y));
        }
        stream.add(norm, |normed| self.forward(normed))
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
    fn forward(&self, x: &Array) -> Result<Array> {
        self.output.forward(&self.activation.apply(&self.input.forward(x)?)?)
    }
}
