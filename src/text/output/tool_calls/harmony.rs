//! gpt-oss: a call is a message to a function, which the messages' reader reads.

use super::{Section, ToolFormat, standard};
use crate::text::output::call_grammar::Shape;
use crate::text::output::reader::Reader;

pub(super) static FORMAT: ToolFormat = ToolFormat {
    signs: &["<|channel|>commentary"],
    shape: Shape::Named {
        around: ["", ""],
        between: Some(""),
        each: ["<|channel|>commentary to=functions.", " <|constrain|>json<|message|>", "<|call|>"],
    },
    ..standard("harmony", &[], &[], read)
};

fn read(_: Reader, _: usize) -> Section {
    Box::pin(async { Ok(()) })
}
