//! What goes wrong: one line, and an exit code of its own.

use std::{io::Write, os::unix::net::UnixListener, process::Stdio};

use nape::{Api, Context, Fault, Head, Token};

use crate::support::{command, finish, place, place_over_tcp, run, spare_path};

/// It ends with this code, prints nothing, and says one line that has all of this in it.
#[track_caller]
fn fails(arguments: &[&str], code: i32, with: &[&str]) -> String {
    let ended = run(arguments);
    assert_eq!((ended.code, &*ended.out), (Some(code), ""), "{arguments:?}: {}", ended.err);
    assert!(ended.err.starts_with("nape: ") && ended.err.ends_with('\n'), "{}", ended.err);
    assert_eq!(ended.err.lines().count(), 1, "{}", ended.err);
    for part in with {
        assert!(ended.err.contains(part), "no {part:?} in {}", ended.err);
    }
    ended.err
}

#[test]
fn arguments_that_are_wrong_are_usage() {
    let nobody = "unix:/nobody/there.sock";
    fails(&["inflihgt", nobody], 2, &["'inflihgt'", "'inflight'"]);
    fails(&["ls"], 2, &["<ADDR>"]);
    fails(&["ls", "ftp:example.com"], 2, &["ftp:example.com", "unix:/path", "tcp:127.0.0.1:port"]);
    fails(&["ls", "unix:a.sock"], 2, &["a.sock", "slash"]);
    fails(&["ls", "tcp:10.0.0.1:80"], 2, &["10.0.0.1", "loopback"]);
    fails(&["ls", nobody, "--what"], 2, &["--what"]);
    fails(&["call", nobody, "a.b", "--timeout", "soon"], 2, &["soon", "500ms"]);
    // Before anybody is bothered.
    fails(&["call", nobody, "a.b", "1", "bread"], 2, &["argument 2, `bread`", "'\"text\"'"]);
    fails(&["call", nobody, "a.b", "[1"], 2, &["argument 1, `[1`", "no JSON"]);
    fails(&["call", nobody, "a.b", "--stream", "--event"], 2, &["--stream", "--event"]);
    fails(&["top", nobody], 2, &["terminal", "--once"]);
    fails(&["top", nobody, "--json"], 2, &["--once"]);
    fails(&["tail", nobody, "--count", "0"], 2, &["--count", "0"]);
    fails(&["completions", "tcsh"], 2, &["tcsh", "bash"]);
    fails(&["ls", nobody, "--token", "/nobody/token"], 2, &["--token /nobody/token"]);
    let ended = finish(command(&["ls", nobody]).env("NAPE_TOKEN", "12"));
    assert_eq!(
        (ended.code, &*ended.err),
        (Some(2), "nape: NAPE_TOKEN: a token has 64 hexadecimal digits, and nothing else\n")
    );
    let ended = run(&[]);
    assert!(ended.code == Some(2) && ended.err.contains("Usage:"), "{ended:?}");
}

#[test]
fn a_path_that_is_none_is_usage() {
    let place = place();
    fails(&["call", &place.address, "a..b"], 2, &["a..b", "segment"]);
}

#[test]
fn nobody_at_the_address_is_told_apart() {
    let path = spare_path("sock");
    let address = format!("unix:{}", path.display());
    fails(&["ls", &address], 3, &[&address, "No such file"]);
    // Without the kind it is a path.
    fails(&["ls", path.to_str().unwrap()], 3, &[&address]);

    // Somebody is there who does not greet.
    let _mute = UnixListener::bind(&path).unwrap();
    fails(&["ls", &address, "--timeout", "200ms"], 3, &[&address, "in time"]);
    std::fs::remove_file(path).unwrap();

    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let address = format!("tcp:{free}");
    let token = spare_path("token");
    Token::random().unwrap().write(&token).unwrap();
    fails(&["ls", &address, "--token", token.to_str().unwrap()], 3, &[&address, "refused"]);
    std::fs::remove_file(token).unwrap();
}

#[test]
fn a_token_that_is_wrong_or_missing_opens_nothing() {
    let (place, _) = place_over_tcp();
    fails(&["ls", &place.address], 3, &[&place.address, "token"]);
    let file = spare_path("token");
    Token::random().unwrap().write(&file).unwrap();
    fails(&["ls", &place.address, "--token", file.to_str().unwrap()], 3, &[&place.address, "token"]);
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, "readable by all").unwrap();
    let told = fails(&["ls", &place.address, "--token", file.to_str().unwrap()], 2, &["600"]);
    assert!(told.contains(file.to_str().unwrap()), "{told}");
    std::fs::remove_file(file).unwrap();
}

