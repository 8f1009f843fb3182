//! A path-prefixed view of a checkpoint: `w.at("self_attn").at("q_proj").take("weight", …)`.

use std::cell::{Cell, RefCell, RefMut};
use std::collections::BTreeSet;
use std::fmt::Display;
use std::rc::Rc;

use super::formats::{INPUT_ORDER, OUTPUT_FACTORS};
use super::sites::Sites;
use super::{Checkpoint, Foreign, LoadPlan};
use crate::error::{Error, Result};
use crate::fused::Device;
use crate::fused::linear::Rotation;
use crate::mlx::quantized::{Mode, QuantizationParams, QuantizedTensor};
use crate::mlx::{Array, Dtype, dtype_name, eval, is_float, ops, to_f32_vec};
use crate::warning::{Warning, WarningCode};

/// What `config.json` says of quantized layers.
#[derive(Debug, Clone, Default)]
pub struct Quantization {
    /// The format of layers that are not named.
    pub default: Option<QuantizationParams>,
    /// Formats by the layer's path; `None` for a layer that is explicitly not quantized.
    pub layers: std::collections::BTreeMap<String, Option<QuantizationParams>>,
    /// The format of another program.
    pub foreign: Option<Foreign>,
    /// The blocks that the inputs of layers are rotated in, by the path that each has in the
    /// language model by itself.
    pub rotations: std::collections::BTreeMap<String, i32>,
}

/// What the product with a packed matrix of another program takes beside it.
#[derive(Debug, Clone)]
pub struct Adjustments {
    /// What the inputs go through.
    pub rotation: Option<Rotation>,
    /// The inputs in the order of the matrix's columns, `[inputs]`, `uint32`.
    pub input_order: Option<Array>,
    /// What the outputs are multiplied by, `[1]` or `[outputs]`, `float32`.
    pub output_factors: Option<Array>,
}

/// The types of 8-bit floats that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Float8 {
    /// Four bits of exponent: values.
    E4m3,
    /// Powers of two: scales.
    E8m0,
}

impl Float8 {
    fn stored(self) -> safetensors::Dtype {
        match self {
            Self::E4m3 => safetensors::Dtype::F8_E4M3,
            Self::E8m0 => safetensors::Dtype::F8_E8M0,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::E4m3 => "8-bit floats of e4m3",
            Self::E8m0 => "8-bit floats of e8m0",
        }
    }
}

type Progress<'a> = Box<dyn FnMut(usize) -> bool + 'a>;

struct Shared<'a> {
    checkpoint: &'a Checkpoint,
    quantization: &'a Quantization,
    plan: LoadPlan,
    taken: RefCell<BTreeSet<String>>,
    loaded: Cell<usize>,
    parameters: Cell<u64>,
    dtype: Cell<Option<Dtype>>,
    /// The parameters of quantizable layers by their format; `None` for those that are dense.
    formats: RefCell<Vec<(Option<QuantizationParams>, u64)>>,
    warnings: RefCell<Vec<Warning>>,
    sites: RefCell<Sites>,
    progress: RefCell<Progress<'a>>,
}

/// A view of the tensors below one path.
#[derive(Clone)]
pub struct Weights<'a> {
    shared: Rc<Shared<'a>>,
    prefix: String,
}

impl<'a> Weights<'a> {
    /// The view of a whole checkpoint.
    ///
    /// `progress` is told the bytes taken so far and answers whether to go on.
    pub fn new(
        checkpoint: &'a Checkpoint,
        quantization: &'a Quantization,
        plan: LoadPlan,
        progress: impl FnMut(usize) -> bool + 'a,
    ) -> Self {
        let shared = Shared {
            checkpoint,
            quantization,
            plan,
            taken: RefCell::default(),
            loaded: Cell::new(0),
            parameters: Cell::new(0),
            dtype: Cell::new(None),
            formats: RefCell::default(),
            warnings: RefCell::default(),
            sites: RefCell::default(),
            progress: RefCell::new(Box::new(progress)),
        };
        Self { shared: Rc::new(shared), prefix: String::new() }
    }

    /// The view below `name`, a module's name or a layer's number.
    pub fn at(&self, name: impl Display) -> Self {
        Self { shared: Rc::clone(&self.shared), prefix: self.path(name) }
    }

    /// This view's path.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The path of a name below the view; of an empty one, the view's own.
    fn path(&self, name: impl Display) -> String {
        let name = name.to_string();
        match (self.prefix.is_empty(), name.is_empty()) {
            (true, _) => name,
            (false, true) => self.prefix.clone(),
            (false, false) => format!("{}.{name}", self.prefix),
        }
    }

