//! Layers that attend to the keys and values that an earlier one projects, each with norms, a
//! rotation and a cache of its own (Tencent 2024, "Hunyuan-Large"; Brandon et al. 2024).

use std::cell::RefCell;
use std::rc::Rc;

use super::attention::Attention;
use super::attention_config::{AttentionConfig, LayerConfig};
use super::mixer::Mixer;
use super::residual::Input;
use super::rows::Rows;
use crate::cache::Cache;
use crate::error::Result;
use crate::mlx::{Array, Dtype};
use crate::weights::Weights;

/// The keys and values that a layer lends in the current step.
#[derive(Debug, Clone, Default)]
pub struct LentKeys(Rc<RefCell<Vec<Array>>>);

/// The attention block of a layer that lends its keys and values, or borrows them.
#[derive(Debug)]
pub struct CrossLayerAttention {
    attention: Attention,
    lends: bool,
    keys: LentKeys,
}

impl CrossLayerAttention {
    /// Takes the attention of a layer that lends its keys and values.
    pub fn lending(
        w: &Weights,
        config: &AttentionConfig,
        layer: LayerConfig,
        keys: LentKeys,
    ) -> Result<Self> {
        Ok(Self { attention: config.build(w, layer)?, lends: true, keys })
    }

    /// Takes that of a layer which has no projections of keys and values.
    pub fn borrowing(
        w: &Weights,
        config: &AttentionConfig,
        layer: LayerConfig,
        keys: LentKeys,
    ) -> Result<Self> {
        Ok(Self { attention: config.build_queries(w, layer)?, lends: false, keys })
    }
}

impl Mixer for CrossLayerAttention {
    fn forward(&self, x: &Input, rows: &mut Rows) -> Result<Array> {
        let (mut qkv, factors) = self.attention.project(x)?;
        if self.lends {
            *self.keys.0.borrow_mut() = qkv[1..].to_vec();
        } else {
            qkv.extend(self.keys.0.borrow().iter().cloned());
        }
        self.attention.attend(qkv, factors.as_ref(), rows)
    }

    fn make_room(&self, rows: &mut Rows, batch: i32, dtype: Dtype) -> Result<Vec<Array>> {
        self.attention.make_room(rows, batch, dtype)
    }

    fn make_cache(&self) -> Cache {
        self.attention.make_cache()
    }
}
