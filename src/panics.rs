//! What panics say, on the way into errors.

use std::any::Any;

/// The message of a caught panic, for an error that users read.
pub(crate) fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.map_or_else(|| "a panic without a message".to_owned(), without_places)
}

/// `message` without the places in source code that libraries put into theirs: they are paths of
/// the machine on which the addon was built, and tell its users nothing.
pub(crate) fn without_places(message: &str) -> String {
    let is_place = |word: &str| {
        let path = word.trim_matches(|c: char| "()[]{}<>,;:'\"`".contains(c));
        let path = path.trim_end_matches(|c: char| c.is_ascii_digit() || c == ':');
        let named = [".rs", ".c", ".cc", ".cpp", ".h", ".hpp", ".metal", ".cu"];
        path != word && path.contains(['/', '\\']) && named.iter().any(|end| path.ends_with(end))
    };
    if !message.split_whitespace().any(is_place) {
        return message.to_owned();
    }
    let mut words: Vec<&str> = Vec::new();
    for word in message.split_whitespace() {
        if !is_place(word) {
            words.push(word);
        } else if words.last().is_some_and(|last| ["at", "in", "from"].contains(last)) {
            words.pop();
        }
    }
    words.join(" ")
}

/// Keeps panics off standard error, where the standard library prints them with the paths of the
/// machine that built the addon: each becomes an error with its message. `RUST_BACKTRACE` shows
/// them all the same.
#[cfg(all(feature = "napi", not(test)))]
pub(crate) fn keep_quiet() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        if std::env::var_os("RUST_BACKTRACE").is_none_or(|value| value == "0") {
            std::panic::set_hook(Box::new(|_| {}));
        }
    });
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

    use std::panic;

    use super::*;

    #[test]
    fn a_message_keeps_its_words_and_loses_its_places() {
        for (full, expected) in [
            ("index out of bounds: 3", "index out of bounds: 3"),
            (
                "[matmul] shapes do not fit. at /build/mlx-c/mlx/c/ops.cpp:123",
                "[matmul] shapes do not fit.",
            ),
            ("failed (src/cpu/pool.rs:12:5): no task", "failed no task"),
            (r"broken at C:\build\src\lib.rs:4:1", "broken"),
            ("/models/a/config.json: 12:5 is wrong", "/models/a/config.json: 12:5 is wrong"),
            ("two  spaces\nand a line", "two  spaces\nand a line"),
        ] {
            assert_eq!(without_places(full), expected);
        }
    }

    #[test]
    fn every_kind_of_panic_has_a_message() {
        let caught = |run: fn()| message(&*panic::catch_unwind(run).unwrap_err());
        assert_eq!(caught(|| panic!("plain")), "plain");
        assert_eq!(caught(|| panic!("number {}", 7)), "number 7");
        assert_eq!(caught(|| panic::panic_any(7)), "a panic without a message");
    }
}
