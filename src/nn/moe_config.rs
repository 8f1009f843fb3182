//! The sizes of a mixture of experts.

use crate::fused::activation::Activation;
use crate::fused::router::Routing;

/// What varies between architectures.
#[derive(Debug, Clone, Copy)]
pub struct MoeConfig {
    /// Input and output features.
    pub dims: i32,
    /// Features inside an expert.
    pub hidden: i32,
    /// Number of experts.
    pub experts: i32,
    /// Experts that a token is sent to.
    pub active: i32,
    /// That of the experts' gates.
    pub activation: Activation,
    /// How the chosen experts are weighted.
    pub routing: Routing,
}
