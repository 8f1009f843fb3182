//! The tools that were offered, and what their schemas say about arguments.

use serde_json::{Map, Value};

/// The tools of a request.
#[derive(Debug, Clone, Default)]
pub struct Tools {
    tools: Vec<Tool>,
}

/// A tool that the model may call.
#[derive(Debug, Clone)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// The JSON schema of its arguments.
    pub parameters: Value,
    /// Whether a schema that cannot be enforced exactly is an error.
    pub strict: bool,
}

/// The types that a schema allows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Types {
    /// Strings.
    pub string: bool,
    /// Whole numbers.
    pub integer: bool,
    /// Numbers of any kind.
    pub number: bool,
    /// `true` and `false`.
    pub boolean: bool,
    /// `null`.
    pub null: bool,
    /// Objects and arrays.
    pub container: bool,
}

/// References and alternatives are followed this far.
const MAX_DEPTH: usize = 16;

impl Tools {
    /// The tools of a list in OpenAI's shape, or of objects with a name and parameters.
    pub fn new(list: &Value) -> Self {
        let tools = list.as_array().into_iter().flatten().filter_map(|tool| {
            let function = tool.get("function").unwrap_or(tool);
            let name = function.get("name")?.as_str()?.to_owned();
            let parameters = ["parameters", "input_schema"]
                .into_iter()
                .find_map(|key| function.get(key))
                .filter(|it| it.is_object())
                .cloned();
            let strict = function.get("strict").and_then(Value::as_bool).unwrap_or_default();
            let parameters = parameters.unwrap_or(Value::Object(Map::new()));
            Some(Tool { name, parameters, strict })
        });
        Self { tools: tools.collect() }
    }

    /// All of them.
    pub fn all(&self) -> &[Tool] {
        &self.tools
    }

    /// Whether there is a tool of that name.
    pub fn has(&self, name: &str) -> bool {
        self.tools.iter().any(|tool| tool.name == name)
    }

    /// Whether a tool's name begins with `text`.
    pub fn begins(&self, text: &str) -> bool {
        self.tools.iter().any(|tool| tool.name.starts_with(text))
    }

    /// What a tool declares of its arguments.
    pub(super) fn declared(&self, name: &str) -> Option<Declared<'_>> {
        let tool = self.tools.iter().find(|tool| tool.name == name)?;
        Some(Declared { schema: &tool.parameters, root: &tool.parameters })
    }

    /// The types that an argument may have; `None` where the schema does not say.
    pub fn types(&self, name: &str, argument: &str) -> Option<Types> {
        let tool = self.tools.iter().find(|tool| tool.name == name)?;
        let property = property(&tool.parameters, &tool.parameters, argument, 0)?;
        types_of(property, &tool.parameters)
    }
}

/// What a schema declares of a value, for values that a model writes in another type.
#[derive(Debug, Clone, Copy)]
pub(super) struct Declared<'a> {
    schema: &'a Value,
    /// What its references point into.
    root: &'a Value,
}

impl<'a> Declared<'a> {
    /// Of a property.
    pub fn property(self, name: &str) -> Option<Self> {
        let schema = property(self.schema, self.root, name, 0)?;
        Some(Self { schema, ..self })
    }

    /// Of an item.
    pub fn item(self) -> Option<Self> {
        let schema = resolved(self.schema, self.root).get("items")?;
        Some(Self { schema, ..self })
    }

    /// Whether its type is known, and is no string.
    pub fn wants_other_than_string(self) -> bool {
        types_of(self.schema, self.root).is_some_and(|types| !types.string)
    }

    /// The JSON of a value that was written as the string `text`, where the schema wants a number
    /// or a boolean and no string, and the text is nothing else.
    pub fn coerced(self, text: &str) -> Option<String> {
        let types = types_of(self.schema, self.root).filter(|types| !types.string)?;
        let is_wanted = match serde_json::from_str(text).ok()? {
            Value::Bool(_) => types.boolean,
            Value::Number(_) => {
                let is_whole = text.bytes().all(|it| it.is_ascii_digit() || it == b'-');
                types.number || (types.integer && is_whole)
            }
            _ => false,
        };
        let is_bare = text.bytes().all(|it| it.is_ascii_graphic());
        (is_wanted && is_bare).then(|| text.to_owned())
    }
}

/// The types that a property's schema allows; `root` is what its references point into.
pub(super) fn types_of(property: &Value, root: &Value) -> Option<Types> {
    let mut types = Types::default();
    types.add(property, root, 0);
    (types != Types::default()).then_some(types)
}

