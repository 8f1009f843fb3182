//! What a template reads of a message, as its tags say.
//!
//! Templates take a message's content as text, as a list of parts, or as both; and a call's
//! arguments as an object, as JSON text, or as both. What they do with the fields tells which.

use std::collections::{BTreeMap, BTreeSet};

use super::syntax::{Argument, Expr, Node, Parameter, Statement};

/// What a template reads.
#[derive(Debug, Default)]
pub(super) struct Reads {
    /// Whether it goes through the parts of a content.
    pub parts: bool,
    /// Whether it asks of which type a content is.
    pub asks_for_content: bool,
    /// Whether it asks if a content is `none`.
    pub asks_for_none: bool,
    /// Whether it uses arguments as an object.
    pub argument_objects: bool,
    /// Whether it asks of which type arguments are.
    pub asks_for_arguments: bool,
    /// The fields and strings in it.
    names: BTreeSet<String>,
    /// The variables that it names.
    variables: BTreeSet<String>,
}

/// Filters that give a part of a list, or the list itself.
const LIST_FILTERS: [&str; 9] =
    ["selectattr", "rejectattr", "select", "reject", "map", "list", "default", "first", "last"];

/// Filters that read the fields of parts.
const PART_FILTERS: [&str; 4] = ["selectattr", "rejectattr", "map", "groupby"];

impl Reads {
    pub fn of(statements: &[Statement]) -> Self {
        let mut reads = Self::default();
        let content = Flow::of(statements, "content");
        let arguments = Flow::of(statements, "arguments");
        for statement in statements {
            if let Statement::For { iterable, .. } = statement {
                reads.parts |= content.holds(iterable);
                reads.argument_objects |= arguments.holds(iterable);
            }
            each(statement, &mut |expr| {
                reads.content(expr, &content);
                reads.arguments(expr, &arguments);
                match &expr.node {
                    Node::Attribute(_, name) | Node::Text(name) => {
                        reads.names.insert(name.clone());
                    }
                    Node::Name(name) => {
                        reads.variables.insert(name.clone());
                    }
                    _ => {}
                }
            });
        }
        reads
    }

    /// Whether the template names the variable anywhere.
    pub fn variable(&self, name: &str) -> bool {
        self.variables.contains(name)
    }

    /// Whether a string in the template's tags has `text` in it.
    pub fn mentions(&self, text: &str) -> bool {
        self.names.iter().any(|name| name.contains(text))
    }

    /// Whether the template names the field anywhere.
    pub fn field(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Whether the template reads tools of a message, and no variable of them.
    pub fn tools_of_message(&self) -> bool {
        self.field("tools") && !self.variable("tools")
    }

    fn content(&mut self, expr: &Expr, flow: &Flow) {
        match &expr.node {
            Node::Filter(Some(value), name, _) => {
                self.parts |= PART_FILTERS.contains(&name.as_str()) && flow.holds(value);
            }
            // `content[0].text`
            Node::Attribute(item, _) => self.parts |= flow.holds_item(item),
            Node::Item(item, key) => {
                self.parts |= matches!(key.node, Node::Text(_)) && flow.holds_item(item);
            }
            Node::Test { value, name, .. } if flow.holds(value) => {
                self.asks_for_none |= name == "none";
                self.asks_for_content |= is_type(name);
            }
            Node::Compare(left, others) if flow.holds(left) => {
                let is_none = |(_, it): &(_, Expr)| matches!(it.node, Node::Constant("none"));
                self.asks_for_none |= others.iter().any(is_none);
            }
            _ => {}
        }
    }

    fn arguments(&mut self, expr: &Expr, flow: &Flow) {
        match &expr.node {
            Node::Filter(Some(value), name, _) if flow.holds(value) => {
                self.argument_objects |= matches!(name.as_str(), "tojson" | "items" | "dictsort");
            }
            Node::Call(callee, _) => {
                if let Node::Attribute(owner, name) = &callee.node {
                    let reads_object = matches!(name.as_str(), "items" | "keys" | "get" | "values");
                    self.argument_objects |= reads_object && flow.holds(owner);
                }
            }
            Node::Item(owner, _) => self.argument_objects |= flow.holds(owner),
            Node::Test { value, name, .. } if flow.holds(value) => {
                self.asks_for_arguments |= is_type(name);
            }
            _ => {}
        }
    }
}

fn is_type(test: &str) -> bool {
    matches!(test, "string" | "mapping" | "iterable" | "sequence")
}

/// The variables that hold a certain field of a message.
struct Flow {
    field: &'static str,
    names: BTreeSet<String>,
}

impl Flow {
    fn of(statements: &[Statement], field: &'static str) -> Self {
        let mut flow = Self { field, names: BTreeSet::new() };
        let mut macros: BTreeMap<&str, &[Parameter]> = BTreeMap::new();
        for statement in statements {
            if let Statement::Macro { name, parameters } = statement {
                macros.insert(name, parameters);
            }
        }
        // A variable may come from one that is assigned further down.
        loop {
            let before = flow.names.len();
            for statement in statements {
                flow.follow(statement, &macros);
            }
            if flow.names.len() == before {
                return flow;
            }
        }
    }

