//! Any shapes, strides and numbers for the CPU kernels: what does not fit is refused, and what fits
//! is computed alike by every instruction set, without reading or writing beside what was handed
//! over (the address sanitizer sees every buffer by itself).
#![no_main]

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use nodemlx::cpu::activation::{Activation, gated};
use nodemlx::cpu::attention::{Attention, Cached, Mask};
use nodemlx::cpu::conv::CausalConv;
use nodemlx::cpu::dense;
use nodemlx::cpu::heads::Heads;
use nodemlx::cpu::norm::rms_norm;
use nodemlx::cpu::prepare::{HeadNorm, QkNormRope};
use nodemlx::cpu::quant::{self, Format, Scales};
use nodemlx::cpu::recurrence::Recurrence;
use nodemlx::cpu::rope::{Angles, Rope};
use nodemlx::cpu::sampling::{Logits, Penalties, SamplingOptions};
use nodemlx::cpu::{ExecOptions, Floats, FloatsMut, Isa, Precision, Route};

/// Shapes and numbers from the fuzzer's bytes.
struct Source<'a>(Unstructured<'a>);

impl Source<'_> {
    /// One of `0..=most`, the small ones more often.
    fn size(&mut self, most: usize) -> Result<usize> {
        let most = if self.0.ratio(1, 4)? { most } else { most.min(9) };
        self.0.int_in_range(0..=most)
    }

    /// `len`, now and then by one or two wrong.
    fn length(&mut self, len: usize) -> Result<usize> {
        Ok(match self.0.int_in_range(0..=40)? {
            0 => len.saturating_sub(1),
            1 => len + 1,
            2 => len.saturating_sub(2),
            _ => len,
        })
    }

    fn seed(&mut self) -> Result<u32> {
        Ok(u32::from(self.0.arbitrary::<u16>()?) + 1)
    }

    /// Numbers between -2 and 2 that follow from one seed: there are not bytes for all.
    fn floats(&mut self, len: usize) -> Result<Box<[f32]>> {
        let (len, mut state) = (self.length(len)?, self.seed()?);
        let next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 22) as f32 - 2.0
        };
        Ok(std::iter::repeat_with(next).take(len).collect())
    }

    fn bytes(&mut self, len: usize) -> Result<Box<[u8]>> {
        Ok(self.floats(len)?.iter().map(|x| (x.abs() * 1e4) as u8).collect())
    }

    fn strides<const N: usize>(&mut self, shape: [usize; N]) -> Result<[usize; N]> {
        let mut strides = [1; N];
        for axis in (0..N - 1).rev() {
            strides[axis] = strides[axis + 1] * shape[axis + 1];
        }
        for stride in &mut strides {
            match self.0.int_in_range(0..=9)? {
                0 => *stride = 0,
                1 => *stride += self.0.int_in_range(0..=70)?,
                _ => {}
            }
        }
        Ok(strides)
    }
}

/// Elements from the first to the last one.
fn span(shape: &[usize], strides: &[usize]) -> usize {
    if shape.contains(&0) {
        return 0;
    }
    shape.iter().zip(strides).map(|(dim, stride)| (dim - 1) * stride).sum::<usize>() + 1
}

/// Computes with every instruction set; all refuse, or all agree.
fn every(len: usize, bound: f32, compute: impl FnMut(&mut [f32], Isa) -> bool) {
    every_sum(len, bound, 1.0, compute);
}

/// [`every`] for sums of terms so large that `size` is what such a sum has on average: what is lost
/// by rounding is in proportion to that, however much the terms cancel each other.
fn every_sum(len: usize, bound: f32, size: f32, mut compute: impl FnMut(&mut [f32], Isa) -> bool) {
    let run = |isa| {
        let mut y = vec![f32::NAN; len].into_boxed_slice();
        compute(&mut y, isa).then_some(y)
    };
    let all: Vec<_> = Isa::available().into_iter().map(run).collect();
    for other in &all[1..] {
        match (&all[0], other) {
            (None, None) => {}
            (Some(a), Some(b)) => {
                let finite = a.iter().filter(|x| x.is_finite());
                let size = finite.map(|x| x.abs()).fold(size.max(1.0), f32::max);
                for (a, b) in a.iter().zip(b) {
                    let close = (a - b).abs() <= bound * size || !a.is_finite() && !b.is_finite();
                    assert!(close, "{a} and {b}, of {size}");
                }
            }
            _ => panic!("refused by one instruction set only"),
        }
    }
}

