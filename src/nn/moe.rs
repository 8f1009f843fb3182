//! Mixture of experts (Shazeer et al. 2017): a router sends each token to a few of many MLPs.

use super::expert_linear::{ExpertLinear, ExpertMatrix, Nvfp4Stack, stack};
use super::linear::Linear;
use super::mlp::{FeedForward, Mlp};
use super::moe_config::MoeConfig;
use super::norm::Norm;
use super::residual::Input;
use super::router::Router;
use crate::error::Result;
use crate::fused::Device;
use crate::fused::activation::{Activation, Combine};
use crate::fused::experts::{ExpertsWeights, Hidden, expert_outputs, moe_mlp, weighted_sum};
use crate::mlx::{Array, eval, ops, scalar};
use crate::weights::Weights;

/// How a checkpoint names a router, and the experts' projections.
#[derive(Debug, Clone, Copy)]
pub struct ExpertNames {
    /// The router.
    pub router: &'static str,
    /// Its correction, by any of these names; none where there is none.
    pub correction: &'static [&'static str],
    /// Gate, up and down of one expert below `experts.N`.
    pub single: [&'static str; 3],
    /// Gate, up and down of all experts together.
    pub stacked: [&'static str; 3],
    /// Tensors of all experts together: gate and up, whose outputs follow each other, and down.
    pub fused: [&'static str; 2],
}

impl Default for ExpertNames {
    fn default() -> Self {
        Self {
            router: "gate",
            correction: &[],
            single: ["gate_proj", "up_proj", "down_proj"],
            stacked: ["switch_mlp.gate_proj", "switch_mlp.up_proj", "switch_mlp.down_proj"],
            fused: ["experts.gate_up_proj", "experts.down_proj"],
        }
    }
}

impl ExpertNames {
    /// Takes the router and its correction.
    pub fn router(self, w: &Weights, config: MoeConfig) -> Result<Router> {
        let router = Router::new(&w.at(self.router), config, false)?;
        let Some(first) = self.correction.first() else { return Ok(router) };
        let name = self.correction.iter().find(|name| w.has(name)).unwrap_or(first);
        Ok(router.with_correction(w.take_f32(name, &[config.experts])?))
    }
}

/// A router, its experts, and perhaps one that sees every token.
#[derive(Debug)]
pub struct Moe {
    router: Router,
    experts: Experts,
    /// Between the residual stream and the features that the experts work on, and back.
    latent: Option<[Linear; 2]>,
    /// Between the experts and the second of these.
    latent_norm: Option<Norm>,
    /// In front of the experts, and over what each of them gives.
    expert_norms: Option<[Norm; 2]>,
    shared: Option<SharedExpert>,
    /// Weighs the chosen experts, and the one that sees every token, by a soft-max.
    coefficients: Option<Linear>,
    /// The first of the experts that give what they get.
    identities: Option<i32>,
}

impl Moe {
    /// A mixture of these parts.
    pub fn of(router: Router, experts: Experts) -> Self {
        Self {
            router,
            experts,
            latent: None,
            latent_norm: None,
            expert_norms: None,
            shared: None,
            coefficients: None,
            identities: None,
        }
    }

    /// Takes the router, and the experts one by one (`experts.N`), stacked or fused.
    pub fn new(w: &Weights, config: MoeConfig, names: ExpertNames) -> Result<Self> {
        Ok(Self::of(names.router(w, config)?, Experts::new(w, config, names)?))
    }

    /// Adds `shared_expert`, weighted by the logistic function of `shared_expert_gate`.
    pub fn with_shared_expert(mut self, w: &Weights, hidden: i32) -> Result<Self> {
        let (dims, activation) = (self.router.dims(), self.experts.activation());
        self.shared = Some(SharedExpert {
            mlp: Box::new(Mlp::new(&w.at("shared_expert"), dims, hidden, false, activation)?),
            gate: Some(Linear::new(&w.at("shared_expert_gate"), dims, 1, false)?),
        });
        Ok(self)
    }

    /// Adds an MLP of `hidden` features that sees every token as it is: one expert, or several
    /// together, with the activation of the others.
    pub fn with_shared_mlp(self, w: &Weights, hidden: i32, bias: bool) -> Result<Self> {
        let (dims, activation) = (self.router.dims(), self.experts.activation());
        Ok(self.with_shared(Mlp::new(w, dims, hidden, bias, activation)?))
    }

    /// The same that bounds the logits of its router.
    pub fn with_logit_cap(mut self, cap: f32) -> Self {
        self.router = self.router.with_logit_cap(cap);
        self
    }

    /// Adds an expert that sees every token.
    pub fn with_shared(mut self, expert: impl FeedForward + 'static) -> Self {
        self.shared = Some(SharedExpert { mlp: Box::new(expert), gate: None });
        self
    }

    /// Weighs the chosen experts and the one that sees every token by the soft-max over the two
    /// outputs of this projection (Kwai 2025, "Klear").
    pub fn weighed_by(mut self, coefficients: Linear) -> Self {
        self.coefficients = Some(coefficients);
        self
    }

    /// Lets the experts from this one on give what they get (Jin et al. 2024, "MoE++").
    pub fn with_identities_from(mut self, first: i32) -> Self {
        self.identities = Some(first);
        self
    }

    /// Puts the experts between projections to fewer features and back.
    pub fn within(mut self, down: Linear, up: Linear) -> Self {
        self.latent = Some([down, up]);
        self
    }

    /// The same with a norm of what the experts give, in front of the projection back.
    pub fn with_latent_norm(mut self, norm: Norm) -> Self {
        self.latent_norm = Some(norm);
        self
    }

    /// The same with a norm in front of the experts, behind the projection to fewer features, and
    /// one over what each expert gives.
    pub fn with_expert_norms(mut self, norms: [Norm; 2]) -> Self {
        self.expert_norms = Some(norms);
        self
    }
}

impl FeedForward for Moe {
    fn forward(&self, x: &Input) -> Result<Array> {
        let sum = match &self.latent {
            None if self.is_plain() => {
                let (router, params) = self.router.parts();
                x.moe(self.router.device(), router, params, &self.experts.0)?
            }
            latent => self.mixture(x.array()?, latent.as_ref())?,
        };
        let Some(shared) = &self.shared else { return Ok(sum) };
        let shared = shared.forward(x)?;
        let Some(coefficients) = &self.coefficients else { return ops::add(&sum, &shared) };
        let weights = ops::softmax(&coefficients.forward(x.array()?)?, -1, true)?;
        let weights = ops::split_at(&weights, &[1], -1)?;
        ops::add(&ops::multiply(&sum, &weights[0])?, &ops::multiply(&shared, &weights[1])?)
    }
}

impl Moe {
    /// Whether the experts see what the router sees, and are no more than weighed and added up.
    fn is_plain(&self) -> bool {
        !self.router.weighs_inputs() && self.identities.is_none() && self.expert_norms.is_none()
    }

    /// The mixture where what the experts see is not what the router sees.
    fn mixture(&self, x: &Array, latent: Option<&[Linear; 2]>) -> Result<Array> {
        let [chosen, scores] = self.router.forward(x)?;
        let device = self.router.device();
        if let Some(first) = self.identities {
            let nothing = ops::astype(&scalar(0.0), scores.dtype())?;
            let first = ops::astype(&Array::from_int(first), chosen.dtype())?;
            let is_real = ops::less(&chosen, &first)?;
            let real = ops::select(&is_real, &chosen, &ops::astype(&nothing, chosen.dtype())?)?;
            let weights = ops::select(&is_real, &scores, &nothing)?;
            let sum = self.experts.forward(device, x, &real, &weights)?;
            let kept = ops::sum(&ops::select(&is_real, &nothing, &scores)?, -1)?;
            let kept = ops::multiply(x, &ops::astype(&kept, x.dtype())?)?;
            return ops::add(&sum, &kept);
        }
        let mix = |x: &Array| {
            if self.router.weighs_inputs() {
                let scores = ops::astype(&scores, x.dtype())?;
                let weighted = ops::multiply(x, &scores)?;
                let outputs = expert_outputs(device, &weighted, &chosen, &self.experts.0)?;
                return ops::squeeze(&outputs, -2);
            }
            let Some([before, after]) = &self.expert_norms else {
                return self.experts.forward(device, x, &chosen, &scores);
            };
            let outputs = expert_outputs(device, &before.forward(x)?, &chosen, &self.experts.0)?;
            let normed = after.forward(&outputs)?;
            weighted_sum(&normed, &scores)
        };
        match latent {
            None => mix(x),
            Some([down, up]) => {
                let mixed = mix(&down.forward(x)?)?;
                match &self.latent_norm {
                    Some(norm) => up.forward(&norm.forward(&mixed)?),
                    None => up.forward(&mixed),
                }
            }
        }
    }
}

#[derive(Debug)]
struct SharedExpert {
    mlp: Box<dyn FeedForward>,
    /// Weighs it by the logistic function.
    gate: Option<Linear>,
}

impl SharedExpert {
    fn forward(&self, x: &Input) -> Result<Array> {
        let output = self.mlp.forward(x)?;
        match &self.gate {
            Some(gate) => ops::multiply(&ops::sigmoid(&gate.forward(x.array()?)?)?, &output),
            None => Ok(output),
        }
    }
}

/// MLPs whose weights are stacked, so that one product serves tokens of different experts.
#[derive(Debug)]
pub struct Experts(ExpertsWeights);

impl Experts {
    /// The activation of their gates; SiLU where another function does the work of that.
    fn activation(&self) -> Activation {
        match self.0.hidden {
            Hidden::Gated(_, activation) | Hidden::Plain(_, activation) => activation,
            Hidden::Combined(..) => Activation::Silu,
        }
    }

    /// Experts down(act(gate(x)) · up(x)) of these projections.
    pub fn gated([gate, up, down]: [ExpertLinear; 3], activation: Activation) -> Self {
        Self(ExpertsWeights { hidden: Hidden::Gated([gate, up], activation), down })
    }

    /// Experts down(f(gate(x), up(x))) of these projections.
    pub fn combined([gate, up, down]: [ExpertLinear; 3], combine: Combine) -> Self {
        Self(ExpertsWeights { hidden: Hidden::Combined([gate, up], combine), down })
    }

    /// Experts down(act(up(x))) of these projections.
    pub fn plain([up, down]: [ExpertLinear; 2], activation: Activation) -> Self {
        Self(ExpertsWeights { hidden: Hidden::Plain(up, activation), down })
    }

    /// Takes `gate_up_proj` `[experts, dims, 2 · hidden]`, whose first outputs are those of the
    /// gates, and `down_proj` `[experts, hidden, dims]`: inputs before outputs, as Llama 4 is
    /// published.
    pub fn transposed(w: &Weights, config: MoeConfig) -> Result<Self> {
        Self::transposed_named(w, ["gate_up_proj", "down_proj"], config)
    }

    /// The same by these names.
    pub fn transposed_named(w: &Weights, names: [&str; 2], config: MoeConfig) -> Result<Self> {
        let MoeConfig { dims, hidden, experts, .. } = config;
        let gate_up = w.take_matrix(names[0], &[experts, dims, 2 * hidden])?;
        let down = w.take_matrix(names[1], &[experts, hidden, dims])?;
        let part = |stored: &Array, start: i32, end: i32| -> Result<_> {
            ExpertMatrix::transposed(&ops::slice_axis(stored, 2, start, end)?)
        };
        let matrices = [
            part(&gate_up, 0, hidden)?,
            part(&gate_up, hidden, 2 * hidden)?,
            part(&down, 0, dims)?,
        ];
        let linears = matrices.map(|matrix| ExpertLinear::new(matrix, None));
        let names = ["gate_proj", "up_proj", "down_proj"];
        Ok(Self::gated(Self::adaptable(w, names, config, linears), config.activation))
    }

    /// Takes experts, however they are stored.
    pub fn new(w: &Weights, config: MoeConfig, names: ExpertNames) -> Result<Self> {
        let projections = Self::take(w, config, names)?;
        Ok(Self::gated(projections, config.activation))
    }

    /// The same that are down(f(gate(x), up(x))).
    pub fn combining(
        w: &Weights,
        config: MoeConfig,
        names: ExpertNames,
        combine: Combine,
    ) -> Result<Self> {
        Ok(Self::combined(Self::take(w, config, names)?, combine))
    }

    /// Takes the projections (gate, up, down) of experts that are fused, stacked, or one by one.
    pub(super) fn take(
        w: &Weights,
        config: MoeConfig,
        names: ExpertNames,
    ) -> Result<[ExpertLinear; 3]> {
        let MoeConfig { dims, hidden, experts, .. } = config;
        if Nvfp4Stack::is_at(w, names.fused[0]) {
            let gate_up = Nvfp4Stack::take(w, names.fused[0], [experts, 2 * hidden, dims], 2)?;
            let down = Nvfp4Stack::take(w, names.fused[1], [experts, dims, hidden], 1)?;
            let matrices = [
                gate_up.projection(0, hidden)?,
                gate_up.projection(1, hidden)?,
                down.projection(0, dims)?,
            ];
            let linears = matrices.map(|matrix| ExpertLinear::new(matrix, None));
            return Ok(Self::adaptable(w, names.stacked, config, linears));
        }
        if w.has(names.fused[0]) {
            let gate_up = w.take_matrix(names.fused[0], &[experts, 2 * hidden, dims])?;
            let part = |start| {
                let half = ops::slice_axis(&gate_up, 1, start, start + hidden)?;
                let half = ops::contiguous(&half)?;
                eval(&[&half])?;
                ExpertMatrix::dense(&half)
            };
            let down = w.take_matrix(names.fused[1], &[experts, dims, hidden])?;
            let matrices = [part(0)?, part(hidden)?, ExpertMatrix::dense(&down)?];
            let linears = matrices.map(|matrix| ExpertLinear::new(matrix, None));
            return Ok(Self::adaptable(w, names.stacked, config, linears));
        }
        let linear = |index: usize, inputs: i32, outputs: i32| {
            let names = [names.single[index], names.stacked[index]];
            Self::projection(w, names, inputs, outputs, experts)
        };
        Ok([linear(0, dims, hidden)?, linear(1, dims, hidden)?, linear(2, hidden, dims)?])
    }

    /// `[batch, length, dims]` to the sum of the chosen experts' outputs times their weights;
    /// `chosen` and `scores` are `[batch, length, active]`.
    pub(super) fn forward(
        &self,
        device: Device,
        x: &Array,
        chosen: &Array,
        scores: &Array,
    ) -> Result<Array> {
        moe_mlp(device, x, chosen, scores, &self.0)
    }

    /// Gate, up and down, to which adapters can add by these names.
    pub fn adaptable(
        w: &Weights,
        names: [&str; 3],
        config: MoeConfig,
        [gate, up, down]: [ExpertLinear; 3],
    ) -> [ExpertLinear; 3] {
        let MoeConfig { dims, hidden, experts, .. } = config;
        let site = |name: &str, sizes| w.at(name).expert_site(experts, sizes);
        [
            gate.with_additions(site(names[0], [dims, hidden])),
            up.with_additions(site(names[1], [dims, hidden])),
            down.with_additions(site(names[2], [hidden, dims])),
        ]
    }

    /// Takes a projection of all experts, one by one below `experts.N` or stacked, by its names,
    /// and its biases, where there are any.
    pub fn projection(
        w: &Weights,
        [single, stacked]: [&str; 2],
        inputs: i32,
        outputs: i32,
        experts: i32,
    ) -> Result<ExpertLinear> {
        let single = |expert| w.at("experts").at(expert).at(single);
        let matrix = ExpertMatrix::new(&w.at(stacked), single, inputs, outputs, experts)?;
        let bias = if w.at(stacked).has("bias") {
            Some(w.at(stacked).take("bias", &[experts, outputs])?)
        } else if single(0).has("bias") {
            let rows = (0..experts).map(|expert| single(expert).take("bias", &[outputs]));
            Some(stack(&rows.collect::<Result<Vec<_>>>()?)?)
        } else {
            None
        };
        let additions = w.at(stacked).expert_site(experts, [inputs, outputs]);
        Ok(ExpertLinear::new(matrix, bias).with_additions(additions))
    }
}
