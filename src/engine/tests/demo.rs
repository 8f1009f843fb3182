//! The engine with a real model: the embedded one, on the CPU. What it says is not judged here.

use std::path::Path;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::{PATIENCE, dispose};
use crate::engine::{
    Callback, FinishReason, Finished, GenerateRequest, LoadRequest, LoadStage, Matched, Model,
    Prompt, PromptEncoding, TokenLogprob, load,
};
use crate::error::Result;
use crate::fused::Precision;
use crate::mlx::DeviceKind;

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/demo");

fn demo() -> LoadRequest {
    LoadRequest {
        path: DEMO.into(),
        device: Some(DeviceKind::Cpu),
        dtype: None,
        threads: None,
        precision: None,
        max_sequences: None,
        max_stall_ms: None,
        memory_bytes: None,
        prefix_cache_bytes: None,
        prefix_disk: None,
        draft: None,
        prediction_heads: true,
        context_length: None,
    }
}

pub(super) fn load_demo() -> Model {
    wait(|callback| drop(load(demo(), Box::new(|_| {}), callback))).unwrap()
}

/// Calls `start` and waits for what it calls back with.
pub(super) fn wait<T: Send + 'static>(start: impl FnOnce(Callback<T>)) -> Result<T> {
    let (sender, receiver) = channel();
    start(Box::new(move |result| sender.send(result).unwrap()));
    receiver.recv_timeout(PATIENCE).unwrap()
}

struct Whole {
    text: String,
    tokens: Vec<u32>,
    logprobs: Vec<TokenLogprob>,
    done: Arc<Finished>,
}

fn generate(model: &Model, request: GenerateRequest) -> Whole {
    let generation = model.generate(request).unwrap();
    let (mut text, mut tokens, mut logprobs) = (String::new(), Vec::new(), Vec::new());
    loop {
        let batch = generation.wait_next().unwrap();
        text += &batch.text;
        tokens.extend(batch.tokens);
        logprobs.extend(batch.logprobs);
        if let Some(done) = batch.done {
            return Whole { text, tokens, logprobs, done };
        }
    }
}

fn request(text: &str, max_tokens: usize) -> GenerateRequest {
    GenerateRequest::new(Prompt::Text(text.to_owned())).with(|options| {
        options.max_tokens = Some(max_tokens);
        options.seed = Some(3);
        options.temperature = Some(1.0);
        options.ignore_end_tokens = true;
    })
}

#[test]
fn text_tokens_and_numbers_agree() {
    let model = load_demo();
    let whole = generate(&model, request("The capital of France", 24));
    let decoded = wait(|it| model.detokenize(whole.tokens.clone(), true, it)).unwrap();
    assert_eq!(whole.text, decoded);
    assert_eq!(whole.tokens.len(), 24);
    let prompt = Prompt::Text("The capital of France".to_owned());
    let prompt = wait(|it| model.tokenize(prompt, PromptEncoding::default(), it)).unwrap();
    assert_eq!(whole.done.prompt_tokens, prompt.len());
    assert!(whole.done.peak_memory > 0);
}

#[test]
fn the_same_seed_gives_the_same_text_whatever_else_runs() {
    // With less precision who shares a step may change a token.
    let exact = LoadRequest { precision: Some(Precision::Exact), ..demo() };
    let model = wait(|callback| drop(load(exact, Box::new(|_| {}), callback))).unwrap();
    let alone = generate(&model, request("Once upon a time", 24));
    let others: Vec<_> =
        (0..3).map(|_| model.generate(request("Something else", 1000)).unwrap()).collect();
    let among = generate(&model, request("Once upon a time", 24));
    drop(others);
    assert_eq!(alone.tokens, among.tokens);
    assert_eq!(alone.text, among.text);
}

#[test]
fn a_stop_string_ends_the_text_before_it() {
    let model = load_demo();
    let whole = generate(&model, request("Once upon a time", 24)).text;
    let third = whole.char_indices().nth(whole.chars().count() / 2).unwrap().0;
    let stop: String = whole[third..].chars().take(3).collect();
    let expected = &whole[..whole.find(&stop).unwrap()];
    let stopped = generate(
        &model,
        request("Once upon a time", 24).with(|options| options.stop = vec![stop.clone()]),
    );
    assert_eq!(stopped.text, expected);
    assert_eq!(stopped.done.reason, FinishReason::Stop);
    assert_eq!(stopped.done.matched, Some(Matched::String(stop)));
}

