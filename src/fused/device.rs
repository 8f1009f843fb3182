//! What a model runs with, and which implementation of an operation follows from it.

use super::cpu::NodeOptions;
use crate::cpu::pool::{self, Pool};
use crate::cpu::{ExecOptions, Isa};
use crate::error::Result;
use crate::mlx::gpu::{Card, Kernel, rehearsal};
use crate::mlx::{Array, DeviceKind, Dtype};

pub use crate::cpu::Precision;

/// Where and how a model runs: made when it is loaded, kept by its layers, and the same for every
/// operation of every graph that they build, whichever thread evaluates it.
///
/// MLX's stream is not in it: streams belong to threads ([`crate::mlx::enter`]), and a model to
/// one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device {
    /// The processor or a GPU.
    pub kind: DeviceKind,
    /// How many threads may work on a CPU kernel at the same time.
    pub threads: usize,
    /// The precision of the CPU kernels' products.
    pub precision: Precision,
    /// Whether operations run as their plain compositions.
    pub plain: bool,
}

impl Default for Device {
    /// The CPU with one thread on each physical core, and fast products.
    fn default() -> Self {
        Self::cpu(None, Precision::Fast)
    }
}

impl Device {
    /// The CPU; `None` for one thread on each physical core.
    pub fn cpu(threads: Option<usize>, precision: Precision) -> Self {
        let threads = threads.unwrap_or_else(pool::default_threads);
        Pool::global().grow(threads);
        Self { kind: DeviceKind::Cpu, threads, precision, plain: false }
    }

    /// Refuses an instruction set that the environment names and the processor lacks.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT`; see [`Isa::wanted`].
    pub fn check_environment() -> Result<()> {
        Isa::wanted()?;
        Ok(())
    }

    /// The GPU.
    pub fn gpu() -> Self {
        Self { kind: DeviceKind::Gpu, threads: 1, precision: Precision::Exact, plain: false }
    }

    /// The same with every operation as its plain composition, for tests and differentiation.
    pub fn plain(self) -> Self {
        Self { plain: true, ..self }
    }

    /// The card of the CUDA column of a table, which comes before the others where it has a kernel.
    pub(super) fn cuda(self) -> Option<Card> {
        if self.kind == DeviceKind::Gpu && !self.plain { Card::current() } else { None }
    }

    /// Whether kernels are compiled when they are first needed, which takes seconds: by MLX, too.
    pub fn compiles_kernels(self) -> bool {
        self.kind == DeviceKind::Gpu && cfg!(target_os = "linux")
    }

    /// Has what `run` needs of kernels for an NVIDIA card compiled, all of them beside each other;
    /// `run` computes nothing that is of use, and is not called elsewhere. Ends early where `go_on`
    /// says no.
    pub fn prepare(self, run: impl FnOnce(), go_on: &(dyn Fn() -> bool + Sync)) {
        if let Some(card) = self.cuda() {
            Kernel::prepare(&rehearsal::on(card, run), go_on);
        }
    }

    /// Why our kernels do not run on the NVIDIA card that it is, if so.
    pub fn complaint(self) -> Option<&'static str> {
        if self.kind == DeviceKind::Gpu { Card::complaint() } else { None }
    }

    /// The column of an operation's table for an operation on `x`.
    pub(super) fn backend(self, x: &Array) -> Backend {
        self.backend_of(x.dtype())
    }

    /// The column of an operation's table for activations of type `dtype`.
    pub(super) fn backend_of(self, dtype: Dtype) -> Backend {
        match self.kind {
            _ if self.plain => Backend::Plain,
            DeviceKind::Cpu if dtype == Dtype::Float32 => {
                let exec = ExecOptions { isa: Isa::best(), precision: self.precision };
                Backend::Cpu(NodeOptions { exec, threads: self.threads })
            }
            DeviceKind::Cpu | DeviceKind::Gpu => Backend::Mlx,
        }
    }
}

/// The columns of the tables, but for that of [`Device::cuda`].
#[derive(Clone, Copy)]
pub(super) enum Backend {
    /// Kernels of `crate::cpu`, which take activations in `f32`.
    Cpu(NodeOptions),
    /// MLX's own fused operations, and where it has none the plain composition.
    Mlx,
    /// The plain composition.
    Plain,
}
