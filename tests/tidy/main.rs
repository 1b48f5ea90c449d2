//! The layout of the sources, proved by reading them.
//!
//! Each rule is a function from files to complaints. It is tried twice: on the project, where it must
//! find nothing, and on a small bad sample, where it must find something.

use std::{fs, path::Path};

mod proofs;

/// Each module below `src`, and the modules that it may name besides itself: what it sees.
///
/// From the bottom up: a module sees only what stands above it in this list. A new module is a new
/// row, and a new word in a row is a new edge between layers: a decision of its own.
const LAYERS: &[(&str, &str)] = &[
    ("sync", ""),
    ("wire", "sync"),
    ("logging", "sync"),
    // The leaves, which everybody but `wire` may use.
    ("error", "wire"),
    ("config", "wire error"),
    ("counters", "sync logging"),
    ("semaphore", "sync"),
    ("shape", ""),
    // For tests alone.
    ("soak", ""),
    ("os", "wire error config sync logging"),
    ("transport", "wire error config sync logging soak os"),
    ("workers", "wire error config sync os"),
    ("link", "wire error config sync logging soak counters semaphore os transport workers"),
    ("api", "wire error config sync logging counters semaphore shape os transport workers link"),
    ("layers", "wire error sync api"),
    ("typed", "wire error config sync semaphore shape api"),
    ("inspect", "wire counters sync link api typed"),
    // Aside: it makes transports, and only the two ends depend on it.
    ("process", "wire error config sync logging soak os transport"),
    // The same for programs that run already.
    ("socket", "wire error config sync logging os transport"),
    // For tests and fuzzers alone.
    ("fuzz", "wire error soak transport link"),
    ("guide", ""),
    ("neck", "wire error config sync os transport workers link api typed process socket"),
    ("head", "wire error config sync logging os transport workers link api typed process socket neck"),
    ("listener", "wire error config sync logging os transport workers link api socket neck head"),
    ("supervisor", "wire error config sync logging os workers link api process head"),
    ("runner", "wire error config sync logging head neck listener"),
    ("config_file", "wire error config sync api process socket neck head listener supervisor"),
    // For tests alone.
    ("failures", "wire error config sync transport link api process socket neck head listener supervisor"),
];

/// Single uses that go past their layer: `wire` asks for room in memory, which says nothing about what it means.
const EXCEPTIONS: &[(&str, &str)] = &[("wire", "use crate::os::make_room_for;")];

/// Where `unsafe` may stand: the start of a path.
const UNSAFE: &[&str] = &[
    "src/os/",
    "src/os.rs",
    "src/transport/shm/",
    "src/transport/shm.rs",
    // A global allocator that counts cannot be written without.
    "benches/calls/allocations.rs",
    "tests/allocations.rs",
    "tests/floods.rs",
    "tests/fuzz/ceiling.rs",
    // Nor can a process be forked, or have a signal end it.
    "tests/it/keys_of_c.rs",
    "tests/it/process/host.rs",
    // That it is refused has to be shown.
    "tests/ui/qualifiers.rs",
    // Nor can a ring that two processes share.
    "benches/rivals/src/rivals/ring.rs",
];

/// The one file below `src` that names bincode.
const CODEC: &str = "src/wire/codec.rs";

/// The one file below `src` that writes to the log.
const LOGGING: &str = "src/logging.rs";

/// The longest a file may be, in lines.
const LONGEST: usize = 600;

#[test]
fn layers_see_only_what_is_below_them() {
    tidy(layers(&sources()));
}

#[test]
fn every_file_says_what_it_is() {
    tidy(headlines(&sources()));
}

#[test]
fn unsafe_stands_where_it_may() {
    tidy(unsafe_code(&sources()));
}

#[test]
fn no_file_is_too_long() {
    tidy(lengths(&sources()));
}

#[test]
fn the_changelog_starts_with_this_version() {
    tidy(versions(&read("Cargo.toml"), &read("CHANGELOG.md")));
}

#[test]
fn every_dependency_has_its_reason() {
    tidy(reasons(&read("Cargo.toml")));
    // It is no part of the published package.
    if root().join("cli").exists() {
        tidy(reasons(&read("cli/Cargo.toml")));
    }
}

#[test]
fn one_file_names_the_codec() {
    tidy(codec(&sources()));
}

#[test]
fn one_file_writes_to_the_log() {
    tidy(logging(&sources()));
}

#[test]
fn nothing_is_unfinished() {
    tidy(unfinished(&sources()));
}

