//! Which series a query's answer is made of. Pure.
//!
//! `sum(a) + (sum(b) or vector(0))` answers a number when `b` is gone. A number with a missing part is not believed, unless the query itself says
//! that one of two series is enough.

use promql_parser::parser::token::{T_LOR, T_LUNLESS};
use promql_parser::parser::{AggregateExpr, Expr, VectorSelector};

/// Which selectors must have samples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Basis {
    /// A selector, by its text.
    Selector(String),
    /// All of them; without any, nothing is needed.
    All(Vec<Basis>),
    /// One of them.
    Any(Vec<Basis>),
}

impl Basis {
    /// Of a query whose selectors are confined already.
    pub(super) fn of(expression: &Expr) -> Self {
        let one = |expression: &Expr| Self::of(expression);
        match expression {
            Expr::VectorSelector(selector) => Self::of_selector(selector),
            Expr::MatrixSelector(matrix) => Self::of_selector(&matrix.vs),
            Expr::Paren(paren) => one(&paren.expr),
            Expr::Unary(unary) => one(&unary.expr),
            // What is asked of the past has no newest sample that could be too old.
            Expr::Subquery(subquery) if subquery.at.is_some() || subquery.offset.is_some() => Self::All(Vec::new()),
            Expr::Subquery(subquery) => one(&subquery.expr),
            Expr::Aggregate(AggregateExpr { expr, param, .. }) => {
                Self::All(param.iter().map(|param| one(param)).chain([one(expr)]).collect())
            }
            // A constant beside it stands in for nothing: only series can stand in for series.
            Expr::Binary(binary) if binary.op.id() == T_LOR => {
                let sides = [one(&binary.lhs), one(&binary.rhs)];
                Self::Any(sides.into_iter().filter(|side| !side.is_empty()).collect())
            }
            // What is taken away may be nothing.
            Expr::Binary(binary) if binary.op.id() == T_LUNLESS => one(&binary.lhs),
            Expr::Binary(binary) => Self::All(vec![one(&binary.lhs), one(&binary.rhs)]),
            // To be absent is what it asks about.
            Expr::Call(call) if call.func.name.starts_with("absent") => Self::All(Vec::new()),
            Expr::Call(call) => Self::All(call.args.args.iter().map(|argument| one(argument)).collect()),
            Expr::NumberLiteral(_) | Expr::StringLiteral(_) | Expr::Extension(_) => Self::All(Vec::new()),
        }
    }

    fn of_selector(selector: &VectorSelector) -> Self {
        if selector.at.is_some() || selector.offset.is_some() {
            return Self::All(Vec::new());
        }
        Self::Selector(selector_text(selector))
    }

    /// Whether it asks for no series at all.
    fn is_empty(&self) -> bool {
        match self {
            Self::Selector(_) => false,
            Self::All(parts) | Self::Any(parts) => parts.iter().all(Self::is_empty),
        }
    }

    /// Whether the selector is part of it.
    pub(super) fn names(&self, selector: &str) -> bool {
        match self {
            Self::Selector(text) => text == selector,
            Self::All(parts) | Self::Any(parts) => parts.iter().any(|part| part.names(selector)),
        }
    }

    /// The first selector without samples that the answer cannot do without.
    pub fn missing(&self, has_samples: &impl Fn(&str) -> bool) -> Option<&str> {
        match self {
            Self::Selector(text) => (!has_samples(text)).then_some(text),
            Self::All(parts) => parts.iter().find_map(|part| part.missing(has_samples)),
            Self::Any(parts) => {
                let mut first = None;
                for part in parts {
                    first = first.or(Some(part.missing(has_samples)?));
                }
                first
            }
        }
    }
}

/// The selector alone, as it is asked for its newest sample.
pub(super) fn selector_text(selector: &VectorSelector) -> String {
    VectorSelector::new(selector.name.clone(), selector.matchers.clone()).to_string()
}

#[cfg(test)]
mod tests {
    use super::super::confine;

    #[test]
    fn what_may_be_missing_need_not_be_fresh() {
        let selectors = |query: &str| confine(query, "demo").unwrap().selectors;
        assert!(selectors("absent(b)").is_empty() && selectors("vector(1) unless b").is_empty());
        assert_eq!(
            selectors("sum(a) + (absent(b) or vector(0))"),
            ["a{namespace=\"demo\"}"]
        );
        assert_eq!(selectors("sum(a) or sum(b)").len(), 2);
    }

    #[test]
    fn what_an_answer_cannot_do_without() {
        let missing = |query: &str, gone: &str| {
            let confined = confine(query, "demo").unwrap();
            let missing = confined.basis.missing(&|selector: &str| !selector.starts_with(gone));
            missing.map(|selector| selector.split('{').next().unwrap().to_owned())
        };
        for query in [
            "sum(a) + (sum(b) or vector(0))",
            "sum(a) / sum(b)",
            "sum(b) or vector(0)",
            "vector(0) or sum(b)",
            "topk(scalar(b), a)",
            "max_over_time(sum(b)[1m:10s])",
            "-(sum(rate(b[1m])) * 2)",
            "a and b",
        ] {
            assert_eq!(missing(query, "b").as_deref(), Some("b"), "{query}");
            assert_eq!(missing(query, "nothing"), None, "{query}");
        }
        for query in [
            "sum(a) or sum(b)",
            "sum(b) or sum(a)",
            "sum(a unless b)",
            "sum(a) + (absent(b) or vector(0))",
            "sum(a) - (sum(b offset 1h) or vector(0))",
            "hour()",
        ] {
            assert_eq!(missing(query, "b"), None, "{query}");
        }
        assert_eq!(missing("sum(a) or sum(b)", "").as_deref(), Some("a"), "both are gone");
    }
}
