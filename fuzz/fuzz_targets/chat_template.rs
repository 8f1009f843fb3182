//! Any text as a chat template, and any JSON behind its first zero byte as the messages: it renders
//! within its limits, or gives an error. Calls that it leaves out are written in a format.
#![no_main]

use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use nodemlx::text::chat_template::{TemplateLimits, parse_json};
use nodemlx::text::output::ToolFormat;
use nodemlx::text::{ChatTemplate, ChatTemplateOptions};
use serde_json::json;

fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let mut text = || String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    let (source, messages) = (text(), text());
    let messages = parse_json("messages", &messages)
        .unwrap_or_else(|_| json!([{ "role": "user", "content": messages }]));
    let Ok(template) = ChatTemplate::from_source(&source) else { return };
    let mut limits = TemplateLimits::default();
    limits.time = Duration::from_millis(200);
    let begun = Instant::now();
    let calls = ToolFormat::named("hermes").map(|format| format.writer(|_| true));
    let options = ChatTemplateOptions { calls, ..ChatTemplateOptions::default() };
    let _ = template.with_limits(limits).render(&messages, &options);
    assert!(begun.elapsed() < Duration::from_secs(5));
});
