//! What mlx-lm computes of published tensors.

use super::super::config::ConfigFile;
use super::tensors::{Tensors, halves, times};
use crate::error::Result;
use crate::mlx::{Array, Dtype, from_f32, ops};
use crate::weights::e8m0;

/// Convolutions with a channel's one input last, `[channels, kernel, 1]`, in place of
/// `[channels, 1, kernel]`; whether there were any.
pub(super) fn convolutions(tensors: &mut Tensors) -> Result<bool> {
    const NAMES: [&str; 3] = ["conv1d.weight", "conv_1d.weight", "conv.weight"];
    let names = tensors.names(|name| NAMES.iter().any(|ending| name.ends_with(ending)));
    let mut found = false;
    for name in names {
        let array = tensors.require(&name)?;
        let published = matches!(array.shape(), [_, 1, kernel] if *kernel != 1);
        found |= published;
        let array = if published { ops::swap_axes(&array, 1, 2)? } else { array };
        tensors.insert(name, array);
    }
    Ok(found)
}

/// Norms of Qwen 3 Next and 3.5, which are published less 1.
pub(super) fn norms_plus_one(tensors: &mut Tensors) -> Result<()> {
    const NORMS: [&str; 5] = [
        ".input_layernorm.weight",
        ".post_attention_layernorm.weight",
        "model.norm.weight",
        ".q_norm.weight",
        ".k_norm.weight",
    ];
    plus_one(tensors, |name| NORMS.iter().any(|norm| name.ends_with(norm)))
}

/// Adds 1 to the tensors that are `wanted`.
fn plus_one(tensors: &mut Tensors, wanted: impl Fn(&str) -> bool) -> Result<()> {
    tensors.change(wanted, |_, array| {
        let one = ops::astype(&crate::mlx::scalar(1.0), array.dtype())?;
        ops::add(array, &one)
    })
}

/// Matrices of 8-bit floats with a scale for each block of `[height, width]`, as bfloat16.
pub(super) fn float8(tensors: &mut Tensors, [height, width]: [i32; 2]) -> Result<()> {
    for name in tensors.names(|name| name.ends_with(".weight_scale_inv")) {
        let scales = tensors.require(&name)?;
        let matrix = name.trim_end_matches("_scale_inv");
        let bytes = tensors.require(matrix)?;
        let &[rows, columns] = bytes.shape() else { continue };
        let (down, across) = ((rows + height - 1) / height, (columns + width - 1) / width);
        let values = ops::from_fp8(&bytes, Dtype::Bfloat16)?;
        let scales = if scales.dtype() == Dtype::Uint8 { powers_of_two(&scales)? } else { scales };
        let scales = ops::reshape(&scales, &[down, 1, across, 1])?;
        let scales = ops::broadcast_to(&scales, &[down, height, across, width])?;
        let scales = ops::reshape(&scales, &[down * height, across * width])?;
        let scales = ops::slice_axis(&ops::slice_axis(&scales, 0, 0, rows)?, 1, 0, columns)?;
        let product = ops::astype(&ops::multiply(&values, &scales)?, Dtype::Bfloat16)?;
        tensors.insert(matrix.to_owned(), product);
    }
    Ok(())
}

/// Numbers of the type e8m0.
fn powers_of_two(codes: &Array) -> Result<Array> {
    let table: Vec<f32> = (0..=255).map(e8m0).collect();
    ops::take(&from_f32(&table, &[256]), &ops::astype(codes, Dtype::Uint32)?, 0)
}

