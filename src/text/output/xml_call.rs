//! Calls whose arguments stand between tags, one by one, as text: their types are in the schema.

use super::reader::{Read, Reader, Stop, invalid};
use super::value::{Untyped, escaped, quoted, typed};

/// How a tag says what it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Name {
    /// It is all that stands in the tag: `<function=get_weather>`.
    Whole,
    /// It is an attribute: `<invoke name="get_weather">`.
    Attribute(&'static str),
}

/// An element of a format.
#[derive(Debug, Clone, Copy)]
pub(super) struct Element {
    /// The beginning of its opening tag.
    pub open: &'static str,
    /// The end of its opening tag.
    pub tag_end: &'static str,
    /// Its closing tag.
    pub close: &'static str,
    /// Where its name is.
    pub name: Name,
}

/// What surrounds a value without being part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Around {
    /// Nothing.
    Nothing,
    /// A line break on each side.
    Line,
}

/// How a format writes its calls.
#[derive(Debug, Clone, Copy)]
pub(super) struct Xml {
    /// A call.
    pub call: Element,
    /// An argument.
    pub argument: Element,
    /// What surrounds values.
    pub around: Around,
    /// What values are that the schema says nothing about.
    pub untyped: Untyped,
    /// The attribute of an argument that says its type: `string="true"` or `type="string"`.
    pub type_attribute: Option<&'static str>,
    /// What ends an argument that is not closed. It belongs to what follows.
    pub unclosed: &'static [&'static str],
}

impl Xml {
    fn value_ends(&self) -> Vec<&'static str> {
        [self.argument.close].iter().chain(self.unclosed).copied().collect()
    }
}

/// Reads a call, behind the beginning of its opening tag, through its closing tag.
pub(super) async fn call(reader: &Reader, xml: &Xml) -> Read<()> {
    let name = start(reader, xml).await?;
    arguments(reader, xml, &name).await?;
    reader.end_call();
    Ok(())
}

/// Reads the rest of a call's opening tag; the call's name.
pub(super) async fn start(reader: &Reader, xml: &Xml) -> Read<String> {
    let (tag, _) = reader.until(&[xml.call.tag_end]).await?;
    let Some(name) = name(&tag, xml.call.name) else {
        return invalid(format!("a call without a name: {tag:?}"));
    };
    reader.start_call(&name, attribute(&tag, "id").filter(|_| xml.call.name != Name::Whole));
    Ok(name)
}

/// Reads the arguments of `name` through the call's closing tag.
pub(super) async fn arguments(reader: &Reader, xml: &Xml, name: &str) -> Read<()> {
    reader.arguments("{");
    let mut first = true;
    loop {
        reader.skip_space().await?;
        match reader.accept_any(&[xml.argument.open, xml.call.close]).await {
            Some(0) => {}
            Some(_) => break,
            None => return reader.unexpected(&[xml.argument.open, xml.call.close]),
        }
        if !first {
            reader.arguments(",");
        }
        first = false;
        argument(reader, xml, name).await?;
    }
    reader.arguments("}");
    Ok(())
}

async fn argument(reader: &Reader, xml: &Xml, tool: &str) -> Read<()> {
    let (tag, _) = reader.until(&[xml.argument.tag_end]).await?;
    let Some(key) = name(&tag, xml.argument.name) else {
        return invalid(format!("an argument without a name: {tag:?}"));
    };
    reader.arguments(&quoted(&key));
    reader.arguments(":");
    let mut types = reader.tools.types(tool, &key);
    let mut untyped = xml.untyped;
    let mut string = types.is_some_and(super::schemas::Types::only_string);
    if let Some(declared) = xml.type_attribute.and_then(|name| attribute(&tag, name)) {
        string = declared == "true" || declared == "string";
        // The model has said what it is.
        (types, untyped) = (types.filter(|_| string), Untyped::Json);
    }
    if string {
        return text(reader, xml).await;
    }
    let mut value = String::new();
    reader.stream_to(&xml.value_ends(), |text| value.push_str(text)).await?;
    reader.accept(xml.argument.close).await;
    let value = if xml.around == Around::Line { unline(&value) } else { &value };
    reader.arguments(&typed(cdata(value), types, untyped));
    Ok(())
}

