//! Kernels of ours on an NVIDIA card, as nodes of MLX's graph.
//!
//! They are compiled for the card at hand when they are first used, with the compiler that MLX's
//! CUDA library brings along, and kept on disk (`kernel_images`). Where there is no such card or
//! compiler, MLX's own operations do the work.

use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::hash::{Hash, Hasher};
use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError};
use std::thread;

use mlx_sys as sys;

use super::call::{Arrays, check};
use super::kernel_images::{self, Image};
use super::{Array, Dtype, device, eval, from_u32, ops, to_u32_vec};
use crate::error::{Error, Result};

/// The compute capability from which on our kernels run.
const OLDEST_MAJOR: c_int = 8;

/// Why our kernels do not run any more: one could not be compiled. MLX's operations take over.
static LOST: OnceLock<String> = OnceLock::new();

/// `nodemlx_gpu_card` of native/primitives/gpu.h: what the kernels' settings depend on.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Card {
    major: c_int,
    minor: c_int,
    processors: c_int,
    shared_per_block: c_int,
    shared_per_processor: c_int,
}

impl Card {
    /// The card of this process, if our kernels run there: compute capability 8.0 and up, and a
    /// compiler for it.
    pub fn current() -> Option<Self> {
        let found = || Self::found().as_ref().ok().copied().filter(|_| LOST.get().is_none());
        rehearsal::card().or_else(found)
    }

    /// Why our kernels do not run on the NVIDIA card that there is; `None` where they do, and where
    /// there is none.
    pub fn complaint() -> Option<&'static str> {
        LOST.get().or_else(|| Self::found().as_ref().err()?.as_ref()).map(String::as_str)
    }

    /// The card, or why our kernels do not run there; without a reason where there is none.
    fn found() -> &'static std::result::Result<Self, Option<String>> {
        static CARD: LazyLock<std::result::Result<Card, Option<String>>> = LazyLock::new(|| {
            if cfg!(not(target_os = "linux")) || !device::gpu_available() {
                return Err(None);
            }
            let mut card = Card::default();
            // SAFETY: `card` is live.
            check(unsafe { nodemlx_gpu_card_of_mlx(&mut card) })
                // Where one kernel cannot be compiled, none can.
                .and_then(|()| card.check())
                .and_then(|()| image(&card, &address_source()))
                .map(|_| card)
                .map_err(|error| Some(reason(&error)))
        });
        &CARD
    }

    fn check(&self) -> Result<()> {
        if self.major >= OLDEST_MAJOR {
            return Ok(());
        }
        Err(Error::DeviceUnavailable(format!(
            "the card has compute capability {}.{}, and they need {OLDEST_MAJOR}.0",
            self.major, self.minor
        )))
    }

    /// One with the measures of an H100.
    #[cfg(test)]
    pub fn h100() -> Self {
        Self::like((9, 0), 132, 228)
    }

    /// One of this compute capability with so many multiprocessors, each of which has so many KiB of
    /// shared memory.
    #[cfg(test)]
    pub fn like((major, minor): (c_int, c_int), processors: c_int, kibibytes: c_int) -> Self {
        let shared_per_processor = kibibytes * 1024;
        let shared_per_block = shared_per_processor - 1024;
        Self { major, minor, processors, shared_per_block, shared_per_processor }
    }

    /// Whether it has warp groups that multiply together (compute capability 9.0).
    pub fn is_hopper(&self) -> bool {
        (self.major, self.minor) == (9, 0)
    }

    /// Streaming multiprocessors (SMs), which run blocks.
    pub fn processors(&self) -> usize {
        self.processors as usize
    }

    /// Bytes of shared memory that a block may have if so many are to fit on a multiprocessor.
    pub fn shared_memory(&self, blocks: usize) -> usize {
        // The driver keeps 1 KiB for itself for each block.
        let share = self.shared_per_processor as usize / blocks;
        (self.shared_per_block as usize).min(share.saturating_sub(1024))
    }
}

/// What is wrong, without the name of whom the message came through.
fn reason(error: &Error) -> String {
    match error {
        Error::Mlx(message) => message.clone(),
        error => error.to_string(),
    }
}