/// Falcon H1's factors, multiplied into the matrices, and those of outputs into biases.
pub(super) fn falcon_h1(tensors: &mut Tensors, config: &ConfigFile) -> Result<()> {
    let published = |(name, array): (&str, &Array)| {
        name.ends_with("mamba.conv1d.weight")
            && matches!(array.shape(), [_, inputs, kernel] if kernel > inputs)
    };
    if !tensors.iter().any(published) {
        return Ok(());
    }
    let number = |field: &str| -> Result<f32> { Ok(config.optional(field)?.unwrap_or(1.0)) };
    let [gate, down] = config.optional::<[f32; 2]>("mlp_multipliers")?.unwrap_or([1.0; 2]);
    let attention = number("attention_in_multiplier")?;
    let factors = [
        ("embed_tokens.weight", number("embedding_multiplier")?),
        ("lm_head.weight", number("lm_head_multiplier")?),
        ("q_proj.weight", attention),
        ("k_proj.weight", attention),
        ("o_proj.weight", number("attention_out_multiplier")?),
        ("out_proj.weight", number("ssm_out_multiplier")?),
        ("gate_proj.weight", gate),
        ("down_proj.weight", down),
        // Of values the factor of the input is that of attention's output here.
        ("v_proj.bias", attention.recip()),
        ("o_proj.bias", number("attention_out_multiplier")? / attention),
        ("out_proj.bias", number("ssm_out_multiplier")?),
        ("gate_proj.bias", gate),
        ("down_proj.bias", down),
    ];
    let factor = |name: &str| factors.iter().find(|(ending, _)| name.ends_with(ending));
    tensors.change(
        |name| factor(name).is_some(),
        |name, array| factor(name).map_or(Ok(array.clone()), |(_, factor)| times(array, *factor)),
    )?;
    let parts = config.optional::<[f32; 5]>("ssm_multipliers")?.unwrap_or([1.0; 5]);
    let inner = config.size("mamba_d_ssm")?;
    let states = config.size_or("mamba_n_groups", 1)? * config.size("mamba_d_state")?;
    let sizes = [inner, inner, states, states, config.size("mamba_n_heads")?];
    let rows: Vec<f32> = parts
        .iter()
        .zip(sizes)
        .flat_map(|(&factor, size)| std::iter::repeat_n(factor, size.unsigned_abs() as usize))
        .collect();
    let rows = from_f32(&rows, &[rows.len() as i32, 1]);
    let whole = number("ssm_in_multiplier")?;
    tensors.change(
        |name| name.ends_with("in_proj.weight"),
        |_, array| {
            let rows = times(&ops::astype(&rows, array.dtype())?, whole)?;
            ops::multiply(array, &rows)
        },
    )?;
    tensors.change(
        |name| name.ends_with("in_proj.bias"),
        |_, array| {
            let rows = ops::astype(&ops::reshape(&rows, &[-1])?, array.dtype())?;
            ops::multiply(array, &rows)
        },
    )
}

/// Activations' numbers of Apertus, without their axis.
pub(super) fn single_numbers(tensors: &mut Tensors) -> Result<()> {
    tensors.change(
        |name| name.ends_with("alpha_p") || name.ends_with("alpha_n"),
        |_, array| if array.size() == 1 { ops::reshape(array, &[]) } else { Ok(array.clone()) },
    )
}

/// The router of Ling by mlx-lm's name, and the output head divided by the norms of its columns,
/// where the configuration says so.
pub(super) fn bailing_moe(tensors: &mut Tensors, config: &ConfigFile) -> Result<()> {
    super::renamed::bailing_router(tensors);
    if !config.flag("norm_head")? {
        return Ok(());
    }
    tensors.change(
        |name| name == "lm_head.weight",
        |_, array| {
            let numbers = ops::astype(array, Dtype::Float32)?;
            let norms = ops::sqrt(&ops::sum(&ops::square(&numbers)?, 0)?)?;
            let norms = ops::add(&norms, &crate::mlx::scalar(1e-7))?;
            ops::astype(&ops::divide(array, &norms)?, array.dtype())
        },
    )
}

/// The matrices of the first GPTs, which are published with inputs before outputs.
const TRANSPOSED: [&str; 4] =
    ["attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight"];

/// The first GPT with outputs before inputs, so that its matrices can be packed.
pub(super) fn openai_gpt(tensors: &mut Tensors) -> Result<()> {
    let first = tensors.iter().find(|(name, _)| name.ends_with(TRANSPOSED[0]));
    // Queries, keys and values are outputs of one matrix.
    if first.is_none_or(|(_, array)| array.dim(1) != 3 * array.dim(0)) {
        return Ok(());
    }
    tensors.change(
        |name| TRANSPOSED.iter().any(|matrix| name.ends_with(matrix)),
        |_, array| ops::transpose(array, &[1, 0]),
    )
}

