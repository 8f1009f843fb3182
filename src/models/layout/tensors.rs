//! Named arrays that are not computed before they are asked for.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::mlx::{Array, ops};
use crate::weights::Checkpoint;

/// The tensors of a checkpoint, over its mapped files, or what is to be computed of them.
#[derive(Default)]
pub struct Tensors(BTreeMap<String, Array>);

impl Tensors {
    /// Those of a checkpoint that `named` has a name for.
    pub(super) fn of(
        checkpoint: &Checkpoint,
        named: impl Fn(&str) -> Option<String>,
    ) -> Result<Self> {
        let tensors = checkpoint.names().filter_map(|tensor| {
            let (name, array) = (named(tensor)?, checkpoint.get(tensor)?);
            Some(array.map(|array| (name, array)))
        });
        tensors.collect::<Result<_>>().map(Self)
    }

    /// The tensors and their names, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Array)> {
        self.0.iter().map(|(name, array)| (name.as_str(), array))
    }

    /// A tensor by its name.
    pub fn get(&self, name: &str) -> Option<&Array> {
        self.0.get(name)
    }

    /// Whether there is a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Takes a tensor out.
    pub fn remove(&mut self, name: &str) -> Option<Array> {
        self.0.remove(name)
    }

    /// Puts a tensor in the place of what has its name.
    pub fn insert(&mut self, name: String, array: Array) {
        self.0.insert(name, array);
    }

    /// The names that `wanted` chooses.
    pub fn names(&self, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        self.0.keys().filter(|name| wanted(name)).cloned().collect()
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.0.retain(|name, _| keep(name));
    }

    pub(super) fn rename(&mut self, renamed: impl Fn(String) -> String) {
        self.0 = std::mem::take(&mut self.0)
            .into_iter()
            .map(|(name, array)| (renamed(name), array))
            .collect();
    }

    /// Replaces every tensor whose name `wanted` chooses.
    pub(super) fn change(
        &mut self,
        wanted: impl Fn(&str) -> bool,
        change: impl Fn(&str, &Array) -> Result<Array>,
    ) -> Result<()> {
        for (name, array) in &mut self.0 {
            if wanted(name) {
                *array = change(name, array)?;
            }
        }
        Ok(())
    }

    /// A tensor that has to be there.
    pub(super) fn require(&mut self, name: &str) -> Result<Array> {
        self.remove(name).ok_or_else(|| {
            Error::Unsupported(format!(
                "the checkpoint has no tensor \"{name}\", which others need"
            ))
        })
    }
}

/// The array times a number, in the array's own type.
pub(super) fn times(array: &Array, factor: f32) -> Result<Array> {
    let factor = ops::astype(&crate::mlx::scalar(factor), array.dtype())?;
    ops::multiply(array, &factor)
}

/// The halves of an array along an axis.
pub(super) fn halves(array: &Array, axis: usize) -> Result<[Array; 2]> {
    let half = array.shape()[axis] / 2;
    Ok([
        ops::slice_axis(array, axis, 0, half)?,
        ops::slice_axis(array, axis, half, array.shape()[axis])?,
    ])
}

/// Arrays of one shape along a new first axis.
pub(super) fn stack(arrays: &[Array]) -> Result<Array> {
    let rows = arrays.iter().map(|array| ops::expand_dims(array, 0)).collect::<Result<Vec<_>>>()?;
    ops::concatenate(&rows.iter().collect::<Vec<_>>(), 0)
}
