//! Jinja2's expressions, as its own parser reads them.

use super::SyntaxError;
use super::lexer::{Kind, Token};
use super::literal;

/// An expression, and the line it begins in.
#[derive(Debug, Clone)]
pub(in super::super) struct Expr {
    pub line: usize,
    pub node: Node,
}

#[derive(Debug, Clone)]
pub(in super::super) enum Node {
    Name(String),
    Text(String),
    /// A number as minijinja reads it.
    Number(String),
    /// `true`, `false` or `none`.
    Constant(&'static str),
    List(Vec<Expr>),
    Tuple(Vec<Expr>),
    Dictionary(Vec<(Expr, Expr)>),
    Attribute(Box<Expr>, String),
    Item(Box<Expr>, Box<Expr>),
    Slice(Box<Expr>, [Option<Box<Expr>>; 3]),
    Call(Box<Expr>, Vec<Argument>),
    /// Without a value in `{% filter %}`.
    Filter(Option<Box<Expr>>, String, Vec<Argument>),
    Test {
        value: Box<Expr>,
        name: String,
        arguments: Vec<Argument>,
        negated: bool,
    },
    Not(Box<Expr>),
    Negative(Box<Expr>),
    /// Operators of one precedence, from left to right.
    Chain(Box<Expr>, Vec<(&'static str, Expr)>),
    Concat(Vec<Expr>),
    Compare(Box<Expr>, Vec<(&'static str, Expr)>),
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Conditional {
        test: Box<Expr>,
        then: Box<Expr>,
        otherwise: Option<Box<Expr>>,
    },
}

#[derive(Debug, Clone)]
pub(in super::super) enum Argument {
    Positional(Expr),
    Named(String, Expr),
    /// `*value`
    Spread(Expr),
    /// `**value`
    SpreadNamed(Expr),
}

impl Argument {
    pub fn value(&self) -> &Expr {
        match self {
            Self::Positional(value)
            | Self::Named(_, value)
            | Self::Spread(value)
            | Self::SpreadNamed(value) => value,
        }
    }
}

/// Python's parser and minijinja's give up somewhere here, too.
const MAX_DEPTH: usize = 100;

pub(super) struct Parser<'t, 'a> {
    tokens: &'t [Token<'a>],
    at: usize,
    depth: usize,
    /// The line of a problem behind the last token.
    line: usize,
}

type Parsed<T> = Result<T, SyntaxError>;

impl<'t, 'a> Parser<'t, 'a> {
    pub fn new(tokens: &'t [Token<'a>], line: usize) -> Self {
        Self { tokens, at: 0, depth: 0, line }
    }

    pub fn line(&self) -> usize {
        self.tokens.get(self.at).map_or(self.line, |token| token.line)
    }

    pub fn peek(&self) -> Option<&'a str> {
        self.tokens.get(self.at).filter(|it| it.kind != Kind::Text).map(|token| token.text)
    }

    fn peek_kind(&self) -> Option<Kind> {
        self.tokens.get(self.at).map(|token| token.kind)
    }

    pub fn is_done(&self) -> bool {
        self.at == self.tokens.len()
    }

    pub fn eat(&mut self, text: &str) -> bool {
        let found = self.peek() == Some(text);
        self.at += usize::from(found);
        found
    }

    pub fn expect(&mut self, text: &str) -> Parsed<()> {
        if self.eat(text) { Ok(()) } else { Err(self.unexpected(&format!("`{text}`"))) }
    }

    pub fn name(&mut self) -> Parsed<&'a str> {
        match self.tokens.get(self.at) {
            Some(token) if token.kind == Kind::Name => {
                self.at += 1;
                Ok(token.text)
            }
            _ => Err(self.unexpected("a name")),
        }
    }

    pub fn unexpected(&self, expected: &str) -> SyntaxError {
        let found = match self.tokens.get(self.at) {
            Some(token) => format!("`{}`", token.text.chars().take(40).collect::<String>()),
            None => "the end of the tag".to_owned(),
        };
        SyntaxError::new(self.line(), format!("expected {expected}, found {found}"))
    }

    pub fn finish(&self) -> Parsed<()> {
        if self.is_done() { Ok(()) } else { Err(self.unexpected("the end of the tag")) }
    }

    fn nested<T>(&mut self, parse: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.depth == MAX_DEPTH {
            let message = format!("an expression nested deeper than {MAX_DEPTH} levels");
            return Err(SyntaxError::new(self.line(), message));
        }
        self.depth += 1;
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    /// An expression, or several with commas between: a tuple. `ends` are words that end it.
    pub fn tuple(&mut self, conditional: bool, ends: &[&str]) -> Parsed<Expr> {
        let line = self.line();
        let mut items = Vec::new();
        let mut is_tuple = false;
        while !self.ends_tuple(ends) {
            items.push(if conditional { self.expression()? } else { self.or()? });
            if !self.eat(",") {
                break;
            }
            is_tuple = true;
        }
        match (is_tuple, items.len()) {
            (false, 1) => Ok(items.remove(0)),
            (_, 0) => Err(self.unexpected("an expression")),
            _ => Ok(Expr { line, node: Node::Tuple(items) }),
        }
    }

    fn ends_tuple(&self, ends: &[&str]) -> bool {
        match self.peek() {
            None => self.is_done(),
            Some(text) => text == ")" || ends.contains(&text),
        }
    }

    pub fn expression(&mut self) -> Parsed<Expr> {
        self.nested(|parser| {
            let line = parser.line();
            let mut value = parser.or()?;
            while parser.eat("if") {
                let test = Box::new(parser.or()?);
                let otherwise =
                    if parser.eat("else") { Some(Box::new(parser.expression()?)) } else { None };
                let node = Node::Conditional { test, then: Box::new(value), otherwise };
                value = Expr { line, node };
            }
            Ok(value)
        })
    }

    pub fn or(&mut self) -> Parsed<Expr> {
        self.list_of("or", Self::and, Node::Or)
    }

    fn and(&mut self) -> Parsed<Expr> {
        self.list_of("and", Self::not, Node::And)
    }

    fn list_of(
        &mut self,
        word: &str,
        operand: fn(&mut Self) -> Parsed<Expr>,
        node: fn(Vec<Expr>) -> Node,
    ) -> Parsed<Expr> {
        let line = self.line();
        let mut operands = vec![operand(self)?];
        while self.eat(word) {
            operands.push(operand(self)?);
        }
        Ok(match operands.len() {
            1 => operands.remove(0),
            _ => Expr { line, node: node(operands) },
        })
    }

    fn not(&mut self) -> Parsed<Expr> {
        let line = self.line();
        if self.eat("not") {
            let operand = self.nested(Self::not)?;
            return Ok(Expr { line, node: Node::Not(Box::new(operand)) });
        }
        self.compare()
    }

    fn compare(&mut self) -> Parsed<Expr> {
        let line = self.line();
        let first = self.sum()?;
        let mut others = Vec::new();
        loop {
            let operator = match self.peek() {
                Some("not") if self.tokens.get(self.at + 1).is_some_and(|it| it.text == "in") => {
                    self.at += 1;
                    Some("not in")
                }
                Some(text) => ["==", "!=", "<", "<=", ">", ">=", "in"]
                    .into_iter()
                    .find(|operator| *operator == text),
                None => None,
            };
            let Some(operator) = operator else { break };
            self.at += 1;
            others.push((operator, self.sum()?));
        }
        Ok(if others.is_empty() {
            first
        } else {
            Expr { line, node: Node::Compare(Box::new(first), others) }
        })
    }

    fn chain(
        &mut self,
        operators: &[&'static str],
        operand: fn(&mut Self) -> Parsed<Expr>,
    ) -> Parsed<Expr> {
        let line = self.line();
        let first = operand(self)?;
        let mut others = Vec::new();
        while let Some(operator) =
            operators.iter().find(|operator| self.peek() == Some(**operator)).copied()
        {
            self.at += 1;
            others.push((operator, operand(self)?));
        }
        Ok(if others.is_empty() {
            first
        } else {
            Expr { line, node: Node::Chain(Box::new(first), others) }
        })
    }

    fn sum(&mut self) -> Parsed<Expr> {
        self.chain(&["+", "-"], Self::concat)
    }

    fn concat(&mut self) -> Parsed<Expr> {
        let line = self.line();
        let mut operands = vec![self.product()?];
        while self.eat("~") {
            operands.push(self.product()?);
        }
        Ok(match operands.len() {
            1 => operands.remove(0),
            _ => Expr { line, node: Node::Concat(operands) },
        })
    }

    fn product(&mut self) -> Parsed<Expr> {
        self.chain(&["*", "/", "//", "%"], Self::power)
    }

    fn power(&mut self) -> Parsed<Expr> {
        self.chain(&["**"], |parser| parser.unary(true))
    }

    fn unary(&mut self, filters: bool) -> Parsed<Expr> {
        let line = self.line();
        let mut value = if self.eat("-") {
            let operand = self.nested(|parser| parser.unary(false))?;
            Expr { line, node: Node::Negative(Box::new(operand)) }
        } else if self.eat("+") {
            self.nested(|parser| parser.unary(false))?
        } else {
            self.primary()?
        };
        value = self.postfix(value)?;
        if filters { self.filters(value) } else { Ok(value) }
    }

    fn primary(&mut self) -> Parsed<Expr> {
        let line = self.line();
        let Some(token) = self.tokens.get(self.at) else {
            return Err(self.unexpected("an expression"));
        };
        let node = match (token.kind, token.text) {
            (Kind::Name, "true" | "True") => Node::Constant("true"),
            (Kind::Name, "false" | "False") => Node::Constant("false"),
            (Kind::Name, "none" | "None") => Node::Constant("none"),
            (Kind::Name, name) => Node::Name(name.to_owned()),
            (Kind::Number, number) => Node::Number(
                literal::number(number)
                    .ok_or_else(|| SyntaxError::new(line, format!("`{number}` is no number")))?,
            ),
            (Kind::Text, _) => {
                let mut text = String::new();
                while let Some(token) = self.tokens.get(self.at).filter(|it| it.kind == Kind::Text)
                {
                    text.push_str(&literal::text(token.text));
                    self.at += 1;
                }
                return Ok(Expr { line, node: Node::Text(text) });
            }
            (Kind::Operator, "(") => {
                self.at += 1;
                return self.nested(|parser| {
                    let inner = if parser.peek() == Some(")") {
                        Expr { line, node: Node::Tuple(Vec::new()) }
                    } else {
                        parser.tuple(true, &[])?
                    };
                    parser.expect(")")?;
                    Ok(inner)
                });
            }
            (Kind::Operator, "[") => {
                self.at += 1;
                let items = self.nested(|parser| parser.items("]", Self::expression))?;
                return Ok(Expr { line, node: Node::List(items) });
            }
            (Kind::Operator, "{") => {
                self.at += 1;
                let entries = self.nested(|parser| {
                    parser.items("}", |parser| {
                        let key = parser.expression()?;
                        parser.expect(":")?;
                        Ok((key, parser.expression()?))
                    })
                })?;
                return Ok(Expr { line, node: Node::Dictionary(entries) });
            }
            _ => return Err(self.unexpected("an expression")),
        };
        self.at += 1;
        Ok(Expr { line, node })
    }

    /// Items with commas between, and perhaps one behind the last, up to `close`.
    fn items<T>(
        &mut self,
        close: &str,
        mut item: impl FnMut(&mut Self) -> Parsed<T>,
    ) -> Parsed<Vec<T>> {
        let mut items = Vec::new();
        while !self.eat(close) {
            if !items.is_empty() {
                self.expect(",")?;
                if self.eat(close) {
                    break;
                }
            }
            items.push(item(self)?);
        }
        Ok(items)
    }

    fn postfix(&mut self, mut value: Expr) -> Parsed<Expr> {
        loop {
            value = match self.peek() {
                Some(".") => self.attribute(value)?,
                Some("[") => self.subscript(value)?,
                Some("(") => self.call(value)?,
                _ => return Ok(value),
            };
        }
    }

    fn attribute(&mut self, owner: Expr) -> Parsed<Expr> {
        let line = self.line();
        self.at += 1;
        let node = match self.tokens.get(self.at) {
            Some(token) if token.kind == Kind::Number => {
                let index = Node::Number(token.text.to_owned());
                self.at += 1;
                Node::Item(Box::new(owner), Box::new(Expr { line, node: index }))
            }
            _ => Node::Attribute(Box::new(owner), self.name()?.to_owned()),
        };
        Ok(Expr { line, node })
    }

    fn subscript(&mut self, owner: Expr) -> Parsed<Expr> {
        let line = self.line();
        self.at += 1;
        self.nested(|parser| {
            let first = if parser.peek() == Some(":") { None } else { Some(parser.expression()?) };
            let node = if parser.peek() == Some(":") {
                let mut bounds = [first.map(Box::new), None, None];
                for bound in &mut bounds[1..] {
                    if parser.eat(":") && !matches!(parser.peek(), Some("]" | ":")) {
                        *bound = Some(Box::new(parser.expression()?));
                    }
                }
                Node::Slice(Box::new(owner), bounds)
            } else {
                let Some(first) = first else { return Err(parser.unexpected("an expression")) };
                let mut items = vec![first];
                while parser.eat(",") && parser.peek() != Some("]") {
                    items.push(parser.expression()?);
                }
                let index = match items.len() {
                    1 => items.remove(0),
                    _ => Expr { line, node: Node::Tuple(items) },
                };
                Node::Item(Box::new(owner), Box::new(index))
            };
            parser.expect("]")?;
            Ok(Expr { line, node })
        })
    }

    fn call(&mut self, callee: Expr) -> Parsed<Expr> {
        let line = callee.line;
        let arguments = self.arguments()?;
        Ok(Expr { line, node: Node::Call(Box::new(callee), arguments) })
    }

    pub fn arguments(&mut self) -> Parsed<Vec<Argument>> {
        self.expect("(")?;
        self.nested(|parser| {
            parser.items(")", |parser| {
                if parser.eat("**") {
                    return parser.expression().map(Argument::SpreadNamed);
                }
                if parser.eat("*") {
                    return parser.expression().map(Argument::Spread);
                }
                let is_named = parser.peek_kind() == Some(Kind::Name)
                    && parser.tokens.get(parser.at + 1).is_some_and(|it| it.text == "=");
                if is_named {
                    let name = parser.name()?.to_owned();
                    parser.expect("=")?;
                    return Ok(Argument::Named(name, parser.expression()?));
                }
                parser.expression().map(Argument::Positional)
            })
        })
    }

    /// Filters, tests and further calls behind a value.
    fn filters(&mut self, mut value: Expr) -> Parsed<Expr> {
        loop {
            value = match self.peek() {
                Some("|") => {
                    self.at += 1;
                    self.filter(Some(value))?
                }
                Some("is") => self.test(value)?,
                Some("(") => self.call(value)?,
                _ => return Ok(value),
            };
        }
    }

    /// The filters of `{% filter %}`.
    pub fn block_filters(&mut self) -> Parsed<Expr> {
        let first = self.filter(None)?;
        self.filters(first)
    }

    /// `value` with the filters behind it.
    pub fn filtered(&mut self, mut value: Expr) -> Parsed<Expr> {
        while self.eat("|") {
            value = self.filter(Some(value))?;
        }
        Ok(value)
    }

    /// A filter; the parser is behind its bar.
    fn filter(&mut self, value: Option<Expr>) -> Parsed<Expr> {
        let line = self.line();
        let name = self.dotted()?;
        let arguments = if self.peek() == Some("(") { self.arguments()? } else { Vec::new() };
        Ok(Expr { line, node: Node::Filter(value.map(Box::new), name, arguments) })
    }

    fn dotted(&mut self) -> Parsed<String> {
        let mut name = self.name()?.to_owned();
        while self.eat(".") {
            name.push('.');
            name.push_str(self.name()?);
        }
        Ok(name)
    }

    fn test(&mut self, value: Expr) -> Parsed<Expr> {
        let line = self.line();
        self.at += 1;
        let negated = self.eat("not");
        let name = self.dotted()?;
        let mut arguments = Vec::new();
        if self.peek() == Some("(") {
            arguments = self.arguments()?;
        } else if self.begins_argument() {
            let argument = self.primary()?;
            arguments.push(Argument::Positional(self.postfix(argument)?));
        }
        let node = Node::Test { value: Box::new(value), name, arguments, negated };
        Ok(Expr { line, node })
    }

    /// Whether an argument without brackets follows the name of a test.
    fn begins_argument(&self) -> bool {
        match (self.peek_kind(), self.peek()) {
            (Some(Kind::Text | Kind::Number), _) | (_, Some("[" | "{")) => true,
            (Some(Kind::Name), Some(name)) => {
                !matches!(name, "else" | "or" | "and" | "is" | "if" | "in" | "not" | "recursive")
            }
            _ => false,
        }
    }
}
