//! The model's own head that predicts more tokens than the next ([`MultiTokenPredictor`]), for all
//! sequences at once.

use super::draft::{DraftChooser, NEAR};
use crate::cache::{Cache, CacheLimits};
use crate::error::Result;
use crate::mlx::primitive::Failure;
use crate::mlx::{self, Array, ops};
use crate::models::MultiTokenPredictor;
use crate::nn::{Step, StepRow};

/// So many hidden states wait for a draft before they are read without one.
const MOST_UNREAD: usize = 64;

/// So many hidden states may be missing between what a sequence has left and what the next one
/// reads: that of the last position, whose token behind differs, and that of a last token that was
/// not waited for.
const MOST_MISSING: usize = 2;

/// A sequence as the head sees it.
#[derive(Debug)]
pub struct HeadSequence {
    /// What the caches are before anything is read.
    empty: Vec<Cache>,
    caches: Vec<Cache>,
    /// The first position whose hidden state it has not read.
    next: usize,
    /// The hidden states from there on, `[1, length, dims]` each.
    states: Vec<Array>,
}

/// Hidden states of a step.
#[derive(Debug)]
pub struct StepStates {
    /// The position of the first one.
    pub first: usize,
    /// `[1, length, dims]`.
    pub states: Array,
}

/// What is to be drafted for a sequence.
#[derive(Debug)]
pub struct HeadRow<'a> {
    /// What the head knows of it.
    pub sequence: &'a mut HeadSequence,
    /// What is certain.
    pub tokens: &'a [u32],
    /// How its tokens are drawn.
    pub chooser: DraftChooser,
    /// The most tokens to draft; 0 only reads.
    pub count: usize,
    /// What was drafted.
    pub drafted: Vec<u32>,
}

impl HeadSequence {
    /// A sequence of which nothing was read.
    pub fn new(predictor: &dyn MultiTokenPredictor, limits: &CacheLimits) -> Self {
        let caches = predictor.make_prediction_caches().into_iter();
        let empty: Vec<Cache> = caches.map(|cache| cache.limited(limits)).collect();
        Self { caches: empty.clone(), empty, next: 0, states: Vec::new() }
    }

    /// The same that goes on from `caches`, which hold so many positions.
    pub fn behind(self, caches: Vec<Cache>, positions: usize) -> Self {
        Self { caches, next: positions, ..self }
    }

    /// How many tokens it has read, one more than the positions in its caches, and these; `None`
    /// where its text began later than the sequence's.
    pub fn into_caches(self) -> Option<(usize, Vec<Cache>)> {
        let is_whole = self.caches.iter().all(|cache| cache.offset() as usize == self.next);
        is_whole.then_some((self.next + 1, self.caches))
    }

    fn unread(&self) -> usize {
        self.states.iter().map(|states| states.dim(1) as usize).sum()
    }

    /// Whether it is to read though nothing is drafted.
    pub fn is_behind(&self) -> bool {
        self.unread() > MOST_UNREAD
    }

    /// Takes the first `count` hidden states of a step. Where those before them are not known,
    /// because their positions were in the caches, its text begins with them. The last ones behind
    /// what a sequence before has left are zeros instead, so that the others keep their places.
    pub fn take(&mut self, step: &StepStates, count: usize) -> Result<()> {
        match step.first.saturating_sub(self.next + self.unread()) {
            0 => {}
            missing @ 1..=MOST_MISSING if self.next > 0 => {
                let shape = [1, missing as i32, step.states.dim(2)];
                self.states.push(ops::zeros(&shape, step.states.dtype())?);
            }
            _ => {
                self.forget();
                self.next = step.first;
            }
        }
        let known = self.next + self.unread() - step.first;
        if known < count {
            self.states.push(ops::slice_axis(&step.states, 1, known as i32, count as i32)?);
        }
        Ok(())
    }

    /// Forgets everything.
    pub fn forget(&mut self) {
        self.caches.clone_from(&self.empty);
        self.states.clear();
        self.next = 0;
    }
}