/// A request whose every token is `token`.
fn only(token: u32, max_tokens: usize) -> GenerateRequest {
    request("Hello", max_tokens).with(|options| options.logit_bias = vec![(token, 100.0)])
}

#[test]
fn special_tokens_are_text_on_request_and_in_stop_strings() {
    const START: u32 = 1;
    const END: u32 = 2;
    let model = load_demo();
    let plain = generate(&model, only(START, 3));
    assert_eq!((plain.text.as_str(), plain.tokens), ("", vec![START; 3]));
    let raw = only(START, 2).with(|options| options.keep_special_tokens = true);
    assert_eq!(generate(&model, raw).text, "<|im_start|><|im_start|>");

    let stop = vec!["start|><|im".to_owned()];
    let stopped = generate(&model, only(START, 9).with(|options| options.stop = stop.clone()));
    assert_eq!(stopped.done.reason, FinishReason::Stop);
    assert_eq!(stopped.done.matched, stop.first().cloned().map(Matched::String));
    assert_eq!((stopped.text.as_str(), stopped.tokens), ("", vec![START; 2]));

    // An end token is never part of the text, and a stop string sees it.
    for keep_special_tokens in [true, false] {
        let stop = vec!["<|im_end|>".to_owned()];
        let request = only(END, 9).with(|options| {
            options.ignore_end_tokens = false;
            options.stop = stop;
            options.keep_special_tokens = keep_special_tokens;
        });
        let ended = generate(&model, request);
        assert_eq!(ended.done.matched, Some(Matched::String("<|im_end|>".to_owned())));
        assert_eq!((ended.text.as_str(), ended.tokens), ("", vec![]));
    }
}

#[test]
fn logprobs_come_with_every_token_likeliest_first() {
    let model = load_demo();
    let asked = request("Once upon a time", 5).with(|options| {
        options.logprobs = Some(3);
        options.temperature = Some(0.0);
    });
    let whole = generate(&model, asked);
    assert_eq!(whole.logprobs.len(), whole.tokens.len());
    for (entry, &token) in whole.logprobs.iter().zip(&whole.tokens) {
        assert_eq!(entry.chosen.token, token);
        assert_eq!(entry.top.len(), 3);
        assert_eq!(entry.top[0], entry.chosen, "greedy decoding takes the likeliest");
        assert!(entry.top.windows(2).all(|pair| pair[0].logprob >= pair[1].logprob));
        assert!(entry.chosen.text.is_some());
    }
}

#[test]
fn a_conversation_goes_through_the_chat_template() {
    let model = load_demo();
    let messages = r#"[{"role": "user", "content": "Hello"}]"#.to_owned();
    let options = r#"{"addGenerationPrompt": true}"#.to_owned();
    let text = wait(|it| model.apply_chat_template(messages.clone(), options.clone(), it)).unwrap();
    assert!(text.contains("Hello"));
    let tokenize = |prompt| wait(|it| model.tokenize(prompt, PromptEncoding::default(), it));
    let tokens = tokenize(Prompt::Text(text)).unwrap();
    let prompt = Prompt::Messages { messages: messages.clone(), options };
    assert_eq!(tokenize(prompt.clone()).unwrap(), tokens);
    let whole = generate(&model, GenerateRequest { prompt, ..request("", 1) });
    assert_eq!(whole.done.prompt_tokens, tokens.len());

    let own = r#"{"template": "<{{ messages[0].content }}>{{ eos_token }}"}"#.to_owned();
    let text = wait(|it| model.apply_chat_template(messages.clone(), own, it)).unwrap();
    assert!(text.starts_with("<Hello>") && text.len() > "<Hello>".len(), "{text}");
    let unknown = r#"{"tolls": []}"#.to_owned();
    let error = wait(|it| model.apply_chat_template(messages, unknown, it)).unwrap_err();
    assert_eq!(error.code(), "INVALID_ARGUMENT");
}

