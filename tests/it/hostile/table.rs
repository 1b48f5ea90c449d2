//! Bytes, and what has to come of them: one row a case. They are played from the files that are made of them.

use nape::Config;

use super::raw::*;

/// What has to come of the bytes of a case.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    /// The link ends, with the number of the rule that was broken.
    Broken(u16),
    /// The link lives.
    Lives,
    /// The link lives, and this comes back: kind, id, start of the body.
    Answered(u8, u64, Vec<u8>),
}

impl Expected {
    /// As it stands in a file.
    pub(crate) fn text(&self) -> String {
        match self {
            Broken(code) => format!("refused {code}"),
            Lives => "lives".to_owned(),
            Answered(kind, id, start) => {
                let start: String = start.iter().map(|byte| format!(" {byte:02x}")).collect();
                format!("answered {kind} {id:x}{start}")
            }
        }
    }

    pub(crate) fn parse(text: &str) -> Expected {
        let words: Vec<&str> = text.split(' ').collect();
        match words[..] {
            ["refused", code] => Broken(code.parse().unwrap()),
            ["lives"] => Lives,
            ["answered", kind, id, ref start @ ..] => {
                let start = start.iter().map(|byte| u8::from_str_radix(byte, 16).unwrap());
                Answered(kind.parse().unwrap(), u64::from_str_radix(id, 16).unwrap(), start.collect())
            }
            _ => panic!("nobody knows how to expect {text:?}"),
        }
    }
}

pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) packets: Vec<Vec<u8>>,
    pub(crate) expected: Expected,
    /// What comes of the call that the other side has made, where it has made one.
    pub(crate) outcome: Option<&'static str>,
}

use Expected::{Answered, Broken, Lives};

pub(crate) fn case(name: &'static str, packet: Vec<u8>, expected: Expected) -> Case {
    cases(name, vec![packet], expected)
}

/// One of several packets. Those that are the same are one block in its file.
fn cases(name: &'static str, packets: Vec<Vec<u8>>, expected: Expected) -> Case {
    Case { name, packets, expected, outcome: None }
}

/// The features that name filters.
const FILTERS: u32 = 0xfe;

/// What comes first, by somebody on `side`.
pub(crate) fn hellos(side: Side) -> Vec<Case> {
    let with = |spoil: fn(&mut Hello)| {
        let mut hello = side.hello();
        spoil(&mut hello);
        hello.frame()
    };
    let short = |len: usize| frame(HELLO, 0, 0, &side.hello().body()[..len]);
    let good = side.hello().frame();
    let ready = frame(READY, 0, 0, &[]);
    let long = [&side.hello().body()[..], b"of a later version"].concat();
    let names_too_much = {
        let mut body = side.hello().body();
        body[32] = 4;
        frame(HELLO, 0, 0, &body)
    };
    vec![
        case("d_03_three_bytes", b"\x48\x4e\x52".to_vec(), Broken(1)),
        case("d_04_http", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(), Broken(1)),
        case("d_05_an_echo", side.other().hello().frame(), Broken(1)),
        case("d_05_no_side", with(|hello| hello.side = 2), Broken(1)),
        case("d_05_another_magic", with(|hello| hello.magic = *b"NOPE"), Broken(1)),
        case("d_06_later_versions_only", with(|hello| hello.versions = (9, 9)), Broken(2)),
        case("d_06_version_0_only", with(|hello| hello.versions = (0, 0)), Broken(2)),
        case("d_07_versions_upside_down", with(|hello| hello.versions = (3, 1)), Broken(3)),
        case("d_08_wrong_token_first_byte", with(|hello| hello.token[0] = 1), Broken(5)),
        case("d_08_wrong_token_last_byte", with(|hello| hello.token[15] = 1), Broken(5)),
        case("d_09_twice", [good.clone(), good.clone()].concat(), Broken(4)),
        cases("d_09_again_later", vec![good.clone(), ready.clone(), good.clone()], Broken(4)),
        case("d_10_one_byte", vec![good[0]], Broken(1)),
        case("d_11_a_call_first", frame(CALL, 0, side.id(1), &call("echo.text", b"\0")), Broken(3)),
        case("d_11_ready_first", ready.clone(), Broken(3)),
        case("d_11_a_bye_first", frame(BYE, 0, 0, &[0, 0]), Broken(3)),
        case("d_11_an_optional_frame_first", frame(77, OPTIONAL, 0, &[]), Broken(3)),
        case("d_11_an_unknown_frame_first", frame(77, 0, 0, &[]), Broken(1)),
        case("d_11_a_hello_that_acknowledges", acknowledging(good.clone(), (1, 24)), Broken(17)),
        case("a_hello_of_nothing", short(0), Broken(1)),
        case("a_hello_of_the_magic", short(4), Broken(3)),
        case("a_hello_without_a_token", short(31), Broken(3)),
        case("a_hello_without_a_library", short(32), Broken(3)),
        case("a_hello_that_names_too_much", names_too_much, Broken(3)),
        case("a_hello_with_reserved_bits", with(|hello| hello.zero = 1), Broken(10)),
        case("a_hello_with_another_codec", with(|hello| hello.codec = 3), Broken(3)),
        case(
            "a_hello_from_the_future",
            [with(|hello| (hello.versions, hello.features) = ((1, 9), !FILTERS)), ready.clone()].concat(),
            Lives,
        ),
        case("a_hello_with_a_filter", with(|hello| hello.features = 2), Broken(22)),
        case("a_hello_with_a_filter_from_the_future", with(|hello| hello.features = 0x80), Broken(22)),
        case("a_longer_hello", [frame(HELLO, 0, 0, &long), ready.clone()].concat(), Lives),
        cases("one_frame_a_packet", vec![good, ready], Lives),
    ]
}

