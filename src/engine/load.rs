//! Loading a model, and the life of its engine's thread.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use super::adapted::AdaptedBackend;
use super::backend::Backend;
use super::core::CoreBackend;
use super::draft_model::load_draft;
use super::exit;
use super::memory::prefix_cache_bytes;
use super::model::{Engine, Model, ModelInfo};
use super::pool::ENGINES;
use super::prefix_files::prefix_store;
use super::profile::Profile;
use super::request::{LoadProgress, LoadRequest, LoadStage};
use super::scheduler::{Message, Scheduler};
use super::status::{Callback, Reply, Status};
use super::text::Text;
use crate::adapters::Adapters;
use crate::error::{Error, Result};
use crate::fused::{Device, Precision};
use crate::generate::{GenerationOptions, PrefixCache};
use crate::mlx::{self, DeviceKind};
use crate::models;
use crate::panics;
use crate::warning::{Warning, WarningCode};

/// How many tokens of a prompt are read in one turn. An abort waits for that long, so it is smaller
/// where reading is slow.
const fn prefill_chunk(device: DeviceKind) -> usize {
    match device {
        DeviceKind::Gpu => 2048,
        DeviceKind::Cpu => 128,
    }
}

/// The same where it must not depend on who else runs, who then wait for that long.
const fn fixed_prefill_chunk(device: DeviceKind) -> usize {
    match device {
        DeviceKind::Gpu => 512,
        DeviceKind::Cpu => 32,
    }
}

/// How many generations run at the same time, where the request does not say: about as many as
/// make the device faster together.
const fn max_sequences(device: DeviceKind) -> usize {
    match device {
        DeviceKind::Gpu => 32,
        DeviceKind::Cpu => 16,
    }
}

/// How long a generation that makes tokens waits for the prompt of another, where the request does
/// not say. On a CPU a pass over a few tokens takes that long already.
const fn max_stall(device: DeviceKind) -> Duration {
    match device {
        DeviceKind::Gpu => Duration::from_millis(100),
        DeviceKind::Cpu => Duration::from_millis(500),
    }
}

/// Begins to load a model on a thread of its own, where it then runs.
///
/// `progress` is called on that thread, `callback` once with the outcome. A load that is aborted
/// with [`Engine::abort_load`] fails with [`Error::Aborted`].
pub fn load(
    request: LoadRequest,
    progress: Box<dyn FnMut(LoadProgress) + Send>,
    callback: Callback<Model>,
) -> Arc<Engine> {
    launch(callback, move |aborted| build(&request, aborted, progress))
}

/// Starts an engine whose model `build` makes, on the engine's thread.
pub(super) fn launch<B: Backend>(
    callback: Callback<Model>,
    build: impl FnOnce(&AtomicBool) -> Result<(B, ModelInfo, Arc<Profile>)> + Send + 'static,
) -> Arc<Engine> {
    let (sender, inbox) = channel();
    let status = Arc::new(Status::default());
    let aborted = Arc::new(AtomicBool::new(false));
    let engine = Arc::new(Engine::new(sender, Arc::clone(&status), Arc::clone(&aborted)));
    let reply = Reply::new(callback, Arc::clone(&status));
    let owned = Arc::clone(&engine);
    ENGINES.run(move |started| {
        let turn = exit::begin_turn();
        let built = started.and_then(|()| {
            catch_unwind(AssertUnwindSafe(|| build(&aborted)))
                .unwrap_or_else(|panic| Err(Error::EngineFailed(panics::message(&*panic))))
        });
        drop(turn);
        match built {
            Ok((backend, info, profile)) => {
                if profile.prefix_store.is_some() {
                    status.end_takes(exit::TIME_TO_SAVE);
                }
                reply.send(Ok(Model::new(owned, info, &profile)));
                serve(backend, profile, inbox, &status);
                give_back();
                Some(Box::new(move || status.end()))
            }
            Err(error) => {
                status.refuse(error.clone());
                give_back();
                // The caller may begin the next load at once, and this thread is free for it.
                Some(Box::new(move || {
                    status.end();
                    reply.send(Err(error));
                }))
            }
        }
    });
    engine
}

/// Runs the scheduler to its end and drops everything that it held.
fn serve<B: Backend>(backend: B, profile: Arc<Profile>, inbox: Receiver<Message>, status: &Status) {
    let mut scheduler = Scheduler::new(backend, profile);
    let outcome = catch_unwind(AssertUnwindSafe(|| scheduler.run(&inbox)));
    let is_sound = outcome.is_ok();
    status.refuse(match outcome {
        Ok(()) => Error::Disposed,
        Err(panic) => Error::EngineFailed(panics::message(&*panic)),
    });
    let _turn = exit::begin_turn();
    if is_sound {
        // Without what it saves the next model reads more.
        let _ = catch_unwind(AssertUnwindSafe(|| scheduler.finish()));
    }
    // After a panic a part of the state may be broken, and dropping it may panic again; whoever
    // waits has its answer from the status in any case.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(scheduler)));
    drop(inbox);
}

/// Gives the buffers that MLX keeps for reuse back to the system.
fn give_back() {
    let _turn = exit::begin_turn();
    // It cannot fail but for an MLX that never started, which then holds nothing.
    let _ = mlx::memory::clear_cache();
}

