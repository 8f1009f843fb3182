//! Any text with stop strings and patterns, parts of it hidden, cut at the places that the bytes
//! say: what is shown, which one stops and what it matches do not depend on how it is cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nodemlx::text::{StopMatcher, StopPattern};

// Zero bytes part the stop strings, the patterns behind a one, and the text.
fuzz_target!(|data: &[u8]| {
    let [sizes, rest @ ..] = data else { return };
    let mut fields: Vec<&[u8]> = rest.split(|&byte| byte == 0).collect();
    let Some(text) = fields.pop() else { return };
    let (mut stops, mut patterns) = (Vec::new(), Vec::new());
    for field in fields {
        match field {
            [1, pattern @ ..] => {
                patterns.extend(StopPattern::new(&String::from_utf8_lossy(pattern)));
            }
            stop => stops.push(String::from_utf8_lossy(stop).into_owned()),
        }
    }
    // Twos part what is shown and what is hidden.
    let parts: Vec<(String, bool)> = (0..)
        .zip(text.split(|&byte| byte == 2))
        .map(|(index, part)| (String::from_utf8_lossy(part).into_owned(), index % 2 == 1))
        .collect();
    let run = |size: usize| {
        let mut matcher = StopMatcher::new(stops.clone(), patterns.clone());
        let (mut shown, mut stopped) = (String::new(), None);
        for (part, hidden) in &parts {
            let characters: Vec<char> = part.chars().collect();
            for piece in characters.chunks(size) {
                let piece: String = piece.iter().collect();
                let state =
                    if *hidden { matcher.push_hidden(&piece) } else { matcher.push(&piece) };
                shown += &state.emit;
                stopped = state.stopped;
            }
        }
        shown += &matcher.finish();
        (shown, stopped, matcher.matched().to_owned())
    };
    let whole = run(usize::MAX);
    assert_eq!(whole, run(usize::from(*sizes) + 1));
    assert_eq!(whole, run(1));
});
