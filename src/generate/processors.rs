//! What changes the logits before a token is drawn, in mlx-lm's order: logit bias, repetition,
//! presence, frequency.

use std::sync::Arc;

use crate::error::Result;
use crate::fused::Device;
pub use crate::fused::sampling::{Penalties, WHOLE_ANSWER};
use crate::fused::sampling::{PenaltyInputs, penalize};
use crate::mlx::{Array, Dtype, from_f32, from_u32, ops};

/// How many of the last tokens penalties look at.
fn context(penalties: &Penalties) -> usize {
    [
        (penalties.repetition != 1.0, penalties.repetition_context),
        (penalties.presence != 0.0, penalties.presence_context),
        (penalties.frequency != 0.0, penalties.frequency_context),
    ]
    .into_iter()
    .filter_map(|(active, context)| active.then_some(context))
    .max()
    .unwrap_or(0)
}

/// Applies penalties, keeping the last tokens on the device so that no token is waited for.
#[derive(Debug, Clone)]
pub struct Processors {
    penalties: Arc<Penalties>,
    bias: Option<(Array, Array)>,
    /// The last tokens, `[1, ≤ context_size]`, if a penalty needs them and there are any.
    recent: Option<Array>,
    device: Device,
}

impl Processors {
    /// Penalties for a sequence that begins with `prompt`.
    pub fn new(penalties: Penalties, prompt: &[u32], device: Device) -> Self {
        let bias = (!penalties.logit_bias.is_empty()).then(|| {
            let (tokens, values): (Vec<u32>, Vec<f32>) =
                penalties.logit_bias.iter().copied().unzip();
            let shape = [1, tokens.len() as i32];
            (from_u32(&tokens, &shape), from_f32(&values, &shape))
        });
        let mut processors = Self { penalties: Arc::new(penalties), bias, recent: None, device };
        processors.restart(prompt, &[]);
        processors
    }

    /// Forgets what was drawn; from here on, it is `answer`, after `prompt`.
    pub fn restart(&mut self, prompt: &[u32], answer: &[u32]) {
        let context = context(&self.penalties);
        let of_prompt = match context {
            WHOLE_ANSWER => 0,
            _ => context.saturating_sub(answer.len()).min(prompt.len()),
        };
        let mut seen = prompt[prompt.len() - of_prompt..].to_vec();
        seen.extend(&answer[answer.len().saturating_sub(context)..]);
        self.recent = (!seen.is_empty()).then(|| from_u32(&seen, &[1, seen.len() as i32]));
    }

    /// Whether there is anything to do.
    pub fn is_empty(&self) -> bool {
        self.bias.is_none() && context(&self.penalties) == 0
    }

    /// The processed logits, `[1, vocabulary]`.
    pub fn apply(&self, logits: &Array) -> Result<Array> {
        // Penalties are `f32`; half-precision logits would lose their last bits with them anyway.
        let logits = ops::astype(logits, Dtype::Float32)?;
        let inputs = PenaltyInputs {
            penalties: &self.penalties,
            bias: self.bias.as_ref(),
            recent: self.recent.as_ref(),
        };
        penalize(self.device, &logits, &inputs)
    }

    /// Notes the token that was drawn, `[1]`, which may not be computed yet.
    pub fn push(&mut self, token: &Array) -> Result<()> {
        let context = context(&self.penalties);
        if context == 0 {
            return Ok(());
        }
        let token = ops::reshape(token, &[1, 1])?;
        let Some(recent) = &self.recent else {
            self.recent = Some(token);
            return Ok(());
        };
        let all = ops::concatenate(&[recent, &token], 1)?;
        let surplus = all.dim(1) - i32::try_from(context).unwrap_or(i32::MAX);
        self.recent = Some(match surplus > 0 {
            true => ops::slice_axis(&all, 1, surplus, all.dim(1))?,
            false => all,
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fused::Precision;
    use crate::mlx::{self, DeviceKind, to_f32_vec};

    #[test]
    fn the_whole_answer_counts_and_nothing_of_the_prompt() {
        mlx::enter(DeviceKind::Cpu).unwrap();
        let device = Device::cpu(None, Precision::Exact);
        for device in [device, device.plain()] {
            let penalties = Penalties {
                presence: 1.0,
                presence_context: WHOLE_ANSWER,
                frequency: 0.5,
                frequency_context: WHOLE_ANSWER,
                ..Penalties::default()
            };
            let mut processors = Processors::new(penalties, &[0, 1, 2], device);
            assert!(!processors.is_empty());
            let logits = from_f32(&[5.0; 4], &[1, 4]);
            let before = to_f32_vec(&processors.apply(&logits).unwrap()).unwrap();
            assert_eq!(before, [5.0; 4]);
            for _ in 0..40 {
                processors.push(&from_u32(&[3], &[1])).unwrap();
            }
            let after = to_f32_vec(&processors.apply(&logits).unwrap()).unwrap();
            assert_eq!(after, [5.0, 5.0, 5.0, 5.0 - 1.0 - 40.0 * 0.5]);
        }
    }

    #[test]
    fn what_was_drawn_can_be_told_anew() {
        mlx::enter(DeviceKind::Cpu).unwrap();
        let device = Device::cpu(None, Precision::Exact);
        let (prompt, answer) = ([0, 1, 2, 3], [4, 5, 6]);
        for context in [0, 1, 3, 5, 7, 100, WHOLE_ANSWER] {
            let presence = f32::from(u8::from(context > 0));
            let penalties =
                Penalties { presence, presence_context: context, ..Penalties::default() };
            let mut told = Processors::new(penalties, &prompt, device);
            for token in answer {
                told.push(&from_u32(&[token], &[1])).unwrap();
            }
            let expected = told.recent.as_ref().map(|tokens| mlx::to_u32_vec(tokens).unwrap());
            told.restart(&prompt, &answer);
            let restarted = told.recent.map(|tokens| mlx::to_u32_vec(&tokens).unwrap());
            assert_eq!(restarted, expected, "{context}");
        }
    }
}
