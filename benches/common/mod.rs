//! What the benchmarks share: synthetic checkpoints, the measure of the memory, and medians.
#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each benchmark uses a part; a benchmark may panic"
)]

use std::hint::black_box;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Instant;

use nodemlx::cpu::pool::parallel_for;
use serde_json::{Value, json};

pub const HIDDEN: usize = 2048;
pub const LAYERS: usize = 16;
pub const INTERMEDIATE: usize = 8192;
pub const HEADS: usize = 32;
pub const KV_HEADS: usize = 8;
pub const HEAD_DIM: usize = 64;
pub const VOCABULARY: usize = 32000;
/// Codes that share a scale.
const GROUP: usize = 64;
/// Features inside an expert.
const EXPERT: usize = 768;
const EXPERTS: usize = 64;
const ACTIVE: usize = 8;
/// Bytes that are written at a time.
const PIECE: usize = 8 << 20;

/// A model of the shape of Llama 3.2 1B with a vocabulary of 32000, or with experts in the place of
/// its MLPs.
#[derive(Clone, Copy)]
pub struct Checkpoint {
    /// Of the weights; 0 for bfloat16.
    pub bits: usize,
    /// Whether a token goes to 8 of 64 experts, as in Qwen 3 MoE.
    pub experts: bool,
}

struct Tensor {
    name: String,
    dtype: &'static str,
    shape: Vec<usize>,
    /// What is read of it for a token, as a fraction.
    read: f64,
}

impl Tensor {
    fn bytes(&self) -> usize {
        let size = if self.dtype == "U32" { 4 } else { 2 };
        size * self.shape.iter().product::<usize>()
    }
}

impl Checkpoint {
    /// `config.json`.
    pub fn config(self) -> Value {
        let mut config = json!({
            "model_type": "llama",
            "hidden_size": HIDDEN,
            "num_hidden_layers": LAYERS,
            "intermediate_size": INTERMEDIATE,
            "num_attention_heads": HEADS,
            "num_key_value_heads": KV_HEADS,
            "head_dim": HEAD_DIM,
            "vocab_size": VOCABULARY,
            "rms_norm_eps": 1e-5,
            "rope_theta": 500_000.0,
            "max_position_embeddings": 131_072,
            "tie_word_embeddings": true,
        });
        if self.experts {
            config["model_type"] = json!("qwen3_moe");
            config["num_experts"] = json!(EXPERTS);
            config["num_experts_per_tok"] = json!(ACTIVE);
            config["moe_intermediate_size"] = json!(EXPERT);
            config["norm_topk_prob"] = json!(true);
            config["decoder_sparse_step"] = json!(1);
            config["mlp_only_layers"] = json!([]);
        }
        if self.bits > 0 {
            config["quantization"] = json!({ "group_size": GROUP, "bits": self.bits });
        }
        config
    }

    fn tensors(self) -> Vec<Tensor> {
        let mut all = Vec::new();
        let mut add = |path: &str, front: &[usize], inputs: usize, read: f64| {
            let mut part = |part: &str, dtype, last: usize| {
                let shape = [front, &[last]].concat();
                all.push(Tensor { name: format!("{path}.{part}"), dtype, shape, read });
            };
            if self.bits == 0 {
                return part("weight", "BF16", inputs);
            }
            part("weight", "U32", inputs * self.bits / 32);
            part("scales", "BF16", inputs / GROUP);
            part("biases", "BF16", inputs / GROUP);
        };
        add("model.embed_tokens", &[VOCABULARY], HIDDEN, 1.0);
        for layer in 0..LAYERS {
            let path = |name: &str| format!("model.layers.{layer}.{name}");
            for (name, outputs, inputs) in [
                ("self_attn.q_proj", HEADS * HEAD_DIM, HIDDEN),
                ("self_attn.k_proj", KV_HEADS * HEAD_DIM, HIDDEN),
                ("self_attn.v_proj", KV_HEADS * HEAD_DIM, HIDDEN),
                ("self_attn.o_proj", HIDDEN, HEADS * HEAD_DIM),
            ] {
                add(&path(name), &[outputs], inputs, 1.0);
            }
            if self.experts {
                let read = ACTIVE as f64 / EXPERTS as f64;
                add(&path("mlp.gate"), &[EXPERTS], HIDDEN, 1.0);
                add(&path("mlp.switch_mlp.gate_proj"), &[EXPERTS, EXPERT], HIDDEN, read);
                add(&path("mlp.switch_mlp.up_proj"), &[EXPERTS, EXPERT], HIDDEN, read);
                add(&path("mlp.switch_mlp.down_proj"), &[EXPERTS, HIDDEN], EXPERT, read);
            } else {
                add(&path("mlp.gate_proj"), &[INTERMEDIATE], HIDDEN, 1.0);
                add(&path("mlp.up_proj"), &[INTERMEDIATE], HIDDEN, 1.0);
                add(&path("mlp.down_proj"), &[HIDDEN], INTERMEDIATE, 1.0);
            }
        }
        all
    }

