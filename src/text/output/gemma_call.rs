//! Calls of Gemma's formats: `call:f{x:1}`, with strings between markers.

use super::json_call::close;
use super::reader::{Read, Reader, invalid};
use super::value::{Syntax, declared_value};

/// Reads calls through `closer`.
pub(super) async fn calls(reader: &Reader, mark: &'static str, closer: &str) -> Read<()> {
    loop {
        reader.expect("call:").await?;
        let mut name = String::new();
        reader.stream_to(&["{"], |text| name.push_str(text)).await?;
        let name = name.trim();
        if name.is_empty() || name.contains('<') {
            return invalid("the call has no name");
        }
        reader.start_call(name, None);
        let declared = reader.tools.declared(name);
        let mut out = |piece: &str| reader.arguments(piece);
        declared_value(reader, Syntax::Marked(mark), declared, &mut out).await?;
        let _ = reader.skip_space().await;
        if reader.peek_any(&["call:"]).await.is_none() {
            return close(reader, closer).await;
        }
        reader.end_call();
    }
}
