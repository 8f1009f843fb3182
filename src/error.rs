//! The one error type of the crate. Every variant has a stable code that JavaScript sees.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The crate's result type.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The error behind an error. It is shared, as an error is told to everybody who waits.
pub type Cause = Arc<dyn std::error::Error + Send + Sync>;

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
        /// The error behind it.
        #[source]
        cause: Option<Cause>,
    },
    /// The request is well formed, but this model or device cannot honour it.
    #[error("{0}")]
    Unsupported(String),
    /// An option is well formed, but this model or device cannot honour it.
    #[error("{option}: {message}")]
    UnsupportedOption {
        /// The option's name, as the caller wrote it.
        option: String,
        /// Why not, and what to do.
        message: String,
    },
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
        /// The error behind it.
        #[source]
        cause: Option<Cause>,
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
        /// The tensor that it is about, where it is one.
        tensor: Option<String>,
        /// The error behind it.
        #[source]
        cause: Option<Cause>,
    },
    /// A prompt-cache file is broken, or belongs to another model.
    #[error("{path}: {message}", path = .path.display())]
    PromptCache {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
        /// The error behind it.
        #[source]
        cause: Option<Cause>,
    },
    /// An adapter's files are broken, or belong to another model.
    #[error("{path}: {message}", path = .path.display())]
    Adapter {
        /// The folder or the file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
        /// The error behind it.
        #[source]
        cause: Option<Cause>,
    },
    /// The tokenizer's files are broken.
    #[error("{path}: {message}", path = .path.display())]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
        /// The error behind it.
        #[source]
        cause: Option<Cause>,
    },
    /// The checkpoint has no tokenizer, and the request needs text.
    #[error("{0}")]
    NoTokenizer(String),
    /// The chat template does not parse, or fails on these messages.
    #[error("{message}")]
    Template {
        /// What happened, with the template's name and line.
        message: String,
        /// The error behind it.
        #[source]
        cause: Option<Cause>,
    },
    /// The model has no chat template, and the request needs one.
    #[error("{0}")]
    NoChatTemplate(String),
    /// The prompt and the tokens to be generated do not fit the model's context.
    #[error("{message}")]
    ContextOverflow {
        /// What does not fit, and what to do.
        message: String,
        /// The tokens that there are; of a text that is far too long, how many at least.
        tokens: usize,
        /// The tokens that the context holds.
        context_length: usize,
    },
    /// The generation needs more memory than generations may have.
    #[error("{0}")]
    InsufficientMemory(String),
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
        /// The error behind it.
        #[source]
        cause: Option<Cause>,
    },
}

