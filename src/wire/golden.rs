//! Frames as files, for whoever writes the other end in another language: what is written here is what stands there,
//! and what stands there is read as what is meant.

use std::{fmt::Debug, fs, path::PathBuf};

use serde::{Serialize, de::DeserializeOwned};

use super::{
    Ack, Bye, CallHead, Choice, Codec, EventHead, FaultRecord, Flags, HEADER_LEN, Header, Hello, Kind,
    OpenHead, Quota, Side, Taken, Token, TransactionId, first_item, take_frame,
};

/// One file: its name, a line about it, and what it holds.
struct Golden {
    name: &'static str,
    about: &'static str,
    header: Header,
    body: Vec<u8>,
}

const ACK: Ack = Ack { frames: 3, bytes: 300 };
const TOKEN: Token = Token([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
const HEADS: u64 = 7;
const NECKS: u64 = 1 << 63 | 9;

fn golden(name: &'static str, about: &'static str, kind: Kind, id: u64, body: Vec<u8>) -> Golden {
    Golden { name, about, header: Header { kind, flags: Flags::default(), id, ack: ACK }, body }
}

fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut bytes);
    bytes
}

fn arguments() -> (u32, String, Option<bool>) {
    (300, "né".to_owned(), Some(true))
}

#[derive(Debug, PartialEq, Serialize, serde::Deserialize)]
struct NoRoom {
    wanted: u32,
}

fn value<T: Serialize>(codec: Codec, value: &T) -> Vec<u8> {
    written(|out| codec.encode(value, out).unwrap())
}

fn hello(side: Side, choice: Choice) -> Hello {
    Hello { library: "0.1.0".into(), ..Hello::ours(side, TOKEN).choosing(choice) }
}

const CALL: CallHead<'static> =
    CallHead { parent: None, remaining: Some(2_000_000), attempt: 0, shape: 0, path: b"thumbs.make" };
const OPEN: OpenHead = OpenHead { sends: false, takes: Some(Quota { items: 64, bytes: 1 << 20 }) };

fn typed_fault(codec: Codec) -> FaultRecord {
    let texts = ["no room for 12", "shop::NoRoom"].map(str::to_owned).to_vec();
    FaultRecord { code: 33, numbers: [0, 0], texts, value: value(codec, &NoRoom { wanted: 12 }) }
}

fn no_handler() -> FaultRecord {
    FaultRecord { code: 1, numbers: [0, 0], texts: vec!["thumbs.make".into()], value: Vec::new() }
}

fn call(codec: Codec) -> Vec<u8> {
    [written(|out| CALL.write(out)), value(codec, &arguments())].concat()
}

fn open(codec: Codec) -> Vec<u8> {
    [written(|out| OPEN.write(out)), call(codec)].concat()
}

fn event(codec: Codec) -> Vec<u8> {
    let head = EventHead { shape: 0, path: b"thumbs.quality" };
    [written(|out| head.write(out)), value(codec, &80u8)].concat()
}

fn items(codec: Codec) -> Vec<u8> {
    let item = |n: u32| {
        let bytes = value(codec, &n);
        [(bytes.len() as u32).to_le_bytes().to_vec(), bytes].concat()
    };
    [item(1), item(300)].concat()
}

const BINARY: Choice = Choice { asks: Codec::Binary, takes_json: true };
const JSON: Choice = Choice { asks: Codec::Json, takes_json: true };

