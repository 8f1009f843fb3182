//! `tokenizer.model`: SentencePiece's protobuf (`sentencepiece_model.proto`), BPE and Unigram.

use std::collections::HashSet;

use serde_json::{Map, Value};
use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence as Decoders;
use tokenizers::decoders::strip::Strip as StripDecoder;
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::models::unigram::Unigram;
use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::normalizers::precompiled::Precompiled;
use tokenizers::normalizers::prepend::Prepend;
use tokenizers::normalizers::replace::{Replace, ReplacePattern};
use tokenizers::normalizers::strip::Strip;
use tokenizers::normalizers::utils::Sequence as Normalizers;
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::{AddedToken, ModelWrapper, Tokenizer};

use super::bpe::MAX_TOKEN;
use super::protobuf::fields;
use super::{Hints, Outcome, bpe, config};

/// What stands for a space.
const SPACE: &str = "▁";

/// Far below the score of every piece: the model does not choose it. SentencePiece does not find
/// the spelling of byte and control pieces in a text; the library's Unigram would.
const NEVER: f64 = -1e6;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

struct Piece<'a> {
    text: &'a str,
    score: f32,
    kind: Kind,
}

#[derive(Default, PartialEq, Eq)]
enum Algorithm {
    #[default]
    Unigram,
    Bpe,
}

/// What is read of a `ModelProto`, with the defaults of its definition.
struct Proto<'a> {
    pieces: Vec<Piece<'a>>,
    algorithm: Algorithm,
    byte_fallback: bool,
    bos_id: i64,
    eos_id: i64,
    pad_id: i64,
    charsmap: &'a [u8],
    add_dummy_prefix: bool,
    remove_extra_whitespaces: bool,
    escape_whitespaces: bool,
}

impl<'a> Proto<'a> {
    fn parse(bytes: &'a [u8]) -> Outcome<Self> {
        let mut proto = Self {
            pieces: Vec::new(),
            algorithm: Algorithm::default(),
            byte_fallback: false,
            bos_id: 1,
            eos_id: 2,
            pad_id: -1,
            charsmap: &[],
            add_dummy_prefix: true,
            remove_extra_whitespaces: true,
            escape_whitespaces: true,
        };
        for field in fields(bytes) {
            match field? {
                (1, piece) => proto.pieces.push(parse_piece(piece.bytes()?)?),
                (2, spec) => proto.parse_trainer(spec.bytes()?)?,
                (3, spec) => proto.parse_normalizer(spec.bytes()?)?,
                _ => {}
            }
        }
        if proto.pieces.is_empty() {
            return Err("not a SentencePiece model: it has no pieces".to_owned());
        }
        Ok(proto)
    }

    fn parse_trainer(&mut self, spec: &'a [u8]) -> Outcome<()> {
        for field in fields(spec) {
            match field? {
                (3, kind) => {
                    self.algorithm = match kind.integer()? {
                        1 => Algorithm::Unigram,
                        2 => Algorithm::Bpe,
                        other => {
                            let name = match other {
                                3 => "WORD".to_owned(),
                                4 => "CHAR".to_owned(),
                                _ => format!("number {other}"),
                            };
                            return Err(format!(
                                "a SentencePiece model of the type {name}: BPE and Unigram are known"
                            ));
                        }
                    }
                }
                (24, suffix) if suffix.flag()? => {
                    return Err(
                        "a SentencePiece model with spaces behind words is not known".into()
                    );
                }
                (35, flag) => self.byte_fallback = flag.flag()?,
                (41, id) => self.bos_id = id.integer()?,
                (42, id) => self.eos_id = id.integer()?,
                (43, id) => self.pad_id = id.integer()?,
                _ => {}
            }
        }
        Ok(())
    }

    fn parse_normalizer(&mut self, spec: &'a [u8]) -> Outcome<()> {
        for field in fields(spec) {
            match field? {
                (2, map) => self.charsmap = map.bytes()?,
                (3, flag) => self.add_dummy_prefix = flag.flag()?,
                (4, flag) => self.remove_extra_whitespaces = flag.flag()?,
                (5, flag) => self.escape_whitespaces = flag.flag()?,
                _ => {}
            }
        }
        Ok(())
    }

