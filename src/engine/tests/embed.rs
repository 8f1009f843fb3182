//! Embeddings and judgements on a fake model: which texts are read together, and what is refused.

use super::demo::wait;
use super::*;
use crate::models::EmbedOptions;

/// Texts of so many tokens, each of its own number.
fn texts(lengths: &[usize]) -> EmbedRequest {
    let text = |(token, &length): (u32, &usize)| EmbedInput::Tokens(vec![token; length]);
    EmbedRequest {
        inputs: (1..).zip(lengths).map(text).collect(),
        task: None,
        options: EmbedOptions::default(),
        truncate: false,
        adapter: None,
    }
}

fn embed(model: &Model, request: EmbedRequest) -> Result<Embeddings> {
    wait(|callback| model.embed(request, AbortFlag::default(), callback))
}

/// A fake model whose embeddings are the sums of a text's tokens, and what it read in each pass.
fn embedded(reads_whole: bool, lengths: &[usize]) -> (Embeddings, Vec<usize>) {
    let control = Arc::new(Control::default());
    let model =
        fake_model_with(&control, move |profile| profile.abilities.reads_whole = reads_whole);
    let embeddings = embed(&model, texts(lengths)).unwrap();
    let chunks = control.chunks.lock().unwrap().clone();
    (embeddings, chunks)
}

#[test]
fn texts_share_passes_and_long_ones_take_several() {
    let (embeddings, chunks) = embedded(false, &[3, 1, 10, 2]);
    assert_eq!(embeddings.rows, [[3.0], [2.0], [30.0], [8.0]]);
    assert_eq!((embeddings.tokens, chunks), (16, vec![4, 4, 4, 4]));
    assert!(embed(&fake_model(&Arc::default()), texts(&[])).unwrap().rows.is_empty());
}

#[test]
fn a_text_that_is_read_at_once_is_never_cut() {
    let (embeddings, chunks) = embedded(true, &[3, 1, 10, 2, 3]);
    assert_eq!(embeddings.rows, [[3.0], [2.0], [30.0], [8.0], [15.0]]);
    assert_eq!(chunks, [4, 10, 2, 3]);
}

#[test]
fn a_long_embedding_leaves_turns_to_others_and_ends_when_aborted() {
    let (control, permits) = Control::gated();
    let model = fake_model(&control);
    let flag = AbortFlag::default();
    let (sender, receiver) = channel();
    let long = texts(&[1_000_000]);
    model.embed(long, flag.clone(), Box::new(move |it| sender.send(it.map(drop)).unwrap()));
    for _ in 0..2 {
        permits.send(()).unwrap();
    }
    control.wait_for("two passes", |it| it.count(Event::Embed) >= 2);
    let beside = model.generate(request(&[10], 5)).unwrap();
    flag.abort();
    drop(permits);
    assert_eq!(receiver.recv_timeout(PATIENCE).unwrap().unwrap_err().code(), "ABORTED");
    assert_eq!(collect(&beside).unwrap().0.len(), 5);
}

#[test]
fn what_cannot_be_embedded_is_refused() {
    let model = fake_model_with(&Arc::default(), |profile| {
        profile.context_length = Some(8);
        profile.embedder = Some(models::EmbedderInfo { max_dimensions: 4, ..Default::default() });
    });
    let with = |change: fn(&mut EmbedRequest)| {
        let mut request = texts(&[3]);
        change(&mut request);
        request
    };
    let refused = [
        (texts(&[3, 0]), "INVALID_ARGUMENT", "texts[1]"),
        (texts(&[9]), "CONTEXT_OVERFLOW", "truncate"),
        (with(|it| it.inputs = vec![EmbedInput::Tokens(vec![1000])]), "INVALID_ARGUMENT", "1000"),
        (with(|it| it.inputs = vec![EmbedInput::Text("a".into())]), "NO_TOKENIZER", ""),
        (with(|it| it.task = Some("query".into())), "INVALID_ARGUMENT", "task"),
        (with(|it| it.options.dimensions = Some(5)), "INVALID_ARGUMENT", "dimensions"),
    ];
    for (request, code, part) in refused {
        let error = embed(&model, request).unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains(part), "{error}");
    }
    let cut = with(|it| it.inputs = vec![EmbedInput::Tokens(vec![2; 20])]);
    let cut = EmbedRequest { truncate: true, ..cut };
    assert_eq!(embed(&model, cut).unwrap().tokens, 8);
    let writer = fake_model_with(&Arc::default(), |profile| profile.embedder = None);
    assert_eq!(embed(&writer, texts(&[1])).unwrap_err().code(), "UNSUPPORTED");
}

#[test]
fn what_embeds_alone_is_not_asked_to_write() {
    let model = fake_model_with(&Arc::default(), |profile| profile.abilities.writes = false);
    let generation = model.generate(request(&[10], 5)).unwrap();
    assert_eq!(collect(&generation).unwrap_err().code(), "UNSUPPORTED");
    let logits = wait(|callback| model.logits(vec![1], callback));
    assert_eq!(logits.unwrap_err().code(), "UNSUPPORTED");
}
