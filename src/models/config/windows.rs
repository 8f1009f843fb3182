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
        let windows = match self.layer_types()? {
            Some(types) => {
                let near = types.contains(&LayerType::SlidingAttention);
                let window = if near { Some(self.window()?) } else { None };
                let kinds = types.iter();
                kinds.map(|kind| window.filter(|_| *kind == LayerType::SlidingAttention)).collect()
            }
            None if for_all => vec![self.window_if_given()?; decoder.layers.len()],
            None => return Ok(()),
        };
        decoder.set_windows(windows);
        Ok(())
    }

    /// `sliding_window`, or `None` where it is absent or null.
    pub(in crate::models) fn window_if_given(&self) -> Result<Option<i32>> {
        match self.optional::<i64>("sliding_window")? {
            Some(_) => Ok(Some(self.window()?)),
            None => Ok(None),
        }
    }
}