fn all() -> Vec<Golden> {
    use Codec::{Binary, Json};
    let shaped = CallHead {
        parent: TransactionId::from_bits(NECKS),
        attempt: 1,
        shape: 0x0123_4567_89ab_cdef,
        ..CALL
    };
    let parts = call(Binary);
    let (first, rest) = parts.split_at(20);
    let cut = |name, about, flags, body: &[u8]| {
        let whole = golden(name, about, Kind::Call, HEADS, body.to_vec());
        Golden { header: Header { flags, ..whole.header }, ..whole }
    };
    let mut all = vec![
        golden(
            "hello_head",
            "hello of a Head that leaves the codec to the other side and takes JSON; token 00..0f, library 0.1.0",
            Kind::Hello,
            0,
            written(|out| hello(Side::Head, BINARY).write(out)),
        ),
        golden("ready", "ready", Kind::Ready, 0, Vec::new()),
        golden(
            "call_binary",
            "call 7 of the Head: thumbs.make(300, \"né\", Some(true)), 2 s left, no parent, first attempt",
            Kind::Call,
            HEADS,
            call(Binary),
        ),
        golden(
            "call_with_parent_and_shape",
            "the same made in the handler of call 9 of the Neck, again, with the shape 0123456789abcdef; no arguments",
            Kind::Call,
            HEADS,
            written(|out| shaped.write(out)),
        ),
        cut(
            "call_binary_cut_1",
            "the first frame of call_binary, cut after 20 bytes of its body",
            Flags { more: true, continues: false },
            first,
        ),
        cut("call_binary_cut_2", "the second and last", Flags { more: false, continues: true }, rest),
        golden("event_binary", "event 7 of the Head: thumbs.quality(80)", Kind::Event, HEADS, event(Binary)),
        golden(
            "reply_binary",
            "reply to call 7 of the Head: (300, \"né\", Some(true))",
            Kind::Reply,
            HEADS,
            value(Binary, &arguments()),
        ),
        golden(
            "fault_no_handler",
            "call 7 of the Head is refused: nothing handles thumbs.make",
            Kind::Fault,
            HEADS,
            written(|out| no_handler().write(out)),
        ),
        golden(
            "fault_typed_binary",
            "the handler of call 7 of the Head failed with NoRoom { wanted: 12 }, as a value",
            Kind::Fault,
            HEADS,
            written(|out| typed_fault(Binary).write(out)),
        ),
        golden("cancel", "call 7 of the Head is given up", Kind::Cancel, HEADS, Vec::new()),
        golden(
            "credit",
            "nothing but the acknowledgement, of 3 frames and 300 bytes",
            Kind::Credit,
            0,
            Vec::new(),
        ),
        golden(
            "open_binary",
            "call_binary as a stream: its caller takes items, at first 64 and 1 MiB of them",
            Kind::Open,
            HEADS,
            open(Binary),
        ),
        golden(
            "items_binary",
            "the items 1u32 and 300u32 of call 7 of the Head",
            Kind::StreamItem,
            HEADS,
            items(Binary),
        ),
        golden("end_of_items", "no more items in call 7 of the Head", Kind::StreamEnd, HEADS, Vec::new()),
        golden(
            "quota",
            "96 items and 2 MiB of them, since its start, may be sent in call 9 of the Neck",
            Kind::StreamQuota,
            NECKS,
            written(|out| Quota { items: 96, bytes: 2 << 20 }.write(out)),
        ),
        golden(
            "stop",
            "no items are wanted any more in call 7 of the Head",
            Kind::StreamStop,
            HEADS,
            Vec::new(),
        ),
        golden("ping", "ping 5", Kind::Ping, 5, Vec::new()),
        golden("pong", "the answer to ping 5", Kind::Pong, 5, Vec::new()),
        golden("go_away", "no new calls and events are wanted", Kind::GoAway, 0, Vec::new()),
        golden(
            "bye",
            "the last frame, and nothing was wrong",
            Kind::Bye,
            0,
            written(|out| Bye { code: 0 }.write(out)),
        ),
        golden(
            "bye_window_ignored",
            "the last frame, because the receiver broke rule 17",
            Kind::Bye,
            0,
            written(|out| Bye { code: 17 }.write(out)),
        ),
    ];
    if Codec::HAS_JSON {
        all.extend([
            golden(
                "hello_neck_json",
                "hello of a Neck that asks for JSON and would take it; token 00..0f, library 0.1.0",
                Kind::Hello,
                0,
                written(|out| hello(Side::Neck, JSON).write(out)),
            ),
            golden("call_json", "call_binary over a link of JSON", Kind::Call, HEADS, call(Json)),
            golden("event_json", "event_binary over a link of JSON", Kind::Event, HEADS, event(Json)),
            golden(
                "reply_json",
                "reply_binary over a link of JSON",
                Kind::Reply,
                HEADS,
                value(Json, &arguments()),
            ),
            golden(
                "fault_typed_json",
                "fault_typed_binary over a link of JSON",
                Kind::Fault,
                HEADS,
                written(|out| typed_fault(Json).write(out)),
            ),
            golden("open_json", "open_binary over a link of JSON", Kind::Open, HEADS, open(Json)),
            golden("items_json", "items_binary over a link of JSON", Kind::StreamItem, HEADS, items(Json)),
        ]);
    }
    all
}

impl Golden {
    fn frame(&self) -> Vec<u8> {
        let mut frame = [&[0; HEADER_LEN], &self.body[..]].concat();
        self.header.write(&mut frame);
        frame
    }

