//! Who runs, who waits, and for how long.

use super::*;
use crate::engine::patience::MOST_OVERTAKES;

/// The order in which prompts were begun.
fn begun(control: &Control) -> Vec<u32> {
    let mut names = Vec::new();
    for event in control.events.lock().unwrap().iter() {
        if let Event::Prefill(name) = event
            && !names.contains(name)
        {
            names.push(*name);
        }
    }
    names
}

#[test]
fn no_more_run_at_once_than_there_is_room_for() {
    let (control, permits) = Control::gated();
    let model = fake_model_with(&control, |profile| profile.max_sequences = 2);
    let all: Vec<_> =
        (0..5).map(|name| model.generate(request(&[10 + name], 20)).unwrap()).collect();
    thread::sleep(Duration::from_millis(20));
    drop(permits);
    let done: Vec<_> = all.iter().map(|it| collect(it).unwrap()).collect();
    assert!(done.iter().all(|(tokens, _)| tokens.len() == 20));
    assert_eq!(control.most_sequences.load(SeqCst), 2);
    assert_eq!(begun(&control), [10, 11, 12, 13, 14], "in their order");
    let last = done[4].1.timings;
    // While its prompt is prepared it does not wait for others.
    assert!(last.queue_ms + last.prepare_ms >= 20.0, "{last:?}");
}

#[test]
fn who_has_priority_begins_first_and_is_read_first() {
    let (control, permits) = Control::gated();
    let model = fake_model_with(&control, |profile| profile.max_sequences = 1);
    let first = model.generate(request(&[10], 5)).unwrap();
    permits.send(()).unwrap();
    control.wait_for("its beginning", |it| it.count(Event::Prefill(10)) == 1);
    let others: Vec<_> = [(20, -1), (30, 0), (40, 7), (50, 7)]
        .into_iter()
        .map(|(name, priority)| {
            let request = request(&[name], 5).with(|options| options.priority = Some(priority));
            model.generate(request).unwrap()
        })
        .collect();
    drop(permits);
    for generation in others.iter().chain([&first]) {
        collect(generation).unwrap();
    }
    assert_eq!(begun(&control), [10, 40, 50, 30, 20]);
}

/// However many of a higher priority come.
#[test]
fn nobody_waits_for_ever_to_begin() {
    let (control, permits) = Control::gated();
    let model = fake_model_with(&control, |profile| profile.max_sequences = 1);
    let first = model.generate(request(&[10], 2)).unwrap();
    permits.send(()).unwrap();
    control.wait_for("its beginning", |it| it.count(Event::Prefill(10)) == 1);
    let ask = |name, priority| {
        let request = request(&[name], 2).with(|options| options.priority = Some(priority));
        model.generate(request).unwrap()
    };
    let low = [20, 21].map(|name| ask(name, -3));
    let high: Vec<_> = (100..140).map(|name| ask(name, 3)).collect();
    drop(permits);
    for generation in high.iter().chain(&low).chain([&first]) {
        collect(generation).unwrap();
    }
    let most = MOST_OVERTAKES as u32;
    let mut expected: Vec<u32> = (100..140).collect();
    expected.insert(2 * most as usize, 21);
    expected.insert(most as usize, 20);
    expected.insert(0, 10);
    assert_eq!(begun(&control), expected);
}

#[test]
fn nobody_waits_for_ever_to_be_read() {
    let (control, permits) = Control::gated();
    let model = fake_model(&control);
    let ask = |name, chunks, priority| {
        let prompt = vec![name; chunks * CHUNK];
        let request = request(&prompt, 1).with(|options| options.priority = Some(priority));
        model.generate(request).unwrap()
    };
    let first = ask(10, 1, 0);
    control.wait_for("its beginning", |it| it.live_sequences.load(SeqCst) == 1);
    let (high, low) = (ask(30, 60, 3), ask(20, 2, -3));
    drop(permits);
    for generation in [&first, &low, &high] {
        collect(generation).unwrap();
    }
    let events = control.events.lock().unwrap().clone();
    let chunks: Vec<_> = events.iter().filter(|it| matches!(it, Event::Prefill(20 | 30))).collect();
    let of_low: Vec<usize> =
        (0..chunks.len()).filter(|&place| *chunks[place] == Event::Prefill(20)).collect();
    let [first, second] = of_low[..] else { panic!("{of_low:?}") };
    // The other one has waited longer by then.
    assert_eq!(second - first, MOST_OVERTAKES + 2, "{of_low:?}");
}

