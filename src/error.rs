//! The one error type of the crate. Every variant has a stable code that JavaScript sees.

use std::path::{Path, PathBuf};

/// The crate's result type.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong, with a stable code for each kind ([`Error::code`]).
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An option or argument has a wrong type, range or combination.
    #[error("{option}: {message}")]
    InvalidArgument {
        /// The option's name, as the caller wrote it.
        option: String,
        /// What is wrong with it, and what is accepted.
        message: String,
    },
    /// The request is well formed, but this model or device cannot honour it.
    #[error("{0}")]
    Unsupported(String),
    /// There is no model at that place.
    #[error("{0}")]
    ModelNotFound(String),
    /// `config.json` or `generation_config.json` is missing, is not JSON, or lacks a field.
    #[error("{path}: {message}", path = .path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// The field and what was expected.
        message: String,
    },
    /// `model_type` names an architecture that is not implemented.
    #[error("the architecture \"{model_type}\" is not supported")]
    UnknownArchitecture {
        /// The value of `model_type`.
        model_type: String,
    },
    /// A checkpoint file is broken, or a tensor is missing, has a wrong shape, or was taken by
    /// nobody.
    #[error("{path}: {message}", path = .path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// The tensor, and what was expected.
        message: String,
    },
    /// A prompt-cache file is broken, or belongs to another model.
    #[error("{path}: {message}", path = .path.display())]
    PromptCache {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// An adapter's files are broken, or belong to another model.
    #[error("{path}: {message}", path = .path.display())]
    Adapter {
        /// The folder or the file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// The tokenizer's files are broken.
    #[error("{path}: {message}", path = .path.display())]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// The checkpoint has no tokenizer, and the request needs text.
    #[error("{0}")]
    NoTokenizer(String),
    /// The chat template does not parse, or fails on these messages.
    #[error("{message}")]
    Template {
        /// What happened, with the template's name and line.
        message: String,
    },
    /// The model has no chat template, and the request needs one.
    #[error("{0}")]
    NoChatTemplate(String),
    /// The prompt and the tokens to be generated do not fit the model's context.
    #[error("{0}")]
    ContextOverflow(String),
    /// The caller aborted the operation.
    #[error("{0}")]
    Aborted(String),
    /// The model was disposed of.
    #[error("the model has been disposed of")]
    Disposed,
    /// The device that was asked for is not there.
    #[error("{0}")]
    DeviceUnavailable(String),
    /// The model's logits are no numbers, or leave no token to choose.
    #[error("{0}")]
    Logits(String),
    /// MLX reported an error.
    #[error("MLX: {0}")]
    Mlx(String),
    /// The model's engine thread died; the model cannot be used any more.
    #[error("the model's engine has failed: {0}")]
    EngineFailed(String),
    /// The operating system refused to read a file.
    #[error("{path}: {message}", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's message.
        message: String,
    },
}

impl Error {
    /// The stable code that JavaScript sees as `error.code`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::InvalidArgument { .. } => "INVALID_ARGUMENT",
            Self::Unsupported(_) => "UNSUPPORTED",
            Self::ModelNotFound(_) => "MODEL_NOT_FOUND",
            Self::Config { .. } => "INVALID_CONFIG",
            Self::UnknownArchitecture { .. } => "UNKNOWN_ARCHITECTURE",
            Self::Weights { .. } => "INVALID_WEIGHTS",
            Self::PromptCache { .. } => "INVALID_PROMPT_CACHE",
            Self::Adapter { .. } => "INVALID_ADAPTER",
            Self::Tokenizer { .. } => "INVALID_TOKENIZER",
            Self::NoTokenizer(_) => "NO_TOKENIZER",
            Self::Template { .. } => "TEMPLATE_ERROR",
            Self::NoChatTemplate(_) => "NO_CHAT_TEMPLATE",
            Self::ContextOverflow(_) => "CONTEXT_OVERFLOW",
            Self::Aborted(_) => "ABORTED",
            Self::Disposed => "DISPOSED",
            Self::DeviceUnavailable(_) => "DEVICE_UNAVAILABLE",
            Self::Logits(_) => "INVALID_LOGITS",
            Self::Mlx(_) => "MLX_ERROR",
            Self::EngineFailed(_) => "ENGINE_FAILED",
            Self::Io { .. } => "IO_ERROR",
        }
    }

    /// The option that is wrong, where it is one.
    pub fn option(&self) -> Option<&str> {
        match self {
            Self::InvalidArgument { option, .. } => Some(option),
            _ => None,
        }
    }

    /// The file that it is about.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Config { path, .. }
            | Self::Weights { path, .. }
            | Self::PromptCache { path, .. }
            | Self::Adapter { path, .. }
            | Self::Tokenizer { path, .. }
            | Self::Io { path, .. } => Some(path),
            _ => None,
        }
    }

    /// An [`Error::InvalidArgument`] for `option`.
    pub fn argument(option: impl Into<String>, message: impl Into<String>) -> Self {
        Self::InvalidArgument { option: option.into(), message: message.into() }
    }

    /// An [`Error::Config`] for `path`.
    pub fn config(path: impl Into<PathBuf>, message: impl Into<String>) -> Self {
        Self::Config { path: path.into(), message: message.into() }
    }

    /// An [`Error::Weights`] for `path`.
    pub fn weights(path: impl Into<PathBuf>, message: impl Into<String>) -> Self {
        Self::Weights { path: path.into(), message: message.into() }
    }

    /// An [`Error::Adapter`] for `path`.
    pub fn adapter(path: impl Into<PathBuf>, message: impl Into<String>) -> Self {
        Self::Adapter { path: path.into(), message: message.into() }
    }

    /// The message without the path of the file that it is about, for those who name it themselves.
    pub fn message(&self) -> String {
        match self {
            Self::Config { message, .. }
            | Self::Weights { message, .. }
            | Self::PromptCache { message, .. }
            | Self::Adapter { message, .. }
            | Self::Tokenizer { message, .. }
            | Self::Io { message, .. } => message.clone(),
            other => other.to_string(),
        }
    }

    /// An [`Error::Io`] for `path`.
    pub fn io(path: impl Into<PathBuf>, error: &std::io::Error) -> Self {
        Self::Io { path: path.into(), message: error.to_string() }
    }
}
