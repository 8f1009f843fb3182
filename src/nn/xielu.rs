//! An MLP whose activation is trained (Huang and Schlag 2024, "Deriving Activation Functions Using
//! Integration").

use super::linear::Linear;
use super::mlp::FeedForward;
use super::residual::Input;
use crate::error::Result;
use crate::mlx::{Array, Dtype, ops, scalar, to_f32_vec};
use crate::weights::Weights;

/// down(act(up(x))), with act(x) = α₊ x² + β x above 0, and α₋ (exp(min(x, ε)) − 1 − x) + β x up to
/// it.
#[derive(Debug)]
pub struct XieluMlp {
    up: Linear,
    down: Linear,
    positive: f32,
    negative: f32,
    beta: f32,
    eps: f32,
}

impl XieluMlp {
    /// Takes `up_proj`, `down_proj`, and the numbers of the activation, `act_fn`: α₊ is
    /// softplus(`alpha_p`), α₋ is β + softplus(`alpha_n`).
    pub fn new(w: &Weights, dims: i32, hidden: i32, bias: bool) -> Result<Self> {
        let act = w.at("act_fn");
        let number = |name: &str, default: f32| -> Result<_> {
            let Some(shape) = act.shape(name) else { return Ok(default) };
            let shape: &[i32] = if shape.is_empty() { &[] } else { &[1] };
            Ok(to_f32_vec(&act.take_f32(name, shape)?)?.first().copied().unwrap_or(default))
        };
        let softplus = |x: f32| x.exp().ln_1p();
        let beta = number("beta", 0.5)?;
        Ok(Self {
            up: Linear::new(&w.at("up_proj"), dims, hidden, bias)?,
            down: Linear::new(&w.at("down_proj"), hidden, dims, bias)?,
            positive: softplus(number("alpha_p", 0.0)?),
            negative: beta + softplus(number("alpha_n", 0.0)?),
            beta,
            eps: number("eps", -1e-6)?,
        })
    }

    fn activation(&self, x: &Array) -> Result<Array> {
        let x = &ops::astype(x, Dtype::Float32)?;
        let times = |a: &Array, factor: f32| ops::multiply(a, &scalar(factor));
        let above = times(&ops::square(x)?, self.positive)?;
        let grown = ops::exp(&ops::minimum(x, &scalar(self.eps))?)?;
        let below = ops::subtract(&ops::subtract(&grown, &scalar(1.0))?, x)?;
        let is_positive = ops::less(&scalar(0.0), x)?;
        let curve = ops::select(&is_positive, &above, &times(&below, self.negative)?)?;
        ops::add(&curve, &times(x, self.beta)?)
    }
}

impl FeedForward for XieluMlp {
    fn forward(&self, x: &Input) -> Result<Array> {
        let hidden = self.up.forward(x.array()?)?;
        self.down.forward(&ops::astype(&self.activation(&hidden)?, hidden.dtype())?)
    }
}
