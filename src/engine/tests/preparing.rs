//! Prompts are prepared beside the engine. Here the preparing waits for the test.

use std::sync::{MutexGuard, PoisonError};

use super::*;
use crate::engine::pool::{TEXT_THREADS, TEXTS};

/// Keeps the threads for texts busy until it is dropped. One test at a time can have them all.
struct Busy {
    _jobs: Vec<Sender<()>>,
    _alone: MutexGuard<'static, ()>,
}

impl Busy {
    fn all() -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let (started, ready) = channel();
        let jobs = (0..TEXT_THREADS).map(|_| {
            let (sender, receiver) = channel::<()>();
            let started = started.clone();
            TEXTS.run(move |_| {
                started.send(()).unwrap();
                let _ = receiver.recv();
                None
            });
            sender
        });
        let jobs = jobs.collect();
        (0..TEXT_THREADS).for_each(|_| ready.recv_timeout(PATIENCE).unwrap());
        Self { _jobs: jobs, _alone: alone }
    }
}

fn text(text: &str) -> GenerateRequest {
    GenerateRequest::new(Prompt::Text(text.to_owned()))
}

#[test]
fn a_prompt_that_is_being_prepared_stops_nobody_and_ends_with_an_abort() {
    let busy = Busy::all();
    let control = Arc::default();
    let model = fake_model(&control);
    let waiting = model.generate(text("long")).unwrap();
    let aborted = model.generate(text("long")).unwrap();
    // Others have their turns meanwhile.
    assert_eq!(collect(&model.generate(request(&[10], 50)).unwrap()).unwrap().0.len(), 50);
    aborted.abort();
    assert_eq!(collect(&aborted).unwrap().1.reason, FinishReason::Abort);
    model.engine().dispose();
    assert_eq!(collect(&waiting).unwrap_err().code(), "DISPOSED");
    assert!(model.engine().status().wait_ended(Instant::now() + PATIENCE));
    assert_eq!(control.live_models.load(SeqCst), 0);
    drop(busy);
}

#[test]
fn files_do_not_wait_for_texts() {
    let busy = Busy::all();
    let model = fake_model(&Arc::default());
    let (sender, receiver) = channel();
    let callback =
        Box::new(move |it: Result<HeldPromptCache>| sender.send(it.map(|_| ())).unwrap());
    model.load_prompt_cache("/nowhere".into(), callback);
    let error = receiver.recv_timeout(PATIENCE).unwrap().unwrap_err();
    assert_eq!(error.code(), "INVALID_PROMPT_CACHE");
    drop(busy);
}

#[test]
fn a_model_that_everyone_forgets_while_a_prompt_is_prepared_ends() {
    let busy = Busy::all();
    let model = fake_model(&Arc::default());
    let status = Arc::clone(model.engine().status());
    drop(model.generate(text("long")).unwrap());
    drop(model);
    assert!(status.wait_ended(Instant::now() + PATIENCE));
    drop(busy);
}

#[test]
fn who_is_aborted_before_the_prompt_turns_out_wrong_ends_with_the_abort() {
    let (control, permits) = Control::gated();
    let model = fake_model(&control);
    let running = model.generate(request(&[10], 2)).unwrap();
    permits.send(()).unwrap();
    control.wait_for("its beginning", |it| it.count(Event::Prefill(10)) == 1);
    // The engine waits in a step: it hears of the wrong prompt and of the abort at once.
    let aborted = model.generate(request(&[5000], 5)).unwrap();
    aborted.abort();
    drop(permits);
    assert_eq!(collect(&aborted).unwrap().1.reason, FinishReason::Abort);
    assert_eq!(collect(&running).unwrap().0.len(), 2);
}
