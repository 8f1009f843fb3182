//! What a template's text needs before minijinja can parse it.
//!
//! minijinja has no hook for statements or operators of its own, so what Jinja2 reads differently is
//! put into its words here, tag by tag; text and comments stay as they are, and every tag stays in
//! its line, so that errors name the right one:
//! - `{% generation %}…{% endgeneration %}` (it marks the assistant's tokens for training) becomes
//!   `{% with %}…{% endwith %}`, which has the same scope;
//! - `a % b` becomes a call of [`PERCENT`], because `%` also formats strings in Python;
//! - `a.items` and `a['items']` (and the other [`DICT_METHODS`]) become calls of [`ATTRIBUTE`] and
//!   [`ITEM`], because a Python dictionary has these names besides its keys: templates for tools meet
//!   them in JSON schemas, where `items` is a key that may be missing;
//! - slices, and what `set` assigns, become lists ([`LIST`]): minijinja's slices and sums of lists are
//!   read anew, through all those before them, whenever they are used;
//! - `+a` is `a`;
//! - escapes in strings, and the line break behind `{% raw %}`, which only minijinja drops.

/// The function that stands for the operator `%`.
pub(super) const PERCENT: &str = "__percent";

/// The functions that stand for `a.name` and `a['name']`, where `name` is one of [`DICT_METHODS`].
pub(super) const ATTRIBUTE: &str = "__attribute";
/// See [`ATTRIBUTE`].
pub(super) const ITEM: &str = "__item";

/// The function around slices.
pub(super) const LIST: &str = "__list";

/// The public methods of Python's dictionaries.
pub(super) const DICT_METHODS: [&str; 11] = [
    "clear",
    "copy",
    "fromkeys",
    "get",
    "items",
    "keys",
    "pop",
    "popitem",
    "setdefault",
    "update",
    "values",
];

/// The parser recurses into expressions; the longest tags of published templates have 300 tokens.
const MAX_TOKENS: usize = 10_000;

