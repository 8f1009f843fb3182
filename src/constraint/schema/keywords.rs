//! Which keywords there are, and where a schema has others within.

use serde_json::Value;

use super::Object;

/// Keywords that change nothing about what is valid.
pub const ANNOTATIONS: [&str; 21] = [
    "$anchor",
    "$comment",
    "$defs",
    "$dynamicAnchor",
    "$id",
    "$recursiveAnchor",
    "$schema",
    "$vocabulary",
    "contentEncoding",
    "contentMediaType",
    "contentSchema",
    "default",
    "definitions",
    "deprecated",
    "description",
    "example",
    "examples",
    "id",
    "readOnly",
    "title",
    "writeOnly",
];

/// Keywords that apply schemas to the value that they stand beside.
pub const APPLICATORS: [&str; 11] = [
    "$dynamicRef",
    "$recursiveRef",
    "$ref",
    "allOf",
    "anyOf",
    "dependentSchemas",
    "else",
    "if",
    "not",
    "oneOf",
    "then",
];

/// Keywords whose value is a schema.
const ONE: [&str; 12] = [
    "additionalItems",
    "additionalProperties",
    "contains",
    "contentSchema",
    "else",
    "if",
    "items",
    "not",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
];

/// Keywords whose value is an array of schemas.
const ARRAYS: [&str; 5] = ["allOf", "anyOf", "items", "oneOf", "prefixItems"];

/// Keywords whose value is an object of schemas.
const OBJECTS: [&str; 5] =
    ["$defs", "definitions", "dependentSchemas", "patternProperties", "properties"];

/// The schemas within a schema.
pub fn children(schema: &Object) -> impl Iterator<Item = &Value> {
    schema.iter().flat_map(|(keyword, value)| {
        let keyword = keyword.as_str();
        match value {
            Value::Object(map) if OBJECTS.contains(&keyword) => map.values().collect(),
            Value::Array(items) if ARRAYS.contains(&keyword) => items.iter().collect(),
            Value::Object(_) if ONE.contains(&keyword) => vec![value],
            _ => Vec::new(),
        }
    })
}

/// Whether a schema allows everything, apart from `without`, a keyword that is not looked at.
pub fn allows_everything(schema: &Value, without: &[&str]) -> bool {
    match schema {
        Value::Bool(allowed) => *allowed,
        Value::Object(map) => map.keys().all(|keyword| {
            let keyword = keyword.as_str();
            ANNOTATIONS.contains(&keyword) || without.contains(&keyword)
        }),
        _ => false,
    }
}