/// Single frames behind a good greeting.
pub(crate) fn headers(side: Side) -> Vec<Case> {
    let with_byte = |at: usize, byte: u8| {
        let mut frame = frame(PING, 0, 0, &[]);
        frame[at] = byte;
        frame
    };
    let id = side.id(1);
    let good = |counter| frame(CALL, 0, side.id(counter), &call("echo.text", &text("hi")));
    vec![
        case("d_12_unknown_kind", frame(0xff, 0, 0, &[]), Broken(7)),
        case("d_12_kind_0", frame(0, 0, 0, &[]), Broken(7)),
        case("d_13_unknown_and_optional", frame(0xff, OPTIONAL, 9, b"whatever"), Lives),
        case("d_13_known_and_optional", frame(PING, OPTIONAL, 9, &[]), Answered(PONG, 9, vec![])),
        case("d_14_4_gib", frame_of_length(u32::MAX), Broken(8)),
        case("d_15_one_byte_too_much", frame_of_length(61_440 - 4 + 1), Broken(8)),
        case("d_16_the_most_and_nothing_of_it", frame_of_length(61_440 - 4), Broken(9)),
        case("d_17_length_0", frame_of_length(0), Broken(9)),
        case("d_18_one_byte_too_little", frame_of_length(19), Broken(9)),
        case("d_19_flag_8", with_byte(5, 8), Broken(10)),
        case("d_19_flag_128", with_byte(5, 128), Broken(10)),
        case("d_19_first_zero", with_byte(6, 1), Broken(10)),
        case("d_19_second_zero", with_byte(7, 1), Broken(10)),
        case("d_19_reserved_on_an_unknown_kind", frame(0xff, OPTIONAL | 8, 0, &[]), Broken(10)),
        case("d_22_two_frames", [good(1), good(2)].concat(), Answered(REPLY, id, text("hi"))),
        case("d_22_one_and_a_half", [good(1), good(2)[..40].to_vec()].concat(), Broken(9)),
        case("d_22_one_and_a_byte", [good(1), vec![0]].concat(), Broken(9)),
        case("a_part_of_a_ping", frame(PING, MORE, 0, &[]), Broken(16)),
        case("the_rest_of_a_cancel", frame(CANCEL, CONTINUES, id, &[]), Broken(16)),
        case("a_second_ready", frame(READY, 0, 0, &[]), Broken(19)),
        case("bytes_behind_a_ping", frame(PING, 0, 5, b"more"), Answered(PONG, 5, vec![])),
        case("a_pong_out_of_nowhere", frame(PONG, 0, 5, &[]), Lives),
        case("an_id_where_none_belongs", frame(CREDIT, 0, 77, &[]), Lives),
        case("a_short_bye", frame(BYE, 0, 0, &[0]), Broken(11)),
        case("d_54_more_read_than_sent", acknowledging(frame(CREDIT, 0, 0, &[]), (1, 0)), Broken(17)),
        case("d_54_more_bytes_than_sent", acknowledging(frame(CREDIT, 0, 0, &[]), (0, 1)), Broken(17)),
        case("d_54_all_ones", acknowledging(frame(CREDIT, 0, 0, &[]), (u32::MAX, u32::MAX)), Broken(17)),
        case("d_53_a_window_and_one_more", frame(EVENT, 0, id, &event("x", &[])).repeat(129), Broken(17)),
        cases("d_20_pings_whose_answers_nobody_reads", vec![frame(PING, 0, 5, &[]); 400], Broken(18)),
        cases(
            "d_21_unknown_frames_without_end",
            vec![frame(200, OPTIONAL, 0, &[]).repeat(100); 2000],
            Broken(18),
        ),
    ]
}

