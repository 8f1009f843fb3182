//! Short names of recommended models.

/// A short name, and the repository it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alias {
    /// What people type, for instance `qwen-2.5-1.5b`. Case does not matter.
    pub name: &'static str,
    /// The repository on the Hugging Face hub.
    pub repository: &'static str,
}

/// The short names that `loadModel` understands, grouped by family; the first of a family is the one
/// to try first.
pub fn recommended_models() -> &'static [Alias] {
    ALIASES
}

pub(super) fn find(name: &str) -> Option<&'static Alias> {
    ALIASES.iter().find(|alias| alias.name.eq_ignore_ascii_case(name))
}

/// A hint for a name that is not known: the aliases that begin like it.
pub(super) fn suggestion(name: &str) -> String {
    let start = |text: &str| -> String {
        text.chars().take_while(|it| it.is_ascii_alphabetic()).collect::<String>().to_lowercase()
    };
    let wanted = start(name);
    let similar: Vec<&str> = ALIASES
        .iter()
        .map(|alias| alias.name)
        .filter(|alias| !wanted.is_empty() && start(alias) == wanted)
        .collect();
    if similar.is_empty() {
        String::new()
    } else {
        format!(". Did you mean {}?", similar.join(", "))
    }
}

const ALIASES: &[Alias] = &[
    alias("qwen", "mlx-community/Qwen3-4B-4bit"),
    alias("qwen3", "mlx-community/Qwen3-4B-4bit"),
    alias("qwen3-0.6b", "mlx-community/Qwen3-0.6B-4bit"),
    alias("qwen3-1.7b", "mlx-community/Qwen3-1.7B-4bit"),
    alias("qwen3-4b", "mlx-community/Qwen3-4B-4bit"),
    alias("qwen3-8b", "mlx-community/Qwen3-8B-4bit"),
    alias("qwen3-14b", "mlx-community/Qwen3-14B-4bit"),
    alias("qwen3-32b", "mlx-community/Qwen3-32B-4bit"),
    alias("qwen3-30b-a3b", "mlx-community/Qwen3-30B-A3B-4bit"),
    alias("qwen-2.5", "mlx-community/Qwen2.5-3B-Instruct-4bit"),
    alias("qwen-2.5-0.5b", "mlx-community/Qwen2.5-0.5B-Instruct-4bit"),
    alias("qwen-2.5-1.5b", "mlx-community/Qwen2.5-1.5B-Instruct-4bit"),
    alias("qwen-2.5-3b", "mlx-community/Qwen2.5-3B-Instruct-4bit"),
    alias("qwen-2.5-7b", "mlx-community/Qwen2.5-7B-Instruct-4bit"),
    alias("phi", "mlx-community/phi-4-4bit"),
    alias("phi4", "mlx-community/phi-4-4bit"),
    alias("phi-3-mini", "mlx-community/Phi-3-mini-4k-instruct-4bit"),
    alias("phi-3.5-mini", "mlx-community/Phi-3.5-mini-instruct-4bit"),
    alias("llama", "mlx-community/Llama-3.2-3B-Instruct-4bit"),
    alias("llama-3.2", "mlx-community/Llama-3.2-3B-Instruct-4bit"),
    alias("llama-3.2-1b", "mlx-community/Llama-3.2-1B-Instruct-4bit"),
    alias("llama-3.2-3b", "mlx-community/Llama-3.2-3B-Instruct-4bit"),
    alias("llama4", "mlx-community/Llama-4-Scout-17B-16E-Instruct-4bit"),
    alias("llama4-17b", "mlx-community/Llama-4-Scout-17B-16E-Instruct-4bit"),
    alias("gemma", "mlx-community/gemma-3-1b-it-4bit"),
    alias("gemma3", "mlx-community/gemma-3-1b-it-4bit"),
    alias("gemma3-1b", "mlx-community/gemma-3-1b-it-4bit"),
    alias("gemma3-1b-bf16", "mlx-community/gemma-3-1b-it-bf16"),
    alias("gemma3-4b", "mlx-community/gemma-3-4b-it-4bit"),
    alias("gemma3-4b-bf16", "mlx-community/gemma-3-4b-it-bf16"),
    alias("gemma3-12b", "mlx-community/gemma-3-12b-it-4bit"),
    alias("gemma3-27b", "mlx-community/gemma-3-27b-it-4bit"),
    alias("gemma3n", "mlx-community/gemma-3n-E4B-it-lm-4bit"),
    alias("gemma3n-e2b", "mlx-community/gemma-3n-E2B-it-lm-4bit"),
    alias("gemma3n-e4b", "mlx-community/gemma-3n-E4B-it-lm-4bit"),
    alias("mistral", "mlx-community/Mistral-7B-Instruct-v0.3-4bit"),
    alias("ministral", "mlx-community/Ministral-8B-Instruct-2410-4bit"),
    alias("ministral-8b", "mlx-community/Ministral-8B-Instruct-2410-4bit"),
    alias("gptoss", "mlx-community/gpt-oss-20b-MXFP4-Q4"),
    alias("gptoss-20b", "mlx-community/gpt-oss-20b-MXFP4-Q4"),
    alias("smollm", "mlx-community/SmolLM3-3B-4bit"),
    alias("smollm3", "mlx-community/SmolLM3-3B-4bit"),
    alias("smollm3-3b", "mlx-community/SmolLM3-3B-4bit"),
    alias("smollm2-1.7b", "mlx-community/SmolLM2-1.7B-Instruct-4bit"),
];

const fn alias(name: &'static str, repository: &'static str) -> Alias {
    Alias { name, repository }
}
