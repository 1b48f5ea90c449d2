//! A hostile case as a file: a title, what has to come of it, and its bytes. `src/guide/wire.md` has the format.

use std::{fs, path::Path};

/// What stands in a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct HostileFile {
    /// The name of the file, without what is behind its dot.
    pub(crate) name: String,
    /// The lines `# key: value` before the bytes.
    fields: Vec<(String, String)>,
    /// The packets in their order, and how often each comes.
    pub(crate) packets: Vec<(Vec<u8>, usize)>,
}

impl HostileFile {
    pub(crate) fn parse(name: &str, text: &str) -> HostileFile {
        let mut file = HostileFile { name: name.to_owned(), fields: Vec::new(), packets: Vec::new() };
        let mut packet = Vec::new();
        for line in text.lines().chain([""]) {
            if let Some(comment) = line.strip_prefix('#') {
                if let Some((key, value)) = comment.split_once(": ") {
                    file.fields.push((key.trim().to_owned(), value.to_owned()));
                }
            } else if let Some(times) = line.strip_prefix("x ") {
                file.packets.push((std::mem::take(&mut packet), count(times)));
            } else if line.is_empty() {
                // It ends a packet, if there was one.
                if !packet.is_empty() {
                    file.packets.push((std::mem::take(&mut packet), 1));
                }
            } else {
                packet.extend(bytes(line));
            }
        }
        file
    }

    /// All files of a folder and of those in it, by their paths.
    pub(crate) fn all(folder: &Path) -> Vec<HostileFile> {
        let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut paths: Vec<_> = entries.map(|entry| entry.expect("it can be listed").path()).collect();
        paths.sort();
        paths.iter().flat_map(|path| HostileFile::at(path)).collect()
    }

    fn at(path: &Path) -> Vec<HostileFile> {
        if path.is_dir() {
            return HostileFile::all(path);
        }
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let is_one = path.extension().is_some_and(|extension| extension == "hex");
        let text = is_one.then(|| fs::read_to_string(path).expect("it can be read"));
        text.into_iter().map(|text| HostileFile::parse(&name, &text)).collect()
    }

    /// A field, if it is there.
    pub(crate) fn field(&self, key: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == key).map(|(_, value)| &**value)
    }

    /// All packets, one behind the other.
    pub(crate) fn stream(&self) -> Vec<u8> {
        self.packets.iter().flat_map(|(packet, times)| packet.repeat(*times)).collect()
    }
}

/// Pairs of digits, and perhaps how often all of them come.
fn bytes(line: &str) -> Vec<u8> {
    let (digits, times) = line.split_once(" x ").unwrap_or((line, "1"));
    let byte = |pair: &str| u8::from_str_radix(pair, 16).unwrap_or_else(|_| panic!("{pair} is no byte"));
    digits.split(' ').map(byte).collect::<Vec<u8>>().repeat(count(times))
}

fn count(times: &str) -> usize {
    times.parse().unwrap_or_else(|_| panic!("{times} is no number"))
}
