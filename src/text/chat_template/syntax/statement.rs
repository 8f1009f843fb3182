//! What a tag says.

use super::SyntaxError;
use super::expression::{Argument, Expr, Node, Parser};
use super::lexer::Tag;

/// A tag.
#[derive(Debug)]
pub(in super::super) enum Statement {
    Output(Expr),
    /// `if` and `elif`
    If(&'static str, Expr),
    For {
        target: Expr,
        iterable: Expr,
        condition: Option<Expr>,
        recursive: bool,
    },
    Set {
        target: Expr,
        value: Expr,
    },
    /// `{% set name %}`, with the filters behind it.
    SetBlock(Expr),
    Macro {
        name: String,
        parameters: Vec<Parameter>,
    },
    /// `{% call(parameters) macro(…) %}`
    Call {
        parameters: Vec<Parameter>,
        call: Expr,
    },
    Filter(Expr),
    With(Vec<(Expr, Expr)>),
    Generation,
    EndGeneration,
    EndFor,
    EndMacro,
    /// Every other tag, as it stands.
    Other(String),
}

/// A parameter of a macro, and what it is if the call leaves it out.
#[derive(Debug)]
pub(in super::super) struct Parameter {
    pub name: String,
    pub default: Option<Expr>,
}

type Parsed<T> = Result<T, SyntaxError>;

pub(super) fn parse(tag: &Tag<'_>) -> Parsed<Statement> {
    let mut parser = Parser::new(&tag.tokens, tag.last_line);
    if !tag.is_block {
        let value = parser.tuple(true, &[])?;
        parser.finish()?;
        return Ok(Statement::Output(value));
    }
    let statement = match parser.name()? {
        "if" => Statement::If("if", parser.tuple(true, &[])?),
        "elif" => Statement::If("elif", parser.tuple(true, &[])?),
        "for" => for_loop(&mut parser)?,
        "set" => set(&mut parser)?,
        "macro" => {
            let name = parser.name()?.to_owned();
            Statement::Macro { name, parameters: parameters(&mut parser)? }
        }
        "call" => {
            let parameters =
                if parser.peek() == Some("(") { parameters(&mut parser)? } else { Vec::new() };
            let call = parser.expression()?;
            if !matches!(call.node, Node::Call(..)) {
                return Err(SyntaxError::new(call.line, "expected a call of a macro"));
            }
            Statement::Call { parameters, call }
        }
        "filter" => Statement::Filter(parser.block_filters()?),
        "with" => Statement::With(assignments(&mut parser)?),
        "generation" => Statement::Generation,
        "endgeneration" => Statement::EndGeneration,
        "endfor" => Statement::EndFor,
        "endmacro" => {
            // Jinja2 allows no name here, unlike its documentation of blocks.
            Statement::EndMacro
        }
        "do" => return Err(SyntaxError::new(tag.line, "unknown tag `do`")),
        _ => {
            let words: Vec<&str> = tag.tokens.iter().map(|token| token.text).collect();
            return Ok(Statement::Other(words.join(" ")));
        }
    };
    parser.finish()?;
    Ok(statement)
}

fn for_loop(parser: &mut Parser<'_, '_>) -> Parsed<Statement> {
    let target = target(parser, "in")?;
    parser.expect("in")?;
    let iterable = parser.tuple(false, &["if", "recursive"])?;
    let condition = if parser.eat("if") { Some(parser.expression()?) } else { None };
    let recursive = parser.eat("recursive");
    Ok(Statement::For { target, iterable, condition, recursive })
}

fn set(parser: &mut Parser<'_, '_>) -> Parsed<Statement> {
    let target = target(parser, "=")?;
    if parser.eat("=") {
        return Ok(Statement::Set { target, value: parser.tuple(true, &[])? });
    }
    // `{% set name | filter %}` begins like an expression with filters.
    if !parser.is_done() && parser.peek() != Some("|") {
        return Err(parser.unexpected("`=`"));
    }
    Ok(Statement::SetBlock(parser.filtered(target)?))
}

/// A name, a namespace's field, or several names with commas between.
fn target(parser: &mut Parser<'_, '_>, end: &str) -> Parsed<Expr> {
    let line = parser.line();
    let mut names = Vec::new();
    let mut is_tuple = false;
    loop {
        names.push(single_target(parser)?);
        if !parser.eat(",") {
            break;
        }
        is_tuple = true;
        if parser.peek() == Some(end) {
            break;
        }
    }
    Ok(if is_tuple { Expr { line, node: Node::Tuple(names) } } else { names.remove(0) })
}

fn single_target(parser: &mut Parser<'_, '_>) -> Parsed<Expr> {
    let line = parser.line();
    if parser.eat("(") {
        let inner = target(parser, ")")?;
        parser.expect(")")?;
        return Ok(inner);
    }
    let name = parser.name()?;
    if ["true", "True", "false", "False", "none", "None"].contains(&name) {
        return Err(SyntaxError::new(line, format!("cannot assign to `{name}`")));
    }
    let owner = Expr { line, node: Node::Name(name.to_owned()) };
    if !parser.eat(".") {
        return Ok(owner);
    }
    Ok(Expr { line, node: Node::Attribute(Box::new(owner), parser.name()?.to_owned()) })
}

fn parameters(parser: &mut Parser<'_, '_>) -> Parsed<Vec<Parameter>> {
    let line = parser.line();
    let mut parameters = Vec::new();
    for argument in parser.arguments()? {
        parameters.push(match argument {
            Argument::Positional(Expr { node: Node::Name(name), .. }) => {
                Parameter { name, default: None }
            }
            Argument::Named(name, default) => Parameter { name, default: Some(default) },
            _ => return Err(SyntaxError::new(line, "expected the names of parameters")),
        });
    }
    Ok(parameters)
}

fn assignments(parser: &mut Parser<'_, '_>) -> Parsed<Vec<(Expr, Expr)>> {
    let mut assignments = Vec::new();
    while !parser.is_done() {
        if !assignments.is_empty() {
            parser.expect(",")?;
        }
        let target = single_target(parser)?;
        parser.expect("=")?;
        assignments.push((target, parser.expression()?));
    }
    Ok(assignments)
}
