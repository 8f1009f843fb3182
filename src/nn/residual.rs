//! The residual stream.

use super::norm::Norm;
use crate::error::Result;
use crate::mlx::fast::NormedSum;
use crate::mlx::{Array, ops};

/// The residual stream (He et al. 2016) between two blocks. What the last block adds to it waits for whoever reads it next: one kernel then does both.
#[derive(Debug, Clone)]
pub struct Residual {
    /// `[batch, length, dims]`.
    x: Array,
    /// What is to be added, of the same shape.
    delta: Option<Array>,
}

impl From<Array> for Residual {
    fn from(x: Array) -> Self {
        Self { x, delta: None }
    }
}

impl Residual {
    /// `x` + `delta`.
    pub fn sum(x: Array, delta: Array) -> Self {
        Self { x, delta: Some(delta) }
    }

    /// `[batch, length, dims]`, with everything added.
    pub fn settled(&self) -> Result<Array> {
        match &self.delta {
            Some(delta) => ops::add(&self.x, delta),
            None => Ok(self.x.clone()),
        }
    }

    /// The stream with everything added, and its norm.
    pub fn normed(&self, norm: &Norm) -> Result<[Array; 2]> {
        match self.before(norm) {
            Some(rows) => rows.compute(),
            None => {
                let x = self.settled()?;
                let normed = norm.forward(&x)?;
                Ok([x, normed])
            }
        }
    }

    /// The stream to which what `block` makes of its norm is added.
    pub fn add(&self, norm: &Norm, block: impl FnOnce(&Array) -> Result<Array>) -> Result<Self> {
        let [x, normed] = self.normed(norm)?;
        Ok(Self::sum(x, block(&normed)?))
    }

    /// What a root-mean-square norm is computed of; `None` for another norm.
    pub(super) fn before<'a>(&'a self, norm: &'a Norm) -> Option<NormedSum<'a>> {
        let (weight, eps) = norm.root_mean_square()?;
        Some(NormedSum { x: &self.x, delta: self.delta.as_ref(), weight, eps })
    }

    /// The stream to which something else made of the delta is added.
    pub(super) fn map_delta(self, map: impl FnOnce(&Array) -> Result<Array>) -> Result<Self> {
        Ok(Self { delta: self.delta.as_ref().map(map).transpose()?, ..self })
    }
}
