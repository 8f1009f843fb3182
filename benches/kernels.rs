//! Kernels against the machine: how much of the memory's bandwidth the products with few rows use,
//! and how many multiplications per second the others reach. A plain read with the same threads,
//! between the kernels, is the measure: `cargo bench --bench kernels [filter]`.
#![allow(clippy::print_stdout, clippy::unwrap_used, unsafe_code, missing_docs)]

mod common;

use common::{median, read, seconds};
use nodemlx::cpu::quant::{Format, Scales, Weights, matmul};
use nodemlx::cpu::{ExecOptions, Floats, Isa, Precision};

/// Rounds of each measurement; the median counts.
const ROUNDS: usize = 9;

/// A quantized matrix of some hundred megabytes, as `count` matrices, so that every product comes
/// from memory.
fn quantized(format: Format, m: usize, precision: Precision, isa: Isa) {
    let (rows, cols) = (2048, 2048);
    let (bits, group) = (format.bits(), format.group());
    let count = if m > 16 { 4 } else { 96 };
    let bytes = rows * cols * bits / 8;
    let packed: Vec<u64> =
        (0..count * bytes / 8).map(|i| (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
    let packed: &[u8] =
        // SAFETY: every byte of a word is a byte.
        unsafe { std::slice::from_raw_parts(packed.as_ptr().cast(), 8 * packed.len()) };
    let groups = rows * cols / group;
    let floats = vec![half::bf16::from_f32(0.01); count * groups];
    let ones = vec![127u8; count * groups];
    let x: Vec<f32> = (0..m * cols).map(|i| (i % 251) as f32 / 100.0 - 1.0).collect();
    let mut y = vec![0.0; m * rows];
    let mut total = 0;
    let mut run = || {
        total = 0;
        for i in 0..count {
            let floats = Floats::Bf16(&floats[i * groups..(i + 1) * groups]);
            let ones = &ones[i * groups..(i + 1) * groups];
            let (scales, biases) = match format {
                Format::Affine { .. } => (Scales::Floats(floats), Some(floats)),
                Format::Nvfp4 => (Scales::E4m3(ones), None),
                _ => (Scales::E8m0(ones), None),
            };
            total += bytes + groups * if biases.is_some() { 4 } else { 1 };
            let packed = &packed[i * bytes..(i + 1) * bytes];
            let weights = Weights { format, packed, scales, biases, slabs: 1, rows, cols };
            matmul(&weights, &x, &mut y, ExecOptions { isa, precision }).unwrap();
        }
    };
    let plain = vec![1; count * bytes];
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        theirs.push(seconds(|| read(&plain)));
        ours.push(seconds(&mut run));
    }
    let (ours, theirs) = (median(ours), median(theirs));
    let bandwidth = total as f64 / ours / 1e9;
    let ceiling = plain.len() as f64 / theirs / 1e9;
    let rate = (count * m * rows * cols) as f64 / ours / 1e9;
    println!(
        "{format:?} m={m} {precision:?} {isa:?}: {bandwidth:.1} GB/s, {:.0} % of {ceiling:.1}; {rate:.0} GMAC/s",
        100.0 * bandwidth / ceiling
    );
}

fn main() {
    let filter: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let wanted = |name: &str| filter.is_empty() || filter.iter().any(|f| name.contains(f.as_str()));
    for isa in Isa::available() {
        for precision in [Precision::Fastest, Precision::Fast, Precision::Exact] {
            for format in [
                Format::Affine { bits: 4, group: 64 },
                Format::Affine { bits: 4, group: 32 },
                Format::Affine { bits: 8, group: 64 },
                Format::Affine { bits: 6, group: 64 },
                Format::Affine { bits: 3, group: 64 },
                Format::Mxfp4,
                Format::Mxfp8,
            ] {
                for m in [1, 4, 16, 32, 256] {
                    if wanted(&format!("quantized {format:?} m={m} {precision:?} {isa:?}")) {
                        quantized(format, m, precision, isa);
                    }
                }
            }
        }
    }
}
