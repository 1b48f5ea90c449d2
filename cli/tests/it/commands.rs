//! What is printed, and how it ends.

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::Stdio,
};

use nape::{Api, Context, Fault, Inspection, Neck, Payload};
use serde_json::{Value, json};

use crate::{
    canteen::CanteenClient,
    support::{command, finish, json, place, place_over_tcp, printed, run, spare_path, until},
};

#[test]
fn everything_is_listed_for_scripts_too() {
    let place = place();
    let all = json(&["ls", &place.address, "--json"]);
    let cook = |info: &&Value| info["path"] == "canteen.cook";
    let cook: Vec<_> = all.as_array().unwrap().iter().filter(cook).collect();
    let links: Vec<_> = cook.iter().map(|info| info["link"].as_str().unwrap()).collect();
    assert_eq!(links, ["", "guests"]);
    assert_eq!(cook[0]["kind"], "call");
    assert_eq!(cook[0]["arguments"][1], json!({"name": "guests", "type_name": "u32"}));
    assert_eq!(json(&["describe", "--json", &place.address, "canteen.cook"]), *cook[0]);

    // What is alike on several links is told once.
    let shown = printed(&["ls", &place.address]);
    assert_eq!(shown.matches("fn cook").count(), 1, "{shown}");
    assert_eq!(printed(&["ls", &place.address, "oven"]), "oven\n  bake  call\n");
    assert_eq!(printed(&["ls", &place.address, "oven.bake"]), "oven\n  bake  call\n");
}

/// Red when a list overflows the stack of whoever reads it.
#[test]
fn what_no_path_can_be_is_left_out_of_the_list() {
    let address = format!("unix:{}", spare_path("sock").display());
    let info = |path: &str| {
        json!({"link": "", "path": path, "owner": "", "kind": "call", "signature": "", "arguments": [], "doc": "",
            "shape": ""})
    };
    let all = [info("a.b"), info(&"a.".repeat(50_000)), info(&["a"; 50_000].join(".")), info("c\u{1b}")];
    let list = move |_: &Context, (): ()| Ok::<_, Fault>(all.to_vec());
    let _listener =
        Neck::builder().serve(Api::new("nape").handle("list", list).unwrap()).listen(&address).unwrap();
    let told = run(&["ls", &address]);
    assert_eq!((told.code, &*told.out), (Some(0), "a\n  b  call\n"), "{told:?}");
    assert!(told.err.starts_with("nape: 3 of what") && told.err.lines().count() == 1, "{told:?}");
    let told = run(&["ls", "--json", &address]);
    assert_eq!(serde_json::from_str::<Value>(&told.out).unwrap().as_array().unwrap().len(), 1);
}

#[test]
fn calls_take_json_and_give_json() {
    let place = place();
    let cook = |arguments: &[&str]| printed(&[&["call", &place.address, "canteen.cook"], arguments].concat());
    for arguments in [&["\"pie\"", "2"][..], &["[\"pie\", 2]"], &["{\"guests\": 2, \"dish\": \"pie\"}"]] {
        assert_eq!(cook(arguments), "\"pie for 2\"\n");
    }
    assert_eq!(printed(&["call", &place.address, "oven.bake", "0"]), "\"bread\"\n");
    let version = json(&["call", &place.address, "nape.version"]);
    assert_eq!(version["pid"], std::process::id());
    assert!(printed(&["call", &place.address, "nape.version", "--pretty"]).contains("\n  \"pid\": "));
    let courses = printed(&["call", "--stream", &place.address, "canteen.courses", "2"]);
    assert_eq!(courses, "\"course 1\"\n\"course 2\"\n");

    let mut reading = command(&["call", &place.address, "canteen.cook", "-"]);
    let mut child = reading.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"[\"stew\", 9]\n").unwrap();
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(text, "\"stew for 9\"\n");
}

/// Numbers keep their digits, and what is no JSON is not passed off as some.
#[test]
fn what_a_handler_says_is_not_changed() {
    let path = spare_path("sock");
    let echo = |_: &Context, payload: Payload| Ok::<_, Fault>(payload);
    let odd = |_: &Context, _: Payload| Ok::<_, Fault>(Payload::from_bytes(vec![0xff, 0, 1]));
    let no_text = |_: &Context, _: Payload| Ok::<_, Fault>(Payload::from_bytes(b"\"\xff\"".to_vec()));
    let nothing = |_: &Context, _: Payload| Ok::<_, Fault>(Payload::from_bytes(Vec::new()));
    let api = Api::new("raw").handle("echo", echo).unwrap().handle("odd", odd).unwrap();
    let api = api.handle("nothing", nothing).unwrap().handle("no_text", no_text).unwrap();
    let address = format!("unix:{}", path.display());
    let _listener = nape::Head::builder().serve(api).listen(&address).unwrap();

    let long = "[123456789012345678901234567890,0.1000]";
    assert_eq!(printed(&["call", &address, "raw.echo", long]), format!("{long}\n"));
    // One line is one item, and a text does nothing to the terminal.
    let spread = "[ 1,\n \"a b\u{9b}31m\" ]";
    assert_eq!(printed(&["call", &address, "raw.echo", spread]), "[1,\"a b\\u009b31m\"]\n");
    let pretty = printed(&["call", "--pretty", &address, "raw.echo", spread]);
    assert_eq!(pretty, "[\n  1,\n  \"a b\\u009b31m\"\n]\n");
    assert_eq!(printed(&["call", &address, "raw.nothing"]), "null\n");
    let refused = run(&["call", &address, "raw.odd"]);
    assert_eq!(refused.code, Some(5));
    assert_eq!(refused.err, "nape: raw.odd answered with 3 bytes that are no JSON: --raw writes them\n");
    assert_eq!(run(&["call", &address, "raw.no_text"]).code, Some(5), "a text is UTF-8");
    let raw = command(&["call", "--raw", &address, "raw.odd"]).output().unwrap();
    assert_eq!(raw.stdout, [0xff, 0, 1]);
}