impl Error {
    /// The stable code that JavaScript sees as `error.code`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::InvalidArgument { .. } => "INVALID_ARGUMENT",
            Self::Unsupported(_) | Self::UnsupportedOption { .. } => "UNSUPPORTED",
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
            Self::ContextOverflow { .. } => "CONTEXT_OVERFLOW",
            Self::InsufficientMemory(_) => "INSUFFICIENT_MEMORY",
            Self::Aborted(_) => "ABORTED",
            Self::Disposed => "DISPOSED",
            Self::DeviceUnavailable(_) => "DEVICE_UNAVAILABLE",
            Self::Logits(_) => "INVALID_LOGITS",
            Self::Mlx(_) => "MLX_ERROR",
            Self::EngineFailed(_) => "ENGINE_FAILED",
            Self::Io { cause: Some(cause), .. } if is_full(cause.downcast_ref()) => "DISK_FULL",
            Self::Io { .. } => "IO_ERROR",
        }
    }

    /// The option that is wrong, where it is one.
    pub fn option(&self) -> Option<&str> {
        match self {
            Self::InvalidArgument { option, .. } | Self::UnsupportedOption { option, .. } => {
                Some(option)
            }
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

    /// The tensor that it is about.
    pub fn tensor(&self) -> Option<&str> {
        match self {
            Self::Weights { tensor, .. } => tensor.as_deref(),
            _ => None,
        }
    }

    /// An [`Error::InvalidArgument`] for `option`.
    pub fn argument(option: impl Into<String>, message: impl Into<String>) -> Self {
        Self::InvalidArgument { option: option.into(), message: message.into(), cause: None }
    }

    /// An [`Error::UnsupportedOption`] for `option`.
    pub fn unsupported(option: impl Into<String>, message: impl Into<String>) -> Self {
        Self::UnsupportedOption { option: option.into(), message: message.into() }
    }

    /// An [`Error::Config`] for `path`.
    pub fn config(path: impl Into<PathBuf>, message: impl Into<String>) -> Self {
        Self::Config { path: path.into(), message: message.into(), cause: None }
    }

    /// An [`Error::Weights`] for `path`.
    pub fn weights(path: impl Into<PathBuf>, message: impl Into<String>) -> Self {
        Self::Weights { path: path.into(), message: message.into(), tensor: None, cause: None }
    }

    /// The same error of a configuration or weights, which also says this.
    pub fn with_note(mut self, note: &str) -> Self {
        if let Self::Config { message, .. } | Self::Weights { message, .. } = &mut self {
            message.push_str("; ");
            message.push_str(note);
        }
        self
    }

    /// An [`Error::Weights`] for a tensor in `path`, whose name begins the message.
    pub fn of_tensor(path: impl Into<PathBuf>, tensor: &str, message: impl Display) -> Self {
        Self::Weights {
            path: path.into(),
            message: format!("tensor \"{tensor}\"{message}"),
            tensor: Some(tensor.to_owned()),
            cause: None,
        }
    }

    /// An [`Error::PromptCache`] for `path`.
    pub fn prompt_cache(path: impl Into<PathBuf>, message: impl Into<String>) -> Self {
        Self::PromptCache { path: path.into(), message: message.into(), cause: None }
    }

    /// An [`Error::Adapter`] for `path`.
    pub fn adapter(path: impl Into<PathBuf>, message: impl Into<String>) -> Self {
        Self::Adapter { path: path.into(), message: message.into(), cause: None }
    }

    /// An [`Error::Tokenizer`] for `path`.
    pub fn tokenizer(path: impl Into<PathBuf>, message: impl Into<String>) -> Self {
        Self::Tokenizer { path: path.into(), message: message.into(), cause: None }
    }

    /// An [`Error::Template`].
    pub fn template(message: impl Into<String>) -> Self {
        Self::Template { message: message.into(), cause: None }
    }

    /// An [`Error::ContextOverflow`] for so many tokens.
    pub fn overflow(what: &str, tokens: usize, context_length: usize, advice: &str) -> Self {
        let message = format!(
            "{what} {tokens} tokens, and the model's context holds {context_length}: {advice}"
        );
        Self::ContextOverflow { message, tokens, context_length }
    }

    /// An [`Error::Io`] for `path`.
    pub fn io(path: impl Into<PathBuf>, error: std::io::Error) -> Self {
        let mut message = error.to_string();
        if is_full(Some(&error)) {
            message.push_str("; make room, or name a place on another disk");
        }
        Self::Io { path: path.into(), message, cause: Some(Arc::new(error)) }
    }

    /// The same with the error behind it, which its message tells of already. Kinds that nothing
    /// else can be behind stay as they are.
    pub fn caused_by(self, error: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.with_cause(Some(Arc::new(error)))
    }

    /// [`Error::caused_by`] with what another error has.
    pub fn with_cause(mut self, error: Option<Cause>) -> Self {
        match &mut self {
            Self::InvalidArgument { cause, .. }
            | Self::Config { cause, .. }
            | Self::Weights { cause, .. }
            | Self::PromptCache { cause, .. }
            | Self::Adapter { cause, .. }
            | Self::Tokenizer { cause, .. }
            | Self::Template { cause, .. }
            | Self::Io { cause, .. } => *cause = error,
            _ => {}
        }
        self
    }

    /// The message without the path of the file or the name of the option that it is about, for
    /// those who name it themselves.
    pub fn message(&self) -> String {
        match self {
            Self::InvalidArgument { message, .. }
            | Self::UnsupportedOption { message, .. }
            | Self::Config { message, .. }
            | Self::Weights { message, .. }
            | Self::PromptCache { message, .. }
            | Self::Adapter { message, .. }
            | Self::Tokenizer { message, .. }
            | Self::Io { message, .. } => message.clone(),
            other => other.to_string(),
        }
    }
}

/// Whether a disk takes no more.
fn is_full(error: Option<&std::io::Error>) -> bool {
    use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    error.is_some_and(|it| matches!(it.kind(), StorageFull | QuotaExceeded | FileTooLarge))
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn causes_are_kept_and_shared() {
        let denied = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        let error = Error::io("model.safetensors", denied).clone();
        let cause = error.source().and_then(|cause| cause.downcast_ref::<Cause>());
        let cause = cause.and_then(|cause| cause.downcast_ref::<std::io::Error>());
        assert_eq!(cause.map(std::io::Error::kind), Some(std::io::ErrorKind::PermissionDenied));
        assert!(Error::config("config.json", "expected an object").source().is_none());
        assert_eq!(error.code(), "IO_ERROR");
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        let error = Error::io("model.safetensors", full);
        assert_eq!(error.code(), "DISK_FULL");
        assert!(error.to_string().contains("make room"), "{error}");
        let broken = serde_json::from_str::<u8>("{").unwrap_err();
        let error = Error::config("config.json", format!("not JSON: {broken}")).caused_by(broken);
        let cause = error.source().and_then(|cause| cause.downcast_ref::<Cause>());
        assert!(cause.is_some_and(|cause| cause.is::<serde_json::Error>()));
    }
}
