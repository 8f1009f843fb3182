//! Mixers that work side by side on the same input (Dong et al. 2024, "Hymba").

use super::mixer::Mixer;
use super::residual::Input;
use super::rows::Rows;
use crate::cache::Cache;
use crate::error::Result;
use crate::fused::math::scaled;
use crate::mlx::{Array, Dtype, ops};

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
    fn forward(&self, x: &Input, rows: &mut Rows) -> Result<Array> {
        let mixed = match self.input_scale {
            Some(factor) => self.mixer.forward(&scaled(x.array()?, factor)?.into(), rows)?,
            None => self.mixer.forward(x, rows)?,
        };
        self.output_scale.map_or(Ok(mixed.clone()), |factor| scaled(&mixed, factor))
    }
}

/// The sum of two branches. Their caches are a list, in the same order.
#[derive(Debug)]
pub struct Branches(pub [Branch; 2]);

impl Mixer for Branches {
    fn forward(&self, x: &Input, rows: &mut Rows) -> Result<Array> {
        let Self([first, second]) = self;
        // Both branches read it.
        x.array()?;
        let mixed = first.forward(x, &mut rows.part(0, self.0.len())?)?;
        ops::add(&mixed, &second.forward(x, &mut rows.part(1, self.0.len())?)?)
    }

    fn make_room(&self, rows: &mut Rows, batch: i32, dtype: Dtype) -> Result<Vec<Array>> {
        let mut made = Vec::new();
        for (index, branch) in self.0.iter().enumerate() {
            let rows = &mut rows.part(index, self.0.len())?;
            made.extend(branch.mixer.make_room(rows, batch, dtype)?);
        }
        Ok(made)
    }

    fn make_cache(&self) -> Cache {
        Cache::List(self.0.iter().map(|branch| branch.mixer.make_cache()).collect())
    }
}
