//! Calls that are a name and pairs of a key and a value between tags.

use super::json_call;
use super::reader::{Read, Reader, invalid};
use super::schemas::Types;
use super::value::{Untyped, escaped, quoted, typed};

/// A format's tags.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tags {
    /// What stands between a name and the rest; nothing in most formats.
    pub name_end: &'static str,
    /// What ends a call.
    pub close: &'static str,
    /// What begins and ends a key.
    pub key: &'static str,
    pub key_end: &'static str,
    /// What begins and ends a value.
    pub value: &'static str,
    pub value_end: &'static str,
}

/// Reads a call through its closing tag. Models write some as JSON: all of it, or the arguments.
pub(super) async fn call(reader: &Reader, tags: &Tags) -> Read<()> {
    reader.skip_space().await?;
    if reader.peek().await? == '{' {
        json_call::object(reader).await?;
        return json_call::close(reader, tags.close).await;
    }
    let mut name = String::new();
    let end = reader.stream_to(&[tags.key, tags.close, "{"], |text| name.push_str(text)).await?;
    let name = name.trim();
    let name = name.strip_suffix(tags.name_end).unwrap_or(name).trim();
    if name.is_empty() || name.contains('<') || name.contains(char::is_whitespace) {
        return invalid("the call has no name");
    }
    reader.start_call(name, None);
    if end == 2 {
        json_call::arguments(reader).await?;
        return json_call::close(reader, tags.close).await;
    }
    reader.arguments("{");
    let mut first = true;
    loop {
        reader.skip_space().await?;
        match reader.accept_any(&[tags.key, tags.close]).await {
            Some(0) => {}
            Some(_) => break,
            None => return reader.unexpected(&[tags.key, tags.close]),
        }
        if !first {
            reader.arguments(",");
        }
        first = false;
        let (key, _) = reader.until(&[tags.key_end]).await?;
        reader.arguments(&quoted(key.trim()));
        reader.arguments(":");
        reader.expect(tags.value).await?;
        let types = reader.tools.types(name, key.trim());
        if types.is_some_and(Types::only_string) {
            reader.arguments("\"");
            reader.stream_to(&[tags.value_end], |text| reader.arguments(&escaped(text))).await?;
            reader.accept(tags.value_end).await;
            reader.arguments("\"");
        } else {
            let (value, _) = reader.until(&[tags.value_end]).await?;
            reader.arguments(&typed(&value, types, Untyped::Json));
        }
    }
    reader.arguments("}");
    reader.end_call();
    Ok(())
}