fn build(
    request: &LoadRequest,
    aborted: &AtomicBool,
    mut progress: Box<dyn FnMut(LoadProgress) + Send>,
) -> Result<(AdaptedBackend, ModelInfo, Arc<Profile>)> {
    let check = || match aborted.load(Ordering::Relaxed) {
        true => Err(Error::Aborted("loading the model was aborted".to_owned())),
        false => Ok(()),
    };
    check()?;
    if let Some(wanted) = request.context_length
        && let Some(most) = models::context_length(&request.path)?.filter(|&most| wanted > most)
    {
        let message = format!("the model is made for {most} tokens, not for {wanted}");
        return Err(Error::argument("contextLength", message));
    }
    let device = request.device.unwrap_or_else(best_device);
    mlx::enter(device)?;
    if device == DeviceKind::Gpu {
        let given =
            [("threads", request.threads.is_some()), ("precision", request.precision.is_some())];
        if let Some((option, _)) = given.into_iter().find(|(_, given)| *given) {
            return Err(Error::Unsupported(format!(
                "{option} is for the CPU, and the model is to run on the GPU: leave it out, or load the model with device \"cpu\""
            )));
        }
    }
    let device = match device {
        DeviceKind::Gpu => Device::gpu(),
        DeviceKind::Cpu => {
            Device::check_environment()?;
            Device::cpu(request.threads, request.precision.unwrap_or(Precision::Fast))
        }
    };
    let mut weights = LoadProgress { stage: LoadStage::Weights, loaded_bytes: 0, total_bytes: 0 };
    let options = models::LoadOptions {
        device,
        dtype: request.dtype,
        prediction_heads: request.prediction_heads && request.draft.is_none(),
        context_length: request.context_length,
    };
    let loaded = models::load(&request.path, &options, &mut |step| {
        weights.loaded_bytes = step.loaded_bytes;
        weights.total_bytes = step.total_bytes;
        progress(weights);
        if aborted.load(Ordering::Relaxed) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })?;
    check()?;
    progress(LoadProgress { stage: LoadStage::Tokenizer, ..weights });
    let mut model = loaded.info;
    let mut found = Vec::new();
    let text = Text::from_dir(&request.path, model.vocabulary_size, &mut found)?;
    // Some files are read for more than one reason, and one warning of each is enough.
    found.retain(|warning| {
        let is_same = |told: &Warning| told.code == warning.code && told.path == warning.path;
        warning.code != WarningCode::UnusableFile || !model.warnings.iter().any(is_same)
    });
    model.warnings.append(&mut found);
    let draft = request.draft.as_ref();
    let draft = draft
        .map(|folder| load_draft(folder, &options, model.vocabulary_size, &text, aborted))
        .transpose()?;
    check()?;
    let (writes, has_draft) = (model.abilities.writes, draft.is_some());
    let has_prediction_head = loaded.model.multi_token_predictor().is_some();
    let core = CoreBackend::new(loaded.model, model.fingerprint.clone())
        .with_embedder(loaded.embedder)
        .with_draft(draft);
    if writes && device.compiles_kernels() {
        progress(LoadProgress { stage: LoadStage::Kernels, ..weights });
        let options = GenerationOptions::default().or_defaults(&model.generation);
        let longest = model.context_length.unwrap_or(usize::MAX) / 2;
        core.warm_up(device, &options, longest, &|| !aborted.load(Ordering::Relaxed));
        check()?;
    }
    model.warnings.extend(device_warning(device, &request.path));
    let store = prefix_store(request, &device, &model)?.map(Arc::new);
    let profile = Profile {
        text,
        defaults: model.generation,
        vocabulary_size: model.vocabulary_size,
        context_length: model.context_length,
        abilities: model.abilities,
        embedder: model.embedder.clone(),
        max_text_tokens: model.max_text_tokens,
        prefill_chunk: prefill_chunk(device.kind),
        fixed_prefill_chunk: fixed_prefill_chunk(device.kind),
        max_sequences: request.max_sequences.unwrap_or(max_sequences(device.kind)),
        has_draft,
        has_prediction_head,
        max_stall: request.max_stall_ms.map_or(max_stall(device.kind), Duration::from_millis),
        memory_bytes: request.memory_bytes,
        prefix_store: store.clone(),
    };
    exit::guard();
    let info = ModelInfo {
        model,
        device: device.kind,
        path: request.path.clone(),
        max_sequences: profile.max_sequences,
        has_tokenizer: profile.text.has_tokenizer(),
        has_chat_template: profile.text.has_chat_template(),
        end_tokens: profile.text.end_tokens().to_vec(),
    };
    let adapters = Adapters::new(loaded.sites, loaded.activations);
    let bytes = request.prefix_cache_bytes;
    let bytes = bytes.unwrap_or_else(|| prefix_cache_bytes(device.kind, info.model.bytes));
    let end_tokens = info.end_tokens.clone();
    let keeps = bytes > 0 || store.is_some();
    let prefixes = keeps.then(|| PrefixCache::new(bytes, end_tokens).with_store(store));
    Ok((AdaptedBackend::new(core, adapters, prefixes), info, Arc::new(profile)))
}

/// That our kernels do not run on the card, where that is so.
fn device_warning(device: Device, folder: &Path) -> Option<Warning> {
    let reason = device.complaint()?;
    let message = format!(
        "MLX's own operations do the work on this card, more slowly, because the kernels made for it \
         do not run: {reason}"
    );
    Some(Warning { code: WarningCode::KernelsUnavailable, path: folder.to_owned(), message })
}

fn best_device() -> DeviceKind {
    if mlx::gpu_available() { DeviceKind::Gpu } else { DeviceKind::Cpu }
}
