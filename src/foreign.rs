//! Model files of other kinds, by their names: what they are, and what to do about them.

use std::path::Path;

/// A kind of file, its description, and what its owner can do.
struct Kind {
    is: fn(&str) -> bool,
    what: &'static str,
    advice: &'static str,
}

const CONVERT: &str = "get the safetensors version, or convert it with mlx_lm.convert";

/// The first kind that a folder has files of is the one that it is named for.
const KINDS: [Kind; 9] = [
    Kind {
        is: |name| name.ends_with(".gguf") || (name.starts_with("ggml") && name.ends_with(".bin")),
        what: "GGUF, the format of llama.cpp",
        advice: "get the model's safetensors version, such as one of mlx-community",
    },
    Kind {
        is: |name| name == "model_index.json" || name.starts_with("diffusion_pytorch_model"),
        what: "part of a diffusers pipeline, which makes images",
        advice: "get a language model",
    },
    Kind {
        is: |name| {
            matches!(name, "adapter_config.json" | "adapters.npz")
                || ["adapter_model.", "adapters."].iter().any(|start| name.starts_with(start))
        },
        what: "an adapter (LoRA) without the model that it belongs to",
        advice: "load its model with the option \"adapter\", or make one of both with `nodemlx fuse`",
    },
    Kind {
        is: |name| {
            name == "params.json"
                || (name.starts_with("consolidated") && name.ends_with(".safetensors"))
        },
        what: "of the layout that Meta and Mistral publish beside Hugging Face's",
        advice: "get the files with config.json and model.safetensors",
    },
    Kind {
        is: |name| {
            [".bin", ".pt", ".pth", ".ckpt"].iter().any(|end| name.ends_with(end))
                || name.ends_with(".bin.index.json")
        },
        what: "PyTorch's pickle format, which can run code when it is read and is never opened here",
        advice: CONVERT,
    },
    Kind {
        is: |name| name.ends_with(".npz"),
        what: "the weights of an older mlx-lm",
        advice: "convert the original model again with mlx_lm.convert",
    },
    Kind { is: |name| name.ends_with(".onnx"), what: "ONNX", advice: CONVERT },
    Kind {
        is: |name| {
            [".h5", ".msgpack", ".tflite", ".mlmodel", ".mlpackage", ".mlmodelc", ".nemo", ".tar"]
                .iter()
                .any(|end| name.ends_with(end))
        },
        what: "of another framework",
        advice: CONVERT,
    },
    Kind {
        is: |name| name.ends_with(".safetensors") && !name.starts_with("model"),
        what: "a safetensors file whose name does not begin with \"model\"",
        advice: "if it holds the weights, name it model.safetensors",
    },
];

/// What a file is and what to do about it, if its name is that of another kind of model.
pub fn describe(name: &str) -> Option<String> {
    let name = name.to_ascii_lowercase();
    let kind = KINDS.iter().find(|kind| (kind.is)(&name))?;
    Some(format!("{}: {}", kind.what, kind.advice))
}

/// What a folder holds in place of a model, and what to do about it.
pub(crate) fn found_in(dir: &Path) -> Option<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    for Kind { is, what, advice } in &KINDS {
        let found: Vec<_> = names.iter().filter(|name| is(&name.to_ascii_lowercase())).collect();
        if let Some(first) = found.first() {
            let more = if found.len() > 1 {
                format!(" and {} more", found.len() - 1)
            } else {
                String::new()
            };
            return Some(format!("it holds {first}{more}, {what}: {advice}"));
        }
    }
    let inner = names.iter().find(|name| dir.join(name).join("config.json").is_file())?;
    Some(format!("its folder {inner} has them: give {}", dir.join(inner).display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[&str]) -> String {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        found_in(dir.path()).unwrap_or_default()
    }

    #[test]
    fn the_kind_of_a_folder_is_named() {
        for (files, words) in [
            (&["README.md", "a-Q4.GGUF", "b-Q8.gguf"][..], "a-Q4.GGUF and 1 more, GGUF"),
            (&["pytorch_model-00001-of-00002.bin"], "pickle"),
            (&["pytorch_model.bin.index.json"], "pickle"),
            (&["consolidated.00.pth", "params.json"], "Meta"),
            (&["adapter_config.json", "adapter_model.bin"], "adapter"),
            (&["model_index.json", "unet/diffusion_pytorch_model.safetensors"], "diffusers"),
            (&["weights.00.safetensors"], "name it model.safetensors"),
            (&["tf_model.h5"], "another framework"),
            (&["inner/config.json"], "its folder inner"),
            (&["model.safetensors", "README.md"], ""),
        ] {
            let found = found(files);
            assert!(found.contains(words) && found.is_empty() == words.is_empty(), "{found}");
        }
    }
}
