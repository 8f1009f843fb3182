//! Products of rows with a matrix on an NVIDIA card where the memory that holds the matrix counts,
//! and what can be done on the way: what is added to the rows and their norm before, a gated
//! activation after; and the same with the matrices of the experts that were chosen for each row.

use super::many_rows::ManyRows;
use super::norm::add_norm;
use super::product::{ExpertAxis, Operand, Product, gated};
use super::router::Choice;
use crate::error::Result;
use crate::fused::activation::Activation;
use crate::fused::norm::AddRmsNorm;
use crate::fused::router::RouterParams;
use crate::mlx::gpu::Card;
use crate::mlx::quantized::QuantizedTensor;
use crate::mlx::{Array, Dtype};

/// The most rows that are multiplied with experts one by one.
const MOST_ROWS_OF_EXPERTS: usize = 16;

/// The most experts of a row.
const MOST_ACTIVE: i32 = 32;

/// x · wᵀ, or with an activation act(x · gateᵀ) · (x · upᵀ) for a matrix that holds the gate's
/// outputs and then as many of up.
pub fn matmul(
    card: Card,
    x: &Array,
    matrix: Operand,
    activation: Option<Activation>,
) -> Result<Option<Array>> {
    let (Some(product), Some(gated)) = (Product::of(x, matrix), gated(activation)) else {
        return Ok(None);
    };
    let product = Product { gated, ..product };
    if let Some(many) = ManyRows::of(&card, &product) {
        return many.run(x, matrix).map(Some);
    }
    if !product.has_few_rows() {
        return Ok(None);
    }
    let inputs: Vec<_> = [x].into_iter().chain(matrix.arrays()).collect();
    Ok(product.run(&card, x, &inputs, None, None)?.map(|mut arrays| arrays.swap_remove(0)))
}

/// x + delta, and [`matmul`] of its norm.
pub fn norm_matmul(
    card: Card,
    rows: &AddRmsNorm,
    matrix: Operand,
    activation: Option<Activation>,
) -> Result<Option<(Array, Array)>> {
    let AddRmsNorm { x, delta, weight, eps } = *rows;
    let (Some(product), Some(gated)) = (Product::of(x, matrix), gated(activation)) else {
        return Ok(None);
    };
    if weight.is_some_and(|weight| weight.dtype() != x.dtype()) {
        return Ok(None);
    }
    if let Some(many) = ManyRows::of(&card, &Product { gated, ..product })
        && let Some([sum, normed]) = add_norm(rows)?
    {
        return Ok(Some((sum, many.run(&normed, matrix)?)));
    }
    if !product.has_few_rows() {
        return Ok(None);
    }
    let product = Product {
        gated,
        norm: if delta.is_some() { 2 } else { 1 },
        norm_weight: weight.is_some(),
        ..product
    };
    let inputs: Vec<_> =
        [x].into_iter().chain(delta).chain(weight).chain(matrix.arrays()).collect();
    let Some(mut arrays) = product.run(&card, x, &inputs, Some(eps), None)? else {
        return Ok(None);
    };
    let sum = if delta.is_some() { arrays.swap_remove(1) } else { x.clone() };
    Ok(Some((sum, arrays.swap_remove(0))))
}

/// The two products of gated experts: to hidden features, those of a row's experts one after the
/// other, and back, added up.
struct Moe<'a> {
    gate_up: Product,
    down: Product,
    /// Gate, up and down.
    matrices: [&'a QuantizedTensor; 3],
}

impl<'a> Moe<'a> {
    /// `None` for experts that the kernels do not have.
    fn of(
        card: &Card,
        x: &Array,
        active: i32,
        matrices: [&'a QuantizedTensor; 3],
        activation: Activation,
    ) -> Option<Self> {
        let [gate, up, down] = matrices;
        let dims = x.dim(-1);
        let (rows, hidden) = (x.size() / dims.max(1) as usize, gate.weight.dim(-2));
        let fits = (1..=MOST_ACTIVE).contains(&active)
            && rows <= MOST_ROWS_OF_EXPERTS
            && gate.params == up.params
            && matrices.iter().all(|matrix| matrix.weight.ndim() == 3);
        let product = |matrix: &QuantizedTensor, inputs: i32, outputs, axis| {
            let matrix = Operand::Quantized(matrix);
            let product = Product::with(x, matrix, rows, inputs as usize, outputs)?;
            Some(product.of_experts(axis, active as usize))
        };
        let gate_up = product(gate, dims, active.checked_mul(hidden)?, ExpertAxis::Outputs)?;
        let gate_up = Product { gated: gated(Some(activation))?, ..gate_up };
        let down = product(down, hidden, dims, ExpertAxis::Inputs)?;
        let fits = fits && gate_up.shape(card).is_some() && down.shape(card).is_some();
        fits.then_some(Self { gate_up, down, matrices })
    }

    /// Arguments of the first product behind `first`.
    fn inputs<'b>(&self, first: &[&'b Array]) -> Vec<&'b Array>
    where
        'a: 'b,
    {
        let [gate, up, _] = self.matrices;
        first.iter().copied().chain(gate.arrays()).chain(up.arrays()).collect()
    }

    /// The outputs, added up, of hidden features `[…, active · hidden]`, which are weighed.
    fn down(&self, card: &Card, hidden: &Array, chosen: &Array) -> Result<Option<Array>> {
        let [.., down] = self.matrices;
        let inputs: Vec<_> = [hidden, chosen].into_iter().chain(down.arrays()).collect();
        let arrays = self.down.run(card, hidden, &inputs, None, None)?;
        Ok(arrays.map(|mut arrays| arrays.swap_remove(0)))
    }
}

