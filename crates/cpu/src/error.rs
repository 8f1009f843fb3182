//! What kernels refuse.

use std::fmt;

/// Arguments that do not fit each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The argument that is wrong.
    pub argument: &'static str,
    /// What is wrong with it.
    pub message: String,
}

/// A result of a kernel.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The error of an argument.
    pub fn argument(argument: &'static str, message: impl Into<String>) -> Self {
        Self { argument, message: message.into() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}: {}", self.argument, self.message)
    }
}

impl std::error::Error for Error {}
