//! Injection attempts, and the property that every selector of what is run carries exactly the one namespace.

use proptest::prelude::*;

use super::*;

/// All selectors of a text, found by a second walk that shares no code with the rewriting.
fn selectors(text: &str) -> Vec<VectorSelector> {
    fn walk(expression: &Expr, found: &mut Vec<VectorSelector>) {
        match expression {
            Expr::Aggregate(aggregate) => {
                aggregate.param.iter().for_each(|param| walk(param, found));
                walk(&aggregate.expr, found);
            }
            Expr::Unary(unary) => walk(&unary.expr, found),
            Expr::Binary(binary) => {
                walk(&binary.lhs, found);
                walk(&binary.rhs, found);
            }
            Expr::Paren(paren) => walk(&paren.expr, found),
            Expr::Subquery(subquery) => walk(&subquery.expr, found),
            Expr::VectorSelector(selector) => found.push(selector.clone()),
            Expr::MatrixSelector(matrix) => found.push(matrix.vs.clone()),
            Expr::Call(call) => call.args.args.iter().for_each(|argument| walk(argument, found)),
            Expr::NumberLiteral(_) | Expr::StringLiteral(_) => {}
            Expr::Extension(_) => panic!("no parser makes one"),
        }
    }
    let mut found = Vec::new();
    walk(&parse(text).unwrap(), &mut found);
    found
}

fn assert_confined(text: &str, namespace: &str) {
    for selector in selectors(text) {
        assert!(selector.matchers.or_matchers.is_empty(), "{text}");
        let namespaces = selector.matchers.find_matchers(NAMESPACE);
        assert_eq!(
            namespaces,
            vec![Matcher::new(MatchOp::Equal, NAMESPACE, namespace)],
            "{text}"
        );
    }
}