/// Who has its place, and whose prompt is not read because those of others are, waits, too.
#[test]
fn the_time_in_which_the_prompts_of_others_are_read_is_waited_for() {
    let (control, permits) = Control::gated_and_slow(Duration::from_millis(1));
    let model = fake_model(&control);
    let ask = |name, tokens: usize, priority| {
        let request = request(&vec![name; tokens], 1);
        model.generate(request.with(|options| options.priority = Some(priority))).unwrap()
    };
    let high = ask(20, 200, 1);
    control.wait_for("a pass", |it| !it.passes.lock().unwrap().is_empty());
    let low = ask(30, 1, 0);
    drop(permits);
    let [high, low] = [high, low].map(|generation| collect(&generation).unwrap().1.timings);
    // Fifteen chunks of four tokens go before, and each token takes a millisecond at the least.
    assert!(low.queue_ms + low.prepare_ms >= 60.0, "{low:?} beside {high:?}");
    // All of its own prompt is its own time.
    let prefill_ms = high.prefill_ms.unwrap();
    assert!(prefill_ms >= 200.0, "{high:?}");
    assert!(high.queue_ms + prefill_ms <= high.first_token_ms.unwrap(), "{high:?}");
}

#[test]
fn who_waits_for_room_can_be_aborted_and_hears_of_the_end_of_the_model() {
    let time_of_token = Duration::from_millis(1);
    let control = Arc::new(Control { time_of_token, ..Control::default() });
    let model = fake_model_with(&control, |profile| profile.max_sequences = 1);
    let running = model.generate(request(&[10], 1_000_000)).unwrap();
    first_token(&running);
    let pulls = thread::spawn(move || while running.wait_next().is_ok() {});
    let [waiting, aborted] = [20, 30].map(|name| model.generate(request(&[name], 5)).unwrap());
    aborted.abort();
    assert_eq!(collect(&aborted).unwrap().1.reason, FinishReason::Abort);
    dispose(&model);
    assert_eq!(collect(&waiting).unwrap_err().code(), "DISPOSED");
    assert_eq!(begun(&control), [10]);
    pulls.join().unwrap();
}

#[test]
fn a_consumer_that_does_not_pull_takes_no_room() {
    let control = Arc::new(Control::default());
    let model = fake_model_with(&control, |profile| profile.max_sequences = 1);
    let slow = model.generate(request(&[10], 2 * MAX_AHEAD)).unwrap();
    control.wait_for("the limit", |it| it.count(Event::Step(10)) == MAX_AHEAD);
    assert_eq!(collect(&model.generate(request(&[20], 10)).unwrap()).unwrap().0.len(), 10);
    assert_eq!(collect(&slow).unwrap().0.len(), 2 * MAX_AHEAD);
}

#[test]
fn no_more_run_at_once_than_fit_into_the_memory() {
    let (control, permits) = Control::gated();
    // Each takes 210 bytes, with its prompt and all of its tokens.
    let model = fake_model_with(&control, |profile| profile.memory_bytes = Some(500));
    let all: Vec<_> =
        (0..5).map(|name| model.generate(request(&[10 + name], 20)).unwrap()).collect();
    let large = model.generate(request(&[20; 30], 20)).unwrap();
    let small = model.generate(request(&[30], 1)).unwrap();
    let too_large = model.generate(request(&[40], 50)).unwrap();
    drop(permits);
    assert!(all.iter().all(|it| collect(it).unwrap().0.len() == 20));
    assert_eq!(collect(&large).unwrap().0.len(), 20);
    assert_eq!(collect(&small).unwrap().0.len(), 1);
    assert_eq!(control.most_sequences.load(SeqCst), 2);
    assert_eq!(begun(&control), [10, 11, 12, 13, 14, 20, 30], "nobody overtakes the large one");
    let error = collect(&too_large).unwrap_err();
    assert_eq!(error.code(), "INSUFFICIENT_MEMORY");
    assert!(error.to_string().contains("510 bytes, and memoryBytes allows 500"), "{error}");
}