#[repr(C)]
struct RawKernel {
    _private: [u8; 0],
}

/// `nodemlx_gpu_number`.
#[repr(C)]
struct RawNumber {
    is_real: bool,
    whole: i32,
    real: f32,
}

unsafe extern "C" {
    fn nodemlx_gpu_card_of_mlx(card: *mut Card) -> c_int;
    fn nodemlx_gpu_compiler(major: *mut c_int, minor: *mut c_int) -> c_int;
    fn nodemlx_gpu_compile(
        source: *const c_char,
        options: *const *const c_char,
        option_count: usize,
        image: *mut *mut c_void,
        image_size: *mut usize,
    ) -> c_int;
    fn nodemlx_gpu_free(image: *mut c_void);
    fn nodemlx_gpu_kernel_new(
        kernel: *mut *mut RawKernel,
        name: *const c_char,
        image: *const c_void,
        image_size: usize,
        threads: c_int,
        shared_memory: c_int,
    ) -> c_int;
    fn nodemlx_gpu_kernel_free(kernel: *mut RawKernel);
    fn nodemlx_gpu_is_scheduled(array: sys::mlx_array) -> bool;
    fn nodemlx_gpu_own_address(array: sys::mlx_array) -> u64;
    fn nodemlx_gpu_is_same(one: sys::mlx_array, other: sys::mlx_array) -> bool;
    fn nodemlx_gpu_columns(
        whole: *mut sys::mlx_array,
        first: *mut c_int,
        array: sys::mlx_array,
    ) -> bool;
    fn nodemlx_gpu_run(
        outputs: *mut sys::mlx_vector_array,
        kernel: *mut RawKernel,
        blocks: c_int,
        inputs: *const sys::mlx_array,
        input_count: usize,
        shapes: *const i32,
        dims: *const usize,
        dtypes: *const sys::mlx_dtype,
        output_count: usize,
        numbers: *const RawNumber,
        number_count: usize,
        stream: sys::mlx_stream,
    ) -> c_int;
}

/// Whether an array is computed, or will be by what has been handed to the device.
pub fn is_scheduled(array: &Array) -> bool {
    // SAFETY: the handle is live.
    unsafe { nodemlx_gpu_is_scheduled(array.as_ptr()) }
}

/// Where an array lies in the card's memory, if a kernel may write it there: it is scheduled and
/// contiguous, and nobody else has it. It is to be asked for anew for each launch: where the host
/// reads an array, MLX moves it.
///
/// A launch does not hold what it has only the address of. The array must stay until the launch is
/// handed to the device; MLX's memory is given out anew in the order of what is handed to it.
pub fn own_address(array: &Array) -> Option<NonZero<u64>> {
    // SAFETY: the handle is live.
    NonZero::new(unsafe { nodemlx_gpu_own_address(array.as_ptr()) })
}

/// Whether kernels find arrays at their [`own_address`]: asked of the card once.
pub fn addresses_are_known() -> bool {
    if rehearsal::card().is_some() {
        return true;
    }
    static KNOWN: LazyLock<bool> =
        LazyLock::new(|| is_where_a_kernel_finds_it().is_ok_and(|it| it));
    *KNOWN
}

fn is_where_a_kernel_finds_it() -> Result<bool> {
    let array = from_u32(&[1, 2], &[2]);
    let array = ops::add(&array, &array)?;
    eval(&[&array])?;
    let known = own_address(&array);
    let kernel = Kernel::of(&address_source(), Block { threads: 1, shared_memory: 0 })?;
    let found = kernel.run(1, &[&array], &[(&[2], Dtype::Uint32)], &[])?.swap_remove(0);
    let [low, high] = to_u32_vec(&found)?[..] else { return Ok(false) };
    let found = u64::from(high) << 32 | u64::from(low);
    Ok(known.is_some_and(|known| known.get() == found))
}

/// Whether both are the same array.
pub fn is_same(one: &Array, other: &Array) -> bool {
    // SAFETY: the handles are live.
    unsafe { nodemlx_gpu_is_same(one.as_ptr(), other.as_ptr()) }
}