    fn codec(&self) -> Codec {
        if self.name.ends_with("json") { Codec::Json } else { Codec::Binary }
    }
}

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.hex"))
}

/// What stands in a file, without its comments.
fn bytes_in(name: &str) -> Vec<u8> {
    let text = fs::read_to_string(file(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let digits: Vec<u32> = lines.flat_map(str::chars).filter_map(|c| c.to_digit(16)).collect();
    digits.chunks_exact(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

#[test]
fn what_is_written_stands_in_the_files() {
    for golden in all() {
        assert_eq!(bytes_in(golden.name), golden.frame(), "{}: {}", golden.name, golden.about);
        let text = fs::read_to_string(file(golden.name)).unwrap();
        assert_eq!(text.lines().next().unwrap(), format!("# {}", golden.about), "{}", golden.name);
    }
    let there = fs::read_dir(file("x").parent().unwrap()).unwrap().count();
    assert!(there == all().len() || !Codec::HAS_JSON, "{there} files");
}

#[test]
fn what_stands_in_the_files_is_read_as_what_is_meant() {
    for golden in all() {
        let frame = bytes_in(golden.name);
        let taken = take_frame(&frame).unwrap();
        assert_eq!(taken, Taken::Frame(golden.header, frame.len()), "{}", golden.name);
        if golden.header.flags == Flags::default() {
            read(&golden, &frame[HEADER_LEN..]);
        }
    }
    let whole = [bytes_in("call_binary_cut_1"), bytes_in("call_binary_cut_2")];
    assert_eq!(whole.map(|part| part[HEADER_LEN..].to_vec()).concat(), call(Codec::Binary));
}

#[track_caller]
fn is<T: DeserializeOwned + PartialEq + Debug>(codec: Codec, bytes: &[u8], expected: T) {
    assert_eq!(codec.decode::<T>(bytes).unwrap(), expected);
}

fn read_call(codec: Codec, body: &[u8], name: &str) {
    let (head, at) = CallHead::read(body).unwrap();
    if name == "call_with_parent_and_shape" {
        assert_eq!((head.parent.map(TransactionId::to_bits), head.attempt), (Some(NECKS), 1));
        assert_eq!((head.shape, at), (0x0123_4567_89ab_cdef, body.len()));
    } else {
        assert_eq!(head, CALL);
        is(codec, &body[at..], arguments());
    }
}

fn read(golden: &Golden, body: &[u8]) {
    let codec = golden.codec();
    match golden.header.kind {
        Kind::Hello => {
            let (from, choice) = match codec {
                Codec::Binary => (Side::Head, BINARY),
                Codec::Json => (Side::Neck, JSON),
            };
            let hello = Hello::read(body, from, &TOKEN).unwrap();
            assert_eq!((hello.codec, hello.features, &*hello.library), (choice.asks.number(), 1, "0.1.0"));
            assert_eq!(BINARY.agree(&hello), Ok(choice.asks));
        }
        Kind::Call => read_call(codec, body, golden.name),
        Kind::Open => {
            assert_eq!(OpenHead::read(body).unwrap(), OPEN);
            read_call(codec, &body[OpenHead::LEN..], golden.name);
        }
        Kind::Event => {
            let (head, at) = EventHead::read(body).unwrap();
            assert_eq!(head, EventHead { shape: 0, path: b"thumbs.quality" });
            is(codec, &body[at..], 80u8);
        }
        Kind::Reply => is(codec, body, arguments()),
        Kind::Fault if golden.name == "fault_no_handler" => {
            assert_eq!(FaultRecord::read(body).unwrap(), no_handler());
        }
        Kind::Fault => {
            let record = FaultRecord::read(body).unwrap();
            assert_eq!(record, typed_fault(codec));
            is(codec, &record.value, NoRoom { wanted: 12 });
        }
        Kind::StreamItem => {
            let first = first_item(body).unwrap();
            is(codec, &body[first.clone()], 1u32);
            let rest = &body[first.end..];
            is(codec, &rest[first_item(rest).unwrap()], 300u32);
        }
        Kind::StreamQuota => assert_eq!(Quota::read(body).unwrap(), Quota { items: 96, bytes: 2 << 20 }),
        Kind::Bye => {
            let code = if golden.name == "bye" { 0 } else { 17 };
            assert_eq!(Bye::read(body).unwrap(), Bye { code });
        }
        _ => assert!(body.is_empty(), "{}", golden.name),
    }
}
