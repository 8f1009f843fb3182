//! The tensors of an adapter's file.

use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::mlx::{Array, Dtype, dtype_name, eval, is_float, ops};
use crate::weights::Checkpoint;

/// The tensors of an adapter's file.
pub(super) struct AdapterTensors {
    path: PathBuf,
    tensors: Checkpoint,
}

impl AdapterTensors {
    pub(super) fn open(path: PathBuf) -> Result<Self> {
        let (tensors, _) = Checkpoint::open_file(&path).map_err(|error| match error {
            Error::Weights { path, message, cause, .. } => {
                Error::adapter(path, message).with_cause(cause)
            }
            other => other,
        })?;
        Ok(Self { path, tensors })
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.names()
    }

    /// Tells these tensors, and what `more` says of them, from others.
    pub(super) fn fingerprint(&self, more: &str) -> String {
        format!("{:016x}", self.tensors.fingerprint(more))
    }

    pub(super) fn error(&self, message: impl Into<String>) -> Error {
        Error::adapter(&self.path, message)
    }

    /// A tensor of floating-point numbers with so many axes, none of them empty.
    pub(super) fn take(&self, name: &str, dims: &[usize]) -> Result<Array> {
        let Some(array) = self.tensors.get(name) else {
            return Err(self.error(format!("tensor \"{name}\" is missing")));
        };
        let array = array?;
        if !is_float(array.dtype()) {
            let found = dtype_name(array.dtype());
            return Err(self.error(format!("tensor \"{name}\" holds {found}, no numbers")));
        }
        if !dims.contains(&array.ndim()) || array.size() == 0 {
            let shape = array.shape();
            return Err(self.error(format!("tensor \"{name}\" has the shape {shape:?}")));
        }
        Ok(array)
    }

    /// up · down of two tensors as products want them, the scale multiplied into the second.
    /// Both may have an axis of experts in front.
    pub(super) fn low_rank(
        &self,
        name: &str,
        [down, up]: [Array; 2],
        scale: f32,
    ) -> Result<[Array; 2]> {
        let rank = down.dim(-2);
        if up.dim(-1) != rank || down.shape().first() != up.shape().first() && down.ndim() == 3 {
            let (a, b) = (down.shape(), up.shape());
            let message = format!("the matrices of \"{name}\" do not fit: {a:?} and {b:?}");
            return Err(self.error(message));
        }
        let precise = ops::astype(&up, Dtype::Float32)?;
        let scaled = ops::multiply(&precise, &crate::mlx::scalar(scale))?;
        let up = ops::contiguous(&ops::astype(&scaled, up.dtype())?)?;
        let down = ops::contiguous(&down)?;
        eval(&[&down, &up])?;
        Ok([down, up])
    }
}
