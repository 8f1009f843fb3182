//! Every chunk once, no more threads than asked for, and none that spins.

use super::*;
use std::sync::atomic::AtomicU32;

#[test]
fn every_chunk_runs_once() {
    let pool = Pool::leak(4);
    for total in [0, 1, 2, 3, 7, 64, 1000] {
        let counts: Vec<AtomicU32> = (0..total).map(|_| AtomicU32::new(0)).collect();
        pool.parallel_for(total, |i| {
            counts[i].fetch_add(1, Ordering::Relaxed);
        });
        assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1), "{total}");
    }
}

#[test]
fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
    let pool = Pool::leak(3);
    for _ in 0..50 {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            pool.parallel_for(20, |i| assert!(i != 11, "chunk eleven"));
        }));
        let payload = outcome.expect_err("the panic was lost");
        assert!(payload.downcast_ref::<&str>().is_some_and(|text| *text == "chunk eleven"));
    }
    let sum = AtomicUsize::new(0);
    pool.parallel_for(100, |i| {
        sum.fetch_add(i, Ordering::Relaxed);
    });
    assert_eq!(sum.into_inner(), 4950);
}

#[test]
fn a_caller_gets_no_more_threads_than_it_wants() {
    let pool = Pool::leak(4);
    for wanted in [1, 2, 3] {
        let threads = Mutex::new(std::collections::HashSet::new());
        with_threads(wanted, || {
            for _ in 0..50 {
                pool.parallel_for(64, |_| {
                    lock(&threads).insert(thread::current().id());
                    thread::yield_now();
                });
                let mut seen = lock(&threads);
                assert!(seen.len() <= wanted, "{} instead of {wanted}", seen.len());
                seen.clear();
            }
        });
    }
    assert_eq!(MAX_THREADS.get(), usize::MAX);
}

#[test]
fn callers_share_the_pool_and_never_exceed_it_by_more_than_themselves() {
    let pool = Pool::leak(3);
    let (running, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..200 {
                    pool.parallel_for(16, |_| {
                        let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                        most.fetch_max(now, Ordering::SeqCst);
                        std::hint::spin_loop();
                        running.fetch_sub(1, Ordering::SeqCst);
                    });
                }
            });
        }
    });
    // A caller that arrives while both workers are busy is one more, until a worker has finished
    // its job.
    assert!(most.into_inner() <= 4);
}

#[test]
fn nested_calls_finish() {
    let pool = Pool::leak(2);
    let sum = AtomicUsize::new(0);
    pool.parallel_for(8, |_| {
        pool.parallel_for(8, |_| {
            sum.fetch_add(1, Ordering::Relaxed);
        });
    });
    assert_eq!(sum.into_inner(), 64);
}

#[test]
fn idle_workers_sleep() {
    let pool = Pool::leak(2);
    pool.parallel_for(8, |_| thread::sleep(Duration::from_millis(1)));
    let deadline = Instant::now() + Duration::from_secs(10);
    while lock(&pool.state).sleeping != 1 {
        assert!(Instant::now() < deadline, "the worker never went to sleep");
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(pool.busy.load(Ordering::Relaxed), 0);
}

#[test]
fn the_limit_can_grow() {
    let pool = Pool::leak(1);
    pool.grow(0);
    assert_eq!(pool.threads(), 1);
    let main = thread::current().id();
    pool.parallel_for(16, |_| assert_eq!(thread::current().id(), main));
    pool.grow(3);
    assert_eq!(pool.threads(), 3);
    let sum = AtomicUsize::new(0);
    pool.parallel_for(16, |i| {
        sum.fetch_add(i, Ordering::Relaxed);
    });
    assert_eq!(sum.into_inner(), 120);
}
