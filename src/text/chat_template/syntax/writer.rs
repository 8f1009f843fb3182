//! Tags in minijinja's words.

use super::expression::{Argument, Expr, Node};
use super::lexer::Tag;
use super::statement::{Parameter, Statement};
use super::{DICT_METHODS, literal, names};

/// An open loop or macro: what is written when it begins must know how long its text is.
struct Open {
    /// The part of the output that waits for the length.
    part: usize,
    length: usize,
    /// Whether the loop stands in a `{% with %}` of ours.
    marked: bool,
}

pub(super) struct Writer {
    parts: Vec<String>,
    open: Vec<Open>,
}

impl Writer {
    pub fn new() -> Self {
        Self { parts: Vec::new(), open: Vec::new() }
    }

    pub fn text(&mut self, text: &str) {
        if let Some(open) = self.open.last_mut() {
            open.length += text.len();
        }
        self.verbatim(text);
    }

    pub fn verbatim(&mut self, text: &str) {
        self.parts.push(text.to_owned());
    }

    pub fn finish(self) -> String {
        self.parts.concat()
    }

    pub fn tag(&mut self, tag: &Tag<'_>, statement: &Statement) {
        let mut line = Line { out: String::new(), line: tag.line };
        let mut before = tag.before;
        let after = tag.after;
        match statement {
            Statement::Output(value) => {
                line.push("{{");
                line.push(before);
                line.push(" ");
                line.value(value);
                line.end(tag.last_line);
                line.push(" ");
                line.push(after);
                line.push("}}");
                return self.parts.push(line.out);
            }
            Statement::For { target, iterable, condition, recursive } => {
                if !recursive {
                    line.push(&format!("{{%{before} with {}={}() %}}", names::MARKED, names::MARK));
                    before = "";
                }
                line.push(&format!("{{%{before} for "));
                line.target(target);
                line.push(&format!(" in {}(", names::EACH));
                line.value(iterable);
                line.push(")");
                if let Some(condition) = condition {
                    line.push(" if ");
                    line.value(condition);
                }
                line.push(if *recursive { " recursive" } else { "" });
                line.end(tag.last_line);
                return self.begin(line.out, after, !recursive);
            }
            Statement::Macro { name, parameters } => {
                line.push(&format!("{{%{before} macro {name}"));
                line.parameters(parameters);
                line.end(tag.last_line);
                return self.begin(line.out, after, false);
            }
            Statement::EndFor => {
                let end = self.open.pop().is_some_and(|open| self.close(&open));
                let end = if end { " endfor %}{% endwith " } else { " endfor " };
                line.push(&format!("{{%{before}{end}"));
            }
            Statement::EndMacro => {
                if let Some(open) = self.open.pop() {
                    self.close(&open);
                }
                line.push(&format!("{{%{before} endmacro "));
            }
            other => {
                line.push(&format!("{{%{before} "));
                line.statement(other);
            }
        }
        line.end(tag.last_line);
        line.push(&format!("{after}%}}"));
        self.parts.push(line.out);
    }

    /// The end of a tag that opens a loop or a macro.
    fn begin(&mut self, opening: String, after: &str, marked: bool) {
        self.parts.push(opening);
        self.parts.push(format!(" %}}{{% if {}({}", names::PASS, marked_argument(marked)));
        self.open.push(Open { part: self.parts.len(), length: 0, marked });
        self.parts.push(String::new());
        self.parts.push(format!(") %}}{{% endif {after}%}}"));
    }

    /// Writes the length of what ends; says whether the loop was marked.
    fn close(&mut self, open: &Open) -> bool {
        if let Some(part) = self.parts.get_mut(open.part) {
            *part = open.length.to_string();
        }
        open.marked
    }
}

fn marked_argument(marked: bool) -> String {
    if marked { format!("{},", names::MARKED) } else { "none,".to_owned() }
}

/// A tag that is being written, in the lines of its source.
struct Line {
    out: String,
    line: usize,
}

impl Line {
    fn push(&mut self, text: &str) {
        self.out.push_str(text);
    }

    fn end(&mut self, line: usize) {
        while self.line < line {
            self.out.push('\n');
            self.line += 1;
        }
    }