/// Calls, events, answers and cancels behind a good greeting.
pub(crate) fn messages(side: Side) -> Vec<Case> {
    let id = side.id(1);
    let calling = |id: u64, body: &[u8]| frame(CALL, 0, id, body);
    let echo = call("echo.text", &text("hi"));
    let path = |path: &[u8]| frame(CALL, 0, id, &call_with(0, u64::MAX, path, b"\0"));
    let topic = |path: &[u8]| {
        let body = [&[path.len() as u8], path].concat();
        frame(EVENT, 0, id, &body)
    };
    let faulted = |code: u16| Answered(FAULT, id, code.to_le_bytes().to_vec());
    let answered = |id| Answered(REPLY, id, text("hi"));
    let timed = |remaining| calling(id, &call_with(0, remaining, b"echo.text", &text("hi")));
    let parented = |parent| calling(id, &call_with(parent, u64::MAX, b"echo.text", &text("hi")));
    let unknown = side.other().id(1);
    let waits = calling(id, &call("echo.wait", &[]));
    vec![
        case("d_23_an_answer_to_no_call", frame(REPLY, 0, unknown, b"\0"), Broken(15)),
        case("d_23_a_fault_for_no_call", frame(FAULT, 0, unknown, &fault(1, &[b"x"])), Broken(15)),
        case("d_23_a_part_of_such_an_answer", frame(REPLY, MORE, unknown, b"x"), Broken(15)),
        case(
            "d_25_an_answer_to_its_own_call",
            [waits.clone(), frame(REPLY, 0, id, b"\0")].concat(),
            Broken(15),
        ),
        case("d_25_an_answer_to_id_0", frame(REPLY, 0, 0, b"\0"), Broken(15)),
        cases("d_26_an_id_that_is_in_use", vec![waits.clone(), waits.clone()], Broken(14)),
        cases(
            "d_26_an_event_with_an_id_in_use",
            vec![waits.clone(), frame(EVENT, 0, id, &event("x", &[]))],
            Broken(14),
        ),
        case("d_27_id_0", calling(0, &echo), Broken(13)),
        case("d_27_id_0_of_an_event", frame(EVENT, 0, 0, &event("x", &[])), Broken(13)),
        case("d_27_counter_0", calling(1 << 63, &echo), Broken(13)),
        case("d_27_the_wrong_side", calling(unknown, &echo), Broken(13)),
        case("d_27_the_highest_id", calling(side.id(u64::MAX >> 1), &echo), answered(side.id(u64::MAX >> 1))),
        case(
            "d_27_ids_that_fall",
            [calling(side.id(9), &echo), calling(side.id(5), &echo)].concat(),
            answered(side.id(9)),
        ),
        case("d_28_an_unknown_path", calling(id, &call("echo.nothing", b"\0")), faulted(1)),
        case("d_56_an_event_that_nobody_takes", topic(b"echo.nothing"), Lives),
        case("d_29_an_empty_path", calling(id, &[&echo[..20], &[0; 10]].concat()), Broken(12)),
        case("d_29_a_shape_that_is_cut_off", path(b""), Broken(11)),
        case("d_28_an_unknown_path_with_a_shape", calling(id, &shaped(&echo[..20], b"echo.no")), faulted(1)),
        case("d_29_no_utf8", path(b"echo.\xff"), Broken(12)),
        case("d_29_a_nul", path(b"echo.\0"), Broken(12)),
        case("d_29_white_space", path(b"echo text"), Broken(12)),
        case("d_29_a_line_separator", path("echo\u{2028}text".as_bytes()), Broken(12)),
        case("d_29_two_dots", path(b"echo..text"), Broken(12)),
        case("d_29_a_dot_at_the_end", path(b"echo."), Broken(12)),
        case("d_29_the_longest", path(&[b'x'; 255]), faulted(1)),
        case("d_29_an_event_without_a_path", frame(EVENT, 0, id, &[0; 10]), Broken(12)),
        case("d_29_an_event_whose_shape_is_cut_off", topic(b""), Broken(11)),
        case("d_29_an_event_with_a_bad_path", topic(b"a b"), Broken(12)),
        case("a_call_of_nothing", calling(id, &[]), Broken(11)),
        case("a_call_that_is_cut_off", calling(id, &echo[..20]), Broken(11)),
        case("a_path_that_is_cut_off", calling(id, &echo[..25]), Broken(11)),
        case("an_event_of_nothing", frame(EVENT, 0, id, &[]), Broken(11)),
        case("an_event_that_is_cut_off", frame(EVENT, 0, id, b"\x09x"), Broken(11)),
        case("d_31_a_cancel_of_nothing", frame(CANCEL, 0, id, &[]), Lives),
        case("d_31_a_cancel_of_id_0", frame(CANCEL, 0, 0, &[]), Lives),
        case("d_31_a_cancel_of_the_wrong_side", frame(CANCEL, 0, unknown, &[]), Lives),
        case("d_33_no_time_left", timed(0), faulted(7)),
        case("d_33_more_time_than_there_is", timed(u64::MAX - 1), answered(id)),
        case("d_33_no_deadline", timed(u64::MAX), answered(id)),
        case("a_parent_of_counter_0", parented(1 << 63), Broken(13)),
        case("a_parent_that_is_unknown", parented(unknown), answered(id)),
        case("a_parent_of_the_wrong_side", parented(side.id(7)), answered(id)),
        case(
            "d_35_arguments_of_another_type",
            calling(id, &call("echo.text", b"\x05\xff\xff\xff\xff\xff")),
            faulted(2),
        ),
        case("d_35_arguments_that_end_early", calling(id, &call("echo.text", b"\x05hi")), faulted(2)),
        case("d_35_bytes_behind_the_arguments", calling(id, &call("echo.text", b"\x02hi!")), faulted(2)),
        case(
            "d_37_arguments_of_4_gib",
            calling(id, &call("echo.text", b"\xfd\xff\xff\xff\xff\0\0\0\0")),
            faulted(2),
        ),
        case("d_41_a_long_form", calling(id, &call("echo.text", b"\xfb\x02\x00hi")), answered(id)),
        case("d_41_a_form_that_is_too_wide", calling(id, &call("echo.text", &[0xfe; 20])), faulted(2)),
    ]
}

