//! Budgets of reasoning.

use std::sync::Arc;

use super::calls_or_answers::text;
use crate::engine::budget::ReasoningBudget;
use crate::generate::TokenMask;
use crate::text::{OutputFormats, OutputParser, ReasoningFormat};

/// The only token that may come, if there is just one.
fn forced(budget: &mut ReasoningBudget) -> Option<u32> {
    let words = budget.allowed().unwrap()?;
    let mut tokens = (0..words.len() as u32 * 32)
        .filter(|token| words[*token as usize / 32] >> (token % 32) & 1 == 1);
    tokens.next().filter(|_| tokens.next().is_none())
}

#[test]
fn reasoning_that_begins_again_behind_its_budget_ends_at_once() {
    let text = text(1);
    let tokenizer = text.tokenizer().unwrap();
    let encode = |text: &str| tokenizer.encode(text, false).unwrap();
    let formats =
        OutputFormats { reasoning: ReasoningFormat::named("think"), ..OutputFormats::default() };
    let parser = OutputParser::new(formats, Arc::default(), "<think>\n", false);
    let ending = encode("</think>");
    let mut budget = ReasoningBudget::new(3, parser, Arc::clone(tokenizer), ending.clone(), None);
    for written in ["abc", "x<think>"] {
        for token in encode(written) {
            assert_eq!(forced(&mut budget), None, "{written}");
            budget.accept(token).unwrap();
        }
        for &token in &ending {
            assert_eq!(forced(&mut budget), Some(token), "{written}");
            budget.accept(token).unwrap();
        }
    }
    assert_eq!(forced(&mut budget), None);
}