/// Uses of a layer that is not below, of an unknown one, and of names from the root of the crate.
fn layers(files: &[File]) -> Vec<String> {
    let mut wrong = Vec::new();
    for file in files {
        let Some((layer, is_root)) = file.layer() else { continue };
        let Some((_, seen)) = LAYERS.iter().find(|(name, _)| *name == layer) else {
            wrong.push(format!("{}: `{layer}` is no layer yet: give it a row in LAYERS", file.path));
            continue;
        };
        let allowed = |line: &str| EXCEPTIONS.contains(&(layer, line));
        let code = file
            .code()
            .lines()
            .map(|line| if allowed(line) { "" } else { line })
            .collect::<Vec<_>>()
            .join("\n");
        for (line, name) in crate_paths(&code) {
            let at = format!("{}:{line}", file.path);
            let known = LAYERS.iter().any(|(layer, _)| *layer == name);
            if !known {
                wrong.push(format!("{at}: `crate::{name}` hides its layer: write `crate::<layer>::{name}`"));
            } else if name != layer && !seen.split(' ').any(|seen| seen == name) {
                wrong.push(format!("{at}: `{layer}` must not see `{name}`"));
            }
        }
        // In the file that is a whole layer, `super` is the root of the crate.
        let to_root = |line: &str| line.starts_with("use super::") || line.contains(") use super::");
        for (index, line) in code.lines().enumerate().filter(|(_, line)| is_root && to_root(line)) {
            wrong.push(format!("{}:{}: `{line}`: write `crate::<layer>::`", file.path, index + 1));
        }
    }
    wrong
}

/// Files of the library and of the command that do not start with a `//!` sentence.
fn headlines(files: &[File]) -> Vec<String> {
    let says = |text: &str| {
        let paragraph: Vec<&str> = text
            .lines()
            .map_while(|line| line.strip_prefix("//! "))
            .map(str::trim)
            .take_while(|line| !line.is_empty())
            .collect();
        paragraph.join(" ").ends_with(['.', ':'])
    };
    files
        .iter()
        .filter(|file| ["src/", "cli/src/"].iter().any(|at| file.path.starts_with(at)) && !says(&file.text))
        .map(|file| format!("{}: starts without a `//!` sentence that says what it is", file.path))
        .collect()
}

/// The word `unsafe` in code outside of the places for it.
fn unsafe_code(files: &[File]) -> Vec<String> {
    let allowed = |path: &str| UNSAFE.iter().any(|start| path.starts_with(start));
    files
        .iter()
        .filter(|file| !allowed(&file.path))
        .flat_map(|file| file.complain(&["unsafe"], "belongs into transport/shm or os"))
        .collect()
}

/// Files with more than [`LONGEST`] lines.
fn lengths(files: &[File]) -> Vec<String> {
    files
        .iter()
        .map(|file| (file, file.text.lines().count()))
        .filter(|(_, lines)| *lines > LONGEST)
        .map(|(file, lines)| {
            format!("{}: {lines} lines, and {LONGEST} are the most: does it do one job?", file.path)
        })
        .collect()
}

/// A changelog whose newest entry is not the version of the package.
fn versions(manifest: &str, changelog: &str) -> Vec<String> {
    let version = manifest
        .lines()
        .find_map(|line| line.strip_prefix("version = \""))
        .and_then(|rest| rest.strip_suffix('"'));
    let newest = changelog
        .lines()
        .find_map(|line| line.strip_prefix("## ["))
        .and_then(|rest| rest.split_once(']'))
        .map(|(newest, _)| newest);
    if version.is_some() && version == newest {
        return Vec::new();
    }
    vec![format!("CHANGELOG.md starts with {newest:?}, and Cargo.toml has {version:?}")]
}

/// Dependencies without a comment on the line before them.
fn reasons(manifest: &str) -> Vec<String> {
    let (mut wrong, mut lists_them, mut before, mut open) = (Vec::new(), false, "", 0);
    for (index, line) in manifest.lines().enumerate() {
        let at_top = open == 0;
        if let Some(table) = line.strip_prefix('[').filter(|_| at_top) {
            let table = table.trim_end_matches(']');
            lists_them = table.ends_with("dependencies");
            // `[dependencies.name]` is a dependency itself.
            let is_one = table.rsplit_once('.').is_some_and(|(list, _)| list.ends_with("dependencies"));
            if is_one && !before.starts_with('#') {
                wrong.push(format!("Cargo.toml:{}: `{line}` has no comment that says why", index + 1));
            }
        } else {
            let is_one = lists_them && at_top && line.contains('=') && !line.starts_with('#');
            if is_one && !before.starts_with('#') {
                wrong.push(format!("Cargo.toml:{}: `{line}` has no comment that says why", index + 1));
            }
            if !line.starts_with('#') {
                open += line.matches(['[', '{']).count();
                open = open.saturating_sub(line.matches([']', '}']).count());
            }
        }
        before = line;
    }
    wrong
}

