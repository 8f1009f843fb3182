//! Files mapped into memory, and arrays over their bytes.

use std::ffi::{c_int, c_void};
use std::fs::File;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use memmap2::{Advice, MmapMut, MmapOptions};
use mlx_sys as sys;

use super::call::check;
use super::{Array, Dtype};
use crate::error::{Error, Result};

unsafe extern "C" {
    /// Of native/primitives/mapped.h.
    fn nodemlx_mapped(
        array: *mut sys::mlx_array,
        made: *mut bool,
        data: *mut c_void,
        shape: *const i32,
        dims: usize,
        dtype: sys::mlx_dtype,
        payload: *mut c_void,
        release: extern "C" fn(*mut c_void),
    ) -> c_int;
}

/// What MLX's allocator for the CPU keeps before the memory of an array.
const HEADER: usize = 8;

/// The bytes of all arrays that lie in mapped files, which MLX does not count.
static IN_PLACE: AtomicUsize = AtomicUsize::new(0);

/// The bytes of all live arrays that lie in mapped files where MLX does not count them.
pub(super) fn bytes_in_place() -> usize {
    IN_PLACE.load(Ordering::Relaxed)
}

/// What an array holds of its file.
struct Hold {
    /// What it adds to [`IN_PLACE`].
    counted: Arc<AtomicUsize>,
    _map: Arc<MmapMut>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        IN_PLACE.fetch_sub(self.counted.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

/// A file's bytes, which the arrays made from them keep alive.
#[derive(Debug, Clone)]
pub struct MappedFile(Arc<MmapMut>);

impl MappedFile {
    /// Maps a file that is not empty.
    ///
    /// The mapping is private and copied on write: MLX may use a buffer whose last reader is done
    /// for its result, which must never reach the file.
    pub fn map(file: &File) -> std::io::Result<Self> {
        // SAFETY: as with every mapped model file, truncating it while it is in use is beyond our
        // control; writes by others would change weights, never memory safety.
        let map = unsafe { MmapOptions::new().no_reserve_swap().map_copy(file) }?;
        // Only wishes. Large pages, where the file system has them (Linux 6.16 with ext4, 5.18 with
        // XFS): a walk through the page table for every 4 KiB costs products that read at the speed
        // of the memory 5-9 % of it. They must be asked for before anything is read.
        #[cfg(target_os = "linux")]
        let _ = map.advise(Advice::HugePage);
        // What is not in memory yet is read while the model is put together; without this, pages
        // come as they are touched.
        #[cfg(unix)]
        let _ = map.advise(Advice::WillNeed);
        Ok(Self(Arc::new(map)))
    }

    /// No file: memory without content.
    ///
    /// # Errors
    /// Those of the system.
    pub fn none() -> std::io::Result<Self> {
        MmapMut::map_anon(1).map(|map| Self(Arc::new(map)))
    }

    /// All of the bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// An array over some of the bytes; MLX copies them only where its device cannot use them in
    /// place.
    ///
    /// # Errors
    /// [`Error::Mlx`] if the bytes lie outside of the file, are not as many as `shape` says, or are
    /// not aligned for `dtype`.
    pub fn array(&self, range: Range<usize>, shape: &[i32], dtype: Dtype) -> Result<Array> {
        extern "C" fn release(payload: *mut c_void) {
            // SAFETY: `payload` is what `Box::into_raw` gave below; MLX releases it once.
            drop(unsafe { Box::from_raw(payload.cast::<Hold>()) });
        }
        let start = range.start;
        let bytes = self
            .0
            .get(range)
            .ok_or_else(|| Error::Mlx("a tensor lies outside of its file".to_owned()))?;
        let elements =
            shape.iter().try_fold(1_usize, |n, &dim| n.checked_mul(usize::try_from(dim).ok()?));
        // SAFETY: reads a constant of the data type.
        let size = unsafe { sys::mlx_dtype_size(dtype.into()) };
        if elements.and_then(|n| n.checked_mul(size)) != Some(bytes.len()) {
            return Err(Error::Mlx("a tensor's bytes do not fit its shape".to_owned()));
        }
        if !(bytes.as_ptr() as usize).is_multiple_of(size) || bytes.is_empty() {
            // Rare: an odd header length, or no elements. MLX copies.
            // SAFETY: the bytes are as many as the shape and type say.
            return Ok(unsafe { Array::from_raw_data(bytes.as_ptr().cast(), shape, dtype) });
        }
        let counted = Arc::new(AtomicUsize::new(0));
        let hold = Hold { counted: Arc::clone(&counted), _map: Arc::clone(&self.0) };
        let payload = Box::into_raw(Box::new(hold)).cast::<c_void>();
        let data = bytes.as_ptr().cast_mut().cast::<c_void>();
        // SAFETY: makes an empty handle, which is either given to a new array or filled below.
        let mut handle = unsafe { sys::mlx_array_new() };
        let mut made = false;
        if start >= HEADER {
            // SAFETY: the header lies in the mapping (checked); the bytes, as many as the shape and
            // type say, stay valid until `release` drops the reference taken above, and the private
            // mapping may be written.
            check(unsafe {
                nodemlx_mapped(
                    &mut handle,
                    &mut made,
                    data,
                    shape.as_ptr(),
                    shape.len(),
                    dtype.into(),
                    payload,
                    release,
                )
            })?;
        }
        if made {
            counted.store(bytes.len(), Ordering::Relaxed);
            IN_PLACE.fetch_add(bytes.len(), Ordering::Relaxed);
        } else {
            // SAFETY: the same; the payload was not used before. The empty handle holds nothing to
            // be freed.
            handle = unsafe {
                sys::mlx_array_new_data_managed_payload(
                    data,
                    shape.as_ptr(),
                    shape.len() as i32,
                    dtype.into(),
                    payload,
                    Some(release),
                )
            };
        }
        if handle.ctx.is_null() {
            check(1)?;
        }
        // SAFETY: a fresh handle.
        Ok(unsafe { Array::from_ptr(handle) })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::mlx::{DeviceKind, enter, ops, scalar, to_f32_vec};

    fn mapped(values: &[f32]) -> MappedFile {
        let mut file = tempfile::tempfile().unwrap();
        for value in values {
            file.write_all(&value.to_le_bytes()).unwrap();
        }
        MappedFile::map(&file).unwrap()
    }

    #[test]
    fn an_array_lies_where_the_file_is_mapped() {
        enter(DeviceKind::Cpu).unwrap();
        let file = mapped(&[1.0, 2.0, 3.0, 4.0]);
        let first = file.array(0..8, &[2], Dtype::Float32).unwrap();
        let second = file.array(8..16, &[2], Dtype::Float32).unwrap();
        assert_eq!(to_f32_vec(&first).unwrap(), [1.0, 2.0]);
        assert_eq!(second.as_slice::<f32>().as_ptr().cast(), file.bytes()[8..].as_ptr());
    }

    #[test]
    fn an_array_keeps_its_file_mapped() {
        enter(DeviceKind::Cpu).unwrap();
        let file = mapped(&[1.0, 2.0, 3.0, 4.0]);
        let array = file.array(4..16, &[3], Dtype::Float32).unwrap();
        drop(file);
        assert_eq!(to_f32_vec(&array).unwrap(), [2.0, 3.0, 4.0]);
    }

    #[test]
    fn a_result_in_the_place_of_its_input_does_not_reach_the_file() {
        enter(DeviceKind::Cpu).unwrap();
        let file = mapped(&[1.0, 2.0]);
        let again = file.clone();
        let array = file.array(0..8, &[2], Dtype::Float32).unwrap();
        let sum = ops::add(&array, &scalar(1.0)).unwrap();
        drop((array, file));
        assert_eq!(to_f32_vec(&sum).unwrap(), [2.0, 3.0]);
        drop(again);
    }

    #[test]
    fn a_range_that_does_not_fit_is_refused() {
        enter(DeviceKind::Cpu).unwrap();
        let file = mapped(&[1.0, 2.0]);
        assert!(file.array(0..16, &[4], Dtype::Float32).is_err());
        assert!(file.array(0..8, &[3], Dtype::Float32).is_err());
        assert!(file.array(0..8, &[i32::MAX, i32::MAX], Dtype::Float32).is_err());
        assert!(file.array(0..8, &[-2], Dtype::Float32).is_err());
    }
}
