//! Which file a piece of code comes from: the executable parts of `/proc/self/maps`.

/// Memory that is mapped from a file and executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Map {
    pub start: u64,
    pub end: u64,
    pub offset: u64,
    pub file: String,
}

/// All of them now, in order of addresses; none when they cannot be read.
pub fn read() -> Vec<Map> {
    let text = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    text.lines().filter_map(parse).collect()
}

/// `start-end perms offset device inode   path`.
fn parse(line: &str) -> Option<Map> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let mut fields = rest.splitn(4, ' ');
    let permissions = fields.next()?;
    let offset = fields.next()?;
    let (_inode, file) = fields.nth(1)?.split_once(' ')?;
    let hexadecimal = |text| u64::from_str_radix(text, 16).ok();
    permissions.contains('x').then_some(())?;
    Some(Map {
        start: hexadecimal(start)?,
        end: hexadecimal(end)?,
        offset: hexadecimal(offset)?,
        file: file.trim_start().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executable_files_alone() {
        let line = "7f00a000-7f00c000 r-xp 00026000 fe:01 1234                       /usr/lib/a b.so";
        assert_eq!(
            parse(line),
            Some(Map {
                start: 0x7f00_a000,
                end: 0x7f00_c000,
                offset: 0x26000,
                file: "/usr/lib/a b.so".to_owned()
            })
        );
        assert_eq!(
            parse("7f00a000-7f00c000 rw-p 00026000 fe:01 1234     /usr/lib/a.so"),
            None
        );
        assert_eq!(parse(""), None);
        let here = executable_files_alone as *const () as u64;
        assert!(read().iter().any(|map| (map.start..map.end).contains(&here)));
    }
}
