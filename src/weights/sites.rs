//! The layers of a model that adapters can add to, by their paths.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::error::Result;
use crate::fused::adapter::{AdapterId, Additions, Selection};
use crate::fused::embedding::EmbeddingAddition;
use crate::fused::experts::ExpertAddition;
use crate::fused::linear::{LinearAddition, Matrix};
use crate::mlx::quantized::{self, QuantizedTensor};
use crate::mlx::{Array, ops};

/// Where a linear layer's matrix is, once loading is done with it.
#[derive(Debug, Clone)]
pub struct Place {
    matrix: Matrix,
    /// Its first row and the one behind its last, where others lie in the same matrix.
    span: Option<(i32, i32)>,
    /// The outputs of the checkpoint's layer in the order in which the rows stand; `None` for the
    /// same.
    order: Option<Array>,
}

impl Place {
    /// A matrix of its own.
    pub(super) fn of(matrix: &Matrix) -> Self {
        Self { matrix: matrix.clone(), span: None, order: None }
    }

    /// The matrix as floating-point numbers, `[outputs, inputs]`.
    pub fn numbers(&self) -> Result<Array> {
        let rows = |array: &Array| match self.span {
            Some((start, end)) => ops::slice_axis(array, 0, start, end),
            None => Ok(array.clone()),
        };
        match &self.matrix {
            Matrix::Dense { weight, .. } => rows(weight),
            Matrix::Adjusted(adjusted) => rows(&adjusted.dequantize()?),
            Matrix::Quantized(tensor) => quantized::dequantize(&QuantizedTensor {
                weight: rows(&tensor.weight)?,
                scales: rows(&tensor.scales)?,
                biases: tensor.biases.as_ref().map(rows).transpose()?,
                ..*tensor
            }),
        }
    }

    /// Rows of the checkpoint's layer in the order in which they stand here.
    pub fn ordered(&self, rows: &Array) -> Result<Array> {
        match &self.order {
            Some(order) => ops::take(rows, order, 0),
            None => Ok(rows.clone()),
        }
    }
}

/// A linear layer that adapters can add to.
#[derive(Debug, Clone)]
pub struct LinearSite {
    /// What they add.
    pub additions: Additions<LinearAddition>,
    /// Input features.
    pub inputs: i32,
    /// Output features.
    pub outputs: i32,
    /// Whether it has a bias.
    pub bias: bool,
    pub(super) place: Rc<RefCell<Place>>,
}

impl LinearSite {
    /// Where its matrix is.
    pub fn place(&self) -> Place {
        self.place.borrow().clone()
    }

    /// Says that the matrix is now the rows from `start` to `end` of another.
    pub fn stacked(&self, matrix: &Matrix, start: i32, end: i32) {
        let mut place = self.place.borrow_mut();
        *place =
            Place { matrix: matrix.clone(), span: Some((start, end)), order: place.order.take() };
    }

    /// Says that the rows stand in another order, in another matrix.
    pub fn reordered(&self, matrix: &Matrix, order: &Array) {
        *self.place.borrow_mut() =
            Place { matrix: matrix.clone(), span: None, order: Some(order.clone()) };
    }
}

/// A layer that adapters can add to.
#[derive(Debug, Clone)]
pub enum Site {
    /// x · wᵀ + b.
    Linear(LinearSite),
    /// The same with a matrix for each expert.
    Experts {
        /// What adapters add.
        additions: Additions<ExpertAddition>,
        /// Matrices.
        experts: i32,
        /// Input features.
        inputs: i32,
        /// Output features.
        outputs: i32,
    },
    /// Token embeddings.
    Embedding {
        /// What adapters add.
        additions: Additions<EmbeddingAddition>,
        /// Rows.
        vocabulary: i32,
        /// Features.
        dims: i32,
    },
}

/// A program that trains adapters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trainer {
    /// mlx-lm, on a checkpoint as it converts it.
    MlxLm,
    /// PEFT, on a checkpoint as it was published.
    Peft,
}

impl Trainer {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::MlxLm => "mlx-lm",
            Self::Peft => "PEFT",
        }
    }
}

/// The layers of a model that adapters can add to.
#[derive(Debug, Clone, Default)]
pub struct Sites {
    /// The one program whose adapters belong to these matrices, where a conversion multiplies
    /// factors into them; `None` where adapters of both do.
    pub trainer: Option<Trainer>,
    /// Which adapter's additions its layers see.
    pub selection: Selection,
    /// By path.
    pub by_path: BTreeMap<String, Site>,
}

impl Sites {
    /// Forgets what an adapter adds, everywhere.
    pub fn remove(&self, adapter: AdapterId) {
        for site in self.by_path.values() {
            match site {
                Site::Linear(linear) => linear.additions.remove(adapter),
                Site::Experts { additions, .. } => additions.remove(adapter),
                Site::Embedding { additions, .. } => additions.remove(adapter),
            }
        }
    }
}