/// Reads a string as it comes.
async fn text(reader: &Reader, xml: &Xml) -> Read<()> {
    let close = xml.argument.close;
    reader.arguments("\"");
    if xml.around == Around::Line {
        reader.accept("\n").await;
    }
    if reader.accept(CDATA).await {
        reader.stream_to(&[CDATA_END], |text| reader.arguments(&escaped(text))).await?;
        reader.accept(CDATA_END).await;
        reader.skip_space().await?;
    } else {
        let mut held = "";
        let line = xml.around == Around::Line;
        let end = reader
            .stream_to(&xml.value_ends(), |text| {
                let kept = text.strip_suffix('\n').filter(|_| line);
                reader.arguments(held);
                reader.arguments(&escaped(kept.unwrap_or(text)));
                held = if kept.is_some() { "\\n" } else { "" };
            })
            .await?;
        if end > 0 {
            reader.arguments("\"");
            return Ok(());
        }
    }
    if !reader.accept(close).await {
        return reader.unexpected(&[close]);
    }
    reader.arguments("\"");
    Ok(())
}

const CDATA: &str = "<![CDATA[";
const CDATA_END: &str = "]]>";

/// A value without the mark of plain text around it.
fn cdata(value: &str) -> &str {
    let inner = value.trim().strip_prefix(CDATA).and_then(|it| it.strip_suffix(CDATA_END));
    inner.unwrap_or(value)
}

fn unline(value: &str) -> &str {
    let value = value.strip_prefix('\n').unwrap_or(value);
    value.strip_suffix('\n').unwrap_or(value)
}

fn name(tag: &str, kind: Name) -> Option<String> {
    let name = match kind {
        Name::Whole => tag.trim().trim_matches(['"', '\'']).to_owned(),
        Name::Attribute(key) => attribute(tag, key)?,
    };
    (!name.is_empty() && !name.contains(['<', '\n'])).then_some(name)
}

/// The value of an attribute; quotes around it may be missing.
pub(super) fn attribute(tag: &str, key: &str) -> Option<String> {
    let mut from = 0;
    loop {
        let at = from + tag[from..].find(key)?;
        from = at + key.len();
        let alone = !tag[..at].ends_with(|it: char| it.is_alphanumeric() || it == '_');
        let Some(value) = tag[from..].trim_start().strip_prefix('=').filter(|_| alone) else {
            continue;
        };
        let value = value.trim_start();
        let quote = value.chars().next().filter(|it| matches!(it, '"' | '\''));
        let value = match quote {
            Some(quote) => value[1..].split(quote).next(),
            None => value.split_whitespace().next(),
        };
        return value.map(|it| it.replace("&quot;", "\"").replace("&amp;", "&"));
    }
}

/// Reads calls through `closer`, each of which begins with the format's opening tag.
pub(super) async fn calls(reader: &Reader, xml: &Xml, closer: &str) -> Read<()> {
    loop {
        match next(reader, &[xml.call.open, closer]).await? {
            Some(0) => call(reader, xml).await?,
            _ => return Ok(()),
        }
    }
}

/// Reads the one of `literals` that comes next, behind spaces; `None` where the answer ends between
/// two calls.
pub(super) async fn next(reader: &Reader, literals: &[&str]) -> Read<Option<usize>> {
    let read = async {
        reader.skip_space().await?;
        match reader.accept_any(literals).await {
            Some(which) => Ok(Some(which)),
            None => reader.unexpected(literals),
        }
    };
    match read.await {
        Err(Stop::End) if reader.has_ended_call() => {
            reader.skip_rest();
            Ok(None)
        }
        read => read,
    }
}