#[test]
fn what_is_not_served_is_refused() {
    let place = place();
    let at = &*place.address;
    fails(&["call", at, "canteen.cok"], 4, &[at, "canteen.cok", "nape ls"]);
    fails(&["call", at, "canteen.cook", "\"soup\""], 4, &[at, "canteen.cook", "bad arguments"]);
    fails(
        &["call", at, "canteen.cook", "{\"dish\":\"soup\",\"gests\":1}"],
        4,
        &["canteen.cook", "`guests` is missing"],
    );
    fails(&["call", at, "canteen.courses", "1"], 4, &["canteen.courses", "call --stream"]);
    fails(&["describe", at, "canteen.cok"], 4, &[at, "canteen.cok"]);
    fails(&["ls", at, "canten"], 4, &[at, "canten"]);
    fails(&["bench", at, "canteen.cok"], 4, &[at, "canteen.cok"]);
}

#[test]
fn a_program_without_an_inspection_says_so() {
    let address = format!("unix:{}", spare_path("sock").display());
    let _listener = Head::listen(&address).unwrap();
    for command in ["ls", "inflight", "tail"] {
        fails(&[command, &address], 4, &[&address, "nape.", "serves no Inspection"]);
    }
    fails(&["top", "--once", &address], 4, &[&address, "serves no Inspection"]);
    fails(&["describe", &address, "a.b"], 4, &[&address, "serves no Inspection"]);
}

#[test]
fn faults_and_lost_time_are_told_apart() {
    let place = place();
    let at = &*place.address;
    let told = fails(&["call", at, "canteen.cook", "\"toast\"", "1"], 5, &[]);
    assert_eq!(told, "nape: canteen.cook failed: the toast is burnt\n");
    fails(&["call", at, "oven.bake", "600", "--timeout", "2s"], 6, &[at, "oven.bake", "timed out after 2"]);
    fails(&["bench", at, "canteen.cook", "\"toast\"", "1"], 5, &["canteen.cook failed"]);
}

/// What comes from another program does nothing to the terminal, and is one line.
#[test]
fn a_fault_of_several_lines_is_one() {
    let address = format!("unix:{}", spare_path("sock").display());
    let fail = |_: &Context, (): ()| Err::<(), _>(Fault::new("first\n\u{1b}[31msecond\n"));
    let panics = |_: &Context, (): ()| -> Result<(), Fault> { panic!("on\npurpose") };
    let api = Api::new("a").handle("fail", fail).unwrap().handle("panics", panics).unwrap();
    let _listener = Head::builder().serve(api).listen(&address).unwrap();
    let told = fails(&["call", &address, "a.fail"], 5, &[]);
    assert_eq!(told, "nape: a.fail failed: first \u{fffd}[31msecond\n");
    fails(&["call", &address, "a.panics"], 5, &["a.panics failed: it panicked: on purpose"]);
}

#[test]
fn a_link_that_is_lost_has_a_code_of_its_own() {
    let place = place();
    let mut waiting = command(&["call", &place.address, "oven.bake", "600"]);
    let waiting = waiting.stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    crate::support::until("it is there", || !place.open.listener.peers().is_empty());
    let peer = place.open.listener.accept(crate::support::HANG).expect("it has come");
    crate::support::until("its call is, too", || !peer.hang_report().handlers.is_empty());
    place.open.listener.close();
    let ended = waiting.wait_with_output().unwrap();
    let told = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(7), "{told}");
    assert!(told.contains("oven.bake") && told.contains(&place.address), "{told}");
    assert_eq!(told.lines().count(), 1);
}

#[test]
fn output_that_cannot_be_written_is_no_success() {
    let Ok(full) = std::fs::OpenOptions::new().write(true).open("/dev/full") else { return };
    let place = place();
    let ended = command(&["ls", &place.address]).stdout(full).stderr(Stdio::piped()).output().unwrap();
    std::io::stderr().flush().unwrap();
    let told = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{told}");
    assert!(told.starts_with("nape: cannot write: "), "{told}");
}
