//! Gemma's objects, whose keys stand without quotes and whose strings between marks.

use std::fmt::Write as _;

use serde_json::Value;

use super::values::{OF_ARRAYS, OF_OBJECTS, limits, unwritable};
use super::{MAX_DEPTH, OF_STRINGS, Writer, joined, not_enforced, with_definitions};
use crate::error::Result;
use crate::text::output::schemas::Tool;
use crate::text::output::value::quoted;

/// Items with commas between them.
fn list(item: &str, least: u64, most: Option<u64>) -> String {
    let more = |least: u64| match most {
        Some(0 | 1) => String::new(),
        Some(most) => format!("(\",\" {item}){{{least},{}}}", most - 1),
        None => format!("(\",\" {item}){{{least},}}"),
    };
    match (least, most) {
        (_, Some(0)) => String::new(),
        (0, _) => format!("({item} {})?", more(0)),
        (least, _) => format!("{item} {}", more(least - 1)),
    }
}

impl Writer<'_> {
    /// An object with Gemma's keys and strings.
    pub(super) fn marked_object(
        &mut self,
        tool: &Tool,
        schema: &Value,
        mark: &str,
        depth: usize,
    ) -> Result<String> {
        let (mut properties, mut names) = (Vec::new(), Vec::new());
        self.collect(tool, schema, &mut properties, &mut names, depth)?;
        let (mut required, mut optional) = (Vec::new(), Vec::new());
        for (name, schema) in properties {
            if name.is_empty() || name.contains([':', ',', '{', '}', '[', ']', '<', '\n']) {
                return Err(unwritable(tool, name));
            }
            let value = self.marked(tool, schema, mark, depth + 1)?;
            let rule = self.rule(&format!("{} ({value})", self.literal(&format!("{name}:"))));
            if names.contains(&name) { &mut required } else { &mut optional }.push(rule);
        }
        Ok(format!("\"{{\" {} \"}}\"", joined(&required, &optional, ",")))
    }

    /// A value with Gemma's keys and strings.
    pub(super) fn marked(
        &mut self,
        tool: &Tool,
        schema: &Value,
        mark: &str,
        depth: usize,
    ) -> Result<String> {
        let schema = self.target(tool, schema)?;
        if let Some(listed) = self.listed(tool, schema)? {
            let each = listed.iter().map(|value| match value {
                Value::String(text) => self.literal(&format!("{mark}{text}{mark}")),
                other => quoted(&other.to_string()),
            });
            return Ok(each.collect::<Vec<_>>().join(" | "));
        }
        if depth > MAX_DEPTH {
            return self.any_marked(mark);
        }
        if let Some(parts) = self.alternatives(tool, schema)? {
            let each = parts.iter().map(|part| self.marked(tool, part, mark, depth + 1));
            return Ok(each.collect::<Result<Vec<_>>>()?.join(" | "));
        }
        let types: Vec<&str> = match schema.get("type") {
            Some(Value::Array(types)) => types.iter().filter_map(Value::as_str).collect(),
            Some(Value::String(name)) => vec![name],
            _ if schema.get("properties").is_some() => vec!["object"],
            _ => {
                self.leave_out(tool, schema, &[], " without a type")?;
                return self.any_marked(mark);
            }
        };
        let mut each = Vec::new();
        for name in types {
            each.push(match name {
                "string" => {
                    format!("{} {}", self.literal(mark), self.string(tool, schema, mark)?)
                }
                "object" if schema.get("properties").is_some() => {
                    self.marked_object(tool, schema, mark, depth)?
                }
                "array" => {
                    let known = ["items", "minItems", "maxItems"];
                    self.leave_out_of(tool, schema, &known, &OF_ARRAYS)?;
                    let item = match schema.get("items") {
                        Some(items) => self.marked(tool, items, mark, depth + 1)?,
                        None => self.any_marked(mark)?,
                    };
                    let item = self.rule(&item);
                    let (least, most) = limits(tool, schema, ["minItems", "maxItems"])?;
                    let list = list(&item, least, most);
                    format!("\"[\" {list} \"]\"")
                }
                "object" => {
                    self.leave_out_of(tool, schema, &[], &OF_OBJECTS)?;
                    self.any_marked(mark)?
                }
                scalar => {
                    let mut scalar_schema = with_definitions(schema, tool);
                    scalar_schema["type"] = scalar.into();
                    if let Some(fields) = scalar_schema.as_object_mut() {
                        OF_STRINGS.iter().for_each(|key| _ = fields.remove(*key));
                    }
                    self.json(tool, &scalar_schema)?
                }
            });
        }
        if schema.get("nullable") == Some(&Value::Bool(true)) {
            each.push("\"null\"".to_owned());
        }
        Ok(each.join(" | "))
    }

    /// Any value with Gemma's keys and strings.
    pub(super) fn any_marked(&mut self, mark: &str) -> Result<String> {
        if self.any_marked.is_none() {
            let text = format!("{} {}", self.literal(mark), self.text(mark));
            let name = self.name("any");
            let _ = writeln!(
                self.rules,
                "{name}: {text} | NUMBER | \"true\" | \"false\" | \"null\" \
                 | \"[\" ({name} (\",\" {name})*)? \"]\" \
                 | \"{{\" (KEY {name} (\",\" KEY {name})*)? \"}}\"\n\
                 NUMBER: /-?[0-9]{{1,15}}([.][0-9]{{1,15}})?/\n\
                 KEY: /[A-Za-z_][A-Za-z0-9_]*:/"
            );
            self.any_marked = Some(name);
        }
        self.any_marked.clone().ok_or_else(not_enforced)
    }
}
