//! What is known of a model before it is loaded is what it is then.

use std::ops::ControlFlow;
use std::path::Path;

use nodemlx::cache::{Cache, CacheLimits, KvQuantization};
use nodemlx::fused::Device;
use nodemlx::mlx::{self, GraphsOnly};
use nodemlx::models::{self, LanguageModel, LoadOptions, ModelOutline, cache_sizes};
use nodemlx::weights::TensorOutline;
use safetensors::SafeTensors;

/// What is known of the tensors by the headers of a folder's files.
fn tensors(folder: &Path) -> Vec<TensorOutline> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let is_weights = |path: &std::path::PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.starts_with("model") && name.ends_with(".safetensors")
    };
    let mut all = Vec::new();
    for path in files.filter(is_weights) {
        let bytes = std::fs::read(path).unwrap();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        all.extend(header.tensors().into_iter().map(|(name, info)| TensorOutline {
            name,
            shape: info.shape.iter().map(|&dim| dim as i32).collect(),
            stored: info.dtype,
        }));
    }
    all
}

/// What is wrong with what is counted for the states of a model that grow with the positions.
fn check_growing(model: &dyn LanguageModel) -> Result<(), String> {
    let _graphs = GraphsOnly::new();
    for (max_size, positions) in [(None, 700), (Some(40), 150), (Some(2500), 2800)] {
        let limits = CacheLimits { max_size, quantization: None };
        let sizes = cache_sizes(model, limits).unwrap();
        let count = |positions| sizes.iter().map(|size| size.bytes(positions)).sum::<usize>();
        let mut caches: Vec<_> =
            model.make_caches().into_iter().map(|cache| cache.limited(&limits)).collect();
        let mut held = 0;
        for length in [1, 1, 1, 2, 3, 5, 50].into_iter().chain(std::iter::repeat(300)) {
            let tokens = mlx::from_u32(&vec![0; length], &[1, length as i32]);
            model.logits(&tokens, &mut caches).unwrap();
            held = caches.iter().map(Cache::nbytes).sum();
            let (at, counted) = (caches[0].offset(), count(caches[0].offset()));
            if counted < held {
                return Err(format!("{max_size:?}, {at}: {counted} bytes for {held}"));
            }
            if at >= positions {
                break;
            }
        }
        if max_size == Some(2500) && count(i32::MAX) > 2 * held {
            return Err(format!("{} bytes are counted where {held} are the most", count(i32::MAX)));
        }
    }
    Ok(())
}

/// What is wrong with what is known of a fixture.
fn check(folder: &Path) -> Result<(), String> {
    const TOKENS: usize = 60;
    let device = Device { threads: 1, ..Device::default() };
    let options = LoadOptions { device, ..LoadOptions::default() };
    let loaded = models::load(folder, &options, &mut |_| ControlFlow::Continue(()));
    let loaded = loaded.map_err(|error| error.to_string())?;
    let model = &*loaded.model;
    let packed = KvQuantization { group_size: None, bits: 8 };
    for quantization in [None, Some(packed)] {
        let limits = CacheLimits { quantization, max_size: None };
        let outline = ModelOutline::new(folder, tensors(folder), device, limits);
        // Where keys are too narrow to be packed, both say so.
        let (known, own) = (outline.as_ref().map(|it| &it.caches), cache_sizes(model, limits));
        if known.ok() != own.as_ref().ok() || own.is_err() && quantization.is_none() {
            return Err(format!("{quantization:?}: {outline:?}, and in truth {own:?}"));
        }
        let context = outline.map(|it| it.context_length);
        if context.is_ok_and(|context| context != loaded.info.context_length) {
            return Err("another context".to_owned());
        }
    }
    if !loaded.info.abilities.writes {
        return Ok(());
    }
    let mut caches: Vec<Cache> = model.make_caches();
    if caches.iter().any(Cache::has_growing_state) {
        check_growing(model)?;
    }
    let count = model.vocabulary() as u32;
    let ids: Vec<u32> = (0..TOKENS as u32).map(|at| at % count).collect();
    let (prompt, last) = ids.split_at(TOKENS - 1);
    for part in prompt.chunks(40).chain([last]) {
        let part = mlx::from_u32(part, &[1, part.len() as i32]);
        mlx::eval(&[&model.logits(&part, &mut caches).unwrap()]).unwrap();
    }
    let held: usize = caches.iter().map(Cache::nbytes).sum();
    let own = cache_sizes(model, CacheLimits::default()).unwrap();
    let counted: usize = own.iter().map(|size| size.bytes(TOKENS as i32)).sum();
    if counted < held || counted > 3 * held {
        return Err(format!("{counted} bytes are counted and {held} held"));
    }
    Ok(())
}

#[test]
fn the_caches_of_every_architecture_are_known_without_its_weights() {
    let mut wrong = Vec::new();
    for folder in super::fixtures() {
        if let Err(problem) = check(&folder) {
            wrong.push(format!("{}: {problem}", folder.file_name().unwrap().to_string_lossy()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