fn routes(source: &mut Source, rows: usize, slabs: usize) -> Result<Vec<Route>> {
    let count = source.size(40)?;
    let mut routes = Vec::new();
    for _ in 0..count {
        let slip = usize::from(source.0.ratio(1, 200)?);
        let x = source.0.int_in_range(0..=(rows + slip).saturating_sub(1))?;
        let slab = source.0.int_in_range(0..=(slabs + slip).saturating_sub(1))?;
        routes.push(Route { x, slab });
    }
    Ok(routes)
}

/// The greatest absolute value.
fn greatest(values: &[f32]) -> f32 {
    values.iter().map(|x| x.abs()).fold(0.0, f32::max)
}

fn quantized(source: &mut Source) -> Result<()> {
    let format = match source.0.int_in_range(0..=8)? {
        0 => Format::Mxfp4,
        1 => Format::Nvfp4,
        2 => Format::Mxfp8,
        _ => Format::Affine {
            bits: source.0.int_in_range(1..=8)?,
            group: *source.0.choose(&[32, 64, 128])?,
        },
    };
    let (slabs, rows) = (source.size(5)?, source.size(70)?);
    let cols = source.size(70)? * format.group() + usize::from(source.0.ratio(1, 50)?);
    let codes = slabs * rows * cols;
    let packed = source.bytes(codes * format.bits() / 8)?;
    let groups = codes / format.group();
    let (scales, biases) = (source.floats(groups)?, source.floats(groups)?);
    // Powers of two that do not overflow, where one sum is infinite and another not a number.
    let bytes: Box<[_]> = source.bytes(groups)?.iter().map(|byte| 112 + byte % 32).collect();
    let (scales, biases) = match format {
        Format::Affine { .. } => {
            (Scales::Floats(Floats::F32(&scales)), Some(Floats::F32(&*biases)))
        }
        Format::Nvfp4 => (Scales::E4m3(&bytes), None),
        Format::Mxfp4 | Format::Mxfp8 => (Scales::E8m0(&bytes), None),
    };
    let weights = quant::Weights { format, packed: &packed, scales, biases, slabs, rows, cols };
    let x_rows = source.size(20)?;
    let x = source.floats(x_rows * cols)?;
    let routes = routes(source, x_rows, slabs)?;
    let len = source.length(routes.len() * rows)?;
    let mut values = vec![0.0; slabs * rows * cols];
    let chosen: Vec<_> = (0..(slabs * rows) as u32).collect();
    let one = quant::Weights { slabs: 1, rows: slabs * rows, ..weights };
    let _ = quant::rows(&one, &chosen, &mut values);
    // Numbers lie between -2 and 2.
    let size = 2.0 * greatest(&values) * (cols as f32).sqrt();
    // Bytes have 256 times the step.
    for (precision, bound) in
        [(Precision::Exact, 1e-3), (Precision::Fast, 1e-3), (Precision::Fastest, 0.05)]
    {
        every_sum(len, bound, size, |y, isa| {
            quant::gather_matmul(&weights, &x, &routes, y, ExecOptions { isa, precision }).is_ok()
        });
    }
    let chosen: Vec<_> = routes.iter().map(|route| route.x as u32).collect();
    let mut unpacked = vec![0.0; source.length(chosen.len() * cols)?].into_boxed_slice();
    let _ = quant::rows(&weights, &chosen, &mut unpacked);
    Ok(())
}

fn dense_product(source: &mut Source) -> Result<()> {
    let (slabs, rows, cols) = (source.size(5)?, source.size(70)?, source.size(300)?);
    let values = source.floats(slabs * rows * cols)?;
    let weights = dense::Weights { values: Floats::F32(&values), slabs, rows, cols };
    let x_rows = source.size(20)?;
    let x = source.floats(x_rows * cols)?;
    let routes = routes(source, x_rows, slabs)?;
    let len = source.length(routes.len() * rows)?;
    let size = 2.0 * greatest(&values) * (cols as f32).sqrt();
    every_sum(len, 1e-4, size, |y, isa| {
        dense::gather_matmul(&weights, &x, &routes, y, isa).is_ok()
    });
    Ok(())
}

