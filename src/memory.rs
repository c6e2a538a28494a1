//! How much memory the host can still give, and how much this process has taken.

use std::fs::read_to_string;

/// Bytes that can be taken without swapping: what Linux says of the machine and of this process' control group, whichever
/// is less. Other systems say nothing here.
pub fn available() -> Option<u64> {
    let machine = read_to_string("/proc/meminfo").ok().and_then(|text| field(&text, "MemAvailable:"));
    let machine = machine.map(|kib| kib * 1024);
    let group = |file: &str| read_to_string(format!("/sys/fs/cgroup/memory.{file}")).ok();
    let number = |file: &str| group(file)?.trim().parse::<u64>().ok();
    // Without a limit the file says `max`.
    let left = || {
        let cached = field(&group("stat")?, "inactive_file")?;
        Some((number("max")? + cached).saturating_sub(number("current")?))
    };
    machine.into_iter().chain(left()).min()
}

/// Bytes of memory that this process has held at once, at most; Linux says so, other systems say nothing here.
pub fn peak() -> Option<u64> {
    field(&read_to_string("/proc/self/status").ok()?, "VmHWM:").map(|kib| kib * 1024)
}

/// The first number behind a name at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Bytes for people: `1.5 GiB`, `12.0 MiB`.
pub fn in_words(bytes: u64) -> String {
    let [mib, gib] = [20, 30].map(|power| bytes as f64 / f64::from(1 << power));
    if gib >= 1.0 { format!("{gib:.1} GiB") } else { format!("{mib:.1} MiB") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_by_their_names() {
        let text = "MemTotal:       100 kB\nMemAvailable:   42 kB\n";
        assert_eq!((field(text, "MemAvailable:"), field(text, "SwapFree:")), (Some(42), None));
        assert_eq!((in_words(3 << 29), in_words(12 << 20)), ("1.5 GiB".to_owned(), "12.0 MiB".to_owned()));
        // Where anything is said, it is a machine's memory.
        assert!(available().is_none_or(|bytes| bytes > 1 << 20));
        assert!(peak().is_none_or(|bytes| bytes > 1 << 20));
    }
}
