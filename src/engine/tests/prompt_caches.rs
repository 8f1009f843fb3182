//! Who has a prompt cache, and when.

use super::*;

fn size(cache: &HeldPromptCache) -> Result<usize> {
    let (sender, receiver) = channel();
    cache.size(Box::new(move |size| sender.send(size).unwrap()));
    receiver.recv_timeout(PATIENCE).unwrap().map(|size| size.tokens)
}

fn request_with(cache: &HeldPromptCache, prompt: &[u32], max_tokens: usize) -> GenerateRequest {
    GenerateRequest { prompt_cache: Some(cache.id()), ..request(prompt, max_tokens) }
}

#[test]
fn the_call_after_an_abort_has_it() {
    for started in [false, true] {
        let (control, permits) = Control::gated();
        let model = fake_model(&control);
        let cache = model.prompt_cache(CacheLimits::default());
        let first = model.generate(request_with(&cache, &[10; 50], 10_000)).unwrap();
        if started {
            permits.send(()).unwrap();
            control.wait_for("a chunk", |it| it.count(Event::Prefill(10)) == 1);
        }
        first.abort();
        let second = model.generate(request_with(&cache, &[20, 0, 0, 0, 0], 3)).unwrap();
        let refused = model.generate(request_with(&cache, &[30], 3)).unwrap();
        drop(permits);
        assert_eq!(collect(&first).unwrap().1.reason, FinishReason::Abort);
        assert_eq!(collect(&second).unwrap().1.reason, FinishReason::Length);
        assert_eq!(collect(&refused).unwrap_err().code(), "INVALID_ARGUMENT");
    }
}

#[test]
fn its_size_is_told_right_after_an_abort() {
    let model = fake_model(&Arc::default());
    let cache = model.prompt_cache(CacheLimits::default());
    for _ in 0..20 {
        let running = model.generate(request_with(&cache, &[10], 100_000)).unwrap();
        first_token(&running);
        assert_eq!(size(&cache).unwrap_err().code(), "INVALID_ARGUMENT");
        running.abort();
        assert!(size(&cache).unwrap() > 0);
    }
}

#[test]
fn a_generation_that_fails_leaves_what_was_there() {
    let model = fake_model(&Arc::default());
    let cache = model.prompt_cache(CacheLimits::default());
    collect(&model.generate(request_with(&cache, &[10], 5)).unwrap()).unwrap();
    let held = size(&cache).unwrap();
    assert!(held > 0);
    let text = GenerateRequest {
        prompt: Prompt::Text("no tokenizer".to_owned()),
        ..request_with(&cache, &[], 5)
    };
    let unknown = request_with(&cache, &[10, 5000], 5);
    let options = request_with(&cache, &[10, CANNOT_START], 5);
    let middle = request_with(&cache, &[10, FAILS], 5);
    for request in [text, unknown, options, middle] {
        let generation = model.generate(request).unwrap();
        let error = loop {
            if let Err(error) = generation.wait_next() {
                break error;
            }
        };
        assert_eq!(size(&cache).unwrap(), held, "after {error}");
    }
}

#[test]
fn an_abort_before_the_end_of_the_model_is_the_end() {
    for _ in 0..20 {
        let model = fake_model(&Arc::default());
        let running = model.generate(request(&[10], 100_000)).unwrap();
        first_token(&running);
        running.abort();
        model.engine().dispose();
        assert_eq!(collect(&running).unwrap().1.reason, FinishReason::Abort);
    }
}