    /// The norms' names and lengths.
    fn norms(self) -> Vec<(String, usize)> {
        let mut all = vec![("model.norm".to_owned(), HIDDEN)];
        for layer in 0..LAYERS {
            let mut add = |name: &str, len| all.push((format!("model.layers.{layer}.{name}"), len));
            add("input_layernorm", HIDDEN);
            add("post_attention_layernorm", HIDDEN);
            if self.experts {
                add("self_attn.q_norm", HEAD_DIM);
                add("self_attn.k_norm", HEAD_DIM);
            }
        }
        all
    }

    /// The bytes of matrices that a token must read.
    pub fn bytes_per_token(self) -> usize {
        self.tensors().iter().map(|tensor| (tensor.bytes() as f64 * tensor.read) as usize).sum()
    }

    /// The bytes of keys and values that a token must read behind so many positions.
    pub fn cache_bytes(self, positions: usize) -> usize {
        2 * 2 * LAYERS * KV_HEADS * HEAD_DIM * positions
    }

    /// Writes `config.json` and `model.safetensors`; random numbers, or with `hollow` a hole in the
    /// file, which takes neither disk nor memory.
    pub fn write(self, dir: &Path, hollow: bool) {
        let tensors = self.tensors();
        let norms = self.norms();
        let mut header = serde_json::Map::new();
        let mut end = 0;
        let mut describe = |name: String, dtype: &str, shape: &[usize], bytes: usize| {
            let entry =
                json!({ "dtype": dtype, "shape": shape, "data_offsets": [end, end + bytes] });
            header.insert(name, entry);
            end += bytes;
        };
        for tensor in &tensors {
            describe(tensor.name.clone(), tensor.dtype, &tensor.shape, tensor.bytes());
        }
        for (name, len) in &norms {
            describe(format!("{name}.weight"), "BF16", &[*len], 2 * len);
        }
        let mut header = serde_json::to_vec(&header).unwrap();
        header.resize(header.len().next_multiple_of(8), b' ');
        std::fs::create_dir_all(dir).unwrap();
        let file = std::fs::File::create(dir.join("model.safetensors")).unwrap();
        file.set_len((8 + header.len() + end) as u64).unwrap();
        // In pieces that the page cache keeps as large pages, as it does what it reads from the
        // disk.
        let mut file = BufWriter::with_capacity(PIECE, file);
        file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
        file.write_all(&header).unwrap();
        if !hollow {
            write_numbers(&mut file, &tensors, &norms);
        }
        file.flush().unwrap();
        std::fs::write(dir.join("config.json"), self.config().to_string()).unwrap();
    }
}

fn write_numbers(file: &mut impl Write, tensors: &[Tensor], norms: &[(String, usize)]) {
    let mut state = 1_u64;
    for tensor in tensors {
        for _ in 0..tensor.bytes() / 8 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            // bfloat16 numbers of either sign around 2⁻⁷; or any bits.
            let word = if tensor.dtype == "BF16" {
                state >> 8 & 0x807f_807f_807f_807f | 0x3c00_3c00_3c00_3c00
            } else {
                state
            };
            file.write_all(&word.to_le_bytes()).unwrap();
        }
    }
    for (_, len) in norms {
        file.write_all(&[0x80, 0x3f].repeat(*len)).unwrap();
    }
}

/// Reads all once with all threads.
pub fn read(bytes: &[u8]) {
    const CHUNK: usize = 128 * 1024;
    parallel_for(bytes.len().div_ceil(CHUNK), |i| {
        let chunk = &bytes[i * CHUNK..((i + 1) * CHUNK).min(bytes.len())];
        let mut sums = [0_u8; 256];
        for piece in chunk.as_chunks::<256>().0 {
            for (sum, byte) in sums.iter_mut().zip(piece) {
                *sum ^= byte;
            }
        }
        black_box(sums);
    });
}

pub fn seconds(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// What follows a flag of the command line.
pub fn argument(flag: &str) -> Option<String> {
    let arguments: Vec<String> = std::env::args().collect();
    let position = arguments.iter().position(|argument| argument == flag)?;
    arguments.get(position + 1).cloned()
}

pub fn number(flag: &str, default: usize) -> usize {
    argument(flag).and_then(|value| value.parse().ok()).unwrap_or(default)
}
