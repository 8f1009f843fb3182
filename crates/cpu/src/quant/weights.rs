//! Matrices in MLX's quantized formats.

use crate::error::{Error, Result};
use crate::floats::Floats;
use crate::pool::Matrix;

/// A quantized format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `scale · code + bias`; 2, 3, 4, 5, 6 or 8 bits in groups of 32, 64 or 128.
    Affine {
        /// Bits of a code.
        bits: usize,
        /// Codes that share a scale.
        group: usize,
    },
    /// e2m1 values, 32 of them with a scale that is a power of two (e8m0).
    Mxfp4,
    /// e2m1 values, 16 of them with an e4m3 scale.
    Nvfp4,
    /// e4m3 values, 32 of them with a scale that is a power of two (e8m0).
    Mxfp8,
}

impl Format {
    /// Bits of a code.
    pub fn bits(self) -> usize {
        match self {
            Self::Affine { bits, .. } => bits,
            Self::Mxfp4 | Self::Nvfp4 => 4,
            Self::Mxfp8 => 8,
        }
    }

    /// Codes that share a scale.
    pub fn group(self) -> usize {
        match self {
            Self::Affine { group, .. } => group,
            Self::Mxfp4 | Self::Mxfp8 => 32,
            Self::Nvfp4 => 16,
        }
    }

    /// Codes for which activations get a scale of their own.
    pub(super) fn unit(self) -> usize {
        self.group().min(64)
    }
}

/// The scales of a quantized matrix.
#[derive(Clone, Copy, Debug)]
pub enum Scales<'a> {
    /// Of an affine format.
    Floats(Floats<'a>),
    /// Powers of two with a biased exponent: mxfp4 and mxfp8.
    E8m0(&'a [u8]),
    /// Floats of 8 bits: nvfp4.
    E4m3(&'a [u8]),
}

impl Scales<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Floats(floats) => floats.len(),
            Self::E8m0(bytes) | Self::E4m3(bytes) => bytes.len(),
        }
    }
}

/// `slabs` quantized matrices `[rows, cols]`, one after the other (more than one for experts).
#[derive(Clone, Copy, Debug)]
pub struct Weights<'a> {
    /// The format.
    pub format: Format,
    /// The codes, `[slabs, rows, cols * bits / 8]` bytes.
    pub packed: &'a [u8],
    /// `[slabs, rows, cols / group]`.
    pub scales: Scales<'a>,
    /// `[slabs, rows, cols / group]`, for an affine format.
    pub biases: Option<Floats<'a>>,
    /// Number of matrices.
    pub slabs: usize,
    /// Outputs of one.
    pub rows: usize,
    /// Inputs of one.
    pub cols: usize,
}

impl Weights<'_> {
    /// What matrices that are multiplied with the same activations at once have in common.
    pub(crate) fn kind(&self) -> (Format, usize, usize) {
        (self.format, self.cols, self.slabs)
    }

    pub(super) fn row_bytes(&self) -> usize {
        self.cols * self.format.bits() / 8
    }

    pub(super) fn groups(&self) -> usize {
        self.cols / self.format.group()
    }

    /// Where scales and biases begin. With groups of 128 two units share one: it is then half as
    /// many bytes that are counted for each unit.
    pub(super) fn scale_bytes(&self) -> [(*const u8, usize); 2] {
        let scales = match self.scales {
            Scales::Floats(floats) => (floats.as_ptr(), floats.element_size()),
            Scales::E8m0(bytes) | Scales::E4m3(bytes) => (bytes.as_ptr(), 1),
        };
        let biases = self.biases.map_or(scales, |biases| (biases.as_ptr(), biases.element_size()));
        let double = self.format.group() / self.format.unit();
        [scales, biases].map(|(start, size)| (start, size / double))
    }

    /// Where it lies; without rows if it is one of several, of which nobody knows beforehand which
    /// are read.
    pub(super) fn place(&self) -> Matrix {
        let rows = if self.slabs == 1 { self.rows } else { 0 };
        let units = self.cols / self.format.unit();
        let [scales, biases] = self.scale_bytes().map(|(start, bytes)| (start, bytes * units));
        Matrix::new(rows, [(self.packed.as_ptr(), self.row_bytes()), scales, biases])
    }

    pub(super) fn validate(&self) -> Result<()> {
        let fail = |message: String| Err(Error::argument("quantized weights", message));
        let format = self.format;
        if let Format::Affine { bits, group } = format
            && (!matches!(bits, 2 | 3 | 4 | 5 | 6 | 8) || !matches!(group, 32 | 64 | 128))
        {
            return fail(format!("there is no format of {bits} bits in groups of {group}"));
        }
        if self.cols == 0 || !self.cols.is_multiple_of(format.group()) {
            return fail(format!("{} inputs are no whole groups of {}", self.cols, format.group()));
        }
        let rows = self.slabs.checked_mul(self.rows);
        let expect =
            |what: &str, len: usize, each: usize| match rows.and_then(|n| n.checked_mul(each)) {
                Some(expected) if expected == len => Ok(()),
                _ => fail(format!(
                    "{what} has {len} elements, and [{}, {}, {each}] were expected",
                    self.slabs, self.rows
                )),
            };
        expect("packed", self.packed.len(), self.row_bytes())?;
        expect("scales", self.scales.len(), self.groups())?;
        match (format, self.scales, self.biases) {
            (Format::Affine { .. }, Scales::Floats(_), Some(biases)) => {
                expect("biases", biases.len(), self.groups())
            }
            (Format::Mxfp4 | Format::Mxfp8, Scales::E8m0(_), None)
            | (Format::Nvfp4, Scales::E4m3(_), None) => Ok(()),
            _ => fail(format!("{format:?} does not go with these scales and biases")),
        }
    }
}