/// Messages in parts.
pub(crate) fn parts(side: Side) -> Vec<Case> {
    let id = side.id(1);
    let body = call("echo.text", &text("hi"));
    let part = |flags: u8, from: usize, to: usize| frame(CALL, flags, id, &body[from..to]);
    let all = body.len();
    let whole = [part(MORE, 0, 1), part(MORE | CONTINUES, 1, 9), part(CONTINUES, 9, all)].concat();
    let starts = |n| (1..=n).map(|n| frame(CALL, MORE, side.id(n), b"x")).collect();
    vec![
        case("a_call_in_three_parts", whole.clone(), Answered(REPLY, id, text("hi"))),
        case(
            "parts_of_two_calls",
            [part(MORE, 0, 9), frame(CALL, 0, side.id(2), &body), part(CONTINUES, 9, all)].concat(),
            Answered(REPLY, side.id(2), text("hi")),
        ),
        case("d_48_a_rest_of_nothing", part(CONTINUES, 9, all), Broken(16)),
        case("d_48_a_middle_of_nothing", part(CONTINUES | MORE, 9, all), Broken(16)),
        case(
            "d_48_the_rest_of_another_kind",
            [part(MORE, 0, 9), frame(EVENT, CONTINUES, id, b"x")].concat(),
            Broken(16),
        ),
        case("d_49_a_second_start", [part(MORE, 0, 9), part(MORE, 0, 9)].concat(), Broken(14)),
        case(
            "d_49_an_event_for_an_open_call",
            [part(MORE, 0, 9), frame(EVENT, 0, id, &event("x", &[]))].concat(),
            Broken(14),
        ),
        cases("d_49_a_part_of_what_is_whole", vec![whole, part(CONTINUES, 9, all)], Broken(16)),
        cases("d_50_as_many_starts_as_there_may_be", starts(64), Lives),
        cases("d_50_starts_without_an_end", starts(65), Broken(18)),
        case("d_52_an_empty_part", part(MORE, 0, 0), Broken(18)),
        case("d_52_an_empty_rest", [part(MORE, 0, 9), part(CONTINUES, all, all)].concat(), Broken(18)),
        case(
            "a_cancel_between_the_parts",
            [part(MORE, 0, 9), frame(CANCEL, 0, id, &[]), frame(CALL, 0, id, &body)].concat(),
            Answered(REPLY, id, text("hi")),
        ),
        case(
            "a_part_after_the_cancel",
            [part(MORE, 0, 9), frame(CANCEL, 0, id, &[]), part(CONTINUES, 9, all)].concat(),
            Broken(16),
        ),
    ]
}

