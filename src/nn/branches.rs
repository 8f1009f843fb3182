//! Mixers that work side by side on the same input (Dong et al. 2024, "Hymba").

use super::decoder::scaled;
use super::mixer::{Masks, Mixer};
use crate::cache::Cache;
use crate::error::Result;
use crate::mlx::{Array, ops};

/// output_scale · mixer(input_scale · x).
#[derive(Debug)]
pub struct Branch {
    /// Multiplies what the mixer gets; `None` for 1.
    pub input_scale: Option<f32>,
    /// What mixes positions.
    pub mixer: Box<dyn Mixer>,
    /// Multiplies what it gives; `None` for 1.
    pub output_scale: Option<f32>,
}

impl Branch {
    fn forward(&self, x: &Array, masks: &mut Masks, cache: &mut Cache) -> Result<Array> {
        let input = self.input_scale.map(|factor| scaled(x, factor)).transpose()?;
        let mixed = self.mixer.forward(input.as_ref().unwrap_or(x), masks, cache)?;
        self.output_scale.map_or(Ok(mixed.clone()), |factor| scaled(&mixed, factor))
    }
}

/// The sum of two branches. Their caches are a list, in the same order.
#[derive(Debug)]
pub struct Branches(pub [Branch; 2]);

impl Mixer for Branches {
    fn forward(&self, x: &Array, masks: &mut Masks, cache: &mut Cache) -> Result<Array> {
        let Self([first, second]) = self;
        let caches = cache.list(self.0.len())?;
        let mixed = first.forward(x, masks, &mut caches[0])?;
        ops::add(&mixed, &second.forward(x, masks, &mut caches[1])?)
    }

    fn make_cache(&self) -> Cache {
        Cache::List(self.0.iter().map(|branch| branch.mixer.make_cache()).collect())
    }
}