fn attention(source: &mut Source) -> Result<()> {
    let (batch, kv_heads) = (source.size(2)?, source.size(4)?);
    let heads = kv_heads * source.size(4)? + usize::from(source.0.ratio(1, 50)?);
    let (length, keys) = (source.size(40)?, source.size(700)?);
    let (dim, value_dim) = (source.size(80)?, source.size(80)?);
    let q_shape = [batch, heads, length, dim];
    let (k_shape, v_shape) = ([batch, kv_heads, keys, dim], [batch, kv_heads, keys, value_dim]);
    let all = [q_shape, k_shape, v_shape];
    let mut strides = [[0; 3]; 3];
    let mut buffers = Vec::new();
    for (shape, strides) in all.into_iter().zip(&mut strides) {
        let [a, b, c, _] = source.strides(shape)?;
        *strides = [a, b, c];
        buffers.push(source.floats(span(&shape, &[a, b, c, 1]))?);
    }
    let mask_shape = [batch, heads, length, keys];
    let mask_strides = source.strides(mask_shape)?;
    let (bytes, added) = (
        source.bytes(span(&mask_shape, &mask_strides))?,
        source.floats(span(&mask_shape, &mask_strides))?,
    );
    let mask = match source.0.int_in_range(0..=4)? {
        0 => Mask::None,
        1 => Mask::Causal { window: None },
        2 => Mask::Causal { window: Some(source.size(100)?) },
        3 => Mask::Bytes { values: &bytes, strides: mask_strides },
        _ => Mask::Added { values: Floats::F32(&added), strides: mask_strides },
    };
    let sinks = source.floats(heads)?;
    let attention = Attention {
        queries: Heads { values: &buffers[0], shape: q_shape, strides: strides[0] },
        keys: Cached { values: Floats::F32(&buffers[1]), shape: k_shape, strides: strides[1] },
        values: Cached { values: Floats::F32(&buffers[2]), shape: v_shape, strides: strides[2] },
        scale: 0.3,
        cap: source.0.arbitrary::<bool>()?.then_some(20.0),
        mask,
        sinks: source.0.arbitrary::<bool>()?.then_some(&*sinks),
    };
    let len = source.length(batch * length * heads * value_dim)?;
    every(len, 1e-3, |y, isa| attention.run(y, isa).is_ok());
    Ok(())
}

fn recurrence(source: &mut Source) -> Result<()> {
    let shape = [source.size(2)?, source.size(9)?, source.size(3)?, source.size(3)?];
    let [batch, length, groups, heads] = shape;
    let (value_dim, key_dim) = (source.size(40)?, source.size(40)?);
    let each = batch * length * groups;
    let [queries, keys] = [each * key_dim; 2].map(|len| source.floats(len));
    let (queries, keys) = (queries?, keys?);
    let values = source.floats(each * heads * value_dim)?;
    let rates = source.floats(each * heads)?;
    let rates: Box<[_]> = rates.iter().map(|x| x.abs() / 100.0).collect();
    let log_decay: Box<[_]> = source.floats(each * heads)?.iter().map(|x| -x.abs()).collect();
    let recurrence = Recurrence {
        queries: &queries,
        keys: &keys,
        values: &values,
        log_decay: &log_decay,
        rates: source.0.arbitrary::<bool>()?.then_some(&*rates),
        shape: [batch, length, groups, heads, value_dim, key_dim],
    };
    let before = source.floats(batch * groups * heads * value_dim * key_dim)?;
    let len = source.length(values.len())?;
    every(len, 1e-3, |y, isa| {
        let mut after = vec![0.0; before.len()].into_boxed_slice();
        recurrence.run(&before, y, &mut after, isa).is_ok()
    });
    Ok(())
}

