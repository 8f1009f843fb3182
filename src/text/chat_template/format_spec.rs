//! How Python lays out numbers and text: signs, widths, precisions and bases.
//!
//! Reference: the Python Library Reference, "Format Specification Mini-Language".

use std::iter::Peekable;
use std::str::Chars;

use minijinja::{Error, ErrorKind};

use super::{limits, python};

/// How a value is laid out.
#[derive(Debug, Clone)]
pub(super) struct Spec {
    pub fill: char,
    /// `<`, `>`, `^` or `=`
    pub align: Option<char>,
    /// What stands before numbers that are not negative: `+`, a space, or `-` for nothing.
    pub sign: char,
    pub alternate: bool,
    pub width: usize,
    /// What stands between thousands.
    pub grouping: Option<char>,
    pub precision: Option<usize>,
    pub kind: Option<char>,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            fill: ' ',
            align: None,
            sign: '-',
            alternate: false,
            width: 0,
            grouping: None,
            precision: None,
            kind: None,
        }
    }
}

/// `[[fill]align][sign][#][0][width][grouping][.precision][type]`
pub(super) fn parse_spec(spec: &str) -> Result<Spec, Error> {
    let mut parsed = Spec::default();
    let is_align = |character: &char| "<>^=".contains(*character);
    let mut characters = spec.chars().peekable();
    let mut ahead = spec.chars();
    let (first, second) = (ahead.next(), ahead.next());
    if let (Some(fill), Some(align)) = (first, second.filter(is_align)) {
        parsed.fill = fill;
        parsed.align = Some(align);
        characters.next();
        characters.next();
    } else {
        parsed.align = characters.next_if(is_align);
    }
    if let Some(sign) = characters.next_if(|it| "+- ".contains(*it)) {
        parsed.sign = sign;
    }
    parsed.alternate = characters.next_if_eq(&'#').is_some();
    if characters.next_if_eq(&'0').is_some() && parsed.align.is_none() {
        parsed.fill = '0';
        parsed.align = Some('=');
    }
    parsed.width = digits(&mut characters).unwrap_or(0);
    parsed.grouping = characters.next_if(|it| ",_".contains(*it));
    if characters.next_if_eq(&'.').is_some() {
        let precision = digits(&mut characters);
        parsed.precision =
            Some(precision.ok_or_else(|| invalid("a format without its precision"))?);
    }
    parsed.kind = characters.next();
    if characters.next().is_some() {
        return Err(invalid(format!("the format \"{spec}\" is not valid")));
    }
    Ok(parsed)
}

pub(super) fn digits(characters: &mut Peekable<Chars<'_>>) -> Option<usize> {
    let mut number = None;
    while let Some(digit) = characters.peek().and_then(|it| it.to_digit(10)) {
        characters.next();
        let so_far: usize = number.unwrap_or(0);
        number = Some(so_far.saturating_mul(10).saturating_add(digit as usize));
    }
    number
}

pub(super) fn text(value: &str, spec: &Spec) -> Result<String, Error> {
    let shortened: String = match spec.precision {
        Some(precision) => value.chars().take(precision).collect(),
        None => value.to_owned(),
    };
    pad("", &shortened, spec, '<')
}

pub(super) fn whole(number: i128, spec: &Spec) -> Result<String, Error> {
    if spec.kind == Some('f') {
        return real(number as f64, spec);
    }
    let size = number.unsigned_abs();
    let (prefix, digits) = match spec.kind {
        Some('b') => ("0b", format!("{size:b}")),
        Some('o') => ("0o", format!("{size:o}")),
        Some('x') => ("0x", format!("{size:x}")),
        Some('X') => ("0X", format!("{size:X}")),
        _ => ("", size.to_string()),
    };
    let missing = spec.precision.unwrap_or(0).saturating_sub(digits.len());
    limits::take_text(missing)?;
    let digits = "0".repeat(missing) + &digits;
    let group = if prefix.is_empty() { 3 } else { 4 };
    let digits = grouped(&digits, spec.grouping, group);
    let prefix = if spec.alternate { prefix } else { "" };
    pad(&format!("{}{prefix}", sign(number < 0, spec)), &digits, spec, '>')
}

