//! Schemas that refer to themselves without an end.

use std::collections::HashSet;

use serde_json::Value;

use super::Object;

/// Whether some JSON is valid that ends, by what `$ref`, required properties and items ask for. The
/// schema is lowered, so references lead to its `$defs`.
pub fn can_end(root: &Object) -> bool {
    let Some(definitions) = root.get("$defs").and_then(Value::as_object) else { return true };
    let mut ending = HashSet::new();
    loop {
        let more: Vec<&str> = definitions
            .iter()
            .filter(|(name, schema)| !ending.contains(name.as_str()) && ends(schema, &ending))
            .map(|(name, _)| name.as_str())
            .collect();
        if more.is_empty() {
            return object_ends(root, &ending);
        }
        ending.extend(more);
    }
}

/// Whether a value of `schema` ends, where those of the definitions in `ending` do.
fn ends(schema: &Value, ending: &HashSet<&str>) -> bool {
    schema.as_object().is_none_or(|schema| object_ends(schema, ending))
}

fn object_ends(schema: &Object, ending: &HashSet<&str>) -> bool {
    let list = |key: &str| schema.get(key).and_then(Value::as_array);
    if let Some(name) = schema.get("$ref").and_then(Value::as_str)
        && !name.strip_prefix("#/$defs/").is_none_or(|name| ending.contains(name))
    {
        return false;
    }
    if list("allOf").is_some_and(|parts| !parts.iter().all(|it| ends(it, ending))) {
        return false;
    }
    let either = ["anyOf", "oneOf"].into_iter().filter_map(list);
    if either.into_iter().any(|parts| !parts.iter().any(|it| ends(it, ending))) {
        return false;
    }
    // What lists its values, or may be of another type, has one that ends.
    let is_listed = schema.contains_key("const") || schema.contains_key("enum");
    match schema.get("type").and_then(Value::as_str).filter(|_| !is_listed) {
        Some("object") => {
            let named = |name: &str| {
                let property = schema.get("properties").and_then(|it| it.get(name));
                property.or_else(|| schema.get("additionalProperties"))
            };
            let required = list("required").into_iter().flatten().filter_map(Value::as_str);
            required.filter_map(named).all(|it| ends(it, ending))
        }
        Some("array") => {
            let least = schema.get("minItems").and_then(Value::as_u64).unwrap_or(0) as usize;
            let first = list("prefixItems").map_or(&[][..], Vec::as_slice);
            let items = schema.get("items").filter(|_| least > first.len());
            first.iter().take(least).chain(items).all(|it| ends(it, ending))
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::constraint::schema::lower;

    fn problem(schema: serde_json::Value) -> Option<String> {
        lower(&schema, "schema", true).err().map(|error| error.to_string())
    }

    #[test]
    fn what_leads_back_to_itself_without_an_end_is_refused() {
        let node = |required: &[&str]| {
            json!({
                "type": "object",
                "properties": { "next": { "$ref": "#" }, "list": {
                    "type": "array", "items": { "$ref": "#" }, "minItems": 1,
                } },
                "required": required,
            })
        };
        for endless in [
            json!({ "$ref": "#" }),
            json!({ "$ref": "#/$defs/a", "$defs": {
                "a": { "$ref": "#/$defs/b" }, "b": { "anyOf": [{ "$ref": "#/$defs/a" }] },
            } }),
            node(&["next"]),
            node(&["list"]),
        ] {
            let problem = problem(endless.clone());
            let is_named = problem.as_ref().is_some_and(|it| it.contains("\"$ref\" leads back"));
            assert!(is_named, "{endless}: {problem:?}");
        }
        for ends in [
            node(&[]),
            json!({ "anyOf": [{ "type": "null" }, { "$ref": "#" }] }),
            json!({ "type": "array", "items": { "$ref": "#" } }),
            json!({ "type": ["object", "null"], "properties": { "a": { "$ref": "#" } }, "required": ["a"] }),
        ] {
            assert_eq!(problem(ends.clone()), None, "{ends}");
        }
    }
}