    fn follow(&mut self, statement: &Statement, macros: &BTreeMap<&str, &[Parameter]>) {
        match statement {
            Statement::Set { target, value } => self.assign(target, value),
            Statement::With(assignments) => {
                for (target, value) in assignments {
                    self.assign(target, value);
                }
            }
            _ => {}
        }
        let mut passed = Vec::new();
        each(statement, &mut |expr| {
            let Node::Call(callee, arguments) = &expr.node else { return };
            let Node::Name(name) = &callee.node else { return };
            let Some(parameters) = macros.get(name.as_str()) else { return };
            for (index, argument) in arguments.iter().enumerate() {
                let parameter = match argument {
                    Argument::Named(name, _) => Some(name.as_str()),
                    _ => parameters.get(index).map(|parameter| parameter.name.as_str()),
                };
                if let Some(parameter) = parameter.filter(|_| self.holds(argument.value())) {
                    passed.push(parameter.to_owned());
                }
            }
        });
        self.names.extend(passed);
    }

    fn assign(&mut self, target: &Expr, value: &Expr) {
        if let Node::Name(name) = &target.node
            && self.holds(value)
        {
            self.names.insert(name.clone());
        }
    }

    /// Whether an expression may be the field itself, or a part of its list.
    fn holds(&self, expr: &Expr) -> bool {
        match &expr.node {
            Node::Name(name) => self.names.contains(name),
            Node::Attribute(_, name) => name == self.field,
            Node::Item(_, key) => matches!(&key.node, Node::Text(name) if name == self.field),
            Node::Slice(value, _) => self.holds(value),
            Node::Filter(Some(value), name, _) => {
                LIST_FILTERS.contains(&name.as_str()) && self.holds(value)
            }
            Node::Call(callee, arguments) => match &callee.node {
                Node::Attribute(_, name) if name == "get" => arguments.first().is_some_and(
                    |key| matches!(&key.value().node, Node::Text(name) if name == self.field),
                ),
                _ => false,
            },
            Node::Conditional { then, otherwise, .. } => {
                self.holds(then) || otherwise.as_ref().is_some_and(|it| self.holds(it))
            }
            Node::And(operands) | Node::Or(operands) => operands.iter().any(|it| self.holds(it)),
            _ => false,
        }
    }

    /// Whether an expression is an item of the field's list.
    fn holds_item(&self, expr: &Expr) -> bool {
        match &expr.node {
            Node::Item(owner, index) => {
                let is_position = matches!(index.node, Node::Number(_) | Node::Negative(_));
                is_position && self.holds(owner)
            }
            Node::Filter(Some(value), name, _) => {
                matches!(name.as_str(), "first" | "last") && self.holds(value)
            }
            _ => false,
        }
    }
}

/// Calls `visit` with every expression of a tag, those within others included.
fn each(statement: &Statement, visit: &mut dyn FnMut(&Expr)) {
    match statement {
        Statement::Output(value)
        | Statement::If(_, value)
        | Statement::SetBlock(value)
        | Statement::Filter(value) => within(value, visit),
        Statement::For { iterable, condition, .. } => {
            within(iterable, visit);
            condition.iter().for_each(|condition| within(condition, visit));
        }
        Statement::Set { target, value } => {
            within(target, visit);
            within(value, visit);
        }
        Statement::Macro { parameters, .. } => {
            defaults(parameters, visit);
        }
        Statement::Call { parameters, call } => {
            defaults(parameters, visit);
            within(call, visit);
        }
        Statement::With(assignments) => {
            assignments.iter().for_each(|(_, value)| within(value, visit));
        }
        Statement::Generation
        | Statement::EndGeneration
        | Statement::EndFor
        | Statement::EndMacro
        | Statement::Other(_) => {}
    }
}

fn defaults(parameters: &[Parameter], visit: &mut dyn FnMut(&Expr)) {
    parameters.iter().filter_map(|it| it.default.as_ref()).for_each(|it| within(it, visit));
}

fn within(expr: &Expr, visit: &mut dyn FnMut(&Expr)) {
    visit(expr);
    let mut all = |exprs: &mut dyn Iterator<Item = &Expr>| exprs.for_each(|it| within(it, visit));
    match &expr.node {
        Node::Name(_) | Node::Text(_) | Node::Number(_) | Node::Constant(_) => {}
        Node::List(items)
        | Node::Tuple(items)
        | Node::Concat(items)
        | Node::And(items)
        | Node::Or(items) => all(&mut items.iter()),
        Node::Dictionary(entries) => {
            all(&mut entries.iter().flat_map(|(key, value)| [key, value]));
        }
        Node::Attribute(value, _) | Node::Not(value) | Node::Negative(value) => {
            all(&mut std::iter::once(&**value));
        }
        Node::Item(owner, key) => all(&mut [&**owner, &**key].into_iter()),
        Node::Slice(owner, bounds) => {
            all(&mut std::iter::once(&**owner).chain(bounds.iter().flatten().map(|it| &**it)));
        }
        Node::Call(callee, arguments) => {
            let arguments = arguments.iter().map(Argument::value);
            all(&mut std::iter::once(&**callee).chain(arguments));
        }
        Node::Filter(value, _, arguments) => {
            let value = value.iter().map(|it| &**it);
            all(&mut value.chain(arguments.iter().map(Argument::value)));
        }
        Node::Test { value, arguments, .. } => {
            let arguments = arguments.iter().map(Argument::value);
            all(&mut std::iter::once(&**value).chain(arguments));
        }
        Node::Chain(first, others) | Node::Compare(first, others) => {
            all(&mut std::iter::once(&**first).chain(others.iter().map(|(_, it)| it)));
        }
        Node::Conditional { test, then, otherwise } => {
            let otherwise = otherwise.iter().map(|it| &**it);
            all(&mut [&**test, &**then].into_iter().chain(otherwise));
        }
    }
}
