//! The cases of the tables as files, which are what is played: so that ends in other languages can play them, too.

use std::{
    collections::BTreeSet,
    env,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use super::{
    file::HostileFile,
    raw::{CONTINUES, MORE, OPTIONAL, PING, PONG, Side, ends_within_a_frame},
    streams,
    table::{self, Case},
};

/// What a side sends.
type Table = fn(Side) -> Vec<Case>;

/// The folders of each side, and what stands in them.
const TABLES: &[(&str, Table)] = &[
    ("hello", table::hellos),
    ("header", table::headers),
    ("message", table::messages),
    ("part", table::parts),
    ("limit", table::limits),
    ("answer", table::answers),
    ("stream", streams::frames),
    ("item", streams::items_for_a_caller),
];

/// What `side` sends, of one kind.
pub(crate) fn played(side: Side, kind: &str) -> Vec<HostileFile> {
    HostileFile::all(&folder(side).join(kind))
}

fn folder(side: Side) -> PathBuf {
    let side = match side {
        Side::Head => "from_head",
        Side::Neck => "from_neck",
    };
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile").join(side)
}

/// With `NAPE_WRITE` they are written instead.
#[test]
fn the_files_are_what_the_tables_say() {
    let mut wrong = Vec::new();
    for side in [Side::Head, Side::Neck] {
        for (kind, table) in TABLES {
            let folder = folder(side).join(kind);
            let mut there: BTreeSet<PathBuf> = fs::read_dir(&folder)
                .map(|entries| entries.map(|entry| entry.unwrap().path()).collect())
                .unwrap_or_default();
            for case in table(side) {
                let path = folder.join(format!("{}.hex", case.name));
                there.remove(&path);
                let text = text(&case);
                if env::var_os("NAPE_WRITE").is_some() {
                    fs::create_dir_all(&folder).unwrap();
                    fs::write(&path, &text).unwrap();
                }
                if fs::read_to_string(&path).ok() != Some(text.clone()) {
                    wrong.push(path);
                }
                let packets: Vec<u8> = HostileFile::parse(case.name, &text).stream();
                assert_eq!(packets, case.packets.concat(), "{}", case.name);
            }
            // Nothing else is there, and no name twice.
            wrong.extend(there);
        }
    }
    assert!(wrong.is_empty(), "not as the tables say; NAPE_WRITE=1 writes them: {wrong:#?}");
}

fn text(case: &Case) -> String {
    let mut text = format!("# {}\n# expected: {}\n", title(case.name), case.expected.text());
    if let Some(outcome) = case.outcome {
        writeln!(text, "# the call: {outcome}").unwrap();
    }
    if ends_within_a_frame(&case.packets.concat()) {
        text.push_str("# on a stream: waits for the rest\n");
    }
    for same in case.packets.chunk_by(|one, next| one == next) {
        text.push('\n');
        packet(&mut text, &same[0]);
        if same.len() > 1 {
            writeln!(text, "x {}", same.len()).unwrap();
        }
    }
    text
}

/// `d_05_an_echo` as *D-5, an echo*.
fn title(name: &str) -> String {
    let words = |name: &str| name.replace('_', " ");
    let numbered = name.strip_prefix("d_").and_then(|rest| rest.split_once('_'));
    match numbered.map(|(number, rest)| (number.trim_start_matches('0'), words(rest))) {
        Some((number, rest)) => format!("D-{number}, {rest}"),
        None => words(name),
    }
}

fn packet(text: &mut String, packet: &[u8]) {
    let mut frames = Vec::new();
    let mut rest = packet;
    while let Some((frame, behind)) = whole_frame(rest) {
        frames.push(frame);
        rest = behind;
    }
    for same in frames.chunk_by(|one, next| one == next) {
        describe(text, same[0]);
        match same.len() {
            1 => {
                let (header, body) = same[0].split_at(24);
                for part in [&header[..4], &header[4..8], &header[8..16], &header[16..]] {
                    line(text, part, 1);
                }
                lines(text, body);
            }
            n => line(text, same[0], n),
        }
    }
    if !rest.is_empty() {
        text.push_str("# no whole frame\n");
        lines(text, rest);
    }
}

fn whole_frame(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let len = u32::from_le_bytes(*bytes.first_chunk()?) as usize + 4;
    if len < 24 { None } else { bytes.split_at_checked(len) }
}

/// Kind, id and flags in words.
fn describe(text: &mut String, frame: &[u8]) {
    const KINDS: [&str; 18] = [
        "kind 0",
        "hello",
        "ready",
        "call",
        "event",
        "reply",
        "fault",
        "cancel",
        "credit",
        "items",
        "end of items",
        "ping",
        "pong",
        "go-away",
        "bye",
        "open",
        "quota",
        "stop",
    ];
    let kind = usize::from(frame[4]);
    text.push_str("# ");
    match KINDS.get(kind) {
        Some(name) => text.push_str(name),
        None => write!(text, "kind {kind}").unwrap(),
    }
    let id = u64::from_le_bytes(frame[8..16].try_into().unwrap());
    let counter = id & (u64::MAX >> 1);
    let is_number = [PING, PONG].contains(&frame[4]);
    match Side::Neck.id(counter) == id {
        _ if id == 0 => {}
        _ if is_number => write!(text, " {id}").unwrap(),
        true => write!(text, " {counter} of the Neck").unwrap(),
        false => write!(text, " {counter} of the Head").unwrap(),
    }
    for (flag, name) in [(MORE, "more"), (CONTINUES, "continues"), (OPTIONAL, "optional")] {
        if frame[5] & flag != 0 {
            write!(text, ", {name}").unwrap();
        }
    }
    text.push('\n');
}

/// Sixteen bytes a line; of one byte that comes often, how often.
fn lines(text: &mut String, mut bytes: &[u8]) {
    const OFTEN: usize = 32;
    while !bytes.is_empty() {
        let same = |bytes: &[u8]| bytes.iter().take_while(|byte| **byte == bytes[0]).count();
        if same(bytes) >= OFTEN {
            line(text, &bytes[..1], same(bytes));
            bytes = &bytes[same(bytes)..];
            continue;
        }
        let most = bytes.len().min(16);
        let len = (1..most).find(|at| same(&bytes[*at..]) >= OFTEN).unwrap_or(most);
        line(text, &bytes[..len], 1);
        bytes = &bytes[len..];
    }
}

fn line(text: &mut String, bytes: &[u8], times: usize) {
    let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    text.push_str(&digits.join(" "));
    if times > 1 {
        write!(text, " x {times}").unwrap();
    }
    text.push('\n');
}
