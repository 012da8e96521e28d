//! `metricLabelSelector`: which pools. Pure.

use crate::metrics_api::refusal::Refusal;

/// The only label there is to select by.
const LABEL: &str = "pool";
/// Longest selector, and most pools in one.
const BYTES_MAX: usize = 1024;

/// The pools of a selector; `None` is all of them. `pool=x`, `pool==x` and `pool in (x, y)` are understood. Anything else is refused: to answer a
/// selector that was not understood with the whole service's number would scale on the wrong load.
pub fn pools(selector: &str) -> Result<Option<Vec<String>>, Refusal> {
    let selector = selector.trim();
    if selector.is_empty() {
        return Ok(None);
    }
    if selector.len() > BYTES_MAX {
        return Err(refused(&format!("it has {} bytes", selector.len())));
    }
    let rest = selector
        .strip_prefix(LABEL)
        .ok_or_else(|| refused(&format!("it is {selector:?}")))?;
    let names: Vec<&str> = if let Some(value) = rest.trim_start().strip_prefix('=') {
        vec![value.strip_prefix('=').unwrap_or(value).trim()]
    } else {
        let list = rest
            .strip_prefix(' ')
            .and_then(|rest| rest.trim_start().strip_prefix("in"))
            .and_then(|rest| rest.trim().strip_prefix('('))
            .and_then(|rest| rest.strip_suffix(')'))
            .ok_or_else(|| refused(&format!("it is {selector:?}")))?;
        list.split(',').map(str::trim).collect()
    };
    if let Some(bad) = names.iter().find(|name| !is_label_value(name)) {
        return Err(refused(&format!("{bad:?} is no name of a pool")));
    }
    let mut names: Vec<String> = names.into_iter().map(ToOwned::to_owned).collect();
    names.sort_unstable();
    names.dedup();
    Ok(Some(names))
}

fn refused(problem: &str) -> Refusal {
    Refusal::bad_request(format!(
        "metricLabelSelector has to be pool=NAME or pool in (NAME, …): {problem}"
    ))
}

/// The characters of a label's value, and at least one of them.
fn is_label_value(text: &str) -> bool {
    (1..=63).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_are_selected_by_name() {
        let names = |selector| pools(selector).unwrap();
        let some = |list: &[&str]| Some(list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(names(""), None);
        assert_eq!(names("pool=cpu"), some(&["cpu"]));
        assert_eq!(names("pool==cpu"), some(&["cpu"]));
        assert_eq!(names("pool = cpu"), some(&["cpu"]));
        assert_eq!(names("pool in (gpu, cpu,cpu)"), some(&["cpu", "gpu"]));
        assert_eq!(names("pool in (cpu)"), some(&["cpu"]));
    }

    #[test]
    fn anything_else_is_refused() {
        for selector in [
            "pool",
            "!pool",
            "pool!=cpu",
            "pool notin (cpu)",
            "pool in ()",
            "pool in cpu",
            "poolin(cpu)",
            "pool=",
            "pool=cpu,pool=gpu",
            "pool=cpu,namespace=b",
            "namespace=b",
            "pools=cpu",
            "pool===cpu",
            "pool=cpu)",
            "pool=c\"}pu",
            "pool=../b",
            "pool=cpu\u{0}",
            "POOL=cpu",
        ] {
            assert_eq!(pools(selector).map_err(|r| r.code), Err(400), "{selector:?}");
        }
        assert!(pools(&format!("pool={}", "x".repeat(2000))).is_err());
    }
}
