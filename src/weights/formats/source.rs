//! The tensors of a layer as another program stored them.

use std::sync::Arc;

use half::{bf16, f16};

use super::numbers::{e4m3, e8m0};
use crate::error::{Error, Result};
use crate::mlx::{Array, Dtype, dtype_name};
use crate::weights::file::{Entry, WeightFile};

/// A tensor of a checkpoint, whose bytes can be read long after the checkpoint was opened.
#[derive(Clone)]
pub(in crate::weights) struct Source {
    pub(in crate::weights) name: String,
    pub(in crate::weights) file: Arc<WeightFile>,
    pub(in crate::weights) entry: Entry,
}

impl Source {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.file.mapping.bytes()[self.entry.range.clone()]
    }

    pub(super) fn stored(&self) -> safetensors::Dtype {
        self.entry.stored
    }

    pub(super) fn error(&self, message: impl std::fmt::Display) -> Error {
        Error::of_tensor(&self.file.path, &self.name, format!(" {message}"))
    }

    /// That it holds another type than it must.
    pub(super) fn wrong_type(&self, expected: &str) -> Error {
        let found = match self.entry.stored {
            safetensors::Dtype::F8_E4M3 => "8-bit floats of e4m3",
            safetensors::Dtype::F8_E5M2 => "8-bit floats of e5m2",
            safetensors::Dtype::F8_E8M0 => "8-bit floats of e8m0",
            _ => dtype_name(self.entry.dtype),
        };
        self.error(format!("holds {found}, expected {expected}"))
    }

    /// Its dimensions.
    pub(super) fn dims(&self) -> Vec<usize> {
        // They are those of a checked header, and not negative.
        self.entry.shape.iter().map(|dim| dim.unsigned_abs() as usize).collect()
    }

    /// The rows and columns of a matrix.
    ///
    /// # Errors
    /// [`Error::Weights`] if it is none, or an empty one.
    pub(super) fn matrix(&self) -> Result<[usize; 2]> {
        match *self.dims() {
            [rows, columns] if rows > 0 && columns > 0 => Ok([rows, columns]),
            _ => Err(self.error(format!("has shape {:?}, expected a matrix", self.entry.shape))),
        }
    }

    /// Refuses another shape.
    pub(super) fn expect(&self, shape: [usize; 2]) -> Result<()> {
        if *self.dims() == shape {
            Ok(())
        } else {
            Err(self.error(format!("has shape {:?}, expected {shape:?}", self.entry.shape)))
        }
    }

    /// Words of 32 bits, each as its bytes.
    pub(super) fn words(&self) -> Result<&[[u8; 4]]> {
        match self.stored() {
            safetensors::Dtype::I32 | safetensors::Dtype::U32 => Ok(self.bytes().as_chunks().0),
            _ => Err(self.wrong_type("packed int32")),
        }
    }

    /// Whole numbers, which are few.
    pub(super) fn integers(&self) -> Result<Vec<i64>> {
        let bytes = self.bytes();
        match self.stored() {
            safetensors::Dtype::I32 => {
                Ok(each(bytes, |word| i64::from(i32::from_le_bytes(word))).collect())
            }
            safetensors::Dtype::I64 => Ok(each(bytes, i64::from_le_bytes).collect()),
            _ => Err(self.wrong_type("int32 or int64")),
        }
    }

    /// Floating-point numbers of any type; bytes without a type of their own are powers of two
    /// (e8m0).
    pub(super) fn floats(&self) -> Result<Vec<f32>> {
        let bytes = self.bytes();
        Ok(match self.stored() {
            safetensors::Dtype::F32 => each(bytes, f32::from_le_bytes).collect(),
            safetensors::Dtype::F16 => {
                each(bytes, |half| f16::from_le_bytes(half).to_f32()).collect()
            }
            safetensors::Dtype::BF16 => {
                each(bytes, |half| bf16::from_le_bytes(half).to_f32()).collect()
            }
            safetensors::Dtype::F8_E4M3 => bytes.iter().map(|&byte| e4m3(byte)).collect(),
            safetensors::Dtype::F8_E8M0 | safetensors::Dtype::U8 => {
                bytes.iter().map(|&byte| e8m0(byte)).collect()
            }
            _ => return Err(self.wrong_type("floating-point numbers")),
        })
    }

    /// The type of its floating-point numbers, as far as a matrix can have it.
    pub(super) fn float_type(&self) -> Dtype {
        match self.entry.dtype {
            dtype @ (Dtype::Float16 | Dtype::Bfloat16) => dtype,
            _ => Dtype::Float32,
        }
    }

    /// An array over its bytes, with another shape and type.
    pub(super) fn array(&self, shape: &[i32], dtype: Dtype) -> Result<Array> {
        self.file
            .mapping
            .array(self.entry.range.clone(), shape, dtype)
            .map_err(|error| self.error(format!("cannot be used: {error}")))
    }
}

fn each<const N: usize, T>(bytes: &[u8], read: impl Fn([u8; N]) -> T) -> impl Iterator<Item = T> {
    bytes.as_chunks::<N>().0.iter().map(move |&chunk| read(chunk))
}
