//! The sequences of a step, as what mixes positions sees them.

use std::cell::Cell;

use super::masks::Masks;
use super::residual::Residual;
use super::step::Step;
use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::mlx::{Array, async_eval, ops};

/// So many layers are built between two times that the device is handed what there is: the host
/// may take as long for a layer as the device. The first time is behind the second layer, so that
/// models of one, as heads are, gain nothing and lose nothing.
const LAYERS_AT_ONCE: usize = 4;

/// How far a step is built.
#[derive(Debug)]
struct Progress {
    /// Whether a row has several new positions.
    is_long: bool,
    /// How many layers were built.
    layers: Cell<usize>,
}

impl Progress {
    /// See [`StepRows::begin`].
    fn begin(&self, stream: &Residual) -> Result<()> {
        let before = self.layers.replace(self.layers.get() + 1);
        match self.is_long && before % LAYERS_AT_ONCE == 1 {
            true => async_eval(&stream.arrays().collect::<Vec<_>>()),
            false => Ok(()),
        }
    }
}

/// The rows of a step in all layers: their caches, and the masks that layers share.
#[derive(Debug)]
pub struct StepRows<'a, 'b> {
    lengths: Vec<i32>,
    masks: Vec<Masks>,
    progress: Progress,
    /// The caches of each row.
    caches: &'a mut [&'b mut [Cache]],
}

impl<'a, 'b> StepRows<'a, 'b> {
    /// # Errors
    /// [`Error::InvalidArgument`] unless there are caches for each row.
    pub fn new(step: &Step, caches: &'a mut [&'b mut [Cache]]) -> Result<Self> {
        if caches.len() != step.rows().len() {
            let message = format!("are those of {} rows, not {}", caches.len(), step.rows().len());
            return Err(Error::argument("caches", message));
        }
        let lengths: Vec<_> = step.rows().iter().map(|row| row.length).collect();
        let masks = lengths.iter().map(|_| Masks::default()).collect();
        let is_long = lengths.iter().any(|&length| length > 1);
        let progress = Progress { is_long, layers: Cell::new(0) };
        Ok(Self { lengths, masks, progress, caches })
    }

    /// The rows with their caches number `index`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a row with fewer.
    pub fn layer(&mut self, index: usize) -> Result<Rows<'_>> {
        let fewer = || Error::argument("caches", "are fewer than the model's layers that need one");
        let rows = self.lengths.iter().zip(&mut self.masks).zip(self.caches.iter_mut());
        rows.map(|((&length, masks), caches)| {
            let cache = caches.get_mut(index).ok_or_else(fewer)?;
            Ok(Row { length, masks, cache })
        })
        .collect::<Result<_>>()
        .map(|rows| Rows { rows, progress: &self.progress })
    }

    /// Takes the `stream` behind a layer. Of those of every [`LAYERS_AT_ONCE`] layers the device
    /// begins to compute one while the next layers are built, if a row has several new positions:
    /// steps of one position each are built while the step before runs.
    pub fn begin(&self, stream: &Residual) -> Result<()> {
        self.progress.begin(stream)
    }

    /// Lets caches get room for a step of several positions of a row, those of all `layers` that
    /// have caches at once: `make` gives what is to be computed for those of one.
    pub fn make_room<T>(
        &mut self,
        layers: impl Iterator<Item = T>,
        make: impl Fn(T, &mut Rows) -> Result<Vec<Array>>,
    ) -> Result<()> {
        let mut made = Vec::new();
        if self.progress.is_long {
            for (index, layer) in layers.enumerate() {
                made.extend(make(layer, &mut self.layer(index)?)?);
            }
        }
        if made.is_empty() { Ok(()) } else { async_eval(&made.iter().collect::<Vec<_>>()) }
    }
}

/// The rows of a step in one layer, as a mixer sees them.
#[derive(Debug)]
pub struct Rows<'a> {
    rows: Vec<Row<'a>>,
    /// How far the step is built.
    progress: &'a Progress,
}

/// A sequence in one layer.
#[derive(Debug)]
pub struct Row<'a> {
    /// How many positions are new.
    pub length: i32,
    /// Its masks in this step.
    pub masks: &'a mut Masks,
    /// What the layer remembers of it.
    pub cache: &'a mut Cache,
}

impl Rows<'_> {
    /// First to last.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = Row<'_>> {
        self.rows.iter_mut().map(|row| Row {
            length: row.length,
            masks: row.masks,
            cache: row.cache,
        })
    }

    /// The same with cache number `index` of lists of `count` caches.
    pub fn part(&mut self, index: usize, count: usize) -> Result<Rows<'_>> {
        let progress = self.progress;
        self.rows
            .iter_mut()
            .map(|Row { length, masks, cache }| {
                Ok(Row { length: *length, masks, cache: &mut cache.list(count)?[index] })
            })
            .collect::<Result<_>>()
            .map(|rows| Rows { rows, progress })
    }

    /// See [`StepRows::begin`].
    pub fn begin(&self, stream: &Residual) -> Result<()> {
        self.progress.begin(stream)
    }

    /// Mixes each row by itself: `mix` gets its positions of `parts`, `[batch, length, …]`, and
    /// gives `[batch, its length, …]`, which are put one behind the other again.
    pub fn mix<const N: usize>(
        &mut self,
        parts: [&Array; N],
        mut mix: impl FnMut([&Array; N], Row) -> Result<Array>,
    ) -> Result<Array> {
        if let [Row { length, masks, cache }] = &mut *self.rows {
            return mix(parts, Row { length: *length, masks, cache });
        }
        let (mut start, mut mixed) = (0, Vec::with_capacity(self.rows.len()));
        for row in self.iter_mut() {
            let end = start + row.length;
            let of_row = parts.map(|part| ops::slice_axis(part, 1, start, end));
            let mut own = Vec::with_capacity(N);
            for part in of_row {
                own.push(part?);
            }
            mixed.push(mix(std::array::from_fn(|part| &own[part]), row)?);
            start = end;
        }
        ops::concatenate(&mixed.iter().collect::<Vec<_>>(), 1)
    }
}