/// GPT 2, whose published matrices have inputs before outputs. What has a head of its own keeps it,
/// which mlx-lm lacks.
pub(super) fn gpt2(tensors: &mut Tensors) -> Result<()> {
    tensors.change(
        |name| {
            !name.starts_with("model.") && TRANSPOSED.iter().any(|matrix| name.ends_with(matrix))
        },
        |_, array| ops::transpose(array, &[1, 0]),
    )?;
    tensors.rename(|name| match name.starts_with("model.") || name.starts_with("lm_head.") {
        true => name,
        false => format!("model.{}", name.strip_prefix("transformer.").unwrap_or(&name)),
    });
    Ok(())
}

/// Hunyuan's projections that are published as one, by themselves: queries, keys and values lie
/// together for each key head, and up in front of the gate.
pub(super) fn hunyuan(tensors: &mut Tensors, config: &ConfigFile) -> Result<()> {
    let (heads, dims) = (config.size("num_attention_heads")?, config.size("hidden_size")?);
    let kv_heads = config.size_or("num_key_value_heads", heads)?;
    let (group, head_dim) = (heads / kv_heads, dims / heads);
    for name in tensors.names(|name| name.contains(".qkv_proj.")) {
        let array = tensors.require(&name)?;
        let rest = &array.shape()[1..];
        let by_head = [&[kv_heads, group + 2, head_dim], rest].concat();
        let by_head = ops::reshape(&array, &by_head)?;
        let parts = [("q_proj", 0, group), ("k_proj", group, 1), ("v_proj", group + 1, 1)];
        for (part, start, count) in parts {
            let array = ops::slice_axis(&by_head, 1, start, start + count)?;
            let array = ops::reshape(&array, &[&[kv_heads * count * head_dim], rest].concat())?;
            tensors.insert(name.replace("qkv_proj", part), array);
        }
    }
    for name in tensors.names(|name| name.contains(".gate_and_up_proj.")) {
        let array = tensors.require(&name)?;
        for (part, half) in ["up_proj", "gate_proj"].into_iter().zip(halves(&array, 0)?) {
            tensors.insert(name.replace("gate_and_up_proj", part), half);
        }
    }
    Ok(())
}

/// Step 3.5 by mlx-lm's names, with norms that are published less 1.
pub(super) fn step3p5(tensors: &mut Tensors) -> Result<()> {
    const NAMES: [(&str, &str); 6] = [
        (".moe.gate_proj.", ".mlp.switch_mlp.gate_proj."),
        (".moe.up_proj.", ".mlp.switch_mlp.up_proj."),
        (".moe.down_proj.", ".mlp.switch_mlp.down_proj."),
        (".moe.gate.", ".mlp.gate.gate."),
        (".moe.router_bias", ".mlp.gate.router_bias"),
        (".share_expert.", ".mlp.share_expert."),
    ];
    let renamed = |name: &str| {
        let names = NAMES.iter().find(|(old, new)| name.contains(old) && !name.contains(new));
        names.map(|(old, new)| name.replace(old, new))
    };
    if tensors.names(|name| renamed(name).is_some()).is_empty() {
        return Ok(());
    }
    plus_one(tensors, |name| name.contains("norm") && name.ends_with(".weight"))?;
    tensors.rename(|name| renamed(&name).unwrap_or(name));
    Ok(())
}

/// DBRX's experts by themselves, which are published one below the other, with down's inputs before
/// its outputs.
pub(super) fn dbrx(tensors: &mut Tensors, config: &ConfigFile) -> Result<()> {
    let ffn: serde_json::Value = config.require("ffn_config")?;
    let experts = ffn["moe_num_experts"].as_i64().unwrap_or(4);
    let experts = config.bounded("moe_num_experts", experts, 1 << 16)?;
    for name in tensors.names(|name| name.contains(".experts.mlp.")) {
        let joined = tensors.require(&name)?;
        let rows = joined.shape()[0] / experts;
        for expert in 0..experts {
            let own = ops::slice_axis(&joined, 0, expert * rows, (expert + 1) * rows)?;
            let own = match name.ends_with("w2") {
                true => ops::contiguous(&ops::swap_axes(&own, 0, 1)?)?,
                false => own,
            };
            let name = name.replace("experts.mlp.", &format!("experts.{expert}."));
            tensors.insert(format!("{name}.weight"), own);
        }
    }
    Ok(())
}