#[test]
fn every_shape_of_selector_is_confined() {
    let cases = [
        ("up", r#"up{namespace="a"}"#),
        (r#"up{job="x"}"#, r#"up{job="x",namespace="a"}"#),
        (r#"up{namespace="a"}"#, r#"up{namespace="a"}"#),
        (r#"{__name__=~"up|down"}"#, r#"{__name__=~"up|down",namespace="a"}"#),
        ("rate(x[5m])", r#"rate(x{namespace="a"}[5m])"#),
        (
            "max_over_time(rate(x[1m])[10m:30s])",
            r#"max_over_time(rate(x{namespace="a"}[1m])[10m:30s])"#,
        ),
        (
            r#"label_replace(x, "namespace", "b", "", "")"#,
            r#"label_replace(x{namespace="a"}, "namespace", "b", "", "")"#,
        ),
        (
            "sum by (namespace) (x) / on (pod) group_left () y",
            r#"sum by (namespace) (x{namespace="a"}) / on (pod) group_left () y{namespace="a"}"#,
        ),
        (
            "topk(scalar(secret), x)",
            r#"topk(scalar(secret{namespace="a"}), x{namespace="a"})"#,
        ),
        (
            "quantile(scalar(max(secret)), x)",
            r#"quantile(scalar(max(secret{namespace="a"})), x{namespace="a"})"#,
        ),
        ("x offset 5m", r#"x{namespace="a"} offset 5m"#),
        ("x @ 1700000000", r#"x{namespace="a"} @ 1700000000.000"#),
        ("x @ end()", r#"x{namespace="a"} @ end()"#),
        (
            "rate(x[5m] @ start() offset 1m)",
            r#"rate(x{namespace="a"}[5m] @ start() offset 1m)"#,
        ),
        ("absent(x)", r#"absent(x{namespace="a"})"#),
        ("x unless y", r#"x{namespace="a"} unless y{namespace="a"}"#),
        ("-x", r#"-x{namespace="a"}"#),
        (
            "(x or vector(0)) > bool 3",
            r#"(x{namespace="a"} or vector(0)) > bool 3"#,
        ),
        (
            "histogram_quantile(0.9, sum by (le) (rate(b[1m])))",
            r#"histogram_quantile(0.9, sum by (le) (rate(b{namespace="a"}[1m])))"#,
        ),
        ("x # } or secret{", r#"x{namespace="a"}"#),
        (r#"{"other metric"}"#, r#"{__name__="other metric",namespace="a"}"#),
        ("time()", "time()"),
        (
            r#"x{y="\"} or secret{z=\""}"#,
            r#"x{namespace="a",y="\"} or secret{z=\""}"#,
        ),
        (r"x{y='\'} or secret{z=\''}", r#"x{namespace="a",y="'} or secret{z='"}"#),
        (
            r#"x{y=`"} or secret{z="`}"#,
            r#"x{namespace="a",y="\"} or secret{z=\""}"#,
        ),
    ];
    for (given, expected) in cases {
        let confined = confine(given, "a").unwrap_or_else(|problem| panic!("{given}: {problem}"));
        assert_eq!(
            parse(&confined.query),
            parse(expected),
            "{given} became {}",
            confined.query
        );
        assert_confined(&confined.query, "a");
    }
}

#[test]
fn attempts_to_look_elsewhere_are_refused() {
    let deep_parens = format!("{}x{}", "(".repeat(2000), ")".repeat(2000));
    let deep_signs = format!("{}x", "-".repeat(4000));
    let long_chain = format!("x{}", "+x".repeat(2000));
    let many = vec!["x"; 20].join(" or ");
    let long = format!("x{{y=\"{}\"}}", "z".repeat(5000));
    let cases = [
        r#"x{namespace="b"}"#,
        r#"x{namespace=~".*"}"#,
        r#"x{namespace=~"a"}"#,
        r#"x{namespace!="b"}"#,
        r#"x{namespace!~"b"}"#,
        r#"x{namespace=""}"#,
        r#"x{namespace="a",namespace="b"}"#,
        r#"x{"namespace"="b"}"#,
        r"x{'namespace'=~'.+'}",
        r#"x{y="z" or namespace="b"}"#,
        r#"{__name__="x", namespace="b"}"#,
        r#"topk(scalar(x{namespace="b"}), y)"#,
        r#"sum_over_time(x{namespace="b"}[5m:1m])"#,
        "info(x)",
        r#"info(x, {namespace="b"})"#,
        r#"sum by ("a b") (x)"#,
        "x @ -5",
        "x} or secret{",
        "x) or (secret",
        "x; secret",
        "x secret",
        "",
        "  ",
        "x{",
        "sum(",
        "rate(x)",
        "nonsense(x)",
        "x\u{0}",
        "x\u{7f}y",
        &deep_parens,
        &deep_signs,
        &long_chain,
        &many,
        &long,
    ];
    for given in cases {
        if let Ok(confined) = confine(given, "a") {
            panic!(
                "{} was let through as {}",
                &given[..given.len().min(80)],
                confined.query
            );
        }
    }
    for namespace in ["", "A", "a\"b", "a.b", "-a", "a}", &"a".repeat(64)] {
        assert!(confine("x", namespace).is_err(), "{namespace:?}");
    }
}

#[test]
fn freshness_is_asked_of_selectors_of_the_present_only() {
    let selectors = |query| confine(query, "a").unwrap().selectors;
    assert_eq!(selectors("x / x"), [r#"x{namespace="a"}"#]);
    assert_eq!(
        selectors("rate(x[5m]) + y offset 1d + z @ 5 + max_over_time(w[5m:1m] offset 1h)"),
        [r#"x{namespace="a"}"#]
    );
    assert!(selectors("time()").is_empty());
}

#[test]
fn the_refusal_says_what_to_change() {
    let text = confine(r#"x{namespace=~"b.*"}"#, "a").unwrap_err();
    assert!(text.contains(r#"remove the matcher namespace=~"b.*""#), "{text}");
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("x".to_owned()),
        Just("job:y:sum".to_owned()),
        "[a-z_:][a-z0-9_:]{0,8}"
    ]
    .prop_filter("no keyword", |name| parse(&format!("{name}{{a=\"b\"}}")).is_ok())
}

fn matcher() -> impl Strategy<Value = String> {
    let label = prop_oneof![3 => "[a-z_][a-z0-9_]{0,6}", 1 => Just("namespace".to_owned())];
    let operator = prop_oneof![Just("="), Just("!="), Just("=~"), Just("!~")];
    let value = prop_oneof![
        3 => "[ -~]{0,12}".prop_map(|value| escape(&value)),
        1 => Just("a".to_owned()),
        1 => "\\PC{0,6}".prop_map(|value| escape(&value)),
    ];
    (label, operator, value).prop_map(|(label, operator, value)| format!("{label}{operator}\"{value}\""))
}

fn escape(value: &str) -> String {
    super::super::queries::escape_string(value)
}

fn selector() -> impl Strategy<Value = String> {
    (name(), prop::collection::vec(matcher(), 0..3))
        .prop_map(|(name, matchers)| format!("{name}{{{}}}", matchers.join(",")))
}

fn vector() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        selector(),
        selector().prop_map(|s| format!("rate({s}[5m])")),
        selector().prop_map(|s| format!("{s} offset 5m")),
        selector().prop_map(|s| format!("{s} @ end()")),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|e| format!("({e})")),
            inner.clone().prop_map(|e| format!("-({e})")),
            inner.clone().prop_map(|e| format!("-{e}")),
            inner.clone().prop_map(|e| format!("abs({e})")),
            inner.clone().prop_map(|e| format!("sum by (pod) ({e})")),
            inner.clone().prop_map(|e| format!("max_over_time(({e})[10m:1m])")),
            inner
                .clone()
                .prop_map(|e| format!("label_replace({e}, \"namespace\", \"$1\", \"pod\", \"(.*)\")")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("topk(scalar({a}), {b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a} + {b}")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a} ^ {b}")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a} or {b}")),
            (inner.clone(), inner).prop_map(|(a, b)| format!("{a} / on (pod) group_left () {b}")),
        ]
    })
}

/// Whether the library reads back what it writes, which for some regular expressions, signs and powers it does not.
fn is_canonical(query: &str) -> bool {
    parse(query).is_ok_and(|tree| {
        let text = tree.to_string();
        parse(&text).is_ok_and(|again| again.to_string() == text)
            && parse(query).is_ok_and(|_| skeleton(&text) == skeleton(query))
    })
}

/// The text of a tree with the matchers taken out of all selectors.
fn skeleton(query: &str) -> String {
    fn strip(expression: &mut Expr) {
        match expression {
            Expr::Aggregate(aggregate) => {
                aggregate.param.iter_mut().for_each(|param| strip(param));
                strip(&mut aggregate.expr);
            }
            Expr::Unary(unary) => strip(&mut unary.expr),
            Expr::Binary(binary) => {
                strip(&mut binary.lhs);
                strip(&mut binary.rhs);
            }
            Expr::Paren(paren) => strip(&mut paren.expr),
            Expr::Subquery(subquery) => strip(&mut subquery.expr),
            Expr::VectorSelector(selector) => selector.matchers = Matchers::empty(),
            Expr::MatrixSelector(matrix) => matrix.vs.matchers = Matchers::empty(),
            Expr::Call(call) => call.args.args.iter_mut().for_each(|argument| strip(argument)),
            Expr::NumberLiteral(_) | Expr::StringLiteral(_) | Expr::Extension(_) => {}
        }
    }
    let mut tree = parse(query).unwrap();
    strip(&mut tree);
    format!("{tree:?}")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_run_sees_one_namespace(query in vector()) {
        if let Ok(confined) = confine(&query, "a") {
            assert_confined(&confined.query, "a");
            for selector in &confined.selectors {
                assert_confined(selector, "a");
            }
        }
    }

    #[test]
    fn queries_without_a_namespace_matcher_keep_their_meaning(query in vector().prop_filter("own", |q| !q.contains("namespace"))) {
        // Confining again what was confined changes nothing, and only the matchers of selectors differ from what was written.
        let confined = confine(&query, "a");
        prop_assert!(confined.is_ok() || !is_canonical(&query), "{query}: {confined:?}");
        if let Ok(confined) = confined {
            prop_assert_eq!(confine(&confined.query, "a").unwrap(), confined.clone());
            prop_assert_eq!(skeleton(&confined.query), skeleton(&query));
        }
    }

    #[test]
    fn no_text_gets_out(query in "[ -~]{0,60}") {
        if let Ok(confined) = confine(&query, "a") {
            assert_confined(&confined.query, "a");
        }
    }
}