fn property<'a>(schema: &'a Value, root: &'a Value, name: &str, depth: usize) -> Option<&'a Value> {
    if depth > MAX_DEPTH {
        return None;
    }
    if let Some(found) = schema.get("properties").and_then(|it| it.get(name)) {
        return Some(found);
    }
    if let Some(target) = reference(schema, root) {
        return property(target, root, name, depth + 1);
    }
    let others = ["allOf", "anyOf", "oneOf"].into_iter().filter_map(|key| schema.get(key));
    let found = others.filter_map(Value::as_array).flatten();
    found.into_iter().find_map(|it| property(it, root, name, depth + 1))
}

/// The schema that a reference leads to, if it is one and leads anywhere.
pub(super) fn resolved<'a>(mut schema: &'a Value, root: &'a Value) -> &'a Value {
    for _ in 0..MAX_DEPTH {
        match reference(schema, root) {
            Some(target) => schema = target,
            None => break,
        }
    }
    schema
}

fn reference<'a>(schema: &'a Value, root: &'a Value) -> Option<&'a Value> {
    let pointer = schema.get("$ref")?.as_str()?.strip_prefix('#')?;
    root.pointer(pointer)
}

impl Types {
    /// Whether nothing but strings are allowed.
    pub fn only_string(self) -> bool {
        self == Self { string: true, ..Self::default() }
    }

    fn add(&mut self, schema: &Value, root: &Value, depth: usize) {
        if depth > MAX_DEPTH {
            return;
        }
        match schema.get("type") {
            Some(Value::String(name)) => self.name(name),
            Some(Value::Array(names)) => {
                names.iter().filter_map(Value::as_str).for_each(|name| self.name(name));
            }
            _ => {
                let listed = schema.get("enum").and_then(Value::as_array).into_iter().flatten();
                listed.chain(schema.get("const")).for_each(|value| self.value(value));
                self.container |=
                    schema.get("properties").is_some() || schema.get("items").is_some();
            }
        }
        if schema.get("nullable") == Some(&Value::Bool(true)) {
            self.null = true;
        }
        if let Some(target) = reference(schema, root) {
            self.add(target, root, depth + 1);
        }
        for key in ["anyOf", "oneOf", "allOf"] {
            let list = schema.get(key).and_then(Value::as_array).into_iter().flatten();
            list.for_each(|schema| self.add(schema, root, depth + 1));
        }
    }

    fn name(&mut self, name: &str) {
        match name.trim().to_ascii_lowercase().as_str() {
            "string" | "str" | "text" | "varchar" | "char" | "enum" => self.string = true,
            "number" | "float" | "double" => self.number = true,
            "boolean" | "bool" => self.boolean = true,
            "null" | "none" => self.null = true,
            "object" | "array" | "dict" | "list" | "tuple" => self.container = true,
            name if ["int", "uint", "long", "short"].iter().any(|it| name.starts_with(it)) => {
                self.integer = true;
            }
            _ => {}
        }
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::String(_) => self.string = true,
            Value::Number(number) if number.is_f64() => self.number = true,
            Value::Number(_) => self.integer = true,
            Value::Bool(_) => self.boolean = true,
            Value::Null => self.null = true,
            Value::Array(_) | Value::Object(_) => self.container = true,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn types(schema: Value) -> Option<Types> {
        let tools = json!([{ "type": "function", "function": {
            "name": "f",
            "parameters": {
                "properties": { "x": schema },
                "$defs": { "text": { "type": "string" }, "loop": { "$ref": "#/$defs/loop" } },
            },
        } }]);
        Tools::new(&tools).types("f", "x")
    }

    #[test]
    fn types_are_read_off_every_kind_of_schema() {
        let string = Types { string: true, ..Types::default() };
        let integer = Types { integer: true, ..Types::default() };
        assert_eq!(types(json!({ "type": "string" })), Some(string));
        assert_eq!(types(json!({ "enum": ["a", "b"] })), Some(string));
        assert_eq!(types(json!({ "$ref": "#/$defs/text" })), Some(string));
        assert_eq!(types(json!({ "type": "int32" })), Some(integer));
        let either = Types { string: true, null: true, ..Types::default() };
        assert_eq!(types(json!({ "type": ["string", "null"] })), Some(either));
        assert_eq!(
            types(json!({ "anyOf": [{ "type": "string" }, { "type": "null" }] })),
            Some(either)
        );
        assert_eq!(types(json!({ "const": 5 })), Some(integer));
        assert_eq!(types(json!({ "type": "string", "enum": ["1"] })), Some(string));
        assert_eq!(types(json!({})), None);
        assert_eq!(types(json!({ "$ref": "#/$defs/loop" })), None);
    }

    #[test]
    fn tools_may_have_any_shape() {
        let tools = Tools::new(&json!([{ "name": "a" }, 5, { "function": { "name": "bc" } }]));
        assert!(tools.has("a") && tools.has("bc") && tools.begins("b") && !tools.has("b"));
        assert_eq!(Tools::new(&json!("none")).all().len(), 0);
    }
}
