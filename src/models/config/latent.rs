//! The measures of multi-head latent attention, as DeepSeek's configurations name them.

use super::ConfigFile;
use crate::error::Result;
use crate::nn::MlaConfig;

impl ConfigFile {
    /// Multi-head latent attention between `dims` features.
    pub(in crate::models) fn latent_attention(&self, dims: i32) -> Result<MlaConfig> {
        let head = |field: &str| self.bounded(field, self.require(field)?, 1 << 14);
        let (nope, rope) = (head("qk_nope_head_dim")?, head("qk_rope_head_dim")?);
        let q_lora_rank = match self.optional::<i64>("q_lora_rank")? {
            Some(_) => Some(self.size("q_lora_rank")?),
            None => None,
        };
        let factor = self.rope_scaling()?.map_or(1.0, |scaling| scaling.score_factor());
        Ok(MlaConfig {
            dims,
            heads: head("num_attention_heads")?,
            q_lora_rank,
            kv_lora_rank: self.size("kv_lora_rank")?,
            qk_nope_head_dim: nope,
            qk_rope_head_dim: rope,
            v_head_dim: head("v_head_dim")?,
            bias: self.flag("attention_bias")?,
            scale: factor / ((nope + rope) as f32).sqrt(),
        })
    }
}
