//! Calls that are JSON objects with a name and arguments.

use super::reader::{Read, Reader, Stop, invalid};
use super::schemas::Declared;
use super::value::{Syntax, declared_value, value};

/// What the fields of a call are called.
const NAMES: [&str; 4] = ["name", "tool_name", "function_name", "function"];
const ARGUMENTS: [&str; 5] = ["arguments", "parameters", "args", "input", "tool_input"];
const IDS: [&str; 2] = ["id", "call_id"];
/// What Command R calls where it wants no tool.
const NO_TOOL: &str = "directly_answer";
/// What a field with the call inside is called.
const WRAPPERS: [&str; 3] = ["function", "tool", "tool_call"];

/// Reads a call that is an object, and leaves it open: [`close`] or [`Reader::end_call`] ends it.
pub(super) async fn object(reader: &Reader) -> Read<()> {
    reader.expect("{").await?;
    let mut depth = 1;
    let mut id = None;
    let mut early: Option<String> = None;
    let mut started = false;
    let mut complete = false;
    let mut first = true;
    while depth > 0 {
        reader.skip_space().await?;
        if reader.accept("}").await {
            depth -= 1;
            first = false;
            continue;
        }
        if !first {
            reader.expect(",").await?;
            reader.skip_space().await?;
        }
        first = false;
        let key = text(reader).await?;
        reader.expect(":").await?;
        reader.skip_space().await?;
        let next = reader.peek().await?;
        if next == '{' && WRAPPERS.contains(&key.as_str()) {
            reader.next().await?;
            depth += 1;
            first = true;
        } else if NAMES.contains(&key.as_str()) && !started && next == '"' {
            let name = text(reader).await?;
            if name.is_empty() {
                return invalid("the call has an empty name");
            }
            match name == NO_TOOL && !reader.tools.has(NO_TOOL) {
                true => reader.start_none(),
                false => reader.start_call(&name, id.take()),
            }
            started = true;
            if let Some(arguments) = early.take() {
                let declared = reader.tools.declared(&name);
                let coerced = super::whole_value(&arguments, Syntax::Json, declared);
                reader.arguments(coerced.as_ref().unwrap_or(&arguments));
                complete = true;
            }
        } else if IDS.contains(&key.as_str()) && next == '"' {
            id = Some(text(reader).await?);
        } else if ARGUMENTS.contains(&key.as_str()) && started && !complete {
            arguments(reader).await?;
            complete = true;
        } else if ARGUMENTS.contains(&key.as_str()) && early.is_none() && !complete {
            let mut json = String::new();
            arguments_to(reader, None, &mut |piece| json.push_str(piece)).await?;
            early = Some(json);
        } else {
            value(reader, Syntax::Json, &mut |_| {}).await?;
        }
    }
    if !started {
        return invalid("the call has no name");
    }
    if !complete {
        reader.arguments("{}");
    }
    Ok(())
}

/// Reads a call's arguments: an object, JSON text of one, or nothing.
pub(super) async fn arguments(reader: &Reader) -> Read<()> {
    let name = reader.call_name();
    let declared = reader.tools.declared(&name);
    arguments_to(reader, declared, &mut |piece| reader.arguments(piece)).await
}

async fn arguments_to(
    reader: &Reader,
    declared: Option<Declared<'_>>,
    out: &mut (dyn FnMut(&str) + Send),
) -> Read<()> {
    reader.skip_space().await?;
    match reader.peek().await? {
        '{' => declared_value(reader, Syntax::Json, declared, out).await,
        '"' => {
            let inner = text(reader).await?;
            match super::whole_value(inner.trim(), Syntax::Json, declared) {
                Some(json) if json.starts_with('{') => out(&json),
                None if inner.trim().is_empty() => out("{}"),
                _ => return invalid("the arguments are a string, and no JSON object in it"),
            }
            Ok(())
        }
        'n' => {
            value(reader, Syntax::Json, &mut |_| {}).await?;
            out("{}");
            Ok(())
        }
        next => invalid(format!("the arguments are no object, but begin with {next:?}")),
    }
}

/// Reads a string of JSON.
pub(super) async fn text(reader: &Reader) -> Read<String> {
    let next = reader.peek().await?;
    if next != '"' {
        return invalid(format!("expected a string, found {next:?}"));
    }
    let mut json = String::new();
    value(reader, Syntax::Json, &mut |piece| json.push_str(piece)).await?;
    match serde_json::from_str(&json) {
        Ok(text) => Ok(text),
        Err(_) => invalid("a string has half of a surrogate pair"),
    }
}

/// Ends the present call behind `closer`, which the end of the answer may leave out.
pub(super) async fn close(reader: &Reader, closer: &str) -> Read<()> {
    match reader.expect(closer).await {
        Ok(()) => {}
        Err(Stop::End) => reader.skip_rest(),
        Err(stop) => return Err(stop),
    }
    reader.end_call();
    Ok(())
}

/// Reads one call or a list of calls. `closer` ends a single call, or the list.
pub(super) async fn calls(reader: &Reader, closer: &str) -> Read<()> {
    calls_before(reader, closer, &[]).await
}

/// [`calls`]; what begins with one of `others` ends a single call, too, and is not read.
pub(super) async fn calls_before(reader: &Reader, closer: &str, others: &[&str]) -> Read<()> {
    reader.skip_space().await?;
    if !reader.accept("[").await {
        loop {
            object(reader).await?;
            // Where an answer ends there is no next one.
            let _ = reader.skip_space().await;
            if reader.peek_any(others).await.is_some() {
                reader.end_call();
                return Ok(());
            }
            if reader.peek_any(&["{", ","]).await.is_none() {
                return close(reader, closer).await;
            }
            reader.end_call();
            reader.accept(",").await;
        }
    }
    loop {
        reader.skip_space().await?;
        if reader.accept("]").await {
            break;
        }
        object(reader).await?;
        reader.end_call();
        reader.skip_space().await?;
        reader.accept(",").await;
    }
    end(reader, closer).await
}

/// Reads the end of a list of calls, which the end of the answer may leave out.
pub(super) async fn end(reader: &Reader, closer: &str) -> Read<()> {
    match reader.expect(closer).await {
        Err(Stop::End) => {
            reader.skip_rest();
            Ok(())
        }
        end => end,
    }
}
