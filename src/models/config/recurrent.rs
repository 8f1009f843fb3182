//! The fields of recurrent mixers.

use super::ConfigFile;
use crate::error::Result;
use crate::nn::{GatedDeltaConfig, GatedNorm, Mamba2Config};

/// The names of the fields of Mamba 2 mixers, which each architecture names anew.
pub(in crate::models) struct Mamba2Fields {
    pub(in crate::models) heads: &'static str,
    pub(in crate::models) head_dim: &'static str,
    pub(in crate::models) state: &'static str,
    pub(in crate::models) groups: &'static str,
    pub(in crate::models) kernel: &'static str,
    pub(in crate::models) conv_bias: &'static str,
    pub(in crate::models) projection_bias: &'static str,
}

impl Mamba2Fields {
    /// Those of Bamba and of what followed it.
    pub(in crate::models) const BAMBA: Self = Self {
        heads: "mamba_n_heads",
        head_dim: "mamba_d_head",
        state: "mamba_d_state",
        groups: "mamba_n_groups",
        kernel: "mamba_d_conv",
        conv_bias: "mamba_conv_bias",
        projection_bias: "mamba_proj_bias",
    };
}

impl ConfigFile {
    /// The measures of Mamba 2 mixers for `hidden_size` features.
    pub(in crate::models) fn mamba2(&self, fields: &Mamba2Fields) -> Result<Mamba2Config> {
        let (heads, head_dim) = self.heads(fields.heads, fields.head_dim)?;
        let (groups, state) = self.heads(fields.groups, fields.state)?;
        self.divides(fields.groups, groups, fields.heads, heads)?;
        let bias = self.flag(fields.projection_bias)?;
        let limit: Option<(f32, f32)> = self.optional("time_step_limit")?;
        Ok(Mamba2Config {
            dims: self.size("hidden_size")?,
            heads,
            head_dim,
            state,
            groups,
            kernel: self.size(fields.kernel)?,
            norm: GatedNorm::AfterGate,
            eps: self.eps()?,
            conv_bias: self.flag(fields.conv_bias)?,
            projection_bias: bias,
            output_bias: bias,
            projection_scales: None,
            time_step_limit: limit.unwrap_or((0.0, f32::INFINITY)),
        })
    }

    /// The measures of gated delta nets for `hidden_size` features, as Qwen names them.
    pub(in crate::models) fn gated_delta(&self) -> Result<GatedDeltaConfig> {
        // Their convolutions have the activation of the MLPs.
        self.expect_silu("hidden_act")?;
        let [keys, values] = ["linear_num_key_heads", "linear_num_value_heads"];
        let (key_heads, key_dim) = self.heads(keys, "linear_key_head_dim")?;
        let (value_heads, value_dim) = self.heads(values, "linear_value_head_dim")?;
        self.divides(keys, key_heads, values, value_heads)?;
        Ok(GatedDeltaConfig {
            dims: self.size("hidden_size")?,
            key_heads,
            value_heads,
            key_dim,
            value_dim,
            kernel: self.size("linear_conv_kernel_dim")?,
            eps: self.eps()?,
            rate_scale: 1.0,
        })
    }

    /// A number of heads or groups, and how wide each is; their product is a size, too.
    fn heads(&self, count: &str, width: &str) -> Result<(i32, i32)> {
        let (heads, each) = (self.size(count)?, self.size(width)?);
        self.bounded(
            &format!("{count}\" · \"{width}"),
            i64::from(heads) * i64::from(each),
            1 << 24,
        )?;
        Ok((heads, each))
    }

    fn divides(&self, field: &str, value: i32, multiple: &str, of: i32) -> Result<()> {
        if of % value == 0 {
            return Ok(());
        }
        Err(self.error(format!("\"{multiple}\" {of} is not a multiple of \"{field}\" {value}")))
    }
}