    fn statement(&mut self, statement: &Statement) {
        match statement {
            Statement::If(word, value) => {
                self.push(word);
                self.push(" ");
                self.value(value);
            }
            Statement::Set { target, value } => self.set(target, value),
            Statement::SetBlock(target) => {
                self.push("set ");
                self.filtered_target(target);
            }
            Statement::Call { parameters, call } => {
                self.push("call");
                if !parameters.is_empty() {
                    self.parameters(parameters);
                }
                self.push(" ");
                self.value(call);
            }
            Statement::Filter(filters) => {
                self.push("filter ");
                self.value(filters);
            }
            Statement::With(assignments) => {
                self.push("with ");
                self.separated(assignments, |line, (target, value)| {
                    line.target(target);
                    line.push("=");
                    line.value(value);
                });
            }
            Statement::Generation => self.push("with"),
            Statement::EndGeneration => self.push("endwith"),
            Statement::Other(words) => self.push(words),
            Statement::Output(_)
            | Statement::For { .. }
            | Statement::Macro { .. }
            | Statement::EndFor
            | Statement::EndMacro => {}
        }
    }

    fn set(&mut self, target: &Expr, value: &Expr) {
        self.push("set ");
        self.target(target);
        self.push(" = ");
        match &target.node {
            Node::Attribute(owner, name) => {
                self.push(names::KEEP);
                self.push("(");
                self.value(value);
                self.push(",");
                self.target(owner);
                self.push(&format!(",{})", literal::quoted(name)));
            }
            Node::Tuple(targets)
                if targets.iter().any(|it| matches!(it.node, Node::Attribute(..))) =>
            {
                self.push(names::KEEP);
                self.push("(");
                self.value(value);
                self.push(")");
            }
            _ => self.value(value),
        }
    }

    fn target(&mut self, target: &Expr) {
        match &target.node {
            Node::Tuple(targets) => {
                self.push("(");
                self.separated(targets, Self::target);
                // A trailing comma, so that one name is unpacked, too.
                self.push(if targets.len() == 1 { ",)" } else { ")" });
            }
            Node::Attribute(owner, name) => {
                self.target(owner);
                self.push(".");
                self.push(name);
            }
            Node::Name(name) => self.push(name),
            _ => {}
        }
    }

    fn filtered_target(&mut self, target: &Expr) {
        if let Node::Filter(Some(value), name, arguments) = &target.node {
            self.filtered_target(value);
            self.push(&format!(" | {name}"));
            self.arguments(arguments);
        } else {
            self.target(target);
        }
    }

    fn parameters(&mut self, parameters: &[Parameter]) {
        self.push("(");
        self.separated(parameters, |line, parameter| {
            line.push(&parameter.name);
            if let Some(default) = &parameter.default {
                line.push("=");
                line.value(default);
            }
        });
        self.push(")");
    }

