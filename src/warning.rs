//! What of a model's files or of the device could not be used, and the model runs without.

use std::path::{Path, PathBuf};

/// Something that does not keep a model from running, and that its user should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Its kind.
    pub code: WarningCode,
    /// The file that it is about; the model's folder where it is about none.
    pub path: PathBuf,
    /// What is wrong, and what is done without it; a file's name is part of it.
    pub message: String,
}

/// The kinds of warnings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum WarningCode {
    /// A file that only gives hints cannot be read, and was left out.
    UnusableFile,
    /// A field of a file that only gives hints cannot be used, and was left out.
    UnusableField,
    /// `model.safetensors.index.json` does not describe the files that lie beside it.
    StaleIndex,
    /// The checkpoint has an output head of its own where the embedding is the head, or a
    /// prediction head with tensors that are missing or do not fit.
    UnusedHead,
    /// Matrices that another program has quantized have no packed form in MLX, and are loaded as
    /// numbers.
    Dequantized,
    /// Our kernels do not run on the card that there is, and MLX's operations do the work.
    KernelsUnavailable,
}

impl WarningCode {
    /// The stable code that JavaScript sees.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnusableFile => "UNUSABLE_FILE",
            Self::UnusableField => "UNUSABLE_FIELD",
            Self::StaleIndex => "STALE_INDEX",
            Self::UnusedHead => "UNUSED_HEAD",
            Self::Dequantized => "DEQUANTIZED",
            Self::KernelsUnavailable => "KERNELS_UNAVAILABLE",
        }
    }
}

impl Warning {
    /// A warning about `path`.
    pub fn new(code: WarningCode, path: &Path, message: impl std::fmt::Display) -> Self {
        let message = format!("{}: {message}", path.display());
        Self { code, path: path.to_owned(), message }
    }
}