impl HeadRow<'_> {
    /// How many hidden states it reads. The last one makes a draft, and waits for that.
    fn length(&self) -> usize {
        self.sequence.unread() - usize::from(self.count == 0).min(self.sequence.unread())
    }

    /// Whether it has read nearly all that is certain.
    pub fn is_near(&self) -> bool {
        self.sequence.unread() <= NEAR
    }

    /// What takes back what goes into its caches from now on.
    fn kept(&self) -> Kept {
        let caches = &self.sequence.caches;
        let mut parts = caches.iter().flat_map(Cache::parts);
        match parts.any(|cache| matches!(cache, Cache::Rotating(_))) {
            true => Kept::Windows(caches.clone()),
            false => Kept::Lengths(caches.iter().map(Cache::offset).collect()),
        }
    }

    /// Draws a drafted token by the head's logits `[1, 1, vocabulary]`.
    fn choose(&mut self, logits: &Array, number: usize) -> Result<Array> {
        self.chooser.choose(ops::reshape(logits, &[1, logits.dim(-1)])?, number)
    }
}

/// Lets the head read what is known of `rows`, and draft.
pub fn draft(predictor: &dyn MultiTokenPredictor, rows: &mut [HeadRow]) -> Result<()> {
    let failure = Failure::default();
    failure.scope(|| run(predictor, rows))?;
    failure.check()
}

/// What caches were before tokens were drafted.
enum Kept {
    Lengths(Vec<i32>),
    /// A window cannot take back what has overwritten its oldest position.
    Windows(Vec<Cache>),
}

/// The last drafted token of a row, `[1]`, and the head's hidden state for it, `[1, 1, dims]`.
struct Last {
    row: usize,
    token: Array,
    state: Array,
}

fn run(predictor: &dyn MultiTokenPredictor, rows: &mut [HeadRow]) -> Result<()> {
    let mut rows: Vec<_> = rows.iter_mut().filter(|row| row.length() > 0).collect();
    if rows.is_empty() {
        return Ok(());
    }
    let mut last = read(predictor, &mut rows)?;
    let kept: Vec<_> = rows.iter().map(|row| row.kept()).collect();
    let mut drafted: Vec<Vec<Array>> = rows.iter().map(|_| Vec::new()).collect();
    for number in 1.. {
        last.iter().for_each(|last| drafted[last.row].push(last.token.clone()));
        last.retain(|last| rows[last.row].count > number);
        if last.is_empty() {
            break;
        }
        let tokens = ops::concatenate(&last.iter().map(|it| &it.token).collect::<Vec<_>>(), 0)?;
        let tokens = ops::reshape(&tokens, &[1, tokens.dim(0)])?;
        let states = ops::concatenate(&last.iter().map(|it| &it.state).collect::<Vec<_>>(), 1)?;
        let active = rows.iter_mut().enumerate();
        let active = active.filter(|(row, _)| last.iter().any(|last| last.row == *row));
        let mut caches: Vec<_> = active.map(|(_, row)| &mut *row.sequence.caches).collect();
        let [logits, states] = predictor.predict(&Step::decode(&tokens), &states, &mut caches)?;
        for (at, last) in (0..).zip(&mut last) {
            let logits = ops::slice_axis(&logits, 1, at, at + 1)?;
            last.token = rows[last.row].choose(&logits, number)?;
            last.state = ops::slice_axis(&states, 1, at, at + 1)?;
        }
    }
    let caches = rows.iter().flat_map(|row| &row.sequence.caches).flat_map(Cache::arrays);
    mlx::eval(&drafted.iter().flatten().chain(caches).collect::<Vec<_>>())?;
    for ((row, drafted), kept) in rows.iter_mut().zip(&drafted).zip(kept) {
        row.drafted = drafted.iter().map(mlx::item_u32).collect::<Result<_>>()?;
        // The states of positions that were only predicted are not those of the model.
        let caches = &mut row.sequence.caches;
        match kept {
            Kept::Windows(before) => *caches = before,
            Kept::Lengths(lengths) => {
                if !caches.iter_mut().zip(lengths).all(|(cache, length)| cache.rewind(length)) {
                    row.sequence.forget();
                }
            }
        }
    }
    Ok(())
}