#[test]
fn nobody_waits_for_the_memory_of_a_slow_consumer() {
    let control = Arc::new(Control::default());
    let bytes = 10 * (2 * MAX_AHEAD + 1);
    let model = fake_model_with(&control, move |profile| profile.memory_bytes = Some(bytes));
    let slow = model.generate(request(&[10], 2 * MAX_AHEAD)).unwrap();
    control.wait_for("the limit", |it| it.count(Event::Step(10)) == MAX_AHEAD);
    let waiting = model.generate(request(&[20], 10)).unwrap();
    // Longer than anyone runs who is not read, so that it cannot end before.
    let aborted = model.generate(request(&[30], 2 * MAX_AHEAD)).unwrap();
    aborted.abort();
    assert_eq!(collect(&aborted).unwrap().1.reason, FinishReason::Abort);
    // Nobody has read the first.
    assert_eq!(collect(&waiting).unwrap().0.len(), 10);
    assert_eq!(collect(&slow).unwrap().0.len(), 2 * MAX_AHEAD);
    // Where the second one ends before the abort, the third one has begun, too.
    assert_eq!(begun(&control)[..2], [10, 20]);
}

#[test]
fn chunks_beside_a_stream_fit_the_longest_pause() {
    const PAUSE: Duration = Duration::from_millis(20);
    let time_of_token = Duration::from_millis(1);
    let control = Arc::new(Control { time_of_token, ..Control::default() });
    let model = fake_model_with(&control, |profile| {
        (profile.prefill_chunk, profile.max_stall) = (1000, PAUSE);
    });
    let stream = model.generate(request(&[10], 1_000_000)).unwrap();
    first_token(&stream);
    let pulls = thread::spawn(move || while stream.wait_next().is_ok() {});
    collect(&model.generate(request(&[20; 300], 1)).unwrap()).unwrap();
    let chunks = control.chunks.lock().unwrap().clone();
    // The stream's own prompt, and the first chunk, of which nobody knows how long it takes.
    assert_eq!((chunks[0], chunks.iter().sum::<usize>()), (1, 301));
    assert!(chunks[2..].iter().all(|&tokens| tokens <= 20), "{chunks:?}");
    dispose(&model);
    pulls.join().unwrap();
}

#[test]
fn short_prompts_are_read_together() {
    let (control, permits) = Control::gated();
    let model = fake_model_with(&control, |profile| profile.prefill_chunk = 100);
    let first = model.generate(request(&[60; 30], 1)).unwrap();
    let others: Vec<_> =
        (0..4).map(|name| model.generate(request(&[10 + name, 0, 0, 0, 0], 1)).unwrap()).collect();
    drop(permits);
    for generation in others.iter().chain([&first]) {
        collect(generation).unwrap();
    }
    let chunks = control.chunks.lock().unwrap().clone();
    assert_eq!(chunks.iter().sum::<usize>(), 50);
    assert!(chunks.len() <= 2, "{chunks:?}");
}

#[test]
fn who_begins_like_one_that_is_read_waits_and_others_do_not() {
    let (control, permits) = Control::gated();
    let model = fake_model(&control);
    let reads = model.generate(request(&[10, SHARES, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 2)).unwrap();
    let waits = model.generate(request(&[10, SHARES, 1], 2)).unwrap();
    let other = model.generate(request(&[20, SHARES, 1], 2)).unwrap();
    permits.send(()).unwrap();
    permits.send(()).unwrap();
    control.wait_for("two chunks", |it| it.events.lock().unwrap().len() == 2);
    assert_eq!(control.live_sequences.load(SeqCst), 2, "the one that is read, and the other");
    drop(permits);
    for generation in [reads, waits, other] {
        collect(&generation).unwrap();
    }
    dispose(&model);
    let mut kept = control.kept.lock().unwrap().clone();
    kept.sort_unstable();
    assert_eq!(kept, [(10, 5), (10, 14), (20, 5)], "all that was read and made");
}

#[test]
fn who_waits_for_another_does_not_wait_longer_than_that_one_runs() {
    let (control, permits) = Control::gated();
    let model = fake_model(&control);
    let reads = model.generate(request(&[10, SHARES, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 2)).unwrap();
    let waits = model.generate(request(&[10, SHARES, 1], 2)).unwrap();
    permits.send(()).unwrap();
    control.wait_for("a chunk", |it| it.count(Event::Prefill(10)) == 1);
    reads.abort();
    drop(permits);
    assert_eq!(collect(&reads).unwrap().1.reason, FinishReason::Abort);
    assert_eq!(collect(&waits).unwrap().1.reason, FinishReason::Length);
}