#[test]
fn events_are_sent_and_tailed() {
    let place = place();
    let mut tail = command(&["tail", &place.address, "canteen", "--count", "2", "--json"]);
    let mut tail = tail.stdout(Stdio::piped()).spawn().unwrap();
    let canteen = CanteenClient::on(&place.open.guests);
    until("it has seen two", || {
        canteen.left("ben".into()).fire().unwrap();
        tail.try_wait().unwrap().is_some()
    });
    let mut text = String::new();
    tail.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events.len(), 2);
    assert_eq!((&events[0]["path"], &events[0]["link"]), (&json!("canteen.left"), &json!("guests")));
    assert_eq!(events[0]["arguments"], json!({"json": "\"ben\""}));

    // From the tool itself. Nobody answers; that it came shows in the numbers of its own link, which are gone
    // with it, and so in those of the listener's peer.
    let sent = run(&["call", "--event", &place.address, "canteen.left", "\"carla\""]);
    assert_eq!((sent.code, &*sent.out, &*sent.err), (Some(0), "", ""));
    // Nobody sends any there; of those to the canteen some may still be on their way.
    assert_eq!(printed(&["tail", &place.address, "oven", "--for", "50ms"]), "");
}

#[test]
fn items_of_a_topic_are_tailed() {
    let prices = nape::Topic::new();
    let shop = Api::new("shop").topic("prices", &prices).unwrap();
    let address = format!("unix:{}", spare_path("sock").display());
    let builder = nape::Head::builder().serve(shop).serve(Inspection::new().into_api());
    let _listener = builder.listen(&address).unwrap();
    let begin = |more: &[&str]| {
        let arguments = [&["tail", &address, "shop.prices"], more].concat();
        let tail = command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        until("it has subscribed", || prices.n_subscriptions() == 1);
        tail
    };
    let end = |tail: std::process::Child| {
        let ended = tail.wait_with_output().unwrap();
        until("it has gone", || prices.n_subscriptions() == 0);
        (ended.status.code(), String::from_utf8(ended.stdout).unwrap())
    };
    let tail = begin(&["--json", "--count", "2"]);
    prices.publish(("apple".to_owned(), 3u32));
    prices.publish(("pear".to_owned(), 4u32));
    let (code, text) = end(tail);
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let line =
        |item: &str| json!({"link": "", "path": "shop.prices", "arguments": {"json": item}, "lost": 0});
    assert_eq!((code, lines), (Some(0), vec![line("[\"apple\",3]"), line("[\"pear\",4]")]));

    // For people, until the topic ends.
    let tail = begin(&[]);
    prices.publish(("plum".to_owned(), 5u32));
    prices.end();
    let (code, text) = end(tail);
    assert_eq!((code, text.lines().count()), (Some(0), 1), "{text}");
    assert!(text.ends_with(" s  shop.prices [\"plum\",5]\n"), "{text}");
}

#[test]
fn what_is_under_way_is_listed() {
    let place = place();
    assert_eq!(printed(&["inflight", &place.address]), "nothing is under way\n");
    let bread = place.open.guests.api("oven").action("bake", 600u64).start::<String>().unwrap();
    let handlers = || {
        let links = json(&["inflight", "--json", &place.address]);
        assert_eq!((&links[0]["link"], &links[1]["link"]), (&json!(""), &json!("guests")));
        links[1]["handlers"].clone()
    };
    until("it bakes", || handlers()[0]["stage"] == "running");
    assert_eq!(handlers()[0]["path"], "oven.bake");
    drop(bread);
    until("nobody bakes any more", || handlers() == json!([]));
}

