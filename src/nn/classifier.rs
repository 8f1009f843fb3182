//! What judges a text by its hidden states.

use super::linear::Linear;
use super::norm::Norm;
use crate::error::Result;
use crate::fused::activation::Activation;
use crate::mlx::{Array, ops};

/// output(norm(act(dense(x)))) of one state for a text.
#[derive(Debug)]
pub struct Classifier {
    /// Which state that is.
    pub pooling: ClassifierPooling,
    /// Of as many outputs as inputs.
    pub dense: Linear,
    /// Behind that; `None` for the hyperbolic tangent.
    pub activation: Option<Activation>,
    /// Behind that.
    pub norm: Option<Norm>,
    /// As many outputs as there are labels.
    pub output: Linear,
    /// How many they are.
    pub labels: i32,
}

/// Which state stands for a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClassifierPooling {
    /// That of its first token.
    First,
    /// The mean of all.
    Mean,
}

impl Classifier {
    /// The states of a text, `[1, length, dims]`, to `[1, dims]`.
    pub(super) fn pool(&self, states: &Array) -> Result<Array> {
        let dims = states.dim(2);
        match self.pooling {
            ClassifierPooling::First => {
                ops::reshape(&ops::slice_axis(states, 1, 0, 1)?, &[1, dims])
            }
            ClassifierPooling::Mean => ops::reshape(&ops::mean(states, 1)?, &[1, dims]),
        }
    }

    /// `[texts, dims]` to `[texts, labels]`.
    pub(super) fn forward(&self, x: &Array) -> Result<Array> {
        let x = self.dense.forward(x)?;
        let mut x = match self.activation {
            Some(activation) => activation.apply(&x)?,
            None => ops::tanh(&x)?,
        };
        if let Some(norm) = &self.norm {
            x = norm.forward(&x)?;
        }
        self.output.forward(&x)
    }
}
