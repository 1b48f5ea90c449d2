//! What was found once, and golden sessions with every byte of them changed.

use std::{fs, panic, path::Path};

use fastrand::Rng;

use super::*;

#[path = "../../tests/hostile/seeds.rs"]
mod seeds;

/// The targets, and the inputs of each: a line of hexadecimal digits for each of them.
const TARGETS: &[(&str, Target)] =
    &[("frames", frames), ("decode", decode), ("session", session), ("ring", ring)];

type Target = fn(&[u8]);

/// The inputs of a target with their places: what was kept of it, and the hostile cases.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let path = tests.join("corpus").join(format!("{target}.hex"));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let lines = text.lines().zip(1..).filter(|(line, _)| !line.starts_with('#'));
    let kept = lines.map(|(line, at)| (format!("line {at} of {target}.hex"), bytes(line)));
    kept.chain(seeds::seeds(target, &tests.join("hostile"))).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    let digit = |digit: &u8| char::from(*digit).to_digit(16).expect("hexadecimal digits") as u8;
    hex.as_bytes().chunks(2).map(|pair| digit(&pair[0]) << 4 | digit(&pair[1])).collect()
}

/// Runs a target, and says which input it was if it fails.
fn run(target: Target, input: &[u8], name: impl FnOnce() -> String) {
    if panic::catch_unwind(|| target(input)).is_err() {
        panic!("{}: {}", name(), input.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    }
}

#[test]
fn the_corpus_is_stood() {
    for (name, target) in TARGETS {
        let corpus = corpus(name);
        assert!(corpus.len() >= 10, "{name} has {} inputs", corpus.len());
        for (place, input) in corpus {
            run(*target, &input, || place);
        }
    }
}

/// Every input, cut off and with a byte changed at places all over it.
#[test]
fn the_corpus_cut_and_changed_is_stood() {
    for (name, target) in TARGETS {
        for (place, input) in corpus(name) {
            for at in (0..input.len()).step_by(input.len() / PLACES + 1) {
                run(*target, &input[..at], || format!("{place}, cut at {at}"));
                let mut changed = input.clone();
                for byte in [255, input[at] ^ 1, input[at] ^ 128] {
                    changed[at] = byte;
                    run(*target, &changed, || format!("{place}, byte {at} changed"));
                }
            }
        }
    }
}

/// Frames of all kinds as a good peer sends them, as one packet.
fn golden() -> Vec<u8> {
    let mut packet = Vec::new();
    let mut frame = |kind: u8, flags: u8, id: u64, body: &[u8]| {
        packet.extend((20 + body.len() as u32).to_le_bytes());
        packet.extend([kind, flags, 0, 0]);
        packet.extend(id.to_le_bytes());
        packet.extend([0; 8]);
        packet.extend(body);
    };
    let neck = |counter: u64| counter | 1 << 63;
    let head = [&[0; 8][..], &[255; 8], &[0; 4], b"\x03a.b"].concat();
    let open = [&[3][..], &[4, 0, 0, 0, 0, 8, 0, 0], &head].concat();
    frame(1, 0, 0, &[b"NAPE\x01\x01\0\0\x01\0\x01\0\0\0\0\0".as_slice(), &[0; 16], &[0]].concat());
    frame(2, 0, 0, &[]);
    frame(3, 0, neck(1), &[&head[..], b"arguments"].concat());
    frame(3, 1, neck(2), &[&head[..], b"the first part"].concat());
    frame(3, 2, neck(2), b"the rest");
    frame(4, 0, neck(3), b"\x03a.bnews");
    frame(15, 0, neck(4), &open);
    frame(9, 0, neck(4), b"\x03\0\0\0abc\x02\0\0\0de");
    frame(16, 0, neck(4), &[8, 0, 0, 0, 0, 16, 0, 0]);
    frame(17, 0, neck(4), &[]);
    frame(10, 0, neck(4), &[]);
    frame(7, 0, neck(1), &[]);
    frame(11, 0, 5, &[]);
    frame(99, 4, 0, b"from the future");
    frame(8, 0, 0, &[]);
    frame(13, 0, 0, &[]);
    frame(14, 0, 0, &[0, 0]);
    packet
}

/// A session of which the peer's part is these bytes, in one packet.
fn session_of(packet: &[u8]) -> Vec<u8> {
    // A Head that has not been greeted, and is ready; then some of its own doing, and a look at what comes of it.
    let mut input = vec![8, 12, 0, 5];
    input.extend((packet.len() as u16).to_le_bytes());
    input.extend(packet);
    input.extend([6, 10, 0, 11, 255, 8, 0, 9, 0, 14, 0, 11, 255]);
    input
}

#[test]
fn d_68_every_byte_of_a_golden_session_as_every_other_byte() {
    let golden = golden();
    assert!(golden.len() > 500);
    for at in 0..golden.len() {
        let mut packet = golden.clone();
        for byte in 0..=255 {
            packet[at] = byte;
            run(session, &session_of(&packet), || format!("byte {at} of the session is {byte}"));
        }
        let stream = [&[0, 1][..], &packet].concat();
        run(frames, &stream, || format!("byte {at} of the stream is 255"));
    }
}

/// Inputs without a pattern, and golden sessions that were changed in several places; the seed of one that
/// fails is in the message. `NAPE_ROUNDS` says how many there are.
#[test]
fn p_33_random_sessions_are_stood() {
    let rounds = crate::soak::rounds(3_000);
    let start = fastrand::u64(..u64::MAX / 2);
    let golden = golden();
    for seed in start..start + rounds {
        let mut random = Rng::with_seed(seed);
        let noise: Vec<u8> = (0..random.u32(..400)).map(|_| random.u8(..)).collect();
        for (name, target) in TARGETS {
            run(*target, &noise, || format!("{name} with the seed {seed}"));
        }
        let mut packet = golden.clone();
        for _ in 0..random.u32(1..=4) {
            let at = random.usize(..packet.len());
            packet[at] = random.u8(..);
        }
        let input = [&session_of(&packet)[..], &noise].concat();
        run(session, &input, || format!("a changed session with the seed {seed}"));
    }
}

/// At so many places of an input. Fuzzing changes all of them.
const PLACES: usize = 12;