#[test]
fn one_table_is_for_scripts_too() {
    let place = place();
    let canteen = CanteenClient::on(&place.open.guests);
    (0..10).for_each(|n| drop(canteen.cook("soup", n).call().unwrap()));
    let shown = printed(&["top", "--once", "--interval", "10ms", &place.address]);
    let lines: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0].join(" "), "LINK PATH CALLS/S P50 P99 IN FLIGHT QUEUE FAULTS");
    assert_eq!((lines.len(), &lines[1][..3]), (2, &["guests", "canteen.cook", "0.0"][..]));

    let rows = json(&["top", "--once", "--interval", "10ms", "--json", "--sum", "--all", &place.address]);
    let of = |path: &str| rows.as_array().unwrap().iter().find(|row| row["path"] == path).unwrap().clone();
    assert_eq!((&of("canteen.cook")["calls"], &of("canteen.cook")["link"]), (&json!(10), &json!("")));
    assert_eq!(of("canteen.left")["events"], 0);
    // The tool sees its own questions.
    assert!(of("nape.methods")["calls"].as_u64() >= Some(1));
    let rows = json(&["top", "--once", "--interval", "10ms", "--json", &place.address, "oven"]);
    assert_eq!(rows, json!([]));
}

#[test]
fn a_bench_tells_how_long_calls_take() {
    let place = place();
    let told = json(&["bench", &place.address, "oven.bake", "0", "-n", "50", "-c", "2", "--json"]);
    assert_eq!((&told["calls"], &told["failed"], &told["concurrency"]), (&json!(50), &json!(0), &json!(2)));
    let number = |name: &str| told[name].as_u64().unwrap();
    assert!(0 < number("p50_ns") && number("p50_ns") <= number("p99_ns"));
    assert!(number("p99_ns") <= number("longest_ns"));
    assert!(told["calls_per_second"].as_f64() > Some(0.0));
    let shown = printed(&["bench", &place.address, "canteen.cook", "\"pie\"", "1", "--for", "50ms"]);
    assert!(shown.starts_with("canteen.cook: ") && shown.contains("p99 "), "{shown}");
}

/// Who listens may be the other side: then the tool is.
#[test]
fn a_neck_that_listens_is_met_as_well() {
    let double = |_: &Context, n: u32| Ok::<_, Fault>(2 * n);
    let math = Api::new("math").handle("double", double).unwrap();
    let address = format!("unix:{}", spare_path("sock").display());
    let neck = Neck::builder().serve(math).serve(Inspection::new().into_api());
    let _listener = neck.listen(&address).unwrap();
    assert_eq!(printed(&["call", &address, "math.double", "21"]), "42\n");
    assert_eq!(printed(&["ls", &address, "math"]), "math\n  double  call\n");
}

#[test]
fn a_token_comes_from_a_file_or_the_environment() {
    let (place, token) = place_over_tcp();
    let file = spare_path("token");
    token.write(&file).unwrap();
    let call = ["call", &place.address, "oven.bake", "0"];
    let with_file = printed(&[&call[..], &["--token", file.to_str().unwrap()]].concat());
    assert_eq!(with_file, "\"bread\"\n");
    for (name, value) in [("NAPE_TOKEN_FILE", file.to_str().unwrap()), ("NAPE_TOKEN", &token.reveal())] {
        let ended = finish(command(&call).env(name, value));
        assert_eq!((ended.code, &*ended.out), (Some(0), "\"bread\"\n"), "{name}: {ended:?}");
    }
    std::fs::remove_file(file).unwrap();
}

#[test]
fn whoever_has_read_enough_may_go() {
    let place = place();
    let mut listing = command(&["call", "--stream", &place.address, "canteen.courses", "100000"]);
    let mut listing = listing.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    // The reader goes at the end of the line, and what is not read yet with it.
    BufReader::new(listing.stdout.take().unwrap()).read_line(&mut first).unwrap();
    let ended = listing.wait_with_output().unwrap();
    assert_eq!((first.as_str(), ended.status.code()), ("\"course 1\"\n", Some(0)));
    assert_eq!(String::from_utf8(ended.stderr).unwrap(), "");
}

#[test]
fn shells_are_told_what_there_is() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = printed(&["completions", shell]);
        assert!(script.contains("inflight") && script.contains("describe"), "{shell}");
    }
}

/// As the guide has it: a program shows its peers to whoever looks in.
#[test]
fn peers_are_seen_where_they_are_watched() {
    let address = format!("unix:{}", spare_path("sock").display());
    let inspection = Inspection::new();
    let watched = inspection.clone();
    let math = Api::new("math").handle("double", |_: &Context, n: u32| Ok::<_, Fault>(2 * n)).unwrap();
    let builder = nape::Head::builder().serve(math).serve(inspection.into_api()).listening();
    let on_arrival = move |peer: &nape::Peer| watched.watch(&format!("peer {}", peer.id()), peer.endpoint());
    let _listener = builder.on_arrival(on_arrival).listen(&address).unwrap();
    let peer = Neck::connect(&address).unwrap().start();
    (0..3).for_each(|n| assert_eq!(peer.api("math").action("double", n).call::<u32>().unwrap(), 2 * n));
    let rows = json(&["top", "--once", "--interval", "10ms", "--json", &address]);
    assert_eq!((rows.as_array().unwrap().len(), &rows[0]["calls"]), (1, &json!(3)));
    let shown = printed(&["ls", &address]);
    assert_eq!(shown.matches("double").count(), 1, "{shown}");
}