/// Lets each of `rows` read; gives the first drafted tokens of those that draft.
fn read(predictor: &dyn MultiTokenPredictor, rows: &mut [&mut HeadRow]) -> Result<Vec<Last>> {
    let (mut tokens, mut states, mut lengths) = (Vec::new(), Vec::new(), Vec::new());
    for row in rows.iter_mut() {
        let (length, sequence) = (row.length(), &mut *row.sequence);
        let own = ops::concatenate(&sequence.states.iter().collect::<Vec<_>>(), 1)?;
        let rest = ops::slice_axis(&own, 1, length as i32, own.dim(1))?;
        states.push(ops::slice_axis(&own, 1, 0, length as i32)?);
        sequence.states = if rest.dim(1) > 0 { vec![rest] } else { Vec::new() };
        tokens.extend(&row.tokens[sequence.next + 1..=sequence.next + length]);
        sequence.next += length;
        lengths.push(StepRow { length: length as i32, logits: i32::from(row.count > 0) });
    }
    let tokens = mlx::from_u32(&tokens, &[1, tokens.len() as i32]);
    let states = ops::concatenate(&states.iter().collect::<Vec<_>>(), 1)?;
    let mut caches: Vec<_> = rows.iter_mut().map(|row| &mut *row.sequence.caches).collect();
    let [logits, states] =
        predictor.predict(&Step::new(&tokens, lengths)?, &states, &mut caches)?;
    let drafting = rows.iter_mut().enumerate().filter(|(_, row)| row.count > 0);
    drafting
        .zip(0..)
        .map(|((index, row), at)| {
            let logits = ops::slice_axis(&logits, 1, at, at + 1)?;
            let state = ops::slice_axis(&states, 1, at, at + 1)?;
            Ok(Last { row: index, token: row.choose(&logits, 0)?, state })
        })
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::error::Error;
    use crate::fused::Device;
    use crate::generate::sampler::{Sampler, SamplingOptions};
    use crate::mlx::DeviceKind;

    const VOCABULARY: i32 = 256;

    /// A head for texts whose tokens count on from 7, and whose hidden states are their positions.
    #[derive(Default)]
    struct Counting {
        /// The positions of each step, row by row.
        read: RefCell<Vec<Vec<u32>>>,
    }

    impl MultiTokenPredictor for Counting {
        fn forward_with_states(&self, _: &Step, _: &mut [&mut [Cache]]) -> Result<[Array; 2]> {
            Err(Error::Unsupported("only the head is asked".to_owned()))
        }

        fn predict(
            &self,
            step: &Step,
            states: &Array,
            caches: &mut [&mut [Cache]],
        ) -> Result<[Array; 2]> {
            let tokens = mlx::to_u32_vec(step.tokens())?;
            let states: Vec<u32> =
                mlx::to_f32_vec(states)?.into_iter().map(|state| state as u32).collect();
            let behind: Vec<u32> = states.iter().map(|position| position + 8).collect();
            assert_eq!(tokens, behind, "a token is not the one behind its hidden state");
            let (mut end, mut logits, mut own) = (0, Vec::new(), Vec::new());
            for (row, caches) in step.rows().iter().zip(caches) {
                let keys = vec![0.0; 64 * row.length as usize];
                let keys = mlx::from_f32(&keys, &[1, 1, row.length, 64]);
                caches[0].update(&keys, &keys)?;
                end += row.length as usize;
                for &token in &tokens[end - row.logits as usize..end] {
                    let best = |it| f32::from(u8::from(it == token + 1));
                    logits.extend((0..VOCABULARY as u32).map(best));
                    own.push((token - 7) as f32);
                }
            }
            self.read.borrow_mut().push(states);
            let wanted = own.len() as i32;
            Ok([
                mlx::from_f32(&logits, &[1, wanted, VOCABULARY]),
                mlx::from_f32(&own, &[1, wanted, 1]),
            ])
        }

        fn make_prediction_caches(&self) -> Vec<Cache> {
            vec![Cache::standard()]
        }
    }

    /// The hidden states of positions `from..to`.
    fn states(from: usize, to: usize) -> StepStates {
        let values: Vec<f32> = (from..to).map(|position| position as f32).collect();
        StepStates { first: from, states: mlx::from_f32(&values, &[1, values.len() as i32, 1]) }
    }

    /// What is drafted behind `known` tokens, and the positions of all steps that it takes.
    fn drafted(
        head: &Counting,
        sequences: &mut [(&mut HeadSequence, usize, usize)],
    ) -> (Vec<Vec<u32>>, Vec<Vec<u32>>) {
        let text: Vec<u32> = (7..VOCABULARY as u32).collect();
        let mut rows: Vec<_> = sequences
            .iter_mut()
            .map(|(sequence, known, count)| HeadRow {
                sequence,
                tokens: &text[..*known],
                chooser: DraftChooser {
                    sampler: Sampler::new(
                        SamplingOptions { temperature: 0.0, ..SamplingOptions::default() },
                        0,
                        Device::default(),
                    ),
                    processors: None,
                    index: 0,
                },
                count: *count,
                drafted: Vec::new(),
            })
            .collect();
        draft(head, &mut rows).unwrap();
        let drafted = rows.into_iter().map(|row| row.drafted).collect();
        (drafted, head.read.take())
    }

    fn begin() -> (Counting, HeadSequence) {
        mlx::enter(DeviceKind::Cpu).unwrap();
        let head = Counting::default();
        let sequence = HeadSequence::new(&head, &CacheLimits::default());
        (head, sequence)
    }

    #[test]
    fn it_reads_each_position_once_and_drafts_behind_the_last() {
        let (head, mut sequence) = begin();
        sequence.take(&states(0, 5), 5).unwrap();
        let (tokens, read) = drafted(&head, &mut [(&mut sequence, 6, 0)]);
        assert_eq!((&*tokens, &*read), (&[vec![]][..], &[vec![0, 1, 2, 3]][..]));
        let (tokens, read) = drafted(&head, &mut [(&mut sequence, 6, 3)]);
        assert_eq!((&*tokens, &*read), (&[vec![13, 14, 15]][..], &[vec![4], vec![5], vec![6]][..]));
        // Two of the three were right, and all are read again, as states want it.
        sequence.take(&states(5, 9), 3).unwrap();
        sequence.take(&states(7, 9), 2).unwrap();
        let (tokens, read) = drafted(&head, &mut [(&mut sequence, 10, 1)]);
        assert_eq!((&*tokens, &*read), (&[vec![17]][..], &[vec![5, 6, 7, 8]][..]));
        assert_eq!(sequence.caches[0].offset(), 9);
        let (tokens, read) = drafted(&head, &mut [(&mut sequence, 10, 2)]);
        assert_eq!((&*tokens, &*read), (&[vec![]][..], &[][..]), "nothing is new");
    }

    #[test]
    fn rows_draft_as_much_as_each_is_to() {
        let (head, [mut first, mut second, mut third]) = (begin().0, [(); 3].map(|()| begin().1));
        first.take(&states(0, 2), 2).unwrap();
        second.take(&states(0, 4), 4).unwrap();
        third.take(&states(0, 3), 3).unwrap();
        let (tokens, read) =
            drafted(&head, &mut [(&mut first, 3, 1), (&mut second, 5, 3), (&mut third, 4, 0)]);
        assert_eq!(tokens, [vec![10], vec![12, 13, 14], vec![]]);
        assert_eq!(read, [vec![0, 1, 0, 1, 2, 3, 0, 1], vec![4], vec![5]]);
        assert_eq!([first, second, third].map(|it| it.caches[0].offset()), [2, 4, 2]);
    }

    #[test]
    fn a_text_begins_where_what_is_before_is_not_known() {
        let (head, mut sequence) = begin();
        sequence.take(&states(0, 3), 3).unwrap();
        drafted(&head, &mut [(&mut sequence, 4, 1)]);
        sequence.take(&states(20, 23), 3).unwrap();
        let (tokens, read) = drafted(&head, &mut [(&mut sequence, 24, 1)]);
        assert_eq!((&*tokens, &*read), (&[vec![31]][..], &[vec![20, 21, 22]][..]));
        assert_eq!(sequence.caches[0].offset(), 3);
    }

    #[test]
    fn what_a_sequence_left_is_gone_on_from_with_zeros_for_what_nobody_has() {
        let (head, mut sequence) = begin();
        sequence.take(&states(0, 5), 5).unwrap();
        drafted(&head, &mut [(&mut sequence, 6, 0)]);
        let (read, caches) = sequence.into_caches().unwrap();
        assert_eq!((read, caches[0].offset()), (5, 4));
        let mut next = begin().1.behind(caches, 4);
        next.take(&states(6, 8), 2).unwrap();
        assert_eq!((next.unread(), next.next), (4, 4));
        let states = ops::concatenate(&next.states.iter().collect::<Vec<_>>(), 1).unwrap();
        assert_eq!(mlx::to_f32_vec(&states).unwrap(), [0.0, 0.0, 6.0, 7.0]);
        // One that lacks more begins anew, and is nothing to go on from.
        next.take(&StepStates { first: 11, states }, 4).unwrap();
        assert_eq!((next.unread(), next.next), (4, 11));
        assert!(next.into_caches().is_none());
    }

    #[test]
    fn it_is_behind_after_many_positions_without_a_draft() {
        let (head, mut sequence) = begin();
        for position in 0..=MOST_UNREAD {
            assert!(!sequence.is_behind());
            sequence.take(&states(position, position + 1), 1).unwrap();
        }
        assert!(sequence.is_behind());
        drafted(&head, &mut [(&mut sequence, MOST_UNREAD + 2, 0)]);
        assert_eq!((sequence.unread(), sequence.next), (1, MOST_UNREAD));
    }
}
