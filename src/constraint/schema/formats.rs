//! The values of `format`.

/// How a format is enforced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    /// By the parser itself, under the same name.
    Known,
    /// By a pattern.
    Pattern(&'static str),
    /// It says how a number is stored, or is said by the schema's own pattern.
    Nothing,
    /// Not at all.
    Unknown,
}

/// Days of all months, February's 29th in leap years alone (RFC 3339, 5.7).
macro_rules! date {
    () => {
        concat!(
            r"(?:[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])",
            r"|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))",
            r"|(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29)",
        )
    };
}

/// Without leap seconds, and with at most nine digits of a second's fractions, so that it ends.
macro_rules! time {
    () => {
        concat!(
            r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:[.][0-9]{1,9})?",
            r"(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])",
        )
    };
}

const DATE: &str = concat!("^", date!(), "$");
const TIME: &str = concat!("^", time!(), "$");
const DATE_TIME: &str = concat!("^", date!(), "T", time!(), "$");
const JSON_POINTER: &str = "^(?:/(?:[^/~]|~[01])*)*$";

/// A dot-atom (RFC 5322, 3.2.3) and a domain of two labels or more.
const EMAIL: &str = concat!(
    r"^[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]{1,64}(?:[.][A-Za-z0-9!#$%&'*+/=?^_`{|}~-]{1,64})*",
    r"@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?[.])+",
    r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?$",
);

/// RFC 3986, 3: behind the scheme there is a host or a path. Of IPv6 the forms with all groups and
/// with one gap.
const URI: &str = concat!(
    r"^[A-Za-z][A-Za-z0-9+.-]{0,30}:(?://(?:",
    r"(?:(?:[A-Za-z0-9._~!$&'()*+,;=:-]|%[0-9A-Fa-f]{2})*@)?",
    r"(?:\[(?:(?:[0-9A-Fa-f]{1,4}:){7}[0-9A-Fa-f]{1,4}|(?:[0-9A-Fa-f]{1,4}:){1,6}:[0-9A-Fa-f]{1,4}",
    r"|::(?:[0-9A-Fa-f]{1,4}:){0,6}[0-9A-Fa-f]{1,4})\]",
    r"|(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+)(?::[0-9]{1,5})?",
    r"|/(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})+)",
    r"(?:/(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})*)*",
    r"|/?(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})+",
    r"(?:/(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})*)*)",
    r"(?:[?](?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*)?",
    r"(?:#(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*)?$",
);

/// Formats of numbers in OpenAPI.
const OF_NUMBERS: [&str; 8] =
    ["int8", "int16", "int32", "int64", "uint32", "uint64", "float", "double"];

/// Formats that libraries of schemas write beside a pattern that says the same.
const OF_LIBRARIES: [&str; 19] = [
    "base64",
    "base64url",
    "cidrv4",
    "cidrv6",
    "cuid",
    "cuid2",
    "e164",
    "emoji",
    "ends_with",
    "guid",
    "includes",
    "jwt",
    "ksuid",
    "lowercase",
    "nanoid",
    "starts_with",
    "ulid",
    "uppercase",
    "xid",
];

/// How `format` is enforced, in a schema with or without a pattern.
pub fn format(name: &str, has_pattern: bool) -> Format {
    match name {
        "date" => Format::Pattern(DATE),
        "time" => Format::Pattern(TIME),
        "date-time" => Format::Pattern(DATE_TIME),
        "json-pointer" => Format::Pattern(JSON_POINTER),
        "email" => Format::Pattern(EMAIL),
        "uri" => Format::Pattern(URI),
        "duration" | "hostname" | "ipv4" | "ipv6" | "uuid" => Format::Known,
        _ if OF_NUMBERS.contains(&name) => Format::Nothing,
        _ if has_pattern && OF_LIBRARIES.contains(&name) => Format::Nothing,
        _ => Format::Unknown,
    }
}
