//! The messages of gpt-oss (OpenAI's harmony format). Each has a header that says whom it is for:
//! `<|start|>assistant<|channel|>commentary to=functions.f <|constrain|>json<|message|>{}<|call|>`.
//! Reasoning is the channel `analysis`, the answer is `final`; what `commentary` says to nobody is
//! text as well.

use super::json_call::arguments;
use super::reader::{Read, Reader};
use super::tool_calls::Section;

pub(super) const OPENERS: &[&str] = &["<|start|>", "<|channel|>"];

/// How an answer begins.
pub(super) const FINAL: &str = "<|channel|>final<|message|>";

/// How reasoning begins.
pub(super) const ANALYSIS: &str = "<|channel|>analysis<|message|>";

/// How a message ends that another one follows.
pub(super) const NEXT: &str = "<|end|><|start|>assistant";

const ENDS: [&str; 4] = ["<|end|>", "<|return|>", "<|call|>", "<|start|>"];

/// Reads a message up to its text, and through it where it is no text of the answer.
pub(super) fn message(reader: Reader, opener: String, calls: bool) -> Section {
    Box::pin(async move { read(&reader, &opener, calls).await })
}

async fn read(reader: &Reader, opener: &str, calls: bool) -> Read<()> {
    let (header, _) = reader.until(&["<|message|>"]).await?;
    let whole = format!("{opener}{header}");
    let channel = whole.split("<|channel|>").nth(1).unwrap_or_default().trim_start();
    let recipient = whole
        .split("to=")
        .nth(1)
        .and_then(|it| it.split(|it: char| it.is_whitespace() || it == '<').next());
    match recipient.filter(|it| !it.is_empty() && *it != "user" && *it != "assistant") {
        Some(recipient) if calls => {
            let name = recipient.strip_prefix("functions.").unwrap_or(recipient);
            reader.start_call(name, None);
            arguments(reader).await?;
            // The token that ends a call ends the answer, too, and may be left out.
            match reader.skip_space().await {
                Ok(()) if reader.accept_any(&ENDS[..3]).await.is_none() => {
                    return reader.unexpected(&ENDS[..3]);
                }
                _ => {}
            }
            reader.end_call();
        }
        Some(_) => {
            let raw = reader.end_raw();
            reader.emit_text(raw);
        }
        None if channel.starts_with("analysis") => {
            reader.end_raw();
            // At the end of the answer there is nothing left to read.
            let _ = reader.reasoning(&ENDS[..3], &ENDS[3..]).await;
        }
        None => {
            reader.end_raw();
        }
    }
    Ok(())
}
