//! The hostile cases as inputs of the fuzzers.

use std::path::Path;

#[path = "file.rs"]
#[allow(dead_code, reason = "the tests that play the files need more of them")]
#[allow(clippy::duplicate_mod, reason = "tests of several layers read the files")]
mod file;

use file::HostileFile;

/// The inputs of a target, with names.
pub(crate) fn seeds(target: &str, hostile: &Path) -> Vec<(String, Vec<u8>)> {
    let of_side = |side: &str, is_neck: u8, input: fn(&HostileFile, &str, u8) -> Vec<u8>| {
        let mut seeds = Vec::new();
        for (kind, _) in BEFORE {
            for file in HostileFile::all(&hostile.join(side).join(kind)) {
                seeds.push((format!("{side}-{kind}-{}", file.name), input(&file, kind, is_neck)));
            }
        }
        seeds
    };
    let of_sides = |input| [of_side("from_head", 1, input), of_side("from_neck", 0, input)].concat();
    let mut seeds = match target {
        "frames" => of_sides(|file, _, _| [vec![0, 0], file.stream()].concat()),
        "session" => of_sides(session),
        "decode" => values(&hostile.join("value")),
        _ => Vec::new(),
    };
    // What is longer says nothing that something shorter does not.
    seeds.retain(|(_, seed)| seed.len() <= LONGEST);
    seeds
}

/// What the side under test does before anything comes; `src/link/fuzz.rs` says which byte means what.
const BEFORE: &[(&str, &[u8])] = &[
    // It is ready, and was not greeted.
    ("hello", &[12, 0]),
    ("header", &[]),
    ("message", &[]),
    ("part", &[]),
    ("limit", &[]),
    ("stream", &[]),
    // It calls, and it opens a stream of which it takes items; both leave.
    ("answer", &[6, 0, 0, 11, 255]),
    ("item", &[15, 0, 0, 0, 11, 255]),
];

/// The side under test is greeted but by the cases of greetings. When all is there it acts a little, too.
fn session(file: &HostileFile, kind: &str, is_neck: u8) -> Vec<u8> {
    let not_greeted = if kind == "hello" { 8 } else { 0 };
    let mut input = vec![is_neck | not_greeted];
    let before = BEFORE.iter().find(|(known, _)| *known == kind);
    input.extend(before.map_or(&[][..], |(_, before)| before));
    for (packet, times) in &file.packets {
        for _ in 0..(*times).min(3) {
            input.push(5);
            input.extend((packet.len() as u16).to_le_bytes());
            input.extend(packet);
        }
    }
    input.extend([6, 10, 0, 11, 255, 8, 0, 9, 0, 14, 0, 11, 255]);
    input
}

/// Each as every type that there is.
fn values(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let types = |file: HostileFile| {
        let bytes = file.stream();
        (0..20).map(move |choice| (format!("{}-{choice}", file.name), [&[choice], &bytes[..]].concat()))
    };
    HostileFile::all(folder).into_iter().flat_map(types).collect()
}

const LONGEST: usize = 16 * 1024;
