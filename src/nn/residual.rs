//! The residual stream.

use std::cell::OnceCell;
use std::ops::Range;

use super::linear::Projections;
use super::norm::Norm;
use crate::error::Result;
use crate::fused::Device;
use crate::fused::experts::{ExpertsWeights, moe_mlp, norm_moe_mlp};
use crate::fused::linear::{LinearWeights, linear, norm_project};
use crate::fused::mlp::{MlpWeights, mlp, norm_mlp};
use crate::fused::norm::{AddNorm, add_norm};
use crate::fused::router::{RouterParams, route_top_k};
use crate::mlx::{Array, Dtype, ops};

/// The residual stream (He et al. 2016) between two blocks. What the last block adds to it waits
/// for the norm that reads it next, so that one kernel does both.
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
    /// `[batch, length, dims]`, with everything added.
    pub fn materialize(&self) -> Result<Array> {
        match &self.delta {
            Some(delta) => ops::add(&self.x, delta),
            None => Ok(self.x.clone()),
        }
    }

    /// What it is made of.
    pub fn arrays(&self) -> impl Iterator<Item = &Array> {
        std::iter::once(&self.x).chain(&self.delta)
    }

    /// Some of the positions, one behind the other.
    pub fn positions(&self, ranges: &[Range<i32>]) -> Result<Self> {
        let of = |x: &Array| {
            let parts = ranges.iter().map(|range| ops::slice_axis(x, 1, range.start, range.end));
            let parts = parts.collect::<Result<Vec<_>>>()?;
            ops::concatenate(&parts.iter().collect::<Vec<_>>(), 1)
        };
        Ok(Self { x: of(&self.x)?, delta: self.delta.as_ref().map(of).transpose()? })
    }

    /// The norm of the stream, for a block to read.
    pub fn normed<'a>(&'a self, norm: &'a Norm) -> Input<'a> {
        let (sum, normed) = (OnceCell::new(), OnceCell::new());
        Input(Source::Norm { stream: self, norm, sum, normed })
    }
}

/// What a block reads, `[batch, length, dims]`: an array, or the norm of the residual stream, which
/// is not computed before somebody reads it, as products can do that along with their own work.
#[derive(Debug)]
pub struct Input<'a>(Source<'a>);

#[derive(Debug)]
enum Source<'a> {
    Array(Array),
    Norm {
        stream: &'a Residual,
        norm: &'a Norm,
        /// The stream with everything added, as soon as it is known.
        sum: OnceCell<Array>,
        /// What is read, as soon as it is known.
        normed: OnceCell<Array>,
    },
}

impl From<Array> for Input<'_> {
    fn from(array: Array) -> Self {
        Self(Source::Array(array))
    }
}

/// A norm that nobody has computed yet, and where its sum goes.
struct Pending<'a> {
    rows: AddNorm<'a>,
    device: Device,
    sum: &'a OnceCell<Array>,
}

impl Pending<'_> {
    /// Keeps the sum; one that was known before is the same.
    fn with_sum<T>(&self, (sum, output): (Array, T)) -> T {
        let _ = self.sum.set(sum);
        output
    }
}

impl Input<'_> {
    /// The length of an axis.
    pub fn dim(&self, axis: i32) -> i32 {
        self.known().dim(axis)
    }

    /// The type of the elements.
    pub fn dtype(&self) -> Dtype {
        self.known().dtype()
    }

    /// The array, or as long as it is not known, another one of its shape and type.
    fn known(&self) -> &Array {
        match &self.0 {
            Source::Array(array) => array,
            Source::Norm { stream, normed, .. } => normed.get().unwrap_or(&stream.x),
        }
    }

    fn pending(&self) -> Option<Pending<'_>> {
        match &self.0 {
            Source::Norm { stream, norm, sum, normed } if normed.get().is_none() => {
                let (x, delta) = (&stream.x, stream.delta.as_ref());
                let rows = AddNorm { x, delta, norm: norm.params() };
                Some(Pending { rows, device: norm.device(), sum })
            }
            Source::Array(_) | Source::Norm { .. } => None,
        }
    }

    /// The array.
    pub fn array(&self) -> Result<&Array> {
        if let (Some(pending), Source::Norm { normed, .. }) = (self.pending(), &self.0) {
            let [sum, array] = add_norm(pending.device, &pending.rows)?;
            return Ok(normed.get_or_init(|| pending.with_sum((sum, array))));
        }
        Ok(self.known())
    }

    /// The stream to which what a block made of this is added.
    pub fn add(&self, delta: Array) -> Result<Residual> {
        Ok(Residual { x: self.stream()?, delta: Some(delta) })
    }

    /// The stream that this is, or that it is the norm of.
    pub fn stream(&self) -> Result<Array> {
        match &self.0 {
            Source::Array(array) => Ok(array.clone()),
            Source::Norm { stream, sum, .. } => match sum.get() {
                Some(sum) => Ok(sum.clone()),
                None => stream.materialize(),
            },
        }
    }

    /// The projections of it, `[batch, length, outputs]` each.
    pub(super) fn project(&self, projections: &Projections) -> Result<Vec<Array>> {
        let weights = projections.weights();
        match self.pending() {
            Some(pending) => norm_project(pending.device, &pending.rows, weights)
                .map(|result| pending.with_sum(result)),
            None => projections.forward(self.known()),
        }
    }

    /// The experts' outputs for it, as `router` chooses and weighs them.
    pub(super) fn moe(
        &self,
        device: Device,
        router: &LinearWeights,
        params: &RouterParams,
        experts: &ExpertsWeights,
    ) -> Result<Array> {
        let (Some(pending), Source::Norm { normed, .. }) = (self.pending(), &self.0) else {
            let x = self.known();
            let [chosen, weights] = route_top_k(device, &linear(device, x, router)?, params)?;
            return moe_mlp(device, x, &chosen, &weights, experts);
        };
        let result = norm_moe_mlp(pending.device, &pending.rows, router, params, experts)?;
        if let Some(array) = result.normed {
            // Nobody has set it since it was looked at.
            let _ = normed.set(array);
        }
        Ok(pending.with_sum((result.sum, result.output)))
    }

    /// The MLP of it.
    pub(super) fn mlp(&self, device: Device, weights: &MlpWeights) -> Result<Array> {
        match self.pending() {
            Some(pending) => {
                norm_mlp(device, &pending.rows, weights).map(|result| pending.with_sum(result))
            }
            None => mlp(device, self.known(), weights),
        }
    }
}
