//! Where `$ref` leads: to a place of the same document, by a pointer, an anchor or an identifier.

use std::collections::HashMap;

use serde_json::Value;

use super::Object;
use super::keywords::children;

/// The number of a resource: the document, or a part of it that has an identifier of its own.
pub type Resource = usize;

/// What references of a document can lead to.
pub struct References<'a> {
    resources: Vec<(String, &'a Value)>,
    anchors: HashMap<(Resource, &'a str), &'a Value>,
    /// The resource of each schema, by its address.
    places: HashMap<*const Value, Resource>,
}

impl<'a> References<'a> {
    /// Those of `root`.
    pub fn new(root: &'a Value) -> Self {
        let mut references =
            Self { resources: Vec::new(), anchors: HashMap::new(), places: HashMap::new() };
        let uri = root.as_object().and_then(identifier).unwrap_or_default();
        references.resources.push((without_fragment(uri).to_owned(), root));
        references.scan(root, 0);
        references
    }

    fn scan(&mut self, schema: &'a Value, outer: Resource) {
        let Value::Object(map) = schema else { return };
        let mut resource = outer;
        if let (Some(id), false) = (identifier(map), std::ptr::eq(schema, self.resources[0].1)) {
            let uri = join(&self.resources[outer].0, id);
            resource = self.resources.len();
            self.resources.push((uri, schema));
        }
        self.places.insert(schema, resource);
        for keyword in ["$anchor", "$dynamicAnchor"] {
            if let Some(Value::String(name)) = map.get(keyword) {
                self.anchors.entry((resource, name)).or_insert(schema);
            }
        }
        for child in children(map) {
            self.scan(child, resource);
        }
    }

    /// The resource that `schema` belongs to; `near` for one that was not found as a schema.
    pub fn resource_of(&self, schema: &Value, near: Resource) -> Resource {
        self.places.get(&std::ptr::from_ref(schema)).copied().unwrap_or(near)
    }

    /// What `reference` leads to, from within `resource`.
    pub fn resolve(
        &self,
        reference: &str,
        resource: Resource,
    ) -> Result<(&'a Value, Resource), String> {
        let uri = join(&self.resources[resource].0, reference);
        let own = without_fragment(reference).is_empty();
        let found = match own {
            true => Some(resource),
            false => self.resources.iter().position(|(other, _)| *other == uri),
        };
        let Some(resource) = found else {
            return Err(format!("\"$ref\" leads to another document: \"{reference}\""));
        };
        let fragment = reference.split_once('#').map_or("", |(_, fragment)| fragment);
        let fragment = percent_decoded(fragment);
        let missing = || format!("\"$ref\" leads nowhere: \"{reference}\"");
        let schema = match fragment.as_str() {
            "" => self.resources[resource].1,
            pointer if pointer.starts_with('/') => {
                self.resources[resource].1.pointer(pointer).ok_or_else(missing)?
            }
            name => self.anchors.get(&(resource, name)).ok_or_else(missing)?,
        };
        Ok((schema, self.resource_of(schema, resource)))
    }
}

/// `$id`, or draft 4's `id` where it is one and not a property.
fn identifier(schema: &Object) -> Option<&str> {
    let id = schema.get("$id")?.as_str()?;
    // In earlier drafts this is an anchor.
    (!id.starts_with('#')).then_some(id)
}

fn without_fragment(uri: &str) -> &str {
    uri.split_once('#').map_or(uri, |(uri, _)| uri)
}

/// A reference from within `base`, without its fragment.
fn join(base: &str, reference: &str) -> String {
    let reference = without_fragment(reference);
    let scheme = |uri: &str| -> Option<usize> {
        let at = uri.find(':')?;
        let named = uri[..at].bytes().all(|it| it.is_ascii_alphanumeric() || b"+-.".contains(&it));
        (at > 0 && named).then_some(at)
    };
    if reference.is_empty() {
        return base.to_owned();
    }
    if scheme(reference).is_some() {
        return reference.to_owned();
    }
    // Where the path begins: behind the scheme and the authority.
    let path = match (scheme(base), base.find("://")) {
        (_, Some(at)) => base[at + 3..].find('/').map_or(base.len(), |slash| at + 3 + slash),
        (Some(at), None) => at + 1,
        (None, None) => 0,
    };
    if reference.starts_with('/') {
        return format!("{}{reference}", &base[..path]);
    }
    let folder = base[path..].rfind('/').map_or(path, |slash| path + slash + 1);
    let separator = if folder == base.len() && path == base.len() && path > 0 { "/" } else { "" };
    format!("{}{separator}{reference}", &base[..folder])
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let code = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match (byte, code.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(code)) => {
                bytes.push(code);
                rest = &after[2..];
            }
            _ => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
