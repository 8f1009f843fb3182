//! Regular expressions of JavaScript in the syntax of Rust's, which the parser reads.
//!
//! Both agree on most, and differ where it matters: what `.`, `\d`, `\w` and `\s` match, what a `[`
//! means within a class, and which escapes there are. What matches by looking around (assertions,
//! back references) is no regular expression in the strict sense, and cannot be enforced.
//!
//! Follows ECMA-262 with the flag `u`, as JSON Schema asks for. A group may set the flags `i`, `m` and
//! `s` for itself: `(?i:yes|no)`. Ends of lines are looked at nowhere, so `m` changes nothing.

use std::fmt;
use std::iter::Peekable;
use std::str::Chars;

use llguidance::derivre::RegexBuilder;

/// Why a pattern is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PatternError {
    /// It is not well formed.
    Invalid(String),
    /// It is, but the parser cannot enforce it.
    Unenforceable(String),
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(reason) => write!(f, "is no regular expression: {reason}"),
            Self::Unenforceable(what) => {
                write!(f, "cannot be enforced: {what}")
            }
        }
    }
}

type Result<T> = std::result::Result<T, PatternError>;

/// Every character but the ends of lines.
const DOT: &str = r"[^\n\r\x{2028}\x{2029}]";
const DIGIT: &str = "0-9";
const WORD: &str = "0-9A-Za-z_";
/// White space and ends of lines.
const SPACE: &str = r"\t\n\x0B\x0C\r\x{20}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000}\x{FEFF}";
/// No character.
const NOTHING: &str = r"[^\x{0}-\x{10FFFF}]";
const ANYTHING: &str = r"[\x{0}-\x{10FFFF}]";

/// The largest number in a quantifier.
const MAX_REPEAT: u32 = 100_000;

/// How deep groups may lie in each other.
const MAX_DEPTH: usize = 100;

/// `pattern` in Rust's syntax. It matches what the original does, and has no group with a name.
pub fn translate(pattern: &str) -> Result<String> {
    let rest = pattern.chars().peekable();
    let mut translator = Translator { rest, out: String::new(), dot_all: false };
    translator.pattern()?;
    let translated = translator.out;
    match RegexBuilder::new().mk_regex_for_serach(&translated) {
        Ok(_) => Ok(translated),
        Err(error) if error.to_string().starts_with("lookarounds") => {
            unenforceable("it has \"^\" or \"$\" in its middle")
        }
        Err(error) => {
            let error = error.to_string();
            let reason = error.lines().next_back().unwrap_or_default();
            invalid(reason.trim_start_matches("error: "))
        }
    }
}

/// A pattern that matches `text` alone.
pub fn literal(text: &str) -> String {
    text.chars().map(one).collect()
}

/// A pattern for one character, within and outside of classes.
fn one(character: char) -> String {
    match character {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '_' => character.to_string(),
        _ => format!("\\x{{{:X}}}", u32::from(character)),
    }
}

fn invalid<T>(reason: impl Into<String>) -> Result<T> {
    Err(PatternError::Invalid(reason.into()))
}

fn unenforceable<T>(what: &str) -> Result<T> {
    Err(PatternError::Unenforceable(what.to_owned()))
}

/// What an escape stands for.
enum Escape {
    Character(char),
    /// The inside of a class, and whether it is the complement.
    Class(String, bool),
}

struct Translator<'a> {
    rest: Peekable<Chars<'a>>,
    out: String,
    /// Whether `.` matches ends of lines, too.
    dot_all: bool,
}

