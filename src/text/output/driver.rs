//! The state machine above all formats: text, until a marker begins reasoning or a call.

use super::OutputFormats;
use super::reader::{Reader, Stop, TextEnd};
use super::reasoning::{Kind, ReasoningFormat};
use super::tool_calls::ToolFormat;

/// What an opener begins.
#[derive(Clone, Copy)]
enum Opens {
    Reasoning,
    Call(&'static ToolFormat, usize),
    Wrapper,
}

/// Reads an answer to its end.
pub(super) async fn run(reader: Reader, formats: OutputFormats, reasons: bool) {
    let OutputFormats { reasoning, calls, plain_text } = formats;
    let mut openers: Vec<(&'static str, Opens)> = Vec::new();
    if let Some(format) = reasoning {
        openers.extend(format.opens.iter().map(|&it| (it, Opens::Reasoning)));
        openers.extend(format.wrappers.iter().map(|&it| (it, Opens::Wrapper)));
    }
    if let Some(format) = calls {
        let numbered = format.opens.iter().enumerate();
        openers.extend(numbered.map(|(index, &it)| (it, Opens::Call(format, index))));
    }
    let literals: Vec<&str> = openers.iter().map(|(literal, _)| *literal).collect();
    if let Some(format) = reasoning.filter(|_| reasons) {
        reason(&reader, format, calls, "").await;
    }
    let mut at_start = true;
    let mut behind_marker = reasons;
    loop {
        // Space behind a marker belongs to it.
        if behind_marker {
            // The end is for what follows to see.
            let _ = reader.skip_space().await;
        }
        behind_marker = true;
        let bare = calls.and_then(|format| format.bare).filter(|_| at_start);
        let is_text = plain_text && !reader.comes_next(&literals).await;
        let markers = if is_text { &[][..] } else { &literals };
        match reader.text(markers, bare).await {
            TextEnd::End => return,
            TextEnd::Bare => {
                at_start = false;
                if let Some(format) = calls {
                    call(&reader, format, format.opens.len(), "").await;
                }
            }
            TextEnd::Literal(which) => {
                let (literal, opens) = openers[which];
                at_start = false;
                match (opens, reasoning) {
                    (Opens::Reasoning, Some(format)) => {
                        reason(&reader, format, calls, literal).await;
                        at_start = true;
                    }
                    (Opens::Call(format, index), _) => call(&reader, format, index, literal).await,
                    _ => at_start = true,
                }
            }
        }
    }
}

/// Reads reasoning, behind its `opener`.
async fn reason(
    reader: &Reader,
    format: &'static ReasoningFormat,
    calls: Option<&'static ToolFormat>,
    opener: &str,
) {
    match format.kind {
        Kind::Markers => {
            // A model that calls a tool has thought enough, whether it says so or not.
            let markers = calls.filter(|it| it.ends_reasoning).map_or(&[][..], |it| it.opens);
            // At the end of the answer there is nothing left to read.
            let _ = reader.reasoning(format.closes, markers).await;
        }
        Kind::Section(read) => {
            let read = read(reader.clone(), opener.to_owned(), calls.is_some());
            section(reader, opener, read, &[], &[]).await;
        }
    }
}

/// Reads a section of calls, behind its opener.
async fn call(reader: &Reader, format: &'static ToolFormat, index: usize, opener: &str) {
    let read = (format.read)(reader.clone(), index);
    section(reader, opener, read, format.closes, format.opens).await;
}

async fn section(
    reader: &Reader,
    opener: &str,
    read: super::tool_calls::Section,
    closes: &[&str],
    opens: &[&str],
) {
    reader.begin_raw(opener);
    let error = match read.await {
        Ok(()) => None,
        Err(Stop::End) => {
            reader.skip_rest();
            Some("the answer ends within the call".to_owned())
        }
        Err(Stop::Invalid(error)) => {
            // A broken call goes to the end of its section.
            match reader.stream_to(closes, |_| {}).await {
                // What begins the next call belongs to that.
                Ok(which) if opens.contains(&closes[which]) => {}
                Ok(which) => {
                    reader.accept(closes[which]).await;
                }
                Err(_) => reader.skip_rest(),
            }
            Some(error)
        }
    };
    let in_call = reader.in_call();
    let raw = reader.end_raw();
    let empty = raw.trim_matches(|it: char| it.is_whitespace() || it == ',').is_empty();
    if let Some(error) = error.filter(|_| in_call || !empty) {
        reader.invalid_call(raw, error);
    }
}