    fn named(&self, id: i64) -> Value {
        let piece = usize::try_from(id).ok().and_then(|id| self.pieces.get(id));
        piece.map_or(Value::Null, |piece| piece.text.into())
    }
}

fn parse_piece(bytes: &[u8]) -> Outcome<Piece<'_>> {
    let mut piece = Piece { text: "", score: 0.0, kind: Kind::Normal };
    for field in fields(bytes) {
        match field? {
            (1, text) => piece.text = text.text()?,
            (2, score) => piece.score = score.float()?,
            (3, kind) => {
                piece.kind = match kind.integer()? {
                    1 => Kind::Normal,
                    2 => Kind::Unknown,
                    3 => Kind::Control,
                    4 => Kind::UserDefined,
                    5 => Kind::Unused,
                    6 => Kind::Byte,
                    other => return Err(format!("a piece of the unknown type {other}")),
                }
            }
            _ => {}
        }
    }
    if piece.text.is_empty() || piece.text.len() > MAX_TOKEN || piece.score.is_nan() {
        let length = piece.text.len();
        return Err(format!("a piece has {length} bytes and the score {}", piece.score));
    }
    Ok(piece)
}

/// Builds the tokenizer.
pub(super) fn build(bytes: &[u8], hints: &Hints<'_>) -> Outcome<(Tokenizer, Map<String, Value>)> {
    let proto = Proto::parse(bytes)?;
    let unknown = proto.pieces.iter().position(|piece| piece.kind == Kind::Unknown);
    let model: ModelWrapper = match proto.algorithm {
        Algorithm::Bpe => bpe_model(&proto, unknown, hints)?.into(),
        Algorithm::Unigram => unigram_model(&proto, unknown, hints)?.into(),
    };
    let mut tokenizer = Tokenizer::new(model);
    let has_symbols = proto.pieces.iter().any(|piece| piece.kind == Kind::UserDefined);
    // SentencePiece puts its prefix in front of a text, transformers' older classes in front of
    // every part between added tokens.
    let prefix_once = has_symbols || hints.flag("legacy") == Some(false);
    let prefix = hints.flag("add_prefix_space").unwrap_or(true) && proto.add_dummy_prefix;
    tokenizer.with_normalizer(normalizer(&proto, prefix && !prefix_once)?);
    if prefix && prefix_once {
        tokenizer.with_pre_tokenizer(Some(Metaspace::new('▁', PrependScheme::First, false)));
    }
    tokenizer.with_decoder(Some(decoder(&proto, prefix)?));
    let added: Vec<AddedToken> = proto
        .pieces
        .iter()
        .filter(|piece| matches!(piece.kind, Kind::Control | Kind::UserDefined | Kind::Unknown))
        .map(|piece| {
            AddedToken::from(piece.text, piece.kind != Kind::UserDefined).normalized(false)
        })
        .collect();
    tokenizer.add_tokens(&added);
    // T5's kind of tokenizer ends a text instead of beginning it.
    let ends = matches!(hints.class(), Some("T5Tokenizer"));
    let config = config([
        ("bos_token", proto.named(proto.bos_id)),
        ("eos_token", proto.named(proto.eos_id)),
        ("pad_token", proto.named(proto.pad_id)),
        ("unk_token", unknown.map_or(Value::Null, |id| proto.pieces[id].text.into())),
        ("add_bos_token", (!ends).into()),
        ("add_eos_token", ends.into()),
    ]);
    Ok((tokenizer, config))
}