    /// Whether the checkpoint holds the tensor.
    pub fn has(&self, name: &str) -> bool {
        self.shared.checkpoint.entry(&self.path(name)).is_some()
    }

    /// The shape of a tensor, if the checkpoint holds it.
    pub fn shape(&self, name: &str) -> Option<&[i32]> {
        self.shared.checkpoint.entry(&self.path(name)).map(|entry| entry.shape.as_slice())
    }

    /// Takes a tensor of as many numbers as `shape` has, whatever its own axes: of that shape.
    ///
    /// # Errors
    /// As [`Weights::take`].
    pub fn take_reshaped(&self, name: &str, shape: &[i32]) -> Result<Array> {
        ops::reshape(&self.take(name, &self.flat_shape(name, shape))?, shape)
    }

    /// [`Weights::take_reshaped`] in `f32`.
    ///
    /// # Errors
    /// As [`Weights::take`].
    pub fn take_reshaped_f32(&self, name: &str, shape: &[i32]) -> Result<Array> {
        ops::reshape(&self.take_f32(name, &self.flat_shape(name, shape))?, shape)
    }

    /// The shape of a tensor of as many numbers as `shape` has; one axis where it has another number
    /// of them, which whoever takes it is told.
    fn flat_shape(&self, name: &str, shape: &[i32]) -> Vec<i32> {
        let count =
            |shape: &[i32]| shape.iter().try_fold(1_i32, |count, &dim| count.checked_mul(dim));
        let stored = self.shape(name).filter(|stored| count(stored) == count(shape));
        stored.map_or_else(|| vec![shape.iter().product()], <[i32]>::to_vec)
    }

    fn dtype(&self, name: &str) -> Option<Dtype> {
        self.shared.checkpoint.entry(&self.path(name)).map(|entry| entry.dtype)
    }

    /// An error about a tensor of this view.
    pub fn error(&self, name: &str, message: impl Display) -> Error {
        let path = self.path(name);
        let checkpoint = self.shared.checkpoint;
        let file = checkpoint.path_of(&path);
        let source = checkpoint.made_of(&path).filter(|source| *source != path);
        let source = source.map_or(String::new(), |source| format!(", made of \"{source}\","));
        Error::of_tensor(file, &path, format!("{source} {message}"))
    }

    /// Takes a tensor of floating-point numbers, in the precision that the model is loaded with.
    ///
    /// # Errors
    /// [`Error::Weights`] if it is missing, has another shape, or holds integers.
    pub fn take(&self, name: &str, shape: &[i32]) -> Result<Array> {
        let array = self.take_float(name, shape)?;
        self.count(shape.iter().map(|&dim| i64::from(dim)).product());
        self.cast(array)
    }

    /// Takes a tensor of floating-point numbers that stays in `f32` whatever the model is loaded
    /// with.
    ///
    /// # Errors
    /// As for [`Weights::take`].
    pub fn take_f32(&self, name: &str, shape: &[i32]) -> Result<Array> {
        let array = ops::astype(&self.take_float(name, shape)?, Dtype::Float32)?;
        self.count(shape.iter().map(|&dim| i64::from(dim)).product());
        eval(&[&array])?;
        Ok(array)
    }

    /// Takes the floating-point matrix of a product; as [`Weights::take`], but the CPU leaves it as
    /// it is stored.
    ///
    /// # Errors
    /// As for [`Weights::take`].
    pub fn take_matrix(&self, name: &str, shape: &[i32]) -> Result<Array> {
        let array = self.take_float(name, shape)?;
        self.count(shape.iter().map(|&dim| i64::from(dim)).product());
        self.cast_matrix(array)
    }

    /// The choices of loading.
    pub fn plan(&self) -> LoadPlan {
        self.shared.plan
    }

    /// What the model runs with.
    pub fn device(&self) -> Device {
        self.shared.plan.device
    }

    /// The type of activations that the model is loaded with; `None` for that of the checkpoint.
    pub fn activations(&self) -> Option<Dtype> {
        self.shared.plan.activations
    }