fn sign(is_negative: bool, spec: &Spec) -> &'static str {
    match spec.sign {
        _ if is_negative => "-",
        '+' => "+",
        ' ' => " ",
        _ => "",
    }
}

fn grouped(digits: &str, separator: Option<char>, size: usize) -> String {
    let Some(separator) = separator else { return digits.to_owned() };
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(size) {
            out.push(separator);
        }
        out.push(digit);
    }
    out
}

/// Beyond this, digits are zeros.
const MAX_PRECISION: usize = 5000;

pub(super) fn real(number: f64, spec: &Spec) -> Result<String, Error> {
    let size = number.abs();
    let kind = spec.kind.unwrap_or('g');
    let default = if spec.kind.is_none() { None } else { Some(6) };
    let precision = spec.precision.or(default);
    if precision.is_some_and(|precision| precision > MAX_PRECISION) {
        return Err(invalid(format!("a precision of more than {MAX_PRECISION} digits")));
    }
    let mut digits = if size.is_nan() {
        "nan".to_owned()
    } else if size.is_infinite() {
        "inf".to_owned()
    } else {
        match (kind.to_ascii_lowercase(), precision) {
            ('f', Some(precision)) => format!("{size:.precision$}"),
            ('%', Some(precision)) => format!("{:.precision$}%", size * 100.0),
            ('e', Some(precision)) => scientific(size, precision),
            (_, Some(precision)) if spec.kind.is_none() => {
                let short = general(size, precision, spec.alternate);
                // What prints like `str` shows that it is no whole number.
                if short.contains(['.', 'e']) { short } else { short + ".0" }
            }
            (_, Some(precision)) => general(size, precision, spec.alternate),
            (_, None) => python::float(size),
        }
    };
    if spec.alternate && !digits.contains('.') && digits.bytes().all(|it| it.is_ascii_digit()) {
        digits.push('.');
    }
    if kind.is_ascii_uppercase() {
        digits.make_ascii_uppercase();
    }
    if spec.grouping.is_some() {
        let end = digits.find(|it: char| !it.is_ascii_digit()).unwrap_or(digits.len());
        digits = grouped(&digits[..end], spec.grouping, 3) + &digits[end..];
    }
    let is_negative = number.is_sign_negative() && !number.is_nan();
    pad(sign(is_negative, spec), &digits, spec, '>')
}

/// `1.50e+02`
fn scientific(number: f64, precision: usize) -> String {
    let written = format!("{number:.precision$e}");
    let (mantissa, exponent) = written.split_once('e').unwrap_or((&written, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

/// The shorter of both forms, with `precision` digits that count.
fn general(number: f64, precision: usize, keep_zeros: bool) -> String {
    let precision = precision.max(1);
    let written = format!("{number:.*e}", precision - 1);
    let exponent: i32 = written.split_once('e').and_then(|(_, it)| it.parse().ok()).unwrap_or(0);
    let limit = i32::try_from(precision).unwrap_or(i32::MAX);
    let (digits, tail) = if (-4..limit).contains(&exponent) {
        let places = usize::try_from(limit - 1 - exponent).unwrap_or(0);
        (format!("{number:.places$}"), String::new())
    } else {
        let written = scientific(number, precision - 1);
        let at = written.find('e').unwrap_or(written.len());
        (written[..at].to_owned(), written[at..].to_owned())
    };
    let digits = if keep_zeros || !digits.contains('.') {
        digits
    } else {
        digits.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    digits + &tail
}

fn pad(prefix: &str, body: &str, spec: &Spec, default: char) -> Result<String, Error> {
    let length = prefix.chars().count() + body.chars().count();
    let missing = spec.width.saturating_sub(length);
    let padding = missing.saturating_mul(spec.fill.len_utf8());
    limits::take_text(padding.saturating_add(prefix.len() + body.len()))?;
    let fill = |count: usize| spec.fill.to_string().repeat(count);
    Ok(match spec.align.unwrap_or(default) {
        '<' => format!("{prefix}{body}{}", fill(missing)),
        '^' => format!("{}{prefix}{body}{}", fill(missing / 2), fill(missing - missing / 2)),
        '=' => format!("{prefix}{}{body}", fill(missing)),
        _ => format!("{}{prefix}{body}", fill(missing)),
    })
}

fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}