/// The sum of the chosen experts' outputs times their weights: `x` is `[…, dims]`, the choice and
/// the weights `[…, active]`; `matrices` are gate, up and down.
pub fn moe_mlp(
    card: Card,
    x: &Array,
    chosen: &Array,
    weights: &Array,
    matrices: [&QuantizedTensor; 3],
    activation: Activation,
) -> Result<Option<Array>> {
    let fits = chosen.dtype() == Dtype::Uint32 && weights.dtype() == Dtype::Float32;
    let (true, Some(moe)) = (fits, Moe::of(&card, x, chosen.dim(-1), matrices, activation)) else {
        return Ok(None);
    };
    let inputs = moe.inputs(&[x, chosen, weights]);
    let Some(mut hidden) = moe.gate_up.run(&card, x, &inputs, None, None)? else {
        return Ok(None);
    };
    moe.down(&card, &hidden.swap_remove(0), chosen)
}

/// x + delta, and [`moe_mlp`] of its norm, from which `router` chooses.
pub fn norm_moe_mlp(
    card: Card,
    rows: &AddRmsNorm,
    router: Operand,
    params: &RouterParams,
    matrices: [&QuantizedTensor; 3],
    activation: Activation,
) -> Result<Option<(Array, Array)>> {
    let AddRmsNorm { x, weight, eps, .. } = *rows;
    let Some(choice) = Choice::of(params) else { return Ok(None) };
    let Some(moe) = Moe::of(&card, x, choice.active(), matrices, activation) else {
        return Ok(None);
    };
    let Some((sum, logits)) = norm_matmul(card, rows, router, None)? else { return Ok(None) };
    let gate_up = Product { norm: 1, norm_weight: weight.is_some(), ..moe.gate_up };
    let first: Vec<_> =
        [&sum].into_iter().chain(weight).chain([&logits]).chain(choice.correction()).collect();
    let inputs = moe.inputs(&first);
    let Some(mut arrays) = gate_up.run(&card, &sum, &inputs, Some(eps), Some(&choice))? else {
        return Ok(None);
    };
    let chosen = arrays.swap_remove(1);
    let output = moe.down(&card, &arrays.swap_remove(0), &chosen)?;
    Ok(output.map(|output| (sum, output)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::fused::cuda::tests::{every_format, quantized, zeros};
    use crate::mlx::quantized::{Mode, QuantizationParams};
    use crate::mlx::{DeviceKind, enter};

    #[test]
    fn few_rows_of_every_format_find_a_shape_that_fits() {
        enter(DeviceKind::Cpu).unwrap();
        let card = Card::h100();
        for params in every_format() {
            for dtype in [Dtype::Bfloat16, Dtype::Float16, Dtype::Float32] {
                let matrix = quantized(&[6144, 4096], params, dtype);
                let most = if params.bits > 6 { 16 } else { 32 };
                for rows in (1..=16).chain([most - 1, most]) {
                    let x = zeros(&[1, rows, 4096], dtype);
                    let product = Product::of(&x, Operand::Quantized(&matrix)).unwrap();
                    for norm in [0, 2] {
                        let product = Product { norm, ..product };
                        let Some(shape) = product.shape(&card) else {
                            // 16 columns of all inputs, and chunks of 8 bits beside them.
                            assert!(rows > 2, "{params:?} {dtype:?} {rows}");
                            continue;
                        };
                        assert!(product.shared_memory(shape) <= product.room(shape, &card));
                        assert!(shape.blocks * product.room(shape, &card) <= 228 * 1024);
                    }
                }
            }
        }
    }

    #[test]
    fn what_the_kernels_do_not_take_is_left_to_mlx() {
        enter(DeviceKind::Cpu).unwrap();
        let params = QuantizationParams { mode: Mode::Affine, group_size: 64, bits: 4 };
        let matrix = quantized(&[64, 512], params, Dtype::Bfloat16);
        let takes = |shape: &[i32], dtype| {
            Product::of(&zeros(shape, dtype), Operand::Quantized(&matrix))
                .is_some_and(|product| product.has_few_rows())
        };
        assert!(takes(&[4, 4, 512], Dtype::Bfloat16));
        // Many rows, none, scales of another type, and other inputs.
        assert!(!takes(&[33, 512], Dtype::Bfloat16));
        assert!(!takes(&[0, 512], Dtype::Bfloat16));
        assert!(!takes(&[1, 512], Dtype::Float16));
        assert!(!takes(&[1, 256], Dtype::Bfloat16));
        let x = zeros(&[1, 512], Dtype::Float32);
        let dense = zeros(&[64, 512], Dtype::Float32);
        assert!(Product::of(&x, Operand::Dense(&dense)).is_none());
        // Rows of codes that are no whole number of 16 bytes, and one scale in a row.
        let odd = QuantizationParams { bits: 3, ..params };
        let x = zeros(&[1, 64], Dtype::Bfloat16);
        for params in [odd, params] {
            let matrix = quantized(&[8, 64], params, Dtype::Bfloat16);
            assert!(Product::of(&x, Operand::Quantized(&matrix)).is_none());
        }
    }
}