    /// Takes bytes as they are stored: of no type of their own, or 8-bit floats of this one.
    ///
    /// # Errors
    /// [`Error::Weights`] if the tensor is missing, has another shape or holds anything else.
    pub fn take_bytes(&self, name: &str, shape: &[i32], float: Option<Float8>) -> Result<Array> {
        let array = self.take_raw(name, shape)?;
        if self.shared.checkpoint.rough_dtype().is_some() {
            return ops::zeros(shape, Dtype::Uint8);
        }
        let stored = self.shared.checkpoint.entry(&self.path(name)).map(|entry| entry.stored);
        let found = match stored {
            Some(safetensors::Dtype::U8) => return Ok(array),
            Some(stored) if Some(stored) == float.map(Float8::stored) => return Ok(array),
            Some(safetensors::Dtype::F8_E5M2) => "8-bit floats of e5m2",
            Some(safetensors::Dtype::F8_E4M3) => "8-bit floats of e4m3",
            Some(safetensors::Dtype::F8_E8M0) => "8-bit floats of e8m0",
            _ => dtype_name(array.dtype()),
        };
        let expected = float.map_or("uint8", Float8::name);
        Err(self.error(name, format!("holds {found}, expected {expected}")))
    }

    /// Whether the matrix of this view, stored as that of another one, has other values.
    pub fn contradicts(&self, other: &Weights) -> bool {
        let checkpoint = self.shared.checkpoint;
        let (own, other) = (self.path("weight"), other.path("weight"));
        let entries = checkpoint.entry(&own).zip(checkpoint.entry(&other));
        entries.is_some_and(|(one, two)| one.shape == two.shape && one.stored == two.stored)
            && !checkpoint.seem_equal(&own, &other)
    }

    /// Tells that the head of this view is used, though the configuration calls it that of another
    /// one.
    pub fn warn_untied(&self, embedding: &Weights) {
        let (own, other) = (&self.prefix, &embedding.prefix);
        let message = format!(
            "\"tie_word_embeddings\" is not followed: \"{own}\" differs from \"{other}\", and is \
             the head"
        );
        let path = self.shared.checkpoint.path_of(&self.path("weight"));
        let warning = Warning::new(WarningCode::UnusableField, &path, message);
        self.shared.warnings.borrow_mut().push(warning);
    }

    /// Leaves the tensors of this view aside: a copy of those of another one. Where they are packed
    /// otherwise, the configuration, which says that they are the same, wins with a warning.
    pub fn leave_copy_of(&self, other: &Weights) {
        let checkpoint = self.shared.checkpoint;
        let mut differs = false;
        for name in ["weight", "scales", "biases", "signs", "bias", INPUT_ORDER, OUTPUT_FACTORS] {
            let (own, path) = (self.path(name), other.path(name));
            if checkpoint.entry(&own).is_some() {
                differs |= !checkpoint.seem_equal(&own, &path);
                self.shared.taken.borrow_mut().insert(own);
            }
        }
        if differs {
            let (own, other) = (&self.prefix, &other.prefix);
            let message = format!(
                "\"{own}\" is left out, because the model is one whose head is \"{other}\", but they \
                 differ; set \"tie_word_embeddings\" to false if it is to be used"
            );
            let path = checkpoint.path_of(&self.path("weight"));
            let warning = Warning::new(WarningCode::UnusedHead, &path, message);
            self.shared.warnings.borrow_mut().push(warning);
        }
    }

