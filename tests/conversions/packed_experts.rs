//! Muse Spark's experts as NVIDIA's Model Optimizer publishes them: NVFP4 of all experts together.
//! The checkpoint is packed here by the format's definition: a weight is a code of e2m1 times a
//! scale of e4m3 for each 16 inputs times a factor for each expert and projection.

use std::collections::BTreeMap;
use std::path::Path;

use half::bf16;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};

use crate::{TOKENS, logits_of, options, relative_error, run};

type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

/// Numbers that look random.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u32 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as u32
    }

    fn small(&mut self) -> f32 {
        (self.next() % 2001) as f32 / 10_000.0 - 0.1
    }
}

fn bytes_of(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|&value| bf16::from_f32(value).to_le_bytes()).collect()
}

/// The value of a code of e2m1.
fn e2m1(code: u8) -> f32 {
    let size = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0][usize::from(code & 7)];
    if code & 8 == 0 { size } else { -size }
}

/// The value of a normal number of e4m3.
fn e4m3(code: u8) -> f32 {
    let (exponent, fraction) = (i32::from(code >> 3 & 15) - 7, f32::from(code & 7) / 8.0);
    (1.0 + fraction) * 2_f32.powi(exponent)
}

/// Experts of `outputs` of `inputs` in several projections, packed and as numbers.
fn pack(noise: &mut Noise, shape: [usize; 3], projections: usize) -> (Tensors, Vec<f32>) {
    let [experts, outputs, inputs] = shape;
    let codes: Vec<u8> = (0..experts * outputs * inputs).map(|_| noise.next() as u8 & 15).collect();
    let scales: Vec<u8> = (0..codes.len() / 16).map(|_| 0x30 + (noise.next() % 16) as u8).collect();
    let factors: Vec<f32> =
        (0..experts * projections).map(|_| 0.03 + noise.small() / 10.0).collect();
    let numbers = codes.iter().enumerate().map(|(at, &code)| {
        let row = at / inputs;
        let (expert, row) = (row / outputs, row % outputs);
        let factor = factors[expert * projections + row * projections / outputs];
        e2m1(code) * e4m3(scales[at / 16]) * factor
    });
    let numbers = numbers.collect();
    let words = codes.chunks(2).map(|pair| pair[0] | pair[1] << 4).collect();
    let factors = factors.iter().flat_map(|factor| factor.to_le_bytes()).collect();
    let packed = BTreeMap::from([
        (String::new(), (Dtype::U8, vec![experts, outputs, inputs / 2], words)),
        ("_weight_scale".into(), (Dtype::F8_E4M3, vec![experts, outputs, inputs / 16], scales)),
        ("_weight_scale_2".into(), (Dtype::F32, vec![experts, projections], factors)),
    ]);
    (packed, numbers)
}

fn write(folder: &Path, config: &Value, tensors: &Tensors) {
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let views = tensors.iter().map(|(name, (dtype, shape, bytes))| {
        (name.clone(), TensorView::new(*dtype, shape.clone(), bytes).unwrap())
    });
    safetensors::serialize_to_file(views, None, &folder.join("model.safetensors")).unwrap();
}

/// The published fixture with experts of 32 features in place of 24, which groups of 16 divide:
/// packed, and as numbers.
fn checkpoints(folder: &Path) -> [std::path::PathBuf; 2] {
    let source = seeded::folder("muse-spark-raw");
    let bytes = std::fs::read(source.join("model.safetensors")).unwrap();
    let config = std::fs::read(source.join("config.json")).unwrap();
    let mut config: Value = serde_json::from_slice(&config).unwrap();
    config["text_config"]["moe_hidden_size"] = json!(32);
    // Of others a router chooses otherwise by the numbers' rounding.
    let mut noise = Noise(3);
    let (mut packed, mut plain) = (Tensors::new(), Tensors::new());
    let mut tensors = SafeTensors::deserialize(&bytes).unwrap().tensors();
    // They come in another order each time.
    tensors.sort_by(|(one, _), (other, _)| one.cmp(other));
    for (name, view) in tensors {
        let widened: Vec<usize> =
            view.shape().iter().map(|&dim| if dim == 24 { 32 } else { dim }).collect();
        let projections = match name.rsplit('.').next() {
            Some("gate_up_proj") => 2,
            Some("down_proj") if widened.len() == 3 => 1,
            _ => 0,
        };
        if projections > 0 {
            let shape = [widened[0], widened[1], widened[2]];
            let (parts, numbers) = pack(&mut noise, shape, projections);
            for (leaf, part) in parts {
                packed.insert(format!("{name}{leaf}"), part);
            }
            plain.insert(name, (Dtype::BF16, widened, bytes_of(&numbers)));
            continue;
        }
        let tensor = if widened == view.shape() {
            (view.dtype(), widened, view.data().to_vec())
        } else {
            let numbers = (0..widened.iter().product()).map(|_| noise.small() * 3.0);
            // Norms are written with 1 added, which loses nothing of these.
            let numbers: Vec<f32> = match widened.len() {
                1 => numbers.map(|number| (number * 64.0).round() / 64.0).collect(),
                _ => numbers.collect(),
            };
            (Dtype::BF16, widened, bytes_of(&numbers))
        };
        packed.insert(name.clone(), tensor.clone());
        plain.insert(name, tensor);
    }
    let folders = ["packed", "plain"].map(|name| folder.join(name));
    write(&folders[1], &config, &plain);
    config["quantization_config"] = json!({ "quant_method": "modelopt", "quant_algo": "NVFP4" });
    write(&folders[0], &config, &packed);
    folders
}

#[test]
fn experts_that_are_packed_together_load_and_convert_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let [packed, plain] = checkpoints(folder.path());
    let [expected, found] = [&plain, &packed].map(|source| logits_of(source, &TOKENS));
    // Numbers of the plain one are rounded to bfloat16.
    let error = relative_error(&found, &expected);
    assert!(error < 2e-2, "loaded: {error:.1e}");

    let target = folder.path().join("converted");
    run(&packed, &target, &options("plain")).unwrap();
    let bytes = std::fs::read(target.join("model.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    // Codes and scales are the published ones.
    let published = std::fs::read(packed.join("model.safetensors")).unwrap();
    let published = SafeTensors::deserialize(&published).unwrap();
    let data = |tensors: &SafeTensors, ending: &str| -> Vec<Vec<u8>> {
        let mut names = tensors.names();
        names.retain(|name| name.ends_with(ending));
        names.sort();
        names.iter().map(|name| tensors.tensor(name).unwrap().data().to_vec()).collect()
    };
    for (new, old) in
        [("down_proj.weight", "down_proj"), ("down_proj.scales", "down_proj_weight_scale")]
    {
        let [new, old] = [(&tensors, new), (&published, old)]
            .map(|(tensors, leaf)| data(tensors, &format!(".mlp.experts.{leaf}")));
        assert!(!new.is_empty() && new == old);
    }
    for projection in ["gate_proj", "up_proj", "down_proj"] {
        let factors = data(&tensors, &format!(".mlp.experts.{projection}.global_scale"));
        assert!(!factors.is_empty(), "{projection}");
    }
    // Shares of stream and block are written as rounded numbers.
    let error = relative_error(&logits_of(&target, &TOKENS), &found);
    assert!(error < 5e-3, "converted: {error:.1e}");

    let numbers = folder.path().join("numbers");
    run(&packed, &numbers, &options("dequantized")).unwrap();
    // Both are rounded to bfloat16, once and twice.
    let error = relative_error(&logits_of(&numbers, &TOKENS), &expected);
    assert!(error < 2e-2, "dequantized: {error:.1e}");
}