    fn separated<T>(&mut self, items: &[T], mut write: impl FnMut(&mut Self, &T)) {
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                self.push(",");
            }
            write(self, item);
        }
    }

    fn call(&mut self, function: &str, values: &[&Expr]) {
        self.push(function);
        self.push("(");
        self.separated(values, |line, value| line.value(value));
        self.push(")");
    }

    fn operators(&mut self, function: &str, first: &Expr, others: &[(&'static str, Expr)]) {
        self.push(function);
        self.push("(");
        self.value(first);
        for (operator, operand) in others {
            self.push(&format!(",'{operator}',"));
            self.value(operand);
        }
        self.push(")");
    }

    fn between(&mut self, operands: &[Expr], word: &str) {
        self.push("(");
        for (index, operand) in operands.iter().enumerate() {
            if index > 0 {
                self.push(word);
            }
            self.value(operand);
        }
        self.push(")");
    }

    fn arguments(&mut self, arguments: &[Argument]) {
        if arguments.is_empty() {
            return;
        }
        self.push("(");
        self.separated(arguments, |line, argument| {
            match argument {
                Argument::Positional(_) => {}
                Argument::Named(name, _) => line.push(&format!("{name}=")),
                Argument::Spread(_) => line.push("*"),
                Argument::SpreadNamed(_) => line.push("**"),
            }
            line.value(argument.value());
        });
        self.push(")");
    }

    fn value(&mut self, value: &Expr) {
        self.end(value.line);
        match &value.node {
            Node::Name(name) => self.push(name),
            Node::Text(text) => self.push(&literal::quoted(text)),
            Node::Number(number) => self.push(number),
            Node::Constant(word) => self.push(word),
            Node::List(_) | Node::Tuple(_) | Node::Dictionary(_) => {
                if is_constant(value) {
                    return self.literal(value);
                }
                self.push(names::LITERAL);
                self.push("(");
                self.literal(value);
                self.push(")");
            }
            Node::Attribute(owner, name) => self.attribute(owner, name, false),
            Node::Item(owner, index) => self.item(owner, index),
            Node::Slice(owner, bounds) => {
                self.push(names::SLICE);
                self.push("(");
                self.value(owner);
                for bound in bounds {
                    self.push(",");
                    match bound {
                        Some(bound) => self.value(bound),
                        None => self.push("none"),
                    }
                }
                self.push(")");
            }
            Node::Call(callee, arguments) => self.call_of(callee, arguments),
            Node::Filter(value, name, arguments) => {
                if let Some(value) = value {
                    self.value(value);
                    self.push("|");
                }
                self.push(name);
                self.arguments(arguments);
            }
            Node::Test { value, name, arguments, negated } => {
                self.push("(");
                self.value(value);
                self.push(if *negated { " is not " } else { " is " });
                self.push(name);
                self.arguments(arguments);
                self.push(")");
            }
            Node::Not(operand) => {
                self.push("(not ");
                self.value(operand);
                self.push(")");
            }
            Node::Negative(operand) => match &operand.node {
                Node::Number(number) => self.push(&format!("(-{number})")),
                _ => self.call(names::NEGATIVE, &[operand]),
            },
            Node::Chain(first, others) => self.operators(names::CHAIN, first, others),
            Node::Compare(first, others) => self.operators(names::COMPARE, first, others),
            Node::Concat(operands) => {
                self.call(names::CONCAT, &operands.iter().collect::<Vec<_>>());
            }
            Node::And(operands) => self.between(operands, " and "),
            Node::Or(operands) => self.between(operands, " or "),
            Node::Conditional { test, then, otherwise } => {
                self.push("(");
                self.value(then);
                self.push(" if ");
                self.value(test);
                if let Some(otherwise) = otherwise {
                    self.push(" else ");
                    self.value(otherwise);
                }
                self.push(")");
            }
        }
    }

    /// A value within a list, a tuple or a dictionary that is written out.
    fn literal(&mut self, value: &Expr) {
        match &value.node {
            Node::List(items) => {
                self.push("[");
                self.separated(items, Self::literal);
                self.push("]");
            }
            Node::Tuple(items) => {
                self.push("(");
                self.separated(items, Self::literal);
                self.push(if items.len() == 1 { ",)" } else { ")" });
            }
            Node::Dictionary(entries) => {
                self.push("{");
                self.separated(entries, |line, (key, value)| {
                    match key.node {
                        Node::Text(_) | Node::Number(_) | Node::Constant(_) => line.value(key),
                        _ => line.call(names::KEY, &[key]),
                    }
                    line.push(":");
                    line.literal(value);
                });
                self.push("}");
            }
            _ => self.value(value),
        }
    }

    /// A value that a dot or a bracket follows.
    fn grouped(&mut self, value: &Expr) {
        match &value.node {
            Node::Number(_) | Node::Filter(..) => {
                self.push("(");
                self.value(value);
                self.push(")");
            }
            _ => self.value(value),
        }
    }

    fn attribute(&mut self, owner: &Expr, name: &str, is_called: bool) {
        if !is_called && DICT_METHODS.contains(&name) {
            self.push(names::ATTRIBUTE);
            self.push("(");
            self.value(owner);
            self.push(&format!(",'{name}')"));
        } else {
            self.grouped(owner);
            self.push(&format!(".{name}"));
        }
    }

    fn item(&mut self, owner: &Expr, index: &Expr) {
        if matches!(&index.node, Node::Text(key) if DICT_METHODS.contains(&key.as_str())) {
            return self.call(names::ITEM, &[owner, index]);
        }
        self.grouped(owner);
        self.push("[");
        self.value(index);
        self.push("]");
    }

    fn call_of(&mut self, callee: &Expr, arguments: &[Argument]) {
        match &callee.node {
            Node::Attribute(owner, name) => self.attribute(owner, name, true),
            _ => self.grouped(callee),
        }
        // A recursive loop begins anew with what is given.
        if let (Node::Name(name), [Argument::Positional(iterable)]) = (&callee.node, arguments)
            && name == "loop"
        {
            self.call(&format!("({}", names::EACH), &[iterable]);
            return self.push(")");
        }
        match arguments {
            [] => self.push("()"),
            _ => self.arguments(arguments),
        }
    }
}

/// Whether a value has no parts but literals.
fn is_constant(value: &Expr) -> bool {
    match &value.node {
        Node::Text(_) | Node::Number(_) | Node::Constant(_) => true,
        Node::List(items) | Node::Tuple(items) => items.iter().all(is_constant),
        Node::Dictionary(entries) => {
            entries.iter().all(|(key, value)| is_constant(key) && is_constant(value))
        }
        _ => false,
    }
}
