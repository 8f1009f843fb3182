//! Nodes of MLX's graph whose work a kernel in Rust does, on the CPU.

mod failure;
mod views;

use std::ffi::{CStr, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

use mlx_sys as sys;

use super::call::{Arrays, check};
use super::{Array, Dtype, device};
use crate::error::{Error, Result};
use crate::panics;
pub use failure::Failure;
pub use views::{Element, Input, Output};
use views::{RawView, part};

/// A kernel: it computes the outputs from the inputs when MLX evaluates the graph.
pub trait Kernel: Send + Sync + 'static {
    /// How it is called in error messages and in the printed graph.
    const NAME: &'static CStr;

    /// Does the work, on the thread of the stream.
    fn run(&self, inputs: &[Input], outputs: &mut [Output]) -> Result<()>;
}

/// `nodemlx_kernel` of native/primitives/custom.h.
#[repr(C)]
struct RawKernel {
    this: *mut c_void,
    name: *const c_char,
    run: extern "C" fn(
        *mut c_void,
        *const RawView,
        usize,
        *const RawView,
        usize,
        *mut c_char,
        usize,
    ) -> c_int,
    drop: extern "C" fn(*mut c_void),
}

unsafe extern "C" {
    fn nodemlx_custom(
        outputs: *mut sys::mlx_vector_array,
        kernel: RawKernel,
        inputs: *const sys::mlx_array,
        input_count: usize,
        shapes: *const i32,
        dims: *const usize,
        dtypes: *const sys::mlx_dtype,
        output_count: usize,
        updated: usize,
        stream: sys::mlx_stream,
    ) -> c_int;
}

extern "C" fn run<K: Kernel>(
    this: *mut c_void,
    inputs: *const RawView,
    input_count: usize,
    outputs: *const RawView,
    output_count: usize,
    error: *mut c_char,
    error_size: usize,
) -> c_int {
    let inputs: Vec<_> = part(inputs, input_count).iter().map(Input).collect();
    let mut outputs: Vec<_> = part(outputs, output_count).iter().map(Output).collect();
    // SAFETY: `this` is the box of `custom`, which is dropped after the last run.
    let Node { kernel, updated, failure } = unsafe { &*this.cast::<Node<K>>() };
    if failure.as_ref().is_some_and(Failure::happened) {
        outputs[*updated..].iter_mut().for_each(Output::clear);
        return 0;
    }
    let run = || kernel.run(&inputs, &mut outputs);
    let message = match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(())) => return 0,
        Ok(Err(error)) => error.to_string(),
        Err(payload) => panics::message(&*payload),
    };
    if let Some(failure) = failure {
        failure.report(format!("{}: {message}", K::NAME.to_string_lossy()));
        outputs[*updated..].iter_mut().for_each(Output::clear);
        return 0;
    }
    let len = message.len().min(error_size - 1);
    // SAFETY: there are `error_size` bytes, the last of which takes the final NUL.
    unsafe {
        std::ptr::copy_nonoverlapping(message.as_ptr().cast(), error, len);
        *error.add(len) = 0;
    }
    1
}

extern "C" fn drop_kernel<K: Kernel>(this: *mut c_void) {
    // SAFETY: the box of `custom`, given back once.
    drop(unsafe { Box::from_raw(this.cast::<Node<K>>()) });
}

/// A kernel in the graph.
struct Node<K> {
    kernel: K,
    /// Outputs that begin as inputs, and keep what they hold after a failure.
    updated: usize,
    /// Whom a failure is reported to; without one, MLX is.
    failure: Option<Failure>,
}

/// Adds a kernel to the graph of this thread, whose device must be the CPU.
pub fn custom<K: Kernel>(
    kernel: K,
    inputs: &[&Array],
    outputs: &[(&[i32], Dtype)],
) -> Result<Vec<Array>> {
    add(kernel, inputs, outputs, 0)
}

/// [`custom`] with one output.
pub fn custom_one<K: Kernel>(
    kernel: K,
    inputs: &[&Array],
    shape: &[i32],
    dtype: Dtype,
) -> Result<Array> {
    let [array] = custom_each(kernel, inputs, [(shape, dtype)])?;
    Ok(array)
}

/// [`custom`] with a fixed number of outputs.
pub fn custom_each<K: Kernel, const N: usize>(
    kernel: K,
    inputs: &[&Array],
    outputs: [(&[i32], Dtype); N],
) -> Result<[Array; N]> {
    exactly(custom(kernel, inputs, &outputs)?)
}

