//! `docs/models.md`, made of what passes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use nodemlx::fused::Precision;
use nodemlx::mlx::quantized::Mode;
use nodemlx::models::{self, Loaded};

use crate::TOLERANCES;

const HEADER: &str = "\
# Models

The architectures that run, and how far they are from mlx-lm. `WRITE_DOCS=1 cargo test --test models` makes this file of what passes; without `WRITE_DOCS` the test fails
where the file is behind.

Each architecture has small checkpoints with random weights that exercise every kind of layer and every switch of its configuration, as mlx-lm saves them and as they are
published, with the logits and greedy tokens of [the oracle](../tools/oracle/README.md). They are run in one pass, token by token and in chunks, past every window.

- **`model_type`**: of a checkpoint that also sees or hears, the language model runs, whichever architecture its `text_config` names; a name with `_text` behind it is the same.
- **Caches**: the kinds that its layers use.
- **Checkpoints**: as mlx-lm saves them + as published; none of the first where mlx-lm lacks the architecture.
- **Quantized**: the formats among these checkpoints, with the bits of affine ones; *mixed* where single layers differ. The blocks are shared: what one architecture was tried with
  the others can load, too.
- **Exact**, **default**: the largest relative error ‖a − b‖ / ‖b‖ of the logits of any pass over any checkpoint on a CPU, with every product in float32, and as models run by default
  (activations of quantized products in 16 bits). Rounded up to one digit; other processors differ a little, and the test allows ten times as much.

Each is a file in [src/models](../src/models); [a guide](adding-a-model.md) says how to add one.

| Architecture | `model_type` | Caches | Checkpoints | Quantized | Exact | Default |
|---|---|---|---|---|---|---|
";

const ENCODERS: &str = "
## Encoders

They embed texts or judge them, and write none; see [Embeddings](embeddings.md). Each has \
checkpoints with random weights whose embeddings, behind the files of sentence-transformers, or whose
labels' logits are within 1e-4 of what transformers computes (`tests/embedders.rs`). qwen3 as an \
embedder (Qwen3-Embedding) and gemma3 with `use_bidirectional_attention` (EmbeddingGemma) are among \
these checkpoints, too.

| Architecture | `model_type` |
|---|---|
";

const LEFT_OUT: &str = "
## Left out

What transformers 5.24 lists among its causal language models and does not run here, with what it would need:

| `model_type` | Why |
|---|---|
| `deepseek_v4` | V4.1's layers, but for groups of positions that overlap, with weights of their own for an indexer's keys, and experts that the token itself chooses |
| `qwen4_exp`, `hy_v4`, `dots3_note`, `inkling_text`, `inkling2_text`, `inkling2_loop_text`, `axk2`, `zaya`, `apertus1p5_text`, `dory`, `lara_mini`, `hrm_text` | recent; each mixes positions or streams in a way that no block has yet |
| `jetmoe`, `zamba` | older; attention whose projections of queries and outputs are those of experts, and Mamba mixers with matrices for each head |
| `rwkv`, `xlstm`, `cpmant`, `xlnet`, `xlm`, `reformer` | older; recurrences, attention and positions of their own |
| `mllama`, `emu3`, `fuyu`, `git`, `got_ocr2`, `moss_transcribe_diarize` | language models within others, which read what is seen through layers of their own, or lie below other names |
| `blt`, `moshi`, `musicgen`, `musicgen_melody` | bytes or sound in place of tokens |
| `gemma4_assistant`, `gemma4_unified_assistant` | write drafts for another model alone |
| `bart`, `bigbird_pegasus`, `blenderbot`, `blenderbot-small`, `marian`, `mbart`, `mvp`, `pegasus`, `plbart`, `prophetnet`, `trocr`, `whisper` | decoders of encoder–decoders: a step would need attention to what another part has read |
| `beam`, `bert-generation`, `big_bird`, `data2vec-text`, `electra`, `ernie`, `megatron-bert`, `rembert`, `roberta-prelayernorm`, `roc_bert`, `roformer`, `xlm-roberta-xl`, `xmod` | encoders that can be made to write; hardly a checkpoint does |

`gpt-sw3` is a tokenizer's name: its checkpoints are `gpt2`.
";

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/models.md");

/// How much of a figure in the file the same figure may be elsewhere.
const LEEWAY: f64 = 10.0;