/// Files below `src` other than [`CODEC`] that name bincode in code.
fn codec(files: &[File]) -> Vec<String> {
    let (home, others): (Vec<&File>, Vec<&File>) =
        files.iter().filter(|file| file.path.starts_with("src/")).partition(|file| file.path == CODEC);
    let mut wrong: Vec<String> = others
        .iter()
        .flat_map(|file| file.complain(&["bincode"], "is for `src/wire/codec.rs` alone"))
        .collect();
    if home.is_empty() {
        wrong.push(format!("{CODEC} is gone: say in CODEC where the codec is now"));
    }
    wrong
}

/// Files below `src` other than [`LOGGING`] that name the crate of the log in code, and those of a link that write a line
/// on the thread that has something to say.
fn logging(files: &[File]) -> Vec<String> {
    let others = files.iter().filter(|file| file.path.starts_with("src/") && file.path != LOGGING);
    others
        .flat_map(|file| {
            let named =
                file.complain(&["log::"], "is for `src/logging.rs` alone: a logger is code of the user's");
            let is_of_a_link = file.path.starts_with("src/link/");
            let said = is_of_a_link
                .then(|| file.complain(&["say!"], "would run a logger here: `Link::say` does not"));
            named.into_iter().chain(said.into_iter().flatten())
        })
        .collect()
}

/// `todo!` and `unimplemented!` in code.
fn unfinished(files: &[File]) -> Vec<String> {
    files
        .iter()
        .flat_map(|file| file.complain(&["todo!", "unimplemented!"], "has to be finished first"))
        .collect()
}

/// A source file, its path relative to the package and with `/`.
struct File {
    path: String,
    text: String,
}

impl File {
    /// The layer that this file belongs to, and whether it is the layer's root; none for `lib.rs`.
    fn layer(&self) -> Option<(&str, bool)> {
        let inside = self.path.strip_prefix("src/").filter(|inside| *inside != "lib.rs")?;
        Some(match inside.split_once('/') {
            Some((layer, rest)) => (layer, rest == "mod.rs"),
            None => (inside.trim_end_matches(".rs"), true),
        })
    }

    /// The text with blanks for comments, strings and characters; the lines stay where they are.
    fn code(&self) -> String {
        let text: Vec<char> = self.text.chars().collect();
        let mut code = String::with_capacity(self.text.len());
        let mut at = 0;
        while at < text.len() {
            let length = not_code(&text, at);
            if length == 0 {
                code.push(text[at]);
                at += 1;
            } else {
                let end = (at + length).min(text.len());
                code.extend(text[at..end].iter().map(|&c| if c == '\n' { '\n' } else { ' ' }));
                at = end;
            }
        }
        code
    }

    /// One complaint for each of the words in the code, with the place and what to do about it.
    fn complain(&self, words: &[&str], what: &str) -> Vec<String> {
        let code = self.code();
        let found = words.iter().flat_map(|word| places(&code, word).map(move |at| (word, at)));
        found.map(|(word, at)| format!("{}:{}: `{word}` {what}", self.path, line(&code, at))).collect()
    }
}

/// How many characters from `at` on are a comment, a string or a character; none for code.
fn not_code(text: &[char], at: usize) -> usize {
    let starts = |from: usize, with: &str| with.chars().eq(text.iter().skip(from).take(with.len()).copied());
    let behind = |from: usize, end: &str| {
        (from..text.len()).find(|&at| starts(at, end)).map_or(text.len(), |found| found + end.len()) - at
    };
    let inside_a_word = at > 0 && is_word(text[at - 1]) && !(text[at - 1] == 'b' || text[at - 1] == 'c');
    match text[at] {
        '/' if starts(at, "//") => behind(at, "\n") - usize::from(text[at..].contains(&'\n')),
        '/' if starts(at, "/*") => {
            let (mut depth, mut end) = (1, at + 2);
            while depth > 0 && end < text.len() {
                let (opens, closes) = (starts(end, "/*"), starts(end, "*/"));
                depth = if opens { depth + 1 } else { depth - usize::from(closes) };
                end += if opens || closes { 2 } else { 1 };
            }
            end - at
        }
        'r' if !inside_a_word => {
            let hashes = text[at + 1..].iter().take_while(|&&c| c == '#').count();
            let raw = text.get(at + 1 + hashes) == Some(&'"');
            if raw { behind(at + hashes + 2, &format!("\"{}", "#".repeat(hashes))) } else { 0 }
        }
        quote @ '"' => quoted(text, at, quote),
        quote @ '\'' if text.get(at + 1) == Some(&'\\') || text.get(at + 2) == Some(&quote) => {
            quoted(text, at, quote)
        }
        _ => 0,
    }
}

