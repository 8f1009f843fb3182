//! Tensors that are made of those of other programs when they are taken.

use std::ops::Range;
use std::sync::Arc;

use super::numbers::rows_as_bytes;
use super::source::Source;
use crate::error::Result;
use crate::mlx::quantized::{Mode, QuantizationParams};
use crate::mlx::{Array, Dtype, from_bytes};
use crate::weights::LoadPlan;
use crate::weights::file::{Entry, WeightFile};

/// Computes a row by its number.
pub(super) type FillRow = Box<dyn Fn(usize, &mut [f32]) + Send + Sync>;

type Make = Box<dyn Fn() -> Result<Array> + Send + Sync>;

/// A tensor that is made of one of the file, and perhaps of others beside it.
pub(in crate::weights) struct Made {
    /// What it is made of most of all.
    pub(in crate::weights) source: String,
    pub(in crate::weights) file: Arc<WeightFile>,
    /// Its own shape and type, over the bytes of that tensor.
    pub(in crate::weights) entry: Entry,
    make: Make,
}

impl Made {
    pub(super) fn new(
        source: &Source,
        shape: &[usize],
        dtype: Dtype,
        make: impl Fn(&[i32]) -> Result<Array> + Send + Sync + 'static,
    ) -> Self {
        let shape: Vec<i32> = shape.iter().map(|&dim| dim as i32).collect();
        let stored = match dtype {
            Dtype::Uint8 => source.stored(),
            _ => safetensors::Dtype::U32,
        };
        let entry =
            Entry { range: source.entry.range.clone(), shape: shape.clone(), dtype, stored };
        Self {
            source: source.name.clone(),
            file: Arc::clone(&source.file),
            entry,
            make: Box::new(move || make(&shape)),
        }
    }

    /// The bytes of `source`, with another shape and type.
    pub(super) fn renamed(source: &Source, shape: &[usize], dtype: Dtype) -> Self {
        let bytes = source.clone();
        Self::new(source, shape, dtype, move |shape| bytes.array(shape, dtype))
    }

    /// The tensor itself.
    pub(in crate::weights) fn array(&self) -> Result<Array> {
        (self.make)()
    }

    pub(in crate::weights) fn range(&self) -> Range<usize> {
        self.entry.range.clone()
    }
}

/// What the tensors of a layer become.
pub(in crate::weights) struct Converted {
    /// How the matrix is packed; `None` where it is one of numbers.
    pub(in crate::weights) params: Option<QuantizationParams>,
    /// By the ends of their names.
    pub(in crate::weights) tensors: Vec<(&'static str, Made)>,
}

impl Converted {
    pub(super) fn packed(mode: Mode, weight: Made, scales: Made) -> Self {
        let (group_size, bits) = mode.defaults();
        let params = QuantizationParams { mode, group_size, bits };
        Self { params: Some(params), tensors: vec![("weight", weight), ("scales", scales)] }
    }

    /// The same with factors that the outputs are multiplied by: one for all or one for each.
    pub(super) fn times(mut self, source: &Source, factors: Vec<f32>) -> Self {
        if factors.iter().any(|&factor| factor != 1.0) {
            let shape = [factors.len()];
            let made = Made::new(source, &shape, Dtype::Float32, move |shape| {
                from_bytes(
                    &factors.iter().flat_map(|it| it.to_le_bytes()).collect::<Vec<_>>(),
                    shape,
                    Dtype::Float32,
                )
            });
            self.tensors.push((super::OUTPUT_FACTORS, made));
        }
        self
    }

    /// A matrix of numbers, whose rows are computed by what `prepare` gives; `recorded` is the type
    /// that its program computes in.
    pub(super) fn dense(
        plan: LoadPlan,
        source: &Source,
        [rows, columns]: [usize; 2],
        recorded: Dtype,
        prepare: impl Fn() -> Result<FillRow> + Send + Sync + 'static,
    ) -> Self {
        let dtype = plan.dense_type(recorded);
        let weight = Made::new(source, &[rows, columns], dtype, move |shape| {
            from_bytes(&rows_as_bytes(rows, columns, dtype, prepare()?)?, shape, dtype)
        });
        Self { params: None, tensors: vec![("weight", weight)] }
    }
}