fn bpe_model(proto: &Proto<'_>, unknown: Option<usize>, hints: &Hints<'_>) -> Outcome<BPE> {
    let mut vocabulary = Vocab::default();
    for (id, piece) in (0..).zip(&proto.pieces) {
        vocabulary.insert(piece.text.to_owned(), id);
    }
    let mut merges = Vec::new();
    for piece in proto.pieces.iter().filter(|piece| piece.kind == Kind::Normal) {
        for (middle, _) in piece.text.char_indices().skip(1) {
            let (left, right) = piece.text.split_at(middle);
            if let (Some(a), Some(b)) = (vocabulary.get(left), vocabulary.get(right)) {
                merges.push((piece.score, *a, *b, left, right));
            }
        }
    }
    // The pair whose piece has the highest score goes first.
    merges.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    let merges: Merges = merges
        .into_iter()
        .map(|(_, _, _, left, right)| (left.to_owned(), right.to_owned()))
        .collect();
    let is_merged: HashSet<&str> =
        merges.iter().flat_map(|(left, right)| [left.as_str(), right.as_str()]).collect();
    // A placeholder that takes part in merges is none.
    let declared: Vec<(u32, AddedToken)> = hints
        .declared
        .iter()
        .filter(|(id, _)| {
            let piece = proto.pieces.get(*id as usize);
            piece.is_none_or(|piece| !is_merged.contains(piece.text))
        })
        .cloned()
        .collect();
    drop(is_merged);
    bpe::declare(&mut vocabulary, &declared);
    let mut builder = BPE::builder()
        .vocab_and_merges(vocabulary, merges)
        .fuse_unk(true)
        .byte_fallback(proto.byte_fallback);
    if let Some(id) = unknown {
        builder = builder.unk_token(proto.pieces[id].text.to_owned());
    }
    builder.build().map_err(|error| error.to_string())
}

fn unigram_model(proto: &Proto<'_>, unknown: Option<usize>, hints: &Hints<'_>) -> Outcome<Unigram> {
    let mut pieces: Vec<(String, f64)> = proto
        .pieces
        .iter()
        .map(|piece| match piece.kind {
            Kind::Normal | Kind::UserDefined => (piece.text.to_owned(), f64::from(piece.score)),
            _ => (piece.text.to_owned(), NEVER),
        })
        .collect();
    for (id, token) in hints.declared {
        let is_placeholder =
            proto.pieces.get(*id as usize).is_some_and(|it| it.kind != Kind::Normal);
        if is_placeholder && !pieces.iter().any(|(piece, _)| *piece == token.content) {
            pieces[*id as usize].0.clone_from(&token.content);
        }
    }
    Unigram::from(pieces, unknown, proto.byte_fallback).map_err(|error| error.to_string())
}

fn normalizer(proto: &Proto<'_>, prefix: bool) -> Outcome<Option<NormalizerWrapper>> {
    let mut steps: Vec<NormalizerWrapper> = Vec::new();
    if !proto.charsmap.is_empty() {
        steps.push(charsmap(proto.charsmap)?.into());
    }
    if proto.remove_extra_whitespaces {
        let spaces = ReplacePattern::Regex(" {2,}".to_owned());
        steps.push(Strip::new(true, true).into());
        steps.push(Replace::new(spaces, " ").map_err(|error| error.to_string())?.into());
    }
    if prefix {
        steps.push(Prepend::new(SPACE.to_owned()).into());
    }
    if proto.escape_whitespaces {
        let space = ReplacePattern::String(" ".to_owned());
        steps.push(Replace::new(space, SPACE).map_err(|error| error.to_string())?.into());
    }
    Ok((!steps.is_empty()).then(|| Normalizers::new(steps).into()))
}

/// The rules of Unicode normalization that come with a model. The library allocates what the first
/// four bytes ask for.
fn charsmap(bytes: &[u8]) -> Outcome<Precompiled> {
    let broken = || "precompiled_charsmap is broken".to_owned();
    let (length, rest) = bytes.split_first_chunk::<4>().ok_or_else(broken)?;
    if u32::from_le_bytes(*length) as usize > rest.len() {
        return Err(broken());
    }
    Precompiled::from(bytes).map_err(|_| broken())
}

fn decoder(proto: &Proto<'_>, prefix: bool) -> Outcome<Decoders> {
    let space = ReplacePattern::String(SPACE.to_owned());
    let mut steps = vec![Replace::new(space, " ").map_err(|error| error.to_string())?.into()];
    if proto.byte_fallback {
        steps.push(ByteFallback::new().into());
    }
    steps.push(Fuse::new().into());
    if prefix {
        steps.push(StripDecoder::new(' ', 1, 0).into());
    }
    Ok(Decoders::new(steps))
}
