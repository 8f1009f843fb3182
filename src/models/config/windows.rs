//! How far the layers of a decoder see.

use super::{ConfigFile, LayerType};
use crate::error::Result;
use crate::nn::StandardDecoder;

impl ConfigFile {
    /// How far the layers see. Mistral's first release says it `for_all` of them; Llama's never
    /// look at it.
    pub(in crate::models) fn set_windows(
        &self,
        decoder: &mut StandardDecoder,
        for_all: bool,
    ) -> Result<()> {
        match self.layer_types()? {
            Some(types) => {
                for (layer, layer_type) in decoder.layers.iter_mut().zip(types) {
                    layer.window = match layer_type {
                        LayerType::FullAttention => None,
                        LayerType::SlidingAttention => Some(self.window()?),
                    };
                }
            }
            None if for_all && self.optional::<i32>("sliding_window")?.is_some() => {
                let window = self.window()?;
                decoder.layers.iter_mut().for_each(|layer| layer.window = Some(window));
            }
            None => {}
        }
        Ok(())
    }
}