/// The template's text for minijinja, or the line of a tag that is too long, and what to say of it.
pub(super) fn prepare(source: &str) -> Result<String, (usize, String)> {
    // Jinja2 reads every kind of line break as \n.
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut out = String::with_capacity(source.len());
    let mut rest = source.as_str();
    while let Some(start) = ["{{", "{%", "{#"].iter().filter_map(|mark| rest.find(mark)).min() {
        out.push_str(&rest[..start]);
        rest = &rest[start..];
        if let Some(end) = rest.find("#}").filter(|_| rest.starts_with("{#")) {
            out.push_str(&rest[..end + 2]);
            rest = &rest[end + 2..];
        } else if let Some((body, end)) = raw_block(rest) {
            // Jinja2 keeps a line break here, unlike after other tags.
            let tag = rest[..body].trim_end_matches("%}").trim_end_matches('+');
            out.push_str(tag);
            out.push_str(if tag.ends_with('-') { "%}" } else { "+%}" });
            out.push_str(&rest[body..end]);
            rest = &rest[end..];
        } else if let Some((tokens, end)) = tokenize(rest) {
            if tokens.len() > MAX_TOKENS {
                let line = out.matches('\n').count() + 1;
                return Err((line, format!("a tag of more than {MAX_TOKENS} tokens")));
            }
            out.push_str(&rest[..2]);
            out.push_str(&rewrite(&tokens, rest.starts_with("{%")));
            out.push_str(&rest[end..end + 2]);
            rest = &rest[end + 2..];
        } else {
            // Not closed: minijinja says where.
            break;
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// Where the content of the raw block at the beginning of `text` begins, and where the block ends, its
/// tags included.
fn raw_block(text: &str) -> Option<(usize, usize)> {
    let length = named_tag(text, "raw")?;
    let ends = text[length..].match_indices("{%").map(|(index, _)| length + index);
    let end = ends.filter_map(|start| Some(start + named_tag(&text[start..], "endraw")?)).next()?;
    Some((length, end))
}

/// The length of the tag `{% name %}` at the beginning of `text`, with any marks for white space.
fn named_tag(text: &str, name: &str) -> Option<usize> {
    let inner = text.strip_prefix("{%")?;
    let inner = inner.strip_prefix(['-', '+']).unwrap_or(inner);
    let inner = inner.trim_start().strip_prefix(name)?.trim_start();
    let after = inner.strip_prefix(['-', '+']).unwrap_or(inner).strip_prefix("%}")?;
    Some(text.len() - after.len())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Space,
    Name,
    Number,
    Text,
    Operator,
    Open,
    Close,
    /// The `-` or `+` beside a delimiter.
    Mark,
}

/// The tokens between the delimiters of the tag at the beginning of `tag`, and where the closing
/// delimiter begins; `None` if the tag or a string in it is not closed.
fn tokenize(tag: &str) -> Option<(Vec<(Kind, &str)>, usize)> {
    let close = if tag.starts_with("{%") { "%}" } else { "}}" };
    let mut tokens = Vec::new();
    let mut depth = 0_usize;
    let mut at = 2;
    loop {
        let rest = &tag[at..];
        let first = rest.chars().next()?;
        if depth == 0 {
            if rest.starts_with(close) {
                return Some((tokens, at));
            }
            let is_mark = rest.strip_prefix(['-', '+']).is_some_and(|it| it.starts_with(close));
            if is_mark || (at == 2 && matches!(first, '-' | '+')) {
                tokens.push((Kind::Mark, &rest[..1]));
                at += 1;
                continue;
            }
        }
        let while_true = |test: fn(char) -> bool| rest.find(|c| !test(c)).unwrap_or(rest.len());
        let (kind, length) = match first {
            '"' | '\'' => (Kind::Text, string_length(rest)?),
            '(' | '[' | '{' => (Kind::Open, 1),
            ')' | ']' | '}' => (Kind::Close, 1),
            c if c.is_whitespace() => (Kind::Space, while_true(char::is_whitespace)),
            c if c.is_ascii_digit() => (Kind::Number, number_length(rest)),
            c if c == '_' || c.is_alphabetic() => {
                (Kind::Name, while_true(|c| c == '_' || c.is_alphanumeric()))
            }
            _ if ["**", "//", "==", "!=", "<=", ">="].iter().any(|it| rest.starts_with(it)) => {
                (Kind::Operator, 2)
            }
            c => (Kind::Operator, c.len_utf8()),
        };
        match kind {
            Kind::Open => depth += 1,
            Kind::Close => depth = depth.saturating_sub(1),
            _ => {}
        }
        tokens.push((kind, &rest[..length]));
        at += length;
    }
}

/// The length of the number at the beginning of `text`, the sign of its exponent included.
fn number_length(text: &str) -> usize {
    let digits = |from: usize| {
        let rest = &text[from..];
        from + rest.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(rest.len())
    };
    let mut end = digits(0);
    if text[end..].starts_with('.') && text[end + 1..].starts_with(|c: char| c.is_ascii_digit()) {
        end = digits(end + 1);
    }
    let is_hexadecimal = text.starts_with("0x") || text.starts_with("0X");
    if !is_hexadecimal && text[..end].ends_with(['e', 'E']) && text[end..].starts_with(['-', '+']) {
        end = digits(end + 1);
    }
    end
}

/// The length of the string literal at the beginning of `text`, its quotes included.
fn string_length(text: &str) -> Option<usize> {
    let quote = text.chars().next()?;
    let mut characters = text.char_indices().skip(1);
    while let Some((index, character)) = characters.next() {
        if character == '\\' {
            characters.next();
        } else if character == quote {
            return Some(index + 1);
        }
    }
    None
}

/// A bracket, or the tag itself, while its tokens are rewritten.
struct Level {
    /// Where the operands of the last chain of `*`, `/`, `//` and `%` begin.
    chain: usize,
    /// Where the last name, literal or bracket begins, to which `.name` and `[…]` apply.
    primary: usize,
    /// Whether a call of [`PERCENT`] waits for its closing bracket.
    open: bool,
    /// Whether an operand comes next, so that a sign belongs to it.
    operand: bool,
    /// Whether a call of [`LIST`] ends with the bracket.
    slice: bool,
}

impl Level {
    fn at(chain: usize) -> Self {
        Self { chain, primary: chain, open: false, operand: true, slice: false }
    }

    /// An operand or a part of one begins at `index`.
    fn operand_at(&mut self, index: usize) {
        if std::mem::take(&mut self.operand) {
            self.primary = index;
        }
    }
}

fn rewrite(tokens: &[(Kind, &str)], is_block: bool) -> String {
    let names: Vec<&str> = tokens
        .iter()
        .filter(|(kind, _)| !matches!(kind, Kind::Space | Kind::Mark))
        .map(|(_, text)| *text)
        .collect();
    let replaced = match names.as_slice() {
        ["generation"] if is_block => Some("with"),
        ["endgeneration"] if is_block => Some("endwith"),
        _ => None,
    };
    let mut out: Vec<String> = Vec::with_capacity(tokens.len());
    let mut levels = vec![Level::at(0)];
    let mut statement = is_block;
    let mut assigns = is_block && is_assignment(tokens);
    let mut assigned = false;
    let mut previous = "";
    let mut position = 0;
    while let Some(&(kind, text)) = tokens.get(position) {
        let Some(level) = levels.last_mut() else { break };
        let lookup = if level.operand { None } else { dict_lookup(&tokens[position..]) };
        position += lookup.as_ref().map_or(1, |lookup| lookup.length);
        if let Some(lookup) = lookup {
            out[level.primary].insert_str(0, &format!("{}(", lookup.function));
            out.push(format!(",'{}')", lookup.name));
            previous = lookup.name;
            continue;
        }
        match kind {
            Kind::Space | Kind::Mark => {
                out.push(text.to_owned());
                if kind == Kind::Mark && out.len() == 1 {
                    level.chain = 1;
                }
                continue;
            }
            Kind::Operator if text == "%" => {
                close(level, &mut out);
                let chain = level.chain;
                let first = (chain..out.len()).find(|&index| !out[index].trim().is_empty());
                let Some(first) = first else { return original(tokens) };
                out[first].insert_str(0, &format!("{PERCENT}("));
                out.push(",".to_owned());
                level.open = true;
                level.operand = true;
            }
            Kind::Operator if matches!(text, "*" | "/" | "//") => {
                close(level, &mut out);
                out.push(text.to_owned());
                level.operand = true;
            }
            Kind::Operator if matches!(text, "." | "|" | "**") => {
                out.push(text.to_owned());
                level.operand = text == "**";
            }
            // minijinja has no unary plus.
            Kind::Operator if text == "+" && level.operand => out.push(" ".to_owned()),
            Kind::Operator if text == "-" && level.operand => out.push(text.to_owned()),
            Kind::Operator if text == "=" && std::mem::take(&mut assigns) => {
                begin(level, &mut out, &format!("={LIST}("));
                assigned = true;
            }
            Kind::Operator => begin(level, &mut out, text),
            Kind::Name if statement || ends_operand(text, previous) => {
                begin(level, &mut out, replaced.unwrap_or(text));
            }
            Kind::Open => {
                let slice = !level.operand && is_slice(&tokens[position - 1..]);
                if slice {
                    out[level.primary].insert_str(0, &format!("{LIST}("));
                }
                level.operand_at(out.len());
                out.push(text.to_owned());
                levels.push(Level { slice, ..Level::at(out.len()) });
            }
            Kind::Close => {
                close(level, &mut out);
                out.push(text.to_owned());
                if level.slice {
                    out.push(")".to_owned());
                }
                if levels.len() > 1 {
                    levels.pop();
                }
            }
            Kind::Text => {
                level.operand_at(out.len());
                out.push(unified_escapes(text));
            }
            Kind::Name | Kind::Number => {
                level.operand_at(out.len());
                out.push(text.to_owned());
            }
        }
        statement = false;
        previous = text;
    }
    if let Some(level) = levels.last_mut() {
        // Before the mark for white space, if the tag ends with one.
        let mark = match tokens.last() {
            Some((Kind::Mark, _)) if tokens.len() > 1 => out.pop(),
            _ => None,
        };
        close(level, &mut out);
        out.extend(assigned.then(|| ")".to_owned()));
        out.extend(mark);
    }
    out.concat()
}

/// `.name` without a call, or `['name']`, with a name of [`DICT_METHODS`].
struct Lookup {
    function: &'static str,
    name: &'static str,
    /// How many tokens it takes.
    length: usize,
}

fn dict_lookup(tokens: &[(Kind, &str)]) -> Option<Lookup> {
    let method = |text: &str| DICT_METHODS.into_iter().find(|name| *name == text);
    match tokens {
        [(_, "."), (Kind::Name, name), rest @ ..] => {
            let is_call = matches!(rest.first(), Some((_, "(")));
            let is_assigned = rest.iter().find(|(kind, _)| *kind != Kind::Space);
            if is_call || matches!(is_assigned, Some((_, "="))) {
                return None;
            }
            method(name).map(|name| Lookup { function: ATTRIBUTE, name, length: 2 })
        }
        [(Kind::Open, "["), (Kind::Text, literal), (Kind::Close, "]"), ..] => {
            let name = method(literal.trim_matches(['"', '\'']))?;
            Some(Lookup { function: ITEM, name, length: 3 })
        }
        _ => None,
    }
}

/// Whether a tag is `set name = value`; several values are a tuple, which needs no copy.
fn is_assignment(tokens: &[(Kind, &str)]) -> bool {
    let mut depth = 0_usize;
    let mut is_set = None;
    let mut has_sign = false;
    for (kind, text) in tokens {
        match (kind, *text) {
            (Kind::Space | Kind::Mark, _) => {}
            (_, word) if is_set.is_none() => is_set = Some(word == "set"),
            (Kind::Open, _) => depth += 1,
            (Kind::Close, _) => depth = depth.saturating_sub(1),
            (Kind::Operator, ",") if depth == 0 => return false,
            (Kind::Operator, "=") if depth == 0 => has_sign = true,
            _ => {}
        }
    }
    has_sign && is_set == Some(true)
}

/// Whether `tokens` begin with the brackets of a slice.
fn is_slice(tokens: &[(Kind, &str)]) -> bool {
    let mut depth = 0_usize;
    for (kind, text) in tokens {
        match kind {
            Kind::Open => depth += 1,
            Kind::Close if depth == 1 => return false,
            Kind::Close => depth = depth.saturating_sub(1),
            Kind::Operator if *text == ":" && depth == 1 => {
                return matches!(tokens.first(), Some((_, "[")));
            }
            _ => {}
        }
    }
    false
}

/// A word or sign that binds weaker than `%`: what follows is a new chain.
fn begin(level: &mut Level, out: &mut Vec<String>, text: &str) {
    close(level, out);
    out.push(text.to_owned());
    *level = Level { slice: level.slice, ..Level::at(out.len()) };
}

fn close(level: &mut Level, out: &mut Vec<String>) {
    if std::mem::take(&mut level.open) {
        out.push(")".to_owned());
    }
}

/// Whether a word ends the operand before it. After `is`, `not` and `in` belong to the test; after a
/// dot or a bar every word is a name.
fn ends_operand(word: &str, previous: &str) -> bool {
    match word {
        "and" | "or" | "if" | "else" => !matches!(previous, "." | "|"),
        "not" | "in" => !matches!(previous, "." | "|" | "is"),
        _ => false,
    }
}

fn original(tokens: &[(Kind, &str)]) -> String {
    tokens.iter().map(|(_, text)| *text).collect()
}

/// A string literal with Python's meaning of its escapes, in minijinja's words.
fn unified_escapes(literal: &str) -> String {
    let mut out = String::with_capacity(literal.len());
    let mut rest = literal;
    while let Some(index) = rest.find('\\') {
        out.push_str(&rest[..index]);
        let mut characters = rest[index + 1..].chars();
        match characters.next() {
            Some('/') => out.push_str("\\\\/"),
            Some('a') => out.push('\u{7}'),
            Some('v') => out.push('\u{b}'),
            Some('\n') | None => {}
            Some('U') => {
                let hex = characters.as_str().get(..8).unwrap_or_default();
                match u32::from_str_radix(hex, 16).ok().and_then(char::from_u32) {
                    Some(character) => {
                        out.push(character);
                        characters = characters.as_str()[8..].chars();
                    }
                    None => out.push_str("\\U"),
                }
            }
            Some(other) => {
                out.push('\\');
                out.push(other);
            }
        }
        rest = characters.as_str();
    }
    out.push_str(rest);
    out
}
