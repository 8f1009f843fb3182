//! Long prompts: whole chunks, which other kernels may read, give what shorter ones do.

use std::ops::ControlFlow;
use std::thread;

use nodemlx::fused::{Device, Precision};
use nodemlx::mlx::{self, DeviceKind, Dtype};
use nodemlx::models::{self, LoadOptions};

use super::{logits, relative_error};

/// Two whole chunks, and some more.
const LENGTH: u32 = 2 * 2048 + 60;

/// The logits behind every position of a long prompt that is read in chunks of that many.
fn long(kind: DeviceKind, device: Device, dtype: Dtype, chunk: usize) -> Vec<f32> {
    mlx::enter(kind).unwrap();
    let options = LoadOptions { device, dtype: Some(dtype), ..LoadOptions::default() };
    let folder = seeded::folder("llama-wide");
    let loaded = models::load(&folder, &options, &mut |_| ControlFlow::Continue(())).unwrap();
    let tokens: Vec<u32> = (0..LENGTH).map(|i| i * i % 89).collect();
    logits(&*loaded.model, &tokens, chunk)
}

fn on_the_cpu(precision: Precision, chunk: usize) -> Vec<f32> {
    long(DeviceKind::Cpu, Device::cpu(None, precision), Dtype::Float32, chunk)
}

#[test]
fn whole_chunks_give_what_short_ones_do() {
    let exact = on_the_cpu(Precision::Exact, 2048);
    for (precision, chunk) in [(Precision::Exact, 300), (Precision::Fast, 2048)] {
        let error = relative_error(&on_the_cpu(precision, chunk), &exact);
        assert!(error < 1e-5, "{precision:?}, chunks of {chunk}: {error:.1e}");
    }
}

#[test]
#[ignore = "takes a GPU: MLX_ENABLE_TF32=0 cargo test --test models on_a_gpu -- --ignored"]
fn whole_chunks_give_what_short_ones_do_on_a_gpu() {
    // A thread has one kind of device.
    let reference = || on_the_cpu(Precision::Exact, 2048);
    let exact = thread::scope(|scope| scope.spawn(reference).join().unwrap());
    for dtype in [Dtype::Bfloat16, Dtype::Float16] {
        for chunk in [2048, 300] {
            let error = relative_error(&long(DeviceKind::Gpu, Device::gpu(), dtype, chunk), &exact);
            // What is rounded to 8 or 11 bits between layers.
            let tolerance = if dtype == Dtype::Bfloat16 { 2e-2 } else { 3e-3 };
            assert!(error < tolerance, "{dtype:?}, chunks of {chunk}: {error:.1e}");
        }
    }
}