/// The length of what stands between two quotes, them included; a backslash hides the next character.
fn quoted(text: &[char], start: usize, quote: char) -> usize {
    let mut at = start + 1;
    while at < text.len() && text[at] != quote {
        at += if text[at] == '\\' { 2 } else { 1 };
    }
    at + 1 - start
}

/// Every `crate::name` in the code with its line; a group in braces gives each of its names.
fn crate_paths(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for at in places(code, "crate::").filter(|at| !code[..*at].ends_with('$')) {
        let rest = &code[at + "crate::".len()..];
        let name = |text: &str| text.trim_start().chars().take_while(|&c| is_word(c)).collect::<String>();
        match rest.strip_prefix('{') {
            None => found.push((line(code, at), name(rest))),
            Some(group) => {
                let (mut depth, mut from) = (0, 0);
                for (index, c) in group.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth > 0 => depth -= 1,
                        ',' | '}' if depth == 0 => {
                            found.push((line(code, at), name(&group[from..index])));
                            from = index + 1;
                        }
                        _ => {}
                    }
                    if c == '}' && from == index + 1 {
                        break;
                    }
                }
            }
        }
    }
    found.retain(|(_, name)| !name.is_empty());
    found
}

/// Where `word` stands in the code, not as a part of a longer word.
fn places<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let ends_in_a_word = word.ends_with(is_word);
    code.match_indices(word).map(|(at, _)| at).filter(move |&at| {
        let continues = ends_in_a_word && code[at + word.len()..].starts_with(is_word);
        !code[..at].ends_with(is_word) && !continues
    })
}

