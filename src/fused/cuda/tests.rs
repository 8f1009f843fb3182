//! What the kernels are on cards that are not there: their settings and their shared memory; and,
//! with NVIDIA's compiler, that they compile.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::HashMap;
use std::num::NonZero;

use super::*;
use crate::cpu::sampling::SamplingOptions;
use crate::error::Result;
use crate::fused::activation::Activation;
use crate::fused::attention::{AttentionParams, AttentionRow, Qkv};
use crate::fused::conv::ConvWeights;
use crate::fused::gated_delta::{GatedDeltaInputs, GatedDeltaParams};
use crate::fused::kv::{KvBuffers, KvCache, KvPlaces, KvTensor};
use crate::fused::linear::{LinearWeights, Matrix};
use crate::fused::norm::{AddRmsNorm, NormParams};
use crate::fused::rope::{RopeFreqs, RopeParams};
use crate::fused::router::{RouterParams, Routing};
use crate::fused::sampling::{Draw, RowDraw, Sampling};
use crate::fused::selective_scan::SelectiveScanParams;
use crate::mlx::fast::Mask;
use crate::mlx::gpu::{Block, Card, Source, rehearsal};
use crate::mlx::quantized::{Mode, QuantizationParams, QuantizedTensor};
use crate::mlx::{Array, DeviceKind, Dtype, enter, ops};
use product::Operand;

