//! Which versions of the rivals were built in: the lock file says it.

/// The crates that are compared or that comparisons are made of, with their versions.
pub(crate) fn all() -> Vec<(String, String)> {
    let mut lines = include_str!("../Cargo.lock").lines();
    let mut versions: Vec<(String, String)> = Vec::new();
    while let Some(line) = lines.next() {
        if let Some(name) = quoted(line, "name = ")
            && CRATES.contains(&name)
            && let Some(version) = lines.next().and_then(|line| quoted(line, "version = "))
        {
            match versions.last_mut().filter(|(other, _)| other == name) {
                Some((_, versions)) => *versions += &format!(" and {version}"),
                None => versions.push((name.to_owned(), version.to_owned())),
            }
        }
    }
    versions
}

fn quoted<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    Some(line.strip_prefix(key)?.trim_matches('"'))
}

/// There may be more than one version of a crate: `ipc-rpc` has an `ipc-channel` of its own.
const CRATES: [&str; 9] =
    ["nape", "bincode", "crossbeam-channel", "iceoryx2", "ipc-channel", "ipc-rpc", "remoc", "tarpc", "zbus"];