    /// The layers that adapters can add to, as far as they have been taken.
    pub fn sites(&self) -> RefMut<'_, Sites> {
        self.shared.sites.borrow_mut()
    }

    /// Tells that matrices are loaded as numbers, though another program has quantized them.
    pub fn warn_dequantized(&self, what: &str) {
        let message = format!("{what} have no packed form, and are loaded as numbers");
        let path = self.shared.checkpoint.path_of(&self.prefix);
        let warning = Warning::new(WarningCode::Dequantized, &path, message);
        let mut warnings = self.shared.warnings.borrow_mut();
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }

    /// Takes the tensors of a part that the model runs without, too; `None` with a warning where
    /// something is wrong with them. They count neither as parameters nor for the quantization.
    ///
    /// # Errors
    /// [`Error::Aborted`].
    pub fn take_beside<T>(
        &self,
        part: &str,
        take: impl FnOnce() -> Result<T>,
    ) -> Result<Option<T>> {
        let shared = &self.shared;
        let (parameters, formats) = (shared.parameters.get(), shared.formats.borrow().clone());
        let sites = shared.sites.borrow().clone();
        let taken = take();
        shared.parameters.set(parameters);
        shared.formats.replace(formats);
        match taken {
            Ok(taken) => Ok(Some(taken)),
            Err(error @ Error::Aborted(_)) => Err(error),
            Err(error) => {
                let path = shared.checkpoint.path_of(&self.prefix);
                let message = format!("{part} is left out: {error}");
                let warning = Warning::new(WarningCode::UnusedHead, &path, message);
                shared.warnings.borrow_mut().push(warning);
                shared.sites.replace(sites);
                Ok(None)
            }
        }
    }

    /// What was odd about the tensors that were taken.
    pub fn warnings(&self) -> Vec<Warning> {
        self.shared.warnings.borrow().clone()
    }

    /// Counts the parameters of a layer that could be quantized.
    pub fn count_format(&self, format: Option<QuantizationParams>, parameters: i64) {
        let mut formats = self.shared.formats.borrow_mut();
        let parameters = parameters.unsigned_abs();
        match formats.iter_mut().find(|(other, _)| *other == format) {
            Some((_, count)) => *count += parameters,
            None => formats.push((format, parameters)),
        }
    }

    /// The format of most quantized parameters, and whether other layers differ.
    pub fn quantization(&self) -> (Option<QuantizationParams>, bool) {
        let formats = self.shared.formats.borrow();
        let quantized = formats.iter().filter_map(|(format, count)| Some(((*format)?, count)));
        let most = quantized.max_by_key(|(_, count)| **count).map(|(format, _)| format);
        (most, most.is_some() && formats.len() > 1)
    }

    /// Counts the parameters of a tensor that [`Weights::take_bytes`] gave.
    pub fn count(&self, parameters: i64) {
        let counter = &self.shared.parameters;
        counter.set(counter.get() + parameters.unsigned_abs());
    }

    /// Takes a packed matrix `[outputs, inputs]`: `weight`, `scales` and, of affine formats,
    /// `biases`.
    ///
    /// # Errors
    /// [`Error::Weights`] if one of them is missing or does not fit the format.
    pub fn take_packed(
        &self,
        inputs: i32,
        outputs: i32,
        format: QuantizationParams,
    ) -> Result<QuantizedTensor> {
        self.take_packed_stack(inputs, &[outputs], format)
    }

    /// As [`Weights::take_packed`], for matrices stacked along the axes before the last of
    /// `outputs`.
    ///
    /// # Errors
    /// [`Error::Weights`] if a tensor is missing or does not fit the format.
    pub fn take_packed_stack(
        &self,
        inputs: i32,
        outputs: &[i32],
        format: QuantizationParams,
    ) -> Result<QuantizedTensor> {
        let QuantizationParams { mode, group_size, bits } = format;
        if inputs % group_size != 0 || inputs * bits % 32 != 0 {
            let message = format!(
                "cannot hold {inputs} input features in groups of {group_size} at {bits} bits"
            );
            return Err(self.error("weight", message));
        }
        let with_last = |last: i32| [outputs, &[last]].concat();
        let weight = self.take_raw("weight", &with_last(inputs * bits / 32))?;
        if weight.dtype() != Dtype::Uint32 {
            let found = dtype_name(weight.dtype());
            return Err(self.error("weight", format!("holds {found}, expected packed uint32")));
        }
        let groups = with_last(inputs / group_size);
        let (scales, biases) = match mode {
            Mode::Affine => {
                let scales = self.take_float("scales", &groups)?;
                let biases = self.take_float("biases", &groups)?;
                (self.cast_scales(scales)?, Some(self.cast_scales(biases)?))
            }
            Mode::Mxfp4 | Mode::Mxfp8 => {
                (self.take_bytes("scales", &groups, Some(Float8::E8m0))?, None)
            }
            Mode::Nvfp4 => (self.take_bytes("scales", &groups, Some(Float8::E4m3))?, None),
        };
        let parameters = outputs.iter().chain([&inputs]).map(|&dim| i64::from(dim)).product();
        self.count(parameters);
        self.count_format(Some(format), parameters);
        let dtype = match (&biases, self.shared.plan.activations) {
            (_, Some(dtype)) => dtype,
            (Some(biases), None) => biases.dtype(),
            (None, None) => self.shared.dtype.get().unwrap_or(Dtype::Bfloat16),
        };
        Ok(QuantizedTensor { weight, scales, biases, params: format, dtype })
    }

    /// Takes what the product with this view's packed matrix takes beside it; `None` for nothing,
    /// which is so in MLX's own checkpoints.
    ///
    /// # Errors
    /// [`Error::Weights`] if it does not fit the matrix.
    pub fn take_adjustments(&self, inputs: i32, outputs: i32) -> Result<Option<Adjustments>> {
        let rotation = self.take_rotation(inputs)?;
        if self.shared.checkpoint.format(&self.prefix).is_none() {
            return Ok(rotation.map(|it| Adjustments {
                rotation: Some(it),
                input_order: None,
                output_factors: None,
            }));
        }
        let input_order =
            if self.has(INPUT_ORDER) { Some(self.take_raw(INPUT_ORDER, &[inputs])?) } else { None };
        let output_factors = match self.shape(OUTPUT_FACTORS) {
            None => None,
            Some([1]) => Some(self.take_raw(OUTPUT_FACTORS, &[1])?),
            Some(_) => Some(self.take_raw(OUTPUT_FACTORS, &[outputs])?),
        };
        let any = rotation.is_some() || input_order.is_some() || output_factors.is_some();
        Ok(any.then_some(Adjustments { rotation, input_order, output_factors }))
    }

    /// Takes `signs` of a matrix whose inputs are rotated.
    fn take_rotation(&self, inputs: i32) -> Result<Option<Rotation>> {
        let rotations = &self.shared.quantization.rotations;
        let path = self.prefix.strip_prefix("language_model.").unwrap_or(&self.prefix);
        let path = path.replacen("model.language_model.", "model.", 1);
        let Some(&block) = rotations.get(&path) else { return Ok(None) };
        if inputs % block != 0 {
            let message = format!("cannot rotate {inputs} features in blocks of {block}");
            return Err(self.error("signs", message));
        }
        let signs = self.take_f32("signs", &[inputs])?;
        let is_known = self.shared.checkpoint.has_content();
        if is_known && to_f32_vec(&signs)?.iter().any(|sign| sign.abs() != 1.0) {
            return Err(self.error("signs", "holds other numbers than 1 and −1"));
        }
        Ok(Some(Rotation { block, signs }))
    }

    /// As [`Weights::cast_matrix`]. Scales of other programs may be more precise than activations,
    /// of which the products of a GPU would take their type.
    fn cast_scales(&self, array: Array) -> Result<Array> {
        let shared = &self.shared;
        let is_foreign = shared.checkpoint.format(&self.prefix).is_some();
        let wanted = shared.plan.activations.or(shared.dtype.get()).filter(|_| is_foreign);
        match wanted {
            Some(dtype) if !shared.plan.stored_matrices => {
                let cast = ops::astype(&array, dtype)?;
                eval(&[&cast])?;
                Ok(cast)
            }
            _ => self.cast_matrix(array),
        }
    }

    /// The array in the precision of activations; computed at once, so that the source need not
    /// stay in memory.
    fn cast(&self, array: Array) -> Result<Array> {
        let Some(dtype) = self.shared.plan.activations else { return Ok(array) };
        let cast = ops::astype(&array, dtype)?;
        eval(&[&cast])?;
        Ok(cast)
    }

    /// As [`Weights::cast`], for what only products read: with activations in `f32` the CPU's
    /// kernels take any type, so it stays mapped, and half the size.
    fn cast_matrix(&self, array: Array) -> Result<Array> {
        if self.plan().stored_matrices && array.dtype() != Dtype::Float64 {
            Ok(array)
        } else {
            self.cast(array)
        }
    }

    fn take_float(&self, name: &str, shape: &[i32]) -> Result<Array> {
        let array = self.take_raw(name, shape)?;
        if !is_float(array.dtype()) {
            let found = dtype_name(array.dtype());
            return Err(self.error(name, format!("holds {found}, not floating-point numbers")));
        }
        if self.shared.dtype.get().is_none() {
            self.shared.dtype.set(Some(array.dtype()));
        }
        Ok(array)
    }

    fn take_raw(&self, name: &str, shape: &[i32]) -> Result<Array> {
        let path = self.path(name);
        let shared = &self.shared;
        if let Some(dtype) = shared.checkpoint.rough_dtype() {
            shared.taken.borrow_mut().insert(path);
            return ops::zeros(shape, dtype);
        }
        let Some(entry) = shared.checkpoint.entry(&path) else {
            return Err(self.error(name, format!("is missing (expected shape {shape:?})")));
        };
        if entry.shape != shape {
            let found = &entry.shape;
            return Err(self.error(name, format!("has shape {found:?}, expected {shape:?}")));
        }
        let Some(array) = shared.checkpoint.get(&path) else {
            return Err(self.error(name, "is missing"));
        };
        let array = array?;
        shared.loaded.set(shared.loaded.get() + shared.checkpoint.tensor_bytes(&path));
        shared.taken.borrow_mut().insert(path);
        if !(shared.progress.borrow_mut())(shared.loaded.get()) {
            return Err(Error::Aborted("loading the model was aborted".to_owned()));
        }
        Ok(array)
    }

    /// The packing of this view's matrix with `inputs` input features; `None` if it is not
    /// quantized.
    ///
    /// As in mlx-lm, what `config.json` says of the layer wins; otherwise a layer with `scales` is
    /// quantized and its format is read off the shapes.
    ///
    /// # Errors
    /// [`Error::Weights`] if the shapes fit no format.
    pub fn format(&self, inputs: i32) -> Result<Option<QuantizationParams>> {
        if let Some(format) = self.shared.checkpoint.format(&self.prefix) {
            return Ok(Some(format));
        }
        if self.shared.checkpoint.rough_dtype().is_some() {
            return Ok(None);
        }
        let quantization = self.shared.quantization;
        if let Some(format) = quantization.layers.get(&self.prefix) {
            if format.is_none() {
                self.count_format(None, 0);
            }
            return Ok(*format);
        }
        let Some(scales) = self.shape("scales") else {
            self.count_format(None, 0);
            return Ok(None);
        };
        if quantization.default.is_none() {
            let message = "belongs to a quantized layer, but config.json has no \"quantization\"";
            return Err(self.error("scales", message));
        }
        let groups = scales.last().copied().unwrap_or(0);
        let words = self.shape("weight").and_then(<[i32]>::last).copied().unwrap_or(0);
        let bits = i64::from(words) * 32 / i64::from(inputs.max(1));
        let group_size = inputs.checked_div(groups).unwrap_or(0);
        let bits = i32::try_from(bits).unwrap_or(0);
        // Only affine scales are floating-point numbers; the other modes have one format each.
        let mode = if self.dtype("scales") == Some(Dtype::Uint8) {
            Mode::ALL
                .into_iter()
                .find(|mode| *mode != Mode::Affine && mode.defaults() == (group_size, bits))
        } else {
            Some(Mode::Affine)
        };
        let Some(mode) = mode else {
            let message = format!("fits no format of {bits} bits in groups of {group_size}");
            return Err(self.error("scales", message));
        };
        let format = QuantizationParams { mode, group_size, bits };
        if !matches!(format.bits, 2 | 3 | 4 | 5 | 6 | 8) || format.group_size < 1 {
            let message = format!("fits no quantization of {inputs} input features");
            return Err(self.error("scales", message));
        }
        Ok(Some(format))
    }

    /// The number of parameters taken, counting packed ones by what they stand for.
    pub fn parameters(&self) -> u64 {
        self.shared.parameters.get()
    }

    /// The type of the first floating-point tensor taken, as it is stored.
    pub fn stored_dtype(&self) -> Option<Dtype> {
        self.shared.dtype.get()
    }

    /// The type in which keys and values are kept; `None` for that of activations. Of the two with
    /// 16 bits the one that is eight times as precise: keys and values, unlike the residual stream,
    /// stay far below its greatest number.
    pub fn cache_dtype(&self) -> Option<Dtype> {
        // Packed matrices may have no floating-point numbers, and come before all that do.
        let stored = self.stored_dtype().or_else(|| self.shared.checkpoint.float_dtype());
        let half = matches!(stored, Some(Dtype::Bfloat16 | Dtype::Float16));
        (half && self.shared.plan.half_caches).then_some(Dtype::Float16)
    }

    /// Checks that every tensor was taken, but for those that `ignore` names.
    ///
    /// # Errors
    /// [`Error::Weights`] with the names of the first tensors that nobody took.
    pub fn finish(&self, ignore: impl Fn(&str) -> bool) -> Result<()> {
        let taken = self.shared.taken.borrow();
        let checkpoint = self.shared.checkpoint;
        let left: Vec<&str> =
            checkpoint.names().filter(|name| !taken.contains(*name) && !ignore(name)).collect();
        let Some(first) = left.first().filter(|_| checkpoint.rough_dtype().is_none()) else {
            return Ok(());
        };
        let shown = left.iter().take(5).map(|name| format!("\"{name}\"")).collect::<Vec<_>>();
        let more = if left.len() > shown.len() { ", …" } else { "" };
        Err(Error::weights(
            checkpoint.path_of(first),
            format!(
                "{} tensor(s) belong to no part of this architecture: {}{more}",
                left.len(),
                shown.join(", ")
            ),
        ))
    }
}
