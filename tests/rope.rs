//! Parity of every rotary embedding with mlx-lm's `initialize_rope`.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use nodemlx::fused::{self, Device};
use nodemlx::mlx::{self, DeviceKind};
use nodemlx::nn::{Rope, RopeConfig, RopeScaling};
use safetensors::SafeTensors;
use serde::Deserialize;

#[derive(Deserialize)]
struct Fixture {
    cases: Vec<Case>,
    refused: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    arguments: Arguments,
    #[serde(default)]
    offsets: Vec<i32>,
}

#[derive(Deserialize)]
struct Arguments {
    dims: i32,
    base: f32,
    #[serde(default)]
    traditional: bool,
    scaling_config: Option<RopeScaling>,
    max_position_embeddings: Option<i32>,
}

fn rope(arguments: &Arguments) -> nodemlx::error::Result<Rope> {
    Rope::new(&RopeConfig {
        dims: arguments.dims,
        base: arguments.base,
        traditional: arguments.traditional,
        scaling: arguments.scaling_config.clone(),
        max_positions: arguments.max_position_embeddings,
        longest: None,
    })
}

#[test]
fn every_rule_agrees_with_the_reference() {
    mlx::enter(DeviceKind::Cpu).unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let fixture = std::fs::read(root.join("rope.json")).unwrap();
    let fixture: Fixture = serde_json::from_slice(&fixture).unwrap();
    let bytes = std::fs::read(root.join("rope.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = |name: &str| -> Vec<f32> {
        let data = tensors.tensor(name).unwrap().data();
        data.chunks_exact(4).map(|word| f32::from_le_bytes(word.try_into().unwrap())).collect()
    };
    let x = mlx::from_f32(&tensor("x"), &[1, 2, 5, 16]);
    assert!(fixture.cases.len() >= 16);
    for case in &fixture.cases {
        let rope = rope(&case.arguments).unwrap();
        for &offset in &case.offsets {
            let expected = tensor(&format!("{}.{offset}", case.name));
            let norm = expected.iter().map(|v| v * v).sum::<f32>().sqrt();
            for (device, bound) in [(Device::default(), 1e-4), (Device::default().plain(), 2e-4)] {
                let rotated = fused::rope::rope(device, &x, &rope.at(offset, 5)).unwrap();
                let actual = mlx::to_f32_vec(&rotated).unwrap();
                let pairs = actual.iter().zip(&expected);
                let difference: f32 = pairs.map(|(a, b)| (a - b).powi(2)).sum();
                let error = difference.sqrt() / norm;
                assert!(error < bound, "{} at {offset}: relative error {error:.2e}", case.name);
            }
        }
    }
    for case in &fixture.refused {
        assert!(rope(&case.arguments).is_err(), "{} was not refused", case.name);
    }
}
