//! What has to be shown has a test: each promise, each fault and each hostile case.

#[path = "../hostile/file.rs"]
#[allow(dead_code, reason = "the tests that play the files need more of them")]
mod file;

use file::HostileFile;

use super::{File, is_word, read, root, sources, tidy};

#[test]
fn the_tests_that_the_guide_names_are_there() {
    tidy(promised(&read("src/guide/safety.md"), &sources()));
    tidy(faults(&read("src/guide/checks.md"), &sources()));
}

#[test]
fn every_hostile_case_has_a_file_or_a_test() {
    let names = HostileFile::all(&root().join("tests/hostile")).into_iter().map(|file| file.name);
    tidy(hostile(&sources(), &names.collect::<Vec<String>>()));
}

/// Numbers from `d_01` to `d_68` that neither a file nor a test carries in its name.
fn hostile(files: &[File], names: &[String]) -> Vec<String> {
    let has = |text: &str, before: &str, id: &str| {
        text.match_indices(before).any(|(at, _)| {
            let name = text[at + before.len()..].split(|c| !is_word(c)).next().unwrap_or_default();
            format!("_{name}").contains(&format!("_{id}_"))
        })
    };
    (1..=HOSTILE)
        .map(|number| format!("d_{number:02}"))
        .filter(|id| !names.iter().any(|name| name.starts_with(&format!("{id}_"))))
        .filter(|id| !files.iter().any(|file| has(&file.text, "fn ", id)))
        .map(|id| format!("no hostile file is called {id}_…, and no test"))
        .collect()
}

/// What a row of the guide names in its second column is a test.
fn promised(guide: &str, files: &[File]) -> Vec<String> {
    let rows = guide.lines().filter(|line| line.starts_with("| P"));
    let cells = rows.filter_map(|row| row.split(" | ").nth(1)).filter(|cell| cell.starts_with('`'));
    let named = cells.flat_map(|cell| cell.split(", ")).map(|name| name.trim_matches('`'));
    named.filter(|name| !is_a_test(name, files)).map(|name| format!("no test is called {name}")).collect()
}

fn is_a_test(name: &str, files: &[File]) -> bool {
    let known = [format!("fn {name}("), format!("as {name};")];
    files.iter().any(|file| known.iter().any(|known| file.text.contains(known)))
}

/// Each fault has its row, in order, and what such a row names in its third column is a test.
fn faults(guide: &str, files: &[File]) -> Vec<String> {
    let rows: Vec<(usize, &str)> = guide.lines().filter_map(numbered).collect();
    let mut wrong = Vec::new();
    if !rows.iter().map(|(number, _)| *number).eq(1..=FAULTS) {
        wrong.push(format!("the faults are not those from 1 to {FAULTS}, each once"));
    }
    let named = rows.iter().flat_map(|(_, tests)| tests.split('`').skip(1).step_by(2));
    let names = named.filter(|name| name.chars().all(is_word) && !is_a_test(name, files));
    wrong.extend(names.map(|name| format!("no test is called {name}")));
    wrong
}

/// The number of a row, and its third cell.
fn numbered(line: &str) -> Option<(usize, &str)> {
    let mut cells = line.strip_prefix("| ")?.trim_end_matches(" |").split(" | ");
    let number = cells.next()?.parse().ok()?;
    Some((number, cells.nth(1)?))
}

/// How many hostile cases are numbered.
const HOSTILE: u32 = 68;

/// How many faults there are.
const FAULTS: usize = 55;

/// The rules on samples.
mod samples {
    use super::{super::samples::one, *};

    #[test]
    fn a_test_that_is_gone_is_found() {
        let files = one("tests/a.rs", "#[test]\nfn p_01_there() {}");
        let missing = |cell: &str| promised(&format!("| P1 | {cell} | x |"), &files).len();
        assert_eq!(
            (missing("`p_01_there`"), missing("`p_01_there`, `p_01_gone`"), missing("a promise")),
            (0, 1, 0)
        );
    }

    #[test]
    fn a_hostile_case_without_a_test_is_found() {
        let text = |numbers: std::ops::RangeInclusive<u32>| {
            numbers.map(|number| format!("fn d_{number:02}_x() {{}}\n")).collect::<String>()
        };
        let missing = |text: &str, names: &[String]| hostile(&one("tests/a.rs", text), names).len();
        assert_eq!(missing(&text(1..=68), &[]), 0);
        assert_eq!(missing(&text(2..=68), &[]), 1);
        assert_eq!(missing(&text(2..=68), &["d_01_nothing".to_owned()]), 0);
        assert_eq!(missing(&(text(1..=66) + "fn " + "d_67_d_68_both() {}"), &[]), 0);
        assert_eq!(missing(&(text(1..=67) + "// d_68_only_said"), &[]), 1);
    }

    #[test]
    fn a_fault_without_its_test_is_found() {
        let files = one("tests/a.rs", "#[test]\nfn p_01_there() {}");
        let table = |first: &str| {
            let rest =
                (2..=FAULTS).map(|number| format!("| {number} | it is so | `p_01_there`, and the sweep |\n"));
            format!("| | fault | tests |\n{first}{}", rest.collect::<String>())
        };
        let wrong = |first: &str| faults(&table(first), &files).len();
        assert_eq!(wrong("| 1 | it is `SO` | none: see `clippy.toml` |\n"), 0);
        assert_eq!((wrong(""), wrong("| 1 | it is so | `p_01_gone` |\n")), (1, 1));
    }
}
