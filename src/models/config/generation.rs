//! `generation_config.json`: hints, of which each is used as far as it can be.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::warning::{Warning, WarningCode};

/// What `generation_config.json` says of sampling; absent fields were not said.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct GenerationDefaults {
    /// `false` asks for greedy decoding.
    pub do_sample: Option<bool>,
    /// Sampling temperature.
    pub temperature: Option<f32>,
    /// Nucleus sampling.
    pub top_p: Option<f32>,
    /// Number of candidates; 0 for all.
    pub top_k: Option<u32>,
    /// Least probability relative to the best candidate's.
    pub min_p: Option<f32>,
    /// Penalty for repeated tokens.
    pub repetition_penalty: Option<f32>,
    /// Largest number of new tokens.
    pub max_new_tokens: Option<usize>,
}

impl GenerationDefaults {
    /// The temperature that the file asks for: 0 where it asks for greedy decoding.
    pub fn temperature(&self) -> Option<f32> {
        match self.do_sample {
            Some(false) => Some(0.0),
            _ => self.temperature,
        }
    }

    /// Those of a model's folder. What cannot be used is left out, with a warning.
    pub(in crate::models) fn read(dir: &Path, warnings: &mut Vec<Warning>) -> Self {
        let path = dir.join("generation_config.json");
        if !path.exists() {
            return Self::default();
        }
        let values = match super::read_object(&path) {
            Ok(values) => values,
            Err(error) => {
                let message = format!("{}; the file is left out", error.message());
                warnings.push(Warning::new(WarningCode::UnusableFile, &path, message));
                return Self::default();
            }
        };
        let mut hints = Hints { path, values, warnings };
        let finite = |value: f64| value as f32;
        Self {
            do_sample: hints.take("do_sample", "true or false", Value::as_bool),
            temperature: hints
                .number("temperature", "a number from 0", |it| (0.0..=1e30).contains(&it))
                .map(finite),
            top_p: hints
                .number("top_p", "a number above 0 and at most 1", |it| it > 0.0 && it <= 1.0)
                .map(finite),
            top_k: hints
                .number("top_k", "a whole number from 0", |it| it >= 0.0 && it.fract() == 0.0)
                .map(|it| it as u32),
            min_p: hints
                .number("min_p", "a number from 0 to 1", |it| (0.0..=1.0).contains(&it))
                .map(finite),
            repetition_penalty: hints
                .number("repetition_penalty", "a number above 0", |it| it > 1e-30 && it < 1e30)
                .map(finite),
            max_new_tokens: hints
                .number("max_new_tokens", "a whole number from 1", |it| {
                    it >= 1.0 && it.fract() == 0.0
                })
                .map(|it| it as usize),
        }
    }
}

/// The fields of a file that only gives hints.
struct Hints<'a> {
    path: PathBuf,
    values: Map<String, Value>,
    warnings: &'a mut Vec<Warning>,
}

impl Hints<'_> {
    fn number(&mut self, field: &str, expected: &str, ok: fn(f64) -> bool) -> Option<f64> {
        self.take(field, expected, |value| value.as_f64().filter(|&number| ok(number)))
    }

    /// A field's value, if it has one that can be used.
    fn take<T>(
        &mut self,
        field: &str,
        expected: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Option<T> {
        let value = self.values.get(field).filter(|value| !value.is_null())?;
        let taken = read(value);
        if taken.is_none() {
            let message = format!("\"{field}\" is {value}, not {expected}; it is left out");
            self.warnings.push(Warning::new(WarningCode::UnusableField, &self.path, message));
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> (GenerationDefaults, Vec<Warning>) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("generation_config.json"), text).unwrap();
        let mut warnings = Vec::new();
        let defaults = GenerationDefaults::read(dir.path(), &mut warnings);
        (defaults, warnings)
    }

    #[test]
    fn each_hint_is_used_as_far_as_it_can_be() {
        let text = br#"{"do_sample": "yes", "temperature": 0.6, "top_p": 1.5, "top_k": -1,
            "min_p": "0.1", "repetition_penalty": 0, "max_new_tokens": -1, "typical_p": "odd"}"#;
        let (defaults, warnings) = read(text);
        let expected = GenerationDefaults { temperature: Some(0.6), ..Default::default() };
        assert_eq!(defaults, expected);
        let messages: Vec<_> = warnings.iter().map(|it| it.message.as_str()).collect();
        assert_eq!(messages.len(), 6, "{messages:#?}");
        for named in ["\"top_k\" is -1", "\"min_p\" is \"0.1\"", "\"top_p\" is 1.5"] {
            assert!(messages.iter().any(|it| it.contains(named)), "{messages:#?}");
        }
        assert!(messages.iter().all(|it| it.contains("generation_config.json")));
        assert!(warnings.iter().all(|it| it.code == WarningCode::UnusableField));
    }

    #[test]
    fn numbers_are_taken_however_they_are_written() {
        let text = "\u{feff}{\"top_k\": 50.0, \"max_new_tokens\": 1e3, \"top_p\": 1, \"temperature\": null}";
        let (defaults, warnings) = read(text.as_bytes());
        assert_eq!((defaults.top_k, defaults.max_new_tokens), (Some(50), Some(1000)));
        assert_eq!((defaults.top_p, defaults.temperature), (Some(1.0), None));
        assert!(warnings.is_empty(), "{warnings:?}");
        let (defaults, warnings) = read(br#"{"top_k": 1e30, "temperature": Infinity}"#);
        assert_eq!((defaults.top_k, warnings.len()), (Some(u32::MAX), 1));
    }

    #[test]
    fn a_broken_file_is_as_none() {
        for text in [
            "",
            "{\"top_k\": 5,}",
            "[]",
            "{",
            "<html>",
            "version https://git-lfs.github.com/spec/v1\n",
        ] {
            let (defaults, warnings) = read(text.as_bytes());
            assert_eq!(defaults, GenerationDefaults::default());
            assert_eq!(warnings.len(), 1, "{text}");
            assert_eq!(warnings[0].code, WarningCode::UnusableFile);
            assert_eq!(warnings[0].message.matches("generation_config.json").count(), 1);
        }
    }
}