/// What is beyond the limits of [`small`].
pub(crate) fn limits(side: Side) -> Vec<Case> {
    let id = side.id(1);
    let large = |len: usize| call("echo.number", &vec![7; len - 32]);
    let exact = large(2048);
    let record = fault(32, &[&[b'x'; 4096]]);
    let three = (1..=3).flat_map(|n| frame(CALL, 0, side.id(n), &call("echo.wait", &[]))).collect::<Vec<_>>();
    let echo = frame(CALL, 0, side.id(4), &call("echo.text", &text("hi")));
    let busy = Answered(FAULT, side.id(4), vec![3, 0]);
    let refusals = [vec![three.clone()], vec![echo.clone(); 5000]].concat();
    vec![
        case("d_51_at_the_limit", frame(CALL, 0, id, &exact), Answered(FAULT, id, vec![2, 0])),
        case("d_51_over_the_limit", frame(CALL, 0, id, &large(2049)), Broken(8)),
        case(
            "d_51_over_the_limit_in_parts",
            [frame(CALL, MORE, id, &exact), frame(CALL, CONTINUES | MORE, id, b"x")].concat(),
            Broken(8),
        ),
        case("d_51_an_event", frame(EVENT, 0, id, &event("x", &[7; 2047])), Broken(8)),
        case("an_error_is_beyond_no_limit", frame(FAULT, 0, side.other().id(1), &record), Broken(15)),
        case("d_30_one_call_more_than_is_served", [three, echo.clone()].concat(), busy),
        cases("d_30_refusals_that_nobody_reads", refusals, Broken(18)),
    ]
}

/// A message limit below the size of a frame, and few calls at once.
pub(crate) fn small() -> Config {
    Config::new().message_limit(2048).served_calls(3)
}

/// What comes of the first call of the other side, which wants a text.
pub(crate) fn answers(side: Side) -> Vec<Case> {
    let id = side.other().id(1);
    let reply = |body: &[u8]| frame(REPLY, 0, id, body);
    let future = [fault(65_535, &[&[b'x'; 56_000], b"\xff\xfe"]), vec![7; 5_000]].concat();
    // Each is the value of the one before it.
    let nested = [fault(35, &[b"no room"]), fault(35, &[]).repeat(100)].concat();
    let no_text =
        |name, body: &[u8]| Case { outcome: Some("does not decode"), ..case(name, reply(body), Lives) };
    let part = |flags, body: &[u8]| frame(REPLY, flags, id, body);
    let with = |outcome, case| Case { outcome: Some(outcome), ..case };
    let two = [reply(&text("one")), reply(&text("two")), frame(FAULT, 0, id, &fault(1, &[b"x"]))];
    let parts = [part(MORE, b"\x02"), part(MORE | CONTINUES, b"h"), part(CONTINUES, b"i")];
    vec![
        with("gives \"one\"", case("d_24_two_answers", two.concat(), Lives)),
        with("gives \"hi\"", case("an_answer_in_parts", parts.concat(), Lives)),
        with(
            "fails with Other(65535) and a text of 4096 bytes",
            case("d_34_a_fault_from_the_future", frame(FAULT, 0, id, &future), Lives),
        ),
        with(
            "ends with the link",
            case("d_34_a_fault_that_is_cut_off", frame(FAULT, 0, id, &future[..100]), Broken(11)),
        ),
        with(
            "fails with Error and a text of 7 bytes",
            case("d_34_calls_that_failed_in_each_other", frame(FAULT, 0, id, &nested), Lives),
        ),
        no_text("d_36_an_answer_of_nothing", b""),
        no_text("d_36_an_answer_of_no_length", b"\xff"),
        no_text("d_36_an_answer_that_ends_early", b"\x05hi"),
        no_text("d_36_an_answer_with_bytes_behind_it", b"\x02hi!"),
        no_text("d_36_an_answer_of_2_to_the_64", &[&[0xfd][..], &[0xff; 8]].concat()),
        with(
            "ends with the link",
            case("d_49_a_second_start_of_an_answer", part(MORE, b"\x05").repeat(2), Broken(16)),
        ),
        with("ends with the link", case("d_52_an_empty_part_of_an_answer", part(MORE, b""), Broken(18))),
    ]
}

/// A head with the number of a shape before its path.
fn shaped(fixed: &[u8], path: &[u8]) -> Vec<u8> {
    [fixed, &[0; 1], &[7; 8], &[path.len() as u8], path].concat()
}
