//! A tenant's PromQL, confined to the tenant's namespace. Pure.
//!
//! The text is parsed, every selector of the tree gets `namespace="…"`, and the tree is written out again: what Prometheus runs is our text, not
//! theirs. Matching on text would miss subqueries, parameters of aggregations, comments and escapes. Constructs whose reach cannot be confined by a
//! matcher (`info()` reads `target_info` of every namespace by itself) or that Prometheus has no syntax for are refused.

mod basis;

use promql_parser::label::{Labels, MatchOp, Matcher, Matchers};
use promql_parser::parser::{
    AggregateExpr, AtModifier, BinaryExpr, Call, Expr, LabelModifier, VectorMatchCardinality, VectorSelector, parse,
};

pub use basis::Basis;

/// Longest query in bytes. It also bounds how long a parse can take.
pub const QUERY_BYTES_MAX: usize = 4096;
/// Most selectors in one query: each is a scan of the index.
const SELECTORS_MAX: usize = 16;
/// Deepest nesting. The parser's tree is walked by recursion, here and in the parser.
const DEPTH_MAX: usize = 48;
/// The label that confines.
const NAMESPACE: &str = "namespace";
/// Functions that select series by themselves, or that Prometheus 2 and 3 do not have.
const REFUSED_FUNCTIONS: [&str; 1] = ["info"];

/// A query that only sees one namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confined {
    /// What to run.
    pub query: String,
    /// The selectors whose newest sample has to be fresh: those that ask for the present, without `offset` and `@`, and that the answer is made of. In
    /// order, without repeats.
    pub selectors: Vec<String>,
    /// Which of them the answer cannot do without.
    pub basis: Basis,
}

/// Rewrites `query` so that it sees series of `namespace` only.
///
/// # Errors
/// One sentence that says what to change.
pub fn confine(query: &str, namespace: &str) -> Result<Confined, String> {
    if !is_dns_label(namespace) {
        return Err(format!("{namespace:?} is not the name of a namespace"));
    }
    let mut tree = parse_bounded(query)?;
    let mut confine = Confine {
        namespace,
        selectors: Vec::new(),
        count: 0,
    };
    confine.expression(&mut tree, 0)?;
    let text = tree.to_string();
    // Our text is only as good as the writer of the parser's library: what we send must read as what we meant.
    let again =
        parse(&text).map_err(|problem| format!("the query cannot be written in a canonical form: {problem}"))?;
    if again != tree {
        return Err("the query has no unambiguous canonical form: put parentheses around its parts".to_owned());
    }
    let basis = Basis::of(&tree);
    // What may be missing need not be fresh either.
    let mut selectors = confine.selectors;
    selectors.retain(|selector| basis.names(selector));
    Ok(Confined {
        query: text,
        selectors,
        basis,
    })
}

fn parse_bounded(query: &str) -> Result<Expr, String> {
    if query.trim().is_empty() {
        return Err("the query is empty".to_owned());
    }
    if query.len() > QUERY_BYTES_MAX {
        return Err(format!(
            "the query has {} bytes, at most {QUERY_BYTES_MAX} are run",
            query.len()
        ));
    }
    if let Some(odd) = query
        .chars()
        .find(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t'))
    {
        return Err(format!("the query contains the control character {odd:?}"));
    }
    check_nesting(query)?;
    parse(query).map_err(|problem| format!("the query is not PromQL: {problem}"))
}

/// Bounds what makes the tree deep (brackets, signs, chains of operators) before anything recurses over it. Characters inside strings count too:
/// that only makes it stricter.
fn check_nesting(query: &str) -> Result<(), String> {
    let mut depth = 0_usize;
    let mut deepest = 0_usize;
    let mut operators = 0_usize;
    for character in query.chars() {
        match character {
            '(' | '[' | '{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            '+' | '-' | '*' | '/' | '%' | '^' | '<' | '>' | '=' => operators += 1,
            _ => {}
        }
    }
    if deepest > DEPTH_MAX {
        return Err(format!("the query is nested {deepest} deep, at most {DEPTH_MAX}"));
    }
    if operators > 8 * DEPTH_MAX {
        return Err(format!(
            "the query has {operators} operators, at most {}",
            8 * DEPTH_MAX
        ));
    }
    Ok(())
}

struct Confine<'a> {
    namespace: &'a str,
    selectors: Vec<String>,
    count: usize,
}

