//! Scores: the rules on a fake model, the numbers on the demo.

use super::demo::{load_demo, wait};
use super::*;

fn tokens(prompt: &[u32], continuations: &[&[u32]]) -> ScoreRequest {
    ScoreRequest {
        prompt: Prompt::Tokens(prompt.to_vec()),
        encoding: PromptEncoding::default(),
        continuations: continuations.iter().map(|it| Continuation::Tokens(it.to_vec())).collect(),
        top: 0,
        adapter: None,
    }
}

fn text(prompt: &str, continuations: &[&str]) -> ScoreRequest {
    ScoreRequest {
        prompt: Prompt::Text(prompt.to_owned()),
        encoding: PromptEncoding::default(),
        continuations: continuations.iter().map(|&it| Continuation::Text(it.to_owned())).collect(),
        top: 0,
        adapter: None,
    }
}

fn score(model: &Model, request: ScoreRequest) -> Result<Scores> {
    wait(|callback| model.score(request, AbortFlag::default(), callback))
}

#[test]
fn every_token_is_scored_behind_those_before_it_however_chunks_fall() {
    let control = Arc::new(Control::default());
    let model = fake_model(&control);
    let long: Vec<u32> = (100..700).collect();
    let lengths = [1_usize, 3, 600, 2, 1, 9, 9, 9, 9, 9, 9, 9, 9, 9];
    let rests: Vec<&[u32]> = lengths.iter().map(|&length| &long[..length]).collect();
    let scores = score(&model, tokens(&[7; 11], &rests)).unwrap();
    assert_eq!(scores.prompt_tokens, 11);
    for (rest, scored) in rests.iter().zip(&scores.continuations) {
        let expected: Vec<f32> =
            (0..).zip(*rest).map(|(index, &token)| token as f32 - (11 + index) as f32).collect();
        assert_eq!((&*scored.tokens, &scored.logprobs), (*rest, &expected));
    }
}

#[test]
fn the_likeliest_tokens_come_in_the_place_of_each() {
    let model = load_demo();
    let whole = "The capital of France is Paris.";
    let plain = score(&model, text(whole, &[])).unwrap();
    assert!(plain.top[0].iter().all(Vec::is_empty));
    let scores = score(&model, ScoreRequest { top: 3, ..text(whole, &[]) }).unwrap();
    let [scored] = &*scores.continuations else { panic!("one text") };
    assert_eq!(scored.logprobs, plain.continuations[0].logprobs);
    let places = scored.tokens.iter().zip(&scored.logprobs).zip(&scores.top[0]);
    let mut found = 0;
    for ((token, logprob), top) in places {
        assert_eq!(top.len(), 3);
        assert!(top.is_sorted_by(|a, b| a.logprob >= b.logprob));
        assert!(top[0].logprob >= *logprob && top[0].text.is_some());
        if let Some(same) = top.iter().find(|it| it.token == *token) {
            assert_eq!(same.logprob, *logprob);
            found += 1;
        }
    }
    assert!(found > 0);
}

#[test]
fn scores_take_turns_with_generations_and_end_when_aborted() {
    let (control, permits) = Control::gated();
    let model = fake_model(&control);
    let flag = AbortFlag::default();
    let (sender, receiver) = channel();
    let long = tokens(&[1; 100_000], &[&[2]]);
    model.score(long, flag.clone(), Box::new(move |it| sender.send(it).unwrap()));
    for _ in 0..3 {
        permits.send(()).unwrap();
    }
    control.wait_for("three chunks", |it| it.count(Event::Score) >= 3);
    let beside = model.generate(request(&[10], 5)).unwrap();
    flag.abort();
    drop(permits);
    let error = receiver.recv_timeout(PATIENCE).unwrap().unwrap_err();
    assert_eq!(error.code(), "ABORTED");
    assert_eq!(collect(&beside).unwrap().0.len(), 5);
}

#[test]
fn what_cannot_be_scored_is_refused() {
    let model = fake_model_with(&Arc::default(), |profile| profile.context_length = Some(16));
    let refused = [
        (tokens(&[5], &[]), "INVALID_ARGUMENT"),
        (tokens(&[], &[&[1]]), "INVALID_ARGUMENT"),
        (tokens(&[5], &[&[1000]]), "INVALID_ARGUMENT"),
        (tokens(&[5; 10], &[&[1; 7]]), "CONTEXT_OVERFLOW"),
        (tokens(&[5; 17], &[]), "CONTEXT_OVERFLOW"),
        (text("Hello", &["you"]), "NO_TOKENIZER"),
    ];
    for (request, code) in refused {
        assert_eq!(score(&model, request.clone()).unwrap_err().code(), code, "{request:?}");
    }
    let whole = score(&model, tokens(&[5; 16], &[])).unwrap();
    assert_eq!((whole.prompt_tokens, whole.continuations[0].tokens.len()), (1, 15));
}

#[test]
fn scores_are_the_soft_max_of_the_logits() {
    let model = load_demo();
    let width = model.info().model.vocabulary_size;
    let all: Vec<u32> = (100..400).collect();
    let logits = wait(|it| model.logits(all.clone(), it)).unwrap();
    let expected: Vec<f32> = logits
        .chunks(width)
        .zip(&all[1..])
        .map(|(row, &token)| {
            let sum: f64 = row.iter().map(|&logit| f64::from(logit).exp()).sum();
            (f64::from(row[token as usize]) - sum.ln()) as f32
        })
        .collect();
    let near = |scores: &Scores, from: usize| {
        let scored = &scores.continuations[0].logprobs;
        assert_eq!(scored.len(), expected.len() - from);
        for (a, b) in scored.iter().zip(&expected[from..]) {
            // Kernels for single tokens round otherwise than those for many.
            assert!((a - b).abs() < 2e-2, "{a} is not {b}");
        }
    };
    near(&score(&model, tokens(&all, &[])).unwrap(), 0);
    near(&score(&model, tokens(&all[..280], &[&all[280..]])).unwrap(), 279);
}

#[test]
fn continuations_are_scored_behind_what_their_wholes_begin_with() {
    let model = load_demo();
    let tokenize = |text: &str| -> Vec<u32> {
        let prompt = Prompt::Text(text.to_owned());
        wait(|it| model.tokenize(prompt, PromptEncoding::default(), it)).unwrap()
    };
    let (yes, no) = (tokenize("The sky is blue"), tokenize("The sky is green"));
    // The space at the end becomes a part of the word behind it.
    let scores = score(&model, text("The sky is ", &["blue", "green"])).unwrap();
    let shared = scores.prompt_tokens;
    assert_eq!(yes[..shared], no[..shared]);
    assert_eq!(scores.continuations[0].tokens, yes[shared..]);
    assert_eq!(scores.continuations[1].tokens, no[shared..]);
    assert_eq!(scores.texts[0].concat().trim(), "blue");
    let apart = score(&model, text("The sky is", &[" blue", " green"])).unwrap();
    assert_eq!(apart.continuations, scores.continuations, "the same text, cut elsewhere");
}
