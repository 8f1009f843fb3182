//! Locks of files, which JavaScript cannot take itself.

use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use napi::Env;
use napi_derive::napi;

use super::error::{Result, throw};
use crate::error::Error;

/// A file's lock. It ends with [`NativeFileLock::release`], with the process, or as garbage.
#[napi]
pub struct NativeFileLock {
    file: Option<File>,
}

#[napi]
impl NativeFileLock {
    /// Lets the next one have the lock. May be called again.
    #[napi]
    pub fn release(&mut self) {
        self.file = None;
    }
}

/// Takes the lock of a file, which is made where there is none; `null` where somebody has it, or has
/// removed the file meanwhile, whose lock keeps nobody out. The lock is that of `flock(2)`, as
/// Python's filelock takes it.
#[napi]
pub fn lock_file(env: &Env, path: String) -> Result<Option<NativeFileLock>> {
    let path = PathBuf::from(path);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|error| throw(env, &Error::io(&path, error)))?;
    match file.try_lock() {
        Ok(()) if is_at(&file, &path) => Ok(Some(NativeFileLock { file: Some(file) })),
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(throw(
            env,
            &match error.kind() {
                // File systems of networks may know no locks.
                ErrorKind::Unsupported => {
                    Error::Unsupported(format!("{}: this file system has no locks", path.display()))
                }
                _ if error.raw_os_error() == Some(libc::ENOLCK) => {
                    Error::Unsupported(format!("{}: there are no locks left", path.display()))
                }
                _ => Error::io(&path, error),
            },
        )),
    }
}

/// Whether the file at `path` is still this one.
fn is_at(file: &File, path: &Path) -> bool {
    let identity = |it: Metadata| (it.dev(), it.ino());
    let there = path.metadata().map(identity);
    there.is_ok_and(|there| file.metadata().map(identity).is_ok_and(|own| own == there))
}
