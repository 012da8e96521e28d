//! Reads the text tables: sections of rows `name | key=value … | expected`.

/// One case.
#[derive(Debug)]
pub struct Row {
    pub name: &'static str,
    fields: &'static str,
    pub expected: &'static str,
}

/// The rows of a section.
pub fn section(text: &'static str, wanted: &str) -> Vec<Row> {
    let heading = format!("[{wanted}]");
    let lines = text.lines().skip_while(|line| *line != heading).skip(1);
    let rows: Vec<_> = lines
        .take_while(|line| !line.starts_with('['))
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| match line.split(" | ").collect::<Vec<_>>()[..] {
            [name, fields, expected] => Row { name, fields, expected },
            _ => panic!("not a row: {line}"),
        })
        .collect();
    assert!(!rows.is_empty(), "no section {wanted}");
    rows
}

impl Row {
    pub fn get(&self, key: &str) -> Option<&'static str> {
        self.fields().find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    /// All keys with their values, in order.
    pub fn fields(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.fields.split(' ').map(|field| field.split_once('=').unwrap())
    }

    pub fn number<T: std::str::FromStr>(&self, key: &str) -> Option<T> {
        self.get(key).map(|value| value.parse().ok().unwrap())
    }

    /// `a,b,c`, or `a` times n as `axn`; empty if the key is missing.
    pub fn list(&self, key: &str) -> impl Iterator<Item = &'static str> + use<> {
        let value = self.get(key).unwrap_or_default();
        let (value, times) = match value.split_once('x') {
            Some((value, times)) => (value, times.parse().unwrap()),
            None => (value, 1),
        };
        let entries = value.split(',').filter(|entry| !entry.is_empty());
        std::iter::repeat_n(entries, times).flatten()
    }

    pub fn numbers(&self, key: &str) -> Vec<i64> {
        self.list(key).map(|entry| entry.parse().unwrap()).collect()
    }

    /// `value@age, …`.
    pub fn aged(&self, key: &str) -> Vec<(i32, i64)> {
        let one = |entry: &str| {
            let (value, age) = entry.split_once('@').unwrap();
            (value.parse().unwrap(), age.parse().unwrap())
        };
        self.list(key).map(one).collect()
    }
}