/// Columns of a contiguous array.
#[derive(Debug)]
pub struct Columns {
    /// The array, or what becomes one when a kernel takes it.
    pub array: Array,
    /// The first of them.
    pub first: i32,
    /// Columns of the array.
    pub stride: i32,
}

/// The last axis of an array as columns: of the array that it is yet to be cut out of, which spares
/// a kernel a contiguous copy, else of itself.
pub fn columns(array: &Array) -> Columns {
    // SAFETY: an empty handle, filled by the call below.
    let mut whole = unsafe { sys::mlx_array_new() };
    let mut first = 0;
    // SAFETY: the handles are live.
    let is_part = unsafe { nodemlx_gpu_columns(&mut whole, &mut first, array.as_ptr()) };
    // SAFETY: the handle is ours alone.
    let whole = unsafe { Array::from_ptr(whole) };
    let array = if is_part { whole } else { array.clone() };
    let stride = array.dim(-1);
    Columns { array, first, stride }
}

/// CUDA source of a kernel and its settings.
#[derive(Debug, Clone)]
pub struct Source {
    /// The text. Its kernel is called `NAME`, which is defined before it.
    pub text: &'static str,
    /// What `NAME` stands for. Each text has a name of its own.
    pub name: &'static CStr,
    /// What else is defined before the text.
    pub settings: Vec<(&'static str, i32)>,
}

impl Source {
    /// All but the text, which is long: this is looked at for each node of a graph.
    fn key(&self) -> (&CStr, &[(&'static str, i32)]) {
        (self.name, &self.settings)
    }
}

impl PartialEq for Source {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Source {}

impl Hash for Source {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

/// How a kernel's blocks look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Block {
    /// How many threads.
    pub threads: usize,
    /// Bytes of dynamic shared memory.
    pub shared_memory: usize,
}

/// An argument that is a number.
#[derive(Debug, Clone, Copy)]
pub enum Number {
    /// `int`
    Whole(i32),
    /// `float`
    Real(f32),
}

/// A compiled kernel.
#[derive(Debug)]
pub struct Kernel(*mut RawKernel);

// SAFETY: the kernel guards what it changes with a lock of its own.
unsafe impl Send for Kernel {}
// SAFETY: as above.
unsafe impl Sync for Kernel {}

impl Drop for Kernel {
    fn drop(&mut self) {
        // SAFETY: freed once.
        unsafe { nodemlx_gpu_kernel_free(self.0) };
    }
}

impl Kernel {
    /// The kernel of `source`, which is compiled the first time that it is asked for in this
    /// process, unless it was compiled in an earlier one.
    pub fn of(source: &Source, block: Block) -> Result<Arc<Self>> {
        type Kernels = HashMap<(Source, Block), Arc<Kernel>>;
        static KERNELS: LazyLock<Mutex<Kernels>> = LazyLock::new(Mutex::default);
        let kernels = || KERNELS.lock().unwrap_or_else(PoisonError::into_inner);
        if rehearsal::card().is_some() {
            rehearsal::note(source, block);
            return Ok(Arc::new(Self(std::ptr::null_mut())));
        }
        let key = (source.clone(), block);
        if let Some(kernel) = kernels().get(&key) {
            return Ok(Arc::clone(kernel));
        }
        let card = Card::current().ok_or_else(|| {
            Error::DeviceUnavailable("our kernels do not run on this device".to_owned())
        })?;
        let image = image(&card, source).inspect_err(|error| {
            let name = source.name.to_string_lossy();
            let _ = LOST.set(format!("{name} with {:?}: {}", source.settings, reason(error)));
        })?;
        let (name, bytes) = match &image {
            Image::Kept(name) => (&**name, &[][..]),
            Image::Loose(bytes) => (source.name, &bytes[..]),
        };
        let mut kernel = std::ptr::null_mut();
        // SAFETY: the image comes with its length and is copied; the name ends with a NUL.
        check(unsafe {
            nodemlx_gpu_kernel_new(
                &mut kernel,
                name.as_ptr(),
                bytes.as_ptr().cast(),
                bytes.len(),
                block.threads as c_int,
                block.shared_memory as c_int,
            )
        })?;
        // Others may be compiled meanwhile, and this one elsewhere, too.
        Ok(Arc::clone(kernels().entry(key).or_insert_with(|| Arc::new(Self(kernel)))))
    }

    /// Has kernels compiled beside each other, by as many threads as there are processors, as long
    /// as `go_on` says yes. What fails is told to who asks for it.
    pub fn prepare(kernels: &[(Source, Block)], go_on: &(dyn Fn() -> bool + Sync)) {
        let next = AtomicUsize::new(0);
        let compile = || {
            while go_on()
                && let Some((source, block)) = kernels.get(next.fetch_add(1, Ordering::Relaxed))
            {
                let _ = Self::of(source, *block);
            }
        };
        let threads = thread::available_parallelism().map_or(1, NonZero::get);
        thread::scope(|scope| {
            for _ in 0..threads.min(kernels.len()) {
                scope.spawn(compile);
            }
        });
    }

    /// Adds a launch of so many blocks to the graph. Arguments are `inputs`, which are contiguous
    /// then, what is returned, of these shapes and types, and `numbers`.
    pub fn run(
        &self,
        blocks: usize,
        inputs: &[&Array],
        outputs: &[(&[i32], Dtype)],
        numbers: &[Number],
    ) -> Result<Vec<Array>> {
        if self.0.is_null() {
            // Of a rehearsal.
            return outputs.iter().map(|(shape, dtype)| ops::zeros(shape, *dtype)).collect();
        }
        let stream = device::current_stream()?;
        let inputs: Vec<_> = inputs.iter().map(|array| array.as_ptr()).collect();
        let shapes: Vec<_> = outputs.iter().flat_map(|(shape, _)| *shape).copied().collect();
        let dims: Vec<_> = outputs.iter().map(|(shape, _)| shape.len()).collect();
        let dtypes: Vec<sys::mlx_dtype> =
            outputs.iter().map(|(_, dtype)| (*dtype).into()).collect();
        let numbers: Vec<_> = numbers
            .iter()
            .map(|number| match *number {
                Number::Whole(whole) => RawNumber { is_real: false, whole, real: 0.0 },
                Number::Real(real) => RawNumber { is_real: true, whole: 0, real },
            })
            .collect();
        let mut arrays = Arrays::empty();
        // SAFETY: the handles are live for the call; all pointers come with their lengths.
        check(unsafe {
            nodemlx_gpu_run(
                arrays.handle_mut(),
                self.0,
                blocks as c_int,
                inputs.as_ptr(),
                inputs.len(),
                shapes.as_ptr(),
                dims.as_ptr(),
                dtypes.as_ptr(),
                dtypes.len(),
                numbers.as_ptr(),
                numbers.len(),
                stream,
            )
        })?;
        arrays.into_vec()
    }
}

fn address_source() -> Source {
    Source {
        text: include_str!("../fused/cuda/address.cu"),
        name: c"nodemlx_address",
        settings: Vec::new(),
    }
}

/// The image of a kernel, kept or compiled.
fn image(card: &Card, source: &Source) -> Result<Image> {
    let options = options(card, source)?;
    let function = source.name.to_string_lossy();
    kernel_images::image(&options, source.text, &function, || compile(&options, source.text))
}

/// The compiler's options for a card, the first of which says which compiler it is.
fn options(card: &Card, source: &Source) -> Result<Vec<String>> {
    let (mut major, mut minor) = (0, 0);
    // SAFETY: both numbers are live.
    check(unsafe { nodemlx_gpu_compiler(&mut major, &mut minor) })?;
    let settings = source.settings.iter().map(|(name, value)| format!("-D{name}={value}"));
    Ok([
        format!("-DCOMPILER={major}.{minor}"),
        // With "a" a kernel may use what only this generation has: Hopper's warp groups.
        format!(
            "--gpu-architecture=sm_{}{}{}",
            card.major,
            card.minor,
            if card.is_hopper() { "a" } else { "" }
        ),
        "--std=c++17".to_owned(),
        format!("-DNAME={}", source.name.to_string_lossy()),
    ]
    .into_iter()
    .chain(settings)
    .collect())
}

fn compile(options: &[String], text: &str) -> Result<Vec<u8>> {
    let c_string = |text: &str| CString::new(text).map_err(|error| Error::Mlx(error.to_string()));
    let text = c_string(text)?;
    let options = options.iter().map(|option| c_string(option)).collect::<Result<Vec<_>>>()?;
    let options: Vec<_> = options.iter().map(|option| option.as_ptr()).collect();
    let (mut image, mut size) = (std::ptr::null_mut(), 0);
    // SAFETY: texts end with a NUL and live for the call; the options come with their number.
    check(unsafe {
        nodemlx_gpu_compile(text.as_ptr(), options.as_ptr(), options.len(), &mut image, &mut size)
    })?;
    // SAFETY: as the call says, there are `size` bytes.
    let bytes = unsafe { std::slice::from_raw_parts(image.cast::<u8>(), size) }.to_vec();
    // SAFETY: given back once.
    unsafe { nodemlx_gpu_free(image) };
    Ok(bytes)
}

/// Steps that are gone through without kernels: these are asked for as on a card, which need not be
/// there, noted, and give zeros.
pub mod rehearsal {
    use std::cell::{Cell, RefCell};
    use std::collections::HashSet;

    use super::{Block, Card, Source};

    thread_local! {
        static CARD: Cell<Option<Card>> = const { Cell::new(None) };
        static ASKED: RefCell<HashSet<(Source, Block)>> = RefCell::default();
    }

    pub(super) fn card() -> Option<Card> {
        CARD.get()
    }

    pub(super) fn note(source: &Source, block: Block) {
        ASKED.with_borrow_mut(|asked| asked.insert((source.clone(), block)));
    }

    /// Ends a rehearsal, also where it panics.
    struct End;

    impl Drop for End {
        fn drop(&mut self) {
            CARD.set(None);
        }
    }

    /// The kernels that `run` asks for on this card.
    pub fn on(card: Card, run: impl FnOnce()) -> Vec<(Source, Block)> {
        ASKED.take();
        CARD.set(Some(card));
        let end = End;
        run();
        drop(end);
        ASKED.take().into_iter().collect()
    }

    /// Loads NVIDIA's compiler, as MLX does where it runs on a card.
    #[cfg(test)]
    pub fn load_compiler() {
        // SAFETY: the library has no initializers but NVIDIA's own, and stays loaded.
        let loaded = unsafe { libc::dlopen(c"libnvrtc.so.13".as_ptr(), libc::RTLD_NOW) };
        assert!(!loaded.is_null(), "the compiler does not load");
    }

    /// How many bytes the image of a kernel has, compiled for this card.
    #[cfg(test)]
    pub fn compile(card: &Card, source: &Source) -> crate::error::Result<usize> {
        let options = super::options(card, source)?;
        super::compile(&options, source.text).map(|image| image.len())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::mlx::{DeviceKind, enter, eval, ops};

    #[test]
    fn parts_of_the_last_axis_are_columns_of_the_array_that_is_cut() {
        enter(DeviceKind::Cpu).unwrap();
        let whole = ops::zeros(&[1, 3, 12], Dtype::Float32).unwrap();
        let parts = ops::split_at(&whole, &[2, 7], -1).unwrap();
        for (part, first) in parts.iter().zip([0, 2, 7]) {
            let columns = columns(part);
            assert_eq!((columns.first, columns.stride), (first, 12));
            assert_eq!(columns.array.shape(), [1, 3, 12]);
        }
        let own = |array: &Array| {
            let columns = columns(array);
            assert_eq!((columns.first, columns.stride), (0, array.dim(-1)));
            assert_eq!(columns.array.shape(), array.shape());
        };
        own(&whole);
        ops::split_at(&whole, &[1], 1).unwrap().iter().for_each(own);
        own(&ops::slice_axis(&parts[1], 1, 0, 2).unwrap());
        own(&ops::reshape(&parts[1], &[3, 5]).unwrap());
        let nested = columns(&ops::slice_axis(&parts[1], 2, 1, 3).unwrap());
        assert_eq!((nested.first, nested.stride), (1, 5), "of what is contiguous only then");
        // What is computed does not know any more what it was cut out of.
        eval(&[&parts[1]]).unwrap();
        own(&parts[1]);
    }
}
