//! What lets a position see others: attention, and what takes its place.

use std::fmt::Debug;

use super::norm::Norm;
use super::residual::Residual;
use crate::cache::Cache;
use crate::error::Result;
use crate::mlx::Array;
use crate::mlx::fast::Mask;

/// A block that mixes positions, with the state of one sequence in its cache.
pub trait Mixer: Debug {
    /// `[batch, length, dims]` to the same shape; the cache takes the new positions.
    fn forward(&self, x: &Array, masks: &mut Masks, cache: &mut Cache) -> Result<Array>;

    /// The stream to which [`Mixer::forward`] of its norm is added.
    fn add_to(
        &self,
        stream: &Residual,
        norm: &Norm,
        masks: &mut Masks,
        cache: &mut Cache,
    ) -> Result<Residual> {
        stream.add(norm, |normed| self.forward(normed, masks, cache))
    }

    /// An empty cache.
    fn make_cache(&self) -> Cache;
}

/// How far back a token sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// To the first position.
    All,
    /// So many positions, its own included.
    Window(i32),
    /// To the start of its chunk, of which each has so many positions.
    Chunk(i32),
}

impl From<Option<i32>> for Reach {
    /// A window, or all positions.
    fn from(window: Option<i32>) -> Self {
        window.map_or(Self::All, Self::Window)
    }
}

/// The attention masks of one pass. Layers that see the same positions share one.
#[derive(Debug, Default)]
pub struct Masks(Vec<(Reach, Mask)>);

impl Masks {
    /// The mask for `length` new tokens that see so far back. To be asked before the layer's cache is
    /// updated.
    pub fn get(&mut self, length: i32, reach: impl Into<Reach>, cache: &Cache) -> Result<&Mask> {
        let reach = reach.into();
        let index = match self.0.iter().position(|(other, _)| *other == reach) {
            Some(index) => index,
            None => {
                let window = match reach {
                    Reach::Window(window) => Some(window),
                    Reach::All | Reach::Chunk(_) => None,
                };
                self.0.push((reach, cache.mask(length, window)?));
                self.0.len() - 1
            }
        };
        Ok(&self.0[index].1)
    }
}