/// The number of the line at a place.
fn line(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Every Rust file of the project.
fn sources() -> Vec<File> {
    let mut files = Vec::new();
    for folder in ["src", "tests", "benches", "examples", "macros", "cli"] {
        gather(folder, &mut files);
    }
    assert!(files.iter().any(|file| file.path == "src/lib.rs"), "the sources were not found");
    files
}

/// Adds the Rust files of a folder, if there is one.
fn gather(folder: &str, files: &mut Vec<File>) {
    let Ok(entries) = fs::read_dir(root().join(folder)) else { return };
    for entry in entries {
        let entry = entry.expect("a folder that can be opened can be listed");
        let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            // A workspace of its own builds into its own folder.
            if !path.ends_with("/target") {
                gather(&path, files);
            }
        } else if path.ends_with(".rs") {
            files.push(File { text: read(&path), path });
        }
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("cannot read {path}: {error}"))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn tidy(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// The rules on samples: what is wrong is found, and what only looks wrong is not.
mod samples {
    use super::*;

    pub(super) fn one(path: &str, text: &str) -> Vec<File> {
        vec![File { path: path.into(), text: text.into() }]
    }

    #[test]
    fn layers_are_told_apart() {
        let found = |path, text| layers(&one(path, text)).len();
        assert_eq!(found("src/wire/id.rs", "use crate::link::Link;"), 1);
        assert_eq!(found("src/link/mod.rs", "use crate::{\n    wire::{Id, api},\n    api, error::E,\n};"), 1);
        assert_eq!(found("src/link/mod.rs", "fn f() -> crate::process::Child {}"), 1);
        assert_eq!(found("src/link/mod.rs", "use crate::Path;"), 1, "the root hides the layer");
        assert_eq!(found("src/link/mod.rs", "use super::api::Api;"), 1, "super is the root here");
        assert_eq!(found("src/unheard_of.rs", ""), 1);
        assert_eq!(found("src/link/mod.rs", "use crate::{error::E, link::x, wire};\n// crate::api"), 0);
        assert_eq!(found("src/link/state.rs", "use super::api;\nmod tests { use super::*; }"), 0);
        assert_eq!(found("src/wire/id.rs", "macro_rules! m { () => { $crate::link::f() } }"), 0);
        assert_eq!(found("src/lib.rs", "use crate::anything;"), 0);
    }

    #[test]
    fn the_table_of_layers_goes_up() {
        for (index, (layer, seen)) in LAYERS.iter().enumerate() {
            for name in seen.split_terminator(' ') {
                let below = LAYERS[..index].iter().any(|(below, _)| *below == name);
                assert!(below, "`{layer}` sees `{name}`, which does not stand above it in LAYERS");
            }
        }
    }

    #[test]
    fn a_missing_headline_is_found() {
        assert_eq!(headlines(&one("src/a.rs", "use std::fmt;\n")).len(), 1);
        assert_eq!(headlines(&one("src/a.rs", "//! Not a sentence\n\nuse std::fmt;\n")).len(), 1);
        assert_eq!(
            headlines(&one("src/a.rs", "//! Two lines that\n//! are a sentence.\n//!\n//! x\n")).len(),
            0
        );
    }

    #[test]
    fn unsafe_is_found_in_code_alone() {
        let found = |path, text| unsafe_code(&one(path, text)).len();
        assert_eq!(found("src/link/mod.rs", "fn f() { unsafe { g() } }"), 1);
        assert_eq!(found("tests/a.rs", "unsafe impl Send for A {}"), 1);
        assert_eq!(found("src/transport/shm/ring.rs", "unsafe { g() }"), 0);
        let text = r###"#![deny(unsafe_code)] // unsafe
            /* unsafe /* unsafe */ unsafe */ let s = "unsafe \" unsafe"; let r = r#"unsafe " unsafe"#;
            let (a, b): (&'static str, char) = ("unsafe", '"'); let c = '\''; // "unsafe"
        "###;
        assert_eq!(found("src/link/mod.rs", text), 0);
        assert_eq!(found("src/link/mod.rs", &format!("{text}\nunsafe {{}}")), 1, "the reader loses its way");
    }

    #[test]
    fn a_long_file_is_found() {
        assert_eq!(lengths(&one("src/a.rs", &"\n".repeat(LONGEST + 1))).len(), 1);
        assert_eq!(lengths(&one("src/a.rs", &"\n".repeat(LONGEST))).len(), 0);
    }

    #[test]
    fn an_old_changelog_is_found() {
        let manifest = "[package]\nversion = \"0.2.0\"\n";
        assert_eq!(versions(manifest, "# Changelog\n\n## [0.1.0] - x\n").len(), 1);
        assert_eq!(versions(manifest, "").len(), 1);
        assert_eq!(versions(manifest, "## [0.2.0] - unreleased\n## [0.1.0] - x\n").len(), 0);
    }

    #[test]
    fn a_dependency_without_a_reason_is_found() {
        let found = |text| reasons(text).len();
        assert_eq!(found("[dependencies]\n# Why.\na = \"1\"\nb = \"1\"\n"), 1);
        assert_eq!(found("[target.'cfg(unix)'.dev-dependencies]\nb = \"1\"\n"), 1);
        assert_eq!(found("[dependencies.b]\nversion = \"1\"\n"), 1);
        assert_eq!(found("# Why.\n[dependencies.b]\nversion = \"1\"\n"), 0);
        assert_eq!(found("[dependencies]\n# Why.\na = { features = [\n  \"x=y\",\n] }\n[lints]\nb = 1\n"), 0);
    }

    #[test]
    fn a_second_home_of_the_codec_is_found() {
        let mut files = one(CODEC, "use bincode::config;");
        assert_eq!(codec(&files).len(), 0);
        files.push(File { path: "src/api/mod.rs".into(), text: "// bincode\nuse bincode::serde;".into() });
        assert_eq!(codec(&files), ["src/api/mod.rs:2: `bincode` is for `src/wire/codec.rs` alone"]);
        assert_eq!(codec(&[]).len(), 1);
    }

    #[test]
    fn a_line_that_goes_past_its_file_is_found() {
        assert_eq!(logging(&one(LOGGING, "log::log!(level)")).len(), 0);
        assert_eq!(
            logging(&one("src/api/mod.rs", "// log::warn!()\nlog::warn!(\"x\");\nsay!(Warn, \"x\");")).len(),
            1
        );
        assert_eq!(
            logging(&one("src/link/close.rs", "self.say(line!(Warn, \"x\"));\nsay!(Warn, \"x\");")).len(),
            1
        );
    }

    #[test]
    fn unfinished_code_is_found() {
        assert_eq!(
            unfinished(&one("src/a.rs", "fn f() { todo!() }\nfn g() { unimplemented!(\"x\") }")).len(),
            2
        );
        assert_eq!(unfinished(&one("src/a.rs", "// todo!()\nfn todo() {}")).len(), 0);
    }
}
