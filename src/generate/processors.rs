//! What changes the logits before a token is drawn, in mlx-lm's order: logit bias, repetition,
//! presence, frequency.

use std::sync::Arc;

pub use crate::cpu::sampling::Penalties;
use crate::error::{Error, Result};
use crate::mlx::{Array, Dtype, from_f32, from_u32, ops, sampling, scalar};

impl Penalties {
    /// How many of the last tokens have to be remembered.
    fn context(&self) -> usize {
        [
            (self.repetition != 1.0, self.repetition_context),
            (self.presence != 0.0, self.presence_context),
            (self.frequency != 0.0, self.frequency_context),
        ]
        .into_iter()
        .filter_map(|(active, context)| active.then_some(context))
        .max()
        .unwrap_or(0)
    }
}

/// Applies penalties, keeping the last tokens on the device so that no token is waited for.
#[derive(Debug, Clone)]
pub struct Processors {
    penalties: Arc<Penalties>,
    bias: Option<(Array, Array)>,
    /// The last tokens, `[1, ≤ context_size]`, if a penalty needs them.
    recent: Option<Array>,
}

impl Processors {
    /// Penalties for a sequence that begins with `prompt`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a penalty out of range.
    pub fn new(penalties: Penalties, prompt: &[u32], vocabulary: usize) -> Result<Self> {
        if !(penalties.repetition > 0.0 && penalties.repetition.is_finite()) {
            let message = format!("{} is not above 0", penalties.repetition);
            return Err(Error::argument("repetitionPenalty", message));
        }
        let finite =
            [("presencePenalty", penalties.presence), ("frequencyPenalty", penalties.frequency)];
        for (option, value) in finite {
            if !value.is_finite() {
                return Err(Error::argument(option, format!("{value} is not a finite number")));
            }
        }
        for (token, _) in &penalties.logit_bias {
            if *token as usize >= vocabulary {
                let message = format!("token {token} is beyond the vocabulary of {vocabulary}");
                return Err(Error::argument("logitBias", message));
            }
        }
        let bias = (!penalties.logit_bias.is_empty()).then(|| {
            let (tokens, values): (Vec<u32>, Vec<f32>) =
                penalties.logit_bias.iter().copied().unzip();
            let shape = [1, tokens.len() as i32];
            (from_u32(&tokens, &shape), from_f32(&values, &shape))
        });
        let context = penalties.context();
        let recent = (context > 0).then(|| {
            let recent = &prompt[prompt.len().saturating_sub(context)..];
            from_u32(recent, &[1, recent.len() as i32])
        });
        Ok(Self { penalties: Arc::new(penalties), bias, recent })
    }

    /// Whether there is anything to do.
    pub fn is_empty(&self) -> bool {
        self.bias.is_none() && self.recent.is_none()
    }

    /// The processed logits, `[1, vocabulary]`.
    pub fn apply(&self, logits: &Array) -> Result<Array> {
        // Penalties are `f32`; half-precision logits would lose their last bits with them anyway.
        let logits = ops::astype(logits, Dtype::Float32)?;
        match sampling::penalize(&logits, self.recent.as_ref(), &self.penalties)? {
            Some(penalized) => Ok(penalized),
            None => self.apply_by_operations(logits),
        }
    }

    /// [`Processors::apply`] where there is no kernel for it.
    pub(super) fn apply_by_operations(&self, mut logits: Array) -> Result<Array> {
        if let Some((tokens, values)) = &self.bias {
            logits = ops::scatter_add(&logits, tokens, values, -1)?;
        }
        let penalties = &self.penalties;
        if penalties.repetition != 1.0
            && let Some(recent) = self.last(penalties.repetition_context)?
        {
            let seen = ops::take_along(&logits, &recent, -1)?;
            let penalty = scalar(penalties.repetition);
            let penalized = ops::select(
                &ops::less(&seen, &scalar(0.0))?,
                &ops::multiply(&seen, &penalty)?,
                &ops::divide(&seen, &penalty)?,
            )?;
            logits = ops::put_along(&logits, &recent, &penalized, -1)?;
        }
        if penalties.presence != 0.0
            && let Some(recent) = self.last(penalties.presence_context)?
        {
            let seen = ops::take_along(&logits, &recent, -1)?;
            let penalized = ops::subtract(&seen, &scalar(penalties.presence))?;
            logits = ops::put_along(&logits, &recent, &penalized, -1)?;
        }
        if penalties.frequency != 0.0
            && let Some(recent) = self.last(penalties.frequency_context)?
        {
            let minus = ops::broadcast_to(&scalar(-penalties.frequency), recent.shape())?;
            logits = ops::scatter_add(&logits, &recent, &minus, -1)?;
        }
        Ok(logits)
    }

    /// The last `context` tokens, `[1, ≤ context]`; `None` where there are none.
    fn last(&self, context: usize) -> Result<Option<Array>> {
        let Some(recent) = self.recent.as_ref().filter(|recent| recent.size() > 0) else {
            return Ok(None);
        };
        let length = recent.dim(1);
        let context = i32::try_from(context).unwrap_or(i32::MAX);
        if context == 0 {
            Ok(None)
        } else if context < length {
            ops::slice_axis(recent, 1, length - context, length).map(Some)
        } else {
            Ok(Some(recent.clone()))
        }
    }

    /// Notes the token that was drawn, `[1]`, which may not be computed yet.
    pub fn push(&mut self, token: &Array) -> Result<()> {
        if let Some(recent) = &self.recent {
            let all = ops::concatenate(&[recent, &ops::reshape(token, &[1, 1])?], 1)?;
            let surplus = all.dim(1) - i32::try_from(self.penalties.context()).unwrap_or(i32::MAX);
            self.recent = Some(if surplus > 0 {
                ops::slice_axis(&all, 1, surplus, all.dim(1))?
            } else {
                all
            });
        }
        Ok(())
    }
}