impl Translator<'_> {
    fn pattern(&mut self) -> Result<()> {
        // Whether there is something that a quantifier can repeat.
        let mut repeatable = false;
        let mut opened = Vec::new();
        while let Some(character) = self.rest.next() {
            match character {
                '.' => self.out.push_str(if self.dot_all { ANYTHING } else { DOT }),
                '^' | '$' | '|' => {
                    self.out.push(character);
                    repeatable = false;
                    continue;
                }
                '(' => {
                    opened.push(self.dot_all);
                    self.group()?;
                    if opened.len() > MAX_DEPTH {
                        return invalid("groups lie too deep in each other");
                    }
                    repeatable = false;
                    continue;
                }
                ')' => match opened.pop() {
                    Some(before) => {
                        self.dot_all = before;
                        self.out.push(')');
                    }
                    None => return invalid("a \")\" closes nothing"),
                },
                '[' => {
                    let class = self.class()?;
                    self.out.push_str(&class);
                }
                '*' | '+' | '?' if repeatable => {
                    self.quantifier(character);
                    repeatable = false;
                    continue;
                }
                '{' if repeatable => {
                    self.braces()?;
                    repeatable = false;
                    continue;
                }
                '*' | '+' | '?' | '{' => {
                    return invalid(format!("there is nothing that \"{character}\" could repeat"));
                }
                '\\' => match self.escape(false)? {
                    Escape::Character(character) => self.out.push_str(&one(character)),
                    Escape::Class(inside, false) => self.out.push_str(&format!("[{inside}]")),
                    Escape::Class(inside, true) => self.out.push_str(&format!("[^{inside}]")),
                },
                other => self.out.push_str(&one(other)),
            }
            repeatable = true;
        }
        match opened.is_empty() {
            true => Ok(()),
            false => invalid("a group is not closed"),
        }
    }

    fn group(&mut self) -> Result<()> {
        if self.rest.next_if_eq(&'?').is_some() {
            match self.rest.next() {
                Some(':') => {}
                Some('=' | '!') => return unenforceable("it looks ahead"),
                Some('<') => {
                    if matches!(self.rest.peek(), Some('=' | '!')) {
                        return unenforceable("it looks behind");
                    }
                    let name: String =
                        std::iter::from_fn(|| self.rest.next_if(|&it| it != '>')).collect();
                    if self.rest.next().is_none() || name.is_empty() {
                        return invalid("the name of a group is not closed");
                    }
                }
                Some(flag @ ('i' | 'm' | 's' | '-')) => return self.flags(flag),
                _ => return invalid("\"(?\" begins no group"),
            }
        }
        self.out.push_str("(?:");
        Ok(())
    }

    /// Flags that a group sets for itself, from the first one on.
    fn flags(&mut self, first: char) -> Result<()> {
        let more =
            std::iter::from_fn(|| self.rest.next_if(|it| matches!(it, 'i' | 'm' | 's' | '-')));
        let flags: String = std::iter::once(first).chain(more).collect();
        let (on, off) = flags.split_once('-').unwrap_or((&flags, ""));
        let all: Vec<char> = on.chars().chain(off.chars()).collect();
        let is_repeated = (1..all.len()).any(|at| all[..at].contains(&all[at]));
        if self.rest.next() != Some(':') || all.is_empty() || is_repeated || off.contains('-') {
            return invalid("\"(?\" begins no group");
        }
        self.dot_all = (self.dot_all || on.contains('s')) && !off.contains('s');
        self.out.push_str(match (on.contains('i'), off.contains('i')) {
            (true, _) => "(?i:",
            (_, true) => "(?-i:",
            _ => "(?:",
        });
        Ok(())
    }

    fn quantifier(&mut self, quantifier: char) {
        self.out.push(quantifier);
        self.lazy();
    }

    /// How much a quantifier would rather take does not matter to what the whole can be.
    fn lazy(&mut self) {
        let _ = self.rest.next_if_eq(&'?');
    }

    fn braces(&mut self) -> Result<()> {
        let inside: String = std::iter::from_fn(|| self.rest.next_if(|&it| it != '}')).collect();
        if self.rest.next().is_none() {
            return invalid("a \"{\" is not closed");
        }
        let (low, high) = match inside.split_once(',') {
            Some((low, high)) => (low, Some(high)),
            None => (inside.as_str(), None),
        };
        let number = |text: &str| -> Result<u32> {
            if text.is_empty() || !text.bytes().all(|digit| digit.is_ascii_digit()) {
                return invalid(format!("\"{{{inside}}}\" is no quantifier"));
            }
            match text.parse() {
                Ok(number) if number <= MAX_REPEAT => Ok(number),
                _ => unenforceable("it repeats something too often"),
            }
        };
        let low = number(low)?;
        match high {
            None => self.out.push_str(&format!("{{{low}}}")),
            Some("") => self.out.push_str(&format!("{{{low},}}")),
            Some(high) => {
                let high = number(high)?;
                if high < low {
                    return invalid(format!("\"{{{inside}}}\" ends before it begins"));
                }
                self.out.push_str(&format!("{{{low},{high}}}"));
            }
        }
        self.lazy();
        Ok(())
    }

    /// A class, behind its `[`.
    fn class(&mut self) -> Result<String> {
        let complement = self.rest.next_if_eq(&'^').is_some();
        let mut items: Vec<Escape> = Vec::new();
        let mut inside = String::new();
        loop {
            let Some(character) = self.rest.next() else {
                return invalid("a \"[\" is not closed");
            };
            match character {
                ']' => break,
                '-' if !items.is_empty() && self.rest.peek().is_some_and(|&it| it != ']') => {
                    let low = items.pop();
                    let high = match self.rest.next() {
                        Some('\\') => self.escape(true)?,
                        Some(other) => Escape::Character(other),
                        None => return invalid("a \"[\" is not closed"),
                    };
                    match (low, high) {
                        (Some(Escape::Character(low)), Escape::Character(high)) => {
                            if low > high {
                                return invalid("a range of characters ends before it begins");
                            }
                            inside.push_str(&format!("{}-{}", one(low), one(high)));
                        }
                        // Between classes it is a character like others, as without the flag `u`.
                        (low, high) => {
                            items.extend(low);
                            items.extend([Escape::Character('-'), high]);
                        }
                    }
                }
                '\\' => items.push(self.escape(true)?),
                other => items.push(Escape::Character(other)),
            }
        }
        for item in items {
            match item {
                Escape::Character(character) => inside.push_str(&one(character)),
                Escape::Class(class, false) => inside.push_str(&format!("[{class}]")),
                Escape::Class(class, true) => inside.push_str(&format!("[^{class}]")),
            }
        }
        Ok(match (inside.is_empty(), complement) {
            (true, false) => NOTHING.to_owned(),
            (true, true) => ANYTHING.to_owned(),
            (false, false) => format!("[{inside}]"),
            (false, true) => format!("[^{inside}]"),
        })
    }

    /// An escape, behind its `\`.
    fn escape(&mut self, in_class: bool) -> Result<Escape> {
        let Some(character) = self.rest.next() else { return invalid("it ends with \"\\\"") };
        let class = |inside: &str, complement| Ok(Escape::Class(inside.to_owned(), complement));
        let character = match character {
            'd' => return class(DIGIT, false),
            'D' => return class(DIGIT, true),
            'w' => return class(WORD, false),
            'W' => return class(WORD, true),
            's' => return class(SPACE, false),
            'S' => return class(SPACE, true),
            'p' | 'P' => return class(&self.property(character)?, false),
            'b' if in_class => '\u{8}',
            'b' | 'B' => return unenforceable("it asks for the edge of a word"),
            'k' | '1'..='9' => return unenforceable("it refers to a group before"),
            't' => '\t',
            'n' => '\n',
            'r' => '\r',
            'v' => '\u{B}',
            'f' => '\u{C}',
            '0' => '\0',
            'c' => match self.rest.next() {
                Some(letter) if letter.is_ascii_alphabetic() => char::from(letter as u8 % 32),
                _ => return invalid("\"\\c\" needs a letter"),
            },
            'x' => self.code(2)?,
            'u' => self.unicode()?,
            other if other.is_ascii_alphanumeric() || other == '_' => {
                return invalid(format!("\"\\{other}\" is no escape"));
            }
            other => other,
        };
        Ok(Escape::Character(character))
    }

    /// A property of Unicode's characters, for the inside of a class.
    fn property(&mut self, letter: char) -> Result<String> {
        if self.rest.next() != Some('{') {
            return invalid(format!("\"\\{letter}\" needs a property in braces"));
        }
        let name: String = std::iter::from_fn(|| self.rest.next_if(|&it| it != '}')).collect();
        let known = |it: char| it.is_ascii_alphanumeric() || matches!(it, '_' | '=');
        if self.rest.next().is_none() || name.is_empty() || !name.chars().all(known) {
            return invalid("the name of a property is not closed");
        }
        Ok(format!("\\{letter}{{{name}}}"))
    }

    fn code(&mut self, digits: usize) -> Result<char> {
        let code = self.hex(digits)?;
        char::from_u32(code).map_or_else(|| invalid("an escape is no character"), Ok)
    }

    fn hex(&mut self, digits: usize) -> Result<u32> {
        let mut code = 0;
        for _ in 0..digits {
            match self.rest.next().and_then(|digit| digit.to_digit(16)) {
                Some(digit) => code = code * 16 + digit,
                None => return invalid("an escape lacks hexadecimal digits"),
            }
        }
        Ok(code)
    }

    fn unicode(&mut self) -> Result<char> {
        let none = "an escape is no character";
        if self.rest.next_if_eq(&'{').is_some() {
            let digits: String =
                std::iter::from_fn(|| self.rest.next_if(|&it| it != '}')).collect();
            let _ = self.rest.next();
            let code = u32::from_str_radix(&digits, 16).ok();
            return code.and_then(char::from_u32).map_or_else(|| invalid(none), Ok);
        }
        let high = self.hex(4)?;
        if !(0xD800..0xDC00).contains(&high) {
            return char::from_u32(high).map_or_else(|| invalid(none), Ok);
        }
        // Half of a character, whose other half must follow.
        if self.rest.next() != Some('\\') || self.rest.next() != Some('u') {
            return invalid(none);
        }
        let low = self.hex(4)?;
        if !(0xDC00..0xE000).contains(&low) {
            return invalid(none);
        }
        let code = 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
        char::from_u32(code).map_or_else(|| invalid(none), Ok)
    }
}