fn small(source: &mut Source) -> Result<()> {
    let (batch, length, channels) = (source.size(2)?, source.size(20)?, source.size(70)?);
    let kernel = source.size(5)?;
    let x = source.floats(batch * (kernel + length).saturating_sub(1) * channels)?;
    let (weight, bias) = (source.floats(kernel * channels)?, source.floats(channels)?);
    let silu = source.0.arbitrary()?;
    let shape = [batch, length, channels, kernel];
    let conv = CausalConv { x: &x, weight: &weight, bias: Some(&bias), silu, shape };
    every(batch * length * channels, 1e-3, |y, isa| conv.run(y, isa).is_ok());

    let (dims, rows) = (source.size(300)?, source.size(9)?);
    let x = source.floats(rows * dims)?;
    let weight = source.floats(dims)?;
    every(rows * dims, 1e-3, |y, isa| {
        rms_norm(&x, None, Some(Floats::F32(&weight)), dims, 1e-5, y, isa).is_ok()
    });

    let up = source.floats(x.len())?;
    for activation in [Activation::Silu, Activation::Gelu, Activation::GeluTanh, Activation::Relu] {
        every(x.len(), 1e-3, |y, isa| gated(activation, &x, &up, y, isa).is_ok());
    }

    let shape = [batch, source.size(4)?, length, source.size(70)?];
    let [a, b, c, _] = source.strides(shape)?;
    let values = source.floats(span(&shape, &[a, b, c, 1]))?;
    let heads = Heads { values: &values, shape, strides: [a, b, c] };
    let dims = source.size(70)?;
    let wavelengths = source.floats(dims / 2)?;
    let angles =
        if source.0.arbitrary()? { Angles::Base(1e4) } else { Angles::Freqs(&wavelengths) };
    let offset = source.0.arbitrary()?;
    let traditional = source.0.arbitrary()?;
    let rope = Rope { dims, traditional, angles, scale: 1.0, attention_factor: 1.5, offset };
    let weight = source.floats(shape[3])?;
    let norm = HeadNorm { weight: Some(Floats::F32(&weight)), eps: 1e-5 };
    let preparation = QkNormRope { norm: Some(norm), rope: Some(rope) };
    let (capacity, start) = (source.size(20)?, source.size(20)?);
    every(batch * shape[1] * capacity * shape[3], 1e-3, |y, isa| {
        preparation.write(&heads, FloatsMut::F32(y), capacity, start, isa).is_ok()
    });
    Ok(())
}

/// Whatever the logits are, and if there are any, what is kept and drawn are tokens.
fn sampling(source: &mut Source) -> Result<()> {
    let count = source.size(3000)?;
    let mut values = source.floats(count)?;
    let len = values.len();
    let penalties = Penalties {
        repetition: 1.0 + source.0.int_in_range(0..=2)? as f32,
        presence: source.0.int_in_range(0..=2)? as f32,
        frequency: source.0.int_in_range(0..=2)? as f32,
        logit_bias: vec![(source.0.int_in_range(0..=3000)?, f32::NEG_INFINITY)],
        ..Penalties::default()
    };
    let count = source.size(30)?;
    let recent: Vec<_> = source.bytes(count)?.iter().map(|&byte| u32::from(byte)).collect();
    penalties.apply(&mut values, &recent);
    let options = SamplingOptions {
        temperature: *source.0.choose(&[1e-30, 0.7, 1.0, f32::MAX])?,
        dynamic_temperature_range: *source.0.choose(&[0.0, 0.5, f32::MAX])?,
        dynamic_temperature_exponent: *source.0.choose(&[0.0, 1.0, 1e9])?,
        top_n_sigma: *source.0.choose(&[0.0, 1e-9, 1.0, f32::MAX])?,
        typical_p: *source.0.choose(&[0.0, 1e-9, 0.5, 1.0])?,
        top_p: *source.0.choose(&[0.0, 1e-9, 0.5, 0.999_999_9, 1.0])?,
        min_p: *source.0.choose(&[0.0, 0.1, 1.0])?,
        min_tokens_to_keep: source.0.int_in_range(0..=80)?,
        top_k: source.0.int_in_range(0..=4000)?,
        xtc_probability: 1.0,
        xtc_threshold: *source.0.choose(&[0.0, 0.01, 0.5])?,
        xtc_special_tokens: vec![source.0.int_in_range(0..=3000)?],
    };
    let (xtc, uniform) = (source.0.arbitrary()?, f64::from(source.0.arbitrary::<u16>()?) / 65536.0);
    for isa in Isa::available() {
        let logits = Logits::new(&values, isa);
        let kept = logits.kept(&options, xtc);
        assert!(kept.iter().flatten().all(|&token| (token as usize) < len));
        let token = logits.draw(kept.as_deref(), options.temperature, uniform);
        assert!((token as usize) < len.max(1));
        assert_eq!(logits.best(70).len(), len.min(70));
        let _ = logits.log_sum_exp();
    }
    Ok(())
}

fuzz_target!(|data: &[u8]| {
    let mut source = Source(Unstructured::new(data));
    let _ = match source.0.int_in_range(0..=5) {
        Ok(0) => quantized(&mut source),
        Ok(1) => dense_product(&mut source),
        Ok(2) => attention(&mut source),
        Ok(3) => recurrence(&mut source),
        Ok(4) => sampling(&mut source),
        _ => small(&mut source),
    };
});
