//! Which of the modules directly below a crate's root a file names.

use std::collections::BTreeMap;

use super::source::Source;

/// Module -> number of the first line that names it. `root` is the folder of the crate's sources, with a slash at its end.
pub fn of(source: &Source, root: &str) -> BTreeMap<String, usize> {
    let inside = source.path.strip_prefix(root).unwrap();
    // Modules between the root and this file: `a/b.rs` and `a/b/mod.rs` have two.
    let mut depth = inside.trim_end_matches("/mod.rs").split('/').count();
    if ["lib.rs", "main.rs"].contains(&inside) {
        depth = 0;
    }
    let from_root = if depth == 0 {
        None
    } else {
        Some("super::".repeat(depth))
    };
    let mut found = BTreeMap::new();
    for (number, line) in source.shipped_code() {
        let mut starts = vec!["crate::".to_owned()];
        starts.extend(from_root.clone());
        for start in starts {
            for (at, _) in line.match_indices(start.as_str()) {
                // `super::super::x` is not `super::x`.
                if line[..at].ends_with("super::") || line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
                    continue;
                }
                for module in names(&line[at + start.len()..]) {
                    found.entry(module).or_insert(number);
                }
            }
        }
    }
    found
}

/// `a::b` -> a; `{a::b, c}` -> a, c; rustfmt keeps one `use` per line where it is short, which is all that counts here.
fn names(rest: &str) -> Vec<String> {
    let ident = |text: &str| {
        text.trim()
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect::<String>()
    };
    match rest.strip_prefix('{') {
        None => vec![ident(rest)],
        Some(list) => {
            let mut depth = 0;
            list.split(|c: char| {
                depth += i32::from(c == '{') - i32::from(c == '}');
                depth == 0 && c == ','
            })
            .map(ident)
            .collect()
        }
    }
    .into_iter()
    .filter(|name| !name.is_empty() && name != "super")
    .collect()
}

#[test]
fn imports_are_seen_in_every_form() {
    let source = Source {
        path: "x/src/a/b.rs".into(),
        text: "//! Doc.\nuse crate::domain::x;\nuse crate::{clock, error::{A, B}, validate};\nuse super::sibling;\nuse super::super::status::y;\n// use crate::no;\n\
               #[cfg(test)]\nmod tests {\n    use crate::only_in_tests;\n}\n"
            .into(),
    };
    let found: Vec<String> = of(&source, "x/src/").into_keys().collect();
    assert_eq!(found, ["clock", "domain", "error", "status", "validate"]);
}
