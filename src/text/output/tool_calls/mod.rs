//! The formats in which models write calls of tools: a file for each.
//!
//! A format says by which markers its calls begin and end, and has a function that reads what
//! stands behind a beginning ([`ToolFormat::read`]). Adding one is adding a file with golden cases
//! to this folder, and its name to the modules and to [`ALL`].

/// The formats of these modules. What a module declares and the list does not name is dead code,
/// which the compiler tells.
macro_rules! formats {
    ($($module:ident),+ $(,)?) => {
        &[$(&$module::FORMAT),+]
    };
}

mod apertus;
mod cohere;
mod command_r;
mod deepseek_dsml;
mod deepseek_v3;
mod function_gemma;
mod functionary_v2;
mod functionary_v3_1;
mod functionary_v3_2;
mod functools;
mod gemma4;
mod gigachat;
mod glm4;
mod glm4_moe;
mod granite;
mod granite_20b;
mod harmony;
mod hermes;
mod hunyuan;
mod hy3;
mod internlm2;
mod json_list;
mod kimi_k2;
mod kimi_k3;
mod llama3_json;
mod longcat;
mod minicpm5;
mod minimax_m2;
mod minimax_m3;
mod mistral;
mod muse;
mod nemotron;
mod nemotron_mini;
mod phi4_mini;
mod pythonic;
mod qwen3_coder;
mod solar;

use std::pin::Pin;

use super::call_grammar::{self, CallGrammar, Calls, Format, Shape};
use super::json_call;
use super::reader::{Bare, Read, Reader};
use crate::error::Result;

/// All formats. A template whose calls several of them read is of the first.
pub static ALL: &[&ToolFormat] = formats![
    harmony,
    muse,
    minimax_m2,
    minimax_m3,
    deepseek_dsml,
    deepseek_v3,
    kimi_k2,
    kimi_k3,
    gemma4,
    function_gemma,
    glm4_moe,
    longcat,
    hy3,
    qwen3_coder,
    minicpm5,
    mistral,
    cohere,
    nemotron,
    nemotron_mini,
    hunyuan,
    solar,
    apertus,
    internlm2,
    gigachat,
    functools,
    phi4_mini,
    granite,
    granite_20b,
    functionary_v2,
    functionary_v3_1,
    functionary_v3_2,
    hermes,
    command_r,
    pythonic,
    json_list,
    llama3_json,
    glm4,
];

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
    /// What a call has beside its markers where a template writes it, spaces aside.
    pub(super) written: &'static [&'static str],
    /// How a call is written where the model has to make one.
    pub(super) shape: Shape,
    /// What an answer begins with that is no call, where calls begin with their name.
    pub header: Option<&'static str>,
    /// Reads calls behind the opener of this index; behind none, where it is the number of openers.
    pub(super) read: fn(Reader, usize) -> Section,
}

impl ToolFormat {
    /// The one of that name.
    pub fn named(name: &str) -> Option<&'static Self> {
        ALL.iter().copied().find(|format| format.name == name)
    }

    /// The grammar of an answer that calls tools, in llguidance's dialect of Lark.
    ///
    /// # Errors
    /// [`crate::error::Error::Unsupported`] where there is none for this format.
    pub fn grammar(&self, calls: &Calls<'_>) -> Result<CallGrammar> {
        let Self { shape, opens, header, .. } = *self;
        let has_bare = self.bare.is_some();
        call_grammar::write(Format { shape, opens, has_bare, header }, calls)
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
    ToolFormat {
        name,
        opens,
        closes,
        bare: None,
        ends_reasoning: false,
        signs: opens,
        written: &[],
        shape: Shape::Unknown,
        header: None,
        read,
    }
}

/// Reads one call or a list of calls, which are objects and end as JSON does, or in a fence of
/// Markdown.
fn json_objects(reader: Reader, _: usize) -> Section {
    Box::pin(async move {
        reader.skip_space().await?;
        let is_fenced = reader.accept_any(&["```json", "```"]).await.is_some();
        json_call::calls(&reader, if is_fenced { "```" } else { "" }).await
    })
}