/// [`custom`] whose first outputs begin as the `updated` inputs, each in its memory if nobody uses
/// that any more. The kernel writes what is to be different, and does not look at these inputs,
/// which come before the others. Gives the outputs for them, and the `others`.
pub fn updating<K: Kernel>(
    kernel: K,
    updated: &[&Array],
    inputs: &[&Array],
    others: &[(&[i32], Dtype)],
) -> Result<(Vec<Array>, Vec<Array>)> {
    let first = updated.iter().map(|x| (x.shape(), x.dtype()));
    let outputs: Vec<_> = first.chain(others.iter().copied()).collect();
    let mut arrays = add(kernel, &[updated, inputs].concat(), &outputs, updated.len())?;
    let others = arrays.split_off(updated.len());
    Ok((arrays, others))
}

fn exactly<const N: usize>(arrays: Vec<Array>) -> Result<[Array; N]> {
    let mismatch = |arrays: Vec<_>| Error::Mlx(format!("{} outputs, not {N}", arrays.len()));
    arrays.try_into().map_err(mismatch)
}

fn add<K: Kernel>(
    kernel: K,
    inputs: &[&Array],
    outputs: &[(&[i32], Dtype)],
    updated: usize,
) -> Result<Vec<Array>> {
    let stream = device::current_stream()?;
    let inputs: Vec<_> = inputs.iter().map(|array| array.as_ptr()).collect();
    let shapes: Vec<_> = outputs.iter().flat_map(|(shape, _)| *shape).copied().collect();
    let dims: Vec<_> = outputs.iter().map(|(shape, _)| shape.len()).collect();
    let dtypes: Vec<sys::mlx_dtype> = outputs.iter().map(|(_, dtype)| (*dtype).into()).collect();
    let mut arrays = Arrays::empty();
    let node = Node { kernel, updated, failure: Failure::current() };
    let kernel = RawKernel {
        this: Box::into_raw(Box::new(node)).cast(),
        name: K::NAME.as_ptr(),
        run: run::<K>,
        drop: drop_kernel::<K>,
    };
    // SAFETY: the handles are live for the call; all pointers come with their lengths; the kernel
    // is given away.
    check(unsafe {
        nodemlx_custom(
            arrays.handle_mut(),
            kernel,
            inputs.as_ptr(),
            inputs.len(),
            shapes.as_ptr(),
            dims.as_ptr(),
            dtypes.as_ptr(),
            dtypes.len(),
            updated,
            stream,
        )
    })?;
    arrays.into_vec()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::mlx::{DeviceKind, enter, eval, from_f32, ops, to_f32_vec};

    /// Writes x + `amount`, and the sum of x; counts its drops.
    struct Shift {
        amount: f32,
        dropped: Arc<AtomicUsize>,
    }

    impl Drop for Shift {
        fn drop(&mut self) {
            self.dropped.fetch_add(1, Ordering::SeqCst);
        }
    }

    impl Kernel for Shift {
        const NAME: &'static CStr = c"Shift";
        fn run(&self, inputs: &[Input], outputs: &mut [Output]) -> Result<()> {
            let x = inputs[0].slice::<f32>()?;
            for (y, x) in outputs[0].slice::<f32>()?.iter_mut().zip(x) {
                *y = x + self.amount;
            }
            outputs[1].slice::<f32>()?[0] = x.iter().sum();
            Ok(())
        }
    }

    struct Panics;

    impl Kernel for Panics {
        const NAME: &'static CStr = c"Panics";
        fn run(&self, inputs: &[Input], _: &mut [Output]) -> Result<()> {
            assert!(inputs.is_empty(), "there are {} inputs", inputs.len());
            Ok(())
        }
    }

    /// Copies a matrix with any strides.
    struct Copy;

    impl Kernel for Copy {
        const NAME: &'static CStr = c"Copy";
        fn run(&self, inputs: &[Input], outputs: &mut [Output]) -> Result<()> {
            let (x, strides) = (inputs[0].span::<f32>()?, inputs[0].strides());
            let columns = inputs[0].shape()[1] as usize;
            for (i, y) in outputs[0].slice::<f32>()?.iter_mut().enumerate() {
                let (row, column) = ((i / columns) as i64, (i % columns) as i64);
                *y = x[(row * strides[0] + column * strides[1]) as usize];
            }
            Ok(())
        }
    }

    #[test]
    fn a_kernel_is_a_node_of_the_graph() {
        enter(DeviceKind::Cpu).unwrap();
        let dropped = Arc::new(AtomicUsize::new(0));
        let shift = Shift { amount: 1.5, dropped: Arc::clone(&dropped) };
        let x = from_f32(&[1.0, 2.0, 3.0], &[3]);
        // The input is a result that is not computed yet, and nothing but the graph keeps it.
        let twice = ops::add(&x, &x).unwrap();
        let outputs =
            custom(shift, &[&twice], &[(&[3], Dtype::Float32), (&[], Dtype::Float32)]).unwrap();
        drop((x, twice));
        let end = ops::add(&outputs[0], &outputs[1]).unwrap();
        assert_eq!(to_f32_vec(&end).unwrap(), [15.5, 17.5, 19.5]);
        drop((outputs, end));
        assert_eq!(dropped.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_kernel_that_never_runs_is_dropped() {
        enter(DeviceKind::Cpu).unwrap();
        let dropped = Arc::new(AtomicUsize::new(0));
        let shift = Shift { amount: 0.0, dropped: Arc::clone(&dropped) };
        let x = from_f32(&[1.0], &[1]);
        drop(custom(shift, &[&x], &[(&[1], Dtype::Float32), (&[], Dtype::Float32)]).unwrap());
        assert_eq!(dropped.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_panic_is_an_error_of_the_evaluation() {
        enter(DeviceKind::Cpu).unwrap();
        let x = from_f32(&[1.0], &[1]);
        let y = custom_one(Panics, &[&x], &[1], Dtype::Float32).unwrap();
        let error = eval(&[&y]).unwrap_err().to_string();
        assert!(error.contains("Panics: there are 1 inputs"), "{error}");
        // The stream goes on.
        assert_eq!(to_f32_vec(&ops::add(&x, &x).unwrap()).unwrap(), [2.0]);
    }

    /// [`updating`] of fixed numbers of arrays.
    fn updating_exactly<const N: usize, const M: usize>(
        kernel: impl Kernel,
        updated: [&Array; N],
        inputs: &[&Array],
        others: [(&[i32], Dtype); M],
    ) -> Result<([Array; N], [Array; M])> {
        let (updated, others) = updating(kernel, &updated, inputs, &others)?;
        Ok((exactly(updated)?, exactly(others)?))
    }

    /// [`updating`] of one array.
    fn updated(kernel: impl Kernel, x: &Array) -> Result<Array> {
        let ([array], []) = updating_exactly(kernel, [x], &[], [])?;
        Ok(array)
    }

    /// Writes a number over the element of that index.
    struct Put(usize, f32);

    impl Kernel for Put {
        const NAME: &'static CStr = c"Put";
        fn run(&self, _: &[Input], outputs: &mut [Output]) -> Result<()> {
            outputs[0].slice::<f32>()?[self.0] = self.1;
            Ok(())
        }
    }

    #[test]
    fn an_update_takes_over_the_memory_of_what_nobody_uses_any_more() {
        enter(DeviceKind::Cpu).unwrap();
        let x = ops::zeros(&[1000], Dtype::Float32).unwrap();
        eval(&[&x]).unwrap();
        let memory = |x: &Array| x.as_slice::<f32>().as_ptr();
        let before = memory(&x);
        let first = updated(Put(1, 5.0), &x).unwrap();
        drop(x);
        let second = updated(Put(2, 6.0), &first).unwrap();
        drop(first);
        eval(&[&second]).unwrap();
        assert_eq!(memory(&second), before);
        assert_eq!(to_f32_vec(&second).unwrap()[..4], [0.0, 5.0, 6.0, 0.0]);
        // What somebody still looks at stays as it is.
        let third = updated(Put(3, 7.0), &second).unwrap();
        eval(&[&third]).unwrap();
        assert_ne!(memory(&third), before);
        assert_eq!(to_f32_vec(&second).unwrap()[..4], [0.0, 5.0, 6.0, 0.0]);
        assert_eq!(to_f32_vec(&third).unwrap()[..4], [0.0, 5.0, 6.0, 7.0]);
    }

    /// Writes x over the first elements of two arrays, and their sum.
    struct PutBoth;

    impl Kernel for PutBoth {
        const NAME: &'static CStr = c"PutBoth";
        fn run(&self, inputs: &[Input], outputs: &mut [Output]) -> Result<()> {
            let x = inputs[2].slice::<f32>()?[0];
            for output in &mut outputs[..2] {
                output.slice::<f32>()?[0] = x;
            }
            outputs[2].slice::<f32>()?[0] = 2.0 * x;
            Ok(())
        }
    }

    #[test]
    fn each_of_several_is_updated_in_its_place_if_nobody_else_uses_it() {
        enter(DeviceKind::Cpu).unwrap();
        let (a, b) = (from_f32(&[1.0, 2.0], &[2]), from_f32(&[3.0, 4.0, 5.0], &[3]));
        let x = from_f32(&[9.0], &[1]);
        eval(&[&a, &b, &x]).unwrap();
        let memory = |x: &Array| x.as_slice::<f32>().as_ptr();
        let (first, second, kept) = (memory(&a), memory(&b), b.clone());
        let one: (&[i32], _) = (&[1], Dtype::Float32);
        let ([a, b], [sum]) = updating_exactly(PutBoth, [&{ a }, &{ b }], &[&x], [one]).unwrap();
        assert_eq!(to_f32_vec(&sum).unwrap(), [18.0]);
        assert_eq!(to_f32_vec(&a).unwrap(), [9.0, 2.0]);
        assert_eq!(to_f32_vec(&b).unwrap(), [9.0, 4.0, 5.0]);
        assert_eq!(to_f32_vec(&kept).unwrap(), [3.0, 4.0, 5.0]);
        assert_eq!(memory(&a), first);
        assert_ne!(memory(&b), second);
        // What came out with others is updated in its place just so.
        let second = memory(&b);
        let ([a, b], [_]) = updating_exactly(PutBoth, [&{ a }, &{ b }], &[&sum], [one]).unwrap();
        assert_eq!(to_f32_vec(&b).unwrap(), [18.0, 4.0, 5.0]);
        assert_eq!((memory(&a), memory(&b)), (first, second));
    }

    /// Adds x to the first elements of two arrays, after a while, and gives what x was.
    struct AddLater;

    impl Kernel for AddLater {
        const NAME: &'static CStr = c"AddLater";
        fn run(&self, inputs: &[Input], outputs: &mut [Output]) -> Result<()> {
            std::thread::sleep(Duration::from_millis(1));
            let x = inputs[2].slice::<f32>()?[0];
            for output in &mut outputs[..2] {
                output.slice::<f32>()?[0] += x;
            }
            outputs[2].slice::<f32>()?[0] = x;
            Ok(())
        }
    }

    #[test]
    fn updates_that_are_far_ahead_of_the_stream_are_in_place_and_views_stay_as_they_are() {
        enter(DeviceKind::Cpu).unwrap();
        let one: (&[i32], _) = (&[1], Dtype::Float32);
        let first = |a: &Array| ops::slice_axis(a, 0, 0, 1).unwrap();
        for looked_at in [None, Some(7)] {
            let (mut a, mut b) = (from_f32(&[0.0; 9], &[9]), from_f32(&[0.5; 9], &[9]));
            let (mut x, mut view) = (from_f32(&[1.0], &[1]), None);
            eval(&[&a, &b]).unwrap();
            let places = |a: &Array, b: &Array| [a, b].map(|x| x.as_slice::<f32>().as_ptr());
            let before = places(&a, &b);
            for i in 0..40 {
                if looked_at == Some(i) {
                    view = Some(first(&a));
                    x = ops::add(&x, &ops::subtract(view.as_ref().unwrap(), &first(&a)).unwrap())
                        .unwrap();
                }
                ([a, b], [x]) = updating_exactly(AddLater, [&{ a }, &{ b }], &[&x], [one]).unwrap();
            }
            eval(&[&x]).unwrap();
            assert_eq!((to_f32_vec(&a).unwrap()[0], to_f32_vec(&b).unwrap()[0]), (40.0, 40.5));
            match view {
                None => assert_eq!(places(&a, &b), before),
                Some(view) => assert_eq!(to_f32_vec(&view).unwrap(), [7.0]),
            }
        }
    }

    #[test]
    fn an_update_of_what_is_strided_is_contiguous() {
        enter(DeviceKind::Cpu).unwrap();
        let x = from_f32(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &[2, 3]);
        for x in [ops::transpose(&x, &[1, 0]).unwrap(), ops::slice_axis(&x, 1, 0, 2).unwrap()] {
            let mut expected = to_f32_vec(&ops::contiguous(&x).unwrap()).unwrap();
            expected[1] = 9.0;
            assert_eq!(to_f32_vec(&updated(Put(1, 9.0), &x).unwrap()).unwrap(), expected);
        }
        let one = ops::broadcast_to(&from_f32(&[4.0], &[1]), &[3]).unwrap();
        assert_eq!(to_f32_vec(&updated(Put(1, 9.0), &one).unwrap()).unwrap(), [4.0, 9.0, 4.0]);
    }

    #[test]
    fn strided_inputs_come_as_they_are() {
        enter(DeviceKind::Cpu).unwrap();
        let x = from_f32(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &[2, 3]);
        let turned = ops::transpose(&x, &[1, 0]).unwrap();
        let copy = custom_one(Copy, &[&turned], &[3, 2], Dtype::Float32).unwrap();
        assert_eq!(to_f32_vec(&copy).unwrap(), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    }
}
