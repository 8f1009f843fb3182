//! Choosing experts on an NVIDIA card.

use crate::error::Result;
use crate::fused::router::{RouterParams, Routing, Score};
use crate::mlx::gpu::{Block, Kernel, Number, Source};
use crate::mlx::{Array, Dtype};

/// Rows that a block has, one for each of its warps.
const ROWS: usize = 4;

/// How experts are chosen, as choose.cuh calls it.
#[derive(Debug, Clone, Copy)]
pub struct Choice<'a> {
    experts: i32,
    active: i32,
    scoring: i32,
    normalize: bool,
    /// `[experts]`.
    correction: Option<&'a Array>,
    /// Multiplies the weights.
    scale: f32,
}

impl<'a> Choice<'a> {
    /// `None` for choices that the kernels do not make.
    pub fn of(params: &'a RouterParams) -> Option<Self> {
        let RouterParams { experts, active, routing, logit_scale, .. } = *params;
        if logit_scale != 1.0 {
            return None;
        }
        let (scoring, normalize, scale) = match routing {
            Routing::TopThenSoftmax => (1, false, 1.0),
            Routing::ScoresThenTop { score, groups: None, normalize, scale } => {
                let scoring = match score {
                    // The kernel divides by the sum behind the choice.
                    Score::Softmax if params.correction.is_some() => return None,
                    Score::Softmax => 0,
                    Score::Sigmoid => 2,
                    Score::SqrtSoftplus => return None,
                };
                (scoring, normalize, scale)
            }
            Routing::ScoresThenTop { groups: Some(_), .. }
            | Routing::TopThenSigmoid { .. }
            | Routing::SparseMixer(_)
            | Routing::SigmoidOfInput => return None,
        };
        let correction = params.correction.as_ref();
        let fits = (1..=experts.min(32)).contains(&active)
            && experts <= 1024
            && params.logit_cap.is_none()
            && correction.is_none_or(|it| it.dtype() == Dtype::Float32);
        fits.then_some(Self { experts, active, scoring, normalize, correction, scale })
    }

    /// Experts that a row chooses.
    pub fn active(&self) -> i32 {
        self.active
    }

    /// What the kernel reads besides the logits.
    pub fn correction(&self) -> Option<&'a Array> {
        self.correction
    }

    /// Its last argument.
    pub fn scale(&self) -> Number {
        Number::Real(self.scale)
    }

    /// The settings of choose.cuh.
    pub fn settings(&self) -> [(&'static str, i32); 5] {
        [
            ("ROUTED", self.experts),
            ("ACTIVE", self.active),
            ("SCORING", self.scoring),
            ("NORMALIZE", i32::from(self.normalize)),
            ("CORRECTED", i32::from(self.correction.is_some())),
        ]
    }
}

/// The experts that `logits`, `[…, experts]`, choose, and their weights, `[…, active]` each; `None`
/// for choices that the kernel does not make.
pub fn route_top_k(logits: &Array, params: &RouterParams) -> Result<Option<[Array; 2]>> {
    let x = match logits.dtype() {
        Dtype::Bfloat16 => 0,
        Dtype::Float16 => 1,
        Dtype::Float32 => 2,
        _ => return Ok(None),
    };
    let Some(choice) = Choice::of(params) else { return Ok(None) };
    let source = Source {
        text: concat!(
            include_str!("logits.cuh"),
            include_str!("choose.cuh"),
            include_str!("route.cu")
        ),
        name: c"nodemlx_route",
        settings: [("X", x)].into_iter().chain(choice.settings()).collect(),
    };
    let kernel = Kernel::of(&source, Block { threads: 32 * ROWS, shared_memory: 0 })?;
    let rows = logits.size() / params.experts.max(1) as usize;
    let mut shape = logits.shape().to_vec();
    if let Some(last) = shape.last_mut() {
        *last = choice.active;
    }
    let inputs: Vec<_> = [logits].into_iter().chain(choice.correction).collect();
    let outputs = [(&shape[..], Dtype::Uint32), (&shape[..], Dtype::Float32)];
    let numbers = [Number::Whole(rows as i32), choice.scale()];
    let mut arrays = kernel.run(rows.div_ceil(ROWS), &inputs, &outputs, &numbers)?;
    let weights = arrays.swap_remove(1);
    Ok(Some([arrays.swap_remove(0), weights]))
}
