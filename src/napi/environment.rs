//! What belongs to one JavaScript environment: the main thread's, or a worker's.

use std::cell::RefCell;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use napi::Env;
use napi::bindgen_prelude::{
    FnArgs, Function, JsObjectValue, Object, Unknown, retain_current_module_for_unload_safety,
};
use napi_derive::napi;

use crate::engine::{Engine, exit};
use crate::panics;

/// How long the end of an environment waits for its engines, on the JavaScript thread: for most
/// turns that are under way. An engine whose turn takes longer ends by itself a little later; what
/// it still answers reaches nobody, and the end of the process waits for it once more.
const PATIENCE: Duration = Duration::from_millis(100);

thread_local! {
    // An environment has one thread, and a thread one environment.
    static ENGINES: RefCell<Vec<Weak<Engine>>> = const { RefCell::new(Vec::new()) };
}

/// Ends `engine` with this environment.
pub fn adopt(engine: &Arc<Engine>) {
    ENGINES.with_borrow_mut(|engines| {
        engines.retain(|engine| engine.strong_count() > 0);
        engines.push(Arc::downgrade(engine));
    });
}

/// Ends all engines of this environment and waits for them.
fn release() {
    let engines = ENGINES.with_borrow_mut(std::mem::take);
    let engines: Vec<Arc<Engine>> = engines.iter().filter_map(Weak::upgrade).collect();
    for engine in &engines {
        engine.dispose();
    }
    let started = Instant::now();
    for engine in &engines {
        let status = engine.status();
        status.wait_ended(started + PATIENCE + status.time_to_end());
    }
}

type Listener<'env> = Function<'env, i32, ()>;

#[napi(module_exports)]
fn initialize(_exports: Object<'_>, env: Env) -> napi::Result<()> {
    panics::keep_quiet();
    // Engine threads outlive the environment that started them, which may be the addon's last.
    retain_current_module_for_unload_safety();
    // The end of a worker, and of a main thread that has nothing left to do.
    env.add_env_cleanup_hook((), |()| release())?;
    // `process.exit()` and uncaught errors run no cleanup hooks on the main thread, but emit this.
    let process: Object<'_> = env.get_global()?.get_named_property("process")?;
    let once: Function<'_, FnArgs<(&str, Listener<'_>)>, Unknown<'_>> =
        process.get_named_property("once")?;
    let listener: Listener<'_> = env.create_function_from_closure("nodemlxExit", |context| {
        exit::set_code(context.get::<i32>(0).unwrap_or(1));
        release();
        Ok(())
    })?;
    once.apply(process, ("exit", listener).into())?;
    Ok(())
}
