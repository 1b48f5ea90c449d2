//! The guide says something of every error that there is: its page is compared with the sources.

use std::{fs, path::Path};

/// What stands in errors, and is none itself.
const TOLD: &[&str] = &["Executed", "Exit", "FaultKind", "Report", "Silence", "TurnedAway"];

#[test]
fn the_guide_explains_every_error() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let guide = fs::read_to_string(root.join("src/guide/errors.md")).expect("the page can be read");
    let mut names = Vec::new();
    gather(&root.join("src"), &mut names);
    assert!(names.iter().any(|name| name == "CallError::Poisonous"), "the sources were not understood");
    let rows: String = guide.lines().filter(|line| line.starts_with('|')).collect();
    let place = |name: &str| if name.contains("::") { &rows } else { &guide };
    let missing: Vec<_> = names.iter().filter(|name| !says(place(name), name)).collect();
    assert!(missing.is_empty(), "src/guide/errors.md has no line for {missing:?}");
}

#[test]
fn an_error_that_the_guide_forgets_is_found() {
    let source = "#[derive(thiserror::Error)]\n#[non_exhaustive]\npub enum E<T> {\n    /// Why.\n    \
                  Old,\n    New {\n        A: u8,\n    },\n}\n#[derive(Debug)]\npub enum Other {\n    One,\n}\n\
                  pub enum Exit {\n    Code(i32),\n}\n#[derive(Debug, thiserror::Error)]\npub struct Bad;\n";
    assert_eq!(errors(source), ["E::Old", "E::New", "Exit::Code", "Bad"]);
    assert!(says("a E::Old.", "E::Old") && !says("E::Older", "E::Old") && !says("TheE::Old", "E::Old"));
}

/// The errors of all files below a folder.
fn gather(folder: &Path, names: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry of it").path();
        if path.is_dir() {
            gather(&path, names);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            names.extend(errors(&fs::read_to_string(&path).expect("a source file")));
        }
    }
}

/// The variants of the public enums that are errors or in [`TOLD`], and the public structs that are errors.
fn errors(source: &str) -> Vec<String> {
    let (mut names, mut is_error, mut inside) = (Vec::new(), false, None);
    for line in source.lines() {
        let word = |line: &str| line.chars().take_while(|c| c.is_alphanumeric()).collect::<String>();
        if let Some(rest) = line.strip_prefix("pub struct ").filter(|_| is_error) {
            names.push(word(rest));
        } else if let Some(name) = line.strip_prefix("pub enum ").map(word) {
            inside = Some(name).filter(|name| is_error || TOLD.contains(&&**name));
        } else if line == "}" {
            inside = None;
        }
        is_error = line.starts_with("#[") && (is_error || line.contains("thiserror::Error"));
        let variant = line.strip_prefix("    ").filter(|rest| rest.starts_with(char::is_uppercase));
        names.extend(inside.iter().zip(variant).map(|(name, variant)| format!("{name}::{}", word(variant))));
    }
    names
}

/// Whether the page has this name, and not only as a part of another.
fn says(guide: &str, name: &str) -> bool {
    guide.match_indices(name).any(|(at, _)| {
        let (before, behind) = (&guide[..at], &guide[at + name.len()..]);
        !before.ends_with(char::is_alphanumeric) && !behind.starts_with(char::is_alphanumeric)
    })
}
