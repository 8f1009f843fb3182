//! Whether a Mac has a Metal device.
//!
//! MLX for macOS allocates all memory on the first device of `MTLCopyAllDevices`, the CPU's too.
//! Where that list is empty, as in virtual machines without graphics, it indexes it all the same,
//! and Objective-C's exception ends the process; so the same list is asked for before MLX does
//! anything.

use crate::error::{Error, Result};

/// Refuses a machine on which MLX would end the process.
pub fn check() -> Result<()> {
    if has_device() {
        return Ok(());
    }
    Err(Error::DeviceUnavailable(
        "this Mac shows no Metal device, without which MLX does not run, not on the CPU either; \
         virtual machines and some remote sessions have none"
            .to_owned(),
    ))
}

#[cfg(target_os = "macos")]
fn has_device() -> bool {
    use std::ffi::c_void;
    use std::sync::LazyLock;

    #[link(name = "Metal", kind = "framework")]
    unsafe extern "C" {
        /// A retained `NSArray<id<MTLDevice>>`, or nil.
        fn MTLCopyAllDevices() -> *const c_void;
    }

    // An NSArray is a CFArray, too ("toll-free bridging").
    #[link(name = "CoreFoundation", kind = "framework")]
    unsafe extern "C" {
        fn CFArrayGetCount(array: *const c_void) -> isize;
        fn CFRelease(object: *const c_void);
    }

    static HAS_DEVICE: LazyLock<bool> = LazyLock::new(|| {
        // SAFETY: takes nothing; what it returns is released below.
        let devices = unsafe { MTLCopyAllDevices() };
        if devices.is_null() {
            return false;
        }
        // SAFETY: `devices` is a live array that belongs to this function, and is released once.
        unsafe {
            let count = CFArrayGetCount(devices);
            CFRelease(devices);
            count > 0
        }
    });
    *HAS_DEVICE
}

/// Without a GPU that it can use MLX runs on the CPU there.
#[cfg(not(target_os = "macos"))]
fn has_device() -> bool {
    true
}