impl Confine<'_> {
    /// An own walk: the library's visitor skips the parameters of aggregations (`topk(scalar(other), …)`).
    fn expression(&mut self, expression: &mut Expr, depth: usize) -> Result<(), String> {
        if depth > 16 * DEPTH_MAX {
            return Err("the query is nested too deep".to_owned());
        }
        let below = depth + 1;
        match expression {
            Expr::Aggregate(AggregateExpr {
                expr, param, modifier, ..
            }) => {
                modifier.iter().try_for_each(check_labels)?;
                if let Some(param) = param {
                    self.expression(param, below)?;
                }
                self.expression(expr, below)
            }
            Expr::Unary(unary) => self.expression(&mut unary.expr, below),
            Expr::Binary(binary) => {
                check_matching(binary)?;
                self.expression(&mut binary.lhs, below)?;
                self.expression(&mut binary.rhs, below)
            }
            Expr::Paren(paren) => self.expression(&mut paren.expr, below),
            Expr::Subquery(subquery) => {
                check_time(subquery.at.as_ref())?;
                let past = subquery.at.is_some() || subquery.offset.is_some();
                let known = self.selectors.len();
                self.expression(&mut subquery.expr, below)?;
                if past {
                    self.selectors.truncate(known);
                }
                Ok(())
            }
            Expr::NumberLiteral(_) | Expr::StringLiteral(_) => Ok(()),
            Expr::VectorSelector(selector) => self.selector(selector),
            Expr::MatrixSelector(matrix) => self.selector(&mut matrix.vs),
            Expr::Call(call) => {
                check_function(call)?;
                call.args
                    .args
                    .iter_mut()
                    .try_for_each(|argument| self.expression(argument, below))
            }
            Expr::Extension(_) => Err("the query uses an unknown construct".to_owned()),
        }
    }

    fn selector(&mut self, selector: &mut VectorSelector) -> Result<(), String> {
        self.count += 1;
        if self.count > SELECTORS_MAX {
            return Err(format!("the query has more than {SELECTORS_MAX} selectors"));
        }
        if !selector.matchers.or_matchers.is_empty() {
            return Err("`or` between label matchers is no PromQL of Prometheus".to_owned());
        }
        if let Some(name) = selector.name.as_deref().filter(|name| !is_metric_name(name)) {
            return Err(format!("{name:?} is no classic metric name"));
        }
        check_time(selector.at.as_ref())?;
        let mut matchers = Vec::with_capacity(selector.matchers.matchers.len() + 1);
        for matcher in &selector.matchers.matchers {
            if matcher.name == NAMESPACE {
                if matches!(matcher.op, MatchOp::Equal) && matcher.value == self.namespace {
                    continue;
                }
                return Err(format!(
                    "the query only sees its own namespace: remove the matcher {matcher} (namespace=\"{}\" is added to every selector)",
                    self.namespace
                ));
            }
            if !is_label_name(&matcher.name) {
                return Err(format!("{:?} is no classic label name", matcher.name));
            }
            matchers.push(matcher.clone());
        }
        matchers.push(Matcher::new(MatchOp::Equal, NAMESPACE, self.namespace));
        // The library writes matchers out in this order: the tree has to have it too, to be found again in its text.
        matchers.sort_by_cached_key(ToString::to_string);
        selector.matchers = Matchers::new(matchers);
        if selector.at.is_none() && selector.offset.is_none() {
            let text = basis::selector_text(selector);
            if !self.selectors.contains(&text) {
                self.selectors.push(text);
            }
        }
        Ok(())
    }
}

fn check_function(call: &Call) -> Result<(), String> {
    if REFUSED_FUNCTIONS.contains(&call.func.name) {
        return Err(format!("{}() cannot be confined to one namespace", call.func.name));
    }
    Ok(())
}

fn check_matching(binary: &BinaryExpr) -> Result<(), String> {
    let Some(modifier) = &binary.modifier else {
        return Ok(());
    };
    modifier.matching.iter().try_for_each(check_labels)?;
    match &modifier.card {
        VectorMatchCardinality::ManyToOne(labels) | VectorMatchCardinality::OneToMany(labels) => check_names(labels),
        VectorMatchCardinality::OneToOne | VectorMatchCardinality::ManyToMany => Ok(()),
    }
}

fn check_labels(modifier: &LabelModifier) -> Result<(), String> {
    check_names(modifier.labels())
}

fn check_names(labels: &Labels) -> Result<(), String> {
    match labels.labels.iter().find(|name| !is_label_name(name)) {
        None => Ok(()),
        Some(name) => Err(format!("{name:?} is no classic label name")),
    }
}

/// Times before 1970 are written out as another time by the library.
fn check_time(at: Option<&AtModifier>) -> Result<(), String> {
    match at {
        Some(AtModifier::At(time)) if *time < std::time::SystemTime::UNIX_EPOCH => {
            Err("the query asks for a time before 1970".to_owned())
        }
        _ => Ok(()),
    }
}

fn is_label_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn is_metric_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || matches!(b, b'_' | b':'))
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b':'))
}

/// RFC 1123 label, as Kubernetes demands of a namespace.
fn is_dns_label(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}

#[cfg(test)]
mod tests;
