//! Calls that are written as Python: `[get_weather(city="Paris"), now()]`.

use super::reader::{Guess, Read, Reader, Stop, invalid};
use super::schemas::Tools;
use super::value::{Syntax, declared_value, quoted};

/// Reads a list of calls, with or without brackets, through `closer` where there is one.
pub(super) async fn calls(reader: &Reader, closer: &str) -> Read<()> {
    reader.skip_space().await?;
    if reader.accept("```python").await {
        reader.skip_space().await?;
    }
    let bracket = reader.accept("[").await;
    loop {
        call(reader).await?;
        match reader.skip_space().await {
            Ok(()) => {}
            Err(_) => return Ok(()),
        }
        if bracket && reader.accept("]").await {
            break;
        }
        let more = reader.accept_any(&[",", ";"]).await.is_some();
        if !more && !bracket {
            reader.accept("```").await;
            break;
        }
        if !more {
            return reader.unexpected(&[",", "]"]);
        }
    }
    match reader.expect(closer).await {
        Err(Stop::End) => {
            reader.skip_rest();
            Ok(())
        }
        end => end,
    }
}

/// Reads a call.
pub(super) async fn call(reader: &Reader) -> Read<()> {
    let name = identifier(reader).await?;
    reader.expect("(").await?;
    reader.start_call(&name, None);
    arguments(reader).await?;
    reader.end_call();
    Ok(())
}

/// Reads arguments and the bracket behind them.
pub(super) async fn arguments(reader: &Reader) -> Read<()> {
    let name = reader.call_name();
    reader.arguments("{");
    let mut first = true;
    loop {
        reader.skip_space().await?;
        if reader.accept(")").await {
            break;
        }
        if !first {
            reader.expect(",").await?;
            reader.skip_space().await?;
            if reader.accept(")").await {
                break;
            }
            reader.arguments(",");
        }
        first = false;
        let key = identifier(reader).await?;
        reader.expect("=").await?;
        reader.arguments(&quoted(&key));
        reader.arguments(":");
        let declared = reader.tools.declared(&name).and_then(|it| it.property(&key));
        let mut out = |piece: &str| reader.arguments(piece);
        declared_value(reader, Syntax::Python, declared, &mut out).await?;
    }
    reader.arguments("}");
    Ok(())
}

pub(super) async fn identifier(reader: &Reader) -> Read<String> {
    reader.skip_space().await?;
    let mut name = String::new();
    while is_part(reader.peek().await?) {
        name.push(reader.next().await?);
    }
    if name.is_empty() {
        return invalid(format!("expected a name, found {:?}", reader.peek().await?));
    }
    Ok(name)
}

fn is_part(character: char) -> bool {
    character.is_alphanumeric() || matches!(character, '_' | '.' | '-')
}

/// Whether an answer begins with a list of calls of the tools.
pub(super) fn guess(text: &str, tools: &Tools) -> Guess {
    let Some(inner) = text.strip_prefix('[').map(str::trim_start) else {
        return if text.is_empty() { Guess::Unknown } else { Guess::Text };
    };
    let end = inner.find(|it| !is_part(it)).unwrap_or(inner.len());
    let (name, rest) = inner.split_at(end);
    match rest.trim_start().chars().next() {
        Some('(') if tools.has(name) => Guess::Call,
        None if name.is_empty() || (rest.is_empty() && tools.begins(name)) || tools.has(name) => {
            Guess::Unknown
        }
        _ => Guess::Text,
    }
}
