//! The formats in which models write calls of tools: a file for each.
//!
//! A format says by which markers its calls begin and end, and has a function that reads what
//! stands behind a beginning ([`ToolFormat::read`]). Adding one is adding a file with golden cases
//! to this folder, and its name to [`ALL`].

use std::pin::Pin;

use super::reader::{Bare, Read, Reader};

macro_rules! formats {
    ($($name:ident),* $(,)?) => {
        $(mod $name;)*
        /// All formats. A template whose calls several of them read is of the first.
        pub static ALL: &[&ToolFormat] = &[$(&$name::FORMAT),*];
    };
}

formats! {
    harmony,
    qwen3_coder,
    glm4_moe,
    hermes,
    mistral,
    llama3_json,
    pythonic,
}

/// A reader of what stands behind the beginning of a call.
pub(super) type Section = Pin<Box<dyn Future<Output = Read<()>> + Send>>;

/// A format of calls.
#[derive(Debug)]
pub struct ToolFormat {
    /// Its name, as the option `toolFormat` has it.
    pub name: &'static str,
    /// What begins a call, or a list of calls.
    pub opens: &'static [&'static str],
    /// Where a call that cannot be read ends; at the end of the answer where there is nothing.
    pub(super) closes: &'static [&'static str],
    /// What tells that an answer begins with a call that has no marker.
    pub(super) bare: Option<Bare>,
    /// Whether a call ends reasoning that was not closed.
    pub(super) ends_reasoning: bool,
    /// What a template says that has calls of this format, where it cannot be tried.
    pub(super) signs: &'static [&'static str],
    /// Reads calls behind the opener of this index; behind none, where it is the number of openers.
    pub(super) read: fn(Reader, usize) -> Section,
}

impl ToolFormat {
    /// The one of that name.
    pub fn named(name: &str) -> Option<&'static Self> {
        ALL.iter().copied().find(|format| format.name == name)
    }

    /// The names of all, for an error.
    pub fn names() -> String {
        ALL.iter().map(|format| format.name).collect::<Vec<_>>().join(", ")
    }
}

/// What [`ToolFormat`] has where a format does not say otherwise.
const fn standard(
    name: &'static str,
    opens: &'static [&'static str],
    closes: &'static [&'static str],
    read: fn(Reader, usize) -> Section,
) -> ToolFormat {
    ToolFormat { name, opens, closes, bare: None, ends_reasoning: false, signs: opens, read }
}