#[test]
fn a_prompt_beyond_the_context_is_refused() {
    let model = load_demo();
    let length = model.info().model.context_length.unwrap();
    let prompt = Prompt::Tokens(vec![5; length]);
    let generation = model.generate(GenerateRequest::new(prompt)).unwrap();
    let error = loop {
        if let Err(error) = generation.wait_next() {
            break error;
        }
    };
    assert_eq!(error.code(), "CONTEXT_OVERFLOW");
    // What is far too long is not cut into tokens first.
    let prompt = Prompt::Text("so it goes ".repeat(1_000_000));
    let generation = model.generate(GenerateRequest::new(prompt)).unwrap();
    let error = generation.wait_next().unwrap_err();
    assert_eq!(error.code(), "CONTEXT_OVERFLOW");
    assert!(error.to_string().starts_with("the prompt has at least "), "{error}");
}

#[test]
fn a_context_may_be_shorter_than_the_models_and_not_longer() {
    let most = load_demo().info().model.context_length.unwrap();
    let load = |context_length| -> Result<Model> {
        let request = LoadRequest { context_length: Some(context_length), ..demo() };
        wait(|callback| drop(load(request, Box::new(|_| {}), callback)))
    };
    assert_eq!(load(most).unwrap().info().model.context_length, Some(most));
    let error = load(most + 1).err().unwrap();
    assert_eq!((error.code(), error.option()), ("INVALID_ARGUMENT", Some("contextLength")));
    assert!(error.to_string().contains(&most.to_string()), "{error}");

    let model = load(40).unwrap();
    assert_eq!(model.info().model.context_length, Some(40));
    let prompt = |length| Prompt::Tokens(vec![5; length]);
    for max_tokens in [None, Some(1000)] {
        let whole = generate(
            &model,
            GenerateRequest::new(prompt(30)).with(|options| {
                options.max_tokens = max_tokens;
                options.ignore_end_tokens = true;
            }),
        );
        assert_eq!(whole.tokens.len(), 10);
        assert_eq!(whole.done.reason, FinishReason::Length);
    }
    let generation = model.generate(GenerateRequest::new(prompt(40))).unwrap();
    let error = generation.wait_next().unwrap_err();
    assert_eq!(error.code(), "CONTEXT_OVERFLOW");
    assert!(error.to_string().contains("40"), "{error}");
}

#[test]
fn logits_have_a_row_for_each_token_and_look_back_over_chunks() {
    let model = load_demo();
    let width = model.info().model.vocabulary_size;
    let tokens: Vec<u32> = (100..400).collect();
    let rows = wait(|it| model.logits(tokens.clone(), it)).unwrap();
    assert_eq!(rows.len(), 300 * width);
    let same = wait(|it| model.logits(tokens[..256].to_vec(), it)).unwrap();
    assert!(rows.starts_with(&same), "a row depends on what comes after it");
    let mut other = tokens;
    other[0] = 99;
    let other = wait(|it| model.logits(other, it)).unwrap();
    assert_ne!(rows[299 * width..], other[299 * width..], "the last row forgot the first token");
}

#[test]
fn loading_tells_its_progress_and_can_be_aborted() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let progress = {
        let seen = Arc::clone(&seen);
        Box::new(move |step| seen.lock().unwrap().push(step))
    };
    let model = wait(|callback| drop(load(demo(), progress, callback))).unwrap();
    let seen = seen.lock().unwrap();
    let weights: Vec<_> = seen.iter().filter(|step| step.stage == LoadStage::Weights).collect();
    assert!(weights.windows(2).all(|pair| pair[0].loaded_bytes <= pair[1].loaded_bytes));
    assert!(weights.iter().any(|step| step.loaded_bytes == step.total_bytes));
    assert_eq!(seen.last().unwrap().stage, LoadStage::Tokenizer);
    dispose(&model);

    let (sender, receiver) = channel();
    let engine = load(demo(), Box::new(|_| {}), Box::new(move |it| sender.send(it).unwrap()));
    engine.abort_load();
    let error = receiver.recv_timeout(PATIENCE).unwrap().err().unwrap();
    assert_eq!(error.code(), "ABORTED");
    assert!(engine.status().wait_ended(Instant::now() + PATIENCE));
}

#[test]
fn a_folder_without_a_model_is_refused() {
    let request = LoadRequest { path: Path::new("/nowhere").into(), ..demo() };
    let error = wait(|callback| drop(load(request, Box::new(|_| {}), callback))).err().unwrap();
    assert_eq!(error.code(), "MODEL_NOT_FOUND");
}
