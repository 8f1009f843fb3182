//! What a conversion did.

use crate::mlx::quantized::QuantizationParams;

/// A module that was quantized.
#[derive(Debug, Clone)]
pub struct LayerReport {
    /// Its path.
    pub path: String,
    /// Its format.
    pub params: QuantizationParams,
    /// How many numbers it stands for.
    pub parameters: u64,
    /// ‖w − ŵ‖ / ‖w‖ of its numbers w and what the codes ŵ stand for.
    pub error: f64,
}

/// What a conversion wrote.
#[derive(Debug, Clone)]
pub struct Report {
    /// Numbers of the model, packed ones by what they stand for.
    pub parameters: u64,
    /// Bytes of its tensors.
    pub bytes: u64,
    /// The modules that were quantized.
    pub layers: Vec<LayerReport>,
}

impl Report {
    pub(super) fn new(parameters: u64, bytes: u64) -> Self {
        Self { parameters, bytes, layers: Vec::new() }
    }

    /// Bits for each number, scales and biases included.
    pub fn bits_per_weight(&self) -> f64 {
        self.bytes as f64 * 8.0 / self.parameters.max(1) as f64
    }
}