/// A card of each generation: its compute capability, multiprocessors, and KiB of shared memory of
/// each (CUDA C++ Programming Guide, "Technical Specifications per Compute Capability").
fn cards() -> [(&'static str, Card); 6] {
    [
        ("A100", Card::like((8, 0), 108, 164)),
        ("RTX 3090", Card::like((8, 6), 82, 100)),
        ("RTX 4090", Card::like((8, 9), 128, 100)),
        ("H100", Card::h100()),
        ("B200", Card::like((10, 0), 148, 228)),
        ("RTX 5090", Card::like((12, 0), 170, 100)),
    ]
}

/// Zeros that are never computed.
pub(super) fn zeros(shape: &[i32], dtype: Dtype) -> Array {
    ops::zeros(shape, dtype).unwrap()
}

/// Quantized weights of this shape, for activations of type `dtype`.
pub(super) fn quantized(
    shape: &[i32],
    params: QuantizationParams,
    dtype: Dtype,
) -> QuantizedTensor {
    let with_last = |last: i32| [&shape[..shape.len() - 1], &[last]].concat();
    let inputs = shape[shape.len() - 1];
    let of_scales = if params.mode == Mode::Affine { dtype } else { Dtype::Uint8 };
    let scales = zeros(&with_last(inputs / params.group_size), of_scales);
    QuantizedTensor {
        weight: zeros(&with_last(inputs * params.bits / 32), Dtype::Uint32),
        biases: (params.mode == Mode::Affine).then(|| scales.clone()),
        scales,
        params,
        dtype,
    }
}

const fn format(mode: Mode, bits: i32, group_size: i32) -> QuantizationParams {
    QuantizationParams { mode, group_size, bits }
}

const USUAL: [QuantizationParams; 4] = [
    format(Mode::Affine, 4, 64),
    format(Mode::Affine, 8, 64),
    format(Mode::Mxfp4, 4, 32),
    format(Mode::Nvfp4, 4, 16),
];

/// Every format that there are kernels for.
pub(super) fn every_format() -> Vec<QuantizationParams> {
    let affine = [2, 3, 4, 5, 6, 8]
        .map(|bits| [32, 64, 128].map(|group_size| format(Mode::Affine, bits, group_size)));
    let others = [Mode::Mxfp4, Mode::Mxfp8, Mode::Nvfp4].map(|mode| {
        let (group_size, bits) = mode.defaults();
        format(mode, bits, group_size)
    });
    affine.into_iter().flatten().chain(others).collect()
}

/// Products of rows with matrices of these outputs and inputs, quantized and as numbers.
fn products(
    card: Card,
    formats: &[QuantizationParams],
    rows: i32,
    [outputs, inputs]: [i32; 2],
    dtype: Dtype,
) -> Result<()> {
    let x = zeros(&[1, rows, inputs], dtype);
    let weight = zeros(&[inputs], dtype);
    let norm = AddRmsNorm { x: &x, delta: Some(&x), weight: Some(&weight), eps: 1e-6 };
    let dense = zeros(&[outputs, inputs], dtype);
    let tensors: Vec<_> =
        formats.iter().map(|&params| quantized(&[outputs, inputs], params, dtype)).collect();
    let operands = tensors.iter().map(Operand::Quantized).chain([Operand::Dense(&dense)]);
    for matrix in operands {
        products::matmul(card, &x, matrix, None)?;
        products::norm_matmul(card, &norm, matrix, Some(Activation::Silu))?;
    }
    norm::add_norm(&norm)?;
    for tensor in tensors.iter().filter(|it| it.params.mode == Mode::Affine) {
        unpack::dequantize(card, tensor)?;
    }
    Ok(())
}

/// 128 experts, of which a row chooses 8.
fn experts(card: Card, rows: i32, dtype: Dtype) -> Result<()> {
    let x = zeros(&[1, rows, 2048], dtype);
    let norm = AddRmsNorm { x: &x, delta: Some(&x), weight: None, eps: 1e-6 };
    let router = zeros(&[128, 2048], dtype);
    let params = RouterParams {
        experts: 128,
        active: 8,
        routing: Routing::TopThenSoftmax,
        correction: None,
        logit_scale: 1.0,
        logit_cap: None,
    };
    let of =
        |outputs, inputs| quantized(&[128, outputs, inputs], format(Mode::Affine, 4, 64), dtype);
    let (gate, down) = (of(768, 2048), of(2048, 768));
    let matrices = [&gate, &gate, &down];
    products::norm_moe_mlp(
        card,
        &norm,
        Operand::Dense(&router),
        &params,
        matrices,
        Activation::Silu,
    )?;
    router::route_top_k(&zeros(&[1, rows, 128], Dtype::Float32), &params)?;
    let (chosen, weights) =
        (zeros(&[1, rows, 8], Dtype::Uint32), zeros(&[1, rows, 8], Dtype::Float32));
    products::moe_mlp(card, &x, &chosen, &weights, matrices, Activation::Silu)?;
    Ok(())
}

/// A cache that has room.
struct Held {
    offset: i32,
    buffers: KvBuffers,
}

impl KvCache for Held {
    fn offset(&self) -> i32 {
        self.offset
    }

    fn update_and_fetch(&mut self, keys: &Array, values: &Array) -> Result<(KvTensor, KvTensor)> {
        Ok((KvTensor::Plain(keys.clone()), KvTensor::Plain(values.clone())))
    }

    fn is_contiguous(&self) -> bool {
        true
    }

    fn with_room(&self, _: [i32; 4], _: Dtype) -> Result<KvBuffers> {
        Ok(self.buffers.clone())
    }

    fn put(&mut self, buffers: KvBuffers, length: i32) {
        self.buffers = buffers;
        self.offset += length;
    }

    fn own_places(&self, new: [i32; 4], _: Dtype) -> Result<Option<KvPlaces>> {
        let (addresses, capacity) = ([NonZero::new(1 << 20).unwrap(); 2], self.buffers[0].dim(2));
        let fits = self.offset + new[2] <= capacity && capacity > 100;
        Ok(fits.then_some(KvPlaces { addresses, capacity }))
    }

    fn held(&self) -> Result<Option<KvBuffers>> {
        Ok(Some(self.buffers.clone()))
    }

    fn capacity_with(&self, new: i32) -> i32 {
        self.offset + new
    }

    fn written(&mut self, _: &Array, length: i32) {
        self.offset += length;
    }
}

/// Attention of new positions of rows with four, or one, key/value heads of `group` queries.
fn attention(card: Card, head_dim: i32, group: i32, new: &[i32], dtype: Dtype) -> Result<()> {
    let kv_heads = if group == 1 { 1 } else { 4 };
    let heads = kv_heads * group;
    let weight = zeros(&[head_dim], dtype);
    let norm = NormParams::Rms { weight: Some(weight), eps: 1e-6 };
    let weight = zeros(&[64, heads * head_dim], dtype);
    let output = LinearWeights::new(Matrix::Dense { transposed: weight.clone(), weight }, None);
    let params = AttentionParams {
        heads,
        kv_heads,
        interleaved_groups: false,
        head_dim,
        v_head_dim: head_dim,
        qk_norm: (group > 1).then(|| [norm.clone(), norm]),
        rotate_first: false,
        v_norm: None,
        kv_steps: None,
        scale: 0.1,
        soft_cap: (group == 4).then_some(30.0),
        sinks: (group == 8).then(|| zeros(&[heads], dtype)),
        kv_dtype: None,
        output_head_norm: None,
        output_norm: None,
        output,
    };
    let all: i32 = new.iter().sum();
    let of = |heads: i32| zeros(&[1, all, heads * head_dim], dtype);
    let (queries, keys) = (of(heads), of(kv_heads));
    let qkv = Qkv { queries: &queries, keys: &keys, values: &keys, gate: None };
    let buffers = || [(); 2].map(|()| zeros(&[1, kv_heads, 8192, head_dim], dtype));
    let mut caches: Vec<_> =
        new.iter().map(|_| Held { offset: 4096, buffers: buffers() }).collect();
    let mut rows: Vec<_> = caches
        .iter_mut()
        .zip(new)
        .map(|(cache, &length)| AttentionRow {
            length,
            rope: Some(RopeParams {
                dims: head_dim,
                traditional: false,
                freqs: RopeFreqs::Base(1e6),
                scale: 1.0,
                attention_factor: 1.0,
                offset: 4096,
            }),
            query_scale: None,
            mask: if length == 1 { Mask::None } else { Mask::Causal },
            cache,
        })
        .collect();
    assert!(attention::cached_attention(card, &qkv, &mut rows, &params)?.is_some());
    for offset in [0, 100] {
        let buffers = [(); 2].map(|()| zeros(&[1, kv_heads, 100, head_dim], dtype));
        let mut full = Held { offset, buffers };
        assert_eq!(attention::make_room(&mut full, [1, 8], dtype, &params)?.len(), 2);
    }
    Ok(())
}

fn recurrences(dtype: Dtype) -> Result<()> {
    let real = |shape: &[i32]| zeros(shape, Dtype::Float32);
    let weights = |kernel, bias: bool, silu| ConvWeights {
        weight: zeros(&[kernel, 96], dtype),
        bias: bias.then(|| zeros(&[96], dtype)),
        silu,
    };
    for weights in [weights(3, false, false), weights(4, true, true)] {
        let before = zeros(&[1, weights.weight.dim(0) - 1, 96], dtype);
        assert!(recurrence::causal_conv(&zeros(&[1, 7, 96], dtype), &before, &weights)?.is_some());
    }
    let norm = NormParams::Rms { weight: None, eps: 1e-6 };
    let params = GatedDeltaParams {
        key_heads: 16,
        value_heads: 32,
        key_dim: 128,
        value_dim: 128,
        unit_norms: [norm.clone(), norm],
        step_bias: real(&[32]),
        a: real(&[32]),
        norm: zeros(&[128], dtype),
        eps: 1e-6,
        rate_scale: 1.0,
    };
    let [mixed, heads, gate] = [8192, 32, 4096].map(|width| zeros(&[1, 1, width], dtype));
    let inputs = GatedDeltaInputs { mixed: &mixed, rate: &heads, decay: &heads, gate: &gate };
    assert!(recurrence::gated_delta(&inputs, &real(&[1, 32, 128, 128]), &params)?.is_some());
    let params = SelectiveScanParams {
        heads: 80,
        head_dim: 64,
        groups: 1,
        state: 128,
        step_bias: real(&[80]),
        a: real(&[1, 80]),
        d: real(&[80, 1]),
        step_limit: (0.0, 1e9),
    };
    let [mixed, steps] = [80 * 64 + 256, 80].map(|width| zeros(&[1, 1, width], dtype));
    let before = real(&[1, 80, 64, 128]);
    assert!(recurrence::selective_scan(&mixed, &steps, &before, &params)?.is_some());
    Ok(())
}

fn draws(rows: usize, vocabulary: i32, dtype: Dtype) -> Result<()> {
    let sampling = Sampling::new(SamplingOptions::default());
    let row = RowDraw { sampling: &sampling, draw: Draw { seed: 1, index: 0 } };
    let logits = zeros(&[rows as i32, vocabulary], dtype);
    assert!(sampling::draw(&logits, &vec![row; rows])?.is_some());
    Ok(())
}

/// All kernels that models ask for on a card.
fn kernels(card: Card) -> Vec<(Source, Block)> {
    enter(DeviceKind::Cpu).unwrap();
    rehearsal::on(card, || ask_for_all(card).unwrap())
}

fn ask_for_all(card: Card) -> Result<()> {
    for dtype in [Dtype::Bfloat16, Dtype::Float16] {
        for rows in [1, 8] {
            products(card, &every_format(), rows, [6144, 4096], dtype)?;
        }
        for rows in [2, 3, 16, 32, 64] {
            products(card, &USUAL, rows, [6144, 4096], dtype)?;
        }
        for matrix in [[28672, 4096], [4096, 14336], [131072, 2048], [640, 1152]] {
            products(card, &USUAL, 1, matrix, dtype)?;
            products(card, &USUAL, 8, matrix, dtype)?;
        }
        for rows in [1, 4] {
            experts(card, rows, dtype)?;
        }
        for (head_dim, group) in [(64, 1), (64, 8), (128, 4), (256, 2), (256, 8)] {
            for new in [&[1][..], &[1, 1, 1], &[300], &[40, 1, 7]] {
                attention(card, head_dim, group, new, dtype)?;
            }
        }
        recurrences(dtype)?;
        let features = zeros(&[1, 5, 96], dtype);
        activation::gated(card, Activation::GeluTanh, &features, &features)?;
        draws(1, 32000, dtype)?;
    }
    products(card, &USUAL, 1, [4096, 4096], Dtype::Float32)?;
    draws(3, 151_935, Dtype::Float32)
}

/// CUDA adds what a kernel has of its own to what it is launched with.
#[test]
fn every_kernel_fits_into_the_shared_memory_of_every_card() {
    for (name, card) in cards() {
        let kernels = kernels(card);
        let most = kernels.iter().map(|(_, block)| block.shared_memory).max().unwrap();
        assert!(most <= card.shared_memory(1), "{name}: {most}");
        let mut of_each = HashMap::<_, usize>::new();
        for (source, _) in &kernels {
            *of_each.entry(source.name.to_str().unwrap()).or_default() += 1;
        }
        // All but the one that looks for an array's address, and on most that of Hopper.
        assert_eq!(of_each.len(), 14 + usize::from(card.is_hopper()), "{name}: {of_each:?}");
        assert!(of_each["nodemlx_few_rows"] > 200, "{name}: {of_each:?}");
    }
}

/// The compiler is in PyPI's `nvidia-cuda-nvrtc`.
#[test]
#[ignore = "takes minutes, and NVIDIA's compiler: libnvrtc.so.13 in LD_LIBRARY_PATH"]
fn every_kernel_compiles_for_every_card() {
    rehearsal::load_compiler();
    for (name, card) in cards() {
        let kernels = kernels(card);
        let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
        std::thread::scope(|scope| {
            for part in kernels.chunks(kernels.len().div_ceil(threads)) {
                scope.spawn(move || {
                    for (source, _) in part {
                        let compiled = rehearsal::compile(&card, source);
                        let Source { name: kernel, settings, .. } = source;
                        assert!(
                            compiled.as_ref().is_ok_and(|it| *it > 0),
                            "{name}: {kernel:?} with {settings:?}: {compiled:?}"
                        );
                    }
                });
            }
        });
        println!("{name}: {} kernels compile", kernels.len());
    }
}