/// What was found out about every architecture, by name.
#[derive(Default)]
pub struct Table(BTreeMap<&'static str, Row>);

#[derive(Default)]
struct Row {
    caches: BTreeSet<&'static str>,
    formats: BTreeMap<&'static str, BTreeSet<i32>>,
    mixed: bool,
    /// As mlx-lm saves them, and as published.
    checkpoints: [BTreeSet<PathBuf>; 2],
    /// The largest error at each of [`TOLERANCES`].
    errors: [f64; 2],
}

impl Table {
    /// Takes down that a checkpoint passed, with this largest error.
    pub fn add(&mut self, folder: &Path, loaded: &Loaded, precision: Precision, error: f64) {
        let row = self.0.entry(loaded.info.architecture).or_default();
        row.caches.extend(loaded.model.make_caches().iter().map(nodemlx::cache::Cache::kind));
        if let Some(format) = loaded.info.quantization {
            row.formats.entry(format.mode.name()).or_default().insert(format.bits);
            row.mixed |= loaded.info.mixed_quantization;
        }
        let facts = std::fs::read(folder.join("golden.json")).unwrap();
        let facts: serde_json::Value = serde_json::from_slice(&facts).unwrap();
        row.checkpoints[usize::from(facts["kind"] == "raw")].insert(folder.to_owned());
        let column = TOLERANCES.iter().position(|(other, _)| *other == precision).unwrap();
        row.errors[column] = row.errors[column].max(error);
    }

    /// Makes the file anew.
    pub fn write(&self) {
        std::fs::write(FILE, self.render()).unwrap();
    }

    /// Fails where the file says anything else.
    pub fn check(&self) {
        let (old, old_figures) = without_figures(&std::fs::read_to_string(FILE).unwrap());
        let (new, new_figures) = without_figures(&self.render());
        let behind =
            "docs/models.md is behind; WRITE_DOCS=1 cargo test --test models makes it anew";
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
        let (old, new) = (lines(&old), lines(&new));
        let (gone, come): (Vec<_>, Vec<_>) =
            (old.difference(&new).collect(), new.difference(&old).collect());
        assert!(gone.is_empty() && come.is_empty(), "{behind}: not {gone:#?} but {come:#?}");
        for (old, new) in old_figures.iter().zip(&new_figures) {
            assert!(*new <= old * LEEWAY, "an error has grown from {old:e} to {new:e}; {behind}");
        }
    }

    fn render(&self) -> String {
        let mut text = HEADER.to_owned();
        for (name, model_types) in models::architectures() {
            let Some(row) = self.0.get(name) else { panic!("{name} has no fixtures") };
            let count = row.checkpoints.each_ref().map(BTreeSet::len);
            assert!(count[1] > 0, "{name} has no fixture as it is published");
            let types: Vec<_> = model_types.iter().map(|name| format!("`{name}`")).collect();
            let caches: Vec<_> = row.caches.iter().copied().collect();
            let cells = [
                name.to_owned(),
                types.join(", "),
                caches.join(", "),
                format!("{} + {}", count[0], count[1]),
                row.quantizations(),
                rounded_up(row.errors[0]),
                rounded_up(row.errors[1]),
            ];
            text += &format!("| {} |\n", cells.join(" | "));
        }
        text += &format!("\n{} architectures.\n", self.0.len());
        text += ENCODERS;
        for (name, model_types) in models::encoders() {
            let types: Vec<_> = model_types.iter().map(|name| format!("`{name}`")).collect();
            text += &format!("| {name} | {} |\n", types.join(", "));
        }
        text + LEFT_OUT
    }
}

impl Row {
    fn quantizations(&self) -> String {
        let mut parts = Vec::new();
        for (mode, bits) in &self.formats {
            if *mode == Mode::Affine.name() {
                let bits: Vec<_> = bits.iter().map(ToString::to_string).collect();
                parts.push(format!("{mode} {}", bits.join(", ")));
            } else {
                parts.push((*mode).to_owned());
            }
        }
        if self.mixed {
            parts.push("mixed".to_owned());
        }
        parts.join("; ")
    }
}

/// The next number of one digit.
fn rounded_up(error: f64) -> String {
    let mut exponent = error.log10().floor() as i32;
    let mut digit = (error / 10f64.powi(exponent)).ceil();
    if digit >= 10.0 {
        (exponent, digit) = (exponent + 1, 1.0);
    }
    format!("{digit}e{exponent}")
}

/// The text with the figures that depend on the processor left out, and these.
fn without_figures(text: &str) -> (String, Vec<f64>) {
    let mut figures = Vec::new();
    let mut cell = |cell: &str| match cell.trim().parse::<f64>() {
        Ok(figure) if cell.contains("e-") => {
            figures.push(figure);
            String::new()
        }
        _ => cell.to_owned(),
    };
    let lines: Vec<_> = text
        .lines()
        .map(|line| line.split('|').map(&mut cell).collect::<Vec<_>>().join("|"))
        .collect();
    (lines.join("\n"), figures)
}
